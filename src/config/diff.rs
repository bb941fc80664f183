//! What is different between two configs, and what follows for every server and every setting. Pure.
//!
//! Compared is what is in force for a server: its own value, or the global one where it has none. So a default that is
//! written out changes nothing, and a global value concerns those servers only that have none of their own. Every
//! struct is taken apart by name: who adds a field is asked here what a change of it means.
//!
//! | what is different | decision |
//! |---|---|
//! | what runs, or what it was told at its birth | restart |
//! | what is asked of it, or how patient we are: the life that runs goes on with the new value | retune |
//! | `enabled` alone | start or stop |
//! | where the entry stands in the file, comments, white space, how a value is spelt | keep |

use super::isolation::recipe;
use super::{
    AutoDisable, Cleanup, Config, Connections, Diagnostics, Isolation, Launch, Logging, Recovery,
    ServerConfig, Shutdown,
};
use crate::base::fault::Fault;
use crate::base::id::ServerName;
use serde::Serialize;
use std::collections::BTreeMap;

/// What becomes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It does not notice.
    Keep,
    /// Its life goes on, with other numbers.
    Retune,
    /// Its life ends, and the next one is what the entry says now.
    Restart,
    /// It was disabled, and is not any more.
    Start,
    /// It is disabled now.
    Stop,
    Add,
    Remove,
}

impl Decision {
    pub fn name(self) -> &'static str {
        match self {
            Decision::Keep => "keep",
            Decision::Retune => "retune",
            Decision::Restart => "restart",
            Decision::Start => "start",
            Decision::Stop => "stop",
            Decision::Add => "add",
            Decision::Remove => "remove",
        }
    }
}

/// One server, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub name: ServerName,
    pub decision: Decision,
    /// The keys that decided: of the entry, or global ones where the entry has no value of its own.
    pub fields: Vec<&'static str>,
}

/// When a setting that has changed takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Now,
    /// The daemon took it at its start, and holds on to it.
    AfterRestart,
}

/// A setting that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub key: &'static str,
    pub effect: Effect,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// One for each server of either config: those of the new one in its order, then those that it has not any more.
    pub servers: Vec<Change>,
    pub settings: Vec<Setting>,
}

impl Diff {
    /// Whether nothing at all would be done.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.changes().next().is_none()
    }

    /// `restart git; add docs, time; keep 12; settings call_timeout`, for the log.
    pub fn summary(&self) -> String {
        const DECISIONS: [Decision; 7] = [
            Decision::Restart,
            Decision::Retune,
            Decision::Start,
            Decision::Stop,
            Decision::Add,
            Decision::Remove,
            Decision::Keep,
        ];
        let mut parts = Vec::new();
        for decision in DECISIONS {
            let names: Vec<&str> = self
                .servers
                .iter()
                .filter(|change| change.decision == decision)
                .map(|change| change.name.as_str())
                .collect();
            match names.len() {
                0 => {}
                count if decision == Decision::Keep || count > NAMES_SHOWN => {
                    parts.push(format!("{} {count}", decision.name()));
                }
                _ => parts.push(format!("{} {}", decision.name(), names.join(", "))),
            }
        }
        if !self.settings.is_empty() {
            let keys: Vec<&str> = self.settings.iter().map(|setting| setting.key).collect();
            parts.push(format!("settings {}", keys.join(", ")));
        }
        if parts.is_empty() { "no servers".to_owned() } else { parts.join("; ") }
    }

    /// Those that are not just kept.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.servers.iter().filter(|change| change.decision != Decision::Keep)
    }
}

/// More names than these are only counted.
const NAMES_SHOWN: usize = 8;

