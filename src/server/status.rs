//! What the outside may see of one server: plain data, replaced whole at every transition.

use crate::base::fault::Fault;
use crate::base::id::{Life, ServerName, Slug};
use crate::engine::endpoint::Endpoint;
use crate::mcp::era::Era;
use serde::Serialize;

/// One row of `GET /api/v1/status`. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub name: ServerName,
    pub slug: Slug,
    /// One of: disabled queued connecting ready sleeping stopping backoff waiting parked auto_disabled.
    pub state: &'static str,
    /// Where within the state; open list.
    pub phase: Option<&'static str>,
    /// Since when it is in this state.
    pub since: String,
    pub pid: Option<u32>,
    /// The full id of the container that it lives in.
    pub container: Option<String>,
    /// The engine that it lives on; none for a process of the host and a remote server.
    pub engine: Option<Endpoint>,
    /// How far its image is, while it is pulled.
    pub progress: Option<String>,
    pub life: Option<Life>,
    /// Tools that it lists, or listed last.
    pub tools: usize,
    /// The protocol version that the current life agreed to.
    pub protocol: Option<String>,
    /// `legacy` or `modern`: the era of the protocol that it was last greeted in.
    pub era: Option<Era>,
    /// Lives after the first.
    pub restarts: u64,
    /// Failures since the daemon started.
    pub failures: u64,
    pub consecutive_failures: u32,
    /// When it last became ready or answered a probe.
    pub last_success_at: Option<String>,
    pub last_error: Option<Happened>,
    pub next_retry_at: Option<String>,
    /// Why it is not running, where that is not `last_error`: what a person can do about it.
    pub reason: Option<Fault>,
    /// Calls that wait for it now, for its answer or for its start.
    pub calls: usize,
}

/// A fault and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Happened {
    #[serde(flatten)]
    pub fault: Fault,
    pub at: String,
}

impl Status {
    /// Whether nothing is under way any more: it runs, or it waits for a time or a person.
    pub fn is_settled(&self) -> bool {
        !matches!(self.state, "queued" | "connecting" | "stopping")
    }

    /// Whether a call may expect it to become ready soon.
    pub fn is_coming(&self) -> bool {
        matches!(self.state, "queued" | "connecting" | "stopping" | "sleeping")
    }
}
