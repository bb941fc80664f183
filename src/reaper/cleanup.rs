//! `mcpvisor cleanup`: what earlier runs and dead instances left, processes and containers, shown, ended on request,
//! and explained.
//!
//! Holds the instance of the state directory while it works, so that nobody starts in between. Knows no terminal:
//! the command asks, and chooses between text and JSON.

use super::container_cleanup::{ContainerCleanup, ContainerEntry, ContainersReport, Wanted};
use super::instance::{self, Instance, OpenError};
use super::ledger;
use super::mark::Place;
use super::sweep::{Report, Survey, Suspect};
use crate::base::text::shorten;
use crate::store::Store;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Columns of the text.
const COLUMNS: usize = 80;

/// A cleanup of one host, from the view of one state directory.
pub struct Cleanup {
    survey: Survey,
    containers: ContainerCleanup,
    dir: PathBuf,
    running: Option<u32>,
    /// Held until the end.
    instance: Option<Instance>,
}

impl Cleanup {
    /// A state directory that does not exist is not made; then there is only what others left. One whose daemon
    /// runs is not an error: what that daemon started is kept, and said to be.
    ///
    /// Ends only what this instance left; what other dead instances left is listed. `wanted.everyone` ends that too.
    pub fn open(dir: &Path, wanted: Wanted) -> Result<Cleanup, OpenError> {
        let known = instance::peek(dir);
        let (instance, running) = match known.as_ref().map(|_| Instance::open(dir)) {
            None => (None, None),
            Some(Ok(instance)) => (Some(instance), None),
            Some(Err(OpenError::AlreadyRunning { pid, .. })) => (None, Some(pid)),
            Some(Err(error)) => return Err(error),
        };
        let lock_held = instance.is_some();
        let store = instance.as_ref().map(|instance| Store::open(&instance.dir));
        let everyone = wanted.everyone;
        let containers = ContainerCleanup::new(wanted, known.clone(), store);
        let survey = Survey {
            instance: known,
            session: None,
            lock_held,
            everyone,
            earlier: if lock_held { ledger::read(dir) } else { Vec::new() },
            cgroup: None,
            here: Place::here(),
        };
        Ok(Cleanup { survey, containers, dir: dir.to_owned(), running, instance })
    }

    /// What would be done.
    pub fn look(&self) -> CleanupReport {
        let (condemned, kept): (Vec<Suspect>, Vec<Suspect>) =
            self.survey.look().into_iter().partition(|suspect| suspect.verdict.ends());
        self.report(false, &Report { ended: condemned, left: Vec::new(), kept }, self.containers.look())
    }

    /// Does it. A ledger of which nothing is left is removed.
    pub fn carry_out(&self) -> CleanupReport {
        let report = self.survey.carry_out();
        let containers = self.containers.carry_out();
        if self.instance.is_some() && report.left.is_empty() {
            ledger::forget(&self.dir);
        }
        self.report(true, &report, containers)
    }

    /// What bears the mark of another instance, if that is not ours to end: with what is said of it.
    fn others(&self, report: &Report) -> Vec<Suspect> {
        if self.survey.everyone {
            return Vec::new();
        }
        let everyone = Survey { everyone: true, ..self.survey.clone() };
        let known: Vec<u32> = [&report.ended, &report.left, &report.kept]
            .into_iter()
            .flatten()
            .map(|s| s.process.pid)
            .collect();
        let is_other = |suspect: &Suspect| {
            !known.contains(&suspect.process.pid)
                && suspect
                    .mark
                    .as_ref()
                    .is_some_and(|mark| Some(&mark.instance) != self.survey.instance.as_ref())
        };
        everyone.look().into_iter().filter(is_other).collect()
    }

    fn report(&self, done: bool, report: &Report, containers: ContainersReport) -> CleanupReport {
        let entries = |suspects: &[Suspect]| suspects.iter().map(Entry::new).collect::<Vec<Entry>>();
        let (orphans, alive): (Vec<Suspect>, Vec<Suspect>) =
            self.others(report).into_iter().partition(|suspect| suspect.verdict.ends());
        let mut kept = entries(&report.kept);
        kept.extend(entries(&alive));
        CleanupReport {
            state_dir: self.dir.clone(),
            running: self.running,
            done,
            ended: entries(&report.ended),
            left: entries(&report.left),
            elsewhere: entries(&orphans),
            kept,
            containers,
        }
    }
}

