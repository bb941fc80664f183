//! Words of a command line → what to run. Pure: arguments and environment come in as values.
//!
//! Refuses with what was not understood, the nearest thing that is, and where to read on.

use super::command::{COMMANDS, Command, GLOBALS, Opt, Run, RunGiven, RunRaw, Value, Words, below};
use super::exit::Failure;
use super::options::{Given, text};
use crate::base::text::nearest;
use lexopt::{Arg, Parser};
use std::ffi::OsString;

pub enum Parsed {
    Run(RunGiven, Box<Given>),
    Raw(RunRaw, Vec<OsString>),
    /// Help on the command or group of these words; on everything if there are none.
    Help(Vec<String>),
    Version,
}

/// `args` without the program's name; `env` answers with a variable's value.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Parsed, Failure> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut parser = Parser::from_args(args);
    let mut line = Line::default();
    while let Some(arg) = parser.next().map_err(misread)? {
        let typed = match arg {
            Arg::Value(word) => {
                if let Some(run) = line.word(word)? {
                    let rest = parser.raw_args().map_err(misread)?.collect();
                    return Ok(Parsed::Raw(run, rest));
                }
                if line.wants_rest() {
                    line.given.words.extend(parser.raw_args().map_err(misread)?);
                }
                continue;
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Help(line.path)),
            Arg::Long("version") | Arg::Short('V') if line.path.is_empty() => return Ok(Parsed::Version),
            Arg::Long(name) => Typed::Long(name.to_owned()),
            Arg::Short(letter) => Typed::Short(letter),
        };
        let option = line.option(&typed)?;
        let value = match option.value {
            Value::Flag => OsString::new(),
            Value::Required(name) => parser.value().map_err(|_| {
                Failure::usage(format!("{} needs a value", typed.text()))
                    .hint(format!("{} {name}", typed.text()))
            })?,
            Value::Optional { default, reads, .. } => {
                let given = parser.optional_value().or_else(|| following(&mut parser, reads));
                given.unwrap_or_else(|| default.into())
            }
        };
        (option.set)(&mut line.given, value)
            .map_err(|why| Failure::usage(format!("{}: {why}", typed.text())))?;
        line.seen.push(option.long);
    }
    line.finish(env)
}

/// The next word, if it reads as the value of an option that may have one.
fn following(parser: &mut Parser, reads: fn(&str) -> bool) -> Option<OsString> {
    let mut rest = parser.try_raw_args()?;
    rest.next_if(|word| word.to_str().is_some_and(reads))
}

/// An option as it was typed.
enum Typed {
    Long(String),
    Short(char),
}

impl Typed {
    fn text(&self) -> String {
        match self {
            Typed::Long(name) => format!("--{name}"),
            Typed::Short(letter) => format!("-{letter}"),
        }
    }

    fn names(&self, option: &Opt) -> bool {
        match self {
            Typed::Long(name) => plain(name) == plain(option.long),
            Typed::Short(letter) => option.short == Some(*letter),
        }
    }
}

/// `--json_args` and `--json-args` are the same option.
fn plain(name: &str) -> String {
    name.replace('_', "-")
}

/// The command line as far as it was read.
#[derive(Default)]
struct Line {
    /// Words of the command, possibly only the group so far.
    path: Vec<String>,
    command: Option<&'static Command>,
    given: Given,
    /// Options that were given, so that their variables do not count.
    seen: Vec<&'static str>,
}

impl Line {
    /// Takes a plain word; `Some` when it completed a command that wants the rest unread.
    fn word(&mut self, word: OsString) -> Result<Option<RunRaw>, Failure> {
        if self.command.is_some() {
            self.given.words.push(word);
            return Ok(None);
        }
        self.path.push(text(word).map_err(Failure::usage)?);
        if below(&self.path).next().is_none() {
            return Err(unknown_command(&self.path));
        }
        self.command = below(&self.path).find(|command| command.path.len() == self.path.len());
        Ok(match self.command.map(|command| command.run) {
            Some(Run::Raw(run)) => Some(run),
            Some(Run::Given(_)) | None => None,
        })
    }

    /// Whether a command has begun whose options are not ours. Options may come behind a URL.
    fn wants_rest(&self) -> bool {
        let is_url = |word: &OsString| word.to_str().is_some_and(|word| word.contains("://"));
        let is_then = self.command.is_some_and(|command| matches!(command.words, Words::Then(..)));
        is_then && self.given.words.len() == 2 && !is_url(&self.given.words[1])
    }

