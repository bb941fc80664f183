//! The thread of one server: `recv -> take -> look`. It has the supervisor of the life that serves, the front, and during a
//! switch the one beside it.
//!
//! Who is the front, and when the other one begins and ends, is decided by `switch.rs`; what a life is told, by the
//! machine of its supervisor. Here it is only seen what has become of both, and carried out what follows. The thread
//! ends when the server is retired and nothing of it is left.

use super::{Afterwards, Change, GateRequest, Post, Report, Server, Supervisor, Terms};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::base::time::{Time, Wall};
use crate::base::topic::Topic;
use crate::server::face::Face;
use crate::server::handle::Said;
use crate::server::journal::Subject;
use crate::server::machine::{self, Event};
use crate::server::status::{Switched, Switching};
use crate::server::switch::{self, Action, Switch};
use crate::sys::clock;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;

/// See above.
pub(in crate::server) struct Stage {
    front: Supervisor,
    /// The life to come, or the one before.
    other: Option<Box<Supervisor>>,
    switch: Switch,
    /// What the entry says now, while the front's life is of what it said before and serves on.
    bid: Option<Bid>,
    /// Why the last life that was to take over did not become ready.
    blame: Option<Fault>,
    /// Since when the switch is where it is.
    since: Wall,
}

/// What is wanted in the front's place.
#[derive(Clone)]
struct Bid {
    terms: Terms,
    /// Why it cannot be run as it is.
    problem: Option<Fault>,
}

impl Stage {
    /// On the heap, where it stays: it is large, and a stack that was deep once keeps its pages.
    pub(super) fn new(front: Supervisor) -> Box<Stage> {
        let since = clock::wall();
        Box::new(Stage { front, other: None, switch: Switch::Single, bid: None, blame: None, since })
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.front.server
    }

    pub(super) fn gate(&self) -> Arc<dyn Fn(GateRequest) + Send + Sync> {
        self.front.gate.clone()
    }

    pub(super) fn has_nothing_to_do(&self) -> bool {
        self.other.is_none() && self.front.has_nothing_to_do()
    }

    pub(super) fn leave_home(&mut self) {
        self.front.leave_home();
    }

    pub(super) fn run(mut self: Box<Stage>, mut inbox: Receiver<Box<Report>>) {
        loop {
            if self.has_nothing_to_do() {
                match self.rest(inbox) {
                    None => return,
                    Some(again) => (self, inbox) = again,
                }
            }
            let report = match self.next_deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_deadline(clock::instant(at)),
            };
            match report {
                Ok(report) => self.take(*report),
                Err(RecvTimeoutError::Timeout) => self.due(),
                // Not while we live: our own `server` holds a sender.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.front.sleep_if_idle();
            self.look();
            if self.front.retired && self.other.is_none() && self.front.machine.life().is_none() {
                return;
            }
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let other = self.other.as_ref().and_then(|other| other.next_deadline());
        [self.front.next_deadline(), other, self.switch.next_deadline()].into_iter().flatten().min()
    }

    /// Too early, it changes nothing.
    fn due(&mut self) {
        self.front.step(Event::Due);
        if let Some(other) = &mut self.other {
            other.step(Event::Due);
        }
        self.decide(switch::Event::Due);
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Event(Event::Restart, _) if self.front.leaving => (),
            Report::Event(Event::Restart, _) => {
                let serves = self.can_overlap();
                self.decide(switch::Event::Restart { serves });
            }
            Report::Event(Event::Want(false), _) => {
                self.decide(switch::Event::Stop);
                self.settle_for_the_newest();
                self.front.take(report);
            }
            Report::Leave | Report::Retire => {
                self.decide(switch::Event::Stop);
                self.front.take(report);
            }
            Report::Change(change) => self.change(*change),
            Report::Drained(life) => self.drained(life),
            Report::Event(..)
            | Report::Spawned(..)
            | Report::Contained(..)
            | Report::Heard(..)
            | Report::Progress(..)
            | Report::Listed(_)
            | Report::Reconnect(_) => self.whose(&report).take(report),
        }
    }

    /// Of two, the one that a report is for.
    fn whose(&mut self, report: &Report) -> &mut Supervisor {
        let Some(other) = &mut self.other else { return &mut self.front };
        let of_life = |life: Option<Life>| life.is_some() && other.machine.life() == life;
        let is_for_other = match report {
            // It is the one that stands in line.
            Report::Event(Event::Admitted(_), _) => other.machine.state() == "queued",
            Report::Event(event, _) => of_life(event.life()),
            Report::Spawned(life, _)
            | Report::Contained(life, _)
            | Report::Progress(life, _)
            | Report::Listed(life)
            | Report::Drained(life) => of_life(Some(*life)),
            Report::Heard(address, _) => *address == other.address,
            Report::Change(_) | Report::Leave | Report::Reconnect(_) | Report::Retire => false,
        };
        if is_for_other { other } else { &mut self.front }
    }

