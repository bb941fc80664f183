//! The entry of a server is another one now: what its life may take over at once, and what waits for the next.

use super::{FindHome, Home, Supervisor, Tape, Terms};
use crate::base::fault::Fault;
use crate::base::limits::REPORT_ATTEMPTS_MAX;
use crate::base::ring::Ring;
use crate::server::face::Manner;
use crate::server::machine::Event;
use crate::sys::clock;
use std::fmt;
use std::sync::Arc;

/// What its entry says now.
#[derive(Clone)]
pub struct Change {
    pub terms: Terms,
    /// Why it cannot be run as it is.
    pub problem: Option<Fault>,
    /// Whether it is to run, if the entry says something else than before; else it stays as people have set it.
    pub wanted: Option<bool>,
    pub afterwards: Afterwards,
}

/// What becomes of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    GoOn,
    /// It goes on; if there is none because it failed, it is tried again.
    TryAgain,
    /// It ends, and another one begins.
    Renew,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("problem", &self.problem)
            .field("wanted", &self.wanted)
            .field("afterwards", &self.afterwards)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    pub(super) fn change(&mut self, change: Change) {
        self.leaving = false;
        self.agree(change.terms, change.afterwards == Afterwards::Renew);
        let blocked = change.problem.as_ref().map(|problem| problem.kind);
        if let Some(problem) = change.problem {
            self.heard_fault(Event::Block(blocked), problem);
        }
        self.step(Event::Block(blocked));
        match change.wanted {
            Some(true) if self.plan.is_none() => {
                self.move_in();
                self.step(Event::Want(true));
            }
            Some(wanted) => self.step(Event::Want(wanted)),
            None => {}
        }
        let failed = matches!(self.machine.state(), "backoff" | "waiting" | "parked" | "auto_disabled");
        match change.afterwards {
            Afterwards::Renew => {
                self.attempts = Ring::new(REPORT_ATTEMPTS_MAX);
                self.step(Event::Restart);
            }
            Afterwards::TryAgain if failed => self.step(Event::Restart),
            Afterwards::TryAgain | Afterwards::GoOn => {}
        }
        // The same state may have other words now.
        self.publish();
    }

    /// To what its entry says now. `ends`: the life that it has is to end.
    pub(super) fn agree(&mut self, terms: Terms, ends: bool) {
        let Terms { policy, manner, habits, find_home } = terms;
        self.policy = policy;
        self.history.renew(habits.program, habits.entry);
        self.habits = habits;
        self.replace(|machine, policy| machine.retuned(clock::now(), policy));
        // A life that ends speaks as it was greeted, to its end.
        let waits = self.next.is_some() || ends;
        self.next = Some((manner, find_home));
        if !waits || self.machine.life().is_none() {
            self.adopt_next();
        }
    }

    /// To those parts of an entry that is not in force which concern neither what runs nor how it was greeted.
    pub(super) fn retune(&mut self, terms: &Terms) {
        self.policy = terms.policy.clone();
        self.habits.ceiling = terms.habits.ceiling;
        self.habits.place = terms.habits.place;
        self.face.retune(&terms.manner);
        self.replace(|machine, policy| machine.retuned(clock::now(), policy));
        self.publish();
    }

    /// What it does by, for a life beside its own.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            policy: self.policy.clone(),
            manner: (*self.face.manner()).clone(),
            habits: self.habits.clone(),
            find_home: self.find_home.clone(),
        }
    }

    /// Its entry needs a person before it can run.
    pub(super) fn block(&mut self, problem: Fault) {
        let event = Event::Block(Some(problem.kind));
        self.heard_fault(event, problem);
        self.step(event);
    }

    /// What the entry says is in force from here on.
    pub(super) fn adopt_next(&mut self) {
        let Some((manner, find_home)) = self.next.take() else { return };
        self.adopt(manner, find_home);
    }

    fn adopt(&mut self, manner: Manner, find_home: Arc<FindHome>) {
        self.face.adopt(manner);
        self.find_home = find_home;
        self.plan = None;
        if self.machine.wanted() {
            self.move_in();
        }
    }

    /// Finds its home, and hears its engine from now on.
    pub(super) fn move_in(&mut self) {
        let Home { plan, engine, secrets } = (self.find_home)();
        self.plan = Some(plan);
        self.secrets = Some(secrets);
        match (engine, &self.dwelling) {
            (None, None) => {}
            (Some(engine), Some((dwelling, _))) if Arc::ptr_eq(&engine, dwelling) => {}
            (Some(engine), _) => {
                self.dwelling = None;
                self.replace(|machine, _| machine.moved(true));
                self.settle_on(engine);
            }
            (None, Some(_)) => {
                self.dwelling = None;
                self.replace(|machine, _| machine.moved(false));
                self.step(Event::EngineUp);
            }
        }
    }

    /// A tape is of one machine.
    pub(super) fn replace(
        &mut self,
        with: impl FnOnce(
            crate::server::machine::Server,
            &crate::server::machine::Policy,
        ) -> crate::server::machine::Server,
    ) {
        self.machine = with(self.machine.clone(), &self.policy);
        self.tape = Tape::new(&self.machine, &self.policy);
    }
}
