//! Docker engines of the tests' own, never the system's: one that all tests share, and as many as tests want to
//! stop, kill or freeze. Each lives in a directory of its own under /tmp (a socket's path is 108 bytes at most) and
//! ends with the test process, however that ends: a script (dockerd.sh) holds the other end of a pipe, and clears
//! the directory when the pipe closes. Should that script be killed as well, the next run clears it.
//!
//! `IT_ENGINE=unix:///…` names a running one to share instead; `IT_ENGINE=required` makes it a failure that none can
//! be started, which otherwise skips the test.

use super::engine::Engine;
use super::{PATIENCE, processes, until, until_within};
use mcpvisor::sys::procfs;
use nix::sys::signal::Signal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

/// Directories are called `/tmp/mvd-PID-START-N`, after the test process that made them.
const PREFIX: &str = "mvd-";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/dockerd.sh");

/// An engine of one test, which may do to it what it likes. Drop ends it.
pub struct Dockerd {
    dir: PathBuf,
    flags: Vec<String>,
    process: Option<Child>,
    keeper: Child,
    /// What the keeper waits for the end of.
    held: Option<ChildStdin>,
}

/// The engine that all tests share; `None` says that the test is skipped.
pub fn shared() -> Option<Engine> {
    static SHARED: OnceLock<Option<(Engine, Option<Dockerd>)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var("IT_ENGINE") {
        Ok(host) if host.starts_with("unix://") => Some((Engine::at(&host["unix://".len()..]), None)),
        // Never dropped: it ends with the process.
        _ => Dockerd::own().map(|own| (own.engine(), Some(own))),
    });
    shared.as_ref().map(|(engine, _)| engine.clone())
}

impl Dockerd {
    /// A new one, running.
    pub fn own() -> Option<Dockerd> {
        Dockerd::with(&[])
    }

    /// With flags of `dockerd`, such as `--live-restore`.
    pub fn with(flags: &[&str]) -> Option<Dockerd> {
        if let Some(missing) = missing() {
            let required = std::env::var("IT_ENGINE").is_ok_and(|value| value == "required");
            assert!(!required, "no Docker engine of our own: {missing}");
            eprintln!("skipped: no Docker engine of our own: {missing} (run: scripts/test)");
            return None;
        }
        clear_abandoned();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let me = procfs::process(std::process::id()).unwrap();
        let dir = PathBuf::from(format!("/tmp/{PREFIX}{}-{}-{number}", me.pid, me.start));
        std::fs::create_dir(&dir).unwrap();
        let mut keep = Command::new("sh");
        keep.arg(SCRIPT).arg("keep").arg(&dir).stdin(Stdio::piped());
        // In a group of its own, so that a Ctrl-C at the tests leaves it to its work; without their output.
        let mut keeper =
            keep.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("there is a sh");
        let held = keeper.stdin.take();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut own = Dockerd { dir, flags, process: None, keeper, held };
        own.start();
        Some(own)
    }

