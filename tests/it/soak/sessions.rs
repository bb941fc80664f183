//! Clients that come and go in every way: with and without streams, and a good-bye or none.

use crate::support::http::{self, Body};
use crate::support::released::Serving;
use crate::support::wire::Wire;
use crate::support::{PATIENCE, until};
use serde_json::json;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// Sessions that were left without a word and are remembered. Left alone they would be forgotten after half an hour
/// (`SESSION_IDLE`), which this does not wait for: the oldest of so many is ended, and all of them at the end.
const LEFT_MAX: usize = 64;

#[derive(Default)]
pub struct Pool(Mutex<VecDeque<Wire>>);

impl Pool {
    fn leave(&self, wire: Wire) {
        let mut left = self.0.lock().unwrap();
        left.push_back(wire);
        let over = (left.len() > LEFT_MAX).then(|| left.pop_front()).flatten();
        drop(left);
        over.iter().for_each(Wire::delete);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().for_each(Wire::delete);
    }
}

/// The client of this number; five kinds take turns.
pub fn one(serving: &Serving, pool: &Pool, n: u64) {
    match n % 5 {
        0 => {
            let wire = Wire::open(&serving.url());
            drop(wire.listen(None));
            wire.delete();
        }
        1 => {
            let wire = Wire::open(&serving.url());
            drop(wire.listen(None));
            pool.leave(wire);
        }
        2 => {
            let wire = Wire::open(&format!("{}/s/demo", serving.url()));
            assert!(wire.ask("1", "tools/list", "{}").contains("echo"));
            wire.delete();
        }
        3 => {
            let claim = json!({
                "notifications": {"toolsListChanged": true},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            });
            let wire = Wire::stateless(&serving.url());
            let mut stream = wire.begin_modern("1", "subscriptions/listen", None, &claim.to_string());
            assert_eq!(stream.value()["method"], "notifications/subscriptions/acknowledged");
        }
        _ => events(serving),
    }
}

/// One who follows `/events` on the control socket, until the stream has begun.
fn events(serving: &Serving) {
    // Streams that were left are let go of when the daemon hears of it.
    let body = until("a stream of events", || {
        let mut stream = UnixStream::connect(serving.tmp.join("state/mcpvisor.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&http::encode("x", "GET", "/events", &[], "")).unwrap();
        let body = Body::read(BufReader::new(stream)).unwrap();
        (body.head.status == 200).then_some(body)
    });
    let mut line = String::new();
    BufReader::new(body).read_line(&mut line).unwrap();
    assert!(!line.is_empty());
}
