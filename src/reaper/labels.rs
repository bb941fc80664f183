//! How ownership is written on a container: labels, as `docker ps --filter label=mcpvisor.session=…` finds them.
//!
//! The same claim as the mark of a process, and two things more: the host, because an engine may serve several, and
//! the hash of the config that the container was made from. Labels are a claim, not a proof: what follows from them
//! is for `judge_container` to say.

use super::instance;
use super::mark::{Mark, Owner, Place};
use crate::base::id::fnv1a;
use crate::base::time::Wall;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The names. `MANAGED` is `true` on everything of ours; the others are for filters and for people.
pub const MANAGED: &str = "mcpvisor.managed";
pub const INSTANCE: &str = "mcpvisor.instance";
pub const SESSION: &str = "mcpvisor.session";
pub const SERVER: &str = "mcpvisor.server";
pub const VARIANT: &str = "mcpvisor.variant";
pub const LIFE: &str = "mcpvisor.life";
pub const PID: &str = "mcpvisor.pid";
pub const PID_START: &str = "mcpvisor.pid-start";
pub const PID_NAMESPACE: &str = "mcpvisor.pid-ns";
pub const BOOT: &str = "mcpvisor.boot";
pub const HOST: &str = "mcpvisor.host";
pub const STARTED: &str = "mcpvisor.started";
pub const CONFIG: &str = "mcpvisor.config";

/// Hex digits of a host's hash: 48 bits tell the few hosts of one engine apart.
const HOST_CHARS: usize = 12;

/// What is written on the container of one life of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Whose state directory: 32 hex digits.
    pub instance: String,
    /// Which run of the daemon: 32 hex digits.
    pub session: String,
    /// The server's slug.
    pub server: String,
    /// `shared`, or the session that the life is for.
    pub variant: String,
    pub life: u64,
    /// The daemon that made it. `None` unless pid, start, namespace and boot can all be read.
    pub owner: Option<Owner>,
    /// The hash of the daemon's machine, see [`host`].
    pub host: String,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// The hash of what the container was made from.
    pub config: String,
}

impl Labels {
    pub fn of(mark: &Mark, variant: &str, config: &str, started: Wall) -> Labels {
        Labels {
            instance: mark.instance.clone(),
            session: mark.session.clone(),
            server: mark.server.clone(),
            variant: variant.to_owned(),
            life: mark.life,
            owner: mark.owner.clone(),
            host: host(),
            started_ms: started.0,
            config: config.to_owned(),
        }
    }

    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            (MANAGED, "true".to_owned()),
            (INSTANCE, self.instance.clone()),
            (SESSION, self.session.clone()),
            (SERVER, self.server.clone()),
            (VARIANT, self.variant.clone()),
            (LIFE, self.life.to_string()),
        ];
        if let Some(Owner { pid, start, place }) = &self.owner {
            pairs.extend([
                (PID, pid.to_string()),
                (PID_START, start.to_string()),
                (PID_NAMESPACE, place.pid_namespace.to_string()),
                (BOOT, place.boot.clone()),
            ]);
        }
        pairs.extend([
            (HOST, self.host.clone()),
            (STARTED, self.started_ms.to_string()),
            (CONFIG, self.config.clone()),
        ]);
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// `None` unless it says that it is managed, and by which session of which instance.
    pub fn read(labels: &BTreeMap<String, String>) -> Option<Labels> {
        let value = |name: &str| labels.get(name).filter(|value| !value.is_empty());
        let text = |name: &str| value(name).cloned().unwrap_or_default();
        let number = |name: &str| value(name).and_then(|value| value.parse().ok());
        value(MANAGED).filter(|managed| *managed == "true")?;
        Some(Labels {
            instance: value(INSTANCE)?.clone(),
            session: value(SESSION)?.clone(),
            server: text(SERVER),
            variant: text(VARIANT),
            life: number(LIFE).unwrap_or(0),
            owner: read_owner(labels),
            host: text(HOST),
            started_ms: number(STARTED).unwrap_or(0),
            config: text(CONFIG),
        })
    }
}

fn read_owner(labels: &BTreeMap<String, String>) -> Option<Owner> {
    let number = |name: &str| labels.get(name).and_then(|value| value.parse::<u64>().ok());
    let boot = labels.get(BOOT).filter(|boot| !boot.is_empty())?.clone();
    Some(Owner {
        pid: u32::try_from(number(PID)?).ok()?,
        start: number(PID_START)?,
        place: Place { boot, pid_namespace: number(PID_NAMESPACE)? },
    })
}

/// This machine's short hash. The machine id itself is nobody's business who may list containers.
pub fn host() -> String {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| hash_of_machine(&instance::machine())).clone()
}

fn hash_of_machine(machine: &str) -> String {
    let hash = format!("{:016x}", fnv1a(format!("mcpvisor host {machine}").as_bytes()));
    hash[..HOST_CHARS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        let place = Place { boot: "b-1".to_owned(), pid_namespace: 7 };
        let mark = Mark {
            instance: "i".to_owned(),
            session: "s".to_owned(),
            server: "git".to_owned(),
            life: 3,
            owner: Some(Owner { pid: 42, start: 9, place }),
        };
        Labels { host: "h".to_owned(), ..Labels::of(&mark, "shared", "c0ffee", Wall(1_795_169_907_123)) }
    }

    fn written(labels: &Labels) -> BTreeMap<String, String> {
        labels.pairs().into_iter().collect()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Labels::read(&written(&labels())), Some(labels()));
        let orphaned = Labels { owner: None, ..labels() };
        assert_eq!(Labels::read(&written(&orphaned)), Some(orphaned));
        let lines: Vec<String> =
            labels().pairs().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines.join("\n"),
            "mcpvisor.managed=true\nmcpvisor.instance=i\nmcpvisor.session=s\nmcpvisor.server=git\n\
             mcpvisor.variant=shared\nmcpvisor.life=3\nmcpvisor.pid=42\nmcpvisor.pid-start=9\nmcpvisor.pid-ns=7\n\
             mcpvisor.boot=b-1\nmcpvisor.host=h\nmcpvisor.started=1795169907123\nmcpvisor.config=c0ffee"
        );
    }

    #[test]
    fn damaged_labels() {
        #[track_caller]
        fn without(name: &str) -> Option<Labels> {
            let mut map = written(&labels());
            map.remove(name).expect("a label that is written");
            Labels::read(&map)
        }
        for name in [MANAGED, INSTANCE, SESSION] {
            assert_eq!(without(name), None, "{name}");
        }
        for name in [PID, PID_START, PID_NAMESPACE, BOOT] {
            assert_eq!(without(name), Some(Labels { owner: None, ..labels() }), "{name}");
        }
        let mut map = written(&labels());
        map.insert(MANAGED.to_owned(), "false".to_owned());
        assert_eq!(Labels::read(&map), None);
        assert_eq!(Labels::read(&BTreeMap::new()), None);
    }

    #[test]
    fn hosts() {
        assert_eq!(host(), host());
        assert_eq!(hash_of_machine("a").len(), HOST_CHARS);
        assert_ne!(hash_of_machine("a"), hash_of_machine("b"));
    }
}
