//! How a server ends.

use super::{PATIENCE, Server, gated_echo, tell};
use mcpvisor::gateway::http::Settings;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
fn idle_ones_go_at_once_and_answers_in_flight_arrive() {
    let (gate, handler) = gated_echo();
    let server = Server::start(Settings::default(), handler);
    let (mut idle, mut fresh, mut busy) = (server.connect(), server.connect(), server.connect());
    assert_eq!(idle.get("/").status, 200);
    busy.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait_entered();
    let address = server.address;
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| server.http.drain(PATIENCE));
        idle.assert_closed();
        fresh.assert_closed();
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
        assert!(!drained.is_finished());
        gate.open();
        let answer = busy.response();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        busy.assert_closed();
        drained.join().unwrap();
    });
    assert_eq!(server.http.connections(), 0);
}

#[test]
fn what_does_not_end_is_cut_after_the_grace() {
    let (entered_sender, entered) = mpsc::channel();
    let entered_sender = Mutex::new(entered_sender);
    let server = Server::start(Settings::default(), move |_, exchange| {
        entered_sender.lock().unwrap().send(()).unwrap();
        // Waits for its client, as a call does for its server; the cut looks like the client's end.
        let (closed_sender, closed) = mpsc::channel();
        let _watch = exchange.watch_close(Box::new(move || tell(&closed_sender)));
        closed.recv_timeout(PATIENCE).unwrap();
        exchange.abandon();
    });
    let (mut waiting, mut half) = (server.connect(), server.connect());
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    entered.recv_timeout(PATIENCE).unwrap();
    half.send("GET / HTTP/1.1\r\nHo");
    let begun = Instant::now();
    server.http.drain(Duration::from_millis(200));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.http.connections(), 0, "all threads are joined");
    waiting.assert_closed();
    half.assert_closed();
    server.http.drain(PATIENCE);
}

#[test]
fn streams_in_the_hub_outlive_the_drain() {
    let (ids_sender, ids) = mpsc::channel();
    let ids_sender = Mutex::new(ids_sender);
    let server = Server::start(Settings::default(), move |_, exchange| {
        ids_sender.lock().unwrap().send(exchange.hand_over(&[], Box::new(|| {})).unwrap()).unwrap();
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let id = ids.recv_timeout(PATIENCE).unwrap();
    client.head();
    server.http.drain(PATIENCE);
    assert!(server.hub.send(id, &b"data: bye\n\n"[..]));
    server.hub.shutdown(PATIENCE);
    assert_eq!((client.chunk(), client.chunk()), ("data: bye\n\n".to_owned(), String::new()));
    client.assert_closed();
}
