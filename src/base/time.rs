//! Time as a value: whoever decides is told what time it is.
//!
//! [`Time`] is monotonic and counts from the start of the process; [`Wall`] is for people and for files.
//! Spans are `std::time::Duration`.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the monotonic clock, counted from the start of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Time(pub Duration);

impl Time {
    pub const ZERO: Time = Time(Duration::ZERO);
    /// Later than anything.
    pub const MAX: Time = Time(Duration::MAX);

    pub const fn from_ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    pub fn as_ms(self) -> u64 {
        self.0.as_millis() as u64
    }

    /// The span from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(span))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

/// A moment on the wall clock, in milliseconds since 1970. Never used to decide how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(pub u64);

impl Wall {
    /// RFC 3339 in UTC with milliseconds: `2026-11-20T10:18:27.123Z`.
    pub fn rfc3339(self) -> String {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(self.0);
        humantime::format_rfc3339_millis(at).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans() {
        let start = Time::from_ms(1_000);
        assert_eq!((start + Duration::from_millis(250)).as_ms(), 1_250);
        assert_eq!(start - Time::from_ms(400), Duration::from_millis(600));
        assert_eq!(start - Time::from_ms(4_000), Duration::ZERO);
        assert_eq!(Wall(1_795_169_907_123).rfc3339(), "2026-11-20T10:18:27.123Z");
    }
}
