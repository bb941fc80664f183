//! What the hook `on_event` is told, and when: pure, and bounded however much happens.
//!
//! Every server and every engine has a place of its own, so that none hides another. The first news of one is told at
//! once; then there is a pause, doubled with every telling, and what happens meanwhile is told together: the newest
//! state of it, with the number of events that were left out (`coalesced`). An outage is told as a pair, its start and
//! its end: an end that belongs to a start that was told is never held back, and an outage that was over before its start
//! could be told is told whole. It knows no clock, thread or process.

use crate::base::limits::{HOOK_PAUSE_FIRST, HOOK_PAUSE_MAX, HOOK_SUBJECTS_MAX};
use crate::base::time::Time;
use crate::base::topic::Topic;
use crate::server::journal::{Record, Subject};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Notices {
    places: BTreeMap<Key, Place>,
    /// News for which there was no place, since the last telling.
    dropped: u64,
}

/// An outage's start and end share a place: that of the start.
type Key = (Subject, Topic);

#[derive(Debug)]
struct Place {
    /// INVARIANT: at most two; two are the start and the end of one outage.
    pending: VecDeque<Arc<Record>>,
    /// The start of an outage was told last, and not its end.
    open: bool,
    coalesced: u64,
    pause: Duration,
    /// When the next may be told that is not the end of what is open.
    free_at: Time,
    last: Time,
}

/// One run of the hook.
#[derive(Clone, Debug)]
pub struct Notice {
    pub record: Arc<Record>,
    /// Events of the same that are told by this one.
    pub coalesced: u64,
    /// Events that were left out for want of places.
    pub dropped: u64,
}

/// What is to be done now.
#[derive(Clone, Debug)]
pub enum Next {
    Tell(Notice),
    /// Look again then.
    At(Time),
    /// Nothing is to be told.
    Nothing,
}

impl Notices {
    /// Something has happened that the hook wants to hear of.
    pub fn add(&mut self, record: &Arc<Record>, now: Time) {
        let topic = if is_end(record) { Topic::EngineAway } else { record.topic };
        let key = (record.subject.clone(), topic);
        if !self.places.contains_key(&key) && !self.has_room(now) {
            self.dropped += 1;
            return;
        }
        let place = self.places.entry(key).or_insert_with(|| Place::new(now));
        place.add(record, now);
    }

    /// The oldest that may be told.
    pub fn next(&mut self, now: Time) -> Next {
        let waiting = self.places.values_mut().filter_map(|place| Some((place.due()?, place)));
        let ready = waiting.min_by_key(|(due, place)| {
            let seq = place.pending.front().map(|record| record.seq);
            // Those that are due, by age; then those that are not, by when they are.
            if *due <= now { (Time::ZERO, seq) } else { (*due, seq) }
        });
        match ready {
            None => Next::Nothing,
            Some((due, _)) if due > now => Next::At(due),
            Some((_, place)) => match place.take(now) {
                Some((record, coalesced)) => {
                    Next::Tell(Notice { record, coalesced, dropped: std::mem::take(&mut self.dropped) })
                }
                None => Next::Nothing,
            },
        }
    }

    /// Room for one more, made by forgetting what was quiet for so long that its next news is as good as its first.
    fn has_room(&mut self, now: Time) -> bool {
        if self.places.len() >= HOOK_SUBJECTS_MAX {
            self.places.retain(|_, place| place.open || !place.pending.is_empty() || !place.is_quiet(now));
        }
        self.places.len() < HOOK_SUBJECTS_MAX
    }
}

impl Place {
    fn new(now: Time) -> Place {
        Place {
            pending: VecDeque::new(),
            open: false,
            coalesced: 0,
            pause: HOOK_PAUSE_FIRST,
            free_at: now,
            last: now,
        }
    }

    fn is_quiet(&self, now: Time) -> bool {
        now - self.last >= HOOK_PAUSE_MAX
    }

