//! Remote servers of the modern era: how they are found out, what their requests say in the head, and what a cancelled
//! call looks like to them.

use super::*;
use crate::support::upstream::Out;

/// What a modern server answers to a request; nothing for what it does not know.
fn result_of(message: &Value) -> Option<Value> {
    let schema = |property: Value| json!({ "type": "object", "properties": { "region": property } });
    let mut result = match message["method"].as_str()? {
        "server/discover" => json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": { "listChanged": true } },
            "ttlMs": 0, "cacheScope": "private",
        }),
        "tools/list" => json!({ "tools": [
            { "name": "caf\u{e9}", "inputSchema": schema(json!({ "type": "string", "x-mcp-header": "Region" })) },
            { "name": "wrong", "inputSchema": schema(json!({ "type": "number", "x-mcp-header": "Region" })) },
        ], "ttlMs": 0, "cacheScope": "private" }),
        "tools/call" => text(&message["params"]["arguments"].to_string()),
        _ => return None,
    };
    result["resultType"] = "complete".into();
    Some(result)
}

/// Answers as a modern server; a `subscriptions/listen` stays open.
pub fn answer(seen: &Seen, out: &mut Out) {
    let message = seen.message();
    if message["method"] == "subscriptions/listen" {
        out.events(&[]);
        let meta = json!({ "io.modelcontextprotocol/subscriptionId": message["id"] });
        let params = json!({ "notifications": message["params"]["notifications"], "_meta": meta });
        let method = "notifications/subscriptions/acknowledged";
        out.event(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
        return out.wait_closed();
    }
    match result_of(&message) {
        _ if seen.method != "POST" => out.answer(405, &[], ""),
        Some(result) => out.json(&[], &response(&message, &result)),
        None => refuse(&message, 404, -32601, out),
    }
}

fn refuse(message: &Value, status: u16, code: i64, out: &mut Out) {
    let data = json!({ "supported": ["2026-07-28"], "requested": "2025-11-25" });
    let error = json!({ "code": code, "message": "no", "data": data });
    let body = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }).to_string();
    out.answer(status, &[("content-type", "application/json")], &body);
}

#[track_caller]
fn check(
    handle: impl Fn(&Seen, &mut Out) + Send + Sync + 'static,
    era: Option<&str>,
    found: &str,
) -> Upstream {
    let upstream = Upstream::start(handle);
    let mut entry = json!({ "url": upstream.url() });
    if let Some(era) = era {
        entry["era"] = era.into();
    }
    let daemon = with(json!({ "a": entry }));
    let status = daemon.wait_ready(&["a"]);
    let status = server(&status, "a");
    assert_eq!(status["era"], found, "{status:#}");
    assert_eq!((&status["restarts"], &status["failures"]), (&json!(0), &json!(0)), "{status:#}");
    upstream
}

#[test]
fn the_era_is_found_in_one_life() {
    let upstream = check(answer, None, "modern");
    assert_eq!(upstream.seen("initialize").len(), 1, "asked, and refused by 404 and -32601");
    let by_version = |seen: &Seen, out: &mut Out| match seen.what().as_str() {
        "initialize" => refuse(&seen.message(), 400, -32022, out),
        _ => answer(seen, out),
    };
    check(by_version, None, "modern");
    assert!(check(answer, Some("modern"), "modern").seen("initialize").is_empty());
    assert!(check(answer_plainly, None, "legacy").seen("server/discover").is_empty());
}

/// No evidence of an era: the server is down, or wants a login.
#[test]
fn an_outage_is_no_era() {
    for (status, kind, state) in [(500, "bad_upstream", "backoff"), (401, "needs_login", "parked")] {
        let upstream = Upstream::start(move |_: &Seen, out: &mut Out| out.answer(status, &[], "sorry"));
        let daemon = with(json!({ "a": { "url": upstream.url(), "era": "modern" } }));
        let seen = daemon.wait_state("a", state);
        assert_eq!(seen["last_error"]["kind"], kind, "{seen:#}");
        assert!(upstream.seen("initialize").is_empty());
    }
}

#[test]
fn heads_and_tools() {
    let upstream = Upstream::start(answer);
    let daemon = with(json!({ "a": { "url": upstream.url(), "era": "modern" } }));
    daemon.wait_ready(&["a"]);
    let mut client = crate::support::mcp::Mcp::connect(&daemon.server_url("a"));
    let tools = client.request("tools/list", json!({})).unwrap();
    assert_eq!(tools["tools"].as_array().unwrap().len(), 1, "the tool with the wrong schema is left out");
    client.text("caf\u{e9}", json!({ "region": " eu" }));
    let call = &upstream.seen("tools/call")[0];
    let head = |name: &str| call.header(name);
    assert_eq!(head("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!((head("mcp-method"), head("mcp-name")), (Some("tools/call"), Some("=?base64?Y2Fmw6k=?=")));
    assert_eq!((head("mcp-param-region"), head("mcp-session-id")), (Some("=?base64?IGV1?="), None));
    let meta = &call.message()["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    upstream.wait_seen("subscriptions/listen", 1);
    assert!(upstream.seen("GET").is_empty());
}
