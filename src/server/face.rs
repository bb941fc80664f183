//! What one line of lives shows of its server: how it is spoken to, the way to it, and what it said of itself.
//!
//! A server has one face; during a switch it has two, and shows one of them (`switch.rs`). What a life says goes to the
//! face that it was begun with, so that a life that is not called yet, or not any more, changes nothing that is shown.
//! The supervisor's thread writes manner and container; the life's thread writes link, greeting and lists.

use super::eras::{Eras, Setting};
use super::link::Link;
use crate::base::id::Life;
use crate::base::time::Time;
use crate::mcp::caching::Caching;
use crate::mcp::features::Feature;
use crate::mcp::handshake::Greeting;
use crate::mcp::items::{Item, Kind};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub struct Face {
    /// The newest life that was begun with it.
    life: AtomicU64,
    manner: RwLock<Arc<Manner>>,
    /// What it is spoken to in.
    pub(super) eras: Eras,
    link: RwLock<Option<Arc<Link>>>,
    pub(super) known: RwLock<Known>,
    /// The container that its life is in.
    container: Mutex<Option<String>>,
}

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

/// What the server said of itself, kept across lives.
#[derive(Clone, Debug)]
pub struct Known {
    pub greeting: Option<Arc<Greeting>>,
    /// By kind; `None` until it has listed them once.
    pub(super) lists: [Option<Arc<Vec<Item>>>; 4],
    /// For how long each was good, and when it came.
    pub(super) cachings: [(Caching, Time); 4],
    /// When somebody last doubted a list.
    pub(super) doubted: [Option<Time>; 4],
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

impl std::fmt::Debug for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Face").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Face {
    /// `known`: what is believed until a life says better.
    pub(super) fn new(name: &str, manner: Manner, known: Known) -> Face {
        Face {
            life: AtomicU64::new(0),
            eras: Eras::new(name, manner.era.clone()),
            manner: RwLock::new(Arc::new(manner)),
            link: RwLock::new(None),
            known: RwLock::new(known),
            container: Mutex::new(None),
        }
    }

    /// What `life` says is said of it from here on.
    pub(super) fn begin(&self, life: Life) {
        self.life.store(life.0, Ordering::Release);
    }

    pub(super) fn life(&self) -> Life {
        Life(self.life.load(Ordering::Acquire))
    }

    pub(super) fn manner(&self) -> Arc<Manner> {
        self.manner.read().clone()
    }

    /// How long one call may take without progress. Asked at every call.
    pub(super) fn call_patience(&self) -> Duration {
        self.manner.read().call_patience
    }

    /// What is declared to the server that clients can be asked for.
    pub(super) fn features(&self) -> Vec<Feature> {
        self.manner.read().features.clone()
    }

    /// Another one from now on: for the life that runs, too.
    pub(super) fn adopt(&self, manner: Manner) {
        self.eras.set(manner.era.clone());
        *self.manner.write() = Arc::new(manner);
    }

    /// Of another manner only what a life that was greeted otherwise can take over.
    pub(super) fn retune(&self, other: &Manner) {
        let mut manner = self.manner.write();
        let Manner { call_patience, groups, .. } = other.clone();
        *manner = Arc::new(Manner { call_patience, groups, ..(**manner).clone() });
    }

    /// The way to the current life; `None` unless it is ready.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.read().clone()
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

    pub(super) fn known(&self) -> Known {
        self.known.read().clone()
    }

    pub(super) fn greeted(&self, greeting: Greeting) {
        self.known.write().greeting = Some(Arc::new(greeting));
    }

    pub(super) fn container(&self) -> Option<String> {
        self.container.lock().clone()
    }

    pub(super) fn set_container(&self, id: Option<String>) {
        *self.container.lock() = id;
    }
}
