//! What happens later: one thread with an ordered list of jobs, started when the first job comes.
//!
//! So a call that takes long holds nobody up and costs no thread of its own.

use super::out::Out;
use crate::base::limits::DEMO_JOBS_MAX;
use crate::base::time::Time;
use crate::sys::{clock, thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An answer on its way: to which request, and whether that was a `tools/call`.
pub struct Reply {
    pub id: Box<RawValue>,
    pub body: String,
    pub is_call: bool,
}

pub enum Job {
    Answer(Reply),
    /// Step `step` of `steps` of a `sleep`; the last one is followed by the answer.
    Progress {
        token: Option<Box<RawValue>>,
        step: u64,
        steps: u64,
        every: Duration,
        reply: Reply,
    },
    Exit(u8),
}

enum Order {
    At(Time, Job),
    Cancel(String),
}

pub struct Timer {
    out: Arc<Out>,
    orders: Option<Sender<Order>>,
}

impl Timer {
    pub fn new(out: Arc<Out>) -> Timer {
        Timer { out, orders: None }
    }

    /// Runs `job` after `span`. More than `DEMO_JOBS_MAX` at once: the job is dropped, and a call among them is
    /// answered with an error.
    pub fn after(&mut self, span: Duration, job: Job) {
        self.order(Order::At(clock::now() + span, job));
    }

    /// Forgets what waits for request `id` (its JSON text); it will not be answered.
    pub fn cancel(&mut self, id: &str) {
        if self.orders.is_some() {
            self.order(Order::Cancel(id.to_owned()));
        }
    }

    fn order(&mut self, order: Order) {
        let orders = self.orders.get_or_insert_with(|| {
            let (sender, receiver) = bounded(64);
            let out = Arc::clone(&self.out);
            // Ends with the process, or when the server drops its timer.
            thread::spawn("timer", move || run(&receiver, &out))
                .expect("a server without a thread is of no use");
            sender
        });
        orders.send(order).expect("the timer ends after its sender");
    }
}

/// Jobs by due time, then by order of arrival.
type Jobs = BTreeMap<(Time, u64), Job>;

fn run(orders: &Receiver<Order>, out: &Out) {
    let mut jobs = Jobs::new();
    for seq in 0.. {
        let order = match jobs.first_key_value() {
            Some(((due, _), _)) => orders.recv_deadline(clock::instant(*due)),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(Order::At(due, job)) if jobs.len() < DEMO_JOBS_MAX => {
                jobs.insert((due, seq), job);
            }
            Ok(Order::At(_, job)) => refuse(job, out),
            Ok(Order::Cancel(id)) => jobs.retain(|_, job| !is_for(job, &id)),
            Err(RecvTimeoutError::Timeout) => {
                let (_, job) = jobs.pop_first().expect("only a job's time can pass");
                if let Some((span, job)) = perform(job, out) {
                    jobs.insert((clock::now() + span, seq), job);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn is_for(job: &Job, id: &str) -> bool {
    match job {
        Job::Answer(reply) | Job::Progress { reply, .. } => reply.id.get() == id,
        Job::Exit(_) => false,
    }
}

fn refuse(job: Job, out: &Out) {
    match job {
        Job::Answer(reply) | Job::Progress { reply, .. } => {
            let body = r#""error":{"code":-32603,"message":"too many calls wait already"}"#;
            out.answer(&reply.id, body, reply.is_call);
        }
        Job::Exit(code) => std::process::exit(code.into()),
    }
}

/// Does it; what comes after it, and when, is returned.
fn perform(job: Job, out: &Out) -> Option<(Duration, Job)> {
    match job {
        Job::Answer(reply) => out.answer(&reply.id, &reply.body, reply.is_call),
        Job::Progress { token, step, steps, every, reply } => {
            if let Some(token) = &token {
                let token = token.get();
                out.notify(&format!(
                    r#""method":"notifications/progress","params":{{"progressToken":{token},"progress":{step},"total":{steps}}}"#
                ));
            }
            if step < steps {
                return Some((every, Job::Progress { token, step: step + 1, steps, every, reply }));
            }
            out.answer(&reply.id, &reply.body, reply.is_call);
        }
        Job::Exit(code) => std::process::exit(code.into()),
    }
    None
}
