//! The byte path to one life: its stdin or its HTTP requests, and the calls that wait for it.
//!
//! Any thread may call; no lock is held while anything waits. What the child does not read at once is queued in the
//! outbox and flushed by the life's thread; what goes to a remote server is queued for its workers. Whoever removes a
//! call from the pending ones owns its answer.

use super::listening::Listening;
use super::outbox::Outbox;
use super::remote::{Mirrors, Remote};
use super::slot::{Answer, Slot};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life};
use crate::base::limits::{CALL_TOTAL_MAX, REQUEST_LINE_BYTES_MAX};
use crate::base::time::Time;
use crate::mcp::calls::{Calls, NewCall, Pending};
use crate::mcp::envelope;
use crate::mcp::era::Era;
use crate::mcp::items::Kind;
use crate::sys::wake::Wake;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Who waits for an answer.
#[derive(Debug)]
pub enum Waiter {
    /// A downstream caller; `token` is its progress token, raw, if it gave one.
    Caller { slot: Slot, token: Option<Box<str>> },
    /// The life's own thread.
    Own(Purpose),
}

/// What the life's own requests are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Initialize,
    Discover,
    List(Kind),
    Probe,
    /// `subscriptions/listen`: open for as long as the server has something to say.
    Listen,
    /// Something that the server is told as a request, and whose answer changes nothing.
    Told,
}

#[derive(Debug)]
pub struct Link {
    pub life: Life,
    calls: Mutex<Calls<Waiter>>,
    way: Way,
    /// What is said with a modern server beside calls; nothing in the legacy era.
    modern: OnceLock<Mutex<Listening>>,
    /// How many calls of clients have gone to this life; `LEFT` once no more may.
    used: AtomicU64,
    /// Lists that somebody wants read anew, a bit for each.
    to_list: AtomicU8,
    /// It is to have no more calls once it has none; who hears of that.
    on_idle: OnceLock<OnIdle>,
}

/// Called by whoever ended the last call, and perhaps more than once: it must not wait.
struct OnIdle(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for OnIdle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnIdle")
    }
}

/// More calls than there can be.
const LEFT: u64 = u64::MAX;

/// How lines get to the server.
#[derive(Debug)]
enum Way {
    Pipe(Outbox),
    Remote(Remote),
}

impl Link {
    pub fn new(life: Life, stdin: OwnedFd, wake: Wake) -> Link {
        Link::over_way(life, Way::Pipe(Outbox::new(stdin, wake)))
    }

    /// The era of this life. Whoever is given a link by its server may rely on it.
    pub fn era(&self) -> Era {
        if self.modern.get().is_some() { Era::Modern } else { Era::Legacy }
    }

    /// Said once, before anybody else has the link.
    pub(super) fn is_modern(&self, listening: Listening) {
        // A second greeting of one life changes nothing.
        let _ = self.modern.set(Mutex::new(listening));
        match &self.way {
            Way::Pipe(_) => (),
            Way::Remote(remote) => remote.open_modern(),
        }
    }

    /// Which arguments of its tools a request repeats in its head.
    pub(super) fn mirror(&self, mirrors: Mirrors) {
        match &self.way {
            Way::Pipe(_) => (),
            Way::Remote(remote) => remote.mirror(mirrors),
        }
    }

    /// What clients have subscribed to on a modern server: all of it, not what is new.
    pub fn watch(&self, uris: BTreeSet<String>) {
        if let Some(modern) = self.modern.get() {
            modern.lock().watch(self, uris);
        }
    }

    /// Whether a modern server tells by itself that this list has changed.
    pub(super) fn tells_of(&self, kind: Kind) -> bool {
        self.modern.get().is_some_and(|modern| modern.lock().tells_of(kind))
    }

    /// Has the life's thread read a list anew.
    pub(super) fn list_anew(&self, kind: Kind) {
        self.to_list.fetch_or(1 << kind as u8, Ordering::AcqRel);
        match &self.way {
            Way::Pipe(outbox) => outbox.wake(),
            Way::Remote(remote) => remote.wake(),
        }
    }

