//! A server that asks for more with its answer, in the newer era: what it wants back comes back as it was, and with several
//! servers behind one endpoint only to it, for the same request.

use super::far::{Client, Far, Way, member};
use super::last;
use crate::support::daemon::Daemon;
use crate::support::peer::{behind_with, received_with};
use crate::support::wire::start;
use serde_json::json;

/// As a server may well write it.
const STATE: &str = r#""\u0000 s\u00e9\/ \ud83d\ude00 {\"a\":1} 9007199254740993""#;

fn reply() -> String {
    format!(
        r#""result":{{"resultType":"input_required","inputRequests":{{"a":{{"method":"elicitation/create","params":{{"v":1e400}}}}}},"requestState":{STATE},"x":-0}}"#
    )
}

#[test]
fn a_state_passes_untouched_on_a_mount_of_its_own() {
    for way in [Way::StdioModern, Way::HttpModern] {
        let far = Far::behind(way);
        let client = Client::of(&far, "modern");
        let answer = last(&mut client.call("1", &json!({ "reply": reply() }).to_string()));
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":1,{}}}"#, reply()), "{way:?}");
        let responses = r#"{"a":{"action":"accept","content":{"n":1.0}}}"#;
        let again = format!(
            r#""name":"run","arguments":{{"mark":"again"}},"inputResponses":{responses},"requestState":{STATE}"#
        );
        last(&mut client.ask("2", "tools/call", &again, ""));
        let params = member(&far.wait_received("\"mark\":\"again\"", 1)[0], "params");
        assert_eq!(
            (member(&params, "requestState"), member(&params, "inputResponses")),
            (STATE.to_owned(), responses.to_owned())
        );
    }
}

fn two() -> Daemon {
    let tools = r#"[{"name":"run","inputSchema":{"type":"object"}},{"name":"other","inputSchema":{"type":"object"}}]"#;
    let options: &[(&str, &str)] = &[("era", "modern"), ("tools", tools)];
    behind_with(&[("a", options), ("b", options)], |config| {
        for n in 0..2 {
            config["mcpServers"][n]["era"] = "modern".into();
        }
    })
}

#[test]
fn a_state_is_good_for_its_server_and_request_alone() {
    let daemon = two();
    let client = Client::at(daemon.url(), "modern");
    let call = |name: &str, more: &str| {
        let members = format!(r#""name":"{name}","arguments":{{"mark":"{name}"}}{more}"#);
        last(&mut client.ask("1", "tools/call", &members, ""))
    };
    let script = json!({ "reply": reply() });
    let answer =
        last(&mut client.ask("1", "tools/call", &format!(r#""name":"a__run","arguments":{script}"#), ""));
    let sealed = member(&member(&answer, "result"), "requestState");
    assert_ne!(sealed, STATE);
    let with = |state: &str| format!(",\"requestState\":{state}");
    let sent = |server: &str| received_with(&daemon, server, "\"requestState\"").len();
    // Another server, another tool, nobody's, what the server itself gave, and one with a letter changed.
    let mut tampered = sealed.clone();
    let digit = tampered.find('.').unwrap() + 1;
    let other = if tampered.as_bytes()[digit] == b'0' { "1" } else { "0" };
    tampered.replace_range(digit..=digit, other);
    for (name, state) in [
        ("b__run", sealed.as_str()),
        ("a__other", &sealed),
        ("a__run", "\"nobody's\""),
        ("a__run", STATE),
        ("a__run", "7"),
        ("a__run", &tampered),
        ("a__run", &sealed.replace("9007199254740993", "9007199254740994")),
    ] {
        let refused = call(name, &with(state));
        assert!(refused.contains("`requestState` cannot be used"), "{name} {state}: {refused}");
    }
    assert_eq!((sent("a"), sent("b")), (0, 0));
    let answered = call("a__run", &with(&sealed));
    assert!(answered.contains("\"result\""), "{}", start(&answered));
    let line = received_with(&daemon, "a", "\"requestState\"").remove(0);
    let said = |text: &str| serde_json::from_str::<String>(text).unwrap();
    assert_eq!(said(&member(&member(&line, "params"), "requestState")), said(STATE));
}
