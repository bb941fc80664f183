//! In which era a server is spoken to: what its entry says, what was learnt of it, and what its clients speak.
//!
//! A life is of one era, that of its first message. Where the server can be of both, its clients decide: whoever is
//! spoken to in their own era loses nothing on the way. So a first life greets by `initialize`, as most clients do; a
//! server that then speaks neither needs no second start, and one that ends or is silent at an unknown request never
//! hears one. When the first call to a life comes from a client of the other era, and that is not known to be in vain,
//! the life makes way for one of that era; a life that somebody has used stays what it is, and the call is bridged.
//! What came of it is kept in the store, so that later lives begin right.

use crate::base::limits::{ERA_DOUBT, ERA_SILENCE_MIN};
use crate::base::time::Time;
use crate::mcp::era::Era;
use crate::mcp::probe::{Expected, Heard, Next, Probe, Question, Transport};
use crate::store::Store;
use crate::sys::clock;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Tables of the store: what is known of each server, and the era of the last client.
const SERVERS: &str = "eras";
const CLIENTS: &str = "client_eras";
const LAST: &str = "last";

/// What the eras of one server depend on.
#[derive(Clone)]
pub struct Setting {
    /// What the entry says; nothing is `auto`.
    pub era: Option<Era>,
    pub store: Option<Store>,
    /// Stands for the program that runs: of another one nothing is known.
    pub program: u64,
    pub connect_timeout: Duration,
}

/// Across the lives of one server.
pub struct Eras {
    name: String,
    setting: RwLock<Arc<Setting>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until it is first needed.
    known: Option<Known>,
    /// The asking that is under way: it may go on in the next life.
    probe: Option<Probe>,
    asked: Vec<Era>,
    /// A life ended at a question of the modern era. Until a life is greeted, none is asked that again.
    shy: bool,
    begun: Time,
    /// How long the last greeting took.
    greeted_in: Option<Duration>,
}

/// What is known of a server. Nothing of what is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    program: u64,
    legacy: Option<bool>,
    modern: Option<bool>,
    /// The era of the last client that used it.
    used: Option<Era>,
    /// When it was last learnt, in ms since 1970.
    at_ms: u64,
}

impl Known {
    fn speaks(&mut self, era: Era) -> &mut Option<bool> {
        match era {
            Era::Legacy => &mut self.legacy,
            Era::Modern => &mut self.modern,
        }
    }

    /// Servers learn: that one does not speak an era is doubted after a while.
    fn doubted(mut self, now_ms: u64) -> Known {
        if now_ms.saturating_sub(self.at_ms) > ERA_DOUBT.as_millis() as u64 {
            self.legacy = self.legacy.filter(|speaks| *speaks);
            self.modern = self.modern.filter(|speaks| *speaks);
        }
        self
    }
}

impl Eras {
    pub fn new(name: &str, setting: Setting) -> Eras {
        Eras { name: name.to_owned(), setting: RwLock::new(Arc::new(setting)), state: Mutex::default() }
    }

