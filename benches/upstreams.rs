//! What a call costs by the kind of server behind mcpvisor and the era that it speaks: one daemon with one server of each
//! kind, every kind in turn within a round, beside the relay and beside the same remote server asked directly.

use super::load::{self, Clients, Slice, Subject};
use super::pairs::{self, PAIRS_MIN, Rounds};
use super::subjects::{MCPVISOR, Process, echo_arguments, echo_call, session};
use super::{cpu, far, p50, rate};
use serde_json::{Value, json};
use std::io;
use std::time::Duration;

/// The kind of server, its era, and the era of who asks; the name of its entry.
struct Kind {
    kind: &'static str,
    server: &'static str,
    client: &'static str,
    name: &'static str,
}

const fn kind(kind: &'static str, server: &'static str, client: &'static str, name: &'static str) -> Kind {
    Kind { kind, server, client, name }
}

const KINDS: [Kind; 9] = [
    kind("stdio", "legacy", "legacy", "stdio-legacy"),
    kind("stdio", "modern", "modern", "stdio-modern"),
    kind("stdio", "modern", "legacy", "stdio-modern"),
    kind("stdio", "legacy", "modern", "stdio-legacy"),
    kind("HTTP", "legacy", "legacy", "http-legacy"),
    kind("HTTP", "modern", "modern", "http-modern"),
    kind("HTTP", "modern", "legacy", "http-modern"),
    kind("HTTP", "legacy", "modern", "http-legacy"),
    kind("SSE", "legacy", "legacy", "sse-legacy"),
];

/// The numbers of one kind, with one client and with many.
pub struct Row {
    pub what: [&'static str; 3],
    pub p50_us: f64,
    pub calls_per_s: f64,
    pub cpu_us: f64,
    pub p50_ratio: f64,
    pub calls_ratio: f64,
}

/// Rows of every kind, first the relay and the remote server asked directly; and how many rounds were good with one
/// client and with many.
pub fn measure(many: usize, span: Duration) -> io::Result<(Vec<Row>, [usize; 2])> {
    let (relay, far) = (Process::relay()?, Process::far()?);
    let mcpvisor = Process::mcpvisor_with(&servers(&far.address), &[])?;
    for kind in &KINDS {
        mcpvisor.wait_for(|| clients(&mcpvisor, kind, 1))?;
    }
    let one = rounds(&relay, &far, &mcpvisor, 1, p50, span)?;
    let all = rounds(&relay, &far, &mcpvisor, many, rate, span)?;
    let row = |what, subject: Option<usize>| Row {
        what,
        p50_us: one.median(subject, p50),
        calls_per_s: all.median(subject, rate),
        cpu_us: one.median(subject, cpu),
        p50_ratio: subject.map_or(1.0, |index| one.ratio(index, p50)),
        calls_ratio: subject.map_or(1.0, |index| all.ratio(index, rate)),
    };
    let mut rows = vec![
        row(["relay", "-", "-"], None),
        row(["HTTP, directly", "legacy", "legacy"], Some(KINDS.len())),
        row(["HTTP, directly", "modern", "modern"], Some(KINDS.len() + 1)),
    ];
    rows.extend(
        KINDS.iter().enumerate().map(|(index, it)| row([it.kind, it.server, it.client], Some(index))),
    );
    Ok((rows, [one.good.len(), all.good.len()]))
}

/// Whether so many rounds say something.
pub fn are_enough(rounds: usize) -> bool {
    rounds >= PAIRS_MIN
}

fn rounds(
    relay: &Process,
    far: &Process,
    mcpvisor: &Process,
    count: usize,
    of: fn(&Slice) -> f64,
    span: Duration,
) -> io::Result<Rounds> {
    let mut floor = relay.plain_clients(count)?;
    let mut all: Vec<Clients> =
        KINDS.iter().map(|kind| clients(mcpvisor, kind, count)).collect::<io::Result<_>>()?;
    let legacy = load::post(far::LEGACY, None, &echo_call("echo"));
    let modern = load::post_modern(far::MODERN, "echo", &modern_call("echo"));
    for request in [legacy, modern] {
        all.push(Clients::connect(&far.address, far.pids(), count, |_| Ok(request.clone()))?);
    }
    let mut subjects: Vec<&mut dyn Subject> = all.iter_mut().map(|one| one as &mut dyn Subject).collect();
    pairs::measure(&mut floor, &mut subjects, of, span)
}

fn servers(far: &str) -> Value {
    let demo = |era: &str| json!({ "command": MCPVISOR, "args": ["demo-server", "--era", era], "era": era });
    let remote = |path: &str, protocol: &str, era: &str| json!({ "url": format!("http://{far}{path}"), "protocol": protocol, "era": era });
    json!({
        "stdio-legacy": demo("legacy"),
        "stdio-modern": demo("modern"),
        "http-legacy": remote(far::LEGACY, "http", "legacy"),
        "http-modern": remote(far::MODERN, "http", "modern"),
        "sse-legacy": remote(far::SSE, "sse", "legacy"),
    })
}

/// Clients of an era on the mount of a server.
fn clients(mcpvisor: &Process, kind: &Kind, count: usize) -> io::Result<Clients> {
    let path = format!("/mcp/s/{}", kind.name);
    Clients::connect(&mcpvisor.address, mcpvisor.pids(), count, |stream| {
        if kind.client == "modern" {
            return Ok(load::post_modern(&path, "echo", &modern_call("echo")));
        }
        let session = session(stream, &path)?;
        Ok(load::post(&path, Some(&session), &echo_call("echo")))
    })
}

/// The same 200 bytes, with what every request of the newer era carries.
fn modern_call(tool: &str) -> String {
    let params = json!({
        "name": tool,
        "arguments": echo_arguments(),
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "mcpvisor-bench", "version": "0" },
        },
    });
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}
