//! The commands that change the config file.

use super::{Command, JSON, Opt, Run, Words, flag, option};
use crate::cli::options::{format_is_json, header, span, text, variable};
use crate::cli::upstream_edit;

const OUTPUT: Opt = Opt {
    short: Some('o'),
    ..option("output", "FORMAT", "text, or json: one JSON object [default: text]", |given, value| {
        given.json = format_is_json(value)?;
        Ok(())
    })
};

const NO_WAIT: Opt = flag("no-wait", "Do not wait for the daemon", |given, _| {
    given.no_wait = true;
    Ok(())
});

pub const ADD: Command = Command {
    path: &["upstream", "add"],
    words: Words::Then("NAME", "[URL | -- COMMAND [ARGS...]]"),
    options: &[
        Opt {
            short: Some('e'),
            ..option("env", "NAME=VALUE", "A variable for the COMMAND; may be repeated", |given, value| {
                given.env.push(variable(value)?);
                Ok(())
            })
        },
        Opt {
            short: Some('H'),
            ..option("header", "HEADER", "'NAME: VALUE' for the URL; may be repeated", |given, value| {
                given.headers.push(header(value)?);
                Ok(())
            })
        },
        option("working-dir", "DIR", "Where the COMMAND runs", |given, value| {
            given.working_dir = Some(value);
            Ok(())
        }),
        option("url", "URL", "A remote server; the same as a URL behind NAME", |given, value| {
            given.url = Some(text(value)?);
            Ok(())
        }),
        Opt {
            short: Some('t'),
            ..option("transport", "KIND", "stdio, http, sse or auto [default: auto]", |given, value| {
                given.transport = Some(text(value)?);
                Ok(())
            })
        },
        flag("disabled", "Do not start it", |given, _| {
            given.disabled = true;
            Ok(())
        }),
        flag("lazy", "Start it with the first call only", |given, _| {
            given.lazy = true;
            Ok(())
        }),
        option("json", "ENTRY", "The whole entry as JSON, or - to read it from stdin", |given, value| {
            given.entry = Some(text(value)?);
            Ok(())
        }),
        flag("replace", "If there is such a server, give it this entry", |given, _| {
            given.replace = true;
            Ok(())
        }),
        option("wait", "SPAN", "How long to wait until the server is up [default: 30s]", |given, value| {
            given.wait = Some(span(value)?);
            Ok(())
        }),
        NO_WAIT,
        OUTPUT,
    ],
    summary: "Add a server to the config file",
    about: "Writes an entry at the end of mcpServers and changes nothing else in the file: comments, order and \
            layout stay. What the file was before is FILE.bak beside it. An entry that would not run as written is \
            refused. The file is the one of the running daemon, or that of --config; one that is missing is made.\n\n\
            A running daemon takes it over at once, and every other server goes on; the command waits for what comes \
            of it. Everything behind COMMAND is passed on to it. Values are written as they are given: \
            '${env:NAME}' keeps a secret out of the file.\n\n\
            Exit code 0 if the server is up (or added, where no daemon runs), 1 if it is not, or if there is another \
            entry of this name; 3 if the entry is there as it is; 4 if the file cannot be used, or the entry would \
            not work.",
    examples: &[
        "mcpvisor upstream add time -- uvx mcp-server-time --local-timezone UTC",
        "mcpvisor upstream add github -e TOKEN='${env:TOKEN}' -- npx -y @scope/server",
        "mcpvisor upstream add docs https://mcp.example.org/mcp --header 'X-Team: a'",
        "mcpvisor upstream add git --json '{\"command\": \"git-mcp\", \"era\": \"modern\"}'",
    ],
    run: Run::Given(upstream_edit::add),
};

pub const REMOVE: Command = Command {
    path: &["upstream", "remove"],
    words: Words::Some("NAME"),
    options: &[NO_WAIT, OUTPUT, Opt { help: "The same as --output json", ..JSON }],
    summary: "Remove servers from the config file",
    about: "Takes out the entry of each, with the comment lines directly above it, and changes nothing else in the \
            file; what it was before is FILE.bak beside it. A running daemon stops the servers at once.\n\n\
            Exit code 3 if one of the names is in no entry; then none is removed.",
    examples: &["mcpvisor upstream remove time", "mcpvisor upstream remove git docs --json"],
    run: Run::Given(upstream_edit::remove),
};
