//! The settings of the config that a running daemon takes over at once, beside those of its servers.

use super::notify::Notify;
use crate::base::fault::{Fault, FaultKind};
use crate::base::finding::{Finding, Severity};
use crate::config::Config;
use crate::gateway::access::Access;
use crate::gateway::methods::ListWait;
use parking_lot::RwLock;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who may use the endpoint, as it is now; clones are the same.
pub type Gatekeeper = Arc<RwLock<Arc<Access>>>;

/// What the parts of the daemon read of it.
pub struct Settings {
    /// Nothing where there is no endpoint.
    pub endpoint: Option<(SocketAddr, Gatekeeper)>,
    pub list_wait: ListWait,
    pub notify: Notify,
}

impl Settings {
    /// Takes over what the config says, and returns what of it cannot be.
    pub fn follow(&self, config: &Config) -> Vec<Finding> {
        log::set_max_level(config.log_level);
        self.list_wait.set(config.list_wait);
        if let Err(error) = self.notify.set(config.hooks.on_event.as_ref()) {
            log::error!("start the thread of hooks.on_event: {error}; it is not run");
        }
        let Some((address, gatekeeper)) = &self.endpoint else { return Vec::new() };
        let opened = access(config).and_then(|access| access.may_bind(*address).map(|()| access));
        match opened {
            Ok(access) => {
                *gatekeeper.write() = Arc::new(access);
                Vec::new()
            }
            Err(fault) => vec![refused(fault)],
        }
    }
}

/// Who may use the endpoint. A token that cannot be read is an error: what it protects would be open.
pub fn access(config: &Config) -> Result<Access, Fault> {
    let lookup = |name: &str| std::env::var(name).ok();
    let own = lookup("MCPVISOR_API_KEY").filter(|key| !key.is_empty());
    let token = match (own, &config.api_key) {
        (Some(own), _) => Some(own),
        (None, Some(template)) => Some(template.resolve(lookup)?),
        (None, None) => None,
    };
    Ok(Access { trusted_hosts: config.trusted_hosts.clone(), token })
}

fn refused(fault: Fault) -> Finding {
    let Fault { kind: _, message, hint, retry_in: _ } = fault;
    Finding {
        severity: Severity::Error,
        file: String::new(),
        line: 0,
        column: 0,
        key: "api_key".to_owned(),
        server: None,
        message: format!("{message}; who may use the endpoint stays as it was"),
        hint,
    }
}

/// A server that could not be started for a reason of the host.
pub fn not_started(server: &str, fault: Fault) -> Finding {
    debug_assert_eq!(fault.kind, FaultKind::HostResources);
    let Fault { kind: _, message, hint, retry_in: _ } = fault;
    Finding {
        severity: Severity::Error,
        file: String::new(),
        line: 0,
        column: 0,
        key: format!("mcpServers.{server}"),
        server: Some(server.to_owned()),
        message,
        hint,
    }
}
