//! The floor that mcpvisor is held against: the least that any gateway from HTTP to a stdio server can do.
//!
//! The same shape as the product: a thread that accepts, one per connection, one that reads the child; the same locks,
//! the same stacks, built with the same flags. HTTP in, one line each way, answers in order. Nothing is parsed, checked
//! or bounded. FROZEN: a faster relay would move the goal, so this file is not to be tuned.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::Builder;

const STACK_BYTES: usize = 256 << 10;

/// Where one connection waits for its line.
#[derive(Default)]
struct Slot {
    line: Mutex<Option<Vec<u8>>>,
    heard: Condvar,
}

/// The way to the child. One lock: a line and its place in the queue belong together.
struct Line {
    stdin: ChildStdin,
    waiting: VecDeque<Arc<Slot>>,
}

/// Relays to `program` until stdin ends; says its address first.
pub fn run(program: &[String]) -> io::Result<()> {
    let mut child =
        Command::new(&program[0]).args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (stdin, mut stdout) = (stdin.expect("it was piped"), stdout.expect("it was piped"));
    let line = Arc::new(Mutex::new(Line { stdin, waiting: VecDeque::new() }));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("{}", listener.local_addr()?);
    let answers = line.clone();
    spawn("life", move || read_child(&mut stdout, &answers))?;
    spawn("accept", move || {
        for stream in listener.incoming() {
            let (mut stream, line) = (stream?, line.clone());
            stream.set_nodelay(true)?;
            spawn("conn", move || serve(&mut stream, &line))?;
        }
        Ok(())
    })?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    child.kill()?;
    child.wait().map(|_| ())
}

fn spawn(name: &str, body: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body).map(|_| ())
}

fn read_child(stdout: &mut impl Read, line: &Mutex<Line>) -> io::Result<()> {
    let (mut buffer, mut begun) = (vec![0; 64 << 10], Vec::new());
    loop {
        let count = stdout.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            begun.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let slot = line.lock().waiting.pop_front().expect("one answer per request");
            *slot.line.lock() = Some(std::mem::take(&mut begun));
            slot.heard.notify_one();
        }
        begun.extend_from_slice(rest);
    }
}

fn serve(stream: &mut TcpStream, line: &Mutex<Line>) -> io::Result<()> {
    let slot = Arc::new(Slot::default());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Some((body, end)) = request(stream, &mut buffer)? else { return Ok(()) };
        buffer[end] = b'\n';
        {
            let mut line = line.lock();
            line.waiting.push_back(slot.clone());
            line.stdin.write_all(&buffer[body..=end])?;
        }
        let mut answer = slot.line.lock();
        while answer.is_none() {
            slot.heard.wait(&mut answer);
        }
        let answer = answer.take().expect("the loop above has seen it");
        respond(stream, &answer)?;
    }
}

/// Reads one request; where its body begins and ends. `None` when the client has gone.
pub fn request(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(None);
        }
        filled += count;
        let Some(head) = find(&buffer[..filled], b"\r\n\r\n") else { continue };
        let end = head + 4 + length(&buffer[..head]);
        if filled >= end {
            return Ok(Some((head + 4, end)));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn length(head: &[u8]) -> usize {
    let Some(at) = find(head, b"Content-Length: ") else { return 0 };
    let digits = head[at + 16..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}

/// Answers 200 with `body`, in one write.
pub fn respond(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(body)];
    let mut parts = &mut parts[..];
    while !parts.is_empty() {
        let count = stream.write_vectored(parts)?;
        IoSlice::advance_slices(&mut parts, count);
    }
    Ok(())
}
