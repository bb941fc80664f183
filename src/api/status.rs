//! The whole picture as one object: `GET /api/v1/status`, and what `mcpvisor status` shows.

use super::config::{self, InForce};
use crate::base::fault::Fault;
use crate::base::id::ServerName;
use crate::engine::engines::Engines;
use crate::engine::watched::Snapshot;
use crate::gateway::router::Router;
use crate::reaper::owed::Owing;
use crate::server::gate::Gate;
use crate::server::handle::Server;
use crate::server::host::Host;
use crate::server::status::Status;
use crate::store::{Store, Trouble};
use crate::sys::clock;
use crate::sys::usage::{self, Usage};
use parking_lot::Mutex;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is not of single servers.
#[derive(Clone)]
pub struct About {
    /// `HOST:PORT` of the endpoint, as bound; empty where there is none.
    pub listen: String,
    pub config: InForce,
    /// Where the servers' log files are.
    pub logs: PathBuf,
    /// Those that servers live on, each as it is.
    pub engines: Engines,
    /// Who waits for a start.
    pub gate: Arc<Mutex<Gate>>,
    pub host: Arc<Host>,
}

#[derive(Serialize)]
struct Picture<'a> {
    version: &'static str,
    pid: u32,
    /// Which run of the daemon `seq` is a number of.
    session: String,
    /// The last event that is in the picture: `/events?since=` goes on from here.
    seq: u64,
    uptime_ms: u64,
    /// Of the daemon alone; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    listen: &'a str,
    config: &'a config::Picture,
    engines: Vec<&'a Snapshot>,
    /// What ails the host as a whole, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Fault>,
    /// Only while something is, or was, wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Trouble>,
    servers: Vec<Status>,
    /// Containers that should be gone.
    removals: Vec<Owing>,
}

/// The object as JSON text. The sequence number is taken first: everything up to it is in the picture.
/// `with_usage`: also what every process uses, which takes a look at all of the host.
pub fn picture(about: &About, router: &Router, store: &Store, with_usage: bool) -> String {
    let (session, seq) = router.board.read(|journal| (journal.session().to_owned(), journal.seq()));
    let engines = about.engines.snapshots();
    // Before its servers: what a config has changed of them is in a picture that names it.
    let config = about.config.get();
    let mut servers = rows(about, router);
    let usage = with_usage.then(|| measure(&mut servers));
    let picture = Picture {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        session,
        seq,
        uptime_ms: clock::now().as_ms(),
        usage,
        listen: &about.listen,
        config: &config,
        engines: engines.iter().map(|engine| &**engine).collect(),
        host: about.host.trouble(),
        store: store.trouble(),
        servers,
        removals: store.owed_so_far().into_iter().map(Owing::from).collect(),
    };
    serde_json::to_string(&picture).expect("plain data serialises")
}

/// Every server as it is now.
fn rows(about: &About, router: &Router) -> Vec<Status> {
    let outlook = about.outlook();
    router.servers.all().iter().map(|server| row(server, router, &outlook)).collect()
}

/// Writes into each row what its server uses; returns what is left of the daemon's tree, which is the daemon itself and
/// whatever it runs that is no server.
fn measure(rows: &mut [Status]) -> Usage {
    let own = std::process::id();
    let pids: Vec<u32> = rows.iter().filter_map(|row| row.pid).chain([own]).collect();
    let all = usage::of_trees(&pids);
    let mut rest = all.get(&own).copied().unwrap_or_default();
    for row in rows {
        row.usage = row.pid.and_then(|pid| all.get(&pid).copied());
        if let Some(used) = row.usage {
            rest = Usage {
                processes: rest.processes.saturating_sub(used.processes),
                rss_kib: rest.rss_kib.saturating_sub(used.rss_kib),
                cpu_ms: rest.cpu_ms.saturating_sub(used.cpu_ms),
                fds: rest.fds.saturating_sub(used.fds),
            };
        }
    }
    rest
}

/// One server as it is now. `outlook`: who waits for a start, and how long still.
pub fn row(server: &Arc<Server>, router: &Router, outlook: &[(ServerName, Duration)]) -> Status {
    let mut row = (*server.status()).clone();
    row.report = server.report().filter(|_| row.state == "auto_disabled");
    row.calls = server.link().map_or(0, |link| link.waiting()) + router.early.waiting_for(&server.name);
    if row.state == "queued"
        && let Some(place) = outlook.iter().position(|(name, _)| *name == server.name)
    {
        row.place_in_line = Some(place + 1);
        row.starts_in_ms = Some(outlook[place].1.as_millis() as u64);
    }
    row
}

impl About {
    /// Who waits for a start, in order, and how long still.
    pub fn outlook(&self) -> Vec<(ServerName, Duration)> {
        self.gate.lock().outlook(clock::now())
    }
}
