//! Floor 1: the Model Context Protocol without I/O. Bytes in, values out; params and results stay the bytes
//! that they were.

pub mod calls;
pub mod envelope;
pub mod features;
pub mod handshake;
pub mod items;
pub mod line;
pub mod params;
pub mod scan;
