//! The handler's side of one request: how it is answered.

use super::table::Shared;
use crate::base::limits::WRITE_BYTES_PER_SECOND_MIN;
use crate::gateway::hub::{HubFull, OnClose, StreamId, Watch};
use crate::http::Refusal;
use crate::http::request::{Head, Version};
use crate::http::response::{
    CONTINUE, LAST_CHUNK, Persistence, Sizing, has_body, write_chunk_size, write_head,
};
use crate::sys::net::Socket;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

/// Every stream of events says so; an nginx in front must not collect it.
const EVENT_HEADERS: [(&str, &str); 3] =
    [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")];

/// One request's answer: exactly one of [`respond`](Exchange::respond), [`start_events`](Exchange::start_events)
/// and [`hand_over`](Exchange::hand_over), or [`abandon`](Exchange::abandon). An answer after the answer is
/// logged and dropped. A client that is gone is not an error here; the connection just ends.
pub struct Exchange {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    /// Reused from response to response.
    out: Vec<u8>,
    state: State,
    version: Version,
    /// HEAD: the answer's head only.
    head_only: bool,
    keep_alive: bool,
    watch: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Answered,
    /// Events have begun and their end was not written yet.
    Streaming,
    HandedOver,
    /// Nothing more can be written: the peer is gone, or too slow, or was abandoned.
    Broken,
}

impl Exchange {
    pub(super) fn new(shared: Arc<Shared>, socket: Arc<Socket>) -> Exchange {
        Exchange {
            shared,
            socket,
            out: Vec::new(),
            state: State::Open,
            version: Version::Http11,
            head_only: false,
            keep_alive: false,
            watch: None,
        }
    }

    /// Answers with a whole response: one write. Content-Length and Connection are ours to say.
    pub fn respond(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        if !self.may_answer() {
            return;
        }
        self.start_head(status, headers, Sizing::Length(body.len()));
        let body = if self.head_only || !has_body(status) { &[] } else { body };
        // A failure is in `state`; the handler has nothing more to say either way.
        if self.write(body).is_ok() {
            self.state = State::Answered;
        }
    }

    /// Answers 200 with a stream of events that this thread writes. On HTTP/1.1 the connection stays usable
    /// after `finish`; a client of 1.0 learns the end by the close.
    pub fn start_events(&mut self, headers: &[(&str, &str)]) -> io::Result<EventWriter<'_>> {
        if !self.may_answer() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.start_event_head(headers);
        self.write(&[])?;
        self.state = State::Streaming;
        Ok(EventWriter { exchange: self })
    }

    /// Answers 200 with a stream of events and gives the socket to the hub, which writes the head; this
    /// thread ends once the handler has returned. `on_close` runs once on the hub's thread, perhaps before
    /// this returns; with `Err` it never runs and the request can still be answered.
    pub fn hand_over(&mut self, headers: &[(&str, &str)], on_close: OnClose) -> Result<StreamId, HubFull> {
        if !self.may_answer() {
            return Err(HubFull);
        }
        self.end_watch();
        let kept = std::mem::replace(&mut self.keep_alive, false);
        self.start_event_head(headers);
        let (head, socket) = (std::mem::take(&mut self.out), Arc::clone(&self.socket));
        let chunked = self.version == Version::Http11 && !self.head_only;
        let adopted = self.shared.hub.adopt(socket, head, chunked, on_close);
        let id = adopted.inspect_err(|_full| self.keep_alive = kept)?;
        self.state = State::HandedOver;
        if self.head_only {
            self.shared.hub.close(id);
        }
        Ok(id)
    }

    /// Lends the socket to the hub while the handler waits for something else: `on_close` runs once, on the
    /// hub's thread, if the client goes. On TCP a half-close counts as going (it cannot be told apart), on
    /// a Unix socket only a full close does. One watch at a time: a second one ends the first.
    pub fn watch_close(&mut self, on_close: OnClose) -> Watch {
        self.end_watch();
        let watch = self.shared.hub.watch(&self.socket, on_close);
        self.watch = Some(watch.id());
        watch
    }

    /// Whether the client is gone, by the rule of [`watch_close`](Exchange::watch_close).
    pub fn peer_closed(&self) -> bool {
        self.state == State::Broken || self.socket.peer_closed()
    }

    /// Closes the connection without an answer, or in the middle of one: the client sees that it was cut.
    pub fn abandon(&mut self) {
        self.state = State::Broken;
    }

    fn may_answer(&mut self) -> bool {
        match self.state {
            State::Open => true,
            State::Broken => false,
            State::Answered | State::Streaming | State::HandedOver => {
                log::error!("a request was answered twice; the second answer is dropped");
                false
            }
        }
    }

    fn start_event_head(&mut self, headers: &[(&str, &str)]) {
        let sizing = match self.version {
            Version::Http11 => Sizing::Chunked,
            Version::Http10 => {
                self.keep_alive = false;
                Sizing::UntilClose
            }
        };
        let headers: Vec<(&str, &str)> = EVENT_HEADERS.iter().chain(headers).copied().collect();
        self.start_head(200, &headers, sizing);
    }

    fn start_head(&mut self, status: u16, headers: &[(&str, &str)], sizing: Sizing) {
        self.keep_alive &= !self.shared.is_draining();
        let persistence = match (self.keep_alive, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http11) => Persistence::Implied,
            (true, Version::Http10) => Persistence::KeepAlive,
        };
        self.out.clear();
        write_head(&mut self.out, status, headers, sizing, persistence);
    }

    /// Writes the head that was started, or a chunk's, and `body`, in one system call where possible.
    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        self.write_parts(body, &[])
    }

    fn write_parts(&mut self, body: &[u8], tail: &[u8]) -> io::Result<()> {
        let patience = patience(self.shared.settings.write_patience, body.len());
        let mut parts = [IoSlice::new(&self.out), IoSlice::new(body), IoSlice::new(tail)];
        self.socket.send_all(&mut parts, patience).inspect_err(|_| self.state = State::Broken)
    }

    fn end_watch(&mut self) {
        if let Some(id) = self.watch.take() {
            self.shared.hub.unwatch(id);
        }
    }
}

