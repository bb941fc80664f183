//! What flows through is what was sent: a scripted server and a raw client compare text, byte by byte, after undoing
//! only what is ours to change: ids, progress tokens, and the names of the aggregate.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use crate::support::daemon::Daemon;
use crate::support::mcp::Mcp;
use crate::support::peer::{behind, behind_with, received_with, wait_received};
use crate::support::wire::{Wire, call_params, note, request, result, start};
use crate::support::{http, processes, until};
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::sync::Barrier;

/// Legal JSON that somebody's parser makes something else of.
pub const VALUES: &[&str] = &[
    "9007199254740993",
    "123456789012345678901234567890",
    "1e400",
    "-0",
    "-0.0",
    "1.0",
    "1E5",
    "1.10e+02",
    "0.10000000000000000555",
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\udc00 the wrong way round \ud800""#,
    r#""\ud83d\ude00""#,
    "\"\u{1f600}\"",
    "\"\u{2028}\u{2029}\u{85}\u{7f}\u{feff}\"",
    r#""\u2028\r\n\u000a\t\/\u0041\"""#,
    r#""</script><!--""#,
    r#""data: x\n\nevent: y""#,
    r#"{"b":1,"a":2,"b":3,"":{},"__proto__":null}"#,
    "{ }",
    "[ 1 ,\t[ ] , null]",
    r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{},"error":{}}"#,
];

