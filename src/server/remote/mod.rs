//! A life of a server that runs elsewhere and speaks HTTP: Streamable HTTP, or the older HTTP with SSE.
//!
//! [`run`] is the life's thread: it obeys the supervisor and holds the conversation, and never waits for the network.
//! Around it, bounded in number: workers that post one line after another, and one thread for the server's own event
//! stream. All of them end with the life; none is joined, because a look-up of a name cannot be interrupted.
//!
//! ```text
//! shared.rs  what the threads share; queue.rs what goes when (pure); job.rs, line.rs one line; inbox.rs the way back
//! worker.rs  a thread that posts; post.rs one POST to its end; answer.rs what came of it; stream.rs the GET
//! client.rs  HTTP by ureq; tls.rs its TLS; trouble.rs its errors as faults; upstream.rs what the config says, resolved
//! ```
//!
//! What a later era of the protocol changes is in few places: which line is the first (`conversation.rs`), what a request
//! says in its head (`Place::headers`), whether there is a session and a stream at all (`Shared::open`), and what closing a
//! POST means (`Remote::cancel`).

mod answer;
mod client;
mod inbox;
mod job;
mod line;
mod post;
mod queue;
mod shared;
mod stream;
mod tls;
mod trouble;
mod upstream;
mod worker;

pub use upstream::Upstream;

use super::conversation::Conversation;
use super::handle::{Report, Server};
use super::in_flight::IN_FLIGHT;
use super::link::Link;
use super::machine::Event;
use super::orders::{Order, Orders};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life};
use crate::base::limits::REMOTE_BYE;
use crate::base::time::Time;
use crate::config::Protocol;
use crate::mcp::envelope::{self, Outcome};
use crate::sys::{clock, hold, thread};
use inbox::{Heard, Inbox};
use job::Job;
pub use job::Mirrors;
use line::Line;
use nix::poll::{PollTimeout, poll};
use shared::{Place, Shared};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a link holds of a remote life. Clones share it.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Shared>);

impl Remote {
    /// Sends one line. Never blocks.
    pub fn send(&self, line: Vec<u8>) -> Result<(), Fault> {
        let mirrors = self.0.mirrors();
        self.0.push(Job::of(Line::new(line, &IN_FLIGHT), &mirrors))
    }

    /// `id` was answered.
    pub fn answered(&self, id: CallId) {
        self.0.answered(id);
    }

    /// Nobody waits for `id` any more.
    pub fn over(&self, id: CallId) {
        self.0.over(id);
    }

    /// Closes the request of a call that was cancelled. `false`: it was never sent, and the server need not be told.
    pub fn cancel(&self, id: CallId) -> bool {
        self.0.cancel(id)
    }

    /// The version that was agreed on with the server.
    pub fn agreed(&self, version: &str) {
        self.0.agreed(version);
    }

    /// It speaks the modern era.
    pub fn open_modern(&self) {
        self.0.open_modern();
    }

    /// Which arguments of its tools go into heads.
    pub fn mirror(&self, mirrors: Mirrors) {
        self.0.mirror(mirrors);
    }

    /// What was refused for its head goes again if that is another one now.
    pub fn heads_are_known(&self) {
        self.0.heads_are_known();
    }

    /// Wakes the life's thread.
    pub fn wake(&self) {
        self.0.inbox.wake();
    }

    /// What the caller of `id` is told when the life is over with `fault`: it may not be known what became of the call.
    pub fn verdict(&self, id: CallId, fault: &Fault) -> Fault {
        match fault.kind != FaultKind::Stopped && self.0.is_in_doubt(id) {
            true => shared::in_doubt(fault),
            false => fault.clone(),
        }
    }
}

/// The life's thread. Ends when the supervisor has cleared the life.
pub fn run(life: Life, server: &Arc<Server>, upstream: Upstream, orders: &Orders) {
    server.tell(Report::Event(Event::Spawned(life), None));
    let inbox = Inbox::new(orders.wake().clone());
    let is_sse = upstream.protocol == Protocol::Sse;
    let shared = Arc::new(Shared::new(server.slug.to_string(), upstream, inbox));
    if is_sse {
        shared.use_sse(None);
    }
    let link = Arc::new(Link::remote(life, Remote(shared.clone())));
    // A bug in what follows must end this life and nothing else.
    let lived = catch_unwind(AssertUnwindSafe(|| Body::new(server, &shared, &link, orders).live()));
    if let Err(panic) = lived {
        let what = thread::panic_text(panic.as_ref());
        let fault =
            Fault::new(FaultKind::Internal, format!("the thread of this server's life panicked: {what}"));
        log::error!("{}: {fault}", server.name);
        link.life_over(&fault);
        server.close(life);
        shared.close();
        server.tell(Report::Event(Event::Exited(life, fault.kind), Some(fault)));
    }
    server.tell(Report::Event(Event::Gone(life), None));
}

