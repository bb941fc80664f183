//! Where a command prints: stdout or a test's buffer, how wide it is, and whether it takes colour.
//!
//! A reader that went away (`mcpvisor status | head -0`) is no failure and stops no action: what is written after
//! that goes nowhere. Any other trouble of stdout is kept and reported once, at the end.

use crate::sys::tty;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Columns when stdout is no terminal.
const COLUMNS: usize = 80;
/// Below this a table is no table; a narrower terminal wraps by itself.
const COLUMNS_MIN: usize = 40;

pub struct Out {
    to: Box<dyn Write>,
    pub columns: usize,
    pub terminal: bool,
    pub colour: bool,
    trouble: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Green,
    Yellow,
    Red,
    Dim,
    Bold,
}

impl Out {
    pub fn stdout() -> Out {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let columns = if terminal { tty::columns(&stdout).unwrap_or(COLUMNS) } else { COLUMNS };
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let mut out = Out::to(Box::new(stdout), columns);
        out.terminal = terminal;
        out.colour = terminal && !plain;
        out
    }

    /// Plain text of so many columns.
    pub fn to(to: Box<dyn Write>, columns: usize) -> Out {
        Out { to, columns: columns.max(COLUMNS_MIN), terminal: false, colour: false, trouble: None }
    }

    /// Writes `text` and a newline.
    pub fn line(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(b"\n");
    }

    /// Writes several lines, each of which ends in a newline.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Writes a body as it came, with a newline at its end.
    pub fn body(&mut self, body: &[u8]) {
        self.bytes(body);
        if !body.ends_with(b"\n") {
            self.bytes(b"\n");
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.trouble.is_none() {
            self.trouble = self.to.write_all(bytes).err();
        }
    }

    /// Whether nothing that is written now is read by anybody.
    pub fn is_lost(&self) -> bool {
        self.trouble.is_some()
    }

    /// What went wrong with the output, unless it was only a reader that went away.
    pub fn finish(mut self) -> io::Result<()> {
        if self.trouble.is_none() {
            self.trouble = self.to.flush().err();
        }
        match self.trouble {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    pub fn paint(&self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Dim => "2",
            Colour::Bold => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `mcpvisor: text` on stderr. The text may quote a stranger.
pub fn complain(text: &impl std::fmt::Display) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "mcpvisor: {}", tame(&text.to_string()));
}

/// A line of our own on stderr, for people who watch.
pub fn say(text: &str) {
    // In one write, because stderr has no buffer. Nobody is left to tell when it is gone.
    let _ = io::stderr().write_all(format!("{}\n", tame(text)).as_bytes());
}

/// Text of a stranger (a server, a tool) for a terminal: control characters other than newline and tab go, so
/// that it cannot move the cursor or change the window.
pub fn tame(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Breaks `text` at spaces into lines of at most `columns`, each indented. A word that is longer than a line stays
/// whole: it may be a path to copy. Characters are counted as one column each.
pub fn wrap(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let chars = word.chars().count();
        match lines.last_mut() {
            Some(line) if used + 1 + chars <= columns => {
                line.push(' ');
                line.push_str(word);
                used += 1 + chars;
            }
            _ => {
                lines.push(format!("{:indent$}{word}", ""));
                used = indent + chars;
            }
        }
    }
    lines
}

/// Parts with commas between them, broken only between parts.
pub fn flow(parts: &[String], columns: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (index, part) in parts.iter().enumerate() {
        let comma = if index + 1 < parts.len() { "," } else { "" };
        let chars = part.chars().count() + comma.len();
        if index > 0 && used + 1 + chars > columns {
            text.push_str("\n  ");
            used = 2;
        } else if index > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(part);
        text.push_str(comma);
        used += chars;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_at_words() {
        let check = |text, expected: &[&str]| assert_eq!(wrap(text, 12, 2), expected, "{text}");
        check("", &[]);
        check("one two", &["  one two"]);
        check("one two three", &["  one two", "  three"]);
        check("a /very/long/path/indeed b", &["  a", "  /very/long/path/indeed", "  b"]);
        check("ten chars. x", &["  ten chars.", "  x"]);
    }

    #[test]
    fn flows_between_parts() {
        let parts = ["one two", "three", "four five", "a-part-longer-than-a-line"].map(str::to_owned);
        assert_eq!(flow(&parts, 16), "one two, three,\n  four five,\n  a-part-longer-than-a-line\n");
        assert_eq!(flow(&parts[..1], 16), "one two\n");
    }

    #[test]
    fn tamed() {
        assert_eq!(tame("a\x1b[2Jb\tc\nd\u{9b}e"), "a[2Jb\tc\nde");
    }

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_lost_reader_is_fine() {
        let check = |kind, fine| {
            let mut out = Out::to(Box::new(Broken(kind)), 80);
            out.line("x");
            out.line("y");
            assert_eq!(out.finish().is_ok(), fine, "{kind}");
        };
        check(ErrorKind::BrokenPipe, true);
        check(ErrorKind::StorageFull, false);
    }
}
