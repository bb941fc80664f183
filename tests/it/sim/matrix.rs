//! The matrix: every phase against every event, printed and compared whole with `tests/it/data/matrix.txt`.
//! A change of behaviour is a readable diff there; `UPDATE_EXPECT=1` writes it anew.

use super::cells::row_name;
use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;
use mcpvisor::server::machine::{Action, Event, Policy, Server, step};
use std::fmt::Write;
use std::time::Duration;

const OWN: Life = Life(7);
const OLD: Life = Life(0);
const HOUR: Duration = Duration::from_secs(3_600);

/// What the rows are made of: how to get there from a new server, one event per second (`Due` waits as long as it must).
struct Row {
    about: &'static str,
    needs_engine: bool,
    lazy: bool,
    asleep: bool,
    path: Vec<Event>,
}

fn rows() -> Vec<Row> {
    use Event::*;
    let own = FaultKind::Exited;
    let host = FaultKind::HostResources;
    let queued = vec![Want(true)];
    let spawning = [queued.clone(), vec![Admitted(OWN)]].concat();
    let handshaking = [spawning.clone(), vec![Spawned(OWN)]].concat();
    let discovering = [handshaking.clone(), vec![FirstSign(OWN), Greeted(OWN)]].concat();
    let ready = [discovering.clone(), vec![Discovered(OWN)]].concat();
    let row = |about, base: &[Event], more: &[Event]| Row {
        about,
        needs_engine: false,
        lazy: false,
        asleep: false,
        path: [base, more].concat(),
    };
    let engine = |about, base: &[Event], more: &[Event]| Row { needs_engine: true, ..row(about, base, more) };
    let trouble = FaultKind::ConnectTimeout;
    let back =
        [ready.clone(), vec![EngineAway, Exited(OWN, own), Gone(OWN), EngineUp, Admitted(Life(8))]].concat();
    // So many failures after an outage; after each the next try is due, but for the last.
    let climb = |failures: u64| {
        let mut path = vec![SpawnFailed(Life(8), trouble), EngineUp];
        for life in 9..8 + failures {
            path.extend([Due, Admitted(Life(life)), SpawnFailed(Life(life), trouble), EngineUp]);
        }
        path
    };
    let host_again = [Due, Admitted(Life(19)), SpawnFailed(Life(19), host), EngineUp];
    let attempt = |life: u64| [Admitted(Life(life)), SpawnFailed(Life(life), FaultKind::SpawnFailed)];
    vec![
        row("nobody wants it", &[], &[]),
        Row { asleep: true, lazy: true, ..row("lazy, its tools are known", &[], &[]) },
        row("its entry is broken", &[Block(Some(FaultKind::BadConfig))], &[]),
        row("in line", &queued, &[]),
        engine("in line, on an engine", &queued, &[]),
        row("no sign yet", &spawning, &[]),
        engine("its image is being pulled", &spawning, &[Pulling(OWN)]),
        row("spawned, no sign yet", &handshaking, &[]),
        row("spawned, its slot is returned", &handshaking, &[FirstSign(OWN)]),
        row("greeted", &discovering, &[]),
        engine("greeted, its engine is away", &discovering, &[EngineAway]),
        row("waits for its probe", &ready, &[]),
        row("its probe is sent", &ready, &[Due]),
        engine("its container is paused", &ready, &[Paused(OWN)]),
        engine("its container goes on", &ready, &[Paused(OWN), Unpaused(OWN)]),
        engine("it goes on and does not answer", &ready, &[Paused(OWN), Unpaused(OWN), Due, Due]),
        engine("it was paused while it was greeted", &handshaking, &[Paused(OWN)]),
        engine("its engine is away, it is not", &ready, &[EngineAway]),
        engine("its engine is back", &ready, &[EngineAway, EngineUp]),
        engine("its engine is back, and it does not answer", &ready, &[EngineAway, EngineUp, Due]),
        engine("its engine is paused, and so it is", &ready, &[EngineAway, Paused(OWN)]),
        engine("a probe was missed, on an engine", &ready, &[Due, Due]),
        row("two probes missed, the third is sent", &ready, &[Due, Due, Due, Due, Due]),
        Row { lazy: true, ..row("lazy", &ready, &[]) },
        row(
            "it failed before, not settled",
            &spawning,
            &[
                SpawnFailed(OWN, FaultKind::SpawnFailed),
                Due,
                Admitted(Life(8)),
                Spawned(Life(8)),
                Greeted(Life(8)),
                Discovered(Life(8)),
            ],
        ),
        Row { lazy: true, asleep: true, ..row("lazy", &queued, &[]) },
        row("asked to stop before its birth", &spawning, &[Want(false)]),
        row("too slow, and not yet born", &spawning, &[Due]),
        row("asked to stop", &ready, &[Want(false)]),
        row("asked to restart", &ready, &[Restart]),
        row("its handshake failed", &handshaking, &[Failed(OWN, FaultKind::HandshakeFailed)]),
        Row { lazy: true, ..row("idle", &ready, &[Idle(OWN)]) },
        row("it does not go", &ready, &[Restart, Due]),
        row("it does not go at all", &ready, &[Restart, Due, Due]),
        engine("it does not go at all, and its engine is away", &ready, &[Restart, Due, Due, EngineAway]),
        engine("it ended with its engine, which is back", &ready, &[EngineAway, Exited(OWN, own), EngineUp]),
        row("it died", &ready, &[Exited(OWN, own)]),
        row("it is stopped and dead", &ready, &[Want(false), Exited(OWN, own)]),
        engine("it died, on an engine", &ready, &[Exited(OWN, own)]),
        row("one failure", &ready, &[Exited(OWN, own), Gone(OWN)]),
        row(
            "one failure, and it asked to wait",
            &handshaking,
            &[NotBefore(OWN, HOUR), Failed(OWN, own), Exited(OWN, own), Gone(OWN)],
        ),
        engine(
            "its engine is away, and it asked to wait",
            &handshaking,
            &[NotBefore(OWN, HOUR), EngineAway, Exited(OWN, own), Gone(OWN)],
        ),
        engine(
            "its engine is back, and it asked to wait",
            &handshaking,
            &[NotBefore(OWN, HOUR), EngineAway, Exited(OWN, own), Gone(OWN), EngineUp],
        ),
        engine("one failure, on an engine", &ready, &[Exited(OWN, own), Gone(OWN), EngineUp]),
        row("the host has no room", &spawning, &[SpawnFailed(OWN, host)]),
        engine("the host has no room, nor blame", &spawning, &[SpawnFailed(OWN, host), EngineUp]),
        engine(
            "its image could not be pulled",
            &spawning,
            &[Pulling(OWN), Due, SpawnFailed(OWN, FaultKind::Stopped), EngineUp],
        ),
        engine("its engine is away", &queued, &[EngineAway]),
        engine("hurt by an outage that is over", &ready, &[EngineAway, EngineUp]),
        engine("hurt, and its death is heard late", &ready, &[EngineAway, EngineUp, Exited(OWN, own)]),
        engine("asked whether it is well", &ready, &[Reconnect]),
        engine("the same, and its engine is away", &ready, &[Reconnect, EngineAway]),
        engine("back, and its first try failed", &back, &[SpawnFailed(Life(8), trouble), EngineUp]),
        engine("the fourth rung", &back, &climb(4)),
        engine("the ladder is at its end", &back, &climb(5)),
        engine("the host still has no room, at its end", &back, &[&climb(4)[..], &host_again].concat()),
        engine(
            "back, and it exits by itself",
            &back,
            &[Spawned(Life(8)), Exited(Life(8), own), Gone(Life(8))],
        ),
        engine("it died, or its engine did", &ready, &[Exited(OWN, own), Gone(OWN)]),
        row("no such command", &spawning, &[SpawnFailed(OWN, FaultKind::NotFound)]),
        row("its entry is broken", &queued, &[Block(Some(FaultKind::BadConfig))]),
        row(
            "three failures, never ready",
            &queued,
            &[&attempt(5)[..], &[Due], &attempt(6), &[Due], &attempt(7)].concat(),
        ),
        row(
            "given up, and tried once",
            &queued,
            &[&attempt(4)[..], &[Due], &attempt(5), &[Due], &attempt(6), &[Due, Admitted(OWN)]].concat(),
        ),
    ]
}

