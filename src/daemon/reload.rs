//! The config file while the daemon runs: the thread "watch" sees that it changed and reads it, `main` takes it over.
//!
//! `way.rs` watches, `when.rs` (pure) says when to look and whether what is there is news; this file reads, and keeps
//! what others want to know. The file is never written. One that cannot be acted on changes nothing: what ran before
//! runs on, and the reason stands in the status until the file is well again.

pub mod way;
pub mod when;

use super::main_loop::News;
use super::setup::{self, Options, Setup};
use crate::api::config::{Applied, InForce, Picture};
use crate::base::fault::{Fault, FaultKind};
use crate::base::finding::{Finding, Severity};
use crate::base::id::fnv1a;
use crate::base::limits::{CONFIG_APPLY_PATIENCE, CONFIG_ASKS_MAX};
use crate::config::Config;
use crate::config::diff::{Diff, diff};
use crate::sys::net::poll_until;
use crate::sys::wake::Wake;
use crate::sys::{clock, thread};
use crossbeam_channel::{Sender, bounded};
use nix::poll::{PollFd, PollFlags};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use way::Ways;
use when::{Action, Content, Event, Watch, step};

/// Where the answer to one who asked goes.
pub type Reply = Sender<Result<Applied, Refusal>>;

/// Why a file is not taken over, and what was found in it.
pub type Refusal = (Fault, Vec<Finding>);

/// What one look at the file came to, for `main`.
#[derive(Debug)]
pub struct Reading {
    pub news: Option<Result<Read, Refusal>>,
    /// Those who want to know what came of it.
    pub replies: Vec<Reply>,
}

/// A config that can be taken over.
#[derive(Debug)]
pub struct Read {
    pub config: Config,
    pub findings: Vec<Finding>,
    pub path: PathBuf,
    pub content: Content,
}

/// Clones are the same.
#[derive(Clone)]
pub struct Reload(Arc<Inner>);

struct Inner {
    options: Options,
    /// Where the file may be: where it was found, or where it was looked for in vain.
    places: RwLock<Vec<PathBuf>>,
    wake: Wake,
    asks: Mutex<Asks>,
    config: RwLock<Arc<Config>>,
    /// The one that the daemon was started with: what takes effect after a restart is compared with it.
    first: Config,
    in_force: InForce,
    /// What the last file had to say, and what is to be said beside it.
    said: Mutex<Said>,
}

#[derive(Default)]
struct Asks {
    asked: bool,
    replies: Vec<Reply>,
}

#[derive(Default)]
struct Said {
    of_file: Vec<Finding>,
    of_settings: Vec<Finding>,
    of_watching: Option<Finding>,
}

impl Reload {
    pub fn new(setup: &Setup) -> io::Result<Reload> {
        let picture = Picture {
            path: setup.path.as_deref().map(shown),
            loads: 1,
            loaded_at: clock::wall().rfc3339(),
            hash: hash(setup.content),
            error: None,
            findings: setup.findings.clone(),
        };
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let places = setup.path.as_ref().map_or(&setup.looked[..], std::slice::from_ref);
        let inner = Inner {
            options: setup.options.clone(),
            places: RwLock::new(places.iter().map(|path| cwd.join(path)).collect()),
            wake: Wake::new()?,
            asks: Mutex::default(),
            config: RwLock::new(Arc::new(setup.config.clone())),
            first: Config { servers: Vec::new(), ..setup.config.clone() },
            in_force: InForce::new(picture),
            said: Mutex::new(Said { of_file: setup.findings.clone(), ..Said::default() }),
        };
        Ok(Reload(Arc::new(inner)))
    }

    /// What the status shows.
    pub fn in_force(&self) -> InForce {
        self.0.in_force.clone()
    }

    /// Begins to watch. What changed since the file was read at the start is seen by the first look.
    pub fn watch(&self, content: Content, news: Sender<News>) -> io::Result<()> {
        let watcher = Watcher { reload: self.clone(), watch: Watch::new(content), ways: None, news };
        thread::spawn_vital("watch", move || watcher.run())?;
        self.ask();
        Ok(())
    }

    /// The file is read now, and taken over if it has changed.
    pub fn ask(&self) {
        self.0.asks.lock().asked = true;
        self.0.wake.wake();
    }

    /// The same; returns what came of it, once all servers were told.
    pub fn apply(&self) -> Result<Applied, Refusal> {
        let failed = |why: &str| {
            let fault = Fault::new(FaultKind::Busy, format!("read the config again: {why}"));
            (fault, Vec::new())
        };
        let (reply, answer) = bounded(1);
        {
            let mut asks = self.0.asks.lock();
            if asks.replies.len() >= CONFIG_ASKS_MAX {
                return Err(failed("too many wait for that already"));
            }
            asks.replies.push(reply);
        }
        self.ask();
        let answer = answer.recv_deadline(clock::instant(clock::now() + CONFIG_APPLY_PATIENCE));
        answer.unwrap_or_else(|_| Err(failed("the daemon is busy, or shuts down")))
    }

