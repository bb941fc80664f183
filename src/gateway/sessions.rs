//! Downstream sessions: what `Mcp-Session-Id` names. Bounded, and forgotten when idle.

use super::hub::StreamId;
use crate::base::id::SessionId;
use crate::base::limits::{SESSION_IDLE, SESSIONS_MAX};
use crate::base::time::Time;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// What a session may use: all servers, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    All,
    /// By the config's name.
    One(String),
}

/// One client.
#[derive(Clone, Debug)]
pub struct Session {
    /// Never reused in this process; 0 means "no session".
    pub number: u64,
    pub mount: Mount,
    /// The protocol version that was agreed.
    pub version: &'static str,
    last_used: Time,
    /// Requests that are being answered.
    busy: u32,
    /// Event streams that are open, oldest first.
    pub streams: Vec<StreamId>,
}

/// Event streams of one session; the oldest is closed when one more is opened.
const STREAMS_PER_SESSION_MAX: usize = 4;

#[derive(Debug, Default)]
pub struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    count: u64,
    open: BTreeMap<SessionId, Session>,
}

impl Sessions {
    /// The session's number; `None` when as many as may be are open. Those that were idle for too long make room.
    pub fn open(&self, id: SessionId, mount: Mount, version: &'static str, now: Time) -> Option<u64> {
        let mut table = self.0.lock();
        table.open.retain(|_, session| !session.is_over(now));
        if table.open.len() >= SESSIONS_MAX {
            return None;
        }
        table.count += 1;
        let number = table.count;
        let session = Session { number, mount, version, last_used: now, busy: 0, streams: Vec::new() };
        table.open.insert(id, session);
        Some(number)
    }

    /// The session, marked as used; `None` if it is unknown, over, or of another mount.
    pub fn touch(&self, id: &str, mount: &Mount, now: Time) -> Option<Session> {
        let mut table = self.0.lock();
        let session = table.open.get_mut(&SessionId(id.to_owned()))?;
        if session.mount != *mount || session.is_over(now) {
            return None;
        }
        session.last_used = now;
        Some(session.clone())
    }

    /// A request of the session is being answered: it is not idle until [`Sessions::end`], however long that takes.
    pub fn begin(&self, id: &str) {
        if let Some(session) = self.0.lock().open.get_mut(&SessionId(id.to_owned())) {
            session.busy += 1;
        }
    }

    /// The end of what [`Sessions::begin`] began.
    pub fn end(&self, id: &str, now: Time) {
        if let Some(session) = self.0.lock().open.get_mut(&SessionId(id.to_owned())) {
            session.busy = session.busy.saturating_sub(1);
            session.last_used = now;
        }
    }

    pub fn close(&self, id: &str) -> Option<Session> {
        self.0.lock().open.remove(&SessionId(id.to_owned()))
    }

    /// Notes a stream of the session; returns one that is to be closed because there are too many.
    pub fn add_stream(&self, id: &str, stream: StreamId) -> Option<StreamId> {
        let mut table = self.0.lock();
        let Some(session) = table.open.get_mut(&SessionId(id.to_owned())) else { return Some(stream) };
        session.streams.push(stream);
        (session.streams.len() > STREAMS_PER_SESSION_MAX).then(|| session.streams.remove(0))
    }

    pub fn drop_stream(&self, id: &str, stream: StreamId, now: Time) {
        if let Some(session) = self.0.lock().open.get_mut(&SessionId(id.to_owned())) {
            session.streams.retain(|open| *open != stream);
            session.last_used = now;
        }
    }

    /// One stream per session with an open one: each message goes on exactly one.
    pub fn listeners(&self, wanted: impl Fn(&Mount) -> bool) -> Vec<StreamId> {
        let table = self.0.lock();
        let sessions = table.open.values().filter(|session| wanted(&session.mount));
        sessions.filter_map(|session| session.streams.last().copied()).collect()
    }

    pub fn len(&self) -> usize {
        self.0.lock().open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Session {
    /// Idle for too long: nothing is open and nothing was asked. Such a session has no calls.
    fn is_over(&self, now: Time) -> bool {
        self.busy == 0 && self.streams.is_empty() && self.last_used + SESSION_IDLE <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_sessions_are_forgotten() {
        let sessions = Sessions::default();
        let id = |n: usize| SessionId(n.to_string());
        for n in 0..SESSIONS_MAX {
            assert!(sessions.open(id(n), Mount::All, "2025-11-25", Time::ZERO).is_some());
        }
        assert!(sessions.open(id(9999), Mount::All, "2025-11-25", Time::from_ms(1)).is_none());
        assert!(sessions.touch("7", &Mount::One("x".to_owned()), Time::from_ms(5)).is_none());
        assert_eq!(sessions.touch("7", &Mount::All, Time::from_ms(5)).unwrap().number, 8);
        sessions.begin("9");
        let later = Time::ZERO + SESSION_IDLE;
        assert!(sessions.touch("8", &Mount::All, later).is_none());
        assert!(sessions.open(id(9999), Mount::All, "2025-11-25", later).is_some());
        assert_eq!(sessions.len(), 3);
        sessions.end("9", later);
        assert!(sessions.touch("9", &Mount::All, later + SESSION_IDLE).is_none());
        assert!(sessions.close("7").is_some() && sessions.close("7").is_none());
    }
}
