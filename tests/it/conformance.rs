//! The conformance suite through mcpvisor: our everything-servers (tests/peers) behind it, over stdio and over HTTP, asked
//! over HTTP on their own endpoints, must look as they do directly (tests/conformance: the runner, its baselines, and what
//! is expected to be different).
//! What this needs is installed by scripts/test; without it the tests say so and pass, unless `IT_PEERS=required`.
#![allow(clippy::disallowed_methods, reason = "tests start plain processes")]

use crate::support::all_installed;
use crate::support::daemon::{Daemon, run};
use crate::support::raw::{self, Era, Raw};
use crate::support::{BINARY, until};
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PYTHON: &str = "tests/.cache/venv-servers/bin/python";
const NODE: &str = "tests/.cache/npm/node_modules/.bin/node";

/// An everything-server: what the runner calls it, and how it is started.
struct Server {
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
}

const SERVERS: [Server; 2] = [
    Server { name: "python", program: PYTHON, args: &["-B", "tests/peers/everything"] },
    Server { name: "typescript", program: NODE, args: &["tests/peers/everything-ts/main.mjs"] },
];

impl Server {
    fn program(&self) -> PathBuf {
        root().join(self.program)
    }

    fn args(&self, last: &[&str]) -> Vec<String> {
        let own = self.args.iter().map(|arg| match arg.starts_with("tests/") {
            true => root().join(arg).display().to_string(),
            false => (*arg).to_owned(),
        });
        own.chain(last.iter().map(|arg| (*arg).to_owned())).collect()
    }

    fn stdio(&self) -> Command {
        let mut command = Command::new(self.program());
        command.args(self.args(&["--stdio"]));
        command
    }

    /// An entry of a config with the server over stdio.
    fn entry(&self, era: &str) -> Value {
        json!({ "command": self.program(), "args": self.args(&["--stdio"]), "era": era,
            "client_features": ["sampling", "elicitation", "roots"] })
    }
}

