//! The HTTP/1.1 server on sockets: one thread per connection that is in use, none per idle event stream.
//!
//! It owns the listeners, the connections and their deadlines, and refuses by itself what is not HTTP, too
//! large, too slow or too much. A handler gets whole requests and answers through its [`Exchange`]: once, as a
//! stream of events, or by handing the socket over to the [`Hub`]. What a path or a header means is not known
//! here; nor are TLS, compression, upgrades or files.
//!
//! Threads: `<name>:accept` ends by [`HttpServer::drain`]; `conn:<n>` ends when its peer closes, is idle too
//! long, breaks a rule, hands its socket over, or by the drain. No one of them wakes while nothing happens.

mod accept;
mod connection;
mod exchange;
mod table;

pub use exchange::{EventWriter, Exchange};

use super::hub::Hub;
use crate::base::limits;
use crate::http::request::Headers;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use table::Shared;

/// A whole request.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// As sent, not percent-decoded; begins with `/` (or is `*`, for OPTIONS).
    pub path: String,
    /// What follows the first `?`, as sent.
    pub query: Option<String>,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub peer: Peer,
}

impl Request {
    /// The first value of the header line `name`, compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

/// Answers one request, on the connection's thread. If it panics before it answered, the client gets 500; in any
/// case the connection is closed then. If it returns without an answer, that is a 500 too.
pub type Handler = dyn Fn(&Request, &mut Exchange) + Send + Sync;

/// A bound socket that listens, from wherever it came.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The limits of one server; see `base::limits` for what happens at each.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub connections_max: usize,
    pub head_deadline: Duration,
    pub body_deadline: Duration,
    pub keep_alive_idle: Duration,
    pub body_bytes_max: usize,
    /// Of all connections together, for bodies above 64 KiB.
    pub bodies_bytes_max: usize,
    pub write_patience: Duration,
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections_max: limits::CONNECTIONS_MAX,
            head_deadline: limits::HEAD_DEADLINE,
            body_deadline: limits::BODY_DEADLINE,
            keep_alive_idle: limits::KEEP_ALIVE_IDLE,
            body_bytes_max: limits::BODY_BYTES_MAX,
            bodies_bytes_max: limits::BODIES_BYTES_MAX,
            write_patience: limits::WRITE_PATIENCE,
            linger: limits::LINGER,
        }
    }
}

impl Settings {
    /// Those of the control socket.
    pub fn control() -> Settings {
        Settings { connections_max: limits::CONTROL_CONNECTIONS_MAX, ..Settings::default() }
    }
}

/// A running server. Dropping it is a drain without grace.
pub struct HttpServer {
    shared: Arc<Shared>,
}

impl HttpServer {
    /// Serves all `listeners`. `name` goes into the accept thread's name (`http` gives `http:accept`).
    pub fn start(
        name: &str,
        listeners: Vec<Listener>,
        settings: Settings,
        hub: Hub,
        handler: Arc<Handler>,
    ) -> io::Result<HttpServer> {
        let shared = Arc::new(Shared::new(settings, hub, handler)?);
        accept::start(name, listeners, &shared)?;
        Ok(HttpServer { shared })
    }

    /// Connections that hold a thread; streams in the hub are not among them.
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// Stops accepting, closes idle connections at once, lets requests in flight finish for `grace` (their
    /// answers say `Connection: close`), then cuts the rest. All threads are joined, except those of handlers
    /// that do not return within a second more; they are logged. Streams in the hub are not touched.
    /// A second call does nothing.
    pub fn drain(&self, grace: Duration) {
        self.shared.drain(grace);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}
