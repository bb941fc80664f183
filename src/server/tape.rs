//! The tape: the last events of one machine, as text that can be read, sent with a report, and played again.
//!
//! A tape begins with the machine as it was before its oldest event, so it replays however much came before it.
//! It owns no time and knows no file. Text, one item per line:
//!
//! ```text
//! mcpvisor tape 1
//! policy {…}
//! server {…}
//! policy {…}                                            the numbers are others from here on
//! 12.345678901 0.25 {"exited":[7,"signaled"]} -> stopping clear
//! ```

use crate::base::limits::TAPE_EVENTS_MAX;
use crate::base::time::Time;
use crate::server::machine::{Event, Policy, Server, step};
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

const TITLE: &str = "mcpvisor tape 1";

/// One event, and where it led.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The numbers from this event on, where they changed.
    pub policy: Option<Box<Policy>>,
    pub at: Time,
    pub dice: f64,
    pub event: Event,
    pub state: &'static str,
    pub phase: &'static str,
}

/// At most `TAPE_EVENTS_MAX` entries; the oldest is folded into `before`.
#[derive(Clone, Debug)]
pub struct Tape {
    before: Server,
    /// Before the oldest event.
    policy: Policy,
    entries: VecDeque<Entry>,
}

impl Tape {
    /// `server` and its numbers as they are before the first event.
    pub fn new(server: &Server, policy: &Policy) -> Tape {
        Tape { before: server.clone(), policy: policy.clone(), entries: VecDeque::new() }
    }

    /// Call it after each `step`, with what `step` was given and the server that it gave.
    pub fn record(&mut self, event: Event, at: Time, policy: &Policy, dice: f64, after: &Server) {
        if self.entries.len() == TAPE_EVENTS_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            if let Some(policy) = oldest.policy {
                self.policy = *policy;
            }
            let mut unused = Vec::new();
            self.before =
                step(self.before.clone(), oldest.event, oldest.at, &self.policy, oldest.dice, &mut unused);
        }
        let last = self.entries.iter().rev().find_map(|entry| entry.policy.as_deref());
        let policy = (last.unwrap_or(&self.policy) != policy).then(|| Box::new(policy.clone()));
        self.entries.push_back(Entry { policy, at, dice, event, state: after.state(), phase: after.phase() });
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn print(&self) -> String {
        let mut text = format!("{TITLE}\npolicy {}\nserver {}\n", json(&self.policy), json(&self.before));
        for entry in &self.entries {
            if let Some(policy) = &entry.policy {
                writeln!(text, "policy {}", json(policy)).expect("writing to a String cannot fail");
            }
            let (seconds, nanos) = (entry.at.0.as_secs(), entry.at.0.subsec_nanos());
            let event = json(&entry.event);
            writeln!(text, "{seconds}.{nanos:09} {} {event} -> {} {}", entry.dice, entry.state, entry.phase)
                .expect("writing to a String cannot fail");
        }
        text
    }
}

/// A tape as it was read: what to play, and where each event is said to lead.
#[derive(Clone, Debug)]
pub struct Reading {
    pub policy: Policy,
    pub server: Server,
    pub lines: Vec<Line>,
}

/// What stands below the head of a tape.
#[derive(Clone, Debug)]
pub enum Line {
    Policy(Box<Policy>),
    Event {
        at: Time,
        dice: f64,
        event: Event,
        /// The text `state phase`.
        led: String,
    },
}

impl Reading {
    /// Reads a printed tape. The error names the line.
    pub fn parse(text: &str) -> Result<Reading, String> {
        let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
        if lines.next().map(|(_, line)| line) != Some(TITLE) {
            return Err(format!("line 1: expected `{TITLE}`"));
        }
        let policy = value(lines.next(), "policy ")?;
        let server = value(lines.next(), "server ")?;
        let lines = lines.map(|(n, line)| match line.strip_prefix("policy ") {
            Some(_) => value(Some((n, line)), "policy ").map(|policy| Line::Policy(Box::new(policy))),
            None => entry(line).ok_or_else(|| format!("line {n}: not an event: {line}")),
        });
        Ok(Reading { policy, server, lines: lines.collect::<Result<_, _>>()? })
    }

