//! `mcpvisor upstream add` and `remove`: one server more or less in the config file, and then in the daemon.
//!
//! The file is what counts: it is changed first, and stays changed whatever the daemon makes of it.

use super::config_file::{self, Changed, Edit};
use super::control::{Control, MARGIN, PATIENCE, read_json, refusal};
use super::exit::{Exit, Failure, Outcome};
use super::options::{Given, text};
use super::output::{Out, complain, tame};
use super::rows::{ServerRow, is_up, why};
use super::serve::of;
use super::status::Status;
use crate::base::limits::{ADD_WAIT, CONFIG_APPLY_PATIENCE, ENTRY_BYTES_MAX};
use crate::base::text::{plural, span};
use crate::config::diff::{Decision, diff};
use crate::config::edit::{self, Existing, Refusal};
use crate::config::is_name;
use crate::config::json::{Member, Node, Value};
use crate::daemon::setup;
use crate::http::reply::encode;
use crate::sys::clock;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What came of it, as `--output json` has it.
#[derive(Serialize)]
struct Report<'a> {
    /// `added`, `replaced` or `removed`.
    action: &'a str,
    servers: &'a [String],
    file: String,
    /// What the file was before; null if there was none.
    backup: Option<String>,
    /// See [`Taken::name`].
    daemon: &'a str,
    /// What the daemon had against it, or why it could not be asked.
    error: Option<String>,
    /// The server as the daemon has it, if it was waited for.
    server: Option<Box<RawValue>>,
    /// What a person is told of the daemon.
    #[serde(skip)]
    said: Option<String>,
}

impl Report<'_> {
    fn print(&self, given: &Given, out: &mut Out) {
        if given.json {
            return out.line(&serde_json::to_string(self).expect("plain data serialises"));
        }
        let how = match self.action {
            "removed" => "removed from",
            "replaced" => "replaced in",
            _ => "added to",
        };
        self.servers.iter().for_each(|name| out.line(&tame(&format!("{name}: {how} {}", self.file))));
        self.backup.iter().for_each(|backup| out.line(&format!("as it was before: {backup}")));
        self.said.iter().for_each(|said| out.line(&tame(said)));
    }
}

/// What the daemon made of the new file.
enum Taken {
    /// The file is in force.
    Applied,
    /// None runs.
    Absent,
    /// The one that runs has this file.
    OtherFile(String),
    /// It was not to be waited for.
    Unasked,
    Refused(Failure),
}

impl Taken {
    fn name(&self) -> &'static str {
        match self {
            Taken::Applied => "applied",
            Taken::Absent => "absent",
            Taken::OtherFile(_) => "other_file",
            Taken::Unasked => "unasked",
            Taken::Refused(_) => "refused",
        }
    }

    /// What a person is told, if there is something to tell.
    fn text(&self) -> Option<String> {
        match self {
            Taken::Applied | Taken::Refused(_) => None,
            Taken::Absent => Some("no daemon runs: mcpvisor serve starts one".to_owned()),
            Taken::OtherFile(path) => Some(format!("the daemon that runs has another config: {path}")),
            Taken::Unasked => Some("the daemon takes it over within a second".to_owned()),
        }
    }
}

pub fn add(given: &Given, out: &mut Out) -> Outcome {
    let (name, entry) = wanted(given, &std::env::current_dir().unwrap_or_default(), &mut std::io::stdin())?;
    let place = Place::of(given)?;
    let existing = if given.replace { Existing::Replace } else { Existing::Refuse };
    let edit =
        |text: &str| edit::add(text, &name, &entry, existing).map_err(|why| place.refusal(&name, &why));
    let changed = place.change(Some(&name), &edit)?;
    for finding in changed.findings.iter().filter(|finding| finding.server.as_ref() == Some(&name)) {
        complain(finding);
    }
    let replaced = changed.before.servers.iter().any(|server| server.name.as_str() == name);
    let taken = place.taken(given);
    let servers = [name];
    let mut report = place.report(if replaced { "replaced" } else { "added" }, &servers, &changed, &taken);
    let mut outcome = Ok(Exit::Ok);
    if let Taken::Applied = taken {
        let wait = given.wait.unwrap_or(ADD_WAIT);
        match place.settled(&servers[0], &changed, wait) {
            Ok(body) => {
                let row: ServerRow = read_json(&body)?;
                let is_well = is_up(&row.state) || row.state == "disabled";
                outcome = Ok(if is_well { Exit::Ok } else { Exit::Failed });
                report.said = Some(format!("{}: {}", servers[0], state(&row, wait)));
                report.server = serde_json::from_slice(&body).ok();
            }
            Err(failure) => {
                report.error = Some(failure.to_string());
                outcome = Err(failure);
            }
        }
    }
    report.print(given, out);
    ended(taken, outcome)
}

