//! Floor 2: the state database `state.db`: what a start must know of the run before.
//!
//! Reads come from memory. Changes are in memory at once; the thread `store` brings them to the disk, many in one
//! transaction, and whoever must know waits for that, bounded. Nothing here fails a daemon: a file that is broken is
//! moved aside, one that is locked or cannot be written is done without, and `trouble` says so.

mod aside;
mod database;
mod rows;
mod writer;

pub use rows::{Created, Record, Removal};
pub use writer::{Standing, Trouble};

use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{STORE_PATIENCE, VALUE_BYTES_MAX};
use crate::sys::{clock, thread};
use rows::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use writer::{Shared, State, Writer};

/// The name of the file in the state directory.
pub const FILE: &str = "state.db";

/// The state database. Clones are the same one; the last that is dropped ends the thread, after a last write.
#[derive(Clone)]
pub struct Store(Arc<Open>);

struct Open {
    shared: Arc<Shared>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Store {
    /// Returns at once. The thread opens the file of the directory, or makes it, at the first call that needs it, or
    /// at [`Store::begin`]. Must be called by the one process that holds the directory's lock.
    pub fn open(dir: &Path) -> Store {
        let shared = Arc::new(Shared::default());
        let path = dir.join(FILE);
        // A first start waits for nothing: to make the file takes a disk its time.
        if matches!(path.try_exists(), Ok(false)) {
            shared.nothing_to_read();
        }
        let (writer, theirs) = (Writer::new(path), shared.clone());
        if let Err(error) = thread::spawn_vital("store", move || writer.run(&theirs)) {
            let message = format!("start the thread of {FILE}: {error}");
            let fault =
                Fault::new(FaultKind::HostResources, message).hint("the host is out of threads or memory");
            shared.over(Some(Trouble { state: Standing::Memory, fault }));
        }
        Store(Arc::new(Open { shared }))
    }

    /// Opens the file, if that was not done yet. Waits for nothing.
    pub fn begin(&self) {
        self.0.shared.wake(self.0.shared.lock());
    }

    /// Whether the file was read, or cannot be.
    pub fn is_read(&self) -> bool {
        self.0.shared.lock().read
    }

    /// What is wrong with the database, or was at the start. `None`: what is told to be on the disk is there.
    pub fn trouble(&self) -> Option<Trouble> {
        self.0.shared.lock().trouble()
    }

    /// A container was created; to be called before it is started. Waits for the disk, at most 1 s. An error means
    /// that it is not on the disk; it is in memory in any case, and nothing speaks against going on: the container's
    /// labels say the same.
    pub fn created(&self, record: Record) -> Result<(), Fault> {
        self.change_and_wait(|state| state.rows.create(record))
    }

    /// A container was seen to be gone. Does not wait for the disk.
    pub fn gone(&self, engine: &str, id: &str) {
        let now = clock::wall().0;
        self.change(|state| state.rows.gone(place(engine, id), now));
    }

    /// What was created, oldest first: all that is not known to be gone, and of the rest the last.
    pub fn records(&self) -> Vec<Created> {
        self.read(|state| state.rows.created())
    }

    /// A container should be gone and could not be removed, or not be looked after. Waits as [`Store::created`]
    /// does. The same container again keeps its time.
    pub fn owe(&self, removal: Removal) -> Result<(), Fault> {
        let saved = self.change_and_wait(|state| state.rows.owe(removal));
        self.0.shared.hear_owed();
        saved
    }

    /// One more try to remove it, in vain. Goes to the disk with the next change, so that an engine that is away for
    /// a week costs no writes.
    pub fn tried(&self, engine: &str, id: &str, error: Option<String>, unverified: bool) {
        let mut state = self.0.shared.wait_read(clock::now() + STORE_PATIENCE);
        state.rows.tried(place(engine, id), error, unverified);
    }

    /// The removal is done, or is not ours to do. Does not wait for the disk.
    pub fn paid(&self, engine: &str, id: &str) {
        self.change(|state| state.rows.pay(place(engine, id)));
    }

    /// The removals owed, oldest first.
    pub fn owed(&self) -> Vec<Removal> {
        self.read(|state| state.rows.owed())
    }

    /// The same as far as it is known now: before the file was read, what this run owes.
    pub fn owed_so_far(&self) -> Vec<Removal> {
        self.0.shared.lock().rows.owed()
    }

    /// Calls `hear`, which must not block, after each removal owed, and when the file was read. One listener; a second
    /// takes its place.
    pub fn on_owed(&self, hear: impl Fn() + Send + Sync + 'static) {
        self.0.shared.on_owed(Box::new(hear));
    }

    /// Keeps a small value, as JSON text, under a table and a key. Does not wait for the disk; refused if it is
    /// larger than a value may be.
    pub fn remember(&self, table: &str, key: &str, json: &str) -> Result<(), Fault> {
        let bytes = table.len() + key.len() + json.len();
        if bytes > VALUE_BYTES_MAX {
            let message =
                format!("remember {table}/{key}: {bytes} bytes, and {VALUE_BYTES_MAX} are the limit");
            return Err(Fault::new(FaultKind::TooLarge, message));
        }
        let value = Value { json: json.to_owned(), updated_ms: clock::wall().0 };
        self.change(|state| {
            state.rows.remember(table, key, value);
            true
        });
        Ok(())
    }

    pub fn recall(&self, table: &str, key: &str) -> Option<String> {
        self.read(|state| state.rows.value(table, key).map(|value| value.json.clone()))
    }

    /// Every key of a table with its value.
    pub fn recall_all(&self, table: &str) -> Vec<(String, String)> {
        let pairs = |state: &State| {
            let all = state.rows.values(table);
            all.map(|(key, value)| (key.to_owned(), value.json.clone())).collect()
        };
        self.read(pairs)
    }

    pub fn forget(&self, table: &str, key: &str) {
        self.change(|state| {
            state.rows.forget(table, key);
            true
        });
    }

    /// Writes what is left and closes the file. Whether that was done in time; later changes stay in memory.
    pub fn close(&self, within: Duration) -> bool {
        self.0.shared.close();
        self.0.shared.wait_over(clock::now() + within)
    }

    /// What the database held must be known first; a disk that hangs holds nobody longer than this.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.shared.wait_read(clock::now() + STORE_PATIENCE))
    }

    /// `act` returns whether there is something to write.
    fn change(&self, act: impl FnOnce(&mut State) -> bool) {
        let mut state = self.0.shared.wait_read(clock::now() + STORE_PATIENCE);
        if act(&mut state) {
            state.changes += 1;
            self.0.shared.wake_soon(state);
        }
    }

    fn change_and_wait(&self, act: impl FnOnce(&mut State)) -> Result<(), Fault> {
        let deadline = clock::now() + STORE_PATIENCE;
        let mut state = self.0.shared.lock();
        act(&mut state);
        state.changes += 1;
        let number = state.changes;
        self.0.shared.wake(state);
        self.0.shared.wait_saved(number, deadline)
    }
}

fn place(engine: &str, id: &str) -> (String, String) {
    (engine.to_owned(), id.to_owned())
}
