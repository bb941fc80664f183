//! The one sequencer of transitions: a counter, and a place to wait for the next one.

use crate::base::time::Time;
use crate::sys::clock;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones share the board.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Inner>);

#[derive(Default)]
struct Inner {
    seq: Mutex<u64>,
    moved: Condvar,
    lists: AtomicU64,
    on_lists: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("seq", &self.seq).field("lists", &self.lists).finish()
    }
}

impl Board {
    /// Something that people or tools may see has changed.
    pub fn post(&self) {
        *self.0.seq.lock() += 1;
        self.0.moved.notify_all();
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

    pub fn seq(&self) -> u64 {
        *self.0.seq.lock()
    }

    /// Waits until `done` says so, looking again after every post; `None` when the deadline passes first.
    pub fn wait<T>(&self, deadline: Time, mut done: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let seen = self.seq();
            if let Some(value) = done() {
                return Some(value);
            }
            let mut seq = self.0.seq.lock();
            if *seq != seen {
                continue;
            }
            if self.0.moved.wait_until(&mut seq, clock::instant(deadline)).timed_out() && *seq == seen {
                return None;
            }
        }
    }
}
