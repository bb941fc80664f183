//! A container that runs and is not well: the engine says so, and so does the status.

use super::scene::{Scene, config, isolated};
use crate::support::daemon::server;
use crate::support::dockerd;
use crate::support::engine::Engine;
use crate::support::{TempDir, images, until};
use serde_json::json;

#[test]
fn a_paused_container_is_not_ready_and_is_kept() {
    let Some(engine) = dockerd::shared() else { return };
    let mut entry = isolated(&images::demo(&engine), "");
    entry["health_check_interval"] = json!("1s");
    let scene = Scene::starting(&engine, TempDir::new(), &config(vec![("frozen", entry)]));
    scene.daemon.wait_ready(&["frozen"]);
    let id = scene.container("frozen").id;
    engine.must("POST", &format!("/containers/{id}/pause"), None);
    let status = scene.daemon.wait_until("it to be seen", |status| {
        let frozen = server(status, "frozen");
        frozen["state"] != "ready" && frozen.to_string().contains("paused")
    });
    assert_eq!(server(&status, "frozen")["failures"], 0, "{status:#}");
    engine.must("POST", &format!("/containers/{id}/unpause"), None);
    scene.daemon.wait_ready(&["frozen"]);
    assert_eq!(scene.container("frozen").id, id, "what survived and answers is kept");
    assert_eq!(scene.daemon.client().text("frozen__echo", json!({ "text": "awake" })), "awake");
    scene.end();
}

#[test]
fn a_paused_container_is_stopped_like_any_other() {
    let Some(engine) = dockerd::shared() else { return };
    let scene = Scene::new(&engine, &[("frozen", "")]);
    let id = scene.container("frozen").id;
    engine.must("POST", &format!("/containers/{id}/pause"), None);
    scene.end();
}

/// The demo image with a health check that fails once there is a file `/tmp/sick`.
fn with_health_check(engine: &Engine) -> String {
    let image = images::demo(engine);
    let name = format!("{image}-health");
    if engine.ask("GET", &format!("/images/{name}/json"), None).0 == 200 {
        return name;
    }
    let id = engine.create(&format!("health-{:x}", fastrand::u64(..)), &json!({ "Image": image }));
    let change = r#"HEALTHCHECK --interval=500ms --timeout=5s --retries=1 CMD ["/bin/busybox","test","!","-e","/tmp/sick"]"#;
    let made = engine.docker(&["commit", "--change", change, &id, &name]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    engine.remove(&id);
    name
}

#[test]
fn what_its_health_check_finds_unhealthy_is_replaced() {
    let Some(engine) = dockerd::shared() else { return };
    let image = with_health_check(&engine);
    let mut entry = isolated(&image, "");
    entry["health_check_interval"] = json!("1s");
    let scene = Scene::starting(&engine, TempDir::new(), &config(vec![("ailing", entry)]));
    scene.daemon.wait_ready(&["ailing"]);
    let before = scene.container("ailing").id;
    let touch = engine.docker(&["exec", &before, "/bin/busybox", "touch", "/tmp/sick"]).status().unwrap();
    assert!(touch.success());
    until("the engine to find it unhealthy", || {
        let state = engine.inspect(&before).map(|container| container["State"]["Health"]["Status"].clone());
        state.is_none_or(|health| health == "unhealthy").then_some(())
    });
    let status = scene.daemon.wait_until("another in its place", |status| {
        server(status, "ailing")["state"] == "ready"
            && scene.containers().iter().all(|each| each.id != before)
    });
    let reason = server(&status, "ailing")["last_error"].to_string();
    assert!(reason.contains("unhealthy"), "{reason}");
    scene.end();
}

#[test]
fn one_that_somebody_removes_is_replaced() {
    let Some(engine) = dockerd::shared() else { return };
    let scene = Scene::new(&engine, &[("lost", "")]);
    let before = scene.container("lost").id;
    engine.remove(&before);
    scene.daemon.wait_until("another in its place", |status| {
        server(status, "lost")["state"] == "ready" && scene.containers().iter().all(|each| each.id != before)
    });
    scene.end();
}
