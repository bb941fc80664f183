//! What is kept of containers beside their labels: with the guardian for the moment of a crash, in the state database
//! for the time after it, and the bound on how many images are pulled at once.

use crate::base::fault::Fault;
use crate::base::limits::PULLS_MAX;
use crate::engine::endpoint::Endpoint;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::spec::Spec;
use crate::reaper::keeper::Keeper;
use crate::reaper::labels;
use crate::reaper::removal::{Removed, Rules};
use crate::reaper::whose::Whose;
use crate::store::{Record, Removal, Store};
use crate::sys::clock;
use crate::sys::net::poll_until;
use crate::sys::wake::Wake;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One per daemon; clones share everything.
#[derive(Clone)]
pub struct Upkeep {
    pub keeper: Arc<Keeper>,
    pub store: Store,
    /// How a container is removed.
    pub rules: Rules,
    pub pulls: Pulls,
}

impl Upkeep {
    /// Before it is started.
    pub fn created(&self, engine: &Endpoint, id: &str, spec: &Spec) -> Result<(), Fault> {
        let label = |name: &str| spec.labels.get(name).cloned().unwrap_or_default();
        self.store.created(Record {
            engine: engine.to_string(),
            id: id.to_owned(),
            name: spec.name.clone(),
            server: label(labels::SERVER),
            instance: label(labels::INSTANCE),
            session: label(labels::SESSION),
            life: label(labels::LIFE).parse().unwrap_or(0),
            created_ms: clock::wall().0,
        })
    }

    pub fn gone(&self, engine: &Endpoint, id: &str) {
        self.store.gone(&engine.to_string(), id);
    }

    /// What became of a removal; what is owed is remembered, and tried again by the thread that pays.
    pub fn removed(
        &self,
        engine: &str,
        id: &str,
        whose: &Whose,
        removed: Removed,
        trouble: Option<&EngineError>,
    ) {
        match removed {
            Removed::Gone => self.store.gone(engine, id),
            Removed::Unverified => self.owe(engine, id, whose, true, None),
            Removed::Owed => self.owe(engine, id, whose, false, trouble),
            Removed::NotOurs => {
                log::error!("container {id} does not carry our labels (any more): it is not touched");
                self.store.gone(engine, id);
            }
        }
    }

    /// Without an id: whatever this life has there, now or later.
    pub fn owe(
        &self,
        engine: &str,
        id: &str,
        whose: &Whose,
        unverified: bool,
        trouble: Option<&EngineError>,
    ) {
        let server = &whose.server;
        let why = trouble.map(ToString::to_string);
        if !unverified {
            let why = why.as_deref().unwrap_or("it is still there");
            log::warn!("{server}: its container {id} could not be removed yet: {why}; trying again");
        }
        let removal = Removal {
            engine: engine.to_owned(),
            id: id.to_owned(),
            name: String::new(),
            server: server.clone(),
            since_ms: clock::wall().0,
            tries: 0,
            last_error: why,
            unverified,
        };
        if let Err(fault) = self.store.owe(removal) {
            log::warn!("{server}: what is owed is not written down: {fault}");
        }
    }
}

/// How many images are pulled at once; who comes later waits outside the start gate.
#[derive(Clone, Debug, Default)]
pub struct Pulls(Arc<AtomicUsize>);

/// A place among those who pull, given back when dropped.
pub struct Permit(Arc<AtomicUsize>);

/// Between two looks for a place; a pull takes seconds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Pulls {
    /// Waits for a place, or for `cancel`.
    pub fn enter(&self, cancel: &Wake) -> Result<Permit, EngineError> {
        let free = |taken: usize| (taken < PULLS_MAX).then_some(taken + 1);
        while self.0.try_update(Ordering::AcqRel, Ordering::Acquire, free).is_err() {
            if poll_until(&mut [cancel.poll_fd()], Some(clock::now() + LOOK_EVERY)).unwrap_or(true) {
                let why = "it was cancelled";
                return Err(EngineError::new(EngineErrorKind::Cancelled, "pull an image", why));
            }
        }
        Ok(Permit(self.0.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
