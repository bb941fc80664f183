//! Which server a request is for, and how it gets there: names and URIs of the aggregate are looked up, everything
//! else stays the bytes that it was.

use super::asks::Asks;
use super::catalogue::{Cache, Catalogue};
use super::crossing::{Caller, Crossing, unsealed};
use super::early::{Awaiting, Early, EarlyCall};
use super::levels::Levels;
use super::open_call::{OpenCall, Rounds};
use super::sessions::Mount;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::CALL_TOTAL_MAX;
use crate::base::text;
use crate::base::time::Time;
use crate::mcp::bridge;
use crate::mcp::calls::NewCall;
use crate::mcp::envelope;
use crate::mcp::era::Era;
use crate::mcp::features::Level;
use crate::mcp::input;
use crate::mcp::items::{self, Kind};
use crate::mcp::params::{self, Address};
use crate::mcp::scan;
use crate::mcp::seal::Sealer;
use crate::server::board::Board;
use crate::server::handle::{Report, Server};
use crate::server::link::{Link, Waiter};
use crate::server::machine::Event;
use crate::server::registry::Registry;
use crate::server::slot::Slot;
use crate::sys::clock;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What callers need of the running daemon.
pub struct Router {
    pub servers: Arc<Registry>,
    pub board: Board,
    pub cache: Cache,
    pub early: Early,
    pub asks: Arc<Asks>,
    pub sealer: Arc<Sealer>,
    pub levels: Levels,
}

/// One request as a client sent it.
pub struct Request<'a> {
    pub mount: &'a Mount,
    /// The session's number; [`NOBODY`](super::sessions::NOBODY) for the REST API.
    pub session: u64,
    /// The request's id, raw.
    pub id: &'a str,
    pub method: &'a str,
    pub params: &'a str,
    /// The client's, which a server of both eras is spoken to in; nothing for one that takes either.
    pub era: Option<Era>,
    /// The caller's own patience, if it is less than the server's.
    pub patience: Option<Duration>,
    pub caller: Caller<'a>,
}

/// Where a request goes, and what of its params is another text there.
type Target = (Arc<Server>, Option<(Range<usize>, String)>);

