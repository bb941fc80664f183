//! What is said of a server, and to whom: the log, the events, the status, and the calls that wait for a life that is over.

use super::Supervisor;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{ServerName, Slug};
use crate::base::text;
use crate::base::time::{Time, Wall};
use crate::base::topic::Topic;
use crate::mcp::items::Kind;
use crate::server::journal::Subject;
use crate::server::link::Link;
use crate::server::machine::{self, Event};
use crate::server::status::{Happened, Moved, Status};
use crate::sys::clock;
use serde_json::Value;
use std::sync::Arc;

impl Supervisor {
    /// Faults that the machine finds by itself: nobody else could put them into words.
    pub(super) fn own_verdict(&mut self, event: Event, frozen: Option<Arc<Link>>) {
        let name = &self.server.name;
        let mut told = None;
        let fault = match self.machine.reason() {
            // Nobody asked for it, and it is no fault of its own: what was frozen has not come back.
            None if event == Event::Due => {
                let message =
                    format!("{name} did not answer when it was asked whether it is well, and is replaced");
                let unknown = Fault::new(FaultKind::OutcomeUnknown, message.clone());
                told = Some(unknown.hint("it may have done what was asked; look before you repeat it"));
                Fault::new(FaultKind::Deaf, message)
            }
            Some(kind @ FaultKind::ConnectTimeout) => {
                let patience = self.policy.connect_timeout;
                let message = format!("{name} was not ready within {}", text::span(patience));
                if patience < self.habits.ceiling.connection_timeout {
                    let usual = self.history.starts.usual().unwrap_or_default();
                    let whole = text::span(self.habits.ceiling.connection_timeout);
                    Fault::new(kind, format!("{message}, and usually is in {}", text::span(usual)))
                        .hint(format!("the next try has {whole}; its log may say what it waits for"))
                } else {
                    Fault::new(kind, message)
                        .hint("if it is slow to start, raise \"connection_timeout\"; else see its log")
                }
            }
            Some(FaultKind::ContainerPaused) => self.untold(FaultKind::ContainerPaused),
            Some(kind @ FaultKind::Deaf) => {
                let misses = self.policy.probe_misses;
                Fault::new(kind, format!("{name} left {misses} pings in a row unanswered")).hint("it hangs")
            }
            _ => return,
        };
        // Whoever waits is told now: the process may take the whole ladder to end.
        if let Some(link) = self.face.link().or(frozen) {
            link.life_over(told.as_ref().unwrap_or(&fault));
            self.face.close(link.life);
        }
        self.last_error = Some((fault, clock::wall()));
    }

    /// One line per transition, for people: in the main log and in the server's own.
    pub(super) fn announce(&mut self, event: Event, before: &str, now: Time) {
        let name = &self.server.name;
        let state = self.machine.state();
        let life = self.machine.life().map(|life| format!(" (life {life})")).unwrap_or_default();
        let why = self.reason().map(|fault| fault.to_string()).unwrap_or_default();
        let line = match state {
            "backoff" | "waiting" => {
                let wait =
                    self.machine.next_retry().map(|at| format!("; retry in {}", text::span(at.since(now))));
                format!("{state}: {why}{}", wait.unwrap_or_default())
            }
            "auto_disabled" => {
                let again =
                    self.machine.next_retry().map(|at| format!("; one try in {}", text::span(at.since(now))));
                format!("{state}: {why}{}", again.unwrap_or_default())
            }
            "parked" => format!("{state}: {why}"),
            "ready" => {
                format!(
                    "ready{life}, {} tools",
                    self.face.known().list(Kind::Tools).map_or(0, |tools| tools.len())
                )
            }
            _ => format!("{state}{life}"),
        };
        if !self.is_front {
            log::debug!("{name}: the life beside: {line}");
            return self.server.note(&format!("the life beside: {line}"));
        }
        self.server.note(&line);
        match state {
            "parked" | "auto_disabled" => {
                log::error!("{name}: {line}");
                log::debug!("{name}: the last events of its machine:\n{}", self.tape.print());
                if state == "auto_disabled" {
                    self.write_report();
                }
            }
            // Not yet heard: whether there is anything to warn of is known in a moment.
            "waiting" if self.launched_nothing() => log::debug!("{name}: {line}"),
            "backoff" | "waiting" => log::warn!("{name}: {line}"),
            "ready" | "disabled" | "sleeping" => log::info!("{name}: {line}"),
            _ => log::debug!("{name}: {before} -> {line} by {event:?}"),
        }
    }

    /// The transition, for whoever follows the events; it is shown already.
    pub(super) fn record(&self, event: Event, from: (&'static str, &'static str)) {
        if !self.is_front {
            return;
        }
        let status = self.server.status();
        let topic = if from.0 == status.state { Topic::ServerPhase } else { Topic::ServerState };
        let subject = Subject::Server(self.server.name.clone());
        self.server.board.record(topic, subject, &Moved::new(from, &status, &cause(event)));
    }

