//! The accept thread: new connections get a thread or a 503, and nothing that happens here ends it but a drain.

use super::connection::Connection;
use super::table::Shared;
use super::{Listener, Peer};
use crate::base::limits::{ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, BACKLOG, REFUSED_LINGERING_MAX};
use crate::base::time::Time;
use crate::http::response::{Persistence, Sizing, write_head};
use crate::sys::clock;
use crate::sys::net::{Socket, poll_until, set_backlog, set_keep_alive};
use crate::sys::thread::spawn;
use nix::poll::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Connections taken from one listener before the others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Starts `<name>:accept`.
pub(super) fn start(name: &str, listeners: Vec<Listener>, shared: &Arc<Shared>) -> io::Result<()> {
    for listener in &listeners {
        listener.prepare()?;
    }
    let acceptor = Acceptor { shared: Arc::clone(shared), listeners, refused: VecDeque::new(), pause: None };
    shared.accept_started(spawn(&format!("{name}:accept"), move || acceptor.run())?);
    Ok(())
}

struct Acceptor {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    refused: VecDeque<Refused>,
    /// No descriptors or memory: when to try again, and how long the pause was.
    pause: Option<(Time, Duration)>,
}

/// A client that was told to come later, until it has read that or its time is over.
struct Refused {
    socket: Arc<Socket>,
    until: Time,
}

impl Acceptor {
    fn run(mut self) {
        while !self.shared.is_draining() {
            let ready = self.wait();
            let now = clock::now();
            if self.pause.is_none_or(|(until, _)| until <= now) {
                for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                    self.accept_from(index);
                }
            }
            self.refused.retain(|refused| refused.until > now && refused.drain_now());
        }
    }

    /// Which listeners are ready.
    fn wait(&self) -> Vec<bool> {
        let paused = self.pause.map(|(until, _)| until).filter(|until| *until > clock::now());
        let listening = if paused.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut fds = vec![self.shared.wake.poll_fd()];
        fds.extend(self.listeners.iter().map(|listener| PollFd::new(listener.as_fd(), listening)));
        fds.extend(self.refused.iter().map(|refused| PollFd::new(refused.socket.as_fd(), PollFlags::POLLIN)));
        let deadline = self.refused.iter().map(|refused| refused.until).chain(paused).min();
        if let Err(error) = poll_until(&mut fds, deadline) {
            // The kernel has no memory for the poll: the next turn of the loop tries again.
            log::warn!("accept: {error}");
        }
        let listeners = fds.iter().skip(1).take(self.listeners.len());
        listeners.map(|fd| fd.any().unwrap_or(false)).collect()
    }

    fn accept_from(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listeners[index].accept() {
                Ok((socket, peer)) => {
                    self.pause = None;
                    self.serve(Arc::new(socket), peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_exhaustion(&error) => return self.pause_after(&error),
                // That one client went away before it was accepted.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    fn pause_after(&mut self, error: &io::Error) {
        let span = match self.pause {
            Some((_, span)) => (span * 2).min(ACCEPT_PAUSE_MAX),
            None => ACCEPT_PAUSE_MIN,
        };
        log::warn!("accept: {error} (trying again in {} ms)", span.as_millis());
        self.pause = Some((clock::now() + span, span));
    }

    fn serve(&mut self, socket: Arc<Socket>, peer: Peer) {
        let shared = Arc::clone(&self.shared);
        let admitted = self.shared.admit(&socket, |admission| {
            spawn(&format!("conn:{}", admission.number), move || {
                // Declared first, dropped last.
                let _place = shared.place(admission.number);
                Connection::new(shared, admission.socket, admission.idle, peer).serve();
            })
        });
        if admitted.is_none() {
            self.refuse(socket);
        }
    }

    fn refuse(&mut self, socket: Arc<Socket>) {
        let mut answer = Vec::new();
        let (body, headers) =
            (b"too many connections\n", [("Retry-After", "1"), ("Content-Type", "text/plain")]);
        write_head(&mut answer, 503, &headers, Sizing::Length(body.len()), Persistence::Close);
        answer.extend_from_slice(body);
        // A fresh socket has room for this, or its peer is gone already.
        let _ = socket.send_now(&[IoSlice::new(&answer)]);
        socket.shutdown_write();
        if self.refused.len() >= REFUSED_LINGERING_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(Refused { socket, until: clock::now() + self.shared.settings.linger });
    }
}

impl Refused {
    /// Reads what is there. False once the peer has closed.
    fn drain_now(&self) -> bool {
        match self.socket.recv_now(&mut [0; 4096]) {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// The host has no descriptors or memory left, for us or for everyone.
fn is_exhaustion(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

impl Listener {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                set_keep_alive(listener)?;
                set_backlog(listener, BACKLOG)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                set_backlog(listener, BACKLOG)
            }
        }
    }

    fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((Socket::tcp(stream)?, Peer::Tcp(address)))
            }
            Listener::Unix(listener) => Ok((Socket::unix(listener.accept()?.0), Peer::Unix)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}
