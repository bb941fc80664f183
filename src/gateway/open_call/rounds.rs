//! A call of a legacy client whose modern server answers that it wants something first: the client is asked on the
//! call's own stream, and the call is made again with what it says. Its server never waits in between.

use super::OpenCall;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{INPUT_PATIENCE, INPUT_PAUSE, INPUT_ROUNDS_MAX};
use crate::base::text::{self, shorten};
use crate::base::time::Time;
use crate::gateway::router::{Edits, rewritten};
use crate::mcp::calls::NewCall;
use crate::mcp::envelope;
use crate::mcp::era::Era;
use crate::mcp::features::{Feature, missing};
use crate::mcp::input::{self, Wanted};
use crate::mcp::scan;
use crate::server::link::Waiter;
use crate::sys::clock;

/// What is needed to make a call again.
pub struct Rounds {
    /// As it was opened the first time.
    pub new: NewCall,
    pub method: Box<str>,
    /// As the server's era has them, but for our progress token and the server's own name for what is meant.
    pub params: Box<str>,
    /// That name, quoted, if it is another one.
    pub name: Option<Box<str>>,
    /// The client's progress token, raw.
    pub token: Option<Box<str>>,
    /// What the client can be asked, raw.
    pub capabilities: Box<str>,
    /// Rounds so far.
    pub count: u32,
    pub asking: Option<Asking>,
}

/// Between two rounds.
pub struct Asking {
    wanted: Wanted,
    /// One for each of what is wanted.
    answers: Vec<Option<Box<str>>>,
    /// Our names of what the client was asked.
    asks: Vec<u64>,
    until: Time,
}

impl Asking {
    fn is_done(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    /// A server that asks nothing wants to be asked again a little later.
    fn is_pause(&self) -> bool {
        self.wanted.requests.is_empty()
    }
}

impl OpenCall {
    /// The server wants something first: its client is asked. A fault ends the call.
    pub(super) fn ask_client(&mut self, result: &str) -> Result<(), Fault> {
        let Some(rounds) = &mut self.rounds else {
            return Err(not_bridgeable("this is no request for that"));
        };
        rounds.count += 1;
        if rounds.count > INPUT_ROUNDS_MAX {
            return Err(not_bridgeable(&format!("it has asked {INPUT_ROUNDS_MAX} times")));
        }
        let wanted = input::wanted(result).map_err(|why| not_bridgeable(&why))?;
        for request in &wanted.requests {
            let method = shorten(&request.method, 80);
            let feature = Feature::of_method(&request.method)
                .ok_or_else(|| not_bridgeable(&format!("no client can be asked for `{method}`")))?;
            if missing(feature, Some(&request.params), &rounds.capabilities).is_some() {
                let why =
                    format!("the client does not offer what `{method}` needs, or takes no event stream");
                return Err(not_bridgeable(&why));
            }
        }
        let (session, now) = (rounds.new.session, clock::now());
        let patience = if wanted.requests.is_empty() { INPUT_PAUSE } else { INPUT_PATIENCE };
        let until = self.latest.min(now + patience);
        let mut asks = Vec::with_capacity(wanted.requests.len());
        for (number, request) in wanted.requests.iter().enumerate() {
            let Some(ask) = self.asks.open_for(session, &self.link, self.id, (&self.slot, number)) else {
                // Nor is it asked the others.
                self.to_say.clear();
                return Err(Fault::new(FaultKind::Busy, "too many requests wait for clients"));
            };
            let params = input::params_to_legacy(request, ask);
            self.to_say.push_back(envelope::request(&ask.to_string(), &request.method, Some(&params)).into());
            asks.push(ask);
        }
        let answers = vec![None; asks.len()];
        if let Some(request) = &rounds.new.request {
            self.asks.wait_between(session, request, &self.slot);
        }
        rounds.asking = Some(Asking { wanted, answers, asks, until });
        Ok(())
    }

    /// Until when it is between two rounds.
    pub(super) fn asking_until(&self) -> Option<Time> {
        Some(self.rounds.as_ref()?.asking.as_ref()?.until)
    }

    /// The client has answered one question; with the last the call is made again.
    pub(super) fn replied(&mut self, number: usize, reply: Result<Box<str>, Box<str>>) -> Result<(), Fault> {
        let Some(asking) = self.rounds.as_mut().and_then(|rounds| rounds.asking.as_mut()) else {
            return Ok(());
        };
        let Some(request) = asking.wanted.requests.get(number) else { return Ok(()) };
        match reply {
            Ok(answer) => {
                asking.answers[number] = Some(answer);
                if asking.is_done() { self.call_again() } else { Ok(()) }
            }
            Err(error) => {
                let said = scan::find(&error, "message").and_then(|span| scan::string(&error[span]));
                let said = shorten(said.as_deref().unwrap_or(&error), 200);
                let method = shorten(&request.method, 80);
                let fault = not_bridgeable(&format!("the client refuses `{method}`: {said}"));
                self.take_back(number);
                Err(fault)
            }
        }
    }

    /// The time between two rounds is over.
    pub(super) fn asked_enough(&mut self) -> Result<(), Fault> {
        let is_pause = |asking: &Asking| asking.is_pause();
        if self.rounds.as_ref().and_then(|rounds| rounds.asking.as_ref()).is_some_and(is_pause) {
            return self.call_again();
        }
        self.take_back(usize::MAX);
        let patience = text::span(INPUT_PATIENCE);
        let message =
            format!("the client did not say within {patience} what server `{}` asked", self.server.name);
        Err(Fault::new(FaultKind::CallTimeout, message))
    }

    /// The client need not answer the others any more.
    fn take_back(&mut self, but: usize) {
        let Some(asking) = self.rounds.as_mut().and_then(|rounds| rounds.asking.take()) else { return };
        let open = |(number, _): &(usize, &u64)| *number != but && asking.answers[*number].is_none();
        for (_, ask) in asking.asks.iter().enumerate().filter(open) {
            let params = format!("{{\"requestId\":{ask}}}");
            self.to_say.push_back(envelope::notification("notifications/cancelled", Some(&params)).into());
        }
    }

    /// The same call once more, under another id, with what its client has said.
    fn call_again(&mut self) -> Result<(), Fault> {
        let Some(rounds) = &mut self.rounds else { return Ok(()) };
        let Some(Asking { wanted, answers, .. }) = rounds.asking.take() else { return Ok(()) };
        let keys = wanted.requests.iter().map(|request| &*request.key);
        let pairs = keys.zip(answers.iter().map(|answer| answer.as_deref().unwrap_or("null")));
        let params = input::again(&rounds.params, pairs, wanted.state.as_deref());
        let now = clock::now();
        self.deadline = self.latest.min(now + rounds.new.patience);
        let edits = Edits::of(&rounds.method, &params, rounds.name.as_deref());
        let new = NewCall { deadline: self.deadline, ..rounds.new.clone() };
        let waiter = Waiter::Caller { slot: self.slot.clone(), token: rounds.token.clone() };
        // What comes again may as well go to the life after the one that asked.
        if let Some(link) = self.server.link().filter(|link| link.era() == Era::Modern) {
            self.link = link;
        }
        let params = |id: CallId| Some(rewritten(&params, &edits, id));
        self.id = self.link.call(new, waiter, &rounds.method, params)?;
        self.asks.go_on(&self.slot);
        Ok(())
    }
}

fn not_bridgeable(why: &str) -> Fault {
    let message = format!("the server wants input from the user first, which cannot be had: {why}");
    Fault::new(FaultKind::NotBridgeable, message)
        .hint("a client that speaks 2026-07-28, or that offers what is asked for, can use it")
}
