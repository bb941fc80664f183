//! `mcpvisor upstream add` and `remove`: the real binary on real files, alone, in a crowd, killed, and with a daemon.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start plain processes, read the clock, and fail by panicking"
)]

use crate::support::daemon::{Daemon, Ran, command, command_of, run, server};
use crate::support::{BINARY, TempDir, demo_config, until};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A config that somebody has written by hand.
const BY_HAND: &str = "\
// Servers of the office.
{
    \"listen\": \"127.0.0.1:8080\",
    \"mcpServers\": {
        // Tells the time.
        \"time\": {
            \"command\": \"uvx\", // quick
            \"args\": [\"mcp-server-time\"],
        },
    },
}
";

/// A directory with a config, and no daemon.
struct Place {
    tmp: TempDir,
    file: String,
}

impl Place {
    fn new(text: &str) -> Place {
        let tmp = TempDir::new();
        let file = tmp.join("mcp_config.json");
        fs::write(&file, text).unwrap();
        Place { tmp, file }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.args(["--state-dir", &self.tmp.join("state"), "--config", &self.file, "upstream"]).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// The names in the directory, without the state.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.tmp.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The command is refused with this code, and nothing has changed.
    #[track_caller]
    fn check_refused(&self, args: &[&str], code: i32, stderr: &str) {
        let (text, names) = (self.text(), self.names());
        let ran = self.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {ran:?}");
        let said = ran.stderr.replace(&self.file, "FILE");
        assert_eq!(said, stderr, "{args:?}");
        assert_eq!((self.text(), self.names()), (text, names), "{args:?}");
    }
}

fn names_of(text: &str) -> Vec<String> {
    let (config, findings) = mcpvisor::config::parse(text, "f");
    assert!(config.usable, "{findings:?}\n{text}");
    config.servers.into_iter().map(|server| server.name.0).collect()
}

#[test]
fn a_file_is_changed_and_nothing_else_in_it() {
    let place = Place::new(BY_HAND);
    fs::set_permissions(&place.file, Permissions::from_mode(0o640)).unwrap();
    let added = place.run(&["add", "git", "-e", "TOKEN=s3cr3t", "--", "uvx", "mcp-server-git", "--verbose"]);
    let expected =
        "git: added to FILE\nas it was before: FILE.bak\nno daemon runs: mcpvisor serve starts one\n";
    assert_eq!((added.code, added.stdout.replace(&place.file, "FILE").as_str()), (0, expected), "{added:?}");
    assert_eq!(added.stderr, "");
    let entry = "        \"git\": {
            \"command\": \"uvx\",
            \"args\": [\"mcp-server-git\", \"--verbose\"],
            \"env\": {
                \"TOKEN\": \"s3cr3t\"
            }
        },
    },
}
";
    let with_git = BY_HAND.replace("    },\n}\n", entry);
    assert_eq!(place.text(), with_git);
    assert_eq!(place.names(), ["mcp_config.json", "mcp_config.json.bak"]);
    assert_eq!(fs::read_to_string(format!("{}.bak", place.file)).unwrap(), BY_HAND);
    for file in [place.file.clone(), format!("{}.bak", place.file)] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o7777, 0o640);
    }
    // As JSON, from stdin, and in the place of another.
    let mut child = place
        .command(&["add", "git", "--replace", "--json", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(br#"{"command": "git-mcp", "groups": ["a"]}"#).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let backup = format!("{}.bak", place.file);
    assert_eq!(
        report,
        json!({"action": "replaced", "servers": ["git"], "file": place.file, "backup": backup, "daemon": "absent",
               "error": null, "server": null})
    );
    assert_eq!(fs::read_to_string(&backup).unwrap(), with_git, "one backup: before the last change");
    let removed = place.run(&["remove", "git"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(removed.stdout.starts_with(&format!("git: removed from {}\n", place.file)), "{removed:?}");
    assert_eq!(place.text(), BY_HAND);
    // Several at once, and the comments of their own.
    let last = place.run(&["remove", "time", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&last.stdout).unwrap()["action"], "removed");
    assert_eq!(place.text(), BY_HAND.replace(&BY_HAND[BY_HAND.find("{\n        //").unwrap()..], "{},\n}\n"));
}

#[test]
fn what_is_refused_leaves_the_file_alone() {
    let place = Place::new(BY_HAND);
    let check = |args: &[&str], code, stderr: &str| place.check_refused(args, code, stderr);
    check(
        &["add", "time", "--", "other"],
        1,
        "mcpvisor: time: FILE: there is a server of this name in line 6 (--replace gives it the new entry; it keeps \
         its place)\n",
    );
    check(
        &["add", "time", "--", "uvx", "mcp-server-time"],
        3,
        "mcpvisor: time: FILE: the server is there as it is, in line 6\n",
    );
    check(
        &["remove", "time", "tiem"],
        3,
        "mcpvisor: tiem: FILE: no server of this name (did you mean `time`?)\n",
    );
    // What `config check` would have against the entry, and no secret.
    check(
        &["add", "git", "--json", r#"{"comand": "uvx", "env": {"A": "s3cr3t"}}"#],
        4,
        "mcpvisor: error: mcpServers.git: the entry has no `command` (give the program to run, like \"command\": \
         \"npx\")\n\
         mcpvisor: change FILE: it would not work as written (the file was not touched)\n",
    );
    check(
        &["add", "git", "--transport", "pigeon", "https://h/"],
        4,
        "mcpvisor: error: mcpServers.git.protocol: expected `stdio`, `http`, `streamable-http`, `sse` or `auto`\n\
         mcpvisor: change FILE: it would not work as written (the file was not touched)\n",
    );
    check(
        &["add", "git"],
        2,
        "mcpvisor: upstream add: what is to run? a COMMAND, a URL or --json (see: mcpvisor help upstream add)\n",
    );
    let twice = Place::new("{\"mcpServers\": {\"a\": {\"command\": \"x\"},\n\"a\": {\"command\": \"y\"}}}");
    let why = "mcpvisor: a: FILE: `a` is there twice, in lines 1 and 2 (which of them is meant? remove one by hand)\n";
    twice.check_refused(&["remove", "a"], 4, why);
    twice.check_refused(&["add", "a", "--replace", "--", "z"], 4, why);
    for broken in ["{\"mcpServers\": {\"a\": }}", "{\"mcpServers\": 1}", "[]"] {
        let place = Place::new(broken);
        for args in [&["add", "a", "--", "x"][..], &["remove", "a"]] {
            let ran = place.run(args);
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
            assert!(ran.stderr.contains("mcp_config.json: it cannot be used as it is"), "{ran:?}");
            assert_eq!((place.text().as_str(), place.names().len()), (broken, 1), "{ran:?}");
        }
    }
    let keyless = Place::new("{\"mcpServers\": {}, \"api_key\": 1}");
    assert_eq!(keyless.run(&["add", "a", "--", "x"]).code, 4);
    assert_eq!(keyless.names(), ["mcp_config.json"]);
    // What is wrong elsewhere is nothing of ours.
    let other = Place::new("{\"mcpServers\": {\"a\": {\"command\": 1}}}");
    assert_eq!(other.run(&["add", "b", "--", "x"]).code, 0);
    assert_eq!(names_of(&other.text()), ["a", "b"]);
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let tmp = TempDir::new();
    let home = |args: &[&str]| {
        run(command()
            .args(["--state-dir", &tmp.join("state"), "upstream"])
            .args(args)
            .env("HOME", tmp.path())
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(tmp.path()))
    };
    let file = tmp.join(".config/mcpvisor/mcp_config.json");
    // A machine with a config in /etc has its own.
    if !std::path::Path::new("/etc/mcpvisor/mcp_config.json").exists() {
        let ran = home(&["add", "a", "--", "x"]);
        let expected = format!("a: added to {file}\nno daemon runs: mcpvisor serve starts one\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, expected.as_str()), "{ran:?}");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(home(&["add", "b", "--", "x"]).code, 0);
        assert_eq!(names_of(&fs::read_to_string(&file).unwrap()), ["a", "b"]);
    }
    let named = tmp.join("new.json");
    let ran = home(&["add", "a", "--config", &named, "--", "x"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(names_of(&fs::read_to_string(&named).unwrap()), ["a"]);
    let none = home(&["remove", "a", "--config", &tmp.join("none.json")]);
    assert_eq!(none.code, 3, "{none:?}");
    assert!(!std::path::Path::new(&tmp.join("none.json")).exists());
}

#[test]
fn a_link_stays_a_link() {
    let place = Place::new(BY_HAND);
    let real = place.tmp.join("real");
    fs::create_dir(&real).unwrap();
    fs::rename(&place.file, format!("{real}/c.json")).unwrap();
    symlink("between", &place.file).unwrap();
    symlink("real/c.json", place.tmp.join("between")).unwrap();
    assert_eq!(place.run(&["add", "git", "--", "x"]).code, 0);
    for link in [place.file.clone(), place.tmp.join("between")] {
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    }
    assert_eq!(names_of(&fs::read_to_string(format!("{real}/c.json")).unwrap()), ["time", "git"]);
    assert_eq!(fs::read_to_string(format!("{real}/c.json.bak")).unwrap(), BY_HAND);
    assert_eq!(place.run(&["remove", "git"]).code, 0);
    assert_eq!(place.text(), BY_HAND);
}

/// Somebody who may read the file, and not write it.
#[test]
fn who_may_not_write_is_told_so() {
    const NOBODY: u32 = 65_534;
    let place = Place::new(BY_HAND);
    let is_root = nix::unistd::geteuid().is_root();
    let as_nobody = |args: &[&str]| {
        let mut command = place.command(args);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        run(&mut command)
    };
    if !is_root {
        fs::set_permissions(place.tmp.path(), Permissions::from_mode(0o555)).unwrap();
    }
    let ran = as_nobody(&["add", "git", "--", "x"]);
    fs::set_permissions(place.tmp.path(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    assert!(ran.stderr.contains("Permission denied") && ran.stderr.contains("must be writable"), "{ran:?}");
    assert_eq!((place.text().as_str(), place.names()), (BY_HAND, vec!["mcp_config.json".to_owned()]));
    if !is_root {
        return;
    }
    // The directory is theirs, the file is not: its owner could not be kept.
    chown(place.tmp.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let ran = as_nobody(&["add", "git", "--", "x"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    assert_eq!((place.text().as_str(), place.names().len()), (BY_HAND, 1), "{ran:?}");
    // Theirs, and changed by root: it stays theirs.
    chown(&place.file, Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(place.run(&["add", "git", "--", "x"]).code, 0);
    let owner = fs::metadata(&place.file).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (NOBODY, NOBODY));
    assert_eq!(as_nobody(&["remove", "git"]).code, 0);
    assert_eq!(place.text(), BY_HAND);
}

#[test]
fn twenty_at_once_are_all_heard() {
    let place = Place::new(BY_HAND);
    let names: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| place.command(&["add", name, "--", "x"]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut found = names_of(&place.text());
    found.sort();
    assert_eq!(found[..20], names);
    assert_eq!(place.names(), ["mcp_config.json", "mcp_config.json.bak"]);
    let removing: Vec<_> = names
        .iter()
        .map(|name| place.command(&["remove", name]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in removing {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(place.text(), BY_HAND);
}

/// Whenever it is killed, the file is the old one or the new one, and what it left is gone with the next.
#[test]
fn killed_at_any_moment_it_leaves_a_whole_file() {
    let place = Place::new(BY_HAND);
    let alone = Instant::now();
    assert_eq!(place.run(&["add", "git", "--", "x"]).code, 0);
    let whole = alone.elapsed();
    let with_git = place.text();
    let (_never, silence) = channel::<()>();
    let (mut done, mut left_over) = (0, 0);
    for n in 0..150 {
        let args: &[&str] =
            if place.text() == with_git { &["remove", "git"] } else { &["add", "git", "--", "x"] };
        let mut child = place.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Nothing comes: only the moment is waited for.
        let _ = silence.recv_timeout(whole.min(Duration::from_millis(200)) * (n % 50) / 40);
        // It may have ended by itself.
        let _ = child.kill();
        done += u32::from(child.wait().unwrap().success());
        let text = place.text();
        assert!(text == BY_HAND || text == with_git, "{text}");
        left_over += usize::from(place.names().len() > 2);
    }
    eprintln!("{done} of 150 got through, {left_over} left a draft");
    let args: &[&str] =
        if place.text() == with_git { &["remove", "git"] } else { &["add", "git", "--", "x"] };
    assert_eq!(place.run(args).code, 0);
    assert_eq!(place.names(), ["mcp_config.json", "mcp_config.json.bak"]);
}

/// A limit of the file size stands for a full disk: the write itself fails.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let filler = format!("// {}\n", "x".repeat(4000));
    let place = Place::new(&format!("{filler}{BY_HAND}"));
    let before = place.text();
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$@\"";
    let mut full = command_of("sh".as_ref());
    full.args(["-c", script, "sh", BINARY, "--state-dir", &place.tmp.join("state"), "--config", &place.file]);
    let ran = run(full.args(["upstream", "add", "git", "--", "x"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("write ") && ran.stderr.contains("make room"), "{ran:?}");
    assert_eq!((place.text(), place.names()), (before, vec!["mcp_config.json".to_owned()]));
}

#[test]
fn a_running_daemon_takes_it_over() {
    let daemon = Daemon::start(&demo_config(&[("old", "")]), &[]);
    let first = daemon.wait_ready(&["old"]);
    let file = daemon.tmp.join("mcp_config.json");
    // Without --config it is the file that the daemon has.
    let ran = daemon.cli(&["upstream", "add", "new", "--", BINARY, "demo-server", "--tools", "2"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let last = ran.stdout.lines().last().unwrap();
    assert!(last.starts_with("new: ready (life ") && last.ends_with(" tools)"), "{ran:?}");
    assert!(ran.stdout.starts_with(&format!("new: added to {file}\n")), "{ran:?}");
    let mut client = daemon.client();
    assert_eq!(client.text("new__echo", json!({"text": "hello"})), "hello");
    let status = daemon.status();
    let life = |status: &Value, name: &str| {
        (server(status, name)["pid"].clone(), server(status, name)["life"].clone())
    };
    assert_eq!(life(&status, "old"), life(&first, "old"));
    // Another entry: the answer is of the new life.
    let args =
        ["upstream", "add", "new", "--replace", "-o", "json", "--", BINARY, "demo-server", "--tools", "3"];
    let ran = daemon.cli(&args);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &report["daemon"], &report["server"]["state"]),
        (0, &json!("applied"), &json!("ready"))
    );
    assert_ne!(report["server"]["pid"], server(&status, "new")["pid"]);
    // One that does not get ready: added, and what is wrong with it.
    let ran = daemon.cli(&["upstream", "add", "bad", "--", "/does/not/exist"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout.contains("bad: parked: ") && ran.stdout.contains("/does/not/exist does not exist"),
        "{ran:?}"
    );
    let ran = daemon.cli(&["upstream", "add", "off", "--disabled", "--", "x"]);
    assert!(ran.code == 0 && ran.stdout.ends_with("off: disabled\n"), "{ran:?}");
    let ran = daemon.cli(&["upstream", "add", "late", "--no-wait", "--", BINARY, "demo-server"]);
    assert!(ran.code == 0 && ran.stdout.ends_with("the daemon takes it over within a second\n"), "{ran:?}");
    daemon.wait_ready(&["old", "new", "late"]);
    let ran = daemon.cli(&["upstream", "remove", "new", "bad", "off", "late"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let status = daemon.status();
    assert_eq!(status["servers"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(life(&status, "old"), life(&first, "old"));
    assert!(!client.tools().iter().any(|tool| tool.starts_with("new__")));
    assert_eq!(fs::read_to_string(&file).unwrap(), demo_config(&[("old", "")]).to_string());
    // Another file is changed, and that the daemon does not run it is said.
    let other = daemon.tmp.join("other.json");
    let ran = daemon.cli(&["upstream", "add", "a", "--config", &other, "--", "x"]);
    assert!(ran.code == 0 && ran.stdout.ends_with(&format!("another config: {file}\n")), "{ran:?}");
}

#[test]
fn servers_come_and_go_while_others_are_called() {
    let daemon = Daemon::start(&demo_config(&[("old", "")]), &[]);
    let first = daemon.wait_ready(&["old"]);
    let mut client = daemon.client();
    let mut pids = Vec::new();
    for round in 0..5 {
        let ran = daemon.cli(&["upstream", "add", "guest", "--", BINARY, "demo-server"]);
        assert_eq!(ran.code, 0, "round {round}: {ran:?}");
        assert_eq!(client.text("guest__echo", json!({"text": "hi"})), "hi");
        assert_eq!(client.text("old__echo", json!({"text": "still"})), "still");
        pids.push(server(&daemon.status(), "guest")["pid"].as_u64().unwrap() as u32);
        let ran = daemon.cli(&["upstream", "remove", "guest"]);
        assert_eq!(ran.code, 0, "round {round}: {ran:?}");
    }
    for pid in pids {
        until("the guests to be gone", || {
            mcpvisor::sys::procfs::process(pid).is_none_or(|it| it.is_zombie()).then_some(())
        });
    }
    let last = daemon.status();
    assert_eq!(server(&last, "old")["pid"], server(&first, "old")["pid"]);
    assert_eq!(last["servers"].as_array().unwrap().len(), 1);
}
