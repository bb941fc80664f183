//! How engines are watched by this daemon: the config's numbers, our label, the state database, and the board.

use crate::config::{Config, Recovery};
use crate::engine::engines::{Memory, Terms};
use crate::engine::outage::Policy;
use crate::engine::tidings::Tidings;
use crate::reaper::labels;
use crate::server::board::Board;
use crate::server::journal::Subject;
use crate::store::Store;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The table of `state.db` with what is known of each engine's outages.
const TABLE: &str = "outages";

/// `instance` is who we are; containers with this label are ours.
pub fn terms(config: &Config, instance: &str, board: &Board, store: &Store) -> Terms {
    let (board, journal, read, write) = (board.clone(), board.clone(), store.clone(), store.clone());
    let memory = Memory {
        recall: Arc::new(move |engine| read.recall(TABLE, &engine.to_string())),
        remember: Arc::new(move |engine, text| {
            if let Err(fault) = write.remember(TABLE, &engine.to_string(), text) {
                log::warn!("{fault}");
            }
        }),
    };
    Terms {
        policy: policy(&config.recovery),
        label: Some((labels::INSTANCE.to_owned(), instance.to_owned())),
        sweep: None,
        changed: Some(Arc::new(move |_, _| board.post())),
        told: Some(Arc::new(move |engine, tidings| {
            let engine = engine.to_string();
            let subject = Subject::Engine(engine.clone());
            journal.record(tidings.topic(), subject, &About { engine, tidings });
        })),
        memory: Some(memory),
    }
}

/// What an event says of an engine.
#[derive(Serialize)]
struct About<'a> {
    engine: String,
    #[serde(flatten)]
    tidings: &'a Tidings,
}

/// The numbers of an engine's machine.
pub fn policy(recovery: &Recovery) -> Policy {
    let plain = Policy::default();
    let ladder = if recovery.enabled { recovery.polling_intervals.clone() } else { Vec::new() };
    // An engine that is up is asked as seldom as one that has been away for long.
    let longest = ladder.iter().max().copied().unwrap_or(plain.up_every).max(Duration::from_secs(1));
    Policy {
        ping_patience: recovery.health_check_timeout,
        streamless_every: plain.streamless_every.min(longest),
        up_every: longest,
        sweep_patience: recovery.cleanup_timeout,
        ladder,
        ..plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_honoured() {
        let plain = Config::default().recovery;
        assert_eq!(policy(&plain), Policy::default());
        let seconds = Duration::from_secs;
        let ours = policy(&Recovery {
            health_check_timeout: seconds(1),
            cleanup_timeout: seconds(7),
            polling_intervals: vec![seconds(4)],
            ..plain.clone()
        });
        assert_eq!((ours.ping_patience, ours.sweep_patience), (seconds(1), seconds(7)));
        assert_eq!(
            (ours.up_every, ours.streamless_every, ours.ladder),
            (seconds(4), seconds(4), vec![seconds(4)])
        );
        assert!(policy(&Recovery { enabled: false, ..plain }).ladder.is_empty());
    }
}
