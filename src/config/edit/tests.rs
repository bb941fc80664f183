//! Tables of edits, and generated files of every layout.

use super::*;
use crate::config;
use fastrand::Rng;

fn entry(json: &str) -> Node {
    read_entry(json).unwrap()
}

#[track_caller]
fn check_add(before: &str, after: &str) {
    let uvx = entry(r#"{"command": "uvx", "args": ["git"]}"#);
    let added = add(before, "git", &uvx, Existing::Refuse);
    assert_eq!(added.as_deref(), Ok(after), "got:\n{}", added.as_deref().unwrap_or_default());
}

/// As [`check_add`], and taking it out again gives what was there.
#[track_caller]
fn check(before: &str, after: &str) {
    check_add(before, after);
    assert_eq!(remove(after, "git").as_deref(), Ok(before), "and out again");
}

#[test]
fn a_file_that_says_nothing_yet() {
    let fresh = "\
{
  \"mcpServers\": {
    \"git\": {
      \"command\": \"uvx\",
      \"args\": [\"git\"]
    }
  }
}
";
    for nothing in ["", " \n\n", "\r\n"] {
        check_add(nothing, fresh);
    }
    check_add("{}\n", fresh);
    check_add("\u{feff}", &format!("\u{feff}{fresh}"));
    check(
        "{\"mcpServers\": {}}",
        "{\"mcpServers\": {\n  \"git\": {\n    \"command\": \"uvx\",\n    \"args\": [\"git\"]\n  }\n}}",
    );
    check(
        "{\"mcpServers\": []}\n",
        "{\"mcpServers\": [\n  {\n    \"name\": \"git\",\n    \"command\": \"uvx\",\n    \"args\": [\"git\"]\n  }\n]}\n",
    );
    check(
        "{\n  \"mcpServers\": {},\n  \"listen\": \"x:1\"\n}",
        "{\n  \"mcpServers\": {\n    \"git\": {\n      \"command\": \"uvx\",\n      \"args\": [\"git\"]\n    }\n  },\n\
         \x20 \"listen\": \"x:1\"\n}",
    );
    check(
        "{\n  \"mcpServers\": { // of all\n    // none yet\n  }\n}",
        "{\n  \"mcpServers\": { // of all\n    \"git\": {\n      \"command\": \"uvx\",\n      \"args\": [\"git\"]\n    }\n\
         \x20   // none yet\n  }\n}",
    );
    check_add(
        "{\n\t\"listen\": \"x:1\", // here\n\t\"mcpServers\": null\n}",
        "{\n\t\"listen\": \"x:1\", // here\n\t\"mcpServers\": {\n\t\t\"git\": {\n\t\t\t\"command\": \"uvx\",\n\
         \t\t\t\"args\": [\"git\"]\n\t\t}\n\t}\n}",
    );
    check_add(
        "{\n    \"listen\": \"x:1\" // here\n}",
        "{\n    \"listen\": \"x:1\", // here\n    \"mcpServers\": {\n        \"git\": {\n            \"command\": \"uvx\",\n\
         \x20           \"args\": [\"git\"]\n        }\n    }\n}",
    );
}

