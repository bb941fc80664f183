//! What a server's last starts tell of its next: how long it will hold its slot, when it will be ready, and how long it
//! is waited for. Pure.

use crate::base::limits::STARTS_KEPT_MAX;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// So many starts say what is usual. Before that, and after a start that failed, the whole patience holds.
const TELLING: usize = 5;

/// A start may take this many times as long as nearly all of the last ones did.
const SLACK: u32 = 3;

/// No start is given up before this for being slower than usual: the machine may be busy.
const PATIENCE_MIN: Duration = Duration::from_secs(5);

/// A first start may have to download what it runs: it has this many times the patience that nobody chose.
const COLD: u32 = 3;

/// How long a start may take, from what the config says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    pub connection_timeout: Duration,
    /// The launcher may download first (`npx`, `uvx`), and nobody said how long that may take.
    pub downloads: bool,
}

/// The last starts of one server that became ready. Kept in the state database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Starts {
    /// Stands for what was run; of something else nothing is known.
    program: u64,
    /// In ms, oldest first: from the spawn to the first sign of life, and to ready.
    signs: VecDeque<u64>,
    ready: VecDeque<u64>,
}

impl Starts {
    pub fn new(program: u64) -> Starts {
        Starts { program, ..Starts::default() }
    }

    /// As it was kept; nothing of it if another program runs now, or it cannot be read.
    pub fn recall(json: Option<&str>, program: u64) -> Starts {
        let known = json.and_then(|json| serde_json::from_str(json).ok());
        let mut starts = known.filter(|starts: &Starts| starts.program == program).unwrap_or_default();
        starts.program = program;
        starts.trim();
        starts
    }

    /// From now on of this program.
    pub fn renew(&mut self, program: u64) {
        if self.program != program {
            *self = Starts::new(program);
        }
    }

    pub fn add(&mut self, sign: Duration, ready: Duration) {
        self.signs.push_back(sign.as_millis() as u64);
        self.ready.push_back(ready.as_millis() as u64);
        self.trim();
    }

    fn trim(&mut self) {
        for times in [&mut self.signs, &mut self.ready] {
            let over = times.len().saturating_sub(STARTS_KEPT_MAX);
            times.drain(..over);
        }
    }

    /// How long it usually holds its slot.
    pub fn hold(&self) -> Option<Duration> {
        quantile(&self.signs, 50)
    }

    /// How long it usually takes to be ready.
    pub fn usual(&self) -> Option<Duration> {
        quantile(&self.ready, 50)
    }

    /// How long the next start may take. `failed_before`: the last one did not succeed, so that what was usual is not
    /// held against it.
    pub fn patience(&self, ceiling: Ceiling, failed_before: bool) -> Duration {
        let Ceiling { connection_timeout, downloads } = ceiling;
        match quantile(&self.ready, 95) {
            None if downloads => connection_timeout.saturating_mul(COLD),
            Some(slow) if self.ready.len() >= TELLING && !failed_before => {
                // A ceiling below the floor holds.
                (slow * SLACK).max(PATIENCE_MIN).min(connection_timeout)
            }
            None | Some(_) => connection_timeout,
        }
    }
}

/// The smallest of the times that `percent` of them do not exceed.
fn quantile(times: &VecDeque<u64>, percent: usize) -> Option<Duration> {
    let mut sorted: Vec<u64> = times.iter().copied().collect();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_A_MINUTE: Ceiling = Ceiling { connection_timeout: Duration::from_secs(30), downloads: false };

    fn starts(ready_ms: &[u64]) -> Starts {
        let mut starts = Starts::new(7);
        ready_ms.iter().for_each(|ms| starts.add(Duration::from_millis(ms / 2), Duration::from_millis(*ms)));
        starts
    }

    #[track_caller]
    fn check(ready_ms: &[u64], ceiling: Ceiling, failed_before: bool, patience_ms: u64) {
        let patience = starts(ready_ms).patience(ceiling, failed_before);
        assert_eq!(patience.as_millis() as u64, patience_ms, "after {ready_ms:?}");
    }

    #[test]
    fn patience() {
        let cold = Ceiling { downloads: true, ..HALF_A_MINUTE };
        check(&[], HALF_A_MINUTE, false, 30_000);
        check(&[], cold, true, 90_000);
        check(&[40], cold, false, 30_000);
        check(&[100; 4], HALF_A_MINUTE, false, 30_000);
        check(&[100; 5], HALF_A_MINUTE, false, 5_000);
        check(&[100; 5], HALF_A_MINUTE, true, 30_000);
        check(&[3_000; 5], HALF_A_MINUTE, false, 9_000);
        check(&[20_000; 5], HALF_A_MINUTE, false, 30_000);
        check(
            &[100; 5],
            Ceiling { connection_timeout: Duration::from_secs(2), downloads: false },
            false,
            2_000,
        );
        // One slow start in 20 is not what is usual; two are.
        let mut times = [1_000; 20];
        times[3] = 8_000;
        check(&times, HALF_A_MINUTE, false, 5_000);
        times[4] = 8_000;
        check(&times, HALF_A_MINUTE, false, 24_000);
    }

    #[test]
    fn the_last_ones_are_kept() {
        let mut times = vec![9_000; 5];
        times.extend([100; STARTS_KEPT_MAX]);
        check(&times, HALF_A_MINUTE, false, 5_000);
        assert_eq!(starts(&times).hold(), Some(Duration::from_millis(50)));
    }

    #[test]
    fn of_another_program_nothing_is_known() {
        let json = serde_json::to_string(&starts(&[100, 300, 200])).unwrap();
        assert_eq!(Starts::recall(Some(&json), 7).usual(), Some(Duration::from_millis(200)));
        assert_eq!(Starts::recall(Some(&json), 8), Starts::new(8));
        assert_eq!(Starts::recall(Some("{\"signs\": 3"), 7), Starts::new(7));
        assert_eq!(Starts::recall(None, 7).usual(), None);
    }
}
