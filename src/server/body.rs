//! The part of a life that is the same wherever it lives: its thread carries bytes, obeys the supervisor, and sees
//! the end.
//!
//! It tries once and reports; whether and when to try again is the machine's to decide.

use super::conversation::Conversation;
use super::handle::{Report, Server};
use super::lines::{Lines, Oversized};
use super::link::Link;
use super::machine::Event;
use super::orders::{Order, Orders};
use super::vessel::{End, News, Stream, Vessel};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::base::limits::{LINE_BYTES_MAX, STDERR_LINE_BYTES_MAX, STDERR_LINES_MAX, STDERR_TAIL_LINES};
use crate::base::ring::Ring;
use crate::base::text;
use crate::base::time::Time;
use crate::diagnose::last_words::{self, Says};
use crate::sys::{clock, hold};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::array;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Read at once from a pipe; a pipe holds 64 KiB.
const READ_BYTES: usize = 64 << 10;

/// Reads after the exit, per pipe: whatever a dead writer left fits in one pipe; a grandchild that floods the same
/// pipe must not hold us.
const LAST_READS_MAX: usize = 16;

/// The life while what it lives in runs.
pub(super) struct Body<'a, V: Vessel> {
    server: &'a Arc<Server>,
    vessel: &'a mut V,
    life: Life,
    orders: Orders,
    link: Arc<Link>,
    conversation: Conversation,
    /// Which outputs are still open.
    open: [bool; 2],
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

