//! `mcpvisor events`: what has happened, a line each; with `--follow` also what happens from now on.

use super::control::{Control, read_json, refusal};
use super::exit::{Exit, Failure, Outcome};
use super::options::Given;
use super::output::{Colour, Out, tame, wrap};
use super::rows::Trouble;
use crate::base::limits::CONTROL_REPLY_BYTES_MAX;
use crate::base::text::span;
use crate::http::events::EventScan;
use crate::http::reply::{Decoder, Request, encode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Events when nobody says how many, or from where: about two screens.
const LINES: u32 = 50;

/// The longest that a daemon may be silent: it says something every 30 s.
const SILENCE: Duration = Duration::from_secs(90);

/// One event; larger ones end the stream.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Below its first line an event is indented by this.
const INDENT: usize = 4;

#[derive(Deserialize)]
struct List {
    session: String,
    seq: u64,
    gap: Option<Gap>,
    events: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Gap {
    cause: String,
    seq: u64,
}

pub fn run(given: &Given, out: &mut Out) -> Outcome {
    let control = Control::of(&given.options)?;
    let filter = filter(given);
    let place = match (&given.since, given.lines) {
        (Some(since), None) => format!("since={}", encode(since)),
        (Some(since), Some(lines)) => format!("since={}&limit={lines}", encode(since)),
        (None, lines) => format!("limit={}", lines.unwrap_or(LINES)),
    };
    let body = control.get(&format!("/api/v1/events?{place}{filter}"))?;
    let list: List = read_json(&body)?;
    if let Some(gap) = &list.gap {
        show_gap(gap, given.json, out);
    }
    for event in &list.events {
        show(event.get(), given.json, out);
    }
    if !given.follow {
        return Ok(Exit::Ok);
    }
    follow(&control, &format!("/events?since={}-{}{filter}", list.session, list.seq), given.json, out)
}

fn filter(given: &Given) -> String {
    let types = given.types.iter().map(|types| format!("&types={}", encode(types)));
    let server = given.server.iter().map(|server| format!("&server={}", encode(server)));
    types.chain(server).collect()
}

/// Until the daemon ends, or the reader of our output.
fn follow(control: &Control, target: &str, json: bool, out: &mut Out) -> Outcome {
    let headers = [("Accept", "text/event-stream")];
    let request =
        Request { method: "GET", target, host: "mcpvisor", headers: &headers, body: None }.bytes()?;
    let mut stream = control.connect()?;
    let lost = |why: String| Failure::new(Exit::Failed, format!("follow the daemon: {why}"));
    let begun = stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.write_all(&request));
    begun.map_err(|error| lost(error.to_string()))?;
    let mut decoder = Decoder::new("GET", CONTROL_REPLY_BYTES_MAX);
    let mut events = EventScan::new(EVENT_BYTES_MAX);
    let mut buffer = vec![0; 16 << 10];
    while !decoder.is_done() {
        match read(&mut stream, &mut buffer).map_err(lost)? {
            0 => decoder.close()?,
            count => decoder.feed(&buffer[..count])?,
        }
        let status = decoder.head().map_or(200, |head| head.status);
        if status == 200 {
            let mut all = Vec::new();
            events.feed_typed(&decoder.take_body(), |_, data| all.push(data))?;
            all.iter().for_each(|data| show(&String::from_utf8_lossy(data), json, out));
        } else if decoder.is_done() {
            return Err(refusal(status, &decoder.take_body()));
        }
        // Nobody reads any more (`| head`): that is no failure.
        if out.is_lost() {
            return Ok(Exit::Ok);
        }
    }
    Err(Failure::new(Exit::NoDaemon, "the daemon has ended").hint("start it with: mcpvisor serve"))
}

fn read(stream: &mut UnixStream, buffer: &mut [u8]) -> Result<usize, String> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("silent for {}", span(SILENCE)));
            }
            // It was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(0),
            done => return done.map_err(|error| error.to_string()),
        }
    }
}

