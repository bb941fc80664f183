//! In which era a server is spoken to: every row of the table of answers to `server/discover`, against the real binary
//! with the demo server behind it, and what is remembered of it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and measure time"
)]

use crate::support::daemon::{Daemon, server};
use crate::support::{TempDir, demo_entry, http};
use mcpvisor::store::Store;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// A state directory in which the last client was of this era.
pub fn after_clients_of(era: &str) -> TempDir {
    let tmp = TempDir::new();
    let state = tmp.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let store = Store::open(Path::new(&state));
    store.remember("client_eras", "last", &format!("\"{era}\"")).unwrap();
    assert!(store.close(Duration::from_secs(10)));
    tmp
}

fn config(switches: &str, more: Value) -> Value {
    let mut entry = demo_entry(switches);
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "mcpServers": { "demo": entry } })
}

/// Where the server ends up, with so many lives after the first and no failure.
#[track_caller]
fn check(clients: &str, switches: &str, more: Value, era: &str, restarts: u64) -> Daemon {
    let daemon = Daemon::start_in(after_clients_of(clients), &config(switches, more), &[]);
    let status = daemon.wait_state("demo", "ready");
    assert_eq!(status["era"], era, "{status:#}");
    let version = if era == "modern" { "2026-07-28" } else { "2025-11-25" };
    assert_eq!(status["protocol"], version, "{status:#}");
    assert_eq!((&status["restarts"], &status["failures"]), (&json!(restarts), &json!(0)), "{status:#}");
    assert_eq!(status["last_error"], Value::Null, "{status:#}");
    assert!(status["tools"].as_u64().unwrap() >= 6, "{status:#}");
    daemon
}

/// The server cannot be spoken to: what is said of it.
#[track_caller]
fn check_fault(clients: &str, switches: &str, more: Value, expected: &str) {
    let daemon = Daemon::start_in(after_clients_of(clients), &config(switches, more), &[]);
    let status = daemon.wait_state("demo", "backoff");
    assert_eq!(status["last_error"]["kind"], "handshake_failed", "{status:#}");
    let message = status["last_error"]["message"].as_str().unwrap();
    assert!(message.contains(expected), "{status:#}");
    assert_ne!(status["last_error"]["hint"], "", "{status:#}");
}

#[test]
fn a_first_life_greets_as_most_clients_do() {
    check("legacy", "--era legacy", json!({}), "legacy", 0);
    check("legacy", "--era either", json!({}), "legacy", 0);
    check("legacy", "--era modern", json!({}), "modern", 1);
}

#[test]
fn the_table_of_answers_to_discover() {
    let modern = |switches: &str, era: &str, restarts| {
        check("modern", switches, json!({"connection_timeout": "4s"}), era, restarts);
    };
    modern("--era modern", "modern", 0);
    modern("--era either", "modern", 0);
    modern("--era legacy", "legacy", 0);
    modern("--era legacy --discover earlier", "legacy", 1);
    modern("--era legacy --discover nonsense", "legacy", 1);
    modern("--era modern --discover again", "modern", 0);
    modern("--era legacy --discover exit", "legacy", 1);
    modern("--era legacy --discover silent", "legacy", 1);
    let fault = |switches: &str| check_fault("modern", switches, json!({}), "2099-01-01");
    fault("--era legacy --discover later");
    fault("--era legacy --discover refuse");
}

#[test]
fn the_entry_decides() {
    check("legacy", "--era either", json!({"era": "modern"}), "modern", 0);
    check("modern", "--era either", json!({"era": "legacy"}), "legacy", 0);
    check_fault("modern", "--era legacy", json!({"era": "modern"}), "not of the modern era");
    check_fault("legacy", "--era modern", json!({"era": "legacy"}), "initialize");
}

/// A slow start is not taken for silence, and what was learnt is not asked again.
#[test]
fn what_was_learnt_is_not_asked_again() {
    let clients = "modern";
    let mut daemon = check(clients, "--era legacy --discover exit", json!({}), "legacy", 1);
    daemon.stop();
    let config = config("--era legacy --discover exit", json!({}));
    let daemon = Daemon::start_in(daemon.into_tmp(), &config, &[]);
    let status = daemon.wait_state("demo", "ready");
    assert_eq!((&status["era"], &status["restarts"]), (&json!("legacy"), &json!(0)), "{status:#}");
    check(clients, "--era modern --start-delay 1500", json!({"connection_timeout": "20s"}), "modern", 0);
}

/// Another program under the same name is another server.
#[test]
fn what_was_learnt_is_of_one_program() {
    let mut daemon = check("modern", "--era legacy", json!({}), "legacy", 0);
    daemon.stop();
    let daemon = Daemon::start_in(daemon.into_tmp(), &config("--era either", json!({})), &[]);
    assert_eq!(daemon.wait_state("demo", "ready")["era"], "modern");
}

