//! What can be seen of a server: its state and phase, why, since when, what it waits for, and its books.

use super::{FaultKind, Life, Phase, Probe, Rung, Server, Step, Time, Verdict};
use std::collections::VecDeque;

impl Server {
    /// The API's closed list of states.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Disabled => "disabled",
            Phase::Queued => "queued",
            Phase::Connecting { .. } => "connecting",
            Phase::Ready { .. } => "ready",
            Phase::Sleeping => "sleeping",
            Phase::Stopping { .. } => "stopping",
            Phase::Backoff { .. } => "backoff",
            Phase::Frozen { .. }
            | Phase::Waiting { .. }
            | Phase::Reconnecting { .. }
            | Phase::Stranded
            | Phase::Doubt { .. } => "waiting",
            Phase::Parked { .. } | Phase::Blocked { .. } => "parked",
            Phase::AutoDisabled { .. } => "auto_disabled",
        }
    }

    /// Where in the state it is: an open list, empty where a state has no parts.
    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Connecting { step: Step::Spawning, .. } => "spawning",
            Phase::Connecting { step: Step::Pulling, .. } => "pulling",
            Phase::Connecting { step: Step::Handshaking, .. } => "handshaking",
            Phase::Connecting { step: Step::Discovering, .. } => "discovering",
            Phase::Stopping { rung: Rung::Unborn, .. } => "unborn",
            Phase::Stopping { rung: Rung::CloseInput(_), .. } => "close_input",
            Phase::Stopping { rung: Rung::Term(_), .. } => "term",
            Phase::Stopping { rung: Rung::Kill(_), .. } => "kill",
            Phase::Stopping { rung: Rung::Clear(_), .. } => "clear",
            Phase::Frozen { thaw: None, .. } => "paused",
            Phase::Frozen { thaw: Some(_), .. } => "thawing",
            Phase::Waiting { .. } => "host",
            Phase::Reconnecting { .. } => "reconnect",
            Phase::Stranded => "engine",
            Phase::Doubt { .. } => "doubt",
            Phase::Blocked { .. } => "entry",
            Phase::Disabled
            | Phase::Queued
            | Phase::Ready { .. }
            | Phase::Sleeping
            | Phase::Backoff { .. }
            | Phase::Parked { .. }
            | Phase::AutoDisabled { .. } => "",
        }
    }

    /// The fault that keeps it where it is.
    pub fn reason(&self) -> Option<FaultKind> {
        match self.phase {
            Phase::Stopping { verdict: Verdict::Fault(fault), .. }
            | Phase::Backoff { fault, .. }
            | Phase::Waiting { fault, .. }
            | Phase::Reconnecting { fault, .. }
            | Phase::Doubt { fault, .. }
            | Phase::Parked { fault }
            | Phase::Blocked { fault }
            | Phase::AutoDisabled { fault, .. } => Some(fault),
            Phase::Stranded => Some(FaultKind::EngineAway),
            Phase::Frozen { .. } if self.engine_away => Some(FaultKind::EngineAway),
            Phase::Frozen { .. } => Some(FaultKind::ContainerPaused),
            Phase::Stopping { verdict: Verdict::Asked | Verdict::Idle, .. }
            | Phase::Disabled
            | Phase::Queued
            | Phase::Connecting { .. }
            | Phase::Ready { .. }
            | Phase::Sleeping => None,
        }
    }

    /// The life that exists, from its launch to its `Gone`.
    pub fn life(&self) -> Option<Life> {
        match self.phase {
            Phase::Connecting { life, .. }
            | Phase::Ready { life, .. }
            | Phase::Frozen { life, .. }
            | Phase::Stopping { life, .. } => Some(life),
            Phase::Disabled
            | Phase::Queued
            | Phase::Sleeping
            | Phase::Backoff { .. }
            | Phase::Waiting { .. }
            | Phase::Reconnecting { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. }
            | Phase::AutoDisabled { .. } => None,
        }
    }

    /// The shell sleeps until then, and sends `Due`. The text says what it waits for.
    pub fn next_deadline(&self) -> Option<(Time, &'static str)> {
        match self.phase {
            Phase::Connecting { step: Step::Pulling, deadline, .. } => Some((deadline, "pull_timeout")),
            Phase::Connecting { deadline, .. } => {
                earlier(self.inquiry.map(|at| (at, "inquiry")), Some((deadline, "connect_timeout")))
            }
            Phase::Ready { settles, probe, .. } => earlier(settles.map(|at| (at, "settle")), probe.next()),
            Phase::Frozen { thaw, look, .. } => {
                earlier(thaw.map(|trial| (trial.deadline, "thaw")), Some((look, "look")))
            }
            Phase::Stopping { rung, .. } => rung.next(),
            Phase::Backoff { until, .. } => Some((until, "backoff")),
            Phase::Waiting { until, .. } => Some((until, "host_retry")),
            Phase::Reconnecting { until, .. } => Some((until, "reconnect")),
            Phase::Doubt { deadline, .. } => Some((deadline, "doubt")),
            Phase::AutoDisabled { until, .. } => until.map(|until| (until, "probation")),
            Phase::Disabled
            | Phase::Queued
            | Phase::Sleeping
            | Phase::Stranded
            | Phase::Parked { .. }
            | Phase::Blocked { .. } => None,
        }
    }

    /// When it will try again by itself, if it waits for that.
    pub fn next_retry(&self) -> Option<Time> {
        match self.phase {
            Phase::Backoff { until, .. }
            | Phase::Waiting { until, .. }
            | Phase::Reconnecting { until, .. } => Some(until),
            Phase::AutoDisabled { until, .. } => until,
            Phase::Disabled
            | Phase::Queued
            | Phase::Connecting { .. }
            | Phase::Ready { .. }
            | Phase::Frozen { .. }
            | Phase::Sleeping
            | Phase::Stopping { .. }
            | Phase::Stranded
            | Phase::Doubt { .. }
            | Phase::Parked { .. }
            | Phase::Blocked { .. } => None,
        }
    }

    /// Whether it is well is asked, after an outage of its engine or by a person, and not known yet.
    pub fn is_in_question(&self) -> bool {
        matches!(self.phase, Phase::Ready { probe: Probe::Last(_), .. })
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Time {
        self.since
    }

    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Failures in a row; back to 0 after it was ready for `settle`, or when a human asks.
    pub fn consecutive_failures(&self) -> u32 {
        self.streak
    }

    /// Failures of the server itself since the daemon started, and those that only a human can end.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// How often it was given up since it was last well.
    pub fn given_up(&self) -> u32 {
        self.given_up
    }

    /// Lives after the first.
    pub fn restarts(&self) -> u64 {
        self.launches.saturating_sub(1)
    }

    /// When it failed by its own fault, within the window as of the last failure; oldest first.
    pub fn tally(&self) -> &VecDeque<Time> {
        &self.tally
    }
}

impl Rung {
    fn next(self) -> Option<(Time, &'static str)> {
        match self {
            Rung::Unborn => None,
            Rung::CloseInput(until) => Some((until, "eof_grace")),
            Rung::Term(until) => Some((until, "stop_grace")),
            Rung::Kill(until) => Some((until, "kill_repeat")),
            Rung::Clear(until) => Some((until, "verify_timeout")),
        }
    }
}

fn earlier(a: Option<(Time, &'static str)>, b: Option<(Time, &'static str)>) -> Option<(Time, &'static str)> {
    a.into_iter().chain(b).min_by_key(|(at, _)| *at)
}
