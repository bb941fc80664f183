//! The login of a registry, as `docker login` keeps it in its `config.json`, in the form that an engine wants.
//!
//! Only logins that stand in the file itself are read; those of credential helpers are not, and that is said.

use crate::base::fault::Fault;
use crate::base::limits::DOCKER_CONFIG_BYTES_MAX;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What Docker calls its own registry in that file.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What is known about a login for one image. Shown to nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The value of `X-Registry-Auth`; `None` pulls without a login.
    pub header: Option<String>,
    /// Why there is none although there might be, for a pull that fails.
    pub note: Option<String>,
}

impl Login {
    /// Adds to a pull's failure what might explain it.
    pub fn explain(&self, fault: Fault) -> Fault {
        match &self.note {
            Some(note) if fault.hint.is_empty() => fault.hint(note.clone()),
            Some(note) => {
                let hint = format!("{}; {note}", fault.hint);
                fault.hint(hint)
            }
            None => fault,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
}

/// Reads `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`; a file that is not there means no login.
pub fn login_for(image: &str, lookup: impl Fn(&str) -> Option<String>) -> Login {
    let set = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
    let Some(file) = folder.map(|folder| folder.join("config.json")) else { return Login::default() };
    match read(&file) {
        Ok(Some(text)) => in_text(image, &text, &file),
        Ok(None) => Login::default(),
        Err(why) => note(format!("{} was not read: {why}", file.display())),
    }
}

/// Nothing if there is no such file.
pub(super) fn read(file: &Path) -> Result<Option<String>, String> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    opened.take(DOCKER_CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > DOCKER_CONFIG_BYTES_MAX {
        Err("it is too long".to_owned())
    } else {
        Ok(Some(text))
    }
}

fn in_text(image: &str, text: &str, file: &Path) -> Login {
    let Ok(config) = serde_json::from_str::<ConfigFile>(text) else {
        return note(format!("{} is not readable JSON", file.display()));
    };
    let registry = registry_of(image);
    let host = host_of(registry);
    let entry = config.auths.iter().find(|(key, _)| host_of(key) == host).map(|(_, entry)| entry);
    if let Some(header) = entry.and_then(|entry| header(entry, registry)) {
        return Login { header: Some(header), note: None };
    }
    let helper = config.cred_helpers.iter().find(|(key, _)| host_of(key) == host).map(|(_, helper)| helper);
    let helper = helper.or(Some(&config.creds_store)).filter(|helper| !helper.is_empty());
    match helper {
        Some(helper) => note(format!(
            "the login of {host} may be with the credential helper `{helper}` of {}, which is not read: pull the image by docker pull, or put the login into the file",
            file.display()
        )),
        None => Login::default(),
    }
}

fn note(text: String) -> Login {
    Login { header: None, note: Some(text) }
}

fn header(entry: &Entry, registry: &str) -> Option<String> {
    let value = if entry.identitytoken.is_empty() {
        let pair = String::from_utf8(decode(&entry.auth)?).ok()?;
        let (user, password) = pair.split_once(':')?;
        json!({ "username": user, "password": password.trim_end_matches('\0'), "serveraddress": registry })
    } else {
        json!({ "identitytoken": entry.identitytoken, "serveraddress": registry })
    };
    Some(encode_url(value.to_string().as_bytes()))
}

/// The registry of an image: its first part if that can only be a host.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => DOCKER_HUB,
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        Some(_) | None => DOCKER_HUB,
    }
}

/// Keys of the file come with and without scheme and path.
fn host_of(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = key.split('/').next().unwrap_or(key);
    if host == "docker.io" { "index.docker.io" } else { host }
}

const PLAIN: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 for URLs, padded: what engines take.
fn encode_url(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().chain(&[0, 0]).take(3).fold(0, |word, byte| word << 8 | u32::from(*byte));
        for index in 0..4 {
            let digit = FOR_URLS[(word >> (18 - 6 * index)) as usize & 63];
            out.push(if index <= group.len() { digit.into() } else { '=' });
        }
    }
    out
}

/// Base64, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut word, mut bits) = (0u32, 0);
    for byte in text.bytes() {
        let value = PLAIN.iter().position(|digit| *digit == byte)?;
        word = (word << 6 | value as u32) & 0xfff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out).filter(|out| !out.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the header says, as JSON text, or the note.
    fn check(image: &str, config: &str, expected: Result<&str, Option<&str>>) {
        let login = in_text(image, config, Path::new("/c/config.json"));
        let header = login.header.map(|header| {
            let plain = header.replace('-', "+").replace('_', "/");
            String::from_utf8(decode(&plain).unwrap()).unwrap()
        });
        assert_eq!(header.as_deref().ok_or(login.note.as_deref()), expected, "{image}");
    }

    #[test]
    fn logins() {
        // me:s3?>cret
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6czM/PmNyZXQ="}}}"#;
        let said = r#"{"password":"s3?>cret","serveraddress":"https://index.docker.io/v1/","username":"me"}"#;
        check("busybox", hub, Ok(said));
        check("docker.io/library/busybox", hub, Ok(said));
        check("ghcr.io/a/b", hub, Err(None));
        let own = r#"{"auths":{"http://127.0.0.1:5000/v2/":{"auth":"YTpi"},"x.org":{"identitytoken":"t"}}}"#;
        check(
            "127.0.0.1:5000/a",
            own,
            Ok(r#"{"password":"b","serveraddress":"127.0.0.1:5000","username":"a"}"#),
        );
        check("x.org/a:1", own, Ok(r#"{"identitytoken":"t","serveraddress":"x.org"}"#));
        check("busybox", own, Err(None));
    }

    #[test]
    fn what_is_not_read() {
        let helper = r#"{"auths":{"ghcr.io":{}},"credsStore":"desktop","credHelpers":{"x.org":"gcloud"}}"#;
        let why = |host: &str, helper: &str| {
            format!(
                "the login of {host} may be with the credential helper `{helper}` of /c/config.json, which is not read: pull the image by docker pull, or put the login into the file"
            )
        };
        check("ghcr.io/a", helper, Err(Some(&why("ghcr.io", "desktop"))));
        check("x.org/a", helper, Err(Some(&why("x.org", "gcloud"))));
        check("a", "not json", Err(Some("/c/config.json is not readable JSON")));
        check("a", r#"{"auths":{"docker.io":{"auth":"?!"}}}"#, Err(None));
    }

    #[test]
    fn base64() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(encode_url(text.as_bytes()), expected);
            assert_eq!(decode(expected).unwrap_or_default(), text.as_bytes());
        }
        assert_eq!(encode_url(&[0xfb, 0xff]), "-_8=");
    }

    #[test]
    fn found_by_the_environment() {
        let folder = std::env::temp_dir().join(format!("mcpvisor-auth-{}", std::process::id()));
        std::fs::create_dir_all(folder.join(".docker")).unwrap();
        let home = folder.to_str().unwrap().to_owned();
        let lookup = |name: &str| (name == "HOME").then(|| home.clone());
        assert!(login_for("busybox", lookup) == Login::default());
        std::fs::write(folder.join(".docker/config.json"), r#"{"auths":{"docker.io":{"auth":"YTpi"}}}"#)
            .unwrap();
        assert!(login_for("busybox", lookup).header.is_some());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
