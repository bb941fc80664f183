//! One fake container: its process, and the streams between that and who is attached.

use super::http::frame;
use super::{Seen, Shared, State, tagged};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) body: Value,
    pub(super) paused: bool,
    pub(super) oom_killed: bool,
    pub(super) health: Option<String>,
    /// `None` before it was started and after it has ended.
    pub(super) process: Option<Process>,
    /// Set by its end.
    pub(super) exit_code: Option<i64>,
    pub(super) exits: u64,
    /// Who gets its output.
    pub(super) attached: Arc<Mutex<Vec<UnixStream>>>,
    /// Frames of all it wrote.
    pub(super) log: Arc<Mutex<Vec<u8>>>,
}

pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) stdin: Arc<Mutex<Option<ChildStdin>>>,
}

/// What a call about a container came to, if not what it should: a status and its text.
pub(super) type Refused = (u16, String);

impl Container {
    pub(super) fn is_live(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn status(&self) -> &'static str {
        match (&self.process, self.paused, self.exit_code) {
            (Some(_), true, _) => "paused",
            (Some(_), false, _) => "running",
            (None, _, Some(_)) => "exited",
            (None, _, None) => "created",
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            id: self.id.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            state: self.status().to_owned(),
            pid: self.process.as_ref().map(|process| process.pid),
            body: self.body.clone(),
        }
    }

    pub(super) fn listed(&self) -> Value {
        json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": self.image, "Created": 1_700_000_000,
            "State": self.status(), "Status": "Up 3 seconds", "Labels": self.labels,
        })
    }

    pub(super) fn inspected(&self) -> Value {
        let mut state = json!({
            "Status": self.status(), "Running": self.is_live(), "Paused": self.paused, "Restarting": false,
            "OOMKilled": self.oom_killed, "Dead": false, "ExitCode": self.exit_code.unwrap_or(0), "Error": "",
            "Pid": self.process.as_ref().map_or(0, |process| process.pid),
            "StartedAt": "2026-11-20T10:00:00Z",
        });
        if let Some(health) = &self.health {
            state["Health"] = json!({ "Status": health, "Log": [] });
        }
        let mut config = self.body.clone();
        let host_config = config["HostConfig"].take();
        json!({
            "Id": self.id, "Name": format!("/{}", self.name), "Created": "2026-11-20T10:00:00.123456789Z",
            "State": state, "Config": config, "HostConfig": host_config, "Image": "sha256:fake",
        })
    }

    fn wants(&self, key: &str) -> bool {
        self.body[key].as_bool().unwrap_or(false)
    }

    pub(super) fn is_auto_removed(&self) -> bool {
        self.body["HostConfig"]["AutoRemove"].as_bool().unwrap_or(false)
    }
}

fn words(value: &Value) -> Option<Vec<String>> {
    let words = value.as_array()?.iter().map(|word| word.as_str().unwrap_or_default().to_owned());
    Some(words.collect::<Vec<String>>()).filter(|words| !words.is_empty())
}

impl State {
    /// By full id, by name, or by the beginning of an id.
    pub(super) fn find(&self, id: &str) -> Option<String> {
        if self.containers.contains_key(id) {
            return Some(id.to_owned());
        }
        let named = self.containers.values().find(|container| container.name == id);
        let begins = || self.containers.keys().find(|known| id.len() >= 12 && known.starts_with(id));
        named.map(|container| container.id.clone()).or_else(|| begins().cloned())
    }

