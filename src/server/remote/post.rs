//! One line posted to a remote server, until it is answered or will not be.
//!
//! Every request ends in exactly one of: its answer among the lines, `Lost`, a place in the queue again, or (taken by the
//! server, which answers on its stream) nothing for now.

use super::answer::{
    Refusal, answers, code, error_in, is_modern_refusal, message_of, refusal_in, says_what_is_missing, words,
};
use super::client::{Patience, Reply};
use super::inbox::Heard;
use super::job::{Job, Kind, Room};
use super::queue::{RunId, Task};
use super::shared::{Place, Shared, Transport, in_doubt};
use super::trouble::{Trouble, When};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{
    LINE_BYTES_MAX, REMOTE_ERROR_BYTES_MAX, REMOTE_PAUSE_MAX, REMOTE_REPLY, REMOTE_RESUMES_MAX,
    REMOTE_SILENCE, RETRY_AFTER_SHORT,
};
use crate::base::text;
use crate::http::events::EventScan;
use crate::http::url::Url;
use crate::mcp::envelope::{self, Outcome};
use crate::mcp::era::HEADER_MISMATCH;
use crate::mcp::line::one_line;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use ureq::{Agent, BodyReader};

/// Read at once from a body.
const READ_BYTES: usize = 32 << 10;

/// Longer ones cost less as a new connection.
const DRAIN_BYTES_MAX: u64 = 4 << 10;

/// Before a cut stream is taken up again, where the server says nothing of it.
const RESUME_AFTER: Duration = Duration::from_secs(1);

/// How an event stream that answers a request came to its end.
enum Ended {
    Answered,
    /// Nobody waits any more.
    Over,
    /// It can be taken up again behind this event, after this time.
    Cut {
        last_id: Option<String>,
        retry: Option<Duration>,
        /// Not before this (`Retry-After`).
        after: Duration,
        fresh: bool,
        why: Fault,
    },
}

pub fn perform(shared: &Arc<Shared>, agent: &Agent, task: Task) {
    let place = shared.place();
    if place.generation != task.generation {
        // The session was lost while this was on its way here.
        return shared.push_again(task.job);
    }
    Post { shared, agent, place, run: task.run, job: task.job, sent: &task.sent }.perform();
}

struct Post<'a> {
    shared: &'a Arc<Shared>,
    agent: &'a Agent,
    place: Place,
    run: RunId,
    job: Job,
    sent: &'a AtomicBool,
}

