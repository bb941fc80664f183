//! Floor 3: one container engine that speaks the Docker Engine API, over a Unix socket or plain TCP.
//!
//! [`api::Engine`] asks, each question with a deadline and a way to cancel; answers that go on (attach, wait, pulls,
//! events, logs) are streams that a caller polls. Nothing here waits to try again, and nothing decides what a failure
//! means for a server.

pub mod answers;
pub mod api;
pub mod attach;
pub mod auth;
pub mod by_cli;
mod calls;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod logs;
pub mod patience;
pub mod pull;
pub mod resolve;
pub mod stream;
pub mod wait;
mod wire;
