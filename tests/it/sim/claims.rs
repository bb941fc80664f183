//! What must never be seen. The numbers C1-C14 are those of the design; the list is the design document.

use super::body::{Cause, State};
use super::shadow::Glance;
use super::swarm::Fault;
use super::world::World;
use mcpvisor::base::fault::FaultKind;
use mcpvisor::diagnose::{Class, class, is_certain};
use mcpvisor::server::machine::{Action, Event, Policy, RECONNECT_LADDER, Server};
use std::time::Duration;

pub type Checked = Result<(), String>;

macro_rules! claim {
    ($holds:expr, $($text:tt)*) => { if !$holds { return Err(format!($($text)*)); } };
}
pub(super) use claim;

/// Hops between threads, a late wake-up: what the shell may add to a patience.
const SLACK: Duration = Duration::from_millis(2_500);
/// The slowest spawn of this world.
pub const SPAWN_MAX: Duration = Duration::from_secs(40);
/// How long a process of this world can be unkillable, and its grandchildren linger.
pub const UNKILLABLE_MAX: Duration = Duration::from_secs(10);
pub const LINGERS_MAX: Duration = Duration::from_secs(12);
/// The longest that a server of this world asks to be left alone.
pub const NOT_BEFORE_MAX: Duration = Duration::from_secs(600);
/// An echo is at most this old.
pub const ECHO_MAX: Duration = Duration::from_secs(60);

impl World {
    /// After each step, about the server that took it.
    pub fn check_step(&self, ix: usize, before: &Glance, event: Event) -> Checked {
        let actor = &self.actors[ix];
        let (server, shadow, rules, body) = (&actor.server, &actor.shadow, &actor.rules, &actor.body);
        let (state, phase) = (server.state(), server.phase());
        let moved = state != before.state;

        claim!(
            body.state == State::Over || server.life() == Some(body.life),
            "C2 life {} is left behind",
            body.life
        );
        if let Some(life) = server.life() {
            claim!(life == body.life, "C1 life {life} is said to be, and {} is", body.life);
        }
        claim!(state != "disabled" || !shadow.wanted, "C6 disabled, yet wanted");
        claim!(shadow.wanted || matches!(state, "disabled" | "stopping"), "C6 unwanted, yet {state}");
        claim!(phase != "engine" || shadow.engine_away, "C3 waits for an engine that is there");
        claim!(state != "queued" || shadow.in_line, "C12 queued, yet not in line");
        claim!(state == "connecting" || shadow.slots == 0, "C12 {state} with a start slot");
        if event == Event::Due {
            let next = server.next_deadline();
            claim!(next.is_none_or(|(at, _)| at >= self.now), "C11 {next:?} is in the past");
        }

        self.check_incident(ix, before)?;

        let booked = server.failures() > before.failures && matches!(state, "backoff" | "auto_disabled");
        claim!(
            !booked || body.cause != Some(Cause::Outage),
            "C4 an outage was booked as the server's failure"
        );
        claim!(
            server.tally().len() == shadow.tally.len(),
            "C5 the tally says {}, truly {}",
            server.tally().len(),
            shadow.tally.len()
        );
        claim!(server.tally().len() <= rules.failure_threshold, "C5 the tally overflows");
        let full = shadow.tally.len()
            >= if shadow.proven { rules.failure_threshold } else { rules.startup_attempts };
        claim!(
            !booked || (state == "auto_disabled") == ((full || shadow.on_probation) && rules.auto_disable),
            "C5 {} failures, yet {state}",
            shadow.tally.len()
        );
        claim!(
            !moved || booked || !matches!(state, "backoff" | "auto_disabled"),
            "C5 {state} without a failure"
        );
        self.check_backoff(ix, before, event, booked)?;

        let human = matches!(event, Event::Restart | Event::Reconnect | Event::Want(_) | Event::Block(_));
        let held = matches!(before.state, "auto_disabled" | "parked");
        let probation = before.state == "auto_disabled" && event == Event::Due;
        claim!(
            !moved || !held || human || probation,
            "C5 {} left {} without a human",
            before.state,
            actor.name
        );
        if state == "parked" {
            let reason = server.reason().map(class);
            claim!(reason == Some(Class::Human), "parked for {reason:?}");
            claim!((phase == "entry") == shadow.blocked.is_some(), "C6 parked, but for another reason");
        }
        let waits = matches!(before.phase, "host" | "reconnect") || before.state == "backoff" || held;
        let lost = event == Event::Reconnect && waits && before.phase != "entry" && !moved;
        claim!(!lost, "C7 asked to come back, and still {state}");
        let useless =
            matches!(event, Event::Exited(life, _) | Event::Failed(life, _) if Some(life) == before.life);
        claim!(!useless || !matches!(state, "ready" | "connecting"), "C8 {event:?}, yet {state}");
        Ok(())
    }

