//! The published servers that stand behind mcpvisor: how each is started, and one call that needs no network.
//! Versions are pinned by the lock files in tests/peers.

use crate::support::TempDir;
use crate::support::all_installed;
use crate::support::daemon::run;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A published server: how it is started, how many tools it has, and one call.
pub struct Peer {
    pub name: &'static str,
    /// Below tests/.cache.
    pub program: &'static str,
    pub args: Vec<String>,
    pub env: Value,
    /// Whether it speaks 2026-07-28 too.
    pub modern: bool,
    pub tools: usize,
    pub tool: &'static str,
    pub arguments: Value,
    /// A part of the first text of the result. `None`: offline it only fails, in its own way.
    pub says: Option<String>,
}

impl Peer {
    fn new(name: &'static str, program: &'static str, args: &[&str], tools: usize) -> Peer {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Peer {
            name,
            program,
            args,
            env: json!({}),
            modern: false,
            tools,
            tool: "",
            arguments: json!({}),
            says: None,
        }
    }

    fn modern(mut self) -> Peer {
        self.modern = true;
        self
    }

    fn env(mut self, name: &str, value: impl Into<Value>) -> Peer {
        self.env[name] = value.into();
        self
    }

    fn call(mut self, tool: &'static str, arguments: Value, says: &str) -> Peer {
        self.says = Some(says.to_owned());
        self.fails(tool, arguments)
    }

    fn fails(mut self, tool: &'static str, arguments: Value) -> Peer {
        self.tool = tool;
        self.arguments = arguments;
        self
    }

    /// The entry of a config.
    pub fn entry(&self) -> Value {
        let mut env = self.env.clone();
        env["PATH"] = path().into();
        json!({ "command": installed(self.program), "args": self.args, "env": env })
    }

    /// The same as a process of our own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(installed(self.program));
        command.args(&self.args).env("PATH", path());
        for (name, value) in self.env.as_object().expect("env is a map") {
            command.env(name, value.as_str().expect("a variable is a text"));
        }
        command
    }
}

/// Those that serve both eras are pinned by the first message.
/// `dir` is where their files are, once [`prepare`] has made them.
pub fn peers(dir: &TempDir) -> Vec<Peer> {
    let mut all = reference_servers(dir);
    all.extend(others(dir));
    all
}

/// What the protocol's own project publishes.
fn reference_servers(dir: &TempDir) -> Vec<Peer> {
    let files = dir.join("files");
    let repository = dir.join("repository");
    let thought =
        json!({"thought": "one", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1});
    let noon = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    vec![
        Peer::new("everything", "npm/node_modules/.bin/mcp-server-everything", &["stdio"], 13).call(
            "get-sum",
            json!({"a": 2, "b": 40}),
            "The sum of 2 and 40 is 42.",
        ),
        Peer::new("filesystem", "npm/node_modules/.bin/mcp-server-filesystem", &[&files], 14).call(
            "read_text_file",
            json!({"path": format!("{files}/grüße.txt")}),
            "hello from a file",
        ),
        Peer::new("memory", "npm/node_modules/.bin/mcp-server-memory", &[], 9)
            .env("MEMORY_FILE_PATH", dir.join("memory.jsonl"))
            .call("read_graph", json!({}), "\"entities\": []"),
        Peer::new("sequential-thinking", "npm/node_modules/.bin/mcp-server-sequential-thinking", &[], 1)
            .env("DISABLE_THOUGHT_LOGGING", "true")
            .call("sequentialthinking", thought, "\"thoughtNumber\": 1"),
        // Answers `initialize` with 2024-11-05, whatever it is asked for.
        Peer::new("github", "npm/node_modules/.bin/mcp-server-github", &[], 26)
            .fails("create_repository", json!({})),
        Peer::new("time", "venv-servers/bin/mcp-server-time", &[], 2).modern().call(
            "convert_time",
            noon,
            "\"time_difference\": \"+9.0h\"",
        ),
        Peer::new("git", "venv-servers/bin/mcp-server-git", &["--repository", &repository], 12)
            .modern()
            .call("git_status", json!({"repo_path": repository}), "No commits yet"),
    ]
}

