//! Our own lines in the logs of servers: short, because the server's words stand beside them, and not more of them in an
//! hour than somebody can want to read. What a server says itself is not limited here.

use crate::base::id::fnv1a;
use crate::base::limiter::{Limiter, Rates, Verdict};
use crate::base::limits::NOTES_BYTES_PER_HOUR;
use crate::base::text;
use crate::sys::clock;
use parking_lot::Mutex;
use std::sync::LazyLock;
use std::time::Duration;

/// Of all servers together: a start of each of four thousand is written.
const RATES: Rates = Rates {
    lines: 100,
    line_every: Duration::from_secs(600),
    bytes: 4 << 20,
    bytes_per_hour: NOTES_BYTES_PER_HOUR,
};

const CHARS_MAX: usize = 500;

static LIMITER: LazyLock<Mutex<Limiter>> = LazyLock::new(|| Mutex::new(Limiter::new(RATES)));

/// The line as it is written into the log of the server with this short name, if it is.
pub(super) fn fit(slug: &str, line: &str) -> Option<String> {
    let line = text::shorten(line, CHARS_MAX);
    match LIMITER.lock().ask(fnv1a(slug.as_bytes()), line.len(), false, clock::now()) {
        Verdict::LeaveOut => None,
        Verdict::Write { like_it: 0, .. } => Some(line),
        Verdict::Write { like_it, .. } => {
            Some(format!("{line} ({} lines before it were left out)", text::count(like_it)))
        }
    }
}
