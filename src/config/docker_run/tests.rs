//! Command lines by rule, each with its reason; then random ones. `<ours>` stands for the labels and the cidfile.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::flags::{DOCKER, ENV, Flag, NERDCTL, PODMAN, RUN, SUDO};
use super::*;
use std::collections::{BTreeMap, BTreeSet};

const OURS: &str = "--label mcpvisor.managed=true --label mcpvisor.session=s1 --cidfile /run/v/s1.cid";

/// Why, the command line, what becomes of its arguments (or `passes`), the flags that warnings begin with.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Why, the environment, the command line, the engine, the words before the command.
type EngineRow = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Words by spaces; `''` is the empty one, `␣` a space.
fn words(text: &str) -> Vec<String> {
    let word = |word: &str| if word == "''" { String::new() } else { word.replace('␣', " ") };
    text.split_whitespace().map(word).collect()
}

fn run_with(env: &BTreeMap<String, String>, words: &[String]) -> Outcome {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = [pair("mcpvisor.managed", "true"), pair("mcpvisor.session", "s1")];
    let ours = Ours { labels: &labels, cidfile: "/run/v/s1.cid" };
    rewrite(&words[0], &words[1..], &|name| env.get(name).cloned(), &ours)
}

fn run(line: &str) -> Outcome {
    run_with(&BTreeMap::new(), &words(line))
}

/// What a warning is about: what it has first in backticks.
fn subject(warning: &str) -> &str {
    warning.split('`').nth(1).unwrap_or(warning)
}

#[track_caller]
fn rewritten(line: &str) -> Rewritten {
    match run(line) {
        Outcome::Run(rewritten) => rewritten,
        Outcome::NotARun { .. } => panic!("not a run: {line}"),
    }
}

#[track_caller]
fn check(rows: &[Row]) {
    for (why, line, expected, subjects) in rows {
        let (args, warnings) = match run(line) {
            Outcome::Run(run) => (Some(run.args), run.warnings),
            Outcome::NotARun { warning } => (None, Vec::from_iter(warning)),
        };
        let expected = match *expected {
            "passes" => None,
            text => Some(words(&text.replace("<ours>", OURS))),
        };
        assert_eq!(args, expected, "{why}: {line}");
        let got: Vec<&str> = warnings.iter().map(|warning| subject(warning)).collect();
        assert_eq!(got.join(" "), *subjects, "{why}: {line}");
    }
}

