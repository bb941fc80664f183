//! Taking an object apart, key by key: who reads a section asks for the keys it knows, and what is left over at
//! the end is unknown. So the list of known keys and the code that honours them cannot disagree.

use super::json::{Node, Value};
use super::keys::{Key, Standing};
use super::notes::{Notes, Spot};
use super::span::{self, Allowed, Unit};
use crate::base::text::{nearest, shorten};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value, and where it is in the file.
pub struct Field<'t> {
    pub node: &'t Node,
    /// The path, at the value.
    pub spot: Spot,
    /// The first byte of the key, or of the value in an array.
    pub key_at: usize,
}

impl<'t> Field<'t> {
    pub fn root(node: &'t Node) -> Field<'t> {
        Field { node, spot: Spot::file(node.at), key_at: node.at }
    }

    fn member(parent: &str, name: &str, key_at: usize, node: &'t Node) -> Field<'t> {
        Field { node, spot: Spot { at: node.at, key: join(parent, name) }, key_at }
    }

    /// The path, at the key.
    pub fn key_spot(&self) -> Spot {
        Spot { at: self.key_at, key: self.spot.key.clone() }
    }

    /// The elements of an array.
    pub fn items(&self) -> Option<impl Iterator<Item = Field<'t>> + use<'t>> {
        let Value::Array(items) = &self.node.value else { return None };
        let parent = self.spot.key.clone();
        Some(items.iter().enumerate().map(move |(n, node)| Field {
            node,
            spot: Spot { at: node.at, key: format!("{parent}[{n}]") },
            key_at: node.at,
        }))
    }

    /// The members of an object with their names, as the file has them.
    pub fn members(&self) -> Option<Vec<(&'t str, Field<'t>)>> {
        let Value::Object(members) = &self.node.value else { return None };
        let field = |m: &'t super::json::Member| Field::member(&self.spot.key, &m.key, m.at, &m.value);
        Some(members.iter().map(|m| (m.key.as_str(), field(m))).collect())
    }

    pub fn text(&self) -> Option<&'t str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// `expected a string, found a number`.
    pub fn unexpected(&self, expected: &str) -> String {
        format!("expected {expected}, found {}", self.noun())
    }

    fn noun(&self) -> &'static str {
        match &self.node.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }
}

/// An object that is being taken apart.
pub struct Fields<'t> {
    key: String,
    left: BTreeMap<&'t str, Field<'t>>,
    asked: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// Nothing if it is not an object; that is for the caller to report. Of a key that is written twice the
    /// last counts, as in every JSON reader. A null stands for a key that is not there.
    pub fn of(field: &Field<'t>, notes: &mut Notes) -> Option<Fields<'t>> {
        let mut left = BTreeMap::new();
        for (name, member) in field.members()? {
            if let Some(earlier) = left.insert(name, member) {
                twice(&earlier, &left[name], notes);
            }
        }
        left.retain(|_, field| !field.is_null());
        Some(Fields { key: field.spot.key.clone(), left, asked: Vec::new() })
    }

    /// A section that may be missing. One that is not an object is reported, and as good as missing.
    pub fn section(&mut self, name: &'static str, notes: &mut Notes) -> Fields<'t> {
        let empty = || Fields { key: String::new(), left: BTreeMap::new(), asked: Vec::new() };
        let Some(field) = self.take(name) else { return empty() };
        Fields::of(&field, notes).unwrap_or_else(|| {
            notes.error(&field.spot, field.unexpected("an object"), "the defaults are used");
            empty()
        })
    }

    pub fn take(&mut self, name: &'static str) -> Option<Field<'t>> {
        self.asked.push(name);
        self.left.remove(name)
    }

    /// Where a member is, without taking it.
    pub fn place(&self, name: &str) -> Option<Spot> {
        self.left.get(name).map(|field| field.spot.clone())
    }

    /// One value under several names: the first name that is there counts.
    pub fn take_one_of(&mut self, names: &[&'static str], notes: &mut Notes) -> Option<Field<'t>> {
        let mut found = names.iter().filter_map(|name| Some((*name, self.take(name)?))).collect::<Vec<_>>();
        for (_, other) in found.drain(1.min(found.len())..).collect::<Vec<_>>() {
            notes.warn(&other.key_spot(), format!("`{}` says this already; ignored", found[0].0), "");
        }
        found.pop().map(|(_, field)| field)
    }

    /// `true` or `false`; anything else is reported, and as good as missing.
    pub fn flag(&mut self, name: &'static str, default: bool, notes: &mut Notes) -> bool {
        self.flag_or(name, default, notes).unwrap_or(default)
    }

    /// The same, where one that is missing means something else than any value; `instead` is what is used then.
    pub fn flag_or(&mut self, name: &'static str, instead: impl Display, notes: &mut Notes) -> Option<bool> {
        let field = self.take(name)?;
        let Value::Bool(flag) = field.node.value else {
            notes.error(&field.spot, field.unexpected("true or false"), format!("{instead} is used"));
            return None;
        };
        Some(flag)
    }

    /// A whole number within a range; anything else is reported, and as good as missing.
    pub fn count(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
        notes: &mut Notes,
    ) -> u32 {
        self.count_or(name, range, default, notes).unwrap_or(default)
    }

    /// The same, where one that is missing means something else than any value; `instead` is what is used then.
    pub fn count_or(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u32>,
        instead: impl Display,
        notes: &mut Notes,
    ) -> Option<u32> {
        let field = self.take(name)?;
        let Value::Number(text) = &field.node.value else {
            notes.error(&field.spot, field.unexpected("a number"), format!("{instead} is used"));
            return None;
        };
        // Through a float, so that 10.0 is 10; a u32 fits into one exactly.
        let number = text.parse::<f64>().unwrap_or(f64::NAN);
        let (low, high) = (*range.start(), *range.end());
        if number.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(&number) {
            return Some(number as u32);
        }
        let message = format!("expected a whole number from {low} to {high}");
        notes.error(&field.spot, message, format!("{instead} is used"));
        None
    }

    /// A duration that is allowed; anything else is reported, and as good as missing.
    pub fn span(
        &mut self,
        names: &[&'static str],
        unit: Unit,
        allowed: Allowed,
        default: &str,
        notes: &mut Notes,
    ) -> Option<Duration> {
        let field = self.take_one_of(names, notes)?;
        match span::read(field.node, unit) {
            Ok(span) if allowed.contains(span) => return Some(span),
            Ok(_) => {
                let message = format!("expected a duration: {allowed}");
                notes.error(&field.spot, message, format!("{default} is used"));
            }
            Err(hint) => {
                let hint = format!("{hint}; until then {default} is used");
                notes.error(&field.spot, "this is not a duration", hint);
            }
        }
        None
    }

    /// Reports what nobody asked for. `others` are the keys that are known and not read.
    pub fn finish(self, others: &'static [Key], notes: &mut Notes) {
        for (name, field) in &self.left {
            match others.iter().find(|key| key.name == *name) {
                Some(key) => report_known(key, &field.key_spot(), notes),
                None => self.report_unknown(name, field, others, notes),
            }
        }
    }

    fn report_unknown(&self, name: &str, field: &Field, others: &'static [Key], notes: &mut Notes) {
        let known = self.asked.iter().copied().chain(others.iter().map(|key| key.name));
        // A long word is no slip of the finger, and comparing it would be slow.
        let near = if name.len() <= 64 && notes.take_warnings() { nearest(name, known) } else { None };
        let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
        notes.warn(&field.key_spot(), "unknown key; ignored", hint);
    }

    pub fn key(&self) -> &str {
        &self.key
    }
}

fn report_known(key: &Key, spot: &Spot, notes: &mut Notes) {
    match key.standing {
        Standing::Later(meanwhile) => notes.warn(spot, "not yet supported; ignored", meanwhile),
        Standing::Instead(other) => {
            notes.warn(spot, "not a key of mcpvisor; ignored", format!("write {other}"))
        }
        Standing::Foreign => notes.warn(spot, "a key of another program; ignored", ""),
        Standing::Fact => notes.fact(spot, key.name),
        Standing::Silent => (),
    }
}

/// Says that `earlier` is written again as `later`.
fn twice(earlier: &Field, later: &Field, notes: &mut Notes) {
    let (line, _) = notes.position(later.key_at);
    notes.warn(&earlier.key_spot(), written_again(line), "");
}

/// What to say of a key whose last occurrence is in `line`.
pub fn written_again(line: usize) -> String {
    format!("written again in line {line}, and only that one counts")
}

/// `parent.name`, or `parent["na me"]` for what is not a plain word.
fn join(parent: &str, name: &str) -> String {
    let plain =
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '/'));
    let name = shorten(name, 60);
    match (plain, parent) {
        (true, "") => name,
        (true, _) => format!("{parent}.{name}"),
        (false, _) => format!("{parent}[\"{name}\"]"),
    }
}
