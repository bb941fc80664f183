//! Who may be removed from an engine, by whom: the sweep, `cleanup` and what the guardian does, on a real engine, and
//! on a fake one that fails on command. What a whole daemon does is in `docker/`.
//!
//! Containers are made here with the labels of somebody who is dead, alive, or elsewhere.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts processes by the ordinary way"
)]

use crate::support::daemon::{self, Ran};
use crate::support::dockerd::Dockerd;
use crate::support::engine::Engine;
use crate::support::fake_engine::{FakeEngine, Fault};
use crate::support::{TempDir, images, measure_over, until};
use mcpvisor::base::time::Wall;
use mcpvisor::engine::api::Engine as Client;
use mcpvisor::engine::endpoint::Endpoint;
use mcpvisor::engine::patience::Patience;
use mcpvisor::reaper::bequest::Bequest;
use mcpvisor::reaper::containers::{clear_dead, clear_earlier};
use mcpvisor::reaper::instance::Instance;
use mcpvisor::reaper::labels::Labels;
use mcpvisor::reaper::link::Line;
use mcpvisor::reaper::mark::{Mark, Marker, Owner, Place};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const OURS: &str = "11111111111111111111111111111111";
const OTHER: &str = "22222222222222222222222222222222";
const SESSION: &str = "55555555555555555555555555555555";

/// Has no process, in this boot and namespace.
fn dead() -> Owner {
    Owner { pid: 1 << 30, start: 7, place: Place::here() }
}

fn labels_of(instance: &str, session: &str, owner: Option<Owner>) -> Labels {
    let (instance, session) = (instance.to_owned(), session.to_owned());
    let mark = Mark { instance, session, server: "git".to_owned(), life: 1, owner };
    Labels::of(&mark, "shared", "c0ffee", Wall(1_795_169_907_123))
}

fn json_of(labels: &Labels) -> Value {
    json!(labels.pairs().into_iter().collect::<BTreeMap<String, String>>())
}

struct Bench {
    own: Dockerd,
    engine: Engine,
    image: String,
}

impl Bench {
    fn new() -> Option<Bench> {
        let own = Dockerd::own()?;
        let engine = own.engine();
        let image = images::busybox(&engine);
        Some(Bench { own, engine, image })
    }

    fn made(&self, name: &str, labels: &Labels) -> String {
        self.engine.sleeper(name, &self.image, &json_of(labels))
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.engine.host()).unwrap()
    }

    fn client(&self) -> Client {
        Client::new(self.endpoint())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.engine.containers(&[]).into_iter().map(|each| each.name).collect();
        names.sort();
        names
    }

    /// Everything that must survive whoever sweeps, by name.
    fn strangers(&self) -> Vec<String> {
        let me = Owner::ourselves();
        let far = Owner { place: Place { boot: "of-another-host".to_owned(), ..Place::here() }, ..dead() };
        let out_of_sight = Owner { place: Place { pid_namespace: 1, ..Place::here() }, ..dead() };
        let elsewhere = Labels { host: "0123456789ab".to_owned(), ..labels_of(OTHER, SESSION, Some(far)) };
        let mut half = json_of(&labels_of(OURS, SESSION, Some(dead())));
        half.as_object_mut().unwrap().remove("mcpvisor.session");
        let all = [
            ("github-mcp-server", json!({})),
            (&format!("mcpvisor-{}-git-a", &OURS[..8]), json!({})),
            ("other-and-alive", json_of(&labels_of(OTHER, SESSION, Some(me)))),
            ("other-out-of-sight", json_of(&labels_of(OTHER, SESSION, Some(out_of_sight)))),
            ("other-without-owner", json_of(&labels_of(OTHER, SESSION, None))),
            ("other-host", json_of(&elsewhere)),
            ("half-labelled", half),
            ("of-mcpmon", json!({ "mcpmon.managed": "true", "mcpmon.pid": (1 << 30).to_string() })),
        ];
        for (name, labels) in &all {
            self.engine.sleeper(name, &self.image, labels);
        }
        let mut names: Vec<String> = all.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        names
    }

    fn cleanup(&self, state: &TempDir, more: &[&str]) -> Ran {
        let mut command = daemon::command();
        command.args(["--state-dir", state.path().to_str().unwrap(), "cleanup"]).args(more);
        daemon::run(command.env("DOCKER_HOST", self.engine.host()))
    }
}

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(60))
}

