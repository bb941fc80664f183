//! What servers ask of clients: who is asked, on which stream, and that no question is ever left without an answer.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use crate::routing::{begin_held, one, parsed, text_in};
use crate::support::peer::{behind, received_with, wait_received};
use crate::support::until;
use crate::support::wire::{ALL, Wire, call_params, note, request, result};
use serde_json::{Value, json};

/// A call whose server asks, with the id `theirs`, and answers with the line that it was answered.
fn asking(theirs: &str, method: &str) -> Value {
    let until = format!("\"id\":{theirs},");
    json!({"say": [request(theirs, method, r#"{"q":1}"#)], "until": until, "reply": "\"result\":{}"})
}

/// What the server was answered, out of the answer of an asking call.
pub fn told_server(answer: &str) -> Value {
    parsed(text_in(&parsed(answer)))
}

#[test]
fn a_server_asks_the_only_client_that_calls_it() {
    let (daemon, wire) = one();
    let idle = Wire::open(daemon.url());
    let (mut own_stream, mut idle_stream) = (wire.listen(None), idle.listen(None));
    for method in ["sampling/createMessage", "elicitation/create", "roots/list"] {
        let mut flow = wire.begin_call("1", "e__run", &asking("1", method));
        let asked = flow.value();
        assert_eq!((&asked["method"], &asked["params"]), (&json!(method), &json!({"q": 1})));
        let id = asked["id"].to_string();
        // Somebody else's answer, and answers under other ids, are nobody's.
        idle.tell(&result(&id, r#"{"who":"idle"}"#));
        wire.tell(&result(&json!(id).to_string(), r#"{"who":"text"}"#));
        wire.tell(&result("999999", "{}"));
        wire.tell(&result(&id, r#"{"who":"me"}"#));
        wire.tell(&result(&id, r#"{"who":"again"}"#));
        assert_eq!(told_server(&flow.next().unwrap())["result"], json!({"who": "me"}));
        assert_eq!(flow.next(), None);
    }
    // An error is as good an answer.
    let mut flow = wire.begin_call("1", "e__run", &asking("\"1\"", "elicitation/create"));
    let id = flow.value()["id"].to_string();
    wire.tell(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-1,"message":"no","data":1e400}}}}"#));
    let told = flow.next().unwrap();
    assert!(told.contains(r#"\"error\":{\"code\":-1,\"message\":\"no\",\"data\":1e400}"#), "{told}");
    // Nothing of it was on another stream.
    wire.delete();
    idle.delete();
    for line in own_stream.rest().iter().chain(&idle_stream.rest()) {
        assert!(line.contains("list_changed"), "{line}");
    }
}

/// Refused at once, with a reason: the call goes on.
fn check_refused(answer: &str, reason: &str) {
    let told = told_server(answer);
    let message = told["error"]["message"].as_str().unwrap_or_else(|| panic!("{told}"));
    assert!(message.contains(reason), "{message}");
}

#[test]
fn a_server_that_can_ask_nobody_is_told_at_once() {
    let (daemon, wire) = one();
    let ask = asking("1", "sampling/createMessage");
    // The client offers something else.
    let poor = Wire::open_as(daemon.url(), "2025-11-25", r#"{"roots":{}}"#);
    check_refused(&poor.call("1", "e__run", &ask), "does not offer sampling");
    // What no client ever offers.
    check_refused(&wire.call("1", "e__run", &asking("1", "example/unheard")), "not offered to servers");
    // The client takes nothing but one JSON answer, alone or in a batch.
    let plain = request("1", "tools/call", &call_params("e__run", &ask));
    check_refused(&wire.post_accepting("application/json", &plain).body, "takes nothing but the answer");
    let old = Wire::open_as(daemon.url(), "2025-03-26", ALL);
    let batch = old.post(&format!("[{plain}]")).body;
    check_refused(batch.trim_matches(['[', ']']), "takes nothing but the answer");
    // The REST API has nobody behind it, and its call is not that of the one client that calls just now.
    let mut other = begin_held(&daemon, "e", &wire, "e__run", "other");
    let rest = json!({"name": "e__run", "arguments": ask}).to_string();
    let json = [("content-type", "application/json")];
    let full = crate::support::http::request(daemon.address(), "POST", "/api/v1/tools/call", &json, &rest);
    check_refused(&format!("{{\"result\":{}}}", full.body), "nobody can be asked");
    // Two sessions call: whose is it?
    check_refused(&poor.call("2", "e__run", &ask), "nobody can be asked");
    poor.call("3", "e__run", &json!({"release": "other"}));
    assert_eq!(other.rest(), [result("\"other\"", "{}")]);
    // Nobody calls.
    let later = request("\"later\"", "sampling/createMessage", "{}");
    wire.call("4", "e__run", &json!({"then": [later]}));
    let told = wait_received(&daemon, "e", "{\"jsonrpc\":\"2.0\",\"id\":\"later\",", 1);
    assert!(told[0].contains("nobody can be asked"), "{told:?}");
    // A ping is ours to answer.
    let answer = wire.call("5", "e__run", &asking("\"p\"", "ping"));
    assert_eq!(told_server(&answer), json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
}

#[test]
fn a_client_that_goes_leaves_no_server_waiting() {
    let (daemon, wire) = one();
    let script = |theirs: &str, more: Value| {
        let mut script = json!({"say": [request(theirs, "elicitation/create", "{}")], "hold": theirs});
        script.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        script
    };
    let refused = |theirs: &str, count: usize| {
        let lines =
            wait_received(&daemon, "e", &format!("{{\"jsonrpc\":\"2.0\",\"id\":{theirs},\"error\":"), count);
        assert_eq!(lines.len(), count, "{lines:?}");
    };
    // It ends its session.
    let mut flow = wire.begin_call("1", "e__run", &script("1", json!({})));
    assert_eq!(flow.value()["method"], "elicitation/create");
    wire.delete();
    refused("1", 1);
    // It cancels its call.
    let wire = Wire::open(daemon.url());
    let mut flow = wire.begin_call("\"c\"", "e__run", &script("2", json!({})));
    let id = flow.value()["id"].to_string();
    wire.tell(&note("notifications/cancelled", r#"{"requestId":"c"}"#));
    refused("2", 1);
    wire.tell(&result(&id, "{}"));
    // The server answers without waiting for what it asked.
    let hasty = json!({"say": [request("3", "elicitation/create", "{}")], "reply": "\"result\":{}"});
    assert_eq!(wire.begin_call("3", "e__run", &hasty).rest().len(), 2);
    refused("3", 1);
    // More questions than a client that does not read can be told: each is answered all the same.
    let many: Vec<String> =
        (0..300).map(|n| request(&format!("\"m{n}\""), "elicitation/create", "{}")).collect();
    let rest = wire.begin_call("4", "e__run", &json!({"say": many, "reply": "\"result\":{}"})).rest();
    assert!(rest.last().is_some_and(|line| *line == result("4", "{}")), "{}", rest.len());
    refused("\"m299\"", 1);
    until("300 refusals", || {
        (received_with(&daemon, "e", "{\"jsonrpc\":\"2.0\",\"id\":\"m").len() == 300).then_some(())
    });
}

#[test]
fn a_client_that_does_not_read_cannot_be_asked() {
    let (daemon, wire) = one();
    let progress =
        note("notifications/progress", r#"{"progressToken":$TOKEN,"progress":1,"message":"$FILL"}"#);
    let mut script = asking("1", "elicitation/create");
    script["flood"] = json!([400, progress]);
    // Not a byte of it is read before the server has had its answer, which nobody but us can have given.
    let mut flow = wire.begin_call("1", "e__run", &script);
    wait_received(&daemon, "e", r#"{"jsonrpc":"2.0","id":1,"error":"#, 1);
    let heard = flow.rest();
    let (answer, before) = heard.split_last().unwrap();
    check_refused(answer, "does not read");
    assert!(before.iter().all(|line| line.contains("notifications/progress")));
    assert!((1..400).contains(&before.len()), "{} of 400 came, the rest had to be dropped", before.len());
}

#[test]
fn a_server_takes_its_question_back() {
    let (daemon, wire) = one();
    let script = json!({
        "say": [
            request("\"q\"", "elicitation/create", "{}"),
            note("notifications/cancelled", r#"{"requestId":"other"}"#),
            note("notifications/cancelled", r#"{"why":1e400,"requestId":"q","reason":"never mind"}"#),
        ],
        "hold": "q",
    });
    let mut flow = wire.begin_call("1", "e__run", &script);
    let id = flow.value()["id"].to_string();
    let taken = note(
        "notifications/cancelled",
        &format!(r#"{{"why":1e400,"requestId":{id},"reason":"never mind"}}"#),
    );
    assert_eq!(flow.next(), Some(taken));
    // An answer that crosses it is dropped.
    wire.tell(&result(&id, "{}"));
    wire.call("2", "e__run", &json!({"release": "q"}));
    assert_eq!(flow.rest().len(), 1);
    assert_eq!(received_with(&daemon, "e", "{\"jsonrpc\":\"2.0\",\"id\":\"q\""), Vec::<String>::new());
}

/// Questions may carry progress tokens of the server's own; those of two servers may be the same.
#[test]
fn a_clients_progress_reaches_the_server_that_asked() {
    let daemon = behind(&[("a", &[]), ("b", &[])]);
    let wire = Wire::open(daemon.url());
    let ask = request("1", "sampling/createMessage", r#"{"_meta":{"progressToken":0}}"#);
    let script = json!({"say": [ask], "until": "\"id\":1,", "reply": "\"result\":{}"});
    let mut flows = ["a", "b"]
        .map(|name| (name, wire.begin_call(&json!(name).to_string(), &format!("{name}__run"), &script)));
    for (name, flow) in &mut flows {
        let asked = flow.value();
        let (id, token) = (asked["id"].to_string(), asked["params"]["_meta"]["progressToken"].to_string());
        wire.tell(&note(
            "notifications/progress",
            &format!(r#"{{"progressToken":{token},"progress":1.0,"of":"{name}"}}"#),
        ));
        let told = wait_received(&daemon, name, "notifications/progress", 1);
        assert_eq!(
            told,
            [note(
                "notifications/progress",
                &format!(r#"{{"progressToken":0,"progress":1.0,"of":"{name}"}}"#)
            )]
        );
        wire.tell(&result(&id, "{}"));
        assert_eq!(told_server(&flow.next().unwrap())["result"], json!({}));
        // It is answered: later progress is nobody's.
        wire.tell(&note("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":2}}"#)));
    }
    for (name, _) in &flows {
        assert_eq!(received_with(&daemon, name, "notifications/progress").len(), 1, "{name}");
    }
}
