//! HTTP/1.1 as bytes and values: heads, bodies, responses, events. No socket and no clock is known here.
//!
//! What a peer may send is refused with the status that says why ([`Refusal`]); who reads, waits and writes
//! is one floor group up, in the gateway's server and in the clients.

pub mod body;
pub mod date;
pub mod event;
pub mod events;
pub mod reply;
pub mod request;
pub mod response;
pub mod url;

/// Why bytes of a peer are not a request that we serve: the status to answer with, and a line for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub why: &'static str,
}

impl Refusal {
    pub const fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why }
    }

    const fn bad(why: &'static str) -> Refusal {
        Refusal::new(400, why)
    }
}
