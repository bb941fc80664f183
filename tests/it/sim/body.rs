//! A fake process: what the kernel, or an engine, would hold for one life.

use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The spawn is under way. A signal now misses.
    Unborn,
    Alive,
    /// Dead, not reaped; grandchildren may live.
    Zombie,
    /// Reaped and verified, or never born.
    Over,
}

/// Who killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Own,
    Outage,
    Ladder,
}

#[derive(Clone, Copy, Debug)]
pub struct Body {
    pub life: Life,
    pub state: State,
    pub cause: Option<Cause>,
    /// It hears no probe and no call since then, on the awake clock.
    pub deaf_since: Option<Time>,
    /// It cannot be useful any more (stdout closed, protocol broken).
    pub useless: bool,
    pub ignores_eof: bool,
    pub ignores_term: bool,
    /// What is to be born can be given up: a container of which nothing exists yet.
    pub may_abort: bool,
    /// Kills before this miss.
    pub unkillable_until: Time,
    /// How long grandchildren outlive the leader, once they are told to end.
    pub lingers_ms: u64,
    pub lingers_until: Time,
    /// On the awake clock.
    pub died_at: Time,
}

impl Body {
    pub fn unborn(life: Life) -> Body {
        Body {
            life,
            state: State::Unborn,
            cause: None,
            deaf_since: None,
            useless: false,
            ignores_eof: false,
            ignores_term: false,
            may_abort: false,
            unkillable_until: Time::ZERO,
            lingers_ms: 0,
            lingers_until: Time::ZERO,
            died_at: Time::ZERO,
        }
    }

    /// Before the first launch.
    pub fn none() -> Body {
        Body { state: State::Over, ..Body::unborn(Life(0)) }
    }
}

/// What happens to a body by itself.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    Pulls,
    Born,
    StillBorn(FaultKind),
    Sign,
    Greets,
    Discovered,
    Fails(FaultKind),
    Dies(FaultKind, Cause),
    Hangs,
}
