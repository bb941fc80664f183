//! An engine that only the user's own command can reach (`sudo docker`, `docker --context …` over ssh): listing,
//! looking and removing by that command.
//!
//! Each call is a child process with nothing on its stdin, a deadline, and bounded output. It knows no more than exit
//! codes and JSON: texts are for people.

use super::answers::{Inspected, Listed};
use super::api::Engine;
use super::calls::label_filters;
use super::error::{EngineError, EngineErrorKind};
use super::patience::Patience;
use crate::base::fault::FaultKind;
use crate::base::limits::{ENGINE_ANSWER_BYTES_MAX, ENGINE_CLI_KILL_PATIENCE, STDERR_LINE_BYTES_MAX};
use crate::sys::net::poll_until;
use crate::sys::spawn::{Child, Exit, Program, spawn};
use crate::sys::{clock, thread};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, OwnedFd};

/// How to speak with an engine by command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliEngine {
    /// The command up to the subcommand: `["sudo", "docker", "-H", "…"]`.
    pub prefix: Vec<String>,
    /// The whole environment of the command.
    pub env: Vec<(String, String)>,
}

/// Whichever way there is to an engine; what both ways can do.
#[derive(Clone, Debug)]
pub enum Reach {
    Api(Engine),
    Cli(CliEngine),
}

impl Reach {
    pub fn list(&self, labels: &[(&str, &str)], patience: &Patience) -> Result<Vec<Listed>, EngineError> {
        match self {
            Reach::Api(engine) => engine.list(labels, patience),
            Reach::Cli(engine) => engine.list(labels, patience),
        }
    }

    pub fn inspect(&self, id: &str, patience: &Patience) -> Result<Inspected, EngineError> {
        match self {
            Reach::Api(engine) => engine.inspect(id, patience),
            Reach::Cli(engine) => engine.inspect(id, patience),
        }
    }

    pub fn kill(&self, id: &str, signal: &str, patience: &Patience) -> Result<(), EngineError> {
        match self {
            Reach::Api(engine) => engine.kill(id, signal, patience),
            Reach::Cli(engine) => engine.kill(id, signal, patience),
        }
    }

    pub fn remove(&self, id: &str, patience: &Patience) -> Result<(), EngineError> {
        match self {
            Reach::Api(engine) => engine.remove(id, patience),
            Reach::Cli(engine) => engine.remove(id, patience),
        }
    }
}

/// How a command ended.
struct Ran {
    exit: Exit,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ran {
    fn is_good(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// The last words of the command, or how it ended.
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        match text.trim() {
            "" => format!("the command {}", self.exit),
            words => words.to_owned(),
        }
    }
}

impl CliEngine {
    /// As [`Engine::list`].
    pub fn list(&self, labels: &[(&str, &str)], patience: &Patience) -> Result<Vec<Listed>, EngineError> {
        let doing = "list containers";
        let filters: Vec<String> =
            label_filters(labels).iter().map(|label| format!("label={label}")).collect();
        let mut args = vec!["ps", "-aq", "--no-trunc"];
        for filter in &filters {
            args.extend(["--filter", filter]);
        }
        let ids = self.ids(doing, &args, patience)?;
        let mut found = Vec::with_capacity(ids.len());
        // One by one: when one of several has gone meanwhile, the command shows the others and fails all the same.
        for id in &ids {
            match self.inspect(id, patience) {
                Ok(container) => found.push(container.into_listed()),
                Err(error) if error.kind == EngineErrorKind::NoSuchContainer => (),
                Err(error) => return Err(EngineError { doing, ..error }),
            }
        }
        Ok(found)
    }

    /// As [`Engine::inspect`], by id or name.
    pub fn inspect(&self, id: &str, patience: &Patience) -> Result<Inspected, EngineError> {
        let doing = "inspect a container";
        let ran = self.run(doing, &["container", "inspect", id], patience)?;
        if !ran.is_good() {
            return Err(self.why(doing, id, &ran, patience));
        }
        let [container]: [Inspected; 1] = serde_json::from_slice(&ran.stdout).map_err(|error| {
            EngineError::new(EngineErrorKind::Garbled, doing, format!("its answer cannot be read: {error}"))
        })?;
        Ok(container)
    }

    /// As [`Engine::kill`].
    pub fn kill(&self, id: &str, signal: &str, patience: &Patience) -> Result<(), EngineError> {
        let doing = "signal a container";
        let ran = self.run(doing, &["kill", "--signal", signal, id], patience)?;
        if ran.is_good() { Ok(()) } else { Err(self.why(doing, id, &ran, patience)) }
    }

    /// As [`Engine::remove`]: one that is gone is as good as removed.
    pub fn remove(&self, id: &str, patience: &Patience) -> Result<(), EngineError> {
        let doing = "remove a container";
        let ran = self.run(doing, &["rm", "-f", "-v", id], patience)?;
        if ran.is_good() {
            return Ok(());
        }
        match self.why(doing, id, &ran, patience) {
            error if error.kind == EngineErrorKind::NoSuchContainer => Ok(()),
            error => Err(error),
        }
    }

