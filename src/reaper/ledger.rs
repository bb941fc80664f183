//! The ledger: what lives, written down as it happens, for the start after a crash that took everybody.
//!
//! A second net under the mark: it finds servers that cleared their environment, by pid and start time, and what
//! they started, by the cgroup or by the pipes that they still hold. Written without fsync: a crash of ours loses
//! nothing, and a crash of the machine ends every process in it anyway.
//!
//! ```text
//! session SESSION BOOT PIDNS
//! cgroup PATH
//! life PID START PGID SERVER PIPE,PIPE,PIPE
//! gone PID START
//! ```

use super::instance::{Instance, write_atomic};
use super::mark::Place;
use crate::base::limits::{LEDGER_BYTES_MAX, LEDGER_LIVES_MAX, LEDGER_SESSIONS_MAX};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FILE: &str = "lives";

/// The leader of one life, and the pipes that only it and its descendants hold beside us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub pid: u32,
    pub start: u64,
    pub pgid: u32,
    pub server: String,
    /// Inodes.
    pub pipes: Vec<u64>,
}

/// What one run of the daemon wrote and did not take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub session: String,
    pub place: Place,
    pub cgroup: Option<PathBuf>,
    lives: BTreeMap<(u32, u64), Leader>,
}

impl Section {
    fn new(session: &str, place: Place) -> Section {
        Section { session: session.to_owned(), place, cgroup: None, lives: BTreeMap::new() }
    }

    pub fn leaders(&self) -> impl Iterator<Item = &Leader> {
        self.lives.values()
    }
}

/// The ledger of this run; shared by the threads that start and end lives.
#[derive(Debug)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    path: PathBuf,
    file: File,
    bytes: usize,
    earlier: Vec<Section>,
    current: Section,
}

impl Ledger {
    /// Begins the section of this run. Returns also what earlier runs left in it, for the sweep.
    pub fn open(instance: &Instance, cgroup: Option<&Path>) -> io::Result<(Ledger, Vec<Section>)> {
        let earlier = read(&instance.dir);
        let mut current = Section::new(&instance.session, Place::here());
        current.cgroup = cgroup.map(Path::to_owned);
        let path = instance.dir.join(FILE);
        let (file, bytes) = begin(&path, &current)?;
        let mut book = Book { path, file, bytes, earlier: earlier.clone(), current };
        if book.bytes > LEDGER_BYTES_MAX {
            book.compact();
        }
        Ok((Ledger(Mutex::new(book)), earlier))
    }

    pub fn born(&self, leader: Leader) {
        let mut book = self.0.lock();
        let line = life_line(&leader);
        book.current.lives.insert((leader.pid, leader.start), leader);
        book.append(&line);
    }

    /// The life is over and nothing of it is left.
    pub fn gone(&self, pid: u32, start: u64) {
        let mut book = self.0.lock();
        if book.current.lives.remove(&(pid, start)).is_some() {
            book.append(&format!("gone {pid} {start}\n"));
        }
    }

    /// The sweep has ended everything that earlier runs left: only what lives now is kept.
    pub fn forget_earlier(&self) {
        let mut book = self.0.lock();
        book.earlier.clear();
        book.compact();
    }
}

impl Book {
    fn append(&mut self, line: &str) {
        if self.bytes + line.len() > LEDGER_BYTES_MAX {
            return self.compact();
        }
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => self.bytes += line.len(),
            Err(error) => log::warn!("write {}: {error}", self.path.display()),
        }
    }

    fn compact(&mut self) {
        while self.current.lives.len() > LEDGER_LIVES_MAX {
            self.current.lives.pop_first();
        }
        match rewrite(&self.path, &self.earlier, &self.current) {
            Ok((file, bytes)) => (self.file, self.bytes) = (file, bytes),
            Err(error) => log::warn!("write {}: {error}", self.path.display()),
        }
    }
}

/// What the ledger in `dir` says; empty if there is none. Only means something under the lock.
pub fn read(dir: &Path) -> Vec<Section> {
    parse(&fs::read_to_string(dir.join(FILE)).unwrap_or_default())
}

/// Nothing of what it says is left. Under the lock, by whoever is no daemon.
pub fn forget(dir: &Path) {
    match fs::remove_file(dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("remove the ledger: {error}"),
        Ok(()) | Err(_) => (),
    }
}

/// Adds a section at the end. Not written anew, as that costs the start milliseconds; the sweep does, beside it.
fn begin(path: &Path, current: &Section) -> io::Result<(File, usize)> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    // The last line of a run may be torn.
    let text = format!("\n{}", section_text(current));
    file.write_all(text.as_bytes())?;
    let bytes = file.metadata()?.len() as usize;
    Ok((file, bytes))
}

fn rewrite(path: &Path, earlier: &[Section], current: &Section) -> io::Result<(File, usize)> {
    let text: String = earlier.iter().chain([current]).map(section_text).collect();
    write_atomic(path, text.as_bytes())?;
    Ok((OpenOptions::new().append(true).open(path)?, text.len()))
}

