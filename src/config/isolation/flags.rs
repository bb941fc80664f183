//! `extra_args`: options of `docker run`, as mcpproxy takes them. What has an equivalent is put where it belongs; what
//! has none is a problem of the server, as leaving it out could make its container more open than was meant.

use super::quantity::{cpus, memory, pids};
use super::{Isolation, Mount, Objection, keys, mount};
use crate::base::text::shorten;
use crate::config::Template;
use crate::config::fields::Field;
use crate::config::notes::Notes;
use serde_json::{Value, json};

/// Of the options that we know those without a value.
const SWITCHES: [&str; 12] =
    ["read-only", "init", "rm", "interactive", "i", "privileged", "detach", "d", "tty", "t", "quiet", "q"];

/// Short options that take a value, which may be joined to them.
const SHORT: &str = "evuwmlhp";

/// One option and what it is given.
struct Given<'a> {
    name: &'a str,
    value: &'a str,
}

pub fn apply(words: &[(Field, &str)], isolation: &mut Isolation, notes: &mut Notes) {
    let mut rest = words.iter();
    while let Some((field, word)) = rest.next() {
        let (name, joined) = match parts(word) {
            Ok(parts) => parts,
            Err(objection) => {
                notes.bad(&field.spot, objection.message, objection.hint);
                continue;
            }
        };
        let value = match joined {
            Some(value) => value,
            None if SWITCHES.contains(&name) => "true",
            None => match rest.next() {
                Some((_, value)) => value,
                None => {
                    notes.bad(&field.spot, format!("`{}` needs a value", shorten(word, 40)), "");
                    continue;
                }
            },
        };
        match set(isolation, &Given { name, value }) {
            Ok(None) => (),
            Ok(Some(remark)) => notes.warn(&field.spot, remark, ""),
            Err(objection) => notes.bad(&field.spot, objection.message, objection.hint),
        }
    }
}

/// The name of an option, and its value if that stands in the same word.
fn parts(word: &str) -> Result<(&str, Option<&str>), Objection> {
    if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
        return Ok(match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        });
    }
    let short = word.strip_prefix('-').filter(|short| !short.is_empty() && short.is_ascii());
    let Some(short) = short else {
        // Not shown: it may be the value of a secret.
        return Err(Objection::new("this is not an option of `docker run`", "each begins with `-`"));
    };
    let (name, value) = short.split_at(1);
    if SHORT.contains(name) && !value.is_empty() {
        return Ok((name, Some(value.strip_prefix('=').unwrap_or(value))));
    }
    Ok((short, None))
}

/// Sets what the option means, or says what it means instead.
fn set(isolation: &mut Isolation, option: &Given) -> Result<Option<&'static str>, Objection> {
    let Given { name, value } = *option;
    let text = || value.to_owned();
    let on = matches!(value, "true" | "1");
    match name {
        "e" | "env" => isolation.env.push(variable(value)?),
        "v" | "volume" => isolation.mounts.push(Mount::short(value)?),
        "mount" => isolation.mounts.push(Mount::long(value)?),
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            isolation.tmpfs.insert(mount::inside(path)?, options.to_owned());
        }
        "u" | "user" => isolation.user = Some(text()),
        "w" | "workdir" => isolation.working_dir = Some(mount::inside(value)?),
        "network" | "net" => isolation.network_mode = Some(text()),
        "m" | "memory" => isolation.memory = memory(value)?,
        "cpus" => isolation.nano_cpus = cpus(value)?,
        "pids-limit" => isolation.pids_limit = pids(value)?,
        "read-only" => isolation.read_only = on,
        "cap-add" => isolation.cap_add.push(keys::capability(value)),
        "security-opt" => isolation.security_opt.push(text()),
        "platform" => isolation.platform = Some(text()),
        "log-driver" => isolation.log.driver = Some(text()),
        "log-opt" => {
            let (name, value) = value.split_once('=').ok_or_else(|| unknown("log-opt"))?;
            isolation.log.options.insert(name.to_owned(), value.to_owned());
        }
        "pull" => {
            isolation.pull = keys::pull_policy(value)
                .ok_or_else(|| Objection::new("expected `missing`, `always` or `never` for `--pull`", ""))?;
        }
        "shm-size" => host(isolation, "ShmSize", json!(memory(value)?.unwrap_or(0))),
        "memory-swap" if value == "-1" => host(isolation, "MemorySwap", json!(-1)),
        "memory-swap" => host(isolation, "MemorySwap", json!(memory(value)?.unwrap_or(0))),
        "privileged" => host(isolation, "Privileged", json!(on)),
        "runtime" => host(isolation, "Runtime", json!(value)),
        "userns" => host(isolation, "UsernsMode", json!(value)),
        "ipc" => host(isolation, "IpcMode", json!(value)),
        "pid" => host(isolation, "PidMode", json!(value)),
        "add-host" => add(isolation, "ExtraHosts", value),
        "dns" => add(isolation, "Dns", value),
        "group-add" => add(isolation, "GroupAdd", value),
        "gpus" if value == "all" => {
            let all = json!([{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]);
            host(isolation, "DeviceRequests", all);
        }
        // So it is already.
        "init" | "rm" | "interactive" | "i" | "it" | "ti" | "cap-drop" | "quiet" | "q" => (),
        "name" | "l" | "label" | "cidfile" | "restart" | "d" | "detach" | "t" | "tty" => {
            return Ok(Some("ignored: mcpvisor sets this itself"));
        }
        other => return Err(unknown(other)),
    }
    Ok(None)
}

