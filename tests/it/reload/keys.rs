//! Every key that `docs/config.md` has, changed once: `data/reload-keys.txt` says what follows for servers of each
//! kind, and for the settings. What means the same in other words is kept.

use super::check_file;
use mcpvisor::config;
use mcpvisor::config::diff::{Decision, Diff, Effect, diff};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One server of each kind, so that it is seen whom a key concerns.
fn base() -> Value {
    json!({"mcpServers": {
        "host": {"command": "a", "args": ["x"]},
        "own": {"command": "a", "connection_timeout": 7, "call_timeout": 7, "health_check_interval": 7,
                "stop_grace": 7},
        "off": {"command": "a", "enabled": false},
        "lazy": {"command": "a", "startup_mode": "lazy"},
        "far": {"url": "https://example.org/mcp"},
        "box": {"command": "npx", "working_dir": "/w", "isolation": {"enabled": true, "working_dir": "/i"}},
        "run": {"command": "docker", "args": ["run", "-i", "--rm", "image"]},
    }})
}

/// The place of a key, as a path of names, and another value than the one that is there or by default.
fn changes() -> Vec<(&'static str, Value)> {
    vec![
        // Of one server.
        ("mcpServers.host.command", json!("b")),
        ("mcpServers.host.args", json!(["y"])),
        ("mcpServers.host.env", json!({"A": "1"})),
        ("mcpServers.host.working_dir", json!("/w")),
        ("mcpServers.host.cwd", json!("/w")),
        ("mcpServers.host.enabled", json!(false)),
        ("mcpServers.off.enabled", json!(true)),
        ("mcpServers.off.args", json!(["y"])),
        ("mcpServers.host.disabled", json!(true)),
        ("mcpServers.host.startup_mode", json!("disabled")),
        ("mcpServers.host.startup_mode", json!("lazy")),
        ("mcpServers.lazy.startup_mode", json!("active")),
        ("mcpServers.lazy.idle_timeout", json!(8)),
        ("mcpServers.host.groups", json!(["x"])),
        ("mcpServers.host.auto_disable", json!({"failure_threshold": 8, "probation": false})),
        ("mcpServers.host.overlap", json!(true)),
        ("idle_timeout", json!(8)),
        ("logging.format", json!("json")),
        ("logging.max_size_mb", json!(8)),
        ("logging.max_files", json!(8)),
        ("logging.max_total_mb", json!(8)),
        ("auto_disable.probation", json!(false)),
        ("auto_disable.generate_reports", json!(false)),
        ("diagnostics.enabled", json!(false)),
        ("diagnostics.report_directory", json!("/r")),
        ("diagnostics.keep_reports_days", json!(8)),
        ("docker_recovery.max_reconnect_attempts", json!(8)),
        ("hooks.on_event", json!({"command": "a"})),
        ("mcpServers.host.connection_timeout", json!(8)),
        ("mcpServers.host.call_timeout", json!(8)),
        ("mcpServers.host.health_check_interval", json!(8)),
        ("mcpServers.host.stop_grace", json!(8)),
        ("mcpServers.host.isolation", json!({"enabled": true, "image": "x"})),
        ("mcpServers.host.engine", json!("/other.sock")),
        ("mcpServers.box.engine", json!("/other.sock")),
        ("mcpServers.box.pull", json!("always")),
        ("mcpServers.run.cidfile_timeout_seconds", json!(8)),
        ("mcpServers.host.client_features", json!(["roots"])),
        ("mcpServers.host.era", json!("modern")),
        ("mcpServers.far.url", json!("https://example.org/other")),
        ("mcpServers.host", json!({"url": "https://example.org/other"})),
        ("mcpServers.far", json!({"command": "a"})),
        ("mcpServers.far.protocol", json!("sse")),
        ("mcpServers.far.type", json!("sse")),
        ("mcpServers.far.transport", json!("sse")),
        ("mcpServers.far.headers", json!({"A": "1"})),
        ("mcpServers.host.nonsense", json!(1)),
        ("mcpServers.host.args", json!("wrong")),
        ("mcpServers.fresh", json!({"command": "a"})),
        ("mcpServers.host", Value::Null),
        // Of its container.
        ("mcpServers.box.isolation.enabled", json!(false)),
        ("mcpServers.box.isolation.image", json!("x")),
        ("mcpServers.box.isolation.memory", json!("1g")),
        ("mcpServers.box.isolation.memory_limit", json!("1g")),
        ("mcpServers.box.isolation.cpus", json!(2)),
        ("mcpServers.box.isolation.cpu_limit", json!(2)),
        ("mcpServers.box.isolation.pids_limit", json!(9)),
        ("mcpServers.box.isolation.network_mode", json!("none")),
        ("mcpServers.box.isolation.mounts", json!(["/a:/b"])),
        ("mcpServers.box.isolation.mount_working_dir", json!("ro")),
        ("mcpServers.box.isolation.working_dir", json!("/j")),
        ("mcpServers.box.isolation.read_only", json!(true)),
        ("mcpServers.box.isolation.tmpfs", json!(["/t"])),
        ("mcpServers.box.isolation.user", json!("1000")),
        ("mcpServers.box.isolation.platform", json!("linux/arm64")),
        ("mcpServers.box.isolation.cap_add", json!(["CHOWN"])),
        ("mcpServers.box.isolation.security_opt", json!(["seccomp=unconfined"])),
        ("mcpServers.box.isolation.log_driver", json!("local")),
        ("mcpServers.box.isolation.log_max_size", json!("1m")),
        ("mcpServers.box.isolation.log_max_files", json!(2)),
        ("mcpServers.box.isolation.extra_host_config", json!({"ShmSize": 1})),
        ("mcpServers.box.isolation.extra_args", json!(["-e", "A=1"])),
        // Of all servers.
        ("call_timeout", json!(8)),
        ("call_tool_timeout", json!(8)),
        ("cidfile_timeout_seconds", json!(8)),
        ("connection_management.connection_timeout_seconds", json!(8)),
        ("connection_management.health_check_interval_seconds", json!(8)),
        ("connection_management.retry_backoff_max_seconds", json!(8)),
        ("auto_disable.enabled", json!(false)),
        ("auto_disable.failure_threshold", json!(8)),
        ("auto_disable.window_minutes", json!(8)),
        ("auto_disable.startup_attempts", json!(8)),
        ("resource_cleanup.process_kill_timeout_seconds", json!(8)),
        ("resource_cleanup.verify_timeout_seconds", json!(8)),
        ("resource_cleanup.docker_cleanup_timeout_seconds", json!(8)),
        ("resource_cleanup.verify_cleanup", json!(false)),
        ("docker_isolation", json!({"enabled": true, "default_images": {"a": "a"}})),
        ("docker_isolation.default_images", json!({"npx": "node:24"})),
        ("docker_isolation.default_images", json!({"uvx": "other"})),
        ("docker_isolation.registry", json!("mirror.lan")),
        ("docker_isolation.engine", json!("/other.sock")),
        ("docker_isolation.pull", json!("never")),
        ("docker_isolation.pull_timeout", json!(8)),
        ("docker_isolation.enable_cache_volume", json!(true)),
        ("docker_isolation.memory", json!("1g")),
        ("docker_recovery.health_check_timeout", json!(8)),
        // Of the daemon.
        ("listen", json!("127.0.0.1:9")),
        ("data_dir", json!("/d")),
        ("api_key", json!("k")),
        ("trusted_hosts", json!(["h"])),
        ("list_wait", json!(8)),
        ("logging.level", json!("debug")),
        ("connection_management.max_concurrent_connections", json!(8)),
        ("docker_recovery.enabled", json!(false)),
        ("docker_recovery.polling_intervals", json!([8])),
        ("docker_recovery.cleanup_timeout", json!(8)),
        ("shutdown.drain_seconds", json!(8)),
        ("shutdown.total_seconds", json!(80)),
    ]
}

