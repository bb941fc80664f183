//! The whole table, and every way through it beside a model of the two lives.

use super::*;
use std::collections::BTreeSet;
use std::fmt::Write;

const DRAIN: Duration = Duration::from_secs(10);

const EVENTS: [Event; 10] = [
    Event::Restart { serves: true },
    Event::Restart { serves: false },
    Event::Ready,
    Event::Failed,
    Event::Lost,
    Event::Drained,
    Event::Over { serves: true },
    Event::Over { serves: false },
    Event::Stop,
    Event::Due,
];

fn draining(again: bool) -> Switch {
    Switch::Draining { until: Time::from_ms(10_000), again }
}

#[test]
fn every_state_against_every_event() {
    let states = [
        Switch::Single,
        Switch::Rehearsing,
        draining(false),
        draining(true),
        Switch::Ending { again: false },
        Switch::Ending { again: true },
    ];
    let mut table = String::new();
    for state in states {
        for event in EVENTS {
            let mut out = Vec::new();
            let next = step(state, event, Time::ZERO, DRAIN, &mut out);
            if next != state || !out.is_empty() {
                writeln!(table, "{} + {} -> {} {out:?}", short(state), word(event), short(next)).unwrap();
            }
        }
    }
    let expected = "
single + restart -> rehearsing [Rehearse]
single + restart, nothing serves -> single [Renew]
rehearsing + restart -> ending, again [Dismiss]
rehearsing + restart, nothing serves -> ending, again [Dismiss]
rehearsing + ready -> draining [Promote]
rehearsing + failed -> ending [Blame, Dismiss]
rehearsing + lost -> ending [Promote, Dismiss]
rehearsing + over -> single [Blame, Forget]
rehearsing + over, nothing serves -> single [Blame, Forget]
rehearsing + stop -> ending [Dismiss]
draining + restart -> draining, again []
draining + restart, nothing serves -> draining [Renew]
draining + drained -> ending [Dismiss]
draining + over -> single [Forget]
draining + over, nothing serves -> single [Forget]
draining + stop -> ending [Dismiss]
draining, again + restart, nothing serves -> draining [Renew]
draining, again + drained -> ending, again [Dismiss]
draining, again + over -> rehearsing [Forget, Rehearse]
draining, again + over, nothing serves -> single [Forget, Renew]
draining, again + stop -> ending [Dismiss]
ending + restart -> ending, again []
ending + restart, nothing serves -> ending [Renew]
ending + over -> single [Forget]
ending + over, nothing serves -> single [Forget]
ending, again + restart, nothing serves -> ending [Renew]
ending, again + over -> rehearsing [Forget, Rehearse]
ending, again + over, nothing serves -> single [Forget, Renew]
ending, again + stop -> ending []
";
    assert_eq!(table.trim(), expected.trim());
}

#[test]
fn a_drain_has_its_bound() {
    let at = |ms| step(draining(true), Event::Due, Time::from_ms(ms), DRAIN, &mut Vec::new());
    assert_eq!(at(9_999), draining(true));
    assert_eq!(at(10_000), Switch::Ending { again: true });
    assert_eq!(draining(false).next_deadline(), Some(Time::from_ms(10_000)));
}

fn short(switch: Switch) -> String {
    let (word, again) = match switch {
        Switch::Single => ("single", false),
        Switch::Rehearsing => ("rehearsing", false),
        Switch::Draining { again, .. } => ("draining", again),
        Switch::Ending { again } => ("ending", again),
    };
    format!("{word}{}", if again { ", again" } else { "" })
}

fn word(event: Event) -> String {
    match event {
        Event::Restart { serves: true } => "restart".to_owned(),
        Event::Restart { serves: false } => "restart, nothing serves".to_owned(),
        Event::Over { serves: true } => "over".to_owned(),
        Event::Over { serves: false } => "over, nothing serves".to_owned(),
        Event::Ready | Event::Failed | Event::Lost | Event::Drained | Event::Stop | Event::Due => {
            format!("{event:?}").to_lowercase()
        }
    }
}

/// A supervisor as a switch sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// It starts, or starts again after a crash.
    Starting,
    Ready,
    /// Its life is ending, and then it is off.
    Ending,
    Off,
}

/// What there is beside the switch. Nobody wants it any more once it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    switch: Switch,
    front: Part,
    other: Option<Part>,
    stopped: bool,
    /// Somebody was served, and nothing has gone wrong since but a life that rehearses.
    served: bool,
}

