//! The thread `store`: the one that touches the file. It wakes when somebody waits for a row to be written, or a moment
//! after a row changed for which nobody waits, writes all that changed in one transaction, and sleeps again.
//!
//! A database that cannot be used stops nobody. Every later change tries again: opens the file if it is not open,
//! and writes whatever is unsaved by then.

use super::aside::move_aside;
use super::database::{Database, Failure, FailureKind};
use super::rows::{Key, Row, Rows};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{BROKEN_DATABASES_MAX, STORE_GATHERING};
use crate::base::time::Time;
use crate::sys::clock;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use serde::Serialize;
use std::path::PathBuf;

/// How the database does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is written.
    Ok,
    /// There is no usable file: what is learned lasts as long as the daemon.
    Memory,
    /// It is open, and the last write failed.
    Failing,
}

/// What is, or was, wrong with the database, for status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    pub state: Standing,
    #[serde(flatten)]
    pub fault: Fault,
}

/// What callers and the writer share. No I/O happens under the lock.
#[derive(Default)]
pub struct Shared {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For callers: a write is over, or the file was read.
    done: Condvar,
    on_owed: RwLock<Option<Box<Hear>>>,
}

/// Must not block.
pub type Hear = dyn Fn() + Send + Sync;

#[derive(Debug, Default)]
pub struct State {
    pub rows: Rows,
    /// The number of the last change.
    pub changes: u64,
    /// Changes up to this one are on the disk.
    saved: u64,
    /// Changes up to this one were tried; those that are not saved have failed.
    tried: u64,
    /// Whether the writer should look now.
    pub wake: bool,
    /// When it should look, whoever else comes.
    look_at: Option<Time>,
    /// The file was read, or cannot be.
    pub read: bool,
    /// There was no file at the start.
    absent: bool,
    /// What is wrong now.
    trouble: Option<Trouble>,
    /// What was wrong, and was put right by beginning anew.
    mended: Option<Trouble>,
    closing: bool,
    over: bool,
}

impl State {
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.clone().or_else(|| self.mended.clone())
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn on_owed(&self, hear: Box<Hear>) {
        *self.on_owed.write() = Some(hear);
    }

    /// More may be owed.
    pub fn hear_owed(&self) {
        if let Some(hear) = &*self.on_owed.read() {
            hear();
        }
    }

    /// Lets the writer look.
    pub fn wake(&self, mut state: MutexGuard<'_, State>) {
        state.wake = true;
        drop(state);
        self.work.notify_one();
    }

    /// Lets it look in a moment: nobody waits for what has changed, and more will.
    pub fn wake_soon(&self, mut state: MutexGuard<'_, State>) {
        if state.wake || state.look_at.is_some() {
            return;
        }
        state.look_at = Some(clock::now() + STORE_GATHERING);
        drop(state);
        self.work.notify_one();
    }

    /// Until the file was read, or cannot be, or the deadline has passed.
    pub fn wait_read(&self, deadline: Time) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if !(state.read || state.absent) {
            state.wake = true;
            self.work.notify_one();
            self.wait(&mut state, deadline, |state| state.read || state.over);
        }
        state
    }

    /// Until change `number` is on the disk.
    pub fn wait_saved(&self, number: u64, deadline: Time) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let is_decided = |state: &State| state.saved >= number || state.tried >= number || state.over;
        let decided = self.wait(&mut state, deadline, is_decided);
        if state.saved >= number {
            return Ok(());
        }
        Err(match &state.trouble {
            Some(trouble) if decided => trouble.fault.clone(),
            _ if state.over => Fault::new(FaultKind::Stopped, "write state.db: it is closed"),
            _ => Fault::new(FaultKind::HostResources, "write state.db: the disk does not answer in time")
                .hint("the disk of the state directory is slow or hangs"),
        })
    }

    /// Tells the writer to write what is left and to end.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        self.wake(state);
    }

    /// Whether the writer has ended by the deadline.
    pub fn wait_over(&self, deadline: Time) -> bool {
        let mut state = self.state.lock();
        self.wait(&mut state, deadline, |state| state.over)
    }

    /// There is no writer, or none any more: nothing will be read or written.
    pub fn over(&self, trouble: Option<Trouble>) {
        let mut state = self.state.lock();
        state.over = true;
        if trouble.is_some() {
            note(&mut state.trouble, trouble);
        }
        self.done.notify_all();
    }

    fn wait(
        &self,
        state: &mut MutexGuard<'_, State>,
        deadline: Time,
        is_done: impl Fn(&State) -> bool,
    ) -> bool {
        while !is_done(state) {
            if self.done.wait_until(state, clock::instant(deadline)).timed_out() {
                return is_done(state);
            }
        }
        true
    }

    /// Waits for something to do; `None` when it is time to end and nothing is left to write.
    fn next(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        while !state.wake {
            match state.look_at {
                None => self.work.wait(&mut state),
                Some(at) if at <= clock::now() => break,
                // Over or not, it is looked at again.
                Some(at) => _ = self.work.wait_until(&mut state, clock::instant(at)),
            }
        }
        (state.wake, state.look_at) = (false, None);
        let finished = state.closing && state.rows.is_saved();
        (!finished).then_some(Turn { upto: state.changes, last: state.closing })
    }

    /// There is no file yet: what is known is all there is.
    pub fn nothing_to_read(&self) {
        self.state.lock().absent = true;
    }

    /// The file was read: this is what it holds.
    fn read(&self, rows: Vec<(Key, Row)>) {
        let mut state = self.state.lock();
        state.rows.merge(rows);
        state.read = true;
        drop(state);
        self.done.notify_all();
        self.hear_owed();
    }

    /// The file was lost, and a new one is begun.
    fn mended(&self, fault: Fault) {
        let mut state = self.state.lock();
        state.rows.lost();
        note(&mut state.mended, Some(Trouble { state: Standing::Ok, fault }));
    }

    fn saved(&self, upto: u64) {
        let mut state = self.state.lock();
        state.saved = upto;
        state.tried = upto;
        state.read = true;
        note(&mut state.trouble, None);
        self.done.notify_all();
    }

    fn failed(&self, upto: u64, trouble: Trouble) {
        let mut state = self.state.lock();
        state.tried = upto;
        state.read = true;
        note(&mut state.trouble, Some(trouble));
        self.done.notify_all();
    }
}

