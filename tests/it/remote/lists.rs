//! Lists of remote servers: for how long they are good, and tools that want other heads than they did.

use super::modern::answer;
use super::*;
use crate::support::http;

/// One request of a modern client.
fn ask(daemon: &Daemon, path: &str, method: &str, params: &Value, more: &[(&str, &str)]) -> Value {
    let mut params = params.clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
    ];
    headers.extend(params["name"].as_str().map(|name| ("mcp-name", name)));
    headers.extend(more);
    let full = http::request(daemon.address(), "POST", path, &headers, &body);
    let json = full.body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&full.body);
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {full:?}"))
}

/// A modern server whose list of tools says this of itself.
fn listing(ttl: u64, scope: &'static str) -> Upstream {
    Upstream::start(move |seen, out| match seen.what().as_str() {
        "tools/list" => {
            let tool = json!({ "name": "t", "inputSchema": { "type": "object" } });
            let list =
                json!({ "tools": [tool], "resultType": "complete", "ttlMs": ttl, "cacheScope": scope });
            out.json(&[], &response(&seen.message(), &list));
        }
        "server/discover" => {
            let said = json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} },
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private" });
            out.json(&[], &response(&seen.message(), &said));
        }
        _ => answer(seen, out),
    })
}

/// Of several lists the shortest time and the closest scope, and never for longer than a new server may go unseen.
#[test]
fn a_list_of_several_servers_is_as_good_as_the_worst_of_them() {
    let (long, short, private, legacy) =
        (listing(3_600_000, "public"), listing(30_000, "public"), listing(40_000, "private"), {
            Upstream::start(answer_plainly)
        });
    let entry = |upstream: &Upstream| json!({ "url": upstream.url(), "era": "modern" });
    #[track_caller]
    fn check(servers: Value, ttl: std::ops::RangeInclusive<u64>, scope: &str) {
        let names: Vec<String> = servers.as_object().unwrap().keys().cloned().collect();
        let daemon = with(servers);
        daemon.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let result = &ask(&daemon, "/mcp", "tools/list", &json!({}), &[])["result"];
        assert_eq!(result["tools"].as_array().unwrap().len(), names.len(), "{result:#}");
        assert!(ttl.contains(&result["ttlMs"].as_u64().unwrap()), "{ttl:?}: {result:#}");
        assert_eq!(result["cacheScope"], scope, "{result:#}");
        // The other era has no word for it.
        let plain = daemon.client().request("tools/list", json!({})).unwrap();
        assert_eq!((&plain["ttlMs"], &plain["cacheScope"]), (&Value::Null, &Value::Null));
    }
    check(json!({ "a": entry(&long) }), 60_000..=60_000, "public");
    check(json!({ "a": entry(&long), "b": entry(&short) }), 1..=30_000, "public");
    check(json!({ "a": entry(&long), "b": entry(&private) }), 30_001..=40_000, "private");
    check(json!({ "a": entry(&long), "b": { "url": legacy.url() } }), 0..=0, "private");
    let daemon = with(json!({ "a": entry(&long) }));
    daemon.wait_ready(&["a"]);
    let own = &ask(&daemon, "/mcp/s/a", "tools/list", &json!({}), &[])["result"];
    assert_eq!((&own["ttlMs"], &own["cacheScope"]), (&json!(3_600_000), &json!("public")), "as it came");
}

/// A server that tells of no changes is asked again when somebody lists what is good no longer, and not before.
#[test]
fn a_stale_list_is_read_again_when_somebody_wants_it() {
    let upstream = listing(5_000, "public");
    let daemon = with(json!({ "a": { "url": upstream.url(), "era": "modern" } }));
    daemon.wait_ready(&["a"]);
    let list = || ask(&daemon, "/mcp", "tools/list", &json!({}), &[])["result"]["ttlMs"].as_u64().unwrap();
    assert!((1..=5_000).contains(&list()));
    until("the list to be stale", || (list() == 0).then_some(()));
    until("the list to be read again", || (list() > 0).then_some(()));
    assert_eq!(upstream.seen("tools/list").len(), 2);
    assert!(!daemon.output().1.contains("what it lists has changed"), "it is the same list");
}

/// A server of the modern era whose tool wants `Region` in the head at first, and then what `now` says; it refuses other
/// heads in the dress that `dress` says.
fn placed(now: &'static str, dress: &'static str) -> Upstream {
    let lists: Arc<AtomicUsize> = Arc::default();
    Upstream::start(move |seen, out| {
        let message = seen.message();
        match seen.what().as_str() {
            "tools/list" => {
                let header = if lists.fetch_add(1, Ordering::AcqRel) == 0 { "Region" } else { now };
                let schema = json!({ "type": "object",
                    "properties": { "where": { "type": "string", "x-mcp-header": header } } });
                let list = json!({ "tools": [{ "name": "t", "inputSchema": schema }],
                    "resultType": "complete", "ttlMs": 0, "cacheScope": "private" });
                out.json(&[], &response(&message, &list));
            }
            "tools/call" if seen.header("mcp-param-place").is_none() => {
                let error = json!({ "code": -32020, "message": "Mcp-Param-Place is missing" });
                let body = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error });
                match dress {
                    "400" => out.answer(400, &[("content-type", "application/json")], &body.to_string()),
                    "200" => out.json(&[], &body),
                    _ => {
                        out.events(&[]);
                        out.event(&body);
                    }
                }
            }
            _ => answer(seen, out),
        }
    })
}

#[test]
fn a_call_with_an_old_head_gets_the_new_one() {
    for dress in ["400", "200", "events"] {
        let upstream = placed("Place", dress);
        let daemon = with(json!({ "a": { "url": upstream.url(), "era": "modern" } }));
        daemon.wait_ready(&["a"]);
        assert_eq!(daemon.client().text("a__t", json!({ "where": "eu" })), r#"{"where":"eu"}"#, "{dress}");
        let heads: Vec<Option<String>> = upstream
            .seen("tools/call")
            .iter()
            .map(|seen| seen.header("mcp-param-place").map(str::to_owned))
            .collect();
        assert_eq!(heads, [None, Some("eu".to_owned())], "{dress}");
        assert_eq!(upstream.seen("tools/list").len(), 2);
    }
}

/// The same head again would be refused again: the error is the answer.
#[test]
fn a_call_whose_head_stays_the_same_is_refused() {
    let upstream = placed("Region", "400");
    let daemon = with(json!({ "a": { "url": upstream.url(), "era": "modern" } }));
    daemon.wait_ready(&["a"]);
    let error = daemon.client().call("a__t", json!({ "where": "eu" })).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (-32603, "Mcp-Param-Place is missing"));
    assert_eq!((upstream.seen("tools/call").len(), upstream.seen("tools/list").len()), (1, 2));
}

/// A client that knows the tool better than we do is refused by what we know, lists the tools as it should, and is right.
#[test]
fn a_client_may_know_a_tool_better_than_we_do() {
    let upstream = placed("Place", "400");
    let daemon = with(json!({ "a": { "url": upstream.url(), "era": "modern" } }));
    daemon.wait_ready(&["a"]);
    let params = json!({ "name": "t", "arguments": { "where": "eu" } });
    let call = || ask(&daemon, "/mcp/s/a", "tools/call", &params, &[("mcp-param-place", "eu")]);
    assert_eq!(call()["error"]["code"], -32020);
    until("the tools to be listed anew", || (call()["result"]["resultType"] == "complete").then_some(()));
    assert_eq!(upstream.seen("tools/list").len(), 2);
}
