//! The Engine API as the tests see it, by a client of their own: what the product believes of an engine is compared
//! with what the engine says. One request per connection.

use super::http::Body;
use super::{PATIENCE, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

pub type Reply = Body<UnixStream>;

impl Engine {
    pub fn at(socket: impl AsRef<Path>) -> Engine {
        Engine { socket: socket.as_ref().to_owned() }
    }

    /// For `DOCKER_HOST`, `-H`, and the key `engine`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The docker CLI, on this engine.
    pub fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host()]).args(args);
        command
    }

    pub fn is_up(&self) -> bool {
        self.request("GET", "/_ping", None).is_ok_and(|reply| reply.head.status == 200)
    }

    /// One request; the body of the answer is read from what it returns.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Reply> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // An attach is an upgrade; anything else ends with its answer.
        let connection = if path.contains("/attach?") { "Upgrade\r\nUpgrade: tcp" } else { "close" };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: {connection}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        Body::read(BufReader::new(stream))
    }

    /// Status and JSON of an answer; text that is not JSON as a string.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut reply =
            self.request(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let mut text = String::new();
        reply.read_to_string(&mut text).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        (reply.head.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// [`Engine::ask`], for what must succeed.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(status < 300 || status == 304, "{method} {path}: {status} {answer}");
        answer
    }

    /// All containers with these labels (`name` or `name=value`), running or not.
    pub fn containers(&self, labels: &[&str]) -> Vec<Listed> {
        let filters = json!({ "label": labels }).to_string();
        let list = self.must("GET", &format!("/containers/json?all=1&filters={}", encode(&filters)), None);
        let list: Vec<Listed> = list.as_array().unwrap().iter().map(Listed::of).collect();
        list
    }

    /// `None` if there is no such container.
    pub fn inspect(&self, id: &str) -> Option<Value> {
        let (status, answer) = self.ask("GET", &format!("/containers/{id}/json"), None);
        match status {
            200 => Some(answer),
            404 => None,
            _ => panic!("inspect {id}: {status} {answer}"),
        }
    }

    pub fn create(&self, name: &str, body: &Value) -> String {
        let answer = self.must("POST", &format!("/containers/create?name={name}"), Some(body));
        answer["Id"].as_str().expect("a container has an id").to_owned()
    }

    /// A container that does nothing for long, in no network, created and started.
    pub fn sleeper(&self, name: &str, image: &str, labels: &Value) -> String {
        let id = self.create(
            name,
            &json!({
                "Image": image,
                "Cmd": ["/bin/busybox", "sleep", "3600"],
                "Labels": labels,
                "HostConfig": { "NetworkMode": "none" },
            }),
        );
        self.must("POST", &format!("/containers/{id}/start"), None);
        id
    }

    /// A demo server as the daemon makes it, with nothing of the daemon: attached to, then started.
    pub fn attached(&self, image: &str) -> (String, UnixStream) {
        let host = json!({ "NetworkMode": "none", "AutoRemove": true, "Init": true });
        self.attached_as(&json!({
            "Image": image, "Entrypoint": ["/bin/mcpvisor"], "Cmd": ["demo-server"], "HostConfig": host,
        }))
    }

    /// A container made of this, attached to and started.
    pub fn attached_as(&self, body: &Value) -> (String, UnixStream) {
        let mut body = body.clone();
        for key in ["OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"] {
            body[key] = json!(true);
        }
        let id = self.create(&format!("bare-{:x}", fastrand::u64(..)), &body);
        let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let reply = self.request("POST", &path, None).unwrap();
        assert_eq!(reply.head.status, 101);
        self.must("POST", &format!("/containers/{id}/start"), None);
        (id, reply.socket().try_clone().unwrap())
    }

    pub fn is_running(&self, id: &str) -> bool {
        self.inspect(id).is_some_and(|container| container["State"]["Running"] == true)
    }

    /// Whatever state it is in; one that is gone is fine.
    pub fn remove(&self, id: &str) {
        let (status, answer) = self.ask("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
        assert!(matches!(status, 204 | 404 | 409), "remove {id}: {status} {answer}");
    }

    pub fn kill(&self, id: &str, signal: &str) {
        self.must("POST", &format!("/containers/{id}/kill?signal={signal}"), None);
    }

    /// Begins to write down what happens to containers.
    pub fn census(&self) -> Census {
        Census::of(self)
    }
}

/// A container in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub state: String,
    pub labels: BTreeMap<String, String>,
}

