//! The engine's client against an engine that misbehaves on command, and against a real one.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and play the engine on threads of their own"
)]

mod by_cli;
mod real;

use super::support::PATIENCE;
use super::support::fake_engine::{FakeEngine, Fault};
use mcpvisor::base::fault::FaultKind;
use mcpvisor::engine::api::{Engine, Patience};
use mcpvisor::engine::attach::{Demux, Stream};
use mcpvisor::engine::endpoint::Endpoint;
use mcpvisor::engine::error::{EngineError, EngineErrorKind as Kind};
use mcpvisor::engine::stream::Next;
use mcpvisor::sys::wake::Wake;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

fn patience() -> Patience<'static> {
    Patience::of(PATIENCE)
}

/// For what is meant to be late.
fn short() -> Patience<'static> {
    Patience::of(Duration::from_millis(100))
}

fn body(image: &str, command: &[&str], labels: Value) -> String {
    json!({
        "Image": image, "Cmd": command, "Labels": labels, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
        "AttachStdout": true, "AttachStderr": true, "Tty": false, "HostConfig": { "AutoRemove": true, "NetworkMode": "none" },
    })
    .to_string()
}

/// What comes out of an attachment until its end: stdout and stderr.
fn drain(socket: &mut UnixStream, early: &[u8]) -> (String, String) {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut demux, mut out, mut err) = (Demux::new(), Vec::new(), Vec::new());
    let mut take = |bytes: &[u8]| {
        demux.feed(bytes, |from, piece| match from {
            Stream::Out => out.extend_from_slice(piece),
            Stream::Err => err.extend_from_slice(piece),
        })
    };
    take(early).unwrap();
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        take(&buffer[..count]).unwrap();
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn readable(fd: std::os::fd::BorrowedFd<'_>) {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    assert!(poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap() > 0, "nothing came");
}

#[test]
fn a_life_from_create_to_gone() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let mut events = engine.events(&[("type", "container"), ("label", "who=me")], &patience()).unwrap();
    assert!(engine.image_exists("cat", &patience()).unwrap());
    assert!(!engine.image_exists("127.0.0.1:5000/no/such", &patience()).unwrap());

    let id =
        engine.create(Some("it-a"), &body("cat", &["cat"], json!({"who":"me"})), None, &patience()).unwrap();
    let listed = engine.list(&[("who", "me")], &patience()).unwrap();
    assert_eq!((listed.len(), listed[0].names[0].as_str(), listed[0].state.as_str()), (1, "it-a", "created"));
    assert_eq!(listed[0].created_s, 1_700_000_000);
    assert_eq!(engine.list(&[("who", ""), ("other", "")], &patience()).unwrap(), []);
    let attached = engine.attach(&id, &patience()).unwrap();
    let mut waiting = engine.wait(&id, "next-exit", &patience()).unwrap();
    engine.start(&id, &patience()).unwrap();
    engine.start(&id, &patience()).unwrap();
    let inspected = engine.inspect("it-a", &patience()).unwrap();
    assert!(inspected.running && inspected.auto_remove && inspected.health.is_none());
    assert_eq!((inspected.name.as_str(), inspected.labels["who"].as_str()), ("it-a", "me"));
    assert!(waiting.try_take().is_none());

    let mut socket = UnixStream::from(attached.socket);
    socket.write_all(b"hello\n").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain(&mut socket, &attached.early), ("hello\n".to_owned(), String::new()));
    assert_eq!(waiting.take(&patience()), Ok(0));
    let gone = engine.inspect(&id, &patience()).unwrap_err();
    assert_eq!(gone.kind, Kind::NoSuchContainer);
    engine.remove(&id, &patience()).unwrap();

    let mut seen = Vec::new();
    while seen.last().is_none_or(|action| action != "destroy") {
        let event = events.next(&patience()).unwrap().expect("the stream goes on");
        assert_eq!((event.id.as_str(), event.kind.as_str()), (id.as_str(), "container"));
        seen.push(event.action);
    }
    assert_eq!(seen, ["create", "attach", "start", "die", "destroy"]);
}

