//! (being built)

pub mod reply;
