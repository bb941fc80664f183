//! A log file that cannot grow for ever: past its limit it becomes `NAME.1`, the one before that `NAME.2`, and so on to the
//! last, which is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
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
    /// The last line was cut by an error.
    torn: bool,
}

/// Lines that could not be written.
#[derive(Debug)]
pub struct Lost {
    pub lines: u64,
    pub why: io::Error,
}

impl LogFile {
    /// Nothing is opened until the first line.
    pub fn new(path: PathBuf, kept: Kept) -> LogFile {
        LogFile { path, file: None, bytes: 0, kept, torn: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whole lines. What cannot be written (disk full) is lost; the next ones begin a new line.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut rest = lines;
        while !rest.is_empty() {
            let mut written = 0;
            let done = self.open().and_then(|()| self.write(self.part(rest), &mut written));
            if let Err(why) = done {
                self.file = None;
                self.torn = written > 0 && rest[written - 1] != b'\n';
                let lines = rest[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
                return Err(Lost { lines, why });
            }
            rest = &rest[written..];
        }
        Ok(())
    }

    /// It was removed: the next line begins another.
    pub fn forget(&mut self) {
        self.file = None;
        self.torn = false;
    }

    /// What of the lines belongs into the file that is written now: up to the line that reaches its limit.
    fn part<'l>(&self, lines: &'l [u8]) -> &'l [u8] {
        let room = usize::try_from(self.kept.bytes.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        let end = lines.get(room..).and_then(|over| over.iter().position(|byte| *byte == b'\n'));
        end.map_or(lines, |end| &lines[..room + end + 1])
    }

    /// The file that the next line goes into.
    fn open(&mut self) -> io::Result<()> {
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
        // One that is too large already is of an earlier run, perhaps with another limit.
        Ok(())
    }

    fn write(&mut self, lines: &[u8], written: &mut usize) -> io::Result<()> {
        let file = self.file.as_mut().expect("it was opened for this");
        if std::mem::take(&mut self.torn) {
            file.write_all(b"\n")?;
        }
        while *written < lines.len() {
            match file.write(&lines[*written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    *written += count;
                    self.bytes += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
    last(&String::from_utf8_lossy(&text), lines)
}

/// The last lines of one file, from at most `bytes` of it; empty if it cannot be read.
pub fn last_lines(path: &Path, bytes: u64, lines: usize) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        // The first one is cut, unless it is the first of the file.
        let whole = if length > bytes { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        Ok(whole.to_owned())
    };
    last(&read().unwrap_or_default(), lines)
}

fn last(text: &str, lines: usize) -> Vec<String> {
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
        log.append(b"the first line, longer than the file may be\n").unwrap();
        fs::remove_file(&path).unwrap();
        log.append(b"the second\n").unwrap();
        assert!(tail(&path, 9).concat().ends_with("the second"));
        log.append(b"the third\n").unwrap();
        log.append(b"the fourth, and over it is\n").unwrap();
        assert_eq!(tail(&path, 9).len(), 3);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        for earlier in [0, 1, 3] {
            let dir = scratch(&format!("kept-{earlier}"));
            let mut log = LogFile::new(dir.join("a.log"), Kept { bytes: 10, earlier });
            // As one batch, or line by line: it is cut all the same.
            let lines: Vec<String> =
                (0..9).map(|n| format!("line {n}, longer than a file may be\n")).collect();
            let (first, rest) = lines.split_at(5);
            log.append(first.concat().as_bytes()).unwrap();
            rest.iter().for_each(|line| log.append(line.as_bytes()).unwrap());
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

    #[test]
    fn what_a_full_disk_has_cut_is_one_line() {
        let full = Path::new("/dev/full");
        let mut log = LogFile::new(full.to_owned(), Kept { bytes: 1 << 20, earlier: 1 });
        let lost = log.append(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((lost.lines, lost.why.kind()), (3, ErrorKind::StorageFull));
        let dir = scratch("torn");
        let path = dir.join("a.log");
        fs::write(&path, "a beginn").unwrap();
        let mut log =
            LogFile { torn: true, ..LogFile::new(path.clone(), Kept { bytes: 1 << 20, earlier: 1 }) };
        log.append(b"whole\n").unwrap();
        assert_eq!(tail(&path, 9), ["a beginn", "whole"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
