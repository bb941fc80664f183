//! What needs a process of its own: no descriptors left, and nothing to do at all.
//!
//! Each test runs the test binary again with only itself in it; the child does the work.

use super::client::Client;
use super::{Server, echo, eventually};
use mcpvisor::gateway::http::Settings;
use nix::sys::resource::{Resource, setrlimit};
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

const CHILD: &str = "MCPVISOR_TEST_CHILD";

/// True in the child; in the parent, runs the child and checks it.
fn in_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let arguments = ["--exact", &format!("http::host::{test}"), "--nocapture"];
    let child =
        Command::new(std::env::current_exe().unwrap()).args(arguments).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    false
}

#[test]
fn out_of_descriptors_is_a_pause_and_not_the_end() {
    if !in_child("out_of_descriptors_is_a_pause_and_not_the_end") {
        return;
    }
    let server = Server::start(Settings::default(), echo);
    let mut before = server.connect();
    assert_eq!(before.get("/").status, 200);
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut hoard: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    // One for the client's own socket; none for the server's end of it.
    hoard.truncate(hoard.len() - 1);
    let mut late = Client::tcp(server.address);
    late.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..100 {
        assert_eq!(before.get("/").status, 200, "who is connected is served");
    }
    let spent = cpu_ms();
    crate::support::measure_over(Duration::from_millis(500));
    assert!(cpu_ms() - spent < 250, "the pause is not a loop");
    assert_eq!(server.http.connections(), 1);
    hoard.clear();
    assert_eq!(late.response().header("x-seen"), Some("GET /late -"));
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn nothing_to_do_wakes_nobody() {
    if !in_child("nothing_to_do_wakes_nobody") {
        return;
    }
    let server = Server::start(Settings::default(), |request, exchange| match request.path.as_str() {
        "/stream" => drop(exchange.hand_over(&[], Box::new(|| {}))),
        _ => echo(request, exchange),
    });
    let (mut idle, mut fresh, mut stream) = (server.connect(), server.connect(), server.connect());
    assert_eq!(idle.get("/").status, 200);
    stream.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.head();
    eventually("only the idle ones have threads", || server.http.connections() == 2);
    eventually("all are asleep", || switches().iter().all(|(_, asleep, _)| *asleep));
    let before = switches();
    assert_eq!(before.len(), 4, "{before:?}");
    crate::support::measure_over(Duration::from_millis(1500));
    assert_eq!(switches(), before);
    assert_eq!(fresh.get("/").status, 200);
}

/// Name, whether it sleeps, and voluntary context switches of the server's threads.
fn switches() -> Vec<(String, bool, String)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("status"));
    let mut found: Vec<_> = tasks
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|status| {
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_once(':').unwrap().1.trim().to_owned()
            };
            (field("Name"), field("State").starts_with('S'), field("voluntary_ctxt_switches"))
        })
        .filter(|(name, ..)| ["test:accept", "sse-hub"].contains(&name.as_str()) || name.starts_with("conn:"))
        .collect();
    found.sort();
    found
}

fn cpu_ms() -> i64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let total = usage.user_time() + usage.system_time();
    total.tv_sec() * 1000 + total.tv_usec() / 1000
}
