//! Which era a server is of, found out by asking: a pure machine. The driver puts the question, waits, and says what
//! it heard; it owns the process or the connection, the patience, and what is learnt for the next time.
//!
//! ```text
//! server/discover ─ a version of ours ──────────────► modern
//!        │ ├─ another version of ours wanted ────────► asked once more, at it
//!        │ └─ any other answer, on stdio also silence or its end ──► initialize ─ a result ──► legacy
//!        └─ 401, 403, 5xx, no connection: says nothing of the era            └─ "not this version" ─► asked again
//! ```
//!
//! A process is of the era that it was first spoken to in. So where it may have taken `server/discover` for good, or is
//! gone, it is begun anew before it is greeted in the other.

use super::envelope::Outcome;
use super::era::{Era, UNSUPPORTED_VERSION, VERSION, VERSIONS};
use super::{envelope, scan};
use crate::base::fault::{Fault, FaultKind};
use crate::base::text::shorten;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Stdio,
    Http,
}

/// What the config wants (`era`), and what an earlier life found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `auto`, and nothing is known.
    Unknown,
    /// `auto`, and this was found before.
    Learnt(Era),
    /// The config names it: nothing else is tried.
    Set(Era),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `server/discover` at this version.
    Discover(&'static str),
    Initialize,
}

/// What came of a question.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// A JSON-RPC answer; with its status over HTTP.
    Answer { status: Option<u16>, outcome: Outcome<'a> },
    /// An HTTP answer that is none.
    Status(u16),
    /// Nothing, for as long as the driver waits.
    Silence,
    /// The process ended, or closed its stdout.
    Ended,
    /// No connection, or it broke.
    Unreachable,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Ask(Question),
    /// End the process, start it anew, and ask that one.
    Restart(Question),
    /// Of the modern era; the answer that was heard is its `DiscoverResult`.
    Modern {
        version: &'static str,
    },
    /// Of the legacy era; the answer that was heard is its `InitializeResult`. `by_silence`: the other era was given up
    /// because nothing was heard, so that it is worth a second look one day.
    Legacy {
        by_silence: bool,
    },
    /// It wants a login first. The same question then.
    Login,
    /// It cannot be reached, or is broken for now. The same question later.
    Away,
    /// It cannot be spoken to.
    Failed(Fault),
}

/// Where the asking is. Begins with [`Probe::question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    transport: Transport,
    expected: Expected,
    question: Question,
    /// It was asked for another version already.
    asked_version: bool,
    /// `initialize` was answered by "not this version", and `server/discover` asked again.
    asked_again: bool,
    by_silence: bool,
}

impl Probe {
    pub fn new(transport: Transport, expected: Expected) -> Probe {
        let question = match expected {
            Expected::Unknown | Expected::Learnt(Era::Modern) | Expected::Set(Era::Modern) => {
                Question::Discover(VERSION)
            }
            Expected::Learnt(Era::Legacy) | Expected::Set(Era::Legacy) => Question::Initialize,
        };
        Probe { transport, expected, question, asked_version: false, asked_again: false, by_silence: false }
    }

    /// What to ask first, and after [`Next::Login`] and [`Next::Away`].
    pub fn question(&self) -> Question {
        self.question
    }

    pub fn hear(&mut self, heard: Heard) -> Next {
        let next = match (self.transport, heard) {
            (_, Heard::Answer { status: Some(401 | 403), .. } | Heard::Status(401 | 403)) => Next::Login,
            (_, Heard::Answer { status: Some(500..), .. } | Heard::Status(500..)) => Next::Away,
            (_, Heard::Unreachable) => Next::Away,
            (Transport::Http, Heard::Silence | Heard::Ended) => Next::Away,
            (Transport::Stdio, Heard::Silence | Heard::Ended) => {
                self.nothing(matches!(heard, Heard::Silence))
            }
            (_, Heard::Status(status)) => self.no_answer(status),
            (_, Heard::Answer { outcome, .. }) => match self.question {
                Question::Discover(_) => self.discovered(outcome),
                Question::Initialize => self.greeted(outcome),
            },
        };
        if let Next::Ask(question) | Next::Restart(question) = next {
            self.question = question;
        }
        next
    }

