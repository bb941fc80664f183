//! Where a config may be and where the state goes: pure choices over an environment that is given.

use super::template::expand_home;
use crate::base::fault::{Fault, FaultKind};
use std::path::{Path, PathBuf};

/// The name of the file in every directory that is searched.
pub const FILE_NAME: &str = "mcp_config.json";

/// The places to look for a config, in order; the first that exists is it. `--config` and `$MCPVISOR_CONFIG`
/// are the only place when given: a file that was named and is missing must not be replaced by another.
/// An empty variable counts as unset.
pub fn candidates(
    explicit: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
    cwd: &Path,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    if let Some(path) = explicit {
        return vec![cwd.join(expand(path, home))];
    }
    if let Some(path) = env("MCPVISOR_CONFIG").filter(|path| !path.is_empty()) {
        return vec![cwd.join(expand_home(&path, home))];
    }
    let user = absolute(env("XDG_CONFIG_HOME")).or_else(|| home.map(|home| home.join(".config")));
    let mut places = vec![cwd.join(FILE_NAME)];
    places.extend(user.map(|dir| dir.join("mcpvisor").join(FILE_NAME)));
    places.extend(home.map(|home| home.join(".mcpproxy").join(FILE_NAME)));
    places.push(Path::new("/etc/mcpvisor").join(FILE_NAME));
    places
}

/// The state directory: `--state-dir`, `$MCPVISOR_STATE_DIR`, systemd's `$STATE_DIRECTORY`, the config's
/// `data_dir`, `/var/lib/mcpvisor` for root, `$XDG_STATE_HOME/mcpvisor`, `~/.local/state/mcpvisor`.
/// A fault only for a user without a home directory who named none.
pub fn state_dir(
    explicit: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
    data_dir: Option<&str>,
    is_root: bool,
    home: Option<&Path>,
) -> Result<PathBuf, Fault> {
    if let Some(path) = explicit {
        return Ok(expand(path, home));
    }
    if let Some(path) = env("MCPVISOR_STATE_DIR").filter(|path| !path.is_empty()) {
        return Ok(expand_home(&path, home));
    }
    // systemd joins several with colons; ours is the first.
    let systemd = env("STATE_DIRECTORY").and_then(|list| absolute(list.split(':').next().map(str::to_owned)));
    if let Some(path) = systemd {
        return Ok(path);
    }
    if let Some(path) = data_dir.filter(|path| !path.is_empty()) {
        return Ok(expand_home(path, home));
    }
    if is_root {
        return Ok(PathBuf::from("/var/lib/mcpvisor"));
    }
    let user = absolute(env("XDG_STATE_HOME")).or_else(|| home.map(|home| home.join(".local/state")));
    let missing = || Fault::new(FaultKind::BadConfig, "find a state directory: there is no home directory");
    user.map(|dir| dir.join("mcpvisor"))
        .ok_or_else(|| missing().hint("give one with --state-dir, or set HOME or MCPVISOR_STATE_DIR"))
}

/// The XDG rules ignore a relative path, and an empty one.
fn absolute(path: Option<String>) -> Option<PathBuf> {
    path.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A path that is not UTF-8 cannot begin with our tilde and something else, so it stays as it is.
fn expand(path: &Path, home: Option<&Path>) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |text| expand_home(text, home))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn places_of_a_config() {
        #[track_caller]
        fn check(
            explicit: Option<&str>,
            pairs: &'static [(&str, &str)],
            home: Option<&str>,
            places: &[&str],
        ) {
            let found = candidates(explicit.map(Path::new), env(pairs), Path::new("/w"), home.map(Path::new));
            assert_eq!(found, places.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
        let home = Some("/home/u");
        check(Some("x.json"), &[("MCPVISOR_CONFIG", "/y")], home, &["/w/x.json"]);
        check(Some("~/x.json"), &[], home, &["/home/u/x.json"]);
        check(None, &[("MCPVISOR_CONFIG", "/y")], home, &["/y"]);
        let usual = [
            "/w/mcp_config.json",
            "/home/u/.config/mcpvisor/mcp_config.json",
            "/home/u/.mcpproxy/mcp_config.json",
            "/etc/mcpvisor/mcp_config.json",
        ];
        check(None, &[], home, &usual);
        check(None, &[("MCPVISOR_CONFIG", ""), ("XDG_CONFIG_HOME", "relative")], home, &usual);
        let xdg = [usual[0], "/xdg/mcpvisor/mcp_config.json", usual[2], usual[3]];
        check(None, &[("XDG_CONFIG_HOME", "/xdg")], home, &xdg);
        check(None, &[], None, &[usual[0], usual[3]]);
    }

    #[test]
    fn place_of_the_state() {
        #[track_caller]
        fn check(
            explicit: Option<&str>,
            pairs: &'static [(&str, &str)],
            data: Option<&str>,
            root: bool,
            dir: &str,
        ) {
            let home = Some(Path::new("/home/u"));
            let found = state_dir(explicit.map(Path::new), env(pairs), data, root, home);
            assert_eq!(found, Ok(PathBuf::from(dir)));
        }
        let all: &[_] = &[
            ("MCPVISOR_STATE_DIR", "~/m"),
            ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
            ("XDG_STATE_HOME", "/xdg"),
        ];
        check(Some("s"), all, Some("/d"), true, "s");
        check(None, all, Some("/d"), true, "/home/u/m");
        check(None, &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")], Some("/d"), true, "/var/lib/a");
        check(None, &[("XDG_STATE_HOME", "/xdg")], Some("~/.mcpproxy"), true, "/home/u/.mcpproxy");
        check(None, &[("XDG_STATE_HOME", "/xdg")], None, true, "/var/lib/mcpvisor");
        check(None, &[("XDG_STATE_HOME", "/xdg")], Some(""), false, "/xdg/mcpvisor");
        check(None, &[], None, false, "/home/u/.local/state/mcpvisor");
        let fault = state_dir(None, env(&[]), None, false, None).unwrap_err();
        assert_eq!(fault.message, "find a state directory: there is no home directory");
    }
}
