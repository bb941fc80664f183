//! The way back to a client: one JSON body, or a stream of events that ends with the answer.

use super::http::{Exchange, Request};
use super::hub::{Hub, Watch};
use super::open_call::{Heard, OpenCall};
use super::replay::event;
use super::sessions::Session;
use crate::base::fault::{Fault, FaultKind};
use crate::mcp::bridge::RESOURCE_NOT_FOUND;
use crate::mcp::envelope::{self, Outcome};
use crate::server::slot::Answer;
use serde_json::json;
use std::time::Duration;

/// A call that takes longer lends its socket to the hub, which sees the client leave.
const LEND_AFTER: Duration = Duration::from_millis(30);

/// After this a client that lost its stream should try again.
const RETRY_MS: u32 = 1000;

pub const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What the client takes as an answer.
#[derive(Clone, Copy)]
pub struct Accept {
    pub json: bool,
    pub events: bool,
    /// It names events first: it would rather have a stream.
    events_first: bool,
}

impl Accept {
    pub fn of(request: &Request) -> Accept {
        let mut accept = Accept { json: false, events: false, events_first: false };
        let mut silent = true;
        for range in request.headers.get_all("accept").flat_map(|line| line.split(',')) {
            let range = media_type(range);
            let is = |kinds: [&str; 3]| kinds.iter().any(|kind| range.eq_ignore_ascii_case(kind));
            accept.json |= is(["application/json", "application/*", "*/*"]);
            accept.events |= is(["text/event-stream", "text/*", "*/*"]);
            accept.events_first |= accept.events && !accept.json;
            silent = false;
        }
        // Who does not say what it takes gets the plain form.
        Accept { json: accept.json || silent, ..accept }
    }
}

/// Without its parameters.
pub fn media_type(value: &str) -> &str {
    value.split_once(';').map_or(value, |(kind, _)| kind).trim()
}

/// One answer: JSON where the client takes it, else a stream with one event.
pub fn answer(exchange: &mut Exchange, accept: Accept, headers: &[(&str, &str)], body: &[u8]) {
    if accept.json && !accept.events_first {
        let mut all = vec![JSON];
        all.extend_from_slice(headers);
        return exchange.respond(200, &all, body);
    }
    if let Ok(mut events) = exchange.start_events(headers) {
        // A client that has gone hears nothing, and needs nothing.
        let _ = events.write(&event(None, body)).and_then(|()| events.finish());
    }
}

/// A call that was sent, to its end: a plain answer if the server only answers, a stream if it says more before.
pub fn finish(exchange: &mut Exchange, mut call: OpenCall, way: Way<'_>) {
    if way.accept.events_first {
        return stream(exchange, call, way, None);
    }
    let (first, watch) = first(exchange, &mut call, way.accept.events);
    match first {
        // Clients of this era are asked by messages.
        First::Asked => stream(exchange, call, way, None),
        First::Answer(outcome) => {
            drop(watch);
            answer(exchange, way.accept, &[], &answer_body(way.id, way.method, &outcome));
        }
        First::PeerClosed => {
            call.leave();
            exchange.abandon();
        }
        First::Message(message) => {
            drop(watch);
            stream(exchange, call, way, Some(message));
        }
    }
}

/// What decides the form of a reply.
pub(super) enum First {
    Answer(Answer),
    /// The server says more than an answer, to a client that takes events.
    Message(Box<[u8]>),
    /// The server asks something, and its client will come again.
    Asked,
    PeerClosed,
}

/// Waits for it. A client that waits for long is watched meanwhile, without its thread; whoever writes to it drops the
/// watch first.
pub(super) fn first(
    exchange: &mut Exchange,
    call: &mut OpenCall,
    takes_events: bool,
) -> (First, Option<Watch>) {
    let mut heard = call.wait(Some(LEND_AFTER));
    let mut watch = None;
    if matches!(heard, Heard::Quiet) {
        let slot = call.slot().clone();
        watch = Some(exchange.watch_close(Box::new(move || slot.peer_closed())));
    }
    loop {
        match heard {
            Heard::Answer(answer) => return (First::Answer(answer), watch),
            Heard::Asked => return (First::Asked, watch),
            Heard::PeerClosed => return (First::PeerClosed, watch),
            Heard::Message(message) if takes_events => return (First::Message(message), watch),
            Heard::Message(_) => call.refuse_questions(),
            Heard::Quiet => (),
        }
        heard = call.wait(None);
    }
}

