//! What each phase answers to each event, and the few decisions that several phases share.
//!
//! No match here has a `_` arm: a new event asks its question in every phase.

use super::probing::next_probe;
use super::{
    Action, Class, Event, FaultKind, Life, Phase, Policy, Probe, Rung, Server, Step, Time, Trial, Turn,
    Verdict, class,
};
use std::time::Duration;

impl Server {
    /// The phases without a life: nothing runs, and something is waited for.
    pub(super) fn resting(&mut self, event: Event, turn: &mut Turn<'_>) -> Phase {
        let same = self.phase;
        match self.phase {
            Phase::Disabled => match event {
                Event::Want(true) if self.carried.is_some() && self.blocked.is_none() => {
                    self.carry_on(turn.now)
                }
                Event::Want(true) if self.asleep && self.blocked.is_none() => Phase::Sleeping,
                Event::Want(true) => self.start(turn),
                Event::Want(false)
                | Event::Block(_)
                | Event::Restart
                | Event::Reconnect
                | Event::Admitted(_)
                | Event::Wake
                | Event::EngineUp
                | Event::EngineAway
                | Event::Due
                | of_a_life!() => same,
            },
            Phase::Queued => self.queued(event, turn),
            Phase::Sleeping => match event {
                Event::Want(false) => Phase::Disabled,
                Event::Block(Some(fault)) => Phase::Blocked { fault },
                Event::Restart => self.start(turn),
                Event::Wake => {
                    let phase = self.start(turn);
                    if matches!(phase, Phase::Queued) {
                        turn.out.push(Action::Hurry);
                    }
                    phase
                }
                Event::Want(true)
                | Event::Block(None)
                | Event::Reconnect
                | Event::Admitted(_)
                | Event::EngineUp
                | Event::EngineAway
                | Event::Due
                | of_a_life!() => same,
            },
            Phase::Backoff { .. } | Phase::Waiting { .. } | Phase::Reconnecting { .. } => match event {
                Event::Want(false) => Phase::Disabled,
                Event::Block(Some(fault)) => Phase::Blocked { fault },
                Event::Restart | Event::Reconnect | Event::Due => self.start(turn),
                Event::EngineAway if self.needs_engine => Phase::Stranded,
                Event::EngineAway
                | Event::Want(true)
                | Event::Block(None)
                | Event::Admitted(_)
                | Event::Wake
                | Event::EngineUp
                | of_a_life!() => same,
            },
            Phase::Stranded => match event {
                Event::Want(false) => Phase::Disabled,
                Event::Block(Some(fault)) => Phase::Blocked { fault },
                Event::EngineUp => self.start(turn),
                Event::Reconnect => {
                    turn.out.push(Action::AskEngine);
                    same
                }
                Event::Want(true)
                | Event::Block(None)
                | Event::Restart
                | Event::Admitted(_)
                | Event::Wake
                | Event::EngineAway
                | Event::Due
                | of_a_life!() => same,
            },
            Phase::Doubt { fault, .. } => match event {
                Event::Want(false) => Phase::Disabled,
                Event::Block(Some(fault)) => Phase::Blocked { fault },
                Event::Restart => self.start(turn),
                Event::EngineUp => self.blame(fault, turn),
                Event::EngineAway => Phase::Stranded,
                Event::Due => {
                    self.engine_away = true;
                    Phase::Stranded
                }
                Event::Want(true)
                | Event::Block(None)
                | Event::Reconnect
                | Event::Admitted(_)
                | Event::Wake
                | of_a_life!() => same,
            },
            Phase::Parked { .. } | Phase::AutoDisabled { .. } => match event {
                Event::Want(false) => Phase::Disabled,
                Event::Block(Some(fault)) => Phase::Blocked { fault },
                Event::Restart | Event::Reconnect => self.start(turn),
                // Only one that was given up has a time: one try, to see whether it is still as it was.
                Event::Due => self.start(turn),
                Event::Want(true)
                | Event::Block(None)
                | Event::Admitted(_)
                | Event::Wake
                | Event::EngineUp
                | Event::EngineAway
                | of_a_life!() => same,
            },
            Phase::Blocked { .. } => match event {
                Event::Want(false) => Phase::Disabled,
                Event::Block(Some(fault)) => Phase::Blocked { fault },
                Event::Block(None) => self.start(turn),
                Event::Want(true)
                | Event::Restart
                | Event::Reconnect
                | Event::Admitted(_)
                | Event::Wake
                | Event::EngineUp
                | Event::EngineAway
                | Event::Due
                | of_a_life!() => same,
            },
            Phase::Connecting { .. }
            | Phase::Ready { .. }
            | Phase::Frozen { .. }
            | Phase::Stopping { .. } => same,
        }
    }

