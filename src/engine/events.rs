//! What happens on an engine, as it says it.

use super::api::{Call, Engine};
use super::error::{EngineError, Missing};
use super::patience::Patience;
use super::stream::{Interrupt, Lines, Next};
use crate::http::reply::encode;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// One event. Docker may lose some when it is busy or restarts: after any doubt, list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `daemon` …
    pub kind: String,
    /// `create`, `start`, `die`, `oom`, `pause`, `destroy`, `health_status: healthy` …
    pub action: String,
    pub id: String,
    /// Labels of the object, and `name`, `image`, `exitCode` …
    pub attributes: BTreeMap<String, String>,
    pub time_nano: i64,
}

/// The stream of events since it was opened.
#[derive(Debug)]
pub struct Events(Lines);

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    time_nano: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, String>>,
}

impl Engine {
    /// Events that pass the filters: `("type", "container")`, `("event", "die")`, `("label", "name=value")`. Of one name
    /// any value will do, except labels, of which all must be there. When this returns, the engine is listening.
    pub fn events(&self, filters: &[(&str, &str)], patience: &Patience) -> Result<Events, EngineError> {
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in filters {
            by_name.entry(name).or_default().push(value);
        }
        let filters = serde_json::to_string(&by_name).expect("a map of texts is JSON");
        let target = format!("/events?filters={}", encode(&filters));
        let stream = self.open(&Call::get("follow events", Missing::Neither, target), patience)?;
        Ok(Events(Lines::new(stream)))
    }
}

impl Events {
    /// Readable when there may be an event.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.stream.fd()
    }

    /// Ends this stream from another thread, when dropped.
    pub fn interrupt(&self) -> Interrupt {
        self.0.stream.interrupt()
    }

    pub fn read(&mut self) -> Result<Next<Event>, EngineError> {
        let line = match self.0.read()? {
            Next::Item(line) => line,
            Next::Nothing => return Ok(Next::Nothing),
            Next::End => return Ok(Next::End),
        };
        let written: Written = serde_json::from_slice(&line)
            .map_err(|error| self.0.stream.garbled(&format!("an event cannot be read: {error}")))?;
        let Written { kind, action, actor, time_nano } = written;
        let attributes = actor.attributes.unwrap_or_default();
        Ok(Next::Item(Event { kind, action, id: actor.id, attributes, time_nano }))
    }

    /// Waits for the next event; `None` at the end.
    pub fn next(&mut self, patience: &Patience) -> Result<Option<Event>, EngineError> {
        loop {
            match self.read()? {
                Next::Item(event) => return Ok(Some(event)),
                Next::Nothing => self.0.stream.wait(patience)?,
                Next::End => return Ok(None),
            }
        }
    }
}
