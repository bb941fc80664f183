//! Calls that are held open while their clients look for answers, as a plain value: each is handed out again exactly
//! once, to the one client that it belongs to, or to whoever gives it up.
//!
//! A legacy server asks in the middle of a call; a modern client hears that as a result, and comes again with its
//! answers. In between the call `C`, which is opaque here, lies in this table. [`State`] is what the client brings back.
//! No clock, lock or channel is known here; the gateway puts a mutex around it and seals the states.

use super::envelope::quote;
use super::meta;
use super::scan;
use super::seal::Sealer;
use crate::base::limits::{HELD_CALLS_MAX, HELD_CALLS_OF_ONE_MAX, HELD_ENDED_MAX, INPUT_ROUNDS_MAX};
use crate::base::time::Time;
use ring::digest;
use std::collections::{BTreeMap, VecDeque};

/// Which call a `requestState` of ours is for, and which of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    pub id: u64,
    pub round: u32,
}

/// States are sealed for this; those of servers are sealed for three parts.
const SEALED_FOR: [&str; 1] = ["held"];

impl State {
    /// The JSON string for the client.
    pub fn sealed(self, sealer: &Sealer) -> String {
        let token = quote(&format!("{}.{}", self.id, self.round));
        sealer.seal(&token, &SEALED_FOR).expect("a quoted text is a string")
    }

    /// Out of a `requestState`, raw; nothing if it is none that was given out here.
    pub fn opened(raw: &str, sealer: &Sealer) -> Option<State> {
        let token = scan::string(&sealer.open(raw, &SEALED_FOR)?)?;
        let (id, round) = token.split_once('.')?;
        Some(State { id: id.parse().ok()?, round: round.parse().ok()? })
    }
}

/// Whose a call is, and what was asked: all of it must be the same when the client comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Mount, way and credential, as the gateway names them.
    pub principal: Box<str>,
    /// See [`digest_of`].
    pub request: [u8; 32],
}

/// A request, however it is written, without what differs from one round to the next.
pub fn digest_of(method: &str, params: &str) -> [u8; 32] {
    let params = meta::members(params, &[("inputResponses", None), ("requestState", None), ("_meta", None)]);
    // Numbers that are beyond a double make it no value; it is compared as it was written then.
    let same = serde_json::from_str::<serde_json::Value>(&params).map_or(params, |value| value.to_string());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, format!("{method} {same}").as_bytes()).as_ref());
    bytes
}

/// Why a client does not get a call back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was given to somebody else.
    Foreign,
    /// It was given for another request.
    OtherRequest,
    /// Its round is over: the call asks for something else by now.
    Replayed,
    /// Another request has brought the answers, and is being answered.
    Going,
    /// Its time is over.
    Expired,
    /// The call has been answered, or was cancelled.
    Over,
    /// It is older than all that is remembered.
    Unknown,
}

impl Refused {
    /// In words, of `requestState`.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::Foreign => "it was given to another client",
            Refused::OtherRequest => "it was given for another request",
            Refused::Replayed => "it was used before",
            Refused::Going => "another request that brought it is being answered",
            Refused::Expired => "it has expired",
            Refused::Over => "its call is over",
            Refused::Unknown => "its call is not known any more",
        }
    }
}

/// Why a call cannot be held; it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many as may be are held.
    All,
    /// As many as one principal may have.
    OfOne,
    /// The client has been asked as often as may be.
    Rounds,
    /// Nobody is waited for any more.
    Ended,
}

impl Full {
    pub fn reason(self) -> &'static str {
        match self {
            Full::All => "too many calls wait for what their clients say",
            Full::OfOne => "too many calls wait for what this client says",
            Full::Rounds => "the client was asked too often in one call",
            Full::Ended => "nobody is waited for any more",
        }
    }
}

#[derive(Clone, Debug)]
struct Entry<C> {
    owner: Owner,
    round: u32,
    stage: Stage<C>,
}

#[derive(Clone, Debug)]
enum Stage<C> {
    /// The client is asked.
    Asking { call: C, until: Time },
    /// It has come again, and its request has the call.
    Going,
}

/// How a call that is not here any more ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Over,
    Expired,
}

/// At most `HELD_CALLS_MAX` calls.
#[derive(Clone, Debug)]
pub struct Held<C> {
    newest: u64,
    open: BTreeMap<u64, Entry<C>>,
    /// The last that ended, oldest first.
    ended: VecDeque<(u64, Owner, End)>,
}

