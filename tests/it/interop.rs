//! Strangers before and behind mcpvisor: published servers, and the SDKs' own clients (tests/peers). What they
//! need is installed by scripts/test; without it these tests say so and pass, unless `IT_PEERS=required`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and start plain processes"
)]

use crate::support::TempDir;
use crate::support::daemon::{Daemon, run};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A published server: how it is started, how many tools it has, and one call with a part of its answer.
struct Peer {
    name: &'static str,
    program: &'static str,
    args: Vec<String>,
    env: Value,
    tools: usize,
    tool: &'static str,
    arguments: Value,
    says: String,
}

/// The Python ones are built on `mcp` 2.x, which serves both eras and is pinned by the first message: we open with
/// `initialize`, so nothing is held at an older version (requirements-servers.txt has what was resolved).
fn peers(dir: &TempDir) -> Vec<Peer> {
    let files = dir.join("files");
    let repository = dir.join("repository");
    let thought =
        json!({"thought": "one", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1});
    vec![
        Peer {
            name: "everything",
            program: "npm/node_modules/.bin/mcp-server-everything",
            args: vec!["stdio".to_owned()],
            env: json!({}),
            tools: 13,
            tool: "get-sum",
            arguments: json!({"a": 2, "b": 40}),
            says: "The sum of 2 and 40 is 42.".to_owned(),
        },
        Peer {
            name: "filesystem",
            program: "npm/node_modules/.bin/mcp-server-filesystem",
            args: vec![files.clone()],
            env: json!({}),
            tools: 14,
            tool: "read_text_file",
            arguments: json!({"path": format!("{files}/grüße.txt")}),
            says: "hello from a file".to_owned(),
        },
        Peer {
            name: "memory",
            program: "npm/node_modules/.bin/mcp-server-memory",
            args: vec![],
            env: json!({"MEMORY_FILE_PATH": dir.join("memory.jsonl")}),
            tools: 9,
            tool: "read_graph",
            arguments: json!({}),
            says: "\"entities\": []".to_owned(),
        },
        Peer {
            name: "sequential-thinking",
            program: "npm/node_modules/.bin/mcp-server-sequential-thinking",
            args: vec![],
            env: json!({"DISABLE_THOUGHT_LOGGING": "true"}),
            tools: 1,
            tool: "sequentialthinking",
            arguments: thought,
            says: "\"thoughtNumber\": 1".to_owned(),
        },
        Peer {
            name: "time",
            program: "venv-servers/bin/mcp-server-time",
            args: vec![],
            env: json!({}),
            tools: 2,
            tool: "convert_time",
            arguments: json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
            says: "\"time_difference\": \"+9.0h\"".to_owned(),
        },
        Peer {
            name: "git",
            program: "venv-servers/bin/mcp-server-git",
            args: vec!["--repository".to_owned(), repository.clone()],
            env: json!({}),
            tools: 12,
            tool: "git_status",
            arguments: json!({"repo_path": repository}),
            says: "No commits yet".to_owned(),
        },
    ]
}

/// The SDK clients: the name they go by, and the command line before the URL.
const CLIENTS: [(&str, &[&str]); 2] = [
    ("TypeScript", &["node", "tests/peers/client.mjs"]),
    ("Python", &["tests/.cache/venv-client/bin/python", "tests/peers/client.py"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(program: &str) -> PathBuf {
    root().join("tests/.cache").join(program)
}

/// Whether everything is there; if not, says what is not.
fn complete(peers: &[Peer]) -> bool {
    let programs = peers.iter().map(|peer| peer.program).chain(["venv-client/bin/python"]);
    let missing: Vec<&str> = programs.filter(|program| !installed(program).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("IT_PEERS").is_none_or(|value| value != "required"),
        "not installed: {missing:?}"
    );
    eprintln!("skipped: not installed: {missing:?} (run: scripts/test)");
    false
}

fn prepare(dir: &TempDir) {
    std::fs::create_dir(dir.join("files")).unwrap();
    std::fs::write(dir.join("files/grüße.txt"), "hello from a file").unwrap();
    let made = run(Command::new("git").args(["init", "--quiet", &dir.join("repository")]));
    assert_eq!(made.code, 0, "{made:?}");
}

fn config(peers: &[Peer]) -> Value {
    let entries = peers.iter().map(|peer| {
        let program = installed(peer.program);
        (peer.name.to_owned(), json!({ "command": program, "args": peer.args, "env": peer.env }))
    });
    json!({ "mcpServers": entries.collect::<serde_json::Map<_, _>>() })
}

/// Runs an SDK client against `url`; what it prints.
fn ask(client: &[&str], url: &str, calls: &Value) -> Value {
    let ran =
        run(Command::new(client[0]).args(&client[1..]).arg(url).arg(calls.to_string()).current_dir(root()));
    assert_eq!(ran.code, 0, "{client:?} {url}: {ran:#?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

fn check_result(result: &Value, peer: &Peer, how: &str) {
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains(&peer.says), "{} through {how}: {result}", peer.name);
    assert_ne!(result["isError"], true, "{} through {how}: {result}", peer.name);
}

#[test]
fn published_servers_and_sdk_clients() {
    let dir = TempDir::new();
    let peers = peers(&dir);
    if !complete(&peers) {
        return;
    }
    prepare(&dir);
    let mut daemon = Daemon::start(&config(&peers), &[]);
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    daemon.wait_ready(&names);
    for (client, command) in CLIENTS {
        through_the_aggregate(&daemon, &peers, client, command);
        for peer in &peers {
            through_its_own_endpoint(&daemon, peer, client, command);
        }
    }
    daemon.stop();
    daemon.assert_nothing_left(std::time::Duration::from_secs(2));
}

fn through_the_aggregate(daemon: &Daemon, peers: &[Peer], client: &str, command: &[&str]) {
    let calls: Vec<Value> = peers
        .iter()
        .map(|peer| json!({ "name": format!("{}__{}", peer.name, peer.tool), "arguments": peer.arguments }))
        .collect();
    let said = ask(command, daemon.url(), &json!(calls));
    let tools: BTreeSet<&str> = said["tools"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let all: usize = peers.iter().map(|peer| peer.tools).sum();
    assert_eq!(tools.len(), all, "{client}: {tools:?}");
    for (peer, result) in peers.iter().zip(said["results"].as_array().unwrap()) {
        let prefix = format!("{}__", peer.name);
        let own = tools.iter().filter(|tool| tool.starts_with(&prefix)).count();
        assert_eq!(own, peer.tools, "{client}: {prefix}");
        check_result(result, peer, &format!("the aggregate, {client}"));
    }
}

fn through_its_own_endpoint(daemon: &Daemon, peer: &Peer, client: &str, command: &[&str]) {
    let calls = json!([{ "name": peer.tool, "arguments": peer.arguments }]);
    let said = ask(command, &daemon.server_url(peer.name), &calls);
    let tools = said["tools"].as_array().unwrap();
    assert_eq!(tools.len(), peer.tools, "{} to {client}: {tools:?}", peer.name);
    assert!(tools.contains(&json!(peer.tool)), "{} to {client}: {tools:?}", peer.name);
    check_result(&said["results"][0], peer, &format!("its own endpoint, {client}"));
}
