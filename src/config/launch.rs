//! What an entry runs: a process, or a remote server (`remote.rs`).

use super::docker_run::{self, Ours, Outcome};
use super::fields::{Field, Fields, written_again};
use super::json::Value;
use super::notes::{Notes, Spot};
use super::{Launch, Template, remote};
use crate::base::text::{nearest, shorten};
use std::collections::BTreeMap;

/// What `protocol` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Auto,
    Stdio,
    Remote(super::Protocol),
}

/// Names that mark a process as ours; a server cannot be given others.
const MARKS: [&str; 3] = ["MCPVISOR_INSTANCE", "MCPVISOR_SESSION", "MCPVISOR_SERVER"];

/// Nothing if the entry has a problem, which is noted then. `entry_at` is where the entry begins.
pub fn read(fields: &mut Fields, entry_at: usize, notes: &mut Notes) -> Option<Launch> {
    let protocol = protocol(fields, notes);
    let command = fields.take("command");
    let args = fields.take("args");
    let env = fields.take("env");
    let working_dir = fields.take_one_of(&["working_dir", "cwd"], notes);
    let url = fields.take("url").filter(|url| url.text() != Some(""));
    let headers = fields.take("headers");
    let entry = Spot { at: entry_at, key: fields.key().to_owned() };
    let remote = match protocol? {
        Protocol::Remote(protocol) => Some(protocol),
        Protocol::Stdio => None,
        Protocol::Auto => (command.is_none() && url.is_some()).then_some(super::Protocol::Auto),
    };
    if let Some(protocol) = remote {
        for ignored in [command, args, env, working_dir].into_iter().flatten() {
            notes.warn(&ignored.key_spot(), "ignored: the entry is a remote server", "");
        }
        return remote::read(&entry, url, headers, protocol, notes);
    }
    for ignored in [url, headers].into_iter().flatten() {
        notes.warn(&ignored.key_spot(), "ignored: the entry runs a `command`", "");
    }
    // All four are read before any is given up, so that one reading shows every mistake.
    let command = program(command, &entry, notes);
    let args_spot = args.as_ref().map(|field| field.spot.clone());
    let args = args.map_or(Some(Vec::new()), |field| arguments(&field, notes));
    let env = env.map_or(Some(Vec::new()), |field| variables(&field, notes));
    let working_dir = match working_dir.filter(|field| field.text() != Some("")) {
        Some(field) => template(&field, "a path", notes).map(Some),
        None => Some(None),
    };
    let (command, args, env, working_dir) = (command?, args?, env?, working_dir?);
    if let Some(spot) = args_spot {
        container(&command, &args, &env, &spot, notes);
    }
    Some(Launch::Process { command, args, env, working_dir })
}

/// Says now what is changed in a `docker run` at every launch. References are looked at as they are written.
fn container(
    command: &Template,
    args: &[Template],
    env: &[(String, Template)],
    spot: &Spot,
    notes: &mut Notes,
) {
    let args: Vec<String> = args.iter().map(|arg| arg.raw().to_owned()).collect();
    let lookup =
        |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.raw().to_owned());
    let warnings =
        match docker_run::rewrite(command.raw(), &args, &lookup, &Ours { labels: &[], cidfile: "" }) {
            Outcome::Run(run) => run.warnings,
            Outcome::NotARun { warning } => Vec::from_iter(warning),
        };
    for warning in warnings {
        notes.warn(spot, warning, "");
    }
}

/// Nothing if it is none that we know, which is noted.
fn protocol(fields: &mut Fields, notes: &mut Notes) -> Option<Protocol> {
    const NAMES: [&str; 5] = ["stdio", "http", "sse", "streamable-http", "auto"];
    let names = ["protocol", "type", "transport", "transportType"];
    let Some(field) = fields.take_one_of(&names, notes) else { return Some(Protocol::Auto) };
    let text = field.text().map(|text| text.to_ascii_lowercase().replace(['-', '_'], ""));
    match text.as_deref() {
        Some("" | "auto") => Some(Protocol::Auto),
        Some("stdio") => Some(Protocol::Stdio),
        Some("http" | "streamablehttp") => Some(Protocol::Remote(super::Protocol::Http)),
        Some("sse") => Some(Protocol::Remote(super::Protocol::Sse)),
        other => {
            let near = other.and_then(|typed| nearest(&shorten(typed, 64), NAMES));
            let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
            notes.bad(&field.spot, "expected `stdio`, `http`, `streamable-http`, `sse` or `auto`", hint);
            None
        }
    }
}