    fn option(&self, typed: &Typed) -> Result<&'static Opt, Failure> {
        let of_command = self.command.map_or(&[] as &[Opt], |command| command.options);
        let mut known = of_command.iter().chain(GLOBALS);
        known.find(|option| typed.names(option)).ok_or_else(|| self.unknown_option(typed))
    }

    fn unknown_option(&self, typed: &Typed) -> Failure {
        let text = typed.text();
        let name = self.path.join(" ");
        let Some(command) = self.command else {
            let owner =
                below(&self.path).find(|command| command.options.iter().any(|option| typed.names(option)));
            if let Some(owner) = owner {
                return Failure::usage(format!("option {text} comes before its command"))
                    .hint(format!("mcpvisor {} {text}", owner.name()));
            }
            let known = GLOBALS.iter().map(|option| option.long);
            return Failure::usage(format!("unknown option {text}")).hint(suggest(typed, known, &name));
        };
        let known = command.options.iter().chain(GLOBALS).map(|option| option.long);
        Failure::usage(format!("{name}: unknown option {text}")).hint(suggest(typed, known, &name))
    }

    fn finish(mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Parsed, Failure> {
        let Some(command) = self.command else {
            if self.path.is_empty() {
                return Ok(Parsed::Help(Vec::new()));
            }
            let words: Vec<&str> = below(&self.path).map(|command| command.path[1]).collect();
            let group = self.path.join(" ");
            return Err(Failure::usage(format!("`{group}` needs one of: {}", words.join(", ")))
                .hint(format!("see: mcpvisor help {group}")));
        };
        check_words(command, &self.given.words)?;
        for option in GLOBALS.iter().filter(|option| !self.seen.contains(&option.long)) {
            let Some(variable) = option.env else { continue };
            let Some(value) = env(variable).filter(|value| !value.is_empty()) else { continue };
            (option.set)(&mut self.given, value)
                .map_err(|why| Failure::usage(format!("{variable} in the environment: {why}")))?;
        }
        Ok(match command.run {
            Run::Given(run) => Parsed::Run(run, Box::new(self.given)),
            Run::Raw(run) => Parsed::Raw(run, Vec::new()),
        })
    }
}

fn check_words(command: &Command, words: &[OsString]) -> Result<(), Failure> {
    let name = command.name();
    let hint = format!("see: mcpvisor help {name}");
    let (least, most, what) = match command.words {
        Words::None => (0, 0, ""),
        Words::Optional(what) => (0, 1, what),
        Words::One(what) => (1, 1, what),
        Words::Any(what) => (0, usize::MAX, what),
        Words::Some(what) | Words::Then(what, _) => (1, usize::MAX, what),
    };
    if words.len() < least {
        return Err(Failure::usage(format!("{name} needs {what}")).hint(hint));
    }
    match words.get(most) {
        Some(extra) => {
            Err(Failure::usage(format!("{name}: `{}` is one word too many", extra.display())).hint(hint))
        }
        None => Ok(()),
    }
}

