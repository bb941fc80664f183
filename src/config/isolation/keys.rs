//! The keys of `docker_isolation` and `isolation`, mostly the same. What cannot be read is a problem of every server
//! that it would shape, not a reason for a default: a default may be more open than what was meant.

use super::quantity::{cpus, memory, pids};
use super::{Access, Images, Isolation, Mount, Objection, PullPolicy, flags, mount};
use crate::base::text::{nearest, shorten};
use crate::config::fields::{Field, Fields};
use crate::config::json::{Node, Value};
use crate::config::notes::Notes;
use crate::config::span::{Allowed, Unit};
use crate::config::{Template, listen};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `enabled`, or mcpproxy's `mode`, which counts more. Nothing if neither is there.
pub fn enabled(fields: &mut Fields, notes: &mut Notes) -> Result<Option<bool>, ()> {
    let mode = fields.take("mode").filter(|field| field.text() != Some(""));
    let enabled = match fields.take("enabled") {
        Some(field) => Some(flag(&field, notes).ok_or(())?),
        None => None,
    };
    let Some(mode) = mode else { return Ok(enabled) };
    match mode.text() {
        Some("docker") => Ok(Some(true)),
        Some("none") => Ok(Some(false)),
        Some("sandbox") => {
            notes.bad(&mode.spot, "isolation by a sandbox is not supported", "`docker` is");
            Err(())
        }
        _ => {
            notes.bad(&mode.spot, "expected `docker` or `none`", "");
            Err(())
        }
    }
}

/// Of `docker_isolation`.
pub fn for_all(fields: &mut Fields, isolation: &mut Isolation, notes: &mut Notes) {
    let registry = fields.take("registry").and_then(|field| registry(&field, notes));
    let of_command =
        fields.take("default_images").map(|field| default_images(&field, notes)).unwrap_or_default();
    isolation.images = Arc::new(Images { of_command, registry });
    if let Some(field) = fields.take("enable_cache_volume") {
        isolation.cache_volume = flag(&field, notes).unwrap_or(false);
    }
    isolation.pull = pull(fields, notes).unwrap_or(isolation.pull);
    let timeout = fields.span(&["pull_timeout"], Unit::Seconds, Allowed::SECONDS, "10m", notes);
    isolation.pull_timeout = timeout.unwrap_or(isolation.pull_timeout);
    shared(fields, isolation, notes);
}

/// Of an entry's `isolation`.
pub fn for_one(fields: &mut Fields, isolation: &mut Isolation, notes: &mut Notes) {
    if let Some(field) = fields.take("image")
        && let Some(text) = word(&field, notes)
    {
        isolation.image = template(&field, &text, notes);
    }
    if let Some(field) = fields.take("working_dir")
        && let Some(text) = word(&field, notes)
    {
        isolation.working_dir = checked(&field, mount::inside(&text), notes);
    }
    if let Some(field) = fields.take("mount_working_dir") {
        isolation.working_dir_mount = match &field.node.value {
            Value::Bool(true) => Access::Write,
            Value::Bool(false) => Access::None,
            Value::Text(text) if text == "ro" => Access::Read,
            Value::Text(text) if text == "rw" => Access::Write,
            Value::Null | Value::Number(_) | Value::Text(_) | Value::Array(_) | Value::Object(_) => {
                notes.bad(&field.spot, "expected true, false or \"ro\"", "");
                Access::None
            }
        };
    }
    shared(fields, isolation, notes);
}

/// `pull`, of an entry or for all.
pub fn pull(fields: &mut Fields, notes: &mut Notes) -> Option<PullPolicy> {
    let field = fields.take("pull")?;
    let policy = field.text().and_then(pull_policy);
    if policy.is_none() {
        let near =
            field.text().and_then(|typed| nearest(&shorten(typed, 64), ["missing", "always", "never"]));
        let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
        notes.bad(&field.spot, "expected `missing`, `always` or `never`", hint);
    }
    policy
}

pub fn pull_policy(name: &str) -> Option<PullPolicy> {
    match name {
        "missing" => Some(PullPolicy::Missing),
        "always" => Some(PullPolicy::Always),
        "never" => Some(PullPolicy::Never),
        _ => None,
    }
}

