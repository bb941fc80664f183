//! Help texts out of the table: of everything, of a group, of one command; and all of them as `docs/cli.md`.

use super::command::{COMMANDS, Command, GLOBALS, Opt, Run, Value, Words, below};
use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::{Out, flow, wrap};
use super::parse::unknown_command;

/// Help is as wide as this on every terminal, so that it can be compared and quoted.
const COLUMNS: usize = 80;

const MOTTO: &str =
    "mcpvisor, the supervisor for MCP servers: one endpoint, no orphans, and whatever is down says why";

pub fn version(_: &Given, out: &mut Out) -> Outcome {
    out.line(&version_line());
    Ok(Exit::Ok)
}

pub fn version_line() -> String {
    format!("mcpvisor {}", env!("CARGO_PKG_VERSION"))
}

/// `mcpvisor help WORDS`.
pub fn run(given: &Given, out: &mut Out) -> Outcome {
    out.text(&topic(&given.names()?)?);
    Ok(Exit::Ok)
}

/// The help of a command or group; of everything for no words.
pub fn topic(path: &[String]) -> Result<String, Failure> {
    let Some(first) = below(path).next() else {
        // The first word that leads nowhere is the wrong one.
        let known = (0..path.len()).find(|length| below(&path[..=*length]).next().is_none()).unwrap_or(0);
        return Err(unknown_command(&path[..=known]));
    };
    if path.is_empty() {
        return Ok(overview());
    }
    Ok(if first.path.len() == path.len() { of_command(first) } else { of_group(path) })
}

fn overview() -> String {
    let mut text = paragraph(MOTTO);
    text.push_str("\nUsage: mcpvisor [OPTIONS] COMMAND\n\nCommands:\n");
    text.push_str(&rows(COMMANDS.iter().map(|command| (command.name(), command.summary.to_owned()))));
    text.push_str("\nOptions of every command, before or after it:\n");
    text.push_str(&rows(GLOBALS.iter().map(option_row)));
    text.push_str(&rows([
        ("-h, --help".to_owned(), "Explain the command".to_owned()),
        ("-V, --version".to_owned(), "Print the version".to_owned()),
    ]));
    let codes: Vec<String> =
        Exit::ALL.iter().map(|exit| format!("{} {}", exit.code(), exit.meaning())).collect();
    text.push_str("\nExit codes:\n  ");
    text.push_str(&flow(&codes, COLUMNS - 2));
    text.push_str("\nMore about one command: mcpvisor help COMMAND\n");
    text
}

fn of_group(path: &[String]) -> String {
    let group = path.join(" ");
    let mut text = format!("Usage: mcpvisor {group} COMMAND\n\nCommands:\n");
    text.push_str(&rows(below(path).map(|command| (command.path[1].to_owned(), command.summary.to_owned()))));
    text.push_str(&format!("\nMore about one command: mcpvisor help {group} COMMAND\n"));
    text
}

fn of_command(command: &Command) -> String {
    let mut text = paragraph(command.summary);
    text.push_str(&format!("\nUsage: mcpvisor {}{}\n", command.name(), usage(command)));
    for part in command.about.split("\n\n") {
        text.push('\n');
        text.push_str(&paragraph(part));
    }
    if matches!(command.run, Run::Raw(_)) {
        return text;
    }
    if !command.options.is_empty() {
        text.push_str("\nOptions:\n");
        text.push_str(&rows(command.options.iter().map(option_row)));
    }
    text.push_str("\nOptions of every command:\n");
    text.push_str(&rows(GLOBALS.iter().map(option_row)));
    if !command.examples.is_empty() {
        text.push_str("\nExamples:\n");
        command.examples.iter().for_each(|example| text.push_str(&format!("  {example}\n")));
    }
    text
}

fn usage(command: &Command) -> String {
    let options = if command.options.is_empty() { "" } else { " [OPTIONS]" };
    let words = match command.words {
        Words::None => String::new(),
        Words::Optional(what) => format!(" [{what}]"),
        Words::One(what) => format!(" {what}"),
        Words::Any(what) => format!(" [{what}...]"),
        Words::Some(what) => format!(" {what}..."),
        Words::Then(what, rest) => format!(" {what} {rest}"),
    };
    format!("{options}{words}")
}

fn option_row(option: &Opt) -> (String, String) {
    let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = match option.value {
        Value::Flag => String::new(),
        Value::Required(name) => format!(" {name}"),
        Value::Optional { name, .. } => format!("[={name}]"),
    };
    let mut help = option.help.to_owned();
    if let Value::Optional { name, default, .. } = option.value
        && !default.is_empty()
    {
        help.push_str(&format!(" [{name} if left out: {default}]"));
    }
    if let Some(variable) = option.env {
        help.push_str(&format!(" [${variable}]"));
    }
    (format!("{short}--{}{value}", option.long), help)
}

/// Two columns, the second wrapped.
fn rows(rows: impl IntoIterator<Item = (String, String)>) -> String {
    const LEFT: usize = 24;
    let mut text = String::new();
    for (left, right) in rows {
        let mut lines = wrap(&right, COLUMNS, LEFT + 2).into_iter();
        if left.len() + 2 > LEFT {
            text.push_str(&format!("  {left}\n"));
        } else if let Some(first) = lines.next() {
            text.push_str(&format!("  {left:width$}{}\n", first.trim_start(), width = LEFT));
        }
        lines.for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}

fn paragraph(text: &str) -> String {
    wrap(text, COLUMNS, 0).iter().map(|line| format!("{line}\n")).collect()
}

/// All help texts as one page; a test keeps `docs/cli.md` equal to it.
pub fn markdown() -> String {
    let mut page = format!(
        "# The command line\n\nMade from the table in `src/cli/command.rs`; a test keeps it true. \
         To write it anew: `UPDATE_EXPECT=1 cargo test`.\n\n```text\n{}```\n",
        overview()
    );
    for command in COMMANDS {
        page.push_str(&format!("\n## mcpvisor {}\n\n```text\n{}```\n", command.name(), of_command(command)));
    }
    page
}
