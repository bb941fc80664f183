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

impl Process {
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// `None` if there is no such process (any more).
pub fn process(pid: u32) -> Option<Process> {
    // One read: 52 numbers and a name fit, and std would begin with 32 bytes, because the file claims to be empty.
    let mut buffer = [0; 1024];
    let count = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
    parse_stat(&String::from_utf8_lossy(&buffer[..count]))
}

/// Every process that we can see, in order of pid.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut all: Vec<Process> = pids.filter_map(process).collect();
    all.sort_by_key(|process| process.pid);
    all
}

/// The environment that the process was executed with; empty also if it may not be read.
pub fn environ(pid: u32) -> Vec<(String, String)> {
    variables(&environ_block(pid), "")
}

/// The same as it lies in memory, for [`variables`].
pub fn environ_block(pid: u32) -> Vec<u8> {
    // Most fit; std would begin with 32 bytes, because the file claims to be empty.
    let mut block = Vec::with_capacity(8 << 10);
    let open = fs::File::open(format!("/proc/{pid}/environ"));
    match open.and_then(|mut file| file.read_to_end(&mut block)) {
        Ok(_) => block,
        Err(_) => Vec::new(),
    }
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

fn parse_stat(line: &str) -> Option<Process> {
    // The name is in parentheses and may itself hold spaces and parentheses: cut at the last one.
    let (pid, rest) = line.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let tail = "S 1 42 43 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 9876 0 0";
        let found = parse_stat(&format!("44 (a) (b c) {tail}")).unwrap();
        assert_eq!((found.pid, found.ppid, found.pgid, found.sid, found.start), (44, 1, 42, 43, 9876));
        assert_eq!((found.comm.as_str(), found.state), ("a) (b c", 'S'));
    }

    #[test]
    fn ourselves() {
        let me = process(std::process::id()).unwrap();
        assert!(all().contains(&process(me.pid).unwrap()) || !all().is_empty());
        assert!(!me.is_zombie());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
