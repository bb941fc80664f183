//! What the database holds, as it is in memory: pure, bounded, and right whatever the disk does.
//!
//! Every change marks its row as unsaved. The writer takes the unsaved rows as they are then, so a row that changed
//! ten times is written once, and a disk that is full for a day costs no more than the rows there are.

use crate::base::limits::{
    CREATED_ROWS_MAX, OWED_ROWS_MAX, REMOVAL_ERROR_CHARS_MAX, UNSAVED_ROWS_MAX, VALUE_ROWS_MAX,
    VALUES_BYTES_MAX,
};
use crate::base::text::shorten;
use std::collections::{BTreeMap, BTreeSet};

/// A container that we created; written before it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The canonical endpoint of the engine that it lives on.
    pub engine: String,
    /// The full id.
    pub id: String,
    pub name: String,
    pub server: String,
    pub instance: String,
    pub session: String,
    pub life: u64,
    pub created_ms: u64,
}

/// A record, and when the container was seen to be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub record: Record,
    pub gone_ms: Option<u64>,
}

/// A container that should be gone and is not, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The canonical endpoint of the engine that it lives on.
    pub engine: String,
    /// The full id.
    pub id: String,
    pub name: String,
    pub server: String,
    pub since_ms: u64,
    pub tries: u32,
    pub last_error: Option<String>,
    /// The engine took the removal, and nobody has looked since whether it is gone.
    pub unverified: bool,
}

/// Engine and id.
pub type Place = (String, String);

/// A small value that somebody remembers, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub json: String,
    pub updated_ms: u64,
}

/// Names one row of one table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Created(Place),
    Owed(Place),
    /// Table and key.
    Value(String, String),
}

/// One row as it is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    Created(Created),
    Owed(Removal),
    Value(Value),
}

/// What the writer takes at once.
#[derive(Debug)]
pub struct Batch {
    /// Rows as they are; `None` are to be deleted.
    pub rows: Vec<(Key, Option<Row>)>,
    /// `rows` is everything: whatever else the database holds goes.
    pub everything: bool,
}

#[derive(Debug, Default)]
pub struct Rows {
    created: BTreeMap<Place, Created>,
    owed: BTreeMap<Place, Removal>,
    values: BTreeMap<(String, String), Value>,
    values_bytes: usize,
    unsaved: BTreeSet<Key>,
    /// Too much was unsaved to keep count, or the database was lost.
    all_unsaved: bool,
    /// What the database held has been taken over.
    merged: bool,
}

impl Rows {
    pub fn create(&mut self, record: Record) {
        let place = (record.engine.clone(), record.id.clone());
        self.created.insert(place.clone(), Created { record, gone_ms: None });
        self.mark(Key::Created(place));
        self.trim();
    }

    /// Whether there is such a record.
    pub fn gone(&mut self, place: Place, now_ms: u64) -> bool {
        let Some(created) = self.created.get_mut(&place) else { return false };
        let first = created.gone_ms.is_none();
        created.gone_ms.get_or_insert(now_ms);
        if first {
            self.mark(Key::Created(place));
        }
        first
    }

    /// Takes the place of an earlier removal of the same container, but keeps since when it is owed.
    pub fn owe(&mut self, mut removal: Removal) {
        let place = (removal.engine.clone(), removal.id.clone());
        if let Some(known) = self.owed.get(&place) {
            removal.since_ms = removal.since_ms.min(known.since_ms);
            removal.tries = removal.tries.max(known.tries);
        }
        removal.last_error = removal.last_error.map(|error| shorten(&error, REMOVAL_ERROR_CHARS_MAX));
        self.owed.insert(place.clone(), removal);
        self.mark(Key::Owed(place));
        self.trim();
    }

    /// One more try that did not end it.
    pub fn tried(&mut self, place: Place, error: Option<String>, unverified: bool) {
        let Some(removal) = self.owed.get_mut(&place) else { return };
        removal.tries = removal.tries.saturating_add(1);
        removal.last_error = error.map(|error| shorten(&error, REMOVAL_ERROR_CHARS_MAX));
        removal.unverified = unverified;
        self.mark(Key::Owed(place));
    }

