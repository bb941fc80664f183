//! The JSON-RPC 2.0 envelope: who is spoken to, with params, result and error kept as raw text.

use super::scan::{self, Malformed};
use serde::Serialize;
use std::borrow::Cow;

/// One message, as it came. The spans borrow from the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Request { id: &'a str, method: Cow<'a, str>, params: Option<&'a str> },
    Notification { method: Cow<'a, str>, params: Option<&'a str> },
    Response { id: &'a str, outcome: Outcome<'a> },
}

/// What a response carries, raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    Result(&'a str),
    Error(&'a str),
}

/// Why a text is not a message, in JSON-RPC's own codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Not UTF-8, or not JSON: -32700.
    Parse(String),
    /// JSON, and not one JSON-RPC message: -32600. The id is what came, if one did.
    Request { id: Option<String>, why: &'static str },
}

impl Invalid {
    pub fn code(&self) -> i64 {
        match self {
            Invalid::Parse(_) => PARSE_ERROR,
            Invalid::Request { .. } => INVALID_REQUEST,
        }
    }

    pub fn message(&self) -> String {
        match self {
            Invalid::Parse(why) => format!("not JSON: {why}"),
            Invalid::Request { why, .. } => format!("not a JSON-RPC message: {why}"),
        }
    }
}

pub const PARSE_ERROR: i64 = -32700;
pub const INVALID_REQUEST: i64 = -32600;
pub const METHOD_NOT_FOUND: i64 = -32601;
pub const INVALID_PARAMS: i64 = -32602;
pub const INTERNAL_ERROR: i64 = -32603;

impl From<Malformed> for Invalid {
    fn from(at: Malformed) -> Invalid {
        Invalid::Parse(format!("expected {} at byte {}", at.expected, at.offset))
    }
}

/// Reads one line or body. Batches are arrays and not messages: the caller looks for `[` first if it takes them.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Invalid> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Invalid::Parse(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    // An object is checked while its members are found: one pass, which is what a long result costs.
    if !text.trim_ascii_start().starts_with('{') {
        scan::document(text)?;
        return Err(Invalid::Request { id: None, why: "expected an object" });
    }
    let (mut version, mut id, mut method, mut params, mut result, mut error) =
        (None, None, None, None, None, None);
    scan::object(text, |member| {
        let (key, value) = (&text[member.key], &text[member.value]);
        match key {
            "\"jsonrpc\"" => version = Some(value),
            "\"id\"" => id = Some(value),
            "\"method\"" => method = Some(value),
            "\"params\"" => params = Some(value),
            "\"result\"" => result = Some(value),
            "\"error\"" => error = Some(value),
            _ => (),
        }
    })?;
    let good_id = id.filter(|id| is_id(id));
    let refuse = |why| Err(Invalid::Request { id: good_id.map(str::to_owned), why });
    if version != Some("\"2.0\"") {
        return refuse("\"jsonrpc\" is not \"2.0\"");
    }
    if params.is_some_and(|params: &str| !params.starts_with(['{', '['])) {
        return refuse("\"params\" is not an object");
    }
    let outcome = match (result, error) {
        (Some(_), Some(_)) => return refuse("both \"result\" and \"error\""),
        (Some(result), None) => Some(Outcome::Result(result)),
        (None, Some(error)) => Some(Outcome::Error(error)),
        (None, None) => None,
    };
    match (method, id, outcome) {
        (Some(method), id, None) => {
            let Some(method) = plain_string(method) else { return refuse("\"method\" is not a string") };
            match (id, good_id) {
                (None, _) => Ok(Message::Notification { method, params }),
                (Some(_), Some(id)) => Ok(Message::Request { id, method, params }),
                (Some(_), None) => refuse("\"id\" is neither a string nor an integer"),
            }
        }
        // An error without a usable id answers nothing that we could name.
        (None, Some(id), Some(outcome)) => Ok(Message::Response { id, outcome }),
        (None, None, Some(_)) => refuse("a response without \"id\""),
        (Some(_), _, Some(_)) => refuse("both \"method\" and an answer"),
        (None, _, None) => refuse("neither \"method\" nor an answer"),
    }
}

/// MCP: a request's id is a string or an integer.
fn is_id(raw: &str) -> bool {
    raw.starts_with('"')
        || (raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && !raw.contains(['.', 'e', 'E']))
}

