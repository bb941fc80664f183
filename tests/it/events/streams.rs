//! Following: order, ids, gaps, filters, access, and the command line.

use super::stream::{Stream, list};
use crate::support::daemon::{Daemon, command, server};
use crate::support::{TempDir, demo_config, http, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn two() -> Value {
    demo_config(&[("a", ""), ("b", "")])
}

fn restart(daemon: &Daemon, name: &str) {
    assert_eq!(daemon.cli(&["upstream", "restart", name, "--wait"]).code, 0);
}

/// The status once both are ready and that was told: it is shown first.
fn both_ready(daemon: &Daemon) -> Value {
    daemon.wait_ready(&["a", "b"]);
    until("both to be told", || {
        let (events, _) = list(daemon, "?types=server.state");
        let ready = |name: &str| events.iter().any(|event| event["server"] == name && event["to"] == "ready");
        ["a", "b"].into_iter().all(ready).then_some(())
    });
    daemon.status()
}

/// `connecting/spawning` of both ends, and the cause.
fn transition(event: &Value) -> String {
    let place = |state: &Value, phase: &Value| match phase.as_str() {
        Some(phase) => format!("{}/{phase}", state.as_str().unwrap()),
        None => state.as_str().unwrap().to_owned(),
    };
    let (from, to) = (place(&event["from"], &event["from_phase"]), place(&event["to"], &event["phase"]));
    format!("{from} -> {to} by {}", event["cause"].as_str().unwrap())
}

#[test]
fn every_transition_is_one_event_in_order() {
    let daemon = Daemon::start(&two(), &[]);
    let status = both_ready(&daemon);
    let (events, whole) = list(&daemon, "");
    assert_eq!((&whole["seq"], &whole["session"]), (&status["seq"], &status["session"]));
    assert_eq!(whole["gap"], Value::Null);
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=status["seq"].as_u64().unwrap()).collect::<Vec<_>>());
    let of = |name: &str| -> Vec<&Value> { events.iter().filter(|event| event["server"] == name).collect() };
    let expected = [
        "disabled -> queued by enabled",
        "queued -> connecting/spawning by admitted",
        "connecting/spawning -> connecting/handshaking by spawned",
        "connecting/handshaking -> connecting/discovering by greeted",
        "connecting/discovering -> ready by discovered",
    ];
    for name in ["a", "b"] {
        let of = of(name);
        assert_eq!(of.iter().map(|event| transition(event)).collect::<Vec<_>>(), expected);
        let last = of.last().unwrap();
        let row = server(&status, name);
        for key in ["life", "pid", "tools", "container"] {
            assert_eq!(last[key], row[key], "{key}");
        }
        assert!(humantime::parse_rfc3339(last["at"].as_str().unwrap()).is_ok(), "{last}");
    }
}

#[test]
fn a_failure_carries_its_reason() {
    let daemon = Daemon::start(
        &json!({"mcpServers": {"missing": {"command": "no-such-program-4711"}, "a": demo_config(&[("a", "")])["mcpServers"]["a"]}}),
        &[],
    );
    daemon.wait_state("missing", "parked");
    let (events, _) = list(&daemon, "?server=missing&types=server.state");
    let last = events.last().unwrap();
    assert_eq!((&last["to"], &last["reason"]["kind"]), (&json!("parked"), &json!("not_found")), "{last}");
    assert!(last["reason"]["hint"].is_string());
    assert!(events.iter().all(|event| event["server"] == "missing" && event["type"] == "server.state"));
}

