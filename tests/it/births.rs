//! Births and removals of containers against a simulated engine, in virtual time: 10,000 schedules in which the engine
//! fails, is slow, answers late what it has done, or goes away, and in which the daemon is killed. Never two live
//! containers for one server; never one that nobody owns; a stranger's is never touched. `BIRTHS_SEED=n` replays one.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests fail by panicking")]

use crate::sim::rng::Rng;
use mcpvisor::base::fault::FaultKind;
use mcpvisor::reaper::removal::{self, Removal, Removed, Rules};
use mcpvisor::server::container::birth::{self, Answer, Ask, Birth, Failure, Holder, Next, Owed, Slot};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

const SCHEDULES: u64 = 10_000;
const SERVERS: usize = 2;
/// Milliseconds in which things go wrong, and then in which they must come to rest.
const TROUBLED: u64 = 120_000;
const HEALED: u64 = 400_000;
/// No request of a client that is gone takes effect later than this.
const LATEST: u64 = 20_000;

#[derive(Clone, Debug)]
struct Container {
    name: String,
    server: usize,
    session: u64,
    life: u64,
    running: bool,
    ours: bool,
}

/// What the engine does when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Create {
        name: String,
        server: usize,
        session: u64,
        life: u64,
    },
    Start(u64),
    Remove(u64),
    /// A container ends by itself, and the engine removes it (AutoRemove).
    Dies(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Effect(Effect),
    /// The answer to what an actor of this session asked.
    Answer(u64, Actor, Reply),
    /// A life has lasted long enough, or the next one is due.
    Turn(u64, usize),
    PayDebts(u64),
    Sweep(u64),
    Kill,
    Restart,
    EngineDown,
    EngineUp,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Actor {
    Server(usize),
    /// Pays what is owed.
    Payer,
    /// After a death: sweeps the session before this one.
    Sweep,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reply {
    Birth(usize),
    Removal(u8),
    Listed(Option<Vec<u64>>),
}

#[derive(Debug)]
enum Doing {
    Resting,
    Birth { machine: Box<Birth>, life: u64, made: Option<u64> },
    Living { id: u64, life: u64 },
    Removing { machine: Removal, id: u64, life: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Debt {
    id: Option<u64>,
    server: usize,
    session: u64,
    life: u64,
    since: u64,
}

/// What is left to be swept, and what is being removed.
type Sweeping = (VecDeque<u64>, Option<(Removal, u64)>);

struct World {
    rng: Rng,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<std::cmp::Reverse<(u64, u64, Happening)>>,
    engine_up: bool,
    containers: BTreeMap<u64, Container>,
    next_id: u64,
    strangers: BTreeSet<u64>,
    // The daemon.
    session: u64,
    alive: bool,
    next_life: u64,
    doing: Vec<Doing>,
    /// Kept in the state database: they outlive the daemon.
    debts: Vec<Debt>,
    paying: Option<(usize, Removal, u64)>,
    sweeping: Option<Sweeping>,
    /// Nothing is created before the sweep of the session before.
    swept: bool,
    second_sweep: bool,
    answers: Vec<Answer>,
    log: VecDeque<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            rng: Rng::new(seed),
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            engine_up: true,
            containers: BTreeMap::new(),
            next_id: 1,
            strangers: BTreeSet::new(),
            session: 1,
            alive: true,
            next_life: 1,
            doing: (0..SERVERS).map(|_| Doing::Resting).collect(),
            debts: Vec::new(),
            paying: None,
            sweeping: None,
            swept: true,
            second_sweep: false,
            answers: Vec::new(),
            log: VecDeque::new(),
        };
        // A stranger may have the name of a slot.
        if world.rng.chance(30) {
            let server = world.rng.below(SERVERS);
            let id = world.add(Container { ours: false, running: true, ..container(server, 0, 0, Slot::A) });
            world.strangers.insert(id);
        }
        for server in 0..SERVERS {
            world.after(10, Happening::Turn(1, server));
        }
        world.after(500, Happening::PayDebts(1));
        for _ in 0..world.rng.range(0, 4) {
            let at = world.rng.range(0, TROUBLED);
            world.after(at, Happening::Kill);
        }
        for _ in 0..world.rng.range(0, 4) {
            let at = world.rng.range(0, TROUBLED);
            world.after(at, Happening::EngineDown);
        }
        world
    }

    fn add(&mut self, container: Container) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.containers.insert(id, container);
        id
    }

    fn after(&mut self, ms: u64, what: Happening) {
        self.sequence += 1;
        self.queue.push(std::cmp::Reverse((self.now + ms, self.sequence, what)));
    }

    fn troubled(&self) -> bool {
        self.now < TROUBLED
    }

    fn note(&mut self, text: String) {
        if self.log.len() == 60 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:>8} {text}", self.now));
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(std::cmp::Reverse((at, _, what))) = self.queue.pop() {
            if at > TROUBLED + HEALED {
                break;
            }
            self.now = at;
            self.happen(what);
            self.check()?;
        }
        self.check_at_the_end()
    }

    /// At most one runs per server, and strangers stay.
    fn check(&self) -> Result<(), String> {
        for server in 0..SERVERS {
            let live: Vec<_> =
                self.containers.iter().filter(|(_, c)| c.ours && c.running && c.server == server).collect();
            if live.len() > 1 {
                return Err(format!("two live containers of server {server}: {live:?}"));
            }
        }
        if self.strangers.iter().any(|id| !self.containers.contains_key(id)) {
            return Err("a stranger's container was removed".to_owned());
        }
        Ok(())
    }

    /// Every container is the current life's of its server.
    fn check_at_the_end(&self) -> Result<(), String> {
        for (id, container) in self.containers.iter().filter(|(_, c)| c.ours) {
            let owner = match &self.doing[container.server] {
                Doing::Living { id, .. } | Doing::Removing { id, .. } => Some(*id),
                Doing::Birth { made, .. } => *made,
                Doing::Resting => None,
            };
            if owner != Some(*id) {
                return Err(format!("nobody owns {id} {container:?}; debts {:?}", self.debts));
            }
        }
        let lives = self.doing.iter().filter(|doing| matches!(doing, Doing::Living { .. })).count();
        if self.alive && lives == 0 && self.debts.is_empty() {
            return Err(format!("healed for {} s, and no server lives: {:?}", HEALED / 1000, self.doing));
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Effect(effect) => self.effect(&effect),
            Happening::Answer(session, actor, reply) if session == self.session && self.alive => {
                self.hear(actor, reply);
            }
            Happening::Turn(session, server) if session == self.session && self.alive => self.turn(server),
            Happening::Sweep(session) if session == self.session && self.alive => self.list_for_sweep(),
            Happening::PayDebts(session) if session == self.session && self.alive => self.pay(),
            Happening::Kill if self.alive && self.troubled() => self.kill(),
            Happening::Restart => self.restart(),
            Happening::EngineDown if self.engine_up && self.troubled() => {
                self.note("the engine is away".to_owned());
                self.engine_up = false;
                let long = self.rng.range(100, 40_000);
                self.after(long, Happening::EngineUp);
            }
            Happening::EngineUp => {
                self.note("the engine is back".to_owned());
                self.engine_up = true;
            }
            _ => (),
        }
    }

    fn effect(&mut self, effect: &Effect) {
        self.note(format!("effect {effect:?}"));
        match effect {
            Effect::Create { name, server, session, life } => {
                if self.containers.values().all(|c| c.name != *name) {
                    let container = Container {
                        name: name.clone(),
                        server: *server,
                        session: *session,
                        life: *life,
                        running: false,
                        ours: true,
                    };
                    self.add(container);
                }
            }
            Effect::Start(id) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.running = true;
                }
            }
            Effect::Remove(id) | Effect::Dies(id) => {
                self.containers.remove(id);
            }
        }
    }

    /// What becomes of a question that changes something: done and answered; done, and the answer lost; done late;
    /// refused; never done.
    fn change(&mut self, effect: Effect) -> Outcome {
        if !self.engine_up {
            return if self.rng.chance(50) { Outcome::Refused } else { Outcome::Lost };
        }
        let sound = !self.troubled() || self.rng.chance(80);
        if sound {
            self.effect(&effect);
            return Outcome::Done;
        }
        match self.rng.range(0, 4) {
            0 => {
                self.effect(&effect);
                Outcome::Lost
            }
            1 => {
                let late = self.rng.range(10, LATEST);
                self.after(late, Happening::Effect(effect));
                Outcome::Lost
            }
            2 => Outcome::Lost,
            _ => Outcome::Error,
        }
    }

    /// Whether a question that changes nothing is answered.
    fn answers(&mut self) -> Outcome {
        match () {
            () if !self.engine_up => Outcome::Refused,
            () if !self.troubled() || self.rng.chance(90) => Outcome::Done,
            () if self.rng.chance(50) => Outcome::Lost,
            () => Outcome::Error,
        }
    }

    // The daemon.

    fn turn(&mut self, server: usize) {
        if !self.swept {
            return self.after(300, Happening::Turn(self.session, server));
        }
        match std::mem::replace(&mut self.doing[server], Doing::Resting) {
            Doing::Resting => {
                let life = self.next_life;
                self.next_life += 1;
                let (machine, ask) = Birth::begin(true, self.rng.chance(5));
                self.doing[server] = Doing::Birth { machine: Box::new(machine), life, made: None };
                self.ask(server, ask);
            }
            Doing::Living { id, life } => {
                let (machine, ask) = Removal::begin(Rules::default());
                self.doing[server] = Doing::Removing { machine, id, life };
                self.ask_removal(Actor::Server(server), ask, id, (server, self.session, Some(life)));
            }
            other => self.doing[server] = other,
        }
    }

    fn ask(&mut self, server: usize, ask: Ask) {
        let answer = self.answer(server, &ask);
        self.note(format!("server {server} {ask:?} -> {answer:?}"));
        let late = matches!(answer, Answer::Failed(Failure { in_doubt: true, .. }));
        let wait = match () {
            () if ask == Ask::Pause => 500,
            () if late => self.rng.range(1_000, 10_000),
            () => self.rng.range(1, 60),
        };
        self.answers.push(answer);
        let reply = Reply::Birth(self.answers.len() - 1);
        self.after(wait, Happening::Answer(self.session, Actor::Server(server), reply));
    }

    fn answer(&mut self, server: usize, ask: &Ask) -> Answer {
        let Doing::Birth { life, .. } = self.doing[server] else { unreachable!() };
        if self.troubled() && self.rng.chance(2) && !matches!(ask, Ask::Discard(..)) {
            return Answer::Cancelled;
        }
        match ask {
            Ask::Pause | Ask::Record(_) => Answer::Done,
            Ask::Predecessors => match self.answers() {
                Outcome::Done => Answer::Found(
                    self.containers
                        .iter()
                        .filter(|(_, c)| c.ours && c.server == server)
                        .map(|(id, _)| id.to_string())
                        .collect(),
                ),
                outcome => outcome.answer(),
            },
            Ask::Holder(slot) => match self.answers() {
                Outcome::Done => {
                    let name = container(server, 0, 0, *slot).name;
                    let holder = self.containers.iter().find(|(_, c)| c.name == name);
                    Answer::Holder(match holder {
                        None => Holder::Nobody,
                        Some((id, c)) if c.ours && c.server == server => Holder::Ours(id.to_string()),
                        Some(_) => Holder::Stranger,
                    })
                }
                outcome => outcome.answer(),
            },
            Ask::Remove(id) => self.change(Effect::Remove(id.parse().unwrap())).answer(),
            Ask::Create(slot) => {
                let Container { name, .. } = container(server, 0, 0, *slot);
                if self.engine_up && self.containers.values().any(|c| c.name == name) {
                    return Answer::NameTaken;
                }
                if self.engine_up && self.rng.chance(5) {
                    return Answer::NoSuchImage;
                }
                let session = self.session;
                match self.change(Effect::Create { name: name.clone(), server, session, life }) {
                    Outcome::Done => {
                        let (id, _) = self.containers.iter().find(|(_, c)| c.name == name).unwrap();
                        Answer::Created(id.to_string())
                    }
                    outcome => outcome.answer(),
                }
            }
            Ask::Pull | Ask::Attach(_) | Ask::Watch(_) => self.answers().answer(),
            Ask::Start(id) => self.change(Effect::Start(id.parse().unwrap())).answer(),
            Ask::Discard(id, slot) => {
                let name = container(server, 0, 0, *slot).name;
                let mine = |c: &Container| c.ours && c.session == self.session && c.life == life;
                let id = match id {
                    Some(id) => Some(id.parse().unwrap()),
                    None => {
                        self.containers.iter().find(|(_, c)| c.name == name && mine(c)).map(|(id, _)| *id)
                    }
                };
                match id {
                    Some(id) => self.change(Effect::Remove(id)).answer(),
                    None => Outcome::Lost.answer(),
                }
            }
        }
    }

    fn hear(&mut self, actor: Actor, reply: Reply) {
        match (actor, reply) {
            (Actor::Server(server), Reply::Birth(index)) => {
                let answer = self.answers[index].clone();
                self.born(server, answer);
            }
            (Actor::Server(server), Reply::Removal(code)) => self.removing(server, said(code)),
            (Actor::Payer, Reply::Removal(code)) => self.paid(said(code)),
            (Actor::Sweep, Reply::Removal(code)) => self.swept_one(said(code)),
            (Actor::Sweep, Reply::Listed(found)) => self.sweep_found(found),
            (actor, reply) => unreachable!("{actor:?} hears {reply:?}"),
        }
    }

    fn born(&mut self, server: usize, answer: Answer) {
        let Doing::Birth { machine, life, made } = &mut self.doing[server] else { return };
        let life = *life;
        if let Answer::Created(id) = &answer {
            *made = Some(id.parse().unwrap());
        }
        match machine.next(answer) {
            Next::Ask(ask) => self.ask(server, ask),
            Next::Born(id) => {
                let id = id.parse().unwrap();
                self.note(format!("server {server} lives in {id}"));
                self.doing[server] = Doing::Living { id, life };
                if self.rng.chance(20) {
                    let at = self.rng.range(1, 5_000);
                    self.after(at, Happening::Effect(Effect::Dies(id)));
                }
                let long = if self.troubled() { self.rng.range(1, 8_000) } else { 600_000 };
                self.after(long, Happening::Turn(self.session, server));
            }
            Next::StillBorn(why, owed) => {
                self.note(format!("server {server} is still-born: {why:?} {owed:?}"));
                if let Some(Owed { id, .. }) = owed {
                    let id = id.map(|id| id.parse().unwrap());
                    self.owe(id, server, life);
                }
                self.rest(server);
            }
        }
    }

    fn rest(&mut self, server: usize) {
        self.doing[server] = Doing::Resting;
        // Sometimes it is disabled: then nothing of a next life finds what this one left.
        let long = if self.troubled() && self.rng.chance(10) { 200_000 } else { self.rng.range(100, 3_000) };
        self.after(long, Happening::Turn(self.session, server));
    }

    fn owe(&mut self, id: Option<u64>, server: usize, life: u64) {
        let (session, since) = (self.session, self.now);
        self.debts.push(Debt { id, server, session, life, since });
    }

    fn ask_removal(&mut self, actor: Actor, ask: removal::Ask, id: u64, whose: (usize, u64, Option<u64>)) {
        use removal::Answer as A;
        let answer = match ask {
            removal::Ask::Pause(_) => A::Done,
            removal::Ask::Look(_) => match self.answers() {
                Outcome::Done => match self.containers.get(&id) {
                    None => A::Gone,
                    Some(c) if c.ours && c.server == whose.0 && whose.2.is_none_or(|life| c.life == life) => {
                        A::Ours
                    }
                    Some(_) => A::NotOurs,
                },
                _ => A::Failed,
            },
            removal::Ask::Remove(_) => match self.change(Effect::Remove(id)) {
                Outcome::Done => A::Done,
                _ => A::Failed,
            },
        };
        self.note(format!("{actor:?} {ask:?} of {id} -> {answer:?}"));
        let wait = match ask {
            removal::Ask::Pause(span) => span.as_millis() as u64,
            _ if answer == A::Failed => self.rng.range(100, 10_000),
            _ => self.rng.range(1, 60),
        };
        self.after(wait, Happening::Answer(self.session, actor, Reply::Removal(code(answer))));
    }

    fn removing(&mut self, server: usize, answer: removal::Answer) {
        let Doing::Removing { machine, id, life } = &mut self.doing[server] else { return };
        let (id, life) = (*id, *life);
        match machine.next(answer) {
            removal::Next::Ask(ask) => {
                self.ask_removal(Actor::Server(server), ask, id, (server, self.session, Some(life)));
            }
            removal::Next::Over(removed) => {
                self.note(format!("server {server}: {id} {removed:?}"));
                if removed == Removed::Owed {
                    self.owe(Some(id), server, life);
                }
                self.rest(server);
            }
        }
    }

    /// The thread that pays what is owed: one at a time here.
    fn pay(&mut self) {
        self.after(1_000, Happening::PayDebts(self.session));
        if self.paying.is_some() || self.debts.is_empty() {
            return;
        }
        let index = self.rng.below(self.debts.len());
        let debt = self.debts[index].clone();
        let known = debt.id.or_else(|| {
            let of_life = |c: &Container| c.ours && c.session == debt.session && c.life == debt.life;
            self.containers.iter().find(|(_, c)| of_life(c)).map(|(id, _)| *id)
        });
        match known {
            Some(id) if self.engine_up => {
                let (machine, ask) = Removal::begin(Rules { once: true, ..Rules::default() });
                self.paying = Some((index, machine, id));
                self.ask_removal(Actor::Payer, ask, id, (debt.server, debt.session, Some(debt.life)));
            }
            // What was never answered may still come.
            None if self.engine_up && self.now - debt.since > LATEST => {
                self.debts.remove(index);
            }
            Some(_) | None => (),
        }
    }

    fn paid(&mut self, answer: removal::Answer) {
        let Some((index, mut machine, id)) = self.paying.take() else { return };
        let debt = self.debts[index].clone();
        match machine.next(answer) {
            removal::Next::Ask(ask) => {
                self.paying = Some((index, machine, id));
                self.ask_removal(Actor::Payer, ask, id, (debt.server, debt.session, Some(debt.life)));
            }
            removal::Next::Over(Removed::Owed) => (),
            removal::Next::Over(removed) => {
                self.note(format!("paid: {debt:?} {removed:?}"));
                // A create in doubt may come back as another.
                if debt.id.is_some() || self.now - debt.since > LATEST {
                    self.debts.remove(index);
                }
            }
        }
    }

    // Deaths.

    /// Daemon and guardian at once: nothing is left but what the engine does.
    fn kill(&mut self) {
        self.note("kill -9".to_owned());
        self.alive = false;
        self.doing = (0..SERVERS).map(|_| Doing::Resting).collect();
        self.paying = None;
        self.sweeping = None;
        // Stdin is closed; some honour it.
        let running: Vec<u64> =
            self.containers.iter().filter(|(_, c)| c.ours && c.running).map(|(id, _)| *id).collect();
        for id in running {
            if self.rng.chance(50) {
                let at = self.rng.range(1, 2_000);
                self.after(at, Happening::Effect(Effect::Dies(id)));
            }
        }
        let long = self.rng.range(10, 20_000);
        self.after(long, Happening::Restart);
    }

    fn restart(&mut self) {
        self.session += 1;
        self.alive = true;
        self.swept = false;
        self.second_sweep = false;
        self.note(format!("session {} starts", self.session));
        for server in 0..SERVERS {
            self.after(50, Happening::Turn(self.session, server));
        }
        self.after(700, Happening::PayDebts(self.session));
        self.after(5, Happening::Sweep(self.session));
    }

    fn list_for_sweep(&mut self) {
        let found = match self.answers() {
            Outcome::Done => Some(
                self.containers
                    .iter()
                    .filter(|(_, c)| c.ours && c.session != self.session)
                    .map(|(id, _)| *id)
                    .collect(),
            ),
            _ => None,
        };
        self.after(10, Happening::Answer(self.session, Actor::Sweep, Reply::Listed(found)));
    }

    fn sweep_found(&mut self, found: Option<Vec<u64>>) {
        match found {
            Some(found) => {
                self.sweeping = Some((found.into(), None));
                self.sweep_next();
            }
            None => self.after(1_000, Happening::Sweep(self.session)),
        }
    }

    fn sweep_next(&mut self) {
        let Some((rest, current)) = &mut self.sweeping else { return };
        match rest.pop_front() {
            Some(id) => {
                let (machine, ask) = Removal::begin(Rules { once: true, ..Rules::default() });
                *current = Some((machine, id));
                let server = self.containers.get(&id).map_or(0, |c| c.server);
                self.ask_removal(Actor::Sweep, ask, id, (server, 0, None));
            }
            None => {
                self.sweeping = None;
                self.swept = true;
                // Once more, when nothing of the dead session can come any more.
                if !std::mem::replace(&mut self.second_sweep, true) {
                    self.after(LATEST + 1_000, Happening::Sweep(self.session));
                }
            }
        }
    }

    fn swept_one(&mut self, answer: removal::Answer) {
        let Some((_, current)) = &mut self.sweeping else { return };
        let Some((mut machine, id)) = current.take() else { return };
        match machine.next(answer) {
            removal::Next::Ask(ask) => {
                *current = Some((machine, id));
                let server = self.containers.get(&id).map_or(0, |c| c.server);
                self.ask_removal(Actor::Sweep, ask, id, (server, 0, None));
            }
            removal::Next::Over(Removed::Owed) => {
                // Whole again, after a while.
                self.sweeping = None;
                self.after(2_000, Happening::Sweep(self.session));
            }
            removal::Next::Over(_) => self.sweep_next(),
        }
    }
}

