//! The pending calls of one life, as a plain value: each is opened once and answered exactly once.
//!
//! Whoever removes an entry owns its answer; that is the whole rule, and why nothing here ever removes an entry
//! without handing it out. The waiter `W` is opaque. No clock, lock or channel is known here: the link puts one
//! mutex around it, and the simulator drives the same type.

use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{CALL_TOTAL_MAX, CALLS_MAX};
use crate::base::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// A call that wants to be opened.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The downstream session; 0 = ours.
    pub session: u64,
    /// The downstream request id as raw JSON text; `None` for our own calls.
    pub request: Option<Box<str>>,
    pub opened: Time,
    pub deadline: Time,
    /// How long progress keeps it alive from the moment it came.
    pub patience: Duration,
    pub wants_progress: bool,
}

/// A call that waits for its answer.
#[derive(Clone, Debug)]
pub struct Pending<W> {
    pub session: u64,
    pub request: Option<Box<str>>,
    pub opened: Time,
    /// Unanswered then, it is handed out by `due`.
    pub deadline: Time,
    pub patience: Duration,
    pub wants_progress: bool,
    pub waiter: W,
}

/// At most `CALLS_MAX` calls. What is asked often (open, answer, abandon) is quick; what is rare looks at all of them.
#[derive(Clone, Debug)]
pub struct Calls<W> {
    /// INVARIANT: ids ascend.
    pending: VecDeque<(CallId, Pending<W>)>,
    newest: u64,
    closed: Option<Fault>,
}

impl<W> Default for Calls<W> {
    fn default() -> Calls<W> {
        Calls::new()
    }
}

impl<W> Calls<W> {
    pub fn new() -> Calls<W> {
        Calls { pending: VecDeque::new(), newest: 0, closed: None }
    }

    /// Ids count 1, 2, 3 … and are never reused. Refused when the life is over (with the fault that ended it) or
    /// when `CALLS_MAX` wait (`busy`); the waiter comes back then.
    pub fn open(&mut self, call: NewCall, waiter: W) -> Result<CallId, (Fault, W)> {
        if let Some(fault) = &self.closed {
            return Err((fault.clone(), waiter));
        }
        if self.pending.len() >= CALLS_MAX {
            return Err((
                Fault::new(FaultKind::Busy, format!("{CALLS_MAX} calls already wait for this server")),
                waiter,
            ));
        }
        self.newest += 1;
        let id = CallId(self.newest);
        let NewCall { session, request, opened, deadline, patience, wants_progress } = call;
        let deadline = deadline.min(opened + CALL_TOTAL_MAX);
        let call = Pending { session, request, opened, deadline, patience, wants_progress, waiter };
        self.pending.push_back((id, call));
        Ok(id)
    }

    /// The server answered. `None`: nobody waits (answered before, cancelled, timed out, or never asked).
    pub fn answer(&mut self, id: CallId) -> Option<Pending<W>> {
        self.remove(id)
    }

    /// It could not be sent, or its caller gave up.
    pub fn abandon(&mut self, id: CallId) -> Option<Pending<W>> {
        self.remove(id)
    }

    /// Progress came: the deadline moves to `now + patience`, never back, and never past `CALL_TOTAL_MAX`.
    pub fn progress(&mut self, id: CallId, now: Time) -> Option<&Pending<W>> {
        let index = self.index(id)?;
        let call = &mut self.pending[index].1;
        let extended = (now + call.patience).min(call.opened + CALL_TOTAL_MAX);
        call.deadline = call.deadline.max(extended);
        Some(call)
    }

    /// A client cancelled. Of several calls with one request id (clients do reuse them) the newest is meant.
    pub fn cancel(&mut self, session: u64, request: &str) -> Option<(CallId, Pending<W>)> {
        let meant = |call: &Pending<W>| call.session == session && call.request.as_deref() == Some(request);
        let index = self.pending.iter().rposition(|(_, call)| meant(call))?;
        self.pending.remove(index)
    }

    /// A client is gone: its calls, oldest first.
    pub fn session_over(&mut self, session: u64) -> Vec<(CallId, Pending<W>)> {
        self.remove_if(|call| call.session == session)
    }

    /// The life is over: all calls, oldest first. Closes under the same lock, so none can slip in behind; the
    /// first fault stays.
    pub fn life_over(&mut self, fault: Fault) -> Vec<(CallId, Pending<W>)> {
        self.closed.get_or_insert(fault);
        self.pending.drain(..).collect()
    }

