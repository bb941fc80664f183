//! What can go wrong with one container has a name, and says what to do.

use super::scene::{Scene, config, docker_run, error, isolated, isolated_with};
use crate::support::daemon::server;
use crate::support::{TempDir, dockerd, images};
use serde_json::{Value, json};

#[test]
fn each_has_its_name() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let command = |command: &str| {
        let mut entry = isolated(&image, "");
        entry["command"] = json!(command);
        entry
    };
    let cli = |words: &str| {
        let words = words.replace("IMAGE", &image);
        json!({ "command": "docker", "args": words.split_whitespace().collect::<Vec<_>>() })
    };
    let mut nowhere = isolated(&image, "");
    nowhere["engine"] = json!("unix:///nonexistent/docker.sock");
    // Name, entry, state, kind, what the message holds.
    let rows: Vec<(&str, Value, &str, &str, &str)> = vec![
        ("missing", command("/bin/nothing"), "", "", "127"),
        ("directory", command("/etc"), "", "", "126"),
        ("nowhere", nowhere, "waiting", "engine_away", "/nonexistent/docker.sock"),
        ("refused", cli("run -i --rm --network none --memory 1 IMAGE"), "", "", "125"),
        ("cli-directory", cli("run -i --rm --network none IMAGE /etc"), "", "", "126"),
        ("cli-missing", cli("run -i --rm --network none IMAGE /bin/nothing"), "", "", "127"),
        ("exits", isolated(&image, "--exit-on-init --exit-code 3"), "", "exited", "3"),
    ];
    let entries = rows.iter().map(|(name, entry, ..)| (*name, entry.clone())).collect();
    let scene = Scene::starting(&engine, TempDir::new(), &config(entries));
    for (name, _, state, kind, holds) in rows {
        let what = format!("{name} to be {state:?} for {kind:?}");
        let status = scene.daemon.wait_until(&what, |status| {
            let server = server(status, name);
            let (its, message) = error(server);
            (state.is_empty() || server["state"] == state)
                && (kind.is_empty() || its == kind)
                && message.contains(holds)
        });
        println!("{name}: {:?}", error(server(&status, name)));
    }
    scene.end_without_containers();
}

#[test]
fn out_of_memory() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let entry = isolated_with(&image, "--big 1", json!({ "memory": "64m" }));
    let scene = Scene::starting(&engine, TempDir::new(), &config(vec![("greedy", entry)]));
    scene.daemon.wait_ready(&["greedy"]);
    // More than it may have, and no swap to it.
    let error = scene.daemon.client().call("greedy__big", json!({ "bytes": 400_000_000 })).unwrap_err();
    assert_eq!(error.kind(), "oom_killed", "{error:?}");
    let greedy = scene.daemon.wait_state("greedy", "ready");
    assert_eq!(greedy["last_error"]["kind"], "oom_killed", "{greedy:#}");
    scene.end();
}

/// Isolation that cannot be built parks the server: it never runs on the host instead.
#[test]
fn never_on_the_host_instead() {
    let Some(engine) = dockerd::shared() else { return };
    let (image, tmp) = (images::demo(&engine), TempDir::new());
    let leak = tmp.join("leak");
    let switches = format!("--pid-file {leak}");
    let on_host = |keys: Value| {
        let mut entry = crate::support::demo_entry(&switches);
        entry.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        entry
    };
    let isolation = |keys: Value| {
        let mut isolation = json!({ "enabled": true, "network_mode": "none" });
        isolation.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        json!({ "isolation": isolation })
    };
    let servers = vec![
        // No runtime has this name, so that no image follows from it.
        ("no-image", on_host(isolation(json!({})))),
        ("bad-mount", on_host(isolation(json!({ "image": image, "mounts": ["/nonexistent/dir:/x"] })))),
        ("bad-memory", on_host(isolation(json!({ "image": image, "memory": "lots" })))),
    ];
    let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let scene = Scene::starting(&engine, TempDir::new(), &config(servers.clone()));
    for name in names {
        let parked = scene.daemon.wait_state(name, "parked");
        println!("{name}: {:?}", error(&parked));
    }
    assert!(!std::path::Path::new(&leak).exists(), "it ran on the host");
    assert_eq!(scene.containers().len(), 0);
}

/// One entry's fault is its own.
#[test]
fn beside_others_that_run() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let mut broken = isolated(&image, "");
    broken["command"] = json!("/bin/nothing");
    let servers = vec![
        ("good", isolated(&image, "")),
        ("cli", docker_run(&image, "-i --rm", "")),
        ("broken", broken),
        ("local", crate::support::demo_entry("")),
    ];
    let scene = Scene::starting(&engine, TempDir::new(), &config(servers));
    scene.daemon.wait_ready(&["good", "cli", "local"]);
    scene.daemon.wait_until("broken to say why", |status| error(server(status, "broken")).1.contains("127"));
    scene.end();
}
