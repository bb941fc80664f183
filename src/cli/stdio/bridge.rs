//! The bridge between one client and the daemon: what is sent in which session, what each reply means, and how a
//! session that was lost is opened again.
//!
//! Threads: the one that reads stdin sends everything; each lane reads its replies; "news" reads the session's event
//! stream. None of them is joined: the bridge ends with the process ([`Bridge::end`]).

use super::alone::{AllAlone, Alone, caught_up, ended};
use super::home::Home;
use super::lane::{Flight, Lane, Lanes, Post};
use super::lines::Output;
use super::session::{Kept, Opened, Session, open};
use super::wire::{Cut, Reply, exchange, is_events, request};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{ASKS_MAX, LINE_BYTES_MAX};
use crate::base::time::Time;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::complain;
use crate::http::events::EventScan;
use crate::http::reply::Head;
use crate::mcp::envelope::{self, Message, Outcome};
use crate::mcp::handshake::Greeting;
use crate::mcp::items::Kind;
use crate::mcp::scan;
use crate::sys::{clock, hold, thread};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often one line is sent: when the session or the connection turns out to be over before it was acted on.
const TRIES_MAX: u8 = 3;

/// Between two of them.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// After a daemon could not be reached, further requests are answered with the same reason for so long.
const TROUBLE_HOLDS: Duration = Duration::from_secs(5);

/// How long, and how often, another daemon is looked for that a stream can go on with.
const LOOK_FOR: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For the daemon's answer to our good-bye.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

pub struct Bridge {
    home: Home,
    pub(super) target: String,
    out: Output,
    pub(super) lanes: Lanes,
    pub flight: Arc<Flight>,
    pub alone: AllAlone,
    state: Mutex<State>,
    /// Held while a session is opened: one at a time, and only with this a daemon is started.
    opening: Mutex<()>,
    /// Held by whoever ends the process.
    ending: Mutex<()>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    sessions: u64,
    kept: Option<Kept>,
    trouble: Option<(Time, Failure)>,
    /// Ids of the daemon's requests that the client has not answered, raw.
    asked: BTreeSet<String>,
}

impl Bridge {
    pub fn new(home: Home, target: String, out: Output) -> Bridge {
        Bridge {
            home,
            target,
            out,
            lanes: Lanes::default(),
            flight: Arc::default(),
            alone: AllAlone::default(),
            state: Mutex::default(),
            opening: Mutex::new(()),
            ending: Mutex::new(()),
        }
    }

    /// Sees to it that a daemon runs, before the client has said a word.
    pub fn knock(&self) {
        let _opening = self.opening.lock();
        if let Err(failure) = self.home.reach(false) {
            self.note_trouble(failure);
        }
    }

    /// The client's `initialize`. What it says next waits for the answer.
    pub fn initialize(self: &Arc<Bridge>, id: &str, line: Vec<u8>) {
        let _opening = self.opening.lock();
        let before = self.state.lock().session.take();
        if let Some(before) = before {
            self.close(&before);
        }
        match self.open_session(&line) {
            Ok(Opened::Session { session, answer, .. }) => {
                self.state.lock().kept = Some(Kept::of(line));
                self.say(answer);
                self.install(session);
            }
            Ok(Opened::Refused(body)) => self.say(refusal(&body, id)),
            Err(failure) => self.say(error(id, &failure)),
        }
    }

    pub fn keep(&self, method: &str, params: Option<&str>, line: &[u8]) {
        if let Some(kept) = &mut self.state.lock().kept {
            kept.note(method, params, line);
        }
    }

    /// Whether the daemon waits for the client's answer of this id. Ids of an earlier session mean nothing any more.
    pub fn is_asked(&self, id: &str) -> bool {
        self.state.lock().asked.remove(id)
    }

