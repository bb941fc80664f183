//! The guardian: the small parent of the daemon that ends what the daemon leaves, however it dies.
//!
//! `mcpvisor serve` becomes it before any thread exists. It takes the instance, starts this program again as the
//! daemon (inside a cgroup where the host lets us make one), hands signals on, and waits. When the daemon is gone,
//! everything that it started has become the guardian's child or is in that cgroup, and is ended before the guardian
//! exits with the daemon's code; so are the containers of that run, on the engines that it was told of. It knows nothing
//! of servers, config or MCP, sleeps until something happens, and has no second thread while the daemon lives.

use super::bequest::{self, Bequest};
use super::clear::{Cleared, Everything, clear_everything};
use super::instance::Instance;
use super::link::{GUARDIAN, Invitation, Line};
use super::sweep::cgroup_prefix;
use crate::base::limits::{LEDGER_LIVES_MAX, NAMED_PROCESSES_MAX, SHUTDOWN_BUDGET, SHUTDOWN_BUDGET_SLACK};
use crate::base::time::Time;
use crate::sys::cgroup::Cgroup;
use crate::sys::clock;
use crate::sys::guard::{self, EXEC_FAILED, Signals};
use crate::sys::hold::Hold;
use crate::sys::kin::{self, Ended};
use crate::sys::pages;
use crate::sys::procfs::{self, Process};
use crate::sys::thread::spawn_in;
use nix::sys::signal::Signal;
use nix::unistd::read;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// What the guardian is told.
#[derive(Clone, Debug)]
pub struct GuardPlan {
    pub state_dir: PathBuf,
}

/// The whole life of the guardian, which returns its exit code; called before any thread, by a `serve` that no guardian has started.
/// The daemon is this program again, with the same arguments; it finds its side with `Link::adopt`.
pub fn guard(plan: &GuardPlan) -> u8 {
    let instance = match Instance::open(&plan.state_dir) {
        Ok(instance) => instance,
        Err(error) => {
            say(&error.fault().to_string());
            return error.exit_code();
        }
    };
    match Guardian::start(&instance) {
        Ok(guardian) => guardian.run(),
        Err(error) => {
            say(&format!("start the daemon: {error}"));
            1
        }
    }
}

struct Guardian {
    daemon: u32,
    daemon_start: u64,
    session: String,
    cgroup: Option<Cgroup>,
    signals: Signals,
    up: Option<Up>,
    /// The other end is the daemon's: it sees our death by it. Never written to.
    _down: OwnedFd,
    leaders: BTreeSet<(u32, u64)>,
    bequest: Bequest,
    budget: Duration,
    goodbye: bool,
    /// A signal asked the daemon to end: when we stop waiting for that.
    deadline: Option<Time>,
}

impl Guardian {
    fn start(instance: &Instance) -> io::Result<Guardian> {
        guard::become_subreaper()?;
        guard::set_name(c"mcpv-guardian")?;
        let signals = Signals::take()?;
        let (daemon_down, down) = guard::pipe()?;
        let (up, daemon_up) = guard::pipe()?;
        for fd in [daemon_down.as_fd(), daemon_up.as_fd(), instance.lock_fd()] {
            guard::set_inheritable(fd, true)?;
        }
        let cgroup = make_cgroup(&instance.id);
        let mut invitation = Invitation {
            down: daemon_down.as_raw_fd(),
            up: daemon_up.as_raw_fd(),
            lock: instance.lock_fd().as_raw_fd(),
            guardian: std::process::id(),
            session: instance.session.clone(),
            cgroup: cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
        };
        let (daemon, cgroup) = start_daemon(&mut invitation, cgroup)?;
        let daemon_start = procfs::process(daemon).map_or(0, |process| process.start);
        Ok(Guardian {
            daemon,
            daemon_start,
            session: instance.session.clone(),
            cgroup,
            signals,
            up: Some(Up { fd: up, partial: Vec::new() }),
            _down: down,
            leaders: BTreeSet::new(),
            bequest: Bequest::default(),
            budget: SHUTDOWN_BUDGET,
            goodbye: false,
            deadline: None,
        })
    }

    fn run(mut self) -> u8 {
        // From here on it sleeps; what it will need then is read again from the kernel's cache.
        pages::give_text_back();
        let ended = loop {
            self.wait();
            for signal in self.signals.drain() {
                self.forward(signal);
            }
            self.listen();
            if let Some(ended) = self.reap() {
                break ended;
            }
            if self.deadline.is_some_and(|deadline| clock::now() >= deadline) {
                self.deadline = None;
                say("the daemon did not shut down in its time; killing it");
                self.signal_daemon(Signal::SIGKILL);
            }
        };
        self.listen();
        let crashed = !self.goodbye;
        let (cleared, containers) = self.clear_all(crashed);
        if let Some(text) = obituary(ended, &cleared, &containers) {
            say(&text);
        }
        exit_code(ended)
    }

    /// Until a signal, a line from the daemon, or the deadline.
    fn wait(&self) {
        let patience = self.deadline.map(|deadline| deadline.since(clock::now()));
        let mut fds = vec![self.signals.as_fd()];
        fds.extend(self.up.iter().map(|up| up.fd.as_fd()));
        guard::wait_readable(&fds, patience);
    }

