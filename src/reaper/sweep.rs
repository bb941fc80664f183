//! Finds what an earlier run left, lets `judge` decide, and ends what it may.
//!
//! Run by the daemon at its start, on a thread beside the start-up (its own servers carry the new session and are
//! kept), and by `mcpvisor cleanup`. One look reads the environment of every process that we may see: a few ms.

use super::instance::Instance;
use super::judge::{Case, Claim, Shield, Tie, Verdict, judge};
use super::ledger::Section;
use super::mark::{Mark, Place};
use super::tree::Tree;
use crate::base::limits::{
    NAMED_PROCESSES_MAX, ORPHAN_KILL_PATIENCE, ORPHAN_TERM_PATIENCE, SWEEP_PASSES_MAX,
};
use crate::sys::cgroup::Cgroup;
use crate::sys::hold::{self, Hold};
use crate::sys::procfs::{self, Process};
use crate::sys::{clock, kin};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Processes ended at the same time, so that a crowd of orphans cannot take all our descriptors.
const AT_ONCE: usize = 128;

/// What the sweep goes by.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The id of our instance; `None` if the state directory has none yet.
    pub instance: Option<String>,
    /// The run that is us; `None` if we are no daemon.
    pub session: Option<String>,
    /// We hold the lock of the instance. Without it only marks count.
    pub lock_held: bool,
    /// Also what other instances left.
    pub everyone: bool,
    /// What the ledger says that earlier runs left.
    pub earlier: Vec<Section>,
    /// The cgroup that our guardian made for us.
    pub cgroup: Option<Cgroup>,
    pub here: Place,
}

impl Survey {
    /// For the daemon: what earlier runs of its own instance left.
    pub fn at_start(instance: &Instance, earlier: Vec<Section>, cgroup: Option<&Path>) -> Survey {
        Survey {
            instance: Some(instance.id.clone()),
            session: Some(instance.session.clone()),
            lock_held: true,
            everyone: false,
            earlier,
            cgroup: cgroup.map(Cgroup::at),
            here: Place::here(),
        }
    }

    /// One look: every process that something ties to us or that carries a mark in question, with its verdict.
    pub fn look(&self) -> Vec<Suspect> {
        let all: Vec<Process> =
            procfs::all().into_iter().filter(|process| !kin::has_ended(process)).collect();
        let tree = Tree::new(&all);
        let me = std::process::id();
        let mut scene = Scene { survey: self, me, above: tree.above(me), suspects: BTreeMap::new() };
        let ties = self.ties(&all);
        for process in &all {
            scene.consider(process, ties.get(&process.pid).copied());
        }
        scene.descend(&tree);
        scene.suspects.into_values().collect()
    }

    /// Looks and ends, until a look finds nothing to end; then removes the cgroups that have become empty.
    pub fn carry_out(&self) -> Report {
        let mut report = Report::default();
        for _ in 0..SWEEP_PASSES_MAX {
            let (condemned, kept): (Vec<Suspect>, Vec<Suspect>) =
                self.look().into_iter().partition(|suspect| suspect.verdict.ends());
            report.kept = kept;
            if condemned.is_empty() {
                break;
            }
            for some in condemned.chunks(AT_ONCE) {
                let left = end_all(some);
                let ended = some.iter().filter(|suspect| !left.contains(&suspect.process.pid));
                report.ended.extend(ended.cloned());
                report
                    .left
                    .extend(some.iter().filter(|suspect| left.contains(&suspect.process.pid)).cloned());
            }
            if !report.left.is_empty() {
                break;
            }
        }
        for cgroup in self.left_cgroups() {
            match cgroup.remove() {
                Ok(()) => log::debug!("removed the empty cgroup {}", cgroup.path().display()),
                Err(error) => log::debug!("remove cgroup {}: {error}", cgroup.path().display()),
            }
        }
        report
    }