    /// Whether a life that is asked for now may begin beside the front's, and has something to keep up.
    fn can_overlap(&self) -> bool {
        let newest = self.bid.as_ref().map_or(&self.front.habits, |bid| &bid.terms.habits);
        newest.overlap && self.front.serves()
    }

    /// What the entry says now is for the next life, and for the one that runs as far as that can take it over.
    fn change(&mut self, change: Change) {
        let Change { terms, problem, wanted, afterwards } = &change;
        let hopeless = problem.as_ref().is_some_and(|problem| problem.kind != FaultKind::BadConfig);
        let overlaps = terms.habits.overlap
            && wanted.is_none()
            && !hopeless
            && !self.front.leaving
            && self.front.serves();
        let another = *afterwards == Afterwards::Renew;
        if overlaps && (another || self.bid.is_some()) {
            self.front.retune(terms);
            self.bid = Some(Bid { terms: terms.clone(), problem: problem.clone() });
            match afterwards {
                // Where the last one failed, one of an entry that was touched is a new try.
                Afterwards::Renew | Afterwards::TryAgain => {
                    self.decide(switch::Event::Restart { serves: true });
                }
                Afterwards::GoOn if self.switch == Switch::Rehearsing => self.change_other(change),
                Afterwards::GoOn => (),
            }
            return;
        }
        let was_behind = self.bid.take().is_some();
        if was_behind || another || *wanted == Some(false) {
            self.decide(switch::Event::Stop);
            self.blame = None;
        } else if self.switch == Switch::Rehearsing {
            self.change_other(change.clone());
        }
        let afterwards = if was_behind { Afterwards::Renew } else { *afterwards };
        self.front.change(Change { afterwards, ..change });
    }

    fn change_other(&mut self, change: Change) {
        if let Some(other) = &mut self.other {
            other.change(change);
        }
    }

    /// The life that it has ends, and the next one is of what the entry says now.
    fn settle_for_the_newest(&mut self) {
        self.blame = None;
        let Some(Bid { terms, problem }) = self.bid.take() else { return };
        self.front.agree(terms, true);
        if let Some(problem) = problem {
            self.front.block(problem);
        }
    }

    /// Tells the switch what has become of both, until there is nothing to tell; then everybody else.
    fn look(&mut self) {
        while let Some(event) = self.seen() {
            self.decide(event);
        }
        self.show();
    }

    fn seen(&self) -> Option<switch::Event> {
        let other = self.other.as_ref()?;
        let (state, phase) = (other.machine.state(), other.machine.phase());
        match self.switch {
            Switch::Single => None,
            Switch::Rehearsing if self.is_lost() => Some(switch::Event::Lost),
            Switch::Rehearsing => match state {
                "ready" => Some(switch::Event::Ready),
                "queued" | "connecting" | "stopping" => None,
                // Its engine is away or in doubt: that is nobody's fault, and says nothing of the entry.
                "waiting" if phase != "host" => None,
                _ => Some(switch::Event::Failed),
            },
            Switch::Draining { .. } => (state != "ready").then_some(switch::Event::Drained),
            Switch::Ending { .. } => {
                let off = state == "disabled" && other.machine.life().is_none();
                off.then(|| switch::Event::Over { serves: self.can_overlap() })
            }
        }
    }

    /// The front serves no more. One whose container somebody has paused goes on.
    fn is_lost(&self) -> bool {
        let machine = &self.front.machine;
        !self.front.serves() && !matches!(machine.phase(), "paused" | "thawing")
    }

    fn decide(&mut self, event: switch::Event) {
        let before = self.switch;
        let mut actions = Vec::new();
        let drain = self.server().call_patience();
        self.switch = switch::step(self.switch, event, clock::now(), drain, &mut actions);
        for action in actions {
            self.act(action);
        }
        if self.switch != before {
            self.since = clock::wall();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Rehearse => self.rehearse(),
            Action::Promote => self.promote(),
            Action::Dismiss => {
                if let Some(other) = &mut self.other {
                    other.step(Event::Want(false));
                }
            }
            Action::Forget => {
                self.other = None;
                self.server().beside(None);
            }
            Action::Renew => {
                self.settle_for_the_newest();
                self.front.step(Event::Restart);
            }
            Action::Blame => self.blame(),
        }
    }

    /// Begins a life beside the front's.
    fn rehearse(&mut self) {
        self.blame = None;
        let front = &self.front;
        let bid = self.bid.clone();
        let Bid { terms, problem } = bid.unwrap_or_else(|| Bid { terms: front.terms(), problem: None });
        let Terms { policy, manner, habits, find_home } = terms;
        let server = front.server.clone();
        let face = Arc::new(Face::new(server.name.as_str(), manner, server.known()));
        server.beside(Some(face.clone()));
        let post = Post {
            server,
            face,
            keeper: front.keeper.clone(),
            host: front.host.clone(),
            gate: front.gate.clone(),
        };
        let history = front.history.beside(habits.program, habits.entry);
        let machine = machine::Server::new(false, false, clock::now());
        let mut other = Supervisor::new(post, (policy, habits, find_home), history, machine);
        other.is_front = false;
        other.move_in();
        if let Some(problem) = problem {
            other.block(problem);
        }
        other.step(Event::Want(true));
        self.other = Some(Box::new(other));
    }

