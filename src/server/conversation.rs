//! What is said with one life in MCP: the greeting, its lists, probes, and the routing of its answers.
//!
//! It runs on the life's thread and never blocks. It knows lines, not pipes or processes. How a life is greeted in the
//! one era or the other is in `greeting.rs`; what differs after that is few enough to stand here.

mod greeting;

use super::face::Face;
use super::handle::{Listed, Report, Said, Server};
use super::link::{Link, Purpose, Waiter};
use super::machine::Event;
use super::remote::Mirrors;
use super::slot::Answer;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life};
use crate::base::limits::{GARBAGE_LINES_MAX, ITEMS_MAX, LIST_PAGES_MAX};
use crate::base::text;
use crate::base::time::Time;
use crate::diagnose::{Class, class};
use crate::mcp::caching::Caching;
use crate::mcp::calls::NewCall;
use crate::mcp::envelope::{self, Invalid, Message, Outcome};
use crate::mcp::era::Era;
use crate::mcp::items::{self, Item, Kind};
use crate::mcp::{handshake, meta, mirrored, scan};
use crate::sys::clock;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The life's own requests have no deadline of their own: the machine's patience ends them.
const NO_DEADLINE: Duration = Duration::from_secs(u32::MAX as u64);

#[derive(Debug)]
pub struct Conversation {
    server: Arc<Server>,
    face: Arc<Face>,
    link: Arc<Link>,
    life: Life,
    stage: Stage,
    /// The list that is being read.
    list: Option<List>,
    /// Lists that are to be read after it: the first ones, or ones that have changed.
    to_list: BTreeSet<Kind>,
    /// Lists that the server said have changed.
    said_changed: BTreeSet<Kind>,
    /// Calls wait for the tools to be listed anew, because what their heads should repeat is not what we know.
    heads_wanted: bool,
    probing: bool,
    /// The ping that was sent last.
    ping: Option<CallId>,
    garbage: usize,
    /// The call that the line in hand belongs to, where its way tells.
    about: Option<CallId>,
    /// Of the life; what it is asked before that says it with every request.
    era: Era,
    /// When silence is an answer to the greeting.
    hush: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Discovering,
    Serving,
    /// The session was lost, and another is made with the same life: as far as the machine knows, it serves.
    GreetingAgain,
    /// Broken beyond use; only the supervisor's orders count now.
    Failed,
}

/// A list that is being read, page by page.
#[derive(Debug)]
struct List {
    kind: Kind,
    items: Vec<Item>,
    pages: usize,
    /// Of all pages so far.
    caching: Option<Caching>,
    /// Calls wait for it.
    for_heads: bool,
}

impl List {
    fn new(kind: Kind) -> List {
        List { kind, items: Vec::new(), pages: 0, caching: None, for_heads: false }
    }
}

impl Conversation {
    pub fn new(server: Arc<Server>, link: Arc<Link>) -> Conversation {
        let life = link.life;
        Conversation {
            face: server.face(life),
            server,
            link,
            life,
            stage: Stage::Greeting,
            list: None,
            to_list: BTreeSet::new(),
            said_changed: BTreeSet::new(),
            heads_wanted: false,
            probing: false,
            ping: None,
            garbage: 0,
            about: None,
            era: Era::Legacy,
            hush: None,
        }
    }

    /// The server has forgotten our session: what waits is sent when it has greeted us again.
    pub fn greet_again(&mut self) {
        if self.stage == Stage::Serving {
            self.stage = Stage::GreetingAgain;
            self.greet();
        }
    }

    /// This request will not be answered.
    pub fn unanswered(&mut self, id: CallId, fault: Fault) {
        let Some(pending) = self.link.answered(id) else { return };
        match pending.waiter {
            Waiter::Caller { slot, .. } => slot.answer(Answer::Fault(fault)),
            Waiter::Own(Purpose::List(_)) if self.has_served() => {
                log::warn!("{}: {fault}; its old list stays", self.server.name);
                self.list_over();
            }
            Waiter::Own(Purpose::Initialize | Purpose::Discover | Purpose::List(_)) => self.fail(fault),
            Waiter::Own(Purpose::Listen) => self.link.listen_over(id, false),
            // Too busy for a ping is not deaf.
            Waiter::Own(Purpose::Probe) if fault.kind == FaultKind::Busy => self.heard(),
            // An unanswered ping is counted by the machine; what was told is told anew to the next session.
            Waiter::Own(Purpose::Probe | Purpose::Told) => log::debug!("{}: {fault}", self.server.name),
        }
    }