fn names(suspects: &[mcpvisor::reaper::containers::Suspect]) -> Vec<&str> {
    let mut names: Vec<&str> = suspects.iter().map(|suspect| suspect.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_daemon_clears_what_is_its_own_first_and_the_dead_behind() {
    let Some(bench) = Bench::new() else { return };
    let strangers = bench.strangers();
    let marker = Marker {
        instance: OURS.to_owned(),
        session: "66666666666666666666666666666666".to_owned(),
        owner: Owner::ourselves(),
    };
    let out_of_sight = Owner { place: Place { pid_namespace: 1, ..Place::here() }, ..dead() };
    let earlier_boot = Owner { place: Place { boot: "earlier".to_owned(), ..Place::here() }, ..dead() };
    bench.made("ours-dead", &labels_of(OURS, SESSION, Some(dead())));
    bench.made("ours-in-a-lost-namespace", &labels_of(OURS, SESSION, Some(out_of_sight)));
    let stopped = bench.made("ours-stopped", &labels_of(OURS, SESSION, Some(dead())));
    bench.engine.kill(&stopped, "KILL");
    bench.made("current", &labels_of(OURS, &marker.session, Some(marker.owner.clone())));
    bench.made("ours-without-owner", &labels_of(OURS, SESSION, None));
    bench.made("other-dead", &labels_of(OTHER, SESSION, Some(dead())));
    bench.made("other-of-an-earlier-boot", &labels_of(OTHER, SESSION, Some(earlier_boot)));

    let report = clear_earlier(&bench.client(), &marker, &patience()).unwrap();
    assert_eq!(names(&report.removed), ["ours-dead", "ours-in-a-lost-namespace", "ours-stopped"]);
    assert_eq!(names(&report.kept), ["current", "ours-without-owner"]);
    assert_eq!(report.left, []);
    let report = clear_dead(&bench.client(), &marker, &patience()).unwrap();
    assert_eq!(names(&report.removed), ["other-dead", "other-of-an-earlier-boot"]);
    let mut left = strangers;
    left.extend(["current".to_owned(), "ours-without-owner".to_owned()]);
    left.sort();
    assert_eq!(bench.names(), left);
    assert!(clear_dead(&bench.client(), &marker, &patience()).unwrap().lines().is_empty());

    drop(bench.own);
    let gone = Client::new(Endpoint::parse(&bench.engine.host()).unwrap());
    assert!(clear_earlier(&gone, &marker, &patience()).unwrap_err().is_away());
}

#[test]
fn cleanup_removes_orphans_and_nothing_else() {
    let Some(bench) = Bench::new() else { return };
    let strangers = bench.strangers();
    let state = TempDir::new();
    let ours = Instance::open(state.path()).unwrap().id;
    bench.made("ours-dead", &labels_of(&ours, SESSION, Some(dead())));
    bench.made("ours-without-owner", &labels_of(&ours, SESSION, None));
    bench.made("other-dead", &labels_of(OTHER, SESSION, Some(dead())));
    let listed = |report: &Value, list: &str| -> Vec<String> {
        let entries = report["containers"][list].as_array().unwrap().iter();
        let mut names: Vec<String> =
            entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };

    let looked = bench.cleanup(&state, &["--dry-run", "--json"]);
    assert_eq!(looked.code, 0, "{looked:?}");
    let report: Value = serde_json::from_str(&looked.stdout).unwrap();
    assert_eq!(listed(&report, "removed"), ["ours-dead", "ours-without-owner"], "{looked:?}");
    assert_eq!(listed(&report, "elsewhere"), ["other-dead"], "{looked:?}");
    assert_eq!(report["containers"]["removed"][0]["session"], SESSION);
    assert_eq!(bench.names().len(), strangers.len() + 3, "a look removes nothing");

    let done = bench.cleanup(&state, &["--force", "--verbose"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("Removed 2 containers:\n"), "{done:?}");
    assert!(done.stdout.contains("Other dead instances left 1 container:\n"), "{done:?}");
    assert!(done.stdout.contains("it is of another host"), "what is kept is explained: {done:?}");
    let _alone = crate::support::dead_instances();
    let all = bench.cleanup(&state, &["--force", "--all"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(bench.names(), strangers);
    let again = bench.cleanup(&state, &["--force", "--all"]);
    assert_eq!((again.code, bench.names()), (3, strangers.clone()), "{again:?}");

    let mcpmon = bench.cleanup(&state, &["--force", "--include-mcpmon"]);
    assert_eq!(mcpmon.code, 0, "{mcpmon:?}");
    let everywhere = bench.cleanup(&state, &["--force", "--all-hosts"]);
    assert_eq!(everywhere.code, 0, "{everywhere:?}");
    let kept: Vec<String> =
        strangers.into_iter().filter(|name| name != "of-mcpmon" && name != "other-host").collect();
    assert_eq!(bench.names(), kept, "{mcpmon:?} {everywhere:?}");
}

#[test]
fn cleanup_says_which_engine_it_could_not_ask() {
    let Some(bench) = Bench::new() else { return };
    let state = TempDir::new();
    let ours = Instance::open(state.path()).unwrap().id;
    bench.made("ours-dead", &labels_of(&ours, SESSION, Some(dead())));
    let nowhere = format!("unix://{}", state.join("no.sock"));
    let ran = bench.cleanup(&state, &["--force", "--engine", &nowhere]);
    assert_eq!(ran.code, 8, "{ran:?}");
    assert!(ran.stdout.contains("Removed 1 container:\n") && ran.stdout.contains(&nowhere), "{ran:?}");
    assert_eq!(bench.names(), Vec::<String>::new(), "what could be done was done");
    let bad = bench.cleanup(&state, &["--engine", "ssh://host"]);
    assert_eq!(bad.code, 2, "{bad:?}");
}

#[test]
fn twenty_orphans_are_removed_in_time() {
    let Some(bench) = Bench::new() else { return };
    let state = TempDir::new();
    let ours = Instance::open(state.path()).unwrap().id;
    for n in 0..20 {
        bench.made(&format!("orphan-{n}"), &labels_of(&ours, SESSION, Some(dead())));
    }
    let begun = Instant::now();
    let ran = bench.cleanup(&state, &["--force"]);
    let took = begun.elapsed();
    println!("cleanup of 20 containers: {took:?}");
    assert_eq!((ran.code, bench.names()), (0, Vec::<String>::new()), "{ran:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
}

/// What the guardian does once the daemon is gone: the known, the unknown, and what comes late.
#[test]
fn a_dead_sessions_containers_are_ended() {
    let Some(bench) = Bench::new() else { return };
    let strangers = bench.strangers();
    let labels = labels_of(OURS, "77777777777777777777777777777777", Some(dead()));
    let mut bequest = Bequest::default();
    bequest.note(Line::Engine { endpoint: bench.endpoint() });
    for n in 0..10 {
        let id = bench.made(&format!("stubborn-{n}"), &labels);
        if n % 2 == 0 {
            bequest.note(Line::Container { id, grace_ms: 60_000 });
        }
    }
    // A line that names somebody else's is not believed.
    let id = bench.engine.containers(&[]).into_iter().find(|each| each.name == "other-and-alive").unwrap().id;
    bequest.note(Line::Container { id, grace_ms: 0 });
    let begun = Instant::now();
    let ended = std::thread::scope(|scope| {
        let ending = scope.spawn(|| bequest.end(&labels.session, true));
        measure_over(Duration::from_secs(2));
        bench.made("late", &labels);
        ending.join().unwrap()
    });
    let took = begun.elapsed();
    println!("a dead session of 11 containers that ignore their stop signal: {took:?}");
    assert_eq!((ended.removed.len(), &ended.left, &ended.unseen), (11, &vec![], &vec![]), "{ended:?}");
    assert_eq!(bench.names(), strangers);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn an_engine_that_is_silent_keeps_nobody_for_long() {
    let Some(bench) = Bench::new() else { return };
    let labels = labels_of(OURS, SESSION, Some(dead()));
    let id = bench.made("known", &labels);
    let mut bequest = Bequest::default();
    bequest.note(Line::Engine { endpoint: bench.endpoint() });
    bequest.note(Line::Container { id, grace_ms: 500 });
    bench.own.pause();
    let begun = Instant::now();
    let ended = bequest.end(SESSION, true);
    let took = begun.elapsed();
    bench.own.cont();
    assert!(ended.removed.is_empty() && ended.unseen.len() == 1, "{ended:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    until("the engine to be back", || bench.engine.is_up().then_some(()));
    assert_eq!(bench.names(), ["known"]);
}

fn planted(fake: &FakeEngine, name: &str, labels: &Labels) -> String {
    let pairs = labels.pairs();
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fake.plant(name, &pairs, true)
}

fn left_on(fake: &FakeEngine) -> Vec<String> {
    let mut ids: Vec<String> = fake.containers().into_iter().map(|seen| seen.id).collect();
    ids.sort();
    ids
}

fn current() -> Marker {
    let session = "66666666666666666666666666666666".to_owned();
    Marker { instance: OURS.to_owned(), session, owner: Owner::ourselves() }
}

#[test]
fn a_sweep_reports_what_an_engine_refuses() {
    #[track_caller]
    fn check(call: &str, fault: Fault, removed: usize) {
        let fake = FakeEngine::start();
        (0..2).for_each(|n| {
            drop(planted(&fake, &format!("dead-{n}"), &labels_of(OURS, SESSION, Some(dead()))))
        });
        let stranger = fake.plant("stranger", &[], true);
        fake.fault_next(call, fault, 1);
        let client = Client::new(fake.endpoint());
        let report = clear_earlier(&client, &current(), &Patience::of(Duration::from_secs(30))).unwrap();
        assert_eq!((report.removed.len(), report.left.len()), (removed, 2 - removed), "{call}: {report:?}");
        assert_eq!(left_on(&fake).len(), 1 + report.left.len(), "{call}");
        assert!(left_on(&fake).contains(&stranger));
    }
    check("remove", Fault::Status(500), 1);
    // "It is under way": waited for in vain.
    check("remove", Fault::Status(409), 1);
    // Done, and the answer lost: a look shows it.
    check("remove", Fault::Half, 2);
    check("inspect", Fault::Status(500), 1);
    check("inspect", Fault::Garbage, 1);
}

#[test]
fn without_a_list_nothing_is_touched() {
    for fault in [Fault::Status(500), Fault::Garbage] {
        let fake = FakeEngine::start();
        planted(&fake, "dead", &labels_of(OURS, SESSION, Some(dead())));
        fake.fault_next("list", fault, 1);
        assert!(clear_earlier(&Client::new(fake.endpoint()), &current(), &patience()).is_err());
        assert_eq!((left_on(&fake).len(), fake.count("remove")), (1, 0));
    }
}

#[test]
fn a_dead_sessions_containers_are_ended_by_an_engine_that_stumbles() {
    let fake = FakeEngine::start();
    let labels = labels_of(OURS, SESSION, Some(dead()));
    let known = planted(&fake, "known", &labels);
    planted(&fake, "found", &labels);
    let other = planted(&fake, "other", &labels_of(OURS, "8".repeat(32).as_str(), Some(dead())));
    for (call, fault) in [
        ("list", Fault::Status(500)),
        ("inspect", Fault::Status(500)),
        ("kill", Fault::Half),
        ("remove", Fault::Status(500)),
    ] {
        fake.fault_next(call, fault, 1);
    }
    let mut bequest = Bequest::default();
    bequest.note(Line::Engine { endpoint: fake.endpoint() });
    bequest.note(Line::Container { id: known, grace_ms: 200 });
    let ended = bequest.end(SESSION, true);
    assert_eq!((ended.removed.len(), &ended.left, &ended.unseen), (2, &vec![], &vec![]), "{ended:?}");
    assert_eq!(left_on(&fake), [other]);
}

/// Without a crash there is one look, and nobody waits.
#[test]
fn after_an_orderly_end_one_look_is_enough() {
    let fake = FakeEngine::start();
    planted(&fake, "forgotten", &labels_of(OURS, SESSION, Some(dead())));
    let mut bequest = Bequest::default();
    bequest.note(Line::Engine { endpoint: fake.endpoint() });
    let ended = bequest.end(SESSION, false);
    assert_eq!((ended.removed.len(), fake.count("list"), left_on(&fake).len()), (1, 1, 0), "{ended:?}");
}