    fn forget(&mut self, id: &str) {
        self.emit("destroy", id, &[]);
        if let Some(container) = self.containers.remove(id) {
            self.gone.insert(id.to_owned(), container.exit_code.unwrap_or(0));
            for stream in container.attached.lock().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Shared {
    pub(super) fn create(&self, name: Option<&str>, body: Value) -> Result<String, Refused> {
        self.change(|state| {
            let image = body["Image"].as_str().unwrap_or_default().to_owned();
            if !state.images.contains_key(&tagged(&image)) {
                return Err((404, format!("No such image: {image}")));
            }
            state.next += 1;
            let id = format!("{:064x}", u128::from(state.next) << 64 | 0xfa_ce00);
            let name = name.map_or_else(|| format!("fake_{}", state.next), ToOwned::to_owned);
            if let Some(other) = state.containers.values().find(|container| container.name == name) {
                let other = &other.id;
                let text = format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{other}\"."
                );
                return Err((409, text));
            }
            let labels = serde_json::from_value(body["Labels"].clone()).unwrap_or_default();
            let container = Container {
                id: id.clone(),
                name,
                image,
                labels,
                body,
                paused: false,
                oom_killed: false,
                health: None,
                process: None,
                exit_code: None,
                exits: 0,
                attached: Arc::default(),
                log: Arc::default(),
            };
            state.containers.insert(id.clone(), container);
            state.emit("create", &id, &[]);
            Ok(id)
        })
    }

    /// `Ok(false)` if it runs already.
    pub(super) fn start(self: &Arc<Self>, id: &str) -> Result<bool, Refused> {
        let child = self.change(|state| {
            let command = state.containers.get(id).map(|container| {
                let image = state.images.get(&tagged(&container.image)).cloned().unwrap_or_default();
                let entrypoint = words(&container.body["Entrypoint"]);
                let command = words(&container.body["Cmd"]);
                match (entrypoint, command) {
                    (None, None) => image,
                    (entrypoint, command) => {
                        entrypoint.into_iter().chain(command).flatten().collect::<Vec<String>>()
                    }
                }
            });
            let container = state.containers.get_mut(id).ok_or((404, format!("No such container: {id}")))?;
            if container.process.is_some() {
                return Ok(None);
            }
            let mut child = spawn(container, &command.unwrap_or_default())?;
            let stdin = Arc::new(Mutex::new(child.stdin.take().filter(|_| container.wants("OpenStdin"))));
            container.process = Some(Process { pid: child.id(), stdin });
            container.exit_code = None;
            state.emit("start", id, &[]);
            Ok(Some(child))
        })?;
        let Some(child) = child else { return Ok(false) };
        let (shared, id) = (self.clone(), id.to_owned());
        std::thread::spawn(move || shared.watch(&id, child));
        Ok(true)
    }

    /// Passes on what the process writes, and notes its end when all of that was taken.
    fn watch(self: Arc<Self>, id: &str, mut child: Child) {
        let outputs = {
            let state = self.state.lock();
            let container = &state.containers[id];
            (container.attached.clone(), container.log.clone())
        };
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let pumps = [pump(1, stdout, outputs.clone()), pump(2, stderr, outputs)];
        let pid = Pid::from_raw(child.id() as i32);
        // Not reaped before it is out of the table, so that no signal can reach a stranger.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("a child of ours");
        // A container ends with its first process.
        let _ = killpg(pid, Signal::SIGKILL);
        for pump in pumps {
            pump.join().expect("a pump does not panic");
        }
        self.change(|state| {
            let status = child.wait().expect("a child of ours that has ended");
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            let Some(container) = state.containers.get_mut(id) else { return };
            container.process = None;
            container.paused = false;
            container.exit_code = Some(code.into());
            container.exits += 1;
            for stream in container.attached.lock().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            let auto_removed = container.is_auto_removed();
            state.emit("die", id, &[("exitCode", code.to_string())]);
            if auto_removed {
                state.forget(id);
            }
        });
    }

    /// Whether there was a process to signal.
    pub(super) fn signal(&self, id: &str, signal: Signal) -> bool {
        let state = self.state.lock();
        let Some(process) = state.containers.get(id).and_then(|container| container.process.as_ref()) else {
            return false;
        };
        // It may be a zombie.
        let _ = killpg(Pid::from_raw(process.pid as i32), signal);
        true
    }

    pub(super) fn kill(&self, id: &str, signal: &str) -> Result<(), Refused> {
        let name = if signal.starts_with("SIG") { signal.to_owned() } else { format!("SIG{signal}") };
        let signal: Signal = name.parse().map_err(|_| (400, format!("Invalid signal: {signal}")))?;
        if !self.signal(id, signal) {
            return Err((409, format!("Container {id} is not running")));
        }
        self.change(|state| state.emit("kill", id, &[("signal", (signal as i32).to_string())]));
        if signal == Signal::SIGKILL {
            self.wait_end(id);
        }
        Ok(())
    }

    pub(super) fn pause(&self, id: &str, pause: bool) -> Result<(), Refused> {
        let signal = if pause { Signal::SIGSTOP } else { Signal::SIGCONT };
        if !self.signal(id, signal) {
            return Err((409, format!("Container {id} is not running")));
        }
        self.change(|state| {
            if let Some(container) = state.containers.get_mut(id) {
                container.paused = pause;
            }
            state.emit(if pause { "pause" } else { "unpause" }, id, &[]);
        });
        Ok(())
    }

    /// With force.
    pub(super) fn remove(&self, id: &str) {
        if self.signal(id, Signal::SIGKILL) {
            self.wait_end(id);
        }
        self.change(|state| {
            if state.containers.contains_key(id) {
                state.forget(id);
            }
        });
    }

    fn wait_end(&self, id: &str) {
        self.wait_for(|state| {
            let live = state.containers.get(id).is_some_and(Container::is_live);
            (!live).then_some(())
        });
    }

    /// Serves an attachment until the client or the container ends.
    pub(super) fn attach(&self, id: &str, mut stream: UnixStream) {
        let Some(facts) = self.change(|state| {
            let container = state.containers.get(id)?;
            container.attached.lock().push(stream.try_clone().unwrap());
            let facts = (container.wants("OpenStdin"), container.wants("StdinOnce"));
            state.emit("attach", id, &[]);
            Some(facts)
        }) else {
            return;
        };
        // Input waits for the process.
        let stdin = self.wait_for(|state| match state.containers.get(id) {
            None => Some(None),
            Some(container) => container.process.as_ref().map(|process| Some(process.stdin.clone())),
        });
        let Some(Some(stdin)) = stdin else { return };
        let (open, once) = facts;
        let mut buffer = [0; 16 << 10];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            if let Some(stdin) = &mut *stdin.lock() {
                // A process that has closed its stdin does not want it.
                let _ = stdin.write_all(&buffer[..count]);
            }
        }
        // An engine that has gone away notices nothing.
        if open && once && !self.state.lock().away {
            stdin.lock().take();
        }
    }
}

fn spawn(container: &Container, command: &[String]) -> Result<Child, Refused> {
    let Some((program, args)) = command.split_first() else {
        return Err((400, "No command specified".to_owned()));
    };
    let env = words(&container.body["Env"]).unwrap_or_default();
    let mut child = Command::new(program);
    child.args(args).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").process_group(0);
    child.envs(env.iter().filter_map(|pair| pair.split_once('=')));
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    child.spawn().map_err(|error| (400, format!("OCI runtime create failed: exec {program}: {error}")))
}

type Outputs = (Arc<Mutex<Vec<UnixStream>>>, Arc<Mutex<Vec<u8>>>);

fn pump(stream: u8, mut from: impl Read + Send + 'static, to: Outputs) -> JoinHandle<()> {
    let (attached, log) = to;
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                return;
            }
            let frame = frame(stream, &buffer[..count]);
            log.lock().extend_from_slice(&frame);
            let mut streams: Vec<UnixStream> =
                attached.lock().iter().map(|stream| stream.try_clone().unwrap()).collect();
            for stream in &mut streams {
                // Who has gone gets nothing more.
                let _ = stream.write_all(&frame);
            }
        }
    })
}
