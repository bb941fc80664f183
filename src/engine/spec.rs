//! What a container of ours is made of, and the body of `POST /containers/create` that says so. Pure: no engine is
//! asked here, and nothing of a server's entry is known but what was put in.
//!
//! Some of it is not for choosing. A container is attached to from its creation on and ends with the one client that
//! it has (`StdinOnce`), and the engine removes it when it has ended (`AutoRemove`): without the first a half-close
//! does not end the server, without the second a crash of ours leaves it behind.

use crate::base::id::fnv1a;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// One container, before it exists.
#[derive(Clone, PartialEq, Default)]
pub struct Spec {
    /// Goes with the request, not into the body.
    pub name: String,
    pub image: String,
    /// What runs instead of the image's own entrypoint; empty leaves that.
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// Secrets: in the body, and nowhere else.
    pub env: Vec<(String, String)>,
    /// Inside; nothing means the image's own.
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Billionths of a CPU.
    pub nano_cpus: Option<u64>,
    pub pids_limit: Option<u32>,
    /// Nothing means the engine's default.
    pub network_mode: Option<String>,
    /// Nothing means the engine's default.
    pub log: Option<Log>,
    pub read_only: bool,
    /// Directory and options.
    pub tmpfs: BTreeMap<String, String>,
    /// Only where the engine has an init binary: with none it refuses the container.
    pub init: bool,
    pub cap_drop: Vec<String>,
    pub cap_add: Vec<String>,
    pub security_opt: Vec<String>,
    /// Nothing means the image's own.
    pub stop_signal: Option<String>,
    /// Members of `HostConfig`, over what the fields above say.
    pub extra_host_config: Map<String, Value>,
    /// Goes with the request, not into the body.
    pub platform: Option<String>,
}

/// A part of the host, or a volume, that the container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// A path of the host that exists, or the name of a volume.
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    Volume,
}

/// What the engine keeps of the container's output, beside what goes to whoever is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    #[serde(rename = "Type")]
    pub driver: String,
    #[serde(rename = "Config")]
    pub options: BTreeMap<String, String>,
}

/// The names are the Engine API's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'s> {
    image: &'s str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    entrypoint: &'s [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    cmd: &'s [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'s str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'s BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'s str>,
    open_stdin: bool,
    stdin_once: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    host_config: Map<String, Value>,
}

impl Spec {
    /// The JSON for `POST /containers/create`. Holds the values of `env`: never to be logged.
    pub fn body(&self) -> String {
        let env = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text(&self.parts(env, &self.labels))
    }

    /// 16 digits that change when the container would be another one, and are the same in every session. The name,
    /// the labels and `init` do not count, as they say who made it and where, and of `env` only the names do: what is
    /// written into a label can be read and guessed at.
    pub fn fingerprint(&self) -> String {
        let names = self.env.iter().map(|(name, _)| name.clone()).collect();
        let what = Spec { init: false, ..self.clone() };
        let platform = self.platform.as_deref().unwrap_or_default();
        let text = format!("{platform}\n{}", text(&what.parts(names, &BTreeMap::new())));
        format!("{:016x}", fnv1a(text.as_bytes()))
    }

    fn parts<'s>(&'s self, env: Vec<String>, labels: &'s BTreeMap<String, String>) -> Body<'s> {
        Body {
            image: &self.image,
            entrypoint: &self.entrypoint,
            cmd: &self.cmd,
            env,
            working_dir: self.working_dir.as_deref(),
            user: self.user.as_deref(),
            labels,
            stop_signal: self.stop_signal.as_deref(),
            open_stdin: true,
            stdin_once: true,
            attach_stdin: true,
            attach_stdout: true,
            attach_stderr: true,
            tty: false,
            host_config: self.host_config(),
        }
    }

    fn host_config(&self) -> Map<String, Value> {
        let list = |items: &[String]| (!items.is_empty()).then(|| json!(items));
        let members = [
            ("Init", self.init.then_some(json!(true))),
            ("CapDrop", list(&self.cap_drop)),
            ("CapAdd", list(&self.cap_add)),
            ("SecurityOpt", list(&self.security_opt)),
            ("PidsLimit", self.pids_limit.map(|limit| json!(limit))),
            ("Memory", self.memory.map(|bytes| json!(bytes))),
            ("NanoCpus", self.nano_cpus.map(|cpus| json!(cpus))),
            ("NetworkMode", self.network_mode.as_ref().map(|mode| json!(mode))),
            ("ReadonlyRootfs", self.read_only.then_some(json!(true))),
            ("Tmpfs", (!self.tmpfs.is_empty()).then(|| json!(self.tmpfs))),
            ("Mounts", (!self.mounts.is_empty()).then(|| json!(self.mounts))),
            ("LogConfig", self.log.as_ref().map(|log| json!(log))),
        ];
        let said = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let extra = self.extra_host_config.clone();
        // Last, as nothing may turn it off.
        said.chain(extra).chain([("AutoRemove".to_owned(), json!(true))]).collect()
    }
}

fn text(body: &Body) -> String {
    serde_json::to_string(body).expect("a body has string keys and finite numbers only")
}

