//! What waits to be sent to one remote server, and what is under way: pure, no thread, socket or lock.
//!
//! Until the server is greeted, one line at a time: who posts in parallel cannot keep an order. After that calls go in
//! parallel, and what must never wait for a call (pings, notifications, answers to the server) has room of its own.
//! A job that is over for us (answered, cancelled) may still hold its connection; it is cut when a call needs the room.

use super::job::{Job, Kind, Mirrors, Room};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{CALLS_MAX, OUTBOX_BYTES_MAX, REMOTE_SESSION_MIN};
use crate::base::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of one attempt to send a job.
pub type RunId = u64;

/// `C` cuts the connection of a run.
#[derive(Debug)]
pub struct Queue<C> {
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
    running: BTreeMap<RunId, Run<C>>,
    newest: RunId,
    /// Sent and taken by the server, which answers on its own stream.
    accepted: BTreeMap<CallId, Job>,
    open: bool,
    /// Nothing is sent before the server has said where to.
    held: bool,
    generation: u32,
    renewed: Option<Time>,
}

#[derive(Debug)]
struct Run<C> {
    job: Job,
    /// The body of the request began to be sent.
    sent: Arc<AtomicBool>,
    /// Nobody waits for what comes of it.
    over: bool,
    /// Its connection may stay open for long all the same: nobody knows when the server ends its answer.
    lingers: bool,
    /// Somebody was told how to cut it.
    is_cut: bool,
    cut: C,
}

impl<C: Clone> Run<C> {
    fn cut(&mut self) -> C {
        self.is_cut = true;
        self.cut.clone()
    }
}

/// What a worker is to do.
#[derive(Debug)]
pub struct Task {
    pub run: RunId,
    pub job: Job,
    pub generation: u32,
    /// To be set when the first byte of the body is asked for.
    pub sent: Arc<AtomicBool>,
}

/// What becomes of a lost session.
#[derive(Debug)]
pub enum Renewal {
    /// A new one is to be made. These calls were sent on the old one and cannot be sent again.
    Begin(Vec<CallId>),
    /// Somebody has seen it before.
    UnderWay,
    /// A session has just been lost.
    TooSoon,
}

impl<C: Clone> Queue<C> {
    pub fn new(held: bool) -> Queue<C> {
        Queue {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: BTreeMap::new(),
            newest: 0,
            accepted: BTreeMap::new(),
            open: false,
            held,
            generation: 0,
            renewed: None,
        }
    }

    pub fn push(&mut self, job: Job) -> Result<(), Fault> {
        let bytes = self.waiting_bytes + job.line.len();
        if self.waiting.len() >= 2 * CALLS_MAX
            || (bytes > OUTBOX_BYTES_MAX && self.waiting_bytes > 0)
            || (job.line.is_too_much() && !self.is_empty())
        {
            let waiting = self.waiting.len();
            let message = format!("the server does not keep up: {waiting} messages wait to be sent already");
            return Err(
                Fault::new(FaultKind::Busy, message).hint("it is overloaded or stuck; try again later")
            );
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(job);
        Ok(())
    }

    /// Whether nothing of it is held in memory.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.accepted.is_empty()
    }

    /// The server refuses the head of this job with `error`, and so has not done it: it waits for [`Queue::release`].
    /// `false`: nobody waits for it.
    pub fn park(&mut self, run: RunId, error: &str) -> bool {
        let Some(run) = self.running.remove(&run).filter(|run| !run.over) else { return false };
        self.waiting_bytes += run.job.line.len();
        self.waiting.push_front(Job { refused: Some(error.into()), ..run.job });
        true
    }

