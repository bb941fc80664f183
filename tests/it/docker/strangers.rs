//! What is not ours is not touched, however much it looks like it; what is provably dead is.

use super::scene::{STUBBORN, Scene, assert_none_left, cleanup_all, cli, config, instance_of, isolated};
use crate::support::dockerd::Dockerd;
use crate::support::engine::{Engine, Listed};
use crate::support::{TempDir, images, until_within};
use mcpvisor::reaper::mark::Owner;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// An instance whose daemon and guardian were killed, with containers that live on. Returns its directory, too, or
/// what proves that nobody holds its lock were gone.
fn dead_instance(engine: &Engine) -> (TempDir, String) {
    let image = images::demo(engine);
    let servers = config(vec![("one", isolated(&image, STUBBORN)), ("two", isolated(&image, STUBBORN))]);
    let mut scene = Scene::starting(engine, TempDir::new(), &servers);
    scene.daemon.wait_ready(&["one", "two"]);
    scene.kill_both();
    assert_eq!(scene.containers().len(), 2);
    let tmp = scene.daemon.into_tmp();
    let instance = instance_of(&tmp);
    (tmp, instance)
}

#[test]
fn a_dead_instances_containers_are_removed_by_the_next_daemon() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let (_tmp, dead) = dead_instance(&engine);
    // Another state directory, so another instance.
    let scene = Scene::new(&engine, &[("mine", "")]);
    assert_ne!(scene.instance(), dead);
    assert_none_left(&engine, &dead, Duration::from_secs(30));
    assert_eq!(scene.containers().len(), 1);
    scene.end();
}

