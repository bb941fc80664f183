//! A call that was sent: waiting for its answer, and leaving it.
//!
//! Every call gets exactly one answer: whoever removes it from the link's pending calls gives it. Across the eras there
//! may be questions before: those of a modern server are asked and answered here (`rounds.rs`), those of a legacy server
//! for a modern client come out as [`Heard::Asked`].

mod rounds;

pub use rounds::Rounds;

use super::asks::Asks;
use super::crossing::Crossing;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{INPUT_GATHERING, INPUT_PATIENCE};
use crate::base::text;
use crate::base::time::Time;
use crate::mcp::envelope::{Outcome, error_object};
use crate::mcp::era::{Era, MISSING_CAPABILITY};
use crate::mcp::features::Feature;
use crate::mcp::{input, params};
use crate::server::handle::Server;
use crate::server::link::Link;
use crate::server::slot::{Answer, Question, Slot, Word};
use crate::sys::clock;
use serde_json::value::RawValue;
use std::collections::VecDeque;
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
    /// How the call is made again, if its client is of the legacy era and its server is not.
    rounds: Option<Box<Rounds>>,
    /// For the client, before anything else.
    to_say: VecDeque<Box<[u8]>>,
    /// What the server has asked a modern client, and until when it may ask more in the same round.
    questions: Vec<Question>,
    gathering: Option<Time>,
    /// What was refused because the client does not offer it, as members of its capabilities.
    unoffered: Vec<&'static str>,
    /// Why it ends, when all is said.
    fault: Option<Fault>,
    done: bool,
}

