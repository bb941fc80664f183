//! From one era to the other and back: what a request, a result and an error of one side are on the other.
//!
//! Pairs of the same era pass untouched. Across, only the spans that differ are other bytes: reserved `_meta` keys,
//! the members that say how complete a result is and how long it may be kept, and a few error codes. What has no form
//! on the other side is refused as [`FaultKind::NotBridgeable`], with the reason. Which era a side is of, and what is
//! answered by the gateway itself (greetings, pings, levels, subscriptions), is decided elsewhere.

use super::envelope::{INTERNAL_ERROR, INVALID_PARAMS, error_object};
use super::era::{Era, HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION, VERSION};
use super::items::splice;
use super::meta::{self, Asker};
use super::{params, scan};
use crate::base::fault::{Fault, FaultKind};
use crate::base::text::shorten;
use serde_json::json;
use std::borrow::Cow;
use std::ops::Range;

/// Codes of the legacy era that the modern one must not use.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// What an answer is on the client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crossed<'a> {
    Result(Cow<'a, str>),
    Error(Cow<'a, str>),
}

/// The params of a request of an era `from` for a server of the era `to`. What `asker` says is for modern servers.
pub fn request<'a>(
    method: &str,
    params: &'a str,
    from: Era,
    to: Era,
    asker: &Asker<'_>,
) -> Result<Cow<'a, str>, Fault> {
    if from == to {
        return Ok(Cow::Borrowed(params));
    }
    if method.starts_with("tasks/") || (method == "tools/call" && scan::find(params, "task").is_some()) {
        return Err(not_bridgeable("tasks are another protocol in each era", from, to));
    }
    Ok(Cow::Owned(match to {
        Era::Modern => meta::request_to_modern(Some(params), asker),
        // Answers to questions that no legacy server asked in this way.
        Era::Legacy => {
            let params = meta::request_to_legacy(params);
            match scan::find(&params, "inputResponses").or(scan::find(&params, "requestState")) {
                Some(_) => meta::members(&params, &[("inputResponses", None), ("requestState", None)]),
                None => params,
            }
        }
    }))
}

/// A server's result of `method` for a client of the era `to`. `server_info` is what a legacy server said of itself,
/// raw.
pub fn result<'a>(
    method: &str,
    result: &'a str,
    from: Era,
    to: Era,
    server_info: Option<&str>,
) -> Result<Cow<'a, str>, Fault> {
    match (from, to) {
        (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => Ok(Cow::Borrowed(result)),
        (Era::Legacy, Era::Modern) => Ok(Cow::Owned(meta::result_to_modern(method, result, server_info))),
        (Era::Modern, Era::Legacy) => match params::text(result, "resultType").as_deref() {
            None | Some("complete") => {
                Ok(Cow::Owned(shown_to_legacy(method, meta::result_to_legacy(result))))
            }
            Some("input_required") => {
                Err(not_bridgeable("the server wants input from the user first", to, from))
            }
            Some(other) => {
                let why = format!("the server answers with a result of type `{}`", shorten(other, 40));
                Err(not_bridgeable(&why, to, from))
            }
        },
    }
}

