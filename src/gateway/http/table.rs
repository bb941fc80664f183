//! The connections of one server: who is there, how many may be, and how all of them end.

use super::{Handler, Settings};
use crate::base::time::Time;
use crate::gateway::hub::Hub;
use crate::sys::clock;
use crate::sys::net::Socket;
use crate::sys::wake::Wake;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// After a drain has cut what was left: how long handlers may take to notice.
const CUT_PATIENCE: Duration = Duration::from_secs(1);

pub(super) type Thread = JoinHandle<Result<(), String>>;

/// What all threads of one server see.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) hub: Hub,
    pub(super) handler: Arc<Handler>,
    /// Ends the accept thread's wait.
    pub(super) wake: Wake,
    draining: AtomicBool,
    /// Bytes of large bodies that are held now.
    body_bytes: AtomicUsize,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    last: u64,
    entries: BTreeMap<u64, Entry>,
    accept: Option<Thread>,
    /// The connection thread that ended last; the next one to end joins it.
    ended: Option<Thread>,
}

struct Entry {
    socket: Arc<Socket>,
    idle: Arc<AtomicBool>,
    thread: Thread,
}

/// What a connection's thread is given to run with.
pub(super) struct Admission {
    pub(super) socket: Arc<Socket>,
    pub(super) idle: Arc<AtomicBool>,
    pub(super) number: u64,
}

/// A connection's place in the table. Dropping it, on every path, gives the place back; so it must outlive
/// everything else of the connection.
pub(super) struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Shared {
    pub(super) fn new(settings: Settings, hub: Hub, handler: Arc<Handler>) -> io::Result<Shared> {
        Ok(Shared {
            settings,
            hub,
            handler,
            wake: Wake::new()?,
            draining: AtomicBool::new(false),
            body_bytes: AtomicUsize::new(0),
            table: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.table.lock().entries.len()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(super) fn accept_started(&self, thread: Thread) {
        self.table.lock().accept = Some(thread);
    }

    /// Starts a connection's thread with `spawn`, if there is a place; `None` means that the client must be
    /// told to come later.
    pub(super) fn admit(
        &self,
        socket: &Arc<Socket>,
        spawn: impl FnOnce(Admission) -> io::Result<Thread>,
    ) -> Option<()> {
        let mut table = self.table.lock();
        if table.entries.len() >= self.settings.connections_max {
            return None;
        }
        let number = table.last + 1;
        let (socket, idle) = (Arc::clone(socket), Arc::new(AtomicBool::new(false)));
        let admission = Admission { socket: Arc::clone(&socket), idle: Arc::clone(&idle), number };
        // Under the lock: a thread that ends at once finds its entry.
        let thread = spawn(admission);
        if let Err(error) = &thread {
            log::warn!("conn:{number}: no thread: {error}");
        }
        table.last = number;
        table.entries.insert(number, Entry { socket, idle, thread: thread.ok()? });
        Some(())
    }

    /// For the connection's thread, first thing.
    pub(super) fn place(self: &Arc<Shared>, number: u64) -> Place {
        Place { shared: Arc::clone(self), number }
    }

    /// Takes `more` bytes from the budget of large bodies, if they are there.
    pub(super) fn reserve_body(&self, more: usize) -> bool {
        let max = self.settings.bodies_bytes_max;
        let taken = |held: usize| held.checked_add(more).filter(|held| *held <= max);
        self.body_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    pub(super) fn release_body(&self, bytes: usize) {
        self.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn drain(&self, grace: Duration) {
        let Some(accept) = self.table.lock().accept.take() else { return };
        self.draining.store(true, Ordering::SeqCst);
        self.wake.wake();
        join("accept", accept);
        for entry in self.table.lock().entries.values() {
            if entry.idle.load(Ordering::SeqCst) {
                entry.socket.shutdown_read();
            }
        }
        let grace_ends = clock::now() + grace;
        self.wait_until_empty(grace_ends);
        for entry in self.table.lock().entries.values() {
            entry.socket.shutdown_both();
        }
        self.wait_until_empty(grace_ends + CUT_PATIENCE);
        let mut table = self.table.lock();
        if !table.entries.is_empty() {
            log::warn!("{} connections did not end within their time", table.entries.len());
        }
        let ended = table.ended.take();
        drop(table);
        if let Some(thread) = ended {
            join("the last connection", thread);
        }
    }

    fn wait_until_empty(&self, deadline: Time) {
        let mut table = self.table.lock();
        let until = clock::instant(deadline);
        self.changed.wait_while_until(&mut table, |table| !table.entries.is_empty(), until);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        let entry =
            table.entries.remove(&self.number).expect("inserted before the lock was free, removed only here");
        // A thread cannot join itself: it joins its predecessor, so that at most one is ever left over.
        let predecessor = table.ended.replace(entry.thread);
        self.shared.changed.notify_all();
        drop(table);
        if let Some(thread) = predecessor {
            join("a connection", thread);
        }
    }
}

fn join(what: &str, thread: Thread) {
    // A panic of the thread's own body was logged by `sys::thread`; this is what that could not catch.
    if thread.join().is_err() {
        log::error!("the thread of {what} could not be joined");
    }
}
