//! HTTP/1.1 from the client's side: a request as bytes, and bytes as a reply. No socket, no time.
//!
//! One decoder serves our control socket and an engine's: bodies of known length, in chunks, and up to the end of
//! the connection; what follows the reply (the first bytes of an upgraded stream) is kept for the caller. It knows
//! nothing of content types or of what a status means.

use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use httparse::Status;

/// A request that is written in one go.
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, already encoded: see [`encode`].
    pub target: &'a str,
    pub host: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a [u8]>,
}

impl Request<'_> {
    /// Refuses what would break out of its line; a caller that encodes its target never sees that.
    pub fn bytes(&self) -> Result<Vec<u8>, Fault> {
        let bare = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let value = |text: &str| text.bytes().all(|b| b >= b' ' && b != 0x7f || b == b'\t');
        let headers_fit =
            self.headers.iter().all(|(name, text)| bare(name) && !name.contains(':') && value(text));
        if !(bare(self.method) && bare(self.target) && bare(self.host) && headers_fit) {
            return Err(Fault::new(FaultKind::Internal, format!("write a request for {:?}", self.target)));
        }
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, text) in self.headers {
            head.push_str(&format!("{name}: {text}\r\n"));
        }
        if let Some(body) = self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        } else if self.method == "POST" {
            head.push_str("Content-Length: 0\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.unwrap_or_default());
        Ok(bytes)
    }
}

/// Percent-encodes one segment of a path or one value of a query: everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The head of a reply. Interim replies (1xx but 101) are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The first header of that name as text; `None` also when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok()).map(str::trim)
    }
}

/// Bytes of a chunk's size line with its extensions, and of all trailers together; more is a broken peer.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes of body are to come.
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    /// The CRLF behind a chunk's data.
    ChunkEnd,
    /// Lines behind the last chunk, up to an empty one; so many bytes of them so far.
    Trailers(usize),
    /// The body ends with the connection.
    ToEnd,
    Done,
}

/// Takes a reply in pieces of any size.
///
/// `feed` what was read and `close` when the peer closed; `head`, `take_body` and `is_done` say how far it is.
/// After an error the connection is of no use.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    input: Vec<u8>,
    head: Option<Head>,
    body: Vec<u8>,
    body_bytes_max: usize,
    /// A reply to HEAD has a head that speaks of a body, and no body.
    bodiless: bool,
}

impl Decoder {
    /// `body_bytes_max` bounds the body that was not taken yet: all of it for who takes once, at the end.
    pub fn new(method: &str, body_bytes_max: usize) -> Decoder {
        let bodiless = method == "HEAD";
        Decoder {
            state: State::Head,
            input: Vec::new(),
            head: None,
            body: Vec::new(),
            body_bytes_max,
            bodiless,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        let outcome = loop {
            match self.step(at) {
                Ok(0) => break Ok(()),
                Ok(used) => at += used,
                Err(fault) => break Err(fault),
            }
        };
        self.input.drain(..at);
        outcome
    }

    /// The peer closed its side.
    pub fn close(&mut self) -> Result<(), Fault> {
        match self.state {
            State::Done => Ok(()),
            State::ToEnd => {
                self.state = State::Done;
                Ok(())
            }
            State::Head if self.input.is_empty() => Err(broken("closed without a reply")),
            State::Head
            | State::Length(_)
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers(_) => Err(broken("closed in the middle of a reply")),
        }
    }

    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The bytes of the body since the last call.
    pub fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What came behind the end of the reply.
    pub fn take_rest(&mut self) -> Vec<u8> {
        if self.is_done() { std::mem::take(&mut self.input) } else { Vec::new() }
    }

    /// Goes on with the input from `at`; how many bytes were used, 0 when more are needed.
    fn step(&mut self, at: usize) -> Result<usize, Fault> {
        let (state, used) = match self.state {
            State::Head => return self.step_head(at),
            State::Length(left) => {
                let used = self.copy(at, left)?;
                let left = left - used as u64;
                (if left == 0 { State::Done } else { State::Length(left) }, used)
            }
            State::ToEnd => (State::ToEnd, self.copy(at, u64::MAX)?),
            State::ChunkSize => match httparse::parse_chunk_size(&self.input[at..]) {
                Ok(Status::Complete((used, size))) if used <= CHUNK_LINE_BYTES_MAX => {
                    (if size == 0 { State::Trailers(0) } else { State::ChunkData(size) }, used)
                }
                Ok(Status::Partial) if self.input.len() - at <= CHUNK_LINE_BYTES_MAX => return Ok(0),
                Ok(_) | Err(_) => return Err(broken("a chunk's size cannot be read")),
            },
            State::ChunkData(left) => {
                let used = self.copy(at, left)?;
                let left = left - used as u64;
                (if left == 0 { State::ChunkEnd } else { State::ChunkData(left) }, used)
            }
            State::ChunkEnd => match &self.input[at..] {
                [b'\r', b'\n', ..] => (State::ChunkSize, 2),
                [] | [b'\r'] => return Ok(0),
                _ => return Err(broken("a chunk is longer than its size")),
            },
            State::Trailers(seen) => {
                let rest = &self.input[at..];
                let room = CHUNK_LINE_BYTES_MAX.saturating_sub(seen);
                match rest.iter().take(room).position(|byte| *byte == b'\n') {
                    None if rest.len() > room => return Err(broken("the trailers are too long")),
                    None => return Ok(0),
                    Some(end) if matches!(rest[..end], [] | [b'\r']) => (State::Done, end + 1),
                    Some(end) => (State::Trailers(seen + end + 1), end + 1),
                }
            }
            State::Done => return Ok(0),
        };
        self.state = state;
        Ok(used)
    }

    fn step_head(&mut self, at: usize) -> Result<usize, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut reply = httparse::Response::new(&mut headers);
        let used = match reply.parse(&self.input[at..]) {
            Ok(Status::Complete(used)) if used <= HEAD_BYTES_MAX => used,
            Ok(Status::Partial) if self.input.len() - at <= HEAD_BYTES_MAX => return Ok(0),
            Ok(_) => return Err(Fault::new(FaultKind::TooLarge, "read a reply: its head is too long")),
            Err(error) => return Err(broken(&format!("its head cannot be read: {error}"))),
        };
        let status = reply.code.expect("a complete head has a status");
        if (100..200).contains(&status) && status != 101 {
            return Ok(used);
        }
        let headers =
            reply.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
        let head = Head { status, headers };
        self.state = self.framing(&head)?;
        self.head = Some(head);
        Ok(used)
    }

