//! How a client greets a server: by `initialize` in the legacy era (2024-11-05 to 2025-11-25), by `server/discover` in
//! the modern one, and what the server said of itself.

use super::era::Era;
use super::features::{self, Feature};
use super::items::splice;
use super::meta::{self, Asker};
use super::{envelope, scan};
use crate::base::fault::{Fault, FaultKind};
use crate::base::text;

/// Newest first. A server may answer any of them.
pub const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What a server said of itself; `raw` is all of it: an `InitializeResult` of the legacy era, a `DiscoverResult` of the
/// modern one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub era: Era,
    pub version: String,
    pub raw: Box<str>,
}

impl Greeting {
    /// Raw; an empty object if it declared none.
    pub fn capabilities(&self) -> &str {
        scan::find(&self.raw, "capabilities").map_or("{}", |span| &self.raw[span])
    }

    /// Whether the server declared this capability.
    pub fn has(&self, capability: &str) -> bool {
        scan::find(self.capabilities(), capability).is_some()
    }

    /// Whether the server declared that a capability can do this, like `resources` and `subscribe`.
    pub fn can(&self, capability: &str, what: &str) -> bool {
        let all = self.capabilities();
        let Some(capability) = scan::find(all, capability).map(|span| &all[span]) else { return false };
        scan::find(capability, what).is_some_and(|span| &capability[span] == "true")
    }

    /// Name and version of its program, raw, if it said so.
    pub fn server_info(&self) -> Option<&str> {
        match self.era {
            Era::Legacy => scan::find(&self.raw, "serverInfo").map(|span| &self.raw[span]),
            Era::Modern => meta::get(&self.raw, meta::SERVER_INFO),
        }
    }

    /// What it says about its use, raw.
    pub fn instructions(&self) -> Option<&str> {
        scan::find(&self.raw, "instructions").map(|span| &self.raw[span])
    }

    /// An `InitializeResult` for a legacy client: as it came, but for the version, where a client asked for an older one
    /// than the server agreed to. That of a modern server is made of what it said.
    pub fn for_client(&self, wanted: &str) -> (String, &'static str) {
        if self.era == Era::Modern {
            let version = negotiate(wanted);
            let info = self.server_info().unwrap_or("{\"name\":\"\",\"version\":\"\"}");
            let instructions =
                self.instructions().map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
            let result = format!(
                "{{\"protocolVersion\":\"{version}\",\"capabilities\":{},\"serverInfo\":{info}{instructions}}}",
                self.capabilities()
            );
            return (result, version);
        }
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
        "{{\"protocolVersion\":\"{}\",\"capabilities\":{},\"clientInfo\":{}}}",
        VERSIONS[0],
        features::declared(features),
        our_info(our_version)
    )
}

/// Who we are.
fn our_info(our_version: &str) -> String {
    format!("{{\"name\":\"mcpvisor\",\"version\":{}}}", envelope::quote(our_version))
}

/// Params of a request of our own to a modern server.
pub fn modern_params(params: &str, our_version: &str, features: &[Feature]) -> String {
    let (capabilities, info) = (features::declared(features), our_info(our_version));
    meta::request_to_modern(
        Some(params),
        &Asker { capabilities: &capabilities, info: Some(&info), log_level: None },
    )
}

/// The result of `server/discover`, whose version was agreed on before.
pub fn discovery(result: &str, version: &str) -> Result<Greeting, Fault> {
    let has_capabilities =
        scan::find(result, "capabilities").is_some_and(|span| result[span].starts_with('{'));
    if !has_capabilities {
        let message = "server/discover: the answer has no capabilities";
        return Err(Fault::new(FaultKind::HandshakeFailed, message));
    }
    Ok(Greeting { era: Era::Modern, version: version.to_owned(), raw: result.into() })
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
    Ok(Greeting { era: Era::Legacy, version, raw: result.into() })
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
        assert!(!bare.can("tools", "listChanged"));
        let odd = super::greeting(r#"{"protocolVersion":"1999-01-01"}"#).unwrap_err();
        assert!(odd.message.contains("`1999-01-01`"), "{odd}");
    }

    #[test]
    fn discoveries() {
        let result = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"instructions":"i\n","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x","version":"1"}}}"#;
        let greeting = discovery(result, "2026-07-28").unwrap();
        assert!(greeting.can("tools", "listChanged") && !greeting.can("resources", "subscribe"));
        assert_eq!(
            greeting.for_client("2025-06-18"),
            (
                r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"x","version":"1"},"instructions":"i\n"}"#.to_owned(),
                "2025-06-18"
            )
        );
        assert!(discovery("{}", "2026-07-28").is_err());
        let params = modern_params("{}", "0.1.0", &[Feature::Roots]);
        assert_eq!(meta::get(&params, meta::PROTOCOL_VERSION), Some("\"2026-07-28\""));
    }

    #[test]
    fn versions() {
        assert_eq!(negotiate("2024-11-05"), "2024-11-05");
        assert_eq!(negotiate("2099-01-01"), "2025-11-25");
        assert!(scan::document(&initialize_params("0.1.0", &[Feature::Roots])).is_ok());
    }
}
