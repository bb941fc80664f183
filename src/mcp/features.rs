//! What a client can be asked by a server, and how loud a log is: small closed lists of the protocol.

use super::{params, scan};

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

/// What a client declared that it can be asked, raw, out of its `capabilities`: as it said it, but for what only its own
/// era knows.
pub fn carried(capabilities: &str) -> String {
    let part = |feature: &Feature| {
        let said = &capabilities[scan::find(capabilities, feature.name())?];
        let short = said.starts_with('{') && said.len() <= CAPABILITY_BYTES_MAX;
        // In the modern era nobody hears that roots have changed.
        let said = if short && *feature != Feature::Roots { said } else { "{}" };
        Some(format!("\"{}\":{said}", feature.name()))
    };
    let parts: Vec<String> = Feature::ALL.iter().filter_map(part).collect();
    format!("{{{}}}", parts.join(","))
}

/// One capability as a client says it, kept with its session; a longer one is taken for a plain yes.
const CAPABILITY_BYTES_MAX: usize = 1024;

/// What a question of a server needs and a client with these `capabilities`, raw, has not declared, as a member of a
/// `capabilities` object; nothing if it can be asked that. Only for methods of a [`Feature`].
pub fn missing(feature: Feature, question: Option<&str>, capabilities: &str) -> Option<&'static str> {
    let question = question.unwrap_or("{}");
    let declared = scan::find(capabilities, feature.name()).map(|span| &capabilities[span]);
    let has = |part| declared.is_some_and(|declared| scan::find(declared, part).is_some());
    match feature {
        Feature::Roots => declared.is_none().then_some("\"roots\":{}"),
        Feature::Sampling if scan::find(question, "tools").is_some() => {
            (!has("tools")).then_some("\"sampling\":{\"tools\":{}}")
        }
        Feature::Sampling => declared.is_none().then_some("\"sampling\":{}"),
        Feature::Elicitation if params::text(question, "mode").as_deref() == Some("url") => {
            (!has("url")).then_some("\"elicitation\":{\"url\":{}}")
        }
        // Who names no kind means forms.
        Feature::Elicitation if declared.is_some() && has("url") => {
            (!has("form")).then_some("\"elicitation\":{\"form\":{}}")
        }
        Feature::Elicitation => declared.is_none().then_some("\"elicitation\":{}"),
    }
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
    fn what_a_client_can_be_asked() {
        assert_eq!(
            carried(r#"{"roots":{"listChanged":true},"x":{},"sampling":{"tools":{} }}"#),
            r#"{"sampling":{"tools":{} },"roots":{}}"#
        );
        assert_eq!(carried("{}"), "{}");
        let long = format!(r#"{{"elicitation":{{"x":"{}"}}}}"#, "y".repeat(2000));
        assert_eq!(carried(&long), r#"{"elicitation":{}}"#);
        #[track_caller]
        fn check(feature: Feature, question: &str, capabilities: &str, expected: &str) {
            let found = missing(feature, Some(question), capabilities).unwrap_or("");
            assert_eq!(found, expected, "{question} {capabilities}");
        }
        use Feature::{Elicitation, Roots, Sampling};
        check(Roots, "{}", r#"{"roots":{}}"#, "");
        check(Roots, "{}", "{}", r#""roots":{}"#);
        check(Sampling, "{}", r#"{"sampling":{}}"#, "");
        check(Sampling, r#"{"tools":[]}"#, r#"{"sampling":{}}"#, r#""sampling":{"tools":{}}"#);
        check(Sampling, r#"{"tools":[]}"#, r#"{"sampling":{"tools":{}}}"#, "");
        check(Sampling, "{}", r#"{"roots":{}}"#, r#""sampling":{}"#);
        check(Elicitation, r#"{"mode":"form"}"#, r#"{"elicitation":{}}"#, "");
        check(Elicitation, "{}", r#"{"elicitation":{"form":{},"url":{}}}"#, "");
        check(Elicitation, "{}", r#"{"elicitation":{"url":{}}}"#, r#""elicitation":{"form":{}}"#);
        check(Elicitation, r#"{"mode":"url"}"#, r#"{"elicitation":{"url":{}}}"#, "");
        check(Elicitation, r#"{"mode":"url"}"#, r#"{"elicitation":{}}"#, r#""elicitation":{"url":{}}"#);
        check(Elicitation, "{}", "{}", r#""elicitation":{}"#);
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
