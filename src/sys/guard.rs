//! What only the guardian and the daemon below it do to themselves: become a subreaper, change the name that `ps`
//! shows, take signals from a descriptor, and start the daemon as a second run of this very program.

#![expect(unsafe_code, reason = "clone3 has no wrapper; inherited descriptors and the environment are raw")]

use super::cgroup::CgroupFd;
use super::hold::timeout;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

/// This program, even if its file has been replaced since it was started.
const OURSELVES: &CStr = c"/proc/self/exe";

/// Orphaned descendants become our children instead of init's.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// The name of this thread, which is that of the process if it is the first; 15 bytes of it are kept.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
}

/// A session of its own: a terminal's ^C no longer reaches us.
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// The signals that a guardian listens to, as a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Before any thread. From here on these signals do nothing but make the descriptor readable.
    pub fn take() -> io::Result<Signals> {
        // SAFETY: the default action is no handler. Whoever started us may have set it to "ignore", and then
        // children would vanish without a status.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl)? };
        let mut set = SigSet::empty();
        for one in FORWARDED.into_iter().chain([Signal::SIGCHLD]) {
            set.add(one);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// What has come since the last time, SIGCHLD left out: it only says "look".
    pub fn drain(&self) -> Vec<Signal> {
        let mut come = Vec::new();
        while let Ok(Some(info)) = self.0.read_signal() {
            come.extend(Signal::try_from(info.ssi_signo as i32).ok().filter(|one| *one != Signal::SIGCHLD));
        }
        come
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// No signal is held back any more: a mask survives exec, and the guardian has one. What came meanwhile comes now.
pub fn unblock_signals() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

/// What the guardian hands on to the daemon.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Waits until one of `fds` is readable or hung up, or `patience` (`None`: for ever) is over.
pub fn wait_readable(fds: &[BorrowedFd], patience: Option<Duration>) {
    let mut fds: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // An interrupted wait only makes the caller look again.
    let _ = poll(&mut fds, patience.map_or(PollTimeout::NONE, timeout));
}

/// A pipe, both ends CLOEXEC and non-blocking: (read, write).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}

/// Lets the programs that this process starts from now on inherit `fd`, or not.
pub fn set_inheritable(fd: impl AsFd, inheritable: bool) -> io::Result<()> {
    let flags = if inheritable { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Takes a descriptor that our parent left open and told us the number of; it is not passed on any further.
/// `None` if there is none, or it is one of the standard three.
pub fn take_inherited(number: i32) -> Option<OwnedFd> {
    // SAFETY: F_GETFD on any number is harmless.
    let open = number > 2 && unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    if !open {
        return None;
    }
    // SAFETY: it is open, and the number came from our parent, for us alone; called once per number, at start.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    set_inheritable(&fd, false).ok()?;
    Some(fd)
}

/// Whether `fd` is one end of a pipe.
pub fn is_pipe(fd: impl AsFd) -> bool {
    let format = nix::sys::stat::fstat(fd).map(|stat| stat.st_mode & libc::S_IFMT);
    format == Ok(libc::S_IFIFO)
}

/// The value of an environment variable, which is then gone. Before any thread.
pub fn take_env(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    // SAFETY: no other thread exists yet that could read the environment.
    unsafe { std::env::remove_var(name) };
    value
}

/// Runs this program again with the same arguments and one more environment variable, inside `cgroup`.
/// Returns the pid of the child, which the caller reaps. Before any thread.
pub fn run_again_in(cgroup: &CgroupFd, extra: (&str, &str)) -> io::Result<u32> {
    let image = Image::new(extra)?;
    let arguments = pointers(&image.arguments);
    let environment = pointers(&image.environment);
    let clone = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.as_fd().as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of everything. We have one thread, so
    // no lock is held by another. `clone` is a valid clone_args of the given size.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size_of::<CloneArgs>()) };
    match pid {
        0 => become_image(&arguments, &environment),
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid as u32),
    }
}

/// The same without a cgroup, by the ordinary way.
#[expect(
    clippy::disallowed_methods,
    reason = "the daemon is not a server: no group, no scrubbed environment"
)]
pub fn run_again((name, value): (&str, &str)) -> io::Result<u32> {
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(OsStr::from_bytes(OURSELVES.to_bytes()));
    command.arg0(arguments.next().unwrap_or_default()).args(arguments).env(name, value);
    // The child is waited for by pid, as every child of the guardian is.
    Ok(command.spawn()?.id())
}

/// Runs this program again with other arguments, detached from our stdin and stdout. The caller reaps it.
#[expect(clippy::disallowed_methods, reason = "a daemon is not a server: no group, no scrubbed environment")]
pub fn run_detached(arguments: &[OsString], stderr: File) -> io::Result<Child> {
    let mut command = std::process::Command::new(OsStr::from_bytes(OURSELVES.to_bytes()));
    command.arg0(std::env::args_os().next().unwrap_or_default()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()
}

/// What the child does between clone and exec: only calls that are safe after a fork, on memory made before it.
fn become_image(arguments: &[*const libc::c_char], environment: &[*const libc::c_char]) -> ! {
    // SAFETY: execve and _exit are async-signal-safe; the pointer lists end in null and point to
    // strings that live in the caller's frame. `_exit` never returns.
    unsafe {
        libc::execve(OURSELVES.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        libc::_exit(EXEC_FAILED)
    }
}

/// The exit code of a daemon that could not be executed; no command of ours ends with it.
pub const EXEC_FAILED: i32 = 127;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h, version 2 (88 bytes).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// Arguments and environment of the second run, as execve wants them.
struct Image {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Image {
    fn new((name, value): (&str, &str)) -> io::Result<Image> {
        let arguments = std::env::args_os().map(c_string).collect::<io::Result<_>>()?;
        let kept = std::env::vars_os().filter(|(known, _)| known != name);
        let entries = kept.chain([(name.into(), value.into())]).map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            c_string(entry)
        });
        Ok(Image { arguments, environment: entries.collect::<io::Result<_>>()? })
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|_| Errno::EINVAL.into())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}
