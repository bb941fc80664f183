//! Members of a params or result object, and of its `_meta`, set and removed where they stand: every other byte stays
//! as it came. On top of that, what differs between the eras in requests and results.
//!
//! Of a key that is there twice the last counts, as everywhere; what stands before it is left alone when it is set,
//! and removed with it when it is removed.

use super::caching::Caching;
use super::era::VERSION;
use super::items::splice;
use super::scan::{self, Member};
use std::ops::Range;

/// The reserved keys of 2026-07-28.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A key, and the raw JSON to set it to; nothing removes it.
pub type Edit<'a> = (&'a str, Option<&'a str>);

/// The raw value of a key in the `_meta` of params or a result.
pub fn get<'t>(object: &'t str, key: &str) -> Option<&'t str> {
    // Most messages have none: a look for the word spares the scan.
    if !object.contains("_meta") && !object.contains("\\u") {
        return None;
    }
    let meta = &object[scan::find(object, "_meta")?];
    Some(&meta[scan::find(meta, key)?])
}

/// `object` with keys of its `_meta` set and removed. The `_meta` is made when it is missing, or no object, and
/// something is set; it goes when nothing else was in it. A text that is no object stays as it is.
pub fn edit(object: &str, edits: &[Edit]) -> String {
    let old = scan::find(object, "_meta").map(|span| &object[span]).filter(|meta| meta.starts_with('{'));
    let new = match old {
        Some(meta) => members(meta, edits),
        None if edits.iter().all(|(_, value)| value.is_none()) => return object.to_owned(),
        None => members("{}", edits),
    };
    if old == Some(&new) {
        return object.to_owned();
    }
    let empty = new[1..new.len() - 1].trim_ascii().is_empty();
    members(object, &[("_meta", (!empty).then_some(&new))])
}

/// `object` with members set and removed. New ones come last, in the order given. A text that is no object stays as
/// it is.
pub fn members(object: &str, edits: &[Edit]) -> String {
    let mut all: Vec<Member> = Vec::new();
    if scan::object(object, |member| all.push(member)).is_err() {
        return object.to_owned();
    }
    let named = |member: &Member, key: &str| scan::is_key(&object[member.key.clone()], key);
    let goes = |member: &Member| edits.iter().any(|(key, value)| value.is_none() && named(member, key));
    let gone: Vec<bool> = all.iter().map(goes).collect();
    let last_kept = gone.iter().rposition(|gone| !gone);

    let mut changes: Vec<(Range<usize>, String)> = removals(&all, &gone);
    let mut added = String::new();
    for (key, value) in edits {
        let Some(value) = value else { continue };
        match all.iter().rev().find(|member| named(member, key)) {
            Some(member) => changes.push((member.value.clone(), (*value).to_owned())),
            None => {
                if last_kept.is_some() || !added.is_empty() {
                    added.push(',');
                }
                added.extend(["\"", key, "\":", value]);
            }
        }
    }
    if !added.is_empty() {
        let brace = object.find('{').expect("it was read as an object") + 1;
        let at = last_kept.map_or(brace, |last| all[last].value.end);
        changes.push((at..at, added));
    }
    // An insertion stands before a removal that begins at the same place.
    changes.sort_by_key(|(span, _)| (span.start, span.end));
    let changes: Vec<(Range<usize>, &str)> =
        changes.iter().map(|(span, text)| (span.clone(), text.as_str())).collect();
    splice(object, &changes)
}

/// What to cut so that the members that are `gone` go with one comma each.
fn removals(all: &[Member], gone: &[bool]) -> Vec<(Range<usize>, String)> {
    let first_kept = gone.iter().position(|gone| !gone).unwrap_or(all.len());
    let cut = |(at, member): (usize, &Member)| {
        let span = if at > first_kept {
            all[at - 1].value.end..member.value.end
        } else {
            member.key.start..all.get(at + 1).map_or(member.value.end, |next| next.key.start)
        };
        (span, String::new())
    };
    all.iter().enumerate().filter(|(at, _)| gone[*at]).map(cut).collect()
}

/// Who asks, in the terms of 2026-07-28. All raw JSON.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub capabilities: &'a str,
    pub info: Option<&'a str>,
    pub log_level: Option<&'a str>,
}

