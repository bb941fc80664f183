//! The images that the tests run, made here: no registry is asked. One that an engine has already is not made again;
//! its tag says what is in it.

use super::engine::Engine;
use super::{BINARY, TempDir};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Our own binary, as `/bin/mcpvisor`, with busybox beside it for a shell; `mcpvisor demo-server` is what it runs
/// when nothing else is said.
pub fn demo(engine: &Engine) -> String {
    static TAG: OnceLock<String> = OnceLock::new();
    let tag = TAG.get_or_init(|| format!("it-demo:{}", hash(&[BINARY.into()])));
    // The libraries too: the test binary is not a static one.
    let files = || {
        let mut files = libraries();
        files.push((PathBuf::from(BINARY), "bin/mcpvisor".into()));
        files
    };
    import(engine, tag, r#"CMD ["/bin/mcpvisor","demo-server"]"#, files)
}

/// The demo image with a `/bin/npx`, which is the demo server whatever its arguments are.
pub fn npx(engine: &Engine) -> String {
    static TAG: OnceLock<String> = OnceLock::new();
    let tag = TAG.get_or_init(|| format!("it-npx:{}", hash(&[BINARY.into()])));
    let script = TempDir::new();
    let npx = script.path().join("npx");
    std::fs::write(&npx, "#!/bin/sh\nexec /bin/mcpvisor demo-server\n").unwrap();
    std::fs::set_permissions(&npx, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let files = || {
        let mut files = libraries();
        files.push((PathBuf::from(BINARY), "bin/mcpvisor".into()));
        files.push((npx.clone(), "bin/npx".into()));
        files
    };
    import(engine, tag, r#"CMD ["/bin/npx"]"#, files)
}

/// busybox alone.
pub fn busybox(engine: &Engine) -> String {
    static TAG: OnceLock<String> = OnceLock::new();
    let tag = TAG.get_or_init(|| format!("it-busybox:{}", hash(&[program("busybox")])));
    import(engine, tag, r#"CMD ["/bin/busybox","sh"]"#, Vec::new)
}

/// Makes the image of a root with busybox and these files, unless it is there. Returns its name.
fn import(engine: &Engine, tag: &str, change: &str, files: impl Fn() -> Vec<(PathBuf, PathBuf)>) -> String {
    // Two tests that need it at once: the second one finds it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if engine.ask("GET", &format!("/images/{tag}/json"), None).0 == 200 {
        return tag.to_owned();
    }
    let root = TempDir::new();
    let put = |from: &Path, to: &Path| {
        let to = root.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // A copy of 23 MB would be one for nothing, where a link will do.
        std::fs::hard_link(from, &to).or_else(|_| std::fs::copy(from, &to).map(drop)).unwrap();
    };
    put(&program("busybox"), Path::new("bin/busybox"));
    for applet in ["sh", "cat", "sleep", "env"] {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).unwrap();
    }
    for dir in ["tmp", "proc", "sys", "dev", "etc"] {
        std::fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    files().iter().for_each(|(from, to)| put(from, to));
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut docker = engine.docker(&["import", "--change", change, "-", tag]);
    let done = docker.stdin(tar.stdout.take().unwrap()).output().unwrap();
    // The engine may hang up at the end of the archive while tar still pads it, which kills tar; and 1 is a file whose links
    // were counted anew meanwhile. An archive that is not whole fails the import.
    let told = tar.wait().unwrap();
    let whole = matches!(told.code(), Some(0 | 1)) || told.signal() == Some(nix::libc::SIGPIPE);
    assert!(whole && done.status.success(), "docker import {tag}: {told}, {done:?}");
    tag.to_owned()
}

/// What the loader needs to start the test binary: from where, and to where below the root.
fn libraries() -> Vec<(PathBuf, PathBuf)> {
    let output = Command::new("ldd").arg(BINARY).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    let mut paths: Vec<PathBuf> = words.map(PathBuf::from).filter(|path| path.exists()).collect();
    paths.sort();
    paths.dedup();
    let below =
        |path: PathBuf| (std::fs::canonicalize(&path).unwrap(), path.strip_prefix("/").unwrap().into());
    paths.into_iter().map(below).collect()
}

pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed"))
}

/// Of the contents; the same for the same files only.
fn hash(files: &[PathBuf]) -> String {
    let output = Command::new("sha256sum").args(files).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..16].to_owned()
}
