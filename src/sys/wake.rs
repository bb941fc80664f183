//! An eventfd that ends or interrupts a `poll`: level-triggered, never blocks, closes with its last owner.

use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Cloned handles share one eventfd. `wake` makes it readable until `clear`.
#[derive(Clone, Debug)]
pub struct Wake(Arc<EventFd>);

impl Wake {
    pub fn new() -> io::Result<Wake> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Wake(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    pub fn wake(&self) {
        // A full counter means that it is readable already, which is all that is wanted.
        let _ = self.0.write(1);
    }

    pub fn clear(&self) {
        // Nothing to read means nothing to clear.
        let _ = self.0.read();
    }

    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.0.as_fd(), PollFlags::POLLIN)
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
