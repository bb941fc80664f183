//! The two eras of the protocol: *legacy* greets by `initialize` (2024-11-05 to 2025-11-25), *modern* says who asks with
//! every request (2026-07-28). Here: which era a message of a client is of, and what is wrong with it then.
//!
//! The body decides. A header only confirms it, and where the two disagree the request is refused, never guessed.
//! Which methods exist beyond the eras' own, params, capabilities and `Mcp-Param-*` are the gateway's to judge.

use super::envelope::{self, Message};
use super::{headers, meta, scan};
use crate::base::text::shorten;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Era {
    Legacy,
    Modern,
}

/// The modern version that we speak.
pub const VERSION: &str = "2026-07-28";

/// All of them, newest first.
pub const VERSIONS: [&str; 1] = [VERSION];

/// Codes that the modern era defines.
pub const HEADER_MISMATCH: i64 = -32020;
pub const MISSING_CAPABILITY: i64 = -32021;
pub const UNSUPPORTED_VERSION: i64 = -32022;

impl Era {
    /// The name in the config, the API and the store.
    pub fn name(self) -> &'static str {
        match self {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        }
    }

    /// The era of a protocol version; an unknown one that is not older than the modern era is modern.
    pub fn of_version(version: &str) -> Era {
        let date = version.len() == VERSION.len() && version.bytes().all(|b| b == b'-' || b.is_ascii_digit());
        if date && version >= VERSION { Era::Modern } else { Era::Legacy }
    }

    /// Whether a request of this name can be one of this era: false for those that only the other one has.
    pub fn has(self, method: &str) -> bool {
        const LEGACY: [&str; 5] =
            ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
        const MODERN: [&str; 2] = ["server/discover", "subscriptions/listen"];
        match self {
            Era::Legacy => !MODERN.contains(&method),
            Era::Modern => !LEGACY.contains(&method),
        }
    }
}

/// What the HTTP request around a message says of it; nothing of a header that is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    pub version: Option<&'a str>,
    pub method: Option<&'a str>,
    pub name: Option<&'a str>,
}

/// Why a message is refused: a JSON-RPC error, and the status for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: i64,
    pub message: String,
    /// Raw JSON.
    pub data: Option<String>,
}

impl Refusal {
    fn new(code: i64, message: String) -> Refusal {
        Refusal { status: 400, code, message, data: None }
    }

    /// Headers that do not say what the body says.
    pub fn mismatch(message: String) -> Refusal {
        Refusal::new(HEADER_MISMATCH, format!("headers and body disagree: {message}"))
    }

    /// The whole error object.
    pub fn error(&self) -> String {
        let data = self.data.as_deref().and_then(|data| serde_json::from_str::<serde_json::Value>(data).ok());
        envelope::error_object(self.code, &self.message, data.as_ref())
    }
}

/// The answer to a version that is not spoken.
pub fn unsupported_version(requested: &str) -> Refusal {
    let requested = shorten(requested, 64);
    let data = serde_json::json!({"supported": VERSIONS, "requested": requested});
    Refusal {
        data: Some(data.to_string()),
        ..Refusal::new(UNSUPPORTED_VERSION, format!("protocol version {requested} is not supported"))
    }
}

/// The answer to a method that does not exist in the modern era.
pub fn unknown_method(method: &str) -> Refusal {
    let message = format!("method not found: {}", shorten(method, 64));
    Refusal { status: 404, ..Refusal::new(envelope::METHOD_NOT_FOUND, message) }
}

/// The era of one message of a client. `http` is nothing on stdio.
pub fn classify(message: &Message, http: Option<&Headers>) -> Result<Era, Refusal> {
    match message {
        Message::Request { method, params, .. } => request(method, *params, http),
        Message::Notification { method, params } => notification(method, *params, http),
        // The modern era has no requests to clients, and so no responses of theirs.
        Message::Response { .. } => Ok(Era::Legacy),
    }
}

