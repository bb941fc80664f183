//! Configs that are odd by their number of servers: none, one name twice, a thousand.

use super::{identity, put_and_wait, threads};
use crate::support::daemon::{Daemon, server};
use crate::support::{demo_config, demo_entry};
use crate::support::{processes, until};
use serde_json::{Map, Value, json};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

#[test]
fn none_some_and_none_again() {
    let daemon = Daemon::start(&json!({"mcpServers": {}}), &[]);
    let status = daemon.status();
    assert_eq!((&status["servers"], &status["config"]["findings"]), (&json!([]), &json!([])));
    put_and_wait(&daemon, &demo_config(&[("a", ""), ("b", "")]));
    daemon.wait_ready(&["a", "b"]);
    let status = put_and_wait(&daemon, &json!({"mcpServers": []}));
    assert_eq!(status["servers"], json!([]));
    let status = put_and_wait(&daemon, &json!({}));
    let findings = status["config"]["findings"].to_string();
    assert!(findings.contains("there is no `mcpServers`"), "{findings}");
    daemon.wait_until("their threads to end", |_| {
        !threads(&daemon).iter().any(|name| name.starts_with("sup:") || name.starts_with("life:"))
    });
}

#[test]
fn one_name_twice() {
    let daemon = Daemon::start(&demo_config(&[("a", ""), ("b", "")]), &[]);
    let first = daemon.wait_ready(&["a", "b"]);
    let (a, b) = (demo_entry(""), demo_entry(""));
    let named = |name: &str, entry: &Value| {
        let mut entry = entry.clone();
        entry["name"] = json!(name);
        entry
    };
    // The last one counts, and it says what it said.
    let twice =
        json!({"mcpServers": [named("a", &json!({"command": "other"})), named("b", &b), named("a", &a)]});
    let status = put_and_wait(&daemon, &twice);
    let findings = status["config"]["findings"].as_array().unwrap();
    let text = findings.iter().map(|finding| finding["message"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(text, ["there is another server of this name in line 1; this one is ignored"]);
    for name in ["a", "b"] {
        assert_eq!(identity(&first, name), identity(&status, name));
    }
}

/// A thousand entries, of which a few run: read, compared and shown, without a thread for each.
#[test]
fn a_thousand() {
    let config = |tools: usize| {
        let mut all: Map<String, Value> = (0..1000)
            .map(|n| {
                let mut entry = demo_entry("");
                entry["enabled"] = json!(false);
                (format!("off-{n:03}"), entry)
            })
            .collect();
        all.insert("steady".to_owned(), demo_entry(""));
        all.insert("moving".to_owned(), demo_entry(&format!("--tools {tools}")));
        json!({"mcpServers": all})
    };
    let daemon = Daemon::start(&config(1), &[]);
    let first = daemon.wait_ready(&["steady", "moving"]);
    assert_eq!(first["servers"].as_array().unwrap().len(), 1002);
    let count = threads(&daemon).len();
    assert!(count <= 2 * 3 + 24, "{count} threads");
    put_and_wait(&daemon, &config(2));
    let last = daemon.wait_until("the change", |status| server(status, "moving")["tools"] == 8);
    assert_eq!(identity(&first, "steady"), identity(&last, "steady"));
    // A setting of all concerns all, and is told to those that have no thread, too.
    let mut retuned = config(2);
    retuned["call_timeout"] = json!(7);
    let status = put_and_wait(&daemon, &retuned);
    assert_eq!(identity(&last, "moving"), identity(&status, "moving"));
    daemon.wait_until("threads to end", |_| threads(&daemon).len() <= 2 * 3 + 24);
    let ran = daemon.cli(&["config", "apply", "--json"]);
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["changed"], &answer["servers"]), (&json!(false), &json!([])));
}

/// A thousand that are disabled, of every kind: what they would run in or talk to hears nothing of them.
#[test]
fn what_is_disabled_costs_no_process_connection_or_thread() {
    let none = Daemon::start(&json!({"mcpServers": {}}), &[]);
    let (engine, remote) = (none.tmp.join("engine.sock"), TcpListener::bind("127.0.0.1:0").unwrap());
    let engine_hears = UnixListener::bind(&engine).unwrap();
    let url = format!("http://{}/mcp", remote.local_addr().unwrap());
    let kinds = [
        demo_entry(""),
        json!({"url": url}),
        json!({"command": "uvx", "args": ["x"], "isolation": {"enabled": true, "image": "x"}}),
        json!({"command": "docker", "args": ["run", "-i", "--rm", "x"]}),
    ];
    let all: Map<String, Value> = (0..1000)
        .map(|n| {
            let mut entry = kinds[n % kinds.len()].clone();
            entry["enabled"] = json!(false);
            (format!("off-{n:03}"), entry)
        })
        .collect();
    let env = [("DOCKER_HOST", format!("unix://{engine}"))];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let daemon = Daemon::start_with_env(&json!({"mcpServers": all}), &env);
    let status = super::status(&daemon);
    let rows = status["servers"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["state"] == "disabled").count(), 1000);
    assert_eq!(status["engines"].as_array().map_or(0, Vec::len), 0, "{}", status["engines"]);
    let held = |daemon: &Daemon| {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.daemon_pid())).unwrap().count();
        // Guardian and daemon.
        (threads(daemon).len(), descriptors, processes::marked(&daemon.mark).len())
    };
    // The connections and the sweeps of both starts end.
    until("it to hold what one without servers holds", || (held(&daemon) == held(&none)).then_some(()));
    remote.set_nonblocking(true).unwrap();
    engine_hears.set_nonblocking(true).unwrap();
    assert!(remote.accept().is_err() && engine_hears.accept().is_err(), "somebody was spoken to");
}
