//! What processes do: how they are born, what they do by themselves, and how they take an order.

use super::body::{Body, Cause as Killer, Happening, State};
use super::claims::{Checked, LINGERS_MAX, NOT_BEFORE_MAX, SPAWN_MAX, UNKILLABLE_MAX, claim};
use super::plants::Plant;
use super::swarm::Fault;
use super::world::{Cause, World, ms};
use mcpvisor::base::fault::{Fault as Ended, FaultKind};
use mcpvisor::base::id::Life;
use mcpvisor::base::time::Time;
use mcpvisor::mcp::calls::Calls;
use mcpvisor::server::machine::{Action, Event};

impl World {
    pub fn launch(&mut self, ix: usize, life: Life) {
        let actor = &mut self.actors[ix];
        actor.body = Body::unborn(life);
        actor.link = Calls::new();
        let cursed = self.chaos && self.now < actor.cursed_until;
        let n = ix as u8;
        let most = if self.faulty(Fault::SlowSpawn, 15) { SPAWN_MAX.as_millis() as u64 } else { 30 };
        let mut birth = ms(self.rng.range(1, most));
        if self.actors[ix].needs_engine {
            self.actors[ix].body.may_abort = self.rng.chance(80);
            if self.faulty(Fault::Pulls, 50) {
                self.after(birth, Cause::Body(n, life, Happening::Pulls));
                self.actors[ix].body.may_abort = true;
                let longest = if self.rng.chance(20) { 700_000 } else { 3_000 };
                birth += ms(self.rng.range(10, longest));
            }
        }
        let back = self.engine.up_since.is_some_and(|at| self.awake() - at < ms(40_000));
        let wobbles = back && self.actors[ix].needs_engine && self.faulty(Fault::EngineWobbles, 60);
        let still = if wobbles {
            Some(self.rng.pick(&[FaultKind::EngineError, FaultKind::ConnectTimeout]))
        } else if self.faulty(Fault::FailedSpawn, if cursed { 60 } else { 8 }) {
            Some(FaultKind::SpawnFailed)
        } else if self.faulty(Fault::HostIsFull, 5) {
            Some(FaultKind::HostResources)
        } else if self.faulty(Fault::NoSuchCommand, 2) {
            Some(FaultKind::NotFound)
        } else {
            None
        };
        self.after(birth, Cause::Body(n, life, still.map_or(Happening::Born, Happening::StillBorn)));
    }

    /// What this life will do, drawn at its birth.
    fn script(&mut self, ix: usize) {
        let n = ix as u8;
        let cursed = self.chaos && self.now < self.actors[ix].cursed_until;
        let home = self.actors[ix].needs_engine;
        let own = Killer::Own;
        let mut body = self.actors[ix].body;
        let life = body.life;
        body.ignores_eof = self.faulty(Fault::IgnoresEof, 40);
        body.ignores_term = self.faulty(Fault::IgnoresTerm, 40);
        if !home && self.faulty(Fault::Unkillable, 20) {
            body.unkillable_until = self.now + UNKILLABLE_MAX; // renewed when the ladder begins
        }
        if !home && self.faulty(Fault::Grandchildren, 25) {
            body.lingers_ms = self.rng.range(0, LINGERS_MAX.as_millis() as u64);
        }
        self.actors[ix].body = body;

        let slowest = if self.faulty(Fault::LateFirstSign, 20) { 20_000 } else { 300 };
        let mut at = ms(self.rng.range(5, slowest));
        if cursed || self.faulty(Fault::DiesAtOnce, 8) {
            let span = ms(self.rng.range(0, 400));
            return self.after(span, Cause::Body(n, life, Happening::Dies(FaultKind::Exited, own)));
        }
        self.after(at, Cause::Body(n, life, Happening::Sign));
        if self.faulty(Fault::NeverGreets, 8) {
            return;
        }
        at += ms(self.rng.range(1, 500));
        if self.faulty(Fault::BadHandshake, 6) {
            return self.after(at, Cause::Body(n, life, Happening::Fails(FaultKind::HandshakeFailed)));
        }
        self.after(at, Cause::Body(n, life, Happening::Greets));
        at += ms(self.rng.range(1, 200));
        self.after(at, Cause::Body(n, life, Happening::Discovered));
        let latest = if self.rng.chance(30) { 2_000 } else { 600_000 };
        let later = at + ms(self.rng.range(0, latest));
        if home && self.faulty(Fault::Pauses, 30) {
            let span = at + ms(self.rng.range(0, 60_000));
            self.after(span, Cause::Body(n, life, Happening::Pauses));
        }
        for (fault, percent, happening) in [
            (Fault::DiesLater, 40, Happening::Dies(FaultKind::Signaled, own)),
            (Fault::ClosesStdout, 20, Happening::Fails(FaultKind::StdoutClosed)),
            (Fault::BreaksProtocol, 20, Happening::Fails(FaultKind::Protocol)),
            (Fault::Hangs, 30, Happening::Hangs),
        ] {
            if self.faulty(fault, percent) {
                return self.after(later, Cause::Body(n, life, happening));
            }
        }
    }

