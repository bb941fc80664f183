//! What can go wrong between us and an engine, told apart by errno and HTTP status alone.

use super::endpoint::Endpoint;
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::ENGINE_MESSAGE_CHARS_MAX;
use crate::base::text::shorten;
use nix::errno::Errno;
use serde::Deserialize;
use std::fmt;
use std::io;

/// Why an engine did not do what it was asked. Closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineErrorKind {
    /// There is no such socket, host or route.
    Absent,
    /// Nobody listens.
    Refused,
    /// We may not connect.
    Denied,
    /// It took the connection, or its backlog is full, and did not answer in time. Whether it did what it was asked
    /// is not known.
    Silent,
    /// It closed the connection in the middle. Whether it did what it was asked is not known.
    Cut,
    /// What it sent is not what an engine says, or too much of it.
    Garbled,
    NoSuchImage,
    NoSuchContainer,
    /// 409: the name is taken, the container is not in a state for this.
    Conflict,
    /// Any other 4xx.
    Refusal(u16),
    /// 5xx; what went wrong inside a stream of the engine has its code, or 500.
    Failed(u16),
    /// The wake that came with the call.
    Cancelled,
    /// This host had no descriptor or memory for the call: the engine was not heard.
    Host,
}

/// `doing` says what was tried, `message` why it failed; neither ends with a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineError {
    pub kind: EngineErrorKind,
    pub doing: &'static str,
    pub message: String,
}

/// What is being done, for people. `fault` looks at two of them.
pub(super) const PULL: &str = "pull an image";
pub(super) const CREATE: &str = "create a container";

impl EngineError {
    pub fn new(kind: EngineErrorKind, doing: &'static str, message: impl AsRef<str>) -> EngineError {
        EngineError { kind, doing, message: shorten(message.as_ref().trim(), ENGINE_MESSAGE_CHARS_MAX) }
    }

    /// Whether it speaks of the engine being away, and not of what it was asked.
    pub fn is_away(&self) -> bool {
        use EngineErrorKind as Kind;
        match self.kind {
            Kind::Absent | Kind::Refused | Kind::Denied | Kind::Silent | Kind::Cut => true,
            Kind::Garbled
            | Kind::NoSuchImage
            | Kind::NoSuchContainer
            | Kind::Conflict
            | Kind::Refusal(_)
            | Kind::Failed(_)
            | Kind::Cancelled
            | Kind::Host => false,
        }
    }

    /// Whether something at the other end answered, if only with a refusal or with nonsense.
    pub fn was_answered(&self) -> bool {
        !self.is_away() && !matches!(self.kind, EngineErrorKind::Cancelled | EngineErrorKind::Host)
    }

    /// For people and for a server's machine.
    pub fn fault(&self, engine: &Endpoint) -> Fault {
        let (kind, hint) = self.meaning(engine);
        Fault::new(kind, format!("engine {engine}: {self}")).hint(hint)
    }

    fn meaning(&self, engine: &Endpoint) -> (FaultKind, String) {
        use EngineErrorKind as Kind;
        let start = match engine {
            Endpoint::Unix(_) => "is it installed and running? try: systemctl start docker",
            Endpoint::Tcp(_) => "is it running, and does it listen on this address without TLS?",
        };
        let (kind, hint) = match self.kind {
            Kind::Absent => (FaultKind::EngineAway, start),
            Kind::Refused => (FaultKind::EngineAway, start),
            Kind::Denied => (
                FaultKind::EngineAway,
                "the user of mcpvisor must be in the group of the socket: usermod -aG docker USER, then log in again",
            ),
            Kind::Silent => (FaultKind::EngineAway, "it is stuck or very busy; see: journalctl -u docker"),
            Kind::Cut => (FaultKind::EngineAway, "did it just stop? see: journalctl -u docker"),
            Kind::Garbled => (FaultKind::EngineError, "is this the socket of a Docker engine?"),
            Kind::NoSuchImage => (
                FaultKind::ImageNotFound,
                "correct the image's name, pull or build it, or log in to its registry",
            ),
            Kind::Refusal(400) if self.doing == CREATE => {
                (FaultKind::BadConfig, "the engine does not take these settings; correct the server's entry")
            }
            Kind::Refusal(_) | Kind::Failed(_) if self.doing == PULL => {
                (FaultKind::PullFailed, "can this host reach the registry, and is it logged in there?")
            }
            Kind::NoSuchContainer | Kind::Conflict | Kind::Refusal(_) | Kind::Failed(_) => {
                (FaultKind::EngineError, "")
            }
            Kind::Cancelled => (FaultKind::Cancelled, ""),
            Kind::Host => (FaultKind::HostResources, "the host is out of files or memory"),
        };
        (kind, hint.to_owned())
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.message)
    }
}

impl std::error::Error for EngineError {}

