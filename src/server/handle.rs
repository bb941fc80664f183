//! What the rest of the house holds of a server: its name, what it shows, the way to call it, the way to command it.
//!
//! The supervisor's thread writes the status; the life's thread writes link, greeting and tools.

use super::board::Board;
use super::eras::{Eras, Setting};
use super::link::Link;
use super::machine::Event;
use super::reconnect::Ask;
use super::status::Status;
use super::supervisor::{self, Change, Resting};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life, ServerName, Slug};
use crate::base::limits::LIST_AGAIN_MIN;
use crate::base::time::Time;
use crate::engine::watched::Happened;
use crate::mcp::caching::Caching;
use crate::mcp::era::Era;
use crate::mcp::features::Feature;
use crate::mcp::handshake::Greeting;
use crate::mcp::items::{Item, Kind};
use crate::sys::clock;
use crate::sys::logfile::LogFile;
use crossbeam_channel::Sender;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Duration;

/// What a supervisor is told.
#[derive(Debug)]
pub enum Report {
    /// An event for the machine, and the fault in words if it is about one.
    Event(Event, Option<Fault>),
    /// It exists; with its pid, if it is a process of this host.
    Spawned(Life, Option<u32>),
    /// It lives in this container.
    Contained(Life, String),
    /// Its engine says of its container what became of it.
    Happened(Happened),
    /// How far its image is.
    Progress(Life, String),
    /// Its tools changed while it was ready.
    Listed(Life),
    /// Its entry is another one now.
    Change(Box<Change>),
    /// The config does not name it any more: stop, and do not start, whoever asks, until it is changed.
    Leave,
    /// Somebody wants it back now, and hears how it went.
    Reconnect(Ask),
    /// It is not wanted any more and never will be: stop, then end for good.
    Retire,
}

/// Shared by everybody who needs the server; one value for as long as the config names it, whatever changes in its
/// entry.
pub struct Server {
    pub name: ServerName,
    pub slug: Slug,
    pub board: Board,
    manner: RwLock<Arc<Manner>>,
    /// What it is spoken to in.
    pub(super) eras: Eras,
    ear: Arc<Ear>,
    inbox: Sender<Box<Report>>,
    /// Its supervisor, while there is nothing to supervise and so no thread.
    pub(super) resting: Mutex<Option<Box<Resting>>>,
    status: Mutex<Arc<Status>>,
    times: Mutex<(Time, Option<Time>)>,
    link: RwLock<Option<Arc<Link>>>,
    known: RwLock<Known>,
    log: Option<Mutex<LogFile>>,
}

/// What the server said of itself, kept across lives.
#[derive(Clone, Debug)]
pub struct Known {
    pub greeting: Option<Arc<Greeting>>,
    /// By kind; `None` until it has listed them once.
    lists: [Option<Arc<Vec<Item>>>; 4],
    /// For how long each was good, and when it came.
    cachings: [(Caching, Time); 4],
    /// When somebody last doubted a list.
    doubted: [Option<Time>; 4],
    /// How often they came into view or went out of it: one that did both is not as it was.
    pub turns: u64,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            greeting: None,
            lists: [const { None }; 4],
            cachings: [(Caching::NONE, Time::ZERO); 4],
            doubted: [None; 4],
            turns: 0,
        }
    }
}

impl Known {
    pub(super) fn new(greeting: Greeting, lists: [Option<Vec<Item>>; 4]) -> Known {
        Known {
            greeting: Some(Arc::new(greeting)),
            lists: lists.map(|list| list.map(Arc::new)),
            ..Known::default()
        }
    }

    pub fn list(&self, kind: Kind) -> Option<Arc<Vec<Item>>> {
        self.lists[kind as usize].clone()
    }

    /// What is left of the time that the server gave this list.
    pub fn caching(&self, kind: Kind, now: Time) -> Caching {
        let (caching, since) = self.cachings[kind as usize];
        caching.aged(now.since(since))
    }

