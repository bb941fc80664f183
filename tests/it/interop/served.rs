//! Published servers that listen by themselves, as processes of ours: with the HTTP of their own, or with that of the SDK
//! that they are made with.

use super::peers::{installed, path, root};
use crate::support::{TempDir, until};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A server of ours to ask. Drop ends it.
pub struct Served {
    child: Child,
    /// Without a path.
    pub origin: String,
}

impl Served {
    /// Starts it and waits for the line on stdout that says where it listens.
    pub fn start(command: &mut Command) -> Served {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let origin = lines.find_map(|line| {
            let from = line.find("http://127.0.0.1:")?;
            let to = line[from + 7..].find('/').map_or(line.len(), |at| from + 7 + at);
            Some(line[from..to].to_owned())
        });
        // What it says later must not meet a closed pipe.
        std::thread::spawn(move || lines.count());
        Served { child, origin: origin.expect("a line that says where it listens") }
    }

    /// One that does not say where it listens, and wants to be told.
    fn start_at(address: String, command: &mut Command) -> Served {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let served = Served { child: command.spawn().unwrap(), origin: format!("http://{address}") };
        until("a server to listen", || TcpStream::connect(&address).ok());
        served
    }

    /// A script of npm's, on any port of 127.0.0.1.
    pub fn node(script: &str, args: &[&str]) -> Served {
        let mut command = Command::new(installed("npm/node_modules/.bin/node"));
        command.arg("--require").arg(root().join("tests/peers/loopback.cjs"));
        command.arg(installed(script)).args(args);
        Served::start(command.env("PORT", "0").env("PATH", path()))
    }

    /// The object that a published module makes with the Python SDK of this environment.
    fn python(environment: &str, made: &str, transport: &str) -> Served {
        let mut command = Command::new(installed(environment).join("bin/python"));
        command.arg("-B").arg(root().join("tests/peers/over_http.py"));
        Served::start(command.args([made, transport]))
    }

    fn kubernetes(dir: &TempDir, more: &[&str]) -> Served {
        let mut command = Command::new(installed(KUBERNETES));
        let address = free_address();
        let port = address.rsplit(':').next().expect("an address has a port");
        command.args([
            "--kubeconfig",
            &dir.join("kubeconfig"),
            "--bind-address",
            "127.0.0.1",
            "--port",
            port,
        ]);
        Served::start_at(address, command.args(more))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Below the ports that the kernel gives to clients.
fn free_address() -> String {
    let mut addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", fastrand::u16(12_000..30_000)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("the list does not end")
}

const KUBERNETES: &str =
    "npm/node_modules/kubernetes-mcp-server-linux-amd64/bin/kubernetes-mcp-server-linux-amd64";

/// What all of them need.
pub const PROGRAMS: [&str; 3] =
    ["npm/node_modules/.bin/node", "venv-servers/bin/python", "venv-servers-v1/bin/python"];

/// A published server that listens: which of the peers it is, and how it is reached.
pub struct Listening {
    /// The name of the entry, and of the peer up to the dash.
    pub name: &'static str,
    pub served: Served,
    pub path: &'static str,
    /// Whether it has the transport of 2024-11-05.
    pub sse: bool,
    /// Whether it speaks 2026-07-28 too. Over the transport of 2024-11-05 no revision has that, and one SDK serves it.
    pub modern: bool,
}

impl Listening {
    pub fn url(&self) -> String {
        format!("{}{}", self.served.origin, self.path)
    }

    pub fn peer(&self) -> &'static str {
        self.name.split('-').next().expect("a name has a first part")
    }
}

/// All of them, which takes a while: two interpreters of Python's and two of Node's are among them twice.
pub fn listening(dir: &TempDir) -> Vec<Listening> {
    let everything = "npm/node_modules/.bin/mcp-server-everything";
    let http = |name, served, modern| Listening { name, served, path: "/mcp", sse: false, modern };
    let sse = |name, served, modern| Listening { name, served, path: "/sse", sse: true, modern };
    let git = format!("mcp_server_git.server:create_server({})", dir.join("repository"));
    let calculator = "mcp_server_calculator.calculator:mcp";
    let context7 = ["--transport", "http", "--port", "0"];
    let mut all = vec![
        http("everything-http", Served::node(everything, &["streamableHttp"]), false),
        sse("everything-sse", Served::node(everything, &["sse"]), false),
        http("context7-http", Served::node("npm/node_modules/.bin/context7-mcp", &context7), true),
        http("git-http", Served::python("venv-servers", &git, "http"), true),
        sse("git-sse", Served::python("venv-servers", &git, "sse"), true),
        http(
            "time-http",
            Served::python("venv-servers", "mcp_server_time.server:create_server(UTC)", "http"),
            true,
        ),
        http("calculator-http", Served::python("venv-servers-v1", calculator, "http"), false),
        sse("calculator-sse", Served::python("venv-servers-v1", calculator, "sse"), false),
    ];
    if cfg!(target_arch = "x86_64") {
        // With sessions it lists the older revisions alone, without it has the newer one too.
        all.push(http("kubernetes-http", Served::kubernetes(dir, &[]), false));
        all.push(http("kubernetes-stateless", Served::kubernetes(dir, &["--stateless"]), true));
    }
    all
}