fn events(newest: Life, next: Life) -> Vec<Event> {
    use Event::*;
    let fault = FaultKind::Exited;
    let mut all =
        vec![Want(true), Want(false), Block(Some(FaultKind::NotSupported)), Block(None), Restart, Wake];
    all.extend([Reconnect, EngineUp, EngineAway, Due, Admitted(next), Admitted(OLD)]);
    for life in [newest, OLD] {
        all.extend([Idle(life), FirstSign(life), Spawned(life), SpawnFailed(life, FaultKind::SpawnFailed)]);
        all.extend([Greeted(life), Discovered(life), Failed(life, FaultKind::Protocol), ProbeOk(life)]);
        all.push(NotBefore(life, HOUR));
        all.extend([Exited(life, fault), Gone(life), Pulling(life), Paused(life), Unpaused(life)]);
    }
    all
}

/// A server in words: state, phase, reason, and what it waits for.
fn words(server: &Server, now: Time) -> String {
    let mut words = vec![server.state().to_owned()];
    words.extend((!server.phase().is_empty()).then(|| server.phase().to_owned()));
    words.extend(server.reason().map(|fault| format!("({})", fault.name())));
    words.extend(server.next_deadline().map(|(at, why)| format!("{why} {:?}", at - now)));
    words.join(" ")
}

