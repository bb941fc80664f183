//! Addresses to listen on: `HOST:PORT`, and whether only this machine can reach them.

use std::net::IpAddr;

/// An address as the listener takes it, or a hint how to write one. `:8080` means every IPv4 address, as it does
/// for mcpproxy.
pub fn parse(text: &str) -> Result<String, &'static str> {
    const HOW: &str = "write HOST:PORT, like 127.0.0.1:8080";
    if text.contains("://") {
        return Err("write HOST:PORT without a scheme, like 127.0.0.1:8080");
    }
    let (host, port) = text.trim().rsplit_once(':').ok_or(HOW)?;
    let port: u16 = port.parse().map_err(|_| HOW)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Ok(format!("[{v6}]:{port}")),
        Some(_) => Err(HOW),
        None if host.contains(':') => Err("an IPv6 address stands in brackets, like [::1]:8080"),
        None if host.is_empty() => Ok(format!("0.0.0.0:{port}")),
        None if is_host_name(host) => Ok(format!("{host}:{port}")),
        None => Err(HOW),
    }
}

/// Whether an address is reachable from this machine only. What is not an address is not.
pub fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A host name or an IPv4 address.
pub fn is_host_name(host: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty() && host.len() <= 253 && host.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        #[track_caller]
        fn check(text: &str, address: &str, loopback: bool) {
            assert_eq!(parse(text).as_deref(), Ok(address));
            assert_eq!(is_loopback(address), loopback);
        }
        check("127.0.0.1:8080", "127.0.0.1:8080", true);
        check("127.8.9.1:0", "127.8.9.1:0", true);
        check("localhost:80", "localhost:80", true);
        check("[::1]:80", "[::1]:80", true);
        check(":8080", "0.0.0.0:8080", false);
        check("0.0.0.0:80", "0.0.0.0:80", false);
        check("[::]:80", "[::]:80", false);
        check("mcp.example.org:443", "mcp.example.org:443", false);
        check("localhost.example.org:1", "localhost.example.org:1", false);
        for text in [
            "",
            "8080",
            "127.0.0.1",
            "http://127.0.0.1:8080",
            "::1:80",
            "a b:80",
            "x:70000",
            "[x]:1",
            "x/y:1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