    fn forward(&mut self, signal: Signal) {
        self.signal_daemon(signal);
        if matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) {
            let latest = clock::now() + self.budget + SHUTDOWN_BUDGET_SLACK;
            self.deadline.get_or_insert(latest);
        }
    }

    fn signal_daemon(&self, signal: Signal) {
        // Not yet reaped, so the pid is still its own. It may have ended this moment: then there is nobody to tell.
        if let Some(hold) = Hold::of(self.daemon, self.daemon_start) {
            let _ = hold.signal(signal);
        }
    }

    /// Takes what the daemon has told.
    fn listen(&mut self) {
        let Some(up) = &mut self.up else { return };
        let (lines, open) = up.lines();
        if !open {
            self.up = None;
        }
        for line in lines {
            self.note(line);
        }
    }

    fn note(&mut self, line: Line) {
        match line {
            Line::Life { pid, start, pgid: _ } => {
                if self.leaders.len() < LEDGER_LIVES_MAX {
                    self.leaders.insert((pid, start));
                }
            }
            Line::Gone { pid, start } => {
                self.leaders.remove(&(pid, start));
            }
            line @ (Line::Engine { .. } | Line::Container { .. } | Line::ContainerGone { .. }) => {
                self.bequest.note(line);
            }
            Line::Budget { ms } => self.budget = Duration::from_millis(ms),
            Line::Goodbye => self.goodbye = true,
        }
    }

    /// Reaps every child that has ended; returns how the daemon ended, if it was among them.
    fn reap(&self) -> Option<Ended> {
        let mut daemon = None;
        while let Some((pid, how)) = kin::reap_any() {
            if pid == self.daemon {
                daemon = Some(how);
            }
        }
        daemon
    }

    /// Processes and containers at the same time.
    fn clear_all(&self, crashed: bool) -> (Cleared, bequest::Ended) {
        thread::scope(|scope| {
            let end = || self.bequest.end(&self.session, crashed);
            let ending = spawn_in(scope, "containers", end);
            let cleared = self.clear(crashed);
            let containers = match ending {
                // A panic was said on stderr; the next start looks again.
                Ok(ending) => ending.join().ok().and_then(Result::ok).unwrap_or_default(),
                // No thread to be had: one after the other.
                Err(_) => self.bequest.end(&self.session, crashed),
            };
            (cleared, containers)
        })
    }

    /// Signals are left unread from here on: what is being cleaned up is cleaned up.
    fn clear(&self, crashed: bool) -> Cleared {
        let leaders: Vec<(u32, u64)> = self.leaders.iter().copied().collect();
        let me = procfs::process(std::process::id());
        let cleared = clear_everything(
            &Everything {
                since: self.daemon_start,
                spared_session: me.map(|me| me.sid),
                cgroup: self.cgroup.as_ref(),
                session: &self.session,
                leaders: &leaders,
                reap: &|| while kin::reap_any().is_some() {},
            },
            crashed,
        );
        if let Some(cgroup) = &self.cgroup {
            // Not empty: something could not be ended, which is said elsewhere; the next start tries again.
            let _ = cgroup.remove();
        }
        cleared
    }
}

/// Bytes without a newline from the daemon, which writes short lines: more is thrown away.
const UP_BYTES_MAX: usize = 4096;

/// The pipe on which the daemon tells.
struct Up {
    fd: OwnedFd,
    partial: Vec<u8>,
}

impl Up {
    /// The whole lines that have come, and whether more can come.
    fn lines(&mut self) -> (Vec<Line>, bool) {
        let mut buffer = [0; 4096];
        let mut open = true;
        loop {
            match read(&self.fd, &mut buffer) {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(n) => self.partial.extend_from_slice(&buffer[..n]),
                Err(_) => break,
            }
        }
        if self.partial.len() > UP_BYTES_MAX && !self.partial.contains(&b'\n') {
            self.partial.clear();
        }
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let text: Vec<u8> = self.partial.drain(..whole).collect();
        let lines = String::from_utf8_lossy(&text).lines().filter_map(Line::parse).collect();
        (lines, open)
    }
}

/// `None` where the host does not let us: parentage and marks do without.
fn make_cgroup(instance: &str) -> Option<Cgroup> {
    let name = format!("{}{}", cgroup_prefix(instance), std::process::id());
    let cgroup = Cgroup::own().and_then(|own| own.create(&name));
    cgroup.ok()
}

/// In the cgroup if there is one and the kernel does it; else without, and then the cgroup is removed.
fn start_daemon(invitation: &mut Invitation, cgroup: Option<Cgroup>) -> io::Result<(u32, Option<Cgroup>)> {
    if let Some(cgroup) = cgroup {
        let text = invitation.to_string();
        let inside = cgroup.open().and_then(|open| guard::run_again_in(&open, (GUARDIAN, &text)));
        if let Ok(daemon) = inside {
            return Ok((daemon, Some(cgroup)));
        }
        invitation.cgroup = None;
        // It was made a moment ago and is empty.
        let _ = cgroup.remove();
    }
    Ok((guard::run_again((GUARDIAN, &invitation.to_string()))?, None))
}

