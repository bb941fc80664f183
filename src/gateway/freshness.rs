//! Whether what servers listed is still to be believed, and what clients are told of that.
//!
//! A list is read when its server is ready and when it says that the list has changed. A server of the modern era also
//! says for how long a list is good. Past that it is asked again, but only when somebody lists: no timer runs for lists
//! that nobody wants. Whoever lists then gets what is known, as stale, and hears of a change like everybody.

use crate::base::limits::LIST_TTL_MAX;
use crate::base::time::Time;
use crate::mcp::caching::Caching;
use crate::mcp::items::Kind;
use crate::server::handle::Server;
use std::sync::Arc;

/// For how long, and for whom, the list of all these servers is good.
pub fn of_all(servers: &[Arc<Server>], kind: Kind, now: Time) -> Caching {
    let parts = servers.iter().filter(|server| server.is_offered()).filter_map(|server| {
        let known = server.known();
        // One that has not listed yet may do so at any moment.
        let lists = known.greeting.as_ref().is_none_or(|greeting| greeting.has(kind.capability()));
        lists.then(|| known.caching(kind, now))
    });
    let all = parts.reduce(Caching::and).unwrap_or(Caching::NONE);
    Caching { ttl: all.ttl.min(LIST_TTL_MAX), ..all }
}

/// Has those servers list anew whose lists are good no longer.
pub fn renew(servers: &[Arc<Server>], kind: Kind, now: Time) {
    for server in servers.iter().filter(|server| server.is_offered()) {
        server.list_if_stale(kind, now);
    }
}
