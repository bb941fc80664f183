//! Removals that are owed are paid: containers that should be gone and could not be removed when it was time, of this
//! run and of those before, are tried again until they are seen to be gone.
//!
//! Before each try a look at the labels: what does not bear ours is left alone, and owed no more. What is owed is in
//! the store; when it is tried is decided by `owed_schedule`.

use super::containers::{Unremoved, remove_if, short_id};
use super::keeper::Keeper;
use super::labels::{self, Labels};
use super::owed_schedule::{Place, Schedule};
use crate::base::id::Life;
use crate::base::limits::{CONTAINER_REMOVAL, CREATE_LATEST, OWED_PAUSE_FIRST};
use crate::base::text::span;
use crate::base::time::{Time, Wall};
use crate::engine::answers::Inspected;
use crate::engine::api::Engine;
use crate::engine::endpoint::Endpoint;
use crate::engine::engines::Engines;
use crate::engine::patience::Patience;
use crate::engine::watched::{Heard, Settled, Subscription, Watched};
use crate::store::{Removal, Store};
use crate::sys::wake::Wake;
use crate::sys::{clock, thread};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The thread "removals". It sleeps while nothing is owed or due, and ends when this is closed or dropped.
pub struct Removals(Arc<Desk>);

impl Removals {
    /// What earlier runs left is due as soon as the store has read its file.
    pub fn start(store: &Store, engines: Engines, keeper: Arc<Keeper>) -> io::Result<Removals> {
        let desk = Arc::new(Desk { told: Mutex::default(), news: Condvar::new(), cancel: Wake::new()? });
        let (listening, mine) = (Arc::downgrade(&desk), desk.clone());
        store.on_owed(move || {
            if let Some(desk) = listening.upgrade() {
                desk.tell(|told| told.owed = true);
            }
        });
        if store.is_read() {
            desk.tell(|told| told.owed = true);
        }
        let clerk = Clerk {
            store: store.clone(),
            engines,
            keeper,
            desk: mine,
            schedule: Schedule::default(),
            watched: BTreeMap::new(),
        };
        thread::spawn("removals", move || clerk.run())?;
        Ok(Removals(desk))
    }

    /// Ends it; a try that is under way is broken off. What is owed stays owed.
    pub fn close(&self) {
        self.0.cancel.wake();
        self.0.tell(|told| told.closing = true);
    }
}

impl Drop for Removals {
    fn drop(&mut self) {
        self.close();
    }
}

/// How a removal is named of which no id is known: whatever this life of this run has on the engine.
pub fn by_life(session: &str, life: Life) -> String {
    format!("life={}@{session}", life.0)
}

/// Life and session of such a name.
fn of_life(id: &str) -> Option<(&str, &str)> {
    id.strip_prefix("life=")?.split_once('@')
}

/// One removal that is owed, as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owing {
    pub engine: String,
    pub id: String,
    pub name: String,
    pub server: String,
    /// RFC 3339.
    pub since: String,
    pub tries: u32,
    pub last_error: Option<String>,
    /// `owed`, or `unverified`: the engine took it, and was not asked since.
    pub state: &'static str,
}

impl From<Removal> for Owing {
    fn from(removal: Removal) -> Owing {
        Owing {
            since: Wall(removal.since_ms).rfc3339(),
            state: if removal.unverified { "unverified" } else { "owed" },
            engine: removal.engine,
            id: removal.id,
            name: removal.name,
            server: removal.server,
            tries: removal.tries,
            last_error: removal.last_error,
        }
    }
}

/// Where the thread is told things. Levels, but for the ends of tries, of which there are few.
struct Desk {
    told: Mutex<Told>,
    news: Condvar,
    /// Ends the calls of tries that are under way.
    cancel: Wake,
}

#[derive(Default)]
struct Told {
    /// More is owed.
    owed: bool,
    /// Engines that came up (true) or went away, as it is now.
    presence: BTreeMap<String, bool>,
    done: Vec<(Place, Outcome)>,
    closing: bool,
}

impl Told {
    fn is_empty(&self) -> bool {
        !self.owed && self.presence.is_empty() && self.done.is_empty()
    }
}

