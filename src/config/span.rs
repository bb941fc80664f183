//! Durations as the config writes them: a number of the key's unit (seconds, mostly), or `500ms`, `3s`, `2m`,
//! `1h30m`; mcpproxy writes `2m0s`.

use crate::base::limits::CONFIG_SPAN_MAX;
use crate::config::json::{Node, Value};
use std::fmt;
use std::time::Duration;

/// What a plain number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Minutes,
}

/// Which durations a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Zero too: it means none, or off.
    pub zero: bool,
    pub from: Duration,
    pub to: Duration,
}

impl Allowed {
    pub const SOME: Allowed = Allowed { zero: false, from: Duration::from_millis(1), to: CONFIG_SPAN_MAX };
    pub const ANY: Allowed = Allowed { zero: true, ..Allowed::SOME };
    pub const SECONDS: Allowed = Allowed { zero: false, from: Duration::from_secs(1), to: CONFIG_SPAN_MAX };
    /// Between two probes: zero is off, and less than a second would be a load of its own.
    pub const PROBE: Allowed = Allowed { zero: true, ..Allowed::SECONDS };

    pub fn contains(&self, span: Duration) -> bool {
        (self.from..=self.to).contains(&span) || (self.zero && span.is_zero())
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zero = if self.zero { "0, or " } else { "" };
        let [from, to] = [self.from, self.to].map(short);
        write!(f, "{zero}from {from} to {to}")
    }
}

/// `1h 30m`, for people.
pub fn short(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// Reads a duration, or says in a hint's words how to write one.
pub fn read(node: &Node, unit: Unit) -> Result<Duration, String> {
    match &node.value {
        Value::Number(text) => number(text, unit),
        Value::Text(text) => parse(text, unit),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(how(unit)),
    }
}

fn number(text: &str, unit: Unit) -> Result<Duration, String> {
    let count: f64 = text.parse().map_err(|_| how(unit))?;
    let seconds = match unit {
        Unit::Seconds => count,
        Unit::Minutes => count * 60.0,
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is negative, or far too long".to_owned())
}

/// `1h30m`, `2m0s`, `1.5s`: numbers with units, one after the other.
fn parse(text: &str, unit: Unit) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.parse::<f64>().is_ok() {
        let letter = match unit {
            Unit::Seconds => 's',
            Unit::Minutes => 'm',
        };
        return Err(format!("write {rest} without quotes, or with a unit: {rest}{letter}"));
    }
    let mut total = Duration::ZERO;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| how(unit))?;
        let count: f64 = rest[..digits].parse().map_err(|_| how(unit))?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let one = seconds_of(&after[..letters]).ok_or_else(|| how(unit))?;
        let part = Duration::try_from_secs_f64(count * one).map_err(|_| "it is far too long".to_owned())?;
        total = total.saturating_add(part);
        rest = &after[letters..];
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    })
}

fn how(unit: Unit) -> String {
    match unit {
        Unit::Seconds => "write a number of seconds, or \"500ms\", \"3s\", \"2m\", \"1h\"".to_owned(),
        Unit::Minutes => "write a number of minutes, or \"90s\", \"30m\", \"1h\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::json;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(json: &str, ms: u64) {
            let node = json::parse(json).root;
            assert_eq!(read(&node, Unit::Seconds), Ok(Duration::from_millis(ms)));
        }
        check("0", 0);
        check("30", 30_000);
        check("0.25", 250);
        check("\"500ms\"", 500);
        check("\"3s\"", 3_000);
        check("\"2m\"", 120_000);
        check("\"2m0s\"", 120_000);
        check("\"1h30m\"", 5_400_000);
        check("\"1.5s\"", 1_500);
        check("\"1d\"", 86_400_000);
        check("\" 7s \"", 7_000);
        let node = json::parse("30").root;
        assert_eq!(read(&node, Unit::Minutes), Ok(Duration::from_secs(1800)));
    }

    #[test]
    fn not_durations() {
        #[track_caller]
        fn check(json: &str, hint: &str) {
            let found = read(&json::parse(json).root, Unit::Seconds).unwrap_err();
            assert!(found.starts_with(hint), "{found}");
        }
        check("true", "write a number of seconds");
        check("\"\"", "write a number of seconds");
        check("\"soon\"", "write a number of seconds");
        check("\"5 s\"", "write a number of seconds");
        check("\"5x\"", "write a number of seconds");
        check("\"-5s\"", "write a number of seconds");
        check("\"1.2.3s\"", "write a number of seconds");
        check("\"30\"", "write 30 without quotes, or with a unit: 30s");
        check("-1", "it is negative");
        check("1e300", "it is negative, or far too long");
        check("\"99999999999999999999999d\"", "it is far too long");
    }
}
