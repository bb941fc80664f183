//! Server-sent events as they arrive: bytes of any cut become the data of whole events (HTML standard, 9.2.6).
//!
//! Messages have no type, or `message`; the older transport has one more. The id of the last event, and how long the peer wants us to wait
//! before we go on there, are kept for who wants to go on.

use crate::base::fault::{Fault, FaultKind};
use std::time::Duration;

/// Takes a stream in pieces of any size.
#[derive(Debug)]
pub struct EventScan {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The type of the event that is being read; empty is `message`.
    kind: Vec<u8>,
    retry: Option<Duration>,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// The first line is over: only that one may begin with a byte order mark.
    began: bool,
    /// The id of the event that is being read. It counts when that event is whole: who goes on behind an event that
    /// was cut would never see it.
    id: Option<String>,
    last_id: Option<String>,
    bytes_max: usize,
}

impl EventScan {
    /// `bytes_max` bounds one event; a larger one is an error, after which the stream is of no use.
    pub fn new(bytes_max: usize) -> EventScan {
        EventScan {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            kind: Vec::new(),
            retry: None,
            after_cr: false,
            began: false,
            id: None,
            last_id: None,
            bytes_max,
        }
    }

    /// Calls `event` with the data of each message that is whole now. Events without data are none, and those of other
    /// types are for others (some servers send a `ping`).
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(Vec<u8>)) -> Result<(), Fault> {
        self.feed_typed(bytes, |kind, data| {
            if is_message(kind) {
                event(data);
            }
        })
    }

    /// The same, with the type of each event: empty where it has none.
    pub fn feed_typed(
        &mut self,
        mut bytes: &[u8],
        mut event: impl FnMut(&[u8], Vec<u8>),
    ) -> Result<(), Fault> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            if self.line.len() + self.data.len() > self.bytes_max {
                let max = self.bytes_max;
                return Err(Fault::new(FaultKind::TooLarge, format!("read an event: more than {max} bytes")));
            }
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Some((kind, data)) = self.end_line() {
                event(&kind, data);
            }
        }
        Ok(())
    }

    /// The id to go on from: of the last whole event that had one.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long to wait before the stream is taken up again, if the peer said so.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn end_line(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.began, true) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(.."\u{feff}".len());
        }
        if line.is_empty() {
            self.last_id.clone_from(&self.id);
            let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            return (std::mem::take(&mut self.has_data) && !data.is_empty()).then_some((kind, data));
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"id" if !value.contains(&0) => {
                self.id = String::from_utf8(value.to_vec()).ok().filter(|id| !id.is_empty());
            }
            b"event" => self.kind = value.to_vec(),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let ms = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                self.retry = ms.map(Duration::from_millis).or(self.retry);
            }
            // Comments, and what nobody knows.
            _ => (),
        }
        None
    }
}

/// Whether events of this type are messages.
pub fn is_message(kind: &[u8]) -> bool {
    matches!(kind, b"" | b"message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let (mut scan, mut events) = (EventScan::new(100), Vec::new());
        for piece in pieces {
            scan.feed(piece, |data| events.push(String::from_utf8(data).unwrap())).unwrap();
        }
        (events, scan.last_id().map(str::to_owned))
    }

    /// Whole, in single bytes, and cut in two at every place: always the same.
    fn check(stream: &str, events: &[&str], last_id: Option<&str>) {
        let bytes = stream.as_bytes();
        let expected = (events.iter().map(|event| (*event).to_owned()).collect(), last_id.map(str::to_owned));
        assert_eq!(scan(&[bytes]), expected, "{stream:?}");
        assert_eq!(scan(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{stream:?} in single bytes");
        for at in 0..=bytes.len() {
            assert_eq!(scan(&[&bytes[..at], &bytes[at..]]), expected, "{stream:?} cut at {at}");
        }
    }

    #[test]
    fn streams() {
        check("", &[], None);
        check("event: message\nid: p3-1\ndata: {}\n\n", &["{}"], Some("p3-1"));
        check("id: 0\nretry: 1000\ndata: \n\ndata:{\"a\":1}\n\n", &["{\"a\":1}"], Some("0"));
        check("data: a\r\ndata: b\r\rdata: c\n\n", &["a\nb", "c"], None);
        check(": ping\n\ndata\ndata: x\n\nid\n\n", &["\nx"], None);
        check("data: never ended\n", &[], None);
        check("id: 1\ndata: a\n\nid: 2\ndata: cut", &["a"], Some("1"));
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a"], None);
    }

    #[test]
    fn types_and_retry() {
        let mut scan = EventScan::new(100);
        let mut events = Vec::new();
        let stream =
            b"event: endpoint\ndata: /m\n\nretry: 50\ndata: x\n\nretry: soon\nevent: y\n\ndata: z\n\n";
        let take = |kind: &[u8], data: Vec<u8>| {
            events.push(format!("{}={}", String::from_utf8_lossy(kind), String::from_utf8(data).unwrap()));
        };
        scan.feed_typed(stream, take).unwrap();
        assert_eq!(events, ["endpoint=/m", "=x", "=z"]);
        assert_eq!(scan.retry(), Some(Duration::from_millis(50)));
    }

    #[test]
    fn large_events_are_refused() {
        let mut scan = EventScan::new(10);
        assert!(scan.feed(b"data: 12345", |_| ()).is_err());
        let mut scan = EventScan::new(12);
        assert!(scan.feed(b"data: 123456\n", |_| ()).is_ok());
        assert!(scan.feed(b"data: 1", |_| ()).is_err());
    }
}
