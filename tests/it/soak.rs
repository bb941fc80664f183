//! Nothing grows: processes, containers, servers, sessions and calls that come and go by the thousand leave one daemon
//! as it was, to the thread, the descriptor and the file, and its memory within [`GROWTH_KIB_MAX`].
//!
//! A few of each with every run of the tests; `scripts/soak` is all of them (`SOAK=full`), and sets how many
//! (`SOAK_CALLS=1000000`). On the released binary, as the promises.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, start plain processes, and read the clock"
)]

mod census;
#[path = "../../benches/load.rs"]
#[allow(dead_code, reason = "the benches use the rest of it")]
mod load;
mod sessions;

use crate::docker::scene::{docker_run, isolated, of_instance};
use crate::support::dockerd;
use crate::support::engine::Engine;
use crate::support::released::{Released, Serving, released};
use crate::support::wire::Wire;
use crate::support::{demo_entry, http, images, until_within};
use census::Census;
use load::{Clients, Subject};
use mcpvisor::reaper::instance;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the memory may have grown by, from when a tenth of a phase was done to its end.
const GROWTH_KIB_MAX: u64 = 1 << 10;

/// How soon after the last of them everything is as it was.
const SETTLED: Duration = Duration::from_secs(60);

/// Servers that are restarted, and who asks for it at the same time.
const RESTARTED: u64 = 16;
const WORKERS: u64 = 8;

/// Who comes and goes at the same time otherwise: as many as there are servers in containers. More only stir the heap.
const FEW: u64 = 4;

/// Servers in containers: two that we isolate, two that the user runs with `docker run`.
const CONTAINED: [&str; 4] = ["c0", "c1", "d0", "d1"];

/// Connections that call at the same time, on either mount.
const CALLERS: usize = 8;

/// How many of each: the run with every test, and the whole.
const SIZES: [(&str, u64, u64); 5] = [
    ("processes", 1_000, 10_000),
    ("containers", 20, 100),
    ("reloads", 100, 1_000),
    ("sessions", 1_000, 10_000),
    ("calls", 60_000, 1_000_000),
];

pub fn is_full() -> bool {
    std::env::var_os("SOAK").is_some_and(|value| value == "full")
}

fn size(what: &str) -> u64 {
    let (_, few, all) = SIZES.iter().find(|(name, ..)| *name == what).unwrap();
    let told = std::env::var(format!("SOAK_{}", what.to_uppercase())).ok();
    told.map_or(if is_full() { *all } else { *few }, |text| text.parse().unwrap())
}

/// The daemon that all of it is done to.
struct Subjected {
    serving: Serving,
    both: [u32; 2],
    config: Value,
    engine: Option<Engine>,
    /// At rest, with all servers ready.
    baseline: Census,
    rows: Vec<String>,
}

#[test]
fn what_came_and_went_leaves_nothing() {
    let Some(released) = released() else { return };
    let mut subjected = Subjected::start(&released);
    subjected.phase("processes", |this, range| {
        // Each has servers of its own: nobody restarts what another one waits for.
        spread("processes", range, |n, worker| {
            this.restart(&format!("p{:02}", worker + WORKERS * (n % (RESTARTED / WORKERS))));
        });
    });
    if subjected.engine.is_some() {
        subjected.phase("containers", |this, range| {
            spread("containers", range, |_, worker| this.restart(CONTAINED[worker as usize % 4]));
        });
    }
    subjected.phase("reloads", Subjected::reload);
    subjected.phase("sessions", |this, range| {
        let pool = sessions::Pool::default();
        spread("sessions", range, |n, _| sessions::one(&this.serving, &pool, n));
    });
    subjected.phase("calls", Subjected::call);
    subjected.end();
}

