//! Real engines: who is hit by an outage and who is not, by what was launched; and askers who are many, late, or wrong.

use super::{Answer, reconnect};
use crate::docker::scene::{Scene, config, error, ids, instance_of, isolated};
use crate::support::daemon::{Daemon, server};
use crate::support::dockerd::Dockerd;
use crate::support::upstream::{Upstream, answer_plainly};
use crate::support::{BINARY, TempDir, demo_entry, images};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const HIT: [&str; 3] = ["a", "npx", "run"];
const SPARED: [&str; 3] = ["far", "local", "npx-here"];

/// A program that is called npx: on the host, as in the image, it is the demo server.
fn npx(dir: &TempDir) -> String {
    let (bin, path) = (dir.join("bin"), dir.join("bin/npx"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\nexec {BINARY} demo-server\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{bin}:{}", std::env::var("PATH").unwrap())
}

/// What each server is that must not change: pid, life, and how often it was started.
fn identity(status: &Value, name: &str) -> Value {
    let row = server(status, name);
    json!([row["pid"], row["life"], row["restarts"], row["container"]])
}

/// Three on the engine (made by us from an entry, from an `npx` that is isolated, and a user's `docker run`), and beside
/// them a remote one, a plain process, and an `npx` on the host.
fn mixed(own: &Dockerd, upstream: &Upstream) -> (Daemon, TempDir) {
    let engine = own.engine();
    let image = images::npx(&engine);
    let dir = TempDir::new();
    let path = npx(&dir);
    let here = json!({ "enabled": false });
    let mut local = demo_entry("");
    local["isolation"] = here.clone();
    let run = format!("run -i --rm --network none {image} /bin/npx");
    let config = json!({
        "docker_isolation": {
            "enabled": true, "network_mode": "none", "pull": "never", "default_images": { "npx": image },
        },
        "mcpServers": {
            "a": isolated(&image, ""),
            "npx": { "command": "npx", "args": ["-y", "some-server"] },
            "run": { "command": "docker", "args": run.split(' ').collect::<Vec<_>>() },
            "far": { "url": upstream.url() },
            "local": local,
            "npx-here": { "command": "npx", "args": ["-y", "some-server"], "isolation": here },
        },
    });
    let env = [("DOCKER_HOST", engine.host()), ("PATH", path)];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = Daemon::start_with_env(&config, &env);
    daemon.wait_ready(&[HIT, SPARED].concat());
    (daemon, dir)
}

/// The seed's partial failures, with 3 Docker + 1 HTTP server, and two processes beside them.
#[test]
fn recovery_touches_only_what_was_hit() {
    let Some(mut own) = Dockerd::own() else { return };
    let upstream = Upstream::start(answer_plainly);
    let (daemon, _dir) = mixed(&own, &upstream);
    let before = daemon.status();
    for name in HIT {
        assert_eq!(server(&before, name)["engine"], own.engine().host(), "{name}");
    }
    for name in SPARED {
        assert_eq!(server(&before, name)["engine"], Value::Null, "{name}");
    }
    let requests = upstream.seen("initialize").len();
    for round in 1..=2 {
        own.stop();
        daemon.wait_until("all on the engine to wait for it", |status| {
            HIT.iter().all(|name| error(server(status, name)).0 == "engine_away")
        });
        own.start();
        let status = daemon.wait_ready(&HIT);
        for name in SPARED {
            assert_eq!(identity(&status, name), identity(&before, name), "{name} in round {round}");
        }
        for name in HIT {
            let row = server(&status, name);
            assert_ne!(row["life"], server(&before, name)["life"], "{name}");
            assert_eq!((&row["failures"], &row["consecutive_failures"]), (&json!(0), &json!(0)), "{row:#}");
        }
    }
    // Asked for, it is the same: those on the engine, who are well and stay.
    let calm = daemon.status();
    let answer = reconnect(&daemon, &["--engine"]);
    assert_eq!((answer.code, answer.names()), (0, HIT.to_vec()), "{:#}", answer.body);
    assert!(HIT.iter().all(|name| answer.words(name) == "probed ok"), "{:#}", answer.body);
    let answer = reconnect(&daemon, &["--all"]);
    assert_eq!((answer.code, answer.body["totals"]["ok"].as_u64()), (0, Some(6)), "{:#}", answer.body);
    let after = daemon.status();
    for name in HIT.iter().chain(&SPARED) {
        assert_eq!(identity(&after, name), identity(&calm, name), "{name}");
    }
    assert_eq!(upstream.seen("initialize").len(), requests);
    assert_eq!(daemon.client().text("npx-here__echo", json!({ "text": "here" })), "here");
}

/// One of three cannot come back: that is its own fault, counted, and seen in the exit code.
#[test]
fn partial_failure_is_told_apart() {
    let Some(mut own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let gone = "it-reconnect-gone:1";
    assert!(engine.docker(&["tag", &image, gone]).status().unwrap().success());
    let mut lost = isolated(gone, "");
    lost["pull"] = json!("never");
    let entries = vec![("a", isolated(&image, "")), ("b", isolated(&image, "")), ("lost", lost)];
    let scene = Scene::starting(&engine, TempDir::new(), &config(entries));
    scene.daemon.wait_ready(&["a", "b", "lost"]);
    assert!(engine.docker(&["rmi", "-f", gone]).status().unwrap().success());
    own.stop();
    let away = reconnect(&scene.daemon, &["--wait", "60s"]);
    assert_eq!(away.code, 1);
    for name in ["a", "b", "lost"] {
        assert_eq!(away.one(name)["error"]["kind"], "engine_away", "{:#}", away.body);
        assert_eq!(server(&scene.daemon.status(), name)["failures"], 0);
    }
    own.start();
    let answer = reconnect(&scene.daemon, &["a", "b", "lost", "--wait", "60s"]);
    assert_eq!(answer.code, 1, "{:#}", answer.body);
    assert_eq!(answer.body["totals"]["ok"], 2, "{:#}", answer.body);
    assert_eq!(answer.one("lost")["error"]["kind"], "image_not_found", "{:#}", answer.body);
    let status = scene.daemon.status();
    let failures = |name: &str| server(&status, name)["failures"].as_u64().unwrap();
    assert_eq!((failures("a"), failures("b")), (0, 0));
    assert!(failures("lost") >= 1, "a bad image is its own fault");
}

#[test]
fn three_who_ask_after_an_outage_are_one_recovery() {
    let Some(mut own) = Dockerd::own() else { return };
    let scene = Scene::new(&own.engine(), &[("a", ""), ("b", ""), ("c", "")]);
    own.stop();
    scene.daemon.wait_until("all to wait for the engine", |status| {
        ["a", "b", "c"].iter().all(|name| error(server(status, name)).0 == "engine_away")
    });
    own.start();
    let census = own.engine().census();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let askers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| reconnect(&scene.daemon, &["--wait", "60s"]))).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!((answer.code, answer.names()), (0, vec!["a", "b", "c"]), "{:#}", answer.body);
    }
    let peaks = census.assert_never_two(&scene.image, &instance_of(&scene.daemon.tmp));
    assert!(peaks.values().all(|peak| peak.lives <= 1), "{peaks:?}");
    let status = scene.daemon.status();
    for name in ["a", "b", "c"] {
        assert_eq!(
            (&server(&status, name)["restarts"], &server(&status, name)["failures"]),
            (&json!(1), &json!(0))
        );
    }
    assert_eq!(scene.containers().len(), 3);
}