#[test]
fn every_status_has_its_kind() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let id = fake.plant("planted", &[], false);
    let new = body("cat", &["cat"], json!({}));
    for (status, kind) in [
        (400, Kind::Refusal(400)),
        (403, Kind::Refusal(403)),
        (409, Kind::Conflict),
        (500, Kind::Failed(500)),
        (503, Kind::Failed(503)),
    ] {
        for call in [
            "list", "create", "inspect", "start", "kill", "info", "attach", "wait", "events", "logs", "image",
        ] {
            fake.fail_next(call, status, 1);
            let error = match call {
                "list" => engine.list(&[], &patience()).map(drop),
                "create" => engine.create(None, &new, None, &patience()).map(drop),
                "inspect" => engine.inspect(&id, &patience()).map(drop),
                "start" => engine.start(&id, &patience()),
                "kill" => engine.kill(&id, "KILL", &patience()),
                "info" => engine.info(&patience()).map(drop),
                "attach" => engine.attach(&id, &patience()).map(drop),
                "wait" => engine.wait(&id, "removed", &patience()).map(drop),
                "events" => engine.events(&[], &patience()).map(drop),
                "logs" => engine.logs(&id, false, None, &patience()).map(drop),
                _ => engine.image_exists("cat", &patience()).map(drop),
            };
            let error = error.unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (kind, "as the test wants it"), "{call}");
            assert!(!error.is_away());
        }
    }
    let missing = engine.create(None, &body("nowhere", &[], json!({})), None, &patience()).unwrap_err();
    assert_eq!(missing.kind, Kind::NoSuchImage);
    assert_eq!(missing.fault(engine.endpoint()).kind, FaultKind::ImageNotFound);
    let taken = engine.create(Some("planted"), &new, None, &patience()).unwrap_err();
    assert_eq!(taken.kind, Kind::Conflict);
    assert_eq!(engine.kill(&id, "KILL", &patience()).unwrap_err().kind, Kind::Conflict);
    // A removal that is under way is a removal.
    fake.fail_next("remove", 409, 1);
    engine.remove(&id, &patience()).unwrap();
    fake.fail_next("remove", 500, 1);
    assert_eq!(engine.remove(&id, &patience()).unwrap_err().kind, Kind::Failed(500));
    for call in ["start", "attach", "wait"] {
        let error = match call {
            "start" => engine.start("none", &patience()),
            "attach" => engine.attach("none", &patience()).map(drop),
            _ => engine.wait("none", "removed", &patience()).map(drop),
        };
        assert_eq!(error.unwrap_err().kind, Kind::NoSuchContainer, "{call}");
    }
}

#[test]
fn an_engine_that_is_not_there() {
    let kind = |endpoint: Endpoint| Engine::new(endpoint).list(&[], &patience()).unwrap_err();
    let fake = FakeEngine::start();
    assert_eq!(kind(Endpoint::Unix(fake.tmp().path().join("none"))).kind, Kind::Absent);
    assert_eq!(kind(Endpoint::Unix(format!("/{}", "long".repeat(40)).into())).kind, Kind::Absent);
    // A socket whose owner is gone, and a file that is no socket.
    let stale = fake.tmp().path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let error = kind(Endpoint::Unix(stale));
    assert_eq!((error.kind, error.doing, error.is_away()), (Kind::Refused, "list containers", true));
    let file = fake.tmp().path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(kind(Endpoint::Unix(file)).kind, Kind::Refused);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(kind(Endpoint::Tcp(address.to_string())).kind, Kind::Refused);
    assert_eq!(kind(Endpoint::Tcp("no-such-host.invalid:2375".to_owned())).kind, Kind::Absent);
}

#[test]
fn over_tcp_by_address_and_by_name() {
    let fake = FakeEngine::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = fake.socket();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let (mut theirs, mut ours) = (stream.unwrap(), UnixStream::connect(&socket).unwrap());
            let (mut back, mut from) = (theirs.try_clone().unwrap(), ours.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            std::thread::spawn(move || std::io::copy(&mut theirs, &mut ours));
        }
    });
    for host in ["127.0.0.1", "localhost"] {
        let engine = Engine::new(Endpoint::parse(&format!("tcp://{host}:{port}")).unwrap());
        assert_eq!(engine.info(&patience()).unwrap().name, "fake");
    }
}

