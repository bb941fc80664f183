//! Disconnects that are seen while the handler waits for something else.

use super::client::Client;
use super::{PATIENCE, Server, echo, tell};
use mcpvisor::gateway::http::{Exchange, HttpServer, Listener, Request, Settings};
use mcpvisor::gateway::hub::Hub;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

/// A handler that lends its socket and waits; what it learned comes out of the receiver. `/answer` is told to
/// answer by the sender, `/wait` waits for the close.
struct Waiting {
    entered: Receiver<()>,
    outcome: Receiver<&'static str>,
    answer: mpsc::Sender<()>,
}

fn waiting() -> (Waiting, impl Fn(&Request, &mut Exchange) + Send + Sync + 'static) {
    let (entered_sender, entered) = mpsc::channel();
    let (outcome_sender, outcome) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<()>();
    let ends = Mutex::new((entered_sender, outcome_sender, answers));
    let handler = move |request: &Request, exchange: &mut Exchange| {
        if request.path != "/wait" {
            return echo(request, exchange);
        }
        let (entered, outcome, answers) = &*ends.lock().unwrap();
        let (closed_sender, closed) = mpsc::channel();
        let watch = exchange.watch_close(Box::new(move || tell(&closed_sender)));
        entered.send(()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if closed.recv_timeout(Duration::from_millis(5)) == Ok(()) {
                assert!(exchange.peer_closed());
                outcome.send("closed").unwrap();
                return exchange.abandon();
            }
            if answers.try_recv().is_ok() {
                drop(watch);
                outcome.send("answered").unwrap();
                exchange.respond(200, &[], b"late");
                let after = closed.recv_timeout(Duration::ZERO);
                assert_eq!(after, Err(RecvTimeoutError::Disconnected), "the callback went with its watch");
                return;
            }
        }
        outcome.send("neither").unwrap();
    };
    (Waiting { entered, outcome, answer }, handler)
}

#[test]
fn a_tcp_client_that_leaves_is_seen() {
    let (waiting, handler) = waiting();
    let server = Server::start(Settings::default(), handler);
    for leaves in [drop as fn(Client), |client| client.shutdown_write()] {
        let mut client = server.connect();
        client.send(WAIT);
        waiting.entered.recv_timeout(PATIENCE).unwrap();
        leaves(client);
        assert_eq!(waiting.outcome.recv_timeout(PATIENCE), Ok("closed"));
    }
}

#[test]
fn a_client_that_stays_gets_its_answer_and_keeps_its_connection() {
    let (waiting, handler) = waiting();
    let server = Server::start(Settings::default(), handler);
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(WAIT);
        waiting.entered.recv_timeout(PATIENCE).unwrap();
        waiting.answer.send(()).unwrap();
        assert_eq!(waiting.outcome.recv_timeout(PATIENCE), Ok("answered"));
        assert_eq!(client.response().body, b"late");
    }
    assert_eq!(client.get("/").status, 200);
    assert_eq!(server.hub.len(), 0, "a watch is not a stream");
}

#[test]
fn a_unix_client_that_half_closes_still_gets_its_answer() {
    let (waiting, handler) = waiting();
    let path = socket_path();
    let listeners = vec![Listener::Unix(UnixListener::bind(&path).unwrap())];
    let hub = Hub::start().unwrap();
    let _http = HttpServer::start("ctl", listeners, Settings::control(), hub, Arc::new(handler)).unwrap();

    let mut client = Client::unix(&path);
    assert_eq!(client.get("/x").header("x-seen"), Some("GET /x -"));
    client.send(WAIT);
    waiting.entered.recv_timeout(PATIENCE).unwrap();
    client.shutdown_write();
    assert_eq!(waiting.outcome.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    waiting.answer.send(()).unwrap();
    assert_eq!(waiting.outcome.recv_timeout(PATIENCE), Ok("answered"));
    assert_eq!(client.response().body, b"late");

    let mut client = Client::unix(&path);
    client.send(WAIT);
    waiting.entered.recv_timeout(PATIENCE).unwrap();
    drop(client);
    assert_eq!(waiting.outcome.recv_timeout(PATIENCE), Ok("closed"));
    std::fs::remove_file(&path).unwrap();
}

fn socket_path() -> PathBuf {
    std::env::temp_dir().join(format!("mcpvisor-http-{}.sock", std::process::id()))
}

#[test]
fn a_watched_socket_can_become_a_stream() {
    let (ids_sender, ids) = mpsc::channel();
    let ids_sender = Mutex::new(ids_sender);
    let server = Server::start(Settings::default(), move |_, exchange| {
        let first = exchange.watch_close(Box::new(|| {}));
        let second = exchange.watch_close(Box::new(|| {}));
        let id = exchange.hand_over(&[], Box::new(|| {})).unwrap();
        drop((first, second));
        ids_sender.lock().unwrap().send(id).unwrap();
    });
    let mut client = server.connect();
    client.send(WAIT);
    client.head();
    assert!(server.hub.send(ids.recv_timeout(PATIENCE).unwrap(), &b"data: 1\n\n"[..]));
    assert_eq!(client.chunk(), "data: 1\n\n");
}
