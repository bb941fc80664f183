//! Planted faults: what if the machine, the gate or the calls had this bug? Each is made outside the product, by
//! bending what goes into or comes out of the real functions; each must break a claim.

use mcpvisor::server::machine::{Action, Event, Policy, Server};
use std::time::Duration;

macro_rules! plants {
    ($($name:ident: $what:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant { None, $($name,)* }
        impl Plant {
            pub const ALL: &[(Plant, &str)] = &[$((Plant::$name, $what),)*];
        }
    };
}

plants! {
    EchoesAccepted: "echoes of earlier lives accepted",
    EndsAtEof: "the ladder ends at its first rung",
    KillOnce: "KILL is not repeated",
    ClearOnce: "clearing is not repeated",
    ClearSkipped: "an exit is taken for the end of the life",
    SpawnFailureLost: "SpawnFailed ignored while stopping",
    SignalsUnborn: "the ladder starts before the birth",
    WantFrees: "a repeated Want(true) frees an auto-disabled server",
    NoDoubt: "a death is at once the server's failure",
    SilenceBlames: "silence of the engine speaks against the server",
    DoubtForever: "doubt has no limit",
    NoBackoff: "no backoff",
    ReadyForgives: "becoming ready resets the backoff",
    TallyIgnored: "the tally never auto-disables",
    ProbationHurried: "one that was given up is tried again at once",
    WindowForgotten: "the tally forgets at once",
    EngineUpLost: "EngineUp does not wake",
    EngineAwayLost: "EngineAway is not noted",
    LadderEndless: "the ladder of tries after an outage has no end",
    LadderMissing: "no ladder after an outage",
    LadderWild: "the pauses after an outage are anything",
    HurtUnheard: "a life does not notice that its engine was away",
    AskForgives: "being asked back forgives what was counted",
    AskLost: "being asked back is ignored in backoff",
    AskUnanswered: "one that does not answer when asked is kept",
    SlotKept: "the slot is not returned at the first sign",
    UnawaitedKept: "an admission nobody waits for keeps its slot",
    MissForgiven: "an unanswered probe is taken for an answer",
    ProbesOff: "no probes",
    UnwantedLost: "Want(false) ignored while connecting",
    LaunchTwice: "Launch is sent twice",
    AskTwice: "AskGate is sent twice",
    ConnectForever: "connecting has no limit",
    WakeLost: "a call does not wake a sleeping server",
    RestartRemembers: "a restart does not clear the tally",
    BlockLost: "a broken entry is not noted",
    ExitUnheard: "an exit while ready is missed",
    FailureUnheard: "a closed stdout is missed",
    NotBeforeLost: "that a server asks to wait is not heard",
    GateOverbooks: "the gate admits one too many",
    GateNoPatience: "the gate waits for ever for a first sign",
    GateForgets: "who is next after a leave is not told",
    AnswerCrosses: "an answer goes to the next call",
    AnswerTwice: "a second answer is delivered",
    CallsOutlive: "the calls of a dead life stay open",
    SessionStays: "the calls of a gone client stay open",
    CallsForever: "a call's deadline is not kept",
}

impl Plant {
    pub fn policy(self, policy: &mut Policy) {
        match self {
            Plant::LadderEndless => policy.reconnect_attempts = u32::MAX,
            Plant::LadderMissing => policy.reconnect_attempts = 0,
            Plant::LadderWild => policy.jitter = 0.9,
            Plant::NoBackoff => policy.backoff_first = Duration::ZERO,
            Plant::ReadyForgives => policy.settle = Duration::ZERO,
            Plant::TallyIgnored => policy.auto_disable = false,
            Plant::ProbationHurried => policy.probation_first = Duration::ZERO,
            Plant::WindowForgotten => policy.failure_window = Duration::ZERO,
            Plant::ProbesOff => policy.probe_every = None,
            _ => (),
        }
    }

    /// What the machine hears instead of `event`.
    pub fn event(self, server: &Server, event: Event) -> Option<Event> {
        let (state, phase) = (server.state(), server.phase());
        let lost = match self {
            Plant::SpawnFailureLost => phase == "unborn" && matches!(event, Event::SpawnFailed(..)),
            Plant::EngineUpLost => phase == "engine" && event == Event::EngineUp,
            Plant::EngineAwayLost => event == Event::EngineAway,
            Plant::DoubtForever => phase == "doubt" && event == Event::Due,
            Plant::HurtUnheard => server.life().is_some() && event == Event::EngineAway,
            Plant::AskLost => state == "backoff" && event == Event::Reconnect,
            Plant::UnwantedLost => state == "connecting" && event == Event::Want(false),
            Plant::ConnectForever => state == "connecting" && event == Event::Due,
            Plant::WakeLost => state == "sleeping" && event == Event::Wake,
            Plant::RestartRemembers => event == Event::Restart,
            Plant::BlockLost => matches!(event, Event::Block(Some(_))),
            Plant::ExitUnheard => state == "ready" && matches!(event, Event::Exited(..)),
            Plant::NotBeforeLost => matches!(event, Event::NotBefore(..)),
            Plant::FailureUnheard => state == "ready" && matches!(event, Event::Failed(..)),
            _ => false,
        };
        if lost {
            return None;
        }
        Some(match (self, event, server.life()) {
            (Plant::EchoesAccepted, _, Some(life)) => of_life(event, life),
            (Plant::WantFrees, Event::Want(true), _) if state == "auto_disabled" => Event::Restart,
            (Plant::AskForgives, Event::Reconnect, _) => Event::Restart,
            (Plant::AskUnanswered, Event::Due, Some(life))
                if server.next_deadline().is_some_and(|(_, why)| why == "asked") =>
            {
                Event::ProbeOk(life)
            }
            (Plant::SilenceBlames, Event::Due, _) if phase == "doubt" => Event::EngineUp,
            (Plant::MissForgiven, Event::Due, Some(life))
                if server.next_deadline().is_some_and(|(_, why)| why == "probe_patience") =>
            {
                Event::ProbeOk(life)
            }
            _ => event,
        })
    }

    /// What the machine hears on top, right after a step that led to `server`.
    pub fn extra(self, event: Event, server: &Server) -> Option<Event> {
        match (self, event, server.life()) {
            (Plant::ClearSkipped, Event::Exited(..), Some(life)) => Some(Event::Gone(life)),
            (Plant::SignalsUnborn, _, Some(life)) if server.phase() == "unborn" => Some(Event::Spawned(life)),
            (Plant::NoDoubt, _, _) if server.phase() == "doubt" => Some(Event::EngineUp),
            _ => None,
        }
    }

    /// What the shell is told instead of `actions`; `phase` is where the machine came from.
    pub fn actions(self, phase: &str, event: Event, actions: &mut Vec<Action>) {
        match self {
            Plant::EndsAtEof => actions.retain(|a| !matches!(a, Action::Term(_) | Action::Kill(_))),
            Plant::KillOnce if phase == "kill" => actions.retain(|a| !matches!(a, Action::Kill(_))),
            Plant::ClearOnce if phase == "clear" => actions.retain(|a| !matches!(a, Action::Clear(_))),
            Plant::SlotKept if matches!(event, Event::FirstSign(_)) => actions.clear(),
            Plant::UnawaitedKept if matches!(event, Event::Admitted(_)) => {
                actions.retain(|a| !matches!(a, Action::LeaveGate))
            }
            Plant::LaunchTwice => double(actions, |a| matches!(a, Action::Launch(_))),
            Plant::AskTwice => double(actions, |a| matches!(a, Action::AskGate)),
            _ => (),
        }
    }
}

fn double(actions: &mut Vec<Action>, which: impl Fn(&Action) -> bool) {
    if let Some(action) = actions.iter().copied().find(which) {
        actions.push(action);
    }
}

/// The same event, said of another life.
pub fn of_life(event: Event, life: mcpvisor::base::id::Life) -> Event {
    match event {
        Event::Idle(_) => Event::Idle(life),
        Event::FirstSign(_) => Event::FirstSign(life),
        Event::Paused(_) => Event::Paused(life),
        Event::Unpaused(_) => Event::Unpaused(life),
        Event::Pulling(_) => Event::Pulling(life),
        Event::Spawned(_) => Event::Spawned(life),
        Event::SpawnFailed(_, fault) => Event::SpawnFailed(life, fault),
        Event::Greeted(_) => Event::Greeted(life),
        Event::Discovered(_) => Event::Discovered(life),
        Event::Failed(_, fault) => Event::Failed(life, fault),
        Event::NotBefore(_, pause) => Event::NotBefore(life, pause),
        Event::ProbeOk(_) => Event::ProbeOk(life),
        Event::Exited(_, fault) => Event::Exited(life, fault),
        Event::Gone(_) => Event::Gone(life),
        _ => event,
    }
}