/// Does `one` for each number, several at a time, and says how far it is. It is told which of the workers it is.
fn spread(what: &str, range: Range<u64>, one: impl Fn(u64, u64) + Sync) {
    let (next, steps) = (AtomicU64::new(range.start), Steps::of(what));
    let workers = if what == "processes" { WORKERS } else { FEW };
    let work = |worker| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= range.end {
                return;
            }
            one(n, worker);
            steps.done(n + 1);
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let work = &work;
            scope.spawn(move || work(worker));
        }
    });
}

/// A line for each fifth of a phase.
struct Steps<'a> {
    what: &'a str,
    step: u64,
    begun: Instant,
}

impl Steps<'_> {
    fn of(what: &str) -> Steps<'_> {
        Steps { what, step: (size(what) / 5).max(1), begun: Instant::now() }
    }

    fn done(&self, count: u64) {
        if count.is_multiple_of(self.step) {
            println!("  {count} {} after {:.1} s", self.what, self.begun.elapsed().as_secs_f64());
        }
    }
}

impl Subjected {
    fn start(released: &Released) -> Subjected {
        let entry = |switches: &str| {
            let mut entry = demo_entry(switches);
            entry["command"] = json!(released.binary);
            entry
        };
        let mut servers: Map<String, Value> = (0..RESTARTED)
            .map(|n| {
                // Some write to their stderr, some have helpers that outlive them.
                let switches = ["", "--tools 20", "--stderr-lines 20", "--double-fork --setsid"];
                (format!("p{n:02}"), entry(switches[n as usize % 4]))
            })
            .collect();
        servers.insert("demo".to_owned(), entry(""));
        servers.insert("notified".to_owned(), entry("--change-tools"));
        let engine = dockerd::shared();
        if let Some(engine) = &engine {
            let image = images::demo(engine);
            for name in &CONTAINED[..2] {
                servers.insert((*name).to_owned(), isolated(&image, ""));
            }
            for name in &CONTAINED[2..] {
                servers.insert((*name).to_owned(), docker_run(&image, "-i --rm", ""));
            }
        }
        let config = json!({ "mcpServers": servers });
        let host = engine.as_ref().map(Engine::host).unwrap_or_default();
        let env = [("DOCKER_HOST", host.as_str())];
        let serving =
            Serving::start_with_env(&released.binary, Some(&config), &env[..usize::from(engine.is_some())]);
        serving.wait_ready();
        let both = serving.both();
        let mut this =
            Subjected { serving, both, config, engine, baseline: Census::default(), rows: Vec::new() };
        // What a start brings with it (the first sweep, the start's own connections) is over when nothing changes.
        until_within("the start to be over", SETTLED, || {
            let before = this.census();
            crate::support::measure_over(Duration::from_secs(2));
            this.baseline = this.census();
            (before == this.baseline).then_some(())
        });
        println!("at rest: {}", this.baseline.line());
        this
    }

    fn census(&self) -> Census {
        let mut census = Census::of(&self.both, &self.serving.mark, self.serving.tmp.path());
        if let Some(engine) = &self.engine {
            let instance = instance::peek(&self.serving.tmp.path().join("state")).unwrap();
            let all = of_instance(engine, &instance);
            census.containers = all.iter().map(|each| each.label("mcpvisor.server").to_owned()).collect();
            census.containers.sort();
        }
        census
    }

    /// A tenth of it, and after a rest the other nine: then everything is there that it takes.
    fn phase(&mut self, what: &str, mut run: impl FnMut(&mut Subjected, Range<u64>)) {
        let (count, begun) = (size(what), Instant::now());
        if count == 0 {
            return;
        }
        println!("{what}: {count}");
        let tenth = (count / 10).max(1);
        run(self, 0..tenth);
        let first = self.settled(what);
        run(self, tenth..count);
        let last = self.settled(what);
        let took = begun.elapsed().as_secs_f64();
        let row =
            format!("{count:>9} {what:<10} {took:>7.1} s {first:>7} {last:>7}  {}", self.baseline.line());
        println!("{row}");
        self.rows.push(row);
        assert!(last <= first + GROWTH_KIB_MAX, "{what}: {first} KiB after a tenth, {last} KiB at the end");
    }

