//! The hub: one thread that holds all idle event streams, so that a thousand of them cost memory and not threads.
//!
//! It owns the sockets that were handed over, writes what is queued for them without ever waiting for one, and
//! sees at once when a peer closes. It also watches sockets that others own ([`Watch`]), for callers that wait
//! elsewhere and want to know when their client is gone. It does not know what an event means.
//!
//! The thread `sse-hub` blocks in epoll without a time-out; it ends by [`Hub::shutdown`], or when the last
//! handle is dropped. INVARIANT: only the hub's thread writes to a stream's socket and runs callbacks, and it does
//! neither under the lock.

use crate::base::limits::{STREAM_FINISH_PATIENCE, STREAM_PULSE_EVERY, STREAM_QUEUE_BYTES_MAX, STREAMS_MAX};
use crate::base::time::Time;
use crate::http::response::{LAST_CHUNK, write_chunk_size};
use crate::sys::clock;
use crate::sys::epoll::{Epoll, Interest, Ready};
use crate::sys::net::Socket;
use crate::sys::thread::{panic_text, spawn};
use crate::sys::wake::Wake;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What runs once when a stream is over or a watched peer is gone, on the hub's thread: it must not wait.
pub type OnClose = Box<dyn FnOnce() + Send>;

/// The hub's eventfd; streams and watches count from 1.
const WAKE_TOKEN: u64 = 0;

/// What one queued event costs beside its bytes, so that a million tiny ones do not slip below the limit.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// A comment, which readers of events pass over.
const PULSE: &[u8] = b": \n\n";

/// Buffers above this are given back after use.
const BUFFER_KEPT_BYTES_MAX: usize = 64 << 10;

/// Beyond the grace of a shutdown: how long we wait for the thread itself, which no peer can hold up.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// One stream in the hub; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// The hub is at its limit, or shut down; the caller still has its connection and can answer 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubFull;

impl fmt::Display for HubFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for another event stream")
    }
}

impl std::error::Error for HubFull {}

/// The limits of one hub; the defaults are those of `base::limits`.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    pub streams_max: usize,
    /// Per stream; one more byte and the stream is closed.
    pub queue_bytes_max: usize,
    /// How long a stream that was closed may take to read the rest.
    pub finish_patience: Duration,
    /// How often a stream that is kept alive says something.
    pub pulse_every: Duration,
}

impl Default for HubLimits {
    fn default() -> HubLimits {
        HubLimits {
            streams_max: STREAMS_MAX,
            queue_bytes_max: STREAM_QUEUE_BYTES_MAX,
            finish_patience: STREAM_FINISH_PATIENCE,
            pulse_every: STREAM_PULSE_EVERY,
        }
    }
}

/// A handle to the hub; clones share it. The last one dropped cuts the streams and ends the thread.
#[derive(Clone)]
pub struct Hub(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Result<(), String>>>>,
}

struct Shared {
    limits: HubLimits,
    epoll: Epoll,
    wake: Wake,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    last_id: u64,
    streams: BTreeMap<u64, Stream>,
    watches: BTreeMap<u64, Watched>,
    /// Streams that the thread must look at; whoever adds the first wakes it.
    dirty: Vec<u64>,
    /// When streams that are finishing are cut.
    cuts: BTreeSet<(Time, u64)>,
    /// When all streams that are kept alive say something; nothing while there are none.
    pulse_at: Option<Time>,
    stopping: bool,
    ended: bool,
}

struct Stream {
    socket: Arc<Socket>,
    chunked: bool,
    /// Events that are not framed yet.
    queue: VecDeque<Arc<[u8]>>,
    /// Framed bytes that the kernel did not take; not empty only while `blocked`.
    unsent: Vec<u8>,
    /// What counts toward the limit: the queue, the unsent, and what the thread is writing just now.
    bytes: usize,
    /// Waiting for the kernel to say that there is room.
    blocked: bool,
    dirty: bool,
    kept_alive: bool,
    phase: Phase,
    cut_at: Option<Time>,
    on_close: OnClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing is accepted any more; the rest and the end are to be written.
    Finishing,
    /// The end is framed; over once it is written.
    Ending,
    /// Over at once.
    Cut,
}

struct Watched {
    socket: Arc<Socket>,
    on_close: OnClose,
}

impl Hub {
    pub fn start() -> io::Result<Hub> {
        Hub::with_limits(HubLimits::default())
    }