    /// From here on calls go to the other one; those that the front's life has are its own to answer.
    fn promote(&mut self) {
        let Some(mut other) = self.other.take() else { return };
        std::mem::swap(&mut self.front, &mut other);
        let (front, before) = (&mut self.front, &mut *other);
        (front.is_front, before.is_front) = (true, false);
        before.history.hand_over(&mut front.history);
        front.recovery = before.recovery.take();
        front.last_error = front.last_error.take().or(before.last_error.take());
        front.replace(|machine, _| machine.after(&before.machine));
        front.server.turn();
        front.keep_history(clock::now());
        front.keep_known();
        (self.bid, self.blame) = (None, None);
        let number = |life: Option<Life>| life.map_or_else(|| "none".to_owned(), |life| life.to_string());
        let (new, old) = (front.machine.life(), before.machine.life());
        log::info!("{}: life {} takes over from life {}", front.server.name, number(new), number(old));
        if let Some(link) = front.face.link() {
            front.server.say(&link, &Said::Ready);
        }
        front.publish();
        front.follow_up(Event::Due);
        let left = before.face.link();
        if let Some(link) = &left {
            let (server, life) = (front.server.clone(), link.life);
            link.drain(move || server.tell(Report::Drained(life)));
        }
        self.other = Some(other);
        self.show();
        // Had it no call when it was told to tell, nobody tells.
        if let Some(link) = left {
            self.drained(link.life);
        }
    }

    /// The life before may have no call left. If so, it gets none any more: who was given the way to it a moment ago and
    /// has sent nothing yet, goes to the front.
    fn drained(&mut self, life: Life) {
        let Some(other) = self.other.as_ref().filter(|other| other.machine.life() == Some(life)) else {
            return;
        };
        let message = format!("{} goes on in another life", self.front.server.name);
        let fault = Fault::new(FaultKind::Stopped, message);
        if other.face.link().is_none_or(|link| link.close_if_idle(fault)) {
            self.decide(switch::Event::Drained);
        }
    }

    /// What was wanted is not in force.
    fn blame(&mut self) {
        let Some(other) = &self.other else { return };
        let untold = || Fault::new(FaultKind::NotReady, "it did not become ready");
        let told = || other.last_error.as_ref().map(|(fault, _)| fault.clone());
        let fault = other.reason().or_else(told).unwrap_or_else(untold);
        let what = match &self.bid {
            Some(_) => "what its entry says now is not in force, and the life before serves on",
            None => "no new life has taken over, and the one before serves on",
        };
        let name = &self.front.server.name;
        log::error!("{name}: {what}: {fault}");
        self.front.server.note(&format!("{what}: {fault}"));
        self.blame = Some(fault);
    }

    /// Shown first, then told.
    fn show(&mut self) {
        let row = self.row();
        if row == self.front.switching {
            return;
        }
        let before = std::mem::replace(&mut self.front.switching, row);
        self.front.publish();
        let word = |row: &Option<Switching>| row.as_ref().map(|row| row.state);
        let (from, to) = (word(&before), word(&self.front.switching));
        if from != to {
            let status = self.front.server.status();
            let switched = Switched {
                server: &status.name,
                to: to.unwrap_or("over"),
                life: status.life,
                pid: status.pid,
                container: status.container.as_deref(),
                other: self.other.as_ref().and_then(|other| other.machine.life()),
                reason: self.blame.as_ref(),
            };
            let subject = Subject::Server(status.name.clone());
            self.front.server.board.record(Topic::ServerSwitch, subject, &switched);
        }
    }

    fn row(&self) -> Option<Switching> {
        let state = match self.switch {
            Switch::Single => {
                let reason = self.blame.clone()?;
                let failed = Switching { state: "failed", reason: Some(reason), ..Switching::default() };
                return Some(Switching { since: self.since.rfc3339(), ..failed });
            }
            Switch::Rehearsing => "starting",
            Switch::Draining { .. } => "draining",
            Switch::Ending { .. } => "stopping",
        };
        let other = self.other.as_ref()?;
        let phase = match other.machine.phase() {
            "" => other.machine.state(),
            phase => phase,
        };
        Some(Switching {
            state,
            since: self.since.rfc3339(),
            phase: Some(phase),
            life: other.machine.life(),
            pid: other.pid,
            container: other.container.clone(),
            reason: self.blame.clone(),
        })
    }
}
