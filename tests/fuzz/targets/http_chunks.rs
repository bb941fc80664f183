//! Chunked request bodies: the same however the bytes come, the same as a plain model says, and what the strict
//! reader takes the client's reader takes in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::base::limits::CHUNK_EXTRA_BYTES_MAX;
use mcpvisor::http::body::Body;
use mcpvisor::http::reply::Decoder;
use mcpvisor::http::request::Framing;
use mcpvisor_fuzz::{Dice, each_cut, stretched};

/// How a body ended: after so many bytes, not yet, or refused with a status.
#[derive(Debug, PartialEq)]
enum End {
    Done(usize),
    More,
    Refused(u16),
}

fuzz_target!(|data: &[u8]| {
    let data = &*stretched(data, CHUNK_EXTRA_BYTES_MAX);
    let mut dice = Dice::of(data);
    let bytes_max = [0, 1, 16, 100, 255, 256, 4096, 1 << 24][dice.below(8)];
    let whole = read(Framing::Chunked, bytes_max, &[data]);
    assert_eq!(whole, Model::read(data, bytes_max));
    each_cut(data, |pieces| assert_eq!(read(Framing::Chunked, bytes_max, pieces), whole));
    if let End::Done(taken) = whole.1 {
        the_client_agrees(data, &whole.0, taken);
    }
    by_length(data, dice.below(2 * data.len() + 1));
});

fn read(framing: Framing, bytes_max: usize, pieces: &[&[u8]]) -> (Vec<u8>, End) {
    let (mut out, mut taken) = (Vec::new(), 0);
    let mut body = match Body::new(framing, bytes_max) {
        Ok(body) => body,
        Err(refusal) => return (out, End::Refused(refusal.status)),
    };
    for piece in pieces {
        match body.take(piece, &mut out) {
            Ok(bytes) => taken += bytes,
            Err(refusal) => return (out, End::Refused(refusal.status)),
        }
        assert!(out.len() <= bytes_max);
    }
    (out, if body.is_done() { End::Done(taken) } else { End::More })
}

fn by_length(data: &[u8], length: usize) {
    let (framing, there) = (Framing::Length(length as u64), length.min(data.len()));
    let end = if length <= data.len() && length > 0 { End::Done(length) } else { End::More };
    if length > 0 {
        assert_eq!(read(framing, length, &[data]), (data[..there].to_vec(), end));
        assert_eq!(read(framing, length - 1, &[data]).1, End::Refused(413));
    }
}

fn the_client_agrees(data: &[u8], body: &[u8], taken: usize) {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut decoder = Decoder::new("GET", body.len());
    // It allows less beside the data than the server does.
    if taken - body.len() > 4096 {
        return;
    }
    decoder.feed(&[head, data].concat()).expect("a body of the strict reader");
    assert!(decoder.is_done());
    assert_eq!(decoder.take_body(), body);
    assert_eq!(decoder.take_rest(), &data[taken..]);
}

/// RFC 9112, 7.1, as strict as `http::body` says that it is: over the whole input, at leisure.
struct Model<'a> {
    data: &'a [u8],
    at: usize,
    body: Vec<u8>,
    extra: usize,
}

/// Why the model goes no further.
type Step<T> = Result<T, End>;

const BAD: End = End::Refused(400);

impl Model<'_> {
    fn read(data: &[u8], bytes_max: usize) -> (Vec<u8>, End) {
        let mut model = Model { data, at: 0, body: Vec::new(), extra: 0 };
        let end = model.chunks(bytes_max).err().unwrap_or(End::Done(model.at));
        (model.body, end)
    }

    fn next(&mut self) -> Step<u8> {
        let byte = *self.data.get(self.at).ok_or(End::More)?;
        self.at += 1;
        Ok(byte)
    }

    fn exactly(&mut self, bytes: &[u8]) -> Step<()> {
        bytes.iter().try_for_each(|byte| if self.next()? == *byte { Ok(()) } else { Err(BAD) })
    }

    fn extra(&mut self) -> Step<()> {
        self.extra += 1;
        if self.extra > CHUNK_EXTRA_BYTES_MAX { Err(BAD) } else { Ok(()) }
    }

    fn chunks(&mut self, bytes_max: usize) -> Step<()> {
        loop {
            let size = self.size(bytes_max - self.body.len())?;
            if size == 0 {
                return self.trailers();
            }
            let there = &self.data[self.at..];
            let there = &there[..there.len().min(size)];
            self.body.extend_from_slice(there);
            self.at += there.len();
            if there.len() < size {
                return Err(End::More);
            }
            self.exactly(b"\r\n")?;
        }
    }

    fn size(&mut self, room: usize) -> Step<usize> {
        let (mut size, mut digits) = (0u128, 0);
        let mut byte = self.next()?;
        while let Some(digit) = (byte as char).to_digit(16) {
            (size, digits) = (size * 16 + u128::from(digit), digits + 1);
            if digits > 16 {
                return Err(BAD);
            }
            if size > room as u128 {
                return Err(End::Refused(413));
            }
            byte = self.next()?;
        }
        if digits == 0 {
            return Err(BAD);
        }
        while matches!(byte, b' ' | b'\t') {
            self.extra()?;
            byte = self.next()?;
        }
        if byte == b';' {
            while byte != b'\r' {
                if byte < b' ' && byte != b'\t' {
                    return Err(BAD);
                }
                self.extra()?;
                byte = self.next()?;
            }
        }
        if byte != b'\r' {
            return Err(BAD);
        }
        self.exactly(b"\n")?;
        Ok(size as usize)
    }

    fn trailers(&mut self) -> Step<()> {
        loop {
            let (mut byte, mut length) = (self.next()?, 0);
            while byte != b'\r' {
                if byte == b'\n' {
                    return Err(BAD);
                }
                self.extra()?;
                length += 1;
                byte = self.next()?;
            }
            self.exactly(b"\n")?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}
