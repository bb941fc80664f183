//! Servers in containers, on a real engine: one each, of ours alone, and none left, whatever dies.
//!
//! Tests that leave containers behind on purpose, or harm the engine, have an engine of their own; the others share
//! one, and look only at what their daemon's instance has made.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run plain commands and fail by panicking; support/mod.rs says how they wait without sleeping"
)]

mod argv;
mod detection;
mod faults;
mod fleet;
mod floor;
mod health;
mod incidents;
mod kills;
mod life;
mod outage;
mod overlap;
mod owed;
mod pull;
pub mod scene;
mod seed;
mod seed_resume;
mod strangers;