impl Router {
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.cache.get(&self.servers, self.board.lists())
    }

    /// Finds the server, waits until it is ready (within its call deadline), and sends.
    pub fn open(&self, request: &Request<'_>) -> Result<OpenCall, Fault> {
        let (server, edit) = self.target(request)?;
        let opened = clock::now();
        let deadline = opened + server.call_patience();
        let until = request.patience.map_or(deadline, |own| deadline.min(opened + own));
        let early =
            server.link().is_none().then(|| self.early.add(&server.name, request.session, request.id));
        let is_cancelled = || early.as_ref().is_some_and(EarlyCall::is_cancelled);
        let slot = Slot::default();
        let token_span = params::progress_token(request.params);
        let token: Option<Box<str>> = token_span.clone().map(|span| request.params[span].into());
        let new = NewCall {
            session: request.session,
            request: Some(request.id.into()),
            opened,
            deadline,
            patience: server.call_patience(),
            wants_progress: token.is_some(),
        };
        loop {
            let link = self.ready_link(&server, until, is_cancelled)?;
            if !server.is_usable_by(request.era, &link) {
                continue;
            }
            let (crossed, crossing) = self.crossed(request, &server, &link)?;
            if let Some(level) = loudness(&request.caller, &link) {
                self.levels.need(&server, &link, level);
            }
            let name = edit.as_ref().map(|(_, name)| name.as_str());
            let edits = match &crossed {
                Cow::Borrowed(_) => Edits { token: token_span.clone(), name: edit.clone() },
                // What stood before them may be gone.
                Cow::Owned(text) => Edits::of(request.method, text, name),
            };
            let asks_in_result = (request.caller.era, link.era()) == (Era::Legacy, Era::Modern)
                && input::may_ask(request.method);
            let rounds = asks_in_result.then(|| {
                Box::new(Rounds {
                    new: new.clone(),
                    method: request.method.into(),
                    params: (*crossed).into(),
                    name: name.map(Into::into),
                    token: token.clone(),
                    capabilities: request.caller.asker.capabilities.into(),
                    count: 0,
                    asking: None,
                })
            });
            let params = |id: CallId| Some(rewritten(&crossed, &edits, id));
            let waiter = Waiter::Caller { slot: slot.clone(), token: token.clone() };
            match link.call(new.clone(), waiter, request.method, params) {
                Ok(id) => {
                    if is_cancelled() {
                        // The cancellation came just before the link knew the call; the slot hears of it like any other.
                        link.cancel(request.session, request.id, None);
                    }
                    let latest = opened + CALL_TOTAL_MAX;
                    let asks = self.asks.clone();
                    let call = OpenCall::new(link, id, slot, (deadline, latest), server, asks);
                    return Ok(call.crossing(crossing).rounds(rounds));
                }
                // That life was being stopped while we turned to it, and nothing was sent: the next one is waited for.
                Err(fault) if fault.kind == FaultKind::Stopped && !is_current(&server, &link) => (),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The params as the server's era has them, and what is to be done with the answer then.
    fn crossed<'a>(
        &self,
        request: &Request<'a>,
        server: &Server,
        link: &Link,
    ) -> Result<(Cow<'a, str>, Option<Box<Crossing>>), Fault> {
        let era = link.era();
        let Request { caller, method, .. } = request;
        if (caller.era, era) == (Era::Legacy, Era::Legacy) {
            return Ok((Cow::Borrowed(request.params), None));
        }
        // Of a call that is held here the gateway knows before it comes so far.
        if (caller.era, era) == (Era::Modern, Era::Legacy)
            && scan::find(request.params, "requestState").is_some()
        {
            return Err(bad_state("it was not given out here, or by an mcpvisor that has ended since"));
        }
        let seal =
            (*request.mount == Mount::All && era == Era::Modern && caller.era == Era::Modern).then(|| {
                let key =
                    params::address(method, request.params).map(|address| address.key).unwrap_or_default();
                let belongs = [server.name.as_str().into(), (*method).into(), key.into()];
                (self.sealer.clone(), belongs)
            });
        let unsealed = match &seal {
            Some((sealer, belongs)) => unsealed(request.params, sealer, belongs)?,
            None => Cow::Borrowed(request.params),
        };
        let params = match unsealed {
            Cow::Borrowed(params) => bridge::request(method, params, caller.era, era, &caller.asker)?,
            Cow::Owned(params) => {
                Cow::Owned(bridge::request(method, &params, caller.era, era, &caller.asker)?.into_owned())
            }
        };
        let greeting = server.known().greeting;
        let own_info = greeting.as_ref().and_then(|greeting| greeting.server_info());
        let crossing = Crossing {
            method: (*method).into(),
            client: caller.era,
            server: era,
            heads: link.is_remote() && era == Era::Modern && *method == "tools/list",
            server_info: caller.shown_info.or(own_info).map(Into::into),
            params: match params::text(request.params, "uri") {
                Some(_) => request.params.into(),
                None => "{}".into(),
            },
            capabilities: caller.asker.capabilities.into(),
            seal,
        };
        Ok((params, Some(Box::new(crossing))))
    }

    fn target(&self, request: &Request<'_>) -> Result<Target, Fault> {
        match request.mount {
            Mount::One(name) => match self.servers.find(name.as_str()) {
                Some(server) => Ok((server, None)),
                None => Err(unknown_server(&self.servers, name.as_str())),
            },
            Mount::All => match params::address(request.method, request.params) {
                Some(address) => self.addressed(address),
                None => Err(Fault::new(
                    FaultKind::Unknown,
                    format!("{}: the params do not say what is meant", text::shorten(request.method, 80)),
                )),
            },
        }
    }

    /// The server of a name or URI of the aggregate.
    pub fn addressed(&self, address: Address) -> Result<Target, Fault> {
        let Address { kind, key, span } = address;
        let catalogue = self.catalogue();
        if kind == Kind::Resources {
            let owner = catalogue.owner_of(&key).or_else(|| self.sole_resource_server());
            return owner.map(|server| (server, None)).ok_or_else(|| unknown_resource(&key));
        }
        if let Some(entry) = catalogue.find(kind, &key) {
            return Ok((entry.server.clone(), Some((span, envelope::quote(&entry.item.key)))));
        }
        // A server in its first start has listed nothing yet: its prefix is all that is known of it.
        if let Some((server, own)) = self.coming(&key) {
            return Ok((server, Some((span, envelope::quote(&own)))));
        }
        Err(self.unknown_name(&catalogue, kind, &key))
    }

    /// A URI that nobody lists (a link in a result, say) is asked of the one server that has resources, if it is one.
    fn sole_resource_server(&self) -> Option<Arc<Server>> {
        let all = self.servers.all();
        let has = |server: &&Arc<Server>| {
            server.is_offered() && server.known().greeting.is_some_and(|greeting| greeting.has("resources"))
        };
        let mut owners = all.iter().filter(has);
        let first = owners.next()?.clone();
        owners.next().is_none().then_some(first)
    }

    fn coming(&self, name: &str) -> Option<(Arc<Server>, String)> {
        let all = self.servers.all();
        let first_start = |server: &&Arc<Server>| !server.known().has_listed() && server.status().is_coming();
        all.iter().filter(first_start).find_map(|server| {
            let own = name.strip_prefix(server.slug.as_str())?.strip_prefix("__")?;
            Some((server.clone(), own.to_owned()))
        })
    }

    fn unknown_name(&self, catalogue: &Catalogue, kind: Kind, name: &str) -> Fault {
        let shown = text::shorten(name, 80);
        // A tool of a server that is down, or never was up, is not unknown: say why the server is down.
        let down = self.servers.all().iter().find_map(|server| {
            let of_it = name.strip_prefix(server.slug.as_str()).is_some_and(|rest| rest.starts_with("__"));
            let listed = server.is_offered() && server.known().has_listed();
            (of_it && !listed).then(|| not_ready(server))
        });
        if let Some(fault) = down {
            return fault;
        }
        let what = if kind == Kind::Tools { "tool" } else { "prompt" };
        let fault = Fault::new(FaultKind::Unknown, format!("no server has a {what} `{shown}`"));
        match text::nearest(name, catalogue.keys(kind)) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint(format!("{what}s are named `server__{what}`; {what}s/list shows them")),
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
        // It is asleep, or falls asleep while we wait; in line, it goes before those whom nobody waits for.
        let mut woken = None;
        let mut wake = |state: &'static str, life| {
            let wakes = matches!(state, "queued" | "sleeping" | "stopping");
            if wakes && woken != Some((state, life)) {
                woken = Some((state, life));
                server.tell(Report::Event(Event::Wake, None));
            }
        };
        let settled = || match server.link() {
            _ if is_cancelled() => Some(Err(Fault::new(FaultKind::Cancelled, "cancelled by the client"))),
            Some(link) => Some(Ok(link)),
            None => {
                let status = server.status();
                wake(status.state, status.life);
                (!status.is_coming() && status.state != "ready").then(|| Err(not_ready(server)))
            }
        };
        self.board.wait(deadline, settled).unwrap_or_else(|| Err(not_ready(server)))
    }

    /// Ends the request `id` of a session, wherever it waits.
    pub fn cancel(&self, session: u64, id: &str, reason: Option<&str>) {
        self.cancel_early(|call| call.session == session && *call.id == *id);
        if self.asks.cancel(session, id) {
            return;
        }
        for server in self.servers.all().iter() {
            if server.links().any(|link| link.cancel(session, id, reason)) {
                return;
            }
        }
    }

    /// Ends every call of a session that is over.
    pub fn session_over(&self, session: u64) {
        self.cancel_early(|call| call.session == session);
        self.asks.session_over(session);
        for server in self.servers.all().iter() {
            server.links().for_each(|link| link.session_over(session));
        }
    }

    /// Before the links are looked at: a call that moves from here to its link meanwhile sees it there.
    fn cancel_early(&self, concerned: impl Fn(&Awaiting) -> bool) {
        self.early.cancel(concerned);
        self.board.post();
    }
}