/// Whether any element of a batch claims the modern era, which has no batches.
pub fn is_modern_batch(text: &str) -> bool {
    let mut modern = false;
    let claims = |element: &str| {
        let params = scan::find(element, "params").map(|span| &element[span]);
        params.is_some_and(|params| meta::get(params, meta::PROTOCOL_VERSION).is_some())
    };
    // What is no array is no batch, and is refused where it is read.
    let _ = scan::array(text, |span| modern |= claims(&text[span]));
    modern
}

fn request(method: &str, params: Option<&str>, http: Option<&Headers>) -> Result<Era, Refusal> {
    let claim = params.and_then(|params| meta::get(params, meta::PROTOCOL_VERSION));
    let header = http.and_then(|http| http.version).map(str::trim);
    let header_is_modern = header.is_some_and(|version| Era::of_version(version) == Era::Modern);
    let greeting = method == "initialize" && !claim.is_some_and(is_modern_claim);
    match claim {
        _ if greeting && header_is_modern => {
            Err(Refusal::mismatch("`initialize` is of an earlier version than the header names".to_owned()))
        }
        _ if greeting => Ok(Era::Legacy),
        None if header_is_modern => Err(missing(meta::PROTOCOL_VERSION)),
        None => Ok(Era::Legacy),
        Some(claim) => {
            version(claim, header)?;
            let params = params.expect("a claim is in params");
            let capabilities = meta::get(params, meta::CLIENT_CAPABILITIES);
            if !capabilities.is_some_and(|raw| raw.starts_with('{')) {
                return Err(missing(meta::CLIENT_CAPABILITIES));
            }
            if let Some(http) = http {
                standard_headers(method, params, http)?;
            }
            Ok(Era::Modern)
        }
    }
}

/// A notification says nothing of its era by itself, so that the header decides unless it does.
fn notification(method: &str, params: Option<&str>, http: Option<&Headers>) -> Result<Era, Refusal> {
    let claim = params.and_then(|params| meta::get(params, meta::PROTOCOL_VERSION));
    let header = http.and_then(|http| http.version).map(str::trim);
    match (claim, header) {
        (Some(claim), _) => version(claim, header)?,
        (None, Some(header)) if Era::of_version(header) == Era::Modern => supported(header)?,
        (None, _) => return Ok(Era::Legacy),
    }
    match http.and_then(|http| http.method) {
        Some(header) if headers::read(header).as_deref() != Some(method) => {
            Err(Refusal::mismatch(format!("{} is not the body's method", headers::METHOD)))
        }
        _ => Ok(Era::Modern),
    }
}

fn is_modern_claim(claim: &str) -> bool {
    scan::string(claim).is_some_and(|version| Era::of_version(&version) == Era::Modern)
}

/// Judges the version that a body claims, and whether the header names the same.
fn version(claim: &str, header: Option<&str>) -> Result<(), Refusal> {
    let Some(version) = scan::string(claim) else { return Err(missing(meta::PROTOCOL_VERSION)) };
    if header.is_some_and(|header| header != version) {
        return Err(Refusal::mismatch(format!("{} is not the body's version", headers::PROTOCOL_VERSION)));
    }
    supported(&version)
}

fn supported(version: &str) -> Result<(), Refusal> {
    if VERSIONS.contains(&version) { Ok(()) } else { Err(unsupported_version(version)) }
}

fn missing(key: &str) -> Refusal {
    let message = format!("invalid params: `_meta` needs `{key}`, of the type that {VERSION} gives it");
    Refusal::new(envelope::INVALID_PARAMS, message)
}