/// A full backlog is silence, and both silences end by the deadline or by a cancel.
#[test]
fn silence_ends_by_the_deadline_or_by_a_cancel() {
    let fake = FakeEngine::start();
    let full = fake.tmp().path().join("full");
    let listener = UnixListener::bind(&full).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let mut held = Vec::new();
    while let Ok(socket) = mcpvisor::sys::dial::unix(&full) {
        held.push(socket);
    }
    fake.hang(true);
    for endpoint in [Endpoint::Unix(full), fake.endpoint()] {
        let engine = Engine::new(endpoint);
        let began = Instant::now();
        let error = engine.list(&[], &short()).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (Kind::Silent, "no answer in time"));
        assert!(began.elapsed() >= Duration::from_millis(100));

        let wake = Wake::new().unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| wake.wake());
            let error = engine.list(&[], &patience().or_cancel(&wake)).unwrap_err();
            assert_eq!(error.kind, Kind::Cancelled);
        });
        // It was not cleared: who waits next is cancelled too.
        let error = engine.ping(&patience().or_cancel(&wake)).unwrap_err();
        assert_eq!(error.kind, Kind::Cancelled);
        assert!(!error.is_away());
    }
}

/// Bytes that never stop do not move a deadline, and nothing is kept beyond its limit.
#[test]
fn endless_answers() {
    let fake = FakeEngine::start();
    let path = fake.tmp().path().join("endless");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let heads = [
            "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nX: ",
            "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\n[",
            "HTTP/1.1 500 No\r\nApi-Version: 1.41\r\n\r\n",
        ];
        for (head, stream) in heads.iter().zip(listener.incoming()) {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(head.as_bytes()).unwrap();
            // Until the client has had enough.
            while stream.write_all(&[b' '; 4096]).is_ok() {}
        }
    });
    let engine = Engine::new(Endpoint::Unix(path));
    for _ in 0..3 {
        assert_eq!(engine.ping(&patience()).unwrap_err().kind, Kind::Garbled);
    }
}

#[test]
fn answers_that_break() {
    for (fault, kind) in [
        (Fault::Half, Kind::Cut),
        (Fault::CutBefore, Kind::Cut),
        (Fault::Cut, Kind::Cut),
        (Fault::Garbage, Kind::Garbled),
        (Fault::Hang, Kind::Silent),
        (Fault::Late, Kind::Silent),
    ] {
        let fake = FakeEngine::start();
        let engine = Engine::new(fake.endpoint());
        engine.ping(&patience()).unwrap();
        fake.fault_next("create", fault, 1);
        let new = body("sleep", &[], json!({"k":"v"}));
        let limit = if kind == Kind::Silent { short() } else { patience() };
        let error = engine.create(Some("a"), &new, None, &limit).unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert_eq!(fake.count("create"), 1, "what may have been done is not asked for again");
        // Whether it was done is seen by looking.
        let done = engine.list(&[("k", "v")], &patience()).unwrap().len();
        assert_eq!(done, usize::from(!matches!(fault, Fault::CutBefore | Fault::Hang)), "{fault:?}");
        fake.heal();
    }
}

/// The create that succeeds after its caller has given up.
#[test]
fn a_create_that_comes_late() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    fake.fault_next("create", Fault::Slow, 1);
    let new = body("sleep", &[], json!({}));
    assert_eq!(engine.create(Some("late"), &new, None, &short()).unwrap_err().kind, Kind::Silent);
    assert_eq!(fake.containers().len(), 0);
    fake.release();
    fake.wait_until("the late container", |containers, _| containers.len() == 1);
    assert_eq!(engine.create(Some("late"), &new, None, &patience()).unwrap_err().kind, Kind::Conflict);
}

#[test]
fn connections_are_used_again_and_stale_ones_are_noticed() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let id = fake.plant("a", &[], false);
    engine.ping(&patience()).unwrap();
    // Closed while idle: seen before it is used, by calls that must not be asked twice too.
    fake.cut_connections();
    engine.start(&id, &patience()).unwrap();
    fake.cut_connections();
    engine.list(&[], &patience()).unwrap();
    // Closed at the moment of asking: once more, on a new one; and not for ever.
    fake.fault_next("list", Fault::CutBefore, 1);
    engine.list(&[], &patience()).unwrap();
    fake.fault_next("list", Fault::CutBefore, 2);
    assert_eq!(engine.list(&[], &patience()).unwrap_err().kind, Kind::Cut);
    fake.heal();
    engine.list(&[], &patience()).unwrap();
    assert_eq!(fake.count("start"), 1);
}

