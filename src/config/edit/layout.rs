//! How a config is laid out, and writing a value the same way: indentation, line ends, spaces behind colons, and
//! whether an entry has one line or several.

use super::{List, members};
use crate::config::json::{Node, Value};

/// Columns of a line that an array of plain values may fill; a longer one gets a line for each.
const COLUMNS: usize = 100;

#[derive(Clone, Debug)]
pub struct Layout {
    pub newline: &'static str,
    /// What one level is indented by.
    unit: String,
    /// What the line is indented by on which the value begins.
    base: String,
    /// On one line.
    pub inline: bool,
    /// `"a":1,"b":2`
    tight: bool,
    /// `{ "a": 1 }`
    padded: bool,
}

/// Of a file that is made.
impl Default for Layout {
    fn default() -> Layout {
        let (unit, base) = ("  ".to_owned(), String::new());
        Layout { newline: "\n", unit, base, inline: false, tight: false, padded: false }
    }
}

impl Layout {
    /// As the whole of a text has it.
    pub fn of(text: &str, root: &Node) -> Layout {
        let first = members(root).and_then(<[_]>::first);
        let crlf = text.find('\n').is_some_and(|at| text[..at].ends_with('\r'));
        Layout {
            newline: if crlf { "\r\n" } else { "\n" },
            unit: unit(text, root).unwrap_or("  ").to_owned(),
            tight: first.is_some_and(|member| text[..member.value.at].ends_with(':')),
            ..Layout::default()
        }
    }

    /// As the last item of a list has it. If there is none, on lines of their own if `spread`.
    pub fn like(self, list: &List, spread: bool) -> Layout {
        let Some(last) = list.items.last() else { return self.spread(spread) };
        let layout = self.of_item(list.text, last.at, last.value);
        match unit(list.text, last.value).or_else(|| unit(list.text, list.node)) {
            Some(unit) => Layout { unit: unit.to_owned(), ..layout },
            None => layout,
        }
    }

    /// As an item has it that begins at `at`.
    pub fn of_item(self, text: &str, at: usize, value: &Node) -> Layout {
        let before = &text[value.at..value.end];
        let says = members(value).is_some_and(|members| !members.is_empty());
        Layout {
            inline: !before.contains('\n') && (says || own_line(text, at).is_none()),
            padded: before.starts_with("{ "),
            ..self
        }
        .at(text, at)
    }

    pub fn spread(self, spread: bool) -> Layout {
        Layout { inline: !spread, ..self }
    }

    /// For a value on the line of this byte.
    pub fn at(&self, text: &str, at: usize) -> Layout {
        self.on(indent_of(text, at))
    }

    /// For a value on a line that is indented by this.
    pub fn on(&self, indent: &str) -> Layout {
        Layout { base: indent.to_owned(), ..self.clone() }
    }

    pub fn write(&self, node: &Node) -> String {
        let mut out = String::new();
        self.node(node, 0, &mut out);
        out
    }

    pub fn write_member(&self, key: &str, node: &Node) -> String {
        format!("{}{}{}", quoted(key), self.colon(), self.write(node))
    }

    fn colon(&self) -> &'static str {
        if self.tight { ":" } else { ": " }
    }

    /// The indentation of one level below a line that has this one.
    pub fn below(&self, outer: &str) -> String {
        format!("{outer}{}", self.unit)
    }

    /// Behind a comma on the same line.
    pub fn gap(&self) -> &'static str {
        if self.tight { "" } else { " " }
    }

    /// Inside of the brackets of an object that has one line.
    pub fn pad(&self) -> &'static str {
        if self.padded { " " } else { "" }
    }

    fn node(&self, node: &Node, depth: usize, out: &mut String) {
        match &node.value {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Number(text) => out.push_str(text),
            Value::Text(text) => out.push_str(&quoted(text)),
            Value::Array(items) => {
                let one_line = self.inline || self.fits(items, depth);
                Layout { inline: one_line, ..self.clone() }.array(items, depth, out);
            }
            Value::Object(members) => {
                let write = |layout: &Layout, member: &super::Member, out: &mut String| {
                    out.push_str(&quoted(&member.key));
                    out.push_str(layout.colon());
                    layout.node(&member.value, depth + 1, out);
                };
                self.list(('{', '}'), self.pad(), members, depth, write, out);
            }
        }
    }

    fn array(&self, items: &[Node], depth: usize, out: &mut String) {
        let write = |layout: &Layout, item: &Node, out: &mut String| layout.node(item, depth + 1, out);
        self.list(('[', ']'), "", items, depth, write, out);
    }

    /// Whether a line has room for these; only if they are plain.
    fn fits(&self, items: &[Node], depth: usize) -> bool {
        if items.iter().any(|item| matches!(item.value, Value::Array(_) | Value::Object(_))) {
            return false;
        }
        let mut line = format!("{}{}", self.base, self.unit.repeat(depth));
        Layout { inline: true, ..self.clone() }.array(items, depth, &mut line);
        line.len() <= COLUMNS
    }

    fn list<T>(
        &self,
        (open, close): (char, char),
        pad: &str,
        items: &[T],
        depth: usize,
        write: impl Fn(&Layout, &T, &mut String),
        out: &mut String,
    ) {
        out.push(open);
        for (index, item) in items.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            match (self.inline, index) {
                (true, 0) => out.push_str(pad),
                (true, _) => out.push_str(self.gap()),
                (false, _) => self.line(depth + 1, out),
            }
            write(self, item, out);
        }
        match (self.inline, items.is_empty()) {
            (_, true) => (),
            (true, false) => out.push_str(pad),
            (false, false) => self.line(depth, out),
        }
        out.push(close);
    }

    fn line(&self, depth: usize, out: &mut String) {
        out.push_str(self.newline);
        out.push_str(&self.base);
        (0..depth).for_each(|_| out.push_str(&self.unit));
    }
}

/// A string as JSON has it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// How much deeper than its container an item is that begins its line: that of `node`, or of one below it.
fn unit<'t>(text: &'t str, node: &Node) -> Option<&'t str> {
    let children: Vec<(usize, &Node)> = match &node.value {
        Value::Object(members) => members.iter().map(|member| (member.at, &member.value)).collect(),
        Value::Array(items) => items.iter().map(|item| (item.at, item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => return None,
    };
    let outer = indent_of(text, node.at);
    let deeper = |at: usize| own_line(text, at)?.strip_prefix(outer).filter(|unit| !unit.is_empty());
    children.iter().find_map(|(at, child)| deeper(*at).or_else(|| unit(text, child)))
}

pub fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The white space at the beginning of the line of this byte.
pub fn indent_of(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..];
    &line[..super::blanks(line)]
}

/// The white space before this byte, if nothing else is before it on its line.
pub fn own_line(text: &str, at: usize) -> Option<&str> {
    let before = &text[line_start(text, at)..at];
    (super::blanks(before) == before.len()).then_some(before)
}
