//! What is counted against a server, what follows from it, and when it is history.

use super::{FaultKind, Phase, Server, Time, Turn};
use std::time::Duration;

/// Backoff doubles at most this often: 2^16 s is far past every ceiling.
const DOUBLINGS_MAX: u32 = 16;

impl Server {
    /// Ready for long enough: the next failure is a first one again, and has nothing to do with an outage.
    pub(super) fn settle(&mut self, settles: Option<Time>, turn: &Turn<'_>) -> Option<Time> {
        if settles.is_some_and(|at| at <= turn.now) {
            self.streak = 0;
            if self.given_up > 0 {
                self.given_up = 0;
                self.tally.clear();
            }
            self.incident = self.incident.filter(|incident| incident.ends(turn.policy) > turn.now);
            return self.incident.map(|incident| incident.ends(turn.policy));
        }
        settles.or(self.incident.map(|incident| incident.ends(turn.policy)))
    }

    /// Books one failure of its own: a pause before the next try or, too many within the window, a stop.
    pub(super) fn book(&mut self, fault: FaultKind, turn: &Turn<'_>) -> Phase {
        let policy = turn.policy;
        let entries_max = policy.failure_threshold.max(policy.startup_attempts).max(1);
        while self.tally.front().is_some_and(|at| turn.now - *at > policy.failure_window)
            || self.tally.len() >= entries_max
        {
            self.tally.pop_front();
        }
        self.incident = None;
        let missing = fault == FaultKind::PackageNotFound;
        if !policy.host_ill {
            self.tally.push_back(turn.now);
            self.missing = if missing { self.missing.saturating_add(1) } else { 0 };
        }
        self.failures += 1;
        self.streak = self.streak.saturating_add(1);
        let attempts = if self.proven { policy.failure_threshold } else { policy.startup_attempts };
        // That it has worked says nothing of a package that was taken away since.
        let full = self.tally.len() >= attempts || (self.missing as usize) >= policy.startup_attempts.max(1);
        if policy.auto_disable && !policy.host_ill && (full || self.given_up > 0) {
            self.given_up = self.given_up.saturating_add(1);
            let pause = doubled(policy.probation_first, self.given_up, policy.probation_max, turn);
            let until = policy.probation.then(|| self.not_before(turn.now + pause));
            return Phase::AutoDisabled { fault, until };
        }
        let pause = doubled(policy.backoff_first, self.streak, policy.retry_backoff_max, turn);
        Phase::Backoff { until: self.not_before(turn.now + pause), fault }
    }

    /// The moment of the next try, or the later one that the server asked for.
    pub(super) fn not_before(&self, at: Time) -> Time {
        self.not_before.map_or(at, |asked| asked.max(at))
    }
}

/// first * 2^(count - 1), at most the ceiling, then spread by the dice; never above the ceiling.
fn doubled(first: Duration, count: u32, ceiling: Duration, turn: &Turn<'_>) -> Duration {
    let doublings = count.saturating_sub(1).min(DOUBLINGS_MAX);
    let pause = first.saturating_mul(1 << doublings).min(ceiling);
    spread(pause, turn).min(ceiling)
}

/// A pause and what the dice add or take.
pub(super) fn spread(pause: Duration, turn: &Turn<'_>) -> Duration {
    let factor = 1.0 + turn.policy.jitter * (2.0 * turn.dice - 1.0);
    Duration::try_from_secs_f64(pause.as_secs_f64() * factor).unwrap_or(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Life;
    use crate::server::machine::{Event, Policy, step};

    /// The state after starts that ended so, of a server that was ready before.
    #[track_caller]
    fn check(ends: &[FaultKind], state: &str) {
        let policy = Policy { startup_attempts: 2, ..Policy::default() };
        let mut server = Server::new(false, false, Time::ZERO);
        let mut now = Time::ZERO;
        let mut feed = |event| {
            now = server.next_deadline().map_or(now, |(at, _)| at);
            server = step(server.clone(), event, now, &policy, 0.5, &mut Vec::new());
        };
        feed(Event::Want(true));
        let first = Life(1);
        for event in [Event::Admitted(first), Event::Spawned(first), Event::Greeted(first)] {
            feed(event);
        }
        for event in [Event::Discovered(first), Event::Exited(first, FaultKind::Exited), Event::Gone(first)] {
            feed(event);
        }
        for (life, fault) in (2..).map(Life).zip(ends) {
            feed(Event::Due);
            for event in [Event::Admitted(life), Event::Spawned(life)] {
                feed(event);
            }
            for event in [Event::Exited(life, *fault), Event::Gone(life)] {
                feed(event);
            }
        }
        assert_eq!(server.state(), state, "{ends:?}");
    }

    #[test]
    fn a_package_that_was_taken_away_is_not_asked_for_ten_times() {
        use FaultKind::{Exited, PackageNotFound};
        check(&[Exited, Exited, Exited], "backoff");
        check(&[PackageNotFound], "backoff");
        check(&[PackageNotFound, PackageNotFound], "auto_disabled");
        check(&[PackageNotFound, Exited, PackageNotFound], "backoff");
    }
}
