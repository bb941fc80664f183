//! How a container of ours comes to be, as a pure function: what the engine answered -> what to ask it next.
//!
//! Nothing is created while anything of the same server may exist; what was created is recorded before it is started;
//! what cannot be started is removed again, and what cannot be removed is said to be owed. It knows no engine, clock
//! or thread: the simulator plays the engine (`tests/it/births.rs`), `carry_out` in this folder asks the real one.
//!
//! ```text
//! clear the place: list > remove > list …  ->  create a | b  ->  record > attach > watch > start  ->  born
//!                                               |    ^   no image: pull      |
//!                                               |    +-- name taken by ours: remove it
//!                                               +-- lost, refused ----------+-> discard -> still-born (owed?)
//! ```

use crate::base::fault::FaultKind;
use std::collections::VecDeque;

/// How often the place is looked at again, half a second apart, before we give up on what stands there: 5 s.
const LOOKS_MAX: u32 = 11;

/// Creates of one birth: each repetition follows from something that was in the way and is not any more.
const CREATES_MAX: u32 = 4;

/// The two names that a life key has: a switch is possible, and a third container is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub fn letter(self) -> char {
        match self {
            Slot::A => 'a',
            Slot::B => 'b',
        }
    }
}

/// What is to be asked of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Every container of this life key, stopped ones too; but for that of a life beside this one, during a switch.
    Predecessors,
    /// Remove a container of this life key.
    Remove(String),
    /// Half a second.
    Pause,
    Create(Slot),
    /// Who has the name of this slot?
    Holder(Slot),
    Pull,
    /// Write it down, so that it is found whatever dies.
    Record(String),
    Attach(String),
    /// Be told of its end.
    Watch(String),
    Start(String),
    /// Remove what this birth made; without an id whatever has the name of the slot, if it is of this very life.
    /// Not to be interrupted.
    Discard(Option<String>, Slot),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found(Vec<String>),
    /// Removed, recorded, attached, started, waited, pulled: what was asked is done.
    Done,
    Created(String),
    NameTaken,
    Holder(Holder),
    NoSuchImage,
    Failed(Failure),
    /// Somebody wants this birth to be given up.
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A container of this life key.
    Ours(String),
    /// Not ours, or of the life beside this one: not to be touched.
    Stranger,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FaultKind,
    /// No answer came: what was asked may have been done, or may still be.
    pub in_doubt: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Ask(Ask),
    /// It runs.
    Born(String),
    /// Nothing runs. `owed`: what may have been left must be removed later.
    StillBorn(FaultKind, Option<Owed>),
}

/// What a birth could not take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// `None`: a create that was never answered; whatever has the name of the slot and is of this life.
    pub id: Option<String>,
    pub slot: Slot,
}

/// One birth. [`Birth::begin`] asks first, [`Birth::next`] after every answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    may_pull: bool,
    slot: Slot,
    creates: u32,
    looks: u32,
    pulled: bool,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Listing,
    Clearing(VecDeque<String>),
    Pausing,
    Creating,
    AskingHolder,
    RemovingHolder,
    Pulling,
    Recording(String),
    Attaching(String),
    Watching(String),
    Starting(String),
    Discarding(Option<String>, FaultKind),
}

impl Birth {
    /// `may_pull`: an image that is not there may be pulled. `pull_first`: it is pulled in any case.
    pub fn begin(may_pull: bool, pull_first: bool) -> (Birth, Ask) {
        let (step, ask) = match pull_first {
            true => (Step::Pulling, Ask::Pull),
            false => (Step::Listing, Ask::Predecessors),
        };
        (Birth { may_pull, slot: Slot::A, creates: 0, looks: 0, pulled: false, step }, ask)
    }

