//! An engine that answers by the book, or says what a test wants it to say.

use crate::support::TempDir;
use mcpvisor::engine::endpoint::Endpoint;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex};

/// What a call (`ping`, `events`, `list`) is answered instead: a status and its body.
type Said = BTreeMap<&'static str, (u16, &'static str)>;

#[derive(Clone)]
pub struct Scripted {
    dir: Arc<TempDir>,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    said: Said,
    calls: Vec<&'static str>,
    streams: Vec<UnixStream>,
    listed: String,
}

impl Scripted {
    pub fn start() -> Scripted {
        let engine = Scripted { dir: Arc::new(TempDir::new()), state: Arc::default() };
        engine.state.0.lock().unwrap().listed = "[]".to_owned();
        let listener = UnixListener::bind(engine.dir.path().join("s")).unwrap();
        let of = engine.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let of = of.clone();
                std::thread::spawn(move || of.serve(stream.unwrap()));
            }
        });
        engine
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("s"))
    }

    /// From now on this call is answered so; `None` by the book.
    pub fn say(&self, call: &'static str, said: Option<(u16, &'static str)>) {
        let mut state = self.state.0.lock().unwrap();
        match said {
            Some(said) => state.said.insert(call, said),
            None => state.said.remove(call),
        };
    }

    /// What there is, as `GET /containers/json` says it.
    pub fn list(&self, json: &str) {
        self.state.0.lock().unwrap().listed = json.to_owned();
    }

    /// Tells an event to all who listen.
    pub fn tell(&self, action: &str, id: &str) {
        let event = format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}"}}}}"#) + "\n";
        for mut stream in &self.state.0.lock().unwrap().streams {
            // One that was closed hears nothing.
            let _ = write!(stream, "{:x}\r\n{event}\r\n", event.len());
        }
    }

    /// All event streams end in the middle.
    pub fn cut_streams(&self) {
        for stream in self.state.0.lock().unwrap().streams.drain(..) {
            // One that was closed is cut.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub fn calls(&self, call: &str) -> usize {
        self.state.0.lock().unwrap().calls.iter().filter(|known| **known == call).count()
    }

    fn serve(&self, stream: UnixStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(first)) = lines.next() {
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let call = ["_ping", "events", "containers/json", "info"];
            let Some(known) = call.iter().position(|part| first.contains(part)) else { panic!("{first}") };
            let call = ["ping", "events", "list", "info"][known];
            let mut state = self.state.0.lock().unwrap();
            state.calls.push(call);
            let said = state.said.get(call).map(|(status, body)| (*status, (*body).to_owned()));
            let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n";
            let answer = match (call, said) {
                (_, Some((status, body))) => {
                    format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                }
                ("events", None) => {
                    state.streams.push(stream.try_clone().unwrap());
                    format!("{head}Transfer-Encoding: chunked\r\n\r\n")
                }
                ("list", None) => {
                    format!("{head}Content-Length: {}\r\n\r\n{}", state.listed.len(), state.listed)
                }
                ("info", None) => {
                    let info = r#"{"ID":"SCRIPTED","Name":"host","ServerVersion":"27.1"}"#;
                    format!("{head}Content-Length: {}\r\n\r\n{info}", info.len())
                }
                _ => format!("{head}Content-Length: 2\r\n\r\nOK"),
            };
            drop(state);
            if (&stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
