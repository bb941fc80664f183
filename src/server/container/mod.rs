//! A life in a container that we make: born through the Engine API, ended by its ladder, and removed last of all.
//!
//! `birth` decides how it comes to be (pure), `making` asks the engine; `afloat` is what the life's body sees of it
//! while it runs, `hand` asks the engine meanwhile. What follows from its end is the machine's to decide.

mod afloat;
pub mod birth;
pub(super) mod hand;
pub(super) mod health;
pub(super) mod making;
pub mod upkeep;

use super::handle::Report;
use super::life::{self, Birth};
use super::link::Link;
use super::machine::Event;
use crate::engine::api::Engine;
use crate::engine::attach::Demux;
use crate::engine::by_cli::Reach;
use crate::engine::patience::Patience;
use crate::engine::spec::Spec;
use crate::reaper::keeper::Keeper;
use crate::reaper::labels::Labels;
use crate::reaper::mark::Mark;
use crate::reaper::owed::by_life;
use crate::reaper::removal::{self, Removed, Rules};
use crate::reaper::whose::{SHARED, Whose};
use crate::sys::clock;
use afloat::Afloat;
pub use afloat::Oomed;
use hand::Hand;
use making::{Making, Newborn, StillBorn};
use std::sync::Arc;
use std::time::Duration;
use upkeep::Upkeep;

pub use crate::config::PullPolicy;

/// Digits of the instance in the name of a container.
const INSTANCE_CHARS: usize = 8;

/// What it takes to run a server in a container of ours.
pub struct ContainerPlan {
    pub engine: Engine,
    /// Without name, labels and init.
    pub spec: Spec,
    pub pull: PullPolicy,
    pub upkeep: Upkeep,
    pub oomed: Arc<Oomed>,
    pub health_patience: Duration,
    /// How long the guardian gives it before it kills, if we die.
    pub grace: Duration,
}

/// From the first question to the engine to the last look that nothing is left.
pub(super) fn run(birth: Birth, plan: &ContainerPlan) {
    let Birth { life, server, orders, keeper, .. } = birth;
    let mark = keeper.mark(&server.slug, life);
    let whose = whose(&mark);
    let made = christened(plan, &mark, &keeper);
    let making = Making::new(plan, &server, life, made, &whose, orders.wake());
    let Newborn { id, attached, waiting } = match making.carry_out() {
        Ok(newborn) => newborn,
        Err(StillBorn { fault, owed }) => {
            if let Some(owed) = owed {
                let id = owed.id.unwrap_or_else(|| by_life(&mark.session, life));
                plan.upkeep.owe(&plan.engine.endpoint().to_string(), &id, &whose, false, None);
            }
            return server.tell(Report::Event(Event::SpawnFailed(life, fault.kind), Some(fault)));
        }
    };
    let engine = plan.engine.endpoint().clone();
    server.tell(Report::Spawned(life, None));
    let reach = Reach::Api(plan.engine.clone());
    let stdin = attached.socket.try_clone();
    let mut afloat = Afloat {
        name: server.name.clone(),
        engine: engine.clone(),
        id: id.clone(),
        socket: attached.socket,
        demux: Demux::new(),
        waiting: Some(waiting),
        hand: Hand::new(reach.clone(), whose.clone(), orders.wake().clone()),
        oomed: plan.oomed.clone(),
        health_patience: plan.health_patience,
        kill_patience: plan.upkeep.rules.try_max,
        killed: None,
        broken: false,
        out_of_reach: false,
        over: None,
        news: None,
    };
    match stdin {
        Ok(stdin) => {
            let link = Arc::new(Link::new(life, stdin, orders.wake().clone()));
            life::live(&server, &link, &orders, &mut afloat, &attached.early);
        }
        // No descriptor for a second handle: it cannot be served, so it is ended at once.
        Err(error) => life::unfit(&server, life, &error, &orders),
    }
    // A stream that nobody reads would make the engine hang in what follows.
    afloat.hand.rest();
    // An engine that is away is not asked again and again: the removal is owed, and this life over.
    let rules = Rules { once: afloat.out_of_reach, ..plan.upkeep.rules };
    drop(afloat);
    let (removed, trouble) = removal::remove(&reach, &id, &whose, rules, None);
    plan.upkeep.removed(&engine.to_string(), &id, &whose, removed, trouble.as_ref());
    // What is still owed is still the guardian's to end, should we die.
    if removed != Removed::Owed {
        keeper.container_gone(&id);
    }
    server.tell(Report::Event(Event::Gone(life), None));
}

/// Of this very life.
pub(super) fn whose(mark: &Mark) -> Whose {
    Whose {
        instance: mark.instance.clone(),
        server: mark.server.clone(),
        variant: SHARED.to_owned(),
        life: Some((mark.session.clone(), mark.life)),
    }
}

/// The spec with its labels, and what its name begins with.
fn christened(plan: &ContainerPlan, mark: &Mark, keeper: &Keeper) -> (Spec, String) {
    let mut spec = plan.spec.clone();
    let labels = Labels::of(mark, SHARED, &spec.fingerprint(), clock::wall());
    spec.labels.extend(labels.pairs());
    // A host without an init binary for its engine refuses a container that asks for one.
    spec.init = has_init(&plan.engine);
    let instance = keeper.marker().instance.get(..INSTANCE_CHARS).unwrap_or_default();
    (spec, format!("mcpvisor-{instance}-{}", mark.server))
}

/// Asked at every launch: it costs a millisecond, and an engine may be upgraded in between.
fn has_init(engine: &Engine) -> bool {
    let patience = Patience::of(Duration::from_secs(3));
    // An engine that does not answer does not create either; the birth says so.
    engine.info(&patience).is_ok_and(|info| info.init_binary.is_some())
}
