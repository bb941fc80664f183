//! The only `unsafe` and the only system calls beyond std. One family of calls per file; nothing here decides.

pub mod cgroup;
pub mod clock;
pub mod guard;
pub mod hold;
pub mod kin;
pub mod lock;
pub mod pidfd;
pub mod procfs;
pub mod thread;
pub mod wake;
