//! Real servers over HTTP: another mcpvisor, our reference server on the Python SDK, and the published
//! server-everything on the TypeScript SDK with both transports. What they need is installed by scripts/test.

use super::*;
use crate::interop::peers::{complete, installed, root};
use crate::interop::served::Served;
use crate::support::demo_config;
use crate::support::raw::{self, Raw};
use std::process::Command;

fn everything_ts(transport: &str) -> Served {
    Served::node(NODE[1], &[transport])
}

fn everything_py() -> Served {
    let mut command = Command::new(installed("venv-servers/bin/python"));
    Served::start(command.arg("-B").arg(root().join("tests/peers/everything")).args(["--port", "0"]))
}

const NODE: [&str; 2] = ["npm/node_modules/.bin/node", "npm/node_modules/.bin/mcp-server-everything"];

#[test]
fn one_mcpvisor_behind_another() {
    let far = Daemon::start(&demo_config(&[("demo", "")]), &[]);
    far.wait_ready(&["demo"]);
    let near = with(json!({ "a": { "url": far.server_url("demo") }, "all": { "url": far.url() } }));
    near.wait_ready(&["a", "all"]);
    let questions = [
        ("tools/list", json!({})),
        ("tools/call", json!({ "name": "echo", "arguments": { "text": "\u{e9}\u{2028}" } })),
        ("tools/call", json!({ "name": "no-such-tool", "arguments": {} })),
    ];
    let (direct, through) = (Raw::http(&far.server_url("demo")), Raw::http(&near.server_url("a")));
    let different = raw::differences("demo", direct, through, &questions);
    assert!(different.is_empty(), "{different:?}");
    let mut client = near.client();
    assert!(client.tools().contains(&"all__demo__echo".to_owned()));
    // The far one restarts its server: the near one hears of nothing but a changed list, if that.
    assert_eq!(far.cli(&["upstream", "restart", "demo"]).code, 0);
    far.wait_ready(&["demo"]);
    assert_eq!(
        client.text("all__demo__echo", json!({ "text": "x" })),
        client.text("a__echo", json!({ "text": "x" }))
    );
}

/// The far daemon is replaced by another at the same address, which knows none of its sessions.
#[test]
fn a_daemon_that_is_restarted_is_greeted_again() {
    let far = Daemon::start(&demo_config(&[("demo", "")]), &[]);
    far.wait_ready(&["demo"]);
    let near = with(json!({ "a": { "url": far.server_url("demo") } }));
    near.wait_ready(&["a"]);
    let mut client = near.client();
    assert_eq!(client.text("a__echo", json!({ "text": "1" })), "1");
    let address = far.address().to_owned();
    let tmp = far.into_tmp();
    let far = Daemon::try_start(tmp, &demo_config(&[("demo", "")]).to_string(), &["--listen", &address]);
    let far = far.unwrap_or_else(|ran| panic!("{ran:?}"));
    far.wait_ready(&["demo"]);
    near.wait_ready(&["a"]);
    assert_eq!(client.text("a__echo", json!({ "text": "2" })), "2");
}

fn same_as_direct(url: &str, questions: &[(&str, Value)]) -> Daemon {
    let daemon = with(json!({ "a": { "url": url } }));
    daemon.wait_ready(&["a"]);
    let different = raw::differences("a", Raw::http(url), Raw::http(&daemon.server_url("a")), questions);
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    daemon
}

#[test]
fn the_python_sdk_over_http() {
    if !complete(["venv-servers/bin/python"]) {
        return;
    }
    let peer = everything_py();
    let call = |name: &str| ("tools/call", json!({ "name": name, "arguments": {} }));
    let questions = [
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/read", json!({ "uri": "test://static-binary" })),
        call("test_simple_text"),
        call("test_tool_with_progress"),
        call("test_error_handling"),
    ];
    let daemon = same_as_direct(&format!("{}/mcp", peer.origin), &questions);
    // Its stream is cut in the middle and has to be taken up again.
    let text = daemon.client().text("a__test_reconnection", json!({}));
    assert!(!text.is_empty());
}

#[test]
fn the_typescript_sdk_over_http() {
    if !complete(NODE) {
        return;
    }
    let peer = everything_ts("streamableHttp");
    let sum = json!({ "name": "get-sum", "arguments": { "a": 2, "b": 40 } });
    let questions = [
        ("tools/list", json!({})),
        ("tools/call", sum),
        ("prompts/list", json!({})),
        ("resources/list", json!({})),
    ];
    let daemon = same_as_direct(&format!("{}/mcp", peer.origin), &questions);
    let long = json!({ "duration": 0.3, "steps": 3 });
    let client = daemon.client();
    let call = client.begin_call(json!(1), "a__trigger-long-running-operation", long, Some(json!("t")));
    let mut pending = call.open();
    let notes: Vec<Value> = std::iter::from_fn(|| pending.next()).collect();
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn the_typescript_sdk_over_sse() {
    if !complete(NODE) {
        return;
    }
    let peer = everything_ts("sse");
    let daemon = with(json!({ "a": { "url": format!("{}/sse", peer.origin) } }));
    daemon.wait_ready(&["a"]);
    let mut client = daemon.client();
    assert_eq!(client.tools().len(), 13);
    assert_eq!(client.text("a__get-sum", json!({ "a": 2, "b": 40 })), "The sum of 2 and 40 is 42.");
    assert_eq!(client.text("a__echo", json!({ "message": "\u{e9}" })), "Echo: \u{e9}");
}
