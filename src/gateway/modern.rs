//! The era of 2026-07-28 over HTTP: requests that stand alone. No session is opened or looked for; who asks, and what
//! it can, is in each request; a client that closes the connection has cancelled.
//!
//! Era, version and standard headers were judged by `mcp::era` before a request comes here. What is left: whether the
//! method exists, the headers that repeat arguments, and the answer.
//!
//! A legacy server may ask something in the middle of a call. The call is held then (`held`), and the client hears of it
//! in a result; the request that brings its answers goes on with that call.

use super::access;
use super::catalogue::Catalogue;
use super::crossing::Caller;
use super::freshness;
use super::held::{HeldCall, Ticket};
use super::http::{Exchange, Request};
use super::listeners::Wanted;
use super::methods::{Begun, Methods, own_info};
use super::open_call::{Heard, OpenCall};
use super::replay::event;
use super::reply::{self, Accept, First, JSON, answer, fault_error};
use super::router;
use super::sessions::{Mount, Visit, Visitor};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::base::limits::SUBSCRIPTIONS_MAX;
use crate::mcp::bridge;
use crate::mcp::envelope::{self, INVALID_PARAMS, METHOD_NOT_FOUND, Outcome};
use crate::mcp::era::{self, Era, Refusal};
use crate::mcp::features::{self, Level};
use crate::mcp::held::{self, Owner, State};
use crate::mcp::input;
use crate::mcp::items::{Kind, LISTENED};
use crate::mcp::meta::{self, Asker};
use crate::mcp::params::{self, Address};
use crate::mcp::{mirrored, scan};
use crate::server::handle::Server;
use crate::server::slot::{Answer, Question};
use crate::sys::clock;
use std::sync::Arc;

/// One request of the era.
pub struct Post<'a> {
    pub methods: &'a Methods,
    pub mount: &'a Mount,
    pub request: &'a Request,
    /// A message of stdio has no headers of its own.
    pub over_http: bool,
    pub accept: Accept,
    pub id: &'a str,
    pub method: &'a str,
    pub params: &'a str,
}

/// A call on its way, and what was given out for it if it was held before.
struct Leg {
    call: OpenCall,
    visit: Visit,
    ticket: Option<Ticket<HeldCall>>,
}

/// What is read of `_meta`; the era has seen to it that the capabilities are there.
fn asker(params: &str) -> Asker<'_> {
    Asker {
        capabilities: meta::get(params, meta::CLIENT_CAPABILITIES).unwrap_or("{}"),
        info: meta::get(params, meta::CLIENT_INFO),
        log_level: meta::get(params, meta::LOG_LEVEL),
    }
}