/// The connection's side.
impl Exchange {
    /// Made ready for the request of `head`.
    pub(super) fn begin(&mut self, head: &Head) {
        self.state = State::Open;
        self.version = head.version;
        self.head_only = head.method == "HEAD";
        self.keep_alive = head.keep_alive;
    }

    /// Asks for the body of a request that waits for this.
    pub(super) fn write_continue(&mut self) -> io::Result<()> {
        self.socket.send_all(&mut [IoSlice::new(CONTINUE)], self.shared.settings.write_patience)
    }

    /// Answers what never became a request. The connection ends after this.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Open;
        self.version = Version::Http11;
        self.head_only = false;
        self.keep_alive = false;
        let text = format!("{}\n", refusal.why);
        let headers = [("Content-Type", "text/plain"), ("Retry-After", "1")];
        let headers = if refusal.status == 503 { &headers[..] } else { &headers[..1] };
        self.respond(refusal.status, headers, text.as_bytes());
    }

    /// After the handler: what is owed is paid. Returns whether the connection goes on.
    pub(super) fn end(&mut self, panicked: bool) -> bool {
        self.end_watch();
        self.keep_alive &= !panicked;
        if self.state == State::Open {
            if !panicked {
                log::error!("a request was not answered by its handler");
            }
            self.respond(500, &[("Content-Type", "text/plain")], b"internal error\n");
        }
        self.out.shrink_to(16 << 10);
        self.state == State::Answered && self.keep_alive
    }

    /// Whether the last answer went out whole and the socket is still ours: the only case in which it is worth to
    /// close it gently.
    pub(super) fn is_answered(&self) -> bool {
        self.state == State::Answered
    }
}

/// A stream of events on the connection's own thread. Every write is on its way to the client when it returns.
/// Dropped without [`finish`](EventWriter::finish), the connection is closed and the client sees a cut stream.
pub struct EventWriter<'a> {
    exchange: &'a mut Exchange,
}

impl EventWriter<'_> {
    /// Writes one event, as it goes on the wire, or several. An error is final.
    pub fn write(&mut self, event: &[u8]) -> io::Result<()> {
        let exchange = &mut *self.exchange;
        if exchange.state != State::Streaming {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if event.is_empty() || exchange.head_only {
            return Ok(());
        }
        exchange.out.clear();
        match exchange.version {
            Version::Http10 => exchange.write(event),
            Version::Http11 => {
                write_chunk_size(&mut exchange.out, event.len());
                exchange.write_parts(event, b"\r\n")
            }
        }
    }

    /// Ends the stream in order.
    pub fn finish(self) -> io::Result<()> {
        let exchange = self.exchange;
        if exchange.state != State::Streaming {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        exchange.out.clear();
        if exchange.version == Version::Http11 && !exchange.head_only {
            exchange.write(LAST_CHUNK)?;
        }
        exchange.state = State::Answered;
        Ok(())
    }

    /// See [`Exchange::watch_close`].
    pub fn watch_close(&mut self, on_close: OnClose) -> Watch {
        self.exchange.watch_close(on_close)
    }

    /// See [`Exchange::peer_closed`].
    pub fn peer_closed(&self) -> bool {
        self.exchange.peer_closed()
    }
}

fn patience(least: Duration, bytes: usize) -> Duration {
    least + Duration::from_secs((bytes / WRITE_BYTES_PER_SECOND_MIN) as u64)
}
