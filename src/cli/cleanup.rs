//! `mcpvisor cleanup`: what earlier or dead instances left, shown, asked about, and ended.

use super::exit::{Exit, Failure, Outcome};
use super::options::{self, Given};
use super::output::Out;
use crate::reaper::cleanup::{Cleanup, CleanupReport};
use std::io::{self, BufRead, IsTerminal, Write};

/// Exits 3 if there was nothing to end, 1 if something could not be ended or was not agreed to.
pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let dir = options::state_dir(&given.options)?;
    let cleanup = Cleanup::open(&dir, given.all)
        .map_err(|error| Failure::of(Exit::of_code(error.exit_code()), error.fault()))?;
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
