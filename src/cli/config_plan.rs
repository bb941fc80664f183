//! `mcpvisor config plan` and `config apply`: what another config changes, and why; and that it does so now.

use super::control::{Control, PATIENCE, read_json};
use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::{Out, complain, flow, tame};
use super::serve::{of, unusable};
use crate::base::limits::CONFIG_APPLY_PATIENCE;
use crate::base::text::plural;
use crate::config::Config;
use crate::config::diff::diff;
use crate::daemon::setup;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The answer of the daemon, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Changes {
    servers: Vec<Server>,
    kept: usize,
    settings: Vec<Setting>,
    findings: Vec<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
    decision: String,
    #[serde(default)]
    fields: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Setting {
    key: String,
    effect: String,
}

pub fn plan(given: &Given, out: &mut Out) -> Outcome {
    match Control::of(&given.options)?.get("/api/v1/config/plan") {
        Ok(body) => print(given, &body, "nothing would change", out),
        Err(failure) if failure.exit == Exit::NoDaemon => alone(given, &failure, out),
        Err(failure) => Err(failure),
    }
}

pub fn apply(given: &Given, out: &mut Out) -> Outcome {
    let patience = CONFIG_APPLY_PATIENCE + PATIENCE;
    let body = Control::of(&given.options)?.post("/api/v1/config/apply", None, patience)?;
    print(given, &body, "nothing changed", out)
}

/// Nothing runs: all would be started.
fn alone(given: &Given, failure: &Failure, out: &mut Out) -> Outcome {
    let setup = setup::read(&of(&given.options)).map_err(|(fault, findings)| unusable(&fault, &findings))?;
    complain(&format!("{}; compared with nothing", failure.message));
    let servers = diff(&Config::default(), &setup.config).servers.into_iter();
    let servers = servers.map(|change| Server {
        name: change.name.0,
        decision: change.decision.name().to_owned(),
        fields: Vec::new(),
    });
    let changes = Changes { servers: servers.collect(), ..Changes::default() };
    out.text(&render(&changes, "no servers", out.columns));
    Ok(Exit::Ok)
}

fn print(given: &Given, body: &[u8], nothing: &str, out: &mut Out) -> Outcome {
    if given.json {
        out.body(body);
        return Ok(Exit::Ok);
    }
    let changes: Changes = read_json(body)?;
    out.text(&render(&changes, nothing, out.columns));
    let count = changes.findings.len();
    if count > 0 {
        complain(&format!("{}: mcpvisor status --json shows them", plural(count, "finding")));
    }
    Ok(Exit::Ok)
}

/// One line for each server that is not just kept, then the settings.
fn render(changes: &Changes, nothing: &str, columns: usize) -> String {
    let mut text = String::new();
    for Server { name, decision, fields } in &changes.servers {
        let mut parts = vec![format!("{decision:8} {}", tame(name))];
        if let Some((first, rest)) = fields.split_first() {
            parts[0].push_str(&format!(": {}", tame(first)));
            parts.extend(rest.iter().map(|field| tame(field)));
        }
        text.push_str(&flow(&parts, columns));
    }
    for Setting { key, effect } in &changes.settings {
        let when = if effect == "now" { "" } else { ": when mcpvisor is started again" };
        text.push_str(&format!("setting  {}{when}\n", tame(key)));
    }
    if text.is_empty() {
        return format!("{nothing}\n");
    }
    if changes.kept > 0 {
        text.push_str(&format!("keep     {} more\n", changes.kept));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_and_why() {
        let json = r#"{"changed": true, "kept": 3, "findings": [],
            "servers": [{"name": "git", "decision": "restart", "fields": ["args", "env"]},
                        {"name": "docs", "decision": "add"}],
            "settings": [{"key": "call_timeout", "effect": "now"},
                         {"key": "listen", "effect": "after_restart"}]}"#;
        let changes: Changes = serde_json::from_str(json).unwrap();
        let text = render(&changes, "nothing changed", 80);
        let expected = "\
restart  git: args, env
add      docs
setting  call_timeout
setting  listen: when mcpvisor is started again
keep     3 more
";
        assert_eq!(text, expected);
        assert_eq!(render(&Changes::default(), "nothing changed", 80), "nothing changed\n");
    }
}