    /// The lists that are to be read anew; said once.
    pub(super) fn to_list(&self) -> impl Iterator<Item = Kind> + use<> {
        let wanted = self.to_list.swap(0, Ordering::AcqRel);
        Kind::ALL.into_iter().filter(move |kind| wanted & (1 << *kind as u8) != 0)
    }

    /// The tools were listed again, or will not be: what waits for their heads waits no longer.
    pub(super) fn heads_are_known(&self) {
        match &self.way {
            Way::Pipe(_) => (),
            Way::Remote(remote) => remote.heads_are_known(),
        }
    }

    /// Has the server tell us of changes, if it can.
    pub(super) fn listen(&self) {
        if let Some(modern) = self.modern.get() {
            modern.lock().open(self);
        }
    }

    /// The server ended a `subscriptions/listen`. `refused`: it does not know that.
    pub(super) fn listen_over(&self, id: CallId, refused: bool) {
        if let Some(modern) = self.modern.get() {
            modern.lock().over(self, id, refused);
        }
    }

    /// A client's call is about to go to this life. `false`: it makes way.
    pub(super) fn use_it(&self) -> bool {
        let one_more = |used| (used != LEFT).then(|| used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
    }

    /// How many calls it has had.
    pub(super) fn uses(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// If it has had no more calls than so many, it will have no more. Twice is harmless.
    pub(super) fn leave(&self, uses: u64) -> bool {
        let left = self.used.compare_exchange(uses, LEFT, Ordering::AcqRel, Ordering::Acquire);
        left.is_ok() || left == Err(LEFT)
    }

    pub fn remote(life: Life, remote: Remote) -> Link {
        Link::over_way(life, Way::Remote(remote))
    }

    fn over_way(life: Life, way: Way) -> Link {
        Link {
            life,
            calls: Mutex::new(Calls::new()),
            way,
            modern: OnceLock::new(),
            used: AtomicU64::new(0),
            to_list: AtomicU8::new(0),
            on_idle: OnceLock::new(),
        }
    }

    /// Whether the server runs elsewhere.
    pub fn is_remote(&self) -> bool {
        matches!(self.way, Way::Remote(_))
    }

    /// The version that was agreed on with the server.
    pub fn agreed(&self, version: &str) {
        match &self.way {
            Way::Pipe(_) => (),
            Way::Remote(remote) => remote.agreed(version),
        }
    }

    /// Opens a call and sends it; `params` says what the params are, given the id that stands for the progress
    /// token. On `Err` nobody will answer the waiter: the call was never open, or is closed again.
    pub fn call<'a>(
        &self,
        call: NewCall,
        waiter: Waiter,
        method: &str,
        params: impl FnOnce(CallId) -> Option<Cow<'a, str>>,
    ) -> Result<CallId, Fault> {
        let id = self.calls.lock().open(call, waiter).map_err(|(fault, _)| fault)?;
        let line = envelope::request(&id.0.to_string(), method, params(id).as_deref());
        let sent =
            if line.len() > REQUEST_LINE_BYTES_MAX { Err(too_large(line.len())) } else { self.send(line) };
        match sent {
            Ok(()) => Ok(id),
            // If somebody was quicker to remove it, they have answered it: then it counts as sent.
            Err(fault) => self.calls.lock().abandon(id).map_or(Ok(id), |_| Err(fault)),
        }
    }

    /// Sends one line, without a newline. Never blocks.
    pub fn send(&self, mut line: Vec<u8>) -> Result<(), Fault> {
        match &self.way {
            Way::Pipe(outbox) => {
                line.push(b'\n');
                outbox.send(line)
            }
            Way::Remote(remote) => remote.send(line),
        }
    }

    /// Its stdin, if it has one.
    fn outbox(&self) -> Option<&Outbox> {
        match &self.way {
            Way::Pipe(outbox) => Some(outbox),
            Way::Remote(_) => None,
        }
    }

    /// Nobody waits for `id` any more.
    fn over(&self, id: CallId) {
        match &self.way {
            Way::Pipe(_) => (),
            Way::Remote(remote) => remote.over(id),
        }
    }

    /// Writes what is queued, as far as the child takes it. Called by the life's thread.
    pub fn flush(&self) {
        if let Some(outbox) = self.outbox() {
            outbox.flush();
        }
    }

    /// Stdin, if something waits for room in it. Only the life's thread closes stdin, so what it polls stays open.
    pub fn clogged(&self) -> Option<Arc<OwnedFd>> {
        self.outbox()?.clogged()
    }

    /// The server has closed its stdin, or has ended.
    pub fn is_broken(&self) -> bool {
        self.outbox().is_some_and(Outbox::is_broken)
    }

    /// The server reads EOF; what was still queued is lost with it.
    pub fn close_stdin(&self) {
        if let Some(outbox) = self.outbox() {
            outbox.close();
        }
    }

    /// Removes the call: whoever gets `Some` owns its answer.
    pub fn answered(&self, id: CallId) -> Option<Pending<Waiter>> {
        let pending = self.calls.lock().answer(id);
        if let (Some(_), Way::Remote(remote)) = (&pending, &self.way) {
            remote.answered(id);
        }
        self.one_less();
        pending
    }

    /// The same for a call of our own of this purpose.
    pub(super) fn answered_if(&self, id: CallId, which: impl Fn(Purpose) -> bool) -> bool {
        let mut calls = self.calls.lock();
        let ours = calls.get(id).is_some_and(|call| matches!(call.waiter, Waiter::Own(own) if which(own)));
        ours && calls.answer(id).is_some()
    }

    /// The caller gives up. `false`: the answer is on its way to its slot already and must be taken.
    pub fn abandon(&self, id: CallId) -> bool {
        let was_open = self.calls.lock().abandon(id).is_some();
        if was_open {
            self.over(id);
        }
        self.one_less();
        was_open
    }

    /// A client cancels its own request; its waiting thread hears of it through its slot.
    pub fn cancel(&self, session: u64, request: &str, reason: Option<&str>) -> bool {
        let Some((id, pending)) = self.calls.lock().cancel(session, request) else { return false };
        self.tell_cancelled(id, reason);
        if let Waiter::Caller { slot, .. } = pending.waiter {
            slot.answer(Answer::Fault(Fault::new(FaultKind::Cancelled, "cancelled by the client")));
        }
        self.one_less();
        true
    }

    /// Tells the server that nobody waits for `id` any more.
    pub fn tell_cancelled(&self, id: CallId, reason: Option<&str>) {
        if let Way::Remote(remote) = &self.way
            && (!remote.cancel(id) || self.era() == Era::Modern)
        {
            // Never sent, or told by the end of its connection.
            return;
        }
        let reason = reason.map(|reason| format!(",\"reason\":{reason}")).unwrap_or_default();
        let params = format!("{{\"requestId\":{}{reason}}}", id.0);
        // A server that takes no more input cannot be told, and does not need to be.
        let _ = self.send(envelope::notification("notifications/cancelled", Some(&params)));
    }

    /// Ends every call of a session that is over.
    pub fn session_over(&self, session: u64) {
        let over = self.calls.lock().session_over(session);
        for (id, pending) in over {
            self.tell_cancelled(id, None);
            if let Waiter::Caller { slot, .. } = pending.waiter {
                slot.answer(Answer::Fault(Fault::new(FaultKind::Cancelled, "the session was ended")));
            }
        }
        self.one_less();
    }

    /// Gives the progress of a call to its caller, with the caller's own token; `false` if nobody waits for it.
    pub fn progress(&self, id: CallId, now: Time, params: impl FnOnce(&str) -> Option<String>) -> bool {
        let mut calls = self.calls.lock();
        let Some(pending) = calls.progress(id, now) else { return false };
        if let Waiter::Caller { slot, token: Some(token) } = &pending.waiter
            && let Some(params) = params(token)
        {
            slot.message(envelope::notification("notifications/progress", Some(&params)), true);
        }
        true
    }

    /// Whose the call `id` is, and where it waits; `None` if it is over, or none of a client.
    pub fn caller(&self, id: CallId) -> Option<(u64, CallId, Slot)> {
        let calls = self.calls.lock();
        let pending = calls.get(id)?;
        Some((pending.session, id, slot(pending)?))
    }

    /// The calls of clients, oldest first: whose each is, and where it waits.
    pub fn callers(&self) -> Vec<(u64, CallId, Slot)> {
        let calls = self.calls.lock();
        // Session 0 is ours.
        let theirs = calls.iter().filter(|(_, call)| call.session != 0);
        theirs.filter_map(|(id, call)| Some((call.session, *id, slot(call)?))).collect()
    }

    /// Its caller hears of progress under another token from now on, or of none.
    pub fn retoken(&self, id: CallId, new: Option<Box<str>>) {
        if let Some(Waiter::Caller { token, .. }) = self.calls.lock().waiter(id) {
            *token = new;
        }
    }

    /// Where the caller of `id` waits.
    pub fn slot_of(&self, id: CallId) -> Option<Slot> {
        slot(self.calls.lock().get(id)?)
    }

    /// Tells the server something by a request whose answer changes nothing.
    pub fn tell_of(&self, method: &str, params: String, now: Time) {
        let call = NewCall {
            session: 0,
            request: None,
            opened: now,
            deadline: now + CALL_TOTAL_MAX,
            patience: CALL_TOTAL_MAX,
            wants_progress: false,
        };
        // A server that takes no more input is about to be replaced, and the next life is told anew.
        let _ = self.call(call, Waiter::Own(Purpose::Told), method, |_| Some(params.into()));
    }

    /// The life is over: every caller is answered at once, and later calls are refused with the same fault.
    pub fn life_over(&self, fault: &Fault) {
        let over = self.calls.lock().life_over(fault.clone());
        for (id, pending) in over {
            let fault = match &self.way {
                Way::Pipe(_) => fault.clone(),
                Way::Remote(remote) => remote.verdict(id, fault),
            };
            if let Waiter::Caller { slot, .. } = pending.waiter {
                slot.answer(Answer::Fault(fault));
            }
        }
    }

    /// Another life is called from here on: `tell` is called whenever it has lost its last call of a client, but
    /// not if it has none now: see [`Link::close_if_idle`].
    pub(super) fn drain(&self, tell: impl Fn() + Send + Sync + 'static) {
        // A second time changes nothing: a life is replaced once.
        let _ = self.on_idle.set(OnIdle(Box::new(tell)));
    }

    /// Has it no call of a client, it gets none any more: who turns to it is refused with this fault, before anything is
    /// sent. `false`: some are under way.
    pub(super) fn close_if_idle(&self, fault: Fault) -> bool {
        let mut calls = self.calls.lock();
        let idle = calls.count(is_of_a_client) == 0;
        if idle {
            calls.life_over(fault);
        }
        idle
    }

    /// A call may have been the last.
    fn one_less(&self) {
        if let Some(OnIdle(tell)) = self.on_idle.get()
            && self.calls.lock().count(is_of_a_client) == 0
        {
            tell();
        }
    }

    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.calls.lock().count(|call| !matches!(call.waiter, Waiter::Own(Purpose::Listen)))
    }
}

fn is_of_a_client(call: &Pending<Waiter>) -> bool {
    matches!(call.waiter, Waiter::Caller { .. })
}

fn too_large(bytes: usize) -> Fault {
    let limit = REQUEST_LINE_BYTES_MAX >> 20;
    Fault::new(FaultKind::TooLarge, format!("the request has {bytes} bytes; servers take {limit} MiB")).hint(
        "many servers never answer again after a longer line; pass a file's path instead of its content",
    )
}

fn slot(pending: &Pending<Waiter>) -> Option<Slot> {
    match &pending.waiter {
        Waiter::Caller { slot, .. } => Some(slot.clone()),
        Waiter::Own(_) => None,
    }
}
