//! The only `unsafe` and the only system calls beyond std. One family of calls per file; nothing here decides.

pub mod cgroup;
pub mod clock;
pub mod dial;
pub mod epoll;
pub mod guard;
pub mod hold;
pub mod inotify;
pub mod kin;
pub mod listening;
pub mod lock;
pub mod logdir;
pub mod logfile;
pub mod logs;
pub mod net;
pub mod pages;
pub mod pidfd;
pub mod procfs;
pub mod replace;
pub mod spawn;
pub mod stderr;
pub mod thread;
pub mod tty;
pub mod unix_socket;
pub mod wake;
