//! Starts of many servers: who goes first, what is learnt of it, and what becomes of those that never start.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the clock; support/mod.rs says how they wait without sleeping"
)]

use crate::support::daemon::{Daemon, server};
use crate::support::mcp::Mcp;
use crate::support::{TempDir, demo_config, demo_entry, measure_over, until_within};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What processes of the kernel's count one second of CPU in.
const TICKS: f64 = 100.0;

fn state(status: &Value, name: &str) -> String {
    server(status, name)["state"].as_str().unwrap().to_owned()
}

/// What an orderly end leaves.
fn stopped(mut daemon: Daemon) -> TempDir {
    daemon.stop();
    daemon.into_tmp()
}

fn broken(args: &[&str]) -> Value {
    json!({
        "auto_disable": {"startup_attempts": 2},
        "mcpServers": {"broken": {"command": "/bin/false", "args": args}},
    })
}

#[test]
fn who_was_given_up_stays_so_across_a_restart_until_somebody_asks() {
    let config = broken(&[]);
    let daemon = Daemon::start(&config, &[]);
    let row = daemon.wait_state("broken", "auto_disabled");
    let daemon = Daemon::start_in(stopped(daemon), &config, &[]);

    let second = daemon.status();
    let kept = server(&second, "broken");
    assert_eq!(kept["state"], "auto_disabled", "{kept:#}");
    assert_eq!((&kept["life"], &kept["failures"]), (&Value::Null, &json!(0)), "it was not tried");
    assert_eq!(kept["reason"], row["reason"], "the same reason, in the same words");
    let retry = |row: &Value| humantime::parse_rfc3339(row["next_retry_at"].as_str().unwrap()).unwrap();
    let (then, now) = (retry(&row), retry(kept));
    let moved = now.duration_since(then).unwrap_or_else(|early| early.duration());
    assert!(moved < Duration::from_secs(2), "its probation is when it was: {then:?}, {now:?}");
    assert!(daemon.cli(&["status"]).stdout.contains("one try in 1"), "{}", daemon.cli(&["status"]).stdout);

    daemon.cli(&["upstream", "restart", "broken"]);
    daemon.wait_until("two tries and an end", |status| server(status, "broken")["failures"] == 2);
    daemon.wait_state("broken", "auto_disabled");
    // Another entry is another server: what the old one did says nothing of it.
    let daemon = Daemon::start_in(stopped(daemon), &broken(&["changed"]), &[]);
    daemon.wait_until("two tries", |status| server(status, "broken")["failures"] == 2);
}

#[test]
fn a_server_that_a_call_waits_for_starts_before_the_others() {
    let names = ["a", "b", "c", "d", "last"];
    let mut config = demo_config(&names.map(|name| (name, "--start-delay 700")));
    config["connection_management"] = json!({"max_concurrent_connections": 1});
    let daemon = Daemon::start(&config, &[]);
    let waiting = daemon.wait_until("a line", |status| server(status, "d")["place_in_line"].is_number());
    assert!(server(&waiting, "d")["starts_in_ms"].is_number(), "{waiting:#}");
    assert!(daemon.cli(&["status"]).stdout.contains("in the line of starts"));

    let mut client = daemon.client();
    assert_eq!(client.text("last__echo", json!({"text": "first"})), "first");
    let status = daemon.status();
    assert_ne!(state(&status, "d"), "ready", "it was asked for after `last` was called for: {status:#}");
    daemon.wait_ready(&names);
}

#[test]
fn who_is_known_to_be_quick_starts_first() {
    let mut config =
        demo_config(&[("slow", "--start-delay 1500"), ("slower", "--start-delay 1900"), ("z", "")]);
    config["connection_management"] = json!({"max_concurrent_connections": 1});
    let daemon = Daemon::start(&config, &[]);
    let first = daemon.wait_ready(&["slow", "slower", "z"]);
    assert!(server(&first, "slow")["usual_start_ms"].as_u64().unwrap() >= 1500, "{first:#}");
    let daemon = Daemon::start_in(stopped(daemon), &config, &[]);
    let second = daemon.wait_until("z is ready", |status| state(status, "z") == "ready");
    assert_ne!(state(&second, "slow"), "ready", "{second:#}");
    assert_ne!(state(&second, "slower"), "ready", "{second:#}");
}

/// A lazy server, and one beside it that is always there.
fn lazy() -> Value {
    let mut config = demo_config(&[("lazy", "--tools 2"), ("other", "")]);
    config["mcpServers"]["lazy"]["startup_mode"] = json!("lazy");
    config["mcpServers"]["lazy"]["idle_timeout"] = json!("1s");
    config
}

