//! A call that was sent: waiting for its answer, and leaving it.
//!
//! Every call gets exactly one answer: whoever removes it from the link's pending calls gives it.

use super::asks::Asks;
use super::crossing::Crossing;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::text;
use crate::base::time::Time;
use crate::server::handle::Server;
use crate::server::link::Link;
use crate::server::slot::{Answer, Slot, Word};
use crate::sys::clock;
use std::sync::Arc;
use std::time::Duration;

/// A call that was sent and waits. Dropping it gives the call up without telling the server.
pub struct OpenCall {
    link: Arc<Link>,
    id: CallId,
    slot: Slot,
    deadline: Time,
    /// However often progress moves the deadline.
    latest: Time,
    server: Arc<Server>,
    asks: Arc<Asks>,
    /// What is undone when the server refuses.
    on_refusal: Option<Box<dyn FnOnce() + Send>>,
    /// How the answer comes to the client, if its era or its server's is the modern one.
    crossing: Option<Box<Crossing>>,
    done: bool,
}

/// What a waiting caller hears next.
#[derive(Debug)]
pub enum Heard {
    /// A whole message for the client.
    Message(Box<[u8]>),
    Answer(Answer),
    PeerClosed,
    /// Nothing within the time given.
    Quiet,
}

impl OpenCall {
    /// `(deadline, latest)`: until when without a sign of work, and however often that moves.
    pub fn new(
        link: Arc<Link>,
        id: CallId,
        slot: Slot,
        (deadline, latest): (Time, Time),
        server: Arc<Server>,
        asks: Arc<Asks>,
    ) -> OpenCall {
        OpenCall {
            link,
            id,
            slot,
            deadline,
            latest,
            server,
            asks,
            on_refusal: None,
            crossing: None,
            done: false,
        }
    }

    pub fn crossing(mut self, crossing: Option<Box<Crossing>>) -> OpenCall {
        self.crossing = crossing;
        self
    }

    /// Runs if the answer is an error.
    pub fn on_refusal(&mut self, undo: Box<dyn FnOnce() + Send>) {
        self.on_refusal = Some(undo);
    }

    /// The client takes nothing but the answer: whatever its server asks is refused.
    pub fn refuse_questions(&self) {
        self.asks.end_of(self.link.life, self.id, "the client takes nothing but the answer");
    }

    /// Where this caller hears; for whoever watches its connection meanwhile.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Waits for what comes next, at most for `span` if one is given, and never beyond the call's deadline.
    pub fn wait(&mut self, span: Option<Duration>) -> Heard {
        loop {
            let now = clock::now();
            let until = span.map_or(self.deadline, |span| self.deadline.min(now + span));
            match self.slot.wait(until) {
                Some(Word::Answer(answer)) => {
                    self.done = true;
                    if let Some(undo) =
                        self.on_refusal.take().filter(|_| !matches!(answer, Answer::Result(_)))
                    {
                        undo();
                    }
                    return Heard::Answer(match &self.crossing {
                        Some(crossing) => crossing.answer(answer),
                        None => answer,
                    });
                }
                Some(Word::Message { body, extends }) => {
                    if extends {
                        self.deadline = self.latest.min(clock::now() + self.server.call_patience());
                    }
                    return Heard::Message(body);
                }
                Some(Word::PeerClosed) => return Heard::PeerClosed,
                None if clock::now() < self.deadline => return Heard::Quiet,
                None if self.link.abandon(self.id) => {
                    self.done = true;
                    self.link.tell_cancelled(self.id, Some("\"the call timed out\""));
                    return Heard::Answer(Answer::Fault(self.timed_out()));
                }
                // Somebody has removed the call, so its answer is on the way to the slot.
                None => self.deadline = clock::now() + Duration::from_secs(1),
            }
        }
    }

    /// The client has gone. In the legacy era that is no cancellation: the server may finish, and its answer is
    /// dropped.
    pub fn leave(mut self) {
        self.done = true;
        self.link.abandon(self.id);
    }

    /// The caller's own patience is over: the server is told.
    pub fn give_up(self) {
        self.cancel("\"the caller's patience is over\"");
    }

    /// The server is told why (a JSON string); its answer, if one still comes, is dropped.
    pub fn cancel(mut self, why: &str) {
        self.done = true;
        if self.link.abandon(self.id) {
            self.link.tell_cancelled(self.id, Some(why));
        }
    }

    fn timed_out(&self) -> Fault {
        let patience = text::span(self.server.call_patience());
        let message = format!("server `{}` did not answer within {patience}", self.server.name);
        Fault::new(FaultKind::CallTimeout, message).hint("raise \"call_timeout\" if the tool needs longer")
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.done {
            self.link.abandon(self.id);
        }
        self.asks.end_of(self.link.life, self.id, "the call that this belongs to is over");
    }
}
