//! `mcpvisor status`: the daemon in one line, then its servers.

use super::control::{Control, read_json};
use super::engines::{EngineRow, engines};
use super::exit::{Exit, Outcome};
use super::grid;
use super::options::Given;
use super::output::{Colour, Out, flow, tame, wrap};
use super::rows::{RemovalRow, ServerRow, Trouble, table};
use crate::base::text::span;
use crate::base::time::Wall;
use crate::sys::clock;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::time::Duration;

/// The status object, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    version: String,
    pid: u32,
    uptime_ms: u64,
    usage: Option<Usage>,
    /// `HOST:PORT`.
    listen: String,
    pub config: ConfigFacts,
    /// What ails the host as a whole.
    host: Option<Trouble>,
    /// What is wrong with the state database.
    store: Option<Trouble>,
    engines: Vec<EngineRow>,
    pub servers: Vec<ServerRow>,
    removals: Vec<RemovalRow>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfigFacts {
    pub path: Option<String>,
    loads: u64,
    /// Why the file, as it is now, is not in force.
    error: Option<Fault>,
    findings: Vec<IgnoredAny>,
}

/// What processes use.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    processes: u32,
    rss_kib: u64,
    cpu_ms: u64,
    fds: u64,
}

/// Why something is not as it should be, as the daemon says it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fault {
    message: String,
}

pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let control = Control::of(&given.options)?;
    let body = control.get(match (given.usage, given.json) {
        (true, _) => "/api/v1/status?usage=all",
        // What costs no time.
        (false, true) => "/api/v1/status?usage=1",
        (false, false) => "/api/v1/status",
    })?;
    if given.json {
        out.body(&body);
        return Ok(Exit::Ok);
    }
    let status: Status = read_json(&body)?;
    let text = render(&status, clock::wall(), out.columns, &|text, colour| out.paint(text, colour));
    out.text(&text);
    if given.usage {
        out.text(&usage(&status, out.columns, &|text, colour| out.paint(text, colour)));
    }
    Ok(Exit::Ok)
}

/// What the daemon uses, and each server that has a process or a container.
fn usage(status: &Status, columns: usize, paint: &dyn Fn(&str, Colour) -> String) -> String {
    let row = |name: &str, usage: &Usage| {
        let Usage { processes, rss_kib, cpu_ms, fds } = usage;
        let cells = [
            tame(name),
            processes.to_string(),
            format!("{:.1} MB", *rss_kib as f64 / 1024.0),
            span(Duration::from_millis(*cpu_ms)),
            // Of a container nobody says it.
            if *fds > 0 { fds.to_string() } else { "-".to_owned() },
        ];
        grid::Row { cells, colour: Colour::Dim, why: None }
    };
    let own = status.usage.iter().map(|usage| row("(mcpvisor)", usage));
    let servers = status.servers.iter().filter_map(|server| Some(row(&server.name, server.usage.as_ref()?)));
    let rows: Vec<_> = own.chain(servers).collect();
    format!("\n{}", grid::table(["SERVER", "PROCESSES", "MEMORY", "CPU", "FDS"], rows, columns, paint))
}

fn render(status: &Status, now: Wall, columns: usize, paint: &dyn Fn(&str, Colour) -> String) -> String {
    let mut text = flow(&about_daemon(status), columns);
    if let Some(error) = &status.config.error {
        let line = tame(&format!("{}: what ran before runs on (mcpvisor config check)", error.message));
        let lines = wrap(&line, columns, 0);
        text.push_str(&format!("{}\n", paint(&lines.join("\n"), Colour::Red)));
    }
    if let Some(trouble) = &status.host {
        let lines = wrap(&tame(&format!("host: {}", trouble.text())), columns, 0);
        text.push_str(&format!("{}\n", paint(&lines.join("\n"), Colour::Red)));
    }
    if let Some(trouble) = &status.store {
        let lines = wrap(&tame(&format!("state: {}", trouble.text())), columns, 0);
        text.push_str(&format!("{}\n", paint(&lines.join("\n"), Colour::Yellow)));
    }
    text.push('\n');
    text.push_str(&engines(&status.engines, now, columns, paint));
    text.push_str(&table(&status.servers, now, columns, paint));
    if !status.removals.is_empty() {
        text.push_str("\nstill to be removed:\n");
    }
    for removal in &status.removals {
        for line in wrap(&tame(&removal.text(now)), columns, 4) {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

fn about_daemon(status: &Status) -> Vec<String> {
    let mut parts = vec![
        format!("mcpvisor {}", tame(&status.version)),
        format!("pid {}", status.pid),
        format!("up {}", span(Duration::from_millis(status.uptime_ms))),
    ];
    if !status.listen.is_empty() {
        parts.push(format!("http://{}/mcp", tame(&status.listen)));
    }
    let config = &status.config;
    parts.push(match config.path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => {
            let findings = match config.findings.len() {
                0 => String::new(),
                1 => ", 1 finding".to_owned(),
                count => format!(", {count} findings"),
            };
            format!("config {} (loaded {}x{findings})", tame(path), config.loads)
        }
        None => "no config file".to_owned(),
    });
    parts
}