    /// Everything is as it was; the memory of daemon and guardian, in KiB.
    fn settled(&self, what: &str) -> u64 {
        self.serving.wait_ready();
        let begun = Instant::now();
        loop {
            let now = self.census();
            if now == self.baseline {
                return self.both.map(|pid| crate::support::released::of_process(pid, "VmRSS:")).iter().sum();
            }
            let differs = now.differences(&self.baseline);
            assert!(begun.elapsed() < SETTLED, "{what}: not as before:\n{differs}");
            crate::support::measure_over(Duration::from_millis(50));
        }
    }

    fn post(&self, path: &str) -> Value {
        let full = http::request(&self.serving.address, "POST", path, &[], "");
        assert!(matches!(full.head.status, 200 | 202), "{path}: {full:?}");
        serde_json::from_str(&full.body).unwrap()
    }

    fn restart(&self, name: &str) {
        let now = self.post(&format!("/api/v1/servers/{name}/restart?wait=60s"));
        let row = || crate::support::daemon::server(&self.serving.status(), name).clone();
        assert_eq!(now["state"], "ready", "{now}: {}", row());
    }

    /// Each names a server that was not there before, and the one before it no more. Most are gone before they are
    /// ready.
    fn reload(&mut self, range: Range<u64>) {
        let file = self.serving.tmp.join("mcp_config.json");
        let put = |config: &Value| {
            let beside = self.serving.tmp.join("beside");
            std::fs::write(&beside, config.to_string()).unwrap();
            std::fs::rename(beside, &file).unwrap();
            self.post("/api/v1/config/apply");
        };
        let steps = Steps::of("reloads");
        for n in range {
            let mut config = self.config.clone();
            config["mcpServers"][format!("new-{n}")] = config["mcpServers"]["demo"].clone();
            put(&config);
            if n % 10 == 0 {
                self.serving.wait_ready();
            }
            steps.done(n + 1);
        }
        put(&self.config);
    }

    /// On both mounts at once, until so many are answered.
    fn call(&mut self, range: Range<u64>) {
        let echo = |tool: &str| {
            let params = json!({"name": tool, "arguments": {"text": "0123456789".repeat(20)}});
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
        };
        let (answered, begun) = (AtomicU64::new(0), Instant::now());
        let wanted = range.end - range.start;
        let work = |path: &str, tool: &str| {
            let wires: Vec<Wire> =
                (0..CALLERS).map(|_| Wire::open(&format!("http://{}{path}", self.serving.address))).collect();
            let mut each = wires.iter();
            let request = |_: &mut std::net::TcpStream| {
                Ok(load::post(path, Some(&each.next().unwrap().session), &echo(tool)))
            };
            let mut clients = Clients::connect(&self.serving.address, Vec::new(), CALLERS, request).unwrap();
            while answered.load(Ordering::Relaxed) < wanted {
                let slice = clients.slice(Duration::from_millis(500)).unwrap();
                answered.fetch_add(slice.calls() as u64, Ordering::Relaxed);
            }
            drop(clients);
            wires.iter().for_each(Wire::delete);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work("/mcp", "demo__echo"));
            scope.spawn(|| work("/mcp/s/demo", "echo"));
        });
        let answered = answered.into_inner();
        println!("  {answered} calls after {:.1} s", begun.elapsed().as_secs_f64());
    }

    /// And after its end nothing at all is left.
    fn end(mut self) {
        println!("\n    count what          took   KiB at 10 % and 100 %  left, each as at the beginning");
        self.rows.iter().for_each(|row| println!("{row}"));
        self.serving.stop(Duration::from_secs(30));
        let left = self.census();
        assert_eq!((left.processes.len(), left.containers.len()), (0, 0), "{left:#?}");
    }
}
