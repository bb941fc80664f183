//! By what a process of ours, and all that it starts, is found again when it is over: written down at its birth, ended
//! and verified at its end.

use crate::base::id::{Life, Slug};
use crate::reaper::clear::{self, LifeEnd};
use crate::reaper::keeper::Keeper;
use crate::reaper::ledger::Leader;
use crate::reaper::mark::Mark;
use crate::sys::spawn::{self, Child};
use std::os::fd::OwnedFd;

/// By what the processes of this life are known when it is over.
pub struct Traces<'a> {
    keeper: &'a Keeper,
    pid: u32,
    start: u64,
    mark: Mark,
    /// Inodes of its pipes.
    pipes: Vec<u64>,
}

impl<'a> Traces<'a> {
    /// Written down, so that they are found whatever dies.
    pub fn begin(child: &Child, stdin: &OwnedFd, slug: &Slug, keeper: &'a Keeper, life: Life) -> Traces<'a> {
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).ok().map(|stat| stat.st_ino);
        let pipes: Vec<u64> = [stdin, &child.stdout, &child.stderr].into_iter().filter_map(inode).collect();
        let (pid, start) = (child.pid, child.start);
        keeper.born(Leader { pid, start, pgid: pid, server: slug.to_string(), pipes: pipes.clone() });
        Traces { keeper, pid, start, mark: keeper.mark(slug, life), pipes }
    }

    /// Ends whatever the life left, then reaps the leader. `name` is for the log.
    pub fn clear(&self, name: &str, child: &Child) {
        let known = |pid| spawn::is_ours(pid);
        let leader = (self.pid, self.start);
        let end = LifeEnd {
            leader,
            mark: &self.mark,
            pipes: &self.pipes,
            known: &known,
            known_after_all: &spawn::is_ours_after_all,
        };
        // A life whose end cannot be seen is not over. Each round takes its time, so this loop does not spin.
        let cleared = loop {
            let cleared = clear::clear_life(&end);
            if !cleared.blind {
                break cleared;
            }
            log::error!("{name}: cannot see what it left: out of files or memory; looking again");
        };
        for process in &cleared.ended {
            if process.pid != child.pid {
                let (comm, pid) = (&process.comm, process.pid);
                log::info!("{name}: ended {comm} ({pid}), which it had left behind");
            }
        }
        for process in &cleared.left {
            log::error!("{name}: {} ({}) could not be ended", process.comm, process.pid);
        }
        child.reap();
        self.keeper.gone(self.pid, self.start);
    }
}
