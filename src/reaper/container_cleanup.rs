//! The containers' side of `mcpvisor cleanup`: which engines are asked, what is found on them, what became of it.
//!
//! Engines are asked at the same time, and one that does not answer keeps nobody waiting. Knows no terminal.

use super::containers::{ContainerSurvey, Scope, Suspect, short_id};
use super::judge_container::{RemoveBecause, Tool, Verdict};
use super::labels;
use super::mark::Place;
use crate::base::limits::{CLEANUP_OF_ENGINE, CLEANUP_RECORDS_PATIENCE, ENGINES_ASKED_AT_ONCE};
use crate::base::time::Wall;
use crate::engine::api::Engine;
use crate::engine::endpoint::Endpoint;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::store::Store;
use crate::sys::thread::each;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the person wants of it.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Engines that are looked at: `true` if they were named, so that not to reach them is a failure.
    pub engines: Vec<(Endpoint, bool)>,
    /// Also what other dead instances left.
    pub everyone: bool,
    pub all_hosts: bool,
    pub tools: Vec<Tool>,
}

/// A cleanup of some engines.
pub struct ContainerCleanup {
    survey: ContainerSurvey,
    everyone: bool,
    /// In order; `true` if it is a failure not to reach it.
    engines: Vec<(Engine, bool)>,
    /// Only under the lock: its other user is the daemon.
    store: Option<Store>,
}

impl ContainerCleanup {
    /// `store`: of the instance, if we hold its lock. The engines that it has containers recorded on are asked too.
    pub fn new(wanted: Wanted, instance: Option<String>, store: Option<Store>) -> ContainerCleanup {
        let mut engines: BTreeMap<Endpoint, bool> = BTreeMap::new();
        let mut recorded = BTreeSet::new();
        for (endpoint, named) in wanted.engines {
            *engines.entry(endpoint).or_default() |= named;
        }
        for (engine, id) in store.iter().flat_map(not_gone) {
            recorded.insert(id);
            // What cannot be read was written by a later version.
            engines.extend(Endpoint::parse(&engine).ok().map(|endpoint| (endpoint, true)));
        }
        let survey = ContainerSurvey {
            scope: Scope::Everyone,
            instance,
            session: None,
            lock_held: store.is_some(),
            all_hosts: wanted.all_hosts,
            cleanup: true,
            tools: wanted.tools,
            recorded,
            here: Place::here(),
            host: labels::host(),
        };
        let engines = engines.into_iter().map(|(endpoint, needed)| (Engine::new(endpoint), needed)).collect();
        ContainerCleanup { survey, everyone: wanted.everyone, engines, store }
    }

    /// What would be done.
    pub fn look(&self) -> ContainersReport {
        self.report(|engine, patience| {
            let Sorted { condemned, elsewhere, kept } = self.sort(self.survey.look(engine, patience)?);
            Ok(Found { removed: condemned, left: Vec::new(), elsewhere, kept })
        })
    }

    /// Does it, and strikes out of the records what is gone.
    pub fn carry_out(&self) -> ContainersReport {
        let report = self.report(|engine, patience| {
            let Sorted { condemned, elsewhere, kept } = self.sort(self.survey.look(engine, patience)?);
            let (removed, left) = self.survey.remove(engine, condemned, patience);
            Ok(Found { removed, left, elsewhere, kept })
        });
        if let Some(store) = &self.store {
            for gone in &report.removed {
                store.gone(&gone.engine, &gone.id);
                store.paid(&gone.engine, &gone.id);
            }
            // What is not written now is found gone at the next start.
            store.close(CLEANUP_RECORDS_PATIENCE);
        }
        report
    }

    fn sort(&self, suspects: Vec<Suspect>) -> Sorted {
        let (condemned, kept): (Vec<_>, Vec<_>) =
            suspects.into_iter().partition(|suspect| suspect.verdict.removes());
        let (condemned, elsewhere) = condemned.into_iter().partition(|suspect| self.is_asked_for(suspect));
        Sorted { condemned, elsewhere, kept }
    }

    /// Of the condemned: what is ours, or was asked for by an option of its own.
    fn is_asked_for(&self, suspect: &Suspect) -> bool {
        match suspect.verdict {
            Verdict::Remove(
                RemoveBecause::OtherHost | RemoveBecause::ToolGone(_) | RemoveBecause::Leftover,
            ) => true,
            Verdict::Remove(
                RemoveBecause::OwnerGone(_) | RemoveBecause::EarlierBoot | RemoveBecause::EarlierRun,
            ) => self.everyone || suspect.badge.instance() == self.survey.instance.as_deref(),
            Verdict::Keep(_) => false,
        }
    }

