//! The thread "notify": runs the hook `on_event`, one run at a time, for what `notices.rs` says is to be told.
//!
//! It blocks on the next notice, or in the run; it ends when the daemon does. Whoever makes an event only leaves it here.

use super::hook;
use super::notices::{Next, Notice, Notices};
use super::secrets;
use crate::base::fault::Fault;
use crate::base::limits::HOOK_END_PATIENCE;
use crate::base::redact;
use crate::config::Hook;
use crate::reaper::keeper::Keeper;
use crate::server::board::Board;
use crate::server::journal::Record;
use crate::sys::wake::Wake;
use crate::sys::{clock, thread};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;

/// Clones are the same.
#[derive(Clone)]
pub struct Notify(Arc<Shared>);

struct Shared {
    keeper: Arc<Keeper>,
    state: Mutex<State>,
    changed: Condvar,
    /// Ends the run that is under way.
    stop: Wake,
}

#[derive(Default)]
struct State {
    hook: Option<Arc<Hook>>,
    notices: Notices,
    /// There is a thread.
    running: bool,
    closing: bool,
}

impl Notify {
    /// Hears of every event of `board` from now on. There is no thread until there is a hook.
    pub fn start(board: &Board, keeper: &Arc<Keeper>, hook: Option<&Hook>) -> io::Result<Notify> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let notify = Notify(Arc::new(Shared { keeper: keeper.clone(), state, changed, stop: Wake::new()? }));
        let shared = notify.0.clone();
        board.on_event(move |record| shared.hear(record));
        notify.set(hook)?;
        Ok(notify)
    }

    /// Another hook from now on, or none. What was to be told to the one before is forgotten, unless it is the same.
    pub fn set(&self, hook: Option<&Hook>) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.hook.as_deref() == hook {
            return Ok(());
        }
        state.notices = Notices::default();
        state.hook = hook.cloned().map(Arc::new);
        // What it complains of stands in the log. No server has such a short name.
        redact::remember("hooks.on_event", &Arc::new(hook.map(secrets::of_hook).unwrap_or_default()));
        if state.hook.is_some() && !state.running {
            let shared = self.0.clone();
            thread::spawn("notify", move || shared.run())?;
            state.running = true;
        }
        self.0.changed.notify_all();
        Ok(())
    }

    /// Tells nothing any more, and ends the run that is under way; waits for that end, but not for long.
    pub fn close(&self) {
        let until = clock::instant(clock::now() + HOOK_END_PATIENCE);
        let mut state = self.0.state.lock();
        state.closing = true;
        self.0.stop.wake();
        self.0.changed.notify_all();
        self.0.changed.wait_while_until(&mut state, |state| state.running, until);
    }
}

impl Shared {
    fn hear(&self, record: &Arc<Record>) {
        let mut state = self.state.lock();
        if state.hook.as_ref().is_some_and(|hook| hook.events.contains(record.topic)) {
            state.notices.add(record, clock::now());
            self.changed.notify_all();
        }
    }

    fn run(&self) {
        // Also after a panic: who waits for the end must not wait in vain, and another hook gets another thread.
        let _over = Over(self);
        let (mut number, mut failures) = (0, 0);
        while let Some((hook, notice)) = self.next() {
            number += 1;
            let done = hook::run(&hook, &body(&notice), number, &self.keeper, &self.stop);
            failures = report(done, failures);
        }
    }

    /// Waits for what is to be told; nothing once the daemon stops.
    fn next(&self) -> Option<(Arc<Hook>, Notice)> {
        let mut state = self.state.lock();
        loop {
            if state.closing {
                return None;
            }
            let hook = state.hook.clone();
            match (hook, state.notices.next(clock::now())) {
                (Some(hook), Next::Tell(notice)) => return Some((hook, notice)),
                (Some(_), Next::At(at)) => {
                    // Late or early, it is looked at again.
                    let _ = self.changed.wait_until(&mut state, clock::instant(at));
                }
                (None, _) | (Some(_), Next::Nothing) => self.changed.wait(&mut state),
            }
        }
    }
}

struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state.lock().running = false;
        self.0.changed.notify_all();
    }
}

/// The event's JSON, and what was left out for it.
fn body(notice: &Notice) -> Vec<u8> {
    let json = notice.record.json();
    let mut text = json.strip_suffix('}').unwrap_or(json).to_owned();
    for (name, count) in [("coalesced", notice.coalesced), ("dropped", notice.dropped)] {
        if count > 0 {
            text.push_str(&format!(",\"{name}\":{count}"));
        }
    }
    text.push_str("}\n");
    text.into_bytes()
}

/// The first failure and the end of it are said; how many fail in a row is returned.
fn report(done: Result<(), Fault>, failures: u64) -> u64 {
    match (done, failures) {
        (Ok(()), 0) => 0,
        (Ok(()), failures) => {
            log::info!("hooks.on_event: works again; {failures} runs had failed");
            0
        }
        (Err(fault), 0) => {
            log::warn!("hooks.on_event: {fault}; nothing more is said of this until it works");
            1
        }
        (Err(fault), failures) => {
            log::debug!("hooks.on_event: {fault}");
            failures + 1
        }
    }
}