    pub fn engine(&self) -> Engine {
        Engine::at(self.dir.join("s"))
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs");
        // Its id would be the host's, the same for each of them; dockerd 20 takes it from this file. A later one does
        // not know the key, and has ids of its own. Where not even the file system can be stacked: copies.
        let own_id = format!(r#"{{"deprecated-key-path": "{}"}}"#, self.dir.join("key.json").display());
        let tries = [(own_id.as_str(), None), ("{}", None), ("{}", Some("vfs"))];
        for (config, driver) in tries {
            std::fs::write(self.dir.join("daemon.json"), config).unwrap();
            let mut child = self.command(driver).spawn().expect("dockerd is there");
            let engine = self.engine();
            let ended = until("dockerd to answer, or to end", || {
                let ended = child.try_wait().unwrap();
                (ended.is_some() || engine.is_up()).then_some(ended)
            });
            if ended.is_none() {
                self.process = Some(child);
                return;
            }
        }
        panic!("dockerd does not start:\n{}", self.log_end());
    }

    fn command(&self, driver: Option<&str>) -> Command {
        let path = |name: &str| self.dir.join(name).to_str().unwrap().to_owned();
        let mut command = Command::new("dockerd");
        command.args(["--host", &format!("unix://{}", path("s")), "--config-file", &path("daemon.json")]);
        command.args(["--data-root", &path("root"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        command.args(["--bridge=none", "--iptables=false", "--ip-forward=false"]);
        // By this name the processes of its containers are found when it is gone.
        let group = self.dir.file_name().unwrap().to_str().unwrap();
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &format!("/{group}")]);
        command.args(driver.map(|driver| format!("--storage-driver={driver}"))).args(&self.flags);
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        command
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// SIGTERM, and waits for its end. Its containers end with it, unless it was started with `--live-restore`.
    pub fn stop(&mut self) {
        processes::send(self.pid(), Signal::SIGTERM);
        let mut process = self.process.take().unwrap();
        until_within("dockerd to end", 2 * PATIENCE, || process.try_wait().unwrap());
    }

    /// SIGKILL. Its containers live on until it is started again.
    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
        // containerd goes with it. While somebody still has to wait for it, the next dockerd would take it for alive,
        // by this file, and spend 15 s on that.
        let file = self.dir.join("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(&file).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            until("containerd to end", || (!processes::is_alive(pid)).then_some(()));
            std::fs::remove_file(file).unwrap();
        }
    }

    /// It accepts connections and answers nothing (SIGSTOP).
    pub fn pause(&self) {
        processes::send(self.pid(), Signal::SIGSTOP);
        let pid = self.pid();
        until("dockerd to be stopped", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')).then_some(())
        });
    }

    /// The end of [`Dockerd::pause`].
    pub fn cont(&self) {
        processes::send(self.pid(), Signal::SIGCONT);
    }

    /// It runs, and nobody finds it: what a package upgrade or a stranger's `rm` leaves.
    pub fn remove_socket(&self) {
        std::fs::remove_file(self.dir.join("s")).unwrap();
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of dockerd's log\n{}\n---", self.log_end());
        }
        self.held = None;
        // The keeper ends when all is cleared; dockerd is our child, and stays a zombie until it is waited for.
        until_within("the engine to be cleared away", Duration::from_secs(60), || {
            if let Some(process) = &mut self.process {
                // Only its end is of interest.
                let _ = process.try_wait();
            }
            self.keeper.try_wait().unwrap()
        });
        if let Some(process) = &mut self.process {
            let _ = process.wait();
        }
    }
}

/// What is not there of what it takes.
fn missing() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let program = ["dockerd", "containerd", "runc", "docker", "docker-init", "busybox"]
        .into_iter()
        .find(|name| !there(name));
    match program {
        Some(program) => Some(format!("{program} is not installed")),
        None if !nix::unistd::geteuid().is_root() => Some("that takes root".to_owned()),
        None => None,
    }
}

/// Ends what test processes left that were killed together with their keeper. Once per process.
fn clear_abandoned() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for entry in std::fs::read_dir("/tmp").unwrap().flatten() {
            let dir = entry.path();
            let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
            if is_ours && !is_kept(&dir) {
                // What it cannot do, it could not do a second time.
                let _ = Command::new("sh").arg(SCRIPT).arg("clear").arg(&dir).stdin(Stdio::null()).status();
            }
        }
    });
}

/// Whether the test process lives that made it, or its keeper is at work.
fn is_kept(dir: &Path) -> bool {
    let keeper = format!("keep {}", dir.display());
    if procfs::all().iter().any(|process| procfs::command_line(process.pid).ends_with(&keeper)) {
        return true;
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut words = name.trim_start_matches(PREFIX).split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (words.next(), words.next()) else { return true };
    u32::try_from(pid).ok().and_then(procfs::process).is_some_and(|now| now.start == start)
}
