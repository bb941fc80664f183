//! Who hears what: progress and logs, cancellations, subscriptions, levels, the lists of the aggregate, streams that
//! were lost, and batches. A scripted server says each thing; raw clients listen.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and read the clock"
)]

use crate::questions::told_server;
use crate::support::daemon::Daemon;
use crate::support::peer::{behind, received, received_with, wait_received};
use crate::support::until;
use crate::support::wire::{ALL, Flow, Wire, call_params, note, request, result, start};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {}", start(text)))
}

pub fn text_in(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// Begins a call and waits until the server has it; `key` is anything that no other call has.
pub fn begin_held(daemon: &Daemon, server: &str, wire: &Wire, tool: &str, key: &str) -> Flow {
    let flow =
        wire.begin_call(&json!(key).to_string(), tool, &json!({"hold": key, "reply": "\"result\":{}"}));
    wait_received(daemon, server, &format!("\"hold\":\"{key}\""), 1);
    flow
}

pub fn one() -> (Daemon, Wire) {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(daemon.url());
    (daemon, wire)
}

#[test]
fn progress_goes_to_its_own_call_only() {
    let (daemon, wire) = one();
    let other = Wire::open(daemon.url());
    let mut listening = other.listen(None);
    // The same token in two sessions at once.
    let mut first = begin_held(&daemon, "e", &wire, "e__run", "first");
    let mut second = begin_held(&daemon, "e", &other, "e__run", "second");
    let id_of =
        |key: &str| parsed(&received_with(&daemon, "e", &format!("\"hold\":\"{key}\""))[0])["id"].to_string();
    let progress = |token: &str, n: u32| {
        note("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":{n}}}"#))
    };
    let third = Wire::open(daemon.url());
    let script = json!({
        "say": [
            progress(&id_of("first"), 1), progress(&id_of("second"), 2), progress("99999", 3), progress("\"7\"", 4),
            progress("7.0", 5), progress("null", 6), note("notifications/progress", "{}"), progress(&id_of("first"), 7),
        ],
        "reply": "\"result\":{}",
        // After the answer, and for a call that asked for none.
        "then": [progress("$ID", 8), progress("$TOKEN", 9)],
    });
    let bare = third.ask("1", "tools/call", &format!(r#"{{"name":"e__run","arguments":{script}}}"#));
    assert_eq!(bare, result("1", "{}"));
    third.call("2", "e__run", &json!({"release": "first"}));
    third.call("3", "e__run", &json!({"release": "second"}));
    let own = |n| progress("7", n);
    assert_eq!(first.rest(), [own(1), own(7), result("\"first\"", "{}")]);
    assert_eq!(second.rest(), [own(2), result("\"second\"", "{}")]);
    other.delete();
    let heard = listening.rest();
    assert!(heard.iter().all(|line| line.contains("list_changed")), "{heard:?}");
}

#[test]
fn tokens_of_any_kind_and_none() {
    let (_daemon, wire) = one();
    for token in ["0", "-1", "9007199254740993", "\"\"", r#""\ud800""#, "\"é\u{2028}\""] {
        let params = format!(
            r#"{{"name":"e__run","arguments":{{"say":["{}"],"reply":"\"result\":{{}}"}},"_meta":{{"progressToken":{token}}}}}"#,
            r#"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":$TOKEN,\"progress\":1}}"#,
        );
        let heard = wire.begin(&request("1", "tools/call", &params)).rest();
        let progress =
            note("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":1}}"#));
        assert_eq!(heard, [progress, result("1", "{}")], "{token}");
    }
}

fn log_line(level: &str, data: &str) -> String {
    note("notifications/message", &format!(r#"{{"level":"{level}","data":"{data}"}}"#))
}

#[test]
fn each_session_hears_logs_from_its_own_level_on() {
    let daemon = behind(&[("e", &[])]);
    let url = daemon.server_url("e");
    let (quiet, loud, talker) = (Wire::open(&url), Wire::open(&url), Wire::open(&url));
    let set = |wire: &Wire, level: &str| {
        let answer = wire.ask("1", "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
        assert_eq!(answer, result("1", "{}"));
    };
    set(&quiet, "error");
    set(&loud, "debug");
    set(&talker, "emergency");
    // The server is told the lowest that anybody wants.
    let told = wait_received(&daemon, "e", "logging/setLevel", 3);
    let levels: Vec<Value> = told.iter().map(|line| parsed(line)["params"]["level"].clone()).collect();
    assert_eq!(levels, [json!("error"), json!("debug"), json!("debug")]);
    assert!(quiet.ask("2", "logging/setLevel", r#"{"level":"shout"}"#).contains("-32602"));
    // With a single caller in flight a log is that call's, and only if its client wants it.
    let logs = |name: &str| ["debug", "info", "error", "emergency"].map(|level| log_line(level, name));
    let call = |wire: &Wire| {
        let script = json!({"say": logs("call"), "reply": "\"result\":{}"});
        wire.begin_call("1", "run", &script).rest()
    };
    assert_eq!(call(&quiet)[..], [&logs("call")[2..], &[result("1", "{}")]].concat());
    assert_eq!(call(&loud)[..], [&logs("call")[..], &[result("1", "{}")]].concat());
    // With nobody in flight all who listen hear it, from their levels on.
    let (mut quiet_hears, mut loud_hears) = (quiet.listen(None), loud.listen(None));
    let script = json!({"reply": "\"result\":{}", "then": logs("idle")});
    talker.call("3", "run", &script);
    let next = |flow: &mut Flow| {
        std::iter::from_fn(|| flow.next()).find(|line| !line.contains("list_changed")).unwrap()
    };
    for expected in &logs("idle")[2..] {
        assert_eq!(next(&mut quiet_hears), *expected);
    }
    for expected in &logs("idle") {
        assert_eq!(next(&mut loud_hears), *expected);
    }
    // A new life is told again.
    assert_eq!(daemon.cli(&["upstream", "restart", "e", "--wait=30s"]).code, 0);
    let told = wait_received(&daemon, "e", "logging/setLevel", 4);
    assert_eq!(parsed(&told[3])["params"]["level"], "debug");
}

/// What the server was told of cancellations: the reasons.
fn cancellations(daemon: &Daemon) -> Vec<Value> {
    let lines = received_with(daemon, "e", "\"notifications/cancelled\"");
    lines.iter().map(|line| parsed(line)["params"].clone()).collect()
}

#[test]
fn a_closed_connection_is_no_cancellation() {
    let (daemon, wire) = one();
    drop(begin_held(&daemon, "e", &wire, "e__run", "left"));
    daemon.wait_until("the call to be given up", |status| status["servers"][0]["calls"] == 0);
    // Its late answer is nobody's.
    let answer = parsed(&wire.call("\"left\"", "e__run", &json!({"release": "left"})));
    assert!(text_in(&answer).contains("\"release\":\"left\""), "{answer}");
    assert_eq!(cancellations(&daemon), Vec::<Value>::new());
}

#[test]
fn a_cancellation_is_told_exactly_once() {
    let (daemon, wire) = one();
    let other = Wire::open(daemon.url());
    let mut doomed = begin_held(&daemon, "e", &wire, "e__run", "doomed");
    let mut theirs = wire_begin_same(&daemon, &other);
    let own = parsed(&received_with(&daemon, "e", "\"hold\":\"doomed\"")[0])["id"].clone();
    let cancel = |id: &str| {
        note(
            "notifications/cancelled",
            &format!(r#"{{"requestId":{id},"reason":"I \ud800 changed\n my mind"}}"#),
        )
    };
    // Nobody's: unknown, of another type, our own id for it, and nonsense.
    for id in ["77", "0", "null", "[]", &own.to_string(), "\"Doomed\""] {
        wire.tell(&cancel(id));
    }
    wire.tell(&note("notifications/cancelled", "{}"));
    wire.tell(&cancel("\"doomed\""));
    wire.tell(&cancel("\"doomed\""));
    let answer = doomed.value();
    assert_eq!((&answer["id"], &answer["error"]["data"]["kind"]), (&json!("doomed"), &json!("cancelled")));
    wait_received(&daemon, "e", "notifications/cancelled", 1);
    // The server answers all the same: dropped. The same id of another session is another request.
    wire.call("1", "e__run", &json!({"release": "doomed"}));
    wire.call("2", "e__run", &json!({"release": "theirs"}));
    assert_eq!(theirs.rest(), [result("\"doomed\"", "{}")]);
    let told = received_with(&daemon, "e", "\"notifications/cancelled\"");
    let expected = format!(r#"{{"requestId":{own},"reason":"I \ud800 changed\n my mind"}}"#);
    assert_eq!(told, [note("notifications/cancelled", &expected)]);
}

fn wire_begin_same(daemon: &Daemon, other: &Wire) -> Flow {
    let flow = other.begin_call("\"doomed\"", "e__run", &json!({"hold": "theirs", "reply": "\"result\":{}"}));
    wait_received(daemon, "e", "\"hold\":\"theirs\"", 1);
    flow
}

#[test]
fn a_cancellation_that_races_the_answer_is_answered_once() {
    let (daemon, wire) = one();
    let releasing = Wire::open(daemon.url());
    let mut cancelled = 0;
    for n in 0..40 {
        let key = format!("race {n}");
        let mut flow = begin_held(&daemon, "e", &wire, "e__run", &key);
        let answers = std::thread::scope(|scope| {
            scope.spawn(|| releasing.call("1", "e__run", &json!({"release": key})));
            wire.tell(&note("notifications/cancelled", &json!({"requestId": key}).to_string()));
            flow.rest()
        });
        assert_eq!(answers.len(), 1, "{answers:?}");
        cancelled += usize::from(parsed(&answers[0]).get("error").is_some());
    }
    assert_eq!(cancellations(&daemon).len(), cancelled);
    assert_eq!(daemon.status()["servers"][0]["calls"], 0);
}

const RESOURCES: &str = r#"[{"uri":"x://1","name":"one"},{"uri":"x://2","name":"two"}]"#;

#[test]
fn subscriptions_are_counted_over_sessions() {
    let daemon = behind(&[("e", &[("resources", RESOURCES)])]);
    let (own, all) = (Wire::open(&daemon.server_url("e")), Wire::open(daemon.url()));
    let neither = Wire::open(daemon.url());
    until("the resources to be known", || {
        all.ask("0", "resources/list", "{}").contains("x://1").then_some(())
    });
    let ask = |wire: &Wire, verb: &str, uri: &str| {
        let answer = wire.ask("1", &format!("resources/{verb}"), &format!(r#"{{"uri":"{uri}"}}"#));
        assert_eq!(answer, result("1", "{}"));
    };
    let sent = |verb: &str| received_with(&daemon, "e", &format!("\"resources/{verb}\"")).len();
    ask(&own, "subscribe", "x://1");
    ask(&own, "subscribe", "x://1");
    ask(&all, "subscribe", "x://1");
    ask(&all, "subscribe", "x://2");
    // Saying it twice is one client's own affair; another client costs the server nothing.
    assert!(sent("subscribe") <= 3, "{:?}", received(&daemon, "e"));
    // An update is heard by those who asked for it.
    let mut streams = [own.listen(None), all.listen(None), neither.listen(None)];
    let updated = |n: u32| {
        note("notifications/resources/updated", &format!(r#"{{"uri":"x://{n}","title":"t","v":1.0}}"#))
    };
    own.call("2", "run", &json!({"then": [updated(1), updated(2), updated(3)]}));
    let next =
        |flow: &mut Flow| std::iter::from_fn(|| flow.next()).find(|line| line.contains("/updated")).unwrap();
    assert_eq!(next(&mut streams[0]), updated(1));
    assert_eq!([next(&mut streams[1]), next(&mut streams[1])], [updated(1), updated(2)]);
    // A new life is told what the old one knew.
    let before = sent("subscribe");
    assert_eq!(daemon.cli(&["upstream", "restart", "e", "--wait=30s"]).code, 0);
    until("both to be subscribed again", || (sent("subscribe") == before + 2).then_some(()));
    // The last one to leave closes the door, by word or by ending its session.
    ask(&own, "unsubscribe", "x://1");
    assert_eq!(sent("unsubscribe"), 0);
    ask(&all, "unsubscribe", "x://2");
    assert_eq!(sent("unsubscribe"), 1);
    all.delete();
    wait_received(&daemon, "e", "\"resources/unsubscribe\"", 2);
    neither.delete();
    own.delete();
    for stream in &mut streams {
        assert!(stream.rest().iter().all(|line| !line.contains("updated")));
    }
}

#[test]
fn a_subscription_that_the_server_refuses_is_none() {
    let refusal = r#""error":{"code":-32002,"message":"no such thing"}"#;
    let daemon = behind(&[("e", &[("resources", RESOURCES), ("reply.resources/subscribe", refusal)])]);
    let url = daemon.server_url("e");
    for _ in 0..2 {
        let wire = Wire::open(&url);
        for _ in 0..2 {
            let answer = wire.ask("1", "resources/subscribe", r#"{"uri":"x://1"}"#);
            assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":1,{refusal}}}"#));
        }
        let mut stream = wire.listen(None);
        wire.call(
            "2",
            "run",
            &json!({"then": [note("notifications/resources/updated", r#"{"uri":"x://1"}"#)]}),
        );
        wire.call("3", "run", &json!({}));
        wire.delete();
        assert!(stream.rest().iter().all(|line| !line.contains("updated")));
    }
}

#[test]
fn the_aggregate_finds_the_server_of_each_name_and_uri() {
    let daemon = behind(&[
        (
            "a",
            &[
                ("prompts", r#"[{"name":"p","later":1.0}]"#),
                ("resources", r#"[{"uri":"x://both","from":"a"},{"uri":"a://1"}]"#),
                ("templates", r#"[{"uriTemplate":"a://t/{id}"}]"#),
            ],
        ),
        (
            "b",
            &[
                ("prompts", r#"[{"name":"p"},{"name":"q"}]"#),
                ("resources", r#"[{"uri":"x://both","from":"b"},{"uri":"b://1"}]"#),
                ("templates", r#"[{"uriTemplate":"b://{+path}"}]"#),
            ],
        ),
    ]);
    let wire = Wire::open(daemon.url());
    let list = |method: &str| wire.ask("1", method, "{}");
    until("b's last list", || list("resources/templates/list").contains("b://{+path}").then_some(()));
    assert_eq!(
        list("prompts/list"),
        result("1", r#"{"prompts":[{"name":"a__p","later":1.0},{"name":"b__p"},{"name":"b__q"}]}"#)
    );
    assert_eq!(
        list("resources/list"),
        result("1", r#"{"resources":[{"uri":"x://both","from":"a"},{"uri":"a://1"},{"uri":"b://1"}]}"#)
    );
    let check = |method: &str, sent: &str, server: &str, arrives: &str| {
        let with_arguments =
            |params: &str| params.replacen('{', r#"{"arguments":{"reply":"\"result\":{}"},"#, 1);
        assert_eq!(wire.ask("1", method, &with_arguments(sent)), result("1", "{}"), "{sent}");
        let lines = received_with(&daemon, server, &with_arguments(arrives));
        assert!(
            lines.last().is_some_and(|line| line.contains(method)),
            "{sent}: {:?}",
            received(&daemon, server)
        );
    };
    check("prompts/get", r#"{"name":"a__p"}"#, "a", r#"{"name":"p"}"#);
    check("prompts/get", r#"{"name":"b__p"}"#, "b", r#"{"name":"p"}"#);
    check("resources/read", r#"{"uri":"x://both"}"#, "a", r#"{"uri":"x://both"}"#);
    check("resources/read", r#"{"uri":"b:\/\/1"}"#, "b", r#"{"uri":"b:\/\/1"}"#);
    check("resources/read", r#"{"uri":"a://t/7"}"#, "a", r#"{"uri":"a://t/7"}"#);
    check("resources/read", r#"{"uri":"b://deep/er"}"#, "b", r#"{"uri":"b://deep/er"}"#);
    check(
        "completion/complete",
        r#"{"ref":{"type":"ref/prompt","name":"b__q"},"argument":{"name":"x","value":""}}"#,
        "b",
        r#"{"ref":{"type":"ref/prompt","name":"q"},"argument":{"name":"x","value":""}}"#,
    );
    let template =
        r#"{"argument":{"name":"id","value":""},"ref":{"type":"ref/resource","uri":"a://t/{id}"}}"#;
    check("completion/complete", template, "a", template);
    let code = |method: &str, params: &str| parsed(&wire.ask("1", method, params))["error"]["code"].clone();
    assert_eq!(code("resources/read", r#"{"uri":"c://1"}"#), -32002);
    assert_eq!(code("prompts/get", r#"{"name":"p"}"#), -32602);
    assert_eq!(code("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"c__p"}}"#), -32602);
    assert_eq!(code("tasks/list", "{}"), -32601);
}

#[test]
fn a_storm_of_changes_is_told_as_a_few() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(daemon.url());
    let mut stream = wire.listen(None);
    let lists = || received_with(&daemon, "e", "\"prompts/list\"").len();
    let before = lists();
    let storm = vec![note("notifications/prompts/list_changed", "{}"); 2000];
    let change = json!({"change": ["prompts", r#"[{"name":"new"}]"#], "then": storm});
    wire.call("1", "e__run", &change);
    until("the new prompt", || wire.ask("2", "prompts/list", "{}").contains("e__new").then_some(()));
    wire.call("3", "e__run", &json!({}));
    assert!(lists() - before <= 2000 / 10, "{} lists for one change", lists() - before);
    // The announcement comes a moment after the list.
    let told = std::iter::from_fn(|| stream.next()).find(|line| line.contains("prompts/list_changed"));
    assert_eq!(told, Some(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#.to_owned()));
    wire.delete();
    let more = stream.rest().iter().filter(|line| line.contains("prompts/")).count();
    assert!(more <= 1, "{more} announcements more of one change");
}

/// What was said before its first stream is there when a client opens it: a list that changed must not be missed.
#[test]
fn news_waits_for_the_first_stream() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(&daemon.server_url("e"));
    let news = |n: u32| note("notifications/example", &format!("{{\"n\":{n}}}"));
    wire.call("1", "run", &json!({"then": [news(1)]}));
    wire.call("2", "run", &json!({"say": [news(2)]}));
    let mut stream = wire.listen(None);
    let next =
        |flow: &mut Flow| std::iter::from_fn(|| flow.next()).find(|line| line.contains("example")).unwrap();
    assert_eq!([next(&mut stream), next(&mut stream)], [news(1), news(2)]);
    let seen = stream.last_event();
    drop(stream);
    wire.call("3", "run", &json!({"say": [news(3), news(4)]}));
    // A stream that goes on has what was missed; a new one begins now.
    let mut on = wire.listen(Some(&seen));
    let mut new = wire.listen(None);
    assert_eq!([next(&mut on), next(&mut on)], [news(3), news(4)]);
    wire.call("4", "run", &json!({"say": [news(5)]}));
    assert_eq!(next(&mut new), news(5));
    wire.delete();
    assert!(on.rest().iter().chain(&new.rest()).all(|line| !line.contains("example")));
}

#[test]
fn news_that_is_too_large_for_a_stream_ends_none() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(&daemon.server_url("e"));
    let mut stream = wire.listen(None);
    let news = |fill: &str| note("notifications/example", &json!({"v": fill}).to_string());
    wire.call("1", "run", &json!({"then": [news(&"f".repeat(2 << 20)), news("small")]}));
    let next = std::iter::from_fn(|| stream.next()).find(|line| line.contains("example"));
    assert_eq!(next, Some(news("small")));
}

#[test]
fn a_lost_answer_is_given_to_the_client_that_comes_back_for_it() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(&daemon.server_url("e"));
    let progress = |n: u32, token: &str| {
        note("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":{n}}}"#))
    };
    let script = json!({"say": [progress(1, "$TOKEN"), progress(2, "$TOKEN")], "hold": "lost", "reply": "\"result\":{}"});
    let mut flow = wire.begin_call("\"lost\"", "run", &script);
    assert_eq!(flow.next(), Some(progress(1, "7")));
    let first = flow.last_event();
    drop(flow);
    let mut on = wire.listen(Some(&first));
    assert_eq!(on.next(), Some(progress(2, "7")));
    let second = on.last_event();
    let stranger = Wire::open(&daemon.server_url("e"));
    wire.call("1", "run", &json!({"release": "lost"}));
    assert_eq!(on.rest(), [result("\"lost\"", "{}")]);
    // Once more, from either point, when all is over.
    assert_eq!(wire.listen(Some(&second)).rest(), [result("\"lost\"", "{}")]);
    assert_eq!(wire.listen(Some(&first)).rest(), [progress(2, "7"), result("\"lost\"", "{}")]);
    // The id means nothing in another session, and what a listening stream says is not on it.
    let mut theirs = stranger.listen(Some(&first));
    stranger.delete();
    assert_eq!(theirs.rest().iter().filter(|line| !line.contains("list_changed")).count(), 0);
    assert_eq!(received_with(&daemon, "e", "cancelled"), Vec::<String>::new());
    // A question that was lost with its stream is asked again on the next one, and answered.
    let mut flow = wire.begin_call(
        "\"q\"",
        "run",
        &json!({
            "say": [progress(1, "$TOKEN"), request("1", "roots/list", "{}")], "until": "\"id\":1,",
        }),
    );
    flow.next();
    let seen = flow.last_event();
    drop(flow);
    let mut on = wire.listen(Some(&seen));
    let id = on.value()["id"].to_string();
    wire.tell(&result(&id, r#"{"roots":[]}"#));
    assert_eq!(told_server(&on.next().unwrap())["result"], json!({"roots": []}));
    assert_eq!(on.next(), None);
}

#[test]
fn a_large_answer_that_was_lost_is_given_again() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(&daemon.server_url("e"));
    let progress = note("notifications/progress", r#"{"progressToken":$TOKEN,"progress":1}"#);
    let script = json!({"say": [progress], "hold": "large", "bytes": 8 << 20});
    let mut flow = wire.begin_call("\"large\"", "run", &script);
    flow.next();
    let seen = flow.last_event();
    drop(flow);
    wire.call("1", "run", &json!({"release": "large"}));
    daemon.wait_until("the answer to come", |status| status["servers"][0]["calls"] == 0);
    let answer = until("the whole answer", || {
        // Too early, it comes to the waiting stream, which cannot hold it and ends: then the client comes again.
        wire.listen(Some(&seen)).rest().into_iter().find(|line| line.len() > 8 << 20)
    });
    assert!(answer.starts_with(r#"{"jsonrpc":"2.0","id":"large","result":"#), "{}", start(&answer));
}

#[test]
fn large_answers_on_streams_do_not_stay_in_memory() {
    let daemon = behind(&[("e", &[])]);
    let wires: Vec<Wire> = (0..4).map(|_| Wire::open(&daemon.server_url("e"))).collect();
    let progress = note("notifications/progress", r#"{"progressToken":$TOKEN,"progress":1}"#);
    for wire in &wires {
        for _ in 0..4 {
            let script = json!({"say": [progress], "bytes": 16 << 20});
            assert!(wire.begin_call("1", "run", &script).rest()[1].len() > 16 << 20);
        }
    }
    until("the memory to be given back", || {
        (crate::support::processes::rss_bytes(daemon.daemon_pid()) < 64 << 20).then_some(())
    });
}

#[test]
fn batches_of_the_one_revision_that_has_them() {
    let daemon = behind(&[("a", &[]), ("b", &[])]);
    let wire = Wire::open_as(daemon.url(), "2025-03-26", ALL);
    let call = |id: &str, tool: &str, script: Value| request(id, "tools/call", &call_params(tool, &script));
    // All are begun before one is waited for: the second one releases the first.
    let batch = [
        call("\"held\"", "a__run", json!({"hold": "h", "reply": "\"result\":{\"n\":1}"})),
        call("0", "a__run", json!({"release": "h", "reply": "\"error\":{\"code\":1,\"message\":\"no\"}"})),
        call("\"0\"", "b__run", json!({"reply": "\"result\":{\"n\":1e400}"})),
        note("notifications/roots/list_changed", "{}"),
        request("1", "ping", "{}"),
        "7".to_owned(),
        request("2", "initialize", "{}"),
        request("null", "ping", "{}"),
        result("55", "{}"),
        request("3", "example/later", "{}"),
        format!("[{}]", request("4", "ping", "{}")),
    ];
    let full = wire.post(&format!(" [ {} ]\n", batch.join(" ,\n")));
    let answers = parsed(&full.body.replace("1e400", "\"1e400\""));
    let answers = answers.as_array().unwrap();
    let by_id = |id: Value| answers.iter().filter(|answer| answer["id"] == id).collect::<Vec<_>>();
    assert_eq!(by_id(json!("held"))[0]["result"], json!({"n": 1}));
    assert_eq!(by_id(json!(0))[0]["error"]["message"], "no");
    assert_eq!(by_id(json!("0"))[0]["result"], json!({"n": "1e400"}));
    assert_eq!(by_id(json!(1))[0]["result"], json!({}));
    assert_eq!(by_id(json!(2))[0]["error"]["code"], -32600);
    assert_eq!(by_id(json!(3))[0]["error"]["code"], -32601);
    assert_eq!(by_id(Value::Null).len(), 3);
    assert_eq!(answers.len(), 9);
    // Nothing to answer.
    wire.tell(&format!("[{},{}]", note("notifications/x", "{}"), result("5", "{}")));
    for (body, why) in [("[]".to_owned(), "empty"), (format!("[{}]", vec!["1"; 300].join(",")), "too many")] {
        let full = wire.post(&body);
        assert_eq!(full.head.status, 400);
        assert!(full.body.contains("-32600") && full.body.contains(why), "{}", full.body);
    }
    let newer = Wire::open_as(daemon.url(), "2025-06-18", ALL);
    assert_eq!(newer.post(&format!("[{}]", request("1", "ping", "{}"))).head.status, 400);
    // No server is ever sent one.
    for name in ["a", "b"] {
        assert!(received(&daemon, name).iter().all(|line| line.starts_with("{\"jsonrpc\":\"2.0\",")));
    }
}

/// A server of that revision may batch, too.
#[test]
fn batches_of_a_server_are_taken_apart() {
    let greeting = r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"e","version":"0"}}"#;
    let daemon = behind(&[("e", &[("initialize", greeting)])]);
    let wire = Wire::open(&daemon.server_url("e"));
    let progress =
        |token: &str| note("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":1}}"#));
    let line = format!("[{} , {},7]", progress("$TOKEN"), result("$ID", "{\"n\":1.0}"));
    let heard = wire.begin_call("1", "run", &json!({"say": [line], "hold": "never"})).rest();
    assert_eq!(heard, [progress("7"), result("1", "{\"n\":1.0}")]);
}

#[test]
fn one_session_is_good_for_one_mount() {
    let daemon = behind(&[("a", &[]), ("b", &[])]);
    let wires =
        [Wire::open(daemon.url()), Wire::open(&daemon.server_url("a")), Wire::open(&daemon.server_url("b"))];
    for (n, wire) in wires.iter().enumerate() {
        for (m, other) in wires.iter().enumerate() {
            let headers = wire.headers("application/json, text/event-stream");
            for method in ["POST", "GET", "DELETE"].into_iter().filter(|_| n != m) {
                let body = if method == "POST" { request("1", "ping", "{}") } else { String::new() };
                let full = crate::support::http::request(&wire.address, method, &other.path, &headers, &body);
                assert_eq!(
                    full.head.status, 404,
                    "{method} {} with the session of {}",
                    other.path, wire.path
                );
            }
        }
        wire.ask("1", "ping", "{}");
    }
}

#[test]
fn a_crash_is_told_to_exactly_those_who_wait() {
    let daemon = behind(&[("a", &[]), ("b", &[])]);
    let wire = Wire::open(daemon.url());
    let mut of_a = begin_held(&daemon, "a", &wire, "a__run", "of a");
    let mut of_b = begin_held(&daemon, "b", &wire, "b__run", "of b");
    let last = parsed(&wire.call("1", "a__run", &json!({"exit": 3})));
    for answer in [&last, &of_a.value()] {
        assert_eq!(answer["error"]["data"]["kind"], "exited", "{answer}");
    }
    assert_eq!(of_a.next(), None);
    wire.call("2", "b__run", &json!({"release": "of b"}));
    assert_eq!(of_b.rest(), [result("\"of b\"", "{}")]);
    // Nothing that was sent is ever sent again to the next life.
    daemon.wait_ready(&["a"]);
    wire.call("3", "a__run", &json!({}));
    assert_eq!(received_with(&daemon, "a", "\"exit\":3").len(), 1);
}

#[test]
fn the_first_answer_waits_for_no_server() {
    let mut config =
        crate::support::demo_config(&[("stuck", "--hang-init"), ("late", "--start-delay 20000")]);
    config["mcpServers"]["missing"] = json!({"command": "no-such-program-4711"});
    config["list_wait"] = json!("0s");
    let daemon = Daemon::start(&config, &[]);
    let mut spans: Vec<Duration> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            Wire::open(daemon.url());
            begun.elapsed()
        })
        .collect();
    spans.sort();
    // Two round trips on two connections; the median, because the machine is shared.
    assert!(spans[10] < Duration::from_millis(50), "{spans:?}");
    let wire = Wire::open(daemon.url());
    let capabilities = &parsed(&wire.greeting)["result"]["capabilities"];
    for feature in ["tools", "prompts", "resources", "completions", "logging"] {
        assert!(capabilities.get(feature).is_some(), "{feature}");
    }
    let begun = Instant::now();
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        assert!(wire.ask("1", method, "{}").contains("[]"), "{method}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_session_for_every_call_leaves_nothing() {
    let daemon = behind(&[("e", &[])]);
    let round = |count: usize| {
        for n in 0..count {
            let wire = Wire::open(&daemon.server_url("e"));
            wire.call(&n.to_string(), "run", &json!({"reply": "\"result\":{}"}));
            wire.delete();
        }
        crate::support::processes::rss_bytes(daemon.daemon_pid())
    };
    let warm = round(200);
    let after = round(800);
    assert!(after < warm + (4 << 20), "{warm} bytes after 200 sessions, {after} after 1000");
    assert_eq!(received_with(&daemon, "e", "\"initialize\"").len(), 1, "the server was greeted once");
}
