//! What a `tools/call` costs through mcpvisor, in one run: against a relay that does the least possible, a demo server
//! on pipes, and bare HTTP; by the kind of server and the era; in containers. And what mcpvisor costs while nothing
//! happens.
//!
//! `benches/run` builds everything with the release flags for the target that users get, and runs this. Ratios are
//! paired (see pairs.rs), so they hold on a noisy machine; microseconds do not.
#![allow(clippy::disallowed_methods, reason = "a bench asks the clock, starts processes and waits")]

mod container;
mod echo;
mod far;
mod fleet;
mod load;
mod memory;
mod pairs;
mod recovery;
mod relay;
mod subjects;
#[path = "../tests/it/support/mod.rs"]
mod support;
mod upstreams;

use load::{Slice, Subject};
use memory::Usage;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pairs::{PAIRS_MIN, Rounds};
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use subjects::{ALL, MCPVISOR, ONE, Process};

const USAGE: &str =
    "usage: benches/run [--quick] [--one-cpu] [--json FILE] [--only calls|upstreams|memory|fleet|containers|recovery]
        benches/run load ADDRESS PID CLIENTS SECONDS    (calls a daemon that runs, with a server `demo`)";

/// A whole run takes six minutes on a quiet machine, more where rounds are discarded.
const RUN_MAX: Duration = Duration::from_secs(780);

/// Clients at once in the table of kinds of servers; as many as a remote server is asked at once.
const MANY: usize = 16;

/// What a run is asked to do.
struct Plan {
    span: Duration,
    json: Option<File>,
    calls: bool,
    upstreams: bool,
    memory: bool,
    fleet: bool,
    containers: bool,
    recovery: bool,
}

/// A number with a bound.
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    bound: Option<Bound>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let done = match args.first().map(String::as_str) {
        Some("relay") => relay::run(&args[1..]).map(|()| true),
        Some("echo") => echo::run().map(|()| true),
        Some("far") => far::run().map(|()| true),
        Some("load") => load_only(&args[1..]).map(|()| true),
        _ => plan(&args).and_then(run),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// The load by itself, for somebody who looks at a daemon with a profiler.
fn load_only(args: &[String]) -> io::Result<()> {
    let [address, pid, clients, seconds] = args else { return Err(io::Error::other(USAGE)) };
    let number = |text: &String| text.parse::<u32>().map_err(|_| io::Error::other(USAGE));
    let mut clients = subjects::clients(address, vec![number(pid)?], number(clients)? as usize, ONE)?;
    let slice = clients.slice(Duration::from_secs(number(seconds)?.into()))?;
    println!(
        "p50 {:.1} µs, p99 {:.1} µs, {:.0} calls/s, {:.1} µs of its processor time per call",
        p50(&slice),
        p99(&slice),
        rate(&slice),
        cpu(&slice)
    );
    Ok(())
}

fn plan(args: &[String]) -> io::Result<Plan> {
    let span = Duration::from_millis(200);
    let mut plan = Plan {
        span,
        json: None,
        calls: true,
        upstreams: true,
        memory: true,
        fleet: true,
        containers: true,
        recovery: true,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.as_slice().first().map(String::as_str)) {
            ("--quick", _) => plan.span = Duration::from_millis(80),
            ("--one-cpu", _) => one_cpu()?,
            ("--json", Some(path)) => plan.json = Some(File::create(path)?),
            (
                "--only",
                Some(part @ ("calls" | "upstreams" | "memory" | "fleet" | "containers" | "recovery")),
            ) => {
                plan.calls = part == "calls";
                plan.upstreams = part == "upstreams";
                plan.memory = part == "memory";
                plan.fleet = part == "fleet";
                plan.containers = part == "containers";
                plan.recovery = part == "recovery";
            }
            _ => return Err(io::Error::other(USAGE)),
        }
        if !matches!(arg.as_str(), "--quick" | "--one-cpu") {
            args.next();
        }
    }
    Ok(plan)
}

/// Everything on one processor, ours and what we start: on a machine that others use, the only numbers that come
/// again, because nothing depends on which processor a thread wakes up on.
fn one_cpu() -> io::Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(last)?;
    Ok(sched_setaffinity(this, &one)?)
}

