//! Tools as a server listed them: each one the bytes that came, and its name.

use super::scan;
use std::ops::Range;

/// One tool of one server. `raw` is its whole definition; `name_span` is where the quoted name stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub raw: Box<str>,
    name_span: Range<usize>,
}

impl Tool {
    /// `None` if it is no object with a string `name`: such a tool cannot be called.
    pub fn new(raw: &str) -> Option<Tool> {
        let name_span = scan::find(raw, "name")?;
        let name = scan::string(&raw[name_span.clone()])?;
        Some(Tool { name, raw: raw.into(), name_span })
    }

    /// The definition with another name, every other byte as it came.
    pub fn renamed(&self, quoted: &str) -> String {
        splice(&self.raw, &[(self.name_span.clone(), quoted)])
    }

    /// The first line of its description; empty if there is none.
    pub fn description(&self) -> String {
        scan::find(&self.raw, "description")
            .and_then(|span| scan::string(&self.raw[span]))
            .unwrap_or_default()
    }
}

/// One page of `tools/list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub tools: Vec<Tool>,
    /// Entries that were no tools.
    pub malformed: usize,
    /// The cursor as quoted JSON text. An empty string is a valid cursor; null or absence ends the list.
    pub next: Option<String>,
}

/// Reads the result of `tools/list`; `None` if it has no array `tools`.
pub fn page(result: &str) -> Option<Page> {
    let list = &result[scan::find(result, "tools")?];
    let mut page = Page { tools: Vec::new(), malformed: 0, next: None };
    scan::array(list, |span| match Tool::new(&list[span]) {
        Some(tool) => page.tools.push(tool),
        None => page.malformed += 1,
    })
    .ok()?;
    page.next = scan::find(result, "nextCursor")
        .map(|span| result[span].to_owned())
        .filter(|raw| raw.starts_with('"'));
    Some(page)
}

/// What of the params of a call is looked at; the spans are into the params.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CallParams {
    pub name: Option<(String, Range<usize>)>,
    /// `_meta.progressToken`, raw.
    pub progress_token: Option<Range<usize>>,
}

pub fn call_params(params: &str) -> CallParams {
    let mut found = CallParams::default();
    let mut meta = None;
    // Not an object: then it has neither, and the server will say what it thinks of that.
    let _ = scan::object(params, |member| {
        let key = &params[member.key];
        if scan::is_key(key, "name") {
            found.name = scan::string(&params[member.value.clone()]).map(|name| (name, member.value));
        } else if scan::is_key(key, "_meta") {
            meta = Some(member.value);
        }
    });
    if let Some(meta) = meta
        && let Some(token) = scan::find(&params[meta.clone()], "progressToken")
    {
        found.progress_token = Some(meta.start + token.start..meta.start + token.end);
    }
    found
}

/// `text` with some spans replaced; the spans must not overlap and must be in order.
pub fn splice(text: &str, edits: &[(Range<usize>, &str)]) -> String {
    let grown: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = String::with_capacity(text.len() + grown);
    let mut at = 0;
    for (span, new) in edits {
        out.push_str(&text[at..span.start]);
        out.push_str(new);
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let page = page(r#"{"tools":[{"name":"a","description":"One"},{"x":1},7],"nextCursor":""}"#).unwrap();
        assert_eq!((page.tools.len(), page.malformed, page.next.as_deref()), (1, 2, Some("\"\"")));
        assert_eq!(page.tools[0].description(), "One");
        assert_eq!(super::page(r#"{"tools":[],"nextCursor":null}"#).unwrap().next, None);
        assert_eq!(super::page(r#"{"tool":[]}"#), None);
    }

    #[test]
    fn renamed_keeps_every_other_byte() {
        let raw = r#"{ "x" : 1.0, "name":"a" ,"inputSchema":{"name":1e400} }"#;
        let renamed = Tool::new(raw).unwrap().renamed("\"s__a\"");
        assert_eq!(renamed, r#"{ "x" : 1.0, "name":"s__a" ,"inputSchema":{"name":1e400} }"#);
    }

    #[test]
    fn what_a_call_says() {
        let params = r#"{"_meta":{"x":1,"progressToken":"t"},"name":"s__echo","arguments":{"name":1}}"#;
        let found = call_params(params);
        let (name, span) = found.name.unwrap();
        let token = found.progress_token.unwrap();
        assert_eq!((name.as_str(), &params[token.clone()]), ("s__echo", "\"t\""));
        assert_eq!(
            splice(params, &[(token, "7"), (span, "\"echo\"")]),
            r#"{"_meta":{"x":1,"progressToken":7},"name":"echo","arguments":{"name":1}}"#
        );
        assert_eq!(call_params("[1]"), CallParams::default());
    }
}
