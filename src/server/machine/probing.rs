//! Whether a life that should answer does: probes, a container that is paused and goes on, an engine that was away.
//!
//! Silence speaks against the engine first: it is asked before a server is blamed, and while it is known away nothing
//! that a server leaves unanswered counts.

use super::phases::{clear, close_input};
use super::{Action, Event, FaultKind, Life, Phase, Server, Time, Turn, Verdict};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Probe {
    Off,
    Next {
        at: Time,
        misses: u32,
    },
    Sent {
        at: Time,
        deadline: Time,
        misses: u32,
    },
    /// Its engine was away, or somebody wants to know whether it is well.
    Last(Trial),
}

/// It could go on, and is to show that it does. Unanswered, another life takes its place, and nothing is counted; but not
/// before the engine was asked whether it is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) deadline: Time,
    asked: bool,
}

impl Server {
    /// Nobody's fault: it is kept, and asked when it may go on.
    pub(super) fn frozen(
        &mut self,
        life: Life,
        thaw: Option<Trial>,
        look: Time,
        event: Event,
        turn: &mut Turn<'_>,
    ) -> Phase {
        let same = self.phase;
        match event {
            Event::Want(false) | Event::Restart | Event::Block(Some(_)) => {
                close_input(life, Verdict::Asked, turn)
            }
            Event::Paused(_) => Phase::Frozen { life, thaw: None, look },
            Event::Unpaused(_) if thaw.is_some() => same,
            Event::Unpaused(_) => {
                turn.out.push(Action::Probe(life));
                Phase::Frozen { life, thaw: Some(Trial::begin(turn)), look }
            }
            Event::Reconnect if thaw.is_some() => same,
            Event::Reconnect => {
                turn.out.push(Action::Probe(life));
                same
            }
            Event::NotBefore(_, pause) => {
                self.not_before = Some(turn.now + pause);
                same
            }
            Event::ProbeOk(_) => self.enter_ready(life, turn),
            // What an engine that is away says of it, or does not say, means nothing.
            Event::EngineAway => Phase::Frozen { life, thaw: None, look },
            Event::Due if self.engine_away => {
                Phase::Frozen { life, thaw: None, look: turn.now + turn.policy.host_retry }
            }
            Event::EngineUp if turn.engine_back => {
                turn.out.push(Action::Probe(life));
                Phase::Frozen { life, thaw, look: turn.now + turn.policy.host_retry }
            }
            // It goes on and does not answer: another one takes its place, and nothing is counted.
            Event::Due => {
                let thaw = match thaw.map(|trial| trial.go_on(self.needs_engine, turn)) {
                    Some(None) => return close_input(life, Verdict::Asked, turn),
                    Some(trial) => trial,
                    None => None,
                };
                if look > turn.now {
                    return Phase::Frozen { life, thaw, look };
                }
                turn.out.push(Action::Probe(life));
                Phase::Frozen { life, thaw, look: turn.now + turn.policy.host_retry }
            }
            Event::Failed(_, fault) => close_input(life, Verdict::Fault(fault), turn),
            Event::Exited(_, fault) => clear(life, Verdict::Fault(fault), turn),
            Event::Gone(_) => self.conclude(Verdict::Fault(FaultKind::Exited), turn),
            Event::Idle(_)
            | Event::Want(true)
            | Event::Block(None)
            | Event::Admitted(_)
            | Event::Wake
            | Event::FirstSign(_)
            | Event::Pulling(_)
            | Event::Spawned(_)
            | Event::SpawnFailed(..)
            | Event::Greeted(_)
            | Event::Discovered(_)
            | Event::EngineUp => same,
        }
    }

    /// A moment for the probe has come, or another deadline's. `Err`: it missed too many. While its engine is away a miss
    /// speaks against the engine, so with the first one the engine is asked.
    pub(super) fn after_probe(
        &self,
        life: Life,
        probe: Probe,
        turn: &mut Turn<'_>,
    ) -> Result<Probe, Verdict> {
        let policy = turn.policy;
        match probe {
            Probe::Next { at, misses } if at <= turn.now => {
                turn.out.push(Action::Probe(life));
                Ok(Probe::Sent { at: turn.now, deadline: turn.now + policy.probe_patience, misses })
            }
            Probe::Sent { at, deadline, misses } if deadline <= turn.now => {
                let misses = if self.engine_away { misses } else { misses + 1 };
                if misses >= policy.probe_misses {
                    return Err(Verdict::Fault(FaultKind::Deaf));
                }
                if self.needs_engine && !self.engine_away {
                    turn.out.push(Action::AskEngine);
                }
                Ok(match policy.probe_every {
                    Some(every) => Probe::Next { at: (at + every).max(turn.now), misses },
                    None => Probe::Off,
                })
            }
            // No other could take its place: a miss like any other.
            Probe::Last(trial) if self.engine_away && trial.deadline <= turn.now => Ok(next_probe(turn)),
            Probe::Last(trial) => trial.go_on(self.needs_engine, turn).map(Probe::Last).ok_or(Verdict::Asked),
            Probe::Off | Probe::Next { .. } | Probe::Sent { .. } => Ok(probe),
        }
    }
}

impl Server {
    /// Asks one that is ready whether it is well; who asks meanwhile hears the same answer. Whether it could answer, its
    /// engine is asked.
    pub(super) fn ask(&self, life: Life, probe: Probe, turn: &mut Turn<'_>) -> Probe {
        if matches!(probe, Probe::Last(Trial { asked: true, .. })) {
            return probe;
        }
        if self.needs_engine {
            turn.out.push(Action::AskEngine);
        }
        turn.out.push(Action::Probe(life));
        Probe::Last(Trial { asked: true, ..Trial::begin(turn) })
    }
}

impl Trial {
    pub(super) fn begin(turn: &Turn<'_>) -> Trial {
        Trial { deadline: turn.now + turn.policy.probe_patience, asked: false }
    }

    /// Its deadline may have come: once more, while the engine is asked. Nothing: it has failed.
    fn go_on(self, needs_engine: bool, turn: &mut Turn<'_>) -> Option<Trial> {
        if self.deadline > turn.now {
            return Some(self);
        }
        if self.asked || !needs_engine {
            return None;
        }
        turn.out.push(Action::AskEngine);
        Some(Trial { asked: true, ..Trial::begin(turn) })
    }
}

pub(super) fn next_probe(turn: &Turn<'_>) -> Probe {
    match turn.policy.probe_every {
        Some(every) => Probe::Next { at: turn.now + every, misses: 0 },
        None => Probe::Off,
    }
}

impl Probe {
    pub(super) fn next(self) -> Option<(Time, &'static str)> {
        match self {
            Probe::Off => None,
            Probe::Next { at, .. } => Some((at, "probe")),
            Probe::Sent { deadline, .. } => Some((deadline, "probe_patience")),
            Probe::Last(Trial { deadline, .. }) => Some((deadline, "asked")),
        }
    }
}
