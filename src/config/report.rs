//! Findings for a terminal of 80 columns: each with its line of the file and a caret, then a summary.
//!
//! People paste this into bug reports, so what the file has as values of `env` and `headers` and as keys and
//! tokens is starred out; and where the file is not JSON, whatever could not be read as well.

use super::json::{self, Node, Value};
use super::template::Template;
use super::{Config, ServerConfig};
use crate::base::finding::{Finding, Severity};
use crate::base::text::plural;
use std::fmt::Write;
use std::ops::Range;

/// Columns of the output; only a word that is longer than a line makes a longer line.
const WIDTH: usize = 80;

/// The report of `config check`. `text` and `file` are what [`super::parse`] was given.
pub fn report(text: &str, file: &str, config: &Config, findings: &[Finding]) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = if findings.is_empty() { Source::default() } else { Source::new(text) };
    let mut out = String::new();
    for finding in findings {
        describe(&mut out, finding, &source);
    }
    out.push_str(&wrap(&format!("{file}: "), 2, &summary(config, findings)));
    out
}

/// `3 servers: 2 ok, 1 parked; 1 error, 2 warnings`
pub fn summary(config: &Config, findings: &[Finding]) -> String {
    let count = |wanted: fn(&ServerConfig) -> bool| config.servers.iter().filter(|s| wanted(s)).count();
    let disabled = count(|server| !server.enabled);
    let parked = count(|server| server.enabled && server.problem.is_some());
    let ok = config.servers.len() - disabled - parked;
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let mut line = format!("{}: {ok} ok, {parked} parked", plural(config.servers.len(), "server"));
    if disabled > 0 {
        // Writing to a string cannot fail, here and below.
        let _ = write!(line, ", {disabled} disabled");
    }
    let _ = write!(line, "; {}, {}", plural(errors, "error"), plural(findings.len() - errors, "warning"));
    if !config.usable {
        line.push_str("; the file cannot be used");
    }
    line
}

fn describe(out: &mut String, finding: &Finding, source: &Source) {
    let label = match finding.severity {
        Severity::Error => "error: ",
        Severity::Warning => "warning: ",
    };
    let key = if finding.key.is_empty() { String::new() } else { format!("{}: ", finding.key) };
    out.push_str(&wrap(label, label.len(), &format!("{key}{}", finding.message)));
    let number = finding.line.to_string();
    let gutter = " ".repeat(number.len());
    if finding.line > 0 {
        // In an array the path has the number of the entry only.
        let named = finding.server.as_ref().filter(|_| finding.key.starts_with("mcpServers["));
        let server = named.map(|name| format!(" (server {name})")).unwrap_or_default();
        let _ = writeln!(out, "{gutter} --> {}:{}:{}{server}", finding.file, finding.line, finding.column);
        let (line, caret) = source.excerpt(finding.line, finding.column, WIDTH - number.len() - 4);
        let line = format!("{number} | {line}");
        let _ = writeln!(out, "{gutter} |\n{}\n{gutter} | {caret}", line.trim_end());
    }
    if !finding.hint.is_empty() {
        out.push_str(&wrap(&format!("{gutter} = "), gutter.len() + 3, &finding.hint));
    }
    out.push('\n');
}

