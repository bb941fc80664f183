//! What owns one line of lives of a server: `step -> act`, and nothing else. A server has one, and during a switch two,
//! on one thread (`stage.rs`).
//!
//! A server that is disabled and off needs no thread: its supervisor rests in the server itself, until somebody tells
//! it something. It ends when the server is retired and off.

use super::board::Board;
use super::face::{Face, Manner};
use super::gate::Claim;
use super::handle::{Report, Server, Traits};
use super::history::{Found, History};
use super::host::Host;
use super::launch::Launch;
use super::life::{self, Birth};
use super::link::Link;
use super::machine::{self, Action, Event, Policy};
use super::orders::{Order, Orders};
use super::reconnect::Recovery;
use super::report::{Attempt, Reports};
use super::sleep::Sleep;
use super::starts::Ceiling;
use super::status::Switching;
use super::tape::Tape;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, ServerName, Slug};
use crate::base::limits::{INBOX_MESSAGES_MAX, REPORT_ATTEMPTS_MAX};
use crate::base::redact::Secrets;
use crate::base::ring::Ring;
use crate::base::time::{Time, Wall};
use crate::engine::outage::Cause;
use crate::engine::watched::{self, Heard, Subscription, Watched};
use crate::reaper::keeper::Keeper;
use crate::store::Store;
use crate::sys::clock;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod change;
mod recovery;
mod reporting;
mod rest;
mod stage;
mod words;

pub use change::{Afterwards, Change};
pub(super) use rest::{Resting, wake};
use stage::Stage;

/// What a supervisor asks of the start gate, which `main` owns; and what `main` must know beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateRequest {
    Ask(ServerName, Claim),
    Hurry(ServerName),
    Leave(ServerName),
    /// It is disabled and off, and rests.
    Rests(ServerName),
}

/// Works out what a life runs; asked anew for every life, so that `${env:NAME}` is what it is then.
pub type Plan = dyn Fn(Life) -> Result<Launch, Fault> + Send;

/// Where a server lives, and how.
pub struct Home {
    pub plan: Box<Plan>,
    /// The engine that it lives on: while that is away, nothing is the server's fault.
    pub engine: Option<Arc<Watched>>,
    /// What must not be read in its log; asked anew for every life, like the plan.
    pub secrets: Box<dyn Fn() -> Secrets + Send>,
}

/// Finds the home of a server: asked when it is first wanted, so that one that is disabled touches no engine.
pub type FindHome = dyn Fn() -> Home + Send + Sync;

/// What a server's entry comes to.
#[derive(Clone)]
pub struct Terms {
    pub policy: Policy,
    pub manner: Manner,
    pub habits: Habits,
    pub find_home: Arc<FindHome>,
}

/// How it starts and sleeps.
#[derive(Clone)]
pub struct Habits {
    /// How long a start may take.
    pub ceiling: Ceiling,
    /// Its line and column in the config; a reload that does not concern it does not tell it of others.
    pub place: (usize, usize),
    /// A life that is asked for in the place of one that serves begins beside it.
    pub overlap: bool,
    /// It sleeps while nobody calls it.
    pub sleep: Option<Sleep>,
    /// What is said of it should it be given up; nothing where no report is wanted.
    pub reports: Option<Reports>,
    /// Stand for what it runs and for its entry: what was learnt of others is not believed of these.
    pub program: u64,
    pub entry: u64,
}

/// Everything that a supervisor starts with.
pub struct Charge {
    pub name: ServerName,
    pub slug: Slug,
    pub terms: Terms,
    pub traits: Traits,
    /// Where lives are written down, so that they can be found whatever dies.
    pub keeper: Arc<Keeper>,
    /// Where what is learnt of it is kept.
    pub store: Option<Store>,
    pub host: Arc<Host>,
    /// Why its entry cannot be run as it is.
    pub problem: Option<Fault>,
    /// Whether it is to run from the beginning; otherwise `Event::Want(true)` starts it.
    pub wanted: bool,
}