/// The headers that every modern request has over HTTP.
fn standard_headers(method: &str, params: &str, http: &Headers) -> Result<(), Refusal> {
    let absent = |name: &str| Refusal::mismatch(format!("{name} is missing"));
    http.version.ok_or_else(|| absent(headers::PROTOCOL_VERSION))?;
    let named = http.method.ok_or_else(|| absent(headers::METHOD))?;
    if headers::read(named).as_deref() != Some(method) {
        return Err(Refusal::mismatch(format!("{} is not the body's method", headers::METHOD)));
    }
    let Some(member) = headers::named_by(method) else { return Ok(()) };
    // Params without the name are refused as such, later.
    let Some(name) = headers::name_of(method, Some(params)) else { return Ok(()) };
    let given = http.name.ok_or_else(|| absent(headers::NAME))?;
    if headers::read(given).as_deref() == Some(&name) {
        Ok(())
    } else {
        Err(Refusal::mismatch(format!("{} is not the body's `{member}`", headers::NAME)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    const CAPABLE: &str = r#""io.modelcontextprotocol/clientCapabilities":{}"#;

    /// `Version|Method|Name` of the headers, `-` for one that is absent; nothing on stdio.
    #[track_caller]
    fn check(headers: Option<&str>, message: &str, expected: &str) {
        let message = message.replace("CLAIM", CLAIM).replace("CAPABLE", CAPABLE);
        let text = format!(r#"{{"jsonrpc":"2.0",{message}}}"#);
        let parts: Vec<Option<&str>> =
            headers.unwrap_or("").split('|').map(|part| Some(part).filter(|part| *part != "-")).collect();
        let http = headers.map(|_| Headers { version: parts[0], method: parts[1], name: parts[2] });
        let found = match classify(&envelope::parse(text.as_bytes()).unwrap(), http.as_ref()) {
            Ok(era) => era.name().to_owned(),
            Err(refusal) => format!("{} {}", refusal.status, refusal.code),
        };
        assert_eq!(found, expected, "{headers:?} {text}");
    }

    #[test]
    fn the_body_decides() {
        let list = r#""id":1,"method":"tools/list""#;
        let modern = r#""id":1,"method":"tools/list","params":{"_meta":{CLAIM,CAPABLE}}"#;
        check(None, list, "legacy");
        check(None, modern, "modern");
        check(Some("-|-|-"), list, "legacy");
        check(Some("2025-11-25|-|-"), list, "legacy");
        check(Some("2026-07-28|tools/list|-"), modern, "modern");
        check(None, r#""id":1,"method":"tools/list","params":{"_meta":{}}"#, "legacy");
        check(None, r#""id":1,"method":"x","params":{"arguments":{"_meta":{CLAIM}}}"#, "legacy");
        check(None, r#""id":1,"result":{}"#, "legacy");
        check(Some("2026-07-28|-|-"), r#""id":1,"result":{}"#, "legacy");
        // A header alone makes nothing modern.
        check(Some("2026-07-28|tools/list|-"), list, "400 -32602");
        check(
            Some("2026-07-28|tools/list|-"),
            r#""id":1,"method":"tools/list","params":{"_meta":{CAPABLE}}"#,
            "400 -32602",
        );
        check(Some("-|tools/list|-"), list, "legacy");
    }

    #[test]
    fn initialize() {
        let plain = r#""id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}"#;
        check(None, plain, "legacy");
        check(Some("-|initialize|-"), plain, "legacy");
        check(Some("2026-07-28|initialize|-"), plain, "400 -32020");
        let claimed = r#""id":1,"method":"initialize","params":{"_meta":{CLAIM,CAPABLE}}"#;
        check(Some("2026-07-28|initialize|-"), claimed, "modern");
        assert!(!Era::Modern.has("initialize") && Era::Legacy.has("initialize"));
        let old = r#""id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}"#;
        check(None, old, "legacy");
    }

    #[test]
    fn the_envelope() {
        let with = |meta: &str| format!(r#""id":1,"method":"x","params":{{"_meta":{{{meta}}}}}"#);
        check(None, &with("CLAIM"), "400 -32602");
        check(None, &with(r#"CLAIM,"io.modelcontextprotocol/clientCapabilities":[]"#), "400 -32602");
        check(None, &with(r#""io.modelcontextprotocol/protocolVersion":7,CAPABLE"#), "400 -32602");
        check(None, &with(r#""io.modelcontextprotocol/protocolVersion":"2099-01-01""#), "400 -32022");
        check(None, &with(r#""io.modelcontextprotocol/protocolVersion":"2025-11-25",CAPABLE"#), "400 -32022");
        // The header comes before the version, and the version before the rest.
        let future = with(r#""io.modelcontextprotocol/protocolVersion":"2099-01-01""#);
        check(Some("2026-07-28|x|-"), &future, "400 -32020");
        check(Some("2099-01-01|-|-"), &future, "400 -32022");
        check(Some("2026-07-28|-|-"), &with("CLAIM"), "400 -32602");
    }

    #[test]
    fn the_headers() {
        let call = r#""id":1,"method":"tools/call","params":{"name":"café","_meta":{CLAIM,CAPABLE}}"#;
        check(Some("2026-07-28|tools/call|=?base64?Y2Fmw6k=?="), call, "modern");
        check(Some(" 2026-07-28 | tools/call |=?base64?Y2Fmw6k=?="), call, "modern");
        check(Some("-|tools/call|=?base64?Y2Fmw6k=?="), call, "400 -32020");
        check(Some("2025-11-25|tools/call|=?base64?Y2Fmw6k=?="), call, "400 -32020");
        check(Some("2026-07-28|-|=?base64?Y2Fmw6k=?="), call, "400 -32020");
        check(Some("2026-07-28|Tools/Call|=?base64?Y2Fmw6k=?="), call, "400 -32020");
        check(Some("2026-07-28|tools/call|-"), call, "400 -32020");
        check(Some("2026-07-28|tools/call|cafe"), call, "400 -32020");
        check(Some("2026-07-28|tools/call|=?base64?*?="), call, "400 -32020");
        let nameless = r#""id":1,"method":"tools/call","params":{"_meta":{CLAIM,CAPABLE}}"#;
        check(Some("2026-07-28|tools/call|-"), nameless, "modern");
        let read = r#""id":1,"method":"resources/read","params":{"uri":"a:\/\/b","_meta":{CLAIM,CAPABLE}}"#;
        check(Some("2026-07-28|resources/read|a://b"), read, "modern");
    }

    #[test]
    fn notifications() {
        let plain = r#""method":"notifications/cancelled","params":{"requestId":1}"#;
        check(None, plain, "legacy");
        check(Some("2025-11-25|-|-"), plain, "legacy");
        check(Some("2026-07-28|-|-"), plain, "modern");
        check(Some("2026-07-28|notifications/cancelled|-"), plain, "modern");
        check(Some("2026-07-28|other|-"), plain, "400 -32020");
        check(Some("2099-01-01|-|-"), plain, "400 -32022");
        let claimed = r#""method":"x","params":{"_meta":{CLAIM}}"#;
        check(None, claimed, "modern");
        check(Some("2025-11-25|-|-"), claimed, "400 -32020");
        check(
            None,
            r#""method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":1}}"#,
            "400 -32602",
        );
    }

    #[test]
    fn batches() {
        let modern = format!(r#"[{{"method":"a"}},{{"params":{{"_meta":{{{CLAIM}}}}}}}]"#);
        assert!(is_modern_batch(&modern));
        assert!(!is_modern_batch(r#"[{"method":"a","params":{}},1]"#));
        assert!(!is_modern_batch("{}"));
    }

    #[test]
    fn refusals() {
        assert_eq!(
            unsupported_version("1900-01-01").error(),
            r#"{"code":-32022,"message":"protocol version 1900-01-01 is not supported","data":{"requested":"1900-01-01","supported":["2026-07-28"]}}"#
        );
        assert_eq!((unknown_method("ping").status, unknown_method("ping").code), (404, -32601));
        for version in super::super::handshake::VERSIONS {
            assert_eq!(Era::of_version(version), Era::Legacy);
        }
        assert_eq!(Era::of_version("2027-01-01"), Era::Modern);
        assert_eq!(Era::of_version("zzzz"), Era::Legacy);
    }
}