impl Post<'_> {
    fn perform(self) {
        let patience = patience(&self.job, self.place.transport, self.shared.upstream.patience);
        let posted = self.post(&self.job.line, patience, self.sent);
        if self.is_over() {
            return;
        }
        match posted {
            Ok(reply) => self.answered(reply),
            Err(trouble) => self.failed(trouble),
        }
    }

    fn post(&self, line: &[u8], patience: Patience, sent: &AtomicBool) -> Result<Reply, Trouble> {
        let head = || self.job.head.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let headers = match self.job.kind {
            Kind::Initialize(_) => Vec::new(),
            _ if !self.job.head.is_empty() => head(),
            Kind::Discover(_) | Kind::Initialized | Kind::Request { .. } | Kind::Word => self.place.headers(),
        };
        let mut reply =
            self.shared.client.post(self.agent, &self.place.target, &headers, line, patience, sent)?;
        if let Some(url) = reply.moved.take() {
            self.shared.moved(&self.place.target, url);
        }
        Ok(reply)
    }

    fn answered(self, reply: Reply) {
        match reply.status {
            200..=299 => self.welcome(reply),
            401 => {
                let fault = login(&self.place.target, &reply);
                self.fail(fault);
            }
            400 | 404 | 405 if self.may_be_sse() => {
                let (answer, fault) = self.refusal(reply);
                // A modern server says so in MCP's own words, and what speaks SSE does not.
                let error = answer.map(|answer| answer.error).filter(|error| is_modern_refusal(error));
                if error.is_some() {
                    return self.refused(error, fault);
                }
                self.shared.push_again(self.job);
                self.shared.use_sse(Some(fault));
            }
            404 if self.in_session() => {
                let (answer, fault) = self.refusal(reply);
                match &answer {
                    // It knows whose request it was, and that nothing like that is there.
                    Some(answer) if answer.is_own && says_what_is_missing(&answer.error) => {
                        self.refused(Some(answer.error.clone()), fault);
                    }
                    _ => self.session_lost("no longer knows our session (404)"),
                }
            }
            // Some servers say so of a session that they do not know; others mean the request.
            400 if self.in_session() => {
                let (answer, fault) = self.refusal(reply);
                match self.session_is_known() {
                    true => self.refused(answer.map(|answer| answer.error), fault),
                    false => self.session_lost("no longer knows our session (400)"),
                }
            }
            429 | 503 if self.wait_as_told(&reply) => self.shared.push_again(self.job),
            // Neither says anything of the era.
            403 | 429 | 500.. if self.job.is_greeting() => {
                let (_, fault) = self.refusal(reply);
                self.refused(None, fault);
            }
            status if matches!(self.job.kind, Kind::Discover(_)) => {
                let (answer, fault) = self.refusal(reply);
                match (answer.map(|answer| answer.error), self.job.id()) {
                    (None, Some(id)) if !self.is_over() => self.tell(Heard::Status(id, status, fault)),
                    (error, _) => self.refused(error, fault),
                }
            }
            _ => {
                let (answer, fault) = self.refusal(reply);
                self.refused(answer.map(|answer| answer.error), fault);
            }
        }
    }

    /// 2xx.
    fn welcome(self, reply: Reply) {
        if matches!(self.job.kind, Kind::Initialize(_)) {
            match reply.session.as_deref().map(valid_session) {
                Some(None) => {
                    let message = format!("{} gave a session id that is not one", self.place.target);
                    return self.tell(Heard::Failed(Fault::new(FaultKind::BadUpstream, message)));
                }
                session => self.shared.greeted(session.flatten()),
            }
        }
        let Some(id) =
            self.job.id().filter(|_| self.place.transport != Transport::Sse && reply.status != 202)
        else {
            drain(reply.body);
            return self.taken();
        };
        match reply.content_type.as_str() {
            "application/json" => self.read_json(reply),
            "text/event-stream" => self.read_events(id, reply.body),
            _ => {
                let (_, fault) = self.refusal(reply);
                self.refused(None, fault);
            }
        }
    }

    /// The server has it; if there is an answer, it comes another way.
    fn taken(self) {
        match self.job.kind {
            Kind::Initialized => self.shared.open(),
            Kind::Initialize(_) | Kind::Discover(_) | Kind::Request { .. } => self.shared.accepted(self.run),
            Kind::Word => (),
        }
    }

    fn read_json(self, reply: Reply) {
        let mut line = Vec::new();
        if let Err(error) = reply.body.take(LINE_BYTES_MAX as u64 + 1).read_to_end(&mut line) {
            let trouble = Trouble::reading(error, &self.place.target);
            return self.failed(trouble);
        }
        let url = &self.place.target;
        if line.len() > LINE_BYTES_MAX {
            let limit = LINE_BYTES_MAX >> 20;
            let fault = Fault::new(FaultKind::TooLarge, format!("{url} answered more than {limit} MiB"));
            return self.refused(None, fault);
        }
        let answers = self.job.id().is_some_and(|id| answers(&line, id));
        if answers {
            self.tell(self.heard(&line));
        } else if !self.is_over() {
            let shown = text::shorten(&String::from_utf8_lossy(&line[..line.len().min(400)]), 100);
            let fault = Fault::new(FaultKind::BadUpstream, format!("{url} answered something else: {shown}"));
            self.refused(error_in(&line), fault);
        }
    }

    fn read_events(self, id: CallId, body: BodyReader<'static>) {
        let mut ended = self.read_stream(id, body, None);
        let mut tries = 0;
        loop {
            let (last_id, retry, after, why) = match ended {
                Ended::Answered | Ended::Over => return,
                Ended::Cut { last_id: None, why, .. } => return self.broken(why),
                Ended::Cut { last_id: Some(last_id), retry, after, fresh, why } => {
                    tries = if fresh { 0 } else { tries + 1 };
                    // Whoever asks for more time than a call's place is held has no answer for it.
                    if tries >= REMOTE_RESUMES_MAX || after > REMOTE_PAUSE_MAX {
                        return self.broken(why);
                    }
                    (last_id, retry, after, why)
                }
            };
            let pause = retry.unwrap_or(RESUME_AFTER * 2_u32.pow(tries)).min(REMOTE_PAUSE_MAX).max(after);
            if !self.shared.pause(pause, self.place.generation) {
                return self.broken(why);
            }
            if self.is_over() {
                return;
            }
            ended = self.resume(id, last_id, retry, why);
        }
    }

    /// Takes up the stream behind the event `last_id`.
    fn resume(&self, id: CallId, last_id: String, retry: Option<Duration>, why: Fault) -> Ended {
        let mut headers = self.place.headers();
        headers.push(("last-event-id", &last_id));
        let place = &self.place;
        let cut = |last_id, after| Ended::Cut { last_id, retry, after, fresh: false, why };
        let opened = self.shared.client.stream(self.agent, &place.target, &headers, Some(REMOTE_SILENCE));
        match opened {
            Ok(reply) if reply.status == 200 && reply.content_type == "text/event-stream" => {
                self.read_stream(id, reply.body, Some(last_id))
            }
            // It is not offered, or what was to come is forgotten.
            Ok(reply) if reply.status < 500 && reply.status != 429 => cut(None, Duration::ZERO),
            Ok(reply) => cut(Some(last_id), reply.retry_after.unwrap_or_default()),
            Err(_) => cut(Some(last_id), Duration::ZERO),
        }
    }

    fn read_stream(&self, id: CallId, mut body: BodyReader<'static>, last_id: Option<String>) -> Ended {
        let mut scan = EventScan::new(LINE_BYTES_MAX);
        let (mut answered, mut fresh) = (false, false);
        let mut buffer = vec![0; READ_BYTES];
        let why = loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => {
                    let message = format!("{} ended its answer too early", self.place.target);
                    break Fault::new(FaultKind::BadUpstream, message);
                }
                Ok(count) => count,
                Err(error) => break Trouble::reading(error, &self.place.target).fault,
            };
            let (mut listened, inbox) = (true, &self.shared.inbox);
            let fed = scan.feed(&buffer[..count], |data| {
                fresh = true;
                let is_answer = answers(&data, id);
                answered = answered || is_answer;
                let heard = match is_answer {
                    true => self.heard(&data),
                    false => Heard::LineOf(id, one_line(&data).into_owned()),
                };
                listened = listened && inbox.push(heard);
            });
            if !listened {
                return Ended::Over;
            }
            if answered {
                self.shared.lingers(self.run);
            }
            if let Err(fault) = fed {
                // What is too large now is too large again.
                return Ended::Cut { last_id: None, retry: None, after: Duration::ZERO, fresh, why: fault };
            }
        };
        if answered {
            return Ended::Answered;
        }
        if self.is_over() {
            return Ended::Over;
        }
        let seen = scan.last_id().map(str::to_owned);
        fresh = fresh || seen.is_some();
        Ended::Cut { last_id: seen.or(last_id), retry: scan.retry(), after: Duration::ZERO, fresh, why }
    }

    /// No reply came.
    fn failed(self, trouble: Trouble) {
        if self.is_over() {
            return;
        }
        match trouble.when {
            // Nothing else can be sent either.
            When::Unconnected => self.fail(trouble.fault),
            // A connection that the server closed while it was idle: nothing was sent on it.
            When::Unsent if !self.job.again => self.shared.push_again(self.job),
            When::Unsent => self.fail(trouble.fault),
            When::Sent => self.broken(trouble.fault),
            When::Answered => self.refused(None, trouble.fault),
        }
    }

    /// It was sent, and the answer will not come this way.
    fn broken(self, why: Fault) {
        if self.is_over() {
            return;
        }
        let place = self.shared.place();
        let Some(id) = self.job.id() else {
            log::debug!("{}: not told: {why}", self.shared.name);
            // The server may have it, or not; without this it would wait for ever.
            return if self.job.kind == Kind::Initialized {
                self.shared.open()
            };
        };
        if self.job.is_safe() && !self.job.again {
            return self.shared.push_again(self.job);
        }
        if matches!(self.job.kind, Kind::Initialize(_)) {
            return self.tell(Heard::Failed(why));
        }
        let why = match place.generation == self.place.generation {
            true => why,
            false => Fault::new(FaultKind::SessionLost, format!("{} lost our session", place.target)),
        };
        self.tell(Heard::Lost(id, if self.job.is_safe() { why } else { in_doubt(&why) }));
    }

    /// Whether this answer refuses what the head of a call repeats: the server has not done it, and wants another head,
    /// for which its tools must be listed anew. Once.
    fn is_parked(&self, error: &str) -> bool {
        let other_head = code(error) == Some(HEADER_MISMATCH);
        other_head && self.job.repeats_arguments() && !self.job.again && self.shared.park(self.run, error)
    }

    /// What an answer of the server is for the life's thread.
    fn heard(&self, answer: &[u8]) -> Heard {
        match error_in(answer).is_some_and(|error| self.is_parked(&error)) {
            true => Heard::Parked,
            false => Heard::Line(one_line(answer).into_owned()),
        }
    }

    /// The server has answered, and does not do it. `error`: its own words, as JSON-RPC.
    fn refused(self, error: Option<String>, fault: Fault) {
        if self.is_over() {
            return;
        }
        if let Some(error) = &error
            && self.is_parked(error)
        {
            return self.tell(Heard::Parked);
        }
        match (self.job.kind, error) {
            (Kind::Request { id, .. } | Kind::Initialize(id) | Kind::Discover(id), Some(error)) => {
                self.tell(Heard::Line(envelope::response(&id.0.to_string(), Outcome::Error(&error))));
            }
            (Kind::Initialize(_), None) => self.tell(Heard::Failed(fault)),
            (Kind::Request { id, .. } | Kind::Discover(id), None) => self.tell(Heard::Lost(id, fault)),
            (Kind::Initialized, _) => {
                log::debug!("{}: {fault}", self.shared.name);
                self.shared.open();
            }
            (Kind::Word, _) => log::debug!("{}: {fault}", self.shared.name),
        }
    }

    fn session_lost(self, how: &str) {
        if self.is_over() {
            return;
        }
        let why = Fault::new(FaultKind::SessionLost, format!("{} {how}", self.place.target));
        match self.shared.session_lost(self.place.generation, &why) {
            Err(fault) => self.fail(fault),
            // It was refused, so it was not done: it may be asked again, once.
            Ok(()) => match (self.job.id(), self.job.again) {
                (Some(_), false) => self.shared.push_again(self.job),
                (Some(id), true) => self.tell(Heard::Lost(id, why)),
                // What was said to the old session means nothing to the new one.
                (None, _) => (),
            },
        }
    }

    /// Asks on the same session what is always answered.
    fn session_is_known(&self) -> bool {
        let ping = envelope::request("\"mcpvisor-session\"", "ping", None);
        let answer = self.post(&ping, Patience::Answer(REMOTE_REPLY), &AtomicBool::new(false));
        answer.is_ok_and(|reply| !matches!(reply.status, 400 | 404))
    }

    /// Waits as long as the server asks for: in a greeting, if that leaves time for it; before anything else that may be
    /// asked twice, if that is short. Once.
    fn wait_as_told(&self, reply: &Reply) -> bool {
        let longest = match self.job.is_greeting() {
            true => self.shared.upstream.patience / 2,
            false => RETRY_AFTER_SHORT,
        };
        let span = reply.retry_after.filter(|span| *span <= longest);
        let may = self.job.is_safe() && !self.job.again;
        span.is_some_and(|span| may && self.shared.pause(span, self.place.generation) && !self.is_over())
    }

    /// What an error says: the JSON-RPC error in it, if there is one, and what we say of it.
    fn refusal(&self, reply: Reply) -> (Option<Refusal>, Fault) {
        let (status, url) = (reply.status, &self.place.target);
        let mut body = Vec::new();
        // What cannot be read is not shown.
        let _ = reply.body.take(REMOTE_ERROR_BYTES_MAX).read_to_end(&mut body);
        let found = refusal_in(&body, self.job.id());
        let said = found.as_ref().and_then(|found| message_of(&found.error)).unwrap_or_else(|| words(&body));
        let mut message = match reply.content_type.as_str() {
            "" => format!("{url} answered {status}"),
            kind if (200..300).contains(&status) => format!("{url} answered {status} with {kind}, not JSON"),
            _ => format!("{url} answered {status}"),
        };
        if !said.is_empty() {
            message.push_str(&format!(": {}", text::shorten(&said, 120)));
        }
        let later = reply.retry_after.map(|span| format!("it asks to wait {}", text::span(span)));
        let fault = match status {
            403 => {
                let challenge = reply.challenge.map(|text| format!(" ({text})")).unwrap_or_default();
                Fault::new(FaultKind::NeedsLogin, format!("{message}{challenge}"))
                    .hint("is what `headers` has for it allowed to do this?")
            }
            413 => Fault::new(FaultKind::TooLarge, message).hint("the server takes no request of this size"),
            429 => Fault::new(FaultKind::Busy, message).hint(later.unwrap_or("try again later".to_owned())),
            500..=599 => Fault::new(FaultKind::BadUpstream, message).hint(later.unwrap_or_default()),
            _ => Fault::new(FaultKind::BadUpstream, message).hint("is the `url` that of an MCP endpoint?"),
        };
        let fault = fault.retry_in(reply.retry_after.filter(|_| matches!(status, 429 | 500..=599)));
        // These say nothing of the greeting: the server as a whole does not serve us.
        let greeting = self.job.is_greeting();
        if greeting && matches!(status, 403 | 429 | 500..=599) {
            let kind = if status == 429 { FaultKind::BadUpstream } else { fault.kind };
            return (None, Fault { kind, ..fault });
        }
        (found, fault)
    }

    fn in_session(&self) -> bool {
        let greeting = matches!(self.job.kind, Kind::Initialize(_));
        !greeting && (self.place.session.is_some() || self.place.transport == Transport::Sse)
    }

    fn may_be_sse(&self) -> bool {
        self.place.transport == Transport::Guessed && matches!(self.job.kind, Kind::Initialize(_))
    }

    fn is_over(&self) -> bool {
        self.shared.is_over(self.run)
    }

    /// The server as a whole cannot be used, and has not done what was asked.
    fn fail(&self, fault: Fault) {
        if let Kind::Request { id, .. } = self.job.kind {
            self.tell(Heard::Lost(id, fault.clone()));
        }
        self.tell(Heard::Failed(fault));
    }

    fn tell(&self, heard: Heard) {
        // Nobody listens any more once the life is over.
        let _ = self.shared.inbox.push(heard);
    }
}

