//! The terminal: how wide it is.

#![expect(unsafe_code, reason = "TIOCGWINSZ has no wrapper in nix without one more feature")]

use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// The columns of the terminal that `file` is; `None` if it is none, or does not know.
pub fn columns(file: &impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is valid for that; the descriptor is borrowed.
    let done = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some(size.ws_col.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_has_no_columns() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(super::columns(&file), None);
    }
}