#[test]
fn the_version_is_agreed_upon_and_again_after_an_outage() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let spoken = |engine: &Engine| engine.version().map(|version| (version.major, version.minor));
    assert_eq!(spoken(&engine), None);
    engine.list(&[], &patience()).unwrap();
    assert_eq!((spoken(&engine), fake.count("version")), (Some((1, 41)), 0));

    // A newer one comes back, which has forgotten all that we speak but its own.
    fake.go_away();
    assert_eq!(engine.list(&[], &patience()).unwrap_err().kind, Kind::Absent);
    assert_eq!(spoken(&engine), None);
    fake.set_version((1, 99), (1, 60));
    fake.come_back();
    engine.list(&[], &patience()).unwrap();
    assert_eq!((spoken(&engine), fake.count("version")), (Some((1, 60)), 1));

    // An older one stands there without our having noticed: what it refuses is asked again in its own version.
    fake.set_version((1, 40), (1, 12));
    let new = body("sleep", &[], json!({}));
    engine.create(None, &new, None, &patience()).unwrap();
    assert_eq!((spoken(&engine), fake.count("create")), (Some((1, 40)), 2));
    fake.set_version((1, 41), (1, 41));
    drop(engine.events(&[], &patience()).unwrap());
    assert_eq!(spoken(&engine), Some((1, 41)));
    fake.set_version((1, 50), (1, 24));
    let pong = engine.ping(&patience()).unwrap();
    assert_eq!(pong.spoken.to_string(), "1.47");
}

#[test]
fn an_attachment_that_breaks() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let id = fake.plant("a", &[], true);
    // The first output comes in the same packet as the head.
    fake.script_attach(Some(std::sync::Arc::new(|mut stream: UnixStream| {
        let early = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n\x01\0\0\0\0\0\0\x05EARLY";
        stream.write_all(early).unwrap();
    })));
    let attached = engine.attach(&id, &patience()).unwrap();
    let mut socket = UnixStream::from(attached.socket);
    assert_eq!(drain(&mut socket, &attached.early).0, "EARLY");
    // Engines that do not upgrade.
    fake.script_attach(Some(std::sync::Arc::new(|mut stream: UnixStream| {
        let early =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n\x02\0\0\0\0\0\0\x04";
        stream.write_all(early).unwrap();
        stream.write_all(b"oops").unwrap();
    })));
    let attached = engine.attach(&id, &patience()).unwrap();
    let mut socket = UnixStream::from(attached.socket);
    assert_eq!(drain(&mut socket, &attached.early).1, "oops");
    // Something that is no stream.
    fake.script_attach(Some(std::sync::Arc::new(|mut stream: UnixStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").unwrap();
    })));
    assert_eq!(engine.attach(&id, &patience()).unwrap_err().kind, Kind::Garbled);
    fake.script_attach(None);

    fake.fault_next("attach", Fault::GarbageStream, 1);
    let attached = engine.attach(&id, &patience()).unwrap();
    let mut bytes = attached.early;
    if bytes.is_empty() {
        readable(attached.socket.as_fd());
        bytes.resize(64, 0);
        let count = UnixStream::from(attached.socket).read(&mut bytes).unwrap();
        bytes.truncate(count);
    }
    assert!(Demux::new().feed(&bytes, |_, _| ()).is_err());
    fake.fault_next("attach", Fault::CutStream, 1);
    let attached = engine.attach(&id, &patience()).unwrap();
    assert_eq!(drain(&mut UnixStream::from(attached.socket), &attached.early).0, "ha");
}

#[test]
fn streams_that_break() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let id = fake.plant("a", &[], true);
    for (fault, kind) in [(Fault::CutStream, Kind::Cut), (Fault::GarbageStream, Kind::Garbled)] {
        fake.fault_next("events", fault, 1);
        let mut events = engine.events(&[], &patience()).unwrap();
        engine.pause(&id, &patience()).unwrap();
        engine.unpause(&id, &patience()).unwrap();
        assert_eq!(events.next(&patience()).unwrap_err().kind, kind);

        fake.fault_next("wait", fault, 1);
        let brief = fake.plant("brief", &[], true);
        let mut waiting = engine.wait(&brief, "next-exit", &patience()).unwrap();
        engine.remove(&brief, &patience()).unwrap();
        assert_eq!(waiting.take(&patience()).unwrap_err().kind, kind);

        fake.add_pullable(
            "far",
            &[json!({"status":"Pulling from far","id":"latest"}), json!({"status":"x"})],
            &["cat"],
        );
        fake.fault_next("pull", fault, 1);
        assert_eq!(pull_all(&engine, "far").unwrap_err().kind, kind);
    }
    // Orderly ends are ends.
    let mut events = engine.events(&[("event", "die")], &patience()).unwrap();
    assert_eq!(events.read().unwrap(), Next::Nothing);
    fake.lose_events(true);
    fake.signal(&id, nix::sys::signal::Signal::SIGKILL);
    fake.wait_until("its end", |containers, _| {
        containers.iter().all(|container| container.state == "exited")
    });
    assert_eq!(events.read().unwrap(), Next::Nothing, "the event was lost");
    assert!(fake.history().iter().any(|event| event["Action"] == "die"));
    fake.go_away();
    assert!(events.next(&patience()).is_err_and(|error| error.kind == Kind::Cut));
}

