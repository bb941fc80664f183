//! One engine as others see and hear it: its state, who lives on it, what they are told. The thread that watches it is
//! in `monitor.rs`; all that is shared with it is here, and levels: who asks twice before it looks has asked once.

use super::api::Engine;
use super::endpoint::Endpoint;
use super::outage::Cause;
use super::tidings::Failed;
use crate::base::fault::Fault;
use crate::base::limits::{ENGINE_OOMS_MAX, ENGINE_SUBSCRIBERS_MAX};
use crate::base::ring::Ring;
use crate::sys::wake::Wake;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a subscriber is told. `Up` and `Away` are levels, and may be told twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The engine answers, its events are heard, and what earlier sessions left on it is swept.
    Up,
    /// It cannot be used: kind `engine_away`, with the cause and what to do.
    Away(Cause, Fault),
    /// Something happened to the container that the subscriber follows.
    Container(Happened),
}

/// To a container. Seen as it happens, or after an outage in the list of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its exit code, where the engine said it.
    Died(Option<i64>),
    /// Out of memory; a process in it was killed, perhaps not the last.
    Oom,
    Paused,
    Unpaused,
    /// It does not exist any more.
    Gone,
}

/// One row of `engines` in the status. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    pub endpoint: Endpoint,
    /// One of: unknown up away recovering.
    pub state: &'static str,
    /// While it is away, one of: paused down silent denied.
    pub cause: Option<&'static str>,
    pub since: String,
    /// Why it is away, and what to do.
    pub reason: Option<Fault>,
    /// What it said of itself when it was up last.
    pub id: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub api_version: Option<String>,
    /// When it is asked again by itself; nothing while it is being asked.
    pub next_probe_at: Option<String>,
    /// Whether its events are heard; else pings alone tell.
    pub events: bool,
    /// Containers of ours on it, running or not.
    pub containers: usize,
    pub recovery: Option<Progress>,
    pub outages: Outages,
}

/// How many of those who live on it are back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub done: u32,
    pub of: u32,
}

/// All outages of one engine, also those before the daemon's last start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outages {
    pub count: u64,
    pub last_at: Option<String>,
    /// When the last recovery ended.
    pub last_recovery_at: Option<String>,
    /// Of the last outage that ended: how long the engine was away.
    pub last_outage_ms: Option<u64>,
    /// Of the last recovery: from the engine's first answer until all were back, or given up.
    pub last_recovery_ms: Option<u64>,
    /// Servers that came back, and that did not, over all recoveries.
    pub recovered: u64,
    pub failed: u64,
}

/// How it went for one subscriber after the engine came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The outage did not touch it: it is not wanted, or had nothing on the engine.
    Unhurt,
    Back,
    Failed,
}

/// An engine that is watched as long as this exists.
#[derive(Debug)]
pub struct Watched {
    engine: Engine,
    shared: Arc<Shared>,
}

impl Watched {
    pub(super) fn new(engine: Engine, shared: Arc<Shared>) -> Watched {
        Watched { engine, shared }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn state(&self) -> Arc<Snapshot> {
        self.shared.snapshot.lock().clone()
    }

    /// Tells `hear` from now on, and at once what is known. It is called on the engine's thread and must not block.
    /// Dropping the subscription ends it; a call that is under way then still ends.
    pub fn subscribe(&self, hear: impl Fn(&Heard) + Send + Sync + 'static) -> Subscription {
        self.subscribe_as("", hear)
    }

    /// The same for one who has a name, by which people are told that it did not come back.
    pub fn subscribe_as(&self, name: &str, hear: impl Fn(&Heard) + Send + Sync + 'static) -> Subscription {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut subscribers = self.shared.subscribers.lock();
        if subscribers.len() < ENGINE_SUBSCRIBERS_MAX {
            let hear = Arc::new(hear);
            subscribers.push(Subscriber {
                number,
                name: name.into(),
                hear,
                fresh: true,
                follows: None,
                settled: Some(Settled::Unhurt),
                why: None,
            });
        } else {
            log::error!("engine {}: too many live on it; one more will hear nothing", self.engine.endpoint());
        }
        drop(subscribers);
        self.shared.wake.wake();
        Subscription { number, shared: self.shared.clone() }
    }

    /// Is it there? It is asked now, and all subscribers hear the answer; within `health_check_timeout`, unless it is
    /// just coming up.
    pub fn ask(&self) {
        self.shared.asked.store(true, Ordering::SeqCst);
        self.shared.wake.wake();
    }

    /// Whether the engine said that this container ran out of memory. What it said before it answered an `ask` is known
    /// when the answer is heard.
    pub fn oomed(&self, id: &str) -> bool {
        self.shared.ooms.lock().iter().any(|known| known == id)
    }
}

impl Watched {
    /// Ends its threads, which nobody waits for: a call that is under way ends at once.
    pub(super) fn close(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.stopped.wake();
        self.shared.wake.wake();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.close();
    }
}

/// One who lives on an engine.
#[derive(Debug)]
pub struct Subscription {
    number: u64,
    shared: Arc<Shared>,
}

impl Subscription {
    /// From now on this container's events are told, and no other's. To be called before it is started.
    pub fn follow(&self, id: &str) {
        self.with(|own| own.follows = Some(Followed { id: id.to_owned(), paused: false }));
    }

