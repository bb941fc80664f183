//! The REST API, the same on the endpoint and on the control socket.

use super::act::{self, WAIT_MAX};
use super::config;
use super::events::Events;
use super::reconnect::{Wish, carry_out};
use super::status::{self, About, Extent};
use crate::base::fault::{Fault, FaultKind};
use crate::base::finding::Finding;
use crate::base::limits::RECONNECT_WAIT;
use crate::gateway::crossing::Caller;
use crate::gateway::http::{Exchange, Request};
use crate::gateway::open_call::Heard;
use crate::gateway::reply::fault_error;
use crate::gateway::router::{self, Request as CallRequest, Router};
use crate::gateway::sessions::{Mount, NOBODY};
use crate::mcp::envelope;
use crate::mcp::items::Kind;
use crate::mcp::line::one_line;
use crate::mcp::params::address;
use crate::server::handle::Server;
use crate::server::slot::Answer;
use crate::store::Store;
use crate::sys::clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Lines of a server's log that one request may ask for.
const LOG_LINES_MAX: usize = 10_000;

pub struct Api {
    pub about: About,
    pub router: Arc<Router>,
    pub config: config::Control,
    pub store: Store,
    pub events: Events,
}

impl Api {
    /// Answers `request` if its path is one of ours; `false` leaves it to others.
    pub fn serve(&self, request: &Request, exchange: &mut Exchange) -> bool {
        match request.path.as_str() {
            "/healthz" => exchange.respond(200, &[("Content-Type", "text/plain")], b"ok\n"),
            "/readyz" => self.ready(request, exchange),
            "/events" => self.events.follow(request, exchange),
            path => match path.strip_prefix("/api/v1/") {
                Some(rest) => self.version_1(rest, request, exchange),
                None => return false,
            },
        }
        true
    }

    /// 200 once the endpoint serves; with `?servers=all` once no server is queued or connecting.
    fn ready(&self, request: &Request, exchange: &mut Exchange) {
        let all = parameter(request, "servers").as_deref() == Some("all");
        let busy = |server: &&Arc<Server>| all && matches!(server.status().state, "queued" | "connecting");
        let servers = self.router.servers.all();
        let waiting: Vec<&str> = servers.iter().filter(busy).map(|server| server.name.as_str()).collect();
        if waiting.is_empty() {
            return exchange.respond(200, &[("Content-Type", "text/plain")], b"ready\n");
        }
        let body = format!("waiting for: {}\n", waiting.join(", "));
        exchange.respond(503, &[("Content-Type", "text/plain")], body.as_bytes());
    }

