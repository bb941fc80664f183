//! What servers ask in the middle of a call when their clients are of the other era: calls that are held until a modern
//! client comes again, and calls that are made again with what a legacy client says.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use crate::questions::told_server;
use crate::routing::{parsed, text_in};
use crate::support::daemon::Daemon;
use crate::support::http::{self, Body, Full};
use crate::support::peer::{behind, behind_with, received_with, wait_received};
use crate::support::until;
use crate::support::upstream::{Out, Seen, Upstream};
use crate::support::wire::{ALL, Wire, call_params, note, request, result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

/// A client of 2026-07-28: nothing is kept between its requests.
struct Modern<'a> {
    daemon: &'a Daemon,
    path: &'a str,
    capabilities: Value,
    /// Beside those that every request has.
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Modern<'a> {
    fn new(daemon: &'a Daemon, path: &'a str) -> Modern<'a> {
        let capabilities = serde_json::from_str(ALL).unwrap();
        Modern { daemon, path, capabilities, headers: Vec::new() }
    }

    fn encoded(&self, method: &str, params: &Value) -> Vec<u8> {
        let mut params = params.clone();
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default().to_owned();
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
            ("mcp-name", &name),
            ("connection", "close"),
        ];
        headers.retain(|(name, _)| !self.headers.iter().any(|(own, _)| own == name));
        headers.extend(&self.headers);
        let body = json!({"jsonrpc": "2.0", "id": "é", "method": method, "params": params}).to_string();
        http::encode(self.daemon.address(), "POST", self.path, &headers, &body)
    }

    /// A request that is on its way.
    fn begin(&self, method: &str, params: &Value) -> TcpStream {
        let mut stream = http::connect(self.daemon.address());
        stream.write_all(&self.encoded(method, params)).unwrap();
        stream
    }

    fn ask(&self, method: &str, params: &Value) -> (u16, Value) {
        answer(self.begin(method, params))
    }

    fn call(&self, params: &Value) -> Value {
        self.ask("tools/call", params).1
    }

    /// A call that is answered with questions: the params of the next request, but for the answers, and the questions.
    fn asked(&self, method: &str, params: &Value) -> (Value, Value) {
        let (status, mut answer) = self.ask(method, params);
        assert_eq!(status, 200, "{answer}");
        again(params, &mut answer)
    }
}

/// The messages of an answer of either kind, and its status.
fn messages(stream: TcpStream) -> (u16, Vec<Value>) {
    let mut body = Body::read(BufReader::new(stream)).unwrap();
    let mut text = String::new();
    body.read_to_string(&mut text).unwrap();
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}"));
    let events: Vec<Value> = text.lines().filter_map(|line| line.strip_prefix("data: ")).map(read).collect();
    (body.head.status, if events.is_empty() { vec![read(&text)] } else { events })
}

/// The last of them.
fn answer(stream: TcpStream) -> (u16, Value) {
    let (status, mut messages) = messages(stream);
    let answer = messages.pop().unwrap();
    assert_eq!(answer["id"], "é", "{answer}");
    (status, answer)
}

fn again(params: &Value, answer: &mut Value) -> (Value, Value) {
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    let mut next = params.clone();
    next["requestState"] = answer["result"]["requestState"].take();
    assert!(next["requestState"].is_string());
    (next, answer["result"]["inputRequests"].take())
}

fn with(params: &Value, answers: Value) -> Value {
    let mut params = params.clone();
    params["inputResponses"] = answers;
    params
}

/// A call whose server asks these one after the other, with the ids 1, 2, …; it answers with the last line that it was
/// answered.
fn asking(tool: &str, methods: &[&str]) -> Value {
    asking_from(1, tool, methods)
}

/// The same with other ids.
fn asking_from(first: usize, tool: &str, methods: &[&str]) -> Value {
    let one = |(at, method): (usize, &&str)| {
        let id = (first + at).to_string();
        json!([
            request(&id, method, r#"{"q":1.50,"_meta":{"progressToken":7,"x/y":1}}"#),
            format!("\"id\":{id},")
        ])
    };
    let questions: Vec<Value> = methods.iter().enumerate().map(one).collect();
    json!({"name": tool, "arguments": {"ask": questions}})
}

fn refused(answer: &Value, why: &str) {
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("requestState") && message.contains(why), "{message}");
}

