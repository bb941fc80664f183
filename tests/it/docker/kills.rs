//! `kill -9` of the daemon, of its guardian, of both, at every moment of a container's life: none is left.

use super::scene::{GONE, STUBBORN, Scene, config, isolated, of_instance};
use crate::support::dockerd::Dockerd;
use crate::support::engine::Engine;
use crate::support::{TempDir, images, measure_over, until};
use serde_json::Value;
use std::time::{Duration, Instant};

const SERVERS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Guardian,
    Both,
}

fn ten(image: &str) -> Value {
    let names: Vec<String> = (0..SERVERS).map(|n| format!("s{n}")).collect();
    config(names.iter().map(|name| (name.as_str(), isolated(image, STUBBORN))).collect())
}

fn ready(scene: &Scene) {
    let names: Vec<String> = (0..SERVERS).map(|n| format!("s{n}")).collect();
    scene.daemon.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(scene.containers().len(), SERVERS);
}

/// Ten servers that ignore EOF and SIGTERM, and who is killed.
fn check(victim: Victim) {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let config = ten(&image);
    let mut scene = Scene::starting(&engine, TempDir::new(), &config);
    ready(&scene);
    let before: Vec<String> = scene.containers().into_iter().map(|each| each.id).collect();
    let begun = Instant::now();
    match victim {
        Victim::Daemon => scene.daemon.kill9(scene.daemon.daemon_pid()),
        Victim::Guardian => scene.daemon.kill9(scene.daemon.guardian_pid()),
        Victim::Both => {
            scene.kill_both();
            assert_eq!(scene.containers().len(), SERVERS, "they were to survive this");
            scene = scene.again(&config);
        }
    }
    let left =
        || of_instance(&engine, &scene.instance()).into_iter().filter(|each| before.contains(&each.id));
    until("the containers to be gone", || {
        let left = left().count();
        assert!(left == 0 || begun.elapsed() < GONE, "{left} left after {GONE:?}");
        (left == 0).then_some(())
    });
    println!("kill -9 of {victim:?} with {SERVERS} containers: none left after {:?}", begun.elapsed());
    if victim == Victim::Both {
        ready(&scene);
        scene.end();
    } else {
        scene.assert_none_left(Duration::ZERO);
    }
}

#[test]
fn of_the_daemon() {
    check(Victim::Daemon);
}

#[test]
fn of_the_guardian() {
    check(Victim::Guardian);
}

#[test]
fn of_both() {
    check(Victim::Both);
}

/// What a round waits for in the events of the engine before it kills.
const MOMENTS: [&str; 5] = ["create", "attach", "start", "kill", "die"];

#[test]
fn twenty_rounds_at_any_moment() {
    const ROUNDS: usize = 20;
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let mut easy = isolated(&image, "");
    let mut stubborn = isolated(&image, STUBBORN);
    for entry in [&mut easy, &mut stubborn] {
        entry["stop_grace"] = serde_json::json!("500ms");
    }
    let config = config(vec![("easy", easy), ("stubborn", stubborn)]);
    let mut tmp = TempDir::new();
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let moment = MOMENTS[round % MOMENTS.len()];
        let victim = [Victim::Daemon, Victim::Guardian, Victim::Both][fastrand::usize(..3)];
        let mut scene = Scene::starting(&engine, tmp, &config);
        if matches!(moment, "kill" | "die") {
            scene.daemon.wait_ready(&["easy", "stubborn"]);
            scene.restart("easy");
            scene.restart("stubborn");
        }
        wait_for(&scene, moment);
        // Between this event and the next.
        measure_over(Duration::from_millis(fastrand::u64(..60)));
        let daemon = scene.daemon.daemon_pid();
        let begun = Instant::now();
        match victim {
            Victim::Daemon => scene.daemon.kill9(daemon),
            Victim::Guardian => scene.daemon.kill9(scene.daemon.guardian_pid()),
            Victim::Both => scene.kill_both(),
        }
        if victim != Victim::Both {
            // When its guardian or its daemon has ended as well, all is done that will be done.
            scene.daemon.wait_end();
            scene.assert_none_left(GONE.saturating_sub(begun.elapsed()));
            slowest = slowest.max(begun.elapsed());
            until("the other to end", || (!crate::support::processes::is_alive(daemon)).then_some(()));
            scene.assert_none_left(Duration::ZERO);
        }
        println!("round {round}: {victim:?} at {moment}");
        scene.census.assert_never_two(&image, &scene.instance());
        tmp = scene.daemon.into_tmp();
    }
    println!("{ROUNDS} kills at any moment: none left after {slowest:?} at most");
    let last = Scene::starting(&engine, tmp, &config);
    last.daemon.wait_ready(&["easy", "stubborn"]);
    assert_eq!(last.containers().len(), 2, "of the last session, and none of an earlier one");
    assert_eq!(all(&engine), 2);
    last.end();
}

fn wait_for(scene: &Scene, moment: &str) {
    // Not one of those that an earlier daemon made, which this one removes before it makes any.
    let pid = scene.daemon.daemon_pid().to_string();
    until(moment, || {
        let events = scene.census.so_far();
        let ours = |event: &&crate::support::engine::Event| {
            event.attributes.get("mcpvisor.pid") == Some(&pid) && event.action.starts_with(moment)
        };
        events.iter().find(ours).map(drop)
    });
}

fn all(engine: &Engine) -> usize {
    engine.containers(&[]).len()
}
