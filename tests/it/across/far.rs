//! A scripted server behind mcpvisor, reached in one of five ways, and raw clients of both eras before it. What the
//! server is sent is kept as it came; what it answers is what the arguments of a call say, in the words of
//! tests/peers/echo.py as far as they are needed here.

use crate::support::daemon::{Daemon, server};
use crate::support::peer::{behind_with, received};
use crate::support::upstream::{Out, Seen, Upstream};
use crate::support::wire::{Flow, Wire, start};
use crate::support::{PATIENCE, measure_over, until, until_within};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the server is reached, and the era that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Stdio,
    StdioModern,
    Http,
    HttpModern,
    Sse,
}

impl Way {
    pub const ALL: [Way; 5] = [Way::Stdio, Way::StdioModern, Way::Http, Way::HttpModern, Way::Sse];

    pub fn is_modern(self) -> bool {
        matches!(self, Way::StdioModern | Way::HttpModern)
    }
}

pub const ERAS: [&str; 2] = ["legacy", "modern"];

const TOOLS: &str = r#"[{"name":"run","inputSchema":{"type":"object"}}]"#;
const CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"logging":{}}"#;

/// mcpvisor with the server, `e`, behind it.
pub struct Far {
    pub daemon: Daemon,
    way: Way,
    upstream: Option<Upstream>,
    held: Arc<Held>,
}

/// Answers that wait for a word.
#[derive(Default)]
struct Held {
    released: Mutex<BTreeSet<String>>,
    /// Those whose request was closed while they waited.
    closed: Mutex<Vec<String>>,
    /// The streams of HTTP with SSE.
    streams: Mutex<Vec<Out>>,
}

impl Far {
    pub fn behind(way: Way) -> Far {
        Far::with(way, TOOLS, |_| ())
    }

    /// With these tools, and a config that the test has changed.
    pub fn with(way: Way, tools: &str, change: impl FnOnce(&mut Value)) -> Far {
        let held: Arc<Held> = Arc::default();
        let era = if way.is_modern() { "modern" } else { "legacy" };
        if matches!(way, Way::Stdio | Way::StdioModern) {
            let daemon = behind_with(&[("e", &[("tools", tools), ("era", era)])], |config| {
                config["mcpServers"][0]["era"] = era.into();
                change(config);
            });
            return Far { daemon, way, upstream: None, held };
        }
        let (shared, tools) = (held.clone(), tools.to_owned());
        let upstream = Upstream::start(move |seen, out| serve(way, &tools, &shared, seen, out));
        let protocol = if way == Way::Sse { "sse" } else { "http" };
        let mut config = json!({ "mcpServers": [{ "name": "e", "url": upstream.url(), "protocol": protocol, "era": era }] });
        change(&mut config);
        let daemon = Daemon::start(&config, &[]);
        daemon.wait_ready(&["e"]);
        assert_eq!(server(&daemon.status(), "e")["era"], era);
        Far { daemon, way, upstream: Some(upstream), held }
    }

    /// Every message that the server was sent so far.
    pub fn received(&self) -> Vec<String> {
        match &self.upstream {
            None => received(&self.daemon, "e"),
            Some(upstream) => upstream.all().into_iter().map(|seen| seen.body).collect(),
        }
    }

