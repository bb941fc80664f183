//! One line posted to a remote server, until it is answered or will not be.
//!
//! Every request ends in exactly one of: its answer among the lines, `Lost`, a place in the queue again, or (taken by the
//! server, which answers on its stream) nothing for now.

use super::client::Reply;
use super::inbox::Heard;
use super::job::{Job, Kind};
use super::queue::{RunId, Task};
use super::shared::{Place, Shared, Transport, in_doubt};
use super::trouble::{Trouble, When};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::limits::{
    LINE_BYTES_MAX, REMOTE_ERROR_BYTES_MAX, REMOTE_PAUSE_MAX, REMOTE_REPLY, REMOTE_RESUMES_MAX,
    REMOTE_SILENCE,
};
use crate::base::text;
use crate::http::events::EventScan;
use crate::http::url::Url;
use crate::mcp::envelope::{self, Message, Outcome};
use crate::mcp::era::UNSUPPORTED_VERSION;
use crate::mcp::line::one_line;
use crate::mcp::scan;
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
        let posted = self.post(&self.job.line, self.patience(), self.sent);
        if self.is_over() {
            return;
        }
        match posted {
            Ok(reply) => self.answered(reply),
            Err(trouble) => self.failed(trouble),
        }
    }

    fn post(&self, line: &[u8], patience: Option<Duration>, sent: &AtomicBool) -> Result<Reply, Trouble> {
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

    /// A call has a deadline of its own, which cuts it.
    fn patience(&self) -> Option<Duration> {
        match self.job.kind {
            Kind::Initialize(_) | Kind::Discover(_) => Some(self.shared.upstream.patience),
            _ if self.job.is_call() && self.place.transport != Transport::Sse => None,
            Kind::Initialized | Kind::Request { .. } | Kind::Word => Some(REMOTE_REPLY),
        }
    }

    fn answered(self, reply: Reply) {
        match reply.status {
            200..=299 => self.welcome(reply),
            401 => {
                let fault = login(&self.place.target, &reply);
                self.fail(fault);
            }
            400 | 404 | 405 if self.may_be_sse() => {
                let (error, fault) = self.refusal(reply);
                // A modern server says so in MCP's own words, and what speaks SSE does not.
                if error.as_deref().is_some_and(is_modern_refusal) {
                    return self.refused(error, fault);
                }
                self.shared.push_again(self.job);
                self.shared.use_sse(Some(fault));
            }
            404 if self.in_session() => self.session_lost("no longer knows our session (404)"),
            // Some servers say so of a session that they do not know; others mean the request.
            400 if self.in_session() => {
                let (answer, fault) = self.refusal(reply);
                match self.session_is_known() {
                    true => self.refused(answer, fault),
                    false => self.session_lost("no longer knows our session (400)"),
                }
            }
            429 | 503 if self.job.is_greeting() && self.wait_as_told(&reply) => {
                self.shared.push_again(self.job);
            }
            // Neither says anything of the era.
            403 | 429 | 500.. if self.job.is_greeting() => {
                let (_, fault) = self.refusal(reply);
                self.refused(None, fault);
            }
            status if matches!(self.job.kind, Kind::Discover(_)) => {
                let (error, fault) = self.refusal(reply);
                match (error, self.job.id()) {
                    (None, Some(id)) if !self.is_over() => self.tell(Heard::Status(id, status, fault)),
                    (error, _) => self.refused(error, fault),
                }
            }
            _ => {
                let (answer, fault) = self.refusal(reply);
                self.refused(answer, fault);
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
            self.tell(Heard::Line(one_line(&line).into_owned()));
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
            let (last_id, retry, why) = match ended {
                Ended::Answered | Ended::Over => return,
                Ended::Cut { last_id: None, why, .. } => return self.broken(why),
                Ended::Cut { last_id: Some(last_id), retry, fresh, why } => {
                    tries = if fresh { 0 } else { tries + 1 };
                    if tries >= REMOTE_RESUMES_MAX {
                        return self.broken(why);
                    }
                    (last_id, retry, why)
                }
            };
            let pause = retry.unwrap_or(RESUME_AFTER * 2_u32.pow(tries)).min(REMOTE_PAUSE_MAX);
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
        let opened = self.shared.client.stream(self.agent, &place.target, &headers, Some(REMOTE_SILENCE));
        match opened {
            Ok(reply) if reply.status == 200 && reply.content_type == "text/event-stream" => {
                self.read_stream(id, reply.body, Some(last_id))
            }
            // It is not offered, or what was to come is forgotten.
            Ok(reply) if reply.status < 500 => Ended::Cut { last_id: None, retry, fresh: false, why },
            Ok(_) | Err(_) => Ended::Cut { last_id: Some(last_id), retry, fresh: false, why },
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
                answered = answered || answers(&data, id);
                listened = listened && inbox.push(Heard::Line(one_line(&data).into_owned()));
            });
            if !listened {
                return Ended::Over;
            }
            if answered {
                self.shared.lingers(self.run);
            }
            if let Err(fault) = fed {
                // What is too large now is too large again.
                return Ended::Cut { last_id: None, retry: None, fresh, why: fault };
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
        Ended::Cut { last_id: seen.or(last_id), retry: scan.retry(), fresh, why }
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

    /// The server has answered, and does not do it. `error`: its own words, as JSON-RPC.
    fn refused(self, error: Option<String>, fault: Fault) {
        if self.is_over() {
            return;
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
        let answer = self.post(&ping, Some(REMOTE_REPLY), &AtomicBool::new(false));
        answer.is_ok_and(|reply| !matches!(reply.status, 400 | 404))
    }

    /// Waits as long as the server asks for, if that leaves time to be greeted.
    fn wait_as_told(&self, reply: &Reply) -> bool {
        let span = reply.retry_after.filter(|span| *span <= self.shared.upstream.patience / 2);
        span.is_some_and(|span| !self.job.again && self.shared.pause(span, self.place.generation))
    }

    /// What an error says: the JSON-RPC error in it, if there is one, and what we say of it.
    fn refusal(&self, reply: Reply) -> (Option<String>, Fault) {
        let (status, url) = (reply.status, &self.place.target);
        let mut body = Vec::new();
        // What cannot be read is not shown.
        let _ = reply.body.take(REMOTE_ERROR_BYTES_MAX).read_to_end(&mut body);
        let found = error_in(&body);
        let said = found.as_deref().and_then(message_of).unwrap_or_else(|| words(&body));
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

/// Whether this message, or one of a batch, answers our request `id`.
fn answers(message: &[u8], id: CallId) -> bool {
    let own = |message: &[u8]| match envelope::parse(message) {
        Ok(Message::Response { id: theirs, .. }) => theirs.parse() == Ok(id.0),
        Ok(Message::Request { .. } | Message::Notification { .. }) | Err(_) => false,
    };
    if !message.trim_ascii_start().starts_with(b"[") {
        return own(message);
    }
    let text = std::str::from_utf8(message).unwrap_or_default();
    let mut found = false;
    // What is no array answers nothing.
    let _ = scan::array(text, |span| found = found || own(text[span].as_bytes()));
    found
}

/// The error object of a JSON-RPC error, whatever its id: servers answer `null` when they refuse before they read it.
fn error_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let error = scan::find(text, "error").map(|span| &text[span])?;
    scan::find(error, "code")?;
    scan::find(error, "message")?;
    Some(String::from_utf8_lossy(&one_line(error.as_bytes())).into_owned())
}

/// Whether an error is how a modern server refuses `initialize`.
fn is_modern_refusal(error: &str) -> bool {
    let code = scan::find(error, "code").and_then(|span| error[span].parse::<i64>().ok());
    code.is_some_and(|code| code == UNSUPPORTED_VERSION || code == envelope::METHOD_NOT_FOUND)
}

fn message_of(error: &str) -> Option<String> {
    scan::find(error, "message").and_then(|span| scan::string(&error[span]))
}

/// The text of an error page, without its markup.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::new();
    let mut tag = false;
    for c in text.chars() {
        match c {
            '<' => tag = true,
            '>' => tag = false,
            _ if tag => (),
            c if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

/// Visible ASCII, as the specification wants it.
fn valid_session(id: &str) -> Option<String> {
    let good = !id.is_empty() && id.len() <= 1024 && id.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_comes_before_them() {
        let check = |message: &str, expected| {
            assert_eq!(answers(message.as_bytes(), CallId(7)), expected, "{message}")
        };
        check(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, true);
        check(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#, false);
        check(r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#, false);
        check(r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":7,"error":{}}]"#, true);
        check("<html>", false);
    }

    #[test]
    fn errors_in_any_dress() {
        let error = |body: &str| error_in(body.as_bytes());
        assert_eq!(
            error(r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"id":null}"#).as_deref(),
            Some(r#"{"code":-32000,"message":"no"}"#)
        );
        assert_eq!(
            error(r#"{"error":{"code":-32600,"message":"x"}}"#).as_deref(),
            Some(r#"{"code":-32600,"message":"x"}"#)
        );
        assert_eq!(error(r#"{"error":"invalid_token"}"#), None);
        assert_eq!(error("Bad Request"), None);
        assert_eq!(words(b"<html><h1>502</h1>\n  Bad <b>Gateway</b></html>"), "502 Bad Gateway");
    }

    #[test]
    fn session_ids() {
        assert_eq!(valid_session("abc-123").as_deref(), Some("abc-123"));
        assert_eq!((valid_session(""), valid_session("a b"), valid_session("é")), (None, None, None));
    }
}
