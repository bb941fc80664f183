//! A database that cannot be used goes out of the way, whole: the file, its WAL and its index, under one new name
//! that `sqlite3` can still open. The last few are kept.

use crate::base::limits::BROKEN_DATABASES_MAX;
use crate::base::time::Wall;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What SQLite keeps beside the file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Renames `state.db` to `state.db.broken-20261120T101827.123`; returns the new path.
pub fn move_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let mut time = now.rfc3339();
    time.retain(|c| !matches!(c, '-' | ':' | 'Z'));
    let target = with_suffix(path, &format!(".broken-{time}"));
    fs::rename(path, &target)?;
    for companion in COMPANIONS {
        match fs::rename(with_suffix(path, companion), with_suffix(&target, companion)) {
            // A WAL that stayed would be played into the new database.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => (),
        }
    }
    forget_oldest(path);
    Ok(target)
}

/// Keeps the last [`BROKEN_DATABASES_MAX`].
fn forget_oldest(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let prefix = format!("{name}.broken-");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_file = |name: &String| !COMPANIONS.iter().any(|companion| name.ends_with(companion));
    let mut broken: Vec<String> = names.filter(|name| name.starts_with(&prefix)).filter(is_file).collect();
    broken.sort();
    for name in broken.iter().take(broken.len().saturating_sub(BROKEN_DATABASES_MAX)) {
        for suffix in ["", COMPANIONS[0], COMPANIONS[1]] {
            // One that cannot be removed, or is not there, harms nothing.
            let _ = fs::remove_file(dir.join(format!("{name}{suffix}")));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_are_kept_whole() {
        let dir = std::env::temp_dir().join(format!("mcpvisor-aside-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("state.db");
        for second in 0..5 {
            fs::write(&path, second.to_string()).unwrap();
            fs::write(with_suffix(&path, "-wal"), "wal").unwrap();
            let target = move_aside(&path, Wall(1_795_169_907_123 + second * 1000)).unwrap();
            assert_eq!(fs::read_to_string(target).unwrap(), second.to_string());
            assert!(!path.exists());
        }
        let mut left: Vec<String> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let times = ["29", "30", "31"];
        let expected: Vec<String> = times
            .iter()
            .flat_map(|second| {
                ["", "-wal"].map(|end| format!("state.db.broken-20261120T1018{second}.123{end}"))
            })
            .collect();
        assert_eq!(left, expected);
        assert!(move_aside(&path, Wall(0)).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