/// From `before` to `after`; both usable.
pub fn diff(before: &Config, after: &Config) -> Diff {
    let old: BTreeMap<&ServerName, &ServerConfig> =
        before.servers.iter().map(|entry| (&entry.name, entry)).collect();
    let new: BTreeMap<&ServerName, &ServerConfig> =
        after.servers.iter().map(|entry| (&entry.name, entry)).collect();
    let plain =
        |entry: &ServerConfig, decision| Change { name: entry.name.clone(), decision, fields: Vec::new() };
    let left = after.servers.iter().map(|entry| match old.get(&entry.name) {
        Some(was) => server((before, was), (after, entry)),
        None => plain(entry, Decision::Add),
    });
    let gone = before.servers.iter().filter(|entry| !new.contains_key(&entry.name));
    let servers = left.chain(gone.map(|entry| plain(entry, Decision::Remove))).collect();
    Diff { servers, settings: settings(before, after) }
}

/// Whether two entries say the same of themselves, wherever they stand, and whatever the settings around them.
pub fn is_same_entry(was: &ServerConfig, is: &ServerConfig) -> bool {
    let bare = |entry: &ServerConfig| ServerConfig { line: 0, column: 0, problem: None, ..entry.clone() };
    let problem = |entry: &ServerConfig| entry.problem.as_ref().map(|problem| problem.kind);
    bare(was) == bare(is) && problem(was) == problem(is)
}

/// An entry with the config that it stands in.
type Within<'c> = (&'c Config, &'c ServerConfig);

/// Collects the keys that are different, by what they ask for.
#[derive(Default)]
struct Found {
    restart: Vec<&'static str>,
    retune: Vec<&'static str>,
}

impl Found {
    fn restart<T: PartialEq + ?Sized>(&mut self, key: &'static str, before: &T, after: &T) {
        if before != after {
            self.restart.push(key);
        }
    }

    fn retune<T: PartialEq + ?Sized>(&mut self, key: &'static str, before: &T, after: &T) {
        if before != after {
            self.retune.push(key);
        }
    }

