//! All servers of the config, in its order, and a counter that moves when what they list does.

use super::handle::Server;
use crate::base::id::ServerName;
use parking_lot::RwLock;
use std::sync::Arc;

/// Readers take a snapshot and hold no lock.
#[derive(Debug, Default)]
pub struct Registry(RwLock<Arc<Vec<Arc<Server>>>>);

impl Registry {
    pub fn new(servers: Vec<Arc<Server>>) -> Registry {
        Registry(RwLock::new(Arc::new(servers)))
    }

    /// Others from now on; a server that stays is the same value.
    pub fn set(&self, servers: Vec<Arc<Server>>) {
        *self.0.write() = Arc::new(servers);
    }

    /// In the order of the config.
    pub fn all(&self) -> Arc<Vec<Arc<Server>>> {
        self.0.read().clone()
    }

    /// By name as the config spells it, or by slug.
    pub fn find(&self, name: &str) -> Option<Arc<Server>> {
        let all = self.all();
        let by_name = all.iter().find(|server| server.name.as_str() == name);
        by_name.or_else(|| all.iter().find(|server| server.slug.as_str() == name)).cloned()
    }

    pub fn names(&self) -> Vec<ServerName> {
        self.all().iter().map(|server| server.name.clone()).collect()
    }
}
