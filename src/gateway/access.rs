//! Who may speak to the endpoint at all: Host and Origin (DNS rebinding), and the token if there is one.

use super::http::Peer;
use super::http::Request;
use crate::base::fault::{Fault, FaultKind};
use ring::digest;
use std::net::{IpAddr, SocketAddr};

/// Fixed when the daemon starts.
#[derive(Clone, Default)]
pub struct Access {
    /// Host names beside the loopback ones, lower case.
    pub trusted_hosts: Vec<String>,
    /// The token that every request must carry, if there is one.
    pub token: Option<String>,
}

/// Why a request is turned away: an HTTP status and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub fault: Fault,
}

impl Access {
    /// `Ok` if a listener on `address` is safe to open.
    pub fn may_bind(&self, address: SocketAddr) -> Result<(), Fault> {
        if address.ip().is_loopback() || self.token.is_some() {
            return Ok(());
        }
        let message = format!("listen on {address}: everybody who can reach it could run your tools");
        Err(Fault::new(FaultKind::BadConfig, message)
            .hint("set \"api_key\" in the config (or MCPVISOR_API_KEY), or listen on 127.0.0.1"))
    }

    /// The headers of one request from TCP.
    pub fn check(
        &self,
        host: Option<&str>,
        origin: Option<&str>,
        authorization: Option<&str>,
        api_key: Option<&str>,
    ) -> Result<(), Refused> {
        let host = host.unwrap_or_default();
        // An address is no name that somebody could rebind; it is good enough where a token is needed as well.
        let by_address = self.token.is_some() && ip(host_name(host)).is_some();
        if !by_address && !self.is_trusted(host_name(host)) {
            let message =
                format!("the Host `{}` is not one of this endpoint", crate::base::text::shorten(host, 80));
            return Err(refused(403, message, "name it in \"trusted_hosts\" if it is yours"));
        }
        if let Some(origin) = origin {
            let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !name.is_some_and(|name| self.is_trusted(host_name(name))) {
                let shown = crate::base::text::shorten(origin, 80);
                let message = format!("the Origin `{shown}` may not use this endpoint");
                return Err(refused(403, message, "name its host in \"trusted_hosts\" if it is yours"));
            }
        }
        let Some(token) = &self.token else { return Ok(()) };
        let bearer = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        match bearer.or(api_key) {
            Some(given) if same(given.trim().as_bytes(), token.as_bytes()) => Ok(()),
            given => {
                let message = if given.is_some() { "the token is wrong" } else { "a token is needed" };
                Err(refused(401, message.to_owned(), "send `Authorization: Bearer <api_key>`"))
            }
        }
    }

    fn is_trusted(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case("localhost")
            || ip(name).is_some_and(|ip| ip.is_loopback())
            || self.trusted_hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }
}

/// Who a client is, as far as can be told: the way that it came, its host, and what it showed. Two that are the same in
/// all of it may be one.
pub fn principal(request: &Request) -> String {
    let way = match request.peer {
        Peer::Unix => "unix".to_owned(),
        Peer::Tcp(address) => match address.ip().to_canonical() {
            // One program may come by either address.
            ip if ip.is_loopback() => "local".to_owned(),
            ip => ip.to_string(),
        },
    };
    let shown = request.header("authorization").or(request.header("x-api-key")).unwrap_or_default();
    let shown = digest::digest(&digest::SHA256, shown.as_bytes());
    let shown: String = shown.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{way} {shown}")
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn refused(status: u16, message: String, hint: &str) -> Refused {
    Refused { status, fault: Fault::new(FaultKind::BadConfig, message).hint(hint) }
}

/// `host:port`, `[::1]:port` or `host` without the port.
fn host_name(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins() {
        let access = Access { trusted_hosts: vec!["mcp.example".to_owned()], token: None };
        #[track_caller]
        fn check(access: &Access, host: &str, origin: Option<&str>, status: Option<u16>) {
            let got = access.check(Some(host), origin, None, None);
            assert_eq!(got.err().map(|refused| refused.status), status, "{host} {origin:?}");
        }
        for host in
            ["localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "LocalHost", "mcp.example:80"]
        {
            check(&access, host, None, None);
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080", "[::2]"]
        {
            check(&access, host, None, Some(403));
        }
        check(&access, "localhost", Some("http://localhost:3000"), None);
        check(&access, "localhost", Some("https://mcp.example"), None);
        for origin in ["http://evil.example", "null", "", "http://localhost@evil.example", "file://localhost"]
        {
            check(&access, "localhost", Some(origin), Some(403));
        }
    }

    #[test]
    fn tokens() {
        let access = Access { trusted_hosts: vec![], token: Some("secret".to_owned()) };
        let status = |authorization, key| {
            access.check(Some("localhost"), None, authorization, key).err().map(|refused| refused.status)
        };
        assert_eq!(status(None, None), Some(401));
        assert_eq!(status(Some("Bearer secre"), None), Some(401));
        assert_eq!(status(Some("Bearer secret"), None), None);
        assert_eq!(status(None, Some("secret")), None);
    }

    #[test]
    fn binding() {
        let open = Access::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(open.may_bind(address("127.0.0.1:8080")).is_ok());
        assert!(open.may_bind(address("[::1]:8080")).is_ok());
        assert!(open.may_bind(address("0.0.0.0:8080")).unwrap_err().hint.contains("api_key"));
        let closed = Access { token: Some("x".to_owned()), ..Access::default() };
        assert!(closed.may_bind(address("0.0.0.0:8080")).is_ok());
    }
}
