//! `mcpvisor upstream …`: list the servers, read a log, and start, stop or restart them.
//!
//! Several servers are acted upon at once; what came of each is told in their order.

use super::control::{Control, MARGIN, PATIENCE, read_json};
use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::{Out, complain, tame};
use super::rows::{ServerRow, SwitchRow, is_up, table, why};
use super::status::Status;
use crate::base::text::nearest;
use crate::http::reply::encode;
use crate::sys::{clock, thread};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Lines of a log when nobody says how many: about two screens.
const LOG_LINES: u32 = 50;

pub fn list(given: &Given, out: &mut Out) -> Outcome {
    let body = Control::of(&given.options)?.get("/api/v1/status")?;
    if given.json {
        #[derive(Deserialize)]
        struct Servers<'a> {
            #[serde(borrow)]
            servers: &'a RawValue,
        }
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let raw: Servers = serde_json::from_str(text)
            .map_err(|error| Failure::new(Exit::Failed, format!("read the daemon's answer: {error}")))?;
        out.line(raw.servers.get());
        return Ok(Exit::Ok);
    }
    let status: Status = read_json(&body)?;
    let text = table(&status.servers, clock::wall(), out.columns, &|text, colour| out.paint(text, colour));
    out.text(&text);
    Ok(Exit::Ok)
}

pub fn logs(given: &Given, out: &mut Out) -> Outcome {
    #[derive(Deserialize)]
    struct Log {
        lines: Vec<String>,
    }
    let names = given.names()?;
    let target =
        format!("/api/v1/servers/{}/logs?lines={}", encode(&names[0]), given.lines.unwrap_or(LOG_LINES));
    let log: Log = read_json(&Control::of(&given.options)?.get(&target)?)?;
    if log.lines.is_empty() {
        complain(&format!("{} has no log yet", names[0]));
    }
    for line in &log.lines {
        // In a file or a pipe the bytes are wanted as they are.
        if out.terminal { out.line(&tame(line)) } else { out.line(line) }
    }
    Ok(Exit::Ok)
}

/// Servers that are asked for at once: fewer than the daemon has connections for one client.
const AT_ONCE: usize = 16;

/// What is asked of a server, and when it is done.
struct Verb {
    word: &'static str,
    doing: &'static str,
    done: fn(state: &str) -> bool,
}

pub fn restart(given: &Given, out: &mut Out) -> Outcome {
    each(&Verb { word: "restart", doing: "restarting", done: is_up }, given, out)
}

pub fn enable(given: &Given, out: &mut Out) -> Outcome {
    each(&Verb { word: "enable", doing: "enabling", done: is_up }, given, out)
}

pub fn disable(given: &Given, out: &mut Out) -> Outcome {
    each(&Verb { word: "disable", doing: "disabling", done: |state| state == "disabled" }, given, out)
}

fn each(verb: &Verb, given: &Given, out: &mut Out) -> Outcome {
    let control = Control::of(&given.options)?;
    let names = named(given, &control)?;
    if names.is_empty() {
        return Err(Failure::usage(format!(
            "mcpvisor upstream {}: name a server, or --group NAME",
            verb.word
        )));
    }
    let mut exit = Exit::Ok;
    let asked = names.iter().collect();
    for outcome in thread::each("ask", AT_ONCE, asked, |name| one(verb, name, &control, given)) {
        let broke = || Err(Failure::new(Exit::Failed, format!("{}: a bug of mcpvisor", verb.word)));
        match outcome.unwrap_or_else(broke) {
            Ok((line, done)) => {
                out.line(&tame(&line));
                exit = if done { exit } else { Exit::Failed };
            }
            // Without a daemon the next name fares no better.
            Err(failure) if names.len() == 1 || failure.exit == Exit::NoDaemon => return Err(failure),
            Err(failure) => {
                complain(&failure);
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

/// The servers that are named, and those of the groups that are.
pub fn named(given: &Given, control: &Control) -> Result<Vec<String>, Failure> {
    let mut names = given.names()?;
    if given.groups.is_empty() {
        return Ok(names);
    }
    let status: Status = read_json(&control.get("/api/v1/status")?)?;
    for group in &given.groups {
        let of_it = status.servers.iter().filter(|row| row.groups.contains(group));
        let of_it: Vec<String> = of_it.map(|row| row.name.clone()).collect();
        if of_it.is_empty() {
            let known = status.servers.iter().flat_map(|row| row.groups.iter().map(String::as_str));
            let near = nearest(group, known).map(|near| format!(", did you mean `{near}`?"));
            return Err(Failure::usage(format!(
                "no server is in group `{group}`{}",
                near.unwrap_or_default()
            )));
        }
        names.extend(of_it);
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// One server's line, and whether what was waited for has come.
fn one(verb: &Verb, name: &str, control: &Control, given: &Given) -> Result<(String, bool), Failure> {
    #[derive(Deserialize)]
    struct Accepted {
        #[serde(default)]
        life: Option<u64>,
        #[serde(default)]
        state: String,
        #[serde(default)]
        switch: Option<SwitchRow>,
    }
    let place = format!("/api/v1/servers/{}", encode(name));
    let query = given.wait.map(|wait| format!("?wait={}ms", wait.as_millis())).unwrap_or_default();
    let patience = given.wait.map_or(PATIENCE, |wait| wait.saturating_add(MARGIN));
    let named = |mut failure: Failure| {
        if failure.exit != Exit::NoDaemon {
            failure.message = format!("{} {name}: {}", verb.word, failure.message);
        }
        failure
    };
    let body = control.post(&format!("{place}/{}{query}", verb.word), None, patience).map_err(named)?;
    let accepted: Accepted = read_json(&body)?;
    let life = accepted.life.map(|life| format!(" (life {life})")).unwrap_or_default();
    if given.wait.is_none() {
        return Ok((format!("{name}: {}{life}", verb.doing), true));
    }
    let line = format!("{name}: {}{life}", accepted.state);
    let behind = verb.word == "restart" && accepted.switch.is_some_and(|switch| switch.is_behind());
    if (verb.done)(&accepted.state) && !behind {
        return Ok((line, true));
    }
    let row: ServerRow = read_json(&control.get(&place)?)?;
    let why = why(&row, clock::wall()).map(|why| format!(": {why}")).unwrap_or_default();
    Ok((format!("{line}{why}"), false))
}