/// How long the answer may take. A call has a deadline of its own, which cuts it.
fn patience(job: &Job, transport: Transport, greeting: Duration) -> Patience {
    match (job.kind, job.room(), transport) {
        (Kind::Initialize(_) | Kind::Discover(_), ..) => Patience::Answer(greeting),
        (_, Room::Listen, _) => Patience::Silence(REMOTE_SILENCE),
        (_, Room::Call, Transport::Guessed | Transport::Http) => Patience::Caller,
        (_, Room::Call, Transport::Sse) | (_, Room::Urgent, _) => Patience::Answer(REMOTE_REPLY),
    }
}

/// A few words that nobody needs: read, so that the connection can be used again.
fn drain(body: BodyReader<'static>) {
    // What cannot be read closes the connection, and nothing else.
    let _ = std::io::copy(&mut body.take(DRAIN_BYTES_MAX), &mut std::io::sink());
}

/// A 401: what the server wants to know of us, and what can be done.
pub fn login(url: &Url, reply: &Reply) -> Fault {
    let challenge = reply.challenge.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let message = format!("{url} wants a login ({}){challenge}", reply.status);
    Fault::new(FaultKind::NeedsLogin, message)
        .hint("set a valid `Authorization` in `headers`, then: mcpvisor upstream restart")
}

