//! What must not be read by others, taken out of what we write down: the values of a server's secrets as they are, and
//! what has the look of one: a password in a URL, a token behind `Bearer`.
//!
//! Which values are secret is said by the names that the config gives them. A value that is shorter than
//! `SECRET_CHARS_MIN` is left alone: it would be found in every other word.

use parking_lot::RwLock;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stands where a secret was; the config's findings say it with the same word.
pub const MASK: &str = "***";

/// 8: shorter ones are no secrets, or are words of the language.
pub const SECRET_CHARS_MIN: usize = 8;

/// The beginning of a secret that is worth hiding where the rest was cut off.
const BEGINNING_MIN: usize = 6;

/// The secrets of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Longest first, so that one that is part of another leaves nothing of it.
    values: Vec<String>,
}

impl Secrets {
    /// Of values that have several lines, each line is one. What is too short is left out.
    pub fn new(values: impl IntoIterator<Item = String>) -> Secrets {
        let mut all = Vec::new();
        for value in values {
            let lines = value.lines().map(str::trim).filter(|line| line.chars().count() >= SECRET_CHARS_MIN);
            all.extend(lines.flat_map(spellings));
        }
        Secrets::of(all)
    }

    /// These and those.
    pub fn and(self, others: &Secrets) -> Secrets {
        let mut all = self.values;
        all.extend_from_slice(&others.values);
        Secrets::of(all)
    }

    fn of(mut all: Vec<String>) -> Secrets {
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Secrets { values: all }
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The text without them, and without what looks like one.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.hide_values(by_look(text))
    }

    fn hide_values<'t>(&self, mut text: Cow<'t, str>) -> Cow<'t, str> {
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), MASK));
            }
        }
        text
    }

    /// The same of a text that was cut: the beginning of one may be at its end.
    pub fn hide_cut<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let hidden = self.hide(text);
        let begun = |value: &String| {
            let lengths = (BEGINNING_MIN..value.len()).rev().filter(|at| value.is_char_boundary(*at));
            lengths.into_iter().find(|at| hidden.ends_with(&value[..*at]))
        };
        match self.values.iter().filter_map(begun).max() {
            Some(bytes) => Cow::Owned(format!("{}{MASK}", &hidden[..hidden.len() - bytes])),
            None => hidden,
        }
    }
}

/// A value as it is, and as it stands in JSON.
fn spellings(value: &str) -> Vec<String> {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    if escaped == value { vec![escaped] } else { vec![value.to_owned(), escaped] }
}

/// Whether what is called so is a secret: `GITHUB_TOKEN`, `apiKey`, `--db-password`.
pub fn is_secret_name(name: &str) -> bool {
    const ANYWHERE: [&str; 8] =
        ["token", "secret", "password", "passwd", "passphrase", "apikey", "credential", "authorization"];
    const AS_A_WORD: [&str; 9] = ["key", "auth", "pass", "pwd", "pat", "pw", "bearer", "cookie", "dsn"];
    let lower = name.to_ascii_lowercase();
    // `accessKey` is two words.
    ANYWHERE.iter().any(|part| lower.contains(part))
        || lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| AS_A_WORD.contains(&word))
        || name.ends_with("Key")
}

/// What in a URL is secret: the password, and values of parameters that are called so.
pub fn in_urls(text: &str) -> Vec<String> {
    marks(text).into_iter().map(|(from, to)| text[from..to].to_owned()).collect()
}

