//! Connecting to a Unix socket with a time-out, which std does not offer.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Bytes of a socket's path; a longer one is refused by the kernel (`sun_path` is 108 with its NUL).
pub const PATH_BYTES_MAX: usize = 107;

/// Waits at most `patience` for room in the listener's backlog; then the error is `TimedOut`.
///
/// The kernel honours `SO_SNDTIMEO` in connect, so no non-blocking dance is needed. The time-outs of reading and
/// writing are left to the caller, who must set both.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let span = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1));
    setsockopt(&socket, sockopt::SendTimeout, &span)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(UnixStream::from(socket)),
        Err(nix::Error::EAGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_full_backlog_times_out() {
        let path = std::env::temp_dir().join(format!("mcpvisor-backlog-{}", std::process::id()));
        // A file that is not there is fine.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        let mut held = Vec::new();
        let end = (0..200).find_map(|_| match connect_within(&path, Duration::from_millis(20)) {
            Ok(stream) => {
                held.push(stream);
                None
            }
            Err(error) => Some(error.kind()),
        });
        std::fs::remove_file(&path).unwrap();
        assert_eq!(end, Some(io::ErrorKind::TimedOut));
    }

    #[test]
    fn too_long_a_path_is_refused() {
        let path = "/".repeat(PATH_BYTES_MAX + 1);
        assert!(connect_within(Path::new(&path), Duration::from_millis(20)).is_err());
    }
}
