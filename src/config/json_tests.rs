//! The parser against serde_json, against every prefix and against random damage.

use super::*;
use fastrand::Rng;
use serde_json::Value as Serde;

/// The tree as serde_json would have it: the last of repeated keys counts.
fn plain(node: &Node) -> Serde {
    match &node.value {
        Value::Null => Serde::Null,
        Value::Bool(b) => Serde::Bool(*b),
        Value::Number(text) => serde_json::from_str(text).unwrap(),
        Value::Text(text) => Serde::String(text.clone()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|m| (m.key.clone(), plain(&m.value))).collect(),
    }
}

#[track_caller]
fn check_good(text: &str, value: &str) {
    let parsed = parse(text);
    assert_eq!(parsed.mistakes, []);
    assert_eq!(plain(&parsed.root), serde_json::from_str::<Serde>(value).unwrap());
}

#[track_caller]
fn check_bad(text: &str, mistakes: &[&str]) {
    let places = Places::new(text);
    let found: Vec<String> = (parse(text).mistakes.iter())
        .map(|m| {
            let (line, column) = places.position(m.at);
            let hint = if m.hint.is_empty() { String::new() } else { format!(" ({})", m.hint) };
            format!("{line}:{column} {}{hint}", m.message)
        })
        .collect();
    assert_eq!(found, mistakes);
}