/// Legal ids.
pub fn ids() -> Vec<String> {
    let mut ids: Vec<String> =
        ["0", "-1", "9007199254740993", "18446744073709551617", "\"\"", "\"0\""].map(str::to_owned).to_vec();
    ids.extend([json!("é\u{2028}").to_string(), r#""\u00e9\ud800\/""#.to_owned()]);
    ids.push(json!("long ".repeat(205)).to_string());
    ids
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {}", start(text)))
}

/// The line that came to the server, out of the answer of a tool call.
fn line_in(answer: &str) -> String {
    let text = &parsed(answer)["result"]["content"][0]["text"];
    text.as_str().unwrap_or_else(|| panic!("{}", start(answer))).to_owned()
}

/// The id that we gave a request: it is where we always put it, and not every line is one that serde_json reads.
fn own_id(line: &str) -> String {
    let rest = line.strip_prefix("{\"jsonrpc\":\"2.0\",\"id\":").unwrap_or_else(|| panic!("{}", start(line)));
    rest.split(',').next().unwrap().to_owned()
}

/// Both mounts: the session, and what the one tool is called there.
fn mounts(daemon: &Daemon) -> [(Wire, &'static str); 2] {
    [(Wire::open(&daemon.server_url("e")), "run"), (Wire::open(daemon.url()), "e__run")]
}

#[test]
fn params_arrive_as_they_were_sent() {
    let daemon = behind(&[("e", &[])]);
    for (wire, name) in mounts(&daemon) {
        let check = |template: &str| {
            let params =
                template.replace("$NAME", &json!(name).to_string()).replace("$TOKEN", "\"t\\u006f\"");
            let line = line_in(&wire.ask("1", "tools/call", &params));
            let own = own_id(&line);
            let expected = template.replace("$NAME", "\"run\"").replace("$TOKEN", &own);
            // On its own mount a name is not even spelled anew.
            let same = line == request(&own, "tools/call", &expected);
            assert!(same, "{}\nwas sent as\n{}", start(&params), start(&line));
        };
        for value in VALUES {
            check(&format!(r#"{{"name":$NAME,"arguments":{{"v":{value}}}}}"#));
            check(&format!(r#"{{ "later" : {value},"arguments":{{}} ,"name": $NAME }}"#));
            check(&format!(
                r#"{{"_meta":{{"example.com/x":{value},"progressToken":$TOKEN}},"name":$NAME,"arguments":{{"deep":[{{"v":{value}}}]}}}}"#
            ));
        }
        check(r#"{"arguments":{"name":"e__run","_meta":{"progressToken":1}},"name":$NAME,"extra":null}"#);
    }
    // What no parser of the aggregate looks at is the server's own affair on its mount, whatever it is.
    let wire = Wire::open(&daemon.server_url("e"));
    for value in VALUES.iter().filter(|value| value.starts_with(['{', '['])) {
        let line = line_in(&wire.ask("1", "example/later", value));
        assert_eq!(line, request(&own_id(&line), "example/later", value));
    }
    for spelled in [r#"{"name":"\u0072un"}"#, r#"{"name":"a","name":"run"}"#, r#"{"name":7}"#] {
        let line = line_in(&wire.ask("1", "tools/call", spelled));
        assert_eq!(line, request(&own_id(&line), "tools/call", spelled));
    }
}

/// A message may be laid out over several lines on HTTP, never on a server's stdin.
#[test]
fn line_breaks_between_tokens_do_not_break_the_line() {
    let daemon = behind(&[("e", &[])]);
    for (wire, name) in mounts(&daemon) {
        let body = format!(
            "\r\n{{\r\n\t\"jsonrpc\": \"2.0\",\n\"id\":\n1,\n\"method\":\"tools/call\",\n\"params\":{{\n\"name\":\n\"{name}\",\r\"arguments\":{{\n}}\r\n}}\n}}\n"
        );
        let full = wire.post(&body);
        let line = line_in(&full.body);
        let params = "{ \"name\": \"run\", \"arguments\":{ }  }";
        assert_eq!(line, request(&own_id(&line), "tools/call", params), "{full:?}");
        wire.tell(
            "{\"jsonrpc\":\"2.0\",\n\"method\":\"notifications/roots/list_changed\",\n\"params\":{\n}\n}",
        );
    }
    let call = "{\n\"name\":\"e__run\",\n\"arguments\":{\n\"a\":1\n}\n}";
    let json = [("content-type", "application/json")];
    let full = http::request(daemon.address(), "POST", "/api/v1/tools/call", &json, call);
    assert!(full.body.contains(r#"\"a\":1"#), "{full:?}");
}

#[test]
fn answers_come_as_they_were_given() {
    let daemon = behind(&[("e", &[])]);
    for (wire, name) in mounts(&daemon) {
        for value in VALUES {
            for members in [
                format!(
                    r#""result":{{"content":[{{"type":"later","v":{value}}}],"_meta":{{"a.b/c":{value}}},"x":{value}}}"#
                ),
                format!(r#""result":{value}"#),
                format!(r#""error":{{"data":{{"v":{value}}},"code":-1,"message":"no","later":{value}}}"#),
            ] {
                let answer = wire.call("\"i\"", name, &json!({"reply": members}));
                assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":"i",{members}}}"#));
            }
        }
        // Members of the answer itself that nobody knows, and in any order, cost nothing.
        let answer = wire.call("1", name, &json!({"reply": r#""later":{"error":1},"result":{"a":1}"#}));
        assert_eq!(answer, result("1", r#"{"a":1}"#));
    }
}

#[test]
fn what_a_server_says_in_between_comes_as_it_was_said() {
    let daemon = behind(&[("e", &[])]);
    for (wire, name) in mounts(&daemon) {
        for value in VALUES {
            let log = note("notifications/message", &format!(r#"{{"level":"info","data":{value}}}"#));
            let progress = |token: &str| {
                note(
                    "notifications/progress",
                    &format!(r#"{{"later":{value},"progress":1.0,"progressToken":{token},"message":"m"}}"#),
                )
            };
            let question = |id: &str| request(id, "sampling/createMessage", &format!(r#"{{"v":{value}}}"#));
            // The server's id is the most awkward one that there is.
            let theirs = r#""\ud800-0""#;
            let script = json!({
                "say": [log, progress("$TOKEN"), question(theirs)],
                "until": "\"id\":\"\\ud800-0\"",
            });
            let mut flow = wire.begin_call("\"c\"", name, &script);
            assert_eq!(flow.next(), Some(log));
            assert_eq!(flow.next(), Some(progress("7")));
            let asked = flow.next().unwrap();
            let id = own_id(&asked);
            assert_eq!(asked, question(&id));
            let said = format!(r#"{{"role":"assistant","v":{value}}}"#);
            wire.tell(&result(&id, &said));
            assert_eq!(line_in(&flow.next().unwrap()), result(theirs, &said));
            assert_eq!(flow.next(), None);
        }
    }
}

#[test]
fn lists_are_the_servers_own_text() {
    let entries: Vec<String> = VALUES
        .iter()
        .enumerate()
        .map(|(n, value)| format!(r#"{{ "x":{value},"$KEY" : "k{n}","v":{value}}}"#))
        .collect();
    let list = |key: &str| format!("[{}]", entries.join("\t,\t").replace("$KEY", key));
    let (names, uris, templates) = (list("name"), list("uri"), list("uriTemplate"));
    let daemon = behind(&[(
        "e",
        &[("tools", &names), ("prompts", &names), ("resources", &uris), ("templates", &templates)],
    )]);
    let own = Wire::open(&daemon.server_url("e"));
    let all = Wire::open(daemon.url());
    for (method, member, raw) in [
        ("tools/list", "tools", &names),
        ("prompts/list", "prompts", &names),
        ("resources/list", "resources", &uris),
        ("resources/templates/list", "resourceTemplates", &templates),
    ] {
        assert_eq!(own.ask("1", method, "{}"), result("1", &format!(r#"{{"{member}":{raw}}}"#)));
        let joined =
            raw.replace("\t,\t", ",").replace("\"k", if member.len() < 8 { "\"e__k" } else { "\"k" });
        let expected = result("1", &format!(r#"{{"{member}":{joined}}}"#));
        until(method, || (all.ask("1", method, "{}") == expected).then_some(()));
    }
}

#[test]
fn ids_come_back_as_they_were_sent() {
    let daemon = behind(&[("e", &[])]);
    let ids = ids();
    for (wire, name) in mounts(&daemon) {
        let twin = Wire::open(&format!("http://{}{}", wire.address, wire.path));
        // All of them at once, in two sessions: answered only when the last one is there.
        let begun: Vec<_> = ids
            .iter()
            .enumerate()
            .flat_map(|(n, id)| [(n, id, &wire), (n + 100, id, &twin)])
            .map(|(n, id, client)| {
                let reply = format!(r#""result":{{"n":{n}}}"#);
                (n, id, client.begin_call(id, name, &json!({"hold": name, "reply": reply})))
            })
            .collect();
        wait_received(&daemon, "e", &format!("\"hold\":\"{name}\""), ids.len() * 2);
        wire.call("77", name, &json!({"release": name}));
        for (n, id, mut flow) in begun {
            assert_eq!(flow.rest(), [result(id, &format!(r#"{{"n":{n}}}"#))]);
        }
        for id in &ids {
            assert_eq!(wire.ask(id, "ping", "{}"), result(id, "{}"));
            let unknown = wire.post(&request(id, "tools/call", "[]")).body;
            assert!(unknown.contains(&format!("\"id\":{id},")), "{unknown}");
        }
    }
    let sent = received_with(&daemon, "e", "\"hold\"");
    let numbers: std::collections::BTreeSet<u64> =
        sent.iter().map(|line| parsed(line)["id"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), sent.len(), "no id was used twice toward the server");
}

#[test]
fn cursors_are_the_servers_own() {
    // A server's own pages pass on its mount; the aggregate reads all of them, an empty cursor included. The cursors of
    // both servers are the same.
    let first = r#""result":{"nextCursor":"","tools":[{"name":"x"}],"_meta":{"a/b":1.0}}"#;
    let second = r#""result":{"tools":[{"name":"y"},{"name":"z"}],"nextCursor":"\ud83d\ude00 t1"}"#;
    let pages = [
        ("page.tools/list", first),
        ("page.tools/list:", second),
        ("page.tools/list:\u{1f600} t1", r#""result":{"tools":[{"name":"run"}],"nextCursor":null}"#),
    ];
    let daemon = behind(&[("a", &pages), ("b", &pages)]);
    let all = Wire::open(daemon.url());
    let names = ["a__x", "a__y", "a__z", "a__run", "b__x", "b__y", "b__z", "b__run"];
    let tools = names.map(|name| format!(r#"{{"name":"{name}"}}"#)).join(",");
    assert_eq!(all.ask("1", "tools/list", "{}"), result("1", &format!(r#"{{"tools":[{tools}]}}"#)));
    let own = Wire::open(&daemon.server_url("a"));
    assert_eq!(own.ask("1", "tools/list", "{}"), format!(r#"{{"jsonrpc":"2.0","id":1,{first}}}"#));
    assert_eq!(
        own.ask("1", "tools/list", r#"{"cursor":""}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,{second}}}"#)
    );
    for cursor in [r#""\u0000\ud800""#, r#""t1000""#, "5"] {
        own.ask("1", "tools/list", &format!(r#"{{"cursor":{cursor}}}"#));
        let sent = wait_received(&daemon, "a", &format!(r#"{{"cursor":{cursor}}}"#), 1);
        assert_eq!(sent.len(), 1, "{sent:?}");
    }
}

/// A call whose line toward the server has exactly so many bytes.
fn call_of(name: &str, bytes: usize, own_name: &str, own_id_digits: usize) -> String {
    let params = |fill: usize| {
        format!(r#"{{"name":"{name}","arguments":{{"bytes":5,"fill":"{}"}}}}"#, "f".repeat(fill))
    };
    let fixed = request("", "tools/call", &params(0)).len() - name.len() + own_name.len() + own_id_digits;
    request("1", "tools/call", &params(bytes - fixed))
}

#[test]
fn requests_up_to_ten_mebibytes_go_through_and_larger_ones_are_refused() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(daemon.url());
    for (bytes, goes) in [
        ((1 << 20) - 1, true),
        ((1 << 20) + 1, true),
        (4 << 20, true),
        (99 * (1 << 20) / 10, true),
        (101 * (1 << 20) / 10, false),
        (15 << 20, false),
    ] {
        let full = wire.post(&call_of("e__run", bytes, "run", 1));
        let answer = parsed(&full.body);
        if goes {
            assert_eq!(answer["result"]["content"][0]["text"], "xxxxx", "{bytes}: {}", start(&full.body));
        } else {
            let error = &answer["error"];
            assert_eq!(
                (&error["code"], &error["data"]["kind"]),
                (&json!(-32603), &json!("too_large")),
                "{bytes}"
            );
            assert!(error["message"].as_str().unwrap().contains("10 MiB"), "{error}");
        }
    }
    assert_eq!(wire.post(&call_of("e__run", 17 << 20, "run", 1)).head.status, 413);
    // The server has seen none of those, and is as it was.
    assert_eq!(received_with(&daemon, "e", "\"fill\"").len(), 4);
    assert_eq!(daemon.status()["servers"][0]["failures"], 0);
    line_in(&wire.call("2", "e__run", &json!({})));
}

#[test]
fn results_of_any_size_come_as_json() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(daemon.url());
    for bytes in [(1 << 20) - 1, (1 << 20) + 1, 10 << 20, 30 << 20] {
        let answer = wire.call("\"big\"", "e__run", &json!({"bytes": bytes}));
        let frame = result("\"big\"", r#"{"content":[{"type":"text","text":""}]}"#).len();
        assert_eq!(answer.len(), bytes + frame, "{}", start(&answer));
    }
    // Whoever takes nothing but events gets one event, however large.
    let body = request("1", "tools/call", &call_params("e__run", &json!({"bytes": 3 << 20})));
    let full = wire.post_accepting("text/event-stream", &body);
    assert!(full.body.len() > 3 << 20 && full.body.ends_with("]}}\n\n"), "{}", start(&full.body));
}

#[test]
fn a_slow_reader_delays_nobody() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(daemon.url());
    let slow: Vec<_> = (0..8)
        .map(|n| {
            let body =
                request(&n.to_string(), "tools/call", &call_params("e__run", &json!({"bytes": 10 << 20})));
            let mut stream = http::connect(&wire.address);
            let headers = wire.headers("application/json");
            stream.write_all(&http::encode(&wire.address, "POST", &wire.path, &headers, &body)).unwrap();
            stream
        })
        .collect();
    wait_received(&daemon, "e", "\"bytes\"", slow.len());
    // None of them reads; the others are served as if they were not there.
    for n in 0..50 {
        line_in(&wire.call(&n.to_string(), "e__run", &json!({})));
    }
    let rss = processes::rss_bytes(daemon.daemon_pid());
    assert!(rss < 8 * (10 << 20) * 2 + (64 << 20), "{rss} bytes for eight results of 10 MiB");
    for stream in slow {
        let mut body = http::Body::read(BufReader::new(stream)).unwrap();
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert!(text.len() > 10 << 20);
    }
    let kept = until("the memory to be given back", || {
        let now = processes::rss_bytes(daemon.daemon_pid());
        (now < 64 << 20).then_some(now)
    });
    assert!(kept > 0);
}

#[test]
fn sixty_four_clients_get_their_own_answers_in_any_order() {
    const CLIENTS: usize = 64;
    const CALLS: usize = 50;
    let daemon = behind(&[("e", &[])]);
    let wires: Vec<Wire> = (0..CLIENTS).map(|_| Wire::open(daemon.url())).collect();
    let together = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for (client, wire) in wires.iter().enumerate() {
            let (together, daemon) = (&together, &daemon);
            scope.spawn(move || {
                together.wait();
                let mut kept = Mcp::in_session(daemon.url(), &wire.session);
                for call in 0..CALLS {
                    let key = format!("client {client} call {call}");
                    // A random half waits for a later call of anybody, and comes in random order.
                    let script = match (client * 31 + call * 17) % 4 {
                        0 if call + 1 < CALLS && client > 0 => json!({"key": key, "hold": "h"}),
                        1 => json!({"key": key, "say": [request("\"ask\"", "roots/list", "{}")], "release": "h"}),
                        _ => json!({"key": key, "release": "h"}),
                    };
                    let text = kept.text("e__run", script);
                    assert!(text.contains(&format!("\"key\":\"{key}\"")), "{key} was answered {text}");
                }
            });
        }
        // Whatever is held when the others are through is released by this.
        scope.spawn(|| {
            let mut last = Mcp::connect(daemon.url());
            until("every call to be made", || {
                last.text("e__run", json!({"release": "h"}));
                (received_with(&daemon, "e", "\"key\"").len() == CLIENTS * CALLS).then_some(())
            });
            last.text("e__run", json!({"release": "h"}));
        });
    });
    assert_eq!(daemon.status()["servers"][0]["calls"], 0);
    // Every question was answered, by a client or at once by us.
    let asked = received_with(&daemon, "e", "\"say\"").len();
    wait_received(&daemon, "e", "{\"jsonrpc\":\"2.0\",\"id\":\"ask\",", asked);
}

#[test]
fn nothing_of_http_reaches_a_server() {
    let daemon = behind_with(&[("e", &[])], |config| config["api_key"] = json!("sesame-4711"));
    let params =
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"w","version":"0"}}"#;
    let base = [
        ("authorization", "Bearer sesame-4711"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("cookie", "sesame-cookie"),
    ];
    let post =
        |headers: &[(&str, &str)], body: &str| http::request(daemon.address(), "POST", "/mcp", headers, body);
    let opened = post(&base, &request("0", "initialize", params));
    let session = opened.head.header("mcp-session-id").unwrap().to_owned();
    let mut headers = base.to_vec();
    headers.push(("mcp-session-id", &session));
    let answer = post(&headers, &request("1", "tools/call", r#"{"name":"e__run","arguments":{}}"#));
    line_in(&answer.body);
    for secret in ["sesame", session.as_str(), "uthorization"] {
        assert_eq!(received_with(&daemon, "e", secret), Vec::<String>::new());
    }
    let pid = daemon.status()["servers"][0]["pid"].as_u64().expect("a pid") as u32;
    let environ = mcpvisor::sys::procfs::environ(pid);
    assert!(environ.iter().all(|(_, value)| !value.contains("sesame")), "{environ:?}");
}

#[test]
fn garbage_on_stdout_harms_nobody() {
    let daemon = behind(&[("e", &[])]);
    let wire = Wire::open(daemon.url());
    let garbage = json!({"say": [
        "Starting server...", "{", "[]", "7", "null", "\"text\"", "{}", "\u{1b}[31mred\u{1b}[0m",
        r#"{"jsonrpc":"2.0"}"#, r#"{"jsonrpc":"1.0","id":$ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":$ID}"#, r#"{"jsonrpc":"2.0","id":"$ID","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":99999999,"result":{}}"#, r#"{"jsonrpc":"2.0","id":$ID.0,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":{},"error":{}}"#, "",
    ], "then": ["more", r#"{"jsonrpc":"2.0","id":$ID,"result":{"twice":true}}"#]});
    for n in 0..3 {
        line_in(&wire.call(&n.to_string(), "e__run", &garbage));
    }
    assert_eq!(daemon.status()["servers"][0]["state"], "ready");
}
