//! Streamable HTTP: what a POST, GET or DELETE on a mount means. The era of a POST is read from its body; what is of
//! 2026-07-28 goes to `modern`, and everything with sessions (2024-11-05 to 2025-11-25) is here.

use super::access;
use super::http::{Exchange, Peer, Request};
use super::methods::{Begun, Methods};
use super::modern;
use super::reply::{self, Accept, JSON, Way, answer, fault_error, media_type, refuse};
use super::router;
use super::sessions::{Client, Mount, Session};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::BATCH_MESSAGES_MAX;
use crate::mcp::envelope::{self, Invalid, Message, Outcome};
use crate::mcp::era::{self, Era};
use crate::mcp::features;
use crate::mcp::line::one_line;
use crate::mcp::{handshake, scan};
use crate::sys::clock;
use std::sync::Arc;

const SESSION_HEADER: &str = "Mcp-Session-Id";

/// The only revision with batches.
const BATCH_VERSION: &str = "2025-03-26";

pub struct Front {
    pub methods: Methods,
}

impl Front {
    /// One request on a mount, as its URL names it.
    pub fn serve(&self, mount: Option<&str>, request: &Request, exchange: &mut Exchange) {
        let servers = &self.methods.router.servers;
        // A server has two names in URLs, and a session is good for both.
        let mount = &match mount {
            None => Mount::All,
            Some(name) => match servers.find(name) {
                Some(server) => Mount::One(server.name.clone()),
                None => return refuse(exchange, 404, &router::unknown_server(servers, name)),
            },
        };
        match request.method.as_str() {
            "POST" => self.post(mount, request, exchange),
            "GET" | "DELETE" if is_modern(request) => {
                exchange.respond(405, &[("Allow", "POST"), JSON], b"");
            }
            "GET" if has_legacy_version(request, exchange) => self.listen(mount, request, exchange),
            "DELETE" if has_legacy_version(request, exchange) => self.delete(mount, request, exchange),
            "GET" | "DELETE" => (),
            _ => exchange.respond(405, &[("Allow", "GET, POST, DELETE"), JSON], b""),
        }
    }

    fn post(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) {
        if !is_json(request) {
            let fault = Fault::new(FaultKind::Unknown, "Content-Type must be application/json");
            return refuse(exchange, 415, &fault);
        }
        let accept = Accept::of(request);
        if !accept.json && !accept.events {
            let message = "Accept must name application/json or text/event-stream";
            return refuse(exchange, 406, &Fault::new(FaultKind::Unknown, message));
        }
        let body = one_line(&request.body);
        let message = match envelope::parse(&body) {
            Ok(message) => message,
            Err(Invalid::Request { .. }) if is_batch(&body) => {
                let text = std::str::from_utf8(&body).unwrap_or_default();
                if is_modern(request) || era::is_modern_batch(text) {
                    let why = "batches are not part of this protocol version";
                    return not_a_message(exchange, &Invalid::Request { id: None, why });
                }
                if !has_legacy_version(request, exchange) {
                    return;
                }
                return self.batch(mount, request, &body, accept, exchange);
            }
            Err(invalid) => return not_a_message(exchange, &invalid),
        };
        // What comes through `mcpvisor stdio` has no headers of its own.
        let over_http = request.peer != Peer::Unix || request.headers.get("mcp-method").is_some();
        let headers = era::Headers {
            version: request.headers.get("mcp-protocol-version"),
            method: request.headers.get("mcp-method"),
            name: request.headers.get("mcp-name"),
        };
        match era::classify(&message, over_http.then_some(&headers)) {
            Ok(Era::Legacy) => (),
            Ok(Era::Modern) => {
                return self.modern(mount, (request, over_http), &message, accept, exchange);
            }
            Err(refusal) => {
                let id = if let Message::Request { id, .. } = message { id } else { "null" };
                let body = envelope::response(id, Outcome::Error(&refusal.error()));
                return exchange.respond(refusal.status, &[JSON], &body);
            }
        }
        if !has_legacy_version(request, exchange) {
            return;
        }
        if let Message::Request { id, method, params } = &message
            && method == "initialize"
        {
            return self.initialize(mount, (request, id), params.unwrap_or("{}"), accept, exchange);
        }
        let Some(session) = self.session(mount, request, exchange) else { return };
        match message {
            Message::Request { id, method, params } => {
                let _in_use = InUse::of(&session);
                let way = Way { session: &session, hub: &self.methods.hub, accept, id, method: &method };
                match self.methods.begin(&session, (id, accept.events), &method, params.unwrap_or("{}")) {
                    Begun::Sent(call) => reply::finish(exchange, *call, way),
                    Begun::Done(done) => answer(exchange, accept, &[], &done_body(id, &done)),
                }
            }
            Message::Notification { method, params } => {
                self.methods.notification(&session, &method, params);
                exchange.respond(202, &[], b"");
            }
            Message::Response { id, outcome } => {
                // An answer that nobody waits for any more is taken and dropped.
                self.methods.router.asks.answer(session.number, id, outcome);
                exchange.respond(202, &[], b"");
            }
        }
    }

