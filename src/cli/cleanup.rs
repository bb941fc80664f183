//! `mcpvisor cleanup`: what earlier or dead instances left, shown, asked about, and ended.

use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::Out;
use super::serve::of;
use crate::daemon::setup;
use crate::reaper::cleanup::{Cleanup, CleanupReport};
use std::io::{self, BufRead, IsTerminal, Write};

/// Exits 3 if there was nothing to end, 1 if something could not be ended or was not agreed to.
pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let failed =
        |fault: crate::base::fault::Fault| Failure::new(Exit::Failed, fault.message).hint(fault.hint);
    let data_dir = data_dir(given);
    let dir = setup::state_dir(&of(&given.options), data_dir.as_deref()).map_err(failed)?;
    let cleanup = Cleanup::open(&dir, given.all).map_err(|error| {
        let exit =
            Exit::ALL.into_iter().find(|exit| exit.code() == error.exit_code()).unwrap_or(Exit::Failed);
        let fault = error.fault();
        Failure::new(exit, fault.message).hint(fault.hint)
    })?;
    let found = cleanup.look();
    if given.dry_run || found.is_clean() {
        show(&found, given, out);
        return Ok(if found.is_clean() { Exit::NothingDone } else { Exit::Ok });
    }
    if !given.force {
        if !io::stdin().is_terminal() {
            show(&found, given, out);
            let hint = "--force ends them, --dry-run only shows them";
            return Err(Failure::new(Exit::Failed, "nobody can be asked: stdin is no terminal").hint(hint));
        }
        out.text(&found.text(given.verbose));
        if !agreed(found.ended.len()) {
            return Err(Failure::new(Exit::Failed, "nothing was ended"));
        }
    }
    let done = cleanup.carry_out();
    show(&done, given, out);
    Ok(if done.left.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn show(report: &CleanupReport, given: &Given, out: &mut Out) {
    if given.json {
        let body = serde_json::to_string(report).expect("plain data serialises");
        out.body(body.as_bytes());
    } else {
        out.text(&report.text(given.verbose));
    }
}

fn agreed(count: usize) -> bool {
    let plural = if count == 1 { "this process" } else { "these processes" };
    // The question goes where the answer comes from: the terminal.
    let _ = write!(io::stderr(), "End {plural}? [y/N] ");
    let mut answer = String::new();
    // Nothing that can be read is no agreement.
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}

/// The config's word on where the state is, if there is a config that can be read.
pub fn data_dir(given: &Given) -> Option<String> {
    let (path, _) = setup::find(&of(&given.options)).ok()?;
    let text = setup::read_file(&path?).ok()?;
    crate::config::parse(&text, "").0.data_dir
}
