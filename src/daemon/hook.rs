//! One run of the hook: a process with an event on its stdin, marked and recorded as a server's is, and ended with all
//! that it started when it is over, takes too long, or the daemon stops.

use super::launch::inherited;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, Slug};
use crate::base::limits::{HOOK_STOP_PATIENCE, HOOK_TERM_PATIENCE, STDERR_LINE_BYTES_MAX};
use crate::base::text::{shorten, span};
use crate::base::time::Time;
use crate::config;
use crate::reaper::keeper::Keeper;
use crate::server::lines::{Lines, Oversized};
use crate::server::traces::Traces;
use crate::sys::clock;
use crate::sys::net::poll_until;
use crate::sys::spawn::{self, Child, Exit, Program};
use crate::sys::wake::Wake;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// In the log, and in its mark: no server has this name.
const NAME: &str = "hooks.on_event";

/// Reads of one of its outputs before anything else is looked at.
const READS_AT_ONCE: usize = 16;

/// Of its stderr, in the line that says that it failed.
const COMPLAINT_CHARS_MAX: usize = 200;

/// Runs `hook` with `body` on its stdin. Returns when nothing of it is left; `stop` cuts it short.
pub fn run(hook: &config::Hook, body: &[u8], number: u64, keeper: &Keeper, stop: &Wake) -> Result<(), Fault> {
    let (slug, life) = (Slug::of(NAME), life(number));
    let program = program(hook, keeper, &slug, life)?;
    let (child, stdin) = spawn::spawn(&program)?;
    let traces = Traces::begin(&child, &stdin, &slug, keeper, life);
    let mut run = Run {
        child: &child,
        stdin: Some(stdin),
        left: body,
        outputs: [true; 2],
        complaint: Lines::new(STDERR_LINE_BYTES_MAX, Oversized::Cut),
        said: String::new(),
    };
    let ended = run.watch(clock::now() + hook.timeout, stop);
    let said = std::mem::take(&mut run.said);
    drop(run);
    traces.clear(NAME, &child);
    judge(ended, hook.timeout, &said)
}

/// Lives of servers count from 1, and never come this far.
fn life(number: u64) -> Life {
    Life((1 << 63) + number)
}

/// How it came to its end.
enum Ended {
    By(Exit),
    Late,
    Stopped,
}

fn judge(ended: Ended, timeout: Duration, said: &str) -> Result<(), Fault> {
    let said =
        if said.is_empty() { String::new() } else { format!(": {}", shorten(said, COMPLAINT_CHARS_MAX)) };
    match ended {
        Ended::By(Exit::Code(0)) | Ended::Stopped => Ok(()),
        Ended::By(exit) => Err(Fault::new(exit.fault_kind(), format!("it {exit}{said}"))),
        Ended::Late => {
            let message = format!("it took longer than {} and was ended{said}", span(timeout));
            Err(Fault::new(FaultKind::CallTimeout, message).hint("let it be quick, or raise its \"timeout\""))
        }
    }
}

fn program(hook: &config::Hook, keeper: &Keeper, slug: &Slug, life: Life) -> Result<Program, Fault> {
    let lookup = |name: &str| std::env::var(name).ok();
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let mut env = inherited(std::env::vars_os().filter_map(text));
    for (name, value) in &hook.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.resolve(lookup)?));
    }
    env.extend(keeper.mark(slug, life).env());
    let home = super::launch::home();
    let command = super::launch::with_home(&hook.command.resolve(lookup)?, home.as_deref());
    let args = hook.args.iter().map(|arg| arg.resolve(lookup)).collect::<Result<_, _>>()?;
    Ok(Program { command, args, env, dir: None })
}

/// A hook that runs.
struct Run<'a> {
    child: &'a Child,
    /// Closed once all is written: who reads to the end sees the end.
    stdin: Option<OwnedFd>,
    left: &'a [u8],
    /// Stdout, stderr: whether more may come.
    outputs: [bool; 2],
    complaint: Lines,
    /// Its last line on stderr.
    said: String,
}

impl Run<'_> {
    /// Until the process has ended, by itself or by the ladder.
    fn watch(&mut self, deadline: Time, stop: &Wake) -> Ended {
        let (mut deadline, mut ended, mut signal) = (deadline, None, Signal::SIGTERM);
        loop {
            if let Some(exit) = self.child.exited() {
                self.read();
                return ended.unwrap_or(Ended::By(exit));
            }
            let stopped = self.wait(deadline, ended.is_none().then_some(stop));
            self.write();
            self.read();
            let now = clock::now();
            let (why, patience) = match (&ended, stopped) {
                (None, true) => (Ended::Stopped, HOOK_STOP_PATIENCE),
                (None, false) if now >= deadline => (Ended::Late, HOOK_TERM_PATIENCE),
                (Some(_), _) if now >= deadline => {
                    // Again and again, until its end is seen.
                    self.child.signal_group(signal);
                    deadline = now + HOOK_TERM_PATIENCE;
                    continue;
                }
                (None | Some(_), _) => continue,
            };
            self.child.signal_group(Signal::SIGTERM);
            (ended, deadline, signal) = (Some(why), now + patience, Signal::SIGKILL);
        }
    }

    /// Until something happens; whether it is to stop.
    fn wait(&self, deadline: Time, stop: Option<&Wake>) -> bool {
        let mut fds = vec![self.child.exit_poll()];
        let ends = [&self.child.stdout, &self.child.stderr].into_iter().zip(self.outputs);
        fds.extend(ends.filter(|(_, open)| *open).map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.stdin.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        fds.extend(stop.map(Wake::poll_fd));
        // ENOMEM is all that can go wrong; the next round looks again.
        let _ = poll_until(&mut fds, Some(deadline));
        stop.is_some() && fds.last().and_then(PollFd::any).unwrap_or(false)
    }

    fn write(&mut self) {
        while let Some(stdin) = &self.stdin {
            match nix::unistd::write(stdin, self.left) {
                Ok(count) if count < self.left.len() => self.left = &self.left[count..],
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => (),
                // All is written, or it does not want to know.
                Ok(_) | Err(_) => self.stdin = None,
            }
        }
    }

    /// What it says is not kept, but for its last words. Of what says more than we can read, some at a time.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for (output, fd) in [&self.child.stdout, &self.child.stderr].into_iter().enumerate() {
            for _ in 0..READS_AT_ONCE {
                if !self.outputs[output] {
                    break;
                }
                match nix::unistd::read(fd, &mut buffer) {
                    Ok(count) if count > 0 && output == 1 => self.complaint.feed(&buffer[..count], |line| {
                        self.said = String::from_utf8_lossy(line).into_owned();
                    }),
                    Ok(count) if count > 0 => (),
                    Err(Errno::EINTR) => (),
                    Err(Errno::EAGAIN) => break,
                    Ok(_) | Err(_) => self.outputs[output] = false,
                }
            }
        }
    }
}
