//! One server of the harbour: its real machine, and what its supervisor, its life and its containers do.

use super::{Checked, Plant, World, claim, ms};
use crate::sim::rng::Rng;
use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;
use mcpvisor::engine::outage::Cause;
use mcpvisor::engine::watched::{Happened, Settled};
use mcpvisor::server::machine::{Action, Event, Policy, Server, step};

/// What becomes of a life by and by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The engine is asked for its container; until then it may take.
    Birth(Time),
    Signs,
    Greets,
    Discovers,
    /// The ping under way may be answered.
    Ping,
    /// How its container ended is told, if it can be.
    Ended,
    /// Its container is to be removed.
    Removal(u8),
}

#[derive(Clone, Debug)]
pub struct Aboard {
    pub life: Life,
    born: bool,
    /// Its end was told.
    ended: bool,
    /// Its connections to the engine are whole.
    attached: bool,
    /// It runs and answers nothing.
    hung: bool,
    discovered: bool,
    /// Something happened to it for which it may be replaced.
    pub excused: bool,
}

#[derive(Clone, Debug)]
pub struct Boxed {
    life: Life,
    pub runs: bool,
    pub paused: bool,
}

#[derive(Clone, Debug)]
pub struct Ship {
    pub server: Server,
    policy: Policy,
    pub turn: (u32, Option<Time>),
    pub from_engine: Time,
    from_life: Time,
    to_life: Time,
    reports: Vec<Event>,
    orders: Vec<Action>,
    pub aboard: Option<Aboard>,
    pub boxes: Vec<Boxed>,
    /// Whose container's events it hears, and whether it was told that it is paused.
    pub follows: Option<(Life, bool)>,
    pub settled: Option<Settled>,
    recovering: bool,
    pub told_away: bool,
    /// Deaths of its own, while its engine was well.
    pub guilty: u64,
}

impl Ship {
    pub fn new(rng: &mut Rng) -> Ship {
        let probe_every = rng.pick(&[Some(5_000), Some(60_000), None]).map(ms);
        Ship {
            server: Server::new(true, false, Time::ZERO),
            policy: Policy { probe_every, auto_disable: false, ..Policy::default() },
            turn: (0, None),
            from_engine: Time::ZERO,
            from_life: Time::ZERO,
            to_life: Time::ZERO,
            reports: Vec::new(),
            orders: Vec::new(),
            aboard: None,
            boxes: Vec::new(),
            follows: None,
            settled: Some(Settled::Unhurt),
            recovering: false,
            told_away: true,
            guilty: 0,
        }
    }

    pub fn boxed(&self, life: Life) -> Option<&Boxed> {
        self.boxes.iter().find(|boxed| boxed.life == life)
    }

    fn own_box(&mut self) -> Option<&mut Boxed> {
        let life = self.aboard.as_ref()?.life;
        self.boxes.iter_mut().find(|boxed| boxed.life == life)
    }

    fn runs(&self) -> bool {
        let own = self.aboard.as_ref().and_then(|aboard| self.boxed(aboard.life));
        own.is_some_and(|boxed| boxed.runs && !boxed.paused)
    }

    /// It would answer, if the engine passed it on.
    pub fn is_well(&self) -> bool {
        self.runs() && self.aboard.as_ref().is_some_and(|aboard| aboard.attached && !aboard.hung)
    }

    pub fn excuse(&mut self) {
        if let Some(aboard) = &mut self.aboard {
            aboard.excused = true;
        }
    }

    /// A start that is under way has its own patience.
    pub fn excuse_if_young(&mut self) {
        if let Some(aboard) = self.aboard.as_mut().filter(|aboard| !aboard.discovered) {
            aboard.excused = true;
        }
    }
}