    /// Writes it to the daemon; the answer is another thread's.
    pub fn send(self: &Arc<Bridge>, mut post: Post) {
        while post.tries < TRIES_MAX {
            let session = self.session().filter(|_| post.alone.is_none());
            if session.is_none() && post.alone.is_none() {
                let trouble = self.state.lock().trouble.clone().map(|(_, failure)| failure);
                let failure = trouble.unwrap_or_else(|| {
                    Failure::new(Exit::Usage, "there is no session").hint("`initialize` opens one")
                });
                return self.fail(&post, &failure);
            }
            let idle = self.lanes.take();
            let is_new = idle.is_none();
            if is_new && post.tries > 0 {
                // A daemon that is ending takes connections and nothing else: a moment later it is gone.
                hold::pause_until(clock::now() + TRY_AGAIN);
            }
            let lane = match idle {
                Some(lane) => Ok(lane),
                None => self.home.control.connect().and_then(|stream| {
                    Lane::open(stream, self)
                        .map_err(|error| Failure::new(Exit::Failed, format!("open a connection: {error}")))
                }),
            };
            let outcome = match lane {
                Ok(lane) => lane.put(post, &self.target, session.as_deref()),
                Err(_) => match session.map_or_else(|| self.revive(), |session| self.renew(session.number)) {
                    Ok(()) => Err(Box::new(post)),
                    Err(failure) => return self.fail(&post, &failure),
                },
            };
            match outcome {
                Ok(()) => return,
                // What an idle lane does not take is no try: it was closed, and is gone from the list now.
                Err(back) => {
                    post = *back;
                    post.tries += u8::from(is_new);
                }
            }
        }
        self.fail(
            &post,
            &Failure::new(Exit::Failed, "the daemon takes no requests").hint("its log says more"),
        );
    }

    /// The reply to a post; whether its connection can be used again.
    pub(super) fn answer(self: &Arc<Bridge>, mut post: Post, head: &Head, reply: &mut Reply) -> bool {
        if let Some(alone) = post.alone.clone() {
            return self.answer_alone(post, &alone, head, reply);
        }
        if head.status == 200 && is_events(head) {
            return self.forward(post, reply);
        }
        let body = match reply.whole() {
            Ok(body) => body,
            Err(cut) => {
                self.cut(post, &cut);
                return false;
            }
        };
        match (head.status, post.id.as_deref()) {
            (200, _) => {
                // Answered: its line makes room before the answer waits for the client to read.
                post.line = Vec::new();
                self.say(body);
            }
            (404, _) if post.tries < TRIES_MAX => match self.renew(post.session) {
                Ok(()) => self.send(post),
                Err(failure) => self.fail(&post, &failure),
            },
            (202 | 204, None) | (_, None) => (),
            (_, Some(id)) => self.say(refusal(&body, id)),
        }
        true
    }

    /// The reply to a request without a session: whatever comes is the answer, and once it was cancelled it is none.
    fn answer_alone(
        self: &Arc<Bridge>,
        mut post: Post,
        alone: &Arc<Alone>,
        head: &Head,
        reply: &mut Reply,
    ) -> bool {
        let id = post.id.clone().unwrap_or_default();
        let streams = head.status == 200 && is_events(head);
        let outcome = if streams {
            self.forward_alone(&mut post, alone, reply)
        } else {
            post.line = if alone.listens { post.line } else { Vec::new() };
            reply.whole().map(|body| {
                if !alone.is_cancelled() {
                    self.say(if head.status == 200 { body } else { refusal(&body, &id) });
                }
                true
            })
        };
        // From here on the lane may be another request's.
        alone.is_on(None);
        match outcome {
            Ok(true) => {
                self.alone.end(&id, alone);
                !alone.is_cancelled()
            }
            Ok(false) => {
                self.cut(post, &Cut::Closed);
                false
            }
            Err(cut) => {
                self.cut(post, &cut);
                false
            }
        }
    }

    /// The events of a request without a session; whether its answer was among them.
    fn forward_alone(&self, post: &mut Post, alone: &Alone, reply: &mut Reply) -> Result<bool, Cut> {
        let mut answered = false;
        let acknowledged =
            |method: &str| alone.listens && method == "notifications/subscriptions/acknowledged";
        self.each_message(reply, &mut EventScan::new(LINE_BYTES_MAX), |data| {
            if alone.is_cancelled() {
                return;
            }
            match envelope::parse(&data) {
                // Only a daemon that ends does that, and another one may come.
                Ok(Message::Response { outcome: Outcome::Result(_), .. }) if alone.listens => (),
                Ok(Message::Response { .. }) => {
                    answered = true;
                    self.say(data);
                }
                Ok(Message::Notification { method, params }) if post.listened && acknowledged(&method) => {
                    caught_up(params.unwrap_or("{}")).into_iter().for_each(|news| self.say(news));
                }
                Ok(Message::Notification { method, .. }) => {
                    post.listened |= acknowledged(&method);
                    self.say(data);
                }
                Ok(Message::Request { .. }) | Err(_) => (),
            }
        })?;
        Ok(answered)
    }