    pub fn body(&mut self, n: u8, life: Life, happening: Happening) {
        let ix = n as usize;
        let away = self.actors[ix].needs_engine && !self.engine.up;
        let awake = self.awake();
        let body = &mut self.actors[ix].body;
        if body.life != life || matches!(body.state, State::Over | State::Zombie) {
            return;
        }
        match happening {
            Happening::Pauses if body.deaf_since.is_some() || body.state != State::Alive => (),
            Happening::Pauses => {
                body.paused = true;
                body.deaf_since = Some(awake);
                self.tell(ix, Event::Paused(life));
                let longest = if self.rng.chance(20) { 300_000 } else { 20_000 };
                let span = ms(self.rng.range(10, longest));
                self.after(span, Cause::Body(n, life, Happening::Unpauses));
            }
            Happening::Unpauses => {
                body.paused = false;
                body.deaf_since = None;
                // The word of it may be lost: it is looked at again.
                if !self.faulty(Fault::Pauses, 20) {
                    self.tell(ix, Event::Unpaused(life));
                }
                if self.faulty(Fault::Hangs, 20) {
                    self.actors[ix].body.deaf_since = Some(awake);
                }
            }
            Happening::Pulls => self.tell(ix, Event::Pulling(life)),
            Happening::Born if away => {
                let span = ms(self.rng.range(0, 3_000));
                self.after(span, Cause::Body(n, life, Happening::StillBorn(FaultKind::EngineAway)));
            }
            Happening::Born => {
                body.state = State::Alive;
                self.tell(ix, Event::Spawned(life));
                self.script(ix);
            }
            Happening::StillBorn(_) if body.state != State::Unborn => (),
            Happening::StillBorn(fault) => {
                body.state = State::Over;
                body.cause = Some(if fault == FaultKind::EngineAway { Killer::Outage } else { Killer::Own });
                self.tell(ix, Event::SpawnFailed(life, fault));
            }
            Happening::Sign => self.tell(ix, Event::FirstSign(life)),
            Happening::Greets => self.tell(ix, Event::Greeted(life)),
            Happening::Discovered => self.tell(ix, Event::Discovered(life)),
            Happening::Fails(fault) => {
                body.useless = true;
                body.deaf_since.get_or_insert(awake);
                if self.faulty(Fault::AsksToWait, 40) {
                    let longest = self.rng.pick(&[3_000, NOT_BEFORE_MAX.as_millis() as u64]);
                    let pause = ms(self.rng.range(0, longest));
                    self.tell(ix, Event::NotBefore(life, pause));
                }
                self.tell(ix, Event::Failed(life, fault));
                self.life_over(ix, fault);
            }
            Happening::Hangs => {
                body.deaf_since.get_or_insert(awake);
            }
            Happening::Dies(fault, cause) => {
                body.state = State::Zombie;
                body.cause = Some(cause);
                body.died_at = awake;
                self.tell(ix, Event::Exited(life, fault));
                self.life_over(ix, fault);
            }
        }
    }