/// Whom an answer goes to, and in what form.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    pub session: &'a Session,
    pub hub: &'a Hub,
    pub accept: Accept,
    /// The request's id, raw, and its method.
    pub id: &'a str,
    pub method: &'a str,
}

/// The rest of a call whose server says more than an answer. A client that loses the stream may go on with it: the
/// call is waited for all the same, and what it says is kept.
fn stream(exchange: &mut Exchange, mut call: OpenCall, way: Way<'_>, first: Option<Box<[u8]>>) {
    let Way { session, hub, .. } = way;
    let Ok(mut events) = exchange.start_events(&[]) else { return call.leave() };
    let (number, start) = session.begin_post();
    let mut lost = session.version >= "2025-11-25" && events.write(priming(&start).as_bytes()).is_err();
    let mut heard = first.map_or(Heard::Quiet, Heard::Message);
    loop {
        let (message, done) = match heard {
            Heard::Message(message) => (message.into_vec(), false),
            Heard::Answer(outcome) => (answer_body(way.id, way.method, &outcome), true),
            Heard::PeerClosed => {
                lost = true;
                heard = call.wait(None);
                continue;
            }
            Heard::Asked | Heard::Quiet => {
                heard = call.wait(None);
                continue;
            }
        };
        let event = session.say_on_post(hub, number, &message);
        lost = lost || events.write(&event).is_err();
        if done {
            break;
        }
        heard = call.wait(None);
    }
    session.end_post(hub, number, !lost);
    if !lost {
        // All was written: without the end of the stream its client has the answer, too.
        let _ = events.finish();
    }
}

/// The event that a client can go on from before anything was said.
fn priming(id: &str) -> String {
    format!("id: {id}\nretry: {RETRY_MS}\ndata: \n\n")
}

/// Waits for a call whose client takes nothing but the answer.
pub fn only_answer(mut call: OpenCall) -> Answer {
    loop {
        match call.wait(None) {
            Heard::Answer(outcome) => return outcome,
            Heard::Message(_) => call.refuse_questions(),
            Heard::Asked | Heard::PeerClosed | Heard::Quiet => (),
        }
    }
}

pub fn answer_body(id: &str, method: &str, answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Result(raw) => envelope::response(id, Outcome::Result(raw)),
        Answer::Error(raw) => envelope::response(id, Outcome::Error(raw)),
        Answer::Fault(fault) => envelope::response(id, Outcome::Error(&fault_error(method, fault))),
    }
}

/// A fault of ours as a JSON-RPC error; `data.kind` is what programs look at.
pub fn fault_error(method: &str, fault: &Fault) -> String {
    let code = match fault.kind == FaultKind::Unknown {
        true if method.starts_with("resources/") => RESOURCE_NOT_FOUND,
        true => envelope::INVALID_PARAMS,
        false => envelope::INTERNAL_ERROR,
    };
    let mut data = json!({"kind": fault.kind.name(), "hint": fault.hint});
    if let Some(span) = fault.retry_in {
        data["retry_after_ms"] = json!(span.as_millis() as u64);
    }
    envelope::error_object(code, &fault.to_string(), Some(&data))
}

/// A refusal at the level of HTTP, with a JSON-RPC error as its body.
pub fn refuse(exchange: &mut Exchange, status: u16, fault: &Fault) {
    let body = envelope::response("null", Outcome::Error(&fault_error("", fault)));
    // HTTP wants a 401 to say how to do better; other statuses need no more headers.
    let headers = [JSON, ("WWW-Authenticate", "Bearer")];
    exchange.respond(status, if status == 401 { &headers } else { &headers[..1] }, &body);
}
