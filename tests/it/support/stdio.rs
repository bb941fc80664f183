//! A demo server spoken to directly, over its own stdin and stdout.

use super::daemon::command;
use super::processes::{self, MARK};
use super::{PATIENCE, TempDir, until};
use crossbeam_channel::{Receiver, unbounded};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A `demo-server` that leads its own process group, as a supervised one does. Drop ends it and its helpers.
pub struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    pub stderr: Stderr,
    pub tmp: TempDir,
    pub mark: String,
    next_id: u64,
}

/// The first of what came on stderr, and how much it was.
#[derive(Clone)]
pub struct Stderr {
    lines: Receiver<String>,
    bytes: Arc<AtomicU64>,
}

impl Demo {
    /// Starts it with these switches, and `--pid-file`.
    pub fn start(switches: &str) -> Demo {
        let tmp = TempDir::new();
        let mark = tmp.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut command = command();
        command.arg("demo-server").args(switches.split_whitespace());
        command.arg("--pid-file").arg(tmp.join("pids")).env(MARK, &mark).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = stdout_lines(&mut child);
        let stderr = Stderr::of(&mut child);
        Demo { child, stdin, lines, stderr, tmp, mark, next_id: 0 }
    }

    /// Starts it and goes through `initialize`.
    pub fn ready(switches: &str) -> Demo {
        let mut demo = Demo::start(switches);
        let answer = demo.initialize("2025-11-25");
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        demo
    }

    pub fn initialize(&mut self, version: &str) -> Value {
        let id = self.send_initialize(version);
        let answer = self.answer(&id);
        self.notify("notifications/initialized", json!({}));
        answer
    }

    pub fn send_initialize(&mut self, version: &str) -> Value {
        let params = json!({
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": { "name": "it", "version": "0" },
        });
        self.send("initialize", params)
    }

    /// Sends a request; returns its id.
    pub fn send(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    /// Sends a tool call; returns its id.
    pub fn send_call(&mut self, tool: &str, arguments: Value) -> Value {
        self.send("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    pub fn notify(&mut self, method: &str, params: Value) {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// Sends a line as it is.
    pub fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        // A server that has died meanwhile is what some tests are about: its exit will tell.
        let _ = stdin.write_all(format!("{line}\n").as_bytes());
    }

    /// The next line of stdout, raw; `None` once stdout is closed.
    pub fn line(&self) -> Option<Vec<u8>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(error) if error.is_disconnected() => None,
            Err(_) => panic!("waited {PATIENCE:?} in vain for a line"),
        }
    }

    /// The next message; `None` once stdout is closed.
    pub fn message(&self) -> Option<Value> {
        let line = self.line()?;
        Some(serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {}", start_of(&line))))
    }

    /// The next message, which must be the answer to `id`.
    pub fn answer(&self, id: &Value) -> Value {
        let message = self.message().expect("an answer, not the end of stdout");
        assert_eq!(&message["id"], id, "{message}");
        message
    }

    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(&id)
    }

    /// Calls a tool; returns its text.
    pub fn call(&mut self, tool: &str, arguments: Value) -> String {
        let id = self.send_call(tool, arguments);
        let answer = self.answer(&id);
        answer["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("{tool}: {answer}"))
            .to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        processes::send(self.child.id(), signal);
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its exit.
    pub fn wait(&mut self) -> ExitStatus {
        until("the demo server to exit", || self.child.try_wait().unwrap())
    }

    /// Closes its stdin and waits for its exit code.
    pub fn end(&mut self) -> Option<i32> {
        self.close_stdin();
        self.wait().code()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid_file(&self) -> String {
        self.tmp.join("pids")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may be dead already, and is reaped either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        processes::kill_all(&self.mark, self.pid_file());
    }
}

impl Stderr {
    fn of(child: &mut Child) -> Stderr {
        let (sender, lines) = unbounded();
        let bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&bytes);
        let mut pipe = BufReader::with_capacity(64 << 10, child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut line = Vec::new();
            loop {
                let Ok(part) = pipe.fill_buf() else { return };
                if part.is_empty() {
                    return;
                }
                let end = part.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(part.len(), |end| end + 1);
                // The first 4 KiB of a line are for the test; the rest of it is only counted.
                line.extend(part[..taken].iter().take(4096 - line.len().min(4096)));
                pipe.consume(taken);
                count.fetch_add(taken as u64, Ordering::Relaxed);
                if end.is_some() {
                    let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                    // The test may have dropped its end; the pipe must be drained all the same.
                    let _ = sender.send(text);
                    line.clear();
                }
            }
        });
        Stderr { lines, bytes }
    }

    /// The next line; `None` once stderr is closed.
    pub fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(error) if error.is_disconnected() => None,
            Err(_) => panic!("waited {PATIENCE:?} in vain for a line of stderr"),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

pub fn stdout_lines(child: &mut Child) -> Receiver<Vec<u8>> {
    let (sender, lines) = unbounded();
    let mut pipe = BufReader::new(child.stdout.take().unwrap());
    // Ends with the pipe, or with the test.
    std::thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            match pipe.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.last() == Some(&b'\n') => line.truncate(line.len() - 1),
                Ok(_) => (),
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn start_of(line: &[u8]) -> String {
    format!("{} bytes: {}", line.len(), String::from_utf8_lossy(&line[..line.len().min(200)]))
}
