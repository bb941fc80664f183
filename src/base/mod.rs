//! Floor 0: values without opinions. No clock, thread, socket or log is known here.

pub mod bytes;
pub mod fault;
pub mod finding;
pub mod id;
pub mod lanes;
pub mod limiter;
pub mod limits;
pub mod redact;
pub mod ring;
pub mod text;
pub mod time;
pub mod topic;
