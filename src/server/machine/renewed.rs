//! A machine whose entry has changed while it runs. What was decided stays decided; only what lies ahead is by the new
//! numbers.

use super::probing::Probe;
use super::{Phase, Policy, Server, Time};

impl Server {
    /// By other numbers from now on; `policy` is the new one. A wait that would end later than it allows is cut, and
    /// probes begin, end, or come sooner. The deadline of a start or a stop that is under way stands.
    pub fn retuned(self, now: Time, policy: &Policy) -> Server {
        let phase = match self.phase {
            Phase::Ready { life, settles, probe } => {
                let probe = match (probe, policy.probe_every) {
                    (Probe::Off, None) => Probe::Off,
                    (Probe::Off, Some(every)) => Probe::Next { at: now + every, misses: 0 },
                    // Somebody waits for that answer.
                    (asked @ Probe::Last(_), _) => asked,
                    (Probe::Next { .. } | Probe::Sent { .. }, None) => Probe::Off,
                    (Probe::Next { at, misses }, Some(every)) => {
                        Probe::Next { at: at.min(now + every), misses }
                    }
                    (sent @ Probe::Sent { .. }, Some(_)) => sent,
                };
                Phase::Ready { life, settles, probe }
            }
            Phase::Backoff { until, fault } => {
                Phase::Backoff { until: until.min(now + policy.retry_backoff_max), fault }
            }
            same @ (Phase::Disabled
            | Phase::Queued
            | Phase::Connecting { .. }
            | Phase::Sleeping
            | Phase::Frozen { .. }
            | Phase::Stopping { .. }
            | Phase::Waiting { .. }
            | Phase::Reconnecting { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. }) => same,
        };
        Server { phase, ..self }
    }

    /// It goes on in the place of another machine of the same server: what is counted of the server goes on, too.
    pub fn after(self, before: &Server) -> Server {
        let (launches, failures) = (self.launches + before.launches, self.failures + before.failures);
        Server { launches, failures, ..self }
    }

    /// It lives elsewhere from its next life on. Who calls this says next what that engine is like: `EngineAway` until
    /// it is heard, or `EngineUp` where none is needed, which also ends a wait for the one before.
    pub fn moved(self, needs_engine: bool) -> Server {
        Server { needs_engine, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, step};
    use super::*;
    use crate::base::fault::FaultKind;
    use crate::base::id::Life;
    use std::time::Duration;

    fn play(server: Server, events: &[Event], now: Time, policy: &Policy) -> Server {
        let mut unused = Vec::new();
        events.iter().fold(server, |server, event| step(server, *event, now, policy, 0.5, &mut unused))
    }

    fn ready(policy: &Policy) -> Server {
        let life = Life(1);
        let events = [
            Event::Want(true),
            Event::Admitted(life),
            Event::Spawned(life),
            Event::Greeted(life),
            Event::Discovered(life),
        ];
        play(Server::new(false, false, Time::ZERO), &events, Time::ZERO, policy)
    }

    fn probing(seconds: Option<u64>) -> Policy {
        Policy { probe_every: seconds.map(Duration::from_secs), ..Policy::default() }
    }

    #[test]
    fn probes_begin_end_and_come_sooner() {
        #[track_caller]
        fn check(before: Option<u64>, after: Option<u64>, next: Option<u64>) {
            let server = ready(&probing(before)).retuned(Time::from_ms(10_000), &probing(after));
            assert_eq!(server.next_deadline().map(|(at, _)| at.as_ms() / 1000), next);
        }
        check(None, Some(5), Some(15));
        check(Some(60), None, None);
        check(Some(60), Some(5), Some(15));
        check(Some(60), Some(600), Some(60));
        check(None, None, None);
    }

    #[test]
    fn the_books_go_on_in_another_machine() {
        let (before, next) = (ready(&probing(None)), ready(&probing(None)));
        let failed = [Event::Exited(Life(1), FaultKind::Exited), Event::Gone(Life(1))];
        let before = play(before, &failed, Time::ZERO, &probing(None));
        let after = next.after(&before);
        assert_eq!((after.restarts(), after.failures(), after.consecutive_failures()), (1, 1, 0));
    }

    #[test]
    fn a_pause_is_cut() {
        let long = Policy { backoff_first: Duration::from_secs(200), ..Policy::default() };
        let failed = Event::SpawnFailed(Life(1), FaultKind::Exited);
        let server = play(
            Server::new(false, false, Time::ZERO),
            &[Event::Want(true), Event::Admitted(Life(1)), failed],
            Time::ZERO,
            &long,
        );
        let short = Policy { retry_backoff_max: Duration::from_secs(3), ..Policy::default() };
        assert_eq!(server.retuned(Time::ZERO, &short).next_retry(), Some(Time::from_ms(3000)));
    }

    #[test]
    fn from_an_engine_to_the_host_and_back() {
        let policy = Policy::default();
        let events = [Event::EngineAway, Event::Want(true)];
        let stranded = play(Server::new(true, false, Time::ZERO), &events, Time::ZERO, &policy);
        assert_eq!(stranded.phase(), "engine");
        let queued = play(stranded.moved(false), &[Event::EngineUp], Time::ZERO, &policy);
        assert_eq!(queued.state(), "queued");
        let again = play(queued.moved(true), &[Event::EngineAway], Time::ZERO, &policy);
        assert_eq!(again.phase(), "engine");
    }
}
