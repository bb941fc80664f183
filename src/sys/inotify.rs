//! Directories that are watched for what appears, goes, or changes its permissions in them; and single files.
//!
//! An event only means "look again": the kernel may merge, drop or delay it, and what it names may have changed again.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Readable while there are events that nobody has taken.
#[derive(Debug)]
pub struct Directories(Inotify);

/// What one event says: `name` changed in a watched directory; without a name it was the directory itself, or events
/// were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: Option<OsString>,
}

impl Directories {
    pub fn new() -> io::Result<Directories> {
        Ok(Directories(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?))
    }

    /// Follows symbolic links; an error if it is no directory that can be read.
    pub fn watch(&self, directory: &Path) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.0.add_watch(directory, flags | beside())?;
        Ok(())
    }

    /// Only whether the directory itself goes or is moved: what happens in it wakes nobody.
    pub fn watch_itself(&self, directory: &Path) -> io::Result<()> {
        let flags = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
        self.0.add_watch(directory, flags | beside())?;
        Ok(())
    }

    /// What is written into a file, and what becomes of it, by whatever name: the events have none. Follows symbolic
    /// links.
    pub fn watch_file(&self, file: &Path) -> io::Result<()> {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        self.0.add_watch(file, flags)?;
        Ok(())
    }

    /// Calls `see` for all that has happened; waits for nothing.
    pub fn take(&self, mut see: impl FnMut(Change)) -> io::Result<()> {
        loop {
            match self.0.read_events() {
                Ok(events) => events.into_iter().for_each(|event| see(Change { name: event.name })),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Who is watched twice is watched for both.
fn beside() -> AddWatchFlags {
    AddWatchFlags::from_bits_retain(nix::libc::IN_MASK_ADD)
}

impl AsFd for Directories {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_by_whatever_name_and_a_directory_alone() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-inotify-file-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (file, link) = (dir.join("f"), dir.join("l"));
        std::fs::write(&file, "1").unwrap();
        std::fs::hard_link(&file, &link).unwrap();
        let watched = Directories::new().unwrap();
        let stirs = || {
            let mut count = 0;
            watched.take(|change| count += usize::from(change.name.is_none())).unwrap();
            count > 0
        };
        watched.watch_itself(&dir).unwrap();
        watched.watch_file(&file).unwrap();
        std::fs::write(dir.join("other"), "").unwrap();
        assert!(!stirs(), "somebody else's");
        std::fs::write(&link, "2").unwrap();
        assert!(stirs(), "through its other name");
        std::fs::rename(&dir, dir.with_extension("moved")).unwrap();
        assert!(stirs(), "the directory is somewhere else");
        std::fs::remove_dir_all(dir.with_extension("moved")).unwrap();
        assert!(stirs());
    }

    #[test]
    fn births_deaths_and_permissions() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-inotify-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let watched = Directories::new().unwrap();
        watched.watch(&dir).unwrap();
        let seen = || {
            let mut names = Vec::new();
            watched.take(|change| names.extend(change.name)).unwrap();
            names
        };
        assert_eq!(seen(), [""; 0]);
        let socket = dir.join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(seen(), ["docker.sock"]);
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(seen(), ["docker.sock"]);
        std::fs::remove_file(&socket).unwrap();
        assert!(seen().contains(&"docker.sock".into()));
        drop(listener);
        assert!(watched.watch(&socket).is_err());
        std::fs::remove_dir(&dir).unwrap();
        let mut own = 0;
        watched.take(|change| own += usize::from(change.name.is_none())).unwrap();
        assert!(own > 0, "the end of the directory itself");
    }
}
