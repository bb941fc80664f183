//! `hooks`: the command that is run when something happens. One that cannot be read is not run at all: half of a command
//! is another command.

use super::fields::{Field, Fields};
use super::launch;
use super::notes::Notes;
use super::span::{Allowed, Unit};
use super::{Hook, Hooks};
use crate::base::topic::{Topic, Topics};
use std::time::Duration;

/// What one run may take. Longer than 10 minutes, and no news would be told for as long.
const TIMEOUT: Allowed =
    Allowed { zero: false, from: Duration::from_millis(100), to: Duration::from_secs(600) };

pub fn read(fields: &mut Fields, notes: &mut Notes) -> Hooks {
    let mut section = fields.section("hooks", notes);
    let on_event = section.take("on_event").and_then(|field| hook(&field, notes));
    section.finish(&[], notes);
    // It is no server's.
    notes.take_problem();
    Hooks { on_event }
}

fn hook(field: &Field, notes: &mut Notes) -> Option<Hook> {
    let Some(mut fields) = Fields::of(field, notes) else {
        let hint = "write it like {\"command\": \"/usr/local/bin/tell\", \"args\": []}";
        notes.error(&field.spot, field.unexpected("an object"), hint);
        return None;
    };
    let command = match fields.take("command") {
        Some(command) => launch::program(Some(command), &field.spot, notes),
        None => {
            notes.error(&field.spot, "there is no `command`", "give the program to run, by its full path");
            None
        }
    };
    let args = fields.take("args").map_or(Some(Vec::new()), |field| launch::arguments(&field, notes));
    let env = fields.take("env").map_or(Some(Vec::new()), |field| launch::variables(&field, notes));
    let default = [Topic::EngineAway, Topic::EngineRecovered].into_iter().collect();
    let events = fields.take("events").map_or(Some(default), |field| topics(&field, notes));
    let timeout = fields.span(&["timeout"], Unit::Seconds, TIMEOUT, "10s", notes);
    fields.finish(&[], notes);
    let timeout = timeout.unwrap_or(Hook::TIMEOUT);
    Some(Hook { command: command?, args: args?, env: env?, events: events?, timeout })
}

fn topics(field: &Field, notes: &mut Notes) -> Option<Topics> {
    let hint = "write it like [\"engine.away\", \"server.state\"]";
    let words = field.items().and_then(|items| items.map(|item| item.text()).collect::<Option<Vec<&str>>>());
    let Some(words) = words else {
        notes.error(&field.spot, field.unexpected("an array of strings"), hint);
        return None;
    };
    match Topics::read(words.into_iter()) {
        Ok(topics) if topics.is_empty() => notes.error(&field.spot, "the list is empty", hint),
        Ok(topics) => return Some(topics),
        Err(hint) => notes.error(&field.spot, "this names no type of event", hint),
    }
    None
}
