//! A life in a process of this host: spawned in a group of its own, and reaped last of all, after its group was
//! verified empty.

use super::handle::{Report, Server};
use super::life::{self, Birth};
use super::link::Link;
use super::machine::Event;
use super::vessel::{End, News, Stream, Vessel};
use crate::base::fault::Fault;
use crate::base::id::Life;
use crate::reaper::clear::{self, LifeEnd};
use crate::reaper::keeper::Keeper;
use crate::reaper::ledger::Leader;
use crate::reaper::mark::Mark;
use crate::sys::spawn::{self, Child, Exit, Program};
use nix::poll::PollFd;
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// From the spawn to the reaping.
pub(super) fn run(birth: Birth, program: &Program) {
    let Birth { life, server, orders, keeper, .. } = birth;
    let (child, stdin) = match spawn::spawn(program) {
        Ok(born) => born,
        Err(fault) => return server.tell(Report::Event(Event::SpawnFailed(life, fault.kind), Some(fault))),
    };
    server.tell(Report::Spawned(life, Some(child.pid)));
    let traces = Traces::begin(&child, &stdin, &server, &keeper, life);
    let link = Arc::new(Link::new(life, stdin, orders.wake().clone()));
    life::live(&server, &link, &orders, &mut Process(&child), &[]);
    traces.clear(&server, &child);
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

/// By what the processes of this life are known when it is over.
pub(super) struct Traces<'a> {
    keeper: &'a Keeper,
    pid: u32,
    start: u64,
    mark: Mark,
    /// Inodes of its pipes.
    pipes: Vec<u64>,
}

impl<'a> Traces<'a> {
    /// Written down, so that they are found whatever dies.
    pub(super) fn begin(
        child: &Child,
        stdin: &OwnedFd,
        server: &Server,
        keeper: &'a Keeper,
        life: Life,
    ) -> Traces<'a> {
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).ok().map(|stat| stat.st_ino);
        let pipes: Vec<u64> = [stdin, &child.stdout, &child.stderr].into_iter().filter_map(inode).collect();
        let (pid, start, server) = (child.pid, child.start, &server.slug);
        keeper.born(Leader { pid, start, pgid: pid, server: server.to_string(), pipes: pipes.clone() });
        Traces { keeper, pid, start, mark: keeper.mark(server, life), pipes }
    }

    /// Ends whatever the life left, then reaps the leader.
    pub(super) fn clear(&self, server: &Server, child: &Child) {
        let known = |pid| spawn::is_ours(pid);
        let leader = (self.pid, self.start);
        let end = LifeEnd { leader, mark: &self.mark, pipes: &self.pipes, known: &known };
        // A life whose end cannot be seen is not over. Each round takes its time, so this loop does not spin.
        let cleared = loop {
            let cleared = clear::clear_life(&end);
            if !cleared.blind {
                break cleared;
            }
            log::error!("{}: cannot see what it left: out of files or memory; looking again", server.name);
        };
        for process in &cleared.ended {
            if process.pid != child.pid {
                log::info!(
                    "{}: ended {} ({}), which it had left behind",
                    server.name,
                    process.comm,
                    process.pid
                );
            }
        }
        for process in &cleared.left {
            log::error!("{}: {} ({}) could not be ended", server.name, process.comm, process.pid);
        }
        child.reap();
        self.keeper.gone(self.pid, self.start);
    }
}