#[test]
fn lines_like_those_of_the_neighbours() {
    check(
        r#"{
    // Everything of the office.
    "mcpServers": {
        "time": {
            "command": "uvx" // a comment
        } // the time

        // commented: "old": {}
    },
    "listen": "127.0.0.1:1"
}"#,
        r#"{
    // Everything of the office.
    "mcpServers": {
        "time": {
            "command": "uvx" // a comment
        }, // the time
        "git": {
            "command": "uvx",
            "args": ["git"]
        }

        // commented: "old": {}
    },
    "listen": "127.0.0.1:1"
}"#,
    );
    // Trailing commas, CRLF, tabs, a mark, no end of the last line.
    check(
        "\u{feff}{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {\r\n\t\t\t\"command\": \"x\",\r\n\t\t},  \r\n\t},\r\n}",
        "\u{feff}{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {\r\n\t\t\t\"command\": \"x\",\r\n\t\t},  \r\n\
         \t\t\"git\": {\r\n\t\t\t\"command\": \"uvx\",\r\n\t\t\t\"args\": [\"git\"]\r\n\t\t},\r\n\t},\r\n}",
    );
    // An entry a line.
    check(
        "{ \"mcpServers\": {\n  \"a\": { \"command\": \"x\" }, // a\n  \"b\": { \"command\": \"y\" } // b\n} }\n",
        "{ \"mcpServers\": {\n  \"a\": { \"command\": \"x\" }, // a\n  \"b\": { \"command\": \"y\" }, // b\n\
         \x20 \"git\": { \"command\": \"uvx\", \"args\": [\"git\"] }\n} }\n",
    );
    // Arrays.
    check(
        "{\"mcpServers\": [\n  {\"name\": \"a\", \"command\": \"x\"}\n]}",
        "{\"mcpServers\": [\n  {\"name\": \"a\", \"command\": \"x\"},\n\
         \x20 {\"name\": \"git\", \"command\": \"uvx\", \"args\": [\"git\"]}\n]}",
    );
    check(
        "{\n  \"mcpServers\": [{\n    \"name\": \"a\"\n  }, {\n    \"name\": \"b\"\n  }]\n}\n",
        "{\n  \"mcpServers\": [{\n    \"name\": \"a\"\n  }, {\n    \"name\": \"b\"\n  }, {\n    \"name\": \"git\",\n\
         \x20   \"command\": \"uvx\",\n    \"args\": [\"git\"]\n  }]\n}\n",
    );
    // The bracket on the line of the last entry.
    check(
        "{ \"mcpServers\": {\n    \"a\": {\"command\": \"x\"} } }",
        "{ \"mcpServers\": {\n    \"a\": {\"command\": \"x\"},\n    \"git\": {\"command\": \"uvx\", \"args\": [\"git\"]} } }",
    );
}

#[test]
fn files_of_one_line() {
    check(
        r#"{"mcpServers":{"a":{"command":"x"}},"listen":"x:1"}"#,
        r#"{"mcpServers":{"a":{"command":"x"},"git":{"command":"uvx","args":["git"]}},"listen":"x:1"}"#,
    );
    check(
        r#"{ "mcpServers": { "a": { "command": "x" }, } }"#,
        r#"{ "mcpServers": { "a": { "command": "x" }, "git": { "command": "uvx", "args": ["git"] }, } }"#,
    );
    check(
        r#"{"listen": "x:1", "mcpServers": {}}"#,
        r#"{"listen": "x:1", "mcpServers": {"git": {"command": "uvx", "args": ["git"]}}}"#,
    );
    check(
        r#"{"mcpServers": {"a": {"command": "x"} /* a */ }}"#,
        r#"{"mcpServers": {"a": {"command": "x"}, /* a */ "git": {"command": "uvx", "args": ["git"]} }}"#,
    );
    check(
        "{\"mcpServers\": {\"a\": {\"command\": \"x\"} // a\n}}",
        "{\"mcpServers\": {\"a\": {\"command\": \"x\"}, \"git\": {\"command\": \"uvx\", \"args\": [\"git\"]} // a\n}}",
    );
}

