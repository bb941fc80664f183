//! What a life lives in, as its body sees it: where its output comes from, how its end shows, and how it is told to
//! end. A process and a container differ in these few things, and in nothing else that is said with a server.

use crate::base::fault::{Fault, FaultKind};
use nix::poll::PollFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A server that ends closes its pipes a moment before its exit shows. One that stays longer has only closed them.
const EXIT_AFTER_EOF: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// How it ended, by itself or because it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub kind: FaultKind,
    /// What follows its name in a sentence: `exited with code 1`.
    pub how: String,
    /// What a user can do; empty where its own log says most.
    pub hint: String,
}

/// What it has to say beside its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is of no use any more.
    Useless(Fault),
    /// The way to it is broken. What its callers asked for may have been done.
    Lost(Fault),
    /// Somebody has paused it.
    Paused,
    /// It is well, as far as can be seen from outside: now the server itself is to be asked.
    Well,
}

pub(super) trait Vessel {
    /// Readable once it may have ended.
    fn end_fd(&self) -> Option<PollFd<'_>>;

    /// How it ended, once it has; asked when [`Vessel::end_fd`] is readable, and after every wake.
    fn ended(&mut self) -> Option<End>;

    /// What its output comes through; the second only where stderr has a way of its own.
    fn outputs(&self) -> [Option<BorrowedFd<'_>>; 2];

    /// How long after its output has ended its end may still show.
    fn exit_after_eof(&self) -> Duration {
        EXIT_AFTER_EOF
    }

    /// Which of what was read from the first output is whose. `Err`: it makes no sense any more.
    fn split(&mut self, bytes: &[u8], each: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Fault>;

    /// Something may have come up that is not output: after every wake.
    fn news(&mut self) -> Option<News>;

    /// Asks from outside whether it is well; the answer is `News`. `false`: there is nothing to ask.
    fn examine(&mut self) -> bool;

    /// Its input was closed: the first rung.
    fn closing(&mut self);

    /// The polite rung.
    fn term(&mut self);

    /// The last rung, which may be asked for again and again.
    fn kill(&mut self);
}