    /// A stream goes on with the daemon that comes next, if one does. Runs on the thread of the lane that was lost.
    fn go_on(self: &Arc<Bridge>, mut post: Post, alone: &Arc<Alone>) {
        let give_up = clock::now() + LOOK_FOR;
        while !alone.is_cancelled() && clock::now() < give_up {
            hold::pause_until(clock::now() + LOOK_EVERY);
            let Ok(stream) = self.home.control.connect() else { continue };
            let Ok(lane) = Lane::open(stream, self) else { continue };
            match lane.put(post, &self.target, None) {
                Ok(()) => return,
                Err(back) => post = *back,
            }
        }
        let id = post.id.clone().unwrap_or_default();
        self.alone.end(&id, alone);
        if !alone.is_cancelled() {
            self.say(ended(&id));
        }
    }

    /// The connection of a post has ended without its answer.
    pub(super) fn cut(self: &Arc<Bridge>, post: Post, cut: &Cut) {
        if let Some(alone) = post.alone.clone() {
            alone.is_on(None);
            if alone.listens && post.listened {
                return self.go_on(post, &alone);
            }
            if alone.is_cancelled() {
                return;
            }
        }
        if *cut == Cut::Unread {
            return self.send(post);
        }
        let how = match cut {
            Cut::Unread | Cut::Closed => "",
            Cut::Broken(why) => why,
        };
        let message = "the daemon ended, or closed the connection, before it answered; whether this was carried \
                       out is not known";
        self.fail(&post, &Failure::new(Exit::Failed, message).hint(how));
    }

    /// The events that answer a post; whether the connection can be used again.
    fn forward(self: &Arc<Bridge>, post: Post, reply: &mut Reply) -> bool {
        let mut events = EventScan::new(LINE_BYTES_MAX);
        let mut answered = false;
        let outcome = self.each_event(reply, &mut events, |data| {
            if let Ok(Message::Response { id, .. }) = envelope::parse(data) {
                answered |= post.id.as_deref() == Some(id);
            }
        });
        if !answered {
            self.cut(post, &outcome.clone().err().unwrap_or(Cut::Closed));
        }
        outcome.is_ok()
    }

