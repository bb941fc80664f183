//! Starting a server's process, seeing its exit, and reaping it last of all.
//!
//! No `pre_exec` is used, so std takes posix_spawn: 0.1 ms whatever our size. The program is resolved against the
//! *child's* PATH by us and spawned by absolute path, so that "not found" and "not executable" are told apart.
#![expect(clippy::disallowed_methods, reason = "this file is the one place that starts servers")]
#![expect(unsafe_code, reason = "prlimit for another process has no wrapper in nix")]

use super::pidfd::PidFd;
use super::wake::Wake;
use super::{procfs, thread};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::SPAWN_PATIENCE;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Held for reading while a child is spawned or reaped; whoever reaps strangers holds it for writing, so that no
/// child of ours is seen before it stands in [`OURS`], or after.
static SPAWNING: RwLock<()> = RwLock::new(());

/// Pids of processes that we spawned and have not reaped.
static OURS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The NOFILE limit that children get: what we had before we raised our own.
static CHILD_NOFILE: OnceLock<(u64, u64)> = OnceLock::new();

/// What to run: everything is resolved, nothing is inherited but what stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub command: String,
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    pub dir: Option<PathBuf>,
}

/// A running child, leader of its own group, with our ends of its output.
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    exit: ExitWatch,
}

/// How the exit becomes pollable.
#[derive(Debug)]
enum ExitWatch {
    PidFd(PidFd),
    /// Old kernels: a thread waits without reaping and wakes us. It ends with the child.
    Thread(Wake),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    pub fn fault_kind(self) -> FaultKind {
        match self {
            Exit::Code(_) => FaultKind::Exited,
            Exit::Signal(_) => FaultKind::Signaled,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// Where `command` is, as the child would find it: as a path if it has a slash, else along `path`.
pub fn resolve(command: &str, path: Option<&str>, dir: Option<&Path>) -> Result<PathBuf, Fault> {
    let base = dir.map(Path::to_path_buf).or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    let candidates: Vec<PathBuf> = if command.contains('/') {
        vec![base.join(command)]
    } else {
        let path = path.unwrap_or("/usr/local/bin:/usr/bin:/bin");
        path.split(':')
            .map(|entry| base.join(if entry.is_empty() { "." } else { entry }).join(command))
            .collect()
    };
    let mut refused = None;
    for candidate in &candidates {
        match std::fs::metadata(candidate) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                return Ok(candidate.clone());
            }
            Ok(_) => refused = refused.or(Some(candidate)),
            Err(_) => (),
        }
    }
    Err(match refused {
        Some(path) => {
            Fault::new(FaultKind::NotExecutable, format!("{} is not an executable file", path.display()))
                .hint("chmod +x it, or name the program that runs it as \"command\"")
        }
        None if command.contains('/') => {
            Fault::new(FaultKind::NotFound, format!("{} does not exist", candidates[0].display()))
                .hint("correct \"command\"")
        }
        None => Fault::new(FaultKind::NotFound, format!("`{command}` was not found on the server's PATH"))
            .hint("install it, or give its full path as \"command\", or set PATH in \"env\""),
    })
}

/// Starts the program in a process group of its own. Returns it and our end of its stdin; no pipe end of ours blocks.
pub fn spawn(program: &Program) -> Result<(Child, OwnedFd), Fault> {
    if let Some(dir) = &program.dir
        && !dir.is_dir()
    {
        let message = format!("working directory {} does not exist", dir.display());
        return Err(
            Fault::new(FaultKind::BadWorkingDir, message).hint("create it, or correct \"working_dir\"")
        );
    }
    let path = program.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let file = resolve(&program.command, path, program.dir.as_deref())?;
    let mut command = Command::new(&file);
    command.arg0(&program.command).args(&program.args).env_clear().process_group(0);
    command.envs(program.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(dir) = &program.dir {
        command.current_dir(dir);
    }
    let mut child = {
        let _held = SPAWNING.read();
        let child = command.spawn().map_err(|error| spawn_fault(&file, &error))?;
        OURS.lock().insert(child.id());
        child
    };
    let pid = child.id();
    lower_nofile(pid);
    let mut ends = [
        child.stdin.take().map(OwnedFd::from),
        child.stdout.take().map(OwnedFd::from),
        child.stderr.take().map(OwnedFd::from),
    ]
    .map(|end| end.expect("all three were asked for as pipes"));
    for end in &mut ends {
        set_nonblocking(end);
    }
    let [stdin, stdout, stderr] = ends;
    let start = procfs::process(pid).map_or(0, |process| process.start);
    match watch_exit(pid) {
        Ok(exit) => Ok((Child { pid, start, stdout, stderr, exit }, stdin)),
        Err(fault) => {
            // A child whose exit we cannot see is a child that we must not have.
            let _ = killpg(Pid::from_raw(pid as i32), Signal::SIGKILL);
            reap(pid);
            Err(fault)
        }
    }
}

impl Child {
    /// Readable once the process has exited. Polling does not reap it.
    pub fn exit_poll(&self) -> PollFd<'_> {
        match &self.exit {
            ExitWatch::PidFd(fd) => PollFd::new(fd.as_fd(), PollFlags::POLLIN),
            ExitWatch::Thread(wake) => wake.poll_fd(),
        }
    }

    /// How it ended, if it has; the zombie stays, so its pid and group id still name it.
    pub fn exited(&self) -> Option<Exit> {
        peek_exit(self.pid, WaitPidFlag::WNOHANG)
    }

    /// Signals the group. The leader must not have been reaped, so the id cannot name a stranger.
    pub fn signal_group(&self, signal: Signal) {
        match killpg(Pid::from_raw(self.pid as i32), signal) {
            // ESRCH: all are gone. EPERM: only members that changed their user are left; the sweep names them.
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => (),
            Err(error) => log::warn!("signal group {}: {error}", self.pid),
        }
    }

    /// The last act. From here on the pid may name somebody else.
    pub fn reap(&self) {
        reap(self.pid);
    }
}

fn reap(pid: u32) {
    let _held = SPAWNING.read();
    // Removed first: once it is reaped, another thread may spawn a child with the same pid.
    OURS.lock().remove(&pid);
    if let Err(error) = waitpid(Pid::from_raw(pid as i32), None) {
        log::warn!("reap {pid}: {error}");
    }
}

/// Runs `body` while no process can be spawned or reaped by others, with the test for "a child that we spawned".
/// `None` if a spawn is under way: the caller tries again later.
pub fn with_spawning_held<T>(body: impl FnOnce(&dyn Fn(u32) -> bool) -> T) -> Option<T> {
    let _held = SPAWNING.try_write()?;
    let ours = OURS.lock();
    Some(body(&|pid| ours.contains(&pid)))
}

/// Whether `pid` is a child that we spawned and have not reaped.
pub fn is_ours(pid: u32) -> bool {
    OURS.lock().contains(&pid)
}

/// The same of a process that may just be in the making: asked when every spawn that was under way is over, for which it
/// waits a moment. An error if one hangs; then nobody can say.
pub fn is_ours_after_all(pid: u32) -> io::Result<bool> {
    match SPAWNING.try_write_for(SPAWN_PATIENCE) {
        Some(_held) => Ok(is_ours(pid)),
        None => Err(io::Error::new(io::ErrorKind::TimedOut, "a process is being started, and hangs")),
    }
}

fn peek_exit(pid: u32, flags: WaitPidFlag) -> Option<Exit> {
    let flags = flags | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        return match waitid(Id::Pid(Pid::from_raw(pid as i32)), flags) {
            Ok(WaitStatus::Exited(_, code)) => Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Exit::Signal(signal as i32)),
            Err(Errno::EINTR) => continue,
            Ok(_) => None,
            // No such child: somebody else reaped it, which must not look like "still running".
            Err(_) => Some(Exit::Signal(0)),
        };
    }
}

