//! Requests of servers that wait for a client: whose they are, and which call they belong to.
//!
//! A server's id means something to that server only, so a client sees an id of ours. Whoever takes an ask out of
//! here owes the server an answer.

use crate::base::id::{CallId, Life};
use crate::base::limits::ASKS_MAX;
use crate::mcp::envelope::{self, Outcome};
use crate::server::link::Link;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Asks(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    count: u64,
    open: BTreeMap<u64, Ask>,
}

#[derive(Debug)]
struct Ask {
    session: u64,
    link: Arc<Link>,
    /// The call of the session that it was given to.
    call: CallId,
    /// The server's id, raw.
    theirs: Box<str>,
}

impl Asks {
    /// Notes a request of a server; the id for the client. `None` when too many wait.
    pub fn open(&self, session: u64, link: &Arc<Link>, call: CallId, theirs: &str) -> Option<u64> {
        let mut table = self.0.lock();
        if table.open.len() >= ASKS_MAX {
            return None;
        }
        table.count += 1;
        let id = table.count;
        table.open.insert(id, Ask { session, link: link.clone(), call, theirs: theirs.into() });
        Some(id)
    }

    /// The client of `session` answers; `false` if nobody asked that, or somebody else was asked.
    pub fn answer(&self, session: u64, id: &str, outcome: Outcome<'_>) -> bool {
        let Ok(id) = id.parse::<u64>() else { return false };
        let ask = {
            let mut table = self.0.lock();
            let mine = table.open.get(&id).is_some_and(|ask| ask.session == session);
            mine.then(|| table.open.remove(&id)).flatten()
        };
        let Some(ask) = ask else { return false };
        ask.reply(outcome);
        true
    }

    /// The server takes its request back: who was asked, and by which id.
    pub fn take_back(&self, life: Life, theirs: &str) -> Option<(u64, CallId)> {
        let mut table = self.0.lock();
        let found = table.open.iter().find(|(_, ask)| ask.link.life == life && *ask.theirs == *theirs);
        let id = *found?.0;
        table.open.remove(&id).map(|ask| (id, ask.call))
    }

    /// The call is over: whatever was asked on it will not be answered by its client any more.
    pub fn end_of(&self, life: Life, call: CallId) {
        for ask in self.remove(|ask| ask.link.life == life && ask.call == call) {
            ask.refuse("the call that this belongs to is over");
        }
    }

    pub fn session_over(&self, session: u64) {
        for ask in self.remove(|ask| ask.session == session) {
            ask.refuse("the client has gone");
        }
    }

    fn remove(&self, which: impl Fn(&Ask) -> bool) -> Vec<Ask> {
        let mut table = self.0.lock();
        let ids: Vec<u64> = table.open.iter().filter(|(_, ask)| which(ask)).map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| table.open.remove(id)).collect()
    }
}

impl Ask {
    fn reply(&self, outcome: Outcome<'_>) {
        // A server that takes no more input has no use for an answer.
        let _ = self.link.send(envelope::response(&self.theirs, outcome));
    }

    fn refuse(&self, why: &str) {
        let error = envelope::error_object(envelope::INTERNAL_ERROR, why, None::<&()>);
        self.reply(Outcome::Error(&error));
    }
}
