//! A process that we mean, held so that signals and waits can never reach a stranger with the same pid.
//!
//! By pidfd where the kernel has it; else (old kernels, some sandboxes, no descriptor left) by pid and start time,
//! compared before each signal.

use super::clock;
use super::kin;
use super::pidfd::PidFd;
use super::procfs::{self, Process};
use crate::base::time::Time;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How often a process is looked at that cannot be waited for. Only without pidfds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Hold {
    pub pid: u32,
    pub start: u64,
    fd: Option<PidFd>,
}

impl Hold {
    /// `None` if that very process is gone already.
    pub fn of(pid: u32, start: u64) -> Option<Hold> {
        let fd = PidFd::open(pid).ok();
        let hold = Hold { pid, start, fd };
        // Looked at after opening: from here on the descriptor cannot come to mean another process.
        hold.is_same().then_some(hold)
    }

    pub fn of_process(process: &Process) -> Option<Hold> {
        Hold::of(process.pid, process.start)
    }

    /// A process that is gone already is not an error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if let Some(fd) = &self.fd {
            return fd.signal(signal);
        }
        if !self.is_same() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid as i32), signal) {
            Err(Errno::ESRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ended: all its threads have exited, perhaps not yet reaped, or gone altogether.
    pub fn is_gone(&self) -> bool {
        match &self.fd {
            Some(fd) => is_readable(fd.as_fd()),
            None => !self.is_same(),
        }
    }

    fn is_same(&self) -> bool {
        procfs::process(self.pid).is_some_and(|now| now.start == self.start && !kin::has_ended(&now))
    }
}

/// Waits until all of `holds` have ended or `deadline` has passed; returns whether all have ended.
/// Also returns early, with false, when `interrupt` becomes readable.
pub fn wait_all(holds: &[Hold], deadline: Time, interrupt: Option<BorrowedFd>) -> bool {
    let mut waiting: Vec<&Hold> = holds.iter().collect();
    loop {
        waiting.retain(|hold| !hold.is_gone());
        let left = deadline.since(clock::now());
        if waiting.is_empty() || left.is_zero() {
            return waiting.is_empty();
        }
        let patience = if waiting.iter().all(|hold| hold.fd.is_some()) { left } else { left.min(LOOK_EVERY) };
        if poll_once(&waiting, patience, interrupt) {
            return false;
        }
    }
}

/// For who can only look again later.
pub fn pause_until(deadline: Time) {
    loop {
        let left = deadline.since(clock::now());
        if left.is_zero() {
            return;
        }
        // A signal that interrupts the poll only makes us compute again.
        let _ = poll(&mut [], timeout(left));
    }
}

/// Whether `interrupt` is readable.
fn poll_once(waiting: &[&Hold], patience: Duration, interrupt: Option<BorrowedFd>) -> bool {
    let held = waiting.iter().filter_map(|hold| hold.fd.as_ref());
    let mut fds: Vec<PollFd> = held.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    fds.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    // A signal that interrupts the poll only makes us look again.
    let _ = poll(&mut fds, timeout(patience));
    interrupt.is_some() && fds.last().and_then(PollFd::any).unwrap_or(false)
}

fn is_readable(fd: BorrowedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// For `poll`, rounded up so that a wait never ends early and spins.
pub fn timeout(patience: Duration) -> PollTimeout {
    let ms = patience.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(ms.min(i32::MAX as u128) as i32).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_only_the_very_process() {
        let me = procfs::process(std::process::id()).unwrap();
        let hold = Hold::of_process(&me).unwrap();
        assert!(!hold.is_gone());
        assert!(Hold::of(me.pid, me.start + 1).is_none());
        assert!(!wait_all(&[hold], clock::now() + Duration::from_millis(5), None));
        assert!(wait_all(&[], clock::now(), None));
    }

    #[test]
    fn rounded_up() {
        let check = |d, ms: i32| assert_eq!(i32::from(timeout(d)), ms);
        check(Duration::ZERO, 0);
        check(Duration::from_micros(1), 1);
        check(Duration::from_millis(300), 300);
        check(Duration::from_secs(1 << 40), i32::MAX);
    }
}
