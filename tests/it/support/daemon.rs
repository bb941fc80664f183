//! `mcpvisor serve` as a process: started with a config, found by the URL it prints, ended whatever happens.

use super::mcp::Mcp;
use super::processes::{self, MARK};
use super::{BINARY, PATIENCE, TempDir, until, until_within};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A running `mcpvisor serve`. Drop ends it and all that it started, and removes its directory.
pub struct Daemon {
    guardian: Child,
    output: Output,
    url: String,
    pub mark: String,
    pub tmp: TempDir,
    ended: Option<ExitStatus>,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    /// -1 if a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Daemon {
    /// Starts it and waits for its URL; panics with its output if it ends instead.
    pub fn start(config: &Value, extra_args: &[&str]) -> Daemon {
        Daemon::start_in(TempDir::new(), config, extra_args)
    }

    /// As [`Daemon::start`], in a directory that an earlier daemon may have used (see [`Daemon::into_tmp`]).
    pub fn start_in(tmp: TempDir, config: &Value, extra_args: &[&str]) -> Daemon {
        match Daemon::try_start(tmp, &config.to_string(), extra_args) {
            Ok(daemon) => daemon,
            Err(ran) => panic!("serve ended at once: {ran:#?}"),
        }
    }

    /// As [`Daemon::start`], with variables beside those of the test run.
    pub fn start_with_env(config: &Value, env: &[(&str, &str)]) -> Daemon {
        Daemon::start_in_with_env(TempDir::new(), config, env)
    }

    pub fn start_in_with_env(tmp: TempDir, config: &Value, env: &[(&str, &str)]) -> Daemon {
        Daemon::start_as(None, tmp, config, env)
    }

    /// As a user of the host with this id, to whom the directory is given; without one as we are.
    pub fn start_as(uid: Option<u32>, tmp: TempDir, config: &Value, env: &[(&str, &str)]) -> Daemon {
        Daemon::spawn(uid, tmp, &config.to_string(), &[], env)
            .unwrap_or_else(|ran| panic!("serve ended at once: {ran:#?}"))
    }

    /// Starts it with the text of a config. `Err` if it ends before it says its URL.
    pub fn try_start(tmp: TempDir, config: &str, extra_args: &[&str]) -> Result<Daemon, Ran> {
        Daemon::spawn(None, tmp, config, extra_args, &[])
    }

