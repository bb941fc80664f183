//! Reaping the dead that came to us: as a subreaper the daemon inherits orphans it never spawned, and their zombies
//! stay until it waits for them.
//!
//! Never `waitpid(-1)`: it would steal the exit status of a server from the thread that waits for it. Only children
//! that nobody knows, and only when they are seen dead for the second time, because a child that was spawned this
//! moment may be dead before it is known.

use crate::sys::{kin, procfs};
use std::collections::BTreeSet;

/// Zombies that were seen once.
#[derive(Debug, Default)]
pub struct Strangers {
    seen: BTreeSet<(u32, u64)>,
}

impl Strangers {
    /// `known`: somebody waits for this child. Returns how many were reaped. To be called again after a while as
    /// long as [`Strangers::is_waiting`], and whenever a child has ended. The caller keeps spawns out meanwhile.
    pub fn reap(&mut self, known: &dyn Fn(u32) -> bool) -> usize {
        let unknown = kin::children().into_iter().filter(|pid| !known(*pid));
        let dead = unknown.filter_map(procfs::process).filter(kin::has_ended);
        let dead: BTreeSet<(u32, u64)> = dead.map(|process| (process.pid, process.start)).collect();
        let (again, first): (BTreeSet<_>, BTreeSet<_>) =
            dead.into_iter().partition(|identity| self.seen.contains(identity));
        self.seen = first;
        again.into_iter().filter(|(pid, _)| kin::reap(*pid).is_some()).count()
    }

    /// Some were seen once, and are to be looked at again.
    pub fn is_waiting(&self) -> bool {
        !self.seen.is_empty()
    }
}