    fn version_1(&self, rest: &str, request: &Request, exchange: &mut Exchange) {
        let parts: Vec<String> = rest.split('/').map(percent_decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let allowed = match &parts[..] {
            ["status" | "tools" | "events" | "groups"]
            | ["config", "plan"]
            | ["servers", _]
            | ["servers", _, "logs"] => "GET",
            ["reconnect"]
            | ["tools", "call"]
            | ["config", "apply"]
            | ["servers" | "groups", _, "restart" | "enable" | "disable"] => "POST",
            _ => {
                let fault = Fault::new(FaultKind::Unknown, format!("no such resource: {}", request.path));
                return fail(exchange, 404, &fault.hint("GET /api/v1/status shows everything"));
            }
        };
        if request.method != allowed {
            let message = format!("{} is not allowed on {}", request.method, request.path);
            let body = json!({"error": Fault::new(FaultKind::Unknown, message).hint(allowed)}).to_string();
            return exchange.respond(405, &[JSON, ("Allow", allowed)], body.as_bytes());
        }
        match &parts[..] {
            ["status"] => {
                let extent = match parameter(request, "usage").as_deref() {
                    None | Some("0") => Extent::Nothing,
                    Some("all") => Extent::All,
                    Some(_) => Extent::Processes,
                };
                let body = status::picture(&self.about, &self.router, &self.store, extent);
                exchange.respond(200, &[JSON], body.as_bytes());
            }
            ["config", "plan"] => config::answer(exchange, &*self.config.plan),
            ["config", _] => config::answer(exchange, &*self.config.apply),
            ["events"] => self.events.list(request, exchange),
            ["tools"] => self.tools(request, exchange),
            ["reconnect"] => self.reconnect(request, exchange),
            ["tools", _] => self.call(request, exchange),
            ["servers", name] => {
                self.with(name, exchange, |server, exchange| self.one(server, request, exchange));
            }
            ["servers", name, "logs"] => {
                self.with(name, exchange, |server, exchange| self.log_lines(server, request, exchange));
            }
            ["servers", name, action] => {
                self.with(name, exchange, |server, exchange| {
                    act::one(&self.router, server, action, request, exchange);
                });
            }
            ["groups"] => act::list(&self.router, exchange),
            ["groups", name, action] => act::group(&self.router, name, action, request, exchange),
            // Every other path was answered above.
            _ => (),
        }
    }

    fn with(&self, name: &str, exchange: &mut Exchange, body: impl FnOnce(&Arc<Server>, &mut Exchange)) {
        match self.router.servers.find(name) {
            Some(server) => body(&server, exchange),
            None => fail(exchange, 404, &router::unknown_server(&self.router.servers, name)),
        }
    }

    /// Answers 200 with the server; with `?wait=` once nothing is under way there. A state that began at `since`, or
    /// that is one of those in `not`, is no answer: whoever changed something waits for what comes of it.
    fn one(&self, server: &Arc<Server>, request: &Request, exchange: &mut Exchange) {
        let Ok(wait) = span_parameter(request, "wait", exchange) else { return };
        if let Some(wait) = wait {
            let (since, not) = (parameter(request, "since"), parameters(request, "not"));
            // Out of patience, the state as it is then is the answer.
            let _ = self.router.board.wait(clock::now() + wait.min(WAIT_MAX), || {
                let now = server.status();
                let is_news =
                    since.as_ref() != Some(&now.since) && !not.iter().any(|state| state == now.state);
                (now.is_settled() && is_news).then_some(())
            });
        }
        send(exchange, 200, &json!(status::row(server, &self.router, &self.about.outlook())));
    }

    /// Answers 200 when all who were meant are back, or will not be, or the time is over.
    fn reconnect(&self, request: &Request, exchange: &mut Exchange) {
        let Ok(wait) = span_parameter(request, "wait", exchange) else { return };
        match Wish::read(&request.body, &self.router.servers) {
            Ok(wish) => {
                let outcome = carry_out(wish, &self.router, wait.unwrap_or(RECONNECT_WAIT).min(WAIT_MAX));
                send(exchange, 200, &json!(outcome));
            }
            Err((status, fault)) => fail(exchange, status, &fault),
        }
    }

    fn tools(&self, request: &Request, exchange: &mut Exchange) {
        let only = parameter(request, "server");
        if let Some(name) = &only
            && self.router.servers.find(name).is_none()
        {
            return fail(exchange, 404, &router::unknown_server(&self.router.servers, name));
        }
        let wanted = only.and_then(|name| self.router.servers.find(&name));
        let catalogue = self.router.catalogue();
        let entries = catalogue
            .entries(Kind::Tools)
            .iter()
            .filter(|entry| wanted.as_ref().is_none_or(|server| server.name == entry.server.name));
        let tools: Vec<Value> = entries
            .map(|entry| {
                json!({"name": entry.key, "server": entry.server.name, "tool": entry.item.key,
                       "description": entry.item.description()})
            })
            .collect();
        send(exchange, 200, &json!({"tools": tools}));
    }

    /// Body: `{"name":"server__tool","arguments":{…}}`; the answer is the MCP result as it came.
    fn call(&self, request: &Request, exchange: &mut Exchange) {
        let body = one_line(&request.body);
        let text = std::str::from_utf8(&body).ok();
        let Some(params) = text.filter(|text| address("tools/call", text).is_some()) else {
            let fault = Fault::new(FaultKind::BadConfig, "the body is not a JSON object with a \"name\"");
            return fail(exchange, 400, &fault.hint("{\"name\":\"server__tool\",\"arguments\":{}}"));
        };
        let Ok(patience) = span_parameter(request, "timeout", exchange) else { return };
        let deadline = patience.map(|patience| clock::now() + patience);
        let (mount, method) = (&Mount::All, "tools/call");
        let (era, caller) = (None, Caller::LEGACY);
        let call = CallRequest { mount, session: NOBODY, id: "0", method, params, era, patience, caller };
        let mut open = match self.router.open(&call) {
            Ok(open) => open,
            Err(fault) => return fail(exchange, status_of(&fault), &fault),
        };
        let slot = open.slot().clone();
        let watch = exchange.watch_close(Box::new(move || slot.peer_closed()));
        let answer = loop {
            let left = deadline.map(|deadline| deadline.since(clock::now()));
            match open.wait(left) {
                Heard::Answer(answer) => break answer,
                Heard::PeerClosed => return open.leave(),
                Heard::Quiet if left.is_some_and(|left| left.is_zero()) => {
                    open.give_up();
                    let fault = Fault::new(FaultKind::CallTimeout, "no answer within the time given");
                    break Answer::Fault(fault);
                }
                Heard::Message(_) | Heard::Asked | Heard::Quiet => (),
            }
        };
        drop(watch);
        match answer {
            Answer::Result(raw) => exchange.respond(200, &[JSON], raw.as_bytes()),
            Answer::Error(raw) => {
                let body = format!("{{\"error\":{raw}}}");
                exchange.respond(502, &[JSON], body.as_bytes());
            }
            Answer::Fault(fault) => fail(exchange, status_of(&fault), &fault),
        }
    }

    fn log_lines(&self, server: &Arc<Server>, request: &Request, exchange: &mut Exchange) {
        let Some(wanted) = parameter(request, "lines").map_or(Some(100), |text| text.parse::<usize>().ok())
        else {
            let fault = Fault::new(FaultKind::BadConfig, "`lines` is no number");
            return fail(exchange, 400, &fault.hint("lines=100"));
        };
        server.settle_log();
        let path = self.about.logs.join(format!("server-{}.log", server.slug));
        let lines = crate::sys::logfile::tail(&path, wanted.min(LOG_LINES_MAX));
        send(exchange, 200, &json!({"lines": lines}));
    }
}

pub(super) fn send(exchange: &mut Exchange, status: u16, value: &Value) {
    exchange.respond(status, &[JSON], value.to_string().as_bytes());
}

/// `{"error":{"kind","message","hint"}}`
pub fn fail(exchange: &mut Exchange, status: u16, fault: &Fault) {
    send(exchange, status, &json!({"error": fault}));
}

/// The same, with what was found in a config beside it.
pub(super) fn fail_with(exchange: &mut Exchange, status: u16, fault: &Fault, findings: &[Finding]) {
    send(exchange, status, &json!({"error": fault, "findings": findings}));
}

/// The value of a query parameter, decoded.
pub(super) fn parameter(request: &Request, name: &str) -> Option<String> {
    parameters(request, name).into_iter().next()
}

/// All values of a query parameter that may be given more than once.
pub(super) fn parameters(request: &Request, name: &str) -> Vec<String> {
    let query = request.query.as_deref().unwrap_or_default();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decoded(value)).collect()
}

pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A parameter that is a span of time; `Err` if it is none, which is answered.
pub(super) fn span_parameter(
    request: &Request,
    name: &str,
    exchange: &mut Exchange,
) -> Result<Option<Duration>, ()> {
    let Some(text) = parameter(request, name) else { return Ok(None) };
    span(&text).map(Some).ok_or_else(|| {
        let fault = Fault::new(FaultKind::BadConfig, format!("`{name}` is no span of time"));
        fail(exchange, 400, &fault.hint("30s, 500ms, or a number of seconds"));
    })
}

/// The status for a call that its server did not answer.
fn status_of(fault: &Fault) -> u16 {
    const STATUSES: [(FaultKind, u16); 6] = [
        (FaultKind::Unknown, 404),
        (FaultKind::NotReady, 503),
        (FaultKind::EngineAway, 503),
        (FaultKind::ContainerPaused, 503),
        (FaultKind::Busy, 503),
        (FaultKind::CallTimeout, 504),
    ];
    let known = STATUSES.iter().find(|(kind, _)| *kind == fault.kind);
    known.map_or(502, |(_, status)| *status)
}

/// `30s`, `500ms`, or a number of seconds.
fn span(text: &str) -> Option<Duration> {
    text.parse::<u64>().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(text).ok())
}

/// A JSON-RPC error for a path that is nobody's.
pub fn nowhere(exchange: &mut Exchange, path: &str) {
    let fault =
        Fault::new(FaultKind::Unknown, format!("nothing is at {}", crate::base::text::shorten(path, 80)))
            .hint("MCP is at /mcp and /mcp/s/<server>");
    let body = envelope::response("null", envelope::Outcome::Error(&fault_error("", &fault)));
    exchange.respond(404, &[JSON], &body);
}