impl Desk {
    fn tell(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.told.lock());
        self.news.notify_one();
    }

    /// What there is to hear, at the latest at the deadline; `None` when it is time to end.
    fn listen(&self, deadline: Option<Time>) -> Option<Told> {
        let mut told = self.told.lock();
        while told.is_empty() && !told.closing {
            match deadline {
                None => self.news.wait(&mut told),
                Some(at) => {
                    if self.news.wait_until(&mut told, clock::instant(at)).timed_out() {
                        break;
                    }
                }
            }
        }
        (!told.closing).then(|| std::mem::take(&mut *told))
    }
}

/// How a try ended.
enum Outcome {
    Gone,
    /// It is not ours: left alone.
    NotOurs,
    Failed {
        why: String,
        unverified: bool,
        /// The engine does not answer: worth a look of who watches it.
        away: bool,
    },
}

impl Outcome {
    fn of(done: Result<(), Unremoved>) -> Outcome {
        let Err(why) = done else { return Outcome::Gone };
        let (unverified, away) = match &why {
            Unremoved::Changed => return Outcome::NotOurs,
            Unremoved::Engine(error) => (false, error.is_away()),
            Unremoved::Unseen(error) => (true, error.is_away()),
            Unremoved::Late | Unremoved::Untried | Unremoved::Bug => (false, false),
        };
        Outcome::Failed { why: why.to_string(), unverified, away }
    }

    fn failed(why: impl Into<String>) -> Outcome {
        Outcome::Failed { why: why.into(), unverified: false, away: false }
    }
}

/// Who pays.
struct Clerk {
    store: Store,
    engines: Engines,
    keeper: Arc<Keeper>,
    desk: Arc<Desk>,
    schedule: Schedule,
    /// The engines on which something is owed. `None`: it cannot be watched, and is only tried.
    watched: BTreeMap<String, Option<(Arc<Watched>, Subscription)>>,
}

impl Clerk {
    fn run(mut self) {
        // What stood in the file is due at once; what comes later, whoever owes it has just tried.
        let mut pause = Duration::ZERO;
        while let Some(told) = self.desk.clone().listen(self.schedule.next_deadline()) {
            for (engine, up) in told.presence {
                self.heard(&engine, up);
            }
            for (place, outcome) in told.done {
                self.tried(&place, outcome);
            }
            if told.owed {
                self.look(pause);
                pause = OWED_PAUSE_FIRST;
            }
            for place in self.schedule.take(clock::now()) {
                self.try_to_pay(place);
            }
        }
    }

    /// Takes over what is owed; what is new is due after `pause`. Engines on which nothing is owed are let go.
    fn look(&mut self, pause: Duration) {
        let owed: BTreeSet<Place> =
            self.store.owed().into_iter().map(|removal| (removal.engine, removal.id)).collect();
        self.schedule.know(&owed, clock::now() + pause);
        let engines = self.schedule.engines();
        self.watched.retain(|engine, _| engines.contains(engine));
        for engine in engines {
            if !self.watched.contains_key(&engine) {
                let watch = self.watch(&engine);
                self.watched.insert(engine, watch);
            }
        }
    }

    fn watch(&self, engine: &str) -> Option<(Arc<Watched>, Subscription)> {
        let endpoint = Endpoint::parse(engine).ok()?;
        let watched = match self.engines.get(endpoint) {
            Ok(watched) => watched,
            Err(fault) => {
                log::warn!("{fault}; what is to be removed there is tried once a minute");
                return None;
            }
        };
        let (desk, name) = (Arc::downgrade(&self.desk), engine.to_owned());
        let subscription = watched.subscribe(move |heard| {
            let Some(desk) = desk.upgrade() else { return };
            match heard {
                Heard::Up => desk.tell(|told| _ = told.presence.insert(name.clone(), true)),
                Heard::Away(..) => desk.tell(|told| _ = told.presence.insert(name.clone(), false)),
                Heard::Container(_) => {}
            }
        });
        Some((watched, subscription))
    }

    fn heard(&mut self, engine: &str, up: bool) {
        if !up {
            return self.schedule.away(engine);
        }
        self.schedule.up(engine, clock::now());
        if let Some(Some((_, subscription))) = self.watched.get(engine) {
            // Its recovery need not wait for what is removed.
            subscription.settled(Settled::Unhurt);
        }
    }

