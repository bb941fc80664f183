//! Floor 2: the text of a config file becomes a [`Config`] and findings about it. Pure: no file, environment or
//! clock is known here; who calls reads the file, looks variables up and resolves templates.
//!
//! Reading never fails. A bad entry becomes a server with a `problem`, and every other server is as if the bad
//! one were not there. A bad setting keeps its default. A text that says nothing as a whole gives a config that
//! is not `usable`.
//!
//! ```text
//! read.rs     the whole file: settings, then servers        json.rs   text -> tree with places
//! server.rs   mcpServers, entry by entry                    fields.rs taking an object apart, key by key
//! launch.rs   what an entry runs                            keys.rs   known keys that are not read
//! remote.rs   a remote server: url, headers                listen.rs addresses
//! auto_disable.rs  when a server is given up
//! isolation.rs  servers in containers
//! docker_run  a `docker run` made ours
//! template.rs ${env:NAME}, ~                                notes.rs  findings, problems
//! hooks.rs    the command for events
//! locate.rs   where config and state may be                 report.rs findings for a terminal
//! diff.rs     what is different between two configs, and what follows for each server
//! edit.rs     one server more or less in the text of a file
//! ```

pub mod diff;
pub mod docker_run;
pub mod edit;
pub mod isolation;
pub mod json;
pub mod listen;
pub mod locate;
pub mod report;
pub mod template;

mod auto_disable;
mod fields;
mod hooks;
mod keys;
mod launch;
mod notes;
mod place;
mod read;
mod remote;
mod server;
mod span;

pub use isolation::{Access, Isolation, PullPolicy};
pub use listen::is_loopback;
pub use locate::{candidates, state_dir};
pub use read::{decode, parse};
pub use remote::is_header_value;
pub use report::report;
pub use server::is_name;
pub use template::{Template, expand_home};

use crate::base::fault::Fault;
use crate::base::id::{ServerName, Slug};
use crate::base::topic::Topics;
use crate::mcp::era::Era;
use crate::mcp::features::Feature;
use std::time::Duration;

/// Everything that a file says, with defaults for what it does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// False when the file as a whole must not be acted on: it is not JSON, not an object, its `mcpServers` is no
    /// list of servers, or its `api_key` cannot be honoured. `servers` is empty then; a running daemon keeps what
    /// it has, a starting one refuses.
    pub usable: bool,
    /// `HOST:PORT` of the public endpoint.
    pub listen: String,
    /// As written; `~` expands at use.
    pub data_dir: Option<String>,
    /// The token that clients must send.
    pub api_key: Option<Template>,
    /// Host names, in lower case, that may stand in Host and Origin beside the loopback ones.
    pub trusted_hosts: Vec<String>,
    pub log_level: log::LevelFilter,
    pub logging: Logging,
    /// How long the first list of tools waits for servers that are in their first start.
    pub list_wait: Duration,
    /// How long a lazy server may be without a call before it is stopped, where its entry says nothing else.
    pub idle_timeout: Duration,
    /// The deadline of a call.
    pub call_timeout: Duration,
    pub connections: Connections,
    pub auto_disable: AutoDisable,
    pub diagnostics: Diagnostics,
    pub cleanup: Cleanup,
    /// How long a `docker run` of the user may take to say which container it made.
    pub cidfile_timeout: Duration,
    pub recovery: Recovery,
    pub shutdown: Shutdown,
    pub hooks: Hooks,
    /// Where isolated servers run if their entry names no other engine; nothing means what the environment says.
    pub engine: Option<Template>,
    /// In the order of the file; names and slugs are unique.
    pub servers: Vec<ServerConfig>,
}

/// `logging`, beside the level
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Each line of the main log is a JSON object.
    pub json: bool,
    /// At which size a log begins anew; nothing means what suits each.
    pub max_size_mb: Option<u32>,
    /// Files of each log beside the one that is written.
    pub max_files: u32,
    /// What the logs of all servers may hold together.
    pub max_total_mb: u32,
}

/// `connection_management`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Servers that may be connecting at the same time.
    pub concurrent_max: usize,
    /// From the start of a server to its first list of tools.
    pub timeout: Duration,
    /// Between two probes; zero is off.
    pub health_check_interval: Duration,
    /// The longest wait between two attempts.
    pub retry_backoff_max: Duration,
}