#[test]
fn both_listeners_give_the_same_and_a_stream_goes_on_where_it_was() {
    let daemon = Daemon::start(&two(), &[]);
    let status = both_ready(&daemon);
    let seq = status["seq"].as_u64().unwrap();
    let mut tcp = Stream::open(&daemon, "/events", &[]).begun();
    let mut unix = Stream::on_the_socket(&daemon, "/events").begun();
    let start = format!("{}-{seq}", status["session"].as_str().unwrap());
    assert_eq!((tcp.id.as_str(), unix.id.as_str()), (start.as_str(), start.as_str()));
    restart(&daemon, "a");
    let ready = |event: &super::stream::Event| event.data["to"] == "ready";
    let (first, mut expected) = (tcp.next(), seq + 1);
    assert_eq!((first.data["server"].as_str(), first.data["seq"].as_u64()), (Some("a"), Some(expected)));
    let last = tcp.find(|event| {
        expected += 1;
        assert_eq!(event.data["seq"], expected);
        ready(event)
    });
    assert_eq!(unix.find(ready).id, last.id);
    // From the status on, from an id, and as a browser comes back.
    let mut resumed = [
        Stream::open(&daemon, &format!("/events?since={seq}"), &[]).begun(),
        Stream::open(&daemon, &format!("/events?since={start}"), &[]).begun(),
        Stream::open(&daemon, "/events", &[("Last-Event-ID", &start)]).begun(),
        Stream::open(&daemon, "/events?since=0", &[("Last-Event-ID", &start)]).begun(),
    ];
    for stream in &mut resumed {
        assert_eq!(stream.next().id, first.id);
        assert_eq!(stream.find(ready).id, last.id);
    }
    restart(&daemon, "b");
    for stream in resumed.iter_mut().chain([&mut tcp]) {
        assert_eq!(stream.next().data["seq"], expected + 1);
    }
}

#[test]
fn a_gap_is_told() {
    let tmp = TempDir::new();
    let daemon = Daemon::start_in(tmp, &two(), &[]);
    let status = both_ready(&daemon);
    let (seq, session) = (status["seq"].as_u64().unwrap(), status["session"].as_str().unwrap().to_owned());
    let id = format!("{session}-{seq}");
    let daemon = Daemon::start_in(daemon.into_tmp(), &two(), &[]);
    let status = daemon.wait_ready(&["a", "b"]);
    assert_ne!(status["session"], session.as_str());
    // An id of the run before; a number that this run has not given; what is no id at all, in the header.
    let ahead = format!("/events?since={}", status["seq"].as_u64().unwrap() + 1);
    for (target, headers) in [
        ("/events", vec![("Last-Event-ID", id.as_str())]),
        (&format!("/events?since={id}"), vec![]),
        (&ahead, vec![]),
        ("/events", vec![("Last-Event-ID", "p3-x")]),
    ] {
        let mut stream = Stream::open(&daemon, target, &headers).begun();
        let gap = stream.next();
        assert_eq!((gap.name.as_str(), &gap.data["cause"]), ("gap", &json!("other_session")), "{target}");
        assert_eq!((&gap.data["seq"], &gap.data["session"]), (&json!(0), &status["session"]));
        assert_eq!(gap.id, format!("{}-0", status["session"].as_str().unwrap()));
        assert_eq!(stream.next().data["seq"], 1, "and all that this run has");
    }
    let (events, whole) = list(&daemon, &format!("?since={id}"));
    assert_eq!(whole["gap"], json!({"cause": "other_session", "seq": 0}));
    assert_eq!(events[0]["seq"], 1);
}

#[test]
fn filters() {
    let daemon = Daemon::start(&two(), &[]);
    daemon.wait_ready(&["a", "b"]);
    let mut only = Stream::open(&daemon, "/events?types=server.state&server=b", &[]).begun();
    let mut phases = Stream::open(&daemon, "/events?types=server.phase,engine", &[]).begun();
    restart(&daemon, "a");
    restart(&daemon, "b");
    let mut states = Vec::new();
    while states.last() != Some(&json!("ready")) {
        let event = only.next();
        assert_eq!((event.name.as_str(), &event.data["server"]), ("server.state", &json!("b")));
        states.push(event.data["to"].clone());
    }
    assert_eq!(states, ["stopping", "queued", "connecting", "ready"].map(|state| json!(state)));
    assert_eq!(phases.next().name, "server.phase");
    let (events, _) = list(&daemon, "?limit=2&types=server.state");
    assert_eq!(events.iter().map(|event| &event["to"]).collect::<Vec<_>>(), ["connecting", "ready"]);
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let config = json!({"mcpServers": two()["mcpServers"], "api_key": "secret"});
    let daemon = Daemon::start(&config, &[]);
    let status = |method: &str, target: &str, headers: &[(&str, &str)]| {
        http::request(daemon.address(), method, target, headers, "").head.status
    };
    let key = ("Authorization", "Bearer secret");
    for target in ["/events", "/api/v1/events"] {
        assert_eq!(status("GET", target, &[]), 401);
        assert_eq!(status("GET", target, &[key, ("Origin", "http://evil.example")]), 403);
        assert_eq!(status("GET", target, &[key, ("Host", "evil.example")]), 403);
        assert_eq!(status("POST", target, &[key]), 405);
        assert_eq!(status("GET", &format!("{target}?types=weather"), &[key]), 400);
        assert_eq!(status("GET", &format!("{target}?since=yesterday"), &[key]), 400);
        assert_eq!(status("GET", &format!("{target}?server=nobody"), &[key]), 404);
    }
    assert_eq!(status("GET", "/api/v1/events?limit=x", &[key]), 400);
    Stream::open(&daemon, "/events", &[key]).begun();
}

