//! Where the daemon is, and one of its own for the bridge where none answers.
//!
//! It owns the decision to start `mcpvisor serve --ephemeral`. Two bridges that start at once may both do so: the
//! state directory's lock lets one daemon live, and both end up on it.

use crate::base::limits::EPHEMERAL_LOG_BYTES_MAX;
use crate::base::time::Time;
use crate::cli::control::Control;
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{Options, state_dir};
use crate::sys::{clock, guard, hold, thread};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

/// A daemon that has been there is waited for before another is started: whoever runs it may be starting it anew.
const RETURN_PATIENCE: Duration = Duration::from_secs(3);

/// From the start of a daemon to its socket. 10 s: it takes 10 ms; a machine that boots may be slow.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// For the instance's lock while its holder has no socket: it is starting, or shutting down.
const HELD_PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the socket.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Of what a daemon said before it ended.
const TAIL_BYTES: u64 = 4 << 10;
const TAIL_LINES: usize = 6;

pub struct Home {
    pub control: Control,
    state_dir: PathBuf,
    options: Options,
}

impl Home {
    pub fn of(options: &Options) -> Result<Home, Failure> {
        let state_dir = state_dir(options)?;
        Ok(Home { control: Control::at(&state_dir), state_dir, options: options.clone() })
    }

    /// A connection to the daemon. Where none answers: waits a little if there `was_one`, then starts one. One caller
    /// at a time.
    pub fn reach(&self, was_one: bool) -> Result<UnixStream, Failure> {
        let until = clock::now() + if was_one { RETURN_PATIENCE } else { Duration::ZERO };
        match self.connect_until(until) {
            Err(failure) if failure.exit == Exit::NoDaemon => self.start(),
            other => other,
        }
    }

    fn connect_until(&self, until: Time) -> Result<UnixStream, Failure> {
        loop {
            match self.control.connect() {
                Err(failure) if failure.exit == Exit::NoDaemon && clock::now() < until => {
                    hold::pause_until(clock::now() + LOOK_EVERY);
                }
                other => return other,
            }
        }
    }

    fn start(&self) -> Result<UnixStream, Failure> {
        let give_up = clock::now() + HELD_PATIENCE;
        loop {
            let mut daemon = Starting::begin(self)?;
            match daemon.wait(self)? {
                Some(stream) => {
                    daemon.reap_behind();
                    return Ok(stream);
                }
                // Somebody else's daemon has the lock: it will have a socket soon, or has just given it up.
                None if clock::now() < give_up => hold::pause_until(clock::now() + LOOK_EVERY * 5),
                None => {
                    let dir = self.state_dir.display();
                    let message = format!("a daemon holds {dir} and does not answer on its socket");
                    return Err(Failure::new(Exit::AlreadyRunning, message).hint("its log says more"));
                }
            }
            if let Ok(stream) = self.control.connect() {
                return Ok(stream);
            }
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let Options { config, log_level, .. } = &self.options;
        let mut arguments: Vec<OsString> = ["serve", "--ephemeral", "--state-dir"].map(OsString::from).into();
        arguments.push(self.state_dir.clone().into());
        if let Some(config) = config {
            arguments.extend(["--config".into(), config.clone().into()]);
        }
        if let Some(level) = log_level {
            arguments.extend(["--log-level".into(), level.as_str().to_ascii_lowercase().into()]);
        }
        arguments
    }
}

/// A daemon that has no socket yet.
struct Starting {
    process: Child,
    /// Its stderr, and where in it this run begins.
    log: File,
    log_from: u64,
    until: Time,
}

impl Starting {
    fn begin(home: &Home) -> Result<Starting, Failure> {
        let failed = |error: io::Error| {
            let dir = home.state_dir.display();
            Failure::new(Exit::Failed, format!("start mcpvisor serve --ephemeral in {dir}: {error}"))
        };
        let mut log = open_log(&home.state_dir).map_err(failed)?;
        let log_from = log.seek(SeekFrom::End(0)).map_err(failed)?;
        let stderr = log.try_clone().map_err(failed)?;
        let process = guard::run_detached(&home.arguments(), stderr).map_err(failed)?;
        Ok(Starting { process, log, log_from, until: clock::now() + START_PATIENCE })
    }

    /// A connection to it, or to another one that was quicker; `None` if another one has the lock.
    fn wait(&mut self, home: &Home) -> Result<Option<UnixStream>, Failure> {
        loop {
            if let Ok(stream) = home.control.connect() {
                return Ok(Some(stream));
            }
            let ended = self.process.try_wait().map_err(|error| {
                Failure::new(Exit::Failed, format!("wait for mcpvisor serve --ephemeral: {error}"))
            })?;
            match ended.map(|status| status.code()) {
                None if clock::now() < self.until => hold::pause_until(clock::now() + LOOK_EVERY),
                None => return Err(self.failure(Exit::NoDaemon, "has not opened its socket in 10 s")),
                Some(Some(code)) if code == i32::from(Exit::AlreadyRunning.code()) => return Ok(None),
                Some(code) => {
                    let known =
                        code.and_then(|code| Exit::ALL.into_iter().find(|e| i32::from(e.code()) == code));
                    let how = match code {
                        Some(code) => format!("ended with exit code {code}"),
                        None => "was killed".to_owned(),
                    };
                    return Err(self.failure(known.unwrap_or(Exit::Failed), &how));
                }
            }
        }
    }

    fn failure(&mut self, exit: Exit, how: &str) -> Failure {
        let tail = self.tail();
        let said = if tail.is_empty() { tail } else { format!(": {tail}") };
        Failure::new(exit, format!("mcpvisor serve --ephemeral {how}{said}"))
    }

    /// The last lines that it wrote.
    fn tail(&mut self) -> String {
        let mut bytes = Vec::new();
        let end = self.log.seek(SeekFrom::End(0)).unwrap_or(self.log_from);
        let from = self.log_from.max(end.saturating_sub(TAIL_BYTES));
        // What cannot be read is left out: the exit code is said anyway.
        let _ = self.log.seek(SeekFrom::Start(from));
        let _ = (&self.log).take(TAIL_BYTES).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("; ")
    }

    /// The thread "ephemeral": waits for the child, so that it is no zombie when it ends before us.
    fn reap_behind(self) {
        let Starting { mut process, .. } = self;
        // Without the thread it stays a zombie until we end, which harms nobody.
        let _ = thread::spawn("ephemeral", move || process.wait());
    }
}

fn open_log(state_dir: &Path) -> io::Result<File> {
    let logs = state_dir.join("logs");
    DirBuilder::new().recursive(true).mode(0o700).create(&logs)?;
    let mut open = OpenOptions::new();
    let log = open.create(true).read(true).append(true).mode(0o600).open(logs.join("ephemeral.log"))?;
    if log.metadata()?.len() > EPHEMERAL_LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}
