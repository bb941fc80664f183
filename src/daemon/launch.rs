//! From an entry of the config to what a life runs: variables resolved now, environment scrubbed, marks set.

use super::containers::Containers;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, fnv1a};
use crate::config::{Config, Launch, ServerConfig, Template, expand_home};
use crate::reaper::mark::Marker;
use crate::server::machine::Policy;
use crate::server::report::Reports;
use crate::server::starts::Ceiling;
use crate::sys::spawn::Program;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Variables that speak of us and not of a server: our settings, and what a service manager told us.
fn is_ours(name: &str) -> bool {
    const NAMES: [&str; 3] = ["NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID"];
    const PREFIXES: [&str; 3] = ["MCPVISOR_", "LISTEN_", "WATCHDOG_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What a child inherits of our environment.
pub fn inherited(environment: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    environment.filter(|(name, _)| !is_ours(name)).collect()
}

/// A process of this host. The environment is read at every launch.
pub fn program(entry: &ServerConfig, marker: &Marker, life: Life) -> Result<Program, Fault> {
    let Launch::Process { command, args, env, working_dir } = &entry.launch else {
        let fault = entry.problem.clone();
        return Err(fault.unwrap_or_else(|| Fault::new(FaultKind::NotSupported, "nothing to run")));
    };
    let lookup = |name: &str| std::env::var(name).ok();
    let resolve = |template: &Template| template.resolve(lookup);
    let home = home();
    let mut environment = inherited(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    for (name, value) in env {
        environment.retain(|(known, _)| known != name);
        environment.push((name.clone(), resolve(value)?));
    }
    environment.extend(marker.mark(&entry.slug, life).env());
    Ok(Program {
        command: with_home(&resolve(command)?, home.as_deref()),
        args: args.iter().map(resolve).collect::<Result<_, _>>()?,
        env: environment,
        dir: match working_dir {
            Some(dir) => Some(expand_home(&resolve(dir)?, home.as_deref())),
            None => None,
        },
    })
}

/// What is written should it be given up. `usual`: where, if the config says nothing.
pub fn reports(config: &Config, entry: &ServerConfig, usual: &Path) -> Option<Reports> {
    let diagnostics = &config.diagnostics;
    let wanted = diagnostics.enabled && config.auto_disable(entry).generate_reports;
    let dir = diagnostics.report_directory.as_ref();
    wanted.then(|| Reports {
        dir: dir.map_or_else(|| usual.to_owned(), |dir| expand_home(dir, home().as_deref())),
        keep: diagnostics.keep_reports,
        runs: shown(entry),
    })
}

/// What an entry runs, as it is written: of secrets only their names.
fn shown(entry: &ServerConfig) -> String {
    match &entry.launch {
        Launch::Process { command, args, .. } => {
            let words: Vec<String> = std::iter::once(command).chain(args).map(Template::to_string).collect();
            words.join(" ")
        }
        Launch::Remote { url, .. } => url.to_string(),
        Launch::Unsupported => String::new(),
    }
}

/// Stands for what is run, so that what was learnt of one program is not believed of another. Variables count as they are
/// written; secrets do not count.
pub fn program_hash(entry: &ServerConfig) -> u64 {
    let isolation = entry.isolation.as_ref().map(|isolation| &isolation.image);
    let text = match &entry.launch {
        Launch::Process { command, args, .. } => format!("{command:?} {args:?} {isolation:?}"),
        Launch::Remote { url, .. } => format!("{url:?}"),
        Launch::Unsupported => String::new(),
    };
    fnv1a(text.as_bytes())
}

/// Stands for everything that decides how a server runs: what was counted against another entry does not count against
/// this one.
pub fn entry_hash(entry: &ServerConfig) -> u64 {
    let pairs = |pairs: &[(String, Template)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.clone(), value.raw().to_owned())).collect()
    };
    let launch = match &entry.launch {
        Launch::Process { command, args, env, working_dir } => {
            let args: Vec<&str> = args.iter().map(Template::raw).collect();
            let dir = working_dir.as_ref().map(Template::raw);
            format!("{:?} {args:?} {:?} {dir:?}", command.raw(), pairs(env))
        }
        Launch::Remote { url, headers, protocol } => {
            format!("{:?} {:?} {protocol:?}", url.raw(), pairs(headers))
        }
        Launch::Unsupported => String::new(),
    };
    let engine = entry.engine.as_ref().map(Template::raw);
    let rest = (&entry.isolation, engine, entry.connection_timeout, entry.era, &entry.client_features);
    fnv1a(format!("{launch} {rest:?}").as_bytes())
}

/// Launchers that may download what they run before it says anything.
const DOWNLOADERS: [&str; 10] =
    ["npx", "bunx", "pnpx", "uvx", "uv", "pipx", "docker", "podman", "nerdctl", "deno"];

/// How long a start may take.
pub fn ceiling(config: &Config, entry: &ServerConfig) -> Ceiling {
    let by_name = match &entry.launch {
        Launch::Process { command, .. } => {
            let name = Path::new(command.raw()).file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| DOWNLOADERS.contains(&name))
        }
        Launch::Remote { .. } | Launch::Unsupported => false,
    };
    Ceiling {
        connection_timeout: config.connection_timeout(entry),
        downloads: by_name && entry.connection_timeout.is_none(),
    }
}

