//! The server: reads lines, speaks MCP 2024-11-05 to 2025-11-25 or (`modern.rs`) 2026-07-28, and misbehaves when its
//! switches say so.

use super::modern::{self, Modern};
use super::out::{self, Out};
use super::switches::{Death, Switches, When};
use super::timer::{Job, Reply, Timer};
use super::tools::{Outcome, Tools};
use crate::base::limits::LINE_BYTES_MAX;
use crate::sys::thread;
use nix::sys::signal::{Signal, raise};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Newest first; a client that asks for another gets the newest.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// `--reorder`: each answer to a call waits up to this long. 20 ms: some dozen calls overtake each other.
const REORDER_MS_MAX: u64 = 20;

/// Serves until stdin ends; `children::before_serving` has been called.
pub fn serve(switches: Switches) -> ExitCode {
    let mut server = Server::new(switches);
    if let Some(delay) = server.switches.start_delay {
        // Nobody sends: this is a wait for the deadline.
        let _ = crossbeam_channel::after(delay).recv();
    }
    server.start();
    let mut lines = io::stdin().lock();
    let mut line = Vec::new();
    while server.reads && next_line(&mut lines, &mut line) {
        server.hear(&line);
    }
    if !server.reads || server.switches.ignore_eof {
        live_on();
    }
    ExitCode::from(server.switches.exit_code.unwrap_or(0))
}

/// Until a signal ends us, or another thread does.
fn live_on() -> ! {
    loop {
        std::thread::park();
    }
}

/// The next line without its newline; false at the end. What is longer than a line may be is skipped.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    let limit = LINE_BYTES_MAX as u64;
    match from.by_ref().take(limit).read_until(b'\n', line) {
        Ok(0) | Err(_) => false,
        Ok(_) if line.ends_with(b"\n") || (line.len() as u64) < limit => true,
        Ok(_) => {
            line.clear();
            from.skip_until(b'\n').is_ok()
        }
    }
}

/// One message, as far as we look into it. `id: null` counts as none, and so gets no answer.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// A JSON-RPC error.
pub(super) struct Refusal {
    pub code: i32,
    pub message: String,
    pub data: Option<Value>,
}

pub(super) fn refuse<T>(code: i32, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into(), data: None })
}

const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL: i32 = -32603;

struct Server {
    switches: Switches,
    tools: Tools,
    out: Arc<Out>,
    timer: Timer,
    initialized: bool,
    modern: Modern,
    /// False once `--no-read` has struck.
    reads: bool,
    calls_seen: u64,
    cancels_seen: u64,
}

impl Server {
    fn new(switches: Switches) -> Server {
        let out = Arc::new(Out::new(&switches));
        Server {
            tools: Tools::new(&switches),
            timer: Timer::new(Arc::clone(&out)),
            out,
            initialized: false,
            modern: Modern::new(&switches),
            reads: true,
            calls_seen: 0,
            cancels_seen: 0,
            switches,
        }
    }

    fn start(&mut self) {
        for n in 1..=self.switches.stderr_lines {
            out::complain(&format!("stderr line {n} of {}", self.switches.stderr_lines));
        }
        if let Some(Death::After(span)) = self.switches.die_after {
            self.timer.after(span, Job::Exit(self.exit_code()));
        }
        self.misbehave(When::Start);
    }

    fn exit_code(&self) -> u8 {
        self.switches.exit_code.unwrap_or(1)
    }

    /// Does what begins at this moment.
    fn misbehave(&mut self, now: When) {
        let begins = |usual: When| self.switches.when.unwrap_or(usual) == now;
        if let Some(bytes) = self.switches.flood_stderr.filter(|_| begins(When::Start)) {
            // Ends with its bytes or with the process: a flood must not keep answers back.
            thread::spawn("flood", move || out::flood_stderr(bytes)).expect("no thread for the flood");
        }
        if begins(When::Start) {
            self.out.garbage(self.switches.garbage);
        }
        if let Some(bytes) = self.switches.flood_stdout.filter(|_| begins(When::Call)) {
            self.out.flood(bytes);
        }
        if self.switches.close_stdout && begins(When::Call) {
            self.out.close();
        }
        if self.switches.no_read && begins(When::Call) {
            self.reads = false;
        }
    }

    fn hear(&mut self, line: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Message>(line) else {
            return self.hear_nonsense(line);
        };
        // Without a method it is an answer, and we have asked nothing.
        let Some(method) = message.method else { return };
        match message.id {
            Some(id) => self.request(id, &method, message.params),
            None => self.notification(&method, message.params),
        }
    }

