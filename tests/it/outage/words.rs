//! What an engine says of itself, and what those who live on it hear: against one that is told what to say.

use super::ear::{Ear, within};
use super::scripted::Scripted;
use crate::support::{measure_over, until};
use mcpvisor::engine::endpoint::Endpoint;
use mcpvisor::engine::engines::{Engines, Memory, Terms};
use mcpvisor::engine::outage::Policy;
use mcpvisor::engine::watched::{Happened, Settled};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PAUSED: &str =
    r#"{"message":"Docker Desktop is manually paused. Unpause it through the Whale menu or Dashboard."}"#;

fn label() -> Option<(String, String)> {
    Some(("mcpvisor.instance".to_owned(), "me".to_owned()))
}

/// Short steps, so that a test of the ladder does not take minutes.
fn quick() -> Policy {
    Policy { ladder: vec![Duration::from_millis(100)], ..Policy::default() }
}

fn engines(policy: Policy) -> Engines {
    Engines::new(Terms { policy, label: label(), ..Terms::default() })
}

#[test]
fn paused_is_the_engines_own_word() {
    let engine = Scripted::start();
    let watched = engines(quick()).get(engine.endpoint()).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    engine.say("ping", Some((503, PAUSED)));
    watched.ask();
    let (_, fault) = ear.away("paused");
    assert!(fault.hint.contains("Resume"), "{fault}");
    let state = watched.state();
    assert_eq!((state.state, state.cause), ("away", Some("paused")));
    engine.say("ping", None);
    let resumed = Instant::now();
    within("resumed to up, steps of 100 ms", resumed, ear.up(), Duration::from_secs(2));
    assert_eq!(watched.state().state, "recovering");
    ear.subscription.settled(Settled::Back);
    until("the end of the recovery", || (watched.state().state == "up").then_some(()));
    let outages = watched.state().outages.clone();
    assert_eq!((outages.count, outages.recovered, outages.failed), (1, 1, 0));
}