struct Body<'a> {
    server: &'a Arc<Server>,
    shared: &'a Arc<Shared>,
    link: &'a Arc<Link>,
    orders: &'a Orders,
    conversation: Conversation,
    signed: bool,
    /// It does not work: nothing is said to it any more, not even farewell.
    failed: bool,
    ended: bool,
    /// Until when the farewell may take.
    bye: Option<Time>,
}

impl<'a> Body<'a> {
    fn new(
        server: &'a Arc<Server>,
        shared: &'a Arc<Shared>,
        link: &'a Arc<Link>,
        orders: &'a Orders,
    ) -> Body<'a> {
        Body {
            server,
            shared,
            link,
            orders,
            conversation: Conversation::new(server.clone(), link.clone()),
            signed: false,
            failed: false,
            ended: false,
            bye: None,
        }
    }

    /// Returns when the supervisor has said to clear up, and the farewell is said or took too long.
    fn live(mut self) {
        self.conversation.greet();
        let mut clear = false;
        loop {
            let patience = self.bye.map_or(PollTimeout::NONE, |at| hold::timeout(at.since(clock::now())));
            // EINTR or out of memory: nothing is ready, and the loop asks again.
            let _ = poll(&mut [self.orders.wake().poll_fd()], patience);
            for order in self.orders.take() {
                match order {
                    Order::Probe => self.conversation.probe(),
                    Order::CloseInput | Order::Term => self.end(),
                    Order::Kill => {
                        self.end();
                        self.bye = None;
                    }
                    Order::Clear => clear = true,
                }
            }
            while let Some(heard) = self.shared.inbox.pop() {
                self.hear(heard);
            }
            self.conversation.list_what_is_wanted();
            if self.bye.is_some_and(|at| at <= clock::now()) {
                log::debug!("{}: it did not take our farewell in time", self.server.name);
                self.bye = None;
            }
            if clear && self.bye.is_none() {
                return;
            }
        }
    }

    fn line(&mut self, line: &[u8], call: Option<CallId>) {
        if !std::mem::replace(&mut self.signed, true) {
            self.server.tell(Report::Event(Event::FirstSign(self.link.life), None));
        }
        self.conversation.heard();
        self.conversation.line_of(line, call);
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Line(line) => self.line(&line, None),
            Heard::LineOf(id, line) => self.line(&line, Some(id)),
            Heard::Lost(id, fault) => self.conversation.unanswered(id, fault),
            Heard::Status(id, status, fault) => self.conversation.status(id, status, fault),
            Heard::Renew => self.conversation.greet_again(),
            Heard::Parked => self.conversation.list_for_heads(),
            Heard::Refused(id, error) => {
                let answer = envelope::response(&id.0.to_string(), Outcome::Error(&error));
                self.conversation.line(&answer);
            }
            Heard::Failed(fault) => {
                self.failed = true;
                self.conversation.fail(fault);
            }
            Heard::Bye => self.bye = None,
        }
    }

    /// Cuts everything, and tells the server that we are leaving.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.server.close(self.link.life);
        let fault = Fault::new(FaultKind::Stopped, format!("{} was stopped", self.server.name));
        self.link.life_over(&fault);
        if let Some(place) = self.shared.close().filter(|_| !self.failed) {
            self.say_farewell(place);
        }
        self.server.tell(Report::Event(Event::Exited(self.link.life, fault.kind), Some(fault)));
    }

    fn say_farewell(&mut self, place: Place) {
        let shared = self.shared.clone();
        let farewell = move || {
            // A server may refuse it (405), and forgets the session by itself at last.
            if let Err(trouble) = shared.client.delete(&place.target, &place.headers(), REMOTE_BYE) {
                log::debug!("{}: end the session: {}", shared.name, trouble.fault);
            }
            shared.inbox.push(Heard::Bye);
        };
        // Not joined: its time-outs end it.
        if thread::spawn(&format!("bye:{}", self.shared.name), farewell).is_ok() {
            self.bye = Some(clock::now() + REMOTE_BYE);
        }
    }
}