/// `auto_disable`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoDisable {
    pub enabled: bool,
    /// Failures within `window` that disable a server.
    pub failure_threshold: u32,
    pub window: Duration,
    /// Attempts of a server that has never been ready.
    pub startup_attempts: u32,
    /// A server that was given up is tried once in a while, at growing intervals.
    pub probation: bool,
    /// Why it was given up is written into a file of its own.
    pub generate_reports: bool,
}

/// `auto_disable` of one server; nothing means the global value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAutoDisable {
    pub enabled: Option<bool>,
    pub failure_threshold: Option<u32>,
    pub window: Option<Duration>,
    pub startup_attempts: Option<u32>,
    pub probation: Option<bool>,
    pub generate_reports: Option<bool>,
}

/// `diagnostics`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    pub enabled: bool,
    /// As written; `~` expands at use. Nothing means `reports` in the state directory.
    pub report_directory: Option<String>,
    pub keep_reports: Duration,
}

/// `resource_cleanup`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// From the request to stop until SIGKILL, where a server says nothing else (`stop_grace`).
    pub process_kill_timeout: Duration,
    /// How long to look for what is left after SIGKILL, before it is reported.
    pub verify_timeout: Duration,
    /// The longest that one try to remove a container may take.
    pub docker_timeout: Duration,
    /// Whether a container counts as gone only once the engine says so.
    pub verify: bool,
}

/// `docker_recovery`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// An engine that is away is looked for by itself, and not only when somebody asks.
    pub enabled: bool,
    /// The longest that an engine may take to answer that it is there.
    pub health_check_timeout: Duration,
    /// How long containers of earlier sessions may take to be removed before the first server starts.
    pub cleanup_timeout: Duration,
    /// Between two looks for an engine that is away; the last one repeats. INVARIANT: not empty.
    pub polling_intervals: Vec<Duration>,
    /// Short tries of a server each time that its engine came back, before the usual backoff. Zero is none.
    pub max_reconnect_attempts: u32,
}

/// `shutdown`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Calls in flight may still end within this.
    pub drain: Duration,
    /// The whole of it; nothing means the sum of the steps.
    pub total: Option<Duration>,
}

/// `hooks`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    pub on_event: Option<Hook>,
}

/// A command that is given an event on its stdin.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    pub command: Template,
    pub args: Vec<Template>,
    /// Names are unique; values never show.
    pub env: Vec<(String, Template)>,
    pub events: Topics,
    /// What one run may take.
    pub timeout: Duration,
}

impl Hook {
    /// Where the file does not say it.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
}

/// One entry of `mcpServers`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    pub name: ServerName,
    pub slug: Slug,
    pub enabled: bool,
    /// Started by a call, and stopped when none came for `idle_timeout`.
    pub lazy: bool,
    /// A life that is asked for in the place of one that serves begins beside it, and takes over when it is ready.
    pub overlap: bool,
    pub idle_timeout: Option<Duration>,
    pub launch: Launch,
    /// Why it cannot run as written, with file, line, column and key. It stays parked until the entry changes.
    pub problem: Option<Fault>,
    /// Its own values; nothing means the global ones. See [`Config::connection_timeout`] and its neighbours.
    pub connection_timeout: Option<Duration>,
    pub call_timeout: Option<Duration>,
    /// Zero is off.
    pub health_check_interval: Option<Duration>,
    pub stop_grace: Option<Duration>,
    /// Names that people give to servers which they start and stop together; unique, in alphabetical order.
    pub groups: Vec<String>,
    /// What is declared to the server that clients can be asked for.
    pub client_features: Vec<Feature>,
    /// The era of the protocol that it is spoken to in; nothing means whichever it speaks.
    pub era: Option<Era>,
    /// How its command is put into a container; nothing if it runs on the host.
    pub isolation: Option<Box<Isolation>>,
    /// Its own engine; see [`Config::engine`].
    pub engine: Option<Template>,
    pub cidfile_timeout: Option<Duration>,
    pub auto_disable: OwnAutoDisable,
    /// Where the entry stands in the file. Entries that differ only here (and in what `problem` says of it) are
    /// the same to whoever compares two configs.
    pub line: usize,
    pub column: usize,
}

/// What a server runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Launch {
    /// A child process. INVARIANT: complete; an entry of which a part could not be read has none.
    Process {
        command: Template,
        args: Vec<Template>,
        /// Names are unique; values never show.
        env: Vec<(String, Template)>,
        working_dir: Option<Template>,
    },
    /// A remote server.
    Remote {
        /// What follows its `?` never shows.
        url: Template,
        /// Names are unique in any case; values never show.
        headers: Vec<(String, Template)>,
        protocol: Protocol,
    },
    /// Nothing that this version can run. INVARIANT: the entry has a problem.
    Unsupported,
}

