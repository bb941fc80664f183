//! How a life is greeted: in the era that `eras.rs` says, and in the other one where the answer shows that it is that.
//!
//! A life that has taken the wrong first message for good makes way for another one; nobody is to blame for that, so
//! nothing is counted.

use super::{Conversation, List, Stage};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::CallId;
use crate::base::time::Time;
use crate::mcp::envelope::{self, Outcome};
use crate::mcp::era::Era;
use crate::mcp::handshake::{self, Greeting};
use crate::mcp::items::Kind;
use crate::mcp::probe::{Heard, Next, Question, Transport};
use crate::server::link::Purpose;
use crate::server::listening::Listening;
use crate::server::machine::Event;
use crate::sys::clock;

impl Conversation {
    /// The first thing said.
    pub fn greet(&mut self) {
        let transport = if self.link.is_remote() { Transport::Http } else { Transport::Stdio };
        let question = self.face.eras.begin(transport);
        self.put(question);
    }

    fn put(&mut self, question: Question) {
        self.hush = self.face.eras.patience().map(|span| clock::now() + span);
        match question {
            Question::Initialize => {
                self.era = Era::Legacy;
                let params = handshake::initialize_params(env!("CARGO_PKG_VERSION"), &self.face.features());
                self.ask(Purpose::Initialize, "initialize", params);
            }
            Question::Discover(_) => {
                self.era = Era::Modern;
                self.ask(Purpose::Discover, "server/discover", "{}".to_owned());
            }
        }
    }

    /// When [`Conversation::due`] is to be called.
    pub fn deadline(&self) -> Option<Time> {
        self.hush.filter(|_| self.stage == Stage::Greeting)
    }

    /// Nothing was heard for so long that silence is an answer.
    pub fn due(&mut self) {
        if self.deadline().is_some_and(|at| at <= clock::now()) {
            self.hush = None;
            if let Next::Restart(question) = self.face.eras.hear(Heard::Silence) {
                self.fail(self.other_era(question, "it left server/discover unanswered"));
            }
        }
    }

    /// It ended before it was greeted. `Some`: because it was spoken to in an era that it does not know.
    pub fn ended(&self) -> Option<Fault> {
        if self.stage != Stage::Greeting {
            return None;
        }
        match self.face.eras.hear(Heard::Ended) {
            Next::Restart(question) => Some(self.other_era(question, "it ended at server/discover")),
            Next::Ask(_)
            | Next::Modern { .. }
            | Next::Legacy { .. }
            | Next::Login
            | Next::Away
            | Next::Failed(_) => None,
        }
    }

    /// A remote server answered this request with a status that is no MCP. `fault`: how that would be said.
    pub fn status(&mut self, id: CallId, status: u16, fault: Fault) {
        if self.stage != Stage::Greeting {
            return self.unanswered(id, fault);
        }
        if self.link.answered(id).is_none() {
            return;
        }
        match self.face.eras.hear(Heard::Status(status)) {
            Next::Ask(question) => self.put(question),
            Next::Failed(_)
            | Next::Restart(_)
            | Next::Modern { .. }
            | Next::Legacy { .. }
            | Next::Login
            | Next::Away => self.fail(fault),
        }
    }

    /// What the server answers to the question.
    pub(super) fn greeting(&mut self, outcome: Outcome<'_>) {
        let next = self.face.eras.hear(Heard::Answer { status: None, outcome });
        match (next, outcome) {
            (Next::Ask(question), _) => self.put(question),
            (Next::Restart(question), _) => self.fail(self.other_era(question, "its answer shows that")),
            (Next::Modern { version }, Outcome::Result(raw)) => {
                self.greeted(handshake::discovery(raw, version));
            }
            (Next::Legacy { .. }, Outcome::Result(raw)) => self.greeted(handshake::greeting(raw)),
            // Said better by what every refusal gets.
            (Next::Failed(fault), Outcome::Error(raw))
                if self.era == Era::Legacy && fault.hint.is_empty() =>
            {
                self.refused("initialize", raw);
            }
            (Next::Failed(fault), _) if fault.hint.is_empty() => {
                let hint = format!("its log may say more: mcpvisor upstream logs {}", self.server.name);
                self.fail(fault.hint(hint));
            }
            (Next::Failed(fault), _) => self.fail(fault),
            (Next::Modern { .. } | Next::Legacy { .. }, Outcome::Error(raw)) => {
                self.refused("the greeting", raw);
            }
            // Of a process nothing says that.
            (Next::Login | Next::Away, _) => (),
        }
    }

    fn greeted(&mut self, greeting: Result<Greeting, Fault>) {
        let greeting = match greeting {
            Ok(greeting) => greeting,
            Err(fault) if self.link.is_remote() => {
                return self.fail(fault.hint("is the `url` that of an MCP endpoint?"));
            }
            Err(fault) => return self.fail(fault),
        };
        self.face.eras.settle(greeting.era);
        let offered = |kind: &Kind| greeting.has(kind.capability());
        self.to_list = Kind::ALL.into_iter().filter(offered).collect();
        if greeting.era == Era::Modern {
            self.link.agreed(&greeting.version);
            self.link.is_modern(Listening::new(&greeting, &self.face.features()));
        }
        self.link.agreed(&greeting.version);
        self.face.greeted(greeting);
        if self.stage == Stage::GreetingAgain {
            return self.greeted_again();
        }
        self.stage = Stage::Discovering;
        self.tell(Event::Greeted(self.life), None);
        match self.era {
            Era::Legacy => {
                // If it cannot be sent, the server is stuck: the connect deadline ends it.
                let _ = self.link.send(envelope::notification("notifications/initialized", None));
            }
            // Before the lists, so that no change is missed between.
            Era::Modern => self.link.listen(),
        }
        // It is ready with its tools; the other lists are read after that.
        if self.to_list.remove(&Kind::Tools) {
            self.list(Kind::Tools);
        } else {
            self.complete(List::new(Kind::Tools));
        }
    }

    fn other_era(&self, question: Question, why: &str) -> Fault {
        let era = match question {
            Question::Discover(_) => Era::Modern,
            Question::Initialize => Era::Legacy,
        };
        let message = format!("{} is started anew for the {} era: {why}", self.server.name, era.name());
        log::info!("{message}");
        Fault::new(FaultKind::Stopped, message)
    }
}
