//! `mcpvisor cleanup`: from the command line to the reaper.

use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::Out;

pub fn run(_: &Given, _: &mut Out) -> Outcome {
    Err(Failure::new(Exit::Failed, "cleanup: the reaper is not part of this build"))
}
