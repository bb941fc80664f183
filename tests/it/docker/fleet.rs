//! Five servers in containers, one that is a process of the host, and one far away: what an incident may touch of them,
//! and what it must leave alone.

use super::scene::{Scene, config, error, ids, isolated};
use crate::support::daemon::{Daemon, server};
use crate::support::engine::Engine;
use crate::support::mcp::{Answer, Begun, Mcp};
use crate::support::upstream::{Out, Seen, Upstream, answer_plainly, response, text};
use crate::support::{TempDir, demo_entry, images, measure_over};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Those in containers.
pub const BOXED: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Those that no engine has anything to do with.
pub const OTHERS: [&str; 2] = ["local", "web"];

/// How long a call in flight takes where nothing happens to its server: longer than an incident.
const FLIGHT: Duration = Duration::from_millis(4_000);

pub struct Fleet {
    pub scene: Scene,
    pub client: Mcp,
    upstream: Upstream,
}

/// Every server as it was, and a call under way to each.
pub struct Before {
    rows: BTreeMap<String, Value>,
    ids: BTreeMap<String, String>,
    sessions: usize,
    flights: Vec<(String, Begun)>,
}

impl Fleet {
    pub fn new(engine: &Engine) -> Fleet {
        Fleet::with(engine, "", &json!({}))
    }

    /// With switches of the servers in containers, and more keys of the config. All are ready.
    pub fn with(engine: &Engine, switches: &str, keys: &Value) -> Fleet {
        let fleet = Fleet::starting(engine, switches, keys, None);
        fleet.scene.daemon.wait_ready(&BOXED);
        fleet
    }

    /// As a user of the host with this id, who owns nothing but its own directory.
    pub fn of_user(engine: &Engine, uid: u32) -> Fleet {
        let fleet = Fleet::starting(engine, "", &json!({}), Some(uid));
        fleet.scene.daemon.wait_ready(&BOXED);
        fleet
    }

    /// The servers outside of containers are ready, the others may be on their way.
    pub fn starting(engine: &Engine, switches: &str, keys: &Value, uid: Option<u32>) -> Fleet {
        let image = images::demo(engine);
        let upstream = Upstream::start(web);
        let mut servers: Vec<_> = BOXED.iter().map(|name| (*name, isolated(&image, switches))).collect();
        servers.push(("local", demo_entry("")));
        servers.push(("web", json!({ "url": upstream.url() })));
        let mut config = config(servers);
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let census = engine.census();
        let daemon = Daemon::start_as(uid, TempDir::new(), &config, &[("DOCKER_HOST", &engine.host())]);
        let scene = Scene { engine: engine.clone(), image, daemon, census };
        scene.daemon.wait_ready(&OTHERS);
        let client = scene.daemon.client();
        Fleet { scene, client, upstream }
    }

    /// How every server is now, with a call to each that is on its way when this returns.
    pub fn before(&self) -> Before {
        let status = self.scene.daemon.status();
        let all = BOXED.iter().chain(&OTHERS);
        let rows: BTreeMap<String, Value> =
            all.map(|name| ((*name).to_owned(), server(&status, name).clone())).collect();
        let ids = ids(&self.scene.containers());
        let flights = rows
            .keys()
            .map(|name| {
                let (tool, ms) = if name == "web" { ("run", "late") } else { ("sleep", "ms") };
                let arguments = json!({ ms: FLIGHT.as_millis() as u64 });
                let id = json!(format!("flight-{name}"));
                (name.clone(), self.client.begin_call(id, &format!("{name}__{tool}"), arguments, None))
            })
            .collect();
        self.scene.daemon.wait_until("a call under way to each", |status| {
            rows.keys().all(|name| server(status, name)["calls"] == 1)
        });
        Before { rows, ids, sessions: self.upstream.seen("initialize").len(), flights }
    }

