//! What the threads of one remote life share: the queue, the session, the way back to the life's thread.
//!
//! One lock, never held while anything is sent, read or waited for.

use super::client::Client;
use super::inbox::{Heard, Inbox};
use super::job::{Job, Mirrors};
use super::queue::{Queue, Renewal, RunId, Task};
use super::stream;
use super::upstream::Upstream;
use super::worker;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{REMOTE_CALLS_MAX, REMOTE_IDLE, REMOTE_LISTENS_MAX, REMOTE_URGENT_MAX};
use crate::base::time::Time;
use crate::config::Protocol;
use crate::http::url::Url;
use crate::sys::{clock, thread};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;

/// One for everything that may be under way.
const WORKERS_MAX: usize = REMOTE_CALLS_MAX + REMOTE_URGENT_MAX + REMOTE_LISTENS_MAX;

#[derive(Debug)]
pub struct Shared {
    /// For names of threads and for people.
    pub name: String,
    pub upstream: Upstream,
    pub client: Client,
    pub inbox: Inbox,
    state: Mutex<State>,
    /// The session is open, lost, or over: for those who wait for that. Workers have bells of their own.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: Queue<Agent>,
    transport: Transport,
    /// Where lines are posted; with SSE known once the stream has said so.
    target: Url,
    session: Option<String>,
    version: Option<String>,
    mirrors: Arc<Mirrors>,
    /// Cuts the event stream.
    stream: Option<Agent>,
    /// There is a thread for the event stream, or there will never be one again.
    streaming: bool,
    workers: usize,
    /// What wakes each worker that has nothing to do. The last to come is the first to go: its connection is open still,
    /// and those that are not needed end by themselves.
    idle: Vec<Arc<Condvar>>,
    closed: bool,
}

/// Which transport is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP, as far as is known: the first answer may show that it is SSE.
    Guessed,
    Http,
    /// HTTP with SSE, of 2024-11-05: every answer comes on the one event stream.
    Sse,
}

/// What a request of this session says of it.
#[derive(Clone, Debug)]
pub struct Place {
    pub transport: Transport,
    pub target: Url,
    pub session: Option<String>,
    pub version: Option<String>,
    pub generation: u32,
}

impl Place {
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let session = self.session.as_deref().map(|id| ("mcp-session-id", id));
        let version = self.version.as_deref().map(|version| ("mcp-protocol-version", version));
        session.into_iter().chain(version).collect()
    }
}

