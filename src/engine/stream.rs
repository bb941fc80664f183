//! An answer that goes on: read as it comes, never waited for. It also reads the answers that end.

use super::error::{EngineError, EngineErrorKind, Missing, Trouble, refusal};
use super::patience::Patience;
use crate::base::limits::ENGINE_LINE_BYTES_MAX;
use crate::http::reply::{Decoder, Head};
use crate::sys::net::Socket;
use nix::poll::PollFlags;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

/// What a stream has for its reader now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    Item(T),
    /// Nothing has come: poll its descriptor.
    Nothing,
    /// It ended as it should.
    End,
}

/// Ends a stream from another thread when dropped: its reader gets `Cancelled`.
#[derive(Debug)]
pub struct Interrupt {
    socket: Weak<Socket>,
    intended: Arc<AtomicBool>,
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.intended.store(true, Ordering::SeqCst);
        if let Some(socket) = self.socket.upgrade() {
            socket.shutdown_both();
        }
    }
}

/// The reader of one answer on one connection.
#[derive(Debug)]
pub(super) struct Stream {
    doing: &'static str,
    missing: Missing,
    socket: Arc<Socket>,
    decoder: Decoder,
    /// The end that is read is one that we made.
    intended: Arc<AtomicBool>,
    buffer: Vec<u8>,
    /// The peer has closed: the connection is not for reuse.
    closed: bool,
}

impl Stream {
    /// `bytes_max` bounds what is read between two takes.
    pub(super) fn new(
        socket: Socket,
        doing: &'static str,
        method: &str,
        missing: Missing,
        bytes_max: usize,
    ) -> Stream {
        Stream {
            doing,
            missing,
            socket: Arc::new(socket),
            decoder: Decoder::new(method, bytes_max),
            intended: Arc::default(),
            buffer: vec![0; READ_BYTES],
            closed: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn interrupt(&self) -> Interrupt {
        Interrupt { socket: Arc::downgrade(&self.socket), intended: self.intended.clone() }
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.decoder.head()
    }

    /// Reads once; whether anything has come. False also at the end.
    fn pull(&mut self) -> Result<bool, Trouble> {
        if self.decoder.is_done() {
            return Ok(false);
        }
        let fed = match self.socket.recv_now(&mut self.buffer) {
            Ok(0) => {
                self.closed = true;
                if self.intended.load(Ordering::SeqCst) {
                    return Err(Trouble::new(EngineErrorKind::Cancelled, "it was cancelled"));
                }
                return match self.decoder.close() {
                    Ok(()) => Ok(false),
                    Err(fault) => Err(Trouble::new(EngineErrorKind::Cut, fault.message)),
                };
            }
            Ok(count) => self.decoder.feed(&self.buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        fed.map(|()| true).map_err(|fault| Trouble::new(EngineErrorKind::Garbled, fault.message))
    }

    /// Waits until the head has come.
    pub(super) fn await_head(&mut self, patience: &Patience) -> Result<(), Trouble> {
        while self.decoder.head().is_none() {
            if !self.pull()? {
                patience.wait(self.socket.as_fd(), PollFlags::POLLIN)?;
            }
        }
        Ok(())
    }

    /// Waits until the answer has ended; its body.
    pub(super) fn await_body(&mut self, patience: &Patience) -> Result<Vec<u8>, Trouble> {
        while !self.decoder.is_done() {
            if !self.pull()? && !self.decoder.is_done() {
                patience.wait(self.socket.as_fd(), PollFlags::POLLIN)?;
            }
        }
        Ok(self.decoder.take_body())
    }

    /// The next bytes of the body. An answer that is a refusal becomes an error once it is whole.
    pub(super) fn read(&mut self) -> Result<Next<Vec<u8>>, EngineError> {
        self.read_raw().map_err(|trouble| trouble.during(self.doing))
    }

    fn read_raw(&mut self) -> Result<Next<Vec<u8>>, Trouble> {
        loop {
            let more = self.pull()?;
            let status = self.head().map(|head| head.status);
            match status {
                Some(101 | 200..=299) => {
                    let body = self.decoder.take_body();
                    if !body.is_empty() {
                        return Ok(Next::Item(body));
                    }
                    if self.decoder.is_done() {
                        return Ok(Next::End);
                    }
                }
                Some(status) if self.decoder.is_done() => {
                    return Err(refusal(self.missing, status, &self.decoder.take_body()));
                }
                Some(_) | None => (),
            }
            if !more {
                return Ok(Next::Nothing);
            }
        }
    }

    pub(super) fn wait(&self, patience: &Patience) -> Result<(), EngineError> {
        patience.wait(self.socket.as_fd(), PollFlags::POLLIN).map_err(|trouble| trouble.during(self.doing))
    }

    pub(super) fn garbled(&self, why: &str) -> EngineError {
        EngineError::new(EngineErrorKind::Garbled, self.doing, why)
    }

    /// The bare connection and what has come on it behind the head.
    pub(super) fn into_raw(mut self) -> Result<(Socket, Vec<u8>), Trouble> {
        let mut early = self.decoder.take_body();
        early.extend(self.decoder.take_rest());
        let socket = Arc::into_inner(self.socket)
            .ok_or_else(|| Trouble::new(EngineErrorKind::Cancelled, "it was cancelled"))?;
        Ok((socket, early))
    }

    /// The connection, if the answer ended and left it clean.
    pub(super) fn into_idle(mut self) -> Option<Socket> {
        let says_close = self
            .head()
            .and_then(|head| head.header("connection"))
            .is_some_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")));
        let clean =
            self.decoder.is_done() && !self.closed && !says_close && self.decoder.take_rest().is_empty();
        Arc::into_inner(self.socket).filter(|_| clean)
    }
}

/// A stream of lines, each a JSON object. Bounded by the longest line.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) stream: Stream,
    whole: VecDeque<Vec<u8>>,
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Lines {
        Lines { stream, whole: VecDeque::new(), begun: Vec::new() }
    }

    /// The next line that is not empty. What stands behind the last newline counts as one at the end.
    pub(super) fn read(&mut self) -> Result<Next<Vec<u8>>, EngineError> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                return Ok(Next::Item(line));
            }
            match self.stream.read()? {
                Next::Item(bytes) => self.take(&bytes)?,
                Next::Nothing => return Ok(Next::Nothing),
                Next::End => {
                    let last = std::mem::take(&mut self.begun);
                    return Ok(if last.trim_ascii().is_empty() { Next::End } else { Next::Item(last) });
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.begun.len() + piece.len() > ENGINE_LINE_BYTES_MAX {
                return Err(self.stream.garbled("a line of its stream is too long"));
            }
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.begun);
                if !line.trim_ascii().is_empty() {
                    self.whole.push_back(line);
                }
            }
        }
        Ok(())
    }
}
