//! The kill matrix: one server or client behaves as badly as it can, beside a healthy server that is called all the
//! while. Each row ends the same way: the healthy one untouched, exactly one answer per call, nothing left.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and call from plain threads"
)]

use crate::support::daemon::{Daemon, server};
use crate::support::mcp::{Answer, Mcp, RpcError};
use crate::support::{BINARY, TempDir, demo_entry, processes, until, until_within};
use serde_json::{Value, json};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon after the end of the daemon its servers' processes must be gone.
const GONE: Duration = Duration::from_secs(2);

/// A daemon with the servers `good` and `bad`, and a client that never stops calling `good`.
struct Scene {
    daemon: Daemon,
    good_pid: Value,
    quiet: Arc<AtomicBool>,
    neighbour: Option<JoinHandle<u64>>,
}

impl Scene {
    /// `keys` are added to the entry of `bad`.
    fn new(switches: &str, keys: Value) -> Scene {
        let scene = Scene::starting(switches, keys);
        scene.daemon.wait_ready(&["bad"]);
        scene
    }

    /// As [`Scene::new`], without waiting for `bad`.
    fn starting(switches: &str, keys: Value) -> Scene {
        let tmp = TempDir::new();
        let mut bad = demo_entry(&format!("{switches} --pid-file {}", tmp.join("pids")));
        bad.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config = json!({ "mcpServers": { "good": demo_entry(""), "bad": bad } });
        let daemon = Daemon::start_in(tmp, &config, &[]);
        let status = daemon.wait_ready(&["good"]);
        let quiet = Arc::new(AtomicBool::new(false));
        let neighbour = Some(call_until(&daemon, Arc::clone(&quiet)));
        Scene { good_pid: server(&status, "good")["pid"].clone(), daemon, quiet, neighbour }
    }

    /// A client of `bad` alone.
    fn bad(&self) -> Mcp {
        Mcp::connect(&self.daemon.server_url("bad"))
    }

    /// The pid of `bad` now.
    fn bad_pid(&self) -> Value {
        server(&self.daemon.status(), "bad")["pid"].clone()
    }

    /// Until `bad` is ready in another process than `before`.
    fn wait_reborn(&self, before: &Value) {
        let what = "bad to be ready in a new process";
        self.daemon.wait_until(what, |status| {
            let bad = server(status, "bad");
            bad["state"] == "ready" && bad["pid"] != *before
        });
    }

    /// Peak resident memory of the daemon, in MiB.
    fn peak_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.daemon.daemon_pid());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }

    /// What every row ends with.
    fn end(mut self) {
        self.quiet.store(true, Ordering::Relaxed);
        let calls =
            self.neighbour.take().unwrap().join().expect("every call of the neighbour was answered rightly");
        assert!(calls > 0);
        let status = self.daemon.status();
        let good = server(&status, "good");
        assert_eq!((&good["state"], &good["restarts"]), (&json!("ready"), &json!(0)), "{good}");
        assert_eq!(good["pid"], self.good_pid);
        let exit = self.daemon.stop();
        assert!(exit.success(), "{exit}");
        self.daemon.assert_nothing_left(GONE);
    }
}

/// Calls `good` on a thread until told to be quiet; every answer must be right. Returns how many calls it made.
fn call_until(daemon: &Daemon, quiet: Arc<AtomicBool>) -> JoinHandle<u64> {
    let mut client = daemon.client();
    std::thread::spawn(move || {
        let mut calls = 0;
        while !quiet.load(Ordering::Relaxed) || calls < 10 {
            let sum = client.text("good__add", json!({ "a": calls, "b": 1 }));
            calls += 1;
            assert_eq!(sum, calls.to_string());
            // Answered by `good` after a moment: the pace of this loop.
            client.text("good__sleep", json!({ "ms": 5 }));
        }
        calls
    })
}

/// The fault that a call ended with.
fn fault(answer: Answer) -> RpcError {
    let error = answer.expect_err("the call fails");
    assert_eq!(error.code, -32603, "{error:?}");
    error
}

fn check_fault(answer: Answer, kind: &str) {
    let error = fault(answer);
    assert_eq!(error.kind(), kind, "{error:?}");
}

