//! Our own stderr, to which a line is written at once if that blocks nobody: a pipe that is not read, or a terminal that
//! was stopped, costs a tenth of a second once, and lines from there on until it is read again.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// How long a reader may hold us up, in ms, once. 100: one that is alive reads within a few.
const PATIENCE_MS: u16 = 100;

/// Bytes that a write takes without blocking where poll says that it is writable: of a pipe a page is free then, of a
/// terminal less.
const PIPE_BYTES: usize = 4096;
const TERMINAL_BYTES: usize = 256;

#[derive(Debug)]
pub struct Stderr {
    step: usize,
    /// Nobody read for too long.
    stuck: bool,
    /// Lines that were not written since.
    lost: u64,
    /// A line was cut there.
    torn: bool,
}

/// Whether it is a file on a disk, for which poll says nothing: such a one may block, however long.
pub fn is_file() -> bool {
    fstat(io::stderr().as_fd())
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
}

impl Stderr {
    pub fn new() -> Stderr {
        let step = if io::stderr().is_terminal() { TERMINAL_BYTES } else { PIPE_BYTES };
        Stderr { step, stuck: false, lost: 0, torn: false }
    }

    /// One line with its end. `lost` makes one out of how many were lost before it.
    pub fn line(&mut self, line: &[u8], lost: impl FnOnce(u64) -> Vec<u8>) {
        if self.lost > 0 && is_writable(0) {
            let mut said = lost(self.lost);
            if self.torn {
                said.insert(0, b'\n');
            }
            (self.lost, self.stuck, self.torn) = (0, false, false);
            self.write(&said);
        }
        self.write(line);
    }

    fn write(&mut self, line: &[u8]) {
        let mut rest = line;
        while !rest.is_empty() {
            if !is_writable(if self.stuck { 0 } else { PATIENCE_MS }) {
                self.stuck = true;
                self.lost += 1;
                self.torn |= rest.len() < line.len();
                return;
            }
            match nix::unistd::write(io::stderr(), &rest[..rest.len().min(self.step)]) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // One that is closed takes no log; the file does.
                Err(_) => return,
            }
        }
        self.stuck = false;
    }
}

impl Default for Stderr {
    fn default() -> Stderr {
        Stderr::new()
    }
}

/// Where it is broken a write says so at once.
fn is_writable(patience_ms: u16) -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // Interrupted or out of memory: not known to be, which costs a line.
    poll(&mut fds, PollTimeout::from(patience_ms)).is_ok_and(|ready| ready > 0)
}
