//! Event streams: on the connection's thread, and in the hub.

use super::client::Client;
use super::{PATIENCE, Server, eventually, tell};
use mcpvisor::gateway::http::{Exchange, Request, Settings};
use mcpvisor::gateway::hub::{Hub, HubLimits, StreamId};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

const GET: &str = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn each_event_leaves_at_once_and_the_connection_stays() {
    let (next, events) = mpsc::channel::<Option<&'static str>>();
    let events = Mutex::new(events);
    let server = Server::start(Settings::default(), move |_, exchange| {
        let events = events.lock().unwrap();
        let mut writer = exchange.start_events(&[("Mcp-Session-Id", "7")]).unwrap();
        while let Some(event) = events.recv_timeout(PATIENCE).unwrap() {
            writer.write(event.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
    });
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(GET);
        let head = client.head();
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-cache"));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        assert_eq!(head.header("mcp-session-id"), Some("7"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            next.send(Some(event)).unwrap();
            assert_eq!(client.chunk(), event, "there before the next one is written");
        }
        next.send(None).unwrap();
        assert_eq!(client.chunk(), "");
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    next.send(Some("data: old\n\n")).unwrap();
    next.send(None).unwrap();
    assert_eq!(client.head().header("transfer-encoding"), None);
    assert_eq!(client.rest().unwrap(), b"data: old\n\n");
}

#[test]
fn a_stream_that_is_dropped_does_not_end_in_order() {
    let server = Server::start(Settings::default(), |_, exchange| {
        let mut writer = exchange.start_events(&[]).unwrap();
        writer.write(b"data: 1\n\n").unwrap();
    });
    let mut client = server.connect();
    client.send(GET);
    client.head();
    assert_eq!(client.chunk(), "data: 1\n\n");
    client.assert_closed();
}

/// A server whose every request becomes a stream in the hub.
struct Streams {
    server: Server,
    ids: Receiver<StreamId>,
    closed: Receiver<()>,
}

fn streams(limits: HubLimits) -> Streams {
    let (ids_sender, ids) = mpsc::channel();
    let (closed_sender, closed) = mpsc::channel();
    let senders = Mutex::new((ids_sender, closed_sender));
    let server = Server::with_hub(Settings::default(), limits, |_| {
        move |_: &Request, exchange: &mut Exchange| {
            let (ids, closed): (Sender<StreamId>, Sender<()>) = senders.lock().unwrap().clone();
            let on_close = Box::new(move || tell(&closed));
            match exchange.hand_over(&[], on_close) {
                Ok(id) => ids.send(id).unwrap(),
                Err(full) => exchange.respond(503, &[], full.to_string().as_bytes()),
            }
        }
    });
    Streams { server, ids, closed }
}

impl Streams {
    fn open(&self) -> (Client, StreamId) {
        let mut client = self.server.connect();
        client.send(GET);
        let head = client.head();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        (client, self.ids.recv_timeout(PATIENCE).unwrap())
    }

    fn hub(&self) -> &Hub {
        &self.server.hub
    }

    fn expect_closed(&self) {
        self.closed.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_stream_in_the_hub_from_head_to_end() {
    let streams = streams(HubLimits::default());
    let (mut client, id) = streams.open();
    eventually("the thread has ended", || streams.server.http.connections() == 0);
    assert_eq!(streams.hub().len(), 1);
    assert!(streams.hub().send(id, &b"data: 1\n\n"[..]));
    assert_eq!(client.chunk(), "data: 1\n\n");
    assert!(streams.hub().send(id, &b"data: 2\n\n"[..]));
    streams.hub().close(id);
    assert!(!streams.hub().send(id, &b"data: 3\n\n"[..]), "closed means closed");
    assert_eq!((client.chunk(), client.chunk()), ("data: 2\n\n".to_owned(), String::new()));
    client.assert_closed();
    streams.expect_closed();
    assert_eq!(streams.hub().len(), 0);
    assert!(!streams.hub().send(id, &b"data: 4\n\n"[..]));
}

#[test]
fn old_clients_and_head_requests() {
    let streams = streams(HubLimits::default());
    let mut old = streams.server.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.head().header("transfer-encoding"), None);
    let id = streams.ids.recv_timeout(PATIENCE).unwrap();
    assert!(streams.hub().send(id, &b"data: 1\n\n"[..]));
    streams.hub().close(id);
    assert_eq!(old.rest().unwrap(), b"data: 1\n\n");
    let mut head = streams.server.connect();
    head.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.head().status, 200);
    head.assert_closed();
    streams.expect_closed();
    streams.expect_closed();
}

#[test]
fn a_full_hub_is_a_503_and_the_connection_stays() {
    let streams = streams(HubLimits { streams_max: 1, ..HubLimits::default() });
    let (first, _) = streams.open();
    let mut second = streams.server.connect();
    assert_eq!(second.get("/").status, 503);
    assert_eq!(second.get("/").status, 503);
    drop(first);
    streams.expect_closed();
    assert_eq!(streams.hub().len(), 0);
    second.send(GET);
    assert_eq!(second.head().status, 200);
}

#[test]
fn a_thousand_streams_cost_no_threads() {
    const COUNT: usize = 1000;
    let streams = streams(HubLimits::default());
    let (mut clients, ids): (Vec<Client>, Vec<StreamId>) = (0..COUNT).map(|_| streams.open()).unzip();
    eventually("no connection holds a thread", || streams.server.http.connections() == 0);
    assert_eq!(streams.hub().len(), COUNT);
    let event: Arc<[u8]> = Arc::from(&b"data: to all\n\n"[..]);
    for id in &ids {
        assert!(streams.hub().send(*id, Arc::clone(&event)));
    }
    for client in &mut clients {
        assert_eq!(client.chunk(), "data: to all\n\n");
    }
    drop(clients);
    for _ in 0..COUNT {
        streams.expect_closed();
    }
    assert_eq!(streams.hub().len(), 0);
    assert!(streams.closed.try_recv().is_err(), "each was told once");
}

#[test]
fn a_slow_reader_delays_nobody_and_is_closed_when_its_queue_is_full() {
    let streams = streams(HubLimits::default());
    let ((mut slow, slow_id), (mut quick, quick_id)) = (streams.open(), streams.open());
    let large: Arc<[u8]> = vec![b'x'; 100 << 10].into();
    let mut accepted = 0;
    // More than the socket buffers and the queue together can ever hold.
    while streams.hub().send(slow_id, Arc::clone(&large)) {
        accepted += 1;
        assert!(accepted < 10_000, "the queue has no limit");
        assert!(streams.hub().send(quick_id, &b"data: tick\n\n"[..]));
        assert_eq!(quick.chunk(), "data: tick\n\n");
    }
    streams.expect_closed();
    assert_eq!(streams.hub().len(), 1);
    let ends_in_order = slow.rest().is_ok_and(|rest| rest.ends_with(b"\r\n0\r\n\r\n"));
    assert!(!ends_in_order, "a stream that lost events does not look whole");
    assert!(streams.hub().send(quick_id, &b"data: tick\n\n"[..]));
    assert_eq!(quick.chunk(), "data: tick\n\n");
}

#[test]
fn a_slow_reader_that_reads_on_gets_everything() {
    let limits = HubLimits { queue_bytes_max: 64 << 20, ..HubLimits::default() };
    let streams = streams(limits);
    let (mut client, id) = streams.open();
    let event = |n: usize| format!("data: {n} {}\n\n", "x".repeat(50_000));
    for n in 0..400 {
        assert!(streams.hub().send(id, event(n).into_bytes()));
    }
    streams.hub().close(id);
    let mut text = String::new();
    loop {
        let chunk = client.chunk();
        if chunk.is_empty() {
            break;
        }
        text.push_str(&chunk);
    }
    assert!(text == (0..400).map(event).collect::<String>());
    streams.expect_closed();
}

#[test]
fn a_closed_stream_that_nobody_reads_is_cut() {
    let limits = HubLimits { finish_patience: std::time::Duration::from_millis(100), ..HubLimits::default() };
    let streams = streams(HubLimits { queue_bytes_max: 64 << 20, ..limits });
    let (_client, id) = streams.open();
    assert!(streams.hub().send(id, vec![b'x'; 32 << 20]));
    streams.hub().close(id);
    streams.expect_closed();
    assert_eq!(streams.hub().len(), 0);
}

#[test]
fn a_stream_that_is_kept_alive_says_something_now_and_then() {
    let pulse_every = std::time::Duration::from_millis(50);
    let streams = streams(HubLimits { pulse_every, ..HubLimits::default() });
    let ((mut kept, kept_id), (mut other, other_id)) = (streams.open(), streams.open());
    streams.hub().keep_alive(kept_id);
    assert_eq!([kept.chunk(), kept.chunk(), kept.chunk()], [": \n\n"; 3]);
    assert!(streams.hub().send(other_id, &b"data: 1\n\n"[..]));
    assert_eq!(other.chunk(), "data: 1\n\n", "and nothing before that");
    streams.hub().close(kept_id);
    let mut last = kept.chunk();
    while last == ": \n\n" {
        last = kept.chunk();
    }
    assert_eq!(last, "");
}

#[test]
fn shutting_the_hub_down_ends_streams_in_order() {
    let streams = streams(HubLimits { queue_bytes_max: 64 << 20, ..HubLimits::default() });
    let ((mut reading, reading_id), (_stuck, stuck_id)) = (streams.open(), streams.open());
    assert!(streams.hub().send(stuck_id, vec![b'x'; 32 << 20]));
    assert!(streams.hub().send(reading_id, &b"data: last\n\n"[..]));
    streams.hub().shutdown(std::time::Duration::from_millis(200));
    assert_eq!((reading.chunk(), reading.chunk()), ("data: last\n\n".to_owned(), String::new()));
    streams.expect_closed();
    streams.expect_closed();
    assert_eq!(streams.hub().len(), 0);
    assert!(!streams.hub().send(reading_id, &b"data: more\n\n"[..]));
    let mut late = streams.server.connect();
    assert_eq!(late.get("/").status, 503);
}

#[test]
fn a_callback_that_panics_harms_no_other_stream() {
    let (ids_sender, ids) = mpsc::channel();
    let ids_sender = Mutex::new(ids_sender);
    let server = Server::start(Settings::default(), move |_, exchange| {
        let id = exchange.hand_over(&[], Box::new(|| panic!("as the test wants"))).unwrap();
        ids_sender.lock().unwrap().send(id).unwrap();
    });
    let (mut first, mut second) = (server.connect(), server.connect());
    first.send(GET);
    ids.recv_timeout(PATIENCE).unwrap();
    second.send(GET);
    let id = ids.recv_timeout(PATIENCE).unwrap();
    second.head();
    drop(first);
    eventually("the first is gone", || server.hub.len() == 1);
    assert!(server.hub.send(id, &b"data: 1\n\n"[..]));
    assert_eq!(second.chunk(), "data: 1\n\n");
}
