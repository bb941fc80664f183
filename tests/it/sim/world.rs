//! One simulated world: a clock, a heap of causes, real machines, the real gate, real calls, and fake everything else.
//!
//! The shell in here does what the supervisor's threads do, with their races: every message takes a hop, each source
//! has its own lane, orders to a life travel too, and a signal to the unborn misses.

use super::body::{Body, Happening};
use super::cells::Cells;
use super::claims::Checked;
use super::clients::{Client, Ticket};
use super::plants::Plant;
use super::rng::Rng;
use super::shadow::{Glance, Shadow};
use super::swarm::{Fault, Swarm};
use mcpvisor::base::id::{CallId, Life, ServerName};
use mcpvisor::base::time::Time;
use mcpvisor::mcp::calls::Calls;
use mcpvisor::server::gate::{Claim, Gate};
use mcpvisor::server::machine::{Action, Event, Policy, Server, step};
use mcpvisor::server::tape::Tape;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

pub const CHAOS: Duration = Duration::from_secs(3_600);
pub const HEALING: Duration = Duration::from_secs(900);
const ENDING: Duration = Duration::from_secs(120);
const LOG_LINES: usize = 40;

/// What the heap holds. `u8` = which server.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    Tell(u8, Event),
    Turn(u8, u32),
    Ask(u8),
    Hurry(u8),
    Leave(u8),
    GateDue,
    Order(u8, Action),
    Body(u8, Life, Happening),
    Engine(bool, bool),
    EngineNews(u8, bool),
    EngineReply(u8),
    EngineFlaps(Time),
    Chaos,
    Client(u8),
    CallArrives(u8, Life, CallId),
    Answer(u8, Life, CallId),
    Progress(u8, Life, CallId),
    Cancel(u8, u8, u32),
    CallsDue(u8, Life),
    Sweep,
    Heal,
    Healed,
    End,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Time,
    seq: u64,
    cause: Cause,
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq)) // the heap gives the greatest first
    }
}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}

/// One server and its surroundings.
pub struct Actor {
    pub name: ServerName,
    pub server: Server,
    /// What the machine is told, and what the claims hold it to. They differ only under a planted fault.
    pub policy: Policy,
    pub rules: Policy,
    pub needs_engine: bool,
    pub body: Body,
    pub link: Calls<u32>,
    pub shadow: Shadow,
    /// Until then every start of it fails.
    pub cursed_until: Time,
    turn: u32,
    turn_at: Option<Time>,
    from_life: Time,
    to_life: Time,
    from_gate: Time,
    to_gate: Time,
    from_engine: Time,
}

pub struct Engine {
    pub up: bool,
    pub silent: bool,
    /// On the awake clock.
    pub up_since: Option<Time>,
}

#[derive(Clone, Copy)]
struct Line {
    at: Time,
    ix: usize,
    event: Event,
    state: &'static str,
    phase: &'static str,
    actions: [Option<Action>; 3],
}

pub struct Failure {
    pub claim: String,
    pub log: String,
}

