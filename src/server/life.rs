//! One life of a server: its thread spawns the process, carries bytes, obeys the supervisor, and reaps last of all.
//!
//! It tries once and reports; whether and when to try again is the machine's to decide. The thread ends when the
//! life is over: the group verified empty, the leader reaped, every caller answered.

use super::conversation::Conversation;
use super::handle::{Report, Server};
use super::launch::Launch;
use super::lines::{Lines, Oversized};
use super::link::Link;
use super::machine::Event;
use super::orders::{Order, Orders};
use super::remote;
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::base::limits::{LINE_BYTES_MAX, STDERR_LINE_BYTES_MAX, STDERR_LINES_MAX, STDERR_TAIL_LINES};
use crate::base::ring::Ring;
use crate::base::text;
use crate::base::time::Time;
use crate::reaper::clear::{self, LifeEnd};
use crate::reaper::keeper::Keeper;
use crate::reaper::ledger::Leader;
use crate::reaper::mark::Mark;
use crate::sys::spawn::{self, Child, Exit};
use crate::sys::{clock, hold, thread};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::array;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Read at once from a pipe; a pipe holds 64 KiB.
const READ_BYTES: usize = 64 << 10;

/// Reads after the exit, per pipe: whatever a dead writer left fits in one pipe; a grandchild that floods the same
/// pipe must not hold us.
const LAST_READS_MAX: usize = 16;

/// A server that ends closes its pipes a moment before its exit shows. One that stays longer has only closed them.
const EXIT_AFTER_EOF: Duration = Duration::from_millis(250);

/// What a life starts with.
pub struct Birth {
    pub life: Life,
    pub server: Arc<Server>,
    /// What it runs, or why that could not be worked out (a missing variable).
    pub launch: Result<Launch, Fault>,
    pub orders: Orders,
    pub keeper: Arc<Keeper>,
}

/// Starts the life's thread, which reports to the supervisor through the server's inbox.
pub fn begin(birth: Birth) -> io::Result<()> {
    let name = format!("life:{}", birth.server.slug);
    // Not joined: it ends with its process, and its last report is `Gone`. What can panic for a server's sake is caught
    // inside; where we end or reap processes, a panic means that we do not know what is left, and the guardian does.
    thread::spawn_vital(&name, move || run(birth)).map(|_| ())
}

fn run(birth: Birth) {
    let Birth { life, server, launch, orders, keeper } = birth;
    let program = match launch {
        Ok(Launch::Process(program)) => Ok(program),
        Ok(Launch::Remote(upstream)) => return remote::run(life, &server, upstream, &orders),
        Err(fault) => Err(fault),
    };
    let (child, stdin) = match program.and_then(|program| spawn::spawn(&program)) {
        Ok(born) => born,
        Err(fault) => return server.tell(Report::Event(Event::SpawnFailed(life, fault.kind), Some(fault))),
    };
    server.tell(Report::Spawned(life, child.pid));
    let traces = Traces::of(&child, &stdin, &server, keeper.mark(&server.slug, life));
    keeper.born(traces.leader());
    let link = Arc::new(Link::new(life, stdin, orders.wake().clone()));
    // A bug in what follows must end this life and nothing else, and must not leave its processes.
    let lived = catch_unwind(AssertUnwindSafe(|| Body::new(&server, &child, &link, orders.clone()).live()));
    if let Err(panic) = lived {
        let what = thread::panic_text(panic.as_ref());
        let fault =
            Fault::new(FaultKind::Internal, format!("the thread of this server's life panicked: {what}"));
        log::error!("{}: {fault}", server.name);
        link.life_over(&fault);
        server.close(life);
        server.tell(Report::Event(Event::Exited(life, fault.kind), Some(fault)));
    }
    clear(&server, &child, &traces);
    keeper.gone(child.pid, child.start);
    server.tell(Report::Event(Event::Gone(life), None));
}

/// By what the processes of this life are known when it is over.
struct Traces {
    pid: u32,
    start: u64,
    server: String,
    mark: Mark,
    /// Inodes of its pipes.
    pipes: Vec<u64>,
}

impl Traces {
    fn of(child: &Child, stdin: &OwnedFd, server: &Server, mark: Mark) -> Traces {
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).ok().map(|stat| stat.st_ino);
        let pipes = [stdin, &child.stdout, &child.stderr].into_iter().filter_map(inode).collect();
        Traces { pid: child.pid, start: child.start, server: server.slug.to_string(), mark, pipes }
    }

    fn leader(&self) -> Leader {
        let server = self.server.clone();
        Leader { pid: self.pid, start: self.start, pgid: self.pid, server, pipes: self.pipes.clone() }
    }
}

