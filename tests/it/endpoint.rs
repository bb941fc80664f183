//! The endpoint as clients meet it: what HTTP and JSON-RPC demand of every request, sessions, lists, calls and the
//! event stream, through the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and call from plain threads"
)]

use crate::support::daemon::Daemon;
use crate::support::http::{self, Full};
use crate::support::mcp::{Mcp, Reply};
use crate::support::{demo_config, demo_entry, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;

const JSON: (&str, &str) = ("content-type", "application/json");
const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");
type Headers<'a> = &'a [(&'a str, &'a str)];
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

fn one() -> Daemon {
    let daemon = Daemon::start(&demo_config(&[("demo", "")]), &[]);
    daemon.wait_ready(&["demo"]);
    daemon
}

fn post(daemon: &Daemon, path: &str, headers: &[(&str, &str)], body: &str) -> Full {
    http::request(daemon.address(), "POST", path, headers, body)
}

/// A POST in a session, as a client should send it; returns the answer's text.
fn say(daemon: &Daemon, session: &str, body: &str) -> String {
    let full = post(daemon, "/mcp", &[JSON, BOTH, ("mcp-session-id", session)], body);
    assert_eq!(full.head.status, 200, "{full:?}");
    full.body
}

fn initialize(version: &str) -> String {
    let info = json!({"name": "it", "version": "0"});
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": info});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string()
}

/// Reads announcements until there are so many or the stream ends; how many came.
fn heard(stream: &mut Reply, most: usize) -> usize {
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    let notes = std::iter::from_fn(|| stream.next().unwrap()).take(most);
    notes.map(|note| assert_eq!(note, changed)).count()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// The code of a JSON-RPC error and its id; its message must say something.
fn error_of(full: &Full) -> (i64, Value) {
    let body = parsed(&full.body);
    assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() > 5), "{body}");
    (body["error"]["code"].as_i64().unwrap(), body["id"].clone())
}

#[test]
fn versions_are_negotiated_and_checked() {
    let daemon = one();
    let mut sessions = BTreeSet::new();
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("", "2025-11-25"),
    ] {
        let full = post(&daemon, "/mcp", &[JSON, BOTH], &initialize(asked));
        let body = parsed(&full.body);
        assert_eq!(body["result"]["protocolVersion"], agreed, "{asked}");
        assert_eq!(body["result"]["serverInfo"]["name"], "mcpvisor");
        assert_eq!(body["result"]["capabilities"]["tools"]["listChanged"], true);
        let session = full.head.header("mcp-session-id").unwrap().to_owned();
        assert!(session.len() == 32 && session.bytes().all(|byte| byte.is_ascii_hexdigit()), "{session}");
        assert!(sessions.insert(session), "an id came twice");
    }
    let own = Mcp::connect(&daemon.server_url("demo"));
    assert_eq!(own.server["serverInfo"]["name"], "mcpvisor-demo", "one server speaks for itself");
    let session = sessions.first().unwrap();
    let check = |version: &str, status: u16| {
        let headers = [JSON, BOTH, ("mcp-session-id", session), ("mcp-protocol-version", version)];
        let full = post(&daemon, "/mcp", &headers, PING);
        assert_eq!(full.head.status, status, "{version}: {full:?}");
    };
    check("2025-06-18", 200);
    check("2099-01-01", 400);
    check("nonsense", 400);
}

