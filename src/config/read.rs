//! The whole file: syntax, the settings that hold for all servers, then the servers (`server.rs`).

use super::fields::{Field, Fields};
use super::notes::{Notes, Spot, finding};
use super::span::{self, Allowed, Unit, short};
use super::template::Template;
use super::{Cleanup, Config, Connections, Logging, Recovery, Shutdown};
use super::{auto_disable, hooks, isolation, json, keys, listen, server};
use crate::base::finding::{Finding, Severity};
use crate::base::limits::CONFIG_BYTES_MAX;
use std::time::Duration;

/// Reads a config. `file` is what the findings call it. Never fails; see [`Config::usable`].
pub fn parse(text: &str, file: &str) -> (Config, Vec<Finding>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut notes = Notes::new(if text.len() > CONFIG_BYTES_MAX { "" } else { text }, file);
    let config = read(text, &mut notes).unwrap_or_else(Config::unusable);
    (config, notes.finish())
}

/// The text of a file, or the finding that it is none. A byte order mark is for [`parse`] to pass over.
pub fn decode<'b>(bytes: &'b [u8], file: &str) -> Result<&'b str, Box<Finding>> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let place = super::place::Places::new(good).position(good.len());
        let message = "the file is not UTF-8 text".to_owned();
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let hint = if utf16 { "it looks like UTF-16: save it as UTF-8" } else { "save it as UTF-8" };
        Box::new(finding(Severity::Error, file, place, "", message, hint.to_owned()))
    })
}

fn read(text: &str, notes: &mut Notes) -> Option<Config> {
    let start = Spot::file(0);
    if text.len() > CONFIG_BYTES_MAX {
        let limit = CONFIG_BYTES_MAX >> 20;
        notes.error(&start, format!("the file is larger than {limit} MiB"), "is it the right file?");
        return None;
    }
    if text.trim().is_empty() {
        notes.error(&start, "the file is empty", "the smallest config is {\"mcpServers\": {}}");
        return None;
    }
    let parsed = json::parse(text);
    for mistake in &parsed.mistakes {
        notes.error(&Spot::file(mistake.at), &mistake.message, &mistake.hint);
    }
    if !parsed.mistakes.is_empty() {
        return None;
    }
    let root = Field::root(&parsed.root);
    let Some(fields) = Fields::of(&root, notes) else {
        notes.error(&root.spot, root.unexpected("an object"), "the smallest config is {\"mcpServers\": {}}");
        return None;
    };
    settings(fields, notes)
}

fn settings(mut fields: Fields, notes: &mut Notes) -> Option<Config> {
    let default = Config::default();
    let call_names = ["call_timeout", "call_tool_timeout"];
    let api_key = api_key(&mut fields, notes);
    let (level, logging) = logging(&mut fields, default.logging.clone(), notes);
    let config = Config {
        usable: true,
        listen: listen(&mut fields, matches!(api_key, Ok(Some(_))), notes).unwrap_or(default.listen),
        data_dir: path(&mut fields, "data_dir", notes),
        trusted_hosts: trusted_hosts(&mut fields, notes),
        log_level: level.unwrap_or(default.log_level),
        logging,
        list_wait: span(&mut fields, &["list_wait"], Allowed::ANY, default.list_wait, notes),
        idle_timeout: span(&mut fields, &["idle_timeout"], Allowed::SOME, default.idle_timeout, notes),
        call_timeout: span(&mut fields, &call_names, Allowed::SOME, default.call_timeout, notes),
        connections: connections(&mut fields, default.connections, notes),
        auto_disable: auto_disable::of_all(&mut fields, &default.auto_disable, notes),
        diagnostics: auto_disable::diagnostics(&mut fields, &default.diagnostics, notes),
        cleanup: cleanup(&mut fields, default.cleanup, notes),
        cidfile_timeout: span(
            &mut fields,
            &["cidfile_timeout_seconds"],
            Allowed::SOME,
            default.cidfile_timeout,
            notes,
        ),
        recovery: recovery(&mut fields, default.recovery, notes),
        shutdown: shutdown(&mut fields, default.shutdown, notes),
        hooks: hooks::read(&mut fields, notes),
        servers: Vec::new(),
        engine: None,
        api_key: None,
    };
    let isolation = isolation::defaults(&mut fields, notes);
    let servers = match fields.take("mcpServers") {
        Some(field) => server::read_all(&field, &isolation, notes),
        None => {
            notes.warn(&Spot::file(0), "there is no `mcpServers`: no servers to run", "");
            Some(Vec::new())
        }
    };
    fields.finish(keys::GLOBAL, notes);
    Some(Config { servers: servers?, api_key: api_key.ok()?, engine: isolation.engine, ..config })
}

