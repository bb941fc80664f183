//! Connecting without ever blocking: the caller polls, so that it can be cancelled.

#![expect(unsafe_code, reason = "nix hides internet addresses behind a feature needed for nothing else")]

use super::net::Socket;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// `WouldBlock` if the listener's backlog is full: nothing can be polled then, only tried again.
pub fn unix(path: &Path) -> io::Result<Socket> {
    let address = UnixAddr::new(path)?;
    let fd = stream(AddressFamily::Unix)?;
    retry(|| connect(fd.as_raw_fd(), &address))?;
    Ok(Socket::unix(UnixStream::from(fd)))
}

/// Perhaps not connected yet: once it is writable, [`outcome`] says.
pub fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let fd = stream(if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 })?;
    match retry(|| connect_to(&fd, address)) {
        Err(Errno::EINPROGRESS) | Ok(()) => Socket::tcp(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}

/// How a connect ended that was under way.
pub fn outcome(socket: &Socket) -> io::Result<()> {
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn stream(family: AddressFamily) -> nix::Result<OwnedFd> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn connect_to(fd: &OwnedFd, address: SocketAddr) -> nix::Result<()> {
    match address {
        SocketAddr::V4(address) => {
            let s_addr = u32::from_ne_bytes(address.ip().octets());
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr },
                sin_zero: [0; 8],
            };
            connect_raw(fd, &address)
        }
        SocketAddr::V6(address) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            connect_raw(fd, &address)
        }
    }
}

fn connect_raw<T>(fd: &OwnedFd, address: &T) -> nix::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the pointer and size are those of a live address, which is only read, and
    // whose family says which one it is.
    Errno::result(unsafe { libc::connect(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), size) })
        .map(drop)
}

fn retry(mut call: impl FnMut() -> nix::Result<()>) -> nix::Result<()> {
    loop {
        match call() {
            Err(Errno::EINTR) => (),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Time;
    use crate::sys::clock;
    use crate::sys::net::poll_until;
    use nix::poll::{PollFd, PollFlags};
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn soon() -> Time {
        clock::now() + Duration::from_secs(10)
    }

    fn connects(address: &str) -> io::Result<()> {
        let listener = TcpListener::bind(address)?;
        let socket = tcp(listener.local_addr()?)?;
        assert!(poll_until(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], Some(soon()))?);
        outcome(&socket)
    }

    #[test]
    fn both_families_of_the_internet() {
        connects("127.0.0.1:0").unwrap();
        // A host without IPv6 is no failure of ours.
        if TcpListener::bind("[::1]:0").is_ok() {
            connects("[::1]:0").unwrap();
        }
    }

    #[test]
    fn nobody_listens() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = tcp(gone).and_then(|socket| {
            assert!(poll_until(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], Some(soon()))?);
            outcome(&socket)
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(unix(Path::new("/nowhere/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
