//! The command that is given events: when it is run, with what, and that nothing of it is ever left or in the way.

use super::outage;
use super::stream::Stream;
use crate::support::daemon::Daemon;
use crate::support::fake_engine::FakeEngine;
use crate::support::processes::{self, marked};
use crate::support::{TempDir, demo_config, measure_over, until};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// A hook of the shell, which is given `file` as `$0`.
fn shell(script: &str, file: &str, more: &Value) -> Value {
    let mut hook = json!({"command": "sh", "args": ["-c", script, file]});
    hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "on_event": hook })
}

fn with_hooks(mut config: Value, hooks: Value) -> Value {
    config["hooks"] = hooks;
    config
}

/// What was told so far, an object a line.
fn told(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Processes of the daemon's mark whose command line begins so.
fn alive(daemon: &Daemon, words: &str) -> usize {
    let line = |pid: u32| mcpvisor::sys::procfs::command_line(pid);
    marked(&daemon.mark).iter().filter(|process| line(process.pid).starts_with(words)).count()
}

#[test]
fn one_at_the_start_of_an_outage_and_one_at_its_end() {
    let engine = FakeEngine::start();
    let tmp = TempDir::new();
    let (file, env) = (tmp.join("told"), tmp.join("env"));
    let script = r#"env > "$ENV_FILE"; cat >> "$0""#;
    let hooks = shell(script, &file, &json!({"env": {"ENV_FILE": env, "KEY": "${env:OUTER}"}}));
    let config = with_hooks(outage::config(), hooks);
    let variables =
        [("DOCKER_HOST", engine.host()), ("OUTER", "x y".to_owned()), ("NOTIFY_SOCKET", "/n".to_owned())];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = Daemon::start_in_with_env(tmp, &config, &variables);
    daemon.wait_ready(&["a", "b", "local"]);
    let mut stream = Stream::open(&daemon, "/events?types=engine", &[]).begun();
    engine.go_away();
    let away = stream.find(|event| event.name == "engine.away").data;
    until("the start to be told", || (told(&file).len() == 1).then_some(()));
    engine.come_back();
    let back = stream.find(|event| event.name == "engine.recovered").data;
    until("the end to be told", || (told(&file).len() == 2).then_some(()));
    assert_eq!(told(&file), [away, back]);
    // It is a process of ours like any other.
    let env = std::fs::read_to_string(env).unwrap();
    let value = |name: &str| env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    assert_eq!(value("KEY"), Some("x y"));
    assert_eq!(value("NOTIFY_SOCKET"), None);
    let ours: Vec<&str> = env.lines().filter(|line| line.starts_with("MCPVISOR_")).collect();
    assert_eq!(ours.len(), 5, "the mark, and nothing else: {ours:?}");
    assert!(value("MCPVISOR_SERVER").unwrap().starts_with("hooks-on-event"), "{ours:?}");
}

#[test]
fn servers_are_told_of_where_that_is_wanted() {
    let tmp = TempDir::new();
    let file = tmp.join("told");
    let hooks = shell(r#"cat >> "$0""#, &file, &json!({"events": ["server.state"]}));
    let daemon = Daemon::start_in(tmp, &with_hooks(demo_config(&[("a", "")]), hooks), &[]);
    until("the newest to be told", || told(&file).into_iter().find(|event| event["to"] == "ready"));
    daemon.wait_ready(&["a"]);
    // Queued, connecting, ready: told by one or two, as quick as it was.
    let told = told(&file);
    let events: u64 = told.iter().map(|event| 1 + event["coalesced"].as_u64().unwrap_or(0)).sum();
    assert_eq!(events, 3, "{told:#?}");
    assert!(told.iter().all(|event| event["server"] == "a" && event["type"] == "server.state"), "{told:#?}");
}

#[test]
fn one_that_hangs_is_ended_with_all_that_it_started() {
    let engine = FakeEngine::start();
    let tmp = TempDir::new();
    let file = tmp.join("told");
    // Deaf to SIGTERM, and with a child that has left its group.
    let script = r#"trap "" TERM; setsid sleep 4711 & cat >> "$0"; echo no use >&2; sleep 4712; sleep 4713"#;
    let config = with_hooks(outage::config(), shell(script, &file, &json!({"timeout": "500ms"})));
    let daemon = outage::start(&engine, tmp, &config);
    let mut stream = Stream::open(&daemon, "/events?types=engine", &[]).begun();
    engine.go_away();
    until("the hook to hang", || (alive(&daemon, "sleep 471") == 2).then_some(()));
    engine.come_back();
    // It is in nobody's way: the end is seen while it hangs, and told to it later.
    stream.find(|event| event.name == "engine.recovered");
    until("the end to be told", || (told(&file).len() == 2).then_some(()));
    until("nothing to be left", || (alive(&daemon, "sleep 471") == 0).then_some(()));
    let (_, log) = daemon.output();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("warn: hooks.on_event")).collect();
    assert_eq!(lines.len(), 1, "one line, however often it fails: {lines:#?}");
    assert!(lines[0].contains("took longer than 500ms and was ended: no use"), "{lines:#?}");
}

#[test]
fn what_it_leaves_behind_ends_with_it() {
    let tmp = TempDir::new();
    let file = tmp.join("told");
    let script = r#"sleep 4721 & setsid sleep 4722 & cat >> "$0""#;
    let hooks = shell(script, &file, &json!({"events": ["server"]}));
    let daemon = Daemon::start_in(tmp, &with_hooks(demo_config(&[("a", "")]), hooks), &[]);
    daemon.wait_ready(&["a"]);
    until("some runs", || (told(&file).len() >= 2).then_some(()));
    until("nothing to be left of them", || (alive(&daemon, "sleep 472") == 0).then_some(()));
}

#[test]
fn a_failure_is_said_once_and_so_is_its_end() {
    let tmp = TempDir::new();
    let (file, good) = (tmp.join("told"), tmp.join("good"));
    let script = r#"cat >> "$0"; test -e "$0.good" || { echo not yet >&2; exit 3; }"#;
    let hooks = shell(script, &file, &json!({"events": ["server.state", "server.phase"]}));
    let daemon = Daemon::start_in(tmp, &with_hooks(demo_config(&[("a", ""), ("b", "")]), hooks), &[]);
    daemon.wait_ready(&["a", "b"]);
    until("four to fail", || (told(&file).len() >= 4).then_some(()));
    std::fs::write(format!("{file}.good"), "").unwrap();
    assert_eq!(daemon.cli(&["upstream", "restart", "a", "--wait"]).code, 0);
    let lines = until("it to work", || {
        let (_, log) = daemon.output();
        let said = log.lines().filter(|line| line.contains("hooks.on_event") && !line.contains("debug:"));
        let said: Vec<String> = said.map(str::to_owned).collect();
        (said.len() >= 2).then_some(said)
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("warn: hooks.on_event: it exited with code 3: not yet; nothing more"),
        "{lines:#?}"
    );
    assert!(lines[1].contains("info: hooks.on_event: works again"), "{lines:#?}");
    assert!(!Path::new(&good).exists());
}

#[test]
fn one_that_cannot_be_started_harms_nobody() {
    let hooks = json!({"on_event": {"command": "no-such-program-4711", "events": ["server"]}});
    let daemon = Daemon::start(&with_hooks(demo_config(&[("a", "")]), hooks), &[]);
    daemon.wait_ready(&["a"]);
    until("that it is said", || {
        daemon.output().1.contains("warn: hooks.on_event: `no-such-program-4711` was not found").then_some(())
    });
}

#[test]
fn a_shutdown_does_not_wait_for_it() {
    let tmp = TempDir::new();
    let file = tmp.join("told");
    let script = r#"trap "" TERM; cat >> "$0"; setsid sleep 4731 & sleep 4732; sleep 4733"#;
    let hooks = shell(script, &file, &json!({"events": ["server"], "timeout": "5m"}));
    let mut daemon = Daemon::start_in(tmp, &with_hooks(demo_config(&[("a", "")]), hooks), &[]);
    daemon.wait_ready(&["a"]);
    until("the hook to hang", || (alive(&daemon, "sleep 473") == 2).then_some(()));
    let begun = Instant::now();
    assert!(daemon.stop().success());
    let took = begun.elapsed();
    println!("stopped within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    daemon.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn it_does_not_outlive_a_daemon_that_is_killed() {
    let tmp = TempDir::new();
    let file = tmp.join("told");
    let script = r#"cat >> "$0"; setsid sleep 4741 & sleep 4742"#;
    let hooks = shell(script, &file, &json!({"events": ["server"], "timeout": "5m"}));
    let mut daemon = Daemon::start_in(tmp, &with_hooks(demo_config(&[("a", "")]), hooks), &[]);
    daemon.wait_ready(&["a"]);
    until("the hook to hang", || (alive(&daemon, "sleep 474") == 2).then_some(()));
    let pid = daemon.daemon_pid();
    daemon.kill9(pid);
    daemon.wait_end();
    until("the daemon to be dead", || (!processes::is_alive(pid)).then_some(()));
    daemon.assert_nothing_left(Duration::from_secs(2));
}

/// Told of the first outage at once, and then as seldom as it must be.
#[test]
fn an_engine_that_comes_and_goes_is_no_storm() {
    let engine = FakeEngine::start();
    let tmp = TempDir::new();
    let file = tmp.join("told");
    let config = with_hooks(outage::config(), shell(r#"cat >> "$0""#, &file, &json!({})));
    let daemon = outage::start(&engine, tmp, &config);
    let mut stream = Stream::open(&daemon, "/events?types=engine.away,engine.recovered", &[]).begun();
    let begun = Instant::now();
    for _ in 0..8 {
        engine.go_away();
        stream.find(|event| event.name == "engine.away");
        engine.come_back();
        stream.find(|event| event.name == "engine.recovered");
    }
    let took = begun.elapsed();
    // Starts are told at 0, 1, 3, 7, … seconds at the earliest.
    let starts = (took.as_secs() + 1).ilog2() as usize + 1;
    measure_over(Duration::from_millis(200));
    let runs = told(&file);
    println!("8 outages within {took:?}: {} runs", runs.len());
    assert!(runs.len() <= 2 * (starts + 1), "{} runs within {took:?}", runs.len());
    let last = until("the last end to be told", || {
        told(&file).pop().filter(|last| last["type"] == "engine.recovered")
    });
    assert!(last["seq"].is_u64());
}
