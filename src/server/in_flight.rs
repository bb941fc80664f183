//! Bytes toward servers that are held in memory, whichever servers they are for: one budget for the process.

use crate::base::limits::IN_FLIGHT_BYTES_MAX;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    bytes_max: usize,
}

/// Of this process.
pub static IN_FLIGHT: Budget = Budget::new(IN_FLIGHT_BYTES_MAX);

impl Budget {
    pub const fn new(bytes_max: usize) -> Budget {
        Budget { held: AtomicUsize::new(0), bytes_max }
    }

    /// Whether so many more would be too many. Advice, not a lock: two who ask at once may both go.
    pub fn is_over(&self, more: usize) -> bool {
        self.held.load(Ordering::Relaxed).saturating_add(more) > self.bytes_max
    }

    pub fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}
