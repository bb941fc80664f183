//! Any client before any server: clients of both eras, servers of both, over pipes, Streamable HTTP, and HTTP with SSE.
//! What must be the same in all ten pairs: bytes, ids, progress, logs, cancellation, order, and what never leaves us.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, start threads and read the clock"
)]

mod far;
mod lists;
mod sizes;
mod starts;
mod states;

use crate::bytes::{VALUES, ids};
use crate::support::wire::{Flow, note, start};
use far::{Client, ERAS, Far, Way, member, members_of};
use serde_json::{Value, json};
use std::sync::Barrier;

/// Checks every pair of a client's era and a server's way.
fn each_pair(mut check: impl FnMut(&Far, Way, &Client, &str)) {
    for way in Way::ALL {
        let far = Far::behind(way);
        for era in ERAS {
            check(&far, way, &Client::of(&far, era), era);
        }
    }
}

fn last(flow: &mut Flow) -> String {
    flow.rest().pop().expect("there is an answer")
}

/// What `_meta` has beside what an era wants there.
fn foreign(meta: &str) -> Vec<(String, String)> {
    let mut members = members_of(meta);
    members.retain(|(key, _)| !key.starts_with("\"io.modelcontextprotocol/"));
    members
}

/// Members of a request or result, without what an era adds to them.
fn plain(object: &str) -> Vec<(String, String)> {
    let mut members = members_of(object);
    members.retain(|(key, _)| !["\"resultType\"", "\"_meta\""].contains(&key.as_str()));
    members
}

