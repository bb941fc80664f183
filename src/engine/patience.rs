//! How long a caller waits for an engine, and what makes it stop sooner.

use super::error::{EngineErrorKind, Trouble};
use crate::base::time::Time;
use crate::sys::clock;
use crate::sys::net::poll_until;
use crate::sys::wake::Wake;
use nix::poll::{PollFd, PollFlags};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// No call of an engine takes longer than to its deadline; a `cancel` that is readable ends it at once, and stays
/// readable.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    pub deadline: Time,
    pub cancel: Option<&'a Wake>,
}

impl<'a> Patience<'a> {
    pub fn until(deadline: Time) -> Patience<'static> {
        Patience { deadline, cancel: None }
    }

    /// So long from now.
    pub fn of(span: Duration) -> Patience<'static> {
        Patience::until(clock::now() + span)
    }

    pub fn or_cancel(self, cancel: &'a Wake) -> Patience<'a> {
        Patience { cancel: Some(cancel), ..self }
    }

    /// Waits for `fd`. The deadline holds also when there is always something to read.
    pub(super) fn wait<'f>(&'f self, fd: BorrowedFd<'f>, events: PollFlags) -> Result<(), Trouble> {
        self.poll(vec![PollFd::new(fd, events)], self.deadline)
    }

    /// Waits for one of `fds`.
    pub(super) fn wait_any<'f>(&'f self, fds: Vec<PollFd<'f>>) -> Result<(), Trouble> {
        self.poll(fds, self.deadline)
    }

    /// Lets `span` pass, at most to the deadline.
    pub(super) fn pause(&self, span: Duration) -> Result<(), Trouble> {
        self.poll(Vec::new(), self.deadline.min(clock::now() + span))
    }

    fn poll<'f>(&'f self, mut fds: Vec<PollFd<'f>>, until: Time) -> Result<(), Trouble> {
        fds.extend(self.cancel.map(Wake::poll_fd));
        poll_until(&mut fds, Some(until))?;
        if self.cancel.is_some() && fds.last().and_then(PollFd::any).unwrap_or(false) {
            return Err(Trouble::new(EngineErrorKind::Cancelled, "it was cancelled"));
        }
        if clock::now() < self.deadline {
            Ok(())
        } else {
            Err(Trouble::new(EngineErrorKind::Silent, "no answer in time"))
        }
    }
}
