//! A remote server as one life sees it: every variable resolved.

use crate::config::Protocol;
use crate::http::url::Url;
use std::fmt;
use std::time::Duration;

#[derive(Clone)]
pub struct Upstream {
    pub url: Url,
    /// Sent with every request; the values are secrets.
    pub headers: Vec<(String, String)>,
    pub protocol: Protocol,
    /// How long it may take to greet us.
    pub patience: Duration,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Upstream").field("url", &self.url).field("headers", &names).finish_non_exhaustive()
    }
}
