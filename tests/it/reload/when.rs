//! The machine that says when the config file is looked at: `data/reload.txt` is its whole table, and a row of stirs
//! is played at each pace.

use super::check_file;
use mcpvisor::base::time::Time;
use mcpvisor::daemon::reload::when::{Action, Content, Event, Watch, step};
use std::fmt::Write;

const HERE: Content = Content::Bytes([1; 32]);

const EVENTS: &[(&str, Event)] = &[
    ("stirred", Event::Stirred),
    ("asked", Event::Asked),
    ("due", Event::Due),
    ("seen: the same", Event::Seen(HERE)),
    ("seen: another", Event::Seen(Content::Bytes([2; 32]))),
    ("seen: missing", Event::Seen(Content::Missing)),
    ("seen: unreadable", Event::Seen(Content::Unreadable(7))),
];

fn quiet(_: Time) -> Watch {
    Watch::new(HERE)
}

fn settling(since: Time) -> Watch {
    step(Watch::new(HERE), Event::Stirred, since, &mut Vec::new())
}

#[test]
fn matrix() {
    let mut text = String::new();
    let now = Time::from_ms(5000);
    let rows: [(&str, Watch); 4] = [
        ("quiet", quiet(now)),
        ("settling, for 50 ms", settling(Time::from_ms(4950))),
        ("settling, for 100 ms", settling(Time::from_ms(4900))),
        ("settling, without a pause for 1 s", {
            let since = settling(Time::from_ms(4000));
            step(since, Event::Stirred, Time::from_ms(4999), &mut Vec::new())
        }),
    ];
    for (name, watch) in rows {
        writeln!(text, "{name}").unwrap();
        for (said, event) in EVENTS {
            let mut actions = Vec::new();
            let after = step(watch, *event, now, &mut actions);
            let due = after.next_deadline().map(|at| format!(", due in {} ms", at.since(now).as_millis()));
            let acts: Vec<String> =
                actions.iter().map(|action| format!("{action:?}").to_lowercase()).collect();
            let acts = if acts.is_empty() { "-".to_owned() } else { acts.join(" ") };
            writeln!(text, "    {said:16} {acts:5} {}{}", after.phase(), due.unwrap_or_default()).unwrap();
        }
    }
    check_file("reload.txt", &text);
}

/// Stirs every `pace` ms for 10 s: how often it is looked, and how long after the last stir it is at the latest.
#[track_caller]
fn check(pace: u64, looks: usize, latest: u64) {
    let mut watch = Watch::new(HERE);
    let (mut seen, mut last_look) = (0, 0);
    for ms in 0..12_000 {
        let now = Time::from_ms(ms);
        let mut actions = Vec::new();
        if watch.next_deadline().is_some_and(|at| at <= now) {
            watch = step(watch, Event::Due, now, &mut actions);
        }
        if ms < 10_000 && ms % pace == 0 {
            watch = step(watch, Event::Stirred, now, &mut actions);
        }
        for action in actions {
            assert_eq!(action, Action::Look);
            seen += 1;
            last_look = ms;
        }
    }
    let last_stir = (9_999 / pace) * pace;
    assert_eq!((seen, last_look - last_stir), (looks, latest), "every {pace} ms");
    assert_eq!(watch.next_deadline(), None, "nothing is left to wait for");
}

#[test]
fn bursts_are_looked_at_once() {
    check(10_000, 1, 100);
    check(1_000, 10, 100);
    check(150, 67, 100);
    check(99, 10, 100);
    check(1, 10, 1);
}
