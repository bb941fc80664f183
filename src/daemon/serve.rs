//! From a config to a running daemon, in the order that a start needs: servers first, because they take longest.

use super::containers::Containers;
use super::fleet::{Fleet, House};
use super::listen;
use super::main_loop::{Ended, MainLoop, News, Running};
use super::notify::Notify;
use super::parts::{Clients, Parts};
use super::reload::Reload;
use super::settings::{Gatekeeper, Settings, access};
use super::setup::Setup;
use super::shutdown::{Budget, CONTROL_OUT, STREAMS_OUT};
use crate::api::config::Control;
use crate::api::status::About;
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::STORE_PATIENCE;
use crate::config::Config;
use crate::gateway::router::Router;
use crate::reaper::clear::{Everything, clear_everything};
use crate::reaper::instance::Instance;
use crate::reaper::keeper::Keeper;
use crate::reaper::ledger::Ledger;
use crate::reaper::link::{Line, Link};
use crate::reaper::mark::Marker;
use crate::reaper::owed::Removals;
use crate::reaper::sweep::Survey;
use crate::server::board::Board;
use crate::server::gate::Gate;
use crate::server::host::Host;
use crate::server::registry::Registry;
use crate::store::Store;
use crate::sys::cgroup::Cgroup;
use crate::sys::logs::Logs;
use crate::sys::{clock, kin, pages, thread};
use crossbeam_channel::{Sender, unbounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Mutex, RwLock};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a `serve` ended that could start at all.
pub type Outcome = Result<Ended, (Fault, u8)>;

/// Exit codes of a start that failed; DESIGN's list.
const FAILED: u8 = 1;
const BAD_CONFIG: u8 = 4;

/// A daemon that has just begun to serve, for whoever shows that.
pub struct Started<'a> {
    /// `HOST:PORT` as bound; empty where there is no endpoint.
    pub listen: &'a str,
    pub servers: &'a Registry,
    pub board: &'a Board,
}

