//! Waiting for a container's end, as something to poll.

use super::api::{Call, Engine};
use super::error::{EngineError, EngineErrorKind, Missing};
use super::patience::Patience;
use super::stream::{Next, Stream};
use crate::http::reply::encode;
use serde::Deserialize;
use std::os::fd::BorrowedFd;

const WAIT: &str = "wait for a container";

/// A wait that the engine has taken on: what ends from now on is not missed.
#[derive(Debug)]
pub struct Waiting {
    stream: Stream,
    body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ended {
    status_code: i64,
    #[serde(default)]
    error: Option<Said>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    #[serde(default)]
    message: String,
}

impl Engine {
    /// `condition` is `not-running`, `next-exit` (for one that is yet to be started) or `removed`.
    pub fn wait(&self, id: &str, condition: &str, patience: &Patience) -> Result<Waiting, EngineError> {
        let target = format!("/containers/{}/wait?condition={}", encode(id), encode(condition));
        let stream = self.open(&Call::post(WAIT, Missing::Container, target), patience)?;
        Ok(Waiting { stream, body: Vec::new() })
    }
}

impl Waiting {
    /// Readable when there may be an answer.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// The exit code, or why it will never be known; `None` if it has not ended.
    pub fn try_take(&mut self) -> Option<Result<i64, EngineError>> {
        loop {
            match self.stream.read() {
                Ok(Next::Item(bytes)) => {
                    self.body.extend(bytes);
                    if self.body.len() > crate::base::limits::ENGINE_LINE_BYTES_MAX {
                        return Some(Err(self.stream.garbled("its answer is too long")));
                    }
                }
                Ok(Next::Nothing) => return None,
                Ok(Next::End) => return Some(self.result()),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn result(&self) -> Result<i64, EngineError> {
        let ended: Ended = serde_json::from_slice(&self.body)
            .map_err(|error| self.stream.garbled(&format!("its answer cannot be read: {error}")))?;
        match ended.error {
            // Of a removal that failed, or a container that could not be run.
            Some(said) if !said.message.is_empty() => {
                Err(EngineError::new(EngineErrorKind::Failed(500), WAIT, said.message))
            }
            Some(_) | None => Ok(ended.status_code),
        }
    }

    /// Waits for the answer.
    pub fn take(&mut self, patience: &Patience) -> Result<i64, EngineError> {
        loop {
            match self.try_take() {
                Some(result) => return result,
                None => self.stream.wait(patience)?,
            }
        }
    }
}