/// What an entry says over what holds for all; lists get longer.
fn shared(fields: &mut Fields, isolation: &mut Isolation, notes: &mut Notes) {
    if let Some(mode) = fields.take("network_mode").and_then(|field| word(&field, notes)) {
        isolation.network_mode = Some(mode);
    }
    if let Some(field) = fields.take_one_of(&["memory", "memory_limit"], notes) {
        amount(&field, memory, &mut isolation.memory, notes);
    }
    if let Some(field) = fields.take_one_of(&["cpus", "cpu_limit"], notes) {
        amount(&field, cpus, &mut isolation.nano_cpus, notes);
    }
    if let Some(field) = fields.take("pids_limit") {
        amount(&field, pids, &mut isolation.pids_limit, notes);
    }
    if let Some(field) = fields.take("read_only") {
        isolation.read_only = flag(&field, notes).unwrap_or(isolation.read_only);
    }
    if let Some(field) = fields.take("tmpfs") {
        let read = words(&field, notes).into_iter().filter_map(|(field, text)| tmpfs(&field, &text, notes));
        isolation.tmpfs.extend(read);
    }
    if let Some(field) = fields.take("mounts") {
        mounts(&field, &mut isolation.mounts, notes);
    }
    for (name, slot) in [("user", &mut isolation.user), ("platform", &mut isolation.platform)] {
        if let Some(text) = fields.take(name).and_then(|field| word(&field, notes)) {
            *slot = Some(text);
        }
    }
    if let Some(field) = fields.take("cap_add") {
        isolation.cap_add.extend(words(&field, notes).into_iter().map(|(_, text)| capability(&text)));
    }
    if let Some(field) = fields.take("security_opt") {
        isolation.security_opt.extend(words(&field, notes).into_iter().map(|(_, text)| text));
    }
    log(fields, isolation, notes);
    if let Some(field) = fields.take("extra_host_config") {
        extra_host_config(&field, isolation, notes);
    }
    if let Some(field) = fields.take("extra_args") {
        flags::apply(&strings(&field, notes), isolation, notes);
    }
}

fn log(fields: &mut Fields, isolation: &mut Isolation, notes: &mut Notes) {
    if let Some(driver) = fields.take("log_driver").and_then(|field| word(&field, notes)) {
        isolation.log.driver = Some(driver);
    }
    if let Some(field) = fields.take("log_max_size")
        && let Some(size) = word(&field, notes)
    {
        let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        if digits.parse::<u32>().is_ok_and(|count| count > 0) {
            isolation.log.max_size = Some(size);
        } else {
            notes.bad(&field.spot, "this is not the size of a file", "write it like \"10m\"");
        }
    }
    if let Some(field) = fields.take("log_max_files") {
        let text = match &field.node.value {
            // mcpproxy writes "3".
            Value::Number(text) | Value::Text(text) => text.as_str(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "none",
        };
        match text.parse::<u32>() {
            Ok(count @ 1..=1000) => isolation.log.max_files = Some(count),
            _ if text.is_empty() => (),
            _ => notes.bad(&field.spot, "expected a whole number from 1 to 1000", ""),
        }
    }
}

fn amount<T>(
    field: &Field,
    read: fn(&str) -> Result<Option<T>, Objection>,
    slot: &mut Option<T>,
    notes: &mut Notes,
) {
    let text = match &field.node.value {
        Value::Number(text) | Value::Text(text) => text.as_str(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            notes.bad(&field.spot, field.unexpected("a string or a number"), "");
            return;
        }
    };
    if text.is_empty() {
        return;
    }
    if let Some(amount) = checked(field, read(text), notes) {
        *slot = amount;
    }
}

/// Nothing if it was reported.
fn checked<T>(field: &Field, read: Result<T, Objection>, notes: &mut Notes) -> Option<T> {
    read.map_err(|objection| notes.bad(&field.spot, objection.message, objection.hint)).ok()
}

/// Nothing for an empty text too, which stands for a key that is not there.
fn word(field: &Field, notes: &mut Notes) -> Option<String> {
    let Some(text) = field.text() else {
        notes.bad(&field.spot, field.unexpected("a string"), "");
        return None;
    };
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) || text.starts_with('-') {
        notes.bad(&field.spot, "expected one word", "without spaces, and without a `-` at its beginning");
        return None;
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn template(field: &Field, text: &str, notes: &mut Notes) -> Option<Template> {
    let read = Template::parse(text).map_err(|error| Objection::new(error.message, error.hint));
    checked(field, read, notes)
}

pub fn flag(field: &Field, notes: &mut Notes) -> Option<bool> {
    let Value::Bool(flag) = field.node.value else {
        notes.bad(&field.spot, field.unexpected("true or false"), "");
        return None;
    };
    Some(flag)
}

/// The strings of an array.
fn strings<'t>(field: &Field<'t>, notes: &mut Notes) -> Vec<(Field<'t>, &'t str)> {
    let Some(items) = field.items() else {
        notes.bad(&field.spot, field.unexpected("an array of strings"), "write it like [\"…\", \"…\"]");
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in items {
        match item.text() {
            Some(text) if !text.contains('\0') => found.push((item, text)),
            _ => notes.bad(&item.spot, item.unexpected("a string"), ""),
        }
    }
    found
}

/// The words of an array.
fn words<'t>(field: &Field<'t>, notes: &mut Notes) -> Vec<(Field<'t>, String)> {
    let items = strings(field, notes);
    items.into_iter().filter_map(|(item, _)| word(&item, notes).map(|text| (item, text))).collect()
}

pub fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").map(ToOwned::to_owned).unwrap_or(name)
}