    /// What must hold once all is over: these were replaced, once, and nothing happened to any other; each is there
    /// once and answers; nobody is blamed; each call that was under way is answered, once.
    pub fn assert_only_replaced(&mut self, before: Before, replaced: &[&str]) {
        self.assert_only_replaced_as(before, replaced, 0);
    }

    /// [`Fleet::assert_only_replaced`], where so many failures are counted against those that were.
    pub fn assert_only_replaced_as(&mut self, before: Before, replaced: &[&str], failures: u64) {
        let status = self.scene.daemon.wait_until("the replaced to be ready, and all others", |status| {
            before.rows.iter().all(|(name, was)| {
                let is = server(status, name);
                let new = is["life"] != was["life"] && is["container"] != was["container"];
                is["state"] == "ready" && new == replaced.contains(&name.as_str())
            })
        });
        for (name, was) in &before.rows {
            let is = server(&status, name);
            let more = u64::from(replaced.contains(&name.as_str()));
            assert_eq!(is["restarts"], was["restarts"].as_u64().unwrap() + more, "{name}: {is:#}");
            assert_eq!(is["failures"], more * failures, "{name}: {is:#}");
            if more == 0 {
                for key in ["life", "pid", "container"] {
                    assert_eq!(is[key], was[key], "{key} of {name}");
                }
            }
        }
        let now = ids(&self.scene.containers());
        assert_eq!(now.len(), self.scene.containers().len(), "one container each");
        assert_eq!(now.keys().map(String::as_str).collect::<Vec<_>>(), BOXED);
        for (name, id) in &now {
            assert_eq!(*id != before.ids[name], replaced.contains(&name.as_str()), "{name}: {id}");
            assert_eq!(server(&status, name)["container"], json!(id));
        }
        assert_eq!(self.upstream.seen("initialize").len(), before.sessions, "a session upstream");
        for (name, flight) in before.flights {
            // Reads to the end of the answer: a second one would be seen.
            check_flight(&name, replaced.contains(&name.as_str()), flight.answer());
        }
        for name in before.rows.keys().filter(|name| *name != "web") {
            assert_eq!(self.client.text(&format!("{name}__echo"), json!({ "text": name })), *name);
        }
        self.client.call("web__run", json!({})).unwrap();
    }

    /// An orderly end, with nothing left.
    pub fn end(self) {
        let Fleet { mut scene, .. } = self;
        assert!(scene.daemon.stop().success());
        scene.assert_none_left(Duration::ZERO);
        scene.daemon.assert_nothing_left(Duration::from_secs(2));
    }

    /// Those whose state and reason are these.
    pub fn in_state(status: &Value, state: &str, reason: &str) -> BTreeSet<&'static str> {
        let is = |name: &&&str| {
            let row = server(status, name);
            row["state"] == state && (reason.is_empty() || error(row).0 == reason)
        };
        BOXED.iter().filter(is).copied().collect()
    }

    pub fn wait_all(&self, state: &str, reason: &str) -> Value {
        self.scene.daemon.wait_until(&format!("all to be {state} {reason}"), |status| {
            Fleet::in_state(status, state, reason).len() == BOXED.len()
        })
    }
}

fn check_flight(name: &str, replaced: bool, answer: Answer) {
    match (replaced, answer) {
        (false, Ok(_)) => (),
        (true, Err(error)) => {
            let kinds = ["outcome_unknown", "exited", "signaled", "engine_away"];
            assert!(kinds.contains(&error.kind()), "{name}: {error:?}");
        }
        (_, answer) => panic!("{name}, replaced: {replaced}: {answer:?}"),
    }
}

/// A remote server that takes its time where it is told to.
fn web(seen: &Seen, out: &mut Out) {
    let message = seen.message();
    if let Some(ms) = message["params"]["arguments"]["late"].as_u64() {
        measure_over(Duration::from_millis(ms));
        return out.json(&[("mcp-session-id", "s-1")], &response(&message, &text("late")));
    }
    answer_plainly(seen, out);
}
