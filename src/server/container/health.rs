//! Whether a container is well, as far as it can be seen from outside.

use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::engine::answers::Inspected;
use crate::engine::cause::cause;
use crate::engine::endpoint::Endpoint;
use crate::engine::error::EngineError;
use crate::server::vessel::News;

/// Running, not paused, restarting or dead, and not unhealthy by its own check.
pub(in crate::server) fn news(
    name: &ServerName,
    engine: &Endpoint,
    seen: Result<Box<Inspected>, EngineError>,
) -> News {
    let not_well =
        |kind, what: &str| News::Useless(Fault::new(kind, format!("the container of {name} {what}")));
    match seen {
        // An engine that does not answer, or says that it is paused, says nothing about the server, which is asked itself.
        Err(error) if cause(&error).is_some() => News::Well,
        Err(error) => News::Useless(error.fault(engine)),
        Ok(seen) if seen.paused => News::Paused,
        Ok(seen) if seen.dead || seen.restarting || !seen.running => {
            not_well(FaultKind::Exited, &format!("is {}", seen.status))
        }
        Ok(seen) if seen.health.as_deref() == Some("unhealthy") => {
            not_well(FaultKind::Unhealthy, "is unhealthy, says its own health check")
        }
        Ok(_) => News::Well,
    }
}
