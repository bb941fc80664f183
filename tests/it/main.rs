//! One test binary: pure parts against tables and simulation, the real binary against real processes and peers.

mod api;
mod births;
mod bytes;
mod cli_commands;
mod config;
mod conformance;
mod containers;
mod demo;
mod docker;
mod endpoint;
mod engine;
mod eras;
mod http;
mod interop;
mod kill;
mod orphans;
mod outage;
mod promises;
mod questions;
mod resilience;
mod routing;
mod sim;
mod stdio;
mod store;
mod support;
mod tidy;
