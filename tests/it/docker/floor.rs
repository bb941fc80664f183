//! What everything else here stands on: an engine of our own that ends when it should, and the engine's own ways that
//! the product counts on.

use crate::support::dockerd::{self, Dockerd};
use crate::support::{images, processes, until};
use serde_json::json;
use std::io::Read;
use std::net::Shutdown;

#[test]
fn a_half_close_ends_a_bare_container() {
    let Some(engine) = dockerd::shared() else { return };
    let (id, mut stream) = engine.attached(&images::demo(&engine));
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    until("it to be gone", || engine.inspect(&id).is_none().then_some(()));
}

#[test]
fn an_engine_of_a_test_ends_with_all_it_has() {
    let Some(mut own) = Dockerd::with(&["--live-restore"]) else { return };
    let engine = own.engine();
    let image = images::busybox(&engine);
    let id = engine.sleeper("left", &image, &json!({}));
    let pid = engine.inspect(&id).unwrap()["State"]["Pid"].as_u64().unwrap() as u32;
    own.pause();
    own.cont();
    own.kill9();
    own.start();
    assert!(engine.is_running(&id), "with --live-restore");
    own.remove_socket();
    assert!(!engine.is_up());
    drop(own);
    assert!(!processes::is_alive(pid));
}
