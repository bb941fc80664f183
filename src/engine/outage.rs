//! Whether an engine is there, as a pure function: what was heard, in which state, at what time -> what to do.
//!
//! [`step`] decides and never acts; the engine's thread (`monitor.rs`) acts and never decides. This file owns the
//! states of an engine, the ladder of its pings, and when silence is called silence. It knows no clock, thread,
//! socket or log; time and dice are arguments. `tests/it/data/outages.txt` prints every state against every event.
//!
//! ```text
//! unknown -> up -> away (paused | down | silent | denied) -> recovering -> up
//!            ^                                                  |
//!            +--- a recovery ends when all are back, or late ---+
//! ```
//!
//! Coming up takes three calls, in this order: ping, the event stream (subscribe first, then list), and once in a
//! life the sweep of what earlier sessions left. `Up` is announced after the last of them. It never gives up.
//!
//! What it relies on: each of the calls that it orders is answered once, and only one is under way at a time.

use crate::base::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Numbers of all engines, from `docker_recovery`. Passed to every step, never stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// `health_check_timeout`: an answer that takes longer is called silence.
    pub ping_patience: Duration,
    /// `polling_intervals`: the pauses between pings of an engine that is away; the last repeats for ever. Empty
    /// (`enabled: false`): it is pinged only when somebody asks.
    pub ladder: Vec<Duration>,
    /// Share of a pause that dice may add or take: 0.2 = +-20 %.
    pub jitter: f64,
    /// Between two pings of an engine that is up and whose event stream is open.
    pub up_every: Duration,
    /// The same for an engine that refuses its event stream: the pings are all that tells.
    pub streamless_every: Duration,
    /// How long the sweep of what earlier sessions left may hold up the first `Up`.
    pub sweep_patience: Duration,
    /// After this a recovery is over, whoever is still not back.
    pub recovery_patience: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        let seconds = Duration::from_secs;
        Policy {
            ping_patience: seconds(3),
            ladder: [2, 5, 10, 30, 60].map(seconds).to_vec(),
            jitter: 0.2,
            up_every: seconds(60),
            streamless_every: seconds(10),
            sweep_patience: seconds(30),
            recovery_patience: seconds(120),
        }
    }
}

/// Why an engine cannot be used; told apart by facts, each with its own advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It says so itself.
    Paused,
    /// Nobody listens: no socket, refused, or hung up.
    Down,
    /// It took the connection and does not answer.
    Silent,
    /// It may not be used by this user.
    Denied,
}

impl Cause {
    pub const ALL: [Cause; 4] = [Cause::Paused, Cause::Down, Cause::Silent, Cause::Denied];

    /// The API's word.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Paused => "paused",
            Cause::Down => "down",
            Cause::Silent => "silent",
            Cause::Denied => "denied",
        }
    }

    /// What a person can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Cause::Paused => "resume Docker Desktop: click Resume in its whale menu or dashboard",
            Cause::Down => "start it: systemctl start docker, or start Docker Desktop",
            Cause::Silent => {
                "it hangs or is busy: look at its log (journalctl -u docker), restart it if it stays so"
            }
            Cause::Denied => {
                "let this user use the socket: add it to the group that owns it (usually docker), and log in again"
            }
        }
    }
}

/// Everything that can be heard of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The ping was answered.
    Answered,
    /// The ping was not answered, or the event stream could not be opened, for this cause.
    Failed(Cause),
    /// The event stream is open, and what there is was listed after it.
    Opened,
    /// The engine is there and does not give its events.
    NoStream,
    /// Containers of earlier sessions are swept, or the sweep's time is over.
    Swept,
    /// The event stream ended.
    Broken,
    /// Something came on the event stream.
    Said,
    /// It said that it shuts down.
    Leaving,
    /// Its socket is there, or is another one, or has other permissions.
    Appeared,
    /// Its socket is gone.
    Vanished,
    /// Somebody is in doubt and wants to hear an announcement, whatever it is.
    Asked,
    /// So many of those who live on it are back.
    Recovered { done: u32, of: u32 },
    /// `next_deadline` has come. Too early, it changes nothing.
    Due,
}

/// Everything that the engine's thread is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ask it, on a new connection, and wait for the answer until then: longer than silence takes to be called
    /// silence, so that an engine that goes on is heard at once.
    Ping {
        until: Time,
    },
    OpenEvents,
    Sweep {
        until: Time,
    },
    Announce(News),
}

