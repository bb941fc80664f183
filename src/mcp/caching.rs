//! How long a result of the modern era may be kept, and by whom (`ttlMs`, `cacheScope`).

use super::{params, scan};
use std::time::Duration;

/// What a result says of that, or several together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caching {
    pub ttl: Duration,
    /// It is the same for everybody.
    pub public: bool,
}

impl Caching {
    /// Always right: stale at once, and nobody else's.
    pub const NONE: Caching = Caching { ttl: Duration::ZERO, public: false };

    /// What this result says. What it does not say, or says in another way than the protocol does, is [`Caching::NONE`]'s.
    pub fn of(result: &str) -> Caching {
        let ttl = scan::find(result, "ttlMs").and_then(|span| result[span].parse().ok());
        let public = params::text(result, "cacheScope").as_deref() == Some("public");
        Caching { ttl: Duration::from_millis(ttl.unwrap_or(0)), public }
    }

    /// Of a whole with these parts: no part outlives its time, none goes to whom it is not for.
    pub fn and(self, other: Caching) -> Caching {
        Caching { ttl: self.ttl.min(other.ttl), public: self.public && other.public }
    }

    /// What is left of it after a while.
    pub fn aged(self, age: Duration) -> Caching {
        Caching { ttl: self.ttl.saturating_sub(age), ..self }
    }

    /// As members of a result: `ttlMs` and `cacheScope`, raw.
    pub fn members(self) -> (String, &'static str) {
        (self.ttl.as_millis().to_string(), if self.public { "\"public\"" } else { "\"private\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_result_says() {
        #[track_caller]
        fn check(result: &str, ttl: u64, public: bool) {
            assert_eq!(Caching::of(result), Caching { ttl: Duration::from_millis(ttl), public }, "{result}");
        }
        check(r#"{"tools":[],"ttlMs":60000,"cacheScope":"public"}"#, 60_000, true);
        check(r#"{"ttlMs":5,"cacheScope":"private"}"#, 5, false);
        check(r#"{"tools":[{"ttlMs":7,"cacheScope":"public"}]}"#, 0, false);
        check(r#"{"ttlMs":-1,"cacheScope":"shared"}"#, 0, false);
        check(r#"{"ttlMs":"9","cacheScope":true}"#, 0, false);
        check(r#"{"ttlMs":1e400}"#, 0, false);
        check("[1]", 0, false);
    }

    #[test]
    fn parts_and_age() {
        let caching = |ttl, public| Caching { ttl: Duration::from_millis(ttl), public };
        assert_eq!(caching(9, true).and(caching(5, true)), caching(5, true));
        assert_eq!(caching(9, true).and(caching(50, false)), caching(9, false));
        assert_eq!(caching(9, true).aged(Duration::from_millis(4)), caching(5, true));
        assert_eq!(caching(9, false).aged(Duration::from_secs(1)), Caching::NONE);
        assert_eq!(caching(9, false).members(), ("9".to_owned(), "\"private\""));
    }
}
