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
    /// What people call it together with others.
    pub groups: Vec<String>,
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
    /// While it is queued: its place among those who wait for a start, from 1, and in how long it will probably begin.
    pub place_in_line: Option<usize>,
    pub starts_in_ms: Option<u64>,
    /// How long its last starts took from spawn to ready: half of them were faster.
    pub usual_start_ms: Option<u64>,
    /// How often it was given up since it was last well.
    pub given_up: u32,
    /// Why it is not running, where that is not `last_error`: what a person can do about it.
    pub reason: Option<Fault>,
    /// The file that says why it was given up, while it is.
    pub report: Option<String>,
    /// Of a server with `overlap`: what becomes of the life beside the one that serves, or became of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<Switching>,
    /// What it uses; only where it was asked for (`?usage=1`), of containers only with `?usage=all`, and if their engine
    /// says it in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Calls that wait for it now, for its answer or for its start.
    pub calls: usize,
}

/// What one process uses with all that descends from it, or one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub processes: u32,
    /// Resident memory in KiB; what processes share is counted in each, but in a container once.
    pub rss_kib: u64,
    /// Processor time since each was started, in ms.
    pub cpu_ms: u64,
    /// Open descriptors; 0 for processes that may not be looked into, and for a container.
    pub fds: u64,
}

impl Usage {
    /// Of both together.
    pub fn and(self, other: Usage) -> Usage {
        Usage {
            processes: self.processes + other.processes,
            rss_kib: self.rss_kib + other.rss_kib,
            cpu_ms: self.cpu_ms + other.cpu_ms,
            fds: self.fds + other.fds,
        }
    }
}

/// The life beside the one that serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Switching {
    /// One of: starting (it will take over), draining (it served before, and answers what it was asked then), stopping, failed
    /// (there is none: it did not become ready, so the one before serves on).
    pub state: &'static str,
    /// Since when.
    pub since: String,
    /// Where it is within its start or stop; open list.
    pub phase: Option<&'static str>,
    pub life: Option<Life>,
    pub pid: Option<u32>,
    pub container: Option<String>,
    /// Why the last one did not become ready, and what to do.
    pub reason: Option<Fault>,
}

impl Switching {
    /// There is none any more, and the one before serves on.
    pub fn has_failed(&self) -> bool {
        self.state == "failed"
    }
}

/// One step of a switch, as the events tell it.
#[derive(Debug, Serialize)]
pub struct Switched<'a> {
    pub server: &'a ServerName,
    /// As in the status; `over` when nothing is left of the life beside.
    pub to: &'a str,
    /// The life that serves.
    pub life: Option<Life>,
    pub pid: Option<u32>,
    pub container: Option<&'a str>,
    /// The one beside it.
    pub other: Option<Life>,
    pub reason: Option<&'a Fault>,
}

/// One transition, as the events tell it: from where, to what is shown now, and what caused it.
#[derive(Debug, Serialize)]
pub struct Moved<'a> {
    server: &'a ServerName,
    from: &'a str,
    from_phase: Option<&'a str>,
    to: &'a str,
    phase: Option<&'a str>,
    /// What happened; open list.
    cause: &'a str,
    reason: Option<&'a Fault>,
    life: Option<Life>,
    pid: Option<u32>,
    container: Option<&'a str>,
    tools: usize,
    consecutive_failures: u32,
    next_retry_at: Option<&'a str>,
}

impl<'a> Moved<'a> {
    /// `from` a state and a phase, which may be empty, to what `status` shows.
    pub fn new((from, from_phase): (&'a str, &'a str), status: &'a Status, cause: &'a str) -> Moved<'a> {
        Moved {
            server: &status.name,
            from,
            from_phase: (!from_phase.is_empty()).then_some(from_phase),
            to: status.state,
            phase: status.phase,
            cause,
            reason: status.reason.as_ref(),
            life: status.life,
            pid: status.pid,
            container: status.container.as_deref(),
            tools: status.tools,
            consecutive_failures: status.consecutive_failures,
            next_retry_at: status.next_retry_at.as_deref(),
        }
    }
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
