//! One connection, on its own thread: request after request, each within its deadlines and limits.
//!
//! A request that arrives whole costs one read and one write. Only what is incomplete after that is waited for
//! with an absolute deadline, so a client that drips bytes gains nothing by it.

use super::exchange::Exchange;
use super::table::Shared;
use super::{Peer, Request};
use crate::base::time::Time;
use crate::http::Refusal;
use crate::http::body::Body;
use crate::http::request::{Head, HeadScan};
use crate::sys::clock;
use crate::sys::net::Socket;
use crate::sys::thread::panic_text;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Room for one read of a head; most requests fit.
const READ_BYTES: usize = 8 << 10;

/// Room for one read of a body.
const BODY_READ_BYTES: usize = 64 << 10;

/// Bodies up to here are free; above, they come out of the server's budget, in steps of this.
const BODY_FREE_BYTES: usize = 64 << 10;

pub(super) struct Connection {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    /// Read by the drain: nothing of a request is here yet.
    idle: Arc<AtomicBool>,
    peer: Peer,
    inbound: Inbound,
    exchange: Exchange,
    /// The last request's body buffer, for the next one.
    spare: Vec<u8>,
    /// What this connection's body has taken from the server's budget.
    reserved: usize,
}

/// Why no request comes of it.
enum End {
    /// The peer is gone or was idle too long: nobody to answer.
    Gone,
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        End::Refused(refusal)
    }
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        socket: Arc<Socket>,
        idle: Arc<AtomicBool>,
        peer: Peer,
    ) -> Connection {
        let exchange = Exchange::new(Arc::clone(&shared), Arc::clone(&socket));
        let (inbound, spare) = (Inbound::default(), Vec::new());
        Connection { shared, socket, idle, peer, inbound, exchange, spare, reserved: 0 }
    }

    /// Until the connection is over, or not ours any more.
    pub(super) fn serve(mut self) {
        if let Err(error) = self.socket.set_recv_timeout(self.shared.settings.keep_alive_idle) {
            return log::warn!("connection: {error}");
        }
        loop {
            match self.next_request() {
                Ok(request) => {
                    if !self.answer(request) {
                        return self.close();
                    }
                }
                Err(End::Gone) => return,
                Err(End::Refused(refusal)) => {
                    self.exchange.refuse(refusal);
                    return self.linger();
                }
            }
        }
    }

    fn next_request(&mut self) -> Result<Request, End> {
        let head = self.read_head()?;
        self.exchange.begin(&head);
        let body = self.read_body(&head)?;
        let Head { method, path, query, headers, .. } = head;
        Ok(Request { method, path, query, headers, body, peer: self.peer })
    }

    /// Runs the handler. Returns whether the connection goes on.
    fn answer(&mut self, request: Request) -> bool {
        let call = AssertUnwindSafe(|| (self.shared.handler)(&request, &mut self.exchange));
        let outcome = catch_unwind(call);
        if let Err(panic) = &outcome {
            log::error!("{} {}: panicked: {}", request.method, request.path, panic_text(panic.as_ref()));
        }
        self.reuse(request.body);
        self.exchange.end(outcome.is_err())
    }

    /// The deadline runs from the first byte; before it, the connection is idle.
    fn read_head(&mut self) -> Result<Head, End> {
        let mut scan = HeadScan::default();
        let mut deadline = None;
        loop {
            if !self.inbound.is_empty() {
                if let Some((head, bytes)) = scan.advance(self.inbound.bytes())? {
                    self.inbound.consume(bytes);
                    return Ok(head);
                }
                deadline.get_or_insert_with(|| clock::now() + self.shared.settings.head_deadline);
            }
            match deadline {
                None => self.read_idle()?,
                Some(deadline) => self.read_before(deadline, READ_BYTES / 2, "request head took too long")?,
            }
        }
    }

    fn read_idle(&mut self) -> Result<(), End> {
        self.idle.store(true, Ordering::SeqCst);
        // After the store: either the drain sees that we are idle, or we see the drain.
        if self.shared.is_draining() {
            return Err(End::Gone);
        }
        let read = self.socket.recv(self.inbound.space(READ_BYTES));
        self.idle.store(false, Ordering::SeqCst);
        match read {
            Ok(bytes) if bytes > 0 => {
                self.inbound.filled(bytes);
                Ok(())
            }
            Ok(_) | Err(_) => Err(End::Gone),
        }
    }

    fn read_before(&mut self, deadline: Time, room: usize, why_late: &'static str) -> Result<(), End> {
        match self.socket.recv_before(self.inbound.space(room), deadline) {
            Ok(bytes) if bytes > 0 => {
                self.inbound.filled(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Refusal::new(408, why_late).into()),
            Ok(_) | Err(_) => Err(End::Gone),
        }
    }

    fn read_body(&mut self, head: &Head) -> Result<Vec<u8>, End> {
        let mut body = Body::new(head.framing, self.shared.settings.body_bytes_max)?;
        let mut out = std::mem::take(&mut self.spare);
        if body.is_done() {
            return Ok(out);
        }
        if head.expects_continue && self.inbound.is_empty() {
            self.exchange.write_continue().map_err(|_gone| End::Gone)?;
        }
        self.take_body(&mut body, &mut out)?;
        if !body.is_done() {
            let deadline = clock::now() + self.shared.settings.body_deadline;
            while !body.is_done() {
                self.read_before(deadline, BODY_READ_BYTES, "request body took too long")?;
                self.take_body(&mut body, &mut out)?;
            }
        }
        Ok(out)
    }

    fn take_body(&mut self, body: &mut Body, out: &mut Vec<u8>) -> Result<(), End> {
        while out.len() + self.inbound.bytes().len() > BODY_FREE_BYTES + self.reserved {
            if !self.shared.reserve_body(BODY_FREE_BYTES) {
                return Err(Refusal::new(503, "too many large requests at once").into());
            }
            self.reserved += BODY_FREE_BYTES;
        }
        let bytes = body.take(self.inbound.bytes(), out)?;
        self.inbound.consume(bytes);
        Ok(())
    }

    /// Buffers are kept for the next request, unless this one made them large.
    fn reuse(&mut self, mut body: Vec<u8>) {
        body.clear();
        body.shrink_to(READ_BYTES);
        self.spare = body;
        self.inbound.shrink();
        self.release();
    }

    fn release(&mut self) {
        self.shared.release_body(std::mem::take(&mut self.reserved));
    }

    /// Bytes behind the last request would turn a plain close into a reset that can overtake the answer.
    fn close(&mut self) {
        if self.exchange.is_answered() && !self.inbound.is_empty() {
            self.linger();
        }
    }

    /// Closes so that the client can read our answer although it is still sending: the end of our side first,
    /// then its bytes are read away until it closes too, for a while.
    fn linger(&mut self) {
        self.release();
        self.socket.shutdown_write();
        let deadline = clock::now() + self.shared.settings.linger;
        let mut scratch = [0; READ_BYTES];
        while self.socket.recv_before(&mut scratch, deadline).is_ok_and(|bytes| bytes > 0) {}
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.release();
    }
}

/// What was received and not yet understood: a buffer that keeps its allocation.
#[derive(Default)]
struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbound {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// At least `room` bytes to read into.
    fn space(&mut self, room: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < room && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < room {
            self.buffer.resize(self.end + room, 0);
        }
        &mut self.buffer[self.end..]
    }

    fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    fn shrink(&mut self) {
        if self.is_empty() && self.buffer.len() > 2 * READ_BYTES {
            *self = Inbound::default();
        }
    }
}
