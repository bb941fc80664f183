//! Strangers before and behind mcpvisor: published servers, the SDKs' own clients and the Inspector (tests/peers).
//! What they need is installed by scripts/test; without it these tests say so and pass, unless `IT_PEERS=required`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and start plain processes"
)]

pub mod peers;
pub mod served;

use crate::support::TempDir;
use crate::support::daemon::{Daemon, run, server};
use crate::support::raw::{self, Era, Raw};
use peers::{Peer, complete, installed, path, peers, prepare, root};
use serde_json::{Map, Value, json};
use served::Listening;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// An SDK's own client: the program below tests/.cache, the script, how it is to agree upon a version if it can do that
/// in several ways, and the version that comes of it.
pub struct Client {
    pub sdk: &'static str,
    pub program: &'static str,
    script: &'static str,
    how: &'static str,
    version: &'static str,
}

const fn client(
    sdk: &'static str,
    program: &'static str,
    script: &'static str,
    how: &'static str,
    version: &'static str,
) -> Client {
    Client { sdk, program, script, how, version }
}

const NODE: &str = "npm/node_modules/.bin/node";
const PYTHON_1: &str = "venv-client/bin/python";
const PYTHON_2: &str = "venv-servers/bin/python";
const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

pub const CLIENTS: [Client; 8] = [
    client("TypeScript 1.32", NODE, "tests/peers/client.mjs", "", LEGACY),
    client("TypeScript 2.4", NODE, "tests/peers/client2.mjs", "default", LEGACY),
    client("TypeScript 2.4, auto", NODE, "tests/peers/client2.mjs", "auto", MODERN),
    client("TypeScript 2.4, pinned", NODE, "tests/peers/client2.mjs", MODERN, MODERN),
    client("Python 1.30", PYTHON_1, "tests/peers/client.py", "", LEGACY),
    client("Python 2.3, auto", PYTHON_2, "tests/peers/client2.py", "auto", MODERN),
    client("Python 2.3, legacy", PYTHON_2, "tests/peers/client2.py", "legacy", LEGACY),
    client("Python 2.3, pinned", PYTHON_2, "tests/peers/client2.py", MODERN, MODERN),
];

const INSPECTOR: &str = "npm/node_modules/.bin/mcp-inspector";

/// These behind one mcpvisor, each ready; `None` where something is not installed.
fn behind_mcpvisor(dir: &TempDir, peers: &[Peer]) -> Option<Daemon> {
    let clients = CLIENTS.iter().map(|client| client.program).chain([INSPECTOR]);
    if !complete(peers.iter().map(|peer| peer.program).chain(clients)) {
        return None;
    }
    prepare(dir);
    let entries = peers.iter().map(|peer| (peer.name.to_owned(), peer.entry()));
    let daemon = Daemon::start(
        &json!({
            "mcpServers": entries.collect::<serde_json::Map<_, _>>(),
            // Interpreters that all start at once take minutes of a busy machine before the first is up.
            "connection_management": { "max_concurrent_connections": 4 },
        }),
        &[],
    );
    for peer in peers {
        daemon.wait_ready(&[peer.name]);
    }
    Some(daemon)
}

fn end(mut daemon: Daemon) {
    daemon.stop();
    daemon.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn published_servers_and_sdk_clients() {
    let dir = TempDir::new();
    let peers = peers(&dir);
    let Some(daemon) = behind_mcpvisor(&dir, &peers) else { return };
    for client in &CLIENTS {
        through_the_aggregate(&daemon, &peers, client);
        // Every endpoint is asked byte by byte below; a few of each make are enough here.
        for peer in peers.iter().step_by(4) {
            through_its_own_endpoint(&daemon, peer, client);
        }
    }
    end(daemon);
}

/// Runs an SDK client against `url`, or a command as a JSON array; what it prints.
pub fn ask(client: &Client, url: &str, calls: &Value) -> Value {
    let mut command = Command::new(installed(client.program));
    command.args([client.script, url, &calls.to_string()]).current_dir(root());
    if !client.how.is_empty() {
        command.arg(client.how);
    }
    let ran = run(&mut command);
    assert_eq!(ran.code, 0, "{} {url}: {ran:#?}", client.sdk);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    // The clients of the 1.x do not say, and know no other; in the older era a server may agree to less than is asked.
    let version = said["version"].as_str().unwrap_or(LEGACY);
    assert_eq!(version.max(LEGACY), client.version, "{} {url}", client.sdk);
    said
}

fn check_result(result: &Value, peer: &Peer, how: &str) {
    let Some(says) = &peer.says else {
        let failed = result["isError"] == true || result.get("error").is_some();
        assert!(failed, "{} through {how}: {result}", peer.name);
        return;
    };
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains(says), "{} through {how}: {result}", peer.name);
    assert_ne!(result["isError"], true, "{} through {how}: {result}", peer.name);
}

