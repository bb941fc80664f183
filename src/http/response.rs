//! Responses as bytes: heads, chunks, and the words for statuses.

use std::io::Write;

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What asks for the body of a request that said `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the end of a response's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    Length(usize),
    Chunked,
    /// By closing the connection: for streams to a client of HTTP/1.0.
    UntilClose,
}

/// What the response says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// What the client assumes anyway.
    Implied,
    KeepAlive,
    Close,
}

/// Appends a response head. `headers` must not name what is decided here (Content-Length, Transfer-Encoding,
/// Connection): such lines are left out. Control characters in values become blanks, so that no value can add
/// a line. Statuses that never have a body (204, 304) get no framing field.
pub fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&str, &str)],
    sizing: Sizing,
    persistence: Persistence,
) {
    put(out, format_args!("HTTP/1.1 {status} {}\r\n", reason(status)));
    for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name)) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
        out.extend_from_slice(b"\r\n");
    }
    match sizing {
        _ if !has_body(status) => {}
        Sizing::Length(bytes) => put(out, format_args!("Content-Length: {bytes}\r\n")),
        Sizing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Sizing::UntilClose => {}
    }
    out.extend_from_slice(match persistence {
        Persistence::Implied => b"\r\n",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
    });
}

/// Appends the line that begins a chunk of `bytes`; the data and CR LF follow. Zero would end the body.
pub fn write_chunk_size(out: &mut Vec<u8>, bytes: usize) {
    debug_assert!(bytes > 0);
    put(out, format_args!("{bytes:x}\r\n"));
}

/// Whether a response of this status may carry a body.
pub fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

fn is_ours(name: &str) -> bool {
    ["content-length", "transfer-encoding", "connection"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// The phrase behind the status; for people only.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        status: u16,
        headers: &[(&str, &str)],
        sizing: Sizing,
        persistence: Persistence,
        expected: &str,
    ) {
        let mut out = Vec::new();
        write_head(&mut out, status, headers, sizing, persistence);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn heads() {
        let length = Sizing::Length(2);
        check(
            200,
            &[("A", "b")],
            length,
            Persistence::Implied,
            "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n",
        );
        check(
            404,
            &[],
            length,
            Persistence::Close,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
        );
        check(
            200,
            &[],
            Sizing::Chunked,
            Persistence::Implied,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        check(
            200,
            &[],
            Sizing::UntilClose,
            Persistence::Close,
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        );
        check(
            204,
            &[],
            length,
            Persistence::KeepAlive,
            "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n",
        );
    }

    #[test]
    fn no_value_adds_a_line() {
        let hostile = [("X", "a\r\nSet-Cookie: b\0c"), ("connection", "x"), ("Content-LENGTH", "7")];
        check(
            200,
            &hostile,
            Sizing::Length(0),
            Persistence::Implied,
            "HTTP/1.1 200 OK\r\nX: a  Set-Cookie: b c\r\nContent-Length: 0\r\n\r\n",
        );
    }

    #[test]
    fn chunk_sizes() {
        let mut out = Vec::new();
        write_chunk_size(&mut out, 0x1a2b);
        assert_eq!(out, b"1a2b\r\n");
    }
}
