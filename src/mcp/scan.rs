//! A strict JSON scanner that finds spans and builds nothing: what is forwarded is the text that came.
//!
//! It accepts exactly RFC 8259 (numbers beyond f64, lone surrogate escapes and duplicate keys included: they are
//! somebody's data) up to a depth of [`JSON_DEPTH_MAX`].

use crate::base::bytes;
use crate::base::limits::JSON_DEPTH_MAX;
use std::ops::Range;

/// Where the text stops being JSON, and what was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub offset: usize,
    pub expected: &'static str,
}

type Scan<T> = Result<T, Malformed>;

/// Scans one value with white space around it; nothing may follow. Returns the value's span.
pub fn document(text: &str) -> Scan<Range<usize>> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    let start = scanner.at;
    scanner.value(0)?;
    let end = scanner.at;
    scanner.space();
    if scanner.at < text.len() {
        return scanner.fail("the end of the message");
    }
    Ok(start..end)
}

/// One member of an object: the key with its quotes, and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub key: Range<usize>,
    pub value: Range<usize>,
}

/// Calls `visit` for each member of the object that `text` is; an error if it is not one object.
pub fn object(text: &str, mut visit: impl FnMut(Member)) -> Scan<()> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    scanner.object(0, &mut visit)?;
    scanner.space();
    if scanner.at < text.len() {
        return scanner.fail("the end of the object");
    }
    Ok(())
}

/// Calls `visit` for each element of the array that `text` is.
pub fn array(text: &str, mut visit: impl FnMut(Range<usize>)) -> Scan<()> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    scanner.array(0, &mut visit)?;
    scanner.space();
    if scanner.at < text.len() {
        return scanner.fail("the end of the array");
    }
    Ok(())
}

/// The span of the value of `key` in the object `text`; the last one if the key is there twice.
pub fn find(text: &str, key: &str) -> Option<Range<usize>> {
    let mut found = None;
    object(text, |member| {
        if is_key(&text[member.key], key) {
            found = Some(member.value);
        }
    })
    .ok()?;
    found
}

/// Whether the quoted key `raw` spells `name`, escapes decoded.
pub fn is_key(raw: &str, name: &str) -> bool {
    let inner = &raw[1..raw.len() - 1];
    inner == name || (inner.contains('\\') && string(raw).is_some_and(|text| text == name))
}

/// The text of a JSON string; `None` if `raw` is no string or holds a lone surrogate.
pub fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn fail<T>(&self, expected: &'static str) -> Scan<T> {
        Err(Malformed { offset: self.at, expected })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Scan<()> {
        if self.peek() != Some(byte) {
            return self.fail(expected);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Scan<()> {
        match self.peek() {
            Some(b'{') => self.object(depth, &mut |_| ()),
            Some(b'[') => self.array(depth, &mut |_| ()),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.fail("a value"),
        }
    }

    fn word(&mut self, word: &'static str) -> Scan<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.fail("a value");
        }
        self.at += word.len();
        Ok(())
    }

    fn object(&mut self, depth: usize, visit: &mut dyn FnMut(Member)) -> Scan<()> {
        if depth >= JSON_DEPTH_MAX {
            return self.fail("less nesting");
        }
        self.expect(b'{', "an object")?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = self.at;
            self.string()?;
            let key = key..self.at;
            self.space();
            self.expect(b':', "`:`")?;
            self.space();
            let value = self.at;
            self.value(depth + 1)?;
            visit(Member { key, value: value..self.at });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.fail("`,` or `}`"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize, visit: &mut dyn FnMut(Range<usize>)) -> Scan<()> {
        if depth >= JSON_DEPTH_MAX {
            return self.fail("less nesting");
        }
        self.expect(b'[', "an array")?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let start = self.at;
            self.value(depth + 1)?;
            visit(start..self.at);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.fail("`,` or `]`"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Scan<()> {
        self.expect(b'"', "a string")?;
        loop {
            let rest = &self.bytes[self.at..];
            self.at += bytes::json_special(rest).unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fail("no control character in a string"),
                None => return self.fail("`\"`"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.fail("a hex digit");
                    }
                    self.at += 1;
                }
            }
            _ => return self.fail("an escape"),
        }
        Ok(())
    }

    fn number(&mut self) -> Scan<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scan<()> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.fail("a digit");
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[&str] = &[
        "null",
        " [ ] ",
        "{}",
        r#"{"a":[1,-0,1.5e+300,9007199254740993,1e400],"a":"\ud800\u0000 é\/","":{"x":true}}"#,
        "-12.50",
        r#""""#,
    ];
    const BAD: &[&str] = &[
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "nul",
        "truex",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "[1 2]",
        "{\"a\" 1}",
        "{} {}",
        "NaN",
        "'a'",
        "[1]]",
    ];

    #[test]
    fn agrees_with_rfc_8259() {
        for text in GOOD {
            assert_eq!(&text[document(text).unwrap()], text.trim(), "{text}");
        }
        for text in BAD {
            assert!(document(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_prefix_is_a_document() {
        for text in GOOD.iter().filter(|text| text.starts_with(['{', '[', '"'])) {
            let text = text.trim();
            for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                assert!(document(&text[..end]).is_err(), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(document(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(document(&nested(JSON_DEPTH_MAX + 1)).unwrap_err().expected, "less nesting");
        assert!(document(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn finds_the_last_of_a_key() {
        let text = r#" {"name":"a","x":{"name":"b"},"na\u006de": [1, 2] } "#;
        assert_eq!(&text[find(text, "name").unwrap()], "[1, 2]");
        assert_eq!(find(text, "y"), None);
        assert_eq!(find("[1]", "y"), None);
    }

    #[test]
    fn elements() {
        let text = "[1, [2,3] ,\"x\"]";
        let mut seen = vec![];
        array(text, |span| seen.push(&text[span])).unwrap();
        assert_eq!(seen, ["1", "[2,3]", "\"x\""]);
    }
}
