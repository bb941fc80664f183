//! `mcpvisor stdio`: a client on stdin and stdout, the bridge, and a daemon that runs already, starts anew, dies, or is
//! started by the bridge and ends after it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start plain processes, and fail by panicking"
)]

use crate::interop::peers::complete;
use crate::interop::{CLIENTS, ask};
use crate::support::daemon::{Daemon, command};
use crate::support::processes::{self, MARK};
use crate::support::stdio::stdout_lines;
use crate::support::{BINARY, PATIENCE, TempDir, demo_config, until};
use crossbeam_channel::Receiver;
use mcpvisor::base::limits::{EPHEMERAL_IDLE, STDIO_LINE_BYTES_MAX};
use mcpvisor::sys::procfs;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

/// A client of `mcpvisor stdio`. Drop ends the bridge.
struct Client {
    bridge: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    next_id: u64,
    /// Messages that were not waited for yet.
    seen: VecDeque<Value>,
}

impl Client {
    /// Starts a bridge to the daemon of the state directory in `tmp`.
    fn start(tmp: &TempDir, mark: &str, args: &[&str]) -> Client {
        let mut command = command();
        command.args(["stdio", "--state-dir", &tmp.join("state"), "--config", &tmp.join("mcp_config.json")]);
        command.args(args).env(MARK, mark);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bridge = command.spawn().unwrap();
        let (stdin, lines) = (bridge.stdin.take(), stdout_lines(&mut bridge));
        Client { bridge, stdin, lines, next_id: 0, seen: VecDeque::new() }
    }

    fn of(daemon: &Daemon, args: &[&str]) -> Client {
        let mut client = Client::start(&daemon.tmp, &daemon.mark, args);
        client.initialize();
        client
    }

    fn initialize(&mut self) -> Value {
        let answer = self.ask(
            "initialize",
            json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "it", "version": "0" },
            }),
        );
        self.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        answer
    }

    fn write(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn send(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = json!(format!("id-{}", self.next_id));
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(&id)
    }

    fn answer(&mut self, id: &Value) -> Value {
        self.wait("an answer", |message| message["id"] == *id)
    }

    fn note(&mut self, method: &str) -> Value {
        self.wait(method, |message| message["method"] == method)
    }

    fn wait(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        if let Some(at) = self.seen.iter().position(&mut wanted) {
            return self.seen.remove(at).unwrap();
        }
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|why| panic!("{what}: {why}; seen {:?}", self.seen));
            let message: Value = serde_json::from_slice(&line).expect("a line of stdout is JSON");
            if wanted(&message) {
                return message;
            }
            self.seen.push_back(message);
        }
    }

    /// The text of a tool's result.
    fn call(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        let text = answer["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("{tool}: {answer}")).to_owned()
    }

    /// Closes stdin; the exit code, and what was on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        self.stdin = None;
        let status = until("the bridge to end", || self.bridge.try_wait().unwrap());
        let mut said = String::new();
        self.bridge.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already, and is reaped either way.
        let _ = self.bridge.kill();
        let _ = self.bridge.wait();
    }
}

/// A directory with a config and no daemon; what is started in it ends with it.
struct Place {
    tmp: TempDir,
    mark: String,
}

impl Place {
    fn of(config: &str) -> Place {
        let tmp = TempDir::new();
        std::fs::write(tmp.join("mcp_config.json"), config).unwrap();
        let mark = tmp.path().file_name().unwrap().to_str().unwrap().to_owned();
        Place { tmp, mark }
    }

    fn client(&self) -> Client {
        Client::start(&self.tmp, &self.mark, &[])
    }

    /// Pids of guardian and daemon.
    fn ephemeral(&self) -> Vec<u32> {
        let all = processes::marked(&self.mark).into_iter().map(|process| process.pid);
        all.filter(|pid| procfs::command_line(*pid).contains("--ephemeral")).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.tmp.join("state/logs/main.log"));
            eprintln!("--- main.log\n{}---", log.unwrap_or_default());
        }
        processes::kill_all(&self.mark, self.tmp.join("pids"));
    }
}

#[test]
fn lists_calls_progress_cancellation_and_news() {
    let daemon = Daemon::start(&demo_config(&[("a", "--change-tools --stats"), ("b", "")]), &[]);
    daemon.wait_ready(&["a", "b"]);
    let mut client = Client::of(&daemon, &[]);
    let tools = client.ask("tools/list", json!({}));
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 14, "{tools}");
    assert_eq!(client.call("b__echo", json!({"text": "h\u{e9}\n"})), "h\u{e9}\n");

    let arguments = json!({"ms": 50, "progress": 2});
    let meta = json!({"progressToken": "mine"});
    let params = json!({"name": "a__sleep", "arguments": arguments, "_meta": meta});
    let answer = client.ask("tools/call", params);
    assert_eq!(answer["result"]["content"][0]["text"], "slept 50 ms", "{answer}");
    for step in 1..=2 {
        let note = client.note("notifications/progress");
        assert_eq!(
            (&note["params"]["progressToken"], &note["params"]["progress"]),
            (&json!("mine"), &json!(step))
        );
    }

    let long = client.send("tools/call", json!({"name": "a__sleep", "arguments": {"ms": 60_000}}));
    let wait = || daemon.status()["servers"][0]["calls"].as_u64().filter(|calls| *calls > 0);
    until("the call to be with the server", wait);
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": long}});
    client.write(&cancelled.to_string());
    assert_eq!(client.answer(&long)["error"]["data"]["kind"], "cancelled");
    let stats = until("the server to hear of it", || {
        let stats: Value = serde_json::from_str(&client.call("a__stats", json!({}))).unwrap();
        (stats["cancelled"] == 1).then_some(stats)
    });
    assert_eq!(stats["cancelled"], 1);

    client.call("a__change_tools", json!({}));
    client.note("notifications/tools/list_changed");
    let (code, said) = client.end();
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn one_server_under_its_own_names() {
    let daemon = Daemon::start(&demo_config(&[("a b", "")]), &[]);
    let mut client = Client::of(&daemon, &["--server", "a b"]);
    assert_eq!(client.call("add", json!({"a": 1, "b": 2})), "3");
    let mut lost = Client::start(&daemon.tmp, &daemon.mark, &["--server", "c"]);
    let answer = lost.initialize();
    assert!(answer["error"]["message"].as_str().unwrap().contains("`c`"), "{answer}");
    let answer = lost.ask("tools/list", json!({}));
    assert!(answer["error"]["message"].as_str().unwrap().contains("no session"), "{answer}");
    assert_eq!(lost.end().0, Some(0));
}

