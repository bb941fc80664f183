//! A life in a `docker run` that the user wrote: their command, with our labels and a cidfile put in. The process is
//! ours to end like any other; the container is ours by its labels, and is removed like one that we made.

mod boat;
mod finder;

use super::container::birth::{Answer, Ask, Birth as Place, Failure, Next};
use super::container::hand::Hand;
use super::container::making::{PAUSE, pause, still_there, without};
use super::container::upkeep::Upkeep;
use super::container::{Oomed, whose};
use super::handle::{Report, Server};
use super::life::{self, Birth};
use super::link::Link;
use super::machine::Event;
use super::traces::Traces;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::engine::by_cli::Reach;
use crate::engine::endpoint::Endpoint;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::reaper::owed::by_life;
use crate::reaper::removal::{self, Removed, Rules};
use crate::reaper::whose::Whose;
use crate::sys::clock;
use crate::sys::net::poll_until;
use crate::sys::spawn::{self, Program};
use crate::sys::wake::Wake;
use boat::Boat;
use finder::{Finder, Search};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A question before the start.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// A command that was killed may have asked for a container a moment before: so long it is looked for, when its id
/// never came. What comes still later is owed.
const LATE_LOOKS: u32 = 4;

/// What it takes to run a `docker run` of the user's.
pub struct CliPlan {
    /// With our labels and our cidfile.
    pub program: Program,
    pub reach: Reach,
    /// For messages: where the API is not spoken, what the command would use.
    pub engine: Endpoint,
    /// How the engine is named in the state database and in `status`.
    pub engine_key: String,
    pub cidfile: PathBuf,
    /// Where the user wants the id, too.
    pub user_cidfile: Option<PathBuf>,
    pub cidfile_timeout: Duration,
    /// `--name`.
    pub name: Option<String>,
    pub image: Option<String>,
    pub upkeep: Upkeep,
    pub oomed: Arc<Oomed>,
    pub health_patience: Duration,
    /// How long the guardian gives it before it kills, if we die.
    pub grace: Duration,
}

/// From the look at what is in its place to the removal of its container.
pub(super) fn run(birth: Birth, plan: &CliPlan) {
    let Birth { life, server, orders, keeper, .. } = birth;
    let mark = keeper.mark(&server.slug, life);
    let whose = whose(&mark);
    // Docker refuses to start if it is there; most often it is not.
    let _ = fs::remove_file(&plan.cidfile);
    let born =
        free_place(plan, &server, (life, &whose), orders.wake()).and_then(|()| spawn::spawn(&plan.program));
    let (child, stdin) = match born {
        Ok(born) => born,
        Err(fault) => return server.tell(Report::Event(Event::SpawnFailed(life, fault.kind), Some(fault))),
    };
    let traces = Traces::begin(&child, &stdin, &server.slug, &keeper, life);
    let link = Arc::new(Link::new(life, stdin, orders.wake().clone()));
    let search = Search {
        cidfile: plan.cidfile.clone(),
        timeout: plan.cidfile_timeout,
        reach: plan.reach.clone(),
        whose: whose.clone(),
    };
    let finder = Finder::begin(search, orders.wake().clone());
    if let Err(error) = &finder {
        log::warn!(
            "{}: a thread for its cidfile: {error}; its container is found by its labels",
            server.name
        );
    }
    let mut boat = Boat {
        plan,
        server: &server,
        life,
        child: &child,
        hand: Hand::new(plan.reach.clone(), whose.clone(), orders.wake().clone()),
        finder: finder.ok(),
        id: None,
        told: false,
        kills: 0,
        news: None,
    };
    life::live(&server, &link, &orders, &mut boat, &[]);
    boat.hand.rest();
    let id = boat.id.take();
    drop(boat);
    traces.clear(server.name.as_str(), &child);
    remove(plan, &whose, id, &mark.session, life);
    // Already gone where it never came.
    let _ = fs::remove_file(&plan.cidfile);
    server.tell(Report::Event(Event::Gone(life), None));
}

/// The container of this life is known.
fn found(plan: &CliPlan, server: &Server, life: Life, id: &str) {
    plan.upkeep.keeper.container(id, plan.grace);
    server.tell(Report::Contained(life, id.to_owned()));
    if let Some(path) = &plan.user_cidfile
        && let Err(error) = fs::write(path, id)
    {
        log::warn!("{}: write its id to {}: {error}", server.name, path.display());
    }
}

