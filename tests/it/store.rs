//! The state database: what was acknowledged survives everything, and nothing that happens to the file stops the
//! daemon. Other processes are this test binary again ([`the_other_process`]).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run plain commands and fail by panicking; support/mod.rs says how they wait without sleeping"
)]

use crate::support::daemon::Daemon;
use crate::support::{PATIENCE, TempDir, demo_config, until};
use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::limits::STORE_PATIENCE;
use mcpvisor::store::{Created, Record, Removal, Standing, Store};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use rusqlite::Connection;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ENGINE: &str = "unix:///run/docker.sock";

fn record(number: u64) -> Record {
    Record {
        engine: ENGINE.to_owned(),
        id: format!("{number:064x}"),
        name: format!("mcpvisor-12345678-git-{number}"),
        server: "git".to_owned(),
        instance: "1".repeat(32),
        session: "2".repeat(32),
        life: number,
        created_ms: number,
    }
}

fn removal(number: u64) -> Removal {
    let Record { engine, id, name, server, created_ms, .. } = record(number);
    Removal { engine, id, name, server, since_ms: created_ms, tries: 0, last_error: None, unverified: false }
}

/// The lives of the containers that it knows of.
fn lives(store: &Store) -> Vec<u64> {
    store.records().iter().map(|created| created.record.life).collect()
}

fn closed(store: Store) {
    assert!(store.close(PATIENCE), "not closed in time");
}

/// The databases that were moved aside.
fn moved_aside(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut moved: Vec<PathBuf> =
        all.filter(|path| path.to_str().unwrap().contains("/state.db.broken-")).collect();
    moved.sort();
    moved
}