    fn report(
        &self,
        ask: impl Fn(&Engine, &Patience) -> Result<Found, EngineError> + Sync,
    ) -> ContainersReport {
        let jobs: Vec<&Engine> = self.engines.iter().map(|(engine, _)| engine).collect();
        let ask = |engine: &Engine| ask(engine, &Patience::of(CLEANUP_OF_ENGINE));
        let answers = each("engine", ENGINES_ASKED_AT_ONCE, jobs, ask);
        let mut report = ContainersReport::default();
        let mut known = BTreeSet::new();
        for ((engine, needed), answer) in self.engines.iter().zip(answers) {
            let endpoint = engine.endpoint();
            match answer {
                Some(Ok(found)) => report.take(endpoint, *needed, found, &mut known),
                Some(Err(error)) => report.engines.push(EngineEntry {
                    engine: endpoint.to_string(),
                    needed: *needed,
                    absent: error.kind == EngineErrorKind::Absent,
                    error: Some(error.fault(endpoint).to_string()),
                }),
                None => report.engines.push(EngineEntry {
                    engine: endpoint.to_string(),
                    needed: *needed,
                    absent: false,
                    error: Some("a bug, see the log".to_owned()),
                }),
            }
        }
        report
    }
}

/// One look at one engine.
struct Sorted {
    condemned: Vec<Suspect>,
    elsewhere: Vec<Suspect>,
    kept: Vec<Suspect>,
}

/// What came of one engine.
#[derive(Clone, Default)]
struct Found {
    removed: Vec<Suspect>,
    left: Vec<(Suspect, String)>,
    elsewhere: Vec<Suspect>,
    kept: Vec<Suspect>,
}

/// Engine and id of what our records do not call gone.
fn not_gone(store: &Store) -> Vec<(String, String)> {
    let created = store.records().into_iter().filter(|created| created.gone_ms.is_none());
    let created = created.map(|created| (created.record.engine, created.record.id));
    created.chain(store.owed().into_iter().map(|removal| (removal.engine, removal.id))).collect()
}

/// What was found; `removed` is what would be removed if it was only looked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainersReport {
    pub engines: Vec<EngineEntry>,
    pub removed: Vec<ContainerEntry>,
    /// Could not be removed.
    pub left: Vec<ContainerEntry>,
    /// Orphans of other instances, which are not removed unless everyone's are.
    pub elsewhere: Vec<ContainerEntry>,
    pub kept: Vec<ContainerEntry>,
}

/// One engine that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineEntry {
    pub engine: String,
    /// It was named, or containers are recorded on it.
    pub needed: bool,
    /// There is no such engine on this host.
    #[serde(skip)]
    pub absent: bool,
    /// Why it could not be looked at.
    pub error: Option<String>,
}

/// One container, for people and tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerEntry {
    pub engine: String,
    /// In full.
    pub id: String,
    pub name: String,
    pub image: String,
    pub state: String,
    /// The slug in its labels.
    pub server: String,
    pub instance: Option<String>,
    pub session: String,
    pub pid: Option<u32>,
    /// RFC 3339.
    pub started: String,
    pub because: String,
    /// Why it could not be removed.
    pub error: Option<String>,
}

impl ContainersReport {
    /// An engine that can be reached in two ways is one engine: each container counts once.
    fn take(&mut self, endpoint: &Endpoint, needed: bool, found: Found, known: &mut BTreeSet<String>) {
        let engine = endpoint.to_string();
        self.engines.push(EngineEntry { engine: engine.clone(), needed, absent: false, error: None });
        let mut entries = |suspects: Vec<(Suspect, Option<String>)>| -> Vec<ContainerEntry> {
            let fresh = suspects.into_iter().filter(|(suspect, _)| known.insert(suspect.id.clone()));
            fresh.map(|(suspect, error)| ContainerEntry::new(&engine, suspect, error)).collect()
        };
        self.removed.extend(entries(found.removed.into_iter().map(|suspect| (suspect, None)).collect()));
        self.left.extend(entries(found.left.into_iter().map(|(s, why)| (s, Some(why))).collect()));
        self.elsewhere.extend(entries(found.elsewhere.into_iter().map(|suspect| (suspect, None)).collect()));
        self.kept.extend(entries(found.kept.into_iter().map(|suspect| (suspect, None)).collect()));
    }

    /// Nothing was, or is, to be removed.
    pub fn is_clean(&self) -> bool {
        self.removed.is_empty() && self.left.is_empty()
    }

    /// An engine could not be looked at that was named, or that containers are recorded on.
    pub fn is_blind(&self) -> bool {
        self.engines.iter().any(|engine| engine.needed && engine.error.is_some())
    }

    /// Engines that are worth a word: not the default one of a host that has none.
    pub fn unseen(&self, verbose: bool) -> impl Iterator<Item = &str> {
        let silent = move |engine: &&EngineEntry| verbose || engine.needed || !engine.absent;
        self.engines.iter().filter(silent).filter_map(|engine| engine.error.as_deref())
    }
}

impl ContainerEntry {
    fn new(engine: &str, suspect: Suspect, error: Option<String>) -> ContainerEntry {
        let Suspect { id, name, image, state, created_s, badge, verdict } = suspect;
        let created_ms = u64::try_from(created_s).unwrap_or(0).saturating_mul(1000);
        // What a stranger wrote may be too large for a date.
        let started = badge.started_ms().filter(|ms| *ms < YEAR_9999_MS).unwrap_or(created_ms);
        ContainerEntry {
            engine: engine.to_owned(),
            id,
            name,
            image,
            state,
            server: badge.server().to_owned(),
            instance: badge.instance().map(str::to_owned),
            session: badge.session().to_owned(),
            pid: badge.pid(),
            started: Wall(started.min(YEAR_9999_MS)).rfc3339(),
            because: verdict.to_string(),
            error,
        }
    }