#[test]
#[rustfmt::skip]
fn what_is_a_run() {
    check(&[
        ("the plain case", "docker run -i --rm img", "run -i --rm <ours> img", ""),
        ("a path to the program", "/usr/bin/docker run -i --rm img", "run -i --rm <ours> img", ""),
        ("a path from here", "./docker run -i --rm img", "run -i --rm <ours> img", ""),
        (".exe", "docker.exe run -i --rm img", "run -i --rm <ours> img", ""),
        ("podman", "podman run -i --rm img", "run -i --rm <ours> img", ""),
        ("nerdctl", "nerdctl run -i --rm img", "run -i --rm <ours> img", ""),
        ("finch", "finch run -i --rm img", "run -i --rm <ours> img", ""),
        ("the long command", "docker container run -i --rm img", "container run -i --rm <ours> img", ""),
        ("podman's too", "podman container run -i --rm img", "container run -i --rm <ours> img", ""),
        ("`--` before the command", "docker -D -- run -i --rm img", "-D -- run -i --rm <ours> img", ""),
        ("the command's own words", "docker run -i --rm img -d -t", "run -i --rm <ours> img -d -t", ""),
        ("also those that look like ours", "docker run -i --rm img --cidfile x", "run -i --rm <ours> img --cidfile x", ""),
        ("an image called run", "docker run -i --rm run", "run -i --rm <ours> run", ""),
        ("and its command run", "docker run -i --rm run run -t", "run -i --rm <ours> run run -t", ""),
        ("an empty image is the engine's to refuse", "docker run -i --rm ''", "run -i --rm <ours> ''", ""),
        ("a dash is no flag", "docker run -i --rm - x", "run -i --rm <ours> - x", ""),
        ("`--` ends the flags", "docker run -i --rm -- img", "run -i --rm <ours> -- img", ""),
        ("`--` behind the image is its own", "docker run -i --rm img -- x", "run -i --rm <ours> img -- x", ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_is_no_run() {
    check(&[
        ("run is a word for the program inside", "docker exec -i app run", "passes", ""),
        ("run is a tag", "docker build -t run .", "passes", ""),
        ("run is a command of a plugin", "docker mcp gateway run", "passes", ""),
        ("run is a command of another plugin", "docker model run m", "passes", ""),
        ("a container that exists", "docker start -ai x", "passes", ""),
        ("made and not started", "docker create -i img", "passes", ""),
        ("attached to", "docker attach run", "passes", ""),
        ("another command of containers", "docker container exec -i app run", "passes", ""),
        ("containers without a command", "docker container", "passes", ""),
        ("flags between the two are not docker's way", "docker container -D run img", "passes", ""),
        ("no command", "docker", "passes", ""),
        ("only flags", "docker -D", "passes", ""),
        ("run without image: docker says so", "docker run", "passes", ""),
        ("flags and no image: docker says so", "docker run -i --rm", "passes", ""),
        ("dashes and no image", "docker run -i --", "passes", ""),
        ("the last flag lacks its value, and ours must not become it", "docker run -i -e", "passes", ""),
        ("the same of a long one", "docker run -i --name", "passes", ""),
        ("the same within letters", "docker run -ie", "passes", ""),
        ("help", "docker run --help img", "passes", ""),
        ("help of docker", "docker --help run img", "passes", ""),
        ("the version", "docker -v run img", "passes", ""),
        ("the version, long", "docker --version run img", "passes", ""),
        ("a flag that docker does not have", "docker --foo run img", "passes", ""),
        ("the value of a global flag is not the command", "docker -c run ps", "passes", ""),
        ("nor is that of the host", "docker --host run ps", "passes", ""),
        ("a global flag without a value", "docker -H", "passes", ""),
        ("another program", "node run img", "passes", ""),
        ("another program with docker among its words", "sh -c docker␣run␣img", "passes", ""),
        ("a name that only begins so", "docker-machine run img", "passes", ""),
        ("a name that only ends so", "mydocker run img", "passes", ""),
        ("a folder of that name", "docker/x run img", "passes", ""),
        ("compose", "docker compose run --rm svc", "passes", "docker compose"),
        ("compose up", "docker compose -f a.yml up svc", "passes", "docker compose"),
        ("compose of podman", "podman compose run svc", "passes", "podman compose"),
        ("compose of nerdctl", "nerdctl compose run svc", "passes", "nerdctl compose"),
        ("the old compose", "docker-compose run svc", "passes", "docker-compose"),
        ("podman's old compose", "podman-compose run svc", "passes", "podman-compose"),
        ("compose behind sudo", "sudo docker compose run svc", "passes", "docker compose"),
        ("a container called compose", "docker exec compose run", "passes", ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn wrappers() {
    check(&[
        ("sudo", "sudo docker run -i --rm img", "docker run -i --rm <ours> img", ""),
        ("sudo by path", "/usr/bin/sudo docker run -i --rm img", "docker run -i --rm <ours> img", ""),
        ("sudo -n", "sudo -n docker run -i --rm img", "-n docker run -i --rm <ours> img", ""),
        ("sudo -nE", "sudo -nE docker run -i --rm img", "-nE docker run -i --rm <ours> img", ""),
        ("sudo -u", "sudo -u bob docker run -i --rm img", "-u bob docker run -i --rm <ours> img", ""),
        ("a user called docker", "sudo -u docker docker run -i --rm img", "-u docker docker run -i --rm <ours> img", ""),
        ("sudo -ubob", "sudo -ubob docker run -i --rm img", "-ubob docker run -i --rm <ours> img", ""),
        ("sudo --user=bob", "sudo --user=bob docker run -i --rm img", "--user=bob docker run -i --rm <ours> img", ""),
        ("sudo --user bob", "sudo --user bob docker run -i --rm img", "--user bob docker run -i --rm <ours> img", ""),
        ("sudo --", "sudo -n -- docker run -i --rm img", "-n -- docker run -i --rm <ours> img", ""),
        ("sudo with a variable", "sudo A=1 docker run -i --rm img", "A=1 docker run -i --rm <ours> img", ""),
        ("sudo -l runs nothing", "sudo -l docker run -i --rm img", "passes", ""),
        ("sudo -e edits", "sudo -e docker run -i --rm img", "passes", ""),
        ("sudo without command", "sudo -n", "passes", ""),
        ("sudo of something else", "sudo sh docker run img", "passes", ""),
        ("env", "env docker run -i --rm img", "docker run -i --rm <ours> img", ""),
        ("env with variables", "env A=1 B=2 docker run -i --rm img", "A=1 B=2 docker run -i --rm <ours> img", ""),
        ("env -i", "env -i docker run -i --rm img", "-i docker run -i --rm <ours> img", ""),
        ("env - is -i", "env - A=1 docker run -i --rm img", "- A=1 docker run -i --rm <ours> img", ""),
        ("env -u", "env -u A docker run -i --rm img", "-u A docker run -i --rm <ours> img", ""),
        ("env --unset=", "env --unset=A docker run -i --rm img", "--unset=A docker run -i --rm <ours> img", ""),
        ("env -C", "env -C /x docker run -i --rm img", "-C /x docker run -i --rm <ours> img", ""),
        ("env -S hides the words", "env -S docker␣run␣img", "passes", ""),
        ("env alone", "env", "passes", ""),
        ("both", "sudo env A=1 docker run -i --rm img", "env A=1 docker run -i --rm <ours> img", ""),
        ("both, the other way", "env A=1 sudo -n docker run -i --rm img", "A=1 sudo -n docker run -i --rm <ours> img", ""),
        ("a wrapper by name of the variable's value", "env docker=1 docker run -i --rm img", "docker=1 docker run -i --rm <ours> img", ""),
        ("no wrapper that we look through", "nice docker run -i --rm img", "passes", ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn where_the_image_is() {
    check(&[
        ("a value in the next word", "docker run -i --rm -e A=1 img", "run -i --rm -e A=1 <ours> img", ""),
        ("a value within the word", "docker run -i --rm -eA=1 img", "run -i --rm -eA=1 <ours> img", ""),
        ("a value behind `=`", "docker run -i --rm -e=A=1 img", "run -i --rm -e=A=1 <ours> img", ""),
        ("a value that is a flag", "docker run -i --rm -e -d img", "run -i --rm -e -d <ours> img", ""),
        ("a value that is `--`", "docker run -i --rm -e -- img", "run -i --rm -e -- <ours> img", ""),
        ("an empty value", "docker run -i --rm --entrypoint '' img", "run -i --rm --entrypoint '' <ours> img", ""),
        ("a long flag with `=`", "docker run -i --rm --env=A=1 img", "run -i --rm --env=A=1 <ours> img", ""),
        ("a long flag with nothing behind `=`", "docker run -i --rm --env= img", "run -i --rm --env= <ours> img", ""),
        ("ports", "docker run -i --rm -p8080:80 img", "run -i --rm -p8080:80 <ours> img", ""),
        ("ports in the next word", "docker run -i --rm -p 8080:80 img", "run -i --rm -p 8080:80 <ours> img", ""),
        ("letters that end in a value", "docker run --rm -ip8080:80 img", "run --rm -ip8080:80 <ours> img", ""),
        ("letters that end in the next word", "docker run --rm -ip 80:80 img", "run --rm -ip 80:80 <ours> img", ""),
        ("a letter behind one with a value is the value", "docker run --rm -ied img", "run --rm -ied <ours> img", ""),
        ("a switch does not take the next word", "docker run -i --rm --init true", "run -i --rm --init <ours> true", ""),
        ("a switch with a value", "docker run -i --rm --init=true img", "run -i --rm --init=true <ours> img", ""),
        ("every other switch", "docker run -i --rm -P -q --privileged --read-only --no-healthcheck --oom-kill-disable --sig-proxy --disable-content-trust --use-api-socket img", "run -i --rm -P -q --privileged --read-only --no-healthcheck --oom-kill-disable --sig-proxy --disable-content-trust --use-api-socket <ours> img", ""),
        ("short flags with values", "docker run -i --rm -a stdout -c 1 -h n -l k=v -m 1g -u 1 -v /a:/a -w /a img", "run -i --rm -a stdout -c 1 -h n -l k=v -m 1g -u 1 -v /a:/a -w /a <ours> img", ""),
        ("hidden names", "docker run -i --rm --net none --net-alias a --dns-opt o img", "run -i --rm --net none --net-alias a --dns-opt o <ours> img", ""),
        ("podman's switches", "podman run -i --rm --replace --rmi --no-hosts --no-hostname --http-proxy --env-host --tls-verify --read-only-tmpfs --passwd --unsetenv-all img", "run -i --rm --replace --rmi --no-hosts --no-hostname --http-proxy --env-host --tls-verify --read-only-tmpfs --passwd --unsetenv-all <ours> img", ""),
        ("podman's values", "podman run -i --rm --pod p --systemd false --tz local --uidmap 0:1:1 img", "run -i --rm --pod p --systemd false --tz local --uidmap 0:1:1 <ours> img", ""),
        ("a folder in place of an image", "podman run -i --rm --rootfs /root/fs sh", "run -i --rm --rootfs <ours> /root/fs sh", ""),
        ("nerdctl's values", "nerdctl run -i --rm --cosign-key k --verify none img", "run -i --rm --cosign-key k --verify none <ours> img", ""),
        ("spaces in a word", "docker run -i --rm -e A=a␣b img c␣d", "run -i --rm -e A=a␣b <ours> img c␣d", ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn detached_or_with_a_terminal() {
    check(&[
        ("-d", "docker run -d -i --rm img", "run -i --rm <ours> img", "-d"),
        ("--detach", "docker run --detach -i --rm img", "run -i --rm <ours> img", "-d"),
        ("--detach=true", "docker run --detach=true -i --rm img", "run -i --rm <ours> img", "-d"),
        ("-d=1", "docker run -d=1 -i --rm img", "run -i --rm <ours> img", "-d"),
        ("-d=false is not detached", "docker run -d=false -i --rm img", "run -d=false -i --rm <ours> img", ""),
        ("--detach=false is not", "docker run --detach=false -i --rm img", "run --detach=false -i --rm <ours> img", ""),
        ("nonsense is docker's to refuse", "docker run -d=no -i --rm img", "run -d=no -i --rm <ours> img", ""),
        ("-t", "docker run -t -i --rm img", "run -i --rm <ours> img", "-t"),
        ("--tty", "docker run --tty -i --rm img", "run -i --rm <ours> img", "-t"),
        ("--tty=t", "docker run --tty=t -i --rm img", "run -i --rm <ours> img", "-t"),
        ("-t=0", "docker run -t=0 -i --rm img", "run -t=0 -i --rm <ours> img", ""),
        ("-it", "docker run -it --rm img", "run -i --rm <ours> img", "-t"),
        ("-ti", "docker run -ti --rm img", "run -i --rm <ours> img", "-t"),
        ("-itd", "docker run -itd --rm img", "run -i --rm <ours> img", "-t -d"),
        ("-td leaves nothing", "docker run -td -i --rm img", "run -i --rm <ours> img", "-t -d"),
        ("before a value", "docker run -i --rm -dp8080:80 img", "run -i --rm -p8080:80 <ours> img", "-d"),
        ("before a value in the next word", "docker run -i --rm -dtp 8080:80 img", "run -i --rm -p 8080:80 <ours> img", "-d -t"),
        ("before a letter with `=`", "docker run --rm -di=true img", "run --rm -i=true <ours> img", "-d"),
        ("a letter with `=` behind another", "docker run --rm -it=true img", "run --rm -i <ours> img", "-t"),
        ("twice, one warning", "docker run -d -i --rm --detach img", "run -i --rm <ours> img", "-d"),
        ("a name with a d in it", "docker run -i --rm --name d img", "run -i --rm --name d <ours> img", ""),
        ("detach keys are something else", "docker run -i --rm --detach-keys a img", "run -i --rm --detach-keys a <ours> img", ""),
        ("behind the image it is the program's", "docker run -i --rm img -d", "run -i --rm <ours> img -d", ""),
        ("what the seed shows first", "docker run -d -p 3000:3000 img", "run -p 3000:3000 -i --rm <ours> img", "-d -i --rm"),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_is_added() {
    check(&[
        ("-i", "docker run --rm img", "run --rm -i <ours> img", "-i"),
        ("-i is there", "docker run --interactive --rm img", "run --interactive --rm <ours> img", ""),
        ("-i=false is not", "docker run -i=false --rm img", "run -i=false --rm -i <ours> img", "-i"),
        ("the last counts", "docker run -i -i=false --rm img", "run -i -i=false --rm -i <ours> img", "-i"),
        ("the last counts, the other way", "docker run -i=false -i --rm img", "run -i=false -i --rm <ours> img", ""),
        ("--rm", "docker run -i img", "run -i --rm <ours> img", "--rm"),
        ("--rm=false is not", "docker run -i --rm=false img", "run -i --rm=false --rm <ours> img", "--rm"),
        ("--rmi removes both", "podman run -i --rmi img", "run -i --rmi <ours> img", ""),
        ("both", "docker run img", "run -i --rm <ours> img", "-i --rm"),
        ("before `--`", "docker run -- img", "run -i --rm <ours> -- img", "-i --rm"),
        ("stdout, when others are attached", "docker run -i --rm -a stdin img", "run -i --rm -a stdin -a stdout <ours> img", "-a stdout"),
        ("stdout is attached", "docker run -i --rm -a STDOUT img", "run -i --rm -a STDOUT <ours> img", ""),
        ("in a list, as podman has it", "podman run -i --rm -a stdin,stdout img", "run -i --rm -a stdin,stdout <ours> img", ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn restart_cidfile_labels() {
    check(&[
        ("--restart", "docker run -i --rm --restart always img", "run -i --rm <ours> img", "--restart"),
        ("--restart=", "docker run -i --rm --restart=unless-stopped img", "run -i --rm <ours> img", "--restart"),
        ("--restart=no is what we want", "docker run -i --rm --restart=no img", "run -i --rm --restart=no <ours> img", ""),
        ("and is nothing to remove", "docker run -i --rm --restart no img", "run -i --rm --restart no <ours> img", ""),
        ("instead of --rm", "docker run -i --restart on-failure:3 img", "run -i --rm <ours> img", "--restart --rm"),
        ("--cidfile", "docker run -i --rm --cidfile /a img", "run -i --rm <ours> img", "--cidfile"),
        ("--cidfile=", "docker run -i --rm --cidfile=/a img", "run -i --rm <ours> img", "--cidfile"),
        ("an empty one is none, and goes too", "docker run -i --rm --cidfile= img", "run -i --rm <ours> img", "--cidfile"),
        ("ours come last, so that they win", "docker run -i --rm -l mcpvisor.managed=no img", "run -i --rm -l mcpvisor.managed=no <ours> img", ""),
        ("a file of labels", "docker run -i --rm --label-file /a img", "run -i --rm --label-file /a <ours> img", "--label-file"),
        ("everything at once", "docker run -dit --restart=always --cidfile /a --label-file b --name n img c", "run -i --label-file b --name n --rm <ours> img c", "-d -t --restart --cidfile --label-file --rm"),
    ]);
}

#[test]
#[rustfmt::skip]
fn unknown_flags() {
    check(&[
        ("what follows is not read", "docker run -i --foo x img", "run <ours> -i --foo x img", "--foo"),
        ("not even -d", "docker run -i --foo -d img", "run <ours> -i --foo -d img", "--foo"),
        ("what is before is", "docker run -itd --foo x img", "run <ours> -i --foo x img", "-t -d --foo"),
        ("-i does no harm", "docker run --foo -i img", "run -i <ours> --foo -i img", "--foo"),
        ("an unknown letter", "docker run -i -x img", "run <ours> -i -x img", "-x"),
        ("among known ones", "docker run -idx img", "run -i <ours> -idx img", "-x"),
        ("one dash for two", "docker run -i -name n img", "run <ours> -i -name n img", "-n"),
        ("no image in sight", "docker run -i --foo", "run <ours> -i --foo", "--foo"),
        ("in the long command", "docker container run -i --foo x", "container run <ours> -i --foo x", "--foo"),
        ("with its value it is one word, whatever it means", "docker run -i --rm --foo=-d img", "run -i --rm --foo=-d <ours> img", ""),
        ("the user's cidfile before it goes", "docker run -i --cidfile /a --foo img", "run <ours> -i --foo img", "--cidfile --foo"),
        ("a letter that is none", "docker run -i -é img", "run <ours> -i -é img", "-é"),
        ("three dashes", "docker run -i --- img", "run <ours> -i --- img", "---"),
    ]);
}

#[test]
#[rustfmt::skip]
fn global_flags() {
    check(&[
        ("a value in the next word", "docker -H unix:///a run -i --rm img", "-H unix:///a run -i --rm <ours> img", ""),
        ("a value within", "docker -Hunix:///a run -i --rm img", "-Hunix:///a run -i --rm <ours> img", ""),
        ("a long flag with `=`", "docker --host=unix:///a run -i --rm img", "--host=unix:///a run -i --rm <ours> img", ""),
        ("a value called run", "docker --context run run -i --rm img", "--context run run -i --rm <ours> img", ""),
        ("letters", "docker -DH unix:///a run -i --rm img", "-DH unix:///a run -i --rm <ours> img", ""),
        ("the log", "docker -l debug run -i --rm img", "-l debug run -i --rm <ours> img", ""),
        ("switches", "docker --debug --tls=false run -i --rm img", "--debug --tls=false run -i --rm <ours> img", ""),
        ("podman's", "podman --log-level debug --remote run -i --rm img", "--log-level debug --remote run -i --rm <ours> img", ""),
        ("nerdctl's", "nerdctl -n k8s.io --address /a run -i --rm img", "-n k8s.io --address /a run -i --rm <ours> img", ""),
    ]);
}

fn shown(engine: &EngineChoice) -> String {
    match engine {
        EngineChoice::Default => "default".to_owned(),
        EngineChoice::Host(address) => address.clone(),
        EngineChoice::Context(name) => format!("context {name}"),
        EngineChoice::Podman => "podman".to_owned(),
        EngineChoice::Unreachable(why) => format!("it {why}"),
    }
}

#[track_caller]
fn check_engines(rows: &[EngineRow]) {
    for (why, env, line, engine, prefix) in rows {
        let pair =
            |word: String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env: BTreeMap<String, String> = words(env).into_iter().filter_map(pair).collect();
        let line = format!("{line} run -i --rm img");
        let Outcome::Run(run) = run_with(&env, &words(&line)) else { panic!("{why}: {line}") };
        assert_eq!(shown(&run.engine), *engine, "{why}: {env:?} {line}");
        assert_eq!(run.prefix.join(" "), *prefix, "{why}: {line}");
    }
}

#[test]
#[rustfmt::skip]
fn engines_of_docker() {
    check_engines(&[
        ("nothing said", "", "docker", "default", "docker"),
        ("-H", "", "docker -H unix:///a", "unix:///a", "docker -H unix:///a"),
        ("the variable", "DOCKER_HOST=unix:///e", "docker", "unix:///e", "docker"),
        ("an empty variable is none", "DOCKER_HOST=", "docker", "default", "docker"),
        ("the flag beats the variable", "DOCKER_HOST=unix:///e", "docker --host unix:///a", "unix:///a", "docker --host unix:///a"),
        ("the last flag", "", "docker -H unix:///a -H unix:///b", "unix:///b", "docker -H unix:///a -H unix:///b"),
        ("a context", "", "docker -c far", "context far", "docker -c far"),
        ("a context, long", "", "docker --context=far", "context far", "docker --context=far"),
        ("the context beats the host's variable", "DOCKER_HOST=unix:///e", "docker -c far", "context far", "docker -c far"),
        ("the context's variable", "DOCKER_CONTEXT=far", "docker", "context far", "docker"),
        ("the host's variable beats the context's", "DOCKER_CONTEXT=far DOCKER_HOST=unix:///e", "docker", "unix:///e", "docker"),
        ("the host beats the context's variable", "DOCKER_CONTEXT=far", "docker -H unix:///a", "unix:///a", "docker -H unix:///a"),
        ("the context default is not the current one", "", "docker -c default", "context default", "docker -c default"),
        ("and takes the host's variable", "DOCKER_HOST=unix:///e", "docker -c default", "unix:///e", "docker -c default"),
        ("a port", "", "docker -H tcp://h:1", "tcp://h:1", "docker -H tcp://h:1"),
        ("without scheme", "", "docker -H h:1", "tcp://h:1", "docker -H h:1"),
        ("only a port", "", "docker -H :2375", "tcp://localhost:2375", "docker -H :2375"),
        ("no port", "", "docker -H tcp://h", "tcp://h:2375", "docker -H tcp://h"),
        ("six", "", "docker -H tcp://[::1]:1", "tcp://[::1]:1", "docker -H tcp://[::1]:1"),
        ("six without port", "", "docker -H tcp://[::1]", "tcp://[::1]:2375", "docker -H tcp://[::1]"),
        ("unix without path", "", "docker -H unix://", "unix:///var/run/docker.sock", "docker -H unix://"),
        ("an empty host", "", "docker --host=", "unix:///var/run/docker.sock", "docker --host="),
        ("ssh", "", "docker -H ssh://u@h", "it is reached over ssh", "docker -H ssh://u@h"),
        ("ssh by variable", "DOCKER_HOST=ssh://u@h", "docker", "it is reached over ssh", "docker"),
        ("a pipe of Windows", "", "docker -H npipe:////./pipe/d", "it is reached over a pipe of Windows", "docker -H npipe:////./pipe/d"),
        ("what docker does not know", "", "docker -H foo://x", "it has an address that is neither `unix://` nor `tcp://`", "docker -H foo://x"),
        ("TLS by flag", "", "docker --tlsverify -H tcp://h:1", "it is reached with TLS", "docker --tlsverify -H tcp://h:1"),
        ("TLS by variable", "DOCKER_TLS_VERIFY=1 DOCKER_HOST=tcp://h:1", "docker", "it is reached with TLS", "docker"),
        ("TLS changes the default", "", "docker --tls", "it is reached with TLS", "docker --tls"),
        ("TLS off", "", "docker --tls=false", "default", "docker --tls=false"),
        ("a socket has no TLS", "", "docker --tls -H unix:///a", "unix:///a", "docker --tls -H unix:///a"),
        ("a program of Windows", "", "docker.exe", "it is Docker Desktop's on Windows", "docker.exe"),
        ("env sets it", "DOCKER_HOST=unix:///e", "env DOCKER_HOST=unix:///f docker", "unix:///f", "env DOCKER_HOST=unix:///f docker"),
        ("env unsets it", "DOCKER_HOST=unix:///e", "env -u DOCKER_HOST docker", "default", "env -u DOCKER_HOST docker"),
        ("env clears it", "DOCKER_HOST=unix:///e", "env -i docker", "default", "env -i docker"),
        ("sudo clears it", "DOCKER_HOST=unix:///e", "sudo docker", "unix:///var/run/docker.sock", "sudo docker"),
        ("sudo -E keeps it", "DOCKER_HOST=unix:///e", "sudo -E docker", "unix:///e", "sudo -E docker"),
        ("sudo keeps what it is told to", "DOCKER_HOST=unix:///e", "sudo --preserve-env=A,DOCKER_HOST docker", "unix:///e", "sudo --preserve-env=A,DOCKER_HOST docker"),
        ("sudo sets it", "", "sudo DOCKER_HOST=unix:///f docker", "unix:///f", "sudo DOCKER_HOST=unix:///f docker"),
        ("what env sets is lost in sudo", "", "env DOCKER_HOST=unix:///f sudo docker", "unix:///var/run/docker.sock", "env DOCKER_HOST=unix:///f sudo docker"),
        ("what env sets behind sudo is not", "", "sudo env DOCKER_HOST=unix:///f docker", "unix:///f", "sudo env DOCKER_HOST=unix:///f docker"),
        ("the flag behind sudo", "", "sudo -n docker -H unix:///a", "unix:///a", "sudo -n docker -H unix:///a"),
        ("contexts of root are not ours", "", "sudo docker -c far", "it is the context `far` of another user, behind `sudo`", "sudo docker -c far"),
        ("but the default one is", "", "sudo docker -c default", "context default", "sudo docker -c default"),
        ("the long command", "", "docker -H unix:///a container", "unix:///a", "docker -H unix:///a"),
        ("dashes are no part of it", "", "docker -D --", "default", "docker -D"),
    ]);
}

#[test]
#[rustfmt::skip]
fn engines_of_the_others() {
    check_engines(&[
        ("podman", "", "podman", "podman", "podman"),
        ("docker's variable is not podman's", "DOCKER_HOST=unix:///e", "podman", "podman", "podman"),
        ("podman's is", "CONTAINER_HOST=unix:///e", "podman", "unix:///e", "podman"),
        ("the flag beats it", "CONTAINER_HOST=unix:///e", "podman --url unix:///a", "unix:///a", "podman --url unix:///a"),
        ("docker's name for it", "", "podman -H unix:///a", "unix:///a", "podman -H unix:///a"),
        ("a connection", "", "podman -c far", "it is behind a connection of podman", "podman -c far"),
        ("a connection by variable", "CONTAINER_CONNECTION=far", "podman", "it is behind a connection of podman", "podman"),
        ("ssh", "CONTAINER_HOST=ssh://u@h/run/p.sock", "podman", "it is reached over ssh", "podman"),
        ("the context default is nothing", "", "podman --context default", "podman", "podman --context default"),
        ("other storage", "", "podman --root /x", "it keeps its containers where `--root` says, which its service does not see", "podman --root /x"),
        ("root's", "", "sudo podman", "unix:///run/podman/podman.sock", "sudo podman"),
        ("root's by number", "", "sudo -u #0 podman", "unix:///run/podman/podman.sock", "sudo -u #0 podman"),
        ("another user's", "", "sudo -u bob podman", "it is the podman of another user, behind `sudo`", "sudo -u bob podman"),
        ("nerdctl", "DOCKER_HOST=unix:///e", "nerdctl", "it is containerd, as `nerdctl` uses it", "nerdctl"),
        ("nerdctl's namespace", "", "nerdctl -n x", "it is containerd, as `nerdctl` uses it", "nerdctl -n x"),
        ("finch", "", "finch", "it is containerd, as `finch` uses it", "finch"),
    ]);
}

#[test]
fn what_is_read_of_a_run() {
    let run = rewritten("docker run -i --name a --name=b --cidfile /c img:1 x");
    assert_eq!(run.name.as_deref(), Some("b"), "the last counts");
    assert_eq!(run.user_cidfile.as_deref(), Some("/c"));
    assert_eq!(run.image.as_deref(), Some("img:1"));
    let run = rewritten("docker run --cidfile= --name '' -- img");
    assert_eq!((run.name, run.user_cidfile, run.image.as_deref()), (None, None, Some("img")));
    let run = rewritten("docker run --name a --foo img");
    assert_eq!((run.name.as_deref(), run.image), (Some("a"), None));
}

#[test]
fn the_folder_of_dockers_configuration() {
    #[track_caller]
    fn check(env: &str, line: &str, folder: Option<&str>) {
        let pairs =
            words(env).into_iter().map(|word| word.split_once('=').map(|(n, v)| (n.into(), v.into())));
        let Outcome::Run(run) = run_with(&pairs.flatten().collect(), &words(line)) else { panic!("{line}") };
        assert_eq!(run.docker_folder.as_deref(), folder, "{env} {line}");
    }
    check("", "docker run img", None);
    check("HOME=/h", "docker run img", Some("/h/.docker"));
    check("HOME=/h DOCKER_CONFIG=/c", "docker run img", Some("/c"));
    check("HOME=/h DOCKER_CONFIG=/c", "docker --config /d run img", Some("/d"));
    check("HOME=/h DOCKER_CONFIG=/c", "env -u DOCKER_CONFIG docker run img", Some("/h/.docker"));
    check("HOME=/h DOCKER_CONFIG=/c", "env DOCKER_CONFIG=/e docker run img", Some("/e"));
}

#[test]
fn warnings_say_what_was_done_and_why() {
    let line = "docker run -dit --restart=always --cidfile /a --label-file b -a stderr img";
    let mut warnings = rewritten(line).warnings;
    warnings.extend(rewritten("docker run --foo img").warnings);
    warnings.extend(rewritten("docker run img").warnings);
    let Outcome::NotARun { warning: Some(compose) } = run("docker compose run svc") else { panic!() };
    warnings.push(compose);
    assert_eq!(
        warnings,
        [
            "`-d` is removed: detached, the container has no stdin and stdout to speak MCP over",
            "`-t` is removed: a terminal changes what is sent through it, and MCP is sent through a pipe",
            "`--restart` is removed: mcpvisor restarts the server; one that the engine restarts has forgotten its \
             session",
            "`--cidfile` is replaced by a file of mcpvisor's own, by which it knows the container; the id is copied \
             to the file named here",
            "`--label-file` cannot change mcpvisor's own labels: they are given as `--label`, which wins",
            "`--rm` is added: a container that has ended is not started again, and would stay for ever",
            "`-a stdout` is added: without stdout the server's answers are not heard",
            "`--foo` is not known to mcpvisor, so neither is where the image is: what follows it is left as written, \
             and the labels stand before it; write `--foo=VALUE` if it takes a value",
            "`-i` is added: without it the server's stdin is closed from the start",
            "`--rm` is added: a container that has ended is not started again, and would stay for ever",
            "`docker compose` is run as it is: the containers that it starts are not mcpvisor's to mark, so one that \
             outlives its server is neither found nor removed",
        ]
    );
}

#[test]
fn no_value_is_ever_in_a_warning() {
    for line in [
        "docker run -d -e TOKEN=hunter2 --restart=hunter2 --cidfile hunter2 -t=true img hunter2",
        "docker run --foo hunter2 -e TOKEN=hunter2 img",
        "docker run --foo=hunter2 --bar img",
        "docker run -xhunter2 img",
        "docker compose -p hunter2 run -e TOKEN=hunter2 img",
    ] {
        let warnings = match run(line) {
            Outcome::Run(run) => run.warnings,
            Outcome::NotARun { warning } => Vec::from_iter(warning),
        };
        assert!(
            !warnings.is_empty() && !warnings.iter().any(|warning| warning.contains("hunter2")),
            "{warnings:?}"
        );
    }
}

#[test]
fn tables_hold_every_flag_once() {
    for table in [RUN, DOCKER, PODMAN, NERDCTL, SUDO, ENV] {
        let (mut names, mut letters) = (BTreeSet::new(), BTreeSet::new());
        for flag in table.flags() {
            assert!(names.insert(flag.long), "{}", flag.long);
            assert!(flag.short == ' ' || letters.insert(flag.short), "{}", flag.short);
        }
    }
}

/// A random option of `run`: its words, and what must be left of them.
fn option(flag: Flag, random: &mut fastrand::Rng) -> (Vec<String>, Vec<String>) {
    let values = ["a", "A=1", "-d", "--", "x=y=z", "run", "/p", "", "é"];
    let value = values[random.usize(..values.len())];
    let long = format!("--{}", flag.long);
    let short = (flag.short != ' ').then(|| format!("-{}", flag.short));
    let name = if random.bool() { short.clone().unwrap_or(long.clone()) } else { long.clone() };
    let words: Vec<String> = match (flag.switch, random.u8(..3)) {
        (true, 0) => vec![format!("{name}={}", ["true", "1", "false"][random.usize(..3)])],
        (true, _) => vec![name],
        (false, 0) if name == long => vec![format!("{long}={value}")],
        (false, 1) if name != long && !value.is_empty() && !value.starts_with('=') => {
            vec![format!("{name}{value}")]
        }
        (false, _) => vec![name, value.to_owned()],
    };
    let off = words[0].ends_with("=false");
    let gone = match flag.long {
        "detach" | "tty" => !off,
        "cidfile" => true,
        "restart" => !matches!(words.last().unwrap().as_str(), "" | "--restart="),
        _ => false,
    };
    (words.clone(), if gone { Vec::new() } else { words })
}

#[test]
fn everything_else_stays_as_written_and_in_order() {
    let flags = RUN.flags();
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..20_000 {
        let mut line =
            words(["docker run", "sudo docker -H x run", "env A=1 podman container run"][random.usize(..3)]);
        let mut expected = line[1..].to_vec();
        for _ in 0..random.usize(..8) {
            let flag = flags[random.usize(..flags.len())];
            if flag.long != "help" {
                let (words, left) = option(flag, &mut random);
                line.extend(words);
                expected.extend(left);
            }
        }
        let tail = words(["img", "img -d --rm x", "-- img --cidfile y", "run"][random.usize(..4)]);
        line.extend(tail.iter().cloned());
        let Outcome::Run(run) = run_with(&BTreeMap::new(), &line) else { panic!("{line:?}") };
        let ours = words(OURS);
        assert!(run.args.starts_with(&expected), "{line:?} -> {:?}", run.args);
        assert!(run.args.ends_with(&tail), "{line:?} -> {:?}", run.args);
        let added = &run.args[expected.len()..run.args.len() - tail.len()];
        assert!(added.ends_with(&ours), "{line:?} -> {added:?}");
        let added = added[..added.len() - ours.len()].join(" ");
        let possible = ["", "-i", "--rm", "-i --rm"];
        let possible = possible.iter().flat_map(|base| [(*base).to_owned(), format!("{base} -a stdout")]);
        assert!(possible.into_iter().any(|possible| possible.trim() == added), "{line:?} -> {added}");
    }
}

#[test]
fn whatever_the_words_are_the_rest_stays() {
    let pieces = words(
        "docker podman sudo env run container -i -d -t -itd -dx -e --name --cidfile --foo --foo=1 --rm --restart \
         --restart=always -- - '' -H -u A=1 img --help -i=false -é --label-file compose nerdctl.exe",
    );
    let may_go = ["-d", "-t", "-itd", "--cidfile", "--restart", "--restart=always"];
    let mut random = fastrand::Rng::with_seed(9);
    let mut runs = 0;
    for _ in 0..50_000 {
        let mut line = vec![pieces[random.usize(..4)].clone(), "run".to_owned()];
        line.extend((0..random.usize(..10)).map(|_| pieces[random.usize(..pieces.len())].clone()));
        let Outcome::Run(run) = run_with(&BTreeMap::new(), &line) else { continue };
        runs += 1;
        let ours = words(OURS);
        let at =
            run.args.windows(ours.len()).position(|window| window == ours).expect("the labels are there");
        // What may be added is left out on both sides; then the words are the user's, but for those that may go.
        let mut left = [&run.args[..at], &run.args[at + ours.len()..]].concat();
        left.retain(|word| word != "-i" && word != "--rm");
        let user: Vec<&String> = line[1..].iter().filter(|word| *word != "-i" && *word != "--rm").collect();
        let mut rest = user.iter();
        let in_order = left.iter().all(|word| rest.any(|user| *user == word));
        assert!(in_order, "{line:?} -> {:?}", run.args);
        let may_go = user.iter().filter(|word| may_go.contains(&word.as_str())).count();
        assert!(user.len() - left.len() <= 2 * may_go, "{line:?} -> {:?}", run.args);
        assert!(line.starts_with(&run.prefix), "{line:?} -> {:?}", run.prefix);
    }
    assert!(runs > 2000, "{runs}");
}
