//! A lock on a file that lives as long as any descriptor of it, so that parent and child can hold it together.
//!
//! flock(2) belongs to the open file, not to the process: it is free once the last copy of the descriptor is closed,
//! whichever way its holders die. Nothing here unlocks; dropping closes.

use super::thread;
use crossbeam_channel::bounded;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// What a lock file says, filled up.
const NOTE_BYTES: usize = 512;

/// A lock that is held. Its descriptor is CLOEXEC unless it is passed on on purpose.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// `Ok(None)` if somebody else holds it. Makes the file (0600) if there is none.
    pub fn take(path: &Path) -> io::Result<Option<Lock>> {
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// A lock on a directory, so that no file of its own is left behind. `Ok(None)` if it is not free within `patience`.
    pub fn on_directory(path: &Path, patience: Duration) -> io::Result<Option<Lock>> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => (),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (got, answer) = bounded(1);
        // Blocked in the kernel, in the order of arrival. It ends with the lock or the process; a lock that comes too
        // late is dropped.
        thread::spawn("lock", move || _ = got.send(file.lock().map(|()| Lock(file))))?;
        answer.recv_timeout(patience).ok().transpose()
    }

    /// A lock that our parent took and left open for us.
    pub fn inherited(fd: OwnedFd) -> Lock {
        Lock(File::from(fd))
    }

    /// Replaces what the file says of its holder: one line, filled up with spaces and overwritten in place, because
    /// truncating costs a file system with a journal milliseconds. Longer notes are refused.
    pub fn write_note(&self, note: &str) -> io::Result<()> {
        if note.len() >= NOTE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let line = format!("{note:width$}\n", width = NOTE_BYTES - 1);
        self.0.write_all_at(line.as_bytes(), 0)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the holder of a lock file says of itself; empty if there is no such file.
pub fn read_note(path: &Path) -> String {
    let mut note = String::new();
    if let Ok(file) = File::open(path) {
        // What cannot be read is no note.
        let _ = file.take(NOTE_BYTES as u64).read_to_string(&mut note);
    }
    note.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-lock-dir-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (soon, late) = (Duration::from_millis(10), Duration::from_secs(30));
        let first = Lock::on_directory(&dir, soon).unwrap().unwrap();
        assert!(Lock::on_directory(&dir, soon).unwrap().is_none());
        let second = thread::spawn("second", {
            let dir = dir.clone();
            move || Lock::on_directory(&dir, late).unwrap().is_some()
        });
        drop(first);
        assert_eq!(second.unwrap().join().unwrap(), Ok(true));
        assert!(Lock::on_directory(&dir, late).unwrap().is_some());
        std::fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn lives_until_the_last_copy() {
        let path = std::env::temp_dir().join(format!("mcpvisor-lock-{}", std::process::id()));
        let first = Lock::take(&path).unwrap().unwrap();
        first.write_note("a long note").unwrap();
        first.write_note("pid 1").unwrap();
        assert_eq!(read_note(&path), "pid 1");
        assert!(first.write_note(&"x".repeat(NOTE_BYTES)).is_err());
        let copy = Lock::inherited(first.as_fd().try_clone_to_owned().unwrap());
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(copy);
        assert!(Lock::take(&path).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
    }
}