/// Keys that are documented in one table with another, and so have no row of their own above.
const NO_EFFECT: &[&str] = &["nonsense"];

fn with(path: &str, value: &Value) -> Value {
    let mut config = base();
    let mut at = &mut config;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for name in parents.split('.').filter(|name| !name.is_empty()) {
        at = &mut at[name];
    }
    match value {
        Value::Null => _ = at.as_object_mut().unwrap().remove(last),
        value => at[last] = value.clone(),
    }
    config
}

fn between(before: &str, after: &str) -> Diff {
    let read = |text: &str| config::parse(text, "f").0;
    let (before, after) = (read(before), read(after));
    assert!(before.usable && after.usable);
    diff(&before, &after)
}

/// `restart(args) host; retune(call_timeout) far run; now call_timeout`
fn described(diff: &Diff) -> String {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for change in diff.changes() {
        let fields = change.fields.join(", ");
        let what = if fields.is_empty() { String::new() } else { format!("({fields})") };
        let key = format!("{}{what}", change.decision.name());
        groups.entry(key).or_default().push(change.name.as_str());
    }
    let mut parts: Vec<String> =
        groups.iter().map(|(what, names)| format!("{what} {}", names.join(" "))).collect();
    for setting in &diff.settings {
        let when = match setting.effect {
            Effect::Now => "now",
            Effect::AfterRestart => "after a restart",
        };
        parts.push(format!("{when} {}", setting.key));
    }
    if parts.is_empty() { "keep".to_owned() } else { parts.join("; ") }
}

#[test]
fn every_key_means_something() {
    let before = base().to_string();
    let mut text = String::new();
    for (path, value) in changes() {
        let after = with(path, &value).to_string();
        let (there, back) = (between(&before, &after), between(&after, &before));
        let last = path.rsplit('.').next().unwrap();
        let alone = path == "mcpServers.host.engine" || NO_EFFECT.contains(&last);
        // What concerns commands that no server here has: none of them is to be restarted.
        let nobody = path == "docker_isolation.default_images" && value.get("uvx").is_some();
        assert_eq!(there.is_empty(), alone || nobody, "{path}: {}", described(&there));
        assert_eq!(there.is_empty(), back.is_empty(), "{path} and back");
        writeln!(text, "{path} = {value}\n    {}", described(&there)).unwrap();
    }
    check_file("reload-keys.txt", &text);
}

