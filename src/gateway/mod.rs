//! Floor 4: what MCP clients see: sessions, one catalogue of all servers' tools, and the routing of calls.

pub mod access;
pub mod call;
pub mod catalogue;
pub mod front;
pub mod http;
pub mod hub;
pub mod sessions;
