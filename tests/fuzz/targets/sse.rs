//! Server-sent events, held against a parser that follows the HTML standard (9.2.6) to the letter: what is written
//! means what was meant, so that no message, id or comment can add an event or a field; what is read is what the
//! standard says, however the bytes come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::gateway::replay::{self, Replay};
use mcpvisor::http::event::{Event, write_comment, write_event};
use mcpvisor::http::events::EventScan;
use mcpvisor_fuzz::{Dice, each_cut};

fuzz_target!(|data: &[u8]| {
    written(data);
    replayed(data);
    read(data);
});

/// An event as a client gets it: its type, its data, and the id that stands behind it.
type Got = (Vec<u8>, Vec<u8>, Vec<u8>);

fn written(data: &[u8]) {
    // The text before the first NUL is id and type as well; ids of clients have none.
    let name = data.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
    let mut out = b"id: before\n\n".to_vec();
    write_comment(&mut out, name.unwrap_or_default());
    write_event(&mut out, &Event { event: name, id: name, data });
    write_event(&mut out, &Event { event: None, id: None, data });
    let field = |text: &str| -> Vec<u8> {
        text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).collect()
    };
    let id = name.map_or(b"before".to_vec(), field);
    let kind = name.map(field).filter(|kind| !kind.is_empty()).unwrap_or(b"message".to_vec());
    let lines = lines(data);
    assert_eq!(Parser::of(&[&out]), [(kind, lines.clone(), id.clone()), (b"message".to_vec(), lines, id)]);
}

/// Every line end a newline.
fn lines(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, byte) in data.iter().enumerate() {
        match byte {
            b'\r' => out.push(b'\n'),
            b'\n' if at > 0 && data[at - 1] == b'\r' => (),
            _ => out.push(*byte),
        }
    }
    out
}

fn replayed(message: &[u8]) {
    let flat: Vec<u8> =
        message.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect();
    let got = |id: &str| (b"message".to_vec(), flat.clone(), id.as_bytes().to_vec());
    assert_eq!(Parser::of(&[&replay::event(None, message)]), [got("")]);
    let mut replay = Replay::of_stream("p3-".to_owned());
    let first = replay.add(message);
    let second = replay.add(message);
    assert_eq!(Parser::of(&[&first, &second]), [got("p3-1"), got("p3-2")]);
    assert_eq!(replay.after("p3-1"), [second]);
    // What a client names is text of its own.
    if let Ok(id) = std::str::from_utf8(message) {
        let number = id.strip_prefix("p3-").and_then(|number| number.parse::<u64>().ok());
        assert_eq!(replay.knows(id), number.is_some_and(|number| number <= 2));
        assert_eq!(replay.after(id).len() as u64, number.map_or(0, |number| 2u64.saturating_sub(number)));
    }
}

fn read(data: &[u8]) {
    let bytes_max = [4, 10, 40, data.len()][Dice::of(data).below(4)];
    let whole = scanned(&[data], bytes_max);
    each_cut(data, |pieces| assert_eq!(scanned(pieces, bytes_max), whole));
    assert!(whole.is_some() || bytes_max < data.len());
    let Some((events, last_id)) = whole else { return };
    let mut parser = Parser::default();
    parser.take(data);
    // Events of other types and those without data are nothing to MCP, and an id that is no text cannot be sent back.
    let messages = parser.got.into_iter().filter(|(kind, ..)| kind == b"message");
    let theirs = messages.map(|(_, data, _)| data).filter(|data| !data.is_empty());
    assert_eq!(events, theirs.collect::<Vec<_>>());
    let id = String::from_utf8(parser.last_id).ok().filter(|id| !id.is_empty());
    assert_eq!(last_id, id);
}

/// The data of each event, and the id to go on from; nothing if an event was too large.
fn scanned(pieces: &[&[u8]], bytes_max: usize) -> Option<(Vec<Vec<u8>>, Option<String>)> {
    let (mut scan, mut events) = (EventScan::new(bytes_max), Vec::new());
    for piece in pieces {
        scan.feed(piece, |data| events.push(data)).ok()?;
    }
    assert!(events.iter().all(|event| event.len() <= bytes_max));
    Some((events, scan.last_id().map(str::to_owned)))
}

/// The standard's own words as code: line by line, field by field.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    /// The first line is over: only that one may begin with a byte order mark.
    began: bool,
    kind: Vec<u8>,
    data: Vec<u8>,
    id: Vec<u8>,
    last_id: Vec<u8>,
    got: Vec<Got>,
}

impl Parser {
    fn of(pieces: &[&[u8]]) -> Vec<Got> {
        let mut parser = Parser::default();
        pieces.iter().for_each(|piece| parser.take(piece));
        parser.got
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if cr => (),
                b'\r' | b'\n' => self.end_line(),
                _ => self.line.push(*byte),
            }
        }
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.began, true) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.kind = value.to_vec(),
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"id" if !value.contains(&0) => self.id = value.to_vec(),
            _ => (),
        }
    }

    fn dispatch(&mut self) {
        self.last_id.clone_from(&self.id);
        let (mut kind, mut data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        if data.pop().is_none() {
            return;
        }
        if kind.is_empty() {
            kind = b"message".to_vec();
        }
        self.got.push((kind, data, self.id.clone()));
    }
}
