//! Request heads: from the first byte to the empty line, and what they say about the body.
//!
//! [`HeadScan`] is fed the same growing buffer until it holds a whole head. Everything that two readers of the
//! same bytes could understand differently (RFC 9112 section 11.2, request smuggling) is refused, not repaired.

use super::Refusal;
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Empty lines before a request line: RFC 9112 2.2 wants at least one to be ignored; a stream of them is noise.
const LEADING_NEWLINES_MAX: usize = 8;

/// A request head as it came, with the decisions that its fields imply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// As sent: not percent-decoded, always begins with `/` (or is `*`, for OPTIONS).
    pub path: String,
    /// What follows the first `?`, as sent.
    pub query: Option<String>,
    pub version: Version,
    pub headers: Headers,
    pub framing: Framing,
    /// Whether the peer expects the connection to stay open after the response.
    pub keep_alive: bool,
    /// `Expect: 100-continue` was sent: the body comes only after we say so.
    pub expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(u64),
    Chunked,
}

/// Header lines in the order they came; names compare without case. One buffer, no copy per line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
    lines: Vec<(Range<usize>, Range<usize>)>,
}

impl Headers {
    /// The first value of `name`, without surrounding blanks.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(name, value)| (&self.text[name.clone()], &self.text[value.clone()]))
    }

    /// The elements of every `name` line as one comma-separated list.
    fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.get_all(name).flat_map(|value| value.split(',')).map(str::trim)
    }
}

/// Finds the head at the start of a buffer that grows. A head that comes byte by byte is parsed twice at most
/// (the first bytes, so that noise is refused at once, and the whole), not once per byte.
#[derive(Debug, Default)]
pub struct HeadScan {
    /// Bytes in which no empty line ends; 0 until the first look.
    searched: usize,
}

impl HeadScan {
    /// `buffer` is everything received since the last request. Returns the head and its length in bytes, or
    /// `None` if more must come.
    pub fn advance(&mut self, buffer: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
        let leading = buffer.iter().take_while(|b| is_newline(**b)).take(LEADING_NEWLINES_MAX + 1).count();
        if leading > LEADING_NEWLINES_MAX {
            return Err(Refusal::bad("no request line"));
        }
        let first_look = self.searched <= leading;
        let tail = &buffer[self.searched.saturating_sub(3).max(leading).min(buffer.len())..];
        self.searched = buffer.len();
        let worth_parsing = first_look || has_empty_line(tail);
        if worth_parsing && let Some(found) = parse(buffer)? {
            return Ok(Some(found));
        }
        if buffer.len() >= HEAD_BYTES_MAX {
            return Err(Refusal::new(431, "request head too large"));
        }
        Ok(None)
    }
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn has_empty_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

fn parse(buffer: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let bytes = match request.parse_with_uninit_headers(buffer, &mut lines) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => bytes,
        Ok(httparse::Status::Complete(_)) => return Err(Refusal::new(431, "request head too large")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error, buffer)),
    };
    let Ok(text) = std::str::from_utf8(&buffer[..bytes]) else {
        return Err(Refusal::bad("request head is not UTF-8"));
    };
    let missing = "httparse sets every field of a complete head";
    let version = if request.version.expect(missing) == 0 { Version::Http10 } else { Version::Http11 };
    let method = request.method.expect(missing).to_owned();
    let target = request.path.expect(missing);
    let headers = Headers {
        lines: request.headers.iter().map(|line| spans(text, line)).collect(),
        text: text.to_owned(),
    };
    let head = decide(method, target, version, headers)?;
    Ok(Some((head, bytes)))
}

/// Where a line's name and value lie in `text`, which it borrows from.
fn spans(text: &str, line: &httparse::Header<'_>) -> (Range<usize>, Range<usize>) {
    let locate = |part: &[u8]| {
        if part.is_empty() {
            return 0..0;
        }
        let start = part.as_ptr() as usize - text.as_ptr() as usize;
        start..start + part.len()
    };
    (locate(line.name.as_bytes()), locate(line.value.trim_ascii()))
}

fn refusal(error: httparse::Error, buffer: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, "too many header lines"),
        httparse::Error::Version if claims_http(buffer) => Refusal::new(505, "only HTTP/1.0 and HTTP/1.1"),
        httparse::Error::Version | httparse::Error::Token => Refusal::bad("malformed request line"),
        httparse::Error::NewLine => Refusal::bad("malformed line end"),
        httparse::Error::HeaderName => Refusal::bad("malformed header name"),
        httparse::Error::HeaderValue => Refusal::bad("malformed header value"),
        httparse::Error::Status => Refusal::bad("malformed request head"),
    }
}

