//! Where one caller waits for its answer: one slot per call, shared with whoever may answer it.

use crate::base::fault::Fault;
use crate::base::limits::SLOT_MESSAGES_MAX;
use crate::base::time::Time;
use crate::sys::clock;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// How a call ends: exactly one of these, exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server's result, raw.
    Result(Box<str>),
    /// The server's error object, raw.
    Error(Box<str>),
    /// The call could not be answered by the server.
    Fault(Fault),
}

/// What a waiting caller may hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A whole message for the client: progress, a log message, a request of the server.
    Message {
        body: Box<[u8]>,
        /// A sign that the server works on the call: its deadline moves.
        extends: bool,
    },
    Answer(Answer),
    /// Its client has closed the connection.
    PeerClosed,
}

/// Clones share the slot.
#[derive(Clone, Debug, Default)]
pub struct Slot(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    words: Mutex<Words>,
    heard: Condvar,
}

/// Most calls hear one word, the answer: it needs no allocation.
#[derive(Debug, Default)]
struct Words {
    first: Option<Word>,
    /// Not empty only while there is a first.
    more: VecDeque<Word>,
}

impl Words {
    fn push(&mut self, word: Word) {
        if self.first.is_none() {
            self.first = Some(word);
        } else {
            self.more.push_back(word);
        }
    }

    fn pop(&mut self) -> Option<Word> {
        let word = self.first.take();
        self.first = self.more.pop_front();
        word
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }
}

impl Slot {
    /// Never blocks and is never lost: there is one answer per call.
    pub fn answer(&self, answer: Answer) {
        self.push(Word::Answer(answer));
    }

    /// Dropped (`false`) if the caller is [`SLOT_MESSAGES_MAX`] words behind: whoever does not read its news has none.
    pub fn message(&self, body: Vec<u8>, extends: bool) -> bool {
        let has_room = self.0.words.lock().len() < SLOT_MESSAGES_MAX;
        if has_room {
            self.push(Word::Message { body: body.into(), extends });
        }
        has_room
    }

    pub fn peer_closed(&self) {
        self.push(Word::PeerClosed);
    }

    /// The next word; `None` when the deadline passes first.
    pub fn wait(&self, deadline: Time) -> Option<Word> {
        let mut words = self.0.words.lock();
        while words.first.is_none() {
            if self.0.heard.wait_until(&mut words, clock::instant(deadline)).timed_out() {
                break;
            }
        }
        words.pop()
    }

    fn push(&self, word: Word) {
        self.0.words.lock().push(word);
        self.0.heard.notify_one();
    }
}
