//! Servers that ask to be left alone for a while (429, 503, `Retry-After`): starts, calls, probes, streams.

use super::*;
use std::time::SystemTime;

const EPOCH: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");

/// How long until the next try, as the status says.
fn retry_in(daemon: &Daemon, name: &str) -> Duration {
    let status = daemon.wait_until("the next try", |status| !server(status, name)["next_retry_at"].is_null());
    let at = humantime::parse_rfc3339(server(&status, name)["next_retry_at"].as_str().unwrap()).unwrap();
    at.duration_since(SystemTime::now()).unwrap()
}

/// However the server says it, and whatever was asked: the next try is not before.
#[test]
fn a_start_is_not_tried_before_its_time() {
    let upstream = Upstream::start(|seen, out| match (seen.path.as_str(), seen.what().as_str()) {
        ("/seconds", _) => out.answer(503, &[("retry-after", "3600")], ""),
        ("/date", _) => out.answer(429, &[("retry-after", "Sun, 06 Nov 1994 09:49:37 GMT"), EPOCH], ""),
        ("/discover", _) => out.answer(503, &[("retry-after", "3600")], ""),
        ("/lists", "tools/list") => out.answer(429, &[("retry-after", "3600")], ""),
        ("/stream", _) => out.answer(503, &[("retry-after", "3600")], ""),
        _ => answer_plainly(seen, out),
    });
    let url = |name: &str| format!("http://{}/{name}", upstream.address);
    let daemon = with(json!({
        "seconds": { "url": url("seconds") },
        "date": { "url": url("date") },
        "discover": { "url": url("discover"), "era": "modern" },
        "lists": { "url": url("lists") },
        "stream": { "url": url("stream"), "protocol": "sse" },
    }));
    for name in ["seconds", "date", "discover", "lists", "stream"] {
        let pause = retry_in(&daemon, name);
        let right = Duration::from_secs(3_500)..=Duration::from_secs(3_600);
        assert!(right.contains(&pause), "{name}: {pause:?}");
        let shown = server(&daemon.status(), name).clone();
        assert_eq!((&shown["state"], &shown["failures"]), (&json!("backoff"), &json!(1)), "{shown:#}");
    }
    let asked = |path: &str| upstream.seen("initialize").iter().filter(|seen| seen.path == path).count();
    assert_eq!((asked("/seconds"), asked("/date")), (1, 1));
    // Who asks for a try gets one.
    assert_eq!(daemon.cli(&["upstream", "restart", "seconds"]).code, 0);
    until("another try", || (asked("/seconds") == 2).then_some(()));
}

/// A call is its caller's business: it hears when to try again. What only reads is asked once more, if that is soon.
#[test]
fn calls_say_when_to_try_again() {
    let upstream = Upstream::start(|seen, out| {
        let message = seen.message();
        let arguments = &message["params"]["arguments"];
        match seen.what().as_str() {
            "tools/call" => {
                let after = arguments["after"].as_str().unwrap();
                out.answer(arguments["status"].as_u64().unwrap() as u16, &[("retry-after", after)], "");
            }
            "resources/read" if message["params"]["uri"] == "x://later" => {
                out.answer(503, &[("retry-after", "60")], "");
            }
            "resources/read" if message["params"]["uri"] == "x://never" => {
                out.answer(429, &[("retry-after", "0")], "");
            }
            _ => answer_plainly(seen, out),
        }
    });
    let daemon = behind(&upstream);
    let before = life(&daemon);
    let mut client = crate::support::mcp::Mcp::connect(&daemon.server_url("a"));
    for (status, kind, after, ms) in [(429, "busy", "1", 1_000), (503, "bad_upstream", "60", 60_000)] {
        let error = client.call("run", json!({ "status": status, "after": after })).unwrap_err();
        assert_eq!((error.kind(), &error.data["retry_after_ms"]), (kind, &json!(ms)), "{error:?}");
        assert!(error.message.contains("it asks to wait"), "{error:?}");
    }
    assert_eq!(upstream.seen("tools/call").len(), 2, "what may do something is not repeated");
    let read = |uri: &str| json!({ "uri": uri });
    let error = client.request("resources/read", read("x://later")).unwrap_err();
    assert_eq!(error.data["retry_after_ms"], 60_000, "{error:?}");
    assert_eq!(upstream.seen("resources/read").len(), 1);
    let error = client.request("resources/read", read("x://never")).unwrap_err();
    assert_eq!(error.kind(), "busy", "{error:?}");
    assert_eq!(upstream.seen("resources/read").len(), 3, "once more, and no more than that");
    let shown = server(&daemon.status(), "a").clone();
    assert_eq!((&shown["state"], &shown["failures"], &shown["life"]), (&json!("ready"), &json!(0), &before));
}

#[test]
fn a_short_wait_is_waited_for() {
    let reads: Arc<AtomicUsize> = Arc::default();
    let count = reads.clone();
    let upstream = Upstream::start(move |seen, out| match seen.what().as_str() {
        "resources/read" if count.fetch_add(1, Ordering::AcqRel) == 0 => {
            out.answer(503, &[("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT"), EPOCH], "");
        }
        _ => answer_plainly(seen, out),
    });
    let daemon = behind(&upstream);
    let begun = Instant::now();
    let mut client = crate::support::mcp::Mcp::connect(&daemon.server_url("a"));
    client.request("resources/read", json!({ "uri": "x://1" })).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(reads.load(Ordering::Acquire), 2);
}

/// A server that has no time for pings is not deaf.
#[test]
fn too_many_requests_is_a_sign_of_life() {
    let upstream = Upstream::start(|seen, out| match seen.what().as_str() {
        "ping" => out.answer(429, &[("retry-after", "30")], ""),
        _ => answer_plainly(seen, out),
    });
    let daemon = with(json!({ "a": { "url": upstream.url(), "health_check_interval": 1 } }));
    daemon.wait_ready(&["a"]);
    let before = life(&daemon);
    upstream.wait_seen("ping", 5);
    let shown = server(&daemon.status(), "a").clone();
    assert_eq!((&shown["life"], &shown["failures"]), (&before, &json!(0)), "{shown:#}");
}

/// An answer that was cut is taken up when the server has time for that.
#[test]
fn a_stream_is_taken_up_when_the_server_has_time() {
    let waiting: Arc<Mutex<Value>> = Arc::default();
    let tries: Arc<AtomicUsize> = Arc::default();
    let (asked, count) = (waiting.clone(), tries.clone());
    let upstream =
        Upstream::start(move |seen, out| match (seen.what().as_str(), seen.header("last-event-id")) {
            ("tools/call", _) => {
                *asked.lock().unwrap() = seen.message();
                out.events(&[]);
                out.raw("id: p-1\nretry: 10\ndata: \n\n");
            }
            ("GET", Some("p-1")) => match count.fetch_add(1, Ordering::AcqRel) {
                0 => out.answer(429, &[("retry-after", "1")], ""),
                _ => {
                    out.events(&[]);
                    out.event(&response(&asked.lock().unwrap(), &text("at last")));
                }
            },
            _ => answer_plainly(seen, out),
        });
    let daemon = behind(&upstream);
    let begun = Instant::now();
    assert_eq!(daemon.client().text("a__run", json!({})), "at last");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