/// What was found; `ended` is what would be ended while not `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CleanupReport {
    pub state_dir: PathBuf,
    /// The pid of the daemon that runs in the state directory.
    pub running: Option<u32>,
    pub done: bool,
    pub ended: Vec<Entry>,
    /// Could not be ended.
    pub left: Vec<Entry>,
    /// Orphans of other instances, which are not ended unless everyone's are.
    pub elsewhere: Vec<Entry>,
    pub kept: Vec<Entry>,
    pub containers: ContainersReport,
}

/// One process, for people and tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start: u64,
    /// The slug in its mark.
    pub server: Option<String>,
    pub instance: Option<String>,
    pub command: String,
    pub because: String,
}

impl Entry {
    fn new(suspect: &Suspect) -> Entry {
        let Suspect { process, command, mark, verdict } = suspect;
        let command = if command.is_empty() { format!("[{}]", process.comm) } else { command.clone() };
        Entry {
            pid: process.pid,
            start: process.start,
            server: mark.as_ref().map(|mark| mark.server.clone()),
            instance: mark.as_ref().map(|mark| mark.instance.clone()),
            command,
            because: verdict.to_string(),
        }
    }
}

impl CleanupReport {
    /// Nothing was, or is, to be ended.
    pub fn is_clean(&self) -> bool {
        self.ended.is_empty() && self.left.is_empty() && self.containers.is_clean()
    }

    /// Something could not be ended or removed.
    pub fn is_left(&self) -> bool {
        !self.left.is_empty() || !self.containers.left.is_empty()
    }

    /// For people: at most 80 columns, but for why an engine was not looked at; each line with its newline. `verbose` tells also what is kept, and why.
    pub fn text(&self, verbose: bool) -> String {
        let mut text = String::new();
        let ended = if self.done { "Ended" } else { "Would end" };
        section(&mut text, ended, &self.ended);
        let removed = if self.done { "Removed" } else { "Would remove" };
        containers_section(&mut text, removed, &self.containers.removed);
        section(&mut text, "Could not end", &self.left);
        containers_section(&mut text, "Could not remove", &self.containers.left);
        section(&mut text, "Other dead instances left", &self.elsewhere);
        containers_section(&mut text, "Other dead instances left", &self.containers.elsewhere);
        if verbose {
            section(&mut text, "Kept", &self.kept);
            containers_section(&mut text, "Kept", &self.containers.kept);
        }
        for engine in self.containers.unseen(verbose) {
            // Whole: what to do about it is at its end.
            writeln!(text, "Not looked at: {engine}").expect("a String takes every write");
        }
        if self.is_clean() {
            text.push_str("Nothing to clean up.\n");
        }
        if let Some(pid) = self.running {
            let note =
                format!("mcpvisor runs here (pid {pid}); it ends what its earlier runs left by itself.");
            writeln!(text, "{}", shorten(&note, COLUMNS)).expect("a String takes every write");
        }
        text
    }
}

fn section(text: &mut String, verb: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let noun = if entries.len() == 1 { "process" } else { "processes" };
    writeln!(text, "{verb} {} {noun}:", entries.len()).expect("a String takes every write");
    for entry in entries {
        let server = entry.server.as_deref().unwrap_or("-");
        let head = format!("{:>9}  {server}  {}", entry.pid, entry.command);
        let why = format!("{:>9}  {}", "", entry.because);
        for line in [head, why] {
            writeln!(text, "{}", shorten(&line, COLUMNS)).expect("a String takes every write");
        }
    }
}