const MOUNTS: [(&str, &str); 2] = [("/mcp", "e__run"), ("/mcp/s/e", "run")];

#[test]
fn a_legacy_server_asks_a_modern_client() {
    let daemon = behind(&[("e", &[])]);
    for (path, tool) in MOUNTS {
        let client = Modern::new(&daemon, path);
        for (method, name) in [
            ("sampling/createMessage", "sampling"),
            ("elicitation/create", "elicitation"),
            ("roots/list", "roots"),
        ] {
            let (next, asked) = client.asked("tools/call", &asking(tool, &[method]));
            let key = format!("{name}-1");
            let question = json!({"method": method, "params": {"q": 1.50, "_meta": {"x/y": 1}}});
            assert_eq!(asked, json!({&key: question}));
            let answer =
                client.call(&with(&next, json!({&key: {"who": "me", "resultType": "complete"}, "x": 1})));
            assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
            assert_eq!(told_server(&answer.to_string())["result"], json!({"who": "me"}));
            refused(&client.call(&next), "its call is over");
        }
    }
    // Prompts and resources ask as well, and a client that takes no stream is asked no less.
    let mut client = Modern::new(&daemon, "/mcp/s/e");
    client.headers = vec![("accept", "application/json")];
    for method in ["prompts/get", "resources/read"] {
        let mut params = asking("run", &["elicitation/create"]);
        params["uri"] = json!("x://1");
        if method == "resources/read" {
            params.as_object_mut().unwrap().remove("name");
        }
        let (next, _) = client.asked(method, &params);
        let (_, answer) = client.ask(method, &with(&next, json!({"elicitation-1": {"action": "decline"}})));
        assert_eq!(told_server(&answer.to_string())["result"]["action"], "decline");
    }
}

#[test]
fn several_rounds_and_what_is_missing() {
    let daemon = behind(&[("e", &[])]);
    let client = Modern::new(&daemon, "/mcp");
    let params = asking("e__run", &["roots/list", "elicitation/create", "roots/list"]);
    let (first, _) = client.asked("tools/call", &params);
    // Nothing, the wrong thing and no object: it is asked again.
    let (first, asked) = client.asked("tools/call", &first);
    let (first, _) = client.asked("tools/call", &with(&first, json!({"x": {}, "roots-1": 7})));
    assert!(asked["roots-1"].is_object(), "{asked}");
    let (second, asked) = client.asked("tools/call", &with(&first, json!({"roots-1": {"roots": []}})));
    assert_eq!(asked["elicitation-1"]["method"], "elicitation/create");
    assert_ne!(second["requestState"], first["requestState"]);
    refused(&client.call(&with(&first, json!({"roots-1": {"roots": []}}))), "it was used before");
    let (third, _) =
        client.asked("tools/call", &with(&second, json!({"elicitation-1": {"action": "accept"}})));
    let answer = client.call(&with(&third, json!({"roots-1": {"roots": [1]}})));
    assert_eq!(told_server(&answer.to_string())["result"], json!({"roots": [1]}));
    // It may be asked often, but not for ever.
    let (mut next, _) = client.asked("tools/call", &params);
    let mut rounds = 1;
    let answer = loop {
        let mut answer = client.call(&next);
        if answer["result"]["resultType"] != "input_required" {
            break answer;
        }
        rounds += 1;
        next = again(&params, &mut answer).0;
    };
    assert!((8..64).contains(&rounds), "{rounds}");
    // The server hears that, and goes on.
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    assert_eq!(received_with(&daemon, "e", "was asked too often").len(), 3);
}

