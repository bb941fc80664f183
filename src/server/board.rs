//! The one sequencer of events, and a place to wait for the next change of anything that is shown.
//!
//! Who makes an event shows its new state first and records it then: whoever reads a number here, and what is shown
//! after that, has everything up to that number in the picture.

use super::journal::{Journal, Record, Subject};
use crate::base::time::Time;
use crate::base::topic::Topic;
use crate::sys::clock;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones share the board.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

struct Inner {
    moves: Mutex<u64>,
    moved: Condvar,
    lists: AtomicU64,
    on_lists: Mutex<Option<Box<dyn Fn() + Send>>>,
    events: Mutex<Events>,
}

struct Events {
    journal: Journal,
    hear: Vec<Box<Hear>>,
}

/// Hears every event, in order. Called by whoever made the event: it must not wait, and records nothing itself.
pub type Hear = dyn Fn(&Arc<Record>) + Send;

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("moves", &self.moves).field("lists", &self.lists).finish()
    }
}

impl Board {
    /// `session` names this run of the daemon: what was numbered in another one is told apart by it.
    pub fn new(session: &str) -> Board {
        Board(Arc::new(Inner {
            moves: Mutex::default(),
            moved: Condvar::new(),
            lists: AtomicU64::new(0),
            on_lists: Mutex::default(),
            events: Mutex::new(Events { journal: Journal::new(session), hear: Vec::new() }),
        }))
    }

    /// Something that people or tools may see has changed.
    pub fn post(&self) {
        *self.0.moves.lock() += 1;
        self.0.moved.notify_all();
    }

    /// An event: it gets the next number, and all who follow are given it. `facts` is a struct or map, which is shown
    /// as it is beside the number, the time and the topic.
    pub fn record(&self, topic: Topic, subject: Subject, facts: &impl Serialize) {
        // Under one lock, so that everybody hears the same order. Nobody who hears waits.
        let mut events = self.0.events.lock();
        let record = events.journal.add(topic, subject, facts, clock::wall());
        events.hear.iter().for_each(|hear| hear(&record));
    }

    /// `hear` is given every event from now on.
    pub fn on_event(&self, hear: impl Fn(&Arc<Record>) + Send + 'static) {
        self.0.events.lock().hear.push(Box::new(hear));
    }

    /// Looks at the journal while no event can come: who takes up from there what `on_event` gives misses nothing.
    pub fn read<T>(&self, look: impl FnOnce(&Journal) -> T) -> T {
        look(&self.0.events.lock().journal)
    }

    /// What the servers list has changed: a list came, or a server's tools are offered or not any more.
    pub fn lists_changed(&self) {
        self.0.lists.fetch_add(1, Ordering::AcqRel);
        if let Some(tell) = &*self.0.on_lists.lock() {
            tell();
        }
    }

    /// Moves with every change of the lists.
    pub fn lists(&self) -> u64 {
        self.0.lists.load(Ordering::Acquire)
    }

    /// `tell` is called from any thread at every change of the lists; it must not block.
    pub fn on_lists(&self, tell: impl Fn() + Send + 'static) {
        *self.0.on_lists.lock() = Some(Box::new(tell));
    }

    /// The number of the last event.
    pub fn seq(&self) -> u64 {
        self.read(Journal::seq)
    }

    /// Moves with every change of anything that is shown.
    pub fn moves(&self) -> u64 {
        *self.0.moves.lock()
    }

    /// Waits until `done` says so, looking again after every post; `None` when the deadline passes first.
    pub fn wait<T>(&self, deadline: Time, mut done: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let seen = self.moves();
            if let Some(value) = done() {
                return Some(value);
            }
            let mut moves = self.0.moves.lock();
            if *moves != seen {
                continue;
            }
            if self.0.moved.wait_until(&mut moves, clock::instant(deadline)).timed_out() && *moves == seen {
                return None;
            }
        }
    }
}
