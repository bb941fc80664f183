//! Carries out a birth: asks the engine what `birth` wants asked, and says what came of it. Every question has its
//! deadline, and ends at once when the supervisor gives an order: that is how a birth is given up.

use super::birth::{Answer, Ask, Birth, Failure, Holder, Next, Owed, Slot};
use super::{ContainerPlan, PullPolicy};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::{Life, ServerName};
use crate::base::limits::PULL_REPORT_EVERY;
use crate::base::text;
use crate::base::time::Time;
use crate::engine::attach::Attached;
use crate::engine::auth;
use crate::engine::by_cli::Reach;
use crate::engine::error::{EngineError, EngineErrorKind};
use crate::engine::patience::Patience;
use crate::engine::pull::Progress;
use crate::engine::spec::Spec;
use crate::engine::wait::Waiting;
use crate::reaper::removal::{self, Removed};
use crate::reaper::whose::Whose;
use crate::server::handle::{Report, Server};
use crate::server::machine::Event;
use crate::sys::clock;
use crate::sys::net::poll_until;
use crate::sys::wake::Wake;
use std::time::Duration;

/// A question that changes nothing. 10 s: an engine that is well answers in milliseconds.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// Create and start. 60 s: a slow disk under a big image; the connect deadline gives up sooner.
const MAKE_PATIENCE: Duration = Duration::from_secs(60);

/// A create that was given up is looked for so long, and so often; creates take 6 to 30 ms. What comes later is owed.
const LATE_CHILD: Duration = Duration::from_secs(1);
const LATE_CHILD_EVERY: Duration = Duration::from_millis(40);

/// Between two looks at a place that is not free yet.
pub(in crate::server) const PAUSE: Duration = Duration::from_millis(500);

/// What a birth has brought into the world.
pub(super) struct Newborn {
    pub id: String,
    pub attached: Attached,
    pub waiting: Waiting,
}

/// Why there is none, and what it may have left.
pub(super) struct StillBorn {
    pub fault: Fault,
    pub owed: Option<Owed>,
}

/// One birth under way.
pub(super) struct Making<'a> {
    pub plan: &'a ContainerPlan,
    pub server: &'a Server,
    pub life: Life,
    /// With labels; the name is the slot's.
    pub spec: Spec,
    /// Of this very life.
    pub whose: &'a Whose,
    /// Readable when somebody wants it given up.
    pub cancel: &'a Wake,
    /// What the name of a slot begins with.
    pub stem: String,
    attached: Option<Attached>,
    waiting: Option<Waiting>,
    /// The last thing that went wrong, in words.
    trouble: Option<Fault>,
}

