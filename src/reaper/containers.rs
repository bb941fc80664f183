//! The sweep of one engine: containers that bear labels in question, judged, and the condemned removed.
//!
//! A container is only ever removed by its full id, after a look at its labels: if they are not those that were
//! judged, it is left alone. What is removed has lost its owner, so nobody is asked to stop first. Nothing here tries
//! an engine twice that does not answer.

use super::badge::Badge;
use super::judge_container::{Case, Claim, Foreign, Tool, Verdict, judge};
use super::labels;
use super::mark::{Marker, Place};
use crate::base::limits::{
    CONTAINER_LISTING, CONTAINER_PING, CONTAINER_REMOVAL, CONTAINER_VERIFY_EVERY, CONTAINERS_REMOVED_AT_ONCE,
    NAMED_PROCESSES_MAX,
};
use crate::engine::answers::{Inspected, Listed};
use crate::engine::api::Engine;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::sys::thread::each;
use crate::sys::{clock, hold, kin, procfs};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whose containers a sweep considers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of our instance.
    Ours,
    /// Of all other instances.
    Others,
    Everyone,
}

/// What a sweep goes by.
#[derive(Clone, Debug)]
pub struct ContainerSurvey {
    pub scope: Scope,
    /// The id of our instance; `None` if the state directory has none yet.
    pub instance: Option<String>,
    /// The run that is us; `None` if we are no daemon.
    pub session: Option<String>,
    /// We hold the lock of the instance.
    pub lock_held: bool,
    pub all_hosts: bool,
    /// A person asks.
    pub cleanup: bool,
    /// Other tools whose containers are looked at too.
    pub tools: Vec<Tool>,
    /// Full ids that our store says earlier runs made.
    pub recorded: BTreeSet<String>,
    pub here: Place,
    /// See [`labels::host`].
    pub host: String,
}

/// Before anything is created on an engine: removes what earlier runs of our instance left on it. Asked by the daemon,
/// which holds the lock of the instance. What is in `left` still occupies its name.
pub fn clear_earlier(
    engine: &Engine,
    marker: &Marker,
    patience: &Patience,
) -> Result<ContainerReport, EngineError> {
    ContainerSurvey::of_daemon(marker, Scope::Ours).carry_out(engine, patience)
}

/// In the background: removes what other instances left that are provably dead.
pub fn clear_dead(
    engine: &Engine,
    marker: &Marker,
    patience: &Patience,
) -> Result<ContainerReport, EngineError> {
    ContainerSurvey::of_daemon(marker, Scope::Others).carry_out(engine, patience)
}

impl ContainerSurvey {
    /// For the daemon, whose run `marker` is.
    pub fn of_daemon(marker: &Marker, scope: Scope) -> ContainerSurvey {
        ContainerSurvey {
            scope,
            instance: Some(marker.instance.clone()),
            session: Some(marker.session.clone()),
            lock_held: true,
            all_hosts: false,
            cleanup: false,
            tools: Vec::new(),
            recorded: BTreeSet::new(),
            here: Place::here(),
            host: labels::host(),
        }
    }

    /// One look: every container in scope, running or not, with its verdict; in order of id.
    pub fn look(&self, engine: &Engine, patience: &Patience) -> Result<Vec<Suspect>, EngineError> {
        let patience = within(patience, CONTAINER_LISTING);
        let mut found = BTreeMap::new();
        for filter in self.filters() {
            let listed = engine.list(&filter, &patience)?;
            found.extend(listed.into_iter().map(|listed| (listed.id.clone(), listed)));
        }
        let running = Running::look(&self.tools);
        Ok(found.into_values().filter_map(|listed| self.consider(listed, &running)).collect())
    }

    /// Looks, and removes the condemned.
    pub fn carry_out(&self, engine: &Engine, patience: &Patience) -> Result<ContainerReport, EngineError> {
        let (condemned, kept): (Vec<Suspect>, Vec<Suspect>) =
            self.look(engine, patience)?.into_iter().partition(|suspect| suspect.verdict.removes());
        let (removed, left) = self.remove(engine, condemned, patience);
        Ok(ContainerReport { removed, left, kept })
    }

