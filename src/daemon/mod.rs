//! Floor 4: the daemon put together: start order, the main loop, shutdown order.

pub mod containers;
pub mod fleet;
pub mod hook;
pub mod isolate;
pub mod launch;
pub mod listen;
pub mod logging;
pub mod main_loop;
pub mod notices;
pub mod notify;
pub mod parts;
pub mod reload;
pub mod remote;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod setup;
pub mod shutdown;
pub mod watch;
