//! Floor 3: one server. Its machine decides, its supervisor acts.

pub mod gate;
pub mod machine;
pub mod tape;
