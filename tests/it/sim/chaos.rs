//! What the world does to all of them: people, the engine, the lid of the laptop; and how it heals.

use super::body::{Cause as Killer, Happening, State};
use super::swarm::Fault;
use super::world::{CHAOS, Cause, Engine, HEALING, World, ms};
use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::time::Time;
use mcpvisor::server::machine::Event;
use std::time::Duration;

impl World {
    /// Somebody or something interferes.
    pub fn chaos_tick(&mut self) {
        if !self.chaos {
            return;
        }
        let next = self.rng.range(500, 20_000);
        self.after(ms(next), Cause::Chaos);
        let n = self.rng.below(self.actors.len()) as u8;
        let ix = n as usize;
        let wanted = self.actors[ix].shadow.wanted;
        match self.rng.below(11) {
            0 if self.swarm.has(Fault::AdminToggles) => {
                self.after(ms(0), Cause::Tell(n, Event::Want(!wanted)));
                if wanted {
                    let back = self.rng.range(0, 60_000);
                    self.after(ms(back), Cause::Tell(n, Event::Want(true)));
                }
            }
            1 => self.after(ms(0), Cause::Tell(n, Event::Want(wanted))),
            2 if self.swarm.has(Fault::AdminRestarts) => self.after(ms(0), Cause::Tell(n, Event::Restart)),
            3 if self.swarm.has(Fault::AdminBlocks) => {
                self.after(ms(0), Cause::Tell(n, Event::Block(Some(FaultKind::BadConfig))));
                let back = self.rng.range(0, 90_000);
                self.after(ms(back), Cause::Tell(n, Event::Block(None)));
            }
            4 => self.after(ms(0), Cause::Tell(n, Event::Block(self.actors[ix].shadow.blocked))),
            5 if self.swarm.has(Fault::Curse) => {
                let long = ms(self.rng.range(1_000, 1_200_000));
                self.actors[ix].cursed_until = self.now + long;
            }
            6 if self.swarm.has(Fault::Idle) => {
                if let Some(life) = self.actors[ix].server.life() {
                    self.tell(ix, Event::Idle(life));
                }
            }
            7 => self.engine_chaos(n),
            8 if self.faulty(Fault::MachineSleeps, 10) => self.sleep(),
            9 => self.after(ms(0), Cause::Tell(n, Event::Wake)),
            10 if self.swarm.has(Fault::AdminReconnects) => {
                // Three at once are one.
                for _ in 0..self.rng.range(1, 3) {
                    let soon = self.hop();
                    self.after(soon, Cause::Tell(n, Event::Reconnect));
                }
            }
            _ => (),
        }
    }

    /// Something comes in the middle of a transition, where it is least expected.
    pub fn meddle(&mut self, ix: usize) {
        let n = ix as u8;
        let soon = ms(self.rng.range(0, 400));
        let shadow = &self.actors[ix].shadow;
        let (wanted, blocked, needs) = (shadow.wanted, shadow.blocked, self.actors[ix].needs_engine);
        let event = match self.rng.below(9) {
            0 if self.swarm.has(Fault::AdminToggles) => {
                let back = soon + ms(self.rng.range(0, 400));
                self.after(back, Cause::Tell(n, Event::Want(true)));
                Event::Want(false)
            }
            1 if self.swarm.has(Fault::AdminBlocks) => {
                let back = soon + ms(self.rng.range(0, 400));
                self.after(back, Cause::Tell(n, Event::Block(None)));
                Event::Block(Some(FaultKind::NotSupported))
            }
            2 if self.swarm.has(Fault::AdminRestarts) => Event::Restart,
            3 => Event::Wake,
            4 => Event::Want(wanted),
            5 => Event::Block(blocked),
            6 if needs => return self.after(soon, Cause::EngineReply(n)),
            7 if needs && self.engine.up => return self.engine_chaos(n),
            8 if self.swarm.has(Fault::AdminReconnects) => Event::Reconnect,
            _ => Event::Due,
        };
        self.after(soon, Cause::Tell(n, event));
    }

    fn engine_chaos(&mut self, n: u8) {
        let silent = self.faulty(Fault::EngineSilent, 60);
        if self.engine.up && (silent || self.faulty(Fault::EngineDown, 60)) {
            self.engine_moves(false, silent);
            let shortest = self.rng.pick(&[50, 4_000]);
            let long = self.rng.range(shortest, 120_000);
            self.after(ms(long), Cause::Engine(true, false));
        } else if self.engine.up && self.faulty(Fault::EngineFlaps, 10) {
            let long = ms(self.rng.pick(&[5_000, 60_000, 3_600_000]));
            self.engine_flaps(self.now + long);
        } else if self.engine.up && self.actors[n as usize].needs_engine {
            self.after(ms(0), Cause::EngineReply(n)); // said again, unasked
        }
    }

    /// Away and back, about once a second.
    pub fn engine_flaps(&mut self, until: Time) {
        if self.chaos && self.now < until {
            let up = !self.engine.up;
            self.engine_moves(up, false);
            let next = ms(self.rng.range(300, 1_200));
            self.after(next, Cause::EngineFlaps(until));
        } else {
            self.after(ms(1_000), Cause::Engine(true, false));
        }
    }

    pub fn engine_moves(&mut self, up: bool, silent: bool) {
        if up == self.engine.up {
            return;
        }
        let awake = self.awake();
        self.engine = Engine { up, silent, up_since: up.then_some(awake) };
        for ix in 0..self.actors.len() {
            if !self.actors[ix].needs_engine {
                continue;
            }
            let n = ix as u8;
            let news = ms(self.rng.range(0, if up { 500 } else { 1_000 }));
            self.engine_tells(n, up, news);
            let body = self.actors[ix].body;
            let taken = !up && (!silent || self.rng.chance(50));
            if taken && body.state == State::Alive {
                let latest = if self.faulty(Fault::LateDeaths, 30) { 50_000 } else { 300 };
                let span = ms(self.rng.range(0, latest));
                self.after(
                    span,
                    Cause::Body(n, body.life, Happening::Dies(FaultKind::Exited, Killer::Outage)),
                );
            }
        }
    }

    /// The lid is closed for eight hours. Not during an outage, nor while a death of it may still be unheard: who slept
    /// through the news cannot be blamed.
    fn sleep(&mut self) {
        let calm = self.engine.up_since.is_some_and(|at| self.awake() - at > ms(60_000));
        if calm {
            self.leapt_at = self.awake();
            self.slept += ms(8 * 3_600_000);
            self.now = self.now + ms(8 * 3_600_000);
        }
    }

    /// The world becomes a friendly place, and everything is wanted.
    pub fn heal(&mut self) {
        let left = CHAOS.saturating_sub(self.awake().0);
        if left > Duration::ZERO {
            return self.after(left, Cause::Heal);
        }
        self.chaos = false;
        // An outage shorter than its own news could not be told from a server's failure.
        self.after(ms(4_000), Cause::Engine(true, false));
        self.restarted = self.rng.chance(50);
        // Past the last order that a human gave before: people stop meddling.
        let calm = ms(90_000);
        for ix in 0..self.actors.len() as u8 {
            self.after(calm, Cause::Tell(ix, Event::Want(true)));
            self.after(calm, Cause::Tell(ix, Event::Block(None)));
            if self.restarted {
                self.after(calm, Cause::Tell(ix, Event::Restart));
            }
        }
        self.after(calm + HEALING, Cause::Healed);
    }
}
