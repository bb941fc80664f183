//! One change at a time, to a daemon that runs: who is touched, who is not, and what is said of it.

use super::{file, identity, logged, put, put_and_wait, put_text, status, threads};
use crate::support::daemon::{Daemon, command, run, server};
use crate::support::processes::{self, noted};
use crate::support::{TempDir, demo_config, demo_entry, http, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn only_what_changed_is_touched() {
    let before = demo_config(&[("same", ""), ("other", ""), ("gone", ""), ("quick", "--tools 2")]);
    let daemon = Daemon::start(&before, &[]);
    let first = daemon.wait_ready(&["same", "other", "gone", "quick"]);
    let mut on_all = daemon.client();
    let mut on_same = crate::support::mcp::Mcp::connect(&daemon.server_url("same"));
    let mut on_gone = crate::support::mcp::Mcp::connect(&daemon.server_url("gone"));
    assert!(on_all.tools().contains(&"gone__echo".to_owned()));
    let mut news = on_all.events();
    let mut news_of_same = on_same.events();
    let mut after =
        demo_config(&[("fresh", ""), ("same", ""), ("other", "--tools 1"), ("quick", "--tools 2")]);
    after["mcpServers"]["quick"]["call_timeout"] = json!("300ms");
    put_and_wait(&daemon, &after);
    let last = daemon.wait_ready(&["fresh", "same", "other", "quick"]);
    for name in ["same", "quick"] {
        assert_eq!(identity(&first, name), identity(&last, name));
    }
    assert_ne!(identity(&first, "other").0, identity(&last, "other").0);
    assert_eq!(server(&last, "other")["restarts"], 1);
    assert_eq!(server(&last, "gone"), &Value::Null);
    let names: Vec<&Value> = last["servers"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["fresh", "other", "quick", "same"], "in the order of the file");
    assert_eq!(last["config"]["loads"], 2);
    assert_eq!(logged(&daemon, "config loaded"), 2);
    // Sessions go on, and know of the tools that there are now.
    let changed = news.next().unwrap().unwrap();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    until("the tools of now", || {
        let tools = on_all.tools();
        let (has, had) = (["fresh__echo", "other__extra_1"], "gone__echo");
        (has.iter().all(|name| tools.contains(&(*name).to_owned())) && !tools.contains(&had.to_owned()))
            .then_some(())
    });
    assert_eq!(on_same.text("echo", json!({"text": "still here"})), "still here");
    let refused = http::request(daemon.address(), "POST", "/mcp/s/gone", &[], "{}");
    assert_eq!(refused.head.status, 404);
    let _ = &mut on_gone;
    // A retuned server goes on with its new patience.
    let late = on_all.request("tools/call", json!({"name": "quick__sleep", "arguments": {"ms": 20_000}}));
    assert!(format!("{late:?}").contains("did not answer within 300ms"), "{late:?}");
    // Nobody who sees only an unchanged server has heard of anything: the next word is what it asks for.
    put_and_wait(&daemon, &demo_config(&[("same", "--tools 1")]));
    let changed = news_of_same.next().unwrap().unwrap();
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(on_same.tools().len(), 7);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let config = demo_config(&[("a", "")]);
    let daemon = Daemon::start(&config, &[]);
    let first = daemon.wait_ready(&["a"]);
    let whole = config.to_string();
    let check = |text: &str, why: &str| {
        put_text(&daemon, text);
        let status = daemon.wait_until(why, |status| status["config"]["error"].is_object());
        assert_eq!(identity(&first, "a"), identity(&status, "a"));
        assert_eq!(status["config"]["loads"], 1);
        let findings = status["config"]["findings"].to_string();
        assert!(findings.contains(why), "{findings}");
        let ran = daemon.cli(&["config", "apply"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
        assert!(ran.stderr.contains("cannot be used as it is"), "{ran:?}");
        assert_eq!(daemon.cli(&["config", "plan"]).code, 4);
        let shown = daemon.cli(&["status"]).stdout.replace('\n', " ");
        assert!(shown.contains("what ran before runs on"), "{shown}");
        // As it was: well again, and nothing was loaded.
        put_text(&daemon, &whole);
        daemon.wait_until("the file to be well again", |status| status["config"]["error"].is_null());
    };
    check(&whole[..whole.len() / 2], "does not end on its line");
    check("", "the file is empty");
    check(r#"{"mcpServers": 1}"#, "expected an object or an array");
    assert_eq!((logged(&daemon, "config not loaded"), logged(&daemon, "config loaded")), (3, 1));
    assert_eq!(identity(&first, "a"), identity(&daemon.status(), "a"));
    // An entry that cannot run parks its server, and says why; put right, it runs.
    put(&daemon, &json!({"mcpServers": {"a": {"command": 1}}}));
    let parked = daemon.wait_state("a", "parked");
    assert!(parked["reason"].to_string().contains("expected a string"), "{parked}");
    put(&daemon, &config);
    daemon.wait_ready(&["a"]);
}

#[test]
fn commands_and_signals() {
    let plain = |n: usize| {
        let mut config = demo_config(&[("a", &format!("--tools {n}")), ("b", "")]);
        config["call_timeout"] = json!(100 + n);
        config
    };
    let daemon = Daemon::start(&plain(0), &[]);
    daemon.wait_ready(&["a", "b"]);
    assert_eq!(daemon.cli(&["config", "plan"]).stdout, "nothing would change\n");
    assert_eq!(daemon.cli(&["config", "apply"]).stdout, "nothing changed\n");
    // The daemon does it by itself soon after, so who plans must be quick.
    let expected = "restart  a: args, call_timeout\nretune   b: call_timeout\nsetting  call_timeout\n";
    let mut n = 0;
    until("a plan before the daemon has done it", || {
        n += 1;
        put(&daemon, &plain(n));
        let ran = daemon.cli(&["config", "plan"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        (ran.stdout == expected).then_some(())
    });
    // What is in the file when it is asked for is in force when the answer comes, whoever was quicker.
    for n in 1000..1005 {
        put(&daemon, &plain(n));
        let ran = daemon.cli(&["config", "apply", "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(status(&daemon)["config"]["hash"], super::hash(&plain(n).to_string()).as_str());
    }
    let loads = status(&daemon)["config"]["loads"].as_u64().unwrap();
    put(&daemon, &plain(7));
    processes::send(daemon.guardian_pid(), Signal::SIGHUP);
    let status = daemon.wait_until("the signal to be heard", |status| status["config"]["loads"] == loads + 1);
    assert_eq!(status["config"]["hash"], super::hash(&plain(7).to_string()).as_str());
    daemon.wait_ready(&["a", "b"]);
    // Without a daemon there is nothing to compare with.
    let tmp = TempDir::new();
    let config = tmp.join("c.json");
    fs::write(&config, plain(0).to_string()).unwrap();
    let ran = run(command().args(["--state-dir", &tmp.join("state"), "--config", &config, "config", "plan"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "add      a\nadd      b\n"), "{ran:?}");
    assert!(ran.stderr.contains("compared with nothing"), "{ran:?}");
}

#[test]
fn settings_of_the_daemon() {
    let daemon = Daemon::start(&demo_config(&[("a", "")]), &[]);
    let first = daemon.wait_ready(&["a"]);
    let mut config = demo_config(&[("a", "")]);
    config["api_key"] = json!("sesame");
    config["data_dir"] = json!("/srv/elsewhere");
    config["logging"] = json!({"level": "error"});
    config["trusted_hosts"] = json!(["mcp.example.org"]);
    let status = put_and_wait(&daemon, &config);
    let findings = status["config"]["findings"].to_string();
    assert!(findings.contains("data_dir") && findings.contains("when it is started again"), "{findings}");
    let get = |headers: &[(&str, &str)]| {
        http::request(daemon.address(), "GET", "/api/v1/status", headers, "").head.status
    };
    assert_eq!(get(&[]), 401);
    assert_eq!(get(&[("x-api-key", "sesame"), ("origin", "https://mcp.example.org")]), 200);
    assert_eq!(identity(&first, "a"), identity(&status, "a"));
    // A key that cannot be known keeps the one that is in force.
    config["api_key"] = json!("${env:SURELY_NOT_SET}");
    let status = put_and_wait(&daemon, &config);
    let findings = status["config"]["findings"].to_string();
    assert!(findings.contains("stays as it was"), "{findings}");
    assert_eq!((get(&[]), get(&[("x-api-key", "sesame")])), (401, 200));
    let status = put_and_wait(&daemon, &demo_config(&[("a", "")]));
    assert_eq!((get(&[]), &status["config"]["findings"]), (200, &json!([])));
}

/// Nothing is there of a server that is disabled: no process, no thread, no engine that is asked.
#[test]
fn a_disabled_server_costs_nothing() {
    let mut config = demo_config(&[("on", ""), ("off", "--child --pid-file PIDS")]);
    let tmp = TempDir::new();
    let pids = tmp.join("pids");
    let args = config["mcpServers"]["off"]["args"].as_array_mut().unwrap();
    *args.last_mut().unwrap() = json!(pids);
    config["mcpServers"]["off"]["enabled"] = json!(false);
    let socket = tmp.join("docker.sock");
    let isolation = json!({"enabled": true, "image": "x"});
    config["mcpServers"]["box"] =
        json!({"command": "x", "isolation": isolation, "engine": socket, "enabled": false});
    config["mcpServers"]["web"] = json!({"url": "http://127.0.0.1:9/mcp", "enabled": false});
    let daemon = Daemon::start_in(tmp, &config, &[]);
    let status = daemon.wait_ready(&["on"]);
    let of_servers = |daemon: &Daemon| -> Vec<String> {
        let prefixes = ["sup:", "life:", "engine:", "calls:"];
        let mut found = threads(daemon);
        found.retain(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        found.sort();
        found
    };
    assert_eq!(of_servers(&daemon), ["life:on", "sup:on"]);
    assert_eq!(status["engines"], json!([]));
    for name in ["off", "box", "web"] {
        assert_eq!(server(&status, name)["state"], "disabled");
    }
    assert_eq!(noted(&pids), []);
    // Enabled by hand, by the file, and off again: whoever was there goes.
    let ran = daemon.cli(&["upstream", "enable", "off", "--wait"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(of_servers(&daemon), ["life:off", "life:on", "sup:off", "sup:on"]);
    config["mcpServers"]["box"]["enabled"] = json!(true);
    put(&daemon, &config);
    let waiting = daemon.wait_state("box", "waiting");
    assert_eq!(waiting["reason"]["kind"], "engine_away");
    assert_eq!(status_of_engines(&daemon), 1);
    assert_eq!(server(&daemon.status(), "off")["state"], "ready", "what people said of others still holds");
    config["mcpServers"]["box"]["enabled"] = json!(false);
    put(&daemon, &config);
    daemon.wait_state("box", "disabled");
    assert_eq!(daemon.cli(&["upstream", "disable", "off", "--wait"]).code, 0);
    until("their threads to end", || (of_servers(&daemon) == ["life:on", "sup:on"]).then_some(()));
    assert_eq!(status_of_engines(&daemon), 0);
    assert!(noted(&pids).iter().all(|process| !process.is_alive()));
}

fn status_of_engines(daemon: &Daemon) -> usize {
    status(daemon)["engines"].as_array().unwrap().len()
}

/// Named no more and named again while its old life does not want to end: never two at once.
#[test]
fn gone_and_back_before_it_is_off() {
    let tmp = TempDir::new();
    let pids = tmp.join("pids");
    let stubborn = || {
        let mut config =
            demo_config(&[("a", &format!("--ignore-eof --ignore-term --pid-file {pids}")), ("b", "")]);
        config["mcpServers"]["a"]["stop_grace"] = json!("1s");
        config
    };
    let without = demo_config(&[("b", "")]);
    let daemon = Daemon::start_in(tmp, &stubborn(), &[]);
    let first = daemon.wait_ready(&["a", "b"]);
    for round in 1..=3 {
        let status = put_and_wait(&daemon, &without);
        assert_eq!(server(&status, "a"), &Value::Null);
        put_and_wait(&daemon, &stubborn());
        daemon.wait_ready(&["a"]);
        let lives = noted(&pids);
        assert_eq!(lives.len(), round + 1, "{lives:?}");
        assert_eq!(lives.iter().filter(|life| life.is_alive()).count(), 1);
    }
    assert_eq!(identity(&first, "b"), identity(&daemon.status(), "b"));
    put_and_wait(&daemon, &without);
    until("the last one to end", || noted(&pids).iter().all(|life| !life.is_alive()).then_some(()));
    until("its thread to end", || (!threads(&daemon).contains(&"sup:a".to_owned())).then_some(()));
}

/// From the host into a container, whose engine is not there, and back.
#[test]
fn a_server_moves() {
    let host = demo_config(&[("a", ""), ("b", "")]);
    let daemon = Daemon::start(&host, &[]);
    let first = daemon.wait_ready(&["a", "b"]);
    let mut boxed = host.clone();
    let entry = &mut boxed["mcpServers"]["a"];
    entry["isolation"] = json!({"enabled": true, "image": "x"});
    entry["engine"] = json!(daemon.tmp.join("docker.sock"));
    put(&daemon, &boxed);
    let waiting = daemon.wait_state("a", "waiting");
    assert_eq!((&waiting["reason"]["kind"], &waiting["failures"]), (&json!("engine_away"), &json!(0)));
    put(&daemon, &host);
    daemon.wait_ready(&["a"]);
    assert_eq!(identity(&first, "b"), identity(&daemon.status(), "b"));
}

#[test]
fn links_and_directories_that_come_and_go() {
    let daemon = Daemon::start(&demo_config(&[("a", "")]), &[]);
    daemon.wait_ready(&["a"]);
    let path = |name: &str| daemon.tmp.path().join(name);
    for (version, tools) in [("one", "1"), ("two", "2")] {
        fs::create_dir(path(version)).unwrap();
        let config = demo_config(&[("a", &format!("--tools {tools}"))]).to_string();
        fs::write(path(version).join("config"), config).unwrap();
    }
    let tools = |count: usize| {
        let what = format!("{count} tools");
        daemon.wait_until(&what, |status| server(status, "a")["tools"] == count);
    };
    let link = |target: &str, name: &str| {
        symlink(target, path("link")).unwrap();
        fs::rename(path("link"), path(name)).unwrap();
    };
    link("one", "current");
    fs::remove_file(file(&daemon)).unwrap();
    link("current/config", "mcp_config.json");
    tools(7);
    link("two", "current");
    tools(8);
    let life = identity(&daemon.status(), "a");
    fs::rename(path("two"), path("away")).unwrap();
    let status = daemon.wait_until("the loss", |status| status["config"]["error"].is_object());
    assert!(status["config"]["error"].to_string().contains("the file is gone"), "{status:#}");
    assert_eq!(identity(&status, "a"), life);
    fs::rename(path("away"), path("two")).unwrap();
    daemon.wait_until("its return", |status| status["config"]["error"].is_null());
    fs::remove_dir_all(path("two")).unwrap();
    daemon.wait_until("the loss", |status| status["config"]["error"].is_object());
    fs::create_dir(path("two")).unwrap();
    fs::write(path("two/config"), demo_config(&[("a", "--tools 3")]).to_string()).unwrap();
    tools(9);
    // In place, through another name.
    fs::hard_link(path("two/config"), path("other-name")).unwrap();
    fs::write(path("other-name"), demo_config(&[("a", "--tools 4")]).to_string()).unwrap();
    tools(10);
}

/// Without a config the demo runs, and the first file that comes to one of the places is taken over.
#[test]
fn a_config_for_the_demo() {
    let tmp = TempDir::new();
    let state = tmp.join("state");
    let mut serve = command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--state-dir", &state]).current_dir(tmp.path());
    serve.env("HOME", tmp.path()).env("XDG_CONFIG_HOME", tmp.join("xdg"));
    serve
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut serve = serve.spawn().unwrap();
    let status = || -> Value {
        let ran = run(command().args(["--state-dir", &state, "status", "--json"]).env("HOME", tmp.path()));
        serde_json::from_str(&ran.stdout).unwrap_or_default()
    };
    until("the demo", || (status()["servers"][0]["name"] == "demo").then_some(()));
    let dir = tmp.path().join("xdg/mcpvisor");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("mcp_config.json"), json!({"mcpServers": {"mine": demo_entry("")}}).to_string())
        .unwrap();
    until("the config", || {
        let status = status();
        (status["servers"][0]["name"] == "mine" && status["servers"][0]["state"] == "ready").then_some(())
    });
    processes::send(serve.id(), Signal::SIGTERM);
    until("serve to end", || serve.try_wait().unwrap());
}

/// A host without inotify watches: said once, and whoever asks is heard all the same.
#[test]
fn where_nothing_can_be_watched() {
    let tmp = TempDir::new();
    let (state, config, errors) = (tmp.join("state"), tmp.join("config"), tmp.join("errors"));
    let of = |tools: usize| demo_config(&[("a", &format!("--tools {tools}")), ("b", "")]).to_string();
    fs::write(&config, of(1)).unwrap();
    // In a user namespace of its own, where it may be forbidden.
    let forbid = "echo 0 > /proc/sys/user/max_inotify_instances || exit 9; exec \"$0\" \"$@\"";
    let mut serve = std::process::Command::new("unshare");
    serve.args(["-Ur", "sh", "-c", forbid, crate::support::BINARY, "serve", "--config", &config]);
    serve.args(["--state-dir", &state, "--listen", "127.0.0.1:0"]);
    serve.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    serve.stderr(fs::File::create(&errors).unwrap());
    let Ok(mut serve) = serve.spawn() else { return eprintln!("skipped: there is no unshare") };
    let cli = |args: &[&str]| run(command().args(["--state-dir", &state]).args(args));
    let started = until("the daemon", || match serve.try_wait().unwrap() {
        Some(_) => Some(false),
        None => (cli(&["status"]).stdout.matches("ready").count() == 2).then_some(true),
    });
    if !started {
        return eprintln!("skipped: {}", fs::read_to_string(&errors).unwrap());
    }
    fs::write(&config, of(2)).unwrap();
    for (command, expected) in [
        ("plan", "restart  a: args\nkeep     1 more\n"),
        ("plan", "restart  a: args\nkeep     1 more\n"),
        ("apply", "restart  a: args\nkeep     1 more\n"),
        ("apply", "nothing changed\n"),
        ("plan", "nothing would change\n"),
    ] {
        let ran = cli(&["config", command]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, expected), "{ran:?}");
    }
    let status: Value = serde_json::from_str(&cli(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["config"]["loads"], 2);
    assert!(status["config"]["findings"].to_string().contains("is not watched"), "{status:#}");
    fs::write(&config, of(3)).unwrap();
    processes::send(serve.id(), Signal::SIGHUP);
    until("the signal to be heard", || cli(&["status"]).stdout.contains("loaded 3x").then_some(()));
    assert_eq!(fs::read_to_string(&errors).unwrap().matches("is not watched").count(), 1);
    processes::send(serve.id(), Signal::SIGTERM);
    until("serve to end", || serve.try_wait().unwrap());
}