fn exit_code(ended: Ended) -> u8 {
    match ended {
        Ended::Code(code) if code == EXEC_FAILED => 1,
        Ended::Code(code) => code.clamp(0, 255) as u8,
        Ended::Signal(_) => 1,
    }
}

/// What is said of the daemon's end: nothing, if it ended by itself and left nothing.
fn obituary(ended: Ended, cleared: &Cleared, containers: &bequest::Ended) -> Option<String> {
    let nothing = *cleared == Cleared::default() && *containers == bequest::Ended::default();
    let mut text = match ended {
        Ended::Code(code) if code == EXEC_FAILED => "the daemon could not be started".to_owned(),
        Ended::Code(_) if nothing => return None,
        Ended::Code(code) => format!("the daemon ended with code {code}"),
        Ended::Signal(signal) => format!("the daemon was killed by signal {signal}"),
    };
    for (what, processes) in [("ended", &cleared.ended), ("could not end", &cleared.left)] {
        if !processes.is_empty() {
            let count = processes.len();
            let noun = if count == 1 { "process" } else { "processes" };
            write!(text, "; {what} {count} {noun} that it left: {}", names(processes))
                .expect("a String takes every write");
        }
    }
    if cleared.blind {
        text.push_str("; what it left cannot be seen, as this host is out of files or memory");
    }
    for (what, containers) in [("removed", &containers.removed), ("could not remove", &containers.left)] {
        if !containers.is_empty() {
            let count = containers.len();
            let noun = if count == 1 { "container" } else { "containers" };
            let names = enumerate(containers.iter().map(String::as_str));
            write!(text, "; {what} {count} {noun} that it left: {names}")
                .expect("a String takes every write");
        }
    }
    if !containers.unseen.is_empty() {
        let engines = enumerate(containers.unseen.iter().map(String::as_str));
        write!(text, "; could not look for containers (the next start does): {engines}")
            .expect("a String takes every write");
    }
    Some(text)
}

/// The first few, and how many more.
fn enumerate<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED_PROCESSES_MAX);
    let mut named: Vec<String> = names.take(NAMED_PROCESSES_MAX).map(str::to_owned).collect();
    if more > 0 {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

fn names(processes: &[Process]) -> String {
    let names: Vec<String> =
        processes.iter().map(|process| format!("{} ({})", process.comm, process.pid)).collect();
    enumerate(names.iter().map(String::as_str))
}

/// On stderr, once. If nobody reads that any more, nobody is there to be told.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "mcpvisor: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process { pid, ppid: 1, pgid: pid, sid: pid, start: 0, state: 'S', comm: "node".to_owned() }
    }

    #[test]
    fn obituaries() {
        #[track_caller]
        fn check(ended: Ended, left_behind: u32, text: Option<&str>) {
            let cleared = Cleared { ended: (1..=left_behind).map(process).collect(), ..Cleared::default() };
            let containers = bequest::Ended::default();
            assert_eq!(obituary(ended, &cleared, &containers).as_deref(), text);
        }
        check(Ended::Code(0), 0, None);
        check(Ended::Code(4), 0, None);
        let text = "the daemon ended with code 0; ended 1 process that it left: node (1)";
        check(Ended::Code(0), 1, Some(text));
        check(Ended::Signal(9), 0, Some("the daemon was killed by signal 9"));
        let text = "the daemon was killed by signal 9; ended 2 processes that it left: node (1), node (2)";
        check(Ended::Signal(9), 2, Some(text));
        let cleared = Cleared { ended: (1..=10).map(process).collect(), ..Cleared::default() };
        let none = bequest::Ended::default();
        assert!(obituary(Ended::Signal(9), &cleared, &none).unwrap().ends_with("node (8), 2 more"));
        let containers = bequest::Ended {
            removed: vec!["mcpvisor-1a2b-git-a".to_owned()],
            left: vec!["aa: inspect container: no answer in time".to_owned()],
            unseen: vec!["unix:///d: list containers: no answer in time".to_owned()],
        };
        assert_eq!(
            obituary(Ended::Code(0), &Cleared::default(), &containers).unwrap(),
            "the daemon ended with code 0; removed 1 container that it left: mcpvisor-1a2b-git-a; could not remove 1 \
             container that it left: aa: inspect container: no answer in time; could not look for containers (the next \
             start does): unix:///d: list containers: no answer in time"
        );
    }

    #[test]
    fn lines_come_in_pieces() {
        let (reader, writer) = guard::pipe().unwrap();
        let mut up = Up { fd: reader, partial: Vec::new() };
        nix::unistd::write(&writer, b"life 1 2 3\nbudg").unwrap();
        assert_eq!(up.lines(), (vec![Line::Life { pid: 1, start: 2, pgid: 3 }], true));
        nix::unistd::write(&writer, b"et 7\nnonsense\ngoodbye\n").unwrap();
        drop(writer);
        assert_eq!(up.lines(), (vec![Line::Budget { ms: 7 }, Line::Goodbye], false));
    }
}
