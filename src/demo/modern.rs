//! The other era, 2026-07-28: no greeting but `server/discover`, and every request says who asks.

use super::server::Refusal;
use super::switches::{Discover, Speaks, Switches};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const VERSION: &str = "2026-07-28";
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

const INVALID_PARAMS: i32 = -32602;
const UNSUPPORTED_VERSION: i32 = -32022;

/// The era of this process, once its first request has decided it, and who listens.
pub struct Modern {
    speaks: Speaks,
    discover: Option<Discover>,
    /// Ids of open `subscriptions/listen`, raw.
    listening: Vec<String>,
}

/// What is to be done with a request.
pub enum Judgement {
    Legacy,
    Modern,
    Refused(Refusal),
    Silent,
    Exit,
}

impl Modern {
    pub fn new(switches: &Switches) -> Modern {
        Modern { speaks: switches.era, discover: switches.discover, listening: Vec::new() }
    }

    pub fn judge(&mut self, method: &str, params: Option<&RawValue>) -> Judgement {
        let meta = params.and_then(|params| serde_json::from_str::<Value>(params.get()).ok());
        let meta = meta.map(|params| params["_meta"].clone()).unwrap_or_default();
        let claim = meta[VERSION_KEY].as_str();
        if method == "server/discover" {
            match self.discover {
                Some(Discover::Silent) => return Judgement::Silent,
                Some(Discover::Exit) => return Judgement::Exit,
                Some(Discover::Again) => {
                    self.discover = None;
                    return Judgement::Refused(unsupported(claim, VERSION));
                }
                Some(Discover::Refuse) => return Judgement::Refused(unsupported(claim, "2099-01-01")),
                Some(Discover::Earlier | Discover::Later | Discover::Nonsense) | None => (),
            }
        }
        if self.speaks == Speaks::Either {
            self.speaks = if claim.is_some() { Speaks::Modern } else { Speaks::Legacy };
        }
        let odd = method == "server/discover" && self.discover.is_some();
        match (self.speaks, claim) {
            (Speaks::Legacy, _) if !odd => Judgement::Legacy,
            _ if odd => Judgement::Modern,
            (_, Some(VERSION)) if meta[CAPABILITIES_KEY].is_object() => Judgement::Modern,
            (_, Some(VERSION)) => Judgement::Refused(missing(CAPABILITIES_KEY)),
            (_, Some(_)) => Judgement::Refused(unsupported(claim, VERSION)),
            (_, None) if method == "initialize" => Judgement::Refused(unsupported(claim, VERSION)),
            (_, None) => Judgement::Refused(missing(VERSION_KEY)),
        }
    }

    pub fn discover(&self, change_tools: bool) -> Result<Value, Refusal> {
        let versions = match self.discover {
            Some(Discover::Earlier) => json!(["2025-11-25", "2025-06-18"]),
            Some(Discover::Later) => json!(["2099-01-01"]),
            Some(Discover::Nonsense) => return Ok(json!({ "hello": "world" })),
            _ => json!([VERSION]),
        };
        let result = json!({
            "supportedVersions": versions,
            "capabilities": { "tools": { "listChanged": change_tools } },
            "instructions": "A few tools to see mcpvisor work: try echo, add or time.",
        });
        let info = json!({ "name": "mcpvisor-demo", "version": env!("CARGO_PKG_VERSION") });
        let mut result = complete(result, true);
        result["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": info });
        Ok(result)
    }

    /// The acknowledgement of a `subscriptions/listen`.
    pub fn listen(&mut self, id: &str, params: Option<&RawValue>) -> String {
        let params = params.and_then(|params| serde_json::from_str::<Value>(params.get()).ok());
        let honoured = params.map(|params| params["notifications"].clone()).unwrap_or_default();
        self.listening.push(id.to_owned());
        let params = json!({ "notifications": honoured, "_meta": subscription(id) });
        format!(r#""method":"notifications/subscriptions/acknowledged","params":{params}"#)
    }

    pub fn cancelled(&mut self, id: &str) {
        self.listening.retain(|open| open != id);
    }

    /// The params of a notification to everybody who listens; in the other era one without.
    pub fn listeners(&self) -> Vec<Option<String>> {
        match self.speaks {
            Speaks::Modern => {
                let params = |id: &String| json!({ "_meta": subscription(id) }).to_string();
                self.listening.iter().map(params).map(Some).collect()
            }
            Speaks::Legacy | Speaks::Either => vec![None],
        }
    }

    /// A result as this process's era has it.
    pub fn said(&self, result: Value) -> Value {
        if self.speaks == Speaks::Modern { complete(result, false) } else { result }
    }
}

/// A whole result, which may not be kept.
pub fn complete(mut result: Value, cacheable: bool) -> Value {
    result["resultType"] = "complete".into();
    if cacheable {
        result["ttlMs"] = 0.into();
        result["cacheScope"] = "private".into();
    }
    result
}

fn subscription(id: &str) -> Value {
    let id: Value = serde_json::from_str(id).expect("it was read from JSON");
    json!({ "io.modelcontextprotocol/subscriptionId": id })
}

fn missing(key: &str) -> Refusal {
    Refusal { code: INVALID_PARAMS, message: format!("`_meta` lacks `{key}`"), data: None }
}

fn unsupported(claim: Option<&str>, supported: &str) -> Refusal {
    let data = json!({ "supported": [supported], "requested": claim });
    let message = "unsupported protocol version".to_owned();
    Refusal { code: UNSUPPORTED_VERSION, message, data: Some(data) }
}