pub fn remove(given: &Given, out: &mut Out) -> Outcome {
    let mut names = given.names()?;
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let place = Place::of(given)?;
    let edit = |text: &str| {
        names.iter().try_fold(text.to_owned(), |left, name| {
            // What may be meant is looked for in the whole file.
            let why = |why| edit::remove(text, name).err().unwrap_or(why);
            edit::remove(&left, name).map_err(|refusal| place.refusal(name, &why(refusal)))
        })
    };
    let changed = place.change(None, &edit)?;
    let taken = place.taken(given);
    place.report("removed", &names, &changed, &taken).print(given, out);
    ended(taken, Ok(Exit::Ok))
}

/// The file is changed either way; what the daemon has against it is an error all the same.
fn ended(taken: Taken, outcome: Outcome) -> Outcome {
    let failure = match taken {
        Taken::Refused(failure) => Err(failure),
        Taken::Applied | Taken::Absent | Taken::OtherFile(_) | Taken::Unasked => outcome,
    };
    failure.map_err(|failure| Failure {
        message: format!("the file is changed, but: {}", failure.message),
        ..failure
    })
}

/// `ready (life 3, 13 tools)`, or why not.
fn state(row: &ServerRow, waited: Duration) -> String {
    let mut facts: Vec<String> = row.life.iter().map(|life| format!("life {life}")).collect();
    if is_up(&row.state) {
        facts.push(plural(row.tools as usize, "tool"));
    }
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    if matches!(row.state.as_str(), "queued" | "connecting" | "stopping") {
        return format!("still {} after {}{facts}", row.state, span(waited));
    }
    let why = why(row, clock::wall()).map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{facts}{why}", row.state)
}

/// Which file is meant, and who runs it.
struct Place {
    file: PathBuf,
    control: Control,
    daemon: Daemon,
}

enum Daemon {
    /// As it was before anything was changed.
    Runs(Box<Status>),
    Absent,
    /// Something runs that does not answer us.
    Unknown(Failure),
}

impl Place {
    /// The file that is named, or else the one that the running daemon has, or else the one that `serve` would find, or
    /// else the one that it would find if it were there.
    fn of(given: &Given) -> Result<Place, Failure> {
        let control = Control::of(&given.options)?;
        let daemon = match control.get("/api/v1/status").and_then(|body| read_json::<Status>(&body)) {
            Ok(status) => Daemon::Runs(Box::new(status)),
            Err(failure) if failure.exit == Exit::NoDaemon => Daemon::Absent,
            Err(failure) => Daemon::Unknown(failure),
        };
        let its_own = match &daemon {
            Daemon::Runs(status) if given.options.config.is_none() => status.config.path.as_ref(),
            Daemon::Runs(_) | Daemon::Absent | Daemon::Unknown(_) => None,
        };
        let file = its_own.map_or_else(|| setup::editable(&of(&given.options)), PathBuf::from);
        Ok(Place { file, control, daemon })
    }

    fn change(&self, server: Option<&str>, edit: &Edit) -> Result<Changed, Failure> {
        config_file::change(&self.file, server, edit)
    }

    /// Why the file stays as it is.
    fn refusal(&self, name: &str, why: &Refusal) -> Failure {
        let message = format!("{name}: {}: {why}", self.file.display());
        match why {
            Refusal::Unusable => {
                Failure::new(Exit::Config, message).hint("mcpvisor config check shows where")
            }
            Refusal::Twice { .. } => {
                Failure::new(Exit::Config, message).hint("which of them is meant? remove one by hand")
            }
            Refusal::Exists { .. } => Failure::new(Exit::Failed, message)
                .hint("--replace gives it the new entry; it keeps its place"),
            Refusal::Same { .. } => Failure::new(Exit::NothingDone, message),
            Refusal::Unknown { near } => Failure::new(Exit::NothingDone, message)
                .hint(near.as_ref().map(|near| format!("did you mean `{near}`?")).unwrap_or_default()),
            Refusal::Wrong => Failure::new(Exit::Failed, message).hint("the file was not touched"),
        }
    }