#[test]
fn the_end_of_stdin_waits_for_calls_in_flight() {
    let daemon = Daemon::start(&demo_config(&[("a", "")]), &[]);
    let mut client = Client::of(&daemon, &[]);
    let ids: Vec<Value> = (0..20)
        .map(|_| client.send("tools/call", json!({"name": "a__sleep", "arguments": {"ms": 200}})))
        .collect();
    client.stdin = None;
    for id in ids {
        assert!(client.answer(&id)["result"].is_object());
    }
    assert_eq!(client.end(), (Some(0), String::new()));
}

#[test]
fn lines_that_cannot_be_sent_are_answered() {
    let daemon = Daemon::start(&demo_config(&[("a", "")]), &[]);
    let mut client = Client::of(&daemon, &[]);
    client.write("Hello?\n\n   ");
    assert_eq!(client.wait("an error", |message| message["error"].is_object())["error"]["code"], -32700);
    let text = "x".repeat(STDIO_LINE_BYTES_MAX);
    let answer = client.ask("tools/call", json!({"name": "a__echo", "arguments": {"text": text}}));
    assert_eq!(answer["error"]["data"]["kind"], "too_large");
    assert_eq!(client.call("a__echo", json!({"text": "after"})), "after");
}

#[test]
fn a_daemon_that_is_started_anew_is_found_again() {
    let config = demo_config(&[("a", "")]);
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["a"]);
    // What carries the daemon's own mark ends with it.
    let mut client = Client::start(&daemon.tmp, &format!("{}-client", daemon.mark), &[]);
    client.initialize();
    let pid = client.call("a__pid", json!({}));
    let tmp = daemon.into_tmp();
    let daemon = Daemon::start_in(tmp, &config, &[]);
    // Without being asked for anything, the bridge has seen it.
    client.note("notifications/tools/list_changed");
    daemon.wait_ready(&["a"]);
    assert_ne!(client.call("a__pid", json!({})), pid);
    assert_eq!(client.end(), (Some(0), String::new()));
}

#[test]
fn a_daemon_that_dies_fails_its_calls_and_is_replaced() {
    let daemon = Daemon::start(&demo_config(&[("a", "")]), &[]);
    daemon.wait_ready(&["a"]);
    let mut client = Client::of(&daemon, &[]);
    let long = client.send("tools/call", json!({"name": "a__sleep", "arguments": {"ms": 60_000}}));
    until("the call to be with the server", || {
        daemon.status()["servers"][0]["calls"].as_u64().filter(|calls| *calls > 0)
    });
    daemon.kill9(daemon.daemon_pid());
    let answer = client.answer(&long);
    assert!(answer["error"]["message"].as_str().unwrap().contains("not known"), "{answer}");
    assert_eq!(client.call("a__echo", json!({"text": "again"})), "again");
    client.note("notifications/tools/list_changed");
}

#[test]
fn two_bridges_share_the_daemon_that_they_start_and_that_ends_after_them() {
    let place = Place::of(&demo_config(&[("a", "")]).to_string());
    let (mut first, mut second) = (place.client(), place.client());
    first.initialize();
    second.initialize();
    assert_eq!(first.call("a__pid", json!({})), second.call("a__pid", json!({})));
    until("the second daemon to give up", || (place.ephemeral().len() == 2).then_some(()));
    processes::send(first.bridge.id(), Signal::SIGKILL);
    assert_eq!(second.end(), (Some(0), String::new()));
    drop(first);
    // It stays a little while for who comes back.
    let mut third = place.client();
    third.initialize();
    assert_eq!(place.ephemeral().len(), 2);
    processes::send(third.bridge.id(), Signal::SIGKILL);
    drop(third);
    let within = EPHEMERAL_IDLE + Duration::from_secs(10);
    processes::assert_none_left(&place.mark, place.tmp.join("pids"), within);
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let place = Place::of("{ this is no config");
    let mut client = place.client();
    let answer = client.initialize();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("exit code 4") && message.contains("mcp_config.json"), "{message}");
    assert!(client.ask("tools/list", json!({}))["error"].is_object());
    let (code, said) = client.end();
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("exit code 4"), "{said}");
}

#[test]
fn sdk_clients_list_and_call() {
    if !complete(CLIENTS.iter().map(|client| client.program)) {
        return;
    }
    let daemon = Daemon::start(&demo_config(&[("a", "")]), &[]);
    let bridge = json!([BINARY, "stdio", "--state-dir", daemon.tmp.join("state")]).to_string();
    for client in &CLIENTS {
        let said = ask(client, &bridge, &json!([{"name": "a__echo", "arguments": {"text": "hi"}}]));
        assert_eq!(said["tools"].as_array().unwrap().len(), 6, "{}: {said}", client.sdk);
        assert_eq!(said["results"][0]["content"][0]["text"], "hi", "{}: {said}", client.sdk);
    }
}
