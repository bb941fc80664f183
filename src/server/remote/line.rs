//! One line on its way, counted among the bytes in flight of the whole process for as long as anybody holds it.

use crate::server::in_flight::Budget;
use std::ops::Deref;

#[derive(Debug)]
pub struct Line {
    bytes: Box<[u8]>,
    budget: &'static Budget,
}

impl Line {
    pub fn new(bytes: Vec<u8>, budget: &'static Budget) -> Line {
        budget.take(bytes.len());
        Line { bytes: bytes.into(), budget }
    }
}

impl Line {
    /// Whether the process holds more than it should, with this.
    pub fn is_too_much(&self) -> bool {
        self.budget.is_over(0)
    }
}

impl Deref for Line {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
    }
}
