//! What the daemon has for servers in containers: the engines that they live on, each watched, and what is kept of
//! every container. Says of an entry where it lives, and works out its launches.

use super::isolate::{Isolated, isolated};
use super::launch::{self, home};
use super::remote;
use super::watch;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::config::docker_run::{self, Ours, Outcome, Rewritten};
use crate::config::{Cleanup, Config, ServerConfig, expand_home};
use crate::engine::api::Engine;
use crate::engine::by_cli::{CliEngine, Reach};
use crate::engine::endpoint::Endpoint;
use crate::engine::engines::{Engines, Terms};
use crate::engine::patience::Patience;
use crate::engine::resolve::{Caller, resolve};
use crate::engine::watched::Watched;
use crate::reaper::containers::{clear_dead, clear_earlier};
use crate::reaper::keeper::Keeper;
use crate::reaper::labels::Labels;
use crate::reaper::mark::Marker;
use crate::reaper::removal::Rules;
use crate::reaper::whose::SHARED;
use crate::server::board::Board;
use crate::server::container::upkeep::{Pulls, Upkeep};
use crate::server::container::{ContainerPlan, Oomed};
use crate::server::docker_cli::CliPlan;
use crate::server::launch::Launch;
use crate::server::supervisor::Plan;
use crate::store::Store;
use crate::sys::spawn::Program;
use crate::sys::{clock, net, thread};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where the cidfiles are, in the state directory.
const CIDFILES: &str = "cidfiles";

/// A request of a run that is dead can take effect in the engine for a while: then it is looked once more. 30 s is far
/// more than any engine needs for a create.
const SECOND_SWEEP: Duration = Duration::from_secs(30);

/// How long a sweep in the background may take.
const SWEEP_PATIENCE: Duration = Duration::from_secs(60);

/// One per daemon.
pub struct Containers {
    pub engines: Engines,
    upkeep: Upkeep,
    cidfiles: PathBuf,
}

/// Where a server lives.
pub enum Home {
    Host,
    /// In containers that we make there.
    Engine(Arc<Watched>),
    /// In a `docker run` of the user's; on an engine that we can watch, or one that only their command reaches.
    OwnRun(Option<Arc<Watched>>),
    /// It cannot be said.
    Unclear(Fault),
}

impl Home {
    /// The engine whose absence is no fault of the server's.
    pub fn watched(&self) -> Option<&Arc<Watched>> {
        match self {
            Home::Engine(watched) => Some(watched),
            Home::OwnRun(watched) => watched.as_ref(),
            Home::Host | Home::Unclear(_) => None,
        }
    }
}

impl Containers {
    pub fn new(
        config: &Config,
        keeper: &Arc<Keeper>,
        store: &Store,
        board: &Board,
        dir: &std::path::Path,
    ) -> Containers {
        let (rules, pulls) = (rules(&config.cleanup), Pulls::default());
        let upkeep = Upkeep { keeper: keeper.clone(), store: store.clone(), rules, pulls };
        // Of lives of an earlier run that could not take theirs away; most often there are none.
        let _ = std::fs::remove_dir_all(dir.join(CIDFILES));
        Containers {
            engines: Engines::new(terms(config, keeper, store, board)),
            upkeep,
            cidfiles: dir.join(CIDFILES),
        }
    }

    /// Other numbers from now on. Those of one server come with its next plan.
    pub fn retune(&self, config: &Config) {
        self.engines.retune(watch::policy(&config.recovery));
    }

    /// Looked up once: an entry whose engine's name changes with the environment is a changed entry.
    pub fn home(&self, config: &Config, entry: &ServerConfig) -> Home {
        let home = if entry.isolation.is_some() {
            self.engine_of(config, entry).map(Home::Engine)
        } else {
            self.own_run(entry)
        };
        home.unwrap_or_else(Home::Unclear)
    }

    fn engine_of(&self, config: &Config, entry: &ServerConfig) -> Result<Arc<Watched>, Fault> {
        let lookup = |name: &str| std::env::var(name).ok();
        let named = entry.engine.as_ref().or(config.engine.as_ref());
        let endpoint = match named.map(|template| template.resolve(lookup)).transpose()? {
            Some(text) => Endpoint::parse(&text)?,
            None => Endpoint::from_env(lookup)?,
        };
        self.watch(endpoint)
    }