/// Whether the third word is `HTTP/<digit>…`: a version we do not speak, rather than noise. What stands behind it
/// may not have come yet, and so must not matter.
fn claims_http(buffer: &[u8]) -> bool {
    let start = buffer.iter().position(|b| !is_newline(*b)).unwrap_or(0);
    let line = buffer[start..].split(|b| is_newline(*b)).next().unwrap_or_default();
    let version = line.splitn(3, |b| *b == b' ').nth(2).unwrap_or_default();
    version.strip_prefix(b"HTTP/").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

fn decide(method: String, target: &str, version: Version, headers: Headers) -> Result<Head, Refusal> {
    let host = one_host(&headers, version)?;
    let target = origin_form(&method, target, host)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target.to_owned(), None),
    };
    let framing = framing(&headers, version)?;
    let expects_continue = match headers.get("expect") {
        Some(value) if value.eq_ignore_ascii_case("100-continue") => version == Version::Http11,
        Some(_) => return Err(Refusal::new(417, "unknown expectation")),
        None => false,
    };
    let says = |token: &str| headers.list("connection").any(|found| found.eq_ignore_ascii_case(token));
    let keep_alive = match version {
        Version::Http11 => !says("close"),
        Version::Http10 => says("keep-alive") && !says("close"),
    };
    Ok(Head { method, path, query, version, framing, keep_alive, expects_continue, headers })
}

/// RFC 9112 3.2: exactly one Host in HTTP/1.1, never more than one.
fn one_host(headers: &Headers, version: Version) -> Result<Option<&str>, Refusal> {
    let mut hosts = headers.get_all("host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Refusal::bad("more than one Host")),
        (None, None) if version == Version::Http11 => Err(Refusal::bad("no Host")),
        (host, None) => Ok(host),
    }
}

/// The path and query of `target`. An absolute target must name the host that the Host line names, so that
/// nobody checks one and serves the other.
fn origin_form<'a>(method: &str, target: &'a str, host: Option<&str>) -> Result<&'a str, Refusal> {
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(target);
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(scheme) = scheme else { return Err(Refusal::bad("malformed request target")) };
    let rest = &target[scheme.len()..];
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('?') || !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return Err(Refusal::bad("request target and Host differ"));
    }
    Ok(if path.is_empty() { "/" } else { path })
}

/// RFC 9112 6.1–6.3, the strict reading.
fn framing(headers: &Headers, version: Version) -> Result<Framing, Refusal> {
    let length = content_length(headers)?;
    if headers.get("transfer-encoding").is_none() {
        return Ok(match length {
            None | Some(0) => Framing::Empty,
            Some(bytes) => Framing::Length(bytes),
        });
    }
    if length.is_some() {
        return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
    }
    if version == Version::Http10 {
        return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
    }
    let mut codings = headers.list("transfer-encoding");
    match (codings.next(), codings.next()) {
        (Some(only), None) if only.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(""), None) => Err(Refusal::bad("empty Transfer-Encoding")),
        (Some(first), Some(_)) if first.eq_ignore_ascii_case("chunked") => {
            Err(Refusal::bad("chunked is not the last Transfer-Encoding"))
        }
        _ => Err(Refusal::new(501, "unknown Transfer-Encoding")),
    }
}

