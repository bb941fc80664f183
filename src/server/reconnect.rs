//! What it means to bring a server back now: who is meant, what is done with each, and when it is over. Pure; the
//! supervisor asks here after each of its steps, and everyone who asked for the same recovery hears the same end of it.

use super::machine::Event;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, ServerName};
use crate::base::limits::RECONNECT_ASKERS_MAX;
use crate::base::time::Time;
use crate::engine::endpoint::Endpoint;
use crossbeam_channel::Sender;
use serde::Serialize;
use std::time::Duration;

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Named(Vec<ServerName>),
    /// What lives on an engine; nothing: on any.
    Engine(Option<Endpoint>),
    All,
}

impl Scope {
    /// Whether the server of this name is meant, which lives on `engine`. A process of the host, or a remote server, lives
    /// on none.
    pub fn covers(&self, name: &ServerName, engine: Option<&Endpoint>) -> bool {
        match self {
            Scope::Named(names) => names.contains(name),
            Scope::Engine(None) => engine.is_some(),
            Scope::Engine(Some(meant)) => engine == Some(meant),
            Scope::All => true,
        }
    }

    /// What only a person can end is tried again for a person who names it, and not for one who means everything.
    pub fn is_named(&self) -> bool {
        matches!(self, Scope::Named(_))
    }
}

/// What is done with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Nothing, and why.
    Skip(&'static str),
    /// It runs: it is asked whether it is well, and replaced if it does not answer.
    Probe,
    /// It waits for its next try: that is now.
    Try,
    /// It is on its way already: whoever asks waits with it.
    Join,
}

impl Course {
    /// For a server in this state and phase.
    pub fn of(state: &str, phase: &str, named: bool) -> Course {
        match (state, phase) {
            ("disabled", _) => Course::Skip("it is disabled: mcpvisor upstream enable starts it"),
            ("sleeping", _) => Course::Skip("it sleeps, and wakes with its next call"),
            ("parked", "entry") => Course::Skip("its entry in the config must change first"),
            ("parked", _) if !named => {
                Course::Skip("only a person can end what parked it: name it to try it now")
            }
            ("auto_disabled", _) if !named => {
                Course::Skip("it was given up after too many failures: name it to try it now")
            }
            ("ready", _) | ("waiting", "paused" | "thawing") => Course::Probe,
            ("queued" | "connecting" | "stopping", _) | ("waiting", "doubt") => Course::Join,
            // backoff, parked, auto_disabled, and whatever else is waited for.
            _ => Course::Try,
        }
    }

    /// The API's word.
    pub fn word(self) -> &'static str {
        match self {
            Course::Skip(_) => "skipped",
            Course::Probe => "probed",
            Course::Try => "tried",
            Course::Join => "joined",
        }
    }
}

/// What is known of a server after one step of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    pub state: &'static str,
    pub phase: &'static str,
    pub life: Option<Life>,
}

/// What follows from a step for a recovery that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Wait,
    /// It came to rest before it was tried: now it is.
    Try,
    Back,
    /// The kind of what keeps it from coming back where that is not what its machine says.
    Failed(Option<FaultKind>),
}

/// One recovery of one server, and all who wait for it.
#[derive(Debug)]
pub struct Recovery {
    course: Course,
    named: bool,
    tried: bool,
    before: Glance,
    begun: Time,
    askers: Vec<Sender<Reconnected>>,
}

impl Recovery {
    pub fn new(course: Course, before: Glance, begun: Time) -> Recovery {
        let tried = matches!(course, Course::Probe | Course::Try);
        Recovery { course, named: false, tried, before, begun, askers: Vec::new() }
    }

    /// One more who asks. `false`: too many do.
    pub fn join(&mut self, ask: Ask) -> bool {
        let has_room = self.askers.len() < RECONNECT_ASKERS_MAX;
        if has_room {
            self.named |= ask.named;
            self.askers.push(ask.answer);
        }
        has_room
    }

    /// To be asked after every step, with the event that made it.
    pub fn next(&mut self, now: Glance, event: Event) -> Next {
        let by_a_person = matches!(
            event,
            Event::Reconnect | Event::Restart | Event::Want(_) | Event::Block(_) | Event::Wake
        );
        let away = Some(FaultKind::EngineAway);
        match (now.state, now.phase) {
            ("ready", _) if self.course != Course::Probe || now.life != self.before.life => Next::Back,
            ("ready", _) if matches!(event, Event::ProbeOk(_)) => Next::Back,
            ("ready", _) | ("waiting", "paused") if event == Event::EngineAway => Next::Failed(away),
            ("waiting", "paused") if matches!(event, Event::Paused(_)) => Next::Failed(None),
            ("ready", _) | ("waiting", "paused") => Next::Wait,
            ("sleeping", _) => Next::Back,
            ("disabled", _) => Next::Failed(Some(FaultKind::Stopped)),
            ("queued" | "connecting" | "stopping", _) | ("waiting", "doubt" | "thawing") => Next::Wait,
            // The engine was asked, and has not answered yet.
            ("waiting", "engine") if by_a_person => Next::Wait,
            ("waiting", "engine") => Next::Failed(away),
            ("parked" | "auto_disabled", _) if !self.named => Next::Failed(None),
            ("parked", "entry") => Next::Failed(None),
            _ if std::mem::replace(&mut self.tried, true) => Next::Failed(None),
            _ => Next::Try,
        }
    }

