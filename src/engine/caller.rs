//! The calls that watching an engine takes, on a thread of their own, so that a call that hangs holds up nobody who
//! waits for events or for an answer that is known. One order, one report; it decides nothing.
//!
//! The thread ends when its orders do; `stopped` ends the call that is under way.

use super::answers::{Info, Listed};
use super::api::{Engine, Pong};
use super::error::EngineError;
use super::events::Events;
use super::patience::Patience;
use super::watched::Shared;
use crate::base::time::Time;
use crate::sys::{clock, thread};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the daemon does on an engine before the first `Up` is announced. It must end by the deadline of the patience it
/// is given; what it could not do is not done here.
pub type Sweep = dyn Fn(&Engine, &Patience<'_>) + Send + Sync;

pub(super) enum Order {
    Ping { until: Time },
    Open { patience: Duration },
    Sweep { until: Time },
}

pub(super) enum Report {
    Pinged(Result<Pong, EngineError>),
    Opened(Result<Box<Opened>, EngineError>),
    Swept,
    /// What it says of itself; unasked, when there is time.
    Known(Box<Info>),
}

/// An engine that was just connected to: subscribed first, then listed, so that nothing falls between.
pub(super) struct Opened {
    /// Nothing: it does not give its events.
    pub(super) events: Option<Events>,
    /// All containers with our label; nothing if it does not say.
    pub(super) listed: Option<Vec<Listed>>,
    /// Who was followed before the list was asked for: what is not in the list does not exist.
    pub(super) followed: BTreeSet<String>,
}

/// The other end of the thread.
pub(super) struct Caller {
    pub(super) orders: Sender<Order>,
    pub(super) reports: Receiver<Report>,
}

struct Calls {
    engine: Engine,
    shared: Arc<Shared>,
    label: Option<(String, String)>,
    sweep: Option<Arc<Sweep>>,
}

/// The thread "calls:<n>".
pub(super) fn start(
    number: usize,
    engine: Engine,
    shared: Arc<Shared>,
    label: Option<(String, String)>,
    sweep: Option<Arc<Sweep>>,
) -> io::Result<Caller> {
    // At most one order is under way, and one piece of news that was not asked for.
    let (orders, inbox) = bounded(1);
    let (outbox, reports) = bounded(2);
    let calls = Calls { engine, shared, label, sweep };
    thread::spawn_vital(&format!("calls:{number}"), move || calls.run(&inbox, &outbox))?;
    Ok(Caller { orders, reports })
}

impl Calls {
    fn run(&self, orders: &Receiver<Order>, reports: &Sender<Report>) {
        let mut curious = false;
        loop {
            let order = match orders.try_recv() {
                Err(TryRecvError::Empty) if curious => None,
                Err(TryRecvError::Empty) => match orders.recv() {
                    Ok(order) => Some(order),
                    Err(_) => return,
                },
                Err(TryRecvError::Disconnected) => return,
                Ok(order) => Some(order),
            };
            let report = match order {
                None => {
                    curious = false;
                    let Some(info) = self.info() else { continue };
                    Report::Known(Box::new(info))
                }
                Some(Order::Ping { until }) => Report::Pinged(self.ping(until)),
                Some(Order::Open { patience }) => {
                    let opened = self.open(patience);
                    curious = opened.is_ok();
                    Report::Opened(opened.map(Box::new))
                }
                Some(Order::Sweep { until }) => {
                    if let Some(sweep) = &self.sweep {
                        sweep(&self.engine, &self.until(until));
                    }
                    Report::Swept
                }
            };
            if reports.send(report).is_err() {
                return;
            }
            self.shared.wake.wake();
        }
    }

    fn until(&self, deadline: Time) -> Patience<'_> {
        Patience::until(deadline).or_cancel(&self.shared.stopped)
    }

    /// On a connection of its own, because that is what everything that matters needs: one that is open already works
    /// on although nobody listens any more, or we may not connect.
    fn ping(&self, until: Time) -> Result<Pong, EngineError> {
        Engine::new(self.engine.endpoint().clone()).ping(&self.until(until))
    }

    fn open(&self, patience: Duration) -> Result<Opened, EngineError> {
        let mut filters = vec![("type", "container"), ("type", "daemon")];
        let label = self.label.as_ref().map(|(name, value)| format!("{name}={value}"));
        filters.extend(label.as_deref().map(|label| ("label", label)));
        let until = || self.until(clock::now() + patience);
        let events = unless_refused(self.engine.events(&filters, &until()))?;
        let followed = self.shared.followed().into_iter().collect();
        let listed = match &self.label {
            Some((name, value)) => unless_refused(self.engine.list(&[(name, value)], &until()))?,
            None => None,
        };
        Ok(Opened { events, listed, followed })
    }

    fn info(&self) -> Option<Info> {
        match self.engine.info(&self.until(clock::now() + INFO_PATIENCE)) {
            Ok(info) => Some(info),
            Err(error) => {
                log::debug!("engine {}: {error}", self.engine.endpoint());
                None
            }
        }
    }
}

/// 3 s: it only fills in what people see; engines with many containers count them for it.
const INFO_PATIENCE: Duration = Duration::from_secs(3);

/// Nothing if it is there and does not do that: a proxy before it forbids the call, or it is no Docker.
fn unless_refused<T>(outcome: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.was_answered() && super::cause::cause(&error).is_none() => {
            log::warn!("{error}; this engine is watched without that");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