    pub fn next(&mut self, answer: Answer) -> Next {
        let step = std::mem::replace(&mut self.step, Step::Listing);
        let done = answer == Answer::Done;
        match step {
            Step::Listing => self.listed(answer),
            Step::Clearing(rest) => self.cleared(&answer, rest),
            Step::Pausing if answer == Answer::Cancelled => over(FaultKind::Stopped),
            Step::Pausing => self.list(),
            Step::Creating => self.created(answer),
            Step::AskingHolder => self.holder(answer),
            Step::RemovingHolder if done => self.create(),
            Step::Pulling if done => {
                self.pulled = true;
                self.list()
            }
            Step::RemovingHolder | Step::Pulling => give_up(&answer),
            // A record that could not be written costs a way to find it later, not the life: its labels remain.
            Step::Recording(id) if answer == Answer::Cancelled => self.discard(Some(id), FaultKind::Stopped),
            Step::Recording(id) => self.ask(Step::Attaching(id.clone()), Ask::Attach(id)),
            Step::Attaching(id) if done => self.ask(Step::Watching(id.clone()), Ask::Watch(id)),
            Step::Watching(id) if done => self.ask(Step::Starting(id.clone()), Ask::Start(id)),
            Step::Starting(id) if done => Next::Born(id),
            Step::Attaching(id) | Step::Watching(id) | Step::Starting(id) => {
                self.discard(Some(id), reason(&answer))
            }
            Step::Discarding(id, why) => {
                let owed = (!done).then_some(Owed { id, slot: self.slot });
                Next::StillBorn(why, owed)
            }
        }
    }

    fn ask(&mut self, step: Step, ask: Ask) -> Next {
        self.step = step;
        Next::Ask(ask)
    }

    fn list(&mut self) -> Next {
        self.ask(Step::Listing, Ask::Predecessors)
    }

    fn create(&mut self) -> Next {
        if self.creates >= CREATES_MAX {
            return over(FaultKind::EngineError);
        }
        self.creates += 1;
        self.ask(Step::Creating, Ask::Create(self.slot))
    }

    fn discard(&mut self, id: Option<String>, why: FaultKind) -> Next {
        let slot = self.slot;
        self.ask(Step::Discarding(id.clone(), why), Ask::Discard(id, slot))
    }

    /// Only an empty place may be created in.
    fn listed(&mut self, answer: Answer) -> Next {
        let Answer::Found(found) = answer else { return give_up(&answer) };
        let mut found = VecDeque::from(found);
        let Some(first) = found.pop_front() else { return self.create() };
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return over(FaultKind::EngineError);
        }
        self.ask(Step::Clearing(found), Ask::Remove(first))
    }

    fn cleared(&mut self, answer: &Answer, mut rest: VecDeque<String>) -> Next {
        // Whether it is gone is for the next look to say.
        let told = matches!(answer, Answer::Done | Answer::Failed(Failure { in_doubt: false, .. }));
        match rest.pop_front() {
            _ if !told => give_up(answer),
            Some(id) => self.ask(Step::Clearing(rest), Ask::Remove(id)),
            // The first look after a removal is made at once.
            None if self.looks == 1 => self.list(),
            None => self.ask(Step::Pausing, Ask::Pause),
        }
    }

    fn created(&mut self, answer: Answer) -> Next {
        match answer {
            Answer::Created(id) => self.ask(Step::Recording(id.clone()), Ask::Record(id)),
            Answer::NameTaken => self.ask(Step::AskingHolder, Ask::Holder(self.slot)),
            Answer::NoSuchImage if self.may_pull && !self.pulled => self.ask(Step::Pulling, Ask::Pull),
            Answer::NoSuchImage => over(FaultKind::ImageNotFound),
            Answer::Failed(Failure { kind, in_doubt: true }) => self.discard(None, kind),
            // Given up while it was under way: it may be there.
            Answer::Cancelled => self.discard(None, FaultKind::Stopped),
            Answer::Failed(_) | Answer::Found(_) | Answer::Done | Answer::Holder(_) => give_up(&answer),
        }
    }

    fn holder(&mut self, answer: Answer) -> Next {
        let Answer::Holder(holder) = answer else { return give_up(&answer) };
        match (holder, self.slot) {
            (Holder::Ours(id), _) => self.ask(Step::RemovingHolder, Ask::Remove(id)),
            (Holder::Nobody, _) => self.create(),
            (Holder::Stranger, Slot::A) => {
                self.slot = Slot::B;
                self.create()
            }
            (Holder::Stranger, Slot::B) => over(FaultKind::NotOurs),
        }
    }
}

/// Nothing was made, so nothing is left.
fn over(why: FaultKind) -> Next {
    Next::StillBorn(why, None)
}

fn give_up(answer: &Answer) -> Next {
    over(reason(answer))
}

