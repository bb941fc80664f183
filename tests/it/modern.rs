//! The era of 2026-07-28 as its clients meet it, over HTTP and over stdio, in front of servers of the legacy era: what
//! every request must carry, what it is answered, what is cancelled by leaving, and the streams of those who listen.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and start plain processes"
)]

use crate::support::daemon::{Daemon, command};
use crate::support::http::{self, Body, Full};
use crate::support::peer::{behind, received_with, wait_received};
use crate::support::processes::{MARK, rss_bytes};
use crate::support::stdio::stdout_lines;
use crate::support::wire::{Flow, Wire, note};
use crate::support::{PATIENCE, until};
use crossbeam_channel::Receiver;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "2026-07-28";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLAIM: &str = "io.modelcontextprotocol/protocolVersion";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

const TOOLS: &str = concat!(
    r#"[{"name":"run","inputSchema":{"type":"object"}},"#,
    r#"{"name":"placed","inputSchema":{"type":"object","properties":{"#,
    r#""region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"}}}}]"#
);
const RESOURCES: &str = r#"[{"uri":"x://1","name":"one"},{"uri":"x://2","name":"two"}]"#;

fn one() -> Daemon {
    behind(&[("e", &[("tools", TOOLS), ("resources", RESOURCES)])])
}

/// Params with everything that the era demands.
fn stamped(params: &Value) -> Value {
    let mut params = params.clone();
    params["_meta"][CLAIM] = json!(VERSION);
    params["_meta"][CAPABILITIES] = json!({});
    params
}

fn body(id: &Value, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// The headers of a request that is right.
fn headers(method: &str, params: &Value) -> Vec<(String, String)> {
    let mut all = vec![
        ("content-type", "application/json".to_owned()),
        ("accept", "application/json, text/event-stream".to_owned()),
        ("mcp-protocol-version", VERSION.to_owned()),
        ("mcp-method", method.to_owned()),
    ];
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        "tasks/get" => params["taskId"].as_str(),
        _ => None,
    };
    all.extend(name.map(|name| ("mcp-name", name.to_owned())));
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A right request, answered in full.
fn ask(daemon: &Daemon, path: &str, method: &str, params: &Value) -> (u16, Value) {
    let params = stamped(params);
    let all = headers(method, &params);
    let full =
        http::request(daemon.address(), "POST", path, &borrowed(&all), &body(&json!("é"), method, &params));
    let answer = answer_of(&full);
    assert_eq!(answer["id"], "é", "{answer}");
    assert_eq!(full.head.header("mcp-session-id"), None);
    (full.head.status, answer)
}

fn ok(daemon: &Daemon, path: &str, method: &str, params: &Value) -> Value {
    let (status, mut answer) = ask(daemon, path, method, params);
    assert_eq!(status, 200, "{method}: {answer}");
    assert_eq!(answer["result"]["resultType"], "complete", "{method}: {answer}");
    answer["result"].take()
}

/// The answer in a body of either kind.
fn answer_of(full: &Full) -> Value {
    let text = match full.head.header("content-type") {
        Some(kind) if kind.starts_with("text/event-stream") => {
            let mut data = full.body.lines().filter_map(|line| line.strip_prefix("data: "));
            data.next_back().unwrap_or_else(|| panic!("{full:?}")).to_owned()
        }
        _ => full.body.clone(),
    };
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {full:?}"))
}

/// An event stream that is read as it comes.
struct Stream(BufReader<Body>);

impl Stream {
    fn open(daemon: &Daemon, path: &str, id: &Value, method: &str, params: &Value) -> Stream {
        let params = stamped(params);
        let mut stream = http::connect(daemon.address());
        let all = headers(method, &params);
        let request =
            http::encode(daemon.address(), "POST", path, &borrowed(&all), &body(id, method, &params));
        stream.write_all(&request).unwrap();
        let body = Body::read(BufReader::new(stream)).unwrap();
        let kind = body.head.header("content-type").unwrap_or_default();
        assert!(body.head.status == 200 && kind.starts_with("text/event-stream"), "{:?}", body.head);
        assert_eq!(body.head.header("x-accel-buffering"), Some("no"));
        Stream(BufReader::new(body))
    }

    /// The next message; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            line.clear();
        }
        None
    }

    /// The next message of this method, and how many others came before.
    fn find(&mut self, method: &str) -> (Value, usize) {
        for before in 0.. {
            let message = self.next().unwrap();
            if message["method"] == method {
                return (message, before);
            }
        }
        unreachable!("the stream ends, or says it")
    }

    fn method(&mut self, method: &str) -> Value {
        let message = self.next().unwrap();
        assert_eq!(message["method"], method, "{message}");
        message
    }
}

