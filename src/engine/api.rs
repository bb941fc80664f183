//! An engine as it is asked: one request, one answer, on a pooled connection and in a version that both speak.
//!
//! The calls by name are in `calls.rs`. A GET or a DELETE may ride on a connection that was idle, and is asked once more
//! on a new one if that had gone; what changes something else always gets a connection of its own, so that it is never
//! unknown whether a stale one swallowed it.

pub use super::answers::{Info, Inspected, Listed, Used};
use super::endpoint::Endpoint;
use super::error::{EngineError, EngineErrorKind, Missing, Trouble, refusal};
pub use super::patience::Patience;
use super::stream::Stream;
use super::wire::{self, Names};
use crate::base::limits::{ENGINE_ANSWER_BYTES_MAX, ENGINE_IDLE_MAX, ENGINE_LINE_BYTES_MAX};
use crate::http::reply::{Head, Request};
use crate::sys::net::Socket;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A version of the Engine API, such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

/// The newest version that this client was written for; all that it asks exists since 1.30, with the platform of a
/// container since 1.41.
pub const OUR_VERSION: ApiVersion = ApiVersion { major: 1, minor: 47 };

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<ApiVersion, ()> {
        let (major, minor) = text.trim().split_once('.').ok_or(())?;
        Ok(ApiVersion { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What an engine answered to a ping, and the version that is spoken with it from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The newest version that the engine speaks.
    pub api_version: ApiVersion,
    /// The oldest, where it was asked for: only an engine newer than us is.
    pub min_api_version: Option<ApiVersion>,
    /// What we speak with it.
    pub spoken: ApiVersion,
}

/// One engine. Clones are the same engine, with the same connections and version.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    agreed: Mutex<Option<Pong>>,
    idle: Mutex<Vec<Socket>>,
    names: Names,
}

/// One question.
pub(super) struct Call<'a> {
    pub(super) doing: &'static str,
    pub(super) method: &'static str,
    /// Path and query, encoded, without the version.
    pub(super) target: String,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a str>,
    pub(super) missing: Missing,
}

impl<'a> Call<'a> {
    pub(super) fn get(doing: &'static str, missing: Missing, target: impl Into<String>) -> Call<'a> {
        Call { doing, method: "GET", target: target.into(), headers: &[], body: None, missing }
    }

    pub(super) fn post(doing: &'static str, missing: Missing, target: impl Into<String>) -> Call<'a> {
        Call { method: "POST", ..Call::get(doing, missing, target) }
    }

    fn fails(&self, trouble: Trouble) -> EngineError {
        trouble.during(self.doing)
    }
}

/// A whole answer that is no refusal.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self, doing: &'static str) -> Result<T, EngineError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            EngineError::new(EngineErrorKind::Garbled, doing, format!("its answer cannot be read: {error}"))
        })
    }
}

