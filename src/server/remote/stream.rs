//! The server's own event stream: what it says unasked, and with the older transport everything that it says.

use super::client::Reply;
use super::inbox::Heard;
use super::post;
use super::shared::{Place, Shared};
use super::trouble::{Trouble, When};
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{LINE_BYTES_MAX, REMOTE_PAUSE_MAX, REMOTE_RESUMES_MAX, REMOTE_SILENCE};
use crate::base::text;
use crate::http::events::{EventScan, is_message};
use crate::mcp::line::one_line;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// Read at once from a body.
const READ_BYTES: usize = 32 << 10;

/// Before a stream that ended is opened again, where the server says nothing of it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How a stream came to its end.
enum Ended {
    /// Nobody listens any more.
    Closed,
    /// By the server, or on the way; something came on it, or nothing.
    Cut { fresh: bool, why: Fault },
}

/// Where the stream is, for whoever opens it again.
#[derive(Default)]
struct Track {
    last_id: Option<String>,
    retry: Option<Duration>,
}

/// Streamable HTTP: optional, opened again for as long as the life lasts. Ends when the server has none.
pub fn run_http(shared: &Arc<Shared>) {
    let mut before = None;
    while let Some(place) = shared.wait_open(before) {
        if !listen(shared, &place) {
            return;
        }
        before = Some(place.generation);
    }
}

/// One session. `false`: the server has no such stream.
fn listen(shared: &Arc<Shared>, place: &Place) -> bool {
    let mut track = Track::default();
    // In a row, without anything that came.
    let (mut failures, mut unconnected) = (0, 0);
    while let Some(agent) = shared.stream_agent(place.generation) {
        let mut headers = place.headers();
        if let Some(id) = &track.last_id {
            headers.push(("last-event-id", id));
        }
        let opened = shared.client.stream(&agent, &place.target, &headers, Some(REMOTE_SILENCE));
        // As the server asks.
        let mut after = Duration::ZERO;
        match opened {
            Ok(reply) if reply.status == 200 && reply.content_type == "text/event-stream" => {
                unconnected = 0;
                match read(shared, reply, &mut track) {
                    Ended::Closed => return true,
                    Ended::Cut { fresh, .. } => failures = if fresh { 0 } else { failures + 1 },
                }
            }
            Ok(reply) if reply.status == 401 => {
                shared.inbox.push(Heard::Failed(post::login(&place.target, &reply)));
                return true;
            }
            Ok(reply) if reply.status == 404 && place.session.is_some() => {
                let message = format!("{} no longer knows our session (404)", place.target);
                let why = Fault::new(FaultKind::SessionLost, message);
                if let Err(fault) = shared.session_lost(place.generation, &why) {
                    shared.inbox.push(Heard::Failed(fault));
                }
                return true;
            }
            // So some servers say that they do not know our session; the next request tells. A new one has a stream again.
            Ok(reply) if reply.status == 400 && place.session.is_some() => return true,
            Ok(reply) if reply.status < 500 && reply.status != 429 => {
                log::debug!("{}: no event stream ({})", shared.name, reply.status);
                return false;
            }
            Ok(reply) => {
                failures += 1;
                after = reply.retry_after.unwrap_or_default();
            }
            Err(Trouble { fault, when: When::Unconnected }) => {
                (failures, unconnected) = (failures + 1, unconnected + 1);
                if unconnected >= REMOTE_RESUMES_MAX {
                    shared.inbox.push(Heard::Failed(fault));
                    return true;
                }
            }
            Err(_) => failures += 1,
        }
        let pause = AGAIN_AFTER * 2_u32.pow(failures.min(10));
        let pause = track.retry.unwrap_or(pause).max(pause / 2).min(REMOTE_PAUSE_MAX);
        if !shared.pause(pause.max(after), place.generation) {
            return true;
        }
    }
    true
}