fn print() -> String {
    let mut text = String::from(
        "What each phase answers to each event. Life 7 (or 8) is the server's own, life 0 an older one, life 9 (or the next) a new one.\n\
         Dice 0.5, so a backoff is exact; a Due is given when it is due. Noted = it will matter later.\n\
         Not listed = nothing is changed and nothing is done.\n",
    );
    for row in rows() {
        let policy = Policy { lazy: row.lazy, ..Policy::default() };
        let (mut server, mut now) = (Server::new(row.needs_engine, row.asleep, Time::ZERO), Time::ZERO);
        for event in &row.path {
            now = arrival(&server, *event, now);
            server = step(server, *event, now, &policy, 0.5, &mut Vec::new());
        }
        writeln!(text, "\n{}: {}", words(&server, now), row.about).expect("a String takes it");
        let own = server.life().unwrap_or(OWN);
        let given = row.path.iter().map(|event| if let Event::Admitted(life) = event { life.0 } else { 0 });
        let next = Life(given.max().unwrap_or(0).max(8) + 1);
        let mut ignored = 0;
        for event in events(own, next) {
            let at = arrival(&server, event, now);
            let mut actions: Vec<Action> = Vec::new();
            let after = step(server.clone(), event, at, &policy, 0.5, &mut actions);
            let (was, is) = (words(&server, at), words(&after, at));
            if after == server && actions.is_empty() {
                ignored += 1;
                continue;
            }
            let is = match (was == is, after == server) {
                (true, true) => "same".to_owned(),
                (true, false) => "noted".to_owned(),
                (false, _) => is,
            };
            let actions = if actions.is_empty() { String::new() } else { format!("  {actions:?}") };
            writeln!(text, "    {:<28} -> {is}{actions}", format!("{event:?}")).expect("a String takes it");
        }
        writeln!(text, "    ignored: {ignored}").expect("a String takes it");
    }
    text
}

/// `Due` comes when it is due, everything else a second later.
fn arrival(server: &Server, event: Event, now: Time) -> Time {
    match (event, server.next_deadline()) {
        (Event::Due, Some((at, _))) => at,
        _ => now + Duration::from_millis(100),
    }
}

#[test]
fn matrix_is_as_committed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/matrix.txt");
    let printed = print();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &printed).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    if let Some((a, b)) = printed.lines().zip(committed.lines()).find(|(a, b)| a != b) {
        panic!(
            "the matrix moved:\n  committed {b}\n  printed   {a}\nUPDATE_EXPECT=1 writes it anew; review the diff"
        );
    }
    assert_eq!(printed, committed, "the matrix moved; UPDATE_EXPECT=1 writes it anew");
}

#[test]
fn every_phase_has_a_row() {
    let mut seen: Vec<&str> = Vec::new();
    for row in rows() {
        let policy = Policy { lazy: row.lazy, ..Policy::default() };
        let (mut server, mut now) = (Server::new(row.needs_engine, row.asleep, Time::ZERO), Time::ZERO);
        for event in &row.path {
            now = arrival(&server, *event, now);
            server = step(server, *event, now, &policy, 0.5, &mut Vec::new());
        }
        seen.push(row_name(&server));
    }
    for name in super::cells::ROWS {
        assert!(seen.contains(&name), "no row of the matrix is in {name}");
    }
}
