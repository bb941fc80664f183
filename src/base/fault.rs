//! The one error value: what we tried, why it failed, one hint.
//!
//! Control flow looks at [`FaultKind`], people read the text. Which faults may be retried is decided one floor
//! up, in `diagnose`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A classified reason. Closed: a new kind must be named here, and given its class in `diagnose`.
/// The snake_case name is the API's word and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The config entry cannot be run as written.
    BadConfig,
    /// The entry asks for something this version does not do.
    NotSupported,
    /// The command was not found on the server's PATH.
    NotFound,
    /// The command exists and cannot be executed (mode, format, directory).
    NotExecutable,
    /// The working directory is missing or not a directory.
    BadWorkingDir,
    /// fork, exec or pipe failed for a reason of the host (EMFILE, EAGAIN, ENOMEM).
    HostResources,
    /// Spawning failed for any other reason.
    SpawnFailed,
    /// The process ended by itself with an exit code.
    Exited,
    /// What its launcher was to fetch does not exist: a package, or a version of it.
    PackageNotFound,
    /// The process ended by a signal that was not ours.
    Signaled,
    /// The process closed its stdout and cannot answer any more.
    StdoutClosed,
    /// `initialize` or the first lists did not finish in time.
    ConnectTimeout,
    /// The server answered `initialize` or the first lists with an error, or with something that is not MCP.
    HandshakeFailed,
    /// The server broke the protocol (a line too long, a flood of garbage).
    Protocol,
    /// Three health probes in a row went unanswered.
    Deaf,
    /// A call's deadline passed.
    CallTimeout,
    /// The caller cancelled.
    Cancelled,
    /// Stopped on request: restart, disable, or shutdown of the daemon.
    Stopped,
    /// The server cannot take more: pending calls or queued bytes are at their limit.
    Busy,
    /// A message is larger than the peer or we can take.
    TooLarge,
    /// The server is not ready, and says why in the message.
    NotReady,
    /// No such server, tool, session or method.
    Unknown,
    /// The engine that a server lives on is away.
    EngineAway,
    /// The image of a container does not exist, or may not be pulled.
    ImageNotFound,
    /// Something that is not ours stands where ours would: it is left alone.
    NotOurs,
    /// A remote server wants a login (401), or refuses the one that it was given.
    NeedsLogin,
    /// The container was killed for using more memory than it may.
    OomKilled,
    /// The container's own health check says that it is not well.
    Unhealthy,
    /// Its container is paused.
    ContainerPaused,
    /// A remote server has forgotten our session.
    SessionLost,
    /// A remote server answered with an HTTP status, or a body, that is not MCP.
    BadUpstream,
    /// A remote server could not be reached: its name, its address, its port, or the time it took.
    Unreachable,
    /// The TLS handshake with a remote server failed.
    TlsFailed,
    /// The engine answered a call with an error of its own, or with nonsense.
    EngineError,
    /// An image could not be pulled for a reason of the registry or the way to it.
    PullFailed,
    /// The way to the server broke while it worked: whether it did is not known.
    OutcomeUnknown,
    /// Client and server speak eras of the protocol between which this cannot be carried.
    NotBridgeable,
    /// Something of ours failed; a bug or a broken host.
    Internal,
}

impl FaultKind {
    pub const ALL: [FaultKind; 38] = [
        FaultKind::BadConfig,
        FaultKind::NotSupported,
        FaultKind::NotFound,
        FaultKind::NotExecutable,
        FaultKind::BadWorkingDir,
        FaultKind::HostResources,
        FaultKind::SpawnFailed,
        FaultKind::Exited,
        FaultKind::PackageNotFound,
        FaultKind::Signaled,
        FaultKind::StdoutClosed,
        FaultKind::ConnectTimeout,
        FaultKind::HandshakeFailed,
        FaultKind::Protocol,
        FaultKind::Deaf,
        FaultKind::CallTimeout,
        FaultKind::Cancelled,
        FaultKind::Stopped,
        FaultKind::Busy,
        FaultKind::TooLarge,
        FaultKind::NotReady,
        FaultKind::Unknown,
        FaultKind::EngineAway,
        FaultKind::ImageNotFound,
        FaultKind::NotOurs,
        FaultKind::NeedsLogin,
        FaultKind::OomKilled,
        FaultKind::Unhealthy,
        FaultKind::ContainerPaused,
        FaultKind::SessionLost,
        FaultKind::BadUpstream,
        FaultKind::Unreachable,
        FaultKind::TlsFailed,
        FaultKind::EngineError,
        FaultKind::PullFailed,
        FaultKind::OutcomeUnknown,
        FaultKind::NotBridgeable,
        FaultKind::Internal,
    ];

    /// The stable name that the API, the logs and the tests use.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::BadConfig => "bad_config",
            FaultKind::NotSupported => "not_supported",
            FaultKind::NotFound => "not_found",
            FaultKind::NotExecutable => "not_executable",
            FaultKind::BadWorkingDir => "bad_working_dir",
            FaultKind::HostResources => "host_resources",
            FaultKind::SpawnFailed => "spawn_failed",
            FaultKind::Exited => "exited",
            FaultKind::PackageNotFound => "package_not_found",
            FaultKind::Signaled => "signaled",
            FaultKind::StdoutClosed => "stdout_closed",
            FaultKind::ConnectTimeout => "connect_timeout",
            FaultKind::HandshakeFailed => "handshake_failed",
            FaultKind::Protocol => "protocol",
            FaultKind::Deaf => "deaf",
            FaultKind::CallTimeout => "call_timeout",
            FaultKind::Cancelled => "cancelled",
            FaultKind::Stopped => "stopped",
            FaultKind::Busy => "busy",
            FaultKind::TooLarge => "too_large",
            FaultKind::NotReady => "not_ready",
            FaultKind::Unknown => "unknown",
            FaultKind::EngineAway => "engine_away",
            FaultKind::ImageNotFound => "image_not_found",
            FaultKind::NotOurs => "not_ours",
            FaultKind::NeedsLogin => "needs_login",
            FaultKind::OomKilled => "oom_killed",
            FaultKind::Unhealthy => "unhealthy",
            FaultKind::ContainerPaused => "container_paused",
            FaultKind::SessionLost => "session_lost",
            FaultKind::BadUpstream => "bad_upstream",
            FaultKind::Unreachable => "unreachable",
            FaultKind::TlsFailed => "tls_failed",
            FaultKind::EngineError => "engine_error",
            FaultKind::PullFailed => "pull_failed",
            FaultKind::OutcomeUnknown => "outcome_unknown",
            FaultKind::NotBridgeable => "not_bridgeable",
            FaultKind::Internal => "internal",
        }
    }
}

/// `message` says what we tried and why it failed; `hint` says what the user can do (may be empty).
/// Neither ends with a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
    pub hint: String,
    /// How long a remote server asks to be left alone (`Retry-After`).
    #[serde(skip)]
    pub retry_in: Option<Duration>,
}

impl Fault {
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), hint: String::new(), retry_in: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = hint.into();
        self
    }

    pub fn retry_in(mut self, span: Option<Duration>) -> Fault {
        self.retry_in = span;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_what_serde_writes() {
        for kind in FaultKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }

    #[test]
    fn text() {
        let fault = Fault::new(FaultKind::NotFound, "start git: `uvx` is not on the server's PATH");
        assert_eq!(fault.to_string(), "start git: `uvx` is not on the server's PATH");
        let fault = fault.hint("install uv, or give the full path in \"command\"");
        assert!(fault.to_string().ends_with("(install uv, or give the full path in \"command\")"));
    }
}
