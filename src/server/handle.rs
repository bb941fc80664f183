//! What the rest of the house holds of a server: its name, what it shows, the way to call it, the way to command it.
//!
//! The supervisor's thread writes the status; what its lives say is in `face.rs`.

use super::board::Board;
use super::face::{Face, Known, Manner};
use super::link::Link;
use super::machine::Event;
use super::notes;
use super::reconnect::Ask;
use super::status::Status;
use super::supervisor::{self, Change, Resting};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life, ServerName, Slug};
use crate::base::limits::{LIST_AGAIN_MIN, LOG_SETTLE};
use crate::base::redact::{self, Secrets};
use crate::base::time::Time;
use crate::engine::watched::Heard;
use crate::mcp::caching::Caching;
use crate::mcp::era::Era;
use crate::mcp::features::Feature;
use crate::mcp::items::{Item, Kind};
use crate::sys::clock;
use crate::sys::logs::Log;
use crossbeam_channel::Sender;
use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::path::PathBuf;
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
    /// What the engine has to say; to whoever moved in there under this number.
    Heard(u64, Heard),
    /// How far its image is.
    Progress(Life, String),
    /// It takes no new calls, and the last one has ended.
    Drained(Life),
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
    faces: RwLock<Faces>,
    ear: Arc<Ear>,
    inbox: Sender<Box<Report>>,
    /// Its supervisor, while there is nothing to supervise and so no thread.
    pub(super) resting: Mutex<Option<Resting>>,
    status: Mutex<Arc<Status>>,
    times: Mutex<(Time, Option<Time>)>,
    log: Option<Log>,
    /// What must not be read in what it says, or in what is said of it.
    secrets: RwLock<Arc<Secrets>>,
    /// The file that says why it was given up last.
    report: Mutex<Option<PathBuf>>,
}