    /// Asks for a sign of life; the next line that comes is one.
    pub fn probe(&mut self) {
        if self.stage == Stage::Serving {
            // One that was never answered must not wait for ever: a server that talks but knows no ping would
            // collect them.
            if let Some(unanswered) = self.ping.take() {
                self.link.abandon(unanswered);
            }
            self.probing = true;
            let question = match self.era {
                Era::Legacy => "ping",
                Era::Modern => "server/discover",
            };
            // Not sent, its deadline counts the miss.
            self.ping = self.ask(Purpose::Probe, question, "{}".to_owned());
            self.link.listen();
        }
    }

    /// Something came on stdout.
    pub fn heard(&mut self) {
        if std::mem::take(&mut self.probing) {
            self.tell(Event::ProbeOk(self.life), None);
        }
    }

    /// One line that came with what belongs to this call of ours, if that is known.
    pub fn line_of(&mut self, line: &[u8], call: Option<CallId>) {
        self.about = call;
        self.line(line);
        self.about = None;
    }

    /// One line of stdout.
    pub fn line(&mut self, line: &[u8]) {
        match envelope::parse(line) {
            Ok(Message::Response { id, outcome }) => self.response(id, outcome),
            Ok(Message::Notification { method, params }) => self.notification(&method, params),
            Ok(Message::Request { id, method, params }) => self.request(id, &method, params),
            Err(Invalid::Request { .. }) if line.trim_ascii_start().starts_with(b"[") => self.batch(line),
            Err(invalid) => self.garbage(line, &invalid.message()),
        }
    }

    /// Several messages at once: servers of 2025-03-26 may do that. Batches in batches are garbage.
    fn batch(&mut self, line: &[u8]) {
        let text = std::str::from_utf8(line).unwrap_or_default();
        let mut spans = Vec::new();
        // It was found to be JSON when it was read.
        let _ = scan::array(text, |span| spans.push(span));
        if spans.is_empty() {
            return self.garbage(line, "an empty batch");
        }
        for message in spans.into_iter().map(|span| &line[span]) {
            match message.starts_with(b"[") {
                true => self.garbage(message, "a batch in a batch"),
                false => self.line(message),
            }
        }
    }

    /// The server cannot be used any more; said once.
    pub fn fail(&mut self, mut fault: Fault) {
        // What ends one call is nobody's fault. It ends a life only where the server answers so whatever it is asked, and
        // then it is not asked again at once.
        if class(fault.kind) == Class::Nobody && fault.kind != FaultKind::Stopped {
            fault.kind = FaultKind::BadUpstream;
        }
        if self.stage != Stage::Failed {
            self.stage = Stage::Failed;
            self.server.close(self.life);
            self.link.life_over(&fault);
            if let Some(pause) = fault.retry_in {
                self.tell(Event::NotBefore(self.life, pause), None);
            }
            self.tell(Event::Failed(self.life, fault.kind), Some(fault));
        }
    }

    /// The way to the server is broken: whether what it was asked for was done is not known.
    pub fn lost(&mut self, fault: Fault) {
        let message = format!("the way to {} broke before it answered: {}", self.server.name, fault.message);
        let unknown = Fault::new(FaultKind::OutcomeUnknown, message)
            .hint("it may have done what was asked; look before you repeat it");
        self.server.close(self.life);
        self.link.life_over(&unknown);
        self.fail(fault);
    }

