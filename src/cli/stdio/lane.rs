//! Connections to the daemon, one request on each at a time: written by whoever sends, read by the lane's own thread.
//!
//! A lane waits in `read` also while nothing is asked, so it sees at once that the daemon has closed. Whoever takes
//! the post out of the lane's slot owns its answer.

use super::alone::Alone;
use super::bridge::Bridge;
use super::session::Session;
use super::wire::{Reply, WRITE_PATIENCE, request};
use crate::base::limits::{STDIO_IN_FLIGHT_BYTES_MAX, STDIO_IN_FLIGHT_MAX};
use crate::base::time::Time;
use crate::sys::{clock, thread};
use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// One line of the client on its way.
pub struct Post {
    pub line: Vec<u8>,
    /// The id to answer under, raw; `None` if nothing is to be answered.
    pub id: Option<String>,
    /// The session that it was last sent in.
    pub session: u64,
    /// How often it was sent.
    pub tries: u8,
    /// It is of the era without sessions.
    pub alone: Option<Arc<Alone>>,
    /// It is a stream that was acknowledged to the client once.
    pub listened: bool,
    /// Dropped with the post: whoever must not go on before it is through waits for that.
    pub _through: Option<Sender<Infallible>>,
    pub _place: Option<Place>,
}

pub struct Lane {
    stream: UnixStream,
    slot: Mutex<Option<Post>>,
}

impl Lane {
    /// A connection with its thread "lane", which ends with the connection.
    pub fn open(stream: UnixStream, bridge: &Arc<Bridge>) -> io::Result<Arc<Lane>> {
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        stream.set_read_timeout(None)?;
        let lane = Arc::new(Lane { stream, slot: Mutex::new(None) });
        let (theirs, bridge) = (lane.clone(), bridge.clone());
        thread::spawn("lane", move || theirs.serve(&bridge))?;
        Ok(lane)
    }

    /// Sends it. Given back, the daemon has not had all of it, and this lane is of no more use.
    pub fn put(
        self: &Arc<Lane>,
        post: Post,
        target: &str,
        session: Option<&Session>,
    ) -> Result<(), Box<Post>> {
        let bytes = request("POST", target, session, None, Some(&post.line));
        // Held while writing: an answer that comes early is read after that.
        let mut slot = self.slot.lock();
        let post = slot.insert(post);
        post.session = session.map_or(0, |session| session.number);
        if let Some(alone) = &post.alone {
            alone.is_on(Some(self));
        }
        if (&self.stream).write_all(&bytes).is_ok() {
            post.tries += 1;
            return Ok(());
        }
        self.shut();
        Err(Box::new(slot.take().expect("it was put there, under this lock")))
    }

    fn serve(self: Arc<Lane>, bridge: &Arc<Bridge>) {
        loop {
            let mut reply = Reply::to("POST", &self.stream);
            let head = reply.head();
            if head.is_err() {
                // Before the slot is looked at: what is put there from here on cannot be written.
                self.shut();
            }
            let post = self.slot.lock().take();
            match (head, post) {
                (Ok(head), Some(post)) => {
                    let closes = head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
                    if !bridge.answer(post, &head, &mut reply) || closes {
                        return self.shut();
                    }
                    bridge.lanes.put_back(self.clone());
                }
                (Err(cut), Some(post)) => return bridge.cut(post, &cut),
                (_, None) => return bridge.lanes.forget(&self),
            }
        }
    }

    pub fn shut(&self) {
        // Closed already is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The lanes on which nothing is asked. There are never more than were in flight at once; the daemon closes those that
/// stay idle.
#[derive(Default)]
pub struct Lanes(Mutex<Vec<Arc<Lane>>>);

impl Lanes {
    pub fn take(&self) -> Option<Arc<Lane>> {
        self.0.lock().pop()
    }

    fn put_back(&self, lane: Arc<Lane>) {
        self.0.lock().push(lane);
    }

    fn forget(&self, lane: &Arc<Lane>) {
        self.0.lock().retain(|idle| !Arc::ptr_eq(idle, lane));
    }
}

/// How much is in flight, and the wait for room.
#[derive(Default)]
pub struct Flight(Mutex<Load>, Condvar);

#[derive(Clone, Copy, Default)]
struct Load {
    posts: usize,
    bytes: usize,
}

/// The room of one post, left when dropped.
pub struct Place {
    flight: Arc<Flight>,
    bytes: usize,
}

impl Flight {
    /// Waits until there is room.
    pub fn enter(self: &Arc<Flight>, bytes: usize) -> Place {
        let mut load = self.0.lock();
        let full = |load: &mut Load| {
            load.posts >= STDIO_IN_FLIGHT_MAX || load.bytes + bytes > STDIO_IN_FLIGHT_BYTES_MAX
        };
        self.1.wait_while(&mut load, full);
        load.posts += 1;
        load.bytes += bytes;
        Place { flight: self.clone(), bytes }
    }

    /// Waits until nothing is in flight, or the deadline.
    pub fn wait_empty(&self, until: Time) {
        let mut load = self.0.lock();
        while load.posts > 0 && !self.1.wait_until(&mut load, clock::instant(until)).timed_out() {}
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut load = self.flight.0.lock();
        load.posts -= 1;
        load.bytes -= self.bytes;
        self.flight.1.notify_all();
    }
}
