//! Servers that do what a test says (tests/peers/echo.py), and what they were sent.

use super::daemon::Daemon;
use super::{TempDir, until};
use serde_json::{Value, json};

/// mcpvisor with scripted servers behind it; all of them may ask their clients for everything.
pub fn behind(servers: &[(&str, &[(&str, &str)])]) -> Daemon {
    behind_with(servers, |_| ())
}

/// [`behind`], with a config that the test has changed.
pub fn behind_with(servers: &[(&str, &[(&str, &str)])], change: impl FnOnce(&mut Value)) -> Daemon {
    let tmp = TempDir::new();
    let entries = servers.iter().map(|(name, options)| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/echo.py");
        let mut args = vec!["-S".to_owned(), "-B".to_owned(), script.to_owned()];
        args.extend(["log".to_owned(), log_of(&tmp, name)]);
        args.extend(options.iter().flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()]));
        let features = json!(["sampling", "elicitation", "roots"]);
        json!({"name": name, "command": "python3", "args": args, "client_features": features})
    });
    let mut config = json!({"mcpServers": entries.collect::<Vec<_>>()});
    change(&mut config);
    let daemon = Daemon::start_in_with_env(tmp, &config, &[GIVES_BACK]);
    daemon.wait_ready(&servers.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    daemon
}

/// glibc keeps what was freed, in the hope of more of the same; then nobody can see what we keep.
const GIVES_BACK: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

fn log_of(tmp: &TempDir, server: &str) -> String {
    tmp.join(&format!("{server}.received"))
}

/// Every line that the server was sent so far, over all its lives.
pub fn received(daemon: &Daemon, server: &str) -> Vec<String> {
    let text = std::fs::read_to_string(log_of(&daemon.tmp, server)).unwrap_or_default();
    text.split_terminator('\n').map(ToOwned::to_owned).collect()
}

/// Those of them that have this text.
pub fn received_with(daemon: &Daemon, server: &str, text: &str) -> Vec<String> {
    received(daemon, server).into_iter().filter(|line| line.contains(text)).collect()
}

/// Waits until the server was sent so many lines with this text, and gives them.
pub fn wait_received(daemon: &Daemon, server: &str, text: &str, count: usize) -> Vec<String> {
    until(&format!("{server} to be sent {text:?} {count} times"), || {
        let lines = received_with(daemon, server, text);
        (lines.len() >= count).then_some(lines)
    })
}
