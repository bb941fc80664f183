//! Downstream sessions: what `Mcp-Session-Id` names. Bounded, and forgotten when idle.
//!
//! A session keeps what its client said of itself, what it subscribed to, and the last events that went to it, so
//! that a client that lost its stream can go on where it was.

use super::hub::{Hub, StreamId};
use super::replay::{self, Replay};
use crate::base::id::ServerName;
use crate::base::limits::{
    REPLAY_BYTES_MAX, SESSION_IDLE, SESSIONS_MAX, STREAM_QUEUE_BYTES_MAX, SUBSCRIPTIONS_MAX,
};
use crate::base::time::Time;
use crate::mcp::features::{Feature, Level};
use crate::sys::clock;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a session may use: all servers, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    All,
    /// By the config's name.
    One(ServerName),
}

impl Mount {
    pub fn shows(&self, server: &ServerName) -> bool {
        match self {
            Mount::All => true,
            Mount::One(name) => name == server,
        }
    }
}

/// The number of no session: a caller who hears nothing but the answer, and can be asked nothing. 0 are requests of
/// our own.
pub const NOBODY: u64 = u64::MAX;

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Never reused in this process; neither 0 nor [`NOBODY`].
    pub number: u64,
    /// What `Mcp-Session-Id` carries: 32 hex digits.
    pub id: String,
    pub mount: Mount,
    /// The protocol version that was agreed.
    pub version: &'static str,
    pub client: Client,
    state: Mutex<State>,
}

/// What a client said of itself.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it can be asked.
    pub features: Vec<Feature>,
    /// The same as it said it, raw; see [`carried`](crate::mcp::features::carried).
    pub capabilities: Box<str>,
    /// `clientInfo`, raw.
    pub info: Option<Box<str>>,
    /// Who it is, as far as can be told; see [`principal`](super::access::principal).
    pub principal: Box<str>,
}

/// A request of the modern era while it is answered: it has no session, and is one of its own for whoever routes.
#[derive(Debug)]
pub struct Visit {
    pub number: u64,
    sessions: Arc<Sessions>,
}

/// What a visitor said of itself.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// The lowest level of log messages that it wants; without one it wants none.
    pub level: Option<Level>,
    /// What it can be asked, raw; nothing if its request is one that cannot ask.
    pub capabilities: Option<Box<str>>,
    /// Who it is, as far as can be told; see [`principal`](super::access::principal).
    pub principal: Box<str>,
}

impl Visit {
    /// It comes again, with another request.
    pub fn again(&self, visitor: Visitor) {
        self.sessions.0.lock().visits.insert(self.number, visitor);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut table = self.sessions.0.lock();
        table.visits.remove(&self.number);
        table.closed_used = table.closed_used.max(clock::now());
    }
}

#[derive(Debug)]
struct State {
    last_used: Time,
    /// Requests that are being answered.
    busy: u32,
    /// Event streams that are open, oldest first.
    streams: Vec<StreamId>,
    /// It has had one: what is said from now on is missed only by a client that lost its stream.
    has_listened: bool,
    replay: Replay,
    /// Streams that answer a POST, by number: a client that lost one may go on with it by GET.
    posts: BTreeMap<u64, Post>,
    posts_count: u64,
    /// The lowest level of log messages that it wants; all of them until it says.
    level: Option<Level>,
    subscriptions: BTreeSet<(ServerName, String)>,
}

#[derive(Debug)]
struct Post {
    replay: Replay,
    /// The GET stream that goes on with it.
    resumed: Option<StreamId>,
    done: bool,
}

/// POST streams of one session that are kept to go on with; the oldest is forgotten.
const POSTS_MAX: usize = 16;

/// Event streams of one session; the oldest is closed when one more is opened.
const STREAMS_PER_SESSION_MAX: usize = 4;

/// The largest event for a stream of the hub; it fits beside all that is kept to be said again.
const EVENT_BYTES_MAX: usize = STREAM_QUEUE_BYTES_MAX / 2;

const _: () = assert!(EVENT_BYTES_MAX + REPLAY_BYTES_MAX < STREAM_QUEUE_BYTES_MAX);

