//! A remote MCP server that does the least possible: one tool, over Streamable HTTP of both eras and over HTTP with SSE. A
//! thread per connection; nothing is parsed that need not be.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

/// Where each is found.
pub const LEGACY: &str = "/legacy";
pub const MODERN: &str = "/modern";
pub const SSE: &str = "/sse";
const MESSAGES: &str = "/messages";

/// The one stream of HTTP with SSE.
type Stream = Arc<Mutex<Option<TcpStream>>>;

/// Serves until stdin ends; says its address first.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("{}", listener.local_addr()?);
    Builder::new().name("accept".to_owned()).spawn(move || accept(&listener))?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    let events = Stream::default();
    for stream in listener.incoming() {
        let (mut stream, events) = (stream?, events.clone());
        stream.set_nodelay(true)?;
        Builder::new().name("conn".to_owned()).spawn(move || serve(&mut stream, &events))?;
    }
    Ok(())
}

fn serve(stream: &mut TcpStream, events: &Stream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while let Some(request) = read(stream, &mut buffer)? {
        let Request { method, path, body } = request;
        match (method, path) {
            ("GET", SSE) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
                let endpoint = format!("{head}event: endpoint\ndata: {MESSAGES}\n\n");
                stream.write_all(endpoint.as_bytes())?;
                *events.lock().expect("nobody panics with it") = Some(stream.try_clone()?);
            }
            ("POST", LEGACY | MODERN) => match answer(path == MODERN, body) {
                Some(answer) => respond(stream, "200 OK", &answer)?,
                None => respond(stream, "202 Accepted", "")?,
            },
            ("POST", MESSAGES) => {
                respond(stream, "202 Accepted", "")?;
                let mut events = events.lock().expect("nobody panics with it");
                if let (Some(answer), Some(events)) = (answer(false, body), &mut *events) {
                    events.write_all(format!("event: message\ndata: {answer}\n\n").as_bytes())?;
                }
            }
            ("DELETE", _) => respond(stream, "200 OK", "")?,
            _ => respond(stream, "405 Method Not Allowed", "")?,
        }
    }
    Ok(())
}

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a str,
}

/// One request; nothing when the client has gone.
fn read<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> io::Result<Option<Request<'a>>> {
    let mut filled = 0;
    let (head, end) = loop {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(None);
        }
        filled += count;
        let Some(head) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let end = head + 4 + length(&buffer[..head]);
        if filled >= end {
            break (head, end);
        }
    };
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(io::Error::other);
    let (head, body) = (text(&buffer[..head])?, text(&buffer[head + 4..end])?);
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Request { method, path, body }))
}

fn length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

fn respond(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())
}

/// The answer to a message; nothing for a notification.
fn answer(modern: bool, message: &str) -> Option<String> {
    let id = after(message, "\"id\":")?.split(',').next()?;
    let method = after(message, "\"method\":\"")?.split('"').next()?;
    let complete = if modern { "\"resultType\":\"complete\"," } else { "" };
    let listed = if modern { "\"ttlMs\":0,\"cacheScope\":\"private\"," } else { "" };
    let own = r#""capabilities":{"tools":{}},"serverInfo":{"name":"far","version":"0"}"#;
    let members = match (modern, method) {
        (_, "tools/call") => {
            let text = "0123456789".repeat(20);
            format!(r#""result":{{{complete}"content":[{{"type":"text","text":"{text}"}}]}}"#)
        }
        (_, "tools/list") => format!(
            r#""result":{{{complete}{listed}"tools":[{{"name":"echo","inputSchema":{{"type":"object"}}}}]}}"#
        ),
        (false, "initialize") => format!(r#""result":{{"protocolVersion":"2025-11-25",{own}}}"#),
        (true, "server/discover") => {
            format!(r#""result":{{{complete}{listed}"supportedVersions":["2026-07-28"],{own}}}"#)
        }
        (false, "ping") => r#""result":{}"#.to_owned(),
        _ => r#""error":{"code":-32601,"message":"no such method"}"#.to_owned(),
    };
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},{members}}}"#))
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.find(mark).map(|at| &text[at + mark.len()..])
}
