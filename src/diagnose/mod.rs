//! Floor 2: what a fault means for the server that has it.

pub mod last_words;

use crate::base::fault::FaultKind;

/// Who can end a fault, and so what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Only a person can: no retries, the server is parked until the entry changes or someone asks.
    Human,
    /// The server itself: counted in its tally, tried again with backoff.
    Server,
    /// The host or an engine: not counted, tried again when the host has had time.
    Host,
    /// Nobody is to blame: it was asked for, or it ends one call only.
    Nobody,
}

pub fn class(kind: FaultKind) -> Class {
    match kind {
        FaultKind::BadConfig
        | FaultKind::NotSupported
        | FaultKind::NotFound
        | FaultKind::NotExecutable
        | FaultKind::BadWorkingDir
        | FaultKind::ImageNotFound
        | FaultKind::NotOurs
        | FaultKind::NeedsLogin => Class::Human,
        FaultKind::SpawnFailed
        | FaultKind::Exited
        | FaultKind::PackageNotFound
        | FaultKind::Signaled
        | FaultKind::StdoutClosed
        | FaultKind::ConnectTimeout
        | FaultKind::HandshakeFailed
        | FaultKind::Protocol
        | FaultKind::Deaf
        | FaultKind::OomKilled
        | FaultKind::Unhealthy
        | FaultKind::SessionLost
        | FaultKind::BadUpstream
        | FaultKind::Unreachable
        | FaultKind::TlsFailed => Class::Server,
        FaultKind::HostResources
        | FaultKind::EngineAway
        | FaultKind::Internal
        | FaultKind::EngineError
        | FaultKind::ContainerPaused
        | FaultKind::PullFailed => Class::Host,
        FaultKind::CallTimeout
        | FaultKind::Cancelled
        | FaultKind::Stopped
        | FaultKind::Busy
        | FaultKind::TooLarge
        | FaultKind::NotReady
        | FaultKind::Unknown
        | FaultKind::OutcomeUnknown
        | FaultKind::NotBridgeable => Class::Nobody,
    }
}

/// Whether a fault of the server's own says by itself that it is that, and not one of its engine: the program ended with
/// a code, was refused memory, or answered, and wrongly. The others are silence, or an end that somebody else may have
/// made.
pub fn is_certain(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Exited
            | FaultKind::PackageNotFound
            | FaultKind::OomKilled
            | FaultKind::HandshakeFailed
            | FaultKind::Unhealthy
    )
}
