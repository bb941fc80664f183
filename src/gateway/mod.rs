//! Downstream: the HTTP server and its event streams, and the MCP front on top of them.

pub mod http;
pub mod hub;
