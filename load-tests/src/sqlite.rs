//! SQLite within this process: what a store costs that nobody has to be asked for over a socket.
//!
//! Owns its file and its statements. Level `buffered`: a write-ahead log that is not synced with each commit.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::payload::Payload;
use crate::peers::{Failure, Stored};

pub(crate) const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL";

pub(crate) struct Sqlite {
    connection: Connection,
    folder: PathBuf,
}

impl Sqlite {
    /// A new file with an empty table.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("messages.db")).context("open SQLite's file")?;
        let table = "CREATE TABLE messages (id INTEGER PRIMARY KEY, body TEXT NOT NULL)";
        connection.execute_batch(&format!("{SETTINGS}; {table}")).context("create SQLite's table")?;
        Ok(Self { connection, folder: folder.to_owned() })
    }

    pub(crate) fn version() -> String {
        format!("SQLite {}", rusqlite::version())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// One transaction for each `rows_a_commit`.
    pub(crate) fn insert(&mut self, ids: Range<i64>, rows_a_commit: i64, payload: &Payload) -> Result<()> {
        let mut first = ids.start;
        while first < ids.end {
            let end = ids.end.min(first + rows_a_commit);
            let transaction = self.connection.transaction().context("begin")?;
            for id in first..end {
                let mut insert = transaction.prepare_cached("INSERT INTO messages (id, body) VALUES (?1, ?2)")?;
                insert.execute(params![id, payload.body(id)]).context("insert into SQLite")?;
            }
            transaction.commit().context("commit")?;
            first = end;
        }
        Ok(())
    }

    /// Brings what is in its log to its place.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).context("checkpoint")
    }

    pub(crate) fn select(&self, id: i64, expected: &str) -> Result<(), Failure> {
        let found = self
            .connection
            .prepare_cached("SELECT id, body FROM messages WHERE id = ?1")
            .and_then(|mut select| select.query_row([id], |row| row.get::<_, String>(1)).optional())
            .map_err(|error| Failure::Broken(error.into()))?;
        match found {
            Some(body) if body == expected => Ok(()),
            other => Err(Failure::Wrong(format!("row {id} was answered {other:?}"))),
        }
    }

    pub(crate) fn stored(&self) -> Result<Stored> {
        let sql = "SELECT count(*), count(DISTINCT id) FROM messages";
        let count = self.connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let (rows, distinct) = count.context("count SQLite's rows")?;
        Ok(Stored { rows: rows.unsigned_abs(), distinct: Some(distinct.unsigned_abs()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let payload = Payload::new();
        let mut sqlite = Sqlite::create(folder.path()).expect("created");
        sqlite.insert(1..251, 100, &payload).expect("inserted");
        let stored = sqlite.stored().expect("counted");
        assert_eq!((stored.rows, stored.distinct), (250, Some(250)));
        sqlite.select(250, payload.body(250)).expect("it is there");
        assert!(matches!(sqlite.select(251, payload.body(251)), Err(Failure::Wrong(_))));
    }
}
