//! One server's life, as a pure function: what happened, in which phase, at what time -> what to do.
//!
//! [`step`] decides and never acts; the supervisor's thread acts and never decides. This file owns the phases of a
//! server, its tally, its backoff and its deadlines. It knows no clock, thread, socket, process or log; time and
//! dice are arguments. `tests/it/data/matrix.txt` prints every phase against every event.
//!
//! ```text
//! disabled -> queued -> connecting: spawning (> pulling) > handshaking > discovering -> ready <-> sleeping
//!    ^          ^                        |                                              |
//!    |          |                        v                                              |
//!    +-- not wanted -- stopping: (unborn) > close_input > term > kill > clear <----------+
//!               |         |
//!               |         +- a fault only a human can end -> parked
//!               |         +- the host's fault -------------> waiting
//!               |         +- its own fault, on an engine --> waiting (doubt) -> its own fault, or engine away
//!               +--------- backoff <- its own fault -> auto_disabled (too many)
//! ```

//!
//! What it relies on, because the simulator's world does no worse:
//! - lives count from 1 and grow; the events of one life come in order; each launch is answered by `Spawned` or
//!   `SpawnFailed`, each spawned life ends with `Exited`, and after a `Clear` at last with `Gone`;
//! - `AskGate` and `LeaveGate` reach the gate in the order given, and every ask is admitted at last;
//! - an engine that was lost is told as `EngineAway`, then `EngineUp`, even if it was away only for a moment.

use crate::base::fault::FaultKind;
use crate::base::id::Life;
use crate::base::time::Time;
use crate::diagnose::{Class, class};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Everything that can happen to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Shall it run? A level: repeating it is harmless, only an edge moves and forgives.
    Want(bool),
    /// `Some`: the entry needs a human before it can run. `None`: the entry is fine (again). A level too.
    Block(Option<FaultKind>),
    /// A human asked, or the entry changed: what was counted against it is forgotten.
    Restart,
    /// The gate lets it start; the life number is fresh and process-wide.
    Admitted(Life),
    /// A call needs a sleeping server.
    Wake,
    /// A lazy server had no call for its idle time.
    Idle(Life),
    /// The first byte on stdout or stderr: the expensive part of a start is over.
    FirstSign(Life),
    /// Its image is being pulled: not the server's own time, and no slot is held for it.
    Pulling(Life),
    Spawned(Life),
    /// No process or container exists; nothing needs clearing.
    SpawnFailed(Life, FaultKind),
    /// `initialize` was answered.
    Greeted(Life),
    /// The first lists are complete.
    Discovered(Life),
    /// The life still runs but is useless.
    Failed(Life, FaultKind),
    /// It answered the probe, or spoke at all.
    ProbeOk(Life),
    /// The leader's exit was seen; it is not reaped yet.
    Exited(Life, FaultKind),
    /// Group empty, reaped, pipes closed: the life is over.
    Gone(Life),
    /// Its container was paused; it exists, and does nothing.
    Paused(Life),
    /// It goes on where it was.
    Unpaused(Life),
    /// The engine answers. Only for servers that need one.
    EngineUp,
    EngineAway,
    /// `next_deadline` has come. Too early, it changes nothing.
    Due,
}

/// Everything a server can ask of its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stand in line for a start.
    AskGate,
    /// Give the slot back, or step out of the line. Emitted once for every admission.
    LeaveGate,
    Launch(Life),
    Probe(Life),
    CloseInput(Life),
    Term(Life),
    Kill(Life),
    /// End what is left of its group, verify, reap, close; then say `Gone`.
    Clear(Life),
    /// Ask whether the engine is there; the answer is `EngineUp` or `EngineAway`.
    AskEngine,
}

/// One server's machine. Built by [`Server::new`], moved by [`step`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    phase: Phase,
    /// When the state (not the phase within it) was entered.
    since: Time,
    wanted: bool,
    blocked: Option<FaultKind>,
    needs_engine: bool,
    engine_away: bool,
    /// Its engine went away since its life began, and it has not been heard since: what ends it now is no fault of its
    /// own.
    bereft: bool,
    /// Its container was paused before it was ready, as far as is known.
    paused: bool,
    /// When its engine is asked whether it is there, should a start take that long.
    inquiry: Option<Time>,
    /// Starts asleep when enabled: its tools are known and it is lazy.
    asleep: bool,
    /// It was ready since it was enabled or its entry changed.
    proven: bool,
    /// The newest life that the gate gave; a smaller number is an echo.
    newest: Life,
    /// Consecutive failures; the exponent of the backoff.
    streak: u32,
    failures: u64,
    launches: u64,
    /// INVARIANT: ascending, at most max(failure_threshold, startup_attempts) entries.
    tally: VecDeque<Time>,
}