/// What is wrong with a POST's headers, and its status. The body is a good ping.
#[test]
fn headers_of_a_post() {
    let daemon = one();
    let client = daemon.client();
    let session = client.session().unwrap();
    let other = Mcp::connect(&daemon.server_url("demo"));
    let own = ("mcp-session-id", session);
    let rows: &[(&str, Headers, u16)] = &[
        ("all is well", &[JSON, BOTH, own], 200),
        ("no session", &[JSON, BOTH], 400),
        ("unknown session", &[JSON, BOTH, ("mcp-session-id", "0123456789abcdef0123456789abcdef")], 404),
        ("another mount's session", &[JSON, BOTH, ("mcp-session-id", other.session().unwrap())], 404),
        ("no content type", &[BOTH, own], 415),
        ("text", &[("content-type", "text/plain"), BOTH, own], 415),
        ("nearly JSON", &[("content-type", "application/jsonl"), BOTH, own], 415),
        ("JSON with a charset", &[("content-type", "Application/JSON; charset=utf-8"), BOTH, own], 200),
        ("no accept", &[JSON, own], 200),
        ("anything", &[JSON, ("accept", "*/*"), own], 200),
        ("JSON alone", &[JSON, ("accept", "application/json"), own], 200),
        ("weighed", &[JSON, ("accept", "text/html, application/json;q=0.5"), own], 200),
        ("two lines", &[JSON, ("accept", "text/html"), ("accept", "application/json"), own], 200),
        ("a page", &[JSON, ("accept", "text/html"), own], 406),
    ];
    for (what, headers, status) in rows {
        let full = post(&daemon, "/mcp", headers, PING);
        assert_eq!(full.head.status, *status, "{what}: {full:?}");
        assert_eq!(full.head.header("content-type"), Some("application/json"), "{what}");
        if *status == 200 {
            assert_eq!(full.body, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#, "{what}");
        } else {
            error_of(&full);
        }
    }
    let events = post(&daemon, "/mcp", &[JSON, ("accept", "text/event-stream"), own], PING);
    assert_eq!(events.head.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.body, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"result\":{}}\n\n");
}

#[test]
fn bodies_of_a_post() {
    let daemon = one();
    let client = daemon.client();
    let check = |body: &str, status: u16, code: i64, id: Value| {
        let headers = [JSON, BOTH, ("mcp-session-id", client.session().unwrap())];
        let full = post(&daemon, "/mcp", &headers, body);
        assert_eq!((full.head.status, error_of(&full)), (status, (code, id)), "{body}: {full:?}");
        full.body
    };
    for text in ["", "{", "Content-Length: 3", "{\"jsonrpc\":\"2.0\",}", "\u{1}"] {
        check(text, 400, -32700, Value::Null);
    }
    check("7", 400, -32600, Value::Null);
    check(r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#, 400, -32600, json!(3));
    check(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, -32600, Value::Null);
    check(r#"{"jsonrpc":"2.0","id":3,"method":"ping","params":1}"#, 400, -32600, json!(3));
    let batch = check(&format!(" [{PING},{PING}]"), 400, -32600, Value::Null);
    assert!(batch.contains("batches are not part of this protocol version"), "{batch}");
    check(r#"{"jsonrpc":"2.0","id":3,"method":"no/such"}"#, 200, -32601, json!(3));
    check(r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{}}"#, 200, -32602, json!(3));
    check(r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"cursor":"?"}}"#, 200, -32602, json!(3));
    for nothing in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/from/the/future","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":77,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"no"}}"#,
    ] {
        let headers = [JSON, BOTH, ("mcp-session-id", client.session().unwrap())];
        let full = post(&daemon, "/mcp", &headers, nothing);
        assert_eq!((full.head.status, full.body.as_str()), (202, ""), "{nothing}");
    }
}

#[test]
fn paths_and_methods() {
    let config = json!({"mcpServers": {"My Server": demo_entry("")}});
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["My Server"]);
    let slug = daemon.status()["servers"][0]["slug"].as_str().unwrap().to_owned();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http::request(daemon.address(), method, path, headers, "")
    };
    let unknown = ask("GET", "/mcp/s/my-sever", &[]);
    assert_eq!(unknown.head.status, 404);
    assert!(unknown.body.contains("no server is called `my-sever`"), "{unknown:?}");
    assert_eq!(ask("GET", "/", &[]).head.status, 404);
    assert_eq!(ask("GET", "/mcp/s/", &[]).head.status, 404);
    let put = ask("PUT", "/mcp", &[]);
    assert_eq!((put.head.status, put.head.header("allow")), (405, Some("GET, POST, DELETE")));
    assert_eq!(ask("GET", "/mcp", &[("accept", "text/event-stream")]).head.status, 400, "no session");
    // Both names of a server are one mount.
    let full = post(&daemon, "/mcp/s/My%20Server", &[JSON, BOTH], &initialize("2025-11-25"));
    let session = full.head.header("mcp-session-id").unwrap();
    let headers = [JSON, BOTH, ("mcp-session-id", session)];
    assert_eq!(post(&daemon, &format!("/mcp/s/{slug}/"), &headers, PING).head.status, 200);
    let get = ask("GET", "/mcp/s/My%20Server", &[("accept", "text/html"), ("mcp-session-id", session)]);
    assert_eq!(get.head.status, 406);
    // Ending it: once.
    let end = |headers: &[(&str, &str)]| ask("DELETE", &format!("/mcp/s/{slug}"), headers).head.status;
    assert_eq!(end(&[]), 400);
    assert_eq!(end(&[("mcp-session-id", session)]), 204);
    assert_eq!(end(&[("mcp-session-id", session)]), 404);
    assert_eq!(post(&daemon, &format!("/mcp/s/{slug}"), &headers, PING).head.status, 404);
}

