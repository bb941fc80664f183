//! A log file that cannot grow for ever: past its limit it becomes `NAME.1`, the one before that `NAME.2`, and so on to the
//! last, which is gone.

use crate::sys::clock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// How much of a log is kept: at most `bytes` (and a line) in the file that is written, and as much in each that was
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub bytes: u64,
    /// Files beside the one that is written.
    pub earlier: u32,
}

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    kept: Kept,
}

impl LogFile {
    /// Nothing is opened until the first line.
    pub fn new(path: PathBuf, kept: Kept) -> LogFile {
        LogFile { path, file: None, bytes: 0, kept }
    }

    /// One line, with the time before it. A log that cannot be written (disk full) stops nobody: the line is lost.
    pub fn line(&mut self, text: &str) {
        self.bare(&format!("{} {text}", clock::wall().rfc3339()));
    }

    /// One line that has its time already.
    pub fn bare(&mut self, text: &str) {
        let line = format!("{text}\n");
        if self.write(line.as_bytes()).is_err() {
            self.file = None;
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > self.kept.bytes {
            self.file = None;
            self.rotate()?;
            self.bytes = 0;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
        }
        let file = self.file.as_mut().expect("opened above");
        self.bytes += line.len() as u64;
        file.write_all(line)
    }

    /// Each takes the place of the one before it. One that somebody has taken away is not missed.
    fn rotate(&self) -> io::Result<()> {
        let unless_missing = |done: io::Result<()>| match done {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        for number in (1..self.kept.earlier).rev() {
            unless_missing(fs::rename(earlier(&self.path, number), earlier(&self.path, number + 1)))?;
        }
        match self.kept.earlier {
            0 => unless_missing(fs::remove_file(&self.path)),
            _ => unless_missing(fs::rename(&self.path, earlier(&self.path, 1))),
        }
    }
}

/// The name of the log that was written so many before this one.
fn earlier(path: &Path, number: u32) -> PathBuf {
    path.with_extension(format!("log.{number}"))
}

/// The last `lines` lines of a log and the one rotated before it, oldest first; empty if there is none.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    let mut text = read(&earlier(path, 1));
    text.extend(read(path));
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mcpvisor-log-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_log_that_was_taken_away_begins_again() {
        let dir = scratch("taken");
        let path = dir.join("a.log");
        let mut log = LogFile::new(path.clone(), Kept { bytes: 40, earlier: 1 });
        log.line("the first line, longer than the file may be");
        fs::remove_file(&path).unwrap();
        log.line("the second");
        assert!(tail(&path, 9).concat().ends_with("the second"));
        log.line("the third");
        log.line("the fourth");
        assert_eq!(tail(&path, 9).len(), 3);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        for earlier in [0, 1, 3] {
            let dir = scratch(&format!("kept-{earlier}"));
            let mut log = LogFile::new(dir.join("a.log"), Kept { bytes: 10, earlier });
            (0..9).for_each(|n| log.line(&format!("line {n}, longer than a file may be")));
            let mut names: Vec<String> = fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let mut expected = vec!["a.log".to_owned()];
            expected.extend((1..=earlier).map(|n| format!("a.log.{n}")));
            assert_eq!(names, expected);
            let oldest = fs::read_to_string(dir.join(expected.last().unwrap())).unwrap();
            assert!(oldest.contains(&format!("line {}", 8 - earlier)), "{oldest}");
            fs::remove_dir_all(dir).unwrap();
        }
    }
}
