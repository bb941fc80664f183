//! A raw HTTP/1.1 client over one socket: what goes out is what the test wrote, what comes back is read as the
//! standard says (length, chunks, or until the end), piece by piece.

use super::PATIENCE;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Status and headers of an answer; names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer with its whole body.
#[derive(Clone, Debug)]
pub struct Full {
    pub head: Head,
    pub body: String,
}

/// Connects to `127.0.0.1:PORT`, with a deadline on every read and write.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// One request on a connection of its own, answered in full.
pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Full {
    let mut stream = connect(address);
    let mut all = vec![("connection", "close")];
    all.extend(headers);
    stream.write_all(&encode(address, method, path, &all, body)).unwrap();
    let mut body = Body::read(BufReader::new(stream)).unwrap();
    let mut text = String::new();
    body.read_to_string(&mut text).unwrap();
    Full { head: body.head, body: text }
}

/// The bytes of a request. A `host` among the headers replaces the usual one.
pub fn encode(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// The body of an answer, read as it comes.
pub struct Body<S = TcpStream> {
    pub head: Head,
    from: BufReader<S>,
    rest: Rest,
}

enum Rest {
    Length(u64),
    /// Bytes left of the current chunk.
    Chunk(u64),
    UntilClosed,
    Done,
}

impl<S: Read> Body<S> {
    /// Reads the head; the body follows by `Read`.
    pub fn read(mut from: BufReader<S>) -> io::Result<Body<S>> {
        let line = head_line(&mut from)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| broken(format!("not a status line: {line:?}")))?;
        let mut head = Head { status, headers: Vec::new() };
        loop {
            let line = head_line(&mut from)?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| broken(format!("not a header: {line:?}")))?;
            head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let rest = match (head.header("transfer-encoding"), head.header("content-length")) {
            (Some("chunked"), _) => Rest::Chunk(0),
            (_, Some(length)) => {
                Rest::Length(length.parse().map_err(|_| broken(format!("length {length:?}")))?)
            }
            _ if status == 202 || status == 204 || status == 304 => Rest::Done,
            _ => Rest::UntilClosed,
        };
        Ok(Body { head, from, rest })
    }

    /// The connection, if the body is read to its end and the peer keeps it open.
    pub fn reuse(mut self) -> Option<BufReader<S>> {
        let done = io::copy(&mut self, &mut io::sink()).is_ok();
        let closes = self.head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        (done && !closes && !matches!(self.rest, Rest::UntilClosed)).then_some(self.from)
    }

    /// The socket, to look at or to break.
    pub fn socket(&self) -> &S {
        self.from.get_ref()
    }
}

impl<S: Read> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match &mut self.rest {
            Rest::Done | Rest::Length(0) => return Ok(0),
            Rest::UntilClosed => return self.from.read(buffer),
            Rest::Length(left) => left,
            Rest::Chunk(left) => {
                if *left == 0 {
                    let line = head_line(&mut self.from)?;
                    *left = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                        .map_err(|_| broken(format!("chunk size {line:?}")))?;
                    if *left == 0 {
                        // Trailers are not used by anyone here.
                        head_line(&mut self.from)?;
                        self.rest = Rest::Done;
                        return Ok(0);
                    }
                }
                left
            }
        };
        let most = buffer.len().min((*left).try_into().unwrap_or(usize::MAX));
        let count = self.from.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut short"));
        }
        *left -= count as u64;
        if *left == 0 && matches!(self.rest, Rest::Chunk(_)) {
            head_line(&mut self.from)?;
        }
        Ok(count)
    }
}

fn head_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
