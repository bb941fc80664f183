//! The thread of one engine, "engine:<n>": it waits, tells the machine of `outage.rs` what happened, and does what it
//! says. It blocks in one poll: for whoever asks, the event stream, the socket's directory, a report of `caller.rs`, and
//! the machine's deadline. It ends when the engine's `Watched` is dropped.

use super::api::Engine;
use super::caller::{self, Caller, Opened, Order, Report};
use super::cause::cause_of_ping;
use super::endpoint::Endpoint;
use super::engines::Terms;
use super::error::EngineError;
use super::events::{self, Events};
use super::outage::{Action, Cause, Event, News, Policy, Presence, step};
use super::socket::{Sight, SocketFile};
use super::stream::Next;
use super::tidings::{Recovered, Tidings};
use super::watched::{Census, Happened, Heard, Outages, Progress, Shared, Snapshot, Watched};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{ENGINE_CONTAINERS_MAX, ENGINE_EVENTS_AT_ONCE};
use crate::base::text::{shorten, span};
use crate::base::time::{Time, Wall};
use crate::sys::net::poll_until;
use crate::sys::{clock, thread};
use nix::poll::{PollFd, PollFlags};
use parking_lot::RwLock;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Of the names in one line of the log.
const NAMES_CHARS_MAX: usize = 200;

struct Monitor {
    engine: Engine,
    shared: Arc<Shared>,
    terms: Terms,
    policy: Arc<RwLock<Policy>>,
    caller: Caller,
    presence: Presence,
    /// What happened and the machine was not told yet: it is told one thing after the other.
    pending: VecDeque<Event>,
    events: Option<Events>,
    /// Nothing for TCP, or where the host has no watches left: the pings remain.
    socket: Option<SocketFile>,
    /// What the last call that failed said.
    trouble: String,
    containers: BTreeSet<String>,
    outage: Outage,
    /// What people are told once they see it.
    tidings: Vec<Tidings>,
    shown: Snapshot,
    since: Moment,
    next: Option<Moment>,
}

/// A moment as people see it, written once.
#[derive(Clone, Debug)]
struct Moment {
    at: Time,
    text: String,
}

impl Moment {
    fn of(at: Time) -> Moment {
        let (now, wall) = (clock::now(), clock::wall());
        let ms = wall.0.saturating_add(at.since(now).as_millis() as u64);
        let ms = ms.saturating_sub(now.since(at).as_millis() as u64);
        Moment { at, text: Wall(ms).rfc3339() }
    }
}

/// The outage that is, or was last.
#[derive(Debug, Default)]
struct Outage {
    /// Since when it is away for sure.
    began: Option<Time>,
    /// When it answered again.
    ended: Option<Time>,
    /// The one whose start people were told, and not its end.
    told: Option<Told>,
    kept: Outages,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    cause: Cause,
    /// When it answered last after having been away, and how long it was away before.
    back: Option<(Time, Duration)>,
}

/// Begins to watch.
pub(super) fn start(
    number: usize,
    engine: Engine,
    terms: Terms,
    policy: Arc<RwLock<Policy>>,
) -> io::Result<Watched> {
    let endpoint = engine.endpoint().clone();
    let shown = first_snapshot(endpoint.clone());
    let shared = Arc::new(Shared::new(shown.clone())?);
    let caller =
        caller::start(number, engine.clone(), shared.clone(), terms.label.clone(), terms.sweep.clone())?;
    let monitor = Monitor {
        engine: engine.clone(),
        shared: shared.clone(),
        terms,
        policy,
        caller,
        presence: Presence::new(clock::now()),
        pending: VecDeque::new(),
        events: None,
        socket: socket_file(&endpoint),
        trouble: String::new(),
        containers: BTreeSet::new(),
        outage: Outage::default(),
        tidings: Vec::new(),
        shown,
        since: Moment::of(clock::now()),
        next: None,
    };
    thread::spawn_vital(&format!("engine:{number}"), move || monitor.run())?;
    Ok(Watched::new(engine, shared))
}

fn socket_file(endpoint: &Endpoint) -> Option<SocketFile> {
    let Endpoint::Unix(path) = endpoint else { return None };
    match SocketFile::watch(path) {
        Ok(file) => Some(file),
        Err(error) => {
            log::warn!("engine {endpoint}: watch its directory: {error}; it is looked for by pings alone");
            None
        }
    }
}

impl Monitor {
    fn run(mut self) {
        // It is asked before anybody waits for what is remembered of it.
        self.hear();
        self.decide();
        self.recall();
        while !self.shared.is_stopped() {
            self.hear();
            self.decide();
            self.show();
            self.wait();
        }
    }