    /// What taking over the file as it is now would change.
    pub fn plan(&self) -> Result<Applied, Refusal> {
        let (_, content, read) = self.look();
        let before = self.0.config.read().clone();
        let Read { config, findings, .. } = match read {
            Some(read) => read?,
            // There is no file, and there was none.
            None => return Ok(Applied::default()),
        };
        let changed = hash(content) != self.0.in_force.get().hash;
        Ok(Applied { changed, diff: diff(&before, &config), findings })
    }

    /// `main` has taken it over: `config` as far as it could be, and what else is to be said.
    pub fn taken(&self, read: Read, config: &Config, diff: Diff, more: Vec<Finding>) -> Applied {
        let Read { findings: mut of_file, path, content, .. } = read;
        of_file.extend(more);
        *self.0.config.write() = Arc::new(config.clone());
        *self.0.places.write() = vec![path.clone()];
        let of_settings = self.after_restart(config, &path);
        {
            let mut said = self.0.said.lock();
            let known = said.of_file.iter().chain(&said.of_settings).map(words).collect::<BTreeSet<_>>();
            let fresh = of_file.iter().chain(&of_settings).filter(|finding| !known.contains(&words(finding)));
            fresh.filter(|finding| !parks(finding)).for_each(|finding| log::warn!("{finding}"));
            (said.of_file, said.of_settings) = (of_file, of_settings);
        }
        self.show(|picture| {
            picture.path = Some(shown(&path));
            picture.loads += 1;
            picture.loaded_at = clock::wall().rfc3339();
            picture.hash = hash(content);
            picture.error = None;
        });
        Applied { changed: true, diff, findings: self.0.in_force.get().findings.clone() }
    }

    /// Whether this is what is in force: a file that was broken meanwhile, and is as it was.
    pub fn is_in_force(&self, content: Content) -> bool {
        hash(content) == self.0.in_force.get().hash
    }

    /// The file says again what is in force.
    pub fn well_again(&self, read: Read) {
        self.0.said.lock().of_file = read.findings;
        self.show(|picture| picture.error = None);
    }

    /// It was refused: what ran before runs on.
    pub fn refused(&self, (fault, findings): &Refusal) {
        self.0.said.lock().of_file = findings.clone();
        self.show(|picture| picture.error = Some(fault.clone()));
    }

    /// What came of the last file, for one who asks again.
    pub fn unchanged(&self) -> Result<Applied, Refusal> {
        let picture = self.0.in_force.get();
        let findings = picture.findings.clone();
        match &picture.error {
            Some(fault) => Err((fault.clone(), findings)),
            None => Ok(Applied { findings, ..Applied::default() }),
        }
    }

    /// What the file says of settings that this daemon holds on to.
    fn after_restart(&self, config: &Config, path: &Path) -> Vec<Finding> {
        let first = &self.0.first;
        let differs =
            [("listen", first.listen != config.listen), ("data_dir", first.data_dir != config.data_dir)];
        let changed = differs.into_iter().filter(|(_, differs)| *differs);
        changed
            .map(|(key, _)| {
                let message = "changed since the start of the daemon: takes effect when it is started again";
                warning(&shown(path), key, message.to_owned(), "mcpvisor serve")
            })
            .collect()
    }

    /// Shows a change together with what is to be said by now: nobody sees the one without the other.
    fn show(&self, change: impl FnOnce(&mut Picture)) {
        let said = self.0.said.lock();
        let all = said.of_file.iter().chain(&said.of_settings).chain(&said.of_watching);
        let all: Vec<Finding> = all.cloned().collect();
        self.0.in_force.change(|picture| {
            change(picture);
            picture.findings = all;
        });
    }

    /// Reads the first file that is there. `None`: there is none, and there never was.
    fn look(&self) -> (Option<PathBuf>, Content, Option<Result<Read, Refusal>>) {
        let places = self.0.places.read().clone();
        let known = self.0.in_force.get().path.is_some();
        let found = if known { places.first() } else { places.iter().find(|path| path.is_file()) };
        let Some(path) = found else { return (None, Content::Missing, None) };
        match setup::read_file(path) {
            Ok(text) => {
                let content = setup::content(&text);
                let understood = setup::understand(&text, path, &self.0.options);
                let read = understood.map(|(config, findings)| {
                    let path = path.clone();
                    Read { config, findings, path, content }
                });
                (Some(path.clone()), content, Some(read))
            }
            Err(fault) => {
                let gone = !path.exists();
                let content = if gone {
                    Content::Missing
                } else {
                    Content::Unreadable(fnv1a(fault.message.as_bytes()))
                };
                let fault = if gone { vanished(path) } else { fault };
                let finding = Finding {
                    severity: Severity::Error,
                    ..warning(&shown(path), "", fault.message.clone(), &fault.hint)
                };
                (Some(path.clone()), content, Some(Err((fault, vec![finding]))))
            }
        }
    }
}

