//! Why a request to a remote server came to nothing, classified where the fact is known.
#![expect(clippy::wildcard_enum_match_arm, reason = "the errors of ureq and rustls are open enums")]

use crate::base::fault::{Fault, FaultKind};
use crate::http::url::Url;
use std::io;
use ureq::{Error, Timeout};

/// A request without a reply, or a reply that broke off.
#[derive(Debug)]
pub struct Trouble {
    pub fault: Fault,
    pub when: When,
}

/// How far the request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// There is no connection to the server.
    Unconnected,
    /// Connected, and nothing of the body was sent.
    Unsent,
    /// The server may have read it.
    Sent,
    /// The server has answered, with something that ends it.
    Answered,
}

impl Trouble {
    pub fn answered(fault: Fault) -> Trouble {
        Trouble { fault, when: When::Answered }
    }

    /// What ureq says before there is a reply. `sent`: the body began to be sent.
    pub fn of(error: Error, url: &Url, sent: bool) -> Trouble {
        let when = match (sent, &error) {
            (true, _) => When::Sent,
            (false, error) if is_connecting(error) => When::Unconnected,
            (false, _) => When::Unsent,
        };
        Trouble { fault: fault(&error, url, when), when }
    }

    /// What ends the reading of a body.
    pub fn reading(error: io::Error, url: &Url) -> Trouble {
        let error = Error::from(error);
        Trouble { fault: fault(&error, url, When::Sent), when: When::Sent }
    }
}

fn fault(error: &Error, url: &Url, when: When) -> Fault {
    if let Some(why) = tls(error) {
        let fault = Fault::new(FaultKind::TlsFailed, format!("connect to {url}: TLS: {why}"));
        return fault.hint(tls_hint(error));
    }
    if let Error::Io(_) = error
        && url.is_https()
        && when == When::Unsent
    {
        let message = format!("connect to {url}: TLS: the server closed the connection in the handshake");
        return Fault::new(FaultKind::TlsFailed, message).hint(NO_TLS);
    }
    let (kind, why) = match error {
        Error::HostNotFound => (FaultKind::Unreachable, "its name has no address".to_owned()),
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            (FaultKind::Unreachable, "no connection within 10 s".to_owned())
        }
        Error::Timeout(_) => (FaultKind::Unreachable, "it did not answer in time".to_owned()),
        Error::Io(error) if when == When::Unconnected => (FaultKind::Unreachable, plain(error)),
        Error::Io(_) => (FaultKind::Unreachable, "the connection broke before the answer".to_owned()),
        Error::ConnectionFailed | Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
            (FaultKind::Unreachable, error.to_string())
        }
        Error::Protocol(why) => (FaultKind::BadUpstream, format!("what it answers is not HTTP: {why}")),
        Error::LargeResponseHeader(..) => (FaultKind::BadUpstream, error.to_string()),
        Error::BadUri(_) | Error::Http(_) => (FaultKind::BadConfig, error.to_string()),
        // The rest cannot come of what we ask for, and the enum is open.
        other => (FaultKind::BadUpstream, other.to_string()),
    };
    let doing = if when == When::Unconnected { "connect to" } else { "ask" };
    let fault = Fault::new(kind, format!("{doing} {url}: {why}"));
    match (kind, when) {
        (FaultKind::Unreachable, When::Unconnected) => {
            fault.hint("is the server running, and the `url` right? behind a proxy, is HTTPS_PROXY set?")
        }
        (FaultKind::BadUpstream, _) => fault.hint("is the `url` that of an MCP endpoint?"),
        _ => fault,
    }
}

/// Whether this can only happen before there is a connection.
fn is_connecting(error: &Error) -> bool {
    let looked_up = |error: &io::Error| error.raw_os_error().is_none() && error.get_ref().is_some();
    match error {
        Error::HostNotFound
        | Error::Timeout(Timeout::Connect | Timeout::Resolve)
        | Error::ConnectionFailed
        | Error::ConnectProxyFailed(_)
        | Error::InvalidProxyUrl => true,
        Error::Io(error) => {
            use io::ErrorKind;
            matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::AddrNotAvailable
                    | ErrorKind::NetworkDown
            ) || (error.kind() != ErrorKind::UnexpectedEof && looked_up(error))
        }
        error => tls(error).is_some(),
    }
}

fn tls(error: &Error) -> Option<String> {
    match error {
        Error::Tls(why) => Some((*why).to_owned()),
        Error::Rustls(error) => Some(error.to_string()),
        Error::TlsRequired => Some("it could not be begun".to_owned()),
        Error::Io(error) => rustls_error(error).map(ToString::to_string),
        _ => None,
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

const NO_TLS: &str = "does the server speak TLS there? if not, the `url` begins with http://";

fn tls_hint(error: &Error) -> &'static str {
    use rustls::{CertificateError, Error as Tls};
    let inner = match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => rustls_error(error),
        _ => None,
    };
    match inner {
        Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "if its certificate is from your own authority, name that in SSL_CERT_FILE where mcpvisor is started"
        }
        Some(Tls::InvalidMessage(_)) => {
            "does the server speak TLS there? if not, the `url` begins with http://"
        }
        _ => "try: curl -v with the same URL",
    }
}

/// Without the number that std puts behind it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
