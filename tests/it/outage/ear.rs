//! Somebody who lives on an engine, and writes down what it hears and when.

use crate::support::PATIENCE;
use mcpvisor::base::fault::{Fault, FaultKind};
use mcpvisor::engine::watched::{Happened, Heard, Subscription, Watched};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub struct Ear {
    pub subscription: Subscription,
    heard: Receiver<(Instant, Heard)>,
}

impl Ear {
    pub fn at(watched: &Watched) -> Ear {
        let (tell, heard) = channel();
        // Who does not listen any more is no reason to fail.
        let subscription = watched.subscribe(move |news| drop(tell.send((Instant::now(), news.clone()))));
        Ear { subscription, heard }
    }

    pub fn next(&self, what: &str) -> (Instant, Heard) {
        self.heard
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for: {what}"))
    }

    /// The next news is `Up`.
    pub fn up(&self) -> Instant {
        let (at, heard) = self.next("up");
        assert_eq!(heard, Heard::Up);
        at
    }

    /// The next news is that it is away, for a cause that is named so.
    pub fn away(&self, cause: &str) -> (Instant, Fault) {
        let (at, heard) = self.next("away");
        let Heard::Away(fault) = heard else { panic!("{heard:?}") };
        assert_eq!(fault.kind, FaultKind::EngineAway);
        assert!(fault.message.contains(&format!(" is {cause}: ")), "{fault}");
        (at, fault)
    }

    pub fn happened(&self) -> (Instant, Happened) {
        let (at, heard) = self.next("news of the container");
        let Heard::Container(happened) = heard else { panic!("{heard:?}") };
        (at, happened)
    }

    pub fn nothing_more(&self) {
        assert_eq!(self.heard.try_recv().ok().map(|(_, heard)| heard), None);
    }
}

/// Prints what was measured, and holds it against its limit.
#[track_caller]
pub fn within(what: &str, from: Instant, to: Instant, limit: Duration) {
    let took = to.saturating_duration_since(from);
    println!("{what}: {:.1} ms", took.as_secs_f64() * 1e3);
    assert!(took <= limit, "{what}: {took:?}, expected within {limit:?}");
}