    /// After its engine came back: short pauses, few of them, and nothing booked that may be the outage's doing.
    fn check_incident(&self, ix: usize, before: &Glance) -> Checked {
        let actor = &self.actors[ix];
        let (server, shadow, rules) = (&actor.server, &actor.shadow, &actor.rules);
        if server.phase() == "reconnect" && before.phase != "reconnect" {
            let Some((_, rungs)) = shadow.incident else {
                return Err("C4 on the ladder, and its engine was not away".to_owned());
            };
            claim!(rungs <= rules.reconnect_attempts, "C4 rung {rungs} of the ladder");
            let rung = RECONNECT_LADDER[(rungs as usize).min(RECONNECT_LADDER.len()) - 1];
            let pause = server.next_retry().map_or(Duration::ZERO, |at| at - self.now);
            claim!(
                pause >= rung.mul_f64(0.79) && pause <= rung.mul_f64(1.21),
                "C4 {pause:?} on rung {rungs}"
            );
        }
        let booked =
            server.failures() > before.failures && matches!(server.state(), "backoff" | "auto_disabled");
        let doubtful =
            server.reason().is_some_and(|fault| class(fault) == Class::Server && !is_certain(fault));
        claim!(
            !booked
                || !doubtful
                || before.incident.is_none_or(|(_, rungs)| rungs >= rules.reconnect_attempts),
            "C4 {:?} was booked, and its engine has just come back",
            server.reason()
        );
        Ok(())
    }

    fn check_backoff(&self, ix: usize, before: &Glance, event: Event, booked: bool) -> Checked {
        let actor = &self.actors[ix];
        let (server, shadow, rules) = (&actor.server, &actor.shadow, &actor.rules);
        let (was, streak) = (before.streak, server.consecutive_failures());
        let settled = shadow.ready_at.is_some_and(|at| self.now - at >= rules.settle);
        claim!(
            booked || streak == was || (streak == 0 && (shadow.forgiven || settled)),
            "C5 the backoff was reset from {was} to {streak}"
        );
        claim!(!booked || streak == was + 1 || streak == 1 && settled, "C5 backoff {streak} after {was}");
        if booked && server.state() == "backoff" {
            let pause = server.next_retry().map_or(Duration::ZERO, |at| at - self.now);
            let least = Duration::from_millis(800).saturating_mul(1 << (streak - 1).min(16));
            let least = least.min(Duration::from_secs(240));
            claim!(pause >= least, "C5 retry without backoff: {pause:?} after failure {streak}");
            let most = if shadow.asked_to_wait { NOT_BEFORE_MAX } else { rules.retry_backoff_max };
            claim!(pause <= most.max(rules.retry_backoff_max), "C5 a pause of {pause:?}");
        }
        if booked && server.state() == "auto_disabled" {
            let pause = server.next_retry().map_or(Duration::ZERO, |at| at - self.now);
            let least =
                Duration::from_secs(15 * 60 * 4 / 5).saturating_mul(1 << (shadow.given_up - 1).min(16));
            let least = least.min(rules.probation_max.mul_f64(0.79));
            claim!(pause >= least, "C5 given up {} times, and tried again in {pause:?}", shadow.given_up);
            claim!(pause <= rules.probation_max, "C5 a probation of {pause:?}");
        }
        let waited = matches!(before.state, "backoff" | "auto_disabled");
        if waited && server.state() == "queued" && event == Event::Due {
            claim!(shadow.retry_at.is_some_and(|at| at <= self.now), "C5 a try before its time");
        }
        Ok(())
    }

