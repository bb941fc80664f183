//! A lock on a file that lives as long as any descriptor of it, so that parent and child can hold it together.
//!
//! flock(2) belongs to the open file, not to the process: it is free once the last copy of the descriptor is closed,
//! whichever way its holders die. Nothing here unlocks; dropping closes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a lock file says at most; the rest is not read.
const NOTE_BYTES_MAX: u64 = 4096;

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

    /// A lock that our parent took and left open for us.
    pub fn inherited(fd: OwnedFd) -> Lock {
        Lock(File::from(fd))
    }

    /// Replaces what the file says of its holder.
    pub fn write_note(&mut self, note: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(note.as_bytes())
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
        let _ = file.take(NOTE_BYTES_MAX).read_to_string(&mut note);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_until_the_last_copy() {
        let path = std::env::temp_dir().join(format!("mcpvisor-lock-{}", std::process::id()));
        let mut first = Lock::take(&path).unwrap().unwrap();
        first.write_note("a long note").unwrap();
        first.write_note("pid 1").unwrap();
        assert_eq!(read_note(&path), "pid 1");
        let copy = Lock::inherited(first.as_fd().try_clone_to_owned().unwrap());
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(copy);
        assert!(Lock::take(&path).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
    }
}