    fn add(&mut self, record: &Arc<Record>, now: Time) {
        if self.is_quiet(now) {
            self.pause = HOOK_PAUSE_FIRST;
        }
        self.last = now;
        let is_open = self.pending.back().map_or(self.open, |last| is_start(last));
        if is_start(record) && !is_open && !self.pending.is_empty() {
            // Over before it was said, and begun again: the outage that was said goes on, or this one is new.
            self.coalesced += self.pending.len() as u64;
            self.pending.clear();
            return if self.open { self.coalesced += 1 } else { self.pending.push_back(record.clone()) };
        }
        let ends = is_end(record) && is_open;
        match self.pending.back_mut() {
            // The newest stands for all; of an outage that only goes on, too.
            Some(last) if !ends => {
                *last = record.clone();
                self.coalesced += 1;
            }
            None if is_start(record) && is_open => self.coalesced += 1,
            Some(_) | None => self.pending.push_back(record.clone()),
        }
    }

    /// When the first of it may be told.
    fn due(&self) -> Option<Time> {
        let first = self.pending.front()?;
        let ends = self.open && is_end(first);
        Some(if ends { Time::ZERO } else { self.free_at })
    }

    fn take(&mut self, now: Time) -> Option<(Arc<Record>, u64)> {
        let record = self.pending.pop_front()?;
        let ends = std::mem::replace(&mut self.open, is_start(&record));
        if !ends {
            self.free_at = now + self.pause;
            self.pause = (self.pause * 2).min(HOOK_PAUSE_MAX);
        }
        Some((record, std::mem::take(&mut self.coalesced)))
    }
}

fn is_start(record: &Record) -> bool {
    record.topic == Topic::EngineAway
}

