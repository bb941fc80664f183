//! Config files: any text gives a config that keeps its promises and findings that point into the text; what is
//! JSON is read as serde_json reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::base::finding::{Finding, Severity};
use mcpvisor::base::limits::SERVERS_MAX;
use mcpvisor::config::json::{self, Node};
use mcpvisor::config::{self, Config, Launch, Template};
use mcpvisor_fuzz::Dice;
use serde_json::Value;
use std::collections::BTreeSet;

const FILE: &str = "mcp_config.json";

fuzz_target!(|data: &[u8]| {
    let text = match config::decode(data, FILE) {
        Ok(text) => text,
        Err(finding) => {
            let good = String::from_utf8_lossy(data);
            return points_into(&good, (finding.line, finding.column));
        }
    };
    as_serde_reads(text.strip_prefix('\u{feff}').unwrap_or(text));
    let (config, findings) = config::parse(text, FILE);
    promises(text, &config, &findings);
    // It takes longer than all the rest.
    if Dice::of(data).below(8) == 0 {
        let report = config::report(text, FILE, &config, &findings);
        assert!(report.contains(FILE));
    }
    if let Ok(template) = Template::parse(text) {
        assert_eq!(template.raw(), text);
    }
});

fn points_into(text: &str, (line, column): (usize, usize)) {
    if (line, column) == (0, 0) {
        return;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let found = text.split('\n').nth(line.checked_sub(1).expect("lines count from 1"));
    let chars = found.expect("the line is there").chars().count();
    assert!((1..=chars + 1).contains(&column), "{line}:{column}");
}

fn promises(text: &str, config: &Config, findings: &[Finding]) {
    for finding in findings {
        points_into(text, (finding.line, finding.column));
        assert!(finding.file == FILE && !finding.message.is_empty());
    }
    if !config.usable {
        assert!(config.servers.is_empty());
        assert!(findings.iter().any(|finding| finding.severity == Severity::Error));
    }
    assert!(config.servers.len() <= SERVERS_MAX);
    let names: BTreeSet<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    let slugs: BTreeSet<&str> = config.servers.iter().map(|server| server.slug.as_str()).collect();
    assert_eq!((names.len(), slugs.len()), (config.servers.len(), config.servers.len()));
    for server in &config.servers {
        points_into(text, (server.line, server.column));
        assert!(server.isolation.is_none() || matches!(server.launch, Launch::Process { .. }));
        match &server.launch {
            Launch::Process { command, env, .. } => {
                assert!(!command.raw().is_empty());
                let names: BTreeSet<&String> = env.iter().map(|(name, _)| name).collect();
                assert_eq!(names.len(), env.len());
            }
            Launch::Remote { url, headers, .. } => {
                assert!(!url.raw().is_empty());
                let names: BTreeSet<String> =
                    headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
                assert_eq!(names.len(), headers.len());
            }
            Launch::Unsupported => assert!(server.problem.is_some()),
        }
    }
}

fn as_serde_reads(text: &str) {
    let parsed = json::parse(text);
    for mistake in &parsed.mistakes {
        assert!(mistake.at <= text.len() && !mistake.message.is_empty());
    }
    assert!(parsed.read_to <= text.len());
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        assert_eq!(parsed.mistakes, []);
        assert_eq!(parsed.read_to, text.len());
        same(text, &parsed.root, &value);
    }
}

fn same(text: &str, node: &Node, value: &Value) {
    assert!(node.at < node.end && node.end <= text.len());
    match (&node.value, value) {
        (json::Value::Null, Value::Null) => (),
        (json::Value::Bool(ours), Value::Bool(theirs)) => assert_eq!(ours, theirs),
        (json::Value::Number(ours), Value::Number(theirs)) => {
            assert_eq!(*ours, text[node.at..node.end]);
            assert_eq!(serde_json::from_str::<serde_json::Number>(ours).as_ref().ok(), Some(theirs));
        }
        (json::Value::Text(ours), Value::String(theirs)) => assert_eq!(ours, theirs),
        (json::Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len());
            ours.iter().zip(theirs).for_each(|(ours, theirs)| same(text, ours, theirs));
        }
        (json::Value::Object(ours), Value::Object(theirs)) => {
            // Of a repeated key serde_json keeps the last.
            for (key, theirs) in theirs {
                let last = ours.iter().rev().find(|member| member.key == *key);
                same(text, &last.expect("the key is there").value, theirs);
            }
            assert!(ours.iter().all(|member| theirs.contains_key(&member.key)));
        }
        (ours, theirs) => panic!("{ours:?} is not {theirs:?}"),
    }
}