    /// Before each action is done.
    pub fn check_action(&mut self, ix: usize, action: Action) -> Checked {
        let actor = &mut self.actors[ix];
        let shadow = &mut actor.shadow;
        match action {
            Action::AskGate => {
                claim!(!shadow.in_line && shadow.slots == 0, "C12 asks the gate twice");
                claim!(
                    actor.body.state == State::Over,
                    "C1 a second recovery while {} lives",
                    actor.body.life
                );
                let asked = shadow.not_before.filter(|at| *at > self.now);
                claim!(asked.is_none(), "C5 a try before {asked:?}, which the server asked for");
                shadow.in_line = true;
            }
            Action::Hurry => claim!(shadow.in_line, "C12 hurries, yet not in line"),
            Action::LeaveGate if shadow.slots > 0 => shadow.slots -= 1,
            Action::LeaveGate => {
                claim!(shadow.in_line, "C12 leaves the gate twice");
                shadow.in_line = false;
            }
            Action::Launch(life) => {
                claim!(
                    actor.body.state == State::Over,
                    "C1 two lives at once: {} and {life}",
                    actor.body.life
                );
                claim!(life == shadow.newest && life > shadow.launched, "C1 launches life {life} again");
                claim!(!shadow.engine_away, "C3 launch while the engine is known away");
                claim!(shadow.blocked.is_none(), "C6 launch of a blocked entry");
                claim!(shadow.wanted, "C6 launch of the unwanted");
                shadow.launched = life;
            }
            Action::Probe(life)
            | Action::CloseInput(life)
            | Action::Term(life)
            | Action::Kill(life)
            | Action::Clear(life) => {
                claim!(life == actor.body.life, "C1 {action:?}, but {} lives", actor.body.life);
            }
            Action::AskEngine => claim!(actor.needs_engine, "asks for an engine that it does not need"),
        }
        Ok(())
    }

    /// Every few seconds, about everyone: who is stuck takes no steps.
    pub fn sweep(&self) -> Checked {
        let awake = self.awake();
        claim!(self.gate.taken() <= self.slots_max, "C12 {} starts at once", self.gate.taken());
        if let Some(due) = self.gate.next_deadline().filter(|_| !self.just_woke()) {
            claim!(self.now < due + SLACK, "C12 the gate still waits for a sign that was due at {due:?}");
        }
        for actor in &self.actors {
            let (server, shadow, rules, body) = (&actor.server, &actor.shadow, &actor.rules, &actor.body);
            let (name, state, phase) = (&actor.name, server.state(), server.phase());
            let long = awake - shadow.phase_since;
            let patience = patience(server, rules, shadow.asked_to_wait);
            let connecting = (state == "connecting").then(|| awake - shadow.state_since);
            let connecting_max = rules.connect_timeout * 2 + rules.pull_timeout + SLACK * 3;
            claim!(
                connecting.is_none_or(|long| long <= connecting_max),
                "C7 {name} connects for {connecting:?}"
            );
            claim!(
                patience.is_none_or(|patience| long <= patience + SLACK),
                "C7 {name} stuck in {state} {phase} for {long:?}"
            );
            let back = self.engine.up_since.map_or(Duration::ZERO, |at| awake - at);
            let stranded = phase == "engine" && long > SLACK * 2 && back > SLACK * 2;
            claim!(!stranded, "C7 {name} waits for an engine that is back for {back:?}");
            let asked = shadow.asked_at.map_or(Duration::ZERO, |at| awake - at);
            let heeded = shadow.engine_away || body.paused || asked <= rules.probe_patience + SLACK;
            claim!(heeded, "C8 {name} was asked {asked:?} ago whether it is well");
            let waits = shadow.wake_since.map_or(Duration::ZERO, |at| awake - at);
            claim!(waits <= SLACK, "C7 {name} sleeps while a call waits for {waits:?}");
            let unwanted = shadow.unwanted_since.map_or(Duration::ZERO, |at| awake - at);
            claim!(
                unwanted <= stop_max() || state == "disabled",
                "C6 {name} unwanted for {unwanted:?}, yet {state}"
            );
            let blocked = shadow.blocked_since.map_or(Duration::ZERO, |at| awake - at);
            claim!(
                blocked <= stop_max() || matches!(state, "disabled" | "parked"),
                "C6 {name} blocked for {blocked:?}, yet {state}"
            );
            let dead = body.state == State::Zombie && awake - body.died_at > SLACK;
            claim!(!dead || state != "ready", "C8 {name} is dead, yet {state}");
            // While its engine is away, and until it was asked after that, silence is not the server's.
            let every = rules.probe_every.filter(|_| !shadow.engine_away);
            if let (Some(since), Some(every), "ready") = (body.deaf_since, every, state) {
                let deaf = awake - since.max(shadow.state_since).max(shadow.engine_back);
                let echo = if self.swarm.has(Fault::Echo) { ECHO_MAX } else { Duration::ZERO };
                let most = every * rules.probe_misses + rules.probe_patience + echo + SLACK * 2;
                claim!(deaf <= most, "C8 {name} deaf for {deaf:?}, yet ready");
            }
            let idle = !matches!(state, "queued" | "connecting") && long > SLACK;
            claim!(
                !idle || !self.gate.holds(&actor.name) && !self.gate.waits(&actor.name),
                "C12 {name} is {state}, yet in the gate"
            );
        }
        self.sweep_calls()
    }