fn is_end(record: &Record) -> bool {
    record.topic == Topic::EngineRecovered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ServerName;
    use crate::base::time::Wall;
    use crate::server::journal::Journal;
    use serde_json::json;

    /// A world with a clock: events go in, what is told comes out, written as `ms topic-subject +coalesced`.
    struct World {
        journal: Journal,
        notices: Notices,
        now: Time,
        told: Vec<String>,
    }

    impl World {
        fn new() -> World {
            World {
                journal: Journal::new("s"),
                notices: Notices::default(),
                now: Time::ZERO,
                told: Vec::new(),
            }
        }

        fn happen(&mut self, at_ms: u64, topic: Topic, subject: &str) {
            self.until(at_ms);
            let subject = if topic == ServerState {
                Subject::Server(ServerName::from(subject))
            } else {
                Subject::Engine(subject.to_owned())
            };
            let record = self.journal.add(topic, subject, &json!({}), Wall(0));
            self.notices.add(&record, self.now);
            self.tell();
        }

        /// Each run of the hook takes no time.
        fn tell(&mut self) -> Option<Time> {
            loop {
                match self.notices.next(self.now) {
                    Next::Tell(Notice { record, coalesced, dropped }) => {
                        let subject = match &record.subject {
                            Subject::Server(name) => name.to_string(),
                            Subject::Engine(name) => name.clone(),
                            Subject::Daemon => String::new(),
                        };
                        let mut line = format!("{} {} {subject}", self.now.as_ms(), record.topic.name());
                        if coalesced > 0 {
                            line.push_str(&format!(" +{coalesced}"));
                        }
                        if dropped > 0 {
                            line.push_str(&format!(" dropped {dropped}"));
                        }
                        self.told.push(line);
                    }
                    Next::At(at) => return Some(at),
                    Next::Nothing => return None,
                }
            }
        }

        fn until(&mut self, ms: u64) {
            while let Some(at) = self.tell().filter(|at| *at <= Time::from_ms(ms)) {
                assert!(at > self.now, "a look that was ordered gives something");
                self.now = at;
            }
            self.now = Time::from_ms(ms);
        }

        #[track_caller]
        fn expect(&mut self, told: &[&str]) {
            assert_eq!(std::mem::take(&mut self.told), told);
        }
    }

    use Topic::{EngineAway, EngineRecovered, EngineUp, ServerState};

    #[test]
    fn an_outage_is_told_at_its_start_and_its_end() {
        let mut world = World::new();
        world.happen(0, EngineAway, "e");
        world.expect(&["0 engine.away e"]);
        // Another cause is the same outage.
        world.happen(10, EngineAway, "e");
        world.happen(700, EngineRecovered, "e");
        world.expect(&["700 engine.recovered e +1"]);
        world.until(10_000_000);
        world.expect(&[]);
    }

    #[test]
    fn outages_far_apart_are_all_told_at_once() {
        let mut world = World::new();
        for hour in 0..20 {
            let at = hour * 3_600_000;
            world.happen(at, EngineAway, "e");
            world.happen(at + 500, EngineRecovered, "e");
            world.expect(&[&format!("{at} engine.away e"), &format!("{} engine.recovered e", at + 500)]);
        }
    }

    #[test]
    fn what_is_too_soon_is_told_together() {
        let mut world = World::new();
        world.happen(0, EngineAway, "e");
        world.happen(100, EngineRecovered, "e");
        world.expect(&["0 engine.away e", "100 engine.recovered e"]);
        // Two more within the pause: one is told, whole.
        for (at, topic) in
            [(200, EngineAway), (300, EngineRecovered), (400, EngineAway), (500, EngineRecovered)]
        {
            world.happen(at, topic, "e");
        }
        world.expect(&[]);
        world.until(5_000);
        world.expect(&["1000 engine.away e +2", "1000 engine.recovered e"]);
        // It goes on as long as it goes on, also when it was not told of.
        world.happen(5_000, EngineAway, "e");
        world.happen(5_100, EngineRecovered, "e");
        world.happen(5_200, EngineAway, "e");
        world.expect(&["5000 engine.away e", "5100 engine.recovered e"]);
        world.until(60_000);
        world.expect(&["9000 engine.away e"]);
    }

    #[test]
    fn an_end_waits_for_nobody_and_another_engine_neither() {
        let mut world = World::new();
        for at in [0, 1_000, 3_000] {
            world.happen(at, EngineAway, "e");
            world.happen(at + 1, EngineRecovered, "e");
        }
        world.expect(&[
            "0 engine.away e",
            "1 engine.recovered e",
            "1000 engine.away e",
            "1001 engine.recovered e",
            "3000 engine.away e",
            "3001 engine.recovered e",
        ]);
        world.happen(3_100, EngineAway, "e");
        world.happen(3_100, EngineAway, "f");
        world.expect(&["3100 engine.away f"]);
    }

    #[test]
    fn flapping_for_an_hour_is_a_bounded_number() {
        let mut world = World::new();
        for second in 0..3_600 {
            world.happen(second * 1_000, EngineAway, "e");
            world.happen(second * 1_000 + 500, EngineRecovered, "e");
        }
        let count = world.told.len();
        println!("3600 outages in an hour: {count} runs");
        assert!(count <= 40, "{count} runs");
        assert_eq!(world.told[..2], ["0 engine.away e", "500 engine.recovered e"]);
        // What is told last is how it is.
        world.until(2 * 3_600_000);
        let last = world.told.pop().unwrap();
        assert!(last.contains("engine.recovered"), "{last}");
        // After that long without news it is as new.
        world.told.clear();
        world.happen(3 * 3_600_000, EngineAway, "e");
        world.expect(&["10800000 engine.away e"]);
    }

    #[test]
    fn of_a_server_the_newest_is_told() {
        let mut world = World::new();
        (0..5).for_each(|n| world.happen(n, ServerState, "a"));
        world.happen(5, ServerState, "b");
        world.happen(6, EngineUp, "e");
        world.expect(&["0 server.state a", "5 server.state b", "6 engine.up e"]);
        world.until(60_000);
        world.expect(&["1000 server.state a +3"]);
    }

    #[test]
    fn an_end_of_which_no_start_is_wanted() {
        let mut world = World::new();
        world.happen(0, EngineRecovered, "e");
        world.happen(1, EngineRecovered, "e");
        world.happen(2, EngineRecovered, "e");
        world.until(60_000);
        world.expect(&["0 engine.recovered e", "1000 engine.recovered e +1"]);
    }

    #[test]
    fn places_are_bounded_and_what_has_none_is_counted() {
        let mut world = World::new();
        for n in 0..HOOK_SUBJECTS_MAX {
            world.happen(0, ServerState, &format!("s{n}"));
        }
        world.told.clear();
        world.happen(1, ServerState, "late");
        world.happen(2, ServerState, "s0");
        world.expect(&[]);
        world.until(1_000);
        world.expect(&["1000 server.state s0 dropped 1"]);
        // Whoever was quiet for long makes room.
        world.happen(700_000, ServerState, "late");
        world.expect(&["700000 server.state late"]);
    }
}
