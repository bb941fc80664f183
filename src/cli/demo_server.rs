//! `mcpvisor demo-server`: all arguments go to the built-in server.

use std::ffi::OsString;
use std::process::ExitCode;

pub fn run(args: Vec<OsString>) -> ExitCode {
    crate::demo::run(args.into_iter())
}
