//! How ownership is written on a process: five variables in the environment that it was executed with.
//!
//! Every descendant inherits them, so that even a double-forked grandchild in its own session can be found. The mark
//! says whose it is *and* who must be dead before anybody else may end it. A mark is a claim, not a proof: what
//! follows from it is for `judge` to say.

use crate::base::id::{Life, Slug};
use crate::sys::{kin, procfs};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::OnceLock;

/// What all names begin with.
const PREFIX: &str = "MCPVISOR_";

/// The names, as `mcpvisor` scrubs them from what it inherits and sets them on what it starts.
pub const INSTANCE: &str = "MCPVISOR_INSTANCE";
pub const SESSION: &str = "MCPVISOR_SESSION";
pub const SERVER: &str = "MCPVISOR_SERVER";
pub const LIFE: &str = "MCPVISOR_LIFE";
pub const OWNER: &str = "MCPVISOR_OWNER";

/// What is written on every process of one life of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose state directory: 32 hex digits.
    pub instance: String,
    /// Which run of the daemon: 32 hex digits.
    pub session: String,
    /// The server's slug.
    pub server: String,
    pub life: u64,
    /// The daemon that started it. `None` in a mark that was damaged on its way.
    pub owner: Option<Owner>,
}

impl Mark {
    pub fn env(&self) -> [(String, String); 5] {
        let owner = self.owner.as_ref().map(Owner::to_string).unwrap_or_default();
        [
            (INSTANCE.to_owned(), self.instance.clone()),
            (SESSION.to_owned(), self.session.clone()),
            (SERVER.to_owned(), self.server.clone()),
            (LIFE.to_owned(), self.life.to_string()),
            (OWNER.to_owned(), owner),
        ]
    }

    /// The mark of a process; `None` if it has none, or its environment may not be read.
    pub fn of(pid: u32) -> Option<Mark> {
        Mark::read(&kin::environ(pid, PREFIX))
    }

    /// The same, with an error if we could not look: see [`procfs::look`].
    pub fn look(pid: u32) -> io::Result<Option<Mark>> {
        Ok(Mark::read(&kin::look_at_environ(pid, PREFIX)?))
    }

    /// `None` without an instance and a session.
    pub fn read(environ: &[(String, String)]) -> Option<Mark> {
        let value =
            |name: &str| environ.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        Some(Mark {
            instance: value(INSTANCE).filter(|id| !id.is_empty())?,
            session: value(SESSION).filter(|id| !id.is_empty())?,
            server: value(SERVER).unwrap_or_default(),
            life: value(LIFE).and_then(|life| life.parse().ok()).unwrap_or(0),
            owner: value(OWNER).and_then(|text| Owner::parse(&text)),
        })
    }
}

/// One run of the daemon, as it marks what it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub instance: String,
    pub session: String,
    pub owner: Owner,
}

impl Marker {
    pub fn mark(&self, server: &Slug, life: Life) -> Mark {
        Mark {
            instance: self.instance.clone(),
            session: self.session.clone(),
            server: server.as_str().to_owned(),
            life: life.0,
            owner: Some(self.owner.clone()),
        }
    }
}

/// Where a pid means something: one boot of one machine, one PID namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub boot: String,
    pub pid_namespace: u64,
}

impl Place {
    /// Where we run, which never changes. Without a boot id nothing compares as equal to anything, so nothing can be
    /// proven dead.
    pub fn here() -> Place {
        static HERE: OnceLock<Place> = OnceLock::new();
        let look =
            || Place { boot: procfs::boot_id().unwrap_or_default(), pid_namespace: kin::pid_namespace() };
        HERE.get_or_init(look).clone()
    }
}

/// A process, named for ever: `<pid>.<start>.<pid namespace>.<boot id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start: u64,
    pub place: Place,
}

impl Owner {
    pub fn ourselves() -> Owner {
        let pid = std::process::id();
        let start = procfs::process(pid).map_or(0, |me| me.start);
        Owner { pid, start, place: Place::here() }
    }

    fn parse(text: &str) -> Option<Owner> {
        let mut parts = text.splitn(4, '.');
        let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let pid_namespace = parts.next()?.parse().ok()?;
        let boot = parts.next().filter(|boot| !boot.is_empty())?.to_owned();
        Some(Owner { pid, start, place: Place { boot, pid_namespace } })
    }

    /// What we can see of it from `here`. Dead only if the kernel itself says so: a process may be hidden from us
    /// (`hidepid`), or `/proc` out of reach for want of descriptors.
    pub fn fate(&self, here: &Place) -> Fate {
        // Not known where we are, or when it was started: nothing that follows would prove anything.
        if here.boot.is_empty() || self.start == 0 {
            return Fate::OutOfSight;
        }
        if self.place.boot != here.boot {
            return Fate::OtherBoot;
        }
        if self.place.pid_namespace != here.pid_namespace || self.place.pid_namespace == 0 {
            return Fate::OutOfSight;
        }
        match procfs::process(self.pid) {
            Some(now) if now.start == self.start && !kin::has_ended(&now) => Fate::Alive,
            Some(_) => Fate::Dead,
            None if kin::exists(self.pid) => Fate::OutOfSight,
            None => Fate::Dead,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { boot, pid_namespace } = &self.place;
        write!(f, "{}.{}.{pid_namespace}.{boot}", self.pid, self.start)
    }
}

/// What has become of an owner, as far as we can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Alive,
    /// Same boot, same PID namespace, and no such process: proof.
    Dead,
    /// Another PID namespace, where its pid means nothing to us; or it is hidden from us.
    OutOfSight,
    /// Written in another boot. On a process, then, copied by somebody; a container may be that old.
    OtherBoot,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let place = Place { boot: "b-1".to_owned(), pid_namespace: 7 };
        Marker {
            instance: "i".to_owned(),
            session: "s".to_owned(),
            owner: Owner { pid: 42, start: 9, place },
        }
        .mark(&Slug::of("git"), Life(3))
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Mark::read(&mark().env()), Some(mark()));
        assert_eq!(mark().env()[4].1, "42.9.7.b-1");
    }

    #[test]
    fn damaged_marks() {
        let mut environ = mark().env().to_vec();
        environ[4].1 = "42.9".to_owned();
        assert_eq!(Mark::read(&environ).unwrap().owner, None);
        environ.remove(0);
        assert_eq!(Mark::read(&environ), None);
    }

    #[test]
    fn fates() {
        let me = Owner::ourselves();
        let here = Place::here();
        assert_eq!(me.fate(&here), Fate::Alive);
        assert_eq!(Owner { start: me.start + 1, ..me.clone() }.fate(&here), Fate::Dead);
        let elsewhere = Place { pid_namespace: 1, ..here.clone() };
        assert_eq!(Owner { place: elsewhere, ..me.clone() }.fate(&here), Fate::OutOfSight);
        let earlier = Place { boot: "earlier".to_owned(), ..here.clone() };
        assert_eq!(Owner { place: earlier, ..me.clone() }.fate(&here), Fate::OtherBoot);
        let nowhere = Place { boot: String::new(), ..here.clone() };
        assert_eq!(me.fate(&nowhere), Fate::OutOfSight);
        assert_eq!(Owner { start: 0, ..me.clone() }.fate(&here), Fate::OutOfSight);
        // Above every possible pid.
        assert_eq!(Owner { pid: 1 << 30, ..me }.fate(&here), Fate::Dead);
    }
}