/// What a legacy server must be told before a request that says its level itself.
fn loudness(caller: &Caller<'_>, link: &Link) -> Option<Level> {
    let level = caller.asker.log_level.filter(|_| caller.era == Era::Modern)?;
    let level = Level::of_name(&crate::mcp::scan::string(level)?)?;
    (link.era() == Era::Legacy).then_some(level)
}

fn is_current(server: &Server, link: &Arc<Link>) -> bool {
    server.link().is_some_and(|current| current.life == link.life)
}

/// What of the params is another text at the server.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// The progress token.
    token: Option<Range<usize>>,
    /// What is meant, and the server's own name for it, quoted.
    name: Option<(Range<usize>, String)>,
}

impl Edits {
    /// Where they are in these params.
    pub(super) fn of(method: &str, params: &str, name: Option<&str>) -> Edits {
        let name = name.and_then(|name| Some((params::address(method, params)?.span, name.to_owned())));
        Edits { token: params::progress_token(params), name }
    }
}

/// The params with our progress token, and the server's own name for what is meant; as they came if neither is needed.
pub(super) fn rewritten<'a>(params: &'a str, edits: &Edits, id: CallId) -> Cow<'a, str> {
    if edits.token.is_none() && edits.name.is_none() {
        return Cow::Borrowed(params);
    }
    let Edits { token, name } = edits;
    let own = id.0.to_string();
    let mut edits: Vec<(Range<usize>, &str)> = Vec::with_capacity(2);
    edits.extend(token.clone().map(|span| (span, own.as_str())));
    edits.extend(name.as_ref().map(|(span, name)| (span.clone(), name.as_str())));
    edits.sort_by_key(|(span, _)| span.start);
    Cow::Owned(items::splice(params, &edits))
}

/// A `requestState` that is good for nothing, and why.
pub fn bad_state(why: &str) -> Fault {
    Fault::new(FaultKind::Unknown, format!("`requestState` cannot be used: {why}"))
        .hint("begin again without it")
}

fn unknown_resource(uri: &str) -> Fault {
    let message = format!("no server has a resource `{}`", text::shorten(uri, 200));
    Fault::new(FaultKind::Unknown, message).hint("resources/list shows them")
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
    // Nothing that it does will change that, and there is something that does.
    let kind = match why.map(|fault| fault.kind) {
        Some(kind @ (FaultKind::EngineAway | FaultKind::ContainerPaused)) if status.state == "waiting" => {
            kind
        }
        Some(_) | None => FaultKind::NotReady,
    };
    Fault::new(kind, message).hint(hint)
}
