//! When the config file is looked at, and whether what is there is news: a pure machine.
//!
//! What the kernel tells of a file is a hint and no more: it merges, drops and repeats. So everything that stirs only
//! means that the file is to be looked at, a little later, once for all of it; and what was read counts by its content
//! alone. A file that is touched, renamed, or written again with the same bytes is no news.
//!
//! ```text
//! quiet -- stirred --> settling -- 100 ms without a stir, or 1 s in all --> look --> seen --> load | same
//!   +------ asked (a signal, a command) ---------------------------------> look
//! ```

use crate::base::limits::{CONFIG_SETTLE, CONFIG_SETTLE_MAX};
use crate::base::time::Time;

/// What is where the config file should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Missing,
    /// Nobody can say what is in it; it stands for why.
    Unreadable(u64),
    /// SHA-256 of its bytes.
    Bytes([u8; 32]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened to the file, or to what leads to it.
    Stirred,
    /// Somebody wants it looked at now.
    Asked,
    /// `next_deadline` has come. Too early, it changes nothing.
    Due,
    /// What a look found.
    Seen(Content),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the file, and tell what was `Seen`.
    Look,
    /// It is not what it was: it is to be taken over, or refused with a reason.
    Load,
    /// It is what it was.
    Same,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Quiet,
    Settling { since: Time, last: Time },
}

/// One config file. `content` is what was seen last, whatever came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    phase: Phase,
    content: Content,
}

impl Watch {
    /// `content`: what was read at the start.
    pub fn new(content: Content) -> Watch {
        Watch { phase: Phase::Quiet, content }
    }

    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Quiet => "quiet",
            Phase::Settling { .. } => "settling",
        }
    }

    pub fn next_deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Quiet => None,
            Phase::Settling { since, last } => Some((last + CONFIG_SETTLE).min(since + CONFIG_SETTLE_MAX)),
        }
    }
}

/// One event, one decision.
pub fn step(watch: Watch, event: Event, now: Time, out: &mut Vec<Action>) -> Watch {
    match event {
        Event::Stirred => {
            let phase = match watch.phase {
                Phase::Quiet => Phase::Settling { since: now, last: now },
                Phase::Settling { since, .. } => Phase::Settling { since, last: now },
            };
            Watch { phase, ..watch }
        }
        Event::Due if watch.next_deadline().is_none_or(|at| now < at) => watch,
        // Whatever stirred before is in what is seen now.
        Event::Asked | Event::Due => {
            out.push(Action::Look);
            Watch { phase: Phase::Quiet, ..watch }
        }
        Event::Seen(content) => {
            out.push(if content == watch.content { Action::Same } else { Action::Load });
            Watch { content, ..watch }
        }
    }
}
