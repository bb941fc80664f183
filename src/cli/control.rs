//! The client of the control socket: one request, one reply, each within its time.
//!
//! It owns where the socket is and what the daemon's errors come to as exit codes; what is asked and what is shown
//! is for the commands.

use super::exit::{Exit, Failure};
use super::options::{Options, state_dir};
use crate::base::limits::CONTROL_REPLY_BYTES_MAX;
use crate::base::time::Time;
use crate::http::reply::{Decoder, Request};
use crate::sys::{clock, unix_socket};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The socket in the state directory.
pub const SOCKET: &str = "mcpvisor.sock";
/// The file that holds the socket's real path when the one in the state directory is too long for the kernel.
pub const SOCKET_POINTER: &str = "socket";

/// 2 s: a daemon accepts in < 1 ms; longer means that it is stuck or its backlog is full.
const CONNECT: Duration = Duration::from_secs(2);
/// 10 s for an answer that needs no waiting on the daemon's side.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What a daemon may take beyond the wait that it was asked for.
pub const MARGIN: Duration = Duration::from_secs(10);

pub struct Control {
    socket: PathBuf,
}

/// The daemon's errors: `{"error":{"kind","message","hint"}}`.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorFacts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorFacts {
    kind: String,
    message: String,
    hint: String,
}

impl Control {
    pub fn of(options: &Options) -> Result<Control, Failure> {
        Ok(Control::at(&state_dir(options)?))
    }

    pub fn at(state_dir: &Path) -> Control {
        Control { socket: socket_of(state_dir) }
    }

    /// A connection for who speaks by itself. The time-outs of reading and writing are left to the caller.
    pub fn connect(&self) -> Result<UnixStream, Failure> {
        unix_socket::connect_within(&self.socket, CONNECT).map_err(|error| self.away(&error))
    }

    pub fn get(&self, target: &str) -> Result<Vec<u8>, Failure> {
        self.ask("GET", target, None, PATIENCE)
    }

    pub fn post(&self, target: &str, body: Option<&[u8]>, patience: Duration) -> Result<Vec<u8>, Failure> {
        self.ask("POST", target, body, patience)
    }

    /// The body of a good reply, or the daemon's error.
    fn ask(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        patience: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let (status, body) = self.exchange(method, target, body, patience)?;
        if (200..300).contains(&status) { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// The status and the body of any reply.
    pub fn exchange(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        patience: Duration,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let json = [("Connection", "close"), ("Content-Type", "application/json")];
        let headers = if body.is_some() { &json[..] } else { &json[..1] };
        let request = Request { method, target, host: "mcpvisor", headers, body }.bytes()?;
        let mut stream = self.connect()?;
        let mut decoder = Decoder::new(method, CONTROL_REPLY_BYTES_MAX);
        exchange(&mut stream, &request, &mut decoder, clock::now() + patience)
            .map_err(|why| self.unanswered(why, patience))?;
        let status = decoder.head().map_or(0, |head| head.status);
        Ok((status, decoder.take_body()))
    }

    fn away(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        let kind = error.kind();
        // A name that is too long for a socket (see `socket_of`) is a socket that is not there.
        let absent = matches!(kind, ErrorKind::NotFound | ErrorKind::InvalidFilename);
        if absent || kind == ErrorKind::ConnectionRefused {
            let why = if absent { "no such socket" } else { "nobody listens" };
            return Failure::new(Exit::NoDaemon, format!("no daemon answers on {socket}: {why}"))
                .hint("start it with: mcpvisor serve; if it runs elsewhere, give its --state-dir");
        }
        if kind == ErrorKind::PermissionDenied {
            return Failure::new(Exit::Permission, format!("connect to {socket}: permission denied"))
                .hint("the socket belongs to the user that runs the daemon");
        }
        if kind == ErrorKind::TimedOut {
            return Failure::new(Exit::Failed, format!("connect to {socket}: the daemon is stuck"))
                .hint("its log says more; restart it if this stays so");
        }
        Failure::new(Exit::Failed, format!("connect to {socket}: {error}"))
    }

    fn unanswered(&self, why: Unanswered, patience: Duration) -> Failure {
        let socket = self.socket.display();
        match why {
            Unanswered::Late => {
                let span = humantime::format_duration(patience);
                Failure::new(Exit::Failed, format!("ask the daemon on {socket}: no answer within {span}"))
            }
            Unanswered::Broken(text) => {
                Failure::new(Exit::Failed, format!("ask the daemon on {socket}: {text}"))
                    .hint("did it just stop?")
            }
        }
    }
}

/// `{"error":…}` of any reply as a failure; also for results that carry an error with status 200.
pub fn error_of(body: &[u8]) -> Option<Failure> {
    let ErrorBody { error } = serde_json::from_slice(body).ok()?;
    let exit = match error.kind.as_str() {
        "bad_config" => Exit::Config,
        "engine_away" => Exit::EngineUnavailable,
        _ => Exit::Failed,
    };
    let message = if error.message.is_empty() { "the daemon says no more".to_owned() } else { error.message };
    Some(Failure::new(exit, message).hint(error.hint))
}

/// The daemon's error as a failure.
pub fn refusal(status: u16, body: &[u8]) -> Failure {
    let mut failure =
        error_of(body).unwrap_or_else(|| Failure::new(Exit::Failed, format!("the daemon answered {status}")));
    if matches!(status, 401 | 403) {
        failure.exit = Exit::Permission;
    }
    failure
}

/// Reads the daemon's JSON; what it does not know is ignored, so that a newer daemon can be asked.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(Exit::Failed, format!("read the daemon's answer: {error}"))
            .hint("is the daemon of another version? try --json")
    })
}

/// Where the socket of a state directory is.
fn socket_of(state_dir: &Path) -> PathBuf {
    let plain = state_dir.join(SOCKET);
    if plain.as_os_str().as_bytes().len() <= unix_socket::PATH_BYTES_MAX {
        return plain;
    }
    match std::fs::read(state_dir.join(SOCKET_POINTER)) {
        Ok(path) => PathBuf::from(std::ffi::OsString::from_vec(path.trim_ascii_end().to_vec())),
        // Nobody wrote it, so nobody listens; connecting says so, with the name that people look for.
        Err(_) => plain,
    }
}

enum Unanswered {
    Late,
    Broken(String),
}

impl From<io::Error> for Unanswered {
    fn from(error: io::Error) -> Unanswered {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            return Unanswered::Late;
        }
        Unanswered::Broken(error.to_string())
    }
}

fn exchange(
    stream: &mut UnixStream,
    request: &[u8],
    decoder: &mut Decoder,
    until: Time,
) -> Result<(), Unanswered> {
    // A daemon that refuses early (413) closes while we write: its answer is what counts.
    if let Err(error) = write_until(stream, request, until)
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err(error.into());
    }
    let mut buffer = vec![0; 64 << 10];
    while !decoder.is_done() {
        stream.set_read_timeout(Some(left(until)?))?;
        let fed = match stream.read(&mut buffer) {
            Ok(0) => decoder.close(),
            Ok(count) => decoder.feed(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => return Err(error.into()),
        };
        fed.map_err(|fault| Unanswered::Broken(fault.to_string()))?;
    }
    Ok(())
}

fn write_until(stream: &mut UnixStream, mut bytes: &[u8], until: Time) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The span to the deadline; std refuses a time-out of zero, and a passed deadline is one anyway.
fn left(until: Time) -> io::Result<Duration> {
    let left = until - clock::now();
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}
