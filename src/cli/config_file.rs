//! The config file changed in place, for `upstream add` and `remove`: read, edited, looked at as the daemon would, kept
//! beside itself as `FILE.bak`, and replaced as a whole. Whatever ends this half-way leaves the old file or the new one.
//!
//! Two of us take turns, by a lock on the directory. Somebody else who writes meanwhile (an editor) is noticed right
//! before the file is replaced, and the change is made anew in what is there then.

use super::exit::{Exit, Failure};
use super::output::complain;
use super::serve::unusable;
use crate::base::fault::{Fault, FaultKind};
use crate::base::finding::{Finding, Severity};
use crate::base::limits::{CONFIG_EDIT_PATIENCE, CONFIG_EDIT_TRIES, CONFIG_LINKS_MAX};
use crate::base::text::span;
use crate::config::{self, Config};
use crate::daemon::setup;
use crate::sys::lock::Lock;
use crate::sys::replace::{Draft, remove_drafts};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A change that was made.
#[derive(Debug)]
pub struct Changed {
    /// What the file said before; nothing if there was none.
    pub backup: Option<PathBuf>,
    pub before: Config,
    pub after: Config,
    /// About the file as it is now.
    pub findings: Vec<Finding>,
}

/// What the file is to say instead. It is asked again if the file changed meanwhile.
pub type Edit<'a> = dyn Fn(&str) -> Result<String, Failure> + 'a;

/// `server` is the one that is changed: if the new file has anything against it, it is not written.
pub fn change(path: &Path, server: Option<&str>, edit: &Edit) -> Result<Changed, Failure> {
    let target = followed(path).map_err(|error| refused("open", path, &error))?;
    let dir = target.parent().unwrap_or(Path::new("/"));
    if !dir.exists() {
        // For a change that is refused no directory is made.
        edit("")?;
        fs::create_dir_all(dir).map_err(|error| refused("make", dir, &error))?;
    }
    let lock = lock(dir)?;
    if lock.is_some() {
        for killed in [&target, &backup_of(&target)] {
            remove_drafts(killed).map_err(|error| refused("clear", dir, &error))?;
        }
    }
    for _ in 0..CONFIG_EDIT_TRIES {
        let old = read(&target)?;
        let (text, like) = old.as_ref().map_or(("", None), |(text, like)| (text, Some(like)));
        let new = edit(text)?;
        let (before, after, findings) = compared(path, text, &new, server)?;
        let backup = like.map(|like| keep(&target, text, like)).transpose()?;
        let draft = draft(&target, &new, like)?;
        let now = read(&target)?;
        if now.as_ref().map(|(text, _)| text) != old.as_ref().map(|(text, _)| text) {
            continue;
        }
        draft.put().map_err(|error| refused("replace", &target, &error))?;
        return Ok(Changed { backup, before, after, findings });
    }
    let message = format!("change {}: it is being written by somebody else all the time", path.display());
    Err(Failure::new(Exit::Failed, message).hint("the file is as that one left it"))
}

/// Both configs, and what the new one has to say. An error if the old one cannot be used, or the change brings an error.
fn compared(
    path: &Path,
    before: &str,
    after: &str,
    server: Option<&str>,
) -> Result<(Config, Config, Vec<Finding>), Failure> {
    let shown = path.display().to_string();
    let is_error = |finding: &&Finding| finding.severity == Severity::Error;
    let is_blank = before.trim_start_matches('\u{feff}').trim().is_empty();
    let (old, old_findings) = if is_blank {
        (Config::default(), Vec::new())
    } else {
        let (config, findings) = config::parse(before, &shown);
        if !config.usable {
            let message = format!("change {shown}: it cannot be used as it is");
            let fault = Fault::new(FaultKind::BadConfig, message)
                .hint("put right what is said above; it was not touched");
            return Err(unusable(&fault, &findings));
        }
        (config, findings)
    };
    let (new, findings) = config::parse(after, &shown);
    let of_server = |finding: &&Finding| server.is_some() && finding.server.as_deref() == server;
    let own: Vec<&Finding> = findings.iter().filter(is_error).filter(of_server).collect();
    let others =
        |findings: &[Finding]| findings.iter().filter(is_error).filter(|one| !of_server(one)).count();
    if new.usable && own.is_empty() && others(&findings) <= others(&old_findings) {
        return Ok((old, new, findings));
    }
    let news = if own.is_empty() { findings.iter().filter(is_error).collect() } else { own };
    for finding in news {
        // The file that it would stand in is not written.
        complain(&Finding { file: String::new(), ..finding.clone() });
    }
    Err(Failure::new(Exit::Config, format!("change {shown}: it would not work as written"))
        .hint("the file was not touched"))
}

/// Where the links lead, also to a file that is not there yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..CONFIG_LINKS_MAX {
        match fs::read_link(&path) {
            Ok(link) => path = path.parent().unwrap_or(Path::new("/")).join(link),
            // No link: a file, or nothing.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ELOOP.into())
}

/// The text of the file, and whose it is; `None` if there is none.
fn read(target: &Path) -> Result<Option<(String, Metadata)>, Failure> {
    let like = match File::open(target).and_then(|file| file.metadata()) {
        Ok(like) => like,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused("read", target, &error)),
    };
    // A file can be replaced without being writable; who made it read-only did not mean that.
    faccessat(AT_FDCWD, target, AccessFlags::W_OK, AtFlags::AT_EACCESS)
        .map_err(|errno| refused("write", target, &errno.into()))?;
    let text = setup::read_file(target).map_err(|fault| Failure::of(Exit::Config, fault))?;
    Ok(Some((text, like)))
}

