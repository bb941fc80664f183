//! Strings of the config with `${env:NAME}` in them. A template carries the text as written, never a value:
//! whoever launches the server resolves it, at that moment, with the environment of that moment.
//!
//! `$${` stands for `${` itself. `${NAME}` without a scheme is left as it stands (a shell may be meant, and
//! other programs leave it too); other schemes are mistakes.

use crate::base::fault::{Fault, FaultKind};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// A string with references to the environment. `Debug`, `Display` and `Serialize` show the text as written,
/// or `***` if it is a secret with any text of its own beside the references.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    raw: String,
    secret: Secret,
}

/// What of a template must not be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Nothing,
    /// All of it, if it has any text of its own beside the references.
    All,
    /// What follows the first `?`.
    Query,
}

/// Bytes between `${` and `}`; a bracket that is further away closes something else.
const REFERENCE_BYTES_MAX: usize = 256;

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    pub message: String,
    pub hint: String,
}

/// A piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    /// To be taken as it stands.
    Plain(&'t str),
    /// `${env:NAME}`: the name.
    Env(&'t str),
    /// `${NAME}`: the name; to be taken as it stands.
    Bare(&'t str),
}

impl Template {
    pub fn parse(raw: &str) -> Result<Template, TemplateError> {
        Pieces(raw).try_for_each(|piece| piece.map(drop))?;
        Ok(Template { raw: raw.to_owned(), secret: Secret::Nothing })
    }

    /// A template that resolves to exactly this text.
    pub fn literal(text: &str) -> Template {
        Template { raw: text.replace("${", "$${"), secret: Secret::Nothing }
    }

    /// The same text, never to be shown if it is more than references.
    pub fn secret(mut self) -> Template {
        self.secret = Secret::All;
        self
    }

    /// A URL, of which the part behind `?` is never to be shown.
    pub fn secret_query(mut self) -> Template {
        self.secret = Secret::Query;
        self
    }

    /// The text as the config has it. May be a secret.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The value. `lookup` gives what a variable of our environment holds. A variable that is missing is a
    /// fault that names it; no fault ever shows a value.
    pub fn resolve(&self, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Fault> {
        let mut out = String::with_capacity(self.raw.len());
        for piece in self.pieces() {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                Piece::Bare(name) => out.extend(["${", name, "}"]),
                Piece::Env(name) => out.push_str(&lookup(name).ok_or_else(|| missing(name))?),
            }
        }
        Ok(out)
    }

    /// The variables that it needs, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Env(name) => Some(name),
            Piece::Plain(_) | Piece::Bare(_) => None,
        })
    }

    /// The first `${NAME}` that is left as it stands, if there is one: probably not as meant.
    pub fn bare_reference(&self) -> Option<&str> {
        self.pieces().find_map(|piece| match piece {
            Piece::Bare(name) => Some(name),
            Piece::Plain(_) | Piece::Env(_) => None,
        })
    }

    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        Pieces(&self.raw).map(|piece| piece.expect("the text was checked when the template was made"))
    }

    fn shown(&self) -> &str {
        let only_references = !self.raw.is_empty() && self.pieces().all(|p| matches!(p, Piece::Env(_)));
        match self.secret {
            Secret::All if !only_references => "***",
            Secret::Query => self.raw.split('?').next().unwrap_or_default(),
            Secret::All | Secret::Nothing => &self.raw,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// `~` and `~/…` with the home directory in place of the tilde; everything else as it is. Without a home
/// directory the tilde stays, and the path does not exist.
pub fn expand_home(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_owned(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn missing(name: &str) -> Fault {
    let message = format!("`${{env:{name}}}`: the variable {name} is not set in mcpvisor's own environment");
    Fault::new(FaultKind::BadConfig, message).hint(format!("set {name} where mcpvisor is started"))
}

/// Reads the pieces off a text; after an error it is at its end.
struct Pieces<'t>(&'t str);

impl<'t> Iterator for Pieces<'t> {
    type Item = Result<Piece<'t>, TemplateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = if let Some(rest) = text.strip_prefix("$${") {
            (Ok(Piece::Plain("${")), rest)
        } else if let Some(rest) = text.strip_prefix("${") {
            match rest.bytes().take(REFERENCE_BYTES_MAX).position(|b| b == b'}') {
                Some(end) => (reference(&rest[..end]), &rest[end + 1..]),
                None => unclosed(rest),
            }
        } else {
            let mut end = text.find("${").unwrap_or(text.len());
            if end < text.len() && text[..end].ends_with('$') {
                end -= 1;
            }
            (Ok(Piece::Plain(&text[..end])), &text[end..])
        };
        self.0 = if piece.is_err() { "" } else { rest };
        Some(piece)
    }
}

/// What stands between `${` and `}`.
fn reference(inside: &str) -> Result<Piece<'_>, TemplateError> {
    let error = |message: String, hint: &str| Err(TemplateError { message, hint: hint.to_owned() });
    match inside.split_once(':') {
        None => Ok(Piece::Bare(inside)),
        Some(("env", name)) if is_variable(name) => Ok(Piece::Env(name)),
        Some(("env", "")) => error("`${env:}` names no variable".into(), "write `${env:NAME}`"),
        Some(("env", _)) => error(
            "what follows `${env:` is not the name of a variable".into(),
            "letters, digits and `_`; a default value cannot be given",
        ),
        // `${NAME:-default}` and its like are a shell's.
        Some((name, rest)) if is_variable(name) && rest.starts_with(['-', '=', '+', '?']) => {
            Ok(Piece::Bare(inside))
        }
        Some((scheme, _)) => error(
            format!("`${{{}:…}}` is not supported", crate::base::text::shorten(scheme, 20)),
            "only `${env:NAME}` is; write `$${` for a `${` that is meant as it stands",
        ),
    }
}