impl Listed {
    fn of(value: &Value) -> Listed {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = value["Labels"].as_object().into_iter().flatten();
        Listed {
            id: text(&value["Id"]),
            name: text(&value["Names"][0]).trim_start_matches('/').to_owned(),
            state: text(&value["State"]),
            labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
        }
    }

    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// For the query of a URL.
pub fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Every event of every container of an engine, in its order, from the moment this was made.
pub struct Census {
    engine: Engine,
    events: Arc<Mutex<Vec<Event>>>,
}

#[derive(Clone, Debug)]
pub struct Event {
    /// `create`, `start`, `die`, `destroy`, `oom`, `pause` …
    pub action: String,
    pub id: String,
    /// Labels, and a few more.
    pub attributes: BTreeMap<String, String>,
    /// When the engine said so, by the clock on the wall; 0 of what was there before.
    pub at_nanos: u128,
}

impl Census {
    fn of(engine: &Engine) -> Census {
        let filters = json!({ "type": ["container"] }).to_string();
        let reply = engine.request("GET", &format!("/events?filters={}", encode(&filters)), None).unwrap();
        assert_eq!(reply.head.status, 200);
        // Between two events any time may pass.
        reply.socket().set_read_timeout(None).unwrap();
        // What is there already is as if it had just begun.
        let mut first = Vec::new();
        for Listed { id, state, labels, .. } in engine.containers(&[]) {
            let event = |action: &str| Event {
                action: action.to_owned(),
                id: id.clone(),
                attributes: labels.clone(),
                at_nanos: 0,
            };
            first.push(event("create"));
            first.extend((state == "running").then(|| event("start")));
        }
        let events = Arc::new(Mutex::new(first));
        let shared = Arc::clone(&events);
        // Ends with the engine.
        std::thread::spawn(move || {
            for line in BufReader::new(reply).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { return };
                let attributes = event["Actor"]["Attributes"].as_object().into_iter().flatten();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                shared.lock().unwrap().push(Event {
                    action: text(&event["Action"]),
                    id: text(&event["Actor"]["ID"]),
                    attributes: attributes.map(|(name, value)| (name.clone(), text(value))).collect(),
                    at_nanos: event["timeNano"].as_u64().unwrap_or_default().into(),
                });
            }
        });
        Census { engine: engine.clone(), events }
    }

    /// What has come until now.
    pub fn so_far(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Everything up to now, once the stream has caught up: it has when it tells of a container made for that.
    pub fn events(&self, image: &str) -> Vec<Event> {
        let name = format!("census-{:x}", fastrand::u64(..));
        let id = self.engine.create(&name, &json!({ "Image": image, "Cmd": ["/bin/busybox", "true"] }));
        self.engine.remove(&id);
        let is_end = |event: &Event| event.id == id && event.action == "destroy";
        until("the event stream to catch up", || {
            let events = self.events.lock().unwrap();
            let end = events.iter().position(is_end)?;
            Some(events[..end].iter().filter(|event| event.id != id).cloned().collect())
        })
    }

    /// Of one daemon: per server how many of its containers ran at once at most, and how many there were at once.
    pub fn peaks(&self, image: &str, instance: &str) -> BTreeMap<String, Peak> {
        let mut now: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
        let mut peaks: BTreeMap<String, Peak> = BTreeMap::new();
        for event in self.events(image) {
            let label = |name: &str| event.attributes.get(&format!("mcpvisor.{name}"));
            if label("instance").is_none_or(|its| its != instance) {
                continue;
            }
            let server = label("server").cloned().unwrap_or_default();
            let (there, running) = now.entry(server.clone()).or_default();
            match event.action.as_str() {
                "create" if !there.contains(&event.id) => there.push(event.id),
                "start" if !running.contains(&event.id) => running.push(event.id),
                "die" => running.retain(|id| *id != event.id),
                // The engine may tell of the end of one that it was told to remove only after its removal.
                "destroy" => {
                    running.retain(|id| *id != event.id);
                    there.retain(|id| *id != event.id);
                }
                _ => continue,
            }
            let peak = peaks.entry(server).or_default();
            peak.there = peak.there.max(there.len());
            peak.running = peak.running.max(running.len());
            peak.lives += usize::from(event.action == "start");
        }
        peaks
    }

    /// Panics if ever two of a server's containers ran at once, or were there at once.
    pub fn assert_never_two(&self, image: &str, instance: &str) -> BTreeMap<String, Peak> {
        let peaks = self.peaks(image, instance);
        assert!(!peaks.is_empty(), "no container of {instance} was ever seen");
        for (server, peak) in &peaks {
            assert!(peak.running <= 1 && peak.there <= 1, "{server}: {peak:?}");
        }
        peaks
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    pub running: usize,
    pub there: usize,
    /// How many were started in all.
    pub lives: usize,
}
