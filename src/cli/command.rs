//! The one table of commands. Parsing, help, suggestions and `docs/cli.md` all come from it, so none can be wrong
//! alone.
//!
//! It knows the words and what they set; what a command does is in the file of its own that it points to.

mod edit;

use super::exit::Outcome;
use super::options::{Given, count, is_span, level, span, text};
use super::output::Out;
use super::{
    cleanup, config_check, config_plan, demo_server, events, help, reconnect, serve, status, stdio, tools,
    upstream,
};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub struct Command {
    /// One word, or a group and a word.
    pub path: &'static [&'static str],
    pub words: Words,
    pub options: &'static [Opt],
    /// One line for the list of commands.
    pub summary: &'static str,
    /// The text of its own help; paragraphs are separated by an empty line.
    pub about: &'static str,
    pub examples: &'static [&'static str],
    pub run: Run,
}

impl Command {
    pub fn name(&self) -> String {
        self.path.join(" ")
    }
}

/// The plain words that a command takes, by the name that the help gives them.
#[derive(Clone, Copy)]
pub enum Words {
    None,
    Optional(&'static str),
    One(&'static str),
    /// None, one or more.
    Any(&'static str),
    /// One or more.
    Some(&'static str),
    /// A word, and what the second part says: a URL, or a command with everything that is behind it.
    Then(&'static str, &'static str),
}

#[derive(Clone, Copy)]
pub enum Run {
    Given(RunGiven),
    /// All arguments go on unread.
    Raw(RunRaw),
}

pub type RunGiven = fn(&Given, &mut Out) -> Outcome;
pub type RunRaw = fn(Vec<OsString>) -> ExitCode;
type Set = fn(&mut Given, OsString) -> Result<(), String>;

pub struct Opt {
    /// `-` and `_` mean the same when it is typed.
    pub long: &'static str,
    pub short: Option<char>,
    pub value: Value,
    /// The variable that gives the value when the option is absent.
    pub env: Option<&'static str>,
    pub help: &'static str,
    pub set: Set,
}

#[derive(Clone, Copy)]
pub enum Value {
    Flag,
    Required(&'static str),
    /// `--wait`, `--wait=SPAN`, or `--wait SPAN`: the next word is the value if it reads as one.
    Optional {
        name: &'static str,
        default: &'static str,
        reads: fn(&str) -> bool,
    },
}

const fn flag(long: &'static str, help: &'static str, set: Set) -> Opt {
    Opt { long, short: None, value: Value::Flag, env: None, help, set }
}

const fn option(long: &'static str, name: &'static str, help: &'static str, set: Set) -> Opt {
    Opt { long, short: None, value: Value::Required(name), env: None, help, set }
}

/// Options of every command, before or after it.
pub const GLOBALS: &[Opt] = &[
    Opt {
        short: Some('c'),
        env: Some("MCPVISOR_CONFIG"),
        ..option("config", "FILE", "The config to use instead of looking for one", |given, value| {
            given.options.config = Some(PathBuf::from(value));
            Ok(())
        })
    },
    Opt {
        short: Some('l'),
        env: Some("MCPVISOR_LISTEN"),
        ..option(
            "listen",
            "HOST:PORT",
            "Where the endpoint listens [default: 127.0.0.1:8080]",
            |given, value| {
                given.options.listen = Some(text(value)?);
                Ok(())
            },
        )
    },
    Opt {
        env: Some("MCPVISOR_STATE_DIR"),
        ..option("state-dir", "DIR", "Where the daemon keeps its state and control socket", |given, value| {
            given.options.state_dir = Some(PathBuf::from(value));
            Ok(())
        })
    },
    Opt {
        env: Some("MCPVISOR_LOG_LEVEL"),
        ..option(
            "log-level",
            "LEVEL",
            "off, error, warn, info, debug or trace [default: info]",
            |given, value| {
                given.options.log_level = Some(level(value)?);
                Ok(())
            },
        )
    },
];

const JSON: Opt = flag("json", "Print the daemon's JSON as it came", |given, _| {
    given.json = true;
    Ok(())
});

const SERVER: Opt = option("server", "NAME", "Only the tools of this server", |given, value| {
    given.server = Some(text(value)?);
    Ok(())
});

const LINES: Opt = Opt {
    short: Some('n'),
    ..option("lines", "N", "How many, counted from the end [default: 50]", |given, value| {
        given.lines = Some(count(value)?);
        Ok(())
    })
};

const GROUP: Opt = option("group", "NAME", "All servers of this group, too", |given, value| {
    given.groups.push(text(value)?);
    Ok(())
});

const WAIT: Opt = Opt {
    value: Value::Optional { name: "SPAN", default: "30s", reads: is_span },
    ..flag("wait", "Wait until it is done, and say how it ended", |given, value| {
        given.wait = Some(span(value)?);
        Ok(())
    })
};

pub const COMMANDS: &[Command] = &[
    Command {
        path: &["serve"],
        words: Words::None,
        options: &[flag(
            "ephemeral",
            "Serve the control socket only, and end 10 s after the last session; what mcpvisor stdio starts where \
             no daemon runs",
            |given, _| {
                given.ephemeral = true;
                Ok(())
            },
        )],
        summary: "Run the servers of the config behind one endpoint",
        about: "Starts every enabled server of the config, keeps it running, and serves the tools of all at \
                http://127.0.0.1:8080/mcp. Without a config it runs one built-in demo server.\n\n\
                SIGTERM or Ctrl-C stops everything in order. One daemon runs per state directory.",
        examples: &["mcpvisor serve", "mcpvisor serve --config ./mcp_config.json --listen 127.0.0.1:9000"],
        run: Run::Given(serve::run),
    },
    Command {
        path: &["stdio"],
        words: Words::None,
        options: &[Opt { help: "Only this server, under its own names", ..SERVER }],
        summary: "Be one MCP server on stdin and stdout, for clients that start programs",
        about: "Joins a client that speaks MCP over stdin and stdout (Claude Desktop) to the running daemon of the \
                state directory. Where none runs it starts one (mcpvisor serve --ephemeral), which all such \
                clients share and which ends 10 s after the last of them.\n\n\
                Ends with its stdin. When the daemon is started anew meanwhile, the session is opened again by \
                itself, and the client is told that its lists may have changed.",
        examples: &["mcpvisor stdio", "mcpvisor stdio --server git"],
        run: Run::Given(stdio::run),
    },
    Command {
        path: &["status"],
        words: Words::None,
        options: &[
            flag("usage", "Show the memory, CPU and descriptors of each, too", |given, _| {
                given.usage = true;
                Ok(())
            }),
            JSON,
        ],
        summary: "Show every server: state, tools, restarts, and why it is down",
        about: "One line per container engine in use, then one per server; below one that is not fine, its last \
                error, what to do about it, and when it is tried again.",
        examples: &["mcpvisor status", "mcpvisor status --json"],
        run: Run::Given(status::run),
    },
    Command {
        path: &["events"],
        words: Words::None,
        options: &[
            Opt {
                short: Some('f'),
                ..flag("follow", "Go on with what happens from now on", |given, _| {
                    given.follow = true;
                    Ok(())
                })
            },
            Opt { help: "How many, counted from the end [default: 50, or all since SEQ]", ..LINES },
            option("since", "SEQ", "Only after this one: a number, or an id", |given, value| {
                given.since = Some(text(value)?);
                Ok(())
            }),
            option(
                "types",
                "LIST",
                "Only these: server.state, engine.away, …, or all of a family: engine",
                |given, value| {
                    given.types.push(text(value)?);
                    Ok(())
                },
            ),
            Opt { help: "Only those of this server", ..SERVER },
            Opt { help: "Print one JSON object per line, as the daemon has it", ..JSON },
        ],
        summary: "Show what has happened to servers and engines",
        about: "A line per event: its number, its time, and what it says. The daemon keeps the last 2048; numbers \
                begin anew with each of its starts.",
        examples: &["mcpvisor events --follow", "mcpvisor events --types engine --json"],
        run: Run::Given(events::run),
    },
    Command {
        path: &["reconnect"],
        words: Words::Any("NAME"),
        options: &[
            GROUP,
            Opt {
                value: Value::Optional { name: "URL", default: "", reads: |word| word.contains("://") },
                ..flag("engine", "Those that live on a container engine, or on this one", |given, value| {
                    given.on_engine = Some(text(value)?);
                    Ok(())
                })
            },
            flag("all", "Every server", |given, _| {
                given.all = true;
                Ok(())
            }),
            option("reason", "TEXT", "Why, for the daemon's log", |given, value| {
                given.reason = Some(text(value)?);
                Ok(())
            }),
            option("wait", "SPAN", "How long to wait for the outcome [default: 30s]", |given, value| {
                given.wait = Some(span(value)?);
                Ok(())
            }),
            JSON,
        ],
        summary: "Bring servers back now, and say how each went",
        about: "Those named, or with --all every server, or else those that live on a container engine, which is \
                asked now. One that waits for its next try is tried at once; one that is ready is asked whether \
                it is well: it stays if it answers, and is replaced if it does not within 5 s. Nothing that was \
                counted against a server is forgotten (mcpvisor upstream restart does that).\n\n\
                What is disabled or asleep is left alone; what is parked or was given up is tried only if it is \
                named. Asking again while a server is on its way back joins that recovery.\n\n\
                Exit code 0 if all are back, 1 if some are not, 2 for a name that no server has, 3 if there was \
                nothing to do.",
        examples: &[
            "mcpvisor reconnect",
            "mcpvisor reconnect git time --reason 'moved to another network'",
            "mcpvisor reconnect --all --wait 2m --json",
        ],
        run: Run::Given(reconnect::run),
    },
    Command {
        path: &["upstream", "list"],
        words: Words::None,
        options: &[JSON],
        summary: "List the servers",
        about: "The servers of `mcpvisor status`, without the line about the daemon.",
        examples: &[],
        run: Run::Given(upstream::list),
    },
    edit::ADD,
    edit::REMOVE,
    Command {
        path: &["upstream", "restart"],
        words: Words::Any("NAME"),
        options: &[GROUP, WAIT],
        summary: "Stop servers and start them again",
        about: "Starts a new life of each server; a backoff or an automatic disable is forgotten. With `overlap` in its \
                entry a server that is ready serves on until the new life is ready, too; if that fails, nothing has \
                changed, and the exit code of --wait is 1.",
        examples: &["mcpvisor upstream restart git time --wait", "mcpvisor upstream restart --group office"],
        run: Run::Given(upstream::restart),
    },
    Command {
        path: &["upstream", "enable"],
        words: Words::Any("NAME"),
        options: &[GROUP, WAIT],
        summary: "Start servers that are disabled",
        about: "Holds until the daemon ends; the config file is not changed.",
        examples: &["mcpvisor upstream enable git --wait=10s"],
        run: Run::Given(upstream::enable),
    },
    Command {
        path: &["upstream", "disable"],
        words: Words::Any("NAME"),
        options: &[GROUP, WAIT],
        summary: "Stop servers and keep them stopped",
        about: "Holds until the daemon ends; the config file is not changed.",
        examples: &["mcpvisor upstream disable git"],
        run: Run::Given(upstream::disable),
    },
    Command {
        path: &["upstream", "logs"],
        words: Words::One("NAME"),
        options: &[Opt { help: "How many lines, counted from the end [default: 50]", ..LINES }],
        summary: "Print what a server wrote to its stderr",
        about: "The last lines of the server's own log.",
        examples: &["mcpvisor upstream logs git --lines 200"],
        run: Run::Given(upstream::logs),
    },
    Command {
        path: &["tools", "list"],
        words: Words::None,
        options: &[SERVER, JSON],
        summary: "List the tools of all servers",
        about: "The name as a client sees it at /mcp, and the first line of its description.",
        examples: &["mcpvisor tools list --server git"],
        run: Run::Given(tools::list),
    },
    Command {
        path: &["call", "tool"],
        words: Words::None,
        options: &[
            Opt {
                short: Some('t'),
                ..option("tool-name", "NAME", "SERVER__TOOL as listed, or SERVER:TOOL", |given, value| {
                    given.tool_name = Some(text(value)?);
                    Ok(())
                })
            },
            Opt {
                short: Some('j'),
                ..option(
                    "json_args",
                    "JSON",
                    "The arguments, one JSON object [default: {}]",
                    |given, value| {
                        given.json_args = Some(text(value)?);
                        Ok(())
                    },
                )
            },
            option(
                "timeout",
                "SPAN",
                "Give up after this [default: the server's call_timeout]",
                |given, value| {
                    given.timeout = Some(span(value)?);
                    Ok(())
                },
            ),
            JSON,
        ],
        summary: "Call one tool and print its result",
        about: "Prints the text of the result. A tool that reports an error ends with exit code 1.",
        examples: &[
            "mcpvisor call tool --tool-name=time__get_current_time --json_args='{\"timezone\":\"UTC\"}'",
        ],
        run: Run::Given(tools::call),
    },
    Command {
        path: &["config", "check"],
        words: Words::Optional("FILE"),
        options: &[],
        summary: "Check a config and print all findings",
        about: "Checks FILE, or the config that `mcpvisor serve` would use. Exit code 4 if anything in it does \
                not work as written.",
        examples: &["mcpvisor config check ./mcp_config.json"],
        run: Run::Given(config_check::run),
    },
    Command {
        path: &["config", "plan"],
        words: Words::None,
        options: &[JSON],
        summary: "Show what the config file, as it is now, would change",
        about: "Compares the file with what the daemon runs: which servers would be restarted, and because of which \
                keys, and which would go on with other numbers. Nothing is changed. Without a daemon it is \
                compared with nothing.",
        examples: &["mcpvisor config plan"],
        run: Run::Given(config_plan::plan),
    },
    Command {
        path: &["config", "apply"],
        words: Words::None,
        options: &[JSON],
        summary: "Make the daemon take over the config file now",
        about: "The daemon does so by itself within a second of every change of the file; this waits until it is \
                done and says what it came to, also where files cannot be watched. SIGHUP does the same. Exit \
                code 4 if the file cannot be used: then what ran before runs on.",
        examples: &["mcpvisor config apply"],
        run: Run::Given(config_plan::apply),
    },
    Command {
        path: &["cleanup"],
        words: Words::None,
        options: &[
            flag("force", "Do not ask", |given, _| {
                given.force = true;
                Ok(())
            }),
            flag("all", "Also end what other dead instances left", |given, _| {
                given.all = true;
                Ok(())
            }),
            option("engine", "URL", "Also look at this container engine", |given, value| {
                given.engines.push(text(value)?);
                Ok(())
            }),
            flag("all-hosts", "Also remove containers of other hosts", |given, _| {
                given.all_hosts = true;
                Ok(())
            }),
            flag("include-mcpmon", "Also remove containers of mcpmon", |given, _| {
                given.include_mcpmon = true;
                Ok(())
            }),
            flag("include-mcpproxy", "Also remove containers of mcpproxy", |given, _| {
                given.include_mcpproxy = true;
                Ok(())
            }),
            flag("dry-run", "Only say what would be ended", |given, _| {
                given.dry_run = true;
                Ok(())
            }),
            flag("verbose", "Also say what is kept, and why", |given, _| {
                given.verbose = true;
                Ok(())
            }),
            flag("json", "Print one JSON object", |given, _| {
                given.json = true;
                Ok(())
            }),
        ],
        summary: "End what a dead daemon left behind",
        about: "Finds what an earlier run of this state directory left, by mark, pid and start time, and ends it; \
                with --all also what other instances left whose daemon is provably gone. Never by name or pattern; \
                what cannot be proven dead is kept.\n\n\
                Containers, running or not, are found by their labels: on the engine of $DOCKER_HOST (or \
                unix:///var/run/docker.sock), on those that this instance has containers recorded on, and on those \
                named with --engine. Never removed is what another host owns, unless --all-hosts says that no mcpvisor runs there any more, and what bears \
                no label. Containers of mcpmon and mcpproxy are looked at only when asked for, and kept as \
                long as any process of that tool runs here.\n\n\
                Exit code 3 if there was nothing to end; 8 if an engine does not answer that was named or that \
                containers are recorded on.",
        examples: &[
            "mcpvisor cleanup --dry-run --verbose",
            "mcpvisor cleanup --force",
            "mcpvisor cleanup --engine tcp://127.0.0.1:2375",
        ],
        run: Run::Given(cleanup::run),
    },
    Command {
        path: &["demo-server"],
        words: Words::Any("ARGS"),
        options: &[],
        summary: "Be a small MCP server on stdin and stdout",
        about: "The built-in server that `mcpvisor serve` runs without a config. Its own switches: \
                mcpvisor demo-server --help.",
        examples: &[],
        run: Run::Raw(demo_server::run),
    },
    Command {
        path: &["version"],
        words: Words::None,
        options: &[],
        summary: "Print the version",
        about: "Prints the name and the version of this binary; --version does the same.",
        examples: &[],
        run: Run::Given(help::version),
    },
    Command {
        path: &["help"],
        words: Words::Any("COMMAND"),
        options: &[],
        summary: "Explain a command",
        about: "The help of one command, of a group of commands, or this list.",
        examples: &["mcpvisor help upstream restart"],
        run: Run::Given(help::run),
    },
];

/// The commands below `path`: the one that it names, those of the group that it names, or all of an empty path.
pub fn below(path: &[impl AsRef<str>]) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |command| {
        path.len() <= command.path.len()
            && path.iter().zip(command.path).all(|(typed, word)| typed.as_ref() == *word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn table_is_sound() {
        let mut paths = BTreeSet::new();
        for command in COMMANDS {
            assert!(paths.insert(command.path), "{} is there twice", command.name());
            assert!((1..=2).contains(&command.path.len()));
            let mut names = BTreeSet::from(["help".to_owned()]);
            let mut shorts = BTreeSet::from(['h', 'V']);
            for option in GLOBALS.iter().chain(command.options) {
                assert!(names.insert(option.long.to_owned()), "{}: --{} twice", command.name(), option.long);
                assert!(option.short.is_none_or(|short| shorts.insert(short)), "{}", option.long);
                assert!(!option.help.ends_with('.'));
            }
            assert!(!command.summary.ends_with('.') && command.about.ends_with('.'), "{}", command.name());
        }
    }
}
