//! Floor 3: one container engine that speaks the Docker Engine API, over a Unix socket or plain TCP.
//!
//! [`api::Engine`] asks, each question with a deadline and a way to cancel; answers that go on (attach, wait, pulls,
//! events, logs) are streams that a caller polls. Nothing here waits to try again, and nothing decides what a failure
//! means for a server.
//!
//! [`engines::Engines`] watches each engine that somebody lives on: `outage.rs` decides whether it is there, `monitor.rs`
//! is its thread, and [`watched::Watched`] is what others see and hear of it.

pub mod answers;
pub mod api;
pub mod attach;
pub mod auth;
pub mod by_cli;
mod caller;
mod calls;
pub mod cause;
pub mod endpoint;
pub mod engines;
pub mod error;
pub mod events;
pub mod logs;
mod monitor;
pub mod outage;
pub mod patience;
pub mod pull;
pub mod resolve;
pub mod socket;
pub mod spec;
pub mod stream;
pub mod tidings;
pub mod wait;
pub mod watched;
mod wire;
