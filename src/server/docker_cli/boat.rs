//! A `docker run` of the user's own, as a life's body sees it: a process that carries the bytes, and a container
//! that is the server. Ending the process does not end the container, so every rung goes to the container first.

use super::finder::{Clue, Finder, read_id};
use super::{CliPlan, found};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::engine::by_cli::Reach;
use crate::engine::patience::Patience;
use crate::server::container::hand::{Done, Hand, Job};
use crate::server::container::health;
use crate::server::handle::{Report, Server};
use crate::server::machine::Event;
use crate::server::vessel::{End, News, Stream, Vessel};
use crate::sys::spawn::{Child, Exit};
use nix::poll::PollFd;
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What `docker run` says of itself, and not of the container.
const ENGINE_FAILED: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// A look for the image, at the end of a life that never was.
const IMAGE_PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Boat<'a> {
    pub plan: &'a CliPlan,
    pub server: &'a Server,
    pub life: Life,
    pub child: &'a Child,
    pub hand: Hand,
    pub finder: Option<Finder>,
    pub id: Option<String>,
    /// The supervisor knows that it exists.
    pub told: bool,
    pub kills: u32,
    pub news: Option<News>,
}

impl Boat<'_> {
    fn exists(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.server.tell(Report::Spawned(self.life, Some(self.child.pid)));
        }
    }

    fn found(&mut self, id: String) {
        self.finder = None;
        found(self.plan, self.server, self.life, &id);
        self.id = Some(id);
        self.exists();
    }

    fn hear_the_finder(&mut self) {
        match self.finder.as_ref().and_then(Finder::clue) {
            Some(Clue::Found(id)) => self.found(id),
            Some(Clue::Late) => {
                self.server.tell(Report::Event(Event::Pulling(self.life), None));
                let image = self.plan.image.as_deref().unwrap_or("its image");
                let text = format!("no container yet; pulling {image}, most likely");
                self.server.tell(Report::Progress(self.life, text));
            }
            None => (),
        }
    }

    fn hear_the_hand(&mut self) {
        match self.hand.take() {
            Some(Done::Examined(seen)) => {
                self.news = Some(health::news(&self.server.name, &self.plan.engine, seen))
            }
            Some(Done::NotOurs) => {
                log::error!("{}: its container does not carry our labels: not touched", self.server.name);
            }
            Some(Done::Failed(error)) => log::warn!("{}: {error}", self.server.name),
            // The process ends with its container.
            Some(Done::Over(_) | Done::Signalled) | None => (),
        }
    }

    fn end(&self, exit: Exit) -> End {
        let said = |kind, how: &str, hint: &str| End { kind, how: how.to_owned(), hint: hint.to_owned() };
        let oomed = self.id.as_deref().is_some_and(|id| (self.plan.oomed)(id));
        match exit {
            _ if oomed => said(
                FaultKind::OomKilled,
                "ran out of memory and was killed",
                "give its container more: --memory",
            ),
            Exit::Code(ENGINE_FAILED) if self.image_is_missing() => said(
                FaultKind::ImageNotFound,
                "exited with code 125: its image is not there, and could not be pulled",
                "correct the image's name, pull or build it, or log in to its registry",
            ),
            Exit::Code(ENGINE_FAILED) => said(
                FaultKind::EngineError,
                "exited with code 125: the engine did not run the container",
                "its last words say why",
            ),
            Exit::Code(NOT_EXECUTABLE) => said(
                FaultKind::NotExecutable,
                "exited with code 126: the container's command is not executable",
                "correct the command after the image",
            ),
            Exit::Code(NOT_FOUND) => said(
                FaultKind::NotFound,
                "exited with code 127: the container's command was not found in it",
                "correct the command after the image",
            ),
            Exit::Code(_) | Exit::Signal(_) => End::from(exit),
        }
    }

    /// Asked of the engine: what the command printed is for people.
    fn image_is_missing(&self) -> bool {
        match (&self.plan.reach, &self.plan.image) {
            (Reach::Api(engine), Some(image)) => {
                engine.image_exists(image, &Patience::of(IMAGE_PATIENCE)) == Ok(false)
            }
            (Reach::Api(_) | Reach::Cli(_), _) => false,
        }
    }
}

impl Vessel for Boat<'_> {
    fn end_fd(&self) -> Option<PollFd<'_>> {
        Some(self.child.exit_poll())
    }

    fn ended(&mut self) -> Option<End> {
        self.hear_the_finder();
        self.hear_the_hand();
        let exit = self.child.exited()?;
        // One that came and went between two looks.
        if self.id.is_none()
            && let Some(id) = read_id(&self.plan.cidfile)
        {
            self.found(id);
        }
        self.finder = None;
        self.exists();
        Some(self.end(exit))
    }

    fn outputs(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.child.stdout.as_fd()), Some(self.child.stderr.as_fd())]
    }

    fn split(&mut self, bytes: &[u8], each: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Fault> {
        each(Stream::Out, bytes);
        Ok(())
    }

    fn news(&mut self) -> Option<News> {
        self.news.take()
    }

    fn examine(&mut self) -> bool {
        let Some(id) = &self.id else { return false };
        self.hand.give(id, Job::Examine(self.plan.health_patience));
        true
    }

    /// A start that is given up has a process to end, if no container.
    fn closing(&mut self) {
        self.exists();
    }

    fn term(&mut self) {
        match &self.id {
            Some(id) => self.hand.give(id, Job::Term),
            // It still pulls, or creates; both end with it.
            None => self.child.signal_group(Signal::SIGTERM),
        }
    }

    fn kill(&mut self) {
        self.kills += 1;
        if let Some(id) = &self.id {
            self.hand.give(id, Job::Kill);
        }
        // It ends with its container; one that does not is not waited for.
        if self.id.is_none() || self.kills > 2 {
            self.child.signal_group(Signal::SIGKILL);
        }
    }
}
