//! Servers in containers: `docker_isolation` for all of them, `isolation` for one. Both are read by the same code
//! (`keys.rs`); an entry starts from what holds for all, replaces single values and adds to lists.
//!
//! A mistake in either parks every server that it would shape: what was to run in a container never runs on the
//! host instead, nor in one that is more open than was meant.
//!
//! ```text
//! keys.rs      the keys              quantity.rs  512m, 1.0
//! flags.rs     extra_args            mount.rs     SOURCE:TARGET:ro
//! recipe.rs    a command -> its image, and what runs inside
//! ```

mod flags;
mod keys;
mod mount;
mod quantity;
pub mod recipe;

pub use mount::{Mount, MountKind};
pub use recipe::under;

use super::Template;
use super::fields::{Field, Fields};
use super::notes::{Notes, Spot};
use super::{Launch, listen};
use crate::base::fault::Fault;
use crate::base::text::shorten;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How one server is put into a container: what its entry says over what holds for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Isolation {
    /// The entry's own; nothing means the one for its command.
    pub image: Option<Template>,
    pub images: Arc<Images>,
    /// Nothing means the engine's default.
    pub network_mode: Option<String>,
    /// Bytes; nothing is no limit.
    pub memory: Option<u64>,
    /// Billionths of a CPU; nothing is no limit.
    pub nano_cpus: Option<u64>,
    /// Processes and threads; nothing is no limit.
    pub pids_limit: Option<u32>,
    pub mounts: Vec<Mount>,
    /// Whether the entry's `working_dir` is mounted, at the same path.
    pub working_dir_mount: Access,
    /// Inside; over the entry's `working_dir`, which is the host's.
    pub working_dir: Option<String>,
    pub read_only: bool,
    /// Directory and options.
    pub tmpfs: BTreeMap<String, String>,
    pub user: Option<String>,
    /// `linux/amd64`
    pub platform: Option<String>,
    /// All others are dropped.
    pub cap_add: Vec<String>,
    /// Beside `no-new-privileges`, unless one of them speaks of that.
    pub security_opt: Vec<String>,
    pub log: LogChoice,
    /// From `extra_args`; beside the entry's `env`.
    pub env: Vec<(String, Template)>,
    /// Members of the engine's `HostConfig`.
    pub extra_host_config: serde_json::Map<String, serde_json::Value>,
    /// Whether servers of one package manager share a volume for what it fetches.
    pub cache_volume: bool,
    pub pull: PullPolicy,
    /// From the first byte of a pull to its last.
    pub pull_timeout: Duration,
}

/// `docker_isolation.default_images` and `registry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// By command.
    pub of_command: BTreeMap<String, String>,
    /// `HOST[:PORT]`, for images that name none.
    pub registry: Option<String>,
}

/// How much of something a container may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    None,
    Read,
    Write,
}

/// When an image is pulled before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// If the engine does not have it.
    Missing,
    Always,
    Never,
}

/// What the engine keeps of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogChoice {
    pub driver: Option<String>,
    /// As the engine reads it: `10m`.
    pub max_size: Option<String>,
    pub max_files: Option<u32>,
    /// Options by the engine's names, from `extra_args`.
    pub options: BTreeMap<String, String>,
}

/// `docker_isolation`
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Whether servers that say nothing of it are isolated; nothing if what the file says of it cannot be read.
    enabled: Option<bool>,
    /// `enabled` is there, and is `false`.
    off_by_word: bool,
    isolation: Isolation,
    pub engine: Option<Template>,
    /// Why no server can be isolated.
    problem: Option<Fault>,
}

/// What is wrong with a value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    pub message: String,
    pub hint: String,
}

impl Objection {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Objection {
        Objection { message: message.into(), hint: hint.into() }
    }
}

impl LogChoice {
    /// `none` unless something was asked for: what a server says goes to its clients and its log, and an engine that
    /// writes every answer to its disk as well is slower (by half, measured) and keeps secrets. Who gives a size
    /// wants a file.
    pub fn driver(&self) -> &str {
        let sized = self.max_size.is_some() || self.max_files.is_some();
        self.driver.as_deref().unwrap_or(if sized { "json-file" } else { "none" })
    }

    /// The driver's options. Only drivers that write files know sizes; the others refuse them.
    pub fn options(&self) -> BTreeMap<String, String> {
        let mut options = self.options.clone();
        if matches!(self.driver(), "json-file" | "local") {
            let files = self.max_files.map(|count| count.to_string());
            for (name, value) in [("max-size", self.max_size.clone()), ("max-file", files)] {
                options.extend(value.map(|value| (name.to_owned(), value)));
            }
        }
        options
    }
}

