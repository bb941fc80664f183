//! What people and programs see of a running daemon: REST on the endpoint and on the control socket, the commands of
//! the CLI against it, starts that are refused, and the shutdown.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and start plain processes"
)]

use crate::support::daemon::{Daemon, Ran, command, run, server};
use crate::support::http::{self, Full};
use crate::support::processes::{self, MARK};
use crate::support::{TempDir, demo_config, demo_entry, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One server in each state that lasts. The machine never waits longer than the test does.
fn zoo() -> Value {
    let mut servers = serde_json::Map::new();
    servers.insert("ready".to_owned(), demo_entry("--stderr-lines 3"));
    servers.insert("failing".to_owned(), demo_entry("--exit-on-init --exit-code 3"));
    servers.insert("remote".to_owned(), json!({"url": "https://mcp.example/mcp", "quarantined": true}));
    servers.insert("missing".to_owned(), json!({"command": "no-such-program-4711"}));
    let mut off = demo_entry("");
    off["enabled"] = json!(false);
    servers.insert("off".to_owned(), off);
    json!({"mcpServers": servers, "auto_disable": {"failure_threshold": 2, "startup_attempts": 2}})
}

fn settled(daemon: &Daemon) -> Value {
    let states = [
        ("ready", "ready"),
        ("failing", "auto_disabled"),
        ("remote", "parked"),
        ("missing", "parked"),
        ("off", "disabled"),
    ];
    daemon.wait_until("the zoo to settle", |status| {
        states.iter().all(|(name, state)| server(status, name)["state"] == *state)
    })
}

fn get(daemon: &Daemon, path: &str) -> Full {
    http::request(daemon.address(), "GET", path, &[], "")
}

fn post(daemon: &Daemon, path: &str, body: &str) -> Full {
    http::request(daemon.address(), "POST", path, &[("content-type", "application/json")], body)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// The body of an answer with that status.
#[track_caller]
fn body(full: &Full, status: u16) -> Value {
    assert_eq!(full.head.status, status, "{full:?}");
    parsed(&full.body)
}

/// The same request on the control socket.
fn on_the_socket(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn status_has_its_shape() {
    let daemon = Daemon::start(&zoo(), &[]);
    settled(&daemon);
    let status = body(&get(&daemon, "/api/v1/status"), 200);
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(text) if humantime::parse_rfc3339(text).is_ok() => "time",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    let check = |object: &Value, fields: &[(&str, &str)]| {
        for (name, kinds) in fields {
            let value = object.get(name).unwrap_or_else(|| panic!("no {name} in {object:#}"));
            assert!(kinds.split('|').any(|wanted| wanted == kind(value)), "{name} is no {kinds}: {object:#}");
        }
    };
    check(
        &status,
        &[
            ("version", "text"),
            ("pid", "number"),
            ("seq", "number"),
            ("uptime_ms", "number"),
            ("engines", "list"),
            ("servers", "list"),
            ("removals", "list"),
        ],
    );
    check(&status["config"], &[("path", "text"), ("loads", "number"), ("findings", "list")]);
    for row in status["servers"].as_array().unwrap() {
        check(
            row,
            &[
                ("name", "text"),
                ("state", "text"),
                ("phase", "text|null"),
                ("since", "time"),
                ("pid", "number|null"),
                ("engine", "text|null"),
                ("life", "number|null"),
                ("tools", "number"),
                ("restarts", "number"),
                ("failures", "number"),
                ("consecutive_failures", "number"),
                ("last_success_at", "time|null"),
                ("last_error", "object|null"),
                ("next_retry_at", "time|null"),
                ("place_in_line", "number|null"),
                ("starts_in_ms", "number|null"),
                ("usual_start_ms", "number|null"),
                ("given_up", "number"),
                ("reason", "object|null"),
            ],
        );
        for fault in [&row["last_error"], &row["reason"]].into_iter().filter(|fault| !fault.is_null()) {
            check(fault, &[("kind", "text"), ("message", "text"), ("hint", "text")]);
        }
        let one = body(&get(&daemon, &format!("/api/v1/servers/{}", row["name"].as_str().unwrap())), 200);
        assert_eq!(one, *row);
    }
    let ready = server(&status, "ready");
    assert_eq!(
        (&ready["tools"], &ready["restarts"], &ready["last_error"]),
        (&json!(6), &json!(0), &Value::Null)
    );
    assert!(ready["last_success_at"].is_string() && ready["life"].is_number(), "{ready}");
    let failing = server(&status, "failing");
    assert_eq!(failing["last_error"]["kind"], "exited");
    assert_eq!(
        (&failing["failures"], &failing["pid"], &failing["life"]),
        (&json!(2), &Value::Null, &Value::Null)
    );
    assert_eq!(server(&status, "missing")["reason"]["kind"], "not_found");
    // The control socket says the same, to its owner only.
    let socket = daemon.tmp.path().join("state/mcpvisor.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let same = parsed(&on_the_socket(&socket, "GET /api/v1/status"));
    assert_eq!((&same["servers"], &same["pid"]), (&status["servers"], &status["pid"]));
    assert_eq!(on_the_socket(&socket, "GET /healthz"), "ok\n");
}

#[test]
fn servers_are_commanded_over_rest() {
    let daemon = Daemon::start(&zoo(), &[]);
    let status = settled(&daemon);
    let life = server(&status, "ready")["life"].as_u64().unwrap();
    let act = |name: &str, what: &str| post(&daemon, &format!("/api/v1/servers/{name}/{what}"), "");
    let restarted = body(&act("ready", "restart?wait=30s"), 202);
    assert_eq!((&restarted["name"], &restarted["state"]), (&json!("ready"), &json!("ready")));
    assert!(restarted["life"].as_u64().unwrap() > life, "{restarted}");
    assert!(body(&act("ready", "restart"), 202)["life"].is_number());
    daemon.wait_until("the third life", |status| {
        let row = server(status, "ready");
        row["state"] == "ready" && row["restarts"] == 2
    });
    assert_eq!(body(&act("ready", "disable?wait=30s"), 202)["state"], "disabled");
    assert_eq!(body(&act("ready", "disable?wait=30"), 202)["state"], "disabled");
    let refused = body(&act("ready", "restart"), 409);
    assert_eq!(refused["error"]["kind"], "not_ready");
    assert_eq!(refused["error"]["hint"], "mcpvisor upstream enable ready");
    assert_eq!(body(&act("ready", "enable?wait=30000ms"), 202)["state"], "ready");
    assert_eq!(body(&act("ready", "enable?wait=30s"), 202)["state"], "ready", "it is already");
    assert_eq!(body(&act("off", "enable?wait=30s"), 202)["state"], "ready");
    // One that was given up is tried again, by either word; the wait ends when it has failed again.
    for what in ["restart", "enable"] {
        let again = body(&act("failing", &format!("{what}?wait=60s")), 202);
        assert!(["backoff", "auto_disabled"].contains(&again["state"].as_str().unwrap()), "{again}");
        let gone = body(&act("missing", &format!("{what}?wait=60s")), 202);
        assert_eq!(gone["state"], "parked", "{gone}");
        // What no start can help is refused with its reason.
        let refused = body(&act("remote", what), 409);
        assert!(refused["error"]["message"].as_str().unwrap().contains("not yet supported"), "{refused}");
    }
    assert_eq!(body(&act("remote", "disable?wait=30s"), 202)["state"], "disabled");
    assert_eq!(body(&act("remote", "enable?wait=30s"), 202)["state"], "parked");
    assert_eq!(
        body(&act("ready", "restart?wait=soon"), 400)["error"]["hint"],
        "30s, 500ms, or a number of seconds"
    );
    let unknown = body(&act("redy", "restart"), 404);
    assert_eq!(unknown["error"]["hint"], "did you mean `ready`?");
    body(&get(&daemon, "/api/v1/servers/redy"), 404);
    body(&act("ready", "explode"), 404);
    let wrong = get(&daemon, "/api/v1/servers/ready/restart");
    assert_eq!((wrong.head.status, wrong.head.header("allow")), (405, Some("POST")));
    assert_eq!(post(&daemon, "/api/v1/status", "").head.header("allow"), Some("GET"));
    body(&get(&daemon, "/api/v1/nothing"), 404);
}

#[test]
fn logs_and_tools_over_rest() {
    let daemon = Daemon::start(&zoo(), &[]);
    settled(&daemon);
    let logs = body(&get(&daemon, "/api/v1/servers/ready/logs?lines=2"), 200);
    assert_eq!(logs["lines"].as_array().unwrap().len(), 2, "{logs}");
    body(&get(&daemon, "/api/v1/servers/ready/logs?lines=many"), 400);
    body(&get(&daemon, "/api/v1/servers/redy/logs"), 404);
    let tools = body(&get(&daemon, "/api/v1/tools"), 200);
    assert_eq!(tools["tools"].as_array().unwrap().len(), 6);
    let first = json!({"name": "ready__echo", "server": "ready", "tool": "echo", "description": "Says the text back"});
    assert_eq!(tools["tools"][0], first);
    assert_eq!(body(&get(&daemon, "/api/v1/tools?server=off"), 200), json!({"tools": []}));
    body(&get(&daemon, "/api/v1/tools?server=of"), 404);
    let call = |query: &str, text: &str| post(&daemon, &format!("/api/v1/tools/call{query}"), text);
    let said = body(&call("", r#"{"name":"ready__echo","arguments":{"text":"hä"}}"#), 200);
    assert_eq!(said, json!({"content": [{"type": "text", "text": "hä"}]}));
    for (query, text, status, kind) in [
        ("", "nonsense", 400, "bad_config"),
        ("", r#"{"arguments":{}}"#, 400, "bad_config"),
        ("?timeout=soon", r#"{"name":"ready__time"}"#, 400, "bad_config"),
        ("", r#"{"name":"ready__ech"}"#, 404, "unknown"),
        ("", r#"{"name":"off__echo"}"#, 503, "not_ready"),
        ("", r#"{"name":"failing__echo"}"#, 503, "not_ready"),
        ("?timeout=200ms", r#"{"name":"ready__sleep","arguments":{"ms":60000}}"#, 504, "call_timeout"),
    ] {
        let error = body(&call(query, text), status);
        assert_eq!(error["error"]["kind"], kind, "{text}: {error}");
    }
    // Many at once, which all have the same session and id towards the daemon.
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let address = daemon.address().to_owned();
            std::thread::spawn(move || {
                let text = format!(r#"{{"name":"ready__add","arguments":{{"a":{n},"b":1}}}}"#);
                let headers = [("content-type", "application/json")];
                let full = http::request(&address, "POST", "/api/v1/tools/call", &headers, &text);
                assert_eq!(parsed(&full.body)["content"][0]["text"], (n + 1).to_string());
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}

#[test]
fn health_and_readiness() {
    let daemon = Daemon::start(&demo_config(&[("fast", ""), ("slow", "--start-delay 3000")]), &[]);
    let check = |path: &str, status: u16, text: &str| {
        let full = get(&daemon, path);
        assert_eq!((full.head.status, full.body.as_str()), (status, text), "{path}");
    };
    check("/healthz", 200, "ok\n");
    check("/readyz", 200, "ready\n");
    daemon.wait_ready(&["fast"]);
    check("/readyz?servers=all", 503, "waiting for: slow\n");
    daemon.wait_ready(&["slow"]);
    check("/readyz?servers=all", 200, "ready\n");
}

#[test]
fn the_commands_of_the_cli() {
    let daemon = Daemon::start(&zoo(), &[]);
    settled(&daemon);
    let cli = |args: &[&str]| {
        let ran = daemon.cli(args);
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        ran
    };
    let status = cli(&["status"]);
    assert_eq!((status.code, status.stderr.as_str()), (0, ""));
    for line in status.stdout.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
    }
    for part in [
        "SERVER   STATE",
        "ready    ready",
        "off      disabled",
        "remote   parked",
        "not yet supported",
        "no-such-program-4711",
        "failing  auto_disabled",
        "code 3",
        "upstream restart failing",
    ] {
        assert!(status.stdout.contains(part), "{part:?} is not in\n{}", status.stdout);
    }
    assert!(status.stdout.contains(daemon.url()), "{}", status.stdout);
    let check = |args: &[&str], code: i32, stdout: &str, stderr: &str| {
        let Ran { code: ended, stdout: out, stderr: err } = cli(args);
        assert!(
            ended == code && out.contains(stdout) && err.contains(stderr),
            "{args:?}: exit {ended}\n{out}{err}"
        );
    };
    check(&["upstream", "list"], 0, "failing  auto_disabled", "");
    check(&["upstream", "restart", "ready", "--wait=30s"], 0, "ready: ready (life ", "");
    check(&["upstream", "disable", "ready", "--wait=30s"], 0, "ready: disabled\n", "");
    check(&["upstream", "restart", "ready"], 1, "", "is disabled (mcpvisor upstream enable ready)");
    check(&["upstream", "enable", "ready", "--wait=30s"], 0, "ready: ready (life ", "");
    check(&["upstream", "enable", "failing", "--wait=60s"], 1, "failing: ", "");
    check(&["upstream", "restart", "remote"], 1, "", "not yet supported");
    check(&["upstream", "restart", "redy"], 1, "", "did you mean `ready`?");
    check(&["upstream", "logs", "ready"], 0, "ready", "");
    check(&["upstream", "logs", "off"], 0, "", "off has no log yet");
    check(&["tools", "list"], 0, "ready__echo  ", "");
    check(&["tools", "list", "--server", "off"], 0, "no tools", "");
    let call = |args: &str| {
        ["call", "tool", "--tool-name=ready:add", &format!("--json_args={args}")].map(str::to_owned)
    };
    let add = call(r#"{"a": 2, "b": 40}"#);
    check(&add.each_ref().map(String::as_str), 0, "42\n", "");
    let add = call(r#"{"a": 2}"#);
    check(&add.each_ref().map(String::as_str), 1, "`b` is missing", "");
    check(&["call", "tool", "--tool-name=ready__ad"], 1, "", "did you mean `ready__add`?");
    check(&["call", "tool", "--tool-name=off__add"], 1, "", "mcpvisor upstream enable off");
    // A second instance on the same state directory names the first.
    let state = daemon.tmp.join("state");
    let second = run(command()
        .args(["serve", "--state-dir", &state, "--listen", "127.0.0.1:0"])
        .env(MARK, &daemon.mark));
    assert_eq!(second.code, 6, "{second:?}");
    assert!(second.stderr.contains("already running"), "{second:?}");
    let pids = [daemon.guardian_pid(), daemon.daemon_pid()].map(|pid| format!("pid {pid}"));
    assert!(pids.iter().any(|pid| second.stderr.contains(pid)), "{pids:?} {second:?}");
}

#[test]
fn starts_that_are_refused() {
    let tmp = TempDir::new();
    let serve = |config: &Value, args: &[&str]| {
        let file = tmp.join("mcp_config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let state = tmp.join("state");
        let mut command = command();
        command.args(["serve", "--config", &file, "--state-dir", &state]).args(args);
        run(command.env(MARK, tmp.path().file_name().unwrap()))
    };
    let good = demo_config(&[("demo", "")]);
    let check = |ran: Ran, code: i32, parts: &[&str]| {
        assert_eq!(ran.code, code, "{ran:#?}");
        for part in parts {
            assert!(ran.stderr.contains(part), "{part:?} is not in {}", ran.stderr);
        }
    };
    for open in ["0.0.0.0:0", "[::]:0"] {
        let ran = serve(&good, &["--listen", open]);
        check(ran, 4, &["everybody who can reach it", "api_key", "MCPVISOR_API_KEY", "127.0.0.1"]);
    }
    check(serve(&good, &["--listen", "nonsense"]), 4, &["listen on `nonsense`", "HOST:PORT"]);
    let mut secret = good.clone();
    secret["api_key"] = json!("${env:IT_NO_SUCH_VARIABLE}");
    check(serve(&secret, &["--listen", "127.0.0.1:0"]), 4, &["IT_NO_SUCH_VARIABLE"]);
    check(serve(&json!({"mcpServers": 7}), &["--listen", "127.0.0.1:0"]), 4, &["mcpServers"]);
    let missing = tmp.join("missing.json");
    let ran = run(command().args(["serve", "--config", &missing, "--state-dir", &tmp.join("state")]));
    check(ran, 4, &[&missing, "does not exist"]);
    // The port is ours: the holder is this test.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let holder = format!("(pid {}) has it", std::process::id());
    check(serve(&good, &["--listen", &address]), 1, &["is taken", &holder, "--listen 127.0.0.1:"]);
}

#[test]
fn without_a_config_a_demo_runs_and_says_how_to_go_on() {
    let tmp = TempDir::new();
    let (home, mark) = (tmp.join(""), tmp.path().file_name().unwrap().to_owned());
    let mut command = command();
    command.args(["serve", "--state-dir", &tmp.join("state"), "--listen", "127.0.0.1:0"]);
    command.current_dir(&home).env("HOME", &home).env_remove("XDG_CONFIG_HOME").env(MARK, &mark);
    let mut guardian = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(guardian.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let is_last = line.contains("mcpvisor status");
        said.push(line);
        if is_last {
            processes::send(guardian.id(), Signal::SIGTERM);
        }
    }
    let ended = guardian.wait().unwrap();
    processes::assert_none_left(mark.to_str().unwrap(), "", Duration::from_secs(2));
    assert_eq!(ended.code(), Some(0), "{said:#?}");
    let at = |part: &str| {
        said.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {said:#?}"))
    };
    assert_eq!(at("serves http://127.0.0.1:"), 0);
    assert!(at("no config file was found") < at("/etc/mcpvisor/mcp_config.json"));
    let pasted: String = said[at("\"mcpServers\"")..at("in another terminal")].concat();
    let config = parsed(&pasted);
    assert!(config["mcpServers"]["time"]["command"].is_string(), "{pasted}");
}

#[test]
fn config_check_prints_every_finding() {
    let tmp = TempDir::new();
    let file = tmp.join("c.json");
    std::fs::write(&file, "{\n  \"mcpServers\": {\n    \"a\": {\"comand\": \"x\"},\n    \"b\": {\"url\": \"x/\"}\n  },\n  \"lisen\": 1\n}\n").unwrap();
    for args in [&["config", "check", &file][..], &["config", "check", "--config", &file]] {
        let ran = run(command().args(args));
        assert_eq!(ran.code, 4, "{ran:?}");
        for part in [":3:", "comand", "command", ":4:", "not a URL", "lisen", "listen"] {
            assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
        }
        assert!(ran.stdout.contains("3 |     \"a\": {\"comand\": \"x\"}"), "{}", ran.stdout);
        // The last line, or the last two where the name is long.
        assert!(ran.stdout.contains(&format!("\n{file}: 2 servers")), "{}", ran.stdout);
    }
    std::fs::write(&file, demo_config(&[("demo", "")]).to_string()).unwrap();
    assert_eq!(run(command().args(["config", "check", &file])).code, 0);
}

#[test]
fn secrets_reach_the_server_and_nothing_else() {
    const SECRET: &str = "hunter2-4711-secret";
    let mut config = demo_config(&[("demo", ""), ("broken", "--exit-on-init")]);
    for name in ["demo", "broken"] {
        config["mcpServers"][name]["env"] = json!({"TOKEN": "${env:IT_SECRET}", "PLAIN": "p"});
    }
    let mut daemon = Daemon::start_with_env(&config, &[("IT_SECRET", SECRET), ("MCPVISOR_API_KEY", "k")]);
    daemon.wait_ready(&["demo"]);
    daemon.wait_until("broken to fail", |status| server(status, "broken")["failures"] != 0);
    let ran = daemon.cli(&["call", "tool", "--tool-name=demo:env", r#"--json_args={"name":"TOKEN"}"#]);
    assert_eq!((ran.code, ran.stdout.trim()), (0, SECRET));
    let ran =
        daemon.cli(&["call", "tool", "--tool-name=demo:env", r#"--json_args={"name":"MCPVISOR_API_KEY"}"#]);
    assert_eq!(ran.stdout.trim(), "MCPVISOR_API_KEY is not set", "our own settings are not passed on");
    let mut seen = vec![daemon.status().to_string()];
    for args in [
        &["status"][..],
        &["upstream", "list"],
        &["upstream", "logs", "demo"],
        &["upstream", "logs", "broken"],
    ] {
        let ran = daemon.cli(args);
        seen.push(ran.stdout + &ran.stderr);
    }
    daemon.stop();
    let (stdout, stderr) = daemon.output();
    seen.extend([stdout, stderr]);
    let mut files = 0;
    each_file(daemon.tmp.path(), &mut |path| {
        files += 1;
        seen.push(String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
    });
    assert!(files >= 3, "config, log and instance at least");
    assert!(seen.iter().all(|text| !text.contains(SECRET)), "the secret shows");
}

fn each_file(dir: &Path, look: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            each_file(&entry.path(), look);
        } else if kind.is_file() {
            look(&entry.path());
        }
    }
}

#[test]
fn sigterm_lets_calls_end_and_says_what_it_stopped() {
    let mut daemon = Daemon::start(&demo_config(&[("a", ""), ("b", "--ignore-eof")]), &[]);
    daemon.wait_ready(&["a", "b"]);
    let client = daemon.client();
    let mut stream = client.events();
    let begun = client.begin_call(json!(1), "a__sleep", json!({"ms": 1_000}), None);
    let lost = client.begin_call(json!(2), "b__sleep", json!({"ms": 60_000}), None);
    daemon.wait_until("both calls to wait", |status| {
        server(status, "a")["calls"] == 1 && server(status, "b")["calls"] == 1
    });
    let answers = std::thread::spawn(move || (begun.answer(), lost.answer()));
    let exit = daemon.stop();
    assert_eq!(exit.code(), Some(0));
    let (begun, lost) = answers.join().unwrap();
    assert!(begun.is_ok(), "a call in flight ends within the drain: {begun:?}");
    assert_eq!(lost.unwrap_err().kind(), "stopped");
    // The start may be announced on it; then it ends in order.
    while let Some(note) = stream.next().unwrap() {
        assert_eq!(note["method"], "notifications/tools/list_changed");
    }
    let (_, stderr) = daemon.output();
    assert!(stderr.contains("shutting down: calls in flight have 5s to end"), "{stderr}");
    assert!(stderr.contains("stopped a, b in "), "{stderr}");
    daemon.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn a_second_sigterm_skips_the_wait_for_calls() {
    let mut config = demo_config(&[("a", "")]);
    config["shutdown"] = json!({"drain_seconds": 120});
    let mut daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["a"]);
    let client = daemon.client();
    let begun = client.begin_call(json!(1), "a__sleep", json!({"ms": 600_000}), None);
    daemon.wait_until("the call to wait", |status| server(status, "a")["calls"] == 1);
    let waiter = std::thread::spawn(move || begun.answer());
    processes::send(daemon.guardian_pid(), Signal::SIGTERM);
    until("the drain to begin", || {
        daemon.output().1.contains("calls in flight have 2m00s to end").then_some(())
    });
    assert!(!waiter.is_finished());
    // Far less than the drain, or this would be waited for in vain.
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(waiter.join().unwrap().unwrap_err().kind(), "stopped");
    daemon.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn a_sigterm_while_servers_are_stopped_ends_them_now() {
    let mut config = demo_config(&[("a", "--ignore-eof --ignore-term")]);
    config["resource_cleanup"] = json!({"process_kill_timeout_seconds": 120});
    let mut daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["a"]);
    processes::send(daemon.guardian_pid(), Signal::SIGTERM);
    until("the ladder to begin", || daemon.output().1.contains("stopping (life 1)").then_some(()));
    // Far less than the patience with a server, or this would be waited for in vain.
    daemon.stop();
    assert!(daemon.output().1.contains("told again to stop"), "{}", daemon.output().1);
    daemon.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn the_cli_finds_the_daemon_wherever_its_state_is() {
    // Longer than a socket's path may be.
    let tmp = TempDir::new();
    let long = tmp.join(&"a-long-directory-name/".repeat(6));
    let mut daemon = Daemon::start(&demo_config(&[("demo", "")]), &["--state-dir", &long]);
    let status = |args: &[&str]| run(command().args(args).arg("status"));
    until("the daemon to answer", || (status(&["--state-dir", &long]).code == 0).then_some(()));
    let socket = std::fs::read_to_string(Path::new(&long).join("socket")).unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{socket}");
    daemon.stop();
    assert!(!Path::new(&socket).exists(), "{socket} is left behind");
    assert_eq!(status(&["--state-dir", &long]).code, 7);
    // `data_dir` of the config says where, too.
    let mut config = demo_config(&[("demo", "")]);
    config["data_dir"] = json!(tmp.join("data"));
    let file = tmp.join("data.json");
    std::fs::write(&file, config.to_string()).unwrap();
    assert_eq!(status(&["--config", &file]).code, 7);
    let daemon = Daemon::start(&config, &["--state-dir", &tmp.join("data")]);
    let found = status(&["--config", &file]);
    assert_eq!(found.code, 0, "{found:?}");
    drop(daemon);
}

#[test]
fn servers_of_a_group_are_commanded_together() {
    let mut config = demo_config(&[("git", ""), ("mail", ""), ("time", "")]);
    config["mcpServers"]["git"]["groups"] = json!(["dev", "office"]);
    config["mcpServers"]["mail"]["groups"] = json!(["office"]);
    let daemon = Daemon::start(&config, &[]);
    let before = daemon.wait_ready(&["git", "mail", "time"]);
    assert_eq!(server(&before, "git")["groups"], json!(["dev", "office"]));
    let ran = daemon.cli(&["upstream", "disable", "--group", "office", "--wait"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "git: disabled\nmail: disabled\n"), "{ran:?}");
    assert_eq!(server(&daemon.status(), "time")["state"], "ready");
    // Named and in the group: once.
    let ran = daemon.cli(&["upstream", "enable", "mail", "--group", "office", "--wait"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    let ran = daemon.cli(&["reconnect", "--group", "dev"]);
    assert!(ran.code == 0 && ran.stdout.contains("git") && !ran.stdout.contains("mail"), "{ran:?}");
    let ran = daemon.cli(&["upstream", "restart", "--group", "ofice"]);
    assert!(ran.code == 2 && ran.stderr.contains("did you mean `office`?"), "{ran:?}");
    assert_eq!(daemon.cli(&["upstream", "restart"]).code, 2);
    // The same over REST: all at once, and one that cannot is said so.
    assert_eq!(
        body(&get(&daemon, "/api/v1/groups"), 200),
        json!({"groups": [{"name": "dev", "servers": ["git"]}, {"name": "office", "servers": ["git", "mail"]}]})
    );
    daemon.cli(&["upstream", "disable", "mail", "--wait"]);
    let came = body(&post(&daemon, "/api/v1/groups/office/restart?wait=30s", ""), 202);
    assert_eq!(came["group"], "office");
    assert_eq!((&came["servers"][0]["name"], &came["servers"][0]["state"]), (&json!("git"), &json!("ready")));
    assert_eq!(came["servers"][1]["error"]["kind"], "not_ready", "{came:#}");
    let unknown = body(&post(&daemon, "/api/v1/groups/ofice/restart", ""), 404);
    assert_eq!(unknown["error"]["hint"], "did you mean `office`?");
}

#[test]
fn what_each_server_uses_is_shown() {
    let daemon = Daemon::start(&demo_config(&[("a", ""), ("forks", "--child")]), &[]);
    daemon.wait_ready(&["a", "forks"]);
    let status = daemon.status();
    let usage = |name: &str, what: &str| server(&status, name)["usage"][what].as_u64().unwrap();
    assert_eq!((usage("a", "processes"), usage("forks", "processes")), (1, 2), "{status:#}");
    assert!(usage("a", "rss_kib") > 100 && usage("a", "fds") >= 3, "{status:#}");
    assert_eq!(status["usage"]["processes"], 1, "the daemon alone: {status:#}");
    let text = daemon.cli(&["status", "--usage"]).stdout;
    assert!(text.contains("MEMORY") && text.contains("(mcpvisor)"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_main_log_can_be_json_and_is_rotated() {
    let mut config = demo_config(&[("a", "")]);
    config["logging"] = json!({"format": "json", "max_files": 0});
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["a"]);
    let path = Path::new(&daemon.state_dir()).join("logs/main.log");
    // It is written a moment after it was said.
    let log = until("its line to be written", || {
        std::fs::read_to_string(&path).ok().filter(|log| log.contains("ready") && log.ends_with('\n'))
    });
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert!(humantime::parse_rfc3339(line["at"].as_str().unwrap()).is_ok(), "{line}");
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}
