//! May this container be removed? Pure: facts in, verdict out. The sister of `judge`.
//!
//! Two things differ from processes. An engine may serve several hosts, and what another host owns is kept. And a
//! container outlives the boot of its host, a process does not: a container whose owner ran in an earlier boot of
//! *this* host has a dead owner. Nothing here looks at a name, an image or a pattern.

use super::mark::Fate;
use serde::Serialize;
use std::fmt;

/// What our labels on a container claim, and what we know of who they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// They name our instance.
    pub our_instance: bool,
    /// They name the run that is us, now.
    pub our_session: bool,
    /// They name the machine that we run on.
    pub same_host: bool,
    /// Pid and fate of the daemon that they name; `None` if they name none that can be read.
    pub owner: Option<(u32, Fate)>,
}

/// Another tool that writes labels on what it starts; looked for only by whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    Mcpmon,
    Mcpproxy,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Mcpmon => "mcpmon",
            Tool::Mcpproxy => "mcpproxy",
        }
    }
}

/// What the labels of another tool claim. Such labels name a pid and no start time, boot or host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub tool: Tool,
    /// The pid of some process of that tool that runs here.
    pub tool_runs: Option<u32>,
    /// The pid that they name, and whether any process has it.
    pub pid: Option<(u32, bool)>,
}

/// All that the judge is told of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Case {
    pub claim: Option<Claim>,
    /// Only means something without a claim of ours.
    pub foreign: Option<Foreign>,
    /// We hold the lock of our instance, so no other run of it lives.
    pub lock_held: bool,
    /// In our store: an earlier run of ours wrote down that it made this one.
    pub recorded: bool,
    /// Whoever asks takes it upon themselves that other hosts do not need what they have on this engine.
    pub all_hosts: bool,
    /// Asked by a person through `cleanup`, not by a daemon that starts.
    pub cleanup: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "because", rename_all = "snake_case")]
