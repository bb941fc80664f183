//! What the simulator itself knows about a server: kept from what truly happened, never read from the machine.

use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;
use mcpvisor::server::machine::{Event, Policy, Server};
use std::collections::VecDeque;

/// What the claims look at before a step.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    pub state: &'static str,
    pub phase: &'static str,
    pub streak: u32,
    pub failures: u64,
    pub life: Option<Life>,
    /// What the shadow had of an outage that was over.
    pub incident: Option<(Time, u32)>,
}

impl Glance {
    pub fn of(server: &Server, shadow: &Shadow) -> Glance {
        Glance {
            state: server.state(),
            phase: server.phase(),
            streak: server.consecutive_failures(),
            failures: server.failures(),
            life: server.life(),
            incident: shadow.incident,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Shadow {
    pub wanted: bool,
    pub blocked: Option<FaultKind>,
    pub engine_away: bool,
    /// Stands in the gate's line, as far as its actions say.
    pub in_line: bool,
    /// Admissions not yet given back.
    pub slots: u32,
    pub newest: Life,
    pub launched: Life,
    pub tally: VecDeque<Time>,
    pub proven: bool,
    /// How often it was given up since it was last well, and whether that was so before this event.
    pub given_up: u32,
    pub on_probation: bool,
    pub ready_at: Option<Time>,
    pub retry_at: Option<Time>,
    /// Its engine came back then, and the machine has heard of it; so many rungs of the ladder were taken since.
    pub incident: Option<(Time, u32)>,
    /// Somebody asked whether it is well, on the awake clock.
    pub asked_at: Option<Time>,
    /// The server asked not to be tried before, and nobody has asked for a try since.
    pub not_before: Option<Time>,
    /// It has asked that once.
    pub asked_to_wait: bool,
    /// This event forgives what was counted.
    pub forgiven: bool,
    // Moments on the awake clock.
    pub state_since: Time,
    pub phase_since: Time,
    pub unwanted_since: Option<Time>,
    pub blocked_since: Option<Time>,
    pub wake_since: Option<Time>,
    pub engine_back: Time,
}

impl Shadow {
    pub fn new() -> Shadow {
        Shadow {
            wanted: false,
            blocked: None,
            engine_away: false,
            in_line: false,
            slots: 0,
            newest: Life(0),
            launched: Life(0),
            tally: VecDeque::new(),
            proven: false,
            given_up: 0,
            on_probation: false,
            ready_at: None,
            retry_at: None,
            incident: None,
            asked_at: None,
            not_before: None,
            asked_to_wait: false,
            forgiven: false,
            state_since: Time::ZERO,
            phase_since: Time::ZERO,
            unwanted_since: Some(Time::ZERO),
            blocked_since: None,
            wake_since: None,
            engine_back: Time::ZERO,
        }
    }

    pub fn hear(&mut self, event: Event, state: &str, now: Time, awake: Time) {
        self.forgiven = match event {
            Event::Want(wanted) => wanted && !self.wanted,
            Event::Block(fault) => fault.is_none() && self.blocked.is_some(),
            Event::Restart => self.wanted,
            _ => false,
        };
        match event {
            Event::Want(true) => (self.wanted, self.unwanted_since) = (true, None),
            Event::Want(false) => {
                self.wanted = false;
                self.unwanted_since.get_or_insert(awake);
            }
            Event::Block(fault) => {
                self.blocked = fault;
                self.blocked_since = fault.map(|_| self.blocked_since.unwrap_or(awake));
            }
            Event::EngineUp if std::mem::take(&mut self.engine_away) => {
                self.engine_back = awake;
                if self.launched > Life(0) {
                    self.incident = Some((now, 0));
                }
            }
            Event::Reconnect if state != "ready" => self.not_before = None,
            Event::Reconnect => {
                self.not_before = None;
                self.asked_at.get_or_insert(awake);
            }
            Event::EngineAway => self.engine_away = true,
            Event::Wake if state == "sleeping" => {
                self.wake_since.get_or_insert(awake);
            }
            Event::Admitted(life) if life > self.newest => {
                self.newest = life;
                self.slots += 1;
                self.in_line = false;
            }
            _ => (),
        }
        if self.forgiven {
            self.tally.clear();
            self.proven = false;
            self.given_up = 0;
            self.not_before = None;
        }
    }

    /// Ready for long after an outage: what comes now is another story.
    pub fn settle(&mut self, state: &str, rules: &Policy, now: Time) {
        if state == "ready"
            && let (Some((since, _)), Some(ready)) = (self.incident, self.ready_at)
            && now - since.max(ready) >= rules.settle
        {
            self.incident = None;
        }
    }

    /// One failure was booked.
    pub fn book(&mut self, rules: &Policy, now: Time) {
        while self.tally.front().is_some_and(|at| now - *at > rules.failure_window)
            || self.tally.len() >= rules.failure_threshold
        {
            self.tally.pop_front();
        }
        self.tally.push_back(now);
        self.incident = None;
    }
}
