//! What of a request's params is looked at: whom it addresses, and its progress token. Spans, not values.

use super::items::Kind;
use super::scan;
use std::ops::Range;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whose key it is: a tool's or prompt's name, a resource's URI.
    pub kind: Kind,
    pub key: String,
    /// Where the quoted key stands in the params.
    pub span: Range<usize>,
}

/// Whom `method` with these params addresses; `None` if it addresses nobody.
pub fn address(method: &str, params: &str) -> Option<Address> {
    let (kind, member) = match method {
        "tools/call" => (Kind::Tools, "name"),
        "prompts/get" => (Kind::Prompts, "name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => (Kind::Resources, "uri"),
        "completion/complete" => return reference(params),
        _ => return None,
    };
    let span = scan::find(params, member)?;
    Some(Address { kind, key: scan::string(&params[span.clone()])?, span })
}

/// `ref` of a completion: a prompt by name, or a resource (template) by URI.
fn reference(params: &str) -> Option<Address> {
    let outer = scan::find(params, "ref")?;
    let inner = &params[outer.clone()];
    let (kind, span) = match scan::find(inner, "uri") {
        Some(span) => (Kind::Resources, span),
        None => (Kind::Prompts, scan::find(inner, "name")?),
    };
    let key = scan::string(&inner[span.clone()])?;
    Some(Address { kind, key, span: outer.start + span.start..outer.start + span.end })
}

/// Where `_meta.progressToken` stands.
pub fn progress_token(params: &str) -> Option<Range<usize>> {
    // Most requests have none: a look for the word spares the scan.
    if !params.contains("progressToken") && !params.contains("\\u") {
        return None;
    }
    let meta = scan::find(params, "_meta")?;
    let token = scan::find(&params[meta.clone()], "progressToken")?;
    Some(meta.start + token.start..meta.start + token.end)
}

/// The text of a string member; `None` if it is absent, or no string.
pub fn text(params: &str, key: &str) -> Option<String> {
    scan::string(&params[scan::find(params, key)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |method, params: &str, kind, key: &str, raw: &str| {
            let found = address(method, params).unwrap();
            assert_eq!((found.kind, found.key.as_str(), &params[found.span]), (kind, key, raw));
        };
        check(
            "tools/call",
            r#"{"arguments":{"name":1},"name":"s__echo"}"#,
            Kind::Tools,
            "s__echo",
            r#""s__echo""#,
        );
        check("prompts/get", r#"{"name":"p"}"#, Kind::Prompts, "p", r#""p""#);
        check("resources/read", r#"{"uri":"a:\/\/b"}"#, Kind::Resources, "a://b", r#""a:\/\/b""#);
        let by_uri = r#"{"ref":{"type":"ref/resource","uri":"x://{id}"},"argument":{"name":"id"}}"#;
        check("completion/complete", by_uri, Kind::Resources, "x://{id}", r#""x://{id}""#);
        let by_name = r#"{"argument":{"name":"id"},"ref":{"name":"p"}}"#;
        check("completion/complete", by_name, Kind::Prompts, "p", r#""p""#);
        assert_eq!(address("tools/list", "{}"), None);
        assert_eq!(address("tools/call", r#"{"name":7}"#), None);
        assert_eq!(address("tools/call", "[1]"), None);
    }

    #[test]
    fn tokens() {
        let params = r#"{"_meta":{"x":1,"progressToken":"t"},"name":"s","arguments":{"progressToken":2}}"#;
        assert_eq!(&params[progress_token(params).unwrap()], "\"t\"");
        let escaped = r#"{"_meta":{"progress\u0054oken":7}}"#;
        assert_eq!(&escaped[progress_token(escaped).unwrap()], "7");
        assert_eq!(progress_token(r#"{"arguments":{"progressToken":2}}"#), None);
    }
}
