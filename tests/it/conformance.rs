//! The conformance suite through mcpvisor: our reference server (tests/peers/everything) over stdio behind it, asked
//! over HTTP on its own endpoint, must look as it does directly (tests/conformance: the runner and its baselines).
//! What this needs is installed by scripts/test; without it the test says so and passes, unless `IT_PEERS=required`.
#![allow(clippy::disallowed_methods, reason = "tests start plain processes")]

use crate::support::all_installed;
use crate::support::daemon::{Daemon, run};
use crate::support::raw::{self, Raw};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PYTHON: &str = "tests/.cache/venv-servers/bin/python";
const NODE: &str = "tests/.cache/npm/node_modules/.bin/node";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(files: &[&str]) -> bool {
    all_installed(files.iter().map(|file| root().join(file)))
}

/// The reference server over stdio: its program and arguments.
fn reference() -> (PathBuf, [PathBuf; 3]) {
    (root().join(PYTHON), ["-B".into(), root().join("tests/peers/everything"), "--stdio".into()])
}

/// mcpvisor with the reference server behind it, as `ref`.
fn behind_mcpvisor() -> Daemon {
    let (program, args) = reference();
    let daemon = Daemon::start(
        &json!({ "mcpServers": { "ref": { "command": program, "args": args,
            "client_features": ["sampling", "elicitation", "roots"] } } }),
        &[],
    );
    daemon.wait_ready(&["ref"]);
    daemon
}

/// Every check of every scenario, with the payload that the suite saw: as from the server directly.
fn check_same_as_direct(daemon: &Daemon, revision: &str) {
    // The suite looks for DNS rebinding at this name.
    let url = daemon.server_url("ref").replace("127.0.0.1", "localhost");
    let ran = run(Command::new(root().join(PYTHON)).arg(root().join("tests/conformance/run")).args([
        "--behind",
        "--compare",
        &url,
        "--revision",
        revision,
    ]));
    assert_eq!(ran.code, 0, "{revision}:\n{}{}", ran.stdout, ran.stderr);
}

#[test]
fn the_suite_sees_the_server_behind() {
    if !installed(&[PYTHON, NODE]) {
        return;
    }
    let mut daemon = behind_mcpvisor();
    check_same_as_direct(&daemon, "2025-11-25");
    daemon.stop();
    daemon.assert_nothing_left(Duration::from_secs(2));
}

/// What the suite reports of a payload is sometimes only that there is one: so all of it, byte by byte.
#[test]
fn every_fixture_comes_through_unchanged() {
    if !installed(&[PYTHON]) {
        return;
    }
    let mut daemon = behind_mcpvisor();
    let (program, args) = reference();
    let direct = Raw::stdio(Command::new(program).args(args));
    let through = Raw::http(&daemon.server_url("ref"));
    let different = raw::differences("ref", direct, through, &questions());
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    daemon.stop();
    daemon.assert_nothing_left(Duration::from_secs(2));
}

fn questions() -> Vec<(&'static str, Value)> {
    let tools = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_error_handling",
        "test_tool_with_logging",
        "test_tool_with_progress",
        "test_reconnection",
        "there_is_no_such_tool",
    ];
    let resources = [
        "test://static-text",
        "test://static-binary",
        "test://watched-resource",
        "test://template/1%2F2/data",
        "test://there-is-no-such-resource",
    ];
    let prompts = [
        ("test_simple_prompt", json!({})),
        ("test_prompt_with_arguments", json!({ "arg1": "\u{e9}\u{1F600}", "arg2": "\"\n" })),
        ("test_prompt_with_embedded_resource", json!({ "resourceUri": "test://x?y=1#z" })),
        ("test_prompt_with_image", json!({})),
        ("test_prompt_with_arguments", json!({ "arg1": "the other is missing" })),
        ("there_is_no_such_prompt", json!({})),
    ];
    let watched = json!({ "uri": "test://watched-resource" });
    let argument = json!({ "name": "arg1", "value": "par" });
    let mut all = vec![
        ("ping", json!({})),
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
        ("logging/setLevel", json!({ "level": "debug" })),
        ("resources/subscribe", watched.clone()),
        ("resources/unsubscribe", watched),
        (
            "completion/complete",
            json!({
                "ref": { "type": "ref/prompt", "name": "test_prompt_with_arguments" },
                "argument": argument,
            }),
        ),
    ];
    let schema = json!({ "name": "json_schema_2020_12_tool", "arguments": { "n": 0.1, "s": "\u{2028}" } });
    all.push(("tools/call", schema));
    all.extend(tools.map(|name| ("tools/call", json!({ "name": name, "arguments": {} }))));
    all.extend(resources.map(|uri| ("resources/read", json!({ "uri": uri }))));
    all.extend(
        prompts.map(|(name, arguments)| ("prompts/get", json!({ "name": name, "arguments": arguments }))),
    );
    all
}
