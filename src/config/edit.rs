//! One server more or less in the text of a config. Pure: text in, text out. What is not about that server stays as it
//! is, byte for byte: comments, order, indentation, trailing commas, line ends, a byte order mark.
//!
//! A new entry goes to the end of `mcpServers`, written as its neighbours are (`layout.rs`). One that is taken out takes
//! along its comma, the comment lines directly above it, and what stands behind it on its line. Adding and taking out
//! again gives the text as it was, but for a list that has no entry: that becomes `{}`, and stays where it was not there.
//!
//! Nothing here knows what an entry means; who writes the text reads it first as every other reader would.

mod layout;

use super::json::{self, Member, Node, Value};
use super::place::Places;
use super::server::name_of;
use crate::base::text::nearest;
use layout::{Layout, indent_of, line_start, own_line};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// What to do about a server that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    /// The new entry takes its place.
    Replace,
}

/// Why the text stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not JSON, or its `mcpServers` is no list of servers: `config check` says where.
    Unusable,
    /// There are two of what is to be changed, in these lines.
    Twice { what: String, lines: [usize; 2] },
    /// Another entry of this name is in this line.
    Exists { line: usize },
    /// The entry is there as it is, in this line.
    Same { line: usize },
    /// No server has this name; one that is near may be meant.
    Unknown { near: Option<String> },
    /// The new text would not say what was meant.
    Wrong,
}

impl fmt::Display for Refusal {
    /// What comes behind `FILE: `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unusable => f.write_str("it cannot be used as it is"),
            Refusal::Twice { what, lines: [first, second] } => {
                write!(f, "{what} is there twice, in lines {first} and {second}")
            }
            Refusal::Exists { line } => write!(f, "there is a server of this name in line {line}"),
            Refusal::Same { line } => write!(f, "the server is there as it is, in line {line}"),
            Refusal::Unknown { .. } => f.write_str("no server of this name"),
            Refusal::Wrong => f.write_str("the change would not say what was meant (a bug of mcpvisor)"),
        }
    }
}

/// Adds a server, or gives it another entry. `entry` is an object without `name`.
pub fn add(text: &str, name: &str, entry: &Node, existing: Existing) -> Result<String, Refusal> {
    let (mark, text) = split_mark(text);
    let entry = entry.bare();
    if text.trim().is_empty() {
        let servers = member("mcpServers", object(vec![member(name, entry)]));
        return Ok(format!("{mark}{}\n", Layout::default().write(&object(vec![servers]))));
    }
    let document = Document::read(text)?;
    let edits = document.adding(name, &entry, existing)?;
    let after = applied(text, &edits);
    // The last word has the parser: nothing is written that reads otherwise than it was meant.
    if json::parse(&after).root.bare() != document.with(name, Some(&entry)) {
        return Err(Refusal::Wrong);
    }
    Ok(format!("{mark}{after}"))
}

/// Takes a server out.
pub fn remove(text: &str, name: &str) -> Result<String, Refusal> {
    let (mark, text) = split_mark(text);
    if text.trim().is_empty() {
        return Err(Refusal::Unknown { near: None });
    }
    let document = Document::read(text)?;
    let after = applied(text, &document.removing(name)?);
    if json::parse(&after).root.bare() != document.with(name, None) {
        return Err(Refusal::Wrong);
    }
    Ok(format!("{mark}{after}"))
}

/// Reads an entry that somebody gives as JSON: an object. Says in words what is wrong with it.
pub fn read_entry(text: &str) -> Result<Node, String> {
    let text = split_mark(text).1;
    let parsed = json::parse(text);
    if let Some(mistake) = parsed.mistakes.first() {
        let (line, column) = Places::new(text).position(mistake.at);
        // What is quoted of the text may be a secret.
        let quotes = mistake.message.starts_with('`');
        let message = if quotes { "this is not a value" } else { mistake.message.as_str() };
        return Err(format!("line {line}, column {column}: {message}"));
    }
    let Value::Object(members) = &parsed.root.value else {
        return Err("expected an object, like {\"command\": \"uvx\"}".to_owned());
    };
    if members.iter().any(|member| member.key == "mcpServers") {
        return Err("give one entry: what stands behind its name in `mcpServers`".to_owned());
    }
    match twice(&parsed.root) {
        Some(key) => Err(format!("`{key}` is written twice")),
        None => Ok(parsed.root.bare()),
    }
}

/// A key that some object has more than once.
fn twice(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Object(members) => {
            let mut seen = BTreeSet::new();
            members.iter().find_map(|member| {
                let is_new = seen.insert(member.key.as_str());
                if is_new { twice(&member.value) } else { Some(member.key.as_str()) }
            })
        }
        Value::Array(items) => items.iter().find_map(twice),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => None,
    }
}