    /// Removes, some at the same time. What is gone when it is its turn counts as removed. Once the engine does not
    /// even answer a ping, the rest is left.
    pub fn remove(
        &self,
        engine: &Engine,
        condemned: Vec<Suspect>,
        patience: &Patience,
    ) -> (Vec<Suspect>, Vec<(Suspect, String)>) {
        let away = AtomicBool::new(false);
        let remove = |suspect: &Suspect| {
            if away.load(Ordering::SeqCst) {
                return Err(Unremoved::Untried);
            }
            let done = self.remove_one(engine, suspect, &within(patience, CONTAINER_REMOVAL));
            let stuck =
                matches!(&done, Err(Unremoved::Engine(error) | Unremoved::Unseen(error)) if error.is_away());
            if stuck && engine.ping(&within(patience, CONTAINER_PING)).is_err() {
                away.store(true, Ordering::SeqCst);
            }
            done
        };
        let jobs = condemned.iter().collect();
        let done = each("remove", CONTAINERS_REMOVED_AT_ONCE, jobs, remove);
        let (mut removed, mut left) = (Vec::new(), Vec::new());
        for (suspect, done) in condemned.into_iter().zip(done) {
            match done.unwrap_or(Err(Unremoved::Bug)) {
                Ok(()) => removed.push(suspect),
                Err(why) => left.push((suspect, why.to_string())),
            }
        }
        (removed, left)
    }

    fn remove_one(&self, engine: &Engine, suspect: &Suspect, patience: &Patience) -> Result<(), Unremoved> {
        let same = |now: &Inspected| Badge::read(&now.labels, &self.tools).as_ref() == Some(&suspect.badge);
        remove_if(engine, &suspect.id, same, patience).inspect_err(|why| {
            if matches!(why, Unremoved::Changed) {
                log::warn!("container {} ({}) is left alone: {why}", suspect.id, suspect.name);
            }
        })
    }

    /// One question to the engine each.
    fn filters(&self) -> Vec<Vec<(&str, &str)>> {
        let mut filters = vec![vec![(labels::MANAGED, "true")]];
        if let (Scope::Ours, Some(instance)) = (self.scope, &self.instance) {
            filters[0].push((labels::INSTANCE, instance));
        }
        filters.extend(self.tools.iter().map(|tool| vec![(Badge::managed_by(*tool), "true")]));
        filters
    }

    /// `None` if it is out of scope, or, against the filters, bears no label in question.
    fn consider(&self, listed: Listed, running: &Running) -> Option<Suspect> {
        let badge = Badge::read(&listed.labels, &self.tools)?;
        let in_scope = match (self.scope, &badge) {
            (Scope::Everyone, _) => true,
            (Scope::Ours, Badge::Ours(labels)) => Some(&labels.instance) == self.instance.as_ref(),
            (Scope::Others, Badge::Ours(labels)) => Some(&labels.instance) != self.instance.as_ref(),
            (Scope::Ours | Scope::Others, Badge::Theirs(_)) => false,
        };
        let (claim, foreign) = match &badge {
            Badge::Ours(labels) => (Some(self.claim(labels)), None),
            Badge::Theirs(theirs) => {
                let tool_runs = running.pid_of(theirs.tool);
                let pid = theirs.pid.map(|pid| (pid, kin::exists(pid)));
                (None, Some(Foreign { tool: theirs.tool, tool_runs, pid }))
            }
        };
        let verdict = judge(&Case {
            claim,
            foreign,
            lock_held: self.lock_held,
            recorded: self.recorded.contains(&listed.id),
            all_hosts: self.all_hosts,
            cleanup: self.cleanup,
        });
        let name = listed.names.first().map(|name| name.trim_start_matches('/').to_owned());
        in_scope.then(|| Suspect {
            id: listed.id,
            name: name.unwrap_or_default(),
            image: listed.image,
            state: listed.state,
            created_s: listed.created_s,
            badge,
            verdict,
        })
    }

    fn claim(&self, labels: &labels::Labels) -> Claim {
        Claim {
            our_instance: self.instance.as_ref() == Some(&labels.instance),
            our_session: self.session.as_ref() == Some(&labels.session),
            same_host: labels.host == self.host,
            owner: labels.owner.as_ref().map(|owner| (owner.pid, owner.fate(&self.here))),
        }
    }
}

