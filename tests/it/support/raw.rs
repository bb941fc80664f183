//! Two clients that keep the bytes of what they are answered, one at a server's stdin and one at an endpoint of ours,
//! to ask both the same and compare.

use super::http;
use super::stdio::stdout_lines;
use super::{PATIENCE, until};
use crossbeam_channel::Receiver;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

/// What mcpvisor tells a server that its client can do. Some servers have other tools for a client that can do more.
const DECLARED: &str = "{}";

/// One session with a server.
pub struct Raw {
    way: Way,
    next_id: u64,
}

enum Way {
    Stdio(Process),
    Http { address: String, path: String, session: Option<String> },
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
        Raw { way: Way::Stdio(Process { child, stdin, lines }), next_id: 0 }
    }

    /// At a URL such as `http://127.0.0.1:8080/mcp`.
    pub fn http(url: &str) -> Raw {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a URL with a path");
        let way = Way::Http { address: address.to_owned(), path: format!("/{path}"), session: None };
        Raw { way, next_id: 0 }
    }

    /// Opens the session; what the server says of itself, member by member. The version is left out: it is agreed
    /// upon with each client.
    pub fn initialize(&mut self) -> BTreeMap<String, String> {
        let params = format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{DECLARED},"clientInfo":{{"name":"it","version":"0"}}}}"#
        );
        let result = self.ask("initialize", &params);
        let mut members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&result).unwrap_or_else(|error| panic!("{error}: {result}"));
        members.remove("protocolVersion");
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
    }

    /// The bytes of the result, or of the error.
    pub fn ask(&mut self, method: &str, params: &str) -> String {
        self.next_id += 1;
        let id = self.next_id.to_string();
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let messages = self.send(&body);
        if let Some(answer) = messages.iter().find_map(|message| answer_to(&id, message)) {
            return answer;
        }
        let Way::Stdio(process) = &self.way else { panic!("{method}: no answer in {messages:?}") };
        loop {
            let line = process.lines.recv_timeout(PATIENCE).unwrap_or_else(|why| panic!("{method}: {why}"));
            let line = String::from_utf8(line).expect("a line is UTF-8");
            if let Some(answer) = answer_to(&id, &line) {
                return answer;
            }
        }
    }

    /// Over HTTP: the messages that came back.
    fn send(&mut self, body: &str) -> Vec<String> {
        match &mut self.way {
            Way::Stdio(process) => {
                let stdin = process.stdin.as_mut().expect("stdin is open");
                stdin.write_all(format!("{body}\n").as_bytes()).expect("the server reads");
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
                let reply = http::request(address, "POST", path, &headers, body);
                assert!(reply.head.status < 300, "{body}: {reply:?}");
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

fn data_lines(stream: &str) -> Vec<String> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|text| text.trim_start().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn answer_to(id: &str, message: &str) -> Option<String> {
    let message: Message = serde_json::from_str(message).ok()?;
    let is_ours = message.id.is_some_and(|found| found.get() == id);
    message.result.or(message.error).filter(|_| is_ours).map(|raw| raw.get().to_owned())
}

/// Asks both the same; a line for each answer that is not the same.
pub fn differences(
    name: &str,
    mut direct: Raw,
    mut through: Raw,
    questions: &[(&str, Value)],
) -> Vec<String> {
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
    let (own, ours) = (direct.initialize(), through.initialize());
    for member in own.keys().chain(ours.keys().filter(|member| !own.contains_key(*member))) {
        let none = String::new();
        compare(
            &format!("initialize, {member}"),
            own.get(member).unwrap_or(&none),
            ours.get(member).unwrap_or(&none),
        );
    }
    for (method, params) in questions {
        let params = params.to_string();
        compare(&format!("{method} {params}"), &direct.ask(method, &params), &through.ask(method, &params));
    }
    different
}

fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}