#[test]
fn a_dead_instances_containers_are_removed_by_cleanup() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let (tmp, dead) = dead_instance(&engine);
    let state = tmp.path().join("state");
    let ids: Vec<String> =
        super::scene::of_instance(&engine, &dead).into_iter().map(|each| each.id).collect();
    let shown = cli(&engine, &state, &["cleanup", "--dry-run", "--json"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for id in &ids {
        assert!(shown.stdout.contains(&id[..12]), "{shown:?}");
        assert!(engine.is_running(id), "a dry run removes nothing");
    }
    // From another state directory: only with --all.
    let other = TempDir::new();
    let elsewhere = cli(&engine, &other.path().join("state"), &["cleanup", "--force"]);
    assert!(ids.iter().all(|id| engine.is_running(id)), "{elsewhere:?}");
    let all = cleanup_all(&engine, &other.path().join("state"));
    assert_eq!(all.code, 0, "{all:?}");
    assert_none_left(&engine, &dead, Duration::ZERO);
    let again = cli(&engine, &state, &["cleanup", "--force", "--json"]);
    assert_eq!(again.code, 3, "nothing is left to do: {again:?}");
}

/// Labels as a daemon writes them, as if by another instance's; `owner` is the process that is said to have made it.
fn labels(like: &Listed, instance: &str, owner: &Owner) -> Value {
    let mut labels = json!(like.labels);
    labels["mcpvisor.instance"] = json!(instance);
    labels["mcpvisor.session"] = json!("5".repeat(32));
    labels["mcpvisor.pid"] = json!(owner.pid.to_string());
    labels["mcpvisor.pid-start"] = json!(owner.start.to_string());
    labels
}

/// Containers that somebody could take for ours; by id.
fn strangers(engine: &Engine, instance: &str, image: &str, like: &Listed) -> Vec<String> {
    let busybox = images::busybox(engine);
    let me = Owner::ourselves();
    let mut unproven = labels(like, &"d".repeat(32), &Owner { pid: 1, start: 1, ..me.clone() });
    unproven["mcpvisor.host"] = json!("another-host");
    let none = json!({});
    let all = [
        // By its name it is an MCP server, and by nothing else.
        ("github-mcp-server", busybox.as_str(), &none),
        ("same-image", image, &none),
        // Our own prefix, to the letter.
        (&format!("mcpvisor-{}-one-a-mine", &instance[..8]), image, &none),
        ("mcpvisor", &busybox, &json!({ "mcpvisor.note": "mine" })),
        ("other-living-instance", image, &labels(like, &"e".repeat(32), &me)),
        ("other-host", image, &unproven),
        ("half-a-label", image, &json!({ "mcpvisor.managed": "true" })),
    ];
    let made: Vec<String> =
        all.iter().map(|(name, image, labels)| engine.sleeper(name, image, labels)).collect();
    // One that does not run is somebody's all the same.
    engine.kill(&engine.sleeper("stopped", image, &none), "KILL");
    made
}

#[test]
fn strangers_survive_everything() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let living = Scene::new(&engine, &[("one", STUBBORN)]);
    let theirs = living.container("one");
    let image = living.image.clone();
    let servers = config(vec![("one", isolated(&image, "")), ("two", isolated(&image, STUBBORN))]);
    let scene = Scene::starting(&engine, TempDir::new(), &servers);
    scene.daemon.wait_ready(&["one", "two"]);
    let mut strangers = strangers(&engine, &scene.instance(), &image, &theirs);
    strangers.push(theirs.id);
    let began = |id: &String| engine.inspect(id).map(|container| container["State"]["StartedAt"].clone());
    let before: Vec<_> = strangers.iter().map(began).collect();
    let unharmed = |after: &str| {
        let now: Vec<_> = strangers.iter().map(began).collect();
        assert_eq!(now, before, "after {after}");
        assert!(strangers.iter().all(|id| engine.is_running(id)), "after {after}");
    };
    scene.restart("one");
    scene.daemon.wait_ready(&["one", "two"]);
    unharmed("a restart");
    let state = scene.daemon.tmp.path().join("state");
    for ran in [cli(&engine, &state, &["cleanup", "--force"]), cleanup_all(&engine, &state)] {
        unharmed(&format!("a cleanup while the daemon runs: {ran:?}"));
        assert_eq!(scene.containers().len(), 2, "nor what the daemon has");
    }
    let mut scene = scene;
    scene.kill_both();
    let mut scene = scene.again(&servers);
    scene.daemon.wait_ready(&["one", "two"]);
    unharmed("the start after a kill");
    assert_eq!(scene.containers().len(), 2);
    scene.kill_both();
    let (instance, tmp) = (scene.instance(), scene.daemon.into_tmp());
    let state = tmp.path().join("state");
    for ran in [cli(&engine, &state, &["cleanup", "--force"]), cleanup_all(&engine, &state)] {
        unharmed(&format!("a cleanup after a kill: {ran:?}"));
        assert_none_left(&engine, &instance, Duration::ZERO);
    }
    assert!(!engine.inspect("stopped").expect("it is still there")["State"]["Running"].as_bool().unwrap());
    let verbose = cli(&engine, Path::new(&state), &["cleanup", "--dry-run", "--all", "--verbose"]);
    assert!(verbose.stdout.contains("other-living-instance"), "what is kept is explained: {verbose:?}");
    let calls = living.daemon.client().text("one__echo", json!({ "text": "alive" }));
    assert_eq!(calls, "alive");
    living.end();
}

/// The name that we need is another's: it is not taken from it.
#[test]
fn a_name_that_a_stranger_has_is_left_to_it() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let servers = config(vec![("one", isolated(&image, ""))]);
    let scene = Scene::starting(&engine, TempDir::new(), &servers);
    scene.daemon.wait_ready(&["one"]);
    assert_eq!(scene.daemon.cli(&["upstream", "disable", "one"]).code, 0);
    let prefix = format!("mcpvisor-{}-one", &scene.instance()[..8]);
    until_within("it to be gone", Duration::from_secs(30), || scene.containers().is_empty().then_some(()));
    let strangers = ["a", "b"].map(|slot| engine.sleeper(&format!("{prefix}-{slot}"), &image, &json!({})));
    assert_eq!(scene.daemon.cli(&["upstream", "enable", "one"]).code, 0);
    let one = scene.wait_error("one", "not_ours");
    assert!(super::scene::error(&one).1.contains(&prefix), "{one:#}");
    assert!(strangers.iter().all(|id| engine.is_running(id)));
    assert_eq!(scene.containers().len(), 0);
}
