//! `overlap`: a life takes over from one that serves. Real daemons and servers: what clients notice (nothing), how many
//! lives there are at any moment (two at most), and what is left of a switch that is broken off (nothing).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read the clock, write files, and fail by panicking"
)]

use crate::support::daemon::{Daemon, server};
use crate::support::mcp::Mcp;
use crate::support::peer::{behind_with, received_with};
use crate::support::processes::{is_alive, marked, send};
use crate::support::wire::{Wire, note, result};
use crate::support::{demo_entry, http, until};
use mcpvisor::sys::procfs;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The guardian needs 2 s for what a dead daemon leaves; the machine may be busy.
const AFTER_KILL: Duration = Duration::from_secs(10);

fn entry(switches: &str) -> Value {
    let mut entry = demo_entry(switches);
    entry["overlap"] = json!(true);
    entry
}

fn config(servers: &[(&str, &str)]) -> Value {
    let map: serde_json::Map<String, Value> =
        servers.iter().map(|(name, switches)| ((*name).to_owned(), entry(switches))).collect();
    json!({"mcpServers": map})
}

fn put(daemon: &Daemon, config: &Value) {
    let beside = daemon.tmp.join("beside");
    fs::write(&beside, config.to_string()).unwrap();
    fs::rename(beside, daemon.tmp.join("mcp_config.json")).unwrap();
}

fn row(daemon: &Daemon, name: &str) -> Value {
    let answer = http::request(daemon.address(), "GET", &format!("/api/v1/servers/{name}"), &[], "");
    serde_json::from_str(&answer.body).unwrap()
}

#[track_caller]
fn wait_row(daemon: &Daemon, name: &str, what: &str, probe: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(what, || {
            last = row(daemon, name);
            probe(&last).then(|| last.clone())
        })
    }));
    found.unwrap_or_else(|panic| {
        eprintln!("last row: {last:#}");
        std::panic::resume_unwind(panic)
    })
}

/// Ready, and nothing beside it.
#[track_caller]
fn wait_alone(daemon: &Daemon, name: &str) -> Value {
    wait_row(daemon, name, "it to be alone", |row| row["state"] == "ready" && row["switch"].is_null())
}

/// Ready, and another life on its way beside it, which exists.
#[track_caller]
fn wait_starting(daemon: &Daemon, name: &str) -> Value {
    wait_row(daemon, name, "a life beside it", |row| {
        row["state"] == "ready" && row["switch"]["state"] == "starting" && row["switch"]["pid"].is_u64()
    })
}

fn pid(value: &Value) -> u32 {
    value["pid"].as_u64().unwrap_or_else(|| panic!("no pid in {value}")) as u32
}

/// The processes that are lives of this server: they carry its name.
fn lives(mark: &str, name: &str) -> Vec<u32> {
    let named = ("MCPVISOR_SERVER".to_owned(), name.to_owned());
    let all = marked(mark).into_iter().map(|process| process.pid);
    all.filter(|pid| procfs::environ(*pid).contains(&named)).collect()
}