impl World {
    /// What may happen here, as the stage reports it.
    fn moves(self) -> Vec<World> {
        let serves = self.front == Part::Ready;
        let rehearses = self.switch == Switch::Rehearsing;
        let mut all = Vec::new();
        // By themselves.
        match self.front {
            Part::Starting => all.push(World { front: Part::Ready, served: true, ..self }),
            Part::Ready => {
                let lost = World { front: Part::Starting, served: false, ..self };
                all.push(if rehearses { lost.told(Event::Lost) } else { lost });
            }
            Part::Ending => all.push(World { front: Part::Off, ..self }),
            Part::Off => (),
        }
        match self.other {
            Some(Part::Starting) if rehearses => {
                all.push(World { other: Some(Part::Ready), ..self }.told(Event::Ready));
                all.push(self.told(Event::Failed));
            }
            Some(Part::Ready) if matches!(self.switch, Switch::Draining { .. }) => {
                all.push(self.told(Event::Drained));
                all.push(self.told(Event::Due));
            }
            Some(Part::Ending) => all.push(World { other: Some(Part::Off), ..self }),
            Some(Part::Off) => all.push(self.told(Event::Over { serves })),
            Some(Part::Starting | Part::Ready) | None => (),
        }
        // By people.
        if self.stopped {
            return all;
        }
        all.push(self.told(Event::Restart { serves }));
        let stopped = World { stopped: true, served: false, ..self }.told(Event::Stop);
        all.push(World {
            front: if stopped.front == Part::Off { Part::Off } else { Part::Ending },
            ..stopped
        });
        all
    }

    fn told(mut self, event: Event) -> World {
        let mut actions = Vec::new();
        // Beyond every bound, so that a deadline that is looked at has come.
        self.switch = step(self.switch, event, Time::from_ms(20_000), Duration::ZERO, &mut actions);
        for action in actions {
            self.act(action);
        }
        // One state for all drains.
        if let Switch::Draining { again, .. } = self.switch {
            self.switch = Switch::Draining { until: Time::ZERO, again };
        }
        self
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Rehearse => {
                assert_eq!(self.other, None, "a third: {self:?}");
                assert!(!self.stopped, "nobody wants it: {self:?}");
                self.other = Some(Part::Starting);
            }
            Action::Promote => {
                let other = self.other.as_mut().expect("somebody to promote");
                std::mem::swap(&mut self.front, other);
                self.served = self.front == Part::Ready;
            }
            Action::Dismiss => self.other = Some(Part::Ending),
            Action::Forget => {
                assert_eq!(self.other, Some(Part::Off), "it is not over: {self:?}");
                self.other = None;
            }
            Action::Renew => {
                assert_ne!(self.front, Part::Ready, "it serves: {self:?}");
                self.front = Part::Starting;
            }
            Action::Blame => (),
        }
    }

    fn check(self) {
        assert_eq!(self.other.is_none(), self.switch == Switch::Single, "{self:?}");
        assert!(!self.served || self.front == Part::Ready, "nobody serves: {self:?}");
        assert!(!self.stopped || self.front != Part::Starting, "it starts, and nobody wants it: {self:?}");
    }
}

/// Never a third; one serves as long as nothing but a rehearsal fails; and whatever happened, what happens by itself
/// leads back to one or none.
#[test]
fn every_way_through_a_switch() {
    let first =
        World { switch: Switch::Single, front: Part::Starting, other: None, stopped: false, served: false };
    let (mut known, mut new) = (BTreeSet::from([first]), vec![first]);
    while let Some(world) = new.pop() {
        world.check();
        new.extend(world.moves().into_iter().filter(|next| known.insert(*next)));
    }
    assert!(known.len() > 15, "{}", known.len());
    for world in known {
        assert!(settles(world), "{world:?}");
    }
}

/// With nobody asking for anything, the other one ends.
fn settles(mut world: World) -> bool {
    for _ in 0..8 {
        let serves = world.front == Part::Ready;
        world = match (world.switch, world.other) {
            (Switch::Single, _) => return true,
            (Switch::Rehearsing, _) => World { other: Some(Part::Ready), ..world }.told(Event::Ready),
            (Switch::Draining { .. }, _) => world.told(Event::Due),
            (Switch::Ending { .. }, Some(Part::Off)) => world.told(Event::Over { serves }),
            (Switch::Ending { .. }, _) => World { other: Some(Part::Off), ..world },
        };
    }
    false
}
