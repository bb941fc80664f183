//! What a host, an operator or a strange server can do to the daemon: no descriptors left, storms of restarts,
//! servers that never answer a ping. Nothing may leak, and no server may be stuck.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run plain commands and fail by panicking; support/mod.rs says how they wait without sleeping"
)]

use crate::support::daemon::{Daemon, server};
use crate::support::{demo_config, http, processes, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The soft limit of open files of a running process.
fn limit_files(pid: u32, soft: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]).status();
    assert!(status.unwrap().success());
}

fn soft_limit(pid: u32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().to_owned()
}

fn entries(pid: u32, dir: &str) -> usize {
    within(pid, dir).count()
}

fn within(pid: u32, dir: &str) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/{dir}")).unwrap().map(|entry| entry.unwrap().path())
}

/// Whether a thread's name begins so; not if it has just ended.
fn is_called(task: &Path, name: &str) -> bool {
    std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name))
}

#[test]
fn without_descriptors_nothing_is_taken_for_ended() {
    let tmp = crate::support::TempDir::new();
    let switches = format!("--child --double-fork --pid-file {}", tmp.join("pids"));
    let daemon = Daemon::start_in(tmp, &demo_config(&[("a", &switches)]), &[]);
    daemon.wait_ready(&["a"]);
    let first = until("three processes", || {
        let noted = processes::noted(daemon.pid_file());
        (noted.len() == 3).then_some(noted)
    });
    let (pid, leader) = (daemon.daemon_pid(), first.iter().find(|noted| noted.role == "server").unwrap());
    let before = soft_limit(pid);
    limit_files(pid, "3");
    processes::send(leader.pid, nix::sys::signal::Signal::SIGKILL);
    until("a look in vain", || daemon.output().1.contains("look for what is left").then_some(()));
    limit_files(pid, &before);
    until("what it left to be ended", || first.iter().all(|noted| !noted.is_alive()).then_some(()));
    daemon.wait_ready(&["a"]);
}

#[test]
fn storms_of_restarts_leave_one_process_and_nothing_else() {
    let mut daemon = Daemon::start(&demo_config(&[("a", ""), ("b", "--ignore-eof")]), &[]);
    daemon.wait_ready(&["a", "b"]);
    let (pid, address) = (daemon.daemon_pid(), daemon.address().to_owned());
    let size = || (entries(pid, "task"), entries(pid, "fd"), processes::marked(&daemon.mark).len());
    // With the sweep, and with the database open, which is written in the background.
    let at_rest = until("the start to be over", || {
        let sweeps = within(pid, "task").any(|task| is_called(&task, "sweep"));
        let is_database = |fd| std::fs::read_link(fd).is_ok_and(|file| file.ends_with("state.db-wal"));
        let writes = within(pid, "fd").any(is_database);
        let (first, second) = (size(), size());
        (writes && !sweeps && first == second).then_some(first)
    });
    let post = |name: &str, action: &str| {
        http::request(&address, "POST", &format!("/api/v1/servers/{name}/{action}"), &[], "").head.status
    };
    for round in 0..4 {
        std::thread::scope(|scope| {
            for n in 0..30 {
                let action =
                    if round % 2 == 1 && n % 3 == 0 { ["disable", "enable"][n % 2] } else { "restart" };
                let name = ["a", "b"][n % 2];
                scope.spawn(move || assert!([202, 409].contains(&post(name, action))));
            }
        });
    }
    for name in ["a", "b"] {
        assert_eq!(post(name, "enable"), 202);
    }
    let status = daemon.wait_ready(&["a", "b"]);
    assert_eq!(
        (&server(&status, "a")["failures"], &server(&status, "b")["failures"]),
        (&json!(0), &json!(0))
    );
    until("threads, descriptors and processes as before", || {
        let now = size();
        (now.0 <= at_rest.0 && now.1 <= at_rest.1 && now.2 <= at_rest.2).then_some(())
    });
    assert!(daemon.stop().success());
}

/// A server that knows no `ping`, but says something whenever it hears something.
const NO_PING: &str = r#"
while read -r line; do
    id=${line#*\"id\":}; id=${id%%,*}
    case $line in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}}' ;;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[]}}' ;;
    *) echo '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"?"}}' ;;
    esac
done
"#;

#[test]
fn pings_that_are_never_answered_do_not_pile_up() {
    let script = NO_PING.replace("${", "$${");
    let config = json!({
        "connection_management": { "health_check_interval_seconds": 1 },
        "mcpServers": { "x": { "command": "sh", "args": ["-c", script] } },
    });
    let daemon = Daemon::start(&config, &[]);
    let mut seen: Vec<Value> = Vec::new();
    daemon.wait_until("three signs of life after the start", |status| {
        let sign = server(status, "x")["last_success_at"].clone();
        if !sign.is_null() && seen.last() != Some(&sign) {
            seen.push(sign);
        }
        seen.len() > 3
    });
    let x = daemon.wait_state("x", "ready");
    assert!(x["calls"].as_u64().unwrap() <= 1, "{x:#}");
    assert_eq!(x["restarts"], 0);
}
