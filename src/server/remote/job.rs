//! One line on its way to a remote server: what it is, and whether it may be said twice.

use crate::base::id::CallId;
use crate::mcp::envelope::{self, Message};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first request of a session.
    Initialize(CallId),
    /// The notification that ends the greeting.
    Initialized,
    /// `safe`: asking twice is the same as asking once.
    Request { id: CallId, safe: bool, ping: bool },
    /// A notification, or our answer to a request of the server.
    Word,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub kind: Kind,
    pub line: Arc<[u8]>,
    /// It was sent before, and nobody knows what became of it, or it was refused with its session.
    pub again: bool,
    /// Its caller has left without a word, which is no cancellation: it is sent, and nobody waits for it.
    pub orphan: bool,
}

impl Job {
    pub fn of(line: Vec<u8>) -> Job {
        let kind = match envelope::parse(&line) {
            Ok(Message::Request { id, method, .. }) => match (id.parse(), method.as_ref()) {
                (Ok(id), "initialize") => Kind::Initialize(CallId(id)),
                (Ok(id), method) => {
                    Kind::Request { id: CallId(id), safe: is_safe(method), ping: method == "ping" }
                }
                // Our ids are numbers.
                (Err(_), _) => Kind::Word,
            },
            Ok(Message::Notification { method, .. }) if method == "notifications/initialized" => {
                Kind::Initialized
            }
            Ok(Message::Notification { .. } | Message::Response { .. }) | Err(_) => Kind::Word,
        };
        Job { kind, line: line.into(), again: false, orphan: false }
    }

    pub fn id(&self) -> Option<CallId> {
        match self.kind {
            Kind::Initialize(id) | Kind::Request { id, .. } => Some(id),
            Kind::Initialized | Kind::Word => None,
        }
    }

    pub fn is_handshake(&self) -> bool {
        matches!(self.kind, Kind::Initialize(_) | Kind::Initialized)
    }

    /// A call that may take its time; everything else is answered at once, or not at all.
    pub fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Request { ping: false, .. })
    }

    /// Whether sending it twice could do something twice.
    pub fn is_safe(&self) -> bool {
        match self.kind {
            Kind::Initialize(_) | Kind::Initialized => true,
            Kind::Request { safe, .. } => safe,
            Kind::Word => false,
        }
    }
}

/// Methods that only read, or that set what is set already.
fn is_safe(method: &str) -> bool {
    const SAFE: [&str; 8] = [
        "ping",
        "prompts/get",
        "resources/read",
        "completion/complete",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "server/discover",
    ];
    SAFE.contains(&method) || method.ends_with("/list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        #[track_caller]
        fn check(line: &str, expected: Kind) {
            assert_eq!(Job::of(line.as_bytes().to_vec()).kind, expected);
        }
        let request = |safe, ping| Kind::Request { id: CallId(7), safe, ping };
        check(r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#, Kind::Initialize(CallId(7)));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#, request(false, false));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"resources/templates/list"}"#, request(true, false));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, request(true, true));
        check(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Initialized);
        check(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#, Kind::Word);
        check(r#"{"jsonrpc":"2.0","id":"theirs","result":{}}"#, Kind::Word);
    }
}