/// Whether every bound holds.
fn run(mut plan: Plan) -> io::Result<bool> {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "glibc" };
    println!("mcpvisor {} ({libc}): {MCPVISOR}", env!("CARGO_PKG_VERSION"));
    subjects::end_after(RUN_MAX);
    let mcpvisor = Process::mcpvisor()?;
    let mut sound = true;
    if plan.memory {
        let idle = row("RSS, idle, daemon and guardian", Usage::of(&mcpvisor)?.rss_mb(), "MB", None);
        sound &= show(&mut plan, "memory", &[idle])?;
    }
    if plan.calls {
        sound &= calls(&mut plan, &mcpvisor)?;
    }
    if plan.memory {
        sound &= at_rest(&mut plan, &mcpvisor)?;
    }
    drop(mcpvisor);
    if plan.upstreams {
        upstreams(&mut plan)?;
    }
    if plan.fleet {
        let (ratio, ours, floor) = fleet::ratio();
        let what = format!("{} servers ready / floor", support::fleet::SERVERS);
        let rows = [
            row(&what, ratio, "x", None),
            row("the same, of mcpvisor", ours, "ms", None),
            row("the same, of the floor", floor, "ms", None),
        ];
        sound &= show(&mut plan, "fleet", &rows)?;
    }
    if plan.containers {
        sound &= containers(&mut plan)?;
    }
    if plan.recovery {
        sound &= recovery(&mut plan)?;
    }
    Ok(sound)
}

fn calls(plan: &mut Plan, mcpvisor: &Process) -> io::Result<bool> {
    let (relay, echo) = (Process::relay()?, Process::echo()?);
    println!("\ntools/call, 200 bytes there and back; ratios to the relay are medians of paired rounds");
    println!("clients  subject       p50 µs  p99 µs  calls/s  cpu µs  p50 ratio  calls/s ratio");
    let mut rows = Vec::new();
    for clients in [1, 16, 64] {
        let mut floor = relay.plain_clients(clients)?;
        let (mut one, mut all) = (mcpvisor.clients(clients, ONE)?, mcpvisor.clients(clients, ALL)?);
        let (mut direct, mut http) = (subjects::pipe(clients)?, echo.plain_clients(clients)?);
        let mut subjects: [&mut dyn Subject; 4] = [&mut one, &mut all, &mut direct, &mut http];
        let of: fn(&Slice) -> f64 = if clients == 1 { p50 } else { rate };
        let rounds = pairs::measure(&mut floor, &mut subjects, of, plan.span)?;
        print_rounds(plan, clients, &rounds)?;
        let pairs = rounds.good.len();
        if pairs < PAIRS_MIN {
            println!("         only {pairs} rounds were quiet enough, {} were not", rounds.discarded);
        }
        for (index, mount) in ["/mcp/s/demo", "/mcp"].into_iter().enumerate() {
            let (what, bound) = match clients {
                1 => (format!("p50, 1 client, {mount} / relay"), Bound::AtMost(1.4)),
                _ => (format!("calls/s, {clients} clients, {mount} / relay"), Bound::AtLeast(0.7)),
            };
            rows.push(row(&what, rounds.ratio(index, of), "x", Some(bound)));
        }
    }
    show(plan, "calls", &rows)
}

fn print_rounds(plan: &mut Plan, clients: usize, rounds: &Rounds) -> io::Result<()> {
    let names = ["relay", "/mcp/s/demo", "/mcp", "direct stdio", "bare HTTP"];
    for (place, name) in names.iter().enumerate() {
        let subject = place.checked_sub(1);
        let [p50_us, p99_us, calls_s, cpu_us] = [p50, p99, rate, cpu].map(|of| rounds.median(subject, of));
        let ratio = |of| subject.map_or(1.0, |index| rounds.ratio(index, of));
        let (p50_ratio, calls_ratio) = (ratio(p50), ratio(rate));
        println!(
            "{clients:>7}  {name:<12} {p50_us:>7.1} {p99_us:>7.0} {calls_s:>8.0} {cpu_us:>7.1} {p50_ratio:>10.2} {calls_ratio:>14.2}"
        );
        let line = json!({
            "clients": clients, "subject": name, "p50_us": p50_us, "p99_us": p99_us, "calls_per_s": calls_s,
            "cpu_us": cpu_us, "p50_ratio": p50_ratio, "calls_ratio": calls_ratio,
            "pairs": rounds.good.len(), "discarded": rounds.discarded,
        });
        note(plan, &line)?;
    }
    Ok(())
}

fn at_rest(plan: &mut Plan, mcpvisor: &Process) -> io::Result<bool> {
    let after = Usage::of(mcpvisor)?;
    let (streams_mb, threads) = memory::idle_streams(mcpvisor, 1000)?;
    let (slow, without_us, with_us) = memory::slow_reader(mcpvisor, PAIRS_MIN, plan.span)?;
    let rows = [
        row("RSS after the load", after.rss_mb(), "MB", None),
        row("1,000 idle streams, RSS more", streams_mb, "MB", Some(Bound::AtMost(6.0))),
        row("1,000 idle streams, threads more", threads as f64, "", Some(Bound::AtMost(0.0))),
        row("p50 of 4 others, no slow reader", without_us, "µs", None),
        row("p50 of 4 others beside a slow reader of 10 MB", with_us, "µs", None),
        row("p50 of 4 others, with / without", slow, "x", Some(Bound::AtMost(1.1))),
    ];
    show(plan, "at rest", &rows)
}

