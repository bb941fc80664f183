//! The ordinary life of a server in a container: made as promised, used, restarted, stopped.

use super::scene::{STUBBORN, Scene, config, isolated, isolated_with};
use crate::support::dockerd;
use crate::support::engine::Engine;
use crate::support::{TempDir, images, measure_over, until};
use mcpvisor::sys::procfs;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[test]
fn made_as_promised_and_gone_with_its_daemon() {
    let Some(engine) = dockerd::shared() else { return };
    let scene = Scene::new(&engine, &[("Git Hub", "")]);
    let slug = scene.server("Git Hub")["slug"].as_str().unwrap().to_owned();
    let container = scene.container(&slug);
    assert_eq!(container.name, format!("mcpvisor-{}-{slug}-a", &scene.instance()[..8]));
    let inspected = engine.inspect(&container.id).unwrap();
    let host = &inspected["HostConfig"];
    for (what, is, expected) in [
        ("AutoRemove", &host["AutoRemove"], json!(true)),
        ("CapDrop", &host["CapDrop"], json!(["ALL"])),
        ("Init", &host["Init"], json!(true)),
        ("NetworkMode", &host["NetworkMode"], json!("none")),
        ("StdinOnce", &inspected["Config"]["StdinOnce"], json!(true)),
        ("Tty", &inspected["Config"]["Tty"], json!(false)),
    ] {
        assert_eq!(*is, expected, "{what}");
    }
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{}", host["SecurityOpt"]);
    assert!(host["PidsLimit"].as_u64() > Some(0), "{}", host["PidsLimit"]);
    for name in ["managed", "instance", "session", "server", "variant", "pid", "pid-start", "boot", "host"] {
        assert!(!container.label(&format!("mcpvisor.{name}")).is_empty(), "{name}: {container:?}");
    }
    assert_eq!(container.label("mcpvisor.pid"), scene.daemon.daemon_pid().to_string());
    let tools = scene.daemon.client().request("tools/list", json!({})).unwrap();
    let mut names = tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
    let echo = names.find(|name| name.ends_with("__echo")).unwrap();
    assert_eq!(scene.daemon.client().text(echo, json!({ "text": "hello" })), "hello");
    // As its engine says; it sees all that the container runs, the init of the engine too.
    let status: Value =
        serde_json::from_str(&scene.daemon.cli(&["status", "--usage", "--json"]).stdout).unwrap();
    let usage =
        |what: &str| status["servers"][0]["usage"][what].as_u64().unwrap_or_else(|| panic!("{status:#}"));
    assert_eq!((usage("processes"), usage("fds")), (2, 0), "{status:#}");
    assert!(usage("rss_kib") > 100, "{status:#}");
    scene.end();
}

#[test]
fn limits_and_mounts_are_the_entrys() {
    let Some(engine) = dockerd::shared() else { return };
    let (image, tmp) = (images::demo(&engine), TempDir::new());
    std::fs::write(tmp.join("note"), "from the host").unwrap();
    let keys = json!({
        "memory": "256m", "cpus": "0.5", "pids_limit": 64, "read_only": true,
        "mounts": [format!("{}:/notes:ro", tmp.path().display())],
    });
    let config = config(vec![("limited", isolated_with(&image, "", keys))]);
    let scene = Scene::starting(&engine, TempDir::new(), &config);
    scene.daemon.wait_ready(&["limited"]);
    let inspected = engine.inspect(&scene.container("limited").id).unwrap();
    let host = &inspected["HostConfig"];
    assert_eq!(host["Memory"], 256 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 64);
    assert_eq!(host["ReadonlyRootfs"], true);
    let mounts = inspected["Mounts"].as_array().unwrap();
    let binds: Vec<_> = mounts.iter().filter(|mount| mount["Type"] == "bind").collect();
    assert_eq!(binds.len(), 1, "only what was asked for: {mounts:?}");
    assert_eq!((&binds[0]["Destination"], &binds[0]["RW"]), (&json!("/notes"), &json!(false)));
    scene.end();
}

/// A value that a leak would show: nothing else has it.
const SECRET: &str = "s3cr3t-0f-th3-t3st-7c1e";

#[test]
fn secrets_are_in_the_containers_environment_only() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let mut by_api = isolated(&image, "");
    by_api["env"] = json!({ "API_KEY": SECRET });
    let mut by_cli = super::scene::docker_run(&image, "-i --rm -e API_KEY", "");
    by_cli["env"] = json!({ "API_KEY": SECRET });
    // Their names are in no argv either way; what looks on is there before the first of them.
    let watch = Argvs::watch();
    let scene =
        Scene::starting(&engine, TempDir::new(), &config(vec![("by-api", by_api), ("by-cli", by_cli)]));
    scene.daemon.wait_ready(&["by-api", "by-cli"]);
    let mut client = scene.daemon.client();
    for tool in ["by-api__env", "by-cli__env"] {
        assert_eq!(client.text(tool, json!({ "name": "API_KEY" })), SECRET);
    }
    for server in ["by-api", "by-cli"] {
        let mut inspected = engine.inspect(&scene.container(server).id).unwrap();
        assert!(inspected["Config"]["Env"].to_string().contains(SECRET));
        inspected["Config"]["Env"] = Value::Null;
        assert!(!inspected.to_string().contains(SECRET), "{server}: {inspected:#}");
        scene.restart(server);
    }
    scene.daemon.wait_ready(&["by-api", "by-cli"]);
    assert!(!scene.daemon.status().to_string().contains(SECRET));
    let state = scene.daemon.tmp.path().join("state");
    let tmp = scene.daemon.tmp.path().to_owned();
    let said = scene.daemon.output();
    scene.end();
    assert!(!said.0.contains(SECRET) && !said.1.contains(SECRET), "on the daemon's output");
    assert_eq!(holding(&state, SECRET), Vec::<String>::new(), "in {}", tmp.display());
    assert_eq!(watch.end(SECRET), Vec::<String>::new());
}

