//! What the fake engine does with a request.

use super::container::Refused;
use super::http::{Answer, Request, begin_chunks, chunk, end_chunks};
use super::{Fault, Shared, tagged};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// The calls, by the words that faults are said with.
fn kind(request: &Request) -> &'static str {
    let path = request.path.as_str();
    let last = path.rsplit('/').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("GET" | "HEAD", "/_ping") => "ping",
        ("GET", "/version") => "version",
        ("GET", "/info") => "info",
        ("GET", "/containers/json") => "list",
        ("POST", "/containers/create") => "create",
        ("GET", "/events") => "events",
        ("POST", "/images/create") => "pull",
        ("GET", _) if path.starts_with("/images/") && last == "json" => "image",
        ("DELETE", _) if path.starts_with("/containers/") => "remove",
        ("GET", _) if path.starts_with("/containers/") && last == "json" => "inspect",
        ("GET", _) if path.starts_with("/containers/") && last == "logs" => "logs",
        ("POST", _) if path.starts_with("/containers/") => {
            let known = ["start", "kill", "pause", "unpause", "attach", "wait"];
            known.into_iter().find(|word| *word == last).unwrap_or("unknown")
        }
        _ => "unknown",
    }
}

impl Shared {
    /// One connection, from its first request to its end.
    pub(super) fn serve(self: Arc<Self>, mut stream: UnixStream) {
        let number = self.change(|state| {
            state.next += 1;
            let number = state.next;
            state.connections.insert(number, stream.try_clone().unwrap());
            number
        });
        let mut input = Vec::new();
        while let Some(mut request) = Request::read(&mut stream, &mut input) {
            let hijacks = kind(&request) == "attach";
            if hijacks {
                request.rest = std::mem::take(&mut input);
            }
            if self.answer(&request, &mut stream).is_none() || hijacks {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        self.change(|state| state.connections.remove(&number));
    }

    /// `None` ends the connection.
    fn answer(self: &Arc<Self>, request: &Request, stream: &mut UnixStream) -> Option<()> {
        let kind = kind(request);
        let (fault, version, min, hanging, released) = self.change(|state| {
            state.calls.push(kind.to_owned());
            let fault = state.take_fault(kind);
            (fault, state.version, state.min_version, state.hanging, state.releases)
        });
        let until_released =
            || self.wait_for(|state| (state.releases > released || state.over).then_some(()));
        if hanging || fault == Some(Fault::Hang) {
            return wait_for_end(stream);
        }
        let asked = request.version.unwrap_or(version);
        let refusal = if let Some(Fault::Status(status)) = fault {
            Some(Answer::error(status, "as the test wants it"))
        } else if asked > version || asked < min {
            let (major, minor) = asked;
            Some(Answer::error(400, &format!("client version {major}.{minor} is too new or too old")))
        } else {
            None
        };
        if let Some(answer) = refusal {
            return stream.write_all(&answer.bytes(version)).ok();
        }
        if fault == Some(Fault::CutBefore) {
            return None;
        }
        if fault == Some(Fault::Slow) {
            until_released()?;
        }
        if matches!(kind, "attach" | "wait" | "logs" | "events" | "pull") {
            return self.answer_stream(kind, request, stream, fault, &until_released);
        }
        let bytes = self.answer_whole(kind, request).bytes(version);
        match fault {
            Some(Fault::Late) => until_released()?,
            Some(Fault::Half) => {
                let _ = stream.write_all(&bytes[..bytes.len() / 2]);
                return None;
            }
            Some(Fault::Cut) => return None,
            Some(Fault::Garbage) => {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
                return None;
            }
            _ => (),
        }
        stream.write_all(&bytes).ok()
    }

    fn answer_whole(self: &Arc<Self>, kind: &str, request: &Request) -> Answer {
        match kind {
            "ping" => Answer { status: 200, body: "OK".to_owned() },
            "version" => {
                let state = self.state.lock();
                let text = |(major, minor): (u16, u16)| format!("{major}.{minor}");
                Answer::json(
                    200,
                    &json!({ "ApiVersion": text(state.version), "MinAPIVersion": text(state.min_version) }),
                )
            }
            "info" => {
                let id = self.state.lock().id.clone();
                let info = json!({
                    "ID": id, "Name": "fake", "ServerVersion": "20.10.24", "InitBinary": "docker-init",
                    "InitCommit": { "ID": "de40ad0" }, "PidsLimit": true, "MemoryLimit": true,
                });
                Answer::json(200, &info)
            }
            "list" => self.list(request),
            "image" => {
                let name = request.path.trim_start_matches("/images/").trim_end_matches("/json");
                match self.state.lock().images.contains_key(&tagged(name)) {
                    true => Answer::json(200, &json!({ "Id": "sha256:fake" })),
                    false => Answer::error(404, &format!("No such image: {name}")),
                }
            }
            "create" => match self.create(request.query("name"), request.json()) {
                Ok(id) => Answer::json(201, &json!({ "Id": id, "Warnings": [] })),
                Err((status, text)) => Answer::error(status, &text),
            },
            _ => self.answer_of_container(kind, request),
        }
    }

    fn list(&self, request: &Request) -> Answer {
        let filters: Value =
            request.query("filters").map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        let all = request.query("all") == Some("1");
        let state = self.state.lock();
        let fits = state.containers.values().filter(|container| {
            let labels = filters["label"].as_array().into_iter().flatten().filter_map(Value::as_str);
            (all || container.is_live())
                && labels.clone().all(|label| match label.split_once('=') {
                    Some((key, value)) => container.labels.get(key).is_some_and(|have| have == value),
                    None => container.labels.contains_key(label),
                })
        });
        Answer::json(200, &fits.map(super::container::Container::listed).collect())
    }

    fn container_of(&self, request: &Request) -> Result<String, Refused> {
        let id = request.path.split('/').nth(2).unwrap_or_default();
        self.state.lock().find(id).ok_or_else(|| (404, format!("No such container: {id}")))
    }

    fn answer_of_container(self: &Arc<Self>, kind: &str, request: &Request) -> Answer {
        let done = self.container_of(request).and_then(|id| match kind {
            "inspect" => {
                let state = self.state.lock();
                let container = state.containers.get(&id).ok_or((404, "just gone".to_owned()))?;
                Ok(Answer::json(200, &container.inspected()))
            }
            "start" => self.start(&id).map(|new| match new {
                true => Answer::empty(),
                false => Answer { status: 304, body: String::new() },
            }),
            "kill" => self.kill(&id, request.query("signal").unwrap_or("KILL")).map(|()| Answer::empty()),
            "pause" | "unpause" => self.pause(&id, kind == "pause").map(|()| Answer::empty()),
            "remove" => {
                self.remove(&id);
                Ok(Answer::empty())
            }
            _ => Err((404, "page not found".to_owned())),
        });
        done.unwrap_or_else(|(status, text)| Answer::error(status, &text))
    }

    fn answer_stream(
        self: &Arc<Self>,
        kind: &str,
        request: &Request,
        stream: &mut UnixStream,
        fault: Option<Fault>,
        until_released: &dyn Fn() -> Option<()>,
    ) -> Option<()> {
        let version = self.state.lock().version;
        let mut refuse =
            |(status, text): Refused| stream.write_all(&Answer::error(status, &text).bytes(version)).ok();
        if fault == Some(Fault::Cut) {
            return None;
        }
        match kind {
            "events" => self.stream_events(request, stream, fault),
            "pull" => self.stream_pull(request, stream, fault, until_released),
            _ => {
                let id = match self.container_of(request) {
                    Ok(id) => id,
                    Err(refused) => return refuse(refused),
                };
                match kind {
                    "attach" => {
                        if fault == Some(Fault::Late) {
                            until_released()?;
                        }
                        self.stream_attach(&id, request, stream, fault)
                    }
                    "wait" => self.stream_wait(&id, request, stream, fault),
                    _ => self.stream_logs(&id, stream, fault),
                }
            }
        }
    }

    fn stream_attach(
        &self,
        id: &str,
        request: &Request,
        stream: &mut UnixStream,
        fault: Option<Fault>,
    ) -> Option<()> {
        let upgrades = request.headers.get("upgrade").is_some_and(|value| value == "tcp");
        let head = if upgrades {
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        };
        let script = self.state.lock().attach_script.clone();
        if let Some(script) = script {
            script(stream.try_clone().ok()?);
            return None;
        }
        stream.write_all(head.as_bytes()).ok()?;
        match fault {
            Some(Fault::CutStream) => {
                let _ = stream.write_all(&[1, 0, 0, 0, 0, 0, 0, 9, b'h', b'a']);
                return None;
            }
            Some(Fault::GarbageStream) => stream.write_all(b"garbage, no frame").ok()?,
            _ => (),
        }
        self.attach(id, stream.try_clone().ok()?);
        // The container's end closes it; what it still writes goes out first.
        self.wait_for(|state| {
            let live = state.containers.get(id).is_some_and(super::container::Container::is_live);
            (!live).then_some(())
        });
        None
    }

    fn stream_wait(
        &self,
        id: &str,
        request: &Request,
        stream: &mut UnixStream,
        fault: Option<Fault>,
    ) -> Option<()> {
        let version = self.state.lock().version;
        begin_chunks(stream, version).ok()?;
        if fault == Some(Fault::CutStream) {
            let _ = stream.write_all(b"40\r\n{\"Status");
            return None;
        }
        let condition = request.query("condition").unwrap_or("not-running").to_owned();
        let before = self.state.lock().containers.get(id).map_or(0, |container| container.exits);
        let code = self.wait_for(|state| {
            let Some(container) = state.containers.get(id) else {
                return Some(state.gone.get(id).copied().unwrap_or(0));
            };
            match condition.as_str() {
                "removed" => None,
                "next-exit" => container.exit_code.filter(|_| container.exits > before),
                _ => (!container.is_live()).then_some(container.exit_code.unwrap_or(0)),
            }
        })?;
        let body = match fault {
            Some(Fault::GarbageStream) => "{]".to_owned(),
            _ => format!("{}\n", json!({ "StatusCode": code, "Error": null })),
        };
        chunk(stream, body.as_bytes()).ok()?;
        end_chunks(stream).ok()
    }

    fn stream_logs(&self, id: &str, stream: &mut UnixStream, fault: Option<Fault>) -> Option<()> {
        let (version, log) = {
            let state = self.state.lock();
            (state.version, state.containers.get(id)?.log.clone())
        };
        begin_chunks(stream, version).ok()?;
        let bytes = match fault {
            Some(Fault::GarbageStream) => b"no frame".to_vec(),
            _ => log.lock().clone(),
        };
        if !bytes.is_empty() {
            chunk(stream, &bytes).ok()?;
        }
        end_chunks(stream).ok()
    }

    fn stream_events(&self, request: &Request, stream: &mut UnixStream, fault: Option<Fault>) -> Option<()> {
        let filters =
            request.query("filters").map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        let (to, from) = channel();
        let version = self.change(|state| {
            state.listeners.push((to, filters));
            state.version
        });
        begin_chunks(stream, version).ok()?;
        while let Ok(event) = from.recv() {
            match fault {
                Some(Fault::CutStream) => {
                    let _ = stream.write_all(format!("{:x}\r\n{}", event.len(), &event[..9]).as_bytes());
                    return None;
                }
                Some(Fault::GarbageStream) => chunk(stream, b"{\"no\": json\n").ok()?,
                _ => chunk(stream, format!("{event}\n").as_bytes()).ok()?,
            }
        }
        end_chunks(stream).ok()
    }

    fn stream_pull(
        &self,
        request: &Request,
        stream: &mut UnixStream,
        fault: Option<Fault>,
        until_released: &dyn Fn() -> Option<()>,
    ) -> Option<()> {
        let (name, tag) =
            (request.query("fromImage").unwrap_or_default(), request.query("tag").unwrap_or_default());
        let image = format!("{name}{}{tag}", if tag.contains(':') { "@" } else { ":" });
        let (version, found) = self.change(|state| {
            state.auths.push(request.headers.get("x-registry-auth").cloned());
            let here = state.images.get(&image).map(|command| (Vec::new(), command.clone()));
            (state.version, state.pullable.get(&image).cloned().or(here))
        });
        let Some((lines, command)) = found else {
            let answer = Answer::error(404, &format!("manifest for {image} not found: manifest unknown"));
            return stream.write_all(&answer.bytes(version)).ok();
        };
        begin_chunks(stream, version).ok()?;
        for (index, line) in lines.iter().enumerate() {
            match fault {
                Some(Fault::Late) if index == 1 => until_released()?,
                Some(Fault::CutStream) if index == 1 => {
                    let _ = stream.write_all(b"ff\r\n{\"status\":\"Downl");
                    return None;
                }
                Some(Fault::GarbageStream) if index == 1 => chunk(stream, b"<html>\r\n").ok()?,
                _ => (),
            }
            chunk(stream, format!("{line}\r\n").as_bytes()).ok()?;
        }
        if !lines.iter().any(|line| line.contains("errorDetail")) {
            self.change(|state| state.images.insert(image, command));
        }
        end_chunks(stream).ok()
    }
}

/// Until the client has gone.
fn wait_for_end(stream: &mut UnixStream) -> Option<()> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    None
}

/// Whether an event is one that these filters ask for.
pub(super) fn event_passes(event: &Value, filters: &Value) -> bool {
    let wanted = |name: &str| {
        let values = filters[name].as_array().cloned().unwrap_or_default();
        values.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let any = |name: &str, value: &Value| {
        let wanted = wanted(name);
        wanted.is_empty()
            || wanted.iter().any(|text| value.as_str().unwrap_or_default().starts_with(text.as_str()))
    };
    let attributes = &event["Actor"]["Attributes"];
    any("type", &event["Type"])
        && any("event", &event["Action"])
        && any("container", &event["id"])
        && wanted("label").iter().all(|label| match label.split_once('=') {
            Some((key, value)) => attributes[key] == value,
            None => !attributes[label.as_str()].is_null(),
        })
}