#[test]
fn hosts_origins_and_tokens() {
    let mut config = demo_config(&[("demo", "")]);
    config["trusted_hosts"] = json!(["mcp.example"]);
    config["api_key"] = json!("sesame-4711");
    let daemon = Daemon::start(&config, &[]);
    let port = daemon.address().rsplit(':').next().unwrap().to_owned();
    let bearer = ("authorization", "Bearer sesame-4711");
    let rows: &[(&[(&str, &str)], u16)] = &[
        (&[bearer], 200),
        (&[("authorization", "bearer sesame-4711")], 200),
        (&[("x-api-key", "sesame-4711")], 200),
        (&[], 401),
        (&[("authorization", "Bearer sesame-471")], 401),
        (&[("authorization", "Basic sesame-4711")], 401),
        (&[("x-api-key", "")], 401),
        (&[bearer, ("host", "localhost")], 200),
        (&[bearer, ("host", "[::1]:8080")], 200),
        (&[bearer, ("host", "mcp.example:443")], 200),
        (&[bearer, ("host", "192.0.2.7:8080")], 200),
        (&[("host", "192.0.2.7:8080")], 401),
        (&[bearer, ("host", "evil.example")], 403),
        (&[bearer, ("host", "127.0.0.1.evil.example")], 403),
        (&[bearer, ("host", "localhost.evil.example:8080")], 403),
        (&[bearer, ("origin", &format!("http://127.0.0.1:{port}"))], 200),
        (&[bearer, ("origin", "https://mcp.example")], 200),
        (&[bearer, ("origin", "http://evil.example")], 403),
        (&[bearer, ("origin", "http://localhost.evil.example")], 403),
        (&[bearer, ("origin", "http://192.0.2.7:8080")], 403),
        (&[bearer, ("origin", "null")], 403),
    ];
    for (headers, status) in rows {
        let mut all = vec![JSON, BOTH];
        all.extend(*headers);
        let full = post(&daemon, "/mcp", &all, &initialize("2025-11-25"));
        assert_eq!(full.head.status, *status, "{headers:?}: {full:?}");
        assert_eq!(full.head.header("www-authenticate").is_some(), *status == 401, "{headers:?}");
        // The REST API is behind the same door.
        let status_of_api = http::request(daemon.address(), "GET", "/api/v1/status", headers, "").head.status;
        assert_eq!(status_of_api, *status, "{headers:?}");
    }
    // The control socket is guarded by its mode and needs no token.
    assert_eq!(daemon.status()["servers"][0]["name"], "demo");
}

