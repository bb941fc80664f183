//! A file that is replaced as a whole: whoever opens it, or finds it after a crash, a full disk or a power cut, finds
//! the old content or the new one.
//!
//! The new content is a draft in the same directory, on the disk before it takes the name. A draft whose writer was
//! killed has a name by which the next one knows it. Who may write, and when, is for the caller to say.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What stands between the name of the file and the pid of who writes the draft.
const MARK: &str = ".mcpvisor-";

/// New content, on the disk and not yet in place. Dropped, it goes.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// `like`: the file whose owner and mode it gets; without one it is for its owner only (0600). An owner that it
    /// cannot be given is an error.
    pub fn write(target: &Path, content: &[u8], like: Option<&Metadata>) -> io::Result<Draft> {
        let mut name = draft_of(target);
        name.push(std::process::id().to_string());
        let draft = Draft { path: target.with_file_name(name), target: target.to_owned() };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.path)?;
        file.write_all(content)?;
        if let Some(like) = like {
            let ours = file.metadata()?;
            if (ours.uid(), ours.gid()) != (like.uid(), like.gid()) {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
        }
        file.sync_all()?;
        Ok(draft)
    }

    /// Takes the place of the target, whatever is there.
    pub fn put(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        if let Some(dir) = self.target.parent() {
            // The file is in place; that a power cut may still bring back the old one is no reason to report a failure.
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // In place already, as a rule; one that stays is found by its name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what killed writers of `target` left. Only for one who keeps others from writing meanwhile.
pub fn remove_drafts(target: &Path) -> io::Result<()> {
    let prefix = draft_of(target);
    let dir = target.parent().unwrap_or(Path::new("/"));
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let pid = name.as_bytes().strip_prefix(prefix.as_bytes());
        if pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit)) {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

/// `.mcp_config.json.mcpvisor-`
fn draft_of(target: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or(OsStr::new("file")));
    name.push(MARK);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_one_or_the_new_one() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-replace-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let target = dir.join("c.json");
        Draft::write(&target, b"first", None).unwrap().put().unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o600);
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        let like = fs::metadata(&target).unwrap();
        let draft = Draft::write(&target, b"second", Some(&like)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"first");
        let second = names(&dir);
        assert_eq!(second.len(), 2, "{second:?}");
        // Left alone it leaves nothing behind.
        drop(draft);
        assert_eq!(names(&dir), ["c.json"]);
        Draft::write(&target, b"second", Some(&like)).unwrap().put().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"second");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640);
        // What a killed one left, and what is not ours.
        for name in [".c.json.mcpvisor-1", ".c.json.mcpvisor-", ".c.json.mcpvisor-1x", ".d.json.mcpvisor-1"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        remove_drafts(&target).unwrap();
        assert_eq!(names(&dir), [".c.json.mcpvisor-", ".c.json.mcpvisor-1x", ".d.json.mcpvisor-1", "c.json"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