impl<C> Default for Held<C> {
    fn default() -> Held<C> {
        Held { newest: 0, open: BTreeMap::new(), ended: VecDeque::new() }
    }
}

impl<C> Held<C> {
    /// Holds a call until its client comes again, at the latest until `until`.
    pub fn hold(&mut self, owner: Owner, call: C, until: Time) -> Result<State, (Full, C)> {
        let of_one = self.open.values().filter(|entry| entry.owner.principal == owner.principal).count();
        match (self.open.len() >= HELD_CALLS_MAX, of_one >= HELD_CALLS_OF_ONE_MAX) {
            (true, _) => return Err((Full::All, call)),
            (false, true) => return Err((Full::OfOne, call)),
            (false, false) => (),
        }
        self.newest += 1;
        let state = State { id: self.newest, round: 1 };
        self.open.insert(state.id, Entry { owner, round: 1, stage: Stage::Asking { call, until } });
        Ok(state)
    }

    /// The same for a call that was handed out by [`Held::resume`] and asks once more.
    pub fn hold_again(&mut self, id: u64, call: C, until: Time) -> Result<State, (Full, C)> {
        match self.open.get_mut(&id) {
            Some(entry) if entry.round < INPUT_ROUNDS_MAX => {
                entry.round += 1;
                entry.stage = Stage::Asking { call, until };
                Ok(State { id, round: entry.round })
            }
            Some(_) | None => Err((Full::Rounds, call)),
        }
    }

    /// The client comes again: whoever gets the call owes it an [`Held::over`] or a [`Held::hold_again`].
    pub fn resume(&mut self, state: State, owner: &Owner, now: Time) -> Result<C, Refused> {
        let Some(entry) = self.open.get_mut(&state.id) else { return Err(self.end_of(state.id, owner)) };
        check(&entry.owner, owner)?;
        if entry.round != state.round {
            return Err(Refused::Replayed);
        }
        match std::mem::replace(&mut entry.stage, Stage::Going) {
            Stage::Going => Err(Refused::Going),
            // Whoever collects those that are due gives it up.
            Stage::Asking { call, until } if until <= now => {
                entry.stage = Stage::Asking { call, until };
                Err(Refused::Expired)
            }
            Stage::Asking { call, .. } => Ok(call),
        }
    }

    /// A call that was handed out has ended, one way or the other.
    pub fn over(&mut self, id: u64) {
        if let Some(Entry { stage: Stage::Going, .. }) = self.open.get(&id) {
            self.end(id, End::Over);
        }
    }

    /// The calls whose clients have not come in time.
    pub fn due(&mut self, now: Time) -> Vec<C> {
        self.take(|until| until <= now)
    }

    /// All calls whose clients have not come: nobody will be waited for.
    pub fn take_all(&mut self) -> Vec<C> {
        self.take(|_| true)
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.open.values().filter_map(Entry::until).min()
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn take(&mut self, which: impl Fn(Time) -> bool) -> Vec<C> {
        let due = self.open.iter().filter(|(_, entry)| entry.until().is_some_and(&which));
        let ids: Vec<u64> = due.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.end(id, End::Expired)).collect()
    }

    /// Removes it, with the call if nobody has that.
    fn end(&mut self, id: u64, how: End) -> Option<C> {
        let Entry { owner, stage, .. } = self.open.remove(&id)?;
        self.ended.push_back((id, owner, how));
        if self.ended.len() > HELD_ENDED_MAX {
            self.ended.pop_front();
        }
        match stage {
            Stage::Asking { call, .. } => Some(call),
            Stage::Going => None,
        }
    }

    /// Why there is no such call. Who does not own it learns no more than that.
    fn end_of(&self, id: u64, owner: &Owner) -> Refused {
        let Some((_, of, how)) = self.ended.iter().find(|(ended, ..)| *ended == id) else {
            return Refused::Unknown;
        };
        match (check(of, owner), how) {
            (Err(refused), _) => refused,
            (Ok(()), End::Over) => Refused::Over,
            (Ok(()), End::Expired) => Refused::Expired,
        }
    }
}

impl<C> Entry<C> {
    fn until(&self) -> Option<Time> {
        match self.stage {
            Stage::Asking { until, .. } => Some(until),
            Stage::Going => None,
        }
    }
}