/// What those who live on it hear. A level: it may be told twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    Up,
    Away(Cause),
}

/// One engine's machine. Built by [`Presence::new`], moved by [`step`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    phase: Phase,
    /// When the state was entered.
    since: Time,
    call: Call,
    /// Its event stream is open.
    streaming: bool,
    /// What earlier sessions left was swept; once is enough.
    swept: bool,
    /// Something happened that the answer of the call under way cannot know of: ask again.
    stale: bool,
    /// Somebody waits for an announcement.
    asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Unknown,
    Up,
    Away(Away),
    /// It is up again, and those who live on it come back.
    Recovering {
        done: u32,
        of: u32,
        until: Time,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Away {
    cause: Cause,
    /// It was asked and did not answer, or said that it goes. Else only its event stream ended, which also a proxy
    /// may do.
    proven: bool,
    /// Steps of the ladder that were taken.
    tries: u32,
    /// Short steps that are left: its socket has just appeared, and it may not listen yet.
    quick: u32,
    /// The next step of the ladder.
    next: Option<Time>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Call {
    /// Nothing; the next ping is at `next`.
    None {
        next: Option<Time>,
    },
    /// `late`: no answer by then is silence. Nothing: that was said already, and it is still waited for.
    Ping {
        until: Time,
        late: Option<Time>,
    },
    Open,
    Sweep {
        until: Time,
    },
}

/// 50 ms, doubling: between the birth of a socket and its first answer, until the ladder takes over after 1.5 s.
const QUICK_FIRST: Duration = Duration::from_millis(50);
const QUICK_STEPS: u32 = 5;

/// What every decision of one step may look at, and where it writes.
struct Turn<'a> {
    now: Time,
    policy: &'a Policy,
    dice: f64,
    out: &'a mut Vec<Action>,
}

/// One event, one decision. `dice` is uniform in 0..1. Actions are appended to `out` in the order to do them.
pub fn step(
    mut presence: Presence,
    event: Event,
    now: Time,
    policy: &Policy,
    dice: f64,
    out: &mut Vec<Action>,
) -> Presence {
    let state = presence.state();
    let turn = &mut Turn { now, policy, dice, out };
    match event {
        Event::Answered => presence.answered(turn),
        Event::Failed(cause) => presence.failed(cause, turn),
        Event::Opened => presence.opened(true, turn),
        Event::NoStream => presence.opened(false, turn),
        Event::Swept => presence.swept(turn),
        Event::Broken => presence.broken(turn),
        Event::Said => presence.said(turn),
        Event::Leaving => presence.leaving(turn),
        Event::Appeared => presence.appeared(turn),
        Event::Vanished => presence.vanished(turn),
        Event::Asked => presence.asked(turn),
        Event::Recovered { done, of } => presence.recovered(done, of),
        Event::Due => presence.due(turn),
    }
    if presence.state() != state {
        presence.since = now;
    }
    presence
}

impl Presence {
    /// Unknown; its first ping is due at once.
    pub fn new(now: Time) -> Presence {
        Presence {
            phase: Phase::Unknown,
            since: now,
            call: Call::None { next: Some(now) },
            streaming: false,
            swept: false,
            stale: false,
            asked: false,
        }
    }

    /// The API's closed list of states.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Unknown => "unknown",
            Phase::Up => "up",
            Phase::Away(_) => "away",
            Phase::Recovering { .. } => "recovering",
        }
    }

    /// Why it is away.
    pub fn cause(&self) -> Option<Cause> {
        match self.phase {
            Phase::Away(away) => Some(away.cause),
            Phase::Unknown | Phase::Up | Phase::Recovering { .. } => None,
        }
    }

    /// Away for sure, and not only without its event stream: this is what counts as an outage.
    pub fn is_outage(&self) -> bool {
        match self.phase {
            Phase::Away(away) => away.proven,
            Phase::Unknown | Phase::Up | Phase::Recovering { .. } => false,
        }
    }

    /// What those who live on it were told last; nothing while it is unknown.
    pub fn news(&self) -> Option<News> {
        match self.phase {
            Phase::Unknown => None,
            Phase::Up | Phase::Recovering { .. } => Some(News::Up),
            Phase::Away(away) => Some(News::Away(away.cause)),
        }
    }

    /// How many are back, of how many, while it recovers.
    pub fn recovery(&self) -> Option<(u32, u32)> {
        match self.phase {
            Phase::Recovering { done, of, .. } => Some((done, of)),
            Phase::Unknown | Phase::Up | Phase::Away(_) => None,
        }
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Whether its events are heard.
    pub fn streaming(&self) -> bool {
        self.streaming
    }

    /// When it is asked again by itself; nothing while it is being asked, and where nobody asks unless told to.
    pub fn next_probe(&self) -> Option<Time> {
        match self.call {
            Call::None { next } => next,
            Call::Ping { .. } | Call::Open | Call::Sweep { .. } => None,
        }
    }

    /// The shell sleeps until then, and sends `Due`. The text says what it waits for.
    pub fn next_deadline(&self) -> Option<(Time, &'static str)> {
        let call = match self.call {
            Call::None { next } => next.map(|at| (at, "ping")),
            Call::Ping { late, .. } => late.map(|at| (at, "health_check_timeout")),
            Call::Open => None,
            Call::Sweep { until } => Some((until, "sweep")),
        };
        let recovery = match self.phase {
            Phase::Recovering { until, .. } => Some((until, "recovery")),
            Phase::Unknown | Phase::Up | Phase::Away(_) => None,
        };
        call.into_iter().chain(recovery).min_by_key(|(at, _)| *at)
    }

    fn answered(&mut self, turn: &mut Turn<'_>) {
        match self.call {
            Call::Ping { .. } => {}
            Call::None { .. } | Call::Open | Call::Sweep { .. } => return,
        }
        if std::mem::take(&mut self.stale) {
            return self.ping(turn);
        }
        match self.phase {
            Phase::Unknown | Phase::Away(_) => self.open(turn),
            Phase::Up | Phase::Recovering { .. } => {
                if self.asked {
                    self.announce(News::Up, turn);
                }
                if self.streaming { self.rest(turn) } else { self.open(turn) }
            }
        }
    }

    fn failed(&mut self, cause: Cause, turn: &mut Turn<'_>) {
        let waited_out = match self.call {
            Call::Ping { until, .. } => cause == Cause::Silent && until <= turn.now,
            Call::Open => false,
            Call::None { .. } | Call::Sweep { .. } => return,
        };
        let mut away = self.lost(cause, true, turn);
        if away.quick > 0 {
            away.quick -= 1;
            away.next = match away.quick {
                0 => turn.rung(away.tries),
                left => Some(turn.now + QUICK_FIRST * (1 << (QUICK_STEPS - left))),
            };
        } else if away.next.is_none_or(|next| next <= turn.now) {
            away.tries = away.tries.saturating_add(1);
            away.next = turn.rung(away.tries);
        }
        self.phase = Phase::Away(away);
        self.call = Call::None { next: away.next };
        // The pause of this step was spent waiting for the answer.
        let again = waited_out && away.next.is_some();
        if std::mem::take(&mut self.stale) || again {
            self.ping(turn);
        }
    }

    fn opened(&mut self, streaming: bool, turn: &mut Turn<'_>) {
        match self.call {
            Call::Open => self.streaming = streaming,
            Call::None { .. } | Call::Ping { .. } | Call::Sweep { .. } => return,
        }
        if std::mem::take(&mut self.stale) {
            return self.ping(turn);
        }
        match self.phase {
            Phase::Unknown | Phase::Away(_) if !self.swept => {
                let until = turn.now + turn.policy.sweep_patience;
                self.call = Call::Sweep { until };
                turn.out.push(Action::Sweep { until });
            }
            Phase::Unknown | Phase::Away(_) => self.arrive(turn),
            Phase::Up | Phase::Recovering { .. } => self.rest(turn),
        }
    }

    fn swept(&mut self, turn: &mut Turn<'_>) {
        match self.call {
            Call::Sweep { .. } => self.swept = true,
            Call::None { .. } | Call::Ping { .. } | Call::Open => return,
        }
        if std::mem::take(&mut self.stale) { self.ping(turn) } else { self.arrive(turn) }
    }

    /// All that a way back needs is done.
    fn arrive(&mut self, turn: &mut Turn<'_>) {
        self.phase = match self.phase {
            Phase::Unknown => Phase::Up,
            Phase::Away(_) => {
                Phase::Recovering { done: 0, of: 0, until: turn.now + turn.policy.recovery_patience }
            }
            Phase::Up | Phase::Recovering { .. } => self.phase,
        };
        self.rest(turn);
        self.announce(News::Up, turn);
    }

    /// The end of its event stream is news for whoever lives on it, even if it answers in the next moment: their
    /// connections ended with it.
    fn broken(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::take(&mut self.streaming) {
            return;
        }
        match self.phase {
            Phase::Up | Phase::Recovering { .. } => {
                self.phase = Phase::Away(self.lost(Cause::Down, false, turn));
            }
            Phase::Unknown | Phase::Away(_) => {}
        }
        self.ask_anew(turn);
    }

    fn said(&mut self, turn: &mut Turn<'_>) {
        match (self.phase, self.call) {
            (Phase::Away(Away { cause: Cause::Silent, .. }), Call::None { .. }) => self.ping(turn),
            (Phase::Up | Phase::Recovering { .. }, Call::None { .. }) => self.rest(turn),
            (Phase::Unknown | Phase::Away(_), Call::None { .. })
            | (_, Call::Ping { .. } | Call::Open | Call::Sweep { .. }) => {}
        }
    }

    fn leaving(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Up | Phase::Recovering { .. } => {}
            Phase::Unknown | Phase::Away(_) => return,
        }
        let away = self.lost(Cause::Down, true, turn);
        self.phase = Phase::Away(away);
        match self.call {
            // Not at once: it would answer until it is gone.
            Call::None { .. } => self.call = Call::None { next: away.next },
            Call::Ping { .. } | Call::Open | Call::Sweep { .. } => self.stale = true,
        }
    }

    fn appeared(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Away(away) = &mut self.phase {
            (away.tries, away.quick, away.next) = (0, QUICK_STEPS + 1, turn.rung(0));
        }
        self.ask_anew(turn);
    }

    fn vanished(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Up | Phase::Recovering { .. } => self.ask_anew(turn),
            Phase::Unknown | Phase::Away(_) => {}
        }
    }

    fn asked(&mut self, turn: &mut Turn<'_>) {
        match (self.phase, self.call) {
            // It is silent, and just now it is being waited for.
            (Phase::Away(away), Call::Ping { late: None, .. }) => self.announce(News::Away(away.cause), turn),
            (Phase::Unknown | Phase::Away(_), Call::Ping { .. } | Call::Open | Call::Sweep { .. }) => {
                self.asked = true;
            }
            (Phase::Unknown | Phase::Away(_), Call::None { .. })
            | (Phase::Up | Phase::Recovering { .. }, _) => {
                self.asked = true;
                self.ask_anew(turn);
            }
        }
    }

    fn recovered(&mut self, done: u32, of: u32) {
        match self.phase {
            Phase::Recovering { .. } if done >= of => self.phase = Phase::Up,
            Phase::Recovering { until, .. } => self.phase = Phase::Recovering { done, of, until },
            Phase::Unknown | Phase::Up | Phase::Away(_) => {}
        }
    }

    fn due(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Recovering { until, .. } if until <= turn.now => self.phase = Phase::Up,
            Phase::Unknown | Phase::Up | Phase::Away(_) | Phase::Recovering { .. } => {}
        }
        match self.call {
            Call::None { next: Some(next) } if next <= turn.now => self.ping(turn),
            Call::Ping { until, late: Some(late) } if late <= turn.now => {
                let mut away = self.lost(Cause::Silent, true, turn);
                away.next = turn.policy.ladder.first().map(|_| until);
                self.phase = Phase::Away(away);
                self.call = Call::Ping { until, late: None };
            }
            Call::Sweep { until } if until <= turn.now => self.swept(turn),
            Call::None { .. } | Call::Ping { .. } | Call::Open | Call::Sweep { .. } => {}
        }
    }

    /// It cannot be used, for this cause; those who live on it hear that if it is news, or if somebody asked.
    fn lost(&mut self, cause: Cause, proven: bool, turn: &mut Turn<'_>) -> Away {
        let (away, news) = match self.phase {
            Phase::Away(away) => (Away { cause, proven: proven || away.proven, ..away }, cause != away.cause),
            Phase::Unknown | Phase::Up | Phase::Recovering { .. } => {
                (Away { cause, proven, tries: 0, quick: 0, next: turn.rung(0) }, true)
            }
        };
        if news || self.asked {
            self.announce(News::Away(cause), turn);
        }
        away
    }

    /// Something happened: a ping that is sent from now on tells what it means.
    fn ask_anew(&mut self, turn: &mut Turn<'_>) {
        match self.call {
            Call::None { .. } => self.ping(turn),
            Call::Ping { .. } | Call::Open | Call::Sweep { .. } => self.stale = true,
        }
    }

    fn ping(&mut self, turn: &mut Turn<'_>) {
        let tries = match self.phase {
            Phase::Away(away) => away.tries,
            Phase::Unknown | Phase::Up | Phase::Recovering { .. } => 0,
        };
        let late = turn.now + turn.policy.ping_patience;
        let until = late + turn.rung(tries).map_or(Duration::ZERO, |next| next - turn.now);
        self.call = Call::Ping { until, late: Some(late) };
        turn.out.push(Action::Ping { until });
    }

    fn open(&mut self, turn: &mut Turn<'_>) {
        self.call = Call::Open;
        turn.out.push(Action::OpenEvents);
    }

    /// Nothing to do until the next ping of an engine that is up.
    fn rest(&mut self, turn: &Turn<'_>) {
        let every = if self.streaming { turn.policy.up_every } else { turn.policy.streamless_every };
        let next = (!turn.policy.ladder.is_empty()).then(|| turn.now + every);
        self.call = Call::None { next };
    }

    fn announce(&mut self, news: News, turn: &mut Turn<'_>) {
        self.asked = false;
        turn.out.push(Action::Announce(news));
    }
}

