//! The socket of an engine as a file: there, gone, another one, or with other permissions, seen when it happens.
//!
//! Watched are the directories of the whole chain of symbolic links to it, and of what is missing the nearest directory
//! that exists. It knows no engine: who hears that the socket appeared asks whether anybody answers.

use crate::sys::inotify::{Change, Directories};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Symbolic links that are followed to a socket; as the kernel does, and what leads further is watched no further.
const LINKS_MAX: usize = 40;

#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    directories: Directories,
    /// The names that matter in them.
    names: BTreeSet<OsString>,
    seen: Option<Identity>,
}

/// Which file it is, and its last change of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is there now, or is another one, or may be used by others than before.
    Appeared,
    Vanished,
}

impl SocketFile {
    pub fn watch(path: &Path) -> io::Result<SocketFile> {
        let (directories, names) = chain(path)?;
        Ok(SocketFile { path: path.to_owned(), directories, names, seen: identity(path) })
    }

    /// What became of it since the last look; waits for nothing.
    pub fn look(&mut self) -> io::Result<Option<Sight>> {
        let mut ours = false;
        let names = &self.names;
        self.directories.take(|Change { name }| ours |= name.is_none_or(|name| names.contains(&name)))?;
        if !ours {
            return Ok(None);
        }
        // Anew, because a link may lead elsewhere now; first watched, then looked at, so that nothing is missed.
        (self.directories, self.names) = chain(&self.path)?;
        let before = std::mem::replace(&mut self.seen, identity(&self.path));
        Ok(match (before, self.seen) {
            (_, None) => before.map(|_| Sight::Vanished),
            (before, now) => (before != now).then_some(Sight::Appeared),
        })
    }
}

impl AsFd for SocketFile {
    /// Readable when `look` may have something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directories.as_fd()
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let file = std::fs::metadata(path).ok()?;
    Some(Identity { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) })
}

/// Watches what leads to `path`.
fn chain(path: &Path) -> io::Result<(Directories, BTreeSet<OsString>)> {
    let directories = Directories::new()?;
    let mut names = BTreeSet::new();
    let mut link = path.to_owned();
    for _ in 0..LINKS_MAX {
        watch_nearest(&directories, &link, &mut names)?;
        let Ok(target) = std::fs::read_link(&link) else { break };
        link = link.parent().unwrap_or(Path::new("/")).join(target);
    }
    Ok((directories, names))
}

/// Watches the directory of `path`, or the nearest one above that exists.
fn watch_nearest(directories: &Directories, path: &Path, names: &mut BTreeSet<OsString>) -> io::Result<()> {
    let mut below = path;
    let mut last = None;
    while let (Some(directory), Some(name)) = (below.parent(), below.file_name()) {
        match directories.watch(directory) {
            Ok(()) => {
                names.insert(name.to_owned());
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
        below = directory;
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("mcpvisor-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Dir(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn comes_goes_and_comes_back() {
        let dir = Dir::new("socket");
        let path = dir.0.join("s");
        let mut file = SocketFile::watch(&path).unwrap();
        assert_eq!(file.look().unwrap(), None);
        let first = UnixListener::bind(&path).unwrap();
        assert_eq!(file.look().unwrap(), Some(Sight::Appeared));
        fs::write(dir.0.join("other"), "").unwrap();
        assert_eq!(file.look().unwrap(), None);
        fs::rename(&path, dir.0.join("aside")).unwrap();
        assert_eq!(file.look().unwrap(), Some(Sight::Vanished));
        fs::rename(dir.0.join("aside"), &path).unwrap();
        assert_eq!(file.look().unwrap(), Some(Sight::Appeared));
        fs::remove_file(&path).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        assert_eq!(file.look().unwrap(), Some(Sight::Appeared), "another one");
        drop(first);
    }

    #[test]
    fn missing_directories_and_links() {
        let dir = Dir::new("socket-links");
        let path = dir.0.join("run/docker/s");
        let mut file = SocketFile::watch(&path).unwrap();
        fs::create_dir_all(dir.0.join("real")).unwrap();
        let _listener = UnixListener::bind(dir.0.join("real/s")).unwrap();
        assert_eq!(file.look().unwrap(), None);
        fs::create_dir_all(dir.0.join("run/docker")).unwrap();
        assert_eq!(file.look().unwrap(), None);
        symlink("../../real/s", &path).unwrap();
        assert_eq!(file.look().unwrap(), Some(Sight::Appeared));
        fs::remove_file(dir.0.join("real/s")).unwrap();
        assert_eq!(file.look().unwrap(), Some(Sight::Vanished), "at the end of the link");
        fs::remove_dir_all(dir.0.join("run")).unwrap();
        assert_eq!(file.look().unwrap(), None);
        fs::create_dir_all(&path).unwrap();
        file.look().unwrap();
        assert!(file.seen.is_some(), "whatever it is; who asks it will see");
    }
}