    /// Whether it was owed.
    pub fn pay(&mut self, place: Place) -> bool {
        let was_owed = self.owed.remove(&place).is_some();
        if was_owed {
            self.mark(Key::Owed(place));
        }
        was_owed
    }

    pub fn remember(&mut self, table: &str, key: &str, value: Value) {
        self.insert_value(table.to_owned(), key.to_owned(), value);
        self.mark(Key::Value(table.to_owned(), key.to_owned()));
        self.trim();
    }

    pub fn forget(&mut self, table: &str, key: &str) {
        if self.remove_value(&(table.to_owned(), key.to_owned())) {
            self.mark(Key::Value(table.to_owned(), key.to_owned()));
        }
    }

    /// By the time of creation.
    pub fn created(&self) -> Vec<Created> {
        let mut all: Vec<Created> = self.created.values().cloned().collect();
        all.sort_by_key(|created| created.record.created_ms);
        all
    }

    /// Oldest first.
    pub fn owed(&self) -> Vec<Removal> {
        let mut all: Vec<Removal> = self.owed.values().cloned().collect();
        all.sort_by_key(|removal| removal.since_ms);
        all
    }

    pub fn value(&self, table: &str, key: &str) -> Option<&Value> {
        self.values.get(&(table.to_owned(), key.to_owned()))
    }

    /// Key and value of everything in a table.
    pub fn values(&self, table: &str) -> impl Iterator<Item = (&str, &Value)> {
        let from = (table.to_owned(), String::new());
        let all = self.values.range(from..).take_while(move |((of, _), _)| of.as_str() == table);
        all.map(|((_, key), value)| (key.as_str(), value))
    }

    pub fn is_saved(&self) -> bool {
        self.unsaved.is_empty() && !self.all_unsaved
    }

    /// What is to be written now. It counts as saved until [`Rows::put_back`] says that it was not.
    pub fn take_unsaved(&mut self) -> Batch {
        let everything = std::mem::take(&mut self.all_unsaved);
        let unsaved = std::mem::take(&mut self.unsaved);
        let keys: Vec<Key> = if everything { self.keys() } else { unsaved.into_iter().collect() };
        let rows = keys.into_iter().map(|key| (key.clone(), self.row(&key))).collect();
        Batch { rows, everything }
    }

    /// The batch is not on the disk: its rows are unsaved again, as they are by now.
    pub fn put_back(&mut self, batch: Batch) {
        self.all_unsaved |= batch.everything;
        batch.rows.into_iter().for_each(|(key, _)| self.mark(key));
    }

    /// The database was lost: if it was read before, what is in memory is all there is.
    pub fn lost(&mut self) {
        if self.merged {
            self.unsaved.clear();
            self.all_unsaved = true;
        }
    }

    /// Takes over what the database held. What changed meanwhile, or is newer, stays as it is.
    pub fn merge(&mut self, read: Vec<(Key, Row)>) {
        self.merged = true;
        if self.all_unsaved {
            return;
        }
        for (key, row) in read {
            if self.unsaved.contains(&key) || self.row(&key).is_some() {
                continue;
            }
            match (key, row) {
                (Key::Created(place), Row::Created(created)) => {
                    self.created.insert(place, created);
                }
                (Key::Owed(place), Row::Owed(removal)) => {
                    self.owed.insert(place, removal);
                }
                (Key::Value(table, key), Row::Value(value)) => self.insert_value(table, key, value),
                (Key::Created(_) | Key::Owed(_) | Key::Value(..), _) => (),
            }
        }
        self.trim();
    }

    fn keys(&self) -> Vec<Key> {
        let created = self.created.keys().cloned().map(Key::Created);
        let owed = self.owed.keys().cloned().map(Key::Owed);
        let values = self.values.keys().cloned().map(|(table, key)| Key::Value(table, key));
        created.chain(owed).chain(values).collect()
    }

    fn row(&self, key: &Key) -> Option<Row> {
        match key {
            Key::Created(place) => self.created.get(place).cloned().map(Row::Created),
            Key::Owed(place) => self.owed.get(place).cloned().map(Row::Owed),
            Key::Value(table, key) => self.value(table, key).cloned().map(Row::Value),
        }
    }

