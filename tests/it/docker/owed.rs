//! Removals that are owed from an earlier run are paid by the next, whenever the engine is there; and only what is
//! ours is removed.

use crate::support::daemon::Daemon;
use crate::support::dockerd::Dockerd;
use crate::support::engine::Engine;
use crate::support::{TempDir, demo_config, images, until};
use mcpvisor::base::id::{Life, Slug};
use mcpvisor::base::time::Wall;
use mcpvisor::reaper::instance::{Instance, random_id};
use mcpvisor::reaper::labels::Labels;
use mcpvisor::reaper::mark::Marker;
use mcpvisor::store::{Record, Removal, Store};
use serde_json::{Value, json};

/// The state directory of a daemon that is not running, and how its last run marked what it made.
struct Earlier {
    tmp: TempDir,
    marker: Marker,
}

impl Earlier {
    fn new() -> Earlier {
        let tmp = TempDir::new();
        let marker = Instance::open(&tmp.path().join("state")).unwrap().marker();
        Earlier { tmp, marker }
    }

    fn store(&self) -> Store {
        Store::open(&self.tmp.path().join("state"))
    }

    /// A container with the labels of `marker`, and in the store that it is to be removed.
    fn owe(&self, engine: &Engine, name: &str, marker: &Marker) -> String {
        let labels = Labels::of(&marker.mark(&Slug::of("git"), Life(7)), "shared", "c0ffee", Wall(1));
        let labels: serde_json::Map<String, Value> =
            labels.pairs().into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        let id = engine.sleeper(name, &images::busybox(engine), &Value::Object(labels));
        self.note(engine, name, &id);
        id
    }

    fn note(&self, engine: &Engine, name: &str, id: &str) {
        let text = |text: &str| text.to_owned();
        let store = self.store();
        let record = Record {
            engine: engine.host(),
            id: text(id),
            name: text(name),
            server: text("git"),
            instance: self.marker.instance.clone(),
            session: self.marker.session.clone(),
            life: 7,
            created_ms: 1,
        };
        store.created(record).unwrap();
        store
            .owe(Removal {
                engine: engine.host(),
                id: text(id),
                name: text(name),
                server: text("git"),
                since_ms: 1_795_169_907_123,
                tries: 2,
                last_error: Some(text("remove a container: driver failed")),
                unverified: false,
            })
            .unwrap();
        assert!(store.close(crate::support::PATIENCE));
    }
}

fn no_removals(daemon: &Daemon) {
    daemon.wait_until("nothing to be owed any more", |status| status["removals"] == json!([]));
}

#[test]
fn what_an_earlier_run_owed_is_paid_and_nothing_else_is_touched() {
    let Some(own) = Dockerd::own() else { return };
    let (engine, earlier) = (own.engine(), Earlier::new());
    let stranger = Marker { instance: random_id(), ..earlier.marker.clone() };
    let ours: Vec<String> =
        (0..6).map(|n| earlier.owe(&engine, &format!("ours-{n}"), &earlier.marker)).collect();
    // Its id stands in our store, and its labels are another's: whoever is wrong, it is left alone.
    let theirs = earlier.owe(&engine, "theirs", &stranger);
    earlier.note(&engine, "long-gone", &"ab".repeat(32));

    let mut daemon = Daemon::start_in(earlier.tmp, &demo_config(&[("a", "")]), &[]);
    // In the beginning the database is not open yet, and nothing is known to be owed.
    let said = |what: &str| daemon.output().1.matches(what).count();
    until("seven removals, and one refusal", || {
        (said("after it should have been") == 7 && said("container theirs (") == 1).then_some(())
    });
    no_removals(&daemon);
    assert!(ours.iter().all(|id| engine.inspect(id).is_none()));
    assert!(engine.is_running(&theirs));
    assert!(daemon.stop().success());
    let tmp = daemon.into_tmp();
    let store = Store::open(&tmp.path().join("state"));
    assert!(store.owed().is_empty());
    let kept = store.records().into_iter().filter(|created| created.gone_ms.is_none());
    assert_eq!(kept.map(|created| created.record.id).collect::<Vec<_>>(), [theirs]);
}

#[test]
fn a_removal_waits_for_an_engine_that_is_away_and_is_shown() {
    let Some(mut own) = Dockerd::own() else { return };
    let (engine, earlier) = (own.engine(), Earlier::new());
    let id = earlier.owe(&engine, "stuck", &earlier.marker);
    own.stop();
    let daemon = Daemon::start_in(earlier.tmp, &demo_config(&[("a", "")]), &[]);
    let status = daemon.wait_until("a try in vain", |status| {
        status["removals"][0]["last_error"].as_str().is_some_and(|error| !error.contains("driver failed"))
    });
    let row = &status["removals"][0];
    assert_eq!(row["state"], "owed");
    assert_eq!((&row["id"], &row["name"], &row["server"]), (&json!(id), &json!("stuck"), &json!("git")));
    assert_eq!((&row["engine"], &row["since"]), (&json!(engine.host()), &json!("2026-11-20T10:18:27.123Z")));
    assert!(row["tries"].as_u64().unwrap() > 2, "{row}");
    let shown = daemon.cli(&["status"]).stdout;
    assert!(shown.contains("still to be removed:") && shown.contains("container stuck ("), "{shown}");

    own.start();
    no_removals(&daemon);
    until("the container to be gone", || engine.inspect(&id).is_none().then_some(()));
}
