//! Clients that keep the bytes of what they are answered, at a server's stdin, at its own port and at an endpoint of
//! ours, to ask two of them the same and compare.

use super::http;
use super::stdio::stdout_lines;
use super::{PATIENCE, until};
use crossbeam_channel::Receiver;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};

/// What mcpvisor tells a server that its client can do. Some servers have other tools for a client that can do more.
const DECLARED: &str = "{}";

const MODERN: &str = "2026-07-28";

/// How the protocol is spoken, on both sides of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Era {
    /// 2025-11-25: in a session.
    Legacy,
    /// 2026-07-28: each request says all that it needs.
    Modern,
}

impl Era {
    pub const BOTH: [Era; 2] = [Era::Legacy, Era::Modern];

    /// The revision, as the conformance suite calls it.
    pub fn revision(self) -> &'static str {
        match self {
            Era::Legacy => "2025-11-25",
            Era::Modern => MODERN,
        }
    }
}

/// One client of a server.
pub struct Raw {
    way: Way,
    era: Era,
    next_id: u64,
}

enum Way {
    Stdio(Process),
    Http {
        address: String,
        path: String,
        session: Option<String>,
    },
    /// HTTP with SSE: where to POST, and the data of each event of the one stream.
    Sse {
        address: String,
        endpoint: String,
        lines: Receiver<Vec<u8>>,
        stream: TcpStream,
    },
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Raw {
    /// Starts the server as a process of our own.
    pub fn stdio(command: &mut Command) -> Raw {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let lines = stdout_lines(&mut child);
        Raw { way: Way::Stdio(Process { child, stdin, lines }), era: Era::Legacy, next_id: 0 }
    }

    /// At a URL such as `http://127.0.0.1:8080/mcp`.
    pub fn http(url: &str) -> Raw {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a URL with a path");
        let way = Way::Http { address: address.to_owned(), path: format!("/{path}"), session: None };
        Raw { way, era: Era::Legacy, next_id: 0 }
    }

    /// At a URL such as `http://127.0.0.1:8080/sse`, by the transport of 2024-11-05.
    pub fn sse(url: &str) -> Raw {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a URL with a path");
        let mut stream = http::connect(address);
        let get = http::encode(address, "GET", &format!("/{path}"), &[("accept", "text/event-stream")], "");
        stream.write_all(&get).expect("the server reads");
        let (sender, lines) = crossbeam_channel::unbounded();
        let events = stream.try_clone().expect("a socket can be cloned");
        // Ends with the stream, or with whoever listens to it.
        std::thread::spawn(move || {
            let body = http::Body::read(BufReader::new(events)).expect("the server answers");
            assert_eq!(body.head.status, 200, "{:?}", body.head);
            let lines = BufReader::new(body).lines().map_while(Result::ok);
            let mut data = lines.filter_map(|line| Some(line.strip_prefix("data:")?.trim_start().to_owned()));
            while data.next().is_some_and(|data| sender.send(data.into_bytes()).is_ok()) {}
        });
        let endpoint = lines.recv_timeout(PATIENCE).expect("the stream begins with the endpoint");
        let endpoint = String::from_utf8(endpoint).expect("an endpoint is UTF-8");
        let way = Way::Sse { address: address.to_owned(), endpoint, lines, stream };
        Raw { way, era: Era::Legacy, next_id: 0 }
    }

    /// Speaks like this.
    pub fn in_era(mut self, era: Era) -> Raw {
        self.era = era;
        self
    }

    /// What the server says of itself, member by member; in the older era this opens the session. The versions are left
    /// out, which are agreed upon with each client, and how long it holds, which is for whoever says it.
    pub fn open(&mut self) -> BTreeMap<String, String> {
        let result = match self.era {
            Era::Legacy => self.initialize(),
            Era::Modern => self.ask("server/discover", "{}"),
        };
        let mut members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&result).unwrap_or_else(|error| panic!("{error}: {result}"));
        for member in ["protocolVersion", "supportedVersions", "ttlMs", "cacheScope"] {
            members.remove(member);
        }
        members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
    }

    /// As the first client of a server behind mcpvisor that speaks both eras: it is greeted anew for that, which takes
    /// its time.
    pub fn greet(mut self) {
        self.open();
        self.ask("tools/list", "{}");
    }

