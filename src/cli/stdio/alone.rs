//! Requests of 2026-07-28, which need no session: each stands alone on a lane until it is answered, and closing that
//! lane is how the daemon hears that it was cancelled.

use super::lane::Lane;
use crate::base::limits::STDIO_LISTENS_MAX;
use crate::gateway::listeners::LISTS;
use crate::mcp::envelope;
use crate::mcp::{meta, scan};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One of them while it is in flight.
#[derive(Default)]
pub struct Alone {
    /// `subscriptions/listen`: it is answered by a stream that has no end of its own.
    pub listens: bool,
    cancelled: AtomicBool,
    /// The lane that it is on. INVARIANT: a lane that another request may get is not here.
    lane: Mutex<Option<Arc<Lane>>>,
}

impl Alone {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// It is sent on this lane now; nothing takes it off.
    pub fn is_on(&self, lane: Option<&Arc<Lane>>) {
        let mut on = self.lane.lock();
        *on = lane.cloned();
        if let Some(lane) = on.as_ref().filter(|_| self.is_cancelled()) {
            lane.shut();
        }
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(lane) = &*self.lane.lock() {
            lane.shut();
        }
    }
}

/// All that are in flight, by their raw ids.
#[derive(Default)]
pub struct AllAlone(Mutex<BTreeMap<String, Arc<Alone>>>);

impl AllAlone {
    /// `None` when as many streams as may be are open.
    pub fn begin(&self, id: &str, listens: bool) -> Option<Arc<Alone>> {
        let mut all = self.0.lock();
        if listens && all.values().filter(|one| one.listens).count() >= STDIO_LISTENS_MAX {
            return None;
        }
        let one = Arc::new(Alone { listens, ..Alone::default() });
        all.insert(id.to_owned(), one.clone());
        Some(one)
    }

    /// Nothing more is said to the client about this one.
    pub fn end(&self, id: &str, one: &Arc<Alone>) {
        let mut all = self.0.lock();
        if all.get(id).is_some_and(|known| Arc::ptr_eq(known, one)) {
            all.remove(id);
        }
    }

    /// The client takes its request back; `false` if there is none of this id.
    pub fn cancel(&self, id: &str) -> bool {
        let cancelled = self.0.lock().remove(id);
        if let Some(one) = &cancelled {
            one.cancel();
        }
        cancelled.is_some()
    }
}

/// What a client has to hear when its stream goes on with another daemon, in place of a second acknowledgement (whose
/// params these are): everything that it listens to may be another now.
pub fn caught_up(acknowledged: &str) -> Vec<Vec<u8>> {
    let honoured = scan::find(acknowledged, "notifications").map_or("{}", |span| &acknowledged[span]);
    let mark = (meta::SUBSCRIPTION_ID, meta::get(acknowledged, meta::SUBSCRIPTION_ID));
    let mut news = Vec::new();
    for (key, kind) in LISTS {
        if scan::find(honoured, key).is_some_and(|span| &honoured[span] == "true") {
            news.push(envelope::notification(kind.changed(), Some(&meta::edit("{}", &[mark]))));
        }
    }
    let resources = scan::find(honoured, "resourceSubscriptions").map_or("[]", |span| &honoured[span]);
    // What is no array names no resource.
    let _ = scan::array(resources, |span| {
        let params = meta::edit(&format!("{{\"uri\":{}}}", &resources[span]), &[mark]);
        news.push(envelope::notification("notifications/resources/updated", Some(&params)));
    });
    news
}

/// The end of a stream that nobody can go on with, in order.
pub fn ended(id: &str) -> Vec<u8> {
    let result = meta::edit("{\"resultType\":\"complete\"}", &[(meta::SUBSCRIPTION_ID, Some(id))]);
    envelope::response(id, envelope::Outcome::Result(&result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_with_another_daemon() {
        let acknowledged = r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["x:\/\/1"]},"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}"#;
        let meta = r#""_meta":{"io.modelcontextprotocol/subscriptionId":"l"}"#;
        let news: Vec<String> =
            caught_up(acknowledged).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(
            news,
            [
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{{meta}}}}}"#
                ),
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"x:\/\/1",{meta}}}}}"#
                ),
            ]
        );
    }

    #[test]
    fn streams_are_counted() {
        let all = AllAlone::default();
        let first = all.begin("0", true).unwrap();
        for n in 1..STDIO_LISTENS_MAX {
            assert!(all.begin(&n.to_string(), true).is_some());
        }
        assert!(all.begin("more", true).is_none());
        assert!(all.begin("call", false).is_some());
        assert!(all.cancel("0") && first.is_cancelled() && !all.cancel("0"));
        assert!(all.begin("more", true).is_some());
    }
}
