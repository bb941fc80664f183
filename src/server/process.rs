//! A life in a process of this host: spawned in a group of its own, and reaped last of all, after its group was
//! verified empty.

use super::handle::Report;
use super::life::{self, Birth};
use super::link::Link;
use super::machine::Event;
use super::traces::Traces;
use super::vessel::{End, News, Stream, Vessel};
use crate::base::fault::Fault;
use crate::sys::spawn::{self, Child, Exit, Program};
use nix::poll::PollFd;
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// From the spawn to the reaping.
pub(super) fn run(birth: Birth, program: &Program) {
    let Birth { life, server, orders, keeper, .. } = birth;
    let (child, stdin) = match spawn::spawn(program) {
        Ok(born) => born,
        Err(fault) => return server.tell(Report::Event(Event::SpawnFailed(life, fault.kind), Some(fault))),
    };
    server.tell(Report::Spawned(life, Some(child.pid)));
    let traces = Traces::begin(&child, &stdin, &server.slug, &keeper, life);
    let link = Arc::new(Link::new(life, stdin, orders.wake().clone()));
    life::live(&server, &link, &orders, &mut Process(&child), &[]);
    traces.clear(server.name.as_str(), &child);
    server.tell(Report::Event(Event::Gone(life), None));
}

struct Process<'a>(&'a Child);

impl Vessel for Process<'_> {
    fn end_fd(&self) -> Option<PollFd<'_>> {
        Some(self.0.exit_poll())
    }

    /// It is a zombie then, and stays one until it is cleared up.
    fn ended(&mut self) -> Option<End> {
        self.0.exited().map(End::from)
    }

    fn outputs(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.0.stdout.as_fd()), Some(self.0.stderr.as_fd())]
    }

    fn split(&mut self, bytes: &[u8], each: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Fault> {
        each(Stream::Out, bytes);
        Ok(())
    }

    fn news(&mut self) -> Option<News> {
        None
    }

    fn examine(&mut self) -> bool {
        false
    }

    fn closing(&mut self) {}

    fn term(&mut self) {
        self.0.signal_group(Signal::SIGTERM);
    }

    fn kill(&mut self) {
        self.0.signal_group(Signal::SIGKILL);
    }
}

impl From<Exit> for End {
    fn from(exit: Exit) -> End {
        End { kind: exit.fault_kind(), how: exit.to_string(), hint: String::new() }
    }
}
