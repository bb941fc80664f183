//! What is kept of one server between two runs of the daemon: how long its starts took, what was counted against it,
//! and whether it was given up. It is believed as long as the entry is the same.

use super::face::Known;
use super::machine::{self, GivenUp, Past, Policy};
use super::sleep;
use super::starts::Starts;
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::HISTORY_FAULT_CHARS_MAX;
use crate::base::text::shorten;
use crate::base::time::{Time, Wall};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Tables of the store, by the server's name.
const STARTS: &str = "starts";
const TALLIES: &str = "tallies";
const LISTS: &str = "lists";

/// A row of `tallies`. Times in ms since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Tally {
    /// Stands for the entry.
    entry: u64,
    proven: bool,
    streak: u32,
    failed_at: Vec<u64>,
    given_up: u32,
    now: Option<Now>,
}

/// It is given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Now {
    fault: FaultKind,
    message: String,
    hint: String,
    since: u64,
    until: Option<u64>,
}

/// Of one server. Without a store everything is forgotten with the daemon.
pub struct History {
    store: Option<Store>,
    name: String,
    entry: u64,
    pub starts: Starts,
    kept: Tally,
}

/// What an earlier run of the daemon left.
pub struct Found {
    pub past: Past,
    /// Why it was given up, and when.
    pub why: Option<(Fault, Wall)>,
}

impl History {
    /// `program` stands for what is run, `entry` for everything that the config says of it. May wait for the disk.
    pub fn open(store: Option<Store>, name: &str, program: u64, entry: u64) -> History {
        let recall = |table| store.as_ref().and_then(|store| store.recall(table, name));
        let kept: Option<Tally> = recall(TALLIES).and_then(|json| serde_json::from_str(&json).ok());
        let starts = Starts::recall(recall(STARTS).as_deref(), program);
        let kept = kept.filter(|kept| kept.entry == entry).unwrap_or_default();
        History { store, name: name.to_owned(), entry, starts, kept }
    }

    /// The entry is another one now: what was learnt of the one before is not believed of it.
    pub fn renew(&mut self, program: u64, entry: u64) {
        self.starts.renew(program);
        if self.entry != entry {
            self.entry = entry;
            self.kept = Tally::default();
        }
    }

    /// Of a life beside the one that serves: it knows how long starts take, and keeps nothing.
    pub fn beside(&self, program: u64, entry: u64) -> History {
        let mut starts = self.starts.clone();
        starts.renew(program);
        History { store: None, name: self.name.clone(), entry, starts, kept: Tally::default() }
    }

    /// That life serves from here on: what is learnt of it is kept, and nothing more of the one before.
    pub fn hand_over(&mut self, to: &mut History) {
        to.store = self.store.take();
        if self.entry == to.entry {
            to.kept = self.kept.clone();
        }
        if to.starts != self.starts {
            to.remember(STARTS, &to.starts);
        }
    }

    /// What it starts with.
    pub fn found(&self, policy: &Policy, wall: Wall) -> Found {
        let window = policy.failure_window.as_millis() as u64;
        let recent = |at: &&u64| wall.0.saturating_sub(**at) <= window;
        let now = self.kept.now.as_ref().filter(|_| policy.auto_disable);
        let past = Past {
            proven: self.kept.proven,
            streak: self.kept.streak,
            tally: self.kept.failed_at.iter().filter(recent).count(),
            given_up: self.kept.given_up,
            now: now.map(|now| GivenUp {
                fault: now.fault,
                left: now
                    .until
                    .filter(|_| policy.probation)
                    .map(|until| Duration::from_millis(until.saturating_sub(wall.0))),
            }),
        };
        let why = now.map(|now| {
            let fault = Fault::new(now.fault, now.message.clone()).hint(now.hint.clone());
            (fault, Wall(now.since))
        });
        Found { past, why }
    }

    /// What it said of itself in an earlier run.
    pub fn known(&self) -> Option<Known> {
        let json = self.store.as_ref()?.recall(LISTS, &self.name)?;
        sleep::recall(&json, self.entry)
    }