/// A key that cannot be honoured is an error for the whole file: going on without it would open what was meant
/// to be closed.
fn api_key(fields: &mut Fields, notes: &mut Notes) -> Result<Option<Template>, ()> {
    let Some(field) = fields.take("api_key") else { return Ok(None) };
    let hint = "the file is not used: what the key protects would be open";
    let Some(text) = field.text() else {
        notes.error(&field.spot, field.unexpected("a string"), hint);
        return Err(());
    };
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        notes.error(&field.spot, "a key is made of visible ASCII characters without spaces", hint);
        return Err(());
    }
    match Template::parse(text) {
        Ok(template) => Ok((!text.is_empty()).then(|| template.secret())),
        Err(error) => {
            notes.error(&field.spot, error.message, error.hint);
            Err(())
        }
    }
}

fn listen(fields: &mut Fields, has_key: bool, notes: &mut Notes) -> Option<String> {
    let field = fields.take("listen")?;
    let Some(text) = field.text() else {
        notes.error(&field.spot, field.unexpected("a string"), "write it like \"127.0.0.1:8080\"");
        return None;
    };
    match listen::parse(text) {
        Ok(address) => {
            if !has_key && !listen::is_loopback(&address) {
                let message = "listening beyond this machine needs `api_key`";
                notes.error(&field.spot, message, "set `api_key`, or listen on 127.0.0.1");
            }
            Some(address)
        }
        Err(hint) => {
            notes.error(&field.spot, "this is not an address to listen on", hint);
            None
        }
    }
}

