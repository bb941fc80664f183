//! An engine that is paused, down, silent, denied and back: its machine against tables, and against a simulated
//! engine that does all of that at random moments; its thread against real engines, and against one that says what a
//! real one will not say on command.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests read the clock, start plain threads, fail by panicking, and look at one action of nine"
)]

mod ear;
mod harbour;
mod live;
mod matrix;
mod scripted;
mod told;
mod words;
mod world;