impl<'a, V: Vessel> Body<'a, V> {
    pub(super) fn new(
        server: &'a Arc<Server>,
        vessel: &'a mut V,
        link: &Arc<Link>,
        orders: Orders,
    ) -> Body<'a, V> {
        let open = vessel.outputs().map(|output| output.is_some());
        Body {
            server,
            vessel,
            life: link.life,
            orders,
            conversation: Conversation::new(server.clone(), link.clone()),
            link: link.clone(),
            open,
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

    /// Returns when it has ended and the supervisor has said to clear up. `early` came before the first read.
    pub(super) fn live(mut self, early: &[u8]) {
        self.conversation.greet();
        if !early.is_empty() {
            self.take(0, early);
        }
        loop {
            let ready = self.wait();
            if ready.stdin {
                self.link.flush();
            }
            for output in 0..2 {
                if ready.outputs[output] && !self.read(output) {
                    self.open[output] = false;
                }
            }
            if ready.end || ready.wake {
                self.look_at_the_end();
                self.hear();
            }
            if ready.wake {
                if self.obey() {
                    return;
                }
                self.conversation.list_what_is_wanted();
            }
            self.look_for_closed_pipes();
            if !self.stopping {
                self.conversation.due();
            }
        }
    }

    fn look_at_the_end(&mut self) {
        if !self.exited
            && let Some(end) = self.vessel.ended()
        {
            self.ended(&end);
        }
    }

    /// What the vessel has found out.
    fn hear(&mut self) {
        match self.vessel.news() {
            Some(News::Useless(fault)) if self.may_be_useless() => {
                self.useless = true;
                self.conversation.fail(fault);
            }
            Some(News::Lost(fault)) if self.may_be_useless() => {
                self.useless = true;
                self.conversation.lost(fault);
            }
            Some(News::Paused) => self.server.tell(Report::Event(Event::Paused(self.life), None)),
            Some(News::Well) => {
                self.server.tell(Report::Event(Event::Unpaused(self.life), None));
                self.conversation.probe();
            }
            Some(News::Useless(_) | News::Lost(_)) | None => (),
        }
    }

    /// A server that has closed a pipe and is not about to exit is of no use any more.
    fn look_for_closed_pipes(&mut self) {
        if !self.may_be_useless() {
            return;
        }
        let (kind, pipe) = match (self.open[0], self.link.is_broken()) {
            (false, _) => (FaultKind::StdoutClosed, "stdout"),
            (true, true) => (FaultKind::Protocol, "stdin"),
            (true, false) => return,
        };
        let latest = clock::now() + self.vessel.exit_after_eof();
        let patience = *self.exit_patience.get_or_insert(latest);
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
        let end = self.vessel.end_fd().filter(|_| !self.exited).map(&mut add);
        let outputs = self.vessel.outputs();
        let outputs: [Option<usize>; 2] = array::from_fn(|output| {
            let fd = outputs[output].filter(|_| self.open[output])?;
            Some(add(PollFd::new(fd, PollFlags::POLLIN)))
        });
        let stdin = clogged.as_ref().map(|fd| add(PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        let exit = self.exit_patience.filter(|_| self.may_be_useless());
        let next = exit.into_iter().chain(self.conversation.deadline().filter(|_| !self.stopping)).min();
        let patience = next.map_or(PollTimeout::NONE, |at| hold::timeout(at.since(clock::now())));
        // EINTR or out of memory: nothing is ready, and the loop asks again.
        let _ = poll(&mut fds[..count], patience);
        let is_ready = |index: Option<usize>| {
            index.and_then(|index| fds[index].revents()).is_some_and(|events| !events.is_empty())
        };
        Ready {
            wake: is_ready(Some(0)),
            end: is_ready(end),
            outputs: outputs.map(is_ready),
            stdin: is_ready(stdin),
        }
    }

    /// One read; `false` at the end of the stream.
    fn read(&mut self, output: usize) -> bool {
        let Some(fd) = self.vessel.outputs()[output] else { return false };
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = read(fd, &mut buffer);
        if let Read::Some(count) = read {
            self.take(output, &buffer[..count]);
        }
        self.buffer = buffer;
        !matches!(read, Read::End)
    }

    /// Bytes of one output.
    fn take(&mut self, output: usize, bytes: &[u8]) {
        if !std::mem::replace(&mut self.signed, true) {
            self.server.tell(Report::Event(Event::FirstSign(self.life), None));
        }
        if output == 1 {
            return stderr(&mut self.stderr_lines, &mut self.last_words, self.server, bytes);
        }
        let oversized = self.lines.oversized;
        let (vessel, lines, conversation) = (&mut self.vessel, &mut self.lines, &mut self.conversation);
        let (stderr_lines, words, server) = (&mut self.stderr_lines, &mut self.last_words, self.server);
        let split = vessel.split(bytes, &mut |stream, bytes| match stream {
            Stream::Out => {
                conversation.heard();
                lines.feed(bytes, |line| conversation.line(line));
            }
            Stream::Err => stderr(stderr_lines, words, server, bytes),
        });
        if self.lines.oversized > oversized {
            let limit = LINE_BYTES_MAX >> 20;
            log::warn!(
                "{}: a line on its stdout is longer than {limit} MiB and was dropped",
                self.server.name
            );
        }
        if let Err(fault) = split {
            self.open[0] = false;
            if self.may_be_useless() {
                self.useless = true;
                self.conversation.fail(fault);
            }
        }
    }

    /// It is over: take what it said last, answer every caller, and report.
    fn ended(&mut self, end: &End) {
        self.exited = true;
        for output in [1, 0] {
            for _ in 0..LAST_READS_MAX {
                if !self.open[output] || !readable(self.vessel.outputs()[output]) || !self.read(output) {
                    break;
                }
            }
        }
        let unfinished = self.stderr_lines.rest();
        if !unfinished.is_empty() {
            let text = String::from_utf8_lossy(&unfinished);
            self.last_words.push(self.server.secrets().hide_cut(&text).into_owned());
        }
        let early = if self.stopping { None } else { self.conversation.ended() };
        let fault = early.unwrap_or_else(|| self.epitaph(end));
        self.server.close(self.life);
        self.link.life_over(&fault);
        self.link.close_stdin();
        self.server.tell(Report::Event(Event::Exited(self.life, fault.kind), Some(fault)));
    }

    fn epitaph(&self, end: &End) -> Fault {
        let name = &self.server.name;
        if self.stopping {
            return Fault::new(FaultKind::Stopped, format!("{name} was stopped"));
        }
        let (kind, hint) = match (self.said_at_its_start(end.kind), end.hint.as_str()) {
            (Some(Says::NoPackage), _) => {
                let hint = "correct its name or version in `args`; a private registry wants a login";
                (FaultKind::PackageNotFound, hint.to_owned())
            }
            (Some(Says::NoImage), _) => {
                let hint = "correct the image's name, pull or build it, or log in to its registry";
                (FaultKind::ImageNotFound, hint.to_owned())
            }
            (None, "") => (end.kind, format!("see: mcpvisor upstream logs {name}")),
            (None, hint) => (end.kind, hint.to_owned()),
        };
        Fault::new(kind, format!("{name} {}{}", end.how, self.tail())).hint(hint)
    }

    /// What a launcher that ended before its server began said of the reason.
    fn said_at_its_start(&self, kind: FaultKind) -> Option<Says> {
        if self.conversation.has_served() {
            return None;
        }
        let lines: Vec<&str> = self.last_words.iter().map(String::as_str).collect();
        let says = last_words::say(&lines)?;
        // A command that only prints such words has not failed for that.
        match says {
            Says::NoPackage => kind == FaultKind::Exited,
            Says::NoImage => kind == FaultKind::EngineError,
        }
        .then_some(says)
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
                // What can be asked from outside is asked first; its answer comes as news.
                Order::Probe if self.vessel.examine() => (),
                Order::Probe => self.conversation.probe(),
                Order::CloseInput => {
                    self.stop();
                    self.link.close_stdin();
                    self.vessel.closing();
                }
                Order::Term => {
                    self.stop();
                    self.vessel.term();
                }
                Order::Kill => {
                    self.stop();
                    self.vessel.kill();
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

/// What came on stderr goes to the server's log, and is kept for what is said of its end; its secrets do not.
fn stderr(lines: &mut Lines, words: &mut Ring<String>, server: &Server, bytes: &[u8]) {
    let secrets = server.secrets();
    lines.feed(bytes, |line| {
        let text = String::from_utf8_lossy(line);
        let cut = line.len() >= STDERR_LINE_BYTES_MAX;
        let text = if cut { secrets.hide_cut(&text) } else { secrets.hide(&text) };
        server.said(&text);
        words.push(text.into_owned());
    });
}

struct Ready {
    wake: bool,
    end: bool,
    outputs: [bool; 2],
    stdin: bool,
}

enum Read {
    Some(usize),
    Nothing,
    End,
}

fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    match nix::unistd::read(fd, buffer) {
        Ok(0) => Read::End,
        Ok(count) => Read::Some(count),
        Err(Errno::EAGAIN | Errno::EINTR) => Read::Nothing,
        // A pipe that fails to read has nothing more to say.
        Err(_) => Read::End,
    }
}

fn readable(fd: Option<BorrowedFd<'_>>) -> bool {
    let Some(fd) = fd else { return false };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    // An error of poll means that nothing can be read now.
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
}
