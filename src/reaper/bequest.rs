//! What a daemon leaves on engines when it is gone: what the guardian remembers of it meanwhile, and how it ends it.
//!
//! Known containers are ended at once; beside that the labels are looked up again and again for a while, because a
//! `create` can race with the death of who asked for it. A container is only touched after a look at its session
//! label. Threads and connections exist only here, after the daemon's end: until then this is two small maps.

use super::containers::{short_id, within};
use super::labels::{self, Labels};
use super::link::Line;
use crate::base::limits::{
    BEQUEST_CALL, BEQUEST_CLEANING, BEQUEST_CONTAINERS_MAX, BEQUEST_ENGINES_MAX, BEQUEST_GRACE_MAX,
    BEQUEST_LADDERS_MAX, BEQUEST_LOOK_EVERY, BEQUEST_LOOKING, BEQUEST_TRIES_MAX, CONTAINER_VERIFY_EVERY,
};
use crate::base::time::Time;
use crate::engine::answers::Inspected;
use crate::engine::api::Engine;
use crate::engine::endpoint::Endpoint;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::sys::thread::{each, spawn_in};
use crate::sys::{clock, hold};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What the daemon has told of its containers.
#[derive(Debug, Default)]
pub struct Bequest {
    engines: BTreeSet<Endpoint>,
    /// By full id; how long each may take to stop when it is asked.
    containers: BTreeMap<String, Duration>,
}

impl Bequest {
    /// Past its limits a line is forgotten: the labels still find that container, and the next start that engine.
    pub fn note(&mut self, line: Line) {
        match line {
            Line::Engine { endpoint } if self.engines.len() < BEQUEST_ENGINES_MAX => {
                self.engines.insert(endpoint);
            }
            Line::Container { id, grace_ms } if self.containers.len() < BEQUEST_CONTAINERS_MAX => {
                let grace = Duration::from_millis(grace_ms).min(BEQUEST_GRACE_MAX);
                self.containers.insert(id, grace);
            }
            Line::ContainerGone { id } => {
                self.containers.remove(&id);
            }
            Line::Engine { .. } | Line::Container { .. } => {}
            Line::Life { .. } | Line::Gone { .. } | Line::Budget { .. } | Line::Goodbye => {}
        }
    }

    /// Ends every container of `session` on every engine that was told, within [`BEQUEST_CLEANING`]. `crashed`: the
    /// daemon did not say goodbye, so that something may still be on its way; without that each engine is asked once.
    pub fn end(&self, session: &str, crashed: bool) -> Ended {
        let deadline = clock::now() + BEQUEST_CLEANING;
        let jobs: Vec<&Endpoint> = self.engines.iter().collect();
        let end = |endpoint: &Endpoint| {
            Place { engine: Engine::new(endpoint.clone()), session, crashed, deadline }.end(&self.containers)
        };
        let done = each("engine", BEQUEST_ENGINES_MAX, jobs, end);
        let mut ended = done.into_iter().flatten().fold(Ended::default(), Ended::and);
        if !crashed && self.containers.is_empty() {
            // The daemon took its leave, and had nothing there: an engine that is away is no news.
            ended.unseen.clear();
        }
        ended
    }
}

/// What became of the containers of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Names, or short ids, of what was there and is gone.
    pub removed: Vec<String>,
    /// What is perhaps still there, each with the reason.
    pub left: Vec<String>,
    /// Engines that could not be asked for more, each with the reason.
    pub unseen: Vec<String>,
}

impl Ended {
    fn and(mut self, other: Ended) -> Ended {
        self.removed.extend(other.removed);
        self.left.extend(other.left);
        self.unseen.extend(other.unseen);
        self
    }
}

/// One engine, after the daemon's end.
struct Place<'a> {
    engine: Engine,
    session: &'a str,
    crashed: bool,
    deadline: Time,
}

/// What one ladder came to.
enum Fate {
    Removed(String),
    /// It was never seen, or bears other labels than ours.
    NotThere,
    Left(String),
    /// The engine did not answer.
    Away,
}

/// What the threads of one engine share.
#[derive(Default)]
struct Progress {
    ended: Mutex<Ended>,
    climbing: AtomicUsize,
    away: AtomicUsize,
}

