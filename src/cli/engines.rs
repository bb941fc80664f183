//! Engines as lines: one row each, and below one that is away why, what to do, and when it is asked again. Pure.

use super::output::{Colour, tame, wrap};
use super::rows::{Trouble, between, wall};
use crate::base::text::span;
use crate::base::time::Wall;
use serde::Deserialize;

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
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub done: u64,
    pub of: u64,
}

const HEADINGS: [&str; 5] = ["ENGINE", "STATE", "SINCE", "VERSION", "CONTAINERS"];
const GAP: &str = "  ";
const INDENT: usize = 4;

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
    let cells: Vec<[String; 5]> = rows.iter().map(|row| cells(row, now)).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let others: usize = widths[1..].iter().map(|width| width + GAP.len()).sum();
    widths[0] = widths[0].min(columns.saturating_sub(others)).max(HEADINGS[0].len());
    let mut text =
        format!("{}\n", paint(&line(&HEADINGS.map(str::to_owned), &widths, |state| state), Colour::Bold));
    for (row, mut cells) in rows.iter().zip(cells) {
        if cells[0].chars().count() > widths[0] {
            text.push_str(&format!("{}\n", cells[0]));
            cells[0].clear();
        }
        text.push_str(&format!("{}\n", line(&cells, &widths, |state| paint(&state, colour(&row.state)))));
        if let Some(why) = why(row, now) {
            wrap(&tame(&why), columns, INDENT).iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
    }
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

fn why(row: &EngineRow, now: Wall) -> Option<String> {
    let mut why = row.reason.as_ref()?.text();
    match row.next_probe_at.as_deref().and_then(wall) {
        Some(at) if at > now => why.push_str(&format!("; asked again in {}", span(between(now, at)))),
        Some(_) | None => why.push_str("; being asked"),
    }
    Some(why)
}

fn colour(state: &str) -> Colour {
    match state {
        "up" => Colour::Green,
        "away" => Colour::Red,
        _ => Colour::Yellow,
    }
}

fn line(cells: &[String; 5], widths: &[usize; 5], paint: impl Fn(String) -> String) -> String {
    let [endpoint, state, since, version, containers] = cells;
    let [w_endpoint, w_state, w_since, w_version, w_containers] = *widths;
    let state = paint(format!("{state:w_state$}"));
    format!(
        "{endpoint:w_endpoint$}{GAP}{state}{GAP}{since:>w_since$}{GAP}{version:>w_version$}{GAP}{containers:>w_containers$}"
    )
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
        let text = engines(&[up, away, back], NOW, 80, &|text, _| text.to_owned());
        let expected = "
ENGINE                          STATE                SINCE   VERSION  CONTAINERS
unix:///var/run/docker.sock     up                   1h00m  20.10.24          12
unix:///home/somebody/.docker/desktop/docker.sock
                                away (paused)        3m20s         -           0
    engine unix:///s is paused: ping: Docker Desktop is manually paused (resume
    Docker Desktop: click Resume in its whale menu or dashboard); asked again in
    12s
tcp://10.0.0.7:2375             recovering (2 of 3)     1s  20.10.24          12

";
        assert_eq!(text, expected.trim_start_matches('\n'), "got:\n{text}");
        assert_eq!(engines(&[], NOW, 80, &|text, _| text.to_owned()), "");
    }
}