    /// Those with this text, as soon as there are so many.
    pub fn wait_received(&self, text: &str, count: usize) -> Vec<String> {
        until(&format!("{:?} to be sent {text:?} {count} times", self.way), || {
            let lines: Vec<String> = self.received().into_iter().filter(|line| line.contains(text)).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// What came over HTTP, head and body.
    pub fn seen(&self) -> Vec<Seen> {
        self.upstream.as_ref().map(Upstream::all).unwrap_or_default()
    }

    /// Lets those answers go.
    pub fn release(&self, name: &str, client: &Client) {
        self.held.released.lock().unwrap().insert(name.to_owned());
        if self.upstream.is_none() {
            client.call("\"release\"", &json!({ "release": name }).to_string()).rest();
        }
    }

    /// Those that waited when their request was closed. Of HTTP alone: elsewhere there is nothing to close.
    pub fn closed(&self) -> Vec<String> {
        self.held.closed.lock().unwrap().clone()
    }
}

/// A client of one era, on the server's own mount.
pub struct Client {
    wire: Wire,
    modern: bool,
}

/// What makes a request one of the newer era.
pub const ENVELOPE: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{"#,
    r#""sampling":{},"elicitation":{},"roots":{}}"#
);

impl Client {
    pub fn of(far: &Far, era: &str) -> Client {
        Client::at(&far.daemon.server_url("e"), era)
    }

    pub fn at(url: &str, era: &str) -> Client {
        let modern = era == "modern";
        let wire = if modern { Wire::stateless(url) } else { Wire::open(url) };
        Client { wire, modern }
    }

    /// Params are these members and a `_meta` with those.
    pub fn ask(&self, id: &str, method: &str, members: &str, meta: &str) -> Flow {
        let name = members_of(&format!("{{{members}}}")).into_iter().find(|(key, _)| key == "\"name\"");
        let name = name.map(|(_, value)| value.trim_matches('"').to_owned());
        let join = |parts: [&str; 2]| {
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
        };
        if self.modern {
            let meta = format!(r#""_meta":{{{}}}"#, join([meta, ENVELOPE]));
            let params = format!("{{{}}}", join([members, &meta]));
            return self.wire.begin_modern(id, method, name.as_deref(), &params);
        }
        let meta = if meta.is_empty() { String::new() } else { format!(r#""_meta":{{{meta}}}"#) };
        self.wire.begin(&crate::support::wire::request(
            id,
            method,
            &format!("{{{}}}", join([members, &meta])),
        ))
    }

    /// A call of the one tool, with these arguments and a progress token, `"t"`.
    pub fn call(&self, id: &str, arguments: &str) -> Flow {
        let members = format!(r#""name":"run","arguments":{arguments}"#);
        self.ask(id, "tools/call", &members, r#""progressToken":"t""#)
    }

    /// Logs from this level on: for the session, or as a member of `_meta`.
    pub fn log_from(&self, level: &str) -> String {
        if self.modern {
            return format!(r#""io.modelcontextprotocol/logLevel":"{level}""#);
        }
        let answer = self.wire.ask("\"level\"", "logging/setLevel", &json!({ "level": level }).to_string());
        assert_eq!(answer, r#"{"jsonrpc":"2.0","id":"level","result":{}}"#);
        String::new()
    }

    /// Ends the session, if there is one.
    pub fn leave(&self) {
        if !self.modern {
            self.wire.delete();
        }
    }

    /// A notification; of the older era alone.
    pub fn tell(&self, body: &str) {
        self.wire.tell(body);
    }
}

/// Keys (in quotes) and values of an object, in order, as they were written.
pub fn members_of(object: &str) -> Vec<(String, String)> {
    let mut members = Vec::new();
    let whole = mcpvisor::mcp::scan::object(object, |member| {
        members.push((object[member.key].to_owned(), object[member.value].to_owned()));
    });
    assert!(whole.is_ok(), "{}", start(object));
    members
}

pub fn member(object: &str, key: &str) -> String {
    let wanted = format!("\"{key}\"");
    let found = members_of(object).into_iter().rev().find(|(key, _)| *key == wanted);
    found.unwrap_or_else(|| panic!("no {key} in {}", start(object))).1
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// One HTTP request to the server.
fn serve(way: Way, tools: &str, held: &Arc<Held>, seen: &Seen, out: &mut Out) {
    if seen.method != "POST" {
        return match (way, seen.method.as_str()) {
            (Way::Sse, "GET") => {
                out.events(&[]);
                // Who knows the endpoint may ask at once.
                let mut streams = held.streams.lock().unwrap();
                streams.push(out.later());
                out.raw("event: endpoint\ndata: /messages\n\n");
            }
            (_, "DELETE") => out.answer(204, &[], ""),
            _ => out.answer(405, &[], ""),
        };
    }
    let message: Message = serde_json::from_str(&seen.body).expect("mcpvisor sends JSON");
    let (Some(id), Some(method)) = (message.id, message.method) else {
        return out.answer(202, &[], "");
    };
    let id = id.get().to_owned();
    if method == "tools/call" {
        let params = message.params.map_or("{}", RawValue::get);
        let token = serde_json::from_str::<Value>(params)
            .ok()
            .map(|params| params["_meta"]["progressToken"].to_string());
        let arguments = member(params, "arguments");
        let script: Value = serde_json::from_str(&arguments).unwrap_or_default();
        let say = Script { way, id, token: token.unwrap_or_default(), line: seen.body.clone(), script };
        return say.play(held, out);
    }
    if method == "subscriptions/listen" && way.is_modern() {
        out.events(&[]);
        let notifications = member(message.params.expect("it wants something").get(), "notifications");
        out.raw(&format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"notifications\":{notifications},\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}}}}}}\n\n"
        ));
        return out.wait_closed();
    }
    let members = fixed(way, &method, tools);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},{members}}}"#);
    match way {
        Way::Sse => {
            out.answer(202, &[], "Accepted");
            on_stream(held, &answer);
        }
        _ => out.answer(200, &head(way), &answer),
    }
}

fn head(way: Way) -> Vec<(&'static str, &'static str)> {
    let session = (way == Way::Http).then_some(("mcp-session-id", "s-1"));
    session.into_iter().chain([("content-type", "application/json")]).collect()
}

fn on_stream(held: &Held, message: &str) {
    let mut streams = held.streams.lock().unwrap();
    streams
        .last_mut()
        .expect("a stream was opened first")
        .raw(&format!("event: message\ndata: {message}\n\n"));
}

/// The members of the answers that are always the same.
fn fixed(way: Way, method: &str, tools: &str) -> String {
    let complete = if way.is_modern() { r#""resultType":"complete","# } else { "" };
    let listed = if way.is_modern() { r#""ttlMs":0,"cacheScope":"private","# } else { "" };
    let own = r#"{"name":"echo","version":"0"}"#;
    match (way.is_modern(), method) {
        (false, "initialize") => {
            format!(
                r#""result":{{"protocolVersion":"2025-11-25","capabilities":{CAPABILITIES},"serverInfo":{own}}}"#
            )
        }
        (true, "server/discover") => format!(
            r#""result":{{{complete}{listed}"supportedVersions":["2026-07-28"],"capabilities":{CAPABILITIES},"_meta":{{"io.modelcontextprotocol/serverInfo":{own}}}}}"#
        ),
        (_, "tools/list") => format!(r#""result":{{{complete}{listed}"tools":{tools}}}"#),
        (false, "ping" | "logging/setLevel") => r#""result":{}"#.to_owned(),
        _ => r#""error":{"code":-32601,"message":"no such method"}"#.to_owned(),
    }
}

/// What a call is to be answered, and what comes before it.
struct Script {
    way: Way,
    id: String,
    token: String,
    line: String,
    script: Value,
}

impl Script {
    fn play(self, held: &Arc<Held>, out: &mut Out) {
        let before: Vec<String> =
            self.script["say"].as_array().into_iter().flatten().map(|line| self.filled(line)).collect();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},{}}}"#, self.id, self.members());
        if self.way == Way::Sse {
            out.answer(202, &[], "Accepted");
            let held = held.clone();
            // Answered in any order; ends with its wait.
            std::thread::spawn(move || {
                before.iter().for_each(|line| on_stream(&held, line));
                if self.waits(&held, None) {
                    on_stream(&held, &answer);
                }
            });
            return;
        }
        if !before.is_empty() {
            out.events(&head(self.way)[..head(self.way).len() - 1]);
            before.iter().for_each(|line| out.raw(&format!("data: {line}\n\n")));
        }
        if !self.waits(held, Some(out)) {
            return out.cut();
        }
        match before.is_empty() {
            true => out.answer(200, &head(self.way), &answer),
            false => out.raw(&format!("data: {answer}\n\n")),
        }
    }

    /// Until the answer may be given; false if nobody wants it any more.
    fn waits(&self, held: &Held, out: Option<&Out>) -> bool {
        measure_over(Duration::from_millis(self.script["delay"].as_u64().unwrap_or(0)));
        let Some(name) = self.script["hold"].as_str() else { return true };
        until_within(&format!("{name} to be released"), PATIENCE, || {
            if held.released.lock().unwrap().contains(name) {
                return Some(true);
            }
            let closed = out.is_some_and(Out::is_closed);
            closed.then(|| held.closed.lock().unwrap().push(name.to_owned())).map(|()| false)
        })
    }

    fn filled(&self, text: &Value) -> String {
        text.as_str().unwrap().replace("$ID", &self.id).replace("$TOKEN", &self.token)
    }

    fn members(&self) -> String {
        if self.script["reply"].is_string() {
            return self.filled(&self.script["reply"]);
        }
        let complete = if self.way.is_modern() { r#""resultType":"complete","# } else { "" };
        let text = match self.script["bytes"].as_u64() {
            Some(bytes) => format!("\"{}\"", "x".repeat(bytes as usize)),
            None => Value::from(self.line.as_str()).to_string(),
        };
        format!(r#""result":{{{complete}"content":[{{"type":"text","text":{text}}}]}}"#)
    }
}