/// Ends whatever the life left, then reaps the leader.
fn clear(server: &Server, child: &Child, traces: &Traces) {
    let leader = (traces.pid, traces.start);
    let known = |pid| spawn::is_ours(pid);
    let end = LifeEnd { leader, mark: &traces.mark, pipes: &traces.pipes, known: &known };
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
            log::info!("{}: ended {} ({}), which it had left behind", server.name, process.comm, process.pid);
        }
    }
    for process in &cleared.left {
        log::error!("{}: {} ({}) could not be ended", server.name, process.comm, process.pid);
    }
    child.reap();
}

/// The life while its process runs.
struct Body<'a> {
    server: &'a Arc<Server>,
    child: &'a Child,
    life: Life,
    orders: Orders,
    link: Arc<Link>,
    conversation: Conversation,
    stdout: Option<&'a OwnedFd>,
    stderr: Option<&'a OwnedFd>,
    lines: Lines,
    stderr_lines: Lines,
    last_words: Ring<String>,
    signed: bool,
    stopping: bool,
    /// Since a pipe was seen closed: until when an exit may still explain it.
    exit_patience: Option<Time>,
    useless: bool,
    exited: bool,
    buffer: Vec<u8>,
}

impl<'a> Body<'a> {
    fn new(server: &'a Arc<Server>, child: &'a Child, link: &Arc<Link>, orders: Orders) -> Body<'a> {
        Body {
            server,
            child,
            life: link.life,
            orders,
            conversation: Conversation::new(server.clone(), link.clone()),
            link: link.clone(),
            stdout: Some(&child.stdout),
            stderr: Some(&child.stderr),
            lines: Lines::new(LINE_BYTES_MAX, Oversized::Drop),
            stderr_lines: Lines::new(STDERR_LINE_BYTES_MAX, Oversized::Cut),
            last_words: Ring::new(STDERR_LINES_MAX),
            signed: false,
            stopping: false,
            exit_patience: None,
            useless: false,
            exited: false,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Returns when the process has exited and the supervisor has said to clear up.
    fn live(mut self) {
        self.conversation.greet();
        loop {
            let ready = self.wait();
            if ready.stdin {
                self.link.flush();
            }
            if ready.stdout && !self.read_stdout() {
                self.stdout = None;
            }
            if ready.stderr && !self.read_stderr() {
                self.stderr = None;
            }
            if ready.exit && !self.exited {
                self.ended();
            }
            if ready.wake && self.obey() {
                return;
            }
            self.look_for_closed_pipes();
        }
    }

    /// A server that has closed a pipe and is not about to exit is of no use any more.
    fn look_for_closed_pipes(&mut self) {
        if !self.may_be_useless() {
            return;
        }
        let (kind, pipe) = match (self.stdout, self.link.is_broken()) {
            (None, _) => (FaultKind::StdoutClosed, "stdout"),
            (Some(_), true) => (FaultKind::Protocol, "stdin"),
            (Some(_), false) => return,
        };
        let patience = *self.exit_patience.get_or_insert_with(|| clock::now() + EXIT_AFTER_EOF);
        if clock::now() >= patience {
            self.useless = true;
            let message =
                format!("{} closed its {pipe} and went on running{}", self.server.name, self.tail());
            self.conversation.fail(Fault::new(kind, message));
        }
    }

    /// Neither over, nor told to end, nor known to be useless.
    fn may_be_useless(&self) -> bool {
        !(self.exited || self.stopping || self.useless)
    }

    fn wait(&self) -> Ready {
        let clogged = self.link.clogged();
        // On the stack: this runs once for every few lines that the server says.
        let mut fds: [PollFd<'_>; 5] = array::from_fn(|_| self.orders.wake().poll_fd());
        let mut count = 1;
        let mut add = |fd| {
            fds[count] = fd;
            count += 1;
            count - 1
        };
        let exit = (!self.exited).then(|| add(self.child.exit_poll()));
        let stdout = self.stdout.map(|fd| add(PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let stderr = self.stderr.map(|fd| add(PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let stdin = clogged.as_ref().map(|fd| add(PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        let patience = self
            .exit_patience
            .filter(|_| self.may_be_useless())
            .map_or(PollTimeout::NONE, |at| hold::timeout(at.since(clock::now())));
        // EINTR or out of memory: nothing is ready, and the loop asks again.
        let _ = poll(&mut fds[..count], patience);
        let is_ready = |index: Option<usize>| {
            index.and_then(|index| fds[index].revents()).is_some_and(|events| !events.is_empty())
        };
        Ready {
            wake: is_ready(Some(0)),
            exit: is_ready(exit),
            stdout: is_ready(stdout),
            stderr: is_ready(stderr),
            stdin: is_ready(stdin),
        }
    }

    /// One read; `false` at the end of the stream.
    fn read_stdout(&mut self) -> bool {
        let Some(fd) = self.stdout else { return false };
        let count = match read(fd, &mut self.buffer) {
            Read::Some(count) => count,
            Read::Nothing => return true,
            Read::End => return false,
        };
        self.first_sign();
        let oversized = self.lines.oversized;
        self.conversation.heard();
        let (lines, conversation) = (&mut self.lines, &mut self.conversation);
        lines.feed(&self.buffer[..count], |line| conversation.line(line));
        if self.lines.oversized > oversized {
            let limit = LINE_BYTES_MAX >> 20;
            log::warn!(
                "{}: a line on its stdout is longer than {limit} MiB and was dropped",
                self.server.name
            );
        }
        true
    }

    fn read_stderr(&mut self) -> bool {
        let Some(fd) = self.stderr else { return false };
        let count = match read(fd, &mut self.buffer) {
            Read::Some(count) => count,
            Read::Nothing => return true,
            Read::End => return false,
        };
        self.first_sign();
        let (server, words) = (self.server, &mut self.last_words);
        self.stderr_lines.feed(&self.buffer[..count], |line| {
            let line = String::from_utf8_lossy(line).into_owned();
            server.note(&format!("stderr: {line}"));
            words.push(line);
        });
        true
    }

    fn first_sign(&mut self) {
        if !std::mem::replace(&mut self.signed, true) {
            self.server.tell(Report::Event(Event::FirstSign(self.life), None));
        }
    }

    /// The process is a zombie: take what it said last, answer every caller, and report.
    fn ended(&mut self) {
        let Some(exit) = self.child.exited() else { return };
        self.exited = true;
        for _ in 0..LAST_READS_MAX {
            if !readable(self.stderr) || !self.read_stderr() {
                break;
            }
        }
        let unfinished = self.stderr_lines.rest();
        if !unfinished.is_empty() {
            self.last_words.push(String::from_utf8_lossy(&unfinished).into_owned());
        }
        for _ in 0..LAST_READS_MAX {
            if !readable(self.stdout) || !self.read_stdout() {
                break;
            }
        }
        let fault = self.epitaph(exit);
        self.server.close(self.life);
        self.link.life_over(&fault);
        self.link.close_stdin();
        self.server.tell(Report::Event(Event::Exited(self.life, fault.kind), Some(fault)));
    }

    fn epitaph(&self, exit: Exit) -> Fault {
        if self.stopping {
            return Fault::new(FaultKind::Stopped, format!("{} was stopped", self.server.name));
        }
        let message = format!("{} {exit}{}", self.server.name, self.tail());
        Fault::new(exit.fault_kind(), message)
            .hint(format!("see: mcpvisor upstream logs {}", self.server.name))
    }

    /// The last lines of stderr, for a message.
    fn tail(&self) -> String {
        let words: Vec<String> =
            self.last_words.last(STDERR_TAIL_LINES).map(|line| text::shorten(line, 300)).collect();
        if words.is_empty() { String::new() } else { format!("; stderr: {}", words.join(" | ")) }
    }

    /// Carries out what the supervisor wants; `true` when the life is to be cleared up.
    fn obey(&mut self) -> bool {
        let mut clear = false;
        for order in self.orders.take() {
            match order {
                Order::Probe => self.conversation.probe(),
                Order::CloseInput => {
                    self.stop();
                    self.link.close_stdin();
                }
                Order::Term => {
                    self.stop();
                    self.child.signal_group(Signal::SIGTERM);
                }
                Order::Kill => {
                    self.stop();
                    self.child.signal_group(Signal::SIGKILL);
                }
                Order::Clear => clear = true,
            }
        }
        clear
    }

    /// From here on its end is no fault of its own, and no new call goes to it.
    fn stop(&mut self) {
        self.stopping = true;
        self.server.close(self.life);
    }
}

struct Ready {
    wake: bool,
    exit: bool,
    stdout: bool,
    stderr: bool,
    stdin: bool,
}

enum Read {
    Some(usize),
    Nothing,
    End,
}

fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Read {
    match nix::unistd::read(fd, buffer) {
        Ok(0) => Read::End,
        Ok(count) => Read::Some(count),
        Err(Errno::EAGAIN | Errno::EINTR) => Read::Nothing,
        // A pipe that fails to read has nothing more to say.
        Err(_) => Read::End,
    }
}

fn readable(fd: Option<&OwnedFd>) -> bool {
    let Some(fd) = fd else { return false };
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    // An error of poll means that nothing can be read now.
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
}