    /// How the body ends: RFC 9112, 6.3.
    fn framing(&self, head: &Head) -> Result<State, Fault> {
        if self.bodiless || matches!(head.status, 101 | 204 | 304) {
            return Ok(State::Done);
        }
        if let Some(coding) = head.all("transfer-encoding").last() {
            let last = coding.rsplit(',').next().unwrap_or_default().trim();
            return if last.eq_ignore_ascii_case("chunked") {
                Ok(State::ChunkSize)
            } else {
                Err(broken(&format!("its transfer coding is not known: {coding}")))
            };
        }
        let mut lengths = head.all("content-length");
        let Some(first) = lengths.next() else { return Ok(State::ToEnd) };
        if first.is_empty()
            || !first.bytes().all(|b| b.is_ascii_digit())
            || lengths.any(|other| other != first)
        {
            return Err(broken("its length cannot be read"));
        }
        match first.parse::<u64>() {
            Ok(0) => Ok(State::Done),
            Ok(length) => Ok(State::Length(length)),
            Err(_) => Err(broken("its length cannot be read")),
        }
    }

    /// Moves at most `most` bytes of input to the body.
    fn copy(&mut self, at: usize, most: u64) -> Result<usize, Fault> {
        let there = self.input.len() - at;
        let used = usize::try_from(most).map_or(there, |most| there.min(most));
        if self.body.len() + used > self.body_bytes_max {
            let max = self.body_bytes_max;
            return Err(Fault::new(FaultKind::TooLarge, format!("read a reply: more than {max} bytes")));
        }
        self.body.extend_from_slice(&self.input[at..at + used]);
        Ok(used)
    }
}

