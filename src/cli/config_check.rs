//! `mcpvisor config check`: from the command line to the findings.

use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::Out;

pub fn run(_: &Given, _: &mut Out) -> Outcome {
    Err(Failure::new(Exit::Failed, "config check: the config is not part of this build"))
}
