//! The tree of processes at one moment, as a value: who descends from whom. Pure.

use crate::sys::procfs::Process;
use std::collections::{BTreeMap, BTreeSet};

/// One look at `/proc`.
pub struct Tree<'a> {
    by_pid: BTreeMap<u32, &'a Process>,
    children: BTreeMap<u32, Vec<u32>>,
}

impl<'a> Tree<'a> {
    pub fn new(all: &'a [Process]) -> Tree<'a> {
        let by_pid = all.iter().map(|process| (process.pid, process)).collect();
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for process in all {
            children.entry(process.ppid).or_default().push(process.pid);
        }
        Tree { by_pid, children }
    }

    pub fn get(&self, pid: u32) -> Option<&'a Process> {
        self.by_pid.get(&pid).copied()
    }

    /// Everything below `roots`, the roots left out; where `stop` holds, neither it nor what is below it.
    pub fn below(&self, roots: &[u32], stop: &dyn Fn(&Process) -> bool) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = roots.to_vec();
        while let Some(parent) = open.pop() {
            for child in self.children.get(&parent).into_iter().flatten() {
                let known = roots.contains(child) || found.contains(child);
                if !known && !self.get(*child).is_some_and(stop) {
                    found.insert(*child);
                    open.push(*child);
                }
            }
        }
        found
    }

    /// Parent, grandparent … of `pid`, itself left out.
    pub fn above(&self, pid: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut at = pid;
        while let Some(parent) = self.get(at).map(|process| process.ppid) {
            if parent == 0 || !found.insert(parent) {
                break;
            }
            at = parent;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32) -> Process {
        Process { pid, ppid, pgid: pid, sid: pid, start: 0, state: 'S', comm: String::new() }
    }

    #[test]
    fn below_and_above() {
        let all: Vec<Process> =
            [(1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (6, 1)].map(|(pid, ppid)| process(pid, ppid)).to_vec();
        let tree = Tree::new(&all);
        let never = |_: &Process| false;
        assert_eq!(tree.below(&[2], &never), BTreeSet::from([3, 4, 5]));
        assert_eq!(tree.below(&[2, 3], &never), BTreeSet::from([4, 5]));
        assert_eq!(tree.below(&[2], &|process| process.pid == 3), BTreeSet::from([5]));
        assert_eq!(tree.above(4), BTreeSet::from([1, 2, 3]));
        assert_eq!(tree.above(99), BTreeSet::new());
    }
}
