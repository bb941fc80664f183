//! Starting, stopping and restarting: one server, or all of a group at once.

use super::rest::{fail, send, span_parameter};
use crate::base::fault::{Fault, FaultKind};
use crate::base::text::nearest;
use crate::base::time::Time;
use crate::gateway::http::{Exchange, Request};
use crate::gateway::router::{self, Router};
use crate::server::handle::{Report, Server};
use crate::server::machine::Event;
use crate::server::status::{Status, Switching};
use crate::sys::clock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The longest that `?wait=` holds a connection.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(600);

/// How long an answer waits for the supervisor to take up what it was told.
const MOMENT: Duration = Duration::from_millis(200);

/// What was asked of a server, which has been told.
struct Asked {
    server: Arc<Server>,
    before: Arc<Status>,
}

/// Answers 202 with the life that the server has by then; 409 if the state forbids it and only a person can change that.
pub(super) fn one(
    router: &Router,
    server: &Arc<Server>,
    action: &str,
    request: &Request,
    exchange: &mut Exchange,
) {
    let Ok(wait) = span_parameter(request, "wait", exchange) else { return };
    match ask(server, action) {
        Ok(asked) => {
            asked.wait(router, action, wait.is_some(), until(wait));
            send(exchange, 202, &asked.outcome());
        }
        Err(fault) => fail(exchange, 409, &fault),
    }
}

/// All of a group, at once; answers 202 with what came of each, in the order of the config: as for one, or `error`.
pub(super) fn group(router: &Router, name: &str, action: &str, request: &Request, exchange: &mut Exchange) {
    let Ok(wait) = span_parameter(request, "wait", exchange) else { return };
    let all = groups(router);
    let Some(members) = all.get(name) else {
        let near = nearest(name, all.keys().map(String::as_str));
        let hint = near.map_or_else(
            || "GET /api/v1/groups lists them".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let fault = Fault::new(FaultKind::Unknown, format!("no server is in group `{name}`")).hint(hint);
        return fail(exchange, 404, &fault);
    };
    let asked: Vec<(&Arc<Server>, Result<Asked, Fault>)> =
        members.iter().map(|server| (server, ask(server, action))).collect();
    let until = until(wait);
    let servers: Vec<Value> = asked
        .into_iter()
        .map(|(server, asked)| match asked {
            Ok(asked) => {
                asked.wait(router, action, wait.is_some(), until);
                asked.outcome()
            }
            Err(fault) => json!({"name": server.name, "state": server.status().state, "error": fault}),
        })
        .collect();
    send(exchange, 202, &json!({"group": name, "servers": servers}));
}

/// `{"groups":[{"name","servers":[…]}]}`, by name.
pub(super) fn list(router: &Router, exchange: &mut Exchange) {
    let all = groups(router).into_iter().map(|(name, members)| {
        let servers: Vec<&str> = members.iter().map(|server| server.name.as_str()).collect();
        json!({"name": name, "servers": servers})
    });
    send(exchange, 200, &json!({"groups": all.collect::<Vec<_>>()}));
}

fn groups(router: &Router) -> BTreeMap<String, Vec<Arc<Server>>> {
    let mut all: BTreeMap<String, Vec<Arc<Server>>> = BTreeMap::new();
    for server in router.servers.all().iter() {
        for group in &server.status().groups {
            all.entry(group.clone()).or_default().push(server.clone());
        }
    }
    all
}

/// Tells it; refused where the state forbids it.
fn ask(server: &Arc<Server>, action: &str) -> Result<Asked, Fault> {
    let before = server.status();
    // Its entry cannot run as it is written, however often it is started.
    let cannot = before.phase == Some("entry");
    if (action == "restart" && before.state == "disabled") || (action != "disable" && cannot) {
        return Err(router::not_ready(server));
    }
    log::info!("{}: {action} was asked for", server.name);
    for event in events(action, before.state) {
        server.tell(Report::Event(event, None));
    }
    Ok(Asked { server: server.clone(), before })
}

/// Out of patience, the state as it is then is the answer. Without a wait the supervisor still answers within a moment,
/// and the new state is worth that moment.
fn until(wait: Option<Duration>) -> Time {
    clock::now() + wait.map_or(MOMENT, |wait| wait.min(WAIT_MAX))
}

impl Asked {
    /// To its end, or only until it is taken up.
    fn wait(&self, router: &Router, action: &str, to_the_end: bool, until: Time) {
        let Asked { server, before } = self;
        let _ = router.board.wait(until, || {
            if to_the_end {
                return has_come(server, action, before);
            }
            (is_so(action, before.state) || has_moved(&server.status(), before)).then_some(())
        });
    }

    fn outcome(&self) -> Value {
        let now = self.server.status();
        json!({"name": self.server.name, "life": now.life, "state": now.state, "phase": now.phase,
               "switch": now.switch})
    }
}

/// What a server in `state` is told. One that was given up is wanted all along: enabling it means to try again.
fn events(action: &str, state: &str) -> Vec<Event> {
    match action {
        "disable" => vec![Event::Want(false)],
        "enable" if matches!(state, "parked" | "auto_disabled") => vec![Event::Want(true), Event::Restart],
        "enable" => vec![Event::Want(true)],
        _ => vec![Event::Restart],
    }
}

/// Whether nothing will change, because it is as it was asked for.
fn is_so(action: &str, state: &str) -> bool {
    match action {
        "disable" => state == "disabled",
        "enable" => !matches!(state, "disabled" | "parked" | "auto_disabled"),
        _ => false,
    }
}

fn has_moved(now: &Status, before: &Status) -> bool {
    (&now.since, now.state, now.life, now.failures, &now.switch)
        != (&before.since, before.state, before.life, before.failures, &before.switch)
}

/// Whether what was asked for has come about, or cannot any more.
fn has_come(server: &Server, action: &str, before: &Status) -> Option<()> {
    let now = server.status();
    let moved = has_moved(&now, before);
    let done = match action {
        "disable" => now.state == "disabled",
        "enable" => now.is_settled() && (moved || is_so(action, before.state)),
        // Another life, or none at all: a life that just goes on is the one that is to end, unless it serves on because
        // the one that was to take over has failed.
        _ => {
            let failed =
                now.switch.as_ref().is_some_and(Switching::has_failed) && now.switch != before.switch;
            now.is_settled() && moved && (now.life.is_none() || now.life != before.life || failed)
        }
    };
    done.then_some(())
}
