//! The command line as a user meets it: the real binary against a daemon of canned answers on a real Unix socket.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test runs the binary as any other program would, and fails by panicking"
)]

use mcpvisor::base::time::Wall;
use mcpvisor::cli::command::COMMANDS;
use mcpvisor::cli::help;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory that goes with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mcpvisor-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A directory left in /tmp is not worth a panic in a drop.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Answers each `METHOD target` with its canned status and body; anything else with 404 and an error object.
/// Its thread ends when `Drop` connects and says nothing.
struct Daemon {
    dir: Dir,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

const UNKNOWN: &str =
    r#"{"error":{"kind":"unknown","message":"no server of that name","hint":"did you mean time?"}}"#;

impl Daemon {
    fn with(answers: &[(&str, u16, &str)]) -> Daemon {
        let dir = Dir::new();
        let socket = dir.0.join("mcpvisor.sock");
        Daemon::at(dir, &socket, answers)
    }

    fn at(dir: Dir, socket: &Path, answers: &[(&str, u16, &str)]) -> Daemon {
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let answers: BTreeMap<String, (u16, String)> = answers
            .iter()
            .map(|(key, status, body)| ((*key).to_owned(), (*status, (*body).to_owned())))
            .collect();
        let thread = std::thread::spawn(move || {
            while let Some((key, body, mut stream)) = next_request(&listener) {
                let (status, answer) =
                    answers.get(&key).map_or((404, UNKNOWN), |(status, body)| (*status, body));
                log.lock().unwrap().push(if body.is_empty() { key.clone() } else { format!("{key} {body}") });
                // A command that does not wait for its answer is one that the test sees fail.
                let _ =
                    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            }
        });
        Daemon { dir, asked, thread: Some(thread) }
    }