fn show_gap(gap: &Gap, json: bool, out: &mut Out) {
    let line = if json {
        format!(r#"{{"type":"gap","seq":{},"cause":{}}}"#, gap.seq, Value::from(gap.cause.as_str()))
    } else {
        gap_text(&gap.cause)
    };
    out.line(&line);
}

fn gap_text(cause: &str) -> String {
    match cause {
        "too_old" => "older events are forgotten",
        _ => "the daemon was started anew since then: these are the events of this run",
    }
    .to_owned()
}

fn show(event: &str, json: bool, out: &mut Out) {
    if json {
        return out.line(event);
    }
    let Ok(event) = serde_json::from_str::<EventRow>(event) else { return };
    let text = wrap(&tame(&event.text()), out.columns.saturating_sub(INDENT), 0);
    for (index, line) in text.iter().enumerate() {
        let line = if index == 0 { line.clone() } else { format!("{:INDENT$}{line}", "") };
        let line = event.colour().map_or(line.clone(), |colour| out.paint(&line, colour));
        out.line(&line);
    }
}

/// One event, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EventRow {
    seq: u64,
    at: String,
    #[serde(rename = "type")]
    topic: String,
    server: String,
    engine: String,
    from: String,
    from_phase: Option<String>,
    to: String,
    phase: Option<String>,
    reason: Option<Trouble>,
    life: Option<u64>,
    other: Option<u64>,
    cause: String,
    done: u64,
    recovered: u64,
    of: u64,
    outage_ms: u64,
    duration_ms: u64,
    failed: Vec<Lost>,
    summary: String,
    finding: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lost {
    server: String,
    reason: Option<Trouble>,
}

impl EventRow {
    /// `42 2026-11-20T10:18:27.123Z git: connecting -> ready (life 3)`
    fn text(&self) -> String {
        let EventRow { seq, at, .. } = self;
        format!("{seq} {at} {}", self.words())
    }

    fn words(&self) -> String {
        let EventRow { server, engine, cause, done, of, .. } = self;
        let ms = |ms: u64| span(Duration::from_millis(ms));
        match self.topic.as_str() {
            "server.state" | "server.phase" => {
                let from = with_phase(&self.from, self.from_phase.as_deref());
                let to = with_phase(&self.to, self.phase.as_deref());
                let life = self.life.map(|life| format!(", life {life}")).unwrap_or_default();
                let why = self.reason.as_ref().map(|why| format!(": {}", why.text())).unwrap_or_default();
                format!("{server}: {from} -> {to}{life}{why}")
            }
            "server.switch" => {
                let life =
                    |life: Option<u64>| life.map_or_else(|| "none".to_owned(), |life| life.to_string());
                let why = self.reason.as_ref().map(|why| format!(": {}", why.text())).unwrap_or_default();
                let other = self.other.map(|other| format!(", beside it life {other}")).unwrap_or_default();
                format!("{server}: switch {}: life {} serves{other}{why}", self.to, life(self.life))
            }
            "engine.up" => format!("engine {engine}: up"),
            "engine.away" => {
                let why = self.reason.as_ref().map(Trouble::text).unwrap_or_default();
                // It says the engine's name itself.
                if why.is_empty() { format!("engine {engine}: {cause}") } else { why }
            }
            "engine.recovering" => {
                format!("engine {engine}: up again after {}; {done} of {of} back", ms(self.outage_ms))
            }
            "engine.recovered" => {
                let lost: Vec<String> = self.failed.iter().map(Lost::text).collect();
                let lost =
                    if lost.is_empty() { String::new() } else { format!("; not back: {}", lost.join("; ")) };
                let (back, took) = (self.recovered, ms(self.duration_ms));
                format!("engine {engine}: recovered: {back} of {of} back within {took}{lost}")
            }
            "engine.reconnected" => format!("engine {engine}: its event stream ended and is open again"),
            "config.loaded" => format!("config loaded: {}", self.summary),
            "config.refused" => format!("config not loaded: {}", self.finding),
            "gap" => gap_text(cause),
            // Of a newer daemon.
            topic => format!("{topic} {}", Value::Object(self.rest.clone())),
        }
    }

    fn colour(&self) -> Option<Colour> {
        match (self.topic.as_str(), self.to.as_str()) {
            ("server.state", "ready") | ("engine.up", _) => Some(Colour::Green),
            ("engine.recovered", _) if self.failed.is_empty() => Some(Colour::Green),
            ("server.state", "backoff" | "waiting") | ("engine.recovered", _) => Some(Colour::Yellow),
            ("server.state", "parked" | "auto_disabled")
            | ("server.switch", "failed")
            | ("engine.away" | "config.refused", _) => Some(Colour::Red),
            _ => None,
        }
    }
}

impl Lost {
    fn text(&self) -> String {
        let why = self.reason.as_ref().map(|why| format!(" ({})", why.text())).unwrap_or_default();
        format!("{}{why}", self.server)
    }
}

fn with_phase(state: &str, phase: Option<&str>) -> String {
    phase.map_or_else(|| state.to_owned(), |phase| format!("{state} ({phase})"))
}