    fn queued(&mut self, event: Event, turn: &mut Turn<'_>) -> Phase {
        match event {
            Event::Want(false) => {
                turn.out.push(Action::LeaveGate);
                Phase::Disabled
            }
            Event::Block(Some(fault)) => {
                turn.out.push(Action::LeaveGate);
                Phase::Blocked { fault }
            }
            Event::EngineAway if self.needs_engine => {
                turn.out.push(Action::LeaveGate);
                Phase::Stranded
            }
            Event::Wake => {
                turn.out.push(Action::Hurry);
                Phase::Queued
            }
            Event::Admitted(life) => {
                self.launches += 1;
                self.paused = false;
                turn.out.push(Action::Launch(life));
                let deadline = self.connect_by(turn);
                Phase::Connecting { life, step: Step::Spawning, slot: true, deadline }
            }
            Event::EngineAway
            | Event::Want(true)
            | Event::Block(None)
            | Event::Restart
            | Event::Reconnect
            | Event::EngineUp
            | Event::Due
            | of_a_life!() => Phase::Queued,
        }
    }

    pub(super) fn connecting(
        &mut self,
        life: Life,
        step: Step,
        slot: bool,
        deadline: Time,
        event: Event,
        turn: &mut Turn<'_>,
    ) -> Phase {
        let same = self.phase;
        match event {
            Event::Want(false) | Event::Restart | Event::Block(Some(_)) => {
                give_up(life, step, slot, Verdict::Asked, turn)
            }
            // An engine that hangs is noticed before its server is blamed.
            Event::Due if turn.now < deadline => {
                self.inquiry = None;
                turn.out.extend((!self.engine_away).then_some(Action::AskEngine));
                same
            }
            Event::Due => {
                let fault = match step {
                    // Its engine is known away: no patience of the server's was at fault.
                    _ if self.engine_away => FaultKind::EngineAway,
                    _ if self.paused => FaultKind::ContainerPaused,
                    Step::Pulling => FaultKind::PullFailed,
                    Step::Spawning | Step::Handshaking | Step::Discovering => FaultKind::ConnectTimeout,
                };
                give_up(life, step, slot, Verdict::Fault(fault), turn)
            }
            Event::Failed(_, fault) => give_up(life, step, slot, Verdict::Fault(fault), turn),
            Event::NotBefore(_, pause) => {
                self.not_before = Some(turn.now + pause);
                same
            }
            Event::FirstSign(_) => {
                leave(slot, turn);
                Phase::Connecting { life, step, slot: false, deadline }
            }
            Event::Pulling(_) => match step {
                Step::Spawning => {
                    leave(slot, turn);
                    let deadline = turn.now + turn.policy.pull_timeout;
                    Phase::Connecting { life, step: Step::Pulling, slot: false, deadline }
                }
                Step::Pulling | Step::Handshaking | Step::Discovering => same,
            },
            Event::Spawned(_) => match step {
                // From here on it is the server's own time.
                Step::Spawning | Step::Pulling => {
                    let deadline = self.connect_by(turn);
                    Phase::Connecting { life, step: Step::Handshaking, slot, deadline }
                }
                Step::Handshaking | Step::Discovering => same,
            },
            Event::Greeted(_) => Phase::Connecting { life, step: Step::Discovering, slot, deadline },
            Event::Discovered(_) => {
                leave(slot, turn);
                self.enter_ready(life, turn)
            }
            Event::SpawnFailed(_, fault) => match step {
                Step::Spawning | Step::Pulling => {
                    leave(slot, turn);
                    self.conclude(Verdict::Fault(fault), turn)
                }
                Step::Handshaking | Step::Discovering => same,
            },
            Event::Exited(_, fault) => {
                leave(slot, turn);
                clear(life, Verdict::Fault(fault), turn)
            }
            Event::Gone(_) => {
                leave(slot, turn);
                self.conclude(Verdict::Fault(FaultKind::Exited), turn)
            }
            Event::Paused(_) => {
                self.paused = true;
                same
            }
            // From here on it is its own time again.
            Event::Unpaused(_) if self.paused => {
                self.paused = false;
                let deadline = self.connect_by(turn);
                Phase::Connecting { life, step, slot, deadline }
            }
            Event::Unpaused(_) => same,
            Event::Want(true)
            | Event::Block(None)
            | Event::Reconnect
            | Event::Admitted(_)
            | Event::Wake
            | Event::Idle(_)
            | Event::ProbeOk(_)
            | Event::EngineUp
            | Event::EngineAway => same,
        }
    }

