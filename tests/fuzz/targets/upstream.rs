//! What a stranger upstream decides for us: where it wants to be posted to, and of which era it is. Lines of an input: a
//! reference, then answers to our questions, each with a status before it or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::http::url::Url;
use mcpvisor::mcp::envelope::Outcome;
use mcpvisor::mcp::era::Era;
use mcpvisor::mcp::probe::{Expected, Heard, Next, Probe, Transport};
use mcpvisor::mcp::seal::Sealer;
use mcpvisor::mcp::{envelope, scan};

const EXPECTED: [Expected; 5] = [
    Expected::Unknown,
    Expected::Learnt(Era::Legacy),
    Expected::Learnt(Era::Modern),
    Expected::Set(Era::Legacy),
    Expected::Set(Era::Modern),
];

/// A server is asked no more than this before it is known or given up.
const QUESTIONS_MAX: usize = 5;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    if let Some(reference) = lines.next() {
        joined(reference);
        sealed(reference, text);
    }
    let answers: Vec<Heard> = lines.map(heard).collect();
    for transport in [Transport::Stdio, Transport::Http] {
        EXPECTED.iter().for_each(|expected| probed(transport, *expected, &answers));
    }
});

/// A reference leads to the same origin unless it names another, and what it leads to can be written and read again.
fn joined(reference: &str) {
    for base in ["http://a.example:81/sse?x", "https://[::1]/a/b/../c/"] {
        let base = Url::parse(base).expect("it is a URL");
        let Ok(joined) = base.join(reference) else { continue };
        let absolute = Url::parse(reference.split('#').next().unwrap_or_default());
        match absolute {
            Ok(absolute) => assert!(joined == absolute || reference.starts_with('/')),
            Err(_) => assert!(joined.same_origin(&base) || reference.starts_with("//")),
        }
        match Url::parse(&joined.full()) {
            Ok(again) => assert!(again.same_origin(&joined), "{again:?} {joined:?}"),
            // What cannot be asked for is refused when it is.
            Err(_) => assert!(joined.same_origin(&base)),
        }
        let page = joined.join("").expect("no reference is the same page");
        assert!(page.same_origin(&joined));
    }
}

/// What was sealed for one opens for it alone; nothing else opens at all.
fn sealed(token: &str, other: &str) {
    let sealer = Sealer::new(&[7; 32]);
    assert_eq!(sealer.open(token, &["a"]), None);
    assert_eq!(sealer.open(&envelope::quote(token), &["a"]), None);
    let raw = envelope::quote(token);
    let Some(sealed) = sealer.seal(&raw, &["a", other]) else { panic!("a quoted text is a string") };
    assert!(scan::document(&sealed).is_ok());
    assert_eq!(sealer.open(&sealed, &["a", other]), Some(raw.clone()));
    assert_eq!(sealer.open(&sealed, &["a", other, ""]), None);
    assert_eq!(sealer.open(&sealed, &[other, "a"]), (other == "a").then_some(raw));
    assert_eq!(Sealer::new(&[8; 32]).open(&sealed, &["a", other]), None);
}

/// `404 {"result":…}`: a status, if it has one, and a message, if it is one.
fn heard(line: &str) -> Heard<'_> {
    let (status, rest) = match line.split_once(' ') {
        Some((status, rest)) if status.parse::<u16>().is_ok() => (status.parse().ok(), rest),
        _ => (None, line),
    };
    let member = |key: &str| scan::document(rest).ok().and(scan::find(rest, key)).map(|span| &rest[span]);
    match (member("result"), member("error"), rest, status) {
        (Some(result), ..) => Heard::Answer { status, outcome: Outcome::Result(result) },
        (None, Some(error), ..) => Heard::Answer { status, outcome: Outcome::Error(error) },
        (None, None, "ended", _) => Heard::Ended,
        (None, None, "unreachable", _) => Heard::Unreachable,
        (None, None, _, Some(status)) => Heard::Status(status),
        (None, None, _, None) => Heard::Silence,
    }
}

fn probed(transport: Transport, expected: Expected, answers: &[Heard]) {
    let mut probe = Probe::new(transport, expected);
    let mut questions = 1;
    for answer in answers {
        match probe.hear(*answer) {
            Next::Ask(question) | Next::Restart(question) => {
                assert_eq!(probe.question(), question);
                questions += 1;
            }
            Next::Login | Next::Away => (),
            Next::Modern { .. } => return assert_ne!(expected, Expected::Set(Era::Legacy)),
            Next::Legacy { .. } => return assert_ne!(expected, Expected::Set(Era::Modern)),
            Next::Failed(fault) => return assert!(!fault.message.is_empty()),
        }
        assert!(questions <= QUESTIONS_MAX, "{questions}");
    }
}
