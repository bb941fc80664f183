//! The file: SQLite, and all the SQL there is. Reads everything once, then only writes.
//!
//! WAL with synchronous FULL: what `write` returned for is on the disk. Exclusive: no shared memory file, no lock
//! per transaction, and a second process is told so at once.

use super::rows::{Batch, Created, Key, Record, Removal, Row, Value};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, params};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Each brings the schema one version further; `user_version` counts those that were done. Never changed, only added
/// to.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE created (
        engine TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, server TEXT NOT NULL,
        instance TEXT NOT NULL, session TEXT NOT NULL, life INTEGER NOT NULL,
        created_ms INTEGER NOT NULL, gone_ms INTEGER,
        PRIMARY KEY (engine, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE owed (
        engine TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, server TEXT NOT NULL,
        since_ms INTEGER NOT NULL, tries INTEGER NOT NULL, last_error TEXT, unverified INTEGER NOT NULL,
        PRIMARY KEY (engine, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE kv (
        \"table\" TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL, updated INTEGER NOT NULL,
        PRIMARY KEY (\"table\", key)
    ) STRICT, WITHOUT ROWID;
"];

/// Pages of 4 KiB: in the cache, and in the WAL before it is copied into the file. The rows are in memory anyway, so
/// a commit touches few.
const SETTINGS: &str = "
    PRAGMA cache_size = 16;
    PRAGMA wal_autocheckpoint = 100;
    PRAGMA journal_size_limit = 1048576;
    PRAGMA synchronous = FULL;
";

/// How long another program may hold the file before we go on in memory: whoever looks into it with `sqlite3` is
/// done sooner, and a caller that waits for a commit waits longer.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// Why the database does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// As SQLite or the system says it.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// What is in the file is not ours, not whole, or of a later version: begin anew.
    Broken,
    /// Another process has it.
    Locked,
    DiskFull,
    /// The system refused: permissions, a read-only file system, a descriptor too many.
    Refused,
    /// The disk failed.
    Io,
}

#[derive(Debug)]
pub struct Database(Connection);

impl Database {
    /// Opens or makes the file, brings its schema to this version, and reads all of it.
    pub fn open(path: &Path) -> Result<(Database, Vec<(Key, Row)>), Failure> {
        make_private(path)?;
        // SQLite's own mutexes are not needed: one thread has the connection.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            let text = format!("it cannot be written ahead of (journal mode {mode})");
            return Err(Failure { kind: FailureKind::Refused, text });
        }
        connection.execute_batch(SETTINGS)?;
        migrate(&mut connection)?;
        check(&connection)?;
        let rows = read(&connection)?;
        Ok((Database(connection), rows))
    }

    /// One transaction, on the disk when this returns.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        let transaction = self.0.transaction()?;
        if batch.everything {
            transaction.execute_batch("DELETE FROM created; DELETE FROM owed; DELETE FROM kv;")?;
        }
        for (key, row) in &batch.rows {
            match row {
                Some(row) => put(&transaction, key, row)?,
                None => delete(&transaction, key)?,
            }
        }
        Ok(transaction.commit()?)
    }

    /// For tests: what a strange hand does to it.
    #[cfg(test)]
    pub fn execute(&self, statements: &str) {
        self.0.execute_batch(statements).expect("statements of a test are right");
    }
}

/// Makes the file for its owner only, before SQLite makes it for everybody; the WAL gets the same mode.
fn make_private(path: &Path) -> Result<(), Failure> {
    match OpenOptions::new().append(true).create(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(of_system(&error)),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(version).ok().filter(|done| *done <= known);
    let Some(done) = done else {
        return Err(broken(format!("its schema is version {version}, and this mcpvisor knows {known}")));
    };
    if done == 0 {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(broken("it is the database of another program".to_owned()));
        }
    }
    if done == known {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    MIGRATIONS[done..].iter().try_for_each(|step| transaction.execute_batch(step))?;
    transaction.pragma_update(None, "user_version", known as i64)?;
    Ok(transaction.commit()?)
}

/// Whether every page is what it should be; what a look at the rows alone would not show.
fn check(connection: &Connection) -> Result<(), Failure> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(broken(said)) }
}