#[test]
fn another_error_is_no_pause_and_a_proxys_refusal_is_denied() {
    let engine = Scripted::start();
    engine.say("ping", Some((500, r#"{"message":"starting"}"#)));
    let watched = engines(quick()).get(engine.endpoint()).unwrap();
    let ear = Ear::at(&watched);
    assert!(ear.away("down").1.message.ends_with("ping: starting"));
    engine.say("ping", Some((403, "no")));
    assert!(ear.away("denied").1.hint.contains("group"));
    engine.say("ping", None);
    ear.up();
}

#[test]
fn an_engine_that_gives_no_events_is_watched_by_pings() {
    let engine = Scripted::start();
    engine.say("events", Some((403, "forbidden by administrative rules")));
    let policy = Policy { streamless_every: Duration::from_millis(50), ..quick() };
    let watched = engines(policy).get(engine.endpoint()).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    assert!(!watched.state().events);
    engine.say("ping", Some((500, "gone")));
    ear.away("down");
    engine.say("events", None);
    engine.say("ping", None);
    ear.up();
    until("its events", || watched.state().events.then_some(()));
}

#[test]
fn a_storm_of_doubt_is_a_few_pings() {
    let engine = Scripted::start();
    let watched = engines(quick()).get(engine.endpoint()).unwrap();
    let ears: Vec<Ear> = (0..5).map(|_| Ear::at(&watched)).collect();
    for ear in &ears {
        ear.up();
    }
    let before = engine.calls("ping");
    (0..1_000).for_each(|_| watched.ask());
    for ear in &ears {
        ear.up();
    }
    let pings = engine.calls("ping") - before;
    println!("1000 asks: {pings} pings");
    assert!(pings <= 1_000 / 2, "{pings} pings");
    assert_eq!(watched.state().outages.count, 0);
}

#[test]
fn a_stream_that_is_cut_is_heard_and_is_no_outage() {
    let engine = Scripted::start();
    let watched = engines(quick()).get(engine.endpoint()).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    let cut = Instant::now();
    engine.cut_streams();
    let (at, _) = ear.away("down");
    within("stream cut to away", cut, at, Duration::from_secs(1));
    within("stream cut to up", cut, ear.up(), Duration::from_secs(2));
    ear.subscription.settled(Settled::Unhurt);
    until("up", || (watched.state().state == "up").then_some(()));
    assert_eq!(watched.state().outages.count, 0);
}

#[test]
fn containers_are_heard_of_by_who_follows_them_and_counted() {
    let engine = Scripted::start();
    engine.list(r#"[{"Id":"aa","State":"running"},{"Id":"bb","State":"running"}]"#);
    let watched = engines(quick()).get(engine.endpoint()).unwrap();
    let (one, other) = (Ear::at(&watched), Ear::at(&watched));
    one.up();
    other.up();
    assert_eq!(watched.state().containers, 2);
    one.subscription.follow("aa");
    other.subscription.follow("bb");
    engine.tell("pause", "aa");
    assert_eq!(one.happened().1, Happened::Paused);
    engine.tell("unpause", "aa");
    assert_eq!(one.happened().1, Happened::Unpaused);
    engine.tell("oom", "aa");
    engine.tell("die", "aa");
    assert_eq!(one.happened().1, Happened::Oom);
    assert!(watched.oomed("aa") && !watched.oomed("bb"));
    assert_eq!(one.happened().1, Happened::Died(None));
    engine.tell("create", "cc");
    engine.tell("destroy", "aa");
    assert_eq!(one.happened().1, Happened::Gone);
    other.nothing_more();
    // What happened while nobody could hear it is in the list.
    engine.list(r#"[{"Id":"bb","State":"paused"}]"#);
    engine.cut_streams();
    one.away("down");
    other.away("down");
    assert_eq!(other.happened().1, Happened::Paused);
    assert_eq!(one.happened().1, Happened::Gone);
    one.up();
    other.up();
    until("the count", || (watched.state().containers == 1).then_some(()));
}

#[test]
fn the_first_up_waits_for_the_sweep_but_not_for_ever() {
    let engine = Scripted::start();
    let swept = Arc::new(AtomicUsize::new(0));
    let count = swept.clone();
    let policy = Policy { sweep_patience: Duration::from_millis(200), ..quick() };
    let terms = Terms {
        policy,
        label: label(),
        sweep: Some(Arc::new(move |engine, patience| {
            assert!(engine.list(&[("mcpvisor.instance", "me")], patience).is_ok());
            count.fetch_add(1, Ordering::SeqCst);
        })),
        ..Terms::default()
    };
    let watched = Engines::new(terms.clone()).get(engine.endpoint()).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    assert_eq!(swept.load(Ordering::SeqCst), 1);
    engine.cut_streams();
    ear.away("down");
    ear.up();
    assert_eq!(swept.load(Ordering::SeqCst), 1, "once is enough");
    // One that does not end in time does not hold up the start.
    let slow = Terms { sweep: Some(Arc::new(|_, _| measure_over(Duration::from_millis(1_500)))), ..terms };
    let (begun, watched) = (Instant::now(), Engines::new(slow).get(engine.endpoint()).unwrap());
    within("up beside a slow sweep", begun, Ear::at(&watched).up(), Duration::from_millis(1_200));
}

#[test]
fn one_endpoint_is_one_engine_and_late_comers_hear_what_is() {
    let engine = Scripted::start();
    let engines = engines(quick());
    let (a, b) = (engines.get(engine.endpoint()).unwrap(), engines.get(engine.endpoint()).unwrap());
    assert!(Arc::ptr_eq(&a, &b));
    Ear::at(&a).up();
    Ear::at(&b).up();
    until("what it says of itself", || engines.snapshots()[0].version.clone());
    let row = serde_json::to_value(&*engines.snapshots()[0]).unwrap();
    assert_eq!(
        (&row["id"], &row["version"], &row["api_version"]),
        (&"SCRIPTED".into(), &"27.1".into(), &"1.41".into())
    );
    assert_eq!((&row["state"], &row["events"]), (&"up".into(), &true.into()));
    let nobody = engines.get(Endpoint::parse("unix:///nonexistent/docker.sock").unwrap()).unwrap();
    Ear::at(&nobody).away("down");
    assert_eq!(engines.snapshots().len(), 2);
}

#[test]
fn outages_are_remembered_across_restarts() {
    let engine = Scripted::start();
    let kept: Arc<Mutex<Option<String>>> = Arc::default();
    let (read, write) = (kept.clone(), kept.clone());
    let memory = Memory {
        recall: Arc::new(move |_| read.lock().unwrap().clone()),
        remember: Arc::new(move |_, text| *write.lock().unwrap() = Some(text.to_owned())),
    };
    let terms = Terms { policy: quick(), memory: Some(memory), ..Terms::default() };
    for run in 1..=2 {
        let watched = Engines::new(terms.clone()).get(engine.endpoint()).unwrap();
        let (good, bad, elsewhere) = (Ear::at(&watched), Ear::at(&watched), Ear::at(&watched));
        good.up();
        engine.say("ping", Some((503, PAUSED)));
        watched.ask();
        until("the outage", || (watched.state().cause == Some("paused")).then_some(()));
        engine.say("ping", None);
        until("recovering", || (watched.state().state == "recovering").then_some(()));
        good.subscription.settled(Settled::Back);
        elsewhere.subscription.settled(Settled::Unhurt);
        let progress =
            until("one of two", || watched.state().recovery.filter(|now| (now.done, now.of) == (1, 2)));
        println!("run {run}: {progress:?}");
        bad.subscription.settled(Settled::Failed);
        until("the end", || (watched.state().state == "up").then_some(()));
        let now = watched.state().outages.clone();
        assert_eq!((now.count, now.recovered, now.failed), (run, run, run));
        assert!(now.last_at.is_some() && now.last_recovery_at.is_some());
        assert!(now.last_outage_ms.is_some() && now.last_recovery_ms.is_some());
    }
}
