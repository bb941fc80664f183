//! A log file that cannot grow for ever: past its limit it becomes `NAME.1`, and the one before that is gone.

use crate::sys::clock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

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
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
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