impl Post<'_> {
    pub fn serve(&self, exchange: &mut Exchange) {
        if !Era::Modern.has(self.method) {
            return self.refuse(exchange, &era::unknown_method(self.method));
        }
        if self.method == "subscriptions/listen" {
            return self.listen(exchange);
        }
        if let Err(refusal) = self.check_arguments() {
            return self.refuse(exchange, &refusal);
        }
        match self.come_again() {
            Some(Ok(Again::Leg(leg))) => return self.finish(exchange, *leg),
            Some(Ok(Again::Unfinished(result))) => return self.succeed(exchange, &result),
            Some(Err(fault)) => return self.fail(exchange, &self.error_of(&fault)),
            None => (),
        }
        let visit = self.methods.sessions.visit(self.visitor());
        let number = visit.number;
        // While its server starts, nobody else sees the client leave.
        let watch = self.may_wait().then(|| {
            let (router, id) = (self.methods.router.clone(), self.id.to_owned());
            exchange.watch_close(Box::new(move || router.cancel(number, &id, None)))
        });
        let begun = self.begin(number);
        drop(watch);
        match begun {
            Begun::Done(Ok(result)) => self.succeed(exchange, &result),
            Begun::Done(Err(error)) => self.fail(exchange, &error),
            Begun::Sent(call) => self.finish(exchange, Leg { call: *call, visit, ticket: None }),
        }
    }

    fn visitor(&self) -> Visitor {
        let asker = asker(self.params);
        let level = asker.log_level.and_then(scan::string).and_then(|name| Level::of_name(&name));
        let capabilities = input::may_ask(self.method).then(|| features::carried(asker.capabilities).into());
        let principal = access::principal(self.request).into();
        Visitor { level, capabilities, principal }
    }

    /// The request's progress token, raw.
    fn token(&self) -> Option<Box<str>> {
        params::progress_token(self.params).map(|span| self.params[span].into())
    }

    fn owner(&self) -> Owner {
        let mount = match self.mount {
            Mount::All => "",
            Mount::One(name) => name.as_str(),
        };
        let principal = format!("{mount} {}", access::principal(self.request)).into();
        Owner { principal, request: held::digest_of(self.method, self.params) }
    }

    /// The call that this request goes on with, if it brings a `requestState` that was given out for one.
    fn come_again(&self) -> Option<Result<Again, Fault>> {
        let state = &self.params[scan::find(self.params, "requestState")?];
        let state = State::opened(state, &self.methods.router.sealer)?;
        let owner = self.owner();
        let (ticket, HeldCall { mut call, visit, questions }) = match self.methods.held.resume(state, &owner)
        {
            Ok(held) => held,
            Err(refused) => return Some(Err(router::bad_state(refused.reason()))),
        };
        visit.again(self.visitor());
        call.reopen(self.token());
        let given = |number, question: &Question| {
            input::answered(self.params, &input::key(&question.method, number + 1))
        };
        let left = call.go_on(visit.number, questions, given);
        let leg = Leg { call, visit, ticket: Some(ticket) };
        if left.is_empty() || leg.call.is_over() {
            return Some(Ok(Again::Leg(Box::new(leg))));
        }
        // What is missing is asked for again.
        Some(Ok(match self.hold(leg, left) {
            Ok(result) => Again::Unfinished(result),
            Err(leg) => Again::Leg(leg),
        }))
    }

    /// Holds a call until its client comes again: what the client is told. A call that cannot be held goes on, and what
    /// its server has asked is refused.
    fn hold(&self, leg: Leg, questions: Vec<Question>) -> Result<String, Box<Leg>> {
        let Leg { call, visit, mut ticket } = leg;
        let asked: Vec<(String, String)> = (questions.iter().enumerate())
            .filter(|(_, question)| question.missing.is_none())
            .map(|(number, Question { method, params, .. })| {
                (input::key(method, number + 1), input::to_modern(method, params.as_deref()))
            })
            .collect();
        let info = call.server_info().map(ToOwned::to_owned);
        let until = call.input_deadline();
        call.hold();
        let held = HeldCall { call, visit, questions };
        match self.methods.held.hold(self.owner(), &mut ticket, held, until) {
            Ok(state) => {
                let state = state.sealed(&self.methods.router.sealer);
                let asked = asked.iter().map(|(key, question)| (key.as_str(), question.as_str()));
                Ok(input::unfinished(asked, &state, info.as_deref()))
            }
            Err((full, HeldCall { call, visit, questions })) => {
                call.reopen(self.token());
                call.refuse(&questions, full.reason());
                Err(Box::new(Leg { call, visit, ticket }))
            }
        }
    }

    fn begin(&self, visit: u64) -> Begun {
        let Post { methods, mount, id, method, params, .. } = *self;
        let own_info = own_info();
        Begun::Done(match (method, mount) {
            ("server/discover", _) => Ok(methods.discover(mount)),
            ("tools/call" | "prompts/get" | "resources/read" | "completion/complete", _)
            | (_, Mount::One(_)) => {
                let shown_info = (*mount == Mount::All).then_some(own_info.as_str());
                let caller = Caller { era: Era::Modern, asker: asker(params), shown_info };
                let (session, era) = (visit, Some(Era::Modern));
                let request =
                    router::Request { mount, session, id, method, params, era, patience: None, caller };
                match methods.router.open(&request) {
                    Ok(call) => return Begun::Sent(Box::new(call)),
                    Err(fault) => Err(self.error_of(&fault)),
                }
            }
            (_, Mount::All) => match Kind::of_method(method) {
                Some(kind) => {
                    // Before the list is made: what is said of it must hold of the older of two.
                    let caching = freshness::of_all(&methods.router.servers.all(), kind, clock::now());
                    methods
                        .list(kind, params, Era::Modern)
                        .map(|list| meta::result_to_keep(method, &list, caching, Some(&own_info)))
                }
                None => Err(era::unknown_method(method).error()),
            },
        })
    }

    /// Whether a server that this may be for is still starting.
    fn may_wait(&self) -> bool {
        let servers = self.methods.router.servers.all();
        servers.iter().any(|server| self.mount.shows(&server.name) && server.link().is_none())
    }

    /// A call that was sent, to its end: one answer, or a stream if the server says more before.
    fn finish(&self, exchange: &mut Exchange, mut leg: Leg) {
        loop {
            let (first, watch) = reply::first(exchange, &mut leg.call, self.accept.events);
            match first {
                First::Answer(answer) => {
                    drop(watch);
                    // Before its client can come again.
                    leg.ticket = None;
                    return self.answer(exchange, &answer);
                }
                First::PeerClosed => {
                    leg.call.cancel(CLOSED);
                    return exchange.abandon();
                }
                First::Message(message) => {
                    drop(watch);
                    return self.stream(exchange, leg, message);
                }
                First::Asked => {
                    // Who watches now would be heard by the request after this one.
                    drop(watch);
                    let questions = leg.call.take_questions();
                    match self.hold(leg, questions) {
                        Ok(result) => return self.succeed(exchange, &result),
                        Err(back) => leg = *back,
                    }
                }
            }
        }
    }

    /// The rest of a call whose server says more than an answer.
    fn stream(&self, exchange: &mut Exchange, mut leg: Leg, first: Box<[u8]>) {
        let Ok(mut events) = exchange.start_events(&[]) else { return leg.call.cancel(CLOSED) };
        let slot = leg.call.slot().clone();
        let closed = || {
            let slot = slot.clone();
            Box::new(move || slot.peer_closed())
        };
        let mut watch = events.watch_close(closed());
        let mut heard = Heard::Message(first);
        let body = loop {
            match heard {
                Heard::Message(message) => {
                    if events.write(&event(None, &message)).is_err() {
                        return leg.call.cancel(CLOSED);
                    }
                }
                Heard::Answer(answer) => {
                    break match self.outcome(&answer) {
                        Ok(result) => envelope::response(self.id, Outcome::Result(result)),
                        Err(error) => envelope::response(self.id, Outcome::Error(&error)),
                    };
                }
                Heard::Asked => {
                    drop(watch);
                    let questions = leg.call.take_questions();
                    match self.hold(leg, questions) {
                        Ok(result) => break envelope::response(self.id, Outcome::Result(&result)),
                        Err(back) => leg = *back,
                    }
                    watch = events.watch_close(closed());
                }
                Heard::PeerClosed => return leg.call.cancel(CLOSED),
                Heard::Quiet => (),
            }
            heard = leg.call.wait(None);
        };
        // A client that has gone hears nothing, and needs nothing.
        let _ = events.write(&event(None, &body)).and_then(|()| events.finish());
    }

    fn answer(&self, exchange: &mut Exchange, given: &Answer) {
        match self.outcome(given) {
            Ok(result) => self.succeed(exchange, result),
            Err(error) => self.fail(exchange, &error),
        }
    }

    fn succeed(&self, exchange: &mut Exchange, result: &str) {
        answer(exchange, self.accept, &[], &envelope::response(self.id, Outcome::Result(result)));
    }

    fn outcome<'r>(&self, answer: &'r Answer) -> Result<&'r str, String> {
        match answer {
            Answer::Result(raw) => Ok(raw),
            Answer::Error(raw) => Err(raw.to_string()),
            Answer::Fault(fault) => Err(self.error_of(fault)),
        }
    }

    /// A fault of ours as this era's error: a resource that nobody has is a wrong parameter here.
    fn error_of(&self, fault: &Fault) -> String {
        let error = fault_error(self.method, fault);
        let eras = (Era::Legacy, Era::Modern);
        match bridge::error(self.method, self.params, &error, eras, "{}") {
            bridge::Crossed::Result(text) | bridge::Crossed::Error(text) => text.into_owned(),
        }
    }

    /// An error, with the status that its code has over HTTP.
    fn fail(&self, exchange: &mut Exchange, error: &str) {
        let body = envelope::response(self.id, Outcome::Error(error));
        match status_of(error) {
            200 => answer(exchange, self.accept, &[], &body),
            status => exchange.respond(status, &[JSON], &body),
        }
    }

    fn refuse(&self, exchange: &mut Exchange, refusal: &Refusal) {
        exchange.respond(
            refusal.status,
            &[JSON],
            &envelope::response(self.id, Outcome::Error(&refusal.error())),
        );
    }

    fn refuse_status(&self, exchange: &mut Exchange, status: u16, fault: &Fault) {
        let error = envelope::response(self.id, Outcome::Error(&self.error_of(fault)));
        exchange.respond(status, &[JSON], &error);
    }

    /// The headers that repeat arguments, against the tool's schema as we know it.
    fn check_arguments(&self) -> Result<(), Refusal> {
        if !(self.over_http && self.method == "tools/call") {
            return Ok(());
        }
        let Some(name) = params::text(self.params, "name") else { return Ok(()) };
        let Some((server, tool)) = self.tool(&name) else { return Ok(()) };
        let Some(schema) = scan::find(&tool, "inputSchema").map(|span| &tool[span]) else { return Ok(()) };
        let arguments = scan::find(self.params, "arguments").map_or("{}", |span| &self.params[span]);
        match mirrored::mismatch(schema, arguments, |header| self.request.header(header)) {
            Some(message) => {
                // Or the client knows the tool better than we do: who is refused so lists the tools and tries again.
                server.list_if_doubted(Kind::Tools, clock::now());
                Err(Refusal::mismatch(message))
            }
            None => Ok(()),
        }
    }

    /// A tool's definition, if it is known, and its server.
    fn tool(&self, name: &str) -> Option<(Arc<Server>, Box<str>)> {
        match self.mount {
            Mount::All => {
                let catalogue: Arc<Catalogue> = self.methods.router.catalogue();
                catalogue.find(Kind::Tools, name).map(|entry| (entry.server.clone(), entry.item.raw.clone()))
            }
            Mount::One(server) => {
                let server = self.methods.server(server.as_str()).ok()?;
                let tools = server.known().list(Kind::Tools)?;
                tools.iter().find(|tool| tool.key == name).map(|tool| (server, tool.raw.clone()))
            }
        }
    }

    /// A stream for what the client asks to hear of, kept by the hub without a thread.
    fn listen(&self, exchange: &mut Exchange) {
        let asked = scan::find(self.params, "notifications").map(|span| &self.params[span]);
        let Some(asked) = asked.filter(|asked| asked.starts_with('{')) else {
            let message = "invalid params: `notifications` says what to listen to";
            return self.refuse(
                exchange,
                &Refusal { status: 400, code: INVALID_PARAMS, message: message.to_owned(), data: None },
            );
        };
        if !self.accept.events {
            let fault = Fault::new(FaultKind::Unknown, "Accept must name text/event-stream");
            return self.refuse_status(exchange, 406, &fault);
        }
        let (wanted, acknowledged) = self.honoured(asked);
        let Methods { interest, hub, router, .. } = self.methods;
        let alone = |(server, uri): &&(ServerName, String)| !interest.is_shared(server, uri, None);
        let fresh: Vec<(ServerName, String)> = wanted.resources.iter().filter(alone).cloned().collect();
        let number = interest.listeners.add(self.mount, self.id, wanted);
        let on_close = {
            let (interest, servers) = (interest.clone(), router.servers.clone());
            Box::new(move || {
                interest.release(&servers, interest.listeners.remove(number));
                interest.sessions.used(clock::now());
            })
        };
        let Ok(stream) = exchange.hand_over(&[], on_close) else {
            interest.listeners.remove(number);
            let fault =
                Fault::new(FaultKind::Busy, "too many event streams are open").hint("try again later");
            return self.refuse_status(exchange, 503, &fault);
        };
        interest.listeners.begin(hub, number, stream, &acknowledged);
        for (name, uri) in fresh {
            if let Some(server) = router.servers.find(name.as_str()) {
                interest.subscribe(&server, &uri);
            }
        }
    }

    /// The part of a filter that can be honoured here, and the params that say so.
    fn honoured(&self, asked: &str) -> (Wanted, String) {
        let is_true = |key: &str| scan::find(asked, key).is_some_and(|span| &asked[span] == "true");
        let mut wanted = Wanted::default();
        let mut said = Vec::new();
        for (key, kind) in LISTENED {
            if is_true(key) && self.offers(kind.capability()) {
                wanted.lists.insert(kind.changed());
                said.push(format!("\"{key}\":true"));
            }
        }
        if let Some(span) = scan::find(asked, "resourceSubscriptions") {
            let list = &asked[span];
            let mut uris = Vec::new();
            // What is no array names no resource.
            let _ = scan::array(list, |span| {
                let raw = &list[span];
                let Some(uri) = scan::string(raw).filter(|_| uris.len() < SUBSCRIPTIONS_MAX) else { return };
                if let Some(owner) = self.subscribable(&uri) {
                    wanted.resources.insert((owner, uri));
                    uris.push(raw.to_owned());
                }
            });
            said.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        (wanted, format!("{{\"notifications\":{{{}}}}}", said.join(",")))
    }

    /// Whether lists of this capability can change here; a server that has not said so yet may offer it.
    fn offers(&self, capability: &str) -> bool {
        let Mount::One(name) = self.mount else { return true };
        let greeting = self.methods.server(name.as_str()).ok().and_then(|server| server.known().greeting);
        greeting.is_none_or(|greeting| greeting.has(capability))
    }

    /// Whose the resource is, if its server tells of changes.
    fn subscribable(&self, uri: &str) -> Option<ServerName> {
        let server = match self.mount {
            Mount::One(name) => self.methods.server(name.as_str()).ok()?,
            Mount::All => {
                let address = Address { kind: Kind::Resources, key: uri.to_owned(), span: 0..0 };
                self.methods.router.addressed(address).ok()?.0
            }
        };
        let greeting = server.known().greeting;
        greeting.is_none_or(|greeting| greeting.can("resources", "subscribe")).then(|| server.name.clone())
    }
}

/// What becomes of a request that comes with answers.
enum Again {
    Leg(Box<Leg>),
    /// Some of them are missing: a result that says so.
    Unfinished(String),
}

/// Why a call was cancelled, as JSON.
const CLOSED: &str = "\"the client closed the connection\"";

/// The status of an answer that is this error.
fn status_of(error: &str) -> u16 {
    let code = scan::find(error, "code").and_then(|span| error[span].parse::<i64>().ok());
    match code {
        Some(METHOD_NOT_FOUND) => 404,
        Some(era::HEADER_MISMATCH | era::MISSING_CAPABILITY | era::UNSUPPORTED_VERSION) => 400,
        _ => 200,
    }
}
