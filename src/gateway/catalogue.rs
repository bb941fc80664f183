//! The tools of all servers as one list: which name stands for which tool of which server.
//!
//! A name is looked up in a map, never taken apart. Two tools that would get the same name both stay callable: the
//! later one gets a short hash.

use crate::base::id::{ServerName, fnv1a};
use crate::base::limits::TOOL_NAME_CHARS_MAX;
use crate::mcp::envelope;
use crate::mcp::tools::Tool;
use crate::server::handle::Server;
use crate::server::registry::Registry;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tools in one page of `tools/list`.
pub const PAGE_TOOLS: usize = 1000;

/// One tool under the name that clients see.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub server: Arc<Server>,
    pub tool: Tool,
}

/// A snapshot of what all offered servers list, in the order of the config.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub entries: Vec<Entry>,
    by_name: BTreeMap<String, usize>,
}

impl Catalogue {
    pub fn of(servers: &[Arc<Server>]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for server in servers.iter().filter(|server| server.is_offered()) {
            let Some(tools) = server.known().tools else { continue };
            for tool in tools.iter() {
                let name = catalogue.free_name(server.slug.as_str(), &tool.name);
                catalogue.by_name.insert(name.clone(), catalogue.entries.len());
                catalogue.entries.push(Entry { name, server: server.clone(), tool: tool.clone() });
            }
        }
        catalogue
    }

    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|index| &self.entries[*index])
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The result of `tools/list` from `offset` on.
    pub fn page(&self, offset: usize) -> String {
        let tools = self.entries.iter().map(|entry| entry.tool.renamed(&envelope::quote(&entry.name)));
        page(tools, self.entries.len(), offset)
    }

    fn free_name(&self, slug: &str, tool: &str) -> String {
        let plain = exposed(slug, tool);
        if !self.by_name.contains_key(&plain) {
            return plain;
        }
        let hash = short_hash(&format!("{slug} {tool} {}", self.entries.len()));
        let stem: String = plain.chars().take(TOOL_NAME_CHARS_MAX - hash.len() - 1).collect();
        format!("{stem}_{hash}")
    }
}

/// The tools of one server under their own names.
pub fn own_page(tools: &[Tool], offset: usize) -> String {
    page(tools.iter().map(|tool| tool.raw.to_string()), tools.len(), offset)
}

/// The cursor that a client gave, as an offset; `None` if it is not one of ours.
pub fn offset(cursor: &str) -> Option<usize> {
    cursor.strip_prefix('t')?.parse().ok()
}

fn page(tools: impl Iterator<Item = String>, count: usize, offset: usize) -> String {
    let mut out = String::from("{\"tools\":[");
    for (index, tool) in tools.skip(offset).take(PAGE_TOOLS).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&tool);
    }
    out.push(']');
    if offset.saturating_add(PAGE_TOOLS) < count {
        out.push_str(&format!(",\"nextCursor\":\"t{}\"", offset + PAGE_TOOLS));
    }
    out.push('}');
    out
}

/// `server__tool`, of `[A-Za-z0-9_-]` and at most 64 characters: what every client accepts.
fn exposed(slug: &str, tool: &str) -> String {
    let full = format!("{slug}__{tool}");
    let clean: String = full
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .collect();
    if clean == full && clean.len() <= TOOL_NAME_CHARS_MAX {
        return clean;
    }
    let hash = short_hash(&full);
    let stem: String = clean.chars().take(TOOL_NAME_CHARS_MAX - hash.len() - 1).collect();
    format!("{stem}_{hash}")
}

fn short_hash(text: &str) -> String {
    format!("{:016x}", fnv1a(text.as_bytes()))[..6].to_owned()
}

/// The catalogue, built again when the lists have changed.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Option<(u64, Arc<Catalogue>)>>);

impl Cache {
    pub fn get(&self, servers: &Registry, lists: u64) -> Arc<Catalogue> {
        let mut cached = self.0.lock();
        if let Some((version, catalogue)) = &*cached
            && *version == lists
        {
            return catalogue.clone();
        }
        let catalogue = Arc::new(Catalogue::of(&servers.all()));
        *cached = Some((lists, catalogue.clone()));
        catalogue
    }
}

/// What was listed when it was last announced, so that only those hear of a change whom it concerns.
#[derive(Debug, Default)]
pub struct Announced(Mutex<BTreeMap<ServerName, Arc<Vec<Tool>>>>);

impl Announced {
    /// The servers whose list is another one than at the last call.
    pub fn renew(&self, servers: &[Arc<Server>]) -> Vec<ServerName> {
        let mut announced = self.0.lock();
        let mut changed = Vec::new();
        for server in servers {
            let now = server.known().tools.filter(|_| server.is_offered());
            let same = match (announced.get(&server.name), &now) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if same {
                continue;
            }
            changed.push(server.name.clone());
            match now {
                Some(tools) => announced.insert(server.name.clone(), tools),
                None => announced.remove(&server.name),
            };
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_names() {
        assert_eq!(exposed("git", "git_status"), "git__git_status");
        let dotted = exposed("git", "status.all");
        assert!(dotted.starts_with("git__status_all_") && dotted.len() == 22, "{dotted}");
        assert_ne!(exposed("git", "a.b"), exposed("git", "a/b"));
        let long = exposed("a-long-server-name", &"x".repeat(80));
        assert_eq!(long.len(), TOOL_NAME_CHARS_MAX);
        assert_ne!(long, exposed("a-long-server-name", &"x".repeat(81)));
    }

    #[test]
    fn pages() {
        let tool = |n: usize| Tool::new(&format!("{{\"name\":\"t{n}\"}}")).unwrap();
        let tools: Vec<Tool> = (0..PAGE_TOOLS + 1).map(tool).collect();
        let first = own_page(&tools, 0);
        assert!(first.ends_with(&format!("],\"nextCursor\":\"t{PAGE_TOOLS}\"}}")));
        assert_eq!(own_page(&tools, PAGE_TOOLS), format!("{{\"tools\":[{{\"name\":\"t{PAGE_TOOLS}\"}}]}}"));
        assert_eq!(own_page(&tools, usize::MAX), "{\"tools\":[]}");
        assert_eq!((offset("t12"), offset("12"), offset("t-1"), offset("")), (Some(12), None, None, None));
    }
}
