//! The start gate: how many servers may be in the expensive part of a start at once, and who is next.
//!
//! A start is expensive from its spawn to its first sign of life (an interpreter loads, a cache fills); hundreds at
//! once make every one of them miss its time-out. The gate owns the line and the slots. It is pure: no clock,
//! thread or life number is known here; whoever is admitted is told so by the caller.
//!
//! Next is whom a client waits for; then whoever has stood in line for `LINE_PATIENCE`, so that nobody is passed over
//! for ever; then who is known to hold a slot for the shortest time; then the order of the config.

use crate::base::id::ServerName;
use crate::base::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// 2 s: an interpreter shows itself within 1 s on a slow disk. Who takes longer runs on, but no longer holds up
/// the line: one silent server must not cost 30 s of the others' start.
pub const SLOT_PATIENCE: Duration = Duration::from_secs(2);

/// 30 s in line are enough: from then on only who has stood there longer, or is called for, goes first.
pub const LINE_PATIENCE: Duration = Duration::from_secs(30);

/// What a server without a past is taken to hold its slot for, when the wait of those behind it is estimated.
const USUAL_HOLD: Duration = Duration::from_millis(500);

/// What a server says of itself when it stands in line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// A client waits for it.
    pub awaited: bool,
    /// How long it held its slot in earlier starts; nothing is known of one that never showed a sign.
    pub hold: Option<Duration>,
    /// Its line and column in the config.
    pub place: (usize, usize),
}

#[derive(Clone, Debug)]
struct Waiting {
    name: ServerName,
    claim: Claim,
    since: Time,
}

impl Waiting {
    /// The smallest is next.
    fn rank(&self, now: Time) -> impl Ord + use<> {
        let Claim { awaited, hold, place } = self.claim;
        let aged = (now.since(self.since) >= LINE_PATIENCE).then_some(Reverse(now.since(self.since)));
        (!awaited, aged.is_none(), aged, hold.is_none(), hold, place)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// So long its first sign is waited for.
    until: Time,
    /// When it will probably be free.
    expected: Time,
}

/// INVARIANT: a name stands at most once in the line and at most once in the slots; slots <= `slots_max`. Both are
/// bounded by the number of servers.
#[derive(Clone, Debug)]
pub struct Gate {
    slots_max: usize,
    line: Vec<Waiting>,
    slots: BTreeMap<ServerName, Slot>,
}

impl Gate {
    /// `slots_max` starts at once; 0 is taken as 1, because a closed gate would start nothing for ever.
    pub fn new(slots_max: usize) -> Gate {
        Gate { slots_max: slots_max.max(1), line: Vec::new(), slots: BTreeMap::new() }
    }

    /// Stands in line, and returns who may start now, in order.
    pub fn ask(&mut self, name: ServerName, claim: Claim, now: Time) -> Vec<ServerName> {
        self.stand(name, claim, now);
        self.admit(now)
    }

    /// Stands in line; for many that come at once, so that who asks first is not before who should be. Twice keeps the
    /// time in line; while holding a slot it gives that slot back first.
    pub fn stand(&mut self, name: ServerName, claim: Claim, now: Time) {
        self.slots.remove(&name);
        match self.line.iter_mut().find(|waiting| waiting.name == name) {
            Some(waiting) => {
                waiting.claim = Claim { awaited: waiting.claim.awaited || claim.awaited, ..claim }
            }
            None => self.line.push(Waiting { name, claim, since: now }),
        }
    }

    /// A client waits for it: it goes before those whom nobody waits for. Not in line, nothing changes.
    pub fn hurry(&mut self, name: &ServerName) {
        if let Some(waiting) = self.line.iter_mut().find(|waiting| waiting.name == *name) {
            waiting.claim.awaited = true;
        }
    }

    /// Leave the line or the slot, whichever it is; leaving twice is harmless.
    pub fn leave(&mut self, name: &ServerName, now: Time) -> Vec<ServerName> {
        if self.slots.remove(name).is_none() {
            self.line.retain(|waiting| waiting.name != *name);
        }
        self.admit(now)
    }

    /// Those whose patience is over lose their slots to the next in line.
    pub fn due(&mut self, now: Time) -> Vec<ServerName> {
        self.slots.retain(|_, slot| slot.until > now);
        self.admit(now)
    }