/// A container that was looked at, and what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Full: 64 hex digits.
    pub id: String,
    pub name: String,
    pub image: String,
    /// The engine's word: `running`, `exited`, `created` …
    pub state: String,
    /// Seconds since 1970.
    pub created_s: i64,
    pub badge: Badge,
    pub verdict: Verdict,
}

impl Suspect {
    /// As `docker ps` prints it.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }
}

/// The 12 digits that people use.
pub fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// What a sweep of one engine did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerReport {
    pub removed: Vec<Suspect>,
    /// Condemned and not known to be gone, each with the reason.
    pub left: Vec<(Suspect, String)>,
    pub kept: Vec<Suspect>,
}

impl ContainerReport {
    /// For the log: one line on what was removed, and one on what could not be.
    pub fn lines(&self) -> Vec<String> {
        let removed = self.removed.iter().map(|suspect| (suspect, suspect.verdict.to_string()));
        let left = self.left.iter().map(|(suspect, why)| (suspect, why.clone()));
        let named = [("removed", removed.collect::<Vec<_>>()), ("could not remove", left.collect())];
        let some = named.into_iter().filter(|(_, entries)| !entries.is_empty());
        some.map(|(what, entries)| {
            let noun = if entries.len() == 1 { "container" } else { "containers" };
            format!("{what} {} {noun} left behind: {}", entries.len(), names(&entries))
        })
        .collect()
    }
}

fn names(entries: &[(&Suspect, String)]) -> String {
    let name = |(suspect, why): &(&Suspect, String)| {
        let name = if suspect.name.is_empty() { suspect.short_id() } else { &suspect.name };
        format!("{name} ({}: {why})", suspect.short_id())
    };
    let mut names: Vec<String> = entries.iter().take(NAMED_PROCESSES_MAX).map(name).collect();
    if entries.len() > NAMED_PROCESSES_MAX {
        names.push(format!("{} more", entries.len() - NAMED_PROCESSES_MAX));
    }
    names.join(", ")
}

/// Which of the other tools run here: by their name in the command line, of whoever. It only ever keeps something.
struct Running(BTreeMap<Tool, u32>);

impl Running {
    fn look(tools: &[Tool]) -> Running {
        let mut found = BTreeMap::new();
        if tools.is_empty() {
            return Running(found);
        }
        let me = std::process::id();
        for process in procfs::all().iter().filter(|process| process.pid != me && !kin::has_ended(process)) {
            let line = procfs::command_line(process.pid);
            for tool in tools.iter().filter(|tool| names_tool(&line, &process.comm, **tool)) {
                found.entry(*tool).or_insert(process.pid);
            }
        }
        Running(found)
    }

    fn pid_of(&self, tool: Tool) -> Option<u32> {
        self.0.get(&tool).copied()
    }
}

/// Programs that run others by a word of their arguments.
const LAUNCHERS: [&str; 10] = ["node", "nodejs", "bun", "bunx", "deno", "npm", "npx", "pnpm", "yarn", "env"];

/// `mcpmon`, `/opt/mcpmon-linux-x64`, `node …/mcpmon/dist/cli.js`, `npx mcpmon@1.0`; but not an editor with `mcpmon.md`.
fn names_tool(command_line: &str, comm: &str, tool: Tool) -> bool {
    let begins = |part: &str| {
        let rest = part.strip_prefix(tool.name());
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let program = command_line.split(' ').next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    let words = if LAUNCHERS.contains(&name) { command_line } else { program };
    begins(comm) || words.split(['/', ' ']).any(begins)
}

/// At most `span` of what the caller has.
pub(super) fn within<'a>(patience: &Patience<'a>, span: Duration) -> Patience<'a> {
    Patience { deadline: patience.deadline.min(clock::now() + span), cancel: patience.cancel }
}

