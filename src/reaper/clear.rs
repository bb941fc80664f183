//! Ending what is left of something of ours that is over: one life of a server, or a whole run of the daemon.
//!
//! Looks, kills, waits for the deaths, looks again, until a look finds nothing. What is already known to belong stays
//! known, although its parent's death moves it to another place in the tree.

use super::mark::Mark;
use super::tree::Tree;
use crate::base::limits::{CRASH_CLEANING, CRASH_TERM_PATIENCE, LIFE_CLEARING};
use crate::base::time::Time;
use crate::sys::cgroup::Cgroup;
use crate::sys::hold::{self, Hold};
use crate::sys::procfs::{self, Process};
use crate::sys::{clock, kin};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// One wait for deaths, before looking again for what forked meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What was found and what became of it, each process as it was first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    pub ended: Vec<Process>,
    /// Nothing could be seen when the time was over (no descriptor left): who is there is not known.
    pub blind: bool,
    /// Still there when the time was over: not killable for us, or stuck in the kernel.
    pub left: Vec<Process>,
}

/// A life that is over, as its thread knows it.
pub struct LifeEnd<'a> {
    /// Pid and start time of the process that was spawned. It is not yet reaped, so that its pid, which is also the
    /// id of its group, cannot mean anything else.
    pub leader: (u32, u64),
    pub mark: &'a Mark,
    /// Inodes of the pipes that were made for it.
    pub pipes: &'a [u64],
    /// Children of ours that a life was begun with and that are not reaped: the leader, and those of other lives, which
    /// are neither strangers nor of this life. Exact, or something of this life is passed over.
    pub known: &'a dyn Fn(u32) -> bool,
    /// The same, certain also of one that is just being started; may wait for that, and fail.
    pub known_after_all: &'a dyn Fn(u32) -> io::Result<bool>,
}

/// Ends everything that is left of one life, with SIGKILL: its group, what carries its mark, what descends from
/// these, and orphans without a mark that still hold its pipes. Bounded by [`LIFE_CLEARING`].
pub fn clear_life(life: &LifeEnd) -> Cleared {
    let deadline = clock::now() + LIFE_CLEARING;
    let look = |all: &[Process]| members_of_life(life, all);
    let kill_group = || {
        // A group of which nobody is left, or members that changed their user: both show in the next look.
        let _ = kin::signal_group(life.leader.0, Signal::SIGKILL);
    };
    Clearing::new(&look, &kill_group, &|| ()).kill_until_none(deadline)
}

fn members_of_life(life: &LifeEnd, all: &[Process]) -> io::Result<BTreeSet<u32>> {
    let (leader, start) = life.leader;
    // Nothing that descends from the leader is older than it, which spares most of /proc.
    let younger = all.iter().filter(|process| process.start >= start);
    let me = std::process::id();
    let in_group = |process: &Process| process.pid == leader || process.pgid == leader;
    let mut seeds = Vec::new();
    for process in younger.filter(|process| process.pid != me) {
        // The leaders of other lives are not asked for their marks: when many lives end at once, that is most of them.
        let belongs =
            in_group(process) || (!(life.known)(process.pid) && is_marked_or_stray(process, me, life)?);
        if belongs {
            seeds.push(process.pid);
        }
    }
    Ok(with_below(&Tree::new(all), seeds, &|_| false))
}

fn is_marked_or_stray(process: &Process, me: u32, life: &LifeEnd) -> io::Result<bool> {
    let Some(found) = Mark::look(process.pid)? else { return is_stray(process, me, life) };
    let mark = life.mark;
    Ok((&found.session, &found.server, found.life) == (&mark.session, &mark.server, mark.life))
}

/// An orphan that came to us, cleared its environment, and still holds a pipe of the life.
fn is_stray(process: &Process, me: u32, life: &LifeEnd) -> io::Result<bool> {
    if process.ppid != me || (life.known)(process.pid) {
        return Ok(false);
    }
    // Between fork and exec a child of another life holds all our descriptors, still shows our command line, and is not
    // known yet. It may become another program between any two looks at it: only who starts it can tell.
    if procfs::command_line(process.pid) == procfs::command_line(me) {
        return Ok(false);
    }
    let holds = kin::look_at_pipes(process.pid)?.iter().any(|inode| life.pipes.contains(inode));
    Ok(holds && !(life.known_after_all)(process.pid)?)
}

/// Everything below this process: what the guardian ends after the daemon's end, also after an orderly one, when it is
/// what servers lost on the way.
pub struct Everything<'a> {
    /// Nothing of ours is older (clock ticks since boot): children that this process had before it became what it
    /// is are spared.
    pub since: u64,
    /// Spare this session: what shares it was not started by a daemon that has a session of its own.
    pub spared_session: Option<u32>,
    pub cgroup: Option<&'a Cgroup>,
    /// The run whose marks are ended wherever they are.
    pub session: &'a str,
    /// Leaders that are known to belong, by pid and start time.
    pub leaders: &'a [(u32, u64)],
    /// Collects the children of ours that have ended.
    pub reap: &'a dyn Fn(),
}

/// Ends it: if `gently`, by SIGTERM and [`CRASH_TERM_PATIENCE`] first; then by SIGKILL, for up to [`CRASH_CLEANING`].
pub fn clear_everything(what: &Everything, gently: bool) -> Cleared {
    let look = |all: &[Process]| members_of_everything(what, all);
    let kill_box = || {
        // Without cgroup.kill the members are killed one by one. It would end us too if we are inside.
        let ours = |cgroup: &&&Cgroup| !cgroup.members().contains(&std::process::id());
        if let Some(cgroup) = what.cgroup.as_ref().filter(ours) {
            let _ = cgroup.kill();
        }
    };
    let mut clearing = Clearing::new(&look, &kill_box, what.reap);
    if gently {
        clearing.terminate(clock::now() + CRASH_TERM_PATIENCE);
    }
    clearing.kill_until_none(clock::now() + CRASH_CLEANING)
}

