//! How much of what we say ourselves is written: who repeats himself is heard now and then, and all together stay below
//! so many bytes an hour. Pure; time is an argument.
//!
//! State machines keep most of our lines few: backoff grows, an outage is told once, a server is given up. What is left is
//! what strangers decide (clients, servers, a registry), and servers that may fail for ever because nobody lets them be
//! given up. So no line has a limiter of its own: all go through this one.

use super::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Those that are told apart; of more, only the bytes are limited.
const SUBJECTS_MAX: usize = 8192;

#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Lines about one subject that are written at once.
    pub lines: u32,
    /// And then one in so long.
    pub line_every: Duration,
    /// Bytes that are written at once.
    pub bytes: u32,
    pub bytes_per_hour: u32,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Write {
        /// Lines like it that were left out before it.
        like_it: u64,
        /// Other lines that were left out, because there were too many in all.
        others: u64,
    },
    LeaveOut,
}

#[derive(Debug)]
struct Subject {
    /// It may write this many, as of then.
    lines: u32,
    at: Time,
    left_out: u64,
}

#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    subjects: BTreeMap<u64, Subject>,
    /// When those were forgotten that have nothing left out, because there were too many.
    swept: Option<Time>,
    /// What may be written, as of then.
    bytes: f64,
    at: Time,
    left_out: u64,
}

impl Limiter {
    pub fn new(rates: Rates) -> Limiter {
        let bytes = f64::from(rates.bytes);
        Limiter { rates, subjects: BTreeMap::new(), swept: None, bytes, at: Time::ZERO, left_out: 0 }
    }

    /// A line of `bytes` about `subject`. Of what may be written in all, a quarter is kept for lines that are `urgent`.
    pub fn ask(&mut self, subject: u64, bytes: usize, urgent: bool, now: Time) -> Verdict {
        let Some(like_it) = self.of_subject(subject, now) else { return Verdict::LeaveOut };
        let most = f64::from(self.rates.bytes);
        let grown =
            now.since(self.at).as_secs_f64() / HOUR.as_secs_f64() * f64::from(self.rates.bytes_per_hour);
        self.bytes = (self.bytes + grown).min(most);
        self.at = now;
        let kept = if urgent { 0.0 } else { most / 4.0 };
        if self.bytes - bytes as f64 <= kept {
            self.left_out += 1;
            return Verdict::LeaveOut;
        }
        self.bytes -= bytes as f64;
        Verdict::Write { like_it, others: std::mem::take(&mut self.left_out) }
    }

    /// Lines like it that were left out before it; `None`: and so is this one.
    fn of_subject(&mut self, subject: u64, now: Time) -> Option<u64> {
        if self.subjects.len() >= SUBJECTS_MAX && !self.subjects.contains_key(&subject) {
            if self.swept.is_some_and(|at| now.since(at) < self.rates.line_every) {
                return Some(0);
            }
            // Those that have their fill again are as good as new.
            self.swept = Some(now);
            let Rates { lines, line_every, .. } = self.rates;
            self.subjects.retain(|_, known| now.since(known.at) < line_every * (lines - known.lines));
            if self.subjects.len() >= SUBJECTS_MAX {
                return Some(0);
            }
        }
        let Rates { lines, line_every, .. } = self.rates;
        let known = self.subjects.entry(subject).or_insert(Subject { lines, at: now, left_out: 0 });
        let more = (now.since(known.at).as_millis() / line_every.as_millis().max(1)) as u32;
        if more > 0 {
            known.lines = known.lines.saturating_add(more).min(lines);
            known.at = known.at + line_every * more;
        }
        if known.lines == 0 {
            known.left_out += 1;
            return None;
        }
        // The time to the next one counts from the first that was taken.
        if known.lines == lines {
            known.at = now;
        }
        known.lines -= 1;
        Some(std::mem::take(&mut known.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates =
        Rates { lines: 3, line_every: Duration::from_secs(600), bytes: 100_000, bytes_per_hour: 400_000 };

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    fn plain(like_it: u64) -> Verdict {
        Verdict::Write { like_it, others: 0 }
    }

    #[test]
    fn who_repeats_himself_is_heard_now_and_then() {
        let mut limiter = Limiter::new(RATES);
        let said: Vec<Verdict> = (0..5).map(|second| limiter.ask(1, 10, false, at(second))).collect();
        assert_eq!(said[..3], [plain(0); 3]);
        assert_eq!(said[3..], [Verdict::LeaveOut; 2]);
        assert_eq!(limiter.ask(2, 10, false, at(6)), plain(0), "another one");
        assert_eq!(limiter.ask(1, 10, false, at(599)), Verdict::LeaveOut);
        assert_eq!(limiter.ask(1, 10, false, at(600)), plain(3));
        assert_eq!(limiter.ask(1, 10, false, at(601)), Verdict::LeaveOut);
        assert_eq!(limiter.ask(1, 10, false, at(90_000)), plain(1));
    }

    #[test]
    fn errors_are_written_when_warnings_are_not_any_more() {
        let mut limiter = Limiter::new(RATES);
        let mut fill = |urgent| {
            (0..)
                .take_while(|n| {
                    limiter.ask(*n + if urgent { 1000 } else { 0 }, 1000, urgent, at(1)) != Verdict::LeaveOut
                })
                .count()
        };
        assert_eq!((fill(false), fill(true)), (74, 25));
    }

    /// However many say whatever, as fast as they can: from the second hour on it is what the rate says.
    #[test]
    fn an_hour_has_so_many_bytes() {
        for (subjects, bytes) in [(1, 2000), (159, 1800), (20_000, 300)] {
            let mut limiter = Limiter::new(RATES);
            let mut written = [0_usize; 3];
            for second in 0..3 * 3600_u64 {
                for n in 0..(subjects as u64).min(200) {
                    let subject = (second * 200 + n) % subjects as u64;
                    if limiter.ask(subject, bytes, false, at(second)) != Verdict::LeaveOut {
                        written[(second / 3600) as usize] += bytes;
                    }
                }
            }
            // What was left of an hour is at most a line.
            let [first, second, third] = written;
            let rate = 400_000 + bytes;
            assert!(first <= 100_000 + rate && second <= rate && third <= rate, "{written:?}");
            assert!(limiter.subjects.len() <= SUBJECTS_MAX);
        }
    }
}