#[test]
fn the_aggregate_is_in_the_order_of_the_config_and_in_pages() {
    let config = demo_config(&[("zebra", "--tools 600 --page-size 7"), ("ant", "--tools 700")]);
    // serde_json sorts a map's keys: the array form keeps the order that was written.
    let entry = |name: &str| {
        let mut entry = config["mcpServers"][name].clone();
        entry["name"] = json!(name);
        entry
    };
    let config = json!({"mcpServers": [entry("zebra"), entry("ant")]});
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["zebra", "ant"]);
    let mut client = daemon.client();
    let tools = client.tools();
    assert_eq!(tools.len(), 600 + 700 + 2 * 6);
    assert_eq!((tools[0].as_str(), tools[605].as_str()), ("zebra__echo", "zebra__extra_600"));
    assert_eq!((tools[606].as_str(), tools[1311].as_str()), ("ant__echo", "ant__extra_700"));
    let first = client.request("tools/list", json!({})).unwrap();
    assert_eq!(first["tools"].as_array().unwrap().len(), 1000);
    let cursor = &first["nextCursor"];
    let second = client.request("tools/list", json!({"cursor": cursor})).unwrap();
    assert_eq!((second["tools"].as_array().unwrap().len(), second.get("nextCursor")), (312, None));
    let null = client.request("tools/list", json!({"cursor": null})).unwrap();
    assert_eq!(null["nextCursor"], *cursor);
    for unknown in [json!("zzz"), json!(""), json!(5), json!("t-1")] {
        let error = client.request("tools/list", json!({"cursor": unknown})).unwrap_err();
        assert_eq!(error.code, -32602, "{unknown}: {error:?}");
    }
    // Alone, a server keeps its names; the rest of a tool is the same.
    let mut alone = Mcp::connect(&daemon.server_url("zebra"));
    let own = alone.request("tools/list", json!({})).unwrap()["tools"][1].clone();
    let mut renamed = own.clone();
    renamed["name"] = json!("zebra__add");
    assert_eq!((&own["name"], &first["tools"][1]), (&json!("add"), &renamed));
    assert_eq!(client.text("zebra__extra_600", json!({})), "extra_600");
    assert_eq!(alone.text("extra_1", json!({})), "extra_1");
}

#[test]
fn a_list_waits_for_first_starts_and_tells_of_later_ones() {
    let mut config =
        demo_config(&[("fast", ""), ("slow", "--start-delay 500"), ("late", "--start-delay 6000")]);
    config["list_wait"] = json!("1500ms");
    let daemon = Daemon::start(&config, &[]);
    let mut client = daemon.client();
    let mut stream = client.events();
    let mut idle = client.events();
    let listed: BTreeSet<String> = client.tools().into_iter().collect();
    assert!(listed.contains("fast__echo") && listed.contains("slow__echo"), "{listed:?}");
    assert!(!listed.contains("late__echo"), "list_wait is shorter than that server takes: {listed:?}");
    // A call waits for its own server, listed or not.
    assert_eq!(client.text("late__echo", json!({"text": "here"})), "here");
    // One of the two streams hears of it, once per change: three servers have listed.
    assert_eq!(heard(&mut idle, 1), 1);
    until("late to be listed", || client.tools().contains(&"late__echo".to_owned()).then_some(()));
    assert_eq!(client.delete(), 204);
    let more = heard(&mut idle, usize::MAX) + heard(&mut stream, usize::MAX);
    assert!(more <= 2, "{more} announcements more for two other servers");
}

#[test]
fn a_change_is_told_to_those_whom_it_concerns() {
    let daemon = Daemon::start(&demo_config(&[("a", "--change-tools"), ("b", "")]), &[]);
    daemon.wait_ready(&["a", "b"]);
    let mut all = daemon.client();
    let mut own = Mcp::connect(&daemon.server_url("a"));
    let other = Mcp::connect(&daemon.server_url("b"));
    assert_eq!(all.tools().len(), 13);
    let (mut all_hears, mut own_hears, mut other_hears) = (all.events(), own.events(), other.events());
    own.text("change_tools", json!({}));
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    assert_eq!(all_hears.next().unwrap(), Some(changed.clone()));
    assert_eq!(own_hears.next().unwrap(), Some(changed.clone()));
    assert!(all.tools().contains(&"a__added_1".to_owned()));
    assert!(own.tools().contains(&"added_1".to_owned()));
    // Disabling takes tools away, and says so.
    assert_eq!(daemon.cli(&["upstream", "disable", "a", "--wait=30s"]).code, 0);
    assert_eq!(all_hears.next().unwrap(), Some(changed));
    assert_eq!(other.delete(), 204);
    // Its own first list may just be announced when the stream opens; a's two changes are none of its business.
    let count = heard(&mut other_hears, usize::MAX);
    assert!(count <= 1, "b's list never changed, and was announced {count} times");
}

