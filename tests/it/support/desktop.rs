//! What Docker Desktop puts between its users and its engine: a socket of its own, behind which all stands still while
//! it is paused. Connections stay open and carry nothing; a new one is told that it is paused, by the very words.

use super::TempDir;
use super::engine::Engine;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex};

const PAUSED: &str =
    r#"{"message":"Docker Desktop is manually paused. Unpause it through the Whale menu or Dashboard."}"#;

/// Ends with the test: its threads end with their connections.
pub struct Desktop {
    dir: TempDir,
    paused: Arc<(Mutex<bool>, Condvar)>,
}

impl Desktop {
    pub fn before(engine: &Engine) -> Desktop {
        let desktop = Desktop { dir: TempDir::new(), paused: Arc::default() };
        let listener = UnixListener::bind(desktop.dir.path().join("s")).unwrap();
        let (paused, host) = (desktop.paused.clone(), engine.host());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (paused, host) = (paused.clone(), host.clone());
                std::thread::spawn(move || serve(stream, &paused, host.trim_start_matches("unix://")));
            }
        });
        desktop
    }

    /// The engine, as users see it.
    pub fn engine(&self) -> Engine {
        Engine::at(self.dir.path().join("s"))
    }

    pub fn pause(&self) {
        *self.paused.0.lock().unwrap() = true;
    }

    pub fn resume(&self) {
        *self.paused.0.lock().unwrap() = false;
        self.paused.1.notify_all();
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        self.resume();
    }
}

fn serve(stream: UnixStream, paused: &Arc<(Mutex<bool>, Condvar)>, engine: &str) {
    if *paused.0.lock().unwrap() {
        return refuse(&stream);
    }
    let Ok(engine) = UnixStream::connect(engine) else { return };
    let (from, to) = (stream.try_clone().unwrap(), engine.try_clone().unwrap());
    let gate = paused.clone();
    std::thread::spawn(move || pump(from, to, &gate));
    pump(engine, stream, paused);
}

fn refuse(stream: &UnixStream) {
    let mut lines = BufReader::new(stream).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let length = PAUSED.len();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json";
    // Who does not wait for it does not get it.
    let _ = write!(&mut &*stream, "{head}\r\nContent-Length: {length}\r\n\r\n{PAUSED}");
}

/// Bytes and then their end, in one direction; none while it is paused.
fn pump(mut from: UnixStream, mut to: UnixStream, paused: &(Mutex<bool>, Condvar)) {
    let mut buffer = [0; 16 << 10];
    loop {
        // A connection that is cut has ended.
        let count = from.read(&mut buffer).unwrap_or(0);
        drop(paused.1.wait_while(paused.0.lock().unwrap(), |paused| *paused).unwrap());
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            // The peer may have gone first.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}
