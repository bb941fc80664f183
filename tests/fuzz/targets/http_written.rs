//! What we write is read as it was meant: no method, target, header or body can add a line, a header or a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::http::body::Body;
use mcpvisor::http::reply::{self, Decoder};
use mcpvisor::http::request::HeadScan;
use mcpvisor::http::response::{self, Persistence, Sizing};
use mcpvisor_fuzz::Dice;

// The parts of the input are its lines in the sense of `0xff`, which no UTF-8 text has.
fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0xff);
    let mut next = || parts.next().unwrap_or_default();
    let (method, target, host) = (next(), next(), next());
    let (name, value, body) = (next(), next(), next());
    let text = |part: &'_ [u8]| std::str::from_utf8(part).ok().map(str::to_owned);
    if let (Some(method), Some(target), Some(host), Some(name), Some(value)) =
        (text(method), text(target), text(host), text(name), text(value))
    {
        request(&method, &target, &host, (&name, &value), body);
        request(
            "POST",
            &format!("/{}?q={}", reply::encode(&target), reply::encode(&value)),
            "a",
            ("X", ""),
            body,
        );
        response(&value, body, Dice::of(data));
    }
});

fn request(method: &str, target: &str, host: &str, header: (&str, &str), body: &[u8]) {
    let body = Some(body).filter(|body| !body.is_empty());
    let Ok(bytes) = (reply::Request { method, target, host, headers: &[header], body }).bytes() else {
        return;
    };
    // A server may refuse it; what it must not do is to understand something else.
    let Ok(Some((head, length))) = HeadScan::default().advance(&bytes) else { return };
    assert_eq!(head.method, method);
    let understood = match &head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.clone(),
    };
    assert!(
        target == understood || target.ends_with(&understood) || understood == "/",
        "{target} {understood}"
    );
    let lines: Vec<(&str, &str)> = head.headers.iter().collect();
    assert_eq!(lines[..2], [("Host", host), (header.0, header.1.trim_ascii())]);
    let mut rest = bytes[length..].to_vec();
    if let Some(body) = body {
        let mut out = Vec::new();
        let mut reader = Body::new(head.framing, body.len()).expect("it is as long as it says");
        let taken = reader.take(&rest, &mut out).expect("its length is known");
        assert!(reader.is_done() && out == body);
        rest.drain(..taken);
    }
    assert!(rest.is_empty() && lines.len() <= 3);
}

fn response(value: &str, body: &[u8], mut dice: Dice) {
    let status = [200, 202, 204, 304, 404, 503][dice.below(6)];
    let sizing = [Sizing::Length(body.len()), Sizing::Chunked, Sizing::UntilClose][dice.below(3)];
    let persistence = [Persistence::Implied, Persistence::KeepAlive, Persistence::Close][dice.below(3)];
    let mut out = Vec::new();
    let headers = [("X-First", value), ("Content-Length", value), ("X-Last", "end")];
    response::write_head(&mut out, status, &headers, sizing, persistence);
    if response::has_body(status) {
        match sizing {
            Sizing::Chunked => chunks(&mut out, body, &mut dice),
            Sizing::Length(_) | Sizing::UntilClose => out.extend_from_slice(body),
        }
    }
    let mut decoder = Decoder::new("GET", body.len());
    decoder.feed(&out).expect("our own reply");
    decoder.close().expect("our own reply is whole");
    let head = decoder.head().expect("it has a head").clone();
    let expected = if response::has_body(status) { body } else { b"" };
    assert_eq!((head.status, decoder.take_body().as_slice()), (status, expected));
    assert!(decoder.take_rest().is_empty());
    assert_eq!((head.header("x-last"), head.headers[0].0.as_str()), (Some("end"), "X-First"));
    let ours = ["X-First", "X-Last", "Content-Length", "Transfer-Encoding", "Connection"];
    assert!(head.headers.len() <= 4 && head.headers.iter().all(|(name, _)| ours.contains(&name.as_str())));
}

fn chunks(out: &mut Vec<u8>, mut body: &[u8], dice: &mut Dice) {
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(1 + dice.below(body.len()));
        response::write_chunk_size(out, chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        body = rest;
    }
    out.extend_from_slice(response::LAST_CHUNK);
}
