//! Memory given back: the pages of our own program that start-up touched and hardly anything touches again.

#![expect(unsafe_code, reason = "madvise on our own program text has no safe wrapper")]

use nix::libc;
use std::fs;
use std::ops::Range;

/// Lets the kernel take the pages of our program's text, which it reads again from its cache when they are run: a
/// soft page fault for each 64 KiB. Data, also read-only data, is left alone.
pub fn give_text_back() {
    for range in text_ranges(&fs::read_to_string("/proc/self/maps").unwrap_or_default()) {
        // SAFETY: the range is a mapping of ours that is executable and not writable, backed by a file: dropping its
        // pages changes nothing that can be read there.
        let given = unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.end - range.start, libc::MADV_DONTNEED)
        };
        if given != 0 {
            log::debug!("give text back: {}", std::io::Error::last_os_error());
        }
    }
}

/// The mappings of files that are read and executed, and never written.
fn text_ranges(maps: &str) -> Vec<Range<usize>> {
    maps.lines().filter_map(text_range).collect()
}

fn text_range(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, modes) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if modes != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_files() {
        let maps = "5000-6000 r--p 00000000 08:01 7 /bin/x\n6000-9000 r-xp 00001000 08:01 7 /bin/x\n\
                    9000-a000 r--p 00004000 08:01 7 /bin/x\na000-b000 rw-p 00005000 08:01 7 /bin/x\n\
                    f000-ff00 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(text_ranges(maps), vec![Range { start: 0x6000, end: 0x9000 }]);
    }

    /// What was given back still runs.
    #[test]
    fn and_on_it_goes() {
        give_text_back();
        assert_eq!(text_ranges("").len(), 0);
    }
}
