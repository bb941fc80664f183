//! How soon ten servers in containers are back once their engine is. The floor is the Engine API with nothing around it:
//! ten of the same containers created, attached to, started and greeted, all at once.
//!
//! The engine is away by its socket: nobody can connect, while the bench goes on by another name of the same socket and
//! removes what was running. So a round costs no restart of the engine, and what follows is the way back from any outage.

use super::container::read_line;
use super::pairs;
use super::subjects::{Process, initialize};
use super::support::dockerd::Dockerd;
use super::support::engine::Engine;
use super::support::{self, http, images, until};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SERVERS: usize = 10;

/// Rounds of floor, ours, floor; those whose floors differ by more than this are discarded.
const ROUNDS_MAX: usize = 25;
const FLOOR_NOISE_MAX: f64 = 0.10;

/// mcpvisor, its ten servers, and their engine. They end together.
pub struct Ten {
    mcpvisor: Process,
    socket: PathBuf,
    /// The same engine by another name.
    engine: Engine,
    body: Value,
    _own: Dockerd,
}

/// Milliseconds, one of each per round; the floor of a round is the mean of its two.
#[derive(Default)]
pub struct Recoveries {
    pub ours: Vec<f64>,
    pub bare: Vec<f64>,
    pub discarded: usize,
}

impl Ten {
    /// `None` where no engine can be started.
    pub fn start() -> io::Result<Option<Ten>> {
        let Some(own) = Dockerd::own() else { return Ok(None) };
        let host = own.engine().host();
        let socket = PathBuf::from(host.trim_start_matches("unix://"));
        let aside = socket.with_extension("aside");
        std::fs::hard_link(&socket, &aside)?;
        let engine = Engine::at(&aside);
        let isolation = json!({"enabled": true, "image": images::demo(&engine), "network_mode": "none"});
        let entry = json!({"command": "/bin/mcpvisor", "args": ["demo-server"], "isolation": isolation});
        let servers: serde_json::Map<String, Value> =
            (0..SERVERS).map(|number| (format!("boxed-{number}"), entry.clone())).collect();
        let mcpvisor = Process::mcpvisor_with(&servers.into(), &[("DOCKER_HOST", &host)])?;
        let ten = Ten { mcpvisor, socket, engine, body: Value::Null, _own: own };
        ten.wait("ready", Duration::from_millis(20));
        let inspected = ten.engine.inspect(&ten.containers()[0]).expect("it runs");
        let mut body = inspected["Config"].clone();
        body["HostConfig"] = inspected["HostConfig"].clone();
        // Ours are found by these.
        body["Labels"] = json!({});
        Ok(Some(Ten { body, ..ten }))
    }

    /// Until `pairs_min` rounds were quiet enough, or there were too many.
    pub fn recoveries(&self, pairs_min: usize) -> io::Result<Recoveries> {
        let mut all = Recoveries::default();
        self.floor()?;
        for _ in 0..ROUNDS_MAX {
            let (before, ours, after) = (self.floor()?, self.recovery()?, self.floor()?);
            if (before / after - 1.0).abs() > FLOOR_NOISE_MAX {
                all.discarded += 1;
            } else {
                all.ours.push(ours);
                all.bare.push((before + after) / 2.0);
            }
            if all.ours.len() >= pairs_min {
                break;
            }
        }
        Ok(all)
    }

    /// From the moment that the engine can be reached again until all ten are ready.
    fn recovery(&self) -> io::Result<f64> {
        std::fs::remove_file(&self.socket)?;
        self.remove(&self.containers());
        self.wait("waiting", Duration::from_millis(10));
        let aside = self.socket.with_extension("aside");
        let begun = Instant::now();
        std::fs::hard_link(aside, &self.socket)?;
        // Each look costs the processors that are measured; on the average it is seen 10 ms late.
        self.wait("ready", Duration::from_millis(20));
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// From the first create until the last answer to `initialize`.
    fn floor(&self) -> io::Result<f64> {
        let begun = Instant::now();
        let begin = || -> io::Result<_> {
            let (id, mut stream) = self.engine.attached_as(&self.body);
            stream.write_all(format!("{}\n", initialize()).as_bytes())?;
            read_line(&mut stream)?;
            Ok((id, stream))
        };
        let started = std::thread::scope(|scope| {
            let all: Vec<_> = (0..SERVERS).map(|_| scope.spawn(begin)).collect();
            all.into_iter().map(|one| one.join().expect("a bare start")).collect::<io::Result<Vec<_>>>()
        })?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let (ids, streams): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        drop(streams);
        self.remove(&ids);
        Ok(took)
    }

    fn containers(&self) -> Vec<String> {
        self.engine.containers(&["mcpvisor.managed=true"]).into_iter().map(|each| each.id).collect()
    }

    fn remove(&self, ids: &[String]) {
        std::thread::scope(|scope| {
            for id in ids {
                scope.spawn(|| {
                    self.engine.remove(id);
                    until("it to be gone", || self.engine.inspect(id).is_none().then_some(()));
                });
            }
        });
    }

    /// Until all ten are in the state.
    fn wait(&self, state: &str, pause: Duration) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let full = http::request(&self.mcpvisor.address, "GET", "/api/v1/status", &[], "");
            let status: Value = serde_json::from_str(&full.body).expect("a status is JSON");
            let servers = status["servers"].as_array().expect("a status has servers");
            if servers.iter().all(|server| server["state"] == state) {
                return;
            }
            assert!(Instant::now() < deadline, "not all {state}: {status:#}");
            support::measure_over(pause);
        }
    }
}

impl Recoveries {
    /// The median over the rounds of ours against the floor.
    pub fn ratio(&self) -> f64 {
        pairs::median(self.ours.iter().zip(&self.bare).map(|(ours, bare)| ours / bare))
    }
}
