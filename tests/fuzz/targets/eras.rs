//! Between the eras: any message has one era or one refusal, and whatever crosses is still JSON, with the bytes of
//! every argument as they came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpvisor::mcp::bridge::{self, Crossed};
use mcpvisor::mcp::envelope::{self, Message, Outcome};
use mcpvisor::mcp::era::{self, Era, Headers};
use mcpvisor::mcp::meta::Asker;
use mcpvisor::mcp::{headers, mirrored, scan};
use std::borrow::Cow;

const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];
const ASKER: Asker<'static> =
    Asker { capabilities: "{\"roots\":{}}", info: Some("{\"name\":\"f\"}"), log_level: None };

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        era::is_modern_batch(text);
        let value = headers::read(text);
        if let Some(value) = value {
            assert_eq!(headers::read(&headers::written(&value)).as_deref(), Some(&*value));
        }
    }
    let Ok(message) = envelope::parse(data) else { return };
    let header = Headers { version: Some(era::VERSION), method: Some("tools/call"), name: Some("x") };
    for http in [None, Some(&header), Some(&Headers::default())] {
        if let Err(refusal) = era::classify(&message, http) {
            assert!(scan::document(&refusal.error()).is_ok());
        }
    }
    match message {
        Message::Request { method, params: Some(params), .. } => request(&method, params),
        Message::Response { outcome: Outcome::Result(result), .. } => answer(result, false),
        Message::Response { outcome: Outcome::Error(error), .. } => answer(error, true),
        Message::Request { .. } | Message::Notification { .. } => (),
    }
});

fn request(method: &str, params: &str) {
    let arguments = |params: &str| scan::find(params, "arguments").map(|span| params[span].to_owned());
    for (from, to) in ERAS.iter().flat_map(|from| ERAS.map(|to| (*from, to))) {
        let Ok(crossed) = bridge::request(method, params, from, to, &ASKER) else { continue };
        assert!(scan::document(&crossed).is_ok(), "{crossed}");
        assert_eq!(arguments(&crossed), arguments(params));
        assert!(from != to || matches!(crossed, Cow::Borrowed(_)));
        let back = bridge::request(method, &crossed, to, from, &ASKER);
        assert!(back.is_err() || back.is_ok_and(|back| scan::document(&back).is_ok()));
    }
    // Whatever a schema names can be looked for in any arguments.
    mirrored::mismatch(params, params, |_| Some("x"));
}

fn answer(text: &str, is_error: bool) {
    for (from, to) in ERAS.iter().flat_map(|from| ERAS.map(|to| (*from, to))) {
        for method in ["tools/call", "tools/list", "resources/read"] {
            let crossed = match is_error {
                true => match bridge::error(method, text, text, (from, to), text) {
                    Crossed::Result(text) | Crossed::Error(text) => text,
                },
                false => match bridge::result(method, text, from, to, Some("{}")) {
                    Ok(text) => text,
                    Err(_) => continue,
                },
            };
            assert!(scan::document(&crossed).is_ok(), "{crossed}");
        }
    }
    assert!(scan::document(&bridge::discovered(text)).is_ok());
}