    /// Has the daemon take the file over, if it is the one that it runs.
    fn taken(&self, given: &Given) -> Taken {
        let status = match &self.daemon {
            Daemon::Runs(status) => status,
            Daemon::Absent => return Taken::Absent,
            Daemon::Unknown(failure) => return Taken::Refused(failure.clone()),
        };
        // Without a file of its own it looks for one.
        let other = status.config.path.as_ref().filter(|path| !is_same(Path::new(path), &self.file));
        if let Some(path) = other {
            return Taken::OtherFile(path.clone());
        }
        if given.no_wait {
            return Taken::Unasked;
        }
        match self.control.post("/api/v1/config/apply", None, CONFIG_APPLY_PATIENCE + PATIENCE) {
            Ok(_) => Taken::Applied,
            Err(failure) => Taken::Refused(failure),
        }
    }

    /// The server in the daemon, once it is known what becomes of the new entry.
    fn settled(&self, name: &str, changed: &Changed, wait: Duration) -> Result<Vec<u8>, Failure> {
        let mut query = format!("?wait={}ms", wait.as_millis());
        let diff = diff(&changed.before, &changed.after);
        let change = diff.servers.iter().find(|change| change.name.as_str() == name);
        let is_begun = change.is_some_and(|change| {
            matches!(change.decision, Decision::Add | Decision::Restart | Decision::Start)
        });
        let after = changed.after.servers.iter().find(|server| server.name.as_str() == name);
        if is_begun && after.is_some_and(|server| server.enabled) {
            query.push_str("&not=disabled");
            let before = match &self.daemon {
                Daemon::Runs(status) => status.servers.iter().find(|row| row.name == name),
                Daemon::Absent | Daemon::Unknown(_) => None,
            };
            let since = before.and_then(|row| row.since.as_ref());
            query.extend(since.map(|since| format!("&since={}", encode(since))));
        }
        let target = format!("/api/v1/servers/{}{query}", encode(name));
        match self.control.exchange("GET", &target, None, wait.saturating_add(MARGIN))? {
            (200, body) => Ok(body),
            (404, _) => {
                let message = format!("the daemon does not have `{name}` yet");
                let hint = "it starts once one before it is gone; or it looks for its config elsewhere: \
                            mcpvisor status shows where";
                Err(Failure::new(Exit::Failed, message).hint(hint))
            }
            (status, body) => Err(refusal(status, &body)),
        }
    }

    fn report<'a>(
        &self,
        action: &'a str,
        servers: &'a [String],
        changed: &Changed,
        taken: &Taken,
    ) -> Report<'a> {
        let error = match taken {
            Taken::Refused(failure) => Some(failure.to_string()),
            Taken::Applied | Taken::Absent | Taken::OtherFile(_) | Taken::Unasked => None,
        };
        Report {
            action,
            servers,
            file: self.file.display().to_string(),
            backup: changed.backup.as_ref().map(|backup| backup.display().to_string()),
            daemon: taken.name(),
            error,
            server: None,
            said: taken.text(),
        }
    }
}

/// Whether both names lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// What is to be added: a name and an entry, out of the command line.
fn wanted(given: &Given, cwd: &Path, stdin: &mut dyn Read) -> Result<(String, Node), Failure> {
    let mut words = given.names()?.into_iter();
    let name = words.next().unwrap_or_default();
    if !is_name(&name) {
        let message = "upstream add: a server cannot have this name";
        return Err(Failure::usage(message).hint("a name is at most 200 visible characters"));
    }
    let command: Vec<String> = words.collect();
    let entry = match &given.entry {
        Some(_) if !command.is_empty() || has_parts(given) => {
            return Err(Failure::usage("upstream add: --json is the whole entry; nothing goes beside it"));
        }
        Some(text) => read_entry(&name, text, stdin)?,
        None => built(given, command, cwd)?,
    };
    Ok((name, entry))
}

fn has_parts(given: &Given) -> bool {
    let texts = [&given.url, &given.transport];
    texts.iter().any(|text| text.is_some())
        || given.working_dir.is_some()
        || !(given.env.is_empty() && given.headers.is_empty())
        || given.disabled
        || given.lazy
}