    /// Whether it has been ready once: its tools are the first that it lists.
    pub fn has_listed(&self) -> bool {
        self.lists[Kind::Tools as usize].is_some()
    }
}

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    First,
    Changed,
    Same,
}

/// What a server says of its own accord, and nobody here answers.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// A new life is ready, and knows nothing of what the one before was told.
    Ready,
    Request {
        id: &'a str,
        method: &'a str,
        params: Option<&'a str>,
        /// The call that it came with, where the way tells.
        call: Option<CallId>,
    },
    Notification {
        method: &'a str,
        params: Option<&'a str>,
    },
}

/// Who hears what servers say. Called on a life's thread: it must not block.
pub type Ear = dyn Fn(&Server, &Arc<Link>, &Said<'_>) + Send + Sync;

/// Whether clients have a use for a server that gets no calls: they have subscribed to what it has.
pub type Needed = dyn Fn(&ServerName) -> bool + Send + Sync;

/// How it is spoken to. Changes with its entry.
#[derive(Clone)]
pub struct Manner {
    /// How long one call may take without progress.
    pub call_patience: Duration,
    /// What people call it together with others.
    pub groups: Vec<String>,
    /// What is declared to the server that clients can be asked for.
    pub features: Vec<Feature>,
    pub era: Setting,
}

/// What a server is given for its whole time.
pub struct Traits {
    pub ear: Arc<Ear>,
    pub log: Option<LogFile>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Server {
    pub fn new(
        first: Status,
        manner: Manner,
        traits: Traits,
        board: Board,
        inbox: Sender<Box<Report>>,
    ) -> Server {
        let Traits { ear, log } = traits;
        Server {
            name: first.name.clone(),
            slug: first.slug.clone(),
            board,
            eras: Eras::new(first.name.as_str(), manner.era.clone()),
            manner: RwLock::new(Arc::new(manner)),
            ear,
            inbox,
            resting: Mutex::new(None),
            status: Mutex::new(Arc::new(first)),
            times: Mutex::new((Time::ZERO, None)),
            link: RwLock::new(None),
            known: RwLock::new(Known::default()),
            log: log.map(Mutex::new),
        }
    }

    /// How long one call may take without progress.
    pub fn call_patience(&self) -> Duration {
        self.manner.read().call_patience
    }

    pub fn groups(&self) -> Vec<String> {
        self.manner.read().groups.clone()
    }

    /// What is declared to the server that clients can be asked for.
    pub fn features(&self) -> Vec<Feature> {
        self.manner.read().features.clone()
    }

    /// Another one from now on: for the life that runs, too.
    pub(super) fn adopt(&self, manner: Manner) {
        self.eras.set(manner.era.clone());
        *self.manner.write() = Arc::new(manner);
    }

    pub fn status(&self) -> Arc<Status> {
        self.status.lock().clone()
    }

    /// The way to the current life; `None` unless it is ready.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.link.read().clone()
    }

    /// A client of this era calls. `false`: the life makes way for one of that era, and whoever calls waits for it; only
    /// one that nobody has used does.
    pub fn is_usable_by(&self, era: Option<Era>, link: &Link) -> bool {
        let other = era.filter(|era| self.eras.wanted(*era, link.era()));
        let Some(era) = other.filter(|_| link.leave(0)) else { return link.use_it() };
        let message = format!("{} is greeted in the {} era, which its client speaks", self.name, era.name());
        log::info!("{message}");
        let fault = Fault::new(FaultKind::Stopped, message);
        link.life_over(&fault);
        self.close(link.life);
        self.tell(Report::Event(Event::Failed(link.life, fault.kind), Some(fault)));
        false
    }

    pub fn known(&self) -> Known {
        self.known.read().clone()
    }

    /// Tells the supervisor, which gets a thread for it if it has none. Blocks while its inbox is full; lost only if
    /// the server was retired.
    pub fn tell(&self, report: Report) {
        if matches!(report, Report::Retire) && self.resting.lock().take().is_some() {
            // There is nothing to stop.
            return;
        }
        // A supervisor ends when its server is retired; nobody needs to hear of it after that.
        let _ = self.inbox.send(Box::new(report));
        supervisor::wake(self);
    }

    /// Whether it is off, and has no thread.
    pub fn is_resting(&self) -> bool {
        self.resting.lock().is_some()
    }

    /// One line for this server's log file.
    pub fn note(&self, text: &str) {
        if let Some(log) = &self.log {
            log.lock().line(text);
        }
    }

    /// Whether its tools belong into lists: it runs, or will by itself.
    pub fn is_offered(&self) -> bool {
        !matches!(self.status.lock().state, "disabled" | "parked" | "auto_disabled")
    }

    /// Since when it is in its state, on the monotonic clock.
    pub fn state_since(&self) -> Time {
        self.times.lock().0
    }

    pub fn retry_in(&self, now: Time) -> Option<Duration> {
        self.times.lock().1.map(|at| at.since(now))
    }

    /// `since` and `retry` are the status's times, for those who compute with them.
    pub(super) fn show(&self, status: Status, since: Time, retry: Option<Time>) {
        let before = self.is_offered();
        *self.times.lock() = (since, retry);
        *self.status.lock() = Arc::new(status);
        if before != self.is_offered() && self.known.read().has_listed() {
            self.known.write().turns += 1;
            self.board.lists_changed();
        }
        self.board.post();
    }

    pub(super) fn greeted(&self, greeting: Greeting) {
        self.known.write().greeting = Some(Arc::new(greeting));
    }

    /// What an earlier run of the daemon knew of it; before anybody else has the server.
    pub(super) fn recall(&self, known: Known) {
        *self.known.write() = known;
    }

    /// What it lists, and for how long that is good.
    pub(super) fn listed(&self, kind: Kind, items: Vec<Item>, caching: Caching) -> Listed {
        let mut known = self.known.write();
        known.cachings[kind as usize] = (caching, clock::now());
        let list = &mut known.lists[kind as usize];
        let listed = match list {
            None => Listed::First,
            Some(before) if **before != items => Listed::Changed,
            Some(_) => return Listed::Same,
        };
        *list = Some(Arc::new(items));
        // Under the lock: whoever sees the new list sees that the lists have changed, too.
        self.board.lists_changed();
        listed
    }

    /// A client wants this list. What its server gave no longer time for is listed anew; where it gave none at all, that is
    /// done if it would not say by itself that it has changed.
    pub fn list_if_stale(&self, kind: Kind, now: Time) {
        let Some(link) = self.link().filter(|link| link.era() == Era::Modern) else { return };
        let known = self.known();
        if known.list(kind).is_none() {
            return;
        }
        let (caching, since) = known.cachings[kind as usize];
        let stale = now.since(since) >= caching.ttl && !(caching.ttl.is_zero() && link.tells_of(kind));
        if stale && now.since(since) >= LIST_AGAIN_MIN {
            self.list_anew(&link, kind, now);
        }
    }

    /// There is reason to think that a modern server's list is another one by now.
    pub fn list_if_doubted(&self, kind: Kind, now: Time) {
        if let Some(link) = self.link().filter(|link| link.era() == Era::Modern) {
            self.list_anew(&link, kind, now);
        }
    }

    fn list_anew(&self, link: &Link, kind: Kind, now: Time) {
        let mut known = self.known.write();
        let doubted = &mut known.doubted[kind as usize];
        if doubted.is_none_or(|before| now.since(before) >= LIST_AGAIN_MIN) {
            *doubted = Some(now);
            link.list_anew(kind);
        }
    }

    pub(super) fn say(&self, link: &Arc<Link>, said: &Said<'_>) {
        (self.ear)(self, link, said);
    }

    pub(super) fn open(&self, link: Arc<Link>) {
        *self.link.write() = Some(link);
    }

    /// Forgets the link of `life`; a later life's stays.
    pub(super) fn close(&self, life: Life) {
        let mut link = self.link.write();
        if link.as_ref().is_some_and(|link| link.life == life) {
            *link = None;
        }
    }
}
