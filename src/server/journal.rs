//! The journal: the last events of the house in one order, numbered, as they go to whoever follows them.
//!
//! Pure: the board owns the one journal and the lock around it; time is an argument. The numbers count from 1 in each
//! run of the daemon and have no holes, so who has seen one can ask for what came after it. An id (`<session>-<seq>`)
//! says of which run a number is: the number of an earlier one means nothing here, and is answered with a [`Gap`].

use crate::base::id::ServerName;
use crate::base::limits::{JOURNAL_BYTES_MAX, JOURNAL_EVENTS_MAX};
use crate::base::time::Wall;
use crate::base::topic::Topic;
use crate::http::event::{Event, write_event};
use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Whom an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Server(ServerName),
    /// By its endpoint.
    Engine(String),
    /// mcpvisor itself.
    Daemon,
}

/// One event.
#[derive(Debug)]
pub struct Record {
    pub seq: u64,
    pub topic: Topic,
    pub subject: Subject,
    /// As it goes to an event stream.
    pub frame: Arc<[u8]>,
    data: Range<usize>,
}

impl Record {
    /// Its JSON object, on one line.
    pub fn json(&self) -> &str {
        std::str::from_utf8(&self.frame[self.data.clone()]).expect("it was written as text")
    }
}

/// Where somebody wants to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this number of this run.
    Seq(u64),
    /// After this number of the run that the text names.
    Of(String, u64),
    /// What was said is none of our ids.
    Stranger,
}

impl Since {
    /// `42`, or an id as events have it.
    pub fn read(text: &str) -> Since {
        if let Ok(seq) = text.parse() {
            return Since::Seq(seq);
        }
        let parts = text.rsplit_once('-').and_then(|(session, seq)| Some((session, seq.parse().ok()?)));
        parts.map_or(Since::Stranger, |(session, seq)| Since::Of(session.to_owned(), seq))
    }
}

/// Events that were asked for and cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub cause: GapCause,
    /// Everything up to this number is missing; what follows is whole.
    pub seq: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// They were forgotten.
    TooOld,
    /// They are of an earlier run of the daemon.
    OtherSession,
}

/// Keeps at most `JOURNAL_EVENTS_MAX` events and `JOURNAL_BYTES_MAX` of them; the oldest are forgotten.
#[derive(Debug)]
pub struct Journal {
    /// Which run of the daemon this is.
    session: String,
    seq: u64,
    kept: VecDeque<Arc<Record>>,
    bytes: usize,
}

/// What every event says before what it has to say.
#[derive(Serialize)]
struct Letter<'a, T: Serialize> {
    seq: u64,
    session: &'a str,
    at: String,
    #[serde(rename = "type")]
    topic: &'static str,
    #[serde(flatten)]
    facts: &'a T,
}

#[derive(Serialize)]
struct GapLetter<'a> {
    seq: u64,
    session: &'a str,
    #[serde(rename = "type")]
    topic: &'static str,
    cause: GapCause,
}

impl Journal {
    pub fn new(session: &str) -> Journal {
        Journal { session: session.to_owned(), seq: 0, kept: VecDeque::new(), bytes: 0 }
    }

    pub fn session(&self) -> &str {
        &self.session
    }

    /// The number of the last event.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The id of the event of this number.
    pub fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.session)
    }

    /// Gives the event the next number. `facts` is a struct or map.
    pub fn add(&mut self, topic: Topic, subject: Subject, facts: &impl Serialize, at: Wall) -> Arc<Record> {
        self.seq += 1;
        let (seq, topic_name) = (self.seq, topic.name());
        let letter = Letter { seq, session: &self.session, at: at.rfc3339(), topic: topic_name, facts };
        let data = serde_json::to_string(&letter).expect("plain data with text keys always serializes");
        let (frame, data) = frame(topic_name, &self.id(seq), &data);
        let record = Arc::new(Record { seq, topic, subject, frame, data });
        self.bytes += record.frame.len();
        self.kept.push_back(record.clone());
        while self.kept.len() > JOURNAL_EVENTS_MAX || (self.bytes > JOURNAL_BYTES_MAX && self.kept.len() > 1)
        {
            let oldest = self.kept.pop_front().expect("there is at least one");
            self.bytes -= oldest.frame.len();
        }
        record
    }

    /// What came after `since`, oldest first, and what of it is missing.
    pub fn since(&self, since: &Since) -> (Option<Gap>, impl Iterator<Item = &Arc<Record>> + use<'_>) {
        let forgotten = self.kept.front().map_or(self.seq, |oldest| oldest.seq - 1);
        let gap = |cause| Some(Gap { cause, seq: forgotten });
        let (gap, after) = match since {
            Since::Of(session, _) if *session != self.session => (gap(GapCause::OtherSession), 0),
            // A number that was not given yet is of an earlier run.
            Since::Of(_, seq) | Since::Seq(seq) if *seq > self.seq => (gap(GapCause::OtherSession), 0),
            Since::Of(_, seq) | Since::Seq(seq) if *seq < forgotten => (gap(GapCause::TooOld), 0),
            Since::Of(_, seq) | Since::Seq(seq) => (None, *seq),
            Since::Stranger => (gap(GapCause::OtherSession), 0),
        };
        (gap, self.kept.iter().filter(move |record| record.seq > after))
    }

    /// The gap as an event: who was cut off right behind it goes on behind it.
    pub fn gap_frame(&self, gap: Gap) -> Arc<[u8]> {
        let letter = GapLetter { seq: gap.seq, session: &self.session, topic: "gap", cause: gap.cause };
        let data = serde_json::to_string(&letter).expect("plain data with text keys always serializes");
        frame("gap", &self.id(gap.seq), &data).0
    }
}

