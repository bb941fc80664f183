//! Floor 5: the command line. One table of commands (`command`) drives parsing, help and suggestions; a running
//! daemon is asked through its control socket (`control`) and nothing else.
//!
//! ```text
//! command   the table           parse     words -> what to run (pure)      help      texts out of the table
//! options   what can be given   output    stdout, width, colour, wrapping  exit      codes and failures
//! control   asks the daemon     rows      servers as lines (pure)          progress  the line while serve starts
//!                               engines   engines as lines (pure)          grid      a table (pure)
//! status upstream tools events reconnect config_plan   ask the daemon and print
//! stdio     joins a client on stdin and stdout to the daemon
//! upstream_edit   one server more or less in the config; config_file: the file changed in place
//! serve cleanup config_check demo_server   hand on to the floors below
//! ```

pub mod cleanup;
pub mod command;
pub mod config_check;
mod config_file;
pub mod config_plan;
pub mod control;
pub mod demo_server;
pub mod engines;
pub mod events;
pub mod exit;
mod grid;
pub mod help;
pub mod options;
pub mod output;
pub mod parse;
pub mod progress;
mod reconnect;
pub mod rows;
pub mod serve;
pub mod status;
pub mod stdio;
pub mod tools;
pub mod upstream;
mod upstream_edit;

use exit::{Exit, Failure};
use options::Given;
use output::{Out, complain};
use parse::Parsed;
use std::process::ExitCode;

/// The whole program. Nothing is set up before the command is known: `serve` and `demo-server` are timed from exec.
pub fn main() -> ExitCode {
    match parse::parse(std::env::args_os().skip(1), &|name| std::env::var_os(name)) {
        Ok(Parsed::Raw(run, args)) => run(args),
        Ok(Parsed::Run(run, given)) => print(|out| run(&given, out)),
        Ok(Parsed::Help(path)) => print(|out| {
            out.text(&help::topic(&path)?);
            Ok(Exit::Ok)
        }),
        Ok(Parsed::Version) => print(|out| help::version(&Given::default(), out)),
        Err(failure) => fail(&failure),
    }
}

fn print(command: impl FnOnce(&mut Out) -> exit::Outcome) -> ExitCode {
    let mut out = Out::stdout();
    let outcome = command(&mut out);
    let written = out.finish();
    match (outcome, written) {
        (Err(failure), _) => fail(&failure),
        (Ok(_), Err(error)) => fail(&Failure::new(Exit::Failed, format!("write to stdout: {error}"))),
        (Ok(exit), Ok(())) => exit.into(),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    complain(failure);
    failure.exit.into()
}
