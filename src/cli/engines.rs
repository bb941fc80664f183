//! Engines as lines: one row each, and below one that is away why, what to do, and when it is asked again; below another
//! what became of its outages. Pure.

use super::grid;
use super::output::{Colour, tame};
use super::rows::{Trouble, between, wall};
use crate::base::text::span;
use crate::base::time::Wall;
use serde::Deserialize;
use std::time::Duration;

/// One entry of `engines` in the status object, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EngineRow {
    /// `unix:///var/run/docker.sock`
    pub endpoint: String,
    pub state: String,
    pub cause: Option<String>,
    /// RFC 3339.
    pub since: Option<String>,
    pub reason: Option<Trouble>,
    pub version: Option<String>,
    /// RFC 3339.
    pub next_probe_at: Option<String>,
    pub containers: u64,
    pub recovery: Option<Progress>,
    pub outages: Outages,
}

/// Also those before the daemon's last start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outages {
    pub count: u64,
    /// RFC 3339.
    pub last_at: Option<String>,
    pub last_outage_ms: Option<u64>,
    pub last_recovery_ms: Option<u64>,
    pub recovered: u64,
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub done: u64,
    pub of: u64,
}

const HEADINGS: [&str; 5] = ["ENGINE", "STATE", "SINCE", "VERSION", "CONTAINERS"];

/// The table with its headings and an empty line behind it; nothing where there are no engines.
pub fn engines(
    rows: &[EngineRow],
    now: Wall,
    columns: usize,
    paint: &dyn Fn(&str, Colour) -> String,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |row: &EngineRow| grid::Row {
        cells: cells(row, now),
        colour: colour(&row.state),
        why: why(row, now),
    };
    let mut text = grid::table(HEADINGS, rows.iter().map(row).collect(), columns, paint);
    text.push('\n');
    text
}

fn cells(row: &EngineRow, now: Wall) -> [String; 5] {
    let state = match (&row.cause, row.recovery) {
        (Some(cause), _) => format!("{} ({cause})", row.state),
        (None, Some(Progress { done, of })) => format!("{} ({done} of {of})", row.state),
        (None, None) => row.state.clone(),
    };
    let since = row.since.as_deref().and_then(wall).map(|since| span(between(since, now)));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        tame(&row.endpoint),
        tame(&state),
        or_dash(since),
        or_dash(row.version.as_deref().map(tame)),
        row.containers.to_string(),
    ]
}

/// Why it is away, and what to do; of one that is there, what became of its outages.
fn why(row: &EngineRow, now: Wall) -> Option<String> {
    let Some(reason) = &row.reason else { return past(&row.outages, now) };
    let mut why = reason.text();
    match row.next_probe_at.as_deref().and_then(wall) {
        Some(at) if at > now => why.push_str(&format!("; asked again in {}", span(between(now, at)))),
        Some(_) | None => why.push_str("; being asked"),
    }
    Some(why)
}

/// `2 outages, the last 3h00m ago for 12s, recovered within 1s; 5 servers came back, 1 did not`
fn past(outages: &Outages, now: Wall) -> Option<String> {
    let last = outages.last_at.as_deref().and_then(wall).filter(|_| outages.count > 0)?;
    let ms = |ms: u64| span(Duration::from_millis(ms));
    let ago = span(between(last, now));
    let mut text = match outages.count {
        1 => format!("1 outage, {ago} ago"),
        count => format!("{count} outages, the last {ago} ago"),
    };
    if let Some(outage) = outages.last_outage_ms {
        text.push_str(&format!(" for {}", ms(outage)));
    }
    if let Some(recovery) = outages.last_recovery_ms {
        text.push_str(&format!(", recovered within {}", ms(recovery)));
    }
    match outages.recovered {
        0 => {}
        1 => text.push_str("; 1 server came back"),
        count => text.push_str(&format!("; {count} servers came back")),
    }
    match (outages.recovered, outages.failed) {
        (_, 0) => {}
        (0, failed) => text.push_str(&format!("; {failed} did not come back")),
        (_, failed) => text.push_str(&format!(", {failed} did not")),
    }
    Some(text)
}

fn colour(state: &str) -> Colour {
    match state {
        "up" => Colour::Green,
        "away" => Colour::Red,
        _ => Colour::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_795_169_907_000);

    fn at(ms: i64) -> Option<String> {
        Some(Wall(NOW.0.checked_add_signed(ms).unwrap()).rfc3339())
    }

    #[test]
    fn rows() {
        let up = EngineRow {
            endpoint: "unix:///var/run/docker.sock".to_owned(),
            state: "up".to_owned(),
            since: at(-3_600_000),
            version: Some("20.10.24".to_owned()),
            containers: 12,
            ..EngineRow::default()
        };
        let away = EngineRow {
            endpoint: "unix:///home/somebody/.docker/desktop/docker.sock".to_owned(),
            state: "away".to_owned(),
            cause: Some("paused".to_owned()),
            since: at(-200_000),
            reason: Some(Trouble {
                kind: "engine_away".to_owned(),
                message: "engine unix:///s is paused: ping: Docker Desktop is manually paused".to_owned(),
                hint: "resume Docker Desktop: click Resume in its whale menu or dashboard".to_owned(),
            }),
            next_probe_at: at(12_400),
            ..EngineRow::default()
        };
        let back = EngineRow {
            endpoint: "tcp://10.0.0.7:2375".to_owned(),
            state: "recovering".to_owned(),
            since: at(-1_200),
            recovery: Some(Progress { done: 2, of: 3 }),
            ..up.clone()
        };
        let outages = Outages {
            count: 2,
            last_at: at(-10_800_000),
            last_outage_ms: Some(12_300),
            last_recovery_ms: Some(850),
            recovered: 5,
            failed: 1,
        };
        let again = EngineRow { endpoint: "tcp://10.0.0.8:2375".to_owned(), outages, ..up.clone() };
        let text = engines(&[up, away, back, again], NOW, 80, &|text, _| text.to_owned());
        let expected = "
ENGINE                          STATE                SINCE   VERSION  CONTAINERS
unix:///var/run/docker.sock     up                   1h00m  20.10.24          12
unix:///home/somebody/.docker/desktop/docker.sock
                                away (paused)        3m20s         -           0
    engine unix:///s is paused: ping: Docker Desktop is manually paused (resume
    Docker Desktop: click Resume in its whale menu or dashboard); asked again in
    12s
tcp://10.0.0.7:2375             recovering (2 of 3)     1s  20.10.24          12
tcp://10.0.0.8:2375             up                   1h00m  20.10.24          12
    2 outages, the last 3h00m ago for 12s, recovered within 850ms; 5 servers
    came back, 1 did not

";
        assert_eq!(text, expected.trim_start_matches('\n'), "got:\n{text}");
        assert_eq!(engines(&[], NOW, 80, &|text, _| text.to_owned()), "");
    }
}
