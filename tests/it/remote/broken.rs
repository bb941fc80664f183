//! What goes wrong with remote servers: each has its fault, and no call is answered twice, or as done when it may not be.

use super::*;
use std::net::TcpListener;

/// A port where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/mcp", listener.local_addr().unwrap())
}

#[test]
fn every_failure_has_its_name() {
    let upstream = Upstream::start(|seen, out| match seen.path.as_str() {
        "/401" => out.answer(401, &[("www-authenticate", r#"Bearer error="invalid_token""#)], ""),
        "/403" => out.answer(403, &[], r#"{"error":{"code":-32000,"message":"not you"}}"#),
        "/500" => out.answer(500, &[("content-type", "text/html")], "<h1>Oh no</h1>"),
        "/503" => out.answer(503, &[("retry-after", "3600")], ""),
        "/html" => out.answer(200, &[("content-type", "text/html")], "<title>Welcome</title>"),
        "/garbage" => out.answer(200, &[("content-type", "application/json")], "{nonsense"),
        "/404" => out.answer(404, &[], "no such page"),
        "/413" => out.answer(413, &[], ""),
        "/lists" if seen.what() == "tools/list" => out.answer(429, &[], ""),
        "/lists" => answer_plainly(seen, out),
        "/closes" => out.cut(),
        "/not-http" => {
            out.raw("220 mail.example ESMTP\r\n");
            out.cut();
        }
        "/refuses" => {
            let error = json!({ "code": -32603, "message": "come back on Monday" });
            let answer = json!({ "jsonrpc": "2.0", "id": seen.message()["id"], "error": error });
            out.json(&[], &answer);
        }
        other => panic!("{other}"),
    });
    let cases = [
        ("401", "parked", "needs_login", "invalid_token"),
        ("403", "parked", "needs_login", "not you"),
        ("500", "backoff", "bad_upstream", "answered 500: Oh no"),
        ("503", "backoff", "bad_upstream", "answered 503"),
        ("html", "backoff", "bad_upstream", "with text/html, not JSON: Welcome"),
        ("garbage", "backoff", "bad_upstream", "{nonsense"),
        ("413", "backoff", "bad_upstream", "answered 413"),
        ("lists", "backoff", "bad_upstream", "answered 429"),
        ("404", "backoff", "bad_upstream", "answered 404: no such page; a GET got 404"),
        ("closes", "backoff", "unreachable", "broke before the answer"),
        ("not-http", "backoff", "bad_upstream", "not HTTP"),
        ("refuses", "backoff", "handshake_failed", "come back on Monday"),
        ("refused", "backoff", "unreachable", "connection refused"),
        ("no-name", "backoff", "unreachable", "connect to http://no-such-host.invalid/mcp"),
        ("no-tls", "backoff", "tls_failed", "TLS"),
        ("variable", "parked", "bad_config", "TEST_IS_NOT_SET"),
    ];
    let mut servers = json!({
        "refused": { "url": nobody() },
        "no-name": { "url": "http://no-such-host.invalid/mcp" },
        "no-tls": { "url": format!("https://{}/closes-tls", upstream.address) },
        "variable": { "url": nobody(), "headers": { "X": "${env:TEST_IS_NOT_SET}" } },
    });
    let names = [
        "401", "403", "413", "500", "503", "html", "garbage", "404", "closes", "not-http", "refuses", "lists",
    ];
    for name in names {
        servers[name] = json!({ "url": format!("http://{}/{name}", upstream.address) });
    }
    let daemon = with(servers);
    for (name, state, kind, said) in cases {
        let what = format!("{name} to fail");
        let status = daemon.wait_until(&what, |status| !server(status, name)["last_error"].is_null());
        let shown = server(&status, name);
        assert_eq!(shown["last_error"]["kind"], kind, "{name}: {shown:#}");
        let message = shown["last_error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{name}: {message}");
        daemon.wait_until(&format!("{name} to be {state}"), |status| {
            // One that is tried again passes through other states, too.
            let now = server(status, name)["state"].as_str().unwrap();
            now == state || (state == "backoff" && now == "auto_disabled")
        });
    }
}

/// A session that the server forgets is made anew, once, within the same life; what was refused with it is asked again.
#[test]
fn a_lost_session_is_made_anew() {
    let forgotten: Arc<AtomicUsize> = Arc::default();
    let session: Arc<AtomicUsize> = Arc::default();
    let (forget, current) = (forgotten.clone(), session.clone());
    let upstream = Upstream::start(move |seen, out| {
        let message = seen.message();
        if seen.what() == "initialize" {
            let id = format!("s-{}", current.fetch_add(1, Ordering::AcqRel) + 1);
            return out.json(&[("mcp-session-id", &id)], &plain(&message).unwrap());
        }
        let status = forget.load(Ordering::Acquire);
        let known = format!("s-{}", current.load(Ordering::Acquire));
        if (status > 0 && known == "s-1") || seen.header("mcp-session-id") != Some(&known) {
            let error = json!({ "code": -32000, "message": "Bad Request: no valid session" });
            let body = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
            return out.answer(status as u16, &[("content-type", "application/json")], &body);
        }
        answer_plainly_in(seen, out, &known);
    });
    for status in [404, 400] {
        forgotten.store(0, Ordering::Release);
        session.store(0, Ordering::Release);
        let daemon = behind(&upstream);
        let before = life(&daemon);
        let mut client = daemon.client();
        assert_eq!(client.text("a__run", json!({ "n": 1 })), r#"{"n":1}"#);
        forgotten.store(status, Ordering::Release);
        assert_eq!(client.text("a__run", json!({ "n": 2 })), r#"{"n":2}"#, "{status}");
        let shown = server(&daemon.status(), "a").clone();
        assert_eq!(
            (&shown["life"], &shown["state"], &shown["failures"]),
            (&before, &json!("ready"), &json!(0))
        );
        assert_eq!(session.load(Ordering::Acquire), 2);
    }
}

fn answer_plainly_in(seen: &Seen, out: &mut Out, session: &str) {
    match plain(&seen.message()).filter(|_| seen.method == "POST") {
        Some(answer) => out.json(&[("mcp-session-id", session)], &answer),
        None => answer_plainly(seen, out),
    }
}

/// A 400 for the request itself is passed on, and costs no session.
#[test]
fn a_bad_request_is_no_lost_session() {
    let upstream = Upstream::start(|seen, out| match seen.what().as_str() {
        "tools/call" => {
            let error = json!({ "code": -32602, "message": "no such thing" });
            let body = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
            out.answer(400, &[("content-type", "application/json")], &body);
        }
        _ => answer_plainly(seen, out),
    });
    let daemon = behind(&upstream);
    let error = daemon.client().call("a__run", json!({})).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (-32602, "no such thing"));
    assert_eq!(upstream.seen("initialize").len(), 1);
}

/// A 404 that answers the request by its own id is about the request.
#[test]
fn a_request_that_is_not_known_is_no_lost_session() {
    let upstream = Upstream::start(|seen, out| match seen.what().as_str() {
        "completion/complete" => {
            let error = json!({ "code": -32601, "message": "no completions here" });
            let body = json!({ "jsonrpc": "2.0", "id": seen.message()["id"], "error": error }).to_string();
            out.answer(404, &[("content-type", "application/json")], &body);
        }
        _ => answer_plainly(seen, out),
    });
    let daemon = behind(&upstream);
    let before = life(&daemon);
    let mut client = crate::support::mcp::Mcp::connect(&daemon.server_url("a"));
    for _ in 0..3 {
        let error = client.request("completion/complete", json!({})).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (-32601, "no completions here"));
    }
    assert_eq!((upstream.seen("initialize").len(), life(&daemon)), (1, before));
}

/// A server that says 400 where it means that it does not know our session: the next one has a stream again.
#[test]
fn a_new_session_has_a_stream_again() {
    let session: Arc<AtomicUsize> = Arc::new(AtomicUsize::new(1));
    let current = session.clone();
    let upstream = Upstream::start(move |seen, out| {
        let known = format!("s-{}", current.load(Ordering::Acquire));
        let ours = seen.header("mcp-session-id").is_none_or(|id| id == known);
        match seen.what().as_str() {
            _ if !ours => out.answer(400, &[], "no valid session ID"),
            "GET" if known == "s-1" => {
                out.events(&[]);
                out.raw("retry: 10\n: there\n\n");
                // It is restarted, and has forgotten us.
                current.store(2, Ordering::Release);
            }
            "GET" => {
                out.events(&[]);
                out.wait_closed();
            }
            _ => answer_plainly_in(seen, out, &known),
        }
    });
    let daemon = behind(&upstream);
    let of = |id: &'static str| {
        move |seen: &&Seen| seen.method == "GET" && seen.header("mcp-session-id") == Some(id)
    };
    until("a refused stream", || (upstream.seen("GET").iter().filter(of("s-1")).count() == 2).then_some(()));
    assert_eq!(daemon.client().text("a__run", json!({})), "{}");
    until("a stream of the new session", || upstream.seen("GET").iter().find(of("s-2")).map(|_| ()));
}

#[test]
fn a_session_that_is_lost_again_and_again_ends_the_life() {
    let upstream = Upstream::start(|seen, out| match seen.what().as_str() {
        "tools/call" => out.answer(404, &[], ""),
        _ => answer_plainly(seen, out),
    });
    let daemon = behind(&upstream);
    let error = daemon.client().call("a__run", json!({})).unwrap_err();
    assert_eq!(error.kind(), "session_lost", "{error:?}");
    let status = daemon.wait_until("the failure", |status| server(status, "a")["failures"] != 0);
    assert_eq!(server(&status, "a")["last_error"]["kind"], "session_lost");
    assert_eq!(upstream.seen("tools/call").len(), 2);
}

/// The connection breaks after the request was sent: a call may have been done, a list may be asked again.
#[test]
fn a_call_that_was_cut_is_not_known_to_be_done_or_not() {
    let lists: Arc<AtomicUsize> = Arc::default();
    let count = lists.clone();
    let upstream = Upstream::start(move |seen, out| match seen.what().as_str() {
        "tools/call" if seen.body.contains("stream") => {
            out.events(&[]);
            out.raw("data: {\"jsonrpc\":\"2.0\",");
        }
        "tools/call" => out.cut(),
        "tools/list" if count.fetch_add(1, Ordering::AcqRel) == 0 => out.cut(),
        _ => answer_plainly(seen, out),
    });
    let daemon = behind(&upstream);
    assert_eq!(lists.load(Ordering::Acquire), 2);
    let before = life(&daemon);
    let mut client = daemon.client();
    for arguments in [json!({}), json!({ "how": "stream" })] {
        let error = client.call("a__run", arguments).unwrap_err();
        assert_eq!(error.kind(), "outcome_unknown", "{error:?}");
    }
    assert_eq!(upstream.seen("tools/call").len(), 2);
    assert_eq!(life(&daemon), before);
}

/// The server goes away while it works, and comes back.
#[test]
fn a_server_that_goes_away_is_seen_and_comes_back() {
    let handle = |seen: &Seen, out: &mut Out| match seen.what().as_str() {
        "tools/call" if seen.body.contains("hang") => out.wait_closed(),
        _ => answer_plainly(seen, out),
    };
    let upstream = Upstream::start(handle);
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    let call = client.begin_call(json!(9), "a__run", json!({ "hang": true }), None);
    upstream.wait_seen("tools/call", 1);
    let address = upstream.address.clone();
    drop(upstream);
    assert_eq!(call.answer().unwrap_err().kind(), "outcome_unknown");
    // Nothing of this call is sent: it is refused with the reason.
    let error = client.call("a__run", json!({})).unwrap_err();
    assert!(error.message.contains("connection refused"), "{error:?}");
    let upstream = Upstream::start_at(&address, handle);
    daemon.wait_ready(&["a"]);
    assert_eq!(client.text("a__run", json!({})), "{}");
    drop(upstream);
}

/// An answer whose stream is cut behind an event with an id is taken up there, as long as the server wants us to wait.
#[test]
fn an_answer_is_taken_up_where_it_was_cut() {
    let waiting: Arc<Mutex<Value>> = Arc::default();
    let asked = waiting.clone();
    let upstream =
        Upstream::start(move |seen, out| match (seen.what().as_str(), seen.header("last-event-id")) {
            ("tools/call", _) => {
                *asked.lock().unwrap() = seen.message();
                out.events(&[]);
                out.raw("id: p-1\nretry: 30\ndata: \n\n");
            }
            ("GET", Some("p-1")) => {
                out.events(&[]);
                out.raw("id: p-2\n: not yet\n\n");
            }
            ("GET", Some("p-2")) => {
                out.events(&[]);
                out.event(&response(&asked.lock().unwrap(), &text("at last")));
            }
            _ => answer_plainly(seen, out),
        });
    let daemon = behind(&upstream);
    assert_eq!(daemon.client().text("a__run", json!({})), "at last");
    assert_eq!(upstream.seen("tools/call").len(), 1);
}

#[test]
fn errors_of_one_call_are_its_own() {
    let upstream =
        Upstream::start(|seen, out| match seen.message()["params"]["arguments"]["status"].as_u64() {
            Some(429) => out.answer(429, &[("retry-after", "7")], ""),
            Some(status) => out.answer(status as u16, &[], "because"),
            None => answer_plainly(seen, out),
        });
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    for (status, kind) in [(403, "needs_login"), (413, "too_large"), (429, "busy"), (502, "bad_upstream")] {
        let error = client.call("a__run", json!({ "status": status })).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    assert_eq!(client.text("a__run", json!({})), "{}");
    // Without a valid login nothing else would pass either.
    let error = client.call("a__run", json!({ "status": 401 })).unwrap_err();
    assert_eq!(error.kind(), "needs_login", "{error:?}");
    daemon.wait_state("a", "parked");
}

#[test]
fn a_server_that_asks_to_wait_is_greeted_after_that() {
    let tries: Arc<AtomicUsize> = Arc::default();
    let count = tries.clone();
    let upstream = Upstream::start(move |seen, out| match seen.what().as_str() {
        "initialize" if count.fetch_add(1, Ordering::AcqRel) == 0 => {
            out.answer(503, &[("retry-after", "1")], "");
        }
        _ => answer_plainly(seen, out),
    });
    let begun = Instant::now();
    let daemon = behind(&upstream);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(server(&daemon.status(), "a")["failures"], 0);
}
