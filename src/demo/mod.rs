//! `mcpvisor demo-server`: a real MCP server on stdio, and by its switches the scripted server of all tests.
//!
//! It owns this process: stdin, stdout, stderr and the exit code. It knows nothing of the rest of the house, and
//! speaks the protocol with code of its own, so that the tests put the supervisor before a stranger.
//! One thread reads; what has to wait (`sleep`, `--slow`) waits in one timer thread, started when first needed.

mod children;
mod modern;
mod out;
mod server;
mod switches;
mod timer;
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;
use switches::{Asked, Switches};

/// Runs the server until its stdin ends, or until a switch says otherwise. `args` are those after
/// `demo-server`. Exits with 0, with 2 if the switches make no sense, or with what `--exit-code` says.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    match switches::parse(args) {
        Ok(Asked::Serve(switches)) => serve(switches),
        Ok(Asked::Help) => {
            out::plain(&switches::help());
            ExitCode::SUCCESS
        }
        Ok(Asked::Launch(orders)) => children::launch(&orders),
        Ok(Asked::Sleep(span)) => children::sleep(span),
        Err(message) => {
            out::complain(&format!("demo-server: {message} (see: mcpvisor demo-server --help)"));
            ExitCode::from(2)
        }
    }
}

fn serve(switches: Box<Switches>) -> ExitCode {
    match children::before_serving(&switches) {
        Ok(None) => server::serve(*switches),
        Ok(Some(code)) => code,
        Err(error) => {
            out::complain(&format!("demo-server: {error}"));
            ExitCode::FAILURE
        }
    }
}
