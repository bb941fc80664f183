//! Everything that a daemon holds, by kind and number: two that are equal hold the same.

use mcpvisor::sys::procfs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Names of threads, of guardian and daemon.
    threads: BTreeMap<String, usize>,
    /// What their descriptors are: paths, `socket`, `pipe` …
    descriptors: BTreeMap<String, usize>,
    watches: usize,
    /// Names of all that descend from the guardian or carry the mark, zombies too.
    pub processes: Vec<String>,
    /// The servers whose containers are on the engine, in whatever state.
    pub containers: Vec<String>,
    /// In its home: state directory, temporary directory and all. What servers have said is kept when they are gone: their
    /// logs are not among these.
    files: Vec<String>,
}

impl Census {
    /// Of guardian and daemon, whose processes carry this mark, and who live in this directory.
    pub fn of(both: &[u32; 2], mark: &str, home: &Path) -> Census {
        let mut census = Census { processes: processes(both[0], mark), ..Census::default() };
        for pid in both {
            for name in entries(format!("/proc/{pid}/task")) {
                let name = fs::read_to_string(format!("/proc/{pid}/task/{name}/comm")).unwrap_or_default();
                // What was left by the dead is looked for behind the start, in its own time.
                if name.starts_with("sweep") {
                    continue;
                }
                // Engines' threads are numbered anew after each that was forgotten.
                *census.threads.entry(name.trim_end().trim_end_matches(numeric).to_owned()).or_default() += 1;
            }
            for number in entries(format!("/proc/{pid}/fd")) {
                let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{number}")) else { continue };
                let target = target.to_string_lossy();
                // `socket:[123]`, and `/proc/123/…`
                let kind = target.split(":[").next().unwrap_or_default();
                *census.descriptors.entry(kind.replace(numeric, "")).or_default() += 1;
                let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
                census.watches += info.lines().filter(|line| line.starts_with("inotify wd:")).count();
            }
        }
        files(home, home, &mut census.files);
        census.files.sort();
        census
    }

    /// In one line.
    pub fn line(&self) -> String {
        let sum = |of: &BTreeMap<String, usize>| of.values().sum::<usize>();
        format!(
            "{} threads, {} fds, {} watches, {} processes, {} containers, {} files",
            sum(&self.threads),
            sum(&self.descriptors),
            self.watches,
            self.processes.len(),
            self.containers.len(),
            self.files.len()
        )
    }

    /// What is other than in `before`, a line each.
    pub fn differences(&self, before: &Census) -> String {
        let mut lines = vec![format!("before: {}", before.line()), format!("now:    {}", self.line())];
        for (now, was) in [(&self.threads, &before.threads), (&self.descriptors, &before.descriptors)] {
            for name in now.keys().chain(was.keys()).collect::<BTreeSet<_>>() {
                if now.get(name) != was.get(name) {
                    lines.push(format!("{name}: {:?}, was {:?}", now.get(name), was.get(name)));
                }
            }
        }
        let lists = [
            (&self.processes, &before.processes),
            (&self.containers, &before.containers),
            (&self.files, &before.files),
        ];
        for (now, was) in lists {
            let more = now.iter().filter(|name| !was.contains(name)).map(|name| format!("+ {name}"));
            let less = was.iter().filter(|name| !now.contains(name)).map(|name| format!("- {name}"));
            lines.extend(more.chain(less).take(20));
        }
        lines.join("\n")
    }
}

fn numeric(c: char) -> bool {
    c.is_ascii_digit()
}

/// Names in a directory; none if it is gone.
fn entries(dir: String) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn processes(guardian: u32, mark: &str) -> Vec<String> {
    let all = procfs::all();
    let mut found: BTreeSet<u32> =
        crate::support::processes::marked(mark).into_iter().map(|process| process.pid).collect();
    found.insert(guardian);
    loop {
        let before = found.len();
        found.extend(
            all.iter().filter(|one| found.contains(&one.ppid)).map(|one| one.pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    let named = all.iter().filter(|one| found.contains(&one.pid));
    let mut names: Vec<String> = named.map(|one| format!("{} {}", one.comm, one.state == 'Z')).collect();
    names.sort();
    names
}

fn files(dir: &Path, home: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("state/logs") {
            continue;
        }
        let shown = path.strip_prefix(home).unwrap_or(&path).to_string_lossy().into_owned();
        // Of each life another one: what counts is how many there are.
        let of_life = path.parent().is_some_and(|dir| dir.ends_with("cidfiles"));
        let server = shown.rsplit_once('-').filter(|_| of_life).map(|(server, _)| server.to_owned());
        found.push(server.unwrap_or(shown));
        if path.is_dir() {
            files(&path, home, found);
        }
    }
}
