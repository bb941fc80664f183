//! HTTP with SSE, the transport of 2024-11-05: by its own name, and found by those who are not told.

use super::*;

/// Streams by session number, and how the server may be told to misbehave.
#[derive(Default)]
struct Sse {
    streams: Mutex<Vec<Out>>,
}

impl Sse {
    fn handle(self: &Arc<Sse>, endpoint: &str, seen: &Seen, out: &mut Out) {
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/mcp") => {
                out.events(&[]);
                let mut streams = self.streams.lock().unwrap();
                let url = format!("{endpoint}?sessionId={}", streams.len());
                out.raw(&format!("event: endpoint\r\ndata: {url}\r\n\r\n"));
                streams.push(out.later());
            }
            ("POST", "/mcp") => out.answer(405, &[], "Cannot POST"),
            ("POST", path) => {
                let number: usize = path.split_once('=').unwrap().1.parse().unwrap();
                out.answer(202, &[("content-type", "text/plain")], "Accepted");
                if let Some(answer) = plain(&seen.message()).filter(|_| !seen.body.contains("hang")) {
                    self.streams.lock().unwrap()[number].raw(&format!("event: message\ndata: {answer}\n\n"));
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn start(endpoint: &'static str) -> (Arc<Sse>, Upstream) {
    let sse: Arc<Sse> = Arc::default();
    let handler = sse.clone();
    (sse, Upstream::start(move |seen, out| handler.handle(endpoint, seen, out)))
}

#[test]
fn by_name_and_found() {
    let (_sse, upstream) = start("/messages");
    let daemon = with(json!({
        "named": { "url": upstream.url(), "protocol": "sse" },
        "found": { "url": upstream.url() },
    }));
    daemon.wait_ready(&["named", "found"]);
    let mut client = daemon.client();
    for name in ["named", "found"] {
        assert_eq!(
            client.text(&format!("{name}__run"), json!({ "n": name })),
            format!(r#"{{"n":"{name}"}}"#)
        );
    }
    // Only the one that was not told has tried the other transport, once.
    let tried = upstream.seen("initialize").iter().filter(|seen| seen.path == "/mcp").count();
    assert_eq!((tried, upstream.seen("initialize").len()), (1, 3));
}

#[test]
fn by_the_wrong_name() {
    let (_sse, upstream) = start("/messages");
    let plain = Upstream::start(answer_plainly);
    let daemon = with(json!({
        "http": { "url": upstream.url(), "protocol": "http" },
        "sse": { "url": plain.url(), "protocol": "sse" },
    }));
    for (name, said) in [("http", "answered 405: Cannot POST"), ("sse", "answered 405, and no event stream")]
    {
        let status = daemon.wait_until(name, |status| !server(status, name)["last_error"].is_null());
        let error = &server(&status, name)["last_error"];
        assert_eq!(error["kind"], "bad_upstream", "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
}

/// Our headers go to nobody else.
#[test]
fn the_endpoint_is_of_the_same_origin() {
    let (_sse, upstream) = start("http://127.0.0.1:9/messages");
    let daemon = with(json!({ "a": { "url": upstream.url(), "protocol": "sse" } }));
    let status = daemon.wait_until("the fault", |status| !server(status, "a")["last_error"].is_null());
    let error = &server(&status, "a")["last_error"];
    assert_eq!(error["kind"], "bad_upstream", "{error}");
    assert!(error["message"].as_str().unwrap().contains("another origin"), "{error}");
}

/// The stream is the session: with it go the calls that were taken, and a new one is made.
#[test]
fn a_stream_that_ends() {
    let (sse, upstream) = start("/messages");
    let daemon = with(json!({ "a": { "url": upstream.url(), "protocol": "sse" } }));
    daemon.wait_ready(&["a"]);
    let before = life(&daemon);
    let mut client = daemon.client();
    let call = client.begin_call(json!(3), "a__run", json!({ "hang": true }), None);
    upstream.wait_seen("tools/call", 1);
    until("the call to be taken", || (upstream.seen("tools/call").len() == 1).then_some(()));
    assert_eq!(sse.streams.lock().unwrap().len(), 1);
    upstream.cut_all();
    assert_eq!(call.answer().unwrap_err().kind(), "outcome_unknown");
    assert_eq!(client.text("a__run", json!({ "n": 1 })), r#"{"n":1}"#);
    assert_eq!((life(&daemon), sse.streams.lock().unwrap().len()), (before, 2));
}