    fn mark(&mut self, key: Key) {
        if self.all_unsaved {
            return;
        }
        self.unsaved.insert(key);
        if self.unsaved.len() <= UNSAVED_ROWS_MAX {
            return;
        }
        if self.merged {
            return self.lost();
        }
        // A database that was not read yet may hold what nobody else knows. So only deletions are forgotten: what
        // they spare is looked at once more.
        let unsaved = std::mem::take(&mut self.unsaved);
        self.unsaved = unsaved.into_iter().filter(|key| self.row(key).is_some()).collect();
    }

    fn insert_value(&mut self, table: String, key: String, value: Value) {
        let place = (table, key);
        self.remove_value(&place);
        self.values_bytes += weight(&place, &value);
        self.values.insert(place, value);
    }

    fn remove_value(&mut self, place: &(String, String)) -> bool {
        let Some(value) = self.values.remove(place) else { return false };
        self.values_bytes -= weight(place, &value);
        true
    }

    /// Keeps to the limits: the oldest goes, and among containers first those that are gone.
    fn trim(&mut self) {
        while self.created.len() > CREATED_ROWS_MAX {
            let age = |created: &Created| (created.gone_ms.is_none(), created.record.created_ms);
            let oldest = self.created.iter().min_by_key(|(_, created)| age(created));
            let Some(place) = oldest.map(|(place, _)| place.clone()) else { break };
            self.created.remove(&place);
            self.mark(Key::Created(place));
        }
        while self.owed.len() > OWED_ROWS_MAX {
            let oldest = self.owed.iter().min_by_key(|(_, removal)| removal.since_ms);
            let Some(place) = oldest.map(|(place, _)| place.clone()) else { break };
            self.owed.remove(&place);
            self.mark(Key::Owed(place));
        }
        while self.values.len() > VALUE_ROWS_MAX || self.values_bytes > VALUES_BYTES_MAX {
            let oldest = self.values.iter().min_by_key(|(_, value)| value.updated_ms);
            let Some((table, key)) = oldest.map(|(place, _)| place.clone()) else { break };
            self.forget(&table, &key);
        }
    }
}