    /// A process that says nothing, or is gone.
    fn nothing(&mut self, silent: bool) -> Next {
        let may_be_legacy = self.expected == Expected::Unknown && !self.asked_again;
        match self.question {
            Question::Discover(_) if may_be_legacy => {
                self.by_silence = silent;
                Next::Restart(Question::Initialize)
            }
            Question::Discover(_) | Question::Initialize => Next::Failed(self.unheard(silent)),
        }
    }

    fn unheard(&self, silent: bool) -> Fault {
        let asked = self.asked();
        match silent {
            true => Fault::new(FaultKind::ConnectTimeout, format!("{asked}: no answer in time")),
            false => {
                Fault::new(FaultKind::StdoutClosed, format!("{asked}: the server ended without an answer"))
            }
        }
    }

    fn asked(&self) -> &'static str {
        match self.question {
            Question::Discover(_) => "server/discover",
            Question::Initialize => "initialize",
        }
    }

    /// An HTTP status that is neither about a login nor an outage.
    fn no_answer(&mut self, status: u16) -> Next {
        match self.question {
            Question::Discover(_) => self.not_modern(&format!("it answered HTTP {status}"), false),
            Question::Initialize => Next::Failed(Fault::new(
                FaultKind::BadUpstream,
                format!("initialize: it answered HTTP {status} and no MCP"),
            )),
        }
    }

    fn discovered(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Result(result) => {
                let Some(offered) = versions(result, "supportedVersions") else {
                    return self.not_modern("its answer has no supportedVersions", true);
                };
                match (ours(&offered), is_legacy_among(&offered)) {
                    (Some(version), _) => Next::Modern { version },
                    (None, true) => self.not_modern("it offers earlier versions only", true),
                    (None, false) => Next::Failed(no_common(&offered)),
                }
            }
            Outcome::Error(error) if code(error) == Some(UNSUPPORTED_VERSION) => {
                let offered = supported(error);
                match (ours(&offered), is_legacy_among(&offered) || offered.is_empty()) {
                    (Some(version), _) if !self.asked_version => {
                        self.asked_version = true;
                        Next::Ask(Question::Discover(version))
                    }
                    (Some(version), _) => {
                        let message = format!("server/discover: it offers version {version} and refuses it");
                        Next::Failed(Fault::new(FaultKind::HandshakeFailed, message))
                    }
                    (None, true) => self.not_modern("it refuses our version", false),
                    (None, false) => Next::Failed(no_common(&offered)),
                }
            }
            Outcome::Error(error) => self.not_modern(&said(error), false),
        }
    }

    /// An answer of a server that is not modern. `taken`: it may have taken the question for the beginning of a
    /// conversation, in which it refuses `initialize`.
    fn not_modern(&mut self, why: &str, taken: bool) -> Next {
        if self.expected == Expected::Set(Era::Modern) || self.asked_again {
            let message = format!("server/discover: the server is not of the modern era: {why}");
            let fault = Fault::new(FaultKind::HandshakeFailed, message);
            let set = self.expected == Expected::Set(Era::Modern);
            return Next::Failed(if set { fault.hint("set `era` to `auto`") } else { fault });
        }
        match (self.transport, taken) {
            (Transport::Stdio, true) => Next::Restart(Question::Initialize),
            _ => Next::Ask(Question::Initialize),
        }
    }

    fn greeted(&mut self, outcome: Outcome) -> Next {
        let modern = match outcome {
            // Some take the greeting of the other era, and answer with the version of their own.
            Outcome::Result(result) => version(result).is_some_and(|it| Era::of_version(&it) == Era::Modern),
            // A modern server refuses the version; one that is nothing else does not know the method.
            Outcome::Error(error) => match code(error) {
                Some(UNSUPPORTED_VERSION) => true,
                Some(envelope::METHOD_NOT_FOUND) => self.expected == Expected::Learnt(Era::Legacy),
                _ => false,
            },
        };
        if modern && !self.asked_again && self.expected != Expected::Set(Era::Legacy) {
            self.asked_again = true;
            self.by_silence = false;
            return match self.transport {
                Transport::Stdio => Next::Restart(Question::Discover(VERSION)),
                Transport::Http => Next::Ask(Question::Discover(VERSION)),
            };
        }
        let error = match outcome {
            Outcome::Result(_) => return Next::Legacy { by_silence: self.by_silence },
            Outcome::Error(error) => error,
        };
        let fault = Fault::new(FaultKind::HandshakeFailed, format!("initialize: {}", said(error)));
        Next::Failed(if modern { fault.hint("set `era` to `auto`") } else { fault })
    }
}