    /// Keeps that, for a start without it.
    pub fn keep_known(&self, known: &Known) {
        if let (Some(store), Some(json)) = (&self.store, sleep::keep(self.entry, known))
            && let Err(fault) = store.remember(LISTS, &self.name, &json)
        {
            log::warn!("{}: {fault}; the next daemon starts it to know its tools", self.name);
        }
    }

    /// Keeps what is counted against it, if that has changed. `why`: the last fault.
    pub fn keep(&mut self, machine: &machine::Server, why: Option<&Fault>, now: Time, wall: Wall) {
        if !machine.wanted() {
            // It is off, perhaps because the daemon ends: what was known of it holds.
            return;
        }
        let past = machine.past(now);
        // The clocks drift apart: only another decision is another row.
        let same = (past.proven, past.streak, past.given_up, past.tally, past.now.is_some())
            == (
                self.kept.proven,
                self.kept.streak,
                self.kept.given_up,
                self.kept.failed_at.len(),
                self.kept.now.is_some(),
            );
        if same {
            return;
        }
        let given_up = past.now.map(|given_up| Now {
            fault: given_up.fault,
            message: shorten(why.map_or(given_up.fault.name(), |why| &why.message), HISTORY_FAULT_CHARS_MAX),
            hint: shorten(why.map_or("", |why| &why.hint), HISTORY_FAULT_CHARS_MAX),
            since: before(wall, now.since(machine.since())),
            until: given_up.left.map(|left| wall.0 + left.as_millis() as u64),
        });
        self.kept = Tally {
            entry: self.entry,
            proven: past.proven,
            streak: past.streak,
            failed_at: machine.tally().iter().map(|at| before(wall, now.since(*at))).collect(),
            given_up: past.given_up,
            now: given_up,
        };
        self.remember(TALLIES, &self.kept);
    }

    /// It became ready: its first sign of life and readiness came so long after its spawn.
    pub fn started(&mut self, sign: Duration, ready: Duration) {
        self.starts.add(sign, ready);
        self.remember(STARTS, &self.starts);
    }

    fn remember(&self, table: &str, value: &impl Serialize) {
        let Some(store) = &self.store else { return };
        let json = serde_json::to_string(value).expect("plain data serialises");
        if let Err(fault) = store.remember(table, &self.name, &json) {
            log::warn!("{}: {fault}", self.name);
        }
    }
}