fn unknown(name: &str) -> Objection {
    let dashes = if name.len() == 1 { "-" } else { "--" };
    let message = format!("`{dashes}{}` has no equivalent here", shorten(name, 40));
    Objection::new(message, "`extra_host_config` takes it under the Engine API's name")
}

/// `NAME=value`, or `NAME` for the value that it has in our own environment.
fn variable(text: &str) -> Result<(String, Template), Objection> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, format!("${{env:{text}}}")),
    };
    if name.is_empty() || text.contains('\0') {
        return Err(Objection::new("this is not a variable", "write it like NAME=value"));
    }
    let template = Template::parse(&value).map_err(|error| Objection::new(error.message, error.hint))?;
    Ok((name.to_owned(), template.secret()))
}

fn host(isolation: &mut Isolation, name: &str, value: Value) {
    isolation.extra_host_config.insert(name.to_owned(), value);
}

fn add(isolation: &mut Isolation, name: &str, item: &str) {
    let list = isolation.extra_host_config.entry(name).or_insert_with(|| json!([]));
    if let Value::Array(items) = list {
        items.push(json!(item));
    }
}

#[cfg(test)]
mod tests {
    use crate::base::finding::Finding;
    use crate::config;

    /// The isolation of a server with these `extra_args`, and the findings.
    fn read(args: &str) -> (config::Isolation, Vec<Finding>) {
        let args = serde_json::to_string(&args.split(' ').collect::<Vec<_>>()).unwrap();
        let isolation = format!(r#"{{"enabled": true, "extra_args": {args}}}"#);
        let text = format!(r#"{{"mcpServers": {{"x": {{"command": "npx", "isolation": {isolation}}}}}}}"#);
        let (config, findings) = config::parse(&text, "f");
        let isolation = config.servers[0].isolation.clone().unwrap();
        assert_eq!(
            config.servers[0].problem.is_some(),
            findings.iter().any(|finding| finding.severity == crate::base::finding::Severity::Error)
        );
        (*isolation, findings)
    }

    /// `expected` are the lines of the isolation that are not those of the default, joined.
    #[track_caller]
    fn check(args: &str, expected: &str) {
        let (isolation, findings) = read(args);
        assert_eq!(findings, [], "{args}");
        let words = |isolation: &config::Isolation| -> Vec<String> {
            let text = format!("{isolation:#?}");
            let lines = text.lines().map(|line| line.trim_matches([' ', ',', '[', '(', '{']).to_owned());
            lines.filter(|line| line.contains(char::is_alphanumeric) || line.contains('*')).collect()
        };
        let plain = words(&config::Isolation::default());
        let ours = words(&isolation).into_iter().filter(|line| !plain.contains(line));
        assert_eq!(ours.collect::<Vec<_>>().join(" "), expected, "{args}");
    }

    #[test]
    fn equivalents() {
        check("--rm -i --init --cap-drop ALL", "");
        check("-eK=a=b", r#"env: "K" "***""#);
        check("--env K", r#"env: "K" "${env:K}""#);
        check("-m 1g --cpus=2", "1073741824 2000000000");
        check("--read-only --tmpfs /root:exec", r#"read_only: true tmpfs: "/root": "exec""#);
        check("--net none -u 7", r#"network_mode: Some "none" user: Some "7""#);
        check("--shm-size 64m", r#"extra_host_config: "ShmSize": Number(67108864)"#);
        check("--pull=always", "pull: Always");
        check("--log-opt max-size=1m", r#"options: "max-size": "1m""#);
    }

    #[test]
    fn no_equivalents() {
        #[track_caller]
        fn check(args: &str, message: &str) {
            let (_, findings) = read(args);
            assert_eq!(findings.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), [message], "{args}");
        }
        check("--ulimit nofile=9", "`--ulimit` has no equivalent here");
        check("-p 80:80", "`-p` has no equivalent here");
        check("--memory", "`--memory` needs a value");
        check("s3cr3t", "this is not an option of `docker run`");
        check("--name x", "ignored: mcpvisor sets this itself");
        check("-m lots", "this is not an amount of memory");
        check("-v ./x:/x", "`./x` is neither a full path nor the name of a volume");
    }
}