#[test]
fn a_lazy_server_sleeps_until_it_is_called_and_its_tools_stay_listed() {
    let daemon = Daemon::start(&lazy(), &[]);
    // Its tools are not known yet: it starts once.
    let status = daemon.wait_until("asleep", |status| state(status, "lazy") == "sleeping");
    assert_eq!(server(&status, "lazy")["pid"], Value::Null);
    let mut client = daemon.client();
    assert!(client.tools().contains(&"lazy__extra_2".to_owned()));
    let first: u32 = client.text("lazy__pid", json!({})).parse().unwrap();
    let second: u32 = client.text("lazy__pid", json!({})).parse().unwrap();
    assert_eq!(first, second, "it stays while it is called");
    // A call that takes longer than the patience is no idleness.
    client.text("lazy__sleep", json!({"ms": 2500}));
    assert_eq!(client.text("lazy__pid", json!({})).parse::<u32>().unwrap(), first);
    daemon.wait_state("lazy", "sleeping");
    assert_ne!(client.text("lazy__pid", json!({})).parse::<u32>().unwrap(), first);

    // The next daemon knows its tools, and starts nothing.
    let daemon = Daemon::start_in(stopped(daemon), &lazy(), &[]);
    let row = daemon.status();
    let row = server(&row, "lazy");
    assert_eq!((&row["state"], &row["life"], &row["tools"]), (&json!("sleeping"), &Value::Null, &json!(8)));
    let mut client = daemon.client();
    assert!(client.tools().contains(&"lazy__extra_2".to_owned()));
    let mut alone = Mcp::connect(&daemon.server_url("lazy"));
    assert_eq!(daemon.status()["servers"][0]["life"], Value::Null, "greeting and lists wake nobody");
    assert_eq!(alone.text("echo", json!({"text": "awake"})), "awake");
    assert_eq!(daemon.wait_state("lazy", "sleeping")["restarts"], 0);
}

#[test]
fn calls_and_sleep_at_the_same_moment_lose_nothing() {
    let mut config = lazy();
    config["mcpServers"]["lazy"]["idle_timeout"] = json!("20ms");
    let daemon = Daemon::start(&config, &[]);
    let mut client = daemon.client();
    for n in 0..60_u64 {
        let text = format!("call {n}");
        assert_eq!(client.text("lazy__echo", json!({"text": text})), text);
        measure_over(Duration::from_millis(n % 30));
    }
}

/// CPU ticks that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The scenario of `config-reload-loop.md`: of 159 servers 62 are well (with a start of 1 s), 37 never answer
/// `initialize`, 60 exit at once; evenly mixed.
fn config_of_159(well_only: bool) -> Value {
    let kinds = [
        ("well", 62, demo_entry("--start-delay 1000")),
        ("hangs", 37, demo_entry("--hang-init")),
        ("exits", 60, json!({"command": "/bin/false"})),
    ];
    let mut mixed = Vec::new();
    for (kind, count, entry) in &kinds {
        mixed.extend((0..*count).map(|n| ((2 * n + 1) * 1000 / count, *kind, entry.clone())));
    }
    mixed.sort_by_key(|(place, ..)| *place);
    let named = mixed.into_iter().enumerate().map(|(n, (_, kind, entry))| (format!("{n:03}-{kind}"), entry));
    let servers: serde_json::Map<String, Value> =
        named.filter(|(name, _)| !well_only || name.ends_with("well")).collect();
    json!({
        "mcpServers": servers,
        "connection_management": {"connection_timeout_seconds": 4},
        "resource_cleanup": {"process_kill_timeout_seconds": 2},
    })
}

/// Looks 20 times a second: every look is a process of its own.
fn wait_for(daemon: &Daemon, what: &str, mut seen: impl FnMut(&[Value]) -> bool) -> Value {
    until_within(what, Duration::from_secs(120), || {
        let status = daemon.status();
        let found = seen(status["servers"].as_array().unwrap());
        if !found {
            measure_over(Duration::from_millis(50));
        }
        found.then_some(status)
    })
}

/// How long it takes until every server that is well is ready.
fn until_well(daemon: &Daemon, begun: Instant) -> Duration {
    wait_for(daemon, "62 ready", |rows| rows.iter().filter(|row| row["state"] == "ready").count() == 62);
    begun.elapsed()
}

