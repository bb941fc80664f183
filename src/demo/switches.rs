//! The switches of the demo server: parsing, and the help text that documents them. They compose.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
pub enum Asked {
    Serve(Box<Switches>),
    Help,
    /// Inner use, first half of a double fork: leave the session, start a sleeper, exit.
    Launch(Helper),
    /// Inner use: be a process that does nothing for this long and ignores TERM.
    Sleep(Duration),
}

/// When a misbehaviour begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before anything is read.
    Start,
    /// Right after the answer to `initialize`.
    Init,
    /// When the first `tools/call` arrives, before its answer.
    Call,
}

/// When `--die-after` strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    After(Duration),
    /// Right after the answer to the n-th call.
    Calls(u64),
}

/// The eras of the protocol that it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    #[default]
    Legacy,
    Modern,
    /// The one of the first request, and then only that.
    Either,
}

/// How it answers `server/discover` instead of well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discover {
    Silent,
    Exit,
    /// With the versions of the other era.
    Earlier,
    /// With a version that nobody speaks yet.
    Later,
    /// By refusing our version in favour of the same, once.
    Again,
    /// By refusing our version in favour of one that nobody speaks yet.
    Refuse,
    /// With something else.
    Nonsense,
}

/// How a process that the server leaves behind is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Helper {
    pub clean_env: bool,
    pub close_fds: bool,
    pub pid_file: Option<PathBuf>,
}

/// All of it; the default is a server that behaves.
#[derive(Debug, Default)]
pub struct Switches {
    pub hang_init: bool,
    pub start_delay: Option<Duration>,
    pub die_after: Option<Death>,
    pub exit_code: Option<u8>,
    pub die_in_call: bool,
    /// 0 = without end.
    pub flood_stdout: Option<u64>,
    /// 0 = without end.
    pub flood_stderr: Option<u64>,
    pub close_stdout: bool,
    pub answer_twice: bool,
    pub unknown_id: bool,
    /// `Some(None)`: by the tool only.
    pub deaf: Option<Option<u64>>,
    pub ignore_eof: bool,
    pub ignore_term: bool,
    pub double_fork: bool,
    pub child: bool,
    pub helper: Helper,
    pub setsid: bool,
    pub no_read: bool,
    pub slow: Option<Duration>,
    pub big: Option<u64>,
    pub garbage: u64,
    pub tools: usize,
    pub page_size: Option<usize>,
    pub change_tools: bool,
    pub reorder: bool,
    pub stats: bool,
    pub stderr_lines: u64,
    pub exit_on_init: bool,
    pub error_on_init: bool,
    pub era: Speaks,
    pub discover: Option<Discover>,
    /// Overrides the moment of those misbehaviours that have one.
    pub when: Option<When>,
}

/// Name, value, meaning: the help text, in the order in which it is printed.
const TABLE: &[(&str, &str, &str)] = &[
    ("hang-init", "", "never answers initialize"),
    ("start-delay", "MS", "waits before it reads anything"),
    ("exit-on-init", "", "exits when initialize arrives (code 1, or --exit-code)"),
    ("error-on-init", "", "answers initialize with an error"),
    ("era", "legacy|modern|either", "speaks MCP to 2025-11-25, 2026-07-28, or what the first request is of"),
    (
        "discover",
        "HOW",
        "answers server/discover so: silent, exit, earlier, later, again, refuse, nonsense (see the tests)",
    ),
    ("die-after", "MS|N-calls", "exits after so long, or after N answered calls (code 1, or --exit-code)"),
    ("die-in-call", "", "adds the tool die {code | signal}, which is never answered"),
    ("exit-code", "N", "the code with which it exits, whatever the cause"),
    (
        "flood-stdout",
        "BYTES",
        "writes so much to stdout without a newline, before the first call's answer; 0 = no end",
    ),
    ("flood-stderr", "BYTES", "writes so much to stderr without a newline, from the start; 0 = no end"),
    ("close-stdout", "", "closes its stdout at the first call and lives on"),
    ("no-read", "", "reads its stdin no more from the first call on"),
    ("garbage", "N", "writes N lines that are not JSON to stdout, at the start"),
    ("when", "start|init|call", "moves the five above to another moment (init = after its answer)"),
    ("stderr-lines", "N", "writes N lines to stderr at the start"),
    ("answer-twice", "", "writes every answer twice"),
    ("unknown-id", "", "writes an answer that nobody asked for before each real one"),
    ("deaf", "[N]", "answers nothing after N answers; adds the tool go_deaf"),
    ("slow", "MS", "holds every answer back for so long"),
    ("reorder", "", "holds answers to calls back and releases them in random order"),
    ("big", "BYTES", "adds the tool big {bytes}; BYTES is what it sends when not told"),
    ("tools", "N", "adds N tools, extra_1 to extra_N, which say their name"),
    ("page-size", "N", "lists N tools to a page"),
    ("change-tools", "", "adds the tool change_tools, which adds one more and sends list_changed"),
    ("stats", "", "adds the tool stats, which tells the calls and cancellations seen"),
    ("ignore-eof", "", "lives on when its stdin ends"),
    ("ignore-term", "", "lives on at SIGTERM, SIGINT and SIGHUP"),
    ("setsid", "", "serves from a process in a session of its own"),
    ("child", "", "starts a child in its own process group that ignores SIGTERM"),
    ("double-fork", "", "starts a grandchild in a session of its own that ignores SIGTERM"),
    ("grandchild-clean-env", "", "starts those two with an empty environment"),
    ("grandchild-close-fds", "", "starts those two without our stdin, stdout and stderr"),
    ("pid-file", "PATH", "appends a line `ROLE PID START` per process: server, child, grandchild"),
];

