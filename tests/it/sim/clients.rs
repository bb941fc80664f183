//! Clients that call, cancel and leave; servers that answer, twice, wrongly or never. Around the real `Calls`.

use super::body::State;
use super::claims::{Checked, claim};
use super::plants::Plant;
use super::swarm::Fault;
use super::world::{Cause, World, ms};
use mcpvisor::base::id::{CallId, Life};
use mcpvisor::base::time::Time;
use mcpvisor::mcp::calls::{NewCall, Pending};
use mcpvisor::server::machine::Event;
use std::time::Duration;

pub struct Client {
    /// 0 = ours: internal calls, without a request id.
    pub session: u64,
    requests: u32,
}

impl Client {
    pub fn new(n: u64) -> Client {
        Client { session: n, requests: 0 }
    }
}

/// The simulator's own book about one call.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    session: u64,
    life: Life,
    id: CallId,
    open: bool,
    /// Overdue from then on.
    deadline: Time,
    patience: Duration,
}

impl World {
    pub fn client_tick(&mut self, client: u8) -> Checked {
        let next = self.rng.range(100, 12_000);
        self.after(ms(next), Cause::Client(client));
        if client > 0 && self.faulty(Fault::ClientLeaves, 1) {
            return self.client_leaves(client.into());
        }
        let ix = self.rng.below(self.actors.len());
        match self.actors[ix].server.state() {
            "ready" => self.call(client, ix),
            "sleeping" | "queued" => {
                let hop = self.hop();
                self.after(hop, Cause::Tell(ix as u8, Event::Wake));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn call(&mut self, client: u8, ix: usize) -> Checked {
        let reuse = self.faulty(Fault::ClientReusesIds, 30);
        let caller = &mut self.clients[client as usize];
        caller.requests += u32::from(!reuse);
        let (session, number) = (caller.session, caller.requests);
        let request: Option<Box<str>> = (session > 0).then(|| number.to_string().into());
        let patience = ms(self.rng.range(1_000, 60_000));
        let deadline = self.now + patience;
        let token = self.tickets.len() as u32;
        let call = NewCall { session, request, opened: self.now, deadline, patience, wants_progress: true };
        let life = self.actors[ix].body.life;
        let over = self.actors[ix].body.state == State::Over;
        match self.actors[ix].link.open(call, token) {
            Ok(id) => {
                claim!(!over, "C9 a call was accepted for a life that is over");
                let ticket = Ticket { session, life, id, open: true, deadline, patience };
                let twin = self.tickets.iter().rev().take(64).any(|t| (t.life, t.id) == (life, id));
                claim!(!twin, "C9 call id {id:?} was given twice");
                self.tickets.push(ticket);
                self.open.push(token);
                let hop = self.hop();
                self.after(hop, Cause::CallArrives(ix as u8, life, id));
                self.after(patience, Cause::CallsDue(ix as u8, life));
                if self.faulty(Fault::ClientCancels, 15) {
                    let late = self.rng.range(0, 20_000);
                    self.after(ms(late), Cause::Cancel(client, ix as u8, number));
                }
            }
            Err((_, waiter)) => {
                claim!(waiter == token, "C9 a refusal gives another waiter back");
                claim!(self.actors[ix].link.closed().is_some(), "C9 refused by an open link");
            }
        }
        self.count_calls()
    }

    /// The call reaches the server.
    pub fn call_arrives(&mut self, n: u8, life: Life, id: CallId) {
        let body = self.actors[n as usize].body;
        if body.life != life || body.state != State::Alive || body.deaf_since.is_some() {
            return;
        }
        let slowest = if self.rng.chance(10) { 40_000 } else { 500 };
        let takes = ms(self.rng.range(1, slowest));
        if self.faulty(Fault::Progress, 30) {
            self.after(takes / 2, Cause::Progress(n, life, id));
        }
        if self.faulty(Fault::NeverAnswers, 10) {
            return;
        }
        if self.faulty(Fault::UnknownId, 10) {
            let wrong = CallId(self.rng.range(0, id.0 + 20));
            if wrong != id && wrong.0 > id.0 {
                self.after(takes, Cause::Answer(n, life, CallId(wrong.0 + 1_000_000)));
            }
        }
        self.after(takes, Cause::Answer(n, life, id));
        if self.faulty(Fault::AnswersTwice, 20) {
            let again = ms(self.rng.range(0, 30_000));
            self.after(takes + again, Cause::Answer(n, life, id));
        }
    }

    /// An answer comes back; the life's thread routes it to whoever waits.
    pub fn answer(&mut self, ix: usize, life: Life, id: CallId) -> Checked {
        let body = self.actors[ix].body;
        if body.life != life || body.state == State::Over {
            return Ok(());
        }
        let said = if self.plant == Plant::AnswerCrosses { CallId(id.0 + 1) } else { id };
        let Some(Pending { waiter, session, .. }) = self.actors[ix].link.answer(said) else { return Ok(()) };
        let ticket = self.tickets[waiter as usize];
        claim!((ticket.life, ticket.id) == (life, id), "C10 the answer to {id:?} went to {:?}", ticket.id);
        claim!(ticket.session == session, "C10 session {session} got an answer for {}", ticket.session);
        claim!(self.settle(waiter), "C9 a call was answered twice");
        if self.plant == Plant::AnswerTwice {
            claim!(self.settle(waiter), "C9 a call was answered twice");
        }
        self.count_calls()
    }

    pub fn progress(&mut self, ix: usize, life: Life, id: CallId) {
        let now = self.now;
        if self.actors[ix].body.life != life {
            return;
        }
        if let Some(call) = self.actors[ix].link.progress(id, now) {
            let ticket = &mut self.tickets[call.waiter as usize];
            ticket.deadline = ticket.deadline.max(now + ticket.patience);
        }
    }

    pub fn cancel(&mut self, client: usize, ix: usize, request: u32) -> Checked {
        let session = self.clients[client].session;
        if let Some((id, call)) = self.actors[ix].link.cancel(session, &request.to_string()) {
            let ticket = self.tickets[call.waiter as usize];
            claim!(
                (ticket.session, ticket.id) == (session, id),
                "C10 {session} cancelled a call of {}",
                ticket.session
            );
            claim!(self.settle(call.waiter), "C9 a call was answered twice");
        }
        self.count_calls()
    }

    fn client_leaves(&mut self, client: usize) -> Checked {
        let session = self.clients[client].session;
        for ix in 0..self.actors.len() {
            if self.plant == Plant::SessionStays {
                break;
            }
            for (_, call) in self.actors[ix].link.session_over(session) {
                claim!(call.session == session, "C10 {session} ended a call of {}", call.session);
                claim!(self.settle(call.waiter), "C9 a call was answered twice");
            }
        }
        let left = self.open.iter().filter(|token| self.tickets[**token as usize].session == session).count();
        claim!(left == 0, "C9 {left} calls of a client that is gone");
        self.sessions += 1;
        self.clients[client] = Client::new(self.sessions);
        self.count_calls()
    }

    pub fn calls_due(&mut self, n: u8, life: Life) -> Checked {
        let ix = n as usize;
        if self.actors[ix].body.life != life || self.plant == Plant::CallsForever {
            return Ok(());
        }
        for (_, call) in self.actors[ix].link.due(self.now) {
            claim!(call.deadline <= self.now, "C9 a call timed out before its time");
            claim!(self.settle(call.waiter), "C9 a call was answered twice");
        }
        if let Some(next) = self.actors[ix].link.next_deadline() {
            claim!(next > self.now, "C11 the calls' next deadline is in the past");
            self.after(next - self.now, Cause::CallsDue(n, life));
        }
        self.count_calls()
    }

    /// The caller has its answer. False: it already had one.
    pub fn settle(&mut self, token: u32) -> bool {
        let ticket = &mut self.tickets[token as usize];
        let was_open = std::mem::replace(&mut ticket.open, false);
        if let Some(at) = self.open.iter().position(|open| *open == token) {
            self.open.swap_remove(at);
        }
        was_open
    }

    fn count_calls(&self) -> Checked {
        let pending: usize = self.actors.iter().map(|actor| actor.link.len()).sum();
        claim!(pending == self.open.len(), "C9 {pending} calls pending, {} callers waiting", self.open.len());
        Ok(())
    }

    pub fn sweep_calls(&self) -> Checked {
        let overdue = |token: &&u32| self.now > self.tickets[**token as usize].deadline + ms(2_500);
        let late = self.open.iter().find(overdue);
        claim!(late.is_none() || self.just_woke(), "C9 call {late:?} is overdue");
        self.count_calls()
    }
}
