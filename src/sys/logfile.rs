//! A log file that cannot grow for ever: past its limit it becomes `NAME.1`, and the one before that is gone.

use crate::sys::clock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    /// Nothing is opened until the first line.
    pub fn new(path: PathBuf, bytes_max: u64) -> LogFile {
        LogFile { path, file: None, bytes: 0, bytes_max }
    }

    /// One line, with the time before it. A log that cannot be written (disk full) stops nobody: the line is lost.
    pub fn line(&mut self, text: &str) {
        let line = format!("{} {text}\n", clock::wall().rfc3339());
        if self.write(line.as_bytes()).is_err() {
            self.file = None;
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > self.bytes_max {
            self.file = None;
            match fs::rename(&self.path, self.path.with_extension("log.1")) {
                // Somebody has taken it away already.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => self.bytes = 0,
            }
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
}

/// The last `lines` lines of a log and the one rotated before it, oldest first; empty if there is none.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    let mut text = read(&path.with_extension("log.1"));
    text.extend(read(path));
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_taken_away_begins_again() {
        let path = std::env::temp_dir().join(format!("mcpvisor-taken-{}.log", std::process::id()));
        let mut log = LogFile::new(path.clone(), 40);
        log.line("the first line, longer than the file may be");
        fs::remove_file(&path).unwrap();
        log.line("the second");
        assert!(tail(&path, 9).concat().ends_with("the second"));
        log.line("the third");
        log.line("the fourth");
        assert_eq!(tail(&path, 9).len(), 3);
        fs::remove_file(&path).unwrap();
        fs::remove_file(path.with_extension("log.1")).unwrap();
    }
}
