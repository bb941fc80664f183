//! A supervisor with nothing to supervise: kept in its server without a thread, an engine or a plan, and woken by the
//! first thing that somebody tells it.

use super::{GateRequest, Report, Server, Stage, Supervisor};
use crate::sys::thread;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// Everything that its thread needs.
pub(in crate::server) struct Resting {
    stage: Box<Stage>,
    inbox: Receiver<Box<Report>>,
}

/// Gives a resting supervisor its thread back. To be called after telling it something.
pub(in crate::server) fn wake(server: &Server) {
    let Some(resting) = server.resting.lock().take() else { return };
    let Resting { stage, inbox } = resting;
    if let Err((error, resting)) = stage.begin(inbox) {
        // What it was told is lost, so that it is not found by surprise later; whoever asked sees that nothing moves.
        resting.inbox.try_iter().for_each(drop);
        log::error!("{}: start its thread: {error}; it stays disabled", server.name);
        *server.resting.lock() = Some(resting);
    }
}

impl Stage {
    /// Runs on a thread of its own; or rests, if it has nothing to do. The error comes with what could not run.
    pub(super) fn begin(self: Box<Stage>, inbox: Receiver<Box<Report>>) -> Result<(), (io::Error, Resting)> {
        let (stage, inbox) = if self.has_nothing_to_do() {
            match self.rest(inbox) {
                None => return Ok(()),
                Some(again) => again,
            }
        } else {
            (self, inbox)
        };
        let name = format!("sup:{}", stage.server().slug);
        // A thread that does not come to be drops what it was given.
        let parcel = Arc::new(Mutex::new(Some(Resting { stage, inbox })));
        let taken = parcel.clone();
        let run = move || {
            let resting = taken.lock().take();
            if let Some(resting) = resting {
                resting.stage.run(resting.inbox);
            }
        };
        let Err(error) = thread::spawn_vital(&name, run) else { return Ok(()) };
        let left = parcel.lock().take().expect("no thread took it");
        Err((error, left))
    }

    /// Rests, unless there is news: then it comes back.
    pub(super) fn rest(
        mut self: Box<Stage>,
        inbox: Receiver<Box<Report>>,
    ) -> Option<(Box<Stage>, Receiver<Box<Report>>)> {
        self.leave_home();
        let (server, gate) = (self.server().clone(), self.gate());
        let mut resting = server.resting.lock();
        // Under the lock that whoever tells something takes afterwards: nothing is left unread.
        if !inbox.is_empty() {
            return Some((self, inbox));
        }
        *resting = Some(Resting { stage: self, inbox });
        drop(resting);
        gate(GateRequest::Rests(server.name.clone()));
        None
    }
}

impl Supervisor {
    /// It is off, and only somebody can change that.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        self.machine.state() == "disabled" && !self.retired
    }

    /// Whoever rests lives on no engine.
    pub(super) fn leave_home(&mut self) {
        self.dwelling = None;
        self.plan = None;
        self.secrets = None;
        self.frozen = None;
        self.replace(|machine, _| machine.moved(false));
    }
}
