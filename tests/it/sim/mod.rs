//! The simulator: real machines, the real gate and real calls in a fake world with a virtual clock.
//!
//! A run is one hour of chaos, then a healed world with 15 minutes to recover, then an orderly end; a claim is
//! checked after every step. `SIM_SEED=n` replays one seed and prints every event, `SIM_BASE=n` moves the range
//! of seeds, `SIM_STEPS=n` sets how many machine steps to run.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "here one event of twenty matters; the product names them all"
)]

mod body;
mod cells;
mod chaos;
mod claims;
mod clients;
mod matrix;
mod nature;
mod plants;
pub mod rng;
mod shadow;
mod swarm;
mod world;

use cells::Cells;
use mcpvisor::server::tape::{Reading, Tape};
use plants::Plant;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::{Failure, World};

/// Machine steps that a change must survive.
const STEPS: u64 = 10_000_000;
/// How many seeds that takes, about; asserted below.
const SEEDS: u64 = 1_500;

pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")))
}

fn base() -> u64 {
    number("SIM_BASE").unwrap_or(1)
}

fn fail(seed: u64, failure: &Failure) -> ! {
    panic!(
        "{}\n{}replay: SIM_SEED={seed} cargo test --test it sim:: -- --nocapture",
        failure.claim, failure.log
    )
}

#[test]
fn the_world_survives() {
    if let Some(seed) = number("SIM_SEED") {
        let mut world = World::new(seed, Plant::None, true);
        if let Err(failure) = world.run() {
            fail(seed, &failure);
        }
        return;
    }
    let (base, target) = (base(), number("SIM_STEPS").unwrap_or(STEPS));
    let (next, steps, cells) = (AtomicU64::new(base), AtomicU64::new(0), Mutex::new(Cells::new()));
    // Two runners: each takes the next seed until there were enough steps. Seeds are independent.
    let runner = || {
        while steps.load(Ordering::Relaxed) < target {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let mut world = World::new(seed, Plant::None, false);
            if let Err(failure) = world.run() {
                steps.store(u64::MAX / 2, Ordering::Relaxed);
                return Some((seed, failure));
            }
            steps.fetch_add(world.steps, Ordering::Relaxed);
            cells.lock().unwrap().merge(&world.cells);
        }
        None
    };
    let failed = std::thread::scope(|scope| {
        let runners = [scope.spawn(runner), scope.spawn(runner)];
        runners.into_iter().filter_map(|runner| runner.join().unwrap()).min_by_key(|(seed, _)| *seed)
    });
    if let Some((seed, failure)) = failed {
        fail(seed, &failure);
    }
    let (steps, seeds) = (steps.into_inner(), next.into_inner() - base);
    let (hit, all, missed) = cells.into_inner().unwrap().coverage();
    println!(
        "seeds {base}..{}: {steps} steps, {hit} of {all} reachable cells; missed {missed:?}",
        base + seeds
    );
    if target >= STEPS {
        assert!(hit * 100 >= all * 95, "only {hit} of {all} reachable cells were visited; missed {missed:?}");
        assert!(seeds >= SEEDS, "{STEPS} steps are {seeds} seeds: the planted faults get 5 % of {SEEDS}");
    }
}

/// The claims see: each planted fault breaks one within the first 5 % of the seeds.
#[test]
fn planted_faults_are_found() {
    let mut table = String::new();
    let mut survivors = 0;
    for (plant, what) in Plant::ALL {
        let found = (base()..base() + SEEDS / 20).find_map(|seed| {
            World::new(seed, *plant, false).run().err().map(|failure| (seed, failure.claim))
        });
        match found {
            Some((seed, claim)) => writeln!(table, "{what:<52} {seed:>4}: {claim}").unwrap(),
            None => {
                survivors += 1;
                writeln!(table, "{what:<52} SURVIVES").unwrap();
            }
        }
    }
    println!("{table}");
    assert_eq!(survivors, 0, "the claims do not see some planted faults\n{table}");
}

/// The same seed is the same world.
#[test]
fn a_seed_replays() {
    let run = || {
        let mut world = World::new(base() + 7, Plant::None, false);
        let claim = world.run().err().map(|failure| failure.claim);
        (world.steps, world.now, world.cells.0, claim)
    };
    assert_eq!(run(), run());
}

/// C14: what a tape holds, printed and read back, leads a fresh machine to the same place.
#[test]
fn tapes_of_a_world_replay() {
    for seed in base()..base() + 5 {
        let mut world = World::new(seed, Plant::None, false);
        world.tapes = world.actors.iter().map(|actor| Tape::new(&actor.server, &actor.policy)).collect();
        if let Err(failure) = world.run() {
            fail(seed, &failure);
        }
        for (tape, actor) in world.tapes.iter().zip(&world.actors) {
            let text = tape.print();
            let replayed = Reading::parse(&text).and_then(|reading| reading.replay());
            assert_eq!(replayed.as_ref(), Ok(&actor.server), "SIM_SEED={seed} {}\n{text}", actor.name);
        }
    }
}