impl Turn<'_> {
    /// When the pause after so many steps of the ladder is over, spread by the dice; nothing without a ladder.
    fn rung(&self, tries: u32) -> Option<Time> {
        let last = self.policy.ladder.len().checked_sub(1)?;
        let pause = self.policy.ladder[last.min(tries as usize)];
        let spread = 1.0 + self.policy.jitter * (2.0 * self.dice - 1.0);
        Some(self.now + pause.mul_f64(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One engine, told one event after the other; dice 0.5, so pauses are exact.
    struct Told {
        presence: Presence,
        now: Time,
        policy: Policy,
        done: Vec<Action>,
    }

    impl Told {
        fn new() -> Told {
            let policy = Policy::default();
            Told { presence: Presence::new(Time::ZERO), now: Time::ZERO, policy, done: Vec::new() }
        }

        fn tell(&mut self, event: Event) -> &mut Told {
            self.done.clear();
            self.presence = step(self.presence.clone(), event, self.now, &self.policy, 0.5, &mut self.done);
            self
        }

        /// The next deadline comes.
        fn due(&mut self) -> &mut Told {
            self.now = self.presence.next_deadline().expect("it waits for something").0;
            self.tell(Event::Due)
        }

        fn up(&mut self) -> &mut Told {
            self.due().tell(Event::Answered).tell(Event::Opened).tell(Event::Swept)
        }

        fn is(&self, state: &str, done: &[Action]) {
            assert_eq!((self.presence.state(), &self.done[..]), (state, done));
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_ms(ms)
    }

    #[test]
    fn the_way_up() {
        let mut told = Told::new();
        told.due().is("unknown", &[Action::Ping { until: at(5_000) }]);
        told.tell(Event::Answered).is("unknown", &[Action::OpenEvents]);
        told.tell(Event::Opened).is("unknown", &[Action::Sweep { until: at(30_000) }]);
        told.tell(Event::Swept).is("up", &[Action::Announce(News::Up)]);
        assert_eq!(told.presence.next_deadline(), Some((at(60_000), "ping")));
    }

    #[test]
    fn a_sweep_does_not_hold_it_up_for_ever() {
        let mut told = Told::new();
        told.due().tell(Event::Answered).tell(Event::Opened);
        told.due().is("up", &[Action::Announce(News::Up)]);
        told.tell(Event::Swept).is("up", &[]);
    }

    #[test]
    fn the_ladder_climbs_and_never_ends() {
        let mut told = Told::new();
        told.up().tell(Event::Vanished).tell(Event::Failed(Cause::Down));
        told.is("away", &[Action::Announce(News::Away(Cause::Down))]);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let from = told.now;
            told.due();
            pauses.push((told.now - from).as_secs());
            told.tell(Event::Failed(Cause::Down)).is("away", &[]);
        }
        assert_eq!(pauses, [2, 5, 10, 30, 60, 60, 60, 60]);
        told.due().tell(Event::Answered).tell(Event::Opened);
        told.is("recovering", &[Action::Announce(News::Up)]);
        told.tell(Event::Recovered { done: 0, of: 3 }).is("recovering", &[]);
        told.tell(Event::Recovered { done: 3, of: 3 }).is("up", &[]);
    }

    #[test]
    fn silence_is_said_in_time_and_the_pause_is_spent_listening() {
        let mut told = Told::new();
        told.up().due().is("up", &[Action::Ping { until: at(65_000) }]);
        told.due().is("away", &[Action::Announce(News::Away(Cause::Silent))]);
        assert_eq!(told.now, at(63_000));
        told.now = at(65_000);
        told.tell(Event::Failed(Cause::Silent)).is("away", &[Action::Ping { until: at(73_000) }]);
        // It goes on: the call that waits is answered, and no timer is needed.
        told.now = at(66_000);
        told.tell(Event::Answered).is("away", &[Action::OpenEvents]);
    }

    #[test]
    fn a_refusal_at_once_is_no_loop_although_it_is_called_silence() {
        let mut told = Told::new();
        told.due().tell(Event::Failed(Cause::Silent));
        told.is("away", &[Action::Announce(News::Away(Cause::Silent))]);
        assert_eq!(told.presence.next_deadline(), Some((at(2_000), "ping")));
    }

    #[test]
    fn a_new_socket_is_asked_at_once_and_soon_again() {
        let mut told = Told::new();
        told.up().tell(Event::Broken).tell(Event::Failed(Cause::Down));
        let born = told.now;
        told.tell(Event::Appeared).is("away", &[Action::Ping { until: at(5_000) }]);
        let mut moments = Vec::new();
        for _ in 0..6 {
            told.tell(Event::Failed(Cause::Down)).due();
            moments.push((told.now - born).as_millis());
        }
        assert_eq!(moments, [50, 150, 350, 750, 1550, 3550]);
    }

    #[test]
    fn what_happens_during_a_ping_is_asked_again() {
        let mut told = Told::new();
        told.up().tell(Event::Asked).tell(Event::Asked).is("up", &[]);
        told.tell(Event::Answered).is("up", &[Action::Ping { until: at(5_000) }]);
        told.tell(Event::Answered).is("up", &[Action::Announce(News::Up)]);
    }

    #[test]
    fn a_stream_that_only_ends_is_no_outage() {
        let mut told = Told::new();
        told.up().tell(Event::Broken);
        told.is("away", &[Action::Announce(News::Away(Cause::Down)), Action::Ping { until: at(5_000) }]);
        assert!(!told.presence.is_outage());
        told.tell(Event::Failed(Cause::Down)).is("away", &[]);
        assert!(told.presence.is_outage());
    }

    #[test]
    fn without_a_ladder_it_is_asked_only_when_somebody_asks() {
        let mut told = Told::new();
        told.policy.ladder.clear();
        told.up();
        assert_eq!(told.presence.next_deadline(), None);
        told.tell(Event::Asked).is("up", &[Action::Ping { until: at(3_000) }]);
        told.tell(Event::Failed(Cause::Silent)).is("away", &[Action::Announce(News::Away(Cause::Silent))]);
        assert_eq!(told.presence.next_deadline(), None);
        told.tell(Event::Asked).is("away", &[Action::Ping { until: at(3_000) }]);
    }

    #[test]
    fn an_engine_without_events_is_watched_by_pings() {
        let mut told = Told::new();
        told.due().tell(Event::Answered).tell(Event::NoStream).tell(Event::Swept);
        told.is("up", &[Action::Announce(News::Up)]);
        assert_eq!(told.presence.next_deadline(), Some((at(10_000), "ping")));
    }

    #[test]
    fn names() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_string(&cause).unwrap(), format!("\"{}\"", cause.name()));
            assert!(!cause.advice().is_empty() && !cause.advice().ends_with('.'));
        }
    }
}
