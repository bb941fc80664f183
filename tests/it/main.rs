//! One test binary: pure parts against tables and simulation, the real binary against real processes and peers.

mod cli_commands;
mod config;
mod demo;
mod http;
mod interop;
mod kill;
mod orphans;
mod promises;
mod sim;
mod support;
mod tidy;
