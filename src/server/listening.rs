//! What a modern server is asked to tell of by itself: one `subscriptions/listen` that stays open, opened anew whenever
//! what is wanted changes.
//!
//! The new one is opened before the old one is cancelled, so that no change is missed between them.

use super::link::{Link, Purpose, Waiter};
use crate::base::id::CallId;
use crate::base::limits::{CALL_TOTAL_MAX, LISTEN_MIN};
use crate::base::time::Time;
use crate::mcp::calls::NewCall;
use crate::mcp::envelope;
use crate::mcp::features::Feature;
use crate::mcp::handshake::{self, Greeting};
use crate::mcp::items::{Kind, LISTENED};
use crate::sys::clock;
use std::collections::BTreeSet;

/// The wishes of one life, and the request that says them.
#[derive(Debug)]
pub struct Listening {
    features: Vec<Feature>,
    /// The lists whose changes the server announces.
    lists: Vec<&'static str>,
    /// Whether it tells of changes of single resources.
    watches: bool,
    uris: BTreeSet<String>,
    open: Option<(CallId, Time)>,
    /// The server knows no such request.
    refused: bool,
}

impl Listening {
    pub fn new(greeting: &Greeting, features: &[Feature]) -> Listening {
        let announced = LISTENED.iter().filter(|(_, kind)| greeting.can(kind.capability(), "listChanged"));
        Listening {
            features: features.to_vec(),
            lists: announced.map(|(name, _)| *name).collect(),
            watches: greeting.can("resources", "subscribe"),
            uris: BTreeSet::new(),
            open: None,
            refused: false,
        }
    }

    /// Whether a change of this list is told.
    pub(super) fn tells_of(&self, kind: Kind) -> bool {
        let names = LISTENED.iter().find(|(_, listed)| listed.changed() == kind.changed());
        !self.refused && names.is_some_and(|(name, _)| self.lists.contains(name))
    }

    pub(super) fn watch(&mut self, link: &Link, uris: BTreeSet<String>) {
        if self.watches && self.uris != uris {
            self.uris = uris;
            self.open_anew(link);
        }
    }

    /// Opens it, unless it is open.
    pub(super) fn open(&mut self, link: &Link) {
        if self.open.is_none() {
            self.open_anew(link);
        }
    }

    fn open_anew(&mut self, link: &Link) {
        let before = self.open.take();
        let wants = !(self.lists.is_empty() && self.uris.is_empty());
        if wants && !self.refused {
            let now = clock::now();
            let call = NewCall {
                session: 0,
                request: None,
                opened: now,
                deadline: now + CALL_TOTAL_MAX,
                patience: CALL_TOTAL_MAX,
                wants_progress: false,
            };
            let waiter = Waiter::Own(Purpose::Listen);
            let sent = link.call(call, waiter, "subscriptions/listen", |_| Some(self.params().into()));
            // Not sent, the next probe opens it.
            self.open =
                sent.inspect_err(|fault| log::debug!("listen not sent: {fault}")).ok().map(|id| (id, now));
        }
        if let Some((id, _)) = before
            && link.abandon(id)
        {
            link.tell_cancelled(id, None);
        }
    }

    /// `id` is over. One that lasted is opened again at once, any other with the next probe.
    pub(super) fn over(&mut self, link: &Link, id: CallId, refused: bool) {
        let Some((_, since)) = self.open.filter(|(open, _)| *open == id) else { return };
        self.open = None;
        self.refused |= refused;
        if clock::now().since(since) >= LISTEN_MIN {
            self.open_anew(link);
        }
    }

    fn params(&self) -> String {
        let mut wanted: Vec<String> = self.lists.iter().map(|name| format!("\"{name}\":true")).collect();
        if !self.uris.is_empty() {
            let uris: Vec<String> = self.uris.iter().map(|uri| envelope::quote(uri)).collect();
            wanted.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        let params = format!("{{\"notifications\":{{{}}}}}", wanted.join(","));
        handshake::modern_params(&params, env!("CARGO_PKG_VERSION"), &self.features)
    }
}
