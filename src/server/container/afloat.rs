//! A container that runs, as a life's body sees it: one attached stream for all of its output, and a wait for its end.

use super::hand::{Done, Hand, Job};
use super::health;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::base::time::Time;
use crate::engine::attach::{self, Demux};
use crate::engine::cause::cause;
use crate::engine::endpoint::Endpoint;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::outage::Cause;
use crate::engine::wait::Waiting;
use crate::server::vessel::{End, News, Stream, Vessel};
use crate::sys::clock;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Exit codes above this are signals, as a shell counts them.
const SIGNAL_BASE: i64 = 128;
const SIGKILL: i64 = 9;

/// From the end of its output to what the engine says of its end: three processes pass it on.
const EXIT_AFTER_EOF: Duration = Duration::from_secs(3);

/// Whether the engine said that this container ran out of memory.
pub type Oomed = dyn Fn(&str) -> bool + Send + Sync;

pub(super) struct Afloat {
    pub name: ServerName,
    pub engine: Endpoint,
    pub id: String,
    pub socket: OwnedFd,
    pub demux: Demux,
    /// `None` once it has answered, or broken.
    pub waiting: Option<Waiting>,
    pub hand: Hand,
    pub oomed: Arc<Oomed>,
    /// How long a look at its health may take.
    pub health_patience: Duration,
    /// How long an engine that does not answer is asked to kill it.
    pub kill_patience: Duration,
    /// Since the first kill.
    pub killed: Option<Time>,
    /// The way to it is broken: its input cannot be closed any more.
    pub broken: bool,
    /// Its engine cannot even be asked to end it.
    pub out_of_reach: bool,
    pub over: Option<End>,
    pub news: Option<News>,
}

impl Afloat {
    /// The wait has answered, or broken.
    fn hear_the_wait(&mut self) {
        match self.waiting.as_mut().and_then(Waiting::try_take) {
            Some(Ok(code)) => {
                self.waiting = None;
                self.over = Some(self.end(code));
            }
            Some(Err(error)) => {
                self.waiting = None;
                self.lost(&error);
            }
            None => (),
        }
    }

    /// The way to it is broken: what it does now cannot be known, so this life is over.
    fn lost(&mut self, error: &EngineError) {
        let fault = error.fault(&self.engine);
        self.news = Some(News::Lost(fault));
        self.broken = true;
    }

    fn hear_the_hand(&mut self) {
        match self.hand.take() {
            Some(Done::Over(code)) if self.waiting.is_none() && self.over.is_none() => {
                self.over = Some(code.map_or_else(|| ended("is gone"), |code| self.end(code)));
            }
            Some(Done::NotOurs) => {
                log::error!("{}: container {} does not carry our labels: not touched", self.name, self.id);
                self.over = Some(ended("is another's now"));
            }
            Some(Done::Failed(error)) => self.not_killed(&error),
            Some(Done::Examined(seen)) => self.news = Some(health::news(&self.name, &self.engine, seen)),
            Some(Done::Over(_) | Done::Signalled) | None => (),
        }
    }

    fn not_killed(&mut self, error: &EngineError) {
        log::warn!("{}: {error}", self.name);
        let asked_long = self.killed.is_some_and(|since| clock::now().since(since) >= self.kill_patience);
        self.out_of_reach = is_out_of_reach(error);
        if asked_long || self.out_of_reach {
            let how = format!("could not be told to end: {error}");
            self.over = Some(End { kind: FaultKind::EngineAway, how, hint: String::new() });
        }
    }

    fn end(&self, code: i64) -> End {
        let (kind, how, hint) = match code {
            _ if (self.oomed)(&self.id) => (
                FaultKind::OomKilled,
                "ran out of memory and was killed".to_owned(),
                "raise `memory` in its `isolation`",
            ),
            code if code == SIGNAL_BASE + SIGKILL => {
                (FaultKind::Signaled, "was killed by SIGKILL (exit code 137)".to_owned(), "")
            }
            code if code > SIGNAL_BASE && code < SIGNAL_BASE + 65 => (
                FaultKind::Signaled,
                format!("was killed by signal {} (exit code {code})", code - SIGNAL_BASE),
                "",
            ),
            127 => (
                FaultKind::Exited,
                "exited with code 127: a command was not found in its container".to_owned(),
                "is it in the image?",
            ),
            126 => (
                FaultKind::Exited,
                "exited with code 126: a command in its container is not executable".to_owned(),
                "",
            ),
            code => (FaultKind::Exited, format!("exited with code {code}"), ""),
        };
        End { kind, how, hint: hint.to_owned() }
    }
}

/// Nobody is there to end it, and whoever comes next finds it: what the engine cannot be asked now is owed, and nothing
/// else is created in its place before it is gone. One that is only silent may still do what it was asked.
fn is_out_of_reach(error: &EngineError) -> bool {
    match cause(error) {
        Some(Cause::Paused | Cause::Denied) => true,
        Some(Cause::Down) => error.kind != EngineErrorKind::Cut,
        Some(Cause::Silent) | None => false,
    }
}

fn ended(how: &str) -> End {
    End { kind: FaultKind::Exited, how: how.to_owned(), hint: String::new() }
}

impl Vessel for Afloat {
    fn end_fd(&self) -> Option<PollFd<'_>> {
        self.waiting.as_ref().map(|waiting| PollFd::new(waiting.fd(), PollFlags::POLLIN))
    }

    fn ended(&mut self) -> Option<End> {
        self.hear_the_wait();
        self.hear_the_hand();
        self.over.take()
    }

    fn outputs(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.socket.as_fd()), None]
    }

    /// An engine that stops hangs up first, and says later how its containers ended, or never.
    fn exit_after_eof(&self) -> Duration {
        EXIT_AFTER_EOF
    }

    fn split(&mut self, bytes: &[u8], each: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Fault> {
        let fed = self.demux.feed(bytes, |stream, bytes| {
            let stream = match stream {
                attach::Stream::Out => Stream::Out,
                attach::Stream::Err => Stream::Err,
            };
            each(stream, bytes);
        });
        fed.map_err(|_| {
            let message = format!("{}: the engine's stream of its output is garbled", self.name);
            Fault::new(FaultKind::EngineError, message)
        })
    }

    fn news(&mut self) -> Option<News> {
        self.news.take()
    }

    fn examine(&mut self) -> bool {
        self.hand.give(&self.id, Job::Examine(self.health_patience));
        true
    }

    /// The link had a handle of its own: the end of its input is said to the socket.
    fn closing(&mut self) {
        // Not connected any more: then its input has ended already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        if self.broken {
            self.term();
        }
    }

    fn term(&mut self) {
        self.hand.give(&self.id, Job::Term);
    }

    fn kill(&mut self) {
        self.killed.get_or_insert_with(clock::now);
        self.hand.give(&self.id, Job::Kill);
    }
}
