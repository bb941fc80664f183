//! Ratios on a noisy machine: each subject is measured beside the floor, in turn, many times; the median of the
//! ratios counts. A round in which the floor differs from itself is discarded.

use super::load::{Slice, Subject};
use std::io;
use std::time::Duration;

/// Fewer say nothing.
pub const PAIRS_MIN: usize = 9;

/// Rounds are added until enough are good, up to this many.
const ROUNDS_MAX: usize = 30;

/// A round counts if the floor's two measures differ by no more.
const FLOOR_NOISE_MAX: f64 = 0.10;

/// One round: the floor's two measures, and one of each subject in between.
pub struct Round {
    floor: [Slice; 2],
    subjects: Vec<Slice>,
}

/// All rounds with one number of clients.
pub struct Rounds {
    pub good: Vec<Round>,
    pub discarded: usize,
}

/// Floor, every subject, floor; and again.
pub fn measure(
    floor: &mut dyn Subject,
    subjects: &mut [&mut dyn Subject],
    of: fn(&Slice) -> f64,
    span: Duration,
) -> io::Result<Rounds> {
    floor.slice(span)?;
    for subject in subjects.iter_mut() {
        subject.slice(span)?;
    }
    let mut rounds = Rounds { good: Vec::new(), discarded: 0 };
    while rounds.good.len() < PAIRS_MIN && rounds.good.len() + rounds.discarded < ROUNDS_MAX {
        let before = floor.slice(span)?;
        let subjects = subjects.iter_mut().map(|subject| subject.slice(span)).collect::<io::Result<_>>()?;
        let round = Round { floor: [before, floor.slice(span)?], subjects };
        let [before, after] = round.floor.each_ref().map(of);
        if (before / after - 1.0).abs() <= FLOOR_NOISE_MAX {
            rounds.good.push(round);
        } else {
            rounds.discarded += 1;
        }
    }
    Ok(rounds)
}

impl Rounds {
    /// The median over the rounds of the subject's measure against the floor's.
    pub fn ratio(&self, subject: usize, of: fn(&Slice) -> f64) -> f64 {
        let floor = |round: &Round| round.floor.iter().map(of).sum::<f64>() / 2.0;
        median(self.good.iter().map(|round| of(&round.subjects[subject]) / floor(round)))
    }

    /// The median of a measure; of the floor for `None`.
    pub fn median(&self, subject: Option<usize>, of: fn(&Slice) -> f64) -> f64 {
        median(
            self.good.iter().map(|round| of(subject.map_or(&round.floor[0], |index| &round.subjects[index]))),
        )
    }
}

/// NaN if there are none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
