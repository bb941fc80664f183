//! Replies as a client reads them: the same head, body, rest or error however the bytes come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::base::fault::FaultKind;
use mcpvisor::base::limits::HEAD_BYTES_MAX;
use mcpvisor::http::reply::{Decoder, Head};
use mcpvisor_fuzz::{Dice, each_cut, stretched};

/// What was read, and whether the connection could be closed there.
#[derive(Debug, PartialEq)]
struct Read {
    head: Option<Head>,
    body: Vec<u8>,
    done: bool,
    rest: Vec<u8>,
    closes: bool,
}

fuzz_target!(|data: &[u8]| {
    let data = &*stretched(data, HEAD_BYTES_MAX);
    let mut dice = Dice::of(data);
    let (method, body_max) = (["GET", "HEAD"][dice.below(8) / 7], [0, 10, 1 << 20][dice.below(3)]);
    let whole = read(method, body_max, &[data]);
    // A head that comes in single bytes is read again at each: that is too slow for the long ones.
    if data.len() <= 4096 {
        each_cut(data, |pieces| same(&whole, &read(method, body_max, pieces)));
    } else {
        let pieces: Vec<&[u8]> = data.chunks(1 + dice.below(2000)).collect();
        same(&whole, &read(method, body_max, &pieces));
    }
    if let Ok(whole) = whole {
        sound(&whole, method, data);
    }
});

fn read(method: &str, body_max: usize, pieces: &[&[u8]]) -> Result<Read, FaultKind> {
    let mut decoder = Decoder::new(method, body_max);
    for piece in pieces {
        decoder.feed(piece).map_err(|fault| fault.kind)?;
    }
    let (head, body, done, rest) =
        (decoder.head().cloned(), decoder.take_body(), decoder.is_done(), decoder.take_rest());
    Ok(Read { head, body, done, rest, closes: decoder.close().is_ok() })
}

fn same(whole: &Result<Read, FaultKind>, pieces: &Result<Read, FaultKind>) {
    match (whole, pieces) {
        // Too long or malformed: which is seen first is a matter of the cut.
        (Err(_), Err(_)) => (),
        _ => assert_eq!(whole, pieces),
    }
}

fn sound(read: &Read, method: &str, data: &[u8]) {
    assert!(read.head.is_some() || (read.body.is_empty() && !read.done));
    assert!(data.ends_with(&read.rest), "what follows is left as it came");
    assert!(read.body.len() + read.rest.len() <= data.len());
    assert!(!read.done || read.closes);
    let Some(head) = &read.head else { return };
    assert!(!(100..200).contains(&head.status) || head.status == 101);
    if method == "HEAD" || matches!(head.status, 101 | 204 | 304) {
        assert!(read.done && read.body.is_empty());
    } else if head.header("transfer-encoding").is_none() && read.done {
        let length = head.header("content-length").map(|length| length.parse());
        assert_eq!(length, Some(Ok(read.body.len())));
    }
}