fn broken(why: &str) -> Fault {
    Fault::new(FaultKind::Protocol, format!("read a reply: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(status, body, rest)` or the error, of a whole transcript that ends in a close.
    fn decode(pieces: &[&[u8]], method: &str) -> Result<(u16, String, String), String> {
        let mut decoder = Decoder::new(method, 100);
        let mut body = Vec::new();
        for piece in pieces {
            decoder.feed(piece).map_err(|fault| fault.message)?;
            body.extend(decoder.take_body());
        }
        decoder.close().map_err(|fault| fault.message)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok((decoder.head().unwrap().status, text(body), text(decoder.take_rest())))
    }

    /// Whole, in single bytes, and split in two at every place: always the same.
    fn check(transcript: &str, method: &str, expected: Result<(u16, &str, &str), &str>) {
        let bytes = transcript.as_bytes();
        let expected = expected
            .map(|(status, body, rest)| (status, body.to_owned(), rest.to_owned()))
            .map_err(|message| format!("read a reply: {message}"));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&[bytes], method), expected, "{transcript:?}");
        assert_eq!(decode(&single, method), expected, "{transcript:?} in single bytes");
        for at in 0..=bytes.len() {
            assert_eq!(
                decode(&[&bytes[..at], &bytes[at..]], method),
                expected,
                "{transcript:?} split at {at}"
            );
        }
    }

    #[test]
    fn replies() {
        let check = |transcript: &str, expected| check(transcript, "GET", expected);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellorest", Ok((200, "hello", "rest")));
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok((200, "", "")));
        check("HTTP/1.1 200 OK\r\n\r\nto the end", Ok((200, "to the end", "")));
        check("HTTP/1.0 404 Not Found\nContent-Length: 2\n\nno", Ok((404, "no", "")));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\nrest",
            Ok((200, "hello world", "rest")),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 9\r\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ: a\r\n\r\n",
            Ok((200, "0123456789", "")),
        );
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\nrest",
            Ok((204, "", "rest")),
        );
        check("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly bytes", Ok((101, "", "early bytes")));
        check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", Ok((200, "x", "")));
    }

    #[test]
    fn a_reply_to_head_has_no_body() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", Ok((200, "", "")));
    }

    #[test]
    fn broken_replies() {
        let check = |transcript: &str, expected| check(transcript, "GET", Err(expected));
        check("", "closed without a reply");
        check("HTTP/1.1 200 OK\r\nContent-", "closed in the middle of a reply");
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "closed in the middle of a reply");
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "closed in the middle of a reply",
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "closed in the middle of a reply",
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "a chunk's size cannot be read",
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
            "a chunk is longer than its size",
        );
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "its transfer coding is not known: gzip");
        check("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "its length cannot be read");
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "its length cannot be read",
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "its length cannot be read");
        check("SSH-2.0-OpenSSH\r\n", "its head cannot be read: invalid HTTP version");
    }

    #[test]
    fn limits() {
        let long = |text: &str, count| text.repeat(count);
        let error = |transcript: String| {
            let mut decoder = Decoder::new("GET", 100);
            let outcome = transcript.as_bytes().chunks(1000).try_for_each(|piece| decoder.feed(piece));
            outcome.unwrap_err().message
        };
        let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", long("x", 101));
        assert_eq!(error(body), "read a reply: more than 100 bytes");
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", long("x", HEAD_BYTES_MAX));
        assert_eq!(error(head), "read a reply: its head is too long");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let line = format!("{chunked}1;{}", long("x", CHUNK_LINE_BYTES_MAX + 1000));
        assert_eq!(error(line), "read a reply: a chunk's size cannot be read");
        let trailers = format!("{chunked}0\r\n{}", long("X: y\r\n", 1000));
        assert_eq!(error(trailers), "read a reply: the trailers are too long");
    }

    /// Transcripts with bytes changed, dropped and doubled: any outcome, but whole and in pieces the same.
    #[test]
    fn damaged_replies() {
        let whole =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\nrest";
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            let lossy = |pieces: &[&[u8]]| {
                let mut decoder = Decoder::new("GET", 100);
                let fed =
                    pieces.iter().try_for_each(|piece| decoder.feed(piece)).and_then(|()| decoder.close());
                (fed.map_err(|fault| fault.message), decoder.take_body(), decoder.take_rest())
            };
            let (first, second) = bytes.split_at(random.usize(..bytes.len()));
            assert_eq!(lossy(&[&bytes]), lossy(&[first, second]), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn requests() {
        let request = Request {
            method: "POST",
            target: "/api/v1/tools/call",
            host: "mcpvisor",
            headers: &[("Connection", "close")],
            body: Some(b"{}"),
        };
        assert_eq!(
            String::from_utf8(request.bytes().unwrap()).unwrap(),
            "POST /api/v1/tools/call HTTP/1.1\r\nHost: mcpvisor\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        );
        let none = Request { body: None, ..request };
        assert!(none.bytes().unwrap().ends_with(b"Content-Length: 0\r\n\r\n"));
        assert!(Request { target: "/a b", ..none }.bytes().is_err());
        assert!(Request { target: "/", headers: &[("X", "a\r\nY: b")], ..none }.bytes().is_err());
    }

    #[test]
    fn encoded() {
        assert_eq!(encode("time-1.2_~"), "time-1.2_~");
        assert_eq!(encode("@a/b c?é"), "%40a%2Fb%20c%3F%C3%A9");
    }
}
