//! A container engine that does on command what a real one will not: on a real Unix socket, with a table of containers
//! whose processes are plain children of the test.
//!
//! A container runs its entrypoint and command on this host, with the environment that its config names, so that our
//! own demo server is an "MCP container". Its output waits for who reads it, as Docker's does: an attach stream that
//! nobody reads keeps the container from ending.

mod container;
mod http;
mod route;

use super::{BINARY, PATIENCE, TempDir};
use container::Container;
use mcpvisor::engine::endpoint::Endpoint;
use nix::sys::signal::Signal;
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Instant;

/// What goes wrong with one call. Calls are known by these words: ping version info list inspect create start kill pause
/// unpause remove attach wait logs events image pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; this status with a message.
    Status(u16),
    /// It is done at once, and answered only after [`FakeEngine::release`].
    Late,
    /// It is done and answered only after [`FakeEngine::release`], whether the client has gone or not.
    Slow,
    /// Nothing is done, and nothing is ever answered.
    Hang,
    /// It is done, and half of the answer is sent before the end.
    Half,
    /// It is done, and the connection closed without an answer.
    Cut,
    /// Nothing is done, and the connection closed without an answer.
    CutBefore,
    /// It is done, and what is answered is no HTTP.
    Garbage,
    /// Of streams: some of it is sent, then the end in the middle of a chunk.
    CutStream,
    /// Of streams: some of it is sent, then what cannot be read.
    GarbageStream,
}

/// One container as it is now.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// created, running, paused, exited.
    pub state: String,
    /// Of its process on this host, if it runs.
    pub pid: Option<u32>,
    /// What it was created from.
    pub body: Value,
}

