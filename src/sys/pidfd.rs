//! A process held by a file descriptor: it can be waited for and signalled without the pid ever naming a stranger.

#![expect(unsafe_code, reason = "pidfd_open and pidfd_send_signal have no wrapper in nix")]

use nix::libc;
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The caller makes sure that `pid` is the process it means: a child not yet reaped, or re-checked by start
    /// time after this call.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        // SAFETY: a plain system call with integer arguments.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it. It is CLOEXEC by default.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends `signal`. A process that is gone already is not an error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let null = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is ours and open; a null siginfo means what kill(2) would send.
        let done = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as libc::c_int, null, 0)
        };
        match io::Error::last_os_error() {
            _ if done == 0 => Ok(()),
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }
}

impl AsFd for PidFd {
    /// Readable (POLLIN) once the process has exited; polling does not reap it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