/// Starts the supervisor of one server. When this returns, the server shows what became of its first orders: nobody
/// ever sees one that is about to start as one that is disabled.
pub fn start(
    charge: Charge,
    board: Board,
    gate: impl Fn(GateRequest) + Send + Sync + 'static,
) -> io::Result<Arc<Server>> {
    // In boxes: the channel makes room for all that it may hold, and a report is long.
    let (sender, inbox): (Sender<Box<Report>>, Receiver<Box<Report>>) = bounded(INBOX_MESSAGES_MAX);
    let (now, habits) = (clock::now(), &charge.terms.habits);
    let history = History::open(charge.store, charge.name.as_str(), habits.program, habits.entry);
    let known = habits.sleep.as_ref().and_then(|_| history.known());
    let mut last_error = None;
    let machine = if charge.wanted {
        let Found { past, why } = history.found(&charge.terms.policy, clock::wall());
        last_error = why;
        machine::Server::resume(false, known.is_some(), past, now)
    } else {
        machine::Server::new(false, known.is_some(), now)
    };
    let first = words::first_status(&charge.name, &charge.slug, &charge.terms.manner.groups, &machine);
    let Terms { policy, manner, habits, find_home } = charge.terms;
    let server = Arc::new(Server::new(first, manner, charge.traits, board, sender));
    if let Some(known) = known {
        server.recall(known);
    }
    let post = Post {
        face: server.shown(),
        server: server.clone(),
        keeper: charge.keeper,
        host: charge.host,
        gate: Arc::new(gate),
    };
    let mut supervisor = Supervisor::new(post, (policy, habits, find_home), history, machine);
    supervisor.last_error = last_error;
    if charge.wanted {
        supervisor.move_in();
    }
    supervisor.find_report();
    if let Some(problem) = charge.problem {
        supervisor.block(problem);
    }
    if charge.wanted {
        supervisor.step(Event::Want(true));
    }
    Stage::new(supervisor).begin(inbox).map_err(|(error, _)| error)?;
    Ok(server)
}

/// Where a supervisor stands: for whom it works, and with what.
struct Post {
    server: Arc<Server>,
    /// Where its lives show what they have to say.
    face: Arc<Face>,
    keeper: Arc<Keeper>,
    host: Arc<Host>,
    gate: Arc<dyn Fn(GateRequest) + Send + Sync>,
}

struct Supervisor {
    server: Arc<Server>,
    face: Arc<Face>,
    /// What it does is what the server does; else it is beside the one of which that is true, and only the log hears of it.
    is_front: bool,
    /// What is said of the one beside it.
    switching: Option<Switching>,
    machine: machine::Server,
    policy: Policy,
    find_home: Arc<FindHome>,
    /// INVARIANT: there while it is wanted.
    plan: Option<Box<Plan>>,
    secrets: Option<Box<dyn Fn() -> Secrets + Send>>,
    /// What its entry says now, while a life of what it said before is ending.
    next: Option<(Manner, Arc<FindHome>)>,
    /// The config does not name it any more.
    leaving: bool,
    keeper: Arc<Keeper>,
    history: History,
    host: Arc<Host>,
    habits: Habits,
    start: Start,
    gate: Arc<dyn Fn(GateRequest) + Send + Sync>,
    /// The mailbox of the current life.
    orders: Option<(Life, Orders)>,
    pid: Option<u32>,
    container: Option<String>,
    progress: Option<String>,
    last_error: Option<(Fault, Wall)>,
    /// The last tries that failed.
    attempts: Ring<Attempt>,
    /// The life that the next of them will be of.
    attempt_of: Option<Life>,
    last_success: Option<Wall>,
    tape: Tape,
    retired: bool,
    /// The engine that it lives on, and what is heard of it.
    dwelling: Option<(Arc<Watched>, Subscription)>,
    /// Under this number; what is said to another is not for it.
    address: u64,
    /// Its engine is back, and what becomes of this server was not said yet.
    recovering: bool,
    /// The way to a life whose container is paused.
    frozen: Option<Arc<Link>>,
    /// Somebody asked for it to come back, and waits.
    recovery: Option<Recovery>,
}