/// What a waiting caller hears next.
#[derive(Debug)]
pub enum Heard {
    /// A whole message for the client.
    Message(Box<[u8]>),
    Answer(Answer),
    /// The server asks something that a modern client can answer; see [`OpenCall::take_questions`].
    Asked,
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
            rounds: None,
            to_say: VecDeque::new(),
            questions: Vec::new(),
            gathering: None,
            unoffered: Vec::new(),
            fault: None,
            done: false,
        }
    }

    pub fn rounds(mut self, rounds: Option<Box<Rounds>>) -> OpenCall {
        self.rounds = rounds;
        self
    }

    pub fn crossing(mut self, crossing: Option<Box<Crossing>>) -> OpenCall {
        self.crossing = crossing;
        self
    }

    /// Runs if the answer is an error.
    pub fn on_refusal(&mut self, undo: Box<dyn FnOnce() + Send>) {
        self.on_refusal = Some(undo);
    }

    /// The client takes nothing but the answer: whatever its server asks on the way is refused.
    pub fn refuse_questions(&self) {
        let asked_in_result = self.crossing.as_ref().is_some_and(|crossing| crossing.client == Era::Modern);
        if !asked_in_result {
            self.asks.end_of(self.link.life, self.id, "the client takes nothing but the answer");
        }
    }

    /// What the server has asked, for a client that will come again.
    pub fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// Its client is asked, and hears of nothing until it comes again.
    pub fn hold(&self) {
        self.slot.hold();
        self.link.retoken(self.id, None);
    }

    /// Its client waits for it again, and hears of progress under this token, raw, if it has one.
    pub fn reopen(&self, token: Option<Box<str>>) {
        self.slot.reopen();
        self.link.retoken(self.id, token);
    }

    /// The server will say nothing more: the answer is there.
    pub fn is_over(&self) -> bool {
        self.link.slot_of(self.id).is_none()
    }

    /// How long its client may take to come again.
    pub fn input_deadline(&self) -> Time {
        self.latest.min(clock::now() + INPUT_PATIENCE)
    }

    /// What the server says of itself, raw.
    pub fn server_info(&self) -> Option<&str> {
        self.crossing.as_ref()?.server_info.as_deref()
    }

    /// The client cannot be asked these.
    pub fn refuse(&self, questions: &[Question], why: &str) {
        questions.iter().for_each(|question| self.asks.refuse(question.ask, why));
    }

    /// The client has come again: its answers go to the server. What is left is what it has not answered.
    pub fn go_on(
        &mut self,
        visit: u64,
        questions: Vec<Question>,
        answer: impl Fn(usize, &Question) -> Option<String>,
    ) -> Vec<Question> {
        self.deadline = self.latest.min(clock::now() + self.server.call_patience());
        let mut left = Vec::new();
        for (number, question) in questions.into_iter().enumerate() {
            match answer(number, &question) {
                _ if question.missing.is_some() => self.refuse_unoffered(&question),
                Some(answer) => {
                    let outcome = Outcome::Result(&answer);
                    self.asks.answer(visit, &question.ask.to_string(), outcome);
                }
                None if self.asks.is_open(question.ask) => left.push(question),
                None => (),
            }
        }
        left
    }

    fn refuse_unoffered(&mut self, question: &Question) {
        let feature = Feature::of_method(&question.method).map_or("this", Feature::name);
        let why = format!("`{}`: the client does not offer {feature}", question.method);
        self.asks.refuse_unoffered(question.ask, &why);
        self.unoffered.extend(question.missing.filter(|missing| !self.unoffered.contains(missing)));
    }

    /// Whatever the server had to ask in this round it has asked: `true` if its client can answer any of it.
    fn gathered(&mut self) -> bool {
        self.gathering = None;
        // It may have taken some back.
        let mut questions = std::mem::take(&mut self.questions);
        questions.retain(|question| self.asks.is_open(question.ask));
        if questions.iter().any(|question| question.missing.is_none()) {
            // The others are refused with the answers: a server that is refused one may give up the rest.
            self.questions = questions;
            return true;
        }
        questions.iter().for_each(|question| self.refuse_unoffered(question));
        false
    }

    /// A server that was refused what it needs may answer with an error: then that is what the client is told.
    fn answered(&self, answer: Answer) -> Answer {
        match (answer, &self.crossing) {
            (Answer::Error(raw), _) if !self.unoffered.is_empty() => {
                Answer::Error(needs(&self.unoffered, &raw).into())
            }
            (answer, Some(crossing)) => crossing.answer(answer),
            (answer, None) => answer,
        }
    }

    fn end(&mut self, fault: Fault) -> Heard {
        self.done = true;
        // Between two rounds there is nothing that the server could be told.
        if self.link.abandon(self.id) {
            self.link.tell_cancelled(self.id, None);
        }
        Heard::Answer(Answer::Fault(fault))
    }

    /// Where this caller hears; for whoever watches its connection meanwhile.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Waits for what comes next, at most for `span` if one is given, and never beyond the call's deadline.
    pub fn wait(&mut self, span: Option<Duration>) -> Heard {
        let quiet = span.map(|span| clock::now() + span);
        loop {
            if let Some(body) = self.to_say.pop_front() {
                return Heard::Message(body);
            }
            if let Some(fault) = self.fault.take() {
                return self.end(fault);
            }
            let deadline = self.asking_until().unwrap_or(self.deadline);
            let until = [quiet, self.gathering].into_iter().flatten().fold(deadline, Time::min);
            match self.slot.wait(until) {
                Some(Word::Answer(Answer::Result(raw)))
                    if self.rounds.is_some() && input::is_unfinished(&raw) =>
                {
                    self.fault = self.ask_client(&raw).err();
                }
                Some(Word::Answer(answer)) => {
                    self.done = true;
                    if let Some(undo) =
                        self.on_refusal.take().filter(|_| !matches!(answer, Answer::Result(_)))
                    {
                        undo();
                    }
                    return Heard::Answer(self.answered(answer));
                }
                Some(Word::Asked(question)) => {
                    let now = clock::now();
                    self.deadline = self.latest.min(now + self.server.call_patience());
                    self.gathering.get_or_insert(now + INPUT_GATHERING);
                    self.questions.push(question);
                }
                Some(Word::Replied(number, reply)) => self.fault = self.replied(number, reply).err(),
                Some(Word::Over(fault)) => return self.end(fault),
                Some(Word::Message { body, extends }) => {
                    if extends {
                        self.deadline = self.latest.min(clock::now() + self.server.call_patience());
                    }
                    return Heard::Message(body);
                }
                Some(Word::PeerClosed) => return Heard::PeerClosed,
                None if self.gathering.is_some_and(|until| until <= clock::now()) => {
                    if self.gathered() {
                        return Heard::Asked;
                    }
                }
                None if clock::now() < deadline => return Heard::Quiet,
                None if self.asking_until().is_some() => self.fault = self.asked_enough().err(),
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
        if self.rounds.is_some() {
            self.asks.go_on(&self.slot);
        }
    }
}

/// The error of a server that was refused what its client does not offer, as the modern era says it.
fn needs(unoffered: &[&str], error: &str) -> String {
    let required = format!("{{{}}}", unoffered.join(","));
    let required = RawValue::from_string(required).expect("members in braces are an object");
    let said = params::text(error, "message").unwrap_or_default();
    let message =
        format!("the server needs what this client has not declared: {}", text::shorten(&said, 200));
    let data = std::collections::BTreeMap::from([("requiredCapabilities", required)]);
    error_object(MISSING_CAPABILITY, &message, Some(&data))
}