    /// A value that stands in the entry, or in the settings: `both` are what the entries have, and `works` what is in
    /// force.
    fn own_or_global<T: PartialEq, W: PartialEq>(
        &mut self,
        keys: [&'static str; 2],
        both: [&T; 2],
        works: [W; 2],
    ) {
        let [own, global] = keys;
        let key = if both[0] == both[1] { global } else { own };
        self.retune(key, &works[0], &works[1]);
    }
}

fn server(before: Within<'_>, after: Within<'_>) -> Change {
    let mut found = Found::default();
    entries(before, after, &mut found);
    let (was, is) = (before.1, after.1);
    let decision = match (was.enabled, is.enabled) {
        (false, true) => Decision::Start,
        (true, false) => Decision::Stop,
        (true, true) if !found.restart.is_empty() => Decision::Restart,
        (false, false) if !found.restart.is_empty() => Decision::Retune,
        _ if !found.retune.is_empty() => Decision::Retune,
        _ => Decision::Keep,
    };
    let enabled = (was.enabled != is.enabled).then_some("enabled");
    let mut fields: Vec<&str> = enabled.into_iter().chain(found.restart).chain(found.retune).collect();
    let mut seen = Vec::new();
    fields.retain(|field| {
        !seen.contains(field) && {
            seen.push(*field);
            true
        }
    });
    Change { name: is.name.clone(), decision, fields }
}

fn entries(before: Within<'_>, after: Within<'_>, found: &mut Found) {
    let ((old, was), (new, is)) = (before, after);
    let ServerConfig {
        // They are the same by name.
        name: _,
        slug,
        // Decides for itself.
        enabled: _,
        lazy,
        overlap,
        idle_timeout,
        launch,
        problem,
        connection_timeout,
        call_timeout,
        health_check_interval,
        stop_grace,
        groups,
        client_features,
        era,
        isolation,
        engine,
        cidfile_timeout,
        // What is in force is compared, below.
        auto_disable: _,
        // Where it stands says nothing of what it is.
        line: _,
        column: _,
    } = was;
    // Its place on the disk and on engines is called after it.
    found.restart("name", slug, &is.slug);
    launches(launch, &is.launch, found);
    isolations(before, after, isolation.as_deref(), is.isolation.as_deref(), found);
    // The engine of a server that has none to live on is nobody's; a `docker run` chooses its own.
    let engine = engine.as_ref().or(old.engine.as_ref()).filter(|_| isolation.is_some());
    let engine_now = is.engine.as_ref().or(new.engine.as_ref()).filter(|_| is.isolation.is_some());
    found.restart("engine", &engine, &engine_now);
    // Both are said when a life is greeted.
    found.restart("client_features", client_features, &is.client_features);
    found.restart("era", era, &is.era);
    found.retune("groups", groups, &is.groups);
    // Of the next switch.
    found.retune("overlap", overlap, &is.overlap);
    found.restart("startup_mode", lazy, &is.lazy);
    found.own_or_global(
        ["idle_timeout", "idle_timeout"],
        [idle_timeout, &is.idle_timeout],
        [lazy.then(|| old.idle_timeout(was)), is.lazy.then(|| new.idle_timeout(is))],
    );
    match (problem, &is.problem) {
        (None, None) => {}
        (Some(was), Some(is)) => found.retune("problem", &words(was), &words(is)),
        (None, Some(_)) | (Some(_), None) => found.restart.push("problem"),
    }
    found.own_or_global(
        ["connection_timeout", "connection_management.connection_timeout_seconds"],
        [connection_timeout, &is.connection_timeout],
        [old.connection_timeout(was), new.connection_timeout(is)],
    );
    found.own_or_global(
        ["call_timeout", "call_timeout"],
        [call_timeout, &is.call_timeout],
        [old.call_timeout(was), new.call_timeout(is)],
    );
    found.own_or_global(
        ["health_check_interval", "connection_management.health_check_interval_seconds"],
        [health_check_interval, &is.health_check_interval],
        [old.health_check_interval(was), new.health_check_interval(is)],
    );
    found.own_or_global(
        ["stop_grace", "resource_cleanup.process_kill_timeout_seconds"],
        [stop_grace, &is.stop_grace],
        [old.stop_grace(was), new.stop_grace(is)],
    );
    let runs =
        |config: &Config, entry: &ServerConfig| is_own_run(entry).then(|| config.cidfile_timeout(entry));
    found.own_or_global(
        ["cidfile_timeout_seconds", "cidfile_timeout_seconds"],
        [cidfile_timeout, &is.cidfile_timeout],
        [runs(old, was), runs(new, is)],
    );
    given_up(before, after, found);
    of_all(old, new, lives_on_an_engine(was) || lives_on_an_engine(is), found);
}

/// When it is given up, and what is written of that: the keys are the same in the entry and above it.
fn given_up(before: Within<'_>, after: Within<'_>, found: &mut Found) {
    let (was, is) = (before.0.auto_disable(before.1), after.0.auto_disable(after.1));
    for (key, differs) in auto_disables(&was, &is) {
        found.retune(key, &differs, &false);
    }
    for (key, differs) in diagnostics(&before.0.diagnostics, &after.0.diagnostics) {
        found.retune(key, &differs, &false);
    }
}

fn auto_disables(was: &AutoDisable, is: &AutoDisable) -> [(&'static str, bool); 6] {
    let AutoDisable { enabled, failure_threshold, window, startup_attempts, probation, generate_reports } =
        was;
    [
        ("auto_disable.enabled", *enabled != is.enabled),
        ("auto_disable.failure_threshold", *failure_threshold != is.failure_threshold),
        ("auto_disable.window_minutes", *window != is.window),
        ("auto_disable.startup_attempts", *startup_attempts != is.startup_attempts),
        ("auto_disable.probation", *probation != is.probation),
        ("auto_disable.generate_reports", *generate_reports != is.generate_reports),
    ]
}

fn diagnostics(was: &Diagnostics, is: &Diagnostics) -> [(&'static str, bool); 3] {
    let Diagnostics { enabled, report_directory, keep_reports } = was;
    [
        ("diagnostics.enabled", *enabled != is.enabled),
        ("diagnostics.report_directory", *report_directory != is.report_directory),
        ("diagnostics.keep_reports_days", *keep_reports != is.keep_reports),
    ]
}

/// Settings without a value of the entry's own.
fn of_all(old: &Config, new: &Config, on_engine: bool, found: &mut Found) {
    let retry = "connection_management.retry_backoff_max_seconds";
    found.retune(retry, &old.connections.retry_backoff_max, &new.connections.retry_backoff_max);
    let Cleanup { process_kill_timeout: _, verify_timeout, docker_timeout, verify } = &old.cleanup;
    found.retune("resource_cleanup.verify_timeout_seconds", verify_timeout, &new.cleanup.verify_timeout);
    if on_engine {
        let timeout = "resource_cleanup.docker_cleanup_timeout_seconds";
        found.retune(timeout, docker_timeout, &new.cleanup.docker_timeout);
        found.retune("resource_cleanup.verify_cleanup", verify, &new.cleanup.verify);
        let (was, is) = (&old.recovery.health_check_timeout, &new.recovery.health_check_timeout);
        found.retune("docker_recovery.health_check_timeout", was, is);
        let (was, is) = (&old.recovery.max_reconnect_attempts, &new.recovery.max_reconnect_attempts);
        found.retune("docker_recovery.max_reconnect_attempts", was, is);
    }
}

fn launches(was: &Launch, is: &Launch, found: &mut Found) {
    match (was, is) {
        (
            Launch::Process { command, args, env, working_dir },
            Launch::Process { command: command_now, args: args_now, env: env_now, working_dir: dir_now },
        ) => {
            found.restart("command", command, command_now);
            found.restart("args", args, args_now);
            found.restart("env", &sorted(env), &sorted(env_now));
            found.restart("working_dir", working_dir, dir_now);
        }
        (
            Launch::Remote { url, headers, protocol },
            Launch::Remote { url: url_now, headers: headers_now, protocol: protocol_now },
        ) => {
            found.restart("url", url, url_now);
            found.restart("headers", &sorted(headers), &sorted(headers_now));
            found.restart("protocol", protocol, protocol_now);
        }
        (Launch::Unsupported, Launch::Unsupported) => {}
        (_, Launch::Process { .. }) => found.restart.push("command"),
        (_, Launch::Remote { .. }) => found.restart.push("url"),
        // What it would run cannot be read: its problem says why.
        (_, Launch::Unsupported) => found.restart.push("problem"),
    }
}

/// Names are unique, and their order means nothing to whoever gets them.
fn sorted<T>(pairs: &[(String, T)]) -> Vec<&(String, T)> {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted
}

fn isolations(
    before: Within<'_>,
    after: Within<'_>,
    was: Option<&Isolation>,
    is: Option<&Isolation>,
    found: &mut Found,
) {
    let (Some(was), Some(is)) = (was, is) else {
        return found.restart("isolation.enabled", &was.is_some(), &is.is_some());
    };
    let Isolation {
        image,
        images,
        network_mode,
        memory,
        nano_cpus,
        pids_limit,
        mounts,
        working_dir_mount,
        working_dir,
        read_only,
        tmpfs,
        user,
        platform,
        cap_add,
        security_opt,
        log,
        env,
        extra_host_config,
        cache_volume,
        pull,
        pull_timeout,
    } = was;
    found.restart("isolation.image", image, &is.image);
    if image == &is.image && images != &is.images && inside(before.1, was) != inside(after.1, is) {
        found.restart.push("docker_isolation.default_images");
    }
    found.restart("isolation.network_mode", network_mode, &is.network_mode);
    found.restart("isolation.memory", memory, &is.memory);
    found.restart("isolation.cpus", nano_cpus, &is.nano_cpus);
    found.restart("isolation.pids_limit", pids_limit, &is.pids_limit);
    found.restart("isolation.mounts", mounts, &is.mounts);
    found.restart("isolation.mount_working_dir", working_dir_mount, &is.working_dir_mount);
    found.restart("isolation.working_dir", working_dir, &is.working_dir);
    found.restart("isolation.read_only", read_only, &is.read_only);
    found.restart("isolation.tmpfs", tmpfs, &is.tmpfs);
    found.restart("isolation.user", user, &is.user);
    found.restart("isolation.platform", platform, &is.platform);
    found.restart("isolation.cap_add", cap_add, &is.cap_add);
    found.restart("isolation.security_opt", security_opt, &is.security_opt);
    found.restart("isolation.log_driver", log.driver(), is.log.driver());
    found.restart("isolation.log_max_size", &log.options(), &is.log.options());
    found.restart("isolation.extra_args", &sorted(env), &sorted(&is.env));
    found.restart("isolation.extra_host_config", extra_host_config, &is.extra_host_config);
    found.restart("docker_isolation.enable_cache_volume", cache_volume, &is.cache_volume);
    // When an image is looked for says nothing of the container that runs.
    found.retune("pull", pull, &is.pull);
    found.retune("docker_isolation.pull_timeout", pull_timeout, &is.pull_timeout);
}

/// Which image, and what in it, as far as that can be said without variables; `None` is never the same as anything.
#[derive(Debug)]
struct Inside(Option<recipe::Inside>);

impl PartialEq for Inside {
    fn eq(&self, other: &Inside) -> bool {
        self.0.is_some() && self.0 == other.0
    }
}

fn inside(entry: &ServerConfig, isolation: &Isolation) -> Inside {
    let Launch::Process { command, args, working_dir, .. } = &entry.launch else { return Inside(None) };
    let plain = |template: &super::Template| template.resolve(|_| None).ok();
    let known = || {
        let command = plain(command)?;
        let args: Vec<String> = args.iter().map(plain).collect::<Option<_>>()?;
        let image = match &isolation.image {
            Some(image) => Some(plain(image)?),
            None => None,
        };
        let working_dir = working_dir.as_ref().and_then(plain);
        let ask = recipe::Ask { command: &command, written: &command, args: &args, image, working_dir };
        recipe::inside(&ask, isolation).ok()
    };
    Inside(known())
}

/// Whether its command may start a container by itself.
fn is_own_run(entry: &ServerConfig) -> bool {
    let Launch::Process { command, args, .. } = &entry.launch else { return false };
    entry.isolation.is_none() && super::isolation::is_container_cli(command.raw(), args)
}

fn lives_on_an_engine(entry: &ServerConfig) -> bool {
    entry.isolation.is_some() || is_own_run(entry)
}

/// What a problem says, without the place in the file: `FILE:LINE:COLUMN: KEY: message`.
fn words(problem: &Fault) -> (&'static str, &str, &str) {
    let message = problem.message.split_once(": ").map_or(problem.message.as_str(), |(_, words)| words);
    (problem.kind.name(), message, &problem.hint)
}

fn settings(old: &Config, new: &Config) -> Vec<Setting> {
    let mut found = Vec::new();
    let mut note = |key, effect, differs: bool| {
        if differs {
            found.push(Setting { key, effect });
        }
    };
    let Config {
        usable: _,
        listen,
        data_dir,
        api_key,
        trusted_hosts,
        log_level,
        logging,
        list_wait,
        idle_timeout,
        call_timeout,
        connections,
        auto_disable,
        diagnostics,
        cleanup,
        cidfile_timeout,
        recovery,
        shutdown,
        hooks,
        engine,
        // One by one, above.
        servers: _,
    } = old;
    note("listen", Effect::AfterRestart, *listen != new.listen);
    note("data_dir", Effect::AfterRestart, *data_dir != new.data_dir);
    note("api_key", Effect::Now, *api_key != new.api_key);
    note("trusted_hosts", Effect::Now, *trusted_hosts != new.trusted_hosts);
    note("logging.level", Effect::Now, *log_level != new.log_level);
    let Logging { json, max_size_mb, max_files, max_total_mb } = logging;
    note("logging.format", Effect::AfterRestart, *json != new.logging.json);
    note("logging.max_size_mb", Effect::AfterRestart, *max_size_mb != new.logging.max_size_mb);
    note("logging.max_files", Effect::AfterRestart, *max_files != new.logging.max_files);
    note("logging.max_total_mb", Effect::Now, *max_total_mb != new.logging.max_total_mb);
    note("list_wait", Effect::Now, *list_wait != new.list_wait);
    note("idle_timeout", Effect::Now, *idle_timeout != new.idle_timeout);
    note("call_timeout", Effect::Now, *call_timeout != new.call_timeout);
    note("cidfile_timeout_seconds", Effect::Now, *cidfile_timeout != new.cidfile_timeout);
    note("hooks.on_event", Effect::Now, *hooks != new.hooks);
    note("docker_isolation.engine", Effect::Now, *engine != new.engine);
    let Connections { concurrent_max, timeout, health_check_interval, retry_backoff_max } = connections;
    let now = &new.connections;
    let keys = [
        ("connection_management.max_concurrent_connections", *concurrent_max != now.concurrent_max),
        ("connection_management.connection_timeout_seconds", *timeout != now.timeout),
        (
            "connection_management.health_check_interval_seconds",
            *health_check_interval != now.health_check_interval,
        ),
        ("connection_management.retry_backoff_max_seconds", *retry_backoff_max != now.retry_backoff_max),
    ];
    keys.into_iter().for_each(|(key, differs)| note(key, Effect::Now, differs));
    auto_disables(auto_disable, &new.auto_disable)
        .into_iter()
        .chain(self::diagnostics(diagnostics, &new.diagnostics))
        .for_each(|(key, differs)| note(key, Effect::Now, differs));
    let Cleanup { process_kill_timeout, verify_timeout, docker_timeout, verify } = cleanup;
    let now = &new.cleanup;
    let keys = [
        ("resource_cleanup.process_kill_timeout_seconds", *process_kill_timeout != now.process_kill_timeout),
        ("resource_cleanup.verify_timeout_seconds", *verify_timeout != now.verify_timeout),
        ("resource_cleanup.docker_cleanup_timeout_seconds", *docker_timeout != now.docker_timeout),
        ("resource_cleanup.verify_cleanup", *verify != now.verify),
    ];
    keys.into_iter().for_each(|(key, differs)| note(key, Effect::Now, differs));
    let Recovery {
        enabled,
        health_check_timeout,
        cleanup_timeout,
        polling_intervals,
        max_reconnect_attempts,
    } = recovery;
    let now = &new.recovery;
    let keys = [
        ("docker_recovery.enabled", *enabled != now.enabled),
        ("docker_recovery.health_check_timeout", *health_check_timeout != now.health_check_timeout),
        ("docker_recovery.cleanup_timeout", *cleanup_timeout != now.cleanup_timeout),
        ("docker_recovery.polling_intervals", *polling_intervals != now.polling_intervals),
        ("docker_recovery.max_reconnect_attempts", *max_reconnect_attempts != now.max_reconnect_attempts),
    ];
    keys.into_iter().for_each(|(key, differs)| note(key, Effect::Now, differs));
    let Shutdown { drain, total } = shutdown;
    note("shutdown.drain_seconds", Effect::Now, *drain != new.shutdown.drain);
    note("shutdown.total_seconds", Effect::Now, *total != new.shutdown.total);
    found
}
