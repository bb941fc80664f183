//! `kill -9` of guardian and daemon at once, while containers are created and servers given up: nobody has time to
//! write anything more. Whoever created a container had it acknowledged before it was started, and with it what was
//! remembered before.

use crate::events::contained;
use crate::support::daemon::{Daemon, server};
use crate::support::fake_engine::FakeEngine;
use crate::support::{PATIENCE, TempDir, http, measure_over, processes, until};
use mcpvisor::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// So many at the same time: most of a round is waiting.
const LANES: usize = 4;

/// Containers that are started anew all the time, and one that is given up, as another one in each round.
fn config(round: usize) -> Value {
    json!({
        "auto_disable": {"startup_attempts": 1},
        "mcpServers": {
            "a": contained(), "b": contained(),
            "broken": {"command": "/bin/false", "args": [round.to_string()]},
        },
    })
}

/// The ids of containers, in the order in which the engine was asked to do this to them.
fn told(engine: &FakeEngine, action: &str) -> Vec<String> {
    let history = engine.history();
    let these = history.iter().filter(|event| event["Action"] == action);
    these.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Asks for restarts until nobody is there to be asked.
fn restart(address: &str, name: &str) {
    let path = format!("/api/v1/servers/{name}/restart?wait=5s");
    let request = http::encode(address, "POST", &path, &[("connection", "close")], "");
    while let Ok(mut stream) = TcpStream::connect(address) {
        // The kill may come in the middle of it.
        let asked = stream.write_all(&request).and_then(|()| stream.read_to_end(&mut Vec::new()));
        if asked.is_err() {
            return;
        }
    }
}

/// The daemon's status, while it lives.
fn status(address: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = http::encode(address, "GET", "/api/v1/status", &[("connection", "close")], "");
    stream.write_all(&request).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

/// One life of a daemon, and what it leaves. Returns its directory, and how many containers were acknowledged.
fn round(engine: &FakeEngine, tmp: TempDir, round: usize) -> (TempDir, usize) {
    let before = told(engine, "start").len();
    let mut daemon = Daemon::start_in_with_env(tmp, &config(round), &[("DOCKER_HOST", &engine.host())]);
    let state = daemon.state_dir();
    let address = daemon.address().to_owned();
    let first = status(&address).unwrap();
    assert!(first["store"].is_null(), "round {round}: what the one before left: {}", first["store"]);
    let pid = first["pid"].as_u64().unwrap() as u32;
    let moment = Instant::now() + Duration::from_millis(fastrand::u64(..600));
    // How many had been created when it was seen that the broken one is given up.
    let mut given_up = None;
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            scope.spawn({
                let address = &address;
                move || restart(address, name)
            });
        }
        while Instant::now() < moment {
            let seen = status(&address).is_some_and(|all| server(&all, "broken")["state"] == "auto_disabled");
            if seen && given_up.is_none() {
                given_up = Some(told(engine, "create").len());
            }
            measure_over(Duration::from_millis(5));
        }
        daemon.kill9(daemon.guardian_pid());
        daemon.kill9(pid);
        daemon.wait_end();
        until("the daemon to be dead", || (!processes::is_alive(pid)).then_some(()));
    });
    let started = told(engine, "start");
    let store = Store::open(state.as_ref());
    let known: BTreeSet<String> = store.records().into_iter().map(|created| created.record.id).collect();
    assert_eq!(store.trouble(), None, "round {round}");
    for id in &started[before..] {
        assert!(
            known.contains(id),
            "round {round}: {id} was started, and is lost; {} are known",
            known.len()
        );
    }
    // One that was created later, and acknowledged: so this was on the disk.
    let created = told(engine, "create");
    let later = &created[given_up.unwrap_or(created.len())..];
    if started.iter().any(|id| later.contains(id)) {
        let tally: Value = serde_json::from_str(&store.recall("tallies", "broken").unwrap()).unwrap();
        assert!(tally["now"].is_object(), "round {round}: it was given up: {tally}");
    }
    assert!(store.close(PATIENCE), "not closed in time");
    (daemon.into_tmp(), started.len() - before)
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds = super::moments(20) / LANES;
    let lane = |_| {
        let engine = FakeEngine::start();
        let (mut tmp, mut acknowledged) = (TempDir::new(), 0);
        for number in 0..rounds {
            let (next, started) = round(&engine, tmp, number);
            (tmp, acknowledged) = (next, acknowledged + started);
        }
        // The last word: a start that is left alone.
        let daemon = Daemon::start_in_with_env(tmp, &config(rounds), &[("DOCKER_HOST", &engine.host())]);
        daemon.wait_ready(&["a", "b"]);
        assert!(daemon.status()["store"].is_null());
        acknowledged
    };
    let acknowledged: usize = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|n| scope.spawn(move || lane(n))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    println!("{} rounds, {acknowledged} containers acknowledged", rounds * LANES);
}
