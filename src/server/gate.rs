//! The start gate: how many servers may be in the expensive part of a start at once.
//!
//! A start is expensive from its spawn to its first sign of life (an interpreter loads, a cache fills); hundreds at
//! once make every one of them miss its time-out. The gate owns the line and the slots. It is pure: no clock,
//! thread or life number is known here; whoever is admitted is told so by the caller.

use crate::base::id::ServerName;
use crate::base::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Starts at once, unless the config says otherwise (`max_concurrent_connections`).
pub const STARTS_MAX: usize = 20;

/// 2 s: an interpreter shows itself within 1 s on a slow disk. Who takes longer runs on, but no longer holds up
/// the line: one silent server must not cost 30 s of the others' start.
pub const SLOT_PATIENCE: Duration = Duration::from_secs(2);

/// INVARIANT: a name stands at most once in the line and at most once in the slots; slots <= `slots_max`. Both are
/// bounded by the number of servers.
#[derive(Clone, Debug)]
pub struct Gate {
    slots_max: usize,
    line: VecDeque<ServerName>,
    /// Who holds a slot, and until when we wait for its first sign.
    slots: BTreeMap<ServerName, Time>,
}

impl Gate {
    /// `slots_max` starts at once; 0 is taken as 1, because a closed gate would start nothing for ever.
    pub fn new(slots_max: usize) -> Gate {
        Gate { slots_max: slots_max.max(1), line: VecDeque::new(), slots: BTreeMap::new() }
    }

    /// Stand in line. Returns who may start now, in the order asked. Asking twice keeps the place; asking while
    /// holding a slot gives that slot back first.
    pub fn ask(&mut self, name: ServerName, now: Time) -> Vec<ServerName> {
        self.slots.remove(&name);
        if !self.line.contains(&name) {
            self.line.push_back(name);
        }
        self.admit(now)
    }

    /// Leave the line or the slot, whichever it is; leaving twice is harmless.
    pub fn leave(&mut self, name: &ServerName, now: Time) -> Vec<ServerName> {
        if self.slots.remove(name).is_none() {
            self.line.retain(|waiting| waiting != name);
        }
        self.admit(now)
    }

    /// Those whose patience is over lose their slots to the next in line.
    pub fn due(&mut self, now: Time) -> Vec<ServerName> {
        self.slots.retain(|_, until| *until > now);
        self.admit(now)
    }

    /// When `due` must be called; `None` while nobody holds a slot or nobody waits for one.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.line.is_empty() { None } else { self.slots.values().min().copied() }
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
        self.line.contains(name)
    }

    /// Slots taken now.
    pub fn taken(&self) -> usize {
        self.slots.len()
    }

    pub fn slots_max(&self) -> usize {
        self.slots_max
    }

    fn admit(&mut self, now: Time) -> Vec<ServerName> {
        let mut admitted = Vec::new();
        while self.slots.len() < self.slots_max
            && let Some(name) = self.line.pop_front()
        {
            self.slots.insert(name.clone(), now + SLOT_PATIENCE);
            admitted.push(name);
        }
        admitted
    }
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
                Some(("ask", name)) => gate.ask(name.into(), now),
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
            gate.ask(name.into(), Time::ZERO);
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
        gate.ask("a".into(), Time::ZERO);
        assert_eq!(gate.next_deadline(), None);
        gate.ask("b".into(), Time::ZERO);
        assert_eq!(gate.next_deadline(), Some(Time::ZERO + SLOT_PATIENCE));
    }
}
