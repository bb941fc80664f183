//! `mcpvisor config check`: every finding about a config file, without starting anything.

use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::Out;
use super::serve::of;
use crate::base::finding::Severity;
use crate::config;
use crate::daemon::setup;
use std::path::PathBuf;

/// Exits 4 if anything in it does not work as written.
pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let mut options = of(&given.options);
    if let Some(named) = given.words.first() {
        options.config = Some(PathBuf::from(named));
    }
    let bad = |fault| Failure::of(Exit::Config, fault);
    let (path, looked) = setup::find(&options).map_err(bad)?;
    let Some(path) = path else {
        let looked: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(Exit::NothingDone, format!("no config file in {}", looked.join(", "))));
    };
    let text = setup::read_file(&path).map_err(bad)?;
    let shown = path.display().to_string();
    let (config, findings) = config::parse(&text, &shown);
    out.text(&config::report(&text, &shown, &config, &findings));
    let wrong = !config.usable || findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if wrong { Exit::Config } else { Exit::Ok })
}
