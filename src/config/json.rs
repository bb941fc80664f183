//! JSON as people write it: with `//` and `/* */` comments and commas before a closing bracket. Gives a tree
//! whose nodes know where they stand in the text, and mistakes that say what was expected.
//!
//! It goes on after a mistake whose repair is plain (a forgotten comma, single quotes), so that one reading
//! shows them all; otherwise it stops and hands over the part of the tree that it has. Numbers stay text.
//! Repeated keys are all kept: what they mean is for the reader of the tree to say. Nothing here knows of
//! servers or settings.

use super::place::Places;
use crate::base::limits::{JSON_DEPTH_MAX, SYNTAX_MISTAKES_MAX};
use std::ops::Range;

/// A value and the bytes of the text that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The first byte.
    pub at: usize,
    /// The byte after the last.
    pub end: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written: `1e3` stays `1e3`.
    Number(String),
    Text(String),
    Array(Vec<Node>),
    /// In the order of the text, repeated keys included.
    Object(Vec<Member>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub key: String,
    /// The first byte of the key.
    pub at: usize,
    pub value: Node,
}

/// Something that is not JSON, even as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub at: usize,
    pub message: String,
    /// May be empty.
    pub hint: String,
}

/// `root` is the whole document if there are no mistakes, else what could be read of it: good for finding
/// things in the text, not for acting on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub root: Node,
    pub mistakes: Vec<Mistake>,
    /// The byte up to which the text was understood.
    pub read_to: usize,
}

/// Reads one document. Never fails and never panics; a text without a byte order mark is expected.
pub fn parse(text: &str) -> Parsed {
    let mut parser = Parser::at(text, 0);
    let root = parser.value();
    parser.space();
    if parser.at < text.len() {
        parser.stop(parser.at, format!("expected the end of the file, found {}", parser.found()), "");
    }
    Parsed { root, mistakes: parser.mistakes, read_to: parser.at }
}