/// Visible ASCII, as the specification wants it.
fn valid_session(id: &str) -> Option<String> {
    let good = !id.is_empty() && id.len() <= 1024 && id.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::job::Mirrors;
    use super::super::line::Line;
    use super::*;
    use crate::server::in_flight::IN_FLIGHT;

    #[test]
    fn how_long_an_answer_may_take() {
        #[track_caller]
        fn check(method: &str, transport: Transport, expected: Patience) {
            let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}"}}"#);
            let job = Job::of(Line::new(line.into_bytes(), &IN_FLIGHT), &Mirrors::new());
            assert_eq!(patience(&job, transport, Duration::from_secs(9)), expected, "{method}");
        }
        let reply = Patience::Answer(REMOTE_REPLY);
        check("initialize", Transport::Guessed, Patience::Answer(Duration::from_secs(9)));
        check("server/discover", Transport::Http, Patience::Answer(Duration::from_secs(9)));
        check("tools/call", Transport::Http, Patience::Caller);
        check("tools/call", Transport::Sse, reply);
        check("ping", Transport::Http, reply);
        check("subscriptions/listen", Transport::Http, Patience::Silence(REMOTE_SILENCE));
    }

    #[test]
    fn session_ids() {
        assert_eq!(valid_session("abc-123").as_deref(), Some("abc-123"));
        assert_eq!((valid_session(""), valid_session("a b"), valid_session("é")), (None, None, None));
    }
}
