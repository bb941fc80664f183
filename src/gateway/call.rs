//! One call of one tool: finding its server, waiting for it to be ready, sending, and waiting for the answer.
//!
//! Every call gets exactly one answer: whoever removes it from the link's pending calls gives it.

use super::catalogue::{Cache, Catalogue};
use super::sessions::Mount;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::CALL_TOTAL_MAX;
use crate::base::text;
use crate::base::time::Time;
use crate::mcp::calls::NewCall;
use crate::mcp::envelope;
use crate::mcp::tools::{self, CallParams};
use crate::server::board::Board;
use crate::server::handle::Server;
use crate::server::link::{Link, Waiter};
use crate::server::registry::Registry;
use crate::server::slot::{Answer, Slot, Word};
use crate::sys::clock;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What callers need of the running daemon.
pub struct Router {
    pub servers: Arc<Registry>,
    pub board: Board,
    pub cache: Cache,
    pub early: Early,
}

/// Calls whose server is still starting: no link knows them yet, and their clients may cancel all the same. At most
/// one per connection.
#[derive(Debug, Default)]
pub struct Early(Mutex<Vec<Arc<Awaiting>>>);

#[derive(Debug)]
struct Awaiting {
    session: u64,
    id: Box<str>,
    cancelled: AtomicBool,
}

impl Early {
    fn add(&self, request: &Request<'_>) -> EarlyCall<'_> {
        let (session, id) = (request.session, request.id.into());
        let call = Arc::new(Awaiting { session, id, cancelled: AtomicBool::new(false) });
        self.0.lock().push(call.clone());
        EarlyCall { all: self, call }
    }

    fn cancel(&self, concerned: impl Fn(&Awaiting) -> bool) {
        let calls = self.0.lock();
        calls
            .iter()
            .filter(|call| concerned(call))
            .for_each(|call| call.cancelled.store(true, Ordering::Release));
    }
}

/// A call's place among the early ones, left when dropped.
struct EarlyCall<'a> {
    all: &'a Early,
    call: Arc<Awaiting>,
}

impl EarlyCall<'_> {
    fn is_cancelled(&self) -> bool {
        self.call.cancelled.load(Ordering::Acquire)
    }
}

impl Drop for EarlyCall<'_> {
    fn drop(&mut self) {
        self.all.0.lock().retain(|call| !Arc::ptr_eq(call, &self.call));
    }
}

/// One `tools/call` as a client sent it.
pub struct Request<'a> {
    pub mount: &'a Mount,
    /// The session's number; 0 for the REST API.
    pub session: u64,
    /// The request's id, raw.
    pub id: &'a str,
    pub params: &'a str,
    /// The caller's own patience, if it is less than the server's.
    pub patience: Option<Duration>,
}

/// A call that was sent and waits. Dropping it gives the call up without telling the server.
pub struct OpenCall {
    link: Arc<Link>,
    id: CallId,
    slot: Slot,
    deadline: Time,
    /// However often progress moves the deadline.
    latest: Time,
    patience: Duration,
    server: Arc<Server>,
    done: bool,
}

/// What a waiting caller hears next.
#[derive(Debug)]
pub enum Heard {
    Progress(Box<str>),
    Answer(Answer),
    PeerClosed,
    /// Nothing within the time given.
    Quiet,
}

