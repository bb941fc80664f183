//! The demo server spoken to directly: the protocol, and that every switch does what its help says. The other
//! tests rely on it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and time what they see"
)]

use crate::support::daemon::{command, run};
use crate::support::processes::{is_alive, noted};
use crate::support::stdio::Demo;
use crate::support::until;
use mcpvisor::sys::procfs;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

fn tool_names(page: &Value) -> Vec<&str> {
    let tools = page["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn versions_are_negotiated() {
    let check = |asked, given| {
        let mut demo = Demo::start("");
        let answer = demo.initialize(asked);
        assert_eq!(answer["result"]["protocolVersion"], given);
        assert_eq!(answer["result"]["serverInfo"]["name"], "mcpvisor-demo");
        assert_eq!(demo.end(), Some(0));
    };
    check("2024-11-05", "2024-11-05");
    check("2025-03-26", "2025-03-26");
    check("2025-06-18", "2025-06-18");
    check("2025-11-25", "2025-11-25");
    check("2099-01-01", "2025-11-25");
}

#[test]
fn default_tools() {
    let mut demo = Demo::ready("");
    let list = demo.request("tools/list", json!({}));
    assert_eq!(tool_names(&list), ["echo", "add", "time", "sleep", "env", "pid"]);
    assert_eq!(list["result"].get("nextCursor"), None);
    assert_eq!(demo.call("echo", json!({"text": "grüß\n\u{2028}"})), "grüß\n\u{2028}");
    assert_eq!(demo.call("add", json!({"a": 2, "b": 40})), "42");
    assert!(demo.call("time", json!({})).ends_with('Z'));
    assert_eq!(demo.call("sleep", json!({"ms": 1})), "slept 1 ms");
    assert_eq!(demo.call("env", json!({"name": "IT_MARK"})), demo.mark);
    assert_eq!(demo.call("pid", json!({})), demo.pid().to_string());
    assert_eq!(demo.request("ping", json!({}))["result"], json!({}));
}

#[test]
fn what_is_wrong_is_answered() {
    let mut demo = Demo::start("");
    let early = demo.request("tools/list", json!({}));
    assert_eq!(early["error"]["code"], -32600);
    demo.initialize("2025-11-25");
    let again = demo.send_initialize("2025-11-25");
    assert_eq!(demo.answer(&again)["error"]["code"], -32600);
    let check = |demo: &mut Demo, method: &str, params: Value, code: i64| {
        assert_eq!(demo.request(method, params)["error"]["code"], code, "{method}");
    };
    check(&mut demo, "server/discover", json!({}), -32601);
    check(&mut demo, "tools/call", json!({"name": "nothing"}), -32602);
    check(&mut demo, "tools/call", json!({}), -32602);
    check(&mut demo, "tools/list", json!({"cursor": "77"}), -32602);
    let mistake = demo.request("tools/call", json!({"name": "add", "arguments": {"a": 1}}));
    assert_eq!(mistake["result"]["isError"], true);
    demo.write("{");
    assert_eq!(
        demo.message().unwrap(),
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "not JSON"}})
    );
    demo.write("[]");
    assert_eq!(demo.message().unwrap()["error"]["code"], -32600);
    // Ids come back as they were written, also those that a double cannot hold.
    demo.write(r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}"#);
    assert_eq!(demo.line().unwrap(), br#"{"jsonrpc":"2.0","id":9007199254740993,"result":{}}"#);
    demo.write(r#"{"jsonrpc":"2.0","id":"\u00e9","method":"ping"}"#);
    assert_eq!(demo.line().unwrap(), br#"{"jsonrpc":"2.0","id":"\u00e9","result":{}}"#);
}

#[test]
fn a_slow_call_holds_nobody_up() {
    let mut demo = Demo::ready("");
    let slow = demo.send_call("sleep", json!({"ms": 300}));
    let quick = demo.send_call("echo", json!({"text": "first"}));
    assert_eq!(demo.message().unwrap()["id"], quick);
    assert_eq!(demo.message().unwrap()["id"], slow);
}

#[test]
fn sleep_reports_progress() {
    let mut demo = Demo::ready("");
    let params = json!({
        "name": "sleep",
        "arguments": { "ms": 30, "progress": 3 },
        "_meta": { "progressToken": "tök" },
    });
    let id = demo.send("tools/call", params);
    for step in 1..=3 {
        let note = demo.message().unwrap();
        assert_eq!(note["method"], "notifications/progress");
        assert_eq!(note["params"], json!({"progressToken": "tök", "progress": step, "total": 3}));
    }
    assert_eq!(demo.answer(&id)["result"]["content"][0]["text"], "slept 30 ms");
    // Without a token there is no progress.
    assert_eq!(demo.call("sleep", json!({"ms": 3, "progress": 3})), "slept 3 ms");
}

#[test]
fn a_cancelled_call_is_not_answered() {
    let mut demo = Demo::ready("--stats");
    let long = demo.send_call("sleep", json!({"ms": 60_000}));
    let short = demo.send_call("sleep", json!({"ms": 100}));
    demo.notify("notifications/cancelled", json!({"requestId": short}));
    demo.notify("notifications/cancelled", json!({"requestId": long}));
    let later = demo.send_call("sleep", json!({"ms": 200}));
    // The later one was due after the cancelled one: nothing came before it.
    demo.answer(&later);
    assert_eq!(demo.call("stats", json!({})), r#"{"calls":4,"cancelled":2}"#);
}

#[test]
fn too_many_waiting_calls_are_refused() {
    let mut demo = Demo::ready("");
    for _ in 0..1024 {
        demo.send_call("sleep", json!({"ms": 60_000}));
    }
    let one_more = demo.send_call("sleep", json!({"ms": 60_000}));
    assert_eq!(demo.answer(&one_more)["error"]["code"], -32603);
    assert_eq!(demo.call("echo", json!({"text": "still here"})), "still here");
}

#[test]
fn pages_and_extra_tools() {
    let mut demo = Demo::ready("--tools 5 --page-size 4");
    let (mut names, mut params, mut pages) = (Vec::new(), json!({}), 0);
    loop {
        let page = demo.request("tools/list", params);
        names.extend(tool_names(&page).into_iter().map(ToOwned::to_owned));
        pages += 1;
        match page["result"].get("nextCursor") {
            Some(cursor) => params = json!({ "cursor": cursor }),
            None => break,
        }
    }
    assert_eq!((pages, names.len()), (3, 11));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 11);
    assert_eq!(demo.call("extra_5", json!({})), "extra_5");
}

#[test]
fn change_tools() {
    let mut demo = Demo::ready("--change-tools");
    assert_eq!(demo.call("change_tools", json!({})), "added added_1");
    assert_eq!(demo.message().unwrap()["method"], "notifications/tools/list_changed");
    let list = demo.request("tools/list", json!({}));
    assert!(tool_names(&list).contains(&"added_1"));
    assert_eq!(demo.call("added_1", json!({})), "added_1");
}

#[test]
fn hang_init() {
    let mut demo = Demo::start("--hang-init");
    demo.send_initialize("2025-11-25");
    // It hears us: only initialize goes unanswered.
    assert_eq!(demo.request("ping", json!({}))["result"], json!({}));
}

#[test]
fn start_delay() {
    let start = Instant::now();
    let _demo = Demo::ready("--start-delay 200");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn exit_on_init_and_error_on_init() {
    let mut demo = Demo::start("--exit-on-init --exit-code 7");
    demo.send_initialize("2025-11-25");
    assert_eq!(demo.wait().code(), Some(7));
    assert_eq!(demo.stderr.line().unwrap(), "demo-server: cannot start: told so by --exit-on-init");
    let mut demo = Demo::start("--error-on-init");
    assert_eq!(demo.initialize("2025-11-25")["error"]["code"], -32603);
}

#[test]
fn die_after() {
    let mut demo = Demo::ready("--die-after 2-calls");
    for text in ["one", "two"] {
        assert_eq!(demo.call("echo", json!({ "text": text })), text);
    }
    assert_eq!(demo.wait().code(), Some(1));
    let mut demo = Demo::start("--die-after 100 --exit-code 3");
    assert_eq!(demo.wait().code(), Some(3));
}

#[test]
fn die_in_call() {
    let mut demo = Demo::ready("--die-in-call");
    demo.send_call("die", json!({"code": 42}));
    assert_eq!(demo.message(), None);
    assert_eq!(demo.wait().code(), Some(42));
    assert_eq!(demo.stderr.line().unwrap(), "demo-server: dying with code 42, as told");
    for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGTERM] {
        let mut demo = Demo::ready("--die-in-call");
        demo.send_call("die", json!({ "signal": signal as i32 }));
        assert_eq!(demo.message(), None);
        assert_eq!(demo.wait().signal(), Some(signal as i32));
    }
}

#[test]
fn exit_code_at_the_end_of_stdin() {
    assert_eq!(Demo::ready("--exit-code 9").end(), Some(9));
}

#[test]
fn flood_stdout() {
    let mut demo = Demo::ready("--flood-stdout 1000000");
    demo.send_call("echo", json!({"text": "lost"}));
    let line = demo.line().unwrap();
    assert!(line.starts_with(&[b'x'; 1_000_000]) && line[1_000_000] == b'{');
    assert_eq!(demo.call("echo", json!({"text": "seen"})), "seen");
    // Without end, and earlier.
    let mut demo = Demo::start("--flood-stdout 0 --when init");
    demo.send_initialize("2025-11-25");
    demo.message().unwrap();
    demo.notify("notifications/initialized", json!({}));
    demo.close_stdin();
    assert!(demo.is_running());
}

#[test]
fn flood_stderr() {
    let mut demo = Demo::ready("--flood-stderr 5000000");
    until("the flood", || (demo.stderr.bytes() == 5_000_000).then_some(()));
    assert_eq!(demo.call("echo", json!({"text": "dry"})), "dry");
    let mut demo = Demo::ready("--flood-stderr 0");
    until("much", || (demo.stderr.bytes() > 20_000_000).then_some(()));
    assert_eq!(demo.end(), Some(0));
}

#[test]
fn close_stdout() {
    let mut demo = Demo::ready("--close-stdout");
    demo.send_call("echo", json!({"text": "lost"}));
    assert_eq!(demo.line(), None);
    assert!(demo.is_running());
    assert_eq!(demo.end(), Some(0));
}

#[test]
fn no_read() {
    let mut demo = Demo::ready("--no-read");
    assert_eq!(demo.call("echo", json!({"text": "last"})), "last");
    demo.send("ping", json!({}));
    demo.close_stdin();
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.wait().signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(demo.line(), None);
    let mut demo = Demo::ready("--no-read --when init");
    demo.send("ping", json!({}));
    demo.signal(Signal::SIGTERM);
    demo.wait();
    assert_eq!(demo.line(), None);
}

#[test]
fn garbage_and_stderr_lines() {
    let demo = Demo::start("--garbage 2 --stderr-lines 2");
    assert_eq!(demo.line().unwrap(), b"this is line 1 of 2 that is not JSON");
    assert_eq!(demo.line().unwrap(), b"this is line 2 of 2 that is not JSON");
    assert_eq!(demo.stderr.line().unwrap(), "stderr line 1 of 2");
    assert_eq!(demo.stderr.line().unwrap(), "stderr line 2 of 2");
}

#[test]
fn answer_twice_and_unknown_id() {
    let mut demo = Demo::start("--answer-twice");
    let id = demo.send_initialize("2025-11-25");
    assert_eq!(demo.answer(&id), demo.answer(&id));
    let mut demo = Demo::start("--unknown-id");
    let id = demo.send_initialize("2025-11-25");
    assert_eq!(demo.message().unwrap()["id"], 987_654_321);
    demo.answer(&id);
}

#[test]
fn deaf() {
    let mut demo = Demo::ready("--deaf 2");
    assert_eq!(demo.call("echo", json!({"text": "second answer"})), "second answer");
    demo.send("ping", json!({}));
    assert_eq!(demo.end(), Some(0));
    assert_eq!(demo.line(), None);
    let mut demo = Demo::ready("--deaf");
    assert_eq!(demo.call("go_deaf", json!({})), "I hear nothing from now on");
    demo.send("ping", json!({}));
    assert_eq!(demo.end(), Some(0));
    assert_eq!(demo.line(), None);
}

#[test]
fn slow() {
    let mut demo = Demo::ready("--slow 100");
    let start = Instant::now();
    let first = demo.send("ping", json!({}));
    let second = demo.send("ping", json!({}));
    demo.answer(&first);
    demo.answer(&second);
    // Both waited at the same time.
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn reorder() {
    let mut demo = Demo::ready("--reorder");
    let sent: Vec<u64> =
        (0..50).map(|n| demo.send_call("echo", json!({ "text": n.to_string() })).as_u64().unwrap()).collect();
    let came: Vec<u64> = (0..50).map(|_| demo.message().unwrap()["id"].as_u64().unwrap()).collect();
    assert_ne!(came, sent);
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), sent.into_iter().collect());
}

#[test]
fn big() {
    let mut demo = Demo::ready("--big 3000");
    assert_eq!(demo.call("big", json!({})).len(), 3000);
    assert_eq!(demo.call("big", json!({"bytes": 2_000_000})).len(), 2_000_000);
}

#[test]
fn ignore_eof_and_ignore_term() {
    let mut demo = Demo::ready("--ignore-eof --ignore-term");
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.call("echo", json!({"text": "alive"})), "alive");
    demo.close_stdin();
    demo.signal(Signal::SIGTERM);
    demo.signal(Signal::SIGINT);
    // Asleep at the end of its input, and not gone.
    until("it to park", || (procfs::process(demo.pid()).unwrap().state == 'S').then_some(()));
    assert!(demo.is_running());
    demo.signal(Signal::SIGKILL);
    assert_eq!(demo.wait().signal(), Some(Signal::SIGKILL as i32));
}

