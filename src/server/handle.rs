//! What the rest of the house holds of a server: its name, what it shows, the way to call it, the way to command it.
//!
//! The supervisor's thread writes the status; the life's thread writes link, greeting and tools.

use super::board::Board;
use super::eras::{Eras, Setting};
use super::link::Link;
use super::machine::Event;
use super::status::Status;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, ServerName, Slug};
use crate::base::time::Time;
use crate::engine::watched::Happened;
use crate::mcp::era::Era;
use crate::mcp::features::Feature;
use crate::mcp::handshake::Greeting;
use crate::mcp::items::{Item, Kind};
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
    /// It is not wanted any more and never will be: stop, then end the thread.
    Retire,
}

/// Shared by everybody who needs the server; a value for as long as the config names it.
pub struct Server {
    pub name: ServerName,
    pub slug: Slug,
    /// How long one call may take without progress.
    pub call_patience: Duration,
    /// What is declared to the server that clients can be asked for.
    pub features: Vec<Feature>,
    pub board: Board,
    /// What it is spoken to in.
    pub(super) eras: Eras,
    ear: Arc<Ear>,
    inbox: Sender<Report>,
    status: Mutex<Arc<Status>>,
    times: Mutex<(Time, Option<Time>)>,
    link: RwLock<Option<Arc<Link>>>,
    known: RwLock<Known>,
    log: Option<Mutex<LogFile>>,
}

/// What the server said of itself, kept across lives.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub greeting: Option<Arc<Greeting>>,
    /// By kind; `None` until it has listed them once.
    lists: [Option<Arc<Vec<Item>>>; 4],
    /// How often they came into view or went out of it: one that did both is not as it was.
    pub turns: u64,
}

impl Known {
    pub fn list(&self, kind: Kind) -> Option<Arc<Vec<Item>>> {
        self.lists[kind as usize].clone()
    }

    /// Whether it has been ready once: its tools are the first that it lists.
    pub fn has_listed(&self) -> bool {
        self.lists[Kind::Tools as usize].is_some()
    }
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
    },
    Notification {
        method: &'a str,
        params: Option<&'a str>,
    },
}

/// Who hears what servers say. Called on a life's thread: it must not block.
pub type Ear = dyn Fn(&Server, &Arc<Link>, &Said<'_>) + Send + Sync;

/// What a server is given for its whole time.
pub struct Traits {
    pub call_patience: Duration,
    pub features: Vec<Feature>,
    pub era: Setting,
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
    pub fn new(first: Status, traits: Traits, board: Board, inbox: Sender<Report>) -> Server {
        let Traits { call_patience, features, era, ear, log } = traits;
        Server {
            name: first.name.clone(),
            slug: first.slug.clone(),
            call_patience,
            features,
            board,
            eras: Eras::new(first.name.as_str(), era),
            ear,
            inbox,
            status: Mutex::new(Arc::new(first)),
            times: Mutex::new((Time::ZERO, None)),
            link: RwLock::new(None),
            known: RwLock::new(Known::default()),
            log: log.map(Mutex::new),
        }
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
        let Some(era) = other.filter(|_| link.leave_unused()) else { return link.use_it() };
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

    /// Tells the supervisor. Blocks while its inbox is full; lost only if its thread is gone.
    pub fn tell(&self, report: Report) {
        // A supervisor ends when its server is retired; nobody needs to hear of it after that.
        let _ = self.inbox.send(report);
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

    /// Whether it is another list than before.
    pub(super) fn listed(&self, kind: Kind, items: Vec<Item>) -> bool {
        let mut known = self.known.write();
        let list = &mut known.lists[kind as usize];
        let changed = list.as_ref().is_none_or(|known| **known != items);
        if changed {
            *list = Some(Arc::new(items));
            // Under the lock: whoever sees the new list sees that the lists have changed, too.
            self.board.lists_changed();
        }
        changed
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
