//! Kinship and identity of processes beyond `/proc/PID/stat`: our children and how to reap one, groups, namespaces,
//! and the pipes that a process holds.

use super::procfs::{self, Process, unless_exhausted};
use nix::errno::Errno;
use nix::poll::poll;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// The inode of the PID namespace that we live in: pids mean the same only where this is the same. 0 if unknown.
pub fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino()).unwrap_or(0)
}

/// Whether no thread of it runs any more. A leader that left its threads behind looks like a zombie and is none.
pub fn has_ended(process: &Process) -> bool {
    let threads =
        || fs::read_dir(format!("/proc/{}/task", process.pid)).map(|tasks| tasks.count()).unwrap_or(0);
    process.is_zombie() && threads() <= 1
}

/// Looks at a process that is just being replaced by another program, and the pause between two.
const EXEC_LOOKS: usize = 10;
const EXEC_PAUSE_MS: u8 = 1;

/// Whether any process has this pid, also one that `/proc` hides from us. Zombies have theirs.
pub fn exists(pid: u32) -> bool {
    // 0 and what is negative as an `i32` would mean groups.
    i32::try_from(pid).is_ok_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

/// The variables that begin with `prefix` in the environment that `pid` was executed with, empty if it has none or
/// it may not be read. For a moment inside execve(2) a process shows neither environment nor command line: that
/// moment is waited out.
pub fn environ(pid: u32, prefix: &str) -> Vec<(String, String)> {
    look_at_environ(pid, prefix).unwrap_or_default()
}

/// The same, with an error if we could not look: see [`procfs::look`].
pub fn look_at_environ(pid: u32, prefix: &str) -> io::Result<Vec<(String, String)>> {
    for _ in 0..EXEC_LOOKS {
        let block = procfs::look_at_environ(pid)?;
        if !block.is_empty() || !is_inside_exec(pid) {
            return Ok(procfs::variables(&block, prefix));
        }
        // An interrupted pause is only shorter.
        let _ = poll(&mut [], EXEC_PAUSE_MS);
    }
    Ok(Vec::new())
}

/// No command line, and neither dead nor a thread of the kernel, whose parent is 2.
fn is_inside_exec(pid: u32) -> bool {
    let is_program = |process: Process| !process.is_zombie() && pid != 2 && process.ppid != 2;
    procfs::command_line(pid).is_empty() && procfs::process(pid).is_some_and(is_program)
}

/// The inodes of the pipes that `pid` holds open; empty if we may not look.
pub fn pipes(pid: u32) -> Vec<u64> {
    look_at_pipes(pid).unwrap_or_default()
}

/// The same, with an error if we could not look: see [`procfs::look`].
pub fn look_at_pipes(pid: u32) -> io::Result<Vec<u64>> {
    let entries = unless_exhausted(fs::read_dir(format!("/proc/{pid}/fd")).map(Some))?;
    let targets =
        entries.into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(targets.filter_map(|target| pipe_inode(target.to_str()?)).collect())
}

/// The direct children of every thread of this process, zombies included.
pub fn children() -> Vec<u32> {
    let me = std::process::id();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists: Option<Vec<String>> =
        tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    match lists {
        Some(lists) => {
            lists.iter().flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
        }
        // A kernel without CONFIG_PROC_CHILDREN, or a thread that ended meanwhile.
        None => procfs::all().iter().filter(|child| child.ppid == me).map(|child| child.pid).collect(),
    }
}

/// Reaps `pid` if it is a child of ours and has ended. The caller knows that nobody else waits for it.
pub fn reap(pid: u32) -> Option<Ended> {
    ended(waitpid(Pid::from_raw(pid as i32), Some(WaitPidFlag::WNOHANG))).map(|(_, how)| how)
}

/// Reaps any child that has ended. Only for a process that waits for none of its children in any other way.
pub fn reap_any() -> Option<(u32, Ended)> {
    ended(waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)))
}

/// Signals every member of a process group. A group that is gone is not an error.
/// The caller makes sure that `pgid` is the group it means: its leader is a child not yet reaped.
pub fn signal_group(pgid: u32, signal: Signal) -> Result<(), Errno> {
    // 0 and 1 would mean our own group and everything: never a group of ours.
    if pgid <= 1 {
        return Err(Errno::EINVAL);
    }
    match killpg(Pid::from_raw(pgid as i32), signal) {
        Err(Errno::ESRCH) => Ok(()),
        done => done,
    }
}

fn ended(status: Result<WaitStatus, Errno>) -> Option<(u32, Ended)> {
    match status {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid.as_raw() as u32, Ended::Code(code))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid.as_raw() as u32, Ended::Signal(signal as i32))),
        // Still running, no such child, or stopped and continued, which we did not ask for.
        Ok(_) | Err(_) => None,
    }
}

fn pipe_inode(target: &str) -> Option<u64> {
    target.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_names() {
        assert_eq!(pipe_inode("pipe:[4711]"), Some(4711));
        assert_eq!(pipe_inode("socket:[4711]"), None);
        assert_eq!(pipe_inode("/tmp/pipe:[1]"), None);
    }

    #[test]
    fn own_pipes() {
        use std::os::fd::AsRawFd;
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
        let inode = pipe_inode(link.to_str().unwrap()).unwrap();
        assert!(pipes(std::process::id()).contains(&inode));
        assert!(pid_namespace() > 0);
    }

    #[test]
    fn existing() {
        assert!(exists(std::process::id()) && exists(1));
        assert!(!exists(0) && !exists(1 << 30) && !exists(u32::MAX));
    }

    #[test]
    fn groups_that_are_never_ours() {
        assert_eq!(signal_group(0, Signal::SIGCONT), Err(Errno::EINVAL));
        assert_eq!(signal_group(1, Signal::SIGCONT), Err(Errno::EINVAL));
    }
}
