//! Memory given back: the pages of our own program that start-up touched and hardly anything touches again.

#![expect(unsafe_code, reason = "madvise on our own program text has no safe wrapper")]

use nix::libc;
use std::fs;
use std::ops::Range;

/// Lets the kernel take the pages of our program's text and constants, which it reads again from its cache when they are
/// needed: a soft page fault for each 64 KiB. What was written to, if only by the loader, is left alone.
pub fn give_text_back() {
    for range in clean_ranges(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        // SAFETY: the range is a mapping of ours that is not writable, is backed by a file and has no page of its own:
        // dropping its pages changes nothing that can be read there.
        let given = unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.end - range.start, libc::MADV_DONTNEED)
        };
        if given != 0 {
            log::debug!("give text back: {}", std::io::Error::last_os_error());
        }
    }
}

/// The mappings of files that are read or executed, were never written, and differ in no page from their file.
fn clean_ranges(smaps: &str) -> Vec<Range<usize>> {
    let mut clean = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(pages) if pages.trim() == "0 kB" => clean.extend(candidate.take()),
            Some(_) => candidate = None,
            None => candidate = read_only(line).or(candidate),
        }
    }
    clean
}

/// The first line of a mapping; nothing if it is another line.
fn read_only(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, modes) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if !matches!(modes, "r-xp" | "r--p") || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_pages_of_files() {
        let smaps = "5000-6000 r--p 00000000 08:01 7 /bin/x\nRss: 4 kB\nAnonymous:             0 kB\n\
                     6000-9000 r-xp 00001000 08:01 7 /bin/x\nRss: 4 kB\nAnonymous:             0 kB\n\
                     9000-a000 r--p 00004000 08:01 7 /bin/x\nRss: 4 kB\nAnonymous:             8 kB\n\
                     a000-b000 rw-p 00005000 08:01 7 /bin/x\nRss: 4 kB\nAnonymous:             0 kB\n\
                     f000-ff00 r-xp 00000000 00:00 0 [vdso]\nRss: 4 kB\nAnonymous:             0 kB\n";
        assert_eq!(
            clean_ranges(smaps),
            [Range { start: 0x5000, end: 0x6000 }, Range { start: 0x6000, end: 0x9000 }]
        );
    }

    /// What was given back still runs.
    #[test]
    fn and_on_it_goes() {
        give_text_back();
        assert_eq!(clean_ranges("").len(), 0);
    }
}