fn before(wall: Wall, ago: Duration) -> u64 {
    wall.0.saturating_sub(ago.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Life;
    use crate::server::machine::{Event, Server, step};

    const WALL: Wall = Wall(1_800_000_000_000);
    const MINUTE_MS: u64 = 60_000;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn what_a_life_beside_learns_is_kept_once_it_serves() {
        let (mut before, span) = (History::open(None, "a", 1, 2), Duration::from_secs(1));
        before.started(span, span);
        let mut same = before.beside(1, 3);
        assert_eq!(same.starts.usual(), Some(span), "the same program takes as long");
        assert_eq!(before.beside(9, 3).starts.usual(), None);
        same.started(span * 3, span * 3);
        assert_eq!(before.starts.usual(), Some(span), "nobody hears of it yet");
        before.kept.streak = 4;
        before.hand_over(&mut same);
        assert_eq!(same.kept, Tally::default(), "another entry");
        let mut again = same.beside(1, 3);
        same.kept.streak = 5;
        same.hand_over(&mut again);
        assert_eq!(again.kept.streak, 5);
    }

    /// A server that could not be spawned so often, at second 1 and every minute after it.
    fn failed(times: u64, policy: &Policy) -> Server {
        let mut server = Server::new(false, false, at(0));
        let feed = |server, event, second| step(server, event, at(second), policy, 0.5, &mut Vec::new());
        server = feed(server, Event::Want(true), 0);
        for life in 1..=times {
            let second = life * 60 - 59;
            server = feed(server, Event::Due, second);
            server = feed(server, Event::Admitted(Life(life)), second);
            server = feed(server, Event::SpawnFailed(Life(life), FaultKind::SpawnFailed), second);
        }
        server
    }

    /// What the next daemon finds of `server`, which stopped at second 200, so much later.
    fn found(server: &Server, policy: &Policy, later_ms: u64) -> Found {
        let why = Fault::new(FaultKind::SpawnFailed, "spawn it: no").hint("try");
        let mut history = History::open(None, "a", 1, 2);
        history.keep(server, Some(&why), at(200), WALL);
        let json = serde_json::to_string(&history.kept).unwrap();
        let kept = serde_json::from_str(&json).unwrap();
        History { kept, ..History::open(None, "a", 1, 2) }.found(policy, Wall(WALL.0 + later_ms))
    }

    #[test]
    fn nothing_is_kept_of_a_server_that_nobody_counted_against() {
        let mut history = History::open(None, "a", 1, 2);
        history.keep(&Server::new(false, false, at(0)), None, at(1), WALL);
        assert_eq!(history.kept, Tally::default());
        assert_eq!(history.found(&Policy::default(), WALL).past, Past::default());
    }

    #[test]
    fn failures_are_counted_on_within_their_window() {
        let policy = Policy::default();
        let server = failed(2, &policy);
        let past = found(&server, &policy, MINUTE_MS).past;
        assert_eq!((past.streak, past.tally, past.now), (2, 2, None));
        assert_eq!(found(&server, &policy, 27 * MINUTE_MS).past.tally, 1);
        let next = Server::resume(false, false, past, at(0));
        let next = step(next, Event::Want(true), at(0), &policy, 0.5, &mut Vec::new());
        assert_eq!((next.state(), next.tally().len()), ("queued", 2));
    }

    #[test]
    fn one_that_was_given_up_stays_so_until_its_probation() {
        let policy = Policy::default();
        let server = failed(3, &policy);
        assert_eq!(server.state(), "auto_disabled");
        let Found { past, why } = found(&server, &policy, 5 * MINUTE_MS);
        assert_eq!(
            why.unwrap(),
            (Fault::new(FaultKind::SpawnFailed, "spawn it: no").hint("try"), { Wall(WALL.0 - 79_000) })
        );
        let next = Server::resume(false, false, past, at(0));
        let next = step(next, Event::Want(true), at(0), &policy, 0.5, &mut Vec::new());
        assert_eq!(next.state(), "auto_disabled");
        // Of 15 minutes 79 s had passed, and 5 minutes since.
        assert_eq!(
            next.next_retry(),
            Some(Time(Duration::from_millis(15 * MINUTE_MS - 79_000 - 5 * MINUTE_MS)))
        );
        let next = step(next, Event::Due, at(900), &policy, 0.5, &mut Vec::new());
        assert_eq!(next.state(), "queued");
        // One try: a single failure is one too many, and the next pause is longer.
        let next = step(next, Event::Admitted(Life(1)), at(900), &policy, 0.5, &mut Vec::new());
        let failure = Event::SpawnFailed(Life(1), FaultKind::SpawnFailed);
        let next = step(next, failure, at(900), &policy, 0.5, &mut Vec::new());
        assert_eq!((next.state(), next.next_retry()), ("auto_disabled", Some(at(900 + 1800))));
    }

    #[test]
    fn a_person_who_asks_is_not_told_of_the_past() {
        let policy = Policy::default();
        let past = found(&failed(3, &policy), &policy, 0).past;
        let next = Server::resume(false, false, past, at(0));
        let next = step(next, Event::Want(false), at(0), &policy, 0.5, &mut Vec::new());
        let next = step(next, Event::Want(true), at(0), &policy, 0.5, &mut Vec::new());
        assert_eq!((next.state(), next.past(at(0))), ("queued", Past::default()));
    }

    #[test]
    fn what_the_config_forbids_is_not_carried() {
        let (plain, never) = (Policy::default(), Policy { auto_disable: false, ..Policy::default() });
        assert_eq!(found(&failed(3, &plain), &never, 0).past.now, None);
        let for_ever = Policy { probation: false, ..Policy::default() };
        assert_eq!(found(&failed(3, &plain), &for_ever, 0).past.now.unwrap().left, None);
    }
}
