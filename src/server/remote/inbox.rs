//! What comes from a remote server on its way to the life's thread: in order, bounded in bytes.

use crate::base::fault::Fault;
use crate::base::id::CallId;
use crate::base::limits::REMOTE_INBOX_BYTES_MAX;
use crate::sys::wake::Wake;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the life's thread hears.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A message of the server, on one line.
    Line(Vec<u8>),
    /// The same on the stream that answers this request.
    LineOf(CallId, Vec<u8>),
    /// This request will not be answered, and why.
    Lost(CallId, Fault),
    /// This first request was answered with a status that is no MCP, and how that would be said.
    Status(CallId, u16, Fault),
    /// The session is lost: greet the server again; what waits is sent after that.
    Renew,
    /// A call waits for the tools to be listed anew.
    Parked,
    /// That was in vain: the server's own error stands.
    Refused(CallId, Arc<str>),
    /// The server cannot be used.
    Failed(Fault),
    /// The session has been ended.
    Bye,
}

/// Closed, it takes nothing more, and nobody waits any longer.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    room: Condvar,
    wake: Wake,
}

#[derive(Debug, Default)]
struct State {
    heard: VecDeque<Heard>,
    bytes: usize,
    closed: bool,
}

impl Inbox {
    /// `wake` is the life thread's.
    pub fn new(wake: Wake) -> Inbox {
        Inbox { state: Mutex::default(), room: Condvar::new(), wake }
    }

    /// A line waits for room; `false` when nobody listens any more.
    pub fn push(&self, heard: Heard) -> bool {
        let bytes = size(&heard);
        let mut state = self.state.lock();
        let full = |state: &State| state.bytes > 0 && state.bytes + bytes > REMOTE_INBOX_BYTES_MAX;
        while bytes > 0 && !state.closed && full(&state) {
            self.room.wait(&mut state);
        }
        if state.closed && heard != Heard::Bye {
            return false;
        }
        state.bytes += bytes;
        state.heard.push_back(heard);
        drop(state);
        self.wake.wake();
        true
    }

    /// Has the life's thread look around.
    pub fn wake(&self) {
        self.wake.wake();
    }

    pub fn pop(&self) -> Option<Heard> {
        let mut state = self.state.lock();
        let heard = state.heard.pop_front()?;
        state.bytes -= size(&heard);
        drop(state);
        self.room.notify_all();
        Some(heard)
    }

    /// What has come is forgotten.
    pub fn close(&self) {
        *self.state.lock() = State { closed: true, ..State::default() };
        self.room.notify_all();
    }
}

fn size(heard: &Heard) -> usize {
    match heard {
        // What it costs beside its text is little, and is counted so that empty lines are bounded, too.
        Heard::Line(line) | Heard::LineOf(_, line) => line.len() + 64,
        Heard::Lost(..)
        | Heard::Status(..)
        | Heard::Renew
        | Heard::Parked
        | Heard::Refused(..)
        | Heard::Failed(_)
        | Heard::Bye => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::thread::spawn;

    #[test]
    fn who_brings_too_much_waits() {
        let inbox = Arc::new(Inbox::new(Wake::new().unwrap()));
        // One that is too large for itself comes through alone.
        assert!(inbox.push(Heard::Line(vec![b'x'; REMOTE_INBOX_BYTES_MAX + 1])));
        let (sender, theirs) = (inbox.clone(), inbox.clone());
        let waiting = spawn("sender", move || sender.push(Heard::Line(b"y".to_vec()))).unwrap();
        assert!(theirs.push(Heard::Renew), "what is no line waits for nobody");
        assert!(matches!(inbox.pop(), Some(Heard::Line(line)) if line.len() > REMOTE_INBOX_BYTES_MAX));
        assert!(waiting.join().unwrap().unwrap());
        let mut left: Vec<Heard> = std::iter::from_fn(|| inbox.pop()).collect();
        left.sort_by_key(|heard| matches!(heard, Heard::Line(_)));
        assert_eq!(left, [Heard::Renew, Heard::Line(b"y".to_vec())]);
    }

    #[test]
    fn closed() {
        let inbox = Inbox::new(Wake::new().unwrap());
        inbox.push(Heard::Renew);
        inbox.close();
        assert!(!inbox.push(Heard::Renew) && inbox.push(Heard::Bye));
        assert_eq!((inbox.pop(), inbox.pop()), (Some(Heard::Bye), None));
    }
}