impl<'a> Making<'a> {
    pub(super) fn new(
        plan: &'a ContainerPlan,
        server: &'a Server,
        life: Life,
        (spec, stem): (Spec, String),
        whose: &'a Whose,
        cancel: &'a Wake,
    ) -> Making<'a> {
        let nothing = (None, None, None);
        let (attached, waiting, trouble) = nothing;
        Making { plan, server, life, spec, whose, cancel, stem, attached, waiting, trouble }
    }

    pub(super) fn carry_out(mut self) -> Result<Newborn, StillBorn> {
        let pull = self.plan.pull;
        let (mut birth, mut ask) = Birth::begin(pull != PullPolicy::Never, pull == PullPolicy::Always);
        loop {
            let answer = self.answer(&ask);
            match birth.next(answer) {
                Next::Ask(next) => ask = next,
                Next::Born(id) => {
                    let attached = self.attached.take().expect("it is attached to before it is started");
                    let waiting = self.waiting.take().expect("it is watched before it is started");
                    return Ok(Newborn { id, attached, waiting });
                }
                Next::StillBorn(kind, owed) => return Err(StillBorn { fault: self.fault(kind), owed }),
            }
        }
    }

    fn within(&self, span: Duration) -> Patience<'a> {
        Patience::of(span).or_cancel(self.cancel)
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        let engine = &self.plan.engine;
        let asked = match ask {
            Ask::Predecessors => {
                let patience = self.within(LOOK_PATIENCE);
                let found = self.whose.any_life().find(&self.reach(), &patience);
                found.map(|found| Answer::Found(without(found, self.beside())))
            }
            Ask::Remove(id) => return self.remove(id, &self.whose.any_life(), Some(self.cancel)),
            Ask::Pause => return pause(self.cancel),
            Ask::Create(slot) => self.create(*slot),
            Ask::Holder(slot) => self.holder(*slot),
            Ask::Pull => return self.pull(),
            Ask::Record(id) => return self.record(id),
            Ask::Attach(id) => engine.attach(id, &self.within(LOOK_PATIENCE)).map(|attached| {
                self.attached = Some(attached);
                Answer::Done
            }),
            Ask::Watch(id) => engine.wait(id, "next-exit", &self.within(LOOK_PATIENCE)).map(|waiting| {
                self.waiting = Some(waiting);
                Answer::Done
            }),
            Ask::Start(id) => return self.start(id),
            Ask::Discard(id, _) => return self.discard(id.as_deref()),
        };
        asked.unwrap_or_else(|error| self.failed(&error))
    }

    fn create(&mut self, slot: Slot) -> Result<Answer, EngineError> {
        let name = self.name(slot);
        let (body, platform) = (self.spec.body(), self.spec.platform.as_deref());
        match self.plan.engine.create(Some(&name), &body, platform, &self.within(MAKE_PATIENCE)) {
            Ok(id) => Ok(Answer::Created(id)),
            Err(error) if error.kind == EngineErrorKind::Conflict => Ok(Answer::NameTaken),
            Err(error) if error.kind == EngineErrorKind::NoSuchImage => {
                self.trouble = Some(error.fault(self.plan.engine.endpoint()));
                Ok(Answer::NoSuchImage)
            }
            Err(error) => Err(error),
        }
    }

    fn holder(&self, slot: Slot) -> Result<Answer, EngineError> {
        let holder = match self.plan.engine.inspect(&self.name(slot), &self.within(LOOK_PATIENCE)) {
            // Of the life beside this one: not in the way, and not to be touched.
            Ok(seen) if self.beside().as_ref() == Some(&seen.id) => Holder::Stranger,
            Ok(seen) if self.whose.any_life().owns(&seen.labels) => Holder::Ours(seen.id),
            Ok(_) => Holder::Stranger,
            Err(error) if error.kind == EngineErrorKind::NoSuchContainer => Holder::Nobody,
            Err(error) => return Err(error),
        };
        Ok(Answer::Holder(holder))
    }

    /// Written down in our own state and with the guardian, so that it is found whatever dies.
    fn record(&mut self, id: &str) -> Answer {
        self.plan.upkeep.keeper.container(id, self.plan.grace);
        self.server.tell(Report::Contained(self.life, id.to_owned()));
        if let Err(fault) = self.plan.upkeep.created(self.plan.engine.endpoint(), id, &self.spec) {
            log::warn!("{}: its container is not written down: {fault}", self.server.name);
        }
        Answer::Done
    }

    /// An engine that could not execute the program tells so by the exit code of a container that never ran.
    fn start(&mut self, id: &str) -> Answer {
        let engine = &self.plan.engine;
        let Err(error) = engine.start(id, &self.within(MAKE_PATIENCE)) else { return Answer::Done };
        if error.is_away() || error.kind == EngineErrorKind::Cancelled {
            return self.failed(&error);
        }
        let code = engine.inspect(id, &Patience::of(LOOK_PATIENCE)).map_or(0, |seen| seen.exit_code);
        let (kind, hint) = match code {
            127 => {
                (FaultKind::NotFound, "is the program in the image? `image` of its `isolation` names another")
            }
            126 => (FaultKind::NotExecutable, "the image has it, but not as an executable file"),
            _ => (FaultKind::EngineError, "the engine could not start it"),
        };
        self.trouble = Some(Fault::new(kind, format!("start {}: {error}", self.server.name)).hint(hint));
        Answer::Failed(Failure { kind, in_doubt: false })
    }

    fn remove(&mut self, id: &str, whose: &Whose, cancel: Option<&Wake>) -> Answer {
        let rules = removal::Rules { once: true, ..self.plan.upkeep.rules };
        match removal::remove(&self.reach(), id, whose, rules, cancel) {
            (Removed::Gone | Removed::Unverified, _) => {
                self.plan.upkeep.gone(self.plan.engine.endpoint(), id);
                self.plan.upkeep.keeper.container_gone(id);
                Answer::Done
            }
            // Whoever it is, it is not in the way: its labels have changed since it was listed.
            (Removed::NotOurs, _) => Answer::Done,
            (Removed::Owed, Some(error)) => self.failed(&error),
            (Removed::Owed, None) => {
                Answer::Failed(Failure { kind: FaultKind::EngineError, in_doubt: false })
            }
        }
    }

    /// What this life made, and nothing else.
    fn discard(&mut self, id: Option<&str>) -> Answer {
        // Nobody reads from it any more, and an engine hangs in the removal of what it still sends to us.
        self.attached = None;
        if let Some(id) = id {
            return self.remove(id, self.whose, None);
        }
        self.discard_late()
    }

    /// What a create that we did not wait for has made after all: an engine goes on with it, and is done in a moment.
    /// It lists a container before it can be inspected, so gone is what is not listed any more.
    fn discard_late(&mut self) -> Answer {
        let latest = clock::now() + LATE_CHILD;
        let mut found = false;
        while let Ok(listed) = self.whose.find(&self.reach(), &Patience::of(LOOK_PATIENCE)) {
            match listed.first() {
                Some(id) => {
                    found = true;
                    self.remove(id, self.whose, None);
                }
                None if found => return Answer::Done,
                None => (),
            }
            if clock::now() >= latest {
                break;
            }
            // Not waited: looked a little too early, which the next look makes good.
            let _ = poll_until(&mut [], Some(clock::now() + LATE_CHILD_EVERY));
        }
        // Not there yet is not proof that it never will be, and an engine that does not answer says nothing.
        Answer::Failed(Failure { kind: FaultKind::EngineError, in_doubt: true })
    }

    /// During a switch: the container of the other life.
    fn beside(&self) -> Option<String> {
        self.server.container_beside(self.life)
    }

    fn reach(&self) -> Reach {
        Reach::Api(self.plan.engine.clone())
    }

    fn pull(&mut self) -> Answer {
        let (image, engine) = (&self.spec.image, &self.plan.engine);
        self.server.tell(Report::Event(Event::Pulling(self.life), None));
        log::info!("{}: pulling {image}", self.server.name);
        let login = auth::login_for(image, |name| std::env::var(name).ok());
        let pulled = self.plan.upkeep.pulls.enter(self.cancel).and_then(|_permit| {
            let mut pull = engine.pull(
                image,
                self.spec.platform.as_deref(),
                login.header.as_deref(),
                &self.within(LOOK_PATIENCE),
            )?;
            let mut told = clock::now();
            // The machine's deadline ends it, by an order.
            while let Some(progress) =
                pull.next(&Patience { deadline: Time::MAX, cancel: Some(self.cancel) })?
            {
                let now = clock::now();
                if now.since(told) >= PULL_REPORT_EVERY {
                    told = now;
                    self.server.tell(Report::Progress(self.life, said(image, &progress)));
                }
            }
            Ok(())
        });
        match pulled {
            Ok(()) => Answer::Done,
            Err(error) if error.kind == EngineErrorKind::Cancelled => Answer::Cancelled,
            Err(error) => {
                let fault = login.explain(error.fault(engine.endpoint()));
                let kind = fault.kind;
                self.trouble = Some(fault);
                let missing = kind == FaultKind::ImageNotFound;
                if missing { Answer::NoSuchImage } else { Answer::Failed(Failure { kind, in_doubt: false }) }
            }
        }
    }

    fn name(&self, slot: Slot) -> String {
        format!("{}-{}", self.stem, slot.letter())
    }

    fn failed(&mut self, error: &EngineError) -> Answer {
        if error.kind == EngineErrorKind::Cancelled {
            return Answer::Cancelled;
        }
        let fault = error.fault(self.plan.engine.endpoint());
        let failure = Failure { kind: fault.kind, in_doubt: is_in_doubt(error.kind) };
        self.trouble = Some(fault);
        Answer::Failed(failure)
    }

    fn fault(&mut self, kind: FaultKind) -> Fault {
        if let Some(fault) = self.trouble.take().filter(|fault| fault.kind == kind) {
            return fault;
        }
        let (name, stem) = (&self.server.name, &self.stem);
        if kind == FaultKind::Stopped {
            return Fault::new(kind, format!("the start of {name} was given up"));
        }
        if kind == FaultKind::NotOurs {
            let message =
                format!("the names {stem}-a and {stem}-b are taken by containers that are not ours");
            return Fault::new(kind, message).hint("rename or remove them");
        }
        if kind == FaultKind::EngineError {
            return still_there(name);
        }
        Fault::new(kind, format!("start {name}: {}", kind.name()))
    }
}