fn check(of: &Owner, by: &Owner) -> Result<(), Refused> {
    match (of.principal == by.principal, of.request == by.request) {
        (false, _) => Err(Refused::Foreign),
        (true, false) => Err(Refused::OtherRequest),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(principal: &str, name: &str) -> Owner {
        Owner { principal: principal.into(), request: digest_of("tools/call", name) }
    }

    fn at(ms: u64) -> Time {
        Time::from_ms(ms)
    }

    /// One call of `a`, asking in its first round until 10.
    fn one() -> (Held<&'static str>, State) {
        let mut held = Held::default();
        let state = held.hold(owner("a", "x"), "call", at(10)).unwrap();
        (held, state)
    }

    #[test]
    fn only_its_client_gets_a_call_back_and_only_once() {
        #[track_caller]
        fn check(
            change: impl FnOnce(&mut Held<&'static str>, State) -> State,
            by: &Owner,
            now: u64,
            expected: Result<&str, Refused>,
        ) {
            let (mut held, state) = one();
            let state = change(&mut held, state);
            assert_eq!(held.resume(state, by, at(now)), expected);
        }
        let own = owner("a", "x");
        let go = |held: &mut Held<&'static str>, state| held.resume(state, &owner("a", "x"), at(1)).unwrap();
        check(|_, state| state, &own, 9, Ok("call"));
        check(|_, state| state, &own, 10, Err(Refused::Expired));
        check(|_, state| state, &owner("b", "x"), 1, Err(Refused::Foreign));
        check(|_, state| state, &owner("a", "y"), 1, Err(Refused::OtherRequest));
        check(|_, state| state, &owner("b", "y"), 10, Err(Refused::Foreign));
        check(|_, state| State { round: 2, ..state }, &own, 1, Err(Refused::Replayed));
        check(|_, state| State { id: 99, ..state }, &own, 1, Err(Refused::Unknown));
        let going = |held: &mut Held<&'static str>, state| {
            go(held, state);
            state
        };
        check(going, &own, 1, Err(Refused::Going));
        check(going, &owner("b", "x"), 1, Err(Refused::Foreign));
        let again = |held: &mut Held<&'static str>, state: State| {
            let call = go(held, state);
            held.hold_again(state.id, call, at(20)).unwrap()
        };
        check(again, &own, 19, Ok("call"));
        check(
            |held, state| State { round: again(held, state).round - 1, ..state },
            &own,
            1,
            Err(Refused::Replayed),
        );
        let over = |held: &mut Held<&'static str>, state: State| {
            go(held, state);
            held.over(state.id);
            state
        };
        check(over, &own, 1, Err(Refused::Over));
        check(over, &owner("b", "x"), 1, Err(Refused::Foreign));
        let expired = |held: &mut Held<&'static str>, state| {
            assert_eq!(held.due(at(9)), Vec::<&str>::new());
            assert_eq!((held.next_deadline(), held.due(at(10))), (Some(at(10)), vec!["call"]));
            state
        };
        check(expired, &own, 1, Err(Refused::Expired));
        check(
            |held, state| {
                held.over(state.id);
                state
            },
            &own,
            1,
            Ok("call"),
        );
    }

    #[test]
    fn states_are_sealed() {
        let sealer = Sealer::new(&[7; 32]);
        let state = State { id: 12, round: 3 };
        let sealed = state.sealed(&sealer);
        assert_eq!(State::opened(&sealed, &sealer), Some(state));
        assert_eq!(State::opened(&sealed, &Sealer::new(&[8; 32])), None);
        assert_eq!(State::opened(&sealed.replace("12.3", "12.4"), &sealer), None);
        assert_eq!(State::opened("\"12.3\"", &sealer), None);
        // What a server gave is none of ours, whatever it says.
        let theirs = sealer.seal("\"12.3\"", &["alpha", "tools/call", "add"]).unwrap();
        assert_eq!(State::opened(&theirs, &sealer), None);
    }

    #[test]
    fn the_same_request_however_it_is_written() {
        #[track_caller]
        fn check(a: &str, b: &str, same: bool) {
            assert_eq!(digest_of("tools/call", a) == digest_of("tools/call", b), same, "{a} {b}");
        }
        let plain = r#"{"name":"x","arguments":{"a":1,"b":[2]}}"#;
        check(plain, r#"{ "arguments":{"b":[ 2 ],"a":1}, "name":"\u0078"}"#, true);
        check(
            plain,
            r#"{"name":"x","requestState":"s","arguments":{"a":1,"b":[2]},"inputResponses":{},"_meta":{"k":1}}"#,
            true,
        );
        check(plain, r#"{"name":"x","arguments":{"a":1,"b":[3]}}"#, false);
        check(plain, r#"{"name":"x"}"#, false);
        check(r#"{"a":1e400}"#, r#"{"a":1e400,"_meta":{}}"#, true);
        check(r#"{"a":1e400}"#, r#"{"a":1e401}"#, false);
        assert_ne!(digest_of("tools/call", "{}"), digest_of("prompts/get", "{}"));
    }

    #[test]
    fn there_is_an_end_to_room_and_to_rounds() {
        let mut held = Held::default();
        for n in 0..HELD_CALLS_MAX {
            let principal = (n / HELD_CALLS_OF_ONE_MAX).to_string();
            held.hold(owner(&principal, "x"), n, at(10)).unwrap();
        }
        assert_eq!(held.hold(owner("new", "x"), 7, at(10)), Err((Full::All, 7)));
        held.due(at(10));
        for n in 0..HELD_CALLS_OF_ONE_MAX {
            held.hold(owner("a", "x"), n, at(20)).unwrap();
        }
        assert_eq!(held.hold(owner("a", "y"), 7, at(20)), Err((Full::OfOne, 7)));
        let mut state = held.hold(owner("b", "x"), 7, at(20)).unwrap();
        for _ in 1..INPUT_ROUNDS_MAX {
            let call = held.resume(state, &owner("b", "x"), at(1)).unwrap();
            state = held.hold_again(state.id, call, at(20)).unwrap();
        }
        held.resume(state, &owner("b", "x"), at(1)).unwrap();
        assert_eq!(held.hold_again(state.id, 7, at(20)), Err((Full::Rounds, 7)));
    }

    /// Whatever happens in whatever order: a call is in one place, and leaves the table once, to its own client or to
    /// whoever gives it up.
    #[test]
    fn every_held_call_ends_in_exactly_one_way() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut held: Held<u64> = Held::default();
            let (mut now, mut calls) = (0, 0);
            // Those whose clients have been asked, those that were handed out, and how often each call ended.
            let mut asked: Vec<(State, Owner, u64)> = Vec::new();
            let mut going: Vec<(State, Owner, u64)> = Vec::new();
            let mut ends: BTreeMap<u64, u32> = BTreeMap::new();
            for _ in 0..400 {
                now += random.u64(..3);
                let one = owner(["a", "b", "c"][random.usize(..3)], ["x", "y"][random.usize(..2)]);
                let until = at(now + random.u64(..20));
                match random.u32(..6) {
                    0 => {
                        calls += 1;
                        match held.hold(one.clone(), calls, until) {
                            Ok(state) => asked.push((state, one, calls)),
                            Err((_, call)) => *ends.entry(call).or_default() += 1,
                        }
                    }
                    1 | 2 if !asked.is_empty() => {
                        let (state, own, call) = asked[random.usize(..asked.len())].clone();
                        let wrong = State { round: state.round + random.u32(..2), ..state };
                        if let Ok(got) = held.resume(wrong, &one, at(now)) {
                            assert_eq!((&one, wrong, got), (&own, state, call), "seed {seed}");
                            asked.retain(|(of, ..)| *of != state);
                            going.push((state, own, call));
                        }
                    }
                    3 if !going.is_empty() => {
                        let (state, own, call) = going.swap_remove(random.usize(..going.len()));
                        match held.hold_again(state.id, call, until) {
                            Ok(state) => asked.push((state, own, call)),
                            Err((_, call)) => {
                                held.over(state.id);
                                *ends.entry(call).or_default() += 1;
                            }
                        }
                    }
                    4 if !going.is_empty() => {
                        let (state, _, call) = going.swap_remove(random.usize(..going.len()));
                        held.over(state.id);
                        *ends.entry(call).or_default() += 1;
                    }
                    _ => {
                        for call in held.due(at(now)) {
                            asked.retain(|(.., of)| *of != call);
                            *ends.entry(call).or_default() += 1;
                        }
                    }
                }
                assert_eq!(held.len(), asked.len() + going.len(), "seed {seed}");
            }
            for call in held.take_all() {
                *ends.entry(call).or_default() += 1;
            }
            for (state, _, call) in going {
                held.over(state.id);
                *ends.entry(call).or_default() += 1;
            }
            assert!(held.is_empty() && held.next_deadline().is_none());
            assert_eq!(ends, (1..=calls).map(|call| (call, 1)).collect(), "seed {seed}");
        }
    }
}
