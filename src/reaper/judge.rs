//! May this process be ended? Pure: facts in, verdict out.
//!
//! What cannot be proven to be ours and its owner dead is kept. Nothing here looks at a name, a program or a pattern.

use super::mark::Fate;
use serde::Serialize;
use std::fmt;

/// Never ended, whatever else is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shield {
    Init,
    Ourselves,
    /// A parent of ours: the guardian, the shell that runs `cleanup`.
    Ancestor,
}

/// What ties a process to us beside what its own mark says; strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// In our ledger, by pid, start time, boot and PID namespace.
    Recorded,
    /// In a cgroup that an earlier run of ours made.
    Boxed,
    /// An orphan that holds a pipe which our ledger says belongs to one of our servers.
    HoldsPipe,
    /// Its parent (or the parent's parent …) is to be ended.
    ChildOf(u32),
}

/// What the mark of a process claims, and what we know of who it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// It names our instance.
    pub our_instance: bool,
    /// It names the run that is us, now.
    pub our_session: bool,
    /// Pid and fate of the daemon that it names; `None` if it names none that can be read.
    pub owner: Option<(u32, Fate)>,
}

/// All that the judge is told of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub shield: Option<Shield>,
    pub tie: Option<Tie>,
    pub claim: Option<Claim>,
    /// We hold the lock of our instance, so no other run of it lives.
    pub lock_held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "because", rename_all = "snake_case")]
