//! Pulling an image, with its progress. Closing the stream (dropping [`Pull`]) cancels it at the engine.

use super::api::{Call, Engine};
use super::error::{EngineError, EngineErrorKind, Missing, PULL};
use super::patience::Patience;
use super::stream::{Interrupt, Lines, Next};
use crate::base::limits::PULL_LAYERS_MAX;
use crate::base::text::shorten;
use crate::http::reply::encode;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// Lines of progress that are read at once; an engine may write faster than we read.
const LINES_AT_ONCE: usize = 1000;

/// How far a pull is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub layers_done: usize,
    /// As many as were named so far.
    pub layers: usize,
    /// Downloaded, of layers whose size is known.
    pub bytes_done: u64,
    pub bytes: u64,
    /// The engine's last words: `Downloading`, `Extracting`, `Pull complete`.
    pub text: String,
}

/// A pull that was asked for. It may end in an error at any time, also after progress.
#[derive(Debug)]
pub struct Pull {
    lines: Lines,
    tally: Tally,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Line {
    status: String,
    id: String,
    progress_detail: Option<Detail>,
    error_detail: Option<Failure>,
    error: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: u64,
    total: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failure {
    code: u16,
    message: String,
}

impl Engine {
    /// `auth` is the value of `X-Registry-Auth`: see `auth.rs`. Returns at once; [`Pull::read`] has the rest.
    pub fn pull(
        &self,
        image: &str,
        platform: Option<&str>,
        auth: Option<&str>,
        patience: &Patience,
    ) -> Result<Pull, EngineError> {
        let (name, tag) = split_reference(image);
        let mut target = format!("/images/create?fromImage={}&tag={}", encode(name), encode(tag));
        if let Some(platform) = platform {
            target.push_str(&format!("&platform={}", encode(platform)));
        }
        let headers: Vec<(&str, &str)> = auth.map(|auth| ("X-Registry-Auth", auth)).into_iter().collect();
        let call = Call { headers: &headers, ..Call::post(PULL, Missing::Image, target) };
        let stream = self.begin(&call, patience)?;
        Ok(Pull { lines: Lines::new(stream), tally: Tally::default() })
    }
}

impl Pull {
    /// Readable when there may be progress.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.lines.stream.fd()
    }

    /// Ends the pull from another thread, when dropped.
    pub fn interrupt(&self) -> Interrupt {
        self.lines.stream.interrupt()
    }

    /// `End` means that the image is there. Of several lines that have come, only the last progress is given.
    pub fn read(&mut self) -> Result<Next<Progress>, EngineError> {
        for lines in 0..LINES_AT_ONCE {
            match self.lines.read()? {
                Next::Item(line) => self.take(&line)?,
                Next::End if lines == 0 => return Ok(Next::End),
                Next::Nothing if lines == 0 => return Ok(Next::Nothing),
                Next::End | Next::Nothing => break,
            }
        }
        Ok(Next::Item(self.tally.progress()))
    }

    /// Waits for progress; `None` at the end.
    pub fn next(&mut self, patience: &Patience) -> Result<Option<Progress>, EngineError> {
        loop {
            match self.read()? {
                Next::Item(progress) => return Ok(Some(progress)),
                Next::Nothing => self.lines.stream.wait(patience)?,
                Next::End => return Ok(None),
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), EngineError> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| self.lines.stream.garbled(&format!("its progress cannot be read: {error}")))?;
        let failure = line.error_detail.unwrap_or_default();
        let said = Some(failure.message).filter(|text| !text.is_empty()).or(line.error);
        if let Some(said) = said {
            let kind = match failure.code {
                404 => EngineErrorKind::NoSuchImage,
                code @ 400..=499 => EngineErrorKind::Refusal(code),
                code @ 500..=599 => EngineErrorKind::Failed(code),
                _ => EngineErrorKind::Failed(500),
            };
            return Err(EngineError::new(kind, PULL, said));
        }
        self.tally.note(&line.status, &line.id, &line.progress_detail.unwrap_or_default());
        Ok(())
    }
}

/// Adds up the lines of a pull. Pure.
#[derive(Debug, Default)]
struct Tally {
    layers: BTreeMap<String, Layer>,
    text: String,
}

#[derive(Debug, Default)]
struct Layer {
    done: bool,
    bytes_done: u64,
    bytes: u64,
}

impl Tally {
    /// The words are Docker's, and only for show: nothing is decided by them.
    fn note(&mut self, status: &str, id: &str, detail: &Detail) {
        self.text = shorten(status, 80);
        // The id of that line is a tag; lines without one speak of the whole.
        if id.is_empty() || status.starts_with("Pulling from") {
            return;
        }
        if !self.layers.contains_key(id) && self.layers.len() == PULL_LAYERS_MAX {
            return;
        }
        let layer = self.layers.entry(id.to_owned()).or_default();
        match status {
            "Downloading" => {
                layer.bytes_done = detail.current;
                layer.bytes = detail.total.max(detail.current);
            }
            "Verifying Checksum" | "Download complete" | "Extracting" => layer.bytes_done = layer.bytes,
            "Pull complete" | "Already exists" => {
                layer.bytes_done = layer.bytes;
                layer.done = true;
            }
            _ => (),
        }
    }