/// The whole life of the daemon: calls `started` once the endpoint serves, and returns when it has shut down.
pub fn run(
    setup: &Setup,
    mut guardian: Option<Link>,
    log_files: &Logs,
    started: impl FnOnce(&Started<'_>),
) -> Outcome {
    let failed = |fault| (fault, FAILED);
    let instance = match &mut guardian {
        Some(link) => link.instance(&setup.state_dir),
        None => Instance::open(&setup.state_dir),
    };
    let instance = instance.map_err(|error| (error.fault(), error.exit_code()))?;
    let endpoint = if setup.ephemeral { None } else { Some(Endpoint::open(&setup.config)?) };
    let bound = endpoint.as_ref().map(|endpoint| endpoint.bound.clone()).unwrap_or_default();
    let (control, _socket) = listen::control(&instance.dir, &instance.id).map_err(|error| {
        let message = format!("open the control socket in {}: {error}", instance.dir.display());
        failed(Fault::new(FaultKind::HostResources, message))
    })?;

    // Not bounded by its type, because main also speaks to those who speak to it; in fact each supervisor has at most
    // one request to the gate outstanding, and what else comes (signals, changed lists) is taken at once and coalesced.
    let (news, inbox) = unbounded();
    let cgroup = guardian.as_ref().and_then(|link| link.cgroup.clone());
    let (keeper, survey) = keeper(&instance, guardian, cgroup.as_deref());
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(start_failed)?;
    let board = Board::new(run_name(keeper.marker()));
    let notify =
        Notify::start(&board, &keeper, setup.config.hooks.on_event.as_ref()).map_err(start_failed)?;
    let clients = Clients::new().map_err(start_failed)?;
    let store = Store::open(&instance.dir);
    let containers = Arc::new(Containers::new(&setup.config, &keeper, &store, &board, &instance.dir));
    let logs = instance.dir.join("logs");
    let host = Arc::new(Host::new(instance.dir.clone(), store.clone()));
    let house = House {
        keeper: keeper.clone(),
        board: board.clone(),
        ear: clients.ear(),
        needed: clients.needed(),
        logs: logs.clone(),
        log_files: log_files.clone(),
        reports: instance.dir.join("reports"),
        containers: containers.clone(),
        store: store.clone(),
        host: host.clone(),
    };
    let (fleet, supervisors) = Fleet::start(&setup.config, house, news.clone()).map_err(failed)?;
    let gate = Arc::new(Mutex::new(Gate::new(setup.config.connections.concurrent_max)));
    let mut main_loop = MainLoop::new(gate.clone());
    if setup.ephemeral {
        main_loop = main_loop.ephemeral(clock::now());
    }
    main_loop.admit_first(&inbox, &fleet.servers);
    let lists = news.clone();
    board.on_lists(move || tell(&lists, News::Lists));
    let budget = Budget::of(&setup.config);
    keeper.tell(Line::Budget { ms: budget.total.as_millis() as u64 });

    let reload = Reload::new(setup).map_err(start_failed)?;
    let about = About {
        listen: bound.clone(),
        config: reload.in_force(),
        logs,
        engines: containers.engines.clone(),
        gate,
        host,
    };
    let servers = fleet.servers.clone();
    let parts =
        Parts::new(&setup.config, clients, servers, board.clone(), about, control_of(&reload), store.clone());
    let list_wait = parts.front.methods.list_wait.clone();
    let guarded = endpoint.as_ref().map(|endpoint| (endpoint.address, endpoint.gatekeeper.clone()));
    let settings = Settings { endpoint: guarded, list_wait, notify: notify.clone() };
    let endpoint = endpoint.map(|endpoint| parts.serve_endpoint(endpoint.listener, endpoint.gatekeeper));
    let http = endpoint.transpose().map_err(start_failed)?.map(Arc::new);
    let ctl = Arc::new(parts.serve_control(control).map_err(start_failed)?);
    watch_signals(signals, &news, &reload).map_err(start_failed)?;
    watch_guardian(&keeper, &news).map_err(start_failed)?;
    sweep_behind(survey, &keeper, &parts.router, &store).map_err(start_failed)?;
    let removals =
        Removals::start(&store, containers.engines.clone(), keeper.clone()).map_err(start_failed)?;
    started(&Started { listen: &bound, servers: &parts.router.servers, board: &parts.router.board });

    reload.watch(setup.content, news.clone()).map_err(start_failed)?;

    let mut running = Running {
        fleet,
        reload,
        settings,
        containers: containers.clone(),
        keeper: keeper.clone(),
        front: parts.front.clone(),
        http: http.unwrap_or_else(|| ctl.clone()),
        budget,
        supervisors,
    };
    let ended = main_loop.run(&inbox, &mut running);
    ctl.drain(CONTROL_OUT);
    parts.front.methods.end_listening();
    parts.hub.shutdown(STREAMS_OUT);
    containers.engines.close();
    notify.close();
    end_what_servers_lost(&keeper, cgroup.as_deref());
    removals.close();
    if !store.close(STORE_PATIENCE) {
        log::warn!("the state database was not closed in time: what was not on the disk yet is lost");
    }
    if ended == Ended::InOrder {
        keeper.tell(Line::Goodbye);
    }
    Ok(ended)
}

/// The public endpoint before it serves.
struct Endpoint {
    listener: TcpListener,
    gatekeeper: Gatekeeper,
    address: SocketAddr,
    /// `HOST:PORT`.
    bound: String,
}

impl Endpoint {
    fn open(config: &Config) -> Result<Endpoint, (Fault, u8)> {
        let wrong = |fault| (fault, BAD_CONFIG);
        let access = access(config).map_err(wrong)?;
        let address = listen::address(&config.listen).map_err(wrong)?;
        access.may_bind(address).map_err(wrong)?;
        let listener = listen::endpoint(address).map_err(|fault| (fault, FAILED))?;
        let bound = listener.local_addr().map_or(config.listen.clone(), |address| address.to_string());
        Ok(Endpoint { listener, gatekeeper: Arc::new(RwLock::new(Arc::new(access))), address, bound })
    }
}

/// What the API does to the config.
fn control_of(reload: &Reload) -> Control {
    let (plan, apply) = (reload.clone(), reload.clone());
    Control { plan: Box::new(move || plan.plan()), apply: Box::new(move || apply.apply()) }
}

/// The last act: descendants that no life could be told to own (no mark, no pipe, no group of ours). Nobody waits for
/// children any more, so all that have ended are reaped here.
fn end_what_servers_lost(keeper: &Keeper, cgroup: Option<&Path>) {
    let (marker, cgroup) = (keeper.marker(), cgroup.map(Cgroup::at));
    let everything = Everything {
        since: marker.owner.start,
        spared_session: None,
        cgroup: cgroup.as_ref(),
        session: &marker.session,
        leaders: &[],
        reap: &|| while kin::reap_any().is_some() {},
    };
    for process in clear_everything(&everything, false).ended {
        log::info!("ended {} ({}), which some server had left behind", process.comm, process.pid);
    }
}

/// Short enough for the id of every event; a number of another run is hardly ever taken for one of this.
fn run_name(marker: &Marker) -> &str {
    marker.session.get(..8).unwrap_or(&marker.session)
}

fn start_failed(error: std::io::Error) -> (Fault, u8) {
    let fault = Fault::new(FaultKind::HostResources, format!("start: {error}"));
    (fault.hint("the host is out of files, threads or memory"), FAILED)
}

fn keeper(instance: &Instance, guardian: Option<Link>, cgroup: Option<&Path>) -> (Arc<Keeper>, Survey) {
    let (ledger, earlier) = match Ledger::open(instance, cgroup) {
        Ok((ledger, earlier)) => (Some(ledger), earlier),
        Err(error) => {
            log::warn!("the ledger of lives cannot be written: {error}; marks and parentage remain");
            (None, Vec::new())
        }
    };
    let survey = Survey::at_start(instance, earlier, cgroup);
    (Arc::new(Keeper::new(instance.marker(), ledger, guardian)), survey)
}

/// The thread "signals": blocked in a self-pipe, over with the process.
fn watch_signals(mut signals: Signals, news: &Sender<News>, reload: &Reload) -> std::io::Result<()> {
    let (news, reload) = (news.clone(), reload.clone());
    thread::spawn("signals", move || {
        for signal in signals.forever() {
            match signal {
                SIGCHLD => tell(&news, News::Child),
                SIGHUP => reload.ask(),
                _ => tell(&news, News::Terminate),
            }
        }
    })?;
    Ok(())
}

/// The thread "guardian": blocked on a pipe that closes when the guardian dies.
fn watch_guardian(keeper: &Arc<Keeper>, news: &Sender<News>) -> std::io::Result<()> {
    if keeper.guardian().is_none() {
        return Ok(());
    }
    let (keeper, news) = (keeper.clone(), news.clone());
    thread::spawn("guardian", move || {
        let Some(link) = keeper.guardian() else { return };
        let mut fds = [PollFd::new(link.watch_fd(), PollFlags::POLLIN)];
        // Interrupted, it waits again; anything else means that the pipe has closed.
        while poll(&mut fds, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
        tell(&news, News::GuardianDied);
    })?;
    Ok(())
}

/// When a sweep that has no reason to hurry begins, however slow the servers are.
const SWEEP_LATEST: Duration = Duration::from_secs(1);

/// The thread "sweep": ends what earlier runs left, beside the start, and is over.
fn sweep_behind(survey: Survey, keeper: &Arc<Keeper>, router: &Router, store: &Store) -> std::io::Result<()> {
    let store = store.clone();
    let (keeper, servers, board) = (keeper.clone(), router.servers.clone(), router.board.clone());
    thread::spawn("sweep", move || {
        // What the start itself needed is needed no more; the servers and the database come on top of it.
        pages::give_text_back();
        if survey.earlier.iter().all(|section| section.leaders().next().is_none()) {
            // Nothing is known to be left, so this only makes sure: not while somebody waits for the servers.
            let mut open = servers.all().to_vec();
            // It is asked at every step of every server: only one of them is looked at.
            let settled = || {
                while open.last().is_some_and(|server| server.status().is_settled()) {
                    open.pop();
                }
                open.is_empty().then_some(())
            };
            let _ = board.wait(clock::now() + SWEEP_LATEST, settled);
        }
        // What it has to say could wait as well; whoever needed it sooner has opened it.
        store.begin();
        let begun = clock::now();
        let report = survey.carry_out();
        report.lines().iter().for_each(|line| log::warn!("{line}"));
        if report.left.is_empty() {
            keeper.forget_earlier();
        }
        log::debug!("the sweep took {} ms", clock::now().since(begun).as_millis());
        pages::give_text_back();
    })?;
    Ok(())
}

fn tell(news: &Sender<News>, what: News) {
    // Main has gone: the daemon is over, and nothing is left to be told.
    let _ = news.send(what);
}