    /// What heads repeat is known: what was refused goes again, once, if its head is another one with that. The rest,
    /// with what it was refused by.
    pub fn release(&mut self, mirrors: &Mirrors) -> Vec<(CallId, Arc<str>)> {
        let mut refused = Vec::new();
        for job in std::mem::take(&mut self.waiting) {
            let (Some(error), Some(id)) = (job.refused.clone(), job.id()) else {
                self.waiting.push_back(job);
                continue;
            };
            let head = job.head_with(mirrors);
            if *head == *job.head {
                self.waiting_bytes -= job.line.len();
                refused.push((id, error));
            } else {
                self.waiting.push_back(Job { head: head.into(), again: true, refused: None, ..job });
            }
        }
        refused
    }

    /// To be sent once more, before all others. Bounded by what was under way.
    pub fn push_again(&mut self, job: Job) {
        self.waiting_bytes += job.line.len();
        self.waiting.push_front(Job { again: true, ..job });
    }

    /// The next job that may be sent now; `cut` is how to end it.
    pub fn take(&mut self, cut: impl FnOnce() -> C) -> Option<Task> {
        let index = self.next()?;
        let job = self.waiting.remove(index).expect("the index was just found");
        self.waiting_bytes -= job.line.len();
        self.newest += 1;
        let (run, sent) = (self.newest, Arc::new(AtomicBool::new(false)));
        let (over, cut) = (job.orphan, cut());
        let begun = Run { job: job.clone(), sent: sent.clone(), over, lingers: over, is_cut: false, cut };
        self.running.insert(run, begun);
        Some(Task { run, job, generation: self.generation, sent })
    }

    /// Whether something could be sent now.
    pub fn is_ready(&self) -> bool {
        self.next().is_some()
    }

    fn next(&self) -> Option<usize> {
        if self.held {
            return None;
        }
        if !self.open {
            let under_way = self.running.values().any(|run| run.job.is_handshake() && !run.over);
            return self.waiting.iter().position(Job::is_handshake).filter(|_| !under_way);
        }
        Room::ALL.into_iter().find_map(|room| {
            let taken = self.running.values().filter(|run| run.job.room() == room).count();
            let goes = |job: &Job| job.room() == room && job.refused.is_none();
            (taken < room.size()).then(|| self.waiting.iter().position(goes)).flatten()
        })
    }

    /// The run is done; whether somebody may be cutting its connection.
    pub fn finish(&mut self, run: RunId) -> bool {
        self.running.remove(&run).is_none_or(|run| run.is_cut)
    }

    /// The answer of this run has come, and its connection stays open.
    pub fn lingers(&mut self, run: RunId) {
        if let Some(run) = self.running.get_mut(&run) {
            run.lingers = true;
        }
    }

    /// The server has taken the job and answers elsewhere.
    pub fn accepted(&mut self, run: RunId) {
        if let Some(run) = self.running.get(&run).filter(|run| !run.over)
            && let Some(id) = run.job.id()
        {
            self.accepted.insert(id, run.job.clone());
        }
    }

    pub fn is_over(&self, run: RunId) -> bool {
        self.running.get(&run).is_none_or(|run| run.over)
    }

    /// `id` was answered: what is under way for it is about to end.
    pub fn answered(&mut self, id: CallId) {
        self.end(id, false);
    }

    /// Nobody waits for `id` any more.
    pub fn over(&mut self, id: CallId) {
        self.end(id, true);
    }

    fn end(&mut self, id: CallId, lingers: bool) {
        if let Some(job) = self.waiting.iter_mut().find(|job| job.id() == Some(id)) {
            job.orphan = true;
        }
        self.accepted.remove(&id);
        if let Some(run) = self.running.values_mut().find(|run| run.job.id() == Some(id)) {
            run.over = true;
            run.lingers |= lingers;
        }
    }

    /// `id` is not to be done any more. Whether the server may know of it, and how to cut its connection.
    pub fn cancel(&mut self, id: CallId) -> (bool, Option<C>) {
        if let Some(index) = self.waiting.iter().position(|job| job.id() == Some(id)) {
            let job = self.waiting.remove(index).expect("the index was just found");
            self.waiting_bytes -= job.line.len();
            return (job.again, None);
        }
        self.over(id);
        let run = self.running.values_mut().find(|run| run.job.id() == Some(id));
        (true, run.map(Run::cut))
    }

