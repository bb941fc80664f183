//! What a supervisor wants of a life: a mailbox of levels, not a queue. An order given before the process is born
//! waits for it; one given twice is carried out once.

use crate::sys::wake::Wake;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// In the order in which they are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Probe,
    /// The first rung of the stop ladder: the server reads EOF.
    CloseInput,
    /// SIGTERM to the group.
    Term,
    /// SIGKILL to the group.
    Kill,
    /// It has exited: end what it left, reap, and be gone.
    Clear,
}

const ALL: [Order; 5] = [Order::Probe, Order::CloseInput, Order::Term, Order::Kill, Order::Clear];

/// Clones share the mailbox.
#[derive(Clone, Debug)]
pub struct Orders {
    wanted: Arc<AtomicU8>,
    wake: Wake,
}

impl Orders {
    pub fn new() -> io::Result<Orders> {
        Ok(Orders { wanted: Arc::new(AtomicU8::new(0)), wake: Wake::new()? })
    }

    pub fn give(&self, order: Order) {
        self.wanted.fetch_or(1 << order as u8, Ordering::AcqRel);
        self.wake.wake();
    }

    /// Readable when an order, or a byte for stdin, waits.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Empties the mailbox.
    pub fn take(&self) -> impl Iterator<Item = Order> + use<> {
        self.wake.clear();
        let wanted = self.wanted.swap(0, Ordering::AcqRel);
        ALL.into_iter().filter(move |order| wanted & (1 << *order as u8) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let orders = Orders::new().unwrap();
        assert_eq!(orders.take().count(), 0);
        orders.give(Order::Kill);
        orders.give(Order::CloseInput);
        orders.give(Order::Kill);
        assert_eq!(orders.take().collect::<Vec<_>>(), [Order::CloseInput, Order::Kill]);
        assert_eq!(orders.take().count(), 0);
    }
}