/// The failure for words that name no command; the last of them is the wrong one.
pub fn unknown_command(path: &[String]) -> Failure {
    let (last, group) = path.split_last().expect("a path that names nothing has a word");
    let failure = Failure::usage(format!("unknown command `{}`", path.join(" ")));
    let meant = nearest(last, below(group).map(|command| command.path[group.len()]));
    let meant = meant.map(|word| [group.join(" "), word.to_owned()].join(" ").trim().to_owned());
    // `mcpvisor restart git` is a common guess for `mcpvisor upstream restart git`.
    let inner =
        || COMMANDS.iter().find(|command| group.is_empty() && command.path.get(1) == Some(&last.as_str()));
    match meant.or_else(|| inner().map(Command::name)) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`? see: mcpvisor help")),
        None => failure.hint("see: mcpvisor help"),
    }
}

fn suggest<'a>(typed: &Typed, known: impl IntoIterator<Item = &'a str>, command: &str) -> String {
    let near = match typed {
        Typed::Long(name) => nearest(name, known),
        Typed::Short(_) => None,
    };
    let see = format!("see: mcpvisor help {command}");
    match near {
        Some(near) => format!("did you mean --{near}? {}", see.trim_end()),
        None => see.trim_end().to_owned(),
    }
}

fn misread(error: lexopt::Error) -> Failure {
    let lexopt::Error::UnexpectedValue { option, value } = error else {
        return Failure::usage(error.to_string());
    };
    Failure::usage(format!("{option} takes no value, not `{}`", value.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parsed(line: &str, env: &[(&str, &str)]) -> Result<Parsed, Failure> {
        let env = env.to_vec();
        let lookup =
            move |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        parse(line.split_whitespace().map(OsString::from), &lookup)
    }

    fn given(line: &str, env: &[(&str, &str)]) -> Given {
        match parsed(line, env) {
            Ok(Parsed::Run(_, given)) => *given,
            Ok(_) => panic!("{line}: not a command to run"),
            Err(failure) => panic!("{line}: {failure}"),
        }
    }

    fn check_error(line: &str, expected: &str) {
        match parsed(line, &[("MCPVISOR_LOG_LEVEL", "")]) {
            Err(failure) => {
                assert_eq!(failure.to_string(), expected, "{line}");
                assert_eq!(failure.exit, super::super::exit::Exit::Usage);
            }
            Ok(_) => panic!("{line}: understood"),
        }
    }

    #[test]
    fn globals_go_before_and_after() {
        let expected = given("status --state-dir /s --config=/c", &[]);
        assert_eq!(expected.options.state_dir, Some("/s".into()));
        assert_eq!(expected.options.config, Some("/c".into()));
        for line in ["--state-dir /s -c /c status", "--config /c status --state_dir=/s"] {
            assert_eq!(given(line, &[]), expected, "{line}");
        }
        assert_eq!(given("upstream --state-dir /s list", &[]).options.state_dir, Some("/s".into()));
    }

    #[test]
    fn options_win_over_variables() {
        let env = [("MCPVISOR_LISTEN", "127.0.0.1:1"), ("MCPVISOR_STATE_DIR", "")];
        assert_eq!(given("serve", &env).options.listen.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(given("serve -l 127.0.0.1:2", &env).options.listen.as_deref(), Some("127.0.0.1:2"));
        assert_eq!(given("serve", &env).options.state_dir, None);
        let bad = [("MCPVISOR_LOG_LEVEL", "loud")];
        assert_eq!(
            parsed("serve", &bad).err().unwrap().to_string(),
            "MCPVISOR_LOG_LEVEL in the environment: `loud` is no level (off, error, warn, info, debug or trace)"
        );
        assert_eq!(given("serve --log-level warn", &bad).options.log_level, Some(log::LevelFilter::Warn));
    }

    #[test]
    fn values() {
        let call = given("call tool --tool-name=a__b --json_args={} --timeout 5", &[]);
        assert_eq!((call.tool_name.as_deref(), call.json_args.as_deref()), (Some("a__b"), Some("{}")));
        assert_eq!(call.timeout, Some(Duration::from_secs(5)));
        assert_eq!(given("call tool -t a -j {}", &[]).json_args.as_deref(), Some("{}"));
        assert_eq!(given("upstream restart a b --wait", &[]).wait, Some(Duration::from_secs(30)));
        let restart = given("upstream restart --wait=2m a -- --b", &[]);
        assert_eq!(restart.wait, Some(Duration::from_secs(120)));
        assert_eq!(restart.words, ["a", "--b"]);
        for line in ["restart a --wait 2m b", "restart --wait 120 a b", "restart a b --wait 120s"] {
            let restart = given(&format!("upstream {line}"), &[]);
            assert_eq!((restart.wait, restart.words.len()), (Some(Duration::from_secs(120)), 2), "{line}");
        }
        // A name that begins with a digit, and one that is a span: that one needs another place, or the `=`.
        assert_eq!(given("upstream restart --wait 7zip", &[]).words, ["7zip"]);
        assert_eq!(given("upstream restart 5s --wait", &[]).words, ["5s"]);
        assert_eq!(given("upstream restart --wait=30s 5s", &[]).words, ["5s"]);
        let back = given("reconnect --engine --reason x --wait 1m", &[]);
        assert_eq!((back.on_engine.as_deref(), back.reason.as_deref()), (Some(""), Some("x")));
        let back = given("reconnect --engine tcp://10.0.0.7:2375", &[]);
        assert_eq!((back.on_engine.as_deref(), back.words.len()), (Some("tcp://10.0.0.7:2375"), 0));
        assert_eq!(given("reconnect --engine=unix:///s", &[]).on_engine.as_deref(), Some("unix:///s"));
        assert_eq!(given("upstream logs a -n5", &[]).lines, Some(5));
    }

    #[test]
    fn what_is_behind_a_command_is_its_own() {
        let check = |line: &str, words: &[&str], env: usize| {
            let given = given(&format!("upstream add {line}"), &[]);
            assert_eq!(
                (given.words.as_slice(), given.env.len()),
                (&words.iter().map(OsString::from).collect::<Vec<_>>()[..], env),
                "{line}"
            );
        };
        check("git -e A=1 -- uvx -e x --env y=z", &["git", "uvx", "-e", "x", "--env", "y=z"], 1);
        check("-e A=1 git uvx -c x -- y", &["git", "uvx", "-c", "x", "--", "y"], 1);
        check("git --env A=1 -e B=2 -- -x", &["git", "-x"], 2);
        check("git", &["git"], 0);
        let url = given("upstream add git https://h/x -H X:y -o json --json {}", &[]);
        assert_eq!(
            (url.words.len(), url.headers.len(), url.json, url.entry.as_deref()),
            (2, 1, true, Some("{}"))
        );
        assert_eq!(given("upstream add git --json -", &[]).entry.as_deref(), Some("-"));
        check_error("upstream add", "upstream add needs NAME (see: mcpvisor help upstream add)");
        check_error("upstream add git -e s3cr3t", "-e: expected NAME=VALUE");
        check_error("upstream remove", "upstream remove needs NAME (see: mcpvisor help upstream remove)");
        check_error("upstream remove a -o yaml", "-o: `yaml` is no format (text or json)");
    }

    #[test]
    fn raw_arguments_go_on_unread() {
        match parsed("--state-dir /s demo-server --hang --json x -- y", &[]) {
            Ok(Parsed::Raw(_, rest)) => assert_eq!(rest, ["--hang", "--json", "x", "--", "y"]),
            _ => panic!("not raw"),
        }
    }

    #[test]
    fn help_is_found_everywhere() {
        let check = |line, expected: &[&str]| match parsed(line, &[("MCPVISOR_LOG_LEVEL", "loud")]) {
            Ok(Parsed::Help(path)) => assert_eq!(path, expected, "{line}"),
            _ => panic!("{line}: not help"),
        };
        check("", &[]);
        check("-h", &[]);
        check("--help status", &[]);
        check("status --help", &["status"]);
        check("upstream -h", &["upstream"]);
        check("upstream restart a --help", &["upstream", "restart"]);
        assert!(matches!(parsed("-V", &[]), Ok(Parsed::Version)));
    }

    #[test]
    fn what_is_not_understood() {
        check_error("statsu", "unknown command `statsu` (did you mean `status`? see: mcpvisor help)");
        check_error(
            "restart git",
            "unknown command `restart` (did you mean `upstream restart`? see: mcpvisor help)",
        );
        check_error("xyzzy", "unknown command `xyzzy` (see: mcpvisor help)");
        check_error(
            "upstream lst",
            "unknown command `upstream lst` (did you mean `upstream list`? see: mcpvisor help)",
        );
        check_error(
            "upstream",
            "`upstream` needs one of: list, add, remove, restart, enable, disable, logs (see: mcpvisor help upstream)",
        );
        check_error(
            "status --jsno",
            "status: unknown option --jsno (did you mean --json? see: mcpvisor help status)",
        );
        check_error("status -x", "status: unknown option -x (see: mcpvisor help status)");
        check_error("--confg x serve", "unknown option --confg (did you mean --config? see: mcpvisor help)");
        check_error("--json status", "option --json comes before its command (mcpvisor status --json)");
        check_error("status x", "status: `x` is one word too many (see: mcpvisor help status)");
        check_error("upstream logs", "upstream logs needs NAME (see: mcpvisor help upstream logs)");
        check_error("upstream logs a --lines", "--lines needs a value (--lines N)");
        check_error("upstream logs a --lines=many", "--lines: `many` is no number from 1 on");
        check_error("status --json=yes", "--json takes no value, not `yes`");
        check_error(
            "serve --log-level=loud",
            "--log-level: `loud` is no level (off, error, warn, info, debug or trace)",
        );
    }
}
