//! The log: one line per event on stderr and in `logs/main.log`.
//!
//! Under systemd the journal adds the time, so stderr goes without it. A log file that cannot be written stops
//! nobody.

use crate::base::limits::MAIN_LOG_BYTES_MAX;
use crate::config::Logging;
use crate::sys::clock;
use crate::sys::logfile::{Kept, LogFile};
use env_logger::{Builder, Target};
use log::LevelFilter;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A progress line stands on the terminal: clear it before a log line is written over it.
static LINE_IS_HELD: AtomicBool = AtomicBool::new(false);

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    FileAndStderr,
    /// Nobody watches: stderr is a file that nobody rotates.
    File,
}

/// Once per process. Levels of ours only: no dependency has anything to say to a user.
pub fn start(level: LevelFilter, dir: &Path, logging: &Logging, to: To) {
    let kept = kept(logging, MAIN_LOG_BYTES_MAX);
    let file = std::fs::create_dir_all(dir).is_ok().then(|| LogFile::new(dir.join("main.log"), kept));
    let json = logging.json;
    let tee = Tee {
        json,
        file,
        stderr: to == To::FileAndStderr,
        terminal: io::stderr().is_terminal(),
        journal: std::env::var_os("JOURNAL_STREAM").is_some(),
    };
    let mut builder = Builder::new();
    // The level in force is the facade's, which a changed config moves.
    builder.filter_module("mcpvisor", LevelFilter::Trace).target(Target::Pipe(Box::new(tee)));
    builder.format(move |out, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        if json {
            let line = json!({
                "at": clock::wall().rfc3339(),
                "level": level,
                "message": record.args().to_string(),
            });
            return writeln!(out, "{line}");
        }
        writeln!(out, "{level}: {}", record.args())
    });
    // A second logger in one process would be a mistake of ours, and the first one keeps working.
    let _ = builder.try_init();
    log::set_max_level(level);
}

/// How much of a log is kept, where the config says nothing of its size.
pub fn kept(logging: &Logging, usual: u64) -> Kept {
    let bytes = logging.max_size_mb.map_or(usual, |mb| u64::from(mb) << 20);
    Kept { bytes, earlier: logging.max_files }
}

/// Whether a progress line stands on the terminal.
pub fn hold_line(held: bool) {
    LINE_IS_HELD.store(held, Ordering::Relaxed);
}

struct Tee {
    /// Every line has its time already.
    json: bool,
    file: Option<LogFile>,
    stderr: bool,
    terminal: bool,
    journal: bool,
}

impl Write for Tee {
    /// env_logger writes whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut out = Vec::with_capacity(line.len() + 40);
        if self.terminal && LINE_IS_HELD.load(Ordering::Relaxed) {
            out.extend_from_slice(b"\r\x1b[K");
        }
        let now = clock::wall().rfc3339();
        let time = match (self.journal || self.json, self.terminal) {
            (true, _) => "",
            // The day is known to whoever watches, and 80 columns are few.
            (false, true) => &now["2026-11-20T".len().."2026-11-20T10:18:27".len()],
            (false, false) => &now,
        };
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(if time.is_empty() { b"" } else { b" " });
        out.extend_from_slice(line);
        if self.stderr {
            // A stderr that is closed takes no log; the file does.
            let _ = io::stderr().write_all(&out);
        }
        if let Some(file) = &mut self.file {
            let line = String::from_utf8_lossy(line);
            if self.json { file.bare(line.trim_end()) } else { file.line(line.trim_end()) }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