#[test]
fn an_entry_goes_with_what_is_its_own() {
    #[track_caller]
    fn check(servers: &str, name: &str, left: &str) {
        let whole = |servers: &str| format!("{{\n  \"mcpServers\": {servers}, // end\n}}");
        assert_eq!(remove(&whole(servers), name).as_deref(), Ok(whole(left).as_str()), "{servers}");
    }
    let three = "{\n    // The first.\n    \"a\": {}, // a\n\n    // About both.\n\n    // About b,\n    /* and more\n       of b */\n\
                 \x20   \"b\": {\"command\": \"x\"} /* b */, // b\n    \"c\": {}\n  }";
    check(
        three,
        "b",
        "{\n    // The first.\n    \"a\": {}, // a\n\n    // About both.\n\n    \"c\": {}\n  }",
    );
    check(three, "a", &three.replace("    // The first.\n    \"a\": {}, // a\n", ""));
    check(three, "c", &three.replace("\n    \"c\": {}", "").replace("/* b */,", "/* b */"));
    check("{\"a\": {}, \"b\": {}, \"c\": {}}", "a", "{\"b\": {}, \"c\": {}}");
    check("{\"a\": {}, \"b\": {}, \"c\": {}}", "b", "{\"a\": {}, \"c\": {}}");
    check("{\"a\": {}, \"b\": {}, \"c\": {}}", "c", "{\"a\": {}, \"b\": {}}");
    check("{\n    \"a\": {}, \"b\": {},\n    \"c\": {}\n  }", "b", "{\n    \"a\": {},\n    \"c\": {}\n  }");
    check("{\n    \"a\": {}, \"b\": {},\n    \"c\": {}\n  }", "a", "{\n    \"b\": {},\n    \"c\": {}\n  }");
    check("{\n    \"a\": {}, // a\n    \"b\": {} }", "b", "{\n    \"a\": {} // a\n     }");
    check("{\n    \"a\": {}\n    , \"b\": {}\n  }", "b", "{\n    \"a\": {}\n    \n  }");
    check("{\n    \"a\": {}\n    , \"b\": {}\n  }", "a", "{\n    \"b\": {}\n  }");
    // The last one leaves an empty list, and comments that were not its own.
    check("{\n    // a\n    \"a\": {}\n  }", "a", "{}");
    check("{\n    // of all\n\n    \"a\": {},\n  }", "a", "{\n    // of all\n\n  }");
    check("[ {\"name\": \"a\"} ]", "a", "[]");
    check("[{\"name\": \"a\"}, {\"name\": \"b\"}]", "a", "[{\"name\": \"b\"}]");
}

