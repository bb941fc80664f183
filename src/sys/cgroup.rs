//! Control groups, version 2: a box that no descendant can leave by forking, and that the kernel ends as a whole.
//!
//! Used where the group that we run in lets us make one below it; everywhere else we do without. Works on pure and
//! on hybrid hierarchies. `cgroup.kill` came with Linux 5.14; without it the members are listed and signalled.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Groups below one group that are looked into, so that a strange hierarchy cannot hold us up.
const GROUPS_MAX: usize = 1024;

/// One group, by its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The group that this process runs in. An error if there is no version 2 hierarchy.
    pub fn own() -> io::Result<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let membership = fs::read_to_string("/proc/self/cgroup")?;
        directory(&mounts, &membership).map(Cgroup).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A group that may or may not exist.
    pub fn at(path: impl Into<PathBuf>) -> Cgroup {
        Cgroup(path.into())
    }

    /// Makes a new group below this one.
    pub fn create(&self, name: &str) -> io::Result<Cgroup> {
        let path = self.0.join(name);
        fs::create_dir(&path)?;
        Ok(Cgroup(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Every process in it and in the groups below it; zombies are not listed by the kernel.
    pub fn members(&self) -> Vec<u32> {
        let groups = self.with_below();
        let lists = groups.iter().filter_map(|group| fs::read_to_string(group.0.join("cgroup.procs")).ok());
        lists
            .flat_map(|list| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<u32>>())
            .collect()
    }

    /// SIGKILL to everything in it and below it, at one moment, so that no fork escapes.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }

    /// Removes it and the groups below it; fails while something lives in one of them.
    pub fn remove(&self) -> io::Result<()> {
        self.with_below().iter().rev().try_for_each(|group| fs::remove_dir(&group.0))
    }

    /// The groups directly below this one.
    pub fn children(&self) -> Vec<Cgroup> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut children: Vec<Cgroup> = dirs.map(|entry| Cgroup(entry.path())).collect();
        children.sort_by(|a, b| a.0.cmp(&b.0));
        children
    }

    /// A descriptor of the directory, for `CLONE_INTO_CGROUP`.
    pub fn open(&self) -> io::Result<CgroupFd> {
        Ok(CgroupFd(fs::File::open(&self.0)?.into()))
    }

    /// Parents before children.
    fn with_below(&self) -> Vec<Cgroup> {
        let mut found = vec![self.clone()];
        let mut next = 0;
        while next < found.len() && found.len() < GROUPS_MAX {
            found.extend(found[next].children());
            next += 1;
        }
        found
    }
}

/// An open group.
#[derive(Debug)]
pub struct CgroupFd(OwnedFd);

impl AsFd for CgroupFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The directory of our group: the mount of the version 2 hierarchy, and our path below what is mounted there.
fn directory(mounts: &str, membership: &str) -> Option<PathBuf> {
    let ours = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if !after.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(ours).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_directory() {
        #[track_caller]
        fn check(mounts: &str, membership: &str, expected: Option<&str>) {
            assert_eq!(directory(mounts, membership), expected.map(PathBuf::from));
        }
        let pure = "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        check(pure, "0::/user.slice/a.scope\n", Some("/sys/fs/cgroup/user.slice/a.scope"));
        check(pure, "0::/\n", Some("/sys/fs/cgroup/"));
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        check(hybrid, "4:memory:/x\n0::/y\n", Some("/sys/fs/cgroup/unified/y"));
        // A bind mount of a part of the hierarchy, ours inside it and outside of it.
        let part = "25 1 0:22 /docker/c1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        check(part, "0::/docker/c1/app\n", Some("/sys/fs/cgroup/app"));
        check(part, "0::/elsewhere\n", None);
        check("", "0::/\n", None);
        check(pure, "4:memory:/x\n", None);
    }
}
