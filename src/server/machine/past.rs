//! What one run of the daemon hands to the next about a server: what was counted against it, and whether it was given up.

use super::{FaultKind, Phase, Server, Time};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What an earlier run of the daemon found out about a server, and nobody has asked to forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// It was ready with this entry.
    pub proven: bool,
    /// Consecutive failures.
    pub streak: u32,
    /// Failures within the window; they count as of now.
    pub tally: usize,
    /// How often it was given up since it was last well.
    pub given_up: u32,
    /// It is given up now.
    pub now: Option<GivenUp>,
}

/// Why it is not tried, and how long still; for ever without `left`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenUp {
    pub fault: FaultKind,
    pub left: Option<Duration>,
}

impl Server {
    /// As [`Server::new`], with what is known of it. For one that is wanted from the beginning: the first `Want(true)`
    /// forgives nothing.
    pub fn resume(needs_engine: bool, asleep: bool, past: Past, now: Time) -> Server {
        Server {
            proven: past.proven,
            streak: past.streak,
            tally: std::iter::repeat_n(now, past.tally).collect(),
            given_up: past.given_up,
            carried: past.now,
            wanted: true,
            ..Server::new(needs_engine, asleep, now)
        }
    }

    /// What a later run should know of it.
    pub fn past(&self, now: Time) -> Past {
        let given_up = if let Phase::AutoDisabled { fault, until } = self.phase {
            Some(GivenUp { fault, left: until.map(|until| until.since(now)) })
        } else {
            None
        };
        let (proven, streak, tally) = (self.proven, self.streak, self.tally.len());
        Past { proven, streak, tally, given_up: self.given_up, now: given_up }
    }

    /// It was given up before the daemon started, and still is.
    pub(super) fn carry_on(&mut self, now: Time) -> Phase {
        match self.carried.take() {
            Some(GivenUp { fault, left }) => {
                Phase::AutoDisabled { fault, until: left.map(|left| now + left) }
            }
            None => Phase::Disabled,
        }
    }
}