    fn hear_nonsense(&self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let null = RawValue::from_string("null".to_owned()).expect("null is JSON");
        let (code, message) = match serde_json::from_slice::<&RawValue>(line) {
            Ok(_) => (INVALID_REQUEST, "not a request (batches are not spoken here)"),
            Err(_) => (-32700, "not JSON"),
        };
        self.out.answer(
            &null,
            &error_body(&Refusal { code, message: message.to_owned(), data: None }),
            false,
        );
    }

    fn notification(&mut self, method: &str, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Cancelled<'a> {
            #[serde(borrow)]
            request_id: &'a RawValue,
        }
        if method != "notifications/cancelled" {
            return;
        }
        if let Ok(Cancelled { request_id }) = parse(params) {
            self.cancels_seen += 1;
            self.modern.cancelled(request_id.get());
            self.timer.cancel(request_id.get());
        }
    }

    fn request(&mut self, id: &RawValue, method: &str, params: Option<&RawValue>) {
        match self.modern.judge(method, params) {
            modern::Judgement::Legacy => (),
            modern::Judgement::Modern => return self.modern_request(id, method, params),
            modern::Judgement::Refused(refusal) => return self.reply(id, Err(refusal), false),
            modern::Judgement::Silent => return,
            modern::Judgement::Exit => std::process::exit(self.exit_code().into()),
        }
        let answer = match method {
            "initialize" if self.switches.hang_init => return,
            "initialize" => self.initialize(params),
            "ping" => Ok(json!({})),
            _ if !self.initialized => refuse(INVALID_REQUEST, "the first request must be initialize"),
            "tools/list" => self.list(params),
            "tools/call" => return self.call(id, params),
            _ => refuse(METHOD_NOT_FOUND, format!("unknown method {method}")),
        };
        let begun = method == "initialize" && answer.is_ok();
        self.reply(id, answer, false);
        if begun {
            self.misbehave(When::Init);
        }
    }

    fn modern_request(&mut self, id: &RawValue, method: &str, params: Option<&RawValue>) {
        let answer = match method {
            "server/discover" => self.modern.discover(self.switches.change_tools),
            "subscriptions/listen" => {
                return self.out.notify(&self.modern.listen(id.get(), params));
            }
            "tools/list" => self.list(params).map(|result| modern::complete(result, true)),
            "tools/call" => return self.call(id, params),
            _ => refuse(METHOD_NOT_FOUND, format!("unknown method {method}")),
        };
        self.reply(id, answer, false);
    }

    fn initialize(&mut self, params: Option<&RawValue>) -> Result<Value, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Initialize {
            protocol_version: String,
        }
        if self.switches.exit_on_init {
            out::complain("demo-server: cannot start: told so by --exit-on-init");
            std::process::exit(self.exit_code().into());
        }
        if self.switches.error_on_init {
            return refuse(INTERNAL, "cannot serve: told so by --error-on-init");
        }
        if self.initialized {
            return refuse(INVALID_REQUEST, "initialize came before");
        }
        let asked: Initialize = parse(params)?;
        let version = VERSIONS.iter().find(|version| **version == asked.protocol_version);
        self.initialized = true;
        Ok(json!({
            "protocolVersion": version.unwrap_or(&VERSIONS[0]),
            "capabilities": { "tools": { "listChanged": self.switches.change_tools } },
            "serverInfo": { "name": "mcpvisor-demo", "version": env!("CARGO_PKG_VERSION") },
            "instructions": "A few tools to see mcpvisor work: try echo, add or time.",
        }))
    }

    /// The cursor is the index of the page's first tool.
    fn list(&self, params: Option<&RawValue>) -> Result<Value, Refusal> {
        #[derive(Deserialize, Default)]
        struct List {
            cursor: Option<String>,
        }
        let cursor = params.map(|params| parse::<List>(Some(params))).transpose()?.unwrap_or_default().cursor;
        let all = self.tools.list();
        let from = match cursor {
            None => 0,
            Some(cursor) => match cursor.parse::<usize>() {
                Ok(index) if index < all.len() => index,
                _ => return refuse(INVALID_PARAMS, format!("unknown cursor `{cursor}`")),
            },
        };
        let rest = &all[from..];
        let page = &rest[..rest.len().min(self.switches.page_size.unwrap_or(usize::MAX))];
        let mut result = json!({ "tools": page });
        if page.len() < rest.len() {
            result["nextCursor"] = (from + page.len()).to_string().into();
        }
        Ok(result)
    }

    fn call(&mut self, id: &RawValue, params: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Call<'a> {
            name: String,
            #[serde(default)]
            arguments: Map<String, Value>,
            #[serde(borrow, rename = "_meta")]
            meta: Option<Meta<'a>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta<'a> {
            #[serde(borrow)]
            progress_token: Option<&'a RawValue>,
        }
        let call: Call = match parse(params) {
            Ok(call) => call,
            Err(refusal) => return self.reply(id, Err(refusal), true),
        };
        self.calls_seen += 1;
        if self.calls_seen == 1 {
            self.misbehave(When::Call);
        }
        let Some(outcome) = self.tools.call(&call.name, &call.arguments) else {
            return self.reply(id, refuse(INVALID_PARAMS, format!("unknown tool {}", call.name)), true);
        };
        let token = call.meta.and_then(|meta| meta.progress_token).map(ToOwned::to_owned);
        self.carry_out(id, outcome, token);
    }

    fn carry_out(&mut self, id: &RawValue, outcome: Outcome, token: Option<Box<RawValue>>) {
        match outcome {
            Outcome::Text(text) => self.say(id, &text),
            Outcome::Mistake(text) => {
                let result = json!({ "content": [{ "type": "text", "text": text }], "isError": true });
                self.reply(id, Ok(self.modern.said(result)), true);
            }
            Outcome::Sleep { span, steps } => self.sleep(id, span, steps, token),
            Outcome::Exit(code) => {
                out::complain(&format!("demo-server: dying with code {code}, as told"));
                std::process::exit(code.into());
            }
            Outcome::Signal(number) => self.die_of(id, number),
            Outcome::GoDeaf => {
                self.say(id, "I hear nothing from now on");
                self.out.go_deaf();
            }
            Outcome::ChangeTools => {
                let name = self.tools.add_one();
                self.say(id, &format!("added {name}"));
                for params in self.modern.listeners() {
                    let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
                    self.out.notify(&format!(r#""method":"notifications/tools/list_changed"{params}"#));
                }
            }
            Outcome::Stats => {
                let stats = json!({ "calls": self.calls_seen, "cancelled": self.cancels_seen });
                self.say(id, &stats.to_string());
            }
        }
    }

    fn say(&mut self, id: &RawValue, text: &str) {
        let result = self.modern.said(json!({ "content": [{ "type": "text", "text": text }] }));
        self.reply(id, Ok(result), true);
    }

    fn die_of(&mut self, id: &RawValue, number: i32) {
        let Ok(signal) = Signal::try_from(number) else {
            return self.reply(id, refuse(INVALID_PARAMS, format!("no signal {number}")), true);
        };
        out::complain(&format!("demo-server: dying of {signal}, as told"));
        // Twice: the runtime's own handler of SIGSEGV only gives the signal its default meaning back. One that is
        // ignored leaves the call unanswered, which is what the tool promises.
        let _ = raise(signal).and_then(|()| raise(signal));
    }

    fn sleep(&mut self, id: &RawValue, span: Duration, steps: u64, token: Option<Box<RawValue>>) {
        let text = format!("slept {} ms", span.as_millis());
        let result = self.modern.said(json!({ "content": [{ "type": "text", "text": text }] }));
        let body = result_body(&result);
        let reply = Reply { id: id.to_owned(), body, is_call: true };
        let (span, job) = match steps {
            0 => (span, Job::Answer(reply)),
            steps => {
                let every = Duration::from_millis(span.as_millis() as u64 / steps);
                (every, Job::Progress { token, step: 1, steps, every, reply })
            }
        };
        self.timer.after(span + self.hold_back(true), job);
    }

    fn reply(&mut self, id: &RawValue, answer: Result<Value, Refusal>, is_call: bool) {
        let body = match &answer {
            Ok(result) => result_body(result),
            Err(refusal) => error_body(refusal),
        };
        let delay = self.hold_back(is_call);
        if delay.is_zero() {
            self.out.answer(id, &body, is_call);
        } else {
            self.timer.after(delay, Job::Answer(Reply { id: id.to_owned(), body, is_call }));
        }
    }

    fn hold_back(&self, is_call: bool) -> Duration {
        let shuffle = if self.switches.reorder && is_call { fastrand::u64(1..=REORDER_MS_MAX) } else { 0 };
        self.switches.slow.unwrap_or_default() + Duration::from_millis(shuffle)
    }
}

fn parse<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<T, Refusal> {
    let Some(params) = params else { return refuse(INVALID_PARAMS, "params are missing") };
    serde_json::from_str(params.get()).map_err(|error| Refusal {
        code: INVALID_PARAMS,
        message: format!("params: {error}"),
        data: None,
    })
}

fn result_body(result: &Value) -> String {
    format!("\"result\":{result}")
}

fn error_body(refusal: &Refusal) -> String {
    let mut error = json!({ "code": refusal.code, "message": refusal.message });
    if let Some(data) = &refusal.data {
        error["data"] = data.clone();
    }
    format!("\"error\":{error}")
}