    pub fn with_limits(limits: HubLimits) -> io::Result<Hub> {
        let (epoll, wake) = (Epoll::new()?, Wake::new()?);
        epoll.add(&wake, WAKE_TOKEN, Interest { readable: true, ..Interest::default() })?;
        let (state, ended) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { limits, epoll, wake, state, ended });
        let body = { Arc::clone(&shared) };
        let thread = spawn("sse-hub", move || body.run())?;
        Ok(Hub(Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) })))
    }

    /// Queues one event, as it goes on the wire. Never waits. False if the stream is over, or if its client
    /// reads so slowly that this event does not fit: then it is over from now on.
    pub fn send(&self, id: StreamId, event: impl Into<Arc<[u8]>>) -> bool {
        let shared = &self.0.shared;
        let event = event.into();
        let cost = event.len() + EVENT_OVERHEAD_BYTES;
        let mut state = shared.state.lock();
        let Some(stream) = state.streams.get_mut(&id.0) else { return false };
        if stream.phase != Phase::Open {
            return false;
        }
        let fits = stream.bytes + cost <= shared.limits.queue_bytes_max;
        if fits && !event.is_empty() {
            stream.bytes += cost;
            stream.queue.push_back(event);
        } else if !fits {
            stream.phase = Phase::Cut;
        }
        shared.mark_dirty(&mut state, id.0);
        fits
    }

    /// From now on a comment goes out on this stream now and then, so that nobody on the way takes it for dead.
    pub fn keep_alive(&self, id: StreamId) {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        let Some(stream) = state.streams.get_mut(&id.0) else { return };
        stream.kept_alive = true;
        if state.pulse_at.is_none() {
            state.pulse_at = Some(clock::now() + shared.limits.pulse_every);
            shared.wake.wake();
        }
    }

    /// Ends the stream in order after what is queued, or by force when its client does not read on.
    pub fn close(&self, id: StreamId) {
        let shared = &self.0.shared;
        let cut_at = clock::now() + shared.limits.finish_patience;
        shared.finish(&mut shared.state.lock(), id.0, cut_at);
    }

    /// Event streams; watches are not counted.
    pub fn len(&self) -> usize {
        self.0.shared.state.lock().streams.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over `socket`: writes `head`, then events, each batch as a chunk if `chunked`. With `Err`,
    /// `on_close` never runs; else it runs exactly once, perhaps before this returns.
    pub(crate) fn adopt(
        &self,
        socket: Arc<Socket>,
        head: Vec<u8>,
        chunked: bool,
        on_close: OnClose,
    ) -> Result<StreamId, HubFull> {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        if state.stopping || state.streams.len() >= shared.limits.streams_max {
            return Err(HubFull);
        }
        let id = shared.register(&mut state, &socket)?;
        let stream = Stream {
            bytes: head.len(),
            unsent: head,
            queue: VecDeque::new(),
            blocked: false,
            dirty: false,
            kept_alive: false,
            phase: Phase::Open,
            cut_at: None,
            socket,
            chunked,
            on_close,
        };
        state.streams.insert(id, stream);
        shared.mark_dirty(&mut state, id);
        Ok(StreamId(id))
    }

    /// Runs `on_close` once if the peer of `socket` goes while the watch lives. A hub that is shut down, or a
    /// kernel without memory, watches nothing.
    pub(crate) fn watch(&self, socket: &Arc<Socket>, on_close: OnClose) -> Watch {
        let shared = &self.0.shared;
        let mut state = shared.state.lock();
        let id = if state.stopping { None } else { shared.register(&mut state, socket).ok() };
        if let Some(id) = id {
            state.watches.insert(id, Watched { socket: Arc::clone(socket), on_close });
        }
        Watch { hub: self.clone(), id: id.unwrap_or(WAKE_TOKEN) }
    }

    /// Ends a watch. Its callback does not start any more after this, but may be running.
    pub(crate) fn unwatch(&self, id: u64) {
        let shared = &self.0.shared;
        let removed = shared.state.lock().watches.remove(&id);
        if let Some(watched) = &removed {
            shared.epoll.remove(&*watched.socket);
        }
        // Dropped here, outside the lock: a callback may own handles whose drop calls the hub.
    }

    /// Ends all streams in order, cuts the rest after `grace`, runs every callback of a stream, and ends the
    /// thread. Bounded; a second call does nothing. Called on the hub's own thread, it only begins.
    pub fn shutdown(&self, grace: Duration) {
        self.0.shutdown(grace);
    }
}

