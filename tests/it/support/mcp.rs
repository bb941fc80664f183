//! A raw MCP client over Streamable HTTP: nothing is hidden, and an answer that comes twice is seen.

use super::http::{self, Body, Head};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A JSON-RPC error, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

impl RpcError {
    /// The name of the fault, such as `exited`.
    pub fn kind(&self) -> &str {
        self.data["kind"].as_str().unwrap_or("")
    }
}

pub type Answer = Result<Value, RpcError>;

/// One session. Requests made by its methods go one after another over one connection; [`Mcp::begin`] opens
/// another for each.
pub struct Mcp {
    address: String,
    path: String,
    session: Option<String>,
    version: &'static str,
    next_id: u64,
    idle: Option<BufReader<TcpStream>>,
    /// Notifications that came on the way to the answers.
    pub notes: Vec<Value>,
    /// What `initialize` was answered.
    pub server: Value,
}

impl Mcp {
    /// Opens a session at a URL such as `http://127.0.0.1:8080/mcp`.
    pub fn connect(url: &str) -> Mcp {
        Mcp::connect_with(url, "2025-11-25")
    }

    pub fn connect_with(url: &str, version: &'static str) -> Mcp {
        let mut client = Mcp::unconnected(url, version);
        let params = json!({
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": { "name": "it", "version": "0" },
        });
        client.server = client.request("initialize", params).expect("initialize is answered");
        client.notify("notifications/initialized", json!({}));
        client
    }

    /// A client that has said nothing yet.
    pub fn unconnected(url: &str, version: &'static str) -> Mcp {
        let rest = url.strip_prefix("http://").expect("a plain http URL");
        let (address, path) = rest.split_once('/').expect("a URL with a path");
        Mcp {
            address: address.to_owned(),
            path: format!("/{path}"),
            session: None,
            version,
            next_id: 0,
            idle: None,
            notes: Vec::new(),
            server: Value::Null,
        }
    }

    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A client in a session that somebody else has opened.
    pub fn in_session(url: &str, session: &str) -> Mcp {
        let mut client = Mcp::unconnected(url, "2025-11-25");
        client.session = Some(session.to_owned());
        client
    }

    /// Another client in the same session, with a connection of its own. Its ids start at `first_id`.
    pub fn twin(&self, first_id: u64) -> Mcp {
        Mcp {
            address: self.address.clone(),
            path: self.path.clone(),
            session: self.session.clone(),
            version: self.version,
            next_id: first_id,
            idle: None,
            notes: Vec::new(),
            server: self.server.clone(),
        }
    }

    pub fn request(&mut self, method: &str, params: Value) -> Answer {
        self.next_id += 1;
        let id = json!(self.next_id);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let connection = self.idle.take();
        let reply = self.post(connection, &body.to_string()).expect("the endpoint answers");
        let session = reply.head().header("mcp-session-id").map(ToOwned::to_owned);
        let mut pending = Pending { reply, id, notes: Vec::new() };
        let answer = pending.wait().unwrap_or_else(|error| panic!("{method}: {error}"));
        self.session = session.or(self.session.take());
        self.notes.append(&mut pending.notes);
        self.idle = pending.reply.reuse();
        answer
    }

    pub fn call(&mut self, tool: &str, arguments: Value) -> Answer {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// Calls a tool and returns its first text; panics on an error.
    pub fn text(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).unwrap_or_else(|error| panic!("{tool}: {error:?}"));
        result["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("{tool}: no text in {result}"))
            .to_owned()
    }

    /// The names of all tools, over all pages.
    pub fn tools(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let mut params = json!({});
        loop {
            let page = self.request("tools/list", params).expect("tools/list is answered");
            let tools = page["tools"].as_array().expect("a list of tools");
            names.extend(tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()));
            match page.get("nextCursor") {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return names,
            }
        }
    }

    /// Sends a notification; it must be accepted with 202.
    pub fn notify(&mut self, method: &str, params: Value) {
        let body = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
        let reply = self.post(None, &body).expect("the endpoint answers");
        assert_eq!(reply.head().status, 202, "{method}");
    }

    /// Sends `notifications/cancelled` for a request begun by this session.
    pub fn cancel(&mut self, id: &Value) {
        self.notify("notifications/cancelled", json!({ "requestId": id, "reason": "the test says so" }));
    }

    /// Sends a request and returns as soon as it is on its way; dropping what is returned leaves.
    pub fn begin(&self, id: Value, method: &str, params: Value) -> Begun {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let mut stream = http::connect(&self.address);
        stream.write_all(&self.encode("POST", &body)).expect("the endpoint reads");
        Begun { stream, id }
    }

    /// [`Mcp::begin`] of a tool call; a token asks for progress.
    pub fn begin_call(&self, id: Value, tool: &str, arguments: Value, token: Option<Value>) -> Begun {
        let mut params = json!({ "name": tool, "arguments": arguments });
        if let Some(token) = token {
            params["_meta"] = json!({ "progressToken": token });
        }
        self.begin(id, "tools/call", params)
    }

