//! Events as people and programs follow them: one order, ids to go on from, gaps that are told, filters, on both
//! listeners; and the command that is run for them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and start plain processes"
)]

mod hook;
mod outage;
mod stream;
mod streams;

pub use outage::contained;
