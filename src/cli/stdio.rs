//! `mcpvisor stdio`: one MCP server on stdin and stdout, for clients that only start programs. A thin bridge to the
//! daemon's control socket.
//!
//! ```text
//! stdin ─► lines ─► bridge ─► lane ═► POST /mcp ═► daemon          written in the order of stdin, by this thread
//! stdout ◄─ lines ◄─ bridge ◄─ lane ◄═ JSON or events ◄═┘          read by the lane's thread
//!                       ◄─ news ◄═ GET /mcp                        what servers say of their own accord
//! ```
//!
//! Nothing but MCP goes to stdout. Messages are not looked into beyond their envelope.

mod alone;
mod bridge;
mod home;
mod lane;
mod lines;
mod news;
mod session;
mod wire;

use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::Out;
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{LINE_BYTES_MAX, STDIO_LINE_BYTES_MAX};
use crate::http::reply::encode;
use crate::mcp::envelope::{self, Invalid, Message, Outcome as Answer};
use crate::mcp::era::{self, Era};
use crate::mcp::scan;
use crate::sys::{clock, spawn, thread};
use bridge::{Bridge, answer_fault};
use crossbeam_channel::bounded;
use home::Home;
use lane::Post;
use lines::{Input, Line, Output};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// After the end of stdin: for calls in flight.
const DRAIN: Duration = Duration::from_secs(5);

/// A notification is accepted at once; a daemon that does not is not waited for.
const ACCEPTED: Duration = Duration::from_secs(10);

pub fn run(given: &Given, _: &mut Out) -> Outcome {
    // A daemon that we start must not keep alive what our client gave us.
    spawn::seal_inherited_fds();
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("take stdin and stdout: {error}"));
    let mut input = Input::stdin().map_err(failed)?;
    let output = Output::stdout().map_err(failed)?;
    let target = match &given.server {
        Some(name) => format!("/mcp/s/{}", encode(name)),
        None => "/mcp".to_owned(),
    };
    let bridge = Arc::new(Bridge::new(Home::of(&given.options)?, target, output));
    end_by_signal(&bridge).map_err(failed)?;
    bridge.knock();
    while let Some(line) = input.next() {
        match line {
            Line::Text(line) => take(&bridge, line),
            Line::TooLong => bridge.say(too_long("null", LINE_BYTES_MAX)),
        }
    }
    bridge.flight.wait_empty(clock::now() + DRAIN);
    bridge.end(bridge.exit())
}

/// One line of the client.
fn take(bridge: &Arc<Bridge>, line: Vec<u8>) {
    if line.trim_ascii().is_empty() {
        return;
    }
    let mut alone = None;
    let (id, waits) = match envelope::parse(&line) {
        Ok(Message::Request { id, .. }) if line.len() > STDIO_LINE_BYTES_MAX => {
            return bridge.say(too_long(id, STDIO_LINE_BYTES_MAX));
        }
        Ok(_) | Err(_) if line.len() > STDIO_LINE_BYTES_MAX => {
            return bridge.say(too_long("null", STDIO_LINE_BYTES_MAX));
        }
        // Whatever is not of the legacy era needs no session; if it is wrong, the daemon says how.
        Ok(ref message @ Message::Request { id, ref method, .. })
            if era::classify(message, None) != Ok(Era::Legacy) =>
        {
            let listens = method == "subscriptions/listen";
            alone = bridge.alone.begin(id, listens);
            if alone.is_none() {
                let fault = Fault::new(FaultKind::Busy, "too many streams are listened to");
                return bridge.say(answer_fault(id, &fault));
            }
            (Some(id.to_owned()), false)
        }
        Ok(Message::Notification { method, params })
            if method == "notifications/cancelled" && takes_back(bridge, params.unwrap_or("{}")) =>
        {
            return;
        }
        Ok(Message::Request { id, method, .. }) if method == "initialize" => {
            let id = id.to_owned();
            return bridge.initialize(&id, line);
        }
        Ok(Message::Request { id, method, params }) => {
            bridge.keep(&method, params, &line);
            (Some(id.to_owned()), false)
        }
        Ok(Message::Notification { method, params }) => {
            bridge.keep(&method, params, &line);
            (None, true)
        }
        Ok(Message::Response { id, .. }) if bridge.is_asked(id) => (None, true),
        // An answer to what nobody asks any more.
        Ok(Message::Response { .. }) => return,
        // A batch: the daemon knows whether the session may send one.
        Err(Invalid::Request { .. }) if line.trim_ascii_start().starts_with(b"[") => {
            (Some("null".to_owned()), false)
        }
        Err(invalid) => return bridge.say(not_a_message(&invalid)),
    };
    let (through, done) = bounded::<Infallible>(0);
    // A stream stays, and must not keep room from calls.
    let stays = alone.as_ref().is_some_and(|one| one.listens);
    let place = (!stays).then(|| bridge.flight.enter(line.len()));
    let (through, listened) = (Some(through), false);
    bridge.send(Post { line, id, session: 0, tries: 0, alone, listened, _through: through, _place: place });
    if waits {
        // What comes next must not overtake it. Closed is what is waited for; nothing is ever sent.
        let _ = done.recv_deadline(clock::instant(clock::now() + ACCEPTED));
    }
}

/// Whether this cancels a request that stands alone.
fn takes_back(bridge: &Bridge, params: &str) -> bool {
    scan::find(params, "requestId").is_some_and(|id| bridge.alone.cancel(&params[id]))
}

fn too_long(id: &str, bytes_max: usize) -> Vec<u8> {
    answer_fault(id, &Fault::new(FaultKind::TooLarge, format!("a line of more than {bytes_max} bytes")))
}

fn not_a_message(invalid: &Invalid) -> Vec<u8> {
    let id = match invalid {
        Invalid::Request { id: Some(id), .. } => id.as_str(),
        Invalid::Request { id: None, .. } | Invalid::Parse(_) => "null",
    };
    let error = envelope::error_object(invalid.code(), &invalid.message(), None::<&()>);
    envelope::response(id, Answer::Error(&error))
}

/// The thread "signals": a client that ends us has heard enough. Over with the process.
fn end_by_signal(bridge: &Arc<Bridge>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let bridge = bridge.clone();
    thread::spawn("signals", move || {
        if signals.forever().next().is_some() {
            bridge.end(Exit::Ok);
        }
    })?;
    Ok(())
}
