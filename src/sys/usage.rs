//! What processes use, each with all that descends from it: as /proc says at one moment.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// Of one process and its descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub processes: u32,
    /// Resident memory in KiB; what processes share is counted in each.
    pub rss_kib: u64,
    /// Processor time since each was started, in ms.
    pub cpu_ms: u64,
    /// Open descriptors; 0 for processes that may not be looked into.
    pub fds: u64,
}

impl Usage {
    /// Of both together.
    pub fn and(self, other: Usage) -> Usage {
        Usage {
            processes: self.processes + other.processes,
            rss_kib: self.rss_kib + other.rss_kib,
            cpu_ms: self.cpu_ms + other.cpu_ms,
            fds: self.fds + other.fds,
        }
    }
}

/// One line of `/proc/PID/stat`, as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    ppid: u32,
    ticks: u64,
    pages: u64,
}

/// A tick of the counts in `/proc`: the kernel's `USER_HZ`, which is 100 on every architecture of ours.
const TICK_MS: u64 = 10;

/// What each of these processes uses; nothing of one that is gone. One look at all processes of the host.
pub fn of_trees(roots: &[u32]) -> BTreeMap<u32, Usage> {
    let page_kib = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4, |bytes| bytes as u64 >> 10);
    let all = stats();
    let mut children: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    all.iter().for_each(|stat| children.entry(stat.ppid).or_default().push(*stat));
    let of = |root: u32| {
        let mut found: Vec<Stat> = all.iter().filter(|stat| stat.pid == root).copied().collect();
        let mut next = 0;
        // Everybody has one parent, so nobody is met twice.
        while let Some(stat) = found.get(next).copied() {
            found.extend(children.get(&stat.pid).into_iter().flatten());
            next += 1;
        }
        let mut usage = Usage::default();
        for stat in &found {
            usage.processes += 1;
            usage.rss_kib += stat.pages * page_kib;
            usage.cpu_ms += stat.ticks * TICK_MS;
            usage.fds += fs::read_dir(format!("/proc/{}/fd", stat.pid)).map_or(0, |fds| fds.count() as u64);
        }
        (usage.processes > 0).then_some((root, usage))
    };
    roots.iter().copied().filter_map(of).collect()
}

fn stats() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// The name in brackets may hold anything, also brackets and blanks.
fn parse(text: &str) -> Option<Stat> {
    let pid = text.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        ppid: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
        pages: number(21)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 9999 1000000 256 18446744073709551615";
        assert_eq!(parse(line), Some(Stat { pid: 42, ppid: 7, ticks: 42, pages: 256 }));
        assert_eq!(parse("42 (a"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn of_ourselves() {
        let own = std::process::id();
        let usage = of_trees(&[own, u32::MAX]);
        assert_eq!(usage.keys().copied().collect::<Vec<_>>(), [own]);
        let Usage { processes, rss_kib, fds, .. } = usage[&own];
        assert!(processes >= 1 && rss_kib > 500 && fds > 2, "{usage:?}");
    }
}
