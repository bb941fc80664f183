//! Where the engine of a user's `docker run` listens: contexts of the docker client looked up in its folder, podman's
//! service found by its socket. What cannot be spoken to from here is said why; then the user's own command reaches
//! it (`by_cli`).
//!
//! It reads files and looks whether sockets are there; it connects to nothing.

use super::auth::read;
use super::endpoint::{DEFAULT_SOCKET, Endpoint};
use crate::base::limits::DOCKER_CONTEXTS_MAX;
use crate::base::text::shorten;
use crate::config::docker_run::EngineChoice;
use nix::unistd::Uid;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Whose command it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The folder of the docker client's configuration; `None` if there is none.
    pub docker_folder: Option<PathBuf>,
    /// Where podman's service of this user listens.
    pub podman_socket: PathBuf,
}

impl Caller {
    /// Ourselves. `docker_folder` is what a rewritten run says; `lookup` gives the variables that its command will see.
    pub fn of(docker_folder: Option<&str>, lookup: impl Fn(&str) -> Option<String>) -> Caller {
        let set = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = Uid::effective();
        let runtime = match (user.is_root(), set("XDG_RUNTIME_DIR")) {
            (true, _) => PathBuf::from("/run"),
            (false, Some(folder)) => folder,
            (false, None) => PathBuf::from(format!("/run/user/{user}")),
        };
        Caller {
            docker_folder: docker_folder.map(PathBuf::from).or_else(|| Some(set("HOME")?.join(".docker"))),
            podman_socket: runtime.join("podman/podman.sock"),
        }
    }
}

/// The endpoint, or why there is none: the rest of a sentence that begins with the engine.
pub fn resolve(choice: &EngineChoice, caller: &Caller) -> Result<Endpoint, String> {
    match choice {
        EngineChoice::Default => match current_context(caller)? {
            Some(name) => context(&name, caller),
            None => Ok(default_endpoint()),
        },
        EngineChoice::Context(name) => context(name, caller),
        EngineChoice::Host(address) => {
            let endpoint = Endpoint::parse(address);
            endpoint.map_err(|_| "has an address that cannot be read".to_owned())
        }
        EngineChoice::Podman => podman(&caller.podman_socket),
        EngineChoice::Unreachable(why) => Err(why.clone()),
    }
}

fn default_endpoint() -> Endpoint {
    Endpoint::Unix(DEFAULT_SOCKET.into())
}

