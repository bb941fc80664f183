//! What people are told of an engine's outages, in order, with the result: `engine::tidings`.

use super::ear::Ear;
use super::scripted::Scripted;
use crate::support::PATIENCE;
use mcpvisor::base::fault::{Fault, FaultKind};
use mcpvisor::engine::engines::{Engines, Terms};
use mcpvisor::engine::outage::{Cause, Policy};
use mcpvisor::engine::tidings::{Failed, Recovered, Tidings};
use mcpvisor::engine::watched::{Settled, Subscription, Watched};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An engine that is watched, one who lives on it to hear how it is, and what people are told.
struct Scene {
    engine: Scripted,
    watched: Arc<Watched>,
    ear: Ear,
    told: Receiver<Tidings>,
}

fn up(policy: Policy) -> Scene {
    let engine = Scripted::start();
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let terms = Terms {
        policy: Policy { ladder: vec![Duration::from_millis(50)], ..policy },
        // Who does not listen any more is no reason to fail.
        told: Some(Arc::new(move |_, tidings| drop(tell.lock().unwrap().send(tidings.clone())))),
        ..Terms::default()
    };
    let watched = Engines::new(terms).get(engine.endpoint()).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    let scene = Scene { engine, watched, ear, told };
    assert_eq!(scene.next(), Tidings::Up {});
    scene
}

impl Scene {
    fn next(&self) -> Tidings {
        self.told.recv_timeout(PATIENCE).expect("people are told something")
    }

    fn server(&self, name: &str) -> Subscription {
        let subscription = self.watched.subscribe_as(name, |_| ());
        self.ear.subscription.settled(Settled::Unhurt);
        subscription
    }

    fn go_away(&self, answer: (u16, &'static str), cause: Cause) {
        self.engine.say("ping", Some(answer));
        self.watched.ask();
        let told = self.next();
        let Tidings::Away { cause: said, reason } = &told else { panic!("{told:?}") };
        assert_eq!((*said, reason.kind), (cause, FaultKind::EngineAway));
        assert!(!reason.hint.is_empty());
    }

    /// It answers, and people are told that nobody is back yet.
    fn come_back(&self, of: u32) {
        self.engine.say("ping", None);
        let told = self.next();
        assert!(matches!(told, Tidings::Recovering { done: 0, of: said, .. } if said == of), "{told:?}");
        self.ear.subscription.settled(Settled::Unhurt);
    }

    fn progress(&self) -> (u32, u32) {
        let told = self.next();
        let Tidings::Recovering { done, of, .. } = told else { panic!("{told:?}") };
        (done, of)
    }

    fn result(&self) -> Recovered {
        let told = self.next();
        let Tidings::Recovered(result) = told else { panic!("{told:?}") };
        result
    }
}

const GONE: (u16, &str) = (500, r#"{"message":"gone"}"#);
const DENIED: (u16, &str) = (403, "no");

#[test]
fn an_outage_has_a_start_a_course_and_a_result() {
    let scene = up(Policy::default());
    let [a, b, c] = ["a", "b", "c"].map(|name| scene.server(name));
    scene.go_away(GONE, Cause::Down);
    // Another cause is told, as the same outage.
    scene.go_away(DENIED, Cause::Denied);
    scene.come_back(4);
    b.settled(Settled::Back);
    assert_eq!(scene.progress(), (1, 3));
    let why = Fault::new(FaultKind::ImageNotFound, "no such image").hint("pull it");
    c.failed(Some(why.clone()));
    assert_eq!(scene.progress(), (2, 3));
    a.settled(Settled::Back);
    let result = scene.result();
    assert_eq!((result.cause, result.recovered, result.of), (Cause::Denied, 2, 3));
    assert_eq!(result.failed, [Failed { server: "c".to_owned(), reason: Some(why) }]);
    let kept = scene.watched.state().outages.clone();
    assert_eq!(
        (kept.last_outage_ms, kept.last_recovery_ms),
        (Some(result.outage_ms), Some(result.duration_ms))
    );
    // The next one knows nothing of it.
    scene.go_away(GONE, Cause::Down);
    scene.come_back(4);
    [&a, &b].iter().for_each(|one| one.settled(Settled::Unhurt));
    c.settled(Settled::Back);
    let result = scene.result();
    assert_eq!((result.recovered, result.of, result.failed), (1, 1, vec![]));
}

#[test]
fn who_is_late_is_named_without_a_reason() {
    let scene = up(Policy { recovery_patience: Duration::from_millis(300), ..Policy::default() });
    let [a, _b] = ["a", "b"].map(|name| scene.server(name));
    scene.go_away(GONE, Cause::Down);
    scene.come_back(3);
    a.settled(Settled::Back);
    assert_eq!(scene.progress(), (1, 2));
    let result = scene.result();
    assert_eq!((result.recovered, result.of), (1, 2));
    assert_eq!(result.failed, [Failed { server: "b".to_owned(), reason: None }]);
}

#[test]
fn one_that_goes_again_ends_once() {
    let scene = up(Policy::default());
    let a = scene.server("a");
    scene.go_away(GONE, Cause::Down);
    scene.come_back(2);
    scene.go_away(GONE, Cause::Down);
    scene.come_back(2);
    a.settled(Settled::Back);
    assert_eq!(scene.result().recovered, 1);
    // Also when only its event stream ends meanwhile.
    scene.go_away(GONE, Cause::Down);
    scene.come_back(2);
    scene.engine.cut_streams();
    let told = scene.next();
    assert!(matches!(told, Tidings::Recovering { done: 0, of: 2, .. }), "{told:?}");
    scene.ear.subscription.settled(Settled::Unhurt);
    a.settled(Settled::Back);
    assert_eq!(scene.result().recovered, 1);
}

#[test]
fn a_stream_that_only_ended_is_told_as_that() {
    let scene = up(Policy::default());
    let a = scene.server("a");
    scene.engine.cut_streams();
    assert_eq!(scene.next(), Tidings::Reconnected {});
    [&a, &scene.ear.subscription].iter().for_each(|one| one.settled(Settled::Unhurt));
    scene.go_away(GONE, Cause::Down);
}
