//! The time after an outage of its engine: who was hurt by it, and the ladder of tries. Nothing of it counts against a
//! server, unless the server itself says that it failed.

use super::books::spread;
use super::{Class, FaultKind, Life, Policy, RECONNECT_LADDER, Server, Time, Turn, class};
use crate::diagnose::is_certain;
use serde::{Deserialize, Serialize};

/// Its engine was away and is back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Incident {
    since: Time,
    /// The newest life that saw the engine away. Whatever ends it or one before it, however late that is heard, the
    /// outage may have done.
    hurt: Life,
    /// Rungs of the ladder that were taken.
    tries: u32,
}

impl Incident {
    pub(super) fn begin(hurt: Life, now: Time) -> Incident {
        Incident { since: now, hurt, tries: 0 }
    }

    /// For a server that is ready then: what fails later has nothing to do with it.
    pub(super) fn ends(&self, policy: &Policy) -> Time {
        self.since + policy.settle
    }
}

impl Server {
    /// The life that is over was there when its engine went away.
    pub(super) fn was_hurt(&self) -> bool {
        self.incident.is_some_and(|incident| self.life().is_some_and(|life| life <= incident.hurt))
    }

    /// When to try again after its engine came back; nothing for a fault that is its own for sure, and at the end of
    /// the ladder.
    pub(super) fn climb_ladder(&mut self, fault: FaultKind, turn: &Turn<'_>) -> Option<Time> {
        let may_be_the_engines = match class(fault) {
            Class::Server => !is_certain(fault),
            // Registries count requests: it keeps its own, longer pause.
            Class::Host => fault != FaultKind::PullFailed,
            Class::Human | Class::Nobody => false,
        };
        let incident = self.incident.as_mut()?;
        if !may_be_the_engines || incident.tries >= turn.policy.reconnect_attempts {
            return None;
        }
        let rung = RECONNECT_LADDER.len().min(incident.tries as usize + 1) - 1;
        incident.tries += 1;
        Some(turn.now + spread(RECONNECT_LADDER[rung], turn))
    }
}