    pub(super) fn ready(
        &mut self,
        life: Life,
        settles: Option<Time>,
        probe: Probe,
        event: Event,
        turn: &mut Turn<'_>,
    ) -> Phase {
        let settles = self.settle(settles, turn);
        let same = Phase::Ready { life, settles, probe };
        match event {
            Event::Want(false) | Event::Restart | Event::Block(Some(_)) => {
                close_input(life, Verdict::Asked, turn)
            }
            Event::Idle(_) if turn.policy.lazy => close_input(life, Verdict::Idle, turn),
            Event::Failed(_, fault) => close_input(life, Verdict::Fault(fault), turn),
            Event::NotBefore(_, pause) => {
                self.not_before = Some(turn.now + pause);
                same
            }
            Event::Exited(_, fault) => clear(life, Verdict::Fault(fault), turn),
            Event::Gone(_) => self.conclude(Verdict::Fault(FaultKind::Exited), turn),
            Event::ProbeOk(_) => Phase::Ready { life, settles, probe: next_probe(turn) },
            // Its own connection never broke. It is kept if it answers.
            Event::EngineUp if turn.engine_back => {
                turn.out.push(Action::Probe(life));
                Phase::Ready { life, settles, probe: Probe::Last(Trial::begin(turn)) }
            }
            Event::EngineAway if self.is_in_question() => {
                Phase::Ready { life, settles, probe: next_probe(turn) }
            }
            Event::Paused(_) => Phase::Frozen { life, thaw: None, look: turn.now + turn.policy.host_retry },
            Event::Reconnect => Phase::Ready { life, settles, probe: self.ask(life, probe, turn) },
            Event::Due => match self.after_probe(life, probe, turn) {
                Ok(probe) => Phase::Ready { life, settles, probe },
                Err(verdict) => close_input(life, verdict, turn),
            },
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
            | Event::Unpaused(_)
            | Event::EngineUp
            | Event::EngineAway => same,
        }
    }

