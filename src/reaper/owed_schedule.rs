//! When each removal that is owed is tried: pure.
//!
//! A try that failed is repeated after 1 s, then after twice as long each time, up to a minute. An engine that is
//! away is left alone, and once it is up everything on it is due at once.

use crate::base::limits::{OWED_AT_ONCE, OWED_PAUSE_FIRST, OWED_PAUSE_MAX};
use crate::base::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Engine and full id.
pub(super) type Place = (String, String);

#[derive(Debug, Default)]
pub(super) struct Schedule {
    items: BTreeMap<Place, Item>,
    away: BTreeSet<String>,
}

#[derive(Debug)]
struct Item {
    due: Time,
    /// After the next try, if that fails.
    pause: Duration,
    /// It is being tried.
    busy: bool,
}

impl Schedule {
    /// Takes over what is owed now. What is new is due at `first`; what is owed no more is forgotten.
    pub(super) fn know(&mut self, owed: &BTreeSet<Place>, first: Time) {
        self.items.retain(|place, item| item.busy || owed.contains(place));
        for place in owed {
            let fresh = || Item { due: first, pause: OWED_PAUSE_FIRST, busy: false };
            self.items.entry(place.clone()).or_insert_with(fresh);
        }
    }

    /// What is to be tried now, longest due first. Each counts as being tried until it is over.
    pub(super) fn take(&mut self, now: Time) -> Vec<Place> {
        let mut due: Vec<(Time, Place)> = self.waiting().filter(|(at, _)| *at <= now).collect();
        due.sort();
        due.truncate(OWED_AT_ONCE.saturating_sub(self.busy()));
        for (_, place) in &due {
            if let Some(item) = self.items.get_mut(place) {
                item.busy = true;
            }
        }
        due.into_iter().map(|(_, place)| place).collect()
    }

    /// It is owed no more.
    pub(super) fn over(&mut self, place: &Place) {
        self.items.remove(place);
    }

    pub(super) fn failed(&mut self, place: &Place, now: Time) {
        if let Some(item) = self.items.get_mut(place) {
            item.busy = false;
            item.due = now + item.pause;
            item.pause = (item.pause * 2).min(OWED_PAUSE_MAX);
        }
    }

    pub(super) fn away(&mut self, engine: &str) {
        self.away.insert(engine.to_owned());
    }

    /// Everything on it is due, with short pauses again.
    pub(super) fn up(&mut self, engine: &str, now: Time) {
        self.away.remove(engine);
        for (_, item) in self.items.iter_mut().filter(|((on, _), _)| on == engine) {
            item.due = item.due.min(now);
            item.pause = OWED_PAUSE_FIRST;
        }
    }

    /// When something is due next, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let may_begin = self.busy() < OWED_AT_ONCE;
        self.waiting().map(|(due, _)| due).min().filter(|_| may_begin)
    }

    /// The engines on which something is owed.
    pub(super) fn engines(&self) -> BTreeSet<String> {
        self.items.keys().map(|(engine, _)| engine.clone()).collect()
    }

    fn busy(&self) -> usize {
        self.items.values().filter(|item| item.busy).count()
    }

    fn waiting(&self) -> impl Iterator<Item = (Time, Place)> {
        let may = |((engine, _), item): &(&Place, &Item)| !item.busy && !self.away.contains(engine);
        self.items.iter().filter(may).map(|(place, item)| (item.due, place.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(engine: &str, ids: &[&str]) -> BTreeSet<Place> {
        ids.iter().map(|id| (engine.to_owned(), (*id).to_owned())).collect()
    }

    fn ids(places: &[Place]) -> String {
        places.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>().join(" ")
    }

    const fn s(seconds: u64) -> Time {
        Time::from_ms(seconds * 1000)
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut schedule = Schedule::default();
        schedule.know(&places("e", &["a"]), s(1));
        assert_eq!(schedule.take(s(0)), []);
        let mut now = s(1);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let tried = schedule.take(now);
            assert_eq!(ids(&tried), "a");
            assert_eq!((schedule.next_deadline(), schedule.take(now).len()), (None, 0), "while it is tried");
            schedule.failed(&tried[0], now);
            let next = schedule.next_deadline().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.know(&BTreeSet::new(), now);
        assert_eq!((schedule.next_deadline(), schedule.engines().len()), (None, 0));
    }

    #[test]
    fn an_engine_that_comes_up_is_asked_at_once() {
        let mut schedule = Schedule::default();
        let mut owed = places("e", &["a", "b"]);
        owed.extend(places("other", &["c"]));
        schedule.know(&owed, s(0));
        schedule.take(s(0)).iter().for_each(|place| schedule.failed(place, s(0)));
        schedule.away("e");
        assert_eq!(ids(&schedule.take(s(100))), "c");
        assert_eq!(schedule.next_deadline(), None);
        schedule.up("e", s(101));
        assert_eq!(schedule.next_deadline(), Some(s(1)));
        let tried = schedule.take(s(101));
        assert_eq!(ids(&tried), "a b");
        // Told twice, it changes nothing that is being tried; a failure then begins with the short pause.
        schedule.up("e", s(101));
        assert_eq!(schedule.take(s(101)), []);
        schedule.failed(&tried[0], s(101));
        assert_eq!(schedule.next_deadline(), Some(s(102)));
    }

    #[test]
    fn a_few_at_the_same_time() {
        let mut schedule = Schedule::default();
        schedule.know(&places("e", &["a", "b", "c", "d", "e", "f"]), s(0));
        let first = schedule.take(s(0));
        assert_eq!((ids(&first).as_str(), schedule.next_deadline()), ("a b c d", None));
        schedule.over(&first[1]);
        schedule.failed(&first[0], s(0));
        assert_eq!(ids(&schedule.take(s(1))), "e f");
        // Owed no more while it is tried: kept until that is over.
        schedule.know(&BTreeSet::new(), s(1));
        assert_eq!(schedule.busy(), 4);
    }
}