#[test]
fn a_client_is_asked_only_what_it_declares() {
    let daemon = behind(&[("e", &[])]);
    let mut client = Modern::new(&daemon, "/mcp/s/e");
    client.capabilities = json!({"sampling": {}});
    // All at once: what it does not offer is refused with what it answers.
    let say = [("1", "elicitation/create"), ("2", "sampling/createMessage"), ("3", "roots/list")]
        .map(|(id, method)| request(id, method, "{}"));
    let script = json!({"say": say, "until": "\"id\":2,"});
    let (next, asked) = client.asked("tools/call", &json!({"name": "run", "arguments": script}));
    assert_eq!(asked, json!({"sampling-2": {"method": "sampling/createMessage", "params": {}}}));
    client.call(&with(&next, json!({"sampling-2": {"role": "assistant"}})));
    for id in ["1", "3"] {
        let told = wait_received(&daemon, "e", &format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":"), 1);
        assert!(told[0].contains("does not offer"), "{told:?}");
    }
    // Nothing but that: the server is told at once. If it cannot do without, the client is told what it needs.
    let answer = client.call(&asking("run", &["roots/list"]));
    assert!(told_server(&answer.to_string())["error"]["message"].as_str().unwrap().contains("roots"));
    let ask = request("9", "elicitation/create", r#"{"mode":"url"}"#);
    let script = json!({"say": [ask], "until": "\"id\":9,", "fail": true});
    let (status, answer) = client.ask("tools/call", &json!({"name": "run", "arguments": script}));
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32021)), "{answer}");
    assert_eq!(answer["error"]["data"], json!({"requiredCapabilities": {"elicitation": {"url": {}}}}));
    // No result of these can ask.
    let (_, answer) = client.ask("completion/complete", &asking("run", &["sampling/createMessage"]));
    let told = told_server(&answer.to_string());
    assert!(told["error"]["message"].as_str().unwrap().contains("can be asked nothing"), "{told}");
}

#[test]
fn a_call_is_held_for_its_own_client() {
    let daemon = behind(&[("e", &[])]);
    let client = Modern::new(&daemon, "/mcp/s/e");
    let params = asking("run", &["elicitation/create"]);
    let (next, _) = client.asked("tools/call", &params);
    let answers = json!({"elicitation-1": {"action": "accept"}});
    let good = with(&next, answers);
    let changed = |key: &str, value: Value| {
        let mut params = good.clone();
        params[key] = value;
        params
    };
    let state = good["requestState"].as_str().unwrap();
    refused(&client.call(&changed("requestState", json!(format!("{state}0")))), "not given out here");
    refused(&client.call(&changed("requestState", json!("x"))), "not given out here");
    refused(&client.call(&changed("arguments", json!({"q": 1}))), "for another request");
    refused(&client.ask("prompts/get", &good).1, "for another request");
    let mut other = Modern::new(&daemon, "/mcp/s/e");
    other.headers = vec![("authorization", "Bearer somebody else")];
    refused(&other.call(&good), "to another client");
    // Another mount is another place.
    let mut elsewhere = good.clone();
    elsewhere["name"] = json!("e__run");
    refused(&Modern::new(&daemon, "/mcp").call(&elsewhere), "to another client");
    // However it is written, it is the same request; and after all of that the call is still there.
    assert_eq!(client.call(&good)["result"]["resultType"], "complete");
    assert_eq!(received_with(&daemon, "e", "tools/call").len(), 1);
}

#[test]
fn of_two_that_come_again_one_goes_on() {
    let daemon = behind(&[("e", &[])]);
    let client = Modern::new(&daemon, "/mcp/s/e");
    let mut params = asking("run", &["elicitation/create"]);
    // It waits for more than its answer.
    params["arguments"]["ask"][0][1] = json!("the other is told");
    let (next, _) = client.asked("tools/call", &params);
    let good = with(&next, json!({"elicitation-1": {"action": "accept"}}));
    let first = client.begin("tools/call", &good);
    wait_received(&daemon, "e", "\"action\":\"accept\"", 1);
    refused(&client.call(&good), "is being answered");
    client.call(&json!({"name": "run", "arguments": {"x": "the other is told"}}));
    assert_eq!(answer(first).1["result"]["resultType"], "complete");
    // A client that leaves while it waits has cancelled, as always.
    let (next, _) = client.asked("tools/call", &params);
    let good = with(&next, json!({"elicitation-1": {"action": "cancel"}}));
    let leaving = client.begin("tools/call", &good);
    wait_received(&daemon, "e", "\"action\":\"cancel\"", 1);
    drop(leaving);
    wait_received(&daemon, "e", "notifications/cancelled", 1);
    until("the call to be over", || {
        let answer = client.call(&good);
        answer["error"]["message"].as_str().unwrap().contains("its call is over").then_some(())
    });
}