    /// What ties processes to earlier runs of ours, beside their marks. Only under the lock.
    fn ties(&self, all: &[Process]) -> BTreeMap<u32, Tie> {
        let mut ties = BTreeMap::new();
        if !self.lock_held {
            return ties;
        }
        self.stray_holders(all).into_iter().for_each(|pid| {
            ties.insert(pid, Tie::HoldsPipe);
        });
        for cgroup in self.left_cgroups() {
            ties.extend(cgroup.members().into_iter().map(|pid| (pid, Tie::Boxed)));
        }
        let recorded =
            self.sections_here().flat_map(Section::leaders).map(|leader| (leader.pid, leader.start));
        let recorded: BTreeSet<(u32, u64)> = recorded.collect();
        let is_recorded = |process: &&Process| recorded.contains(&(process.pid, process.start));
        ties.extend(all.iter().filter(is_recorded).map(|process| (process.pid, Tie::Recorded)));
        ties
    }

    /// Orphans without a mark that hold a pipe of a recorded life. A person who looks into such a pipe does so below
    /// a shell, in its session; an orphan's parent is init or a subreaper, in another session.
    fn stray_holders(&self, all: &[Process]) -> Vec<u32> {
        let leaders: Vec<_> = self.sections_here().flat_map(Section::leaders).collect();
        let pipes: BTreeSet<u64> = leaders.iter().flat_map(|leader| leader.pipes.iter().copied()).collect();
        let Some(since) = leaders.iter().map(|leader| leader.start).min() else { return Vec::new() };
        let sessions: BTreeMap<u32, u32> = all.iter().map(|process| (process.pid, process.sid)).collect();
        let is_orphan = |process: &&Process| sessions.get(&process.ppid) != Some(&process.sid);
        let young = all.iter().filter(|process| process.start >= since);
        let holds = |process: &&Process| kin::pipes(process.pid).iter().any(|inode| pipes.contains(inode));
        let unmarked = |process: &&Process| Mark::of(process.pid).is_none();
        young.filter(is_orphan).filter(holds).filter(unmarked).map(|process| process.pid).collect()
    }

    fn sections_here(&self) -> impl Iterator<Item = &Section> {
        self.earlier.iter().filter(|section| section.place == self.here && !self.here.boot.is_empty())
    }

    /// Cgroups that earlier runs of this instance made, beside ours, around ours, and where the ledger says.
    fn left_cgroups(&self) -> Vec<Cgroup> {
        let Some(instance) = self.instance.as_ref().filter(|_| self.lock_held) else { return Vec::new() };
        let prefix = cgroup_prefix(instance);
        let own = Cgroup::own().ok();
        let around = own.iter().filter_map(|own| own.path().parent().map(Cgroup::at));
        let places: Vec<Cgroup> = own.iter().cloned().chain(around).collect();
        let recorded = self.earlier.iter().filter_map(|section| section.cgroup.clone()).map(Cgroup::at);
        let mut found: Vec<Cgroup> = places.iter().flat_map(Cgroup::children).chain(recorded).collect();
        found.sort_by(|a, b| a.path().cmp(b.path()));
        found.dedup();
        let is_left = |cgroup: &Cgroup| {
            let current = [&own, &self.cgroup].into_iter().flatten().any(|current| current == cgroup);
            cgroup.name().starts_with(&prefix) && !current && cgroup.path().exists()
        };
        found.retain(is_left);
        found
    }
}

/// What the names of the cgroups of one instance begin with; the guardian's pid follows.
pub fn cgroup_prefix(instance: &str) -> String {
    format!("mcpvisor-{instance}-")
}

/// A process that was looked at, and what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub process: Process,
    pub command: String,
    pub mark: Option<Mark>,
    pub verdict: Verdict,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub ended: Vec<Suspect>,
    /// Condemned, and still there after SIGKILL.
    pub left: Vec<Suspect>,
    /// In the last look.
    pub kept: Vec<Suspect>,
}

impl Report {
    /// For the log: one line on what was ended, and one on what could not be.
    pub fn lines(&self) -> Vec<String> {
        let named = [("ended", &self.ended), ("could not end", &self.left)];
        let some = named.into_iter().filter(|(_, suspects)| !suspects.is_empty());
        some.map(|(what, suspects)| {
            format!("{what} {} left by an earlier run: {}", suspects.len(), names(suspects))
        })
        .collect()
    }
}

