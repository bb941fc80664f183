//! What happens to an engine and to containers in the course of a year, one incident after the other, on real engines:
//! exactly those that were hit are replaced, once; nobody else notices; every call is answered once.

use super::fleet::{BOXED, Fleet};
use crate::support::dockerd::Dockerd;
use crate::support::until;
use mcpvisor::engine::endpoint::Endpoint;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A user who is nobody.
const NOBODY: u32 = 65_534;

/// Pings that follow each other quickly, so that silence is heard within a test.
fn quick() -> Value {
    json!({ "docker_recovery": { "health_check_timeout": "1s", "polling_intervals": [1] } })
}

fn socket(own: &Dockerd) -> PathBuf {
    match Endpoint::parse(&own.engine().host()).unwrap() {
        Endpoint::Unix(path) => path,
        Endpoint::Tcp(_) => panic!("a socket"),
    }
}

fn engine_is(status: &Value, state: &str, cause: Value) -> bool {
    status["engines"][0]["state"] == state && status["engines"][0]["cause"] == cause
}

fn wait_engine(fleet: &Fleet, state: &str, cause: Value) -> Value {
    let what = format!("the engine to be {state} {cause}");
    fleet.scene.daemon.wait_until(&what, |status| engine_is(status, state, cause.clone()))
}

fn outages(status: &Value) -> u64 {
    status["engines"][0]["outages"]["count"].as_u64().unwrap()
}

/// Its containers end with it.
#[test]
fn the_engine_is_stopped_and_started() {
    let Some(own) = Dockerd::own() else { return };
    stopped_and_started(own);
}

/// Its containers survive it; what they were attached to does not.
#[test]
fn the_engine_is_stopped_and_started_with_live_restore() {
    let Some(own) = Dockerd::with(&["--live-restore"]) else { return };
    stopped_and_started(own);
}

fn stopped_and_started(mut own: Dockerd) {
    let mut fleet = Fleet::new(&own.engine());
    let before = fleet.before();
    own.stop();
    fleet.wait_all("waiting", "engine_away");
    let error = fleet.client.call("a__echo", json!({ "text": "x" })).unwrap_err();
    assert_eq!(error.kind(), "engine_away", "{error:?}");
    own.start();
    let census = own.engine().census();
    fleet.assert_only_replaced(before, &BOXED);
    census.assert_never_two(&fleet.scene.image, &fleet.scene.instance());
    let status = wait_engine(&fleet, "up", Value::Null);
    assert_eq!((outages(&status), &status["engines"][0]["outages"]["recovered"]), (1, &json!(5)));
    assert_eq!(status["removals"], json!([]));
    fleet.end();
}

/// And back before anybody could give up.
#[test]
fn the_engine_is_killed_and_started_at_once() {
    let Some(mut own) = Dockerd::with(&["--live-restore"]) else { return };
    let mut fleet = Fleet::new(&own.engine());
    let before = fleet.before();
    own.kill9();
    own.start();
    let census = own.engine().census();
    fleet.assert_only_replaced(before, &BOXED);
    census.assert_never_two(&fleet.scene.image, &fleet.scene.instance());
    fleet.end();
}

/// It hangs, and with it every byte from and to its containers; which are as they were when it goes on.
#[test]
fn the_engine_is_frozen_and_thawed() {
    let Some(own) = Dockerd::own() else { return };
    let mut fleet = Fleet::with(&own.engine(), "", &quick());
    let before = fleet.before();
    own.pause();
    let status = wait_engine(&fleet, "away", json!("silent"));
    assert_eq!(status["engines"][0]["reason"]["kind"], "engine_away", "{status:#}");
    own.cont();
    fleet.assert_only_replaced(before, &[]);
    let status = wait_engine(&fleet, "up", Value::Null);
    assert_eq!(outages(&status), 1);
    fleet.scene.census.assert_never_two(&fleet.scene.image, &fleet.scene.instance());
    fleet.end();
}

/// One that hung in there is replaced, and nothing is counted against it.
#[test]
fn what_does_not_answer_after_a_freeze_is_replaced() {
    let Some(own) = Dockerd::own() else { return };
    let mut fleet = Fleet::with(&own.engine(), "--ignore-eof", &quick());
    let pid = fleet.scene.engine.inspect(&fleet.scene.container("c").id).unwrap()["State"]["Pid"].clone();
    let before = fleet.before();
    own.pause();
    // Not by the engine, so that it does not say so: the server itself hangs.
    super::scene::signal(server_in(pid.as_u64().unwrap() as u32), nix::sys::signal::Signal::SIGSTOP);
    wait_engine(&fleet, "away", json!("silent"));
    own.cont();
    fleet.assert_only_replaced(before, &["c"]);
    fleet.end();
}

/// The server below the init of its container.
pub fn server_in(init: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
    children.split_whitespace().next().map_or(init, |pid| pid.parse().unwrap())
}

