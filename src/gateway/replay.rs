//! The last events of one stream: numbered, bounded, and given again to a client that says where it stopped.

use crate::base::limits::{REPLAY_BYTES_MAX, REPLAY_EVENTS_MAX};
use crate::http::event::{Event, write_event};
use crate::mcp::line::one_line;
use std::collections::VecDeque;
use std::sync::Arc;

/// The id before the first event of a session's own stream.
pub const START: &str = "0";

/// Ids are `<name><number>`, unique within a session by the stream's name.
#[derive(Debug, Default)]
pub struct Replay {
    name: String,
    count: u64,
    kept: VecDeque<(u64, Arc<[u8]>)>,
    bytes: usize,
}

impl Replay {
    /// `name` must not end in a digit.
    pub fn of_stream(name: String) -> Replay {
        Replay { name, ..Replay::default() }
    }

    /// The message as an event with the next id. The oldest events make room.
    pub fn add(&mut self, message: &[u8]) -> Arc<[u8]> {
        self.count += 1;
        let event: Arc<[u8]> = event(Some(&format!("{}{}", self.name, self.count)), message).into();
        self.bytes += event.len();
        self.kept.push_back((self.count, event.clone()));
        while self.kept.len() > REPLAY_EVENTS_MAX || (self.bytes > REPLAY_BYTES_MAX && self.kept.len() > 1) {
            let (_, oldest) = self.kept.pop_front().expect("there is at least one");
            self.bytes -= oldest.len();
        }
        event
    }

    /// Whether it holds an event that is larger than all of them should be.
    pub fn is_large(&self) -> bool {
        self.bytes > REPLAY_BYTES_MAX
    }

    /// Whether `id` is one of this stream.
    pub fn knows(&self, id: &str) -> bool {
        self.number(id).is_some_and(|number| number <= self.count)
    }

    /// The events after `last_seen`, oldest first; none if that is not an event of this stream.
    pub fn after(&self, last_seen: &str) -> Vec<Arc<[u8]>> {
        let Some(seen) = self.number(last_seen) else { return Vec::new() };
        self.kept.iter().filter(|(number, _)| *number > seen).map(|(_, event)| event.clone()).collect()
    }

    fn number(&self, id: &str) -> Option<u64> {
        id.strip_prefix(self.name.as_str())?.parse().ok()
    }
}

/// One event of a stream: the message on one line of data.
pub fn event(id: Option<&str>, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 48);
    write_event(&mut out, &Event { event: Some("message"), id, data: &one_line(message) });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_where_it_was() {
        let mut replay = Replay::of_stream("p3-".to_owned());
        let text = |events: Vec<Arc<[u8]>>| {
            let events = events.iter().map(|event| String::from_utf8(event.to_vec()).unwrap());
            events.collect::<String>()
        };
        for n in 1..=3 {
            replay.add(format!("{{\"n\":{n}}}").as_bytes());
        }
        let last = "event: message\nid: p3-3\ndata: {\"n\":3}\n\n";
        assert_eq!(text(replay.after("p3-2")), last);
        assert_eq!(text(replay.after("p3-3")), "");
        assert_eq!(text(replay.after("p4-1")), "");
        assert!(replay.knows("p3-1") && !replay.knows("p3-9") && !replay.knows("1"));
        for _ in 0..REPLAY_EVENTS_MAX {
            replay.add(b"{}");
        }
        assert_eq!(replay.after("p3-0").len(), REPLAY_EVENTS_MAX);
    }

    #[test]
    fn line_breaks_between_tokens() {
        let event = String::from_utf8(event(None, b"{\"a\":\r\n1}")).unwrap();
        assert_eq!(event, "event: message\ndata: {\"a\":  1}\n\n");
    }
}