/// The version of an `InitializeResult`.
fn version(result: &str) -> Option<String> {
    scan::string(&result[scan::find(result, "protocolVersion")?])
}

fn code(error: &str) -> Option<i64> {
    error[scan::find(error, "code")?].parse().ok()
}

/// What an error says, for people.
fn said(error: &str) -> String {
    let message =
        scan::find(error, "message").and_then(|span| scan::string(&error[span])).unwrap_or_default();
    let code = code(error).map_or_else(|| "without a code".to_owned(), |code| code.to_string());
    format!("the server answered error {code}: {}", shorten(&message, 200))
}

/// The strings of a list; nothing if there is no such list.
fn versions(object: &str, key: &str) -> Option<Vec<String>> {
    let list = &object[scan::find(object, key)?];
    let mut found = Vec::new();
    scan::array(list, |span| found.extend(scan::string(&list[span]))).ok()?;
    Some(found)
}

/// `data.supported` of a refusal; none if it does not say.
fn supported(error: &str) -> Vec<String> {
    let data = scan::find(error, "data").map(|span| &error[span]);
    data.and_then(|data| versions(data, "supported")).unwrap_or_default()
}

/// Our newest version among those offered.
fn ours(offered: &[String]) -> Option<&'static str> {
    VERSIONS.into_iter().find(|version| offered.iter().any(|offer| offer == version))
}

fn is_legacy_among(offered: &[String]) -> bool {
    offered.iter().any(|version| Era::of_version(version) == Era::Legacy)
}

