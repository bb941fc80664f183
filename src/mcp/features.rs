//! What a client can be asked by a server, and how loud a log is: small closed lists of the protocol.

use super::scan;

/// A capability of a client, and the requests that it makes possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Sampling,
    Elicitation,
    Roots,
}

impl Feature {
    pub const ALL: [Feature; 3] = [Feature::Sampling, Feature::Elicitation, Feature::Roots];

    /// The name in `capabilities`, and in the config's `client_features`.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Sampling => "sampling",
            Feature::Elicitation => "elicitation",
            Feature::Roots => "roots",
        }
    }

    pub fn of_name(name: &str) -> Option<Feature> {
        Feature::ALL.into_iter().find(|feature| feature.name() == name)
    }

    /// The feature that a request of a server needs.
    pub fn of_method(method: &str) -> Option<Feature> {
        match method {
            "sampling/createMessage" => Some(Feature::Sampling),
            "elicitation/create" => Some(Feature::Elicitation),
            "roots/list" => Some(Feature::Roots),
            _ => None,
        }
    }

    /// How it is declared toward a server.
    fn declaration(self) -> &'static str {
        match self {
            Feature::Sampling => "\"sampling\":{}",
            Feature::Elicitation => "\"elicitation\":{\"form\":{},\"url\":{}}",
            Feature::Roots => "\"roots\":{\"listChanged\":true}",
        }
    }
}

/// The `capabilities` object that declares these.
pub fn declared(features: &[Feature]) -> String {
    let parts: Vec<&str> = features.iter().map(|feature| feature.declaration()).collect();
    format!("{{{}}}", parts.join(","))
}

/// The features that the params of a client's `initialize` declare.
pub fn of_client(params: &str) -> Vec<Feature> {
    let Some(capabilities) = scan::find(params, "capabilities").map(|span| &params[span]) else {
        return Vec::new();
    };
    Feature::ALL.into_iter().filter(|feature| scan::find(capabilities, feature.name()).is_some()).collect()
}

/// Severity of a log message, lowest first (RFC 5424's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    const NAMES: [(Level, &'static str); 8] = [
        (Level::Debug, "debug"),
        (Level::Info, "info"),
        (Level::Notice, "notice"),
        (Level::Warning, "warning"),
        (Level::Error, "error"),
        (Level::Critical, "critical"),
        (Level::Alert, "alert"),
        (Level::Emergency, "emergency"),
    ];

    pub fn of_name(name: &str) -> Option<Level> {
        Level::NAMES.iter().find(|(_, known)| *known == name).map(|(level, _)| *level)
    }

    pub fn name(self) -> &'static str {
        Level::NAMES[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features() {
        let params = r#"{"capabilities":{"roots":{},"sampling":{},"experimental":{"elicitation":{}}}}"#;
        assert_eq!(of_client(params), [Feature::Sampling, Feature::Roots]);
        assert_eq!(declared(&[]), "{}");
        let all = declared(&Feature::ALL);
        assert_eq!(of_client(&format!("{{\"capabilities\":{all}}}")), Feature::ALL);
        assert_eq!(Feature::of_method("roots/list"), Some(Feature::Roots));
    }

    #[test]
    fn levels() {
        for (level, name) in Level::NAMES {
            assert_eq!((level.name(), Level::of_name(name)), (name, Some(level)));
        }
        assert!(Level::Debug < Level::Emergency);
        assert_eq!(Level::of_name("loud"), None);
    }
}
