//! Floor 1: the Model Context Protocol without I/O. Bytes in, values out; params and results stay the bytes
//! that they were.

pub mod bridge;
pub mod caching;
pub mod calls;
pub mod envelope;
pub mod era;
pub mod features;
pub mod handshake;
pub mod headers;
pub mod held;
pub mod input;
pub mod items;
pub mod line;
pub mod meta;
pub mod mirrored;
pub mod params;
pub mod probe;
pub mod scan;
pub mod seal;
