//! The config while the daemon runs: what a change of each key means (tables), when the file is looked at (a matrix),
//! and the real daemon under files that are written in every way.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests read the clock, write files, and fail by panicking"
)]

mod keys;
mod limits;
mod live;
mod storm;
mod when;

use crate::support::daemon::{Daemon, server};
use crate::support::http;
use serde_json::Value;
use std::path::PathBuf;

/// Compares with the committed text; `UPDATE_EXPECT=1` writes it anew.
#[track_caller]
fn check_file(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, committed, "{name} is not what came; UPDATE_EXPECT=1 writes it");
}

/// The config file of a daemon.
fn file(daemon: &Daemon) -> PathBuf {
    PathBuf::from(daemon.tmp.join("mcp_config.json"))
}

/// Written beside and renamed, as good programs do.
fn put(daemon: &Daemon, config: &Value) {
    put_text(daemon, &config.to_string());
}

fn put_text(daemon: &Daemon, text: &str) {
    let beside = daemon.tmp.join("beside");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file(daemon)).unwrap();
}

/// The status by HTTP: quicker than a command.
fn status(daemon: &Daemon) -> Value {
    let answer = http::request(daemon.address(), "GET", "/api/v1/status", &[], "");
    serde_json::from_str(&answer.body).unwrap()
}

/// The beginning of the SHA-256, as the status shows it.
fn hash(text: &str) -> String {
    use mcpvisor::daemon::reload::when::Content;
    match mcpvisor::daemon::setup::content(text) {
        Content::Bytes(bytes) => bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
        other => panic!("{other:?}"),
    }
}

/// Puts a config, and waits until it is in force.
fn put_and_wait(daemon: &Daemon, config: &Value) -> Value {
    put(daemon, config);
    let hash = hash(&config.to_string());
    daemon.wait_until("the config to be in force", |status| status["config"]["hash"] == hash.as_str())
}

/// What must not change of a server that is left alone.
fn identity(status: &Value, name: &str) -> (Value, Value, Value) {
    let row = server(status, name);
    (row["pid"].clone(), row["life"].clone(), row["restarts"].clone())
}

/// Lines of the log with these words.
fn logged(daemon: &Daemon, words: &str) -> usize {
    let (stdout, stderr) = daemon.output();
    stdout.lines().chain(stderr.lines()).filter(|line| line.contains(words)).count()
}

/// The names of the daemon's threads.
fn threads(daemon: &Daemon) -> Vec<String> {
    let tasks = format!("/proc/{}/task", daemon.daemon_pid());
    let tasks = std::fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path().join("comm"));
    // One that ends while it is looked at has no name any more.
    tasks.filter_map(|comm| Some(std::fs::read_to_string(comm).ok()?.trim().to_owned())).collect()
}
