//! Arguments of a tool that a modern request over HTTP repeats in headers: which ones a tool's schema names
//! (`x-mcp-header`), and whether the headers say what the body says.

use super::{headers, params, scan};

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
