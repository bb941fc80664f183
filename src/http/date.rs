//! Dates of HTTP (RFC 9110, 5.6.7), and what `Retry-After` says with one or without.

use crate::base::limits::RETRY_AFTER_MAX;
use crate::base::time::Wall;
use std::time::Duration;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// How long `Retry-After` asks to wait; nothing if it is neither seconds nor a date. `date` is the `Date` of the same
/// answer: both are of the server's clock, whatever ours says.
pub fn retry_after(value: &str, date: Option<&str>, now: Wall) -> Option<Duration> {
    let value = value.trim();
    let span = match value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has ask for longer than anybody waits.
        true if !value.is_empty() => value.parse().map_or(Duration::MAX, Duration::from_secs),
        _ => {
            let sent = date.and_then(parse).unwrap_or(now);
            Duration::from_millis(parse(value)?.0.saturating_sub(sent.0))
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}

/// A date in any of the three forms; nothing before 1970.
pub fn parse(text: &str) -> Option<Wall> {
    let words: Vec<&str> = text.trim().split([' ', ',', '-']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words[..] {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        // The C library's own form.
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = 1 + MONTHS.iter().position(|name| *name == month)? as u64;
    let year = match (year.len(), number(year)?) {
        (2, year) => year + if year < 70 { 2000 } else { 1900 },
        (4, year) => year,
        _ => return None,
    };
    let mut parts = time.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let day = number(day)?;
    let right = (1970..=9999).contains(&year) && (1..=31).contains(&day) && parts.next().is_none();
    if !right || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(Wall((((days(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second) * 1000))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// From 1970 to a day of the Gregorian calendar. Years begin in March here, so that a leap day is the last of its year.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    (365 * year + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse(text).map(Wall::rfc3339).as_deref(), expected, "{text}");
    }

    #[test]
    fn dates() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some("1994-11-06T08:49:37.000Z"));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some("1994-11-06T08:49:37.000Z"));
        check("Sun Nov  6 08:49:37 1994", Some("1994-11-06T08:49:37.000Z"));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some("1970-01-01T00:00:00.000Z"));
        check("Thu, 29 Feb 2024 23:59:59 GMT", Some("2024-02-29T23:59:59.000Z"));
        check("Fri, 01 Mar 2024 00:00:00 GMT", Some("2024-03-01T00:00:00.000Z"));
        check("Fri, 31 Dec 2100 12:00:00 GMT", Some("2100-12-31T12:00:00.000Z"));
        for bad in [
            "",
            "tomorrow",
            "Sun, 06 Nov 1994 08:49:37 PST",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1494 08:49:37 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn how_long_to_wait() {
        #[track_caller]
        fn check(value: &str, date: Option<&str>, expected: Option<u64>) {
            // Sun, 06 Nov 1994 08:49:37 GMT
            let span = retry_after(value, date, Wall(784_111_777_000));
            assert_eq!(span.map(|span| span.as_secs()), expected, "{value}");
        }
        check("120", None, Some(120));
        check(" 0 ", None, Some(0));
        check("Sun, 06 Nov 1994 08:50:00 GMT", None, Some(23));
        check("Sun, 06 Nov 1994 08:49:00 GMT", None, Some(0));
        // Its clock is an hour ahead of ours.
        let (at, date) = ("Sun, 06 Nov 1994 09:50:00 GMT", "Sun, 06 Nov 1994 09:49:30 GMT");
        check(at, Some(date), Some(30));
        check("99999999999999999999999", None, Some(RETRY_AFTER_MAX.as_secs()));
        for bad in ["", "soon", "-1", "1.5", "+3"] {
            check(bad, None, None);
        }
    }
}
