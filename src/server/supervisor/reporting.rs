//! What is kept of failed tries, and written down when a server is given up.

use super::Supervisor;
use crate::base::text;
use crate::base::time::{Time, Wall};
use crate::server::machine;
use crate::server::report::{self, Attempt, Findings};
use crate::sys::clock;

impl Supervisor {
    /// A try has failed just now.
    pub(super) fn count_attempt(&mut self) {
        if let Some((fault, at)) = &self.last_error {
            let life = self.attempt_of.take();
            self.attempts.push(Attempt { at: at.rfc3339(), life, fault: fault.clone() });
        }
    }

    /// It was given up: by the log's thread, which may wait for the disk.
    pub(super) fn write_report(&self) {
        if self.attempts.is_empty() {
            // By an earlier run, and nothing is known that its report does not have.
            return;
        }
        let Some((reports, log)) = self.habits.reports.clone().zip(self.server.log()) else { return };
        let (findings, at) = (self.findings(&reports.runs), clock::wall());
        let (server, file) = (self.server.clone(), log.path().to_owned());
        server.reported(None);
        let taken = log.logs().errand(move || {
            let name = &server.name;
            match report::write(&findings, &server.slug, Some(&file), &reports, at) {
                Ok(path) => {
                    log::info!("{name}: report: {}", path.display());
                    server.reported(Some(path));
                }
                Err(error) => {
                    log::warn!("{name}: its report in {} is lost: {error}", reports.dir.display());
                }
            }
        });
        if !taken {
            log::warn!("{}: its report is lost: too many wait to be written", self.server.name);
        }
    }

    /// It was given up by an earlier run: which wrote one, perhaps.
    pub(super) fn find_report(&self) {
        if self.last_error.is_none() {
            return;
        }
        let Some((reports, log)) = self.habits.reports.clone().zip(self.server.log()) else { return };
        let server = self.server.clone();
        // Without it only the name of the file is missing.
        log.logs().errand(move || server.reported(report::newest(&reports.dir, &server.slug)));
    }

    fn findings(&self, runs: &str) -> Findings {
        let name = &self.server.name;
        let now = clock::now();
        let machine: &machine::Server = &self.machine;
        let reason = self.reason();
        let hint = reason.as_ref().map(|reason| reason.hint.clone()).filter(|hint| !hint.is_empty());
        let mut what_to_do: Vec<String> = hint.into_iter().collect();
        what_to_do.push(format!("its log says more: mcpvisor upstream logs {name}"));
        what_to_do.push(format!("when it is mended: mcpvisor upstream restart {name}, or change its entry"));
        what_to_do.push(match machine.next_retry() {
            Some(at) => format!("else it is tried once in {}", text::span(at.since(now))),
            None => "it is not tried again by itself (auto_disable.probation is off)".to_owned(),
        });
        let ahead = |at: Time| Wall(clock::wall().0 + at.since(now).as_millis() as u64);
        Findings {
            mcpvisor: env!("CARGO_PKG_VERSION"),
            server: name.to_string(),
            at: clock::wall().rfc3339(),
            state: machine.state(),
            reason,
            runs: self.server.hide(runs).into_owned(),
            failures: machine.failures(),
            consecutive_failures: machine.consecutive_failures(),
            next_try_at: machine.next_retry().map(|at| ahead(at).rfc3339()),
            attempts: self.attempts.iter().cloned().collect(),
            what_to_do,
            tape: self.tape.print().lines().map(str::to_owned).collect(),
        }
    }
}
