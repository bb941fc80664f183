//! What makes a session with the daemon, and what is needed to open it again: the client's own first lines, and
//! what it asked of the session since. Values only.

use super::wire::{Cut, exchange, request};
use crate::base::limits::SUBSCRIPTIONS_MAX;
use crate::mcp::envelope::{self, Message, Outcome};
use crate::mcp::handshake::{Greeting, greeting};
use crate::mcp::params;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Counts the sessions of this bridge.
    pub number: u64,
    /// What `Mcp-Session-Id` carries.
    pub id: String,
    /// What `MCP-Protocol-Version` carries.
    pub version: String,
}

/// What came of `initialize`.
pub enum Opened {
    /// A session, and the daemon's answer.
    Session { session: Session, greeting: Greeting, answer: Vec<u8> },
    /// The daemon's answer is a refusal.
    Refused(Vec<u8>),
}

/// Asks for a session with the client's own line. A server in its first start may take as long as a call may.
pub fn open(stream: &UnixStream, target: &str, number: u64, line: &[u8]) -> Result<Opened, Cut> {
    let (head, answer) = exchange(stream, &request("POST", target, None, None, Some(line)), None)?;
    let id = head.header("mcp-session-id").filter(|_| head.status == 200);
    let result = match envelope::parse(&answer) {
        Ok(Message::Response { outcome: Outcome::Result(result), .. }) => greeting(result).ok(),
        _ => None,
    };
    Ok(match (id, result) {
        (Some(id), Some(greeting)) => {
            let session = Session { number, id: id.to_owned(), version: greeting.version.clone() };
            Opened::Session { session, greeting, answer }
        }
        _ => Opened::Refused(answer),
    })
}

/// What the client said that belongs to its session, as it said it.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    initialize: Vec<u8>,
    initialized: Option<Vec<u8>>,
    level: Option<Vec<u8>>,
    /// By URI.
    subscriptions: BTreeMap<String, Vec<u8>>,
}

/// The daemon's answer to what is said again; it says these at once.
const SAY_PATIENCE: Duration = Duration::from_secs(10);

impl Kept {
    pub fn of(initialize: Vec<u8>) -> Kept {
        Kept { initialize, ..Kept::default() }
    }

    pub fn initialize(&self) -> &[u8] {
        &self.initialize
    }

    /// Notes what a new session would have to hear again.
    pub fn note(&mut self, method: &str, message_params: Option<&str>, line: &[u8]) {
        let uri = || params::text(message_params?, "uri");
        match method {
            "notifications/initialized" => self.initialized = Some(line.to_vec()),
            "logging/setLevel" => self.level = Some(line.to_vec()),
            "resources/subscribe" => {
                if let Some(uri) = uri().filter(|_| self.subscriptions.len() < SUBSCRIPTIONS_MAX) {
                    self.subscriptions.insert(uri, line.to_vec());
                }
            }
            "resources/unsubscribe" => {
                uri().and_then(|uri| self.subscriptions.remove(&uri));
            }
            _ => (),
        }
    }

    /// Says it all again, in a session that has just been opened on this connection.
    pub fn repeat(&self, stream: &UnixStream, target: &str, session: &Session) -> Result<(), Cut> {
        let lines = self.initialized.iter().chain(&self.level).chain(self.subscriptions.values());
        for line in lines {
            // A refusal (a resource that is gone) is no worse for the client than what it has seen before.
            exchange(stream, &request("POST", target, Some(session), None, Some(line)), Some(SAY_PATIENCE))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_for_the_next_session() {
        let mut kept = Kept::of(b"init".to_vec());
        let uri = |uri: &str| format!("{{\"uri\":\"{uri}\"}}");
        kept.note("tools/call", Some("{}"), b"call");
        kept.note("notifications/initialized", None, b"initialized");
        kept.note("logging/setLevel", Some("{}"), b"low");
        kept.note("logging/setLevel", Some("{}"), b"high");
        kept.note("resources/subscribe", Some(&uri("a")), b"sub a");
        kept.note("resources/subscribe", Some(&uri("b")), b"sub b");
        kept.note("resources/unsubscribe", Some(&uri("a")), b"unsub a");
        assert_eq!(kept.initialize(), b"init");
        assert_eq!(kept.initialized.as_deref(), Some(&b"initialized"[..]));
        assert_eq!(kept.level.as_deref(), Some(&b"high"[..]));
        assert_eq!(kept.subscriptions.into_values().collect::<Vec<_>>(), [b"sub b"]);
    }
}
