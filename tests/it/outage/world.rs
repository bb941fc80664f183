//! A simulated engine that breaks in every way at random moments, or flaps every second for an hour, and the claims
//! that its machine must keep:
//! one call at a time; always something to wait for; no loop; who asks is answered; whoever heard `Up` hears `Away`
//! before the next `Up` if its connections ended in between; and when the world heals, `Up` in bounded time.

use crate::sim::rng::Rng;
use mcpvisor::base::time::Time;
use mcpvisor::engine::outage::{Action, Cause, Event, News, Policy, Presence, step};
use std::time::Duration;

/// Machine steps that a change must survive.
const STEPS: u64 = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Ping(Time),
    Open(Time),
    Sweep,
}

/// `None` works; otherwise why not.
type Trouble = Option<Cause>;

/// A fault in the machine, put there to see that the claims see it.
#[derive(Clone, Copy, Debug)]
enum Plant {
    DropAway,
    DropUp,
    DropPing,
    DropOpen,
    DoublePing,
    DeafToItsEnd,
}

struct World {
    plant: Option<Plant>,
    rng: Rng,
    now: Time,
    presence: Presence,
    policy: Policy,
    trouble: Trouble,
    /// Since when it is as it is.
    since: Time,
    call: Option<Call>,
    /// When the call under way is answered, and how.
    answer: Option<(Time, Event)>,
    stream: bool,
    /// Their connections ended since they heard `Up`.
    hurt: bool,
    heard: Option<News>,
    /// Who asked first, and is not answered yet.
    asked: Option<Time>,
    pings: u64,
    /// What may cause a ping outside the ladder.
    nudges: u64,
    steps: u64,
    streamless: bool,
    /// How a recovery goes, said after all that one step orders is done.
    report: Option<Event>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let streamless = rng.chance(10);
        World {
            plant: None,
            now: Time::ZERO,
            presence: Presence::new(Time::ZERO),
            policy: Policy::default(),
            trouble: if rng.chance(70) { None } else { Some(rng.pick(&Cause::ALL)) },
            since: Time::ZERO,
            call: None,
            answer: None,
            stream: false,
            hurt: false,
            heard: None,
            asked: None,
            pings: 0,
            nudges: 0,
            steps: 0,
            streamless,
            report: None,
            rng,
        }
    }

    fn tell(&mut self, event: Event) {
        if matches!((self.plant, event), (Some(Plant::DeafToItsEnd), Event::Broken)) {
            return;
        }
        let mut out = Vec::new();
        let dice = self.rng.dice();
        self.presence = step(self.presence.clone(), event, self.now, &self.policy, dice, &mut out);
        self.steps += 1;
        for action in out {
            match (self.plant, action) {
                (Some(Plant::DropAway), Action::Announce(News::Away(_)))
                | (Some(Plant::DropUp), Action::Announce(News::Up))
                | (Some(Plant::DropPing), Action::Ping { .. })
                | (Some(Plant::DropOpen), Action::OpenEvents) => {}
                (Some(Plant::DoublePing), Action::Ping { .. }) => {
                    self.act(action);
                    self.act(action);
                }
                (_, action) => self.act(action),
            }
        }
        if let Some(report) = self.report.take() {
            return self.tell(report);
        }
        let waits = self.call.is_some() || self.presence.next_deadline().is_some();
        assert!(waits, "after {event:?} nothing will ever happen: {:?}", self.presence);
        if let Some(asked) = self.asked {
            let slow = self.policy.ping_patience * 4 + self.policy.sweep_patience;
            assert!(self.now - asked <= slow, "asked at {asked:?} and not answered: {:?}", self.presence);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ping { until } => self.order(Call::Ping(until)),
            Action::OpenEvents => self.order(Call::Open(self.now + self.policy.ping_patience)),
            Action::Sweep { .. } => self.order(Call::Sweep),
            Action::Announce(news) => self.announce(news),
        }
    }

    fn order(&mut self, call: Call) {
        // A sweep that was given up is still under way in the shell, which then waits for it.
        assert!(self.call.is_none() || self.call == Some(Call::Sweep), "{call:?} beside {:?}", self.call);
        self.pings += u64::from(matches!(call, Call::Ping(_)));
        self.call = Some(call);
        self.decide();
    }

    /// How the call under way ends, as the engine is now.
    fn decide(&mut self) {
        let soon = self.now + Duration::from_millis(self.rng.range(0, 40));
        self.answer = self.call.map(|call| match (call, self.trouble) {
            (Call::Ping(_), None) => (soon, Event::Answered),
            (Call::Open(_), None) if self.streamless => (soon, Event::NoStream),
            (Call::Open(_), None) => (soon, Event::Opened),
            (Call::Sweep, None) => (soon, Event::Swept),
            (Call::Sweep, Some(_)) => (self.now + self.policy.sweep_patience, Event::Swept),
            (Call::Ping(until) | Call::Open(until), Some(Cause::Silent)) => {
                (until.max(self.now), Event::Failed(Cause::Silent))
            }
            (Call::Ping(_) | Call::Open(_), Some(cause)) => (soon, Event::Failed(cause)),
        });
    }

    fn announce(&mut self, news: News) {
        self.asked = None;
        if news == News::Up && self.heard == Some(News::Up) {
            assert!(!self.hurt, "their connections ended and nobody told them");
        }
        if news == News::Up {
            self.hurt = false;
            let of = self.rng.range(0, 3) as u32;
            self.report = Some(Event::Recovered { done: self.rng.range(0, 3) as u32, of });
        }
        self.heard = Some(news);
    }

    /// The engine becomes so.
    fn turn(&mut self, trouble: Trouble) {
        if trouble == self.trouble {
            return;
        }
        (self.trouble, self.since) = (trouble, self.now);
        // What hangs goes on, or is cut; what is answered already stays so.
        if self.call.is_some() && matches!(self.answer, Some((_, Event::Failed(Cause::Silent)))) {
            self.decide();
        }
        self.nudges += 1;
        if trouble == Some(Cause::Down) {
            if std::mem::take(&mut self.stream) {
                self.hurt = true;
                self.tell(Event::Broken);
            }
            if self.rng.chance(50) {
                self.tell(Event::Vanished);
            }
        }
        if trouble.is_none() && self.rng.chance(50) {
            self.tell(Event::Appeared);
        }
    }

    /// Until the next thing happens, or `until`.
    fn advance(&mut self, until: Time) {
        let deadline = self.presence.next_deadline().map(|(at, _)| at);
        let answer = self.answer.map(|(at, _)| at);
        let next = deadline.into_iter().chain(answer).chain([until]).min().unwrap();
        self.now = self.now.max(next);
        if let Some((at, event)) = self.answer
            && at <= self.now
        {
            (self.answer, self.call) = (None, None);
            self.stream |= event == Event::Opened;
            return self.tell(event);
        }
        if deadline.is_some_and(|at| at <= self.now) {
            self.tell(Event::Due);
        }
    }

    fn run_to(&mut self, until: Time) {
        while self.now < until {
            self.advance(until);
        }
    }

    fn nudge(&mut self) {
        self.nudges += 1;
        let event = self.rng.pick(&[
            Event::Asked,
            Event::Asked,
            Event::Appeared,
            Event::Vanished,
            Event::Said,
            Event::Broken,
            Event::Leaving,
        ]);
        if event == Event::Asked {
            self.asked = self.asked.or(Some(self.now));
        }
        if event == Event::Broken {
            self.hurt |= std::mem::take(&mut self.stream);
        }
        self.tell(event);
    }

    /// The world heals: everybody hears `Up` in bounded time, and the recovery ends.
    fn heal(&mut self) {
        self.turn(None);
        let longest = self.policy.ladder.last().unwrap().mul_f64(1.2);
        let bound = self.now + longest + self.policy.ping_patience * 3 + self.policy.sweep_patience;
        self.run_to(bound);
        assert_eq!(self.heard, Some(News::Up), "healed at {:?}: {:?}", self.since, self.presence);
        assert!(!self.hurt);
        assert_eq!(self.stream, !self.streamless);
        self.run_to(bound + self.policy.recovery_patience + Duration::from_secs(1));
        assert_eq!(self.presence.state(), "up");
        // Each nudge may cause a quick row of pings; else the ladder's first step is the fastest.
        let quiet = self.now.as_ms() / 1_600 + 2;
        assert!(self.pings <= quiet + 8 * self.nudges, "{} pings, {} nudges", self.pings, self.nudges);
    }
}

