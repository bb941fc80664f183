//! What a reading of the config has to say: findings, and the first reason why the server being read cannot
//! run. Bounded, and in the order of the file at the end.

use super::place::Places;
use crate::base::fault::{Fault, FaultKind};
use crate::base::finding::{Finding, Severity};
use crate::base::limits::FINDINGS_MAX;
use std::collections::BTreeSet;

/// A place in the file that something can be said about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The byte.
    pub at: usize,
    /// The path of keys: `mcpServers.git.args[0]`; empty for the file as a whole.
    pub key: String,
}

impl Spot {
    /// The file as a whole, at a byte of it.
    pub fn file(at: usize) -> Spot {
        Spot { at, key: String::new() }
    }
}

/// Collects while one file is read.
pub struct Notes<'t> {
    file: &'t str,
    places: Places<'t>,
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
    server: Option<String>,
    problem: Option<Fault>,
    /// mcpproxy's runtime facts: where the first was, and which there are.
    facts: Option<Spot>,
    fact_names: BTreeSet<&'static str>,
}

impl<'t> Notes<'t> {
    pub fn new(text: &'t str, file: &'t str) -> Notes<'t> {
        Notes {
            file,
            places: Places::new(text),
            findings: Vec::new(),
            errors: 0,
            warnings: 0,
            server: None,
            problem: None,
            facts: None,
            fact_names: BTreeSet::new(),
        }
    }

    pub fn position(&self, at: usize) -> (usize, usize) {
        self.places.position(at)
    }

    /// From here on findings are about this server.
    pub fn begin_server(&mut self, name: &str) {
        self.server = Some(name.to_owned());
        self.problem = None;
    }

    /// The first reason why the server that was begun cannot run, if there is one.
    pub fn end_server(&mut self) -> Option<Fault> {
        self.server = None;
        self.take_problem()
    }

    /// The first problem since a server was begun, or since this was asked: of a section that concerns a server only
    /// under conditions.
    pub fn take_problem(&mut self) -> Option<Fault> {
        self.problem.take()
    }

    /// A problem that does concern the server, if it has no earlier one.
    pub fn hold_problem(&mut self, problem: Option<Fault>) {
        self.problem = self.problem.take().or(problem);
    }

    /// Something does not work as written; what is around it still does.
    pub fn error(&mut self, spot: &Spot, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, spot, message.into(), hint.into());
    }

    pub fn warn(&mut self, spot: &Spot, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, spot, message.into(), hint.into());
    }

    /// Whether another warning would be kept, and so is worth some work.
    pub fn take_warnings(&self) -> bool {
        self.warnings < FINDINGS_MAX
    }

    /// An error that keeps the server that is being read from running.
    pub fn bad(&mut self, spot: &Spot, message: impl Into<String>, hint: impl Into<String>) {
        let (message, hint) = (message.into(), hint.into());
        self.park(FaultKind::BadConfig, spot, &message, &hint);
        self.error(spot, message, hint);
    }

    /// Keeps the server that is being read from running, and leaves the finding to the caller.
    pub fn park(&mut self, kind: FaultKind, spot: &Spot, message: &str, hint: &str) {
        if self.problem.is_none() {
            let (line, column) = self.position(spot.at);
            let text = format!("{}:{line}:{column}: {}: {message}", self.file, spot.key);
            self.problem = Some(Fault::new(kind, text).hint(hint));
        }
    }

    /// A runtime fact that mcpproxy wrote into the file. All of them make one finding.
    pub fn fact(&mut self, spot: &Spot, name: &'static str) {
        self.facts.get_or_insert_with(|| spot.clone());
        self.fact_names.insert(name);
    }

    /// The findings in the order of the file.
    pub fn finish(mut self) -> Vec<Finding> {
        if let Some(spot) = self.facts.take() {
            let names: Vec<String> = self.fact_names.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("what mcpproxy learnt and wrote here is ignored: {}", names.join(", "));
            self.warn(&spot, message, "mcpvisor keeps its own in its state directory");
        }
        self.findings.sort_by_key(|finding| (finding.line, finding.column));
        let left_out = self.errors.saturating_sub(FINDINGS_MAX) + self.warnings.saturating_sub(FINDINGS_MAX);
        if left_out > 0 {
            let message = format!("{left_out} more findings are left out");
            self.findings.push(finding(Severity::Warning, self.file, (0, 0), "", message, String::new()));
        }
        self.findings
    }

    fn add(&mut self, severity: Severity, spot: &Spot, message: String, hint: String) {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= FINDINGS_MAX {
            let place = self.position(spot.at);
            let mut finding = finding(severity, self.file, place, &spot.key, message, hint);
            finding.server = self.server.clone();
            self.findings.push(finding);
        }
    }
}

/// A finding about no server.
pub fn finding(
    severity: Severity,
    file: &str,
    (line, column): (usize, usize),
    key: &str,
    message: String,
    hint: String,
) -> Finding {
    Finding {
        severity,
        file: file.to_owned(),
        line,
        column,
        key: key.to_owned(),
        server: None,
        message,
        hint,
    }
}
