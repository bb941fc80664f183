//! Which resources clients want to hear of, whatever their era: a server is told of the first who asks and of the last
//! who leaves.

use super::listeners::Listeners;
use super::sessions::{Session, Sessions};
use crate::base::id::ServerName;
use crate::mcp::envelope;
use crate::mcp::era::Era;
use crate::server::handle::Server;
use crate::server::link::Link;
use crate::server::registry::Registry;
use crate::sys::clock;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Clones share what they look at.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    pub sessions: Arc<Sessions>,
    pub listeners: Arc<Listeners>,
}

impl Interest {
    /// Whether anybody but this session wants to hear of it.
    pub fn is_shared(&self, server: &ServerName, uri: &str, but: Option<&Session>) -> bool {
        let others = self.sessions.that_see(server);
        let mut others = others.iter().filter(|other| but.is_none_or(|but| but.number != other.number));
        others.any(|other| other.is_subscribed(server, uri)) || self.listeners.wants_resource(server, uri)
    }

    /// All that is wanted of a server.
    pub fn of(&self, server: &ServerName) -> BTreeSet<String> {
        let sessions = self.sessions.that_see(server);
        let theirs = sessions.iter().flat_map(|session| session.subscriptions());
        let mut all = self.listeners.resources_of(server);
        all.extend(theirs.filter(|(of, _)| of == server).map(|(_, uri)| uri));
        all
    }

    /// Tells the servers of what nobody wants any more. Never blocks.
    pub fn release(&self, servers: &Registry, resources: impl IntoIterator<Item = (ServerName, String)>) {
        for (name, uri) in resources {
            let link = servers.find(name.as_str()).and_then(|server| server.link());
            let Some(link) = link.filter(|_| !self.is_shared(&name, &uri, None)) else { continue };
            match link.era() {
                Era::Legacy => tell(&link, "resources/unsubscribe", &uri),
                Era::Modern => link.watch(self.of(&name)),
            }
        }
    }

    /// Tells the server, if it is ready; else its next life is told when it is.
    pub fn subscribe(&self, server: &Server, uri: &str) {
        match server.link() {
            Some(link) if link.era() == Era::Legacy => tell(&link, "resources/subscribe", uri),
            Some(link) => link.watch(self.of(&server.name)),
            None => (),
        }
    }

    /// Whether the server is one that is told of all that is wanted at once; it has been told then.
    pub fn watched(&self, servers: &Registry, server: &ServerName) -> bool {
        let link = servers.find(server.as_str()).and_then(|server| server.link());
        let modern = link.filter(|link| link.era() == Era::Modern);
        modern.is_some_and(|link| {
            link.watch(self.of(server));
            true
        })
    }

    /// A new life has heard of nothing yet.
    pub fn remind(&self, server: &Server, link: &Link) {
        let wanted = self.of(&server.name);
        match link.era() {
            Era::Legacy => wanted.iter().for_each(|uri| tell(link, "resources/subscribe", uri)),
            Era::Modern => link.watch(wanted),
        }
    }
}

fn tell(link: &Link, method: &str, uri: &str) {
    link.tell_of(method, format!("{{\"uri\":{}}}", envelope::quote(uri)), clock::now());
}
