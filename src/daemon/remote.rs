//! From a `url` entry to what its life speaks to: variables resolved, once more, for every life.

use crate::base::fault::{Fault, FaultKind};
use crate::config::{self, Config, Protocol, ServerConfig, Template};
use crate::http::url::Url;
use crate::server::launch::Launch;
use crate::server::remote::Upstream;
use crate::server::supervisor::Plan;
use std::time::Duration;

/// How the lives of this server are made, if it runs elsewhere.
pub fn plan(config: &Config, entry: &ServerConfig) -> Option<Box<Plan>> {
    let config::Launch::Remote { url, headers, protocol } = &entry.launch else { return None };
    let (url, headers, protocol) = (url.clone(), headers.clone(), *protocol);
    let patience = config.connection_timeout(entry);
    Some(Box::new(move |_| upstream(&url, &headers, protocol, patience).map(Launch::Remote)))
}

/// `patience`: for the greeting.
fn upstream(
    url: &Template,
    headers: &[(String, Template)],
    protocol: Protocol,
    patience: Duration,
) -> Result<Upstream, Fault> {
    let lookup = |name: &str| std::env::var(name).ok();
    let bad = |what: &str, why: &str| {
        Fault::new(FaultKind::BadConfig, format!("{what}, with its variables: {why}"))
    };
    let url = Url::parse(&url.resolve(lookup)?).map_err(|why| bad("`url`", why))?;
    let mut resolved = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let value = value.resolve(lookup)?;
        if !config::is_header_value(&value) {
            return Err(bad(&format!("`headers.{name}`"), "line breaks or control characters"));
        }
        resolved.push((name.clone(), value));
    }
    Ok(Upstream { url, headers: resolved, protocol, patience })
}
