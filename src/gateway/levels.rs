//! How loud legacy servers were told to be for requests of the modern era, which say their level one by one. A server
//! is told once per life and level, and what it says is filtered here.

use crate::base::id::{Life, ServerName};
use crate::mcp::features::Level;
use crate::server::handle::Server;
use crate::server::link::Link;
use crate::sys::clock;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// One entry per server.
#[derive(Debug, Default)]
pub struct Levels(Mutex<BTreeMap<ServerName, (Life, Level)>>);

impl Levels {
    /// Sees to it that this life says at least what `level` wants.
    pub fn need(&self, server: &Server, link: &Link, level: Level) {
        let mut told = self.0.lock();
        let enough = told.get(&server.name).is_some_and(|(life, told)| *life == link.life && *told <= level);
        let logs = || server.known().greeting.is_some_and(|greeting| greeting.has("logging"));
        if !enough && logs() {
            told.insert(server.name.clone(), (link.life, level));
            link.tell_of("logging/setLevel", format!("{{\"level\":\"{}\"}}", level.name()), clock::now());
        }
    }

    /// Forgets servers that there are no more.
    pub fn keep(&self, is_named: impl Fn(&ServerName) -> bool) {
        self.0.lock().retain(|server, _| is_named(server));
    }

    /// What this life was told, if it was.
    pub fn told(&self, server: &ServerName, life: Life) -> Option<Level> {
        self.0.lock().get(server).filter(|(of, _)| *of == life).map(|(_, level)| *level)
    }
}