/// What is found in the place of a server, without the container of a life that is beside the one that asks.
pub(in crate::server) fn without(mut found: Vec<String>, beside: Option<String>) -> Vec<String> {
    found.retain(|id| beside.as_ref() != Some(id));
    found
}

/// What stands in the place of a server keeps the next container out of it.
pub(in crate::server) fn still_there(name: &ServerName) -> Fault {
    let message = format!("an earlier container of {name} is still there, so no other is started");
    Fault::new(FaultKind::EngineError, message).hint("docker ps -a --filter label=mcpvisor.managed=true")
}

/// Whether what was asked may have been done, or may still be.
fn is_in_doubt(kind: EngineErrorKind) -> bool {
    match kind {
        EngineErrorKind::Silent | EngineErrorKind::Cut | EngineErrorKind::Garbled => true,
        // A server that answers 5xx may have done half of it.
        EngineErrorKind::Failed(_) => true,
        EngineErrorKind::Absent
        | EngineErrorKind::Refused
        | EngineErrorKind::Denied
        | EngineErrorKind::NoSuchImage
        | EngineErrorKind::NoSuchContainer
        | EngineErrorKind::Conflict
        | EngineErrorKind::Refusal(_)
        | EngineErrorKind::Cancelled
        | EngineErrorKind::Host => false,
    }
}

pub(in crate::server) fn pause(cancel: &Wake) -> Answer {
    match poll_until(&mut [cancel.poll_fd()], Some(clock::now() + PAUSE)) {
        Ok(true) => Answer::Cancelled,
        Ok(false) | Err(_) => Answer::Done,
    }
}

/// `pulling redis:7: 3 of 5 layers, 12 of 40 MB`
fn said(image: &str, progress: &Progress) -> String {
    let Progress { layers_done, layers, bytes_done, bytes, text } = progress;
    let image = text::shorten(image, 60);
    match (*layers, *bytes) {
        (0, _) => format!("pulling {image}: {text}"),
        (_, 0) => format!("pulling {image}: {layers_done} of {layers} layers"),
        _ => format!(
            "pulling {image}: {layers_done} of {layers} layers, {} of {} MB",
            bytes_done / 1_000_000,
            bytes.div_ceil(1_000_000)
        ),
    }
}