    /// Tells all who asked. `error`: why it is not back.
    pub fn end(self, name: &ServerName, after: Glance, error: Option<Fault>, now: Time) {
        let replaced = self.course == Course::Probe && self.before.life != after.life;
        let outcome = Reconnected {
            name: name.clone(),
            action: if replaced { "restarted" } else { self.course.word() },
            outcome: if error.is_none() { "ok" } else { "failed" },
            state_before: self.before.state,
            state_after: after.state,
            skipped: None,
            duration_ms: ms(now - self.begun),
            error,
        };
        for asker in self.askers {
            // Whoever asked may not have waited so long.
            let _ = asker.try_send(outcome.clone());
        }
    }
}

/// Somebody who wants a server back, and where the answer goes: it is never waited for.
#[derive(Debug)]
pub struct Ask {
    pub named: bool,
    pub answer: Sender<Reconnected>,
}

/// How it went for one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconnected {
    pub name: ServerName,
    /// `probed`: it ran and answered. `restarted`: it ran, did not answer, and was replaced. `tried`: its next try was
    /// made now. `joined`: it was on its way. `skipped`.
    pub action: &'static str,
    /// `ok`, `failed`, `skipped`, or `pending`: whoever asked did not wait for the end.
    pub outcome: &'static str,
    pub state_before: &'static str,
    pub state_after: &'static str,
    /// Why nothing was done.
    pub skipped: Option<&'static str>,
    pub duration_ms: u64,
    pub error: Option<Fault>,
}

impl Reconnected {
    pub fn skipped(name: &ServerName, state: &'static str, why: &'static str) -> Reconnected {
        let action = Course::Skip(why).word();
        Reconnected {
            name: name.clone(),
            action,
            outcome: "skipped",
            state_before: state,
            state_after: state,
            skipped: Some(why),
            duration_ms: 0,
            error: None,
        }
    }
}