    /// If calls wait for room: how to cut the oldest one that nobody waits for and that does not end by itself.
    pub fn crowded(&mut self) -> Option<C> {
        let is_call = |job: &Job| job.room() == Room::Call;
        let waits = self.open
            && !self.is_ready()
            && self.waiting.iter().any(|job| is_call(job) && job.refused.is_none());
        let idle = |run: &&mut Run<C>| run.over && run.lingers && is_call(&run.job);
        waits.then(|| self.running.values_mut().find(idle)).flatten().map(Run::cut)
    }

    /// Whether the server may have begun to do what this call asks, and doing it again would not be the same.
    pub fn is_in_doubt(&self, id: CallId) -> bool {
        let running = self.running.values().find(|run| run.job.id() == Some(id));
        let sent = running.filter(|run| run.sent.load(Ordering::Acquire)).map(|run| &run.job);
        sent.or_else(|| self.accepted.get(&id)).is_some_and(|job| !job.is_safe())
    }

    /// The server is greeted: everything may go.
    pub fn open(&mut self) {
        self.open = true;
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the address for lines is still to come.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Grows with every session.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The session that `generation` names is lost. What can be sent again waits for the next one; `elsewhere`: answers
    /// come on the server's stream, which is lost with the session.
    pub fn renew(&mut self, generation: u32, elsewhere: bool, now: Time) -> Renewal {
        if generation != self.generation {
            return Renewal::UnderWay;
        }
        let soon = self.renewed.is_some_and(|at| now.since(at) < REMOTE_SESSION_MIN);
        if soon || !self.open {
            return Renewal::TooSoon;
        }
        self.generation += 1;
        self.renewed = Some(now);
        self.open = false;
        self.held = elsewhere;
        // What was to be said to the old session means nothing to the new one.
        self.waiting.retain(|job| job.kind != Kind::Word);
        self.waiting_bytes = self.waiting.iter().map(|job| job.line.len()).sum();
        let mut lost = Vec::new();
        for (id, job) in std::mem::take(&mut self.accepted).into_iter().rev() {
            match job.is_safe() && !job.again {
                true => self.push_again(job),
                false => lost.push(id),
            }
        }
        Renewal::Begin(lost)
    }

    /// How to cut everything that is under way.
    pub fn all(&self) -> Vec<C> {
        self.running.values().map(|run| run.cut.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::*;
    use crate::base::limits::REMOTE_CALLS_MAX;
    use crate::mcp::mirrored;
    use crate::server::in_flight::{Budget, IN_FLIGHT};
    use std::time::Duration;

    fn job(text: &str) -> Job {
        let line = match text.split_once(' ') {
            Some((method, id)) => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#),
            None => format!(r#"{{"jsonrpc":"2.0","method":"{text}"}}"#),
        };
        Job::of(Line::new(line.into_bytes(), &IN_FLIGHT), &Default::default())
    }

    fn opened(jobs: &[&str]) -> Queue<u64> {
        let mut queue = Queue::new(false);
        queue.open();
        jobs.iter().for_each(|text| queue.push(job(text)).unwrap());
        queue
    }

    /// Takes all that may go: the runs and ids.
    fn take(queue: &mut Queue<u64>) -> Vec<(RunId, Option<u64>)> {
        let mut next = || queue.take(|| 0).map(|task| (task.run, task.job.id().map(|id| id.0)));
        std::iter::from_fn(&mut next).collect()
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn the_greeting_goes_step_by_step() {
        let mut queue = Queue::new(false);
        for text in ["tools/list 2", "initialize 1", "notifications/initialized"] {
            queue.push(job(text)).unwrap();
        }
        assert_eq!(take(&mut queue), [(1, Some(1))]);
        queue.finish(1);
        assert_eq!(take(&mut queue), [(2, None)]);
        queue.finish(2);
        assert_eq!(take(&mut queue), []);
        queue.open();
        assert_eq!(take(&mut queue), [(3, Some(2))]);
    }

    #[test]
    fn calls_leave_room_for_what_is_urgent() {
        let calls: Vec<String> = (1..=20).map(|n| format!("tools/call {n}")).collect();
        let mut queue = opened(&calls.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(take(&mut queue).len(), REMOTE_CALLS_MAX);
        queue.push(job("ping 50")).unwrap();
        queue.push(job("notifications/cancelled")).unwrap();
        queue.push(job("notifications/cancelled")).unwrap();
        assert_eq!(take(&mut queue).iter().map(|(_, id)| *id).collect::<Vec<_>>(), [Some(50), None]);
        assert_eq!(queue.crowded(), None, "all of them are waited for");
        queue.answered(CallId(2));
        assert_eq!(queue.crowded(), None, "it is about to end, and its connection is good for the next");
        assert!(!queue.finish(2));
        assert_eq!(take(&mut queue).first().map(|(_, id)| *id), Some(Some(17)));
        queue.over(CallId(3));
        assert!(queue.crowded().is_some());
        assert!(queue.finish(3), "it may have been cut");
        assert_eq!(take(&mut queue).first().map(|(_, id)| *id), Some(Some(18)));
        queue.lingers(4);
        assert_eq!(queue.crowded(), None, "its answer is on the way");
        queue.answered(CallId(4));
        assert!(queue.crowded().is_some());
    }

    #[test]
    fn what_was_never_sent_is_forgotten_without_a_word() {
        let mut queue = opened(&["tools/call 1", "tools/call 2"]);
        assert_eq!(queue.cancel(CallId(1)), (false, None));
        queue.over(CallId(2));
        let task = queue.take(|| 5).unwrap();
        assert_eq!(task.job.id(), Some(CallId(2)), "who only leaves has not cancelled");
        assert!(queue.is_over(task.run));
        assert_eq!(queue.cancel(CallId(2)), (true, Some(5)));
    }

    #[test]
    fn doubt() {
        let mut queue = opened(&["tools/call 1", "tools/list 2"]);
        let (call, list) = (queue.take(|| 0).unwrap(), queue.take(|| 0).unwrap());
        assert!(!queue.is_in_doubt(CallId(1)), "not sent yet");
        call.sent.store(true, Ordering::Release);
        list.sent.store(true, Ordering::Release);
        assert!(queue.is_in_doubt(CallId(1)) && !queue.is_in_doubt(CallId(2)));
        queue.accepted(call.run);
        queue.finish(call.run);
        assert!(queue.is_in_doubt(CallId(1)), "its answer is to come");
        queue.over(CallId(1));
        assert!(!queue.is_in_doubt(CallId(1)));
    }

    #[test]
    fn a_new_session_takes_over_what_may_be_said_twice() {
        let mut queue = opened(&["tools/call 1", "tools/list 2", "tools/call 3", "notifications/x"]);
        for _ in 0..2 {
            let task = queue.take(|| 0).unwrap();
            if task.job.id().is_some() {
                queue.accepted(task.run);
            }
            queue.finish(task.run);
        }
        let task = queue.take(|| 0).unwrap();
        queue.accepted(task.run);
        queue.finish(task.run);
        let Renewal::Begin(lost) = queue.renew(0, false, at(1)) else { panic!("not begun") };
        assert_eq!(lost, [CallId(1)]);
        assert!(matches!(queue.renew(0, false, at(1)), Renewal::UnderWay));
        assert!(take(&mut queue).is_empty());
        queue.open();
        let ids: Vec<_> = take(&mut queue).into_iter().filter_map(|(_, id)| id).collect();
        assert_eq!(ids, [2, 3]);
        assert!(matches!(queue.renew(1, false, at(2)), Renewal::TooSoon));
        assert!(matches!(queue.renew(1, false, at(100)), Renewal::Begin(_)));
    }

    #[test]
    fn bounded() {
        let mut queue = opened(&[]);
        let refused = (0..).find_map(|_| queue.push(job("notifications/x")).err()).unwrap();
        assert_eq!((refused.kind, queue.waiting.len()), (FaultKind::Busy, 2 * CALLS_MAX));
        let mut queue = opened(&[]);
        let large = Line::new(vec![b'x'; OUTBOX_BYTES_MAX], &IN_FLIGHT);
        let large = Job { line: Arc::new(large), ..job("notifications/x") };
        queue.push(large.clone()).unwrap();
        assert!(queue.push(large).is_err());
    }

    /// What is held for one server is missing for all others, until it is answered.
    #[test]
    fn a_budget_for_all_servers() {
        let budget: &'static Budget = Box::leak(Box::new(Budget::new(100)));
        let call = |id: u64| {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#);
            Job::of(Line::new(line.into_bytes(), budget), &Default::default())
        };
        let (mut one, mut other) = (opened(&[]), opened(&[]));
        one.push(call(1)).unwrap();
        one.push(call(2)).unwrap();
        assert_eq!(one.push(call(3)).unwrap_err().kind, FaultKind::Busy);
        other.push(call(4)).expect("a server of which nothing is held takes one");
        let (first, second) = (one.take(|| 0).unwrap(), one.take(|| 0).unwrap());
        assert!(one.push(call(5)).is_err(), "sent, and held until it is answered");
        for task in [first, second] {
            one.finish(task.run);
        }
        one.push(call(6)).unwrap();
        drop((one, other));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn listening_takes_no_room_from_calls() {
        let calls: Vec<String> = (2..=20).map(|n| format!("tools/call {n}")).collect();
        let mut queue = opened(&["subscriptions/listen 1"]);
        calls.iter().for_each(|text| queue.push(job(text)).unwrap());
        let taken = take(&mut queue);
        assert_eq!((taken.len(), taken[0].1), (REMOTE_CALLS_MAX + 1, Some(1)));
    }

    #[test]
    fn a_refused_head_is_tried_once_more_if_it_is_another_one() {
        let params = r#"{"name":"t","arguments":{"r":"eu"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let call = || Job::of(Line::new(line.clone().into_bytes(), &IN_FLIGHT), &Default::default());
        let schema = r#"{"properties":{"r":{"type":"string","x-mcp-header":"R"}}}"#;
        let mirrors: Mirrors = [("t".to_owned(), mirrored::of_schema(schema))].into();

        let mut queue = opened(&[]);
        queue.push(call()).unwrap();
        let task = queue.take(|| 0).unwrap();
        task.sent.store(true, Ordering::Release);
        assert!(task.job.repeats_arguments() && queue.park(task.run, "no"));
        assert!(queue.finish(task.run) && !queue.is_in_doubt(CallId(1)), "it was not done");
        assert!(queue.take(|| 0).is_none() && queue.crowded().is_none());
        assert_eq!(queue.release(&mirrors), []);
        let again = queue.take(|| 0).unwrap();
        assert!(again.job.again && again.job.head.contains(&("Mcp-Param-R".to_owned(), "eu".to_owned())));
        queue.finish(again.run);

        queue.push(call()).unwrap();
        let task = queue.take(|| 0).unwrap();
        assert!(queue.park(task.run, "no"));
        assert_eq!(queue.release(&Default::default()), [(CallId(1), "no".into())]);
        assert!(queue.is_empty() && queue.waiting_bytes == 0);

        queue.push(call()).unwrap();
        let task = queue.take(|| 0).unwrap();
        queue.over(CallId(1));
        assert!(!queue.park(task.run, "no"), "nobody waits for it");
    }
}
