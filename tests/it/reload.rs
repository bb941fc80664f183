//! The config while the daemon runs: what a change of each key means (tables), when the file is looked at (a matrix),
//! and the real daemon under files that are written in every way.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read the clock, write files, and fail by panicking"
)]

mod keys;

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