fn names(suspects: &[Suspect]) -> String {
    let name = |suspect: &Suspect| {
        let Suspect { process, verdict, .. } = suspect;
        format!("{} ({}: {verdict})", process.comm, process.pid)
    };
    let mut names: Vec<String> = suspects.iter().take(NAMED_PROCESSES_MAX).map(name).collect();
    if suspects.len() > NAMED_PROCESSES_MAX {
        names.push(format!("{} more", suspects.len() - NAMED_PROCESSES_MAX));
    }
    names.join(", ")
}

/// One look while it is taken.
struct Scene<'a> {
    survey: &'a Survey,
    me: u32,
    above: BTreeSet<u32>,
    suspects: BTreeMap<u32, Suspect>,
}

impl Scene<'_> {
    /// Passes over what neither a tie nor a mark in question brings here.
    fn consider(&mut self, process: &Process, tie: Option<Tie>) {
        let mark = Mark::of(process.pid);
        let in_question = mark.as_ref().is_some_and(|mark| self.survey.everyone || self.is_ours(mark));
        if tie.is_none() && !in_question {
            return;
        }
        let claim = mark.as_ref().map(|mark| self.claim(mark));
        let lock_held = self.survey.lock_held;
        let verdict = judge(&Case { shield: self.shield(process.pid), tie, claim, lock_held });
        let command = procfs::command_line(process.pid);
        self.suspects.insert(process.pid, Suspect { process: process.clone(), command, mark, verdict });
    }

    /// What descends from the condemned is judged with that tie, unless it was condemned already.
    fn descend(&mut self, tree: &Tree) {
        let condemned = |suspects: &BTreeMap<u32, Suspect>| -> Vec<u32> {
            suspects
                .values()
                .filter(|suspect| suspect.verdict.ends())
                .map(|suspect| suspect.process.pid)
                .collect()
        };
        for root in condemned(&self.suspects) {
            // What lives on its own account, and what is below it, is left to the next pass.
            let spared = |process: &Process| {
                let known = self.suspects.get(&process.pid).map(|suspect| suspect.verdict);
                known.is_some_and(|verdict| !verdict.ends())
            };
            for pid in tree.below(&[root], &spared) {
                let process = tree.get(pid).expect("the tree returns pids that it holds");
                if !self.suspects.contains_key(&pid) {
                    self.consider(process, Some(Tie::ChildOf(root)));
                }
            }
        }
    }

    fn is_ours(&self, mark: &Mark) -> bool {
        self.survey.instance.as_ref() == Some(&mark.instance)
    }

    fn claim(&self, mark: &Mark) -> Claim {
        Claim {
            our_instance: self.is_ours(mark),
            our_session: self.survey.session.as_ref() == Some(&mark.session),
            owner: mark.owner.as_ref().map(|owner| (owner.pid, owner.fate(&self.survey.here))),
        }
    }

    fn shield(&self, pid: u32) -> Option<Shield> {
        match pid {
            1 => Some(Shield::Init),
            _ if pid == self.me => Some(Shield::Ourselves),
            _ if self.above.contains(&pid) => Some(Shield::Ancestor),
            _ => None,
        }
    }
}

/// SIGTERM, patience, SIGKILL, patience. Returns the pids that are still there.
fn end_all(suspects: &[Suspect]) -> BTreeSet<u32> {
    let holds: Vec<Hold> = suspects.iter().filter_map(hold_suspect).collect();
    for (signal, patience) in
        [(Signal::SIGTERM, ORPHAN_TERM_PATIENCE), (Signal::SIGKILL, ORPHAN_KILL_PATIENCE)]
    {
        for hold in holds.iter().filter(|hold| !hold.is_gone()) {
            if let Err(error) = hold.signal(signal) {
                log::warn!("{signal} to orphan {}: {error}", hold.pid);
            }
        }
        if hold::wait_all(&holds, clock::now() + patience, None) {
            break;
        }
    }
    holds.iter().filter(|hold| !hold.is_gone()).map(|hold| hold.pid).collect()
}

/// Held, it is looked at again: still the process that was judged, with the same mark.
fn hold_suspect(suspect: &Suspect) -> Option<Hold> {
    let hold = Hold::of_process(&suspect.process)?;
    (Mark::of(hold.pid) == suspect.mark).then_some(hold)
}
