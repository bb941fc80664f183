//! Arguments of a tool that a modern request over HTTP repeats in headers: which ones a tool's schema names
//! (`x-mcp-header`), and whether the headers say what the body says.

use super::items::splice;
use super::{headers, params, scan};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Before the name that the schema gives.
pub const PREFIX: &str = "Mcp-Param-";

/// Deeper than any schema that a person writes; what lies below is not looked at.
const DEPTH_MAX: usize = 16;

/// One argument that has a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The keys that lead to it from the arguments.
    pub path: Vec<String>,
    /// The whole name of its header.
    pub header: String,
}

/// The arguments of a tool that have headers, in the order of its schema. Only what is reached by `properties` has one.
pub fn of_schema(schema: &str) -> Vec<Mirrored> {
    let mut found = Vec::new();
    // Most schemas have none: a look for the word spares the scan.
    if schema.contains("x-mcp-header") || schema.contains("\\u") {
        collect(schema, &mut Vec::new(), &mut found);
    }
    found
}

fn collect(schema: &str, path: &mut Vec<String>, found: &mut Vec<Mirrored>) {
    let Some(properties) = scan::find(schema, "properties").map(|span| &schema[span]) else { return };
    // What is no object has no properties.
    let _ = scan::object(properties, |member| {
        let (Some(key), property) = (scan::string(&properties[member.key]), &properties[member.value]) else {
            return;
        };
        path.push(key);
        if let Some(name) = params::text(property, "x-mcp-header") {
            found.push(Mirrored { path: path.clone(), header: format!("{PREFIX}{name}") });
        } else if path.len() < DEPTH_MAX {
            collect(property, path, found);
        }
        path.pop();
    });
}

/// The same for a client, which must not call a tool whose `x-mcp-header` is wrong: empty or no token, twice the same, on
/// what is neither a string, an integer nor a boolean, or not reached by `properties` alone. `Err` says which.
pub fn checked(schema: &str) -> Result<Vec<Mirrored>, &'static str> {
    let found = of_schema(schema);
    if mentions(schema, 0) > found.len() {
        return Err("it is where no argument is named, or is no text");
    }
    let mut names = BTreeSet::new();
    for mirrored in &found {
        let name = &mirrored.header[PREFIX.len()..];
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err("it is no name of a header");
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return Err("two arguments have the same");
        }
        if !is_plain(schema, &mirrored.path) {
            return Err("its argument is neither text, an integer nor a boolean");
        }
    }
    Ok(found)
}

/// A list of tools without those that must not be called.
pub fn without_wrong(result: &str) -> Cow<'_, str> {
    if !(result.contains("x-mcp-header") || result.contains("\\u")) {
        return Cow::Borrowed(result);
    }
    let Some(list) = scan::find(result, "tools") else { return Cow::Borrowed(result) };
    let (mut kept, mut all) = (Vec::new(), 0);
    // What is no list has no tools.
    let _ = scan::array(&result[list.clone()], |span| {
        let tool = &result[list.start + span.start..list.start + span.end];
        let schema = scan::find(tool, "inputSchema").map_or("{}", |span| &tool[span]);
        all += 1;
        if checked(schema).is_ok() {
            kept.push(tool);
        }
    });
    if kept.len() == all {
        return Cow::Borrowed(result);
    }
    Cow::Owned(splice(result, &[(list, &format!("[{}]", kept.join(",")))]))
}

/// How many members of this name there are, at any depth, but for arguments that are called so.
fn mentions(value: &str, depth: usize) -> usize {
    if depth > 2 * DEPTH_MAX || !(value.contains("x-mcp-header") || value.contains("\\u")) {
        return 0;
    }
    let mut count = 0;
    // What is neither an object nor an array names nothing.
    let _ = scan::object(value, |member| {
        let inner = &value[member.value];
        let key = scan::string(&value[member.key]).unwrap_or_default();
        count += usize::from(key == "x-mcp-header");
        if key == "properties" {
            let _ = scan::object(inner, |member| count += mentions(&inner[member.value], depth + 1));
        } else if !matches!(key.as_str(), "default" | "const" | "enum" | "examples") {
            count += mentions(inner, depth + 1);
        }
    });
    let _ = scan::array(value, |span| count += mentions(&value[span], depth + 1));
    count
}

fn is_plain(schema: &str, path: &[String]) -> bool {
    let mut at = schema;
    for key in path {
        let properties = scan::find(at, "properties").map(|span| &at[span]);
        let property = properties.and_then(|all| scan::find(all, key).map(|span| &all[span]));
        let Some(property) = property else { return false };
        at = property;
    }
    params::text(at, "type").is_some_and(|kind| matches!(kind.as_str(), "string" | "integer" | "boolean"))
}