/// One look of the writer.
struct Turn {
    /// The number of the last change that it covers.
    upto: u64,
    /// None follows, whatever comes of it.
    last: bool,
}

/// Keeps what is wrong, with one line in the log for each change of it.
fn note(known: &mut Option<Trouble>, now: Option<Trouble>) {
    if *known == now {
        return;
    }
    match &now {
        Some(trouble) => log::error!("{}", trouble.fault),
        None => log::info!("state.db is written again"),
    }
    *known = now;
}

/// The writer, and the file while it is open.
pub struct Writer {
    path: PathBuf,
    database: Option<Database>,
    /// How often this run began anew.
    begun_anew: usize,
}

impl Writer {
    pub fn new(path: PathBuf) -> Writer {
        Writer { path, database: None, begun_anew: 0 }
    }

    /// Ends when told to close, or when nobody can speak to it any more, with everything written that can be.
    pub fn run(mut self, shared: &Shared) {
        while let Some(Turn { upto, last }) = shared.next() {
            match self.serve(shared) {
                Ok(()) => shared.saved(upto),
                Err(trouble) => shared.failed(upto, trouble),
            }
            if last {
                break;
            }
        }
        // Copies the WAL into the file and removes it.
        drop(self.database);
        shared.over(None);
    }

    /// Opens the file if it is not open, and writes what is unsaved. A broken file is replaced on the way.
    fn serve(&mut self, shared: &Shared) -> Result<(), Trouble> {
        loop {
            let failed = match self.open(shared) {
                Ok(database) => match write(database, shared) {
                    Ok(()) => return Ok(()),
                    Err(failure) => (Standing::Failing, failure),
                },
                Err(failure) => (Standing::Memory, failure),
            };
            let (state, failure) = failed;
            if failure.kind == FailureKind::Broken && self.begun_anew < BROKEN_DATABASES_MAX {
                self.begin_anew(shared, &failure).map_err(|text| self.trouble(state, &failure, &text))?;
                continue;
            }
            if failure.kind != FailureKind::DiskFull {
                // What such a connection knows about the file may be wrong: the next try opens it again.
                self.database = None;
            }
            return Err(self.trouble(state, &failure, &failure.text));
        }
    }

    fn open(&mut self, shared: &Shared) -> Result<&mut Database, Failure> {
        match &mut self.database {
            Some(database) => Ok(database),
            closed => {
                let (database, rows) = Database::open(&self.path)?;
                shared.read(rows);
                Ok(closed.insert(database))
            }
        }
    }

    /// The file goes out of the way; what is in memory goes into a new one. `Err` says why that cannot be.
    fn begin_anew(&mut self, shared: &Shared, failure: &Failure) -> Result<(), String> {
        self.begun_anew += 1;
        // Renamed while it is open, so that closing it changes nothing at the old path.
        let moved = move_aside(&self.path, clock::wall());
        self.database = None;
        let target = moved.map_err(|error| format!("{}, and it cannot be moved: {error}", failure.text))?;
        let (path, target) = (self.path.display(), target.display());
        let message = format!("open {path}: {}; it was moved to {target}", failure.text);
        let hint = "a new one was begun; what was learned before is in that file alone";
        shared.mended(Fault::new(FaultKind::Internal, message).hint(hint));
        Ok(())
    }

