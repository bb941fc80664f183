//! JSON on one line: what a server's stdin and an event's `data:` need. Over HTTP a message may be laid out over many.

use std::borrow::Cow;

/// The same JSON without line breaks: between tokens they are white space like any other, and in strings they
/// cannot stand.
pub fn one_line(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.contains(&b'\n') && !json.contains(&b'\r') {
        return Cow::Borrowed(json);
    }
    json.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_become_spaces() {
        assert_eq!(one_line(b"{\"a\":\r\n1,\n\"b\":\"\\n\"}").as_ref(), b"{\"a\":  1, \"b\":\"\\n\"}");
        assert!(matches!(one_line(b"{\"a\": 1}"), Cow::Borrowed(_)));
    }
}
