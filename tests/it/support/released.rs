//! The released binary as a daemon: the static one that scripts/test builds, for what is measured.

use super::daemon::command_of;
use super::processes::{self, MARK};
use super::{BINARY, PATIENCE, TempDir, http, until, until_within};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// The released binary, while no other of these measurements runs.
pub struct Released {
    pub binary: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

pub fn released() -> Option<Released> {
    static ALONE: Mutex<()> = Mutex::new(());
    let target = Path::new(BINARY).ancestors().nth(2).unwrap();
    let binary = target.join("x86_64-unknown-linux-musl/release/mcpvisor");
    let built = binary.metadata().and_then(|meta| meta.modified()).ok();
    let problem = match built {
        None => "is not built",
        Some(built) if built < newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) => {
            "is older than the sources"
        }
        // One that failed says nothing against the next.
        Some(_) => {
            let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            return Some(Released { binary, _alone: alone });
        }
    };
    let required = std::env::var_os("IT_STATIC").is_some_and(|value| value == "required");
    assert!(!required, "{} {problem}", binary.display());
    eprintln!("skipped: {} {problem} (run: scripts/test)", binary.display());
    None
}

/// When anything below `dir` was last changed.
fn newest(dir: &Path) -> SystemTime {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let times = entries
        .map(|path| if path.is_dir() { newest(&path) } else { path.metadata().unwrap().modified().unwrap() });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `serve` of the released binary. Drop ends it and all that it started.
pub struct Serving {
    guardian: Child,
    pub address: String,
    pub mark: String,
    pub tmp: TempDir,
}

impl Serving {
    /// With this config, or as a newcomer starts it: without one. Returns as soon as it is spawned.
    pub fn start(binary: &Path, config: Option<&Value>) -> Serving {
        Serving::start_with_env(binary, config, &[])
    }

    /// The same with variables. Its temporary directory is one of its own, below [`Serving::tmp`].
    pub fn start_with_env(binary: &Path, config: Option<&Value>, env: &[(&str, &str)]) -> Serving {
        let tmp = TempDir::new();
        let mark = tmp.path().file_name().unwrap().to_str().unwrap().to_owned();
        let address = free_address();
        let mut command = command_of(binary);
        command.args(["serve", "--listen", &address, "--state-dir", &tmp.join("state")]);
        if let Some(config) = config {
            std::fs::write(tmp.join("mcp_config.json"), config.to_string()).unwrap();
            command.args(["--config", &tmp.join("mcp_config.json")]);
        }
        // In an empty home, so that no config of this machine is found.
        command
            .current_dir(tmp.path())
            .env("HOME", tmp.path())
            .env_remove("XDG_CONFIG_HOME")
            .env("TMPDIR", tmp.path())
            .env(MARK, &mark)
            .envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Serving { guardian: command.spawn().unwrap(), address, mark, tmp }
    }

    /// With the demo server in as many copies, each with these switches, and all ready.
    pub fn ready(binary: &Path, servers: usize, switches: &str, settings: Value) -> Serving {
        let args: Vec<&str> = std::iter::once("demo-server").chain(switches.split_whitespace()).collect();
        let entry = json!({ "command": binary, "args": args });
        let servers: serde_json::Map<String, Value> =
            (0..servers).map(|n| (format!("demo{n}"), entry.clone())).collect();
        let mut config = settings;
        config["mcpServers"] = Value::Object(servers);
        let serving = Serving::start(binary, Some(&config));
        serving.wait_ready();
        serving
    }

    /// Until every server is ready.
    pub fn wait_ready(&self) {
        until("the endpoint to serve", || TcpStream::connect(&self.address).ok());
        until("all servers to be ready", || {
            let status = self.status();
            let all = status["servers"].as_array().unwrap();
            all.iter().all(|server| server["state"] == "ready").then_some(())
        });
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn status(&self) -> Value {
        let answer = http::request(&self.address, "GET", "/api/v1/status", &[], "");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The guardian and the daemon.
    pub fn both(&self) -> [u32; 2] {
        [self.guardian.id(), self.status()["pid"].as_u64().unwrap() as u32]
    }

    /// SIGTERM; how long it took to end, and that it did so in order.
    pub fn stop(&mut self, patience: Duration) -> Duration {
        let begun = Instant::now();
        processes::send(self.guardian.id(), Signal::SIGTERM);
        let exit = until_within("serve to end", patience, || self.guardian.try_wait().unwrap());
        assert!(exit.success(), "{exit}");
        begun.elapsed()
    }

    /// Ends it; its files stay as long as what is returned.
    pub fn end(mut self) -> TempDir {
        self.stop(PATIENCE);
        std::mem::replace(&mut self.tmp, TempDir::new())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.guardian.try_wait().is_ok_and(|ended| ended.is_none()) {
            processes::send(self.guardian.id(), Signal::SIGTERM);
            until("serve to end", || self.guardian.try_wait().unwrap());
        }
        processes::kill_all(&self.mark, self.tmp.join("pids"));
    }
}

/// Below the ports that the kernel gives to clients: one that connects to a port of its own kind before anybody
/// listens there can be connected to itself.
fn free_address() -> String {
    let mut addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", fastrand::u16(12_000..30_000)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

/// A number of `/proc/PID/status`.
pub fn status_number(status: &str, key: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub fn of_process(pid: u32, key: &str) -> u64 {
    status_number(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap(), key)
}
