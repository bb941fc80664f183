//! `mcpvisor cleanup`: what earlier or dead instances left, processes and containers, shown, asked about, and ended.

use super::exit::{Exit, Failure, Outcome};
use super::options::{self, Given};
use super::output::{self, Out};
use crate::engine::endpoint::Endpoint;
use crate::reaper::cleanup::{Cleanup, CleanupReport};
use crate::reaper::container_cleanup::Wanted;
use crate::reaper::judge_container::Tool;
use std::io::{self, BufRead, IsTerminal, Write};

/// Exits 8 if an engine could not be asked that was named or that containers are recorded on, else 3 if there was nothing
/// to end, 1 if something could not be ended or was not agreed to.
pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let dir = options::state_dir(&given.options)?;
    let cleanup = Cleanup::open(&dir, wanted(given)?)
        .map_err(|error| Failure::of(Exit::of_code(error.exit_code()), error.fault()))?;
    let found = cleanup.look();
    if given.dry_run || found.is_clean() {
        show(&found, given, out);
        return Ok(match (found.containers.is_blind(), found.is_clean()) {
            (true, _) => Exit::EngineUnavailable,
            (false, true) => Exit::NothingDone,
            (false, false) => Exit::Ok,
        });
    }
    if !given.force {
        if !io::stdin().is_terminal() {
            show(&found, given, out);
            let hint = "--force ends it all, --dry-run only shows it";
            return Err(
                Failure::new(Exit::NothingDone, "nobody can be asked: stdin is no terminal").hint(hint)
            );
        }
        out.text(&found.text(given.verbose));
        if !agreed(&question(found.ended.len(), found.containers.removed.len())) {
            return Err(Failure::new(Exit::Failed, "nothing was ended"));
        }
    }
    let done = cleanup.carry_out();
    show(&done, given, out);
    Ok(match (done.containers.is_blind(), done.is_left()) {
        (true, _) => Exit::EngineUnavailable,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Ok,
    })
}

/// The engine of the environment is looked at if it is there; one that was named has to be.
fn wanted(given: &Given) -> Result<Wanted, Failure> {
    let mut engines = Vec::new();
    match Endpoint::from_env(|name| std::env::var(name).ok()) {
        Ok(endpoint) => engines.push((endpoint, false)),
        Err(fault) => output::complain(&fault),
    }
    for name in &given.engines {
        let endpoint = Endpoint::parse(name).map_err(|fault| Failure::of(Exit::Usage, fault))?;
        engines.push((endpoint, true));
    }
    let tools = [(given.include_mcpmon, Tool::Mcpmon), (given.include_mcpproxy, Tool::Mcpproxy)];
    let tools = tools.into_iter().filter(|(asked, _)| *asked).map(|(_, tool)| tool).collect();
    Ok(Wanted { engines, everyone: given.all, all_hosts: given.all_hosts, tools })
}

fn show(report: &CleanupReport, given: &Given, out: &mut Out) {
    if given.json {
        let body = serde_json::to_string(report).expect("plain data serialises");
        out.body(body.as_bytes());
    } else {
        out.text(&report.text(given.verbose));
    }
}

fn question(processes: usize, containers: usize) -> String {
    let these = |count: usize, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("this {one}")),
        _ => Some(format!("these {count} {many}")),
    };
    let end = these(processes, "process", "processes").map(|what| format!("end {what}"));
    let remove = these(containers, "container", "containers").map(|what| format!("remove {what}"));
    let what = [end, remove].into_iter().flatten().collect::<Vec<String>>().join(" and ");
    let (first, rest) = what.split_at(1);
    format!("{}{rest}?", first.to_uppercase())
}

fn agreed(question: &str) -> bool {
    // The question goes where the answer comes from: the terminal.
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    // Nothing that can be read is no agreement.
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        assert_eq!(question(1, 0), "End this process?");
        assert_eq!(question(3, 1), "End these 3 processes and remove this container?");
        assert_eq!(question(0, 2), "Remove these 2 containers?");
    }
}
