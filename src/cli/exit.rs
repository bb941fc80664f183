//! How a command ends: the closed list of exit codes, and the failure that carries one.
//!
//! Scripts look at the code, people read the text. The numbers are DESIGN 13's and never change.

use crate::base::fault::Fault;
use std::fmt;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// It was tried and did not work.
    Failed = 1,
    /// The command line was not understood; nothing was tried.
    Usage = 2,
    /// There was nothing to do.
    NothingDone = 3,
    /// The config cannot be used as written.
    Config = 4,
    /// The operating system refused.
    Permission = 5,
    /// Another daemon owns the state directory.
    AlreadyRunning = 6,
    /// No daemon answers on the control socket.
    NoDaemon = 7,
    /// A Docker-compatible engine is needed and does not answer.
    EngineUnavailable = 8,
}

impl Exit {
    pub const ALL: [Exit; 9] = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::NothingDone,
        Exit::Config,
        Exit::Permission,
        Exit::AlreadyRunning,
        Exit::NoDaemon,
        Exit::EngineUnavailable,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit of a code that a lower floor chose; a code that is none of ours is a failure.
    pub fn of_code(code: u8) -> Exit {
        Exit::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::Failed)
    }

    /// The meaning, as the help prints it.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NothingDone => "nothing done",
            Exit::Config => "config",
            Exit::Permission => "permission",
            Exit::AlreadyRunning => "already running",
            Exit::NoDaemon => "no daemon",
            Exit::EngineUnavailable => "engine unavailable",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// What we tried, why it failed, one hint (may be empty), and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: String,
}

/// What a command comes to.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: String::new() }
    }

    /// The fault's words, with this exit.
    pub fn of(exit: Exit, fault: Fault) -> Failure {
        Failure { exit, message: fault.message, hint: fault.hint }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = hint.into();
        self
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::of(Exit::Failed, fault)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
