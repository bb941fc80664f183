//! One line on its way to a remote server: what it is, and whether it may be said twice.

use super::line::Line;
use crate::base::id::CallId;
use crate::base::limits::{REMOTE_CALLS_MAX, REMOTE_LISTENS_MAX, REMOTE_URGENT_MAX};
use crate::mcp::envelope::{self, Message};
use crate::mcp::mirrored::{self, Mirrored};
use crate::mcp::{headers, meta, scan};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first request of a session.
    Initialize(CallId),
    /// `server/discover`: the first request of the modern era, and its sign of life.
    Discover(CallId),
    /// The notification that ends the greeting.
    Initialized,
    /// `safe`: asking twice is the same as asking once.
    Request { id: CallId, safe: bool, room: Room },
    /// A notification, or our answer to a request of the server.
    Word,
}

/// What shares its room with what, so that none waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Answered at once, or not at all.
    Urgent,
    /// May take its time.
    Call,
    /// Stays open for as long as the life lasts.
    Listen,
}

impl Room {
    pub const ALL: [Room; 3] = [Room::Urgent, Room::Listen, Room::Call];

    /// So many at the same time.
    pub fn size(self) -> usize {
        match self {
            Room::Urgent => REMOTE_URGENT_MAX,
            Room::Call => REMOTE_CALLS_MAX,
            Room::Listen => REMOTE_LISTENS_MAX,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Job {
    pub kind: Kind,
    pub line: Arc<Line>,
    /// What its head repeats of the line, in the modern era.
    pub head: Arc<[(String, String)]>,
    /// It was sent before, and nobody knows what became of it, or it was refused with its session.
    pub again: bool,
    /// Its caller has left without a word, which is no cancellation: it is sent, and nobody waits for it.
    pub orphan: bool,
    /// The error by which the server refused its head. It waits until it is known what that should repeat.
    pub refused: Option<Arc<str>>,
}

impl Job {
    /// `mirrors` says which arguments of a tool are repeated in the head.
    pub fn of(line: Line, mirrors: &Mirrors) -> Job {
        let message = envelope::parse(&line);
        let head = message.as_ref().map(|message| head(message, mirrors)).unwrap_or_default();
        let kind = match message {
            Ok(Message::Request { id, method, .. }) => match (id.parse(), method.as_ref()) {
                (Ok(id), "initialize") => Kind::Initialize(CallId(id)),
                (Ok(id), "server/discover") => Kind::Discover(CallId(id)),
                (Ok(id), method) => {
                    Kind::Request { id: CallId(id), safe: is_safe(method), room: room(method) }
                }
                // Our ids are numbers.
                (Err(_), _) => Kind::Word,
            },
            Ok(Message::Notification { method, .. }) if method == "notifications/initialized" => {
                Kind::Initialized
            }
            Ok(Message::Notification { .. } | Message::Response { .. }) | Err(_) => Kind::Word,
        };
        let head = head.into();
        Job { kind, line: Arc::new(line), head, again: false, orphan: false, refused: None }
    }

    pub fn id(&self) -> Option<CallId> {
        match self.kind {
            Kind::Initialize(id) | Kind::Discover(id) | Kind::Request { id, .. } => Some(id),
            Kind::Initialized | Kind::Word => None,
        }
    }

    pub fn is_handshake(&self) -> bool {
        self.is_greeting() || self.kind == Kind::Initialized
    }

    /// A first request, in either era.
    pub fn is_greeting(&self) -> bool {
        matches!(self.kind, Kind::Initialize(_) | Kind::Discover(_))
    }

    pub fn room(&self) -> Room {
        match self.kind {
            Kind::Request { room, .. } => room,
            Kind::Initialize(_) | Kind::Discover(_) | Kind::Initialized | Kind::Word => Room::Urgent,
        }
    }

    /// Whether its head repeats arguments, if its tool wants that.
    pub fn repeats_arguments(&self) -> bool {
        self.head.iter().any(|(name, value)| name == headers::METHOD && value == "tools/call")
    }

    /// What its head would be with these.
    pub fn head_with(&self, mirrors: &Mirrors) -> Vec<(String, String)> {
        envelope::parse(&self.line).map(|message| head(&message, mirrors)).unwrap_or_default()
    }

    /// Whether sending it twice could do something twice.
    pub fn is_safe(&self) -> bool {
        match self.kind {
            Kind::Initialize(_) | Kind::Discover(_) | Kind::Initialized => true,
            Kind::Request { safe, .. } => safe,
            Kind::Word => false,
        }
    }
}

/// By tool, the arguments that are repeated in the head.
pub type Mirrors = BTreeMap<String, Vec<Mirrored>>;

/// What the head of a modern request repeats. Nothing of any other message.
fn head(message: &Message<'_>, mirrors: &Mirrors) -> Vec<(String, String)> {
    let Message::Request { method, params: Some(params), .. } = message else { return Vec::new() };
    let version = meta::get(params, meta::PROTOCOL_VERSION).and_then(scan::string);
    let Some(version) = version else { return Vec::new() };
    let mut head = vec![
        (headers::PROTOCOL_VERSION.to_owned(), version),
        (headers::METHOD.to_owned(), headers::written(method).into_owned()),
    ];
    let name = headers::name_of(method, Some(params));
    head.extend(name.iter().map(|name| (headers::NAME.to_owned(), headers::written(name).into_owned())));
    let tool = name.filter(|_| method == "tools/call").and_then(|name| mirrors.get(&name));
    let arguments = scan::find(params, "arguments").map_or("{}", |span| &params[span]);
    for mirrored in tool.into_iter().flatten() {
        if let Some(value) = mirrored::value(arguments, &mirrored.path) {
            head.push((mirrored.header.clone(), headers::written(&value).into_owned()));
        }
    }
    head
}

fn room(method: &str) -> Room {
    match method {
        "ping" => Room::Urgent,
        "subscriptions/listen" => Room::Listen,
        _ => Room::Call,
    }
}

/// Methods that only read, or that set what is set already.
fn is_safe(method: &str) -> bool {
    const SAFE: [&str; 7] = [
        "ping",
        "prompts/get",
        "resources/read",
        "completion/complete",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    ];
    SAFE.contains(&method) || method.ends_with("/list")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::in_flight::IN_FLIGHT;

    #[test]
    fn kinds() {
        #[track_caller]
        fn check(line: &str, expected: Kind) {
            let line = Line::new(line.as_bytes().to_vec(), &IN_FLIGHT);
            assert_eq!(Job::of(line, &Mirrors::new()).kind, expected);
        }
        let request = |safe, room| Kind::Request { id: CallId(7), safe, room };
        check(r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#, Kind::Initialize(CallId(7)));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#, request(false, Room::Call));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"server/discover"}"#, Kind::Discover(CallId(7)));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"resources/templates/list"}"#, request(true, Room::Call));
        check(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, request(true, Room::Urgent));
        check(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Initialized);
        check(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#, Kind::Word);
        check(r#"{"jsonrpc":"2.0","id":"theirs","result":{}}"#, Kind::Word);
    }

    #[test]
    fn heads_repeat_what_a_modern_request_says() {
        let schema = r#"{"properties":{"r":{"type":"string","x-mcp-header":"Region"}}}"#;
        let mirrors = Mirrors::from([("caf\u{e9}".to_owned(), mirrored::checked(schema).unwrap())]);
        let head = |meta: &str| {
            let params = format!(r#"{{"name":"caf\u00e9","arguments":{{"r":" x"}},"_meta":{{{meta}}}}}"#);
            let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
            let job = Job::of(Line::new(line.into_bytes(), &IN_FLIGHT), &mirrors);
            job.head.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            head(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#),
            [
                "MCP-Protocol-Version: 2026-07-28",
                "Mcp-Method: tools/call",
                "Mcp-Name: =?base64?Y2Fmw6k=?=",
                "Mcp-Param-Region: =?base64?IHg=?="
            ]
        );
        assert!(head("").is_empty());
    }
}
