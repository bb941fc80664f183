//! The three streams of a container on one hijacked connection: opened here, and taken apart.

use super::api::{Call, Engine};
use super::error::{EngineError, EngineErrorKind, Missing};
use super::patience::Patience;
use crate::http::reply::encode;
use std::os::fd::OwnedFd;

const ATTACH: &str = "attach to a container";

/// An open attachment. INVARIANT of Docker, for whoever owns it: a stream that is not read makes kill and remove of its
/// container hang; read it until the container is gone, or close it.
#[derive(Debug)]
pub struct Attached {
    /// Non-blocking, both directions; `shutdown(Write)` is the end of the container's stdin.
    pub socket: OwnedFd,
    /// What came together with the answer: the first bytes for the [`Demux`].
    pub early: Vec<u8>,
}

impl Engine {
    /// Stdin, stdout and stderr of a container, which need not be started yet: what is written before waits for it.
    pub fn attach(&self, id: &str, patience: &Patience) -> Result<Attached, EngineError> {
        let target = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", encode(id));
        let headers = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
        let call = Call { headers: &headers, ..Call::post(ATTACH, Missing::Container, target) };
        let stream = self.open(&call, patience)?;
        // 101 is the answer to `Upgrade`; engines and proxies that do not know it answer 200 and go on raw.
        let is_raw = stream.head().is_some_and(|head| {
            let framed =
                ["transfer-encoding", "content-length"].iter().any(|name| head.header(name).is_some());
            head.status == 101 || (head.status == 200 && !framed)
        });
        if !is_raw {
            return Err(EngineError::new(EngineErrorKind::Garbled, ATTACH, "its answer is no raw stream"));
        }
        let (socket, early) = stream.into_raw().map_err(|trouble| trouble.during(ATTACH))?;
        Ok(Attached { socket: socket.into(), early })
    }
}

/// Where a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    Out,
    Err,
}

/// The stream is not one of frames; nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

/// Takes frames apart: `[stream, 0, 0, 0, length (4 bytes, big endian)]` and so many bytes of payload.
///
/// Payload is passed on as it comes, in slices of the input; nothing but an incomplete header is ever kept.
#[derive(Clone, Debug, Default)]
pub struct Demux {
    header: [u8; 8],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of payload that are to come.
    left: u32,
    garbled: bool,
}

impl Demux {
    pub fn new() -> Demux {
        Demux::default()
    }

    /// Whether a frame has begun and not ended: an end here is an end in the middle.
    pub fn is_inside(&self) -> bool {
        self.have > 0
    }

    /// Calls `take` with each piece of payload in `bytes`, none of them empty.
    pub fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Stream, &[u8])) -> Result<(), Garbled> {
        while !bytes.is_empty() && !self.garbled {
            if self.have < self.header.len() {
                let missing = (self.header.len() - self.have).min(bytes.len());
                self.header[self.have..self.have + missing].copy_from_slice(&bytes[..missing]);
                self.have += missing;
                bytes = &bytes[missing..];
                self.check_header();
                continue;
            }
            let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            take(self.stream(), &bytes[..count]);
            bytes = &bytes[count..];
            self.left -= count as u32;
            if self.left == 0 {
                self.have = 0;
            }
        }
        if self.garbled { Err(Garbled) } else { Ok(()) }
    }

    /// Judged as far as it has come: garbage is seen at its first byte.
    fn check_header(&mut self) {
        let good = [0..=2, 0..=0, 0..=0, 0..=0];
        let seen = self.header[..self.have].iter().zip(good);
        self.garbled = seen.into_iter().any(|(byte, good)| !good.contains(byte));
        if self.have == self.header.len() {
            let [.., a, b, c, d] = self.header;
            self.left = u32::from_be_bytes([a, b, c, d]);
            if self.left == 0 {
                self.have = 0;
            }
        }
    }

    /// 0 is the echo of stdin, which Docker's own client writes to stdout.
    fn stream(&self) -> Stream {
        if self.header[0] == 2 { Stream::Err } else { Stream::Out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    type Output = (String, String);

    fn read(pieces: &[&[u8]]) -> (Result<(), Garbled>, Output, bool) {
        let (mut demux, mut out, mut err) = (Demux::new(), Vec::new(), Vec::new());
        let fed = pieces.iter().try_for_each(|piece| {
            demux.feed(piece, |stream, bytes| {
                assert!(!bytes.is_empty());
                if stream == Stream::Out { out.extend(bytes) } else { err.extend(bytes) }
            })
        });
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (fed, (text(out), text(err)), demux.is_inside())
    }

    fn transcript() -> Vec<u8> {
        let frames =
            [(1, "hello"), (2, "oops"), (1, ""), (0, "echo"), (2, ""), (1, " world\nand {\"more\":1}\n")];
        frames.iter().flat_map(|(stream, text)| frame(*stream, text)).collect()
    }

    #[test]
    fn whole_in_bytes_and_cut_anywhere() {
        let bytes = transcript();
        let expected = (Ok(()), ("helloecho world\nand {\"more\":1}\n".to_owned(), "oops".to_owned()), false);
        assert_eq!(read(&[&bytes]), expected);
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}");
            let (fed, (out, err), inside) = read(&[&bytes[..cut]]);
            assert_eq!(fed, Ok(()));
            assert!(expected.1.0.starts_with(&out) && expected.1.1.starts_with(&err), "prefix of {cut}");
            let ends: Vec<usize> = vec![0, 13, 25, 33, 45, 53, bytes.len()];
            assert_eq!(inside, !ends.contains(&cut), "prefix of {cut}");
        }
    }

    #[test]
    fn random_frames_in_random_pieces() {
        let mut random = fastrand::Rng::with_seed(4);
        for round in 0..2_000 {
            let (mut bytes, mut out, mut err) = (Vec::new(), String::new(), String::new());
            for _ in 0..random.usize(0..12) {
                let text: String = (0..random.usize(0..40)).map(|_| random.alphanumeric()).collect();
                let stream = random.u8(0..3);
                bytes.extend(frame(stream, &text));
                if stream == 2 { err.push_str(&text) } else { out.push_str(&text) }
            }
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(random.usize(0..=rest.len().min(20)));
                pieces.push(piece);
                rest = more;
            }
            assert_eq!(read(&pieces), (Ok(()), (out, err), false), "round {round}");
        }
    }

    #[test]
    fn garbage_is_seen_at_once_and_stays() {
        let good = frame(1, "good");
        for bad in [&b"{\"json\":1}"[..], &[3], &[1, 1], &[1, 0, 7], &[1, 0, 0, 9], &[0xff]] {
            let whole = [&good[..], bad].concat();
            let (fed, (out, _), _) = read(&[&whole]);
            assert_eq!((fed, out.as_str()), (Err(Garbled), "good"), "{bad:?}");
            let mut demux = Demux::new();
            assert_eq!(demux.feed(bad, |_, _| panic!("payload of garbage")), Err(Garbled));
            assert_eq!(demux.feed(&good, |_, _| panic!("payload behind garbage")), Err(Garbled));
        }
    }

    /// The largest length a header can say costs nothing, and nothing is kept.
    #[test]
    fn a_giant_frame_is_passed_on() {
        let (mut demux, mut seen) = (Demux::new(), 0);
        demux.feed(&[2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], |_, _| panic!("no payload yet")).unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            demux
                .feed(&piece, |stream, bytes| seen += bytes.len() * usize::from(stream == Stream::Err))
                .unwrap();
        }
        assert_eq!((seen, demux.is_inside()), (100 << 20, true));
    }
}
