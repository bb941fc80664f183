//! The headers that a request of 2026-07-28 carries over HTTP beside its body: what they must say, and how values that
//! are no plain text are written in them (`=?base64?…?=`).

use super::params;
use std::borrow::Cow;

pub const PROTOCOL_VERSION: &str = "MCP-Protocol-Version";
pub const METHOD: &str = "Mcp-Method";
pub const NAME: &str = "Mcp-Name";

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// The member of the params that `Mcp-Name` repeats; nothing for a method without one.
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// What `Mcp-Name` must say for a request; nothing if it needs none, or its params have no such string.
pub fn name_of(method: &str, params: Option<&str>) -> Option<String> {
    params::text(params?, named_by(method)?)
}

/// A value as it stands in a header: as it is, or in base64 where a header would not carry it unchanged.
pub fn written(value: &str) -> Cow<'_, str> {
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim_matches(' ') == value
        && !(value.starts_with(OPEN) && value.ends_with(CLOSE));
    if plain {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("{OPEN}{}{CLOSE}", encode(value.as_bytes())))
    }
}

/// The value that a header stands for; nothing if its base64 is none, or no UTF-8.
pub fn read(header: &str) -> Option<Cow<'_, str>> {
    let header = header.trim_matches([' ', '\t']);
    match header.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)) {
        Some(coded) => Some(Cow::Owned(String::from_utf8(decode(coded)?).ok()?)),
        None => Some(Cow::Borrowed(header)),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// With its padding: a value has one way to be written, and anything else is nothing.
fn decode(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=').as_bytes();
    if letters.len() % 4 == 1 || !text.len().is_multiple_of(4) || text.len() - letters.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for group in letters.chunks(4) {
        let mut bits = 0u32;
        for letter in group {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|known| known == letter)?).ok()?;
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        #[track_caller]
        fn check(value: &str, header: &str) {
            assert_eq!(written(value), header);
            assert_eq!(read(header).as_deref(), Some(value));
        }
        check("add", "add");
        check("a b", "a b");
        check("", "");
        check("café", "=?base64?Y2Fmw6k=?=");
        check(" a", "=?base64?IGE=?=");
        check("a\r\nb", "=?base64?YQ0KYg==?=");
        check("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?=");
        assert_eq!(read(" add\t").as_deref(), Some("add"), "white space around a header is not its value");
        for bad in
            ["=?base64?Y2Fmw6k?=", "=?base64?Y?=", "=?base64?Y*==?=", "=?base64?/w==?=", "=?base64?YQ===?="]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let mut random = fastrand::Rng::with_seed(1);
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn names() {
        assert_eq!(name_of("tools/call", Some(r#"{"name":"a"}"#)).as_deref(), Some("a"));
        assert_eq!(name_of("resources/read", Some(r#"{"uri":"x:\/\/1"}"#)).as_deref(), Some("x://1"));
        assert_eq!(name_of("tools/list", Some(r#"{"name":"a"}"#)), None);
        assert_eq!(name_of("tools/call", None), None);
    }
}
