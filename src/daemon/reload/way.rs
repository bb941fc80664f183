//! What leads to a file, watched: the directory of every link on the way, the directories above that may be moved
//! away, and the file itself by whatever name somebody writes to it.
//!
//! Of what is missing the nearest directory that exists is watched. It knows no config; who hears that something
//! stirred looks for himself.

use crate::base::limits::CONFIG_LINKS_MAX;
use crate::sys::inotify::{Change, Directories};
use nix::errno::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

/// The ways to some files as they are now. A link that leads elsewhere makes another way: then it is made anew.
#[derive(Debug)]
pub struct Ways {
    directories: Directories,
    /// The names that matter in them.
    names: BTreeSet<OsString>,
}

impl Ways {
    /// `paths` are absolute.
    pub fn to(paths: &[PathBuf]) -> io::Result<Ways> {
        let mut ways = Ways { directories: Directories::new()?, names: BTreeSet::new() };
        for path in paths {
            ways.add(path)?;
        }
        Ok(ways)
    }

    /// Whether anything has happened that may concern one of the files; waits for nothing.
    pub fn stirred(&self) -> io::Result<bool> {
        let mut ours = false;
        let names = &self.names;
        self.directories.take(|Change { name }| ours |= name.is_none_or(|name| names.contains(&name)))?;
        Ok(ours)
    }

    /// Walks as the kernel does: every part is looked up in the directory that the parts before it lead to.
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let mut here = PathBuf::from("/");
        let mut left: VecDeque<OsString> = parts(path).collect();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let there = here.join(&name);
            let target = std::fs::read_link(&there).ok().filter(|_| links < CONFIG_LINKS_MAX);
            if let Some(target) = target {
                links += 1;
                self.watch(&here, &name)?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                parts(&target).rev().for_each(|part| left.push_front(part));
                continue;
            }
            let is_last = left.is_empty();
            if is_last || !there.is_dir() {
                // First its directory, so that no file that comes meanwhile is missed.
                self.watch(&here, &name)?;
                return if is_last { self.watch_file(&there) } else { Ok(()) };
            }
            match self.directories.watch_itself(&there) {
                // Gone again, or not ours to read: its own directory will say more.
                Err(error) if is_of_the_way(&error) => self.watch(&here, &name)?,
                done => done?,
            }
            here = there;
        }
        Ok(())
    }

    /// A directory that vanishes under our hands is seen by the one above it, which is watched too.
    fn watch(&mut self, directory: &Path, name: &OsString) -> io::Result<()> {
        self.names.insert(name.clone());
        match self.directories.watch(directory) {
            Err(error) if is_of_the_way(&error) => Ok(()),
            done => done,
        }
    }

    fn watch_file(&self, file: &Path) -> io::Result<()> {
        match self.directories.watch_file(file) {
            Err(error) if is_of_the_way(&error) => Ok(()),
            done => done,
        }
    }
}

impl AsFd for Ways {
    /// Readable when `stirred` may have something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directories.as_fd()
    }
}

/// The names on the way; a `.` is none.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let parts: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    parts.into_iter()
}

/// Something of the way is missing or closed to us; not that the host has no watches left.
fn is_of_the_way(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("mcpvisor-way-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Dir(path)
        }

        /// Whether what `happens` is seen on the way to `path`.
        #[track_caller]
        fn check(&self, path: &str, happens: impl FnOnce(&Path), seen: bool) {
            let ways = Ways::to(&[self.0.join(path)]).unwrap();
            assert!(!ways.stirred().unwrap(), "nothing has happened yet");
            happens(&self.0);
            assert_eq!(ways.stirred().unwrap(), seen);
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_plain_file() {
        let dir = Dir::new("plain");
        dir.check("f", |dir| write(&dir.join("f"), "1"), true);
        dir.check("f", |dir| write(&dir.join("f"), "2"), true);
        dir.check("f", |dir| write(&dir.join("g"), "2"), false);
        dir.check("f", |dir| fs::rename(dir.join("g"), dir.join("f")).unwrap(), true);
        dir.check("f", |dir| fs::hard_link(dir.join("f"), dir.join("other")).unwrap(), true);
        dir.check("f", |dir| write(&dir.join("other"), "3"), true);
        dir.check("f", |dir| fs::remove_file(dir.join("f")).unwrap(), true);
        dir.check("f", |dir| write(&dir.join("other"), "4"), false);
    }

    #[test]
    fn directories_that_come_and_go() {
        let dir = Dir::new("gone");
        dir.check("a/b/f", |dir| fs::create_dir(dir.join("x")).unwrap(), false);
        dir.check("a/b/f", |dir| fs::create_dir(dir.join("a")).unwrap(), true);
        dir.check("a/b/f", |dir| fs::create_dir(dir.join("a/b")).unwrap(), true);
        dir.check("a/b/f", |dir| write(&dir.join("a/b/f"), ""), true);
        dir.check("a/b/f", |dir| fs::rename(dir.join("a"), dir.join("z")).unwrap(), true);
        dir.check("a/b/f", |dir| fs::rename(dir.join("z"), dir.join("a")).unwrap(), true);
        dir.check("a/b/f", |dir| fs::remove_dir_all(dir.join("a/b")).unwrap(), true);
    }

    #[test]
    fn links_to_files_and_to_directories() {
        let dir = Dir::new("links");
        for version in ["one", "two"] {
            fs::create_dir(dir.0.join(version)).unwrap();
            write(&dir.0.join(version).join("f"), version);
        }
        // As Kubernetes mounts a ConfigMap.
        symlink("one", dir.0.join("..data")).unwrap();
        symlink("..data/f", dir.0.join("f")).unwrap();
        dir.check("f", |dir| write(&dir.join("one/f"), "1"), true);
        dir.check("f", |dir| write(&dir.join("two/f"), "2"), false);
        let swap = |dir: &Path| {
            symlink("two", dir.join("new")).unwrap();
            fs::rename(dir.join("new"), dir.join("..data")).unwrap();
        };
        dir.check("f", swap, true);
        dir.check("f", |dir| write(&dir.join("two/f"), "3"), true);
        dir.check("f", |dir| write(&dir.join("one/f"), "4"), false);
        symlink(dir.0.join("loop"), dir.0.join("loop")).unwrap();
        dir.check("loop", |dir| fs::remove_file(dir.join("loop")).unwrap(), true);
    }
}
