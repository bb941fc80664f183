//! An engine that is silent, gone, killed, or hidden, and comes back: one container each afterwards, and at no moment
//! two; no server is blamed.

use super::scene::{Scene, config, error, ids, isolated};
use crate::support::daemon::server;
use crate::support::dockerd::Dockerd;
use crate::support::{TempDir, demo_entry, images, until};
use serde_json::{Value, json};
use std::time::Duration;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn five(own: &Dockerd) -> Scene {
    Scene::new(&own.engine(), &NAMES.map(|name| (name, "")))
}

/// Beside the servers on the engine one that is a process of the host: it does not notice.
fn five_and_a_process(own: &Dockerd) -> Scene {
    let engine = own.engine();
    let image = images::demo(&engine);
    let mut servers: Vec<_> = NAMES.iter().map(|name| (*name, isolated(&image, ""))).collect();
    servers.push(("local", demo_entry("")));
    let scene = Scene::starting(&engine, TempDir::new(), &config(servers));
    scene.daemon.wait_ready(&NAMES);
    scene.daemon.wait_ready(&["local"]);
    scene
}

fn assert_one_each(scene: &Scene) {
    let containers = scene.containers();
    let names: Vec<&str> = containers.iter().map(|each| each.label("mcpvisor.server")).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, NAMES, "{containers:#?}");
}

fn assert_nobody_blamed(status: &Value) {
    for name in NAMES {
        assert_eq!(server(status, name)["failures"], 0, "{name}: {status:#}");
    }
}

fn wait_all_away(scene: &Scene) -> Value {
    scene.daemon.wait_until("all to wait for the engine", |status| {
        NAMES.iter().all(|name| {
            let server = server(status, name);
            server["state"] == "waiting" && error(server).0 == "engine_away"
        })
    })
}

/// The seed's first test: concurrent reconnection.
#[test]
fn three_storms_while_the_engine_is_silent() {
    let Some(own) = Dockerd::own() else { return };
    let scene = five(&own);
    own.pause();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for name in NAMES {
                scope.spawn(|| scene.restart(name));
            }
        });
    }
    own.cont();
    let status = scene.daemon.wait_ready(&NAMES);
    assert_one_each(&scene);
    assert_nobody_blamed(&status);
    let peaks = scene.census.assert_never_two(&scene.image, &scene.instance());
    assert_eq!(peaks.len(), NAMES.len(), "{peaks:?}");
    scene.end();
}

/// The seed's fourth: the engine is cut off, and comes back.
#[test]
fn stopped_and_started() {
    let Some(mut own) = Dockerd::own() else { return };
    let scene = five_and_a_process(&own);
    own.stop();
    let status = wait_all_away(&scene);
    assert_nobody_blamed(&status);
    let local = scene.daemon.client().text("local__echo", json!({ "text": "here" }));
    assert_eq!(local, "here");
    own.start();
    let census = own.engine().census();
    let status = scene.daemon.wait_ready(&NAMES);
    assert_one_each(&scene);
    assert_nobody_blamed(&status);
    assert_eq!(server(&status, "local")["restarts"], 0);
    census.assert_never_two(&scene.image, &scene.instance());
    let mut scene = scene;
    assert!(scene.daemon.stop().success());
    scene.assert_none_left(Duration::ZERO);
}

/// Its containers are still there when it is back; what they were attached to is not.
#[test]
fn killed_with_its_containers_left_alive() {
    let Some(mut own) = Dockerd::with(&["--live-restore"]) else { return };
    let scene = five(&own);
    let before = ids(&scene.containers());
    own.kill9();
    own.start();
    let census = own.engine().census();
    let what = "all to be ready in containers that answer";
    let status = scene.daemon.wait_until(what, |status| {
        NAMES.iter().all(|name| server(status, name)["state"] == "ready")
            && scene.containers().iter().all(|each| before.values().all(|id| *id != each.id))
    });
    assert_one_each(&scene);
    assert_nobody_blamed(&status);
    census.assert_never_two(&scene.image, &scene.instance());
    let mut scene = scene;
    assert!(scene.daemon.stop().success());
    scene.assert_none_left(Duration::ZERO);
}

/// A daemon that starts while there is no engine waits for it, and runs nothing on the host meanwhile.
#[test]
fn away_from_the_start() {
    let Some(mut own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let tmp = TempDir::new();
    let (pids, leak) = (tmp.join("pids"), tmp.join("leak"));
    own.stop();
    // On the host this would run, and leave its pid there.
    let mut entry = demo_entry(&format!("--pid-file {leak}"));
    entry["isolation"] = isolated(&image, "")["isolation"].clone();
    let daemon = crate::support::daemon::Daemon::start_in_with_env(
        tmp,
        &config(vec![("one", entry), ("a", isolated(&image, ""))]),
        &[("DOCKER_HOST", &engine.host())],
    );
    daemon.wait_until("both to wait for the engine", |status| {
        ["one", "a"].iter().all(|name| error(server(status, name)).0 == "engine_away")
    });
    own.start();
    daemon.wait_ready(&["a"]);
    assert!(!std::path::Path::new(&leak).exists(), "it ran on the host");
    assert_eq!(crate::support::processes::noted(pids), []);
    // Its program is not in the image.
    daemon.wait_until("`one` to say so", |status| error(server(status, "one")).1.contains("127"));
}

/// Frozen in the middle of stopping: what is owed is paid when it answers again.
#[test]
fn silent_while_the_daemon_stops() {
    let Some(own) = Dockerd::own() else { return };
    let scene = five(&own);
    let (daemon, guardian) = (scene.daemon.daemon_pid(), scene.daemon.guardian_pid());
    own.pause();
    super::scene::signal(guardian, nix::sys::signal::Signal::SIGTERM);
    until("the daemon to shut down", || {
        let status = scene.cli(&["status", "--json"]);
        (status.code != 0 || status.stdout.contains("stopping")).then_some(())
    });
    own.cont();
    let mut scene = scene;
    scene.daemon.wait_end();
    assert!(!crate::support::processes::is_alive(daemon));
    scene.assert_none_left(Duration::from_secs(15));
}