/// The life that was begun for a modern client makes way for the first client that is not one; the next does not.
#[test]
fn a_life_that_nobody_used_makes_way() {
    let daemon = check("modern", "--era either", json!({}), "modern", 0);
    let mut client = daemon.client();
    assert_eq!(client.call("demo__add", json!({"a": 1, "b": 2})).unwrap()["content"][0]["text"], "3");
    let status = daemon.status();
    let status = server(&status, "demo");
    assert_eq!((&status["era"], &status["restarts"]), (&json!("legacy"), &json!(1)), "{status:#}");
    client.call("demo__add", json!({"a": 1, "b": 2})).unwrap();
    assert_eq!(server(&daemon.status(), "demo")["restarts"], 1);
}

/// A server that crashes is not started twice as often for being of an unknown era.
#[test]
fn crashes_stay_crashes() {
    let tmp = after_clients_of("modern");
    let pids = tmp.join("pids");
    let entry = config("--exit-on-init --discover exit", json!({}));
    let mut entry = entry;
    entry["mcpServers"]["demo"]["args"].as_array_mut().unwrap().extend([json!("--pid-file"), json!(pids)]);
    let daemon = Daemon::start_in(tmp, &entry, &[]);
    let status = daemon.wait_state("demo", "auto_disabled");
    assert_eq!(status["failures"], 3, "{status:#}");
    let starts = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(starts.lines().count(), 4, "{starts}");
}

/// One call of a modern client, without a session.
fn modern_call(daemon: &Daemon, tool: &str, arguments: Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
    ];
    let full = http::request(daemon.address(), "POST", "/mcp/s/demo", &headers, &body);
    assert_eq!(full.head.status, 200, "{full:?}");
    let json = full.body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&full.body);
    serde_json::from_str(json).unwrap()
}

/// The first call decides, the next client is bridged; the daemon after this one begins right.
#[test]
fn the_first_client_decides() {
    let mut daemon = check("legacy", "--era either", json!({}), "legacy", 0);
    let answer = modern_call(&daemon, "add", json!({"a": 1, "b": 2}));
    assert_eq!(answer["result"]["content"][0]["text"], "3", "{answer:#}");
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(server(&daemon.status(), "demo")["era"], "modern");
    let mut client = daemon.client();
    assert_eq!(client.text("demo__add", json!({"a": 1, "b": 2})), "3");
    let status = daemon.status();
    assert_eq!(
        (&server(&status, "demo")["era"], &server(&status, "demo")["restarts"]),
        (&json!("modern"), &json!(1))
    );
    modern_call(&daemon, "add", json!({"a": 1, "b": 2}));
    daemon.stop();
    let daemon = Daemon::start_in(daemon.into_tmp(), &config("--era either", json!({})), &[]);
    assert_eq!(daemon.wait_state("demo", "ready")["era"], "modern", "as its last client");
}

/// A modern life hears of changes, and its lists are read again.
#[test]
fn a_modern_server_tells_of_changes() {
    let daemon = check("modern", "--era modern --change-tools", json!({}), "modern", 0);
    let before = server(&daemon.status(), "demo")["tools"].as_u64().unwrap();
    modern_call(&daemon, "change_tools", json!({}));
    daemon.wait_until("one more tool", |status| server(status, "demo")["tools"] == before + 1);
    assert_eq!(server(&daemon.status(), "demo")["calls"], 0, "listening is no call");
    assert_eq!(daemon.output().1.matches("what it lists has changed").count(), 1, "said once");
}

/// What a modern client is told of the server's capabilities, and how long that took.
fn discovered(daemon: &Daemon) -> (Value, Duration) {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "_meta": meta });
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": params }).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "server/discover"),
    ];
    let begun = Instant::now();
    let full = http::request(daemon.address(), "POST", "/mcp/s/demo", &headers, &body);
    let took = begun.elapsed();
    let mut answer: Value = serde_json::from_str(&full.body).unwrap();
    (answer["result"]["capabilities"].take(), took)
}

/// A server that was greeted in the other era is described at once, while it is begun anew for the client's: its lists can
/// be others then. Once it has settled, what it says of itself is what its clients are told.
#[test]
fn discovery_waits_for_nobody() {
    let daemon = check("legacy", "--era either --start-delay 3000", json!({}), "legacy", 0);
    let (capabilities, took) = discovered(&daemon);
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert_eq!(capabilities, json!({ "tools": { "listChanged": true } }));
    daemon.wait_until("the other era", |status| server(status, "demo")["era"] == "modern");
    daemon.wait_state("demo", "ready");
    assert_eq!(discovered(&daemon).0, json!({ "tools": { "listChanged": false } }));
    let daemon = check("legacy", "--era legacy", json!({ "era": "legacy" }), "legacy", 0);
    assert_eq!(discovered(&daemon).0, json!({ "tools": { "listChanged": false } }));
}