/// The start that is under way.
#[derive(Debug, Default)]
struct Start {
    /// When it was launched; nothing once an image was pulled for it, which says nothing of the next start.
    at: Option<Time>,
    sign: Option<Duration>,
}

impl Supervisor {
    fn new(
        post: Post,
        (policy, habits, find_home): (Policy, Habits, Arc<FindHome>),
        history: History,
        machine: machine::Server,
    ) -> Supervisor {
        let Post { server, face, keeper, host, gate } = post;
        Supervisor {
            server,
            face,
            is_front: true,
            switching: None,
            tape: Tape::new(&machine, &policy),
            machine,
            policy,
            find_home,
            plan: None,
            secrets: None,
            next: None,
            leaving: false,
            keeper,
            history,
            host,
            habits,
            start: Start::default(),
            gate,
            orders: None,
            pid: None,
            container: None,
            progress: None,
            last_error: None,
            attempts: Ring::new(REPORT_ATTEMPTS_MAX),
            attempt_of: None,
            last_success: None,
            retired: false,
            dwelling: None,
            address: 0,
            recovering: false,
            frozen: None,
            recovery: None,
        }
    }

    /// Nothing is started on an engine that was not heard yet.
    fn settle_on(&mut self, engine: Arc<Watched>) {
        static ADDRESSES: AtomicU64 = AtomicU64::new(1);
        self.step(Event::EngineAway);
        let (server, address) = (self.server.clone(), ADDRESSES.fetch_add(1, Ordering::Relaxed));
        self.address = address;
        let name = self.server.name.as_str();
        let subscription =
            engine.subscribe_as(name, move |heard| server.tell(Report::Heard(address, heard.clone())));
        self.dwelling = Some((engine, subscription));
    }

