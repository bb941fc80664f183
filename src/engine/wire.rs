//! One connection to an engine: made, written and read within a caller's patience.

use super::endpoint::Endpoint;
use super::error::{EngineErrorKind, Trouble};
use super::patience::Patience;
use crate::base::limits::ENGINE_BACKLOG_AGAIN;
use crate::sys::net::Socket;
use crate::sys::wake::Wake;
use crate::sys::{dial, thread};
use nix::poll::PollFlags;
use parking_lot::Mutex;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// A new connection; its descriptor is non-blocking.
pub(super) fn connect(endpoint: &Endpoint, names: &Names, patience: &Patience) -> Result<Socket, Trouble> {
    match endpoint {
        Endpoint::Unix(path) => connect_unix(path, patience),
        Endpoint::Tcp(address) => {
            let mut last = Trouble::new(EngineErrorKind::Absent, format!("{address} has no address"));
            for address in names.resolve(address, patience)? {
                match connect_tcp(address, patience) {
                    // Another address cannot help a caller that has no time, or wants no more.
                    Err(trouble)
                        if !matches!(trouble.kind, EngineErrorKind::Silent | EngineErrorKind::Cancelled) =>
                    {
                        last = trouble;
                    }
                    done => return done,
                }
            }
            Err(last)
        }
    }
}

fn connect_unix(path: &Path, patience: &Patience) -> Result<Socket, Trouble> {
    loop {
        match dial::unix(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => patience.pause(ENGINE_BACKLOG_AGAIN)?,
            done => return Ok(done?),
        }
    }
}

fn connect_tcp(address: SocketAddr, patience: &Patience) -> Result<Socket, Trouble> {
    let socket = dial::tcp(address)?;
    patience.wait(socket.as_fd(), PollFlags::POLLOUT)?;
    dial::outcome(&socket)?;
    Ok(socket)
}

/// Writes all. `Ok(false)` if the engine closed before it had all: it may have answered nevertheless.
pub(super) fn send(socket: &Socket, mut bytes: &[u8], patience: &Patience) -> Result<bool, Trouble> {
    while !bytes.is_empty() {
        match socket.send_now(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                patience.wait(socket.as_fd(), PollFlags::POLLOUT)?;
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Whether a connection that was idle can be used: neither bytes nor the end are waiting in it.
pub(super) fn is_fresh(socket: &Socket) -> bool {
    matches!(socket.recv_now(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Names of hosts to addresses. The C library's resolver can neither be given a deadline nor be interrupted, so it
/// works on a thread of its own, one at a time; who has no patience left goes without it.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Option<Arc<Lookup>>>);

#[derive(Debug)]
struct Lookup {
    done: Wake,
    found: Mutex<Option<io::Result<Vec<SocketAddr>>>>,
}

impl Names {
    fn resolve(&self, address: &str, patience: &Patience) -> Result<Vec<SocketAddr>, Trouble> {
        if let Ok(plain) = address.parse::<SocketAddr>() {
            return Ok(vec![plain]);
        }
        let lookup = self.lookup(address)?;
        patience.wait(lookup.done.as_fd(), PollFlags::POLLIN)?;
        // The next call looks again: what a name means may change while an engine is away.
        self.0.lock().take_if(|current| Arc::ptr_eq(current, &lookup));
        match &*lookup.found.lock() {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(error)) => {
                Err(Trouble::new(EngineErrorKind::Absent, format!("look up {address}: {error}")))
            }
            None => {
                Err(Trouble::new(EngineErrorKind::Host, format!("look up {address}: the resolver failed")))
            }
        }
    }

    /// The lookup that is under way, or a new one.
    fn lookup(&self, address: &str) -> Result<Arc<Lookup>, Trouble> {
        let mut current = self.0.lock();
        if let Some(lookup) = &*current {
            return Ok(lookup.clone());
        }
        let lookup = Arc::new(Lookup { done: Wake::new()?, found: Mutex::new(None) });
        let (theirs, address) = (lookup.clone(), address.to_owned());
        // Not joined: it ends when the resolver gives up, and holds nothing but its result.
        let body = move || {
            let found = address.to_socket_addrs().map(Iterator::collect);
            *theirs.found.lock() = Some(found);
            theirs.done.wake();
        };
        thread::spawn("resolve", body).map_err(|error| {
            Trouble::new(EngineErrorKind::Host, format!("start a thread for the resolver: {error}"))
        })?;
        *current = Some(lookup.clone());
        Ok(lookup)
    }
}
