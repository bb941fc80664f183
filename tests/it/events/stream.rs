//! A client of `GET /events`, over TCP or the control socket.

use crate::support::PATIENCE;
use crate::support::daemon::Daemon;
use crate::support::http::{self, Body, Head};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// One event as a browser would give it to its page.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

pub struct Stream {
    pub head: Head,
    /// Of the last event, or the one that the stream began with.
    pub id: String,
    lines: BufReader<Body<Box<dyn Read>>>,
}

impl Stream {
    pub fn open(daemon: &Daemon, target: &str, headers: &[(&str, &str)]) -> Stream {
        let mut stream = http::connect(daemon.address());
        stream.write_all(&http::encode(daemon.address(), "GET", target, headers, "")).unwrap();
        Stream::read(Box::new(stream))
    }

    pub fn on_the_socket(daemon: &Daemon, target: &str) -> Stream {
        let mut stream = UnixStream::connect(daemon.tmp.join("state/mcpvisor.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&http::encode("x", "GET", target, &[], "")).unwrap();
        Stream::read(Box::new(stream))
    }

    fn read(from: Box<dyn Read>) -> Stream {
        let body = Body::read(BufReader::new(from)).unwrap();
        Stream { head: body.head.clone(), id: String::new(), lines: BufReader::new(body) }
    }

    /// Until its first lines, by which it is known to hear what comes.
    pub fn begun(mut self) -> Stream {
        assert_eq!(self.head.status, 200, "{:?}", self.head);
        assert_eq!(self.head.header("content-type"), Some("text/event-stream"));
        let lines = self.block();
        assert!(lines.iter().any(|line| line == "retry: 1000"), "{lines:?}");
        self
    }

    pub fn next(&mut self) -> Event {
        loop {
            let mut event = Event::default();
            for line in self.block() {
                let (field, value) = line.split_once(": ").unwrap();
                match field {
                    "event" => event.name = value.to_owned(),
                    "id" => event.id = value.to_owned(),
                    "data" => event.data = serde_json::from_str(value).unwrap(),
                    _ => (),
                }
            }
            if !event.data.is_null() {
                assert_eq!(event.data["type"], event.name.as_str());
                return event;
            }
        }
    }

    /// The next one that is liked.
    pub fn find(&mut self, mut liked: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if liked(&event) {
                return event;
            }
        }
    }

    /// Nothing more comes, and that is said in order.
    pub fn ended(mut self) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }

    /// The lines up to an empty one; the id is taken down.
    fn block(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
            match line.trim_end() {
                "" => return lines,
                line => {
                    if let Some(id) = line.strip_prefix("id: ") {
                        id.clone_into(&mut self.id);
                    }
                    lines.push(line.to_owned());
                }
            }
        }
    }
}

/// The events of `GET /api/v1/events`, and the whole answer.
pub fn list(daemon: &Daemon, query: &str) -> (Vec<Value>, Value) {
    let full = http::request(daemon.address(), "GET", &format!("/api/v1/events{query}"), &[], "");
    assert_eq!(full.head.status, 200, "{full:?}");
    let list: Value = serde_json::from_str(&full.body).unwrap();
    (list["events"].as_array().unwrap().clone(), list)
}
