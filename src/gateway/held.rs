//! Calls that wait for their modern clients to come again: [`Held`] with a lock around it, and a thread that gives up
//! those whose clients do not.
//!
//! The thread `held` is there while calls are: it begins with the first, and ends when it finds none.

use super::open_call::OpenCall;
use super::sessions::Visit;
use crate::base::time::Time;
use crate::mcp::held::{Full, Held, Owner, Refused, State};
use crate::server::slot::Question;
use crate::sys::{clock, thread};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// What is held of a call.
pub struct HeldCall {
    pub call: OpenCall,
    pub visit: Visit,
    /// What its server has asked.
    pub questions: Vec<Question>,
}

impl HeldCall {
    /// Nobody has come: the server is told, and what it asked is refused.
    pub fn give_up(self) {
        self.call.cancel("\"the client did not come back with what it was asked for\"");
    }
}

/// Clones share the calls `C`.
pub struct HeldCalls<C>(Arc<Shared<C>>);

impl<C> Clone for HeldCalls<C> {
    fn clone(&self) -> HeldCalls<C> {
        HeldCalls(self.0.clone())
    }
}

struct Shared<C> {
    table: Mutex<Table<C>>,
    changed: Condvar,
    /// What is done with a call whose client does not come. It must not block.
    give_up: fn(C),
}

struct Table<C> {
    held: Held<C>,
    /// There is a thread.
    watched: bool,
    /// Nothing is held any more.
    ended: bool,
}

/// A call that was handed out: it is over when this is dropped.
pub struct Ticket<C> {
    held: HeldCalls<C>,
    id: u64,
    kept: bool,
}

impl<C> Drop for Ticket<C> {
    fn drop(&mut self) {
        if !self.kept {
            self.held.0.table.lock().held.over(self.id);
        }
    }
}

impl<C: Send + 'static> HeldCalls<C> {
    pub fn new(give_up: fn(C)) -> HeldCalls<C> {
        let table = Mutex::new(Table { held: Held::default(), watched: false, ended: false });
        HeldCalls(Arc::new(Shared { table, changed: Condvar::new(), give_up }))
    }

    /// Holds a call for `owner`; again, if it was handed out with a ticket.
    pub fn hold(
        &self,
        owner: Owner,
        ticket: &mut Option<Ticket<C>>,
        call: C,
        until: Time,
    ) -> Result<State, (Full, C)> {
        let mut table = self.0.table.lock();
        if table.ended || !self.is_watched(&mut table) {
            return Err((Full::Ended, call));
        }
        let state = match ticket {
            None => table.held.hold(owner, call, until)?,
            Some(ticket) => {
                let state = table.held.hold_again(ticket.id, call, until)?;
                ticket.kept = true;
                state
            }
        };
        self.0.changed.notify_one();
        Ok(state)
    }

    pub fn resume(&self, state: State, owner: &Owner) -> Result<(Ticket<C>, C), Refused> {
        let call = self.0.table.lock().held.resume(state, owner, clock::now())?;
        Ok((Ticket { held: self.clone(), id: state.id, kept: false }, call))
    }

    /// The daemon ends: nobody is waited for any more.
    pub fn end(&self) {
        let mut table = self.0.table.lock();
        table.ended = true;
        let calls = table.held.take_all();
        self.0.changed.notify_one();
        drop(table);
        calls.into_iter().for_each(self.0.give_up);
    }

    /// Starts the thread if there is none; `false` if there can be none.
    fn is_watched(&self, table: &mut Table<C>) -> bool {
        if !table.watched {
            let shared = self.0.clone();
            table.watched = thread::spawn("held", move || shared.watch())
                .inspect_err(|error| log::error!("a call cannot be held: no thread: {error}"))
                .is_ok();
        }
        table.watched
    }
}

impl<C> Shared<C> {
    fn watch(&self) {
        let mut table = self.table.lock();
        loop {
            let due = table.held.due(clock::now());
            if !due.is_empty() {
                drop(table);
                due.into_iter().for_each(self.give_up);
                table = self.table.lock();
                continue;
            }
            match table.held.next_deadline() {
                Some(until) => _ = self.changed.wait_until(&mut table, clock::instant(until)),
                // The call that this was begun for is put in under the same lock.
                None => return table.watched = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Sender, unbounded};
    use std::time::Duration;

    type Call = (Sender<u32>, u32);

    fn held() -> HeldCalls<Call> {
        HeldCalls::new(|(to, number)| to.send(number).unwrap())
    }

    fn owner() -> Owner {
        Owner { principal: "a".into(), request: [0; 32] }
    }

    #[test]
    fn who_does_not_come_is_not_waited_for() {
        let (held, (to, given_up)) = (held(), unbounded());
        let patience = Duration::from_secs(60);
        let at = |ms| clock::now() + Duration::from_millis(ms);
        let hold = |number, until| held.hold(owner(), &mut None, (to.clone(), number), until).unwrap();
        // Three times, so that the thread has ended in between, or not.
        for round in 0..3 {
            let later = hold(10 + round, at(60_000));
            let soon = hold(round, at(20));
            assert_eq!(given_up.recv_timeout(patience), Ok(round));
            assert_eq!(held.resume(soon, &owner()).err(), Some(Refused::Expired));
            let (ticket, (_, number)) = held.resume(later, &owner()).ok().unwrap();
            assert_eq!(number, 10 + round);
            assert_eq!(held.resume(later, &owner()).err(), Some(Refused::Going));
            let mut ticket = Some(ticket);
            let again = held.hold(owner(), &mut ticket, (to.clone(), number), at(60_000)).unwrap();
            drop(ticket);
            assert_eq!(held.resume(later, &owner()).err(), Some(Refused::Replayed));
            let (ticket, _) = held.resume(again, &owner()).ok().unwrap();
            drop(ticket);
            assert_eq!(held.resume(again, &owner()).err(), Some(Refused::Over));
        }
        hold(7, at(60_000));
        held.end();
        assert_eq!(given_up.recv_timeout(patience), Ok(7));
        let refused = held.hold(owner(), &mut None, (to.clone(), 8), at(60_000));
        assert_eq!(refused.map_err(|(full, (_, number))| (full, number)), Err((Full::Ended, 8)));
    }
}