#[test]
fn servers_that_are_down_are_not_listed_and_say_why() {
    let mut config = demo_config(&[("up", ""), ("off", ""), ("failing", "--exit-on-init")]);
    config["mcpServers"]["remote"] = json!({"url": "https://mcp.example/mcp", "quarantined": true});
    config["mcpServers"]["missing"] = json!({"command": "no-such-program-4711"});
    config["connection_management"] = json!({"retry_backoff_max_seconds": 300});
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["up", "off"]);
    daemon.wait_until("failing and missing to settle", |status| {
        let settled = |name| {
            let server = crate::support::daemon::server(status, name);
            ["backoff", "parked"].contains(&server["state"].as_str().unwrap())
        };
        settled("failing") && settled("missing")
    });
    let mut off = Mcp::connect(&daemon.server_url("off"));
    assert_eq!(off.tools().len(), 6);
    assert_eq!(daemon.cli(&["upstream", "disable", "off", "--wait=30s"]).code, 0);
    let mut client = daemon.client();
    let tools = client.tools();
    assert!(tools.iter().all(|tool| tool.starts_with("up__")), "{tools:?}");
    let mut check = |tool: &str, parts: &[&str]| {
        let error = client.call(tool, json!({})).unwrap_err();
        assert_eq!((error.code, error.kind()), (-32603, "not_ready"), "{error:?}");
        for part in parts {
            assert!(error.message.contains(part), "{part:?} is not in {error:?}");
        }
        assert_ne!(error.data["hint"], "", "{error:?}");
    };
    check("off__echo", &["`off` is disabled", "mcpvisor upstream enable off"]);
    check("failing__echo", &["`failing` is in backoff: failing exited with code 1", "; next try at "]);
    check("remote__echo", &["`remote` is parked", "not yet supported"]);
    check("missing__echo", &["`missing` is parked", "no-such-program-4711"]);
    for method in ["tools/list", "tools/call"] {
        let error = off.request(method, json!({"name": "echo", "arguments": {"text": "x"}})).unwrap_err();
        assert_eq!(error.kind(), "not_ready", "{method}: {error:?}");
    }
    let error = client.call("up__eco", json!({})).unwrap_err();
    assert_eq!((error.code, error.kind()), (-32602, "unknown"));
    assert!(error.message.contains("did you mean `up__echo`?"), "{error:?}");
}

#[test]
fn progress_comes_before_the_answer_with_the_clients_own_token() {
    let daemon = one();
    let client = daemon.client();
    let other = daemon.client();
    let arguments = json!({"ms": 100, "progress": 3});
    // The same id and token in two sessions at once, and tokens of both kinds.
    let tokens = [json!(1), json!("a \"token\" ü"), json!(9007199254740993u64)];
    let begun: Vec<_> = tokens
        .iter()
        .flat_map(|token| [(&client, token), (&other, token)])
        .map(|(client, token)| {
            (token, client.begin_call(json!(1), "demo__sleep", arguments.clone(), Some(token.clone())))
        })
        .collect();
    for (token, begun) in begun {
        let mut pending = begun.open();
        for step in 1..=3 {
            let note = pending.next().unwrap();
            assert_eq!(note["method"], "notifications/progress", "{note}");
            assert_eq!(
                (&note["params"]["progressToken"], &note["params"]["progress"]),
                (token, &json!(step))
            );
        }
        let answer = pending.next().unwrap();
        assert_eq!((&answer["id"], answer.get("error")), (&json!(1), None), "{answer}");
        assert_eq!(pending.next(), None);
    }
    // Nobody asked for progress, or nobody could hear it: plain JSON.
    let session = ("mcp-session-id", client.session().unwrap());
    let call = |token: Value| {
        let params = json!({"name": "demo__sleep", "arguments": arguments, "_meta": token});
        json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}).to_string()
    };
    for (accept, meta) in [(BOTH, json!({})), (("accept", "application/json"), json!({"progressToken": 1}))] {
        let full = post(&daemon, "/mcp", &[JSON, accept, session], &call(meta));
        assert_eq!(full.head.header("content-type"), Some("application/json"), "{full:?}");
        assert_eq!(parsed(&full.body)["id"], 5);
    }
}