    pub(super) fn stopping(
        &mut self,
        life: Life,
        rung: Rung,
        verdict: Verdict,
        event: Event,
        turn: &mut Turn<'_>,
    ) -> Phase {
        let same = self.phase;
        match event {
            Event::Want(false) | Event::Restart | Event::Block(Some(_)) => {
                Phase::Stopping { life, rung, verdict: Verdict::Asked }
            }
            Event::Wake => match verdict {
                Verdict::Idle => Phase::Stopping { life, rung, verdict: Verdict::Asked },
                Verdict::Asked | Verdict::Fault(_) => same,
            },
            Event::Spawned(_) => match rung {
                Rung::Unborn => close_input(life, verdict, turn),
                Rung::CloseInput(_) | Rung::Term(_) | Rung::Kill(_) | Rung::Clear(_) => same,
            },
            Event::SpawnFailed(_, fault) => match (rung, verdict) {
                // We gave it up for being slow; now it says why it was, or only that we did.
                (Rung::Unborn, Verdict::Fault(_)) if fault != FaultKind::Stopped => {
                    self.conclude(Verdict::Fault(fault), turn)
                }
                (Rung::Unborn, _) => self.conclude(verdict, turn),
                (Rung::CloseInput(_) | Rung::Term(_) | Rung::Kill(_) | Rung::Clear(_), _) => same,
            },
            Event::Exited(..) => match rung {
                Rung::Clear(_) => same,
                Rung::Unborn | Rung::CloseInput(_) | Rung::Term(_) | Rung::Kill(_) => {
                    clear(life, verdict, turn)
                }
            },
            Event::Gone(_) => self.conclude(verdict, turn),
            Event::NotBefore(_, pause) => {
                // Whoever had it stopped has not asked the server.
                if let Verdict::Fault(_) = verdict {
                    self.not_before = Some(turn.now + pause);
                }
                same
            }
            Event::Due => {
                let rung = climb(life, rung, turn);
                // It should be dead by now: is there anybody to kill it?
                if matches!(rung, Rung::Kill(_)) && self.needs_engine && !self.engine_away {
                    turn.out.push(Action::AskEngine);
                }
                Phase::Stopping { life, rung, verdict }
            }
            // What the engine was asked for while it was away may be lost.
            Event::EngineUp if turn.engine_back => {
                turn.out.extend(rung.again(life));
                same
            }
            Event::Want(true)
            | Event::Block(None)
            | Event::Reconnect
            | Event::Admitted(_)
            | Event::Idle(_)
            | Event::FirstSign(_)
            | Event::Pulling(_)
            | Event::Greeted(_)
            | Event::Discovered(_)
            | Event::Failed(..)
            | Event::ProbeOk(_)
            | Event::Paused(_)
            | Event::Unpaused(_)
            | Event::EngineUp
            | Event::EngineAway => same,
        }
    }

    /// Until when it is to be ready. When half of that time is over, its engine is asked.
    fn connect_by(&mut self, turn: &Turn<'_>) -> Time {
        let span = turn.policy.connect_timeout;
        self.inquiry = self.needs_engine.then(|| turn.now + span / 2);
        turn.now + span
    }

    /// Into the line for a start, unless the entry, the engine or the server itself forbids it.
    fn start(&mut self, turn: &mut Turn<'_>) -> Phase {
        if let Some(fault) = self.blocked {
            return Phase::Blocked { fault };
        }
        if self.engine_away {
            return Phase::Stranded;
        }
        if let Some(until) = self.not_before.filter(|at| *at > turn.now) {
            return Phase::Waiting { until, fault: FaultKind::Busy };
        }
        turn.out.push(Action::AskGate);
        Phase::Queued
    }

    pub(super) fn enter_ready(&mut self, life: Life, turn: &Turn<'_>) -> Phase {
        self.proven = true;
        self.missing = 0;
        self.asleep = turn.policy.lazy;
        self.not_before = None;
        let unsettled = self.streak > 0 || self.incident.is_some();
        let settles = unsettled.then(|| turn.now + turn.policy.settle);
        Phase::Ready { life, settles, probe: next_probe(turn) }
    }

    /// A life is over. What follows is what is wanted now, then why it was ended.
    pub(super) fn conclude(&mut self, verdict: Verdict, turn: &mut Turn<'_>) -> Phase {
        if !self.wanted {
            return Phase::Disabled;
        }
        if let Some(fault) = self.blocked {
            return Phase::Blocked { fault };
        }
        match verdict {
            Verdict::Asked => self.start(turn),
            Verdict::Idle => Phase::Sleeping,
            Verdict::Fault(fault) => self.judge(fault, turn),
        }
    }

