//! What is written down of a server that was given up: one file, `failure_<short name>_<seconds since 1970>.json`, so that
//! who comes later finds what it failed of. Reading and writing is done by the log's thread; a report that cannot be
//! written is lost, and nothing else.

use crate::base::fault::Fault;
use crate::base::id::{Life, Slug};
use crate::base::limits::{REPORT_LINES_MAX, REPORT_LOG_BYTES_MAX, REPORTS_MAX, REPORTS_OF_ONE_MAX};
use crate::base::time::Wall;
use crate::sys::logfile;
use crate::sys::replace::Draft;
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where reports are, and what of them does not change while the entry does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    pub dir: PathBuf,
    /// For how long.
    pub keep: Duration,
    /// What the entry runs, as far as it may be read.
    pub runs: String,
}

/// One try that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// RFC 3339.
    pub at: String,
    pub life: Option<Life>,
    #[serde(flatten)]
    pub fault: Fault,
}

/// What is known of it when it is given up.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    pub mcpvisor: &'static str,
    pub server: String,
    /// RFC 3339.
    pub at: String,
    pub state: &'static str,
    pub reason: Option<Fault>,
    pub runs: String,
    pub failures: u64,
    pub consecutive_failures: u32,
    pub next_try_at: Option<String>,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    pub what_to_do: Vec<String>,
    /// The last events of its machine; it can be played again.
    pub tape: Vec<String>,
}

/// Writes it, below what its log ends with, and removes what is too old or too much. Returns where it is.
pub fn write(
    findings: &Findings,
    slug: &Slug,
    log: Option<&Path>,
    reports: &Reports,
    at: Wall,
) -> io::Result<PathBuf> {
    let lines = log.map(|log| logfile::last_lines(log, REPORT_LOG_BYTES_MAX, REPORT_LINES_MAX));
    let mut report = serde_json::to_value(findings).map_err(io::Error::other)?;
    report["log"] = json!(lines.unwrap_or_default());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&reports.dir)?;
    let path = reports.dir.join(format!("failure_{slug}_{}.json", at.0 / 1000));
    tidy(&reports.dir, slug, reports.keep, at);
    let mut text = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
    text.push('\n');
    // Who looks for reports finds no half of one.
    Draft::write(&path, text.as_bytes(), None)?.put()?;
    Ok(path)
}

/// The last one of this server.
pub fn newest(dir: &Path, slug: &Slug) -> Option<PathBuf> {
    let all = reports_in(dir);
    all.into_iter()
        .filter(|report| report.slug == slug.as_str())
        .max_by_key(|report| report.at)
        .map(|report| report.path)
}

struct Found {
    path: PathBuf,
    slug: String,
    /// Seconds since 1970.
    at: u64,
}

/// Files that are called like one of ours; no others are looked at, or removed.
fn reports_in(dir: &Path) -> Vec<Found> {
    let found = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (slug, at) = name.strip_prefix("failure_")?.strip_suffix(".json")?.rsplit_once('_')?;
        Some(Found { path: entry.path(), slug: slug.to_owned(), at: at.parse().ok()? })
    };
    // A directory that is not there has none.
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| found(entry.ok()?)).collect()
}

/// Makes room for one more of this server.
fn tidy(dir: &Path, slug: &Slug, keep: Duration, now: Wall) {
    let mut all = reports_in(dir);
    all.sort_by_key(|report| std::cmp::Reverse(report.at));
    let (mut of_one, mut kept) = (0, 0);
    for report in all {
        let own = report.slug == slug.as_str();
        let old = (now.0 / 1000).saturating_sub(report.at) > keep.as_secs();
        if old || kept + 1 >= REPORTS_MAX || (own && of_one + 1 >= REPORTS_OF_ONE_MAX) {
            // One that cannot be removed is tried with the next report.
            let _ = fs::remove_file(report.path);
        } else {
            kept += 1;
            of_one += usize::from(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::FaultKind;
    use serde_json::Value;

    fn findings() -> Findings {
        let fault = Fault::new(FaultKind::Exited, "git exited with code 1").hint("look");
        Findings {
            mcpvisor: "1",
            server: "git".to_owned(),
            at: Wall(0).rfc3339(),
            state: "auto_disabled",
            reason: Some(fault.clone()),
            runs: "uvx git".to_owned(),
            failures: 3,
            consecutive_failures: 3,
            next_try_at: None,
            attempts: vec![Attempt { at: Wall(0).rfc3339(), life: Some(Life(7)), fault }],
            what_to_do: vec!["look".to_owned()],
            tape: Vec::new(),
        }
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-report-{}", std::process::id()));
        let reports = Reports { dir: dir.join("a"), keep: Duration::from_secs(100), runs: String::new() };
        let of = |slug: &str, second: u64| {
            write(&findings(), &Slug::of(slug), None, &reports, Wall(second * 1000)).unwrap()
        };
        let first = of("old", 1);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&first).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::write(reports.dir.join("failure_mine.json"), "not ours").unwrap();
        (200..205).for_each(|second| _ = of("git", second));
        of("other", 205);
        let mut names: Vec<String> = fs::read_dir(&reports.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "failure_git_202.json",
            "failure_git_203.json",
            "failure_git_204.json",
            "failure_mine.json",
            "failure_other_205.json",
        ];
        assert_eq!(names, expected);
        assert_eq!(newest(&reports.dir, &Slug::of("git")), Some(reports.dir.join("failure_git_204.json")));
        assert_eq!(newest(&reports.dir, &Slug::of("none")), None);
        let text = fs::read_to_string(reports.dir.join("failure_other_205.json")).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["attempts"][0]["kind"], "exited");
        assert_eq!((&report["attempts"][0]["life"], &report["log"]), (&json!(7), &json!([])));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_disk_loses_the_report_only() {
        let reports = Reports { dir: "/dev/full".into(), keep: Duration::from_secs(1), runs: String::new() };
        assert!(write(&findings(), &Slug::of("git"), None, &reports, Wall(0)).is_err());
    }
}
