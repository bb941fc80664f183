//! Clients of the modern era that listen (`subscriptions/listen`): what each asked to hear, and the stream on which it
//! hears that and nothing else. The streams are the hub's; an idle one costs what an idle GET stream costs.

use super::hub::{Hub, StreamId};
use super::replay::event;
use super::sessions::Mount;
use crate::base::id::ServerName;
use crate::mcp::envelope::{self, Outcome};
use crate::mcp::items::Kind;
use crate::mcp::meta;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// What one stream was opened for, as far as it is honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By the names of their notifications.
    pub lists: BTreeSet<&'static str>,
    pub resources: BTreeSet<(ServerName, String)>,
}

/// The member of `notifications` that asks for a list's changes, and the list.
pub const LISTS: [(&str, Kind); 3] = [
    ("toolsListChanged", Kind::Tools),
    ("promptsListChanged", Kind::Prompts),
    ("resourcesListChanged", Kind::Resources),
];

#[derive(Debug)]
struct Listener {
    mount: Mount,
    /// The id of its request, raw.
    id: Box<str>,
    wanted: Wanted,
    /// Nothing until it was acknowledged.
    stream: Option<StreamId>,
}

#[derive(Debug, Default)]
pub struct Listeners(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    count: u64,
    open: BTreeMap<u64, Listener>,
}

impl Listeners {
    /// Takes a listener down by a number of its own. It hears nothing before [`Listeners::begin`].
    pub fn add(&self, mount: &Mount, id: &str, wanted: Wanted) -> u64 {
        let mut table = self.0.lock();
        table.count += 1;
        let number = table.count;
        table.open.insert(number, Listener { mount: mount.clone(), id: id.into(), wanted, stream: None });
        number
    }

    /// Its stream stands: `acknowledged` goes first. A client that has left again meanwhile is no listener any more.
    pub fn begin(&self, hub: &Hub, number: u64, stream: StreamId, acknowledged: &str) {
        let mut table = self.0.lock();
        let Some(listener) = table.open.get_mut(&number) else { return };
        listener.stream = Some(stream);
        listener.say(hub, "notifications/subscriptions/acknowledged", acknowledged);
    }

    /// Forgets it: the resources that it had asked for.
    pub fn remove(&self, number: u64) -> BTreeSet<(ServerName, String)> {
        let removed = self.0.lock().open.remove(&number);
        removed.map(|listener| listener.wanted.resources).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().open.is_empty()
    }

    pub fn wants_resource(&self, server: &ServerName, uri: &str) -> bool {
        let key = (server.clone(), uri.to_owned());
        self.0.lock().open.values().any(|listener| listener.wanted.resources.contains(&key))
    }

    /// Whatever is wanted of this server.
    pub fn resources_of(&self, server: &ServerName) -> BTreeSet<String> {
        let table = self.0.lock();
        let all = table.open.values().flat_map(|listener| &listener.wanted.resources);
        all.filter(|(of, _)| of == server).map(|(_, uri)| uri.clone()).collect()
    }

    /// To those who asked for this list's changes and see one of the servers.
    pub fn list_changed(&self, hub: &Hub, servers: &[&ServerName], method: &str) {
        for listener in self.0.lock().open.values() {
            let sees = servers.iter().any(|server| listener.mount.shows(server));
            if sees && listener.wanted.lists.contains(method) {
                listener.say(hub, method, "{}");
            }
        }
    }

    /// To those who asked for this resource.
    pub fn resource_updated(&self, hub: &Hub, server: &ServerName, uri: &str, params: &str) {
        let key = (server.clone(), uri.to_owned());
        for listener in self.0.lock().open.values().filter(|one| one.wanted.resources.contains(&key)) {
            listener.say(hub, "notifications/resources/updated", params);
        }
    }

    /// Ends all of them in order: each hears the result of its request. New ones may still come.
    pub fn end(&self, hub: &Hub) {
        for listener in self.0.lock().open.values() {
            let Some(stream) = listener.stream else { continue };
            let result = meta::edit("{\"resultType\":\"complete\"}", &[listener.mark()]);
            // A client that does not read any more needs no end.
            let _ =
                hub.send(stream, event(None, &envelope::response(&listener.id, Outcome::Result(&result))));
            hub.close(stream);
        }
    }
}

impl Listener {
    fn mark(&self) -> meta::Edit<'_> {
        (meta::SUBSCRIPTION_ID, Some(&self.id))
    }

    fn say(&self, hub: &Hub, method: &str, params: &str) {
        let Some(stream) = self.stream else { return };
        let params = meta::edit(params, &[self.mark()]);
        // A client that does not read what it asked for loses its stream, and sees that.
        let _ = hub.send(stream, event(None, &envelope::notification(method, Some(&params))));
    }
}
