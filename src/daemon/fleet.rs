//! The servers that the config names, and the supervisors that run: one is made to follow the other. Owned by `main`.
//!
//! A server whose entry did not change does not notice a reload. One that the config names no more is stopped and, once
//! it is off, forgotten; if it is named again before that, the same supervisor goes on with it, so that there are never
//! two for one name.

use super::containers::Containers;
use super::launch;
use super::logging::kept;
use super::main_loop::News;
use super::secrets;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::ServerName;
use crate::base::limits::SERVER_LOG_BYTES_MAX;
use crate::config::diff::{self, Change, Decision};
use crate::config::{Config, ServerConfig};
use crate::reaper::keeper::Keeper;
use crate::server::board::Board;
use crate::server::eras::Setting;
use crate::server::face::Manner;
use crate::server::handle::{Ear, Needed, Report, Server, Traits};
use crate::server::host::Host;
use crate::server::registry::Registry;
use crate::server::sleep::Sleep;
use crate::server::supervisor::{self, Afterwards, Charge, Habits, Home, Terms};
use crate::store::Store;
use crate::sys::logs::Logs;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// What every server is given.
pub struct House {
    pub keeper: Arc<Keeper>,
    pub board: Board,
    pub ear: Arc<Ear>,
    pub needed: Arc<Needed>,
    pub logs: PathBuf,
    /// Who writes them.
    pub log_files: Logs,
    /// Where the reports are, if the config says nothing else.
    pub reports: PathBuf,
    pub containers: Arc<Containers>,
    pub store: Store,
    pub host: Arc<Host>,
}

pub struct Fleet {
    house: House,
    pub servers: Arc<Registry>,
    /// What was taken over, as far as it could be.
    config: Config,
    /// Stopped because the config names them no more, and not off yet.
    leaving: Vec<Arc<Server>>,
    /// An entry waits for one of those: it would stand in the same place.
    wanted: Option<Config>,
    news: Sender<News>,
    /// Its clones are with the supervisors; gone once the last of them is.
    alive: Option<Sender<Infallible>>,
}

impl Fleet {
    /// One supervisor per entry; those that can run have asked the gate when this returns. The receiver is closed
    /// once every supervisor is over.
    pub fn start(
        config: &Config,
        house: House,
        news: Sender<News>,
    ) -> Result<(Fleet, Receiver<Infallible>), Fault> {
        // Without the directory the logs are missing, which the first line to be written says.
        if let Err(error) = fs::create_dir_all(&house.logs) {
            log::warn!("make {}: {error}; servers run without log files", house.logs.display());
        }
        let (alive, over) = bounded::<Infallible>(0);
        let fleet = Fleet {
            house,
            servers: Arc::default(),
            config: config.clone(),
            leaving: Vec::new(),
            wanted: None,
            news,
            alive: Some(alive),
        };
        let settings = Arc::new(alone(config));
        let all: Result<Vec<_>, Fault> =
            config.servers.iter().map(|entry| fleet.launch(&settings, entry)).collect();
        fleet.servers.set(all?);
        fleet.bound_logs();
        Ok((fleet, over))
    }

    /// What was taken over; an entry that waits is not in it yet.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes the servers follow `config`. Returns why some of them could not be started; they are tried again with
    /// the next config.
    pub fn follow(&mut self, mut config: Config) -> Vec<(ServerName, Fault)> {
        let diff = diff::diff(&self.config, &config);
        let settings = Arc::new(alone(&config));
        let mut before: BTreeMap<ServerName, Arc<Server>> =
            self.servers.all().iter().map(|server| (server.name.clone(), server.clone())).collect();
        let mut faults = Vec::new();
        let mut waiting = Vec::new();
        let mut all = Vec::with_capacity(config.servers.len());
        // The diff has the entries in their order, and then those that are gone.
        for change in diff.servers {
            let entry = config.server(&change.name);
            match (entry, before.remove(&change.name)) {
                (None, None) => {}
                (None, Some(server)) => self.leave(server),
                (Some(entry), Some(server)) if server.slug == entry.slug => {
                    self.tell(&settings, &server, entry, &change);
                    all.push(server);
                }
                (Some(entry), known) => {
                    known.into_iter().for_each(|server| self.leave(server));
                    match self.enter(&settings, entry) {
                        Ok(Some(server)) => all.push(server),
                        Ok(None) => waiting.push(change.name),
                        Err(fault) => {
                            waiting.push(change.name.clone());
                            faults.push((change.name, fault));
                        }
                    }
                }
            }
        }
        self.servers.set(all);
        self.wanted = (!waiting.is_empty()).then(|| config.clone());
        config.servers.retain(|entry| !waiting.contains(&entry.name));
        self.config = config;
        self.house.board.lists_changed();
        self.house.board.post();
        self.bound_logs();
        faults
    }

    /// Every server that is known has its log open, so that the others are seen to be nobody's.
    fn bound_logs(&self) {
        let bytes = u64::from(self.config.logging.max_total_mb) << 20;
        self.house.log_files.bound(self.house.logs.clone(), bytes);
    }

    /// A supervisor rests. `true`: somebody waited for that, and was started.
    pub fn rests(&mut self, name: &ServerName) {
        let is_over = |server: &Arc<Server>| server.name == *name && server.is_resting();
        if let Some(at) = self.leaving.iter().position(is_over) {
            self.leaving.remove(at).tell(Report::Retire);
            if let Some(config) = self.wanted.take() {
                for (name, fault) in self.follow(config) {
                    log::error!("{name}: {fault}");
                }
            }
        }
        // Whoever rests lives on no engine.
        self.house.containers.engines.forget_unused();
    }

