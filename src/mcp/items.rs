//! Tools, prompts, resources and resource templates as a server listed them: each the bytes that came, and its key.

use super::scan;
use std::ops::Range;

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Tools, Kind::Prompts, Kind::Resources, Kind::Templates];

    /// The request that lists it.
    pub fn method(self) -> &'static str {
        match self {
            Kind::Tools => "tools/list",
            Kind::Prompts => "prompts/list",
            Kind::Resources => "resources/list",
            Kind::Templates => "resources/templates/list",
        }
    }

    /// The notification that says that it is another list now; templates share it with resources.
    pub fn changed(self) -> &'static str {
        match self {
            Kind::Tools => "notifications/tools/list_changed",
            Kind::Prompts => "notifications/prompts/list_changed",
            Kind::Resources | Kind::Templates => "notifications/resources/list_changed",
        }
    }

    pub fn of_method(method: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The array in the result.
    pub fn array(self) -> &'static str {
        match self {
            Kind::Tools => "tools",
            Kind::Prompts => "prompts",
            Kind::Resources => "resources",
            Kind::Templates => "resourceTemplates",
        }
    }

    /// The member that identifies an entry.
    fn key(self) -> &'static str {
        match self {
            Kind::Tools | Kind::Prompts => "name",
            Kind::Resources => "uri",
            Kind::Templates => "uriTemplate",
        }
    }

    /// The server capability without which a server is not asked for it.
    pub fn capability(self) -> &'static str {
        match self {
            Kind::Tools => "tools",
            Kind::Prompts => "prompts",
            Kind::Resources | Kind::Templates => "resources",
        }
    }
}

/// What of `subscriptions/listen` asks for a list's changes, and the list.
pub const LISTENED: [(&str, Kind); 3] = [
    ("toolsListChanged", Kind::Tools),
    ("promptsListChanged", Kind::Prompts),
    ("resourcesListChanged", Kind::Resources),
];

/// One entry of one list. `raw` is its whole definition; `key_span` is where the quoted key stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub key: String,
    pub raw: Box<str>,
    key_span: Range<usize>,
}

impl Item {
    /// `None` if it is no object with a string key: such an entry cannot be asked for.
    pub fn new(kind: Kind, raw: &str) -> Option<Item> {
        let key_span = scan::find(raw, kind.key())?;
        let key = scan::string(&raw[key_span.clone()])?;
        Some(Item { key, raw: raw.into(), key_span })
    }

    /// The definition with another key, every other byte as it came.
    pub fn renamed(&self, quoted: &str) -> String {
        splice(&self.raw, &[(self.key_span.clone(), quoted)])
    }

    /// Its description; empty if there is none.
    pub fn description(&self) -> String {
        scan::find(&self.raw, "description")
            .and_then(|span| scan::string(&self.raw[span]))
            .unwrap_or_default()
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Item>,
    /// Entries without a key.
    pub malformed: usize,
    /// The cursor as quoted JSON text. An empty string is a valid cursor; null or absence ends the list.
    pub next: Option<String>,
}

/// Reads the result of a list request; `None` if it has no such array.
pub fn page(kind: Kind, result: &str) -> Option<Page> {
    let list = &result[scan::find(result, kind.array())?];
    let mut page = Page { items: Vec::new(), malformed: 0, next: None };
    scan::array(list, |span| match Item::new(kind, &list[span]) {
        Some(item) => page.items.push(item),
        None => page.malformed += 1,
    })
    .ok()?;
    let next = scan::find(result, "nextCursor").map(|span| result[span].to_owned());
    page.next = next.filter(|raw| raw.starts_with('"'));
    Some(page)
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

/// Whether `uri` can be an expansion of `template` (RFC 6570): its literal parts appear in order, the first at the
/// start and the last at the end. Good enough to find whose it is; the owner judges for itself.
pub fn matches_template(template: &str, uri: &str) -> bool {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        literals.push(literal);
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    if literals.is_empty() {
        return template == uri;
    }
    let (first, last) = (literals.remove(0), rest);
    let Some(mut middle) = uri.strip_prefix(first).and_then(|uri| uri.strip_suffix(last)) else {
        return false;
    };
    literals.into_iter().all(|literal| match middle.split_once(literal) {
        Some((_, after)) => {
            middle = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let read =
            page(Kind::Tools, r#"{"tools":[{"name":"a","description":"One"},{"x":1},7],"nextCursor":""}"#);
        let read = read.unwrap();
        assert_eq!((read.items.len(), read.malformed, read.next.as_deref()), (1, 2, Some("\"\"")));
        assert_eq!(read.items[0].description(), "One");
        let resources =
            page(Kind::Resources, r#"{"resources":[{"name":"a","uri":"x:\/\/1"}],"nextCursor":null}"#);
        let resources = resources.unwrap();
        assert_eq!((resources.items[0].key.as_str(), resources.next), ("x://1", None));
        assert_eq!(page(Kind::Prompts, r#"{"tools":[]}"#), None);
    }

    #[test]
    fn renamed_keeps_every_other_byte() {
        let raw = r#"{ "x" : 1.0, "name":"a" ,"inputSchema":{"name":1e400} }"#;
        let renamed = Item::new(Kind::Tools, raw).unwrap().renamed("\"s__a\"");
        assert_eq!(renamed, r#"{ "x" : 1.0, "name":"s__a" ,"inputSchema":{"name":1e400} }"#);
    }

    #[test]
    fn templates() {
        let check = |template, uri, expected| {
            assert_eq!(matches_template(template, uri), expected, "{template} {uri}")
        };
        check("test://template/{id}/data", "test://template/12/data", true);
        check("test://template/{id}/data", "test://template/12", false);
        check("file:///{+path}", "file:///a/b", true);
        check("a://{x}/b/{y}", "a://1/b/2", true);
        check("a://{x}/b/{y}", "a://1/c/2", false);
        check("plain://x", "plain://x", true);
        check("{all}", "anything", true);
        check("ab{x}ba", "aba", false);
    }
}