/// What an argument's header says: strings as they are, numbers and booleans as in JSON. Nothing for an argument that
/// is absent, null, or none of these: it has no header.
pub fn value(arguments: &str, path: &[String]) -> Option<String> {
    let mut at = arguments;
    for key in path {
        at = &at[scan::find(at, key)?];
    }
    match at.as_bytes().first()? {
        b'"' => scan::string(at),
        b'{' | b'[' | b'n' => None,
        _ => Some(at.to_owned()),
    }
}

/// The first argument whose header does not say what the body says; `header` looks one up by its name.
pub fn mismatch<'h>(
    schema: &str,
    arguments: &str,
    header: impl Fn(&str) -> Option<&'h str>,
) -> Option<String> {
    of_schema(schema).into_iter().find_map(|mirrored| {
        let name = &mirrored.header;
        match (value(arguments, &mirrored.path), header(name)) {
            (None, None) => None,
            (Some(_), None) => Some(format!("{name} is missing")),
            (None, Some(_)) => Some(format!("{name} is of an argument that the body does not have")),
            (Some(body), Some(header)) => {
                let said = headers::read(header);
                let same = said.as_deref().is_some_and(|said| said == body || same_number(said, &body));
                (!same).then(|| format!("{name} is not the body's argument"))
            }
        }
    })
}

fn same_number(a: &str, b: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => number(a).is_some_and(|a| number(b) == Some(a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
        "list":{"type":"array","items":{"properties":{"no":{"x-mcp-header":"No"}}}},
        "plain":{"type":"string"}}}"#;

    #[test]
    fn what_a_schema_names() {
        let names: Vec<String> = of_schema(SCHEMA).into_iter().map(|mirrored| mirrored.header).collect();
        assert_eq!(names, ["Mcp-Param-Region", "Mcp-Param-N"]);
        assert!(of_schema("{}").is_empty() && of_schema(r#"{"properties":["x-mcp-header"]}"#).is_empty());
    }

    #[test]
    fn wrong_schemas() {
        let with = |property: &str| {
            format!(r#"{{"properties":{{"a":{property},"b":{{"type":"string","x-mcp-header":"B"}}}}}}"#)
        };
        let check = |property: &str, good| assert_eq!(checked(&with(property)).is_ok(), good, "{property}");
        check(r#"{"type":"string","x-mcp-header":"A"}"#, true);
        check(r#"{"type":"boolean","x-mcp-header":"A"}"#, true);
        check(r#"{"type":"string"}"#, true);
        check(r#"{"type":"object","properties":{"x-mcp-header":{"type":"string"}}}"#, true);
        check(r#"{"type":"string","x-mcp-header":""}"#, false);
        check(r#"{"type":"string","x-mcp-header":"a b"}"#, false);
        check(r#"{"type":"string","x-mcp-header":"b"}"#, false);
        check(r#"{"type":"string","x-mcp-header":7}"#, false);
        check(r#"{"type":"number","x-mcp-header":"A"}"#, false);
        check(r#"{"type":"object","x-mcp-header":"A"}"#, false);
        check(r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#, false);
        check(r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#, false);
        let tool = |schema: &str| format!(r#"{{ "name":"x", "inputSchema":{schema}}}"#);
        let (good, bad) = (tool(&with("{}")), tool(&with(r#"{"x-mcp-header":""}"#)));
        let list = |tools: &str| format!(r#"{{"tools": [{tools}],"nextCursor":"" }}"#);
        assert_eq!(without_wrong(&list(&format!("{good}, {bad} ,{good}"))), list(&format!("{good},{good}")));
        assert!(matches!(without_wrong(&list(&format!("{good} , {good}"))), Cow::Borrowed(_)));
    }

    #[test]
    fn headers_say_what_the_body_says() {
        #[track_caller]
        fn check(arguments: &str, region: Option<&str>, n: Option<&str>, good: bool) {
            let found = mismatch(SCHEMA, arguments, |name| match name {
                "Mcp-Param-Region" => region,
                "Mcp-Param-N" => n,
                _ => panic!("{name}"),
            });
            assert_eq!(found.is_none(), good, "{arguments} {region:?} {n:?}: {found:?}");
        }
        check(r#"{"region":"eu"}"#, Some("eu"), None, true);
        check(r#"{"region":"eu"}"#, Some(" eu "), None, true);
        check(r#"{"region":"eu"}"#, Some("=?base64?ZXU=?="), None, true);
        check(r#"{"region":"eu"}"#, Some("=?base64?ZXU?="), None, false);
        check(r#"{"region":"eu"}"#, Some("EU"), None, false);
        check(r#"{"region":"eu"}"#, None, None, false);
        check(r#"{}"#, Some("eu"), None, false);
        check(r#"{"region":null}"#, None, None, true);
        check(r#"{"deep":{"n":42}}"#, None, Some("42.0"), true);
        check(r#"{"deep":{"n":9007199254740993}}"#, None, Some("9007199254740992"), false);
        check(r#"{"deep":{"n":42}}"#, None, Some("43"), false);
        check(r#"{"deep":7}"#, None, None, true);
    }
}
