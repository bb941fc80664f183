//! What of the host a container sees: `SOURCE:TARGET[:ro]` as `docker run -v` takes it, or `type=…,source=…` as
//! `--mount` does.

use super::{Objection, Template};
use crate::base::text::shorten;

/// A directory or file of the host, or a volume, inside a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub kind: MountKind,
    /// A path (`~` expands at use), or the name of a volume.
    pub source: Template,
    /// An absolute path inside.
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    Bind,
    Volume,
}

impl Mount {
    pub fn new(source: &str, target: &str, read_only: bool) -> Result<Mount, Objection> {
        let kind = if source.starts_with(['/', '~']) || source.starts_with("${env:") {
            MountKind::Bind
        } else if is_volume(source) {
            MountKind::Volume
        } else {
            let message =
                format!("`{}` is neither a full path nor the name of a volume", shorten(source, 60));
            return Err(Objection::new(message, "write the full path, or one that begins with `~/`"));
        };
        let source = Template::parse(source).map_err(|error| Objection::new(error.message, error.hint))?;
        Ok(Mount { kind, source, target: inside(target)?, read_only })
    }

    /// `SOURCE:TARGET` or `SOURCE:TARGET:ro`.
    pub fn short(text: &str) -> Result<Mount, Objection> {
        let how = || {
            let hint =
                "write it like \"~/notes:/notes:ro\": what the host has, where it is inside, `ro` or `rw`";
            Objection::new("this is not a mount", hint)
        };
        let (source, rest) = split(text).ok_or_else(how)?;
        let (target, options) = rest.split_once(':').unwrap_or((rest, "rw"));
        let read_only = match options {
            "ro" => true,
            "rw" => false,
            other => {
                let message = format!("`{}` is no option of a mount", shorten(other, 40));
                return Err(Objection::new(message, "`ro` and `rw` are"));
            }
        };
        if source.is_empty() { Err(how()) } else { Mount::new(source, target, read_only) }
    }

    /// `type=bind,source=/a,target=/b,readonly`
    pub fn long(text: &str) -> Result<Mount, Objection> {
        let (mut source, mut target, mut read_only) = ("", "", false);
        for part in text.split(',') {
            match part.split_once('=').unwrap_or((part, "true")) {
                ("type", "bind" | "volume") => (),
                ("source" | "src", value) => source = value,
                ("target" | "dst" | "destination", value) => target = value,
                ("readonly" | "ro", value) => read_only = value == "true" || value == "1",
                _ => {
                    let message = format!("`{}` is not supported in a mount", shorten(part, 60));
                    return Err(Objection::new(message, "use `isolation.mounts` or `isolation.tmpfs`"));
                }
            }
        }
        Mount::new(source, target, read_only)
    }
}

/// A path inside a container, without a slash at its end.
pub fn inside(path: &str) -> Result<String, Objection> {
    let trimmed = path.trim_end_matches('/');
    if !path.starts_with('/') || trimmed.is_empty() || path.contains(['\0', ':']) {
        let message = format!("`{}` is not a place inside a container", shorten(path, 60));
        return Err(Objection::new(message, "an absolute path below `/`"));
    }
    Ok(trimmed.to_owned())
}

/// At the first colon that is in no reference.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let colon = from + text[from..].find(':')?;
        match text[from..colon].find("${") {
            Some(open) => from += open + text[from + open..].find('}')?,
            None => return Some((&text[..colon], &text[colon + 1..])),
        }
    }
}

fn is_volume(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        #[track_caller]
        fn check(mount: Result<Mount, Objection>, expected: &str) {
            let shown = match mount {
                Ok(m) => {
                    let access = if m.read_only { "ro" } else { "rw" };
                    format!("{:?} {} {} {access}", m.kind, m.source.raw(), m.target)
                }
                Err(objection) => objection.message,
            };
            assert_eq!(shown, expected);
        }
        check(Mount::short("/a:/b"), "Bind /a /b rw");
        check(Mount::short("~/a b:/b/:ro"), "Bind ~/a b /b ro");
        check(Mount::short("${env:HOME}/a:/b"), "Bind ${env:HOME}/a /b rw");
        check(Mount::short("npm-cache:/root/.npm"), "Volume npm-cache /root/.npm rw");
        check(Mount::short("./a:/b"), "`./a` is neither a full path nor the name of a volume");
        check(Mount::short("/a"), "this is not a mount");
        check(Mount::short(":/a"), "this is not a mount");
        check(Mount::short("/a:b"), "`b` is not a place inside a container");
        check(Mount::short("/a:/"), "`/` is not a place inside a container");
        check(Mount::short("/a:/b:z"), "`z` is no option of a mount");
        check(Mount::short("${env:A B}:/b"), "what follows `${env:` is not the name of a variable");
        check(Mount::short("${env:HOME"), "this is not a mount");
        check(Mount::long("type=bind,src=/a,dst=/b,readonly"), "Bind /a /b ro");
        check(Mount::long("type=tmpfs,dst=/b"), "`type=tmpfs` is not supported in a mount");
    }
}
