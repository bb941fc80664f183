//! A life in a container.

pub mod birth;
