//! The other hand of a life in a container: it asks the engine while the life's thread goes on draining the output.
//!
//! An engine hangs in `kill` while nobody reads what a container says, so the two must not be one thread. A hand is a
//! thread for one job at a time, and ends with it; every job has its deadlines. It asks for a container's labels
//! before it touches it.

use crate::engine::answers::Inspected;
use crate::engine::by_cli::Reach;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::reaper::whose::Whose;
use crate::sys::thread;
use crate::sys::wake::Wake;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::time::Duration;

/// One question of a ladder to the engine. 10 s: an engine that is well answers in milliseconds.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// What a hand does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Job {
    /// Looks at it, for a probe. Answered within this time, or not.
    Examine(Duration),
    /// The polite signal: the one that the image wants.
    Term,
    Kill,
}

/// What came of it.
#[derive(Debug)]
pub(in crate::server) enum Done {
    Examined(Result<Box<Inspected>, EngineError>),
    /// The signal is delivered.
    Signalled,
    /// It is not there, or does not run any more; with its exit code where the engine still knows.
    Over(Option<i64>),
    /// It does not carry our labels: it was not touched.
    NotOurs,
    Failed(EngineError),
}

/// INVARIANT: at most one job is under way; one more may wait, and a stronger one takes its place.
pub(in crate::server) struct Hand {
    reach: Reach,
    whose: Whose,
    wake: Wake,
    done: Receiver<Done>,
    report: Sender<Done>,
    busy: bool,
    waiting: Option<(String, Job)>,
}

impl Hand {
    /// `wake` is woken when a job is done.
    pub(in crate::server) fn new(reach: Reach, whose: Whose, wake: Wake) -> Hand {
        let (report, done) = bounded(1);
        Hand { reach, whose, wake, done, report, busy: false, waiting: None }
    }

    pub(in crate::server) fn give(&mut self, id: &str, job: Job) {
        if self.busy {
            let weaker = matches!(job, Job::Examine(_)) && self.waiting.is_some();
            if !weaker {
                self.waiting = Some((id.to_owned(), job));
            }
            return;
        }
        let (reach, whose, wake, report) =
            (self.reach.clone(), self.whose.clone(), self.wake.clone(), self.report.clone());
        let id = id.to_owned();
        let work = move || {
            let done = work(&reach, &whose, &id, job);
            // Nobody listens any more: the life is over, and what it wanted is done.
            let _ = report.send(done);
            wake.wake();
        };
        match thread::spawn("hand", work) {
            // Not joined: its report is its end.
            Ok(_) => self.busy = true,
            // The ladder gives the next order, and the last rung repeats.
            Err(error) => log::warn!("a thread for the engine: {error}"),
        }
    }

    /// What the last job came to, once; the next one begins then.
    pub(in crate::server) fn take(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.next();
        Some(done)
    }

    /// Waits for what is under way; it ends by its own deadlines.
    pub(in crate::server) fn rest(&mut self) {
        self.waiting = None;
        if self.busy {
            // It cannot end without a report, unless it panicked: then nothing comes, and nothing is under way.
            let _ = self.done.recv_timeout(CALL_PATIENCE * 3);
            self.busy = false;
        }
    }

    fn next(&mut self) {
        self.busy = false;
        if let Some((id, job)) = self.waiting.take() {
            self.give(&id, job);
        }
    }
}

fn work(reach: &Reach, whose: &Whose, id: &str, job: Job) -> Done {
    let within = match job {
        Job::Examine(within) => within,
        Job::Term | Job::Kill => CALL_PATIENCE,
    };
    let seen = match reach.inspect(id, &Patience::of(within)) {
        Ok(seen) => seen,
        Err(error) if matches!(job, Job::Examine(_)) => return Done::Examined(Err(error)),
        Err(error) if error.kind == EngineErrorKind::NoSuchContainer => return Done::Over(None),
        Err(error) => return Done::Failed(error),
    };
    if !whose.owns(&seen.labels) {
        return Done::NotOurs;
    }
    let signal = match job {
        Job::Examine(_) => return Done::Examined(Ok(Box::new(seen))),
        Job::Term => seen.stop_signal.as_deref().unwrap_or("SIGTERM"),
        Job::Kill => "SIGKILL",
    };
    if !seen.running && !seen.paused {
        return Done::Over(Some(seen.exit_code));
    }
    match reach.kill(id, signal, &Patience::of(CALL_PATIENCE)) {
        Ok(()) => Done::Signalled,
        Err(error) if error.kind == EngineErrorKind::NoSuchContainer => Done::Over(None),
        // It ended between the two questions.
        Err(error) if error.kind == EngineErrorKind::Conflict => Done::Over(None),
        Err(error) => Done::Failed(error),
    }
}
