//! What an engine says of itself and of its containers. What it adds is ignored; what it leaves out is empty.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// `GET /info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Info {
    /// Two endpoints with the same id are the same engine.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub server_version: String,
    #[serde(deserialize_with = "or_default")]
    pub operating_system: String,
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(deserialize_with = "or_default")]
    pub live_restore_enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub memory_limit: bool,
    #[serde(deserialize_with = "or_default")]
    pub pids_limit: bool,
    /// The program for `Init: true`, if the engine has one.
    #[serde(deserialize_with = "or_default")]
    pub init_binary: Option<String>,
    #[serde(deserialize_with = "or_default")]
    init_commit: Commit,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Commit {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
}

impl Info {
    /// Docker names an init binary whether it is there or not; its commit says `N/A` if it is not.
    pub(super) fn honest(mut self) -> Info {
        let absent = self.init_commit.id == "N/A";
        self.init_binary = self.init_binary.filter(|name| !name.is_empty() && !absent);
        self
    }
}

/// One container of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Listed {
    pub id: String,
    /// Without the slash that Docker puts before each.
    #[serde(deserialize_with = "names")]
    pub names: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub image: String,
    /// created, running, paused, restarting, removing, exited, dead.
    #[serde(deserialize_with = "or_default")]
    pub state: String,
    /// For people: `Up 3 minutes`.
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// Seconds since 1970.
    #[serde(rename = "Created", deserialize_with = "or_default")]
    pub created_s: i64,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// `GET /containers/{id}/json`, flattened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, from = "Container")]
pub struct Inspected {
    pub id: String,
    pub name: String,
    /// As it was named at its creation.
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    pub dead: bool,
    pub oom_killed: bool,
    pub exit_code: i64,
    /// Why it could not be started.
    pub error: String,
    /// starting, healthy, unhealthy; `None` without a health check.
    pub health: Option<String>,
    /// RFC 3339; `0001-01-01T00:00:00Z` if it never was.
    pub started_at: String,
    pub created: String,
    pub pid: i64,
    pub auto_remove: bool,
    pub stop_signal: Option<String>,
}

impl Inspected {
    pub(super) fn into_listed(self) -> Listed {
        let created_s = humantime::parse_rfc3339_weak(self.created.trim_end_matches('Z').trim())
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |span| span.as_secs() as i64);
        Listed {
            id: self.id,
            names: vec![self.name],
            image: self.image,
            state: self.status.clone(),
            status: self.status,
            created_s,
            labels: self.labels,
        }
    }
}

/// `GET /containers/{id}/stats`, flattened: what all processes of a container use. 0 is also what the engine cannot say,
/// such as memory on a host without its controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, from = "Stats")]
pub struct Used {
    pub processes: u32,
    /// Without the pages of files that could be dropped at once, as `docker stats` counts.
    pub memory_bytes: u64,
    /// Processor time since the container was started, in ns.
    pub cpu_ns: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    #[serde(deserialize_with = "or_default")]
    pids_stats: PidsStats,
    #[serde(deserialize_with = "or_default")]
    memory_stats: MemoryStats,
    #[serde(deserialize_with = "or_default")]
    cpu_stats: CpuStats,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PidsStats {
    current: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MemoryStats {
    usage: u64,
    #[serde(deserialize_with = "or_default")]
    stats: MemoryParts,
}

/// The first is what version 1 of cgroups calls it, the second version 2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MemoryParts {
    total_inactive_file: u64,
    inactive_file: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CpuStats {
    #[serde(deserialize_with = "or_default")]
    cpu_usage: CpuUsage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
}

impl From<Stats> for Used {
    fn from(Stats { pids_stats, memory_stats, cpu_stats }: Stats) -> Used {
        let MemoryParts { total_inactive_file, inactive_file } = memory_stats.stats;
        let idle = if total_inactive_file > 0 { total_inactive_file } else { inactive_file };
        Used {
            processes: pids_stats.current,
            memory_bytes: memory_stats.usage.saturating_sub(idle),
            cpu_ns: cpu_stats.cpu_usage.total_usage,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    created: String,
    #[serde(deserialize_with = "or_default")]
    state: State,
    #[serde(deserialize_with = "or_default")]
    config: Config,
    #[serde(deserialize_with = "or_default")]
    host_config: HostConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct State {
    #[serde(deserialize_with = "or_default")]
    status: String,
    running: bool,
    paused: bool,
    restarting: bool,
    dead: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    exit_code: i64,
    #[serde(deserialize_with = "or_default")]
    error: String,
    #[serde(deserialize_with = "or_default")]
    started_at: String,
    pid: i64,
    health: Option<Health>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Health {
    #[serde(deserialize_with = "or_default")]
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    #[serde(deserialize_with = "or_default")]
    image: String,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    /// A text; podman writes a number in some versions.
    stop_signal: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    auto_remove: bool,
}

impl From<Container> for Inspected {
    fn from(from: Container) -> Inspected {
        let Container { id, name, created, state, config, host_config } = from;
        let signal = config
            .stop_signal
            .map(|signal| signal.as_str().map_or_else(|| signal.to_string(), str::to_owned));
        Inspected {
            id,
            name: bare(name),
            image: config.image,
            labels: config.labels,
            status: state.status,
            running: state.running,
            paused: state.paused,
            restarting: state.restarting,
            dead: state.dead,
            oom_killed: state.oom_killed,
            exit_code: state.exit_code,
            error: state.error,
            health: state
                .health
                .map(|health| health.status)
                .filter(|status| !matches!(&**status, "" | "none")),
            started_at: state.started_at,
            created,
            pid: state.pid,
            auto_remove: host_config.auto_remove,
            stop_signal: signal.filter(|signal| !matches!(&**signal, "" | "null" | "0")),
        }
    }
}

fn bare(name: String) -> String {
    name.strip_prefix('/').map(ToOwned::to_owned).unwrap_or(name)
}

fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names: Vec<String> = or_default(from)?;
    Ok(names.into_iter().map(bare).collect())
}

/// `null` is what Go writes for an empty map or list.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