fn containers_section(text: &mut String, verb: &str, entries: &[ContainerEntry]) {
    if entries.is_empty() {
        return;
    }
    let noun = if entries.len() == 1 { "container" } else { "containers" };
    writeln!(text, "{verb} {} {noun}:", entries.len()).expect("a String takes every write");
    for line in entries.iter().flat_map(ContainerEntry::lines) {
        writeln!(text, "  {}", shorten(&line, COLUMNS - 2)).expect("a String takes every write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::container_cleanup::EngineEntry;

    fn entry(pid: u32, command: &str, because: &str) -> Entry {
        let (command, because) = (command.to_owned(), because.to_owned());
        Entry { pid, start: 1, server: Some("git".to_owned()), instance: None, command, because }
    }

    fn report() -> CleanupReport {
        CleanupReport {
            state_dir: PathBuf::from("/s"),
            running: None,
            done: false,
            ended: vec![entry(
                4711,
                &"python3 -m mcp_server_git ".repeat(5),
                "its mcpvisor (pid 99) is gone",
            )],
            left: Vec::new(),
            elsewhere: Vec::new(),
            kept: vec![entry(4712, "node a.js", "its mcpvisor (pid 100) runs")],
            containers: ContainersReport::default(),
        }
    }

    fn container() -> ContainerEntry {
        ContainerEntry {
            engine: "unix:///run/docker.sock".to_owned(),
            id: "0123456789abcdef".repeat(4),
            name: "mcpvisor-1a2b3c4d-git-a".to_owned(),
            image: "registry.example.org/a/very/long/name/of/an/image:latest".to_owned(),
            state: "running".to_owned(),
            server: "git".to_owned(),
            instance: Some("1a2b3c4d".repeat(4)),
            session: "5e6f7a8b".repeat(4),
            pid: Some(99),
            started: "2026-11-20T10:18:27.123Z".to_owned(),
            because: "its mcpvisor (pid 99) is gone".to_owned(),
            error: None,
        }
    }

    #[test]
    fn texts_about_containers() {
        let unseen = |needed, absent| EngineEntry {
            engine: "unix:///e".to_owned(),
            needed,
            absent,
            error: Some("engine unix:///e: list containers: permission denied (join the group)".to_owned()),
        };
        let containers = ContainersReport {
            engines: vec![unseen(false, false), unseen(false, true)],
            removed: vec![container()],
            left: vec![ContainerEntry { error: Some("it was slow".to_owned()), ..container() }],
            elsewhere: Vec::new(),
            kept: vec![container()],
        };
        let report = CleanupReport { ended: Vec::new(), kept: Vec::new(), containers, ..report() };
        let lines = "  0123456789ab  mcpvisor-1a2b3c4d-git-a  registry.example.org/a/very/long/name/…\n                \
                     git, session 5e6f7a8b, pid 99, since 2026-11-20T10:18:27Z\n                its mcpvisor (pid 99) \
                     is gone";
        let not_looked =
            "Not looked at: engine unix:///e: list containers: permission denied (join the group)\n";
        assert_eq!(
            report.text(false),
            format!(
                "Would remove 1 container:\n{lines}\nCould not remove 1 container:\n{lines}; it was slow\n{not_looked}"
            )
        );
        let verbose = report.text(true);
        assert!(verbose.contains("Kept 1 container:\n"), "{verbose}");
        assert_eq!(verbose.matches("Not looked at").count(), 2, "{verbose}");
        assert!(!report.is_clean() && report.is_left());
    }

    #[test]
    fn texts() {
        let brief = "Would end 1 process:\n     4711  git  python3 -m mcp_server_git python3 -m mcp_server_git \
                     python3 -m …\n           its mcpvisor (pid 99) is gone\n";
        assert_eq!(report().text(false), brief);
        let kept = "Kept 1 process:\n     4712  git  node a.js\n           its mcpvisor (pid 100) runs\n";
        let done = CleanupReport { done: true, ..report() };
        assert_eq!(done.text(true), format!("{}{kept}", brief.replace("Would end", "Ended")));
        assert!(done.text(true).lines().all(|line| line.chars().count() <= COLUMNS));
        let elsewhere = vec![entry(4713, "node b.js", "its mcpvisor (pid 98) is gone")];
        let listed = CleanupReport { ended: Vec::new(), elsewhere, ..report() };
        let other = "Other dead instances left 1 process:\n     4713  git  node b.js\n           \
                     its mcpvisor (pid 98) is gone\nNothing to clean up.\n";
        assert_eq!((listed.text(false).as_str(), listed.is_clean()), (other, true));
        let none = CleanupReport { ended: Vec::new(), running: Some(7), ..report() };
        assert_eq!(
            none.text(false),
            "Nothing to clean up.\nmcpvisor runs here (pid 7); it ends what its earlier runs left by itself.\n"
        );
    }
}