    /// The calls whose deadline has come, earliest first.
    pub fn due(&mut self, now: Time) -> Vec<(CallId, Pending<W>)> {
        let mut due = self.remove_if(|call| call.deadline <= now);
        due.sort_by_key(|(id, call)| (call.deadline, *id));
        due
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.pending.iter().map(|(_, call)| call.deadline).min()
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &(CallId, Pending<W>)> {
        self.pending.iter()
    }

    pub fn get(&self, id: CallId) -> Option<&Pending<W>> {
        self.index(id).map(|index| &self.pending[index].1)
    }

    pub fn waiter(&mut self, id: CallId) -> Option<&mut W> {
        self.index(id).map(|index| &mut self.pending[index].1.waiter)
    }

    pub fn count(&self, which: impl Fn(&Pending<W>) -> bool) -> usize {
        self.pending.iter().filter(|(_, call)| which(call)).count()
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The fault that closed it, once the life is over.
    pub fn closed(&self) -> Option<&Fault> {
        self.closed.as_ref()
    }

    fn index(&self, id: CallId) -> Option<usize> {
        self.pending.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn remove(&mut self, id: CallId) -> Option<Pending<W>> {
        let index = self.index(id)?;
        self.pending.remove(index).map(|(_, call)| call)
    }

    fn remove_if(&mut self, over: impl Fn(&Pending<W>) -> bool) -> Vec<(CallId, Pending<W>)> {
        let all = std::mem::take(&mut self.pending);
        let (over, kept) = all.into_iter().partition::<VecDeque<_>, _>(|(_, call)| over(call));
        self.pending = kept;
        over.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn call(session: u64, request: &str, deadline_s: u64) -> NewCall {
        NewCall {
            session,
            request: Some(request.into()),
            opened: Time::ZERO,
            deadline: Time(Duration::from_secs(deadline_s)),
            patience: HOUR,
            wants_progress: true,
        }
    }

    /// Three calls of session 1, one of session 2; the waiter is the call's name.
    fn four() -> Calls<&'static str> {
        let mut calls = Calls::new();
        calls.open(call(1, "1", 30), "a").unwrap();
        calls.open(call(2, "1", 10), "b").unwrap();
        calls.open(call(1, "\"x\"", 20), "c").unwrap();
        calls.open(call(1, "1", 40), "d").unwrap();
        calls
    }

    fn names(calls: Vec<(CallId, Pending<&'static str>)>) -> String {
        calls.iter().map(|(id, call)| format!("{}{}", call.waiter, id.0)).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(
        mut calls: Calls<&'static str>,
        ends: impl Fn(&mut Calls<&'static str>) -> String,
        expected: &str,
    ) {
        assert_eq!(ends(&mut calls), expected);
        let left = calls.len();
        assert_eq!(calls.due(Time(HOUR * 48)).len(), left);
    }

    #[test]
    fn each_way_to_end_hands_the_call_out() {
        let at = |s| Time(Duration::from_secs(s));
        check(four(), |c| c.answer(CallId(2)).unwrap().waiter.into(), "b");
        check(four(), |c| c.abandon(CallId(3)).unwrap().waiter.into(), "c");
        check(four(), |c| format!("{:?}", c.answer(CallId(9)).is_none()), "true");
        check(four(), |c| names(c.cancel(1, "1").into_iter().collect()), "d4");
        check(four(), |c| names(c.cancel(1, "\"x\"").into_iter().collect()), "c3");
        check(four(), |c| names(c.cancel(2, "\"x\"").into_iter().collect()), "");
        check(four(), |c| names(c.session_over(1)), "a1 c3 d4");
        check(four(), |c| names(c.session_over(7)), "");
        check(four(), |c| names(c.due(at(20))), "b2 c3");
        check(four(), |c| names(c.life_over(Fault::new(FaultKind::Exited, "exited"))), "a1 b2 c3 d4");
    }

    #[test]
    fn ids_are_never_reused_and_answers_come_once() {
        let mut calls = four();
        assert!(calls.answer(CallId(4)).is_some());
        assert!(calls.answer(CallId(4)).is_none());
        assert_eq!(calls.open(call(1, "9", 1), "e").unwrap(), CallId(5));
    }

    #[test]
    fn progress_extends_up_to_a_day() {
        let mut calls = four();
        assert_eq!(calls.next_deadline(), Some(Time(Duration::from_secs(10))));
        assert_eq!(calls.progress(CallId(2), Time(HOUR)).unwrap().deadline, Time(HOUR * 2));
        assert_eq!(calls.next_deadline(), Some(Time(Duration::from_secs(20))));
        assert_eq!(calls.progress(CallId(2), Time::ZERO).unwrap().deadline, Time(HOUR * 2), "never back");
        assert_eq!(calls.progress(CallId(2), Time(HOUR * 30)).unwrap().deadline, Time(CALL_TOTAL_MAX));
        assert!(calls.progress(CallId(9), Time::ZERO).is_none());
    }

    #[test]
    fn over_is_over() {
        let mut calls = four();
        calls.life_over(Fault::new(FaultKind::Exited, "exited with code 1"));
        calls.life_over(Fault::new(FaultKind::Stopped, "stopped"));
        let (fault, waiter) = calls.open(call(1, "9", 1), "e").unwrap_err();
        assert_eq!((fault.message.as_str(), waiter), ("exited with code 1", "e"));
        assert!(calls.is_empty() && calls.next_deadline().is_none());
    }

    #[test]
    fn full_is_busy() {
        let mut calls = Calls::new();
        (0..CALLS_MAX).for_each(|n| assert!(calls.open(call(1, &n.to_string(), 1), ()).is_ok()));
        let (fault, ()) = calls.open(call(1, "x", 1), ()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Busy);
    }
}
