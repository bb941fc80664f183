//! A thread that posts one job after another.

use super::inbox::Heard;
use super::post;
use super::queue::RunId;
use super::shared::Shared;
use crate::base::fault::{Fault, FaultKind};
use std::sync::Arc;

/// Ends when there was nothing to do for a while, or when the life is over.
pub fn run(shared: &Arc<Shared>) {
    let mut seat = Seat { shared, run: None };
    let mut agent = None;
    while let Some(task) = shared.take(&mut agent) {
        let run = task.run;
        seat.run = Some(run);
        if let Some(agent) = &agent {
            post::perform(shared, agent, task);
        }
        seat.run = None;
        if shared.finish(run) {
            // It may have been cut, and then it connects no more.
            agent = None;
        }
    }
}

/// The worker's place among the workers, given back even by a bug.
struct Seat<'a> {
    shared: &'a Arc<Shared>,
    run: Option<RunId>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.shared.leave();
        if let Some(run) = self.run {
            self.shared.finish(run);
            let message = format!("a thread that speaks to {} panicked", self.shared.name);
            self.shared.inbox.push(Heard::Failed(Fault::new(FaultKind::Internal, message)));
        }
    }
}
