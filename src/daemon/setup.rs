//! What a daemon starts with: which config was found, what it says, and which options stand above it.

use crate::base::fault::{Fault, FaultKind};
use crate::base::finding::Finding;
use crate::base::id::{ServerName, Slug};
use crate::base::limits::CONFIG_BYTES_MAX;
use crate::config::{self, Config, Launch, ServerConfig, Template};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::launch::home;
use super::reload::when::Content;

/// Options of the command line or of `MCPVISOR_*`; they stand above the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub log_level: Option<log::LevelFilter>,
    pub ephemeral: bool,
}

/// The config in force, and where it came from.
#[derive(Clone, Debug)]
pub struct Setup {
    pub options: Options,
    pub config: Config,
    /// What was read, to be compared with what is there later.
    pub content: Content,
    /// `None`: no file was found, and the built-in demo server runs.
    pub path: Option<PathBuf>,
    /// Where a config was looked for, in order.
    pub looked: Vec<PathBuf>,
    pub findings: Vec<Finding>,
    pub state_dir: PathBuf,
    /// No endpoint but the control socket, and an end soon after the last session.
    pub ephemeral: bool,
}

/// Finds and reads the config. A file that cannot be acted on is an error: a daemon must not start without what
/// its user wrote.
pub fn read(options: &Options) -> Result<Setup, (Fault, Vec<Finding>)> {
    let (path, looked) = find(options).map_err(|fault| (fault, Vec::new()))?;
    let (config, findings, content) = match &path {
        None => (above(demo_config(), options), Vec::new(), Content::Missing),
        Some(path) => {
            let text = read_file(path).map_err(|fault| (fault, Vec::new()))?;
            let (config, findings) = understand(&text, path, options)?;
            (config, findings, content(&text))
        }
    };
    let state_dir = state_dir(options, config.data_dir.as_deref()).map_err(|fault| (fault, Vec::new()))?;
    let (options, ephemeral) = (options.clone(), options.ephemeral);
    Ok(Setup { options, config, content, path, looked, findings, state_dir, ephemeral })
}

/// What the text of a config file says, below the options. An error if it cannot be acted on.
pub fn understand(
    text: &str,
    path: &Path,
    options: &Options,
) -> Result<(Config, Vec<Finding>), (Fault, Vec<Finding>)> {
    let shown = path.display().to_string();
    let (config, findings) = config::parse(text, &shown);
    if !config.usable {
        let fault = Fault::new(FaultKind::BadConfig, format!("{shown} cannot be used as it is"));
        return Err((fault.hint("mcpvisor config check shows where"), findings));
    }
    Ok((above(config, options), findings))
}

/// Options stand above the file.
fn above(config: Config, options: &Options) -> Config {
    Config {
        listen: options.listen.clone().unwrap_or(config.listen),
        log_level: options.log_level.unwrap_or(config.log_level),
        ..config
    }
}

/// Stands for a text.
pub fn content(text: &str) -> Content {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    Content::Bytes(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The config file in force; `None` where no file exists. A file that was named must exist.
pub fn find(options: &Options) -> Result<(Option<PathBuf>, Vec<PathBuf>), Fault> {
    let looked = looked(options);
    let found = looked.iter().find(|path| path.is_file()).cloned();
    let named = options.config.is_some() || variable("MCPVISOR_CONFIG").is_some_and(|path| !path.is_empty());
    if named && found.is_none() {
        let shown = looked.first().map(|path| path.display().to_string()).unwrap_or_default();
        return Err(Fault::new(FaultKind::BadConfig, format!("config file {shown} does not exist"))
            .hint("correct --config or MCPVISOR_CONFIG"));
    }
    Ok((found, looked))
}

/// The config that a change goes to: the one in force, or else one that is to be made, which a daemon then finds. That
/// is not the first place: a file in the directory where somebody happens to be is found only there.
pub fn editable(options: &Options) -> PathBuf {
    let looked = looked(options);
    let found = looked.iter().find(|path| path.is_file()).or(looked.get(1)).or(looked.first());
    found.cloned().unwrap_or_default()
}

/// Where a config may be, in order.
fn looked(options: &Options) -> Vec<PathBuf> {
    let cwd = std::env::current_dir().unwrap_or_default();
    config::candidates(options.config.as_deref(), variable, &cwd, home().as_deref())
}

/// The whole file as text.
pub fn read_file(path: &Path) -> Result<String, Fault> {
    let tried = |why: String| Fault::new(FaultKind::BadConfig, format!("read {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| {
        let hint = if error.kind() == ErrorKind::PermissionDenied {
            "it must be readable for this user"
        } else {
            ""
        };
        tried(error.to_string()).hint(hint)
    })?;
    let mut bytes = Vec::new();
    let limit = CONFIG_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| tried(error.to_string()))?;
    config::decode(&bytes, &path.display().to_string())
        .map(str::to_owned)
        .map_err(|finding| tried(finding.message.clone()))
}

/// Where this daemon keeps what it learns.
pub fn state_dir(options: &Options, data_dir: Option<&str>) -> Result<PathBuf, Fault> {
    let is_root = nix::unistd::geteuid().is_root();
    config::state_dir(options.state_dir.as_deref(), variable, data_dir, is_root, home().as_deref())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What runs where there is no config: one server, so that there is something to try.
fn demo_config() -> Config {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("mcpvisor"));
    let plain = |text: &str| Template::literal(text);
    let demo = ServerConfig {
        name: ServerName::from("demo"),
        slug: Slug::of("demo"),
        enabled: true,
        lazy: false,
        overlap: false,
        idle_timeout: None,
        launch: Launch::Process {
            command: plain(&exe.to_string_lossy()),
            args: vec![plain("demo-server")],
            env: Vec::new(),
            working_dir: None,
        },
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
        auto_disable: config::OwnAutoDisable::default(),
        line: 0,
        column: 0,
    };
    Config { servers: vec![demo], ..Config::default() }
}
