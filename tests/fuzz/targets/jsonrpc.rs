//! JSON-RPC messages: held against serde_json for what is JSON, what a member is and what its text is; whatever is
//! written again or edited is JSON and says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::base::limits::JSON_DEPTH_MAX;
use mcpvisor::mcp::envelope::{self, Invalid, Message, Outcome};
use mcpvisor::mcp::items::{self, Kind};
use mcpvisor::mcp::line::one_line;
use mcpvisor::mcp::{features, handshake, params, scan};
use mcpvisor_fuzz::stretched;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

fuzz_target!(|data: &[u8]| {
    // Long enough to nest too deeply.
    let data = &*stretched(data, 4 * JSON_DEPTH_MAX);
    let message = envelope::parse(data);
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(matches!(message, Err(Invalid::Parse(_))));
        return;
    };
    let json = as_serde_says(text);
    assert_eq!(matches!(message, Err(Invalid::Parse(_))), json.is_none(), "{message:?}");
    let Some(json) = json else { return };
    kind(json, &message);
    on_one_line(json);
    if let Ok(message) = &message {
        written_again(message);
    }
    let inner = match &message {
        Ok(Message::Request { params, .. } | Message::Notification { params, .. }) => *params,
        Ok(Message::Response { outcome: Outcome::Result(raw) | Outcome::Error(raw), .. }) => Some(*raw),
        Err(_) => None,
    };
    edited(json);
    inner.into_iter().for_each(edited);
});

/// The text without the white space around it, if it is JSON; ours says the same, up to the depth that we look into.
fn as_serde_says(text: &str) -> Option<&str> {
    let theirs = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
    match scan::document(text) {
        Ok(span) => {
            assert_eq!(Some(&text[span]), theirs);
            theirs
        }
        Err(at) => {
            assert!(at.offset <= text.len());
            let too_deep = at.expected == "less nesting";
            assert!(theirs.is_none() || too_deep, "{at:?}");
            let opened = text[..at.offset].bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
            assert!(!too_deep || opened >= JSON_DEPTH_MAX);
            None
        }
    }
}

/// The members of an object as serde_json finds them, keys with their quotes.
struct Members<'a>(Vec<(&'a str, &'a str)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((key.get(), value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// What the message must be, by what its members are.
fn kind(json: &str, message: &Result<Message<'_>, Invalid>) {
    let Ok(Members(members)) = serde_json::from_str(json) else {
        assert!(!json.starts_with('{') && message.is_err());
        return;
    };
    let mut scanned = Vec::new();
    let whole = scan::object(json, |member| scanned.push((&json[member.key], &json[member.value])));
    assert!(whole.is_ok());
    assert_eq!(scanned, members);
    let last = |key: &str| members.iter().rev().find(|(found, _)| *found == key).map(|(_, value)| *value);
    let (id, method, answers) = (last("\"id\""), last("\"method\""), [last("\"result\""), last("\"error\"")]);
    let params = last("\"params\"");
    let method = method.map(|raw| serde_json::from_str::<String>(raw).ok());
    let good_id = id.filter(|id| id.starts_with('"') || !id.contains(|c| !matches!(c, '-' | '0'..='9')));
    let wrong =
        last("\"jsonrpc\"") != Some("\"2.0\"") || params.is_some_and(|raw| !raw.starts_with(['{', '[']));
    let expected = match (method, id, answers) {
        _ if wrong => None,
        (Some(Some(method)), None, [None, None]) => {
            Some(Message::Notification { method: method.into(), params })
        }
        (Some(Some(method)), Some(_), [None, None]) => {
            good_id.map(|id| Message::Request { id, method: method.into(), params })
        }
        (None, Some(id), [Some(raw), None]) => Some(Message::Response { id, outcome: Outcome::Result(raw) }),
        (None, Some(id), [None, Some(raw)]) => Some(Message::Response { id, outcome: Outcome::Error(raw) }),
        _ => None,
    };
    match message {
        Ok(message) => assert_eq!(Some(message), expected.as_ref()),
        Err(Invalid::Request { id, .. }) => {
            assert_eq!(expected, None);
            assert!(id.is_none() || id.as_deref() == good_id);
        }
        Err(Invalid::Parse(why)) => panic!("it is JSON: {why}"),
    }
}

fn written_again(message: &Message<'_>) {
    let bytes = match message {
        Message::Request { id, method, params } => envelope::request(id, method, *params),
        Message::Notification { method, params } => envelope::notification(method, *params),
        Message::Response { id, outcome } => envelope::response(id, *outcome),
    };
    assert_eq!(envelope::parse(&bytes).as_ref(), Ok(message));
}

fn on_one_line(json: &str) {
    let line = one_line(json.as_bytes()).into_owned();
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let line = String::from_utf8(line).expect("only line breaks were changed");
    is_json(&line);
    if let Ok(value) = serde_json::from_str::<Value>(json) {
        assert_eq!(serde_json::from_str::<Value>(&line).ok(), Some(value));
    }
}

/// What is looked at in params and results, and what is edited there.
fn edited(raw: &str) {
    // Numbers beyond f64 and lone surrogates are no `Value`; what is found must still be JSON.
    let value: Option<Value> = serde_json::from_str(raw).ok();
    let methods = ["tools/call", "prompts/get", "resources/read", "completion/complete"];
    for method in methods {
        let found = params::address(method, raw);
        if let Some(value) = &value {
            assert_eq!(found.as_ref().map(|address| address.key.as_str()), addressed(method, value));
        }
        let Some(address) = found else { continue };
        assert_eq!(scan::string(&raw[address.span.clone()]), Some(address.key));
        let edited = items::splice(raw, &[(address.span, "\"another\"")]);
        is_json(&edited);
        assert_eq!(params::address(method, &edited).map(|address| address.key).as_deref(), Some("another"));
    }
    let token = params::progress_token(raw);
    if let Some(value) = &value {
        let theirs = value.get("_meta").and_then(|meta| meta.get("progressToken"));
        assert_eq!(token.clone().map(|span| serde_json::from_str(&raw[span]).unwrap()).as_ref(), theirs);
    }
    if let Some(span) = token {
        let edited = items::splice(raw, &[(span, "7")]);
        is_json(&edited);
        assert_eq!(params::progress_token(&edited).map(|span| &edited[span]), Some("7"));
    }
    for kind in Kind::ALL {
        listed(kind, raw);
    }
    features::of_client(raw);
    if let Ok(greeting) = handshake::greeting(raw) {
        is_json(&greeting.for_client("2025-03-26").0);
    }
}

fn addressed<'v>(method: &str, value: &'v Value) -> Option<&'v str> {
    let found = match method {
        "resources/read" => value.get("uri"),
        "completion/complete" => {
            let of = value.get("ref")?;
            of.get("uri").or_else(|| of.get("name"))
        }
        _ => value.get("name"),
    };
    found?.as_str()
}

fn listed(kind: Kind, raw: &str) {
    let Some(page) = items::page(kind, raw) else { return };
    page.next.iter().for_each(|cursor| is_json(cursor));
    for item in page.items {
        is_json(&item.raw);
        let renamed = item.renamed("\"another\"");
        is_json(&renamed);
        let again = items::Item::new(kind, &renamed).expect("it still has a key");
        assert_eq!((again.key.as_str(), again.description()), ("another", item.description()));
    }
}

#[track_caller]
fn is_json(text: &str) {
    assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{text:?}");
}