    fn progress(&self) -> Progress {
        let layers = self.layers.values();
        Progress {
            layers_done: layers.clone().filter(|layer| layer.done).count(),
            layers: layers.len(),
            bytes_done: layers.clone().map(|layer| layer.bytes_done).fold(0, u64::saturating_add),
            bytes: layers.map(|layer| layer.bytes).fold(0, u64::saturating_add),
            text: self.text.clone(),
        }
    }
}

/// A reference as `fromImage` and `tag` want it: the tag is `latest` unless one is named; a digest stands for a tag.
fn split_reference(image: &str) -> (&str, &str) {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name[path..].find(':') {
        Some(colon) => (&name[..path + colon], &name[path + colon + 1..]),
        None => (name, "latest"),
    };
    (name, digest.unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |image, name, tag| assert_eq!(split_reference(image), (name, tag));
        check("busybox", "busybox", "latest");
        check("busybox:1.36", "busybox", "1.36");
        check("ghcr.io/a/b", "ghcr.io/a/b", "latest");
        check("127.0.0.1:5000/a", "127.0.0.1:5000/a", "latest");
        check("127.0.0.1:5000/a:v1", "127.0.0.1:5000/a", "v1");
        check("a/b@sha256:cafe", "a/b", "sha256:cafe");
        check("127.0.0.1:5000/a:v1@sha256:cafe", "127.0.0.1:5000/a", "sha256:cafe");
    }

    #[test]
    fn added_up() {
        let mut tally = Tally::default();
        let none = Detail::default();
        tally.note("Pulling from library/x", "latest", &none);
        assert_eq!(
            tally.progress(),
            Progress { text: "Pulling from library/x".to_owned(), ..Progress::default() }
        );
        tally.note("Already exists", "a", &none);
        tally.note("Pulling fs layer", "b", &none);
        tally.note("Downloading", "b", &Detail { current: 10, total: 30 });
        let progress = |text: &str, layers_done, bytes_done| Progress {
            layers_done,
            layers: 2,
            bytes_done,
            bytes: 30,
            text: text.to_owned(),
        };
        assert_eq!(tally.progress(), progress("Downloading", 1, 10));
        tally.note("Download complete", "b", &none);
        tally.note("Extracting", "b", &Detail { current: 1, total: 30 });
        assert_eq!(tally.progress(), progress("Extracting", 1, 30));
        tally.note("Pull complete", "b", &none);
        tally.note("Digest: sha256:cafe", "", &none);
        assert_eq!(tally.progress(), progress("Digest: sha256:cafe", 2, 30));
        for layer in 0..2 * PULL_LAYERS_MAX {
            tally.note("Waiting", &layer.to_string(), &none);
        }
        assert_eq!(tally.progress().layers, PULL_LAYERS_MAX);
    }
}
