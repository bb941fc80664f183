//! Which engine a command line speaks to: the flags before its command, then the environment, then what the
//! program takes without either. Only words are looked at; sockets and files are `engine/resolve.rs`'s.

use super::flags::{DOCKER, NERDCTL, Next, PODMAN, Part, Table};
use super::wrap::{Environment, Program};

/// The engine of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// What the docker client takes by itself: the current context of its folder, else the default socket.
    Default,
    /// `unix:///PATH` or `tcp://HOST:PORT`
    Host(String),
    /// A context of docker; `default` is the default socket.
    Context(String),
    /// The service of podman, of the user that we are.
    Podman,
    /// Why its API cannot be spoken: the rest of a sentence that begins with the engine.
    Unreachable(String),
}

impl EngineChoice {
    /// An address as the docker client reads it; `tls` is for those that are no socket.
    pub fn at(address: &str, tls: bool) -> EngineChoice {
        let (scheme, rest) = address.split_once("://").unwrap_or(("tcp", address));
        match scheme {
            _ if address.is_empty() => EngineChoice::Host(DEFAULT_SOCKET.to_owned()),
            "unix" if rest.is_empty() => EngineChoice::Host(DEFAULT_SOCKET.to_owned()),
            "unix" => EngineChoice::Host(format!("unix://{rest}")),
            "tcp" if tls => unreachable("is reached with TLS"),
            "tcp" => {
                let rest = rest.trim_end_matches('/');
                let (name, port) = match rest.rsplit_once(':') {
                    Some((name, port)) if !port.contains(']') => (name, port),
                    _ => (rest, ""),
                };
                let name = if name.is_empty() { "localhost" } else { name };
                let port = if port.is_empty() { "2375" } else { port };
                EngineChoice::Host(format!("tcp://{name}:{port}"))
            }
            "ssh" => unreachable("is reached over ssh"),
            "npipe" => unreachable("is reached over a pipe of Windows"),
            _ => unreachable("has an address that is neither `unix://` nor `tcp://`"),
        }
    }
}

pub const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";
const PODMAN_OF_ROOT: &str = "unix:///run/podman/podman.sock";

/// What stands before the command of an engine's program.
pub struct Globals<'a> {
    /// The words of it, without a `--`.
    pub words: usize,
    /// The command and what follows it.
    pub command: &'a [&'a str],
    pub engine: EngineChoice,
    /// The folder of the docker client's configuration, if the words or the environment name it.
    pub folder: Option<String>,
}

/// Nothing if the words are no call of a command. `words` are those after the program.
pub fn globals<'a>(program: &Program, words: &'a [&'a str]) -> Option<Globals<'a>> {
    let table = match program.name {
        "docker" => DOCKER,
        "podman" => PODMAN,
        "nerdctl" | "finch" => NERDCTL,
        _ => return None,
    };
    let (parts, end, dashes) = parts(table, words)?;
    let said = Said(&parts);
    let environment = &program.environment;
    let engine = match program.name {
        _ if program.windows => unreachable("is Docker Desktop's on Windows"),
        "docker" => docker(&said, environment, program.user),
        "podman" => podman(&said, environment, program.user),
        name => unreachable(&format!("is containerd, as `{name}` uses it")),
    };
    let folder = said.last("config").map(str::to_owned);
    let folder = folder.or_else(|| environment.get("DOCKER_CONFIG"));
    let folder = folder.or_else(|| Some(environment.get("HOME")? + "/.docker"));
    Some(Globals { words: end, command: &words[end + usize::from(dashes)..], engine, folder })
}

type Read<'a> = (Vec<Part<'a>>, usize, bool);

/// The flags, how many words they are, and whether `--` follows. Nothing if no command follows, or none is run.
fn parts<'a>(table: Table, words: &[&'a str]) -> Option<Read<'a>> {
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        match table.next(&words[at..]) {
            Next::Flags { parts, words } => {
                let only_tells = |part: &Part| matches!(part.flag.long, "help" | "version") && part.is_on();
                if parts.iter().any(only_tells) {
                    return None;
                }
                all.extend(parts);
                at += words;
            }
            Next::Operand => return Some((all, at, false)),
            Next::Dashes => return Some((all, at, true)),
            Next::End | Next::NoValue | Next::Foreign | Next::Unknown(_) => return None,
        }
    }
}

struct Said<'a>(&'a [Part<'a>]);

impl<'a> Said<'a> {
    fn last(&self, long: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|part| part.flag.long == long)?.value
    }

    fn on(&self, long: &str) -> bool {
        self.0.iter().rev().find(|part| part.flag.long == long).is_some_and(Part::is_on)
    }
}

fn unreachable(why: &str) -> EngineChoice {
    EngineChoice::Unreachable(why.to_owned())
}

/// docker: `--context`, `--host`, DOCKER_HOST, DOCKER_CONTEXT, the current context, the default socket.
fn docker(said: &Said, environment: &Environment, user: Option<&str>) -> EngineChoice {
    let tls = said.on("tls")
        || said.on("tlsverify")
        || environment.get("DOCKER_TLS").is_some()
        || environment.get("DOCKER_TLS_VERIFY").is_some();
    let from_environment = environment.get("DOCKER_HOST");
    let context = match said.last("context").filter(|name| !name.is_empty()) {
        Some(name) => Some(name.to_owned()),
        None if said.last("host").is_some() || from_environment.is_some() => None,
        None => environment.get("DOCKER_CONTEXT"),
    };
    match context.as_deref() {
        Some("default") | None => (),
        Some(name) if user.is_some() => {
            return unreachable(&format!("is the context `{name}` of another user, behind `sudo`"));
        }
        Some(name) => return EngineChoice::Context(name.to_owned()),
    }
    match said.last("host").map(str::to_owned).or(from_environment).filter(|host| !host.is_empty()) {
        Some(address) => EngineChoice::at(&address, tls),
        None if tls => unreachable("is reached with TLS"),
        None if context.is_some() => EngineChoice::Context("default".to_owned()),
        // The current context is the caller's, and not that of the user behind sudo.
        None if user.is_some() || said.last("host").is_some() => {
            EngineChoice::Host(DEFAULT_SOCKET.to_owned())
        }
        None => EngineChoice::Default,
    }
}

/// podman: `--url` and its other names, CONTAINER_HOST, connections, else what the user has.
fn podman(said: &Said, environment: &Environment, user: Option<&str>) -> EngineChoice {
    const ELSEWHERE: [&str; 7] =
        ["root", "runroot", "imagestore", "storage-driver", "module", "tmpdir", "namespace"];
    let connection = said.last("connection").or(said.last("context").filter(|name| *name != "default"));
    if let Some(address) = said.last("url").or(said.last("host")) {
        return EngineChoice::at(address, false);
    }
    if connection.is_some() {
        return unreachable("is behind a connection of podman");
    }
    if let Some(address) = environment.get("CONTAINER_HOST") {
        return EngineChoice::at(&address, false);
    }
    if environment.get("CONTAINER_CONNECTION").is_some() {
        return unreachable("is behind a connection of podman");
    }
    if let Some(flag) = ELSEWHERE.into_iter().find(|flag| said.last(flag).is_some()) {
        return unreachable(&format!(
            "keeps its containers where `--{flag}` says, which its service does not see"
        ));
    }
    match user {
        None => EngineChoice::Podman,
        Some("root" | "#0") => EngineChoice::Host(PODMAN_OF_ROOT.to_owned()),
        Some(_) => unreachable("is the podman of another user, behind `sudo`"),
    }
}
