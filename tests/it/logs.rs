//! The logs: whatever becomes of the disk and of our stderr, servers, calls and the shutdown go on; nobody's secrets are
//! in them; and what is said of a server is said short.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, start plain processes and read the clock"
)]

use crate::support::daemon::{Daemon, command, server};
use crate::support::processes::{self, MARK};
use crate::support::{TempDir, demo_config, demo_entry, until, until_within};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Where the logs of a daemon in this directory will be.
fn logs(tmp: &TempDir) -> String {
    let logs = tmp.join("state/logs");
    fs::create_dir_all(&logs).unwrap();
    logs
}

fn logged(daemon: &Daemon, file: &str) -> String {
    fs::read_to_string(Path::new(&daemon.state_dir()).join("logs").join(file)).unwrap_or_default()
}

/// Every way on which something may depend on a log.
fn check_all_goes_on(daemon: &mut Daemon) {
    daemon.wait_ready(&["a", "b"]);
    let mut client = daemon.client();
    for n in 0..20 {
        let text = format!("call {n}");
        assert_eq!(client.text(["a__echo", "b__echo"][n % 2], json!({ "text": text })), text);
    }
    let restarted = daemon.cli(&["upstream", "restart", "a"]);
    assert_eq!(restarted.code, 0, "{restarted:#?}");
    daemon.wait_ready(&["a", "b"]);
    let shown = daemon.cli(&["upstream", "logs", "b"]);
    assert_eq!(shown.code, 0, "{shown:#?}");
    let begun = Instant::now();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    daemon.assert_nothing_left(Duration::from_secs(10));
}

#[test]
fn a_disk_that_does_not_answer_stops_nobody() {
    // Nobody reads this pipe: whoever opens it waits for ever, as on a file system that is frozen.
    for frozen in ["main.log", "server-a.log"] {
        let tmp = TempDir::new();
        let pipe = format!("{}/{frozen}", logs(&tmp));
        nix::unistd::mkfifo(Path::new(&pipe), Mode::S_IRWXU).unwrap();
        let config = demo_config(&[("a", "--stderr-lines 50000"), ("b", "--stderr-lines 1000")]);
        check_all_goes_on(&mut Daemon::start_in(tmp, &config, &[]));
    }
}

#[test]
fn a_full_disk_stops_nobody_and_what_is_missing_is_said() {
    let tmp = TempDir::new();
    let logs = logs(&tmp);
    for full in ["main.log", "server-a.log"] {
        std::os::unix::fs::symlink("/dev/full", format!("{logs}/{full}")).unwrap();
    }
    let mut daemon = Daemon::start_in(tmp, &demo_config(&[("a", ""), ("b", "")]), &[]);
    daemon.wait_ready(&["a", "b"]);
    // There is room again.
    for full in ["main.log", "server-a.log"] {
        fs::remove_file(format!("{logs}/{full}")).unwrap();
    }
    assert_eq!(daemon.cli(&["upstream", "restart", "a"]).code, 0);
    daemon.wait_ready(&["a"]);
    for file in ["main.log", "server-a.log"] {
        let text = until("what is missing to be said", || {
            let text = logged(&daemon, file);
            text.contains("ready").then_some(text)
        });
        let first = text.lines().next().unwrap();
        assert!(first.contains("not written: No space left on device"), "{file}: {text}");
    }
    check_all_goes_on(&mut daemon);
}