/// `first` and the words of `text`, broken before column 80; later lines are indented.
fn wrap(first: &str, indent: usize, text: &str) -> String {
    let mut out = first.to_owned();
    let mut used = first.chars().count();
    let mut fresh = true;
    for word in text.split(' ') {
        let width = word.chars().count();
        if !fresh && used + 1 + width > WIDTH {
            let _ = write!(out, "\n{}", " ".repeat(indent));
            (used, fresh) = (indent, true);
        }
        if !fresh {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        (used, fresh) = (used + width, false);
    }
    out.push('\n');
    out
}

/// The lines of the file, secrets starred out.
#[derive(Default)]
struct Source {
    /// As characters, so that a place in a line of megabytes is found at once.
    lines: Vec<Vec<char>>,
}

impl Source {
    fn new(text: &str) -> Source {
        let parsed = json::parse(text);
        let mut bytes = Vec::new();
        secrets(&parsed.root, text, false, &mut bytes);
        let mut bytes = bytes.into_iter().peekable();
        let unread = if parsed.mistakes.is_empty() { text.len() } else { parsed.read_to };
        let mut starred = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            while bytes.next_if(|range| range.end <= at).is_some() {}
            let secret = bytes.peek().is_some_and(|range| range.contains(&at));
            let hidden = (secret && c != '\n') || (at >= unread && c.is_alphanumeric());
            starred.push(if hidden { '*' } else { c });
        }
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        Source { lines: starred.lines().map(|line| line.chars().map(visible).collect()).collect() }
    }

    /// At most `width` columns of a line, and what to write below it to point at `column`.
    fn excerpt(&self, line: usize, column: usize, width: usize) -> (String, String) {
        let chars = self.lines.get(line - 1).map_or(&[][..], Vec::as_slice);
        let at = column.saturating_sub(1).min(chars.len());
        let token = token(&chars[at..chars.len().min(at + width)]).max(1);
        // From the beginning if that shows it all, else with the place in the middle.
        let fits = at + token < width;
        let start =
            if fits { 0 } else { at.saturating_sub(width / 2).min(chars.len().saturating_sub(width)) };
        let end = chars.len().min(start + width);
        let mut shown: Vec<char> = chars[start..end].to_vec();
        if start > 0 {
            shown[0] = '…';
        }
        if end < chars.len() {
            let last = shown.len() - 1;
            shown[last] = '…';
        }
        let marked = token.min(end.saturating_sub(at)).max(1);
        (shown.iter().collect(), format!("{}{}", " ".repeat(at - start), "^".repeat(marked)))
    }
}

/// How many characters the string, number or word at the beginning has.
fn token(chars: &[char]) -> usize {
    match chars.first() {
        Some('"') => {
            let mut escaped = false;
            let end = chars[1..].iter().position(|c| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            end.map_or(chars.len(), |end| end + 2)
        }
        _ => chars
            .iter()
            .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | '*'))
            .count(),
    }
}

/// The bytes of every secret, in order: what stands below a key that promises one.
fn secrets(node: &Node, text: &str, secret: bool, found: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Object(members) => {
            for member in members {
                if member.key == "url" && !secret && matches!(member.value.value, Value::Text(_)) {
                    let at = member.value.at;
                    let hidden = hidden_in_url(&text[at..member.value.end]);
                    found.extend(hidden.map(|range| at + range.start..at + range.end));
                } else {
                    secrets(&member.value, text, secret || is_secret(&member.key), found);
                }
            }
        }
        Value::Array(items) => {
            let mut before = "";
            for item in items {
                secrets(item, text, secret, found);
                let Value::Text(value) = &item.value else { continue };
                let range = inner(item, text);
                if let Some(from) = assigned(before, &text[range.clone()])
                    && !secret
                    && !shows_nothing(&text[range.start + from..range.end])
                {
                    found.push(range.start + from..range.end);
                }
                before = value;
            }
        }
        Value::Text(value) if secret && shows_nothing(value) => (),
        Value::Text(_) if secret => found.push(inner(node, text)),
        Value::Number(_) if secret => found.push(node.at..node.end),
        Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::Null => (),
    }
}

/// Of a quoted URL, what stands before its host's `@` and behind its `?`.
fn hidden_in_url(quoted: &str) -> impl Iterator<Item = Range<usize>> + use<> {
    let host = quoted.find("://").map_or(1, |at| at + 3);
    let host_end =
        quoted[host.min(quoted.len())..].find(['/', '?', '"']).map_or(quoted.len(), |at| host + at);
    let user = quoted.get(host..host_end).and_then(|host| host.rfind('@')).map(|at| host..host + at);
    let end = quoted.len() - usize::from(quoted.len() > 1 && quoted.ends_with('"'));
    let query = quoted.find('?').map(|at| at + 1..end.max(at + 1));
    user.into_iter().chain(query)
}

/// What is between the quotes of a string.
fn inner(node: &Node, text: &str) -> Range<usize> {
    let closed = node.end - node.at > 1 && text.as_bytes()[node.end - 1] == b'"';
    node.at + 1..node.end - usize::from(closed)
}

