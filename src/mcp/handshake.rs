//! How a client greets a server of the legacy era (2024-11-05 to 2025-11-25), and what the server said of itself.

use super::features::{self, Feature};
use super::items::splice;
use super::{envelope, scan};
use crate::base::fault::{Fault, FaultKind};
use crate::base::text;

/// Newest first. A server may answer any of them.
pub const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What an `initialize` result said; `raw` is all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub raw: Box<str>,
}

impl Greeting {
    /// Whether the server declared this capability.
    pub fn has(&self, capability: &str) -> bool {
        let capabilities = scan::find(&self.raw, "capabilities").map(|span| &self.raw[span]);
        capabilities.is_some_and(|capabilities| scan::find(capabilities, capability).is_some())
    }

    /// The result as it came, but for the version, where a client asked for an older one than the server agreed to.
    pub fn for_client(&self, wanted: &str) -> (String, &'static str) {
        let position = |version: &str| VERSIONS.iter().position(|known| *known == version).unwrap_or(0);
        let version = VERSIONS[position(wanted).max(position(&self.version))];
        match scan::find(&self.raw, "protocolVersion") {
            Some(span) if version != self.version => {
                (splice(&self.raw, &[(span, &envelope::quote(version))]), version)
            }
            _ => (self.raw.to_string(), version),
        }
    }
}

/// The params of our `initialize`. Nothing is declared that we could not answer.
pub fn initialize_params(our_version: &str, features: &[Feature]) -> String {
    format!(
        "{{\"protocolVersion\":\"{}\",\"capabilities\":{},\"clientInfo\":{{\"name\":\"mcpvisor\",\"version\":{}}}}}",
        VERSIONS[0],
        features::declared(features),
        envelope::quote(our_version)
    )
}

/// Judges the result of `initialize`.
pub fn greeting(result: &str) -> Result<Greeting, Fault> {
    let failed = |why: String| {
        Fault::new(FaultKind::HandshakeFailed, format!("initialize: {why}"))
            .hint("is this command an MCP server that speaks on stdin and stdout?")
    };
    let version = scan::find(result, "protocolVersion").and_then(|span| scan::string(&result[span]));
    let Some(version) = version else {
        return Err(failed("the answer has no protocolVersion".to_owned()));
    };
    if !VERSIONS.contains(&version.as_str()) {
        let shown = text::shorten(&version, 40);
        return Err(failed(format!(
            "the server wants protocol version `{shown}`, which mcpvisor does not speak"
        )));
    }
    Ok(Greeting { version, raw: result.into() })
}

/// The version to answer a client that asks for `requested`: its own if we speak it, else our newest.
pub fn negotiate(requested: &str) -> &'static str {
    VERSIONS.iter().find(|version| **version == requested).unwrap_or(&VERSIONS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings() {
        let good =
            r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"x"}}"#;
        let greeting = greeting(good).unwrap();
        assert_eq!(
            (greeting.version.as_str(), greeting.has("tools"), greeting.has("prompts")),
            ("2025-03-26", true, false)
        );
        assert_eq!(greeting.for_client("2025-11-25"), (good.to_owned(), "2025-03-26"));
        let (older, version) = greeting.for_client("2024-11-05");
        assert_eq!((older, version), (good.replace("2025-03-26", "2024-11-05"), "2024-11-05"));
        let bare = super::greeting(r#"{"protocolVersion":"2024-11-05","capabilities":{}}"#).unwrap();
        assert!(!bare.has("tools"));
        assert_eq!(super::greeting("{}").unwrap_err().kind, FaultKind::HandshakeFailed);
        let odd = super::greeting(r#"{"protocolVersion":"1999-01-01"}"#).unwrap_err();
        assert!(odd.message.contains("`1999-01-01`"), "{odd}");
    }

    #[test]
    fn versions() {
        assert_eq!(negotiate("2024-11-05"), "2024-11-05");
        assert_eq!(negotiate("2099-01-01"), "2025-11-25");
        assert!(scan::document(&initialize_params("0.1.0", &[Feature::Roots])).is_ok());
    }
}