#[test]
fn cancelled_and_late_calls_reach_the_server() {
    let mut config = demo_config(&[("demo", "--stats")]);
    config["mcpServers"]["demo"]["call_timeout"] = json!("2s");
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["demo"]);
    let mut client = daemon.client();
    let mut seen = |what: &str, expected: Value| {
        let mut last = String::new();
        until(what, || {
            last = client.text("demo__stats", json!({}));
            let stats: Value = serde_json::from_str(&last).unwrap();
            (stats["cancelled"] == expected).then_some(())
        });
    };
    let mut canceller = daemon.client();
    let begun = canceller.begin_call(json!("c"), "demo__sleep", json!({"ms": 60_000}), None);
    daemon.wait_until("the call to wait", |status| status["servers"][0]["calls"] == 1);
    canceller.cancel(&json!("c"));
    let error = begun.answer().unwrap_err();
    assert_eq!(error.kind(), "cancelled", "{error:?}");
    seen("the server to hear of the cancellation", json!(1));
    let error = canceller.call("demo__sleep", json!({"ms": 60_000})).unwrap_err();
    assert_eq!(error.kind(), "call_timeout", "{error:?}");
    assert!(error.message.contains("within 2s") && error.message.contains("call_timeout"), "{error:?}");
    seen("the server to hear of the time-out", json!(2));
    // Progress keeps a call alive beyond its time-out.
    let long = json!({"ms": 4_000, "progress": 8});
    let answer = canceller.begin_call(json!(9), "demo__sleep", long, Some(json!(1))).answer();
    assert!(answer.is_ok(), "{answer:?}");
    // Ending the session ends its calls.
    let begun = canceller.begin_call(json!(10), "demo__sleep", json!({"ms": 60_000}), None);
    daemon.wait_until("the call to wait", |status| status["servers"][0]["calls"] == 1);
    assert_eq!(canceller.delete(), 204);
    assert_eq!(begun.answer().unwrap_err().kind(), "cancelled");
    seen("the server to hear of the session's end", json!(3));
}

#[test]
fn a_server_that_hangs_in_its_start_delays_nobody_twice() {
    let mut config = demo_config(&[("good", ""), ("stuck", "--hang-init")]);
    config["list_wait"] = json!("20s");
    config["mcpServers"]["stuck"]["connection_timeout"] = json!("4s");
    let daemon = Daemon::start(&config, &[]);
    let mut client = daemon.client();
    assert_eq!(client.tools().len(), 6, "the list waits for the first start to fail");
    let again = |status: &Value| {
        let row = crate::support::daemon::server(status, "stuck");
        (row["state"] == "connecting" && row["failures"] == 1).then(|| row["life"].clone())
    };
    let status = daemon.wait_until("stuck to be started again", |status| again(status).is_some());
    assert_eq!(client.tools().len(), 6);
    // A caller's own patience ends before the server's.
    let call = r#"{"name":"stuck__echo","arguments":{}}"#;
    let full = post(&daemon, "/api/v1/tools/call?timeout=100ms", &[JSON], call);
    assert_eq!(full.head.status, 503, "{full:?}");
    assert!(full.body.contains("server `stuck` is still starting"), "{full:?}");
    assert_eq!(again(&daemon.status()), again(&status), "none of this waited for the second start");
    // Who waits hears why it was in vain.
    let error = client.call("stuck__echo", json!({})).unwrap_err();
    assert_eq!(error.kind(), "not_ready", "{error:?}");
    assert!(error.message.contains("is in backoff: stuck was not ready within 4s"), "{error:?}");
}

#[test]
fn a_call_is_cancelled_while_its_server_starts() {
    let mut config = demo_config(&[("slow", "--stats --start-delay 4000")]);
    config["list_wait"] = json!("100ms");
    let daemon = Daemon::start(&config, &[]);
    let mut client = daemon.client();
    let doomed = client.begin_call(json!("c"), "slow__echo", json!({"text": "x"}), None);
    let orphan = daemon.client();
    let left = orphan.begin_call(json!("c"), "slow__echo", json!({"text": "x"}), None);
    let doomed = std::thread::spawn(|| doomed.answer());
    let left = std::thread::spawn(|| left.answer());
    let calls = || crate::support::daemon::server(&daemon.status(), "slow")["calls"].as_u64();
    until("both calls to wait", || (calls() == Some(2)).then_some(()));
    client.cancel(&json!("c"));
    until("the cancelled call to be answered", || doomed.is_finished().then_some(()));
    assert_eq!(doomed.join().unwrap().unwrap_err().kind(), "cancelled");
    assert_eq!(crate::support::daemon::server(&daemon.status(), "slow")["state"], "connecting");
    assert!(!left.is_finished(), "the same id in another session is another call");
    assert_eq!(orphan.delete(), 204);
    assert_eq!(left.join().unwrap().unwrap_err().kind(), "cancelled");
    let stats: Value = serde_json::from_str(&client.text("slow__stats", json!({}))).unwrap();
    assert_eq!(stats["calls"], 1, "only this one came through: {stats}");
}