impl Router {
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.cache.get(&self.servers, self.board.lists())
    }

    /// Finds the server, waits until it is ready (within its call deadline), and sends.
    pub fn open(&self, request: &Request<'_>) -> Result<OpenCall, Fault> {
        let call = tools::call_params(request.params);
        let Some((name, span)) = call.name.clone() else {
            return Err(Fault::new(FaultKind::Unknown, "tools/call: params have no string `name`"));
        };
        let (server, own_name) = self.target(request.mount, &name)?;
        let opened = clock::now();
        let deadline = opened + server.call_patience;
        let until = request.patience.map_or(deadline, |own| deadline.min(opened + own));
        let early = server.link().is_none().then(|| self.early.add(request));
        let is_cancelled = || early.as_ref().is_some_and(EarlyCall::is_cancelled);
        let slot = Slot::default();
        let token: Option<Box<str>> = call.progress_token.clone().map(|span| request.params[span].into());
        let new = NewCall {
            session: request.session,
            request: Some(request.id.into()),
            opened,
            deadline,
            patience: server.call_patience,
            wants_progress: token.is_some(),
        };
        let rename = own_name.map(|own| (span, envelope::quote(&own)));
        let params = |id: CallId| Some(rewritten(request.params, &call, rename.as_ref(), id));
        loop {
            let link = self.ready_link(&server, until, is_cancelled)?;
            let waiter = Waiter::Caller { slot: slot.clone(), token: token.clone() };
            match link.call(new.clone(), waiter, "tools/call", params) {
                Ok(id) => {
                    if is_cancelled() {
                        // The cancellation came just before the link knew the call; the slot hears of it like any other.
                        link.cancel(request.session, request.id, None);
                    }
                    let (patience, latest) = (server.call_patience, opened + CALL_TOTAL_MAX);
                    return Ok(OpenCall { link, id, slot, deadline, latest, patience, server, done: false });
                }
                // That life was being stopped while we turned to it, and nothing was sent: the next one is waited for.
                Err(fault) if fault.kind == FaultKind::Stopped && !is_current(&server, &link) => (),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The server that `name` belongs to, and the tool's own name where that is another one.
    fn target(&self, mount: &Mount, name: &str) -> Result<(Arc<Server>, Option<String>), Fault> {
        match mount {
            Mount::One(server) => match self.servers.find(server) {
                Some(server) => Ok((server, None)),
                None => Err(unknown_server(&self.servers, server)),
            },
            Mount::All => {
                let catalogue = self.catalogue();
                if let Some(entry) = catalogue.find(name) {
                    return Ok((entry.server.clone(), Some(entry.tool.name.clone())));
                }
                // A server in its first start has listed nothing yet: its prefix is all that is known of it.
                if let Some((server, tool)) = self.coming(name) {
                    return Ok((server, Some(tool)));
                }
                Err(self.unknown_tool(&catalogue, name))
            }
        }
    }

    fn coming(&self, name: &str) -> Option<(Arc<Server>, String)> {
        let all = self.servers.all();
        let first_start =
            |server: &&Arc<Server>| server.known().tools.is_none() && server.status().is_coming();
        all.iter().filter(first_start).find_map(|server| {
            let tool = name.strip_prefix(server.slug.as_str())?.strip_prefix("__")?;
            Some((server.clone(), tool.to_owned()))
        })
    }

    fn unknown_tool(&self, catalogue: &Catalogue, name: &str) -> Fault {
        let shown = text::shorten(name, 80);
        // A tool of a server that is down, or never was up, is not unknown: say why the server is down.
        let down = self.servers.all().iter().find_map(|server| {
            let of_it = name.strip_prefix(server.slug.as_str()).is_some_and(|rest| rest.starts_with("__"));
            let listed = server.is_offered() && server.known().tools.is_some();
            (of_it && !listed).then(|| not_ready(server))
        });
        if let Some(fault) = down {
            return fault;
        }
        let fault = Fault::new(FaultKind::Unknown, format!("no server has a tool `{shown}`"));
        match text::nearest(name, catalogue.names()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint("tools are named `server__tool`; tools/list shows them"),
        }
    }

    /// Waits while the server is on its way; a server that is down says why at once.
    fn ready_link(
        &self,
        server: &Arc<Server>,
        deadline: Time,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Arc<Link>, Fault> {
        if let Some(link) = server.link() {
            return Ok(link);
        }
        let settled = || match server.link() {
            _ if is_cancelled() => Some(Err(Fault::new(FaultKind::Cancelled, "cancelled by the client"))),
            Some(link) => Some(Ok(link)),
            None => (!server.status().is_coming() && server.status().state != "ready")
                .then(|| Err(not_ready(server))),
        };
        self.board.wait(deadline, settled).unwrap_or_else(|| Err(not_ready(server)))
    }
}

impl Router {
    /// Ends the request `id` of a session, wherever it waits.
    pub fn cancel(&self, session: u64, id: &str, reason: Option<&str>) {
        self.cancel_early(|call| call.session == session && *call.id == *id);
        for server in self.servers.all().iter() {
            if server.link().is_some_and(|link| link.cancel(session, id, reason)) {
                return;
            }
        }
    }

    /// Ends every call of a session that is over.
    pub fn session_over(&self, session: u64) {
        self.cancel_early(|call| call.session == session);
        for server in self.servers.all().iter() {
            if let Some(link) = server.link() {
                link.session_over(session);
            }
        }
    }

    /// Before the links are looked at: a call that moves from here to its link meanwhile sees it there.
    fn cancel_early(&self, concerned: impl Fn(&Awaiting) -> bool) {
        self.early.cancel(concerned);
        self.board.post();
    }
}

fn is_current(server: &Server, link: &Arc<Link>) -> bool {
    server.link().is_some_and(|current| current.life == link.life)
}

/// The params with our progress token, and the tool's own name.
fn rewritten(params: &str, call: &CallParams, rename: Option<&(Range<usize>, String)>, id: CallId) -> String {
    let token = id.0.to_string();
    let mut edits: Vec<(Range<usize>, &str)> = Vec::with_capacity(2);
    if let Some(span) = &call.progress_token {
        edits.push((span.clone(), &token));
    }
    if let Some((span, name)) = rename {
        edits.push((span.clone(), name));
    }
    edits.sort_by_key(|(span, _)| span.start);
    tools::splice(params, &edits)
}

pub fn unknown_server(servers: &Registry, name: &str) -> Fault {
    let shown = text::shorten(name, 80);
    let names = servers.names();
    let fault = Fault::new(FaultKind::Unknown, format!("no server is called `{shown}`"));
    match text::nearest(name, names.iter().map(|name| name.as_str())) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint("mcpvisor status lists them"),
    }
}

/// Why a server cannot be called now, and when that may change.
pub fn not_ready(server: &Server) -> Fault {
    let status = server.status();
    let why = status.reason.as_ref().or(status.last_error.as_ref().map(|happened| &happened.fault));
    let name = &server.name;
    let is = match status.state {
        "backoff" => "is in backoff",
        "auto_disabled" => "was given up after repeated failures",
        "queued" | "connecting" => "is still starting",
        other => &format!("is {other}"),
    };
    let mut message = format!("server `{name}` {is}");
    if status.state == "disabled" {
        return Fault::new(FaultKind::NotReady, message).hint(format!("mcpvisor upstream enable {name}"));
    }
    if let Some(fault) = why {
        message.push_str(&format!(": {}", fault.message));
    }
    if let Some(at) = &status.next_retry_at {
        message.push_str(&format!("; next try at {at}"));
    }
    let again = format!("mcpvisor upstream restart {name} tries again");
    let hint = match why.map(|fault| fault.hint.as_str()).filter(|hint| !hint.is_empty()) {
        Some(hint) if status.state == "auto_disabled" => format!("{hint}; {again}"),
        Some(hint) => hint.to_owned(),
        None if status.is_coming() => format!("try again later, or see: mcpvisor upstream logs {name}"),
        None => again,
    };
    Fault::new(FaultKind::NotReady, message).hint(hint)
}

impl OpenCall {
    /// Where this caller hears; for whoever watches its connection meanwhile.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Waits for what comes next, at most for `span` if one is given, and never beyond the call's deadline.
    pub fn wait(&mut self, span: Option<Duration>) -> Heard {
        loop {
            let now = clock::now();
            let until = span.map_or(self.deadline, |span| self.deadline.min(now + span));
            match self.slot.wait(until) {
                Some(Word::Answer(answer)) => {
                    self.done = true;
                    return Heard::Answer(answer);
                }
                Some(Word::Progress(params)) => {
                    self.deadline = self.latest.min(clock::now() + self.patience);
                    return Heard::Progress(params);
                }
                Some(Word::PeerClosed) => return Heard::PeerClosed,
                None if clock::now() < self.deadline => return Heard::Quiet,
                None if self.link.abandon(self.id) => {
                    self.done = true;
                    self.link.tell_cancelled(self.id, Some("\"the call timed out\""));
                    return Heard::Answer(Answer::Fault(self.timed_out()));
                }
                // Somebody has removed the call, so its answer is on the way to the slot.
                None => self.deadline = clock::now() + Duration::from_secs(1),
            }
        }
    }

    /// The client has gone. In the legacy era that is no cancellation: the server may finish, and its answer is
    /// dropped.
    pub fn leave(mut self) {
        self.done = true;
        self.link.abandon(self.id);
    }

    /// The caller's own patience is over: the server is told.
    pub fn give_up(mut self) {
        self.done = true;
        if self.link.abandon(self.id) {
            self.link.tell_cancelled(self.id, Some("\"the caller's patience is over\""));
        }
    }

    fn timed_out(&self) -> Fault {
        let patience = text::span(self.patience);
        let message = format!("server `{}` did not answer within {patience}", self.server.name);
        Fault::new(FaultKind::CallTimeout, message).hint("raise \"call_timeout\" if the tool needs longer")
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.done {
            self.link.abandon(self.id);
        }
    }
}
