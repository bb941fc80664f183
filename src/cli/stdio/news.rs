//! The thread "news": what the servers say of their own accord, from the session's event stream to the client.
//!
//! A stream that breaks is opened again where it ended. When the daemon is gone the thread looks for its return for a
//! while, so that a client hears of the new daemon's lists without asking; after that the next request finds it.

use super::bridge::{Bridge, Listened};
use super::session::Session;
use crate::sys::{clock, hold};
use std::sync::Arc;
use std::time::Duration;

/// Pauses between two tries double from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a daemon that is gone is looked for.
const LOOK_FOR: Duration = Duration::from_secs(60);

/// The id before the first event of a session: what was said before the stream stood is sent, too.
const FROM_THE_START: &str = "0";

/// Until the session is over, or another one has taken its place.
pub fn follow(bridge: &Arc<Bridge>, session: &Session) {
    let mut last_event = Some(FROM_THE_START.to_owned());
    let (mut pause, mut heard) = (PAUSE_MIN, clock::now());
    while bridge.is_current(session) {
        let begun = clock::now();
        match bridge.listen(session, &mut last_event) {
            Err(Listened::Refused(404)) => {
                // If that fails it has been said, and the next request tries again.
                let _ = bridge.renew(session.number);
                return;
            }
            Ok(()) | Err(Listened::Broken | Listened::Refused(_)) => heard = clock::now(),
            Err(Listened::NoDaemon) if clock::now().since(heard) > LOOK_FOR => return,
            Err(Listened::NoDaemon) => (),
        }
        let lasted = clock::now().since(begun);
        pause = if lasted > PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        hold::pause_until(clock::now() + pause);
    }
}