/// Begins `count` calls that wait in `bad`, and returns once the server has them all.
fn in_flight(client: &mut Mcp, count: u64) -> Vec<crate::support::mcp::Begun> {
    let before = seen_calls(client);
    let begin = |n| client.begin_call(json!(format!("wait {n}")), "sleep", json!({ "ms": 600_000 }), None);
    let begun = (0..count).map(begin).collect();
    // Asking is a call too, and counted.
    let mut asked = 0;
    until("the calls to arrive", || {
        asked += 1;
        (seen_calls(client) == before + count + asked).then_some(())
    });
    begun
}

fn stats(client: &mut Mcp) -> Value {
    serde_json::from_str(&client.text("stats", json!({}))).unwrap()
}

fn seen_calls(client: &mut Mcp) -> u64 {
    stats(client)["calls"].as_u64().unwrap()
}

#[test]
fn exits_mid_call() {
    let scene = Scene::new("--die-in-call --stats", json!({}));
    let mut client = scene.bad();
    let before = scene.bad_pid();
    let waiting = in_flight(&mut client, 4);
    let dead = fault(client.call("die", json!({ "code": 42 })));
    for error in waiting.into_iter().map(|begun| fault(begun.answer())).chain([dead]) {
        assert_eq!(error.kind(), "exited");
        assert!(error.message.contains("42"), "no exit code: {error:?}");
        assert!(error.message.contains("dying with code 42, as told"), "no last words: {error:?}");
    }
    scene.wait_reborn(&before);
    let dead = fault(client.call("die", json!({ "signal": 9 })));
    assert_eq!(dead.kind(), "signaled");
    assert!(dead.message.contains("KILL") || dead.message.contains('9'), "no signal: {dead:?}");
    scene.end();
}

#[test]
fn hangs_in_initialize() {
    let scene = Scene::starting("--hang-init", json!({ "connection_timeout": "1s" }));
    let error = fault(scene.daemon.client().call("bad__echo", json!({ "text": "hello" })));
    assert!(["not_ready", "connect_timeout"].contains(&error.kind()), "{error:?}");
    let status = scene.daemon.wait_until("the time-out to be counted", |status| {
        server(status, "bad")["last_error"]["kind"] == "connect_timeout"
    });
    assert!(server(&status, "bad")["failures"].as_u64() >= Some(1));
    scene.end();
}

#[test]
fn floods_stdout_without_newline() {
    // More than a line may have: the answer at the end of that line is lost, the next one is not.
    let scene = Scene::new("--flood-stdout 80000000", json!({ "call_timeout": "3s" }));
    let mut client = scene.bad();
    check_fault(client.call("echo", json!({ "text": "lost" })), "call_timeout");
    assert_eq!(client.text("echo", json!({ "text": "found" })), "found");
    let peak = scene.peak_mib();
    assert!(peak < 300, "{peak} MiB");
    scene.end();
}

#[test]
fn floods_stdout_without_end() {
    let scene = Scene::new("--flood-stdout 0", json!({ "call_timeout": "2s" }));
    check_fault(scene.bad().call("echo", json!({ "text": "lost" })), "call_timeout");
    let peak = scene.peak_mib();
    assert!(peak < 300, "{peak} MiB");
    scene.end();
}

#[test]
fn floods_stderr() {
    let scene = Scene::new("--flood-stderr 1000000000", json!({}));
    let mut client = scene.bad();
    for n in 0..100 {
        let text = format!("call {n}");
        assert_eq!(client.text("echo", json!({ "text": text })), text);
    }
    let peak = scene.peak_mib();
    assert!(peak < 100, "{peak} MiB");
    let logs = scene.daemon.tmp.path().join("state/logs");
    let sizes = std::fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let bytes: u64 = sizes.sum();
    assert!(bytes < 20 << 20, "{bytes} bytes of logs");
    scene.end();
}

#[test]
fn closes_stdout_only() {
    let scene = Scene::new("--close-stdout", json!({ "stop_grace": "1s" }));
    let before = scene.bad_pid();
    check_fault(scene.bad().call("echo", json!({ "text": "lost" })), "stdout_closed");
    scene.wait_reborn(&before);
    scene.end();
}

#[test]
fn answers_twice_and_unknown_ids() {
    for switches in ["--answer-twice --reorder", "--unknown-id --reorder"] {
        let scene = Scene::new(switches, json!({}));
        let client = scene.bad();
        for round in 0..10 {
            let text = |n| format!("{round} {n}");
            let begin = |n| client.begin_call(json!(n), "echo", json!({ "text": text(n) }), None);
            let begun: Vec<_> = (0..20).map(begin).collect();
            for (n, begun) in begun.into_iter().enumerate() {
                assert_eq!(begun.answer().unwrap()["content"][0]["text"], text(n));
            }
        }
        scene.end();
    }
}