/// What `--help` prints.
pub fn help() -> String {
    let mut text = String::from(
        "A small MCP server on stdio, to try mcpvisor with and to test it.\n\n\
         Usage: mcpvisor demo-server [switches]\n\n\
         Tools: echo {text}, add {a, b}, time, sleep {ms, progress}, env {name}, pid.\n\n\
         Switches (all compose):\n",
    );
    for (name, value, meaning) in TABLE {
        let left = format!("--{name} {value}");
        text.push_str(&format!("  {left:<28} {meaning}\n"));
    }
    text
}

/// Reads the command line; the error says what is wrong with which switch.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut switches = Switches::default();
    let (mut launch, mut sleep) = (false, None);
    loop {
        let name = match parser.next().map_err(|error| error.to_string())? {
            None => break,
            Some(lexopt::Arg::Long(name)) => name.to_owned(),
            Some(lexopt::Arg::Short('h')) => return Ok(Asked::Help),
            Some(other) => return Err(format!("unexpected argument {other:?}")),
        };
        match name.as_str() {
            "help" => return Ok(Asked::Help),
            "launch" => launch = true,
            "sleep" => sleep = Some(millis(&mut parser, &name)?),
            _ => take(&mut switches, &name, &mut parser)?,
        }
    }
    Ok(match sleep {
        Some(span) => Asked::Sleep(span),
        None if launch => Asked::Launch(switches.helper),
        None => Asked::Serve(Box::new(switches)),
    })
}

fn take(to: &mut Switches, name: &str, from: &mut lexopt::Parser) -> Result<(), String> {
    match name {
        "hang-init" => to.hang_init = true,
        "start-delay" => to.start_delay = Some(millis(from, name)?),
        "exit-on-init" => to.exit_on_init = true,
        "error-on-init" => to.error_on_init = true,
        "era" => to.era = era(&value(from, name)?)?,
        "discover" => to.discover = Some(discover(&value(from, name)?)?),
        "die-after" => to.die_after = Some(death(&value(from, name)?)?),
        "die-in-call" => to.die_in_call = true,
        "exit-code" => to.exit_code = Some(number(from, name)?),
        "flood-stdout" => to.flood_stdout = Some(number(from, name)?),
        "flood-stderr" => to.flood_stderr = Some(number(from, name)?),
        "close-stdout" => to.close_stdout = true,
        "no-read" => to.no_read = true,
        "garbage" => to.garbage = number(from, name)?,
        "when" => to.when = Some(when(&value(from, name)?)?),
        "stderr-lines" => to.stderr_lines = number(from, name)?,
        "answer-twice" => to.answer_twice = true,
        "unknown-id" => to.unknown_id = true,
        "deaf" => to.deaf = Some(optional_number(from)),
        "slow" => to.slow = Some(millis(from, name)?),
        "reorder" => to.reorder = true,
        "big" => to.big = Some(number(from, name)?),
        "tools" => to.tools = number(from, name)?,
        "page-size" => to.page_size = Some(number::<usize>(from, name)?.max(1)),
        "change-tools" => to.change_tools = true,
        "stats" => to.stats = true,
        "ignore-eof" => to.ignore_eof = true,
        "ignore-term" => to.ignore_term = true,
        "setsid" => to.setsid = true,
        "child" => to.child = true,
        "double-fork" => to.double_fork = true,
        "grandchild-clean-env" => to.helper.clean_env = true,
        "grandchild-close-fds" => to.helper.close_fds = true,
        "pid-file" => to.helper.pid_file = Some(value(from, name)?.into()),
        _ => {
            let known = TABLE.iter().map(|(name, ..)| *name);
            let near = crate::base::text::nearest(name, known);
            let near = near.map(|near| format!(", did you mean --{near}?")).unwrap_or_default();
            return Err(format!("unknown switch --{name}{near}"));
        }
    }
    Ok(())
}