    fn spawn(
        uid: Option<u32>,
        tmp: TempDir,
        config: &str,
        extra_args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Daemon, Ran> {
        let file = tmp.join("mcp_config.json");
        std::fs::write(&file, config).unwrap();
        let state = tmp.join("state");
        let mark = tmp.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut command = command();
        command.args(["serve", "--config", &file, "--state-dir", &state, "--listen", "127.0.0.1:0"]);
        command.args(["--log-level", "debug"]).args(extra_args).env(MARK, &mark);
        command.envs(env.iter().copied());
        if let Some(uid) = uid {
            std::os::unix::fs::chown(tmp.path(), Some(uid), Some(uid)).unwrap();
            command.uid(uid).gid(uid).env("HOME", tmp.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guardian = command.spawn().unwrap();
        let output = Output::of(&mut guardian);
        match output.wait_for_line(endpoint) {
            Some(url) => Ok(Daemon { guardian, output, url, mark, tmp, ended: None }),
            None => {
                // It has closed its outputs without a URL: it ends, or hangs.
                let status = until("serve to end", || guardian.try_wait().unwrap());
                let (stdout, stderr) = output.text();
                processes::kill_all(&mark, tmp.join("pids"));
                Err(Ran { code: status.code().unwrap_or(-1), stdout, stderr })
            }
        }
    }

    /// `http://127.0.0.1:PORT/mcp`: all servers, tools called `server__tool`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One server alone, with its own names.
    pub fn server_url(&self, server: &str) -> String {
        format!("{}/s/{server}", self.url)
    }

    /// The endpoint without a path: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/mcp")
    }

    /// A client with a session on the aggregate.
    pub fn client(&self) -> Mcp {
        Mcp::connect(&self.url)
    }

    /// `mcpvisor status --json`.
    pub fn status(&self) -> Value {
        let ran = self.cli(&["status", "--json"]);
        assert_eq!(ran.code, 0, "{ran:#?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Asks for `status` until `probe` likes it; returns that status.
    pub fn wait_until(&self, what: &str, mut probe: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.status();
                probe(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|panic| {
            eprintln!("last status: {last:#}");
            std::panic::resume_unwind(panic)
        })
    }

    /// Until each of the servers is `ready`.
    pub fn wait_ready(&self, names: &[&str]) -> Value {
        self.wait_until(&format!("{names:?} to be ready"), |status| {
            names.iter().all(|name| server(status, name)["state"] == "ready")
        })
    }

    /// Until the server is in this state; returns the server's part of the status.
    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        let what = format!("{name} to be {state}");
        let status = self.wait_until(&what, |status| server(status, name)["state"] == state);
        server(&status, name).clone()
    }

    /// Any command of the CLI, against this daemon.
    pub fn cli(&self, args: &[&str]) -> Ran {
        run(command().args(["--state-dir", &self.tmp.join("state")]).args(args).env(MARK, &self.mark))
    }

    /// The process that we started: the guardian.
    pub fn guardian_pid(&self) -> u32 {
        self.guardian.id()
    }

    /// The daemon itself, the guardian's child.
    pub fn daemon_pid(&self) -> u32 {
        self.status()["pid"].as_u64().expect("status has a pid") as u32
    }

    /// SIGTERM to the guardian, and its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        processes::send(self.guardian.id(), Signal::SIGTERM);
        self.wait_end()
    }

    /// Waits for the guardian to end by itself.
    pub fn wait_end(&mut self) -> ExitStatus {
        if self.ended.is_none() {
            self.ended = Some(until("serve to end", || self.guardian.try_wait().unwrap()));
        }
        self.ended.unwrap()
    }

    pub fn kill9(&self, pid: u32) {
        processes::send(pid, Signal::SIGKILL);
    }

    /// The file for the demo servers' `--pid-file`.
    pub fn pid_file(&self) -> String {
        self.tmp.join("pids")
    }

    /// Panics if, after `within`, anything is alive that this daemon or its servers started, or it itself.
    pub fn assert_nothing_left(&self, within: Duration) {
        processes::assert_none_left(&self.mark, self.pid_file(), within);
    }

    /// Where it keeps what it learns.
    pub fn state_dir(&self) -> String {
        self.tmp.join("state")
    }

    /// Stdout and stderr so far.
    pub fn output(&self) -> (String, String) {
        self.output.text()
    }

    /// Ends it, and gives its directory to the next.
    pub fn into_tmp(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.tmp, TempDir::new())
    }

    fn end(&mut self) {
        if self.ended.is_none() && self.guardian.try_wait().unwrap().is_none() {
            processes::send(self.guardian.id(), Signal::SIGTERM);
            let patience = std::time::Instant::now() + Duration::from_secs(10);
            let ended = until_within("serve to end, one way or the other", PATIENCE, || {
                if std::time::Instant::now() > patience {
                    processes::send(self.guardian.id(), Signal::SIGKILL);
                }
                self.guardian.try_wait().unwrap()
            });
            self.ended = Some(ended);
        }
        processes::kill_all(&self.mark, self.pid_file());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (stdout, stderr) = self.output.text();
            eprintln!("--- stdout of serve\n{stdout}--- stderr of serve\n{stderr}---");
        }
        self.end();
    }
}

/// One server's part of a status; null if it is not in it.
pub fn server<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["servers"].as_array().expect("status has servers");
    all.iter().find(|server| server["name"] == name).unwrap_or(&Value::Null)
}

/// The binary, without any setting of ours from the environment of the test run.
pub fn command() -> Command {
    command_of(BINARY.as_ref())
}

/// The same of another build.
pub fn command_of(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MCPVISOR_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, without stdin.
pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The URL in a line such as `listening on http://127.0.0.1:8080/mcp`.
fn endpoint(line: &str) -> Option<String> {
    // Not in what the log says of remote servers.
    let from = line.find(" serves http://127.0.0.1:")? + " serves ".len();
    let to = from + line[from..].find("/mcp")? + "/mcp".len();
    Some(line[from..to].to_owned())
}

/// What a process writes, collected by two threads that end with its pipes.
struct Output(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    /// Stdout, stderr.
    lines: [Vec<String>; 2],
    open: usize,
}

impl Output {
    fn of(child: &mut Child) -> Output {
        let shared = Arc::new((Mutex::new(Written { open: 2, ..Written::default() }), Condvar::new()));
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for (index, pipe) in pipes.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    shared.0.lock().unwrap().lines[index].push(line);
                    shared.1.notify_all();
                }
                shared.0.lock().unwrap().open -= 1;
                shared.1.notify_all();
            });
        }
        Output(shared)
    }

    /// What `find` makes of the first line it likes; `None` once both pipes are closed, or patience is over.
    fn wait_for_line<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (lock, changed) = &*self.0;
        let mut found = None;
        let written = lock.lock().unwrap();
        let waited = changed.wait_timeout_while(written, PATIENCE, |written| {
            found = written.lines.iter().flatten().find_map(|line| find(line));
            found.is_none() && written.open > 0
        });
        drop(waited.unwrap());
        found
    }

    fn text(&self) -> (String, String) {
        let written = self.0.0.lock().unwrap();
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect();
        (text(&written.lines[0]), text(&written.lines[1]))
    }
}