impl Place<'_> {
    /// Looks, and climbs a ladder for each container, until the looking is over and all ladders have ended.
    fn end(&self, known: &BTreeMap<String, Duration>) -> Ended {
        let all = Progress::default();
        let progress = &all;
        let looking = thread::scope(|scope| {
            let climb = |id: String, grace: Duration| {
                let body = move |id: &str| {
                    progress.climbing.fetch_add(1, Ordering::SeqCst);
                    self.tell(progress, self.climb(id, grace));
                    progress.climbing.fetch_sub(1, Ordering::SeqCst);
                };
                let on_thread = id.clone();
                // Without a thread this one climbs, and the others wait.
                if spawn_in(scope, "ladder", move || body(&on_thread)).is_err() {
                    body(&id);
                }
            };
            self.find_and(known, progress, &climb)
        });
        let mut ended = all.ended.into_inner();
        let away = all.away.into_inner();
        if looking.is_some() || away > 0 {
            let why = looking.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
            let known = if away > 0 { format!(", {away} known") } else { String::new() };
            ended.unseen.push(format!("{}{known}: {why}", self.engine.endpoint()));
        }
        ended
    }

    /// Has every container climbed for that is known or found. Returns what was in the way of the last look, if
    /// anything.
    fn find_and(
        &self,
        known: &BTreeMap<String, Duration>,
        progress: &Progress,
        climb: &dyn Fn(String, Duration),
    ) -> Option<EngineError> {
        let mut seen: BTreeSet<String> = known.keys().cloned().collect();
        let mut open: Vec<(String, Duration)> =
            known.iter().map(|(id, grace)| (id.clone(), *grace)).collect();
        let looking = if self.crashed { BEQUEST_LOOKING } else { Duration::ZERO };
        let last_look = self.deadline.min(clock::now() + looking);
        let mut look_at = Some(clock::now());
        let (mut trouble, mut failures) = (None, 0);
        while clock::now() < self.deadline && (look_at.is_some() || !open.is_empty()) {
            while progress.climbing.load(Ordering::SeqCst) < BEQUEST_LADDERS_MAX
                && let Some((id, grace)) = open.pop()
            {
                climb(id, grace);
            }
            let now = clock::now();
            if look_at.is_some_and(|at| now >= at) {
                match self.look() {
                    Ok(found) => {
                        let fresh = found.into_iter().filter(|id| seen.insert(id.clone()));
                        open.extend(fresh.map(|id| (id, BEQUEST_GRACE_MAX)));
                        (trouble, failures) = (None, 0);
                    }
                    Err(error) => {
                        failures += 1;
                        trouble = Some(error);
                    }
                }
                // The last look is at the very end of the time.
                let again = last_look.min(clock::now() + BEQUEST_LOOK_EVERY);
                look_at = (now < last_look && failures < self.tries()).then_some(again);
                continue;
            }
            let soon = now + CONTAINER_VERIFY_EVERY;
            hold::pause_until(look_at.unwrap_or(soon).min(soon));
        }
        let mut ended = progress.ended.lock();
        ended.left.extend(open.iter().map(|(id, _)| format!("{}: no time was left for it", short_id(id))));
        trouble
    }

    fn tell(&self, progress: &Progress, fate: Fate) {
        let mut ended = progress.ended.lock();
        match fate {
            Fate::Removed(name) => ended.removed.push(name),
            Fate::NotThere => {}
            Fate::Left(why) => ended.left.push(why),
            Fate::Away => {
                progress.away.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn look(&self) -> Result<Vec<String>, EngineError> {
        let filter = [(labels::MANAGED, "true"), (labels::SESSION, self.session)];
        let listed = self.engine.list(&filter, &self.patience())?;
        Ok(listed.into_iter().map(|listed| listed.id).collect())
    }

    /// From the stop signal to the look that does not find it any more.
    fn climb(&self, id: &str, grace: Duration) -> Fate {
        let mut ladder = Ladder { asked_at: None, grace };
        let mut name = None;
        let mut failures = 0;
        let mut trouble = None;
        loop {
            let done = match self.engine.inspect(id, &self.patience()) {
                Err(error) if error.kind == EngineErrorKind::NoSuchContainer => match name {
                    Some(name) => return Fate::Removed(name),
                    // While a container is being made, an engine lists it and cannot inspect it yet.
                    None => match self.look() {
                        Ok(listed) if !listed.iter().any(|other| other == id) => return Fate::NotThere,
                        Ok(_) => Ok(()),
                        Err(error) => Err(error),
                    },
                },
                Err(error) => Err(error),
                Ok(found) if !self.is_ours(&found) => return Fate::NotThere,
                Ok(found) => {
                    let done = self.act(ladder.next(&found, clock::now()), &found);
                    name = Some(found.name);
                    done
                }
            };
            match done {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    trouble = Some(error);
                }
            }
            let now = clock::now();
            if now >= self.deadline || failures >= self.tries() {
                return match trouble {
                    Some(error) if error.is_away() => Fate::Away,
                    trouble => {
                        let why =
                            trouble.map_or_else(|| "it does not end".to_owned(), |error| error.to_string());
                        let name = name.unwrap_or_else(|| short_id(id).to_owned());
                        Fate::Left(format!("{name}: {why}"))
                    }
                };
            }
            let pause = if failures > 0 { BEQUEST_LOOK_EVERY } else { CONTAINER_VERIFY_EVERY };
            hold::pause_until(self.deadline.min(now + pause));
        }
    }

    fn act(&self, rung: Rung, found: &Inspected) -> Result<(), EngineError> {
        let done = match rung {
            Rung::Wait => return Ok(()),
            Rung::Ask => {
                let signal = found.stop_signal.as_deref().filter(|signal| !signal.is_empty());
                self.engine.kill(&found.id, signal.unwrap_or("SIGTERM"), &self.patience())
            }
            Rung::Remove => self.engine.remove(&found.id, &self.patience()),
        };
        match done {
            // It ended in between: the next look sees what it is now.
            Err(error)
                if matches!(error.kind, EngineErrorKind::NoSuchContainer | EngineErrorKind::Conflict) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    fn is_ours(&self, found: &Inspected) -> bool {
        Labels::read(&found.labels).is_some_and(|labels| labels.session == self.session)
    }

    /// Of calls that an engine does not answer, in a row.
    fn tries(&self) -> u32 {
        if self.crashed { BEQUEST_TRIES_MAX } else { 1 }
    }

    fn patience(&self) -> Patience<'static> {
        within(&Patience { deadline: self.deadline, cancel: None }, BEQUEST_CALL)
    }
}

/// What is done to a container, by what it shows. Pure.
struct Ladder {
    asked_at: Option<Time>,
    grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    /// Send it its stop signal.
    Ask,
    Wait,
    /// By force, which kills it first.
    Remove,
}

impl Ladder {
    fn next(&mut self, found: &Inspected, now: Time) -> Rung {
        // A paused one would not hear it.
        if !found.running || found.paused || self.grace.is_zero() {
            return Rung::Remove;
        }
        match self.asked_at {
            None => {
                self.asked_at = Some(now);
                Rung::Ask
            }
            Some(asked_at) if now.since(asked_at) < self.grace => Rung::Wait,
            Some(_) => Rung::Remove,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Bequest {
        let mut bequest = Bequest::default();
        lines.iter().for_each(|line| bequest.note(Line::parse(line).unwrap()));
        bequest
    }

    #[test]
    fn remembers_what_is_there() {
        let bequest = told(&[
            "engine unix:///run/docker.sock",
            "engine unix:///run/docker.sock",
            "container aa 500",
            "container bb 60000",
            "container cc 0",
            "container-gone cc",
            "life 1 2 3",
        ]);
        assert_eq!(bequest.engines.len(), 1);
        let grace: Vec<_> = bequest.containers.into_iter().collect();
        assert_eq!(
            grace,
            [("aa".to_owned(), Duration::from_millis(500)), ("bb".to_owned(), BEQUEST_GRACE_MAX)]
        );
    }

    #[test]
    fn stays_small() {
        let mut bequest = Bequest::default();
        for n in 0..BEQUEST_CONTAINERS_MAX + 10 {
            bequest.note(Line::Container { id: n.to_string(), grace_ms: 1 });
            bequest.note(Line::Engine { endpoint: Endpoint::Tcp(format!("h:{n}")) });
        }
        assert_eq!(
            (bequest.containers.len(), bequest.engines.len()),
            (BEQUEST_CONTAINERS_MAX, BEQUEST_ENGINES_MAX)
        );
    }

    #[test]
    fn nothing_told_nothing_done() {
        assert_eq!(Bequest::default().end("s", true), Ended::default());
    }

    #[test]
    fn an_engine_that_is_away() {
        let bequest = told(&["engine unix:///nowhere/docker.sock", "container aa 500"]);
        let ended = bequest.end("s", false);
        assert_eq!((ended.removed.len(), ended.left.len(), ended.unseen.len()), (0, 0, 1));
        assert!(
            ended.unseen[0].starts_with("unix:///nowhere/docker.sock, 1 known: list containers: "),
            "{ended:?}"
        );
    }

    #[test]
    fn rungs() {
        let running = Inspected { running: true, ..Inspected::default() };
        let at = Time::from_ms;
        let ladder = || Ladder { asked_at: None, grace: Duration::from_secs(3) };
        let mut polite = ladder();
        let climbed = [at(0), at(100), at(2_999), at(3_000)].map(|now| polite.next(&running, now));
        assert_eq!(climbed, [Rung::Ask, Rung::Wait, Rung::Wait, Rung::Remove]);
        let exited = Inspected::default();
        assert_eq!(ladder().next(&exited, at(0)), Rung::Remove);
        let paused = Inspected { paused: true, ..running.clone() };
        assert_eq!(ladder().next(&paused, at(0)), Rung::Remove);
        assert_eq!(Ladder { grace: Duration::ZERO, ..ladder() }.next(&running, at(0)), Rung::Remove);
    }
}