fn weight(place: &(String, String), value: &Value) -> usize {
    place.0.len() + place.1.len() + value.json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: usize) -> Place {
        ("unix:///run/d.sock".to_owned(), format!("{id:064x}"))
    }

    fn record(id: usize) -> Record {
        let (engine, id_text) = place(id);
        Record {
            engine,
            id: id_text,
            name: format!("mcpvisor-1-git-{id}"),
            server: "git".to_owned(),
            instance: "i".to_owned(),
            session: "s".to_owned(),
            life: id as u64,
            created_ms: id as u64,
        }
    }

    fn removal(id: usize, error: Option<&str>) -> Removal {
        let Record { engine, id, name, server, created_ms, .. } = record(id);
        let last_error = error.map(str::to_owned);
        Removal { engine, id, name, server, since_ms: created_ms, tries: 0, last_error, unverified: false }
    }

    fn value(json: &str, updated_ms: u64) -> Value {
        Value { json: json.to_owned(), updated_ms }
    }

    fn lives(rows: &Rows) -> Vec<u64> {
        rows.created().iter().map(|created| created.record.life).collect()
    }

    #[test]
    fn what_is_gone_is_dropped_first() {
        let mut rows = Rows::default();
        (0..CREATED_ROWS_MAX).for_each(|id| rows.create(record(id)));
        assert!(rows.gone(place(7), 1));
        assert!(!rows.gone(place(7), 2));
        assert!(!rows.gone(place(100_000), 2));
        rows.create(record(CREATED_ROWS_MAX));
        assert_eq!(rows.created().len(), CREATED_ROWS_MAX);
        assert!(!lives(&rows).contains(&7));
        rows.create(record(CREATED_ROWS_MAX + 1));
        assert!(!lives(&rows).contains(&0));
    }

    #[test]
    fn owed_until_paid() {
        let mut rows = Rows::default();
        rows.owe(removal(5, Some("engine away")));
        rows.tried(place(5), Some("x".repeat(1000)), true);
        // Owed again by somebody who knows less.
        rows.owe(Removal { since_ms: 99, ..removal(5, None) });
        let owed = rows.owed();
        assert_eq!((owed.len(), owed[0].since_ms, owed[0].tries), (1, 5, 1));
        assert!(rows.pay(place(5)) && !rows.pay(place(5)) && rows.owed().is_empty());
        rows.tried(place(5), None, true);
        assert!(rows.owed().is_empty());
        (0..=OWED_ROWS_MAX).for_each(|id| rows.owe(removal(id, None)));
        assert_eq!((rows.owed().len(), rows.owed()[0].since_ms), (OWED_ROWS_MAX, 1));
    }

    #[test]
    fn values_are_bounded_in_number_and_bytes() {
        let mut rows = Rows::default();
        rows.remember("era", "git", value("1", 1));
        rows.remember("era", "files", value("2", 2));
        rows.remember("eras", "git", value("3", 3));
        let of_era: Vec<&str> = rows.values("era").map(|(key, _)| key).collect();
        assert_eq!(of_era, ["files", "git"]);
        rows.forget("era", "files");
        assert_eq!(rows.value("era", "files"), None);
        let large = "x".repeat(VALUES_BYTES_MAX / 4);
        (0..5).for_each(|n| rows.remember("large", &n.to_string(), value(&large, 10 + n)));
        assert_eq!((rows.values("large").count(), rows.values("era").count()), (3, 0));
        assert!(rows.values_bytes <= VALUES_BYTES_MAX);
    }

    #[test]
    fn a_row_is_unsaved_until_it_is_written() {
        let mut rows = Rows::default();
        rows.create(record(1));
        rows.gone(place(1), 9);
        rows.remember("t", "k", value("1", 1));
        let batch = rows.take_unsaved();
        assert_eq!((batch.rows.len(), batch.everything, rows.is_saved()), (2, false, true));
        rows.forget("t", "k");
        rows.put_back(batch);
        let again = rows.take_unsaved();
        let deleted: Vec<&Key> =
            again.rows.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key).collect();
        assert_eq!(deleted, [&Key::Value("t".to_owned(), "k".to_owned())]);
        assert!(rows.is_saved());
    }

    #[test]
    fn too_much_unsaved_is_everything() {
        let mut rows = Rows::default();
        rows.merge(Vec::new());
        rows.create(record(0));
        for id in 1..=2 * UNSAVED_ROWS_MAX {
            rows.remember("t", &id.to_string(), value("1", id as u64));
        }
        assert!(rows.unsaved.len() <= UNSAVED_ROWS_MAX);
        let batch = rows.take_unsaved();
        assert_eq!((batch.everything, batch.rows.len()), (true, VALUE_ROWS_MAX + 1));
        assert!(batch.rows.iter().all(|(_, row)| row.is_some()));
        rows.put_back(batch);
        // What a database holds by then is not taken over: memory is newer.
        rows.merge(vec![(Key::Owed(place(3)), Row::Owed(removal(3, None)))]);
        assert!(rows.owed().is_empty() && !rows.is_saved());
    }

    #[test]
    fn a_database_that_was_not_read_yet_loses_nothing() {
        let mut rows = Rows::default();
        for id in 1..=2 * UNSAVED_ROWS_MAX {
            rows.remember("t", &id.to_string(), value("1", id as u64));
        }
        assert!(!rows.all_unsaved && rows.unsaved.len() <= UNSAVED_ROWS_MAX);
        rows.merge(vec![(Key::Owed(place(3)), Row::Owed(removal(3, None)))]);
        assert_eq!((rows.owed().len(), rows.values("t").count()), (1, VALUE_ROWS_MAX));
    }

    #[test]
    fn what_changed_meanwhile_is_newer_than_the_database() {
        let mut rows = Rows::default();
        rows.owe(removal(1, Some("new")));
        rows.owe(removal(2, None));
        rows.pay(place(2));
        let read = [1, 2, 3].map(|id| (Key::Owed(place(id)), Row::Owed(removal(id, Some("old")))));
        rows.merge(read.to_vec());
        let errors: Vec<String> = rows.owed().into_iter().filter_map(|removal| removal.last_error).collect();
        assert_eq!(errors, ["new", "old"]);
    }
}
