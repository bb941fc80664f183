//! From an entry that runs in a container to that container: variables resolved now, as for a process. Pure but for
//! what `lookup` answers. Who launches it adds what only a launch knows: name, labels, and whether the engine has an
//! init binary.
//!
//! Of our own environment nothing goes inside: a container has its image's, and what the entry says.

use crate::base::fault::{Fault, FaultKind};
use crate::config::isolation::{Isolation, MountKind, Objection, recipe, under};
use crate::config::{Access, Config, Launch, PullPolicy, ServerConfig, Template, expand_home};
use crate::engine::spec::{self, Log, Spec};
use std::path::Path;
use std::time::Duration;

/// What it takes to run a server in a container.
#[derive(Debug)]
pub struct Isolated {
    /// Where its engine listens: `unix:///…` or `tcp://…`; nothing means what the environment says (`DOCKER_HOST`).
    pub engine: Option<String>,
    /// Without name and labels, and without init.
    pub spec: Spec,
    pub pull: PullPolicy,
    pub pull_timeout: Duration,
}

/// `isolation` is the entry's. A fault here keeps the server parked: it is not run on the host instead.
pub fn isolated(
    config: &Config,
    entry: &ServerConfig,
    isolation: &Isolation,
    lookup: &dyn Fn(&str) -> Option<String>,
    home: Option<&Path>,
) -> Result<Isolated, Fault> {
    let Launch::Process { command, args, env, working_dir } = &entry.launch else {
        let nothing =
            || Fault::new(FaultKind::NotSupported, format!("isolate {}: nothing to run", entry.name));
        return Err(entry.problem.clone().unwrap_or_else(nothing));
    };
    let fault = |objection| objected(entry, objection);
    let resolve = |template: &Template| template.resolve(lookup);
    let path = |template: &Template| resolve(template).map(|text| home_path(&text, home));
    let args = args.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    let dir = working_dir.as_ref().map(path).transpose()?;
    let ask = recipe::Ask {
        command: &resolve(command)?,
        written: command.raw(),
        args: &args,
        image: isolation.image.as_ref().map(resolve).transpose()?,
        working_dir: dir.clone(),
    };
    let inside = recipe::inside(&ask, isolation).map_err(fault)?;

    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, value) in env.iter().chain(&isolation.env) {
        variables.retain(|(known, _)| known != name);
        variables.push((name.clone(), resolve(value)?));
    }
    let mut mounts = Vec::new();
    for mount in &isolation.mounts {
        let (kind, source) = match mount.kind {
            MountKind::Bind => (spec::MountKind::Bind, path(&mount.source)?),
            MountKind::Volume => (spec::MountKind::Volume, resolve(&mount.source)?),
        };
        if kind == spec::MountKind::Bind {
            absolute(&source, "the source of a mount").map_err(fault)?;
        }
        mounts.push(spec::Mount { kind, source, target: mount.target.clone(), read_only: mount.read_only });
    }
    if isolation.working_dir_mount != Access::None {
        let dir = dir.as_deref().unwrap_or_default();
        absolute(dir, "`working_dir`").map_err(fault)?;
        mounts.push(spec::Mount {
            kind: spec::MountKind::Bind,
            source: dir.to_owned(),
            target: dir.to_owned(),
            read_only: isolation.working_dir_mount == Access::Read,
        });
    }
    let seen = |dir: &String| mounts.iter().any(|mount| under(dir, &mount.target));
    let working_dir = isolation.working_dir.clone().or_else(|| dir.clone().filter(seen));
    mounts.extend(inside.cache.map(|(volume, target)| spec::Mount {
        kind: spec::MountKind::Volume,
        source: volume.to_owned(),
        target: target.to_owned(),
        read_only: false,
    }));
    let spec = Spec {
        image: inside.image,
        entrypoint: inside.entrypoint,
        cmd: inside.cmd,
        env: variables,
        working_dir,
        mounts,
        ..limits(isolation)
    };
    let engine = entry.engine.as_ref().or(config.engine.as_ref()).map(resolve).transpose()?;
    Ok(Isolated {
        engine: engine.map(|text| address(&text)),
        spec,
        pull: isolation.pull,
        pull_timeout: isolation.pull_timeout,
    })
}

/// What does not depend on what runs inside.
fn limits(isolation: &Isolation) -> Spec {
    let mut tmpfs = isolation.tmpfs.clone();
    if isolation.read_only {
        tmpfs.entry("/tmp".to_owned()).or_default();
    }
    let mut security_opt = isolation.security_opt.clone();
    if !security_opt.iter().any(|option| option.starts_with("no-new-privileges")) {
        security_opt.insert(0, "no-new-privileges".to_owned());
    }
    Spec {
        user: isolation.user.clone(),
        memory: isolation.memory,
        nano_cpus: isolation.nano_cpus,
        pids_limit: isolation.pids_limit,
        network_mode: isolation.network_mode.clone(),
        log: Some(Log { driver: isolation.log.driver().to_owned(), options: isolation.log.options() }),
        read_only: isolation.read_only,
        tmpfs,
        cap_drop: vec!["ALL".to_owned()],
        cap_add: isolation.cap_add.clone(),
        security_opt,
        extra_host_config: isolation.extra_host_config.clone(),
        platform: isolation.platform.clone(),
        ..Spec::default()
    }
}

fn objected(entry: &ServerConfig, objection: Objection) -> Fault {
    let message = format!("isolate {}: {}", entry.name, objection.message);
    Fault::new(FaultKind::BadConfig, message).hint(objection.hint)
}