/// What is shown, and during a switch the one beside it: that of the life to come, then that of the one before.
struct Faces {
    shown: Arc<Face>,
    other: Option<Arc<Face>>,
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

/// What a server is given for its whole time.
pub struct Traits {
    pub ear: Arc<Ear>,
    pub log: Option<Log>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        redact::forget(self.slug.as_str(), self.secrets.get_mut());
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
            faces: RwLock::new(Faces {
                shown: Arc::new(Face::new(first.name.as_str(), manner, Known::default())),
                other: None,
            }),
            ear,
            inbox,
            resting: Mutex::new(None),
            status: Mutex::new(Arc::new(first)),
            times: Mutex::new((Time::ZERO, None)),
            log,
            secrets: RwLock::default(),
            report: Mutex::default(),
        }
    }

    /// What is shown of it.
    pub(super) fn shown(&self) -> Arc<Face> {
        self.faces.read().shown.clone()
    }

    /// Whose what `life` says is.
    pub(super) fn face(&self, life: Life) -> Arc<Face> {
        let faces = self.faces.read();
        let other = faces.other.iter().find(|face| face.life() == life);
        other.unwrap_or(&faces.shown).clone()
    }

    /// One beside it, which nobody sees; or none any more.
    pub(super) fn beside(&self, other: Option<Arc<Face>>) {
        self.faces.write().other = other;
    }

    /// The one beside it is shown from here on, and the one that was shown is beside it.
    pub(super) fn turn(&self) {
        let mut faces = self.faces.write();
        let Some(next) = faces.other.take() else { return };
        next.known.write().turns = faces.shown.known.read().turns;
        let before = std::mem::replace(&mut faces.shown, next);
        faces.other = Some(before);
        // Under the lock: whoever sees other lists sees that they have changed, too.
        self.board.lists_changed();
    }

    /// The container of the life beside this one, which nobody may touch for it.
    pub(super) fn container_beside(&self, life: Life) -> Option<String> {
        let faces = self.faces.read();
        let other = faces.other.as_ref()?;
        if other.life() == life { faces.shown.container() } else { other.container() }
    }

    /// How long one call may take without progress.
    pub fn call_patience(&self) -> Duration {
        self.faces.read().shown.call_patience()
    }

    pub fn groups(&self) -> Vec<String> {
        self.shown().manner().groups.clone()
    }

    /// What is declared to the server that clients can be asked for.
    pub fn features(&self) -> Vec<Feature> {
        self.shown().features()
    }

    pub fn status(&self) -> Arc<Status> {
        self.status.lock().clone()
    }

    /// The way to the current life; `None` unless it is ready.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.faces.read().shown.link()
    }

    /// The ways to all lives that may have calls: beside the current one, during a switch, the one before.
    pub fn links(&self) -> impl Iterator<Item = Arc<Link>> + use<> {
        let faces = self.faces.read();
        let other = faces.other.as_ref().and_then(|face| face.link());
        faces.shown.link().into_iter().chain(other)
    }

    /// A client of this era calls. `false`: the life makes way for one of that era, and whoever calls waits for it; only
    /// one that nobody has used does.
    pub fn is_usable_by(&self, era: Option<Era>, link: &Link) -> bool {
        let other = era.filter(|era| self.shown().eras.wanted(*era, link.era()));
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
        self.shown().known()
    }

    /// Tells the supervisor, which gets a thread for it if it has none. Blocks while its inbox is full; lost only if
    /// the server was retired.
    pub fn tell(&self, report: Report) {
        if matches!(report, Report::Retire) && self.resting.lock().take().is_some() {
            // There is nothing to stop.
            return;
        }
        // What it said of itself may be in it.
        let report = if let Report::Event(event, Some(fault)) = report {
            Report::Event(event, Some(self.hide_in(fault)))
        } else {
            report
        };
        // A supervisor ends when its server is retired; nobody needs to hear of it after that.
        let _ = self.inbox.send(Box::new(report));
        supervisor::wake(self);
    }

    fn hide_in(&self, fault: Fault) -> Fault {
        let message = self.hide(&fault.message).into_owned();
        let hint = self.hide(&fault.hint).into_owned();
        Fault { message, hint, ..fault }
    }

    /// Whether it is off, and has no thread.
    pub fn is_resting(&self) -> bool {
        self.resting.lock().is_some()
    }

    /// A line of its stderr, of which its secrets were taken out, for its log file.
    pub(super) fn said(&self, text: &str) {
        if let Some(log) = &self.log {
            log.push(&[&clock::wall().rfc3339(), " stderr: ", text]);
        }
    }

    /// One line of our own for it.
    pub(super) fn note(&self, text: &str) {
        if let Some(log) = &self.log
            && let Some(line) = notes::fit(self.slug.as_str(), &self.hide(text))
        {
            log.push(&[&clock::wall().rfc3339(), " ", &line]);
        }
    }

    /// Its log file, as far as it was written when this returns.
    pub fn settle_log(&self) {
        if let Some(log) = &self.log {
            log.settle(LOG_SETTLE);
        }
    }

    /// Its log file, and who writes it.
    pub(super) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// The file that says why it was given up last.
    pub fn report(&self) -> Option<String> {
        self.report.lock().as_ref().map(|path| path.display().to_string())
    }

    /// That file is there, or is not any more.
    pub(super) fn reported(&self, path: Option<PathBuf>) {
        *self.report.lock() = path;
        self.board.post();
    }

    /// The text without its secrets.
    pub(super) fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.secrets().hide(text)
    }

    pub(super) fn secrets(&self) -> Arc<Secrets> {
        self.secrets.read().clone()
    }

    /// From now on these are its secrets; during a switch, beside those that it has.
    pub(super) fn keep_secret(&self, secrets: Secrets) {
        let is_alone = self.faces.read().other.is_none();
        let secrets = if is_alone { secrets } else { secrets.and(&self.secrets()) };
        let mut own = self.secrets.write();
        if **own != secrets {
            *own = Arc::new(secrets);
            redact::remember(self.slug.as_str(), &own);
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
        let shown = self.shown();
        if before != self.is_offered() && shown.known.read().has_listed() {
            shown.known.write().turns += 1;
            self.board.lists_changed();
        }
        self.board.post();
    }

    /// What an earlier run of the daemon knew of it; before anybody else has the server.
    pub(super) fn recall(&self, known: Known) {
        *self.shown().known.write() = known;
    }

    /// What a life lists, and for how long that is good.
    pub(super) fn listed(&self, life: Life, kind: Kind, items: Vec<Item>, caching: Caching) -> Listed {
        let face = self.face(life);
        let mut known = face.known.write();
        known.cachings[kind as usize] = (caching, clock::now());
        let list = &mut known.lists[kind as usize];
        let listed = match list {
            None => Listed::First,
            Some(before) if **before != items => Listed::Changed,
            Some(_) => return Listed::Same,
        };
        *list = Some(Arc::new(items));
        // Under the lock: whoever sees the new list sees that the lists have changed, too. What is not shown is looked at
        // when it is (`turn`).
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
        let shown = self.shown();
        let mut known = shown.known.write();
        let doubted = &mut known.doubted[kind as usize];
        if doubted.is_none_or(|before| now.since(before) >= LIST_AGAIN_MIN) {
            *doubted = Some(now);
            link.list_anew(kind);
        }
    }

    /// A life that is not shown answers for its calls, and has no news.
    pub(super) fn say(&self, link: &Arc<Link>, said: &Said<'_>) {
        const OF_A_CALL: [&str; 2] = ["notifications/message", "notifications/cancelled"];
        let heard = match said {
            Said::Request { .. } => true,
            Said::Notification { method, .. } if OF_A_CALL.contains(method) => true,
            Said::Notification { .. } | Said::Ready => {
                let faces = self.faces.read();
                faces.other.as_ref().is_none_or(|other| other.life() != link.life)
            }
        };
        if heard {
            (self.ear)(self, link, said);
        }
    }

    pub(super) fn open(&self, link: Arc<Link>) {
        self.face(link.life).open(link);
    }

    /// Forgets the link of `life`; a later life's stays.
    pub(super) fn close(&self, life: Life) {
        self.face(life).close(life);
    }
}