    fn response(&mut self, id: &str, outcome: Outcome<'_>) {
        // An id that is not ours, or whose call is over already: a late answer to a cancelled call, or a double.
        let ours = id.parse().unwrap_or(0);
        let Some(pending) = self.link.answered(CallId(ours)) else {
            return log::debug!(
                "{}: an answer nobody waits for, id {}",
                self.server.name,
                text::shorten(id, 40)
            );
        };
        match (pending.waiter, outcome) {
            (Waiter::Caller { slot, .. }, Outcome::Result(raw)) => slot.answer(Answer::Result(raw.into())),
            (Waiter::Caller { slot, .. }, Outcome::Error(raw)) => slot.answer(Answer::Error(raw.into())),
            (Waiter::Own(Purpose::Probe | Purpose::Told), _) => (),
            (Waiter::Own(Purpose::Initialize | Purpose::Discover), outcome) => self.greeting(outcome),
            (Waiter::Own(Purpose::Listen), outcome) => self.listen_over(CallId(ours), outcome),
            (Waiter::Own(Purpose::List(_)), Outcome::Result(raw)) => self.listed(raw),
            (Waiter::Own(Purpose::List(kind)), Outcome::Error(raw)) => self.refused(kind.method(), raw),
        }
    }

    /// A new session: it knows nothing of what the old one was told, and may have other lists.
    pub(super) fn greeted_again(&mut self) {
        self.stage = Stage::Serving;
        // If it cannot be sent, nothing is, and the probes will show it.
        let _ = self.link.send(envelope::notification("notifications/initialized", None));
        self.server.say(&self.link, &Said::Ready);
        self.list_next();
    }