/// The params of a request to a modern server. Without a level of its own a request asks for no log messages.
pub fn request_to_modern(params: Option<&str>, asker: &Asker) -> String {
    let version = format!("\"{VERSION}\"");
    let edits = [
        (PROTOCOL_VERSION, Some(version.as_str())),
        (CLIENT_INFO, asker.info),
        (CLIENT_CAPABILITIES, Some(asker.capabilities)),
        (LOG_LEVEL, asker.log_level),
    ];
    edit(params.unwrap_or("{}"), &edits)
}

/// The params of a modern client's request for a legacy server: what only its era knows is taken out.
pub fn request_to_legacy(params: &str) -> String {
    let keys = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];
    edit(params, &keys.map(|key| (key, None)))
}

/// The methods whose complete results say how long they may be kept.
pub const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

/// A legacy server's result of `method` for a modern client: complete, and not to be kept. `server_info` is raw JSON.
pub fn result_to_modern(method: &str, result: &str, server_info: Option<&str>) -> String {
    result_to_keep(method, result, Caching::NONE, server_info)
}

/// The same of a result that may be kept.
pub fn result_to_keep(method: &str, result: &str, caching: Caching, server_info: Option<&str>) -> String {
    let complete = ("resultType", Some("\"complete\""));
    let (ttl, scope) = caching.members();
    let result = match CACHEABLE.contains(&method) {
        true => members(result, &[complete, ("ttlMs", Some(&ttl)), ("cacheScope", Some(scope))]),
        false => members(result, &[complete]),
    };
    match server_info {
        Some(info) => edit(&result, &[(SERVER_INFO, Some(info))]),
        None => result,
    }
}

