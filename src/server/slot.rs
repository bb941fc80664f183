//! Where one caller waits for its answer: one slot per call, shared with whoever may answer it.

use crate::base::fault::Fault;
use crate::base::limits::{INPUT_QUESTIONS_MAX, SLOT_MESSAGES_MAX};
use crate::base::time::Time;
use crate::sys::clock;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// What a server asks in the middle of a call of a client that hears of it in the call's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Our name of it.
    pub ask: u64,
    pub method: Box<str>,
    /// Raw.
    pub params: Option<Box<str>>,
    /// What the client has not declared and this needs, as a member of its capabilities.
    pub missing: Option<&'static str>,
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
    Asked(Question),
    /// Its client's answer to the question of this number: a raw result, or a raw error.
    Replied(usize, Result<Box<str>, Box<str>>),
    /// Between two rounds of it, when no server could be told: it is over, and why.
    Over(Fault),
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
    /// The client is asked, and nobody waits here.
    held: AtomicBool,
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

    /// Dropped (`false`) like a message; news leave room for questions.
    pub fn ask(&self, question: Question) -> bool {
        let has_room = self.0.words.lock().len() < SLOT_MESSAGES_MAX + INPUT_QUESTIONS_MAX;
        if has_room {
            self.push(Word::Asked(question));
        }
        has_room
    }

    /// Never lost: there is one for each question, and a round has few.
    pub fn replied(&self, question: usize, reply: Result<Box<str>, Box<str>>) {
        self.push(Word::Replied(question, reply));
    }

    pub fn over(&self, fault: Fault) {
        self.push(Word::Over(fault));
    }

    /// Nobody waits here until the client comes again.
    pub fn hold(&self) {
        self.0.held.store(true, Ordering::Release);
    }

    pub fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Acquire)
    }

    /// Another connection waits here from now on: that the one before was closed is forgotten.
    pub fn reopen(&self) {
        self.0.held.store(false, Ordering::Release);
        let mut words = self.0.words.lock();
        let kept: VecDeque<Word> =
            std::iter::from_fn(|| words.pop()).filter(|word| !matches!(word, Word::PeerClosed)).collect();
        *words = Words { first: None, more: kept };
        words.first = words.more.pop_front();
    }

    pub fn peer_closed(&self) {
        self.push(Word::PeerClosed);
    }

    /// Whether it is the same slot.
    pub fn is(&self, other: &Slot) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
