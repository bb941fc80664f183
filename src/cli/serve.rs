//! `mcpvisor serve`: from the command line to the daemon.

use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::Out;

pub fn run(_: &Given, _: &mut Out) -> Outcome {
    Err(Failure::new(Exit::Failed, "serve: the daemon is not part of this build"))
}
