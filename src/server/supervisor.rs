//! The thread that owns one server: `recv -> step -> act`, and nothing else.
//!
//! A server that is disabled and off needs no thread: its supervisor rests in the server itself, until somebody tells
//! it something. It ends when the server is retired and off.

use super::board::Board;
use super::gate::Claim;
use super::handle::{Manner, Report, Server, Traits};
use super::history::{Found, History};
use super::host::Host;
use super::launch::Launch;
use super::life::{self, Birth};
use super::link::Link;
use super::machine::{self, Action, Event, Policy};
use super::orders::{Order, Orders};
use super::reconnect::Recovery;
use super::sleep::Sleep;
use super::starts::Ceiling;
use super::tape::Tape;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, ServerName, Slug};
use crate::base::limits::INBOX_MESSAGES_MAX;
use crate::base::time::{Time, Wall};
use crate::engine::outage::Cause;
use crate::engine::watched::{self, Heard, Subscription, Watched};
use crate::reaper::keeper::Keeper;
use crate::store::Store;
use crate::sys::clock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod change;
mod recovery;
mod rest;
mod words;

pub use change::{Afterwards, Change};
pub(super) use rest::{Resting, wake};

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
}

/// Finds the home of a server: asked when it is first wanted, so that one that is disabled touches no engine.
pub type FindHome = dyn Fn() -> Home + Send;

/// What a server's entry comes to.
pub struct Terms {
    pub policy: Policy,
    pub manner: Manner,
    pub habits: Habits,
    pub find_home: Box<FindHome>,
}

/// How it starts and sleeps.
pub struct Habits {
    /// How long a start may take.
    pub ceiling: Ceiling,
    /// Its line and column in the config; a reload that does not concern it does not tell it of others.
    pub place: (usize, usize),
    /// It sleeps while nobody calls it.
    pub sleep: Option<Sleep>,
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
    let tape = Tape::new(&machine, &policy);
    let mut supervisor = Supervisor {
        server: server.clone(),
        machine,
        policy,
        find_home,
        plan: None,
        next: None,
        leaving: false,
        keeper: charge.keeper,
        history,
        host: charge.host,
        habits,
        start: Start::default(),
        gate: Arc::new(gate),
        orders: None,
        pid: None,
        container: None,
        progress: None,
        last_error,
        last_success: None,
        tape,
        retired: false,
        dwelling: None,
        recovering: false,
        frozen: None,
        recovery: None,
    };
    if charge.wanted {
        supervisor.move_in();
    }
    if let Some(problem) = charge.problem {
        let event = Event::Block(Some(problem.kind));
        supervisor.take(Report::Event(event, Some(problem)));
    }
    if charge.wanted {
        supervisor.step(Event::Want(true));
    }
    supervisor.begin(inbox).map_err(|(error, _)| error)?;
    Ok(server)
}

struct Supervisor {
    server: Arc<Server>,
    machine: machine::Server,
    policy: Policy,
    find_home: Box<FindHome>,
    /// INVARIANT: there while it is wanted.
    plan: Option<Box<Plan>>,
    /// What its entry says now, while a life of what it said before is ending.
    next: Option<(Manner, Box<FindHome>)>,
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
    last_success: Option<Wall>,
    tape: Tape,
    retired: bool,
    /// The engine that it lives on, and what is heard of it.
    dwelling: Option<(Arc<Watched>, Subscription)>,
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
    /// Nothing is started on an engine that was not heard yet.
    fn settle_on(&mut self, engine: Arc<Watched>) {
        self.step(Event::EngineAway);
        let server = self.server.clone();
        let name = self.server.name.clone();
        let subscription = engine.subscribe_as(name.as_str(), move |heard| match heard {
            Heard::Up => server.tell(Report::Event(Event::EngineUp, None)),
            Heard::Away(cause, fault) => {
                server.tell(Report::Event(Event::EngineAway, Some(fault.clone())));
                // Then so is all that lives on it.
                if *cause == Cause::Paused {
                    server.tell(Report::Happened(watched::Happened::Paused));
                }
            }
            Heard::Container(happened) => server.tell(Report::Happened(*happened)),
        });
        self.dwelling = Some((engine, subscription));
    }

    fn run(mut self, mut inbox: Receiver<Box<Report>>) {
        loop {
            if self.has_nothing_to_do() {
                match self.rest(inbox) {
                    None => return,
                    Some(again) => (self, inbox) = again,
                }
            }
            let due = self.machine.next_deadline().map(|(at, _)| at);
            let look = self.habits.sleep.as_ref().and_then(Sleep::next_look);
            let report = match due.into_iter().chain(look).min() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_deadline(clock::instant(at)),
            };
            match report {
                Ok(report) => self.take(*report),
                // Too early, it changes nothing.
                Err(RecvTimeoutError::Timeout) => self.step(Event::Due),
                // Not while we live: our own `server` holds a sender.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.sleep_if_idle();
            if self.retired && self.machine.life().is_none() {
                return;
            }
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Event(Event::Want(true) | Event::Restart, _) if self.leaving => {}
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
                self.container = Some(id);
            }
            Report::Progress(life, text) if self.machine.life() == Some(life) => {
                self.progress = Some(text);
                self.publish();
            }
            Report::Contained(..) | Report::Progress(..) => (),
            Report::Happened(happened) => self.happened(happened),
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
        }
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
        let mut actions = Vec::new();
        let dice = fastrand::f64();
        if matches!(
            event,
            Event::SpawnFailed(..) | Event::Failed(..) | Event::Exited(..) | Event::Gone(_) | Event::EngineUp
        ) {
            self.policy.host_ill = self.host.is_ill();
        }
        if matches!(event, Event::Admitted(_)) {
            let failed_before = self.machine.consecutive_failures() > 0;
            self.policy.connect_timeout = self.history.starts.patience(self.habits.ceiling, failed_before);
        }
        self.machine = machine::step(self.machine.clone(), event, now, &self.policy, dice, &mut actions);
        self.tape.record(event, now, &self.policy, dice, &self.machine);
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
        let why = self.last_error.as_ref().map(|(fault, _)| fault);
        self.history.keep(&self.machine, why, now, clock::wall());
        if self.machine.life().is_none() {
            self.adopt_next();
        }
        self.follow_up(event);
        if let Some((event, fault)) = unborn {
            self.heard_fault(event, fault);
            self.step(event);
        }
    }

    /// What is needed to be listed while it sleeps.
    fn keep_known(&self) {
        if self.habits.sleep.is_some() {
            self.history.keep_known(&self.server.known());
        }
    }

    /// Nobody has called it for long enough: whoever does from now on waits for its next life.
    fn sleep_if_idle(&mut self) {
        let Some(sleep) = &mut self.habits.sleep else { return };
        let link = self.server.link();
        if sleep.look(&self.server.name, link.as_deref(), clock::now())
            && let Some(link) = link
        {
            self.server.close(link.life);
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
            self.frozen = self.server.link();
            if let Some(link) = &self.frozen {
                self.server.close(link.life);
            }
        } else if was && !is {
            let link = self.frozen.take()?;
            if self.machine.state() != "ready" || self.machine.life() != Some(link.life) {
                return Some(link);
            }
            self.server.open(link);
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
            let (server, keeper) = (self.server.clone(), self.keeper.clone());
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