    /// Its first lists are complete.
    pub fn has_served(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::GreetingAgain)
    }

    fn refused(&mut self, method: &str, error: &str) {
        let message = scan::find(error, "message").and_then(|span| scan::string(&error[span]));
        let message = text::shorten(&self.server.hide(message.as_deref().unwrap_or(error)), 200);
        if self.has_served() && method != "initialize" {
            log::warn!("{}: {method} was refused: {message}; its old list stays", self.server.name);
            return self.list_over();
        }
        let message = format!("{method}: the server answered an error: {message}");
        let hint = format!("its log may say more: mcpvisor upstream logs {}", self.server.name);
        self.fail(Fault::new(FaultKind::HandshakeFailed, message).hint(hint));
    }

    fn list(&mut self, kind: Kind) {
        let for_heads = kind == Kind::Tools && std::mem::take(&mut self.heads_wanted);
        self.list_page(List { for_heads, ..List::new(kind) }, "{}".to_owned());
    }

    /// It will not be read to its end.
    fn list_over(&mut self) {
        if self.list.take().is_some_and(|list| list.for_heads) {
            self.link.heads_are_known();
        }
        self.list_next();
    }

    /// Clients doubt what we know.
    pub fn list_what_is_wanted(&mut self) {
        let wanted = self.link.to_list();
        if self.stage == Stage::Serving {
            self.to_list.extend(wanted);
            self.list_next();
        }
    }

    /// A call waits for the tools to be listed: from here on, not since before.
    pub fn list_for_heads(&mut self) {
        match self.stage {
            Stage::Serving => {
                self.heads_wanted = true;
                self.to_list.insert(Kind::Tools);
                self.list_next();
            }
            Stage::Greeting | Stage::Discovering | Stage::GreetingAgain | Stage::Failed => {
                self.link.heads_are_known();
            }
        }
    }

    fn list_next(&mut self) {
        if self.list.is_none()
            && let Some(kind) = self.to_list.pop_first()
        {
            self.list(kind);
        }
    }

    fn list_page(&mut self, list: List, params: String) {
        // Not sent in a first start, the connect deadline ends it. Later the old list stays until the server says
        // again that it changed.
        if self.ask(Purpose::List(list.kind), list.kind.method(), params).is_some() {
            self.list = Some(list);
        } else if list.for_heads {
            self.link.heads_are_known();
        }
    }

    fn listed(&mut self, result: &str) {
        let Some(mut list) = self.list.take() else { return };
        let (name, what, method) = (self.server.name.clone(), list.kind.array(), list.kind.method());
        if self.era == Era::Modern && !is_complete(result) {
            self.list = Some(list);
            return self.refused(method, "{\"message\":\"a result that is not complete\"}");
        }
        let Some(page) = items::page(list.kind, result) else {
            self.list = Some(list);
            return self.refused(method, "{\"message\":\"a result without the list\"}");
        };
        if page.malformed > 0 {
            log::warn!("{name}: {} entries of its list of {what} have no key", page.malformed);
        }
        list.items.extend(page.items);
        if self.era == Era::Modern {
            let page = Caching::of(result);
            list.caching = Some(list.caching.map_or(page, |before| before.and(page)));
        }
        list.pages += 1;
        match page.next {
            Some(cursor) if list.pages < LIST_PAGES_MAX && list.items.len() < ITEMS_MAX => {
                self.list_page(list, format!("{{\"cursor\":{cursor}}}"));
            }
            next => {
                if next.is_some() || list.items.len() > ITEMS_MAX {
                    let (count, pages) = (list.items.len().min(ITEMS_MAX), list.pages);
                    log::warn!("{name}: its list of {what} was cut at {count} entries on {pages} pages");
                    list.items.truncate(ITEMS_MAX);
                }
                self.complete(list);
            }
        }
    }

    fn complete(&mut self, list: List) {
        let List { kind, mut items, caching, for_heads, .. } = list;
        if kind == Kind::Tools && self.era == Era::Modern && self.link.is_remote() {
            self.mirror(&mut items);
        }
        if for_heads {
            self.link.heads_are_known();
        }
        let listed = self.server.listed(self.life, kind, items, caching.unwrap_or(Caching::NONE));
        let said = self.said_changed.remove(&kind);
        if self.stage == Stage::Discovering {
            self.stage = Stage::Serving;
            self.server.open(self.link.clone());
            self.server.say(&self.link, &Said::Ready);
            self.tell(Event::Discovered(self.life), None);
        } else if listed == Listed::Changed {
            self.server.tell(Report::Listed(self.life));
        } else if said && listed == Listed::Same && kind != Kind::Templates {
            // It is for the server to say what a change is; those who look at it alone hear that it said so.
            self.server.say(&self.link, &Said::Notification { method: kind.changed(), params: None });
        }
        self.list_next();
    }

    /// Over HTTP a modern server may want arguments repeated in the head. Tools that want it wrongly cannot be called.
    fn mirror(&self, tools: &mut Vec<Item>) {
        let mut mirrors = Mirrors::new();
        tools.retain(|tool| {
            let schema = scan::find(&tool.raw, "inputSchema").map_or("{}", |span| &tool.raw[span]);
            match mirrored::checked(schema) {
                Ok(found) if found.is_empty() => true,
                Ok(found) => {
                    mirrors.insert(tool.key.clone(), found);
                    true
                }
                Err(why) => {
                    let (server, name) = (&self.server.name, text::shorten(&tool.key, 80));
                    log::warn!("{server}: its tool {name} is left out: `x-mcp-header`: {why}");
                    false
                }
            }
        });
        self.link.mirror(mirrors);
    }

    fn notification(&mut self, method: &str, params: Option<&str>) {
        let changed = Kind::ALL.into_iter().filter(|kind| kind.changed() == method);
        let before = self.to_list.len();
        if self.stage == Stage::Serving {
            self.said_changed.extend(changed.clone());
        }
        self.to_list.extend(changed);
        if self.to_list.len() > before && self.stage == Stage::Serving {
            return self.list_next();
        }
        match method {
            "notifications/progress" => self.progress(params.unwrap_or("{}")),
            "notifications/subscriptions/acknowledged" => (),
            _ if method.ends_with("/list_changed") => (),
            "notifications/cancelled" if self.ends_listening(params.unwrap_or("{}")) => (),
            _ if self.era == Era::Modern => {
                // Which request of ours it belongs to is nobody else's business.
                let params = params.map(|params| meta::edit(params, &[(meta::SUBSCRIPTION_ID, None)]));
                self.server.say(&self.link, &Said::Notification { method, params: params.as_deref() });
            }
            _ => self.server.say(&self.link, &Said::Notification { method, params }),
        }
    }

    /// The server ends what it was asked to tell of.
    fn listen_over(&self, id: CallId, outcome: Outcome<'_>) {
        let refused = matches!(outcome, Outcome::Error(_));
        if refused {
            log::warn!("{}: it tells of no changes, as it refuses subscriptions/listen", self.server.name);
        }
        self.link.listen_over(id, refused);
    }

    /// The same, as a notification.
    fn ends_listening(&self, params: &str) -> bool {
        let id = scan::find(params, "requestId").and_then(|span| params[span].parse().ok()).map(CallId);
        let Some(id) = id.filter(|_| self.era == Era::Modern) else { return false };
        let ended = self.link.answered_if(id, |purpose| purpose == Purpose::Listen);
        if ended {
            self.link.listen_over(id, false);
        }
        ended
    }

    /// Our progress tokens are our call ids.
    fn progress(&mut self, params: &str) {
        let Some(token) = scan::find(params, "progressToken") else { return };
        let Ok(id) = params[token.clone()].parse() else { return };
        let theirs = |own: &str| Some(items::splice(params, &[(token, own)]));
        if !self.link.progress(CallId(id), clock::now(), theirs) {
            log::debug!("{}: progress for a call that nobody waits for", self.server.name);
        }
    }

    /// Never silence: who is to be asked, or why nobody can be, is decided where the clients are known.
    fn request(&mut self, id: &str, method: &str, params: Option<&str>) {
        if matches!(method, "initialize" | "server/discover") && self.stage == Stage::Greeting {
            let message = "it echoes what it is sent, and answers nothing";
            let hint = "is this command an MCP server that speaks on stdin and stdout?";
            return self.fail(Fault::new(FaultKind::HandshakeFailed, message).hint(hint));
        }
        if self.era == Era::Modern {
            // It has no requests of servers, and so no answers to them.
            return log::debug!(
                "{}: asks {} of us, which its era does not know",
                self.server.name,
                text::shorten(method, 80)
            );
        }
        if method != "ping" {
            let call = self.about;
            return self.server.say(&self.link, &Said::Request { id, method, params, call });
        }
        if let Err(fault) = self.link.send(envelope::response(id, Outcome::Result("{}"))) {
            log::debug!("{}: its ping was not answered: {fault}", self.server.name);
        }
    }

    fn garbage(&mut self, line: &[u8], why: &str) {
        self.garbage += 1;
        if self.garbage <= 3 {
            let begin = String::from_utf8_lossy(&line[..line.len().min(400)]);
            let shown = text::shorten(&self.server.secrets().hide_cut(&begin), 120);
            let line = if self.link.is_remote() { "a message of it" } else { "a line on its stdout" };
            log::warn!("{}: {line} is {why}: {shown}", self.server.name);
        }
        if self.garbage == GARBAGE_LINES_MAX {
            let message = format!("{GARBAGE_LINES_MAX} lines of it were not JSON-RPC");
            let hint = if self.link.is_remote() { "" } else { "a server must log to stderr, not to stdout" };
            self.fail(Fault::new(FaultKind::Protocol, message).hint(hint));
        }
    }

    /// `None` if it could not be sent.
    fn ask(&mut self, purpose: Purpose, method: &str, params: String) -> Option<CallId> {
        let now = clock::now();
        let call = NewCall {
            session: 0,
            request: None,
            opened: now,
            deadline: now + NO_DEADLINE,
            patience: NO_DEADLINE,
            wants_progress: false,
        };
        let params = match self.era {
            Era::Legacy => params,
            Era::Modern => {
                handshake::modern_params(&params, env!("CARGO_PKG_VERSION"), &self.face.features())
            }
        };
        let sent = self.link.call(call, Waiter::Own(purpose), method, |_| Some(params.into()));
        sent.inspect_err(|fault| log::debug!("{}: {method} not sent: {fault}", self.server.name)).ok()
    }

    fn tell(&self, event: Event, fault: Option<Fault>) {
        self.server.tell(Report::Event(event, fault));
    }
}

/// Whether a result of the modern era is all of it. One that does not say so is of a server that is older than the word.
fn is_complete(result: &str) -> bool {
    scan::find(result, "resultType").is_none_or(|span| &result[span] == "\"complete\"")
}