/// A phase holds the data that only it needs. Several phases may share a state name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Disabled,
    Queued,
    Connecting {
        life: Life,
        step: Step,
        slot: bool,
        deadline: Time,
    },
    Ready {
        life: Life,
        settles: Option<Time>,
        probe: Probe,
    },
    Sleeping,
    /// Somebody paused its container: the same one goes on when it is unpaused, if it answers then.
    Frozen {
        life: Life,
        /// It was unpaused, and is to answer.
        thaw: Option<Trial>,
        /// When it is looked at again, should nobody say that it goes on.
        look: Time,
    },
    Stopping {
        life: Life,
        rung: Rung,
        verdict: Verdict,
    },
    /// Its own fault: the next try is at `until`.
    Backoff {
        until: Time,
        fault: FaultKind,
    },
    /// The host's fault: the next try is at `until`, and nothing is counted.
    Waiting {
        until: Time,
        fault: FaultKind,
    },
    /// Its engine is away: no try, no count, until the engine is back.
    Stranded,
    /// It died; the server or its engine? Ask, then judge.
    Doubt {
        deadline: Time,
        fault: FaultKind,
    },
    /// It failed in a way that only a human can end.
    Parked {
        fault: FaultKind,
    },
    /// Its entry says that a human is needed.
    Blocked {
        fault: FaultKind,
    },
    AutoDisabled {
        fault: FaultKind,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Spawning,
    Pulling,
    Handshaking,
    Discovering,
}

/// A rung of the stop ladder, and until when it has patience.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Rung {
    /// Its spawn is still under way: what can be given up is, else the ladder starts at its birth.
    Unborn,
    CloseInput(Time),
    Term(Time),
    Kill(Time),
    Clear(Time),
}

/// Why a life was ended; decides what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Verdict {
    /// Somebody asked for it: back to what is wanted.
    Asked,
    /// Nobody needed it: sleep.
    Idle,
    Fault(FaultKind),
}

/// What every decision of one step may look at, and where it writes.
struct Turn<'a> {
    now: Time,
    policy: &'a Policy,
    dice: f64,
    /// Its engine is there again, with this very event.
    engine_back: bool,
    out: &'a mut Vec<Action>,
}

/// The events that speak of a life. A phase without a life never sees them: they stop at the life check.
macro_rules! of_a_life {
    () => {
        Event::Idle(_)
            | Event::FirstSign(_)
            | Event::Pulling(_)
            | Event::Spawned(_)
            | Event::SpawnFailed(..)
            | Event::Greeted(_)
            | Event::Discovered(_)
            | Event::Failed(..)
            | Event::ProbeOk(_)
            | Event::Exited(..)
            | Event::Gone(_)
            | Event::Paused(_)
            | Event::Unpaused(_)
    };
}

mod phases;
mod policy;
mod probing;

pub use policy::Policy;
use probing::{Probe, Trial};

/// One event, one decision. `dice` is uniform in 0..1. Actions are appended to `out` in the order to do them.
pub fn step(
    mut server: Server,
    event: Event,
    now: Time,
    policy: &Policy,
    dice: f64,
    out: &mut Vec<Action>,
) -> Server {
    let state = server.state();
    let engine_back = event == Event::EngineUp && server.engine_away;
    let mut turn = Turn { now, policy, dice, engine_back, out };
    server.note(event);
    if server.concerns(event, &mut turn) {
        server.phase = server.answer(event, &mut turn);
    }
    if server.state() != state {
        server.since = now;
    }
    server
}

impl Server {
    /// Disabled until `Want(true)`. `asleep`: it then sleeps until a call needs it (lazy, and its tools are known).
    pub fn new(needs_engine: bool, asleep: bool, now: Time) -> Server {
        Server {
            phase: Phase::Disabled,
            since: now,
            wanted: false,
            blocked: None,
            needs_engine,
            engine_away: false,
            bereft: false,
            paused: false,
            inquiry: None,
            asleep,
            proven: false,
            newest: Life(0),
            streak: 0,
            failures: 0,
            launches: 0,
            tally: VecDeque::new(),
        }
    }

