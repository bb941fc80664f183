//! The real engine, and its traps.

use super::super::support::real_engine::{Removed, busybox_image, real_engine};
use super::{body, drain, patience, short};
use mcpvisor::engine::api::{Engine, Patience};
use mcpvisor::engine::attach::Stream;
use mcpvisor::engine::error::EngineErrorKind as Kind;
use serde_json::{Value, json};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An engine, an image with a shell, and a label of this test.
fn on_engine(test: impl FnOnce(&Engine, &str, &Removed)) {
    let Some(endpoint) = real_engine() else { return };
    let Some(image) = busybox_image(&endpoint) else { return };
    let engine = Engine::new(endpoint);
    let removed = Removed::labelled(&engine);
    test(&engine, &image, &removed);
}

fn labels(removed: &Removed) -> Value {
    json!({ removed.label.0.as_str(): removed.label.1 })
}

fn create(engine: &Engine, image: &str, removed: &Removed, script: &str) -> String {
    let body = body(image, &["sh", "-c", script], labels(removed));
    engine.create(None, &body, None, &patience()).unwrap()
}

/// StdinOnce and a half-close end a `cat`; what was written before the start is not lost; the exit code is told; and
/// AutoRemove takes the container away.
#[test]
fn a_half_close_ends_it_and_it_goes() {
    on_engine(|engine, image, removed| {
        let label = [(removed.label.0.as_str(), removed.label.1.as_str())];
        let filter = format!("{}={}", removed.label.0, removed.label.1);
        let mut events = engine.events(&[("type", "container"), ("label", &filter)], &patience()).unwrap();
        let id = create(engine, image, removed, "cat; echo oops >&2; exit 7");
        let attached = engine.attach(&id, &patience()).unwrap();
        let mut exit = engine.wait(&id, "next-exit", &patience()).unwrap();
        let mut gone = engine.wait(&id, "removed", &patience()).unwrap();
        let mut socket = UnixStream::from(attached.socket);
        socket.write_all(b"before the start\n").unwrap();
        engine.start(&id, &patience()).unwrap();
        engine.start(&id, &patience()).unwrap();
        assert!(exit.try_take().is_none());
        let inspected = engine.inspect(&id, &patience()).unwrap();
        assert!(inspected.running && inspected.auto_remove && inspected.pid > 0, "{inspected:?}");
        let listed = engine.list(&label, &patience()).unwrap();
        assert_eq!((listed.len(), &listed[0].id, listed[0].state.as_str()), (1, &id, "running"));
        assert_eq!(listed[0].names, [inspected.name]);
        socket.shutdown(Shutdown::Write).unwrap();
        let (out, err) = drain(&mut socket, &attached.early);
        assert_eq!((out.as_str(), err.as_str()), ("before the start\n", "oops\n"));
        assert_eq!(exit.take(&patience()), Ok(7));
        assert_eq!(gone.take(&patience()), Ok(7));
        assert_eq!(engine.inspect(&id, &patience()).unwrap_err().kind, Kind::NoSuchContainer);
        engine.remove(&id, &patience()).unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|action| action != "destroy") {
            let event = events.next(&patience()).unwrap().expect("the stream goes on");
            assert_eq!(event.id, id);
            seen.push(event.action);
        }
        assert_eq!(seen, ["create", "attach", "start", "die", "destroy"]);
    });
}

/// With AutoRemove and StdinOnce a container goes with its attachment: a client that is killed leaves none.
#[test]
fn it_goes_with_its_attachment() {
    on_engine(|engine, image, removed| {
        let id = create(engine, image, removed, "cat");
        let attached = engine.attach(&id, &patience()).unwrap();
        let mut gone = engine.wait(&id, "removed", &patience()).unwrap();
        engine.start(&id, &patience()).unwrap();
        drop(attached);
        gone.take(&patience()).unwrap();
        assert_eq!(removed.left(), Vec::<String>::new());
    });
}

