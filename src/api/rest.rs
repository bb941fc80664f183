//! The REST API, the same on the endpoint and on the control socket.

use super::status::{self, About};
use crate::base::fault::{Fault, FaultKind};
use crate::gateway::call::{self, Heard, Request as CallRequest, Router};
use crate::gateway::front::fault_error;
use crate::gateway::http::{Exchange, Request};
use crate::gateway::sessions::Mount;
use crate::mcp::envelope;
use crate::server::handle::{Report, Server};
use crate::server::machine::Event;
use crate::server::slot::Answer;
use crate::sys::clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The longest that `?wait=` holds a connection.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Lines of a server's log that one request may ask for.
const LOG_LINES_MAX: usize = 10_000;

pub struct Api {
    pub about: About,
    pub router: Arc<Router>,
    /// Where the servers' log files are.
    pub logs: std::path::PathBuf,
}

impl Api {
    /// Answers `request` if its path is one of ours; `false` leaves it to others.
    pub fn serve(&self, request: &Request, exchange: &mut Exchange) -> bool {
        match request.path.as_str() {
            "/healthz" => exchange.respond(200, &[("Content-Type", "text/plain")], b"ok\n"),
            "/readyz" => self.ready(request, exchange),
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
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["status"]) => {
                let seq = self.router.board.seq();
                let body = status::picture(&self.about, &self.router.servers, seq);
                exchange.respond(200, &[JSON], body.as_bytes());
            }
            ("GET", ["tools"]) => self.tools(request, exchange),
            ("POST", ["tools", "call"]) => self.call(request, exchange),
            ("GET", ["servers", name]) => self.with(name, exchange, |server, exchange| {
                send(exchange, 200, &json!(status::row(server)));
            }),
            ("GET", ["servers", name, "logs"]) => {
                self.with(name, exchange, |server, exchange| self.log_lines(server, request, exchange));
            }
            ("POST", ["servers", name, action @ ("restart" | "enable" | "disable")]) => {
                self.with(name, exchange, |server, exchange| self.act(server, action, request, exchange));
            }
            (_, ["status" | "tools"] | ["tools", "call"] | ["servers", ..]) => {
                fail(
                    exchange,
                    405,
                    &Fault::new(FaultKind::Unknown, format!("{} is not allowed here", request.method)),
                );
            }
            _ => fail(
                exchange,
                404,
                &Fault::new(FaultKind::Unknown, format!("no such resource: {}", request.path)),
            ),
        }
    }

    fn with(&self, name: &str, exchange: &mut Exchange, body: impl FnOnce(&Arc<Server>, &mut Exchange)) {
        match self.router.servers.find(name) {
            Some(server) => body(&server, exchange),
            None => fail(exchange, 404, &call::unknown_server(&self.router.servers, name)),
        }
    }

    fn act(&self, server: &Arc<Server>, action: &str, request: &Request, exchange: &mut Exchange) {
        let before = server.status();
        let event = match action {
            "enable" => Event::Want(true),
            "disable" => Event::Want(false),
            _ if before.state == "disabled" => {
                let fault = Fault::new(FaultKind::NotReady, format!("{} is disabled", server.name));
                return fail(exchange, 409, &fault.hint(format!("mcpvisor upstream enable {}", server.name)));
            }
            _ => Event::Restart,
        };
        let wait = match parameter(request, "wait").map(|text| span(&text)) {
            None => None,
            Some(Some(wait)) => Some(wait.min(WAIT_MAX)),
            Some(None) => {
                let fault = Fault::new(FaultKind::BadConfig, "`wait` is no duration").hint("30s, 500ms");
                return fail(exchange, 400, &fault);
            }
        };
        log::info!("{}: {action} was asked for", server.name);
        let deadline = clock::now() + wait.unwrap_or_default();
        server.tell(Report::Event(event, None));
        if let Some(wait) = wait {
            // Out of patience, the state as it is then is the answer.
            let _ = self.router.board.wait(clock::now() + wait, || has_come(server, action, &before));
        } else {
            // The supervisor answers within a moment; its life number is worth that moment.
            let _ = self.router.board.wait(deadline + Duration::from_millis(200), || {
                (*server.status() != *before || before.state == "parked").then_some(())
            });
        }
        let now = server.status();
        send(
            exchange,
            202,
            &json!({"name": server.name, "life": now.life, "state": now.state, "phase": now.phase}),
        );
    }

    fn tools(&self, request: &Request, exchange: &mut Exchange) {
        let only = parameter(request, "server");
        if let Some(name) = &only
            && self.router.servers.find(name).is_none()
        {
            return fail(exchange, 404, &call::unknown_server(&self.router.servers, name));
        }
        let wanted = only.and_then(|name| self.router.servers.find(&name));
        let catalogue = self.router.catalogue();
        let entries = catalogue
            .entries
            .iter()
            .filter(|entry| wanted.as_ref().is_none_or(|server| server.name == entry.server.name));
        let tools: Vec<Value> = entries
            .map(|entry| {
                json!({"name": entry.name, "server": entry.server.name, "tool": entry.tool.name,
                       "description": entry.tool.description()})
            })
            .collect();
        send(exchange, 200, &json!({"tools": tools}));
    }

    /// Body: `{"name":"server__tool","arguments":{…}}`; the answer is the MCP result as it came.
    fn call(&self, request: &Request, exchange: &mut Exchange) {
        let Ok(params) = std::str::from_utf8(&request.body)
            .map_err(|_| ())
            .and_then(|text| crate::mcp::scan::object(text, |_| ()).map(|()| text).map_err(|_| ()))
        else {
            let fault = Fault::new(FaultKind::BadConfig, "the body is not a JSON object");
            return fail(exchange, 400, &fault.hint("{\"name\":\"server__tool\",\"arguments\":{}}"));
        };
        let call = CallRequest { mount: &Mount::All, session: 0, id: "0", params };
        let patience = parameter(request, "timeout").and_then(|text| span(&text));
        let mut open = match self.router.open(&call) {
            Ok(open) => open,
            Err(fault) => {
                return fail(exchange, if fault.kind == FaultKind::Unknown { 404 } else { 502 }, &fault);
            }
        };
        let slot = open.slot().clone();
        let watch = exchange.watch_close(Box::new(move || slot.peer_closed()));
        let deadline = patience.map(|patience| clock::now() + patience);
        let answer = loop {
            let left = deadline.map(|deadline| deadline.since(clock::now()));
            match open.wait(left) {
                Heard::Answer(answer) => break answer,
                Heard::PeerClosed => return open.leave(),
                Heard::Quiet if left.is_some_and(|left| left.is_zero()) => {
                    open.give_up();
                    break Answer::Fault(Fault::new(
                        FaultKind::CallTimeout,
                        "no answer within the time given",
                    ));
                }
                Heard::Progress(_) | Heard::Quiet => (),
            }
        };
        drop(watch);
        match answer {
            Answer::Result(raw) => exchange.respond(200, &[JSON], raw.as_bytes()),
            Answer::Error(raw) => {
                let body = format!("{{\"error\":{raw}}}");
                exchange.respond(502, &[JSON], body.as_bytes());
            }
            Answer::Fault(fault) => fail(exchange, 502, &fault),
        }
    }

    fn log_lines(&self, server: &Arc<Server>, request: &Request, exchange: &mut Exchange) {
        let wanted = parameter(request, "lines").and_then(|text| text.parse().ok()).unwrap_or(100usize);
        let path = self.logs.join(format!("server-{}.log", server.slug));
        let lines = crate::sys::logfile::tail(&path, wanted.min(LOG_LINES_MAX));
        send(exchange, 200, &json!({"lines": lines}));
    }
}

