//! Streamable HTTP, MCP 2024-11-05 to 2025-11-25: what a POST, GET or DELETE on a mount means.

use super::call::{self, Heard, OpenCall, Request as CallRequest, Router};
use super::catalogue::{self, Announced};
use super::http::{Exchange, Request};
use super::hub::Hub;
use super::sessions::{Mount, Session, Sessions};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::SessionId;
use crate::mcp::envelope::{self, Invalid, Message, Outcome};
use crate::mcp::{handshake, scan};
use crate::server::handle::Server;
use crate::server::slot::Answer;
use crate::sys::clock;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A call that takes longer lends its socket to the hub, which sees the client leave.
const LEND_AFTER: Duration = Duration::from_millis(30);

const JSON: (&str, &str) = ("Content-Type", "application/json");
const SESSION_HEADER: &str = "Mcp-Session-Id";

/// The MCP side of the endpoint.
pub struct Front {
    pub router: Arc<Router>,
    pub sessions: Arc<Sessions>,
    pub hub: Hub,
    /// The lists that the listening sessions know of.
    pub announced: Announced,
    /// How long a list waits for servers in their first start.
    pub list_wait: Duration,
}

impl Front {
    /// One request on a mount.
    pub fn serve(self: &Arc<Self>, mount: &Mount, request: &Request, exchange: &mut Exchange) {
        // A server has two names in URLs, and a session is good for both.
        let mount = &match mount {
            Mount::All => Mount::All,
            Mount::One(name) => match self.router.servers.find(name) {
                Some(server) => Mount::One(server.name.as_str().to_owned()),
                None => return refuse(exchange, 404, &call::unknown_server(&self.router.servers, name)),
            },
        };
        if let Some(version) = request.headers.get("mcp-protocol-version")
            && !handshake::VERSIONS.contains(&version)
        {
            let message =
                format!("protocol version `{}` is not spoken here", crate::base::text::shorten(version, 40));
            let versions = handshake::VERSIONS.join(", ");
            return refuse(exchange, 400, &Fault::new(FaultKind::NotSupported, message).hint(versions));
        }
        match request.method.as_str() {
            "POST" => self.post(mount, request, exchange),
            "GET" => self.listen(mount, request, exchange),
            "DELETE" => self.delete(mount, request, exchange),
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
        let message = match envelope::parse(&request.body) {
            Ok(message) => message,
            Err(invalid) => return not_a_message(exchange, &request.body, &invalid),
        };
        if let Message::Request { id, method, params } = &message
            && method == "initialize"
        {
            return self.initialize(mount, id, params.unwrap_or("{}"), accept, exchange);
        }
        let Some(session) = self.session(mount, request, exchange) else { return };
        match message {
            Message::Request { id, method, params } => {
                let _in_use = InUse::of(&self.sessions, request);
                self.request(mount, &session, id, &method, params.unwrap_or("{}"), accept, exchange);
            }
            Message::Notification { method, params } => {
                self.notification(&session, &method, params.unwrap_or("{}"));
                exchange.respond(202, &[], b"");
            }
            // We ask clients nothing, so an answer is late or lost; it is taken and dropped.
            Message::Response { .. } => exchange.respond(202, &[], b""),
        }
    }

    /// The session that the request names; answers it if there is none.
    fn session(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) -> Option<Session> {
        let Some(id) = request.headers.get("mcp-session-id") else {
            let fault = Fault::new(FaultKind::Unknown, "no Mcp-Session-Id").hint("`initialize` gives one");
            refuse(exchange, 400, &fault);
            return None;
        };
        let session = self.sessions.touch(id, mount, clock::now());
        if session.is_none() {
            let fault = Fault::new(FaultKind::Unknown, "this session is over").hint("`initialize` a new one");
            refuse(exchange, 404, &fault);
        }
        session
    }

    fn initialize(&self, mount: &Mount, id: &str, params: &str, accept: Accept, exchange: &mut Exchange) {
        let wanted = scan::find(params, "protocolVersion").and_then(|span| scan::string(&params[span]));
        let version = handshake::negotiate(wanted.as_deref().unwrap_or_default());
        let Some(session) = new_session_id() else {
            return refuse(
                exchange,
                500,
                &Fault::new(FaultKind::Internal, "no random numbers from the kernel"),
            );
        };
        if self.sessions.open(session.clone(), mount.clone(), version, clock::now()).is_none() {
            let fault = Fault::new(FaultKind::Busy, "too many sessions are open").hint("try again later");
            return refuse(exchange, 503, &fault);
        }
        let result = self.initialize_result(mount, version);
        let body = envelope::response(id, Outcome::Result(&result));
        answer(exchange, accept, &[(SESSION_HEADER, &session.0)], &body);
    }

    fn initialize_result(&self, mount: &Mount, version: &str) -> String {
        let ours = json!({"name": "mcpvisor", "version": env!("CARGO_PKG_VERSION")}).to_string();
        let mut info = ours;
        let mut instructions = String::new();
        if let Mount::One(name) = mount
            && let Some(greeting) =
                self.router.servers.find(name).and_then(|server| self.greeting_of(&server))
        {
            let part = |key| scan::find(&greeting, key).map(|span| greeting[span].to_owned());
            info = part("serverInfo").unwrap_or(info);
            instructions =
                part("instructions").map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
        }
        format!(
            "{{\"protocolVersion\":\"{version}\",\"capabilities\":{{\"tools\":{{\"listChanged\":true}}}},\
             \"serverInfo\":{info}{instructions}}}"
        )
    }

    /// What a server said when it was greeted; waited for, if it is in its first start.
    fn greeting_of(&self, server: &Arc<Server>) -> Option<String> {
        let known = || server.known().greeting.map(|greeting| greeting.raw.to_string());
        let done = || known().map(Some).or_else(|| (!server.status().is_coming()).then_some(None));
        self.router.board.wait(clock::now() + self.list_wait, done).flatten()
    }

    #[expect(clippy::too_many_arguments, reason = "one request: its place, its parts and its way back")]
    fn request(
        &self,
        mount: &Mount,
        session: &Session,
        id: &str,
        method: &str,
        params: &str,
        accept: Accept,
        exchange: &mut Exchange,
    ) {
        let outcome = match method {
            "ping" => Ok("{}".to_owned()),
            "tools/list" => self.list(mount, params),
            "tools/call" => return self.call(mount, session, id, params, accept, exchange),
            _ => {
                let message =
                    format!("method `{}` is not offered here", crate::base::text::shorten(method, 80));
                Err(envelope::error_object(envelope::METHOD_NOT_FOUND, &message, None::<&()>))
            }
        };
        let outcome = match &outcome {
            Ok(result) => Outcome::Result(result),
            Err(error) => Outcome::Error(error),
        };
        answer(exchange, accept, &[], &envelope::response(id, outcome));
    }

    fn list(&self, mount: &Mount, params: &str) -> Result<String, String> {
        let cursor = scan::find(params, "cursor").map(|span| &params[span]).filter(|raw| *raw != "null");
        let offset = match cursor.map(|raw| scan::string(raw).and_then(|text| catalogue::offset(&text))) {
            None => 0,
            Some(Some(offset)) => offset,
            Some(None) => {
                return Err(envelope::error_object(envelope::INVALID_PARAMS, "unknown cursor", None::<&()>));
            }
        };
        self.wait_for_first_lists(mount);
        match mount {
            Mount::All => Ok(self.router.catalogue().page(offset)),
            Mount::One(name) => {
                let Some(server) = self.router.servers.find(name) else {
                    return Err(fault_error(&call::unknown_server(&self.router.servers, name)));
                };
                match server.known().tools.filter(|_| server.is_offered()) {
                    Some(tools) => Ok(catalogue::own_page(&tools, offset)),
                    None => Err(fault_error(&call::not_ready(&server))),
                }
            }
        }
    }

    /// A list waits a little for servers in their first start; one that has failed before delays nobody.
    fn wait_for_first_lists(&self, mount: &Mount) {
        let concerned = |server: &Arc<Server>| match mount {
            Mount::All => true,
            Mount::One(name) => server.name.as_str() == name || server.slug.as_str() == name,
        };
        let all = self.router.servers.all();
        let first_start = |server: &Arc<Server>| {
            let status = server.status();
            concerned(server) && server.known().tools.is_none() && status.is_coming() && status.failures == 0
        };
        // Out of patience, the list is what is known; `list_changed` tells of the rest.
        let _ = self
            .router
            .board
            .wait(clock::now() + self.list_wait, || (!all.iter().any(first_start)).then_some(()));
    }

    fn call(
        &self,
        mount: &Mount,
        session: &Session,
        id: &str,
        params: &str,
        accept: Accept,
        exchange: &mut Exchange,
    ) {
        let request = CallRequest { mount, session: session.number, id, params, patience: None };
        let mut open = match self.router.open(&request) {
            Ok(open) => open,
            Err(fault) => return answer(exchange, accept, &[], &answer_body(id, &Answer::Fault(fault))),
        };
        let mut heard = open.wait(Some(LEND_AFTER));
        let mut watch = None;
        if matches!(heard, Heard::Quiet) {
            let slot = open.slot().clone();
            watch = Some(exchange.watch_close(Box::new(move || slot.peer_closed())));
            heard = open.wait(None);
        }
        match heard {
            Heard::Answer(outcome) => {
                drop(watch);
                answer(exchange, accept, &[], &answer_body(id, &outcome));
            }
            Heard::PeerClosed => open.leave(),
            Heard::Progress(params) if accept.events => stream(exchange, open, id, params),
            Heard::Progress(_) | Heard::Quiet => {
                let outcome = without_progress(open);
                drop(watch);
                if let Some(outcome) = outcome {
                    answer(exchange, accept, &[], &answer_body(id, &outcome));
                }
            }
        }
    }

    fn notification(&self, session: &Session, method: &str, params: &str) {
        if method != "notifications/cancelled" {
            return;
        }
        let part = |key| scan::find(params, key).map(|span| &params[span]);
        if let Some(id) = part("requestId") {
            self.router.cancel(session.number, id, part("reason"));
        }
    }

    /// GET: a stream for what the server side has to say, kept by the hub without a thread.
    fn listen(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) {
        if !Accept::of(request).events {
            return refuse(
                exchange,
                406,
                &Fault::new(FaultKind::Unknown, "Accept must name text/event-stream"),
            );
        }
        let Some(_session) = self.session(mount, request, exchange) else { return };
        let id = request.headers.get("mcp-session-id").unwrap_or_default().to_owned();
        let sessions = self.sessions.clone();
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let key = id.clone();
        let on_close = Box::new(move || {
            if let Ok(stream) = receiver.recv() {
                sessions.drop_stream(&key, stream, clock::now());
            }
        });
        match exchange.hand_over(&[], on_close) {
            Ok(stream) => {
                let oldest = self.sessions.add_stream(&id, stream);
                // The receiver lives in the hub's callback, which runs after this at the earliest.
                let _ = sender.send(stream);
                if let Some(oldest) = oldest {
                    self.hub.close(oldest);
                }
            }
            Err(_) => {
                let fault =
                    Fault::new(FaultKind::Busy, "too many event streams are open").hint("try again later");
                refuse(exchange, 503, &fault);
            }
        }
    }

    fn delete(&self, mount: &Mount, request: &Request, exchange: &mut Exchange) {
        let Some(_session) = self.session(mount, request, exchange) else { return };
        let id = request.headers.get("mcp-session-id").unwrap_or_default();
        if let Some(session) = self.sessions.close(id) {
            session.streams.iter().for_each(|stream| {
                self.hub.close(*stream);
            });
            self.router.session_over(session.number);
        }
        exchange.respond(204, &[], b"");
    }

    /// Tells every session that listens, and whose list of tools is another one now.
    pub fn announce_lists(&self) {
        let changed = self.announced.renew(&self.router.servers.all());
        let concerned = |mount: &Mount| match mount {
            Mount::All => !changed.is_empty(),
            Mount::One(name) => changed.iter().any(|changed| changed.as_str() == name),
        };
        let event: Arc<[u8]> =
            event(&envelope::notification("notifications/tools/list_changed", None)).into();
        for stream in self.sessions.listeners(concerned) {
            // A stream that has just closed needs no news.
            let _ = self.hub.send(stream, event.clone());
        }
    }
}

/// What the client takes as an answer.
#[derive(Clone, Copy)]
struct Accept {
    json: bool,
    events: bool,
}

impl Accept {
    fn of(request: &Request) -> Accept {
        let mut accept = Accept { json: false, events: false };
        let mut silent = true;
        for range in request.headers.get_all("accept").flat_map(|line| line.split(',')) {
            let range = media_type(range).to_ascii_lowercase();
            accept.json |= matches!(range.as_str(), "*/*" | "application/*" | "application/json");
            accept.events |= matches!(range.as_str(), "*/*" | "text/*" | "text/event-stream");
            silent = false;
        }
        // Who does not say what it takes gets the plain form.
        Accept { json: accept.json || silent, ..accept }
    }
}

fn is_json(request: &Request) -> bool {
    let sent = request.headers.get("content-type").map(media_type);
    sent.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// Without its parameters.
fn media_type(value: &str) -> &str {
    value.split_once(';').map_or(value, |(kind, _)| kind).trim()
}

/// A request that is being answered keeps its session.
struct InUse<'a>(&'a Sessions, &'a str);

impl<'a> InUse<'a> {
    fn of(sessions: &'a Sessions, request: &'a Request) -> InUse<'a> {
        let id = request.headers.get("mcp-session-id").unwrap_or_default();
        sessions.begin(id);
        InUse(sessions, id)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.end(self.1, clock::now());
    }
}

/// One answer: JSON where the client takes it, else a stream with one event.
fn answer(exchange: &mut Exchange, accept: Accept, headers: &[(&str, &str)], body: &[u8]) {
    if accept.json {
        let mut all = vec![JSON];
        all.extend_from_slice(headers);
        return exchange.respond(200, &all, body);
    }
    if let Ok(mut events) = exchange.start_events(headers) {
        // A client that has gone hears nothing, and needs nothing.
        let _ = events.write(&event(body)).and_then(|()| events.finish());
    }
}

/// The rest of a call whose server reports progress: a stream of events that ends with the answer.
fn stream(exchange: &mut Exchange, mut open: OpenCall, id: &str, first: Box<str>) {
    let Ok(mut events) = exchange.start_events(&[]) else { return open.leave() };
    let mut heard = Heard::Progress(first);
    loop {
        let written = match heard {
            Heard::Progress(params) => {
                events.write(&event(&envelope::notification("notifications/progress", Some(&params))))
            }
            Heard::Answer(outcome) => {
                // A client that has gone before its answer needs none.
                let _ = events.write(&event(&answer_body(id, &outcome))).and_then(|()| events.finish());
                return;
            }
            Heard::PeerClosed => return open.leave(),
            Heard::Quiet => Ok(()),
        };
        if written.is_err() {
            return open.leave();
        }
        heard = open.wait(None);
    }
}

/// Waits for the answer of a client that takes no events; `None` if it left.
fn without_progress(mut open: OpenCall) -> Option<Answer> {
    loop {
        match open.wait(None) {
            Heard::Answer(outcome) => return Some(outcome),
            Heard::PeerClosed => {
                open.leave();
                return None;
            }
            Heard::Progress(_) | Heard::Quiet => (),
        }
    }
}

fn answer_body(id: &str, answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Result(raw) => envelope::response(id, Outcome::Result(raw)),
        Answer::Error(raw) => envelope::response(id, Outcome::Error(raw)),
        Answer::Fault(fault) => envelope::response(id, Outcome::Error(&fault_error(fault))),
    }
}