/// The files below a directory that hold the text.
fn holding(dir: &std::path::Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Looks at the command lines of all processes, again and again.
struct Argvs {
    thread: std::thread::JoinHandle<std::collections::BTreeSet<String>>,
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Argvs {
    fn watch() -> Argvs {
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = std::sync::Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut seen = std::collections::BTreeSet::new();
            while !told.load(std::sync::atomic::Ordering::Relaxed) {
                seen.extend(procfs::all().iter().map(|process| procfs::command_line(process.pid)));
                measure_over(Duration::from_millis(20));
            }
            seen
        });
        Argvs { thread, over }
    }

    /// Those that held the text.
    fn end(self, text: &str) -> Vec<String> {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        assert!(seen.iter().any(|line| line.contains("docker run") || line.contains(" run -i")), "{seen:?}");
        seen.into_iter().filter(|line| line.contains(text)).collect()
    }
}

#[test]
fn servers_that_will_not_end_are_ended() {
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let mut servers = vec![
        ("stubborn", isolated(&image, STUBBORN)),
        // An attach stream that is not read makes stop, kill and remove hang.
        ("flood", isolated(&image, &format!("--flood-stdout 0 --when init {STUBBORN}"))),
        ("family", isolated(&image, "--child --double-fork --setsid")),
    ];
    for (_, entry) in &mut servers {
        entry["stop_grace"] = json!("1s");
    }
    let scene = Scene::starting(&engine, TempDir::new(), &config(servers));
    scene.daemon.wait_ready(&["stubborn", "family"]);
    until("the flood to have its container", || {
        scene.containers().iter().any(|each| each.label("mcpvisor.server") == "flood").then_some(())
    });
    let before = scene.container("stubborn").id;
    scene.restart("stubborn");
    let what = "stubborn to be ready in another container";
    scene.daemon.wait_until(what, |status| {
        crate::support::daemon::server(status, "stubborn")["state"] == "ready"
            && scene.containers().iter().all(|each| each.id != before)
    });
    scene.end();
}

#[test]
fn storms_of_restarts_leave_one_container() {
    let Some(engine) = dockerd::shared() else { return };
    let scene = Scene::new(&engine, &[("a", ""), ("b", STUBBORN)]);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for name in ["a", "b", "a", "b"] {
                scope.spawn(|| scene.restart(name));
            }
        });
    }
    scene.daemon.wait_ready(&["a", "b"]);
    assert_eq!(scene.containers().len(), 2);
    scene.end();
}

#[test]
fn a_server_that_crashes_is_replaced() {
    let Some(engine) = dockerd::shared() else { return };
    let scene = Scene::new(&engine, &[("brittle", "--die-in-call")]);
    let before = scene.container("brittle").id;
    let error = scene.daemon.client().call("brittle__die", json!({ "code": 42 })).unwrap_err();
    assert_eq!(error.kind(), "exited", "{error:?}");
    assert!(error.message.contains("42") && error.message.contains("as told"), "{error:?}");
    let what = "another container";
    scene.daemon.wait_until(what, |status| {
        crate::support::daemon::server(status, "brittle")["state"] == "ready"
            && scene.containers().iter().all(|each| each.id != before)
    });
    let log = scene.daemon.cli(&["upstream", "logs", "brittle"]);
    assert!(log.stdout.contains("dying with code 42"), "its stderr is in its log: {log:?}");
    scene.end();
}

/// Stopping is as quick as the engine can be.
#[test]
fn twenty_are_stopped_as_quickly_as_the_engine_can() {
    const SERVERS: usize = 20;
    const ROUNDS: usize = 3;
    let Some(engine) = dockerd::shared() else { return };
    let image = images::demo(&engine);
    let names: Vec<String> = (0..SERVERS).map(|n| format!("s{n}")).collect();
    let config = config(names.iter().map(|name| (name.as_str(), isolated(&image, ""))).collect());
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let mut scene = Scene::starting(&engine, TempDir::new(), &config);
        scene.daemon.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let begun = Instant::now();
        assert!(scene.daemon.stop().success());
        let ours = begun.elapsed();
        scene.assert_none_left(Duration::ZERO);
        let bare = bare_removal(&engine, &image, SERVERS);
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!("stopping {SERVERS} containers: {ours:?}, bare removal {bare:?}: {ratio:.2}");
        if ratio <= 1.3 {
            return;
        }
        ratios.push(ratio);
    }
    panic!("{ratios:?}");
}

/// The same containers, attached to as the daemon is, removed by one call each, all at once.
fn bare_removal(engine: &Engine, image: &str, count: usize) -> Duration {
    let attached: Vec<(String, UnixStream)> = (0..count).map(|_| engine.attached(image)).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (id, stream) in &attached {
            scope.spawn(move || {
                // Read to its end meanwhile, or the removal hangs.
                scope.spawn(move || std::io::copy(&mut &*stream, &mut std::io::sink()));
                engine.remove(id);
                until("it to be gone", || engine.inspect(id).is_none().then_some(()));
            });
        }
    });
    begun.elapsed()
}
