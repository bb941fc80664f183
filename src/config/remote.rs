//! A remote server in an entry: `url`, `headers`, and which transport is spoken there.

use super::fields::Field;
use super::launch::{latest, template, variable};
use super::notes::{Notes, Spot};
use super::{Launch, Protocol, Template};
use crate::http::url::Url;

/// Headers that belong to HTTP and MCP themselves, in lower case: what an entry says of them is left out.
const OURS: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers whose value lets somebody in.
const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "x-api-key", "api-key", "proxy-authorization"];

/// Nothing if the entry has a problem, which is noted then.
pub fn read(
    entry: &Spot,
    url: Option<Field>,
    headers: Option<Field>,
    protocol: Protocol,
    notes: &mut Notes,
) -> Option<Launch> {
    // Both are read before either is given up, so that one reading shows every mistake.
    let headers = headers.map_or(Some(Vec::new()), |field| read_headers(&field, notes));
    let Some(field) = url else {
        notes.bad(entry, "a remote server needs a `url`", "or set `protocol` to `stdio`");
        return None;
    };
    let url = template(&field, "a URL", notes)?;
    let headers = headers?;
    // With a variable in it, it is looked at when it is known.
    if url.variables().next().is_none() {
        let resolved = url.resolve(|_| None).ok()?;
        match Url::parse(&resolved) {
            Err(why) => {
                notes.bad(&field.spot, why, "write it like https://example.org/mcp");
                return None;
            }
            Ok(url) => warn_of_plain_text(&url, &headers, &field, notes),
        }
    }
    Some(Launch::Remote { url: url.secret_query(), headers, protocol })
}

fn warn_of_plain_text(url: &Url, headers: &[(String, Template)], field: &Field, notes: &mut Notes) {
    let credential =
        headers.iter().find(|(name, _)| CREDENTIALS.contains(&name.to_ascii_lowercase().as_str()));
    if let Some((name, _)) = credential.filter(|_| !url.is_https() && !url.is_loopback()) {
        let message = format!("`{name}` is sent in plain text: the URL is http:// and not of this machine");
        notes.warn(&field.spot, message, "use https:// if the server has it");
    }
}

fn read_headers(field: &Field, notes: &mut Notes) -> Option<Vec<(String, Template)>> {
    if field.members().is_none() {
        notes.bad(&field.spot, field.unexpected("an object"), "write it like {\"NAME\": \"value\"}");
        return None;
    }
    let mut good = true;
    let mut headers: Vec<(String, Template)> = Vec::new();
    for (name, member) in latest(field, notes) {
        if !is_header_name(name) {
            notes.bad(&member.key_spot(), "this is not the name of a header", "letters, digits and `-`");
            good = false;
            continue;
        }
        if OURS.contains(&name.to_ascii_lowercase().as_str()) {
            notes.warn(&member.key_spot(), "mcpvisor sets this header itself; ignored", "");
            continue;
        }
        match variable(&member, notes) {
            Some(value) if !is_header_value(value.raw()) => {
                notes.bad(&member.spot, "a header's value holds no line breaks or control characters", "");
                good = false;
            }
            Some(value) => {
                // Names differ by more than their case, as in every header.
                headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                headers.push((name.to_owned(), value.secret()));
            }
            None => good = false,
        }
    }
    good.then_some(headers)
}

/// RFC 9110's token.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// What may stand in a header's value.
pub fn is_header_value(value: &str) -> bool {
    value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}
