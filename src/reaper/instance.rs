//! Who we are: one instance per state directory, proven by a lock, with an id that a copy of the directory does not
//! keep.
//!
//! The guardian takes the lock before it starts the daemon, which inherits it (the same open file): the instance is
//! taken until both are gone, so nobody starts while the guardian still cleans up. Servers never inherit it.

use super::mark::{Marker, Owner};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{DYING_PATIENCE, GUARDIAN_CLEANING_PATIENCE};
use crate::sys::hold::{self, Hold};
use crate::sys::lock::{self, Lock};
use crate::sys::{clock, procfs};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const ID_FILE: &str = "instance";
const LOCK_FILE: &str = "lock";

/// The instance of one state directory, held by us.
#[derive(Debug)]
pub struct Instance {
    /// 32 hex digits.
    pub id: String,
    /// This run of the daemon: 32 hex digits, new at every start.
    pub session: String,
    /// The state directory, canonical.
    pub dir: PathBuf,
    lock: Lock,
}

impl Instance {
    /// Takes the instance of `dir`, which is made (0700) if there is none. If the guardian of a dead daemon still
    /// cleans up there, waits for it.
    pub fn open(dir: &Path) -> Result<Instance, OpenError> {
        let tried = |error| OpenError::new(dir, error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(tried)?;
        let dir = dir.canonicalize().map_err(tried)?;
        let lock = take_lock(&dir)?;
        let instance = Instance { id: id_of(&dir).map_err(tried)?, session: random_id(), dir, lock };
        instance.sign(None).map_err(tried)?;
        Ok(instance)
    }

    /// The instance that our guardian took for us.
    pub fn inherited(dir: &Path, session: String, lock: Lock, guardian: u32) -> Result<Instance, OpenError> {
        let tried = |error| OpenError::new(dir, error);
        let dir = dir.canonicalize().map_err(tried)?;
        let instance = Instance { id: id_of(&dir).map_err(tried)?, session, dir, lock };
        instance.sign(Some(guardian)).map_err(tried)?;
        Ok(instance)
    }

    /// How this run marks what it starts.
    pub fn marker(&self) -> Marker {
        Marker { instance: self.id.clone(), session: self.session.clone(), owner: Owner::ourselves() }
    }

    /// The lock, to be passed on by the guardian.
    pub fn lock_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Says in the lock file who holds it.
    fn sign(&self, guardian: Option<u32>) -> io::Result<()> {
        let guardian = guardian.unwrap_or_else(std::process::id);
        let holder = Holder { daemon: Owner::ourselves(), session: self.session.clone(), guardian };
        self.lock.write_note(&serde_json::to_string(&holder)?)
    }
}

/// Who holds an instance, as its lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub daemon: Owner,
    pub session: String,
    pub guardian: u32,
}

impl Holder {
    /// Only means something while the lock is held.
    pub fn of(dir: &Path) -> Option<Holder> {
        serde_json::from_str(&lock::read_note(&dir.join(LOCK_FILE))).ok()
    }
}

/// Why an instance could not be taken.
#[derive(Debug)]
pub enum OpenError {
    /// Its daemon runs, or its guardian still cleans up. `pid` is 0 if the holder has not said who it is.
    AlreadyRunning {
        dir: PathBuf,
        pid: u32,
    },
    Io {
        dir: PathBuf,
        error: io::Error,
    },
}

impl OpenError {
    fn new(dir: &Path, error: io::Error) -> OpenError {
        OpenError::Io { dir: dir.to_owned(), error }
    }

    /// 6 already running, 5 permission, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpenError::AlreadyRunning { .. } => 6,
            OpenError::Io { error, .. } if is_permission(error) => 5,
            OpenError::Io { .. } => 1,
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            OpenError::AlreadyRunning { dir, pid } => {
                let dir = dir.display();
                let who = if *pid == 0 { "another process".to_owned() } else { format!("pid {pid}") };
                Fault::new(FaultKind::Busy, format!("already running: {who} holds {dir}"))
                    .hint("another --state-dir makes another instance")
            }
            OpenError::Io { dir, error } => {
                let fault = Fault::new(FaultKind::Internal, format!("open state {}: {error}", dir.display()));
                if is_permission(error) { fault.hint("--state-dir names another directory") } else { fault }
            }
        }
    }
}

