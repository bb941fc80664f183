//! mcpvisor, the supervisor for MCP servers. This file is the map of the house.
//!
//! **Floors.** A file may use its own floor's types and any floor below, never above; `tests/it/tidy.rs` reads
//! the `use crate::` lines and keeps it so.
//!
//! ```text
//! floor 5  cli/       commands, help, output; talks to the control socket.   demo/  the built-in MCP server
//! floor 4  daemon/    assembly: start order, desired <-> running, shutdown order, single instance
//!          gateway/   downstream: the HTTP front, sessions, catalogue, routing both ways
//!          api/       what people and tools see: REST and status (reads snapshots, sends commands)
//! floor 3  server/    one server: machine.rs, switch.rs (pure), supervisor.rs (its thread), link.rs, life.rs (a life)
//!          engine/    one container engine: its API over a Unix socket, attach, pulls, events
//!          reaper/    mark.rs, judge.rs (pure), sweep.rs, guardian.rs   (reaper -> engine; server -> engine, reaper)
//! floor 2  config/    text -> (Config, Vec<Finding>)
//!          diagnose/  fault kinds and their classes; what the last words of a program tell
//!          store/     the state database: what was created, what is still to be removed
//! floor 1  mcp/       the protocol without I/O: JSON-RPC spans, handshake, lists, pending calls
//!          http/      HTTP/1.1 heads and bodies, both directions, without sockets
//! floor 0  base/      ids, time as a value, Fault and Finding, limits, redaction
//!          sys/       the only `unsafe` and the only system calls beyond std
//! ```

pub mod base;
pub mod sys;

pub mod http;
pub mod mcp;

pub mod config;
pub mod diagnose;
pub mod store;

pub mod engine;
pub mod reaper;
pub mod server;

pub mod api;
pub mod daemon;
pub mod gateway;

pub mod cli;
pub mod demo;
