//! A file that is written again and again, in every way that programs have: 250 writes in 15 s, or with
//! `RELOAD_STORM=full` 1,000 in 60 s.

use super::{file, hash, identity, logged, put, status};
use crate::support::daemon::{Daemon, server};
use crate::support::{demo_config, measure_over, until};
use serde_json::{Value, json};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant, SystemTime};

/// What is written is in force within this.
const SOON: Duration = Duration::from_secs(1);

/// The promise is kept if one of so many rounds keeps it: what else runs on the machine only adds.
const ROUNDS: u32 = 5;

fn config(tools: usize) -> Value {
    let tools = format!("--tools {tools}");
    let mut config = demo_config(&[
        ("one", ""),
        ("two", ""),
        ("three", "--stats"),
        ("moving", &tools),
        ("broken", "--exit-on-init"),
    ]);
    config["auto_disable"] = json!({"startup_attempts": 2});
    config
}

#[test]
fn a_storm_of_writes() {
    let full = std::env::var_os("RELOAD_STORM").is_some_and(|value| value == "full");
    let (writes, span) = if full { (1000, Duration::from_secs(60)) } else { (250, Duration::from_secs(15)) };
    let daemon = Daemon::start(&config(0), &[]);
    daemon.wait_ready(&["one", "two", "three", "moving"]);
    let first = daemon.wait_until("the broken one to be given up", |status| {
        server(status, "broken")["state"] == "auto_disabled"
    });
    assert_eq!(first["config"]["loads"], 1, "what a server does is no change of the config");
    let mut session = crate::support::mcp::Mcp::connect(&daemon.server_url("two"));
    let mut rng = fastrand::Rng::with_seed(7);
    let begun = Instant::now();
    for write in 0..writes {
        one_write(&daemon, &mut rng, write);
        let due = span * (write + 1) / writes;
        measure_over(due.saturating_sub(begun.elapsed()));
        if write % 50 == 0 {
            assert_eq!(session.text("echo", json!({"text": "x"})), "x");
        }
    }
    let last = in_force_soon(&daemon);
    for name in ["one", "two", "three", "broken"] {
        assert_eq!(identity(&first, name), identity(&last, name), "{name}");
    }
    assert_eq!(server(&last, "broken")["failures"], server(&first, "broken")["failures"]);
    assert_eq!(session.text("echo", json!({"text": "y"})), "y");
    // It is quiet again, and every load was one.
    let loads = last["config"]["loads"].as_u64().unwrap();
    measure_over(2 * SOON);
    assert_eq!(status(&daemon)["config"]["loads"], loads);
    assert_eq!(logged(&daemon, "config loaded") as u64, loads);
    let restarts = server(&last, "moving")["restarts"].as_u64().unwrap();
    assert!(restarts < loads, "{restarts} restarts in {loads} loads");
    eprintln!("{writes} writes: {loads} loads, {restarts} restarts of the one that changed");
    daemon.wait_ready(&["moving"]);
}

/// One of the ways to write a file; what is left may be half of it.
fn one_write(daemon: &Daemon, rng: &mut fastrand::Rng, write: u32) {
    let file = file(daemon);
    let now = || fs::read_to_string(&file).unwrap_or_default();
    let other = config(rng.usize(0..3)).to_string();
    match rng.u8(0..9) {
        0 => fs::write(&file, now()).unwrap(),
        1 => {
            let times = FileTimes::new().set_modified(SystemTime::now());
            // A link to nothing cannot be touched.
            drop(File::options().append(true).open(&file).and_then(|file| file.set_times(times)));
        }
        2 => fs::write(&file, format!("// {write}\n{}", config(0))).unwrap(),
        3 => fs::write(&file, other).unwrap(),
        4 => {
            let mut half = File::create(&file).unwrap();
            half.write_all(&other.as_bytes()[..rng.usize(0..other.len())]).unwrap();
        }
        5 => {
            let mut slow = File::create(&file).unwrap();
            for part in other.as_bytes().chunks(other.len() / 3 + 1) {
                slow.write_all(part).unwrap();
                slow.sync_data().unwrap();
            }
        }
        6 => put(daemon, &config(rng.usize(0..3))),
        7 => {
            let target = daemon.tmp.join(&format!("target-{}", write % 2));
            fs::write(&target, other).unwrap();
            let link = daemon.tmp.join("link");
            symlink(&target, &link).unwrap();
            fs::rename(link, &file).unwrap();
        }
        _ => {
            fs::remove_file(&file).unwrap();
            fs::write(&file, other).unwrap();
        }
    }
}

/// Writes the last word, and returns the status in which it is in force.
fn in_force_soon(daemon: &Daemon) -> Value {
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let text = format!("// the last word {round}\n{}", config(1));
        super::put_text(daemon, &text);
        let (written, wanted) = (Instant::now(), hash(&text));
        let found = until("the last word to be in force", || {
            let status = status(daemon);
            (status["config"]["hash"] == wanted.as_str()).then_some(status)
        });
        took.push(written.elapsed());
        if written.elapsed() <= SOON {
            eprintln!("the last word took {took:?}");
            return found;
        }
    }
    panic!("the last word took {took:?}");
}