/// `-` is stdin.
fn read_entry(name: &str, given: &str, stdin: &mut dyn Read) -> Result<Node, Failure> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        let failed = |why: String| Failure::new(Exit::Failed, format!("read the entry from stdin: {why}"));
        stdin
            .take(ENTRY_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > ENTRY_BYTES_MAX {
            return Err(failed(format!("it is longer than {} MiB", ENTRY_BYTES_MAX >> 20)));
        }
    }
    let mut entry = edit::read_entry(&text).map_err(|why| Failure::usage(format!("--json: {why}")))?;
    if let Value::Object(members) = &mut entry.value
        && let Some(at) = members.iter().position(|member| member.key == "name")
    {
        if members[at].value.value != Value::Text(name.to_owned()) {
            return Err(Failure::usage(format!("--json: its `name` is another one than `{name}`")));
        }
        members.remove(at);
    }
    Ok(entry)
}

/// The entry that options and words describe, in the order in which people write one.
fn built(given: &Given, mut command: Vec<String>, cwd: &Path) -> Result<Node, Failure> {
    let is_url = |word: &String| word.starts_with("http://") || word.starts_with("https://");
    let url = match (&given.url, command.as_slice()) {
        (Some(url), []) => Some(url.clone()),
        (Some(_), _) => return Err(Failure::usage("upstream add: either --url or a COMMAND")),
        (None, [word]) if is_url(word) => command.pop(),
        (None, [word, ..]) if is_url(word) => {
            return Err(Failure::usage("upstream add: a URL takes no ARGS"));
        }
        (None, []) => {
            return Err(Failure::usage("upstream add: what is to run? a COMMAND, a URL or --json")
                .hint("see: mcpvisor help upstream add"));
        }
        (None, _) => None,
    };
    let remote = url.is_some();
    let misplaced = match remote {
        true if !given.env.is_empty() => Some("--env is for a COMMAND; a URL takes --header"),
        true if given.working_dir.is_some() => Some("--working-dir is for a COMMAND"),
        false if !given.headers.is_empty() => Some("--header is for a URL; a COMMAND takes --env"),
        _ => None,
    };
    if let Some(why) = misplaced {
        return Err(Failure::usage(format!("upstream add: {why}")));
    }
    let string = |text: &str| Value::Text(text.to_owned());
    let mut members = Vec::new();
    let mut put = |key: &str, value: Value| members.push(Member::of(key, value));
    if let Some((program, args)) = command.split_first() {
        put("command", string(program));
        if !args.is_empty() {
            put("args", Value::Array(args.iter().map(|arg| Node::of(string(arg))).collect()));
        }
    }
    url.iter().for_each(|url| put("url", string(url)));
    given.transport.iter().for_each(|transport| put("protocol", string(transport)));
    for (key, pairs) in [("env", &given.env), ("headers", &given.headers)] {
        if !pairs.is_empty() {
            put(
                key,
                Value::Object(pairs.iter().map(|(name, value)| Member::of(name, string(value))).collect()),
            );
        }
    }
    if let Some(dir) = &given.working_dir {
        put("working_dir", string(&absolute(dir.clone(), cwd)?));
    }
    if given.disabled {
        put("enabled", Value::Bool(false));
    }
    if given.lazy {
        put("startup_mode", string("lazy"));
    }
    Ok(Node::of(Value::Object(members)))
}

