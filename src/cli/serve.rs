//! `mcpvisor serve`: the guardian, the daemon below it, and what a person sees of the start.

use super::exit::{Exit, Failure, Outcome};
use super::options::{Given, Options};
use super::output::{self, Out};
use super::progress::{Progress, Row};
use crate::base::fault::Fault;
use crate::base::finding::Finding;
use crate::base::text::plural;
use crate::daemon::logging::{self, To};
use crate::daemon::main_loop::Ended;
use crate::daemon::reload::parks;
use crate::daemon::serve::{self, Started};
use crate::daemon::setup::{self, Setup};
use crate::reaper::guardian::{self, GuardPlan};
use crate::reaper::link::Link;
use crate::server::handle::Server;
use crate::sys::{clock, guard, spawn, thread};
use std::sync::Arc;
use std::time::Duration;

/// How long the start is watched on a terminal; what is slower than this shows in `status`.
const WATCH: Duration = Duration::from_secs(120);

/// The pace at which the spans in the progress line move.
const REDRAW: Duration = Duration::from_secs(1);

/// In the process that the user started this is the guardian; in the one that the guardian starts, the daemon.
pub fn run(given: &Given, _: &mut Out) -> Outcome {
    clock::now();
    let guardian = Link::adopt();
    let options = setup::Options { ephemeral: given.ephemeral, ..of(&given.options) };
    let setup = setup::read(&options).map_err(|(fault, findings)| unusable(&fault, &findings))?;
    let Some(link) = guardian else {
        if given.ephemeral {
            // The terminal that the client runs in is not ours. Already a leader, we have a session of our own.
            let _ = guard::new_session();
        }
        // The daemon's exit code is ours.
        let code = guardian::guard(&GuardPlan { state_dir: setup.state_dir });
        std::process::exit(i32::from(code));
    };
    spawn::seal_inherited_fds();
    spawn::raise_nofile();
    let to = if setup.ephemeral { To::File } else { To::FileAndStderr };
    let logs =
        logging::start(setup.config.log_level, &setup.state_dir.join("logs"), &setup.config.logging, to);
    let logs =
        logs.map_err(|error| Failure::new(Exit::Failed, format!("start the log's thread: {error}")))?;
    if let Some(path) = &setup.path {
        let servers = plural(setup.config.servers.len(), "server");
        log::info!("config loaded: {}: {servers}", path.display());
    }
    for finding in setup.findings.iter().filter(|finding| !parks(finding)) {
        log::warn!("{finding}");
    }
    let started = |started: &Started<'_>| match setup.ephemeral {
        true => log::info!("serves mcpvisor stdio, until its last session is over"),
        false => show_start(&setup, started),
    };
    let outcome = serve::run(&setup, Some(link), &logs, started);
    logging::finish(&logs);
    match outcome {
        Ok(Ended::InOrder) => Ok(Exit::Ok),
        Ok(Ended::OutOfTime) => {
            Err(Failure::new(Exit::Failed, "shut down: some servers did not end in time"))
        }
        Err((fault, code)) => Err(Failure::of(Exit::of_code(code), fault)),
    }
}

/// The options as the daemon's floor knows them.
pub fn of(options: &Options) -> setup::Options {
    setup::Options {
        config: options.config.clone(),
        listen: options.listen.clone(),
        state_dir: options.state_dir.clone(),
        log_level: options.log_level,
        ephemeral: false,
    }
}

pub fn unusable(fault: &Fault, findings: &[Finding]) -> Failure {
    for finding in findings {
        output::complain(finding);
    }
    Failure::new(Exit::Config, fault.message.clone()).hint(fault.hint.clone())
}

/// What a person who has typed `mcpvisor serve` wants to know first.
fn show_start(setup: &Setup, started: &Started<'_>) {
    let url = format!("http://{}/mcp", started.listen);
    let mut lines = vec![format!("mcpvisor {} serves {url}", env!("CARGO_PKG_VERSION"))];
    match &setup.path {
        Some(path) => {
            let findings = match setup.findings.len() {
                0 => String::new(),
                n => format!(", {} (mcpvisor config check)", plural(n, "finding")),
            };
            let servers = plural(setup.config.servers.len(), "server");
            lines.push(format!("config {}: {servers}{findings}", path.display()));
        }
        None => {
            lines.push("no config file was found, so a built-in demo server runs; looked for".to_owned());
            lines.extend(setup.looked.iter().map(|path| format!("  {}", path.display())));
            lines.push("to run your own servers, paste this into one of them:".to_owned());
            lines.push("  { \"mcpServers\": {".to_owned());
            lines.push("    \"time\": { \"command\": \"uvx\", \"args\": [\"mcp-server-time\"] }".to_owned());
            lines.push("  } }".to_owned());
        }
    }
    lines.push("in another terminal: mcpvisor status".to_owned());
    output::say(&lines.join("\n"));
    watch_start(started);
}

/// The thread "progress": one line on the terminal until every server has settled; none without a terminal.
fn watch_start(started: &Started<'_>) {
    let mut progress = Progress::on_stderr();
    if !progress.is_seen() {
        return;
    }
    let (servers, board) = (started.servers.all(), started.board.clone());
    let watch = move || {
        logging::hold_line(true);
        let end = clock::now() + WATCH;
        let mut settled = false;
        while !settled && clock::now() < end {
            progress.show(&rows(&servers));
            let seen = board.moves();
            // A second without news only moves the spans on.
            let _ = board.wait(clock::now() + REDRAW, || (board.moves() != seen).then_some(()));
            settled = servers.iter().all(|server| server.status().is_settled());
        }
        logging::hold_line(false);
        progress.finish(&rows(&servers));
    };
    // Without a thread nobody sees the progress; `status` shows the same.
    if let Err(error) = thread::spawn("progress", watch) {
        log::debug!("no progress line: {error}");
    }
}

fn rows(servers: &[Arc<Server>]) -> Vec<Row<'_>> {
    let now = clock::now();
    let row = |server: &'_ Arc<Server>| {
        let status = server.status();
        let since = now.since(server.state_since());
        (status.state, status.phase, since, server.retry_in(now), status.progress.clone())
    };
    servers
        .iter()
        .map(|server| {
            let (state, phase, since, retry_in, progress) = row(server);
            Row { name: server.name.as_str(), state, phase, since, retry_in, progress }
        })
        .collect()
}
