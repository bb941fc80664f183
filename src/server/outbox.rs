//! What goes to one server's stdin: whole lines in order, written by whoever comes first.
//!
//! No lock is held while anything is written. A line that comes while another is being written is queued, and the one
//! who writes takes all that is queued with the next write: many callers at once cost few writes. What the pipe does
//! not take is left to the life's thread.

use super::in_flight::IN_FLIGHT;
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::OUTBOX_BYTES_MAX;
use crate::sys::wake::Wake;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Something waits for room in the pipe, or the pipe is broken: the life's thread looks without the lock.
    needs_life: AtomicBool,
    /// Wakes the life's thread.
    wake: Wake,
}

/// INVARIANT: while `writing`, only the writer writes; with `writing` unset, what is queued waits for room.
#[derive(Debug)]
struct State {
    /// `None` once stdin is closed.
    stdin: Option<Arc<OwnedFd>>,
    queue: Vec<u8>,
    /// So much of the queue is written.
    sent: usize,
    writing: bool,
    /// The server has closed its end: nothing that is sent arrives.
    broken: bool,
}

impl Outbox {
    /// `stdin` must not block.
    pub fn new(stdin: OwnedFd, wake: Wake) -> Outbox {
        let stdin = Some(Arc::new(stdin));
        let state = State { stdin, queue: Vec::new(), sent: 0, writing: false, broken: false };
        Outbox { state: Mutex::new(state), needs_life: AtomicBool::new(false), wake }
    }

    /// Sends one line, which ends in a newline. Never blocks.
    pub fn send(&self, line: Vec<u8>) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let queued = state.queue.len() - state.sent;
        let Some(stdin) = &state.stdin else {
            return Err(Fault::new(FaultKind::Stopped, "the server's stdin is closed"));
        };
        if queued + line.len() > OUTBOX_BYTES_MAX.max(line.len())
            || (queued > 0 && IN_FLIGHT.is_over(line.len()))
        {
            let message = format!("the server does not read its input: {queued} bytes wait already");
            return Err(
                Fault::new(FaultKind::Busy, message).hint("it is overloaded or stuck; try again later")
            );
        }
        if state.broken {
            // What is under way ends with the life: by its exit, or because it is of no use any more.
            return Ok(());
        }
        IN_FLIGHT.take(line.len());
        if state.writing || queued > 0 {
            state.queue.extend_from_slice(&line);
            return Ok(());
        }
        let stdin = stdin.clone();
        state.writing = true;
        drop(state);
        self.write(&stdin, line, 0);
        Ok(())
    }

    /// Writes what is queued, as far as the child takes it. Called by the life's thread.
    pub fn flush(&self) {
        let mut state = self.state.lock();
        let Some(stdin) = state.stdin.clone().filter(|_| !state.writing && !state.queue.is_empty()) else {
            return;
        };
        state.writing = true;
        let (queue, sent) = (std::mem::take(&mut state.queue), std::mem::take(&mut state.sent));
        drop(state);
        self.write(&stdin, queue, sent);
    }

    /// Writes `bytes` from `sent` on, and what is queued meanwhile; the caller has set `writing`. It ends with an
    /// empty queue, a full pipe, or a broken one: each turn needs a line of another call, and those are bounded.
    fn write(&self, stdin: &OwnedFd, mut bytes: Vec<u8>, mut sent: usize) {
        loop {
            let (count, broken) = write(stdin, &bytes[sent..]);
            sent += count;
            IN_FLIGHT.give_back(count);
            let mut state = self.state.lock();
            if broken || state.stdin.is_none() {
                IN_FLIGHT.give_back(bytes.len() - sent);
                state.broken |= broken;
                state.empty();
            } else if sent < bytes.len() {
                if sent > bytes.len() / 2 {
                    bytes.drain(..std::mem::take(&mut sent));
                }
                bytes.extend_from_slice(&state.queue);
                (state.queue, state.sent) = (bytes, sent);
            } else if !state.queue.is_empty() {
                bytes = std::mem::take(&mut state.queue);
                sent = 0;
                continue;
            }
            state.writing = false;
            let needs_life = state.broken || !state.queue.is_empty();
            self.needs_life.store(needs_life, Ordering::Release);
            drop(state);
            if needs_life {
                self.wake.wake();
            }
            return;
        }
    }

    /// Stdin, if something waits for room in it. Only the life's thread closes stdin, so what it polls stays open.
    pub fn clogged(&self) -> Option<Arc<OwnedFd>> {
        if !self.needs_life.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        state.stdin.clone().filter(|_| !state.writing && !state.queue.is_empty())
    }

    /// Wakes the life's thread.
    pub fn wake(&self) {
        self.wake.wake();
    }

    /// The server has closed its stdin, or has ended.
    pub fn is_broken(&self) -> bool {
        self.needs_life.load(Ordering::Acquire) && self.state.lock().broken
    }

    /// The server reads EOF; what was still queued is lost with it.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.stdin = None;
        state.empty();
    }
}