/// A fake engine; dropped, it ends all that it started.
pub struct FakeEngine {
    shared: Arc<Shared>,
    tmp: TempDir,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

type AttachScript = Arc<dyn Fn(UnixStream) + Send + Sync>;

struct Shared {
    socket: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Nobody listens, and every thread is to end.
    away: bool,
    over: bool,
    /// Connections are taken and nothing is answered.
    hanging: bool,
    losing_events: bool,
    version: (u16, u16),
    min_version: (u16, u16),
    id: String,
    next: u64,
    /// How often `release` was called: what waits for it waits for the next.
    releases: u64,
    containers: BTreeMap<String, Container>,
    /// Exit codes of those that were removed.
    gone: BTreeMap<String, i64>,
    /// Command of each image that is here.
    images: BTreeMap<String, Vec<String>>,
    /// Progress lines and command of each image that can be pulled.
    pullable: BTreeMap<String, (Vec<String>, Vec<String>)>,
    faults: Vec<(String, Fault)>,
    attach_script: Option<AttachScript>,
    connections: BTreeMap<u64, UnixStream>,
    listeners: Vec<(Sender<String>, Value)>,
    calls: Vec<String>,
    auths: Vec<Option<String>>,
    history: Vec<Value>,
    peaks: BTreeMap<(String, String), usize>,
}

impl FakeEngine {
    /// With the images `demo` (our demo server), `cat`, and `sleep`, and version 1.41.
    pub fn start() -> FakeEngine {
        let tmp = TempDir::new();
        let shared = Arc::new(Shared {
            socket: tmp.path().join("docker.sock"),
            state: Mutex::new(State {
                version: (1, 41),
                min_version: (1, 12),
                id: format!("FAKE-{}", tmp.path().display()),
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let engine = FakeEngine { shared, tmp, accepting: Mutex::new(None) };
        engine.add_image("demo", &[BINARY, "demo-server"]);
        engine.add_image("cat", &["cat"]);
        engine.add_image("sleep", &["sleep", "600"]);
        engine.listen();
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.shared.socket.clone()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket())
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        self.endpoint().to_string()
    }

    /// A directory for whoever needs one.
    pub fn tmp(&self) -> &TempDir {
        &self.tmp
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.shared.change(change)
    }

    pub fn add_image(&self, name: &str, command: &[&str]) {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        self.change(|state| state.images.insert(tagged(name), command));
    }

    /// An image that is not here until it is pulled; `lines` is what a pull says before it is.
    pub fn add_pullable(&self, name: &str, lines: &[Value], command: &[&str]) {
        let lines = lines.iter().map(Value::to_string).collect();
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        self.change(|state| state.pullable.insert(tagged(name), (lines, command)));
    }

    pub fn set_version(&self, version: (u16, u16), min: (u16, u16)) {
        self.change(|state| (state.version, state.min_version) = (version, min));
    }

    /// The next `count` calls of that kind answer `status`, and do nothing.
    pub fn fail_next(&self, kind: &str, status: u16, count: usize) {
        self.fault_next(kind, Fault::Status(status), count);
    }

    /// So for the next `count` calls of that kind, after those that were said before.
    pub fn fault_next(&self, kind: &str, fault: Fault, count: usize) {
        self.change(|state| state.faults.extend(std::iter::repeat_n((kind.to_owned(), fault), count)));
    }

    /// No more faults.
    pub fn heal(&self) {
        self.change(|state| {
            state.faults.clear();
            state.hanging = false;
            state.releases += 1;
        });
    }

    /// What is late or slow goes on.
    pub fn release(&self) {
        self.change(|state| state.releases += 1);
    }

    /// Accepts and never answers; with false it answers what comes from then on.
    pub fn hang(&self, hanging: bool) {
        self.change(|state| state.hanging = hanging);
    }

    /// Events are not told, but stand in the history.
    pub fn lose_events(&self, losing: bool) {
        self.change(|state| state.losing_events = losing);
    }

    /// Serves attach by `script`, which gets the connection after its head was answered; `None` as usual.
    pub fn script_attach(&self, script: Option<AttachScript>) {
        self.change(|state| state.attach_script = script);
    }

    /// The socket is gone and all connections are cut; containers live on, as with live-restore.
    pub fn go_away(&self) {
        self.change(|state| state.away = true);
        // A connection wakes the thread that accepts; none wakes one that has ended.
        drop(UnixStream::connect(&self.shared.socket));
        if let Some(thread) = self.accepting.lock().take() {
            thread.join().expect("the accepting thread does not panic");
        }
        let _ = std::fs::remove_file(&self.shared.socket);
        self.cut_connections();
    }

    /// Listens again after [`FakeEngine::go_away`].
    pub fn come_back(&self) {
        self.listen();
    }

    /// All connections end, and new ones are taken.
    pub fn cut_connections(&self) {
        self.change(|state| {
            for stream in std::mem::take(&mut state.connections).values() {
                // One that is closed already is cut.
                let _ = stream.shutdown(Shutdown::Both);
            }
            state.listeners.clear();
        });
    }

    pub fn containers(&self) -> Vec<Seen> {
        self.state().containers.values().map(Container::seen).collect()
    }

    pub fn container(&self, id: &str) -> Option<Seen> {
        self.state().containers.get(id).map(Container::seen)
    }

    /// The calls so far: `create`, `start`, …
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub fn count(&self, kind: &str) -> usize {
        self.state().calls.iter().filter(|call| *call == kind).count()
    }

    /// What each pull sent as `X-Registry-Auth`.
    pub fn auths(&self) -> Vec<Option<String>> {
        self.state().auths.clone()
    }

    /// All events, told or lost.
    pub fn history(&self) -> Vec<Value> {
        self.state().history.clone()
    }

    /// The most containers that ran at the same time with the same value of this label.
    pub fn max_live_per(&self, label: &str) -> usize {
        let state = self.state();
        state.peaks.iter().filter(|((key, _), _)| key == label).map(|(_, peak)| *peak).max().unwrap_or(0)
    }

    /// Open event streams.
    pub fn event_streams(&self) -> usize {
        self.state().listeners.len()
    }

    /// Waits until `probe` likes what it sees.
    pub fn wait_until(&self, what: &str, mut probe: impl FnMut(&[Seen], &[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            let seen: Vec<Seen> = state.containers.values().map(Container::seen).collect();
            if probe(&seen, &state.calls) {
                return;
            }
            let late = self.shared.changed.wait_until(&mut state, deadline).timed_out();
            assert!(
                !late,
                "waited {PATIENCE:?} in vain for: {what}; there are {seen:#?}, calls {:?}",
                state.calls
            );
        }
    }

    /// A container that is there without anyone having asked us: of another owner, or another time.
    pub fn plant(&self, name: &str, labels: &[(&str, &str)], running: bool) -> String {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let body = json!({ "Image": "sleep", "Labels": labels, "OpenStdin": false });
        let id = self.shared.create(Some(name), body).expect("the image is there and the name is free");
        if running {
            self.shared.start(&id).expect("sleep runs");
        }
        id
    }

    /// Its process gets this signal, with no call.
    pub fn signal(&self, id: &str, signal: Signal) {
        self.shared.signal(id, signal);
    }

    /// The kernel kills it for its memory.
    pub fn oom(&self, id: &str) {
        self.change(|state| {
            if let Some(container) = state.containers.get_mut(id) {
                container.oom_killed = true;
            }
            state.emit("oom", id, &[]);
        });
        self.shared.signal(id, Signal::SIGKILL);
    }

    /// All processes end, as with an engine that stops without live-restore.
    pub fn kill_all(&self) {
        let ids: Vec<String> = self.state().containers.keys().cloned().collect();
        for id in &ids {
            self.shared.signal(id, Signal::SIGKILL);
        }
    }

    pub fn set_health(&self, id: &str, status: &str) {
        self.change(|state| {
            if let Some(container) = state.containers.get_mut(id) {
                container.health = Some(status.to_owned());
            }
            state.emit(&format!("health_status: {status}"), id, &[]);
        });
    }

    fn listen(&self) {
        let listener = UnixListener::bind(&self.shared.socket).expect("a socket in a new directory");
        self.change(|state| state.away = false);
        let shared = self.shared.clone();
        let accept = move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if shared.state.lock().away {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        };
        *self.accepting.lock() = Some(std::thread::spawn(accept));
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.change(|state| {
            state.over = true;
            state.releases += 1;
        });
        self.go_away();
        self.kill_all();
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        while state.containers.values().any(|container| container.process.is_some()) {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                eprintln!("a fake container does not end");
                return;
            }
        }
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        state.note_live();
        self.changed.notify_all();
        result
    }

    /// Waits until `found` gives something; `None` when the engine ends.
    fn wait_for<T>(&self, mut found: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(found) = found(&mut state) {
                return Some(found);
            }
            if state.over {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

impl State {
    fn note_live(&mut self) {
        let mut live: BTreeMap<(String, String), usize> = BTreeMap::new();
        for container in self.containers.values().filter(|container| container.is_live()) {
            for (key, value) in &container.labels {
                *live.entry((key.clone(), value.clone())).or_default() += 1;
            }
        }
        for (label, count) in live {
            let peak = self.peaks.entry(label).or_default();
            *peak = count.max(*peak);
        }
    }

    fn take_fault(&mut self, kind: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _)| of == kind)?;
        Some(self.faults.remove(at).1)
    }

    fn emit(&mut self, action: &str, id: &str, extra: &[(&str, String)]) {
        let Some(container) = self.containers.get(id) else { return };
        let mut attributes: BTreeMap<String, String> = container.labels.clone();
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.insert("image".to_owned(), container.image.clone());
        attributes.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.next += 1;
        let event = json!({
            "Type": "container", "Action": action, "status": action, "id": id, "scope": "local",
            "Actor": { "ID": id, "Attributes": attributes }, "time": self.next, "timeNano": self.next * 1_000_000_000,
        });
        self.history.push(event.clone());
        if self.losing_events {
            return;
        }
        let text = event.to_string();
        let wanted = |filters: &Value| route::event_passes(&event, filters);
        self.listeners.retain(|(to, filters)| !wanted(filters) || to.send(text.clone()).is_ok());
    }
}

/// With the tag that everybody means.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}