/// What is meant where it is typed; `~` and variables are for the daemon to resolve.
fn absolute(dir: OsString, cwd: &Path) -> Result<String, Failure> {
    let dir = text(dir).map_err(|why| Failure::usage(format!("--working-dir: {why}")))?;
    if dir.starts_with(['~', '$']) {
        return Ok(dir);
    }
    text(cwd.join(dir).into_os_string()).map_err(|why| Failure::usage(format!("--working-dir: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::{Parsed, parse};

    /// What a command line asks for: the entry in one line, or the failure.
    fn asked(line: &[&str], stdin: &str) -> Result<String, String> {
        let words = ["upstream", "add"].into_iter().chain(line.iter().copied()).map(OsString::from);
        let given = match parse(words, &|_| None) {
            Ok(Parsed::Run(_, given)) => given,
            Ok(_) => panic!("{line:?}: not a command to run"),
            Err(failure) => panic!("{line:?}: {failure}"),
        };
        let wanted = wanted(&given, Path::new("/w"), &mut stdin.as_bytes());
        wanted.map_err(|failure| failure.to_string()).map(|(name, entry)| {
            let text = edit::add(r#"{"a": 1, "mcpServers": {}}"#, &name, &entry, Existing::Refuse).unwrap();
            text.trim_start_matches(r#"{"a": 1, "mcpServers": {"#).trim_end_matches("}}").to_owned()
        })
    }

    #[test]
    fn what_became_of_it() {
        #[track_caller]
        fn check(row: &str, expected: &str) {
            let row: ServerRow = serde_json::from_str(row).unwrap();
            assert_eq!(state(&row, Duration::from_secs(30)), expected);
        }
        check(r#"{"state": "ready", "life": 3, "tools": 13}"#, "ready (life 3, 13 tools)");
        check(r#"{"state": "sleeping", "tools": 1}"#, "sleeping (1 tool)");
        check(r#"{"state": "disabled"}"#, "disabled");
        check(r#"{"state": "connecting", "life": 4}"#, "still connecting after 30s (life 4)");
        check(
            r#"{"state": "parked", "reason": {"kind": "not_found", "message": "x does not exist"}}"#,
            "parked: x does not exist",
        );
    }

    #[test]
    fn entries_of_a_command_line() {
        let check = |line: &[&str], expected: &str| assert_eq!(asked(line, "").as_deref(), Ok(expected));
        check(&["git", "--", "uvx"], r#""git": {"command": "uvx"}"#);
        check(
            &["git", "-e", "A=1", "--env=B=x=y", "--working-dir", "d", "--lazy", "--", "uvx", "x", "--y"],
            r#""git": {"command": "uvx", "args": ["x", "--y"], "env": {"A": "1", "B": "x=y"}, "working_dir": "/w/d", "startup_mode": "lazy"}"#,
        );
        check(
            &["docs", "https://h/mcp", "-H", "X-A: b c", "-t", "http", "--disabled"],
            r#""docs": {"url": "https://h/mcp", "protocol": "http", "headers": {"X-A": "b c"}, "enabled": false}"#,
        );
        check(&["d", "--url", "https://h/"], r#""d": {"url": "https://h/"}"#);
        check(&["d", "--working-dir", "~/x", "--", "y"], r#""d": {"command": "y", "working_dir": "~/x"}"#);
        check(
            &["git", "--json", r#"{"name": "git", "command": "x" /* y */, "args": [1]}"#],
            r#""git": {"command": "x", "args": [1]}"#,
        );
        let piped = asked(&["git", "--json", "-"], "{\n  \"command\": \"x\",\n}\n");
        assert_eq!(piped.as_deref(), Ok(r#""git": {"command": "x"}"#));
    }

    #[test]
    fn command_lines_that_say_too_little_or_too_much() {
        let check = |line: &[&str], expected: &str| {
            assert_eq!(asked(line, "").unwrap_err(), expected, "{line:?}");
        };
        let what =
            "upstream add: what is to run? a COMMAND, a URL or --json (see: mcpvisor help upstream add)";
        check(&["git"], what);
        check(&["git", "--env", "A=1"], what);
        let name = "upstream add: a server cannot have this name (a name is at most 200 visible characters)";
        check(&["", "--", "x"], name);
        check(&["a\nb", "--", "x"], name);
        check(&["git", "https://h/", "x"], "upstream add: a URL takes no ARGS");
        check(&["git", "--url", "https://h/", "--", "x"], "upstream add: either --url or a COMMAND");
        check(
            &["git", "https://h/", "-e", "A=s"],
            "upstream add: --env is for a COMMAND; a URL takes --header",
        );
        check(
            &["git", "-H", "A: s", "--", "x"],
            "upstream add: --header is for a URL; a COMMAND takes --env",
        );
        let whole = "upstream add: --json is the whole entry; nothing goes beside it";
        check(&["git", "--json", "{}", "--", "x"], whole);
        check(&["git", "--json", "{}", "--lazy"], whole);
        check(&["git", "--json", "--"], "--json: line 1, column 1: this is not a value");
        check(&["git", "--json", r#"{"name": "other"}"#], "--json: its `name` is another one than `git`");
    }
}