/// Of the environment and of what is merged in raw only the names.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let extra: Vec<&String> = self.extra_host_config.keys().collect();
        f.debug_struct("Spec")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("entrypoint", &self.entrypoint)
            .field("cmd", &self.cmd)
            .field("env", &names)
            .field("working_dir", &self.working_dir)
            .field("user", &self.user)
            .field("labels", &self.labels)
            .field("mounts", &self.mounts)
            .field("memory", &self.memory)
            .field("nano_cpus", &self.nano_cpus)
            .field("pids_limit", &self.pids_limit)
            .field("network_mode", &self.network_mode)
            .field("log", &self.log.as_ref().map(|log| &log.driver))
            .field("read_only", &self.read_only)
            .field("tmpfs", &self.tmpfs)
            .field("init", &self.init)
            .field("cap_drop", &self.cap_drop)
            .field("cap_add", &self.cap_add)
            .field("security_opt", &self.security_opt)
            .field("stop_signal", &self.stop_signal)
            .field("extra_host_config", &extra)
            .field("platform", &self.platform)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn full() -> Spec {
        let Value::Object(extra) = json!({"ShmSize": 67108864, "PidsLimit": 64, "AutoRemove": false}) else {
            panic!("an object")
        };
        Spec {
            name: "mcpvisor-0a1b2c3d-git-a".to_owned(),
            image: "node:22".to_owned(),
            entrypoint: words(&["npx"]),
            cmd: words(&["-y", "thing"]),
            env: vec![("TOKEN".to_owned(), "s3cr3t=x".to_owned())],
            working_dir: Some("/src".to_owned()),
            user: Some("1000:1000".to_owned()),
            labels: pairs(&[("mcpvisor.managed", "true"), ("mcpvisor.server", "git")]),
            mounts: vec![Mount {
                kind: MountKind::Bind,
                source: "/home/u/src".to_owned(),
                target: "/src".to_owned(),
                read_only: true,
            }],
            memory: Some(512 << 20),
            nano_cpus: Some(1_000_000_000),
            pids_limit: Some(512),
            network_mode: Some("none".to_owned()),
            log: Some(Log { driver: "json-file".to_owned(), options: pairs(&[("max-size", "10m")]) }),
            read_only: true,
            tmpfs: pairs(&[("/tmp", "rw,size=64m")]),
            init: true,
            cap_drop: words(&["ALL"]),
            cap_add: words(&["NET_BIND_SERVICE"]),
            security_opt: words(&["no-new-privileges"]),
            stop_signal: Some("SIGINT".to_owned()),
            extra_host_config: extra,
            platform: Some("linux/amd64".to_owned()),
        }
    }

    #[test]
    fn the_least_that_a_body_says() {
        let spec = Spec { image: "alpine:3".to_owned(), ..Spec::default() };
        assert_eq!(
            spec.body(),
            r#"{"Image":"alpine:3","OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Tty":false,"HostConfig":{"AutoRemove":true}}"#
        );
    }

    #[test]
    fn all_that_a_body_can_say() {
        let expected = concat!(
            r#"{"Image":"node:22","Entrypoint":["npx"],"Cmd":["-y","thing"],"Env":["TOKEN=s3cr3t=x"],"#,
            r#""WorkingDir":"/src","User":"1000:1000","#,
            r#""Labels":{"mcpvisor.managed":"true","mcpvisor.server":"git"},"StopSignal":"SIGINT","#,
            r#""OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"#,
            r#""Tty":false,"HostConfig":{"AutoRemove":true,"CapAdd":["NET_BIND_SERVICE"],"CapDrop":["ALL"],"#,
            r#""Init":true,"LogConfig":{"Config":{"max-size":"10m"},"Type":"json-file"},"Memory":536870912,"#,
            r#""Mounts":[{"ReadOnly":true,"Source":"/home/u/src","Target":"/src","Type":"bind"}],"#,
            r#""NanoCpus":1000000000,"NetworkMode":"none","PidsLimit":64,"ReadonlyRootfs":true,"#,
            r#""SecurityOpt":["no-new-privileges"],"ShmSize":67108864,"Tmpfs":{"/tmp":"rw,size=64m"}}}"#,
        );
        assert_eq!(full().body(), expected);
    }

    #[test]
    fn secrets_are_in_the_body_only() {
        let shown = format!("{:?} {:#?} {}", full(), full(), full().fingerprint());
        assert!(!shown.contains("s3cr3t") && shown.contains("TOKEN"), "{shown}");
    }

    #[test]
    fn the_fingerprint_is_of_what_matters() {
        let spec = full();
        assert_eq!(spec.fingerprint(), "d76e30ee8133184b");
        let same = [
            Spec { name: "other".to_owned(), ..full() },
            Spec { labels: BTreeMap::new(), ..full() },
            Spec { init: false, ..full() },
            Spec { env: vec![("TOKEN".to_owned(), "other".to_owned())], ..full() },
        ];
        for other in same {
            assert_eq!(other.fingerprint(), spec.fingerprint(), "{other:?}");
        }
        let others = [
            Spec { image: "node:20".to_owned(), ..full() },
            Spec { cmd: words(&["-y thing"]), ..full() },
            Spec { env: vec![("TOKEN2".to_owned(), "s3cr3t=x".to_owned())], ..full() },
            Spec { platform: None, ..full() },
            Spec { memory: None, ..full() },
        ];
        for other in others {
            assert_ne!(other.fingerprint(), spec.fingerprint(), "{other:?}");
        }
    }
}
