//! A registry of images on loopback (Debian's docker-registry), behind a gate that holds its answers back.

use super::engine::Engine;
use super::{TempDir, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

/// Drop ends it.
pub struct Registry {
    process: Child,
    /// Where engines find it: the gate.
    pub address: String,
    gate: Arc<Gate>,
    _dir: TempDir,
}

/// How many bytes of answers may still pass; `None` is all.
#[derive(Default)]
struct Gate(Mutex<Option<u64>>, Condvar);

impl Gate {
    /// Waits until some of `bytes` may pass; how many.
    fn pass(&self, bytes: usize) -> usize {
        let mut left = self.0.lock().unwrap();
        loop {
            match &mut *left {
                None => return bytes,
                Some(0) => left = self.1.wait(left).unwrap(),
                Some(some) => {
                    let count = bytes.min((*some).try_into().unwrap_or(usize::MAX));
                    *some -= count as u64;
                    return count;
                }
            }
        }
    }

    fn set(&self, bytes: Option<u64>) {
        *self.0.lock().unwrap() = bytes;
        self.1.notify_all();
    }
}

impl Registry {
    /// `None` where there is no docker-registry.
    pub fn start() -> Option<Registry> {
        let installed = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|dir| dir.join("docker-registry").is_file());
        if !installed {
            let required = std::env::var("IT_ENGINE").is_ok_and(|value| value == "required");
            assert!(!required, "docker-registry is not installed");
            eprintln!("skipped: docker-registry is not installed (run: scripts/test)");
            return None;
        }
        let dir = TempDir::new();
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            dir.join("images")
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        // With the thread of the test it ends, should that be killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve", &dir.join("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the registry to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        let gate = Arc::new(Gate::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::clone(&gate);
        // Ends with the test process; what comes after the registry's end is closed at once.
        std::thread::spawn(move || {
            for engine in listener.incoming().map_while(Result::ok) {
                let Ok(registry) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                relay(engine, registry, &shared);
            }
        });
        Some(Registry { process, address, gate, _dir: dir })
    }

    /// Puts an image of the engine into the registry; returns the name to pull it by. The engine keeps nothing of it.
    pub fn take(&self, engine: &Engine, image: &str) -> String {
        let name = format!("{}/{}", self.address, image);
        for args in
            [["tag", image, &name].as_slice(), &["push", "--quiet", &name], &["rmi", "--force", image, &name]]
        {
            let done = engine.docker(args).output().unwrap();
            assert!(done.status.success(), "docker {args:?}: {done:?}");
        }
        name
    }

    /// Lets so many more bytes of answers pass, and then none.
    pub fn hold_after(&self, bytes: u64) {
        self.gate.set(Some(bytes));
    }

    /// So many more.
    pub fn drip(&self, bytes: u64) {
        let left = *self.gate.0.lock().unwrap();
        self.gate.set(left.map(|left| left + bytes));
    }

    pub fn release(&self) {
        self.gate.set(None);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.gate.set(None);
        // Dead already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both ways, answers through the gate. The threads end with the connections.
fn relay(engine: TcpStream, registry: TcpStream, gate: &Arc<Gate>) {
    let (mut from_engine, mut to_registry) = (engine.try_clone().unwrap(), registry.try_clone().unwrap());
    std::thread::spawn(move || {
        // Whoever closes first, the other side hears of it.
        let _ = std::io::copy(&mut from_engine, &mut to_registry);
        let _ = to_registry.shutdown(Shutdown::Write);
    });
    let gate = Arc::clone(gate);
    std::thread::spawn(move || {
        let (mut from, mut to, mut buffer) = (registry, engine, [0; 16 << 10]);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut sent = 0;
            while sent < count {
                let next = sent + gate.pass(count - sent);
                if to.write_all(&buffer[sent..next]).is_err() {
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
                sent = next;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(12_000..30_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
