//! One test binary: pure parts against tables and simulation, the real binary against real processes and peers.

mod api;
mod bytes;
mod cli_commands;
mod config;
mod conformance;
mod demo;
mod endpoint;
mod http;
mod interop;
mod kill;
mod orphans;
mod promises;
mod questions;
mod remote;
mod resilience;
mod routing;
mod sim;
mod stdio;
mod support;
mod tidy;