/// One life of an engine; the steps that its machine took.
fn live(seed: u64, plant: Option<Plant>) -> u64 {
    let mut world = World { plant, ..World::new(seed) };
    for _ in 0..world.rng.range(5, 60) {
        let span = world.rng.pick(&[1, 30, 700, 4_000, 90_000]);
        let until = world.now + Duration::from_millis(world.rng.range(0, span));
        world.run_to(until);
        match world.rng.below(3) {
            0 => world.turn(None),
            1 => {
                let cause = world.rng.pick(&Cause::ALL);
                world.turn(Some(cause));
            }
            _ => world.nudge(),
        }
    }
    world.heal();
    world.steps
}

#[test]
fn whatever_an_engine_does() {
    let (mut seed, mut steps) = (0, 0);
    while steps < STEPS {
        steps += live(seed, None);
        seed += 1;
    }
    println!("{seed} seeds, {steps} steps of an engine's machine");
}

#[test]
fn the_claims_see() {
    use Plant::*;
    for plant in [DropAway, DropUp, DropPing, DropOpen, DoublePing, DeafToItsEnd] {
        let seen = (0..200).any(|seed| std::panic::catch_unwind(|| live(seed, Some(plant))).is_err());
        assert!(seen, "{plant:?} was not seen");
    }
}

#[test]
fn flapping_every_second_for_an_hour() {
    for cause in Cause::ALL {
        let mut world = World::new(cause as u64);
        for second in 0..3_600 {
            world.turn(if second % 2 == 0 { Some(cause) } else { None });
            world.run_to(Time::from_ms(1_000 * (second + 1)));
        }
        world.heal();
    }
}