/// HTTP with SSE: the stream is the session. `refusal`: what Streamable HTTP was answered, if it was tried first.
pub fn run_sse(shared: &Arc<Shared>, mut refusal: Option<Fault>) {
    loop {
        let place = shared.place();
        let Some(agent) = shared.stream_agent(place.generation) else {
            if shared.is_closed() {
                return;
            }
            continue;
        };
        let url = &shared.upstream.url;
        let why = match shared.client.stream(&agent, url, &[], None) {
            Ok(reply) if reply.status == 200 && reply.content_type == "text/event-stream" => {
                refusal = None;
                match read(shared, reply, &mut Track::default()) {
                    Ended::Closed => return,
                    Ended::Cut { why, .. } => why,
                }
            }
            Ok(reply) => {
                shared.inbox.push(Heard::Failed(no_stream(shared, &reply, refusal.take())));
                return;
            }
            Err(trouble) => {
                shared.inbox.push(Heard::Failed(refusal.take().unwrap_or(trouble.fault)));
                return;
            }
        };
        if let Err(fault) = shared.session_lost(place.generation, &why) {
            shared.inbox.push(Heard::Failed(fault));
            return;
        }
    }
}

fn no_stream(shared: &Shared, reply: &Reply, refusal: Option<Fault>) -> Fault {
    let url = &shared.upstream.url;
    if reply.status == 401 {
        return post::login(url, reply);
    }
    let kind = match reply.content_type.as_str() {
        "" => String::new(),
        kind => format!(" with {kind}"),
    };
    let got = format!("{} {kind}", reply.status);
    let retry = reply.retry_after.filter(|_| matches!(reply.status, 429 | 500..=599));
    match refusal {
        Some(fault) => {
            let retry_in = retry.or(fault.retry_in);
            Fault { message: format!("{}; a GET got {}", fault.message, got.trim()), retry_in, ..fault }
        }
        None => {
            let message = format!("{url} answered {}, and no event stream", got.trim());
            let fault = Fault::new(FaultKind::BadUpstream, message).retry_in(retry);
            fault.hint("is the `url` that of an SSE endpoint?")
        }
    }
}

fn read(shared: &Arc<Shared>, reply: Reply, track: &mut Track) -> Ended {
    let url = &shared.upstream.url;
    let mut scan = EventScan::new(LINE_BYTES_MAX);
    let mut body = reply.body;
    let mut buffer = vec![0; READ_BYTES];
    let mut fresh = false;
    let why = loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break Fault::new(FaultKind::SessionLost, format!("{url} ended its event stream")),
            Ok(count) => count,
            Err(_) => break Fault::new(FaultKind::SessionLost, format!("the event stream of {url} broke")),
        };
        let mut listened = true;
        let fed = scan.feed_typed(&buffer[..count], |kind, data| {
            fresh = true;
            listened = listened
                && match kind {
                    b"endpoint" => endpoint(shared, &data),
                    kind if is_message(kind) => shared.inbox.push(Heard::Line(one_line(&data).into_owned())),
                    _ => true,
                };
        });
        if let Some(id) = scan.last_id() {
            track.last_id = Some(id.to_owned());
        }
        track.retry = scan.retry().or(track.retry);
        if !listened {
            return Ended::Closed;
        }
        if let Err(fault) = fed {
            // What is too large now is too large again.
            track.last_id = None;
            break fault;
        }
    };
    match shared.is_closed() {
        true => Ended::Closed,
        false => Ended::Cut { fresh, why },
    }
}

/// The server says where to post. `false`: that is nowhere that we go.
fn endpoint(shared: &Arc<Shared>, data: &[u8]) -> bool {
    let url = &shared.upstream.url;
    let said = String::from_utf8_lossy(data);
    let why = match url.join(said.trim()) {
        Ok(target) if target.same_origin(url) => {
            shared.endpoint(target);
            return true;
        }
        Ok(_) => "is at another origin",
        Err(why) => why,
    };
    let shown = text::shorten(said.split('?').next().unwrap_or_default(), 120);
    let message = format!("{url} wants its messages at `{shown}`: {why}");
    let fault = Fault::new(FaultKind::BadUpstream, message);
    shared.inbox.push(Heard::Failed(fault.hint("mcpvisor gives no headers to another server")));
    false
}