pub(super) fn program(command: Option<Field>, entry: &Spot, notes: &mut Notes) -> Option<Template> {
    let Some(field) = command else {
        notes.bad(entry, "the entry has no `command`", "give the program to run, like \"command\": \"npx\"");
        return None;
    };
    let template = template(&field, "a string", notes)?;
    let text = template.raw();
    if text.trim().is_empty() {
        notes.bad(&field.spot, "the command is empty", "give the program to run, like \"npx\"");
        return None;
    }
    if text.split_once(char::is_whitespace).is_some_and(|(first, _)| !first.contains('/')) {
        let message = "the command holds spaces, and is taken as the name of one program";
        notes.warn(&field.spot, message, "put every word after the first into `args`");
    }
    Some(template)
}

pub(super) fn arguments(field: &Field, notes: &mut Notes) -> Option<Vec<Template>> {
    let Some(items) = field.items() else {
        notes.bad(
            &field.spot,
            field.unexpected("an array of strings"),
            "write it like [\"-y\", \"package\"]",
        );
        return None;
    };
    let read: Vec<Option<Template>> = items.map(|item| template(&item, "a string", notes)).collect();
    read.into_iter().collect()
}

/// `env`: names and secret values.
pub(super) fn variables(field: &Field, notes: &mut Notes) -> Option<Vec<(String, Template)>> {
    if field.members().is_none() {
        notes.bad(&field.spot, field.unexpected("an object"), "write it like {\"NAME\": \"value\"}");
        return None;
    }
    let mut good = true;
    let mut variables: Vec<(String, Template)> = Vec::new();
    for (name, member) in latest(field, notes) {
        if MARKS.contains(&name) {
            notes.warn(&member.key_spot(), "mcpvisor sets this variable itself; ignored", "");
            continue;
        }
        if name.is_empty() || name.contains(['=', '\0']) {
            notes.bad(&member.key_spot(), "a variable's name holds no `=` and is not empty", "");
            good = false;
            continue;
        }
        match variable(&member, notes) {
            Some(value) => variables.push((name.to_owned(), value.secret())),
            None => good = false,
        }
    }
    good.then_some(variables)
}

/// The members in the order of the file; of a name that is written twice the last.
pub(super) fn latest<'t>(field: &Field<'t>, notes: &mut Notes) -> Vec<(&'t str, Field<'t>)> {
    let members = field.members().unwrap_or_default();
    let last: BTreeMap<&str, usize> = members.iter().map(|(name, field)| (*name, field.key_at)).collect();
    let counts = |(name, field): &(&str, Field)| {
        let at = last[name];
        if at != field.key_at {
            let (line, _) = notes.position(at);
            notes.warn(&field.key_spot(), written_again(line), "");
        }
        at == field.key_at
    };
    members.into_iter().filter(counts).collect()
}

pub(super) fn variable(field: &Field, notes: &mut Notes) -> Option<Template> {
    let text = match &field.node.value {
        Value::Number(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Text(_) | Value::Array(_) | Value::Object(_) => {
            return template(field, "a string", notes);
        }
    };
    notes.warn(&field.spot, "taken as a string", "put it in double quotes");
    Template::parse(&text).ok()
}

/// A string with references. What it is not is a problem of the server.
pub(super) fn template(field: &Field, expected: &str, notes: &mut Notes) -> Option<Template> {
    let Some(text) = field.text() else {
        let hint = match &field.node.value {
            Value::Number(text) => format!("put it in double quotes: \"{}\"", shorten(text, 40)),
            Value::Bool(flag) => format!("put it in double quotes: \"{flag}\""),
            Value::Null | Value::Text(_) | Value::Array(_) | Value::Object(_) => String::new(),
        };
        notes.bad(&field.spot, field.unexpected(expected), hint);
        return None;
    };
    if text.contains('\0') {
        notes.bad(&field.spot, "the string holds a NUL character, which no process can be given", "");
        return None;
    }
    match Template::parse(text) {
        Ok(template) => {
            if let Some(name) = template.bare_reference() {
                let name = shorten(name, 40);
                let hint =
                    format!("write `${{env:{name}}}` for the variable; `$${{` keeps it without this warning");
                notes.warn(&field.spot, format!("`${{{name}}}` is passed on as it stands"), hint);
            }
            Some(template)
        }
        Err(error) => {
            notes.bad(&field.spot, error.message, error.hint);
            None
        }
    }
}
