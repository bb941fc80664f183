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
    /// Event streams that are open, oldest first.
    pub streams: Vec<StreamId>,
}

impl Session {
    fn is_idle(&self, now: Time) -> bool {
        self.streams.is_empty() && self.last_used + SESSION_IDLE <= now
    }
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
    /// `None` when as many as may be are open and none of them is idle. `forgotten` are the idle ones that made room.
    pub fn open(&self, id: SessionId, mount: Mount, version: &'static str, now: Time) -> Option<Opened> {
        let mut table = self.0.lock();
        let forgotten = if table.open.len() >= SESSIONS_MAX { table.expire(now) } else { Vec::new() };
        if table.open.len() >= SESSIONS_MAX {
            return None;
        }
        table.count += 1;
        let number = table.count;
        table.open.insert(id, Session { number, mount, version, last_used: now, streams: Vec::new() });
        Some(Opened { number, forgotten })
    }

    /// The session, marked as used; `None` if it is unknown, over, idle for too long, or of another mount.
    pub fn touch(&self, id: &str, mount: &Mount, now: Time) -> Option<Session> {
        let mut table = self.0.lock();
        let session =
            table.open.get_mut(&SessionId(id.to_owned())).filter(|session| !session.is_idle(now))?;
        if session.mount != *mount {
            return None;
        }
        session.last_used = now;
        Some(session.clone())
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

/// A session that was opened.
#[derive(Debug)]
pub struct Opened {
    pub number: u64,
    pub forgotten: Vec<Session>,
}

impl Table {
    fn expire(&mut self, now: Time) -> Vec<Session> {
        let idle = self.open.iter().filter(|(_, session)| session.is_idle(now));
        let ids: Vec<SessionId> = idle.map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.open.remove(id)).collect()
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
        let later = Time::ZERO + SESSION_IDLE;
        assert!(sessions.touch("9", &Mount::All, later).is_none());
        let opened = sessions.open(id(9999), Mount::All, "2025-11-25", later).unwrap();
        assert_eq!(opened.forgotten.len(), SESSIONS_MAX - 1);
        assert_eq!(sessions.len(), 2);
        assert!(sessions.touch("8", &Mount::All, later).is_none());
        assert!(sessions.close("7").is_some() && sessions.close("7").is_none());
    }
}