fn watch_exit(pid: u32) -> Result<ExitWatch, Fault> {
    if let Ok(fd) = PidFd::open(pid) {
        return Ok(ExitWatch::PidFd(fd));
    }
    let fault =
        |error: io::Error| Fault::new(FaultKind::HostResources, format!("watch process {pid}: {error}"));
    let wake = Wake::new().map_err(fault)?;
    let theirs = wake.clone();
    let body = move || {
        peek_exit(pid, WaitPidFlag::empty());
        theirs.wake();
    };
    // Not joined: it ends with the child, and the child is always waited for.
    thread::spawn(&format!("exit:{pid}"), body).map_err(fault)?;
    Ok(ExitWatch::Thread(wake))
}

fn spawn_fault(file: &Path, error: &io::Error) -> Fault {
    let message = format!("start {}: {error}", file.display());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => Fault::new(FaultKind::NotExecutable, message)
            .hint("its interpreter (the #! line, or the ELF loader) does not exist"),
        Some(Errno::ENOEXEC) => Fault::new(FaultKind::NotExecutable, message)
            .hint("it has no #! line and is no program for this machine"),
        Some(Errno::EACCES) => {
            Fault::new(FaultKind::NotExecutable, message).hint("check its mode and the mount's noexec")
        }
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM) => {
            Fault::new(FaultKind::HostResources, message)
                .hint("the host is out of files, processes or memory")
        }
        Some(Errno::E2BIG) => {
            Fault::new(FaultKind::BadConfig, message).hint("\"args\" and \"env\" are too large")
        }
        _ => Fault::new(FaultKind::SpawnFailed, message),
    }
}