    fn modern(
        &self,
        mount: &Mount,
        (request, over_http): (&Request, bool),
        message: &Message<'_>,
        accept: Accept,
        exchange: &mut Exchange,
    ) {
        let Message::Request { id, method, params } = message else {
            // News of clients are of the legacy era; a call is cancelled by closing its connection.
            return exchange.respond(202, &[], b"");
        };
        let (methods, params) = (&self.methods, params.unwrap_or("{}"));
        modern::Post { methods, mount, request, over_http, accept, id, method, params }.serve(exchange);
    }

    /// Several messages in one body: all are begun before the first is waited for.
    fn batch(&self, mount: &Mount, request: &Request, body: &[u8], accept: Accept, exchange: &mut Exchange) {
        let Some(session) = self.session(mount, request, exchange) else { return };
        let text = std::str::from_utf8(body).unwrap_or_default();
        let mut spans = Vec::new();
        // It was found to be JSON when it was read.
        let _ = scan::array(text, |span| spans.push(span));
        if session.version != BATCH_VERSION || spans.is_empty() || spans.len() > BATCH_MESSAGES_MAX {
            let why = match spans.len() {
                _ if session.version != BATCH_VERSION => "batches are not part of this protocol version",
                0 => "an empty batch",
                _ => "too many messages in one batch",
            };
            return not_a_message(exchange, &Invalid::Request { id: None, why });
        }
        let _in_use = InUse::of(&session);
        let begun: Vec<Waiting<'_>> =
            spans.into_iter().filter_map(|span| self.begin_one(&session, &text[span])).collect();
        let answers: Vec<Vec<u8>> = begun.into_iter().map(Waiting::body).collect();
        if answers.is_empty() {
            return exchange.respond(202, &[], b"");
        }
        let mut body = b"[".to_vec();
        body.extend(answers.join(&b','));
        body.push(b']');
        answer(exchange, accept, &[], &body);
    }

    /// One message of a batch; `None` if it is not answered.
    fn begin_one<'a>(&self, session: &Arc<Session>, text: &'a str) -> Option<Waiting<'a>> {
        match envelope::parse(text.as_bytes()) {
            Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                let message = "`initialize` must not be in a batch";
                let error = envelope::error_object(envelope::INVALID_REQUEST, message, None::<&()>);
                Some(Waiting::Done(envelope::response(id, Outcome::Error(&error))))
            }
            Ok(Message::Request { id, method, params }) => {
                Some(match self.methods.begin(session, (id, false), &method, params.unwrap_or("{}")) {
                    Begun::Done(done) => Waiting::Done(done_body(id, &done)),
                    Begun::Sent(call) => Waiting::Sent(id, call),
                })
            }
            Ok(Message::Notification { method, params }) => {
                self.methods.notification(session, &method, params);
                None
            }
            Ok(Message::Response { id, outcome }) => {
                self.methods.router.asks.answer(session.number, id, outcome);
                None
            }
            Err(invalid) => Some(Waiting::Done(invalid_body(&invalid))),
        }
    }

    /// The session that the request names; answers it if there is none.
    fn session(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) -> Option<Arc<Session>> {
        let Some(id) = request.headers.get("mcp-session-id") else {
            let fault = Fault::new(FaultKind::Unknown, "no Mcp-Session-Id").hint("`initialize` gives one");
            refuse(exchange, 400, &fault);
            return None;
        };
        let session = self.methods.sessions.touch(id, mount, clock::now());
        if session.is_none() {
            let fault = Fault::new(FaultKind::Unknown, "this session is over").hint("`initialize` a new one");
            refuse(exchange, 404, &fault);
        }
        session
    }

    fn initialize(
        &self,
        mount: &Mount,
        (request, id): (&Request, &str),
        params: &str,
        accept: Accept,
        exchange: &mut Exchange,
    ) {
        let (result, version) = match self.methods.initialize(mount, params) {
            Ok(greeting) => greeting,
            Err(fault) => {
                let error = fault_error("initialize", &fault);
                return answer(exchange, accept, &[], &envelope::response(id, Outcome::Error(&error)));
            }
        };
        let Some(session) = new_session_id() else {
            let fault = Fault::new(FaultKind::Internal, "no random numbers from the kernel");
            return refuse(exchange, 500, &fault);
        };
        let info = scan::find(params, "clientInfo").map(|span| params[span].into());
        let capabilities = scan::find(params, "capabilities").map_or("{}", |span| &params[span]);
        let capabilities = features::carried(capabilities).into();
        let principal = access::principal(request).into();
        let client = Client { features: features::of_client(params), capabilities, info, principal };
        let opened =
            self.methods.sessions.open(session.clone(), mount.clone(), version, client, clock::now());
        if opened.is_none() {
            let fault = Fault::new(FaultKind::Busy, "too many sessions are open").hint("try again later");
            return refuse(exchange, 503, &fault);
        }
        let body = envelope::response(id, Outcome::Result(&result));
        answer(exchange, accept, &[(SESSION_HEADER, &session)], &body);
    }

    /// GET: a stream for what the server side has to say, kept by the hub without a thread. With `Last-Event-ID` it
    /// goes on where another one was lost.
    fn listen(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) {
        if !Accept::of(request).events {
            let fault = Fault::new(FaultKind::Unknown, "Accept must name text/event-stream");
            return refuse(exchange, 406, &fault);
        }
        let Some(session) = self.session(mount, request, exchange) else { return };
        let last_seen = request.headers.get("last-event-id");
        if let Some(seen) = last_seen
            && let Some(events) = session.rest_of_post(seen)
        {
            return say_again(exchange, &session, seen, &events);
        }
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let closing = session.clone();
        let on_close = Box::new(move || {
            if let Ok(stream) = receiver.recv() {
                closing.drop_stream(stream, clock::now());
            }
        });
        let Ok(stream) = exchange.hand_over(&[], on_close) else {
            let fault =
                Fault::new(FaultKind::Busy, "too many event streams are open").hint("try again later");
            return refuse(exchange, 503, &fault);
        };
        let hub = &self.methods.hub;
        if !last_seen.is_some_and(|seen| session.resume_post(hub, stream, seen)) {
            session.add_stream(hub, stream, last_seen);
        }
        // The receiver lives in the hub's callback, which runs after this at the earliest.
        let _ = sender.send(stream);
    }

    fn delete(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) {
        let Some(session) = self.session(mount, request, exchange) else { return };
        self.methods.close(&session);
        exchange.respond(204, &[], b"");
    }
}

