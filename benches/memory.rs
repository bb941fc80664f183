//! What mcpvisor costs when nothing happens: resident memory, idle event streams, and a client that does not read.

use super::load::{self, Subject};
use super::pairs::median;
use super::subjects::{ONE, Process, big_call, read_away, session};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Resident memory and threads of all processes of ours together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub rss_kib: u64,
    pub threads: u64,
}

impl Usage {
    pub fn of(process: &Process) -> io::Result<Usage> {
        let mut sum = Usage::default();
        for pid in process.pids() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
            };
            sum.rss_kib += field("VmRSS:");
            sum.threads += field("Threads:");
        }
        Ok(sum)
    }

    pub fn rss_mb(self) -> f64 {
        self.rss_kib as f64 / 1024.0
    }
}

/// Opens `count` event streams, each of a session of its own, and gives what it takes more with them than before.
pub fn idle_streams(process: &Process, count: usize) -> io::Result<(f64, i64)> {
    let before = Usage::of(process)?;
    let streams = (0..count).map(|_| stream(&process.address)).collect::<io::Result<Vec<TcpStream>>>()?;
    let with = settled(process, before.threads)?;
    drop(streams);
    Ok((with.rss_mb() - before.rss_mb(), with.threads as i64 - before.threads as i64))
}

fn stream(address: &str) -> io::Result<TcpStream> {
    let mut stream = load::connect(address)?;
    let id = session(&mut stream, ONE.path)?;
    let path = ONE.path;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nMcp-Session-Id: {id}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let head = load::head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("no stream: {head}")));
    }
    Ok(stream)
}

/// The threads of connections that were handed over end a moment after their answer.
fn settled(process: &Process, threads: u64) -> io::Result<Usage> {
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        let now = Usage::of(process)?;
        if now.threads <= threads || Instant::now() > patience {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The p50 of others while one client has asked for 10 MB and does not read them, against without; and the median
/// of both in microseconds.
pub fn slow_reader(process: &Process, pairs: usize, span: Duration) -> io::Result<(f64, f64, f64)> {
    let mut others = process.clients(4, ONE)?;
    others.slice(span)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        without.push(others.slice(span)?.quantile(0.5));
        let slow = ask_and_wait(&process.address)?;
        with.push(others.slice(span)?.quantile(0.5));
        finish(slow)?;
    }
    let ratio = median(with.iter().zip(&without).map(|(with, without)| with / without));
    Ok((ratio, median(without.into_iter()), median(with.into_iter())))
}

/// A client whose answer has begun to come: the rest waits for it in mcpvisor.
fn ask_and_wait(address: &str) -> io::Result<TcpStream> {
    let mut stream = load::connect(address)?;
    let id = session(&mut stream, ONE.path)?;
    stream.write_all(&load::post(ONE.path, Some(&id), &big_call()))?;
    stream.read_exact(&mut [0; 64])?;
    Ok(stream)
}

fn finish(mut slow: TcpStream) -> io::Result<()> {
    let bytes = read_away(&mut slow, 10 << 20)?;
    if bytes == 10 << 20 { Ok(()) } else { Err(io::Error::other(format!("cut after {bytes} bytes"))) }
}