#[test]
fn goes_deaf() {
    let keys = json!({ "call_timeout": "1s", "health_check_interval": "1s", "stop_grace": "1s" });
    let scene = Scene::new("--deaf", keys);
    let mut client = scene.bad();
    let before = scene.bad_pid();
    client.text("go_deaf", json!({}));
    check_fault(client.call("echo", json!({ "text": "hello?" })), "call_timeout");
    // Three probes, each a second after the one before and with 5 s to be answered.
    let deaf = || {
        let status = scene.daemon.status();
        (server(&status, "bad")["last_error"]["kind"] == "deaf").then_some(())
    };
    until_within("the probes to find it deaf", Duration::from_secs(60), deaf);
    scene.wait_reborn(&before);
    assert_eq!(client.text("echo", json!({ "text": "hello" })), "hello");
    scene.end();
}

#[test]
fn does_not_read_its_stdin() {
    let scene = Scene::new("--no-read", json!({ "call_timeout": "2s", "stop_grace": "1s" }));
    let mut client = scene.bad();
    assert_eq!(client.text("echo", json!({ "text": "the last one read" })), "the last one read");
    // Far more than its pipe takes, and more than may be queued.
    let text = "x".repeat(1 << 20);
    let begin = |n| client.begin_call(json!(n), "echo", json!({ "text": text }), None);
    let begun: Vec<_> = (0..24).map(begin).collect();
    for begun in begun {
        let error = fault(begun.answer());
        assert!(["call_timeout", "busy"].contains(&error.kind()), "{error:?}");
    }
    scene.end();
}

#[test]
fn double_forks_and_leaves_its_session() {
    for switches in ["--double-fork --child --grandchild-clean-env", "--setsid --double-fork --child"] {
        let switches = format!("{switches} --ignore-eof --ignore-term");
        let scene = Scene::new(&switches, json!({ "stop_grace": "1s" }));
        let pids = scene.daemon.pid_file();
        let before = scene.bad_pid();
        let first = processes::noted(&pids);
        assert_eq!(first.len(), 3, "{first:?}");
        let restarted = scene.daemon.cli(&["upstream", "restart", "bad"]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        scene.wait_reborn(&before);
        let left: Vec<_> = first.iter().filter(|noted| noted.is_alive()).collect();
        assert!(left.is_empty(), "the first life left {left:?}");
        assert_eq!(processes::noted_alive(&pids).len(), 3);
        scene.end();
    }
}

#[test]
fn client_leaves_mid_call() {
    let scene = Scene::new("--stats", json!({}));
    let mut client = scene.bad();
    let before = scene.bad_pid();
    // Gone without a word: in this era that is no cancellation, the server may finish.
    drop(in_flight(&mut client, 10));
    assert_eq!(client.text("echo", json!({ "text": "still here" })), "still here");
    assert_eq!(stats(&mut client)["cancelled"], 0);
    // Gone with its session: nobody can want the answers any more.
    let mut leaver = scene.bad();
    drop(in_flight(&mut leaver, 5));
    assert_eq!(leaver.delete(), 204);
    assert_eq!(client.text("echo", json!({ "text": "and here" })), "and here");
    assert_eq!(scene.bad_pid(), before);
    scene.end();
}

#[test]
fn client_cancels() {
    let scene = Scene::new("--stats", json!({}));
    let mut client = scene.bad();
    let begun = in_flight(&mut client, 3);
    client.cancel(&begun[1].id);
    until("the server to hear of it", || (stats(&mut client)["cancelled"] == 1).then_some(()));
    client.cancel(&begun[0].id);
    client.cancel(&begun[2].id);
    for begun in begun {
        check_fault(begun.answer(), "cancelled");
    }
    client.cancel(&json!("never asked"));
    assert_eq!(client.text("echo", json!({ "text": "fine" })), "fine");
    scene.end();
}

#[test]
fn client_reads_slowly() {
    const BYTES: usize = 30_000_000;
    let scene = Scene::new("--big 1", json!({}));
    let mut client = scene.bad();
    let slow = client.begin_call(json!("big"), "big", json!({ "bytes": BYTES }), None);
    // It has answered, and nobody reads that yet.
    let mut first = [0];
    let peeked = slow.socket().peek(&mut first).unwrap();
    assert_eq!(peeked, 1);
    for n in 0..50 {
        let text = format!("quick {n}");
        assert_eq!(client.text("echo", json!({ "text": text })), text);
    }
    let result = slow.answer().unwrap();
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.len() == BYTES && text.bytes().all(|byte| byte == b'x'));
    scene.end();
}

