//! Request bodies: where they end, by length or by chunks, and how large they may be.
//!
//! [`Body`] takes bytes as they come and never more than belong to the body, so that a pipelined request
//! behind it stays untouched. Chunk lines end in CR LF and nothing else: a lenient reader here is what request
//! smuggling lives on. Extensions and trailers are read past, within a limit, and dropped.

use super::Refusal;
use super::request::Framing;
use crate::base::limits::CHUNK_EXTRA_BYTES_MAX;

const TOO_LARGE: Refusal = Refusal::new(413, "request body too large");

/// The decoder of one body.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Bytes of the body, or of the current chunk, that are still to come.
    left: u64,
    /// Bytes of body that may still come in all.
    room: u64,
    /// Bytes of extensions and trailers that may still come.
    extra_room: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length,
    /// Inside a chunk size, after so many digits.
    Size(u8),
    /// In the blanks behind a chunk size: an extension may follow, and nothing else.
    Blank,
    Extension,
    SizeLf,
    Chunk,
    ChunkCr,
    ChunkLf,
    /// At the start of a trailer line, or of the empty line that ends it all.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

impl Body {
    /// Refuses a length beyond `bytes_max` before a byte of it was read.
    pub fn new(framing: Framing, bytes_max: usize) -> Result<Body, Refusal> {
        let room = bytes_max as u64;
        let (state, left) = match framing {
            Framing::Empty => (State::Done, 0),
            Framing::Length(bytes) if bytes > room => return Err(TOO_LARGE),
            Framing::Length(bytes) => (State::Length, bytes),
            Framing::Chunked => (State::Size(0), 0),
        };
        Ok(Body { state, left, room, extra_room: CHUNK_EXTRA_BYTES_MAX })
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends what `input` holds of the body to `out`; returns how many bytes of `input` were taken.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            if matches!(self.state, State::Length | State::Chunk) {
                at += self.take_data(&input[at..], out);
            } else {
                self.take_framing(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn take_data(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let bytes = (input.len() as u64).min(self.left) as usize;
        out.extend_from_slice(&input[..bytes]);
        self.left -= bytes as u64;
        if self.left == 0 {
            self.state = if self.state == State::Length { State::Done } else { State::ChunkCr };
        }
        bytes
    }

    fn take_framing(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => self.take_digit(digits, byte)?,
            (State::Size(1..) | State::Blank | State::Extension, b'\r') => State::SizeLf,
            (State::Size(1..) | State::Blank, b' ' | b'\t') => self.take_extra(State::Blank)?,
            (State::Size(1..) | State::Blank, b';') => self.take_extra(State::Extension)?,
            (State::Extension, byte) if byte >= b' ' || byte == b'\t' => self.take_extra(State::Extension)?,
            (State::SizeLf, b'\n') if self.left == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Chunk,
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => State::Size(0),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, byte) if byte != b'\n' => {
                self.take_extra(State::Trailer)?
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(Refusal::bad("malformed chunked body")),
        };
        Ok(())
    }

    fn take_digit(&mut self, digits: u8, byte: u8) -> Result<State, Refusal> {
        if digits == 16 {
            return Err(Refusal::bad("malformed chunk size"));
        }
        let value = (byte as char).to_digit(16).expect("the caller has seen a hexadecimal digit");
        let so_far = if digits == 0 { 0 } else { self.left };
        self.left = so_far.saturating_mul(16).saturating_add(u64::from(value));
        // Judged per digit: a size that is too large stays so with more digits. What the digits so far took
        // of the room is given back first.
        self.room = (self.room + so_far).checked_sub(self.left).ok_or(TOO_LARGE)?;
        Ok(State::Size(digits + 1))
    }

    fn take_extra(&mut self, next: State) -> Result<State, Refusal> {
        let too_much = Refusal::bad("too many chunk extensions or trailers");
        self.extra_room = self.extra_room.checked_sub(1).ok_or(too_much)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Refusal> {
        let (mut body, mut out, mut taken) = (Body::new(framing, 64)?, Vec::new(), 0);
        for piece in pieces {
            taken += body.take(piece, &mut out)?;
        }
        Ok((out, taken, body.is_done()))
    }

    /// The whole, every cut in two, and byte by byte give the same; what follows is not taken.
    fn check(framing: Framing, text: &str, expected: &str) {
        let whole = format!("{text}GET /");
        let (bytes, result) = (whole.as_bytes(), Ok((expected.as_bytes().to_vec(), text.len(), true)));
        assert_eq!(decode(framing, &[bytes]), result, "{text:?}");
        for cut in 0..text.len() {
            assert_eq!(decode(framing, &[&bytes[..cut], &bytes[cut..]]), result, "{text:?} cut at {cut}");
            assert!(!decode(framing, &[&bytes[..cut]]).unwrap().2, "{text:?} done at {cut}");
        }
        assert_eq!(decode(framing, &bytes.chunks(1).collect::<Vec<_>>()), result, "{text:?}");
    }

    fn check_refused(text: &str, status: u16) {
        let whole = decode(Framing::Chunked, &[text.as_bytes()]);
        let bytewise = decode(Framing::Chunked, &text.as_bytes().chunks(1).collect::<Vec<_>>());
        assert_eq!(whole, bytewise, "{text:?}");
        assert_eq!(whole.map_err(|refusal| refusal.status), Err(status), "{text:?}");
    }

    #[test]
    fn by_length() {
        check(Framing::Length(5), "hello", "hello");
        assert!(Body::new(Framing::Empty, 0).unwrap().is_done());
        assert!(Body::new(Framing::Length(64), 64).is_ok());
        assert_eq!(Body::new(Framing::Length(65), 64).map(|_| ()), Err(TOO_LARGE));
    }

    #[test]
    fn by_chunks() {
        check(Framing::Chunked, "0\r\n\r\n", "");
        check(Framing::Chunked, "5\r\nhello\r\n6;x=\"y\"\r\n world\r\n00\r\n\r\n", "hello world");
        check(Framing::Chunked, "A \t;n\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n", "0123456789");
        check(
            Framing::Chunked,
            "40\r\n0123456701234567012345670123456701234567012345670123456701234567\r\n0\r\n\r\n",
            "0123456701234567012345670123456701234567012345670123456701234567",
        );
    }

    #[test]
    fn what_is_refused() {
        let table = [
            ("\r\n", 400),
            ("x\r\n", 400),
            (" 5\r\nhello\r\n", 400),
            ("+5\r\nhello\r\n", 400),
            ("0x5\r\nhello\r\n", 400),
            ("-1\r\n", 400),
            ("5\nhello\r\n", 400),
            ("5 5\r\nhello\r\n", 400),
            ("5 \tx;y\r\nhello\r\n", 400),
            ("5\r\rhello\r\n", 400),
            ("5;a\nb\r\nhello", 400),
            ("5\r\nhelloX\r\n", 400),
            ("5\r\nhello\n0\r\n\r\n", 400),
            ("5\r\nhello\r\n\r\n", 400),
            ("0\r\n\n", 400),
            ("0\r\nX: y\n\r\n", 400),
            ("0\r\n\rx", 400),
            ("00000000000000005\r\n", 400),
            ("41\r\n", 413),
            ("ffffffffffffffff\r\n", 413),
            ("20\r\n01234567012345670123456701234567\r\n21\r\n", 413),
        ];
        for (text, status) in table {
            check_refused(text, status);
        }
        check_refused(&format!("5;{}\r\n", "x".repeat(CHUNK_EXTRA_BYTES_MAX)), 400);
        check_refused(&format!("0\r\n{}", "X: y\r\n".repeat(CHUNK_EXTRA_BYTES_MAX / 4 + 1)), 400);
    }
}