    /// Why a command about one container failed. Its exit code does not say, so the engine is asked what it has: no
    /// answer speaks of the engine, an answer without the container of that, and else the command has its own reason.
    fn why(&self, doing: &'static str, id: &str, ran: &Ran, patience: &Patience) -> EngineError {
        let all = ["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}"];
        match self.ids(doing, &all, patience) {
            Err(error) => error,
            Ok(known) if known.iter().any(|word| word == id) => {
                EngineError::new(EngineErrorKind::Failed(500), doing, ran.words())
            }
            Ok(_) => EngineError::new(EngineErrorKind::NoSuchContainer, doing, ran.words()),
        }
    }

    /// The words that a `ps` prints. There is nothing in these arguments that an engine could refuse: a failure means
    /// that it was not reached.
    fn ids(
        &self,
        doing: &'static str,
        args: &[&str],
        patience: &Patience,
    ) -> Result<Vec<String>, EngineError> {
        let ran = self.run(doing, args, patience)?;
        if !ran.is_good() {
            return Err(EngineError::new(EngineErrorKind::Refused, doing, ran.words()));
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        Ok(text
            .split([' ', '\n', ','])
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn run(&self, doing: &'static str, args: &[&str], patience: &Patience) -> Result<Ran, EngineError> {
        let fails = |kind, why: String| EngineError::new(kind, doing, why);
        let Some((command, before)) = self.prefix.split_first() else {
            return Err(fails(EngineErrorKind::Absent, "there is no command to reach it by".to_owned()));
        };
        let args = before.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        let program = Program { command: command.clone(), args, env: self.env.clone(), dir: None };
        let (child, stdin) = spawn(&program).map_err(|fault| {
            let host = fault.kind == FaultKind::HostResources;
            fails(if host { EngineErrorKind::Host } else { EngineErrorKind::Absent }, fault.to_string())
        })?;
        // It reads the end at once: a command that asks for a password gives up.
        drop(stdin);
        let mut running = Running { child: Some(child), stdout: Vec::new(), stderr: Vec::new() };
        let exit = running.finish(patience).map_err(|trouble| trouble.during(doing))?;
        if running.stdout.len() > ENGINE_ANSWER_BYTES_MAX {
            return Err(fails(EngineErrorKind::Garbled, "its answer is too long".to_owned()));
        }
        let (stdout, stderr) = (std::mem::take(&mut running.stdout), std::mem::take(&mut running.stderr));
        Ok(Ran { exit, stdout, stderr })
    }
}

/// A command under way. Dropped before it has ended, it is killed with its group; it is reaped in any case.
struct Running {
    child: Option<Child>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    /// Reads both outputs until the command itself has ended. What it leaves behind with its outputs open (an ssh
    /// master) is not waited for.
    fn finish(&mut self, patience: &Patience) -> Result<Exit, super::error::Trouble> {
        let child = self.child.as_ref().expect("taken only when dropped");
        let (mut open_out, mut open_err) = (true, true);
        loop {
            // Asked before reading: what an ended command has written is there to be read, and fits in a pipe.
            let exit = child.exited();
            open_out = open_out && drain(&child.stdout, &mut self.stdout, ENGINE_ANSWER_BYTES_MAX + 1);
            open_err = open_err && drain(&child.stderr, &mut self.stderr, STDERR_LINE_BYTES_MAX);
            if let Some(exit) = exit {
                return Ok(exit);
            }
            let mut fds = vec![child.exit_poll()];
            fds.extend(open_out.then(|| PollFd::new(child.stdout.as_fd(), PollFlags::POLLIN)));
            fds.extend(open_err.then(|| PollFd::new(child.stderr.as_fd(), PollFlags::POLLIN)));
            patience.wait_any(fds)?;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        if child.exited().is_none() {
            child.signal_group(Signal::SIGKILL);
            let deadline = clock::now() + ENGINE_CLI_KILL_PATIENCE;
            // A failed poll is like a passed deadline: somebody else waits on.
            let _ = poll_until(&mut [child.exit_poll()], Some(deadline));
        }
        if child.exited().is_some() {
            child.reap();
            return;
        }
        // One that changed its user (sudo) cannot be killed by us. The thread ends with it.
        log::warn!("the command with pid {} does not end", child.pid);
        let waits = thread::spawn(&format!("reap:{}", child.pid), move || child.reap());
        if let Err(error) = waits {
            log::warn!("start a thread to reap a command: {error}");
        }
    }
}

/// Reads of one output before the other, the exit and the deadline are looked at again: a command may write faster than
/// we read.
const READS: usize = 64;

/// Reads what is there, keeping the first `most` bytes; whether more may come.
fn drain(from: &OwnedFd, to: &mut Vec<u8>, most: usize) -> bool {
    let mut buffer = [0; 16 << 10];
    for _ in 0..READS {
        match nix::unistd::read(from, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                let room = most.saturating_sub(to.len());
                to.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(nix::Error::EINTR) => (),
            Err(nix::Error::EAGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}
