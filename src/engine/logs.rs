//! What a container has written, from the engine's own log of it.

use super::api::{Call, Engine};
use super::attach::{Demux, Garbled, Stream as Source};
use super::error::{EngineError, Missing};
use super::patience::Patience;
use super::stream::{Interrupt, Next, Stream};
use crate::http::reply::encode;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// Pieces of a log: not lines, and as they come.
#[derive(Debug)]
pub struct Logs {
    stream: Stream,
    demux: Demux,
    pieces: VecDeque<(Source, Vec<u8>)>,
}

impl Engine {
    /// The last `tail` lines (`None`: all), and with `follow` what is written from then on. Only of containers without a
    /// terminal and with a log driver that can be read.
    pub fn logs(
        &self,
        id: &str,
        follow: bool,
        tail: Option<u32>,
        patience: &Patience,
    ) -> Result<Logs, EngineError> {
        let tail = tail.map_or("all".to_owned(), |lines| lines.to_string());
        let follow = u8::from(follow);
        let target = format!("/containers/{}/logs?stdout=1&stderr=1&follow={follow}&tail={tail}", encode(id));
        let stream = self.open(&Call::get("read a container's log", Missing::Container, target), patience)?;
        Ok(Logs { stream, demux: Demux::new(), pieces: VecDeque::new() })
    }
}

impl Logs {
    /// Readable when there may be more.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    /// Ends this stream from another thread, when dropped.
    pub fn interrupt(&self) -> Interrupt {
        self.stream.interrupt()
    }

    pub fn read(&mut self) -> Result<Next<(Source, Vec<u8>)>, EngineError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Next::Item(piece));
            }
            let bytes = match self.stream.read()? {
                Next::Item(bytes) => bytes,
                Next::Nothing => return Ok(Next::Nothing),
                Next::End => return Ok(Next::End),
            };
            let pieces = &mut self.pieces;
            self.demux
                .feed(&bytes, |source, piece| pieces.push_back((source, piece.to_vec())))
                .map_err(|Garbled| self.stream.garbled("a frame of the log cannot be read"))?;
        }
    }

    /// Waits for the next piece; `None` at the end.
    pub fn next(&mut self, patience: &Patience) -> Result<Option<(Source, Vec<u8>)>, EngineError> {
        loop {
            match self.read()? {
                Next::Item(piece) => return Ok(Some(piece)),
                Next::Nothing => self.stream.wait(patience)?,
                Next::End => return Ok(None),
            }
        }
    }
}
