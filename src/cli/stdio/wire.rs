//! HTTP on the control socket as the bridge speaks it: requests as bytes, and one reply after the other, read as it
//! comes.

use super::session::Session;
use crate::base::limits::CONTROL_REPLY_BYTES_MAX;
use crate::http::reply::{Decoder, Head, Request};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A daemon that does not read what it is sent: it takes 16 MiB in 30 s, and gives up by itself then.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(35);

/// One request on a mount, in the name of a session if there is one.
pub fn request(
    method: &str,
    target: &str,
    session: Option<&Session>,
    last_event: Option<&str>,
    body: Option<&[u8]>,
) -> Vec<u8> {
    let events_only = method == "GET";
    let accept = if events_only { "text/event-stream" } else { "application/json, text/event-stream" };
    let mut headers = vec![("Accept", accept)];
    if body.is_some() {
        headers.push(("Content-Type", "application/json"));
    }
    if let Some(session) = session {
        headers.push(("Mcp-Session-Id", &session.id));
        headers.push(("MCP-Protocol-Version", &session.version));
    }
    headers.extend(last_event.map(|id| ("Last-Event-ID", id)));
    let request = Request { method, target, host: "mcpvisor", headers: &headers, body };
    request.bytes().expect("target and headers come encoded or from the daemon's own head")
}

/// Why a reply did not come, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The daemon has closed the connection with bytes of the request unread: it has not acted on it.
    ///
    /// That is what ECONNRESET means on a Unix socket, and one request at a time is on a connection.
    Unread,
    /// It closed without a word, or in the middle of one.
    Closed,
    Broken(String),
}

/// One reply on a connection.
pub struct Reply<'a> {
    stream: &'a UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl<'a> Reply<'a> {
    pub fn to(method: &str, stream: &'a UnixStream) -> Reply<'a> {
        Reply { stream, decoder: Decoder::new(method, CONTROL_REPLY_BYTES_MAX), buffer: vec![0; 32 << 10] }
    }

    /// Waits for the head.
    pub fn head(&mut self) -> Result<Head, Cut> {
        loop {
            if let Some(head) = self.decoder.head() {
                return Ok(head.clone());
            }
            self.read()?;
        }
    }

    /// The next bytes of the body; none at its end.
    pub fn part(&mut self) -> Result<Vec<u8>, Cut> {
        loop {
            let part = self.decoder.take_body();
            if !part.is_empty() || self.decoder.is_done() {
                return Ok(part);
            }
            self.read()?;
        }
    }

    /// The rest of the body.
    pub fn whole(&mut self) -> Result<Vec<u8>, Cut> {
        while !self.decoder.is_done() {
            self.read()?;
        }
        Ok(self.decoder.take_body())
    }

    fn read(&mut self) -> Result<(), Cut> {
        let count = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(Cut::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && self.decoder.head().is_none() => {
                return Err(Cut::Unread);
            }
            Err(error) => return Err(Cut::Broken(error.to_string())),
        };
        self.decoder.feed(&self.buffer[..count]).map_err(|fault| Cut::Broken(fault.to_string()))
    }
}

/// A request on a connection of its own, and its whole reply. `patience` bounds each wait for bytes.
pub fn exchange(
    mut stream: &UnixStream,
    request: &[u8],
    patience: Option<Duration>,
) -> Result<(Head, Vec<u8>), Cut> {
    let broken = |error: std::io::Error| Cut::Broken(error.to_string());
    stream.set_write_timeout(Some(WRITE_PATIENCE)).map_err(broken)?;
    stream.set_read_timeout(patience).map_err(broken)?;
    // Not taken whole, it was not acted on.
    stream.write_all(request).map_err(|_| Cut::Unread)?;
    let mut reply = Reply::to("POST", stream);
    let head = reply.head()?;
    Ok((head, reply.whole()?))
}

pub fn is_events(head: &Head) -> bool {
    let kind = head.header("content-type").unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}