/// The rest of a stream that is over: written from here, because an answer may be larger than what the hub queues.
fn say_again(exchange: &mut Exchange, session: &Session, seen: &str, events: &[Arc<[u8]>]) {
    let Ok(mut writer) = exchange.start_events(&[]) else { return };
    let written = events.iter().try_for_each(|event| writer.write(event));
    // Lost again, it is kept.
    if written.and_then(|()| writer.finish()).is_ok() {
        session.post_was_read(seen);
    }
}

/// One message of a batch that will be answered.
enum Waiting<'a> {
    Done(Vec<u8>),
    Sent(&'a str, Box<super::open_call::OpenCall>),
}

impl Waiting<'_> {
    fn body(self) -> Vec<u8> {
        match self {
            Waiting::Done(body) => body,
            Waiting::Sent(id, call) => reply::answer_body(id, "", &reply::only_answer(*call)),
        }
    }
}

fn done_body(id: &str, done: &Result<String, String>) -> Vec<u8> {
    match done {
        Ok(result) => envelope::response(id, Outcome::Result(result)),
        Err(error) => envelope::response(id, Outcome::Error(error)),
    }
}

/// Whether the headers name the modern era.
fn is_modern(request: &Request) -> bool {
    request.headers.get("mcp-protocol-version").is_some_and(|version| Era::of_version(version) == Era::Modern)
}

/// Whether the headers name no version, or one with sessions; answers the request if not.
fn has_legacy_version(request: &Request, exchange: &mut Exchange) -> bool {
    let Some(version) = request.headers.get("mcp-protocol-version") else { return true };
    if handshake::VERSIONS.contains(&version) {
        return true;
    }
    let message =
        format!("protocol version `{}` is not spoken here", crate::base::text::shorten(version, 40));
    let versions = handshake::VERSIONS.join(", ");
    refuse(exchange, 400, &Fault::new(FaultKind::NotSupported, message).hint(versions));
    false
}

fn is_json(request: &Request) -> bool {
    let sent = request.headers.get("content-type").map(media_type);
    sent.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

fn is_batch(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

/// A request that is being answered keeps its session.
struct InUse<'a>(&'a Session);

impl<'a> InUse<'a> {
    fn of(session: &'a Session) -> InUse<'a> {
        session.begin();
        InUse(session)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.end(clock::now());
    }
}

fn invalid_body(invalid: &Invalid) -> Vec<u8> {
    let id = match invalid {
        Invalid::Request { id: Some(id), .. } => id.as_str(),
        Invalid::Request { id: None, .. } | Invalid::Parse(_) => "null",
    };
    let error = envelope::error_object(invalid.code(), &invalid.message(), None::<&()>);
    envelope::response(id, Outcome::Error(&error))
}

fn not_a_message(exchange: &mut Exchange, invalid: &Invalid) {
    exchange.respond(400, &[JSON], &invalid_body(invalid));
}

fn new_session_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
