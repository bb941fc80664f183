//! Whose a container must be before we touch it.

use super::labels::{self, Labels};
use crate::engine::by_cli::Reach;
use crate::engine::error::EngineError;
use crate::engine::patience::Patience;
use std::collections::BTreeMap;

/// The variant of a life that all sessions share.
pub const SHARED: &str = "shared";

/// What its labels must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    pub instance: String,
    /// The server's slug.
    pub server: String,
    pub variant: String,
    /// Only a container of this life of this session; `None`: any of this life key.
    pub life: Option<(String, u64)>,
}

impl Whose {
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        let Some(labels) = Labels::read(labels) else { return false };
        let same = labels.instance == self.instance
            && labels.server == self.server
            && labels.variant == self.variant;
        same && self
            .life
            .as_ref()
            .is_none_or(|(session, life)| labels.session == *session && labels.life == *life)
    }

    /// The full ids of all that an engine has of it, running or not.
    pub fn find(&self, reach: &Reach, patience: &Patience<'_>) -> Result<Vec<String>, EngineError> {
        let life = self.life.as_ref().map(|(session, life)| (session, life.to_string()));
        let mut filters = vec![
            (labels::MANAGED, "true"),
            (labels::INSTANCE, self.instance.as_str()),
            (labels::SERVER, self.server.as_str()),
            (labels::VARIANT, self.variant.as_str()),
        ];
        if let Some((session, life)) = &life {
            filters.extend([(labels::SESSION, session.as_str()), (labels::LIFE, life.as_str())]);
        }
        Ok(reach.list(&filters, patience)?.into_iter().map(|listed| listed.id).collect())
    }

    /// Any life of the same key.
    pub fn any_life(&self) -> Whose {
        Whose { life: None, ..self.clone() }
    }
}
