//! The catalogue of faults. Each run switches about half of them off: a world where everything goes wrong at once
//! hides what only two faults together can show.

use super::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fault {
    SlowSpawn,
    FailedSpawn,
    HostIsFull,
    NoSuchCommand,
    DiesAtOnce,
    DiesLater,
    NeverGreets,
    BadHandshake,
    LateFirstSign,
    IgnoresEof,
    IgnoresTerm,
    Unkillable,
    Grandchildren,
    ClosesStdout,
    BreaksProtocol,
    Hangs,
    AnswersTwice,
    UnknownId,
    NeverAnswers,
    Progress,
    ClientCancels,
    ClientLeaves,
    ClientReusesIds,
    Echo,
    SlowShell,
    MachineSleeps,
    EngineDown,
    EngineSilent,
    EngineFlaps,
    EngineWobbles,
    LateDeaths,
    AdminToggles,
    AdminRestarts,
    AdminReconnects,
    AdminBlocks,
    Curse,
    Pulls,
    Pauses,
    Idle,
    AsksToWait,
}

const FAULTS: u32 = Fault::AsksToWait as u32 + 1;

/// The faults that this run knows.
#[derive(Clone, Copy, Debug)]
pub struct Swarm(u64);

impl Swarm {
    pub fn draw(rng: &mut Rng) -> Swarm {
        let mask = (1u64 << FAULTS) - 1;
        // Two draws or'ed for some runs: most have half of all faults, a few three quarters.
        let some = rng.next();
        Swarm(mask & if rng.chance(30) { some | rng.next() } else { some })
    }

    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }
}