impl Shared {
    pub fn new(name: String, upstream: Upstream, inbox: Inbox) -> Shared {
        let transport = match upstream.protocol {
            Protocol::Auto => Transport::Guessed,
            Protocol::Http => Transport::Http,
            Protocol::Sse => Transport::Sse,
        };
        let state = State {
            queue: Queue::new(transport == Transport::Sse),
            transport,
            target: upstream.url.clone(),
            session: None,
            version: None,
            mirrors: Arc::default(),
            stream: None,
            streaming: false,
            workers: 0,
            idle: Vec::new(),
            closed: false,
        };
        let client = Client::new(&upstream);
        Shared { name, upstream, client, inbox, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub fn push(self: &Arc<Self>, job: Job) -> Result<(), Fault> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Fault::new(FaultKind::Stopped, "the connection to the server is closed"));
        }
        state.queue.push(job)?;
        let crowded = state.queue.crowded();
        self.employ(&mut state);
        drop(state);
        cut(crowded);
        Ok(())
    }

    /// Sends a job once more, before all others.
    pub fn push_again(self: &Arc<Self>, job: Job) {
        let mut state = self.state.lock();
        if !state.closed {
            state.queue.push_again(job);
            self.employ(&mut state);
        }
    }

    /// Sees to it that somebody does what can be done.
    fn employ(self: &Arc<Self>, state: &mut State) {
        if !state.queue.is_ready() {
            return;
        }
        if let Some(bell) = state.idle.pop() {
            bell.notify_one();
        } else if state.workers < WORKERS_MAX {
            state.workers += 1;
            let shared = self.clone();
            // Not joined: it ends when there is nothing to do, or when the life is over.
            if let Err(error) = thread::spawn(&format!("post:{}", self.name), move || worker::run(&shared)) {
                state.workers -= 1;
                log::error!("{}: start a thread: {error}", self.name);
            }
        }
    }

    /// The next task of a worker; waits for one, and gives nothing when it should end.
    pub fn take(self: &Arc<Self>, agent: &mut Option<Agent>) -> Option<Task> {
        let until = clock::now() + REMOTE_IDLE;
        let bell = Arc::new(Condvar::new());
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let cut = || agent.get_or_insert_with(|| self.client.agent()).clone();
            if let Some(task) = state.queue.take(cut) {
                // What becomes ready at once (a greeting is over) wakes one, and that one the next.
                self.employ(&mut state);
                return Some(task);
            }
            state.idle.push(bell.clone());
            let waited = bell.wait_until(&mut state, clock::instant(until));
            // By the time that it runs out it was not called.
            state.idle.retain(|other| !Arc::ptr_eq(other, &bell));
            if waited.timed_out() && !state.queue.is_ready() {
                return None;
            }
        }
    }

    /// The run is done; whether its agent may have been cut.
    pub fn finish(self: &Arc<Self>, run: RunId) -> bool {
        let mut state = self.state.lock();
        let is_cut = state.queue.finish(run);
        self.employ(&mut state);
        is_cut
    }

    /// The answer of this run has come, and its connection stays open.
    pub fn lingers(&self, run: RunId) {
        self.state.lock().queue.lingers(run);
    }

    pub fn leave(&self) {
        self.state.lock().workers -= 1;
    }

    /// Nobody waits for what comes of this run.
    pub fn is_over(&self, run: RunId) -> bool {
        let state = self.state.lock();
        state.closed || state.queue.is_over(run)
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub fn accepted(&self, run: RunId) {
        self.state.lock().queue.accepted(run);
    }

    /// This call was answered.
    pub fn answered(self: &Arc<Self>, id: CallId) {
        self.end(|queue| queue.answered(id));
    }

    /// Nobody waits for this call any more.
    pub fn over(self: &Arc<Self>, id: CallId) {
        self.end(|queue| queue.over(id));
    }

    fn end(self: &Arc<Self>, end: impl FnOnce(&mut Queue<Agent>)) {
        let mut state = self.state.lock();
        end(&mut state.queue);
        let crowded = state.queue.crowded();
        self.employ(&mut state);
        drop(state);
        cut(crowded);
    }

    /// The same for one that was cancelled: its connection is closed. Whether the server may know of it.
    pub fn cancel(&self, id: CallId) -> bool {
        let (known, agent) = self.state.lock().queue.cancel(id);
        cut(agent);
        known
    }

    pub fn is_in_doubt(&self, id: CallId) -> bool {
        self.state.lock().queue.is_in_doubt(id)
    }

    pub fn place(&self) -> Place {
        let state = self.state.lock();
        Place {
            transport: state.transport,
            target: state.target.clone(),
            session: state.session.clone(),
            version: state.version.clone(),
            generation: state.queue.generation(),
        }
    }

    /// What the server's answer to `initialize` says in its head.
    pub fn greeted(&self, session: Option<String>) {
        let mut state = self.state.lock();
        state.session = session;
        if state.transport == Transport::Guessed {
            state.transport = Transport::Http;
        }
    }

    /// The version that was agreed on: every later request says it.
    pub fn agreed(&self, version: &str) {
        self.state.lock().version = Some(version.to_owned());
    }

    /// The server has moved within its origin.
    pub fn moved(&self, from: &Url, to: Url) {
        let mut state = self.state.lock();
        if state.target == *from {
            state.target = to;
        }
    }

    /// Which arguments of its tools go into heads.
    pub fn mirrors(&self) -> Arc<Mirrors> {
        self.state.lock().mirrors.clone()
    }

    pub fn mirror(&self, mirrors: Mirrors) {
        self.state.lock().mirrors = Arc::new(mirrors);
    }

    /// The server refuses the head of a call: it waits until it is known what that should repeat.
    pub fn park(&self, run: RunId, error: &str) -> bool {
        let mut state = self.state.lock();
        !state.closed && state.queue.park(run, error)
    }

    /// It is known, as far as it will be.
    pub fn heads_are_known(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let mirrors = state.mirrors.clone();
        let refused = state.queue.release(&mirrors);
        self.employ(&mut state);
        drop(state);
        for (id, error) in refused {
            self.inbox.push(Heard::Refused(id, error));
        }
    }

    /// The same of the modern era, which has no session, and no stream but the answers.
    pub fn open_modern(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.transport = Transport::Http;
        state.queue.open();
        self.employ(&mut state);
        self.changed.notify_all();
    }

    /// The greeting is over: everything may be sent, and the server may have something to say of its own.
    pub fn open(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.queue.open();
        self.employ(&mut state);
        self.changed.notify_all();
        if state.transport != Transport::Sse {
            self.start_stream(&mut state);
        }
    }

    /// The older transport, by its own name or because the newer one was refused.
    pub fn use_sse(self: &Arc<Self>, refusal: Option<Fault>) {
        let mut state = self.state.lock();
        state.transport = Transport::Sse;
        state.queue.hold(true);
        self.stream_thread(&mut state, move |shared| stream::run_sse(shared, refusal));
    }

    fn start_stream(self: &Arc<Self>, state: &mut State) {
        self.stream_thread(state, stream::run_http);
    }

    fn stream_thread(self: &Arc<Self>, state: &mut State, run: impl FnOnce(&Arc<Shared>) + Send + 'static) {
        if std::mem::replace(&mut state.streaming, true) || state.closed {
            return;
        }
        let shared = self.clone();
        // Not joined: it ends when the server has no such stream, or when the life is over.
        if let Err(error) = thread::spawn(&format!("get:{}", self.name), move || run(&shared)) {
            log::error!("{}: start a thread: {error}", self.name);
            state.streaming = false;
        }
    }

    /// The server has said where to post, on its stream.
    pub fn endpoint(self: &Arc<Self>, target: Url) {
        let mut state = self.state.lock();
        state.target = target;
        state.queue.hold(false);
        self.employ(&mut state);
    }

    /// The session that `generation` names is lost. `Ok`: a new one is on its way, and jobs may be sent again in it.
    pub fn session_lost(&self, generation: u32, why: &Fault) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let elsewhere = state.transport == Transport::Sse;
        match state.queue.renew(generation, elsewhere, clock::now()) {
            Renewal::UnderWay => Ok(()),
            Renewal::TooSoon => {
                let message = format!("{}; the session before did not last either", why.message);
                Err(Fault::new(FaultKind::SessionLost, message))
            }
            Renewal::Begin(lost) => {
                state.session = None;
                state.version = None;
                let stream = state.stream.take();
                self.changed.notify_all();
                drop(state);
                cut(stream);
                log::warn!("{}: {}; greeting it again", self.name, why.message);
                for id in lost {
                    self.inbox.push(Heard::Lost(id, in_doubt(why)));
                }
                self.inbox.push(Heard::Renew);
                Ok(())
            }
        }
    }

    /// Waits until the server is greeted in a session after `generation` (or in any); nothing when the life is over.
    pub fn wait_open(&self, after: Option<u32>) -> Option<Place> {
        let mut state = self.state.lock();
        while !state.closed && (!state.queue.is_open() || Some(state.queue.generation()) == after) {
            self.changed.wait(&mut state);
        }
        let closed = state.closed;
        drop(state);
        (!closed).then(|| self.place())
    }

    /// Lets `span` pass; `false` when the life ended, or the session that `generation` names did.
    pub fn pause(&self, span: Duration, generation: u32) -> bool {
        let until: Time = clock::now() + span;
        let mut state = self.state.lock();
        loop {
            if state.closed || state.queue.generation() != generation {
                return false;
            }
            if self.changed.wait_until(&mut state, clock::instant(until)).timed_out() {
                return true;
            }
        }
    }

    /// An agent for the event stream of this session; nothing if that is over.
    pub fn stream_agent(&self, generation: u32) -> Option<Agent> {
        let mut state = self.state.lock();
        if state.closed || state.queue.generation() != generation {
            return None;
        }
        Some(state.stream.insert(self.client.agent()).clone())
    }

    /// Cuts everything. Where the session is to be ended, if there is one.
    pub fn close(&self) -> Option<Place> {
        let place = self.place();
        let mut state = self.state.lock();
        state.closed = true;
        let agents: Vec<Agent> = state.queue.all().into_iter().chain(state.stream.take()).collect();
        self.changed.notify_all();
        state.idle.drain(..).for_each(|bell| _ = bell.notify_one());
        drop(state);
        self.inbox.close();
        cut(agents);
        (place.transport != Transport::Sse && place.session.is_some()).then_some(place)
    }
}

/// A call was sent, and its answer will not come.
pub fn in_doubt(why: &Fault) -> Fault {
    let message = format!("{}: whether the call took effect is not known", why.message);
    Fault::new(FaultKind::OutcomeUnknown, message)
        .hint("it may have done what was asked; look before you repeat it")
}

fn cut(agents: impl IntoIterator<Item = Agent>) {
    agents.into_iter().for_each(Agent::shutdown);
}
