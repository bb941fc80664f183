//! Server-sent events as bytes, as the HTML standard (9.2.6) wants them written.

/// One event: `event` is its type (none means `message`), `id` what a client may resume from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    pub event: Option<&'a str>,
    pub id: Option<&'a str>,
    pub data: &'a [u8],
}

/// Appends the event and the empty line that ends it. Data is split into lines, so that a newline in it
/// arrives as a newline; control characters in the other fields become blanks, so that nothing can add a field.
pub fn write_event(out: &mut Vec<u8>, event: &Event<'_>) {
    for (name, value) in [("event: ", event.event), ("id: ", event.id)] {
        let Some(value) = value else { continue };
        out.extend_from_slice(name.as_bytes());
        write_line(out, value.as_bytes());
    }
    let mut rest = event.data;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { break };
        rest = &rest[end + if rest[end..].starts_with(b"\r\n") { 2 } else { 1 }..];
    }
    out.push(b'\n');
}

/// Appends a comment, which clients ignore: a sign of life.
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    write_line(out, text.as_bytes());
    out.push(b'\n');
}

fn write_line(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: Option<&str>, id: Option<&str>, data: &str, expected: &str) {
        let mut out = Vec::new();
        write_event(&mut out, &Event { event, id, data: data.as_bytes() });
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn events() {
        check(None, None, "{}", "data: {}\n\n");
        check(Some("message"), Some("7"), "a", "event: message\nid: 7\ndata: a\n\n");
        check(None, Some("0"), "", "id: 0\ndata: \n\n");
        check(None, None, "a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
        check(Some("x\ndata: y"), Some("1\0\r2"), "z", "event: x data: y\nid: 1  2\ndata: z\n\n");
    }

    #[test]
    fn comments() {
        let mut out = Vec::new();
        write_comment(&mut out, "still\nhere");
        assert_eq!(out, b": still here\n\n");
    }
}