impl State {
    fn empty(&mut self) {
        IN_FLIGHT.give_back(self.queue.len() - self.sent);
        self.queue = Vec::new();
        self.sent = 0;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.state.get_mut().empty();
    }
}

/// As much as the pipe takes now, and whether it is broken.
fn write(stdin: &OwnedFd, bytes: &[u8]) -> (usize, bool) {
    let mut sent = 0;
    while sent < bytes.len() {
        match nix::unistd::write(stdin, &bytes[sent..]) {
            Ok(count) => sent += count,
            Err(Errno::EINTR) => (),
            Err(Errno::EAGAIN) => break,
            // EPIPE; no other error means anything else for a pipe.
            Err(_) => return (sent, true),
        }
    }
    (sent, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::thread::spawn;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::{BufRead, BufReader, Read};

    fn outbox() -> (Arc<Outbox>, std::fs::File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        (Arc::new(Outbox::new(writer, Wake::new().unwrap())), reader.into())
    }

    #[test]
    fn lines_of_many_stay_whole_and_in_their_order() {
        const EACH: usize = 500;
        let (outbox, reader) = outbox();
        let send = |who: usize, outbox: Arc<Outbox>| {
            let lines =
                move || (0..EACH).for_each(|n| outbox.send(format!("{who} {n}\n").into_bytes()).unwrap());
            spawn("sender", lines).unwrap()
        };
        let senders: Vec<_> = (0..4).map(|who| send(who, outbox.clone())).collect();
        let mut next = [0; 4];
        let mut lines = BufReader::new(reader);
        for _ in 0..4 * EACH {
            outbox.flush();
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let (who, n) = line.trim_end().split_once(' ').unwrap();
            let who: usize = who.parse().unwrap();
            assert_eq!(n.parse(), Ok(next[who]), "{line}");
            next[who] += 1;
        }
        assert_eq!(next, [EACH; 4]);
        senders.into_iter().for_each(|sender| sender.join().unwrap().unwrap());
        assert!(outbox.clogged().is_none() && !outbox.is_broken());
    }

    #[test]
    fn what_the_pipe_does_not_take_waits() {
        let (outbox, mut reader) = outbox();
        let much = vec![b'x'; 1 << 20];
        outbox.send(much.clone()).unwrap();
        assert!(outbox.clogged().is_some());
        outbox.send(b"end\n".to_vec()).unwrap();
        let full = outbox.send(vec![b'y'; OUTBOX_BYTES_MAX]).unwrap_err();
        assert_eq!(full.kind, FaultKind::Busy);
        let (mut got, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while !got.ends_with(b"end\n") {
            let count = reader.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
            outbox.flush();
        }
        assert_eq!(got.len(), much.len() + 4);
        assert!(outbox.clogged().is_none());
    }

    #[test]
    fn a_reader_that_has_gone_is_seen() {
        let (outbox, reader) = outbox();
        drop(reader);
        outbox.send(b"x\n".to_vec()).unwrap();
        assert!(outbox.is_broken() && outbox.clogged().is_none());
        outbox.close();
        assert_eq!(outbox.send(b"x\n".to_vec()).unwrap_err().kind, FaultKind::Stopped);
    }
}