#[test]
fn of_159_servers_97_are_broken_and_the_others_do_not_notice() {
    let config = config_of_159(false);
    assert_eq!(config["mcpServers"].as_object().unwrap().len(), 159);
    let alone = |tmp: TempDir| {
        let begun = Instant::now();
        let daemon = Daemon::start_in(tmp, &config_of_159(true), &[]);
        let took = until_well(&daemon, begun);
        (stopped(daemon), took)
    };
    let (tmp, first_alone) = alone(TempDir::new());
    let (_tmp, learnt_alone) = alone(tmp);

    let begun = Instant::now();
    let daemon = Daemon::start(&config, &[]);
    let first = until_well(&daemon, begun);
    // 62 of 1 s and 37 of 2 s (the patience of the gate) in 20 slots are 6.8 s if no slot is ever free for nothing;
    // the last wave may begin late, and the machine is not ours alone.
    assert!(first < Duration::from_secs(14), "{first:?}");

    let is_final = |row: &Value| ["ready", "auto_disabled"].contains(&row["state"].as_str().unwrap());
    let silent = wait_for(&daemon, "all final", |rows| rows.iter().all(is_final));
    // Three attempts of 4 s, pauses of 1.2 and 2.4 s, three ladders of 2 s, and twice the line before the gate.
    let all_final = begun.elapsed();
    assert!(all_final < Duration::from_secs(60), "{all_final:?}");
    assert_eq!(silent["config"]["loads"], 1);
    let broken = silent["servers"].as_array().unwrap().iter().filter(|row| row["state"] == "auto_disabled");
    for row in broken {
        assert_eq!((&row["failures"], &row["given_up"]), (&json!(3), &json!(1)), "{row:#}");
    }

    let (pids, before) = ([daemon.guardian_pid(), daemon.daemon_pid()], daemon.status());
    let logs_dir = Path::new(&daemon.state_dir()).join("logs");
    let (used, written) = (pids.map(ticks), bytes_below(&logs_dir) + daemon.output().1.len() as u64);
    measure_over(Duration::from_secs(60));
    let cpu: u64 = pids.map(ticks).iter().sum::<u64>() - used.iter().sum::<u64>();
    assert!((cpu as f64) < 0.01 * 60.0 * TICKS, "{cpu} ticks in 60 s");
    let more = bytes_below(&logs_dir) + daemon.output().1.len() as u64 - written;
    assert!(more < 1024, "{more} bytes of log in 60 s");
    let after = daemon.status();
    let lives = |status: &Value| -> Vec<(Value, Value)> {
        let rows = status["servers"].as_array().unwrap();
        rows.iter().map(|row| (row["life"].clone(), row["failures"].clone())).collect()
    };
    assert_eq!(lives(&after), lives(&before), "somebody was started");

    // What is learnt: those that are well go first, and the given-up ones are not even tried.
    let tmp = stopped(daemon);
    let begun = Instant::now();
    let daemon = Daemon::start_in(tmp, &config, &[]);
    let learnt = until_well(&daemon, begun);
    println!(
        "62 of 159 ready: first start {first:?} (alone {first_alone:?}), next {learnt:?} (alone {learnt_alone:?})"
    );
    println!("all final after {all_final:?}, then {cpu} ticks and {more} bytes of log in 60 s");
    assert!(
        learnt.as_secs_f64() < 1.3 * learnt_alone.as_secs_f64() + 0.5,
        "{learnt:?}, alone {learnt_alone:?}"
    );
}

/// A file system of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing where that is not allowed.
    fn mount_at(dir: &Path) -> Option<SmallDisk> {
        fs::create_dir(dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(dir);
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(SmallDisk(dir.to_owned()));
        }
        assert!(!nix::unistd::geteuid().is_root(), "root can mount");
        eprintln!("skipped: only root may mount");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file there does not keep the directory.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_one_incident_and_not_every_servers_failure() {
    let tmp = TempDir::new();
    let state = PathBuf::from(tmp.join("state"));
    let Some(disk) = SmallDisk::mount_at(&state) else { return };
    let config = json!({
        "auto_disable": {"startup_attempts": 8},
        "connection_management": {"retry_backoff_max_seconds": 1},
        "mcpServers": {
            "broken": {"command": "/bin/sh", "args": ["-c", "sleep 0.2; exit 3"], "startup_mode": "active"},
            "well": demo_entry(""),
        },
    });
    let balloon = state.join("balloon");
    let fill = || {
        let mut file = fs::File::create(&balloon).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    };
    let daemon = Daemon::start_in(tmp, &config, &[]);
    fill();
    let ill = daemon.wait_until("more failures than it may have", |status| {
        server(status, "broken")["failures"].as_u64() >= Some(12)
            && server(status, "well")["state"] == "ready"
    });
    assert_eq!(server(&ill, "broken")["given_up"], 0, "{ill:#}");
    assert_eq!(ill["host"]["kind"], "host_resources", "{ill:#}");
    let text = daemon.cli(&["status"]).stdout;
    assert!(text.contains("is full"), "{text}");
    fs::remove_file(&balloon).unwrap();
    daemon.wait_state("broken", "auto_disabled");
    assert_eq!(daemon.status()["host"], Value::Null);
    let tmp = stopped(daemon);
    drop(disk);
    drop(tmp);
}
