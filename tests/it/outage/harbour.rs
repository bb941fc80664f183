//! A harbour: several servers on one engine, with the real machines of both kinds and what lies between them, in a world
//! where the engine is silent, paused, hidden, denied and killed, flaps, and where what it says is lost, late, twice or
//! out of order; where containers die while nobody can hear it, and hang.
//!
//! The claims: an outage books no failure; no two recoveries of one server overlap, and none begins on an engine that is
//! known away; what was not hit is not replaced; and when the world heals, every server is ready, in one container that
//! runs and answers, in bounded time. Planted faults show that the claims see.
//!
//! `SIM_SEED=n` replays one seed and prints every event.

mod cells;
mod ship;

use crate::sim::number;
use crate::sim::rng::Rng;
use cells::Cells;
use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;
use mcpvisor::engine::outage::{Action, Cause, Event, News, Policy, Presence, step};
use mcpvisor::engine::watched::{Happened, Settled};
use mcpvisor::server::machine::{self, Action as Ask};
use ship::{Ship, Stage};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Checked = Result<(), String>;

macro_rules! claim {
    ($holds:expr, $($text:tt)*) => { if !$holds { return Err(format!($($text)*)); } };
}
use claim;

/// Machine steps that a change must survive.
const STEPS: u64 = 10_000_000;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A bug in what lies between the machines, or in what they decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    /// What was kept is not asked whether it lives.
    KeptUnasked,
    /// A silent engine is taken for one that answers.
    SilenceIsAnAnswer,
    UpLost,
    AwayLost,
    LaunchTwice,
    /// Everything is made anew after an outage.
    AllReplaced,
    /// A life is taken for over when its container has ended.
    GoneEarly,
    /// An engine's news overtake each other.
    NewsOvertake,
    /// Nobody tells the machine of the engine that all are back.
    NobodySettles,
}

const PLANTS: [Plant; 9] = [
    Plant::KeptUnasked,
    Plant::SilenceIsAnAnswer,
    Plant::UpLost,
    Plant::AwayLost,
    Plant::LaunchTwice,
    Plant::AllReplaced,
    Plant::GoneEarly,
    Plant::NewsOvertake,
    Plant::NobodySettles,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Ping(Time),
    Open(Time),
    Sweep,
}

/// What the heap holds; a number says which ship.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The call under way is answered, if it is still this one.
    Answer(u32),
    EngineDue(u32),
    /// Something that the engine's thread hears.
    Hears(u8),
    /// On the event stream of this number.
    Streams(u32, u8, Life, u8),
    News(u8, u8),
    Happens(u8, u8),
    Report(u8, u32),
    Due(u8, u32),
    Stage(u8, Life, Stage),
    Order(u8, u32),
}

struct World {
    plant: Option<Plant>,
    verbose: bool,
    rng: Rng,
    now: Time,
    seq: u64,
    heap: BinaryHeap<Reverse<(Time, u64, What)>>,
    /// The engine as it is; `None` works.
    trouble: Option<Cause>,
    lossy: bool,
    presence: Presence,
    policy: Policy,
    engine_turn: (u32, Option<Time>),
    call: Option<(u32, Call, Event)>,
    calls: u32,
    stream: Option<u32>,
    streams: u32,
    recovering_since: Option<Time>,
    ships: Vec<Ship>,
    lives: u64,
    steps: u64,
    cells: Cells,
}

const HEARD: [Event; 5] = [Event::Broken, Event::Appeared, Event::Vanished, Event::Said, Event::Asked];
const HAPPENED: [Happened; 4] = [Happened::Paused, Happened::Unpaused, Happened::Died(None), Happened::Gone];

impl World {
    fn new(seed: u64, plant: Option<Plant>, verbose: bool) -> World {
        let mut rng = Rng::new(seed);
        let ships = (0..rng.range(2, 6)).map(|_| Ship::new(&mut rng)).collect();
        World {
            plant,
            verbose,
            now: Time::ZERO,
            seq: 0,
            heap: BinaryHeap::new(),
            trouble: if rng.chance(80) { None } else { Some(rng.pick(&Cause::ALL)) },
            lossy: rng.chance(50),
            presence: Presence::new(Time::ZERO),
            policy: Policy::default(),
            engine_turn: (0, None),
            call: None,
            calls: 0,
            stream: None,
            streams: 0,
            recovering_since: None,
            ships,
            lives: 0,
            steps: 0,
            cells: Cells::new(),
            rng,
        }
    }

