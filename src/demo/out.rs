//! The way out: whole lines on stdout, and what the switches do to them.

use super::switches::{Death, Switches};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use std::fs::OpenOptions;
use std::io::{self, Write};

/// 64 KiB: what a pipe takes at once.
static CHUNK: [u8; 64 << 10] = [b'x'; 64 << 10];

/// Stdout with the habits that concern answers. One lock: lines never mix.
pub struct Out {
    answer_twice: bool,
    unknown_id: bool,
    die_after_calls: Option<u64>,
    exit_code: u8,
    state: Mutex<State>,
}

struct State {
    /// Answers that may still be given; `None` = no end.
    answers_left: Option<u64>,
    calls_answered: u64,
}

impl Out {
    pub fn new(switches: &Switches) -> Out {
        let die_after_calls = match switches.die_after {
            Some(Death::Calls(count)) => Some(count),
            Some(Death::After(_)) | None => None,
        };
        Out {
            answer_twice: switches.answer_twice,
            unknown_id: switches.unknown_id,
            die_after_calls,
            exit_code: switches.exit_code.unwrap_or(1),
            state: Mutex::new(State { answers_left: switches.deaf.flatten(), calls_answered: 0 }),
        }
    }

    /// Writes one message, unless the server is deaf. `body` is what stands beside `jsonrpc`.
    pub fn notify(&self, body: &str) {
        let state = self.state.lock();
        if state.answers_left != Some(0) {
            write(format!("{{\"jsonrpc\":\"2.0\",{body}}}\n").as_bytes());
        }
    }

    /// Writes the answer to request `id`: `body` is `"result":…` or `"error":…`.
    pub fn answer(&self, id: &RawValue, body: &str, is_call: bool) {
        let mut state = self.state.lock();
        match &mut state.answers_left {
            Some(0) => return,
            Some(left) => *left -= 1,
            None => (),
        }
        if self.unknown_id {
            write(b"{\"jsonrpc\":\"2.0\",\"id\":987654321,\"result\":{\"stray\":true}}\n");
        }
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},{body}}}\n", id.get());
        write(line.as_bytes());
        if self.answer_twice {
            write(line.as_bytes());
        }
        state.calls_answered += u64::from(is_call);
        if is_call && self.die_after_calls == Some(state.calls_answered) {
            std::process::exit(self.exit_code.into());
        }
    }

    /// From now on nothing is answered.
    pub fn go_deaf(&self) {
        self.state.lock().answers_left = Some(0);
    }

    /// Writes `bytes` (0 = without end) with no newline.
    pub fn flood(&self, bytes: u64) {
        let _whole = self.state.lock();
        flood(bytes, write);
    }

    /// Closes the pipe; whoever reads it sees its end. Fd 1 stays taken, so that no file slips into its place.
    pub fn close(&self) {
        let _whole = self.state.lock();
        let null =
            OpenOptions::new().write(true).open("/dev/null").expect("/dev/null is part of every system");
        nix::unistd::dup2_stdout(&null).expect("fd 1 can be replaced");
    }

    /// Lines that are no JSON.
    pub fn garbage(&self, lines: u64) {
        let _whole = self.state.lock();
        for n in 1..=lines {
            write(format!("this is line {n} of {lines} that is not JSON\n").as_bytes());
        }
    }
}

/// Text for people on stdout.
pub fn plain(text: &str) {
    write(text.as_bytes());
}

/// One line for people on stderr; whoever reads it may be gone, which is no reason to die.
pub fn complain(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes `bytes` (0 = without end) to stderr with no newline.
pub fn flood_stderr(bytes: u64) {
    flood(bytes, |chunk| {
        // Whoever reads our stderr may be gone: then there is nobody to flood.
        let _ = io::stderr().write_all(chunk);
    });
}

fn flood(bytes: u64, write: impl Fn(&[u8])) {
    let mut left = if bytes == 0 { u64::MAX } else { bytes };
    while left > 0 {
        let len = left.min(CHUNK.len() as u64) as usize;
        write(&CHUNK[..len]);
        left -= len as u64;
    }
}

fn write(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        // Nobody reads us: an MCP server has no other purpose.
        std::process::exit(0);
    }
}