    /// Hands every event on to the client, until the stream ends in order.
    fn each_event(
        &self,
        reply: &mut Reply,
        events: &mut EventScan,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<(), Cut> {
        self.each_message(reply, events, |data| {
            seen(&data);
            self.note_ask(&data);
            self.say(data);
        })
    }

    fn each_message(
        &self,
        reply: &mut Reply,
        events: &mut EventScan,
        mut take: impl FnMut(Vec<u8>),
    ) -> Result<(), Cut> {
        loop {
            let part = reply.part()?;
            if part.is_empty() {
                return Ok(());
            }
            let fed = events.feed(&part, &mut take);
            fed.map_err(|fault| Cut::Broken(fault.to_string()))?;
        }
    }

    fn note_ask(&self, data: &[u8]) {
        if let Ok(Message::Request { id, .. }) = envelope::parse(data) {
            let mut state = self.state.lock();
            if state.asked.len() < ASKS_MAX {
                state.asked.insert(id.to_owned());
            }
        }
    }

    /// One reading of the session's news, until it breaks. `Err` is the status of a refusal.
    pub(super) fn listen(&self, session: &Session, last_event: &mut Option<String>) -> Result<(), Listened> {
        let stream = self.home.control.connect().map_err(|_| Listened::NoDaemon)?;
        let get = request("GET", &self.target, Some(session), last_event.as_deref(), None);
        let broken = |_| Listened::Broken;
        std::io::Write::write_all(&mut &stream, &get).map_err(|_| Listened::Broken)?;
        stream.set_read_timeout(None).map_err(|_| Listened::Broken)?;
        let mut reply = Reply::to("GET", &stream);
        let head = reply.head().map_err(broken)?;
        if head.status != 200 {
            return Err(Listened::Refused(head.status));
        }
        let mut events = EventScan::new(LINE_BYTES_MAX);
        let outcome = self.each_event(&mut reply, &mut events, |_| ());
        if let Some(id) = events.last_id() {
            *last_event = Some(id.to_owned());
        }
        outcome.map_err(broken)
    }

    pub(super) fn is_current(&self, session: &Session) -> bool {
        self.session().is_some_and(|current| current.number == session.number)
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.state.lock().session.clone()
    }

    /// A new session in place of one that is lost, opened with what the client said at first. Whoever comes second
    /// finds it done.
    pub(super) fn renew(self: &Arc<Bridge>, lost: u64) -> Result<(), Failure> {
        let _opening = self.opening.lock();
        let kept = {
            let state = self.state.lock();
            if state.session.as_ref().is_some_and(|session| session.number != lost) {
                return Ok(());
            }
            state.kept.clone().unwrap_or_default()
        };
        match self.open_session(kept.initialize())? {
            Opened::Session { session, greeting, .. } => {
                self.repeat(&kept, &session);
                self.tell_of_change(&greeting);
                self.install(session);
                Ok(())
            }
            Opened::Refused(body) => {
                let why = String::from_utf8_lossy(&body);
                let failure =
                    Failure::new(Exit::Failed, format!("the session was lost and not renewed: {why}"));
                self.note_trouble(failure.clone());
                Err(failure)
            }
        }
    }

    /// Sees to it that a daemon runs, for requests that need no session.
    fn revive(&self) -> Result<(), Failure> {
        let _opening = self.opening.lock();
        let trouble = self.state.lock().trouble.clone();
        match trouble {
            Some((at, failure)) if clock::now().since(at) < TROUBLE_HOLDS => return Err(failure),
            Some(_) | None => (),
        }
        self.home.reach(trouble.is_none()).inspect_err(|failure| self.note_trouble(failure.clone()))?;
        self.state.lock().trouble = None;
        Ok(())
    }

    /// Under the lock `opening`.
    fn open_session(&self, line: &[u8]) -> Result<Opened, Failure> {
        let number = {
            let mut state = self.state.lock();
            if let Some((at, failure)) = &state.trouble
                && clock::now().since(*at) < TROUBLE_HOLDS
            {
                return Err(failure.clone());
            }
            state.sessions += 1;
            state.sessions
        };
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let was_one = self.state.lock().trouble.is_none();
            let stream =
                self.home.reach(was_one).inspect_err(|failure| self.note_trouble(failure.clone()))?;
            match open(&stream, &self.target, number, line) {
                Ok(opened) => return Ok(opened),
                // It was about to end when we came.
                Err(cut) => last = Some(cut),
            }
        }
        let failure = Failure::new(Exit::Failed, format!("open a session: the connection broke ({last:?})"));
        self.note_trouble(failure.clone());
        Err(failure)
    }

    fn repeat(&self, kept: &Kept, session: &Session) {
        let Ok(stream) = self.home.control.connect() else { return };
        if let Err(cut) = kept.repeat(&stream, &self.target, session) {
            complain(&format!("say again to the new daemon what the client had asked for: {cut:?}"));
        }
    }

    /// Under the lock `opening`, after the client was told.
    fn install(self: &Arc<Bridge>, session: Session) {
        let session = Arc::new(session);
        {
            let mut state = self.state.lock();
            state.session = Some(session.clone());
            state.trouble = None;
        }
        let bridge = self.clone();
        if let Err(error) = thread::spawn("news", move || super::news::follow(&bridge, &session)) {
            complain(&format!("follow the news of the servers: {error}"));
        }
    }

    /// The servers may be others, and what they had asked the client is void.
    fn tell_of_change(&self, greeting: &Greeting) {
        let asked = std::mem::take(&mut self.state.lock().asked);
        for id in asked {
            let params = format!("{{\"requestId\":{id},\"reason\":\"the daemon was started anew\"}}");
            self.say(envelope::notification("notifications/cancelled", Some(&params)));
        }
        let changes = |kind: &Kind| has_changes(greeting, kind.capability());
        let methods: BTreeSet<&str> =
            Kind::ALL.iter().filter(|kind| changes(kind)).map(|kind| kind.changed()).collect();
        for method in methods {
            self.say(envelope::notification(method, None));
        }
    }