/// A server that says what it was sent: the raw line, as its result.
const MIRROR: &str = r#"
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    head = '{"jsonrpc":"2.0","id":%s,' % json.dumps(message["id"])
    if message["method"] == "initialize":
        body = '"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"m","version":"1"},"instructions":"look"}}'
    elif message["method"] == "tools/list":
        body = '"result":{"tools":[{"name":"raw","x-later":[1.0,1e400],"inputSchema":{"type":"object"}}]}}'
    elif message["method"] == "tools/call":
        raw = line.strip().split('"params":', 1)[1][:-1]
        body = '"result":{"content":[],  "big":123456789012345678901234567890, "e":1.10e+2, "u":"\\u00e9\\/", "sent":%s}}' % json.dumps(raw)
    else:
        body = '"result":{}}'
    print(head + body, flush=True)
"#;

#[test]
fn bytes_are_left_as_they_are() {
    let config = json!({"mcpServers": {"m": {"command": "python3", "args": ["-c", MIRROR]}}});
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["m"]);
    let client = daemon.client();
    let session = client.session().unwrap();
    let list = say(&daemon, session, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let tool = r#"{"name":"m__raw","x-later":[1.0,1e400],"inputSchema":{"type":"object"}}"#;
    assert_eq!(list, format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"tools\":[{tool}]}}}}"));
    let params = |name: &str| {
        format!(
            r#"{{"later":{{"a":[ 1 ]}}, "name" : "{name}","arguments":{{"n":98765432109876543210,"f":1.50,"e":1E5,"s":"\u0041\/"}}}}"#
        )
    };
    let call =
        format!(r#"{{"method":"tools/call","params":{},"id":"ü-1","jsonrpc":"2.0"}}"#, params("m__raw"));
    let result = format!(
        r#"{{"content":[],  "big":123456789012345678901234567890, "e":1.10e+2, "u":"\u00e9\/", "sent":{}}}"#,
        json!(params("raw"))
    );
    assert_eq!(say(&daemon, session, &call), format!(r#"{{"jsonrpc":"2.0","id":"ü-1","result":{result}}}"#));
    let alone = Mcp::connect(&daemon.server_url("m"));
    assert_eq!(
        (&alone.server["instructions"], &alone.server["serverInfo"]["name"]),
        (&json!("look"), &json!("m"))
    );
}

#[test]
fn a_session_has_at_most_four_streams() {
    let daemon = Daemon::start(&demo_config(&[("demo", "--change-tools")]), &[]);
    daemon.wait_ready(&["demo"]);
    let mut client = daemon.client();
    client.tools();
    let mut streams: Vec<_> = (0..5).map(|_| client.events()).collect();
    // It ends before the session does, because the oldest makes room; the first list may just be announced.
    let mut total = heard(&mut streams[0], usize::MAX);
    client.text("demo__change_tools", json!({}));
    total += heard(&mut streams[4], 1);
    // A plain `*/*` is good enough for a stream.
    let headers = [("accept", "*/*"), ("mcp-session-id", client.session().unwrap())];
    let mut socket = http::connect(daemon.address());
    std::io::Write::write_all(&mut socket, &http::encode(daemon.address(), "GET", "/mcp", &headers, ""))
        .unwrap();
    let mut body = http::Body::read(std::io::BufReader::new(socket)).unwrap();
    assert_eq!((body.head.status, body.head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(client.delete(), 204);
    total += streams[1..].iter_mut().map(|stream| heard(stream, usize::MAX)).sum::<usize>();
    let mut text = String::new();
    body.read_to_string(&mut text).unwrap();
    total += text.matches("list_changed").count();
    assert!(total <= 2, "two changes at most, each told on one stream of the session, not {total} times");
}