    /// It is over and should not be. If it lives on an engine, the engine is heard first.
    fn judge(&mut self, fault: FaultKind, turn: &mut Turn<'_>) -> Phase {
        match class(fault) {
            Class::Server | Class::Host if self.engine_away => Phase::Stranded,
            Class::Server | Class::Host if self.was_hurt() => self.start(turn),
            Class::Server | Class::Host if self.needs_engine => {
                turn.out.push(Action::AskEngine);
                Phase::Doubt { deadline: turn.now + turn.policy.doubt, fault }
            }
            Class::Server | Class::Host | Class::Human | Class::Nobody => self.blame(fault, turn),
        }
    }

    /// No engine speaks for it any more.
    fn blame(&mut self, fault: FaultKind, turn: &mut Turn<'_>) -> Phase {
        if let Some(until) = self.climb_ladder(fault, turn) {
            return Phase::Reconnecting { until, fault };
        }
        match class(fault) {
            Class::Human => {
                self.failures += 1;
                Phase::Parked { fault }
            }
            Class::Server => self.book(fault, turn),
            Class::Host => {
                Phase::Waiting { until: self.not_before(turn.now + host_retry(fault, turn.policy)), fault }
            }
            Class::Nobody => self.start(turn),
        }
    }
}

fn host_retry(fault: FaultKind, policy: &Policy) -> Duration {
    if fault == FaultKind::PullFailed { policy.pull_retry } else { policy.host_retry }
}

fn leave(slot: bool, turn: &mut Turn<'_>) {
    if slot {
        turn.out.push(Action::LeaveGate);
    }
}

/// Ends a start that is under way. A birth that can still be given up (an image that is being pulled) is, by the
/// same order that begins the ladder; any other ladder begins at its birth.
fn give_up(life: Life, step: Step, slot: bool, verdict: Verdict, turn: &mut Turn<'_>) -> Phase {
    leave(slot, turn);
    match step {
        Step::Spawning | Step::Pulling => {
            turn.out.push(Action::CloseInput(life));
            Phase::Stopping { life, rung: Rung::Unborn, verdict }
        }
        Step::Handshaking | Step::Discovering => close_input(life, verdict, turn),
    }
}

/// The first rung of the ladder.
pub(super) fn close_input(life: Life, verdict: Verdict, turn: &mut Turn<'_>) -> Phase {
    turn.out.push(Action::CloseInput(life));
    Phase::Stopping { life, rung: Rung::CloseInput(turn.now + turn.policy.eof_grace), verdict }
}

/// The last part: its leader is dead, the rest of its group is not proven to be.
pub(super) fn clear(life: Life, verdict: Verdict, turn: &mut Turn<'_>) -> Phase {
    turn.out.push(Action::Clear(life));
    Phase::Stopping { life, rung: Rung::Clear(turn.now + turn.policy.verify_timeout), verdict }
}

/// The patience of a rung is over: the next one, and the last ones again.
fn climb(life: Life, rung: Rung, turn: &mut Turn<'_>) -> Rung {
    let policy = turn.policy;
    match rung {
        Rung::Unborn => Rung::Unborn,
        Rung::CloseInput(_) => {
            turn.out.push(Action::Term(life));
            Rung::Term(turn.now + policy.stop_grace.saturating_sub(policy.eof_grace))
        }
        Rung::Term(_) | Rung::Kill(_) => {
            turn.out.push(Action::Kill(life));
            Rung::Kill(turn.now + policy.kill_repeat)
        }
        Rung::Clear(_) => {
            turn.out.push(Action::Clear(life));
            Rung::Clear(turn.now + policy.verify_timeout)
        }
    }
}

impl Rung {
    /// What this rung asks for, once more.
    fn again(self, life: Life) -> Option<Action> {
        match self {
            Rung::Term(_) => Some(Action::Term(life)),
            Rung::Kill(_) => Some(Action::Kill(life)),
            Rung::Unborn | Rung::CloseInput(_) | Rung::Clear(_) => None,
        }
    }
}
