//! What `main` does while the daemon runs: it owns the start gate, hears signals, and orders the shutdown.

use super::containers::Containers;
use super::fleet::Fleet;
use super::reload::{Read, Reading, Reload};
use super::settings::{self, Settings};
use super::shutdown::{ANSWERS_OUT, Budget, SHORT_DRAIN};
use crate::api::config::Applied;
use crate::base::id::{Life, ServerName};
use crate::base::limits::{EPHEMERAL_FIRST, EPHEMERAL_IDLE};
use crate::base::text;
use crate::base::time::Time;
use crate::base::topic::Topic;
use crate::config::diff::{Change, diff};
use crate::gateway::front::Front;
use crate::gateway::http::HttpServer;
use crate::reaper::keeper::Keeper;
use crate::reaper::link::Line;
use crate::reaper::strangers::Strangers;
use crate::server::gate::Gate;
use crate::server::handle::Report;
use crate::server::journal::Subject;
use crate::server::machine::Event;
use crate::server::registry::Registry;
use crate::server::supervisor::GateRequest;
use crate::sys::{clock, spawn, thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};
use parking_lot::Mutex;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Everything that `main` may hear.
#[derive(Debug)]
pub enum News {
    Gate(GateRequest),
    /// SIGTERM or SIGINT.
    Terminate,
    /// The config file was looked at.
    Config(Box<Reading>),
    /// A child that may be nobody's has ended.
    Child,
    /// The servers' lists changed.
    Lists,
    /// The guardian is dead: nothing would end our servers if we died too.
    GuardianDied,
}

/// Changes of the lists within this span make one announcement.
const LISTS_QUIET: Duration = Duration::from_millis(50);

/// A stranger's zombie is reaped when it is seen a second time this much later.
const STRANGERS_AFTER: Duration = Duration::from_secs(1);

/// What the parts of a running daemon share with `main`.
pub struct Running {
    pub fleet: Fleet,
    pub reload: Reload,
    pub settings: Settings,
    pub containers: Arc<Containers>,
    pub keeper: Arc<Keeper>,
    pub front: Arc<Front>,
    /// What is drained first: the endpoint, or where there is none the control socket.
    pub http: Arc<HttpServer>,
    pub budget: Budget,
    /// Closed once the last supervisor's thread is over.
    pub supervisors: Receiver<Infallible>,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was stopped within the budget.
    InOrder,
    /// The budget was spent; the guardian finishes.
    OutOfTime,
}

/// Of a daemon that lives for its sessions alone.
struct Alone {
    /// When to look whether there are any.
    look_at: Time,
    /// How long it waits for the first.
    free_until: Time,
}

pub struct MainLoop {
    /// Only `main` moves it; others look.
    gate: Arc<Mutex<Gate>>,
    lives: u64,
    announce_at: Option<Time>,
    reap_at: Option<Time>,
    alone: Option<Alone>,
    strangers: Strangers,
}

impl MainLoop {
    pub fn new(gate: Arc<Mutex<Gate>>) -> MainLoop {
        MainLoop {
            gate,
            lives: 0,
            announce_at: None,
            reap_at: None,
            alone: None,
            strangers: Strangers::default(),
        }
    }

    /// Ends by itself soon after the last session, or when none comes.
    pub fn ephemeral(self, now: Time) -> MainLoop {
        let alone = Alone { look_at: now + EPHEMERAL_IDLE, free_until: now + EPHEMERAL_FIRST };
        MainLoop { alone: Some(alone), ..self }
    }

    /// Takes what the inbox holds already: the first servers start while the rest of the daemon is put together.
    pub fn admit_first(&mut self, inbox: &Receiver<News>, servers: &Registry) {
        let now = clock::now();
        for news in inbox.try_iter() {
            if let News::Gate(GateRequest::Ask(name, claim)) = news {
                self.gate.lock().stand(name, claim, now);
            } else {
                self.take(news, servers);
            }
        }
        let admitted = self.gate.lock().due(now);
        self.admit(&admitted, servers);
    }