/// Something that goes on on a thread of its own until it is asked how it went.
struct Beside<T> {
    over: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Beside<T> {
    fn begin(run: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Beside<T> {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        Beside { over, thread: thread::spawn(move || run(&told)) }
    }

    fn end(self) -> T {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// A client that calls one tool after the other; in the end how many calls, those that failed, and the longest.
struct Calls {
    made: usize,
    failed: Vec<String>,
    longest: Duration,
}

fn calling(mut client: Mcp, tool: &'static str) -> Beside<Calls> {
    Beside::begin(move |over| {
        let mut calls = Calls { made: 0, failed: Vec::new(), longest: Duration::ZERO };
        while !over.load(Ordering::SeqCst) {
            let begun = Instant::now();
            let text = format!("call {}", calls.made);
            match client.call(tool, json!({"text": text})) {
                Ok(result) if result["content"][0]["text"] == text.as_str() => (),
                other => calls.failed.push(format!("{other:?}")),
            }
            calls.made += 1;
            calls.longest = calls.longest.max(begun.elapsed());
        }
        calls
    })
}

/// The most lives of the server that were there at the same time.
fn counting(daemon: &Daemon, name: &'static str) -> Beside<usize> {
    let mark = daemon.mark.clone();
    Beside::begin(move |over| {
        let most = AtomicUsize::new(0);
        while !over.load(Ordering::SeqCst) {
            most.fetch_max(lives(&mark, name).len(), Ordering::SeqCst);
        }
        most.into_inner()
    })
}

#[test]
fn nobody_who_calls_notices_that_a_life_is_replaced() {
    // A new life needs far longer than any call: whoever waited for it would be seen.
    let daemon = Daemon::start(&config(&[("x", "--start-delay 4000")]), &[]);
    let first = wait_alone(&daemon, "x");
    let mut news = daemon.client().events();
    let clients = [
        calling(daemon.client(), "x__echo"),
        calling(Mcp::connect(&daemon.server_url("x")), "echo"),
        calling(Mcp::connect(&daemon.server_url("x")), "echo"),
    ];
    let count = counting(&daemon, "x");
    let ran = daemon.cli(&["upstream", "restart", "x", "--wait", "30s"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let second = wait_alone(&daemon, "x");
    assert_ne!(pid(&first), pid(&second));
    assert_ne!(first["life"], second["life"]);
    assert_eq!(second["restarts"], 1, "what is counted goes on");
    put(&daemon, &config(&[("x", "--start-delay 4000 --tools 1")]));
    let third = wait_row(&daemon, "x", "one more tool", |row| row["tools"] == 7 && row["switch"].is_null());
    assert_ne!(pid(&third), pid(&second));
    assert_eq!(news.next().unwrap().unwrap()["method"], "notifications/tools/list_changed");
    for client in clients {
        let Calls { made, failed, longest } = client.end();
        assert_eq!(failed, Vec::<String>::new(), "of {made} calls");
        assert!(made > 10, "{made}");
        assert!(longest < Duration::from_millis(3500), "a call waited for a life to start: {longest:?}");
    }
    let most = count.end();
    assert!(most <= 2, "{most}");
    assert_eq!(lives(&daemon.mark, "x"), [pid(&third)]);
    let words = daemon.cli(&["events", "--types", "server.switch"]).stdout;
    for word in ["switch starting", "switch draining", "switch stopping", "switch over"] {
        assert!(words.contains(word), "{words}");
    }
}

#[test]
fn a_call_in_flight_is_answered_by_the_life_that_took_it() {
    let daemon = Daemon::start(&config(&[("x", "")]), &[]);
    let old = wait_alone(&daemon, "x");
    let mut client = Mcp::connect(&daemon.server_url("x"));
    let slow = client.begin_call(json!("slow"), "sleep", json!({"ms": 4000}), None);
    wait_row(&daemon, "x", "the call to be under way", |row| row["calls"] == 1);
    let ran = daemon.cli(&["upstream", "restart", "x", "--wait", "30s"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let switched = row(&daemon, "x");
    assert_eq!(switched["switch"]["state"], "draining", "{switched}");
    assert_eq!(switched["switch"]["pid"], old["pid"]);
    assert_eq!(switched["calls"], 1);
    let shown = daemon.cli(&["status"]).stdout;
    assert!(shown.contains("before it answers its last calls"), "{shown}");
    assert_eq!(client.text("pid", json!({})), pid(&switched).to_string(), "a new call goes to the new life");
    assert!(is_alive(pid(&old)));
    assert!(slow.open().answer().is_ok());
    let new = wait_alone(&daemon, "x");
    assert_eq!(new["pid"], switched["pid"]);
    assert!(!is_alive(pid(&old)));
    assert_eq!(lives(&daemon.mark, "x"), [pid(&new)]);
}

#[test]
fn a_call_that_does_not_end_holds_a_switch_up_for_its_patience_only() {
    let mut config = config(&[("x", "")]);
    config["mcpServers"]["x"]["call_timeout"] = json!("1500ms");
    config["mcpServers"]["x"]["stop_grace"] = json!("200ms");
    let daemon = Daemon::start(&config, &[]);
    let old = wait_alone(&daemon, "x");
    let client = Mcp::connect(&daemon.server_url("x"));
    // Progress keeps it alive for ever.
    let endless = json!({"ms": 60_000, "progress": 600});
    let endless = client.begin_call(json!("endless"), "sleep", endless, Some(json!("token")));
    wait_row(&daemon, "x", "the call to be under way", |row| row["calls"] == 1);
    assert_eq!(daemon.cli(&["upstream", "restart", "x", "--wait", "30s"]).code, 0);
    // Wanted once more meanwhile: it waits for its turn.
    assert_eq!(daemon.cli(&["upstream", "restart", "x"]).code, 0);
    let cut = endless.open().answer().unwrap_err();
    assert_eq!(cut.kind(), "stopped", "{cut:?}");
    let last =
        wait_row(&daemon, "x", "the second switch", |row| row["restarts"] == 2 && row["switch"].is_null());
    assert!(!is_alive(pid(&old)));
    assert_eq!(lives(&daemon.mark, "x"), [pid(&last)]);
}

#[test]
fn an_entry_that_does_not_work_leaves_the_life_before_alone() {
    let daemon = Daemon::start(&config(&[("x", "")]), &[]);
    let old = wait_alone(&daemon, "x");
    let mut client = Mcp::connect(&daemon.server_url("x"));
    let check = |broken: Value, kind: &str| {
        put(&daemon, &json!({"mcpServers": {"x": broken}}));
        let failed = wait_row(&daemon, "x", kind, |row| {
            row["switch"]["state"] == "failed" && row["switch"]["reason"]["kind"] == kind
        });
        assert_eq!((&failed["pid"], &failed["life"]), (&old["pid"], &old["life"]), "{failed}");
        assert_eq!((&failed["state"], &failed["failures"]), (&json!("ready"), &json!(0)), "{failed}");
        assert_eq!(lives(&daemon.mark, "x"), [pid(&old)]);
        failed
    };
    let mut nowhere = entry("");
    nowhere["command"] = json!("/nowhere/server");
    check(nowhere.clone(), "not_found");
    let shown = daemon.cli(&["upstream", "list"]).stdout.replace("\n    ", " ");
    assert!(shown.contains("a new life did not become ready, and this one serves on: "), "{shown}");
    assert!(daemon.output().1.contains("what its entry says now is not in force"));
    let ran = daemon.cli(&["upstream", "restart", "x", "--wait", "30s"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("this one serves on") && ran.stdout.contains("/nowhere/server"), "{ran:?}");
    check(entry("--exit-on-init"), "exited");
    let mut hangs = entry("--hang-init");
    hangs["connection_timeout"] = json!("500ms");
    check(hangs, "connect_timeout");
    let mut wrong = entry("");
    wrong["args"] = json!("not a list");
    check(wrong, "bad_config");
    assert_eq!(client.text("echo", json!({"text": "as ever"})), "as ever");
    let told = daemon.cli(&["events", "--types", "server.switch"]).stdout;
    assert!(told.contains("switch failed"), "{told}");
    // The life before is replaced by its own kind when it ends: what it said last is what works.
    nowhere["args"] = json!([]);
    check(nowhere, "not_found");
    send(pid(&old), Signal::SIGKILL);
    let again =
        wait_row(&daemon, "x", "another life", |row| row["state"] == "ready" && row["pid"] != old["pid"]);
    assert_eq!(again["switch"]["state"], "failed");
    assert_eq!(client.text("echo", json!({"text": "again"})), "again");
    // Mended, it takes over.
    put(&daemon, &config(&[("x", "--tools 1")]));
    let mended =
        wait_row(&daemon, "x", "the mended entry", |row| row["tools"] == 7 && row["switch"].is_null());
    assert_ne!(mended["pid"], again["pid"]);
    assert_eq!(client.text("extra_1", json!({})), "extra_1");
}

/// A server with one resource.
const RESOURCES: &str = r#"[{"uri":"x://1","name":"one"}]"#;

#[test]
fn sessions_keep_what_they_subscribed_to() {
    let daemon = behind_with(&[("e", &[("resources", RESOURCES)])], |config| {
        config["mcpServers"][0]["overlap"] = json!(true);
    });
    let (own, all) = (Wire::open(&daemon.server_url("e")), Wire::open(daemon.url()));
    until("the resource to be known", || {
        all.ask("0", "resources/list", "{}").contains("x://1").then_some(())
    });
    for wire in [&own, &all] {
        assert_eq!(wire.ask("1", "resources/subscribe", r#"{"uri":"x://1"}"#), result("1", "{}"));
    }
    let mut streams = [own.listen(None), all.listen(None)];
    let sent = || received_with(&daemon, "e", "\"resources/subscribe\"").len();
    let before = sent();
    assert_eq!(daemon.cli(&["upstream", "restart", "e", "--wait=30s"]).code, 0);
    until("the new life to be told", || (sent() == before + 1).then_some(()));
    let updated = note("notifications/resources/updated", r#"{"uri":"x://1"}"#);
    own.call("2", "run", &json!({"then": [updated]}));
    for stream in &mut streams {
        let said = std::iter::from_fn(|| stream.next()).find(|line| line.contains("/updated"));
        assert_eq!(said.as_ref(), Some(&updated));
    }
}

#[test]
fn a_storm_of_restarts_never_makes_a_third() {
    let daemon = Daemon::start(&config(&[("x", "--start-delay 50")]), &[]);
    wait_alone(&daemon, "x");
    let count = counting(&daemon, "x");
    let client = calling(Mcp::connect(&daemon.server_url("x")), "echo");
    for _ in 0..20 {
        let answer = http::request(daemon.address(), "POST", "/api/v1/servers/x/restart", &[], "");
        assert_eq!(answer.head.status, 202);
    }
    let last = wait_alone(&daemon, "x");
    let Calls { made, failed, .. } = client.end();
    assert_eq!(failed, Vec::<String>::new(), "of {made} calls");
    let most = count.end();
    assert!((1..=2).contains(&most), "{most}");
    assert_eq!(lives(&daemon.mark, "x"), [pid(&last)]);
    assert!(last["restarts"].as_u64().unwrap() >= 1, "{last}");
}

#[test]
fn the_newest_entry_wins_while_an_older_one_is_still_starting() {
    let daemon = Daemon::start(&config(&[("x", "")]), &[]);
    let old = wait_alone(&daemon, "x");
    put(&daemon, &config(&[("x", "--hang-init")]));
    let hangs = wait_starting(&daemon, "x");
    let count = counting(&daemon, "x");
    put(&daemon, &config(&[("x", "--tools 2")]));
    let new = wait_row(&daemon, "x", "the newest", |row| row["tools"] == 8 && row["switch"].is_null());
    assert!(!is_alive(pid(&old)) && !is_alive(pid(&hangs["switch"])));
    assert!(count.end() <= 2);
    assert_eq!(lives(&daemon.mark, "x"), [pid(&new)]);
}

#[test]
fn what_stops_a_server_stops_both_of_its_lives() {
    let names = ["disabled", "removed", "last"];
    let with = |switches: &str| config(&names.map(|name| (name, switches)));
    let mut daemon = Daemon::start(&with(""), &[]);
    names.iter().for_each(|name| _ = wait_alone(&daemon, name));
    let mut hanging = with("--hang-init");
    put(&daemon, &hanging);
    let both = names.map(|name| {
        let row = wait_starting(&daemon, name);
        [pid(&row), pid(&row["switch"])]
    });
    let gone = |pids: [u32; 2]| until("both to end", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    assert_eq!(daemon.cli(&["upstream", "disable", "disabled", "--wait", "30s"]).code, 0);
    gone(both[0]);
    let off = wait_row(&daemon, "disabled", "it to be off", |row| row["switch"].is_null());
    assert_eq!((&off["state"], &off["pid"]), (&json!("disabled"), &Value::Null));
    hanging["mcpServers"].as_object_mut().unwrap().remove("removed");
    put(&daemon, &hanging);
    gone(both[1]);
    assert!(both[2].iter().all(|pid| is_alive(*pid)), "nobody stopped the other");
    // What its entry says now is what is enabled.
    assert_eq!(daemon.cli(&["upstream", "enable", "disabled"]).code, 0);
    wait_row(&daemon, "disabled", "the new entry", |row| row["phase"] == "handshaking");
    assert!(daemon.stop().success());
    gone(both[2]);
    daemon.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_daemon_that_is_killed_in_a_switch_leaves_neither_life() {
    let daemon = Daemon::start(&config(&[("x", ""), ("y", "")]), &[]);
    wait_alone(&daemon, "x");
    wait_alone(&daemon, "y");
    // One rehearses, of the other the life before drains.
    let client = Mcp::connect(&daemon.server_url("y"));
    let slow = client.begin_call(json!("slow"), "sleep", json!({"ms": 60_000}), None);
    wait_row(&daemon, "y", "the call to be under way", |row| row["calls"] == 1);
    assert_eq!(daemon.cli(&["upstream", "restart", "y", "--wait", "30s"]).code, 0);
    put(&daemon, &config(&[("x", "--hang-init"), ("y", "")]));
    wait_starting(&daemon, "x");
    assert_eq!(row(&daemon, "y")["switch"]["state"], "draining");
    assert_eq!((lives(&daemon.mark, "x").len(), lives(&daemon.mark, "y").len()), (2, 2));
    daemon.kill9(daemon.daemon_pid());
    daemon.assert_nothing_left(AFTER_KILL);
    drop(slow);
}

#[test]
fn a_life_that_dies_in_a_switch_leaves_the_new_one_as_the_only_one() {
    let daemon = Daemon::start(&config(&[("x", "")]), &[]);
    let old = wait_alone(&daemon, "x");
    let mut client = Mcp::connect(&daemon.server_url("x"));
    let count = counting(&daemon, "x");
    put(&daemon, &config(&[("x", "--start-delay 1500 --tools 1")]));
    let starting = wait_starting(&daemon, "x");
    send(pid(&old), Signal::SIGKILL);
    wait_row(&daemon, "x", "its death to be seen", |row| row["life"] == starting["switch"]["life"]);
    // Whoever calls now waits for the one that starts.
    assert_eq!(client.text("pid", json!({})), pid(&starting["switch"]).to_string());
    let new = wait_alone(&daemon, "x");
    assert_eq!((&new["pid"], &new["tools"]), (&starting["switch"]["pid"], &json!(7)));
    assert!(count.end() <= 2);
    assert_eq!(lives(&daemon.mark, "x"), [pid(&new)]);
}

#[test]
fn what_needs_no_restart_reaches_the_life_that_serves_whatever_its_entry_is() {
    let mut good = config(&[("x", "")]);
    let daemon = Daemon::start(&good, &[]);
    let old = wait_alone(&daemon, "x");
    let mut broken = config(&[("x", "--exit-on-init")]);
    put(&daemon, &broken);
    wait_row(&daemon, "x", "the failure", |row| row["switch"]["state"] == "failed");
    // Another patience is for the life that runs, and one more try for the entry that does not.
    broken["mcpServers"]["x"]["call_timeout"] = json!("300ms");
    broken["mcpServers"]["x"]["groups"] = json!(["slow"]);
    let before = row(&daemon, "x")["switch"]["since"].clone();
    put(&daemon, &broken);
    let tried = wait_row(&daemon, "x", "one more try", |row| {
        row["switch"]["state"] == "failed" && row["switch"]["since"] != before
    });
    assert_eq!((&tried["pid"], &tried["groups"]), (&old["pid"], &json!(["slow"])));
    let late = Mcp::connect(&daemon.server_url("x")).call("sleep", json!({"ms": 20_000})).unwrap_err();
    assert!(late.message.contains("did not answer within 300ms"), "{late:?}");
    // As it was: that is a restart, too, as what was wanted last never ran.
    good["mcpServers"]["x"]["groups"] = json!([]);
    put(&daemon, &good);
    let well =
        wait_row(&daemon, "x", "it to be well", |row| row["groups"] == json!([]) && row["switch"].is_null());
    assert_eq!(well["state"], "ready");
    // Without `overlap` there is no second life.
    good["mcpServers"]["x"]["overlap"] = json!(false);
    put(&daemon, &good);
    daemon.wait_until("the key to be in force", |status| status["config"]["loads"] == 5);
    let count = counting(&daemon, "x");
    let ran = daemon.cli(&["upstream", "restart", "x", "--wait", "30s"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(count.end(), 1);
}

#[test]
fn a_remote_server_is_replaced_by_another_session_with_it() {
    let far = Daemon::start(&config(&[("x", "")]), &[]);
    wait_alone(&far, "x");
    let near = json!({"mcpServers": {"far": {"url": far.server_url("x"), "overlap": true}}});
    let daemon = Daemon::start(&near, &[]);
    let first = wait_alone(&daemon, "far");
    let client = calling(Mcp::connect(&daemon.server_url("far")), "echo");
    assert_eq!(daemon.cli(&["upstream", "restart", "far", "--wait", "30s"]).code, 0);
    let second = wait_alone(&daemon, "far");
    assert_ne!(first["life"], second["life"]);
    let Calls { made, failed, .. } = client.end();
    assert_eq!(failed, Vec::<String>::new(), "of {made} calls");
    assert_eq!(server(&daemon.status(), "far")["state"], "ready");
}