/// Nothing of the same server may be there, and nothing of another's under the name that it wants.
fn free_place(
    plan: &CliPlan,
    server: &Server,
    (life, whose): (Life, &Whose),
    cancel: &Wake,
) -> Result<(), Fault> {
    let any_life = whose.any_life();
    let beside = server.container_beside(life);
    let patience = || Patience::of(LOOK_PATIENCE).or_cancel(cancel);
    let mut trouble = None;
    let (mut place, mut ask) = Place::begin(false, false);
    loop {
        let answer = match &ask {
            // It is free; the user's command creates.
            Ask::Create(_) => break,
            Ask::Predecessors => {
                let found = any_life.find(&plan.reach, &patience());
                found.map(|found| Answer::Found(without(found, beside.clone())))
            }
            Ask::Remove(id) => clear(plan, id, &any_life, cancel),
            Ask::Pause
            | Ask::Holder(_)
            | Ask::Pull
            | Ask::Record(_)
            | Ask::Attach(_)
            | Ask::Watch(_)
            | Ask::Start(_)
            | Ask::Discard(..) => Ok(pause(cancel)),
        };
        let answer = answer.unwrap_or_else(|error| failed(plan, &error, &mut trouble));
        match place.next(answer) {
            Next::Ask(next) => ask = next,
            Next::Born(_) => break,
            Next::StillBorn(kind, _) => return Err(refused(server, kind, trouble)),
        }
    }
    let Some(name) = &plan.name else { return Ok(()) };
    match plan.reach.inspect(name, &patience()) {
        Err(error) if error.kind == EngineErrorKind::NoSuchContainer => Ok(()),
        Err(error) => Err(error.fault(&plan.engine)),
        Ok(seen) if beside.as_ref() == Some(&seen.id) => {
            let message =
                format!("the life before has the name {name}, and two containers cannot have one name");
            Err(Fault::new(FaultKind::NotOurs, message)
                .hint("take --name out of `args`, or `overlap` out of the entry"))
        }
        Ok(_) => {
            let message = format!("the name {name} is taken by a container that is not this server's");
            Err(Fault::new(FaultKind::NotOurs, message).hint("remove it, or take --name out of `args`"))
        }
    }
}

fn clear(plan: &CliPlan, id: &str, whose: &Whose, cancel: &Wake) -> Result<Answer, EngineError> {
    let rules = Rules { once: true, ..plan.upkeep.rules };
    match removal::remove(&plan.reach, id, whose, rules, Some(cancel)) {
        (Removed::Owed, Some(error)) => Err(error),
        (Removed::Gone | Removed::Unverified | Removed::NotOurs | Removed::Owed, _) => Ok(Answer::Done),
    }
}

fn failed(plan: &CliPlan, error: &EngineError, trouble: &mut Option<Fault>) -> Answer {
    if error.kind == EngineErrorKind::Cancelled {
        return Answer::Cancelled;
    }
    let fault = error.fault(&plan.engine);
    let kind = fault.kind;
    *trouble = Some(fault);
    Answer::Failed(Failure { kind, in_doubt: true })
}

fn refused(server: &Server, kind: FaultKind, trouble: Option<Fault>) -> Fault {
    let name = &server.name;
    match trouble.filter(|fault| fault.kind == kind) {
        Some(fault) => fault,
        None if kind == FaultKind::Stopped => Fault::new(kind, format!("the start of {name} was given up")),
        None => still_there(name),
    }
}

/// Its container, verified gone; or written down as owed.
fn remove(plan: &CliPlan, whose: &Whose, id: Option<String>, session: &str, life: Life) {
    let Some(id) = id.map_or_else(|| late(plan, whose, session, life), Some) else { return };
    let (removed, trouble) = removal::remove(&plan.reach, &id, whose, plan.upkeep.rules, None);
    plan.upkeep.removed(&plan.engine_key, &id, whose, removed, trouble.as_ref());
    // What is still owed is still the guardian's to end, should we die.
    if removed != Removed::Owed {
        plan.upkeep.keeper.container_gone(&id);
    }
}

/// The id never came: is there one all the same?
fn late(plan: &CliPlan, whose: &Whose, session: &str, life: Life) -> Option<String> {
    let mut trouble = None;
    for _ in 0..LATE_LOOKS {
        match whose.find(&plan.reach, &Patience::of(LOOK_PATIENCE)) {
            Ok(mut found) if !found.is_empty() => return found.pop(),
            Ok(_) => trouble = None,
            Err(error) => trouble = Some(error),
        }
        // Not waited: looked a little too early, which the next look makes good.
        let _ = poll_until(&mut [], Some(clock::now() + PAUSE));
    }
    if let Some(error) = trouble {
        plan.upkeep.owe(&plan.engine_key, &by_life(session, life), whose, false, Some(&error));
    }
    None
}