fn value(from: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let value = from.value().map_err(|_| format!("--{name} needs a value"))?;
    value.into_string().map_err(|value| format!("--{name}: {value:?} is not UTF-8"))
}

fn number<T: std::str::FromStr>(from: &mut lexopt::Parser, name: &str) -> Result<T, String> {
    let text = value(from, name)?;
    text.parse().map_err(|_| format!("--{name}: `{text}` is not a number that fits"))
}

fn millis(from: &mut lexopt::Parser, name: &str) -> Result<Duration, String> {
    number(from, name).map(Duration::from_millis)
}

/// The next argument, if it is a number; else it is left alone.
fn optional_number(from: &mut lexopt::Parser) -> Option<u64> {
    if let Some(attached) = from.optional_value() {
        return attached.to_str()?.parse().ok();
    }
    let mut rest = from.try_raw_args()?;
    let number = rest.peek()?.to_str()?.parse().ok()?;
    rest.next();
    Some(number)
}

fn death(text: &str) -> Result<Death, String> {
    let wrong = || format!("--die-after: `{text}` is neither milliseconds nor `N-calls`");
    match text.strip_suffix("-calls") {
        Some(count) => count.parse().map(Death::Calls).map_err(|_| wrong()),
        None => text.parse().map(|ms| Death::After(Duration::from_millis(ms))).map_err(|_| wrong()),
    }
}

fn era(text: &str) -> Result<Speaks, String> {
    match text {
        "legacy" => Ok(Speaks::Legacy),
        "modern" => Ok(Speaks::Modern),
        "either" => Ok(Speaks::Either),
        _ => Err(format!("--era: `{text}` is none of legacy, modern, either")),
    }
}

fn discover(text: &str) -> Result<Discover, String> {
    match text {
        "silent" => Ok(Discover::Silent),
        "exit" => Ok(Discover::Exit),
        "earlier" => Ok(Discover::Earlier),
        "later" => Ok(Discover::Later),
        "again" => Ok(Discover::Again),
        "refuse" => Ok(Discover::Refuse),
        "nonsense" => Ok(Discover::Nonsense),
        _ => Err(format!(
            "--discover: `{text}` is none of silent, exit, earlier, later, again, refuse, nonsense"
        )),
    }
}

fn when(text: &str) -> Result<When, String> {
    match text {
        "start" => Ok(When::Start),
        "init" => Ok(When::Init),
        "call" => Ok(When::Call),
        _ => Err(format!("--when: `{text}` is none of start, init, call")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(line: &str) -> Result<Switches, String> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Asked::Serve(switches) => Ok(*switches),
            Asked::Help | Asked::Launch(_) | Asked::Sleep(_) => Err("not to serve".to_owned()),
        }
    }

    #[test]
    fn every_switch_of_the_table_is_taken() {
        for (name, value, _) in TABLE {
            let value = match *value {
                "" => "",
                "start|init|call" => "init",
                "MS|N-calls" => "3-calls",
                "PATH" => "/tmp/pids",
                "legacy|modern|either" => "modern",
                "HOW" => "exit",
                _ => "7",
            };
            assert!(switches(&format!("--{name} {value}")).is_ok(), "--{name} {value}");
            assert!(help().contains(&format!("--{name}")));
        }
    }

    #[test]
    fn values() {
        assert_eq!(switches("--deaf --slow 3").unwrap().deaf, Some(None));
        assert_eq!(switches("--deaf 4 --slow 3").unwrap().deaf, Some(Some(4)));
        assert_eq!(switches("--die-after 3-calls").unwrap().die_after, Some(Death::Calls(3)));
        let after = Some(Death::After(Duration::from_millis(250)));
        assert_eq!(switches("--die-after 250").unwrap().die_after, after);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |line, message: &str| assert_eq!(switches(line).err().as_deref(), Some(message));
        check("--slo 3", "unknown switch --slo, did you mean --slow?");
        check("--slow", "--slow needs a value");
        check("--slow soon", "--slow: `soon` is not a number that fits");
        check("--when later", "--when: `later` is none of start, init, call");
        check("stray", "unexpected argument Value(\"stray\")");
    }
}