pub struct World {
    pub now: Time,
    pub slept: Duration,
    pub leapt_at: Time,
    seq: u64,
    heap: BinaryHeap<Entry>,
    pub rng: Rng,
    pub swarm: Swarm,
    pub plant: Plant,
    pub gate: Gate,
    pub slots_max: usize,
    gate_due_at: Option<Time>,
    newest_life: u64,
    pub actors: Vec<Actor>,
    pub engine: Engine,
    pub clients: Vec<Client>,
    pub tickets: Vec<Ticket>,
    pub open: Vec<u32>,
    pub sessions: u64,
    pub chaos: bool,
    pub restarted: bool,
    ended: bool,
    pub steps: u64,
    pub cells: Cells,
    log: VecDeque<Line>,
    verbose: bool,
    actions: Vec<Action>,
    /// One for each server, if somebody wants them.
    pub tapes: Vec<Tape>,
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl World {
    pub fn new(seed: u64, plant: Plant, verbose: bool) -> World {
        let mut rng = Rng::new(seed);
        let swarm = Swarm::draw(&mut rng);
        let slots_max = rng.range(2, 3) as usize;
        let actors: Vec<Actor> = (0..rng.range(4, 8)).map(|n| actor(n, plant, &mut rng)).collect();
        let clients = (0..rng.range(2, 4)).map(Client::new).collect();
        let mut world = World {
            now: Time::ZERO,
            slept: Duration::ZERO,
            leapt_at: Time::ZERO,
            seq: 0,
            heap: BinaryHeap::with_capacity(256),
            rng,
            swarm,
            plant,
            gate: Gate::new(slots_max + if plant == Plant::GateOverbooks { 1 } else { 0 }),
            slots_max,
            gate_due_at: None,
            newest_life: 0,
            actors,
            engine: Engine { up: true, silent: false, up_since: Some(Time::ZERO) },
            clients,
            tickets: Vec::new(),
            open: Vec::new(),
            sessions: 100,
            chaos: true,
            restarted: false,
            ended: false,
            steps: 0,
            cells: Cells::new(),
            log: VecDeque::with_capacity(LOG_LINES),
            verbose,
            actions: Vec::new(),
            tapes: Vec::new(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for ix in 0..self.actors.len() as u8 {
            let at = self.rng.range(0, 3_000);
            self.after(ms(at), Cause::Tell(ix, Event::Want(true)));
        }
        for client in 0..self.clients.len() as u8 {
            self.after(ms(1_000), Cause::Client(client));
        }
        self.after(ms(5_000), Cause::Chaos);
        self.after(ms(5_000), Cause::Sweep);
        self.after(CHAOS, Cause::Heal);
    }

    /// Until the end, or the first claim that fails.
    pub fn run(&mut self) -> Result<(), Failure> {
        while !self.ended {
            let entry = self.heap.pop().expect("the sweep is always in the heap");
            self.now = self.now.max(entry.at);
            self.happen(entry.cause).map_err(|claim| Failure { claim, log: self.print_log() })?;
        }
        Ok(())
    }

    /// Time without the hours in which the machine slept.
    pub fn awake(&self) -> Time {
        Time(self.now.0 - self.slept)
    }

    /// The machine slept a moment ago, and everything is late.
    pub fn just_woke(&self) -> bool {
        self.slept > Duration::ZERO && self.awake() - self.leapt_at < ms(5_000)
    }

    pub fn after(&mut self, span: Duration, cause: Cause) {
        self.at(self.now + span, cause);
    }

    fn at(&mut self, at: Time, cause: Cause) {
        self.seq += 1;
        self.heap.push(Entry { at, seq: self.seq, cause });
    }

    /// From one thread to another.
    pub fn hop(&mut self) -> Duration {
        let slow = self.swarm.has(Fault::SlowShell) && self.rng.chance(5);
        ms(self.rng.range(0, if slow { 300 } else { 3 }))
    }

    pub fn faulty(&mut self, fault: Fault, percent: u64) -> bool {
        self.chaos && self.swarm.has(fault) && self.rng.chance(percent)
    }

    fn happen(&mut self, cause: Cause) -> Checked {
        match cause {
            Cause::Tell(ix, event) => self.feed(ix.into(), event)?,
            Cause::Turn(ix, turn) => self.turn(ix.into(), turn)?,
            Cause::Ask(ix) => {
                // Some are known to be quick; where that passes others over, it must end.
                let hold = (ix % 3 == 0).then(|| ms(u64::from(ix) * 100));
                let claim = Claim { awaited: false, hold, place: (ix.into(), 1) };
                let admitted = self.gate.ask(self.actors[ix as usize].name.clone(), claim, self.now);
                self.admit(admitted);
            }
            Cause::Hurry(ix) => self.gate.hurry(&self.actors[ix as usize].name),
            Cause::Leave(ix) => {
                let admitted = self.gate.leave(&self.actors[ix as usize].name.clone(), self.now);
                if self.plant != Plant::GateForgets {
                    self.admit(admitted);
                }
            }
            Cause::GateDue => {
                self.gate_due_at = None;
                if self.plant != Plant::GateNoPatience {
                    let admitted = self.gate.due(self.now);
                    self.admit(admitted);
                }
            }
            Cause::Order(ix, action) => self.order(ix.into(), action)?,
            Cause::Body(ix, life, happening) => self.body(ix, life, happening),
            Cause::Engine(up, silent) => self.engine_moves(up, silent),
            Cause::EngineNews(ix, up) => {
                self.feed(ix.into(), if up { Event::EngineUp } else { Event::EngineAway })?;
            }
            Cause::EngineReply(ix) => {
                if self.engine.up || !self.engine.silent {
                    self.engine_tells(ix, self.engine.up, Duration::ZERO);
                }
            }
            Cause::EngineFlaps(until) => self.engine_flaps(until),
            Cause::Chaos => self.chaos_tick(),
            Cause::Client(client) => self.client_tick(client)?,
            Cause::CallArrives(ix, life, id) => self.call_arrives(ix, life, id),
            Cause::Answer(ix, life, id) => self.answer(ix.into(), life, id)?,
            Cause::Progress(ix, life, id) => self.progress(ix.into(), life, id),
            Cause::Cancel(client, ix, request) => self.cancel(client.into(), ix.into(), request)?,
            Cause::CallsDue(ix, life) => self.calls_due(ix, life)?,
            Cause::Sweep => {
                self.sweep()?;
                self.after(ms(5_000), Cause::Sweep);
            }
            Cause::Heal => self.heal(),
            Cause::Healed => {
                self.check_healed()?;
                (0..self.actors.len() as u8)
                    .for_each(|ix| self.after(ms(0), Cause::Tell(ix, Event::Want(false))));
                self.after(ENDING, Cause::End);
            }
            Cause::End => {
                self.check_ended()?;
                self.ended = true;
            }
        }
        Ok(())
    }

    /// The supervisor's turn: one event, one step, its actions.
    fn feed(&mut self, ix: usize, event: Event) -> Checked {
        let awake = self.awake();
        let actor = &mut self.actors[ix];
        actor.shadow.settle(actor.server.state(), &actor.rules, self.now);
        let before = Glance::of(&actor.server, &actor.shadow);
        self.cells.visit(&actor.server, event, actor.shadow.newest, self.now);
        actor.shadow.hear(event, before.state, self.now, awake);
        if let Some(heard) = self.plant.event(&actor.server, event) {
            self.advance(ix, heard)?;
        }
        if let Some(extra) = self.plant.extra(event, &self.actors[ix].server) {
            self.advance(ix, extra)?;
        }
        self.watch(ix, &before, event, awake);
        self.check_step(ix, &before, event)?;
        self.plan_turn(ix);
        if self.chaos && self.actors[ix].shadow.phase_since == awake && self.rng.chance(3) {
            self.meddle(ix);
        }
        Ok(())
    }

    fn advance(&mut self, ix: usize, event: Event) -> Checked {
        let dice = self.rng.dice();
        let mut actions = std::mem::take(&mut self.actions);
        let actor = &mut self.actors[ix];
        let phase = actor.server.phase();
        let blank = Server::new(false, false, Time::ZERO);
        let server = std::mem::replace(&mut actor.server, blank);
        actor.server = step(server, event, self.now, &actor.policy, dice, &mut actions);
        self.steps += 1;
        if let Some(tape) = self.tapes.get_mut(ix) {
            tape.record(event, self.now, &actor.policy, dice, &actor.server);
        }
        self.plant.actions(phase, event, &mut actions);
        self.write_log(ix, event, &actions);
        for action in actions.drain(..) {
            self.check_action(ix, action)?;
            self.obey(ix, action);
        }
        self.actions = actions;
        Ok(())
    }

    /// Keeps the shadow's own books.
    fn watch(&mut self, ix: usize, before: &Glance, event: Event, awake: Time) {
        let now = self.now;
        let actor = &mut self.actors[ix];
        let (server, shadow) = (&actor.server, &mut actor.shadow);
        let (state, phase) = (server.state(), server.phase());
        if state != before.state {
            shadow.state_since = awake;
        }
        if state != before.state || phase != before.phase {
            shadow.phase_since = awake;
        }
        if before.phase == "doubt" && phase != "doubt" && event == Event::Due {
            shadow.engine_away = true; // silence speaks against the engine
        }
        let booked = server.failures() > before.failures && matches!(state, "backoff" | "auto_disabled");
        let streak = server.consecutive_failures();
        let settled = before.state == "ready" && !shadow.forgiven && streak == u32::from(booked);
        if settled && before.streak > 0 && shadow.given_up > 0 {
            // It was well for long enough: what it was given up for is history.
            shadow.given_up = 0;
            shadow.tally.clear();
        }
        shadow.on_probation = shadow.given_up > 0;
        if booked {
            shadow.book(&actor.rules, now);
        }
        if booked && state == "auto_disabled" {
            shadow.given_up += 1;
            shadow.retry_at = server.next_retry();
        }
        if let Event::NotBefore(life, pause) = event
            && before.life == Some(life)
        {
            shadow.asked_to_wait = true;
            if matches!(before.state, "connecting" | "ready") {
                shadow.not_before = Some(now + pause);
            }
        } else if state == "ready" && before.state != "ready" {
            shadow.not_before = None;
        }
        match state {
            "ready" => {
                shadow.proven = true;
                let since = shadow.ready_at.filter(|_| before.state == "ready");
                shadow.ready_at = Some(since.unwrap_or(now));
            }
            "stopping" => (),
            // Frozen in the middle of being ready.
            "waiting" if server.life().is_some() => (),
            _ if before.life.is_some() && server.life().is_none() => (),
            // The step that paused its container may have settled it first.
            _ if before.state == "ready" => (),
            _ => shadow.ready_at = None,
        }
        if state == "backoff" && before.state != "backoff" {
            shadow.retry_at = server.next_retry();
        }
        if phase == "reconnect"
            && before.phase != "reconnect"
            && let Some((_, rungs)) = &mut shadow.incident
        {
            *rungs += 1;
        }
        let answered = event == Event::ProbeOk(server.life().unwrap_or(Life(0)));
        if state != "ready" || answered || shadow.engine_away {
            shadow.asked_at = None;
        }
        if state != "sleeping" {
            shadow.wake_since = None;
        }
    }

    fn plan_turn(&mut self, ix: usize) {
        let actor = &mut self.actors[ix];
        let next = actor.server.next_deadline().map(|(at, _)| at);
        if next == actor.turn_at {
            return;
        }
        actor.turn_at = next;
        actor.turn += 1;
        let turn = actor.turn;
        if let Some(at) = next {
            let late = self.hop();
            self.at(at.max(self.now) + late, Cause::Turn(ix as u8, turn));
        }
    }

    fn turn(&mut self, ix: usize, turn: u32) -> Checked {
        if self.actors[ix].turn != turn {
            return Ok(());
        }
        self.actors[ix].turn_at = None;
        self.feed(ix, Event::Due)?;
        if self.faulty(Fault::Echo, 2) {
            let late = self.rng.range(0, 60_000);
            self.after(ms(late), Cause::Tell(ix as u8, Event::Due));
        }
        Ok(())
    }

    fn obey(&mut self, ix: usize, action: Action) {
        let hop = self.hop();
        let n = ix as u8;
        match action {
            Action::AskGate | Action::Hurry | Action::LeaveGate => {
                let lane = &mut self.actors[ix].to_gate;
                *lane = (*lane).max(self.now + hop);
                let at = *lane;
                let cause = match action {
                    Action::AskGate => Cause::Ask(n),
                    Action::Hurry => Cause::Hurry(n),
                    _ => Cause::Leave(n),
                };
                self.at(at, cause);
            }
            Action::Launch(life) => self.launch(ix, life),
            Action::Probe(_)
            | Action::CloseInput(_)
            | Action::Term(_)
            | Action::Kill(_)
            | Action::Clear(_) => {
                let lane = &mut self.actors[ix].to_life;
                *lane = (*lane).max(self.now + hop);
                let at = *lane;
                self.at(at, Cause::Order(n, action));
            }
            Action::AskEngine => {
                let slow = self.faulty(Fault::EngineSilent, 3);
                let trip = self.rng.range(1, if slow { 3_000 } else { 60 });
                self.after(ms(trip), Cause::EngineReply(n));
            }
        }
    }

    fn admit(&mut self, admitted: Vec<ServerName>) {
        for name in admitted {
            let ix = self.actors.iter().position(|actor| actor.name == name).expect("only our servers ask");
            self.newest_life += 1;
            let event = Event::Admitted(Life(self.newest_life));
            let hop = self.hop();
            let lane = &mut self.actors[ix].from_gate;
            *lane = (*lane).max(self.now + hop);
            let at = *lane;
            self.at(at, Cause::Tell(ix as u8, event));
            self.echo(ix, event);
        }
        if let Some(due) = self.gate.next_deadline()
            && self.gate_due_at.is_none_or(|at| due < at)
        {
            self.gate_due_at = Some(due);
            self.at(due.max(self.now), Cause::GateDue);
        }
    }

    /// The engine's thread tells one thing after the other.
    pub fn engine_tells(&mut self, ix: u8, up: bool, late: Duration) {
        let lane = &mut self.actors[ix as usize].from_engine;
        *lane = (*lane).max(self.now + late);
        let at = *lane;
        self.at(at, Cause::EngineNews(ix, up));
    }

    fn echo(&mut self, ix: usize, event: Event) {
        if self.faulty(Fault::Echo, 7) {
            let latest = self.rng.pick(&[2_000, 10_000, 60_000]);
            let late = self.rng.range(400, latest);
            self.after(ms(late), Cause::Tell(ix as u8, event));
        }
    }

    /// From the life's thread to the supervisor, in order.
    pub fn tell(&mut self, ix: usize, event: Event) {
        let hop = self.hop();
        let lane = &mut self.actors[ix].from_life;
        *lane = (*lane).max(self.now + hop);
        let at = *lane;
        self.at(at, Cause::Tell(ix as u8, event));
        self.echo(ix, event);
    }

    fn write_log(&mut self, ix: usize, event: Event, actions: &[Action]) {
        let server = &self.actors[ix].server;
        let mut line = Line {
            at: self.now,
            ix,
            event,
            state: server.state(),
            phase: server.phase(),
            actions: [None; 3],
        };
        line.actions.iter_mut().zip(actions).for_each(|(slot, action)| *slot = Some(*action));
        if self.verbose {
            eprintln!("{}", self.print_line(&line));
        }
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    fn print_line(&self, line: &Line) -> String {
        let actions: Vec<Action> = line.actions.iter().flatten().copied().collect();
        let event = format!("{:?}", line.event);
        let seconds = line.at.as_ms() as f64 / 1000.0;
        format!("{seconds:>12.3} s{} {event:<32} -> {} {} {actions:?}", line.ix, line.state, line.phase)
    }

    fn print_log(&self) -> String {
        self.log.iter().map(|line| self.print_line(line) + "\n").collect()
    }
}

fn actor(n: u64, plant: Plant, rng: &mut Rng) -> Actor {
    let needs_engine = rng.chance(40);
    let asleep = rng.chance(20);
    let mut rules = Policy { lazy: asleep || rng.chance(20), ..Policy::default() };
    rules.probe_every = rng.pick(&[Some(15_000), Some(15_000), Some(60_000), None]).map(ms);
    rules.auto_disable = rng.chance(85);
    let mut policy = rules.clone();
    plant.policy(&mut policy);
    Actor {
        name: ServerName(format!("s{n}")),
        server: Server::new(needs_engine, asleep, Time::ZERO),
        policy,
        rules,
        needs_engine,
        body: Body::none(),
        link: Calls::new(),
        shadow: Shadow::new(),
        cursed_until: Time::ZERO,
        turn: 0,
        turn_at: None,
        from_life: Time::ZERO,
        to_life: Time::ZERO,
        from_gate: Time::ZERO,
        to_gate: Time::ZERO,
        from_engine: Time::ZERO,
    }
}