impl World {
    /// The supervisor's turn.
    pub fn feed(&mut self, ix: usize, event: Event) -> Checked {
        let dice = self.rng.dice();
        let mut actions = Vec::new();
        let ship = &mut self.ships[ix];
        let blank = Server::new(false, false, Time::ZERO);
        let server = std::mem::replace(&mut ship.server, blank);
        ship.server = step(server, event, self.now, &ship.policy, dice, &mut actions);
        self.steps += 1;
        if self.verbose {
            let (state, phase) = (ship.server.state(), ship.server.phase());
            eprintln!(
                "{:>10.3} {ix} {event:?} -> {state} {phase} {actions:?}",
                self.now.as_ms() as f64 / 1e3
            );
        }
        if event == Event::Restart {
            ship.excuse();
        }
        for action in actions {
            self.check_action(ix, action)?;
            let unasked = self.plant == Some(Plant::KeptUnasked) && event == Event::EngineUp;
            if !(unasked && matches!(action, Action::Probe(_))) {
                self.act(ix, action)?;
            }
        }
        if self.ships[ix].server.life().is_none() {
            self.ships[ix].follows = None;
        }
        self.settle(ix, event)?;
        self.plan(ix);
        self.check(ix)
    }

    fn plan(&mut self, ix: usize) {
        let next = self.ships[ix].server.next_deadline().map(|(at, _)| at);
        let late = self.soon(3);
        let turn = &mut self.ships[ix].turn;
        if next == turn.1 {
            return;
        }
        *turn = (turn.0 + 1, next);
        let turn = turn.0;
        if let Some(at) = next {
            self.at(at.max(self.now) + late, super::What::Due(ix as u8, turn));
        }
    }

    /// As the supervisor says how a recovery went.
    fn settle(&mut self, ix: usize, event: Event) -> Checked {
        let ship = &mut self.ships[ix];
        if event == Event::EngineUp {
            ship.recovering = true;
        }
        let how = match ship.server.state() {
            _ if !ship.recovering => return Ok(()),
            "ready" if ship.server.is_in_question() => return Ok(()),
            "ready" if event == Event::EngineUp => Settled::Unhurt,
            "ready" => Settled::Back,
            "backoff" => Settled::Failed,
            "waiting" if ship.server.phase() == "host" => Settled::Failed,
            _ => return Ok(()),
        };
        ship.recovering = false;
        if self.plant == Some(Plant::NobodySettles) {
            return Ok(());
        }
        ship.settled = Some(how);
        match self.progress() {
            Some(progress) => self.hear(progress),
            None => Ok(()),
        }
    }

    fn act(&mut self, ix: usize, action: Action) -> Checked {
        match action {
            Action::AskGate => {
                self.lives += 1;
                let life = Life(self.lives);
                self.tell(ix, Event::Admitted(life));
            }
            Action::Hurry | Action::LeaveGate => {}
            Action::Launch(life) => {
                self.launch(ix, life);
                if self.plant == Some(Plant::LaunchTwice) && self.rng.chance(5) {
                    self.check_action(ix, action)?;
                    self.launch(ix, life);
                }
            }
            Action::Probe(_)
            | Action::CloseInput(_)
            | Action::Term(_)
            | Action::Kill(_)
            | Action::Clear(_) => {
                let hop = self.soon(3);
                let ship = &mut self.ships[ix];
                ship.orders.push(action);
                ship.to_life = ship.to_life.max(self.now + hop);
                let (at, number) = (ship.to_life, ship.orders.len() as u32 - 1);
                self.at(at, super::What::Order(ix as u8, number));
            }
            Action::AskEngine if self.plant == Some(Plant::SilenceIsAnAnswer) => {
                self.tell(ix, Event::EngineUp)
            }
            Action::AskEngine => {
                let hop = self.soon(3);
                self.after(hop, super::What::Hears(4));
            }
        }
        Ok(())
    }

    /// From a thread of this ship to its supervisor, in order.
    fn tell(&mut self, ix: usize, event: Event) {
        let hop = self.soon(3);
        let ship = &mut self.ships[ix];
        ship.reports.push(event);
        ship.from_life = ship.from_life.max(self.now + hop);
        let (at, number) = (ship.from_life, ship.reports.len() as u32 - 1);
        self.at(at, super::What::Report(ix as u8, number));
    }

    pub fn report(&mut self, ix: usize, number: u32) -> Checked {
        let event = self.ships[ix].reports[number as usize];
        self.feed(ix, event)
    }

    /// What the engine said of its container.
    pub fn happens(&mut self, ix: usize, happened: Happened) -> Checked {
        let Some(life) = self.ships[ix].server.life() else { return Ok(()) };
        match happened {
            Happened::Paused => self.feed(ix, Event::Paused(life)),
            Happened::Unpaused => self.feed(ix, Event::Unpaused(life)),
            Happened::Died(_) | Happened::Oom | Happened::Gone => Ok(()),
        }
    }

