//! The power goes, or everybody is killed, while the state database is written: what was acknowledged is there at the
//! next start. Some moments with every run of the tests, 200 of each with `scripts/soak` (`SOAK=full`).
//!
//! A power cut is modelled by [`disk`]: the real ext4, journal and all, on a device whose every write and flush passes
//! by the test. What is left of it is what was flushed, and of the rest nothing, a first part, or any sectors. Not
//! modelled: a disk that loses what it says to have flushed (one test does it, to see that the others would notice), a
//! sector that is half written, bits that fall over later.
//!
//! `kill -9` is the same promise without the disk: the kernel keeps what was written, the next start reads it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and start plain threads"
)]

mod disk;
mod kills;

use crate::support::{PATIENCE, measure_over, until};
use disk::{Disk, Found, Loss, Server};
use mcpvisor::store::{FILE, Record, Removal, Store};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How many moments.
fn moments(few: usize) -> usize {
    if super::soak::is_full() { 200 } else { few }
}

/// Where a disk can be had: `work` with an empty one, in a thread with mounts of its own.
fn with_disk(work: impl FnOnce(&Disk) + Send) {
    if let Some(missing) = disk::missing() {
        let required = std::env::var("IT_POWER").is_ok_and(|value| value == "required");
        assert!(!required, "no disk to cut the power of: {missing}");
        eprintln!("skipped: no disk to cut the power of: {missing} (run: scripts/test)");
        return;
    }
    let server = Server::start();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            disk::mounts_of_our_own();
            work(&Disk::mount(server));
        });
        if let Err(panic) = working.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

const ENGINE: &str = "unix:///run/docker.sock";

/// Containers of one writer that are not gone, and removals that are not paid; older ones are. 100: three times as many
/// fit into the database.
const KEPT: u64 = 100;

const WRITERS: u64 = 3;

/// Three who write at once, each one number after the other. A number is acknowledged when its container is on the disk;
/// what was remembered before that is then there, too.
struct Writers<'a> {
    store: &'a Store,
    /// For each: the next number that is not acknowledged.
    acknowledged: [AtomicU64; WRITERS as usize],
    over: AtomicBool,
}

/// By writer: the next number.
type Acknowledged = [u64; WRITERS as usize];

impl Writers<'_> {
    fn acknowledged(&self) -> Acknowledged {
        self.acknowledged.each_ref().map(|next| next.load(Ordering::SeqCst))
    }

    fn run(&self, writer: u64) {
        for number in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let record = record(writer, number);
            self.store.remember("tallies", &writer.to_string(), &number.to_string()).unwrap();
            let removal = Removal {
                engine: ENGINE.to_owned(),
                id: record.id.clone(),
                name: record.name.clone(),
                server: record.server.clone(),
                since_ms: number,
                tries: 0,
                last_error: None,
                unverified: false,
            };
            if number % 7 == 0 && self.store.owe(removal).is_err() {
                return;
            }
            // One that is not acknowledged in time promises nothing, nor does what comes after it.
            if self.store.created(record).is_err() {
                return;
            }
            self.acknowledged[writer as usize].store(number + 1, Ordering::SeqCst);
            if number >= KEPT {
                let old = self::record(writer, number - KEPT);
                self.store.paid(ENGINE, &old.id);
                self.store.gone(ENGINE, &old.id);
            }
        }
    }
}

fn record(writer: u64, number: u64) -> Record {
    Record {
        engine: ENGINE.to_owned(),
        id: format!("{writer:032x}{number:032x}"),
        name: format!("mcpvisor-12345678-s{writer}-{number}"),
        server: format!("s{writer}"),
        instance: "1".repeat(32),
        session: "2".repeat(32),
        life: number,
        created_ms: number,
    }
}

/// What of the acknowledged is not in this state directory. The database is whole, or that is said, too. `before` and
/// `after`: what was acknowledged when the power had not gone yet, and when it had; what is older than the last was gone.
fn lost(state: &Path, before: Acknowledged, after: Acknowledged) -> Vec<String> {
    let mut lost = Vec::new();
    let store = Store::open(state);
    let records = store.records();
    let owed = store.owed();
    if let Some(trouble) = store.trouble() {
        lost.push(format!("{trouble:?}"));
    }
    for (writer, (next, after)) in (0..).zip(before.into_iter().zip(after)) {
        for number in after.saturating_sub(KEPT)..next {
            let wanted = record(writer, number);
            if !records.iter().any(|known| known.record == wanted) {
                lost.push(format!("container {number} of writer {writer}, of {next}"));
            }
            if number % 7 == 0 && !owed.iter().any(|known| known.id == wanted.id) {
                lost.push(format!("removal {number} of writer {writer}, of {next}"));
            }
        }
        let tally = store.recall("tallies", &writer.to_string()).map_or(0, |text| text.parse().unwrap());
        if next > 0 && tally + 1 < next {
            lost.push(format!("tally {} of writer {writer}: it is {tally}", next - 1));
        }
    }
    assert!(store.close(PATIENCE), "not closed in time");
    let checked = integrity(state);
    if checked != "ok" {
        lost.push(checked);
    }
    lost
}

/// SQLite's own look at every page and index.
fn integrity(state: &Path) -> String {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(state.join(FILE), flags).unwrap();
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Cuts so often while the writers write, each a moment after the other; what was lost at each. `first` is called when
/// the first of it was acknowledged.
fn cuts(disk: &Disk, dir: &str, count: usize, losses: &[Loss], first: impl FnOnce()) -> Vec<Vec<String>> {
    let state = disk.root().join(dir);
    std::fs::create_dir(&state).unwrap();
    let store = Store::open(&state);
    let writers = Writers { store: &store, acknowledged: Default::default(), over: AtomicBool::new(false) };
    let result = std::thread::scope(|scope| {
        let _over = Over(&writers.over);
        let writers = &writers;
        for writer in 0..WRITERS {
            scope.spawn(move || writers.run(writer));
        }
        until("something to be acknowledged", || (writers.acknowledged()[0] > 0).then_some(()));
        first();
        let cut = |n: usize| {
            measure_over(Duration::from_micros(fastrand::u64(..20_000)));
            // First what is known to be acknowledged, then the cut: it may only have more.
            let before = writers.acknowledged();
            let image = disk.cut(losses[n % losses.len()]);
            let after = writers.acknowledged();
            lost(&Found::mount(&image).root().join(dir), before, after)
        };
        (0..count).map(cut).collect()
    });
    let written: u64 = writers.acknowledged().iter().sum();
    println!("{count} cuts while {written} were acknowledged; {} flushes so far", disk.flushes());
    assert!(store.close(PATIENCE), "not closed in time");
    result
}

/// The writers end, whatever becomes of the test.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    const OF_ONE: usize = 10;
    with_disk(|disk| {
        // A new database again and again: its first moments are as good as any.
        for round in 0..moments(20) / OF_ONE {
            let dir = format!("state-{round}");
            for (n, lost) in cuts(disk, &dir, OF_ONE, &Loss::EACH, || ()).into_iter().enumerate() {
                assert!(lost.is_empty(), "round {round}, cut {n}: {lost:#?}");
            }
            std::fs::remove_dir_all(disk.root().join(dir)).unwrap();
        }
    });
}

/// And the test above would see it: of what was acknowledged since the disk began to lie some is lost.
#[test]
fn a_disk_that_lies_is_found_out() {
    with_disk(|disk| {
        let all = cuts(disk, "state", 3, &[Loss::All], || disk.lie());
        assert!(all.iter().any(|lost| !lost.is_empty()));
    });
}
