//! Clients that are slow, on purpose or not.

use super::client::Client;
use super::{PATIENCE, Server};
use mcpvisor::gateway::http::Settings;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(300);

fn impatient() -> Settings {
    Settings { head_deadline: SHORT, body_deadline: SHORT, linger: SHORT, ..Settings::default() }
}

/// Sends a byte every 10 ms until the server has answered.
fn drip(mut client: Client, start: &str) -> u16 {
    client.send(start);
    let (answered, answer) = mpsc::channel::<()>();
    let mut writer = match client.stream() {
        super::client::Stream::Tcp(stream) => stream.try_clone().unwrap(),
        super::client::Stream::Unix(_) => unreachable!("these tests use TCP"),
    };
    let dripping = std::thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        while answer.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
            assert!(Instant::now() < deadline, "never answered");
            if writer.write_all(b"x").is_err() {
                break;
            }
        }
    });
    let status = client.response().status;
    drop(answered);
    dripping.join().unwrap();
    status
}

#[test]
fn a_head_or_body_that_drips_is_cut_at_its_deadline() {
    let server = Server::echo(impatient());
    let begun = Instant::now();
    assert_eq!(drip(server.connect(), "GET / HTTP/1.1\r\nX: "), 408);
    assert_eq!(drip(server.connect(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n"), 408);
    assert!(begun.elapsed() >= 2 * SHORT, "not before its time");
    let mut silent = server.connect();
    silent.send("GET /");
    assert_eq!(silent.response().status, 408, "silence in the middle, too");
}

#[test]
fn many_that_drip_delay_nobody() {
    let server = Server::echo(Settings::default());
    let mut slow: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    for client in &mut slow {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    }
    let mut quick = server.connect();
    for _ in 0..100 {
        assert_eq!(quick.get("/").status, 200);
    }
    for client in &mut slow {
        client.send("4567890");
        assert_eq!(client.response().body, b"1234567890");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = Server::echo(Settings { keep_alive_idle: SHORT, ..Settings::default() });
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    client.assert_closed();
    server.connect().assert_closed();
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut() {
    let (done_sender, done) = mpsc::channel();
    let done_sender = std::sync::Mutex::new(done_sender);
    let settings = Settings { write_patience: SHORT, ..Settings::default() };
    let server = Server::start(settings, move |_, exchange| {
        // 300 ms, and a second for each 64 KiB of the 128 KiB here: it does not fit only because it is repeated.
        let event = vec![b'x'; 128 << 10];
        let mut events = exchange.start_events(&[]).unwrap();
        while events.write(&event).is_ok() {}
        done_sender.lock().unwrap().send(events.peer_closed()).unwrap();
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(done.recv_timeout(PATIENCE).unwrap(), "a broken stream counts as closed");
    let rest = client.rest();
    assert!(!rest.is_ok_and(|rest| rest.ends_with(b"0\r\n\r\n")), "no orderly end was claimed");
}
