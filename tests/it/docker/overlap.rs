//! `overlap` of servers in containers: two slots, and never a third container.

use super::scene::{GONE, Scene, config, docker_run, isolated};
use crate::support::daemon::server;
use crate::support::dockerd::{self, Dockerd};
use crate::support::engine::{Engine, Peak};
use crate::support::{TempDir, images, until};
use serde_json::{Value, json};
use std::time::Duration;

fn overlapping(mut entry: Value) -> Value {
    entry["overlap"] = json!(true);
    entry
}

/// A scene with one such server, `x`, which is ready.
fn scene(engine: &Engine, entry: Value) -> Scene {
    let scene = Scene::starting(engine, TempDir::new(), &config(vec![("x", overlapping(entry))]));
    scene.daemon.wait_ready(&["x"]);
    scene
}

fn put(scene: &Scene, entry: Value) {
    let beside = scene.daemon.tmp.join("beside");
    std::fs::write(&beside, config(vec![("x", overlapping(entry))]).to_string()).unwrap();
    std::fs::rename(beside, scene.daemon.tmp.join("mcp_config.json")).unwrap();
}

fn wait_row(scene: &Scene, what: &str, probe: impl Fn(&Value) -> bool) -> Value {
    let status = scene.daemon.wait_until(what, |status| probe(server(status, "x")));
    server(&status, "x").clone()
}

/// The last letters of the names of its containers.
fn slots(scene: &Scene) -> Vec<String> {
    let all = scene.containers();
    let mut slots: Vec<String> =
        all.iter().map(|container| container.name.rsplit('-').next().unwrap().to_owned()).collect();
    slots.sort();
    slots
}

/// An orderly end; at most two containers were there at any moment.
fn end(mut scene: Scene, image: &str, lives: usize) {
    assert!(scene.daemon.stop().success());
    scene.assert_none_left(Duration::ZERO);
    let peaks = scene.census.peaks(image, &scene.instance());
    let Peak { running, there, lives: seen } = peaks["x"];
    assert!(running <= 2 && there <= 2, "{peaks:?}");
    assert_eq!(seen, lives, "{peaks:?}");
}

#[test]
fn a_pair_of_containers_has_two_slots() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let scene = scene(&engine, isolated(&image, ""));
    assert_eq!(slots(&scene), ["a"]);
    let first = scene.container("x");
    let slow = scene.daemon.client().begin_call(json!("slow"), "x__sleep", json!({"ms": 3000}), None);
    wait_row(&scene, "the call to be under way", |row| row["calls"] == 1);
    assert_eq!(scene.cli(&["upstream", "restart", "x", "--wait", "30s"]).code, 0);
    assert_eq!(slots(&scene), ["a", "b"], "the one before has a call");
    assert!(slow.open().answer().is_ok());
    let second = wait_row(&scene, "the one before to be gone", |row| row["switch"].is_null());
    assert_eq!(slots(&scene), ["b"]);
    assert_eq!(second["container"], scene.container("x").id.as_str());
    assert!(engine.inspect(&first.id).is_none());
    // A new one that does not work goes completely, and then the slot is free for the next.
    put(&scene, isolated(&image, "--exit-on-init"));
    wait_row(&scene, "the failure", |row| row["switch"]["state"] == "failed");
    assert_eq!(
        (slots(&scene), scene.container("x").id),
        (vec!["b".to_owned()], second["container"].as_str().unwrap().into())
    );
    put(&scene, isolated(&image, "--tools 1"));
    wait_row(&scene, "the next", |row| row["tools"] == 7 && row["switch"].is_null());
    assert_eq!(slots(&scene), ["a"]);
    end(scene, &image, 4);
}

#[test]
fn both_containers_of_a_switch_end_with_a_daemon_that_is_killed() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let mut scene = scene(&engine, isolated(&image, ""));
    put(&scene, isolated(&image, "--hang-init"));
    wait_row(&scene, "a life beside it", |row| row["switch"]["container"].is_string());
    until("two containers", || (slots(&scene) == ["a", "b"]).then_some(()));
    let daemon = scene.daemon.daemon_pid();
    scene.daemon.kill9(daemon);
    scene.daemon.wait_end();
    scene.assert_none_left(GONE);
}

#[test]
fn a_docker_run_of_the_users_is_replaced_likewise() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let scene = scene(&engine, docker_run(&image, "-i --rm", ""));
    let first = scene.container("x");
    put(&scene, docker_run(&image, "-i --rm", "--tools 1"));
    wait_row(&scene, "the new one", |row| row["tools"] == 7 && row["switch"].is_null());
    assert_ne!(scene.container("x").id, first.id);
    // A name that the new one shall have, too, is what keeps it away.
    let name = format!("mcpvisor-it-overlap-{}", std::process::id());
    let named = |switches: &str| docker_run(&image, &format!("-i --rm --name {name}"), switches);
    put(&scene, named(""));
    wait_row(&scene, "one with a name", |row| row["tools"] == 6 && row["switch"].is_null());
    put(&scene, named("--tools 1"));
    let failed = wait_row(&scene, "the failure", |row| row["switch"]["state"] == "failed");
    let why = failed["switch"]["reason"].to_string();
    assert!(why.contains("two containers cannot have one name") && why.contains("take --name out"), "{why}");
    end(scene, &image, 3);
}

#[test]
fn an_engine_that_goes_in_a_switch_comes_back_to_one_life() {
    let Some(mut own) = Dockerd::own() else { return };
    let (engine, image) = (own.engine(), images::demo(&own.engine()));
    let mut scene = scene(&engine, isolated(&image, ""));
    put(&scene, isolated(&image, "--start-delay 3000 --tools 1"));
    wait_row(&scene, "a life beside it", |row| row["switch"]["container"].is_string());
    own.stop();
    wait_row(&scene, "both lives to be over", |row| row["state"] == "waiting" && row["switch"].is_null());
    own.start();
    let back = wait_row(&scene, "it to be back", |row| row["state"] == "ready" && row["tools"] == 7);
    assert_eq!((&back["failures"], &back["switch"]), (&json!(0), &Value::Null), "{back}");
    assert_eq!(scene.container("x").id, back["container"].as_str().unwrap());
    assert!(scene.daemon.stop().success());
    scene.assert_none_left(Duration::ZERO);
}

#[test]
fn an_engine_that_is_silent_in_a_switch_makes_no_third() {
    let Some(own) = Dockerd::own() else { return };
    let (engine, image) = (own.engine(), images::demo(&own.engine()));
    let scene = scene(&engine, isolated(&image, ""));
    own.pause();
    for _ in 0..5 {
        scene.restart("x");
    }
    let during = wait_row(&scene, "a life beside it", |row| row["switch"].is_object());
    assert_eq!(during["state"], "ready", "what is there is kept: {during}");
    own.cont();
    let after = wait_row(&scene, "another life, alone", |row| {
        row["state"] == "ready" && row["switch"].is_null() && row["life"] != during["life"]
    });
    assert_eq!(scene.container("x").id, after["container"].as_str().unwrap());
    assert_eq!(after["failures"], 0, "{after}");
    let peak = scene.census.peaks(&image, &scene.instance())["x"];
    assert!(peak.running <= 2 && peak.there <= 2, "{peak:?}");
    let lives = peak.lives;
    end(scene, &image, lives);
}