/// The event as it goes on the wire, and where its data is. JSON has no line breaks of its own.
fn frame(name: &str, id: &str, data: &str) -> (Arc<[u8]>, Range<usize>) {
    let mut out = Vec::with_capacity(data.len() + name.len() + id.len() + 32);
    write_event(&mut out, &Event { event: Some(name), id: Some(id), data: data.as_bytes() });
    let end = out.len() - "\n\n".len();
    (out.into(), end - data.len()..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journal(events: u64) -> Journal {
        let mut journal = Journal::new("ab12");
        for n in 1..=events {
            let subject = Subject::Server(ServerName::from("git"));
            journal.add(Topic::ServerState, subject, &json!({"n": n}), Wall(0));
        }
        journal
    }

    #[test]
    fn an_event_as_it_goes_out() {
        let mut journal = journal(1);
        let subject = Subject::Engine("unix:///s".to_owned());
        let record = journal.add(Topic::EngineUp, subject, &json!({"why": "a\nb"}), Wall(1));
        let json =
            r#"{"seq":2,"session":"ab12","at":"1970-01-01T00:00:00.001Z","type":"engine.up","why":"a\nb"}"#;
        assert_eq!(record.json(), json);
        let frame = format!("event: engine.up\nid: ab12-2\ndata: {json}\n\n");
        assert_eq!(String::from_utf8_lossy(&record.frame), frame);
    }

    /// What is given to who says `since`: the gap, and the first and last number.
    #[track_caller]
    fn check(journal: &Journal, since: &str, gap: Option<(GapCause, u64)>, numbers: Option<(u64, u64)>) {
        let (found, records) = journal.since(&Since::read(since));
        let seqs: Vec<u64> = records.map(|record| record.seq).collect();
        assert_eq!(found.map(|gap| (gap.cause, gap.seq)), gap, "{since}");
        assert_eq!(seqs.first().copied().zip(seqs.last().copied()), numbers, "{since}");
        assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "{seqs:?}");
    }

    #[test]
    fn goes_on_where_it_was() {
        use GapCause::OtherSession;
        let short = journal(3);
        check(&short, "0", None, Some((1, 3)));
        check(&short, "2", None, Some((3, 3)));
        check(&short, "3", None, None);
        check(&short, "ab12-1", None, Some((2, 3)));
        check(&short, "4", Some((OtherSession, 0)), Some((1, 3)));
        check(&short, "ab12-4", Some((OtherSession, 0)), Some((1, 3)));
        check(&short, "cd34-1", Some((OtherSession, 0)), Some((1, 3)));
        check(&short, "p3-x", Some((OtherSession, 0)), Some((1, 3)));
        check(&journal(0), "0", None, None);
        check(&journal(0), "cd34-7", Some((OtherSession, 0)), None);
    }

    #[test]
    fn forgets_the_oldest_and_says_so() {
        let max = JOURNAL_EVENTS_MAX as u64;
        let long = journal(max + 5);
        check(&long, "4", Some((GapCause::TooOld, 5)), Some((6, max + 5)));
        check(&long, "5", None, Some((6, max + 5)));
        check(&long, "cd34-5", Some((GapCause::OtherSession, 5)), Some((6, max + 5)));
        let gap = Gap { cause: GapCause::TooOld, seq: 5 };
        let expected = "event: gap\nid: ab12-5\ndata: {\"seq\":5,\"session\":\"ab12\",\"type\":\"gap\",\"cause\":\"too_old\"}\n\n";
        assert_eq!(String::from_utf8_lossy(&long.gap_frame(gap)), expected);
        let mut large = journal(2);
        let subject = Subject::Server(ServerName::from("git"));
        let text = "x".repeat(JOURNAL_BYTES_MAX);
        large.add(Topic::ServerState, subject, &json!({ "text": text }), Wall(0));
        check(&large, "0", Some((GapCause::TooOld, 2)), Some((3, 3)));
    }
}
