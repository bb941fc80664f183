//! Nothing that mcpvisor starts outlives it, however it dies; and nothing that is not its own is touched.
//!
//! The rounds run the real binary with servers that do everything to survive. The others drive the reaper against
//! real processes.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts processes by the ordinary way"
)]

use crate::support::dead_instances;
use mcpvisor::base::id::{Life, Slug};
use mcpvisor::base::time::Time;
use mcpvisor::reaper::clear::{LifeEnd, clear_life};
use mcpvisor::reaper::instance::{self, Instance};
use mcpvisor::reaper::judge::{EndBecause, KeepBecause, Verdict};
use mcpvisor::reaper::ledger::{Leader, Ledger};
use mcpvisor::reaper::mark::{Marker, Owner};
use mcpvisor::reaper::sweep::{Survey, Suspect, cgroup_prefix};
use mcpvisor::sys::cgroup::Cgroup;
use mcpvisor::sys::clock;
use mcpvisor::sys::hold::{Hold, wait_all};
use mcpvisor::sys::procfs;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What takes longer than this has failed; never what is measured.
const GENEROUS: Duration = Duration::from_secs(30);
/// The promise.
const GONE_WITHIN: Duration = Duration::from_secs(2);

const SERVERS: usize = 2;
/// Each server runs its leader and one grandchild that left its group and its session.
const PROCESSES: usize = 2 * SERVERS;

#[test]
fn fifty_kills_of_the_daemon() {
    let rig = Rig::new("daemon");
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let mut serve = rig.serve();
        let killed = serve.kill_daemon();
        slowest = slowest.max(serve.all_gone_since(killed));
        assert_eq!(serve.guardian.wait().unwrap().code(), Some(1));
    }
    println!("50 kills of the daemon: nothing left after {slowest:?} at most");
    rig.ends_orderly();
}

#[test]
fn fifty_kills_of_the_guardian() {
    let rig = Rig::new("guardian");
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let mut serve = rig.serve();
        let killed = serve.kill_guardian();
        slowest = slowest.max(serve.all_gone_since(killed));
    }
    println!("50 kills of the guardian: nothing left after {slowest:?} at most");
    rig.ends_orderly();
}

#[test]
fn twenty_kills_of_both() {
    let _alone = dead_instances();
    let rig = Rig::new("both");
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let mut serve = rig.serve();
        serve.kill_guardian();
        serve.kill_daemon();
        assert!(wait_all(std::slice::from_ref(&serve.daemon), soon(), None));
        assert!(serve.servers.iter().all(|server| !server.is_gone()), "they were to survive this");
        let started = clock::now();
        let next = rig.serve();
        slowest = slowest.max(serve.all_gone_since(started));
        next.stop();
    }
    println!("20 kills of both: nothing left {slowest:?} after the next start at most");
    rig.ends_orderly();
}

#[test]
fn cleanup_ends_what_both_left() {
    let _alone = dead_instances();
    let rig = Rig::new("cleanup");
    let mut serve = rig.serve();
    serve.kill_guardian();
    serve.kill_daemon();
    assert!(wait_all(std::slice::from_ref(&serve.daemon), soon(), None));
    let pids: Vec<u32> = serve.servers.iter().map(|server| server.pid).collect();
    let ours = |report: &Value, list: &str| -> Vec<u32> {
        let listed =
            report[list].as_array().unwrap().iter().map(|entry| entry["pid"].as_u64().unwrap() as u32);
        listed.filter(|pid| pids.contains(pid)).collect()
    };
    let (code, shown) = rig.json(&["cleanup", "--dry-run", "--json"]);
    assert_eq!((code, ours(&shown, "ended").len()), (0, PROCESSES), "{shown}");
    assert!(serve.servers.iter().all(|server| !server.is_gone()), "a dry run ends nothing");
    let (code, done) = rig.json(&["cleanup", "--force", "--json"]);
    assert_eq!((code, ours(&done, "left").len()), (0, 0), "{done}");
    assert!(wait_all(&serve.servers, soon(), None), "{}", serve.survivors());
    let (_, again) = rig.json(&["cleanup", "--dry-run", "--json"]);
    assert_eq!(ours(&again, "ended").len(), 0, "{again}");
    rig.ends_orderly();
}

