//! The cells of an engine's matrix: which rows of `matrix.rs` a world has been in, and what it heard there.

use crate::outage::matrix::{events, reach, rows, words};
use mcpvisor::base::time::Time;
use mcpvisor::engine::outage::{Event, Presence};
use std::collections::{BTreeMap, BTreeSet};

/// By row, in its words without their numbers: the events that came.
#[derive(Clone, Debug, Default)]
pub struct Cells(BTreeMap<String, BTreeSet<String>>);

impl Cells {
    pub fn new() -> Cells {
        Cells::default()
    }

    pub fn visit(&mut self, presence: &Presence, now: Time, event: Event) {
        self.0.entry(row(presence, now)).or_default().insert(name(event));
    }

    pub fn merge(&mut self, other: &Cells) {
        for (row, events) in &other.0 {
            self.0.entry(row.clone()).or_default().extend(events.iter().cloned());
        }
    }

    /// Visited, all that there are, and what was missed.
    pub fn coverage(&self) -> (usize, usize, Vec<String>) {
        let all: BTreeSet<String> = rows()
            .iter()
            .map(|(_, path)| {
                let (presence, now) = reach(path);
                row(&presence, now)
            })
            .collect();
        let mut missed = Vec::new();
        for row in &all {
            for event in events().into_iter().map(name).collect::<BTreeSet<_>>() {
                if is_possible(row, &event) && !self.0.get(row).is_some_and(|seen| seen.contains(&event)) {
                    missed.push(format!("{row} x {event}"));
                }
            }
        }
        let names: BTreeSet<String> = events().into_iter().map(name).collect();
        let of = all.iter().map(|row| names.iter().filter(|event| is_possible(row, event)).count()).sum();
        (of - missed.len(), of, missed)
    }
}

fn row(presence: &Presence, now: Time) -> String {
    let words = words(presence, now);
    let words = words.split(' ').filter(|word| !word.starts_with(|first: char| first.is_ascii_digit()));
    words.filter(|word| *word != "of").collect::<Vec<_>>().join(" ")
}

fn name(event: Event) -> String {
    let text = format!("{event:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// What the shell can say at all: the answer of a call comes while it is under way, and the word of a stream from one.
fn is_possible(row: &str, event: &str) -> bool {
    let asking = row.contains("health_check_timeout");
    match event {
        "Answered" | "Failed(Paused)" | "Failed(Down)" | "Failed(Silent)" | "Failed(Denied)" => asking,
        "Opened" | "NoStream" => {
            row == "unknown" || row.starts_with("away") && !row.contains("ping") && !asking
        }
        "Swept" => row.contains("sweep"),
        "Broken" | "Said" => row.contains("hearing"),
        "Recovered" => row.starts_with("recovering"),
        "Leaving" => false,
        "Due" => row.contains("ping") || asking || row.contains("sweep") || row.contains("recovery"),
        _ => true,
    }
}
