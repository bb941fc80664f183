//! The clock. The only file that asks what time it is.
#![expect(clippy::disallowed_methods, reason = "this file is the clock")]

use crate::base::time::{Time, Wall};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

static START: OnceLock<Instant> = OnceLock::new();

/// Time since the first call in this process; monotonic.
pub fn now() -> Time {
    Time(START.get_or_init(Instant::now).elapsed())
}

/// The moment of `time` for calls that want std's own type (`recv_deadline`, `try_lock_until`).
pub fn instant(time: Time) -> Instant {
    *START.get_or_init(Instant::now) + time.0
}

/// The wall clock, for people and files.
pub fn wall() -> Wall {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(since_1970.as_millis() as u64)
}