    /// Another one from now on: between two lives, or for one that runs the same program in the same era.
    pub fn set(&self, setting: Setting) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut *self.setting.write(), Arc::new(setting));
        let now = self.setting();
        if (before.era, before.program) != (now.era, now.program) {
            *state = State::default();
        }
    }

    fn setting(&self) -> Arc<Setting> {
        self.setting.read().clone()
    }

    /// The first question of a life.
    pub fn begin(&self, transport: Transport) -> Question {
        let mut state = self.state.lock();
        state.begun = clock::now();
        if state.probe.is_none() {
            let expected = self.expected(&mut state);
            state.asked.clear();
            state.probe = Some(Probe::new(transport, expected));
        }
        let question = state.probe.as_ref().expect("it was just made").question();
        state.asked.push(era_of(question));
        question
    }

    fn expected(&self, state: &mut State) -> Expected {
        if let Some(era) = self.setting().era {
            return Expected::Set(era);
        }
        let known = *self.known(state);
        let wanted = known.used.or_else(|| self.last_client()).unwrap_or(Era::Legacy);
        match (wanted, known.modern, known.legacy) {
            (Era::Modern, Some(true), _) => Expected::Learnt(Era::Modern),
            (Era::Modern, None, _) if !state.shy => Expected::Unknown,
            (Era::Legacy, Some(true), Some(false)) => Expected::Learnt(Era::Modern),
            _ => Expected::Learnt(Era::Legacy),
        }
    }

    /// What to do after what was heard.
    pub fn hear(&self, heard: Heard<'_>) -> Next {
        let mut state = self.state.lock();
        let Some(mut probe) = state.probe else { return Next::Away };
        let asked = era_of(probe.question());
        let next = probe.hear(heard);
        state.probe = Some(probe);
        state.shy |= matches!(heard, Heard::Ended) && asked == Era::Modern;
        match &next {
            Next::Ask(question) => state.asked.push(era_of(*question)),
            Next::Failed(_) => {
                state.probe = None;
                // It said what we do not understand, and was greeted in the other era before.
                let odd = asked == Era::Modern && matches!(heard, Heard::Answer { .. });
                if odd && self.setting().era.is_none() && self.known(&mut state).legacy == Some(true) {
                    self.learn(&mut state, &[(Era::Modern, false)]);
                    return Next::Restart(Question::Initialize);
                }
            }
            Next::Modern { .. } | Next::Legacy { .. } => state.probe = None,
            Next::Restart(_) | Next::Login | Next::Away => (),
        }
        next
    }

    /// It was greeted in this era, so that it does not speak the other if that was asked before.
    pub fn settle(&self, era: Era) {
        let mut state = self.state.lock();
        (state.probe, state.shy) = (None, false);
        state.greeted_in = Some(clock::now().since(state.begun));
        if self.setting().era.is_none() {
            let other = other(era);
            let refused = state.asked.contains(&other).then_some((other, false));
            let learnt: Vec<(Era, bool)> = [(era, true)].into_iter().chain(refused).collect();
            self.learn(&mut state, &learnt);
        }
    }

    /// How long an answer may take until silence is one. `None`: there is nothing else to try.
    pub fn patience(&self) -> Option<Duration> {
        let state = self.state.lock();
        let probe = state.probe?;
        let silent = matches!(probe.clone().hear(Heard::Silence), Next::Restart(_));
        // A server that is slow to start is slow in any era.
        let known = state.greeted_in.map(|span| span * 3 + ERA_SILENCE_MIN);
        let longest = self.setting().connect_timeout / 2;
        silent.then(|| known.map_or(longest, |span| span.min(longest)))
    }

    /// A client of this era calls. Whether a life of the other era should make way, if nobody has used it.
    pub fn wanted(&self, era: Era, current: Era) -> bool {
        if self.setting().era.is_some() {
            return false;
        }
        let mut state = self.state.lock();
        let known = self.known(&mut state);
        let before = known.used.replace(era);
        let speaks = *known.speaks(era) != Some(false);
        if before != Some(era) {
            self.save(&state);
            self.remember(CLIENTS, LAST, &format!("\"{}\"", era.name()));
        }
        era != current && speaks
    }

    fn known<'s>(&self, state: &'s mut State) -> &'s mut Known {
        state.known.get_or_insert_with(|| {
            let stored = self.setting().store.as_ref().and_then(|store| store.recall(SERVERS, &self.name));
            let known: Option<Known> = stored.and_then(|json| serde_json::from_str(&json).ok());
            let same = known.filter(|known| known.program == self.setting().program);
            same.map(|known| known.doubted(clock::wall().0)).unwrap_or_default()
        })
    }

    fn last_client(&self) -> Option<Era> {
        let json = self.setting().store.as_ref()?.recall(CLIENTS, LAST)?;
        serde_json::from_str(&json).ok()
    }

    fn learn(&self, state: &mut State, learnt: &[(Era, bool)]) {
        let known = self.known(state);
        let before = *known;
        for (era, speaks) in learnt {
            *known.speaks(*era) = Some(*speaks);
        }
        if *known != before {
            known.at_ms = clock::wall().0;
            self.save(state);
        }
    }

    fn save(&self, state: &State) {
        if let Some(known) = state.known {
            let known = Known { program: self.setting().program, ..known };
            let json = serde_json::to_string(&known).expect("plain values always serialise");
            self.remember(SERVERS, &self.name, &json);
        }
    }

    fn remember(&self, table: &str, key: &str, json: &str) {
        let Some(store) = &self.setting().store else { return };
        if let Err(fault) = store.remember(table, key, json) {
            log::debug!("{}: its era is not remembered: {fault}", self.name);
        }
    }
}

fn other(era: Era) -> Era {
    match era {
        Era::Legacy => Era::Modern,
        Era::Modern => Era::Legacy,
    }
}