/// `/run` or `/run:size=64m`.
pub fn tmpfs(field: &Field, text: &str, notes: &mut Notes) -> Option<(String, String)> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    Some((checked(field, mount::inside(path), notes)?, options.to_owned()))
}

fn mounts(field: &Field, mounts: &mut Vec<Mount>, notes: &mut Notes) {
    let Some(items) = field.items() else {
        notes.bad(&field.spot, field.unexpected("an array"), "write it like [\"~/notes:/notes:ro\"]");
        return;
    };
    for item in items {
        let mount = match item.text() {
            Some(text) => checked(&item, Mount::short(text), notes),
            None => long_mount(&item, notes),
        };
        mounts.extend(mount);
    }
}

/// `{"source": …, "target": …, "read_only": …}`
fn long_mount(field: &Field, notes: &mut Notes) -> Option<Mount> {
    let Some(mut fields) = Fields::of(field, notes) else {
        notes.bad(
            &field.spot,
            field.unexpected("a string or an object"),
            "write it like \"~/notes:/notes:ro\"",
        );
        return None;
    };
    // The source says which it is.
    fields.take("type");
    let source = fields.take_one_of(&["source", "src"], notes);
    let target = fields.take_one_of(&["target", "dst", "destination"], notes);
    let read_only = fields.take_one_of(&["read_only", "readonly"], notes);
    fields.finish(&[], notes);
    let text = |field: &Option<Field>| field.as_ref().and_then(|f| f.text()).unwrap_or_default().to_owned();
    let read_only = match read_only {
        Some(field) => flag(&field, notes)?,
        None => false,
    };
    checked(field, Mount::new(&text(&source), &text(&target), read_only), notes)
}

fn registry(field: &Field, notes: &mut Notes) -> Option<String> {
    let text = word(field, notes)?;
    let text = text.trim_end_matches('/');
    let host = text.split('/').next().unwrap_or(text);
    if listen::is_host_name(host) || listen::parse(host).is_ok() {
        return (!matches!(text, "docker.io" | "index.docker.io")).then(|| text.to_owned());
    }
    notes.bad(&field.spot, "this is not a registry", "write HOST or HOST:PORT, without a scheme");
    None
}

fn default_images(field: &Field, notes: &mut Notes) -> BTreeMap<String, String> {
    let Some(members) = field.members() else {
        notes.bad(&field.spot, field.unexpected("an object"), "write it like {\"npx\": \"node:22\"}");
        return BTreeMap::new();
    };
    let mut images = BTreeMap::new();
    for (name, member) in members {
        match word(&member, notes) {
            Some(_) if name == "binary" => {
                let message = "an image for all other commands is not supported; ignored";
                notes.warn(&member.key_spot(), message, "add the command's name, or `isolation.image`");
            }
            Some(image) => drop(images.insert(name.to_owned(), image)),
            None => (),
        }
    }
    images
}

/// Members that would undo what keeps a container from outliving its purpose.
const OURS: [&str; 3] = ["AutoRemove", "RestartPolicy", "ContainerIDFile"];

fn extra_host_config(field: &Field, isolation: &mut Isolation, notes: &mut Notes) {
    let Some(members) = field.members() else {
        notes.bad(&field.spot, field.unexpected("an object"), "write it like {\"ShmSize\": 67108864}");
        return;
    };
    for (name, member) in members {
        if OURS.contains(&name) {
            notes.bad(&member.key_spot(), "mcpvisor sets this itself", "");
        } else {
            isolation.extra_host_config.insert(name.to_owned(), raw(member.node));
        }
    }
}

/// The same as JSON.
fn raw(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        // What our reader takes for a number and JSON does not is out of range.
        Value::Number(text) => serde_json::from_str(text).unwrap_or_default(),
        Value::Text(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(raw).collect(),
        Value::Object(members) => members.iter().map(|m| (m.key.clone(), raw(&m.value))).collect(),
    }
}