#[test]
fn a_held_call_ends_with_its_life_or_with_the_daemon() {
    let mut daemon = behind(&[("e", &[])]);
    let client = Modern::new(&daemon, "/mcp/s/e");
    let (next, _) = client.asked("tools/call", &asking("run", &["elicitation/create"]));
    client.call(&json!({"name": "run", "arguments": {"exit": 3}}));
    let answers = json!({"elicitation-1": {"action": "accept"}});
    let answer = client.call(&with(&next, answers.clone()));
    assert_eq!(answer["error"]["data"]["kind"], "exited", "{answer}");
    refused(&client.call(&with(&next, answers)), "its call is over");
    // The next life knows nothing of it, and a call of it is taken from it when nobody will come.
    daemon.wait_ready(&["e"]);
    let client = Modern::new(&daemon, "/mcp/s/e");
    client.asked("tools/call", &asking("run", &["elicitation/create"]));
    daemon.stop();
    let told = received_with(&daemon, "e", "notifications/cancelled");
    assert!(told.len() == 1 && told[0].contains("did not come back"), "{told:?}");
}

#[test]
fn a_client_that_does_not_come_again_keeps_nobody_of_its_own_waiting() {
    let daemon = behind(&[("e", &[])]);
    let client = Modern::new(&daemon, "/mcp/s/e");
    // Each question under an id that no other line has.
    let params = |n: usize| asking_from(1000 + n, "run", &["elicitation/create"]);
    let (first, _) = client.asked("tools/call", &params(1));
    let (second, _) = client.asked("tools/call", &params(2));
    let wire = Wire::open(&daemon.server_url("e"));
    let params_3 = asking_from(1003, "run", &["roots/list"]).to_string();
    let mut flow = wire.begin(&request("1", "tools/call", &params_3));
    let asked = flow.value();
    wire.tell(&result(&asked["id"].to_string(), r#"{"roots":[]}"#));
    assert_eq!(told_server(&flow.next().unwrap())["result"], json!({"roots": []}));
    // Somebody else cannot be asked meanwhile: the server might mean the others.
    let mut other = Modern::new(&daemon, "/mcp/s/e");
    other.headers = vec![("authorization", "Bearer somebody else")];
    let told = told_server(&other.call(&params(4)).to_string());
    assert!(told["error"]["message"].as_str().unwrap().contains("nobody can be asked"), "{told}");
    for (next, who) in [(second, "b"), (first, "a")] {
        let answer = client.call(&with(&next, json!({"elicitation-1": {"action": who}})));
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    }
    assert!(other.asked("tools/call", &params(5)).1.is_object());
}

/// Progress comes to the request that is open, under its own token.
#[test]
fn progress_goes_with_the_request_that_is_open() {
    let daemon = behind(&[("e", &[])]);
    let client = Modern::new(&daemon, "/mcp/s/e");
    let progress =
        |n: u32| note("notifications/progress", &format!(r#"{{"progressToken":$TOKEN,"progress":{n}}}"#));
    let mut params = asking("run", &["elicitation/create"]);
    params["_meta"]["progressToken"] = json!("first");
    let questions = params["arguments"]["ask"].as_array_mut().unwrap();
    questions.insert(1, json!([progress(2), "go on"]));
    questions.insert(0, json!([progress(1), "begin"]));
    let first = client.begin("tools/call", &params);
    wait_received(&daemon, "e", "tools/call", 1);
    // News of a client is no call, and so nobody who could be asked.
    let wire = Wire::open(&daemon.server_url("e"));
    wire.tell(&note("x/begin", "{}"));
    let mut heard = messages(first).1;
    assert_eq!((heard.len(), &heard[0]["params"]["progressToken"]), (2, &json!("first")), "{heard:?}");
    let (mut next, _) = again(&params, &mut heard[1]);
    next["_meta"]["progressToken"] = json!(2);
    let second = client.begin("tools/call", &with(&next, json!({"elicitation-1": {"action": "accept"}})));
    wait_received(&daemon, "e", "\"action\":\"accept\"", 1);
    wire.tell(&note("x/go on", "{}"));
    let heard = messages(second).1;
    assert_eq!((heard.len(), &heard[0]["params"]["progressToken"]), (2, &json!(2)), "{heard:?}");
    assert_eq!(heard[1]["result"]["resultType"], "complete");
}

/// Two calls at once of a server that says on which stream it asks.
#[test]
fn a_remote_server_asks_on_the_stream_of_its_call() {
    // What is asked of the calls, and the streams on which they are answered.
    let open: Mutex<BTreeMap<String, (Value, Out)>> = Mutex::default();
    let upstream = Upstream::start(move |seen: &Seen, out: &mut Out| {
        let message = seen.message();
        let respond = |result: Value| json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        match message["method"].as_str() {
            _ if seen.method != "POST" => out.answer(405, &[], ""),
            Some("initialize") => out.json(
                &[],
                &respond(json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "r", "version": "0"}})),
            ),
            Some("tools/list") => {
                out.json(&[], &respond(json!({"tools": [{"name": "run", "inputSchema": {}}]})))
            }
            Some("tools/call") => {
                out.events(&[]);
                let name = message["params"]["arguments"]["who"].as_str().unwrap().to_owned();
                let question = json!({"message": name});
                out.event(&json!({"jsonrpc": "2.0", "id": name, "method": "elicitation/create", "params": question}));
                open.lock().unwrap().insert(name, (message["id"].clone(), out.later()));
            }
            Some(_) => out.answer(202, &[], ""),
            None => {
                out.answer(202, &[], "");
                let who = message["id"].as_str().unwrap();
                let (id, mut call) = open.lock().unwrap().remove(who).unwrap();
                let text = format!("{who}: {}", message["result"]["content"]["a"]);
                let result = json!({"content": [{"type": "text", "text": text}]});
                call.event(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
            }
        }
    });
    let entry = json!({"url": upstream.url(), "protocol": "http", "era": "legacy", "client_features": ["elicitation"]});
    let daemon = Daemon::start(&json!({"mcpServers": {"e": entry}}), &[]);
    daemon.wait_ready(&["e"]);
    let client = Modern::new(&daemon, "/mcp");
    let params = |who: &str| json!({"name": "e__run", "arguments": {"who": who}});
    let held = ["one", "two", "three"].map(|who| (who, client.asked("tools/call", &params(who))));
    let wire = Wire::open(daemon.url());
    let mut flow = wire.begin(&request("1", "tools/call", &params("four").to_string()));
    let asked = flow.value();
    assert_eq!(asked["params"]["message"], "four");
    for (who, (next, asked)) in held.iter().rev() {
        assert_eq!(asked["elicitation-1"]["params"]["message"], *who);
        let answer = client.call(&with(next, json!({"elicitation-1": {"content": {"a": who}}})));
        assert_eq!(answer["result"]["content"][0]["text"], format!("{who}: \"{who}\""));
    }
    wire.tell(&result(&asked["id"].to_string(), r#"{"content":{"a":4}}"#));
    assert_eq!(text_in(&flow.value()), "four: 4");
}

const DISCOVERED: &str = concat!(
    r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"#,
    r#""ttlMs":0,"cacheScope":"private"}"#
);

/// A server of the modern era alone.
fn modern() -> Daemon {
    behind_with(&[("e", &[("reply.server/discover", DISCOVERED)])], |config| {
        config["mcpServers"][0]["era"] = json!("modern");
    })
}

fn unfinished(requests: &str, state: &str) -> String {
    format!(r#""result":{{"resultType":"input_required","inputRequests":{requests},"requestState":{state}}}"#)
}

const NAME: &str = r#"{"name?":{"method":"elicitation/create","params":{"message":"m","n":1.500}}}"#;

/// The params of a call, as the server was sent them in its last round.
fn last_round(answer: &str) -> String {
    text_in(&parsed(answer)).to_owned()
}

#[test]
fn a_modern_server_asks_a_legacy_client() {
    let daemon = modern();
    for (url, tool) in [(daemon.url().to_owned(), "e__run"), (daemon.server_url("e"), "run")] {
        let wire = Wire::open(&url);
        let all = r#"{"a":{"method":"roots/list"},"b":{"method":"sampling/createMessage","params":{"maxTokens":1}}}"#;
        let rounds = json!({"": unfinished(NAME, r#""\u0073 1""#), "s 1": unfinished(all, "\"s2\"")});
        let mut flow = wire.begin_call("\"id\"", tool, &json!({"rounds": rounds}));
        let asked = flow.next().unwrap();
        assert!(
            asked.contains(r#""method":"elicitation/create","params":{"message":"m","n":1.500}"#),
            "{asked}"
        );
        let id = |asked: &str| parsed(asked)["id"].to_string();
        wire.tell(&result(&id(&asked), r#"{"action":"accept","content":{"x":1.50}}"#));
        let (roots, sampling) = (flow.next().unwrap(), flow.next().unwrap());
        assert!(roots.contains("roots/list") && sampling.contains(r#""params":{"maxTokens":1}"#));
        wire.tell(&result(&id(&sampling), r#"{"role":"assistant"}"#));
        wire.tell(&result(&id(&roots), r#"{"roots":[]}"#));
        let answer = flow.next().unwrap();
        assert_eq!(parsed(&answer)["id"], "id", "{answer}");
        let last = last_round(&answer);
        assert!(
            last.contains(
                r#""inputResponses":{"a":{"roots":[]},"b":{"role":"assistant"}},"requestState":"s2""#
            ),
            "{last}"
        );
        // What was declared, and the round before, with the bytes of both sides.
        let sent = received_with(&daemon, "e", r#""requestState":"\u0073 1""#);
        let sent = sent.last().unwrap();
        assert!(
            sent.contains(r#""inputResponses":{"name?":{"action":"accept","content":{"x":1.50}}}"#),
            "{sent}"
        );
        assert!(
            sent.contains(r#"/clientCapabilities":{"sampling":{},"elicitation":{},"roots":{}}"#),
            "{sent}"
        );
        assert!(sent.contains("\"name\":\"run\""), "{sent}");
        // Each round is another request, with a progress token of its own.
        let calls = received_with(&daemon, "e", "tools/call");
        let calls = calls[calls.len() - 3..].iter().map(|line| parsed(line));
        let ids: Vec<Value> = calls
            .map(|call| {
                assert_eq!(call["id"], call["params"]["_meta"]["progressToken"]);
                call["id"].clone()
            })
            .collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    }
}

#[test]
fn a_modern_server_that_only_wants_to_be_asked_again() {
    let daemon = modern();
    let wire = Wire::open(daemon.url());
    let later =
        |state: &str| format!(r#""result":{{"resultType":"input_required","requestState":"{state}"}}"#);
    let answer = wire.call("1", "e__run", &json!({"rounds": {"": later("x"), "x": later("y")}}));
    let last = last_round(&answer);
    assert!(last.contains(r#""requestState":"y""#) && !last.contains("inputResponses"), "{last}");
    // Not for ever.
    let answer = wire.call("2", "e__run", &json!({"rounds": {"": later("x"), "x": later("x")}}));
    assert_eq!(parsed(&answer)["error"]["data"]["kind"], "not_bridgeable", "{answer}");
    assert!(answer.contains("it has asked 16 times"), "{answer}");
}

#[test]
fn a_legacy_client_that_cannot_be_asked() {
    let daemon = modern();
    let script = json!({"rounds": {"": unfinished(NAME, "\"s\"")}});
    let check = |answer: &str, why: &str| {
        let error = &parsed(answer)["error"];
        assert_eq!(error["data"]["kind"], "not_bridgeable", "{answer}");
        assert!(error["message"].as_str().unwrap().contains(why), "{answer}");
    };
    let poor = Wire::open_as(daemon.url(), "2025-11-25", r#"{"roots":{}}"#);
    check(&poor.call("1", "e__run", &script), "does not offer what `elicitation/create` needs");
    // One JSON answer is all that it takes, alone, in a batch, or of the REST API: nothing is declared.
    let wire = Wire::open(daemon.url());
    let plain = request("1", "tools/call", &call_params("e__run", &script));
    check(&wire.post_accepting("application/json", &plain).body, "takes no event stream");
    let old = Wire::open_as(daemon.url(), "2025-03-26", ALL);
    check(old.post(&format!("[{plain}]")).body.trim_matches(['[', ']']), "takes no event stream");
    let rest = json!({"name": "e__run", "arguments": script}).to_string();
    let json = [("content-type", "application/json")];
    let full: Full = http::request(daemon.address(), "POST", "/api/v1/tools/call", &json, &rest);
    assert!(full.body.contains("not_bridgeable"), "{full:?}");
    let declared = received_with(&daemon, "e", "/clientCapabilities\":{}");
    assert_eq!(declared.iter().filter(|line| line.contains("tools/call")).count(), 3, "{declared:?}");
    // It will not say: the call is over, and what else was asked is taken back.
    let both = r#"{"a":{"method":"elicitation/create","params":{}},"b":{"method":"roots/list"}}"#;
    let mut flow = wire.begin_call("3", "e__run", &json!({"rounds": {"": unfinished(both, "\"s\"")}}));
    let (first, second) = (flow.value(), flow.value());
    wire.tell(&format!(
        r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-1,"message":"never"}}}}"#,
        first["id"]
    ));
    let taken = flow.value();
    assert_eq!(
        (&taken["method"], &taken["params"]["requestId"]),
        (&json!("notifications/cancelled"), &second["id"])
    );
    check(&flow.next().unwrap(), "refuses `elicitation/create`: never");
    // Questions that are none.
    for (requests, why) in [
        (r#"{"a":{"method":"tools/call"}}"#, "no client can be asked for `tools/call`"),
        ("7", "its questions are no object"),
    ] {
        let script = json!({"rounds": {"": unfinished(requests, "\"s\"")}});
        check(&wire.call("4", "e__run", &script), why);
    }
}

#[test]
fn a_legacy_client_that_goes_while_it_is_asked() {
    let daemon = modern();
    let wire = Wire::open(daemon.url());
    let script = json!({"rounds": {"": unfinished(NAME, "\"s\"")}});
    let mut flow = wire.begin_call("\"c\"", "e__run", &script);
    let asked = flow.value();
    wire.tell(&note("notifications/cancelled", r#"{"requestId":"c"}"#));
    let answer = flow.value();
    assert_eq!(answer["error"]["data"]["kind"], "cancelled", "{answer}");
    wire.tell(&result(&asked["id"].to_string(), "{}"));
    // The end of its session ends it, too.
    let mut flow = wire.begin_call("1", "e__run", &script);
    flow.value();
    wire.delete();
    assert_eq!(flow.value()["error"]["data"]["kind"], "cancelled");
    // Its server dies in between, which it may: the next life is asked.
    let wire = Wire::open(daemon.url());
    let mut flow = wire.begin_call("1", "e__run", &script);
    let asked = flow.value();
    wire.call("2", "e__run", &json!({"exit": 1}));
    wait_received(&daemon, "e", "tools/list", 2);
    daemon.wait_ready(&["e"]);
    wire.tell(&result(&asked["id"].to_string(), r#"{"action":"accept"}"#));
    assert!(last_round(&flow.next().unwrap()).contains(r#""name?":{"action":"accept"}"#));
    assert_eq!(
        received_with(&daemon, "e", "\"requestState\":").len(),
        1,
        "no call that was over was made again"
    );
}