    fn note_trouble(&self, failure: Failure) {
        complain(&failure);
        self.state.lock().trouble = Some((clock::now(), failure));
    }

    /// An error to the client, if it waits for an answer.
    pub fn fail(&self, post: &Post, failure: &Failure) {
        if let Some(id) = &post.id {
            if let Some(alone) = &post.alone {
                self.alone.end(id, alone);
                if alone.is_cancelled() {
                    return;
                }
            }
            self.say(error(id, failure));
        }
    }

    /// One message to the client. A client that has gone ends us.
    pub fn say(&self, message: Vec<u8>) {
        if self.out.line(message).is_err() {
            self.end(Exit::Ok);
        }
    }

    /// The last act: says good-bye to the daemon and ends the process.
    pub fn end(&self, exit: Exit) -> ! {
        let _ending = self.ending.lock();
        if let Some(session) = self.session() {
            self.close(&session);
        }
        std::process::exit(exit.code().into())
    }

    /// How a bridge ends whose client has said everything: with the reason, if there never was a session.
    pub fn exit(&self) -> Exit {
        let state = self.state.lock();
        match (&state.session, &state.trouble) {
            (None, Some((_, failure))) => failure.exit,
            _ => Exit::Ok,
        }
    }

    fn close(&self, session: &Session) {
        let Ok(stream) = self.home.control.connect() else { return };
        let delete = request("DELETE", &self.target, Some(session), None, None);
        // A daemon that does not hear it forgets the session by itself.
        let _ = exchange(&stream, &delete, Some(GOODBYE_PATIENCE));
    }
}

/// Why the news stream is not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Listened {
    NoDaemon,
    Broken,
    Refused(u16),
}

/// Whether the server says that it tells of changes of this list.
fn has_changes(greeting: &Greeting, capability: &str) -> bool {
    let inside = |text: &str, key: &str| scan::find(text, key).map(|span| text[span].to_owned());
    let capability = inside(&greeting.raw, "capabilities").and_then(|all| inside(&all, capability));
    capability.and_then(|one| inside(&one, "listChanged")).is_some_and(|value| value == "true")
}

/// A failure of ours as the answer to a request.
pub fn error(id: &str, failure: &Failure) -> Vec<u8> {
    let kind = if failure.exit == Exit::Usage { FaultKind::Unknown } else { FaultKind::NotReady };
    answer_fault(id, &Fault::new(kind, failure.message.clone()).hint(failure.hint.clone()))
}

pub fn answer_fault(id: &str, fault: &Fault) -> Vec<u8> {
    let data = json!({"kind": fault.kind.name(), "hint": fault.hint});
    let error = envelope::error_object(envelope::INTERNAL_ERROR, &fault.to_string(), Some(&data));
    envelope::response(id, Outcome::Error(&error))
}

/// What the daemon answered to a request that it refused, under the request's id.
fn refusal(body: &[u8], id: &str) -> Vec<u8> {
    match envelope::parse(body) {
        Ok(Message::Response { outcome, .. }) => envelope::response(id, outcome),
        _ => {
            let text = String::from_utf8_lossy(body);
            let text = crate::base::text::shorten(text.trim(), 200);
            answer_fault(id, &Fault::new(FaultKind::Internal, format!("the daemon refused: {text}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::era::Era;

    #[test]
    fn refusals_get_the_id() {
        #[track_caller]
        fn check(body: &str, expected: &str) {
            assert_eq!(String::from_utf8(refusal(body.as_bytes(), "\"x\"")).unwrap(), expected);
        }
        check(
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32602,"message":"no"}}"#,
        );
        check(
            "too many connections\n",
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32603,"message":"the daemon refused: too many connections","data":{"hint":"","kind":"internal"}}}"#,
        );
    }

    #[test]
    fn lists_that_change() {
        let raw = r#"{"capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":false},"resources":{}}}"#;
        let greeting = Greeting { era: Era::Legacy, version: String::new(), raw: raw.into() };
        assert!(has_changes(&greeting, "tools"));
        assert!(!has_changes(&greeting, "prompts"));
        assert!(!has_changes(&greeting, "resources"));
        assert!(!has_changes(&greeting, "completions"));
    }
}