/// Which transport a remote server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Streamable HTTP first, then HTTP with SSE, as the specification says.
    Auto,
    /// Streamable HTTP.
    Http,
    /// HTTP with SSE, the transport of 2024-11-05.
    Sse,
}

impl Config {
    /// What to say about a file that cannot be acted on.
    fn unusable() -> Config {
        Config { usable: false, ..Config::default() }
    }

    pub fn server(&self, name: &ServerName) -> Option<&ServerConfig> {
        self.servers.iter().find(|server| server.name == *name)
    }

    /// How long this server may take to get ready.
    pub fn connection_timeout(&self, server: &ServerConfig) -> Duration {
        server.connection_timeout.unwrap_or(self.connections.timeout)
    }

    /// How long a call to this server may take.
    pub fn call_timeout(&self, server: &ServerConfig) -> Duration {
        server.call_timeout.unwrap_or(self.call_timeout)
    }

    /// Between two probes of this server; nothing when it is not probed.
    pub fn health_check_interval(&self, server: &ServerConfig) -> Option<Duration> {
        let interval = server.health_check_interval.unwrap_or(self.connections.health_check_interval);
        (interval > Duration::ZERO).then_some(interval)
    }

    /// How long the `docker run` of this server may take to say which container it made.
    pub fn cidfile_timeout(&self, server: &ServerConfig) -> Duration {
        server.cidfile_timeout.unwrap_or(self.cidfile_timeout)
    }

    /// How long this server may be without a call before it is stopped; only for one that is lazy.
    pub fn idle_timeout(&self, server: &ServerConfig) -> Duration {
        server.idle_timeout.unwrap_or(self.idle_timeout)
    }

    /// When this server is given up.
    pub fn auto_disable(&self, server: &ServerConfig) -> AutoDisable {
        let (all, own) = (&self.auto_disable, &server.auto_disable);
        AutoDisable {
            enabled: own.enabled.unwrap_or(all.enabled),
            failure_threshold: own.failure_threshold.unwrap_or(all.failure_threshold),
            window: own.window.unwrap_or(all.window),
            startup_attempts: own.startup_attempts.unwrap_or(all.startup_attempts),
            probation: own.probation.unwrap_or(all.probation),
            generate_reports: own.generate_reports.unwrap_or(all.generate_reports),
        }
    }

    /// From the request to stop this server until SIGKILL.
    pub fn stop_grace(&self, server: &ServerConfig) -> Duration {
        server.stop_grace.unwrap_or(self.cleanup.process_kill_timeout)
    }
}

/// What holds without a file.
impl Default for Config {
    fn default() -> Config {
        let seconds = Duration::from_secs;
        Config {
            usable: true,
            listen: "127.0.0.1:8080".to_owned(),
            data_dir: None,
            api_key: None,
            trusted_hosts: Vec::new(),
            log_level: log::LevelFilter::Info,
            logging: Logging { json: false, max_size_mb: None, max_files: 1, max_total_mb: 1024 },
            list_wait: seconds(2),
            idle_timeout: seconds(300),
            call_timeout: seconds(120),
            connections: Connections {
                concurrent_max: 20,
                timeout: seconds(30),
                health_check_interval: seconds(60),
                retry_backoff_max: seconds(300),
            },
            auto_disable: AutoDisable {
                enabled: true,
                failure_threshold: 10,
                window: seconds(30 * 60),
                startup_attempts: 3,
                probation: true,
                generate_reports: true,
            },
            diagnostics: Diagnostics {
                enabled: true,
                report_directory: None,
                keep_reports: seconds(30 * 24 * 3600),
            },
            cleanup: Cleanup {
                process_kill_timeout: seconds(5),
                verify_timeout: seconds(5),
                docker_timeout: seconds(30),
                verify: true,
            },
            cidfile_timeout: seconds(10),
            recovery: Recovery {
                enabled: true,
                health_check_timeout: seconds(3),
                cleanup_timeout: seconds(30),
                polling_intervals: [2, 5, 10, 30, 60].map(seconds).to_vec(),
                max_reconnect_attempts: 4,
            },
            shutdown: Shutdown { drain: seconds(5), total: None },
            hooks: Hooks::default(),
            engine: None,
            servers: Vec::new(),
        }
    }
}
