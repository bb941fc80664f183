//! Lists of many servers, of which some are slow, some dead, and one goes away in the middle.

use super::far::{Client, ERAS, member};
use super::last;
use crate::support::daemon::{Daemon, server};
use crate::support::peer::{behind, received_with};
use crate::support::wire::note;
use crate::support::{demo_config, demo_entry, http, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn names(page: &str) -> Vec<String> {
    let page: Value = serde_json::from_str(page).unwrap();
    let tools = page["result"]["tools"].as_array().unwrap_or_else(|| panic!("{page}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// A client that reads page after page gets all that is there, once, though a server is begun anew between two of them.
#[test]
fn pages_stay_whole_while_servers_come_and_go() {
    let entries = [
        ("many", "--tools 600 --page-size 7"),
        ("more", "--tools 700 --era modern"),
        ("dead", "--exit-on-init"),
        ("slow", "--start-delay 120000"),
        ("last", "--tools 1000"),
    ];
    let servers: Vec<Value> = entries
        .iter()
        .map(|(name, switches)| {
            let mut entry = demo_entry(switches);
            entry["name"] = json!(name);
            entry
        })
        .collect();
    let daemon = Daemon::start(&json!({ "mcpServers": servers, "list_wait": "0s" }), &[]);
    daemon.wait_ready(&["many", "more", "last"]);
    for era in ERAS {
        let client = Client::at(daemon.url(), era);
        let list = |cursor: &str| last(&mut client.ask("1", "tools/list", cursor, ""));
        until("all lists", || {
            let first = list("");
            let second = list(r#""cursor":"t1000""#);
            (names(&first).len() == 1000 && second.contains("last__")).then_some(())
        });
        let first = list("");
        assert_eq!(first, list(""), "{era}: the order stays");
        let mut all = names(&first);
        let mut cursor = member(&member(&first, "result"), "nextCursor");
        for restarted in ["more", "last"] {
            assert_eq!(daemon.cli(&["upstream", "restart", restarted]).code, 0);
            let page = list(&format!("\"cursor\":{cursor}"));
            all.extend(names(&page));
            if page.contains("nextCursor") {
                cursor = member(&member(&page, "result"), "nextCursor");
            }
        }
        let distinct: BTreeSet<&String> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (2300 + 3 * 6, 2300 + 3 * 6), "{era}");
        daemon.wait_ready(&["more", "last"]);
    }
    assert_ne!(server(&daemon.status(), "slow")["state"], "ready");
}

/// Who has seen a list hears that it is gone, however soon after it came.
#[test]
fn what_came_and_went_at_once_is_told() {
    for _ in 0..5 {
        let daemon = Daemon::start(&demo_config(&[("brief", "--start-delay 300")]), &[]);
        let client = Client::at(daemon.url(), "modern");
        let what = r#""notifications":{"toolsListChanged":true}"#;
        let mut listening = client.ask("1", "subscriptions/listen", what, "");
        assert!(listening.next().unwrap().contains("acknowledged"));
        let list = || names(&last(&mut client.ask("2", "tools/list", "", "")));
        until("the tools", || (!list().is_empty()).then_some(()));
        let disabled = http::request(daemon.address(), "POST", "/api/v1/servers/brief/disable", &[], "");
        assert_eq!(disabled.head.status, 202, "{disabled:?}");
        until("the tools to go", || list().is_empty().then_some(()));
        // One announcement may be of the start.
        while !listening.next().unwrap().contains("tools/list_changed") || !list().is_empty() {}
    }
}

/// Two thousand announcements of one change are a few for who listens, in either era.
#[test]
fn a_storm_of_changes_is_told_as_a_few() {
    for era in ["legacy", "modern"] {
        let daemon = behind(&[("e", &[("era", era)])]);
        let listener = Client::at(daemon.url(), "modern");
        let what = r#""notifications":{"promptsListChanged":true,"toolsListChanged":true}"#;
        let mut listening = listener.ask("[1]", "subscriptions/listen", what, "");
        assert!(listening.next().unwrap().contains("\"error\""), "an id is a string or a number");
        let mut listening = listener.ask("\"l\\u00e9\"", "subscriptions/listen", what, "");
        let first = listening.next().unwrap();
        assert!(first.contains("acknowledged") && first.contains("\"l\\u00e9\""), "{first}");
        let client = Client::at(daemon.url(), "legacy");
        let call = |script: Value| {
            last(&mut client.ask("1", "tools/call", &format!(r#""name":"e__run","arguments":{script}"#), ""))
        };
        let subscription = match era {
            "legacy" => "{}".to_owned(),
            _ => {
                let listens =
                    until("a listen of ours", || received_with(&daemon, "e", "subscriptions/listen").pop());
                format!(
                    r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{}}}}}"#,
                    member(&listens, "id")
                )
            }
        };
        let changed = |kind: &str| note(&format!("notifications/{kind}/list_changed"), &subscription);
        let lists = || received_with(&daemon, "e", "\"prompts/list\"").len();
        let before = lists();
        let storm = vec![changed("prompts"); 2000];
        call(json!({ "change": ["prompts", r#"[{"name":"new"}]"#], "then": storm }));
        until("the new prompt", || {
            last(&mut client.ask("2", "prompts/list", "", "")).contains("e__new").then_some(())
        });
        call(
            json!({ "change": ["tools", r#"[{"name":"run","inputSchema":{"type":"object"},"x":1}]"#], "then": [changed("tools")] }),
        );
        let mut told = Vec::new();
        while !told.iter().any(|line: &String| line.contains("tools/list_changed")) || told.len() < 2 {
            told.push(listening.next().unwrap());
        }
        assert!(lists() - before <= 200, "{era}: {} lists for one change", lists() - before);
        let prompts = told.iter().filter(|line| line.contains("prompts/")).count();
        assert!((1..=3).contains(&prompts), "{era}: {told:?}");
        assert!(told.iter().all(|line| line.contains("\"l\\u00e9\"")), "{era}: {told:?}");
    }
}