/// The documentation is the list of what there is.
#[test]
fn every_documented_key_is_changed_above() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let rows = docs.lines().skip_while(|line| *line != "| key | meaning | default |");
    let mut keys = BTreeSet::new();
    let mut in_table = false;
    for line in rows {
        match line.split('|').nth(1) {
            Some(" key ") => in_table = true,
            Some(_) if line.starts_with("|---") => {}
            Some(first) if in_table => {
                keys.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
            }
            _ => in_table = false,
        }
    }
    assert!(keys.len() > 70, "the tables are where they are looked for: {keys:?}");
    let changed: BTreeSet<String> = changes().into_iter().map(|(path, _)| path.to_owned()).collect();
    let is_changed =
        |key: &&String| changed.iter().any(|path| path == *key || path.ends_with(&format!(".{key}")));
    let forgotten: Vec<&String> = keys.iter().filter(|key| !is_changed(key)).collect();
    assert!(forgotten.is_empty(), "documented, and not in `changes`: {forgotten:?}");
}

#[test]
fn the_same_in_other_words_is_kept() {
    let plain = base().to_string();
    let check = |after: &str| assert_eq!(described(&between(&plain, after)), "keep", "{after}");
    check(&serde_json::to_string_pretty(&base()).unwrap());
    check(&plain.replace(",\"", ", // a comment\n \"").replace('[', "[ /* another */ "));
    check(&format!("\u{feff}{plain}\n\n"));
    check(&reversed(&base()));
    // Defaults that are written out, other names for a key, and other ways to say so long.
    for (path, value) in [
        ("mcpServers.host.enabled", json!(true)),
        ("mcpServers.host.startup_mode", json!("active")),
        ("mcpServers.host.type", json!("stdio")),
        ("mcpServers.host.call_timeout", json!("2m")),
        ("mcpServers.own.stop_grace", json!("7000ms")),
        ("mcpServers.host.isolation", json!({"enabled": false})),
        ("mcpServers.host.env", json!({})),
        ("mcpServers.host.era", json!("auto")),
        ("mcpServers.far.protocol", json!("auto")),
        ("call_timeout", json!("120s")),
        ("listen", json!("127.0.0.1:8080")),
        ("auto_disable", json!({"failure_threshold": 10.0})),
        ("docker_isolation", json!({"enabled": false})),
    ] {
        check(&with(path, &value).to_string());
    }
    // As an array, with the names inside.
    let servers = base()["mcpServers"].as_object().unwrap().clone();
    let list: Vec<Value> = servers
        .into_iter()
        .map(|(name, mut entry)| {
            entry["name"] = json!(name);
            entry
        })
        .collect();
    check(&json!({"mcpServers": list}).to_string());
}

/// The members of every object from the last to the first.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(key, value)| format!("{}: {}", json!(key), reversed(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// An entry that cannot run as written, and where it stands: only what is wrong with it counts.
#[test]
fn a_problem_is_the_same_wherever_it_stands() {
    let bad = r#"{"mcpServers": {"x": {"command": 1}, "y": {"command": "y"}}}"#;
    let moved = "// a line\n\n{\"mcpServers\": {\"y\": {\"command\": \"y\"},\n  \"x\": {\"command\": 1}}}";
    let other = r#"{"mcpServers": {"x": {"command": "x", "args": 1}, "y": {"command": "y"}}}"#;
    let good = r#"{"mcpServers": {"x": {"command": "x"}, "y": {"command": "y"}}}"#;
    assert_eq!(described(&between(bad, moved)), "keep");
    assert_eq!(described(&between(bad, other)), "retune(problem) x");
    assert_eq!(described(&between(bad, good)), "restart(command, problem) x");
    assert_eq!(described(&between(good, bad)), "restart(problem) x");
}

/// Any two of a pile of configs: what is different is different both ways, and nothing is different from itself.
#[test]
fn any_two_configs() {
    let all: Vec<String> = changes()
        .iter()
        .map(|(path, value)| with(path, value).to_string())
        .chain([base().to_string()])
        .collect();
    for before in &all {
        assert!(between(before, before).is_empty());
        for after in &all {
            let (there, back) = (between(before, after), between(after, before));
            assert_eq!(there.is_empty(), back.is_empty());
            let count =
                |diff: &Diff, decision| diff.changes().filter(|change| change.decision == decision).count();
            for (one, other) in [
                (Decision::Add, Decision::Remove),
                (Decision::Start, Decision::Stop),
                (Decision::Restart, Decision::Restart),
            ] {
                assert_eq!(count(&there, one), count(&back, other));
            }
        }
    }
}
