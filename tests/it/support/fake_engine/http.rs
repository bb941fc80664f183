//! The fake engine's side of HTTP: requests in, answers and chunks out.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the version.
    pub(super) path: String,
    pub(super) version: Option<(u16, u16)>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    /// What came behind it, for a hijacked stream.
    pub(super) rest: Vec<u8>,
}

impl Request {
    /// `None` at the end of the connection.
    pub(super) fn read(stream: &mut UnixStream, input: &mut Vec<u8>) -> Option<Request> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(request) = Request::parse(input) {
                return Some(request);
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn parse(input: &mut Vec<u8>) -> Option<Request> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(used) = head.parse(input).expect("our client writes HTTP") else {
            return None;
        };
        let (method, target) = (head.method.unwrap().to_owned(), head.path.unwrap().to_owned());
        let header = |header: &httparse::Header| {
            let value = String::from_utf8(header.value.to_vec()).unwrap();
            (header.name.to_ascii_lowercase(), value)
        };
        let headers: BTreeMap<String, String> = head.headers.iter().map(header).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        if input.len() < used + length {
            return None;
        }
        let body = input[used..used + length].to_vec();
        input.drain(..used + length);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), decode(value))
        });
        let (version, path) = split_version(path);
        let path = decode(path);
        let rest = Vec::new();
        Some(Request { method, path, version, query: query.collect(), headers, body, rest })
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(super) fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }
}

fn split_version(path: &str) -> (Option<(u16, u16)>, &str) {
    let parsed = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        let (major, minor) = version.split_once('.')?;
        Some(((major.parse().ok()?, minor.parse().ok()?), &rest[version.len()..]))
    });
    parsed.map_or((None, path), |(version, path)| (Some(version), path))
}

fn decode(text: &str) -> String {
    let (mut out, bytes, mut at) = (Vec::new(), text.as_bytes(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Answer {
        Answer { status, body: body.to_string() }
    }

    pub(super) fn error(status: u16, message: &str) -> Answer {
        Answer::json(status, &serde_json::json!({ "message": message }))
    }

    pub(super) fn empty() -> Answer {
        Answer { status: 204, body: String::new() }
    }

    pub(super) fn bytes(&self, version: (u16, u16)) -> Vec<u8> {
        let length = if self.status == 204 || self.status == 304 {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", self.body.len())
        };
        let Answer { status, body } = self;
        let (major, minor) = version;
        format!(
            "HTTP/1.1 {status} Said\r\nApi-Version: {major}.{minor}\r\nContent-Type: application/json\r\n{length}\r\n{body}"
        )
        .into_bytes()
    }
}

pub(super) fn begin_chunks(to: &mut UnixStream, version: (u16, u16)) -> io::Result<()> {
    let (major, minor) = version;
    let head = format!(
        "HTTP/1.1 200 OK\r\nApi-Version: {major}.{minor}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    to.write_all(head.as_bytes())
}

pub(super) fn chunk(to: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    to.write_all(&chunk)
}

pub(super) fn end_chunks(to: &mut UnixStream) -> io::Result<()> {
    to.write_all(b"0\r\n\r\n")
}

/// One frame of an attach or log stream.
pub(super) fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}