pub fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant() {
        let name = |text: &str| ServerName(text.to_owned());
        let here = Endpoint::parse("unix:///run/docker.sock").unwrap();
        let there = Endpoint::parse("tcp://10.0.0.7:2375").unwrap();
        let check = |scope: &Scope, expected: [bool; 3]| {
            // A process, or a remote server; a container here; one there.
            let found = [
                scope.covers(&name("a"), None),
                scope.covers(&name("b"), Some(&here)),
                scope.covers(&name("c"), Some(&there)),
            ];
            assert_eq!(found, expected, "{scope:?}");
        };
        check(&Scope::All, [true, true, true]);
        check(&Scope::Engine(None), [false, true, true]);
        check(&Scope::Engine(Some(there.clone())), [false, false, true]);
        check(&Scope::Named(vec![name("a"), name("c")]), [true, false, true]);
        check(&Scope::Named(Vec::new()), [false, false, false]);
    }

    #[test]
    fn what_is_done() {
        let check = |state, phase, named: &str, meant: &str| {
            assert_eq!(Course::of(state, phase, true).word(), named, "{state} {phase}, named");
            assert_eq!(Course::of(state, phase, false).word(), meant, "{state} {phase}");
        };
        check("disabled", "", "skipped", "skipped");
        check("sleeping", "", "skipped", "skipped");
        check("parked", "entry", "skipped", "skipped");
        check("parked", "", "tried", "skipped");
        check("auto_disabled", "", "tried", "skipped");
        check("ready", "", "probed", "probed");
        check("waiting", "paused", "probed", "probed");
        check("waiting", "thawing", "probed", "probed");
        check("queued", "", "joined", "joined");
        check("connecting", "pulling", "joined", "joined");
        check("stopping", "kill", "joined", "joined");
        check("waiting", "doubt", "joined", "joined");
        check("backoff", "", "tried", "tried");
        check("waiting", "host", "tried", "tried");
        check("waiting", "reconnect", "tried", "tried");
        check("waiting", "engine", "tried", "tried");
    }

    const LIFE: Life = Life(3);

    fn at(state: &'static str, phase: &'static str, life: u64) -> Glance {
        Glance { state, phase, life: (life > 0).then_some(Life(life)) }
    }

    /// What a recovery that began at `before` says to each step.
    fn check(before: Glance, named: bool, steps: &[(Glance, Event, Next)]) {
        let course = Course::of(before.state, before.phase, named);
        let mut recovery = Recovery::new(course, before, Time::ZERO);
        let (answer, _hear) = crossbeam_channel::bounded(1);
        assert!(recovery.join(Ask { named, answer }));
        for (now, event, expected) in steps {
            assert_eq!(recovery.next(*now, *event), *expected, "{before:?}: {now:?} by {event:?}");
        }
    }

    #[test]
    fn one_that_runs() {
        let ready = at("ready", "", 3);
        check(
            ready,
            true,
            &[
                (ready, Event::Reconnect, Next::Wait),
                (ready, Event::EngineUp, Next::Wait),
                (ready, Event::ProbeOk(LIFE), Next::Back),
            ],
        );
        check(
            ready,
            true,
            &[
                (ready, Event::Reconnect, Next::Wait),
                (at("stopping", "close_input", 3), Event::Due, Next::Wait),
                (at("queued", "", 0), Event::Gone(LIFE), Next::Wait),
                (at("ready", "", 4), Event::Discovered(Life(4)), Next::Back),
            ],
        );
        check(
            ready,
            true,
            &[
                (ready, Event::Reconnect, Next::Wait),
                (ready, Event::EngineAway, Next::Failed(Some(FaultKind::EngineAway))),
            ],
        );
        let paused = at("waiting", "paused", 3);
        check(
            paused,
            true,
            &[(paused, Event::Reconnect, Next::Wait), (paused, Event::Paused(LIFE), Next::Failed(None))],
        );
    }

    #[test]
    fn one_that_waits() {
        let engine = at("waiting", "engine", 0);
        check(
            engine,
            false,
            &[
                (engine, Event::Reconnect, Next::Wait),
                (engine, Event::EngineAway, Next::Failed(Some(FaultKind::EngineAway))),
            ],
        );
        check(
            engine,
            false,
            &[
                (engine, Event::Reconnect, Next::Wait),
                (at("queued", "", 0), Event::EngineUp, Next::Wait),
                (at("connecting", "spawning", 4), Event::Admitted(Life(4)), Next::Wait),
                (at("waiting", "reconnect", 0), Event::EngineUp, Next::Failed(None)),
            ],
        );
        check(
            at("backoff", "", 0),
            false,
            &[
                (at("queued", "", 0), Event::Reconnect, Next::Wait),
                (at("auto_disabled", "", 0), Event::Gone(Life(4)), Next::Failed(None)),
            ],
        );
    }

    /// What comes to rest without having been tried is tried once.
    #[test]
    fn one_that_was_on_its_way() {
        let stopping = at("stopping", "clear", 3);
        let backoff = at("backoff", "", 0);
        check(
            stopping,
            false,
            &[
                (stopping, Event::Reconnect, Next::Wait),
                (backoff, Event::Gone(LIFE), Next::Try),
                (at("queued", "", 0), Event::Reconnect, Next::Wait),
                (backoff, Event::Gone(Life(4)), Next::Failed(None)),
            ],
        );
        let given_up = at("auto_disabled", "", 0);
        check(stopping, false, &[(given_up, Event::Gone(LIFE), Next::Failed(None))]);
        check(stopping, true, &[(given_up, Event::Gone(LIFE), Next::Try)]);
        check(
            stopping,
            true,
            &[(at("disabled", "", 0), Event::Gone(LIFE), Next::Failed(Some(FaultKind::Stopped)))],
        );
        check(stopping, true, &[(at("sleeping", "", 0), Event::Gone(LIFE), Next::Back)]);
    }

    #[test]
    fn all_hear_the_same() {
        let before = at("backoff", "", 0);
        let mut recovery = Recovery::new(Course::Try, before, Time::ZERO);
        let ears: Vec<_> = (0..3)
            .map(|_| {
                let (answer, hear) = crossbeam_channel::bounded(1);
                assert!(recovery.join(Ask { named: true, answer }));
                hear
            })
            .collect();
        let now = Time::ZERO + Duration::from_millis(70);
        recovery.end(&ServerName("a".to_owned()), at("ready", "", 4), None, now);
        let heard: Vec<Reconnected> = ears.iter().map(|hear| hear.try_recv().unwrap()).collect();
        assert_eq!((heard[0].outcome, heard[0].state_after, heard[0].duration_ms), ("ok", "ready", 70));
        assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
    }
}
