//! A client that writes and reads raw text: what it sends is what the test wrote, what it hears is whole messages as
//! they came, with the ids of their events.

use super::http::{self, Body, Full};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One session.
pub struct Wire {
    pub address: String,
    pub path: String,
    pub session: String,
    version: &'static str,
    /// What `initialize` was answered, raw.
    pub greeting: String,
}

/// What a client declares that can be asked for everything.
pub const ALL: &str = r#"{"sampling":{},"elicitation":{},"roots":{}}"#;

impl Wire {
    /// A client of the newest revision that can be asked for everything.
    pub fn open(url: &str) -> Wire {
        Wire::open_as(url, "2025-11-25", ALL)
    }

    pub fn open_as(url: &str, version: &'static str, capabilities: &str) -> Wire {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a URL with a path");
        let mut wire = Wire {
            address: address.to_owned(),
            path: format!("/{path}"),
            session: String::new(),
            version,
            greeting: String::new(),
        };
        let params = format!(
            r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"w","version":"0"}}}}"#
        );
        let full = wire.post(&request("0", "initialize", &params));
        wire.session = full.head.header("mcp-session-id").unwrap_or_else(|| panic!("{full:?}")).to_owned();
        wire.greeting = full.body;
        wire.tell(&note("notifications/initialized", "{}"));
        wire
    }

    /// A client of 2026-07-28, which has no session: only [`Wire::begin_modern`] is for it.
    pub fn stateless(url: &str) -> Wire {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a URL with a path");
        let (address, path) = (address.to_owned(), format!("/{path}"));
        Wire { address, path, session: String::new(), version: "2026-07-28", greeting: String::new() }
    }

    /// A request of 2026-07-28; `name` is what its head repeats of the params, which are complete.
    pub fn begin_modern(&self, id: &str, method: &str, name: Option<&str>, params: &str) -> Flow {
        let mut headers = vec![
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-protocol-version", self.version),
            ("mcp-method", method),
        ];
        headers.extend(name.map(|name| ("mcp-name", name)));
        let body = request(id, method, params);
        Flow::of(&self.address, &http::encode(&self.address, "POST", &self.path, &headers, &body))
    }

    /// One POST, answered in full.
    pub fn post(&self, body: &str) -> Full {
        self.post_accepting("application/json, text/event-stream", body)
    }

    pub fn post_accepting(&self, accept: &str, body: &str) -> Full {
        http::request(&self.address, "POST", &self.path, &self.headers(accept), body)
    }

    /// A request that is answered with JSON: the whole answer, raw.
    pub fn ask(&self, id: &str, method: &str, params: &str) -> String {
        let full = self.post(&request(id, method, params));
        assert_eq!(full.head.header("content-type"), Some("application/json"), "{}", start(&full.body));
        full.body
    }

    /// A notification or an answer: nothing comes back.
    pub fn tell(&self, body: &str) {
        let full = self.post(body);
        assert_eq!((full.head.status, full.body.as_str()), (202, ""), "{}", start(body));
    }

    /// A POST whose answer is read message by message.
    pub fn begin(&self, body: &str) -> Flow {
        let headers = self.headers("application/json, text/event-stream");
        Flow::of(&self.address, &http::encode(&self.address, "POST", &self.path, &headers, body))
    }

    /// [`Wire::begin`] of a tool call.
    pub fn begin_call(&self, id: &str, tool: &str, script: &Value) -> Flow {
        self.begin(&request(id, "tools/call", &call_params(tool, script)))
    }

    /// The whole answer to a tool call, raw.
    pub fn call(&self, id: &str, tool: &str, script: &Value) -> String {
        self.ask(id, "tools/call", &call_params(tool, script))
    }

    /// GET: an event stream, new or going on after an event.
    pub fn listen(&self, last_event: Option<&str>) -> Flow {
        let mut headers = self.headers("text/event-stream");
        headers.extend(last_event.map(|id| ("last-event-id", id)));
        let mut flow = Flow::of(&self.address, &http::encode(&self.address, "GET", &self.path, &headers, ""));
        assert_eq!(flow.head().status, 200);
        flow
    }

    /// Ends the session.
    pub fn delete(&self) {
        let headers = self.headers("application/json");
        let full = http::request(&self.address, "DELETE", &self.path, &headers, "");
        assert_eq!(full.head.status, 204, "{full:?}");
    }

    pub fn headers<'a>(&'a self, accept: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut headers = vec![("accept", accept), ("content-type", "application/json")];
        if !self.session.is_empty() {
            headers.push(("mcp-session-id", &self.session));
            headers.push(("mcp-protocol-version", self.version));
        }
        headers
    }
}

pub fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

pub fn note(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

pub fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// With a progress token, 7.
pub fn call_params(tool: &str, script: &Value) -> String {
    format!(r#"{{"name":"{tool}","arguments":{script},"_meta":{{"progressToken":7}}}}"#)
}

/// An answer that comes in pieces.
pub struct Flow(Option<State>);

enum State {
    Asked(TcpStream),
    Answering { body: BufReader<Body>, is_stream: bool, last_event: Option<String> },
}

impl Flow {
    fn of(address: &str, request: &[u8]) -> Flow {
        let mut stream = http::connect(address);
        stream.write_all(request).expect("the endpoint reads");
        Flow(Some(State::Asked(stream)))
    }

    /// Waits for the head of the answer.
    pub fn head(&mut self) -> &http::Head {
        let (body, _, _) = self.answering();
        &body.get_ref().head
    }

    /// The next message, raw; `None` at the end.
    pub fn next(&mut self) -> Option<String> {
        let (body, is_stream, last_event) = self.answering();
        if !*is_stream {
            let mut text = String::new();
            body.read_to_string(&mut text).expect("a readable answer");
            return Some(text).filter(|text| !text.is_empty());
        }
        let mut data = String::new();
        loop {
            let mut line = String::new();
            if body.read_line(&mut line).expect("a readable stream") == 0 {
                return None;
            }
            let line = line.trim_end_matches('\n');
            match line.split_once(':') {
                Some(("data", text)) => data.push_str(text.strip_prefix(' ').unwrap_or(text)),
                Some(("id", id)) => *last_event = Some(id.trim().to_owned()),
                _ if line.is_empty() && !data.is_empty() => return Some(data),
                _ => (),
            }
        }
    }

    /// The next message, parsed.
    pub fn value(&mut self) -> Value {
        let text = self.next().expect("a message, not the end");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}", start(&text)))
    }

    /// The rest of it.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The id of the last event that came.
    pub fn last_event(&mut self) -> String {
        self.answering().2.clone().expect("an event with an id")
    }

    fn answering(&mut self) -> (&mut BufReader<Body>, &mut bool, &mut Option<String>) {
        let state = match self.0.take().expect("a state is put back") {
            State::Asked(stream) => {
                let body = Body::read(BufReader::new(stream)).expect("the endpoint answers");
                let kind = body.head.header("content-type").unwrap_or("");
                let is_stream = kind.starts_with("text/event-stream");
                State::Answering { body: BufReader::new(body), is_stream, last_event: None }
            }
            answering => answering,
        };
        match self.0.insert(state) {
            State::Answering { body, is_stream, last_event } => (body, is_stream, last_event),
            State::Asked(_) => unreachable!("it was answered above"),
        }
    }
}

/// The beginning of what may be very long.
pub fn start(text: &str) -> String {
    text.chars().take(300).collect()
}