fn home_path(text: &str, home: Option<&Path>) -> String {
    expand_home(text, home).to_string_lossy().into_owned()
}

fn absolute(path: &str, what: &str) -> Result<(), Objection> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(Objection::new(format!("{what} is not a full path"), "write it from `/` or `~/` on"))
}

/// A bare path is a socket's.
fn address(text: &str) -> String {
    if text.starts_with('/') { format!("unix://{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The body and the engine of the only server, or why there is none.
    fn made(text: &str) -> String {
        let (config, _) = config::parse(text, "f");
        let entry = &config.servers[0];
        let lookup = |name: &str| (name == "TOKEN").then(|| "s3cr3t".to_owned());
        let isolation = entry.isolation.as_ref().expect("it is isolated");
        match isolated(&config, entry, isolation, &lookup, Some(Path::new("/home/u"))) {
            Ok(made) => format!("{} {}", made.engine.as_deref().unwrap_or("-"), made.spec.body()),
            Err(fault) => fault.to_string(),
        }
    }

    const HEAD: &str = r#""OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Tty":false,"HostConfig":{"AutoRemove":true,"#;

    #[test]
    fn hardened_by_default() {
        let expected = format!(
            "- {}{HEAD}{}",
            r#"{"Image":"ghcr.io/astral-sh/uv:python3.13-bookworm-slim","Entrypoint":["uvx"],"Cmd":["a"],"Env":["K=s3cr3t"],"#,
            concat!(
                r#""CapDrop":["ALL"],"LogConfig":{"Config":{},"Type":"none"},"Memory":536870912,"#,
                r#""NanoCpus":1000000000,"PidsLimit":512,"SecurityOpt":["no-new-privileges"]}}"#,
            )
        );
        let text = r#"{"docker_isolation": {"enabled": true}, "mcpServers": {"x": {
            "command": "uvx", "args": ["a"], "env": {"K": "${env:TOKEN}"}}}}"#;
        assert_eq!(made(text), expected);
    }

    #[test]
    fn everything_that_can_be_said() {
        let expected = format!(
            "unix:///run/d.sock {}{HEAD}{}",
            concat!(
                r#"{"Image":"mirror.lan/library/node:22","Entrypoint":["npx"],"Cmd":["a"],"#,
                r#""Env":["K=1","L=s3cr3t"],"WorkingDir":"/home/u/src","User":"1000","#,
            ),
            concat!(
                r#""CapAdd":["NET_ADMIN","CHOWN"],"CapDrop":["ALL"],"#,
                r#""LogConfig":{"Config":{"max-file":"3","max-size":"5m"},"Type":"json-file"},"#,
                r#""Memory":1073741824,"Mounts":["#,
                r#"{"ReadOnly":true,"Source":"/home/u/notes","Target":"/notes","Type":"bind"},"#,
                r#"{"ReadOnly":false,"Source":"npm","Target":"/root/.npm","Type":"volume"},"#,
                r#"{"ReadOnly":true,"Source":"/home/u/src","Target":"/home/u/src","Type":"bind"}],"#,
                r#""NetworkMode":"none","PidsLimit":64,"ReadonlyRootfs":true,"#,
                r#""SecurityOpt":["no-new-privileges","seccomp=unconfined"],"ShmSize":67108864,"#,
                r#""Tmpfs":{"/run":"size=1m","/tmp":""}}}"#,
            )
        );
        let text = r#"{
            "docker_isolation": {"registry": "mirror.lan", "memory_limit": "1g", "cpu_limit": "0.5",
                "mounts": ["~/notes:/notes:ro"], "log_max_files": "3", "cap_add": ["cap_net_admin"],
                "engine": "/run/other.sock"},
            "mcpServers": {"x": {
                "command": "npx", "args": ["a"], "env": {"K": 1}, "working_dir": "~/src",
                "engine": "/run/d.sock",
                "isolation": {"enabled": true, "cpus": 0, "pids_limit": 64, "network_mode": "none",
                    "mounts": [{"type": "volume", "source": "npm", "target": "/root/.npm"}],
                    "mount_working_dir": "ro", "read_only": true, "tmpfs": ["/run:size=1m"],
                    "user": "1000", "platform": "linux/amd64", "cap_add": ["CHOWN"],
                    "security_opt": ["seccomp=unconfined"], "log_max_size": "5m",
                    "extra_host_config": {"ShmSize": 67108864},
                    "extra_args": ["-e", "L=${env:TOKEN}", "--rm"]}}}}"#;
        assert_eq!(made(text), expected);
    }

    #[test]
    fn what_cannot_be_built_is_a_fault() {
        #[track_caller]
        fn check(entry: &str, expected: &str) {
            let text =
                format!(r#"{{"docker_isolation": {{"enabled": true}}, "mcpServers": {{"x": {entry}}}}}"#);
            let fault = made(&text);
            assert!(fault.starts_with(expected), "{fault}");
        }
        check(r#"{"command": "${env:TOKEN}"}"#, "isolate x: which image has `${env:TOKEN}` is not known");
        check(
            r#"{"command": "npx", "args": ["${env:GONE}"]}"#,
            "`${env:GONE}`: the variable GONE is not set",
        );
        check(
            r#"{"command": "npx", "working_dir": "src", "isolation": {"mount_working_dir": true}}"#,
            "isolate x: `working_dir` is not a full path",
        );
    }
}
