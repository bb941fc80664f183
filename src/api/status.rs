//! The whole picture as one object: `GET /api/v1/status`, and what `mcpvisor status` shows.

use crate::base::finding::Finding;
use crate::engine::engines::Engines;
use crate::engine::watched::Snapshot;
use crate::gateway::router::Router;
use crate::reaper::owed::Owing;
use crate::server::handle::Server;
use crate::server::status::Status;
use crate::store::{Store, Trouble};
use crate::sys::clock;
use serde::Serialize;
use std::sync::Arc;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct About {
    /// `HOST:PORT` of the endpoint, as bound; empty where there is none.
    pub listen: String,
    /// The config file; `None` for the built-in demo.
    pub config_path: Option<String>,
    pub findings: Vec<Finding>,
    /// Those that servers live on, each as it is.
    pub engines: Engines,
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
    listen: &'a str,
    config: ConfigPicture<'a>,
    engines: Vec<&'a Snapshot>,
    /// Only while something is, or was, wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Trouble>,
    servers: Vec<Status>,
    /// Containers that should be gone.
    removals: Vec<Owing>,
}

#[derive(Serialize)]
struct ConfigPicture<'a> {
    path: Option<&'a str>,
    loads: u64,
    findings: &'a [Finding],
}

/// The object as JSON text. The sequence number is taken first: everything up to it is in the picture.
pub fn picture(about: &About, router: &Router, store: &Store) -> String {
    let (session, seq) = router.board.read(|journal| (journal.session().to_owned(), journal.seq()));
    let engines = about.engines.snapshots();
    let picture = Picture {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        session,
        seq,
        uptime_ms: clock::now().as_ms(),
        listen: &about.listen,
        config: ConfigPicture { path: about.config_path.as_deref(), loads: 1, findings: &about.findings },
        engines: engines.iter().map(|engine| &**engine).collect(),
        store: store.trouble(),
        servers: router.servers.all().iter().map(|server| row(server, router)).collect(),
        removals: store.owed_so_far().into_iter().map(Owing::from).collect(),
    };
    serde_json::to_string(&picture).expect("plain data serialises")
}

/// One server as it is now.
pub fn row(server: &Arc<Server>, router: &Router) -> Status {
    let mut row = (*server.status()).clone();
    row.calls = server.link().map_or(0, |link| link.waiting()) + router.early.waiting_for(&server.name);
    row
}
