//! The one writer of all log files: the thread "log". Whoever has a line leaves it in its lane (`base/lanes.rs`) and goes
//! on, so that a disk that is slow, full or gone stops nobody; what there is no room for is counted, and said in that
//! file once it can be written again.
//!
//! The thread sleeps without a timer while there is nothing to write, and ends with the process; [`Logs::flush`] waits,
//! not for long, until everything is written.

use super::logdir;
use super::logfile::{Kept, LogFile, Lost};
use super::{clock, thread};
use crate::base::lanes::{Batch, LaneId, Lanes};
use crate::base::limits::{LOG_WAITING_BYTES_MAX, LOG_WAITING_BYTES_OWN};
use crate::base::text;
use crate::base::time::Time;
use parking_lot::{Condvar, Mutex};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A write that takes longer is on a disk that does not answer: nobody waits for it any more. 1 s: a page takes µs.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Errands that wait. 256: they are reports about single servers, each of some KiB; one more is not done.
const ERRANDS_MAX: usize = 256;

/// How what the writer itself has to say looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// One object per line.
    Json,
}

/// Something to be done on the disk that is no line.
type Errand = Box<dyn FnOnce() + Send>;

/// All log files. Clones are the same.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The writer waits here.
    news: Condvar,
    /// Those who wait for the disk do here.
    written: Condvar,
}

struct State {
    lanes: Lanes,
    /// Lanes whose file the writer does not have yet, and those that are over.
    fresh: Vec<(LaneId, Sink)>,
    gone: Vec<LaneId>,
    errands: VecDeque<Errand>,
    /// Since when the writer is at one write.
    busy: Option<Time>,
    /// Somebody wants the directory looked through.
    look: bool,
    /// What the logs of all servers may hold, and where they are.
    bound: Option<(PathBuf, u64)>,
}

/// Where the lines of a lane go.
enum Target {
    File(LogFile),
    Stderr,
}

struct Sink {
    target: Target,
    form: Form,
    /// Lines that were not written, and why.
    lost: u64,
    why: String,
}

/// One log file, for whoever has lines for it. What is left in it at the end is still written.
pub struct Log {
    logs: Logs,
    lane: LaneId,
    path: PathBuf,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.lane).finish()
    }
}

impl Logs {
    /// Starts the writer.
    pub fn start() -> io::Result<Logs> {
        let state = State {
            lanes: Lanes::new(LOG_WAITING_BYTES_MAX),
            fresh: Vec::new(),
            gone: Vec::new(),
            errands: VecDeque::new(),
            busy: None,
            look: false,
            bound: None,
        };
        let (news, written) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { state: Mutex::new(state), news, written });
        let writer = Writer { shared: shared.clone(), sinks: BTreeMap::new(), unlooked: 0 };
        // Not joined: it ends with the process.
        thread::spawn("log", move || writer.run())?;
        Ok(Logs(shared))
    }

    /// A log of a server.
    pub fn open(&self, path: PathBuf, kept: Kept) -> Log {
        self.open_large(path, kept, Form::Text, LOG_WAITING_BYTES_OWN)
    }

    /// One that has more room of its own: `own` bytes.
    pub fn open_large(&self, path: PathBuf, kept: Kept, form: Form, own: usize) -> Log {
        self.add(Target::File(LogFile::new(path.clone(), kept)), path, form, own)
    }

    /// Our own stderr, where that is a file.
    pub fn stderr(&self, form: Form, own: usize) -> Log {
        self.add(Target::Stderr, PathBuf::new(), form, own)
    }

    fn add(&self, target: Target, path: PathBuf, form: Form, own: usize) -> Log {
        let mut state = self.0.state.lock();
        let lane = state.lanes.open(own);
        state.fresh.push((lane, Sink { target, form, lost: 0, why: String::new() }));
        Log { logs: self.clone(), lane, path }
    }

    /// From here on the logs of servers in `dir` hold `bytes_max` at most; looked at now, and as they grow.
    pub fn bound(&self, dir: PathBuf, bytes_max: u64) {
        let mut state = self.0.state.lock();
        state.bound = Some((dir, bytes_max));
        state.look = true;
        self.0.news.notify_one();
    }

    /// Has something done on the disk by the writer, in its turn. `false`: too much waits, and it is not done.
    pub fn errand(&self, errand: impl FnOnce() + Send + 'static) -> bool {
        let mut state = self.0.state.lock();
        let room = state.errands.len() < ERRANDS_MAX;
        if room {
            state.errands.push_back(Box::new(errand));
            self.0.news.notify_one();
        }
        room
    }

    /// Waits until everything is written, at most `patience`; not at all for a disk that does not answer.
    pub fn flush(&self, patience: Duration) -> bool {
        self.0
            .wait(patience, |state| state.lanes.is_idle() && state.errands.is_empty() && state.busy.is_none())
    }
}

