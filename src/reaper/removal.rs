//! How one container is removed, as a pure function: what the engine answered -> what to ask it next.
//!
//! Its labels are read before it is touched, at every try; what does not carry ours is refused. Gone means that the
//! engine says so. An engine that is slow gets longer tries; what it still has not done then is owed, and said to be.
//! [`remove`] carries it out; the rest knows no engine, clock or thread.

use super::whose::Whose;
use crate::engine::by_cli::Reach;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::sys::clock;
use crate::sys::net::poll_until;
use crate::sys::wake::Wake;
use std::time::Duration;

/// The patience of each try; with each the engine has shown that it is slow.
const TRIES: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(20), Duration::from_secs(30)];

/// Between two tries, so that an engine that is busy gets a rest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Between two looks whether it is gone: soon at first, because most are gone at once, then every half second.
const LOOK_FIRST: Duration = Duration::from_millis(25);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a user may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// No single try is longer: `docker_cleanup_timeout_seconds`.
    pub try_max: Duration,
    /// Whether it must be seen gone: `verify_cleanup`.
    pub verify: bool,
    /// How long after the engine's word it may still be seen: `verify_timeout_seconds`.
    pub verify_within: Duration,
    /// One try only: for a death of ours, where somebody else tries again.
    pub once: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        let seconds = Duration::from_secs;
        Rules { try_max: seconds(30), verify: true, verify_within: seconds(5), once: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Is it there, and whose is it? The answer is to come within this time.
    Look(Duration),
    Remove(Duration),
    Pause(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ours,
    NotOurs,
    /// The engine knows no such container.
    Gone,
    /// Removed, or the pause is over.
    Done,
    /// No answer, or an error of the engine.
    Failed,
    /// There is no time left for it.
    Cancelled,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Gone,
    /// The engine said that it would; nobody looked.
    Unverified,
    /// It may still be there: to be tried again later.
    Owed,
    /// It does not carry the labels that it should: it was not touched.
    NotOurs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Ask(Ask),
    Over(Removed),
}

/// One removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    rules: Rules,
    tried: usize,
    looks: u32,
    /// How long it has been looked for since the engine's word.
    looked: Duration,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Checking,
    Removing,
    Verifying,
    /// Before the next look.
    Waiting,
    /// Before the next try.
    Resting,
}

impl Removal {
    pub fn begin(rules: Rules) -> (Removal, Ask) {
        let removal = Removal { rules, tried: 0, looks: 0, looked: Duration::ZERO, step: Step::Checking };
        (removal, Ask::Look(removal.patience()))
    }

    pub fn next(&mut self, answer: Answer) -> Next {
        if answer == Answer::Cancelled {
            return Next::Over(Removed::Owed);
        }
        match (self.step, answer) {
            (Step::Checking | Step::Verifying, Answer::Gone) => Next::Over(Removed::Gone),
            (Step::Checking | Step::Verifying, Answer::NotOurs) => Next::Over(Removed::NotOurs),
            (Step::Checking, Answer::Ours) => self.ask(Step::Removing, Ask::Remove(self.patience())),
            (Step::Removing, Answer::Done | Answer::Gone) if !self.rules.verify => {
                Next::Over(Removed::Unverified)
            }
            (Step::Removing, Answer::Done | Answer::Gone) => {
                (self.looks, self.looked) = (0, Duration::ZERO);
                self.ask(Step::Verifying, Ask::Look(self.patience()))
            }
            (Step::Verifying, Answer::Ours) if self.looked < self.rules.verify_within => {
                let pause = (LOOK_FIRST * (1 << self.looks.min(8))).min(LOOK_EVERY);
                self.looks += 1;
                self.looked += pause;
                self.ask(Step::Waiting, Ask::Pause(pause))
            }
            (Step::Waiting, _) => self.ask(Step::Verifying, Ask::Look(self.patience())),
            (Step::Resting, _) => self.ask(Step::Checking, Ask::Look(self.patience())),
            _ => self.again(),
        }
    }

    fn ask(&mut self, step: Step, ask: Ask) -> Next {
        self.step = step;
        Next::Ask(ask)
    }

    fn again(&mut self) -> Next {
        let pause = PAUSES.get(self.tried).copied().filter(|_| !self.rules.once);
        self.tried += 1;
        match pause {
            Some(pause) => self.ask(Step::Resting, Ask::Pause(pause)),
            None => Next::Over(Removed::Owed),
        }
    }