fn unclosed(rest: &str) -> (Result<Piece<'_>, TemplateError>, &str) {
    if rest.starts_with("env:") {
        let (message, hint) = ("`${env:` is not closed".into(), "write `${env:NAME}`".into());
        return (Err(TemplateError { message, hint }), "");
    }
    (Ok(Piece::Plain("${")), rest)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/u".to_owned()),
            "TOKEN" => Some("s3cr3t".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn values() {
        #[track_caller]
        fn check(raw: &str, value: &str) {
            let template = Template::parse(raw).unwrap();
            assert_eq!(template.resolve(lookup).unwrap(), value);
            assert_eq!((template.raw(), template.to_string().as_str()), (raw, raw));
        }
        check("", "");
        check("plain", "plain");
        check("${env:HOME}", "/home/u");
        check("a${env:HOME}b${env:TOKEN}", "a/home/ubs3cr3t");
        check("$${env:HOME}", "${env:HOME}");
        check("$$${env:HOME}", "$${env:HOME}");
        check("$5 and é$", "$5 and é$");
        check("${HOME} ${X:-y}", "${HOME} ${X:-y}");
        check("${open", "${open");
        check("$${env:HOME} ${env:HOME}", "${env:HOME} /home/u");
    }

    #[test]
    fn mistakes() {
        #[track_caller]
        fn check(raw: &str, message: &str) {
            assert_eq!(Template::parse(raw).unwrap_err().message, message);
        }
        check("a ${env:HOME", "`${env:` is not closed");
        check("${env:}", "`${env:}` names no variable");
        check("${env:A B}", "what follows `${env:` is not the name of a variable");
        check("${env:A:-b}", "what follows `${env:` is not the name of a variable");
        check("ok ${keyring:github}", "`${keyring:…}` is not supported");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let fault = Template::parse("x${env:NO_SUCH}").unwrap().resolve(lookup).unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadConfig);
        assert_eq!(
            fault.to_string(),
            "`${env:NO_SUCH}`: the variable NO_SUCH is not set in mcpvisor's own environment \
             (set NO_SUCH where mcpvisor is started)"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = |raw| Template::parse(raw).unwrap().secret();
        assert_eq!(format!("{0} {0:?}", secret("ghp_123")), "*** \"***\"");
        assert_eq!(serde_json::to_string(&secret("Bearer ${env:TOKEN}")).unwrap(), "\"***\"");
        assert_eq!(secret("${env:TOKEN}").to_string(), "${env:TOKEN}");
        assert_eq!(secret("ghp_123").raw(), "ghp_123");
        let url = Template::parse("https://h/mcp?key=s3cr3t").unwrap().secret_query();
        assert_eq!((url.to_string().as_str(), url.raw()), ("https://h/mcp", "https://h/mcp?key=s3cr3t"));
    }

    #[test]
    fn references() {
        let template = Template::parse("${env:A}${B}$${env:C}${env:D}").unwrap();
        assert_eq!(template.variables().collect::<Vec<_>>(), ["A", "D"]);
        assert_eq!(template.bare_reference(), Some("B"));
    }

    #[test]
    fn tilde() {
        let check = |path, home: Option<&str>, full: &str| {
            assert_eq!(expand_home(path, home.map(Path::new)), PathBuf::from(full));
        };
        check("~", Some("/home/u"), "/home/u");
        check("~/a", Some("/home/u"), "/home/u/a");
        check("~//a", Some("/home/u"), "/home/u/a");
        check("~other/a", Some("/home/u"), "~other/a");
        check("/a/~", Some("/home/u"), "/a/~");
        check("~/a", None, "~/a");
    }
}