/// How a question ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// No answer.
    Lost,
    /// 500.
    Error,
    /// Nobody listens.
    Refused,
}

impl Outcome {
    fn answer(self) -> Answer {
        let failed = |kind, in_doubt| Answer::Failed(Failure { kind, in_doubt });
        match self {
            Outcome::Done => Answer::Done,
            Outcome::Lost => failed(FaultKind::EngineAway, true),
            Outcome::Error => failed(FaultKind::EngineError, true),
            Outcome::Refused => failed(FaultKind::EngineAway, false),
        }
    }
}

fn container(server: usize, session: u64, life: u64, slot: birth::Slot) -> Container {
    let name = format!("server-{server}-{}", slot.letter());
    Container { name, server, session, life, running: false, ours: true }
}

const ANSWERS: [removal::Answer; 5] = [
    removal::Answer::Ours,
    removal::Answer::NotOurs,
    removal::Answer::Gone,
    removal::Answer::Done,
    removal::Answer::Failed,
];

fn code(answer: removal::Answer) -> u8 {
    ANSWERS.iter().position(|known| *known == answer).unwrap() as u8
}

fn said(code: u8) -> removal::Answer {
    ANSWERS[code as usize]
}

#[test]
fn never_two_and_never_one_unowned() {
    let one = std::env::var("BIRTHS_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let (mut births, mut kills) = (0, 0);
    for seed in one.map_or(1..=SCHEDULES, |seed| seed..=seed) {
        let mut world = World::new(seed);
        if let Err(claim) = world.run() {
            let log: Vec<String> = world.log.into_iter().collect();
            panic!("BIRTHS_SEED={seed}: {claim}\n{}", log.join("\n"));
        }
        births += world.next_life - 1;
        kills += world.session - 1;
    }
    println!("{births} births, {kills} kills");
    assert!(one.is_some() || births > SCHEDULES * 5, "only {births} births");
}