#[test]
fn params_arrive_as_they_were_sent() {
    each_pair(|far, way, client, era| {
        for (n, value) in VALUES.iter().enumerate() {
            let mark = format!("\"{era}-{n}\"");
            let members = format!(
                r#""later" : {value}, "name":"run","arguments":{{"mark":{mark},"deep":[{{"v":{value}}}]}}"#
            );
            let meta = format!(r#""example.com/x":{value},"progressToken":"t","a.b/c":{{ }}"#);
            last(&mut client.ask("1", "tools/call", &members, &meta));
            let line = far.wait_received(&mark, 1).remove(0);
            let params = member(&line, "params");
            let sent = members_of(&format!("{{{members}}}"));
            assert_eq!(plain(&params), sent, "{way:?}, {era}: {value}\n{line}");
            let own = member(&line, "id");
            let meta = meta.replace("\"t\"", &own);
            assert_eq!(
                foreign(&member(&params, "_meta")),
                members_of(&format!("{{{meta}}}")),
                "{way:?}, {era}: {line}"
            );
            // What only one era has, no server of the other is sent.
            assert_eq!(line.contains("io.modelcontextprotocol/"), way.is_modern(), "{way:?}, {era}: {line}");
        }
    });
}

#[test]
fn answers_come_as_they_were_given() {
    each_pair(|_, way, client, era| {
        let complete = if way.is_modern() { r#""resultType":"complete","# } else { "" };
        for value in VALUES {
            let inner = format!(
                r#""content":[{{"type":"later","v":{value}}}],"structuredContent":{{"v":{value}}},"x":{value}"#
            );
            let meta = format!(r#""a.b/c":{value},"z":{{ }}"#);
            let reply = format!(r#""result":{{{complete}{inner},"_meta":{{{meta}}}}}"#);
            let answer = last(&mut client.call("\"i\"", &json!({ "reply": reply }).to_string()));
            let result = member(&answer, "result");
            assert_eq!(plain(&result), members_of(&format!("{{{inner}}}")), "{way:?}, {era}: {answer}");
            assert_eq!(
                foreign(&member(&result, "_meta")),
                members_of(&format!("{{{meta}}}")),
                "{way:?}, {era}: {answer}"
            );
            assert_eq!(
                result.contains("\"resultType\":\"complete\""),
                era == "modern",
                "{way:?}, {era}: {answer}"
            );
            let error = format!(r#"{{"data":{{"v":{value}}},"code":-1,"message":"no","later":{value}}}"#);
            let answer =
                last(&mut client.call("1", &json!({ "reply": format!("\"error\":{error}") }).to_string()));
            assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#), "{way:?}, {era}");
        }
    });
}

#[test]
fn lists_are_the_servers_own_text() {
    let entry = |(n, value): (usize, &&str)| {
        format!(r#"{{ "x":{value},"name" : "k{n}","inputSchema":{{"type":"object","v":{value}}}}}"#)
    };
    let tools = format!("[{}]", VALUES.iter().enumerate().map(entry).collect::<Vec<_>>().join("\t,\t"));
    for way in Way::ALL {
        let far = Far::with(way, &tools, |_| ());
        for era in ERAS {
            let answer = last(&mut Client::of(&far, era).ask("1", "tools/list", "", ""));
            let listed = member(&member(&answer, "result"), "tools");
            assert_eq!(listed, tools, "{way:?}, {era}: {}", start(&answer));
        }
    }
}

/// Every id comes back as it was, and none of them reaches a server; two clients use the same ones at once.
#[test]
fn ids_come_back_as_they_were_sent() {
    for way in Way::ALL {
        let far = Far::behind(way);
        let clients = ERAS.map(|era| Client::of(&far, era));
        // As many as a remote server is asked at once.
        let ids: Vec<String> = ids().into_iter().take(7).collect();
        let begun: Vec<(String, String, Flow)> = clients
            .iter()
            .enumerate()
            .flat_map(|(c, client)| ids.iter().enumerate().map(move |(n, id)| (c, client, n, id)))
            .map(|(c, client, n, id)| {
                let mark = format!("{c}-{n}");
                let flow = client.call(id, &json!({ "hold": "all", "mark": mark }).to_string());
                (id.clone(), mark, flow)
            })
            .collect();
        let sent = far.wait_received("\"hold\":\"all\"", begun.len());
        far.release("all", &clients[0]);
        for (id, mark, mut flow) in begun {
            let answer = last(&mut flow);
            assert_eq!(member(&answer, "id"), id, "{way:?}");
            assert!(answer.contains(&format!(r#"\"mark\":\"{mark}\""#)), "{way:?}: {answer}");
        }
        let mut own: Vec<u64> = sent.iter().map(|line| member(line, "id").parse().unwrap()).collect();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), 14, "{way:?}: a number was used twice");
    }
}

/// The server says progress and logs in the middle of a call: the call's stream has them, with the client's own token
/// and from the level on that it asked for; nobody else hears a word.
#[test]
fn progress_and_logs_belong_to_their_call() {
    let progress = |token: &str, n: u32| {
        note("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":{n}.0,"x":1E5}}"#))
    };
    let log = |level: &str| note("notifications/message", &format!(r#"{{"level":"{level}","data":[1.0]}}"#));
    each_pair(|far, way, client, era| {
        let what = r#""notifications":{"toolsListChanged":true}"#;
        let listener = Client::at(far.daemon.url(), "modern");
        let mut listening = listener.ask("\"l\"", "subscriptions/listen", what, "");
        assert!(listening.next().unwrap().contains("acknowledged"));
        let level = client.log_from("warning");
        let level = if level.is_empty() { level } else { format!(",{level}") };
        let say = json!({ "say": [progress("$TOKEN", 1), log("debug"), log("error"), progress("99999", 2), progress("\"t\"", 3)] });
        for token in ["\"t\"", "7", "9007199254740993", "\"\""] {
            let meta = format!(r#""progressToken":{token}{level}"#);
            let heard =
                client.ask("5", "tools/call", &format!(r#""name":"run","arguments":{say}"#), &meta).rest();
            assert_eq!(heard[..2], [progress(token, 1), log("error")], "{way:?}, {era}");
            assert_eq!(
                (heard.len(), member(&heard[2], "id")),
                (3, "5".to_owned()),
                "{way:?}, {era}: {heard:?}"
            );
        }
        // Without a token there is no progress.
        let meta = level.trim_start_matches(',');
        let heard = client.ask("6", "tools/call", &format!(r#""name":"run","arguments":{say}"#), meta).rest();
        assert_eq!(heard[0], log("error"), "{way:?}, {era}");
        assert_eq!(heard.len(), 2, "{way:?}, {era}: {heard:?}");
        // The stream of those who listen has heard nothing of it: what comes next there is about the lists.
        assert_eq!(far.daemon.cli(&["upstream", "disable", "e", "--wait=30s"]).code, 0);
        let next = listening.next().unwrap();
        assert!(next.contains("tools/list_changed"), "{way:?}, {era}: {next}");
        assert_eq!(far.daemon.cli(&["upstream", "enable", "e", "--wait=30s"]).code, 0);
    });
}

/// A call is taken back in the way of its client's era, and the server is told in the way of its own: once.
#[test]
fn a_cancellation_is_told_once_in_the_servers_own_way() {
    each_pair(|far, way, client, era| {
        let over_http = matches!(way, Way::Http | Way::HttpModern);
        let told = || far.wait_received("notifications/cancelled", 0).len();
        let before = told();
        let hold = |key: &str| {
            let flow = client.call("\"c\"", &json!({ "hold": key }).to_string());
            let line = far.wait_received(&format!("\"hold\":\"{key}\""), 1).remove(0);
            (flow, member(&line, "id"))
        };
        let key = format!("{era} cancelled");
        let (mut flow, own) = hold(&key);
        if era == "legacy" {
            client.tell(&note("notifications/cancelled", r#"{"requestId":"c","reason":"\ud800"}"#));
            let answer = last(&mut flow);
            assert!(answer.contains("\"kind\":\"cancelled\""), "{way:?}: {answer}");
        } else {
            drop(flow);
        }
        // Over HTTP, the newer era has no other word for it than the end of the request.
        let by_word = way != Way::HttpModern;
        if by_word {
            let lines = far.wait_received("notifications/cancelled", before + 1);
            assert_eq!(member(&member(&lines[before], "params"), "requestId"), own, "{way:?}, {era}");
        }
        if over_http {
            crate::support::until("the request to be closed", || far.closed().contains(&key).then_some(()));
        }
        // Its late answer is nobody's, and the next call is the next call.
        far.release(&key, client);
        let answer = last(&mut client.call("\"c\"", "{\"n\":1}"));
        assert!(answer.contains(r#"\"n\":1"#), "{way:?}, {era}: {answer}");
        assert_eq!(told(), before + usize::from(by_word), "{way:?}, {era}");
        if era == "legacy" {
            // To leave is not to cancel.
            let key = "legacy left";
            drop(hold(key));
            far.daemon.wait_until("the call to be given up", |status| status["servers"][0]["calls"] == 0);
            far.release(key, client);
            last(&mut client.call("\"d\"", "{}"));
            assert_eq!(told(), before + usize::from(by_word), "{way:?}");
        }
    });
}

/// A client of the newer era that leaves while its answer is on the way: the server hears of it once or not at all, and
/// nothing is left of the call.
#[test]
fn to_leave_races_the_answer() {
    for way in Way::ALL {
        let far = Far::behind(way);
        let (client, other) = (Client::of(&far, "modern"), Client::of(&far, "modern"));
        let mut own = Vec::new();
        for n in 0..20 {
            let key = format!("race {n}");
            let flow = client.call("\"r\"", &json!({ "hold": key }).to_string());
            let line = far.wait_received(&format!("\"hold\":\"{key}\""), 1).remove(0);
            own.push(member(&line, "id"));
            std::thread::scope(|scope| {
                scope.spawn(|| far.release(&key, &other));
                drop(flow);
            });
        }
        let answer = last(&mut client.call("\"r\"", "{\"n\":1}"));
        assert!(answer.contains(r#"\"n\":1"#), "{way:?}: {answer}");
        far.daemon.wait_until("every call to be over", |status| status["servers"][0]["calls"] == 0);
        let told = far.wait_received("notifications/cancelled", 0);
        let mut told: Vec<String> =
            told.iter().map(|line| member(&member(line, "params"), "requestId")).collect();
        assert!(told.iter().all(|id| own.contains(id)), "{way:?}: {told:?}");
        let count = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), count, "{way:?}: one was told twice");
    }
}

/// Clients of both eras at once before one server, each call held against its own answer, in whatever order they come.
#[test]
fn sixty_four_clients_get_their_own_answers() {
    const CLIENTS: usize = 64;
    const CALLS: usize = 20;
    for way in [Way::StdioModern, Way::Http, Way::HttpModern, Way::Sse] {
        let far = Far::behind(way);
        let together = Barrier::new(CLIENTS);
        std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                let (far, together) = (&far, &together);
                scope.spawn(move || {
                    let client = Client::of(far, ERAS[n % 2]);
                    together.wait();
                    for call in 0..CALLS {
                        let mark = format!("client {n} call {call}");
                        let script = json!({ "mark": mark, "delay": (n * 31 + call * 17) % 7 });
                        // All use the same ids.
                        let answer = last(&mut client.call(&call.to_string(), &script.to_string()));
                        assert_eq!(member(&answer, "id"), call.to_string());
                        assert!(
                            answer.contains(&format!(r#"\"mark\":\"{mark}\""#)),
                            "{way:?}, {mark}: {answer}"
                        );
                    }
                });
            }
        });
        assert_eq!(far.daemon.status()["servers"][0]["calls"], 0, "{way:?}");
        assert_eq!(far.wait_received("\"mark\"", CLIENTS * CALLS).len(), CLIENTS * CALLS, "{way:?}");
    }
}

/// Who calls us, and with what, is nobody's business behind us.
#[test]
fn nothing_of_http_reaches_a_server() {
    for way in [Way::StdioModern, Way::Http, Way::HttpModern, Way::Sse] {
        let far = Far::with(way, "[]", |config| config["api_key"] = json!("sesame-4711"));
        let params = format!(r#"{{"name":"run","arguments":{{"mark":1}},"_meta":{{{}}}}}"#, far::ENVELOPE);
        let body = crate::support::wire::request("1", "tools/call", &params);
        let headers = [
            ("authorization", "Bearer sesame-4711"),
            ("cookie", "sesame-cookie"),
            ("x-forwarded-for", "sesame-address"),
            ("mcp-session-id", "sesame-session"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "run"),
        ];
        let full = crate::support::http::request(far.daemon.address(), "POST", "/mcp/s/e", &headers, &body);
        assert_eq!(full.head.status, 200, "{way:?}: {full:?}");
        let all = format!("{:?}{:?}", far.received(), far.seen());
        assert!(all.contains("\\\"mark\\\":1") && !all.contains("sesame"), "{way:?}: {all}");
    }
}

/// A client of 2026-07-28 for every call, and a session for every call, leave nothing behind.
#[test]
fn a_thousand_clients_leave_nothing() {
    for way in [Way::StdioModern, Way::HttpModern, Way::Sse] {
        let far = Far::behind(way);
        let round = |count: usize| {
            for n in 0..count {
                let client = Client::of(&far, ERAS[n % 2]);
                last(&mut client.call(&n.to_string(), "{}"));
                if n % 2 == 0 {
                    client.leave();
                }
            }
            crate::support::processes::rss_bytes(far.daemon.daemon_pid())
        };
        let warm = round(200);
        let after = round(800);
        assert!(after < warm + (4 << 20), "{way:?}: {warm} bytes after 200 clients, {after} after 1000");
        let greetings = far.received().iter().filter(|line| greets(line)).count();
        assert_eq!(greetings, 1, "{way:?}: the server was greeted once");
    }
}

fn greets(line: &str) -> bool {
    let method = serde_json::from_str::<Value>(line).unwrap_or_default()["method"].take();
    method == "initialize" || method == "server/discover"
}