impl Default for Isolation {
    fn default() -> Isolation {
        Isolation {
            image: None,
            images: Arc::default(),
            network_mode: None,
            // mcpproxy's. Enough for what npx and uvx run, little enough for twenty of them on a laptop.
            memory: Some(512 << 20),
            nano_cpus: Some(1_000_000_000),
            // A browser has 300 threads; a fork bomb is over at once.
            pids_limit: Some(512),
            mounts: Vec::new(),
            working_dir_mount: Access::None,
            working_dir: None,
            read_only: false,
            tmpfs: BTreeMap::new(),
            user: None,
            platform: None,
            cap_add: Vec::new(),
            security_opt: Vec::new(),
            log: LogChoice::default(),
            env: Vec::new(),
            extra_host_config: serde_json::Map::new(),
            cache_volume: false,
            pull: PullPolicy::Missing,
            // An image of 2 GB at 4 MB/s.
            pull_timeout: Duration::from_secs(600),
        }
    }
}

/// What holds without a file.
impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            enabled: Some(false),
            off_by_word: false,
            isolation: Isolation::default(),
            engine: None,
            problem: None,
        }
    }
}

/// `docker_isolation`
pub fn defaults(fields: &mut Fields, notes: &mut Notes) -> Defaults {
    let mut defaults = Defaults::default();
    let Some(field) = fields.take("docker_isolation") else { return defaults };
    let Some(mut section) = Fields::of(&field, notes) else {
        notes.bad(&field.spot, field.unexpected("an object"), "write {\"enabled\": true}");
        return Defaults { enabled: None, problem: notes.take_problem(), ..defaults };
    };
    let enabled = keys::enabled(&mut section, notes);
    defaults.enabled = enabled.map(|enabled| enabled.unwrap_or(false)).ok();
    defaults.off_by_word = enabled == Ok(Some(false));
    defaults.engine = engine(&mut section, notes);
    keys::for_all(&mut section, &mut defaults.isolation, notes);
    section.finish(super::keys::DOCKER_ISOLATION, notes);
    defaults.problem = notes.take_problem();
    defaults
}

/// What an entry runs, as far as it matters here.
pub struct Entry<'e> {
    pub launch: Option<&'e Launch>,
    pub remote: bool,
    /// Where findings about it go that are about no key of `isolation`.
    pub spot: &'e Spot,
}

