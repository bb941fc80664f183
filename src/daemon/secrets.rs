//! Which values of the config must not be read in a log: those that are called a secret, what a URL hides, and what stands
//! in headers. Resolved anew each time, as they are when a life is launched.

use crate::base::redact::{self, Secrets};
use crate::config::{Hook, Launch, ServerConfig, Template};

/// Of what the entry gives its server.
pub fn of_server(entry: &ServerConfig) -> Secrets {
    let mut found = Found::default();
    match &entry.launch {
        Launch::Process { command: _, args, env, working_dir: _ } => {
            found.pairs(env);
            found.args(args);
        }
        Launch::Remote { url, headers, protocol: _ } => {
            found.look("", url);
            let secret = headers.iter().filter(|(name, _)| !is_public(name));
            secret.for_each(|(_, value)| found.header(value));
        }
        Launch::Unsupported => {}
    }
    if let Some(isolation) = &entry.isolation {
        found.pairs(&isolation.env);
    }
    Secrets::new(found.0)
}

/// Of what the config gives the command for events.
pub fn of_hook(hook: &Hook) -> Secrets {
    let mut found = Found::default();
    found.pairs(&hook.env);
    found.args(&hook.args);
    Secrets::new(found.0)
}

/// Headers that say what is spoken, and whose values are words of every log.
fn is_public(header: &str) -> bool {
    const NAMES: [&str; 5] = ["content-type", "user-agent", "origin", "referer", "mcp-protocol-version"];
    let name = header.to_ascii_lowercase();
    name.starts_with("accept") || NAMES.contains(&name.as_str())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn pairs(&mut self, pairs: &[(String, Template)]) {
        pairs.iter().for_each(|(name, value)| self.look(name, value));
    }

    /// A value that is called so. A variable that is missing gives none, and no start.
    fn look(&mut self, name: &str, template: &Template) {
        let Ok(value) = template.resolve(variable) else { return };
        self.0.extend(redact::in_urls(&value));
        self.0.extend(template.variables().filter(|name| redact::is_secret_name(name)).filter_map(variable));
        if redact::is_secret_name(name) {
            self.0.push(value);
        }
    }

    /// `--token x`, and `--token=x` or `-e TOKEN=x`, of which the value is looked for alone.
    fn args(&mut self, args: &[Template]) {
        let mut before = "";
        for arg in args {
            let raw = arg.raw();
            self.look(if before.starts_with('-') && !before.contains('=') { before } else { "" }, arg);
            if let Some((name, value)) = raw.split_once('=')
                && let Ok(value) = Template::parse(value)
            {
                self.look(name, &value);
            }
            before = raw;
        }
    }

    /// Whatever it is called: its value never shows; nor does what follows a scheme in it.
    fn header(&mut self, value: &Template) {
        let Ok(value) = value.resolve(variable) else { return };
        self.0.extend(value.split_once(' ').map(|(_, token)| token.to_owned()));
        self.0.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_must_not_show() {
        let text = r#"{ "mcpServers": {
            "here": { "command": "x", "env": { "API_KEY": "key-of-the-api", "LANG": "en_US.UTF-8",
                "DB": "postgres://me:pass-of-db@host/x" }, "args": ["--token", "token-of-args", "--secret=secret-of-args",
                "--name", "name-of-args", "-v"] },
            "there": { "url": "https://host/mcp?token=token-of-url", "headers": { "X": "Bearer token-of-header",
                "Accept": "application/json" } } } }"#;
        let (config, _) = crate::config::parse(text, "mcp.json");
        let hidden = |n: usize, text: &str| of_server(&config.servers[n]).hide(text).into_owned();
        let here = "key-of-the-api en_US.UTF-8 pass-of-db token-of-args secret-of-args name-of-args";
        assert_eq!(hidden(0, here), "*** en_US.UTF-8 *** *** *** name-of-args");
        assert_eq!(hidden(1, "token-of-url token-of-header application/json"), "*** *** application/json");
    }
}
