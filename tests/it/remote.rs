//! Servers that run elsewhere: a scripted one on raw sockets for what can go wrong, real ones for what must go right.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests start plain processes and threads, and fail by panicking"
)]

mod broken;
mod lists;
mod modern;
mod patience;
mod real;
mod sse;
mod tls;

use crate::support::daemon::{Daemon, server};
use crate::support::upstream::{Out, Seen, Upstream, answer_plainly, plain, response, text};
use crate::support::{TempDir, measure_over, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// mcpvisor with these entries.
fn with(servers: Value) -> Daemon {
    Daemon::start(&json!({ "mcpServers": servers }), &[])
}

/// mcpvisor with one remote server, `a`, which is ready.
fn behind(upstream: &Upstream) -> Daemon {
    let daemon = with(json!({ "a": { "url": upstream.url() } }));
    daemon.wait_ready(&["a"]);
    daemon
}

fn life(daemon: &Daemon) -> Value {
    server(&daemon.status(), "a")["life"].clone()
}

#[test]
fn what_is_sent_and_how() {
    let upstream = Upstream::start(answer_plainly);
    let entry = json!({ "url": upstream.url(), "headers": {
        "Authorization": "Bearer ${env:TEST_TOKEN}", "X-Team": "a, b", "Accept": "text/html" } });
    let daemon = Daemon::start_in_with_env(
        TempDir::new(),
        &json!({ "mcpServers": { "a": entry } }),
        &[("TEST_TOKEN", "t0ken")],
    );
    daemon.wait_ready(&["a"]);
    assert_eq!(daemon.client().text("a__run", json!({ "x": 1 })), r#"{"x":1}"#);
    upstream.wait_seen("GET", 1);
    let (initialize, call) = (&upstream.seen("initialize")[0], &upstream.seen("tools/call")[0]);
    for seen in [initialize, call] {
        let header = |name| seen.header(name);
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("accept"), Some("application/json, text/event-stream"));
        assert_eq!((header("authorization"), header("x-team")), (Some("Bearer t0ken"), Some("a, b")));
        assert_eq!((header("transfer-encoding"), header("accept-encoding")), (None, None), "{seen:?}");
    }
    let said = |seen: &Seen| {
        let header = |name: &str| seen.header(name).map(str::to_owned);
        (header("mcp-session-id"), header("mcp-protocol-version"))
    };
    let ours = (Some("s-1".to_owned()), Some("2025-11-25".to_owned()));
    assert_eq!(said(initialize), (None, None));
    for what in ["notifications/initialized", "tools/list", "tools/call", "GET"] {
        assert_eq!(said(&upstream.seen(what)[0]), ours, "{what}");
    }
    assert!(!daemon.output().1.contains("t0ken"));
    // The session is ended when the server is left.
    assert_eq!(daemon.cli(&["upstream", "disable", "a"]).code, 0);
    assert_eq!(said(&upstream.wait_seen("DELETE", 1)[0]), ours);
}

#[test]
fn nothing_is_sent_before_the_greeting_is_over() {
    let greeted: Arc<AtomicBool> = Arc::default();
    let early: Arc<AtomicUsize> = Arc::default();
    let (done, count) = (greeted.clone(), early.clone());
    let upstream = Upstream::start(move |seen, out| {
        if seen.what() == "notifications/initialized" {
            // Long enough for whatever does not wait.
            measure_over(Duration::from_millis(200));
            done.store(true, Ordering::Release);
        } else if seen.what() != "initialize" && !done.load(Ordering::Acquire) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        answer_plainly(seen, out);
    });
    let _daemon = behind(&upstream);
    assert!(greeted.load(Ordering::Acquire));
    assert_eq!(early.load(Ordering::Acquire), 0);
    assert_eq!((upstream.seen("tools/list").len(), upstream.seen("initialize").len()), (1, 1));
}

/// Every way to write an event stream that is found in the wild, and answers that come in pieces.
#[test]
fn events_as_the_wild_writes_them() {
    let upstream = Upstream::start(|seen, out| {
        let message = seen.message();
        let Some(answer) = plain(&message).filter(|_| seen.method == "POST") else {
            return answer_plainly(seen, out);
        };
        out.events(&[("mcp-session-id", "s-1")]);
        let answer = answer.to_string();
        let (head, tail) = answer.split_at(answer.find(',').unwrap() + 1);
        let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
            "params": { "progressToken": message["params"]["_meta"]["progressToken"], "progress": 1 } });
        match message["params"]["arguments"]["how"].as_str() {
            None => out.raw(&format!("event: message\nid: 1\ndata: {answer}\n\n")),
            Some("crlf") => out.raw(&format!(": hi\r\n\r\ndata: {head}\r\ndata: {tail}\r\nid: 1\r\n\r\n")),
            Some("bom") => out.raw(&format!("\u{feff}data:{answer}\n\n")),
            Some("typed") => {
                out.raw(&format!("event: ping\ndata: now\n\nevent: message\ndata: {answer}\n\n"));
            }
            Some("cr") => out.raw(&format!("retry: 10\rdata: {answer}\r\r")),
            Some("pieces") => {
                let whole = format!("id: 0\ndata: \n\ndata: {progress}\n\n: x\n\ndata: {answer}\n\n");
                for byte in whole.chars() {
                    out.raw(&byte.to_string());
                }
            }
            Some(other) => panic!("{other}"),
        }
    });
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    for how in ["crlf", "bom", "cr", "pieces", "typed"] {
        assert_eq!(client.text("a__run", json!({ "how": how })), format!(r#"{{"how":"{how}"}}"#));
    }
    assert!(!daemon.output().1.contains("a message of it is"), "what is no message is no broken one");
    let call = client.begin_call(json!("p"), "a__run", json!({ "how": "pieces" }), Some(json!("tok")));
    let mut pending = call.open();
    assert_eq!(pending.next().unwrap()["params"]["progressToken"], "tok");
    assert_eq!(pending.next().unwrap()["id"], "p");
}

/// What the server says unasked, on its own stream, which is taken up again where it was cut.
#[test]
fn the_stream_of_the_server() {
    let tools: Arc<AtomicUsize> = Arc::default();
    let (count, streams) = (tools.clone(), Arc::new(AtomicUsize::new(0)));
    let upstream = Upstream::start(move |seen, out| {
        let message = seen.message();
        match seen.what().as_str() {
            "GET" => {
                out.events(&[]);
                let number = streams.fetch_add(1, Ordering::AcqRel) + 1;
                count.store(number, Ordering::Release);
                let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
                out.raw(&format!("retry: 20\nid: e{number}\ndata: {changed}\n\n"));
                if number >= 3 {
                    out.wait_closed();
                }
            }
            "tools/list" => {
                let tool = |n: usize| json!({ "name": format!("t{n}"), "inputSchema": { "type": "object" } });
                let all: Vec<Value> = (0..=count.load(Ordering::Acquire)).map(tool).collect();
                out.json(&[], &response(&message, &json!({ "tools": all })));
            }
            _ => answer_plainly(seen, out),
        }
    });
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    until("the tools to be listed anew", || client.tools().contains(&"a__t3".to_owned()).then_some(()));
    let resumed: Vec<Option<String>> =
        upstream.seen("GET").iter().map(|seen| seen.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(resumed[..3], [None, Some("e1".to_owned()), Some("e2".to_owned())]);
}

#[test]
fn a_cancelled_call_closes_its_request() {
    let closed: Arc<AtomicUsize> = Arc::default();
    let count = closed.clone();
    let upstream = Upstream::start(move |seen, out| match seen.what().as_str() {
        "tools/call" => {
            out.wait_closed();
            count.fetch_add(1, Ordering::AcqRel);
        }
        _ => answer_plainly(seen, out),
    });
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    let call = client.begin_call(json!(7), "a__run", json!({}), None);
    let sent = upstream.wait_seen("tools/call", 1)[0].message();
    client.cancel(&json!(7));
    let told = upstream.wait_seen("notifications/cancelled", 1)[0].message();
    assert_eq!(told["params"]["requestId"], sent["id"]);
    until("the request to be closed", || (closed.load(Ordering::Acquire) == 1).then_some(()));
    drop(call);
}

/// More calls than may be in flight, all of them hanging: pings and notifications still pass, and a call that ends
/// makes room for the next.
#[test]
fn hanging_calls_hold_up_nothing_else() {
    let held: Arc<Mutex<Vec<(Out, Value)>>> = Arc::default();
    let hold = held.clone();
    let upstream = Upstream::start(move |seen, out| match seen.what().as_str() {
        "tools/call" => hold.lock().unwrap().push((out.later(), seen.message())),
        _ => answer_plainly(seen, out),
    });
    let daemon = with(json!({ "a": { "url": upstream.url(), "health_check_interval": 1 } }));
    daemon.wait_ready(&["a"]);
    let client = daemon.client();
    let calls: Vec<_> =
        (0..20).map(|n| client.begin_call(json!(n), "a__run", json!({ "n": n }), None)).collect();
    upstream.wait_seen("tools/call", 16);
    upstream.wait_seen("ping", upstream.seen("ping").len() + 3);
    assert_eq!(upstream.seen("tools/call").len(), 16);
    let mut answered = 0;
    while answered < 20 {
        let (mut out, message) = until("a call", || held.lock().unwrap().pop());
        out.json(&[("connection", "close")], &plain(&message).unwrap());
        answered += 1;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.answer().unwrap()["content"][0]["text"], format!(r#"{{"n":{n}}}"#));
    }
}

/// A burst leaves many threads with nothing to do; one call after another then wakes the one that did the last, on a
/// connection that is open.
#[test]
fn calls_that_follow_each_other_use_few_connections() {
    let together: Arc<AtomicUsize> = Arc::default();
    let count = together.clone();
    let upstream = Upstream::start(move |seen, out| {
        if seen.body.contains("burst") {
            count.fetch_add(1, Ordering::AcqRel);
            until("the whole burst", || (count.load(Ordering::Acquire) == 16).then_some(()));
        }
        answer_plainly(seen, out);
    });
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    let burst: Vec<_> =
        (0..16).map(|n| client.begin_call(json!(n + 100), "a__run", json!({ "burst": n }), None)).collect();
    burst.into_iter().for_each(|call| assert!(call.answer().is_ok()));
    (0..40).for_each(|n| assert_eq!(client.text("a__run", json!({ "n": n })), format!(r#"{{"n":{n}}}"#)));
    let of = |mark: &str| {
        let calls = upstream.seen("tools/call").into_iter().filter(|seen| seen.body.contains(mark));
        calls.map(|seen| seen.from).collect::<BTreeSet<u16>>().len()
    };
    assert_eq!(of("\"burst\""), 16);
    assert!(of("\"n\"") <= 6, "{} connections for calls that followed each other", of("\"n\""));
}

/// Whoever leaves without a word does not hold the server's place for ever.
#[test]
fn calls_that_nobody_waits_for_make_room() {
    let upstream =
        Upstream::start(|seen, out| match seen.message()["params"]["arguments"]["hang"].as_bool() {
            Some(true) => out.wait_closed(),
            _ => answer_plainly(seen, out),
        });
    let daemon = behind(&upstream);
    let mut client = daemon.client();
    for n in 0..16 {
        drop(client.begin_call(json!(n + 100), "a__run", json!({ "hang": true }), None));
    }
    upstream.wait_seen("tools/call", 16);
    assert_eq!(client.text("a__run", json!({})), "{}");
}

/// Requests of the server on the stream of a call reach the client, and its answer goes back by a POST of its own.
#[test]
fn the_server_asks_in_the_middle_of_a_call() {
    let upstream = Upstream::start(|seen, out| {
        let message = seen.message();
        if seen.what() != "tools/call" {
            return answer_plainly(seen, out);
        }
        out.events(&[]);
        out.event(&json!({ "jsonrpc": "2.0", "id": "q", "method": "roots/list" }));
        out.event(&response(&message, &text("done")));
    });
    let entry = json!({ "url": upstream.url(), "client_features": ["roots"] });
    let daemon = with(json!({ "a": entry }));
    daemon.wait_ready(&["a"]);
    // This client declares nothing, so the answer is an error; what matters is that there is one.
    assert_eq!(daemon.client().text("a__run", json!({})), "done");
    let answers = until("an answer to the server", || {
        let posts = upstream.seen("POST");
        let answer = posts.iter().map(Seen::message).find(|message| message["id"] == "q");
        answer.filter(|message| message.get("error").is_some())
    });
    assert_eq!(answers["jsonrpc"], "2.0");
}

#[test]
fn stopping_is_quick_even_if_the_server_hangs() {
    let upstream = Upstream::start(|seen, out| match seen.what().as_str() {
        "DELETE" | "tools/call" => out.wait_closed(),
        "GET" => {
            out.events(&[]);
            out.wait_closed();
        }
        _ => answer_plainly(seen, out),
    });
    let mut daemon = behind(&upstream);
    let call = daemon.client().begin_call(json!(1), "a__run", json!({}), None);
    upstream.wait_seen("tools/call", 1);
    let begun = Instant::now();
    assert_eq!(daemon.cli(&["upstream", "restart", "a"]).code, 0);
    assert_eq!(call.answer().unwrap_err().kind(), "stopped");
    daemon.wait_ready(&["a"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(upstream.seen("initialize").len(), 2);
    assert!(daemon.stop().success());
}

#[test]
fn redirects_are_followed_within_the_origin_only() {
    let other = Upstream::start(answer_plainly);
    let target = other.url();
    let upstream = Upstream::start(move |seen, out| match seen.path.as_str() {
        "/mcp" => out.answer(307, &[("location", "/mcp/")], ""),
        "/away" => out.answer(307, &[("location", &target)], ""),
        _ => answer_plainly(seen, out),
    });
    let away = format!("http://{}/away", upstream.address);
    let headers = json!({ "Authorization": "Bearer x" });
    let daemon = with(json!({
        "a": { "url": upstream.url() },
        "away": { "url": away, "headers": headers },
    }));
    daemon.wait_ready(&["a"]);
    let status = daemon.wait_until("away to fail", |status| !server(status, "away")["last_error"].is_null());
    let error = &server(&status, "away")["last_error"];
    assert_eq!(error["kind"], "bad_upstream", "{error}");
    assert!(error["message"].as_str().unwrap().contains(&other.url()), "{error}");
    assert!(other.seen("initialize").is_empty());
    // The way is remembered.
    assert_eq!(daemon.client().text("a__run", json!({})), "{}");
    let asked: Vec<String> = upstream.seen("tools/call").into_iter().map(|seen| seen.path).collect();
    assert_eq!(asked, ["/mcp/"]);
}
