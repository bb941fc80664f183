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

    /// [`Ear::up`] of one that is starting: it takes connections before it answers, which may be called silence.
    pub fn up_at_last(&self) -> Instant {
        self.until("up", |heard| (*heard == Heard::Up).then_some(())).0
    }

    /// The next news is that it is away, for a cause that is named so.
    pub fn away(&self, cause: &str) -> (Instant, Fault) {
        let (at, heard) = self.next("away");
        let Heard::Away(_, fault) = heard else { panic!("{heard:?}") };
        assert_eq!(fault.kind, FaultKind::EngineAway);
        assert!(fault.message.contains(&format!(" is {cause}: ")), "{fault}");
        (at, fault)
    }

    /// The next news that `want` likes; what comes before it is of no interest.
    pub fn until<T>(&self, what: &str, want: impl Fn(&Heard) -> Option<T>) -> (Instant, T) {
        loop {
            let (at, heard) = self.next(what);
            if let Some(found) = want(&heard) {
                return (at, found);
            }
        }
    }

    /// The container came to this, whatever else is said meanwhile.
    pub fn until_happened(&self, happened: Happened) -> Instant {
        let what = format!("{happened:?}");
        self.until(&what, |heard| (*heard == Heard::Container(happened)).then_some(())).0
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