    fn life_over(&mut self, ix: usize, fault: FaultKind) {
        if self.plant == Plant::CallsOutlive {
            return;
        }
        for (_, call) in self.actors[ix].link.life_over(Ended::new(fault, "over")) {
            self.settle(call.waiter);
        }
    }

    /// An order reaches the life's thread.
    pub fn order(&mut self, ix: usize, action: Action) -> Checked {
        let (now, n) = (self.now, ix as u8);
        let body = self.actors[ix].body;
        let dies = |ignores: bool| body.state == State::Alive && !ignores;
        let frozen = body.paused;
        let killed = Happening::Dies(FaultKind::Signaled, Killer::Ladder);
        let span = ms(self.rng.range(0, 50));
        match action {
            Action::Probe(life) if life == body.life && body.paused => self.tell(ix, Event::Paused(life)),
            Action::Probe(life)
                if life == body.life
                    && body.state == State::Alive
                    && body.deaf_since.is_some()
                    && self.actors[ix].needs_engine =>
            {
                self.tell(ix, Event::Unpaused(life));
            }
            Action::Probe(life)
                if life == body.life && body.state == State::Alive && body.deaf_since.is_none() =>
            {
                self.tell(ix, Event::ProbeOk(life));
            }
            // It lies in the mailbox of a process that is not born yet; a container's birth can be given up.
            Action::CloseInput(life)
                if life == body.life && body.state == State::Unborn && body.may_abort =>
            {
                self.after(span, Cause::Body(n, life, Happening::StillBorn(FaultKind::Stopped)));
            }
            Action::CloseInput(life) if life == body.life && body.state == State::Unborn => (),
            Action::CloseInput(life) if life == body.life => {
                if body.unkillable_until > Time::ZERO {
                    self.actors[ix].body.unkillable_until = now + UNKILLABLE_MAX;
                }
                if dies(body.ignores_eof || frozen) {
                    let span = ms(self.rng.range(0, 450));
                    self.after(
                        span,
                        Cause::Body(n, life, Happening::Dies(FaultKind::Exited, Killer::Ladder)),
                    );
                }
            }
            Action::Term(life) if life == body.life => {
                claim!(body.state != State::Unborn, "C2 {action:?} misses the unborn");
                if dies(body.ignores_term || frozen || now < body.unkillable_until) {
                    self.after(span, Cause::Body(n, life, killed));
                }
            }
            Action::Kill(life) if life == body.life => {
                claim!(body.state != State::Unborn, "C2 {action:?} misses the unborn");
                if dies(now < body.unkillable_until) {
                    self.after(span, Cause::Body(n, life, killed));
                }
            }
            Action::Clear(life) if life == body.life => self.clear(ix, life)?,
            _ => (),
        }
        Ok(())
    }

    fn clear(&mut self, ix: usize, life: Life) -> Checked {
        let now = self.now;
        let body = &mut self.actors[ix].body;
        claim!(
            matches!(body.state, State::Zombie | State::Over),
            "C2 clears life {life}, which is {:?}",
            body.state
        );
        if body.lingers_ms > 0 {
            body.lingers_until = now + ms(body.lingers_ms);
            body.lingers_ms = 0;
        }
        if body.state == State::Zombie && body.lingers_until <= now {
            body.state = State::Over;
            claim!(
                self.actors[ix].link.is_empty(),
                "C9 {} calls outlive their life",
                self.actors[ix].link.len()
            );
            self.tell(ix, Event::Gone(life));
        }
        Ok(())
    }
}