    /// Plays it on the machine of this build; the first event that leads elsewhere is the error.
    pub fn replay(&self) -> Result<Server, String> {
        let (mut server, mut policy) = (self.server.clone(), &self.policy);
        let mut unused = Vec::new();
        for line in &self.lines {
            let (at, dice, event, expected) = match line {
                Line::Policy(changed) => {
                    policy = changed;
                    continue;
                }
                Line::Event { at, dice, event, led } => (at, dice, event, led),
            };
            server = step(server, *event, *at, policy, *dice, &mut unused);
            let led = format!("{} {}", server.state(), server.phase());
            if led.trim_end() != expected {
                return Err(format!(
                    "at {} ms {event:?}: the tape says {expected}, replayed: {led}",
                    at.as_ms()
                ));
            }
        }
        Ok(server)
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text keys always serializes")
}

fn value<T: serde::de::DeserializeOwned>(line: Option<(usize, &str)>, name: &str) -> Result<T, String> {
    let (n, line) = line.ok_or_else(|| format!("the tape ends before its `{name}`line"))?;
    let text = line.strip_prefix(name).ok_or_else(|| format!("line {n}: expected `{name}`"))?;
    serde_json::from_str(text).map_err(|why| format!("line {n}: {name}: {why}"))
}

fn entry(line: &str) -> Option<Line> {
    let (line, led) = line.split_once(" -> ")?;
    let (at, line) = line.split_once(' ')?;
    let (dice, event) = line.split_once(' ')?;
    let (seconds, nanos) = at.split_once('.')?;
    let at = Time(Duration::new(seconds.parse().ok()?, nanos.parse().ok()?));
    let (dice, event) = (dice.parse().ok()?, serde_json::from_str(event).ok()?);
    Some(Line::Event { at, dice, event, led: led.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::FaultKind;
    use crate::base::id::Life;

    /// A server that is started and dies, over and over; its tape after `lives` of that.
    fn tape_of(lives: u64) -> (Tape, Server) {
        let mut policy = Policy { auto_disable: false, ..Policy::default() };
        let mut server = Server::new(true, false, Time::ZERO);
        let mut tape = Tape::new(&server, &policy);
        let mut now = Time::from_ms(1);
        let mut feed = |event, pause_ms| {
            now = now + Duration::from_millis(pause_ms);
            let dice = (now.as_ms() % 97) as f64 / 97.0;
            if matches!(event, Event::Admitted(Life(life)) if life % 3 == 0) {
                policy.connect_timeout += Duration::from_secs(1);
            }
            server = step(server.clone(), event, now, &policy, dice, &mut Vec::new());
            tape.record(event, now, &policy, dice, &server);
        };
        feed(Event::Want(true), 0);
        for life in (1..=lives).map(Life) {
            for event in [
                Event::Admitted(life),
                Event::Paused(life),
                Event::Unpaused(life),
                Event::Pulling(life),
                Event::Spawned(life),
                Event::Greeted(life),
                Event::Discovered(life),
                Event::Exited(life, FaultKind::Signaled),
                Event::Gone(life),
                Event::EngineUp,
            ] {
                feed(event, 3);
            }
            feed(Event::Due, 400_000);
        }
        (tape, server)
    }

    #[test]
    fn a_printed_tape_replays() {
        for lives in [1, 7, 8, 9, 40] {
            let (tape, server) = tape_of(lives);
            assert!(tape.entries().count() <= TAPE_EVENTS_MAX);
            let reading = Reading::parse(&tape.print()).unwrap();
            let events = reading.lines.iter().filter(|line| matches!(line, Line::Event { .. }));
            assert_eq!(events.count(), tape.entries().count());
            assert_eq!(reading.replay().unwrap(), server, "{lives} lives");
        }
    }

    #[test]
    fn a_tape_that_leads_elsewhere_says_where() {
        let (tape, _) = tape_of(1);
        let text = tape.print().replace("-> ready", "-> sleeping");
        let why = Reading::parse(&text).unwrap().replay().unwrap_err();
        assert!(why.contains("the tape says sleeping, replayed: ready"), "{why}");
    }

    #[test]
    fn what_is_not_a_tape() {
        #[track_caller]
        fn check(text: &str, why: &str) {
            let found = Reading::parse(text).unwrap_err();
            assert!(found.starts_with(why), "{found}");
        }
        check("", "line 1: expected");
        check("mcpvisor tape 1\n", "the tape ends before its `policy `line");
        check("mcpvisor tape 1\npolicy 3", "line 2: policy ");
        let (tape, _) = tape_of(1);
        check(&(tape.print() + "noise\n"), "line 16: not an event: noise");
    }
}
