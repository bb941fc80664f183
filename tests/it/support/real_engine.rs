//! The real engine, and images for it that need no registry.

use super::{PATIENCE, TempDir, dockerd};
use mcpvisor::engine::api::{Engine, Patience};
use mcpvisor::engine::endpoint::Endpoint;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The engine that the tests share; where there is none, that was said.
pub fn real_engine() -> Option<Endpoint> {
    let endpoint = Endpoint::parse(&dockerd::shared()?.host()).unwrap();
    Engine::new(endpoint.clone()).ping(&Patience::of(PATIENCE)).unwrap();
    Some(endpoint)
}

/// An image with a shell and the small tools, `mcpvisor-it-busybox`. `None` where there is no static busybox.
pub fn busybox_image(endpoint: &Endpoint) -> Option<String> {
    let busybox = Path::new("/usr/bin/busybox");
    if !super::all_installed([busybox.to_owned()]) {
        return None;
    }
    let applets = ["sh", "cat", "sleep", "echo", "env", "yes", "head", "dd", "true", "false", "kill", "seq"];
    let mut tar = Tar::default();
    tar.file("bin/busybox", &std::fs::read(busybox).unwrap());
    for applet in applets {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    Some(import(endpoint, "mcpvisor-it-busybox", &tar.bytes(), &["CMD [\"sh\"]", "ENV PATH=/bin"]))
}

/// An image `name:latest` with this static program as `/program` and its arguments as command.
pub fn program_image(endpoint: &Endpoint, name: &str, program: &Path, args: &[&str]) -> String {
    let mut tar = Tar::default();
    tar.file("program", &std::fs::read(program).unwrap());
    tar.folder("tmp");
    let command: Vec<&str> = std::iter::once("/program").chain(args.iter().copied()).collect();
    import(endpoint, name, &tar.bytes(), &[&format!("CMD {}", serde_json::to_string(&command).unwrap())])
}

/// `docker import`, over the API. The same name twice replaces the image, which is as good.
fn import(endpoint: &Endpoint, name: &str, tar: &[u8], changes: &[&str]) -> String {
    use mcpvisor::http::reply::encode;
    let Endpoint::Unix(socket) = endpoint else {
        panic!("{endpoint}: images are imported over Unix sockets")
    };
    let changes: String = changes.iter().map(|change| format!("&changes={}", encode(change))).collect();
    let head = format!(
        "POST /images/create?fromSrc=-&repo={name}&tag=latest{changes} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        tar.len()
    );
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(tar).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("errorDetail"), "{answer}");
    format!("{name}:latest")
}

/// Just enough of the tar format (ustar).
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(&mut self, path: &str, bytes: &[u8]) {
        self.entry(path, b'0', "", bytes);
    }

    fn link(&mut self, path: &str, to: &str) {
        self.entry(path, b'2', to, &[]);
    }

    fn folder(&mut self, path: &str) {
        self.entry(path, b'5', "", &[]);
    }

    fn entry(&mut self, path: &str, kind: u8, link: &str, bytes: &[u8]) {
        let mut head = [0u8; 512];
        let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, "0000755");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", bytes.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        head[156] = kind;
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&head);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Removes what a test has created, whatever its outcome.
pub struct Removed<'a> {
    pub engine: &'a Engine,
    pub label: (String, String),
}

impl Removed<'_> {
    /// A label that no other test run has.
    pub fn labelled(engine: &Engine) -> Removed<'_> {
        let unique = TempDir::new().path().file_name().unwrap().to_str().unwrap().to_owned();
        Removed { engine, label: ("mcpvisor-it".to_owned(), unique) }
    }

    pub fn left(&self) -> Vec<String> {
        let label = [(self.label.0.as_str(), self.label.1.as_str())];
        let listed = self.engine.list(&label, &Patience::of(PATIENCE)).unwrap();
        listed.into_iter().map(|container| container.id).collect()
    }
}

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        for id in self.left() {
            if let Err(error) = self.engine.remove(&id, &Patience::of(PATIENCE)) {
                eprintln!("{id} is left: {error}");
            }
        }
    }
}
