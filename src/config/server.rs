//! `mcpServers`: Claude Desktop's map from name to entry, or mcpproxy's array of entries with a `name`.
//!
//! Every entry becomes a server. The one exception is a name that is written twice: the last entry counts, as in
//! every JSON reader and in mcpproxy's store, and the earlier one is an error finding.

use super::fields::{Field, Fields};
use super::json::{Node, Value};
use super::notes::Notes;
use super::span::{Allowed, Unit};
use super::{Launch, OwnAutoDisable, ServerConfig, auto_disable, isolation, keys, launch};
use crate::base::fault::FaultKind;
use crate::base::id::{ServerName, Slug};
use crate::base::limits::{SERVER_NAME_CHARS_MAX, SERVERS_MAX};
use crate::base::text::{nearest, shorten};
use crate::mcp::era::Era;
use crate::mcp::features::Feature;
use std::collections::{BTreeMap, BTreeSet};

/// One entry before it is read.
struct Entry<'t> {
    /// Unique among the entries that are read.
    name: String,
    /// What is wrong with the name, and a hint.
    bad_name: Option<(&'static str, &'static str)>,
    field: Field<'t>,
}

const BAD_NAME: (&str, &str) =
    ("the name is too long, or holds control characters", "a name is at most 200 visible characters");

/// Whether a server can have this name.
pub fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && shorten(name, SERVER_NAME_CHARS_MAX) == name
}

/// Nothing if it is neither a map nor an array.
pub fn read_all(
    field: &Field,
    defaults: &isolation::Defaults,
    notes: &mut Notes,
) -> Option<Vec<ServerConfig>> {
    let entries = match entries(field) {
        Some(entries) => entries,
        None => {
            let hint = "write {\"NAME\": {\"command\": …}}";
            notes.error(&field.spot, field.unexpected("an object or an array"), hint);
            return None;
        }
    };
    if let Some(first) = entries.get(SERVERS_MAX) {
        let message =
            format!("there are more than {SERVERS_MAX} servers; this one and the rest are left out");
        notes.error(&first.field.key_spot(), message, "");
    }
    let mut slugs = BTreeSet::new();
    let mut servers = Vec::new();
    for entry in unique(entries.into_iter().take(SERVERS_MAX).collect(), notes) {
        let slug = free_slug(&entry, &slugs, notes);
        slugs.insert(slug.clone());
        servers.push(read(&entry, slug, defaults, notes));
    }
    Some(servers)
}

fn entries<'t>(field: &Field<'t>) -> Option<Vec<Entry<'t>>> {
    let named: Vec<(Option<&str>, Field)> = if let Some(members) = field.members() {
        members.into_iter().map(|(name, field)| (Some(name), field)).collect()
    } else {
        field.items()?.map(|item| (name_of(item.node), item)).collect()
    };
    let taken: BTreeSet<&str> = named.iter().filter_map(|(name, _)| *name).collect();
    let mut unnamed = (1..).map(|n| format!("unnamed-{n}")).filter(|name| !taken.contains(name.as_str()));
    let entry = |(name, field): (Option<&str>, Field<'t>)| {
        let (name, bad_name) = match name.filter(|name| !name.trim().is_empty()) {
            None => {
                let bad = ("the entry has no name", "give it a `name`");
                (unnamed.next().expect("the numbers do not end"), Some(bad))
            }
            Some(name) => {
                let shown = shorten(name, SERVER_NAME_CHARS_MAX);
                let bad = (shown != name).then_some(BAD_NAME);
                (shown, bad)
            }
        };
        Entry { name, bad_name, field }
    };
    Some(named.into_iter().map(entry).collect())
}

/// The last `name` of an entry in an array.
pub fn name_of(entry: &Node) -> Option<&str> {
    let Value::Object(members) = &entry.value else { return None };
    let last = members.iter().rev().find(|member| member.key == "name")?;
    match &last.value.value {
        Value::Text(name) => Some(name),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn unique<'t>(entries: Vec<Entry<'t>>, notes: &mut Notes) -> Vec<Entry<'t>> {
    let last: BTreeMap<String, usize> = entries.iter().map(|e| (e.name.clone(), e.field.key_at)).collect();
    let counts = |entry: &Entry<'t>| {
        let at = last[&entry.name];
        if at != entry.field.key_at {
            let (line, _) = notes.position(at);
            let message = format!("there is another server of this name in line {line}; this one is ignored");
            notes.begin_server(&entry.name);
            notes.error(&entry.field.key_spot(), message, "give one of them another name");
            notes.end_server();
        }
        at == entry.field.key_at
    };
    entries.into_iter().filter(counts).collect()
}

