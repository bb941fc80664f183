//! Connected stream sockets of both families as one type: reads and writes with an absolute deadline, the
//! end of the peer, and the listen backlog that std fixes at 128.

#![expect(
    unsafe_code,
    reason = "nix caps the backlog, and hides the TCP keep-alive options behind a feature needed for nothing else"
)]

use crate::base::time::Time;
use crate::sys::clock;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, MsgFlags, Shutdown, sockopt};
use nix::sys::time::TimeVal;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connected stream socket. It is never switched to non-blocking: whoever must not wait says so per call.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    unix: bool,
}

impl Socket {
    pub fn tcp(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket { fd: stream.into(), unix: false })
    }

    pub fn unix(stream: UnixStream) -> Socket {
        Socket { fd: stream.into(), unix: true }
    }

    /// How long `recv` waits. Set once; costs nothing per read and wakes nobody.
    pub fn set_recv_timeout(&self, span: Duration) -> io::Result<()> {
        let span = TimeVal::new(span.as_secs() as i64, i64::from(span.subsec_micros()));
        Ok(socket::setsockopt(&self.fd, sockopt::ReceiveTimeout, &span)?)
    }

    /// Waits for bytes; 0 is the end. `WouldBlock` if the receive time-out passed.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv_with(buffer, MsgFlags::empty())
    }

    /// `WouldBlock` if nothing is there.
    pub fn recv_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv_with(buffer, MsgFlags::MSG_DONTWAIT)
    }

    /// Waits for bytes until `deadline`, then `TimedOut`, even if the peer never stops sending.
    pub fn recv_before(&self, buffer: &mut [u8], deadline: Time) -> io::Result<usize> {
        loop {
            if clock::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.wait(PollFlags::POLLIN, deadline)?;
            match self.recv_now(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn recv_with(&self, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
        retry(|| socket::recv(self.fd.as_raw_fd(), buffer, flags))
    }

    /// One write of what the kernel takes now; `WouldBlock` if it takes nothing.
    pub fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| send_parts(self.fd.as_fd(), parts, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
    }

    /// Writes everything, in one system call where the kernel has room; else until `patience` from now, then
    /// `TimedOut`, and nobody knows how much arrived.
    pub fn send_all(&self, mut parts: &mut [IoSlice<'_>], patience: Duration) -> io::Result<()> {
        let mut deadline = None;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.send_now(parts) {
                Ok(bytes) => IoSlice::advance_slices(&mut parts, bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = *deadline.get_or_insert_with(|| clock::now() + patience);
                    self.wait(PollFlags::POLLOUT, deadline)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags, deadline: Time) -> io::Result<()> {
        let mut fds = [PollFd::new(self.fd.as_fd(), events)];
        if poll_until(&mut fds, Some(deadline))? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// No more bytes from the peer: a blocked `recv` returns 0, here or on another thread.
    pub fn shutdown_read(&self) {
        self.shutdown(Shutdown::Read);
    }

    /// No more bytes to the peer, which sees the end after what was sent.
    pub fn shutdown_write(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Interrupts every read and write of this socket, on any thread.
    pub fn shutdown_both(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        // Fails only if the connection is gone already, which is what the caller wants to reach.
        let _ = socket::shutdown(self.fd.as_raw_fd(), how);
    }

    /// Whether the peer has closed, by the rule of [`Socket::half_close_is_the_end`].
    pub fn peer_closed(&self) -> bool {
        let ended = if self.half_close_is_the_end() { RDHUP } else { PollFlags::empty() };
        let mut fds = [PollFd::new(self.fd.as_fd(), ended)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// TCP cannot tell a peer that closed from one that only will not send any more (both are one FIN), so
    /// there a FIN counts as the end. A Unix socket can, and there only a full close does.
    pub fn half_close_is_the_end(&self) -> bool {
        !self.unix
    }
}

/// For who goes on without us; the mode of the descriptor (blocking or not) is what it was made with.
impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.fd
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// nix has no name for it.
const RDHUP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// Polls until something is ready (true) or `deadline` passed (false); without one, for ever.
pub fn poll_until(fds: &mut [PollFd<'_>], deadline: Option<Time>) -> io::Result<bool> {
    loop {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| timeout_until(deadline, clock::now()));
        match poll(fds, timeout) {
            Ok(0) if deadline.is_none_or(|deadline| clock::now() < deadline) => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Rounded up to a whole millisecond, so that a wait does not end just before its deadline and spin.
fn timeout_until(deadline: Time, now: Time) -> PollTimeout {
    let ms = deadline.since(now).as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

/// Raises the backlog of a socket that listens already; the kernel caps it at `net.core.somaxconn`. Not by nix,
/// which refuses more than libc's SOMAXCONN, and with musl that is 128.
pub fn set_backlog(listener: &impl AsFd, connections: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and so open; the call takes integers only.
    let done = unsafe { libc::listen(listener.as_fd().as_raw_fd(), connections) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel to find out about TCP peers that vanished without a word: a first probe after a minute,
/// closed after two. Set on a listener; its connections inherit it.
pub fn set_keep_alive(listener: &impl AsFd) -> io::Result<()> {
    let fd = listener.as_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 15)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 4)
}

fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and so open; the pointer and size are those of a live integer.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn send_parts(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], flags: libc::c_int) -> nix::Result<usize> {
    // SAFETY: all zeroes is a valid msghdr: no name, no control data, no parts.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: the descriptor is open; `parts` outlives the call, IoSlice has the layout of iovec, and the
    // kernel only reads through it.
    Errno::result(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) })
        .map(|sent| sent as usize)
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn tcp_pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::tcp(ours).unwrap(), listener.accept().unwrap().0)
    }

    fn wait_closed(socket: &Socket) {
        let deadline = clock::now() + Duration::from_secs(10);
        while !socket.peer_closed() {
            assert!(clock::now() < deadline, "the peer's close was not seen");
        }
    }

    #[test]
    fn reads_end_at_their_deadline() {
        let (ours, _theirs) = tcp_pair();
        let end = ours.recv_before(&mut [0; 8], clock::now() + Duration::from_millis(20));
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(ours.recv_now(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        ours.set_recv_timeout(Duration::from_millis(20)).unwrap();
        assert_eq!(ours.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn writes_to_a_peer_that_does_not_read_end() {
        let (ours, _theirs) = tcp_pair();
        let much = vec![0; 64 << 20];
        let end = ours.send_all(&mut [IoSlice::new(b"head"), IoSlice::new(&much)], Duration::from_millis(50));
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_end_of_the_peer() {
        let (ours, theirs) = tcp_pair();
        assert!(!ours.peer_closed());
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        wait_closed(&ours);

        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = Socket::unix(ours);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!ours.peer_closed(), "half-closed, and still reading");
        drop(theirs);
        wait_closed(&ours);
    }
}
