//! The processes that the demo server leaves behind, and leaving its own group: what a supervisor must survive.
//!
//! Every one is this same binary, executed again. A child's `ready` is that it has stopped itself: the parent
//! waits for that, notes the pid, and lets it go on. So a pid in the file is a process that ignores TERM already.

use super::out;
use super::switches::{Helper, Switches};
use crate::base::limits::DEMO_HELPER_LIFE;
use crate::sys::procfs;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, setsid};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What the switches want done before the first line is read. `Some(code)`: another process has served in our
/// place, and is done.
pub fn before_serving(switches: &Switches) -> io::Result<Option<ExitCode>> {
    if switches.setsid && setsid() == Err(Errno::EPERM) {
        return serve_in_a_copy().map(Some);
    }
    if switches.ignore_term {
        ignore_signals()?;
    }
    note(&switches.helper, "server", std::process::id())?;
    if switches.child {
        start_sleeper("child", &switches.helper)?;
    }
    if switches.double_fork {
        launcher(&switches.helper).status()?;
    }
    Ok(None)
}

/// The first half of a double fork: a session of our own, a sleeper in it, and out.
pub fn launch(helper: &Helper) -> ExitCode {
    let done = setsid().map_err(io::Error::from).and_then(|_| start_sleeper("grandchild", helper));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&format!("demo-server: start a grandchild: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Be a process that ignores TERM, tells its parent so by stopping, and then does nothing for `span`.
pub fn sleep(span: Duration) -> ExitCode {
    if ignore_signals().is_err() || raise(Signal::SIGSTOP).is_err() {
        return ExitCode::FAILURE;
    }
    // The only message of this channel comes after `span`.
    let _ = crossbeam_channel::after(span).recv();
    ExitCode::SUCCESS
}

/// A process that leads a group cannot leave it: a copy of ours, which leads nothing, does, and we wait for it.
fn serve_in_a_copy() -> io::Result<ExitCode> {
    let status = ourselves().args(std::env::args_os().skip(2)).status()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(code as u8))
}

fn start_sleeper(role: &str, helper: &Helper) -> io::Result<()> {
    let mut command = ourselves();
    command.arg("--sleep").arg(DEMO_HELPER_LIFE.as_millis().to_string());
    if helper.clean_env {
        command.env_clear();
    }
    if helper.close_fds {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let pid = command.spawn()?.id();
    waitpid(Pid::from_raw(pid as i32), Some(WaitPidFlag::WUNTRACED))?;
    note(helper, role, pid)?;
    out::complain(&format!("{role} {pid}"));
    kill(Pid::from_raw(pid as i32), Signal::SIGCONT)?;
    Ok(())
}

fn launcher(helper: &Helper) -> Command {
    let mut command = ourselves();
    command.arg("--launch");
    if helper.clean_env {
        command.arg("--grandchild-clean-env");
    }
    if helper.close_fds {
        command.arg("--grandchild-close-fds");
    }
    if let Some(path) = &helper.pid_file {
        command.arg("--pid-file").arg(path);
    }
    command
}

/// This binary again, also if its file was replaced or removed since.
#[expect(
    clippy::disallowed_methods,
    reason = "must not be spawned as well as sys::spawn does: it plays a stranger"
)]
fn ourselves() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mcpvisor").arg("demo-server");
    command
}

fn ignore_signals() -> io::Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // A flag that nobody reads: the signal is caught and nothing follows.
        signal_hook::flag::register(signal as i32, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// One line, one write: the file is shared by all who are told of it.
fn note(helper: &Helper, role: &str, pid: u32) -> io::Result<()> {
    let Some(path) = &helper.pid_file else { return Ok(()) };
    let start = procfs::process(pid).map_or(0, |process| process.start);
    append(path, &format!("{role} {pid} {start}\n"))
        .map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}