    fn run(&self, args: &[&str]) -> Ended {
        mcpvisor(&self.dir.0, args)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let socket = fs::read_to_string(self.dir.0.join("socket")).map(PathBuf::from);
        drop(UnixStream::connect(socket.unwrap_or_else(|_| self.dir.0.join("mcpvisor.sock"))));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// `None` from a peer that said nothing.
fn next_request(listener: &UnixListener) -> Option<(String, String, UnixStream)> {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let key = format!("{} {}", words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            Some(_) => (),
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some((key, String::from_utf8(body).unwrap(), reader.into_inner()))
}

#[derive(Debug, PartialEq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(state_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcpvisor"));
    for name in ["MCPVISOR_CONFIG", "MCPVISOR_LISTEN", "MCPVISOR_LOG_LEVEL", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("MCPVISOR_STATE_DIR", state_dir).args(args).stdin(Stdio::null());
    command
}

fn mcpvisor(state_dir: &Path, args: &[&str]) -> Ended {
    let output = command(state_dir, args).output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ended(code: i32, stdout: &str, stderr: &str) -> Ended {
    Ended { code, stdout: stdout.trim_start_matches('\n').to_owned(), stderr: stderr.to_owned() }
}

/// Now and a bit: far enough that `2h05m` stays `2h05m` however long the test takes.
fn around_now(minutes: i64, seconds: i64) -> String {
    let now = mcpvisor::sys::clock::wall().0;
    Wall(now.checked_add_signed((minutes * 60 + seconds) * 1000).unwrap()).rfc3339()
}

fn status() -> String {
    let long_ago = around_now(-125, -10);
    let in_long = around_now(125, 50);
    format!(
        concat!(
            r#"{{"version":"0.1.0","pid":4000,"seq":17,"uptime_ms":200400,"listen":"127.0.0.1:8080","new":1,"#,
            r#""config":{{"path":"/home/me/.config/mcpvisor/mcp_config.json","loads":1,"findings":[{{}},{{}}]}},"#,
            r#""engines":[],"servers":["#,
            r#"{{"name":"time","slug":"time","state":"ready","phase":null,"since":"{0}","pid":4711,"life":3,"tools":2,"#,
            r#""restarts":1,"failures":1,"consecutive_failures":0,"last_success_at":null,"last_error":"#,
            r#"{{"kind":"exited","message":"old","hint":"","at":"{0}"}},"next_retry_at":null,"reason":null}},"#,
            r#"{{"name":"git","slug":"git","state":"backoff","phase":null,"since":"{0}","pid":null,"life":null,"#,
            r#""tools":0,"restarts":4,"failures":5,"consecutive_failures":5,"last_success_at":null,"last_error":"#,
            r#"{{"kind":"exited","message":"git: exited with code 1: No module named mcp_server_git","#,
            r#""hint":"try: pip install mcp-server-git","at":"{0}"}},"next_retry_at":"{1}","reason":null}},"#,
            r#"{{"name":"web","slug":"web","state":"parked","phase":null,"since":"{0}","pid":null,"life":null,"#,
            r#""tools":0,"restarts":0,"failures":0,"consecutive_failures":0,"last_success_at":null,"#,
            r#""last_error":null,"next_retry_at":null,"reason":{{"kind":"not_supported","#,
            r#""message":"web: \"url\" is not yet supported","hint":""}}}},"#,
            r#"{{"name":"a/b c","slug":"a-b-c","state":"connecting","phase":"handshaking","since":"{0}","pid":5000,"#,
            r#""life":9,"tools":0,"restarts":0}}]}}"#
        ),
        long_ago, in_long
    )
}

const TABLE: &str = "\
SERVER  STATE                     SINCE   PID  TOOLS  RESTARTS
time    ready                     2h05m  4711      2         1
git     backoff                   2h05m     -      0         4
    git: exited with code 1: No module named mcp_server_git (try: pip install
    mcp-server-git); retry in 2h05m
web     parked                    2h05m     -      0         0
    web: \"url\" is not yet supported
a/b c   connecting (handshaking)  2h05m  5000      0         0
";

const HEADER: &str = "\
mcpvisor 0.1.0, pid 4000, up 3m20s, http://127.0.0.1:8080/mcp,
  config /home/me/.config/mcpvisor/mcp_config.json (loaded 1x, 2 findings)
";

#[test]
fn status_says_why() {
    let json = status();
    let daemon =
        Daemon::with(&[("GET /api/v1/status", 200, &json), ("GET /api/v1/status?usage=1", 200, &json)]);
    assert_eq!(daemon.run(&["status"]), ended(0, &format!("{HEADER}\n{TABLE}"), ""));
    assert_eq!(daemon.run(&["upstream", "list"]), ended(0, TABLE, ""));
    assert_eq!(daemon.run(&["status", "--json"]), ended(0, &format!("{json}\n"), ""));
    let servers = &json[json.find(r#"[{"name""#).unwrap()..json.len() - 1];
    assert_eq!(daemon.run(&["upstream", "list", "--json"]), ended(0, &format!("{servers}\n"), ""));
    let (plain, with_usage) = ("GET /api/v1/status", "GET /api/v1/status?usage=1");
    assert_eq!(daemon.asked(), [plain, plain, with_usage, plain]);
}

#[test]
fn status_shows_what_is_wrong_with_the_state_and_what_is_owed() {
    let removal = |name: &str, rest: &str| {
        let (engine, id) = ("unix:///run/docker.sock", "0123456789abcdef".repeat(4));
        let since = around_now(-125, -10);
        format!(
            r#"{{"engine":"{engine}","id":"{id}","name":"{name}","server":"git","since":"{since}",{rest}}}"#
        )
    };
    let json = status();
    let json = format!(
        r#"{},"store":{{"state":"memory","kind":"busy","message":"open /s/state.db: database is locked","hint":"end the program that has it open"}},"removals":[{},{}]}}"#,
        &json[..json.len() - 1],
        removal("mcpvisor-1-git-a", r#""tries":7,"last_error":"driver failed","state":"owed""#),
        removal("b", r#""tries":0,"last_error":null,"state":"unverified""#),
    );
    let daemon = Daemon::with(&[("GET /api/v1/status", 200, &json)]);
    let trouble = "state: open /s/state.db: database is locked (end the program that has it open)\n";
    let owed = "
still to be removed:
    container mcpvisor-1-git-a (0123456789ab) on unix:///run/docker.sock, since
    2h05m, 7 tries: driver failed
    container b (0123456789ab) on unix:///run/docker.sock, since 2h05m: removed,
    and not seen to be gone
";
    assert_eq!(daemon.run(&["status"]), ended(0, &format!("{HEADER}{trouble}\n{TABLE}{owed}"), ""));
}

#[test]
fn a_terminal_gets_its_width_and_colour() {
    let json = status();
    let daemon = Daemon::with(&[("GET /api/v1/status", 200, &json)]);
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 66, ws_xpixel: 0, ws_ypixel: 0 };
    let on_terminal = |no_color: bool| {
        let pty = nix::pty::openpty(&size, None).unwrap();
        let mut command = command(&daemon.dir.0, &["upstream", "list"]);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        assert!(command.stdout(pty.slave).status().unwrap().success());
        drop(command);
        let mut text = Vec::new();
        // The last read says EIO, which is how a terminal without a program ends.
        let _ = fs::File::from(pty.master).read_to_end(&mut text);
        String::from_utf8(text).unwrap().replace("\r\n", "\n")
    };
    let expected = "\
SERVER  STATE                     SINCE   PID  TOOLS  RESTARTS
time    ready                     2h05m  4711      2         1
git     backoff                   2h05m     -      0         4
    git: exited with code 1: No module named mcp_server_git (try:
    pip install mcp-server-git); retry in 2h05m
web     parked                    2h05m     -      0         0
    web: \"url\" is not yet supported
a/b c   connecting (handshaking)  2h05m  5000      0         0
";
    assert_eq!(on_terminal(true), expected);
    let coloured = on_terminal(false);
    assert!(coloured.contains("\x1b[32mready                   \x1b[0m"), "{coloured:?}");
    assert!(coloured.contains("\x1b[31mbackoff                 \x1b[0m"), "{coloured:?}");
}

#[test]
fn what_came_of_each_server_is_told_in_their_order() {
    let git = r#"{"name":"git","state":"backoff","last_error":{"kind":"exited","message":"git: exited with code 1","hint":"look"}}"#;
    let daemon = Daemon::with(&[
        ("POST /api/v1/servers/time/restart", 202, r#"{"name":"time","life":7,"state":"stopping"}"#),
        (
            "POST /api/v1/servers/time/restart?wait=30000ms",
            202,
            r#"{"name":"time","life":7,"state":"ready"}"#,
        ),
        ("POST /api/v1/servers/git/enable?wait=500ms", 202, r#"{"name":"git","life":8,"state":"backoff"}"#),
        ("POST /api/v1/servers/a%2Fb%20c/disable", 202, r#"{"name":"a/b c","life":null,"state":"stopping"}"#),
        ("GET /api/v1/servers/git", 200, git),
    ]);
    let check = |args: &[&str], expected| assert_eq!(daemon.run(args), expected, "{args:?}");
    check(&["upstream", "restart", "time"], ended(0, "time: restarting (life 7)\n", ""));
    check(&["upstream", "disable", "a/b c"], ended(0, "a/b c: disabling\n", ""));
    check(&["upstream", "restart", "time", "--wait"], ended(0, "time: ready (life 7)\n", ""));
    check(
        &["upstream", "enable", "--wait=500ms", "git"],
        ended(1, "git: backoff (life 8): git: exited with code 1 (look)\n", ""),
    );
    check(
        &["upstream", "restart", "tiem"],
        ended(1, "", "mcpvisor: restart tiem: no server of that name (did you mean time?)\n"),
    );
    check(
        &["upstream", "restart", "tiem", "time"],
        ended(
            1,
            "time: restarting (life 7)\n",
            "mcpvisor: restart tiem: no server of that name (did you mean time?)\n",
        ),
    );
}

#[test]
fn reconnect_shows_how_each_went() {
    let answer = concat!(
        r#"{"reason":"","duration_ms":1234,"totals":{"servers":4,"ok":1,"failed":1,"pending":1,"skipped":1},"results":["#,
        r#"{"name":"time","action":"tried","outcome":"ok","state_before":"backoff","state_after":"ready","#,
        r#""skipped":null,"duration_ms":850,"error":null},"#,
        r#"{"name":"git","action":"tried","outcome":"failed","state_before":"waiting","state_after":"waiting","#,
        r#""skipped":null,"duration_ms":1200,"error":{"kind":"engine_away","message":"engine unix:///s is down: "#,
        r#"connect: no such file","hint":"start it"}},"#,
        r#"{"name":"slow","action":"joined","outcome":"pending","state_before":"connecting","#,
        r#""state_after":"connecting","skipped":null,"duration_ms":1234,"error":{"kind":"not_ready","#,
        r#""message":"slow is connecting after 1s","hint":""}},"#,
        r#"{"name":"off","action":"skipped","outcome":"skipped","state_before":"disabled","state_after":"disabled","#,
        r#""skipped":"it is disabled","duration_ms":0,"error":null}]}"#
    );
    let fine = r#"{"duration_ms":9,"totals":{"servers":1,"ok":1},"results":[{"name":"time","action":"probed",
        "outcome":"ok","state_before":"ready","state_after":"ready","duration_ms":9}]}"#;
    let none = r#"{"duration_ms":0,"totals":{"servers":0},"results":[]}"#;
    let daemon = Daemon::with(&[
        ("POST /api/v1/reconnect?wait=30000ms", 200, answer),
        ("POST /api/v1/reconnect?wait=2000ms", 200, fine),
        ("POST /api/v1/reconnect?wait=0ms", 200, none),
        (
            "POST /api/v1/reconnect?wait=5000ms",
            400,
            r#"{"error":{"kind":"unknown","message":"what?","hint":""}}"#,
        ),
    ]);
    let check = |args: &[&str], expected| assert_eq!(daemon.run(args), expected, "{args:?}");
    let table = "\
SERVER  STATE           BEFORE   ACTION   TOOK
time    ready          backoff    tried  850ms
git     waiting        waiting    tried     1s
    engine unix:///s is down: connect: no such file (start it)
slow    connecting  connecting   joined     1s
    slow is connecting after 1s
off     disabled      disabled  skipped      -
    it is disabled

1 of 4 back, 1 failed, 1 pending, 1 skipped, took 1s
";
    check(&["reconnect", "--all", "--reason", "it rained"], ended(1, table, ""));
    check(&["reconnect", "--json"], ended(1, &format!("{answer}\n"), ""));
    let table =
        "SERVER  STATE  BEFORE  ACTION  TOOK\ntime    ready   ready  probed   9ms\n\n1 of 1 back, took 9ms\n";
    check(&["reconnect", "time", "--wait", "2s"], ended(0, table, ""));
    let nothing = "nothing to do: no server lives on an engine (--all means every server)\n";
    check(&["reconnect", "--engine=unix:///s", "--wait=0"], ended(3, nothing, ""));
    assert_eq!(
        daemon.asked(),
        [
            r#"POST /api/v1/reconnect?wait=30000ms {"all":true,"reason":"it rained"}"#,
            r#"POST /api/v1/reconnect?wait=30000ms {"engine":true}"#,
            r#"POST /api/v1/reconnect?wait=2000ms {"servers":["time"]}"#,
            r#"POST /api/v1/reconnect?wait=0ms {"engine":"unix:///s"}"#,
        ]
    );
    check(&["reconnect", "--wait=5"], ended(1, "", "mcpvisor: what?\n"));
    check(
        &["reconnect", "tiem", "--wait=7"],
        ended(2, "", "mcpvisor: no server of that name (did you mean time?)\n"),
    );
    assert_eq!(daemon.run(&["reconnect", "--all", "time"]).code, 2);
}

#[test]
fn logs_are_printed_as_they_are() {
    let daemon = Daemon::with(&[
        ("GET /api/v1/servers/git/logs?lines=50", 200, r#"{"lines":["one","\u001b[31mtwo"]}"#),
        ("GET /api/v1/servers/git/logs?lines=1", 200, r#"{"lines":["two"]}"#),
    ]);
    assert_eq!(daemon.run(&["upstream", "logs", "git"]), ended(0, "one\n\x1b[31mtwo\n", ""));
    assert_eq!(daemon.run(&["upstream", "logs", "git", "--lines", "1"]), ended(0, "two\n", ""));
}

#[test]
fn tools_are_listed_and_called() {
    let tools = concat!(
        r#"{"tools":[{"name":"time__now","server":"time","tool":"now","description":"\n Tells the time.\nMore."},"#,
        r#"{"name":"time__a_tool_with_a_name_of_forty_and_more","server":"time","tool":"x.y","description":null}]}"#
    );
    let daemon = Daemon::with(&[
        ("GET /api/v1/tools", 200, tools),
        ("GET /api/v1/tools?server=time", 200, tools),
        ("GET /api/v1/tools?server=none", 200, r#"{"tools":[]}"#),
        (
            "POST /api/v1/tools/call",
            200,
            r#"{"content":[{"type":"text","text":"12:00"},{"type":"image","data":"QUJD","mimeType":"image/png"}]}"#,
        ),
        (
            "POST /api/v1/tools/call?timeout=2000ms",
            200,
            r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#,
        ),
    ]);
    let check = |args: &[&str], expected| assert_eq!(daemon.run(args), expected, "{args:?}");
    let listed = "\
time__now                                 Tells the time.
time__a_tool_with_a_name_of_forty_and_more
";
    check(&["tools", "list"], ended(0, listed, ""));
    check(&["tools", "list", "--server=none"], ended(0, "no tools\n", ""));
    check(&["tools", "list", "--json"], ended(0, &format!("{tools}\n"), ""));
    daemon.asked();
    let text = "12:00\n[image: image/png, 4 bytes of base64]\n";
    check(&["call", "tool", "--tool-name=time__now", "--json_args={ \"tz\": \"UTC\"}"], ended(0, text, ""));
    assert_eq!(
        daemon.asked(),
        [r#"POST /api/v1/tools/call {"name":"time__now","arguments":{ "tz": "UTC"}}"#]
    );
    check(&["call", "tool", "-t", "time:now"], ended(0, text, ""));
    assert_eq!(
        daemon.asked(),
        ["GET /api/v1/tools?server=time", r#"POST /api/v1/tools/call {"name":"time__now","arguments":{}}"#]
    );
    check(&["call", "tool", "-t", "time__now", "--timeout=2"], ended(1, "no\n", ""));
    check(
        &["call", "tool", "-t", "time:nwo"],
        ended(1, "", "mcpvisor: call tool: time has no tool `nwo` (did you mean time:now?)\n"),
    );
    daemon.asked();
    for wrong in [
        &["call", "tool"][..],
        &["call", "tool", "-t", "x", "-j", "[1]"],
        &["call", "tool", "-t", "x", "-j", "{"],
    ] {
        assert_eq!(daemon.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(daemon.asked(), [""; 0]);
}

#[test]
fn failures_have_their_exit_codes() {
    let daemon = Daemon::with(&[
        ("GET /api/v1/status", 403, r#"{"error":{"kind":"unknown","message":"not for you","hint":""}}"#),
        ("GET /api/v1/tools", 500, "<html>"),
        (
            "POST /api/v1/tools/call",
            503,
            r#"{"error":{"kind":"engine_away","message":"the engine is away","hint":"start it"}}"#,
        ),
        ("GET /api/v1/servers/x/logs?lines=50", 200, "not json"),
    ]);
    let check =
        |args: &[&str], code, stderr| assert_eq!(daemon.run(args), ended(code, "", stderr), "{args:?}");
    check(&["status"], 5, "mcpvisor: not for you\n");
    check(&["tools", "list"], 1, "mcpvisor: the daemon answered 500\n");
    check(&["call", "tool", "-t", "x"], 8, "mcpvisor: the engine is away (start it)\n");
    check(
        &["upstream", "logs", "x"],
        1,
        "mcpvisor: read the daemon's answer: expected ident at line 1 column 2 (is the daemon of another version? try --json)\n",
    );
    check(&["statsu"], 2, "mcpvisor: unknown command `statsu` (did you mean `status`? see: mcpvisor help)\n");
}

#[test]
fn without_a_daemon() {
    let dir = Dir::new();
    let socket = dir.0.join("mcpvisor.sock");
    let hint = "(start it with: mcpvisor serve; if it runs elsewhere, give its --state-dir)";
    let expected = |why: &str| {
        let text = format!("mcpvisor: no daemon answers on {}: {why} {hint}\n", socket.display());
        ended(7, "", &text)
    };
    assert_eq!(mcpvisor(&dir.0, &["status"]), expected("no such socket"));
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(mcpvisor(&dir.0, &["status"]), expected("nobody listens"));
    assert_eq!(mcpvisor(&dir.0, &["upstream", "restart", "a", "b"]), expected("nobody listens"));
}

#[test]
fn a_daemon_that_dies_in_its_answer_is_told() {
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.0.join("mcpvisor.sock")).unwrap();
    let thread = std::thread::spawn(move || {
        let (_, _, mut stream) = next_request(&listener).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{{\"ver").unwrap();
    });
    let ended = mcpvisor(&dir.0, &["status", "--json"]);
    thread.join().unwrap();
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.contains("closed in the middle of a reply (did it just stop?)"), "{}", ended.stderr);
}

#[test]
fn a_long_state_directory_points_to_its_socket() {
    let short = Dir::new();
    let mut long = Dir::new();
    let root = long.0.clone();
    long.0 = root.join("a-long-name".repeat(12));
    fs::create_dir(&long.0).unwrap();
    let missing = mcpvisor(&long.0, &["status"]);
    assert_eq!(missing.code, 7);
    assert!(missing.stderr.contains("mcpvisor.sock: no such socket"), "{}", missing.stderr);
    let socket = short.0.join("s");
    fs::write(long.0.join("socket"), format!("{}\n", socket.display())).unwrap();
    let daemon = Daemon::at(short, &socket, &[("GET /api/v1/tools", 200, r#"{"tools":[]}"#)]);
    assert_eq!(mcpvisor(&long.0, &["tools", "list"]), ended(0, "no tools\n", ""));
    fs::write(daemon.dir.0.join("socket"), socket.to_str().unwrap()).unwrap();
    long.0 = root;
}

#[test]
fn a_reader_that_left_stops_nothing() {
    let daemon = Daemon::with(&[
        ("POST /api/v1/servers/a/restart", 202, r#"{"name":"a","life":1,"state":"queued"}"#),
        ("POST /api/v1/servers/b/restart", 202, r#"{"name":"b","life":2,"state":"queued"}"#),
    ]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&daemon.dir.0, &["upstream", "restart", "a", "b"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn();
    let output = output.unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(daemon.asked(), ["POST /api/v1/servers/a/restart", "POST /api/v1/servers/b/restart"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&daemon.dir.0, &["help"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr, "mcpvisor: write to stdout: No space left on device (os error 28)\n");
}

/// Compares with the committed text; `UPDATE_EXPECT=1` writes it anew.
fn check_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, committed, "{} is not what the table says; UPDATE_EXPECT=1 writes it", path.display());
}

#[test]
fn help_is_as_committed() {
    let dir = Dir::new();
    let mut topics: Vec<Vec<&str>> = vec![vec![], vec!["upstream"]];
    topics.extend(COMMANDS.iter().map(|command| command.path.to_vec()));
    for topic in topics {
        let words: Vec<String> = topic.iter().map(|word| (*word).to_owned()).collect();
        let name = if words.is_empty() { "mcpvisor".to_owned() } else { words.join("-") };
        let text = help::topic(&words).unwrap();
        check_file(&format!("tests/it/data/help/{name}.txt"), &text);
        let too_wide =
            text.lines().find(|line| line.chars().count() > 80 && !line.starts_with("  mcpvisor "));
        assert_eq!(too_wide, None, "{name}");
    }
    check_file("docs/cli.md", &help::markdown());
    let overview = help::topic(&[]).unwrap();
    for args in [&[][..], &["help"], &["--help"], &["-h"]] {
        assert_eq!(mcpvisor(&dir.0, args), ended(0, &overview, ""), "{args:?}");
    }
    let restart = help::topic(&["upstream".to_owned(), "restart".to_owned()]).unwrap();
    for args in [&["help", "upstream", "restart"][..], &["upstream", "restart", "--help"]] {
        assert_eq!(mcpvisor(&dir.0, args), ended(0, &restart, ""), "{args:?}");
    }
    assert_eq!(
        mcpvisor(&dir.0, &["help", "upstrem", "list"]),
        ended(2, "", "mcpvisor: unknown command `upstrem` (did you mean `upstream`? see: mcpvisor help)\n")
    );
    let version = format!("mcpvisor {}\n", env!("CARGO_PKG_VERSION"));
    for args in [["version"], ["--version"], ["-V"]] {
        assert_eq!(mcpvisor(&dir.0, &args), ended(0, &version, ""), "{args:?}");
    }
}
