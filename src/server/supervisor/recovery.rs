//! A recovery that a server takes part in: of its engine, after an outage, or of itself, because somebody asked.

use super::Supervisor;
use crate::base::fault::{Fault, FaultKind};
use crate::engine::watched::Settled;
use crate::server::machine::Event;
use crate::server::reconnect::{Ask, Course, Glance, Next, Reconnected, Recovery};
use crate::sys::clock;

impl Supervisor {
    /// Says of a recovery of its engine how it went for this server.
    pub(super) fn settle(&mut self, event: Event) {
        let Some((_, subscription)) = &self.dwelling else { return };
        if event == Event::EngineUp {
            self.recovering = true;
        }
        let how = match self.machine.state() {
            _ if !self.recovering => return,
            "ready" if self.machine.is_in_question() => return,
            // It had nothing there.
            "disabled" | "sleeping" => Settled::Unhurt,
            "ready" if event == Event::EngineUp => Settled::Unhurt,
            "ready" => Settled::Back,
            "backoff" | "parked" | "auto_disabled" => Settled::Failed,
            "waiting" if self.machine.phase() == "host" => Settled::Failed,
            _ => return,
        };
        self.recovering = false;
        match how {
            Settled::Failed => subscription.failed(self.reason()),
            Settled::Unhurt | Settled::Back => subscription.settled(how),
        }
    }

    pub(super) fn glance(&self) -> Glance {
        Glance { state: self.machine.state(), phase: self.machine.phase(), life: self.machine.life() }
    }

    /// One recovery, however many ask for it meanwhile.
    pub(super) fn reconnect(&mut self, ask: Ask) {
        let (name, now) = (self.server.name.clone(), self.glance());
        if let Some(recovery) = &mut self.recovery {
            if !recovery.join(ask) {
                log::warn!("{name}: too many wait for it to come back; one more was not heard");
            }
            return;
        }
        let course = Course::of(now.state, now.phase, ask.named);
        if let Course::Skip(why) = course {
            // Whoever asked may not have waited so long.
            let _ = ask.answer.try_send(Reconnected::skipped(&name, now.state, why));
            return;
        }
        log::info!("{name}: asked to come back while {}: {}", now.state, course.word());
        let mut recovery = Recovery::new(course, now, clock::now());
        recovery.join(ask);
        self.recovery = Some(recovery);
        self.step(Event::Reconnect);
    }

    /// Whether it is back, or will not be.
    pub(super) fn follow_up(&mut self, event: Event) {
        let now = self.glance();
        let Some(recovery) = &mut self.recovery else { return };
        let error = match recovery.next(now, event) {
            Next::Wait => return,
            Next::Try => return self.step(Event::Reconnect),
            Next::Back => None,
            Next::Failed(kind) => Some(self.why_not_back(kind)),
        };
        if let Some(recovery) = self.recovery.take() {
            recovery.end(&self.server.name, now, error, clock::now());
        }
    }

    pub(super) fn why_not_back(&self, kind: Option<FaultKind>) -> Fault {
        let told = |kind| self.last_error.as_ref().map(|(fault, _)| fault).filter(|fault| fault.kind == kind);
        match kind {
            Some(FaultKind::Stopped) => {
                Fault::new(FaultKind::Stopped, format!("{} was disabled meanwhile", self.server.name))
            }
            Some(kind) => told(kind).cloned().unwrap_or_else(|| self.untold(kind)),
            None => self.reason().unwrap_or_else(|| self.untold(FaultKind::NotReady)),
        }
    }
}