    /// What its engine has to say.
    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Up => self.step(Event::EngineUp),
            Heard::Away(cause, fault) => {
                self.heard_fault(Event::EngineAway, fault);
                self.step(Event::EngineAway);
                // Then so is all that lives on it.
                if cause == Cause::Paused {
                    self.happened(watched::Happened::Paused);
                }
            }
            Heard::Container(happened) => self.happened(happened),
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Event(Event::Want(true), _) if self.leaving => {}
            Report::Event(event, fault) => {
                if event == Event::Want(true) && self.plan.is_none() {
                    self.move_in();
                }
                if let Some(fault) = fault {
                    self.heard_fault(event, fault);
                }
                self.step(event);
            }
            Report::Spawned(life, pid) => {
                self.pid = pid;
                self.step(Event::Spawned(life));
            }
            Report::Contained(life, id) if self.machine.life() == Some(life) => {
                if let Some((_, subscription)) = &self.dwelling {
                    subscription.follow(&id);
                }
                self.face.set_container(Some(id.clone()));
                self.container = Some(id);
            }
            Report::Progress(life, text) if self.machine.life() == Some(life) => {
                self.progress = Some(text);
                self.publish();
            }
            Report::Contained(..) | Report::Progress(..) => (),
            Report::Heard(_, heard) => self.heard(heard),
            Report::Listed(life) => {
                log::info!("{}: what it lists has changed (life {life})", self.server.name);
                self.keep_known();
                self.publish();
            }
            Report::Change(change) => self.change(*change),
            Report::Leave => {
                self.leaving = true;
                self.step(Event::Want(false));
            }
            Report::Reconnect(ask) => self.reconnect(ask),
            Report::Retire => {
                self.retired = true;
                self.step(Event::Want(false));
            }
            // Of a switch that is over.
            Report::Drained(_) => (),
        }
    }

    /// Calls are answered by its life.
    fn serves(&self) -> bool {
        self.machine.state() == "ready"
    }

    /// When something is to be done though nothing happens.
    fn next_deadline(&self) -> Option<Time> {
        let due = self.machine.next_deadline().map(|(at, _)| at);
        let look = self.habits.sleep.as_ref().filter(|_| self.is_front).and_then(Sleep::next_look);
        due.into_iter().chain(look).min()
    }

    /// Remembers why, unless the server was only doing what it was told.
    fn heard_fault(&mut self, event: Event, fault: Fault) {
        // An exit on the stop ladder follows from what was decided before, and explains nothing.
        let consequence = matches!(event, Event::Exited(..)) && self.machine.state() == "stopping";
        if !consequence && fault.kind != FaultKind::Stopped {
            self.last_error = Some((fault, clock::wall()));
        }
    }

    fn step(&mut self, event: Event) {
        let now = clock::now();
        let before = (self.machine.state(), self.machine.phase());
        let failures = self.machine.failures();
        let mut actions = Vec::new();
        let dice = fastrand::f64();
        if matches!(
            event,
            Event::SpawnFailed(..) | Event::Failed(..) | Event::Exited(..) | Event::Gone(_) | Event::EngineUp
        ) {
            self.policy.host_ill = self.host.is_ill();
        }
        if let Event::Admitted(life) = event {
            self.attempt_of = Some(life);
            let failed_before = self.machine.consecutive_failures() > 0;
            self.policy.connect_timeout = self.history.starts.patience(self.habits.ceiling, failed_before);
        }
        self.machine = machine::step(self.machine.clone(), event, now, &self.policy, dice, &mut actions);
        self.tape.record(event, now, &self.policy, dice, &self.machine);
        if self.machine.failures() > failures {
            self.count_attempt();
        }
        let after = (self.machine.state(), self.machine.phase());
        let left = self.freeze_or_thaw(before.1);
        self.clock_start(event, before.0, now);
        if before.0 != after.0 && after.0 == "ready" {
            self.keep_known();
        }
        if matches!(event, Event::Discovered(_) | Event::ProbeOk(_)) && after.0 == "ready" {
            self.last_success = Some(clock::wall());
        }
        if before != after && after == ("stopping", "close_input") {
            self.own_verdict(event, left);
        }
        let mut unborn = None;
        for action in actions {
            unborn = unborn.or(self.act(action));
        }
        if self.machine.life().is_none() {
            self.orders = None;
            self.pid = None;
            self.face.set_container(None);
            if self.container.take().is_some()
                && let Some((_, subscription)) = &self.dwelling
            {
                subscription.unfollow();
            }
        }
        if after.1 != "pulling" {
            self.progress = None;
        }
        if before.0 != after.0 {
            self.announce(event, before.0, now);
        }
        if before != after || matches!(event, Event::ProbeOk(_) | Event::Spawned(_)) {
            self.publish();
        }
        if before != after {
            self.record(event, before);
        }
        self.settle(event);
        self.keep_history(now);
        if self.machine.life().is_none() {
            self.adopt_next();
        }
        self.follow_up(event);
        if let Some((event, fault)) = unborn {
            self.heard_fault(event, fault);
            self.step(event);
        }
    }

    fn keep_history(&mut self, now: Time) {
        let why = self.last_error.as_ref().map(|(fault, _)| fault);
        self.history.keep(&self.machine, why, now, clock::wall());
    }

    /// What is needed to be listed while it sleeps.
    fn keep_known(&self) {
        if self.habits.sleep.is_some() && self.is_front {
            self.history.keep_known(&self.face.known());
        }
    }

    /// Nobody has called it for long enough: whoever does from now on waits for its next life.
    fn sleep_if_idle(&mut self) {
        let Some(sleep) = &mut self.habits.sleep else { return };
        let link = self.face.link();
        if sleep.look(&self.server.name, link.as_deref(), clock::now())
            && let Some(link) = link
        {
            self.face.close(link.life);
            self.step(Event::Idle(link.life));
        }
    }

    /// Learns how long its starts take.
    fn clock_start(&mut self, event: Event, before: &str, now: Time) {
        let since = self.start.at.map(|at| now.since(at));
        if matches!(event, Event::Admitted(_)) {
            self.start = Start { at: Some(now), sign: None };
        } else if matches!(event, Event::Pulling(_)) {
            self.start.at = None;
        } else if matches!(event, Event::FirstSign(_)) {
            self.start.sign = self.start.sign.or(since);
        } else if before == "connecting"
            && self.machine.state() == "ready"
            && let Some(ready) = since
        {
            self.history.started(self.start.sign.unwrap_or(ready), ready);
        }
    }

    /// Its engine says what became of its container. How it ended, the life itself sees.
    fn happened(&mut self, happened: watched::Happened) {
        let Some(life) = self.machine.life() else { return };
        match happened {
            watched::Happened::Paused => self.step(Event::Paused(life)),
            watched::Happened::Unpaused => self.step(Event::Unpaused(life)),
            watched::Happened::Died(_) | watched::Happened::Oom | watched::Happened::Gone => (),
        }
    }

    /// No call goes to a life that is frozen; the same way is open again when it goes on. What is returned is the way to
    /// one that does not.
    fn freeze_or_thaw(&mut self, before: &str) -> Option<Arc<Link>> {
        let frozen = |phase: &str| matches!(phase, "paused" | "thawing");
        let (was, is) = (frozen(before), frozen(self.machine.phase()));
        if !was && is {
            self.frozen = self.face.link();
            if let Some(link) = &self.frozen {
                self.face.close(link.life);
            }
        } else if was && !is {
            let link = self.frozen.take()?;
            if self.machine.state() != "ready" || self.machine.life() != Some(link.life) {
                return Some(link);
            }
            self.face.open(link);
        }
        None
    }

    /// Returns the end of a life that could not even begin.
    fn act(&mut self, action: Action) -> Option<(Event, Fault)> {
        match action {
            Action::AskGate => {
                let claim =
                    Claim { awaited: false, hold: self.history.starts.hold(), place: self.habits.place };
                (self.gate)(GateRequest::Ask(self.server.name.clone(), claim));
            }
            Action::Hurry => (self.gate)(GateRequest::Hurry(self.server.name.clone())),
            Action::LeaveGate => (self.gate)(GateRequest::Leave(self.server.name.clone())),
            Action::Launch(life) => return self.launch(life),
            Action::Probe(life) => self.order(life, Order::Probe),
            Action::CloseInput(life) => self.order(life, Order::CloseInput),
            Action::Term(life) => self.order(life, Order::Term),
            Action::Kill(life) => self.order(life, Order::Kill),
            Action::Clear(life) => self.order(life, Order::Clear),
            // Without an engine no machine asks for one.
            Action::AskEngine => {
                if let Some((engine, _)) = &self.dwelling {
                    engine.ask();
                }
            }
        }
        None
    }

    fn order(&self, life: Life, order: Order) {
        if let Some((current, orders)) = &self.orders
            && *current == life
        {
            orders.give(order);
        }
    }

    fn launch(&mut self, life: Life) -> Option<(Event, Fault)> {
        let begun = Orders::new().and_then(|orders| {
            self.orders = Some((life, orders.clone()));
            self.face.begin(life);
            let (server, keeper) = (self.server.clone(), self.keeper.clone());
            if let Some(secrets) = &self.secrets {
                server.keep_secret(secrets());
            }
            let launch = match &self.plan {
                Some(plan) => plan(life),
                None => Err(Fault::new(FaultKind::Internal, "it has no home")),
            };
            life::begin(Birth { life, server, orders, keeper }, launch)
        });
        let error = begun.err()?;
        let message = format!("start a thread for {}: {error}", self.server.name);
        let fault =
            Fault::new(FaultKind::HostResources, message).hint("the host is out of files, threads or memory");
        Some((Event::SpawnFailed(life, fault.kind), fault))
    }
}
