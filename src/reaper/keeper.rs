//! Where lives are written down while they last: in the ledger, for a daemon that comes after a crash, and with the
//! guardian, for the moment of the crash.

use super::ledger::{Leader, Ledger};
use super::link::{Line, Link};
use super::mark::{Mark, Marker};
use crate::base::id::{Life, Slug};
use crate::engine::endpoint::Endpoint;
use std::time::Duration;

/// One per daemon, shared by the threads of all lives.
#[derive(Debug)]
pub struct Keeper {
    marker: Marker,
    ledger: Option<Ledger>,
    guardian: Option<Link>,
}

impl Keeper {
    /// Without a ledger (a disk that cannot be written) marks and parentage still find everything.
    pub fn new(marker: Marker, ledger: Option<Ledger>, guardian: Option<Link>) -> Keeper {
        Keeper { marker, ledger, guardian }
    }

    /// What the processes of this life carry.
    pub fn mark(&self, server: &Slug, life: Life) -> Mark {
        self.marker.mark(server, life)
    }

    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    pub fn guardian(&self) -> Option<&Link> {
        self.guardian.as_ref()
    }

    pub fn born(&self, leader: Leader) {
        self.tell(Line::Life { pid: leader.pid, start: leader.start, pgid: leader.pgid });
        if let Some(ledger) = &self.ledger {
            ledger.born(leader);
        }
    }

    /// The life is over and nothing of it is left.
    pub fn gone(&self, pid: u32, start: u64) {
        self.tell(Line::Gone { pid, start });
        if let Some(ledger) = &self.ledger {
            ledger.gone(pid, start);
        }
    }

    /// Before the first container is made on an engine: where the guardian looks for containers of this run.
    pub fn engine(&self, endpoint: &Endpoint) {
        self.tell(Line::Engine { endpoint: endpoint.clone() });
    }

    /// A container was made; to be told before it is started. `id` in full; `grace` is its `stop_grace`, of
    /// which the guardian gives it at most [`BEQUEST_GRACE_MAX`](crate::base::limits::BEQUEST_GRACE_MAX).
    pub fn container(&self, id: &str, grace: Duration) {
        self.tell(Line::Container { id: id.to_owned(), grace_ms: grace.as_millis() as u64 });
    }

    /// It was seen to be gone.
    pub fn container_gone(&self, id: &str) {
        self.tell(Line::ContainerGone { id: id.to_owned() });
    }

    /// The sweep has ended what earlier runs left.
    pub fn forget_earlier(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.forget_earlier();
        }
    }

    pub fn tell(&self, line: Line) {
        if let Some(guardian) = &self.guardian {
            guardian.report(line);
        }
    }
}
