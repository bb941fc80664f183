//! Commands and what becomes of them, as a table.

use super::*;
use crate::config::isolation::Mount;
use std::sync::Arc;

/// `IMAGE: ENTRYPOINT | CMD`, then the remarks; or the objection.
fn describe(line: &str, image: Option<&str>, isolation: &Isolation) -> String {
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let command = words.next().unwrap();
    let args: Vec<String> = words.collect();
    let ask = Ask {
        command: &command,
        written: &command,
        args: &args,
        image: image.map(ToOwned::to_owned),
        working_dir: Some("/home/u/src".to_owned()),
    };
    match inside(&ask, isolation) {
        Ok(inside) => {
            let mut out =
                format!("{}: {} | {}", inside.image, inside.entrypoint.join(" "), inside.cmd.join(" "));
            for remark in inside.remarks {
                out.push_str(&format!("; {} ({})", remark.message, remark.hint));
            }
            out
        }
        Err(objection) => format!("{} ({})", objection.message, objection.hint),
    }
}

#[test]
fn the_image_follows_from_the_command() {
    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(describe(line, None, &Isolation::default()), expected);
    }
    check("uvx mcp-server-time", "ghcr.io/astral-sh/uv:python3.13-bookworm-slim: uvx | mcp-server-time");
    check("npx -y @a/b", "node:22: npx | -y @a/b");
    check(
        "uvx --from git+https://x/y z",
        "ghcr.io/astral-sh/uv:python3.13-bookworm: uvx | --from git+https://x/y z",
    );
    check("python3 -m x", "ghcr.io/astral-sh/uv:python3.13-bookworm-slim: python3 | -m x");
    check("python3.11 -m x", "ghcr.io/astral-sh/uv:python3.11-bookworm-slim: python3.11 | -m x");
    check("go run example.org/x@latest", "golang:1-alpine: go | run example.org/x@latest");
    check("deno run jsr:@a/b", "denoland/deno:alpine: deno | run jsr:@a/b");
    check("bash -c true", "debian:bookworm-slim: bash | -c true");
    check(
        "pipx run x",
        "ghcr.io/astral-sh/uv:python3.13-bookworm-slim: sh -c pip install --quiet \
         --disable-pip-version-check pipx >&2 && exec \"$0\" \"$@\" pipx | run x; \
         ghcr.io/astral-sh/uv:python3.13-bookworm-slim has no `pipx`; it is installed at every start \
         (ghcr.io/astral-sh/uv:python3.13-bookworm-slim has `uv` and `uvx`)",
    );
    check(
        "my-server --port 1",
        "which image has `my-server` is not known (name one: \"isolation\": {\"image\": …}, or \
         `docker_isolation.default_images.my-server`; \"isolation\": {\"enabled\": false} runs it on the host)",
    );
}

#[test]
fn paths_of_the_host() {
    let mounted = Isolation {
        mounts: vec![Mount::short("~/tools:/opt/tools").unwrap()],
        working_dir_mount: Access::Read,
        ..Isolation::default()
    };
    #[track_caller]
    fn check(line: &str, isolation: &Isolation, expected: &str) {
        assert_eq!(describe(line, None, isolation), expected);
    }
    let plain = Isolation::default();
    check(
        "/usr/local/bin/npx -y a",
        &plain,
        "node:22: npx | -y a; `/usr/local/bin/npx` is the host's; the `npx` of node:22 runs \
         (write `npx`, or name an image that has it)",
    );
    check(
        "npx -y files /home/u/notes",
        &plain,
        "node:22: npx | -y files /home/u/notes; its container does not see `/home/u/notes` \
         (mount it: `isolation.mounts`, or `isolation.mount_working_dir`)",
    );
    check(
        "node build/index.js",
        &plain,
        "node:22: node | build/index.js; its container does not see `build/index.js` \
         (mount it: `isolation.mounts`, or `isolation.mount_working_dir`)",
    );
    check("npx chart.js", &plain, "node:22: npx | chart.js");
    check("node build/index.js", &mounted, "node:22: node | build/index.js");
    check("node /home/u/src/x.js", &mounted, "node:22: node | /home/u/src/x.js");
    check("/opt/tools/npx -y a", &mounted, "node:22: /opt/tools/npx | -y a");
    let unknown = describe("/opt/toolsmith/run", None, &mounted);
    assert!(unknown.starts_with("which image has `/opt/toolsmith/run` is not known"), "{unknown}");
}

#[test]
fn named_images() {
    let registry = |registry: &str, images: &[(&str, &str)]| Isolation {
        images: Arc::new(Images {
            of_command: images.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            registry: Some(registry.to_owned()).filter(|registry| !registry.is_empty()),
        }),
        ..Isolation::default()
    };
    #[track_caller]
    fn check(line: &str, image: Option<&str>, isolation: &Isolation, expected: &str) {
        assert_eq!(describe(line, image, isolation), expected);
    }
    let plain = Isolation::default();
    check("/app/run --x /data", Some("me/app:2"), &plain, "me/app:2: /app/run | --x /data");
    check("uvx a", Some("me/uv"), &plain, "me/uv: uvx | a");
    check(
        "/opt/homebrew/bin/npx a",
        Some("me/node"),
        &plain,
        "me/node: /opt/homebrew/bin/npx | a; `/opt/homebrew/bin/npx` is taken as a path inside the image \
         (write `npx` for the image's own)",
    );
    check(
        "uvx a b",
        Some("python:3.11"),
        &plain,
        "python:3.11: sh -c pip install --quiet --disable-pip-version-check uv >&2 && exec \"$0\" \"$@\" uvx \
         | a b; python:3.11 has no `uvx`; it is installed at every start \
         (ghcr.io/astral-sh/uv:python3.13-bookworm-slim has `uv` and `uvx`)",
    );
    let ours = registry("", &[("python", "me/py:1"), ("my-server", "me/server")]);
    check("python3 -m x", None, &ours, "me/py:1: python3 | -m x");
    check("my-server", None, &ours, "me/server: my-server | ");
    let mirror = registry("mirror.lan:5000", &[]);
    check("npx a", None, &mirror, "mirror.lan:5000/library/node:22: npx | a");
    check("bun a", None, &mirror, "mirror.lan:5000/oven/bun:1: bun | a");
    check("uvx a", None, &mirror, "ghcr.io/astral-sh/uv:python3.13-bookworm-slim: uvx | a");
    check("x", Some("localhost/x"), &mirror, "localhost/x: x | ");
}

#[test]
fn below_a_directory() {
    assert!(under("/a", "/a") && under("/a/b", "/a/") && under("/a/b/c", "/a/b"));
    assert!(!under("/ab", "/a") && !under("/", "/a"));
}