    /// The API's closed list of states.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Disabled => "disabled",
            Phase::Queued => "queued",
            Phase::Connecting { .. } => "connecting",
            Phase::Ready { .. } => "ready",
            Phase::Sleeping => "sleeping",
            Phase::Stopping { .. } => "stopping",
            Phase::Backoff { .. } => "backoff",
            Phase::Frozen { .. } | Phase::Waiting { .. } | Phase::Stranded | Phase::Doubt { .. } => "waiting",
            Phase::Parked { .. } | Phase::Blocked { .. } => "parked",
            Phase::AutoDisabled { .. } => "auto_disabled",
        }
    }

    /// Where in the state it is: an open list, empty where a state has no parts.
    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Connecting { step: Step::Spawning, .. } => "spawning",
            Phase::Connecting { step: Step::Pulling, .. } => "pulling",
            Phase::Connecting { step: Step::Handshaking, .. } => "handshaking",
            Phase::Connecting { step: Step::Discovering, .. } => "discovering",
            Phase::Stopping { rung: Rung::Unborn, .. } => "unborn",
            Phase::Stopping { rung: Rung::CloseInput(_), .. } => "close_input",
            Phase::Stopping { rung: Rung::Term(_), .. } => "term",
            Phase::Stopping { rung: Rung::Kill(_), .. } => "kill",
            Phase::Stopping { rung: Rung::Clear(_), .. } => "clear",
            Phase::Frozen { thaw: None, .. } => "paused",
            Phase::Frozen { thaw: Some(_), .. } => "thawing",
            Phase::Waiting { .. } => "host",
            Phase::Stranded => "engine",
            Phase::Doubt { .. } => "doubt",
            Phase::Blocked { .. } => "entry",
            Phase::Disabled
            | Phase::Queued
            | Phase::Ready { .. }
            | Phase::Sleeping
            | Phase::Backoff { .. }
            | Phase::Parked { .. }
            | Phase::AutoDisabled { .. } => "",
        }
    }

    /// The fault that keeps it where it is.
    pub fn reason(&self) -> Option<FaultKind> {
        match self.phase {
            Phase::Stopping { verdict: Verdict::Fault(fault), .. }
            | Phase::Backoff { fault, .. }
            | Phase::Waiting { fault, .. }
            | Phase::Doubt { fault, .. }
            | Phase::Parked { fault }
            | Phase::Blocked { fault }
            | Phase::AutoDisabled { fault } => Some(fault),
            Phase::Stranded => Some(FaultKind::EngineAway),
            Phase::Frozen { .. } if self.engine_away => Some(FaultKind::EngineAway),
            Phase::Frozen { .. } => Some(FaultKind::ContainerPaused),
            Phase::Stopping { verdict: Verdict::Asked | Verdict::Idle, .. }
            | Phase::Disabled
            | Phase::Queued
            | Phase::Connecting { .. }
            | Phase::Ready { .. }
            | Phase::Sleeping => None,
        }
    }

    /// The life that exists, from its launch to its `Gone`.
    pub fn life(&self) -> Option<Life> {
        match self.phase {
            Phase::Connecting { life, .. }
            | Phase::Ready { life, .. }
            | Phase::Frozen { life, .. }
            | Phase::Stopping { life, .. } => Some(life),
            Phase::Disabled
            | Phase::Queued
            | Phase::Sleeping
            | Phase::Backoff { .. }
            | Phase::Waiting { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. } => None,
        }
    }

    /// The shell sleeps until then, and sends `Due`. The text says what it waits for.
    pub fn next_deadline(&self) -> Option<(Time, &'static str)> {
        match self.phase {
            Phase::Connecting { step: Step::Pulling, deadline, .. } => Some((deadline, "pull_timeout")),
            Phase::Connecting { deadline, .. } => {
                earlier(self.inquiry.map(|at| (at, "inquiry")), Some((deadline, "connect_timeout")))
            }
            Phase::Ready { settles, probe, .. } => earlier(settles.map(|at| (at, "settle")), probe.next()),
            Phase::Frozen { thaw, look, .. } => {
                earlier(thaw.map(|trial| (trial.deadline, "thaw")), Some((look, "look")))
            }
            Phase::Stopping { rung, .. } => rung.next(),
            Phase::Backoff { until, .. } => Some((until, "backoff")),
            Phase::Waiting { until, .. } => Some((until, "host_retry")),
            Phase::Doubt { deadline, .. } => Some((deadline, "doubt")),
            Phase::Disabled
            | Phase::Queued
            | Phase::Sleeping
            | Phase::Stranded
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. } => None,
        }
    }

    /// When it will try again by itself, if it waits for that.
    pub fn next_retry(&self) -> Option<Time> {
        match self.phase {
            Phase::Backoff { until, .. } | Phase::Waiting { until, .. } => Some(until),
            Phase::Disabled
            | Phase::Queued
            | Phase::Connecting { .. }
            | Phase::Ready { .. }
            | Phase::Frozen { .. }
            | Phase::Sleeping
            | Phase::Stopping { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. } => None,
        }
    }

    /// Its engine is back, and whether it has survived the outage is not known yet.
    pub fn is_in_question(&self) -> bool {
        matches!(self.phase, Phase::Ready { probe: Probe::Last(_), .. })
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Time {
        self.since
    }

    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Failures in a row; back to 0 after it was ready for `settle`, or when a human asks.
    pub fn consecutive_failures(&self) -> u32 {
        self.streak
    }

    /// Failures of the server itself since the daemon started, and those that only a human can end.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Lives after the first.
    pub fn restarts(&self) -> u64 {
        self.launches.saturating_sub(1)
    }

    /// When it failed by its own fault, within the window as of the last failure; oldest first.
    pub fn tally(&self) -> &VecDeque<Time> {
        &self.tally
    }

    /// 1. Some events are facts. They hold in every phase.
    fn note(&mut self, event: Event) {
        match event {
            Event::Want(wanted) => {
                if wanted && !self.wanted {
                    self.forgive();
                }
                self.wanted = wanted;
            }
            Event::Block(fault) => {
                if self.blocked.is_some() && fault.is_none() {
                    self.forgive();
                }
                self.blocked = fault;
            }
            Event::Restart if self.wanted => self.forgive(),
            Event::EngineUp => self.engine_away = false,
            Event::EngineAway => (self.engine_away, self.bereft) = (self.needs_engine, self.needs_engine),
            Event::Restart | Event::Admitted(_) | Event::Wake | Event::Due | of_a_life!() => (),
        }
    }

    /// A fresh start: what was counted before says nothing about it.
    fn forgive(&mut self) {
        self.tally.clear();
        self.streak = 0;
        self.proven = false;
    }

    /// 2. Some speak of one life, or of one moment. What speaks of another one stops here.
    fn concerns(&mut self, event: Event, turn: &mut Turn<'_>) -> bool {
        match event {
            Event::Admitted(life) => {
                let fresh = life > self.newest;
                let awaited = matches!(self.phase, Phase::Queued);
                self.newest = self.newest.max(life);
                if fresh && !awaited {
                    turn.out.push(Action::LeaveGate);
                }
                fresh && awaited
            }
            Event::Idle(life)
            | Event::FirstSign(life)
            | Event::Pulling(life)
            | Event::Spawned(life)
            | Event::SpawnFailed(life, _)
            | Event::Greeted(life)
            | Event::Discovered(life)
            | Event::Failed(life, _)
            | Event::ProbeOk(life)
            | Event::Exited(life, _)
            | Event::Paused(life)
            | Event::Unpaused(life)
            | Event::Gone(life) => self.life() == Some(life),
            Event::Due => self.next_deadline().is_some_and(|(at, _)| at <= turn.now),
            Event::Want(_)
            | Event::Block(_)
            | Event::Restart
            | Event::Wake
            | Event::EngineUp
            | Event::EngineAway => true,
        }
    }

    /// 3. Then the phase answers.
    fn answer(&mut self, event: Event, turn: &mut Turn<'_>) -> Phase {
        match self.phase {
            Phase::Connecting { life, step, slot, deadline } => {
                self.connecting(life, step, slot, deadline, event, turn)
            }
            Phase::Ready { life, settles, probe } => self.ready(life, settles, probe, event, turn),
            Phase::Frozen { life, thaw, look } => self.frozen(life, thaw, look, event, turn),
            Phase::Stopping { life, rung, verdict } => self.stopping(life, rung, verdict, event, turn),
            Phase::Disabled
            | Phase::Queued
            | Phase::Sleeping
            | Phase::Backoff { .. }
            | Phase::Waiting { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. } => self.resting(event, turn),
        }
    }
}

impl Rung {
    fn next(self) -> Option<(Time, &'static str)> {
        match self {
            Rung::Unborn => None,
            Rung::CloseInput(until) => Some((until, "eof_grace")),
            Rung::Term(until) => Some((until, "stop_grace")),
            Rung::Kill(until) => Some((until, "kill_repeat")),
            Rung::Clear(until) => Some((until, "verify_timeout")),
        }
    }
}

fn earlier(a: Option<(Time, &'static str)>, b: Option<(Time, &'static str)>) -> Option<(Time, &'static str)> {
    a.into_iter().chain(b).min_by_key(|(at, _)| *at)
}
