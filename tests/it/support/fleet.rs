//! The start of many servers against a floor that does the same round trips: spawn, `initialize`, `initialized`,
//! `tools/list`, through the same gate. The floor keeps, checks and watches nothing.

use super::http::{self, Body};
use super::measure_over;
use super::released::Serving;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// As many as in the reports of those who have many.
pub const SERVERS: usize = 159;

/// What `max_concurrent_connections` is if nobody says.
const GATE: usize = 20;

/// How long either may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What mcpvisor says to a server of the legacy era until it is ready.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcpvisor","version":"0.1.0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}"#;

/// Demo servers that nobody supervises; ended when dropped.
struct Floor(Mutex<Vec<(Child, ChildStdin, BufReader<ChildStdout>)>>);

impl Floor {
    /// One server, to the end of its first list.
    fn start(&self, binary: &Path) {
        let mut command = Command::new(binary);
        command.arg("demo-server").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdin.write_all(format!("{INITIALIZE}\n").as_bytes()).unwrap();
        stdout.read_line(&mut line).unwrap();
        stdin.write_all(format!("{INITIALIZED}\n{LIST}\n").as_bytes()).unwrap();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("\"tools\":["), "{line}");
        self.0.lock().unwrap().push((child, stdin, stdout));
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for (mut child, stdin, _) in self.0.get_mut().unwrap().drain(..) {
            drop(stdin);
            // Ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How long it takes without mcpvisor: a thread for each place in the gate.
pub fn floor(binary: &Path) -> Duration {
    let floor = Floor(Mutex::new(Vec::with_capacity(SERVERS)));
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..GATE {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < SERVERS {
                    floor.start(binary);
                }
            });
        }
    });
    begun.elapsed()
}

/// The config of so many, the first few with these switches.
pub fn config(binary: &Path, first: usize, switches: &str) -> Value {
    let entry = |n: usize| {
        let switches = if n < first { switches } else { "" };
        let args: Vec<&str> = std::iter::once("demo-server").chain(switches.split_whitespace()).collect();
        json!({ "command": binary, "args": args })
    };
    let servers: Map<String, Value> = (0..SERVERS).map(|n| (format!("demo-{n:03}"), entry(n))).collect();
    json!({ "mcpServers": servers })
}

/// From the exec of `mcpvisor serve` until a client has heard that the last of them is ready; and the daemon.
pub fn ready(binary: &Path) -> (Duration, Serving) {
    let config = config(binary, 0, "");
    let begun = Instant::now();
    let serving = Serving::start(binary, Some(&config));
    let mut stream = loop {
        match TcpStream::connect(&serving.address) {
            Ok(stream) => break stream,
            Err(_) => assert!(begun.elapsed() < PATIENCE, "nothing listens"),
        }
        measure_over(Duration::from_micros(500));
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = "/events?types=server.state&since=0";
    stream.write_all(&http::encode(&serving.address, "GET", target, &[], "")).unwrap();
    let events = BufReader::new(Body::read(BufReader::new(stream)).unwrap());
    let ready = events.lines().map(|line| line.unwrap()).filter(|line| line.contains(r#""to":"ready""#));
    assert_eq!(ready.take(SERVERS).count(), SERVERS);
    (begun.elapsed(), serving)
}