/// `isolation` and `pull` of an entry, over `defaults`. Nothing if it does not run in a container of ours.
pub fn of_entry(
    fields: &mut Fields,
    entry: &Entry,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<Box<Isolation>> {
    let mut isolation = defaults.isolation.clone();
    let field = fields.take("isolation");
    // What is wrong with a value counts only if the server is isolated.
    let earlier = notes.take_problem();
    let pull = keys::pull(fields, notes);
    isolation.pull = pull.unwrap_or(isolation.pull);
    let mut own = Ok(None);
    if let Some(field) = &field {
        match Fields::of(field, notes) {
            Some(mut section) => {
                own = keys::enabled(&mut section, notes);
                keys::for_one(&mut section, &mut isolation, notes);
                section.finish(super::keys::ISOLATION, notes);
            }
            None => {
                notes.bad(&field.spot, field.unexpected("an object"), "write {\"enabled\": true}");
                own = Err(());
            }
        }
    }
    let problem = notes.take_problem();
    notes.hold_problem(earlier);
    let wanted = match own {
        Ok(own) => own.or(defaults.enabled),
        Err(()) => None,
    };
    if wanted == Some(false) {
        if let Some(field) = field.as_ref().filter(|_| own == Ok(None)) {
            let message = "this does nothing: no `enabled` here, and isolation is not on for all";
            notes.warn(&field.key_spot(), message, "add \"enabled\": true to run the server in a container");
        }
        return None;
    }
    if !applies(entry, field.as_ref().filter(|_| own == Ok(Some(true))), notes) {
        return None;
    }
    if let Some(field) = field.as_ref().filter(|_| own == Ok(Some(true)) && defaults.off_by_word) {
        let message = "the server is isolated: its own `enabled` counts, not that of `docker_isolation`";
        notes.warn(&field.key_spot(), message, "mcpproxy would run it on the host");
    }
    notes.hold_problem(problem);
    notes.hold_problem(defaults.problem.clone());
    if let Some(Launch::Process { command, args, env: _, working_dir }) = entry.launch {
        look_inside(entry, &isolation, command, args, working_dir.as_ref(), notes);
    }
    Some(Box::new(isolation))
}

/// Whether there is something to be put into a container. `asked` is where the entry itself asks for it.
fn applies(entry: &Entry, asked: Option<&Field>, notes: &mut Notes) -> bool {
    let message = match entry.launch {
        Some(Launch::Process { command, args, .. }) if is_container_cli(command.raw(), args) => {
            "not isolated: the server is a container already"
        }
        Some(Launch::Process { .. }) => return true,
        Some(Launch::Remote { .. }) => "ignored: a remote server runs elsewhere",
        Some(Launch::Unsupported) | None if entry.remote => "ignored: a remote server runs elsewhere",
        Some(Launch::Unsupported) | None => return false,
    };
    if let Some(field) = asked {
        notes.warn(&field.key_spot(), message, "");
    }
    false
}

/// `docker`, also behind `sudo` and `env`.
pub fn is_container_cli(command: &str, args: &[Template]) -> bool {
    let base = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let is_cli = |word: &str| matches!(base(word).as_str(), "docker" | "podman" | "nerdctl");
    if matches!(base(command).as_str(), "sudo" | "env" | "doas") {
        let mut words = args.iter().map(Template::raw);
        return words.find(|word| !word.starts_with('-') && !word.contains('=')).is_some_and(is_cli);
    }
    is_cli(command)
}

/// What can be said before a launch, while no variable is resolved.
fn look_inside(
    entry: &Entry,
    isolation: &Isolation,
    command: &Template,
    args: &[Template],
    working_dir: Option<&Template>,
    notes: &mut Notes,
) {
    let plain = |template: &Template| template.resolve(|_| None).ok();
    let image = isolation.image.as_ref();
    let words: Option<Vec<String>> = args.iter().map(plain).collect();
    if let (Some(command), Some(args), true) =
        (plain(command), words, image.is_none_or(|t| plain(t).is_some()))
    {
        let ask = recipe::Ask {
            command: &command,
            written: &command,
            args: &args,
            image: image.and_then(plain),
            working_dir: working_dir.and_then(plain),
        };
        match recipe::inside(&ask, isolation) {
            Ok(inside) => {
                for remark in inside.remarks {
                    notes.warn(entry.spot, remark.message, remark.hint);
                }
            }
            Err(objection) => notes.bad(entry.spot, objection.message, objection.hint),
        }
    }
    let inside = isolation.working_dir.is_some() || !isolation.mounts.is_empty();
    match (isolation.working_dir_mount, working_dir) {
        (Access::None, Some(_)) if !inside => {
            let message = "`working_dir` is the host's, and its container does not see it";
            notes.warn(entry.spot, message, "`isolation.mount_working_dir` mounts it at the same path");
        }
        (Access::Read | Access::Write, None) => {
            notes.bad(entry.spot, "there is no `working_dir` that could be mounted", "give the full path");
        }
        (Access::Read | Access::Write | Access::None, _) => (),
    }
}

/// `engine`: where the engine listens.
pub fn engine(fields: &mut Fields, notes: &mut Notes) -> Option<Template> {
    let field = fields.take("engine")?;
    let hint = "like \"unix:///var/run/docker.sock\" or \"tcp://127.0.0.1:2375\"";
    let Some(text) = field.text().filter(|text| !text.contains(['\0', '\n'])) else {
        notes.bad(&field.spot, field.unexpected("the address of an engine"), hint);
        return None;
    };
    if text.is_empty() {
        return None;
    }
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            notes.bad(&field.spot, error.message, error.hint);
            return None;
        }
    };
    if let Ok(plain) = template.resolve(|_| None)
        && let Err(objection) = engine_address(&plain)
    {
        notes.bad(&field.spot, objection.message, objection.hint);
        return None;
    }
    Some(template)
}

/// Whether an engine can be there.
fn engine_address(text: &str) -> Result<(), Objection> {
    let hint = "like \"unix:///var/run/docker.sock\" or \"tcp://127.0.0.1:2375\"";
    let good = match text.split_once("://") {
        Some(("unix", path)) => path.starts_with('/') && path.len() > 1,
        Some(("tcp", address)) => listen::parse(address.trim_end_matches('/')).is_ok(),
        Some((scheme, _)) => {
            let message = format!("an engine cannot be reached by `{}://`", shorten(scheme, 20));
            return Err(Objection::new(message, hint));
        }
        None => text.starts_with('/') && text.len() > 1,
    };
    if good { Ok(()) } else { Err(Objection::new("this is not the address of an engine", hint)) }
}
