//! What is served, what is refused, and with which status.

use super::{Server, echo, eventually, gated_echo};
use mcpvisor::gateway::http::Settings;

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::echo(Settings::default());
    let mut client = server.connect();
    for round in 0..100 {
        let answer = client.post(format!("body {round}").as_bytes());
        assert_eq!((answer.status, answer.body), (200, format!("body {round}").into_bytes()));
    }
    let large = vec![b'x'; 3 << 20];
    assert!(client.post(&large).body == large);
    let answer = client.get("/a/b?c=d");
    assert_eq!(answer.header("x-seen"), Some("GET /a/b c=d"));
    assert_eq!(answer.header("connection"), None);
    assert_eq!(server.http.connections(), 1);
    drop(client);
    eventually("the connection's thread ends", || server.http.connections() == 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::echo(Settings::default());
    let mut client = server.connect();
    let post = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    let chunked = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    let last = "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.send(format!("{post}{chunked}{last}GET /never HTTP/1.1\r\n"));
    assert_eq!(client.response().body, b"one");
    assert_eq!(client.response().body, b"two");
    let answer = client.response();
    assert_eq!((answer.header("x-seen"), answer.header("connection")), (Some("GET /3 -"), Some("close")));
    client.shutdown_write();
    client.assert_closed();
}

#[test]
fn methods_and_versions() {
    let server = Server::echo(Settings::default());
    let mut client = server.connect();
    client.send("HEAD /h HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let head = client.head();
    assert_eq!((head.header("x-seen"), head.header("content-length")), (Some("HEAD /h -"), Some("4")));
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().header("x-seen"), Some("OPTIONS * -"));
    client.send("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.response().header("connection"), Some("keep-alive"));
    client.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().header("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn a_body_that_waits_for_100_continue() {
    let server = Server::echo(Settings { body_bytes_max: 1000, ..Settings::default() });
    let mut client = server.connect();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ";
    client.send(format!("{head}4\r\n\r\n"));
    assert_eq!(client.head().status, 100);
    client.send("body");
    assert_eq!(client.response().body, b"body");
    client.send(format!("{head}1001\r\n\r\n"));
    assert_eq!(client.response().status, 413, "and not 100 first");
}

#[test]
fn a_request_that_comes_byte_by_byte() {
    let server = Server::echo(Settings::default());
    let mut client = server.connect();
    let request = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n1\r\nd\r\n0\r\nT: t\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().body, b"abcd");
    assert_eq!(client.get("/next").status, 200);
}

#[test]
fn malformed_requests_are_refused_and_the_connection_closed() {
    let server = Server::echo(Settings::default());
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: gold\r\n\r\n", 417),
        ("\u{16}\u{3}\u{1}\u{2}", 400),
    ];
    for (request, status) in table {
        let mut client = server.connect();
        client.send(request);
        let answer = client.response();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{request:?}");
        client.assert_closed();
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_client_sees_it() {
    let server = Server::echo(Settings { body_bytes_max: 1 << 20, ..Settings::default() });
    let refused = |head: &str, body: &[u8]| {
        let mut client = server.connect();
        client.send(head);
        // All of it, before a byte of the answer is read: a plain close would reset the connection.
        client.send(body);
        let status = client.response().status;
        client.shutdown_write();
        client.assert_closed();
        status
    };
    let body = vec![b'x'; 8 << 20];
    let sized = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    assert_eq!(refused(&sized, &body), 413);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n";
    assert_eq!(refused(chunked, &body), 413);
    assert_eq!(refused("GET / HTTP/1.1\r\nX: ", &body), 431);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n".repeat(100_000).as_bytes()), 431);
}

#[test]
fn large_bodies_share_a_budget() {
    let (gate, handler) = gated_echo();
    let server = Server::start(Settings { bodies_bytes_max: 1 << 20, ..Settings::default() }, handler);
    let body = vec![b'x'; 1_000_000];
    let mut first = server.connect();
    first.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    first.send(&body);
    gate.wait_entered();
    let answer = server.connect().post(&body);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.connect().post(&body[..60_000]).status, 200, "small ones need no share");
    gate.open();
    assert_eq!(first.response().body.len(), 1_000_000);
    eventually("the first has given its share back", || server.connect().post(&body).status == 200);
}

#[test]
fn a_handler_that_panics_or_says_nothing_is_a_500() {
    let server = Server::start(Settings::default(), |request, exchange| match request.path.as_str() {
        "/panic" => panic!("as the test wants"),
        "/silence" => {}
        "/twice" => {
            exchange.respond(200, &[], b"first");
            exchange.respond(500, &[], b"second");
        }
        "/abandon" => exchange.abandon(),
        _ => echo(request, exchange),
    });
    let mut client = server.connect();
    let answer = client.get("/panic");
    assert_eq!((answer.status, answer.header("connection")), (500, Some("close")));
    client.assert_closed();
    let mut client = server.connect();
    assert_eq!(client.get("/silence").status, 500);
    assert_eq!(client.get("/twice").body, b"first");
    assert_eq!(client.get("/").status, 200);
    client.send("GET /abandon HTTP/1.1\r\nHost: a\r\n\r\n");
    client.assert_closed();
    drop(client);
    eventually("nothing is left of them", || server.http.connections() == 0);
}

#[test]
fn one_connection_too_many_is_told_to_come_later() {
    let (gate, handler) = gated_echo();
    let server = Server::start(Settings { connections_max: 2, ..Settings::default() }, handler);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait_entered();
    assert_eq!(second.get("/").status, 200);
    let mut refused: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for client in &mut refused[150..] {
        let answer = client.response();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    }
    assert_eq!(server.http.connections(), 2);
    drop(refused);
    gate.open();
    assert_eq!(first.response().status, 200);
    drop(first);
    eventually("a place is free again", || server.http.connections() == 1);
    assert_eq!(server.connect().get("/").status, 200);
}