    /// For people: what it is, whose, and why.
    pub fn lines(&self) -> [String; 3] {
        let server = if self.server.is_empty() { "-" } else { &self.server };
        let session = self.session.get(..8).unwrap_or(&self.session);
        let pid = self.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let started = self.started.split('.').next().unwrap_or_default();
        let why = match &self.error {
            Some(error) => format!("{}; {error}", self.because),
            None => self.because.clone(),
        };
        [
            format!("{}  {}  {}", short_id(&self.id), self.name, self.image),
            format!("{:12}  {server}, session {session}, pid {pid}, since {started}Z", ""),
            format!("{:12}  {why}", ""),
        ]
    }
}

/// The last millisecond that RFC 3339 can say.
const YEAR_9999_MS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::badge::Badge;
    use crate::reaper::judge_container::KeepBecause;

    fn suspect(id: char, pairs: &[(&str, &str)], verdict: Verdict) -> Suspect {
        let common = [("mcpvisor.managed", "true"), ("mcpvisor.instance", "i"), ("mcpvisor.server", "git")];
        let labels =
            common.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Suspect {
            id: id.to_string().repeat(64),
            name: "mcpvisor-1a2b3c4d-git-a".to_owned(),
            image: "mcp/git:latest".to_owned(),
            state: "running".to_owned(),
            created_s: 1_795_169_900,
            badge: Badge::read(&labels.collect(), &[]).unwrap(),
            verdict,
        }
    }

    fn report() -> ContainersReport {
        let session = ("mcpvisor.session", "0123456789abcdef");
        let started = ("mcpvisor.started", "1795169907123");
        let gone = Verdict::Remove(RemoveBecause::OwnerGone(9));
        let alive = Verdict::Keep(KeepBecause::OwnerAlive(10));
        let found = Found {
            removed: vec![suspect('a', &[session, started], gone)],
            left: vec![(suspect('b', &[session], gone), "remove a container: no answer in time".to_owned())],
            elsewhere: vec![suspect('d', &[session, started], gone)],
            kept: vec![suspect('c', &[session, ("mcpvisor.started", "99999999999999999")], alive)],
        };
        let mut report = ContainersReport::default();
        let mut known = BTreeSet::new();
        report.take(&Endpoint::Unix("/a.sock".into()), true, found.clone(), &mut known);
        report.take(&Endpoint::Unix("/b.sock".into()), false, found, &mut known);
        report
    }

    #[test]
    fn one_engine_by_two_ways() {
        let report = report();
        let counts = (report.engines.len(), report.removed.len(), report.left.len(), report.kept.len());
        assert_eq!(counts, (2, 1, 1, 1));
        assert!(!report.is_clean() && !report.is_blind());
    }

    #[test]
    fn lines_for_people() {
        let report = report();
        assert_eq!(
            report.removed[0].lines(),
            [
                "aaaaaaaaaaaa  mcpvisor-1a2b3c4d-git-a  mcp/git:latest",
                "              git, session 01234567, pid -, since 2026-11-20T10:18:27Z",
                "              its mcpvisor (pid 9) is gone"
            ]
        );
        let left = &report.left[0].lines();
        assert!(left[1].ends_with("since 2026-11-20T10:18:20Z"), "the engine's own time: {left:?}");
        assert!(left[2].ends_with("is gone; remove a container: no answer in time"), "{left:?}");
        assert!(report.kept[0].lines()[1].ends_with("since 2026-11-20T10:18:20Z"));
    }

    #[test]
    fn engines_that_are_not_there() {
        let entry = |needed, absent| EngineEntry {
            engine: "unix:///e".to_owned(),
            needed,
            absent,
            error: Some("engine unix:///e: list containers: …".to_owned()),
        };
        #[track_caller]
        fn check(entry: EngineEntry, blind: bool, told: usize) {
            let report = ContainersReport { engines: vec![entry], ..ContainersReport::default() };
            assert_eq!(
                (report.is_blind(), report.unseen(false).count(), report.unseen(true).count()),
                (blind, told, 1)
            );
        }
        check(entry(false, true), false, 0);
        check(entry(false, false), false, 1);
        check(entry(true, true), true, 1);
    }

    #[test]
    fn a_named_engine_stays_named() {
        let endpoint = Endpoint::Unix("/nowhere/docker.sock".into());
        let wanted =
            Wanted { engines: vec![(endpoint.clone(), true), (endpoint, false)], ..Wanted::default() };
        let cleanup = ContainerCleanup::new(wanted, None, None);
        let report = cleanup.look();
        assert_eq!((report.engines.len(), report.is_blind(), report.is_clean()), (1, true, true));
    }
}