/// What is too large for the stream ends it: it is the last of a POST stream, which is read otherwise once it is over
/// (see [`Session::rest_of_post`]). A stream that has just closed loses nothing: the event is kept.
fn hear_or_come_again(hub: &Hub, stream: StreamId, event: &Arc<[u8]>) {
    if event.len() > EVENT_BYTES_MAX {
        hub.close(stream);
    } else {
        let _ = hub.send(stream, event.clone());
    }
}

#[derive(Debug, Default)]
pub struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    count: u64,
    by_id: BTreeMap<String, Arc<Session>>,
    by_number: BTreeMap<u64, Arc<Session>>,
    visits: BTreeMap<u64, Visitor>,
    /// When a session that is closed now was last used.
    closed_used: Time,
}

impl Sessions {
    /// `None` when as many as may be are open. Those that were idle for too long make room.
    pub fn open(
        &self,
        id: String,
        mount: Mount,
        version: &'static str,
        client: Client,
        now: Time,
    ) -> Option<Arc<Session>> {
        let mut table = self.0.lock();
        table.by_id.retain(|_, session| !session.is_over(now));
        table.by_number.retain(|_, session| !session.is_over(now));
        if table.by_id.len() >= SESSIONS_MAX {
            return None;
        }
        table.count += 1;
        let state = State {
            last_used: now,
            busy: 0,
            streams: Vec::new(),
            has_listened: false,
            replay: Replay::default(),
            posts: BTreeMap::new(),
            posts_count: 0,
            level: None,
            subscriptions: BTreeSet::new(),
        };
        let session = Session { number: table.count, id, mount, version, client, state: Mutex::new(state) };
        let session = Arc::new(session);
        table.by_id.insert(session.id.clone(), session.clone());
        table.by_number.insert(session.number, session.clone());
        Some(session)
    }

    /// The session, marked as used; `None` if it is unknown, over, or of another mount.
    pub fn touch(&self, id: &str, mount: &Mount, now: Time) -> Option<Arc<Session>> {
        let session = self.0.lock().by_id.get(id)?.clone();
        if session.mount != *mount || session.is_over(now) {
            return None;
        }
        session.state.lock().last_used = now;
        Some(session)
    }

    /// A request without a session, until the visit is dropped.
    pub fn visit(self: &Arc<Sessions>, visitor: Visitor) -> Visit {
        let mut table = self.0.lock();
        table.count += 1;
        let number = table.count;
        table.visits.insert(number, visitor);
        Visit { number, sessions: self.clone() }
    }

    /// What log messages the visit of this number wants; `None` if it is none.
    pub fn level_of_visit(&self, number: u64) -> Option<Option<Level>> {
        self.0.lock().visits.get(&number).map(|visitor| visitor.level)
    }

    /// Who is behind this number, as far as can be told.
    pub fn principal(&self, number: u64) -> Option<Box<str>> {
        let table = self.0.lock();
        let session = table.by_number.get(&number).map(|session| &session.client.principal);
        session.or(table.visits.get(&number).map(|visitor| &visitor.principal)).cloned()
    }

    /// What the visit of this number can be asked, raw, or nothing where it cannot; `None` if it is none.
    pub fn asked_of_visit(&self, number: u64) -> Option<Option<Box<str>>> {
        self.0.lock().visits.get(&number).map(|visitor| visitor.capabilities.clone())
    }

    /// Somebody without a session was here until now.
    pub fn used(&self, now: Time) {
        let mut table = self.0.lock();
        table.closed_used = table.closed_used.max(now);
    }

    pub fn of_number(&self, number: u64) -> Option<Arc<Session>> {
        self.0.lock().by_number.get(&number).cloned()
    }

    /// The last moment at which a session was active: `now` if one has an open stream or a request in flight. `None`
    /// if there has been no session yet.
    pub fn last_active(&self, now: Time) -> Option<Time> {
        let table = self.0.lock();
        let last = table.by_number.values().map(|session| session.last_active(now));
        let last = last.fold(table.closed_used, Time::max);
        (table.count > 0).then_some(if table.visits.is_empty() { last } else { now })
    }

    pub fn close(&self, session: &Session) {
        let mut table = self.0.lock();
        table.closed_used = table.closed_used.max(session.state.lock().last_used);
        table.by_id.remove(&session.id);
        table.by_number.remove(&session.number);
    }

