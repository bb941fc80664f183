//! What the body of an answer says, in whatever dress it comes: to whom it is an answer, which error it is, and the words
//! of a page that was meant for people.

use crate::base::id::CallId;
use crate::mcp::bridge::RESOURCE_NOT_FOUND;
use crate::mcp::envelope::{self, Message};
use crate::mcp::era::UNSUPPORTED_VERSION;
use crate::mcp::line::one_line;
use crate::mcp::scan;

/// Whether this message, or one of a batch, answers our request `id`.
pub fn answers(message: &[u8], id: CallId) -> bool {
    let own = |message: &[u8]| match envelope::parse(message) {
        Ok(Message::Response { id: theirs, .. }) => theirs.parse() == Ok(id.0),
        Ok(Message::Request { .. } | Message::Notification { .. }) | Err(_) => false,
    };
    if !message.trim_ascii_start().starts_with(b"[") {
        return own(message);
    }
    let text = std::str::from_utf8(message).unwrap_or_default();
    let mut found = false;
    // What is no array answers nothing.
    let _ = scan::array(text, |span| found = found || own(text[span].as_bytes()));
    found
}

/// A JSON-RPC error in a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error object, raw.
    pub error: String,
    /// It answers our request by its id.
    pub is_own: bool,
}

/// The JSON-RPC error in a body, whatever its id: servers answer `null` when they refuse before they read it.
pub fn refusal_in(body: &[u8], id: Option<CallId>) -> Option<Refusal> {
    let error = error_in(body)?;
    Some(Refusal { error, is_own: id.is_some_and(|id| answers(body, id)) })
}

/// The error object alone.
pub fn error_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let error = scan::find(text, "error").map(|span| &text[span])?;
    scan::find(error, "code")?;
    scan::find(error, "message")?;
    Some(String::from_utf8_lossy(&one_line(error.as_bytes())).into_owned())
}

/// Whether an error is how a modern server refuses `initialize`.
pub fn is_modern_refusal(error: &str) -> bool {
    matches!(code(error), Some(UNSUPPORTED_VERSION | envelope::METHOD_NOT_FOUND))
}

/// Whether an error is about what was asked for, and so not about the session.
pub fn says_what_is_missing(error: &str) -> bool {
    matches!(code(error), Some(envelope::METHOD_NOT_FOUND | envelope::INVALID_PARAMS | RESOURCE_NOT_FOUND))
}

pub fn code(error: &str) -> Option<i64> {
    scan::find(error, "code").and_then(|span| error[span].parse().ok())
}

pub fn message_of(error: &str) -> Option<String> {
    scan::find(error, "message").and_then(|span| scan::string(&error[span]))
}

/// The text of an error page, without its markup.
pub fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::new();
    let mut tag = false;
    for c in text.chars() {
        match c {
            '<' => tag = true,
            '>' => tag = false,
            _ if tag => (),
            c if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_comes_before_them() {
        let check = |message: &str, expected| {
            assert_eq!(answers(message.as_bytes(), CallId(7)), expected, "{message}")
        };
        check(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, true);
        check(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#, false);
        check(r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#, false);
        check(r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":7,"error":{}}]"#, true);
        check("<html>", false);
    }

    #[test]
    fn errors_in_any_dress() {
        let error = |body: &str| error_in(body.as_bytes());
        assert_eq!(
            error(r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"id":null}"#).as_deref(),
            Some(r#"{"code":-32000,"message":"no"}"#)
        );
        assert_eq!(
            error(r#"{"error":{"code":-32600,"message":"x"}}"#).as_deref(),
            Some(r#"{"code":-32600,"message":"x"}"#)
        );
        assert_eq!(error(r#"{"error":"invalid_token"}"#), None);
        assert_eq!(error("Bad Request"), None);
        assert_eq!(words(b"<html><h1>502</h1>\n  Bad <b>Gateway</b></html>"), "502 Bad Gateway");
    }
}
