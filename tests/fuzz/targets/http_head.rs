//! Request heads: the same head or refusal however the bytes come, and nothing in a head that could be read twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::base::limits::HEAD_BYTES_MAX;
use mcpvisor::http::Refusal;
use mcpvisor::http::request::{Framing, Head, HeadScan, Version};
use mcpvisor_fuzz::{each_cut, stretched};

type Found = Result<Option<(Head, usize)>, Refusal>;

fuzz_target!(|data: &[u8]| {
    let data = &*stretched(data, HEAD_BYTES_MAX);
    let whole = HeadScan::default().advance(data);
    each_cut(data, |pieces| same_in_pieces(data, &whole, pieces));
    if let Ok(Some((head, bytes))) = &whole {
        sound(head, &data[..*bytes]);
        written_again(head);
    }
});

fn same_in_pieces(data: &[u8], whole: &Found, pieces: &[&[u8]]) {
    let (mut scan, mut end, mut refused) = (HeadScan::default(), 0, None);
    for piece in pieces {
        end += piece.len();
        match scan.advance(&data[..end]) {
            Ok(None) => (),
            Ok(Some(found)) => {
                assert_eq!(refused, None, "a refused head was accepted later");
                assert_eq!(*whole, Ok(Some(found)));
                return;
            }
            Err(refusal) => _ = refused.get_or_insert(refusal),
        }
    }
    match (whole, refused) {
        (Ok(None), None) => (),
        // What is wrong before the end of the head may wait for the end of the head.
        (Err(_), None) => assert!(!has_end(data), "{whole:?} in one piece only"),
        (Err(whole), Some(refusal)) => {
            let too_large = [whole.status, refusal.status].contains(&431) && data.len() >= HEAD_BYTES_MAX;
            assert!(whole.status == refusal.status || too_large, "{whole:?} {refusal:?}");
        }
        (Ok(_), _) => panic!("{whole:?} in one piece, {refused:?} in several"),
    }
}

/// Whether an empty line follows a line.
fn has_end(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let ended = data.iter().filter(|byte| **byte == b'\n').count();
    lines.by_ref().take(ended).skip_while(|line| line.is_empty()).any(<[u8]>::is_empty)
}

fn sound(head: &Head, bytes: &[u8]) {
    assert!(bytes.len() <= HEAD_BYTES_MAX && bytes.ends_with(b"\n"));
    assert!(!head.method.is_empty() && head.method.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(head.path.starts_with('/') || (head.path == "*" && head.method == "OPTIONS"));
    let bare = |text: &str| !text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    assert!(bare(&head.path) && head.query.as_deref().is_none_or(bare));
    for (name, value) in head.headers.iter() {
        assert!(!name.is_empty() && bare(name) && !name.contains(':'));
        assert!(!value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f));
        assert_eq!(value, value.trim_ascii());
    }
    let hosts = head.headers.get_all("host").count();
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10));
    let lengths = head.headers.get_all("content-length").flat_map(|value| value.split(','));
    let lengths: Vec<Result<u64, _>> = lengths.map(|value| value.trim().parse()).collect();
    let coded = head.headers.get("transfer-encoding").is_some();
    match head.framing {
        Framing::Empty => assert!(!coded && lengths.iter().all(|length| *length == Ok(0))),
        Framing::Length(bytes) => {
            assert!(bytes > 0 && !coded && !lengths.is_empty());
            assert!(lengths.iter().all(|length| *length == Ok(bytes)));
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && head.version == Version::Http11);
            let codings: Vec<&str> = head.headers.get_all("transfer-encoding").collect();
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case("chunked"));
        }
    }
}

/// A head that is written out from what was understood is understood in the same way.
fn written_again(head: &Head) {
    let query = head.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
    let version = if head.version == Version::Http10 { "1.0" } else { "1.1" };
    let mut text = format!("{} {}{query} HTTP/{version}\r\n", head.method, head.path);
    for (name, value) in head.headers.iter() {
        text.push_str(&format!("{name}:{value}\r\n"));
    }
    text.push_str("\r\n");
    if text.len() > HEAD_BYTES_MAX {
        return;
    }
    let found = HeadScan::default().advance(text.as_bytes());
    let (again, bytes) = found.expect("it was accepted before").expect("it is whole");
    assert_eq!(bytes, text.len());
    let lines = |head: &Head| -> Vec<(String, String)> {
        head.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(lines(&again), lines(head));
    let decided = |head: &Head| {
        let line = (head.method.clone(), head.path.clone(), head.query.clone(), head.version);
        (line, head.framing, head.keep_alive, head.expects_continue)
    };
    assert_eq!(decided(&again), decided(head));
}