/// Raises our own soft limit of open files to the hard one (at most 65,536); children get back what we had.
pub fn raise_nofile() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(65_536).max(soft);
        if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
            // Set once: a second call has nothing left to raise.
            let _ = CHILD_NOFILE.set((soft, hard));
        }
    }
}

fn lower_nofile(pid: u32) {
    let Some((soft, hard)) = CHILD_NOFILE.get() else { return };
    let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
    // SAFETY: `limit` outlives the call and the old limit is not asked for. A child that has gone is ESRCH, which
    // loses nothing.
    unsafe { libc::prlimit64(pid as libc::pid_t, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
}

fn set_nonblocking(fd: &OwnedFd) {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).unwrap_or(OFlag::empty());
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))
        .expect("a pipe that we just made takes O_NONBLOCK");
}

/// Marks every descriptor from 3 up as close-on-exec, so that nothing that we inherited reaches a server.
pub fn seal_inherited_fds() {
    // SAFETY: a plain system call with integer arguments; it changes flags only.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return;
    }
    // Old kernels: one by one. An entry that is gone by now was the directory's own descriptor.
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Some(fd) =
            entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).filter(|fd| *fd > 2)
        {
            // SAFETY: F_SETFD with FD_CLOEXEC changes a flag of a descriptor; a closed one is EBADF.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollTimeout, poll};

    #[test]
    fn resolved_as_the_child_would() {
        assert_eq!(resolve("sh", Some("/nowhere:/bin"), None).unwrap(), PathBuf::from("/bin/sh"));
        assert_eq!(resolve("./sh", None, Some(Path::new("/bin"))).unwrap(), PathBuf::from("/bin/./sh"));
        assert_eq!(resolve("no-such-program", Some("/bin"), None).unwrap_err().kind, FaultKind::NotFound);
        assert_eq!(resolve("/etc/passwd", None, None).unwrap_err().kind, FaultKind::NotExecutable);
        assert_eq!(resolve("/bin", None, None).unwrap_err().kind, FaultKind::NotExecutable);
    }

    #[test]
    fn exit_is_seen_before_it_is_reaped() {
        let args = vec!["-c".to_owned(), "read x; exit 7".to_owned()];
        let program = Program { command: "sh".to_owned(), args, env: vec![], dir: None };
        let (child, stdin) = spawn(&program).unwrap();
        assert!(is_ours(child.pid));
        assert_eq!(child.exited(), None);
        child.signal_group(Signal::SIGCONT);
        nix::unistd::write(&stdin, b"\n").unwrap();
        poll(&mut [child.exit_poll()], PollTimeout::from(10_000u16)).unwrap();
        assert_eq!(child.exited(), Some(Exit::Code(7)));
        assert_eq!(child.exited(), Some(Exit::Code(7)));
        child.reap();
        assert!(!is_ours(child.pid));
    }
}