fn no_common(offered: &[String]) -> Fault {
    let offered = shorten(&offered.join(", "), 100);
    let message =
        format!("server/discover: the server speaks {offered}, and mcpvisor {}", VERSIONS.join(", "));
    Fault::new(FaultKind::HandshakeFailed, message).hint("one of the two needs a newer version")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: &str = r#"ok {"supportedVersions":["2026-07-28"],"capabilities":{}}"#;
    const BOTH: &str = r#"ok {"supportedVersions":["2025-11-25","2026-07-28"]}"#;
    const OLD: &str = r#"ok {"supportedVersions":["2025-11-25","2025-06-18"]}"#;
    const FUTURE: &str = r#"ok {"supportedVersions":["2099-01-01"]}"#;
    const RESULT: &str = r#"ok {"protocolVersion":"2025-11-25"}"#;
    const UNKNOWN: &str = r#"error {"code":-32601,"message":"no"}"#;
    const REFUSED_ALL: &str = r#"error {"code":-32022,"message":"v","data":{"supported":["2099-01-01"]}}"#;
    const REFUSED: &str = r#"error {"code":-32022,"message":"v","data":{"supported":["2026-07-28"]}}"#;
    const REFUSED_OLD: &str = r#"error {"code":-32022,"message":"v","data":{"supported":["2025-11-25"]}}"#;
    const REFUSED_BARE: &str = r#"error {"code":-32022,"message":"v"}"#;

    /// `STATUS ` before an answer is its status over HTTP.
    fn heard(text: &str) -> Heard<'_> {
        let (status, rest) = match text.split_once(' ') {
            Some((status, rest)) if status.parse::<u16>().is_ok() => (status.parse().ok(), rest),
            _ => (None, text),
        };
        match rest.split_once(' ') {
            Some(("ok", raw)) => Heard::Answer { status, outcome: Outcome::Result(raw) },
            Some(("error", raw)) => Heard::Answer { status, outcome: Outcome::Error(raw) },
            _ if rest == "silence" => Heard::Silence,
            _ if rest == "ended" => Heard::Ended,
            _ if rest == "unreachable" => Heard::Unreachable,
            _ => Heard::Status(rest.parse().unwrap()),
        }
    }

    fn question(question: Question) -> String {
        match question {
            Question::Discover(version) => format!("discover@{version}"),
            Question::Initialize => "initialize".to_owned(),
        }
    }

    fn shown(next: Next) -> String {
        match next {
            Next::Ask(asked) => question(asked),
            Next::Restart(asked) => format!("restart, {}", question(asked)),
            Next::Modern { version } => format!("modern {version}"),
            Next::Legacy { by_silence: false } => "legacy".to_owned(),
            Next::Legacy { by_silence: true } => "legacy by silence".to_owned(),
            Next::Login => "login".to_owned(),
            Next::Away => "away".to_owned(),
            Next::Failed(fault) => format!("failed: {}", fault.kind.name()),
        }
    }

    /// What is heard, step by step, and all that is done, the first question included.
    #[track_caller]
    fn check(transport: Transport, expected: Expected, story: &[&str], done: &[&str]) {
        let mut probe = Probe::new(transport, expected);
        let mut found = vec![question(probe.question())];
        found.extend(story.iter().map(|text| shown(probe.hear(heard(text)))));
        assert_eq!(found, done, "{transport:?} {expected:?} {story:?}");
    }

    const DISCOVER: &str = "discover@2026-07-28";

    #[test]
    fn the_table_of_both_transports() {
        for transport in [Transport::Stdio, Transport::Http] {
            let unknown = |story: &[&str], done: &[&str]| check(transport, Expected::Unknown, story, done);
            unknown(&[MODERN], &[DISCOVER, "modern 2026-07-28"]);
            unknown(&[BOTH], &[DISCOVER, "modern 2026-07-28"]);
            unknown(&[FUTURE], &[DISCOVER, "failed: handshake_failed"]);
            unknown(&[UNKNOWN, RESULT], &[DISCOVER, "initialize", "legacy"]);
            unknown(&[UNKNOWN, UNKNOWN], &[DISCOVER, "initialize", "failed: handshake_failed"]);
            unknown(&[r#"error {"code":0}"#, RESULT], &[DISCOVER, "initialize", "legacy"]);
            unknown(&[REFUSED, MODERN], &[DISCOVER, DISCOVER, "modern 2026-07-28"]);
            unknown(&[REFUSED, REFUSED], &[DISCOVER, DISCOVER, "failed: handshake_failed"]);
            unknown(&[REFUSED_ALL], &[DISCOVER, "failed: handshake_failed"]);
            unknown(&[REFUSED_OLD, RESULT], &[DISCOVER, "initialize", "legacy"]);
            unknown(&[REFUSED_BARE, RESULT], &[DISCOVER, "initialize", "legacy"]);
        }
    }

    #[test]
    fn only_on_stdio() {
        let unknown = |story: &[&str], done: &[&str]| check(Transport::Stdio, Expected::Unknown, story, done);
        unknown(&[OLD, RESULT], &[DISCOVER, "restart, initialize", "legacy"]);
        unknown(&["ok 7", RESULT], &[DISCOVER, "restart, initialize", "legacy"]);
        unknown(&["silence", RESULT], &[DISCOVER, "restart, initialize", "legacy by silence"]);
        unknown(&["ended", RESULT], &[DISCOVER, "restart, initialize", "legacy"]);
        unknown(&["silence", "silence"], &[DISCOVER, "restart, initialize", "failed: connect_timeout"]);
        unknown(&["ended", "ended"], &[DISCOVER, "restart, initialize", "failed: stdout_closed"]);
        // It was modern, and slow.
        let again = "restart, discover@2026-07-28";
        unknown(
            &["silence", REFUSED, MODERN],
            &[DISCOVER, "restart, initialize", again, "modern 2026-07-28"],
        );
        unknown(
            &["silence", REFUSED, "silence"],
            &[DISCOVER, "restart, initialize", again, "failed: connect_timeout"],
        );
        unknown(
            &["silence", REFUSED, UNKNOWN],
            &[DISCOVER, "restart, initialize", again, "failed: handshake_failed"],
        );
    }

    #[test]
    fn only_over_http() {
        let unknown = |story: &[&str], done: &[&str]| check(Transport::Http, Expected::Unknown, story, done);
        unknown(&[OLD, RESULT], &[DISCOVER, "initialize", "legacy"]);
        for status in ["400", "404", "405", "406", "413", "422", "200", "302"] {
            unknown(&[status, RESULT], &[DISCOVER, "initialize", "legacy"]);
            unknown(&[status, status], &[DISCOVER, "initialize", "failed: bad_upstream"]);
        }
        let refused = format!("400 {UNKNOWN}");
        unknown(&[&refused, RESULT], &[DISCOVER, "initialize", "legacy"]);
        unknown(&[&format!("400 {REFUSED}"), MODERN], &[DISCOVER, DISCOVER, "modern 2026-07-28"]);
        // No evidence of an era: the same question again.
        let broken = format!("500 {UNKNOWN}");
        let locked = format!("401 {UNKNOWN}");
        unknown(
            &["500", "503", &broken, "silence", "unreachable", MODERN],
            &[DISCOVER, "away", "away", "away", "away", "away", "modern 2026-07-28"],
        );
        unknown(
            &["401", "403", &locked, UNKNOWN, "401", RESULT],
            &[DISCOVER, "login", "login", "login", "initialize", "login", "legacy"],
        );
    }

    #[test]
    fn what_was_learnt() {
        let legacy = Expected::Learnt(Era::Legacy);
        for transport in [Transport::Stdio, Transport::Http] {
            check(transport, legacy, &[RESULT], &["initialize", "legacy"]);
            check(transport, Expected::Learnt(Era::Modern), &[MODERN], &[DISCOVER, "modern 2026-07-28"]);
            check(
                transport,
                Expected::Learnt(Era::Modern),
                &[UNKNOWN, RESULT],
                &[DISCOVER, "initialize", "legacy"],
            );
        }
        // It became modern since.
        let again = "restart, discover@2026-07-28";
        check(Transport::Stdio, legacy, &[UNKNOWN, MODERN], &["initialize", again, "modern 2026-07-28"]);
        check(Transport::Http, legacy, &[REFUSED, MODERN], &["initialize", DISCOVER, "modern 2026-07-28"]);
        let answered = r#"ok {"protocolVersion":"2026-07-28","capabilities":{}}"#;
        check(Transport::Http, legacy, &[answered, MODERN], &["initialize", DISCOVER, "modern 2026-07-28"]);
        check(Transport::Stdio, legacy, &["silence"], &["initialize", "failed: connect_timeout"]);
        // A modern server that is slow today is not taken for another.
        let modern = Expected::Learnt(Era::Modern);
        check(Transport::Stdio, modern, &["silence"], &[DISCOVER, "failed: connect_timeout"]);
        check(Transport::Stdio, modern, &["ended"], &[DISCOVER, "failed: stdout_closed"]);
    }

    #[test]
    fn what_is_set() {
        for transport in [Transport::Stdio, Transport::Http] {
            let modern =
                |story: &[&str], done: &[&str]| check(transport, Expected::Set(Era::Modern), story, done);
            modern(&[MODERN], &[DISCOVER, "modern 2026-07-28"]);
            modern(&[UNKNOWN], &[DISCOVER, "failed: handshake_failed"]);
            modern(&[OLD], &[DISCOVER, "failed: handshake_failed"]);
            let legacy =
                |story: &[&str], done: &[&str]| check(transport, Expected::Set(Era::Legacy), story, done);
            legacy(&[RESULT], &["initialize", "legacy"]);
            legacy(&[REFUSED], &["initialize", "failed: handshake_failed"]);
        }
        check(
            Transport::Stdio,
            Expected::Set(Era::Modern),
            &["silence"],
            &[DISCOVER, "failed: connect_timeout"],
        );
    }

    #[test]
    fn it_always_ends() {
        let answers = [
            MODERN,
            OLD,
            FUTURE,
            RESULT,
            UNKNOWN,
            REFUSED,
            REFUSED_ALL,
            REFUSED_OLD,
            REFUSED_BARE,
            "silence",
            "ended",
            "404",
        ];
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let transport = if random.bool() { Transport::Stdio } else { Transport::Http };
            let mut probe = Probe::new(transport, Expected::Unknown);
            let mut questions = 1;
            loop {
                match probe.hear(heard(answers[random.usize(..answers.len())])) {
                    Next::Ask(_) | Next::Restart(_) => questions += 1,
                    Next::Login | Next::Away => (),
                    Next::Modern { .. } | Next::Legacy { .. } | Next::Failed(_) => break,
                }
            }
            assert!(questions <= 5, "{questions}");
        }
    }
}