/// A thread that waits for events ends when its interrupt is dropped.
#[test]
fn a_stream_is_interrupted_from_outside() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let mut events = engine.events(&[], &patience()).unwrap();
    let interrupt = events.interrupt();
    let reader = std::thread::spawn(move || events.next(&patience()));
    drop(interrupt);
    assert_eq!(reader.join().unwrap().unwrap_err().kind, Kind::Cancelled);
}

fn pull_all(engine: &Engine, image: &str) -> Result<Vec<(usize, usize)>, EngineError> {
    let mut pull = engine.pull(image, None, Some("bG9naW4="), &patience())?;
    let mut seen = Vec::new();
    while let Some(progress) = pull.next(&patience())? {
        seen.push((progress.layers_done, progress.layers));
    }
    Ok(seen)
}

#[test]
fn pulls() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let line = |status: &str, id: &str| json!({ "status": status, "id": id });
    let lines = [
        line("Pulling from far", "1"),
        line("Pulling fs layer", "a"),
        line("Pull complete", "a"),
        line("Done", ""),
    ];
    fake.add_pullable("127.0.0.1:5000/far:1", &lines, &["cat"]);
    assert!(!engine.image_exists("127.0.0.1:5000/far:1", &patience()).unwrap());
    let seen = pull_all(&engine, "127.0.0.1:5000/far:1").unwrap();
    assert_eq!(seen.last(), Some(&(1, 1)));
    assert!(engine.image_exists("127.0.0.1:5000/far:1", &patience()).unwrap());
    assert_eq!(fake.auths(), [Some("bG9naW4=".to_owned())]);

    assert_eq!(pull_all(&engine, "nowhere").unwrap_err().kind, Kind::NoSuchImage);
    fake.fail_next("pull", 500, 1);
    let failed = pull_all(&engine, "nowhere").unwrap_err();
    assert_eq!(failed.fault(engine.endpoint()).kind, FaultKind::PullFailed);
    for (code, kind) in [(404, Kind::NoSuchImage), (401, Kind::Refusal(401)), (0, Kind::Failed(500))] {
        let error = json!({ "errorDetail": { "code": code, "message": "said so" }, "error": "said so" });
        fake.add_pullable("bad", &[line("Pulling from bad", "latest"), error], &["cat"]);
        let error = pull_all(&engine, "bad").unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (kind, "said so"));
    }

    // It takes its time, and can be given up.
    fake.add_pullable("slow", &lines, &["cat"]);
    fake.fault_next("pull", Fault::Late, 1);
    let mut pull = engine.pull("slow", None, None, &patience()).unwrap();
    readable(pull.fd());
    assert_eq!(pull.next(&short()).unwrap().unwrap().text, "Pulling from far");
    assert_eq!(pull.next(&short()).unwrap_err().kind, Kind::Silent);
    let wake = Wake::new().unwrap();
    wake.wake();
    assert_eq!(pull.next(&patience().or_cancel(&wake)).unwrap_err().kind, Kind::Cancelled);
    fake.release();
    while pull.next(&patience()).unwrap().is_some() {}
    assert!(engine.image_exists("slow", &patience()).unwrap());
}

#[test]
fn what_a_container_says_of_itself() {
    let fake = FakeEngine::start();
    let engine = Engine::new(fake.endpoint());
    let id = fake.plant("a", &[("k", "v")], true);
    let inspect = || engine.inspect(&id, &patience()).unwrap();
    engine.pause(&id, &patience()).unwrap();
    assert!(inspect().paused);
    engine.unpause(&id, &patience()).unwrap();
    fake.set_health(&id, "unhealthy");
    assert_eq!((inspect().paused, inspect().health.as_deref()), (false, Some("unhealthy")));
    fake.oom(&id);
    fake.wait_until("its end", |containers, _| containers[0].state == "exited");
    let now = inspect();
    assert_eq!((now.oom_killed, now.exit_code, now.running), (true, 137, false));
    let info = engine.info(&patience()).unwrap();
    assert_eq!((info.init_binary.as_deref(), info.id.starts_with("FAKE-")), (Some("docker-init"), true));
    assert_eq!(fake.max_live_per("k"), 1);
}