#[test]
fn a_client_that_does_not_read_harms_nobody() {
    let daemon = Daemon::start(&two(), &[]);
    daemon.wait_ready(&["a", "b"]);
    let stuck = Stream::open(&daemon, "/events", &[]).begun();
    let mut reading = Stream::open(&daemon, "/events", &[]).begun();
    for _ in 0..5 {
        restart(&daemon, "a");
        reading.find(|event| event.data["to"] == "ready");
    }
    drop(stuck);
    drop(reading);
    restart(&daemon, "a");
}

#[test]
fn the_streams_end_with_the_daemon() {
    let mut daemon = Daemon::start(&two(), &[]);
    daemon.wait_ready(&["a", "b"]);
    let mut stream = Stream::open(&daemon, "/events?types=server.state", &[]).begun();
    let begun = std::time::Instant::now();
    assert!(daemon.stop().success());
    println!("stopped within {:?}", begun.elapsed());
    let disabled = |event: &super::stream::Event| event.data["to"] == "disabled";
    stream.find(disabled);
    stream.find(disabled);
    stream.ended();
}

#[test]
fn the_command_prints_a_line_each() {
    let daemon = Daemon::start(&two(), &[]);
    let status = daemon.wait_ready(&["a", "b"]);
    let ran = daemon.cli(&["events", "--server", "a", "--types", "server.state"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let words: Vec<&str> = ran.stdout.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
    let life = server(&status, "a")["life"].as_u64().unwrap();
    let expected = [
        "a: disabled -> queued".to_owned(),
        format!("a: queued -> connecting (spawning), life {life}"),
        format!("a: connecting (discovering) -> ready, life {life}"),
    ];
    assert_eq!(words, expected);
    let ran = daemon.cli(&["events", "--json", "-n", "1"]);
    let last: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(last["seq"], status["seq"]);
    let seq = status["seq"].to_string();
    assert_eq!(daemon.cli(&["events", "--since", &seq]).stdout, "");
    let ran = daemon.cli(&["events", "--since", "other-7", "-n", "1"]);
    assert!(ran.stdout.starts_with("the daemon was started anew since then"), "{ran:?}");
    assert_eq!(daemon.cli(&["events", "--server", "nobody"]).code, 1);
    assert_eq!(daemon.cli(&["events", "--types", "weather", "--follow"]).code, 4);
}

#[test]
fn the_command_follows_until_the_daemon_ends() {
    let mut daemon = Daemon::start(&two(), &[]);
    daemon.wait_ready(&["a", "b"]);
    let state = daemon.tmp.join("state");
    let mut follower = command();
    follower.args(["--state-dir", &state, "events", "-f", "--json", "-n", "1"]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap()).unwrap() };
    // The status is a moment before its event.
    while next()["to"] != "ready" {}
    restart(&daemon, "a");
    while next()["to"] != "ready" {}
    assert!(daemon.stop().success());
    let status = until("the follower to end", || follower.try_wait().unwrap());
    assert_eq!(status.code(), Some(7));
}
