//! The start of 159 servers, against a floor that does the same round trips through the same gate.

use super::pairs::median;
use super::subjects::MCPVISOR;
use super::support::fleet;
use std::path::Path;

/// Pairs, of which the median counts.
const PAIRS: usize = 15;

/// How many times the floor it takes; and the medians of mcpvisor and of the floor, in milliseconds.
pub fn ratio() -> (f64, f64, f64) {
    let binary = Path::new(MCPVISOR);
    // Removed at the end: ext4 is slow to make files where many were just removed.
    let mut kept = Vec::new();
    let pairs: Vec<(f64, f64)> = (0..PAIRS)
        .map(|_| {
            let floor = fleet::floor(binary).as_secs_f64() * 1e3;
            let (ours, serving) = fleet::ready(binary);
            kept.push(serving.end());
            (ours.as_secs_f64() * 1e3, floor)
        })
        .collect();
    let of = |of: fn(&(f64, f64)) -> f64| median(pairs.iter().map(of));
    (of(|(ours, floor)| ours / floor), of(|(ours, _)| *ours), of(|(_, floor)| *floor))
}
