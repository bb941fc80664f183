//! Servers as lines: one row each, and below a server that is not fine, why and what to do. Pure.
//!
//! Nothing that a person needs is ever cut: a long name gets a line of its own, and reasons and hints are wrapped at
//! words.

use super::grid;
use super::output::{Colour, tame};
use crate::base::text::span;
use crate::base::time::Wall;
use serde::Deserialize;
use std::time::{Duration, UNIX_EPOCH};

/// One entry of `servers` in the status object, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServerRow {
    pub name: String,
    pub state: String,
    pub groups: Vec<String>,
    pub usage: Option<super::status::Usage>,
    pub phase: Option<String>,
    /// RFC 3339.
    pub since: Option<String>,
    pub pid: Option<u32>,
    pub life: Option<u64>,
    pub tools: u64,
    pub restarts: u64,
    pub last_error: Option<Trouble>,
    /// How far its image is.
    pub progress: Option<String>,
    /// RFC 3339.
    pub next_retry_at: Option<String>,
    pub place_in_line: Option<usize>,
    pub starts_in_ms: Option<u64>,
    pub reason: Option<Trouble>,
    /// The file that says why it was given up.
    pub report: Option<String>,
    pub switch: Option<SwitchRow>,
}

/// `switch` of a server: the life beside the one that serves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SwitchRow {
    pub state: String,
    pub phase: Option<String>,
    pub life: Option<u64>,
    pub reason: Option<Trouble>,
}

impl SwitchRow {
    /// Whether the life that was asked for does not serve, or not yet.
    pub fn is_behind(&self) -> bool {
        matches!(self.state.as_str(), "starting" | "failed") || self.reason.is_some()
    }

