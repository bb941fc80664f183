//! The load: requests that were built before, on connections that stay open. One thread for all clients, so that the
//! client is not what is measured. It looks at the first bytes and the length of every answer, and no further.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

/// What one measuring span gave.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Microseconds from the first byte sent to the last byte received, sorted.
    latencies: Vec<f64>,
    pub calls_per_s: f64,
    /// Processor time that the processes between client and server took for one call, in microseconds: what noise
    /// from others disturbs least.
    pub cpu_us: f64,
}

impl Slice {
    pub fn new(mut latencies: Vec<f64>, took: Duration) -> Slice {
        latencies.sort_by(f64::total_cmp);
        let calls_per_s = latencies.len() as f64 / took.as_secs_f64();
        Slice { latencies, calls_per_s, cpu_us: f64::NAN }
    }

    /// How many were answered.
    pub fn calls(&self) -> usize {
        self.latencies.len()
    }

    /// In microseconds; 0.5 is the median.
    pub fn quantile(&self, q: f64) -> f64 {
        let index = (self.latencies.len() as f64 * q) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Something that answers calls.
pub trait Subject {
    /// Calls for `span`, as many at once as it was made for.
    fn slice(&mut self, span: Duration) -> io::Result<Slice>;
}

/// Clients with a keep-alive connection each, which send one request again and again.
pub struct Clients {
    all: Vec<Client>,
    /// The processes that serve them.
    pids: Vec<u32>,
    epoll: Epoll,
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer_bytes: usize,
    buffer: Vec<u8>,
    filled: usize,
    sent: Instant,
}

impl Clients {
    /// `request` gives the bytes for each connection, and may talk on it before.
    pub fn connect(
        address: &str,
        pids: Vec<u32>,
        count: usize,
        mut request: impl FnMut(&mut TcpStream) -> io::Result<Vec<u8>>,
    ) -> io::Result<Clients> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut all = Vec::new();
        for token in 0..count {
            let mut stream = connect(address)?;
            let request = request(&mut stream)?;
            let (head, body) = exchange(&mut stream, &request)?;
            if !head.starts_with("HTTP/1.1 200 ") || body.contains("\"error\"") {
                return Err(io::Error::other(format!("the first call failed: {head}{body}")));
            }
            let answer_bytes = head.len() + body.len();
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token as u64))?;
            let buffer = vec![0; answer_bytes + 1];
            all.push(Client { stream, request, answer_bytes, buffer, filled: 0, sent: Instant::now() });
        }
        Ok(Clients { all, pids, epoll })
    }

    fn one(&mut self, span: Duration) -> io::Result<Slice> {
        let (client, mut latencies) = (&mut self.all[0], Vec::with_capacity(1 << 16));
        let begin = Instant::now();
        while begin.elapsed() < span {
            client.send()?;
            while !client.receive()? {}
            latencies.push(client.sent.elapsed().as_secs_f64() * 1e6);
        }
        Ok(Slice::new(latencies, begin.elapsed()))
    }

    fn many(&mut self, span: Duration) -> io::Result<Slice> {
        let mut latencies = Vec::with_capacity(1 << 16);
        let mut ready = vec![EpollEvent::empty(); self.all.len()];
        let begin = Instant::now();
        let (mut waiting, mut took) = (self.all.len(), None);
        self.all.iter_mut().try_for_each(Client::send)?;
        while waiting > 0 {
            let count = self.epoll.wait(&mut ready, EpollTimeout::NONE)?;
            for event in &ready[..count] {
                let client = &mut self.all[event.data() as usize];
                if !client.receive()? {
                    continue;
                }
                if took.is_none() {
                    latencies.push(client.sent.elapsed().as_secs_f64() * 1e6);
                }
                // Over, the clients come home one after the other; that is not load any more.
                if took.is_some() || begin.elapsed() >= span {
                    took.get_or_insert_with(|| begin.elapsed());
                    waiting -= 1;
                } else {
                    client.send()?;
                }
            }
        }
        Ok(Slice::new(latencies, took.unwrap_or(span)))
    }
}

impl Subject for Clients {
    fn slice(&mut self, span: Duration) -> io::Result<Slice> {
        let before = cpu_ns(&self.pids);
        let mut slice = if self.all.len() == 1 { self.one(span)? } else { self.many(span)? };
        slice.cpu_us = (cpu_ns(&self.pids) - before) as f64 / 1e3 / slice.calls() as f64;
        Ok(slice)
    }
}

impl Client {
    fn send(&mut self) -> io::Result<()> {
        self.sent = Instant::now();
        self.stream.write_all(&self.request)
    }

    /// One read; whether the answer is whole.
    fn receive(&mut self) -> io::Result<bool> {
        let count = self.stream.read(&mut self.buffer[self.filled..])?;
        self.filled += count;
        if count > 0 && self.filled < self.answer_bytes {
            return Ok(false);
        }
        if self.filled != self.answer_bytes || !self.buffer.starts_with(b"HTTP/1.1 200 ") {
            let got = String::from_utf8_lossy(&self.buffer[..self.filled]).into_owned();
            return Err(io::Error::other(format!("another answer than the first: {got}")));
        }
        self.filled = 0;
        Ok(true)
    }
}

/// What all threads of these processes have run so far.
fn cpu_ns(pids: &[u32]) -> u64 {
    let tasks = pids.iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
    let stats = tasks.flatten().flatten().map(|task| std::fs::read_to_string(task.path().join("schedstat")));
    stats.flatten().filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// A server on pipes, with `depth` calls under way at a time.
pub struct Pipe {
    pub stdin: ChildStdin,
    pub stdout: BufReader<ChildStdout>,
    pub request: Vec<u8>,
    pub depth: usize,
}

impl Subject for Pipe {
    fn slice(&mut self, span: Duration) -> io::Result<Slice> {
        let (mut latencies, mut line) = (Vec::with_capacity(1 << 16), Vec::new());
        let begin = Instant::now();
        let mut sent = std::collections::VecDeque::new();
        for _ in 0..self.depth {
            sent.push_back(Instant::now());
            self.stdin.write_all(&self.request)?;
        }
        let mut took = None;
        while let Some(at) = sent.pop_front() {
            line.clear();
            self.stdout.read_until(b'\n', &mut line)?;
            if took.is_none() {
                latencies.push(at.elapsed().as_secs_f64() * 1e6);
            }
            if took.is_some() || begin.elapsed() >= span {
                took.get_or_insert_with(|| begin.elapsed());
            } else {
                sent.push_back(Instant::now());
                self.stdin.write_all(&self.request)?;
            }
        }
        Ok(Slice::new(latencies, took.unwrap_or(span)))
    }
}

/// A connection with a deadline on every read and write: the run ends, whatever happens.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// The bytes of a POST.
pub fn post(path: &str, session: Option<&str>, body: &str) -> Vec<u8> {
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    let length = body.len();
    // What the official SDKs send.
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\n{session}MCP-Protocol-Version: 2025-11-25\r\n\
         User-Agent: mcpvisor-bench\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The bytes of a `tools/call` of 2026-07-28.
pub fn post_modern(path: &str, tool: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n\
         Mcp-Name: {tool}\r\nUser-Agent: mcpvisor-bench\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One request, and the head and body of its answer.
pub fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<(String, String)> {
    stream.write_all(request)?;
    let head = head(stream)?;
    let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

/// The head of an answer with its empty line, and nothing behind it.
pub fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The value of a header; `name` in lower case.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}
