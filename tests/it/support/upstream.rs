//! A remote MCP server that does exactly what a test says: raw sockets, a thread per connection, and a list of all that
//! it was sent.

use super::{PATIENCE, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The port at the other end: the same for all that came by one connection.
    pub from: u16,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The JSON-RPC method; the HTTP method where there is none.
    pub fn what(&self) -> String {
        self.message()["method"].as_str().unwrap_or(&self.method).to_owned()
    }

    fn read(from: &mut BufReader<TcpStream>) -> Option<Seen> {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line).ok().filter(|count| *count > 0)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let port = from.get_ref().peer_addr().ok()?.port();
        let mut seen = Seen { method, path, headers, body: String::new(), from: port };
        let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).ok()?;
        seen.body = String::from_utf8(body).unwrap();
        Some(seen)
    }
}

/// Where an answer is written.
pub struct Out {
    stream: TcpStream,
    keep: bool,
    /// Somebody else goes on here.
    handed: bool,
}

impl Out {
    /// Bytes as they are.
    pub fn raw(&mut self, text: &str) {
        // The peer may have gone, which is often the point.
        let _ = self.stream.write_all(text.as_bytes());
    }

    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        self.raw(&format!("{text}\r\n{body}"));
    }

    pub fn json(&mut self, headers: &[(&str, &str)], body: &Value) {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.answer(200, &all, &body.to_string());
    }

    /// The head of an event stream, which ends with the connection.
    pub fn events(&mut self, headers: &[(&str, &str)]) {
        self.keep = false;
        let mut text =
            "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\nconnection: close\r\n".to_owned();
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        self.raw(&format!("{text}\r\n"));
    }

    pub fn event(&mut self, data: &Value) {
        self.raw(&format!("data: {data}\n\n"));
    }

    /// Nothing more comes: the connection is closed when the answer is over.
    pub fn cut(&mut self) {
        self.keep = false;
    }

    /// Waits until the peer closes this connection.
    pub fn wait_closed(&mut self) {
        self.keep = false;
        let mut byte = [0];
        // An error is a close, too.
        let _ = self.stream.read(&mut byte);
    }

    /// Whether the peer has closed this connection.
    pub fn is_closed(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Another handle on the connection, for a test that writes to it later and closes it.
    pub fn later(&mut self) -> Out {
        (self.keep, self.handed) = (false, true);
        Out { stream: self.stream.try_clone().unwrap(), keep: false, handed: false }
    }
}

type Handler = dyn Fn(&Seen, &mut Out) + Send + Sync;

/// Ends with its value: no new connections, and those that are open are shut.
pub struct Upstream {
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    over: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Upstream {
    pub fn start(handle: impl Fn(&Seen, &mut Out) + Send + Sync + 'static) -> Upstream {
        Upstream::start_at("127.0.0.1:0", handle)
    }

    pub fn start_at(address: &str, handle: impl Fn(&Seen, &mut Out) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind(address).unwrap();
        let mut upstream = Upstream {
            address: listener.local_addr().unwrap().to_string(),
            seen: Arc::default(),
            open: Arc::default(),
            over: Arc::default(),
            accepts: None,
        };
        let handle: Arc<Handler> = Arc::new(handle);
        let (seen, open, over) = (upstream.seen.clone(), upstream.open.clone(), upstream.over.clone());
        upstream.accepts = Some(std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Acquire) {
                    return;
                }
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (handle, seen) = (handle.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &*handle, &seen));
            }
        }));
        upstream
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Every request so far whose method (of JSON-RPC, else of HTTP) is this.
    pub fn seen(&self, what: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.what() == what).cloned().collect()
    }

    /// Every request so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn wait_seen(&self, what: &str, count: usize) -> Vec<Seen> {
        until(&format!("{count} of {what}"), || {
            let seen = self.seen(what);
            (seen.len() >= count).then_some(seen)
        })
    }

    /// Shuts every connection that is open.
    pub fn cut_all(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
        // Before it has ended, the port still takes connections.
        self.accepts.take().map(JoinHandle::join);
        self.cut_all();
    }
}

fn serve(stream: TcpStream, handle: &Handler, log: &Mutex<Vec<Seen>>) {
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut out = Out { stream, keep: true, handed: false };
    while out.keep
        && let Some(seen) = Seen::read(&mut reader)
    {
        log.lock().unwrap().push(seen.clone());
        handle(&seen, &mut out);
    }
    if !out.handed {
        // Others hold the socket, too.
        let _ = out.stream.shutdown(Shutdown::Both);
    }
}

/// What a plain server answers: a session, one tool `run`, and the arguments of a call as its text. `None`: nothing, 202.
pub fn plain(message: &Value) -> Option<Value> {
    let id = message.get("id").filter(|_| message.get("method").is_some())?;
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "scripted", "version": "0" },
        }),
        "tools/list" => json!({ "tools": [{ "name": "run", "inputSchema": { "type": "object" } }] }),
        "tools/call" => text(&message["params"]["arguments"].to_string()),
        _ => json!({}),
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// The result of a call with one text.
pub fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

/// A response to the request that `message` is.
pub fn response(message: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })
}

/// Answers as [`plain`] says, in JSON, with a session; no GET stream.
pub fn answer_plainly(seen: &Seen, out: &mut Out) {
    match (seen.method.as_str(), plain(&seen.message())) {
        ("POST", Some(answer)) => out.json(&[("mcp-session-id", "s-1")], &answer),
        ("POST", None) => out.answer(202, &[], ""),
        ("DELETE", _) => out.answer(204, &[], ""),
        _ => out.answer(405, &[], ""),
    }
}