/// Repeated equal values are one value; anything but digits is refused, so `+4`, `0x4`, `4 4` and `` are.
fn content_length(headers: &Headers) -> Result<Option<u64>, Refusal> {
    let mut length = None;
    for value in headers.list("content-length") {
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::bad("malformed Content-Length"));
        }
        let Ok(bytes) = value.parse::<u64>() else {
            return Err(Refusal::new(413, "request body too large"));
        };
        if length.is_some_and(|earlier| earlier != bytes) {
            return Err(Refusal::bad("differing Content-Length"));
        }
        length = Some(bytes);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        HeadScan::default().advance(text.as_bytes())
    }

    /// Feeds every prefix as a growing buffer: nothing before the end, the same head at the end.
    fn check(text: &str) -> Head {
        let (whole, bytes) = scan(text).unwrap().unwrap();
        assert_eq!(bytes, text.len());
        let mut growing = HeadScan::default();
        for end in 0..text.len() {
            assert_eq!(scan(&text[..end]), Ok(None), "{:?}", &text[..end]);
            assert_eq!(growing.advance(&text.as_bytes()[..end]), Ok(None), "{:?}", &text[..end]);
        }
        assert_eq!(growing.advance(text.as_bytes()), Ok(Some((whole.clone(), bytes))));
        whole
    }

    /// The whole is refused with `status`; a prefix is refused with the same or wants more.
    fn check_refused(text: &str, status: u16) {
        assert_eq!(scan(text).map_err(|refusal| refusal.status), Err(status), "{text:?}");
        let mut growing = HeadScan::default();
        for end in 0..=text.len() {
            match growing.advance(&text.as_bytes()[..end]) {
                Ok(head) => assert_eq!(head, None, "{:?}", &text[..end]),
                Err(refusal) => return assert_eq!(refusal.status, status, "{:?}", &text[..end]),
            }
        }
        panic!("accepted byte by byte: {text:?}");
    }

    #[test]
    fn a_head_at_every_prefix() {
        let head = check(
            "POST /mcp/s/demo?x=1&y=?2 HTTP/1.1\r\nHost: a:80\r\nX-Empty:\r\nACCEPT:  a , b \r\naccept: c\r\n\
             content-length: 5\r\n\r\n",
        );
        assert_eq!((head.method.as_str(), head.path.as_str()), ("POST", "/mcp/s/demo"));
        assert_eq!(head.query.as_deref(), Some("x=1&y=?2"));
        assert_eq!(head.headers.get("Accept"), Some("a , b"));
        assert_eq!(head.headers.get_all("accept").collect::<Vec<_>>(), ["a , b", "c"]);
        assert_eq!((head.headers.get("x-empty"), head.headers.get("x-none")), (Some(""), None));
        assert_eq!(head.framing, Framing::Length(5));
        assert!(head.keep_alive && !head.expects_continue);
    }

    #[test]
    fn shapes_that_are_served() {
        let bare = check("GET / HTTP/1.1\nhost: a\n\n");
        assert_eq!((bare.path.as_str(), bare.query, bare.framing), ("/", None, Framing::Empty));
        assert_eq!(check("\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n").path, "/x");
        assert_eq!(check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
        assert_eq!(check("GET http://A:1/x?y HTTP/1.1\r\nHost: a:1\r\n\r\n").path, "/x");
        assert_eq!(check("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").path, "/");
        let chunked = check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
        assert_eq!(chunked.framing, Framing::Chunked);
        let twice = check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(twice.framing, Framing::Length(5));
        let expects =
            check("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n");
        assert!(expects.expects_continue);
    }

    #[test]
    fn who_keeps_the_connection() {
        let keeps = |version: &str, line: &str| {
            check(&format!("GET / HTTP/{version}\r\nHost: a\r\n{line}\r\n")).keep_alive
        };
        assert!(keeps("1.1", ""));
        assert!(!keeps("1.1", "Connection: x, Close\r\n"));
        assert!(!keeps("1.0", ""));
        assert!(keeps("1.0", "Connection: keep-alive\r\n"));
        assert!(!keeps("1.0", "Connection: keep-alive\r\nConnection: close\r\n"));
    }

    #[test]
    fn what_is_refused() {
        let table: &[(&str, u16)] = &[
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("GET / HTTP/2 x\r\nHost: a\r\n\r\n", 505),
            ("GET / x HTTP/2\r\nHost: a\r\n\r\n", 400),
            ("GET / FTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\r\nHost: a\r\n\r\n", 400),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0", 400),
            ("\r\n\r\n\r\n\r\n\r\n\r\n", 400),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 400),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 5\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: gold\r\n\r\n", 417),
        ];
        for (text, status) in table {
            check_refused(text, *status);
        }
        let latin = HeadScan::default().advance(b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n\r\n");
        assert_eq!(latin.map_err(|refusal| refusal.status), Err(400));
    }

    #[test]
    fn size_limits() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        check_refused(&long, 431);
        assert_eq!(HeadScan::default().advance(&long.as_bytes()[..HEAD_BYTES_MAX - 1]), Ok(None));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
        check_refused(&many, 431);
        let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX - 1));
        assert_eq!(check(&most).headers.iter().count(), HEADERS_MAX);
    }

    #[test]
    fn what_follows_the_head_is_left() {
        let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
        let (_, bytes) = scan(&format!("{first}bodyGET / HTTP/1.1\r\n")).unwrap().unwrap();
        assert_eq!(bytes, first.len());
    }
}
