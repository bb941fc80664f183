//! The byte path to one life: its stdin, and the calls that wait for it.
//!
//! Any thread may call; no lock is held while anything waits. What the child does not read at once is queued here
//! and flushed by the life's thread. Whoever removes a call from the pending ones owns its answer.

use super::slot::{Answer, Slot};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{CallId, Life};
use crate::base::limits::{CALL_TOTAL_MAX, IN_FLIGHT_BYTES_MAX, OUTBOX_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use crate::base::time::Time;
use crate::mcp::calls::{Calls, NewCall, Pending};
use crate::mcp::envelope;
use crate::mcp::items::Kind;
use crate::sys::wake::Wake;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes queued toward all servers of this process.
static QUEUED_BYTES: AtomicUsize = AtomicUsize::new(0);

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
    List(Kind),
    Probe,
    /// Something that the server is told as a request, and whose answer changes nothing.
    Told,
}

#[derive(Debug)]
pub struct Link {
    pub life: Life,
    calls: Mutex<Calls<Waiter>>,
    outbox: Mutex<Outbox>,
    /// Wakes the life's thread: something is queued for its stdin.
    wake: Wake,
}

#[derive(Debug)]
struct Outbox {
    /// `None` once stdin is closed.
    stdin: Option<Arc<OwnedFd>>,
    queue: Vec<u8>,
    sent: usize,
    /// The server has closed its end: nothing that is sent arrives.
    broken: bool,
}

impl Link {
    pub fn new(life: Life, stdin: OwnedFd, wake: Wake) -> Link {
        let outbox = Outbox { stdin: Some(Arc::new(stdin)), queue: Vec::new(), sent: 0, broken: false };
        Link { life, calls: Mutex::new(Calls::new()), outbox: Mutex::new(outbox), wake }
    }

    /// Opens a call and sends it; `params` says what the params are, given the id that stands for the progress
    /// token. On `Err` nobody will answer the waiter: the call was never open, or is closed again.
    pub fn call(
        &self,
        call: NewCall,
        waiter: Waiter,
        method: &str,
        params: impl FnOnce(CallId) -> Option<String>,
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

    /// Sends one line; the newline is added here. Never blocks.
    pub fn send(&self, mut line: Vec<u8>) -> Result<(), Fault> {
        line.push(b'\n');
        let mut outbox = self.outbox.lock();
        let queued = outbox.queue.len() - outbox.sent;
        if outbox.stdin.is_none() {
            return Err(Fault::new(FaultKind::Stopped, "the server's stdin is closed"));
        }
        if queued + line.len() > OUTBOX_BYTES_MAX.max(line.len()) || (queued > 0 && over_budget(line.len())) {
            let message = format!("the server does not read its input: {queued} bytes wait already");
            return Err(
                Fault::new(FaultKind::Busy, message).hint("it is overloaded or stuck; try again later")
            );
        }
        let sent = if queued == 0 { outbox.write(&line) } else { 0 };
        if outbox.broken {
            // What is under way ends with the life: by its exit, or because it is of no use any more.
            drop(outbox);
            self.wake.wake();
        } else if sent < line.len() {
            QUEUED_BYTES.fetch_add(line.len() - sent, Ordering::Relaxed);
            outbox.queue.extend_from_slice(&line[sent..]);
            drop(outbox);
            self.wake.wake();
        }
        Ok(())
    }

    /// Writes what is queued, as far as the child takes it. Called by the life's thread.
    pub fn flush(&self) {
        let mut outbox = self.outbox.lock();
        let queue = std::mem::take(&mut outbox.queue);
        let from = outbox.sent;
        let written = outbox.write(&queue[from..]);
        outbox.queue = queue;
        if outbox.broken {
            return outbox.empty();
        }
        QUEUED_BYTES.fetch_sub(written, Ordering::Relaxed);
        outbox.sent += written;
        if outbox.sent == outbox.queue.len() {
            outbox.queue = Vec::new();
            outbox.sent = 0;
        } else if outbox.sent > outbox.queue.len() / 2 {
            let sent = std::mem::take(&mut outbox.sent);
            outbox.queue.drain(..sent);
        }
    }

    /// Stdin, if something waits for room in it. Only the life's thread closes stdin, so what it polls stays open.
    pub fn clogged(&self) -> Option<Arc<OwnedFd>> {
        let outbox = self.outbox.lock();
        outbox.stdin.clone().filter(|_| outbox.sent < outbox.queue.len())
    }

    /// The server has closed its stdin, or has ended.
    pub fn is_broken(&self) -> bool {
        self.outbox.lock().broken
    }

    /// The server reads EOF; what was still queued is lost with it.
    pub fn close_stdin(&self) {
        self.outbox.lock().close();
    }

    /// Removes the call: whoever gets `Some` owns its answer.
    pub fn answered(&self, id: CallId) -> Option<Pending<Waiter>> {
        self.calls.lock().answer(id)
    }

    /// The caller gives up. `false`: the answer is on its way to its slot already and must be taken.
    pub fn abandon(&self, id: CallId) -> bool {
        self.calls.lock().abandon(id).is_some()
    }

    /// A client cancels its own request; its waiting thread hears of it through its slot.
    pub fn cancel(&self, session: u64, request: &str, reason: Option<&str>) -> bool {
        let Some((id, pending)) = self.calls.lock().cancel(session, request) else { return false };
        self.tell_cancelled(id, reason);
        if let Waiter::Caller { slot, .. } = pending.waiter {
            slot.answer(Answer::Fault(Fault::new(FaultKind::Cancelled, "cancelled by the client")));
        }
        true
    }

    /// Tells the server that nobody waits for `id` any more.
    pub fn tell_cancelled(&self, id: CallId, reason: Option<&str>) {
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

    /// The one session that has calls in flight here, its newest call, and where that call waits.
    pub fn sole_caller(&self) -> Option<(u64, CallId, Slot)> {
        let calls = self.calls.lock();
        let (session, id) = calls.sole_session()?;
        Some((session, id, slot(calls.get(id)?)?))
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
        let _ = self.call(call, Waiter::Own(Purpose::Told), method, |_| Some(params));
    }

    /// The life is over: every caller is answered at once, and later calls are refused with the same fault.
    pub fn life_over(&self, fault: &Fault) {
        let over = self.calls.lock().life_over(fault.clone());
        for (_, pending) in over {
            if let Waiter::Caller { slot, .. } = pending.waiter {
                slot.answer(Answer::Fault(fault.clone()));
            }
        }
    }

    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.calls.lock().len()
    }
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

fn over_budget(more: usize) -> bool {
    QUEUED_BYTES.load(Ordering::Relaxed).saturating_add(more) > IN_FLIGHT_BYTES_MAX
}

impl Outbox {
    /// As much as the pipe takes now; nothing once it is closed or broken.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(stdin) = self.stdin.as_ref().filter(|_| !self.broken) else { return 0 };
        let mut sent = 0;
        while sent < bytes.len() {
            match nix::unistd::write(stdin.as_fd(), &bytes[sent..]) {
                Ok(count) => sent += count,
                Err(Errno::EINTR) => (),
                Err(Errno::EAGAIN) => break,
                // EPIPE; no other error means anything else for a pipe.
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        sent
    }

    fn close(&mut self) {
        self.stdin = None;
        self.empty();
    }

    fn empty(&mut self) {
        QUEUED_BYTES.fetch_sub(self.queue.len() - self.sent, Ordering::Relaxed);
        self.queue = Vec::new();
        self.sent = 0;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}
