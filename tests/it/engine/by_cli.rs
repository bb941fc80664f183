//! An engine that is reached by a command: one that fails on command, and Docker's own.

use super::super::support::all_installed;
use super::super::support::real_engine::{Removed, busybox_image, real_engine};
use super::{body, patience, short};
use crate::support::TempDir;
use mcpvisor::engine::api::{Engine, Patience};
use mcpvisor::engine::by_cli::{CliEngine, Reach};
use mcpvisor::engine::error::EngineErrorKind as Kind;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn env() -> Vec<(String, String)> {
    vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]
}

/// A shell script in the place of `docker`; its arguments are `"$@"`.
fn scripted(tmp: &TempDir, script: &str) -> CliEngine {
    let file = tmp.join("docker");
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    CliEngine { prefix: vec![file, "--context".to_owned(), "far".to_owned()], env: env() }
}

#[test]
fn by_exit_codes_and_json() {
    let tmp = TempDir::new();
    let calls = tmp.join("calls");
    let engine = scripted(
        &tmp,
        &format!(
            r#"echo "$@" >>{calls}; shift 2
case "$1 $2" in
"ps -aq") echo aaa; echo bbb;;
"ps -a") echo "aaa one"; echo "ccc two";;
"container inspect") case "$3" in
  aaa|one) echo '[{{"Id":"aaa","Name":"/one","Created":"2026-11-20T10:00:00.5Z","State":{{"Status":"running","Running":true}},"Config":{{"Image":"i","Labels":{{"k":"v"}}}},"HostConfig":{{"AutoRemove":true}}}}]';;
  *) echo "[]"; echo "no such thing" >&2; exit 1;; esac;;
"kill --signal") [ "$4" = aaa ] || {{ echo "cannot kill" >&2; exit 1; }};;
"rm -f") [ "$4" = aaa ] || {{ echo "cannot remove" >&2; exit 1; }};;
esac"#
        ),
    );
    let reach = Reach::Cli(engine);
    // bbb goes between the two commands.
    let listed = reach.list(&[("k", "v"), ("x", "")], &patience()).unwrap();
    assert_eq!((listed.len(), listed[0].id.as_str(), listed[0].names[0].as_str()), (1, "aaa", "one"));
    assert_eq!((listed[0].created_s, listed[0].state.as_str()), (1_795_168_800, "running"));
    assert!(reach.inspect("one", &patience()).unwrap().auto_remove);
    reach.kill("aaa", "TERM", &patience()).unwrap();
    reach.remove("aaa", &patience()).unwrap();
    reach.remove("bbb", &patience()).unwrap();
    let error = reach.remove("ccc", &patience()).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::Failed(500), "cannot remove"));
    assert_eq!(reach.kill("bbb", "TERM", &patience()).unwrap_err().kind, Kind::NoSuchContainer);
    let calls = std::fs::read_to_string(calls).unwrap();
    assert!(
        calls.starts_with("--context far ps -aq --no-trunc --filter label=k=v --filter label=x\n"),
        "{calls}"
    );
    assert!(calls.contains("--context far rm -f -v aaa\n"), "{calls}");
}

#[test]
fn commands_that_misbehave() {
    let kind = |script: &str, patience: &Patience| {
        let tmp = TempDir::new();
        scripted(&tmp, script).list(&[], patience).unwrap_err()
    };
    let away = kind("echo 'Cannot connect' >&2; exit 1", &patience());
    assert_eq!((away.kind, away.message.as_str(), away.is_away()), (Kind::Refused, "Cannot connect", true));
    assert_eq!(kind("exec sleep 600", &short()).kind, Kind::Silent);
    // It waits for a password, finds the end, and says no.
    assert_eq!(kind("read password || exit 1", &patience()).kind, Kind::Refused);
    // A child that keeps its outputs open is not waited for.
    assert_eq!(kind("sleep 5 & exit 3", &patience()).kind, Kind::Refused);
    let endless = "[ $3 = ps ] && { echo a; exit; }; exec yes '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['";
    assert_eq!(kind(endless, &Patience::of(std::time::Duration::from_secs(1))).kind, Kind::Silent);
    assert_eq!(kind("[ $3 = ps ] && { echo a; exit; }; echo '{}'", &patience()).kind, Kind::Garbled);
    let none = CliEngine { prefix: vec!["no-such-docker".to_owned()], env: env() };
    assert_eq!(none.list(&[], &patience()).unwrap_err().kind, Kind::Absent);
    let empty = CliEngine { prefix: Vec::new(), env: env() };
    assert_eq!(empty.list(&[], &patience()).unwrap_err().kind, Kind::Absent);
}

#[test]
fn dockers_own_command() {
    let Some(endpoint) = real_engine() else { return };
    let Some(image) = busybox_image(&endpoint) else { return };
    if !all_installed([PathBuf::from("/usr/bin/docker")]) {
        return;
    }
    let engine = Engine::new(endpoint.clone());
    let removed = Removed::labelled(&engine);
    let label = [(removed.label.0.as_str(), removed.label.1.as_str())];
    let prefix = vec!["docker".to_owned(), "-H".to_owned(), endpoint.to_string()];
    let by_cli = Reach::Cli(CliEngine { prefix, env: env() });
    let by_api = Reach::Api(engine.clone());
    let body = body(&image, &["sleep", "600"], json!({ label[0].0: label[0].1 }));
    let id = engine.create(None, &body, None, &patience()).unwrap();
    engine.start(&id, &patience()).unwrap();
    assert_eq!(by_cli.inspect(&id, &patience()), by_api.inspect(&id, &patience()));
    let plain = |reach: &Reach| {
        let mut listed = reach.list(&label, &patience()).unwrap();
        // Text for people differs; so does the image's name, once another test has given it to another image.
        for container in &mut listed {
            container.status.clear();
            container.image.clear();
        }
        listed
    };
    assert_eq!(plain(&by_cli), plain(&by_api));
    assert_eq!(plain(&by_cli).len(), 1);
    by_cli.kill(&id, "KILL", &patience()).unwrap();
    let mut gone = None;
    super::super::support::until("its removal", || {
        gone = by_cli.inspect(&id, &patience()).err();
        gone.as_ref().map(drop)
    });
    assert_eq!(gone.unwrap().kind, Kind::NoSuchContainer);
    by_cli.remove(&id, &patience()).unwrap();
    assert_eq!(by_cli.kill(&id, "KILL", &patience()).unwrap_err().kind, Kind::NoSuchContainer);
    let away = vec!["docker".to_owned(), "-H".to_owned(), "unix:///nowhere/docker.sock".to_owned()];
    let away = CliEngine { prefix: away, env: env() };
    assert_eq!(away.inspect(&id, &patience()).unwrap_err().kind, Kind::Refused);
}