/// A server's error for a client of the era `to`. `params` are the request's; `capabilities` are the client's, raw.
pub fn error<'a>(
    method: &str,
    params: &str,
    error: &'a str,
    (from, to): (Era, Era),
    capabilities: &str,
) -> Crossed<'a> {
    let code = scan::find(error, "code").and_then(|span| error[span].parse::<i64>().ok()).unwrap_or_default();
    match (from, to, code) {
        // They speak of the way between us and the server, which is none of the client's.
        (Era::Modern, _, HEADER_MISMATCH | UNSUPPORTED_VERSION) => {
            Crossed::Error(recoded(error, INTERNAL_ERROR).into())
        }
        (Era::Modern, Era::Legacy, MISSING_CAPABILITY) => {
            let fault = not_bridgeable(
                "the server needs what this client has not declared, or cannot be asked here",
                to,
                from,
            );
            let data = json!({"kind": fault.kind.name(), "hint": fault.hint});
            Crossed::Error(error_object(INTERNAL_ERROR, &fault.to_string(), Some(&data)).into())
        }
        (Era::Modern, Era::Legacy, INVALID_PARAMS) if method == "resources/read" && names_uri(error) => {
            Crossed::Error(recoded(error, RESOURCE_NOT_FOUND).into())
        }
        (Era::Legacy, Era::Modern, RESOURCE_NOT_FOUND) => {
            let error = recoded(error, INVALID_PARAMS);
            let uri = scan::find(params, "uri").map(|span| &params[span]);
            Crossed::Error(uri.map_or(error.clone(), |uri| with_uri(&error, uri)).into())
        }
        (Era::Legacy, Era::Modern, URL_ELICITATION_REQUIRED) => by_url(error, capabilities),
        (Era::Legacy | Era::Modern, Era::Legacy | Era::Modern, _) => Crossed::Error(error.into()),
    }
}

/// What a server of either era said of itself, as the answer to `server/discover`.
pub fn discovered(greeting: &str) -> String {
    let part = |key| scan::find(greeting, key).map(|span| &greeting[span]);
    let capabilities = part("capabilities").filter(|raw| raw.starts_with('{')).unwrap_or("{}");
    let legacy = part("supportedVersions").is_none();
    // The tasks of the legacy era are not those of the modern one.
    let capabilities =
        if legacy { meta::members(capabilities, &[("tasks", None)]) } else { capabilities.into() };
    let instructions = part("instructions").map(|raw| format!(",\"instructions\":{raw}")).unwrap_or_default();
    discover_result(&capabilities, &instructions, info(greeting))
}

/// A `DiscoverResult` of a server that is being begun anew, maybe in the other era: whatever it said before, its lists may
/// be others then, and its clients will be told.
pub fn before_it_changes(discovered: &str) -> String {
    let Some(mut all) = scan::find(discovered, "capabilities").map(|span| discovered[span].to_owned()) else {
        return discovered.to_owned();
    };
    for list in ["tools", "prompts", "resources"] {
        let one = scan::find(&all, list).map(|span| &all[span]).filter(|one| one.starts_with('{'));
        let Some(one) = one.map(|one| meta::members(one, &[("listChanged", Some("true"))])) else { continue };
        all = meta::members(&all, &[(list, Some(&one))]);
    }
    meta::members(discovered, &[("capabilities", Some(&all))])
}

/// A `DiscoverResult` of ours; `instructions` is a whole member with its comma, or nothing.
pub fn discover_result(capabilities: &str, instructions: &str, info: Option<&str>) -> String {
    let identity =
        info.map(|info| format!(",\"_meta\":{{\"{}\":{info}}}", meta::SERVER_INFO)).unwrap_or_default();
    format!(
        "{{\"resultType\":\"complete\",\"supportedVersions\":[\"{VERSION}\"],\"capabilities\":{capabilities}\
         {instructions},\"ttlMs\":0,\"cacheScope\":\"private\"{identity}}}"
    )
}

/// Name and version in a greeting of either era, raw.
fn info(greeting: &str) -> Option<&str> {
    let own = scan::find(greeting, "serverInfo").map(|span| &greeting[span]);
    own.or_else(|| meta::get(greeting, meta::SERVER_INFO)).filter(|raw| raw.starts_with('{'))
}

/// A tool's definition for a legacy client, whose output schemas are of objects only: another one is wrapped the way
/// its values are.
pub fn tool_to_legacy(tool: &str) -> Cow<'_, str> {
    match output_schema(tool) {
        Some(span) => {
            let wrapped = wrapped_schema(&tool[span.clone()]);
            Cow::Owned(splice(tool, &[(span, &wrapped)]))
        }
        None => Cow::Borrowed(tool),
    }
}

fn shown_to_legacy(method: &str, result: String) -> String {
    match method {
        "tools/call" => match scan::find(&result, "structuredContent") {
            Some(span) if !result[span.clone()].starts_with('{') => {
                let wrapped = format!("{{\"result\":{}}}", &result[span.clone()]);
                splice(&result, &[(span, &wrapped)])
            }
            _ => result,
        },
        "tools/list" => wrap_output_schemas(result),
        _ => result,
    }
}