#[test]
fn what_was_told_is_there_again() {
    let tmp = TempDir::new();
    let store = Store::open(tmp.path());
    for number in 1..=3 {
        store.created(record(number)).unwrap();
    }
    store.gone(ENGINE, &record(2).id);
    for number in [1, 3] {
        store.owe(removal(number)).unwrap();
    }
    store.tried(ENGINE, &record(1).id, Some("500: \"driver failed\"".to_owned()), true);
    store.paid(ENGINE, &record(3).id);
    store.remember("era", "git", "\"2025-11-25\"").unwrap();
    store.remember("era", "gone", "1").unwrap();
    store.forget("era", "gone");
    let too_large = store.remember("era", "git", &"x".repeat(1 << 20)).unwrap_err();
    assert_eq!(too_large.kind, FaultKind::TooLarge);
    let (records, owed) = (store.records(), store.owed());
    closed(store);

    let names: Vec<_> = fs::read_dir(tmp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.db"], "an orderly end leaves one file");
    assert_eq!(fs::metadata(tmp.join("state.db")).unwrap().permissions().mode() & 0o777, 0o600);
    let store = Store::open(tmp.path());
    assert_eq!((store.records(), store.owed()), (records, owed));
    let gone: Vec<bool> = store.records().iter().map(|created: &Created| created.gone_ms.is_some()).collect();
    assert_eq!(gone, [false, true, false]);
    let owed = store.owed();
    assert_eq!((owed.len(), owed[0].tries, owed[0].unverified), (1, 1, true));
    assert_eq!(store.recall_all("era"), [("git".to_owned(), "\"2025-11-25\"".to_owned())]);
    assert_eq!(store.recall("era", "gone"), None);
    assert_eq!(store.trouble(), None);
    closed(store);
}

#[test]
fn what_nobody_needs_is_not_opened() {
    let tmp = TempDir::new();
    let store = Store::open(tmp.path());
    assert_eq!((store.is_read(), store.trouble(), store.owed_so_far().len()), (false, None, 0));
    closed(store);
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    let store = Store::open(tmp.path());
    store.begin();
    until("the file to be read", || store.is_read().then_some(()));
}

#[test]
fn after_the_end_nothing_is_acknowledged() {
    let tmp = TempDir::new();
    let store = Store::open(tmp.path());
    let other = store.clone();
    closed(store);
    assert_eq!(other.created(record(1)).unwrap_err().kind, FaultKind::Stopped);
    assert_eq!(lives(&other), [1]);
    assert!(other.close(Duration::ZERO), "it is closed already");
}

/// A database with a few hundred rows, closed.
fn filled(dir: &Path) {
    let store = Store::open(dir);
    for number in 0..200 {
        store.remember("t", &number.to_string(), &format!("\"{}\"", "x".repeat(300))).unwrap();
    }
    store.created(record(1)).unwrap();
    closed(store);
}

#[test]
fn a_broken_file_is_moved_aside() {
    type Break = fn(&Path);
    let cases: [(&str, Break, &str); 9] = [
        (
            "garbage",
            |path| fs::write(path, "no database, but long enough ".repeat(100)).unwrap(),
            "not a database",
        ),
        ("a few bytes", |path| fs::write(path, "SQLite format 3").unwrap(), "not a database"),
        ("cut in the middle", |path| cut(path, 2), "malformed"),
        ("cut to a page", |path| cut(path, 20), ""),
        ("zeros inside", |path| overwrite(path, 8192, &[0; 4096]), ""),
        ("a lost header", |path| overwrite(path, 0, &[0xff; 100]), "not a database"),
        ("a later version", |path| sql(path, "PRAGMA user_version = 7"), "schema is version 7"),
        (
            "another program's",
            |path| {
                fs::remove_file(path).unwrap();
                sql(path, "CREATE TABLE a (b)");
            },
            "another program",
        ),
        ("a table that is missing", |path| sql(path, "DROP TABLE owed"), "no such table"),
    ];
    for (what, break_it, said) in cases {
        let tmp = TempDir::new();
        let path = tmp.path().join("state.db");
        filled(tmp.path());
        break_it(&path);
        let broken = fs::read(&path).unwrap();
        let store = Store::open(tmp.path());
        assert_eq!(lives(&store), [0; 0], "{what}");
        store.created(record(2)).unwrap();
        let trouble = store.trouble().expect(what);
        assert_eq!((trouble.state, trouble.fault.kind), (Standing::Ok, FaultKind::Internal), "{what}");
        let moved = moved_aside(tmp.path());
        assert_eq!(moved.len(), 1, "{what}: {moved:?}");
        let message = &trouble.fault.message;
        assert!(message.contains(said) && message.contains(moved[0].to_str().unwrap()), "{what}: {message}");
        assert_eq!(fs::read(&moved[0]).unwrap().len(), broken.len(), "{what}");
        closed(store);
        let store = Store::open(tmp.path());
        assert_eq!((lives(&store), store.trouble()), (vec![2], None), "{what}");
        closed(store);
    }
}

fn cut(path: &Path, parts: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / parts).unwrap();
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn sql(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

#[test]
fn an_empty_file_is_a_new_one() {
    let tmp = TempDir::new();
    fs::write(tmp.join("state.db"), "").unwrap();
    let store = Store::open(tmp.path());
    store.created(record(1)).unwrap();
    assert_eq!((store.trouble(), moved_aside(tmp.path()).len()), (None, 0));
}

#[test]
fn what_cannot_be_opened_is_done_without() {
    let tmp = TempDir::new();
    let path = tmp.join("state.db");
    fs::create_dir(&path).unwrap();
    let store = Store::open(tmp.path());
    let begun = Instant::now();
    let fault = store.created(record(1)).unwrap_err();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(fault.kind, FaultKind::HostResources);
    let trouble = store.trouble().unwrap();
    assert_eq!((trouble.state, trouble.fault), (Standing::Memory, fault));
    assert_eq!(lives(&store), [1]);
    // The next change tries again.
    fs::remove_dir(&path).unwrap();
    store.created(record(2)).unwrap();
    assert_eq!(store.trouble(), None);
    closed(store);
    assert_eq!(lives(&Store::open(tmp.path())), [1, 2]);
}

#[test]
fn a_locked_file_stays_where_it_is() {
    let tmp = TempDir::new();
    filled(tmp.path());
    let mut holder = Other::start("hold", tmp.path());
    assert_eq!(holder.line(), "held");
    let store = Store::open(tmp.path());
    assert_eq!(store.created(record(2)).unwrap_err().kind, FaultKind::Busy);
    let trouble = store.trouble().unwrap();
    assert_eq!(trouble.state, Standing::Memory);
    assert!(trouble.fault.message.contains("locked"), "{trouble:?}");
    assert_eq!((lives(&store), moved_aside(tmp.path()).len()), (vec![2], 0));
    holder.kill();
    until("the lock to be free", || store.created(record(3)).ok());
    assert_eq!(store.trouble(), None);
    assert_eq!(lives(&store), [1, 2, 3]);
    closed(store);
    assert_eq!(lives(&Store::open(tmp.path())), [1, 2, 3]);
}

#[test]
fn killed_at_any_moment_it_has_what_was_acknowledged() {
    for round in 0..20 {
        let tmp = TempDir::new();
        let mut other = Other::start("write", tmp.path());
        let last = (0..=round * 7).map(|_| other.line()).last().unwrap();
        other.kill();
        // What it said before it died, and we did not read yet.
        let acknowledged = other.rest().last().cloned().unwrap_or(last);
        let store = Store::open(tmp.path());
        let known = lives(&store);
        for number in 0..=acknowledged.parse().unwrap() {
            assert!(known.contains(&number), "round {round}: {number} of {acknowledged} is lost: {known:?}");
        }
        assert_eq!(store.trouble(), None);
        closed(store);
    }
}

#[test]
fn a_disk_that_takes_nothing_more_stops_nobody() {
    let tmp = TempDir::new();
    let mut other = Other::start("full", tmp.path());
    let said = other.rest();
    let logged: Vec<&String> = said.iter().filter(|line| line.starts_with("log ")).collect();
    assert_eq!(logged.len(), 2, "one line for each change: {said:#?}");
    assert!(logged[0].starts_with("log ERROR write ") && logged[1].starts_with("log INFO "), "{said:#?}");
    assert_eq!(said.last().unwrap(), "passed", "{said:#?}");
    let store = Store::open(tmp.path());
    assert_eq!(lives(&store), (0..=21).collect::<Vec<u64>>());
    closed(store);
}

/// Not a test of its own: what the tests above run as another process, told by the environment.
#[test]
fn the_other_process() {
    let Some(role) = std::env::var_os("IT_STORE_ROLE") else { return };
    let dir = PathBuf::from(std::env::var_os("IT_STORE_DIR").unwrap());
    match role.to_str().unwrap() {
        "hold" => {
            let store = Store::open(&dir);
            store.created(record(1)).unwrap();
            say("held");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        "write" => {
            let store = Store::open(&dir);
            for number in 0.. {
                store.created(record(number)).unwrap();
                say(&number.to_string());
            }
        }
        "full" => full_disk(&dir),
        other => panic!("no role {other}"),
    }
}

fn say(line: &str) {
    // Behind a mark: the test harness says things too.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n= {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// With a limit on the size of its files in place of a full disk.
fn full_disk(dir: &Path) {
    struct Said;
    impl log::Log for Said {
        fn enabled(&self, _: &log::Metadata) -> bool {
            true
        }
        fn log(&self, record: &log::Record) {
            say(&format!("log {} {}", record.level(), record.args()));
        }
        fn flush(&self) {}
    }
    log::set_logger(&Said).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    // Held back, the signal leaves an error of the write.
    SigSet::from(Signal::SIGXFSZ).thread_block().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap();

    let store = Store::open(dir);
    store.created(record(0)).unwrap();
    limit(1);
    for number in 1..=20 {
        let begun = Instant::now();
        let fault = store.created(record(number)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::HostResources, "{fault}");
        assert!(begun.elapsed() < STORE_PATIENCE + PATIENCE / 10);
        assert_eq!(store.trouble().unwrap().state, Standing::Failing);
        assert_eq!(store.trouble().unwrap().fault, fault);
    }
    assert_eq!(lives(&store), (0..=20).collect::<Vec<u64>>());
    limit(hard);
    store.created(record(21)).unwrap();
    assert_eq!(store.trouble(), None);
    closed(store);
    say("passed");
}

/// This test binary again, in one of the roles of [`the_other_process`]; killed when dropped.
struct Other {
    child: Child,
    out: BufReader<ChildStdout>,
    _in: ChildStdin,
}

impl Other {
    fn start(role: &str, dir: &Path) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "store::the_other_process", "--nocapture", "--test-threads=1"]);
        command.env("IT_STORE_ROLE", role).env("IT_STORE_DIR", dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Other { child, out: BufReader::new(out), _in: input }
    }

    /// The next line that it says.
    fn line(&mut self) -> String {
        self.next().expect("it says something before it ends")
    }

    /// Every line until it ends.
    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // A line that was cut by the kill was not said.
            if let Some(said) = line.strip_prefix("= ").and_then(|line| line.strip_suffix('\n')) {
                return Some(said.to_owned());
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory whose state directory holds what `fill` makes of it.
fn with_state(fill: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let tmp = TempDir::new();
    let state = tmp.path().join("state");
    fs::create_dir(&state).unwrap();
    fill(&state);
    (tmp, state)
}

/// Starts a daemon in it, which serves; returns it with what its status says of the database.
fn started(tmp: TempDir) -> (Daemon, serde_json::Value) {
    let daemon = Daemon::start_in(tmp, &demo_config(&[("a", "")]), &[]);
    daemon.wait_ready(&["a"]);
    let status = daemon.wait_until("what is wrong with the database", |status| !status["store"].is_null());
    (daemon, status["store"].clone())
}

#[test]
fn a_daemon_with_a_broken_database_serves_and_says_so() {
    let (tmp, state) = with_state(|state| fs::write(state.join("state.db"), "garbage".repeat(999)).unwrap());
    let (mut daemon, store) = started(tmp);
    assert_eq!((&store["state"], &store["kind"]), (&"ok".into(), &"internal".into()));
    let moved = moved_aside(&state);
    assert!(store["message"].as_str().unwrap().contains(moved[0].to_str().unwrap()), "{store}");
    assert_eq!(fs::read_to_string(&moved[0]).unwrap(), "garbage".repeat(999));
    let shown = daemon.cli(&["status"]).stdout;
    assert!(shown.contains("state: open ") && shown.contains("moved to"), "{shown}");
    let said = daemon.output().1.matches("it was moved to").count();
    assert_eq!(said, 1, "once in the log");
    assert!(daemon.stop().success());
    // The next start has nothing to say.
    let tmp = daemon.into_tmp();
    let daemon = Daemon::start_in(tmp, &demo_config(&[("a", "")]), &[]);
    assert!(daemon.wait_ready(&["a"])["store"].is_null());
    assert_eq!(moved_aside(&state).len(), 1);
}

#[test]
fn a_daemon_whose_database_another_process_holds_serves_and_says_so() {
    let (tmp, state) = with_state(filled);
    let mut holder = Other::start("hold", &state);
    assert_eq!(holder.line(), "held");
    let (mut daemon, store) = started(tmp);
    assert_eq!((&store["state"], &store["kind"]), (&"memory".into(), &"busy".into()));
    assert!(daemon.stop().success());
    assert_eq!(moved_aside(&state).len(), 0);
    holder.kill();
    assert_eq!(lives(&Store::open(&state)), [1], "untouched");
}

#[test]
fn a_daemon_that_cannot_make_its_database_serves_and_says_so() {
    let (tmp, _state) = with_state(|state| fs::create_dir(state.join("state.db")).unwrap());
    let (mut daemon, store) = started(tmp);
    assert_eq!((&store["state"], &store["kind"]), (&"memory".into(), &"host_resources".into()));
    assert!(daemon.stop().success());
}
