//! `mcpvisor demo-server`: all arguments go to the built-in server.

use super::exit::{Exit, Failure};
use super::output::complain;
use std::ffi::OsString;
use std::process::ExitCode;

pub fn run(_: Vec<OsString>) -> ExitCode {
    complain(&Failure::new(Exit::Failed, "demo-server: the built-in server is not part of this build"));
    Exit::Failed.into()
}
