//! A list that keeps the last N entries and counts what it dropped.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub struct Ring<T> {
    entries: VecDeque<T>,
    limit: usize,
    /// Entries that are gone because newer ones came.
    pub dropped: u64,
}

impl<T> Ring<T> {
    /// `limit` entries at most; the oldest goes first.
    pub fn new(limit: usize) -> Ring<T> {
        assert!(limit > 0);
        Ring { entries: VecDeque::new(), limit, dropped: 0 }
    }

    pub fn push(&mut self, entry: T) {
        if self.entries.len() == self.limit {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The last `n`, oldest first.
    pub fn last(&self, n: usize) -> impl Iterator<Item = &T> {
        self.entries.iter().skip(self.entries.len().saturating_sub(n))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last() {
        let mut ring = Ring::new(3);
        (1..=5).for_each(|n| ring.push(n));
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(ring.last(2).copied().collect::<Vec<_>>(), [4, 5]);
        assert_eq!((ring.len(), ring.dropped), (3, 2));
    }
}