/// What others publish: other SDKs, other languages, older versions.
fn others(dir: &TempDir) -> Vec<Peer> {
    let files = dir.join("files");
    let database = dir.join("database");
    let ranges = json!([{"file_path": format!("{files}/grüße.txt"), "ranges": [{"start": 1}]}]);
    let mut all = vec![
        Peer::new("eslint", "npm/node_modules/@eslint/mcp/src/mcp-cli.js", &[], 1).call(
            "lint-files",
            json!({"filePaths": [format!("{files}/lint.mjs")]}),
            "results of running ESLint",
        ),
        Peer::new("repomix", "npm/node_modules/.bin/repomix", &["--mcp"], 6)
            .fails("read_repomix_output", json!({"outputId": "none"})),
        Peer::new("context7", "npm/node_modules/.bin/context7-mcp", &[], 2)
            .modern()
            .fails("resolve-library-id", json!({})),
        // mcp-go behind a launcher in Node; answers `initialize` with 2025-03-26.
        Peer::new("excel", "npm/node_modules/.bin/excel-mcp-server", &[], 6)
            .fails("excel_describe_sheets", json!({"fileAbsolutePath": format!("{files}/none.xlsx")})),
        Peer::new("calculator", "venv-servers-v1/bin/mcp-server-calculator", &[], 1).call(
            "calculate",
            json!({"expression": "6*7"}),
            "42",
        ),
        Peer::new("sqlite", "venv-servers-v1/bin/mcp-server-sqlite", &["--db-path", &database], 6).call(
            "list_tables",
            json!({}),
            "[]",
        ),
        Peer::new("text-editor", "venv-servers-v1/bin/mcp-text-editor", &[], 2).call(
            "get_text_file_contents",
            json!({"files": ranges}),
            "hello from a file",
        ),
    ];
    // The official Go SDK; the version that is pinned was published for this architecture alone.
    if cfg!(target_arch = "x86_64") {
        let program =
            "npm/node_modules/kubernetes-mcp-server-linux-amd64/bin/kubernetes-mcp-server-linux-amd64";
        let kubeconfig = dir.join("kubeconfig");
        all.push(Peer::new("kubernetes", program, &["--kubeconfig", &kubeconfig], 20).modern().call(
            "configuration_view",
            json!({}),
            "https://127.0.0.1:1",
        ));
    }
    all
}

/// A cluster that nobody asks.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: nobody, user: {}}]
contexts: [{name: none, context: {cluster: nowhere, user: nobody}}]
current-context: none
";

/// Makes the files that the peers look at.
pub fn prepare(dir: &TempDir) {
    std::fs::create_dir(dir.join("files")).unwrap();
    std::fs::write(dir.join("files/grüße.txt"), "hello from a file").unwrap();
    std::fs::write(dir.join("files/lint.mjs"), "nothing();\n").unwrap();
    let rules = "export default [{ rules: { \"no-undef\": \"error\" } }];\n";
    std::fs::write(dir.join("files/eslint.config.mjs"), rules).unwrap();
    std::fs::write(dir.join("kubeconfig"), KUBECONFIG).unwrap();
    let made = run(Command::new("git").args(["init", "--quiet", &dir.join("repository")]));
    assert_eq!(made.code, 0, "{made:?}");
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn installed(program: &str) -> PathBuf {
    root().join("tests/.cache").join(program)
}

/// The PATH under which the peers run: the pinned Node before any other.
pub fn path() -> String {
    let bin = installed("npm/node_modules/.bin");
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

/// Whether everything is there; if not, says what is not.
pub fn complete<'a>(programs: impl IntoIterator<Item = &'a str>) -> bool {
    all_installed(programs.into_iter().map(installed))
}
