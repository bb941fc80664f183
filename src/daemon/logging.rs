//! The log: one line per event on stderr and in `logs/main.log`.
//!
//! Under systemd the journal adds the time, so stderr goes without it. Neither a file that cannot be written nor a stderr
//! that nobody reads stops anybody: files are the writer's (`sys/logs.rs`), and stderr is written to while it takes what
//! we say. Secrets of servers are taken out here, whoever has put them in, and who repeats himself is cut short.

use crate::base::id::fnv1a;
use crate::base::limiter::{Limiter, Rates, Verdict};
use crate::base::limits::{
    LOG_END_PATIENCE, LOG_SETTLE, MAIN_LOG_BYTES_MAX, MAIN_LOG_BYTES_PER_HOUR, MAIN_LOG_WAITING_BYTES,
};
use crate::base::redact;
use crate::base::text;
use crate::config::Logging;
use crate::sys::clock;
use crate::sys::logfile::Kept;
use crate::sys::logs::{Form, Log, Logs, missing};
use crate::sys::stderr::{self, Stderr};
use env_logger::{Builder, Target};
use log::{Level, LevelFilter, Record};
use parking_lot::Mutex;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A progress line stands on the terminal: clear it before a log line is written over it.
static LINE_IS_HELD: AtomicBool = AtomicBool::new(false);

/// What is written of our own lines at `info` and above. A start of a thousand servers is told in full.
const RATES: Rates = Rates {
    lines: 100,
    line_every: Duration::from_secs(600),
    bytes: 256 << 10,
    bytes_per_hour: MAIN_LOG_BYTES_PER_HOUR,
};

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    FileAndStderr,
    /// Nobody watches: stderr is a file that nobody rotates.
    File,
}

/// Once per process. Levels of ours only: no dependency has anything to say to a user. What is returned writes all log
/// files.
pub fn start(level: LevelFilter, dir: &Path, logging: &Logging, to: To) -> io::Result<Logs> {
    let logs = Logs::start()?;
    let form = if logging.json { Form::Json } else { Form::Text };
    let kept = kept(logging, MAIN_LOG_BYTES_MAX);
    let file = std::fs::create_dir_all(dir)
        .is_ok()
        .then(|| logs.open_large(dir.join("main.log"), kept, form, MAIN_LOG_WAITING_BYTES));
    let screen = match to {
        To::File => Screen::Off,
        To::FileAndStderr if stderr::is_file() => Screen::File(logs.stderr(form, MAIN_LOG_WAITING_BYTES)),
        To::FileAndStderr => Screen::Live(Stderr::new()),
    };
    let logger = Logger {
        form,
        terminal: io::stderr().is_terminal(),
        journal: std::env::var_os("JOURNAL_STREAM").is_some(),
        file,
        screen: Mutex::new(screen),
        limiter: Mutex::new(Limiter::new(RATES)),
    };
    // Which records are heard is env_logger's; each is a line for more than one place, so that it has none to write to. The
    // level in force is the facade's, which a changed config moves.
    let mut builder = Builder::new();
    builder.filter_module("mcpvisor", LevelFilter::Trace).target(Target::Pipe(Box::new(io::sink())));
    builder.format(move |_, record| {
        logger.log(record);
        Ok(())
    });
    // A second logger in one process would be a mistake of ours, and the first one keeps working.
    let _ = builder.try_init();
    log::set_max_level(level);
    Ok(logs)
}

/// The last act: what was said is on the disk, if that takes it.
pub fn finish(logs: &Logs) {
    logs.flush(LOG_END_PATIENCE);
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

/// Our stderr.
enum Screen {
    Off,
    /// It may block like any file, and is written like one.
    File(Log),
    Live(Stderr),
}

struct Logger {
    form: Form,
    terminal: bool,
    journal: bool,
    file: Option<Log>,
    screen: Mutex<Screen>,
    limiter: Mutex<Limiter>,
}

impl Logger {
    fn log(&self, record: &Record<'_>) {
        let said = record.args().to_string();
        let mut message = redact::hide_all(&said).into_owned();
        match self.verdict(record, &message) {
            Verdict::LeaveOut => return,
            Verdict::Write { like_it, others } => {
                if others > 0 {
                    let lines = text::count(others);
                    self.write(Level::Warn, &format!("{lines} lines were left out: too many in an hour"));
                }
                if like_it > 0 {
                    message.push_str(&format!(" (and {} more like it, left out)", text::count(like_it)));
                }
            }
        }
        self.write(record.level(), &message);
    }

    /// A line is like another if it comes from the same place and is about the same: what stands before its first colon.
    fn verdict(&self, record: &Record<'_>, message: &str) -> Verdict {
        if record.level() > Level::Info {
            // Whoever asks for these wants them.
            return Verdict::Write { like_it: 0, others: 0 };
        }
        let about = message.split(": ").next().unwrap_or_default();
        let place = (record.file().unwrap_or_default(), record.line().unwrap_or_default());
        let subject = fnv1a(format!("{place:?} {about}").as_bytes());
        let urgent = record.level() == Level::Error;
        self.limiter.lock().ask(subject, message.len(), urgent, clock::now())
    }

    fn write(&self, level: Level, message: &str) {
        let at = clock::wall().rfc3339();
        let word = level.as_str().to_ascii_lowercase();
        let line = match self.form {
            Form::Json => json!({"at": at, "level": word, "message": message}).to_string(),
            Form::Text => format!("{word}: {message}"),
        };
        self.show(&at, &line);
        let Some(file) = &self.file else { return };
        match self.form {
            Form::Json => file.push(&[&line]),
            Form::Text => file.push(&[&at, " ", &line]),
        }
        if level == Level::Error {
            // It may be the last that we say.
            file.settle(LOG_SETTLE);
        }
    }

    fn show(&self, at: &str, line: &str) {
        let time = match (self.journal || self.form == Form::Json, self.terminal) {
            (true, _) => "",
            // The day is known to whoever watches, and 80 columns are few.
            (false, true) => &at["2026-11-20T".len().."2026-11-20T10:18:27".len()],
            (false, false) => at,
        };
        let space = if time.is_empty() { "" } else { " " };
        match &mut *self.screen.lock() {
            Screen::Off => {}
            Screen::File(log) => log.push(&[time, space, line]),
            Screen::Live(stderr) => {
                let clear = self.terminal && LINE_IS_HELD.load(Ordering::Relaxed);
                let clear = if clear { "\r\x1b[K" } else { "" };
                let whole = format!("{clear}{time}{space}{line}\n");
                stderr.line(whole.as_bytes(), |lost| missing(lost, "nobody read them", self.form).into());
            }
        }
    }
}