/// What a request may lack, by name, with its status and code.
#[test]
fn what_every_request_must_carry() {
    let daemon = one();
    #[track_caller]
    fn check(daemon: &Daemon, what: &str, headers: &[(&str, &str)], body: &Value, expected: (u16, i64)) {
        let mut all =
            vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        all.extend(headers);
        let full = http::request(daemon.address(), "POST", "/mcp/s/e", &all, &body.to_string());
        let answer = answer_of(&full);
        let code = answer["error"]["code"].as_i64().unwrap_or(0);
        assert_eq!((full.head.status, code), expected, "{what}: {answer}");
        assert!(answer["id"] == 7 || body["id"] != 7, "{what}: {answer}");
    }
    let request =
        |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let list = request("tools/list", stamped(&json!({})));
    let (version, method) = (("mcp-protocol-version", VERSION), ("mcp-method", "tools/list"));
    check(&daemon, "all is well", &[version, method], &list, (200, 0));
    check(
        &daemon,
        "upper case names",
        &[("MCP-PROTOCOL-VERSION", VERSION), ("MCP-METHOD", "tools/list")],
        &list,
        (200, 0),
    );
    check(
        &daemon,
        "a session that means nothing",
        &[version, method, ("mcp-session-id", "x")],
        &list,
        (200, 0),
    );
    check(&daemon, "no claim", &[version, method], &request("tools/list", json!({})), (400, -32602));
    let claim = json!({"_meta": {CLAIM: VERSION}});
    check(&daemon, "no capabilities", &[version, method], &request("tools/list", claim), (400, -32602));
    let no_claim = json!({"_meta": {CAPABILITIES: {}}});
    check(&daemon, "no version", &[version, method], &request("tools/list", no_claim), (400, -32602));
    check(&daemon, "no version header", &[method], &list, (400, -32020));
    check(
        &daemon,
        "another version header",
        &[("mcp-protocol-version", "2025-11-25"), method],
        &list,
        (400, -32020),
    );
    check(&daemon, "no method header", &[version], &list, (400, -32020));
    check(&daemon, "another method", &[version, ("mcp-method", "prompts/list")], &list, (400, -32020));
    check(&daemon, "method in capitals", &[version, ("mcp-method", "TOOLS/LIST")], &list, (400, -32020));
    let future = json!({"_meta": {CLAIM: "v999.0.0", CAPABILITIES: {}}});
    check(
        &daemon,
        "a version to come",
        &[("mcp-protocol-version", "v999.0.0"), method],
        &request("tools/list", future.clone()),
        (400, -32022),
    );
    check(
        &daemon,
        "headers disagree first",
        &[version, method],
        &request("tools/list", future),
        (400, -32020),
    );
    let batch = json!([list]);
    check(&daemon, "a batch", &[version, method], &batch, (400, -32600));
    check(&daemon, "a batch without headers", &[], &batch, (400, -32600));
    for removed in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
    {
        let gone = request(removed, stamped(&json!({"uri": "x://1", "level": "info"})));
        check(&daemon, removed, &[version, ("mcp-method", removed)], &gone, (404, -32601));
    }
    let call = request("tools/call", stamped(&json!({"name": "run", "arguments": {}})));
    let calling = ("mcp-method", "tools/call");
    check(&daemon, "a name", &[version, calling, ("mcp-name", "  run  ")], &call, (200, 0));
    check(&daemon, "a coded name", &[version, calling, ("mcp-name", "=?base64?cnVu?=")], &call, (200, 0));
    check(&daemon, "no name", &[version, calling], &call, (400, -32020));
    check(&daemon, "another name", &[version, calling, ("mcp-name", "Run")], &call, (400, -32020));
    let placed =
        |arguments: Value| request("tools/call", stamped(&json!({"name": "placed", "arguments": arguments})));
    let name = ("mcp-name", "placed");
    let eu = placed(json!({"region": "eu"}));
    check(&daemon, "a region", &[version, calling, name, ("mcp-param-region", "eu")], &eu, (200, 0));
    check(
        &daemon,
        "a coded region",
        &[version, calling, name, ("mcp-param-region", "=?base64?ZXU=?=")],
        &eu,
        (200, 0),
    );
    check(
        &daemon,
        "bad padding",
        &[version, calling, name, ("mcp-param-region", "=?base64?ZXU?=")],
        &eu,
        (400, -32020),
    );
    check(
        &daemon,
        "bad letters",
        &[version, calling, name, ("mcp-param-region", "=?base64?Z!U=?=")],
        &eu,
        (400, -32020),
    );
    check(&daemon, "no region", &[version, calling, name], &eu, (400, -32020));
    check(
        &daemon,
        "a region too many",
        &[version, calling, name, ("mcp-param-region", "eu")],
        &placed(json!({})),
        (400, -32020),
    );
    check(
        &daemon,
        "a number",
        &[version, calling, name, ("mcp-param-n", "42.0")],
        &placed(json!({"n": 42})),
        (200, 0),
    );
    check(
        &daemon,
        "another number",
        &[version, calling, name, ("mcp-param-n", "43")],
        &placed(json!({"n": 42})),
        (400, -32020),
    );
    // The other era goes on beside it, and neither is taken for the other.
    let greeting = request(
        "initialize",
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}),
    );
    check(&daemon, "a greeting", &[("mcp-method", "initialize")], &greeting, (200, 0));
    let versions = ask_error(&daemon);
    assert_eq!(versions["data"], json!({"supported": [VERSION], "requested": "v999.0.0"}));
}