impl Shared {
    fn wait(&self, patience: Duration, done: impl Fn(&State) -> bool) -> bool {
        let end = clock::now() + patience;
        let mut state = self.state.lock();
        loop {
            if done(&state) {
                return true;
            }
            let now = clock::now();
            let stuck = state.busy.is_some_and(|since| now.since(since) >= STUCK_AFTER);
            if stuck || now >= end {
                return false;
            }
            self.written.wait_until(&mut state, clock::instant(end));
        }
    }
}

impl Log {
    /// One line in pieces, without its end.
    pub fn push(&self, pieces: &[&str]) {
        let mut state = self.logs.0.state.lock();
        // One that is lost is counted there.
        state.lanes.push(self.lane, pieces);
        drop(state);
        self.logs.0.news.notify_one();
    }

    /// Waits until what was pushed is written, at most `patience`; not at all for a disk that does not answer.
    pub fn settle(&self, patience: Duration) -> bool {
        let goal = self.logs.0.state.lock().lanes.goal(self.lane);
        self.logs.0.wait(patience, |state| state.lanes.is_written(self.lane, goal))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The writer, for what else is to be done on the disk.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut state = self.logs.0.state.lock();
        if state.lanes.close(self.lane) {
            state.gone.push(self.lane);
            self.logs.0.news.notify_one();
        }
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    sinks: BTreeMap<LaneId, Sink>,
    /// Bytes that were written since the directory was looked through.
    unlooked: u64,
}

enum Work {
    Lines(Batch),
    Errand(Errand),
    Look(PathBuf, u64),
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.next() {
                Work::Lines(batch) => {
                    self.write(&batch);
                    if self.shared.state.lock().lanes.written(batch.lane) {
                        self.sinks.remove(&batch.lane);
                    }
                }
                Work::Errand(errand) => errand(),
                Work::Look(dir, bytes_max) => self.look(&dir, bytes_max),
            }
            self.shared.state.lock().busy = None;
            self.shared.written.notify_all();
        }
    }

    /// Waits until there is something to do.
    fn next(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        loop {
            self.sinks.extend(state.fresh.drain(..));
            for lane in state.gone.drain(..) {
                self.sinks.remove(&lane);
            }
            let grown = state.bound.as_ref().is_some_and(|(_, most)| self.unlooked > most / 16);
            let work = if state.look || grown {
                state.look = false;
                self.unlooked = 0;
                state.bound.clone().map(|(dir, bytes_max)| Work::Look(dir, bytes_max))
            } else {
                let lines = state.lanes.take().map(Work::Lines);
                lines.or_else(|| state.errands.pop_front().map(Work::Errand))
            };
            if let Some(work) = work {
                state.busy = Some(clock::now());
                return work;
            }
            shared.news.wait(&mut state);
        }
    }

    fn write(&mut self, batch: &Batch) {
        // It is given to us before its first line is.
        let Some(sink) = self.sinks.get_mut(&batch.lane) else { return };
        self.unlooked += batch.text.len() as u64;
        sink.write(&batch.text);
        if batch.dropped > 0 {
            sink.lose(batch.dropped, "they came faster than the disk takes them");
            sink.confess();
        }
    }

    fn look(&mut self, dir: &Path, bytes_max: u64) {
        let file = |sink: &Sink| match &sink.target {
            Target::File(file) => Some(file.path().to_owned()),
            Target::Stderr => None,
        };
        let written: BTreeSet<PathBuf> = self.sinks.values().filter_map(file).collect();
        let gone = logdir::tidy(dir, &written, bytes_max);
        for sink in self.sinks.values_mut() {
            if let Target::File(file) = &mut sink.target
                && gone.iter().any(|path| path == file.path())
            {
                file.forget();
            }
        }
    }
}

impl Sink {
    fn write(&mut self, lines: &[u8]) {
        if self.lost > 0 {
            self.confess();
        }
        if let Err(Lost { lines, why }) = self.target.append(lines) {
            self.lose(lines, &why.to_string());
        }
    }

    fn lose(&mut self, lines: u64, why: &str) {
        self.lost += lines;
        if self.why != why {
            why.clone_into(&mut self.why);
        }
    }

    /// Says how many lines are missing here, if that can be written.
    fn confess(&mut self) {
        let said = missing(self.lost, &self.why, self.form);
        if self.target.append(said.as_bytes()).is_ok() {
            self.lost = 0;
        }
    }
}

impl Target {
    fn append(&mut self, lines: &[u8]) -> Result<(), Lost> {
        match self {
            Target::File(file) => file.append(lines),
            Target::Stderr => io::stderr().write_all(lines).map_err(|why| {
                let lines = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                Lost { lines, why }
            }),
        }
    }
}

/// A line that says so, with its end.
pub fn missing(lines: u64, why: &str, form: Form) -> String {
    let at = clock::wall().rfc3339();
    let lines = match lines {
        1 => "1 line was".to_owned(),
        lines => format!("{} lines were", text::count(lines)),
    };
    let message = format!("{lines} not written: {why}");
    match form {
        Form::Text => format!("{at} … {message}\n"),
        Form::Json => format!("{}\n", json!({"at": at, "level": "warn", "message": message})),
    }
}