    fn watch(&self, endpoint: Endpoint) -> Result<Arc<Watched>, Fault> {
        self.upkeep.keeper.engine(&endpoint);
        self.engines.get(endpoint)
    }

    fn own_run(&self, entry: &ServerConfig) -> Result<Home, Fault> {
        if !matches!(entry.launch, crate::config::Launch::Process { .. }) {
            return Ok(Home::Host);
        }
        // What it would run if it ran now; one whose variables are missing says so at its launch.
        let Ok(program) = launch::program(entry, &self.upkeep.keeper.marker().clone(), Life(0)) else {
            return Ok(Home::Host);
        };
        let nothing = Ours { labels: &[], cidfile: "" };
        match rewritten(&program, &nothing) {
            None => Ok(Home::Host),
            Some(run) => match endpoint_of(&run, &program) {
                Ok(endpoint) => self.watch(endpoint).map(|watched| Home::OwnRun(Some(watched))),
                Err(why) => {
                    log::info!("{}: its engine {why}; its own command is asked instead", entry.name);
                    Ok(Home::OwnRun(None))
                }
            },
        }
    }

    /// How the lives of this server are made. The entry is copied; the environment is read at every launch.
    pub fn plan(&self, config: &Config, entry: &ServerConfig, home: &Home) -> Box<Plan> {
        if let Some(plan) = remote::plan(config, entry) {
            return plan;
        }
        let (entry, marker) = (entry.clone(), self.upkeep.keeper.marker().clone());
        let upkeep = Upkeep { rules: rules(&config.cleanup), ..self.upkeep.clone() };
        let health_patience = config.recovery.health_check_timeout;
        let grace = config.stop_grace(&entry);
        match home {
            Home::Host => Box::new(move |life| launch::program(&entry, &marker, life).map(Launch::Process)),
            Home::Unclear(fault) => {
                let fault = fault.clone();
                Box::new(move |_| Err(fault.clone()))
            }
            Home::Engine(watched) => {
                let (config, watched) = (config.clone(), watched.clone());
                Box::new(move |_| {
                    let Isolated { spec, pull, .. } = container_of(&config, &entry)?;
                    Ok(Launch::Container(Box::new(ContainerPlan {
                        engine: watched.engine().clone(),
                        spec,
                        pull,
                        upkeep: upkeep.clone(),
                        oomed: oomed(Some(&watched)),
                        health_patience,
                        grace,
                    })))
                })
            }
            Home::OwnRun(watched) => {
                let berth = Berth {
                    watched: watched.clone(),
                    upkeep,
                    cidfiles: self.cidfiles.clone(),
                    cidfile_timeout: config.cidfile_timeout(&entry),
                    health_patience,
                    grace,
                };
                Box::new(move |life| own_run(&entry, &marker, life, &berth).map(Launch::DockerCli))
            }
        }
    }

    /// Pulls of this entry's image may take so long.
    pub fn pull_timeout(entry: &ServerConfig) -> Option<Duration> {
        entry.isolation.as_ref().map(|isolation| isolation.pull_timeout)
    }
}

fn rules(cleanup: &Cleanup) -> Rules {
    Rules {
        try_max: cleanup.docker_timeout,
        verify: cleanup.verify,
        verify_within: cleanup.verify_timeout,
        once: false,
    }
}

/// What every launch of one user-written run needs beside its entry.
struct Berth {
    watched: Option<Arc<Watched>>,
    upkeep: Upkeep,
    cidfiles: PathBuf,
    cidfile_timeout: Duration,
    health_patience: Duration,
    grace: Duration,
}

fn container_of(config: &Config, entry: &ServerConfig) -> Result<Isolated, Fault> {
    let lookup = |name: &str| std::env::var(name).ok();
    let isolation = entry
        .isolation
        .as_deref()
        .ok_or_else(|| Fault::new(FaultKind::Internal, format!("{} is not isolated", entry.name)))?;
    isolated(config, entry, isolation, &lookup, home().as_deref())
}

