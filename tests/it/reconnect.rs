//! `mcpvisor reconnect`: on processes and a scripted remote server here, on real engines in `live.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests start plain processes and threads, and fail by panicking"
)]

mod live;

use crate::support::daemon::{Daemon, Ran, server};
use crate::support::http::{self, Full};
use crate::support::upstream::{Upstream, answer_plainly, plain};
use crate::support::{BINARY, TempDir, demo_entry, processes};
use mcpvisor::base::time::Time;
use mcpvisor::engine::outage::{Action, Cause, Event, Policy, Presence, step};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What the command answered: its exit code, and one server's part.
struct Answer {
    code: i32,
    body: Value,
}

impl Answer {
    fn of(ran: &Ran) -> Answer {
        let body = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
        Answer { code: ran.code, body }
    }

    fn one(&self, name: &str) -> &Value {
        let all = self.body["results"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap_or(&Value::Null)
    }

    /// Action, outcome and the kind of the error, which may be missing.
    fn words(&self, name: &str) -> String {
        let one = self.one(name);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", word(&one["action"]), word(&one["outcome"]), word(&one["error"]["kind"]))
            .trim_end()
            .to_owned()
    }

    fn names(&self) -> Vec<&str> {
        self.body["results"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
    }
}

fn reconnect(daemon: &Daemon, args: &[&str]) -> Answer {
    Answer::of(&daemon.cli(&[&["reconnect", "--json"], args].concat()))
}

fn post(daemon: &Daemon, body: &str) -> Full {
    http::request(daemon.address(), "POST", "/api/v1/reconnect", &[], body)
}

/// One server in each state that lasts.
fn zoo() -> Value {
    let mut off = demo_entry("");
    off["enabled"] = json!(false);
    json!({
        "mcpServers": {
            "ready": demo_entry(""),
            "failing": demo_entry("--exit-on-init --exit-code 3"),
            "missing": { "command": "no-such-program-4711" },
            "entry": { "url": "https://mcp.example/mcp", "quarantined": true },
            "off": off,
        },
        "auto_disable": { "failure_threshold": 2, "startup_attempts": 2 },
    })
}

#[test]
fn each_server_says_how_it_went() {
    let daemon = Daemon::start(&zoo(), &[]);
    daemon.wait_ready(&["ready"]);
    daemon.wait_state("failing", "auto_disabled");
    daemon.wait_state("missing", "parked");
    let before = daemon.status();
    // Of all, what only a person can end is left to a person who means it.
    let all = reconnect(&daemon, &["--all", "--reason", "a test"]);
    assert_eq!((all.code, &all.body["reason"]), (0, &json!("a test")));
    let totals = json!({ "servers": 5, "ok": 1, "failed": 0, "pending": 0, "skipped": 4 });
    assert_eq!(all.body["totals"], totals, "{:#}", all.body);
    assert_eq!(all.words("ready"), "probed ok");
    for name in ["failing", "missing", "entry", "off"] {
        assert_eq!(all.words(name), "skipped skipped");
        assert!(all.one(name)["skipped"].is_string());
    }
    let pid = |status: &Value| server(status, "ready")["pid"].clone();
    assert_eq!(pid(&daemon.status()), pid(&before), "what answers is kept");
    // By name, they are tried; what was counted stays counted.
    let some = reconnect(&daemon, &["failing", "missing", "ready"]);
    assert_eq!(some.code, 1, "one came back, two did not");
    assert_eq!(some.words("ready"), "probed ok");
    assert_eq!(some.words("failing"), "tried failed exited");
    assert_eq!(some.words("missing"), "tried failed not_found");
    let failing = some.one("failing");
    assert_eq!(
        (&failing["state_before"], &failing["state_after"]),
        (&json!("auto_disabled"), &json!("auto_disabled"))
    );
    assert!(failing["error"]["message"].as_str().unwrap().contains("code 3"), "{failing}");
    assert_eq!(server(&daemon.status(), "failing")["failures"], 3);
    let nothing = reconnect(&daemon, &["off", "entry"]);
    assert_eq!((nothing.code, nothing.words("off").as_str()), (3, "skipped skipped"));
    // Nobody lives on an engine.
    let none = daemon.cli(&["reconnect"]);
    assert_eq!(none.code, 3);
    assert!(none.stdout.starts_with("nothing to do"), "{none:?}");
    let (_, log) = daemon.output();
    assert!(log.contains("asked to reconnect entry, failing, missing, off, ready: a test"), "{log}");
}

#[test]
fn names_that_nobody_has_stop_it_before_anything_is_done() {
    let daemon = Daemon::start(&zoo(), &[]);
    daemon.wait_state("failing", "auto_disabled");
    let wrong = daemon.cli(&["reconnect", "failing", "redy"]);
    assert_eq!(wrong.code, 2);
    assert_eq!(wrong.stderr, "mcpvisor: no server is called `redy` (did you mean `ready`?)\n");
    assert_eq!(server(&daemon.status(), "failing")["failures"], 2, "it was not tried");
    let elsewhere = daemon.cli(&["reconnect", "--engine", "tcp://127.0.0.1:9"]);
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.stderr.contains("no server lives on engine"), "{elsewhere:?}");
    let check = |body: &str, status: u16, message: &str| {
        let full = post(&daemon, body);
        assert_eq!(full.head.status, status, "{body}: {full:?}");
        let error: Value = serde_json::from_str(&full.body).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(message), "{body}: {error}");
    };
    check(r#"{"servers":["redy"]}"#, 404, "no server is called `redy`");
    check(r#"{"server":"ready"}"#, 400, "unknown field `server`");
    check(r#"{"servers":["ready"],"all":true}"#, 400, "exclude each other");
    check(r#"{"engine":"ftp://x"}"#, 400, "ftp");
    check(r#"{"engine":7}"#, 400, "neither true nor an endpoint");
    check("[", 400, "not understood");
    assert_eq!(post(&daemon, r#"{"servers":["ready"]}"#).head.status, 200);
    assert_eq!(post(&daemon, "").head.status, 200);
    let get = http::request(daemon.address(), "GET", "/api/v1/reconnect", &[], "");
    assert_eq!((get.head.status, get.head.header("allow")), (405, Some("POST")));
}

/// It is alive and hangs: the probe of a person does not wait for three misses, and blames nobody.
#[test]
fn one_that_does_not_answer_is_replaced() {
    let mut hangs = demo_entry("");
    hangs["stop_grace"] = json!("1s");
    let daemon = Daemon::start(&json!({ "mcpServers": { "hangs": hangs, "other": demo_entry("") } }), &[]);
    let status = daemon.wait_ready(&["hangs", "other"]);
    let pid = |status: &Value, name: &str| server(status, name)["pid"].as_u64().unwrap() as u32;
    let before = pid(&status, "hangs");
    processes::send(before, Signal::SIGSTOP);
    let answer = reconnect(&daemon, &["hangs", "--wait", "60"]);
    assert_eq!((answer.code, answer.words("hangs").as_str()), (0, "restarted ok"), "{:#}", answer.body);
    let after = daemon.status();
    assert_ne!(pid(&after, "hangs"), before);
    assert_eq!(server(&after, "hangs")["failures"], 0);
    assert_eq!(pid(&after, "other"), pid(&status, "other"));
}

/// Whoever does not wait hears so; the recovery goes on without them.
#[test]
fn a_wait_that_is_over_is_no_end() {
    let daemon = Daemon::start(&json!({ "mcpServers": { "slow": demo_entry("--start-delay 3000") } }), &[]);
    let answer = reconnect(&daemon, &["slow", "--wait", "10ms"]);
    assert_eq!((answer.code, answer.words("slow").as_str()), (1, "joined pending not_ready"));
    assert_eq!(answer.body["totals"]["pending"], 1);
    let answer = reconnect(&daemon, &["slow", "--wait", "60s"]);
    assert_eq!((answer.code, answer.words("slow").as_str()), (0, "joined ok"), "{:#}", answer.body);
    assert_eq!(server(&daemon.status(), "slow")["restarts"], 0);
}

#[test]
fn three_who_ask_at_once_are_one_recovery() {
    let tmp = TempDir::new();
    let cure = tmp.join("cure");
    // Ill until there is a cure, and then slow.
    let script = format!("test -e {cure} && exec {BINARY} demo-server --start-delay 1000");
    let entry = json!({ "command": "/bin/sh", "args": ["-c", script] });
    let daemon = Daemon::start_in(tmp, &json!({ "mcpServers": { "ill": entry } }), &[]);
    let given_up = daemon.wait_state("ill", "auto_disabled");
    std::fs::write(&cure, "").unwrap();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| serde_json::from_str(&post(&daemon, r#"{"servers":["ill"]}"#).body).unwrap())
            })
            .collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    let first = &answers[0]["results"];
    assert_eq!((&first[0]["action"], &first[0]["outcome"]), (&json!("tried"), &json!("ok")), "{first:#}");
    assert!(answers.iter().all(|answer| answer["results"] == *first), "{answers:#?}");
    let well = daemon.status();
    let well = server(&well, "ill");
    let lives = |row: &Value| row["restarts"].as_u64().unwrap();
    assert_eq!(lives(well), lives(&given_up) + 1, "one life, however many asked");
    assert_eq!(well["failures"], given_up["failures"]);
}

/// The remote server has forgotten the session: it is greeted again, what it lists is asked for again, and nobody's
/// call is done twice.
#[test]
fn a_lost_session_is_made_anew() {
    let number = Arc::new(AtomicUsize::new(1));
    let current = number.clone();
    let upstream = Upstream::start(move |seen, out| {
        let now = format!("s-{}", current.load(Ordering::Acquire));
        let message = seen.message();
        if seen.method != "POST" || message["method"] == "initialize" {
            return match plain(&message).filter(|_| seen.method == "POST") {
                Some(answer) => out.json(&[("mcp-session-id", &now)], &answer),
                None => answer_plainly(seen, out),
            };
        }
        match (seen.header("mcp-session-id") == Some(&now), plain(&message)) {
            (false, _) => out.answer(404, &[], ""),
            (true, Some(answer)) => out.json(&[], &answer),
            (true, None) => out.answer(202, &[], ""),
        }
    });
    let daemon = Daemon::start(&json!({ "mcpServers": { "far": { "url": upstream.url() } } }), &[]);
    let status = daemon.wait_ready(&["far"]);
    let lists = upstream.seen("tools/list").len();
    number.store(2, Ordering::Release);
    let answer = reconnect(&daemon, &["far"]);
    assert_eq!((answer.code, answer.words("far").as_str()), (0, "probed ok"), "{:#}", answer.body);
    assert_eq!(upstream.seen("initialize").len(), 2);
    upstream.wait_seen("tools/list", lists + 1);
    let after = daemon.status();
    assert_eq!(
        server(&after, "far")["life"],
        server(&status, "far")["life"],
        "the session is new, the life is not"
    );
    assert_eq!(daemon.client().text("far__run", json!({ "x": 1 })), r#"{"x":1}"#);
    assert_eq!(upstream.seen("tools/call").len(), 1);
    // One that cannot be reached is tried now, and says why.
    drop(upstream);
    let answer = reconnect(&daemon, &["far"]);
    assert_eq!(answer.code, 1, "{:#}", answer.body);
    assert_eq!(answer.one("far")["error"]["kind"], "unreachable", "{:#}", answer.body);
}

/// `docker_recovery.enabled: false`: an engine that is away is asked only when somebody asks.
#[test]
fn without_recovery_an_engine_is_asked_only_for_somebody() {
    let policy = Policy { ladder: Vec::new(), ..Policy::default() };
    let mut now = Time::ZERO;
    let mut heard = |presence: Presence, event: Event| {
        now = now + Duration::from_millis(10);
        let mut actions = Vec::new();
        let presence = step(presence, event, now, &policy, 0.5, &mut actions);
        (presence, actions)
    };
    let (presence, _) = heard(Presence::new(Time::ZERO), Event::Due);
    let (presence, _) = heard(presence, Event::Failed(Cause::Down));
    assert_eq!((presence.state(), presence.next_probe(), presence.next_deadline()), ("away", None, None));
    let (presence, actions) = heard(presence, Event::Asked);
    assert!(matches!(actions[..], [Action::Ping { .. }]), "{actions:?}");
    let (presence, _) = heard(presence, Event::Failed(Cause::Down));
    assert_eq!((presence.state(), presence.next_deadline()), ("away", None));
}