fn wrap_output_schemas(result: String) -> String {
    let Some(list) = scan::find(&result, "tools").filter(|_| result.contains("outputSchema")) else {
        return result;
    };
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    // What is no array holds no tools.
    let _ = scan::array(&result[list.clone()], |tool| {
        let tool = list.start + tool.start..list.start + tool.end;
        if let Some(schema) = output_schema(&result[tool.clone()]) {
            let schema = tool.start + schema.start..tool.start + schema.end;
            edits.push((schema.clone(), wrapped_schema(&result[schema])));
        }
    });
    let edits: Vec<(Range<usize>, &str)> = edits.iter().map(|(at, new)| (at.clone(), new.as_str())).collect();
    splice(&result, &edits)
}

fn wrapped_schema(schema: &str) -> String {
    format!("{{\"type\":\"object\",\"properties\":{{\"result\":{schema}}},\"required\":[\"result\"]}}")
}

/// Where a tool's output schema stands, if it is of something that is no object.
fn output_schema(tool: &str) -> Option<Range<usize>> {
    let span = scan::find(tool, "outputSchema")?;
    let kind = params::text(&tool[span.clone()], "type")?;
    (kind != "object").then_some(span)
}

/// A legacy server that wants the user to visit pages first says so in an error; here it is a question. Nothing need
/// be kept: the same request comes again once they were visited.
fn by_url(error: &str, capabilities: &str) -> Crossed<'static> {
    let elicitation = scan::find(capabilities, "elicitation").map(|span| &capabilities[span]);
    if elicitation.and_then(|elicitation| scan::find(elicitation, "url")).is_none() {
        let data = json!({"requiredCapabilities": {"elicitation": {"url": {}}}});
        let message = "the server wants the user to visit a page first, and this client cannot show one";
        return Crossed::Error(error_object(MISSING_CAPABILITY, message, Some(&data)).into());
    }
    let data = scan::find(error, "data").map_or("{}", |span| &error[span]);
    let list = scan::find(data, "elicitations").map_or("[]", |span| &data[span]);
    let mut requests = Vec::new();
    // What is no array names no page.
    let _ = scan::array(list, |span| {
        let one = meta::members(&list[span], &[("elicitationId", None)]);
        let name = format!("url-{}", requests.len() + 1);
        requests.push(format!("\"{name}\":{{\"method\":\"elicitation/create\",\"params\":{one}}}"));
    });
    if requests.is_empty() {
        return Crossed::Error(recoded(error, INTERNAL_ERROR).into());
    }
    let requests = requests.join(",");
    Crossed::Result(format!("{{\"resultType\":\"input_required\",\"inputRequests\":{{{requests}}}}}").into())
}

fn names_uri(error: &str) -> bool {
    let data = scan::find(error, "data").map(|span| &error[span]);
    data.is_some_and(|data| scan::find(data, "uri").is_some())
}

/// The error with the resource that it is about in its data.
fn with_uri(error: &str, uri: &str) -> String {
    let data = scan::find(error, "data").map(|span| &error[span]).filter(|data| data.starts_with('{'));
    let data = meta::members(data.unwrap_or("{}"), &[("uri", Some(uri))]);
    meta::members(error, &[("data", Some(&data))])
}

fn recoded(error: &str, code: i64) -> String {
    meta::members(error, &[("code", Some(&code.to_string()))])
}

