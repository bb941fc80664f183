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
//!               |         +- its own fault, on an engine --> waiting (doubt) -> its own fault, or engine away, or
//!               |         |                                  waiting (reconnect): the engine was away a moment ago
//!               +--------- backoff <- its own fault -> auto_disabled (too many)
//! ```

//!
//! What it relies on, because the simulator's world does no worse:
//! - lives count from 1 and grow; the events of one life come in order; each launch is answered by `Spawned` or
//!   `SpawnFailed`, each spawned life ends with `Exited`, and after a `Clear` at last with `Gone`;
//! - `AskGate` and `LeaveGate` reach the gate in the order given, and every ask is admitted at last;
//! - an engine that was lost is told as `EngineAway`, then `EngineUp`, even if it was away only for a moment, and before
//!   it answers an `AskEngine` that was given later.

use crate::base::fault::FaultKind;
use crate::base::id::Life;
use crate::base::time::Time;
use crate::diagnose::{Class, class};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

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
    /// Somebody wants it back now: what it waits for is cut short, one that is ready proves it, nothing is forgotten.
    Reconnect,
    /// The gate lets it start; the life number is fresh and process-wide.
    Admitted(Life),
    /// A call needs a server that is asleep, or in line for its start.
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
    /// Should this life fail, the server asks not to be tried again for so long. Comes before the failure.
    NotBefore(Life, Duration),
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

impl Event {
    /// The life that it speaks of. `Admitted` speaks of one that is not yet.
    pub fn life(self) -> Option<Life> {
        match self {
            Event::Idle(life)
            | Event::FirstSign(life)
            | Event::Pulling(life)
            | Event::Spawned(life)
            | Event::SpawnFailed(life, _)
            | Event::Greeted(life)
            | Event::Discovered(life)
            | Event::Failed(life, _)
            | Event::NotBefore(life, _)
            | Event::ProbeOk(life)
            | Event::Exited(life, _)
            | Event::Paused(life)
            | Event::Unpaused(life)
            | Event::Gone(life) => Some(life),
            Event::Admitted(_)
            | Event::Want(_)
            | Event::Block(_)
            | Event::Restart
            | Event::Reconnect
            | Event::Wake
            | Event::EngineUp
            | Event::EngineAway
            | Event::Due => None,
        }
    }
}

/// Everything a server can ask of its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stand in line for a start.
    AskGate,
    /// A call waits for the start that was asked for.
    Hurry,
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
    /// Its container was paused before it was ready, as far as is known.
    paused: bool,
    /// When its engine is asked whether it is there, should a start take that long.
    inquiry: Option<Time>,
    /// Starts asleep when enabled: its tools are known and it is lazy.
    asleep: bool,
    /// It was ready since it was enabled or its entry changed.
    proven: bool,
    /// No try before this, unless a human asks.
    #[serde(default)]
    not_before: Option<Time>,
    /// The newest life that the gate gave; a smaller number is an echo.
    newest: Life,
    /// Consecutive failures; the exponent of the backoff.
    streak: u32,
    /// Starts in a row whose package does not exist.
    #[serde(default)]
    missing: u32,
    failures: u64,
    launches: u64,
    /// Its engine came back a while ago, and what fails since then may have come of that.
    incident: Option<Incident>,
    /// INVARIANT: ascending, at most max(failure_threshold, startup_attempts) entries.
    tally: VecDeque<Time>,
    /// How often it was given up since it was last well: while not 0, the next failure is one too many.
    given_up: u32,
    /// It was given up in an earlier run of the daemon: not started before its time.
    carried: Option<GivenUp>,
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
    /// Its engine is back, and what failed then is not known to be its own doing: tried again at `until`, not counted.
    Reconnecting {
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
    /// Given up: too many failures. `until`: when it is tried once, all the same.
    AutoDisabled {
        fault: FaultKind,
        until: Option<Time>,
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
            | Event::NotBefore(..)
            | Event::ProbeOk(_)
            | Event::Exited(..)
            | Event::Gone(_)
            | Event::Paused(_)
            | Event::Unpaused(_)
    };
}

mod books;
mod incident;
mod past;
mod phases;
mod policy;
mod probing;
mod renewed;
mod view;

use incident::Incident;
pub use past::{GivenUp, Past};
pub use policy::{Policy, RECONNECT_LADDER};
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
    server.note(event, &turn);
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
            paused: false,
            inquiry: None,
            asleep,
            proven: false,
            not_before: None,
            newest: Life(0),
            streak: 0,
            missing: 0,
            failures: 0,
            launches: 0,
            incident: None,
            tally: VecDeque::new(),
            given_up: 0,
            carried: None,
        }
    }

    /// 1. Some events are facts. They hold in every phase.
    fn note(&mut self, event: Event, turn: &Turn<'_>) {
        match event {
            Event::Want(wanted) => {
                if wanted && !self.wanted {
                    self.forgive();
                }
                if !wanted {
                    self.carried = None;
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
            Event::EngineUp => {
                if std::mem::take(&mut self.engine_away) && self.launches > 0 {
                    self.incident = Some(Incident::begin(self.newest, turn.now));
                }
            }
            Event::EngineAway => self.engine_away = self.needs_engine,
            // Whoever asks for that knows better than what the server asked for.
            Event::Reconnect => self.not_before = None,
            Event::Restart | Event::Admitted(_) | Event::Wake | Event::Due | of_a_life!() => (),
        }
    }

    /// A fresh start: what was counted before says nothing about it.
    fn forgive(&mut self) {
        self.tally.clear();
        self.streak = 0;
        self.missing = 0;
        self.proven = false;
        self.given_up = 0;
        self.carried = None;
        self.not_before = None;
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
            of_a_life!() => event.life() == self.life(),
            Event::Due => self.next_deadline().is_some_and(|(at, _)| at <= turn.now),
            Event::Want(_)
            | Event::Block(_)
            | Event::Restart
            | Event::Reconnect
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
            | Phase::Reconnecting { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. } => self.resting(event, turn),
        }
    }
}
