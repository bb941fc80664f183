//! What people and tools see of the config: the part of the status, and `config/plan` and `config/apply`.

use super::rest::{JSON, fail_with};
use crate::base::fault::Fault;
use crate::base::finding::Finding;
use crate::config::diff::{Change, Decision, Diff};
use crate::gateway::http::Exchange;
use parking_lot::RwLock;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// `config` in the status.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// `None` for the built-in demo.
    pub path: Option<String>,
    /// Configs that were taken over, the first one included.
    pub loads: u64,
    /// RFC 3339 in UTC.
    pub loaded_at: String,
    /// The beginning of the SHA-256 of the file that is in force.
    pub hash: Option<String>,
    /// Why the file, as it is now, is not in force; what it was at `loaded_at` is.
    pub error: Option<Fault>,
    /// About the file as it was read last.
    pub findings: Vec<Finding>,
}

/// Clones are the same; readers take a snapshot.
#[derive(Clone, Debug)]
pub struct InForce(Arc<RwLock<Arc<Picture>>>);

impl InForce {
    pub fn new(picture: Picture) -> InForce {
        InForce(Arc::new(RwLock::new(Arc::new(picture))))
    }

    pub fn get(&self) -> Arc<Picture> {
        self.0.read().clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut Picture)) {
        change(Arc::make_mut(&mut self.0.write()));
    }
}

/// What was changed, or would be.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Whether the file is another one than that in force. It may say the same.
    pub changed: bool,
    pub diff: Diff,
    pub findings: Vec<Finding>,
}

/// What the daemon does when it is asked.
pub struct Control {
    pub plan: Box<Do>,
    pub apply: Box<Do>,
}

pub type Do = dyn Fn() -> Result<Applied, (Fault, Vec<Finding>)> + Send + Sync;

/// Answers 200 with the changes, or 409 with why there can be none.
pub fn answer(exchange: &mut Exchange, what: &Do) {
    match what() {
        Ok(Applied { changed, diff, findings }) => {
            let servers: Vec<&Change> = diff.changes().collect();
            let kept = diff.servers.iter().filter(|change| change.decision == Decision::Keep).count();
            let body = json!({"changed": changed, "servers": servers, "kept": kept,
                              "settings": diff.settings, "findings": findings});
            exchange.respond(200, &[JSON], body.to_string().as_bytes());
        }
        Err((fault, findings)) => fail_with(exchange, 409, &fault, &findings),
    }
}
