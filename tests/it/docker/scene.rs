//! A daemon whose servers are containers, the engine that they live on, and what that engine says of them.

use crate::support::daemon::{Daemon, Ran, server};
use crate::support::engine::{Census, Engine, Listed};
use crate::support::{TempDir, dead_instances, images, processes, until, until_within};
use mcpvisor::reaper::instance;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The promise: how soon nothing is left, whoever was killed.
pub const GONE: Duration = Duration::from_secs(15);

/// Switches of a demo server that nothing but SIGKILL ends.
pub const STUBBORN: &str = "--ignore-eof --ignore-term";

pub struct Scene {
    pub engine: Engine,
    pub image: String,
    pub daemon: Daemon,
    pub census: Census,
}

impl Scene {
    /// Isolated demo servers: name and switches of each. Returns when all are ready.
    pub fn new(engine: &Engine, servers: &[(&str, &str)]) -> Scene {
        let image = images::demo(engine);
        let entries = servers.iter().map(|(name, switches)| (*name, isolated(&image, switches))).collect();
        let scene = Scene::starting(engine, TempDir::new(), &config(entries));
        scene.daemon.wait_ready(&servers.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        scene
    }

    /// With any config; returns as soon as the daemon listens.
    pub fn starting(engine: &Engine, tmp: TempDir, config: &Value) -> Scene {
        let image = images::demo(engine);
        Scene { image, ..Scene::starting_bare(engine, tmp, config) }
    }

    /// [`Scene::starting`], where the engine has no image yet.
    pub fn starting_bare(engine: &Engine, tmp: TempDir, config: &Value) -> Scene {
        let census = engine.census();
        let daemon = Daemon::start_in_with_env(tmp, config, &[("DOCKER_HOST", &engine.host())]);
        Scene { engine: engine.clone(), image: String::new(), daemon, census }
    }

    pub fn instance(&self) -> String {
        instance_of(&self.daemon.tmp)
    }

    /// All containers of this daemon's instance, in whatever state.
    pub fn containers(&self) -> Vec<Listed> {
        of_instance(&self.engine, &self.instance())
    }

    /// The one container of a server.
    pub fn container(&self, server: &str) -> Listed {
        let mut all = self.containers();
        all.retain(|container| container.label("mcpvisor.server") == server);
        assert_eq!(all.len(), 1, "{server}: {all:#?}");
        all.remove(0)
    }

    pub fn server(&self, name: &str) -> Value {
        server(&self.daemon.status(), name).clone()
    }

    /// Until the server is in the state, for a reason of this kind.
    pub fn wait_error(&self, name: &str, kind: &str) -> Value {
        let what = format!("{name} to fail with {kind}");
        let status = self.daemon.wait_until(&what, |status| error(server(status, name)).0 == kind);
        server(&status, name).clone()
    }

    /// A command of the CLI, on the same engine.
    pub fn cli(&self, args: &[&str]) -> Ran {
        cli(&self.engine, Path::new(&self.daemon.tmp.join("state")), args)
    }

    pub fn restart(&self, name: &str) {
        let path = format!("/api/v1/servers/{name}/restart");
        let full = crate::support::http::request(self.daemon.address(), "POST", &path, &[], "");
        assert!([202, 409].contains(&full.head.status), "{full:?}");
    }

    /// SIGKILL to the guardian and the daemon, as near to each other as can be.
    pub fn kill_both(&mut self) {
        let daemon = self.daemon.daemon_pid();
        self.daemon.kill9(self.daemon.guardian_pid());
        self.daemon.kill9(daemon);
        self.daemon.wait_end();
        until("the daemon to be dead", || (!processes::is_alive(daemon)).then_some(()));
    }

    /// The next daemon of the same state directory; the one before may be dead or alive.
    pub fn again(self, config: &Value) -> Scene {
        let engine = self.engine.clone();
        Scene::starting(&engine, self.daemon.into_tmp(), config)
    }

    pub fn assert_none_left(&self, within: Duration) {
        assert_none_left(&self.engine, &self.instance(), within);
    }

    /// [`Scene::end`], where no container may ever have run.
    pub fn end_without_containers(mut self) {
        assert!(self.daemon.stop().success());
        self.assert_none_left(Duration::ZERO);
    }

    /// An orderly end, after which nothing is left and never two of one server's containers were there.
    pub fn end(mut self) {
        let exit = self.daemon.stop();
        assert!(exit.success(), "{exit}");
        // Not a moment later: the daemon has waited for it.
        self.assert_none_left(Duration::ZERO);
        self.census.assert_never_two(&self.image, &self.instance());
        self.daemon.assert_nothing_left(Duration::from_secs(2));
    }
}

pub fn config(servers: Vec<(&str, Value)>) -> Value {
    let servers: serde_json::Map<String, Value> =
        servers.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
    json!({ "mcpServers": servers })
}

/// An entry that runs the demo server in a container.
pub fn isolated(image: &str, switches: &str) -> Value {
    let args: Vec<&str> = std::iter::once("demo-server").chain(switches.split_whitespace()).collect();
    json!({
        "command": "/bin/mcpvisor",
        "args": args,
        "isolation": { "enabled": true, "image": image, "network_mode": "none" },
    })
}

/// [`isolated`], with more keys in its `isolation`.
pub fn isolated_with(image: &str, switches: &str, isolation: Value) -> Value {
    let mut entry = isolated(image, switches);
    entry["isolation"].as_object_mut().unwrap().extend(isolation.as_object().unwrap().clone());
    entry
}

/// An entry that a user wrote with `docker run`: options of `run`, then the demo server's switches.
pub fn docker_run(image: &str, options: &str, switches: &str) -> Value {
    let words = format!("run {options} --network none {image} /bin/mcpvisor demo-server {switches}");
    json!({ "command": "docker", "args": words.split_whitespace().collect::<Vec<_>>() })
}

/// Kind and message of what a server's status gives as the reason that it is not running.
pub fn error(server: &Value) -> (String, String) {
    let reason = if server["reason"].is_null() { &server["last_error"] } else { &server["reason"] };
    let text = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
    (text("kind"), text("message"))
}

pub fn instance_of(tmp: &TempDir) -> String {
    let state = tmp.path().join("state");
    until("the state directory to have its instance", || instance::peek(&state))
}

pub fn of_instance(engine: &Engine, instance: &str) -> Vec<Listed> {
    engine.containers(&[&format!("mcpvisor.instance={instance}")])
}

pub fn assert_none_left(engine: &Engine, instance: &str, within: Duration) {
    let deadline = std::time::Instant::now() + within;
    let left = until_within("the containers to be gone", within * 2 + Duration::from_secs(1), || {
        let left = of_instance(engine, instance);
        (left.is_empty() || std::time::Instant::now() >= deadline).then_some(left)
    });
    assert!(left.is_empty(), "left after {within:?}: {left:#?}");
}

/// A command of the CLI with any state directory.
pub fn cli(engine: &Engine, state: &Path, args: &[&str]) -> Ran {
    let mut command = crate::support::daemon::command();
    command.arg("--state-dir").arg(state).args(args).env("DOCKER_HOST", engine.host());
    crate::support::daemon::run(&mut command)
}

/// `cleanup --force --all`: what other dead instances left on this engine goes too. Not before the processes are gone
/// that somebody else's dead instance has on this host: they are not for this test to end.
pub fn cleanup_all(engine: &Engine, state: &Path) -> Ran {
    let _alone = dead_instances();
    until("this host to be without orphans of others", || {
        let shown = cli(engine, state, &["cleanup", "--all", "--dry-run", "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        shown["ended"].as_array().unwrap().is_empty().then_some(())
    });
    cli(engine, state, &["cleanup", "--force", "--all"])
}

/// Which container each server has, by id.
pub fn ids(containers: &[Listed]) -> BTreeMap<String, String> {
    containers.iter().map(|each| (each.label("mcpvisor.server").to_owned(), each.id.clone())).collect()
}

pub fn signal(pid: u32, signal: Signal) {
    processes::send(pid, signal);
}