    /// The session's own event stream (GET).
    pub fn events(&self) -> Reply {
        let mut stream = http::connect(&self.address);
        stream.write_all(&self.encode("GET", "")).expect("the endpoint reads");
        let reply = Reply::read(BufReader::new(stream)).expect("the endpoint answers");
        assert_eq!(reply.head().status, 200);
        reply
    }

    /// Ends the session; returns the HTTP status.
    pub fn delete(self) -> u16 {
        let mut stream = http::connect(&self.address);
        stream.write_all(&self.encode("DELETE", "")).expect("the endpoint reads");
        Reply::read(BufReader::new(stream)).expect("the endpoint answers").head().status
    }

    fn post(&self, connection: Option<BufReader<TcpStream>>, body: &str) -> io::Result<Reply> {
        let request = self.encode("POST", body);
        if let Some(mut kept) = connection
            && kept.get_mut().write_all(&request).is_ok()
        {
            match Reply::read(kept) {
                // The peer closed an idle connection, which it may: once more on a new one.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (),
                other => return other,
            }
        }
        let mut stream = http::connect(&self.address);
        stream.write_all(&request)?;
        Reply::read(BufReader::new(stream))
    }

    fn encode(&self, method: &str, body: &str) -> Vec<u8> {
        let accept =
            if method == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        let mut headers = vec![("accept", accept)];
        if method == "POST" {
            headers.push(("content-type", "application/json"));
        }
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id", session));
            headers.push(("mcp-protocol-version", self.version));
        }
        http::encode(&self.address, method, &self.path, &headers, body)
    }
}

/// A request that was sent and whose answer nobody has looked at yet.
pub struct Begun {
    stream: TcpStream,
    pub id: Value,
}

impl Begun {
    /// Waits for the head of the answer.
    pub fn open(self) -> Pending {
        let reply = Reply::read(BufReader::new(self.stream)).expect("the endpoint answers");
        Pending { reply, id: self.id, notes: Vec::new() }
    }

    /// Waits for the answer.
    pub fn answer(self) -> Answer {
        self.open().answer()
    }

    /// The socket, for a client that reads slowly or breaks off.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

/// A request whose answer is coming.
pub struct Pending {
    reply: Reply,
    id: Value,
    pub notes: Vec<Value>,
}

impl Pending {
    pub fn answer(mut self) -> Answer {
        self.wait().unwrap_or_else(|error| panic!("request {}: {error}", self.id))
    }

    /// The next message: a notification, or the answer. `None`: the stream ended.
    pub fn next(&mut self) -> Option<Value> {
        self.reply.next().expect("a readable answer")
    }

    /// Reads to the end of the body: exactly one answer must be in it.
    fn wait(&mut self) -> Result<Answer, String> {
        let mut answer = None;
        let status = self.reply.head().status;
        while let Some(message) = self.reply.next().map_err(|error| format!("status {status}: {error}"))? {
            if message.get("method").is_some() {
                self.notes.push(message);
            } else if message["id"] != self.id && !message["id"].is_null() {
                return Err(format!("an answer to another request: {message}"));
            } else if answer.is_some() {
                return Err(format!("a second answer: {message}"));
            } else {
                answer = Some(split(message));
            }
        }
        answer.ok_or_else(|| format!("status {status} and no answer"))
    }
}

fn split(mut message: Value) -> Answer {
    match message.get_mut("error") {
        None => Ok(message["result"].take()),
        Some(error) => Err(RpcError {
            code: error["code"].as_i64().expect("an error has a code"),
            message: error["message"].as_str().expect("an error has a message").to_owned(),
            data: error["data"].take(),
        }),
    }
}

/// The messages of an HTTP answer: one if it is JSON, any number if it is an event stream.
pub struct Reply {
    body: BufReader<Body>,
    is_stream: bool,
    done: bool,
}

impl Reply {
    fn read(from: BufReader<TcpStream>) -> io::Result<Reply> {
        let body = Body::read(from)?;
        let kind = body.head.header("content-type").unwrap_or("");
        let is_stream = kind.starts_with("text/event-stream");
        Ok(Reply { is_stream, done: false, body: BufReader::new(body) })
    }

    pub fn head(&self) -> &Head {
        &self.body.get_ref().head
    }

    pub fn socket(&self) -> &TcpStream {
        self.body.get_ref().socket()
    }

    /// `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Value>> {
        match self.is_stream {
            true => self.next_event(),
            false if self.done => Ok(None),
            false => {
                self.done = true;
                let mut text = String::new();
                self.body.read_to_string(&mut text)?;
                if text.is_empty() {
                    return Ok(None);
                }
                parse(&text).map(Some)
            }
        }
    }

    fn next_event(&mut self) -> io::Result<Option<Value>> {
        let mut data = String::new();
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end_matches(['\r', '\n']);
            match line.split_once(':') {
                Some(("data", text)) => data.push_str(text.strip_prefix(' ').unwrap_or(text)),
                // An event without data (a priming one, a comment) says nothing.
                _ if line.is_empty() && !data.is_empty() => return parse(&data).map(Some),
                _ => (),
            }
        }
    }

    fn reuse(self) -> Option<BufReader<TcpStream>> {
        self.body.into_inner().reuse()
    }
}

fn parse(text: &str) -> io::Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error} in {text:?}")))
}