    fn launch(&mut self, ix: usize, life: Life) {
        let (attached, born) = (true, false);
        let (ended, hung, discovered, excused) = (false, false, false, self.trouble.is_some());
        self.ships[ix].aboard = Some(Aboard { life, born, ended, attached, hung, discovered, excused });
        let latest = self.now + ms(60_000);
        let span = ms(self.rng.range(20, 300));
        self.after(span, super::What::Stage(ix as u8, life, Stage::Birth(latest)));
    }

    pub fn stage(&mut self, ix: usize, life: Life, stage: Stage) -> Checked {
        let n = ix as u8;
        let (trouble, stalled, now) = (self.trouble, self.is_stalled(), self.now);
        let answers = !stalled && self.ships[ix].is_well();
        let Some(aboard) = self.ships[ix].aboard.as_mut().filter(|aboard| aboard.life == life) else {
            return Ok(());
        };
        let again = super::What::Stage(n, life, stage);
        match stage {
            _ if aboard.ended && !matches!(stage, Stage::Removal(_)) => {}
            Stage::Birth(latest) => match trouble {
                None => self.born(ix, life),
                Some(Cause::Silent) if now < latest => self.after(ms(500), again),
                Some(_) => {
                    self.ships[ix].aboard = None;
                    self.tell(ix, Event::SpawnFailed(life, FaultKind::EngineAway));
                }
            },
            // What is written waits in the connection.
            Stage::Signs | Stage::Greets | Stage::Discovers if !answers => self.after(ms(150), again),
            Stage::Signs => {
                self.tell(ix, Event::FirstSign(life));
                self.after(ms(30), super::What::Stage(n, life, Stage::Greets));
            }
            Stage::Greets => {
                self.tell(ix, Event::Greeted(life));
                self.after(ms(10), super::What::Stage(n, life, Stage::Discovers));
            }
            Stage::Discovers => {
                aboard.discovered = true;
                self.tell(ix, Event::Discovered(life));
            }
            Stage::Ping if !answers => self.after(ms(150), again),
            Stage::Ping => self.tell(ix, Event::ProbeOk(life)),
            Stage::Ended if stalled => self.after(ms(150), again),
            Stage::Ended if aboard.attached => self.ended(ix, FaultKind::Exited),
            Stage::Ended => {}
            Stage::Removal(tries) => match trouble {
                Some(Cause::Silent) if tries < 120 => {
                    self.after(ms(500), super::What::Stage(n, life, Stage::Removal(tries + 1)));
                }
                _ => {
                    let ship = &mut self.ships[ix];
                    // Else it is owed, and the next birth finds it in its place.
                    ship.boxes.retain(|boxed| boxed.life != life || trouble.is_some());
                    ship.aboard = None;
                    self.tell(ix, Event::Gone(life));
                }
            },
        }
        Ok(())
    }

    /// Its place is cleared, and a container made and started.
    fn born(&mut self, ix: usize, life: Life) {
        let ship = &mut self.ships[ix];
        ship.boxes.clear();
        ship.boxes.push(Boxed { life, runs: true, paused: false });
        ship.follows = Some((life, false));
        if let Some(aboard) = &mut ship.aboard {
            aboard.born = true;
        }
        self.tell(ix, Event::Spawned(life));
        self.after(ms(60), super::What::Stage(ix as u8, life, Stage::Signs));
    }

    fn ended(&mut self, ix: usize, fault: FaultKind) {
        let Some(aboard) = self.ships[ix].aboard.as_mut().filter(|aboard| !aboard.ended) else { return };
        aboard.ended = true;
        let life = aboard.life;
        self.tell(ix, Event::Exited(life, fault));
        if self.plant == Some(Plant::GoneEarly) && self.rng.chance(10) {
            self.tell(ix, Event::Gone(life));
        }
    }

    /// Its container ends, and that is told as far as anybody can.
    fn box_ends(&mut self, ix: usize) {
        let Some(boxed) = self.ships[ix].own_box().filter(|boxed| boxed.runs) else { return };
        (boxed.runs, boxed.paused) = (false, false);
        let life = boxed.life;
        self.ships[ix].excuse();
        let span = self.soon(50);
        self.after(span, super::What::Stage(ix as u8, life, Stage::Ended));
        self.say(ix, life, 2);
    }

