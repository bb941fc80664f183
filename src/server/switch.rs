//! How one life takes over from another that serves, as a pure function: what happened -> what to do.
//!
//! A server has a *front*, whose life is called, and during a switch *another* supervisor beside it: first that of the
//! life that is to take over (it rehearses), after the switch that of the life that served before (it drains). Each has
//! a machine of its own, which knows nothing of the other (`machine.rs`); this file knows nothing of lives, calls and
//! threads, and decides who is the front, and when the other one begins and ends.
//!
//! ```text
//!            restart, the front serves              ready
//!  single ------------------------------> rehearsing ------> draining -+
//!    ^  ^                                   |     |                    | no call is left, the bound is over, stop
//!    |  |                     failed, stop, |     | the front is lost: |
//!    |  |                     restart again |     | the new one is     |
//!    |  |                                   v     v the front          |
//!    +--+-------------- over -------------- ending <-------------------+
//! ```
//!
//! Never more than two: another one begins only when there is none. A restart meanwhile waits for the end of the other.

use crate::base::time::Time;
use std::time::Duration;

/// Where a switch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// The front is the only one.
    #[default]
    Single,
    /// The other one starts; the front serves on.
    Rehearsing,
    /// The front has taken over; the other one answers what it was asked before, until then.
    Draining { until: Time, again: bool },
    /// The other one is being ended. `again`: then another one begins.
    Ending { again: bool },
}

/// What can happen to a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Another life is wanted in the front's place. `serves`: calls are answered by the front.
    Restart { serves: bool },
    /// The life that rehearses is ready.
    Ready,
    /// It will not be.
    Failed,
    /// The front serves no more, and nobody has asked for that.
    Lost,
    /// The one that drains has no call left, or is of no use any more.
    Drained,
    /// The other one is off: nothing of it is left.
    Over { serves: bool },
    /// The server is disabled, removed, or the daemon ends.
    Stop,
    /// The bound of the draining may have come.
    Due,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Begin the other one, with the newest that is wanted.
    Rehearse,
    /// The other one is the front from here on, and the front the other one.
    Promote,
    /// The other one is to end.
    Dismiss,
    /// The other one is forgotten.
    Forget,
    /// The front itself is ended and begun anew, with the newest that is wanted: there is nothing to keep up.
    Renew,
    /// Say that what was wanted is not in force.
    Blame,
}

impl Switch {
    pub fn next_deadline(self) -> Option<Time> {
        match self {
            Switch::Draining { until, .. } => Some(until),
            Switch::Single | Switch::Rehearsing | Switch::Ending { .. } => None,
        }
    }
}

/// One event, one decision. `drain`: for how long the calls of the one before may go on.
pub fn step(switch: Switch, event: Event, now: Time, drain: Duration, out: &mut Vec<Action>) -> Switch {
    match switch {
        Switch::Single => single(event, out),
        Switch::Rehearsing => rehearsing(event, now, drain, out),
        Switch::Draining { until, again } => draining(until, again, event, now, out),
        Switch::Ending { again } => ending(again, event, out),
    }
}

fn single(event: Event, out: &mut Vec<Action>) -> Switch {
    match event {
        Event::Restart { serves } => begin(serves, out),
        Event::Ready
        | Event::Failed
        | Event::Lost
        | Event::Drained
        | Event::Over { .. }
        | Event::Stop
        | Event::Due => Switch::Single,
    }
}

fn rehearsing(event: Event, now: Time, drain: Duration, out: &mut Vec<Action>) -> Switch {
    match event {
        // The newest that is wanted is another one now.
        Event::Restart { .. } => {
            out.push(Action::Dismiss);
            Switch::Ending { again: true }
        }
        Event::Ready => {
            out.push(Action::Promote);
            Switch::Draining { until: now + drain, again: false }
        }
        Event::Failed => {
            out.extend([Action::Blame, Action::Dismiss]);
            Switch::Ending { again: false }
        }
        // Nothing is left to keep up: it goes on as the only one.
        Event::Lost => {
            out.extend([Action::Promote, Action::Dismiss]);
            Switch::Ending { again: false }
        }
        Event::Over { .. } => {
            out.extend([Action::Blame, Action::Forget]);
            Switch::Single
        }
        Event::Stop => {
            out.push(Action::Dismiss);
            Switch::Ending { again: false }
        }
        Event::Drained | Event::Due => Switch::Rehearsing,
    }
}

fn draining(until: Time, again: bool, event: Event, now: Time, out: &mut Vec<Action>) -> Switch {
    let same = Switch::Draining { until, again };
    match event {
        Event::Restart { serves: true } => Switch::Draining { until, again: true },
        Event::Restart { serves: false } => {
            out.push(Action::Renew);
            Switch::Draining { until, again: false }
        }
        Event::Due if until > now => same,
        Event::Drained | Event::Due => {
            out.push(Action::Dismiss);
            Switch::Ending { again }
        }
        Event::Stop => {
            out.push(Action::Dismiss);
            Switch::Ending { again: false }
        }
        Event::Over { serves } => over(again, serves, out),
        // What becomes of the new life is its own machine's to decide.
        Event::Ready | Event::Failed | Event::Lost => same,
    }
}

fn ending(again: bool, event: Event, out: &mut Vec<Action>) -> Switch {
    match event {
        Event::Restart { serves: true } => Switch::Ending { again: true },
        Event::Restart { serves: false } => {
            out.push(Action::Renew);
            Switch::Ending { again: false }
        }
        Event::Stop => Switch::Ending { again: false },
        Event::Over { serves } => over(again, serves, out),
        Event::Ready | Event::Failed | Event::Lost | Event::Drained | Event::Due => Switch::Ending { again },
    }
}

fn over(again: bool, serves: bool, out: &mut Vec<Action>) -> Switch {
    out.push(Action::Forget);
    if again { begin(serves, out) } else { Switch::Single }
}

fn begin(serves: bool, out: &mut Vec<Action>) -> Switch {
    if serves {
        out.push(Action::Rehearse);
        Switch::Rehearsing
    } else {
        out.push(Action::Renew);
        Switch::Single
    }
}

#[cfg(test)]
mod tests;