    /// When `due` must be called; `None` while nobody holds a slot or nobody waits for one.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.line.is_empty() { None } else { self.slots.values().map(|slot| slot.until).min() }
    }

    /// Another number of slots. Nobody loses one; those that fit now are admitted.
    pub fn resize(&mut self, slots_max: usize, now: Time) -> Vec<ServerName> {
        self.slots_max = slots_max.max(1);
        self.admit(now)
    }

    pub fn holds(&self, name: &ServerName) -> bool {
        self.slots.contains_key(name)
    }

    pub fn waits(&self, name: &ServerName) -> bool {
        self.line.iter().any(|waiting| waiting.name == *name)
    }

    /// Slots taken now.
    pub fn taken(&self) -> usize {
        self.slots.len()
    }

    pub fn slots_max(&self) -> usize {
        self.slots_max
    }

    /// The line as it will probably be admitted if nobody joins it: who, and in how long.
    pub fn outlook(&self, now: Time) -> Vec<(ServerName, Duration)> {
        let mut free: BinaryHeap<Reverse<Time>> = BinaryHeap::new();
        free.extend(self.slots.values().map(|slot| Reverse(slot.expected.max(now))));
        // Where there are more than there may be, the first that come free are not given away.
        for _ in self.slots_max..free.len() {
            free.pop();
        }
        free.extend((free.len()..self.slots_max).map(|_| Reverse(now)));
        let mut line: Vec<&Waiting> = self.line.iter().collect();
        line.sort_by_cached_key(|waiting| waiting.rank(now));
        let mut outlook = Vec::with_capacity(line.len());
        for waiting in line {
            let Some(Reverse(at)) = free.pop() else { break };
            free.push(Reverse(at + expected_hold(waiting.claim)));
            outlook.push((waiting.name.clone(), at.since(now)));
        }
        outlook
    }

    fn admit(&mut self, now: Time) -> Vec<ServerName> {
        let mut admitted = Vec::new();
        while self.slots.len() < self.slots_max
            && let Some(next) = (0..self.line.len()).min_by_key(|n| self.line[*n].rank(now))
        {
            let Waiting { name, claim, .. } = self.line.remove(next);
            let slot = Slot { until: now + SLOT_PATIENCE, expected: now + expected_hold(claim) };
            self.slots.insert(name.clone(), slot);
            admitted.push(name);
        }
        admitted
    }
}

