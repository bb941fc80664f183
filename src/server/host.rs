//! What may ail the host as a whole. A server that fails meanwhile is not blamed: it is one incident, and not one of
//! every server.

use crate::base::fault::{Fault, FaultKind};
use crate::store::{Standing, Store};
use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;
use std::path::PathBuf;

/// Looked at when a server fails, and when somebody wants the status. Nothing watches it.
pub struct Host {
    /// The state directory.
    dir: PathBuf,
    store: Store,
    ill: Mutex<bool>,
}

impl Host {
    pub fn new(dir: PathBuf, store: Store) -> Host {
        Host { dir, store, ill: Mutex::new(false) }
    }

    pub fn trouble(&self) -> Option<Fault> {
        let shown = self.dir.display();
        let meanwhile = "make room; until then no server's failures are counted";
        let full = statvfs(&self.dir).is_ok_and(|disk| disk.blocks() > 0 && disk.blocks_available() == 0);
        if full {
            let message = format!("the disk of {shown} is full");
            return Some(Fault::new(FaultKind::HostResources, message).hint(meanwhile));
        }
        let failing = self.store.trouble().filter(|trouble| trouble.state == Standing::Failing)?;
        let message = format!("the state database cannot be written: {}", failing.fault.message);
        Some(Fault::new(FaultKind::HostResources, message).hint(meanwhile))
    }

    /// The same, said in the log when it begins and when it is over.
    pub fn is_ill(&self) -> bool {
        let trouble = self.trouble();
        let mut ill = self.ill.lock();
        match &trouble {
            Some(fault) if !*ill => log::error!("{fault}"),
            None if *ill => log::info!("the host is well again: failures of servers are counted"),
            Some(_) | None => (),
        }
        *ill = trouble.is_some();
        *ill
    }
}
