//! Requests of servers that wait for a client: whose they are, and which call they belong to.
//!
//! A server's ids and progress tokens mean something to that server only, so a client sees an id of ours as either.
//! Whoever takes an ask out of here owes whoever asks an answer: the server, or the call of a legacy client whose modern
//! server has asked in its result. Such a call is in nobody's hands but ours while its client thinks; that is noted here,
//! too.

use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life};
use crate::base::limits::ASKS_MAX;
use crate::mcp::envelope::{self, Outcome};
use crate::server::link::Link;
use crate::server::slot::Slot;
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
    /// Calls between two rounds: session, request (raw) and where they wait.
    between: Vec<(u64, Box<str>, Slot)>,
}

#[derive(Debug)]
struct Ask {
    session: u64,
    link: Arc<Link>,
    /// The call of the session that it was given to.
    call: CallId,
    to: Asker,
}

/// Who is owed the answer.
#[derive(Debug)]
enum Asker {
    Server {
        /// The server's id, raw.
        theirs: Box<str>,
        /// The server's progress token, raw, if it gave one.
        token: Option<Box<str>>,
    },
    /// A call that waits, and the number of the question in its round.
    Call(Slot, usize),
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
        let to = Asker::Server { theirs: theirs.into(), token: token.map(Into::into) };
        self.add(Ask { session, link: link.clone(), call, to })
    }

    /// The same for a question that a call has to be made again with.
    pub fn open_for(
        &self,
        session: u64,
        link: &Arc<Link>,
        call: CallId,
        (slot, number): (&Slot, usize),
    ) -> Option<u64> {
        self.add(Ask { session, link: link.clone(), call, to: Asker::Call(slot.clone(), number) })
    }

    fn add(&self, ask: Ask) -> Option<u64> {
        let mut table = self.table.lock();
        if table.open.len() >= ASKS_MAX {
            return None;
        }
        table.count += 1;
        let id = table.count;
        table.open.insert(id, ask);
        self.counted(&table);
        Some(id)
    }

    /// Whether it still waits for its answer.
    pub fn is_open(&self, id: u64) -> bool {
        self.table.lock().open.contains_key(&id)
    }

    /// The call `request` of a session is between two rounds until [`Asks::go_on`].
    pub fn wait_between(&self, session: u64, request: &str, slot: &Slot) {
        self.table.lock().between.push((session, request.into(), slot.clone()));
    }

    pub fn go_on(&self, slot: &Slot) {
        self.table.lock().between.retain(|(.., other)| !other.is(slot));
    }

    /// A client cancels a call that is between two rounds; `false` if there is none.
    pub fn cancel(&self, session: u64, request: &str) -> bool {
        let concerned = |of: u64, id: &str| of == session && id == request;
        self.end_between(concerned, "cancelled by the client")
    }

    fn end_between(&self, concerned: impl Fn(u64, &str) -> bool, why: &str) -> bool {
        let mut table = self.table.lock();
        let before = table.between.len();
        table.between.retain(|(session, request, slot)| {
            let over = concerned(*session, request);
            if over {
                slot.over(Fault::new(FaultKind::Cancelled, why));
            }
            !over
        });
        table.between.len() < before
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
        match &ask.to {
            Asker::Server { token, .. } => Some((ask.link.clone(), token.clone()?)),
            Asker::Call(..) => None,
        }
    }

    /// What was opened as `id` reached nobody.
    pub fn refuse(&self, id: u64, why: &str) {
        if let Some(ask) = self.remove_one(id, |_| true) {
            ask.refuse(why);
        }
    }

    /// What was opened as `id` is none that its client offers.
    pub fn refuse_unoffered(&self, id: u64, why: &str) {
        if let Some(ask) = self.remove_one(id, |_| true) {
            let error = envelope::error_object(envelope::METHOD_NOT_FOUND, why, None::<&()>);
            ask.reply(Outcome::Error(&error));
        }
    }

    /// The server takes its request back: which session was asked, by which id, and on which call.
    pub fn take_back(&self, life: Life, theirs: &str) -> Option<(u64, u64, CallId)> {
        let mut table = self.table.lock();
        let is_it = |ask: &Ask| match &ask.to {
            Asker::Server { theirs: id, .. } => ask.link.life == life && **id == *theirs,
            Asker::Call(..) => false,
        };
        let found = table.open.iter().find(|(_, ask)| is_it(ask));
        let id = *found?.0;
        let ask = table.open.remove(&id)?;
        self.counted(&table);
        Some((ask.session, id, ask.call))
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
        self.end_between(|of, _| of == session, "the session was ended");
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
        match (&self.to, outcome) {
            // A server that takes no more input has no use for an answer.
            (Asker::Server { theirs, .. }, outcome) => {
                let _ = self.link.send(envelope::response(theirs, outcome));
            }
            (Asker::Call(slot, number), Outcome::Result(raw)) => slot.replied(*number, Ok(raw.into())),
            (Asker::Call(slot, number), Outcome::Error(raw)) => slot.replied(*number, Err(raw.into())),
        }
    }

    fn refuse(&self, why: &str) {
        let error = envelope::error_object(envelope::INTERNAL_ERROR, why, None::<&()>);
        self.reply(Outcome::Error(&error));
    }
}