/// `~/bin/server` as a command; any other command stays as it is.
pub fn with_home(command: &str, home: Option<&Path>) -> String {
    if command.starts_with("~/") {
        expand_home(command, home).to_string_lossy().into_owned()
    } else {
        command.to_owned()
    }
}

pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The numbers of one server's machine.
pub fn policy(config: &Config, entry: &ServerConfig) -> Policy {
    let plain = Policy::default();
    let (stop_grace, given_up) = (config.stop_grace(entry), config.auto_disable(entry));
    Policy {
        lazy: entry.lazy,
        connect_timeout: config.connection_timeout(entry),
        eof_grace: plain.eof_grace.min(stop_grace / 2),
        stop_grace,
        pull_timeout: Containers::pull_timeout(entry).unwrap_or(plain.pull_timeout),
        verify_timeout: config.cleanup.verify_timeout,
        probe_every: config.health_check_interval(entry),
        retry_backoff_max: config.connections.retry_backoff_max.max(Duration::from_secs(1)),
        auto_disable: given_up.enabled,
        failure_threshold: given_up.failure_threshold as usize,
        failure_window: given_up.window,
        reconnect_attempts: config.recovery.max_reconnect_attempts,
        startup_attempts: given_up.startup_attempts as usize,
        probation: given_up.probation,
        ..plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_after_an_outage_are_as_many_as_the_config_says() {
        let text = r#"{ "docker_recovery": { "max_reconnect_attempts": 7 }, "mcpServers": { "a": { "command": "x" } } }"#;
        let (config, findings) = crate::config::parse(text, "mcp.json");
        assert_eq!(findings, []);
        assert_eq!(policy(&config, &config.servers[0]).reconnect_attempts, 7);
        let plain = Config { recovery: Config::default().recovery, ..config };
        let defaults =
            (policy(&plain, &plain.servers[0]).reconnect_attempts, Policy::default().reconnect_attempts);
        assert_eq!(defaults, (4, 4));
    }

    #[test]
    fn an_entry_says_itself_when_it_is_given_up() {
        let text = r#"{ "auto_disable": { "failure_threshold": 7, "probation": false }, "mcpServers": {
            "own": { "command": "x", "auto_disable": { "failure_threshold": 2, "window_minutes": 5 } },
            "plain": { "command": "x" },
            "wrong": { "command": "x", "auto_disable": { "startup_attempts": "many", "enabled": false } } } }"#;
        let (config, findings) = crate::config::parse(text, "mcp.json");
        let words: Vec<String> = findings.iter().map(|finding| finding.hint.clone()).collect();
        assert_eq!(words, ["the global value is used"]);
        let all: Vec<_> = config.servers.iter().map(|entry| policy(&config, entry)).collect();
        let facts = |policy: &Policy| {
            let minutes = policy.failure_window.as_secs() / 60;
            (
                policy.auto_disable,
                policy.failure_threshold,
                minutes,
                policy.startup_attempts,
                policy.probation,
            )
        };
        assert_eq!(facts(&all[0]), (true, 2, 5, 3, false));
        assert_eq!(facts(&all[1]), (true, 7, 30, 3, false));
        assert_eq!(facts(&all[2]), (false, 7, 30, 3, false));
    }

    #[test]
    fn what_speaks_of_us_is_not_inherited() {
        let names = [
            "PATH",
            "MCPVISOR_TOKEN",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "WATCHDOG_USEC",
            "JOURNAL_STREAM",
            "HOME",
        ];
        let all = names.iter().map(|name| ((*name).to_owned(), String::new()));
        let left: Vec<String> = inherited(all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["PATH", "HOME"]);
    }
}
