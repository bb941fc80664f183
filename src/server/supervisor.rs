//! The thread that owns one server: `recv -> step -> act`, and nothing else.
//!
//! It ends when the server is retired and off.

use super::board::Board;
use super::handle::{Report, Server, Traits};
use super::launch::Launch;
use super::life::{self, Birth};
use super::link::Link;
use super::machine::{self, Action, Event, Policy};
use super::orders::{Order, Orders};
use super::status::{Happened, Status};
use super::tape::Tape;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, ServerName};
use crate::base::limits::INBOX_MESSAGES_MAX;
use crate::base::text;
use crate::base::time::{Time, Wall};
use crate::engine::outage::Cause;
use crate::engine::watched::{self, Heard, Settled, Subscription, Watched};
use crate::mcp::items::Kind;
use crate::reaper::keeper::Keeper;
use crate::sys::{clock, thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a supervisor asks of the start gate, which `main` owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateRequest {
    Ask(ServerName),
    Leave(ServerName),
}

/// Works out what a life runs; asked anew for every life, so that `${env:NAME}` is what it is then.
pub type Plan = dyn Fn(Life) -> Result<Launch, Fault> + Send;

/// Everything that a supervisor starts with.
pub struct Charge {
    pub name: ServerName,
    pub slug: crate::base::id::Slug,
    pub policy: Policy,
    pub traits: Traits,
    pub plan: Box<Plan>,
    /// The engine that it lives on: while that is away, nothing is the server's fault.
    pub engine: Option<Arc<Watched>>,
    /// Where lives are written down, so that they can be found whatever dies.
    pub keeper: Arc<Keeper>,
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
    gate: impl Fn(GateRequest) + Send + 'static,
) -> io::Result<(Arc<Server>, JoinHandle<()>)> {
    let (sender, inbox): (Sender<Report>, Receiver<Report>) = bounded(INBOX_MESSAGES_MAX);
    let machine = machine::Server::new(charge.engine.is_some(), false, clock::now());
    let first = first_status(&charge, &machine);
    let server = Arc::new(Server::new(first, charge.traits, board, sender));
    let tape = Tape::new(&machine);
    let name = format!("sup:{}", server.slug);
    let mut supervisor = Supervisor {
        server: server.clone(),
        machine,
        policy: charge.policy,
        plan: charge.plan,
        keeper: charge.keeper,
        gate: Box::new(gate),
        orders: None,
        pid: None,
        container: None,
        progress: None,
        last_error: None,
        last_success: None,
        tape,
        retired: false,
        dwelling: None,
        recovering: false,
        frozen: None,
    };
    if let Some(engine) = charge.engine {
        supervisor.settle_on(engine);
    }
    if let Some(problem) = charge.problem {
        let event = Event::Block(Some(problem.kind));
        supervisor.take(Report::Event(event, Some(problem)));
    }
    if charge.wanted {
        supervisor.step(Event::Want(true));
    }
    let handle = thread::spawn_vital(&name, move || supervisor.run(&inbox))?;
    Ok((server, handle))
}

struct Supervisor {
    server: Arc<Server>,
    machine: machine::Server,
    policy: Policy,
    plan: Box<Plan>,
    keeper: Arc<Keeper>,
    gate: Box<dyn Fn(GateRequest) + Send>,
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
}

impl Supervisor {
    /// Nothing is started on an engine that was not heard yet.
    fn settle_on(&mut self, engine: Arc<Watched>) {
        self.step(Event::EngineAway);
        let server = self.server.clone();
        let subscription = engine.subscribe(move |heard| match heard {
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

    fn run(mut self, inbox: &Receiver<Report>) {
        loop {
            let report = match self.machine.next_deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => inbox.recv_deadline(clock::instant(at)),
            };
            match report {
                Ok(report) => self.take(report),
                Err(RecvTimeoutError::Timeout) => self.step(Event::Due),
                // Not while we live: our own `server` holds a sender.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.retired && self.machine.life().is_none() {
                return;
            }
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Event(event, fault) => {
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
                self.publish();
            }
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
        self.machine = machine::step(self.machine.clone(), event, now, &self.policy, dice, &mut actions);
        self.tape.record(event, now, &self.policy, dice, &self.machine);
        let after = (self.machine.state(), self.machine.phase());
        let left = self.freeze_or_thaw(before.1);
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
        self.settle(event);
        if let Some((event, fault)) = unborn {
            self.heard_fault(event, fault);
            self.step(event);
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

    /// Says of a recovery of its engine how it went for this server.
    fn settle(&mut self, event: Event) {
        let Some((_, subscription)) = &self.dwelling else { return };
        if event == Event::EngineUp {
            self.recovering = true;
        }
        let how = match self.machine.state() {
            _ if !self.recovering => return,
            "ready" if self.machine.is_in_question() => return,
            // It had nothing there.
            "disabled" | "sleeping" => Settled::Unhurt,
            "ready" if event == Event::EngineUp => Settled::Unhurt,
            "ready" => Settled::Back,
            "backoff" | "parked" | "auto_disabled" => Settled::Failed,
            "waiting" if self.machine.phase() == "host" => Settled::Failed,
            _ => return,
        };
        self.recovering = false;
        subscription.settled(how);
    }

    /// Faults that the machine finds by itself: nobody else could put them into words.
    fn own_verdict(&mut self, event: Event, frozen: Option<Arc<Link>>) {
        let name = &self.server.name;
        let mut told = None;
        let fault = match self.machine.reason() {
            // Nobody asked for it, and it is no fault of its own: what was frozen has not come back.
            None if event == Event::Due => {
                let message = format!("{name} did not answer when it could go on, and is replaced");
                let unknown = Fault::new(FaultKind::OutcomeUnknown, message.clone());
                told = Some(unknown.hint("it may have done what was asked; look before you repeat it"));
                Fault::new(FaultKind::Deaf, message)
            }
            Some(kind @ FaultKind::ConnectTimeout) => {
                let patience = text::span(self.policy.connect_timeout);
                Fault::new(kind, format!("{name} was not ready within {patience}"))
                    .hint("if it is slow to start, raise \"connection_timeout\"; else see its log")
            }
            Some(FaultKind::ContainerPaused) => self.untold(FaultKind::ContainerPaused),
            Some(kind @ FaultKind::Deaf) => {
                let misses = self.policy.probe_misses;
                Fault::new(kind, format!("{name} left {misses} pings in a row unanswered")).hint("it hangs")
            }
            _ => return,
        };
        // Whoever waits is told now: the process may take the whole ladder to end.
        if let Some(link) = self.server.link().or(frozen) {
            link.life_over(told.as_ref().unwrap_or(&fault));
            self.server.close(link.life);
        }
        self.last_error = Some((fault, clock::wall()));
    }

    /// Returns the end of a life that could not even begin.
    fn act(&mut self, action: Action) -> Option<(Event, Fault)> {
        match action {
            Action::AskGate => (self.gate)(GateRequest::Ask(self.server.name.clone())),
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
            life::begin(Birth { life, server, orders, keeper }, (self.plan)(life))
        });
        let error = begun.err()?;
        let message = format!("start a thread for {}: {error}", self.server.name);
        let fault =
            Fault::new(FaultKind::HostResources, message).hint("the host is out of files, threads or memory");
        Some((Event::SpawnFailed(life, fault.kind), fault))
    }

    /// One line per transition, for people: in the main log and in the server's own.
    fn announce(&mut self, event: Event, before: &str, now: Time) {
        let name = &self.server.name;
        let state = self.machine.state();
        let life = self.machine.life().map(|life| format!(" (life {life})")).unwrap_or_default();
        let why = self.reason().map(|fault| fault.to_string()).unwrap_or_default();
        let line = match state {
            "backoff" | "waiting" => {
                let wait =
                    self.machine.next_retry().map(|at| format!("; retry in {}", text::span(at.since(now))));
                format!("{state}: {why}{}", wait.unwrap_or_default())
            }
            "parked" | "auto_disabled" => format!("{state}: {why}"),
            "ready" => {
                format!(
                    "ready{life}, {} tools",
                    self.server.known().list(Kind::Tools).map_or(0, |tools| tools.len())
                )
            }
            _ => format!("{state}{life}"),
        };
        self.server.note(&line);
        match state {
            "parked" | "auto_disabled" => {
                log::error!("{name}: {line}");
                log::debug!("{name}: the last events of its machine:\n{}", self.tape.print(&self.policy));
            }
            // Not yet heard: whether there is anything to warn of is known in a moment.
            "waiting" if self.launched_nothing() => log::debug!("{name}: {line}"),
            "backoff" | "waiting" => log::warn!("{name}: {line}"),
            "ready" | "disabled" | "sleeping" => log::info!("{name}: {line}"),
            _ => log::debug!("{name}: {before} -> {line} by {event:?}"),
        }
    }

    /// Why it is not running, and what ends that.
    fn reason(&self) -> Option<Fault> {
        let kind = self.machine.reason().filter(|_| self.machine.state() != "stopping")?;
        let told = self.last_error.as_ref().map(|(fault, _)| fault).filter(|fault| fault.kind == kind);
        let mut reason = told.cloned().unwrap_or_else(|| self.untold(kind));
        if self.machine.state() == "auto_disabled" {
            let tries = self.machine.tally().len();
            reason.message = format!("given up after {tries} failures: {}", reason.message);
        }
        Some(reason)
    }

    /// It waits for its engine from the beginning.
    fn launched_nothing(&self) -> bool {
        self.machine.phase() == "engine" && self.last_error.is_none()
    }

    /// A reason that came without words.
    fn untold(&self, kind: FaultKind) -> Fault {
        match (kind, &self.dwelling) {
            (FaultKind::EngineAway, Some((engine, _))) => {
                let endpoint = engine.engine().endpoint();
                Fault::new(kind, format!("engine {endpoint} has not answered yet"))
            }
            (FaultKind::ContainerPaused, _) => {
                let id: String = self.container.iter().flat_map(|id| id.chars().take(12)).collect();
                Fault::new(kind, format!("somebody has paused its container {id}"))
                    .hint(format!("docker unpause {id}: the same container goes on"))
            }
            (kind, _) => Fault::new(kind, kind.name()),
        }
    }

    fn publish(&self) {
        let (now, wall) = (clock::now(), clock::wall());
        let at = |time: Time| {
            let past = now.since(time).as_millis() as u64;
            let ahead = time.since(now).as_millis() as u64;
            // The wall clock may have been set back, even to 1970.
            Wall((wall.0 + ahead).saturating_sub(past)).rfc3339()
        };
        let known = self.server.known();
        let last_error = self.last_error.clone();
        let phase = self.machine.phase();
        let reason = self.reason();
        let status = Status {
            name: self.server.name.clone(),
            slug: self.server.slug.clone(),
            state: self.machine.state(),
            phase: (!phase.is_empty()).then_some(phase),
            since: at(self.machine.since()),
            pid: self.pid,
            container: self.container.clone(),
            progress: self.progress.clone(),
            life: self.machine.life(),
            tools: known.list(Kind::Tools).map_or(0, |tools| tools.len()),
            protocol: known.greeting.as_ref().map(|greeting| greeting.version.clone()),
            era: known.greeting.map(|greeting| greeting.era),
            restarts: self.machine.restarts(),
            failures: self.machine.failures(),
            consecutive_failures: self.machine.consecutive_failures(),
            last_success_at: self.last_success.map(Wall::rfc3339),
            last_error: last_error.map(|(fault, at)| Happened { fault, at: at.rfc3339() }),
            next_retry_at: self.machine.next_retry().map(at),
            reason,
            calls: 0,
        };
        self.server.show(status, self.machine.since(), self.machine.next_retry());
    }
}

fn first_status(charge: &Charge, machine: &machine::Server) -> Status {
    Status {
        name: charge.name.clone(),
        slug: charge.slug.clone(),
        state: machine.state(),
        phase: None,
        since: clock::wall().rfc3339(),
        pid: None,
        container: None,
        progress: None,
        life: None,
        tools: 0,
        protocol: None,
        era: None,
        restarts: 0,
        failures: 0,
        consecutive_failures: 0,
        last_success_at: None,
        last_error: None,
        next_retry_at: None,
        reason: None,
        calls: 0,
    }
}
