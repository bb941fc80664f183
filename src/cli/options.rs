//! What a command line can say: the options that every command takes, and those of single commands.
//!
//! Only values and how one text becomes one value; which options exist is told by the table in `command`.

use super::exit::Failure;
use crate::daemon::setup;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The options of every command. `None`: neither the option nor its variable was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub config: Option<PathBuf>,
    /// As written: `HOST:PORT`.
    pub listen: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub log_level: Option<log::LevelFilter>,
}

/// One understood command line: the options of every command, those of single ones, and the plain words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub options: Options,
    /// Words after the command, checked for their number only.
    pub words: Vec<OsString>,
    pub json: bool,
    pub force: bool,
    pub all: bool,
    pub dry_run: bool,
    pub verbose: bool,
    pub lines: Option<u32>,
    pub wait: Option<Duration>,
    pub timeout: Option<Duration>,
    pub server: Option<String>,
    pub tool_name: Option<String>,
    pub json_args: Option<String>,
    pub ephemeral: bool,
    pub follow: bool,
    /// A number, or the id of an event.
    pub since: Option<String>,
    /// As written: names and families, with commas between them.
    pub types: Vec<String>,
    /// As written; `--engine` may be given more than once.
    pub engines: Vec<String>,
    /// Of `reconnect`: only what lives on an engine; the URL may be empty.
    pub on_engine: Option<String>,
    /// All servers of these groups, beside those that are named.
    pub groups: Vec<String>,
    /// Of `status`: what the processes use, too.
    pub usage: bool,
    pub reason: Option<String>,
    pub all_hosts: bool,
    pub include_mcpmon: bool,
    pub include_mcpproxy: bool,
    /// Of `upstream add`: names and values, as given.
    pub env: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub working_dir: Option<OsString>,
    pub url: Option<String>,
    pub transport: Option<String>,
    pub disabled: bool,
    pub lazy: bool,
    /// JSON, or `-` for stdin.
    pub entry: Option<String>,
    pub replace: bool,
    pub no_wait: bool,
}

impl Given {
    /// The plain words as text.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        self.words.iter().map(|word| text(word.clone()).map_err(Failure::usage)).collect()
    }
}

/// An option's value as text; names, levels and JSON are UTF-8.
pub fn text(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|value| format!("`{}` is not UTF-8", value.display()))
}

/// A span of time: a number of seconds, or `500ms`, `3s`, `2m`.
pub fn span(value: OsString) -> Result<Duration, String> {
    let text = text(value)?;
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(&text)
        .map_err(|_| format!("`{text}` is no span of time (try 500ms, 30s or 2m)"))
}

/// Whether a word that follows an option is meant as its span of time, and not as a name: it begins with a digit.
pub fn is_span(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit()) && span(word.into()).is_ok()
}

/// A count of one or more.
pub fn count(value: OsString) -> Result<u32, String> {
    let text = text(value)?;
    match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("`{text}` is no number from 1 on")),
    }
}

/// `NAME=VALUE`. What is wrong is not shown: it may be a secret.
pub fn variable(value: OsString) -> Result<(String, String), String> {
    let text = secret(value)?;
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// `NAME: VALUE`.
pub fn header(value: OsString) -> Result<(String, String), String> {
    let text = secret(value)?;
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected 'NAME: VALUE'".to_owned()),
    }
}

fn secret(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|_| "it is not UTF-8".to_owned())
}

/// `text` or `json`.
pub fn format_is_json(value: OsString) -> Result<bool, String> {
    match text(value)?.as_str() {
        "json" => Ok(true),
        "text" => Ok(false),
        other => Err(format!("`{other}` is no format (text or json)")),
    }
}

pub fn level(value: OsString) -> Result<log::LevelFilter, String> {
    let text = text(value)?;
    text.parse().map_err(|_| format!("`{text}` is no level (off, error, warn, info, debug or trace)"))
}

/// Where the daemon of these options keeps its state, and so its control socket: what `serve` would take, `data_dir`
/// of the config included. A config that cannot be read has none.
pub fn state_dir(options: &Options) -> Result<PathBuf, Failure> {
    let options = super::serve::of(options);
    if let Ok(setup) = setup::read(&options) {
        return Ok(setup.state_dir);
    }
    setup::state_dir(&options, None).map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let check = |text: &str, expected| assert_eq!(span(text.into()).ok(), expected, "{text}");
        check("30", Some(Duration::from_secs(30)));
        check("500ms", Some(Duration::from_millis(500)));
        check("2m", Some(Duration::from_secs(120)));
        check("soon", None);
        check("-1", None);
        check("", None);
    }

    #[test]
    fn pairs() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(variable("A=b=c".into()), pair("A", "b=c"));
        assert_eq!(variable("A=".into()), pair("A", ""));
        assert_eq!(variable("s3cr3t".into()), Err("expected NAME=VALUE".to_owned()));
        assert_eq!(header("X-Key:  a: b ".into()), pair("X-Key", "a: b"));
        assert_eq!(header(": s3cr3t".into()), Err("expected 'NAME: VALUE'".to_owned()));
    }

    #[test]
    fn counts_and_levels() {
        assert_eq!(count("20".into()), Ok(20));
        assert_eq!(count("0".into()), Err("`0` is no number from 1 on".to_owned()));
        assert_eq!(level("debug".into()), Ok(log::LevelFilter::Debug));
        assert!(level("loud".into()).is_err());
    }
}