    /// After the world was healed for 15 minutes.
    pub fn check_healed(&self) -> Checked {
        for actor in &self.actors {
            let state = actor.server.state();
            let resting = matches!(state, "auto_disabled" | "parked") && !self.restarted;
            let lawful = state == "ready" || resting || state == "sleeping" && actor.rules.lazy;
            claim!(lawful, "C13 healed for 15 min, yet {} is {state} {}", actor.name, actor.server.phase());
        }
        Ok(())
    }

    /// After everything was told to stop.
    pub fn check_ended(&self) -> Checked {
        for actor in &self.actors {
            claim!(
                actor.server.state() == "disabled",
                "C6 {} is {} at the end",
                actor.name,
                actor.server.state()
            );
            claim!(actor.body.state == State::Over, "C2 life {} is left at the end", actor.body.life);
            claim!(actor.link.is_empty(), "C9 {} calls are left at the end", actor.link.len());
        }
        claim!(self.gate.taken() == 0, "C12 {} slots are left at the end", self.gate.taken());
        claim!(self.open.is_empty(), "C9 {} callers are left at the end", self.open.len());
        Ok(())
    }
}

/// How long a phase may last; `None` = for ever. `asked`: the server has asked to be left alone once.
fn patience(server: &Server, rules: &Policy, asked: bool) -> Option<Duration> {
    let ms = Duration::from_millis;
    match (server.state(), server.phase()) {
        // 30 s after others were let through, then eight servers, two slots, 2 s each.
        ("queued", _) => Some(ms(50_000)),
        ("connecting", "pulling") => Some(rules.pull_timeout),
        ("connecting", _) => Some(rules.connect_timeout),
        (_, "unborn") => Some(SPAWN_MAX),
        (_, "close_input") => Some(ms(500)),
        (_, "term") => Some(ms(4_500)),
        (_, "kill") => Some(UNKILLABLE_MAX + ms(1_000)),
        (_, "clear") => Some(LINGERS_MAX + ms(5_000)),
        ("backoff", _) if asked => Some(NOT_BEFORE_MAX),
        ("backoff", _) => Some(ms(300_000)),
        (_, "host") if server.reason() == Some(FaultKind::Busy) => Some(NOT_BEFORE_MAX),
        (_, "host") if server.reason() == Some(FaultKind::PullFailed) => Some(ms(60_000)),
        (_, "host") => Some(ms(5_000)),
        (_, "reconnect") => Some(ms(12_000)),
        (_, "doubt") => Some(ms(2_000)),
        _ => None,
    }
}

/// From "unwanted" to off, at the very worst.
fn stop_max() -> Duration {
    SPAWN_MAX + Duration::from_secs(5 + 1 + 5) + UNKILLABLE_MAX + LINGERS_MAX + SLACK * 4
}
