//! The commands of docker-container-management.md, with our prefix, through the docker CLI: what that document told
//! its readers to type works, and what it claimed holds.

use super::scene::{GONE, STUBBORN, Scene, cli, config, docker_run, instance_of, isolated};
use crate::support::daemon::Ran;
use crate::support::dockerd::Dockerd;
use crate::support::engine::Engine;
use crate::support::{TempDir, images, processes, until_within};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A line of the document, as its reader types it.
fn sh(engine: &Engine, line: &str) -> Ran {
    let mut command = Command::new("sh");
    crate::support::daemon::run(command.args(["-c", line]).env("DOCKER_HOST", engine.host()))
}

/// What it prints; it must succeed.
fn says(engine: &Engine, line: &str) -> String {
    let ran = sh(engine, line);
    assert_eq!(ran.code, 0, "{line}: {ran:?}");
    ran.stdout
}

#[test]
fn commands_and_claims() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    // "Container Labeling Scheme": a plain `docker run -d`.
    let servers =
        config(vec![("written", docker_run(&image, "-d", "")), ("isolated", isolated(&image, STUBBORN))]);
    let mut scene = Scene::starting(&engine, TempDir::new(), &servers);
    scene.daemon.wait_ready(&["written", "isolated"]);
    let stranger = engine.sleeper("stranger", &image, &serde_json::json!({}));
    let (pid, instance) = (scene.daemon.daemon_pid().to_string(), scene.instance());
    let written = scene.container("written");
    let session = written.label("mcpvisor.session").to_owned();

    // "Inspecting Containers".
    let id = &written.id;
    let lines = says(&engine, &format!("docker inspect {id} | grep mcpvisor"));
    for label in ["managed\": \"true\"", &format!("session\": \"{session}\""), &format!("pid\": \"{pid}\"")] {
        assert!(lines.contains(&format!("mcpvisor.{label}")), "{label}: {lines}");
    }
    let found = says(&engine, "docker ps --filter label=mcpvisor.managed=true");
    assert_eq!(found.lines().count(), 1 + 2, "a heading and ours, not the stranger: {found}");
    let table = r#"docker ps --filter label=mcpvisor.managed=true --format "table {{.ID}}\t{{.Names}}\t{{.Label \"mcpvisor.session\"}}\t{{.Label \"mcpvisor.pid\"}}""#;
    let table = says(&engine, table);
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(columns[2..], [session.as_str(), pid.as_str()], "{table}");
    }
    // "Diagnostic Commands".
    let all = says(&engine, "docker ps -a --filter label=mcpvisor.managed=true");
    assert_eq!(all.lines().count(), 1 + 2, "{all}");
    let format = r#"--format='{{range $key, $value := .Config.Labels}}{{if eq $key "mcpvisor.session"}}Session: {{$value}}{{end}}{{if eq $key "mcpvisor.pid"}}PID: {{$value}}{{end}}{{if eq $key "mcpvisor.started"}}Started: {{$value}}{{end}}{{end}}'"#;
    let shown = says(&engine, &format!("docker inspect {id} {format}"));
    assert!(
        shown.contains(&format!("Session: {session}")) && shown.contains(&format!("PID: {pid}")),
        "{shown}"
    );
    let started: u128 = shown
        .split_once("Started: ")
        .unwrap()
        .1
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert!(started <= now && now - started < 600_000, "milliseconds: {started}, now {now}");
    let found = says(&engine, &format!("docker ps --filter label=mcpvisor.session={session}"));
    assert_eq!(found.lines().count(), 1 + 2, "{found}");
    assert!(processes::is_alive(pid.parse().unwrap()), "the pid is that of a process of ours");
    let status = r#"docker ps --filter label=mcpvisor.managed=true --format "table {{.ID}}\t{{.Names}}\t{{.Label \"mcpvisor.pid\"}}\t{{.Status}}""#;
    assert!(says(&engine, status).contains("Up "));

    // "Manual Recovery": whatever a person does to them, the daemon copes.
    for line in [format!("docker stop {id}"), format!("docker kill {}", scene.container("isolated").id)] {
        says(&engine, &line);
        scene.daemon.wait_until("both to be ready again", |status| {
            let ready = |name| crate::support::daemon::server(status, name)["state"] == "ready";
            ready("written") && ready("isolated") && scene.containers().len() == 2
        });
    }

    // "Orphan Recovery".
    scene.kill_both();
    let tmp = scene.daemon.into_tmp();
    assert_eq!(instance_of(&tmp), instance);
    let state = tmp.path().join("state");
    let clean = |args: &[&str]| cli(&engine, &state, args);
    let asked = clean(&["cleanup"]);
    assert_ne!(
        asked.code, 0,
        "without a terminal to ask on, and without --force, nothing is done: {asked:?}"
    );
    assert!(!super::scene::of_instance(&engine, &instance).is_empty());
    let done = clean(&["cleanup", "--verbose", "--force"]);
    assert_eq!(done.code, 0, "{done:?}");
    let left = says(&engine, "docker ps -aq --filter label=mcpvisor.managed=true");
    assert_eq!(left, "", "{done:?}");

    // "Safety Improvements", and the emergency command while a daemon runs.
    let scene = Scene::starting(&engine, tmp, &servers);
    scene.daemon.wait_ready(&["written", "isolated"]);
    let killed = sh(&engine, "docker kill $(docker ps -q --filter label=mcpvisor.managed=true)");
    assert_eq!(killed.code, 0, "{killed:?}");
    until_within("others in their place", GONE * 2, || (scene.containers().len() == 2).then_some(()));
    scene.daemon.wait_ready(&["written", "isolated"]);
    says(&engine, "docker container prune --force");
    let mut scene = scene;
    assert!(scene.daemon.stop().success());
    scene.assert_none_left(Duration::ZERO);
    assert!(engine.is_running(&stranger), "existing containers without our labels are ignored");
}
