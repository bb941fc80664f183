//! Waiting for many descriptors on one thread. Tokens are the caller's; they outlive no meaning, because an
//! event of a descriptor that was removed carries a token that the caller no longer knows.

use crate::base::time::Time;
use crate::sys::clock;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll as Inner, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::AsFd;

/// What to wait for; errors and the end of both directions are always reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interest {
    pub readable: bool,
    pub writable: bool,
    /// The peer will send no more (on TCP: has closed, or half-closed).
    pub peer_end: bool,
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub token: u64,
    pub writable: bool,
    /// The peer's end, the end of both directions, or an error.
    pub ended: bool,
}

#[derive(Debug)]
pub struct Epoll(Inner);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(Inner::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Level-triggered. One descriptor can be added once.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(interest.flags(), token))?)
    }

    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.modify(fd, &mut EpollEvent::new(interest.flags(), token))?)
    }

    pub fn remove(&self, fd: impl AsFd) {
        // Fails only for a descriptor that is not there, which is what is wanted.
        let _ = self.0.delete(fd);
    }

    /// Replaces `ready` by what is ready; empty once `deadline` passed or a signal came.
    pub fn wait(&self, ready: &mut Vec<Ready>, deadline: Option<Time>) -> io::Result<()> {
        let timeout = deadline.map_or(EpollTimeout::NONE, |deadline| {
            let ms = deadline.since(clock::now()).as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
        });
        let mut events = [EpollEvent::empty(); 64];
        ready.clear();
        match self.0.wait(&mut events, timeout) {
            Ok(count) => ready.extend(events[..count].iter().map(Ready::from)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl Interest {
    fn flags(self) -> EpollFlags {
        let pick = |wanted, flag| if wanted { flag } else { EpollFlags::empty() };
        pick(self.readable, EpollFlags::EPOLLIN)
            | pick(self.writable, EpollFlags::EPOLLOUT)
            | pick(self.peer_end, EpollFlags::EPOLLRDHUP)
    }
}

impl From<&EpollEvent> for Ready {
    fn from(event: &EpollEvent) -> Ready {
        let flags = event.events();
        let end = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        Ready {
            token: event.data(),
            writable: flags.contains(EpollFlags::EPOLLOUT),
            ended: flags.intersects(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wake::Wake;
    use std::time::Duration;

    #[test]
    fn ready_until_cleared_and_silent_after_removal() {
        let (epoll, wake, mut ready) = (Epoll::new().unwrap(), Wake::new().unwrap(), Vec::new());
        let readable = Interest { readable: true, ..Interest::default() };
        epoll.add(&wake, 7, readable).unwrap();
        wake.wake();
        epoll.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 7, writable: false, ended: false }]);
        epoll.remove(&wake);
        epoll.wait(&mut ready, Some(clock::now() + Duration::from_millis(10))).unwrap();
        assert_eq!(ready, []);
    }
}
