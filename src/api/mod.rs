//! Floor 4: what people and tools see of the daemon. It reads snapshots and sends commands; it decides nothing.

pub mod act;
pub mod config;
pub mod events;
pub mod reconnect;
pub mod rest;
pub mod status;
