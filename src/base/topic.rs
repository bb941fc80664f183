//! The names of events: what `GET /events` sends as `event:`, and what a hook may be given. A closed list; a name never
//! changes its meaning. `docs/events.md` says what each carries.

use crate::base::text::nearest;
use std::collections::BTreeSet;

/// What an event is about, and what happened there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A server's state is another one.
    ServerState,
    /// It is elsewhere within its state: how far a start or a stop is, why it waits.
    ServerPhase,
    /// Another life is to take over from the one that serves (`overlap`): it begins, takes over, fails; the other is gone.
    ServerSwitch,
    /// An engine was heard for the first time.
    EngineUp,
    /// An outage has begun, or its cause is another one.
    EngineAway,
    /// It answers again; those who live on it come back.
    EngineRecovering,
    /// An outage is over: all are back, or were given up.
    EngineRecovered,
    /// Its event stream ended, and it answered at once: no outage.
    EngineReconnected,
    ConfigLoaded,
    ConfigRefused,
}

impl Topic {
    pub const ALL: [Topic; 10] = [
        Topic::ServerState,
        Topic::ServerPhase,
        Topic::ServerSwitch,
        Topic::EngineUp,
        Topic::EngineAway,
        Topic::EngineRecovering,
        Topic::EngineRecovered,
        Topic::EngineReconnected,
        Topic::ConfigLoaded,
        Topic::ConfigRefused,
    ];

    /// The API's word: a family, a dot, and the rest.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::ServerState => "server.state",
            Topic::ServerPhase => "server.phase",
            Topic::ServerSwitch => "server.switch",
            Topic::EngineUp => "engine.up",
            Topic::EngineAway => "engine.away",
            Topic::EngineRecovering => "engine.recovering",
            Topic::EngineRecovered => "engine.recovered",
            Topic::EngineReconnected => "engine.reconnected",
            Topic::ConfigLoaded => "config.loaded",
            Topic::ConfigRefused => "config.refused",
        }
    }

    fn family(self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }
}

/// Some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics(BTreeSet<Topic>);

impl Topics {
    pub fn all() -> Topics {
        Topics(Topic::ALL.into())
    }

    /// From names (`engine.away`) and families (`engine`). The error is what to write instead.
    pub fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<Topics, String> {
        let mut topics = BTreeSet::new();
        for word in words {
            let family = word.strip_suffix(".*").unwrap_or(word);
            let is_meant = |one: &Topic| one.name() == word || one.family() == family;
            if !Topic::ALL.iter().any(is_meant) {
                return Err(unknown(word));
            }
            topics.extend(Topic::ALL.into_iter().filter(is_meant));
        }
        Ok(Topics(topics))
    }

    pub fn contains(&self, topic: Topic) -> bool {
        self.0.contains(&topic)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<T: IntoIterator<Item = Topic>>(topics: T) -> Topics {
        Topics(topics.into_iter().collect())
    }
}

fn unknown(word: &str) -> String {
    let names = Topic::ALL.map(Topic::name);
    // A long word is no slip of the finger, and comparing it would be slow.
    match (word.len() <= 64).then(|| nearest(word, names)).flatten() {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of: {}; or a family: server, engine", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_families() {
        #[track_caller]
        fn check(text: &str, expected: Result<&[Topic], &str>) {
            let read = Topics::read(text.split(',').filter(|word| !word.is_empty()));
            let expected = expected.map(|topics| topics.iter().copied().collect::<Topics>());
            assert_eq!(read, expected.map_err(str::to_owned), "{text}");
        }
        check("", Ok(&[]));
        check("engine.away", Ok(&[Topic::EngineAway]));
        check("engine.away,engine.away", Ok(&[Topic::EngineAway]));
        let server = [Topic::ServerState, Topic::ServerPhase, Topic::ServerSwitch];
        check("server", Ok(&server));
        let [state, phase, switch] = server;
        check("server.*,engine.up", Ok(&[state, phase, switch, Topic::EngineUp]));
        check("engine.awya", Err("did you mean `engine.away`?"));
        let names = Topic::ALL.map(Topic::name).join(", ");
        check("weather", Err(&format!("one of: {names}; or a family: server, engine")));
    }

    #[test]
    fn every_name_is_another_one() {
        let names: BTreeSet<&str> = Topic::ALL.iter().map(|topic| topic.name()).collect();
        assert_eq!(names.len(), Topic::ALL.len());
        assert!(names.iter().all(|name| name.matches('.').count() == 1), "{names:?}");
    }
}
