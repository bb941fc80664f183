//! What people are told of an engine, in order: the start of an outage, how far its recovery is, and what came of it.

use super::outage::Cause;
use crate::base::fault::Fault;
use crate::base::topic::Topic;
use serde::Serialize;

/// One event; serialized, it is what the event carries beside the engine's name. Spans are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Tidings {
    /// It was heard for the first time.
    Up {},
    /// It cannot be used. Told again when the cause changes, or when it goes before all are back.
    Away {
        cause: Cause,
        reason: Fault,
    },
    /// It answers again; told again whenever one more is back, or was given up.
    Recovering {
        cause: Cause,
        outage_ms: u64,
        done: u32,
        of: u32,
    },
    Recovered(Recovered),
    /// Its event stream ended, and it answered: no outage, but what was attached comes back anew.
    Reconnected {},
}

/// How an outage ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Why the engine was away.
    pub cause: Cause,
    /// How long it was.
    pub outage_ms: u64,
    /// From its first answer until all were back, or given up.
    pub duration_ms: u64,
    /// Of those who were hit.
    pub recovered: u32,
    pub of: u32,
    pub failed: Vec<Failed>,
}

/// One who is not back. It is tried again by itself, unless its reason says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub server: String,
    /// Nothing: it was only not ready in time.
    pub reason: Option<Fault>,
}

impl Tidings {
    pub fn topic(&self) -> Topic {
        match self {
            Tidings::Up {} => Topic::EngineUp,
            Tidings::Away { .. } => Topic::EngineAway,
            Tidings::Recovering { .. } => Topic::EngineRecovering,
            Tidings::Recovered(_) => Topic::EngineRecovered,
            Tidings::Reconnected {} => Topic::EngineReconnected,
        }
    }
}
