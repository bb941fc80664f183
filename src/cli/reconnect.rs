//! `mcpvisor reconnect`: bring servers back now, and show of each how it went.

use super::control::{Control, MARGIN, read_json, refusal};
use super::exit::{Exit, Failure, Outcome};
use super::grid;
use super::options::Given;
use super::output::{Colour, Out, flow, tame};
use super::rows::Trouble;
use super::upstream::named;
use crate::base::limits::RECONNECT_WAIT;
use crate::base::text::span;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// The daemon's answer, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    duration_ms: u64,
    totals: Totals,
    results: Vec<One>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Totals {
    servers: u64,
    ok: u64,
    failed: u64,
    pending: u64,
    skipped: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct One {
    name: String,
    action: String,
    outcome: String,
    state_before: String,
    state_after: String,
    skipped: Option<String>,
    duration_ms: u64,
    error: Option<Trouble>,
}

pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let control = Control::of(&given.options)?;
    let body = request(given, named(given, &control)?)?.to_string();
    let wait = given.wait.unwrap_or(RECONNECT_WAIT);
    let target = format!("/api/v1/reconnect?wait={}ms", wait.as_millis());
    let patience = wait.saturating_add(MARGIN);
    let (status, answer) = control.exchange("POST", &target, Some(body.as_bytes()), patience)?;
    if !(200..300).contains(&status) {
        let failure = refusal(status, &answer);
        // Names and engines are words of the command line; the daemon has done nothing.
        return Err(if status == 404 { Failure { exit: Exit::Usage, ..failure } } else { failure });
    }
    let read: Answer = read_json(&answer)?;
    if given.json {
        out.body(&answer);
    } else {
        out.text(&render(&read, out.columns, &|text, colour| out.paint(text, colour)));
    }
    Ok(exit(read.totals))
}

/// The body of the request: who is meant, and why.
fn request(given: &Given, names: Vec<String>) -> Result<serde_json::Value, Failure> {
    let mut body = match (names.as_slice(), given.all, &given.on_engine) {
        (_, true, None) if names.is_empty() => json!({ "all": true }),
        ([], false, Some(url)) if !url.is_empty() => json!({ "engine": url }),
        ([], false, _) => json!({ "engine": true }),
        (names, false, None) => json!({ "servers": names }),
        _ => {
            return Err(Failure::usage("reconnect: NAME, --all and --engine exclude each other")
                .hint("see: mcpvisor help reconnect"));
        }
    };
    if let Some(reason) = &given.reason {
        body["reason"] = json!(reason);
    }
    Ok(body)
}

fn exit(totals: Totals) -> Exit {
    match totals {
        Totals { failed: 0, pending: 0, ok: 0, .. } => Exit::NothingDone,
        Totals { failed: 0, pending: 0, .. } => Exit::Ok,
        _ => Exit::Failed,
    }
}

const HEADINGS: [&str; 5] = ["SERVER", "STATE", "BEFORE", "ACTION", "TOOK"];

fn render(answer: &Answer, columns: usize, paint: &dyn Fn(&str, Colour) -> String) -> String {
    if answer.results.is_empty() {
        return "nothing to do: no server lives on an engine (--all means every server)\n".to_owned();
    }
    let rows = answer.results.iter().map(|one| grid::Row {
        cells: cells(one),
        colour: colour(&one.outcome),
        why: one.error.as_ref().map(Trouble::text).or_else(|| one.skipped.clone()),
    });
    let mut text = grid::table(HEADINGS, rows.collect(), columns, paint);
    let Totals { servers, ok, failed, pending, skipped } = answer.totals;
    let mut parts = vec![format!("{ok} of {servers} back")];
    for (count, what) in [(failed, "failed"), (pending, "pending"), (skipped, "skipped")] {
        parts.extend((count > 0).then(|| format!("{count} {what}")));
    }
    parts.push(format!("took {}", span(Duration::from_millis(answer.duration_ms))));
    text.push_str(&format!("\n{}", flow(&parts, columns)));
    text
}

fn cells(one: &One) -> [String; 5] {
    let took = match one.outcome.as_str() {
        "skipped" => "-".to_owned(),
        _ => span(Duration::from_millis(one.duration_ms)),
    };
    [tame(&one.name), tame(&one.state_after), tame(&one.state_before), tame(&one.action), took]
}

fn colour(outcome: &str) -> Colour {
    match outcome {
        "ok" => Colour::Green,
        "skipped" => Colour::Dim,
        "failed" => Colour::Red,
        _ => Colour::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(given: &Given) -> Result<String, String> {
        given
            .names()
            .and_then(|names| request(given, names))
            .map(|body| body.to_string())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_is_asked_for() {
        let check =
            |given: Given, expected: &str| assert_eq!(asked(&given), Ok(expected.to_owned()), "{given:?}");
        let given = Given::default;
        check(given(), r#"{"engine":true}"#);
        check(Given { on_engine: Some(String::new()), ..given() }, r#"{"engine":true}"#);
        check(Given { on_engine: Some("unix:///s".into()), ..given() }, r#"{"engine":"unix:///s"}"#);
        check(Given { all: true, reason: Some("why".into()), ..given() }, r#"{"all":true,"reason":"why"}"#);
        check(Given { words: vec!["a".into(), "b c".into()], ..given() }, r#"{"servers":["a","b c"]}"#);
        let both = "reconnect: NAME, --all and --engine exclude each other (see: mcpvisor help reconnect)";
        for wrong in [
            Given { all: true, on_engine: Some(String::new()), ..given() },
            Given { all: true, words: vec!["a".into()], ..given() },
            Given { words: vec!["a".into()], on_engine: Some(String::new()), ..given() },
        ] {
            assert_eq!(asked(&wrong), Err(both.to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn how_it_ends() {
        let of = |ok, failed, pending, skipped| {
            exit(Totals { servers: ok + failed + pending + skipped, ok, failed, pending, skipped })
        };
        assert_eq!(of(0, 0, 0, 0), Exit::NothingDone);
        assert_eq!(of(0, 0, 0, 3), Exit::NothingDone);
        assert_eq!(of(1, 0, 0, 3), Exit::Ok);
        assert_eq!(of(9, 1, 0, 0), Exit::Failed);
        assert_eq!(of(9, 0, 1, 0), Exit::Failed);
    }
}