fn era_of(question: Question) -> Era {
    match question {
        Question::Discover(_) => Era::Modern,
        Question::Initialize => Era::Legacy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::envelope::Outcome;

    const MODERN: Outcome<'_> = Outcome::Result(r#"{"supportedVersions":["2026-07-28"]}"#);
    const LEGACY: Outcome<'_> = Outcome::Result(r#"{"protocolVersion":"2025-11-25"}"#);
    const REFUSED: Outcome<'_> =
        Outcome::Error(r#"{"code":-32022,"message":"v","data":{"supported":["2026-07-28"]}}"#);
    const FUTURE: Outcome<'_> = Outcome::Result(r#"{"supportedVersions":["2099-01-01"]}"#);
    const UNKNOWN: Outcome<'_> = Outcome::Error(r#"{"code":-32601,"message":"no"}"#);

    fn eras(era: Option<Era>) -> Eras {
        let connect_timeout = Duration::from_secs(30);
        Eras::new("x", Setting { era, store: None, program: 7, connect_timeout })
    }

    fn answer(outcome: Outcome<'_>) -> Heard<'_> {
        Heard::Answer { status: None, outcome }
    }

    /// Begins a life and lets it hear one thing: what it asked, and what follows.
    #[track_caller]
    fn check(eras: &Eras, heard: Heard<'_>, asked: Era, next: &str) {
        assert_eq!(era_of(eras.begin(Transport::Stdio)), asked);
        follow(eras, heard, next);
    }

    #[track_caller]
    fn follow(eras: &Eras, heard: Heard<'_>, next: &str) {
        let found = match eras.hear(heard) {
            Next::Modern { .. } => {
                eras.settle(Era::Modern);
                "modern"
            }
            Next::Legacy { .. } => {
                eras.settle(Era::Legacy);
                "legacy"
            }
            Next::Restart(question) => match era_of(question) {
                Era::Modern => "restart modern",
                Era::Legacy => "restart legacy",
            },
            Next::Ask(_) => "ask",
            Next::Failed(_) => "failed",
            Next::Login | Next::Away => "away",
        };
        assert_eq!(found, next);
    }

    #[test]
    fn a_server_of_both_is_what_its_client_is() {
        let eras = eras(None);
        check(&eras, answer(LEGACY), Era::Legacy, "legacy");
        assert!(!eras.wanted(Era::Legacy, Era::Legacy));
        assert!(eras.wanted(Era::Modern, Era::Legacy));
        check(&eras, answer(MODERN), Era::Modern, "modern");
        assert!(eras.wanted(Era::Legacy, Era::Modern));
        check(&eras, answer(LEGACY), Era::Legacy, "legacy");
    }

    #[test]
    fn a_legacy_server_is_asked_once() {
        let eras = eras(None);
        check(&eras, answer(LEGACY), Era::Legacy, "legacy");
        assert!(eras.wanted(Era::Modern, Era::Legacy));
        check(&eras, answer(UNKNOWN), Era::Modern, "ask");
        follow(&eras, answer(LEGACY), "legacy");
        assert!(!eras.wanted(Era::Modern, Era::Legacy));
        check(&eras, answer(LEGACY), Era::Legacy, "legacy");
    }

    #[test]
    fn a_modern_server_refuses_the_greeting_once() {
        let eras = eras(None);
        check(&eras, answer(REFUSED), Era::Legacy, "restart modern");
        check(&eras, answer(MODERN), Era::Modern, "modern");
        assert!(!eras.wanted(Era::Legacy, Era::Modern));
        check(&eras, answer(MODERN), Era::Modern, "modern");
    }

    #[test]
    fn silence_and_an_end_are_answers_once() {
        for heard in [Heard::Silence, Heard::Ended] {
            let eras = eras(None);
            eras.wanted(Era::Modern, Era::Legacy);
            check(&eras, heard, Era::Modern, "restart legacy");
            check(&eras, answer(LEGACY), Era::Legacy, "legacy");
            assert!(!eras.wanted(Era::Modern, Era::Legacy));
        }
    }

    #[test]
    fn a_server_that_ends_always_is_not_started_twice_as_often() {
        let eras = eras(None);
        eras.wanted(Era::Modern, Era::Legacy);
        check(&eras, Heard::Ended, Era::Modern, "restart legacy");
        for _ in 0..3 {
            check(&eras, Heard::Ended, Era::Legacy, "failed");
        }
    }

    #[test]
    fn what_worked_before_works_again() {
        let eras = eras(None);
        check(&eras, answer(LEGACY), Era::Legacy, "legacy");
        assert!(eras.wanted(Era::Modern, Era::Legacy));
        check(&eras, answer(FUTURE), Era::Modern, "restart legacy");
        check(&eras, answer(LEGACY), Era::Legacy, "legacy");
    }

    #[test]
    fn the_entry_decides() {
        let modern = eras(Some(Era::Modern));
        assert!(!modern.wanted(Era::Legacy, Era::Modern));
        check(&modern, answer(UNKNOWN), Era::Modern, "failed");
        check(&modern, answer(MODERN), Era::Modern, "modern");
        let legacy = eras(Some(Era::Legacy));
        check(&legacy, answer(REFUSED), Era::Legacy, "failed");
    }

    #[test]
    fn patience() {
        let eras = eras(None);
        eras.begin(Transport::Stdio);
        assert_eq!(eras.patience(), None, "there is nothing else to try");
        follow(&eras, answer(LEGACY), "legacy");
        eras.wanted(Era::Modern, Era::Legacy);
        eras.begin(Transport::Stdio);
        assert!(eras.patience().unwrap() < Duration::from_secs(15), "it was quick before");
    }

    #[test]
    fn that_an_era_is_not_spoken_is_doubted_after_a_while() {
        let known = Known { legacy: Some(true), modern: Some(false), at_ms: 1, ..Known::default() };
        assert_eq!(known.doubted(2), known);
        let later = ERA_DOUBT.as_millis() as u64 + 2;
        assert_eq!(known.doubted(later), Known { modern: None, ..known });
    }
}