/// Where the value of a variable begins in an argument: `NAME=value` after `-e` or `--env`, `--env=NAME=value`,
/// `-eNAME=value`.
fn assigned(before: &str, argument: &str) -> Option<usize> {
    let letters = |word: &str| word.starts_with('-') && !word.starts_with("--");
    let name = match argument.strip_prefix("--env=") {
        Some(_) => "--env=".len(),
        None if before == "--env" || (letters(before) && before.ends_with('e')) || letters(argument) => 0,
        None => return None,
    };
    Some(name + argument[name..].find('=')? + 1)
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    matches!(key.as_str(), "env" | "environment" | "headers" | "oauth")
        || ["key", "token", "secret", "password", "authorization"].iter().any(|word| key.ends_with(word))
}

/// Only references to the environment.
fn shows_nothing(value: &str) -> bool {
    Template::parse(value).is_ok_and(|template| template.secret().to_string() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped() {
        let text = "word ".repeat(30);
        let lines = wrap("error: ", 7, text.trim_end());
        assert!(lines.lines().all(|line| line.len() <= WIDTH), "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with("       word")), "{lines}");
        assert_eq!(wrap("  = ", 4, &"x".repeat(90)), format!("  = {}\n", "x".repeat(90)));
    }

    #[test]
    fn excerpts() {
        #[track_caller]
        fn check(text: &str, column: usize, line: &str, caret: &str) {
            let source = Source { lines: vec![text.chars().collect()] };
            assert_eq!(source.excerpt(1, column, 20), (line.to_owned(), caret.to_owned()));
        }
        check("  \"a\\\"b\": 12,", 3, "  \"a\\\"b\": 12,", "  ^^^^^^");
        check("  \"a\": 12,", 8, "  \"a\": 12,", "       ^^");
        check("{", 2, "{", " ^");
        check(&"0123456789".repeat(5), 1, "0123456789012345678…", "^^^^^^^^^^^^^^^^^^^^");
        check(&"0,".repeat(25), 25, "…,0,0,0,0,0,0,0,0,0…", "          ^");
        check(&"0,".repeat(25), 50, "…,0,0,0,0,0,0,0,0,0,", "                   ^");
        check(&"0,".repeat(25), 5, "0,0,0,0,0,0,0,0,0,0…", "    ^");
    }

    #[test]
    fn secrets_are_starred_out() {
        #[track_caller]
        fn check(text: &str, shown: &str) {
            let lines: Vec<String> =
                Source::new(text).lines.iter().map(|line| line.iter().collect()).collect();
            assert_eq!(lines.join("\n"), shown);
        }
        check(
            r#"{"env": {"A": "ghp_1", "B": "${env:B}", "C": 42}, "x": "y"}"#,
            r#"{"env": {"A": "*****", "B": "${env:B}", "C": **}, "x": "y"}"#,
        );
        check(r#"{"url": "http://a:b@h/x?k=v"}"#, r#"{"url": "http://***@h/x?***"}"#);
        check(r#"{"url": "http://h/a@b"}"#, r#"{"url": "http://h/a@b"}"#);
        check(r#"{"api_key": "s3cr3t", "headers": ["a b"]}"#, r#"{"api_key": "******", "headers": ["***"]}"#);
        check(
            r#"{"args": ["-ie", "A=s1", "--env=B=s2", "-eC=s3", "--env", "D", "E=f", "-e", "G=${env:G}"]}"#,
            r#"{"args": ["-ie", "A=**", "--env=B=**", "-eC=**", "--env", "D", "E=f", "-e", "G=${env:G}"]}"#,
        );
        check("{\"env\": {\"A\": \"ghp_1\n}}", "{\"env\": {\"A\": \"*****\n}}");
        check(r#"{"extra_args": ["-e", "A=b c", 1]}"#, r#"{"extra_args": ["-e", "A=***", 1]}"#);
        check(r#"{"a" "ghp", "env": {"A": "x1"}}"#, r#"{"a" "***", "***": {"*": "**"}}"#);
    }
}