/// Without bounds: what is behind is not ours.
fn upstreams(plan: &mut Plan) -> io::Result<()> {
    let (rows, good) = upstreams::measure(MANY, plan.span)?;
    println!(
        "\nby kind of server, its era and its client's; ratios to the relay are medians of paired rounds"
    );
    println!(
        "server          era     client  p50 µs, 1  calls/s, {MANY}  cpu µs, 1  p50 ratio  calls/s ratio"
    );
    for upstreams::Row {
        what: [kind, server, client],
        p50_us,
        calls_per_s,
        cpu_us,
        p50_ratio,
        calls_ratio,
    } in rows
    {
        println!(
            "{kind:<15} {server:<7} {client:<7} {p50_us:>9.1}  {calls_per_s:>11.0}  {cpu_us:>9.1}  {p50_ratio:>9.2}  {calls_ratio:>13.2}"
        );
        let line = json!({
            "server": kind, "era": server, "client": client, "p50_us": p50_us, "calls_per_s": calls_per_s,
            "cpu_us": cpu_us, "p50_ratio": p50_ratio, "calls_ratio": calls_ratio, "pairs": good,
        });
        note(plan, &line)?;
    }
    for (clients, rounds) in [1, MANY].into_iter().zip(good) {
        if !upstreams::are_enough(rounds) {
            println!("only {rounds} rounds with {clients} clients were quiet enough");
        }
    }
    Ok(())
}

fn containers(plan: &mut Plan) -> io::Result<bool> {
    let Some(boxed) = container::Boxed::start()? else { return Ok(true) };
    let starts = boxed.starts()?;
    let (more_ms, more) = starts.more();
    // Either will do: what is little of a slow start is much of a quick one.
    let bound = if more <= 0.15 { None } else { Some(Bound::AtMost(25.0)) };
    let calls = boxed.calls(plan.span)?;
    let median = |values: &[f64]| pairs::median(values.iter().copied());
    let rows = [
        row("bare container, create to first answer", median(&starts.bare), "ms", None),
        row("mcpvisor, enable to ready", median(&starts.ours), "ms", None),
        row("mcpvisor more than bare, median of pairs", more_ms, "ms", bound),
        row("the same, of the bare start", more * 100.0, "%", None),
        row("p50, 1 client, bare attach", calls.median(None, p50), "µs", None),
        row("p50, 1 client, /mcp/s/boxed", calls.median(Some(0), p50), "µs", None),
        row("p50, /mcp/s/boxed / bare attach", calls.ratio(0, p50), "x", None),
    ];
    show(plan, "containers", &rows)
}

fn recovery(plan: &mut Plan) -> io::Result<bool> {
    let Some(ten) = recovery::Ten::start()? else { return Ok(true) };
    let all = ten.recoveries(PAIRS_MIN)?;
    if all.ours.len() < PAIRS_MIN {
        println!("         only {} rounds were quiet enough, {} were not", all.ours.len(), all.discarded);
    }
    let median = |values: &[f64]| pairs::median(values.iter().copied());
    let rows = [
        row("10 bare containers, create to first answer", median(&all.bare), "ms", None),
        row("10 servers, engine back to all ready", median(&all.ours), "ms", None),
        row("the same, median of pairs", all.ratio(), "x", Some(Bound::AtMost(1.3))),
    ];
    show(plan, "recovery", &rows)
}

fn row(what: &str, value: f64, unit: &'static str, bound: Option<Bound>) -> Row {
    Row { what: what.to_owned(), value, unit, bound }
}

fn show(plan: &mut Plan, part: &str, rows: &[Row]) -> io::Result<bool> {
    println!("\n{part}");
    let mut sound = true;
    for Row { what, value, unit, bound } in rows {
        let holds = bound.is_none_or(|bound| bound.holds(*value));
        sound &= holds;
        let verdict = match bound {
            None => String::new(),
            Some(Bound::AtMost(most)) => format!("at most {most}: {}", if holds { "ok" } else { "MISSED" }),
            Some(Bound::AtLeast(least)) => {
                format!("at least {least}: {}", if holds { "ok" } else { "MISSED" })
            }
        };
        println!("  {what:<46} {value:>8.2} {unit:<2}  {verdict}");
        note(plan, &json!({"what": what, "value": value, "unit": unit, "holds": holds}))?;
    }
    Ok(sound)
}

fn note(plan: &mut Plan, line: &serde_json::Value) -> io::Result<()> {
    plan.json.as_mut().map_or(Ok(()), |file| writeln!(file, "{line}"))
}

fn p50(slice: &Slice) -> f64 {
    slice.quantile(0.5)
}

fn p99(slice: &Slice) -> f64 {
    slice.quantile(0.99)
}

fn cpu(slice: &Slice) -> f64 {
    slice.cpu_us
}

fn rate(slice: &Slice) -> f64 {
    slice.calls_per_s
}