    /// The engine's process went, and with it the connections; its containers stay, or not.
    pub fn cut(&mut self, ix: usize, survive: bool) {
        let ship = &mut self.ships[ix];
        for boxed in ship.boxes.iter_mut().filter(|_| !survive) {
            (boxed.runs, boxed.paused) = (false, false);
        }
        let Some(aboard) = ship.aboard.as_mut() else { return };
        aboard.excused = true;
        if aboard.born && !aboard.ended && std::mem::replace(&mut aboard.attached, false) {
            let life = aboard.life;
            self.tell(ix, Event::Failed(life, FaultKind::EngineAway));
        }
    }

    pub fn person_pauses(&mut self, ix: usize) -> Checked {
        if self.trouble.is_none()
            && let Some(boxed) = self.ships[ix].own_box().filter(|boxed| boxed.runs && !boxed.paused)
        {
            boxed.paused = true;
            let life = boxed.life;
            // It is thawed by a person who does not ask how its engine is.
            self.ships[ix].excuse();
            self.say(ix, life, 0);
        }
        Ok(())
    }

    pub fn person_unpauses(&mut self, ix: usize) -> Checked {
        if let Some(boxed) = self.ships[ix].own_box().filter(|boxed| boxed.paused) {
            boxed.paused = false;
            let life = boxed.life;
            self.say(ix, life, 1);
            // A second time, when its runtime confirms both.
            if self.lossy && self.rng.chance(30) {
                self.say(ix, life, 0);
                self.say(ix, life, 1);
            }
        }
        Ok(())
    }

    /// By its own fault, unless its engine is known to be away.
    pub fn dies(&mut self, ix: usize) -> Checked {
        if self.ships[ix].runs() {
            self.ships[ix].guilty += u64::from(!self.ships[ix].told_away);
            self.box_ends(ix);
        }
        Ok(())
    }

    /// While nobody can hear it, and that is known.
    pub fn hangs(&mut self, ix: usize) {
        let known = self.ships[ix].told_away && self.is_stalled();
        if known
            && self.ships[ix].runs()
            && let Some(aboard) = &mut self.ships[ix].aboard
        {
            (aboard.hung, aboard.excused) = (true, true);
        }
    }

    /// An order reaches the life's thread.
    pub fn ordered(&mut self, ix: usize, number: u32) -> Checked {
        let action = self.ships[ix].orders[number as usize];
        let (trouble, stalled) = (self.trouble, self.is_stalled());
        let ship = &self.ships[ix];
        let (well, frozen) = (ship.is_well(), !ship.runs());
        let (
            Some(aboard),
            Action::Probe(life)
            | Action::CloseInput(life)
            | Action::Term(life)
            | Action::Kill(life)
            | Action::Clear(life),
        ) = (&ship.aboard, action)
        else {
            return Ok(());
        };
        if aboard.life != life {
            return Ok(());
        }
        let paused = ship.boxed(life).is_some_and(|boxed| boxed.paused);
        let (born, ended, attached) = (aboard.born, aboard.ended, aboard.attached);
        match action {
            Action::Clear(_) => self.after(ms(20), super::What::Stage(ix as u8, life, Stage::Removal(0))),
            _ if ended => {}
            Action::Probe(_) if trouble.is_none() && paused => self.tell(ix, Event::Paused(life)),
            Action::Probe(_) => {
                self.tell(ix, Event::Unpaused(life));
                self.after(ms(3), super::What::Stage(ix as u8, life, Stage::Ping));
            }
            Action::CloseInput(_) if !born => {
                self.ships[ix].aboard = None;
                self.tell(ix, Event::SpawnFailed(life, FaultKind::Stopped));
            }
            Action::CloseInput(_) if attached => {
                if well && !stalled && !frozen {
                    self.box_ends(ix);
                }
            }
            _ => match trouble {
                None => {
                    self.box_ends(ix);
                    // The last word is the engine's.
                    self.ended(ix, FaultKind::Signaled);
                }
                Some(Cause::Silent) => {}
                Some(_) => self.ended(ix, FaultKind::EngineAway),
            },
        }
        claim!(self.ships[ix].boxes.iter().filter(|boxed| boxed.runs).count() <= 1, "{ix} runs twice");
        Ok(())
    }
}
