//! A call whose client and server are not both of the legacy era: what is to be done with its answer on the way back.

use super::router::bad_state;
use crate::base::fault::Fault;
use crate::mcp::bridge::{self, Crossed};
use crate::mcp::era::Era;
use crate::mcp::meta::{self, Asker};
use crate::mcp::mirrored;
use crate::mcp::scan;
use crate::mcp::seal::Sealer;
use crate::server::slot::Answer;
use std::borrow::Cow;
use std::sync::Arc;

/// Who asks: the era that it spoke in, and what it said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub era: Era,
    pub asker: Asker<'a>,
    /// For the clients of a server that says nothing of itself: what they are told, raw.
    pub shown_info: Option<&'a str>,
}

impl Caller<'_> {
    /// Somebody of the legacy era who can be asked nothing.
    pub const LEGACY: Caller<'static> = Caller {
        era: Era::Legacy,
        asker: Asker { capabilities: "{}", info: None, log_level: None },
        shown_info: None,
    };
}

/// What the answer needs, kept while the call is open.
#[derive(Debug)]
pub struct Crossing {
    pub method: Box<str>,
    pub client: Era,
    pub server: Era,
    pub server_info: Option<Box<str>>,
    /// What an error may have to name.
    pub params: Box<str>,
    /// The client's, raw.
    pub capabilities: Box<str>,
    /// It lists the tools of a server to which arguments are repeated in heads.
    pub heads: bool,
    /// `requestState` is sealed for these, where several servers are behind one endpoint.
    pub seal: Option<(Arc<Sealer>, [Box<str>; 3])>,
}

impl Crossing {
    /// The answer as the client's era has it.
    pub fn answer(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Result(raw) => self.result(raw),
            Answer::Error(raw) => {
                let eras = (self.server, self.client);
                match bridge::error(&self.method, &self.params, &raw, eras, &self.capabilities) {
                    Crossed::Result(text) => Answer::Result(text.into()),
                    Crossed::Error(Cow::Borrowed(_)) => Answer::Error(raw),
                    Crossed::Error(Cow::Owned(text)) => Answer::Error(text.into()),
                }
            }
            Answer::Fault(fault) => Answer::Fault(fault),
        }
    }

    fn result(&self, raw: Box<str>) -> Answer {
        let raw = match self.heads.then(|| mirrored::without_wrong(&raw)) {
            Some(Cow::Owned(text)) => text.into(),
            Some(Cow::Borrowed(_)) | None => raw,
        };
        let info = self.server_info.as_deref();
        let crossed = match bridge::result(&self.method, &raw, self.server, self.client, info) {
            Err(fault) => return Answer::Fault(fault),
            Ok(Cow::Borrowed(_)) => raw,
            Ok(Cow::Owned(text)) => text.into(),
        };
        match &self.seal {
            Some((sealer, belongs)) => Answer::Result(sealed(crossed, sealer, belongs)),
            None => Answer::Result(crossed),
        }
    }
}

fn sealed(result: Box<str>, sealer: &Sealer, belongs: &[Box<str>; 3]) -> Box<str> {
    let state = scan::find(&result, "requestState").map(|span| &result[span]);
    match state.and_then(|state| sealer.seal(state, &parts(belongs))) {
        Some(state) => meta::members(&result, &[("requestState", Some(&state))]).into(),
        None => result,
    }
}

/// The params with the token that the server gave; a fault if it is not one that it gave for this.
pub fn unsealed<'a>(
    params: &'a str,
    sealer: &Sealer,
    belongs: &[Box<str>; 3],
) -> Result<Cow<'a, str>, Fault> {
    let Some(state) = scan::find(params, "requestState") else { return Ok(Cow::Borrowed(params)) };
    let Some(state) = sealer.open(&params[state], &parts(belongs)) else {
        return Err(bad_state("it was not given out for this request"));
    };
    Ok(Cow::Owned(meta::members(params, &[("requestState", Some(&state))])))
}

fn parts(belongs: &[Box<str>; 3]) -> [&str; 3] {
    [&belongs[0], &belongs[1], &belongs[2]]
}