impl Owner {
    fn shutdown(&self, grace: Duration) {
        let Some(thread) = self.thread.lock().take() else { return };
        let shared = &self.shared;
        let cut_at = clock::now() + grace;
        let mut state = shared.state.lock();
        state.stopping = true;
        let ids: Vec<u64> = state.streams.keys().copied().collect();
        for id in ids {
            shared.finish(&mut state, id, cut_at);
        }
        shared.wake.wake();
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        let until = clock::instant(cut_at + END_PATIENCE);
        shared.ended.wait_while_until(&mut state, |state| !state.ended, until);
        let ended = state.ended;
        drop(state);
        if !ended {
            log::warn!("sse-hub did not end within its time: a callback is stuck");
        } else if thread.join().is_err() {
            log::error!("sse-hub could not be joined");
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

/// A socket lent to the hub until this is dropped.
#[must_use = "dropping it ends the watching"]
pub struct Watch {
    hub: Hub,
    id: u64,
}

impl Watch {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.unwatch(self.id);
    }
}

/// The other threads' half: everything under the lock, nothing that waits.
impl Shared {
    fn register(&self, state: &mut State, socket: &Arc<Socket>) -> Result<u64, HubFull> {
        let id = state.last_id + 1;
        self.epoll.add(&**socket, id, interest(socket, false)).map_err(|error| {
            log::warn!("sse-hub: cannot take a socket: {error}");
            HubFull
        })?;
        state.last_id = id;
        Ok(id)
    }

    fn mark_dirty(&self, state: &mut State, id: u64) {
        let Some(stream) = state.streams.get_mut(&id) else { return };
        // Who waits for room is looked at when there is room, unless it is over.
        if stream.dirty || (stream.blocked && stream.phase != Phase::Cut) {
            return;
        }
        stream.dirty = true;
        state.dirty.push(id);
        if state.dirty.len() == 1 {
            self.wake.wake();
        }
    }

    fn finish(&self, state: &mut State, id: u64, cut_at: Time) {
        let Some(stream) = state.streams.get_mut(&id) else { return };
        if stream.phase == Phase::Open {
            stream.phase = Phase::Finishing;
        }
        let sooner = stream.cut_at.map_or(cut_at, |earlier| earlier.min(cut_at));
        let earlier = stream.cut_at.replace(sooner);
        state.cuts.extend([(sooner, id)]);
        if let Some(earlier) = earlier.filter(|earlier| *earlier != sooner) {
            state.cuts.remove(&(earlier, id));
        }
        self.mark_dirty(state, id);
        // Its deadline may be the next one now.
        self.wake.wake();
    }
}

/// The thread's half.
impl Shared {
    fn run(&self) {
        // The hub carries every stream: without it the process is better started anew.
        let _abort = AbortOnPanic;
        let (mut ready, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let Some(deadline) = self.next_deadline() else { return };
            self.epoll.wait(&mut ready, deadline).expect("epoll_wait with valid arguments");
            for event in &ready {
                self.react(event, &mut buffer);
            }
            let dirty = std::mem::take(&mut self.state.lock().dirty);
            for id in dirty {
                self.flush(id, &mut buffer);
            }
            self.cut_overdue();
            self.pulse();
        }
    }

    /// When to look again without an event (`None` inside: never); `None` outside: it is over.
    fn next_deadline(&self) -> Option<Option<Time>> {
        let mut state = self.state.lock();
        if state.stopping && state.streams.is_empty() {
            let watches = std::mem::take(&mut state.watches);
            state.ended = true;
            self.ended.notify_all();
            drop(state);
            drop(watches);
            return None;
        }
        Some(state.cuts.first().map(|(at, _)| *at).into_iter().chain(state.pulse_at).min())
    }

    /// One wake-up for all of them, and none when nobody is left.
    fn pulse(&self) {
        let now = clock::now();
        let mut state = self.state.lock();
        if state.pulse_at.is_none_or(|at| at > now) {
            return;
        }
        let kept = state.streams.iter().filter(|(_, stream)| stream.kept_alive);
        let kept: Vec<u64> = kept.map(|(id, _)| *id).collect();
        state.pulse_at = (!kept.is_empty()).then_some(now + self.limits.pulse_every);
        for id in kept {
            let Some(stream) = state.streams.get_mut(&id) else { continue };
            // Who has something to read needs no more.
            if stream.phase == Phase::Open && stream.bytes == 0 {
                stream.bytes += PULSE.len();
                stream.queue.push_back(PULSE.into());
                self.mark_dirty(&mut state, id);
            }
        }
    }

    fn react(&self, event: &Ready, buffer: &mut Vec<u8>) {
        if event.token == WAKE_TOKEN {
            return self.wake.clear();
        }
        let watched = self.state.lock().watches.remove(&event.token);
        if let Some(watched) = watched {
            self.epoll.remove(&*watched.socket);
            run(watched.on_close);
        } else if event.ended {
            self.remove(event.token);
        } else if event.writable {
            self.flush(event.token, buffer);
        }
    }

    /// Writes what the kernel takes of what is queued, once: a fast client cannot keep the thread either.
    fn flush(&self, id: u64, buffer: &mut Vec<u8>) {
        let Some((socket, taken)) = self.take_work(id, buffer) else { return };
        match taken {
            Taken::Over => return self.remove(id),
            Taken::Bytes { cost } => match send_some(&socket, buffer) {
                Ok(sent) => self.put_back(id, &buffer[sent..], cost),
                Err(_gone) => self.remove(id),
            },
        }
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT_BYTES_MAX);
    }

    /// Frames everything that is queued into `buffer`.
    fn take_work(&self, id: u64, buffer: &mut Vec<u8>) -> Option<(Arc<Socket>, Taken)> {
        let mut state = self.state.lock();
        let stream = state.streams.get_mut(&id)?;
        stream.dirty = false;
        let socket = Arc::clone(&stream.socket);
        if stream.phase == Phase::Cut {
            return Some((socket, Taken::Over));
        }
        let (unsent, queue) = (std::mem::take(&mut stream.unsent), std::mem::take(&mut stream.queue));
        let (cost, chunked) = (stream.bytes, stream.chunked);
        let finishing = stream.phase == Phase::Finishing;
        if finishing {
            stream.phase = Phase::Ending;
        }
        drop(state);
        buffer.clear();
        buffer.extend_from_slice(&unsent);
        frame(&queue, chunked, buffer);
        if finishing && chunked {
            buffer.extend_from_slice(LAST_CHUNK);
        }
        Some((socket, Taken::Bytes { cost }))
    }

    /// Keeps what was not sent of what cost `cost` when it was taken; decides what to wait for.
    fn put_back(&self, id: u64, left: &[u8], cost: usize) {
        let mut state = self.state.lock();
        let Some(stream) = state.streams.get_mut(&id) else { return };
        stream.bytes = stream.bytes - cost + left.len();
        stream.unsent = left.to_vec();
        let blocked = !left.is_empty();
        if blocked != stream.blocked {
            stream.blocked = blocked;
            let wanted = interest(&stream.socket, blocked);
            self.epoll.modify(&*stream.socket, id, wanted).expect("the socket is registered until removed");
        }
        let (over, more) = (stream.phase == Phase::Ending && !blocked, !stream.queue.is_empty());
        if more || stream.phase == Phase::Finishing {
            self.mark_dirty(&mut state, id);
        }
        drop(state);
        if over {
            self.remove(id);
        }
    }

    fn cut_overdue(&self) {
        let now = clock::now();
        let overdue: Vec<u64> = {
            let state = self.state.lock();
            state.cuts.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
        };
        for id in overdue {
            self.remove(id);
        }
    }

    fn remove(&self, id: u64) {
        let mut state = self.state.lock();
        let Some(stream) = state.streams.remove(&id) else { return };
        if let Some(at) = stream.cut_at {
            state.cuts.remove(&(at, id));
        }
        drop(state);
        let Stream { socket, on_close, .. } = stream;
        self.epoll.remove(&*socket);
        socket.shutdown_both();
        drop(socket);
        run(on_close);
    }
}

enum Taken {
    Over,
    Bytes { cost: usize },
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn interest(socket: &Socket, writable: bool) -> Interest {
    Interest { writable, peer_end: socket.half_close_is_the_end(), ..Interest::default() }
}

/// All events as one chunk: where a chunk ends means nothing to a reader of events.
fn frame(queue: &VecDeque<Arc<[u8]>>, chunked: bool, out: &mut Vec<u8>) {
    if queue.is_empty() {
        return;
    }
    if chunked {
        write_chunk_size(out, queue.iter().map(|event| event.len()).sum());
    }
    for event in queue {
        out.extend_from_slice(event);
    }
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}

fn send_some(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match socket.send_now(&[IoSlice::new(bytes)]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

fn run(on_close: OnClose) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(on_close)) {
        log::error!("sse-hub: a callback panicked: {}", panic_text(panic.as_ref()));
    }
}