fn members_of_everything(what: &Everything, all: &[Process]) -> io::Result<BTreeSet<u32>> {
    let me = std::process::id();
    let tree = Tree::new(all);
    let spared = |process: &Process| process.start < what.since || Some(process.sid) == what.spared_session;
    let mut seeds: Vec<u32> = tree.below(&[me], &spared).into_iter().collect();
    seeds.extend(what.cgroup.map(Cgroup::members).unwrap_or_default());
    let is_leader = |process: &&Process| what.leaders.contains(&(process.pid, process.start));
    seeds.extend(all.iter().filter(is_leader).map(|process| process.pid));
    let may_be_marked =
        all.iter().filter(|process| process.start >= what.since && !seeds.contains(&process.pid));
    let mut marked = Vec::new();
    for process in may_be_marked {
        if Mark::look(process.pid)?.is_some_and(|mark| mark.session == what.session) {
            marked.push(process.pid);
        }
    }
    seeds.extend(marked);
    let never = tree.above(me);
    let mut found = with_below(&tree, seeds, &spared);
    found.retain(|pid| *pid != me && *pid != 1 && !never.contains(pid));
    Ok(found)
}

fn with_below(tree: &Tree, seeds: Vec<u32>, stop: &dyn Fn(&Process) -> bool) -> BTreeSet<u32> {
    let mut found = tree.below(&seeds, stop);
    found.extend(seeds);
    found
}

/// Which of all processes belong; an error if that could not be seen.
type Look<'a> = dyn Fn(&[Process]) -> io::Result<BTreeSet<u32>> + 'a;

/// The loop itself.
struct Clearing<'a> {
    /// Which of all processes belong.
    look: &'a Look<'a>,
    /// SIGKILL to many at once, before each by itself.
    kill_many: &'a dyn Fn(),
    reap: &'a dyn Fn(),
    found: BTreeMap<(u32, u64), Process>,
}

impl<'a> Clearing<'a> {
    fn new(look: &'a Look<'a>, kill_many: &'a dyn Fn(), reap: &'a dyn Fn()) -> Clearing<'a> {
        Clearing { look, kill_many, reap, found: BTreeMap::new() }
    }

    fn terminate(&mut self, deadline: Time) {
        // Who cannot be seen now is met by SIGKILL.
        let holds = hold_all(&self.alive().unwrap_or_default());
        signal_all(&holds, Signal::SIGTERM);
        hold::wait_all(&holds, deadline, None);
        (self.reap)();
    }

    fn kill_until_none(mut self, deadline: Time) -> Cleared {
        loop {
            let seen = self.alive();
            let now = clock::now();
            let next = deadline.min(now + LOOK_AGAIN);
            match seen {
                Ok(alive) if alive.is_empty() || now >= deadline => return self.result(alive, false),
                Ok(alive) => {
                    let holds = hold_all(&alive);
                    (self.kill_many)();
                    signal_all(&holds, Signal::SIGKILL);
                    hold::wait_all(&holds, next, None);
                }
                Err(_) if now >= deadline => return self.result(Vec::new(), true),
                Err(error) => {
                    log::debug!("look for what is left: {error}");
                    (self.kill_many)();
                    hold::pause_until(next);
                }
            }
            (self.reap)();
        }
    }

    /// Those that belong and have not ended: found in this look or in an earlier one.
    fn alive(&mut self) -> io::Result<Vec<Process>> {
        let all = look_at_all()?;
        let belong = (self.look)(&all)?;
        let known = |process: &Process| self.found.contains_key(&identity(process));
        let belongs = |process: &Process| belong.contains(&process.pid) || known(process);
        let is_alive = |process: &&Process| belongs(process) && !kin::has_ended(process);
        let alive: Vec<Process> = all.iter().filter(is_alive).cloned().collect();
        for process in &alive {
            self.found.entry(identity(process)).or_insert_with(|| process.clone());
        }
        Ok(alive)
    }

    fn result(mut self, left: Vec<Process>, blind: bool) -> Cleared {
        left.iter().for_each(|process| {
            self.found.remove(&identity(process));
        });
        Cleared { ended: self.found.into_values().collect(), blind, left }
    }
}

/// Every process, as seen by a look that began after this was called. Who asks while another looks shares the next
/// look with all who ask meanwhile: when a hundred lives end at once, `/proc` is read a few times and not a hundred.
fn look_at_all() -> io::Result<Arc<Vec<Process>>> {
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    static LATEST: Mutex<(u64, Weak<Vec<Process>>)> = Mutex::new((0, Weak::new()));
    let asked = BEGUN.load(Ordering::SeqCst);
    let mut latest = LATEST.lock();
    if latest.0 > asked
        && let Some(all) = latest.1.upgrade()
    {
        return Ok(all);
    }
    // Only under the lock, so that looks are numbered in the order in which they begin.
    let number = BEGUN.fetch_add(1, Ordering::SeqCst) + 1;
    let all = Arc::new(procfs::look()?);
    *latest = (number, Arc::downgrade(&all));
    Ok(all)
}

fn identity(process: &Process) -> (u32, u64) {
    (process.pid, process.start)
}

fn hold_all(processes: &[Process]) -> Vec<Hold> {
    processes.iter().filter_map(Hold::of_process).collect()
}

fn signal_all(holds: &[Hold], signal: Signal) {
    for hold in holds {
        // Not permitted (it changed its user): it shows as left in the end.
        let _ = hold.signal(signal);
    }
}