/// One piece of the text, and what takes its place.
type Edit = (Range<usize>, String);

/// `edits` do not overlap; of two at one place the first comes first.
fn applied(text: &str, edits: &[Edit]) -> String {
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_key(|(range, _)| range.start);
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (range, new) in sorted {
        out.push_str(&text[from..range.start]);
        out.push_str(new);
        from = range.end;
    }
    out.push_str(&text[from..]);
    out
}

/// A byte order mark, and what is behind it.
fn split_mark(text: &str) -> (&str, &str) {
    text.split_at(if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 })
}

fn object(members: Vec<Member>) -> Node {
    Node::of(Value::Object(members))
}

fn member(key: &str, value: Node) -> Member {
    Member { key: key.to_owned(), at: 0, value }
}

fn members(node: &Node) -> Option<&[Member]> {
    match &node.value {
        Value::Object(members) => Some(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Array(_) => None,
    }
}

/// A config that can be edited.
struct Document<'t> {
    text: &'t str,
    root: Node,
}

/// What `mcpServers` is in the text.
enum Servers<'a> {
    Missing,
    Null(&'a Member),
    Map(List<'a>),
    Array(List<'a>),
}

impl<'t> Document<'t> {
    fn read(text: &'t str) -> Result<Document<'t>, Refusal> {
        let parsed = json::parse(text);
        if !parsed.mistakes.is_empty() || members(&parsed.root).is_none() {
            return Err(Refusal::Unusable);
        }
        Ok(Document { text, root: parsed.root })
    }

    fn members(&self) -> &[Member] {
        members(&self.root).unwrap_or_default()
    }

    fn servers(&self) -> Result<Servers<'_>, Refusal> {
        let mut found = self.members().iter().filter(|member| member.key == "mcpServers");
        let Some(first) = found.next() else { return Ok(Servers::Missing) };
        if let Some(second) = found.next() {
            return Err(self.twice("`mcpServers`".to_owned(), first.at, second.at));
        }
        let list = |items| List { text: self.text, node: &first.value, items };
        match &first.value.value {
            Value::Null => Ok(Servers::Null(first)),
            Value::Object(members) => Ok(Servers::Map(list(members.iter().map(Item::of_member).collect()))),
            Value::Array(items) => Ok(Servers::Array(list(items.iter().map(Item::of_entry).collect()))),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) => Err(Refusal::Unusable),
        }
    }

    fn twice(&self, what: String, first: usize, second: usize) -> Refusal {
        Refusal::Twice { what, lines: [self.line(first), self.line(second)] }
    }

    fn line(&self, at: usize) -> usize {
        Places::new(self.text).position(at).0
    }

    /// Which of the items has the name.
    fn find(&self, list: &List, name: &str) -> Result<Option<usize>, Refusal> {
        let mut found = (0..list.items.len()).filter(|index| list.items[*index].name == Some(name));
        let first = found.next();
        if let (Some(first), Some(second)) = (first, found.next()) {
            let [first, second] = [first, second].map(|index| list.items[index].at);
            return Err(self.twice(format!("`{name}`"), first, second));
        }
        Ok(first)
    }

    fn adding(&self, name: &str, entry: &Node, existing: Existing) -> Result<Vec<Edit>, Refusal> {
        let layout = Layout::of(self.text, &self.root);
        let (list, is_map) = match self.servers()? {
            Servers::Map(list) => (list, true),
            Servers::Array(list) => (list, false),
            Servers::Null(found) => {
                let layout = layout.at(self.text, found.at).spread(self.is_spread());
                let servers = object(vec![member(name, entry.clone())]);
                return Ok(vec![(found.value.at..found.value.end, layout.write(&servers))]);
            }
            Servers::Missing => {
                let items = self.members().iter().map(Item::of_member).collect();
                let root = List { text: self.text, node: &self.root, items };
                let servers = object(vec![member(name, entry.clone())]);
                let is_spread = self.is_spread() || root.items.is_empty();
                return Ok(root.insert(&layout.spread(is_spread), &|layout| {
                    layout.write_member("mcpServers", &servers)
                }));
            }
        };
        let whole = if is_map { entry.clone() } else { named(name, entry) };
        let write = |layout: &Layout| match is_map {
            true => layout.write_member(name, &whole),
            false => layout.write(&whole),
        };
        let Some(index) = self.find(&list, name)? else {
            // A file that says nothing yet has no layout to keep.
            let says_nothing = self.members().len() == 1 && list.items.is_empty();
            return Ok(list.insert(&layout.like(&list, self.is_spread() || says_nothing), &write));
        };
        let item = &list.items[index];
        let line = self.line(item.at);
        if without_name(item.value, is_map) == *entry {
            return Err(Refusal::Same { line });
        }
        if existing == Existing::Refuse {
            return Err(Refusal::Exists { line });
        }
        let layout = layout.of_item(self.text, item.at, item.value);
        Ok(vec![(item.value.at..item.value.end, layout.write(&whole))])
    }

    fn removing(&self, name: &str) -> Result<Vec<Edit>, Refusal> {
        let list = match self.servers()? {
            Servers::Map(list) | Servers::Array(list) => list,
            Servers::Missing | Servers::Null(_) => return Err(Refusal::Unknown { near: None }),
        };
        match self.find(&list, name)? {
            Some(index) => Ok(list.cut(index)),
            None => {
                let near = nearest(name, list.items.iter().filter_map(|item| item.name));
                Err(Refusal::Unknown { near: near.map(str::to_owned) })
            }
        }
    }

    /// Whether it has more than one line.
    fn is_spread(&self) -> bool {
        self.text[self.root.at..self.root.end].contains('\n')
    }

    /// What the tree is meant to be with this entry, or without it.
    fn with(&self, name: &str, entry: Option<&Node>) -> Node {
        let mut root = self.root.bare();
        let Value::Object(members) = &mut root.value else { return root };
        let at = members.iter().position(|member| member.key == "mcpServers").unwrap_or_else(|| {
            members.push(Member::of("mcpServers", Value::Null));
            members.len() - 1
        });
        let servers = &mut members[at].value.value;
        if *servers == Value::Null {
            *servers = Value::Object(Vec::new());
        }
        match servers {
            Value::Object(list) => {
                let new = entry.map(|entry| member(name, entry.clone()));
                set(list, |member| member.key == name, new);
            }
            Value::Array(list) => {
                set(list, |node| name_of(node) == Some(name), entry.map(|entry| named(name, entry)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => (),
        }
        root
    }
}

/// The one that is meant becomes `new`, or goes; if there is none, `new` goes to the end.
fn set<T>(list: &mut Vec<T>, is_meant: impl Fn(&T) -> bool, new: Option<T>) {
    match (list.iter().position(is_meant), new) {
        (Some(index), Some(new)) => list[index] = new,
        (Some(index), None) => _ = list.remove(index),
        (None, new) => list.extend(new),
    }
}

/// The entry as it stands in an array.
fn named(name: &str, entry: &Node) -> Node {
    let rest = members(entry).unwrap_or_default().iter().cloned();
    object(std::iter::once(Member::of("name", Value::Text(name.to_owned()))).chain(rest).collect())
}

/// An entry of the text, as one to be compared with.
fn without_name(value: &Node, is_map: bool) -> Node {
    let mut bare = value.bare();
    if let (Value::Object(members), false) = (&mut bare.value, is_map) {
        members.retain(|member| member.key != "name");
    }
    bare
}

/// A list of the text: an object or an array.
struct List<'a> {
    text: &'a str,
    node: &'a Node,
    items: Vec<Item<'a>>,
}

/// A member of an object, or an element of an array.
struct Item<'a> {
    /// The first byte.
    at: usize,
    name: Option<&'a str>,
    value: &'a Node,
}

impl<'a> Item<'a> {
    fn of_member(member: &'a Member) -> Item<'a> {
        Item { at: member.at, name: Some(&member.key), value: &member.value }
    }

    fn of_entry(entry: &'a Node) -> Item<'a> {
        Item { at: entry.at, name: name_of(entry), value: entry }
    }
}

impl List<'_> {
    /// The byte behind the opening bracket, and that of the closing one.
    fn inside(&self) -> Range<usize> {
        self.node.at + 1..self.node.end - 1
    }

    /// What puts another item behind the last one. `write` is given the layout of the new item.
    fn insert(&self, layout: &Layout, write: &dyn Fn(&Layout) -> String) -> Vec<Edit> {
        let Some(last) = self.items.last() else { return vec![self.insert_first(layout, write)] };
        let text = self.text;
        let (_, next) = json::comments(text, last.value.end);
        let trailing = text[next..].starts_with(',');
        let behind = if trailing { next + 1 } else { last.value.end };
        let mut edits = Vec::new();
        if !trailing {
            edits.push((behind..behind, ",".to_owned()));
        }
        let comma = if trailing { "," } else { "" };
        let rest = Rest::of(text, behind);
        if let Some(indent) = own_line(text, last.at) {
            let item = write(&layout.on(indent));
            edits.push((rest.end..rest.end, format!("{}{indent}{item}{comma}", layout.newline)));
        } else {
            let item = write(&layout.at(text, last.at));
            // Not behind `//`: there it would be a part of the comment.
            let at = rest.before_line_comment;
            edits.push((at..at, format!("{}{item}{comma}", layout.gap())));
        }
        edits
    }

    fn insert_first(&self, layout: &Layout, write: &dyn Fn(&Layout) -> String) -> Edit {
        let Range { start, end } = self.inside();
        let is_blank = self.text[start..end].trim().is_empty();
        let outer = indent_of(self.text, self.node.at);
        let newline = layout.newline;
        if layout.inline {
            let item = write(&layout.at(self.text, self.node.at));
            let at = Rest::of(self.text, start).end;
            let pad = layout.pad();
            return if is_blank {
                (start..end, format!("{pad}{item}{pad}"))
            } else {
                (at..at, format!(" {item}"))
            };
        }
        let inner = layout.below(outer);
        let item = write(&layout.on(&inner));
        let line = format!("{newline}{inner}{item}");
        if is_blank {
            return (start..end, format!("{line}{newline}{outer}"));
        }
        // Before comments on lines of their own: they stand below what is there.
        let rest = Rest::of(self.text, start);
        let close = if rest.is_line { String::new() } else { format!("{newline}{outer}") };
        (rest.end..rest.end, format!("{line}{close}"))
    }

    /// What takes an item out.
    fn cut(&self, index: usize) -> Vec<Edit> {
        let text = self.text;
        let (item, inside) = (&self.items[index], self.inside());
        let (_, next) = json::comments(text, item.value.end);
        let has_comma = text[next..].starts_with(',');
        let end = if has_comma { next + 1 } else { item.value.end };
        let comma_before =
            index.checked_sub(1).map(|before| json::comments(text, self.items[before].value.end).1);
        let range = match own_line(text, item.at) {
            Some(_) => self.lines_of(item, comma_before.map_or(inside.start, |comma| comma + 1), end),
            None => self.words_of(item, has_comma, end),
        };
        let is_blank = |from: usize, to: usize| text[from..to].trim().is_empty();
        if self.items.len() == 1 && is_blank(inside.start, range.start) && is_blank(range.end, inside.end) {
            return vec![(inside, String::new())];
        }
        let mut edits = vec![(range, String::new())];
        if let Some(comma) = comma_before.filter(|_| !has_comma) {
            edits.push((comma..comma + 1, String::new()));
        }
        edits
    }

    /// Of an item that begins its line: from its own comments on. `from` is where what comes before it is over.
    fn lines_of(&self, item: &Item, from: usize, end: usize) -> Range<usize> {
        let text = self.text;
        let comments = json::comments(text, from).0;
        let mut head = line_start(text, item.at);
        for comment in comments.iter().rev() {
            let is_next = text[comment.end..head].matches('\n').count() == 1;
            if !is_next || own_line(text, comment.start).is_none() {
                break;
            }
            head = line_start(text, comment.start);
        }
        let rest = Rest::of(text, end);
        if rest.is_line {
            // The lines, with the end of the last one.
            let newline = text[rest.end..].find('\n').map_or(text.len(), |at| rest.end + at + 1);
            return head..newline;
        }
        let first_word = head + indent_of(text, head).len();
        let stop = end + blanks(&text[end..]);
        if stop != self.inside().end {
            return first_word..stop;
        }
        // The closing bracket is on this line, and moves up, unless a comment would swallow it.
        let before = text[..head].trim_end_matches([' ', '\t', '\r', '\n']).len();
        let in_comment = |comment: &Range<usize>| {
            (comment.start..=comment.end).contains(&before) && text[comment.clone()].starts_with("//")
        };
        if comments.iter().any(in_comment) { first_word..end } else { before..end }
    }

    /// Of an item that stands behind others on its line.
    fn words_of(&self, item: &Item, has_comma: bool, end: usize) -> Range<usize> {
        let text = self.text;
        let stop = end + blanks(&text[end..]);
        let is_last = stop == self.inside().end || text[stop..].starts_with(['\r', '\n', '/']);
        if has_comma && !is_last {
            return item.at..stop;
        }
        text[..item.at].trim_end_matches([' ', '\t']).len()..end
    }
}

/// Spaces and tabs at the beginning.
fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// What stands on a line behind some byte of it: comments and white space only.
struct Rest {
    /// Whether the line is over then. Else a word comes.
    is_line: bool,
    /// The end of the line, or that of its last comment.
    end: usize,
    /// The same, if it ends before a `//`.
    before_line_comment: usize,
}

impl Rest {
    fn of(text: &str, at: usize) -> Rest {
        let (mut end, mut before_line_comment) = (at, at);
        for comment in json::comments(text, at).0 {
            if text[end..comment.start].contains('\n') {
                break;
            }
            end = comment.end;
            if text[comment].starts_with("/*") {
                before_line_comment = end;
            }
        }
        let line_end = end + blanks(&text[end..]);
        let is_line = ["\n", "\r\n"].iter().any(|newline| text[line_end..].starts_with(newline));
        Rest { is_line, end: if is_line { line_end } else { end }, before_line_comment }
    }
}

#[cfg(test)]
mod tests;
