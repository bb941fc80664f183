//! Whose a container must be before we touch it.

use super::labels::{self, Labels};
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

    /// The same as filters for a list.
    pub fn filters(&self) -> Vec<(&'static str, String)> {
        let mut filters = vec![
            (labels::MANAGED, "true".to_owned()),
            (labels::INSTANCE, self.instance.clone()),
            (labels::SERVER, self.server.clone()),
            (labels::VARIANT, self.variant.clone()),
        ];
        if let Some((session, life)) = &self.life {
            filters.push((labels::SESSION, session.clone()));
            filters.push((labels::LIFE, life.to_string()));
        }
        filters
    }

    /// Any life of the same key.
    pub fn any_life(&self) -> Whose {
        Whose { life: None, ..self.clone() }
    }
}