/// A failure below the calls, which do not know yet what they were doing.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: EngineErrorKind,
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn new(kind: EngineErrorKind, message: impl Into<String>) -> Trouble {
        Trouble { kind, message: message.into() }
    }

    pub(super) fn during(self, doing: &'static str) -> EngineError {
        EngineError::new(self.kind, doing, self.message)
    }
}

/// By errno: what a connect, a read or a write ended with.
impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        use EngineErrorKind as Kind;
        let (kind, why) = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => (Kind::Absent, "no such socket"),
            Some(Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EADDRNOTAVAIL) => {
                (Kind::Absent, "")
            }
            Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN) => {
                (Kind::Absent, "")
            }
            // ENOTSOCK, EPROTOTYPE: something is there, and it does not listen.
            Some(Errno::ECONNREFUSED | Errno::ENOTSOCK | Errno::EPROTOTYPE) => {
                (Kind::Refused, "nobody listens")
            }
            Some(Errno::EACCES | Errno::EPERM) => (Kind::Denied, "permission denied"),
            Some(Errno::ETIMEDOUT) => (Kind::Silent, "the connection timed out"),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => (Kind::Host, ""),
            _ => (Kind::Cut, ""),
        };
        Trouble::new(kind, if why.is_empty() { error.to_string() } else { why.to_owned() })
    }
}

/// What a status that is no success means, and the engine's own words about it.
pub(super) fn refusal(missing: Missing, status: u16, body: &[u8]) -> Trouble {
    let kind = match status {
        404 => missing.kind(),
        409 => EngineErrorKind::Conflict,
        400..=499 => EngineErrorKind::Refusal(status),
        500..=599 => EngineErrorKind::Failed(status),
        _ => EngineErrorKind::Garbled,
    };
    Trouble::new(kind, words(body).unwrap_or_else(|| format!("it answered {status}")))
}

/// `{"message":"…"}` of an engine's error, or its plain text.
fn words(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let text = match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What a 404 speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Container,
    Image,
    /// The call names neither: the engine does not know the call.
    Neither,
}

impl Missing {
    fn kind(self) -> EngineErrorKind {
        match self {
            Missing::Container => EngineErrorKind::NoSuchContainer,
            Missing::Image => EngineErrorKind::NoSuchImage,
            Missing::Neither => EngineErrorKind::Refusal(404),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_status() {
        use EngineErrorKind as Kind;
        let check = |missing, status, body: &str, kind, message: &str| {
            let trouble = refusal(missing, status, body.as_bytes());
            assert_eq!((trouble.kind, trouble.message.as_str()), (kind, message));
        };
        check(
            Missing::Image,
            404,
            r#"{"message":"No such image: x"}"#,
            Kind::NoSuchImage,
            "No such image: x",
        );
        check(Missing::Container, 404, "", Kind::NoSuchContainer, "it answered 404");
        check(Missing::Neither, 404, "page not found\n", Kind::Refusal(404), "page not found");
        check(Missing::Container, 409, "{}", Kind::Conflict, "{}");
        check(Missing::Container, 403, "", Kind::Refusal(403), "it answered 403");
        check(Missing::Container, 503, "", Kind::Failed(503), "it answered 503");
        check(Missing::Container, 301, "", Kind::Garbled, "it answered 301");
    }

    #[test]
    fn by_errno() {
        let kind = |errno: Errno| Trouble::from(io::Error::from(errno)).kind;
        assert_eq!(kind(Errno::ENOENT), EngineErrorKind::Absent);
        assert_eq!(kind(Errno::ECONNREFUSED), EngineErrorKind::Refused);
        assert_eq!(kind(Errno::EACCES), EngineErrorKind::Denied);
        assert_eq!(kind(Errno::ECONNRESET), EngineErrorKind::Cut);
        assert_eq!(kind(Errno::EMFILE), EngineErrorKind::Host);
    }

    #[test]
    fn as_a_fault() {
        let engine = Endpoint::Unix("/run/docker.sock".into());
        let fault = |kind, doing| EngineError::new(kind, doing, "why").fault(&engine);
        let away = fault(EngineErrorKind::Refused, "list containers");
        assert_eq!(away.kind, FaultKind::EngineAway);
        assert_eq!(
            away.to_string(),
            "engine unix:///run/docker.sock: list containers: why (is it installed and running? try: systemctl start docker)"
        );
        assert_eq!(fault(EngineErrorKind::Refusal(400), CREATE).kind, FaultKind::BadConfig);
        assert_eq!(fault(EngineErrorKind::Refusal(400), "start a container").kind, FaultKind::EngineError);
        assert_eq!(fault(EngineErrorKind::Failed(500), PULL).kind, FaultKind::PullFailed);
        assert_eq!(fault(EngineErrorKind::NoSuchImage, CREATE).kind, FaultKind::ImageNotFound);
    }

    #[test]
    fn messages_are_bounded() {
        let error = EngineError::new(EngineErrorKind::Failed(500), "x", "long ".repeat(1000));
        assert!(error.message.chars().count() <= ENGINE_MESSAGE_CHARS_MAX);
    }
}
