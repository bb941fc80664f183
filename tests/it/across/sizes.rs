//! How large what goes through may be, in every pair of client and server; and what of a remote server has no end.

use super::far::{Client, ERAS, Far, Way, member};
use super::last;
use crate::interop::peers::complete;
use crate::interop::{CLIENTS, ask};
use crate::support::daemon::Daemon;
use crate::support::upstream::{Seen, Upstream, answer_plainly};
use crate::support::wire::start;
use crate::support::{BINARY, processes};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const MIB: usize = 1 << 20;

#[test]
fn results_of_any_size_come_through() {
    for way in Way::ALL {
        let far = Far::behind(way);
        for era in ERAS {
            let client = Client::of(&far, era);
            for bytes in [MIB - 1, MIB + 1, 10 * MIB + 1, 30 * MIB] {
                let answer = last(&mut client.call("\"big\"", &json!({ "bytes": bytes }).to_string()));
                let xs = answer.bytes().filter(|byte| *byte == b'x').count();
                assert!(xs >= bytes && xs < bytes + 10, "{way:?}, {era}: {bytes}: {}", start(&answer));
            }
        }
        assert_eq!(far.daemon.status()["servers"][0]["failures"], 0, "{way:?}");
    }
}

/// What is too large for one of us is refused by name, and the server is as it was.
#[test]
fn requests_that_are_too_large_are_refused() {
    for way in Way::ALL {
        let far = Far::behind(way);
        for era in ERAS {
            let client = Client::of(&far, era);
            for (bytes, goes) in
                [(MIB + 1, true), (4 * MIB, true), (99 * MIB / 10, true), (101 * MIB / 10, false)]
            {
                let mark = format!("{era}-{bytes}");
                let script = json!({ "bytes": 5, "mark": mark, "fill": "f".repeat(bytes) });
                let answer = last(&mut client.call("1", &script.to_string()));
                match goes {
                    true => assert!(answer.contains("xxxxx"), "{way:?}, {era}: {bytes}: {}", start(&answer)),
                    false => {
                        let data = member(&member(&answer, "error"), "data");
                        assert_eq!(
                            member(&data, "kind"),
                            "\"too_large\"",
                            "{way:?}, {era}: {}",
                            start(&answer)
                        );
                    }
                }
                let reached = far.received().iter().any(|line| line.contains(&mark));
                assert_eq!(reached, goes, "{way:?}, {era}: {bytes}");
            }
        }
    }
}

/// The SDKs' own clients, of every kind, take what comes over HTTP: they have limits of their own.
#[test]
fn sdk_clients_take_large_results() {
    if !complete(CLIENTS.iter().map(|client| client.program)) {
        return;
    }
    let far = Far::behind(Way::Stdio);
    let sizes = [MIB - 1, MIB + 1, 12 * MIB];
    let calls: Vec<_> =
        sizes.iter().map(|bytes| json!({ "name": "run", "arguments": { "bytes": bytes } })).collect();
    let bridge =
        json!([BINARY, "stdio", "--state-dir", far.daemon.tmp.join("state"), "--server", "e"]).to_string();
    for client in &CLIENTS {
        let said = ask(client, &far.daemon.server_url("e"), &json!(calls));
        for (bytes, result) in sizes.iter().zip(said["results"].as_array().unwrap()) {
            let text = result["content"][0]["text"].as_str();
            assert_eq!(text.map(str::len), Some(*bytes), "{}: {}", client.sdk, start(&result.to_string()));
        }
        // Over stdio the SDK for TypeScript reads no line of more than 10 MiB.
        let said = ask(client, &bridge, &json!(calls[..2]));
        for (bytes, result) in sizes.iter().zip(said["results"].as_array().unwrap()) {
            let text = result["content"][0]["text"].as_str();
            assert_eq!(
                text.map(str::len),
                Some(*bytes),
                "{}, stdio: {}",
                client.sdk,
                start(&result.to_string())
            );
        }
    }
}

/// Answers of a remote server without an end, in every part that can have none: the call is told, our memory is not
/// filled, and the next call goes through.
#[test]
fn answers_without_end_are_cut() {
    let over: Arc<AtomicBool> = Arc::default();
    let stop = over.clone();
    let upstream = Upstream::start(move |seen: &Seen, out| {
        let message = seen.message();
        let Some(kind) = message["params"]["arguments"]["endless"].as_str() else {
            return answer_plainly(seen, out);
        };
        out.cut();
        let (begin, more) = match kind {
            "header" => ("HTTP/1.1 200 x\r\nx-long: ", "h".repeat(64 << 10)),
            "headers" => ("HTTP/1.1 200 x\r\n", "x-more: h\r\n".repeat(5 << 10)),
            "json" => {
                ("HTTP/1.1 200 x\r\ncontent-type: application/json\r\n\r\n{\"x\":\"", "j".repeat(64 << 10))
            }
            "event" => {
                ("HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\ndata: ", "e".repeat(64 << 10))
            }
            "lines" => {
                ("HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\n", "data: e\n".repeat(8 << 10))
            }
            other => panic!("{other}"),
        };
        out.raw(begin);
        // Until nobody reads any more, which has to be before a gigabyte.
        for _ in 0..(1 << 30) / more.len() {
            if stop.load(Ordering::Acquire) || out.is_closed() {
                return;
            }
            out.raw(&more);
        }
        panic!("{kind}: a gigabyte was read");
    });
    let daemon = Daemon::start(&json!({ "mcpServers": { "a": { "url": upstream.url() } } }), &[]);
    daemon.wait_ready(&["a"]);
    let mut client = daemon.client();
    for kind in ["header", "headers", "json", "event", "lines"] {
        let error = client.call("a__run", json!({ "endless": kind })).unwrap_err();
        assert!(
            ["too_large", "bad_upstream", "outcome_unknown"].contains(&error.kind()),
            "{kind}: {error:?}"
        );
        assert_eq!(client.text("a__run", json!({ "n": 1 })), r#"{"n":1}"#, "{kind}");
    }
    over.store(true, Ordering::Release);
    let peak = processes::peak_rss_bytes(daemon.daemon_pid());
    assert!(peak < 300 * MIB as u64, "{peak} bytes at the most, for answers of which 64 MiB are read");
}
