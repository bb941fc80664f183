//! What /proc says of processes. Nothing here is cached: a pid is only as good as its start time.

use std::fs;
use std::io::{self, Read};

/// One process, as `/proc/PID/stat` showed it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub ppid: u32,
    pub pgid: u32,
    pub sid: u32,
    /// Clock ticks since boot; with `pid` and the boot id it names one process for ever.
    pub start: u64,
    /// `R`, `S`, `Z` …
    pub state: char,
    /// The kernel's short name, at most 15 bytes.
    pub comm: String,
}

/// What one process has used, or uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Processor time since it was started, in ms.
    pub cpu_ms: u64,
    /// Resident memory in pages; what processes share is counted in each.
    pub pages: u64,
    /// Open descriptors; 0 if it may not be looked into.
    pub fds: u64,
}

/// A tick of the counts in `/proc`: the kernel's `USER_HZ`, which is 100 on every architecture of ours.
const TICK_MS: u64 = 10;

impl Process {
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// `None` if there is no such process (any more).
pub fn process(pid: u32) -> Option<Process> {
    read_stat(pid).ok()?
}

/// Every process that we can see, in order of pid; none if we cannot look.
pub fn all() -> Vec<Process> {
    look().unwrap_or_default()
}

/// The same for those who take what is missing as proof that it has ended: an error if anything could not be looked
/// at for want of descriptors or memory.
pub fn look() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        all.extend(unless_exhausted(read_stat(pid))?);
    }
    all.sort_by_key(|process| process.pid);
    Ok(all)
}

/// `None` if there is no such process (any more).
pub fn used(pid: u32) -> Option<Used> {
    let mut used = parse_used(&String::from_utf8_lossy(&stat(pid).ok()?))?;
    used.fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
    Some(used)
}

fn read_stat(pid: u32) -> io::Result<Option<Process>> {
    // The name is any 15 bytes: a longer one is cut, perhaps within a character.
    Ok(parse_stat(&String::from_utf8_lossy(&stat(pid)?)))
}

fn stat(pid: u32) -> io::Result<Vec<u8>> {
    // One read: 52 numbers and a name fit, and std would begin with 32 bytes, because the file claims to be empty.
    let mut buffer = vec![0; 1024];
    let count = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// Who is gone, or may not be looked at, has nothing to show; but if the host has no descriptors or memory left,
/// nothing is known.
pub fn unless_exhausted<T: Default>(read: io::Result<T>) -> io::Result<T> {
    use nix::libc::{EMFILE, ENFILE, ENOMEM};
    match read {
        Err(error) if !matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM)) => Ok(T::default()),
        read => read,
    }
}

/// The whole environment that the process was executed with; empty also if it may not be read.
pub fn environ(pid: u32) -> Vec<(String, String)> {
    variables(&look_at_environ(pid).unwrap_or_default(), "")
}

/// The environment that the process was executed with, as it lies in memory, for [`variables`]; empty also if it may
/// not be read. An error if we could not look: see [`look`].
pub fn look_at_environ(pid: u32) -> io::Result<Vec<u8>> {
    unless_exhausted(fs::File::open(format!("/proc/{pid}/environ")).and_then(|mut file| {
        // Most fit; std would begin with 32 bytes, because the file claims to be empty.
        let mut block = Vec::with_capacity(8 << 10);
        file.read_to_end(&mut block)?;
        Ok(block)
    }))
}

/// Those variables whose names begin with `prefix`. The others cost no allocation: one look at all processes goes
/// through some hundred environments.
pub fn variables(block: &[u8], prefix: &str) -> Vec<(String, String)> {
    let named = block.split(|byte| *byte == 0).filter(|entry| entry.starts_with(prefix.as_bytes()));
    let entries = named.filter_map(|entry| {
        let text = String::from_utf8_lossy(entry);
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    entries.collect()
}

/// The command line, arguments joined by spaces; empty for kernel threads and zombies.
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}

/// The kernel's random id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A line of `stat`: the pid, the name, and what follows from the state on.
fn parts(line: &str) -> Option<(&str, &str, impl Iterator<Item = &str>)> {
    // The name is in parentheses and may itself hold spaces and parentheses: cut at the last one.
    let (pid, rest) = line.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    Some((pid, comm, rest.split(' ')))
}

fn parse_stat(line: &str) -> Option<Process> {
    let (pid, comm, mut fields) = parts(line)?;
    Some(Process {
        pid: pid.parse().ok()?,
        state: fields.next()?.chars().next()?,
        ppid: fields.next()?.parse().ok()?,
        pgid: fields.next()?.parse().ok()?,
        sid: fields.next()?.parse().ok()?,
        start: fields.nth(15)?.parse().ok()?,
        comm: comm.to_owned(),
    })
}

/// All but the descriptors, which stand elsewhere.
fn parse_used(line: &str) -> Option<Used> {
    let (_, _, mut fields) = parts(line)?;
    let mut number = |skip| fields.nth(skip)?.parse::<u64>().ok();
    let ticks = number(11)? + number(0)?;
    Some(Used { cpu_ms: ticks * TICK_MS, pages: number(8)?, fds: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let tail = "S 1 42 43 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 9876 0 0";
        let found = parse_stat(&format!("44 (a) (b c) {tail}")).unwrap();
        assert_eq!((found.pid, found.ppid, found.pgid, found.sid, found.start), (44, 1, 42, 43, 9876));
        assert_eq!((found.comm.as_str(), found.state), ("a) (b c", 'S'));
        let cut = [b"44 (serveur-m\xc3) ", tail.as_bytes()].concat();
        assert_eq!(parse_stat(&String::from_utf8_lossy(&cut)).unwrap().comm, "serveur-m\u{fffd}");
    }

    #[test]
    fn what_a_process_uses() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 9999 1000000 256 18446744073709551615";
        assert_eq!(parse_used(line), Some(Used { cpu_ms: 420, pages: 256, fds: 0 }));
        assert_eq!(parse_used("42 (a"), None);
        assert_eq!(used(u32::MAX), None);
        let own = used(std::process::id()).unwrap();
        assert!(own.pages > 100 && own.fds > 2, "{own:?}");
    }

    #[test]
    fn gone_is_not_out_of_descriptors() {
        let check = |errno| unless_exhausted(Err::<Vec<u8>, _>(io::Error::from_raw_os_error(errno))).is_ok();
        assert!(check(nix::libc::ENOENT) && check(nix::libc::EACCES) && check(nix::libc::ESRCH));
        assert!(!check(nix::libc::EMFILE));
    }

    #[test]
    fn ourselves() {
        let me = process(std::process::id()).unwrap();
        assert!(all().contains(&process(me.pid).unwrap()) || !all().is_empty());
        assert!(!me.is_zombie());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