fn ask_error(daemon: &Daemon) -> Value {
    let params = json!({"_meta": {CLAIM: "v999.0.0", CAPABILITIES: {}}});
    let mut all = headers("server/discover", &params);
    all[2].1 = "v999.0.0".to_owned();
    let text = body(&json!(1), "server/discover", &params);
    answer_of(&http::request(daemon.address(), "POST", "/mcp", &borrowed(&all), &text))["error"].take()
}

#[test]
fn other_http_methods_are_of_the_other_era() {
    let daemon = one();
    for method in ["GET", "DELETE"] {
        let headers = [("accept", "text/event-stream"), ("mcp-protocol-version", VERSION)];
        let full = http::request(daemon.address(), method, "/mcp", &headers, "");
        assert_eq!((full.head.status, full.head.header("allow")), (405, Some("POST")), "{method}");
    }
    let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        .to_string();
    let headers = [("content-type", "application/json"), ("mcp-protocol-version", VERSION)];
    let full = http::request(daemon.address(), "POST", "/mcp", &headers, &note);
    assert_eq!((full.head.status, full.body.as_str()), (202, ""));
}

#[test]
fn discovery_and_lists_say_what_the_era_wants() {
    let daemon = one();
    let cached = |result: &Value| {
        assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")), "{result}");
    };
    let own = ok(&daemon, "/mcp/s/e", "server/discover", &json!({}));
    cached(&own);
    assert_eq!(own["supportedVersions"], json!([VERSION]));
    assert_eq!(own["capabilities"]["resources"]["subscribe"], true);
    assert_eq!(own["_meta"][SERVER_INFO]["name"], "echo");
    let all = ok(&daemon, "/mcp", "server/discover", &json!({}));
    cached(&all);
    assert_eq!(all["_meta"][SERVER_INFO]["name"], "mcpvisor");
    assert_eq!(all["capabilities"]["tools"]["listChanged"], true);
    for (path, prefix) in [("/mcp", "e__"), ("/mcp/s/e", "")] {
        let tools = ok(&daemon, path, "tools/list", &json!({}));
        cached(&tools);
        assert_eq!(tools["tools"][0]["name"], format!("{prefix}run"));
        assert_eq!(tools, ok(&daemon, path, "tools/list", &json!({})), "the order stays");
        let resources = ok(&daemon, path, "resources/list", &json!({}));
        cached(&resources);
        assert_eq!(resources["resources"][1]["uri"], "x://2");
        cached(&ok(&daemon, path, "resources/templates/list", &json!({})));
        cached(&ok(&daemon, path, "prompts/list", &json!({})));
        let params = json!({"name": format!("{prefix}run"), "arguments": {"reply": "\"result\":{\"content\":[ ],\"x\":1e400}"}});
        let params = stamped(&params);
        let full = http::request(
            daemon.address(),
            "POST",
            path,
            &borrowed(&headers("tools/call", &params)),
            &body(&json!(1), "tools/call", &params),
        );
        assert!(full.body.contains(r#"{"content":[ ],"x":1e400,"resultType":"complete""#), "{full:?}");
    }
    // What only this era knows does not reach a server of the other.
    let lines = received_with(&daemon, "e", "tools/call");
    assert!(
        !lines.is_empty() && lines.iter().all(|line| !line.contains("io.modelcontextprotocol")),
        "{lines:?}"
    );
    assert!(!daemon.output().1.contains("what it lists has changed"), "first lists are no change");
    let (status, unknown) = ask(&daemon, "/mcp", "unknown/method", &json!({}));
    assert_eq!((status, unknown["error"]["code"].as_i64()), (404, Some(-32601)), "{unknown}");
    let (status, unknown) = ask(&daemon, "/mcp", "tools/list", &json!({"cursor": "x"}));
    assert_eq!((status, unknown["error"]["code"].as_i64()), (200, Some(-32602)), "{unknown}");
}

#[test]
fn errors_cross_the_eras() {
    let gone = r#""error":{"code":-32002,"message":"gone"}"#;
    let missing = r#""error":{"code":-32601,"message":"what?"}"#;
    let daemon = behind(&[(
        "e",
        &[("resources", RESOURCES), ("reply.resources/read", gone), ("reply.completion/complete", missing)],
    )]);
    for path in ["/mcp", "/mcp/s/e"] {
        let (status, answer) = ask(&daemon, path, "resources/read", &json!({"uri": "x://1"}));
        assert_eq!(status, 200);
        assert_eq!(answer["error"], json!({"code": -32602, "message": "gone", "data": {"uri": "x://1"}}));
    }
    let (_, answer) = ask(&daemon, "/mcp", "resources/read", &json!({"uri": "y://1", "x": [1.0]}));
    assert_eq!(answer["error"]["code"], -32602, "a server is found, and knows no such thing: {answer}");
    let (status, answer) = ask(&daemon, "/mcp/s/e", "completion/complete", &json!({}));
    assert_eq!((status, answer["error"]["code"].as_i64()), (404, Some(-32601)));
    let (_, answer) = ask(&daemon, "/mcp/s/e", "tasks/get", &json!({"taskId": "1"}));
    assert_eq!(answer["error"]["data"]["kind"], "not_bridgeable", "{answer}");
    let (_, answer) = ask(&daemon, "/mcp", "tools/call", &json!({"name": "e__no", "arguments": {}}));
    assert_eq!(answer["error"]["data"]["kind"], "unknown", "{answer}");
}

#[test]
fn progress_and_logs_come_on_the_stream_of_their_call() {
    let daemon = one();
    let progress = note("notifications/progress", r#"{"progressToken":$TOKEN,"progress":1.0}"#);
    let log = |level: &str| note("notifications/message", &format!(r#"{{"level":"{level}","data":"x"}}"#));
    let call = |meta: Value| {
        let say = json!([progress, log("debug"), log("error")]);
        json!({"name": "run", "arguments": {"say": say}, "_meta": meta})
    };
    let params = call(json!({"progressToken": "t", LOG_LEVEL: "warning"}));
    let mut stream = Stream::open(&daemon, "/mcp/s/e", &json!(1), "tools/call", &params);
    assert_eq!(stream.method("notifications/progress")["params"]["progressToken"], "t");
    assert_eq!(stream.method("notifications/message")["params"]["level"], "error");
    let answer = stream.next().unwrap();
    assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!(1), &json!("complete")));
    assert_eq!(stream.next(), None);
    assert_eq!(received_with(&daemon, "e", "logging/setLevel").len(), 1);
    // Who names no level hears no log, and without a token there is no progress: a plain answer is left.
    let params = stamped(&json!({"name": "run", "arguments": {"say": [log("error")]}}));
    let all = headers("tools/call", &params);
    let full = http::request(
        daemon.address(),
        "POST",
        "/mcp/s/e",
        &borrowed(&all),
        &body(&json!(2), "tools/call", &params),
    );
    assert_eq!(full.head.header("content-type"), Some("application/json"), "{full:?}");
    ok(&daemon, "/mcp/s/e", "tools/call", &call(json!({LOG_LEVEL: "error"})));
    assert_eq!(received_with(&daemon, "e", "logging/setLevel").len(), 1, "it is loud enough already");
}

#[test]
fn leaving_cancels() {
    let daemon = one();
    // While nothing was said yet, and in the middle of a stream.
    for (key, say) in [
        ("quiet", json!([])),
        ("loud", json!([note("notifications/progress", r#"{"progressToken":$TOKEN,"progress":1}"#)])),
    ] {
        let arguments = json!({"hold": key, "say": say});
        let params = stamped(&json!({"name": "run", "arguments": arguments, "_meta": {"progressToken": 1}}));
        let mut stream: TcpStream = http::connect(daemon.address());
        let all = headers("tools/call", &params);
        let request = http::encode(
            daemon.address(),
            "POST",
            "/mcp/s/e",
            &borrowed(&all),
            &body(&json!(key), "tools/call", &params),
        );
        stream.write_all(&request).unwrap();
        let line = wait_received(&daemon, "e", &format!("\"hold\":\"{key}\""), 1).remove(0);
        if key == "loud" {
            let _ = Body::read(BufReader::new(stream.try_clone().unwrap())).unwrap();
        }
        drop(stream);
        let id = serde_json::from_str::<Value>(&line).unwrap()["id"].clone();
        let told = wait_received(&daemon, "e", &format!("\"requestId\":{id},"), 1);
        assert!(told[0].contains("notifications/cancelled"), "{told:?}");
    }
    ok(&daemon, "/mcp/s/e", "tools/call", &json!({"name": "run", "arguments": {"release": "quiet"}}));
    assert_eq!(received_with(&daemon, "e", "notifications/cancelled").len(), 2);
}

#[test]
fn listening() {
    let daemon = one();
    let filter = json!({"notifications": {"toolsListChanged": true, "unknown": true, "resourceSubscriptions": ["x://1", "no://such"]}});
    let mut tools = Stream::open(&daemon, "/mcp/s/e", &json!("listen:0"), "subscriptions/listen", &filter);
    let acknowledged = tools.method("notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"]["notifications"]["toolsListChanged"], true);
    assert_eq!(
        acknowledged["params"]["notifications"]["resourceSubscriptions"],
        json!(["x://1", "no://such"])
    );
    assert_eq!(acknowledged["params"]["notifications"].get("unknown"), None);
    let all_filter =
        json!({"notifications": {"promptsListChanged": true, "resourceSubscriptions": ["x://1"]}});
    let mut prompts = Stream::open(&daemon, "/mcp", &json!(3), "subscriptions/listen", &all_filter);
    assert_eq!(
        prompts.method("notifications/subscriptions/acknowledged")["params"]["_meta"][SUBSCRIPTION],
        3
    );
    wait_received(&daemon, "e", "resources/subscribe", 2);
    let updated =
        |n: u32| note("notifications/resources/updated", &format!(r#"{{"uri":"x://{n}","title":"t"}}"#));
    let changed = note("notifications/tools/list_changed", "{}");
    let script = json!({"change": ["tools", r#"[{"name":"run","inputSchema":{}}]"#], "then": [updated(2), updated(1), changed]});
    ok(&daemon, "/mcp/s/e", "tools/call", &json!({"name": "run", "arguments": script}));
    // The lists of the first start may be announced until here.
    let (heard, _) = tools.find("notifications/resources/updated");
    assert_eq!(heard["params"], json!({"uri": "x://1", "title": "t", "_meta": {SUBSCRIPTION: "listen:0"}}));
    assert_eq!(tools.method("notifications/tools/list_changed")["params"]["_meta"][SUBSCRIPTION], "listen:0");
    assert_eq!(prompts.find("notifications/resources/updated").0["params"]["_meta"][SUBSCRIPTION], 3);
    // A server that says so of a list that is the same is believed by those who look at it alone.
    let mut aggregate = Stream::open(&daemon, "/mcp", &json!(4), "subscriptions/listen", &filter);
    aggregate.method("notifications/subscriptions/acknowledged");
    let say = |line: String| {
        let params = json!({"name": "run", "arguments": {"then": [line]}});
        ok(&daemon, "/mcp/s/e", "tools/call", &params);
    };
    for _ in 0..3 {
        say(note("notifications/tools/list_changed", "{}"));
        tools.find("notifications/tools/list_changed");
    }
    say(updated(1));
    let (_, before) = aggregate.find("notifications/resources/updated");
    assert!(before <= 1, "the change before may still have been told: {before}");
    prompts.find("notifications/resources/updated");
    drop(aggregate);
    // Both eras want the resource: the server hears of the last who leaves.
    let wire = Wire::open(&daemon.server_url("e"));
    wire.ask("1", "resources/subscribe", r#"{"uri":"x://1"}"#);
    drop(tools);
    wait_received(&daemon, "e", "resources/unsubscribe", 1);
    assert!(received_with(&daemon, "e", "resources/unsubscribe")[0].contains("no://such"));
    wire.delete();
    drop(prompts);
    let lines = wait_received(&daemon, "e", "resources/unsubscribe", 2);
    assert!(lines[1].contains("x://1"), "{lines:?}");
    for wrong in [json!({}), json!({"notifications": []})] {
        let (status, answer) = ask(&daemon, "/mcp", "subscriptions/listen", &wrong);
        assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(-32602)));
    }
}

#[test]
fn a_daemon_that_ends_says_so_to_those_who_listen() {
    let mut daemon = one();
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = Stream::open(&daemon, "/mcp", &json!(9), "subscriptions/listen", &filter);
    stream.method("notifications/subscriptions/acknowledged");
    daemon.stop();
    let end = stream.next().unwrap();
    assert_eq!(end["id"], 9);
    assert_eq!(end["result"], json!({"resultType": "complete", "_meta": {SUBSCRIPTION: 9}}));
    assert_eq!(stream.next(), None);
}

/// What a thousand idle streams may take of the daemon's memory: a descriptor, an entry in the hub, one of who listens, and
/// for the older era a session. 6 MB in the released program (`benches/run`).
const THOUSAND_STREAMS_BYTES_MAX: u64 = 12 << 20;

/// And how long the last of them may wait for what all of them hear: three times what a busy machine took.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Opens a thousand with `open`, and lets one change be told to all of them: no thread more, memory within bounds, and all
/// hear it in time, as `hear` sees it.
fn a_thousand<S>(daemon: &Daemon, mut open: impl FnMut(usize) -> S, mut hear: impl FnMut(usize, &mut S)) {
    let pid = daemon.daemon_pid();
    // One of every kind of request is over, and so are the threads of its connections.
    drop(open(1000));
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let name = |path: PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let names: Vec<String> = tasks.map(|task| name(task.unwrap().path())).collect();
        (names.len(), names.iter().filter(|name| name.starts_with("conn:")).count())
    };
    until("no connection to hold a thread", || (threads().1 == 0).then_some(()));
    let (before, rss) = (threads().0, rss_bytes(pid));
    let mut streams: Vec<S> = (0..1000).map(&mut open).collect();
    until("their threads to end", || (threads().1 == 0).then_some(()));
    let more = rss_bytes(pid).saturating_sub(rss);
    assert!(threads().0 <= before, "{} threads, {before} before", threads().0);
    assert!(more <= THOUSAND_STREAMS_BYTES_MAX, "{more} bytes for a thousand streams");
    let script = json!({"change": ["tools", "[]"], "then": [note("notifications/tools/list_changed", "{}")]});
    let begun = Instant::now();
    ok(daemon, "/mcp/s/e", "tools/call", &json!({"name": "run", "arguments": script}));
    streams.iter_mut().enumerate().for_each(|(n, stream)| hear(n, stream));
    let took = begun.elapsed();
    println!("1,000 streams: {} KiB more, all told in {took:?}", more >> 10);
    assert!(took < TOLD_WITHIN, "{took:?}");
}

#[test]
fn a_thousand_who_listen_hold_no_thread() {
    let daemon = one();
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let open = |n: usize| {
        let mut stream = Stream::open(&daemon, "/mcp", &json!(n), "subscriptions/listen", &filter);
        stream.method("notifications/subscriptions/acknowledged");
        stream
    };
    let hear = |n: usize, stream: &mut Stream| {
        assert_eq!(stream.method("notifications/tools/list_changed")["params"]["_meta"][SUBSCRIPTION], n);
    };
    a_thousand(&daemon, open, hear);
}

#[test]
fn a_thousand_sessions_that_listen_hold_no_thread() {
    let daemon = one();
    let open = |_: usize| {
        let wire = Wire::open(daemon.url());
        wire.listen(None)
    };
    let hear = |_: usize, stream: &mut Flow| {
        // The first ones may still be told of the start.
        let mut told = std::iter::from_fn(|| stream.next());
        assert!(told.any(|line| line.contains("notifications/tools/list_changed")));
    };
    a_thousand(&daemon, open, hear);
}

/// A client of `mcpvisor stdio` that never greets.
struct Stdio1 {
    bridge: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
}

impl Stdio1 {
    fn start(daemon: &Daemon, args: &[&str]) -> Stdio1 {
        let mut command = command();
        command.args(["stdio", "--state-dir", &daemon.tmp.join("state")]);
        command
            .args(["--config", &daemon.tmp.join("mcp_config.json")])
            .args(args)
            .env(MARK, format!("{}-client", daemon.mark));
        // What carries the daemon's own mark ends with it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bridge = command.spawn().unwrap();
        let (stdin, lines) = (bridge.stdin.take(), stdout_lines(&mut bridge));
        Stdio1 { bridge, stdin, lines }
    }

    fn write(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn send(&mut self, id: &Value, method: &str, params: &Value) {
        self.write(&body(id, method, &stamped(params)));
    }

    fn next(&mut self) -> Value {
        serde_json::from_slice(&self.lines.recv_timeout(PATIENCE).unwrap()).unwrap()
    }

    fn ask(&mut self, id: &Value, method: &str, params: &Value) -> Value {
        self.send(id, method, params);
        // On a stream of this client news of a list may come first.
        let news = |message: &Value| message["method"] == "notifications/tools/list_changed";
        let answer = std::iter::repeat_with(|| self.next()).find(|message| !news(message)).unwrap();
        assert_eq!(answer["id"], *id, "{answer}");
        answer
    }
}

impl Drop for Stdio1 {
    fn drop(&mut self) {
        self.stdin = None;
        until("the bridge to end", || self.bridge.try_wait().unwrap());
    }
}

#[test]
fn over_stdio() {
    let daemon = one();
    let mut client = Stdio1::start(&daemon, &["--server", "e"]);
    let found = client.ask(&json!("server-discover-probe-1"), "server/discover", &json!({}));
    assert_eq!(found["result"]["supportedVersions"], json!([VERSION]));
    let call = client.ask(&json!(2), "tools/call", &json!({"name": "placed", "arguments": {"region": "eu"}}));
    assert_eq!(call["result"]["resultType"], "complete", "no headers are asked for: {call}");
    assert_eq!(client.ask(&json!(3), "ping", &json!({}))["error"]["code"], -32601);
    client.write(
        &json!({"jsonrpc": "2.0", "id": 4, "method": "tools/list", "params": {"_meta": {CLAIM: VERSION}}})
            .to_string(),
    );
    assert_eq!(client.next()["error"]["code"], -32602);
    client.write(&json!({"jsonrpc": "2.0", "id": 5, "method": "tools/list", "params": {"_meta": {CLAIM: "2030-01-01"}}}).to_string());
    assert_eq!(client.next()["error"]["code"], -32022);
    // Cancelled, a call is told to its server and never answered.
    client.send(&json!("c"), "tools/call", &json!({"name": "run", "arguments": {"hold": "c"}}));
    let line = wait_received(&daemon, "e", "\"hold\":\"c\"", 1).remove(0);
    client.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}})
            .to_string(),
    );
    let id = serde_json::from_str::<Value>(&line).unwrap()["id"].clone();
    wait_received(&daemon, "e", &format!("\"requestId\":{id},"), 1);
    // Two streams at once, told apart by their ids.
    let listen = |kind: &str| json!({"notifications": {kind: true}});
    client.send(&json!("listen:0"), "subscriptions/listen", &listen("toolsListChanged"));
    assert_eq!(client.next()["params"]["_meta"][SUBSCRIPTION], "listen:0");
    client.send(&json!(7), "subscriptions/listen", &listen("promptsListChanged"));
    assert_eq!(client.next()["params"]["_meta"][SUBSCRIPTION], 7);
    let script = json!({"change": ["prompts", r#"[{"name":"p"}]"#], "then": [note("notifications/prompts/list_changed", "{}")]});
    let params = json!({"name": "run", "arguments": script});
    client.send(&json!(8), "tools/call", &params);
    let (first, second) = (client.next(), client.next());
    let news = if first["id"] == 8 { second } else { first };
    assert_eq!(
        (&news["method"], &news["params"]["_meta"][SUBSCRIPTION]),
        (&json!("notifications/prompts/list_changed"), &json!(7))
    );
    client.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
            .to_string(),
    );
    // The legacy era on the same pipe, beside it.
    let greeting = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}});
    client.write(&body(&json!("i"), "initialize", &greeting));
    assert_eq!(client.next()["result"]["protocolVersion"], "2025-11-25");
    client.write(&body(&json!("p"), "ping", &json!({})));
    assert_eq!(client.next()["result"], json!({}));
}

#[test]
fn a_stream_on_stdio_outlives_its_daemon() {
    let mut daemon = one();
    let mut client = Stdio1::start(&daemon, &[]);
    client.send(&json!(1), "subscriptions/listen", &json!({"notifications": {"toolsListChanged": true}}));
    assert_eq!(client.next()["method"], "notifications/subscriptions/acknowledged");
    daemon.stop();
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(daemon.tmp.join("mcp_config.json")).unwrap()).unwrap();
    let daemon = Daemon::start_in(daemon.into_tmp(), &config, &[]);
    daemon.wait_ready(&["e"]);
    // In place of a second acknowledgement.
    let news = client.next();
    assert_eq!(
        (&news["method"], &news["params"]["_meta"][SUBSCRIPTION]),
        (&json!("notifications/tools/list_changed"), &json!(1))
    );
    assert_eq!(client.ask(&json!(2), "tools/list", &json!({}))["result"]["ttlMs"], 0);
}