    /// Everything that may have happened, without waiting.
    fn hear(&mut self) {
        self.shared.wake.clear();
        self.read_events();
        self.look_at_socket();
        while let Ok(report) = self.caller.reports.try_recv() {
            self.take(report);
        }
        if self.shared.take_asked() {
            self.pending.push_back(Event::Asked);
        }
        if let Some((done, of)) = self.presence.recovery() {
            let census = self.shared.census();
            let now = census.progress();
            if (now.done, now.of) != (done, of) {
                self.pending.push_back(Event::Recovered { done: now.done, of: now.of });
            }
        }
        if self.presence.next_deadline().is_some_and(|(at, _)| at <= clock::now()) {
            self.pending.push_back(Event::Due);
        }
    }

    fn decide(&mut self) {
        let mut actions = Vec::new();
        while let Some(event) = self.pending.pop_front() {
            let (was, now) = (self.presence.clone(), clock::now());
            let policy = self.policy.read().clone();
            self.presence = step(was.clone(), event, now, &policy, fastrand::f64(), &mut actions);
            if event == Event::Due && self.presence.cause() == Some(Cause::Silent) {
                self.trouble = format!("ping: no answer within {}", span(policy.ping_patience));
            }
            self.note(&was, now);
            for action in actions.drain(..) {
                self.act(action, &policy);
            }
        }
        if let Some(news) = self.presence.news() {
            self.shared.tell_fresh(&self.heard(news));
        }
    }

    fn act(&mut self, action: Action, policy: &Policy) {
        let order = match action {
            Action::Ping { until } => Order::Ping { until },
            Action::OpenEvents => Order::Open { patience: policy.ping_patience },
            Action::Sweep { until } => Order::Sweep { until },
            Action::Announce(news) => return self.announce(news),
        };
        // It may still be busy with a sweep that was given up; its end is in sight, and then it takes the next order.
        if self.caller.orders.send(order).is_err() {
            log::error!("engine {}: nobody is left to call it", self.engine.endpoint());
        }
    }

    fn announce(&mut self, news: News) {
        if news == News::Up && self.presence.recovery() == Some((0, 0)) {
            self.shared.begin_recovery();
            let Progress { done, of } = self.shared.census().progress();
            self.pending.push_back(Event::Recovered { done, of });
            self.tell_progress(done, of);
        }
        // Who hears it may look.
        self.show();
        self.shared.tell_all(&self.heard(news));
    }

    fn heard(&self, news: News) -> Heard {
        match news {
            News::Up => Heard::Up,
            News::Away(cause) => Heard::Away(cause, self.fault(cause)),
        }
    }

