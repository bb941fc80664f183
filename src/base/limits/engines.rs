//! Of container engines, and of the containers on them.

use super::{CRASH_CLEANING, GUARDIAN_CLEANING_PATIENCE, LEDGER_LIVES_MAX, SERVERS_MAX};
use std::time::Duration;

/// One answer of a container engine. 8 MiB: a list of a thousand containers with long labels is below 4; a longer one
/// is an error (`Garbled`).
pub const ENGINE_ANSWER_BYTES_MAX: usize = 8 << 20;

/// One line of an engine's event or progress stream; a longer one is an error (`Garbled`).
pub const ENGINE_LINE_BYTES_MAX: usize = 1 << 20;

/// Characters of an engine's own words that are passed on; the rest is cut.
pub const ENGINE_MESSAGE_CHARS_MAX: usize = 400;

/// Idle connections to one engine; one more is closed.
pub const ENGINE_IDLE_MAX: usize = 4;

/// A full backlog of a Unix socket cannot be polled: connecting is tried again this often, until the deadline.
pub const ENGINE_BACKLOG_AGAIN: Duration = Duration::from_millis(20);

/// Layers of one image whose progress is followed; the images of the field have below 130, and further ones are not
/// counted.
pub const PULL_LAYERS_MAX: usize = 512;

/// The Docker CLI's `config.json`; a longer one is not read.
pub const DOCKER_CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Contexts of the Docker CLI that are looked through for a name; people have fewer than ten, and one that is further
/// behind is not found.
pub const DOCKER_CONTEXTS_MAX: usize = 256;

/// From SIGKILL of a Docker CLI that took too long to leaving its end to a thread.
pub const ENGINE_CLI_KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Characters kept of why a removal failed.
pub const REMOVAL_ERROR_CHARS_MAX: usize = 300;

/// Images that are pulled at the same time. 3: more only share the same line; the others wait outside the start gate.
pub const PULLS_MAX: usize = 3;

/// How often the progress of a pull is shown; engines tell it ten times a second per layer.
pub const PULL_REPORT_EVERY: Duration = Duration::from_millis(500);
/// One list of an engine's containers in a sweep. 5 s: it takes milliseconds; longer and the engine counts as silent.
pub const CONTAINER_LISTING: Duration = Duration::from_secs(5);

/// Removing one orphaned container and seeing it gone; past this it is reported as left, and the next sweep tries again.
pub const CONTAINER_REMOVAL: Duration = Duration::from_secs(10);

/// A ping that tells an engine that is away from one that is stuck with one container. 2 s: it takes milliseconds.
pub const CONTAINER_PING: Duration = Duration::from_secs(2);

/// How often a container is looked at that is being removed.
pub const CONTAINER_VERIFY_EVERY: Duration = Duration::from_millis(100);

/// Orphaned containers removed at the same time on one engine: more only queue up inside it.
pub const CONTAINERS_REMOVED_AT_ONCE: usize = 4;

/// The guardian, after the daemon's end, on all engines together: from the first look to naming what could not be
/// removed. 14 s: the promise is 15.
pub const BEQUEST_CLEANING: Duration = Duration::from_secs(14);

/// How long, and how often, it looks for containers of the dead session: a `create` may still be on its way inside the
/// engine.
pub const BEQUEST_LOOKING: Duration = Duration::from_secs(5);
pub const BEQUEST_LOOK_EVERY: Duration = Duration::from_millis(500);

/// One question of it to an engine, and how many in a row may fail until it gives that container or engine up: the next
/// start sweeps.
pub const BEQUEST_CALL: Duration = Duration::from_secs(4);
pub const BEQUEST_TRIES_MAX: u32 = 3;

/// From its stop signal to its removal by force, at most, whatever its `stop_grace`.
pub const BEQUEST_GRACE_MAX: Duration = Duration::from_secs(3);

/// Containers that it ends at the same time on one engine, each on a thread; the others wait. 64: most of the time is
/// the grace of the containers.
pub const BEQUEST_LADDERS_MAX: usize = 64;

/// Engines and containers that it remembers; of more it is not told: the labels find such a container, the next start
/// such an engine.
pub const BEQUEST_ENGINES_MAX: usize = 16;
pub const BEQUEST_CONTAINERS_MAX: usize = LEDGER_LIVES_MAX;

const _: () = assert!(BEQUEST_LOOKING.as_secs() + BEQUEST_GRACE_MAX.as_secs() < BEQUEST_CLEANING.as_secs());
const _: () =
    assert!(BEQUEST_CLEANING.as_secs() + CRASH_CLEANING.as_secs() < GUARDIAN_CLEANING_PATIENCE.as_secs());

/// Containers of ours on one engine that are counted for the status; the ones after are not.
pub const ENGINE_CONTAINERS_MAX: usize = 10_000;

/// Containers that ran out of memory and are remembered for whoever asks why they died; the oldest are forgotten.
pub const ENGINE_OOMS_MAX: usize = 256;

/// Subscribers of one engine: one for each server that lives on it; one more hears nothing, and an error is logged.
pub const ENGINE_SUBSCRIBERS_MAX: usize = 2 * SERVERS_MAX;

/// Engines that are watched, with two threads each; one more is refused.
pub const ENGINES_MAX: usize = 64;

/// Events of one engine that are read before its thread looks at anything else.
pub const ENGINE_EVENTS_AT_ONCE: usize = 256;

/// `cleanup` of one engine; past this what is still there is reported as left. 60 s: hundreds of containers on a slow
/// disk. Engines are asked side by side, so many at once.
pub const CLEANUP_OF_ENGINE: Duration = Duration::from_secs(60);
pub const ENGINES_ASKED_AT_ONCE: usize = 16;

/// How long `cleanup` waits for its records to be on the disk; what is not is corrected by the next start.
pub const CLEANUP_RECORDS_PATIENCE: Duration = Duration::from_secs(2);

/// Removals owed: how many are tried at the same time, the pause after the first that failed, doubled up to the
/// longest. 60 s: an engine that refuses one container for good is asked once a minute.
pub const OWED_AT_ONCE: usize = 4;
pub const OWED_PAUSE_FIRST: Duration = Duration::from_secs(1);
pub const OWED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A create that was asked for and never answered takes effect within this time, or never. 60 s: the patience of whoever
/// asked; a removal of which no id is known is owed that long.
pub const CREATE_LATEST: Duration = Duration::from_secs(60);
