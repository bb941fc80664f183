//! What the house asks of its own text: floors, first lines, lengths, reasons. Reads the sources, runs nothing.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use mcpvisor::base::fault::FaultKind;
use std::fs;
use std::path::{Path, PathBuf};

/// Module and floor, as src/lib.rs draws them.
const FLOORS: &[(&str, u32)] = &[
    ("base", 0),
    ("sys", 0),
    ("mcp", 1),
    ("http", 1),
    ("config", 2),
    ("diagnose", 2),
    ("store", 2),
    ("server", 3),
    ("engine", 3),
    ("reaper", 3),
    ("daemon", 4),
    ("gateway", 4),
    ("api", 4),
    ("hotreload", 4),
    ("cli", 5),
    ("demo", 5),
];

/// The edges within floors 0 and 3. On the other floors neighbours may use each other.
const SIDEWAYS: &[(&str, &str)] =
    &[("sys", "base"), ("reaper", "engine"), ("server", "engine"), ("server", "reaper")];

/// Lines of a file before its tests: what a reader can hold.
const LINES_MAX: usize = 600;

/// One source file: its path from the root of the project, and its lines.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// How many lines come before the tests at the end of the file.
    fn length(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let tests =
            self.lines.windows(2).position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod "));
        tests.unwrap_or(self.lines.len())
    }

    /// The lines of the product with their numbers, without what is behind `//`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.lines[..self.length()].iter().enumerate();
        numbered.map(|(index, line)| (index + 1, without_comment(line)))
    }

    /// The lines of tests.
    fn tests(&self) -> impl Iterator<Item = &String> {
        self.lines[self.length()..].iter()
    }

    /// `config` for src/config/parse.rs; nothing for lib.rs and main.rs, which stand outside.
    fn module(&self) -> Option<&str> {
        let (module, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(module)
    }
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split(" // ").next().unwrap_or(line)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            continue;
        }
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// All Rust files of src/ and tests/.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    files(&root().join("tests"), &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found.sort();
    let source = |path: PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
        lines: fs::read_to_string(&path).unwrap().lines().map(ToOwned::to_owned).collect(),
    };
    found.into_iter().map(source).collect()
}

fn check(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n  {}\n", findings.join("\n  "));
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The modules that a line names behind `crate::`, also in a list `crate::{a::B, c}`.
fn named_modules(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            Some(list) => found.extend(top_level(list).into_iter().map(word)),
            None => found.push(word(rest)),
        }
    }
    found
}

/// The entries of `a::{b, c}, d}`: up to the brace that ends it, cut at the commas of the outer level.
fn top_level(list: &str) -> Vec<&str> {
    let (mut entries, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                entries.push(&list[from..at]);
                return entries;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(&list[from..at]);
                from = at + 1;
            }
            _ => (),
        }
    }
    entries.push(&list[from..]);
    entries
}

/// Why `from` may not use `to`, if it may not.
fn objection(from: &str, to: &str) -> Option<String> {
    let Some(to_floor) = floor(to) else {
        return Some(format!(
            "`crate::{to}` is on no floor (give it one in src/lib.rs and tests/it/tidy.rs)"
        ));
    };
    let from_floor = floor(from)?;
    if from == to || SIDEWAYS.contains(&(from, to)) {
        return None;
    }
    if to_floor > from_floor {
        return Some(format!(
            "`{from}` (floor {from_floor}) uses `{to}` (floor {to_floor}): pass the value down instead"
        ));
    }
    let neighbours_are_strangers = from_floor == 0 || from_floor == 3;
    (to_floor == from_floor && neighbours_are_strangers)
        .then(|| format!("`{from}` uses its neighbour `{to}` on floor {from_floor}: only {SIDEWAYS:?} may"))
}

#[test]
fn floors_are_kept() {
    let mut findings = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        if floor(module).is_none() {
            findings
                .push(format!("{}: `{module}` is on no floor (see FLOORS in tests/it/tidy.rs)", source.path));
        }
        for (number, line) in source.code() {
            for named in named_modules(line) {
                if let Some(objection) = objection(module, &named) {
                    findings.push(format!("{}:{number}: {objection}", source.path));
                }
            }
        }
    }
    check("a floor may use itself and what is below", findings);
}