fn podman(socket: &Path) -> Result<Endpoint, String> {
    match socket.exists() {
        true => Ok(Endpoint::Unix(socket.to_owned())),
        false => Err(format!("is podman without its service: there is no socket {}", socket.display())),
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigFile {
    current_context: String,
}

/// `contexts/meta/<hash of the name>/meta.json`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    #[serde(default)]
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// What `docker context use` chose, if it is not the default one.
fn current_context(caller: &Caller) -> Result<Option<String>, String> {
    let Some(folder) = &caller.docker_folder else { return Ok(None) };
    let file = folder.join("config.json");
    let unread = |why: &str| format!("may be another context's: {} was not read: {why}", file.display());
    let Some(text) = read(&file).map_err(|why| unread(&why))? else { return Ok(None) };
    let config: ConfigFile = serde_json::from_str(&text).map_err(|_| unread("it is no JSON that fits"))?;
    Ok(Some(config.current_context).filter(|name| !name.is_empty()))
}

fn context(name: &str, caller: &Caller) -> Result<Endpoint, String> {
    if name == "default" {
        return Ok(default_endpoint());
    }
    let shown = shorten(name, 60);
    let folder = caller.docker_folder.as_ref().map(|folder| folder.join("contexts"));
    let found = folder.as_ref().and_then(|folder| find(name, folder));
    let Some((hash, meta)) = found else {
        return Err(format!("is the context `{shown}`, which is not among the contexts of docker"));
    };
    let Some(docker) = meta.endpoints.docker else {
        return Err(format!("is the context `{shown}`, which names no Docker engine"));
    };
    let keys = folder.is_some_and(|folder| folder.join("tls").join(hash).join("docker").exists());
    match EngineChoice::at(&docker.host, keys || docker.skip_tls_verify) {
        EngineChoice::Host(address) => Endpoint::parse(&address)
            .map_err(|_| format!("is the context `{shown}`, whose address cannot be read")),
        EngineChoice::Unreachable(why) => Err(format!("is the context `{shown}`: it {why}")),
        EngineChoice::Default | EngineChoice::Context(_) | EngineChoice::Podman => Ok(default_endpoint()),
    }
}

/// The folder's name (the hash) and the content. Files that cannot be read are other contexts', or docker's to report.
fn find(name: &str, folder: &Path) -> Option<(PathBuf, Meta)> {
    let folders = fs::read_dir(folder.join("meta")).ok()?.flatten().take(DOCKER_CONTEXTS_MAX);
    folders
        .filter_map(|entry| {
            let text = read(&entry.path().join("meta.json")).ok()??;
            Some((PathBuf::from(entry.file_name()), serde_json::from_str::<Meta>(&text).ok()?))
        })
        .find(|(_, meta)| meta.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as `docker context create` of Docker 28 leaves it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, current: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("mcpvisor-contexts-{}-{name}", std::process::id()));
            let folder = Folder(path);
            folder.write("config.json", &format!("{{\"auths\": {{}}, \"currentContext\": \"{current}\"}}"));
            let endpoint = |host: &str, skip: bool| {
                format!(r#"{{"docker":{{"Host":"{host}","SkipTLSVerify":{skip}}}}}"#)
            };
            folder.context("plain", &endpoint("unix:///tmp/x.sock", false));
            folder.context("tcp", &endpoint("tcp://h:2375", false));
            folder.context("far", &endpoint("ssh://u@h", false));
            folder.context("skip", &endpoint("tcp://h:2376", true));
            folder.context("tls", &endpoint("tcp://h:2376", false));
            folder.write("contexts/tls/#tls/docker/ca.pem", "");
            folder.context("kube", r#"{"kubernetes":{}}"#);
            folder.context("empty", &endpoint("", false));
            folder.write("contexts/meta/broken/meta.json", "{");
            folder
        }

        fn context(&self, name: &str, endpoints: &str) {
            let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{endpoints}}}"#);
            self.write(&format!("contexts/meta/#{name}/meta.json"), &meta);
        }

        fn write(&self, file: &str, text: &str) {
            let file = self.0.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        fn caller(&self) -> Caller {
            let podman_socket = self.0.join("podman.sock");
            Caller { docker_folder: Some(self.0.clone()), podman_socket }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // What stays in the temporary folder does no harm.
        }
    }

    #[track_caller]
    fn check(folder: &Folder, choice: EngineChoice, expected: &str) {
        let found = resolve(&choice, &folder.caller());
        let shown = found.map_or_else(|why| format!("it {why}"), |endpoint| endpoint.to_string());
        assert_eq!(shown.replace(&*folder.0.to_string_lossy(), "FOLDER"), expected, "{choice:?}");
    }

    fn named(name: &str) -> EngineChoice {
        EngineChoice::Context(name.to_owned())
    }

    #[test]
    fn contexts() {
        let folder = Folder::new("all", "");
        check(&folder, named("default"), "unix:///var/run/docker.sock");
        check(&folder, named("plain"), "unix:///tmp/x.sock");
        check(&folder, named("tcp"), "tcp://h:2375");
        check(&folder, named("far"), "it is the context `far`: it is reached over ssh");
        check(&folder, named("skip"), "it is the context `skip`: it is reached with TLS");
        check(&folder, named("tls"), "it is the context `tls`: it is reached with TLS");
        check(&folder, named("empty"), "unix:///var/run/docker.sock");
        check(&folder, named("kube"), "it is the context `kube`, which names no Docker engine");
        check(&folder, named("nope"), "it is the context `nope`, which is not among the contexts of docker");
    }

    #[test]
    fn the_current_context() {
        check(&Folder::new("none", ""), EngineChoice::Default, "unix:///var/run/docker.sock");
        check(&Folder::new("default", "default"), EngineChoice::Default, "unix:///var/run/docker.sock");
        check(&Folder::new("plain", "plain"), EngineChoice::Default, "unix:///tmp/x.sock");
        check(
            &Folder::new("far", "far"),
            EngineChoice::Default,
            "it is the context `far`: it is reached over ssh",
        );
        let folder = Folder::new("broken", "");
        folder.write("config.json", "{");
        let why = "it may be another context's: FOLDER/config.json was not read: it is no JSON that fits";
        check(&folder, EngineChoice::Default, why);
        fs::remove_file(folder.0.join("config.json")).unwrap();
        check(&folder, EngineChoice::Default, "unix:///var/run/docker.sock");
    }

    #[test]
    fn addresses_and_podman() {
        let folder = Folder::new("podman", "plain");
        let host = |address: &str| EngineChoice::Host(address.to_owned());
        check(&folder, host("unix:///a"), "unix:///a");
        check(&folder, host("tcp://h:1"), "tcp://h:1");
        check(&folder, host("unix://a"), "it has an address that cannot be read");
        check(&folder, EngineChoice::Unreachable("is far".to_owned()), "it is far");
        let why = "it is podman without its service: there is no socket FOLDER/podman.sock";
        check(&folder, EngineChoice::Podman, why);
        folder.write("podman.sock", "");
        check(&folder, EngineChoice::Podman, "unix://FOLDER/podman.sock");
    }

    #[test]
    fn whose_command_it_is() {
        let home = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        assert_eq!(Caller::of(None, home).docker_folder, Some("/h/.docker".into()));
        assert_eq!(Caller::of(Some("/c"), home).docker_folder, Some("/c".into()));
        assert_eq!(Caller::of(None, |_| None).docker_folder, None);
        let socket = Caller::of(None, |_| Some("/x".to_owned())).podman_socket;
        let expected =
            if Uid::effective().is_root() { "/run/podman/podman.sock" } else { "/x/podman/podman.sock" };
        assert_eq!(socket, Path::new(expected));
    }
}