fn through_the_aggregate(daemon: &Daemon, peers: &[Peer], client: &Client) {
    let calls: Vec<Value> = peers
        .iter()
        .map(|peer| json!({ "name": format!("{}__{}", peer.name, peer.tool), "arguments": peer.arguments }))
        .collect();
    let said = ask(client, daemon.url(), &json!(calls));
    let tools: BTreeSet<&str> = said["tools"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let all: usize = peers.iter().map(|peer| peer.tools).sum();
    assert_eq!(tools.len(), all, "{}: {tools:?}", client.sdk);
    for (peer, result) in peers.iter().zip(said["results"].as_array().unwrap()) {
        let prefix = format!("{}__", peer.name);
        let own = tools.iter().filter(|tool| tool.starts_with(&prefix)).count();
        assert_eq!(own, peer.tools, "{}: {prefix}", client.sdk);
        check_result(result, peer, &format!("the aggregate, {}", client.sdk));
    }
}

fn through_its_own_endpoint(daemon: &Daemon, peer: &Peer, client: &Client) {
    let calls = json!([{ "name": peer.tool, "arguments": peer.arguments }]);
    let said = ask(client, &daemon.server_url(peer.name), &calls);
    let tools = said["tools"].as_array().unwrap();
    assert_eq!(tools.len(), peer.tools, "{} to {}: {tools:?}", peer.name, client.sdk);
    assert!(tools.contains(&json!(peer.tool)), "{} to {}: {tools:?}", peer.name, client.sdk);
    check_result(&said["results"][0], peer, &format!("its own endpoint, {}", client.sdk));
}

/// Each server asked the same twice, over its stdin and through mcpvisor, by clients of both eras: what it says of itself,
/// its list of tools and one call come back in the same bytes. So they do through two of them, one behind the other:
/// then every server is one over HTTP.
#[test]
fn published_servers_come_through_unchanged() {
    for era in Era::BOTH {
        let dir = TempDir::new();
        let peers = peers(&dir);
        // A server of both eras is spoken to as its first client speaks: each era has a mcpvisor of its own.
        let Some(far) = behind_mcpvisor(&dir, &peers) else { return };
        // What is still being greeted is described as what may change.
        for peer in &peers {
            Raw::http(&far.server_url(peer.name)).in_era(era).greet();
        }
        let entry = |peer: &Peer| (peer.name.to_owned(), json!({ "url": far.server_url(peer.name) }));
        let near = remote(peers.iter().map(entry).collect());
        let mut different = Vec::new();
        for peer in &peers {
            // What speaks only the older era is asked in it, whatever the client of mcpvisor speaks.
            let own = if peer.modern { era } else { Era::Legacy };
            let direct = Raw::stdio(&mut peer.command()).in_era(own).said(&questions(peer));
            for (way, daemon) in [("", &far), (" behind two", &near)] {
                let through = || Raw::http(&daemon.server_url(peer.name)).in_era(era);
                if peer.name == COUNTS && !way.is_empty() {
                    assert_eq!(far.cli(&["upstream", "restart", peer.name, "--wait=30s"]).code, 0);
                }
                // The near one, too, begins as most clients do.
                through().greet();
                let name = format!("{}{way}", peer.name);
                let through = through().said(&questions(peer));
                different.extend(raw::compare(&name, &direct, through, &questions(peer)));
            }
        }
        assert!(different.is_empty(), "{era:?}: {} differ:\n{}", different.len(), different.join("\n"));
        end(near);
        end(far);
    }
}

/// Its second answer is not its first.
const COUNTS: &str = "sequential-thinking";

/// What each is asked.
fn questions(peer: &Peer) -> [(&'static str, Value); 2] {
    let call = json!({ "name": peer.tool, "arguments": peer.arguments });
    [("tools/list", json!({})), ("tools/call", call)]
}

/// mcpvisor before servers that listen, each ready.
fn remote(entries: Map<String, Value>) -> Daemon {
    let names: Vec<String> = entries.keys().cloned().collect();
    let daemon = Daemon::start(&json!({ "mcpServers": entries }), &[]);
    daemon.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
    daemon
}

/// Those that have an HTTP of their own, over both transports, told which one it is and not told: asked by clients of both
/// eras, they say the same as to a client at their own port.
#[test]
fn published_servers_over_http_come_through_unchanged() {
    let dir = TempDir::new();
    if !complete(served::PROGRAMS.into_iter().chain(peers(&dir).iter().map(|peer| peer.program))) {
        return;
    }
    prepare(&dir);
    let peers = peers(&dir);
    let listening = served::listening(&dir);
    for era in Era::BOTH {
        let entries = listening.iter().flat_map(|one| {
            let protocol = if one.sse { "sse" } else { "http" };
            let told = json!({ "url": one.url(), "protocol": protocol });
            [(one.name.to_owned(), told), (format!("{}-auto", one.name), json!({ "url": one.url() }))]
        });
        let daemon = remote(entries.collect());
        let mut different = Vec::new();
        for one in &listening {
            for name in [one.name.to_owned(), format!("{}-auto", one.name)] {
                different.extend(asked_over_http(&daemon, one, &name, &peers, era));
            }
        }
        assert!(different.is_empty(), "{era:?}: {} differ:\n{}", different.len(), different.join("\n"));
        end(daemon);
    }
}

fn asked_over_http(daemon: &Daemon, one: &Listening, name: &str, peers: &[Peer], era: Era) -> Vec<String> {
    let peer = peers.iter().find(|peer| peer.name == one.peer()).expect("it is one of the peers");
    let through = || Raw::http(&daemon.server_url(name)).in_era(era);
    // What is still being greeted is described as what may change.
    through().greet();
    daemon.wait_ready(&[name]);
    let modern = server(&daemon.status(), name)["era"] == "modern";
    assert!(one.sse || modern == (one.modern && era == Era::Modern), "{name}, {era:?}");
    let own = if modern { Era::Modern } else { Era::Legacy };
    let direct = if one.sse { Raw::sse(&one.url()) } else { Raw::http(&one.url()) };
    let different = raw::differences(name, direct.in_era(own), through(), &questions(peer));
    let (method, call) = &questions(peer)[1];
    let mut client = through();
    client.open();
    let result = serde_json::from_str(&client.ask(method, &call.to_string())).expect("a result is JSON");
    check_result(&result, peer, &format!("{name}, {era:?}"));
    different
}

#[test]
fn the_inspector_lists_and_calls() {
    let dir = TempDir::new();
    let peers = &peers(&dir)[..1];
    let Some(daemon) = behind_mcpvisor(&dir, peers) else { return };
    let peer = &peers[0];
    for era in ["legacy", "auto", "modern"] {
        let url = daemon.server_url(peer.name);
        let listed = inspect(&dir, &url, era, &["--method", "tools/list"]);
        assert_eq!(listed["tools"].as_array().unwrap().len(), peer.tools, "{era}: {listed}");
        let arguments = peer.arguments.to_string();
        let call = ["--method", "tools/call", "--tool-name", peer.tool, "--tool-args-json", &arguments];
        check_result(&inspect(&dir, &url, era, &call), peer, &format!("the Inspector, {era}"));
    }
    end(daemon);
}

/// Runs the Inspector's CLI; the result that it prints.
fn inspect(dir: &TempDir, url: &str, era: &str, what: &[&str]) -> Value {
    let mut command = Command::new(installed(INSPECTOR));
    command.args(["--cli", "--transport", "http", "--server-url", url, "--protocol-era", era, "--quiet"]);
    // It keeps files of its own in HOME.
    let ran = run(command.args(what).env("HOME", dir.path()).env("PATH", path()));
    assert_eq!(ran.code, 0, "{what:?} {era}: {ran:#?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}
