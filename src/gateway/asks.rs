//! Requests of servers that wait for a client: whose they are, and which call they belong to.
//!
//! A server's ids and progress tokens mean something to that server only, so a client sees an id of ours as either.
//! Whoever takes an ask out of here owes the server an answer.

use crate::base::id::{CallId, Life};
use crate::base::limits::ASKS_MAX;
use crate::mcp::envelope::{self, Outcome};
use crate::server::link::Link;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub struct Asks {
    table: Mutex<Table>,
    /// As many as are open. Nearly always none: then the end of a call costs nothing here.
    open: AtomicUsize,
}

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
    /// The server's progress token, raw, if it gave one.
    token: Option<Box<str>>,
}

impl Asks {
    /// Notes a request of a server, by its raw id and progress token; the id for the client. `None` when too many
    /// wait.
    pub fn open(
        &self,
        session: u64,
        link: &Arc<Link>,
        call: CallId,
        (theirs, token): (&str, Option<&str>),
    ) -> Option<u64> {
        let mut table = self.table.lock();
        if table.open.len() >= ASKS_MAX {
            return None;
        }
        table.count += 1;
        let id = table.count;
        let (theirs, token) = (theirs.into(), token.map(Into::into));
        table.open.insert(id, Ask { session, link: link.clone(), call, theirs, token });
        self.counted(&table);
        Some(id)
    }

    /// The client of `session` answers; `false` if nobody asked that, or somebody else was asked.
    pub fn answer(&self, session: u64, id: &str, outcome: Outcome<'_>) -> bool {
        let Ok(id) = id.parse::<u64>() else { return false };
        let Some(ask) = self.remove_one(id, |ask| ask.session == session) else { return false };
        ask.reply(outcome);
        true
    }

    /// The client of `session` tells of its progress with what it was asked under the token `id`: who hears of it,
    /// and by which token.
    pub fn progress(&self, session: u64, id: &str) -> Option<(Arc<Link>, Box<str>)> {
        let table = self.table.lock();
        let ask = table.open.get(&id.parse().ok()?).filter(|ask| ask.session == session)?;
        Some((ask.link.clone(), ask.token.clone()?))
    }

    /// What was opened as `id` reached nobody.
    pub fn refuse(&self, id: u64, why: &str) {
        if let Some(ask) = self.remove_one(id, |_| true) {
            ask.refuse(why);
        }
    }

    /// The server takes its request back: who was asked, and by which id.
    pub fn take_back(&self, life: Life, theirs: &str) -> Option<(u64, CallId)> {
        let mut table = self.table.lock();
        let found = table.open.iter().find(|(_, ask)| ask.link.life == life && *ask.theirs == *theirs);
        let id = *found?.0;
        let ask = table.open.remove(&id)?;
        self.counted(&table);
        Some((id, ask.call))
    }

    /// Whatever was asked on this call will not be answered by its client.
    pub fn end_of(&self, life: Life, call: CallId, why: &str) {
        if self.open.load(Ordering::Acquire) == 0 {
            return;
        }
        for ask in self.remove(|ask| ask.link.life == life && ask.call == call) {
            ask.refuse(why);
        }
    }

    pub fn session_over(&self, session: u64) {
        for ask in self.remove(|ask| ask.session == session) {
            ask.refuse("the client has gone");
        }
    }

    fn remove_one(&self, id: u64, which: impl Fn(&Ask) -> bool) -> Option<Ask> {
        let mut table = self.table.lock();
        table.open.get(&id).filter(|ask| which(ask))?;
        let ask = table.open.remove(&id);
        self.counted(&table);
        ask
    }

    fn remove(&self, which: impl Fn(&Ask) -> bool) -> Vec<Ask> {
        let mut table = self.table.lock();
        let ids: Vec<u64> = table.open.iter().filter(|(_, ask)| which(ask)).map(|(id, _)| *id).collect();
        let asks = ids.iter().filter_map(|id| table.open.remove(id)).collect();
        self.counted(&table);
        asks
    }

    /// Under the lock, so that who sees the table's change through another lock sees the count, too.
    fn counted(&self, table: &Table) {
        self.open.store(table.open.len(), Ordering::Release);
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