/// A server over HTTP, as a process of our own.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(server: &Server) -> Served {
        let mut command = Command::new(server.program());
        command.args(server.args(&["--port", "0"])).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server says where it listens");
        let url = line.trim().strip_prefix("listening on ").expect("the server listens").to_owned();
        Served { child, url }
    }

    fn entry(&self, era: &str) -> Value {
        json!({ "url": self.url, "protocol": "http", "era": era,
            "client_features": ["sampling", "elicitation", "roots"] })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It is ours, and not reaped: its pid names nobody else.
        let _ = self.child.kill();
        until("a server to end", || self.child.try_wait().ok().flatten());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(files: &[&str]) -> bool {
    all_installed(files.iter().map(|file| root().join(file)))
}

/// mcpvisor with these behind it, each ready.
fn behind_mcpvisor(entries: Vec<(String, Value)>) -> Daemon {
    let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
    let daemon = Daemon::start(&json!({ "mcpServers": entries.into_iter().collect::<Map<_, _>>() }), &[]);
    daemon.wait_ready(&names.iter().map(String::as_str).collect::<Vec<_>>());
    daemon
}

/// How the runner ends with these arguments, and what it says.
fn runner(args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(root().join(PYTHON));
    command.arg(root().join("tests/conformance/run")).args(args).envs(env.iter().copied());
    let ran = run(&mut command);
    match ran.code {
        0 => Ok(()),
        _ => Err(format!("{args:?}:\n{}{}", ran.stdout, ran.stderr)),
    }
}

/// The suite at the endpoint of each, as (cell, server of the baseline, endpoint, revision): all that is not as expected.
fn check_cells(daemon: &Daemon, cells: &[(&str, &Server, String, Era)]) {
    let mut wrong = Vec::new();
    for (cell, server, name, era) in cells {
        // The suite looks for DNS rebinding at this name.
        let url = daemon.server_url(name).replace("127.0.0.1", "localhost");
        let revision = era.revision();
        let args = ["--behind", cell, "--compare", &url, "--server", server.name, "--revision", revision];
        wrong.extend(runner(&args, &[]).err());
    }
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_servers_themselves_are_as_they_were() {
    if !installed(&[PYTHON, NODE]) {
        return;
    }
    for server in &SERVERS {
        for era in Era::BOTH {
            let ran = runner(&["--server", server.name, "--revision", era.revision()], &[]);
            ran.unwrap_or_else(|differs| panic!("{differs}"));
        }
    }
}

/// Both revisions before servers that speak both. A server over stdio speaks to all its clients as the first one did: each
/// revision has one of its own.
#[test]
fn the_suite_sees_the_servers_behind() {
    if !installed(&[PYTHON, NODE]) {
        return;
    }
    let mut entries = Vec::new();
    let mut cells = Vec::new();
    let served: Vec<Served> = SERVERS.iter().map(Served::start).collect();
    for (server, served) in SERVERS.iter().zip(&served) {
        for era in Era::BOTH {
            let stdio = format!("{}-stdio-{}", server.name, era.revision());
            let http = format!("{}-http-{}", server.name, era.revision());
            entries.push((stdio.clone(), server.entry("auto")));
            entries.push((http.clone(), served.entry("auto")));
            cells.push(("stdio", server, stdio, era));
            cells.push(("http", server, http, era));
        }
    }
    let mut daemon = behind_mcpvisor(entries);
    for (_, _, name, era) in &cells {
        Raw::http(&daemon.server_url(name)).in_era(*era).greet();
    }
    check_cells(&daemon, &cells);
    daemon.stop();
    daemon.assert_nothing_left(Duration::from_secs(2));
}

/// A client of one revision before servers that are asked in the other alone.
#[test]
fn the_suite_sees_through_to_the_other_era() {
    if !installed(&[PYTHON, NODE]) {
        return;
    }
    let mut entries = Vec::new();
    let mut cells = Vec::new();
    let served: Vec<Served> = SERVERS.iter().map(Served::start).collect();
    for (server, served) in SERVERS.iter().zip(&served) {
        for (era, pinned) in [(Era::Legacy, "modern"), (Era::Modern, "legacy")] {
            let stdio = format!("{}-stdio-{pinned}", server.name);
            let http = format!("{}-http-{pinned}", server.name);
            entries.push((stdio.clone(), server.entry(pinned)));
            entries.push((http.clone(), served.entry(pinned)));
            cells.push(("crossed-stdio", server, stdio, era));
            cells.push(("crossed-http", server, http, era));
        }
    }
    let mut daemon = behind_mcpvisor(entries);
    check_cells(&daemon, &cells);
    daemon.stop();
    daemon.assert_nothing_left(Duration::from_secs(2));
}

/// mcpvisor as the client of the suite's own servers, with a client before it that speaks as they do, and one that does
/// not.
#[test]
fn the_suite_sees_a_client_in_mcpvisor() {
    if !installed(&[PYTHON, NODE]) {
        return;
    }
    let mut wrong = Vec::new();
    for (era, other) in [(Era::Legacy, "modern"), (Era::Modern, "legacy")] {
        let revision = era.revision();
        let behind = |cell| ["--client", "--behind", cell, "--compare", "--revision", revision];
        wrong.extend(runner(&behind("mcpvisor"), &[("MCPVISOR", BINARY)]).err());
        let env = [("MCPVISOR", BINARY), ("MCPVISOR_CLIENT_ERA", other)];
        wrong.extend(runner(&behind("mcpvisor-crossed"), &env).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the suite reports of a payload is sometimes only that there is one: so all of it, byte by byte.
#[test]
fn every_fixture_comes_through_unchanged() {
    if !installed(&[PYTHON, NODE]) {
        return;
    }
    let served: Vec<Served> = SERVERS.iter().map(Served::start).collect();
    for era in Era::BOTH {
        let name = match era {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        };
        let mut entries = Vec::new();
        for (server, served) in SERVERS.iter().zip(&served) {
            // What a server says depends on what its client can answer; the client here can answer nothing.
            for (way, mut entry) in [("stdio", server.entry(name)), ("http", served.entry(name))] {
                entry["client_features"] = json!([]);
                entries.push((format!("{}-{way}", server.name), entry));
            }
        }
        let mut daemon = behind_mcpvisor(entries);
        let mut different = Vec::new();
        for (server, served) in SERVERS.iter().zip(&served) {
            let (stdio, http) = (format!("{}-stdio", server.name), format!("{}-http", server.name));
            let through = |name: &str| Raw::http(&daemon.server_url(name)).in_era(era);
            let (mut asked, said) = (questions(era), &mut different);
            let direct = Raw::stdio(&mut server.stdio()).in_era(era);
            said.extend(raw::differences(&stdio, direct, through(&stdio), &asked));
            // It closes the stream of its call, and the client here does not take up another.
            asked.retain(|(_, params)| params["name"] != "test_reconnection");
            let direct = Raw::http(&served.url).in_era(era);
            said.extend(raw::differences(&http, direct, through(&http), &asked));
        }
        assert!(different.is_empty(), "{era:?}: {} differ:\n{}", different.len(), different.join("\n"));
        daemon.stop();
        daemon.assert_nothing_left(Duration::from_secs(2));
    }
}

fn questions(era: Era) -> Vec<(&'static str, Value)> {
    let tools = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_error_handling",
        "test_tool_with_logging",
        "test_tool_with_progress",
        "test_reconnection",
        "there_is_no_such_tool",
    ];
    let resources = [
        "test://static-text",
        "test://static-binary",
        "test://watched-resource",
        "test://template/1%2F2/data",
        "test://there-is-no-such-resource",
    ];
    let prompts = [
        ("test_simple_prompt", json!({})),
        ("test_prompt_with_arguments", json!({ "arg1": "\u{e9}\u{1F600}", "arg2": "\"\n" })),
        ("test_prompt_with_embedded_resource", json!({ "resourceUri": "test://x?y=1#z" })),
        ("test_prompt_with_image", json!({})),
        ("test_prompt_with_arguments", json!({ "arg1": "the other is missing" })),
        ("there_is_no_such_prompt", json!({})),
    ];
    let argument = json!({ "name": "arg1", "value": "par" });
    let mut all = vec![
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
        (
            "completion/complete",
            json!({
                "ref": { "type": "ref/prompt", "name": "test_prompt_with_arguments" },
                "argument": argument,
            }),
        ),
    ];
    match era {
        Era::Legacy => {
            let watched = json!({ "uri": "test://watched-resource" });
            all.push(("ping", json!({})));
            all.push(("logging/setLevel", json!({ "level": "debug" })));
            all.push(("resources/subscribe", watched.clone()));
            all.push(("resources/unsubscribe", watched));
        }
        Era::Modern => {
            let yes = json!({ "confirm": { "action": "accept", "content": { "ok": true } } });
            let state = |name, state| json!({ "name": name, "arguments": {}, "inputResponses": yes, "requestState": state });
            all.push(("tools/call", json!({ "name": "test_missing_capability", "arguments": {} })));
            all.push(("tools/call", state("test_input_required_result_request_state", STATE)));
            all.push(("tools/call", state("test_input_required_result_tampered_state", "not.the-one")));
        }
    }
    let schema = json!({ "name": "json_schema_2020_12_tool", "arguments": { "n": 0.1, "s": "\u{2028}" } });
    all.push(("tools/call", schema));
    all.extend(tools.map(|name| ("tools/call", json!({ "name": name, "arguments": {} }))));
    all.extend(resources.map(|uri| ("resources/read", json!({ "uri": uri }))));
    all.extend(
        prompts.map(|(name, arguments)| ("prompts/get", json!({ "name": name, "arguments": arguments }))),
    );
    all
}

/// What both servers give with `test_input_required_result_request_state`: it is the same in every run.
const STATE: &str = "request-state.6d7688fbb191c319e85cdce3ae77052b27e6822a56bda78fbb6362b526ba99c8";