    fn text(&self) -> String {
        let life = self.life.map_or_else(|| "a life".to_owned(), |life| format!("life {life}"));
        let phase = self.phase.as_ref().map(|phase| format!(" ({phase})")).unwrap_or_default();
        let why = self.reason.as_ref().map(|why| format!(": {}", why.text())).unwrap_or_default();
        match self.state.as_str() {
            "starting" => format!("{life} starts beside it{phase}"),
            "draining" => format!("{life} before it answers its last calls"),
            "failed" => format!("a new life did not become ready, and this one serves on{why}"),
            _ => format!("{life} beside it ends{phase}{why}"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Trouble {
    pub kind: String,
    pub message: String,
    pub hint: String,
}

impl Trouble {
    pub fn text(&self) -> String {
        let message = if self.message.is_empty() { &self.kind } else { &self.message };
        if self.hint.is_empty() { message.clone() } else { format!("{message} ({})", self.hint) }
    }
}

/// One entry of `removals` in the status object: a container that should be gone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RemovalRow {
    engine: String,
    id: String,
    name: String,
    /// RFC 3339.
    since: String,
    tries: u32,
    last_error: Option<String>,
    state: String,
}

impl RemovalRow {
    /// `container NAME (ID) on ENGINE, since 3m20s, 7 tries: why`
    pub fn text(&self, now: Wall) -> String {
        let id = self.id.get(..12).unwrap_or(&self.id);
        let mut text = format!("container {} ({id}) on {}", self.name, self.engine);
        if let Some(since) = wall(&self.since) {
            text.push_str(&format!(", since {}", span(between(since, now))));
        }
        match self.tries {
            0 => {}
            1 => text.push_str(", 1 try"),
            tries => text.push_str(&format!(", {tries} tries")),
        }
        match &self.last_error {
            Some(error) => text.push_str(&format!(": {error}")),
            None if self.state == "unverified" => text.push_str(": removed, and not seen to be gone"),
            None => {}
        }
        text
    }
}

/// Whether a server in this state needs no explanation.
pub fn is_fine(state: &str) -> bool {
    matches!(state, "ready" | "sleeping" | "disabled" | "stopping")
}

pub fn is_up(state: &str) -> bool {
    matches!(state, "ready" | "sleeping")
}

/// The moment of an RFC 3339 text.
pub(super) fn wall(text: &str) -> Option<Wall> {
    let at = humantime::parse_rfc3339(text).ok()?;
    Some(Wall(at.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64))
}

pub(super) fn between(from: Wall, to: Wall) -> Duration {
    Duration::from_millis(to.0.saturating_sub(from.0))
}

/// Why the server is not fine, what to do, and when it is tried again, and what is beside it; `None` if it is fine and
/// alone, or says nothing.
pub fn why(row: &ServerRow, now: Wall) -> Option<String> {
    let mut parts: Vec<String> = row.switch.iter().map(SwitchRow::text).collect();
    if is_fine(&row.state) {
        return parts.pop();
    }
    parts.extend(row.progress.clone());
    parts.extend(row.reason.iter().map(Trouble::text));
    let same = |error: &&Trouble| {
        row.reason.as_ref().is_some_and(|reason| {
            reason.message == error.message
                || (!error.message.is_empty() && reason.message.contains(&error.message))
        })
    };
    if let Some(error) = row.last_error.as_ref().filter(|error| !same(error)) {
        parts.push(error.text());
    }
    if let Some(place) = row.place_in_line {
        let soon = Duration::from_millis(row.starts_in_ms.unwrap_or_default());
        parts.push(format!("place {place} in the line of starts, its turn in about {}", span(soon)));
    }
    let given_up = row.state == "auto_disabled";
    if let Some(at) = row.next_retry_at.as_deref().and_then(wall) {
        let left = between(now, at);
        let what = if given_up { "one try" } else { "retry" };
        parts.push(if left.is_zero() {
            format!("{what} is due")
        } else {
            format!("{what} in {}", span(left))
        });
    }
    if given_up {
        parts.extend(row.report.iter().map(|report| format!("report: {report}")));
        parts.push(format!("try now with: mcpvisor upstream restart {}", row.name));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn colour(state: &str) -> Colour {
    match state {
        "ready" | "sleeping" => Colour::Green,
        "disabled" => Colour::Dim,
        "backoff" | "parked" | "auto_disabled" => Colour::Red,
        _ => Colour::Yellow,
    }
}

const HEADINGS: [&str; 6] = ["SERVER", "STATE", "SINCE", "PID", "TOOLS", "RESTARTS"];
/// The table with its headings, or one line that there is nothing to list.
pub fn table(
    rows: &[ServerRow],
    now: Wall,
    columns: usize,
    paint: &dyn Fn(&str, Colour) -> String,
) -> String {
    if rows.is_empty() {
        return "no servers\n".to_owned();
    }
    let row = |row: &ServerRow| grid::Row {
        cells: cells(row, now),
        colour: colour(&row.state),
        why: why(row, now),
    };
    grid::table(HEADINGS, rows.iter().map(row).collect(), columns, paint)
}

fn cells(row: &ServerRow, now: Wall) -> [String; 6] {
    let phase = row.phase.as_deref().filter(|phase| !phase.is_empty());
    let state = match phase {
        Some(phase) => format!("{} ({})", row.state, phase),
        None => row.state.clone(),
    };
    let since = row.since.as_deref().and_then(wall).map(|since| span(between(since, now)));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        tame(&row.name),
        tame(&state),
        or_dash(since),
        or_dash(row.pid.map(|pid| pid.to_string())),
        row.tools.to_string(),
        row.restarts.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_795_169_907_000);

    fn at(ms: i64) -> Option<String> {
        Some(Wall(NOW.0.checked_add_signed(ms).unwrap()).rfc3339())
    }

    fn trouble(message: &str, hint: &str) -> Option<Trouble> {
        Some(Trouble { kind: "exited".to_owned(), message: message.to_owned(), hint: hint.to_owned() })
    }

    fn server(name: &str, state: &str) -> ServerRow {
        ServerRow {
            name: name.to_owned(),
            state: state.to_owned(),
            since: at(-200_000),
            ..ServerRow::default()
        }
    }

    fn check(rows: &[ServerRow], columns: usize, expected: &str) {
        let text = table(rows, NOW, columns, &|text, _| text.to_owned());
        assert_eq!(text, expected.trim_start_matches('\n'), "got:\n{text}");
    }

    #[test]
    fn tables() {
        check(&[], 80, "no servers\n");
        let ready = ServerRow {
            pid: Some(4711),
            tools: 13,
            restarts: 2,
            last_error: trouble("old", ""),
            ..server("time", "ready")
        };
        let connecting = ServerRow { phase: Some("handshaking".to_owned()), ..server("git", "connecting") };
        let backoff = ServerRow {
            last_error: trouble(
                "git: exited with code 1: No module named mcp_server_git",
                "pip install mcp-server-git",
            ),
            reason: trouble(
                "git: exited with code 1: No module named mcp_server_git",
                "pip install mcp-server-git",
            ),
            next_retry_at: at(12_400),
            ..server("git-2", "backoff")
        };
        check(
            &[ready, connecting, backoff],
            80,
            "
SERVER  STATE                     SINCE   PID  TOOLS  RESTARTS
time    ready                     3m20s  4711     13         2
git     connecting (handshaking)  3m20s     -      0         0
git-2   backoff                   3m20s     -      0         0
    git: exited with code 1: No module named mcp_server_git (pip install
    mcp-server-git); retry in 12s
",
        );
    }

    #[test]
    fn who_is_beside_a_server() {
        let row = |name: &str, state: &str, life, phase: Option<&str>, reason| {
            let phase = phase.map(ToOwned::to_owned);
            let switch = SwitchRow { state: state.to_owned(), phase, life, reason };
            ServerRow { switch: Some(switch), ..server(name, "ready") }
        };
        let why = || trouble("spawn git: no such program", "is it installed?");
        check(
            &[
                row("a", "starting", Some(7), Some("handshaking"), None),
                row("b", "draining", Some(6), Some("ready"), None),
                row("c", "stopping", Some(7), Some("term"), None),
                row("d", "failed", None, None, why()),
            ],
            80,
            "
SERVER  STATE  SINCE  PID  TOOLS  RESTARTS
a       ready  3m20s    -      0         0
    life 7 starts beside it (handshaking)
b       ready  3m20s    -      0         0
    life 6 before it answers its last calls
c       ready  3m20s    -      0         0
    life 7 beside it ends (term)
d       ready  3m20s    -      0         0
    a new life did not become ready, and this one serves on: spawn git: no such
    program (is it installed?)
",
        );
    }

    #[test]
    fn long_names_and_strange_bytes() {
        let long = ServerRow {
            reason: trouble("ten\x1b[2J failures\nin 30 min", ""),
            last_error: trouble("", "look at its log"),
            next_retry_at: at(-5),
            ..server("a-name-that-is-longer-than-its-column", "auto_disabled")
        };
        check(
            &[long],
            60,
            "
SERVER            STATE          SINCE  PID  TOOLS  RESTARTS
a-name-that-is-longer-than-its-column
                  auto_disabled  3m20s    -      0         0
    ten[2J failures in 30 min; exited (look at its log); one
    try is due; try now with: mcpvisor upstream restart
    a-name-that-is-longer-than-its-column
",
        );
    }
}
