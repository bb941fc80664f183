//! `POST /api/v1/reconnect`: bring servers back now, and say of each how it went. What is done with a server is for
//! `server/reconnect.rs`; here is who is meant, how long is waited, and the sums.

use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::base::limits::RECONNECT_REASON_MAX;
use crate::base::text::{self, shorten};
use crate::base::time::Time;
use crate::engine::endpoint::Endpoint;
use crate::gateway::router::{self, Router};
use crate::server::handle::{Report, Server};
use crate::server::reconnect::{Ask, Course, Reconnected, Scope, ms};
use crate::server::registry::Registry;
use crate::sys::clock;
use crossbeam_channel::{Receiver, bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The body: at most one of `servers`, `all`, `engine`. Nothing is all engines.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Body {
    servers: Option<Vec<String>>,
    all: bool,
    /// `true`, or the endpoint of one engine.
    engine: Value,
    reason: String,
}

/// What is asked for.
#[derive(Debug, PartialEq)]
pub struct Wish {
    pub scope: Scope,
    pub reason: String,
}

/// How it went.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// As it was given.
    reason: String,
    duration_ms: u64,
    totals: Totals,
    /// In the order of the config.
    results: Vec<Reconnected>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    servers: usize,
    ok: usize,
    failed: usize,
    pending: usize,
    skipped: usize,
}

/// A wish that cannot be granted: its HTTP status, and why.
pub type Refused = (u16, Fault);

impl Wish {
    /// From the body of a request; names as the config has them.
    pub fn read(body: &[u8], servers: &Registry) -> Result<Wish, Refused> {
        let wrong = |why: &str| {
            let fault = Fault::new(FaultKind::BadConfig, format!("the body is not understood: {why}"));
            (400, fault.hint("{\"servers\":[\"name\"]}, {\"all\":true} or {\"engine\":true}, and \"reason\""))
        };
        let body = match body.trim_ascii() {
            [] => Body::default(),
            text => serde_json::from_slice(text).map_err(|error| wrong(&error.to_string()))?,
        };
        let engine = match &body.engine {
            Value::Null | Value::Bool(false) => None,
            Value::Bool(true) => Some(None),
            Value::String(text) => Some(Some(Endpoint::parse(text).map_err(|fault| (400, fault))?)),
            Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err(wrong("`engine` is neither true nor an endpoint"));
            }
        };
        let scope = match (body.servers, body.all, engine) {
            (None, true, None) => Scope::All,
            (None, false, engine) => {
                let engine = engine.flatten();
                known_engine(engine.as_ref(), servers)?;
                Scope::Engine(engine)
            }
            (Some(names), false, None) => Scope::Named(found(&names, servers)?),
            _ => return Err(wrong("`servers`, `all` and `engine` exclude each other")),
        };
        Ok(Wish { scope, reason: shorten(body.reason.trim(), RECONNECT_REASON_MAX) })
    }
}

/// All names, or the first that nobody has: nothing is done then.
fn found(names: &[String], servers: &Registry) -> Result<Vec<ServerName>, Refused> {
    let find = |name: &String| match servers.find(name) {
        Some(server) => Ok(server.name.clone()),
        None => Err((404, router::unknown_server(servers, name))),
    };
    names.iter().map(find).collect()
}

fn known_engine(endpoint: Option<&Endpoint>, servers: &Registry) -> Result<(), Refused> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let mut known: Vec<Endpoint> =
        servers.all().iter().filter_map(|server| server.status().engine.clone()).collect();
    if known.contains(endpoint) {
        return Ok(());
    }
    known.sort();
    known.dedup();
    let known: Vec<String> = known.iter().map(Endpoint::to_string).collect();
    let fault = Fault::new(FaultKind::Unknown, format!("no server lives on engine {endpoint}"));
    Err((
        404,
        fault.hint(match known.as_slice() {
            [] => "no server lives on an engine".to_owned(),
            known => format!("in use: {}", known.join(", ")),
        }),
    ))
}

/// Tells all who are meant, then waits for each, `wait` for all together.
pub fn carry_out(wish: Wish, router: &Router, wait: Duration) -> Outcome {
    let begun = clock::now();
    let named = wish.scope.is_named();
    let all = router.servers.all();
    let meant = all.iter().filter(|server| {
        let status = server.status();
        wish.scope.covers(&server.name, status.engine.as_ref())
    });
    let open: Vec<Open> = meant.map(|server| Open::begin(server, named)).collect();
    let names: Vec<&str> = open.iter().map(|one| one.server.name.as_str()).collect();
    let why = if wish.reason.is_empty() { String::new() } else { format!(": {}", wish.reason) };
    log::info!(
        "asked to reconnect {}{why}",
        if names.is_empty() { "nobody".into() } else { names.join(", ") }
    );
    let results: Vec<Reconnected> = open.into_iter().map(|one| one.end(begun, begun + wait)).collect();
    let totals = Totals::of(&results);
    let duration = clock::now() - begun;
    if totals.servers > totals.skipped {
        let Totals { ok, failed, pending, skipped, .. } = totals;
        let took = text::span(duration);
        log::info!("reconnected: {ok} ok, {failed} failed, {pending} pending, {skipped} skipped in {took}");
    }
    Outcome { reason: wish.reason, duration_ms: ms(duration), totals, results }
}

impl Totals {
    fn of(results: &[Reconnected]) -> Totals {
        let count = |outcome: &str| results.iter().filter(|one| one.outcome == outcome).count();
        Totals {
            servers: results.len(),
            ok: count("ok"),
            failed: count("failed"),
            pending: count("pending"),
            skipped: count("skipped"),
        }
    }
}

/// One server that was told.
struct Open<'a> {
    server: &'a Arc<Server>,
    state_before: &'static str,
    course: Course,
    answer: Receiver<Reconnected>,
}

impl<'a> Open<'a> {
    fn begin(server: &'a Arc<Server>, named: bool) -> Open<'a> {
        let before = server.status();
        let course = Course::of(before.state, before.phase.unwrap_or_default(), named);
        let (sender, answer) = bounded(1);
        server.tell(Report::Reconnect(Ask { named, answer: sender }));
        Open { server, state_before: before.state, course, answer }
    }

    fn end(self, begun: Time, deadline: Time) -> Reconnected {
        match self.answer.recv_deadline(clock::instant(deadline)) {
            Ok(reconnected) => reconnected,
            // Out of patience; or its supervisor has ended, or has too many who ask.
            Err(_) => self.pending(clock::now() - begun),
        }
    }

    fn pending(self, waited: Duration) -> Reconnected {
        let now = self.server.status();
        let message = format!("{} is {} after {}", self.server.name, now.state, text::span(waited));
        let fault = Fault::new(FaultKind::NotReady, message).hint("it goes on: see mcpvisor status");
        Reconnected {
            name: self.server.name.clone(),
            action: self.course.word(),
            outcome: "pending",
            state_before: self.state_before,
            state_after: now.state,
            skipped: None,
            duration_ms: ms(waited),
            error: Some(fault),
        }
    }
}