#[test]
fn what_people_write() {
    check_good("// head\n{\"a\": [1, 2,], /* x * / */ \"b\": {},}\n// tail", r#"{"a":[1,2],"b":{}}"#);
    check_good(r#""\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\""#, r#""é😀/\b\f\n\r\t\"\\""#);
    check_good(r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
    check_good("\"// no comment\"", "\"// no comment\"");
    check_good("-0.5e+3", "-0.5e+3");
}

#[test]
fn mistakes() {
    check_bad("", &["1:1 expected a value, found the end of the file"]);
    check_bad(
        "{\n  \"a\": 1\n  \"b\": [1 2]\n}",
        &["2:9 expected `,` or `}` here", "3:10 expected `,` or `]` here"],
    );
    check_bad(
        "{a: 'x', \"b\" = True}",
        &[
            "1:2 keys are written in double quotes (write `\"a\"`)",
            "1:5 strings are written in double quotes",
            "1:14 expected `:` after the key, found `=`",
            "1:16 `True` is not a value (write `true`)",
        ],
    );
    check_bad(
        "{\"a\": {\"b\": 1}",
        &["1:15 expected `}`, found the end of the file (the `{` of line 1, column 1 is open)"],
    );
    check_bad("[1,, 2]", &["1:4 expected a value, found `,`"]);
    check_bad("[\"a\n\"]", &["1:2 this string does not end on its line (close it with a double quote)"]);
    check_bad("{} x", &["1:4 expected the end of the file, found `x`"]);
    check_bad(
        "[01, 1., -, 1e, +1]",
        &[
            "1:2 `01` is not a number",
            "1:6 `1.` is not a number",
            "1:10 `-` is not a number",
            "1:13 `1e` is not a number",
            "1:17 expected a value, found `+`",
        ],
    );
    check_bad("{\"a\" 1}", &["1:5 expected `:` after the key, found `1`"]);
    check_bad("{ # no\n}", &["1:3 expected a key in double quotes, found `#` (comments begin with `//`)"]);
    check_bad("1 /* open", &["1:3 this comment is never closed (close it with `*/`)"]);
    check_bad(r#""C:\Users""#, &["1:4 this is not an escape (a backslash itself is written `\\\\`)"]);
    check_bad(r#""\ud800""#, &["1:2 this is not a character (write `\\u` and four hexadecimal digits)"]);
    check_bad("\"a\tb\"", &["1:3 a string cannot hold a control character as it is (write `\\t`)"]);
}

#[test]
fn depth_is_bounded_and_needs_little_stack() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let body = move || {
        assert_eq!(parse(&nested(JSON_DEPTH_MAX)).mistakes, []);
        assert!(serde_json::from_str::<Serde>(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(parse(&nested(JSON_DEPTH_MAX + 1)).mistakes.len(), 1);
        assert_eq!(parse(&"[".repeat(1 << 20)).mistakes.len(), 1);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(body).unwrap().join().unwrap();
}

#[test]
fn mistakes_are_bounded() {
    assert_eq!(parse(&format!("[{}]", "True,".repeat(1000))).mistakes.len(), SYNTAX_MISTAKES_MAX);
}

/// Writes random documents. `loose` adds comments and trailing commas; the same seed gives the same values.
struct Writer {
    rng: Rng,
    /// For what stands between the values.
    between: Rng,
    loose: bool,
    out: String,
}

impl Writer {
    fn document(seed: u64, loose: bool) -> String {
        let mut writer =
            Writer { rng: Rng::with_seed(seed), between: Rng::with_seed(seed), loose, out: String::new() };
        writer.value(4);
        writer.space();
        writer.out
    }

    fn space(&mut self) {
        let choices: &[&str] = if self.loose {
            &["", " ", "\n", "// é \" }\n", "/* ] */", "/***/"]
        } else {
            &["", " ", "\r\n", "\t"]
        };
        self.out.push_str(choices[self.between.usize(..choices.len())]);
    }

    fn value(&mut self, depth: usize) {
        self.space();
        match self.rng.u8(..if depth == 0 { 6 } else { 10 }) {
            0 => self.out.push_str("null"),
            1 => self.out.push_str(if self.rng.bool() { "true" } else { "false" }),
            2 | 3 => {
                let numbers = ["0", "-0", "17", "-3.25", "1e5", "2E-3", "123456789012345678", "0.5e+1"];
                self.out.push_str(numbers[self.rng.usize(..numbers.len())]);
            }
            4 | 5 => self.text(),
            6 | 7 => self.list('[', ']', |w| w.value(depth - 1)),
            _ => self.list('{', '}', |w| {
                w.text();
                w.space();
                w.out.push(':');
                w.value(depth - 1);
            }),
        }
    }

    fn list(&mut self, open: char, close: char, item: impl Fn(&mut Writer)) {
        self.out.push(open);
        let count = self.rng.usize(..4);
        for n in 0..count {
            self.space();
            item(self);
            self.space();
            if n + 1 < count || (self.loose && self.between.bool()) {
                self.out.push(',');
            }
        }
        self.space();
        self.out.push(close);
    }

    fn text(&mut self) {
        self.out.push('"');
        let pieces =
            ["a", "é", "😀", "\\n", "\\\"", "\\\\", "\\u00E9", "\\ud83d\\ude00", "//", "/*", "{", "\u{7f}"];
        for _ in 0..self.rng.usize(..4) {
            self.out.push_str(pieces[self.rng.usize(..pieces.len())]);
        }
        self.out.push('"');
    }
}

#[test]
fn the_same_as_serde_json() {
    for seed in 0..3000 {
        let text = Writer::document(seed, false);
        check_good(&text, &text);
        check_good(&Writer::document(seed, true), &text);
    }
}

#[test]
fn no_prefix_and_no_damage_makes_it_panic() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let text = Writer::document(seed, seed % 2 == 0);
        for (end, _) in text.char_indices() {
            let parsed = parse(&text[..end]);
            assert!(parsed.root.end <= end && parsed.mistakes.iter().all(|m| m.at <= end));
        }
        for _ in 0..40 {
            let mut chars: Vec<char> = text.chars().collect();
            let strange =
                ['"', '\\', '{', '}', '[', ']', ',', ':', '/', '*', '\n', '\0', 'é', '1', 'u', '\''];
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..chars.len());
                match rng.u8(..3) {
                    0 if chars.len() > 1 => drop(chars.remove(at)),
                    1 => chars.insert(at, strange[rng.usize(..strange.len())]),
                    _ => chars[at] = strange[rng.usize(..strange.len())],
                }
            }
            let damaged: String = chars.into_iter().collect();
            let parsed = parse(&damaged);
            match serde_json::from_str::<Serde>(&damaged) {
                Ok(value) => assert_eq!((plain(&parsed.root), parsed.mistakes), (value, vec![]), "{damaged}"),
                Err(_) => drop(parsed),
            }
        }
    }
}