fn plain_string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { scan::string(raw).map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// One request line or body, without a newline.
pub fn request(id: &str, method: &str, params: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(72 + method.len() + params.map_or(0, str::len));
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    push_method(&mut out, method, params);
    out
}

pub fn notification(method: &str, params: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + method.len() + params.map_or(0, str::len));
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    push_method(&mut out, method, params);
    out
}

fn push_method(out: &mut Vec<u8>, method: &str, params: Option<&str>) {
    out.extend_from_slice(b",\"method\":");
    push_quoted(out, method);
    if let Some(params) = params {
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(params.as_bytes());
    }
    out.push(b'}');
}

/// Method names need no escapes, with hardly an exception.
fn push_quoted(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(quote(text).as_bytes());
    }
}

/// `outcome` is raw text: a result, or a whole error object.
pub fn response(id: &str, outcome: Outcome<'_>) -> Vec<u8> {
    let (key, raw) = match outcome {
        Outcome::Result(raw) => (&b",\"result\":"[..], raw),
        Outcome::Error(raw) => (&b",\"error\":"[..], raw),
    };
    let mut out = Vec::with_capacity(40 + id.len() + raw.len());
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(raw.as_bytes());
    out.push(b'}');
    out
}

/// An error object: `{"code":…,"message":…,"data":…}`.
pub fn error_object(code: i64, message: &str, data: Option<&impl Serialize>) -> String {
    let mut out = format!("{{\"code\":{code},\"message\":{}", quote(message));
    if let Some(data) = data.and_then(|data| serde_json::to_string(data).ok()) {
        out.push_str(",\"data\":");
        out.push_str(&data);
    }
    out.push('}');
    out
}

/// A JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let got = match parse(text.as_bytes()) {
                Ok(Message::Request { id, method, params }) => format!("request {id} {method} {params:?}"),
                Ok(Message::Notification { method, params }) => format!("notification {method} {params:?}"),
                Ok(Message::Response { id, outcome }) => format!("response {id} {outcome:?}"),
                Err(invalid) => format!("{} {}", invalid.code(), invalid.message()),
            };
            assert_eq!(got, expected);
        }
        check(r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#, "request 0 ping None");
        check(
            r#" {"params":{"a":1e400},"method":"x\/y","id":"é","jsonrpc":"2.0","z":1} "#,
            r#"request "é" x/y Some("{\"a\":1e400}")"#,
        );
        check(r#"{"jsonrpc":"2.0","method":"a/b","params":{}}"#, r#"notification a/b Some("{}")"#);
        check(
            r#"{"jsonrpc":"2.0","id":9007199254740993,"result":{ }}"#,
            r#"response 9007199254740993 Result("{ }")"#,
        );
        check(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#, r#"response null Error("{\"code\":1}")"#);
        check(
            r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#,
            "-32600 not a JSON-RPC message: \"id\" is neither a string nor an integer",
        );
        check(
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            "-32600 not a JSON-RPC message: \"id\" is neither a string nor an integer",
        );
        check(r#"{"id":1,"method":"x"}"#, "-32600 not a JSON-RPC message: \"jsonrpc\" is not \"2.0\"");
        check(
            r#"{"jsonrpc":"2.0","id":1}"#,
            "-32600 not a JSON-RPC message: neither \"method\" nor an answer",
        );
        check(
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":1}"#,
            "-32600 not a JSON-RPC message: both \"result\" and \"error\"",
        );
        check("[]", "-32600 not a JSON-RPC message: expected an object");
        check("Listening on 8080", "-32700 not JSON: expected a value at byte 0");
    }

    #[test]
    fn written() {
        let check = |bytes: Vec<u8>, text: &str| assert_eq!(String::from_utf8(bytes).unwrap(), text);
        check(
            request("7", "tools/list", Some("{}")),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{}}"#,
        );
        check(notification("a\"b", None), r#"{"jsonrpc":"2.0","method":"a\"b"}"#);
        check(response("\"x\"", Outcome::Result("{}")), r#"{"jsonrpc":"2.0","id":"x","result":{}}"#);
        let error = error_object(-32603, "no", Some(&serde_json::json!({"kind": "busy"})));
        check(
            response("1", Outcome::Error(&error)),
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no","data":{"kind":"busy"}}}"#,
        );
    }
}