pub enum Verdict {
    End(EndBecause),
    Keep(KeepBecause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndBecause {
    OwnerGone(u32),
    EarlierRun,
    Recorded,
    InOurCgroup,
    HoldsOurPipe,
    ChildOf(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepBecause {
    Init,
    Ourselves,
    Ancestor,
    CurrentRun,
    OwnerAlive(u32),
    MarkFromAnotherBoot,
    OwnerOutOfSight,
    OwnerUnknown,
    NotMarked,
}

pub fn judge(case: &Case) -> Verdict {
    use Verdict::{End, Keep};
    if let Some(shield) = case.shield {
        return Keep(match shield {
            Shield::Init => KeepBecause::Init,
            Shield::Ourselves => KeepBecause::Ourselves,
            Shield::Ancestor => KeepBecause::Ancestor,
        });
    }
    // Alive outweighs every tie: a second mcpvisor below a server of ours is ended first, and its servers, whose
    // owner is then dead, in the next pass.
    match case.claim {
        Some(claim) if claim.our_session => return Keep(KeepBecause::CurrentRun),
        Some(Claim { owner: Some((pid, Fate::Alive)), .. }) => return Keep(KeepBecause::OwnerAlive(pid)),
        Some(_) | None => (),
    }
    match (case.tie, case.claim) {
        (Some(tie), _) => End(match tie {
            Tie::Recorded => EndBecause::Recorded,
            Tie::Boxed => EndBecause::InOurCgroup,
            Tie::HoldsPipe => EndBecause::HoldsOurPipe,
            Tie::ChildOf(pid) => EndBecause::ChildOf(pid),
        }),
        (None, Some(claim)) => judge_claim(claim, case.lock_held),
        (None, None) => Keep(KeepBecause::NotMarked),
    }
}

/// A mark alone, of an owner that is not known to live.
fn judge_claim(claim: Claim, lock_held: bool) -> Verdict {
    let earlier_run = claim.our_instance && lock_held;
    match claim.owner {
        Some((pid, Fate::Alive)) => Verdict::Keep(KeepBecause::OwnerAlive(pid)),
        Some((pid, Fate::Dead)) => Verdict::End(EndBecause::OwnerGone(pid)),
        // No process of this boot was started by a daemon of another: somebody copied an environment.
        Some((_, Fate::OtherBoot)) => Verdict::Keep(KeepBecause::MarkFromAnotherBoot),
        Some((_, Fate::OutOfSight)) | None if earlier_run => Verdict::End(EndBecause::EarlierRun),
        Some((_, Fate::OutOfSight)) => Verdict::Keep(KeepBecause::OwnerOutOfSight),
        None => Verdict::Keep(KeepBecause::OwnerUnknown),
    }
}

impl Verdict {
    pub fn ends(self) -> bool {
        matches!(self, Verdict::End(_))
    }
}

impl fmt::Display for EndBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndBecause::OwnerGone(pid) => write!(f, "its mcpvisor (pid {pid}) is gone"),
            EndBecause::EarlierRun => f.write_str("an earlier run of this instance started it"),
            EndBecause::Recorded => f.write_str("an earlier run recorded it as its server"),
            EndBecause::InOurCgroup => f.write_str("it is in the cgroup of an earlier run"),
            EndBecause::HoldsOurPipe => f.write_str("it holds a pipe of an earlier run's server"),
            EndBecause::ChildOf(pid) => write!(f, "it descends from {pid}, which is ended"),
        }
    }
}

impl fmt::Display for KeepBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepBecause::Init => f.write_str("it is init"),
            KeepBecause::Ourselves => f.write_str("it is this very process"),
            KeepBecause::Ancestor => f.write_str("this command descends from it"),
            KeepBecause::CurrentRun => f.write_str("this run started it"),
            KeepBecause::OwnerAlive(pid) => write!(f, "its mcpvisor (pid {pid}) runs"),
            KeepBecause::MarkFromAnotherBoot => f.write_str("its mark was copied from another boot"),
            KeepBecause::OwnerOutOfSight => {
                f.write_str("its mcpvisor is in another PID namespace: not proven dead")
            }
            KeepBecause::OwnerUnknown => f.write_str("its mark names no mcpvisor: not proven dead"),
            KeepBecause::NotMarked => f.write_str("nothing says that it is ours"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::End(because) => because.fmt(f),
            Verdict::Keep(because) => because.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndBecause as E;
    use KeepBecause as K;
    use Verdict::{End, Keep};

    const OURS: Claim = Claim { our_instance: true, our_session: false, owner: None };
    const OTHERS: Claim = Claim { our_instance: false, ..OURS };
    const NOBODY: Case = Case { shield: None, tie: None, claim: None, lock_held: true };

    fn owned(claim: Claim, fate: Fate) -> Claim {
        Claim { owner: Some((9, fate)), ..claim }
    }

    #[test]
    fn marks_alone() {
        #[track_caller]
        fn check(claim: Claim, with_lock: Verdict, without: Verdict) {
            let case = Case { claim: Some(claim), ..NOBODY };
            assert_eq!(judge(&case), with_lock);
            assert_eq!(judge(&Case { lock_held: false, ..case }), without);
        }
        check(owned(OURS, Fate::Dead), End(E::OwnerGone(9)), End(E::OwnerGone(9)));
        check(owned(OURS, Fate::Alive), Keep(K::OwnerAlive(9)), Keep(K::OwnerAlive(9)));
        check(owned(OURS, Fate::OutOfSight), End(E::EarlierRun), Keep(K::OwnerOutOfSight));
        check(owned(OURS, Fate::OtherBoot), Keep(K::MarkFromAnotherBoot), Keep(K::MarkFromAnotherBoot));
        check(OURS, End(E::EarlierRun), Keep(K::OwnerUnknown));
        check(owned(OTHERS, Fate::Dead), End(E::OwnerGone(9)), End(E::OwnerGone(9)));
        check(owned(OTHERS, Fate::Alive), Keep(K::OwnerAlive(9)), Keep(K::OwnerAlive(9)));
        check(owned(OTHERS, Fate::OutOfSight), Keep(K::OwnerOutOfSight), Keep(K::OwnerOutOfSight));
        check(owned(OTHERS, Fate::OtherBoot), Keep(K::MarkFromAnotherBoot), Keep(K::MarkFromAnotherBoot));
        check(OTHERS, Keep(K::OwnerUnknown), Keep(K::OwnerUnknown));
        let current = Claim { our_session: true, ..owned(OURS, Fate::Dead) };
        check(current, Keep(K::CurrentRun), Keep(K::CurrentRun));
    }

    #[test]
    fn ties() {
        #[track_caller]
        fn check(tie: Tie, claim: Option<Claim>, verdict: Verdict) {
            assert_eq!(judge(&Case { tie: Some(tie), claim, ..NOBODY }), verdict);
        }
        check(Tie::Recorded, None, End(E::Recorded));
        check(Tie::Boxed, None, End(E::InOurCgroup));
        check(Tie::HoldsPipe, None, End(E::HoldsOurPipe));
        check(Tie::ChildOf(7), None, End(E::ChildOf(7)));
        check(Tie::ChildOf(7), Some(OTHERS), End(E::ChildOf(7)));
        check(Tie::Boxed, Some(owned(OTHERS, Fate::Alive)), Keep(K::OwnerAlive(9)));
        check(Tie::ChildOf(7), Some(Claim { our_session: true, ..OURS }), Keep(K::CurrentRun));
    }

    #[test]
    fn shields_outweigh_everything() {
        let condemned = Case { tie: Some(Tie::Recorded), claim: Some(owned(OURS, Fate::Dead)), ..NOBODY };
        let shields =
            [(Shield::Init, K::Init), (Shield::Ourselves, K::Ourselves), (Shield::Ancestor, K::Ancestor)];
        for (shield, because) in shields {
            assert_eq!(judge(&Case { shield: Some(shield), ..condemned }), Keep(because));
        }
        assert_eq!(judge(&NOBODY), Keep(K::NotMarked));
    }
}
