//! The directory of the logs as a whole: what goes when all of them together are too large, or when nobody writes to one
//! any more.

use super::clock;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A log that nobody writes any more is kept this long. 30 days: long enough to look into what was taken out of the config.
const KEPT_UNWRITTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// How dear a file is; the cheapest go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Of a server that is not known any more.
    Unwritten,
    /// An earlier part of a log that is written.
    Earlier,
    Written,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    bytes: u64,
    worth: Worth,
    /// Since its last line.
    age: Duration,
}

/// Removes what is too much. `written`: the files that somebody writes. Returns those of them that were removed.
pub fn tidy(dir: &Path, written: &BTreeSet<PathBuf>, bytes_max: u64) -> Vec<PathBuf> {
    let mut gone = Vec::new();
    for found in too_much(look(dir, written), bytes_max) {
        // One that cannot be removed is tried at the next look.
        if fs::remove_file(&found.path).is_ok() && found.worth == Worth::Written {
            gone.push(found.path);
        }
    }
    gone
}

/// The logs of servers; the main log is bounded by itself.
fn look(dir: &Path, written: &BTreeSet<PathBuf>) -> Vec<Found> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall().0);
    let found = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (stem, rest) = name.split_once(".log")?;
        let is_log = rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok());
        if !stem.starts_with("server-") || !is_log {
            return None;
        }
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let worth = match (written.contains(&dir.join(format!("{stem}.log"))), rest) {
            (false, _) => Worth::Unwritten,
            (true, "") => Worth::Written,
            (true, _) => Worth::Earlier,
        };
        // One of the future was written just now.
        let age = meta.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
        Some(Found { path: entry.path(), bytes: meta.len(), worth, age })
    };
    // A directory that cannot be read has nothing that could be removed.
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| found(entry.ok()?)).collect()
}

/// What goes: what nobody has written to for long, and then the cheapest and oldest until the rest is not too much.
fn too_much(mut all: Vec<Found>, bytes_max: u64) -> Vec<Found> {
    all.sort_by(|a, b| (a.worth, b.age).cmp(&(b.worth, a.age)));
    let mut left: u64 = all.iter().map(|found| found.bytes).sum();
    all.retain(|found| {
        let old = found.worth == Worth::Unwritten && found.age > KEPT_UNWRITTEN;
        let goes = old || left > bytes_max;
        if goes {
            left -= found.bytes;
        }
        goes
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, bytes: u64, worth: Worth, days: u64) -> Found {
        Found { path: PathBuf::from(name), bytes, worth, age: Duration::from_secs(days * 24 * 3600) }
    }

    #[track_caller]
    fn check(bytes_max: u64, gone: &[&str]) {
        let all = vec![
            found("written", 40, Worth::Written, 5),
            found("quiet", 40, Worth::Written, 90),
            found("earlier", 30, Worth::Earlier, 6),
            found("earlier.2", 30, Worth::Earlier, 7),
            found("left", 10, Worth::Unwritten, 29),
            found("left long ago", 10, Worth::Unwritten, 31),
        ];
        let names: Vec<String> =
            too_much(all, bytes_max).iter().map(|found| found.path.display().to_string()).collect();
        assert_eq!(names, gone, "{bytes_max}");
    }

    #[test]
    fn the_cheapest_and_oldest_go_first() {
        check(1000, &["left long ago"]);
        check(150, &["left long ago"]);
        check(140, &["left long ago", "left"]);
        check(139, &["left long ago", "left", "earlier.2"]);
        check(80, &["left long ago", "left", "earlier.2", "earlier"]);
        check(79, &["left long ago", "left", "earlier.2", "earlier", "quiet"]);
        check(0, &["left long ago", "left", "earlier.2", "earlier", "quiet", "written"]);
    }

    #[test]
    fn only_logs_of_servers_are_looked_at() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-logdir-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        for name in
            ["main.log", "main.log.1", "server-a.log", "server-a.log.1", "server-b.log.2", "server-c.txt"]
        {
            fs::write(dir.join(name), "x").unwrap();
        }
        let written = BTreeSet::from([dir.join("server-a.log")]);
        let mut all: Vec<(String, Worth)> = look(&dir, &written)
            .iter()
            .map(|found| (found.path.file_name().unwrap().to_string_lossy().into_owned(), found.worth))
            .collect();
        all.sort();
        let expected = [
            ("server-a.log", Worth::Written),
            ("server-a.log.1", Worth::Earlier),
            ("server-b.log.2", Worth::Unwritten),
        ];
        assert_eq!(all, expected.map(|(name, worth)| (name.to_owned(), worth)));
        assert_eq!(tidy(&dir, &written, 1), Vec::<PathBuf>::new());
        assert!(dir.join("server-a.log").exists() && !dir.join("server-a.log.1").exists());
        assert_eq!(tidy(&dir, &written, 0), [dir.join("server-a.log")]);
        fs::remove_dir_all(dir).unwrap();
    }
}
