//! From a command to its container: which image, and what runs inside. Pure.
//!
//! An entry that names an image has said what is in there, and its command is taken as written. Otherwise the image
//! follows from the command's name, and a command of which no image is known is refused: it is never run on the host
//! instead, nor in an image that surely lacks it.

use super::{Access, Images, Isolation, Objection};
use crate::base::text::shorten;

/// Python with uv. Without git, which `git+https://…` needs.
const UV: &str = "ghcr.io/astral-sh/uv:python3.13-bookworm-slim";
const UV_WITH_GIT: &str = "ghcr.io/astral-sh/uv:python3.13-bookworm";

/// Commands, the key of `default_images` that speaks of them beside their own name, and their images.
const COMMANDS: &[(&[&str], &str, &str)] = &[
    (&["uvx", "uv"], "uvx", UV),
    (&["python", "python3"], "python", UV),
    (&["pip", "pip3"], "pip", UV),
    (&["pipx"], "pipx", UV),
    (&["node"], "node", "node:22"),
    (&["npm"], "npm", "node:22"),
    (&["npx"], "npx", "node:22"),
    (&["yarn"], "yarn", "node:22"),
    (&["bun", "bunx"], "bun", "oven/bun:1"),
    (&["deno"], "deno", "denoland/deno:alpine"),
    (&["go"], "go", "golang:1-alpine"),
    (&["cargo", "rustc"], "cargo", "rust:1-slim"),
    (&["ruby", "gem", "bundle"], "ruby", "ruby:3-alpine"),
    (&["php"], "php", "php:8-cli-alpine"),
    (&["composer"], "composer", "composer:2"),
    (&["sh"], "sh", "alpine:3"),
    (&["bash"], "bash", "debian:bookworm-slim"),
];

/// What a package manager fetches, as a volume and where it looks for it.
const CACHES: &[(&[&str], &str, &str)] = &[
    (&["uvx", "uv"], "mcpvisor-cache-uv", "/root/.cache/uv"),
    (&["pip", "pip3", "pipx"], "mcpvisor-cache-pip", "/root/.cache/pip"),
    (&["npx", "npm"], "mcpvisor-cache-npm", "/root/.npm"),
    (&["go"], "mcpvisor-cache-go", "/go/pkg/mod"),
];

/// What an entry says, its variables resolved.
pub struct Ask<'a> {
    pub command: &'a str,
    /// The command as written, for messages: a variable's value never shows.
    pub written: &'a str,
    pub args: &'a [String],
    pub image: Option<String>,
    pub working_dir: Option<String>,
}

/// What its container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    pub image: String,
    /// The program.
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// A volume, and where it is inside.
    pub cache: Option<(&'static str, &'static str)>,
    /// It will run, but probably not as meant.
    pub remarks: Vec<Objection>,
}

pub fn inside(ask: &Ask, isolation: &Isolation) -> Result<Inside, Objection> {
    let base = ask.command.rsplit('/').next().unwrap_or(ask.command);
    let is_path = ask.command.contains('/');
    let seen = |path: &str| {
        let dir = ask.working_dir.as_deref().filter(|_| isolation.working_dir_mount != Access::None);
        let mut targets = isolation.mounts.iter().map(|mount| mount.target.as_str()).chain(dir);
        targets.any(|target| under(path, target)) || (!path.starts_with(['/', '~']) && dir.is_some())
    };
    let mut remarks = Vec::new();
    let (image, command) = match &ask.image {
        Some(image) => {
            if is_path && find(base).is_some() && !seen(ask.command) {
                let message = format!("`{}` is taken as a path inside the image", shorten(ask.command, 60));
                remarks.push(Objection::new(message, format!("write `{base}` for the image's own")));
            }
            (image.clone(), ask.command)
        }
        None => {
            let image = image_of(base, ask.args, &isolation.images).ok_or_else(|| unknown(ask, base))?;
            if is_path && !seen(ask.command) {
                let message =
                    format!("`{}` is the host's; the `{base}` of {image} runs", shorten(ask.command, 60));
                remarks
                    .push(Objection::new(message, format!("write `{base}`, or name an image that has it")));
                (image, base)
            } else {
                (image, ask.command)
            }
        }
    };
    let image = located(&image, isolation.images.registry.as_deref());
    let lost = ask.args.iter().find(|arg| is_host_path(arg, base) && !seen(arg));
    if let Some(arg) = lost.filter(|_| ask.image.is_none()) {
        let message = format!("its container does not see `{}`", shorten(arg, 60));
        remarks
            .push(Objection::new(message, "mount it: `isolation.mounts`, or `isolation.mount_working_dir`"));
    }
    let (entrypoint, cmd) = match missing(base, &image) {
        Some(package) => {
            let message = format!("{image} has no `{base}`; it is installed at every start");
            remarks.push(Objection::new(message, format!("{UV} has `uv` and `uvx`")));
            (installed(package, base), ask.args.to_vec())
        }
        None => (vec![command.to_owned()], ask.args.to_vec()),
    };
    // The paths of the caches are root's.
    let cache = CACHES.iter().find(|(commands, ..)| commands.contains(&base) && isolation.user.is_none());
    let cached = cache.filter(|_| isolation.cache_volume);
    if let Some((_, _, path)) = cache.filter(|_| isolation.read_only && cached.is_none()) {
        let mut writable = isolation.tmpfs.keys().chain(isolation.mounts.iter().map(|mount| &mount.target));
        if !writable.any(|dir| under(path, dir)) {
            let message = format!("the root is read-only: `{base}` cannot write what it fetches to {path}");
            remarks.push(Objection::new(message, "add \"/root:exec\" to `tmpfs`, or mount a volume there"));
        }
    }
    Ok(Inside { image, entrypoint, cmd, cache: cached.map(|(_, volume, path)| (*volume, *path)), remarks })
}

