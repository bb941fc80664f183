//! Whose a container says it is: ours by our labels, or another tool's by theirs.
//!
//! Other tools' labels are only read, never written, and only when somebody asks for them.

use super::judge_container::Tool;
use super::labels::Labels;
use std::collections::BTreeMap;

/// What is read from a container's labels. Our labels outweigh those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Badge {
    Ours(Labels),
    Theirs(Theirs),
}

/// The labels of another tool, as far as it has them. They name no host, no boot and no start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theirs {
    pub tool: Tool,
    /// mcpmon's session, mcpproxy's instance.
    pub session: String,
    pub server: String,
    pub pid: Option<u32>,
    pub started_ms: Option<u64>,
}

impl Badge {
    /// The label that is `true` on everything of that tool.
    pub fn managed_by(tool: Tool) -> &'static str {
        match tool {
            Tool::Mcpmon => "mcpmon.managed",
            Tool::Mcpproxy => "com.mcpproxy.managed",
        }
    }

    /// `None` if it is neither ours nor of one of `tools`.
    pub fn read(labels: &BTreeMap<String, String>, tools: &[Tool]) -> Option<Badge> {
        if let Some(labels) = Labels::read(labels) {
            return Some(Badge::Ours(labels));
        }
        let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let is_of = |tool: &&Tool| text(Badge::managed_by(**tool)) == "true";
        let theirs = tools.iter().find(is_of).map(|tool| match tool {
            Tool::Mcpmon => Theirs {
                tool: *tool,
                session: text("mcpmon.session"),
                server: String::new(),
                pid: text("mcpmon.pid").parse().ok(),
                started_ms: text("mcpmon.started").parse().ok(),
            },
            // `created` is the pid, against its name.
            Tool::Mcpproxy => Theirs {
                tool: *tool,
                session: text("com.mcpproxy.instance"),
                server: text("com.mcpproxy.server"),
                pid: text("com.mcpproxy.created").parse().ok(),
                started_ms: None,
            },
        });
        theirs.map(Badge::Theirs)
    }

    pub fn server(&self) -> &str {
        match self {
            Badge::Ours(labels) => &labels.server,
            Badge::Theirs(theirs) => &theirs.server,
        }
    }

    pub fn session(&self) -> &str {
        match self {
            Badge::Ours(labels) => &labels.session,
            Badge::Theirs(theirs) => &theirs.session,
        }
    }

    pub fn instance(&self) -> Option<&str> {
        match self {
            Badge::Ours(labels) => Some(&labels.instance),
            Badge::Theirs(_) => None,
        }
    }

    pub fn pid(&self) -> Option<u32> {
        match self {
            Badge::Ours(labels) => labels.owner.as_ref().map(|owner| owner.pid),
            Badge::Theirs(theirs) => theirs.pid,
        }
    }

    /// Milliseconds since 1970.
    pub fn started_ms(&self) -> Option<u64> {
        match self {
            Badge::Ours(labels) => Some(labels.started_ms).filter(|ms| *ms > 0),
            Badge::Theirs(theirs) => theirs.started_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn of_other_tools_only_when_asked() {
        let mcpmon = [
            ("mcpmon.managed", "true"),
            ("mcpmon.session", "a1b2"),
            ("mcpmon.pid", "12345"),
            ("mcpmon.started", "1672531200000"),
        ];
        let theirs = Theirs {
            tool: Tool::Mcpmon,
            session: "a1b2".to_owned(),
            server: String::new(),
            pid: Some(12345),
            started_ms: Some(1_672_531_200_000),
        };
        assert_eq!(Badge::read(&map(&mcpmon), &[Tool::Mcpproxy, Tool::Mcpmon]), Some(Badge::Theirs(theirs)));
        assert_eq!(Badge::read(&map(&mcpmon), &[Tool::Mcpproxy]), None);
        let mcpproxy = [
            ("com.mcpproxy.managed", "true"),
            ("com.mcpproxy.instance", "u-u"),
            ("com.mcpproxy.server", "git"),
            ("com.mcpproxy.created", "77"),
        ];
        let theirs = Theirs {
            tool: Tool::Mcpproxy,
            session: "u-u".to_owned(),
            server: "git".to_owned(),
            pid: Some(77),
            started_ms: None,
        };
        assert_eq!(Badge::read(&map(&mcpproxy), &[Tool::Mcpproxy]), Some(Badge::Theirs(theirs)));
        assert_eq!(Badge::read(&map(&mcpproxy), &[]), None);
    }

    #[test]
    fn ours_outweigh() {
        let both = [
            ("mcpmon.managed", "true"),
            ("mcpvisor.managed", "true"),
            ("mcpvisor.instance", "i"),
            ("mcpvisor.session", "s"),
        ];
        let badge = Badge::read(&map(&both), &[Tool::Mcpmon]).unwrap();
        assert_eq!((badge.instance(), badge.session(), badge.pid()), (Some("i"), "s", None));
        assert_eq!(Badge::read(&map(&both[1..3]), &[Tool::Mcpmon]), None);
    }
}