impl Engine {
    /// Asks nothing yet.
    pub fn new(endpoint: Endpoint) -> Engine {
        Engine(Arc::new(Inner {
            endpoint,
            agreed: Mutex::new(None),
            idle: Mutex::new(Vec::new()),
            names: Names::default(),
        }))
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// The version that was agreed upon, if the engine was heard since it was last away.
    pub fn version(&self) -> Option<ApiVersion> {
        self.0.agreed.lock().map(|pong| pong.spoken)
    }

    /// Asks whether it is there, and agrees anew on the version.
    pub fn ping(&self, patience: &Patience) -> Result<Pong, EngineError> {
        let doing = "ping";
        let call = Call::get(doing, Missing::Neither, "/_ping");
        let answer = self.exchange(&call, None, patience)?;
        let theirs = header_version(&answer.head).ok_or_else(|| {
            let why = "it does not say which version of the API it speaks";
            EngineError::new(EngineErrorKind::Garbled, doing, why)
        })?;
        let known = self.0.agreed.lock().filter(|known| known.api_version == theirs);
        let pong = match known {
            Some(known) => known,
            None => self.agree(theirs, patience)?,
        };
        *self.0.agreed.lock() = Some(pong);
        Ok(pong)
    }

    /// The newest version that both speak. Only an engine newer than us may have given up ours.
    fn agree(&self, theirs: ApiVersion, patience: &Patience) -> Result<Pong, EngineError> {
        if theirs <= OUR_VERSION {
            return Ok(Pong { api_version: theirs, min_api_version: None, spoken: theirs });
        }
        #[derive(Deserialize)]
        struct Versions {
            #[serde(rename = "MinAPIVersion", default)]
            min: String,
        }
        let doing = "ask for its version";
        let answer = self.exchange(&Call::get(doing, Missing::Neither, "/version"), None, patience)?;
        let min = answer.json::<Versions>(doing)?.min.parse::<ApiVersion>().ok();
        let spoken = min.map_or(OUR_VERSION, |min| min.max(OUR_VERSION));
        Ok(Pong { api_version: theirs, min_api_version: min, spoken })
    }

    /// Asks and reads the whole answer; a refusal is an error, except 304: it was so already.
    pub(super) fn ask(&self, call: &Call, patience: &Patience) -> Result<Answer, EngineError> {
        let once = || self.exchange(call, Some(self.agreed(call, patience)?.spoken), patience);
        match once() {
            // About the version, perhaps: see `note_version`. What was refused was not done.
            Err(error) if error.kind == EngineErrorKind::Refusal(400) && self.version().is_none() => once(),
            done => done,
        }
    }

    /// Asks on a connection of its own and returns once the head of the answer has come; a refusal is an error.
    pub(super) fn open(&self, call: &Call, patience: &Patience) -> Result<Stream, EngineError> {
        match self.open_once(call, patience) {
            // As in `ask`.
            Err(error) if error.kind == EngineErrorKind::Refusal(400) && self.version().is_none() => {
                self.open_once(call, patience)
            }
            done => done,
        }
    }

    fn open_once(&self, call: &Call, patience: &Patience) -> Result<Stream, EngineError> {
        let mut stream = self.begin(call, patience)?;
        let opened = stream.await_head(patience).and_then(|()| match stream.head() {
            Some(head) if !is_success(head.status) => {
                let head = head.clone();
                let body = stream.await_body(patience)?;
                self.note_version(&head);
                Err(refusal(call.missing, head.status, &body))
            }
            Some(_) | None => Ok(()),
        });
        match opened {
            Ok(()) => Ok(stream),
            Err(trouble) => Err(self.failed(call, trouble)),
        }
    }

    /// Asks on a connection of its own and waits for nothing.
    pub(super) fn begin(&self, call: &Call, patience: &Patience) -> Result<Stream, EngineError> {
        let pong = self.agreed(call, patience)?;
        let request = self.request(call, Some(pong.spoken))?;
        let begun = self.connect(patience).and_then(|socket| {
            wire::send(&socket, &request, patience)?;
            Ok(socket)
        });
        match begun {
            Ok(socket) => {
                Ok(Stream::new(socket, call.doing, call.method, call.missing, ENGINE_LINE_BYTES_MAX))
            }
            Err(trouble) => Err(self.failed(call, trouble)),
        }
    }

    fn agreed(&self, call: &Call, patience: &Patience) -> Result<Pong, EngineError> {
        let agreed = *self.0.agreed.lock();
        // Who asks for a list is told that the list failed.
        let ping = || self.ping(patience).map_err(|error| EngineError { doing: call.doing, ..error });
        agreed.map_or_else(ping, Ok)
    }

    fn exchange(
        &self,
        call: &Call,
        version: Option<ApiVersion>,
        patience: &Patience,
    ) -> Result<Answer, EngineError> {
        let request = self.request(call, version)?;
        let may_reuse = matches!(call.method, "GET" | "HEAD" | "DELETE");
        let idle = if may_reuse { self.idle() } else { None };
        let reused = idle.is_some();
        let mut outcome = match idle {
            Some(socket) => self.exchange_on(socket, call, &request, patience),
            None => {
                self.connect(patience).and_then(|socket| self.exchange_on(socket, call, &request, patience))
            }
        };
        if reused && outcome.as_ref().is_err_and(|trouble| trouble.kind == EngineErrorKind::Cut) {
            // It was closed while it was idle, and we asked before we could see it.
            self.forget();
            outcome =
                self.connect(patience).and_then(|socket| self.exchange_on(socket, call, &request, patience));
        }
        outcome.map_err(|trouble| self.failed(call, trouble))
    }

    fn exchange_on(
        &self,
        socket: Socket,
        call: &Call,
        request: &[u8],
        patience: &Patience,
    ) -> Result<Answer, Trouble> {
        wire::send(&socket, request, patience)?;
        let mut stream = Stream::new(socket, call.doing, call.method, call.missing, ENGINE_ANSWER_BYTES_MAX);
        let body = stream.await_body(patience)?;
        let head = stream.head().cloned().expect("a whole answer has a head");
        if let Some(socket) = stream.into_idle() {
            let mut idle = self.0.idle.lock();
            if idle.len() < ENGINE_IDLE_MAX {
                idle.push(socket);
            }
        }
        if !is_success(head.status) && head.status != 304 {
            self.note_version(&head);
            return Err(refusal(call.missing, head.status, &body));
        }
        Ok(Answer { head, body })
    }

    fn request(&self, call: &Call, version: Option<ApiVersion>) -> Result<Vec<u8>, EngineError> {
        let prefix = version.map(|version| format!("/v{version}")).unwrap_or_default();
        let target = format!("{prefix}{}", call.target);
        let mut headers = call.headers.to_vec();
        if call.body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let request = Request {
            method: call.method,
            target: &target,
            host: self.0.endpoint.host(),
            headers: &headers,
            body: call.body.map(str::as_bytes),
        };
        request.bytes().map_err(|fault| {
            // Everything in a target is encoded; what is left is a header that a caller gave.
            EngineError::new(EngineErrorKind::Refusal(400), call.doing, fault.message)
        })
    }

    fn connect(&self, patience: &Patience) -> Result<Socket, Trouble> {
        wire::connect(&self.0.endpoint, &self.0.names, patience)
    }

    /// A connection that waits and is still good. Where one is not, the others are not either: the engine has stopped
    /// since.
    fn idle(&self) -> Option<Socket> {
        let idle = self.0.idle.lock().pop()?;
        if wire::is_fresh(&idle) {
            return Some(idle);
        }
        self.0.idle.lock().clear();
        None
    }

    fn failed(&self, call: &Call, trouble: Trouble) -> EngineError {
        use EngineErrorKind as Kind;
        if matches!(trouble.kind, Kind::Absent | Kind::Refused | Kind::Cut) {
            self.forget();
        }
        call.fails(trouble)
    }

    /// It was away: what comes back may be another version, on new connections.
    fn forget(&self) {
        *self.0.agreed.lock() = None;
        self.0.idle.lock().clear();
    }

    /// Every answer names the engine's version. One that is not the known one means that the engine was exchanged while
    /// nobody looked; a 400 may then be about the version we spoke and nothing else.
    fn note_version(&self, head: &Head) {
        let Some(theirs) = header_version(head) else { return };
        self.0.agreed.lock().take_if(|known| known.api_version != theirs);
    }
}

fn header_version(head: &Head) -> Option<ApiVersion> {
    head.header("api-version")?.parse().ok()
}

fn is_success(status: u16) -> bool {
    status == 101 || (200..300).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let parse = |text: &str| text.parse::<ApiVersion>().ok().map(|version| version.to_string());
        assert_eq!(parse("1.41").as_deref(), Some("1.41"));
        assert_eq!(parse(" 1.5 ").as_deref(), Some("1.5"));
        assert_eq!(parse("1.41-beta"), None);
        assert_eq!(parse("41"), None);
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("1.9") < version("1.41"), "by number, not by text");
        assert!(version("1.99") < version("2.0"));
    }
}
