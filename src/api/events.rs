//! Events for whoever wants to follow: `GET /events` as a stream that can be taken up again, `GET /api/v1/events` as a list
//! of what is kept. The streams are the hub's: an idle one costs no thread, and one that reads too slowly is cut.

use super::rest::{JSON, fail, parameter, parameters};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::base::limits::EVENT_STREAMS_MAX;
use crate::base::topic::Topics;
use crate::gateway::http::{Exchange, Request};
use crate::gateway::hub::{Hub, StreamId};
use crate::gateway::router::{self, Router};
use crate::server::journal::{GapCause, Journal, Record, Since, Subject};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a client that was cut off waits before it comes back. 1 s: a daemon that is started anew takes less.
const RETRY_MS: u32 = 1000;

/// All who follow.
pub struct Events {
    router: Arc<Router>,
    hub: Hub,
    followers: Arc<Mutex<Followers>>,
}

#[derive(Default)]
struct Followers {
    count: u64,
    open: BTreeMap<u64, Follower>,
}

struct Follower {
    filter: Filter,
    /// Nothing until it was given what it has missed.
    stream: Option<StreamId>,
}

/// Which events somebody wants.
struct Filter {
    topics: Topics,
    /// Only about these; empty: about anything.
    servers: BTreeSet<ServerName>,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let about = match &record.subject {
            Subject::Server(name) => self.servers.is_empty() || self.servers.contains(name),
            Subject::Engine(_) | Subject::Daemon => self.servers.is_empty(),
        };
        about && self.topics.contains(record.topic)
    }
}

/// The answer to `GET /api/v1/events`.
#[derive(Serialize)]
struct List<'a> {
    session: &'a str,
    /// Everything up to this number is in the list, or in the gap.
    seq: u64,
    gap: Option<GapPicture>,
    events: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct GapPicture {
    cause: GapCause,
    seq: u64,
}

impl Events {
    /// From now on every event of the router's board is given to who follows.
    pub fn new(router: Arc<Router>, hub: Hub) -> Events {
        let followers: Arc<Mutex<Followers>> = Arc::default();
        let (all, streams) = (followers.clone(), hub.clone());
        router.board.on_event(move |record| {
            for follower in all.lock().open.values() {
                if let Some(stream) = follower.stream.filter(|_| follower.filter.takes(record)) {
                    // One that is over, or reads too slowly, is closed by the hub, and forgotten then.
                    let _ = streams.send(stream, record.frame.clone());
                }
            }
        });
        Events { router, hub, followers }
    }

