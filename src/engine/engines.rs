//! All engines that somebody lives on: one endpoint, one engine, one thread that watches it.

use super::api::Engine;
use super::caller::Sweep;
use super::endpoint::Endpoint;
use super::monitor;
use super::outage::Policy;
use super::tidings::Tidings;
use super::watched::{Snapshot, Watched};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::ENGINES_MAX;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What all engines are watched by.
#[derive(Clone, Default)]
pub struct Terms {
    pub policy: Policy,
    /// The label that all our containers carry: theirs are the events that are heard, and they are counted.
    pub label: Option<(String, String)>,
    /// Done on an engine before its first `Up`.
    pub sweep: Option<Arc<Sweep>>,
    /// Called on the engine's thread when something that people see has changed; must not block.
    pub changed: Option<Arc<Changed>>,
    /// Told of outages and recoveries, on the engine's thread; must not block.
    pub told: Option<Arc<Told>>,
    /// Where the outages of earlier runs are kept.
    pub memory: Option<Memory>,
}

/// What was before a change, and what is now.
pub type Changed = dyn Fn(&Snapshot, &Snapshot) + Send + Sync;

pub type Told = dyn Fn(&Endpoint, &Tidings) + Send + Sync;

/// A place for one text per engine, that outlives the daemon. Called on the engine's thread; neither may block for long.
#[derive(Clone)]
pub struct Memory {
    pub recall: Arc<Recall>,
    pub remember: Arc<Remember>,
}

pub type Recall = dyn Fn(&Endpoint) -> Option<String> + Send + Sync;
pub type Remember = dyn Fn(&Endpoint, &str) + Send + Sync;

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms")
            .field("policy", &self.policy)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Clones are the same registry; with the last one goes the watching of those that nobody else holds.
#[derive(Clone, Debug, Default)]
pub struct Engines(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    terms: Terms,
    /// Shared with the threads, so that a change reaches them.
    policy: Arc<RwLock<Policy>>,
    watched: Mutex<BTreeMap<Endpoint, Arc<Watched>>>,
}

impl Engines {
    pub fn new(terms: Terms) -> Engines {
        let policy = Arc::new(RwLock::new(terms.policy.clone()));
        Engines(Arc::new(Inner { terms, policy, watched: Mutex::default() }))
    }

    /// Watched from the first time on that somebody asks for it. The fault is one of the host: no threads, no
    /// descriptors, or more engines than anybody has.
    pub fn get(&self, endpoint: Endpoint) -> Result<Arc<Watched>, Fault> {
        let mut all = self.0.watched.lock();
        if let Some(watched) = all.get(&endpoint) {
            return Ok(watched.clone());
        }
        let fails = |why: String| {
            let message = format!("watch engine {endpoint}: {why}");
            Fault::new(FaultKind::HostResources, message)
        };
        if all.len() >= ENGINES_MAX {
            return Err(fails(format!("{ENGINES_MAX} others are watched already")));
        }
        let engine = Engine::new(endpoint.clone());
        let watched = monitor::start(all.len(), engine, self.0.terms.clone(), self.0.policy.clone())
            .map_err(|error| fails(error.to_string()).hint("the host is out of files, threads or memory"))?;
        let watched = Arc::new(watched);
        all.insert(endpoint, watched.clone());
        Ok(watched)
    }

    /// One that is watched and up.
    pub fn up(&self, endpoint: &Endpoint) -> Option<Engine> {
        let all = self.0.watched.lock();
        let watched = all.get(endpoint)?;
        (watched.state().state == "up").then(|| watched.engine().clone())
    }

    /// One for each engine, in the order of their endpoints.
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.0.watched.lock().values().map(|watched| watched.state()).collect()
    }

    /// Other numbers from now on; a pause that has begun is not cut.
    pub fn retune(&self, policy: Policy) {
        *self.0.policy.write() = policy;
    }

    /// Ends the watching of those on which nobody lives any more.
    pub fn forget_unused(&self) {
        self.0.watched.lock().retain(|_, watched| Arc::strong_count(watched) > 1);
    }

    /// Nobody is watched any more; whoever still holds a `Watched` hears nothing new.
    pub fn close(&self) {
        let all = std::mem::take(&mut *self.0.watched.lock());
        all.values().for_each(|watched| watched.close());
    }
}