/// The engine runs, and nobody finds it. What is connected stays so; what ends meanwhile is replaced when it is back.
#[test]
fn the_socket_is_removed_and_back() {
    let Some(own) = Dockerd::own() else { return };
    let (socket, engine) = (socket(&own), own.engine());
    let aside = socket.with_extension("aside");
    std::fs::hard_link(&socket, &aside).unwrap();
    let mut fleet = Fleet::new(&engine);
    let before = fleet.before();
    let pid = engine.inspect(&fleet.scene.container("d").id).unwrap()["State"]["Pid"].as_u64().unwrap();
    own.remove_socket();
    wait_engine(&fleet, "away", json!("down"));
    assert_eq!(fleet.client.text("a__echo", json!({ "text": "connected" })), "connected");
    super::scene::signal(pid as u32, nix::sys::signal::Signal::SIGKILL);
    let what = "the one that ended to wait, and nobody else";
    let status = fleet
        .scene
        .daemon
        .wait_until(what, |status| Fleet::in_state(status, "waiting", "engine_away") == ["d"].into());
    assert_eq!(Fleet::in_state(&status, "ready", "").len(), 4, "{status:#}");
    std::fs::hard_link(&aside, &socket).unwrap();
    fleet.assert_only_replaced(before, &["d"]);
    let status = wait_engine(&fleet, "up", Value::Null);
    assert_eq!(outages(&status), 1);
    fleet.end();
}

/// The daemon is not root, for whom permissions mean nothing.
#[test]
fn permissions_are_taken_and_given_back() {
    let Some(own) = Dockerd::own() else { return };
    let socket = socket(&own);
    let mode = |mode| std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    let mut fleet = Fleet::of_user(&own.engine(), NOBODY);
    for round in 1..=2 {
        let before = fleet.before();
        mode(0o600);
        let status = wait_engine(&fleet, "away", json!("denied"));
        assert!(status["engines"][0]["reason"]["hint"].as_str().unwrap().contains("group"), "{status:#}");
        assert_eq!(Fleet::in_state(&status, "ready", "").len(), BOXED.len(), "{status:#}");
        mode(0o666);
        fleet.assert_only_replaced(before, &[]);
        assert_eq!(outages(&wait_engine(&fleet, "up", Value::Null)), round);
    }
    fleet.end();
}

fn pause(fleet: &Fleet, how: &str, names: &[&str]) {
    for name in names {
        let id = fleet.scene.container(name).id;
        fleet.scene.engine.must("POST", &format!("/containers/{id}/{how}"), None);
    }
}

/// They are seen to be, calls to them are refused at once with the reason, and the same ones go on.
fn paused_and_unpaused(names: &[&'static str]) {
    let Some(own) = Dockerd::own() else { return };
    let mut fleet = Fleet::new(&own.engine());
    let before = fleet.before();
    pause(&fleet, "pause", names);
    let what = format!("{names:?} to be seen paused, and nobody else");
    fleet.scene.daemon.wait_until(&what, |status| {
        Fleet::in_state(status, "waiting", "container_paused") == names.iter().copied().collect()
            && Fleet::in_state(status, "ready", "").len() == BOXED.len() - names.len()
    });
    for name in BOXED {
        let answer = fleet.client.call(&format!("{name}__echo"), json!({ "text": "x" }));
        match names.contains(&name) {
            false => drop(answer.unwrap()),
            true => {
                let error = answer.unwrap_err();
                assert_eq!(error.kind(), "container_paused", "{error:?}");
                assert!(error.data["hint"].as_str().unwrap().contains("unpause"), "{error:?}");
            }
        }
    }
    pause(&fleet, "unpause", names);
    fleet.assert_only_replaced(before, &[]);
    let status = fleet.scene.daemon.status();
    assert_eq!(outages(&status), 0);
    fleet.scene.census.assert_never_two(&fleet.scene.image, &fleet.scene.instance());
    fleet.end();
}

#[test]
fn one_container_of_five_is_paused() {
    paused_and_unpaused(&["b"]);
}

#[test]
fn all_containers_are_paused() {
    paused_and_unpaused(&BOXED);
}

/// A person tidies up: not the server's fault, nor the engine's.
#[test]
fn a_container_is_removed_by_somebody_else() {
    let Some(own) = Dockerd::own() else { return };
    let mut fleet = Fleet::new(&own.engine());
    let before = fleet.before();
    let id = fleet.scene.container("e").id;
    let removed = fleet.scene.engine.docker(&["rm", "-f", &id]).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
    fleet.assert_only_replaced_as(before, &["e"], 1);
    fleet.scene.census.assert_never_two(&fleet.scene.image, &fleet.scene.instance());
    fleet.end();
}

/// At each moment of a start: while they are created, attached to, started, and greeted.
#[test]
fn the_engine_restarts_while_five_are_starting() {
    let Some(mut own) = Dockerd::with(&["--live-restore"]) else { return };
    for moment in ["create", "attach", "start", "greet"] {
        let mut fleet = Fleet::starting(&own.engine(), "--start-delay 1500", &json!({}), None);
        until(moment, || {
            let events = fleet.scene.census.so_far();
            let word = if moment == "greet" { "start" } else { moment };
            let seen = events.iter().filter(|event| event.action == word).count();
            (seen >= if moment == "greet" { BOXED.len() } else { 2 }).then_some(())
        });
        if moment == "create" {
            own.stop()
        } else {
            own.kill9()
        }
        own.start();
        let census = own.engine().census();
        let status = fleet.scene.daemon.wait_ready(&BOXED);
        for name in BOXED {
            let row = crate::support::daemon::server(&status, name);
            assert_eq!(row["failures"], 0, "{moment}: {row:#}");
        }
        let before = fleet.before();
        fleet.assert_only_replaced(before, &[]);
        census.assert_never_two(&fleet.scene.image, &fleet.scene.instance());
        fleet.end();
    }
}