/// A finding wherever it stands in the file.
fn words(finding: &Finding) -> (&str, &str, Option<&str>) {
    (&finding.key, &finding.message, finding.server.as_deref())
}

/// What keeps a server parked is logged when it is parked.
pub fn parks(finding: &Finding) -> bool {
    finding.severity == Severity::Error && finding.server.is_some()
}

fn vanished(path: &Path) -> Fault {
    let message = format!("read {}: the file is gone; what it said last is in force", path.display());
    Fault::new(FaultKind::BadConfig, message).hint("put it back")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Enough of it to tell two apart.
fn hash(content: Content) -> Option<String> {
    let Content::Bytes(bytes) = content else { return None };
    Some(bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn warning(file: &str, key: &str, message: String, hint: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        file: file.to_owned(),
        line: 0,
        column: 0,
        key: key.to_owned(),
        server: None,
        message,
        hint: hint.to_owned(),
    }
}

/// The thread "watch": blocked until something stirs, somebody asks, or what stirred has settled.
struct Watcher {
    reload: Reload,
    watch: Watch,
    /// Nothing where the host has no watches left: then only those are heard who ask.
    ways: Option<Ways>,
    news: Sender<News>,
}

impl Watcher {
    /// Ends with the process.
    fn run(mut self) {
        loop {
            let event = self.wait();
            self.step(event);
        }
    }

    fn wait(&mut self) -> Event {
        let deadline = self.watch.next_deadline();
        let mut fds = vec![self.reload.0.wake.poll_fd()];
        fds.extend(self.ways.as_ref().map(|ways| PollFd::new(ways.as_fd(), PollFlags::POLLIN)));
        // An error of poll (out of memory) is as good as its deadline; without one it is asked again.
        let _ = poll_until(&mut fds, deadline);
        // Cleared first: who asks after that wakes again.
        self.reload.0.wake.clear();
        if std::mem::take(&mut self.reload.0.asks.lock().asked) {
            return Event::Asked;
        }
        match self.ways.as_ref().map(Ways::stirred) {
            Some(Ok(true)) => Event::Stirred,
            // Too early, this changes nothing.
            Some(Ok(false)) | None => Event::Due,
            Some(Err(error)) => {
                self.unwatched(&error);
                Event::Stirred
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.watch = step(self.watch, event, clock::now(), &mut actions);
        for action in actions {
            if action == Action::Look {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        // Who asks from here on is looked for again.
        let replies = std::mem::take(&mut self.reload.0.asks.lock().replies);
        // First watched, then read: what changes meanwhile stirs again.
        self.watch_anew();
        let (path, content, read) = self.reload.look();
        let mut actions = Vec::new();
        self.watch = step(self.watch, Event::Seen(content), clock::now(), &mut actions);
        let is_news = actions.contains(&Action::Load);
        log::debug!(
            "looked at the config {path:?}: {}",
            if is_news { "it is another one" } else { "the same" }
        );
        if !is_news && replies.is_empty() {
            return;
        }
        let reading = Reading { news: read.filter(|_| is_news), replies };
        // Main has gone: the daemon is over, and so is this thread soon.
        let _ = self.news.send(News::Config(Box::new(reading)));
    }

    fn watch_anew(&mut self) {
        let places = self.reload.0.places.read().clone();
        match Ways::to(&places) {
            Ok(ways) => {
                self.ways = Some(ways);
                if self.reload.0.said.lock().of_watching.take().is_some() {
                    log::info!("the config file is watched again");
                    self.reload.show(|_| ());
                }
            }
            Err(error) => self.unwatched(&error),
        }
    }

    /// Said once; whoever asks is heard all the same.
    fn unwatched(&mut self, error: &io::Error) {
        self.ways = None;
        let hint = "after a change: mcpvisor config apply, or SIGHUP; fs.inotify.max_user_instances and \
                    max_user_watches bound what a user may watch";
        let finding = warning("", "", format!("the config file is not watched: {error}"), hint);
        let mut said = self.reload.0.said.lock();
        if said.of_watching.is_none() {
            log::warn!("{finding}");
            said.of_watching = Some(finding);
            drop(said);
            self.reload.show(|_| ());
        }
    }
}
