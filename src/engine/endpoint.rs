//! Where an engine listens, and its canonical name.

use crate::base::fault::{Fault, FaultKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// The engine of a host that nobody configured.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The port of an engine without TLS when none is named.
const DEFAULT_PORT: u16 = 2375;

/// Written as `unix:///path` or `tcp://host:port`, also in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`; an IPv6 address stands in brackets.
    Tcp(String),
}

impl Endpoint {
    /// Takes what `DOCKER_HOST` and `-H` take, as far as it is spoken here: without TLS and ssh. A plain absolute path
    /// is a socket.
    pub fn parse(text: &str) -> Result<Endpoint, Fault> {
        let text = text.trim();
        if text.starts_with('/') {
            return unix(text);
        }
        match text.split_once("://") {
            Some(("unix", "")) => Ok(Endpoint::Unix(DEFAULT_SOCKET.into())),
            Some(("unix", path)) => unix(path),
            Some(("tcp" | "http", address)) => tcp(address),
            Some((scheme @ ("ssh" | "https" | "npipe" | "fd"), _)) => {
                Err(Fault::new(FaultKind::NotSupported, format!("engine {text}: {scheme}:// is not spoken"))
                    .hint("name a unix:// or tcp:// endpoint; ssh can forward a socket: ssh -L /path/docker.sock:/var/run/docker.sock HOST"))
            }
            Some((scheme, _)) => Err(bad(text, &format!("`{scheme}://` is not known"))),
            None => Err(bad(text, "it has no scheme")),
        }
    }

    /// What `DOCKER_HOST` says; without it the default socket.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Endpoint, Fault> {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let Some(host) = set("DOCKER_HOST") else { return Ok(Endpoint::Unix(DEFAULT_SOCKET.into())) };
        let endpoint = Endpoint::parse(&host)?;
        if matches!(endpoint, Endpoint::Tcp(_)) && set("DOCKER_TLS_VERIFY").is_some() {
            return Err(Fault::new(FaultKind::NotSupported, format!("engine {host}: TLS is not spoken"))
                .hint("DOCKER_TLS_VERIFY asks for it; name a unix:// or a plain tcp:// endpoint"));
        }
        Ok(endpoint)
    }

    /// For the `Host` header.
    pub(super) fn host(&self) -> &str {
        match self {
            Endpoint::Unix(_) => "docker",
            Endpoint::Tcp(address) => address,
        }
    }
}

fn unix(path: &str) -> Result<Endpoint, Fault> {
    if !path.starts_with('/') {
        return Err(bad(path, "a socket is named by its absolute path"));
    }
    // Doubled slashes and `.` only: `..` may lead through a symbolic link.
    let plain = Path::new(path).components().filter(|part| *part != Component::CurDir);
    Ok(Endpoint::Unix(plain.collect()))
}

fn tcp(address: &str) -> Result<Endpoint, Fault> {
    let address = address.trim_end_matches('/');
    let is_plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'@');
    if !is_plain(address) {
        return Err(bad(address, "it is no host:port"));
    }
    let after_host = address.rfind(']').unwrap_or(0);
    let (host, port) = match address[after_host..].rfind(':') {
        Some(colon) => {
            let (host, port) = address.split_at(after_host + colon);
            (host, port[1..].parse::<u16>().map_err(|_| bad(address, "its port is no number"))?)
        }
        None => (address, DEFAULT_PORT),
    };
    if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
        return Err(bad(address, "it is no host:port"));
    }
    Ok(Endpoint::Tcp(format!("{}:{port}", host.to_ascii_lowercase())))
}

fn bad(text: &str, why: &str) -> Fault {
    Fault::new(FaultKind::BadConfig, format!("engine {text}: {why}"))
        .hint("write unix:///var/run/docker.sock or tcp://127.0.0.1:2375")
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Endpoint, D::Error> {
        let text = String::deserialize(from)?;
        Endpoint::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, FaultKind>) {
        let parsed = Endpoint::parse(text);
        let shown = parsed.as_ref().map(Endpoint::to_string).map_err(|fault| fault.kind);
        assert_eq!(shown, expected.map(ToOwned::to_owned), "{text}");
        if let Ok(endpoint) = parsed {
            assert_eq!(Endpoint::parse(&endpoint.to_string()).unwrap(), endpoint);
            let json = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        }
    }

    #[test]
    fn parsed() {
        use FaultKind::{BadConfig, NotSupported};
        check("unix:///var/run/docker.sock", Ok("unix:///var/run/docker.sock"));
        check("unix://", Ok("unix:///var/run/docker.sock"));
        check(" unix:////run//user/./1000/podman.sock ", Ok("unix:///run/user/1000/podman.sock"));
        check("/run/docker.sock", Ok("unix:///run/docker.sock"));
        check("unix://relative.sock", Err(BadConfig));
        check("tcp://127.0.0.1:2375", Ok("tcp://127.0.0.1:2375"));
        check("tcp://Example.org", Ok("tcp://example.org:2375"));
        check("http://[::1]:99/", Ok("tcp://[::1]:99"));
        check("tcp://[::1]", Ok("tcp://[::1]:2375"));
        check("tcp://::1", Err(BadConfig));
        check("tcp://", Err(BadConfig));
        check("tcp://:2375", Err(BadConfig));
        check("tcp://host:port", Err(BadConfig));
        check("tcp://user@host:1", Err(BadConfig));
        check("ssh://me@host", Err(NotSupported));
        check("https://host:2376", Err(NotSupported));
        check("docker.sock", Err(BadConfig));
        check("gopher://x", Err(BadConfig));
    }

    #[test]
    fn from_the_environment() {
        let from = |pairs: &[(&str, &str)]| {
            let lookup =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            Endpoint::from_env(lookup).map(|endpoint| endpoint.to_string()).map_err(|fault| fault.kind)
        };
        assert_eq!(from(&[]), Ok("unix:///var/run/docker.sock".to_owned()));
        assert_eq!(from(&[("DOCKER_HOST", "")]), Ok("unix:///var/run/docker.sock".to_owned()));
        assert_eq!(from(&[("DOCKER_HOST", "tcp://a:1")]), Ok("tcp://a:1".to_owned()));
        let tls = [("DOCKER_HOST", "tcp://a:1"), ("DOCKER_TLS_VERIFY", "1")];
        assert_eq!(from(&tls), Err(FaultKind::NotSupported));
    }
}
