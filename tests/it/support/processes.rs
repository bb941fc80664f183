//! Which processes are there that a test has started, directly or through others.

use super::{PATIENCE, until_within};
use mcpvisor::sys::procfs::{self, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

/// The variable that marks everything a test starts. Not `MCPVISOR_…`: those are not passed on to servers.
pub const MARK: &str = "IT_MARK";

/// Living processes whose environment holds `IT_MARK=mark`, zombies left out.
pub fn marked(mark: &str) -> Vec<Process> {
    let mine = (MARK.to_owned(), mark.to_owned());
    let alive = procfs::all().into_iter().filter(|process| !process.is_zombie());
    alive.filter(|process| procfs::environ(process.pid).contains(&mine)).collect()
}

/// A line of a demo server's `--pid-file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub role: String,
    pub pid: u32,
    pub start: u64,
}

impl Noted {
    pub fn is_alive(&self) -> bool {
        procfs::process(self.pid).is_some_and(|now| now.start == self.start && !now.is_zombie())
    }
}

/// What the file holds so far; nothing if it is not there yet.
pub fn noted(pid_file: impl AsRef<Path>) -> Vec<Noted> {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("a pid file has lines of three words");
        Noted { role: word().to_owned(), pid: word().parse().unwrap(), start: word().parse().unwrap() }
    });
    lines.collect()
}

/// Those of the file that live, as `role pid`.
pub fn noted_alive(pid_file: impl AsRef<Path>) -> Vec<String> {
    let alive = noted(pid_file).into_iter().filter(Noted::is_alive);
    alive.map(|noted| format!("{} {}", noted.role, noted.pid)).collect()
}

/// Panics if, after `within`, any process of the mark or of the pid file lives.
pub fn assert_none_left(mark: &str, pid_file: impl AsRef<Path>, within: Duration) {
    let mut left = Vec::new();
    let deadline = std::time::Instant::now() + within;
    until_within("the processes to end", within + PATIENCE, || {
        left = marked(mark).iter().map(|process| describe(process.pid)).collect();
        left.extend(noted_alive(&pid_file));
        (left.is_empty() || std::time::Instant::now() > deadline).then_some(())
    });
    assert!(left.is_empty(), "left after {within:?}: {left:#?}");
}

fn describe(pid: u32) -> String {
    format!("{pid} {}", procfs::command_line(pid))
}

/// SIGKILL to whatever is still there; for the end of a test, whatever its outcome.
pub fn kill_all(mark: &str, pid_file: impl AsRef<Path>) {
    let noted = noted(pid_file).into_iter().filter(Noted::is_alive).map(|noted| noted.pid);
    for pid in marked(mark).iter().map(|process| process.pid).chain(noted) {
        send(pid, Signal::SIGKILL);
    }
}

/// A process that is gone already is as good as signalled.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// Whether a process of this pid lives and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    procfs::process(pid).is_some_and(|process| !process.is_zombie())
}

/// Resident memory of a process.
pub fn rss_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most that it ever was.
pub fn peak_rss_bytes(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a process has memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib << 10
}