    fn patience(&self) -> Duration {
        TRIES[self.tried.min(TRIES.len() - 1)].min(self.rules.try_max)
    }
}

/// Removes it, and says at last why not, if not. A wake that is readable ends it at the next question.
pub fn remove(
    reach: &Reach,
    id: &str,
    whose: &Whose,
    rules: Rules,
    cancel: Option<&Wake>,
) -> (Removed, Option<EngineError>) {
    let (mut removal, mut ask) = Removal::begin(rules);
    let mut trouble = None;
    loop {
        let answer = answer(reach, id, whose, ask, cancel, &mut trouble);
        match removal.next(answer) {
            Next::Ask(next) => ask = next,
            Next::Over(removed) => return (removed, trouble),
        }
    }
}

fn answer(
    reach: &Reach,
    id: &str,
    whose: &Whose,
    ask: Ask,
    cancel: Option<&Wake>,
    trouble: &mut Option<EngineError>,
) -> Answer {
    let within = |span| Patience { deadline: clock::now() + span, cancel };
    let asked = match ask {
        Ask::Look(patience) => reach
            .inspect(id, &within(patience))
            .map(|seen| if whose.owns(&seen.labels) { Answer::Ours } else { Answer::NotOurs }),
        Ask::Remove(patience) => reach.remove(id, &within(patience)).map(|()| Answer::Done),
        Ask::Pause(span) => return pause(span, cancel),
    };
    asked.unwrap_or_else(|error| {
        let answer = if error.kind == EngineErrorKind::NoSuchContainer {
            Answer::Gone
        } else if error.kind == EngineErrorKind::Cancelled {
            Answer::Cancelled
        } else {
            Answer::Failed
        };
        *trouble = Some(error);
        answer
    })
}

fn pause(span: Duration, cancel: Option<&Wake>) -> Answer {
    let mut fds: Vec<_> = cancel.iter().map(|wake| wake.poll_fd()).collect();
    match poll_until(&mut fds, Some(clock::now() + span)) {
        Ok(true) => Answer::Cancelled,
        // Not waited at all: the next question is asked a little early.
        Ok(false) | Err(_) => Answer::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Cancelled, Done, Failed, Gone, NotOurs, Ours};

    /// Answers in turn; the asks and the end.
    #[track_caller]
    fn check(rules: Rules, answers: &[Answer], expected: &str) {
        let (mut removal, ask) = Removal::begin(rules);
        let mut told = vec![word(ask)];
        for answer in answers {
            told.push(match removal.next(*answer) {
                Next::Ask(ask) => word(ask),
                Next::Over(removed) => format!("{removed:?}"),
            });
        }
        assert_eq!(told.join(", "), expected);
    }

    fn word(ask: Ask) -> String {
        match ask {
            Ask::Look(within) => format!("look {}", within.as_secs()),
            Ask::Remove(within) => format!("remove {}", within.as_secs()),
            Ask::Pause(pause) => format!("pause {}", pause.as_millis()),
        }
    }

    #[test]
    fn removals() {
        let rules = Rules::default();
        check(rules, &[Ours, Done, Gone], "look 10, remove 10, look 10, Gone");
        check(rules, &[Gone], "look 10, Gone");
        check(rules, &[NotOurs], "look 10, NotOurs");
        check(rules, &[Ours, Done, NotOurs], "look 10, remove 10, look 10, NotOurs");
        check(rules, &[Ours, Done, Ours, Done, Gone], "look 10, remove 10, look 10, pause 25, look 10, Gone");
        let slow = "look 10, remove 10, pause 1000, look 20, pause 2000, look 30, remove 30, Owed";
        check(rules, &[Ours, Failed, Done, Failed, Done, Ours, Failed], slow);
        check(rules, &[Ours, Cancelled], "look 10, remove 10, Owed");
        let unverified = Rules { verify: false, ..rules };
        check(unverified, &[Ours, Done], "look 10, remove 10, Unverified");
        let short = Rules { try_max: Duration::from_secs(5), once: true, ..rules };
        check(short, &[Ours, Failed], "look 5, remove 5, Owed");
    }

    /// Whatever is answered, it ends.
    #[test]
    fn it_ends() {
        let answers = [Ours, NotOurs, Gone, Done, Failed, Cancelled];
        for seed in 0..2000u64 {
            let (mut removal, _) = Removal::begin(Rules::default());
            let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let ended = (0..100).any(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                matches!(removal.next(answers[(dice >> 33) as usize % answers.len()]), Next::Over(_))
            });
            assert!(ended, "seed {seed}");
        }
    }
}