/// Removes the container of this full id, if a fresh look says that it is the one, and sees it gone.
pub(super) fn remove_if(
    engine: &Engine,
    id: &str,
    is_it: impl Fn(&Inspected) -> bool,
    patience: &Patience,
) -> Result<(), Unremoved> {
    let Some(now) = unless_gone(engine.inspect(id, patience))? else { return Ok(()) };
    if now.id != *id || !is_it(&now) {
        return Err(Unremoved::Changed);
    }
    let refused = unless_gone(engine.remove(id, patience)).err();
    // The engine answers also if the removal is only under way, and the answer to a removal may be lost.
    loop {
        match (unless_gone(engine.inspect(id, patience)), &refused) {
            (Ok(None), _) => return Ok(()),
            (Ok(Some(_)), Some(_)) => return Err(refused.expect("it was looked at")),
            (Ok(Some(_)), None) => {}
            (Err(Unremoved::Engine(_)), Some(_)) => return Err(refused.expect("it was looked at")),
            (Err(Unremoved::Engine(error)), None) => return Err(Unremoved::Unseen(error)),
            (Err(other), _) => return Err(other),
        }
        let now = clock::now();
        if now >= patience.deadline {
            return Err(Unremoved::Late);
        }
        hold::pause_until(patience.deadline.min(now + CONTAINER_VERIFY_EVERY));
    }
}

/// Gone is what was wanted.
fn unless_gone<T>(answer: Result<T, EngineError>) -> Result<Option<T>, Unremoved> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == EngineErrorKind::NoSuchContainer => Ok(None),
        Err(error) => Err(Unremoved::Engine(error)),
    }
}

/// Why a container is perhaps still there.
#[derive(Debug)]
pub(super) enum Unremoved {
    Engine(EngineError),
    /// The engine took the removal, and could not be asked since.
    Unseen(EngineError),
    Changed,
    Late,
    Untried,
    Bug,
}

impl fmt::Display for Unremoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unremoved::Engine(error) | Unremoved::Unseen(error) => error.fmt(f),
            Unremoved::Changed => f.write_str("its labels are not what they were"),
            Unremoved::Late => f.write_str("its removal is not done in time"),
            Unremoved::Untried => f.write_str("not tried, as the engine does not answer"),
            Unremoved::Bug => f.write_str("a bug, see the log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::judge_container::RemoveBecause;

    #[test]
    fn command_lines_that_name_a_tool() {
        #[track_caller]
        fn check(line: &str, comm: &str, named: bool) {
            assert_eq!(names_tool(line, comm, Tool::Mcpmon), named);
        }
        check("/usr/bin/mcpmon npx server", "mcpmon", true);
        check("node /usr/lib/node_modules/mcpmon/dist/cli.js", "node", true);
        check("npx mcpmon@1.0.1 --", "npx", true);
        check("/opt/mcpmon-linux-x64", "mcpmon-linux-x6", true);
        check("mcpmonitor --all", "mcpmonitor", false);
        check("mcpvisor cleanup --include-mcpmon", "mcpvisor", false);
        check("", "mcpmon", true);
        check("bash", "bash", false);
        check("vim mcpmon.md", "vim", false);
        check("env A=1 mcpmon server", "env", true);
    }

    #[test]
    fn lines_for_the_log() {
        let badge = Badge::read(
            &BTreeMap::from(
                [("mcpvisor.managed", "true"), ("mcpvisor.instance", "i"), ("mcpvisor.session", "s")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            &[],
        );
        let suspect = |n: usize| Suspect {
            id: format!("{n:064}"),
            name: format!("mcpvisor-i-git{n}-a"),
            image: "mcp/git".to_owned(),
            state: "running".to_owned(),
            created_s: 0,
            badge: badge.clone().unwrap(),
            verdict: Verdict::Remove(RemoveBecause::OwnerGone(9)),
        };
        assert_eq!(ContainerReport::default().lines(), Vec::<String>::new());
        let report = ContainerReport {
            removed: vec![suspect(1), suspect(2)],
            left: vec![(Suspect { name: String::new(), ..suspect(3) }, Unremoved::Late.to_string())],
            kept: Vec::new(),
        };
        assert_eq!(
            report.lines(),
            [
                "removed 2 containers left behind: mcpvisor-i-git1-a (000000000000: its mcpvisor (pid 9) is gone), \
                 mcpvisor-i-git2-a (000000000000: its mcpvisor (pid 9) is gone)",
                "could not remove 1 container left behind: 000000000000 (000000000000: its removal is not done in time)"
            ]
        );
    }
}