/// A fault of ours as a JSON-RPC error; `data.kind` is what programs look at.
pub fn fault_error(fault: &Fault) -> String {
    let code =
        if fault.kind == FaultKind::Unknown { envelope::INVALID_PARAMS } else { envelope::INTERNAL_ERROR };
    let data = json!({"kind": fault.kind.name(), "hint": fault.hint});
    envelope::error_object(code, &fault.to_string(), Some(&data))
}

/// One event of a stream. JSON has no raw newline, so one `data:` line is enough.
fn event(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 24);
    out.extend_from_slice(b"event: message\ndata: ");
    // A line break between JSON tokens is white space; in an event it would end the line.
    out.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
    out
}

fn not_a_message(exchange: &mut Exchange, body: &[u8], invalid: &Invalid) {
    let id = match invalid {
        Invalid::Request { id: Some(id), .. } => id.as_str(),
        Invalid::Request { id: None, .. } | Invalid::Parse(_) => "null",
    };
    let is_batch = matches!(invalid, Invalid::Request { .. }) && body.trim_ascii_start().starts_with(b"[");
    let message = if is_batch {
        "batches are not supported: POST each message by itself".to_owned()
    } else {
        invalid.message()
    };
    let error = envelope::error_object(invalid.code(), &message, None::<&()>);
    exchange.respond(400, &[JSON], &envelope::response(id, Outcome::Error(&error)));
}

/// A refusal at the level of HTTP, with a JSON-RPC error as its body.
pub fn refuse(exchange: &mut Exchange, status: u16, fault: &Fault) {
    let body = envelope::response("null", Outcome::Error(&fault_error(fault)));
    // HTTP wants a 401 to say how to do better; other statuses need no more headers.
    let headers = [JSON, ("WWW-Authenticate", "Bearer")];
    exchange.respond(status, if status == 401 { &headers } else { &headers[..1] }, &body);
}

fn new_session_id() -> Option<SessionId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(SessionId(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}