/// `None` where the file system has no such locks (NFS): then the look before the file is replaced must do.
fn lock(dir: &Path) -> Result<Option<Lock>, Failure> {
    match Lock::on_directory(dir, CONFIG_EDIT_PATIENCE) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => {
            let patience = span(CONFIG_EDIT_PATIENCE);
            let message =
                format!("change a file in {}: another one is at it for {patience} already", dir.display());
            Err(Failure::new(Exit::Failed, message).hint("does another `mcpvisor upstream add` hang?"))
        }
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBADF | Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(None),
            _ => Err(refused("lock", dir, &error)),
        },
    }
}

fn keep(target: &Path, text: &str, like: &Metadata) -> Result<PathBuf, Failure> {
    let backup = backup_of(target);
    draft(&backup, text, Some(like))?.put().map_err(|error| refused("write", &backup, &error))?;
    Ok(backup)
}

fn backup_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

fn draft(target: &Path, text: &str, like: Option<&Metadata>) -> Result<Draft, Failure> {
    Draft::write(target, text.as_bytes(), like).map_err(|error| refused("write", target, &error))
}

const FULL: &str = "make room; the file is as it was";

/// What the system may have against it, and what to do then.
const REFUSALS: [(ErrorKind, Exit, &str); 6] = [
    (
        ErrorKind::PermissionDenied,
        Exit::Permission,
        "the file and its directory must be writable for this user, and the owner is kept; try sudo",
    ),
    (ErrorKind::ReadOnlyFilesystem, Exit::Permission, "it is mounted read-only"),
    (ErrorKind::StorageFull, Exit::Failed, FULL),
    (ErrorKind::QuotaExceeded, Exit::Failed, FULL),
    (ErrorKind::FileTooLarge, Exit::Failed, FULL),
    // As containers have it.
    (
        ErrorKind::ResourceBusy,
        Exit::Failed,
        "it is mounted as a single file, which cannot be replaced: mount its directory",
    ),
];

/// `write /etc/mcpvisor/mcp_config.json: Permission denied (os error 13)`, with what to do about it.
fn refused(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("{doing} {}: {error}", path.display());
    match REFUSALS.iter().find(|(kind, ..)| *kind == error.kind()) {
        Some((_, exit, hint)) => Failure::new(*exit, message).hint(*hint),
        None => Failure::new(Exit::Failed, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::edit::{Existing, add, read_entry};
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    fn fresh_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mcpvisor-edit-{name}-{}", std::process::id()));
        // What an earlier run left, if anything.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn with(text: &str, name: &str) -> String {
        add(text, name, &read_entry(r#"{"command": "x"}"#).unwrap(), Existing::Refuse).unwrap()
    }

    #[test]
    fn what_somebody_else_writes_meanwhile_is_kept() {
        let dir = fresh_dir("meanwhile");
        let file = dir.join("c.json");
        fs::write(&file, with("", "a")).unwrap();
        let asked = Cell::new(0);
        let edit = |text: &str| {
            // Right between our look and our writing.
            if asked.replace(asked.get() + 1) == 0 {
                fs::write(&file, with(text, "theirs")).unwrap();
            }
            Ok(with(text, "ours"))
        };
        let changed = change(&file, Some("ours"), &edit).unwrap();
        let names: Vec<String> = changed.after.servers.into_iter().map(|server| server.name.0).collect();
        assert_eq!((asked.get(), names), (2, ["a", "theirs", "ours"].map(str::to_owned).to_vec()));
        assert_eq!(fs::read_to_string(&file).unwrap(), with(&with(&with("", "a"), "theirs"), "ours"));
        assert_eq!(fs::read_to_string(changed.backup.unwrap()).unwrap(), with(&with("", "a"), "theirs"));
        // One who never stops is left alone.
        let busy = |text: &str| {
            let count = asked.replace(asked.get() + 1);
            fs::write(&file, with("", &format!("theirs-{count}"))).unwrap();
            Ok(with(text, "more"))
        };
        asked.set(0);
        let failure = change(&file, Some("more"), &busy).unwrap_err();
        assert_eq!((failure.exit, asked.get()), (Exit::Failed, CONFIG_EDIT_TRIES));
        let last = with("", &format!("theirs-{}", CONFIG_EDIT_TRIES - 1));
        assert_eq!(fs::read_to_string(&file).unwrap(), last);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "the file and its backup");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_lead_to_the_file() {
        let dir = fresh_dir("links");
        fs::create_dir(dir.join("real")).unwrap();
        symlink("two", dir.join("one")).unwrap();
        symlink("real/c.json", dir.join("two")).unwrap();
        // Not there yet, and then there.
        for _ in 0..2 {
            assert_eq!(followed(&dir.join("one")).unwrap(), dir.join("real/c.json"));
            fs::write(dir.join("real/c.json"), "{}").unwrap();
        }
        symlink("round", dir.join("round")).unwrap();
        assert_eq!(followed(&dir.join("round")).unwrap_err().raw_os_error(), Some(Errno::ELOOP as i32));
        fs::remove_dir_all(&dir).unwrap();
    }
}
