//! What all servers list, as one list of each kind: which key stands for which entry of which server.
//!
//! Tools and prompts get the server's slug before their names; a name is looked up in a map, never taken apart.
//! Resources keep their URIs, and the first server that lists one owns it.

use crate::base::id::{ServerName, fnv1a};
use crate::base::limits::TOOL_NAME_CHARS_MAX;
use crate::mcp::bridge::tool_to_legacy;
use crate::mcp::envelope;
use crate::mcp::era::Era;
use crate::mcp::items::{Item, Kind, matches_template};
use crate::server::handle::Server;
use crate::server::registry::Registry;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Entries in one page of a list.
pub const PAGE_ITEMS: usize = 1000;

/// One entry under the key that clients see.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub server: Arc<Server>,
    pub item: Item,
    /// Its definition may say what only the modern era can.
    is_modern: bool,
}

/// A snapshot of what all offered servers list, in the order of the config.
#[derive(Debug, Default)]
pub struct Catalogue {
    lists: [List; 4],
}

#[derive(Debug, Default)]
struct List {
    entries: Vec<Entry>,
    by_key: BTreeMap<String, usize>,
}

impl Catalogue {
    pub fn of(servers: &[Arc<Server>]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for server in servers.iter().filter(|server| server.is_offered()) {
            let known = server.known();
            let is_modern = known.greeting.as_ref().is_some_and(|greeting| greeting.era == Era::Modern);
            for kind in Kind::ALL {
                let items = known.list(kind);
                items
                    .iter()
                    .flat_map(|items| items.iter())
                    .for_each(|item| catalogue.add(kind, server, item, is_modern));
            }
        }
        catalogue
    }

    fn add(&mut self, kind: Kind, server: &Arc<Server>, item: &Item, is_modern: bool) {
        let list = &mut self.lists[kind as usize];
        let key = match kind {
            Kind::Tools | Kind::Prompts => list.free_name(server.slug.as_str(), &item.key),
            Kind::Resources | Kind::Templates if list.by_key.contains_key(&item.key) => {
                return log::debug!("{}: {} is listed by another server, too", server.name, item.key);
            }
            Kind::Resources | Kind::Templates => item.key.clone(),
        };
        list.by_key.insert(key.clone(), list.entries.len());
        list.entries.push(Entry { key, server: server.clone(), item: item.clone(), is_modern });
    }

    pub fn find(&self, kind: Kind, key: &str) -> Option<&Entry> {
        let list = &self.lists[kind as usize];
        list.by_key.get(key).map(|index| &list.entries[*index])
    }

    /// Whose a URI is: listed, a template itself (completion asks so), or what a template stands for.
    pub fn owner_of(&self, uri: &str) -> Option<Arc<Server>> {
        let listed = self.find(Kind::Resources, uri).or_else(|| self.find(Kind::Templates, uri));
        let fits = |entry: &&Entry| matches_template(&entry.key, uri);
        let templates = &self.lists[Kind::Templates as usize].entries;
        listed.or_else(|| templates.iter().find(fits)).map(|entry| entry.server.clone())
    }

    pub fn entries(&self, kind: Kind) -> &[Entry] {
        &self.lists[kind as usize].entries
    }

    pub fn keys(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.lists[kind as usize].by_key.keys().map(String::as_str)
    }

    /// The result of the list request from `offset` on, for a client of this era.
    pub fn page(&self, kind: Kind, offset: usize, era: Era) -> String {
        let entries = self.entries(kind);
        let items = entries.iter().map(|entry| {
            let text = match entry.key == entry.item.key {
                true => entry.item.raw.to_string(),
                false => entry.item.renamed(&envelope::quote(&entry.key)),
            };
            match entry.is_modern && era == Era::Legacy && kind == Kind::Tools {
                true => tool_to_legacy(&text).into_owned(),
                false => text,
            }
        });
        page(kind, items, entries.len(), offset)
    }
}

impl List {
    /// Two entries that would get the same name both stay reachable: the later one gets a short hash.
    fn free_name(&self, slug: &str, name: &str) -> String {
        let plain = exposed(slug, name);
        if !self.by_key.contains_key(&plain) {
            return plain;
        }
        let hash = short_hash(&format!("{slug} {name} {}", self.entries.len()));
        let stem: String = plain.chars().take(TOOL_NAME_CHARS_MAX - hash.len() - 1).collect();
        format!("{stem}_{hash}")
    }
}

/// The cursor that a client gave, as an offset; `None` if it is not one of ours.
pub fn offset(cursor: &str) -> Option<usize> {
    cursor.strip_prefix('t')?.parse().ok()
}

fn page(kind: Kind, items: impl Iterator<Item = String>, count: usize, offset: usize) -> String {
    let mut out = format!("{{\"{}\":[", kind.array());
    for (index, item) in items.skip(offset).take(PAGE_ITEMS).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&item);
    }
    out.push(']');
    if offset.saturating_add(PAGE_ITEMS) < count {
        out.push_str(&format!(",\"nextCursor\":\"t{}\"", offset + PAGE_ITEMS));
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
pub struct Announced(Mutex<BTreeMap<Which, Seen>>);

/// One list of one server.
type Which = (ServerName, Kind);

/// What it held, and how often it came into view or went. Also of one that is out of view now: it may have been seen
/// by somebody since the last announcement.
type Seen = (Arc<Vec<Item>>, u64);

impl Announced {
    /// The lists that are others than at the last call.
    pub fn renew(&self, servers: &[Arc<Server>]) -> Vec<Which> {
        let mut announced = self.0.lock();
        let mut changed = Vec::new();
        for (server, kind) in servers.iter().flat_map(|server| Kind::ALL.map(|kind| (server, kind))) {
            let key = (server.name.clone(), kind);
            let known = server.known();
            let Some(items) = known.list(kind) else { continue };
            let same = announced
                .get(&key)
                .is_some_and(|(before, turns)| Arc::ptr_eq(before, &items) && *turns == known.turns);
            if !same {
                announced.insert(key.clone(), (items, known.turns));
                changed.push(key);
            }
        }
        // Those of servers that there are no more.
        let named: BTreeSet<&ServerName> = servers.iter().map(|server| &server.name).collect();
        let (left, gone) =
            std::mem::take(&mut *announced).into_iter().partition(|((name, _), _)| named.contains(name));
        *announced = left;
        let gone: BTreeMap<Which, Seen> = gone;
        changed.extend(gone.into_keys());
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
        let items = || (0..PAGE_ITEMS + 1).map(|n| format!("{{\"name\":\"t{n}\"}}"));
        let page = |offset| page(Kind::Tools, items(), PAGE_ITEMS + 1, offset);
        assert!(page(0).ends_with(&format!("],\"nextCursor\":\"t{PAGE_ITEMS}\"}}")));
        assert_eq!(page(PAGE_ITEMS), format!("{{\"tools\":[{{\"name\":\"t{PAGE_ITEMS}\"}}]}}"));
        assert_eq!(page(usize::MAX), "{\"tools\":[]}");
        assert_eq!((offset("t12"), offset("12"), offset("t-1"), offset("")), (Some(12), None, None, None));
    }
}