fn read(connection: &Connection) -> Result<Vec<(Key, Row)>, Failure> {
    let mut all = Vec::new();
    let mut created = connection.prepare(
        "SELECT engine, id, name, server, instance, session, life, created_ms, gone_ms FROM created",
    )?;
    let rows = created.query_map([], |row| {
        let record = Record {
            engine: row.get(0)?,
            id: row.get(1)?,
            name: row.get(2)?,
            server: row.get(3)?,
            instance: row.get(4)?,
            session: row.get(5)?,
            life: row.get::<_, i64>(6)? as u64,
            created_ms: row.get::<_, i64>(7)? as u64,
        };
        Ok(Created { record, gone_ms: row.get::<_, Option<i64>>(8)?.map(|ms| ms as u64) })
    })?;
    for row in rows {
        let row = row?;
        all.push((Key::Created((row.record.engine.clone(), row.record.id.clone())), Row::Created(row)));
    }
    let mut owed = connection
        .prepare("SELECT engine, id, name, server, since_ms, tries, last_error, unverified FROM owed")?;
    let rows = owed.query_map([], |row| {
        Ok(Removal {
            engine: row.get(0)?,
            id: row.get(1)?,
            name: row.get(2)?,
            server: row.get(3)?,
            since_ms: row.get::<_, i64>(4)? as u64,
            tries: row.get(5)?,
            last_error: row.get(6)?,
            unverified: row.get(7)?,
        })
    })?;
    for row in rows {
        let row = row?;
        all.push((Key::Owed((row.engine.clone(), row.id.clone())), Row::Owed(row)));
    }
    let mut values = connection.prepare("SELECT \"table\", key, json, updated FROM kv")?;
    let rows = values.query_map([], |row| {
        let value = Value { json: row.get(2)?, updated_ms: row.get::<_, i64>(3)? as u64 };
        Ok((Key::Value(row.get(0)?, row.get(1)?), Row::Value(value)))
    })?;
    for row in rows {
        all.push(row?);
    }
    Ok(all)
}

fn put(connection: &Connection, key: &Key, row: &Row) -> rusqlite::Result<()> {
    match (key, row) {
        (_, Row::Created(Created { record, gone_ms })) => connection.execute(
            "INSERT OR REPLACE INTO created VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                record.engine,
                record.id,
                record.name,
                record.server,
                record.instance,
                record.session,
                record.life as i64,
                record.created_ms as i64,
                gone_ms.map(|ms| ms as i64),
            ],
        )?,
        (_, Row::Owed(removal)) => connection.execute(
            "INSERT OR REPLACE INTO owed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                removal.engine,
                removal.id,
                removal.name,
                removal.server,
                removal.since_ms as i64,
                removal.tries,
                removal.last_error,
                removal.unverified,
            ],
        )?,
        (Key::Value(table, key), Row::Value(value)) => connection.execute(
            "INSERT OR REPLACE INTO kv VALUES (?1, ?2, ?3, ?4)",
            params![table, key, value.json, value.updated_ms as i64],
        )?,
        (Key::Created(_) | Key::Owed(_), Row::Value(_)) => 0,
    };
    Ok(())
}

fn delete(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    let (statement, (first, second)) = match key {
        Key::Created(place) => ("DELETE FROM created WHERE engine = ?1 AND id = ?2", (&place.0, &place.1)),
        Key::Owed(place) => ("DELETE FROM owed WHERE engine = ?1 AND id = ?2", (&place.0, &place.1)),
        Key::Value(table, key) => ("DELETE FROM kv WHERE \"table\" = ?1 AND key = ?2", (table, key)),
    };
    connection.execute(statement, params![first, second])?;
    Ok(())
}

fn broken(text: String) -> Failure {
    Failure { kind: FailureKind::Broken, text }
}

fn of_system(error: &io::Error) -> Failure {
    use ErrorKind::{IsADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
    let kind = if is(&[StorageFull, QuotaExceeded]) {
        FailureKind::DiskFull
    } else if is(&[PermissionDenied, ReadOnlyFilesystem, IsADirectory]) {
        FailureKind::Refused
    } else {
        FailureKind::Io
    };
    Failure { kind, text: error.to_string() }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        use FailureKind::{Broken, DiskFull, Io, Locked, Refused};
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Locked,
            Some(ErrorCode::DiskFull) => DiskFull,
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Refused,
            Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted) => Io,
            // No such table, a value of another type, text that is no text: not what we wrote.
            None | Some(_) => Broken,
        };
        Failure { kind, text: error.to_string() }
    }
}