    /// Why it is not running, and what ends that.
    pub(super) fn reason(&self) -> Option<Fault> {
        let kind = self.machine.reason().filter(|_| self.machine.state() != "stopping")?;
        let told = self.last_error.as_ref().map(|(fault, _)| fault).filter(|fault| fault.kind == kind);
        let mut reason = told.cloned().unwrap_or_else(|| self.untold(kind));
        if self.machine.state() == "auto_disabled" {
            let tries = match self.machine.tally().len() {
                1 => "a failure".to_owned(),
                tries => format!("{tries} failures"),
            };
            reason.message = format!("given up after {tries}: {}", reason.message);
        }
        Some(reason)
    }

    /// It waits for its engine from the beginning.
    pub(super) fn launched_nothing(&self) -> bool {
        self.machine.phase() == "engine" && self.last_error.is_none()
    }

    /// A reason that came without words.
    pub(super) fn untold(&self, kind: FaultKind) -> Fault {
        match (kind, &self.dwelling) {
            (FaultKind::EngineAway, Some((engine, _))) => {
                let endpoint = engine.engine().endpoint();
                Fault::new(kind, format!("engine {endpoint} has not answered yet"))
            }
            (FaultKind::Busy, _) => Fault::new(kind, "it asked not to be tried again yet"),
            (FaultKind::ContainerPaused, _) => {
                let id: String = self.container.iter().flat_map(|id| id.chars().take(12)).collect();
                Fault::new(kind, format!("somebody has paused its container {id}"))
                    .hint(format!("docker unpause {id}: the same container goes on"))
            }
            (kind, _) => Fault::new(kind, kind.name()),
        }
    }

    /// Of one beside the front, the front says what is shown of it.
    pub(super) fn publish(&self) {
        if !self.is_front {
            return;
        }
        let (now, wall) = (clock::now(), clock::wall());
        let at = |time: Time| {
            let past = now.since(time).as_millis() as u64;
            let ahead = time.since(now).as_millis() as u64;
            // The wall clock may have been set back, even to 1970.
            Wall((wall.0 + ahead).saturating_sub(past)).rfc3339()
        };
        let known = self.face.known();
        let last_error = self.last_error.clone();
        let phase = self.machine.phase();
        let reason = self.reason();
        let status = Status {
            name: self.server.name.clone(),
            slug: self.server.slug.clone(),
            groups: self.face.manner().groups.clone(),
            state: self.machine.state(),
            phase: (!phase.is_empty()).then_some(phase),
            since: at(self.machine.since()),
            pid: self.pid,
            container: self.container.clone(),
            engine: self.dwelling.as_ref().map(|(engine, _)| engine.engine().endpoint().clone()),
            progress: self.progress.clone(),
            life: self.machine.life(),
            tools: known.list(Kind::Tools).map_or(0, |tools| tools.len()),
            protocol: known.greeting.as_ref().map(|greeting| greeting.version.clone()),
            era: known.greeting.map(|greeting| greeting.era),
            restarts: self.machine.restarts(),
            failures: self.machine.failures(),
            consecutive_failures: self.machine.consecutive_failures(),
            last_success_at: self.last_success.map(Wall::rfc3339),
            last_error: last_error.map(|(fault, at)| Happened { fault, at: at.rfc3339() }),
            next_retry_at: self.machine.next_retry().map(at),
            place_in_line: None,
            starts_in_ms: None,
            usual_start_ms: self.history.starts.usual().map(|usual| usual.as_millis() as u64),
            given_up: self.machine.given_up(),
            reason,
            report: None,
            switch: self.switching.clone(),
            usage: None,
            calls: 0,
        };
        self.server.show(status, self.machine.since(), self.machine.next_retry());
    }
}

/// What happened, in one word: the machine's own.
fn cause(event: Event) -> String {
    match (event, serde_json::to_value(event)) {
        (Event::Want(true), _) => "enabled".to_owned(),
        (Event::Want(false), _) => "disabled".to_owned(),
        (_, Ok(Value::String(word))) => word,
        (_, Ok(Value::Object(map))) => map.keys().next().cloned().unwrap_or_default(),
        // No event is anything else.
        _ => String::new(),
    }
}

pub(super) fn first_status(
    name: &ServerName,
    slug: &Slug,
    groups: &[String],
    machine: &machine::Server,
) -> Status {
    Status {
        name: name.clone(),
        slug: slug.clone(),
        groups: groups.to_vec(),
        state: machine.state(),
        phase: None,
        since: clock::wall().rfc3339(),
        pid: None,
        container: None,
        engine: None,
        progress: None,
        life: None,
        tools: 0,
        protocol: None,
        era: None,
        restarts: 0,
        failures: 0,
        consecutive_failures: 0,
        last_success_at: None,
        last_error: None,
        next_retry_at: None,
        place_in_line: None,
        starts_in_ms: None,
        usual_start_ms: None,
        given_up: 0,
        reason: None,
        report: None,
        switch: None,
        usage: None,
        calls: 0,
    }
}