/// The name's own slug, unless an earlier server has it: then one with another hash.
fn free_slug(entry: &Entry, taken: &BTreeSet<Slug>, notes: &mut Notes) -> Slug {
    let slug = Slug::of(&entry.name);
    if !taken.contains(&slug) {
        return slug;
    }
    let other = (2..)
        .map(|n| Slug::of(&format!("{} {n}", entry.name)))
        .find(|slug| !taken.contains(slug))
        .expect("there are fewer servers than hashes");
    let message = format!("its short name `{slug}` is another server's; it gets `{other}`");
    notes.begin_server(&entry.name);
    notes.warn(&entry.field.key_spot(), message, "another name would give it a short name that stays");
    notes.end_server();
    other
}

fn read(entry: &Entry, slug: Slug, defaults: &isolation::Defaults, notes: &mut Notes) -> ServerConfig {
    notes.begin_server(&entry.name);
    let (line, column) = notes.position(entry.field.key_at);
    let mut server = ServerConfig {
        name: ServerName(entry.name.clone()),
        slug,
        enabled: true,
        lazy: false,
        overlap: false,
        idle_timeout: None,
        launch: Launch::Unsupported,
        problem: None,
        connection_timeout: None,
        call_timeout: None,
        health_check_interval: None,
        stop_grace: None,
        groups: Vec::new(),
        client_features: Vec::new(),
        era: None,
        isolation: None,
        engine: None,
        cidfile_timeout: None,
        auto_disable: OwnAutoDisable::default(),
        line,
        column,
    };
    match Fields::of(&entry.field, notes) {
        Some(fields) => read_fields(entry, fields, &mut server, defaults, notes),
        None => notes.bad(&entry.field.spot, entry.field.unexpected("an object"), "write {\"command\": …}"),
    }
    server.problem = notes.end_server();
    server
}

fn read_fields(
    entry: &Entry,
    mut fields: Fields,
    server: &mut ServerConfig,
    defaults: &isolation::Defaults,
    notes: &mut Notes,
) {
    name(entry, &mut fields, notes);
    let command = fields.place("command");
    let remote = command.is_none() && fields.place("url").is_some();
    let launch = launch::read(&mut fields, entry.field.key_at, notes);
    let spot = command.unwrap_or_else(|| entry.field.key_spot());
    let what = isolation::Entry { launch: launch.as_ref(), remote, spot: &spot };
    server.isolation = isolation::of_entry(&mut fields, &what, defaults, notes);
    server.engine = isolation::engine(&mut fields, notes);
    server.launch = launch.unwrap_or(Launch::Unsupported);
    (server.enabled, server.lazy) = startup(&mut fields, notes);
    quarantine(&mut fields, notes);
    let mut span = |key, allowed| fields.span(&[key], Unit::Seconds, allowed, "the global value", notes);
    server.connection_timeout = span("connection_timeout", Allowed::SOME);
    server.call_timeout = span("call_timeout", Allowed::SOME);
    server.health_check_interval = span("health_check_interval", Allowed::PROBE);
    server.stop_grace = span("stop_grace", Allowed::ANY);
    server.idle_timeout = span("idle_timeout", Allowed::SOME);
    server.cidfile_timeout = span("cidfile_timeout_seconds", Allowed::SOME);
    server.auto_disable = auto_disable::of_entry(&mut fields, notes);
    server.groups = groups(&mut fields, notes);
    server.client_features = client_features(&mut fields, notes);
    server.era = era(&mut fields, notes);
    server.overlap = fields.flag("overlap", false, notes);
    fields.finish(keys::SERVER, notes);
}

/// A list of names; what is none is reported and left out.
fn groups(fields: &mut Fields, notes: &mut Notes) -> Vec<String> {
    let Some(list) = fields.take("groups") else { return Vec::new() };
    let Some(items) = list.items() else {
        notes.error(&list.spot, list.unexpected("a list of names"), "it is in no group");
        return Vec::new();
    };
    let mut groups = BTreeSet::new();
    for item in items {
        match item.text().filter(|name| !name.is_empty() && name.chars().count() <= SERVER_NAME_CHARS_MAX) {
            Some(name) => _ = groups.insert(name.to_owned()),
            None => notes.error(&item.spot, "expected the name of a group; left out", ""),
        }
    }
    groups.into_iter().collect()
}