#[test]
fn the_floor_check_sees() {
    assert_eq!(named_modules("use crate::config::Config;"), ["config"]);
    assert_eq!(named_modules("use crate::{base::id::{A, B}, sys};"), ["base", "sys"]);
    assert_eq!(named_modules("fn f(a: crate::http::Head) -> crate::mcp::Id {"), ["http", "mcp"]);
    assert!(objection("config", "server").is_some());
    assert!(objection("reaper", "server").is_some());
    assert!(objection("base", "sys").is_some());
    assert!(objection("server", "nowhere").is_some());
    assert_eq!(objection("server", "reaper"), None);
    assert_eq!(objection("daemon", "gateway"), None);
    assert_eq!(objection("cli", "base"), None);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.lines.first().is_some_and(|line| line.starts_with("//! ")));
    let findings = silent.map(|source| format!("{}:1: begins without `//! what this is for`", source.path));
    check("the first line of a file says what it is for", findings.collect());
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = [
        concat!("to", "do!"),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("#[ign", "ore"),
    ];
    let mut findings = Vec::new();
    for source in sources() {
        for (index, line) in source.lines.iter().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push(format!(
                    "{}:{}: `{word}`: do it now, or open an issue",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    check("no unfinished work in the sources", findings);
}

#[test]
fn unsafe_is_in_sys_only() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("src/sys/")) {
        for (number, line) in source.code() {
            if line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                findings.push(format!(
                    "{}:{number}: `unsafe` belongs in src/sys/, behind a safe function",
                    source.path
                ));
            }
        }
    }
    check("unsafe code has one home", findings);
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|source| source.length() > LINES_MAX);
    let findings = long.map(|source| {
        format!("{}: {} lines before its tests; split it by subject", source.path, source.length())
    });
    check(&format!("at most {LINES_MAX} lines of product in a file"), findings.collect());
}

#[test]
fn no_unwrap_in_the_product() {
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.code().filter(|(_, line)| line.contains(".unwrap()")) {
            let path = &source.path;
            findings.push(format!(
                "{path}:{number}: expect(\"why it cannot fail\"), or handle it: {}",
                line.trim()
            ));
        }
    }
    check("the product does not unwrap", findings);
}

#[test]
fn tests_do_not_sleep() {
    let sleeps = concat!("thread::sl", "eep(");
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/it/support/mod.rs") {
        if source.tests().any(|line| without_comment(line).contains(sleeps)) {
            findings.push(format!("{}: wait for the event with a deadline (support::until)", source.path));
        }
    }
    check("tests wait for events, not for time", findings);
}

#[test]
fn every_fault_is_explained() {
    let text = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let unexplained = FaultKind::ALL.into_iter().filter(|kind| {
        let row = format!("| `{}` | ", kind.name());
        !text.lines().any(|line| line.starts_with(&row))
    });
    let findings = unexplained.map(|kind| format!("`{}` has no row there", kind.name()));
    check("docs/faults.md explains every kind of fault", findings.collect());
}

#[test]
fn every_limit_has_a_reason() {
    let mut findings = Vec::new();
    for file in ["src/base/limits.rs", "src/base/limits/engines.rs"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let mut before = "";
        for line in text.lines() {
            // Limits that stand together share the comment above the first.
            let explained = before.starts_with("///") || before.starts_with("pub const");
            if line.starts_with("pub const") && !explained {
                findings
                    .push(format!("{file}: `{line}` has no `///` with unit, reason, and what happens there"));
            }
            before = line;
        }
    }
    check("every limit says why", findings);
}

#[test]
fn every_dependency_has_a_reason() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
            let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
            if reason.is_empty() {
                findings.push(format!("Cargo.toml: `{line}` has no `# what it is for`"));
            }
        }
    }
    check("every dependency says what it is for", findings);
}