/// A path of the host; nothing where it is missing or cannot be one.
pub fn path(fields: &mut Fields, name: &'static str, notes: &mut Notes) -> Option<String> {
    let field = fields.take(name)?;
    let Some(text) = field.text().filter(|text| !text.contains('\0')) else {
        notes.error(&field.spot, field.unexpected("a path"), "the default is used");
        return None;
    };
    if !text.is_empty() && !text.starts_with('/') && !text.starts_with('~') {
        let message = "a relative path depends on where mcpvisor is started";
        notes.warn(&field.spot, message, "write the full path, or one that begins with `~/`");
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn trusted_hosts(fields: &mut Fields, notes: &mut Notes) -> Vec<String> {
    let Some(field) = fields.take("trusted_hosts") else { return Vec::new() };
    let Some(items) = field.items() else {
        let hint = "write it like [\"mcp.example.org\"]";
        notes.error(&field.spot, field.unexpected("an array of host names"), hint);
        return Vec::new();
    };
    let mut hosts = Vec::new();
    for item in items {
        match item.text() {
            Some(host) if listen::is_host_name(host) => hosts.push(host.to_ascii_lowercase()),
            Some(_) => notes.error(
                &item.spot,
                "this is not a host name; ignored",
                "a name like mcp.example.org, without scheme, port, path or `*`",
            ),
            None => notes.error(&item.spot, item.unexpected("a host name"), "it is ignored"),
        }
    }
    hosts
}

fn logging(fields: &mut Fields, default: Logging, notes: &mut Notes) -> (Option<log::LevelFilter>, Logging) {
    let mut section = fields.section("logging", notes);
    let part = &mut section;
    let level = part.take("level").and_then(|field| {
        let level = field.text().and_then(|text| match text.to_ascii_lowercase().as_str() {
            "warning" => Some(log::LevelFilter::Warn),
            level => level.parse().ok(),
        });
        if level.is_none() {
            notes.error(&field.spot, "expected off, error, warn, info, debug or trace", "info is used");
        }
        level
    });
    let json = part.take("format").map_or(default.json, |field| match field.text() {
        Some("json") => true,
        Some("text") => false,
        _ => {
            notes.error(&field.spot, "expected `text` or `json`", "text is used");
            false
        }
    });
    let logging = Logging {
        json,
        max_size_mb: part.count_or("max_size_mb", 1..=1024, "the default", notes),
        max_files: part.count("max_files", 0..=20, default.max_files, notes),
        max_total_mb: part.count("max_total_mb", 1..=1 << 20, default.max_total_mb, notes),
    };
    section.finish(keys::LOGGING, notes);
    (level, logging)
}

fn connections(fields: &mut Fields, default: Connections, notes: &mut Notes) -> Connections {
    let mut section = fields.section("connection_management", notes);
    let part = &mut section;
    let health = ["health_check_interval_seconds"];
    let connections = Connections {
        concurrent_max: part.count(
            "max_concurrent_connections",
            1..=1000,
            default.concurrent_max as u32,
            notes,
        ) as usize,
        timeout: span(part, &["connection_timeout_seconds"], Allowed::SOME, default.timeout, notes),
        health_check_interval: span(part, &health, Allowed::PROBE, default.health_check_interval, notes),
        retry_backoff_max: span(
            part,
            &["retry_backoff_max_seconds"],
            Allowed::SECONDS,
            default.retry_backoff_max,
            notes,
        ),
    };
    section.finish(&[], notes);
    connections
}

fn cleanup(fields: &mut Fields, default: Cleanup, notes: &mut Notes) -> Cleanup {
    let mut section = fields.section("resource_cleanup", notes);
    let part = &mut section;
    let kill = ["process_kill_timeout_seconds"];
    let cleanup = Cleanup {
        process_kill_timeout: span(part, &kill, Allowed::ANY, default.process_kill_timeout, notes),
        verify_timeout: span(part, &["verify_timeout_seconds"], Allowed::SOME, default.verify_timeout, notes),
        docker_timeout: span(
            part,
            &["docker_cleanup_timeout_seconds"],
            Allowed::SECONDS,
            default.docker_timeout,
            notes,
        ),
        verify: part.flag("verify_cleanup", default.verify, notes),
    };
    section.finish(&[], notes);
    cleanup
}

fn recovery(fields: &mut Fields, default: Recovery, notes: &mut Notes) -> Recovery {
    let mut section = fields.section("docker_recovery", notes);
    let part = &mut section;
    let health = ["health_check_timeout"];
    let recovery = Recovery {
        enabled: part.flag("enabled", default.enabled, notes),
        health_check_timeout: span(part, &health, Allowed::SOME, default.health_check_timeout, notes),
        cleanup_timeout: span(part, &["cleanup_timeout"], Allowed::SOME, default.cleanup_timeout, notes),
        polling_intervals: intervals(part, notes).unwrap_or(default.polling_intervals),
        max_reconnect_attempts: part.count(
            "max_reconnect_attempts",
            0..=100,
            default.max_reconnect_attempts,
            notes,
        ),
    };
    section.finish(&[], notes);
    recovery
}

/// As many as anybody needs; each is a wait, and the last one repeats.
const INTERVALS_MAX: usize = 32;

/// Some waits, one after the other. One that is wrong makes the whole list wrong: without it the others mean
/// something else.
fn intervals(fields: &mut Fields, notes: &mut Notes) -> Option<Vec<Duration>> {
    let field = fields.take("polling_intervals")?;
    let allowed = Allowed { from: Duration::from_millis(100), ..Allowed::SOME };
    let hint = format!("1 to {INTERVALS_MAX} durations {allowed}; [2, 5, 10, 30, 60] is used");
    let spans = field.items().map(|items| {
        let read =
            |item: Field| span::read(item.node, Unit::Seconds).ok().filter(|one| allowed.contains(*one));
        items.map(read).collect::<Option<Vec<Duration>>>()
    });
    match spans {
        Some(Some(spans)) if (1..=INTERVALS_MAX).contains(&spans.len()) => return Some(spans),
        Some(_) => notes.error(&field.spot, "this is not a list of durations", hint),
        None => notes.error(&field.spot, field.unexpected("an array of durations"), hint),
    }
    None
}

fn shutdown(fields: &mut Fields, default: Shutdown, notes: &mut Notes) -> Shutdown {
    let mut section = fields.section("shutdown", notes);
    let drain = span(&mut section, &["drain_seconds"], Allowed::ANY, default.drain, notes);
    let allowed = Allowed { from: drain.max(Allowed::SOME.from), ..Allowed::SOME };
    let total = section.span(&["total_seconds"], Unit::Seconds, allowed, "the sum of the steps", notes);
    section.finish(&[], notes);
    Shutdown { drain, total }
}

fn span(
    fields: &mut Fields,
    names: &[&'static str],
    allowed: Allowed,
    default: Duration,
    notes: &mut Notes,
) -> Duration {
    fields.span(names, Unit::Seconds, allowed, &short(default), notes).unwrap_or(default)
}