    /// `GET /events`
    pub fn follow(&self, request: &Request, exchange: &mut Exchange) {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            let message = format!("{} is not allowed on {}", request.method, request.path);
            return fail(exchange, 405, &Fault::new(FaultKind::Unknown, message).hint("GET"));
        }
        let Some(filter) = self.filter(request, exchange) else { return };
        // A client that comes back by itself says it in the header, and still asks for the URL that it began with.
        let header = request.headers.get("last-event-id").map(Since::read);
        let since = match (header, parameter(request, "since").as_deref().map(Since::read)) {
            (Some(since), _) => Some(since),
            (None, Some(Since::Stranger)) => return fail(exchange, 400, &not_a_place()),
            (None, since) => since,
        };
        let Some(number) = self.join(filter) else { return fail(exchange, 503, &too_many()) };
        let followers = self.followers.clone();
        let on_close = Box::new(move || {
            followers.lock().open.remove(&number);
        });
        let Ok(stream) = exchange.hand_over(&[], on_close) else {
            self.followers.lock().open.remove(&number);
            return fail(exchange, 503, &too_many());
        };
        self.hub.keep_alive(stream);
        self.router.board.read(|journal| self.begin(number, stream, since.as_ref(), journal));
    }

    fn join(&self, filter: Filter) -> Option<u64> {
        let mut followers = self.followers.lock();
        if followers.open.len() >= EVENT_STREAMS_MAX {
            return None;
        }
        followers.count += 1;
        let number = followers.count;
        followers.open.insert(number, Follower { filter, stream: None });
        Some(number)
    }

    /// What it has missed, then whatever comes: no event can come in between. One that has left meanwhile is forgotten
    /// already.
    fn begin(&self, number: u64, stream: StreamId, since: Option<&Since>, journal: &Journal) {
        let mut followers = self.followers.lock();
        let Some(follower) = followers.open.get_mut(&number) else { return };
        let Some(since) = since else {
            // An id without data: who is cut off before the first event goes on from here all the same.
            let start = format!("id: {}\nretry: {RETRY_MS}\n\n", journal.id(journal.seq()));
            self.hub.send(stream, start.into_bytes());
            follower.stream = Some(stream);
            return;
        };
        let (gap, records) = journal.since(since);
        let start = gap.map(|gap| journal.gap_frame(gap));
        let missed =
            records.filter(|record| follower.filter.takes(record)).map(|record| record.frame.clone());
        let retry = format!("retry: {RETRY_MS}\n\n").into_bytes().into();
        for frame in [retry].into_iter().chain(start).chain(missed) {
            if !self.hub.send(stream, frame) {
                return;
            }
        }
        follower.stream = Some(stream);
    }

    /// `GET /api/v1/events`
    pub fn list(&self, request: &Request, exchange: &mut Exchange) {
        let Some(filter) = self.filter(request, exchange) else { return };
        let since = parameter(request, "since").map(|text| Since::read(&text));
        if since == Some(Since::Stranger) {
            return fail(exchange, 400, &not_a_place());
        }
        let Some(limit) = parameter(request, "limit").map_or(Some(usize::MAX), |text| text.parse().ok())
        else {
            let fault = Fault::new(FaultKind::BadConfig, "`limit` is no number");
            return fail(exchange, 400, &fault.hint("limit=100"));
        };
        let (session, seq, gap, records) = self.router.board.read(|journal| {
            let (gap, records) = journal.since(since.as_ref().unwrap_or(&Since::Seq(0)));
            // Who did not say from where on misses nothing.
            let gap = gap.filter(|_| since.is_some());
            let records: Vec<Arc<Record>> = records.filter(|record| filter.takes(record)).cloned().collect();
            (journal.session().to_owned(), journal.seq(), gap, records)
        });
        let last = records[records.len().saturating_sub(limit)..].iter();
        let gap = gap.map(|gap| GapPicture { cause: gap.cause, seq: gap.seq });
        let list = List { session: &session, seq, gap, events: last.map(|record| raw(record)).collect() };
        let body = serde_json::to_string(&list).expect("plain data serialises");
        exchange.respond(200, &[JSON], body.as_bytes());
    }

    /// `types=` names and families, `server=` names; a mistake is answered.
    fn filter(&self, request: &Request, exchange: &mut Exchange) -> Option<Filter> {
        let types = parameters(request, "types");
        let words = types.iter().flat_map(|list| list.split(',')).map(str::trim);
        let topics = match Topics::read(words.filter(|word| !word.is_empty())) {
            Ok(topics) if topics.is_empty() => Topics::all(),
            Ok(topics) => topics,
            Err(hint) => {
                let fault = Fault::new(FaultKind::BadConfig, "`types` names no type of event").hint(hint);
                fail(exchange, 400, &fault);
                return None;
            }
        };
        let servers = parameters(request, "server");
        if let Some(unknown) = servers.iter().find(|name| self.router.servers.find(name).is_none()) {
            fail(exchange, 404, &router::unknown_server(&self.router.servers, unknown));
            return None;
        }
        Some(Filter { topics, servers: servers.into_iter().map(ServerName).collect() })
    }
}

fn raw(record: &Record) -> &RawValue {
    serde_json::from_str(record.json()).expect("it was written as JSON")
}

fn not_a_place() -> Fault {
    let fault = Fault::new(FaultKind::BadConfig, "`since` is neither a number nor the id of an event");
    fault.hint("the `seq` of the status, or the `id` of an event")
}

fn too_many() -> Fault {
    Fault::new(FaultKind::Busy, "too many event streams are open").hint("try again later")
}
