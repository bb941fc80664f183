//! The whole picture as one object: `GET /api/v1/status`, and what `mcpvisor status` shows.

use super::config::{self, InForce};
use crate::base::fault::Fault;
use crate::base::id::ServerName;
use crate::base::limits::{USAGE_AT_ONCE, USAGE_PATIENCE};
use crate::engine::api::Used;
use crate::engine::engines::Engines;
use crate::engine::patience::Patience;
use crate::engine::watched::Snapshot;
use crate::gateway::router::Router;
use crate::reaper::owed::Owing;
use crate::reaper::tree::Tree;
use crate::server::gate::Gate;
use crate::server::handle::Server;
use crate::server::host::Host;
use crate::server::status::{Status, Usage};
use crate::store::{Store, Trouble};
use crate::sys::{clock, procfs, thread};
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
pub fn picture(about: &About, router: &Router, store: &Store, extent: Extent) -> String {
    let (session, seq) = router.board.read(|journal| (journal.session().to_owned(), journal.seq()));
    let engines = about.engines.snapshots();
    // Before the servers: who sees that a config is in force sees its servers, too.
    let config = about.config.get();
    let mut servers = rows(about, router);
    let usage = (extent != Extent::Nothing).then(|| measure(&mut servers));
    if extent == Extent::All {
        measure_inside(&mut servers, &about.engines);
    }
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

/// How much of what everything uses is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Nothing,
    /// One look at all processes of the host.
    Processes,
    /// And what engines say of containers, which takes some of them a second.
    All,
}

/// Writes into each row what its server uses; returns what is left of the daemon's tree, which is the daemon itself and
/// whatever it runs that is no server. A container is none of its children; the program that a `docker run` is, is.
fn measure(rows: &mut [Status]) -> Usage {
    let all = procfs::all();
    let tree = Tree::new(&all);
    let mut rest = used_below(std::process::id(), &tree).unwrap_or_default();
    for row in rows {
        // During a switch there are two.
        let pids = [row.pid, row.switch.as_ref().and_then(|switch| switch.pid)];
        let used = pids.into_iter().flatten().filter_map(|pid| used_below(pid, &tree)).reduce(Usage::and);
        row.usage = used.filter(|_| row.container.is_none());
        if let Some(used) = used {
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

/// The same of containers: all are asked for at once, because an engine counts once a second and answers then.
fn measure_inside(rows: &mut [Status], engines: &Engines) {
    let patience = Patience::of(USAGE_PATIENCE);
    let inside = rows.iter_mut().filter_map(|row| {
        let switch = row.switch.as_ref().and_then(|switch| switch.container.clone());
        let ids: Vec<String> = row.container.clone().into_iter().chain(switch).collect();
        Some((engines.up(row.engine.as_ref()?)?, ids, &mut row.usage))
    });
    let jobs: Vec<_> = inside.filter(|(_, ids, _)| !ids.is_empty()).collect();
    thread::each("usage", USAGE_AT_ONCE, jobs, |(engine, ids, usage)| {
        let used = ids.iter().filter_map(|id| engine.used(id, &patience).ok().map(Usage::from));
        *usage = used.reduce(Usage::and);
    });
}

/// What a process and its descendants use; `None` if it is gone.
fn used_below(pid: u32, tree: &Tree) -> Option<Usage> {
    tree.get(pid)?;
    let page_kib = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4, |bytes| bytes as u64 >> 10);
    let mut usage = Usage::default();
    let pids = tree.below(&[pid], &|_| false).into_iter().chain([pid]);
    for used in pids.filter_map(procfs::used) {
        usage.processes += 1;
        usage.rss_kib += used.pages * page_kib;
        usage.cpu_ms += used.cpu_ms;
        usage.fds += used.fds;
    }
    Some(usage)
}

impl From<Used> for Usage {
    fn from(used: Used) -> Usage {
        Usage {
            processes: used.processes,
            rss_kib: used.memory_bytes >> 10,
            cpu_ms: used.cpu_ns / 1_000_000,
            fds: 0,
        }
    }
}

/// One server as it is now. `outlook`: who waits for a start, and how long still.
pub fn row(server: &Arc<Server>, router: &Router, outlook: &[(ServerName, Duration)]) -> Status {
    let mut row = (*server.status()).clone();
    row.report = server.report().filter(|_| row.state == "auto_disabled");
    row.calls =
        server.links().map(|link| link.waiting()).sum::<usize>() + router.early.waiting_for(&server.name);
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