    fn initialize(&mut self) -> String {
        let params = format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{DECLARED},"clientInfo":{{"name":"it","version":"0"}}}}"#
        );
        let result = self.ask("initialize", &params);
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, &[]);
        result
    }

    /// The bytes of the result, or of the error.
    pub fn ask(&mut self, method: &str, params: &str) -> String {
        self.next_id += 1;
        let id = self.next_id.to_string();
        let (params, headers) = match self.era {
            Era::Legacy => (params.to_owned(), Vec::new()),
            Era::Modern => (enveloped(params), headers_of(method, params)),
        };
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let messages = self.send(&body, &headers);
        if let Some(answer) = messages.iter().find_map(|message| answer_to(&id, message)) {
            return answer;
        }
        let lines = match &self.way {
            Way::Stdio(Process { lines, .. }) | Way::Sse { lines, .. } => lines,
            Way::Http { .. } => panic!("{method}: no answer in {messages:?}"),
        };
        loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|why| panic!("{method}: {why}"));
            let line = String::from_utf8(line).expect("a line is UTF-8");
            if let Some(answer) = answer_to(&id, &line) {
                return answer;
            }
        }
    }

    /// Over HTTP: the messages that came back.
    fn send(&mut self, body: &str, more: &[(&'static str, String)]) -> Vec<String> {
        match &mut self.way {
            Way::Stdio(process) => {
                let stdin = process.stdin.as_mut().expect("stdin is open");
                stdin.write_all(format!("{body}\n").as_bytes()).expect("the server reads");
                Vec::new()
            }
            Way::Sse { address, endpoint, .. } => {
                let headers = [("content-type", "application/json")];
                let reply = http::request(address, "POST", endpoint, &headers, body);
                assert_eq!(reply.head.status, 202, "{body}: {reply:?}");
                Vec::new()
            }
            Way::Http { address, path, session } => {
                let mut headers = vec![
                    ("accept", "application/json, text/event-stream"),
                    ("content-type", "application/json"),
                ];
                if let Some(session) = session {
                    headers.push(("mcp-session-id", session));
                    headers.push(("mcp-protocol-version", "2025-11-25"));
                }
                headers.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
                let reply = http::request(address, "POST", path, &headers, body);
                // An error is an answer too, and in the newer era not a 200.
                assert!(self.era == Era::Modern || reply.head.status < 300, "{body}: {reply:?}");
                if let Some(given) = reply.head.header("mcp-session-id") {
                    *session = Some(given.to_owned());
                }
                let is_stream =
                    reply.head.header("content-type").is_some_and(|kind| kind.contains("event-stream"));
                match is_stream {
                    false => vec![reply.body],
                    true => data_lines(&reply.body),
                }
            }
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Way::Sse { stream, .. } = &self.way {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin.take();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("a server to end with its stdin", || self.child.try_wait().ok().flatten());
        }));
        if ended.is_err() {
            // It is ours, and not reaped: its pid names nobody else.
            let _ = self.child.kill();
        }
    }
}

/// The params with what each request of the newer era says.
fn enveloped(params: &str) -> String {
    let meta = format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{DECLARED},"io.modelcontextprotocol/clientInfo":{{"name":"it","version":"0"}}}}"#
    );
    match params.strip_prefix('{').expect("params are an object") {
        "}" => format!("{{{meta}}}"),
        members => format!("{{{meta},{members}"),
    }
}

/// What is said in headers again.
fn headers_of(method: &str, params: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![("mcp-protocol-version", MODERN.to_owned()), ("mcp-method", method.to_owned())];
    let params: Value = serde_json::from_str(params).expect("params are JSON");
    let named = params.get(if method == "resources/read" { "uri" } else { "name" });
    if let Some(name) = named.and_then(Value::as_str)
        && matches!(method, "tools/call" | "prompts/get" | "resources/read")
    {
        headers.push(("mcp-name", name.to_owned()));
    }
    headers
}

fn data_lines(stream: &str) -> Vec<String> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|text| text.trim_start().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn answer_to(id: &str, message: &str) -> Option<String> {
    let message: Message = serde_json::from_str(message).ok()?;
    let is_ours = message.id.is_some_and(|found| found.get() == id);
    message.result.or(message.error).filter(|_| is_ours).map(|raw| raw.get().to_owned())
}

/// What a server says of itself, member by member, and its answer to each question.
pub struct Said {
    era: Era,
    of_itself: BTreeMap<String, String>,
    answers: Vec<String>,
}

impl Raw {
    /// Opens it, and asks all of these.
    pub fn said(mut self, questions: &[(&str, Value)]) -> Said {
        let (era, of_itself) = (self.era, self.open());
        let ask = |(method, params): &(&str, Value)| self.ask(method, &params.to_string());
        Said { era, of_itself, answers: questions.iter().map(ask).collect() }
    }
}

/// Asks both the same; a line for each answer that is not the same.
pub fn differences(name: &str, direct: Raw, through: Raw, questions: &[(&str, Value)]) -> Vec<String> {
    compare(name, &direct.said(questions), through.said(questions), questions)
}

/// A line for each answer of the two that is not the same.
pub fn compare(name: &str, direct: &Said, mut through: Said, questions: &[(&str, Value)]) -> Vec<String> {
    let mut different = Vec::new();
    let mut compare = |what: &str, direct: &str, through: &str| {
        if direct != through {
            different.push(format!(
                "{name}: {what}\n  direct   {}\n  through  {}",
                cut(direct),
                cut(through)
            ));
        }
    };
    let (mut own, ours) = (direct.of_itself.clone(), &mut through.of_itself);
    let crossed = direct.era != through.era;
    if crossed {
        // Who it is stands elsewhere in the other era.
        for said in [&mut own, &mut *ours] {
            said.retain(|member, _| !ENVELOPE.contains(&member.as_str()) && member != "serverInfo");
            // Each era has tasks of its own kind, which do not cross.
            if let Some(capabilities) = said.get_mut("capabilities") {
                let mut all: BTreeMap<String, Box<RawValue>> =
                    serde_json::from_str(capabilities).expect("capabilities are an object");
                all.remove("tasks");
                *capabilities = format!("{all:?}");
            }
        }
    }
    for member in own.keys().chain(ours.keys().filter(|member| !own.contains_key(*member))) {
        let none = String::new();
        compare(
            &format!("of itself, {member}"),
            own.get(member).unwrap_or(&none),
            ours.get(member).unwrap_or(&none),
        );
    }
    for ((method, params), (direct, through)) in
        questions.iter().zip(direct.answers.iter().zip(&through.answers))
    {
        let what = format!("{method} {params}");
        match crossed {
            true => compare(&what, &without_envelope(direct), &without_envelope(through)),
            false => compare(&what, direct, through),
        }
    }
    different
}

/// What an answer of the newer era has beside what it answers.
const ENVELOPE: [&str; 4] = ["resultType", "ttlMs", "cacheScope", "_meta"];

fn without_envelope(answer: &str) -> String {
    let members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let kept = members.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()));
    kept.map(|(name, value)| format!("{name}: {}\n", value.get())).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}