fn expected_hold(claim: Claim) -> Duration {
    claim.hold.unwrap_or(USUAL_HOLD).min(SLOT_PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per move, `ask a`, `leave a` or `due`, at one second each; the answer is who was admitted.
    #[track_caller]
    fn check(slots: usize, moves: &[(&str, &str)]) {
        let mut gate = Gate::new(slots);
        for (second, (order, expected)) in moves.iter().enumerate() {
            let now = Time(Duration::from_secs(second as u64));
            let admitted = match order.split_once(' ') {
                Some(("ask", name)) => gate.ask(name.into(), Claim::default(), now),
                Some(("leave", name)) => gate.leave(&name.into(), now),
                _ => gate.due(now),
            };
            let names: Vec<&str> = admitted.iter().map(ServerName::as_str).collect();
            assert_eq!(names.join(" "), *expected, "move {second}: {order}");
            assert!(gate.taken() <= slots.max(1));
        }
    }

    #[test]
    fn in_the_order_asked() {
        check(
            1,
            &[
                ("ask a", "a"),
                ("ask b", ""),
                ("ask c", ""),
                ("leave a", "b"),
                ("leave b", "c"),
                ("leave c", ""),
            ],
        );
    }

    #[test]
    fn asking_and_leaving_twice_is_harmless() {
        check(
            1,
            &[
                ("ask a", "a"),
                ("ask b", ""),
                ("ask b", ""),
                ("leave a", "b"),
                ("leave a", ""),
                ("leave b", ""),
            ],
        );
        check(1, &[("ask a", "a"), ("ask a", "a"), ("leave a", "")]);
        check(0, &[("ask a", "a"), ("ask b", ""), ("leave b", ""), ("leave a", "")]);
    }

    #[test]
    fn who_shows_no_sign_loses_its_slot() {
        check(1, &[("ask a", "a"), ("ask b", ""), ("due", "b"), ("leave a", ""), ("leave b", "")]);
    }

    #[test]
    fn more_slots_and_fewer() {
        let mut gate = Gate::new(1);
        for name in ["a", "b", "c", "d"] {
            gate.ask(name.into(), Claim::default(), Time::ZERO);
        }
        assert_eq!(gate.resize(3, Time::ZERO), ["b".into(), "c".into()]);
        assert_eq!(gate.resize(1, Time::ZERO), []);
        assert_eq!(gate.leave(&"a".into(), Time::ZERO), []);
        assert_eq!(gate.leave(&"b".into(), Time::ZERO), []);
        assert_eq!(gate.leave(&"c".into(), Time::ZERO), ["d".into()]);
    }

    #[test]
    fn deadline_only_while_somebody_waits() {
        let mut gate = Gate::new(1);
        gate.ask("a".into(), Claim::default(), Time::ZERO);
        assert_eq!(gate.next_deadline(), None);
        gate.ask("b".into(), Claim::default(), Time::ZERO);
        assert_eq!(gate.next_deadline(), Some(Time::ZERO + SLOT_PATIENCE));
    }

    fn claim(awaited: bool, hold_ms: Option<u64>, line: usize) -> Claim {
        Claim { awaited, hold: hold_ms.map(Duration::from_millis), place: (line, 1) }
    }

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    /// Everybody asks while one holds the only slot; then one after the other leaves at `now`.
    #[track_caller]
    fn check_order(line: &[(&str, Claim, u64)], now: u64, expected: &str) {
        let mut gate = Gate::new(1);
        gate.ask("first".into(), Claim::default(), at(0));
        line.iter().for_each(|(name, claim, asked)| {
            assert_eq!(gate.ask((*name).into(), *claim, at(*asked)), []);
        });
        let outlook: Vec<String> =
            gate.outlook(at(now)).iter().map(|(name, _)| name.as_str().to_owned()).collect();
        let mut order = Vec::new();
        let mut holder: ServerName = "first".into();
        while let Some(next) = gate.leave(&holder, at(now)).pop() {
            order.push(next.as_str().to_owned());
            holder = next;
        }
        assert_eq!(order.join(" "), expected);
        assert_eq!(outlook, order, "the outlook says what comes");
    }

    #[test]
    fn called_for_then_cheap_then_in_the_order_of_the_config() {
        check_order(
            &[
                ("unknown2", claim(false, None, 2), 1),
                ("slow", claim(false, Some(900), 0), 1),
                ("unknown1", claim(false, None, 1), 1),
                ("fast", claim(false, Some(20), 9), 1),
                ("called", claim(true, None, 8), 1),
            ],
            2,
            "called fast slow unknown1 unknown2",
        );
    }

    #[test]
    fn nobody_is_passed_over_for_ever() {
        let line = [
            ("old", claim(false, None, 5), 0),
            ("fast", claim(false, Some(1), 0), 20_000),
            ("older", claim(false, Some(1900), 6), 0),
        ];
        check_order(&line, 29_000, "fast older old");
        check_order(&line, 30_000, "older old fast");
    }

    #[test]
    fn who_is_called_for_while_in_line_goes_first() {
        let mut gate = Gate::new(1);
        for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
            gate.ask(name.into(), claim(false, None, place), at(0));
        }
        gate.hurry(&"c".into());
        gate.hurry(&"nobody".into());
        assert_eq!(gate.leave(&"a".into(), at(1)), ["c".into()]);
    }

    #[test]
    fn outlook_counts_slots_and_holds() {
        let mut gate = Gate::new(2);
        gate.ask("a".into(), claim(false, Some(100), 0), at(0));
        gate.ask("b".into(), claim(false, None, 1), at(0));
        gate.ask("c".into(), claim(false, Some(300), 2), at(0));
        gate.ask("d".into(), claim(false, Some(50_000), 3), at(0));
        gate.ask("e".into(), claim(false, None, 4), at(0));
        let waits: Vec<u64> = gate.outlook(at(50)).iter().map(|(_, wait)| wait.as_millis() as u64).collect();
        // c after a (100), d after c (400) and e after b (500).
        assert_eq!(waits, [50, 350, 450]);
        // Fewer slots than are taken: the next two to come free are gone.
        assert_eq!(gate.resize(1, at(50)), []);
        assert_eq!(gate.outlook(at(50))[0].1, Duration::from_millis(450));
        assert_eq!(gate.resize(3, at(50)), ["c".into()]);
    }
}