#[test]
fn another_entry_keeps_the_place() {
    let before =
        "{\"mcpServers\": {\n  // b\n  \"b\": {\n    \"command\": \"x\" // old\n  }, // b\n  \"c\": {}\n}}";
    let new = entry(r#"{"command": "y", "env": {"A": "1"}}"#);
    let after = "{\"mcpServers\": {\n  // b\n  \"b\": {\n    \"command\": \"y\",\n    \"env\": {\n      \"A\": \"1\"\n\
                 \x20   }\n  }, // b\n  \"c\": {}\n}}";
    assert_eq!(add(before, "b", &new, Existing::Replace).as_deref(), Ok(after));
    assert_eq!(add(after, "b", &new, Existing::Replace), Err(Refusal::Same { line: 3 }));
    assert_eq!(add(after, "b", &new, Existing::Refuse), Err(Refusal::Same { line: 3 }));
    assert_eq!(add(before, "b", &new, Existing::Refuse), Err(Refusal::Exists { line: 3 }));
    let array = r#"{"mcpServers": [{"name": "b", "command": "x"}, {"name": "c"}]}"#;
    let after = r#"{"mcpServers": [{"name": "b", "command": "y", "env": {"A": "1"}}, {"name": "c"}]}"#;
    assert_eq!(add(array, "b", &new, Existing::Replace).as_deref(), Ok(after));
    assert_eq!(add(after, "b", &new, Existing::Refuse), Err(Refusal::Same { line: 1 }));
}

#[test]
fn what_is_refused() {
    let uvx = entry(r#"{"command": "uvx"}"#);
    let adding = |text| add(text, "a", &uvx, Existing::Replace).unwrap_err();
    for broken in ["{", "[]", "// nothing", "{\"mcpServers\": 1}", "{\"mcpServers\": {\"a\": }}"] {
        assert_eq!(adding(broken), Refusal::Unusable, "{broken}");
        assert_eq!(remove(broken, "a"), Err(Refusal::Unusable), "{broken}");
    }
    let twice = |what: &str, lines| Refusal::Twice { what: what.to_owned(), lines };
    let lists = "{\"mcpServers\": {},\n\"mcpServers\": {}}";
    assert_eq!(adding(lists), twice("`mcpServers`", [1, 2]));
    let names = "{\"mcpServers\": {\"a\": {},\n\n\"a\": {}}}";
    assert_eq!(adding(names), twice("`a`", [1, 3]));
    assert_eq!(remove(names, "a"), Err(twice("`a`", [1, 3])));
    let unknown = |near: Option<&str>| Err(Refusal::Unknown { near: near.map(str::to_owned) });
    assert_eq!(remove("{\"mcpServers\": {\"time\": {}}}", "tiem"), unknown(Some("time")));
    assert_eq!(remove("{}", "a"), unknown(None));
    assert_eq!(remove("", "a"), unknown(None));
    let wrong = |text| read_entry(text).unwrap_err();
    assert_eq!(wrong("{\"a\": 1,\n x}"), "line 2, column 2: keys are written in double quotes");
    assert_eq!(wrong("[]"), "expected an object, like {\"command\": \"uvx\"}");
    assert_eq!(wrong("{\"env\": {\"A\": 1, \"A\": 2}}"), "`A` is written twice");
    assert_eq!(wrong("{\"mcpServers\": {}}"), "give one entry: what stands behind its name in `mcpServers`");
}

#[test]
fn strange_names_and_values() {
    let strange = entry(r#"{"command": "a\"b\\c\u0001é", "args": [1.50, true, null, {"x": []}]}"#);
    for name in ["a\"b", "\\", "née 😀", "a/b c", "\u{7f}"] {
        for before in ["{\"mcpServers\": {}}", "{\"mcpServers\": [\n{}\n]}"] {
            let after = add(before, name, &strange, Existing::Refuse).unwrap();
            assert!(after.contains(r#"[1.50,"#) || after.contains("1.50,\n"), "{after}");
            assert_eq!(
                add(&after, name, &strange, Existing::Refuse),
                Err(Refusal::Same { line: if before.contains('[') { 3 } else { 2 } })
            );
            assert_eq!(remove(&after, name).as_deref(), Ok(before), "{name}");
        }
    }
    let long = "x".repeat(60);
    let many = entry(&format!("{{\"command\": \"x\", \"args\": [\"{long}\", \"{long}\"]}}"));
    let after = add("{\"mcpServers\": {}}", "a", &many, Existing::Refuse).unwrap();
    assert!(after.contains(&format!("\"args\": [\n      \"{long}\",\n      \"{long}\"\n    ]\n")), "{after}");
}

/// A file in the layout of somebody, and the names in it.
struct Made {
    text: String,
    names: Vec<String>,
    /// No list, or an empty one with something in it but nothing: see the head of `edit.rs`.
    is_bare: bool,
}

struct Maker {
    rng: Rng,
    out: String,
    newline: &'static str,
    unit: &'static str,
    /// Of 10: how often a comment stands where one may.
    comments: u8,
    spread: bool,
    trailing: bool,
    colon: &'static str,
}

impl Maker {
    fn new(seed: u64) -> Maker {
        let mut rng = Rng::with_seed(seed);
        let newline = if rng.u8(..4) == 0 { "\r\n" } else { "\n" };
        let unit = ["  ", "    ", "\t"][rng.usize(..3)];
        let comments = [0, 0, 1, 4][rng.usize(..4)];
        let (spread, trailing) = (rng.u8(..4) > 0, rng.u8(..4) == 0);
        let colon = [": ", ":", " : "][rng.usize(..3)];
        Maker { rng, out: String::new(), newline, unit, comments, spread, trailing, colon }
    }

    fn chance(&mut self, of_10: u8) -> bool {
        self.rng.u8(..10) < of_10
    }

    /// White space, and sometimes comments; a new line of this depth if `line`.
    fn gap(&mut self, line: Option<usize>) {
        while self.chance(self.comments) {
            match self.rng.u8(..4) {
                0 => self.out.push_str(" /* \"a\": { , */ "),
                1 => self.out.push_str(&format!("/* two{}lines ] */", self.newline)),
                _ if line.is_some() => self.out.push_str(&format!("  // {{ to the end,{}", self.newline)),
                _ => self.out.push(' '),
            }
        }
        if let Some(depth) = line {
            if self.chance(1) {
                self.out.push_str("  ");
            }
            self.out.push_str(self.newline);
            if self.chance(1) {
                self.out.push_str(self.newline);
            }
            (0..depth).for_each(|_| self.out.push_str(self.unit));
            if self.chance(self.comments) {
                self.out.push_str(&format!("// above }}{}", self.newline));
                (0..depth).for_each(|_| self.out.push_str(self.unit));
            }
        }
    }

    fn list(&mut self, brackets: [&str; 2], depth: usize, items: &[&dyn Fn(&mut Maker)]) {
        let spread = self.spread && !self.chance(1);
        let line = |depth| spread.then_some(depth);
        self.out.push_str(brackets[0]);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.gap(None);
                self.out.push(',');
                if !spread && !self.colon.ends_with(':') {
                    self.out.push(' ');
                }
            }
            let line = if self.chance(1) { None } else { line(depth + 1) };
            self.gap(line);
            item(self);
        }
        self.gap(None);
        if self.trailing && !items.is_empty() {
            self.out.push(',');
        }
        let line = if items.is_empty() && self.chance(7) { None } else { line(depth) };
        self.gap(line);
        self.out.push_str(brackets[1]);
    }

    fn member(&mut self, key: &str) {
        self.out.push_str(&format!("\"{key}\"{}", self.colon));
    }

    fn server(&mut self, name: Option<&str>, depth: usize) {
        let own = move |maker: &mut Maker| {
            maker.member("name");
            maker.out.push_str(&format!("\"{}\"", name.unwrap_or_default()));
        };
        let command = |maker: &mut Maker| {
            maker.member("command");
            maker.out.push_str("\"/bin/{x}\"");
        };
        let args = move |maker: &mut Maker| {
            maker.member("args");
            maker.list(["[", "]"], depth + 1, &[&|maker| maker.out.push_str("\"// no comment\"")]);
        };
        let mut items: Vec<&dyn Fn(&mut Maker)> = Vec::new();
        if name.is_some() {
            items.push(&own);
        }
        items.push(&command);
        if self.chance(5) {
            items.push(&args);
        }
        self.list(["{", "}"], depth, &items);
    }

    fn file(mut self) -> Made {
        let names: Vec<String> = (0..self.rng.usize(..4)).map(|n| format!("s{n}")).collect();
        let is_array = self.chance(3);
        let mut list_text = 0..0;
        if self.chance(1) {
            self.out.push('\u{feff}');
        }
        self.gap(None);
        let place = std::cell::RefCell::new(&mut list_text);
        let server = |name: &String| {
            let name = name.clone();
            move |maker: &mut Maker| {
                if !is_array {
                    maker.member(&name);
                }
                maker.server(is_array.then_some(name.as_str()), 2);
            }
        };
        let made: Vec<_> = names.iter().map(server).collect();
        let servers = |maker: &mut Maker| {
            maker.member("mcpServers");
            let from = maker.out.len();
            let items: Vec<&dyn Fn(&mut Maker)> =
                made.iter().map(|item| item as &dyn Fn(&mut Maker)).collect();
            maker.list(if is_array { ["[", "]"] } else { ["{", "}"] }, 1, &items);
            **place.borrow_mut() = from..maker.out.len();
        };
        let other = |maker: &mut Maker| {
            maker.member("call_timeout");
            maker.out.push_str("\"2m\"");
        };
        let another = |maker: &mut Maker| {
            maker.member("logging");
            maker.list(["{", "}"], 1, &[]);
        };
        let mut items: Vec<&dyn Fn(&mut Maker)> = Vec::new();
        if self.chance(5) {
            items.push(&other);
        }
        let has_list = !self.chance(1);
        if has_list {
            items.push(&servers);
        }
        if self.chance(5) {
            items.push(&another);
        }
        self.list(["{", "}"], 0, &items);
        if self.chance(7) {
            self.out.push_str(self.newline);
        }
        drop(items);
        drop(made);
        let is_bare = !has_list || (names.is_empty() && list_text.len() > 2);
        Made { text: self.out, names: if has_list { names } else { Vec::new() }, is_bare }
    }
}

/// The edits as they are made, without the mark.
fn edits(text: &str, make: impl FnOnce(&Document) -> Result<Vec<Edit>, Refusal>) -> (&str, Vec<Edit>) {
    let text = split_mark(text).1;
    let edits = make(&Document::read(text).unwrap()).unwrap();
    (text, edits)
}

fn without_space(text: &str) -> String {
    text.split_whitespace().collect()
}

fn names(text: &str) -> Vec<String> {
    let (config, findings) = config::parse(text, "f");
    assert!(config.usable, "{findings:?}\n{text}");
    config.servers.into_iter().map(|server| server.name.0).collect()
}

/// What is in the file beside white space stands in it after an addition, in its order; what is taken out is one entry
/// with its comma and comments; and both together change nothing.
#[test]
fn nothing_else_changes_in_any_layout() {
    for seed in 0..20_000 {
        let Made { text, names: before, is_bare } = Maker::new(seed).file();
        let uvx = entry(r#"{"command": "uvx", "env": {"A": "1"}}"#);
        assert_eq!(names(&text), before, "seed {seed}\n{text}");
        let added = add(&text, "git", &uvx, Existing::Refuse);
        let added = added.unwrap_or_else(|why| panic!("seed {seed}: {why:?}\n{text}"));
        let with: Vec<String> = before.iter().cloned().chain(["git".to_owned()]).collect();
        assert_eq!(names(&added), with, "seed {seed}\n{text}\n{added}");
        let (plain, made) = edits(&text, |document| document.adding("git", &uvx, Existing::Refuse));
        for (range, _) in &made {
            assert_eq!(plain[range.clone()].trim(), "", "seed {seed}: only white space makes room\n{text}");
        }
        let removed = remove(&added, "git").unwrap_or_else(|why| panic!("seed {seed}: {why:?}\n{added}"));
        if !is_bare {
            assert_eq!(removed, text, "seed {seed}: in and out again\n{added}");
        }
        for name in &before {
            let left = remove(&text, name).unwrap_or_else(|why| panic!("seed {seed}: {why:?}\n{text}"));
            let expected: Vec<String> = before.iter().filter(|other| *other != name).cloned().collect();
            assert_eq!(names(&left), expected, "seed {seed}\n{text}\n{left}");
            let (plain, made) = edits(&text, |document| document.removing(name));
            let taken: Vec<&str> = made.iter().map(|(range, _)| &plain[range.clone()]).collect();
            let commas = taken.iter().filter(|piece| piece.trim() == ",").count();
            assert!(
                made.iter().all(|(_, new)| new.is_empty()) && taken.len() - commas == 1,
                "seed {seed}: {taken:?}"
            );
            let piece = without_space(taken.iter().find(|piece| piece.trim() != ",").unwrap());
            assert_eq!(piece.matches("\"command\"").count(), 1, "seed {seed}: {piece}");
        }
        let other = entry(r#"{"command": "other"}"#);
        if let Some(name) = before.first() {
            let replaced = add(&text, name, &other, Existing::Replace).unwrap();
            assert_eq!(names(&replaced), before, "seed {seed}\n{replaced}");
        }
    }
}