    /// All are stopped, and end when they are off.
    pub fn retire(&mut self) {
        self.alive = None;
        self.wanted = None;
        let all = self.servers.all();
        all.iter().chain(&self.leaving).for_each(|server| server.tell(Report::Retire));
    }

    fn tell(&self, settings: &Arc<Config>, server: &Server, entry: &ServerConfig, change: &Change) {
        let was = self.config.server(&change.name);
        let problem_moved = was.is_some_and(|was| was.problem != entry.problem);
        if change.decision == Decision::Keep && !problem_moved {
            return;
        }
        let own = was.is_none_or(|was| !diff::is_same_entry(was, entry));
        let afterwards = match change.decision {
            Decision::Restart | Decision::Start | Decision::Add => Afterwards::Renew,
            Decision::Retune if own => Afterwards::TryAgain,
            Decision::Retune | Decision::Keep | Decision::Stop | Decision::Remove => Afterwards::GoOn,
        };
        let wanted = match change.decision {
            Decision::Start => Some(true),
            Decision::Stop => Some(false),
            Decision::Add => Some(entry.enabled),
            Decision::Keep | Decision::Retune | Decision::Restart | Decision::Remove => None,
        };
        self.renew(settings, server, entry, wanted, afterwards);
    }

    fn renew(
        &self,
        settings: &Arc<Config>,
        server: &Server,
        entry: &ServerConfig,
        wanted: Option<bool>,
        afterwards: Afterwards,
    ) {
        let terms = self.terms(settings, entry);
        let change = supervisor::Change { terms, problem: entry.problem.clone(), wanted, afterwards };
        server.tell(Report::Change(Box::new(change)));
    }

    /// The config does not name it any more.
    fn leave(&mut self, server: Arc<Server>) {
        log::info!("{}: the config does not name it any more", server.name);
        server.tell(Report::Leave);
        self.leaving.push(server);
    }

    /// A new entry; `None` while one that stands in its place is still leaving.
    fn enter(&mut self, settings: &Arc<Config>, entry: &ServerConfig) -> Result<Option<Arc<Server>>, Fault> {
        let in_place = |server: &&Arc<Server>| server.slug == entry.slug || server.name == entry.name;
        match self.leaving.iter().position(|server| in_place(&server)) {
            Some(at) if self.leaving[at].name == entry.name && self.leaving[at].slug == entry.slug => {
                let server = self.leaving.remove(at);
                self.renew(settings, &server, entry, Some(entry.enabled), Afterwards::Renew);
                Ok(Some(server))
            }
            Some(_) => Ok(None),
            None => self.launch(settings, entry).map(Some),
        }
    }

    fn launch(&self, settings: &Arc<Config>, entry: &ServerConfig) -> Result<Arc<Server>, Fault> {
        let (news, alive) = (self.news.clone(), self.alive.clone());
        let gate = move |request| {
            let _alive = &alive;
            // Main has gone: the daemon is over, and nothing is left to be asked.
            let _ = news.send(News::Gate(request));
        };
        let log = self.house.logs.join(format!("server-{}.log", entry.slug));
        let charge = Charge {
            name: entry.name.clone(),
            slug: entry.slug.clone(),
            terms: self.terms(settings, entry),
            traits: Traits {
                ear: self.house.ear.clone(),
                log: Some(self.house.log_files.open(log, kept(&settings.logging, SERVER_LOG_BYTES_MAX))),
            },
            keeper: self.house.keeper.clone(),
            store: Some(self.house.store.clone()),
            host: self.house.host.clone(),
            problem: entry.problem.clone(),
            wanted: entry.enabled,
        };
        supervisor::start(charge, self.house.board.clone(), gate).map_err(|error| {
            let message = format!("start a thread for {}: {error}", entry.name);
            Fault::new(FaultKind::HostResources, message).hint("the host is out of threads or memory")
        })
    }

    fn terms(&self, settings: &Arc<Config>, entry: &ServerConfig) -> Terms {
        let manner = Manner {
            call_patience: settings.call_timeout(entry),
            groups: entry.groups.clone(),
            features: entry.client_features.clone(),
            era: Setting {
                era: entry.era,
                store: Some(self.house.store.clone()),
                program: launch::program_hash(entry),
                connect_timeout: settings.connection_timeout(entry),
            },
        };
        let policy = launch::policy(settings, entry);
        let sleep = || Sleep::new(settings.idle_timeout(entry), self.house.needed.clone());
        let habits = Habits {
            ceiling: launch::ceiling(settings, entry),
            place: (entry.line, entry.column),
            overlap: entry.overlap,
            sleep: entry.lazy.then(sleep),
            reports: launch::reports(settings, entry, &self.house.reports),
            program: launch::program_hash(entry),
            entry: launch::entry_hash(entry),
        };
        let (containers, settings, entry) = (self.house.containers.clone(), settings.clone(), entry.clone());
        let find_home = Arc::new(move || {
            let home = containers.home(&settings, &entry);
            let (plan, engine) = (containers.plan(&settings, &entry, &home), home.watched().cloned());
            let entry = entry.clone();
            Home { plan, engine, secrets: Box::new(move || secrets::of_server(&entry)) }
        });
        Terms { policy, manner, habits, find_home }
    }
}

/// The settings without the servers: what a server keeps of the config that it was read in.
fn alone(config: &Config) -> Config {
    Config { servers: Vec::new(), ..config.clone() }
}
