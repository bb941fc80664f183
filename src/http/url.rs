//! The address of a remote server: what a person wrote, taken apart, and references resolved against it (RFC 3986).
//!
//! Only `http` and `https`, with a host. What may be a secret (the query) is never shown.

use std::fmt;
use ureq::http::Uri;

/// An absolute URL without user information or fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
    /// Begins with `/`.
    path: String,
    query: Option<String>,
}

impl Url {
    /// `Err` says what is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        if text.contains(char::is_whitespace) {
            return Err("a URL holds no spaces");
        }
        let uri: Uri = text.parse().map_err(|_| "this is not a URL")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err("only http:// and https:// are spoken"),
            None => return Err("the URL has no scheme, like https://"),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("credentials in a URL are not supported: put them into `headers`");
        }
        if authority.host().is_empty() {
            return Err("the URL has no host");
        }
        let rest = authority.as_str().strip_prefix(authority.host());
        // The parser takes brackets anywhere, and what is behind them for nothing.
        let bare = authority.host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let odd = bare.unwrap_or(authority.host()).contains(['[', ']']);
        if odd || rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(':')) {
            return Err("the host is neither a name nor an address");
        }
        let port = match rest {
            None | Some("" | ":") => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(_) => {
                authority.port_u16().filter(|port| *port > 0).ok_or("the port is not a number up to 65535")?
            }
        };
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Ok(Url {
            https,
            host: authority.host().to_ascii_lowercase(),
            port,
            path: path.to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// What `reference` means on this page: an absolute URL, or a part of one.
    pub fn join(&self, reference: &str) -> Result<Url, &'static str> {
        let reference = reference.split('#').next().unwrap_or_default();
        let is_scheme = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if reference.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            return Url::parse(&format!("{}:{reference}", self.scheme()));
        }
        if reference.contains(char::is_whitespace) || !reference.is_ascii() {
            return Err("a URL holds no spaces");
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (reference, None),
        };
        let mut url = Url { query, ..self.clone() };
        if path.is_empty() {
            url.query = url.query.or_else(|| self.query.clone());
        } else if path.starts_with('/') {
            url.path = without_dots(path);
        } else {
            let folder = &self.path[..=self.path.rfind('/').unwrap_or(0)];
            url.path = without_dots(&format!("{folder}{path}"));
        }
        Ok(url)
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    /// In lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether both are the same scheme, host and port.
    pub fn same_origin(&self, other: &Url) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// Whether the host is this machine itself.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// All of it, to ask for.
    pub fn full(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{self}{query}")
    }
}

/// Without the query.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.host)?;
        if self.port != if self.https { 443 } else { 80 } {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A path without `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut folder = false;
    for part in path.split('/').skip(1) {
        folder = matches!(part, "." | "..");
        match part {
            "." => (),
            ".." => drop(out.pop()),
            part => out.push(part),
        }
    }
    let end = if folder { "/" } else { "" };
    format!("/{}{}", out.join("/"), if out.is_empty() { "" } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            let found = Url::parse(text);
            assert_eq!(found.as_ref().map(Url::full).map_err(|why| *why), expected.map(str::to_owned));
        }
        check("http://h", Ok("http://h/"));
        check("HTTPS://Example.ORG:443/Mcp?k=v#x", Ok("https://example.org/Mcp?k=v"));
        check("http://[::1]:8080/mcp", Ok("http://[::1]:8080/mcp"));
        check("http://h:/x", Ok("http://h/x"));
        check("example.org/mcp", Err("this is not a URL"));
        check("/mcp", Err("the URL has no scheme, like https://"));
        check("ftp://h/", Err("only http:// and https:// are spoken"));
        check("http://u:p@h/", Err("credentials in a URL are not supported: put them into `headers`"));
        for host in ["b[::1]", "[::1]x:1", "b[::1]x:1", "[[::1]]"] {
            assert!(Url::parse(&format!("http://{host}/")).is_err(), "{host}");
        }
        check("http://[::1]x:1/", Err("the host is neither a name nor an address"));
        check("http://h:99999/", Err("the port is not a number up to 65535"));
        check("http://h/a b", Err("a URL holds no spaces"));
        check("", Err("this is not a URL"));
    }

    #[test]
    fn the_query_does_not_show() {
        let url = Url::parse("https://h:8443/mcp?token=s3cr3t").unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://h:8443/mcp https://h:8443/mcp");
    }

    #[test]
    fn references() {
        #[track_caller]
        fn check(reference: &str, expected: &str) {
            let base = Url::parse("http://h:1/a/sse?x=1").unwrap();
            assert_eq!(base.join(reference).unwrap().full(), expected);
        }
        check("/message?sessionId=1", "http://h:1/message?sessionId=1");
        check("messages/?session_id=2", "http://h:1/a/messages/?session_id=2");
        check("../m", "http://h:1/m");
        check("../../..", "http://h:1/");
        check("./m/.", "http://h:1/a/m/");
        check("?s=3", "http://h:1/a/sse?s=3");
        check("", "http://h:1/a/sse?x=1");
        check("http://h:1/m#f", "http://h:1/m");
        check("/m?to=http://other/", "http://h:1/m?to=http://other/");
        check("//other/m", "http://other/m");
    }

    #[test]
    fn origins() {
        let check = |a: &str, b: &str, same: bool| {
            assert_eq!(Url::parse(a).unwrap().same_origin(&Url::parse(b).unwrap()), same, "{a} {b}");
        };
        check("http://h/a", "http://H:80/b", true);
        check("http://h/a", "https://h/a", false);
        check("http://h:1/a", "http://h:2/a", false);
        check("http://h/a", "http://h.evil/a", false);
        let loopback = |text: &str| Url::parse(text).unwrap().is_loopback();
        assert!(
            loopback("http://localhost:1/") && loopback("http://127.9.9.9/") && loopback("http://[::1]/")
        );
        assert!(!loopback("http://example.org/") && !loopback("http://10.0.0.1/"));
    }
}