    fn try_to_pay(&self, place: Place) {
        let engine = match self.watched.get(&place.0) {
            Some(Some((watched, _))) => watched.engine().clone(),
            Some(None) | None => match Endpoint::parse(&place.0) {
                Ok(endpoint) => Engine::new(endpoint),
                Err(fault) => return self.over(place, Outcome::failed(fault.to_string())),
            },
        };
        let instance = self.keeper.marker().instance.clone();
        let since =
            self.store.owed().into_iter().find(|owed| (&owed.engine, &owed.id) == (&place.0, &place.1));
        let owed_for = since.map_or(Duration::ZERO, |owed| {
            Duration::from_millis(clock::wall().0.saturating_sub(owed.since_ms))
        });
        let report = Report { desk: self.desk.clone(), place, outcome: None };
        // The end is told in any case: also if there is no thread, or if it panics.
        let _ = thread::spawn("removal", move || report.carry_out(&engine, &instance, owed_for));
    }

    fn over(&self, place: Place, outcome: Outcome) {
        self.desk.tell(|told| told.done.push((place, outcome)));
    }

    fn tried(&mut self, place: &Place, outcome: Outcome) {
        let (engine, id) = place;
        match outcome {
            Outcome::Gone => {
                self.settle(place, |name, owed| {
                    log::info!("{name} is removed, {owed} after it should have been")
                });
                self.store.gone(engine, id);
            }
            Outcome::NotOurs => self.settle(place, |name, _| {
                log::warn!("{name} is left alone: it should have been removed, and its labels are not ours");
            }),
            Outcome::Failed { why, unverified, away } => {
                self.store.tried(engine, id, Some(why), unverified);
                self.schedule.failed(place, clock::now());
                if let Some(Some((watched, _))) = self.watched.get(engine).filter(|_| away) {
                    watched.ask();
                }
            }
        }
    }

    /// It is owed no more.
    fn settle(&mut self, place: &Place, say: impl FnOnce(&str, &str)) {
        let (engine, id) = place;
        let owed = self.store.owed().into_iter().find(|owed| owed.engine == *engine && owed.id == *id);
        if let Some(owed) = owed {
            let since = Duration::from_millis(clock::wall().0.saturating_sub(owed.since_ms));
            say(&format!("container {} ({}) on {engine}", owed.name, short_id(id)), &span(since));
        }
        self.store.paid(engine, id);
        self.keeper.container_gone(id);
        self.schedule.over(place);
    }
}

/// Tells the end of one try, whatever that is.
struct Report {
    desk: Arc<Desk>,
    place: Place,
    outcome: Option<Outcome>,
}

impl Report {
    /// The thread "removal" is this one try.
    fn carry_out(mut self, engine: &Engine, instance: &str, owed_for: Duration) {
        let cancel = self.desk.cancel.clone();
        let patience = Patience::of(CONTAINER_REMOVAL).or_cancel(&cancel);
        let is_ours =
            |now: &Inspected| Labels::read(&now.labels).is_some_and(|labels| labels.instance == instance);
        self.outcome = Some(match of_life(&self.place.1) {
            None => Outcome::of(remove_if(engine, &self.place.1, is_ours, &patience)),
            Some((life, session)) => {
                let labels = [(labels::INSTANCE, instance), (labels::SESSION, session), (labels::LIFE, life)];
                match engine.list(&labels, &patience) {
                    Err(error) => {
                        Outcome::Failed { away: error.is_away(), why: error.to_string(), unverified: false }
                    }
                    Ok(found) if found.is_empty() && owed_for < CREATE_LATEST => {
                        Outcome::failed("a create that was never answered may still be carried out")
                    }
                    Ok(found) => found
                        .iter()
                        .map(|one| Outcome::of(remove_if(engine, &one.id, is_ours, &patience)))
                        .find(|outcome| !matches!(outcome, Outcome::Gone))
                        .unwrap_or(Outcome::Gone),
                }
            }
        });
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        let outcome = outcome
            .unwrap_or_else(|| Outcome::failed("it could not be tried: no thread, or a bug; see the log"));
        self.desk.tell(|told| told.done.push((self.place.clone(), outcome)));
    }
}
