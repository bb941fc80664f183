//! A server that is started by a call, and stopped when none came for a while: when it may sleep, and what is known of it
//! meanwhile.

use super::face::Known;
use super::handle::Needed;
use super::link::Link;
use crate::base::id::{Life, ServerName};
use crate::base::time::Time;
use crate::mcp::era::Era;
use crate::mcp::handshake::Greeting;
use crate::mcp::items::{Item, Kind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Watches one server for idleness. It costs a call nothing: twice in the span it is looked how many calls there were.
#[derive(Clone)]
pub struct Sleep {
    after: Duration,
    needed: Arc<Needed>,
    seen: Option<Seen>,
}

/// The last look.
#[derive(Clone, Copy)]
struct Seen {
    life: Life,
    uses: u64,
    /// When it was first seen to be so.
    since: Time,
    next: Time,
}

impl Sleep {
    /// `after`: so long without a call.
    pub fn new(after: Duration, needed: Arc<Needed>) -> Sleep {
        Sleep { after, needed, seen: None }
    }

    /// When to look again; `None` while nothing of it lives.
    pub fn next_look(&self) -> Option<Time> {
        self.seen.map(|seen| seen.next)
    }

    /// Looks at the life that is ready, if any. `true`: it had no call for long enough, and will have no more.
    pub fn look(&mut self, name: &ServerName, link: Option<&Link>, now: Time) -> bool {
        let Some(link) = link else {
            self.seen = None;
            return false;
        };
        if self.seen.is_some_and(|seen| seen.life == link.life && seen.next > now) {
            return false;
        }
        let (life, uses) = (link.life, link.uses());
        let busy = link.waiting() > 0 || (self.needed)(name);
        let same = self.seen.filter(|seen| !busy && (seen.life, seen.uses) == (life, uses));
        let since = same.map_or(now, |seen| seen.since);
        self.seen = Some(Seen { life, uses, since, next: now + self.after / 2 });
        now.since(since) >= self.after && link.leave(uses)
    }
}

/// What is kept of a server that sleeps, as JSON: its greeting and lists, each byte as it came.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    /// Stands for the entry.
    entry: u64,
    era: Era,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    greeting: &'a RawValue,
    /// By kind, in the order of `Kind::ALL`.
    #[serde(borrow)]
    lists: [Option<Vec<&'a RawValue>>; 4],
}

/// The JSON text of what a server said of itself; `None` if that is not all known.
pub fn keep(entry: u64, known: &Known) -> Option<String> {
    let greeting = known.greeting.as_ref()?;
    known.has_listed().then_some(())?;
    let lists = Kind::ALL.map(|kind| known.list(kind));
    let kept = Kept {
        entry,
        era: greeting.era,
        version: Cow::Borrowed(&greeting.version),
        greeting: raw(&greeting.raw)?,
        lists: lists
            .each_ref()
            .map(|list| Some(list.as_ref()?.iter().filter_map(|item| raw(&item.raw)).collect())),
    };
    serde_json::to_string(&kept).ok()
}

/// The same read back; nothing if it is of another entry, or cannot be read.
pub fn recall(json: &str, entry: u64) -> Option<Known> {
    let kept: Kept<'_> = serde_json::from_str(json).ok().filter(|kept: &Kept<'_>| kept.entry == entry)?;
    let greeting =
        Greeting { era: kept.era, version: kept.version.into_owned(), raw: kept.greeting.get().into() };
    let mut lists = kept.lists;
    let lists = Kind::ALL.map(|kind| {
        let items = lists[kind as usize].take()?;
        Some(items.into_iter().filter_map(|raw| Item::new(kind, raw.get())).collect())
    });
    Some(Known::new(greeting, lists))
}

/// What came as JSON and passes as it is.
fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let greeting = Greeting {
            era: Era::Legacy,
            version: "2025-11-25".to_owned(),
            raw: r#"{ "capabilities":{"tools":{}} ,"big":1e400}"#.into(),
        };
        let tool = Item::new(Kind::Tools, r#"{"name":"a" , "inputSchema":{"x":1.0}}"#).unwrap();
        Known::new(greeting, [Some(vec![tool]), None, Some(Vec::new()), None])
    }

    #[test]
    fn what_is_kept_comes_back_byte_by_byte() {
        let json = keep(7, &known()).unwrap();
        let back = recall(&json, 7).unwrap();
        assert_eq!(back.greeting, known().greeting);
        for kind in Kind::ALL {
            assert_eq!(back.list(kind), known().list(kind), "{kind:?}");
        }
        assert!(recall(&json, 8).is_none(), "another entry");
        assert!(recall("{", 7).is_none());
        assert_eq!(keep(7, &Known::default()), None);
    }
}
