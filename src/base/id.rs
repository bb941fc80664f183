//! Names and numbers that identify things. No naked strings or integers cross a module border.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A server's name, exactly as the config spells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerName(pub String);

impl ServerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ServerName {
    fn from(name: &str) -> ServerName {
        ServerName(name.to_owned())
    }
}

/// A server's name as files, URLs, tool prefixes and containers can carry it: `[a-z0-9-]`, 1 to 40 characters.
///
/// A name that had to be changed gets a short hash, so that two names never share a slug by accident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Slug(String);

impl Slug {
    /// Characters in a slug, hash included.
    pub const CHARS_MAX: usize = 40;
    const HASH_CHARS: usize = 6;

    pub fn of(name: &str) -> Slug {
        let mut plain = String::with_capacity(name.len());
        for c in name.chars() {
            match c {
                'a'..='z' | '0'..='9' => plain.push(c),
                'A'..='Z' => plain.push(c.to_ascii_lowercase()),
                _ if plain.ends_with('-') => (),
                _ => plain.push('-'),
            }
        }
        let plain = plain.trim_matches('-').to_owned();
        if plain == name && !plain.is_empty() && plain.len() <= Slug::CHARS_MAX {
            return Slug(plain);
        }
        let keep = plain.len().min(Slug::CHARS_MAX - Slug::HASH_CHARS - 1);
        let stem = plain[..keep].trim_end_matches('-');
        let hash = fnv1a(name.as_bytes());
        let hash = format!("{hash:016x}");
        let hash = &hash[..Slug::HASH_CHARS];
        Slug(if stem.is_empty() { hash.to_owned() } else { format!("{stem}-{hash}") })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// FNV-1a, 64 bits: short names from long ones. Not for anything an attacker may choose to collide.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// One incarnation of a server. Process-wide, never reused; every event about a process carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Life(pub u64);

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The JSON-RPC id that we use toward an upstream server: small, positive, never reused within a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        #[track_caller]
        fn check(name: &str, slug: &str) {
            assert_eq!(Slug::of(name).as_str(), slug);
        }
        check("time", "time");
        check("my-server-2", "my-server-2");
        check("Time", "time-48e186");
        check("@scope/pkg", "scope-pkg-adedb1");
        check("", "cbf29c");
        check("é", "0ac217");
        check(&"a".repeat(40), &"a".repeat(40));
        assert_eq!(Slug::of(&"a".repeat(41)).as_str().len(), 40);
        assert_ne!(Slug::of("a.b"), Slug::of("a-b"));
    }
}
