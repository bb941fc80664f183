//! What is measured, as processes: mcpvisor with one demo server, the relay, the echo, a demo server by itself. Each
//! ends when it is dropped.

use super::load::{self, Clients, Pipe};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The mcpvisor that was built with this bench, by the same profile for the same target.
pub const MCPVISOR: &str = env!("CARGO_BIN_EXE_mcpvisor");

/// How long a daemon may take to be ready, and to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every pid that was started and not waited for.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Ends the whole run when `span` is over: a bench that hangs must not stay.
pub fn end_after(span: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(span);
        eprintln!("bench: not done after {} s", span.as_secs());
        STARTED.lock().iter().for_each(|pid| terminate(*pid));
        std::process::exit(2);
    });
}

fn terminate(pid: u32) {
    // It cannot be another process's: nobody but us waits for it.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGTERM);
}

/// A server of ours that listens.
pub struct Process {
    child: Child,
    pub address: String,
    /// Removed at the end.
    dir: Option<PathBuf>,
}

impl Process {
    /// `mcpvisor serve` with one demo server, called `demo`.
    pub fn mcpvisor() -> io::Result<Process> {
        let demo = json!({"command": MCPVISOR, "args": ["demo-server", "--big", "10485760"]});
        let process = Process::mcpvisor_with(&json!({"demo": demo}), &[])?;
        process.wait_ready()?;
        Ok(process)
    }

    /// `mcpvisor serve` with these servers, which may not be ready yet.
    pub fn mcpvisor_with(servers: &Value, env: &[(&str, &str)]) -> io::Result<Process> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mcpvisor-bench-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let config = dir.join("mcp_config.json");
        std::fs::write(&config, json!({"mcpServers": servers}).to_string())?;
        let mut command = Command::new(MCPVISOR);
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(config);
        command.arg("--state-dir").arg(dir.join("state"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MCPVISOR_"))
        {
            command.env_remove(name);
        }
        command.envs(env.iter().copied());
        Process::start(command, Some(dir))
    }

    pub fn relay() -> io::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["relay", MCPVISOR, "demo-server"]);
        let process = Process::start(command, None)?;
        load::exchange(&mut load::connect(&process.address)?, &load::post("/", None, &initialize()))?;
        Ok(process)
    }

    pub fn echo() -> io::Result<Process> {
        Process::ours("echo")
    }

    pub fn far() -> io::Result<Process> {
        Process::ours("far")
    }

    /// This program again, as something else.
    fn ours(part: &str) -> io::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(part);
        Process::start(command, None)
    }

    /// Starts it, and waits for the line that says its address.
    fn start(mut command: Command, dir: Option<PathBuf>) -> io::Result<Process> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        STARTED.lock().push(child.id());
        let mut lines = BufReader::new(child.stderr.take().expect("it was piped"));
        let mut process = Process { child, address: String::new(), dir };
        let mut line = String::new();
        while process.address.is_empty() {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Err(io::Error::other("it ended before it listened"));
            }
            process.address = address(&line).unwrap_or_default();
        }
        // Whatever else it says is read away, so that it never blocks; the thread ends with the process.
        std::thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
        Ok(process)
    }

    fn wait_ready(&self) -> io::Result<()> {
        self.wait_for(|| self.clients(1, ALL))
    }

    /// Until it has the first call of these answered.
    pub fn wait_for(&self, connect: impl Fn() -> io::Result<Clients>) -> io::Result<()> {
        let patience = Instant::now() + PATIENCE;
        loop {
            match connect() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > patience => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Its pid; for mcpvisor that of the guardian, and that of the daemon, its child.
    pub fn pids(&self) -> Vec<u32> {
        let guardian = self.child.id();
        if self.dir.is_none() {
            return vec![guardian];
        }
        let children =
            std::fs::read_to_string(format!("/proc/{guardian}/task/{guardian}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(guardian).chain(children).collect()
    }

    /// Clients on mcpvisor, each with a session of its own.
    pub fn clients(&self, count: usize, mount: Mount) -> io::Result<Clients> {
        clients(&self.address, self.pids(), count, mount)
    }

    /// Clients on something that knows neither paths nor sessions, and takes the same bytes.
    pub fn plain_clients(&self, count: usize) -> io::Result<Clients> {
        let request = load::post(ONE.path, Some(&"0".repeat(32)), &echo_call(ONE.tool));
        Clients::connect(&self.address, self.pids(), count, |_| Ok(request.clone()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if self.dir.is_some() {
            terminate(self.child.id());
        }
        let patience = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                // One that does not end by itself must not outlive the bench.
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        STARTED.lock().retain(|pid| *pid != self.child.id());
        if let Some(dir) = &self.dir {
            // What is left in the temporary directory harms nobody.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// A mount of mcpvisor, and what the echo tool is called there.
#[derive(Clone, Copy)]
pub struct Mount {
    pub path: &'static str,
    pub tool: &'static str,
}

pub const ONE: Mount = Mount { path: "/mcp/s/demo", tool: "echo" };
pub const ALL: Mount = Mount { path: "/mcp", tool: "demo__echo" };

/// Clients on the mcpvisor that listens on `address` and has these processes.
pub fn clients(address: &str, pids: Vec<u32>, count: usize, mount: Mount) -> io::Result<Clients> {
    let body = echo_call(mount.tool);
    Clients::connect(address, pids, count, |stream| {
        let session = session(stream, mount.path)?;
        Ok(load::post(mount.path, Some(&session), &body))
    })
}

/// The demo server on pipes. It ends with them.
pub fn pipe(depth: usize) -> io::Result<Pipe> {
    let mut child =
        Command::new(MCPVISOR).arg("demo-server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut stdin = stdin.expect("it was piped");
    let mut stdout = BufReader::new(stdout.expect("it was piped"));
    stdin.write_all(format!("{}\n", initialize()).as_bytes())?;
    stdout.read_line(&mut String::new())?;
    std::thread::spawn(move || child.wait());
    Ok(Pipe { stdin, stdout, request: format!("{}\n", echo_call(ONE.tool)).into_bytes(), depth })
}

/// A session on a mount: its id.
pub fn session(stream: &mut TcpStream, path: &str) -> io::Result<String> {
    let (head, body) = load::exchange(stream, &load::post(path, None, &initialize()))?;
    let Some(id) = load::header(&head, "mcp-session-id").map(str::to_owned) else {
        return Err(io::Error::other(format!("no session: {head}{body}")));
    };
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    load::exchange(stream, &load::post(path, Some(&id), &initialized))?;
    Ok(id)
}

pub fn initialize() -> String {
    call(
        "initialize",
        &json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "mcpvisor-bench", "version": "0"},
        }),
    )
}

/// 200 bytes there and back.
pub fn echo_call(tool: &str) -> String {
    call("tools/call", &json!({"name": tool, "arguments": echo_arguments()}))
}

pub fn echo_arguments() -> Value {
    json!({"text": "0123456789".repeat(20)})
}

/// A call of the demo server's tool that answers 10 MB.
pub fn big_call() -> String {
    call("tools/call", &json!({"name": "big", "arguments": {}}))
}

fn call(method: &str, params: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

/// `127.0.0.1:PORT` in a line.
fn address(line: &str) -> Option<String> {
    let rest = &line[line.find("127.0.0.1:")?..];
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// Reads what is there and what comes, up to `bytes`.
pub fn read_away(stream: &mut TcpStream, bytes: u64) -> io::Result<u64> {
    io::copy(&mut stream.take(bytes), &mut io::sink())
}