#[test]
fn setsid() {
    let mut demo = Demo::ready("--setsid");
    let server: u32 = demo.call("pid", json!({})).parse().unwrap();
    assert_ne!(server, demo.pid());
    let process = procfs::process(server).unwrap();
    assert_eq!((process.sid, process.pgid), (server, server));
    assert_eq!(demo.end(), Some(0));
    assert!(!is_alive(server));
}

#[test]
fn child_stays_in_the_group() {
    let mut demo = Demo::ready("--child");
    let pids = noted(demo.pid_file());
    let roles: Vec<&str> = pids.iter().map(|noted| noted.role.as_str()).collect();
    assert_eq!(roles, ["server", "child"]);
    let child = procfs::process(pids[1].pid).unwrap();
    assert_eq!((child.ppid, child.pgid), (demo.pid(), demo.pid()));
    assert_eq!(demo.stderr.line().unwrap(), format!("child {}", child.pid));
    // It ignores TERM, and outlives its parent.
    crate::support::processes::send(child.pid, Signal::SIGTERM);
    demo.end();
    assert!(pids[1].is_alive());
}

#[test]
fn double_fork_leaves_the_session() {
    for (switches, has_mark, has_pipe) in [
        ("--double-fork", true, true),
        ("--double-fork --grandchild-clean-env", false, true),
        ("--double-fork --grandchild-close-fds", true, false),
    ] {
        let mut demo = Demo::ready(switches);
        let pids = noted(demo.pid_file());
        let grandchild = pids.iter().find(|noted| noted.role == "grandchild").unwrap();
        let process = procfs::process(grandchild.pid).unwrap();
        assert!(process.sid != demo.pid() && process.pgid != demo.pid() && process.ppid != demo.pid());
        assert_eq!(procfs::environ(process.pid).iter().any(|(name, _)| name == "IT_MARK"), has_mark);
        crate::support::processes::send(grandchild.pid, Signal::SIGTERM);
        assert_eq!(demo.end(), Some(0));
        assert!(grandchild.is_alive(), "{switches}");
        if !has_pipe {
            // Nobody holds the pipe any more.
            assert_eq!(demo.line(), None);
        } else {
            let stdout = std::fs::read_link(format!("/proc/{}/fd/1", grandchild.pid)).unwrap();
            assert!(stdout.to_str().unwrap().starts_with("pipe:"));
        }
    }
}

#[test]
fn help_and_mistakes() {
    let help = run(command().args(["demo-server", "--help"]));
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("--double-fork"));
    let mistake = run(command().args(["demo-server", "--double-frok"]));
    assert_eq!(mistake.code, 2);
    let says = "demo-server: unknown switch --double-frok, did you mean --double-fork? (see: mcpvisor demo-server --help)\n";
    assert_eq!(mistake.stderr, says);
}