fn section_text(section: &Section) -> String {
    let Place { boot, pid_namespace } = &section.place;
    let mut text = format!("session {} {boot} {pid_namespace}\n", section.session);
    if let Some(cgroup) = section.cgroup.as_ref().and_then(|path| path.to_str()).filter(|p| !p.contains('\n'))
    {
        writeln!(text, "cgroup {cgroup}").expect("a String takes every write");
    }
    section.lives.values().for_each(|leader| text.push_str(&life_line(leader)));
    text
}

fn life_line(leader: &Leader) -> String {
    let Leader { pid, start, pgid, server, pipes } = leader;
    let pipes: Vec<String> = pipes.iter().map(u64::to_string).collect();
    format!("life {pid} {start} {pgid} {server} {}\n", pipes.join(","))
}

/// Lines that cannot be read (the last one, after a crash of the machine) are passed over. Sections in which
/// nothing is left are not returned.
fn parse(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        if word == "session" {
            sections.extend(parse_session(rest));
        } else if let Some(section) = sections.last_mut() {
            parse_entry(section, word, rest);
        }
    }
    sections.retain(|section| section.cgroup.is_some() || !section.lives.is_empty());
    let surplus = sections.len().saturating_sub(LEDGER_SESSIONS_MAX);
    sections.split_off(surplus)
}

fn parse_session(rest: &str) -> Option<Section> {
    let mut words = rest.split(' ');
    let (session, boot) = (words.next()?, words.next()?);
    let place = Place { boot: boot.to_owned(), pid_namespace: words.next()?.parse().ok()? };
    Some(Section::new(session, place))
}

fn parse_entry(section: &mut Section, word: &str, rest: &str) {
    match word {
        "cgroup" => section.cgroup = Some(PathBuf::from(rest)),
        "life" => {
            let leader = parse_leader(rest).filter(|_| section.lives.len() < LEDGER_LIVES_MAX);
            section.lives.extend(leader.map(|leader| ((leader.pid, leader.start), leader)));
        }
        "gone" => {
            let identity =
                rest.split_once(' ').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
            identity.and_then(|identity| section.lives.remove(&identity));
        }
        // A word of a later version.
        _ => (),
    }
}

fn parse_leader(rest: &str) -> Option<Leader> {
    let mut words = rest.split(' ');
    Some(Leader {
        pid: words.next()?.parse().ok()?,
        start: words.next()?.parse().ok()?,
        pgid: words.next()?.parse().ok()?,
        server: words.next()?.to_owned(),
        pipes: words.next()?.split(',').filter_map(|inode| inode.parse().ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(pid: u32) -> Leader {
        Leader { pid, start: 7, pgid: pid, server: "git".to_owned(), pipes: vec![1, 2, 3] }
    }

    #[test]
    fn what_was_written_and_not_taken_back() {
        let text = "life 1 1 1 early 1\nsession a b-1 5\ncgroup /x y\nlife 10 7 10 git 1,2,3\nlife 11 7 11 git 1,2,3\n\
                    gone 10 7\nnonsense\nlater word\nsession b b-2 5\nlife 12 7 12 git 1,2,3\nlife 13 7 1";
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].cgroup, Some(PathBuf::from("/x y")));
        assert_eq!(found[0].leaders().collect::<Vec<_>>(), [&leader(11)]);
        assert_eq!(found[1].place, Place { boot: "b-2".to_owned(), pid_namespace: 5 });
        assert_eq!(found[1].leaders().collect::<Vec<_>>(), [&leader(12)]);
        let again: String = found.iter().map(section_text).collect();
        assert_eq!(parse(&again), found);
    }

    #[test]
    fn empty_sections_are_forgotten_and_many_bounded() {
        assert_eq!(parse("session a b 5\nlife 1 1 1 x 1\ngone 1 1\n"), []);
        let many: String = (0..100).map(|n| format!("session s{n} b 5\ncgroup /c\n")).collect();
        let found = parse(&many);
        assert_eq!((found.len(), found[0].session.as_str()), (LEDGER_SESSIONS_MAX, "s84"));
    }

    #[test]
    fn across_runs() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-ledger-{}", std::process::id()));
        let instance = Instance::open(&dir).unwrap();
        let (ledger, earlier) = Ledger::open(&instance, Some(Path::new("/cg"))).unwrap();
        assert_eq!(earlier, []);
        ledger.born(leader(10));
        ledger.born(leader(11));
        ledger.gone(10, 7);
        let (second, earlier) = Ledger::open(&instance, None).unwrap();
        assert_eq!(earlier.len(), 1);
        assert_eq!(earlier[0].leaders().collect::<Vec<_>>(), [&leader(11)]);
        second.born(leader(12));
        second.forget_earlier();
        let left = read(&dir);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].leaders().collect::<Vec<_>>(), [&leader(12)]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn stays_small() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-ledger-small-{}", std::process::id()));
        let instance = Instance::open(&dir).unwrap();
        let (ledger, _) = Ledger::open(&instance, None).unwrap();
        for pid in 1..20_000 {
            ledger.born(leader(pid));
            ledger.gone(pid, 7);
        }
        assert!(fs::metadata(dir.join(FILE)).unwrap().len() <= LEDGER_BYTES_MAX as u64);
        fs::remove_dir_all(&dir).unwrap();
    }
}