fn by_look(text: &str) -> Cow<'_, str> {
    let marks = marks(text);
    if marks.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (from, to) in marks {
        out.push_str(&text[at..from]);
        out.push_str(MASK);
        at = to;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// Where in the text something looks like a secret: in order, apart from each other.
fn marks(text: &str) -> Vec<(usize, usize)> {
    let mut marks = Vec::new();
    for (at, _) in text.match_indices("://") {
        url(text, at + "://".len(), &mut marks);
    }
    for word in ["Bearer ", "bearer "] {
        for (at, _) in text.match_indices(word) {
            let from = at + word.len();
            let token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
            let bytes = text[from..].find(|c| !token(c)).unwrap_or(text.len() - from);
            if bytes >= SECRET_CHARS_MIN {
                marks.push((from, from + bytes));
            }
        }
    }
    marks.sort_unstable();
    let mut end = 0;
    marks.retain(|(from, to)| {
        let apart = *from >= end;
        if apart {
            end = *to;
        }
        apart
    });
    marks
}

/// Of the URL whose authority begins at `from`.
fn url(text: &str, from: usize, marks: &mut Vec<(usize, usize)>) {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'`<>|\\^{}".contains(c);
    let end = text[from..].find(ends).map_or(text.len(), |bytes| from + bytes);
    let authority = text[from..end].find(['/', '?', '#']).map_or(end, |bytes| from + bytes);
    if let Some(bytes) = text[from..authority].rfind('@') {
        let login = &text[from..from + bytes];
        let password = login.find(':').map_or(0, |colon| colon + 1);
        // Without a colon it is a token.
        if password < login.len() && login != MASK {
            marks.push((from + password, from + bytes));
        }
    }
    let Some(query) = text[authority..end].find('?').map(|bytes| authority + bytes + 1) else { return };
    let mut at = query;
    for pair in text[query..end].split(['&', ';', '#']) {
        if let Some((name, value)) = pair.split_once('=')
            && is_secret_name(name)
            && !value.is_empty()
        {
            marks.push((at + name.len() + 1, at + pair.len()));
        }
        at += pair.len() + 1;
    }
}

/// Those of all servers, by their short names, for what is said in the log of all.
static ALL: RwLock<BTreeMap<String, Arc<Secrets>>> = RwLock::new(BTreeMap::new());

/// From now on these are the server's.
pub fn remember(server: &str, secrets: &Arc<Secrets>) {
    let mut all = ALL.write();
    if secrets.is_empty() {
        all.remove(server);
    } else {
        all.insert(server.to_owned(), secrets.clone());
    }
}

/// The server is gone. Another one may be called like it by now, and keeps its own.
pub fn forget(server: &str, secrets: &Arc<Secrets>) {
    let mut all = ALL.write();
    if all.get(server).is_some_and(|known| Arc::ptr_eq(known, secrets)) {
        all.remove(server);
    }
}

/// The text without the secrets of any server.
pub fn hide_all(text: &str) -> Cow<'_, str> {
    ALL.read().values().fold(by_look(text), |text, secrets| secrets.hide_values(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        Secrets::new(values.iter().map(|value| (*value).to_owned()))
    }

    #[track_caller]
    fn check(values: &[&str], text: &str, hidden: &str) {
        assert_eq!(secrets(values).hide(text), hidden);
    }

    #[test]
    fn values() {
        check(&["hunter2hunter2"], "login with hunter2hunter2 failed", "login with *** failed");
        check(&["short"], "a short one", "a short one");
        check(&["hunter2hunter2", "hunter2hunter2-longer"], "hunter2hunter2-longer", "***");
        check(&["hunter2hunter2"], "hunter2hunter2hunter2hunter2", "******");
        check(&["two lines of it\nand the other\nx"], "and the other", "***");
        check(&[r#"with"quotes""#], r#"{"a":"with\"quotes\""}"#, r#"{"a":"***"}"#);
        check(&["pässwörter"], "das pässwörter-buch", "das ***-buch");
        check(&[], "nothing to hide", "nothing to hide");
    }

    #[test]
    fn what_looks_like_one() {
        check(&[], "postgres://me:s3cret@db/x", "postgres://me:***@db/x");
        check(&[], "clone https://ghp_abc@github.com/x.git now", "clone https://***@github.com/x.git now");
        check(&[], "GET https://a/b?q=1&api_key=xyz&n=2 404", "GET https://a/b?q=1&api_key=***&n=2 404");
        check(&[], "'https://a/?token=x'", "'https://a/?token=***'");
        check(&[], "Authorization: Bearer abcdefgh.ij=", "Authorization: Bearer ***");
        check(&[], "the bearer of news", "the bearer of news");
        check(
            &[],
            "see https://a.example/b?page=2 or mail me@a.example",
            "see https://a.example/b?page=2 or mail me@a.example",
        );
        check(&[], "http://", "http://");
    }

    #[test]
    fn what_is_hidden_stays_as_it_is() {
        for text in ["postgres://me:***@db/x?token=***", "Bearer ***", "https://***@h/"] {
            check(&["something-else"], text, text);
        }
    }

    #[test]
    fn the_beginning_of_one_at_a_cut() {
        let all = secrets(&["hunter2hunter2", "other-secret"]);
        assert_eq!(all.hide_cut("it is hunter2hun"), "it is ***");
        assert_eq!(all.hide_cut("it is other-secret hunter"), "it is *** ***");
        assert_eq!(all.hide_cut("it is hunt"), "it is hunt");
        assert_eq!(all.hide_cut("plain"), "plain");
    }

    #[test]
    fn names() {
        for name in [
            "GITHUB_TOKEN",
            "apiKey",
            "API_KEY",
            "--api-key",
            "DB_PASS",
            "x-auth",
            "Authorization",
            "AWS_SECRET_ACCESS_KEY",
            "SENTRY_DSN",
            "accessKey",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PATH", "KEYBOARD", "AUTHOR", "HOME", "--verbose", "MONKEYS", "page", "COMPASS"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn of_all_servers() {
        let one = Arc::new(secrets(&["first-of-them"]));
        remember("redact-test-one", &one);
        remember("redact-test-two", &Arc::new(secrets(&["second-of-them"])));
        assert_eq!(hide_all("first-of-them second-of-them"), "*** ***");
        remember("redact-test-one", &Arc::default());
        assert_eq!(hide_all("first-of-them second-of-them"), "first-of-them ***");
        forget("redact-test-two", &Arc::new(secrets(&["second-of-them"])));
        assert_eq!(hide_all("second-of-them"), "***");
        remember("redact-test-two", &Arc::default());
        forget("redact-test-one", &one);
    }
}