    fn trouble(&self, state: Standing, failure: &Failure, why: &str) -> Trouble {
        let doing = if state == Standing::Failing { "write" } else { "open" };
        let message = format!("{doing} {}: {why}", self.path.display());
        let (kind, hint) = match failure.kind {
            FailureKind::Locked => {
                (FaultKind::Busy, "end the program that has it open; until then it is kept in memory")
            }
            FailureKind::DiskFull => (FaultKind::HostResources, "make room; the next change tries again"),
            FailureKind::Refused => {
                (FaultKind::HostResources, "make it writable for this user; until then it is kept in memory")
            }
            FailureKind::Io => (FaultKind::HostResources, "check the disk of the state directory"),
            FailureKind::Broken => (FaultKind::Internal, "check the disk of the state directory"),
        };
        Trouble { state, fault: Fault::new(kind, message).hint(hint) }
    }
}

/// One transaction of everything that is unsaved.
fn write(database: &mut Database, shared: &Shared) -> Result<(), Failure> {
    let batch = shared.lock().rows.take_unsaved();
    if batch.rows.is_empty() && !batch.everything {
        return Ok(());
    }
    database.write(&batch).inspect_err(|_| shared.lock().rows.put_back(batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::Value;

    fn remember(shared: &Shared, key: &str, bytes: usize) {
        let value = Value { json: "x".repeat(bytes), updated_ms: 1 };
        shared.lock().rows.remember("t", key, value);
    }

    fn keys(path: &std::path::Path) -> Vec<String> {
        let (_, rows) = Database::open(path).unwrap();
        let name = |key| match key {
            Key::Value(_, key) => key,
            Key::Created((_, id)) | Key::Owed((_, id)) => id,
        };
        rows.into_iter().map(|(key, _)| name(key)).collect()
    }

    fn with_writer(name: &str, test: impl FnOnce(&mut Writer, &Shared)) {
        let dir = std::env::temp_dir().join(format!("mcpvisor-writer-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (mut writer, shared) = (Writer::new(dir.join("state.db")), Shared::default());
        test(&mut writer, &shared);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_breaks_while_it_is_open_is_written_anew_from_memory() {
        with_writer("breaks", |writer, shared| {
            for round in 0..=BROKEN_DATABASES_MAX {
                remember(shared, &round.to_string(), 1);
                let served = writer.serve(shared);
                assert_eq!(served, Ok(()), "{round}");
                let database = writer.database.as_ref().unwrap();
                database.execute("DROP TABLE kv");
            }
            assert_eq!(shared.lock().mended.as_ref().unwrap().state, Standing::Ok);
            // A disk that breaks every file is left alone.
            remember(shared, "last", 1);
            let trouble = writer.serve(shared).unwrap_err();
            assert_eq!((trouble.state, trouble.fault.kind), (Standing::Failing, FaultKind::Internal));
            assert!(!shared.lock().rows.is_saved());
        });
        with_writer("once", |writer, shared| {
            remember(shared, "saved", 1);
            assert_eq!(writer.serve(shared), Ok(()));
            writer.database.as_ref().unwrap().execute("DROP TABLE kv");
            remember(shared, "new", 1);
            assert_eq!(writer.serve(shared), Ok(()));
            writer.database = None;
            assert_eq!(keys(&writer.path), ["new", "saved"]);
        });
    }

    #[test]
    fn a_full_disk_fails_the_write_and_not_the_database() {
        with_writer("full", |writer, shared| {
            remember(shared, "before", 1);
            assert_eq!(writer.serve(shared), Ok(()));
            writer.database.as_ref().unwrap().execute("PRAGMA max_page_count = 1");
            remember(shared, "during", 60_000);
            for _ in 0..2 {
                let trouble = writer.serve(shared).unwrap_err();
                assert_eq!(
                    (trouble.state, trouble.fault.kind),
                    (Standing::Failing, FaultKind::HostResources)
                );
                assert!(trouble.fault.message.contains("full"), "{trouble:?}");
            }
            writer.database.as_ref().unwrap().execute("PRAGMA max_page_count = 1000");
            remember(shared, "after", 1);
            assert_eq!(writer.serve(shared), Ok(()));
            writer.database = None;
            assert_eq!(keys(&writer.path), ["after", "before", "during"]);
        });
    }
}
