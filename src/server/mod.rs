//! Floor 3: one server, from its entry in the config to its last process.
//!
//! `machine` decides (pure), `supervisor` is the thread that asks it, `switch` decides how one life takes over from
//! another (pure), `life` is the thread of one incarnation, `face` is what it shows of the server,
//! `link` is the byte path that callers use past both. `remote` is the life of a server that runs elsewhere.

pub mod board;
mod body;
pub mod container;
pub mod conversation;
pub mod docker_cli;
pub mod eras;
pub mod face;
pub mod gate;
pub mod handle;
pub mod history;
pub mod host;
mod in_flight;
pub mod journal;
pub mod launch;
pub mod life;
pub mod lines;
pub mod link;
pub mod listening;
pub mod machine;
mod notes;
pub mod orders;
pub mod outbox;
mod process;
pub mod reconnect;
pub mod registry;
pub mod remote;
pub mod report;
pub mod sleep;
pub mod slot;
pub mod starts;
pub mod status;
pub mod supervisor;
pub mod switch;
pub mod tape;
pub mod traces;
mod vessel;