fn not_bridgeable(why: &str, client: Era, server: Era) -> Fault {
    let (client, server) = (client.name(), server.name());
    let message = format!("this cannot be carried between a {client} client and a {server} server: {why}");
    Fault::new(FaultKind::NotBridgeable, message)
        .hint(format!("a client that speaks the {server} era of MCP can use it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Era::{Legacy, Modern};

    const ASKER: Asker<'static> = Asker { capabilities: "{}", info: None, log_level: None };

    fn eras(text: &str) -> (Era, Era) {
        let era = |letter: &str| if letter == "L" { Legacy } else { Modern };
        let (from, to) = text.split_once('>').unwrap();
        (era(from), era(to))
    }

    #[test]
    fn requests() {
        #[track_caller]
        fn check(pair: &str, method: &str, params: &str, expected: &str) {
            let (from, to) = eras(pair);
            let found = match request(method, params, from, to, &ASKER) {
                Ok(params) => params.into_owned(),
                Err(fault) => fault.kind.name().to_owned(),
            };
            assert_eq!(found, expected, "{pair} {method} {params}");
        }
        let odd = r#"{ "name":"x", "arguments":{"n":1e400,"n":-0},"_meta":{"a/b": 1.0} }"#;
        check("L>L", "tools/call", odd, odd);
        check("M>M", "tools/call", odd, odd);
        check("M>L", "tools/call", odd, odd);
        let stamped = r#"{ "name":"x", "arguments":{"n":1e400,"n":-0},"_meta":{"a/b": 1.0,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}} }"#;
        check("L>M", "tools/call", odd, stamped);
        check("M>L", "tools/call", stamped, odd);
        check("M>M", "tools/call", stamped, stamped);
        check(
            "M>L",
            "tools/call",
            r#"{"name":"x","requestState":"s","inputResponses":{}}"#,
            r#"{"name":"x"}"#,
        );
        check("L>M", "tools/call", r#"{"name":"x","task":{"ttl":1}}"#, "not_bridgeable");
        check("L>L", "tools/call", r#"{"name":"x","task":{"ttl":1}}"#, r#"{"name":"x","task":{"ttl":1}}"#);
        check("M>L", "tasks/get", "{}", "not_bridgeable");
        check("L>M", "tasks/get", "{}", "not_bridgeable");
    }

    #[test]
    fn results() {
        #[track_caller]
        fn check(pair: &str, method: &str, text: &str, expected: &str) {
            let (from, to) = eras(pair);
            let found = match result(method, text, from, to, Some(r#"{"name":"s"}"#)) {
                Ok(text) => text.into_owned(),
                Err(fault) => fault.kind.name().to_owned(),
            };
            assert_eq!(found, expected, "{pair} {method} {text}");
        }
        check("L>L", "tools/list", r#"{ "tools":[] }"#, r#"{ "tools":[] }"#);
        let list = r#"{ "tools":[],"resultType":"complete","ttlMs":5,"cacheScope":"public" }"#;
        check("M>M", "tools/list", list, list);
        check("M>L", "tools/list", list, r#"{ "tools":[] }"#);
        let id = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}"#;
        check(
            "L>M",
            "resources/read",
            r#"{"contents":[ ]}"#,
            &format!(r#"{{"contents":[ ],"resultType":"complete","ttlMs":0,"cacheScope":"private",{id}}}"#),
        );
        check("L>M", "tools/call", "{}", &format!(r#"{{"resultType":"complete",{id}}}"#));
        check("M>L", "completion/complete", &format!(r#"{{"resultType":"complete",{id}}}"#), "{}");
        check("M>L", "tools/call", r#"{"resultType":"input_required","requestState":"x"}"#, "not_bridgeable");
        check("M>L", "tools/call", r#"{"resultType":"task"}"#, "not_bridgeable");
        let pending = r#"{"resultType":"input_required","requestState":"\u0078"}"#;
        check("M>M", "tools/call", pending, pending);
        check(
            "M>L",
            "tools/call",
            r#"{"structuredContent": [1],"resultType":"complete"}"#,
            r#"{"structuredContent": {"result":[1]}}"#,
        );
        check("M>L", "tools/call", r#"{"structuredContent":{"a":1}}"#, r#"{"structuredContent":{"a":1}}"#);
        check(
            "M>L",
            "tools/list",
            r#"{"tools":[{"name":"a","outputSchema":{"type":"array"}},{"name":"b","outputSchema":{"type":"object"}}]}"#,
            r#"{"tools":[{"name":"a","outputSchema":{"type":"object","properties":{"result":{"type":"array"}},"required":["result"]}},{"name":"b","outputSchema":{"type":"object"}}]}"#,
        );
    }

    #[test]
    fn errors() {
        #[track_caller]
        fn check(pair: &str, method: &str, text: &str, expected: &str) {
            let client = r#"{"elicitation":{"url":{}}}"#;
            let found = error(method, r#"{"uri":"x:\/\/1"}"#, text, eras(pair), client);
            let found = match found {
                Crossed::Result(text) => format!("result {text}"),
                Crossed::Error(text) => text.into_owned(),
            };
            assert_eq!(found, expected, "{pair} {method} {text}");
        }
        let odd = r#"{ "code":-32002 , "message":"m" }"#;
        check("L>L", "resources/read", odd, odd);
        check("L>M", "resources/read", odd, r#"{ "code":-32602 , "message":"m","data":{"uri":"x:\/\/1"} }"#);
        let gone = r#"{"code":-32602,"message":"m","data":{"uri":"u"}}"#;
        check("M>L", "resources/read", gone, r#"{"code":-32002,"message":"m","data":{"uri":"u"}}"#);
        check("M>L", "tools/call", gone, gone);
        check("M>M", "resources/read", gone, gone);
        check("M>M", "x", r#"{"code":-32020,"message":"m"}"#, r#"{"code":-32603,"message":"m"}"#);
        check("M>L", "x", r#"{"code":-32022,"message":"m"}"#, r#"{"code":-32603,"message":"m"}"#);
        let missing = r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{"sampling":{}}}}"#;
        check("M>M", "x", missing, missing);
        let code = match error("x", "{}", missing, (Modern, Legacy), "{}") {
            Crossed::Error(text) => text.into_owned(),
            Crossed::Result(text) => panic!("{text}"),
        };
        assert!(code.contains("-32603") && code.contains("not_bridgeable"), "{code}");
        for code in [-32601, -32000, -32603] {
            let plain = format!(r#"{{"code":{code},"message":"m"}}"#);
            check("L>M", "x", &plain, &plain);
            check("M>L", "x", &plain, &plain);
        }
        let pages = r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x","message":"go"}]}}"#;
        check(
            "L>M",
            "tools/call",
            pages,
            r#"result {"resultType":"input_required","inputRequests":{"url-1":{"method":"elicitation/create","params":{"mode":"url","url":"https://x","message":"go"}}}}"#,
        );
        check("L>L", "tools/call", pages, pages);
        match error("tools/call", "{}", pages, (Legacy, Modern), r#"{"elicitation":{"form":{}}}"#) {
            Crossed::Error(text) => assert!(text.contains("-32021") && text.contains("\"url\""), "{text}"),
            Crossed::Result(text) => panic!("{text}"),
        }
    }

    #[test]
    fn greetings() {
        let legacy = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"tasks":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"Be \u006bind."}"#;
        let modern = discovered(legacy);
        assert_eq!(
            modern,
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"instructions":"Be \u006bind.","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#
        );
        assert_eq!(discovered(&modern), modern);
        let capabilities = |of: &str| {
            let all = before_it_changes(&discovered(&format!(r#"{{"capabilities":{of}}}"#)));
            all[scan::find(&all, "capabilities").unwrap()].to_owned()
        };
        assert_eq!(
            capabilities(
                r#"{"resources":{"subscribe":true,"listChanged":false},"prompts":{},"logging":{},"x":1.0}"#
            ),
            r#"{"resources":{"subscribe":true,"listChanged":true},"prompts":{"listChanged":true},"logging":{},"x":1.0}"#
        );
        assert_eq!(capabilities("7"), "{}");
    }

    #[test]
    fn tools() {
        let plain = r#"{"name":"a","outputSchema":{"type":"object"}}"#;
        assert!(matches!(tool_to_legacy(plain), Cow::Borrowed(_)));
        assert!(
            tool_to_legacy(r#"{"outputSchema":{"type":"string"}}"#)
                .contains("\"result\":{\"type\":\"string\"}")
        );
    }
}