#[test]
fn client_never_reads() {
    let scene = Scene::new("--big 1", json!({}));
    let mut client = scene.bad();
    let stuck = client.begin_call(json!("big"), "big", json!({ "bytes": 30_000_000 }), None);
    assert_eq!(stuck.socket().peek(&mut [0]).unwrap(), 1);
    assert_eq!(client.text("echo", json!({ "text": "quick" })), "quick");
    // The daemon must be able to stop all the same: `end` sees to it, while the socket is open.
    scene.end();
    // What was in the pipe can be read, and then it ends.
    let read = std::io::copy(&mut stuck.socket().take(1 << 30), &mut std::io::sink());
    assert!(read.is_err() || read.is_ok_and(|bytes| bytes < 30_000_000));
}

#[test]
fn client_reuses_ids() {
    let scene = Scene::new("--reorder", json!({}));
    // Sessions of their own: ids are each client's.
    let clients: Vec<Mcp> = (0..8).map(|_| scene.bad()).collect();
    for round in 0..10 {
        let text = |n| format!("{round} of {n}");
        let begin = |(n, client): (usize, &Mcp)| {
            client.begin_call(json!(1), "echo", json!({ "text": text(n) }), None)
        };
        let begun: Vec<_> = clients.iter().enumerate().map(begin).collect();
        for (n, begun) in begun.into_iter().enumerate() {
            assert_eq!(begun.answer().unwrap()["content"][0]["text"], text(n));
        }
    }
    // One session, one id, several calls at once: each gets its own answer or is refused, none gets another's.
    let begin =
        |n| clients[0].begin_call(json!("same"), "echo", json!({ "text": format!("call {n}") }), None);
    let begun: Vec<_> = (0..8).map(begin).collect();
    for (n, begun) in begun.into_iter().enumerate() {
        if let Ok(result) = begun.answer() {
            assert_eq!(result["content"][0]["text"], format!("call {n}"));
        }
    }
    scene.end();
}

/// Why a server is down, for each way to be down that an entry alone can bring about.
#[test]
fn what_cannot_run_says_why() {
    let tmp = TempDir::new();
    let text_file = tmp.join("not-a-program");
    std::fs::write(&text_file, "hello\n").unwrap();
    let entry = |key: &str, value: Value| {
        let mut entry = demo_entry("");
        entry[key] = value;
        entry
    };
    let rows = [
        ("no-such-command", entry("command", json!("no-such-command-anywhere")), "parked", "not_found"),
        ("no-program", entry("command", json!(text_file)), "parked", "not_executable"),
        ("no-directory", entry("working_dir", json!("/no/such/directory")), "parked", "bad_working_dir"),
        ("no-command", json!({ "args": ["x"] }), "parked", "bad_config"),
        ("remote", json!({ "url": "http://127.0.0.1:9/mcp" }), "backoff", "unreachable"),
        ("exits", demo_entry("--exit-on-init --exit-code 3"), "backoff", "exited"),
        ("echoes", json!({ "command": "cat" }), "backoff", "handshake_failed"),
        ("refuses", demo_entry("--error-on-init"), "backoff", "handshake_failed"),
        ("chatters", demo_entry("--garbage 20000"), "backoff", "protocol"),
    ];
    let servers: serde_json::Map<String, Value> =
        rows.iter().map(|(name, entry, ..)| ((*name).to_owned(), entry.clone())).collect();
    let mut daemon = Daemon::start_in(tmp, &json!({ "mcpServers": servers }), &[]);
    for (name, _, state, kind) in &rows {
        daemon.wait_until(&format!("{name} to be down with {kind}"), |status| {
            let server = server(status, name);
            let reason = if server["reason"].is_null() { &server["last_error"] } else { &server["reason"] };
            // Between two tries it may be anywhere; what was wrong stays to be seen.
            let down = server["state"] == *state || *state == "backoff";
            down && (reason["kind"] == *kind || server["last_error"]["kind"] == *kind)
        });
        let answer = daemon.client().call(&format!("{name}__echo"), json!({ "text": "x" }));
        assert!(answer.is_err(), "{name}");
    }
    daemon.stop();
    daemon.assert_nothing_left(GONE);
}