    pub fn unfollow(&self) {
        self.with(|own| own.follows = None);
    }

    /// To be called once after every `Up` that follows an `Away`: the recovery is over when all have said it.
    pub fn settled(&self, how: Settled) {
        self.with(|own| own.settled = Some(how));
        self.shared.wake.wake();
    }

    /// The same for [`Settled::Failed`], with the reason.
    pub fn failed(&self, why: Option<Fault>) {
        self.with(|own| own.why = why);
        self.settled(Settled::Failed);
    }

    fn with(&self, change: impl FnOnce(&mut Subscriber)) {
        let mut subscribers = self.shared.subscribers.lock();
        if let Some(own) = subscribers.iter_mut().find(|one| one.number == self.number) {
            change(own);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.subscribers.lock().retain(|one| one.number != self.number);
        self.shared.wake.wake();
    }
}

pub(super) struct Subscriber {
    number: u64,
    /// Empty: nobody whom people know.
    name: Box<str>,
    hear: Arc<dyn Fn(&Heard) + Send + Sync>,
    /// It has not been told anything yet.
    fresh: bool,
    follows: Option<Followed>,
    /// Nothing: it is still to come back from the last outage.
    settled: Option<Settled>,
    /// Why it failed.
    why: Option<Fault>,
}

struct Followed {
    id: String,
    /// It was told so.
    paused: bool,
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What the engine's thread and everybody else touch.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) snapshot: Mutex<Arc<Snapshot>>,
    subscribers: Mutex<Vec<Subscriber>>,
    ooms: Mutex<Ring<String>>,
    asked: AtomicBool,
    stop: AtomicBool,
    /// Ends the poll of the engine's thread.
    pub(super) wake: Wake,
    /// Ends its calls; readable for good once nobody watches any more.
    pub(super) stopped: Wake,
}

/// How far a recovery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) back: u32,
    pub(super) failed: u32,
    pub(super) open: u32,
}

impl Shared {
    pub(super) fn new(first: Snapshot) -> io::Result<Shared> {
        Ok(Shared {
            snapshot: Mutex::new(Arc::new(first)),
            subscribers: Mutex::default(),
            ooms: Mutex::new(Ring::new(ENGINE_OOMS_MAX)),
            asked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wake: Wake::new()?,
            stopped: Wake::new()?,
        })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::SeqCst)
    }

    /// Tells everybody. No lock is held while they hear.
    pub(super) fn tell_all(&self, heard: &Heard) {
        let all: Vec<_> = {
            let mut subscribers = self.subscribers.lock();
            subscribers.iter_mut().for_each(|one| one.fresh = false);
            subscribers.iter().map(|one| one.hear.clone()).collect()
        };
        all.iter().for_each(|hear| hear(heard));
    }

    /// Tells those who have heard nothing yet.
    pub(super) fn tell_fresh(&self, heard: &Heard) {
        let fresh: Vec<_> = {
            let mut subscribers = self.subscribers.lock();
            let fresh = subscribers.iter_mut().filter(|one| one.fresh);
            fresh
                .map(|one| {
                    one.fresh = false;
                    one.hear.clone()
                })
                .collect()
        };
        fresh.iter().for_each(|hear| hear(heard));
    }

    /// Tells who follows this container.
    pub(super) fn tell_of(&self, id: &str, happened: Happened) {
        let mut told = Vec::new();
        for one in self.subscribers.lock().iter_mut() {
            let Some(followed) = one.follows.as_mut().filter(|followed| followed.id == id) else { continue };
            match happened {
                Happened::Paused => followed.paused = true,
                Happened::Unpaused if !followed.paused => continue,
                Happened::Unpaused => followed.paused = false,
                Happened::Died(_) | Happened::Oom | Happened::Gone => {}
            }
            told.push(one.hear.clone());
        }
        told.iter().for_each(|hear| hear(&Heard::Container(happened)));
    }

    /// The containers that somebody follows.
    pub(super) fn followed(&self) -> Vec<String> {
        let subscribers = self.subscribers.lock();
        subscribers.iter().filter_map(|one| Some(one.follows.as_ref()?.id.clone())).collect()
    }

    pub(super) fn note_oom(&self, id: &str) {
        self.ooms.lock().push(id.to_owned());
    }

    /// A recovery begins: everybody is to say how it went.
    pub(super) fn begin_recovery(&self) {
        self.subscribers.lock().iter_mut().for_each(|one| (one.settled, one.why) = (None, None));
    }

    /// Those who have a name and are not back, as far as they are known.
    pub(super) fn failed(&self) -> Vec<Failed> {
        let subscribers = self.subscribers.lock();
        let lost = subscribers.iter().filter(|one| matches!(one.settled, None | Some(Settled::Failed)));
        let failed = lost.filter(|one| !one.name.is_empty());
        let mut all: Vec<Failed> =
            failed.map(|one| Failed { server: one.name.to_string(), reason: one.why.clone() }).collect();
        all.sort_by(|a, b| a.server.cmp(&b.server));
        all
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for one in self.subscribers.lock().iter() {
            match one.settled {
                None => census.open += 1,
                Some(Settled::Back) => census.back += 1,
                Some(Settled::Failed) => census.failed += 1,
                Some(Settled::Unhurt) => {}
            }
        }
        census
    }
}