fn own_run(entry: &ServerConfig, marker: &Marker, life: Life, berth: &Berth) -> Result<Box<CliPlan>, Fault> {
    let mut program = launch::program(entry, marker, life)?;
    let mark = marker.mark(&entry.slug, life);
    let text = program.args.join("\0");
    let config = format!("{:016x}", crate::base::id::fnv1a(text.as_bytes()));
    let labels = Labels::of(&mark, SHARED, &config, clock::wall()).pairs();
    let dir = &berth.cidfiles;
    std::fs::create_dir_all(dir)
        .map_err(|error| Fault::new(FaultKind::HostResources, format!("make {}: {error}", dir.display())))?;
    let cidfile = berth.cidfiles.join(format!("{}-{life}", entry.slug));
    let shown = cidfile.to_string_lossy();
    let Some(run) = rewritten(&program, &Ours { labels: &labels, cidfile: &shown }) else {
        let message = format!("{} was a docker run, and is none now", entry.name);
        return Err(Fault::new(FaultKind::BadConfig, message).hint("restart mcpvisor to run it as it is"));
    };
    for warning in &run.warnings {
        log::warn!("{}: {warning}", entry.name);
    }
    let reach = match &berth.watched {
        Some(watched) => Reach::Api(watched.engine().clone()),
        None => Reach::Cli(CliEngine { prefix: run.prefix.clone(), env: program.env.clone() }),
    };
    let engine = match &berth.watched {
        Some(watched) => watched.engine().endpoint().clone(),
        None => Endpoint::from_env(|_| None)?,
    };
    program.args = run.args;
    Ok(Box::new(CliPlan {
        program,
        reach,
        engine_key: engine.to_string(),
        engine,
        cidfile,
        user_cidfile: run.user_cidfile.map(|path| expand_home(&path, home().as_deref())),
        cidfile_timeout: berth.cidfile_timeout,
        name: run.name,
        image: run.image,
        upkeep: berth.upkeep.clone(),
        oomed: oomed(berth.watched.as_ref()),
        health_patience: berth.health_patience,
        grace: berth.grace,
    }))
}

/// `None`: it starts no container that could be ours.
fn rewritten(program: &Program, ours: &Ours) -> Option<Rewritten> {
    let env = |name: &str| variable(program, name);
    match docker_run::rewrite(&program.command, &program.args, &env, ours) {
        Outcome::NotARun { .. } => None,
        Outcome::Run(run) => Some(run),
    }
}

fn endpoint_of(run: &Rewritten, program: &Program) -> Result<Endpoint, String> {
    let caller = Caller::of(run.docker_folder.as_deref(), |name| variable(program, name));
    resolve(&run.engine, &caller)
}

/// As the program will see it.
fn variable(program: &Program, name: &str) -> Option<String> {
    program.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn oomed(watched: Option<&Arc<Watched>>) -> Arc<Oomed> {
    match watched.cloned() {
        Some(watched) => Arc::new(move |id| watched.oomed(id)),
        None => Arc::new(|_| false),
    }
}

fn terms(config: &Config, keeper: &Arc<Keeper>, store: &Store, board: &Board) -> Terms {
    let marker = keeper.marker().clone();
    let watch = watch::terms(config, &marker.instance, board, store);
    Terms { sweep: Some(Arc::new(move |engine, patience| sweep(engine, &marker, patience))), ..watch }
}

/// What earlier runs left goes before anything is created; what other dead instances left, beside it.
fn sweep(engine: &Engine, marker: &Marker, patience: &Patience<'_>) {
    match clear_earlier(engine, marker, patience) {
        Ok(report) => report.lines().iter().for_each(|line| log::warn!("{line}")),
        // A server whose own place is not free is not started: nothing is doubled by this.
        Err(error) => log::warn!("what earlier runs left was not looked for: {error}"),
    }
    let (engine, marker) = (engine.clone(), marker.clone());
    let behind = thread::spawn("sweep-containers", move || {
        let patience = || Patience::of(SWEEP_PATIENCE);
        let said = |swept: Result<crate::reaper::containers::ContainerReport, _>| match swept {
            Ok(report) => report.lines().iter().for_each(|line| log::warn!("{line}")),
            Err(error) => log::debug!("the sweep of containers: {error}"),
        };
        said(clear_dead(&engine, &marker, &patience()));
        // Not waited: swept a little early, and the next start sweeps again.
        let _ = net::poll_until(&mut [], Some(clock::now() + SECOND_SWEEP));
        said(clear_earlier(&engine, &marker, &patience()));
    });
    if let Err(error) = behind {
        log::warn!("a thread for the sweep of containers: {error}");
    }
}
