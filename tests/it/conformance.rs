//! The conformance suite through mcpvisor: our reference server (tests/peers/everything) over stdio behind it, asked
//! over HTTP on its own endpoint, must look as it does directly (tests/conformance: the runner and its baselines).
//! What this needs is installed by scripts/test; without it the test says so and passes, unless `IT_PEERS=required`.
#![allow(clippy::disallowed_methods, reason = "tests start plain processes")]

use crate::support::daemon::{Daemon, run};
use serde_json::json;
use std::path::Path;
use std::process::Command;

const PYTHON: &str = "tests/.cache/venv-servers/bin/python";
const NODE: &str = "tests/.cache/npm/node_modules/.bin/node";

/// Whether the runner's needs are there; if not, says so.
fn installed() -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let missing: Vec<&str> = [PYTHON, NODE].into_iter().filter(|file| !root.join(file).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("IT_PEERS").is_none_or(|value| value != "required"),
        "not installed: {missing:?}"
    );
    eprintln!("skipped: not installed: {missing:?} (run: scripts/test)");
    false
}

/// Every check of every scenario, with the payload that the suite saw: as from the server directly.
fn check_same_as_direct(daemon: &Daemon, revision: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The suite checks DNS rebinding for the name, not for the number.
    let url = daemon.server_url("ref").replace("127.0.0.1", "localhost");
    let ran = run(Command::new(root.join(PYTHON))
        .arg(root.join("tests/conformance/run"))
        .args(["--compare", &url, "--revision", revision]));
    assert_eq!(ran.code, 0, "{revision}:\n{}{}", ran.stdout, ran.stderr);
}

#[test]
fn conformance_suite_sees_the_server_behind() {
    if !installed() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let args = ["-B".into(), root.join("tests/peers/everything"), "--stdio".into()];
    let config = json!({ "mcpServers": { "ref": { "command": root.join(PYTHON), "args": args } } });
    let mut daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["ref"]);
    check_same_as_direct(&daemon, "2025-11-25");
    daemon.stop();
    daemon.assert_nothing_left(std::time::Duration::from_secs(2));
}