fn reason(answer: &Answer) -> FaultKind {
    match answer {
        Answer::Failed(failure) => failure.kind,
        Answer::Cancelled => FaultKind::Stopped,
        Answer::NoSuchImage => FaultKind::ImageNotFound,
        // An answer to another question: no engine gives it.
        Answer::Found(_) | Answer::Done | Answer::Created(_) | Answer::NameTaken | Answer::Holder(_) => {
            FaultKind::EngineError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer as A;

    /// Answers in turn; the asks and the end, one word each.
    #[track_caller]
    fn check(answers: &[Answer], expected: &str) {
        let (mut birth, ask) = Birth::begin(true, false);
        let mut told = vec![word(&ask)];
        for answer in answers {
            match birth.next(answer.clone()) {
                Next::Ask(ask) => told.push(word(&ask)),
                Next::Born(id) => told.push(format!("born {id}")),
                Next::StillBorn(why, owed) => {
                    let owed = owed.map_or(String::new(), |owed| {
                        format!(" owes {}", owed.id.unwrap_or(owed.slot.letter().to_string()))
                    });
                    told.push(format!("{}{owed}", why.name()));
                }
            }
        }
        assert_eq!(told.join(", "), expected);
    }

    fn word(ask: &Ask) -> String {
        match ask {
            Ask::Predecessors => "list".to_owned(),
            Ask::Remove(id) => format!("remove {id}"),
            Ask::Pause => "pause".to_owned(),
            Ask::Create(slot) => format!("create {}", slot.letter()),
            Ask::Holder(slot) => format!("who {}", slot.letter()),
            Ask::Pull => "pull".to_owned(),
            Ask::Record(id) => format!("record {id}"),
            Ask::Attach(id) => format!("attach {id}"),
            Ask::Watch(id) => format!("watch {id}"),
            Ask::Start(id) => format!("start {id}"),
            Ask::Discard(id, slot) => {
                format!("discard {}", id.clone().unwrap_or(slot.letter().to_string()))
            }
        }
    }

    fn none() -> Answer {
        A::Found(Vec::new())
    }

    fn id() -> String {
        "x".to_owned()
    }

    fn failed(kind: FaultKind, in_doubt: bool) -> Answer {
        A::Failed(Failure { kind, in_doubt })
    }

    #[test]
    fn births() {
        let made = [none(), A::Created(id()), A::Done, A::Done, A::Done];
        let born = "list, create a, record x, attach x, watch x, start x, born x";
        check(&[&made[..], &[A::Done]].concat(), born);
        check(
            &[A::Found(vec!["o".to_owned()]), A::Done, none(), A::Created(id())],
            "list, remove o, list, create a, record x",
        );
        check(
            &[none(), A::NoSuchImage, A::Done, none(), A::Created(id())],
            "list, create a, pull, list, create a, record x",
        );
        let mine = A::Holder(Holder::Ours("o".to_owned()));
        check(
            &[none(), A::NameTaken, mine, A::Done, A::Created(id())],
            "list, create a, who a, remove o, create a, record x",
        );
        let stranger = || A::Holder(Holder::Stranger);
        check(
            &[none(), A::NameTaken, stranger(), A::NameTaken, stranger()],
            "list, create a, who a, create b, who b, not_ours",
        );
    }

    #[test]
    fn still_births() {
        let away = FaultKind::EngineAway;
        check(&[failed(away, true)], "list, engine_away");
        check(&[none(), A::NoSuchImage, A::NoSuchImage], "list, create a, pull, image_not_found");
        check(&[none(), failed(FaultKind::BadConfig, false)], "list, create a, bad_config");
        check(
            &[none(), failed(away, true), failed(away, true)],
            "list, create a, discard a, engine_away owes a",
        );
        check(&[none(), A::Cancelled, A::Done], "list, create a, discard a, stopped");
        let made = [none(), A::Created(id()), A::Done, A::Done, A::Done];
        let lost = [&made[..], &[failed(away, true), failed(away, true)]].concat();
        check(&lost, "list, create a, record x, attach x, watch x, start x, discard x, engine_away owes x");
    }

    /// What stands in the place and does not go keeps everything else out of it.
    #[test]
    fn a_place_that_is_never_free() {
        let (mut birth, _) = Birth::begin(true, false);
        let mut asks = 0;
        loop {
            asks += 1;
            assert!(asks < 100);
            let next = birth.next(A::Found(vec!["o".to_owned()]));
            if next == Next::StillBorn(FaultKind::EngineError, None) {
                return;
            }
            assert_eq!(next, Next::Ask(Ask::Remove("o".to_owned())));
            if birth.next(A::Done) == Next::Ask(Ask::Pause) {
                assert_eq!(birth.next(A::Done), Next::Ask(Ask::Predecessors));
            }
        }
    }
}