/// 64 clients, answers in random order and twice and to nobody, servers killed and restarted under them. Every call
/// gets its own answer, or a fault that tells of the death; those of the healthy server all succeed.
#[test]
fn stress_of_the_link() {
    const CLIENTS: u64 = 64;
    const CALLS: u64 = 60;
    const VICTIMS: [&str; 4] = ["one", "two", "three", "four"];
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let switches = "--reorder --answer-twice --unknown-id";
    let mut servers = json!({ "good": demo_entry("--reorder") });
    for victim in VICTIMS {
        servers[victim] =
            json!({ "command": BINARY, "args": demo_entry(switches)["args"], "stop_grace": "1s" });
    }
    let mut daemon = Daemon::start(&json!({ "mcpServers": servers }), &[]);
    daemon.wait_ready(&["good", "one", "two", "three", "four"]);
    let answered = Arc::new(AtomicU64::new(0));
    let client = |n: u64| {
        let (url, answered) = (daemon.url().to_owned(), Arc::clone(&answered));
        std::thread::spawn(move || stress_client(&url, fastrand::Rng::with_seed(seed ^ n), CALLS, &answered))
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    // Twelve blows, spread over the run by its own progress: each victim dies twice and is restarted once.
    for blow in 0..12 {
        let due = CLIENTS * CALLS * (blow + 1) / 16;
        until("the calls to go on", || (answered.load(Ordering::Relaxed) >= due).then_some(()));
        let victim = VICTIMS[blow as usize % VICTIMS.len()];
        match blow / VICTIMS.len() as u64 {
            1 => assert_eq!(daemon.cli(&["upstream", "restart", victim]).code, 0),
            _ => {
                // It may be dead already, and waiting for its next try.
                let status = daemon.status();
                let pid = server(&status, victim)["pid"].as_u64();
                pid.into_iter().for_each(|pid| daemon.kill9(pid as u32));
            }
        }
    }
    let counts: Vec<(u64, u64)> =
        clients.into_iter().map(|client| client.join().expect("every answer is right")).collect();
    let right: u64 = counts.iter().map(|(right, _)| right).sum();
    let faults: u64 = counts.iter().map(|(_, faults)| faults).sum();
    eprintln!("{right} right answers, {faults} faults");
    assert_eq!(right + faults, CLIENTS * CALLS);
    assert!(right > CLIENTS * CALLS / 5, "the healthy server alone gives a third of the answers");
    let status = daemon.status();
    assert_eq!(server(&status, "good")["restarts"], 0);
    daemon.stop();
    daemon.assert_nothing_left(GONE);
}

/// One client of the stress: calls in bursts, checks each answer. Returns right answers and faults.
fn stress_client(url: &str, mut random: fastrand::Rng, calls: u64, answered: &AtomicU64) -> (u64, u64) {
    const TARGETS: [&str; 6] = ["good", "good", "one", "two", "three", "four"];
    let client = Mcp::connect(url);
    let (mut right, mut faults, mut made) = (0, 0, 0);
    while made < calls {
        let burst = random.u64(1..=4).min(calls - made);
        let begun: Vec<_> = (0..burst)
            .map(|n| {
                let target = TARGETS[random.usize(..TARGETS.len())];
                let text = format!("{} {}", random.u64(..), "x".repeat(random.usize(..2000)));
                let tool = format!("{target}__echo");
                // Ids are used again from burst to burst.
                (target, text.clone(), client.begin_call(json!(n), &tool, json!({ "text": text }), None))
            })
            .collect();
        for (target, text, begun) in begun {
            match begun.answer() {
                Ok(result) => {
                    assert_eq!(result["content"][0]["text"], text);
                    right += 1;
                }
                Err(error) => {
                    assert_ne!(target, "good", "{error:?}");
                    let kinds = ["exited", "signaled", "stopped", "not_ready", "stdout_closed"];
                    assert!(kinds.contains(&error.kind()), "{target}: {error:?}");
                    faults += 1;
                }
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
        made += burst;
    }
    (right, faults)
}