    fn after(&mut self, span: Duration, what: What) {
        self.at(self.now + span, what);
    }

    fn at(&mut self, at: Time, what: What) {
        self.seq += 1;
        self.heap.push(Reverse((at, self.seq, what)));
    }

    fn soon(&mut self, most: u64) -> Duration {
        ms(self.rng.range(0, most))
    }

    /// Nothing that is sent to it or comes from it moves.
    fn is_stalled(&self) -> bool {
        matches!(self.trouble, Some(Cause::Silent | Cause::Paused))
    }

    fn begin(&mut self) -> Checked {
        for ix in 0..self.ships.len() {
            self.feed(ix, machine::Event::EngineAway)?;
            self.feed(ix, machine::Event::Want(true))?;
        }
        self.plan_engine();
        Ok(())
    }

    fn run_to(&mut self, until: Time) -> Checked {
        while let Some(Reverse((at, ..))) = self.heap.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, what))) = self.heap.pop() else { break };
            self.now = self.now.max(at);
            self.happen(what)?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happen(&mut self, what: What) -> Checked {
        match what {
            What::Answer(number) => self.answered(number),
            What::EngineDue(turn) if turn == self.engine_turn.0 => {
                self.engine_turn.1 = None;
                self.hear(Event::Due)
            }
            What::EngineDue(_) => Ok(()),
            What::Hears(which) => self.hear(HEARD[which as usize]),
            What::Streams(stream, ..) if self.stream != Some(stream) => Ok(()),
            What::Streams(..) if self.is_stalled() => {
                self.after(ms(200), what);
                Ok(())
            }
            What::Streams(_, n, life, happened) => {
                self.tell_of(n.into(), life, HAPPENED[happened as usize]);
                self.hear(Event::Said)
            }
            What::News(n, news) => self.news(n.into(), news),
            What::Happens(n, happened) => self.happens(n.into(), HAPPENED[happened as usize]),
            What::Report(n, number) => self.report(n.into(), number),
            What::Due(n, turn) if self.ships[n as usize].turn.0 == turn => {
                self.ships[n as usize].turn.1 = None;
                self.feed(n.into(), machine::Event::Due)
            }
            What::Due(..) => Ok(()),
            What::Stage(n, life, stage) => self.stage(n.into(), life, stage),
            What::Order(n, number) => self.ordered(n.into(), number),
        }
    }

    /// The engine's thread: one thing after the other, each with what follows from it.
    fn hear(&mut self, event: Event) -> Checked {
        let mut pending = VecDeque::from([event]);
        while let Some(event) = pending.pop_front() {
            self.cells.visit(&self.presence, self.now, event);
            let mut out = Vec::new();
            let dice = self.rng.dice();
            let was = self.presence.state();
            self.presence = step(self.presence.clone(), event, self.now, &self.policy, dice, &mut out);
            self.steps += 1;
            if self.verbose {
                eprintln!(
                    "{:>10.3} engine {event:?} -> {:?} {out:?}",
                    self.now.as_ms() as f64 / 1e3,
                    self.presence
                );
            }
            if was != "recovering" && self.presence.state() == "recovering" {
                self.recovering_since = Some(self.now);
            }
            for action in out {
                match action {
                    Action::Ping { until } => self.call(Call::Ping(until)),
                    Action::OpenEvents => self.call(Call::Open(self.now + self.policy.ping_patience)),
                    Action::Sweep { .. } => self.call(Call::Sweep),
                    Action::Announce(news) => pending.extend(self.announce(news)),
                }
            }
            pending.extend(self.progress());
        }
        self.plan_engine();
        Ok(())
    }

    fn plan_engine(&mut self) {
        let next = self.presence.next_deadline().map(|(at, _)| at);
        if next != self.engine_turn.1 {
            self.engine_turn = (self.engine_turn.0 + 1, next);
            if let Some(at) = next {
                let turn = self.engine_turn.0;
                self.at(at.max(self.now), What::EngineDue(turn));
            }
        }
    }

    /// How far a recovery is, if that is not known yet.
    fn progress(&mut self) -> Option<Event> {
        let (done, of) = self.presence.recovery()?;
        let open = self.ships.iter().filter(|ship| ship.settled.is_none()).count() as u32;
        let hurt = |ship: &&Ship| matches!(ship.settled, Some(Settled::Back | Settled::Failed));
        let back = self.ships.iter().filter(hurt).count() as u32;
        ((back, back + open) != (done, of)).then_some(Event::Recovered { done: back, of: back + open })
    }

    fn announce(&mut self, news: News) -> Option<Event> {
        if news == News::Up && self.presence.recovery() == Some((0, 0)) {
            self.ships.iter_mut().for_each(|ship| ship.settled = None);
        }
        let word = match news {
            News::Up => 0,
            News::Away(cause) => 1 + cause as u8,
        };
        for n in 0..self.ships.len() {
            let hop = self.soon(3);
            let overtakes = self.plant == Some(Plant::NewsOvertake) && self.rng.chance(5);
            let late = if overtakes { self.now + ms(9_000) } else { self.now };
            let lane = &mut self.ships[n].from_engine;
            let at = if overtakes { late } else { (*lane).max(self.now + hop) };
            *lane = if overtakes { *lane } else { at };
            self.at(at, What::News(n as u8, word));
        }
        let due = self.presence.recovery()? == (0, 0);
        due.then(|| self.progress()).flatten()
    }

    /// One ship hears of its engine.
    fn news(&mut self, ix: usize, word: u8) -> Checked {
        let lost = match (self.plant, word) {
            (Some(Plant::UpLost), 0) => self.rng.chance(20),
            (Some(Plant::AwayLost), 1..) => self.rng.chance(20),
            _ => false,
        };
        self.ships[ix].told_away = word > 0;
        if lost {
            return Ok(());
        }
        let ready = self.ships[ix].server.state() == "ready";
        self.feed(ix, if word > 0 { machine::Event::EngineAway } else { machine::Event::EngineUp })?;
        if word == 1 + Cause::Paused as u8 {
            self.happens(ix, Happened::Paused)?;
        }
        match self.plant {
            Some(Plant::AllReplaced) if word == 0 && ready => match self.ships[ix].server.life() {
                Some(life) => self.feed(ix, machine::Event::Failed(life, FaultKind::EngineAway)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// To whoever follows this life's container.
    fn tell_of(&mut self, ix: usize, life: Life, happened: Happened) {
        let ship = &mut self.ships[ix];
        let Some((followed, paused)) = &mut ship.follows else { return };
        let unpaused = happened == Happened::Unpaused;
        if *followed != life || unpaused && !*paused {
            return;
        }
        *paused = if unpaused { false } else { *paused || happened == Happened::Paused };
        let which = HAPPENED.iter().position(|known| *known == happened).unwrap();
        let hop = self.soon(3);
        let lane = &mut self.ships[ix].from_engine;
        *lane = (*lane).max(self.now + hop);
        let at = *lane;
        self.at(at, What::Happens(ix as u8, which as u8));
    }

    /// The engine says it, if it can; perhaps late, perhaps not at all.
    fn say(&mut self, ix: usize, life: Life, which: u8) {
        let Some(stream) = self.stream else { return };
        if self.lossy && self.rng.chance(15) {
            return;
        }
        let most = if self.lossy && self.rng.chance(20) { 4_000 } else { 20 };
        let span = self.soon(most);
        self.after(span, What::Streams(stream, ix as u8, life, which));
    }

    fn call(&mut self, call: Call) {
        self.calls += 1;
        self.decide(call);
    }

    /// How the call under way ends, as the engine is now.
    fn decide(&mut self, call: Call) {
        let soon = self.soon(40);
        let (after, event) = match (call, self.trouble) {
            (Call::Ping(_), None) => (soon, Event::Answered),
            (Call::Open(_), None) if self.rng.chance(3) => (soon, Event::NoStream),
            (Call::Open(_), None) => (soon, Event::Opened),
            (Call::Sweep, None) => (soon, Event::Swept),
            (Call::Sweep, Some(_)) => (self.policy.sweep_patience, Event::Swept),
            (Call::Ping(until) | Call::Open(until), Some(Cause::Silent)) => {
                (until.since(self.now), Event::Failed(Cause::Silent))
            }
            (Call::Ping(_) | Call::Open(_), Some(cause)) => (soon, Event::Failed(cause)),
        };
        self.call = Some((self.calls, call, event));
        let number = self.calls;
        self.after(after, What::Answer(number));
    }

    fn answered(&mut self, number: u32) -> Checked {
        let Some((_, _, event)) = self.call.filter(|(current, ..)| *current == number) else { return Ok(()) };
        self.call = None;
        if event == Event::Opened {
            self.streams += 1;
            self.stream = Some(self.streams);
            self.list();
        }
        self.hear(event)
    }

    /// What there is, told to those who follow it.
    fn list(&mut self) {
        for ix in 0..self.ships.len() {
            let ship = &self.ships[ix];
            let Some((life, _)) = ship.follows else { continue };
            let happened = match ship.boxed(life) {
                None => Happened::Gone,
                Some(boxed) if !boxed.runs => Happened::Died(None),
                Some(boxed) if boxed.paused => Happened::Paused,
                Some(_) => Happened::Unpaused,
            };
            self.tell_of(ix, life, happened);
        }
    }

    /// The engine becomes so. `connected`: what is connected to it stays so.
    fn turn(&mut self, trouble: Option<Cause>, connected: bool) -> Checked {
        if trouble == self.trouble {
            return Ok(());
        }
        self.trouble = trouble;
        for ship in &mut self.ships {
            ship.excuse_if_young();
        }
        // What hangs goes on, or is cut; what is answered already stays so.
        if let Some((_, call, event)) = self.call
            && (event == Event::Failed(Cause::Silent) || call == Call::Sweep || !connected)
        {
            self.calls += 1;
            self.decide(call);
        }
        match trouble {
            Some(Cause::Down) if !connected => self.crash()?,
            Some(Cause::Down) => self.after(ms(1), What::Hears(2)),
            Some(Cause::Denied) => self.after(ms(1), What::Hears(1)),
            Some(Cause::Silent | Cause::Paused) => {}
            None if self.rng.chance(70) => self.after(ms(1), What::Hears(1)),
            None => {}
        }
        Ok(())
    }

    /// Its process is gone, and with it every connection; its containers live on, or not.
    fn crash(&mut self) -> Checked {
        let survive = self.rng.chance(50);
        for ix in 0..self.ships.len() {
            self.cut(ix, survive);
        }
        if self.stream.take().is_some() {
            self.after(ms(1), What::Hears(0));
        }
        if self.rng.chance(50) {
            self.after(ms(2), What::Hears(2));
        }
        Ok(())
    }

    fn chaos(&mut self) -> Checked {
        let ix = self.rng.below(self.ships.len());
        match self.rng.below(12) {
            0..=2 => self.turn(None, true),
            3..=5 => {
                let (cause, connected) = (self.rng.pick(&Cause::ALL), self.rng.chance(50));
                self.turn(Some(cause), connected || cause != Cause::Down)
            }
            6 => self.person_pauses(ix),
            7 => self.person_unpauses(ix),
            8 => self.dies(ix),
            9 if self.trouble.is_some() => {
                self.hangs(ix);
                Ok(())
            }
            10 if self.rng.chance(30) => {
                self.ships[ix].excuse();
                (0..3).try_for_each(|_| self.feed(ix, machine::Event::Restart))
            }
            _ => self.hear(Event::Asked),
        }
    }

    /// The world heals, and all is well in bounded time.
    fn heal(&mut self) -> Checked {
        self.lossy = false;
        (0..self.ships.len()).try_for_each(|ix| self.person_unpauses(ix))?;
        self.turn(None, true)?;
        let longest = self.policy.ladder.last().unwrap().mul_f64(1.2);
        // The ping that begins last, an image of what there is, and the slowest of our ladders.
        let mut bound = longest + self.policy.ping_patience * 3 + self.policy.sweep_patience + ms(45_000);
        if self.ships.iter().any(|ship| ship.guilty > 0) {
            bound += ms(360_000);
        }
        self.run_to(self.now + bound)?;
        claim!(self.presence.state() == "up", "healed for {bound:?}, and the engine is {:?}", self.presence);
        for (ix, ship) in self.ships.iter().enumerate() {
            let (state, phase) = (ship.server.state(), ship.server.phase());
            claim!(state == "ready", "healed for {bound:?}, and {ix} is {state} {phase}");
            claim!(ship.is_well(), "{ix} is ready, and its container does not answer: {ship:?}");
            claim!(ship.boxes.len() == 1, "{ix} has {} containers", ship.boxes.len());
        }
        Ok(())
    }

    /// After each step of a ship.
    fn check(&self, ix: usize) -> Checked {
        let ship = &self.ships[ix];
        let (failures, guilty) = (ship.server.failures(), ship.guilty);
        claim!(failures <= guilty, "an outage was booked: {ix} has {failures} failures, {guilty} of its own");
        let slow = self.recovering_since.filter(|_| self.presence.state() == "recovering");
        let all =
            self.ships.iter().all(|ship| ship.server.state() == "ready" && !ship.server.is_in_question());
        claim!(
            !all || slow.is_none_or(|since| self.now - since < ms(60_000)),
            "all are ready, and the recovery goes on"
        );
        Ok(())
    }

    /// Before each action of a ship is done.
    fn check_action(&self, ix: usize, action: Ask) -> Checked {
        let ship = &self.ships[ix];
        match action {
            Ask::Launch(life) => {
                claim!(ship.aboard.is_none(), "two lives of {ix} at once: {life} and {:?}", ship.aboard);
                claim!(!ship.told_away, "{ix} is launched on an engine that is known away");
            }
            Ask::CloseInput(life) => {
                let excused =
                    ship.aboard.as_ref().is_some_and(|aboard| aboard.life == life && aboard.excused);
                claim!(excused, "{ix} is replaced although it was not hit: {:?}", ship.aboard);
            }
            _ => {}
        }
        Ok(())
    }
}

fn live(world: &mut World) -> Checked {
    world.begin()?;
    for _ in 0..world.rng.range(20, 120) {
        let span = world.rng.pick(&[30, 700, 4_000, 30_000, 90_000]);
        let until = world.now + ms(world.rng.range(0, span));
        world.run_to(until)?;
        world.chaos()?;
    }
    world.heal()
}

#[test]
fn what_an_engine_does_to_its_servers() {
    if let Some(seed) = number("SIM_SEED") {
        let mut world = World::new(seed, None, true);
        live(&mut world).unwrap();
        return;
    }
    let (next, steps, cells) = (AtomicU64::new(1), AtomicU64::new(0), Mutex::new(Cells::new()));
    let target = number("SIM_STEPS").unwrap_or(STEPS);
    let runner = || {
        while steps.load(Ordering::Relaxed) < target {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let mut world = World::new(seed, None, false);
            if let Err(claim) = live(&mut world) {
                panic!(
                    "{claim}\nreplay: SIM_SEED={seed} cargo test --test it what_an_engine_does -- --nocapture"
                );
            }
            steps.fetch_add(world.steps, Ordering::Relaxed);
            cells.lock().unwrap().merge(&world.cells);
        }
    };
    std::thread::scope(|scope| {
        let runners = [scope.spawn(runner), scope.spawn(runner)];
        for runner in runners {
            if let Err(panic) = runner.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let (hit, all, missed) = cells.into_inner().unwrap().coverage();
    let (steps, seeds) = (steps.into_inner(), next.into_inner() - 1);
    println!("{seeds} seeds, {steps} steps, {hit} of {all} cells of the engine's matrix; missed {missed:?}");
    if target >= STEPS {
        assert!(hit * 100 >= all * 90, "only {hit} of {all} cells were visited; missed {missed:?}");
    }
}

#[test]
fn the_claims_see_what_is_planted() {
    for plant in PLANTS {
        let seen = (0..400).find_map(|seed| {
            let claim = live(&mut World::new(seed, Some(plant), false)).err()?;
            Some((seed, claim))
        });
        let (seed, claim) = seen.unwrap_or_else(|| panic!("{plant:?} was not seen"));
        println!("{plant:?}, seed {seed}: {}", claim.chars().take(110).collect::<String>());
    }
}

/// Every second it goes or comes, for an hour.
#[test]
fn flapping_every_second_for_an_hour() {
    for (seed, cause) in Cause::ALL.into_iter().enumerate() {
        for connected in [true, false] {
            let mut world = World::new(seed as u64, None, false);
            let flap = |world: &mut World| {
                world.begin()?;
                for second in 0..3_600 {
                    world.turn((second % 2 == 0).then_some(cause), connected || cause != Cause::Down)?;
                    world.run_to(Time::from_ms(1_000 * (second + 1)))?;
                }
                world.heal()
            };
            flap(&mut world).unwrap_or_else(|claim| panic!("{cause:?}, connected {connected}: {claim}"));
            assert!(world.ships.iter().all(|ship| ship.server.failures() == 0));
        }
    }
}

#[test]
fn a_seed_is_the_same_harbour() {
    let run = || {
        let mut world = World::new(7, None, false);
        (live(&mut world), world.steps, world.now)
    };
    assert_eq!(run(), run());
}
