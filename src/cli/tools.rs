//! `mcpvisor tools list` and `mcpvisor call tool`: what the servers offer, and one call by hand.

use super::control::{Control, error_of, read_json};
use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::{Colour, Out, tame};
use crate::base::text::{nearest, shorten};
use crate::http::reply::encode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// 1 h: how long a call may take is the server's `call_timeout`; this only ends a wait for a daemon that is stuck.
const CALL: Duration = Duration::from_secs(60 * 60);
/// 1 s beyond `--timeout`, so that the daemon's own answer about it arrives.
const CALL_MARGIN: Duration = Duration::from_secs(1);
/// The names' column; a longer name pushes its description to the right.
const NAME_COLUMNS_MAX: usize = 40;

#[derive(Deserialize)]
struct Tools {
    tools: Vec<Tool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tool {
    /// As clients see it at `/mcp`.
    name: String,
    server: String,
    /// As its server calls it.
    tool: String,
    description: Option<String>,
}

pub fn list(given: &Given, out: &mut Out) -> Outcome {
    let query =
        given.server.as_deref().map(|server| format!("?server={}", encode(server))).unwrap_or_default();
    let body = Control::of(&given.options)?.get(&format!("/api/v1/tools{query}"))?;
    if given.json {
        out.body(&body);
        return Ok(Exit::Ok);
    }
    let Tools { tools } = read_json(&body)?;
    if tools.is_empty() {
        out.line("no tools");
    }
    let width = tools.iter().map(|tool| tool.name.chars().count()).max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    for tool in &tools {
        let description = tool.description.as_deref().unwrap_or_default();
        let first =
            tame(description.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default());
        let name = format!("{:width$}", tame(&tool.name));
        // Cut to the terminal, never for a program that reads us.
        let room = out.columns.saturating_sub(name.chars().count() + 2);
        let first = if out.terminal { shorten(&first, room) } else { first };
        let line = format!("{}  {first}", out.paint(&name, Colour::Bold));
        out.line(line.trim_end());
    }
    Ok(Exit::Ok)
}

pub fn call(given: &Given, out: &mut Out) -> Outcome {
    let Some(typed) = &given.tool_name else {
        return Err(Failure::usage("call tool needs --tool-name NAME").hint("see: mcpvisor tools list"));
    };
    let arguments = arguments(given.json_args.as_deref().unwrap_or("{}"))?;
    let control = Control::of(&given.options)?;
    let name = exposed_name(&control, typed)?;
    #[derive(Serialize)]
    struct Call<'a> {
        name: &'a str,
        arguments: &'a RawValue,
    }
    let body = serde_json::to_vec(&Call { name: &name, arguments })
        .expect("a name and an object that was just parsed can be written");
    let wait = given.timeout.map(|span| format!("?timeout={}ms", span.as_millis())).unwrap_or_default();
    let patience = given.timeout.map_or(CALL, |span| span.saturating_add(CALL_MARGIN));
    let reply = control.post(&format!("/api/v1/tools/call{wait}"), Some(&body), patience)?;
    if let Some(failure) = error_of(&reply) {
        return Err(failure);
    }
    show(&reply, given.json, out)
}

/// The arguments as they were typed, once they are known to be one JSON object.
fn arguments(text: &str) -> Result<&RawValue, Failure> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("--json_args: {error}"))
            .hint("one JSON object in single quotes: --json_args='{\"key\": \"value\"}'")
    })?;
    if !raw.get().starts_with('{') {
        return Err(Failure::usage("--json_args: not a JSON object")
            .hint("arguments have names: --json_args='{\"key\": \"value\"}'"));
    }
    Ok(raw)
}

/// `SERVER:TOOL` is looked up, because an exposed name may be shortened and is never taken apart.
fn exposed_name(control: &Control, typed: &str) -> Result<String, Failure> {
    let Some((server, wanted)) = typed.split_once(':') else { return Ok(typed.to_owned()) };
    let Tools { tools } = read_json(&control.get(&format!("/api/v1/tools?server={}", encode(server)))?)?;
    if let Some(tool) = tools.iter().find(|tool| tool.server == server && tool.tool == wanted) {
        return Ok(tool.name.clone());
    }
    let failure = Failure::new(Exit::Failed, format!("call tool: {server} has no tool `{wanted}`"));
    Err(match nearest(wanted, tools.iter().map(|tool| tool.tool.as_str())) {
        Some(near) => failure.hint(format!("did you mean {server}:{near}?")),
        None => failure.hint(format!("see: mcpvisor tools list --server {server}")),
    })
}

/// A `CallToolResult`, as far as it is shown.
#[derive(Deserialize)]
struct CallResult<'a> {
    #[serde(default)]
    content: Vec<Content>,
    #[serde(default, borrow, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
    #[serde(default, rename = "isError")]
    is_error: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    data: Option<String>,
    #[serde(rename = "mimeType")]
    mime_type: Option<String>,
    uri: Option<String>,
    resource: Option<Resource>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    uri: String,
    text: Option<String>,
    blob: Option<String>,
}

fn show(reply: &[u8], json: bool, out: &mut Out) -> Outcome {
    let broken = |why: String| Failure::new(Exit::Failed, format!("read the tool's result: {why}"));
    let text = std::str::from_utf8(reply).map_err(|error| broken(error.to_string()))?;
    let result: CallResult = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
    if json {
        out.body(reply);
    } else {
        for content in &result.content {
            let text = plain(content);
            let text = if out.terminal { tame(&text) } else { text };
            out.body(text.as_bytes());
        }
        if let (true, Some(structured)) = (result.content.is_empty(), result.structured) {
            out.line(structured.get());
        }
    }
    Ok(if result.is_error { Exit::Failed } else { Exit::Ok })
}

/// Text as it is; of anything else, what it is.
fn plain(content: &Content) -> String {
    let mime_type = content.mime_type.as_deref().unwrap_or("unknown type");
    match (&content.text, &content.data, &content.resource, &content.uri) {
        (Some(text), ..) => text.clone(),
        (_, Some(data), ..) => format!("[{}: {mime_type}, {} bytes of base64]", content.kind, data.len()),
        (.., Some(Resource { text: Some(text), .. }), _) => text.clone(),
        (.., Some(resource), _) => {
            let size = resource.blob.as_ref().map_or(0, String::len);
            format!("[resource: {}, {size} bytes of base64]", resource.uri)
        }
        (.., Some(uri)) => format!("[{}: {uri}]", content.kind),
        _ => format!("[{}]", content.kind),
    }
}
