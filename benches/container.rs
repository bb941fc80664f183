//! What a server in a container costs more than its container: until its first answer, and for a call. The floor is
//! the Engine API with nothing around it: the same container, created, attached to, started, and spoken to.

use super::load::{Slice, Subject};
use super::pairs::{self, PAIRS_MIN, Rounds};
use super::subjects::{Mount, Process, echo_call, initialize};
use super::support::dockerd::Dockerd;
use super::support::engine::Engine;
use super::support::{self, http, images, until};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The server's name, and so the label of its containers.
const SERVER: &str = "boxed";
const ECHO: Mount = Mount { path: "/mcp/s/boxed", tool: "echo" };

/// Pairs of a start of ours and a bare one.
const STARTS: usize = 15;

/// mcpvisor with one server in a container, and the engine below it. They end together.
pub struct Boxed {
    mcpvisor: Process,
    engine: Engine,
    /// What the engine is asked for, as mcpvisor asks.
    body: Value,
    _own: Dockerd,
}

/// Milliseconds until the first answer, one pair after the other.
pub struct Starts {
    pub ours: Vec<f64>,
    pub bare: Vec<f64>,
}

impl Boxed {
    /// `None` where no engine can be started.
    pub fn start() -> io::Result<Option<Boxed>> {
        let Some(own) = Dockerd::own() else { return Ok(None) };
        let engine = own.engine();
        let isolation = json!({"enabled": true, "image": images::demo(&engine), "network_mode": "none"});
        let entry = json!({"command": "/bin/mcpvisor", "args": ["demo-server"], "isolation": isolation});
        let mcpvisor = Process::mcpvisor_with(&json!({ SERVER: entry }), &[("DOCKER_HOST", &engine.host())])?;
        let boxed = Boxed { mcpvisor, engine, body: Value::Null, _own: own };
        boxed.wait("ready", Duration::from_secs(30));
        let mut containers = boxed.engine.containers(&[&format!("mcpvisor.server={SERVER}")]);
        let [container] = containers.as_mut_slice() else {
            return Err(io::Error::other(format!("not one container: {containers:?}")));
        };
        let inspected = boxed.engine.inspect(&container.id).expect("it runs");
        let mut body = inspected["Config"].clone();
        body["HostConfig"] = inspected["HostConfig"].clone();
        // Ours are found by these.
        body["Labels"] = json!({});
        Ok(Some(Boxed { body, ..boxed }))
    }

    /// From the word to start to the end of the handshake; bare, to the answer to `initialize`.
    pub fn starts(&self) -> io::Result<Starts> {
        let mut starts = Starts { ours: Vec::new(), bare: Vec::new() };
        for _ in 0..STARTS {
            starts.ours.push(self.start_ours());
            starts.bare.push(self.start_bare()?);
        }
        Ok(starts)
    }

    fn start_ours(&self) -> f64 {
        self.tell("disable");
        self.wait("disabled", Duration::from_millis(10));
        let begun = Instant::now();
        self.tell("enable");
        self.wait("ready", Duration::from_millis(1));
        begun.elapsed().as_secs_f64() * 1e3
    }

    fn start_bare(&self) -> io::Result<f64> {
        let begun = Instant::now();
        let (id, mut stream) = self.engine.attached_as(&self.body);
        stream.write_all(format!("{}\n", initialize()).as_bytes())?;
        read_line(&mut stream)?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        drop(stream);
        until("the bare container to be gone", || self.engine.inspect(&id).is_none().then_some(()));
        Ok(took)
    }

    /// A call through mcpvisor beside the same call on a bare attach.
    pub fn calls(&self, span: Duration) -> io::Result<Rounds> {
        let (id, stream) = self.engine.attached_as(&self.body);
        let mut bare = Attached { stream, request: format!("{}\n", echo_call("echo")).into_bytes() };
        bare.stream.write_all(format!("{}\n", initialize()).as_bytes())?;
        read_line(&mut bare.stream)?;
        let mut ours = self.mcpvisor.clients(1, ECHO)?;
        let rounds = pairs::measure(&mut bare, &mut [&mut ours], super::p50, span)?;
        drop(bare);
        until("the bare container to be gone", || self.engine.inspect(&id).is_none().then_some(()));
        if rounds.good.len() < PAIRS_MIN {
            println!("         only {} rounds were quiet enough", rounds.good.len());
        }
        Ok(rounds)
    }

    fn tell(&self, action: &str) {
        let path = format!("/api/v1/servers/{SERVER}/{action}");
        let full = http::request(&self.mcpvisor.address, "POST", &path, &[], "");
        assert_eq!(full.head.status, 202, "{full:?}");
    }

    fn wait(&self, state: &str, pause: Duration) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let full = http::request(&self.mcpvisor.address, "GET", "/api/v1/status", &[], "");
            let status: Value = serde_json::from_str(&full.body).expect("a status is JSON");
            if status["servers"][0]["state"] == state {
                return;
            }
            assert!(Instant::now() < deadline, "not {state}: {status:#}");
            support::measure_over(pause.min(Duration::from_millis(10)));
        }
    }
}

impl Starts {
    /// The median over the pairs of what ours takes more, in milliseconds; and in parts of the bare start.
    pub fn more(&self) -> (f64, f64) {
        let pairs = || self.ours.iter().zip(&self.bare);
        let ms = pairs::median(pairs().map(|(ours, bare)| ours - bare));
        (ms, pairs::median(pairs().map(|(ours, bare)| ours / bare - 1.0)))
    }
}

/// A demo server behind a bare attach, with one call under way at a time.
struct Attached {
    stream: UnixStream,
    request: Vec<u8>,
}

impl Subject for Attached {
    fn slice(&mut self, span: Duration) -> io::Result<Slice> {
        let mut latencies = Vec::with_capacity(1 << 16);
        let begin = Instant::now();
        while begin.elapsed() < span {
            let sent = Instant::now();
            self.stream.write_all(&self.request)?;
            read_line(&mut self.stream)?;
            latencies.push(sent.elapsed().as_secs_f64() * 1e6);
        }
        Ok(Slice::new(latencies, begin.elapsed()))
    }
}

/// Frames until one of stdout ends a line.
pub fn read_line(stream: &mut UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Err(io::Error::other("the container ended"));
        }
        filled += count;
        let mut frame = 0;
        while frame + 8 <= filled {
            let size = u32::from_be_bytes(buffer[frame + 4..frame + 8].try_into().expect("four bytes"));
            let end = frame + 8 + size as usize;
            if end > filled {
                break;
            }
            if buffer[frame] == 1 && buffer[end - 1] == b'\n' {
                return Ok(());
            }
            frame = end;
        }
    }
}
