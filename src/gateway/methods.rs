//! What each request means on a mount: answered here, from what is known of all servers, or sent to one of them.
//!
//! On the mount of one server everything goes to that server, but for what several sessions share: log levels and
//! subscriptions.

use super::catalogue::{self, Announced};
use super::crossing::Caller;
use super::freshness;
use super::held::{HeldCall, HeldCalls};
use super::hub::Hub;
use super::interest::Interest;
use super::open_call::OpenCall;
use super::reply::fault_error;
use super::router::{self, Request, Router};
use super::sessions::{Mount, Session, Sessions};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::base::text::shorten;
use crate::mcp::envelope::{self, INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::mcp::era::Era;
use crate::mcp::features::{Feature, Level};
use crate::mcp::items::{Kind, splice};
use crate::mcp::meta::Asker;
use crate::mcp::{bridge, handshake, params, scan};
use crate::server::handle::Server;
use crate::server::link::Link;
use crate::sys::clock;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What became of a request.
pub enum Begun {
    /// A raw result, or a raw error object.
    Done(Result<String, String>),
    /// It was sent, and waits.
    Sent(Box<OpenCall>),
}

/// The MCP side of the endpoint, whatever it is spoken over.
pub struct Methods {
    pub router: Arc<Router>,
    pub sessions: Arc<Sessions>,
    pub interest: Interest,
    pub hub: Hub,
    /// Calls whose clients will come again.
    pub held: HeldCalls<HeldCall>,
    /// The lists that the listening sessions know of.
    pub announced: Announced,
    pub list_wait: ListWait,
}

/// How long a list waits for servers in their first start. Clones are the same.
#[derive(Clone, Debug)]
pub struct ListWait(Arc<AtomicU64>);

impl ListWait {
    pub fn new(span: Duration) -> ListWait {
        let wait = ListWait(Arc::default());
        wait.set(span);
        wait
    }

    pub fn set(&self, span: Duration) {
        self.0.store(span.as_millis() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A subscription that the server refuses is none.
fn undo_when_refused(begun: &mut Begun, session: &Arc<Session>, (server, uri): (ServerName, String)) {
    let session = session.clone();
    let undo = move || session.unsubscribe(&server, &uri);
    match begun {
        Begun::Done(Ok(_)) => (),
        Begun::Done(Err(_)) => undo(),
        Begun::Sent(call) => call.on_refusal(Box::new(undo)),
    }
}

/// `instructions` of all servers together; what is more is left out.
const INSTRUCTIONS_BYTES_MAX: usize = 16 << 10;

/// What the aggregate can do.
const OWN_CAPABILITIES: &str = "{\"tools\":{\"listChanged\":true},\"prompts\":{\"listChanged\":true},\
     \"resources\":{\"listChanged\":true,\"subscribe\":true},\"completions\":{},\"logging\":{}}";

/// Who the aggregate is, raw.
pub fn own_info() -> String {
    json!({"name": "mcpvisor", "version": env!("CARGO_PKG_VERSION")}).to_string()
}

impl Methods {
    /// The result of `initialize` and the version that was agreed.
    pub fn initialize(&self, mount: &Mount, params: &str) -> Result<(String, &'static str), Fault> {
        let wanted = params::text(params, "protocolVersion").unwrap_or_default();
        match mount {
            Mount::All => {
                let version = handshake::negotiate(&wanted);
                Ok((self.own_greeting(version), version))
            }
            Mount::One(name) => {
                let server = self.server(name.as_str())?;
                // What it says of itself cannot be made up: it is waited for like the answer to a call.
                let settled = || match server.known().greeting {
                    Some(greeting) => Some(Ok(greeting)),
                    None => (!server.status().is_coming()).then(|| Err(router::not_ready(&server))),
                };
                let deadline = clock::now() + server.call_patience();
                let greeting = self.router.board.wait(deadline, settled);
                let greeting = greeting.unwrap_or_else(|| Err(router::not_ready(&server)))?;
                Ok(greeting.for_client(handshake::negotiate(&wanted)))
            }
        }
    }

    fn own_greeting(&self, version: &str) -> String {
        let (info, instructions) = (own_info(), self.instructions());
        format!(
            "{{\"protocolVersion\":\"{version}\",\"capabilities\":{OWN_CAPABILITIES},\
             \"serverInfo\":{info}{instructions}}}"
        )
    }

    /// The answer to `server/discover`: what `initialize` would say, at once. A server of its own mount that has never
    /// been greeted may offer anything; it is given a moment, no more, because clients that ask this do not wait.
    pub fn discover(&self, mount: &Mount) -> String {
        if let Mount::One(name) = mount
            && let Ok(server) = self.server(name.as_str())
        {
            let greeting = || server.known().greeting;
            let deadline = clock::now() + self.list_wait.get();
            // Else it is being greeted anew, maybe in the era that its client speaks. Who asks this does not wait for that.
            let settled = server.link().is_some_and(|link| server.is_usable_by(Some(Era::Modern), &link));
            let known = || greeting().map(Some).or((!server.status().is_coming()).then_some(None));
            if let Some(greeting) = self.router.board.wait(deadline, known).flatten() {
                let said = bridge::discovered(&greeting.raw);
                return match settled || greeting.era == Era::Modern {
                    true => said,
                    false => bridge::before_it_changes(&said),
                };
            }
            return bridge::discover_result(OWN_CAPABILITIES, "", None);
        }
        bridge::discover_result(OWN_CAPABILITIES, &self.instructions(), Some(&own_info()))
    }

    /// What the servers that have been greeted say to the model, each under its name.
    fn instructions(&self) -> String {
        let mut all = String::new();
        for server in self.router.servers.all().iter().filter(|server| server.is_offered()) {
            let Some(greeting) = server.known().greeting else { continue };
            let Some(text) = params::text(&greeting.raw, "instructions").filter(|text| !text.is_empty())
            else {
                continue;
            };
            let part = format!("# {}\n{text}\n", server.slug);
            if all.len() + part.len() <= INSTRUCTIONS_BYTES_MAX {
                all.push_str(&part);
            }
        }
        if all.is_empty() { all } else { format!(",\"instructions\":{}", envelope::quote(&all)) }
    }

    /// One request of a session. `hears`: its client hears more than the answer, and so can be asked something.
    pub fn begin(
        &self,
        session: &Arc<Session>,
        (id, hears): (&str, bool),
        method: &str,
        params: &str,
    ) -> Begun {
        let id = (id, hears);
        let done = match (method, &session.mount) {
            ("ping", _) => Ok("{}".to_owned()),
            ("logging/setLevel", Mount::One(name)) if !self.logs(name) => {
                return self.send(session, id, method, params);
            }
            ("logging/setLevel", mount) => self.set_level(session, mount, params),
            ("resources/subscribe" | "resources/unsubscribe", mount) => {
                match self.subscription(session, mount, method, params) {
                    Ok(None) => Ok("{}".to_owned()),
                    Ok(Some((name, _))) if self.interest.watched(&self.router.servers, &name) => {
                        Ok("{}".to_owned())
                    }
                    // The first to subscribe, or the last to leave: the server hears of it.
                    Ok(Some(what)) => {
                        let mut begun = self.send(session, id, method, params);
                        if method == "resources/subscribe" {
                            undo_when_refused(&mut begun, session, what);
                        }
                        return begun;
                    }
                    Err(error) => Err(error),
                }
            }
            (_, Mount::One(_)) => return self.send(session, id, method, params),
            ("tools/call" | "prompts/get" | "resources/read" | "completion/complete", Mount::All) => {
                return self.send(session, id, method, params);
            }
            (_, Mount::All) => match Kind::of_method(method) {
                Some(kind) => self.list(kind, params, Era::Legacy),
                None => {
                    let message = format!("method `{}` is not offered here", shorten(method, 80));
                    Err(envelope::error_object(METHOD_NOT_FOUND, &message, None::<&()>))
                }
            },
        };
        Begun::Done(done)
    }

    fn send(&self, session: &Session, (id, hears): (&str, bool), method: &str, params: &str) -> Begun {
        let level = session.level().map(|level| format!("\"{}\"", level.name()));
        let asker = Asker {
            // Nothing is declared that could not be answered.
            capabilities: if hears { &session.client.capabilities } else { "{}" },
            info: session.client.info.as_deref(),
            log_level: level.as_deref(),
        };
        let (mount, session) = (&session.mount, session.number);
        let caller = Caller { era: Era::Legacy, asker, shown_info: None };
        let era = Some(Era::Legacy);
        let request = Request { mount, session, id, method, params, era, patience: None, caller };
        match self.router.open(&request) {
            Ok(call) => Begun::Sent(Box::new(call)),
            Err(fault) => Begun::Done(Err(fault_error(method, &fault))),
        }
    }

    pub(super) fn list(&self, kind: Kind, params: &str, era: Era) -> Result<String, String> {
        let cursor = scan::find(params, "cursor").map(|span| &params[span]).filter(|raw| *raw != "null");
        let offset = match cursor.map(|raw| scan::string(raw).and_then(|text| catalogue::offset(&text))) {
            None => 0,
            Some(Some(offset)) => offset,
            Some(None) => return Err(envelope::error_object(INVALID_PARAMS, "unknown cursor", None::<&()>)),
        };
        self.wait_for_first_lists();
        freshness::renew(&self.router.servers.all(), kind, clock::now());
        Ok(self.router.catalogue().page(kind, offset, era))
    }

    /// A list waits a little for servers in their first start; one that has failed before delays nobody.
    fn wait_for_first_lists(&self) {
        let all = self.router.servers.all();
        let first_start = |server: &Arc<Server>| {
            let status = server.status();
            !server.known().has_listed() && status.is_coming() && status.failures == 0
        };
        // Out of patience, the list is what is known; `list_changed` tells of the rest.
        let _ = self
            .router
            .board
            .wait(clock::now() + self.list_wait.get(), || (!all.iter().any(first_start)).then_some(()));
    }

    /// Each session has a level of its own; servers are told the lowest.
    fn set_level(&self, session: &Session, mount: &Mount, params: &str) -> Result<String, String> {
        let Some(level) = params::text(params, "level").and_then(|name| Level::of_name(&name)) else {
            return Err(envelope::error_object(INVALID_PARAMS, "`level` is no log level", None::<&()>));
        };
        session.set_level(level);
        for server in self.router.servers.all().iter().filter(|server| mount.shows(&server.name)) {
            let logs = server.known().greeting.is_some_and(|greeting| greeting.has("logging"));
            // In the modern era every call says its own level.
            let of_sessions = |link: &Arc<Link>| logs && link.era() == Era::Legacy;
            let Some(link) = server.link().filter(of_sessions) else { continue };
            let sessions = self.sessions.that_see(&server.name);
            let levels = sessions.iter().filter_map(|session| session.level());
            let lowest =
                levels.chain(self.router.levels.told(&server.name, link.life)).min().unwrap_or(level);
            let params = format!("{{\"level\":\"{}\"}}", lowest.name());
            link.tell_of("logging/setLevel", params, clock::now());
        }
        Ok("{}".to_owned())
    }

    /// Whether this server has logs; `true` until it has said so.
    fn logs(&self, name: &ServerName) -> bool {
        let greeting = self.router.servers.find(name.as_str()).and_then(|server| server.known().greeting);
        greeting.is_none_or(|greeting| greeting.has("logging"))
    }

    /// Whose and which it is, if the server must hear of it.
    fn subscription(
        &self,
        session: &Session,
        mount: &Mount,
        method: &str,
        params: &str,
    ) -> Result<Option<(ServerName, String)>, String> {
        let wrong = |fault: &Fault| fault_error(method, fault);
        let Some(address) = params::address(method, params) else {
            return Err(envelope::error_object(INVALID_PARAMS, "`uri` is missing", None::<&()>));
        };
        let uri = address.key.clone();
        let server = match mount {
            Mount::One(name) => self.server(name.as_str()),
            Mount::All => self.router.addressed(address).map(|(server, _)| server),
        };
        let server = server.map_err(|fault| wrong(&fault))?;
        let is_shared = || self.interest.is_shared(&server.name, &uri, Some(session));
        // Of two at the same moment at least one sees itself alone: the server may hear it twice, never not at all.
        let shared = if method == "resources/unsubscribe" {
            session.unsubscribe(&server.name, &uri);
            is_shared()
        } else {
            let shared = is_shared();
            if !session.subscribe(&server.name, &uri) {
                let message = "this session has as many subscriptions as it may have";
                return Err(wrong(&Fault::new(FaultKind::Busy, message)));
            }
            shared
        };
        Ok((!shared).then(|| (server.name.clone(), uri)))
    }

    pub(super) fn server(&self, name: &str) -> Result<Arc<Server>, Fault> {
        let servers = &self.router.servers;
        servers.find(name).ok_or_else(|| router::unknown_server(servers, name))
    }

    /// One notification of a session.
    pub fn notification(&self, session: &Session, method: &str, params: Option<&str>) {
        let part = |key| params.and_then(|params| scan::find(params, key).map(|span| &params[span]));
        match method {
            "notifications/cancelled" => {
                if let Some(id) = part("requestId") {
                    self.router.cancel(session.number, id, part("reason"));
                }
            }
            "notifications/progress" => self.progress(session, params.unwrap_or("{}")),
            // Servers were greeted by us, once per life.
            "notifications/initialized" => (),
            _ => {
                // The news of one client is for the server it looks at; roots are for all that may ask for them.
                let concerned = |server: &Server| match &session.mount {
                    Mount::One(name) => server.name == *name,
                    Mount::All => {
                        method == "notifications/roots/list_changed"
                            && server.features().contains(&Feature::Roots)
                    }
                };
                for server in self.router.servers.all().iter().filter(|server| concerned(server)) {
                    let Some(link) = server.link() else { continue };
                    // A server that takes no more input has no use for news.
                    let _ = link.send(envelope::notification(method, params));
                }
            }
        }
    }

    /// A client's progress with what a server asked of it.
    fn progress(&self, session: &Session, params: &str) {
        let Some(span) = scan::find(params, "progressToken") else { return };
        let Some((link, theirs)) = self.router.asks.progress(session.number, &params[span.clone()]) else {
            return;
        };
        let params = splice(params, &[(span, &theirs)]);
        // A server that takes no more input has no use for news.
        let _ = link.send(envelope::notification("notifications/progress", Some(&params)));
    }

    /// The session is over: its calls, what it was asked, its streams and its subscriptions.
    pub fn close(&self, session: &Session) {
        self.sessions.close(session);
        session.take_streams().into_iter().for_each(|stream| self.hub.close(stream));
        self.router.session_over(session.number);
        self.interest.release(&self.router.servers, session.subscriptions());
    }

    /// The daemon ends: whoever listens hears that it was the end.
    pub fn end_listening(&self) {
        self.interest.listeners.end(&self.hub);
    }

    /// Tells every client of the lists that are others now, and that it sees.
    pub fn announce_lists(&self) {
        let changed = self.announced.renew(&self.router.servers.all());
        for session in self.sessions.all() {
            let seen = changed.iter().filter(|(server, _)| session.mount.shows(server));
            let mut methods: Vec<&str> = seen.map(|(_, kind)| kind.changed()).collect();
            methods.sort_unstable();
            methods.dedup();
            methods.iter().for_each(|method| session.say(&self.hub, &envelope::notification(method, None)));
        }
        let methods: BTreeSet<&str> = changed.iter().map(|(_, kind)| kind.changed()).collect();
        for method in methods {
            let others = changed.iter().filter(|(_, kind)| kind.changed() == method);
            let servers: Vec<&ServerName> = others.map(|(server, _)| server).collect();
            self.interest.listeners.list_changed(&self.hub, &servers, method);
        }
    }
}
