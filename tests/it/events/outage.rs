//! An engine's outages as people see them: in the events, the status, the log, and after a restart of the daemon.

use super::stream::{Event, Stream, list};
use crate::support::daemon::Daemon;
use crate::support::fake_engine::FakeEngine;
use crate::support::{BINARY, TempDir, demo_entry, until};
use serde_json::{Value, json};

/// A demo server in a container of the fake engine, where it is a process of this host.
pub fn contained() -> Value {
    json!({
        "command": BINARY,
        "args": ["demo-server"],
        "stop_grace": "200ms",
        "isolation": { "enabled": true, "image": "demo" },
    })
}

/// Servers `a` and `b` on the engine, and `local`, which is not.
pub fn config() -> Value {
    json!({"mcpServers": {"a": contained(), "b": contained(), "local": demo_entry("")}})
}

pub fn start(engine: &FakeEngine, tmp: TempDir, config: &Value) -> Daemon {
    let daemon = Daemon::start_in_with_env(tmp, config, &[("DOCKER_HOST", &engine.host())]);
    daemon.wait_ready(&["a", "b", "local"]);
    daemon
}

/// The status as people see it, on one line.
fn said(daemon: &Daemon) -> String {
    let text = daemon.cli(&["status"]).stdout;
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap()
}

fn engine_row(daemon: &Daemon) -> Value {
    daemon.status()["engines"][0].clone()
}

/// The end of the outage; what is told of its progress is held against what comes of it.
fn end(stream: &mut Stream) -> Event {
    let mut progress = Vec::new();
    let end = stream.find(|event| {
        if event.name == "engine.recovering" {
            progress.push((event.data["done"].as_u64().unwrap(), event.data["of"].as_u64().unwrap()));
        }
        event.name == "engine.recovered"
    });
    assert_eq!(progress.first().map(|(done, _)| *done), Some(0), "{progress:?}");
    assert!(progress.windows(2).all(|two| two[0].0 < two[1].0), "{progress:?}");
    end
}

#[test]
fn an_outage_from_its_start_to_its_end() {
    let engine = FakeEngine::start();
    let daemon = start(&engine, TempDir::new(), &config());
    let (first, _) = list(&daemon, "?types=engine");
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((&first[0]["type"], &first[0]["engine"]), (&json!("engine.up"), &json!(engine.host())));
    let mut stream = Stream::open(&daemon, "/events?types=engine", &[]).begun();

    engine.go_away();
    let away = stream.next();
    assert_eq!((away.name.as_str(), &away.data["cause"]), ("engine.away", &json!("down")));
    assert_eq!(away.data["reason"]["kind"], "engine_away", "{}", away.data);
    assert!(away.data["reason"]["hint"].as_str().unwrap().contains("start it"), "{}", away.data);
    let row = engine_row(&daemon);
    assert_eq!((&row["state"], &row["cause"]), (&json!("away"), &json!("down")));
    assert_eq!(row["reason"], away.data["reason"]);
    assert!(humantime::parse_rfc3339(row["since"].as_str().unwrap()).is_ok(), "{row}");
    until("its next probe", || engine_row(&daemon)["next_probe_at"].is_string().then_some(()));
    let text = said(&daemon);
    assert!(text.contains("away (down)") && text.contains("; asked again in "), "{text}");

    engine.come_back();
    let back = end(&mut stream);
    let data = &back.data;
    daemon.wait_ready(&["a", "b"]);
    assert_eq!((&data["cause"], &data["engine"]), (&json!("down"), &json!(engine.host())));
    assert!(data["outage_ms"].is_u64() && data["duration_ms"].is_u64(), "{data}");

    // One order: the engine goes before its servers do, and answers before they are ready. Nobody else is touched.
    let (all, _) = list(&daemon, &format!("?since={}", seq(&away.data)));
    let recovering = seq(all.iter().find(|event| event["type"] == "engine.recovering").unwrap());
    for event in all.iter().filter(|event| event["to"] == "ready") {
        assert!(recovering < seq(event), "{all:#?}");
    }
    assert!(all.iter().all(|event| event["server"] != "local"), "{all:#?}");
    let (_, log) = daemon.output();
    let result = format!(": recovered: {} of 2 back within ", data["recovered"]);
    for line in [" is down: ", ": up again after ", &result] {
        let about = |text: &&str| text.split_once(": ").is_some_and(|(_, said)| said.starts_with("engine "));
        let lines: Vec<&str> = log.lines().filter(|text| about(text) && text.contains(line)).collect();
        assert_eq!(lines.len(), 1, "{line}: {lines:#?}");
    }
}

#[test]
fn a_stream_that_only_ended_is_no_outage() {
    let engine = FakeEngine::start();
    let daemon = start(&engine, TempDir::new(), &config());
    let mut stream = Stream::open(&daemon, "/events?types=engine", &[]).begun();
    engine.cut_connections();
    assert_eq!(stream.next().name, "engine.reconnected");
    daemon.wait_ready(&["a", "b"]);
    until("the end of the recovery", || (engine_row(&daemon)["state"] == "up").then_some(()));
    let (all, _) = list(&daemon, "?types=engine");
    let names: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["engine.up", "engine.reconnected"]);
    assert_eq!(engine_row(&daemon)["outages"]["count"], 0);
}

#[test]
fn metrics_across_restart() {
    let engine = FakeEngine::start();
    let mut tmp = TempDir::new();
    let mut before = json!({"count": 0, "recovered": 0, "failed": 0});
    for run in 1..=2 {
        let daemon = start(&engine, tmp, &config());
        let kept = engine_row(&daemon)["outages"].clone();
        for (key, value) in before.as_object().unwrap() {
            assert_eq!(kept[key], *value, "{key}: {kept}");
        }
        let mut stream = Stream::open(&daemon, "/events?types=engine", &[]).begun();
        engine.go_away();
        stream.find(|event| event.name == "engine.away");
        engine.come_back();
        let back = end(&mut stream).data;
        let after = engine_row(&daemon)["outages"].clone();
        assert_eq!(after["count"], run);
        let sum = |key: &str| after[key].as_u64().unwrap() - before[key].as_u64().unwrap();
        assert_eq!(sum("recovered"), back["recovered"].as_u64().unwrap());
        assert_eq!(sum("recovered") + sum("failed"), back["of"].as_u64().unwrap());
        assert_eq!(sum("failed"), back["failed"].as_array().unwrap().len() as u64);
        assert_eq!(after["last_outage_ms"], back["outage_ms"]);
        assert_eq!(after["last_recovery_ms"], back["duration_ms"]);
        for key in ["last_at", "last_recovery_at"] {
            assert!(humantime::parse_rfc3339(after[key].as_str().unwrap()).is_ok(), "{after}");
        }
        let text = said(&daemon);
        let count = if run == 1 { " 1 outage, " } else { " 2 outages, the last " };
        assert!(text.contains(count) && text.contains(", recovered within "), "{text}");
        before = after;
        tmp = daemon.into_tmp();
    }
    // What was kept is shown before anything happens again.
    let daemon = start(&engine, tmp, &config());
    assert_eq!(engine_row(&daemon)["outages"], before);
}