/// Whether what was asked for has come about, or cannot any more.
fn has_come(server: &Server, action: &str, before: &crate::server::status::Status) -> Option<()> {
    let now = server.status();
    let done = match action {
        "disable" => now.state == "disabled",
        "enable" => now.is_settled() && now.state != "disabled",
        // Back in the same state is come about too, if it was left meanwhile.
        _ => now.is_settled() && (now.life != before.life || now.since != before.since),
    };
    done.then_some(())
}

fn send(exchange: &mut Exchange, status: u16, value: &Value) {
    exchange.respond(status, &[JSON], value.to_string().as_bytes());
}

/// `{"error":{"kind","message","hint"}}`
pub fn fail(exchange: &mut Exchange, status: u16, fault: &Fault) {
    send(exchange, status, &json!({"error": fault}));
}

/// The value of a query parameter, decoded.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let query = request.query.as_deref()?;
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decoded(value)).next()
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

/// `30s`, `500ms`, or a number of seconds.
fn span(text: &str) -> Option<Duration> {
    text.parse::<u64>().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(text).ok())
}

/// A JSON-RPC error for a path that is nobody's.
pub fn nowhere(exchange: &mut Exchange, path: &str) {
    let fault =
        Fault::new(FaultKind::Unknown, format!("nothing is at {}", crate::base::text::shorten(path, 80)))
            .hint("MCP is at /mcp and /mcp/s/<server>");
    let body = envelope::response("null", envelope::Outcome::Error(&fault_error(&fault)));
    exchange.respond(404, &[JSON], &body);
}
