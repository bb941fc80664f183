//! What every integration test stands on: the daemon as a process, a raw MCP client, the demo server spoken to
//! directly, and a search for processes that should not be there.
//!
//! Nothing sleeps to be in time: pipes and sockets are waited for with a deadline, and what only a poll can see
//! (a foreign process, `status`) is polled by [`until`], the one such loop of the tests.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests start plain processes, read the clock, and fail by panicking; not every file uses every function"
)]

pub mod daemon;
pub mod desktop;
pub mod dockerd;
pub mod engine;
pub mod fake_engine;
pub mod fleet;
pub mod http;
pub mod images;
pub mod mcp;
pub mod peer;
pub mod processes;
pub mod raw;
pub mod real_engine;
pub mod registry;
pub mod released;
pub mod stdio;
pub mod upstream;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long anything may take before the test says that it will not come. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mcpvisor");

/// Whether these files, which scripts/test installs, are there; if not, says so. Where they are required
/// (`IT_PEERS=required`), a missing one fails the test.
pub fn all_installed(files: impl IntoIterator<Item = PathBuf>) -> bool {
    let missing: Vec<PathBuf> = files.into_iter().filter(|file| !file.exists()).collect();
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

/// Asks `probe` again and again until it gives something; panics with `what` when `patience` is over.
pub fn until_within<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lets a span pass in which something is counted; nothing is waited for.
pub fn measure_over(span: Duration) {
    std::thread::sleep(span);
}

/// [`until_within`] the usual patience.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(what, PATIENCE, probe)
}

/// Held by a test whose dead instance has processes that must live on for a while, and by one that ends what any dead
/// instance of this host has left.
pub fn dead_instances() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed with it says nothing against the next.
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A directory of this test alone, removed when dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("mcpvisor-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of `name` in it, as text.
    pub fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A directory that is left behind in /tmp is no reason to fail a test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A config entry that runs our demo server with `switches`.
pub fn demo_entry(switches: &str) -> serde_json::Value {
    let args: Vec<&str> = std::iter::once("demo-server").chain(switches.split_whitespace()).collect();
    serde_json::json!({ "command": BINARY, "args": args })
}

/// A whole config of demo servers: name and switches of each.
pub fn demo_config(servers: &[(&str, &str)]) -> serde_json::Value {
    let map: serde_json::Map<String, serde_json::Value> =
        servers.iter().map(|(name, switches)| ((*name).to_owned(), demo_entry(switches))).collect();
    serde_json::json!({ "mcpServers": map })
}