/// It was paused by somebody, and that is said; nothing is made anew.
#[test]
fn a_paused_container_stays() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let scene = Scene::new(&engine, &[("a", ""), ("b", "")]);
    let before = ids(&scene.containers());
    let id = scene.container("a").id;
    engine.must("POST", &format!("/containers/{id}/pause"), None);
    scene.daemon.wait_state("a", "waiting");
    let answer = reconnect(&scene.daemon, &["a", "b"]);
    assert_eq!(answer.code, 1);
    assert_eq!(answer.words("a"), "probed failed container_paused", "{:#}", answer.body);
    assert_eq!(answer.words("b"), "probed ok");
    engine.must("POST", &format!("/containers/{id}/unpause"), None);
    scene.daemon.wait_ready(&["a"]);
    assert_eq!(reconnect(&scene.daemon, &["a"]).words("a"), "probed ok");
    assert_eq!(ids(&scene.containers()), before);
}

/// `docker_recovery.health_check_timeout`: so long is waited for an engine that hangs. Its containers still run: they are
/// kept.
#[test]
fn a_silent_engine_is_told_in_time_and_its_containers_are_kept() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let mut config = config(vec![("a", isolated(&image, ""))]);
    config["docker_recovery"] = json!({ "health_check_timeout": "700ms" });
    let scene = Scene::starting(&engine, TempDir::new(), &config);
    scene.daemon.wait_ready(&["a"]);
    let before = ids(&scene.containers());
    own.pause();
    let answer = reconnect(&scene.daemon, &["a"]);
    own.cont();
    assert_eq!(
        (answer.code, answer.words("a").as_str()),
        (1, "probed failed engine_away"),
        "{:#}",
        answer.body
    );
    let said = answer.one("a")["error"]["message"].as_str().unwrap();
    assert!(said.contains("silent") && said.contains("700ms"), "{said}");
    let took = Duration::from_millis(answer.one("a")["duration_ms"].as_u64().unwrap());
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(4), "{took:?}");
    scene.daemon.wait_until("the engine to be up", |status| status["engines"][0]["state"] == "up");
    assert_eq!(reconnect(&scene.daemon, &["a"]).words("a"), "probed ok");
    assert_eq!(ids(&scene.containers()), before);
    assert_eq!(server(&scene.daemon.status(), "a")["restarts"], 0);
}
