//! Lines that wait to be written, in one lane for each file: what is taken in, and whose turn it is. Pure.
//!
//! A lane always has room of its own, so that nobody is crowded out; beyond it, it may take half of what is free for all,
//! so that one that has much to say gets far while the others are quiet, and is held back the sooner the more of them
//! there are. A lane that has lost a line takes none until what it holds was taken away: lines are lost in one place of
//! a file, where it is said.

use std::collections::{BTreeMap, VecDeque};

/// Names a lane; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId(u64);

/// What one lane gives at its turn.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub lane: LaneId,
    /// Whole lines, in their order.
    pub text: Vec<u8>,
    /// So many came after them and were not taken in.
    pub dropped: u64,
}

#[derive(Debug)]
struct Lane {
    /// Bytes that it may hold whatever the others do.
    own: usize,
    waiting: Vec<u8>,
    dropped: u64,
    /// Batches that were taken, and those of them that are written.
    taken: u64,
    written: u64,
    /// Nobody will add to it.
    closed: bool,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }
}

/// All lanes. Holds at most `shared` bytes, and what each lane has of its own.
#[derive(Debug)]
pub struct Lanes {
    lanes: BTreeMap<LaneId, Lane>,
    shared: usize,
    held: usize,
    ids: u64,
    /// Those that have something, in the order in which they came to have it.
    turns: VecDeque<LaneId>,
}

impl Lanes {
    /// `shared`: bytes for all of them.
    pub fn new(shared: usize) -> Lanes {
        Lanes { lanes: BTreeMap::new(), shared, held: 0, ids: 0, turns: VecDeque::new() }
    }

    /// One more, which always has room for `own` bytes.
    pub fn open(&mut self, own: usize) -> LaneId {
        self.ids += 1;
        let id = LaneId(self.ids);
        let lane = Lane { own, waiting: Vec::new(), dropped: 0, taken: 0, written: 0, closed: false };
        self.lanes.insert(id, lane);
        id
    }

    /// Nobody adds to it any more; it is forgotten once all of it is written. `true`: it is forgotten now.
    pub fn close(&mut self, id: LaneId) -> bool {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.closed = true;
        }
        self.forget_if_over(id)
    }

    /// Adds the pieces of one line, without its end. `false`: there is no room, and it is counted as lost.
    pub fn push(&mut self, id: LaneId, pieces: &[&str]) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>() + 1;
        if lane.is_empty() {
            self.turns.push_back(id);
        }
        let room = lane.own.max(self.shared.saturating_sub(self.held) / 2);
        if lane.dropped > 0 || lane.waiting.len() + bytes > room {
            lane.dropped += 1;
            return false;
        }
        pieces.iter().for_each(|piece| lane.waiting.extend_from_slice(piece.as_bytes()));
        lane.waiting.push(b'\n');
        self.held += bytes;
        true
    }

    /// What is to be written next: each lane in its turn.
    pub fn take(&mut self) -> Option<Batch> {
        let id = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&id).expect("one that has something is not forgotten");
        lane.taken += 1;
        let batch = Batch {
            lane: id,
            text: std::mem::take(&mut lane.waiting),
            dropped: std::mem::take(&mut lane.dropped),
        };
        self.held -= batch.text.len();
        Some(batch)
    }

    /// What was taken of this lane is written, or lost. `true`: the lane was closed, and is forgotten now.
    pub fn written(&mut self, id: LaneId) -> bool {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.written = lane.taken;
        }
        self.forget_if_over(id)
    }

    /// Up to which batch of the lane everything must be written that it holds now.
    pub fn goal(&self, id: LaneId) -> u64 {
        self.lanes.get(&id).map_or(0, |lane| lane.taken + u64::from(!lane.is_empty()))
    }

    /// Whether everything up to that batch is written.
    pub fn is_written(&self, id: LaneId, goal: u64) -> bool {
        self.lanes.get(&id).is_none_or(|lane| lane.written >= goal)
    }

    /// Whether nothing waits, and nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.is_empty() && lane.written == lane.taken)
    }

    fn forget_if_over(&mut self, id: LaneId) -> bool {
        let over = |lane: &Lane| lane.closed && lane.is_empty() && lane.written == lane.taken;
        let over = self.lanes.get(&id).is_some_and(over);
        if over {
            self.lanes.remove(&id);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batch: Option<Batch>) -> (String, u64) {
        let batch = batch.unwrap();
        (String::from_utf8(batch.text).unwrap(), batch.dropped)
    }

    #[test]
    fn in_turn_and_in_order() {
        let mut lanes = Lanes::new(1000);
        let (a, b) = (lanes.open(10), lanes.open(10));
        assert!(lanes.push(a, &["a", "1"]) && lanes.push(b, &["b1"]) && lanes.push(a, &["a2"]));
        assert_eq!(text(lanes.take()), ("a1\na2\n".to_owned(), 0));
        assert!(lanes.push(a, &["a3"]));
        assert_eq!(text(lanes.take()), ("b1\n".to_owned(), 0));
        assert_eq!(text(lanes.take()), ("a3\n".to_owned(), 0));
        assert_eq!(lanes.take(), None);
        assert!(!lanes.is_idle());
        assert!(!lanes.written(a) && !lanes.written(b) && lanes.is_idle());
    }

    #[test]
    fn what_is_lost_is_lost_in_one_place() {
        let mut lanes = Lanes::new(0);
        let a = lanes.open(6);
        assert!(lanes.push(a, &["one"]));
        assert!(!lanes.push(a, &["two"]));
        assert!(!lanes.push(a, &["3"]), "it would fit, and would stand before what is said of the loss");
        assert_eq!(text(lanes.take()), ("one\n".to_owned(), 2));
        assert!(lanes.push(a, &["four"]));
        assert_eq!(text(lanes.take()), ("four\n".to_owned(), 0));
    }

    /// However many are noisy, they hold no more than was given to all, and who is quiet has room.
    #[test]
    fn nobody_is_crowded_out() {
        for noisy in [1, 2, 30, 200] {
            let mut lanes = Lanes::new(10_000);
            let ids: Vec<LaneId> = (0..noisy).map(|_| lanes.open(50)).collect();
            for _ in 0..2_000 {
                ids.iter().for_each(|id| _ = lanes.push(*id, &["0123456789"]));
            }
            assert!(lanes.held <= 10_000 + noisy * 50, "{noisy}: {}", lanes.held);
            let quiet = lanes.open(50);
            assert!(lanes.push(quiet, &["it has something to say, once in a while"]), "{noisy}");
            let shares: Vec<usize> = ids.iter().map(|id| lanes.lanes[id].waiting.len()).collect();
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 11, "{noisy}: {least} to {most}");
            if noisy == 1 {
                assert!(*most > 3_000, "alone it gets far: {most}");
            }
        }
    }

    #[test]
    fn a_closed_lane_ends_when_it_is_written() {
        let mut lanes = Lanes::new(100);
        let (a, b) = (lanes.open(10), lanes.open(10));
        assert!(lanes.push(a, &["last"]));
        let goal = lanes.goal(a);
        assert!(!lanes.close(a) && lanes.close(b));
        assert_eq!(text(lanes.take()).0, "last\n");
        assert!(!lanes.is_written(a, goal));
        assert!(lanes.written(a) && lanes.is_written(a, goal));
        assert!(!lanes.push(a, &["too late"]));
        assert!(lanes.take().is_none() && lanes.is_idle());
    }
}
