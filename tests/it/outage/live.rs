//! Real engines, stopped, killed, frozen and hidden: what is heard of it, and how soon.

use super::ear::{Ear, within};
use crate::support::dockerd::Dockerd;
use crate::support::images;
use mcpvisor::engine::endpoint::Endpoint;
use mcpvisor::engine::engines::{Engines, Terms};
use mcpvisor::engine::outage::{Cause, Policy};
use mcpvisor::engine::watched::{Happened, Heard};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// The kernel or the engine says it; no timer is on the path. 20 times what is promised, because the machine is busy.
const AT_ONCE: Duration = Duration::from_secs(2);

fn endpoint(engine: &Dockerd) -> Endpoint {
    Endpoint::parse(&engine.engine().host()).unwrap()
}

fn watch() -> Engines {
    let label = Some(("mcpvisor.instance".to_owned(), "outage-test".to_owned()));
    Engines::new(Terms { label, ..Terms::default() })
}

#[test]
fn stopped_killed_and_started() {
    let Some(mut dockerd) = Dockerd::own() else { return };
    let watched = watch().get(endpoint(&dockerd)).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    let stopping = Instant::now();
    dockerd.stop();
    within("SIGTERM to away", stopping, ear.away("down").0, AT_ONCE);
    dockerd.start();
    within("answers to up", Instant::now(), ear.up_at_last(), AT_ONCE);
    let killed = Instant::now();
    dockerd.kill9();
    within("SIGKILL to away", killed, ear.away("down").0, AT_ONCE);
    let starting = Instant::now();
    dockerd.start();
    println!("started within {:?}", starting.elapsed());
    within("answers to up", Instant::now(), ear.up_at_last(), AT_ONCE);
    assert_eq!(watched.state().outages.count, 2);
}

#[test]
fn frozen_and_thawed() {
    let Some(dockerd) = Dockerd::own() else { return };
    let watched = watch().get(endpoint(&dockerd)).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    for _ in 0..2 {
        dockerd.pause();
        let asked = Instant::now();
        watched.ask();
        let timeout = Policy::default().ping_patience;
        within("frozen, asked, to away", asked, ear.away("silent").0, timeout + AT_ONCE);
        dockerd.cont();
        within("thawed to up", Instant::now(), ear.up(), AT_ONCE);
    }
}

#[test]
fn its_socket_is_hidden_and_back() {
    let Some(dockerd) = Dockerd::own() else { return };
    let Endpoint::Unix(socket) = endpoint(&dockerd) else { panic!("a socket") };
    let watched = watch().get(endpoint(&dockerd)).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    for _ in 0..5 {
        let aside = socket.with_extension("aside");
        let hidden = Instant::now();
        std::fs::rename(&socket, &aside).unwrap();
        within("socket hidden to away", hidden, ear.away("down").0, AT_ONCE);
        let back = Instant::now();
        std::fs::rename(&aside, &socket).unwrap();
        within("socket back to up", back, ear.up(), AT_ONCE);
    }
}

#[test]
fn its_permissions_are_taken_and_given_back() {
    let Some(dockerd) = Dockerd::own() else { return };
    let Endpoint::Unix(socket) = endpoint(&dockerd) else { panic!("a socket") };
    let mode = |mode| std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    // A thread that opens files as nobody does, and so the threads that it starts; the rest of us stays root.
    let at = endpoint(&dockerd);
    let as_nobody = std::thread::spawn(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        watch().get(at).unwrap()
    });
    let watched = as_nobody.join().unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    for _ in 0..3 {
        let taken = Instant::now();
        mode(0o600);
        let (at, fault) = ear.away("denied");
        within("permission taken to away", taken, at, AT_ONCE);
        assert!(fault.hint.contains("group"), "{fault}");
        let given = Instant::now();
        mode(0o666);
        within("permission given to up", given, ear.up(), AT_ONCE);
    }
}

#[test]
fn its_containers() {
    let Some(mut dockerd) = Dockerd::with(&["--live-restore"]) else { return };
    let engine = dockerd.engine();
    let image = images::busybox(&engine);
    let watched = watch().get(endpoint(&dockerd)).unwrap();
    let ear = Ear::at(&watched);
    ear.up();
    let id = engine.create(
        "outage-a",
        &json!({
            "Image": image,
            "Cmd": ["/bin/busybox", "sleep", "3600"],
            "Labels": { "mcpvisor.instance": "outage-test" },
            "HostConfig": { "NetworkMode": "none" },
        }),
    );
    ear.subscription.follow(&id);
    engine.must("POST", &format!("/containers/{id}/start"), None);
    for _ in 0..5 {
        let pausing = Instant::now();
        engine.must("POST", &format!("/containers/{id}/pause"), None);
        within("docker pause to heard", pausing, ear.until_happened(Happened::Paused), AT_ONCE);
        engine.must("POST", &format!("/containers/{id}/unpause"), None);
        ear.until_happened(Happened::Unpaused);
    }
    // It survives its engine, and dies while nobody can say so.
    let pid = engine.inspect(&id).unwrap()["State"]["Pid"].as_i64().unwrap();
    dockerd.stop();
    // dockerd tells a pause and its end a second time when containerd confirms them, which may be late.
    ear.until("away", |heard| matches!(heard, Heard::Away(Cause::Down, _)).then_some(()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    dockerd.start();
    // From the list. While it starts it takes connections and does not answer, which may be called silence.
    ear.until_happened(Happened::Died(None));
    ear.up();
    engine.remove(&id);
    let mut last = ear.happened().1;
    while last != Happened::Gone {
        last = ear.happened().1;
    }
}
