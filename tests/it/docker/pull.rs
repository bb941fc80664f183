//! Images that are not there yet: fetched before the start, in a phase of their own, and shown while that lasts.

use super::scene::{Scene, config, error, isolated};
use crate::support::daemon::server;
use crate::support::dockerd::Dockerd;
use crate::support::registry::Registry;
use crate::support::{TempDir, images, measure_over};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_pull_is_shown_and_is_no_failed_start() {
    let Some(own) = Dockerd::own() else { return };
    let Some(registry) = Registry::start() else { return };
    let engine = own.engine();
    let name = registry.take(&engine, &images::demo(&engine));
    let mut entry = isolated(&name, "");
    entry["connection_timeout"] = json!("4s");
    registry.hold_after(100_000);
    let scene = Scene::starting_bare(&engine, TempDir::new(), &config(vec![("large", entry)]));
    let status = scene.daemon.wait_until("the pull to be seen", |status| {
        registry.drip(100_000);
        let large = server(status, "large");
        large["phase"] == "pulling" && large["progress"].as_str().is_some_and(|text| text.contains('B'))
    });
    let large = server(&status, "large");
    assert_eq!(large["state"], "connecting", "{large:#}");
    let text = scene.cli(&["status"]).stdout;
    assert!(text.contains("pulling"), "{text}");
    // Longer than a start may take.
    measure_over(Duration::from_secs(5));
    let large = scene.server("large");
    assert_eq!((&large["phase"], &large["failures"]), (&json!("pulling"), &json!(0)), "{large:#}");
    registry.release();
    scene.daemon.wait_ready(&["large"]);
    assert_eq!(scene.server("large")["failures"], 0);
    assert_eq!(scene.daemon.client().text("large__echo", json!({ "text": "here" })), "here");
    let mut scene = scene;
    assert!(scene.daemon.stop().success());
    scene.assert_none_left(Duration::ZERO);
}

#[test]
fn a_pull_that_nobody_wants_any_more_ends() {
    let Some(own) = Dockerd::own() else { return };
    let Some(registry) = Registry::start() else { return };
    let engine = own.engine();
    let name = registry.take(&engine, &images::demo(&engine));
    registry.hold_after(1 << 20);
    let scene = Scene::starting_bare(&engine, TempDir::new(), &config(vec![("large", isolated(&name, ""))]));
    scene.daemon.wait_until("the pull", |status| server(status, "large")["phase"] == "pulling");
    assert_eq!(scene.daemon.cli(&["upstream", "disable", "large"]).code, 0);
    scene.daemon.wait_state("large", "disabled");
    assert_eq!(scene.daemon.cli(&["upstream", "enable", "large"]).code, 0);
    scene.daemon.wait_until("the next pull", |status| server(status, "large")["phase"] == "pulling");
    // Nor does it hold up a shutdown.
    let mut scene = scene;
    assert!(scene.daemon.stop().success());
}

#[test]
fn an_image_that_nobody_has_parks_its_server() {
    let Some(own) = Dockerd::own() else { return };
    let Some(registry) = Registry::start() else { return };
    let engine = own.engine();
    let unknown = isolated(&format!("{}/nobody/has-this:1", registry.address), "");
    // Nothing listens there.
    let unreachable = isolated("127.0.0.1:1/nobody/has-this:1", "");
    let servers = config(vec![("unknown", unknown), ("unreachable", unreachable)]);
    let scene = Scene::starting(&engine, TempDir::new(), &servers);
    let parked = scene.daemon.wait_state("unknown", "parked");
    assert_eq!(error(&parked).0, "image_not_found", "{parked:#}");
    assert!(error(&parked).1.contains("nobody/has-this"), "{parked:#}");
    let failed = scene.wait_error("unreachable", "pull_failed");
    assert_ne!(failed["state"], "parked", "{failed:#}");
}