fn is_permission(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Waits at most once: for the guardian of a daemon that is dead.
fn take_lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join(LOCK_FILE);
    let take = || Lock::take(&path).map_err(|error| OpenError::new(dir, error));
    if let Some(lock) = take()? {
        return Ok(lock);
    }
    let holder = Holder::of(dir);
    if let Some(guardian) = holder.as_ref().and_then(cleaning_guardian) {
        hold::wait_all(&[guardian], clock::now() + GUARDIAN_CLEANING_PATIENCE, None);
        if let Some(lock) = take()? {
            return Ok(lock);
        }
    }
    if let Some(holder) = &holder
        && wait_for_the_dying(holder)
        && let Some(lock) = take()?
    {
        return Ok(lock);
    }
    let pid = holder.map_or(0, |holder| holder.daemon.pid);
    Err(OpenError::AlreadyRunning { dir: dir.to_owned(), pid })
}

/// Who was killed a moment ago may still hold what it had. Whether the holders are gone within a short time.
fn wait_for_the_dying(holder: &Holder) -> bool {
    let daemon = Hold::of(holder.daemon.pid, holder.daemon.start);
    let guardian = procfs::process(holder.guardian).and_then(|guardian| Hold::of_process(&guardian));
    let holders: Vec<Hold> = daemon.into_iter().chain(guardian).collect();
    hold::wait_all(&holders, clock::now() + DYING_PATIENCE, None)
}

/// The guardian that outlived its daemon.
fn cleaning_guardian(holder: &Holder) -> Option<Hold> {
    let daemon_lives = Hold::of(holder.daemon.pid, holder.daemon.start).is_some();
    let guardian = procfs::process(holder.guardian).filter(|_| !daemon_lives)?;
    Hold::of_process(&guardian)
}

/// What the `instance` file holds: the id, and what it is bound to.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Bound {
    id: String,
    machine: String,
    path: PathBuf,
}

/// The id of an instance that we do not hold; `None` if `dir` has none that is its own.
pub fn peek(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    read_id(&dir)
}

/// The id of the instance in `dir`, made if there is none or it was copied from elsewhere. Under the lock.
fn id_of(dir: &Path) -> io::Result<String> {
    if let Some(id) = read_id(dir) {
        return Ok(id);
    }
    let bound = Bound { id: random_id(), machine: machine(), path: dir.to_owned() };
    write_atomic(&dir.join(ID_FILE), &serde_json::to_vec(&bound)?)?;
    Ok(bound.id)
}

fn read_id(dir: &Path) -> Option<String> {
    let bound: Bound = serde_json::from_slice(&fs::read(dir.join(ID_FILE)).ok()?).ok()?;
    (bound.machine == machine() && bound.path == dir && is_id(&bound.id)).then_some(bound.id)
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What tells machines apart: the machine id, or, in containers without one, the host's name.
pub(super) fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match id.trim() {
        "" => format!("host:{}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim()),
        id => id.to_owned(),
    }
}

/// 128 bits from the kernel, in hex.
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file (0600) that is there whole or not at all. No fsync: what is lost with the power is made anew.
pub(super) fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut open = OpenOptions::new();
    let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mcpvisor-{name}-{}", std::process::id()));
        // What an earlier run left, if anything.
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn one_at_a_time() {
        let dir = fresh_dir("one");
        let first = Instance::open(&dir).unwrap();
        let error = Instance::open(&dir).unwrap_err();
        assert_eq!(error.exit_code(), 6);
        assert!(error.fault().message.contains(&format!("pid {}", std::process::id())));
        assert_eq!(Holder::of(&dir).unwrap().session, first.session);
        let (id, session) = (first.id.clone(), first.session.clone());
        drop(first);
        let second = Instance::open(&dir).unwrap();
        assert_eq!(second.id, id);
        assert_ne!(second.session, session);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_copy_is_another_instance() {
        let (dir, copy) = (fresh_dir("original"), fresh_dir("copy"));
        let id = Instance::open(&dir).unwrap().id;
        fs::create_dir(&copy).unwrap();
        fs::copy(dir.join(ID_FILE), copy.join(ID_FILE)).unwrap();
        assert_eq!(peek(&copy), None);
        assert_ne!(Instance::open(&copy).unwrap().id, id);
        assert_eq!(peek(&dir), Some(id));
        fs::remove_dir_all(&dir).unwrap();
        fs::remove_dir_all(&copy).unwrap();
    }

    #[test]
    fn a_place_where_nothing_can_be_written() {
        let error = Instance::open(Path::new("/proc/no")).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.fault().message.starts_with("open state /proc/no:"));
    }
}