#[test]
fn a_stderr_that_nobody_reads_stops_nobody() {
    let tmp = TempDir::new();
    let mark = tmp.path().file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(tmp.join("mcp_config.json"), demo_config(&[("a", ""), ("b", "")]).to_string()).unwrap();
    let (unread, stderr) = std::io::pipe().unwrap();
    // A page of it is full after a few lines.
    nix::fcntl::fcntl(&unread, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut serve = command();
    serve.args(["serve", "--config", &tmp.join("mcp_config.json"), "--state-dir", &tmp.join("state")]);
    serve.args(["--listen", "127.0.0.1:0", "--log-level", "debug"]).env(MARK, &mark);
    let mut serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let cli = |args: &[&str]| {
        crate::support::daemon::run(command().args(["--state-dir", &tmp.join("state")]).args(args))
    };
    let ready = |status: &str| status.matches("ready").count() >= 2;
    until("both to be ready", || ready(&cli(&["status"]).stdout).then_some(()));
    until("more to be said than the pipe holds", || {
        let restarted = cli(&["upstream", "restart", "a", "b"]);
        assert_eq!(restarted.code, 0, "{restarted:#?}");
        let said = fs::metadata(tmp.join("state/logs/main.log")).unwrap().len();
        (said > 4 * 4096).then_some(())
    });
    until("both to be ready again", || ready(&cli(&["status"]).stdout).then_some(()));
    processes::send(serve.id(), Signal::SIGTERM);
    let end = until_within("serve to end", Duration::from_secs(15), || serve.try_wait().unwrap());
    assert!(end.success(), "{end}");
    processes::assert_none_left(&mark, tmp.join("pids"), Duration::from_secs(10));
    drop(unread);
}

#[test]
fn who_is_noisy_takes_no_line_from_the_others() {
    let config = demo_config(&[("noisy", "--stderr-lines 500000"), ("quiet", "--stats")]);
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_ready(&["noisy", "quiet"]);
    for n in 1..=5 {
        assert_eq!(daemon.cli(&["upstream", "restart", "quiet"]).code, 0);
        daemon.wait_until("it to be there again", |status| {
            let row = server(status, "quiet");
            row["state"] == "ready" && row["restarts"] == n
        });
        let log = daemon.cli(&["upstream", "logs", "quiet"]).stdout;
        assert_eq!(log.matches(" ready ").count(), n + 1, "{log}");
        assert!(!log.contains("not written"), "{log}");
    }
    let log = until("all of it to be written", || {
        let log = logged(&daemon, "main.log");
        (log.matches("quiet: ready").count() >= 6).then_some(log)
    });
    assert!(!log.contains("not written"), "{log}");
}

/// It says what it was given, in many ways, and ends.
const BLABBER: &str = r#"
echo "plain $API_TOKEN" >&2
printf 'in two %s' "${API_TOKEN%??????}" >&2; sleep 0.05; printf '%s pieces\n' "${API_TOKEN#??????????????}" >&2
echo "url https://me:$API_TOKEN@db.example/x?token=$1" >&2
head -c 4090 /dev/zero | tr '\0' x >&2; echo "$API_TOKEN" >&2
echo "not json: $API_TOKEN"
echo "argument $2" >&2
exit 3
"#;

#[test]
fn what_is_secret_is_nowhere_to_be_read() {
    let token = "tok-4f9a8b7c6d5e4f3a";
    let config = json!({
        "auto_disable": {"startup_attempts": 2},
        "mcpServers": {
            "blabber": {
                "command": "/bin/sh",
                "args": ["-c", BLABBER, "--", "short", "--password=pw-of-arguments"],
                "env": {"API_TOKEN": token, "LANG": "C.UTF-8"},
            },
        },
    });
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_state("blabber", "auto_disabled");
    let all = [
        ("log", daemon.cli(&["upstream", "logs", "blabber"]).stdout),
        ("server's log", logged(&daemon, "server-blabber.log")),
        ("main log", logged(&daemon, "main.log")),
        ("output", daemon.output().1),
        ("status", daemon.cli(&["status", "--json"]).stdout),
        ("events", daemon.cli(&["events", "--json"]).stdout),
    ];
    for (what, text) in &all {
        assert!(text.contains("blabber"), "{what}: {text}");
        for secret in [token, &token[..10], "pw-of-arguments", "short@", "token=short"] {
            assert!(!text.contains(secret), "{secret} is in {what}: {text}");
        }
    }
    let log = &all[1].1;
    for said in
        ["plain ***", "in two *** pieces", "https://me:***@db.example/x?token=***", "argument --password=***"]
    {
        assert!(log.contains(said), "{said} is not in {log}");
    }
    assert!(all[4].1.contains("plain ***") && all[5].1.contains("plain ***"), "{}", all[4].1);
}

/// A launcher whose package is there until a file is.
fn vanishing(flag: &str) -> Value {
    let mut entry = demo_entry("");
    let script = format!("[ -e {flag} ] && {{ echo 'npm error code E404' >&2; exit 1; }}; exec \"$@\"");
    let args = entry["args"].as_array().unwrap().clone();
    let mut all = vec![json!("-c"), json!(script), json!("--"), entry["command"].clone()];
    all.extend(args);
    entry["command"] = json!("/bin/sh");
    entry["args"] = json!(all);
    entry
}

#[test]
fn a_package_that_was_taken_away_is_given_up_soon_though_it_has_worked() {
    let tmp = TempDir::new();
    let flag = tmp.join("gone");
    let mut entry = vanishing(&flag);
    entry["auto_disable"] = json!({"startup_attempts": 2, "failure_threshold": 50});
    let daemon = Daemon::start(&json!({"mcpServers": {"gone": entry}}), &[]);
    let ready = daemon.wait_ready(&["gone"]);
    fs::write(&flag, "").unwrap();
    daemon.kill9(server(&ready, "gone")["pid"].as_u64().unwrap() as u32);
    let row = daemon.wait_state("gone", "auto_disabled");
    assert_eq!(row["reason"]["kind"], "package_not_found", "{row:#}");
    // One end by our hand, and two tries.
    assert_eq!(row["failures"], 3, "{row:#}");
    let hint = row["reason"]["hint"].as_str().unwrap();
    assert!(hint.contains("name or version in `args`"), "{hint}");
}

#[test]
fn logs_of_servers_that_are_gone_make_room_first() {
    let tmp = TempDir::new();
    let logs = logs(&tmp);
    let piece = vec![b'x'; 600 << 10];
    for name in ["server-gone.log", "server-gone.log.1", "server-a.log.1", "main.log.1", "other.txt"] {
        fs::write(format!("{logs}/{name}"), &piece).unwrap();
    }
    let mut config = demo_config(&[("a", "")]);
    config["logging"] = json!({"max_total_mb": 1});
    let daemon = Daemon::start_in(tmp, &config, &[]);
    daemon.wait_ready(&["a"]);
    let exists = |name: &str| Path::new(&format!("{logs}/{name}")).exists();
    until("what is too much to go", || {
        (!exists("server-gone.log") && !exists("server-gone.log.1")).then_some(())
    });
    assert!(exists("server-a.log.1") && exists("main.log.1") && exists("other.txt"));
}

#[test]
fn a_report_says_why_a_server_was_given_up() {
    let token = "tok-4f9a8b7c6d5e4f3a";
    let mut config = json!({
        "auto_disable": {"startup_attempts": 2},
        "mcpServers": {
            "git": {"command": "/bin/sh", "args": ["-c", "echo no such key: $API_KEY >&2; exit 7"], "env": {"API_KEY": token}},
            "silent": {"command": "/bin/false", "auto_disable": {"generate_reports": false}},
        },
    });
    let tmp = TempDir::new();
    config["diagnostics"] = json!({"report_directory": tmp.join("reports")});
    let daemon = Daemon::start(&config, &[]);
    daemon.wait_state("silent", "auto_disabled");
    let row = daemon.wait_until("a report", |status| server(status, "git")["report"].is_string());
    let row = server(&row, "git");
    assert_eq!(row["state"], "auto_disabled");
    let path = row["report"].as_str().unwrap().to_owned();
    assert!(path.starts_with(&tmp.join("reports/failure_git_")), "{path}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(token), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["server"], &report["state"]), (&json!("git"), &json!("auto_disabled")));
    assert_eq!(report["reason"], row["reason"]);
    let attempts = report["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{text}");
    for attempt in attempts {
        assert!(attempt["message"].as_str().unwrap().contains("exited with code 7"), "{attempt}");
        assert!(attempt["life"].is_u64() && attempt["at"].is_string(), "{attempt}");
    }
    let log = report["log"].as_array().unwrap();
    assert!(log.iter().any(|line| line.as_str().unwrap().contains("stderr: no such key: ***")), "{text}");
    let all = fs::read_dir(tmp.join("reports")).unwrap().count();
    assert_eq!(all, 1, "none of the one that wants none");
    let shown = daemon.cli(&["status"]).stdout;
    assert!(shown.replace("\n    ", "").contains(&path), "{shown}");
    assert!(
        shown.lines().filter(|line| !line.contains("failure_")).all(|line| line.chars().count() <= 80),
        "{shown}"
    );
    // The next run knows where it is; a server that is tried again has none.
    let daemon = Daemon::start_in(daemon.into_tmp(), &config, &[]);
    daemon.wait_until("the report to be found", |status| server(status, "git")["report"] == path.as_str());
    config["mcpServers"]["git"] = demo_entry("");
    let file = daemon.tmp.join("mcp_config.json");
    fs::write(&file, config.to_string()).unwrap();
    let ready = daemon.wait_ready(&["git"]);
    assert_eq!(server(&ready, "git")["report"], Value::Null);
}
