//! Floor 1: the Model Context Protocol without I/O.

pub mod calls;
