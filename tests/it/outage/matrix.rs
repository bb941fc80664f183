//! The matrix of an engine: every state against every event, printed and compared whole with
//! `tests/it/data/outages.txt`. A change of behaviour is a readable diff there; `UPDATE_EXPECT=1` writes it anew.

use mcpvisor::base::time::Time;
use mcpvisor::engine::outage::{Action, Cause, Event, News, Policy, Presence, step};
use std::fmt::Write;
use std::time::Duration;

/// How to get there from a new engine, one event per 100 ms (`Due` waits as long as it must).
pub fn rows() -> Vec<(&'static str, Vec<Event>)> {
    use Event::*;
    let down = Failed(Cause::Down);
    let asking = vec![Due];
    let opening = [asking.clone(), vec![Answered]].concat();
    let sweeping = [opening.clone(), vec![Opened]].concat();
    let up = [sweeping.clone(), vec![Swept]].concat();
    let away = [up.clone(), vec![Vanished, down]].concat();
    let back = [away.clone(), vec![Due, Answered, Opened]].concat();
    let row = |about, base: &[Event], more: &[Event]| (about, [base, more].concat());
    vec![
        row("new", &[], &[]),
        row("asked for the first time", &asking, &[]),
        row("asked for the first time, and something happened", &asking, &[Appeared]),
        row("answered, its stream is being opened", &opening, &[]),
        row("swept before the first up", &sweeping, &[]),
        row("its stream ended while it was swept", &sweeping, &[Broken]),
        row("up", &up, &[]),
        row("up, without its events", &opening, &[NoStream, Swept]),
        row("up, asked again", &up, &[Due]),
        row("up, somebody is in doubt", &up, &[Asked]),
        row("up, somebody is in doubt since the ping was sent", &up, &[Due, Asked]),
        row("up, its stream is tried again", &opening, &[NoStream, Swept, Due, Answered]),
        row("its stream ended", &up, &[Broken]),
        row("down", &away, &[]),
        row("down, the second step", &away, &[Due, down]),
        row("down, somebody is in doubt", &away, &[Asked]),
        row("down, its socket has appeared", &away, &[Appeared, down]),
        row("down, it answers again", &away, &[Due, Answered]),
        row("it said that it goes", &up, &[Leaving]),
        row("paused", &up, &[Due, Failed(Cause::Paused)]),
        row("denied", &up, &[Due, Failed(Cause::Denied)]),
        row("silent, and waited for", &up, &[Due, Due]),
        row("silent, nothing is waited for", &up, &[Due, Failed(Cause::Silent)]),
        row("away at the start", &asking, &[down]),
        row("back, nobody has reported", &back, &[]),
        row("two of three are back", &back, &[Recovered { done: 2, of: 3 }]),
        row("two of three are back, asked again", &back, &[Recovered { done: 2, of: 3 }, Asked]),
    ]
}

pub fn events() -> Vec<Event> {
    use Event::*;
    let mut all = vec![Answered];
    all.extend(Cause::ALL.map(Failed));
    all.extend([Opened, NoStream, Swept, Broken, Said, Leaving, Appeared, Vanished, Asked]);
    all.extend([Recovered { done: 1, of: 3 }, Recovered { done: 3, of: 3 }, Due]);
    all
}

/// An engine in words: state, why, how far, and what it waits for.
pub fn words(presence: &Presence, now: Time) -> String {
    let mut words = vec![presence.state().to_owned()];
    if let Some(cause) = presence.cause() {
        let proven = if presence.is_outage() { "" } else { "?" };
        words.push(format!("({}{proven})", cause.name()));
    }
    words.extend(presence.recovery().map(|(done, of)| format!("{done} of {of}")));
    words.extend(presence.streaming().then(|| "hearing".to_owned()));
    words.extend(presence.next_deadline().map(|(at, why)| format!("{why} {:?}", at - now)));
    words.join(" ")
}

fn action(action: Action, now: Time) -> String {
    match action {
        Action::Ping { until } => format!("ping {:?}", until - now),
        Action::OpenEvents => "open_events".to_owned(),
        Action::Sweep { until } => format!("sweep {:?}", until - now),
        Action::Announce(News::Up) => "UP".to_owned(),
        Action::Announce(News::Away(cause)) => format!("AWAY {}", cause.name()),
    }
}

fn told(presence: Presence, event: Event, now: Time, out: &mut Vec<Action>) -> Presence {
    step(presence, event, now, &Policy::default(), 0.5, out)
}

/// `Due` comes when it is due, everything else 100 ms later.
fn arrival(presence: &Presence, event: Event, now: Time) -> Time {
    match (event, presence.next_deadline()) {
        (Event::Due, Some((at, _))) => at,
        _ => now + Duration::from_millis(100),
    }
}

pub fn reach(path: &[Event]) -> (Presence, Time) {
    let (mut presence, mut now) = (Presence::new(Time::ZERO), Time::ZERO);
    for event in path {
        now = arrival(&presence, *event, now);
        presence = told(presence, *event, now, &mut Vec::new());
    }
    (presence, now)
}

fn print() -> String {
    let mut text = String::from(
        "What an engine's machine answers to each event. Dice 0.5, so pauses are exact; a Due is given when it is due.\n\
         UP and AWAY are what those who live on it hear. \"down?\" = only its event stream ended. Noted = it will\n\
         matter later. Not listed = nothing is changed and nothing is done.\n",
    );
    for (about, path) in rows() {
        let (presence, now) = reach(&path);
        writeln!(text, "\n{}: {about}", words(&presence, now)).unwrap();
        let mut ignored = 0;
        for event in events() {
            let at = arrival(&presence, event, now);
            let mut actions = Vec::new();
            let after = told(presence.clone(), event, at, &mut actions);
            if after == presence && actions.is_empty() {
                ignored += 1;
                continue;
            }
            let (was, is) = (words(&presence, at), words(&after, at));
            let is = match (was == is, after == presence) {
                (true, true) => "same".to_owned(),
                (true, false) => "noted".to_owned(),
                (false, _) => is,
            };
            let actions: Vec<String> = actions.into_iter().map(|one| action(one, at)).collect();
            let done = if actions.is_empty() { String::new() } else { format!("  [{}]", actions.join(", ")) };
            writeln!(text, "    {:<28} -> {is}{done}", format!("{event:?}")).unwrap();
        }
        writeln!(text, "    ignored: {ignored}").unwrap();
    }
    text
}

#[test]
fn matrix_is_as_committed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/outages.txt");
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