#[test]
fn a_restart_leaves_nothing_of_the_life_before() {
    let rig = Rig::new("restart");
    let mut serve = rig.serve();
    rig.forget_pids();
    for n in 0..SERVERS {
        assert_eq!(rig.run(&["upstream", "restart", &format!("nasty{n}")]).status.code(), Some(0));
    }
    let (_, next) = rig.wait_until_ready(&serve.guardian_hold);
    assert!(wait_all(&serve.servers, soon(), None), "{}", serve.survivors());
    assert!(next.iter().all(|server| !server.is_gone()));
    serve.servers = next;
    serve.stop();
}

#[test]
fn a_second_start_names_the_first() {
    let rig = Rig::new("second");
    let serve = rig.serve();
    let second = rig.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(6));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("pid {}", serve.daemon.pid)), "{said}");
    serve.stop();
}

/// One state directory, and a config with servers that nobody would want.
struct Rig {
    dir: PathBuf,
}

impl Rig {
    fn new(name: &str) -> Rig {
        let dir = std::env::temp_dir().join(format!("mcpvisor-orphans-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let rig = Rig { dir };
        let servers: serde_json::Map<String, Value> =
            (0..SERVERS).map(|n| (format!("nasty{n}"), rig.server())).collect();
        fs::write(rig.config(), json!({ "mcpServers": servers }).to_string()).unwrap();
        rig
    }

    fn server(&self) -> Value {
        let flags = [
            "demo-server",
            "--ignore-eof",
            "--ignore-term",
            "--double-fork",
            "--setsid",
            "--grandchild-clean-env",
            "--pid-file",
        ];
        let pids = self.pid_file();
        let args: Vec<&str> = flags.into_iter().chain(pids.to_str()).collect();
        json!({ "command": env!("CARGO_BIN_EXE_mcpvisor"), "args": args })
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("pids")
    }

    fn forget_pids(&self) {
        // There is none in the first round.
        let _ = fs::remove_file(self.pid_file());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcpvisor"));
        command.arg("--state-dir").arg(self.state()).arg("--config").arg(self.config()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(arguments);
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap_or(-1), value)
    }

    /// Starts it and waits until every server is ready and every process of it has said its pid.
    fn serve(&self) -> Serve {
        self.forget_pids();
        let log = fs::File::create(self.dir.join("stderr")).unwrap();
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let guardian = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let guardian_hold = Hold::of_process(&procfs::process(guardian.id()).unwrap()).unwrap();
        let ready = catch_unwind(AssertUnwindSafe(|| self.wait_until_ready(&guardian_hold)));
        let (daemon, servers) = ready.unwrap_or_else(|failed| {
            // What was started is ended, in order, before the test fails.
            let _ = guardian_hold.signal(Signal::SIGTERM);
            wait_all(std::slice::from_ref(&guardian_hold), soon(), None);
            resume_unwind(failed)
        });
        Serve { guardian, guardian_hold, daemon, servers }
    }

    fn wait_until_ready(&self, guardian: &Hold) -> (Hold, Vec<Hold>) {
        let deadline = soon();
        loop {
            let (_, status) = self.json(&["status", "--json"]);
            let states = status["servers"].as_array().into_iter().flatten();
            let ready = states.clone().count() > 0 && states.clone().all(|server| server["state"] == "ready");
            let pids = fs::read_to_string(self.pid_file()).unwrap_or_default();
            // ROLE PID START
            let pid = |line: &str| line.split(' ').nth(1)?.parse().ok();
            let pids: Vec<u32> = pids.lines().filter_map(pid).collect();
            if ready && pids.len() == PROCESSES {
                let daemon = status["pid"].as_u64().unwrap() as u32;
                let hold = |pid: &u32| procfs::process(*pid).and_then(|process| Hold::of_process(&process));
                return (hold(&daemon).unwrap(), pids.iter().filter_map(hold).collect());
            }
            let said = || fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
            assert!(clock::now() < deadline, "not ready: {status} {pids:?}\n{}", said());
            // A pause between two looks that ends at once when serve does.
            let pause = clock::now() + Duration::from_millis(10);
            assert!(!wait_all(std::slice::from_ref(guardian), pause, None), "serve ended:\n{}", said());
        }
    }

    /// After all that, an ordinary run is still ordinary, and no trace is left on the host.
    fn ends_orderly(self) {
        self.serve().stop();
        let prefix = cgroup_prefix(&instance::peek(&self.state()).unwrap());
        let boxes = Cgroup::own().map(|own| own.children()).unwrap_or_default();
        let left: Vec<_> = boxes.iter().filter(|cgroup| cgroup.name().starts_with(&prefix)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What cannot be removed here is in the temporary directory.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A run, and every process of it.
struct Serve {
    guardian: Child,
    guardian_hold: Hold,
    daemon: Hold,
    servers: Vec<Hold>,
}

impl Serve {
    fn kill_daemon(&mut self) -> Time {
        self.daemon.signal(Signal::SIGKILL).unwrap();
        clock::now()
    }

    fn kill_guardian(&mut self) -> Time {
        self.guardian.kill().unwrap();
        let killed = clock::now();
        self.guardian.wait().unwrap();
        killed
    }

    /// Waits until nothing is left, which must be within the promise; returns how long it took.
    fn all_gone_since(&mut self, then: Time) -> Duration {
        let deadline = then + GONE_WITHIN;
        let gone = wait_all(&self.servers, deadline, None)
            && wait_all(std::slice::from_ref(&self.daemon), deadline, None);
        assert!(gone, "left after {GONE_WITHIN:?}: {}", self.survivors());
        clock::now().since(then)
    }

    fn stop(mut self) {
        self.guardian_hold.signal(Signal::SIGTERM).unwrap();
        assert!(wait_all(std::slice::from_ref(&self.guardian_hold), soon(), None), "it did not stop");
        assert_eq!(self.guardian.wait().unwrap().code(), Some(0));
        assert!(self.servers.iter().all(Hold::is_gone), "left: {}", self.survivors());
    }

    fn survivors(&self) -> String {
        let alive = self.servers.iter().chain([&self.daemon]).filter(|hold| !hold.is_gone());
        alive.map(|hold| format!("{} {}\n", hold.pid, procfs::command_line(hold.pid))).collect()
    }
}

/// A failed test leaves nothing behind either.
impl Drop for Serve {
    fn drop(&mut self) {
        for hold in self.servers.iter().chain([&self.daemon, &self.guardian_hold]) {
            let _ = hold.signal(Signal::SIGKILL);
        }
        let _ = self.guardian.wait();
    }
}

fn soon() -> Time {
    clock::now() + GENEROUS
}

/// A process of the test's own, ended with it.
struct Sleeper {
    child: Child,
    hold: Hold,
}

impl Sleeper {
    /// `sh -c SCRIPT` in a group of its own, with `env`.
    fn start(script: &str, env: &[(String, String)]) -> Sleeper {
        let env = env.iter().map(|(name, value)| (name, value));
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).envs(env).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let child = command.spawn().unwrap();
        let hold = Hold::of_process(&procfs::process(child.id()).unwrap()).unwrap();
        Sleeper { child, hold }
    }

    fn leader(&self, server: &str) -> Leader {
        let pipes = vec![inode(&self.child)];
        let Hold { pid, start, .. } = &self.hold;
        Leader { pid: *pid, start: *start, pgid: *pid, server: server.to_owned(), pipes }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of the pipe that is its stdout.
fn inode(child: &Child) -> u64 {
    let stdout = child.stdout.as_ref().unwrap();
    nix::sys::stat::fstat(stdout.as_fd()).unwrap().st_ino
}

/// Waits until `path` holds `count` pids, and holds them.
fn pids_in(path: &Path, count: usize) -> Vec<Hold> {
    let deadline = soon();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|pid| pid.parse().ok()).collect();
        if pids.len() == count {
            let hold = |pid: &u32| Hold::of_process(&procfs::process(*pid).unwrap()).unwrap();
            return pids.iter().map(hold).collect();
        }
        assert!(clock::now() < deadline, "{} of {count}", pids.len());
        let me = Hold::of_process(&procfs::process(std::process::id()).unwrap()).unwrap();
        wait_all(&[me], clock::now() + Duration::from_millis(5), None);
    }
}

fn fresh_dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("mcpvisor-reaper-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn a_life_is_cleared_with_all_that_left_its_group() {
    let dir = fresh_dir("life");
    let marker =
        Marker { instance: "a".repeat(32), session: instance::random_id(), owner: Owner::ourselves() };
    let (mine, next) = (marker.mark(&Slug::of("git"), Life(1)), marker.mark(&Slug::of("git"), Life(2)));
    let pids = dir.join("pids");
    let say = format!("echo $$ >> {}", pids.display());
    // In the group; out of it by setsid with the mark; out of it without the mark while its parent lives;
    // and one that is daemonised, so that only the mark leads to it.
    let script = format!(
        "trap '' TERM; sh -c '{say}; exec sleep 600' & setsid sh -c '{say}; exec sleep 600' & \
         setsid env -i /bin/sh -c '{say}; exec sleep 600' & \
         (setsid sh -c '{say}; exec sleep 600' &) & {say}; wait; exec sleep 600"
    );
    let leader = Sleeper::start(&script, &mine.env());
    let other = Sleeper::start("exec sleep 600", &next.env());
    let all = pids_in(&pids, 5);
    let identity = (leader.hold.pid, leader.hold.start);
    let known = |pid| pid == leader.hold.pid || pid == other.hold.pid;
    let life = LifeEnd {
        leader: identity,
        mark: &mine,
        pipes: &[inode(&leader.child)],
        known: &known,
        known_after_all: &|pid| Ok(known(pid)),
    };
    let cleared = clear_life(&life);
    assert_eq!(cleared.left, []);
    assert!(all.iter().all(Hold::is_gone));
    assert!(cleared.ended.len() >= 5, "{:?}", cleared.ended);
    assert!(!other.hold.is_gone(), "the next life of the same server is not this life");
    let again = clear_life(&life);
    assert_eq!((again.ended, again.left), (vec![], vec![]));
    fs::remove_dir_all(&dir).unwrap();
}

/// Until it runs its program, a child that is being started for another life holds the pipes of all lives, and nobody
/// knows it yet: it looks like an orphan, and is none.
#[test]
fn what_is_just_being_started_is_not_taken_for_an_orphan() {
    let marker =
        Marker { instance: "a".repeat(32), session: instance::random_id(), owner: Owner::ourselves() };
    let mark = marker.mark(&Slug::of("git"), Life(1));
    for being_started in [true, false] {
        let leader = Sleeper::start("exec sleep 600", &mark.env());
        let pipe = leader.child.stdout.as_ref().unwrap().as_fd().try_clone_to_owned().unwrap();
        let mut command = Command::new("sleep");
        let mut other = command.arg("600").env_clear().stdin(pipe).spawn().unwrap();
        let cleared = clear_life(&LifeEnd {
            leader: (leader.hold.pid, leader.hold.start),
            mark: &mark,
            pipes: &[inode(&leader.child)],
            known: &|pid| pid == leader.hold.pid,
            known_after_all: &|pid| Ok(being_started && pid == other.id()),
        });
        assert_eq!(cleared.left, []);
        assert_eq!(other.try_wait().unwrap().is_none(), being_started, "{:?}", cleared.ended);
        // Ended already is as good.
        let _ = other.kill();
        other.wait().unwrap();
    }
}

#[test]
fn a_sweep_ends_what_is_proven_and_keeps_the_rest() {
    let dir = fresh_dir("sweep");
    let instance = Instance::open(&dir).unwrap();
    let dead = Owner { start: 1, ..Owner::ourselves() };
    let server = Slug::of("git");
    let marked = |instance: &str, session: &str, owner: &Owner| {
        let marker =
            Marker { instance: instance.to_owned(), session: session.to_owned(), owner: owner.clone() };
        Sleeper::start("exec sleep 600", &marker.mark(&server, Life(1)).env())
    };
    let (ours, others) = (instance.id.as_str(), "f".repeat(32));
    let earlier = marked(ours, "earlier", &dead);
    let current = marked(ours, &instance.session, &Owner::ourselves());
    let shared = marked(ours, "a-twin", &Owner::ourselves());
    let other_alive = marked(&others, "theirs", &Owner::ourselves());
    let other_dead = marked(&others, "theirs", &dead);
    let nobody = Sleeper::start("exec sleep 600", &[]);
    let recorded = Sleeper::start("exec sleep 600", &[]);

    // A leader that is gone, and an orphan of it, in another session and without a mark, that holds its stdout.
    let pids = dir.join("pids");
    let script =
        format!("setsid env -i /bin/sh -c 'echo $$ > {}; exec sleep 600' & exec sleep 600", pids.display());
    let mut gone = Sleeper::start(&script, &[]);
    let stray = pids_in(&pids, 1).remove(0);
    let leaders = [recorded.leader("a"), gone.leader("b")];
    gone.child.kill().unwrap();
    gone.child.wait().unwrap();

    let (ledger, _) = Ledger::open(&instance, None).unwrap();
    leaders.into_iter().for_each(|leader| ledger.born(leader));
    let (_, sections) = Ledger::open(&instance, None).unwrap();
    let survey = Survey::at_start(&instance, sections, None);

    let everyone = Survey { everyone: true, ..survey.clone() };
    let seen = everyone.look();
    let verdict = |seen: &[Suspect], hold: &Hold| {
        seen.iter().find(|suspect| suspect.process.pid == hold.pid).map(|suspect| suspect.verdict)
    };
    let me = std::process::id();
    for (sleeper, expected) in [
        (&earlier, Some(Verdict::End(EndBecause::OwnerGone(me)))),
        (&current, Some(Verdict::Keep(KeepBecause::CurrentRun))),
        (&shared, Some(Verdict::Keep(KeepBecause::OwnerAlive(me)))),
        (&other_alive, Some(Verdict::Keep(KeepBecause::OwnerAlive(me)))),
        (&other_dead, Some(Verdict::End(EndBecause::OwnerGone(me)))),
        (&nobody, None),
        (&recorded, Some(Verdict::End(EndBecause::Recorded))),
    ] {
        assert_eq!(verdict(&seen, &sleeper.hold), expected);
    }
    assert_eq!(verdict(&seen, &stray), Some(Verdict::End(EndBecause::HoldsOurPipe)));

    let report = survey.carry_out();
    assert_eq!(report.left, []);
    let ended = |hold: &Hold| report.ended.iter().any(|suspect| suspect.process.pid == hold.pid);
    assert!(ended(&earlier.hold) && ended(&recorded.hold) && ended(&stray));
    assert!(earlier.hold.is_gone() && recorded.hold.is_gone() && stray.is_gone());
    let kept = [&current, &shared, &other_alive, &other_dead, &nobody];
    assert!(kept.iter().all(|sleeper| !sleeper.hold.is_gone()), "what is not ours is not touched");
    fs::remove_dir_all(&dir).unwrap();
}