    /// Runs until a signal or the guardian's death, then shuts down.
    pub fn run(mut self, inbox: &Receiver<News>, running: &mut Running) -> Ended {
        let short = loop {
            match self.next(inbox) {
                Some(News::Terminate) => break false,
                Some(News::GuardianDied) => {
                    log::error!("the guardian is dead: shutting down, so that no server can be left alone");
                    break true;
                }
                Some(News::Config(reading)) => self.reload(*reading, running),
                Some(News::Gate(GateRequest::Rests(name))) => running.fleet.rests(&name),
                Some(news) => self.take(news, &running.fleet.servers),
                None => self.due(running),
            }
            if self.is_alone(running) {
                log::info!("the last session is over");
                break false;
            }
        };
        self.shut_down(inbox, running, short)
    }

    fn next(&self, inbox: &Receiver<News>) -> Option<News> {
        let news = match self.next_deadline() {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => inbox.recv_deadline(clock::instant(at)),
        };
        match news {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            // Nobody can speak to us any more; that is not a state to go on in.
            Err(RecvTimeoutError::Disconnected) => Some(News::Terminate),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let alone = self.alone.as_ref().map(|alone| alone.look_at);
        [self.gate.lock().next_deadline(), self.announce_at, self.reap_at, alone].into_iter().flatten().min()
    }

    fn take(&mut self, news: News, servers: &Registry) {
        let now = clock::now();
        match news {
            News::Gate(GateRequest::Ask(name, claim)) => {
                let admitted = self.gate.lock().ask(name, claim, now);
                self.admit(&admitted, servers);
            }
            News::Gate(GateRequest::Hurry(name)) => self.gate.lock().hurry(&name),
            News::Gate(GateRequest::Leave(name)) => {
                let admitted = self.gate.lock().leave(&name, now);
                self.admit(&admitted, servers);
            }
            News::Lists => self.announce_at = self.announce_at.or(Some(now + LISTS_QUIET)),
            News::Child => self.reap_at = self.reap_at.or(Some(now + STRANGERS_AFTER)),
            // Of a daemon that ends, or has just begun: everybody is told to stop, or nobody was yet.
            News::Gate(GateRequest::Rests(_)) | News::Config(_) => (),
            News::Terminate | News::GuardianDied => (),
        }
    }

    fn due(&mut self, running: &Running) {
        let now = clock::now();
        let admitted = self.gate.lock().due(now);
        self.admit(&admitted, &running.fleet.servers);
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce_at = None;
            running.front.methods.announce_lists();
        }
        if self.reap_at.is_some_and(|at| at <= now) {
            // While a server is being spawned, the look is put off.
            let looked = spawn::with_spawning_held(|known| self.strangers.reap(known));
            let again = looked.is_none() || self.strangers.is_waiting();
            self.reap_at = again.then(|| now + STRANGERS_AFTER);
        }
    }

    /// Whether nobody has any use for us; if not, sets when to look again.
    fn is_alone(&mut self, running: &Running) -> bool {
        let now = clock::now();
        let Some(alone) = self.alone.as_mut().filter(|alone| alone.look_at <= now) else { return false };
        let methods = &running.front.methods;
        let listening = !methods.interest.listeners.is_empty();
        let active = if listening { Some(now) } else { methods.sessions.last_active(now) };
        alone.look_at = active.map_or(alone.free_until, |active| active + EPHEMERAL_IDLE);
        alone.look_at <= now
    }

    /// Takes over what the file says now, or keeps what is in force and says why; then answers who asked.
    fn reload(&mut self, reading: Reading, running: &mut Running) {
        let Reading { news, replies } = reading;
        let came = match news {
            None => running.reload.unchanged(),
            Some(Ok(read)) if running.reload.is_in_force(read.content) => {
                log::info!("config {}: it says again what is in force", read.path.display());
                running.reload.well_again(read);
                running.reload.unchanged()
            }
            Some(Ok(read)) => Ok(self.take_over(read, running)),
            Some(Err(refusal)) => {
                let (fault, findings) = &refusal;
                let why = findings.first().map_or_else(|| fault.to_string(), ToString::to_string);
                log::error!("config not loaded, what ran before runs on: {why}");
                running.reload.refused(&refusal);
                let board = &running.front.methods.router.board;
                board.record(
                    Topic::ConfigRefused,
                    Subject::Daemon,
                    &json!({"reason": fault, "finding": why}),
                );
                Err(refusal)
            }
        };
        for reply in replies {
            // Who has lost patience gets no answer.
            let _ = reply.send(came.clone());
        }
    }

