//! Before anything is up: the first answer waits for no server, and of what era a server over HTTP is, row by row.

use super::far::Client;
use super::last;
use crate::eras::after_clients_of;
use crate::support::daemon::{Daemon, server};
use crate::support::demo_config;
use crate::support::upstream::{Out, Seen, Upstream, answer_plainly};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// With every server down, in every way there is: the median of a greeting of either era.
#[test]
fn the_first_answer_waits_for_no_server() {
    let silent = Upstream::start(|_: &Seen, out: &mut Out| out.wait_closed());
    let mut config = demo_config(&[("stuck", "--hang-init"), ("late", "--start-delay 20000")]);
    config["mcpServers"]["missing"] = json!({ "command": "no-such-program-4711" });
    config["mcpServers"]["refused"] = json!({ "url": "http://127.0.0.1:1/mcp" });
    config["mcpServers"]["silent"] = json!({ "url": silent.url() });
    config["mcpServers"]["nowhere"] = json!({ "url": "http://no-such-host.invalid/mcp", "protocol": "sse" });
    config["list_wait"] = json!("0s");
    let daemon = Daemon::start(&config, &[]);
    let modern = Client::at(daemon.url(), "modern");
    let mut spans: Vec<Duration> = (0..21)
        .map(|n| {
            let begun = Instant::now();
            let found = last(&mut modern.ask(&n.to_string(), "server/discover", "", ""));
            assert!(found.contains(r#""supportedVersions":["2026-07-28"]"#), "{found}");
            begun.elapsed()
        })
        .collect();
    spans.sort();
    assert!(spans[10] < Duration::from_millis(50), "{spans:?}");
    let begun = Instant::now();
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        assert!(last(&mut modern.ask("1", method, "", "")).contains("[]"), "{method}");
    }
    for name in ["stuck", "late", "missing", "refused", "silent", "nowhere"] {
        last(&mut Client::at(&daemon.server_url(name), "modern").ask("1", "server/discover", "", ""));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Name, answer to `server/discover` (status, content type, body), and where the server ends up.
type Row = (&'static str, u16, &'static str, &'static str, &'static str);

const JSON: &str = "application/json";
const HTML: &str = "text/html";

const ROWS: &[Row] = &[
    (
        "modern",
        200,
        JSON,
        r#""id":$ID,"result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}"#,
        "modern",
    ),
    (
        "legacy-list",
        200,
        JSON,
        r#""id":$ID,"result":{"supportedVersions":["2025-11-25","2025-06-18"],"capabilities":{}}"#,
        "legacy",
    ),
    ("nothing-of-use", 200, JSON, r#""id":$ID,"result":{"hello":"world"}"#, "legacy"),
    ("unknown-method", 200, JSON, r#""id":$ID,"error":{"code":-32601,"message":"no"}"#, "legacy"),
    ("unknown-method-404", 404, JSON, r#""id":$ID,"error":{"code":-32601,"message":"no"}"#, "legacy"),
    ("invalid-params", 200, JSON, r#""id":$ID,"error":{"code":-32602,"message":"no"}"#, "legacy"),
    (
        "refused-for-legacy",
        400,
        JSON,
        r#""id":$ID,"error":{"code":-32022,"message":"v","data":{"supported":["2025-11-25"]}}"#,
        "legacy",
    ),
    (
        "no-session",
        400,
        JSON,
        r#""id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}"#,
        "legacy",
    ),
    ("no-id", 400, JSON, r#""error":{"code":-32600,"message":"no session"}"#, "legacy"),
    ("page-400", 400, HTML, "<!DOCTYPE html><title>Bad Request</title>", "legacy"),
    ("text-404", 404, "text/plain", "404 page not found", "legacy"),
    ("empty-404", 404, "", "", "legacy"),
    ("empty-405", 405, "", "", "legacy"),
    ("empty-406", 406, "", "", "legacy"),
    ("page-413", 413, HTML, "<h1>too large</h1>", "legacy"),
    ("text-422", 422, "text/plain", "Unexpected message, expect initialize request", "legacy"),
    ("to-come", 200, JSON, r#""id":$ID,"result":{"supportedVersions":["2099-01-01"]}"#, "handshake_failed"),
    (
        "refused-for-to-come",
        400,
        JSON,
        r#""id":$ID,"error":{"code":-32022,"message":"v","data":{"supported":["2099-01-01"]}}"#,
        "handshake_failed",
    ),
    (
        "refused-and-offered",
        400,
        JSON,
        r#""id":$ID,"error":{"code":-32022,"message":"v","data":{"supported":["2026-07-28"]}}"#,
        "handshake_failed",
    ),
    ("login", 401, "", "", "needs_login"),
    ("forbidden", 403, JSON, r#""id":$ID,"error":{"code":-32601,"message":"no"}"#, "needs_login"),
    ("broken", 500, HTML, "<h1>Oh no</h1>", "bad_upstream"),
    ("broken-json", 500, JSON, r#""id":$ID,"error":{"code":-32601,"message":"no"}"#, "bad_upstream"),
    ("away", 503, "", "", "bad_upstream"),
];

/// The table of probe verdicts of the reference (1.8), over HTTP; behind each a server that speaks the older era.
#[test]
fn every_answer_to_discover_has_its_verdict() {
    let upstream = Upstream::start(|seen, out| {
        let message = seen.message();
        let (_, status, kind, body, _) = ROWS.iter().find(|row| seen.path[1..] == *row.0).expect("a row");
        if message["method"] != "server/discover" {
            return answer_plainly(seen, out);
        }
        let body = match *kind {
            JSON => format!(r#"{{"jsonrpc":"2.0",{}}}"#, body.replace("$ID", &message["id"].to_string())),
            _ => (*body).to_owned(),
        };
        let head: Vec<(&str, &str)> =
            Some(("content-type", *kind)).filter(|_| !kind.is_empty()).into_iter().collect();
        out.answer(*status, &head, &body);
    });
    let entry =
        |row: &Row| (row.0.to_owned(), json!({ "url": format!("http://{}/{}", upstream.address, row.0) }));
    let servers: serde_json::Map<String, Value> = ROWS.iter().map(entry).collect();
    // Who asks first is of the newer era, so that every server is asked about it.
    let daemon = Daemon::start_in(after_clients_of("modern"), &json!({ "mcpServers": servers }), &[]);
    let mut wrong = Vec::new();
    for (name, .., verdict) in ROWS {
        let status = daemon.wait_until(&format!("a verdict about {name}"), |status| {
            let shown = server(status, name);
            shown["state"] == "ready" || !shown["last_error"].is_null()
        });
        let shown = server(&status, name);
        let found = match shown["last_error"]["kind"].as_str() {
            Some(kind) => kind,
            None => shown["era"].as_str().unwrap_or_default(),
        };
        let greeted = upstream.seen("initialize").iter().any(|seen| seen.path[1..] == **name);
        if found != *verdict || greeted != (*verdict == "legacy") {
            wrong.push(format!(
                "{name}: {found} and not {verdict}, greeted: {greeted}: {}",
                shown["last_error"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