    fn fault(&self, cause: Cause) -> Fault {
        let message = format!("engine {} is {}: {}", self.engine.endpoint(), cause.name(), self.trouble);
        Fault::new(FaultKind::EngineAway, message).hint(cause.advice())
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Pinged(Ok(pong)) => {
                // What it said before it answered is known before the answer is.
                self.read_events();
                self.shown.api_version = Some(pong.spoken.to_string());
                self.pending.push_back(Event::Answered);
            }
            Report::Opened(Ok(opened)) => self.opened(*opened),
            Report::Pinged(Err(error)) | Report::Opened(Err(error)) => self.failed(&error),
            Report::Swept => self.pending.push_back(Event::Swept),
            Report::Known(info) => {
                let known = |text: String| Some(text).filter(|text| !text.is_empty());
                self.shown.id = known(info.id);
                self.shown.name = known(info.name);
                self.shown.version = known(info.server_version);
            }
        }
    }

    fn failed(&mut self, error: &EngineError) {
        // Nothing: we cancelled it, and are about to end.
        let Some(cause) = cause_of_ping(error) else { return };
        self.trouble = error.to_string();
        self.pending.push_back(Event::Failed(cause));
    }

    fn opened(&mut self, opened: Opened) {
        let Opened { events, listed, followed } = opened;
        // The old stream, of an engine that was only silent, may still have something.
        self.read_events();
        let event = if events.is_some() { Event::Opened } else { Event::NoStream };
        self.events = events;
        if let Some(listed) = listed {
            self.containers = listed.iter().take(ENGINE_CONTAINERS_MAX).map(|one| one.id.clone()).collect();
            for id in &followed {
                let found = listed.iter().find(|one| one.id == *id);
                match found.map(|one| one.state.as_str()) {
                    None => self.shared.tell_of(id, Happened::Gone),
                    Some("exited" | "dead" | "removing") => self.shared.tell_of(id, Happened::Died(None)),
                    Some("paused") => self.shared.tell_of(id, Happened::Paused),
                    Some("running") => self.shared.tell_of(id, Happened::Unpaused),
                    Some(_) => {}
                }
            }
        }
        self.pending.push_back(event);
    }

    fn read_events(&mut self) {
        for count in 0..ENGINE_EVENTS_AT_ONCE {
            let Some(events) = &mut self.events else { return };
            match events.read() {
                Ok(Next::Item(event)) => {
                    if count == 0 {
                        self.pending.push_back(Event::Said);
                    }
                    self.happened(&event);
                }
                Ok(Next::Nothing) => return,
                Ok(Next::End) => self.broken("it ended its event stream"),
                Err(error) => self.broken(&error.to_string()),
            }
        }
        // What was read and not looked at would not end the next wait.
        self.shared.wake.wake();
    }

    fn broken(&mut self, why: &str) {
        self.events = None;
        why.clone_into(&mut self.trouble);
        self.pending.push_back(Event::Broken);
    }

    fn happened(&mut self, event: &events::Event) {
        if event.kind == "daemon" && event.action == "shutdown" {
            "it said that it shuts down".clone_into(&mut self.trouble);
            return self.pending.push_back(Event::Leaving);
        }
        let id = &event.id;
        match event.action.as_str() {
            "create" if self.containers.len() < ENGINE_CONTAINERS_MAX => {
                self.containers.insert(id.clone());
            }
            "destroy" => {
                self.containers.remove(id);
                self.shared.tell_of(id, Happened::Gone);
            }
            "die" => {
                let code = event.attributes.get("exitCode").and_then(|code| code.parse().ok());
                self.shared.tell_of(id, Happened::Died(code));
            }
            "oom" => {
                self.shared.note_oom(id);
                self.shared.tell_of(id, Happened::Oom);
            }
            "pause" => self.shared.tell_of(id, Happened::Paused),
            "unpause" => self.shared.tell_of(id, Happened::Unpaused),
            // The engine's list of actions is open.
            _ => {}
        }
    }

    fn look_at_socket(&mut self) {
        let Some(file) = &mut self.socket else { return };
        match file.look() {
            Ok(None) => {}
            Ok(Some(Sight::Appeared)) => self.pending.push_back(Event::Appeared),
            Ok(Some(Sight::Vanished)) => self.pending.push_back(Event::Vanished),
            Err(error) => {
                let endpoint = self.engine.endpoint();
                log::warn!(
                    "engine {endpoint}: watch its directory: {error}; it is looked for by pings alone"
                );
                self.socket = None;
            }
        }
    }

    /// One line in the log for each change, and the outage's numbers.
    fn note(&mut self, was: &Presence, now: Time) {
        let (engine, is) = (self.engine.endpoint(), &self.presence);
        let moved = was.state() != is.state();
        if let Some(cause) = is.cause().filter(|_| is.is_outage())
            && (!was.is_outage() || was.cause() != is.cause())
        {
            let reason = self.fault(cause);
            log::warn!("{reason}");
            self.outage.told = Some(Told { cause, back: None });
            self.tidings.push(Tidings::Away { cause, reason });
        }
        if is.is_outage() && self.outage.began.is_none() {
            self.outage.began = Some(if was.state() == "away" { was.since() } else { now });
            self.outage.kept.count += 1;
            self.outage.kept.last_at = Some(clock::wall().rfc3339());
            self.keep();
        }
        if moved && is.state() == "up" && was.state() == "unknown" {
            log::info!("engine {engine}: up");
            self.tidings.push(Tidings::Up {});
        }
        if moved && is.state() == "recovering" {
            let away = self.outage.began.take().map(|began| now - began);
            self.outage.ended = away.map(|_| now);
            match away {
                Some(away) => log::info!("engine {engine}: up again after {}", span(away)),
                None => log::info!("engine {engine}: its event stream ended and is open again"),
            }
            if let Some(away) = away {
                self.outage.kept.last_outage_ms = Some(away.as_millis() as u64);
            }
            match &mut self.outage.told {
                Some(told) => {
                    told.back = Some((now, away.or(told.back.map(|back| back.1)).unwrap_or_default()))
                }
                None => self.tidings.push(Tidings::Reconnected {}),
            }
        }
        let (state, recovery) = (is.state(), is.recovery());
        if let (Some((before, _)), Some((done, of))) = (was.recovery(), recovery)
            && done != before
        {
            self.tell_progress(done, of);
        }
        if moved && was.state() == "recovering" {
            self.tell_result(state, now);
            self.recovered(self.shared.census(), state, now);
        }
    }

    fn tell_progress(&mut self, done: u32, of: u32) {
        // Without an outage there is nothing to tell.
        if let Some(Told { cause, back: Some((_, away)) }) = self.outage.told {
            let outage_ms = away.as_millis() as u64;
            self.tidings.push(Tidings::Recovering { cause, outage_ms, done, of });
        }
    }

    /// A recovery is over. When the engine is away again, so is not the outage.
    fn tell_result(&mut self, state: &str, now: Time) {
        if state != "up" {
            return;
        }
        let Some(Told { cause, back: Some((at, away)) }) = self.outage.told.take() else { return };
        let census = self.shared.census();
        self.tidings.push(Tidings::Recovered(Recovered {
            cause,
            outage_ms: away.as_millis() as u64,
            duration_ms: (now - at).as_millis() as u64,
            recovered: census.back,
            of: census.progress().of,
            failed: self.shared.failed(),
        }));
    }

    /// A recovery is over: all are back, or it took too long, or the engine is away again.
    fn recovered(&mut self, census: Census, state: &str, now: Time) {
        let Some(ended) = self.outage.ended.take() else { return };
        let kept = &mut self.outage.kept;
        kept.recovered += u64::from(census.back);
        kept.failed += u64::from(census.failed + census.open);
        if state == "up" {
            kept.last_recovery_at = Some(clock::wall().rfc3339());
            kept.last_recovery_ms = Some((now - ended).as_millis() as u64);
        }
        let (engine, Progress { of, .. }) = (self.engine.endpoint(), census.progress());
        let took = span(now - ended);
        self.keep();
        if of == 0 {
            return;
        }
        match (state, of - census.back) {
            ("up", 0) => log::info!("engine {engine}: recovered: {of} of {of} back within {took}"),
            ("up", _) => {
                let failed: Vec<String> = self.shared.failed().into_iter().map(|one| one.server).collect();
                let names = shorten(&failed.join(", "), NAMES_CHARS_MAX);
                let back = census.back;
                log::warn!(
                    "engine {engine}: recovered: {back} of {of} back within {took}; not back: {names}"
                );
            }
            _ => log::warn!("engine {engine}: away again: {} of {of} had come back", census.back),
        }
    }

    fn recall(&mut self) {
        let text = self.terms.memory.as_ref().and_then(|memory| (memory.recall)(self.engine.endpoint()));
        // What cannot be read is from another version: the count begins anew.
        self.outage.kept = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    }

    fn keep(&self) {
        let Some(memory) = &self.terms.memory else { return };
        let text = serde_json::to_string(&self.outage.kept).expect("plain data serialises");
        (memory.remember)(self.engine.endpoint(), &text);
    }

    /// What people see, if it has changed.
    fn show(&mut self) {
        if self.since.at != self.presence.since() {
            self.since = Moment::of(self.presence.since());
        }
        let next = self.presence.next_probe();
        if self.next.as_ref().map(|next| next.at) != next {
            self.next = next.map(Moment::of);
        }
        let is = &self.presence;
        let snapshot = Snapshot {
            state: is.state(),
            cause: is.cause().map(Cause::name),
            since: self.since.text.clone(),
            reason: is.cause().map(|cause| self.fault(cause)),
            next_probe_at: self.next.as_ref().map(|next| next.text.clone()),
            events: is.streaming(),
            containers: self.containers.len(),
            recovery: is.recovery().map(|(done, of)| Progress { done, of }),
            outages: self.outage.kept.clone(),
            ..self.shown.clone()
        };
        let before = self.shared.snapshot.lock().clone();
        if snapshot != *before {
            *self.shared.snapshot.lock() = Arc::new(snapshot.clone());
            if let Some(changed) = &self.terms.changed {
                changed(&before, &snapshot);
            }
        }
        for tidings in self.tidings.drain(..) {
            if let Some(told) = &self.terms.told {
                told(self.engine.endpoint(), &tidings);
            }
        }
    }

    fn wait(&self) {
        let mut fds = vec![self.shared.wake.poll_fd()];
        fds.extend(self.events.as_ref().map(|events| PollFd::new(events.fd(), PollFlags::POLLIN)));
        fds.extend(self.socket.as_ref().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)));
        let deadline = self.presence.next_deadline().map(|(at, _)| at);
        if let Err(error) = poll_until(&mut fds, deadline) {
            // ENOMEM is all that is left; the next round asks again.
            log::error!("engine {}: wait: {error}", self.engine.endpoint());
        }
    }
}

impl Census {
    fn progress(self) -> Progress {
        Progress { done: self.back + self.failed, of: self.back + self.failed + self.open }
    }
}

fn first_snapshot(endpoint: Endpoint) -> Snapshot {
    Snapshot {
        endpoint,
        state: "unknown",
        cause: None,
        since: clock::wall().rfc3339(),
        reason: None,
        id: None,
        name: None,
        version: None,
        api_version: None,
        next_probe_at: None,
        events: false,
        containers: 0,
        recovery: None,
        outages: Outages::default(),
    }
}
