//! Looking through `sudo` and `env`: which program they start, as whom, and with which environment.

use super::flags::{ENV, Next, Part, SUDO, Table};

/// The container engine's program behind the wrappers.
pub struct Program<'a> {
    /// Its place among the words of the command line.
    pub at: usize,
    /// `docker`, `podman` …: without folder and `.exe`.
    pub name: &'a str,
    /// It is a program of Windows, called from a Linux inside it.
    pub windows: bool,
    /// As whom, if `sudo` says so.
    pub user: Option<&'a str>,
    pub environment: Environment<'a>,
}

/// The variables as the program will see them.
pub struct Environment<'a> {
    outer: &'a dyn Fn(&str) -> Option<String>,
    /// Nothing of the outer ones comes through, but for those in `set`.
    cleared: bool,
    /// The last of a name counts; nothing is unset.
    set: Vec<(&'a str, Option<String>)>,
}

impl<'a> Environment<'a> {
    /// A variable that has a value; an empty one is none, as the engines' programs have it.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match self.set.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => value.clone(),
            None if self.cleared => None,
            None => (self.outer)(name),
        };
        value.filter(|value| !value.is_empty())
    }

    fn clear_but(&mut self, kept: &[&'a str]) {
        let kept = kept.iter().map(|name| (*name, self.get(name))).collect();
        self.cleared = true;
        self.set = kept;
    }

    /// Whether the word is `NAME=value`, and then sets it.
    fn assign(&mut self, word: &'a str) -> bool {
        let Some((name, value)) = word.split_once('=') else { return false };
        self.set.push((name, Some(value.to_owned())));
        true
    }
}

/// Nothing if the words are no call of an engine's program, or of one in a way that cannot be seen through.
pub fn program<'a>(words: &[&'a str], outer: &'a dyn Fn(&str) -> Option<String>) -> Option<Program<'a>> {
    let mut user = None;
    let mut environment = Environment { outer, cleared: false, set: Vec::new() };
    let mut at = 0;
    loop {
        let file = words.get(at)?.rsplit('/').next()?;
        let name = file.strip_suffix(".exe").unwrap_or(file);
        at += 1;
        match name {
            "sudo" => at += sudo(&words[at..], &mut environment, &mut user)?,
            "env" => at += env(&words[at..], &mut environment)?,
            _ => {
                let windows = name != file;
                return Some(Program { at: at - 1, name, windows, user, environment });
            }
        }
    }
}

/// How many words are before the command.
fn sudo<'a>(
    words: &[&'a str],
    environment: &mut Environment<'a>,
    user: &mut Option<&'a str>,
) -> Option<usize> {
    *user = Some("root");
    let mut kept: Option<Vec<&str>> = Some(Vec::new());
    let flag = |part: Part<'a>| match (part.flag.long, part.value) {
        ("user", Some(name)) => *user = Some(name),
        ("preserve-env", None) => kept = None,
        ("preserve-env", Some(names)) => kept.iter_mut().for_each(|kept| kept.extend(names.split(','))),
        _ => (),
    };
    let mut at = options(SUDO, words, flag)?;
    if let Some(kept) = kept {
        environment.clear_but(&kept);
    }
    while environment.assign(words.get(at)?) {
        at += 1;
    }
    Some(at)
}

fn env<'a>(words: &[&'a str], environment: &mut Environment<'a>) -> Option<usize> {
    let mut empty = false;
    let mut unset = Vec::new();
    let flag = |part: Part<'a>| match (part.flag.long, part.value) {
        ("ignore-environment", _) => empty = true,
        ("unset", Some(name)) => unset.push((name, None)),
        _ => (),
    };
    let mut at = options(ENV, words, flag)?;
    if words.get(at) == Some(&"-") {
        empty = true;
        at += 1;
    }
    if empty {
        environment.clear_but(&[]);
    }
    environment.set.extend(unset);
    while environment.assign(words.get(at)?) {
        at += 1;
    }
    Some(at)
}

/// Reads the options of a wrapper and says how many words they are; nothing if one is not known.
fn options<'a>(table: Table, words: &[&'a str], mut flag: impl FnMut(Part<'a>)) -> Option<usize> {
    let mut at = 0;
    loop {
        match table.next(&words[at..]) {
            Next::Flags { parts, words } => {
                parts.into_iter().for_each(&mut flag);
                at += words;
            }
            Next::Dashes => return Some(at + 1),
            Next::Operand => return Some(at),
            Next::End | Next::NoValue | Next::Foreign | Next::Unknown(_) => return None,
        }
    }
}