    /// Those that see this server.
    pub fn that_see(&self, server: &ServerName) -> Vec<Arc<Session>> {
        self.0.lock().by_number.values().filter(|session| session.mount.shows(server)).cloned().collect()
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        self.0.lock().by_number.values().cloned().collect()
    }
}

impl Session {
    /// Idle for too long: nothing is open and nothing was asked. Such a session has no calls.
    fn is_over(&self, now: Time) -> bool {
        let state = self.state.lock();
        state.busy == 0 && state.streams.is_empty() && state.last_used + SESSION_IDLE <= now
    }

    fn last_active(&self, now: Time) -> Time {
        let state = self.state.lock();
        if state.busy > 0 || !state.streams.is_empty() { now } else { state.last_used }
    }

    /// A request of the session is being answered: it is not idle until [`Session::end`], however long that takes.
    pub fn begin(&self) {
        self.state.lock().busy += 1;
    }

    /// The end of what [`Session::begin`] began.
    pub fn end(&self, now: Time) {
        let mut state = self.state.lock();
        state.busy = state.busy.saturating_sub(1);
        state.last_used = now;
    }

    /// One message on exactly one stream: the newest that is open. Kept for a client that comes back for it.
    pub fn say(&self, hub: &Hub, message: &[u8]) {
        if message.len() > EVENT_BYTES_MAX {
            // Kept, it would end every stream on which the client comes back for it.
            return log::warn!("news of {} bytes is too large for an event stream", message.len());
        }
        let mut state = self.state.lock();
        let event = state.replay.add(message);
        if let Some(stream) = state.streams.last() {
            // A stream that has just closed loses nothing: the event is kept.
            let _ = hub.send(*stream, event);
        }
    }

    /// Notes a stream, after what its client has missed since the event `last_seen` went out to it; the first stream
    /// begins with all that is kept. Too many streams: the oldest is closed.
    pub fn add_stream(&self, hub: &Hub, stream: StreamId, last_seen: Option<&str>) {
        let mut state = self.state.lock();
        let is_first = !std::mem::replace(&mut state.has_listened, true);
        let last_seen = last_seen.or(is_first.then_some(replay::START));
        for event in last_seen.map(|seen| state.replay.after(seen)).unwrap_or_default() {
            let _ = hub.send(stream, event);
        }
        state.streams.push(stream);
        if state.streams.len() > STREAMS_PER_SESSION_MAX {
            let oldest = state.streams.remove(0);
            drop(state);
            hub.close(oldest);
        }
    }

    /// Begins a stream that answers a POST: its number, and the id of the event before its first.
    pub fn begin_post(&self) -> (u64, String) {
        let mut state = self.state.lock();
        state.posts_count += 1;
        let number = state.posts_count;
        let name = format!("p{number}-");
        let first = format!("{name}0");
        state.posts.insert(number, Post { replay: Replay::of_stream(name), resumed: None, done: false });
        if state.posts.len() > POSTS_MAX {
            state.posts.pop_first();
        }
        (number, first)
    }

    /// The message as the next event of a POST stream; sent also to the GET stream that goes on with it.
    pub fn say_on_post(&self, hub: &Hub, number: u64, message: &[u8]) -> Arc<[u8]> {
        let mut state = self.state.lock();
        let Some(post) = state.posts.get_mut(&number) else {
            return replay::event(None, message).into();
        };
        let event = post.replay.add(message);
        if let Some(stream) = post.resumed {
            hear_or_come_again(hub, stream, &event);
        }
        event
    }

    /// The POST stream has said everything. A client may miss the end of what was `delivered` all the same; a large
    /// answer is not kept for that.
    pub fn end_post(&self, hub: &Hub, number: u64, delivered: bool) {
        let mut state = self.state.lock();
        let Some(post) = state.posts.get_mut(&number) else { return };
        post.done = true;
        let resumed = post.resumed.take();
        if delivered && post.replay.is_large() {
            state.posts.remove(&number);
        }
        drop(state);
        if let Some(stream) = resumed {
            hub.close(stream);
        }
    }

