//! Servers that a user runs with `docker run`: labelled, found by their cidfile or without it, and owned like the others.

use super::scene::{GONE, STUBBORN, Scene, config, docker_run};
use crate::support::daemon::server;
use crate::support::dockerd::{self, Dockerd};
use crate::support::{TempDir, images, processes, until};
use mcpvisor::sys::procfs;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Files called `*cid*` below the state directory and in the runtime directory of this test.
fn cidfiles(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(cidfiles(&path));
        } else if entry.file_name().to_string_lossy().contains("cid") {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn as_users_write_it() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let mut own_host = docker_run(&image, "--rm -i", "");
    own_host["args"].as_array_mut().unwrap().splice(0..0, [json!("-H"), json!(engine.host())]);
    own_host["command"] = json!("env");
    own_host["args"].as_array_mut().unwrap().insert(0, json!("docker"));
    let servers = vec![
        ("plain", docker_run(&image, "-i --rm", "")),
        // Detached, with a terminal, without stdin: none of it can serve.
        ("wrong", docker_run(&image, "-d -t", "")),
        ("stubborn", docker_run(&image, "-i --rm --label mine=yes", STUBBORN)),
        ("host", own_host),
    ];
    let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let scene = Scene::starting(&engine, TempDir::new(), &config(servers.clone()));
    scene.daemon.wait_ready(&names);
    let mut client = scene.daemon.client();
    for name in &names {
        assert_eq!(client.text(&format!("{name}__echo"), json!({ "text": name })), *name);
        let container = scene.container(name);
        assert!(!container.label("mcpvisor.session").is_empty(), "{container:?}");
    }
    assert_eq!(scene.container("stubborn").label("mine"), "yes");
    let before = scene.container("stubborn").id;
    scene.restart("stubborn");
    scene.daemon.wait_until("stubborn in another container", |status| {
        server(status, "stubborn")["state"] == "ready"
            && scene.containers().iter().all(|each| each.id != before)
    });
    let (output, errors) = scene.daemon.output();
    let said = format!("{output}{errors}");
    for word in ["`-d`", "`-t`", "`-i`"] {
        assert!(said.lines().any(|line| line.contains(word)), "one warning about {word}");
    }
    let state = scene.daemon.tmp.path().join("state");
    scene.end();
    assert_eq!(cidfiles(&state), Vec::<String>::new());
}

/// `docker` that never writes the cidfile: as slow as a large image.
fn slow_docker(dir: &TempDir) -> String {
    let late = dir.join("late");
    let bin = dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let real = images::program("docker");
    // Whatever file it is told to write, it writes another.
    let script = format!(
        "#!/bin/sh\nn=$#\nnext=\nwhile [ $n -gt 0 ]; do\n  n=$((n - 1)); a=$1; shift\n\
         if [ -n \"$next\" ]; then a={late}.$$; next=; fi\n  case $a in\n\
         --cidfile=*) a=--cidfile={late}.$$ ;;\n  --cidfile) next=yes ;;\n  esac\n\
         set -- \"$@\" \"$a\"\ndone\nexec {} \"$@\"\n",
        real.display()
    );
    let path = bin.join("docker");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The seed's second test: without a cidfile in time the container is found by its labels.
#[test]
fn a_cidfile_that_does_not_come() {
    let Some(engine) = dockerd::shared() else { return };
    let (image, tmp) = (images::demo(&engine), TempDir::new());
    let mut entry = docker_run(&image, "-i --rm", STUBBORN);
    entry["command"] = json!(slow_docker(&tmp));
    entry["stop_grace"] = json!("1s");
    entry["cidfile_timeout_seconds"] = json!(1);
    let scene = Scene::starting(&engine, tmp, &config(vec![("slow", entry)]));
    scene.daemon.wait_ready(&["slow"]);
    let before = scene.container("slow").id;
    scene.restart("slow");
    scene.daemon.wait_until("slow in another container", |status| {
        server(status, "slow")["state"] == "ready" && scene.containers().iter().all(|each| each.id != before)
    });
    scene.end();
}

#[test]
fn what_is_not_run_passes_unmodified() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let target = engine.sleeper(&format!("exec-{:x}", fastrand::u64(..)), &image, &json!({}));
    let args = json!(["exec", "-i", target, "/bin/mcpvisor", "demo-server"]);
    let config = config(vec![("exec", json!({ "command": "docker", "args": args }))]);
    let mut scene = Scene::starting(&engine, TempDir::new(), &config);
    scene.daemon.wait_ready(&["exec"]);
    let pid = scene.server("exec")["pid"].as_u64().unwrap() as u32;
    let line = procfs::command_line(pid);
    assert!(line.ends_with(&format!("exec -i {target} /bin/mcpvisor demo-server")), "{line}");
    assert!(scene.daemon.stop().success());
    assert!(engine.is_running(&target), "the container that it went into is not ours");
    engine.remove(&target);
}

/// The CLI is only the way to the container: whoever is killed, the container goes.
#[test]
fn kills() {
    let Some(own) = Dockerd::own() else { return };
    let engine = own.engine();
    let image = images::demo(&engine);
    let servers = config(vec![
        ("easy", docker_run(&image, "-i --rm", "")),
        ("stubborn", docker_run(&image, "-i --rm", STUBBORN)),
    ]);
    let mut tmp = TempDir::new();
    for victim in ["client", "daemon", "guardian", "both"] {
        let mut scene = Scene::starting(&engine, tmp, &servers);
        scene.daemon.wait_ready(&["easy", "stubborn"]);
        let before = scene.containers();
        assert_eq!(before.len(), 2, "{victim}: {before:#?}");
        let daemon = scene.daemon.daemon_pid();
        match victim {
            "client" => processes::send(
                scene.server("stubborn")["pid"].as_u64().unwrap() as u32,
                nix::sys::signal::Signal::SIGKILL,
            ),
            "daemon" => scene.daemon.kill9(daemon),
            "guardian" => scene.daemon.kill9(scene.daemon.guardian_pid()),
            _ => {
                scene.kill_both();
                scene = scene.again(&servers);
            }
        }
        if matches!(victim, "client" | "both") {
            let died = if victim == "client" { "stubborn" } else { "" };
            let old = before.iter().filter(|each| died.is_empty() || each.label("mcpvisor.server") == died);
            let old: Vec<&String> = old.map(|each| &each.id).collect();
            until("others in their place", || {
                let now = scene.containers();
                (now.len() == 2 && now.iter().all(|each| !old.contains(&&each.id))).then_some(())
            });
            assert!(scene.daemon.stop().success());
            scene.assert_none_left(Duration::ZERO);
        } else {
            scene.assert_none_left(GONE);
            until("the daemon to end", || (!processes::is_alive(daemon)).then_some(()));
            scene.daemon.wait_end();
        }
        tmp = scene.daemon.into_tmp();
    }
}
