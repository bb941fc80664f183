//! The tools: what they are called, what they take, what they say. No I/O but the questions that a tool asks.

use super::switches::Switches;
use crate::sys::clock;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What a call comes to.
pub enum Outcome {
    Text(String),
    /// The tool was called wrongly: told to the model, which can do better.
    Mistake(String),
    Sleep {
        span: Duration,
        /// Progress notifications on the way; 0 = none.
        steps: u64,
    },
    Exit(u8),
    Signal(i32),
    GoDeaf,
    ChangeTools,
    Stats,
}

/// The tools of one server; `change_tools` makes it longer.
pub struct Tools {
    list: Vec<Value>,
    big_bytes: u64,
    added: usize,
}

impl Tools {
    pub fn new(switches: &Switches) -> Tools {
        let mut list = vec![
            tool("echo", "Says the text back", &[("text", "string", true)]),
            tool("add", "Adds two numbers", &[("a", "number", true), ("b", "number", true)]),
            tool("time", "Tells the time in UTC", &[]),
            tool(
                "sleep",
                "Answers after a while, with progress on the way",
                &[("ms", "integer", true), ("progress", "integer", false)],
            ),
            tool("env", "Tells an environment variable of this server", &[("name", "string", true)]),
            tool("pid", "Tells the process id of this server", &[]),
        ];
        let mut add_if = |wanted: bool, name: &str, what: &str, args: &[(&str, &str, bool)]| {
            if wanted {
                list.push(tool(name, what, args));
            }
        };
        let die = [("code", "integer", false), ("signal", "integer", false)];
        add_if(switches.die_in_call, "die", "Ends this server without an answer", &die);
        add_if(switches.deaf.is_some(), "go_deaf", "Is the last call that is heard", &[]);
        add_if(switches.big.is_some(), "big", "Sends that many bytes", &[("bytes", "integer", false)]);
        add_if(switches.change_tools, "change_tools", "Adds a tool", &[]);
        add_if(switches.stats, "stats", "Tells the calls and cancellations seen", &[]);
        for n in 1..=switches.tools {
            add_if(true, &format!("extra_{n}"), "Says its name", &[]);
        }
        Tools { list, big_bytes: switches.big.unwrap_or(0), added: 0 }
    }

    pub fn list(&self) -> &[Value] {
        &self.list
    }

    /// One more tool, `added_N`.
    pub fn add_one(&mut self) -> String {
        self.added += 1;
        let name = format!("added_{}", self.added);
        self.list.push(tool(&name, "Says its name", &[]));
        name
    }

    /// `None`: there is no such tool.
    pub fn call(&self, name: &str, args: &Map<String, Value>) -> Option<Outcome> {
        self.list.iter().find(|tool| tool["name"] == name)?;
        Some(self.outcome(name, args).unwrap_or_else(Outcome::Mistake))
    }

    fn outcome(&self, name: &str, args: &Map<String, Value>) -> Result<Outcome, String> {
        Ok(match name {
            "echo" => Outcome::Text(text(args, "text")?.to_owned()),
            "add" => Outcome::Text(sum(args)?),
            "time" => Outcome::Text(clock::wall().rfc3339()),
            "sleep" => Outcome::Sleep {
                span: Duration::from_millis(whole(args, "ms")?.ok_or("`ms` is missing")?),
                steps: whole(args, "progress")?.unwrap_or(0),
            },
            "env" => {
                let name = text(args, "name")?;
                match std::env::var_os(name) {
                    Some(value) => Outcome::Text(value.to_string_lossy().into_owned()),
                    None => Outcome::Mistake(format!("{name} is not set")),
                }
            }
            "pid" => Outcome::Text(std::process::id().to_string()),
            "die" => match whole(args, "signal")? {
                Some(signal) => Outcome::Signal(signal.try_into().map_err(|_| "`signal` is too large")?),
                None => Outcome::Exit(
                    whole(args, "code")?.unwrap_or(1).try_into().map_err(|_| "`code` is more than 255")?,
                ),
            },
            "go_deaf" => Outcome::GoDeaf,
            "big" => big(whole(args, "bytes")?.unwrap_or(self.big_bytes))?,
            "change_tools" => Outcome::ChangeTools,
            "stats" => Outcome::Stats,
            own_name => Outcome::Text(own_name.to_owned()),
        })
    }
}

/// 1 GiB: enough to pass every limit of ours.
const BIG_BYTES_MAX: u64 = 1 << 30;

fn big(bytes: u64) -> Result<Outcome, String> {
    if bytes > BIG_BYTES_MAX {
        return Err(format!("`bytes` is more than {BIG_BYTES_MAX}"));
    }
    Ok(Outcome::Text("x".repeat(bytes as usize)))
}

fn tool(name: &str, description: &str, args: &[(&str, &str, bool)]) -> Value {
    let properties: Map<String, Value> =
        args.iter().map(|(name, kind, _)| ((*name).to_owned(), json!({ "type": kind }))).collect();
    let required: Vec<&str> =
        args.iter().filter(|(.., required)| *required).map(|(name, ..)| *name).collect();
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    json!({ "name": name, "description": description, "inputSchema": schema })
}

fn text<'a>(args: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    args.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` must be a string"))
}

fn whole(args: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = args.get(name) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| format!("`{name}` must be a whole number, not negative"))
}

fn sum(args: &Map<String, Value>) -> Result<String, String> {
    let get = |name: &str| args.get(name).ok_or_else(|| format!("`{name}` is missing"));
    let (a, b) = (get("a")?, get("b")?);
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(sum.to_string());
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => Ok((a + b).to_string()),
        _ => Err("`a` and `b` must be numbers".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, args: Value, expected: &str) {
        let tools = Tools::new(&Switches::default());
        let said = match tools.call(name, args.as_object().unwrap()) {
            Some(Outcome::Text(text)) => text,
            Some(Outcome::Mistake(text)) => format!("mistake: {text}"),
            Some(Outcome::Sleep { span, steps }) => format!("sleep {span:?} in {steps} steps"),
            Some(_) => "other".to_owned(),
            None => "no such tool".to_owned(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn calls() {
        check("echo", json!({"text": "hé\n"}), "hé\n");
        check("echo", json!({"text": 3}), "mistake: `text` must be a string");
        check("add", json!({"a": 2, "b": -3}), "-1");
        check("add", json!({"a": 2.5, "b": 3}), "5.5");
        check("add", json!({"a": i64::MAX, "b": i64::MAX}), "18446744073709552000");
        check("add", json!({"a": "2", "b": 3}), "mistake: `a` and `b` must be numbers");
        check("add", json!({"a": 2}), "mistake: `b` is missing");
        check("sleep", json!({"ms": 20, "progress": 2}), "sleep 20ms in 2 steps");
        check("sleep", json!({"ms": -1}), "mistake: `ms` must be a whole number, not negative");
        check("env", json!({"name": "NO_SUCH_NAME"}), "mistake: NO_SUCH_NAME is not set");
        check("die", json!({}), "no such tool");
    }
}