pub enum Verdict {
    Remove(RemoveBecause),
    Keep(KeepBecause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoveBecause {
    OwnerGone(u32),
    EarlierBoot,
    EarlierRun,
    /// Without an owner, but of our instance or in our records.
    Leftover,
    OtherHost,
    ToolGone(Tool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepBecause {
    CurrentRun,
    OwnerAlive(u32),
    OwnerOutOfSight,
    OwnerUnknown,
    OtherHost,
    ToolRuns(Tool, u32),
    PidInUse(u32),
    NotLabelled,
}

pub fn judge(case: &Case) -> Verdict {
    match (case.claim, case.foreign) {
        (Some(claim), _) => judge_claim(claim, case),
        (None, Some(foreign)) if case.cleanup => judge_foreign(foreign),
        (None, Some(_)) | (None, None) => Verdict::Keep(KeepBecause::NotLabelled),
    }
}

fn judge_claim(claim: Claim, case: &Case) -> Verdict {
    use Verdict::{Keep, Remove};
    if claim.our_session {
        return Keep(KeepBecause::CurrentRun);
    }
    let earlier_run = claim.our_instance && case.lock_held;
    match claim.owner {
        // Alive is seen in this boot and PID namespace, so it outweighs whatever host and instance are claimed.
        Some((pid, Fate::Alive)) => Keep(KeepBecause::OwnerAlive(pid)),
        None if !claim.same_host => Keep(KeepBecause::OtherHost),
        // Nothing ties a pid of another boot to anything here; only a person can know.
        Some((_, Fate::OtherBoot)) if !claim.same_host && case.all_hosts => Remove(RemoveBecause::OtherHost),
        Some(_) if !claim.same_host => Keep(KeepBecause::OtherHost),
        Some((pid, Fate::Dead)) => Remove(RemoveBecause::OwnerGone(pid)),
        Some((_, Fate::OtherBoot)) => Remove(RemoveBecause::EarlierBoot),
        Some((_, Fate::OutOfSight)) if earlier_run => Remove(RemoveBecause::EarlierRun),
        Some((_, Fate::OutOfSight)) => Keep(KeepBecause::OwnerOutOfSight),
        None if case.cleanup && (earlier_run || case.recorded && case.lock_held) => {
            Remove(RemoveBecause::Leftover)
        }
        None => Keep(KeepBecause::OwnerUnknown),
    }
}

/// The tools' own rule, made safe: its pid is gone, and none of it runs.
fn judge_foreign(foreign: Foreign) -> Verdict {
    match (foreign.pid, foreign.tool_runs) {
        (Some((pid, true)), _) => Verdict::Keep(KeepBecause::PidInUse(pid)),
        (_, Some(pid)) => Verdict::Keep(KeepBecause::ToolRuns(foreign.tool, pid)),
        (Some((_, false)) | None, None) => Verdict::Remove(RemoveBecause::ToolGone(foreign.tool)),
    }
}

impl Verdict {
    pub fn removes(self) -> bool {
        matches!(self, Verdict::Remove(_))
    }
}

impl fmt::Display for RemoveBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoveBecause::OwnerGone(pid) => write!(f, "its mcpvisor (pid {pid}) is gone"),
            RemoveBecause::EarlierBoot => f.write_str("its mcpvisor ran before this host was restarted"),
            RemoveBecause::EarlierRun => f.write_str("an earlier run of this instance made it"),
            RemoveBecause::Leftover => {
                f.write_str("it names no mcpvisor, and an earlier run of this instance made it")
            }
            RemoveBecause::OtherHost => f.write_str("it is of another host, and --all-hosts was given"),
            RemoveBecause::ToolGone(tool) => write!(f, "it is of {}, and none runs here", tool.name()),
        }
    }
}

impl fmt::Display for KeepBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepBecause::CurrentRun => f.write_str("this run made it"),
            KeepBecause::OwnerAlive(pid) => write!(f, "its mcpvisor (pid {pid}) runs"),
            KeepBecause::OwnerOutOfSight => {
                f.write_str("its mcpvisor is in another PID namespace: not proven dead")
            }
            KeepBecause::OwnerUnknown => f.write_str("its labels name no mcpvisor: not proven dead"),
            KeepBecause::OtherHost => f.write_str("it is of another host"),
            KeepBecause::ToolRuns(tool, pid) => write!(f, "{} seems to run here (pid {pid})", tool.name()),
            KeepBecause::PidInUse(pid) => write!(f, "a process has the pid that it names ({pid})"),
            KeepBecause::NotLabelled => f.write_str("nothing says that it is ours"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Remove(because) => because.fmt(f),
            Verdict::Keep(because) => because.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fate::{Alive, Dead, OtherBoot, OutOfSight};
    use KeepBecause as K;
    use RemoveBecause as R;
    use Verdict::{Keep, Remove};

    const OURS: Claim = Claim { our_instance: true, our_session: false, same_host: true, owner: None };
    const OTHERS: Claim = Claim { our_instance: false, ..OURS };
    const ELSEWHERE: Claim = Claim { same_host: false, ..OTHERS };

    fn owned(claim: Claim, fate: Fate) -> Claim {
        Claim { owner: Some((9, fate)), ..claim }
    }

    /// The same claim in the four situations that matter: a daemon starts (lock held); `cleanup` beside a daemon that
    /// runs; `cleanup` under the lock; that with `--all-hosts`.
    #[track_caller]
    fn check(claim: Claim, [start, beside, cleanup, all_hosts]: [Verdict; 4]) {
        let at_start = Case { claim: Some(claim), lock_held: true, ..Case::default() };
        assert_eq!(judge(&at_start), start, "at start");
        assert_eq!(judge(&Case { lock_held: false, cleanup: true, ..at_start }), beside, "beside a daemon");
        assert_eq!(judge(&Case { cleanup: true, ..at_start }), cleanup, "cleanup");
        let everywhere = Case { cleanup: true, all_hosts: true, ..at_start };
        assert_eq!(judge(&everywhere), all_hosts, "all hosts");
    }

    #[test]
    fn ours() {
        check(owned(OURS, Dead), [Remove(R::OwnerGone(9)); 4]);
        check(owned(OURS, OtherBoot), [Remove(R::EarlierBoot); 4]);
        check(owned(OURS, Alive), [Keep(K::OwnerAlive(9)); 4]);
        let earlier = Remove(R::EarlierRun);
        check(owned(OURS, OutOfSight), [earlier, Keep(K::OwnerOutOfSight), earlier, earlier]);
        let (unknown, leftover) = (Keep(K::OwnerUnknown), Remove(R::Leftover));
        check(OURS, [unknown, unknown, leftover, leftover]);
    }

    #[test]
    fn of_this_run() {
        for claim in [OURS, owned(OURS, Dead), owned(OURS, OtherBoot), owned(ELSEWHERE, OtherBoot)] {
            check(Claim { our_session: true, ..claim }, [Keep(K::CurrentRun); 4]);
        }
    }

    #[test]
    fn of_other_instances_only_with_proof() {
        check(owned(OTHERS, Dead), [Remove(R::OwnerGone(9)); 4]);
        check(owned(OTHERS, OtherBoot), [Remove(R::EarlierBoot); 4]);
        check(owned(OTHERS, Alive), [Keep(K::OwnerAlive(9)); 4]);
        check(owned(OTHERS, OutOfSight), [Keep(K::OwnerOutOfSight); 4]);
        check(OTHERS, [Keep(K::OwnerUnknown); 4]);
    }

    #[test]
    fn of_other_hosts_never_unasked() {
        let kept = Keep(K::OtherHost);
        check(owned(ELSEWHERE, OtherBoot), [kept, kept, kept, Remove(R::OtherHost)]);
        // The same boot is the same kernel: a container of this machine, say. That it is dead is not proven.
        check(owned(ELSEWHERE, OutOfSight), [kept; 4]);
        check(owned(ELSEWHERE, Dead), [kept; 4]);
        check(owned(ELSEWHERE, Alive), [Keep(K::OwnerAlive(9)); 4]);
        check(ELSEWHERE, [kept; 4]);
        let our_copy = Claim { our_instance: true, ..ELSEWHERE };
        check(our_copy, [kept; 4]);
        check(owned(our_copy, OtherBoot), [kept, kept, kept, Remove(R::OtherHost)]);
    }

    #[test]
    fn records_tell_whose_a_leftover_is_and_nothing_else() {
        #[track_caller]
        fn check(case: Case, verdict: Verdict) {
            assert_eq!(judge(&Case { recorded: true, ..case }), verdict);
        }
        let cleanup = Case { claim: Some(OTHERS), lock_held: true, cleanup: true, ..Case::default() };
        check(cleanup, Remove(R::Leftover));
        check(Case { cleanup: false, ..cleanup }, Keep(K::OwnerUnknown));
        check(Case { lock_held: false, ..cleanup }, Keep(K::OwnerUnknown));
        check(Case { claim: Some(owned(OTHERS, Alive)), ..cleanup }, Keep(K::OwnerAlive(9)));
        check(Case { claim: Some(owned(OTHERS, OutOfSight)), ..cleanup }, Keep(K::OwnerOutOfSight));
        check(Case { claim: Some(ELSEWHERE), ..cleanup }, Keep(K::OtherHost));
        check(Case { claim: None, ..cleanup }, Keep(K::NotLabelled));
    }

    #[test]
    fn of_other_tools_only_when_none_of_them_runs() {
        #[track_caller]
        fn check(pid: Option<(u32, bool)>, tool_runs: Option<u32>, verdict: Verdict) {
            let foreign = Some(Foreign { tool: Tool::Mcpmon, tool_runs, pid });
            let case = Case { foreign, lock_held: true, cleanup: true, ..Case::default() };
            assert_eq!(judge(&case), verdict);
            assert_eq!(judge(&Case { cleanup: false, ..case }), Keep(K::NotLabelled));
            let claimed = Case { claim: Some(owned(OTHERS, Alive)), ..case };
            assert_eq!(judge(&claimed), Keep(K::OwnerAlive(9)), "our labels outweigh theirs");
        }
        check(Some((9, false)), None, Remove(R::ToolGone(Tool::Mcpmon)));
        check(None, None, Remove(R::ToolGone(Tool::Mcpmon)));
        check(Some((9, true)), None, Keep(K::PidInUse(9)));
        check(Some((9, false)), Some(7), Keep(K::ToolRuns(Tool::Mcpmon, 7)));
        check(None, Some(7), Keep(K::ToolRuns(Tool::Mcpmon, 7)));
    }

    #[test]
    fn unlabelled_containers_are_always_kept() {
        let everything =
            Case { lock_held: true, recorded: true, all_hosts: true, cleanup: true, ..Case::default() };
        assert_eq!(judge(&everything), Keep(K::NotLabelled));
        assert_eq!(judge(&Case::default()), Keep(K::NotLabelled));
    }
}
