//! What a failed call says about an engine as a whole.

use super::error::{EngineError, EngineErrorKind};
use super::outage::Cause;

/// What an engine says that is paused, in lower case. Docker Desktop, the only one that can be: "Docker Desktop is
/// manually paused. Unpause it through the Whale menu or Dashboard."
const PAUSED_WORDS: [&str; 3] = ["is manually paused", "is paused", "unpause it"];

/// Why the engine could not be used, if that is what the error says, whatever was asked of it. Nothing: it is there,
/// or was not heard at all.
pub fn cause(error: &EngineError) -> Option<Cause> {
    use EngineErrorKind as Kind;
    match error.kind {
        Kind::Absent | Kind::Refused | Kind::Cut => Some(Cause::Down),
        Kind::Denied => Some(Cause::Denied),
        Kind::Silent => Some(Cause::Silent),
        // Not a 4xx: `docker kill` of a paused container is refused with the same word.
        Kind::Failed(_) if is_paused(&error.message) => Some(Cause::Paused),
        Kind::Garbled
        | Kind::NoSuchImage
        | Kind::NoSuchContainer
        | Kind::Conflict
        | Kind::Refusal(_)
        | Kind::Failed(_)
        | Kind::Cancelled
        | Kind::Host => None,
    }
}

/// The same for a ping, which a working engine always answers well. Nothing: we ended it ourselves.
pub(super) fn cause_of_ping(error: &EngineError) -> Option<Cause> {
    use EngineErrorKind as Kind;
    match error.kind {
        Kind::Cancelled => None,
        Kind::Refusal(_) if is_paused(&error.message) => Some(Cause::Paused),
        // A proxy before the engine, which lets others in.
        Kind::Refusal(401 | 403) => Some(Cause::Denied),
        Kind::Absent
        | Kind::Refused
        | Kind::Denied
        | Kind::Silent
        | Kind::Cut
        | Kind::Garbled
        | Kind::NoSuchImage
        | Kind::NoSuchContainer
        | Kind::Conflict
        | Kind::Refusal(_)
        | Kind::Failed(_)
        | Kind::Host => Some(cause(error).unwrap_or(Cause::Down)),
    }
}

fn is_paused(words: &str) -> bool {
    let words = words.to_lowercase();
    PAUSED_WORDS.iter().any(|pattern| words.contains(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts() {
        use EngineErrorKind as Kind;
        let check = |kind, message: &str, any, ping| {
            let error = EngineError::new(kind, "ping", message);
            assert_eq!((cause(&error), cause_of_ping(&error)), (any, ping), "{kind:?} {message}");
        };
        let desktop = "Docker Desktop is manually paused. Unpause it through the Whale menu or Dashboard.";
        check(Kind::Failed(503), desktop, Some(Cause::Paused), Some(Cause::Paused));
        check(Kind::Refusal(409), desktop, None, Some(Cause::Paused));
        check(Kind::Conflict, "Container 12 is paused", None, Some(Cause::Down));
        check(Kind::Failed(500), "boom", None, Some(Cause::Down));
        check(Kind::Refusal(403), "", None, Some(Cause::Denied));
        check(Kind::Absent, "", Some(Cause::Down), Some(Cause::Down));
        check(Kind::Denied, "", Some(Cause::Denied), Some(Cause::Denied));
        check(Kind::Silent, "", Some(Cause::Silent), Some(Cause::Silent));
        check(Kind::Cancelled, "", None, None);
    }
}
