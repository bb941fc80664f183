//! What the targets share: how an input is cut into pieces, and inputs long enough to meet a limit.
//!
//! Inputs have no format of their own: seeds read as what they are, and every choice is made by a hash of the
//! input, so that a saved one fails again in the same way.

use std::borrow::Cow;

/// Inputs up to this length are cut in two at every place.
const EVERY_CUT_BYTES_MAX: usize = 24;

/// Choices that depend on nothing but the input.
pub struct Dice(u64);

impl Dice {
    pub fn of(data: &[u8]) -> Dice {
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Dice(data.iter().fold(0xcbf2_9ce4_8422_2325, fnv) | 1)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// Calls `check` with `data` in pieces: in single bytes, in pieces of any size, and in two, at every place if there
/// are few.
pub fn each_cut(data: &[u8], mut check: impl FnMut(&[&[u8]])) {
    let mut dice = Dice::of(data);
    check(&data.chunks(1).collect::<Vec<_>>());
    let (mut rest, mut pieces) = (data, Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + dice.below(rest.len().min(64)));
        pieces.push(piece);
        rest = after;
    }
    check(&pieces);
    let places =
        if data.len() <= EVERY_CUT_BYTES_MAX { 0..data.len() + 1 } else { one(dice.below(data.len())) };
    for at in places {
        check(&[&data[..at], &data[at..]]);
    }
}

fn one(at: usize) -> std::ops::Range<usize> {
    at..at + 1
}

/// One input in 256 made about as long as `limit`, by one of its bytes repeated; the others as they are.
pub fn stretched(data: &[u8], limit: usize) -> Cow<'_, [u8]> {
    let mut dice = Dice::of(data);
    if data.is_empty() || data.len() > limit || dice.below(256) != 0 {
        return Cow::Borrowed(data);
    }
    let at = dice.below(data.len());
    let more = (limit - data.len() + dice.below(64)).saturating_sub(32);
    let mut long = data[..at].to_vec();
    long.resize(at + more, data[at]);
    long.extend_from_slice(&data[at..]);
    Cow::Owned(long)
}