    fn take_over(&mut self, read: Read, running: &mut Running) -> Applied {
        let config = read.config.clone();
        let changes = diff(running.fleet.config(), &config);
        let mut findings = running.settings.follow(&config);
        running.containers.retune(&config);
        let admitted = self.gate.lock().resize(config.connections.concurrent_max, clock::now());
        self.admit(&admitted, &running.fleet.servers);
        let failed = running.fleet.follow(config.clone());
        findings.extend(failed.into_iter().map(|(name, fault)| settings::not_started(name.as_str(), fault)));
        let named = |name: &ServerName| config.server(name).is_some();
        running.front.methods.router.levels.keep(named);
        running.budget = Budget::of(&config);
        running.keeper.tell(Line::Budget { ms: running.budget.total.as_millis() as u64 });
        log::info!("config loaded: {}: {}", read.path.display(), changes.summary());
        let told: Vec<&Change> = changes.changes().collect();
        let facts = json!({
            "path": read.path,
            "summary": changes.summary(),
            "changes": told,
            "settings": changes.settings,
        });
        running.front.methods.router.board.record(Topic::ConfigLoaded, Subject::Daemon, &facts);
        running.reload.taken(read, running.fleet.config(), changes, findings)
    }

    fn admit(&mut self, names: &[ServerName], servers: &Registry) {
        for name in names {
            if let Some(server) = servers.find(name.as_str()) {
                self.lives += 1;
                server.tell(Report::Event(Event::Admitted(Life(self.lives)), None));
            }
        }
    }

    /// In order: no new connection; calls in flight may end; every server is stopped; then the control socket. A
    /// signal while calls are waited for skips that; one while servers are stopped leaves them to the guardian, who
    /// waits 300 ms.
    fn shut_down(&mut self, inbox: &Receiver<News>, running: &mut Running, short: bool) -> Ended {
        let begun = clock::now();
        let drain = if short { SHORT_DRAIN } else { running.budget.drain };
        log::info!("shutting down: calls in flight have {} to end", text::span(drain));
        // Their clients cannot come again.
        running.front.methods.held.end();
        let (http, (alive, drained)) = (running.http.clone(), bounded::<Infallible>(0));
        let cut_after = drain + running.budget.stop + ANSWERS_OUT;
        // Without a thread to drain in, the servers are stopped at once; their calls are answered by that.
        let _ = thread::spawn("drain", move || {
            let _alive = alive;
            http.drain(cut_after);
        });
        self.until_closed(&drained, begun + drain, inbox, running);
        let servers = running.fleet.servers.all();
        let lively = servers.iter().filter(|server| server.status().life.is_some());
        let stopped: Vec<&str> = lively.map(|server| server.name.as_str()).collect();
        running.fleet.retire();
        let deadline = clock::now() + running.budget.stop;
        let over = self.until_closed(&running.supervisors, deadline, inbox, running);
        let impatient = !over && clock::now() < deadline;
        // What was still in flight has been answered by the stop, and that answer is on its way out.
        self.until_closed(&drained, clock::now() + ANSWERS_OUT, inbox, running);
        let took = text::span(clock::now().since(begun));
        match (over, stopped.is_empty()) {
            (true, true) => log::info!("nothing was running; shut down in {took}"),
            (true, false) => log::info!("stopped {} in {took}", stopped.join(", ")),
            (false, _) if impatient => {
                log::warn!("told again to stop after {took}; the guardian ends the rest")
            }
            (false, _) => log::error!("some servers did not end within {took}; the guardian ends them"),
        }
        if over { Ended::InOrder } else { Ended::OutOfTime }
    }

    /// Goes on serving the gate until whoever holds the other end of `closed` is gone: `true`; or until the
    /// deadline, or a signal: `false`.
    fn until_closed(
        &mut self,
        closed: &Receiver<Infallible>,
        deadline: Time,
        inbox: &Receiver<News>,
        running: &Running,
    ) -> bool {
        loop {
            select! {
                recv(closed) -> _ => return true,
                recv(inbox) -> news => match news {
                    Ok(News::Terminate) | Err(_) => return false,
                    Ok(news) => self.take(news, &running.fleet.servers),
                },
                default(deadline.since(clock::now())) => return false,
            }
        }
    }
}