/// Whether `path` is `dir`, or in it.
pub fn under(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn find(command: &str) -> Option<&'static (&'static [&'static str], &'static str, &'static str)> {
    let name = if python_version(command).is_some() { "python" } else { command };
    COMMANDS.iter().find(|(names, ..)| names.contains(&name))
}

/// `3.12` of `python3.12`.
fn python_version(command: &str) -> Option<&str> {
    let version = command.strip_prefix("python")?;
    let minor = version.strip_prefix("3.")?;
    (!minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())).then_some(version)
}

/// The user's word for this command, or for its kind, or ours.
fn image_of(command: &str, args: &[String], images: &Images) -> Option<String> {
    let known = find(command);
    let kind = known.map(|(_, key, _)| *key);
    let named = images.of_command.get(command).or_else(|| images.of_command.get(kind?));
    if let Some(image) = named {
        return Some(image.clone());
    }
    if let Some(version) = python_version(command) {
        return Some(format!("ghcr.io/astral-sh/uv:python{version}-bookworm-slim"));
    }
    let (_, _, image) = known?;
    let from_git = *image == UV && args.iter().any(|arg| arg.contains("git+"));
    Some(if from_git { UV_WITH_GIT } else { image }.to_owned())
}

fn unknown(ask: &Ask, base: &str) -> Objection {
    let message = format!("which image has `{}` is not known", shorten(ask.written, 60));
    let base = if ask.written == ask.command { shorten(base, 40) } else { "…".to_owned() };
    let hint = format!(
        "name one: \"isolation\": {{\"image\": …}}, or `docker_isolation.default_images.{base}`; \
         \"isolation\": {{\"enabled\": false}} runs it on the host"
    );
    Objection::new(message, hint)
}

/// With the registry in front, unless the image names one.
fn located(image: &str, registry: Option<&str>) -> String {
    let Some(registry) = registry else { return image.to_owned() };
    match image.split_once('/') {
        None => format!("{registry}/library/{image}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        Some(_) => format!("{registry}/{image}"),
    }
}

/// An argument that speaks of the host's files: a path, or a script for an interpreter.
fn is_host_path(arg: &str, command: &str) -> bool {
    const SCRIPTS: [&str; 8] = [".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".rb", ".php"];
    const INTERPRETERS: [&str; 9] = ["python", "python3", "node", "deno", "bun", "ruby", "php", "sh", "bash"];
    let path = ["/", "./", "../", "~/"].iter().any(|start| arg.starts_with(start));
    let script = INTERPRETERS.contains(&command)
        && !arg.starts_with('-')
        && !arg.contains("://")
        && !arg.contains(char::is_whitespace)
        && SCRIPTS.iter().any(|end| arg.ends_with(end));
    path || script
}

/// The Python package of a command that this image surely lacks: mcpproxy's users run uvx in `python:…`.
fn missing(command: &str, image: &str) -> Option<&'static str> {
    let name = image.split(['@', ':']).next().unwrap_or(image);
    let plain_python = name == "python" || name.ends_with("/library/python");
    match command {
        "uvx" | "uv" if plain_python => Some("uv"),
        "pipx" if plain_python || name.ends_with("/astral-sh/uv") => Some("pipx"),
        _ => None,
    }
}

/// Installs, and becomes the command. pip speaks on stderr only, as stdout is the server's; the arguments do not go
/// through the shell's hands.
fn installed(package: &str, command: &str) -> Vec<String> {
    let script =
        format!("pip install --quiet --disable-pip-version-check {package} >&2 && exec \"$0\" \"$@\"");
    ["sh", "-c", &script, command].map(ToOwned::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