    /// Goes on with the POST stream of the event `last_seen`; `false` if that is none of ours.
    pub fn resume_post(&self, hub: &Hub, stream: StreamId, last_seen: &str) -> bool {
        let mut state = self.state.lock();
        let Some(post) = state.posts.values_mut().find(|post| post.replay.knows(last_seen)) else {
            return false;
        };
        for event in post.replay.after(last_seen) {
            hear_or_come_again(hub, stream, &event);
        }
        if post.done {
            hub.close(stream);
        } else {
            post.resumed = Some(stream);
        }
        true
    }

    /// What a POST stream that is over said after the event `last_seen`; `None` if it is not over, or none of ours.
    pub fn rest_of_post(&self, last_seen: &str) -> Option<Vec<Arc<[u8]>>> {
        let state = self.state.lock();
        let post = state.posts.values().find(|post| post.replay.knows(last_seen))?;
        post.done.then(|| post.replay.after(last_seen))
    }

    /// The rest of that stream has been read.
    pub fn post_was_read(&self, last_seen: &str) {
        self.state.lock().posts.retain(|_, post| !(post.replay.is_large() && post.replay.knows(last_seen)));
    }

    pub fn drop_stream(&self, stream: StreamId, now: Time) {
        let mut state = self.state.lock();
        state.streams.retain(|open| *open != stream);
        state.last_used = now;
    }

    /// Its open streams, which are forgotten.
    pub fn take_streams(&self) -> Vec<StreamId> {
        std::mem::take(&mut self.state.lock().streams)
    }

    pub fn level(&self) -> Option<Level> {
        self.state.lock().level
    }

    pub fn set_level(&self, level: Level) {
        self.state.lock().level = Some(level);
    }

    /// `false` if it has as many as it may have.
    pub fn subscribe(&self, server: &ServerName, uri: &str) -> bool {
        let mut state = self.state.lock();
        if state.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return false;
        }
        state.subscriptions.insert((server.clone(), uri.to_owned()));
        true
    }

    pub fn unsubscribe(&self, server: &ServerName, uri: &str) {
        self.state.lock().subscriptions.remove(&(server.clone(), uri.to_owned()));
    }

    pub fn is_subscribed(&self, server: &ServerName, uri: &str) -> bool {
        self.state.lock().subscriptions.contains(&(server.clone(), uri.to_owned()))
    }

    pub fn subscriptions(&self) -> Vec<(ServerName, String)> {
        self.state.lock().subscriptions.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_sessions_are_forgotten() {
        let sessions = Sessions::default();
        let open =
            |n: usize, now| sessions.open(n.to_string(), Mount::All, "2025-11-25", Client::default(), now);
        for n in 0..SESSIONS_MAX {
            assert!(open(n, Time::ZERO).is_some());
        }
        assert!(open(9999, Time::from_ms(1)).is_none());
        assert!(sessions.touch("7", &Mount::One("x".into()), Time::from_ms(5)).is_none());
        assert_eq!(sessions.touch("7", &Mount::All, Time::from_ms(5)).unwrap().number, 8);
        let busy = sessions.touch("9", &Mount::All, Time::ZERO).unwrap();
        busy.begin();
        let later = Time::ZERO + SESSION_IDLE;
        assert!(sessions.touch("8", &Mount::All, later).is_none());
        assert!(open(9999, later).is_some());
        assert_eq!(sessions.all().len(), 3);
        busy.end(later);
        assert!(sessions.touch("9", &Mount::All, later + SESSION_IDLE).is_none());
        sessions.close(&busy);
        assert!(sessions.of_number(busy.number).is_none());
    }

    #[test]
    fn activity() {
        let sessions = Sessions::default();
        let now = Time::from_ms(100);
        assert_eq!(sessions.last_active(now), None);
        let open = |id: &str, ms| {
            let at = Time::from_ms(ms);
            sessions.open(id.to_owned(), Mount::All, "2025-11-25", Client::default(), at).unwrap()
        };
        let (first, second) = (open("a", 1), open("b", 2));
        assert_eq!(sessions.last_active(now), Some(Time::from_ms(2)));
        first.begin();
        assert_eq!(sessions.last_active(now), Some(now));
        first.end(Time::from_ms(5));
        sessions.close(&first);
        sessions.close(&second);
        assert_eq!(sessions.last_active(now), Some(Time::from_ms(5)));
    }
}
