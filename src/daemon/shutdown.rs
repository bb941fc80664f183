//! How long a shutdown may take: its steps in their order, each with its own span from when it begins, so that none can
//! take from a later one.
//!
//! A signal while calls are waited for skips that step; a second one, while servers are stopped, leaves them to the
//! guardian, and so does a step that has run out of its span.

use crate::base::limits::{CRASH_CLEANING, HOOK_END_PATIENCE, LOG_END_PATIENCE, STORE_PATIENCE};
use crate::config::Config;
use std::time::Duration;

/// Patience for calls once the guardian is dead.
pub const SHORT_DRAIN: Duration = Duration::from_millis(300);

/// The answers to calls that a stopped server left are written.
pub const ANSWERS_OUT: Duration = Duration::from_millis(500);

/// Those of the control socket.
pub const CONTROL_OUT: Duration = Duration::from_millis(200);

/// The event streams are told, and cut; their thread has the second to end.
pub const STREAMS_OUT: Duration = Duration::from_millis(200);
const HUB_END: Duration = Duration::from_secs(1);

/// All that comes after the servers: answers, the control socket, streams, the hook, processes that servers lost, the
/// state database, the logs.
const CLOSING: [Duration; 8] = [
    ANSWERS_OUT,
    CONTROL_OUT,
    STREAMS_OUT,
    HUB_END,
    HOOK_END_PATIENCE,
    CRASH_CLEANING,
    STORE_PATIENCE,
    LOG_END_PATIENCE,
];

/// Between SIGKILL and the last look at what a life left, beside `verify_timeout`.
const CLEARING: Duration = Duration::from_secs(2);

/// What the config makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// For calls in flight.
    pub drain: Duration,
    /// For the slowest server's ladder and the clearing after it; all servers are stopped at once.
    pub stop: Duration,
    /// The whole; past it the guardian ends the daemon.
    pub total: Duration,
}

impl Budget {
    pub fn of(config: &Config) -> Budget {
        let slowest = config.servers.iter().map(|entry| config.stop_grace(entry)).max().unwrap_or_default();
        let stop = slowest + config.cleanup.verify_timeout + CLEARING;
        Budget::fit(config.shutdown.drain, stop, config.shutdown.total)
    }

    /// A total that is shorter than its steps takes from the calls first, then from the servers; the steps after them
    /// need milliseconds, and get half of it at most.
    fn fit(drain: Duration, stop: Duration, total: Option<Duration>) -> Budget {
        let closing = CLOSING.iter().sum();
        let Some(total) = total else { return Budget { drain, stop, total: drain + stop + closing } };
        let left = total - closing.min(total / 2);
        let stop = stop.min(left);
        Budget { drain: drain.min(left - stop), stop, total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(drain: u64, stop: u64, total: Option<u64>, expected: (u64, u64, u64)) {
        let ms = Duration::from_millis;
        let (drain, stop, total) = (ms(drain), ms(stop), total.map(ms));
        let budget = Budget::fit(drain, stop, total);
        let expected = Budget { drain: ms(expected.0), stop: ms(expected.1), total: ms(expected.2) };
        assert_eq!(budget, expected);
        let closing: Duration = CLOSING.iter().sum();
        assert!(budget.drain + budget.stop + closing.min(budget.total / 2) <= budget.total, "they add up");
    }

    #[test]
    fn the_steps_add_up() {
        check(5_000, 12_000, None, (5_000, 12_000, 23_400));
        check(0, 0, None, (0, 0, 6_400));
        check(5_000, 12_000, Some(60_000), (5_000, 12_000, 60_000));
        check(5_000, 12_000, Some(20_000), (1_600, 12_000, 20_000));
        check(5_000, 12_000, Some(10_000), (0, 5_000, 10_000));
        check(5_000, 12_000, Some(1_000), (0, 500, 1_000));
    }
}