/// The comments that stand between `at` and the next token, and where that token is. A line's end is no part of a
/// comment. For a text without mistakes.
pub fn comments(text: &str, at: usize) -> (Vec<Range<usize>>, usize) {
    let mut parser = Parser::at(text, at);
    let mut found = Vec::new();
    loop {
        parser.white();
        let from = parser.at;
        if !parser.comment() {
            return (found, from);
        }
        found.push(from..from + text[from..parser.at].trim_end_matches('\r').len());
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    /// A mistake was found behind which nothing can be trusted; every loop ends.
    stopped: bool,
    mistakes: Vec<Mistake>,
}

impl Node {
    /// A value that stands in no text.
    pub fn of(value: Value) -> Node {
        Node { at: 0, end: 0, value }
    }

    /// The same without its places, so that two can be compared.
    pub fn bare(&self) -> Node {
        let member = |member: &Member| Member { key: member.key.clone(), at: 0, value: member.value.bare() };
        Node::of(match &self.value {
            Value::Array(items) => Value::Array(items.iter().map(Node::bare).collect()),
            Value::Object(members) => Value::Object(members.iter().map(member).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => self.value.clone(),
        })
    }
}

impl Member {
    /// A member that stands in no text.
    pub fn of(key: &str, value: Value) -> Member {
        Member { key: key.to_owned(), at: 0, value: Node::of(value) }
    }
}

impl<'t> Parser<'t> {
    fn at(text: &'t str, at: usize) -> Parser<'t> {
        Parser { text, at, depth: 0, stopped: false, mistakes: Vec::new() }
    }

    fn value(&mut self) -> Node {
        self.space();
        let at = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Parser::object),
            Some(b'[') => self.nested(Parser::array),
            Some(b'"') => Value::Text(self.string(b'"')),
            Some(b'\'') => {
                self.mistake(at, "strings are written in double quotes", "");
                Value::Text(self.string(b'\''))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b) if is_word(b) => self.word(),
            _ => {
                self.stop(at, format!("expected a value, found {}", self.found()), "");
                Value::Null
            }
        };
        Node { at, end: self.at, value }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Value) -> Value {
        if self.depth == JSON_DEPTH_MAX {
            self.stop(self.at, format!("nested deeper than {JSON_DEPTH_MAX} levels"), "");
            return Value::Null;
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Value {
        let mut items = Vec::new();
        let open = self.at;
        self.at += 1;
        while !self.closed(open, b']') {
            items.push(self.value());
            self.comma(b']', |b| matches!(b, b'"' | b'{' | b'[' | b'-' | b'0'..=b'9'));
        }
        Value::Array(items)
    }

    fn object(&mut self) -> Value {
        let mut members = Vec::new();
        let open = self.at;
        self.at += 1;
        while !self.closed(open, b'}') {
            let at = self.at;
            let Some(key) = self.key() else { break };
            self.colon();
            if self.stopped {
                break;
            }
            let value = self.value();
            members.push(Member { key, at, value });
            self.comma(b'}', |b| b == b'"');
        }
        Value::Object(members)
    }

    /// Whether the bracket opened at `open` is closed here; if so, it is behind us.
    fn closed(&mut self, open: usize, close: u8) -> bool {
        self.space();
        match self.peek() {
            _ if self.stopped => true,
            Some(b) if b == close => {
                self.at += 1;
                true
            }
            Some(_) => false,
            None => {
                let (line, column) = Places::new(self.text).position(open);
                let message = format!("expected `{}`, found the end of the file", close as char);
                let bracket = self.text.as_bytes()[open] as char;
                let hint = format!("the `{bracket}` of line {line}, column {column} is open");
                self.stop(self.text.trim_end().len(), message, hint);
                true
            }
        }
    }

    fn key(&mut self) -> Option<String> {
        match self.peek() {
            Some(b'"') => Some(self.string(b'"')),
            Some(b'\'') => {
                self.mistake(self.at, "keys are written in double quotes", "");
                Some(self.string(b'\''))
            }
            Some(b) if is_word(b) && !b.is_ascii_digit() => {
                let at = self.at;
                let word = self.run(is_word).to_owned();
                self.mistake(at, "keys are written in double quotes", format!("write `\"{word}\"`"));
                Some(word)
            }
            _ => {
                self.stop(self.at, format!("expected a key in double quotes, found {}", self.found()), "");
                None
            }
        }
    }

    fn colon(&mut self) {
        let end = self.at;
        self.space();
        match self.peek() {
            _ if self.stopped => (),
            Some(b':') => self.at += 1,
            Some(b'=') => {
                self.mistake(self.at, "expected `:` after the key, found `=`", "");
                self.at += 1;
            }
            _ => self.stop(end, format!("expected `:` after the key, found {}", self.found()), ""),
        }
    }

    /// After an item: a comma, or nothing before the closing bracket. Where the next item obviously begins
    /// (`starts`), only the comma was forgotten.
    fn comma(&mut self, close: u8, starts: fn(u8) -> bool) {
        let end = self.at;
        self.space();
        match self.peek() {
            _ if self.stopped => (),
            None => (),
            Some(b',') => self.at += 1,
            Some(b) if b == close => (),
            Some(b) => {
                let (close, found) = (close as char, self.found());
                if starts(b) {
                    self.mistake(end, format!("expected `,` or `{close}` here"), "");
                } else {
                    let after_string = self.text.as_bytes()[end - 1] == b'"';
                    let hint =
                        if after_string { "does the string before it end where it should?" } else { "" };
                    self.stop(self.at, format!("expected `,` or `{close}`, found {found}"), hint);
                }
            }
        }
    }

    fn string(&mut self, quote: u8) -> String {
        let open = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            out.push_str(self.run(|b| b != quote && b != b'\\' && b >= 0x20));
            match self.peek() {
                Some(b) if b == quote => {
                    self.at += 1;
                    return out;
                }
                Some(b'\\') => out.extend(self.escape()),
                None | Some(b'\n' | b'\r') => {
                    self.stop(open, "this string does not end on its line", "close it with a double quote");
                    return out;
                }
                Some(control) => {
                    let escape = if control == b'\t' { "\\t".into() } else { format!("\\u{control:04x}") };
                    let message = "a string cannot hold a control character as it is";
                    self.mistake(self.at, message, format!("write `{escape}`"));
                    out.push(control as char);
                    self.at += 1;
                }
            }
            if self.stopped {
                return out;
            }
        }
    }

    /// One escape, from its backslash on. What is wrong becomes U+FFFD, beside the mistake.
    fn escape(&mut self) -> Option<char> {
        let at = self.at;
        self.at += 1;
        let letter = self.text[self.at..].chars().next()?;
        self.at += letter.len_utf8();
        Some(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.code_point(at),
            _ => {
                // Not past a line's end: there the string itself is what is wrong.
                if letter.is_control() {
                    self.at -= letter.len_utf8();
                }
                self.mistake(at, "this is not an escape", "a backslash itself is written `\\\\`");
                '\u{fffd}'
            }
        })
    }

    fn code_point(&mut self, at: usize) -> Option<char> {
        let unit = self.hex4();
        let code = match unit {
            Some(high @ 0xd800..0xdc00) if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                match self.hex4() {
                    Some(low @ 0xdc00..0xe000) => Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
                    _ => None,
                }
            }
            other => other,
        };
        let c = code.and_then(char::from_u32);
        if c.is_none() {
            self.mistake(at, "this is not a character", "write `\\u` and four hexadecimal digits");
        }
        c.or(Some('\u{fffd}'))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let mut unit = 0;
        for digit in digits {
            unit = unit * 16 + char::from(*digit).to_digit(16)?;
        }
        self.at += 4;
        Some(unit)
    }

    fn number(&mut self) -> Value {
        let at = self.at;
        let text = self.run(|b| is_word(b) || matches!(b, b'+' | b'-' | b'.')).to_owned();
        if is_number(text.as_bytes()) {
            return Value::Number(text);
        }
        self.mistake(at, format!("`{}` is not a number", crate::base::text::shorten(&text, 40)), "");
        Value::Null
    }

    fn word(&mut self) -> Value {
        let at = self.at;
        let word = self.run(is_word).to_owned();
        match word.as_str() {
            "null" => return Value::Null,
            "true" => return Value::Bool(true),
            "false" => return Value::Bool(false),
            _ => (),
        }
        let shown = crate::base::text::shorten(&word, 40);
        let hint = match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => "write `true`".to_owned(),
            "false" | "no" | "off" => "write `false`".to_owned(),
            "none" | "nil" | "undefined" => "write `null`, or leave the key out".to_owned(),
            _ => "strings are written in double quotes".to_owned(),
        };
        self.mistake(at, format!("`{shown}` is not a value"), hint);
        Value::Null
    }

    /// Passes over white space and comments.
    fn space(&mut self) {
        while !self.stopped {
            self.white();
            if !self.comment() {
                return;
            }
        }
    }

    fn white(&mut self) {
        self.run(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Passes over one comment; false if none begins here, or none that ends.
    fn comment(&mut self) -> bool {
        let rest = &self.text[self.at..];
        if rest.starts_with("//") {
            self.run(|b| b != b'\n');
            return true;
        }
        let Some(comment) = rest.strip_prefix("/*") else { return false };
        match comment.find("*/") {
            Some(length) => self.at += length + 4,
            None => self.stop(self.at, "this comment is never closed", "close it with `*/`"),
        }
        !self.stopped
    }

    /// Passes over the bytes that `wanted` accepts; it must accept all or none of the bytes above 0x7f.
    fn run(&mut self, wanted: impl Fn(u8) -> bool) -> &str {
        let start = self.at;
        let length = self.text.as_bytes()[start..].iter().take_while(|b| wanted(**b)).count();
        self.at += length;
        &self.text[start..self.at]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn found(&self) -> String {
        match self.text[self.at..].chars().next() {
            None => "the end of the file".to_owned(),
            Some('#') => "`#` (comments begin with `//`)".to_owned(),
            Some(c) if c.is_control() => format!("the character U+{:04X}", c as u32),
            Some(c) => format!("`{c}`"),
        }
    }

    fn mistake(&mut self, at: usize, message: impl Into<String>, hint: impl Into<String>) {
        if self.stopped {
            return;
        }
        self.mistakes.push(Mistake { at, message: message.into(), hint: hint.into() });
        self.stopped = self.mistakes.len() == SYNTAX_MISTAKES_MAX;
    }

    fn stop(&mut self, at: usize, message: impl Into<String>, hint: impl Into<String>) {
        self.mistake(at, message, hint);
        self.stopped = true;
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// RFC 8259, section 6: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            _ => exponent,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
