//! The cells of the matrix: phases x events. Which of them a world can reach, and which it did.

use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;
use mcpvisor::server::machine::{Event, Server};

/// Rows: the phase, or the state where a state has no parts.
pub const ROWS: [&str; 23] = [
    "disabled",
    "queued",
    "spawning",
    "pulling",
    "paused",
    "thawing",
    "handshaking",
    "discovering",
    "ready",
    "sleeping",
    "unborn",
    "close_input",
    "term",
    "kill",
    "clear",
    "backoff",
    "host",
    "reconnect",
    "engine",
    "doubt",
    "parked",
    "entry",
    "auto_disabled",
];

/// Columns: the event; `own` and `old` say of which life it speaks, `ripe` whether its time has come.
pub const COLUMNS: [&str; 41] = [
    "want",
    "unwant",
    "block",
    "unblock",
    "restart",
    "wake",
    "engine_up",
    "engine_away",
    "admitted new",
    "admitted old",
    "due ripe",
    "due early",
    "idle own",
    "idle old",
    "first_sign own",
    "first_sign old",
    "spawned own",
    "spawned old",
    "spawn_failed own",
    "spawn_failed old",
    "greeted own",
    "greeted old",
    "discovered own",
    "discovered old",
    "failed own",
    "failed old",
    "probe_ok own",
    "probe_ok old",
    "exited own",
    "exited old",
    "gone own",
    "gone old",
    "pulling own",
    "pulling old",
    "paused own",
    "paused old",
    "unpaused own",
    "unpaused old",
    "asked back",
    "not_before own",
    "not_before old",
];

pub fn row_name(server: &Server) -> &'static str {
    if server.phase().is_empty() { server.state() } else { server.phase() }
}

#[derive(Clone, Debug)]
pub struct Cells(pub [u64; ROWS.len()]);

impl Cells {
    pub fn new() -> Cells {
        Cells([0; ROWS.len()])
    }

    /// `newest` is the newest life that the server was given.
    pub fn visit(&mut self, server: &Server, event: Event, newest: Life, now: Time) {
        let name = row_name(server);
        let row = ROWS.iter().position(|row| *row == name).expect("every phase is a row");
        self.0[row] |= 1 << column(server, event, newest, now);
    }

    pub fn merge(&mut self, other: &Cells) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// Visited and reachable, reachable, and the names of those that were missed.
    pub fn coverage(&self) -> (usize, usize, Vec<String>) {
        let (mut hit, mut all, mut missed) = (0, 0, Vec::new());
        for (row, row_name) in ROWS.iter().enumerate() {
            for (column, column_name) in COLUMNS.iter().enumerate() {
                if !reachable(row_name, column_name) {
                    continue;
                }
                all += 1;
                match self.0[row] & (1 << column) {
                    0 => missed.push(format!("{row_name} x {column_name}")),
                    _ => hit += 1,
                }
            }
        }
        (hit, all, missed)
    }
}

fn column(server: &Server, event: Event, newest: Life, now: Time) -> u32 {
    let of = |base: u32, life: Life| base + u32::from(server.life() != Some(life));
    match event {
        Event::Want(true) => 0,
        Event::Want(false) => 1,
        Event::Block(Some(_)) => 2,
        Event::Block(None) => 3,
        Event::Restart => 4,
        Event::Wake => 5,
        Event::EngineUp => 6,
        Event::EngineAway => 7,
        Event::Admitted(life) => 8 + u32::from(life <= newest),
        Event::Due => 10 + u32::from(server.next_deadline().is_none_or(|(at, _)| now < at)),
        Event::Idle(life) => of(12, life),
        Event::FirstSign(life) => of(14, life),
        Event::Spawned(life) => of(16, life),
        Event::SpawnFailed(life, _) => of(18, life),
        Event::Greeted(life) => of(20, life),
        Event::Discovered(life) => of(22, life),
        Event::Failed(life, _) => of(24, life),
        Event::ProbeOk(life) => of(26, life),
        Event::Exited(life, _) => of(28, life),
        Event::Gone(life) => of(30, life),
        Event::Pulling(life) => of(32, life),
        Event::Paused(life) => of(34, life),
        Event::Unpaused(life) => of(36, life),
        Event::Reconnect => 38,
        Event::NotBefore(life, _) => of(39, life),
    }
}

/// What the shell can do at all: events of one life come in order, and only while that life is.
fn reachable(row: &str, column: &str) -> bool {
    let alive = |rows: &[&str]| rows.contains(&row);
    let stopping = alive(&["close_input", "term", "kill", "clear"]);
    let frozen = alive(&["paused", "thawing"]);
    let started = alive(&["handshaking", "discovering", "ready"]) || stopping;
    match column {
        // An echo finds these phases only if it comes within two seconds of a rare event.
        "pulling old" | "paused old" | "unpaused old" | "not_before old" => {
            alive(&["disabled", "ready", "backoff", "engine"])
        }
        _ if row == "thawing" && column.ends_with(" old") => false,
        // Two admissions in flight, after a quick off and on: the later phases are too far away.
        "admitted new" => alive(&["disabled", "queued", "spawning", "handshaking", "unborn", "entry"]),
        "due ripe" => {
            stopping || started || alive(&["spawning", "pulling", "backoff", "host", "reconnect", "doubt"])
        }
        "spawn_failed own" => alive(&["spawning", "pulling", "unborn"]),
        "paused own" | "unpaused own" => stopping || frozen || row == "ready",
        "not_before own" => alive(&["handshaking", "ready", "close_input"]),
        "pulling own" => alive(&["spawning", "unborn"]),
        "spawned own" => started || alive(&["spawning", "pulling", "unborn"]),
        "first_sign own" | "greeted own" | "failed own" => started,
        "discovered own" => stopping || alive(&["discovering", "ready"]),
        "idle own" | "probe_ok own" => stopping || row == "ready",
        "exited own" => started,
        "gone own" => row == "clear",
        _ => true,
    }
}