/// The trap: a stream that nobody reads keeps its container from ending. Reading it frees kill and remove.
#[test]
fn a_stream_that_is_not_read_holds_its_container() {
    on_engine(|engine, image, removed| {
        let id = create(engine, image, removed, "yes 'a line that nobody reads'");
        let attached = engine.attach(&id, &patience()).unwrap();
        let mut gone = engine.wait(&id, "removed", &patience()).unwrap();
        engine.start(&id, &patience()).unwrap();
        // All that is between it and us fills up: its pipe, the engine's copy, our socket.
        let socket = UnixStream::from(attached.socket);
        fills_up(&socket);
        let held = engine.kill(&id, "KILL", &Patience::of(Duration::from_secs(2))).unwrap_err();
        assert_eq!(held.kind, Kind::Silent);
        assert_eq!(engine.remove(&id, &short()).unwrap_err().kind, Kind::Silent);
        let mut reading = socket;
        let reader = std::thread::spawn(move || drain(&mut reading, &attached.early).0.len());
        gone.take(&patience()).unwrap();
        assert!(reader.join().unwrap() > 0);
        engine.remove(&id, &patience()).unwrap();
    });
}

/// Waits until as much lies unread in the socket as it takes: the count stands still while the container runs on.
fn fills_up(socket: &UnixStream) {
    let (mut last, mut still) = (0, 0);
    super::super::support::until("the socket to fill up", || {
        let unread = unread_bytes(socket);
        still = if unread > 0 && unread == last { still + 1 } else { 0 };
        last = unread;
        (still > 30).then_some(())
    });
}

fn unread_bytes(socket: &UnixStream) -> usize {
    // A peek that would take more than a socket holds says how much that is.
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd;
    let mut buffer = vec![0; 4 << 20];
    recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).unwrap_or(0)
}

#[test]
fn what_it_says_of_errors() {
    on_engine(|engine, image, removed| {
        let new = body("mcpvisor-it-no-such-image", &["x"], labels(removed));
        assert_eq!(engine.create(None, &new, None, &patience()).unwrap_err().kind, Kind::NoSuchImage);
        assert!(!engine.image_exists("mcpvisor-it-no-such-image:1", &patience()).unwrap());
        assert!(engine.image_exists(image, &patience()).unwrap());
        let bad =
            json!({ "Image": image, "Labels": labels(removed), "HostConfig": { "Memory": 1 } }).to_string();
        assert_eq!(engine.create(None, &bad, None, &patience()).unwrap_err().kind, Kind::Refusal(400));
        let name = format!("mcpvisor-{}", removed.label.1);
        let good = body(image, &["sleep", "600"], labels(removed));
        let id = engine.create(Some(&name), &good, None, &patience()).unwrap();
        assert_eq!(engine.create(Some(&name), &good, None, &patience()).unwrap_err().kind, Kind::Conflict);
        assert_eq!(engine.kill(&id, "TERM", &patience()).unwrap_err().kind, Kind::Conflict);
        assert_eq!(engine.inspect(&name, &patience()).unwrap().id, id);
        engine.remove(&id, &patience()).unwrap();
        engine.remove(&id, &patience()).unwrap();
        assert_eq!(engine.start(&id, &patience()).unwrap_err().kind, Kind::NoSuchContainer);
        assert_eq!(engine.unpause(&id, &patience()).unwrap_err().kind, Kind::NoSuchContainer);
        assert_eq!(engine.attach(&id, &patience()).unwrap_err().kind, Kind::NoSuchContainer);
        assert!(!engine.info(&patience()).unwrap().id.is_empty());
    });
}

#[test]
fn logs_are_read() {
    on_engine(|engine, image, removed| {
        let body = json!({
            "Image": image, "Cmd": ["sh", "-c", "echo out; echo err >&2; sleep 600"], "Labels": labels(removed),
            "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": "json-file" } },
        });
        let id = engine.create(None, &body.to_string(), None, &patience()).unwrap();
        engine.start(&id, &patience()).unwrap();
        let mut logs = engine.logs(&id, true, None, &patience()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while out != b"out\n" || err != b"err\n" {
            let (from, piece) = logs.next(&patience()).unwrap().expect("it is followed");
            if from == Stream::Out { out.extend(piece) } else { err.extend(piece) }
        }
        engine.remove(&id, &patience()).unwrap();
        assert_eq!(logs.next(&patience()).unwrap(), None);
    });
}
