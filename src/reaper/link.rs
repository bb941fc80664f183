//! The daemon's side of the guardian: how it learns that it has one, sees it die, and tells it what it needs.

use super::instance::{Instance, OpenError};
use crate::engine::endpoint::Endpoint;
use crate::sys::guard;
use crate::sys::lock::Lock;
use nix::unistd::write;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Set by the guardian for the daemon, which removes it: see [`Invitation`].
pub const GUARDIAN: &str = "MCPVISOR_GUARDIAN";

/// What [`GUARDIAN`] says: `DOWN,UP,LOCK,PID,SESSION,CGROUP`; numbers of inherited descriptors, the guardian's pid,
/// the run's id, and the path of the cgroup around the daemon, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invitation {
    pub down: i32,
    pub up: i32,
    pub lock: i32,
    pub guardian: u32,
    pub session: String,
    pub cgroup: Option<PathBuf>,
}

impl Invitation {
    fn parse(text: &str) -> Option<Invitation> {
        let mut parts = text.splitn(6, ',');
        Some(Invitation {
            down: parts.next()?.parse().ok()?,
            up: parts.next()?.parse().ok()?,
            lock: parts.next()?.parse().ok()?,
            guardian: parts.next()?.parse().ok()?,
            session: parts.next()?.to_owned(),
            cgroup: Some(parts.next()?).filter(|path| !path.is_empty()).map(PathBuf::from),
        })
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invitation { down, up, lock, guardian, session, cgroup } = self;
        let cgroup = cgroup.as_deref().unwrap_or(Path::new("")).display();
        write!(f, "{down},{up},{lock},{guardian},{session},{cgroup}")
    }
}

/// The daemon's hold on its guardian.
#[derive(Debug)]
pub struct Link {
    pub guardian: u32,
    /// The cgroup around the daemon and everything that it starts.
    pub cgroup: Option<PathBuf>,
    session: String,
    lock: Option<Lock>,
    down: OwnedFd,
    up: OwnedFd,
}

impl Link {
    /// `None` if no guardian started us: then this process is to become one. Before any thread, because it changes
    /// the environment. The daemon gets a session of its own, its name back, and adopts its orphaned descendants.
    pub fn adopt() -> Option<Link> {
        let invitation = Invitation::parse(&guard::take_env(GUARDIAN)?)?;
        let down = guard::take_inherited(invitation.down).filter(|fd| guard::is_pipe(fd))?;
        let up = guard::take_inherited(invitation.up).filter(|fd| guard::is_pipe(fd))?;
        let lock = Lock::inherited(guard::take_inherited(invitation.lock)?);
        for (what, done) in [
            ("setsid", guard::new_session()),
            ("set our name", guard::set_name(c"mcpvisor")),
            ("become a subreaper", guard::become_subreaper()),
            ("unblock signals", guard::unblock_signals()),
        ] {
            if let Err(error) = done {
                log::debug!("{what}: {error}");
            }
        }
        let Invitation { guardian, session, cgroup, .. } = invitation;
        Some(Link { guardian, cgroup, session, lock: Some(lock), down, up })
    }

    /// The instance whose lock the guardian holds together with us. `dir` must be the one that it was given.
    pub fn instance(&mut self, dir: &Path) -> Result<Instance, OpenError> {
        match self.lock.take() {
            Some(lock) => Instance::inherited(dir, self.session.clone(), lock, self.guardian),
            None => Instance::open(dir),
        }
    }

    /// Readable (end of file) once the guardian is dead.
    pub fn watch_fd(&self) -> BorrowedFd<'_> {
        self.down.as_fd()
    }

    /// Never blocks. A line that the guardian cannot take is lost; it finds what it needs without it, only later.
    pub fn report(&self, line: Line) {
        if let Err(error) = write(&self.up, format!("{line}\n").as_bytes()) {
            log::debug!("tell the guardian {line}: {error}");
        }
    }
}

/// What the daemon tells; each line far below PIPE_BUF, so that none is ever torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A server's process lives.
    Life { pid: u32, start: u64, pgid: u32 },
    /// It is over, and nothing of it is left.
    Gone { pid: u32, start: u64 },
    /// Containers may be made on this engine from now on.
    Engine { endpoint: Endpoint },
    /// A container of this run was made: its full id, and how long it may take to stop.
    Container { id: String, grace_ms: u64 },
    /// It was seen to be gone.
    ContainerGone { id: String },
    /// How long an orderly shutdown may take.
    Budget { ms: u64 },
    /// The shutdown is done and nothing is left: whatever is found now came in between.
    Goodbye,
}

impl Line {
    pub(super) fn parse(text: &str) -> Option<Line> {
        // A path may have spaces in it.
        if let Some(endpoint) = text.strip_prefix("engine ") {
            return Some(Line::Engine { endpoint: Endpoint::parse(endpoint).ok()? });
        }
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["life", pid, start, pgid] => Some(Line::Life {
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
                pgid: pgid.parse().ok()?,
            }),
            ["gone", pid, start] => Some(Line::Gone { pid: pid.parse().ok()?, start: start.parse().ok()? }),
            ["container", id, grace_ms] => {
                Some(Line::Container { id: id.to_owned(), grace_ms: grace_ms.parse().ok()? })
            }
            ["container-gone", id] => Some(Line::ContainerGone { id: id.to_owned() }),
            ["budget", ms] => Some(Line::Budget { ms: ms.parse().ok()? }),
            ["goodbye"] => Some(Line::Goodbye),
            _ => None,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Life { pid, start, pgid } => write!(f, "life {pid} {start} {pgid}"),
            Line::Gone { pid, start } => write!(f, "gone {pid} {start}"),
            Line::Engine { endpoint } => write!(f, "engine {endpoint}"),
            Line::Container { id, grace_ms } => write!(f, "container {id} {grace_ms}"),
            Line::ContainerGone { id } => write!(f, "container-gone {id}"),
            Line::Budget { ms } => write!(f, "budget {ms}"),
            Line::Goodbye => f.write_str("goodbye"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_pipe() {
        let lines = [
            Line::Life { pid: 1, start: 2, pgid: 3 },
            Line::Gone { pid: 1, start: 2 },
            Line::Engine { endpoint: Endpoint::Unix("/run/my docker/docker.sock".into()) },
            Line::Engine { endpoint: Endpoint::Tcp("127.0.0.1:2375".to_owned()) },
            Line::Container { id: "c0ffee".repeat(10), grace_ms: 500 },
            Line::ContainerGone { id: "c0ffee".repeat(10) },
            Line::Budget { ms: 5000 },
            Line::Goodbye,
        ];
        for line in lines {
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
        assert_eq!(Line::parse("life 1 2"), None);
        assert_eq!(Line::parse("engine ssh://host"), None);
        assert_eq!(Line::parse(""), None);
    }

    #[test]
    fn invitations() {
        let invitation = Invitation {
            down: 5,
            up: 6,
            lock: 7,
            guardian: 42,
            session: "ab".to_owned(),
            cgroup: Some(PathBuf::from("/sys/fs/cgroup/a,b")),
        };
        assert_eq!(Invitation::parse(&invitation.to_string()), Some(invitation.clone()));
        let without = Invitation { cgroup: None, ..invitation };
        assert_eq!(Invitation::parse(&without.to_string()), Some(without));
        assert_eq!(Invitation::parse("5,6"), None);
    }
}