/// A modern server's complete result for a legacy client.
pub fn result_to_legacy(result: &str) -> String {
    let result = members(result, &["resultType", "ttlMs", "cacheScope"].map(|key| (key, None)));
    edit(&result, &[(SERVER_INFO, None)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, edits: &[Edit], expected: &str) {
        assert_eq!(members(text, edits), expected, "{text} {edits:?}");
        if text.starts_with('{') {
            let outer = |inner: &str| format!(r#"{{"a" : 1e400, "_meta" : {inner} }}"#);
            let empty = expected[1..expected.len() - 1].trim().is_empty() && expected != text;
            let expected = if empty { r#"{"a" : 1e400 }"#.to_owned() } else { outer(expected) };
            assert_eq!(edit(&outer(text), edits), expected, "{text} {edits:?}");
        }
    }

    #[test]
    fn members_are_set_and_removed_where_they_stand() {
        check("{}", &[("k", Some("1"))], r#"{"k":1}"#);
        check("{ }", &[("k", Some("1")), ("l", Some("[]"))], r#"{"k":1,"l":[] }"#);
        check(r#"{ "a" : 1.0 }"#, &[("k", Some("1"))], r#"{ "a" : 1.0,"k":1 }"#);
        check(r#"{ "a" : 1.0 , "k":2 }"#, &[("k", Some("1"))], r#"{ "a" : 1.0 , "k":1 }"#);
        check(r#"{"k":2,"k":3}"#, &[("k", Some("1"))], r#"{"k":2,"k":1}"#);
        check(r#"{"\u006b":2}"#, &[("k", Some("1"))], r#"{"\u006b":1}"#);
        check(r#"{"k":2}"#, &[("k", None)], "{}");
        check(r#"{ "k":2 }"#, &[("k", None)], "{  }");
        check(r#"{"k":2 , "a":1}"#, &[("k", None)], r#"{"a":1}"#);
        check(r#"{"a":1 , "k":2}"#, &[("k", None)], r#"{"a":1}"#);
        check(r#"{"a":1,"k":2,"b":3}"#, &[("k", None)], r#"{"a":1,"b":3}"#);
        check(r#"{"k":1,"k":2,"a":3,"k":4,"l":5}"#, &[("k", None), ("l", None)], r#"{"a":3}"#);
        check(r#"{"k":1,"l":2}"#, &[("k", None), ("l", None)], "{}");
        check(r#"{"k":1,"l":2}"#, &[("k", None), ("l", None), ("m", Some("3"))], r#"{"m":3}"#);
        check(r#"{"a":0,"k":1}"#, &[("k", None), ("m", Some("3"))], r#"{"a":0,"m":3}"#);
        check(r#"{"a":0,"k":1}"#, &[("a", Some("9")), ("k", None)], r#"{"a":9}"#);
        check(r#"{"a":{"k":1}}"#, &[("k", None)], r#"{"a":{"k":1}}"#);
        check("[1]", &[("k", Some("1"))], "[1]");
    }

    #[test]
    fn a_meta_comes_and_goes() {
        #[track_caller]
        fn check(text: &str, edits: &[Edit], expected: &str) {
            assert_eq!(edit(text, edits), expected, "{text} {edits:?}");
        }
        check("{}", &[("k", Some("1"))], r#"{"_meta":{"k":1}}"#);
        check(r#"{"name":"x"}"#, &[("k", Some("1"))], r#"{"name":"x","_meta":{"k":1}}"#);
        check(r#"{"_meta":null}"#, &[("k", Some("1"))], r#"{"_meta":{"k":1}}"#);
        check(r#"{"_meta":null}"#, &[("k", None)], r#"{"_meta":null}"#);
        check(r#"{"_meta":{ }}"#, &[("k", None)], r#"{"_meta":{ }}"#);
        check(r#"{"_meta":{"k":1},"a":2}"#, &[("k", None)], r#"{"a":2}"#);
        check(r#"{"a":1}"#, &[("k", None)], r#"{"a":1}"#);
        check("[1]", &[("k", Some("1"))], "[1]");
        assert_eq!(get(r#"{"_meta":{"k": [1] }}"#, "k"), Some("[1]"));
        assert_eq!(get(r#"{"k":1}"#, "k"), None);
        assert_eq!(get(r#"{"\u005fmeta":{"k":2}}"#, "k"), Some("2"));
    }

    #[test]
    fn requests_across_eras() {
        let asker = Asker { capabilities: r#"{"roots":{}}"#, info: Some(r#"{"name":"c"}"#), log_level: None };
        let legacy = r#"{"name":"t", "arguments":{"x":1.0},"_meta":{"progressToken":7}}"#;
        let modern = request_to_modern(Some(legacy), &asker);
        assert_eq!(
            modern,
            r#"{"name":"t", "arguments":{"x":1.0},"_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}"#
        );
        assert_eq!(request_to_legacy(&modern), legacy);
        let bare = request_to_modern(None, &Asker { log_level: Some("\"info\""), info: None, ..asker });
        assert_eq!(get(&bare, LOG_LEVEL), Some("\"info\""));
        assert_eq!(request_to_legacy(&bare), "{}");
    }

    #[test]
    fn results_across_eras() {
        let legacy = r#"{ "tools":[ {"name":"a","x":1e400} ], "nextCursor":"" }"#;
        let modern = result_to_modern("tools/list", legacy, Some(r#"{"name":"s"}"#));
        assert_eq!(
            modern,
            r#"{ "tools":[ {"name":"a","x":1e400} ], "nextCursor":"","resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}} }"#
        );
        assert_eq!(result_to_legacy(&modern), legacy);
        assert_eq!(result_to_modern("tools/call", "{}", None), r#"{"resultType":"complete"}"#);
        let kept = Caching { ttl: std::time::Duration::from_secs(5), public: true };
        assert_eq!(
            result_to_keep("tools/list", "{}", kept, None),
            r#"{"resultType":"complete","ttlMs":5000,"cacheScope":"public"}"#
        );
        assert_eq!(result_to_legacy(r#"{"resultType":"complete"}"#), "{}");
    }

    #[test]
    fn whatever_is_edited_is_still_json() {
        let mut random = fastrand::Rng::with_seed(5);
        let keys = ["a", "k", "\\u006b", "_meta", ""];
        let values = ["1", " null", "\"}\"", "[{}]", r#"{"k":1}"#, r#"{ "k" : 1 , "a":{}}"#];
        for _ in 0..20_000 {
            let mut text = String::from("{");
            for at in 0..random.usize(..5) {
                let comma = if at > 0 { [",", " ,", ", "][random.usize(..3)] } else { "" };
                let (key, value) = (keys[random.usize(..keys.len())], values[random.usize(..values.len())]);
                text.push_str(&format!("{comma}\"{key}\":{value}"));
            }
            text.push_str([" }", "}"][random.usize(..2)]);
            let value = random.bool().then_some("7");
            let edits = [("k", value), ("new", random.bool().then_some("8"))];
            for changed in [members(&text, &edits), edit(&text, &edits)] {
                assert!(scan::document(&changed).is_ok(), "{text} -> {changed}");
            }
            let changed = members(&text, &edits);
            assert_eq!(scan::find(&changed, "k").map(|span| &changed[span]), value, "{text} -> {changed}");
            assert_eq!(get(&edit(&text, &edits), "k"), value, "{text}");
        }
    }
}