/// A list of the features that clients may be asked for; a name that is none of them is reported and left out.
fn client_features(fields: &mut Fields, notes: &mut Notes) -> Vec<Feature> {
    let Some(list) = fields.take("client_features") else { return Vec::new() };
    let known = "\"sampling\", \"elicitation\" and \"roots\"";
    let Some(items) = list.items() else {
        notes.error(&list.spot, list.unexpected("a list"), format!("of {known}; none is declared"));
        return Vec::new();
    };
    let mut features = Vec::new();
    for item in items {
        match item.text().and_then(Feature::of_name) {
            Some(feature) => features.push(feature),
            None => notes.error(&item.spot, "no feature of clients; left out", format!("known are {known}")),
        }
    }
    features.sort_unstable();
    features.dedup();
    features
}

/// A wrong one would make a server look broken that is not, so it is reported, and the era is found out.
fn era(fields: &mut Fields, notes: &mut Notes) -> Option<Era> {
    let field = fields.take("era")?;
    match field.text() {
        Some("auto") => None,
        Some("legacy") => Some(Era::Legacy),
        Some("modern") => Some(Era::Modern),
        other => {
            let near = other.and_then(|typed| nearest(&shorten(typed, 64), ["auto", "legacy", "modern"]));
            let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
            notes.error(&field.spot, "expected `auto`, `legacy` or `modern`; taken as `auto`", hint);
            None
        }
    }
}

fn name(entry: &Entry, fields: &mut Fields, notes: &mut Notes) {
    let written = fields.take("name");
    if let Some((message, hint)) = entry.bad_name {
        let spot = written.as_ref().map_or(entry.field.key_spot(), |field| field.spot.clone());
        notes.bad(&spot, message, hint);
    } else if let Some(field) = written.filter(|field| field.text() != Some(&entry.name)) {
        let message = format!("the server is called `{}` after its key; this is ignored", entry.name);
        notes.warn(&field.spot, message, "");
    }
}

/// Whether it is enabled, and whether it is started by its first call only. Disabled if any of `enabled`, `disabled`
/// (Cline's) and `startup_mode` says so.
fn startup(fields: &mut Fields, notes: &mut Notes) -> (bool, bool) {
    let on = flag(fields, "enabled", notes).unwrap_or(true);
    let off = flag(fields, "disabled", notes).unwrap_or(false);
    let Some(field) = fields.take("startup_mode") else { return (on && !off, false) };
    const MODES: [&str; 6] = ["active", "disabled", "lazy", "lazy_loading", "quarantined", "auto_disabled"];
    let (active, lazy) = match field.text() {
        Some("active" | "") => (true, false),
        Some("disabled") => (false, false),
        Some("lazy" | "lazy_loading") => (true, true),
        Some("auto_disabled") => {
            let message = "taken as `active`: which servers are auto-disabled is not read from the config";
            notes.warn(&field.spot, message, "write `disabled` to keep it off");
            (true, false)
        }
        Some("quarantined") => {
            quarantined(&field, notes);
            (true, false)
        }
        other => {
            let near = other.and_then(|typed| nearest(&shorten(typed, 64), MODES));
            let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
            notes.bad(&field.spot, "expected `active`, `lazy` or `disabled`", hint);
            (true, false)
        }
    };
    (on && !off && active, lazy)
}

fn quarantine(fields: &mut Fields, notes: &mut Notes) {
    if let Some(field) = fields.take("quarantined")
        && read_flag(&field, notes) == Some(true)
    {
        quarantined(&field, notes);
    }
}

/// Works as written (it does not run), so it is a warning; but nothing here can approve it yet.
fn quarantined(field: &Field, notes: &mut Notes) {
    let message = "quarantined: it stays parked, as approving a server is not yet supported";
    let hint = "remove the quarantine here once you trust the server";
    notes.park(FaultKind::NotSupported, &field.spot, message, hint);
    notes.warn(&field.spot, message, hint);
}

fn flag(fields: &mut Fields, name: &'static str, notes: &mut Notes) -> Option<bool> {
    read_flag(&fields.take(name)?, notes)
}

/// Whether a server runs must not be guessed: what is not a flag parks it.
fn read_flag(field: &Field, notes: &mut Notes) -> Option<bool> {
    if let Value::Bool(flag) = field.node.value {
        return Some(flag);
    }
    notes.bad(&field.spot, field.unexpected("true or false"), "");
    None
}
