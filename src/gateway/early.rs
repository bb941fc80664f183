//! Calls that no link knows yet, because their server is still starting; their clients may cancel all the same.

use crate::base::id::ServerName;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// At most one per connection.
#[derive(Debug, Default)]
pub struct Early(Mutex<Vec<Arc<Awaiting>>>);

#[derive(Debug)]
pub(super) struct Awaiting {
    server: ServerName,
    pub session: u64,
    pub id: Box<str>,
    cancelled: AtomicBool,
}

impl Early {
    pub(super) fn add(&self, server: &ServerName, session: u64, id: &str) -> EarlyCall<'_> {
        let (server, id) = (server.clone(), id.into());
        let call = Arc::new(Awaiting { server, session, id, cancelled: AtomicBool::new(false) });
        self.0.lock().push(call.clone());
        EarlyCall { all: self, call }
    }

    /// Calls that wait for this server to start.
    pub fn waiting_for(&self, server: &ServerName) -> usize {
        self.0.lock().iter().filter(|call| call.server == *server).count()
    }

    pub(super) fn cancel(&self, concerned: impl Fn(&Awaiting) -> bool) {
        let calls = self.0.lock();
        calls
            .iter()
            .filter(|call| concerned(call))
            .for_each(|call| call.cancelled.store(true, Ordering::Release));
    }
}

/// A call's place among the early ones, left when dropped.
pub(super) struct EarlyCall<'a> {
    all: &'a Early,
    call: Arc<Awaiting>,
}

impl EarlyCall<'_> {
    pub(super) fn is_cancelled(&self) -> bool {
        self.call.cancelled.load(Ordering::Acquire)
    }
}

impl Drop for EarlyCall<'_> {
    fn drop(&mut self) {
        self.all.0.lock().retain(|call| !Arc::ptr_eq(call, &self.call));
    }
}
