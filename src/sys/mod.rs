//! The only `unsafe` and the only system calls beyond std. One family of calls per file; nothing here decides.

pub mod clock;
pub mod logfile;
pub mod pidfd;
pub mod procfs;
pub mod spawn;
pub mod thread;
pub mod tty;
pub mod unix_socket;
pub mod wake;
